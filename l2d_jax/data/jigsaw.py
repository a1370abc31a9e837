"""Jigsaw's comments as three pools of raters saw them, from the user's own download."""

import csv
import logging
import math
import os
import pathlib
from collections.abc import Iterator, Sequence

import numpy as np

from l2d_jax.data import folder
from l2d_jax.data.annotated import Annotated, make_annotated
from l2d_jax.data.answers import is_blank, whole_number
from l2d_jax.data.folder import DataError

_COMMENTS = "toxicity/jigsaw/train.csv"
_COMMENTS_REMEDY = (
    "get train.csv of kaggle.com/c/jigsaw-unintended-bias-in-toxicity-classification"
)
_POOLS = "toxicity/jigsaw/specialized_rater_pools_data.csv"
_POOLS_REMEDY = (
    "get specialized_rater_pools_data.csv of "
    "kaggle.com/datasets/google/jigsaw-specialized-rater-pools-dataset"
)
_LOGGER = logging.getLogger(__name__)

_NAMES = ("LGBTQ", "AA", "Control")
_GROUPS = {"LGBTQ": 0, "African American": 1, "AA": 1, "Control": 2}
_LGBTQ_COLUMNS = (
    "transgender",
    "other_gender",
    "homosexual_gay_or_lesbian",
    "bisexual",
    "other_sexual_orientation",
)
_FRACTIONS = ("identity_attack", "black", *_LGBTQ_COLUMNS)


def load_jigsaw(
    data_dir: str | os.PathLike[str] | None = None,
    *,
    comments_file: str | os.PathLike[str] | None = None,
    pools_file: str | os.PathLike[str] | None = None,
) -> Annotated:
    """Jigsaw's comments, each judged by five raters of each of three pools.

    Both files are on Kaggle and need an account, so they are not downloaded for you,
    and no checksum is known. An answer is 1 where a rater calls a comment an identity
    attack (-1 in the file), and 0 for "not" (1) and "unsure" (0). Where the rater said
    nothing there is no answer; the authors' code makes it a 0. The outside label is
    whether at least half of Jigsaw's own raters saw an identity attack.

    A comment's category is ``LGBTQ`` where any of Jigsaw's raters saw a transgender,
    homosexual, bisexual or other gender or orientation mentioned; else ``AA`` where any
    saw Black people mentioned; else ``Control``. As in the authors' code, comments
    whose raters were not asked what they mention are left out; so are those that the
    comments file lacks. Both count as skipped. The file of 1.8 million comments is read
    in one pass, and only what the raters saw is kept. The comments hold offensive
    language.

    Args:
      data_dir: folder that holds ``toxicity/jigsaw/train.csv`` and
        ``toxicity/jigsaw/specialized_rater_pools_data.csv``; see
        `l2d_jax.data.folder.resolve_data_dir` for the default.
      comments_file: ``train.csv`` elsewhere. None: that of the data folder.
      pools_file: ``specialized_rater_pools_data.csv`` elsewhere. None: that of the data
        folder.

    Returns:
      The comments, in the order in which the pools' file first names them. Pools have
      the names of the categories, and a pool is similar to its own category alone. An
      annotator is a rater in a pool, such as ``"AA 5202370157"``.

    Raises:
      DataError: the folder, a file or a column is missing, or holds what it may not.

    References:
      Borkan, Dixon, Sorensen, Thain and Vasserman, "Nuanced Metrics for Measuring
      Unintended Bias with Real Data for Text Classification", 2019.
      Goyal, Kivlichan, Rosen and Vasserman, "Is Your Toxicity My Toxicity? Exploring
      the Impact of Rater Identity on Toxicity Annotation", 2022.
      Keswani, Celis, Kenthapadi and Lease, "Designing Closed-Loop Models for Task
      Allocation", 2023.
    """
    comments_path = _path(data_dir, comments_file, _COMMENTS, _COMMENTS_REMEDY)
    pools_path = _path(data_dir, pools_file, _POOLS, _POOLS_REMEDY)
    ratings = _read_ratings(pools_path)
    # A dictionary keeps the order in which things first appear.
    wanted = dict.fromkeys(comment for comment, _, _, _, _ in ratings)
    texts, labels, categories = _read_comments(comments_path, wanted)
    if not texts:
        raise DataError(
            f"{comments_path} holds none of the {len(wanted)} comments of {pools_path}:"
            f" {_COMMENTS_REMEDY}"
        )
    items = [comment for comment in wanted if categories.get(comment) is not None]
    for count, reason in (
        (len(wanted) - len(texts), f"they are not in {comments_path}"),
        (len(texts) - len(items), "nobody was asked which identities they mention"),
    ):
        if count:
            _LOGGER.info("%s: %d comments left out: %s", pools_path, count, reason)
    places = {comment: place for place, comment in enumerate(items)}
    pool_of = {name: pool for _, name, pool, _, _ in ratings}
    given = [
        (places[comment], name, answer, row)
        for comment, name, _, answer, row in ratings
        if answer is not None and comment in places
    ]
    annotated = make_annotated(
        [texts[comment] for comment in items],
        items=[item for item, _, _, _ in given],
        annotators=[name for _, name, _, _ in given],
        answers=[answer for _, _, answer, _ in given],
        categories=[categories[comment] for comment in items],
        category_names=_NAMES,
        annotator_names=tuple(pool_of),
        pools=list(pool_of.values()),
        pool_names=_NAMES,
        similarity=np.eye(len(_NAMES))[list(pool_of.values())],
        source=pools_path,
        labels=[labels[comment] for comment in items],
        rows=[row for _, _, _, row in given],
    )
    left_out = len(wanted) - len(items)
    return annotated._replace(num_skipped=annotated.num_skipped + left_out)


def _path(
    data_dir: str | os.PathLike[str] | None,
    named: str | os.PathLike[str] | None,
    place: str,
    remedy: str,
) -> pathlib.Path:
    if named is None:
        return folder.find(data_dir, place, sha256=None, url=None, remedy=remedy)
    return folder.expand(named)


def _read_ratings(
    path: pathlib.Path,
) -> list[tuple[str, str, int, bool | None, int]]:
    """Comment, annotator, pool, answer and row of each rating."""
    names = ("id", "unique_contributor_id", "identity_attack", "rater_group")
    ratings = []
    for row, (comment, rater, score, group) in _stream(path, names, _POOLS_REMEDY):
        for name, cell in (("id", comment), ("unique_contributor_id", rater)):
            if not cell.strip():
                raise DataError(
                    f"{path}, row {row} (the header not counted): {name} is missing: "
                    f"{_POOLS_REMEDY}"
                )
        if group not in _GROUPS:
            raise DataError(
                f"{path}, row {row} (the header not counted): rater_group {group!r:.50}"
                f" is none of {', '.join(_GROUPS)}: {_POOLS_REMEDY}"
            )
        if score and whole_number(score) not in (-1, 0, 1):
            raise DataError(
                f"{path}, row {row} (the header not counted): identity_attack "
                f"{score!r:.50} is none of -1, 0, 1: {_POOLS_REMEDY}"
            )
        pool = _GROUPS[group]
        answer = float(score) < 0 if score else None
        ratings.append((comment, f"{_NAMES[pool]} {rater}", pool, answer, row))
    return ratings


def _read_comments(
    path: pathlib.Path, wanted: dict[str, None]
) -> tuple[dict[str, str], dict[str, int], dict[str, int | None]]:
    """Text, label and category of the comments wanted, by identifier."""
    texts: dict[str, str] = {}
    labels: dict[str, int] = {}
    categories: dict[str, int | None] = {}
    names = ("id", "comment_text", *_FRACTIONS)
    for row, (comment, text, *cells) in _stream(path, names, _COMMENTS_REMEDY):
        if comment not in wanted:
            continue
        if comment in texts:
            raise DataError(
                f"{path}, row {row} (the header not counted): id {comment!r:.50} "
                f"appears twice: {_COMMENTS_REMEDY}"
            )
        attack, black, *lgbtq = (
            _fraction(cell, name, path, row)
            for name, cell in zip(_FRACTIONS, cells, strict=True)
        )
        texts[comment] = text
        labels[comment] = -1 if math.isnan(attack) else int(attack >= 0.5)
        categories[comment] = _category(black, lgbtq)
    return texts, labels, categories


def _category(black: float, lgbtq: Sequence[float]) -> int | None:
    if math.isnan(black) or all(math.isnan(share) for share in lgbtq):
        return None
    # NaN is not above 0.
    if any(share > 0 for share in lgbtq):
        return _NAMES.index("LGBTQ")
    return _NAMES.index("AA" if black > 0 else "Control")


def _fraction(cell: str, name: str, path: pathlib.Path, row: int) -> float:
    try:
        share = float(cell or "nan")
    except ValueError:
        share = math.inf
    if share < 0 or share > 1:
        raise DataError(
            f"{path}, row {row} (the header not counted): {name} {cell!r:.50} is not a "
            f"number in [0, 1]: {_COMMENTS_REMEDY}"
        )
    return share


def _stream(
    path: pathlib.Path, names: Sequence[str], remedy: str
) -> Iterator[tuple[int, list[str]]]:
    """Number of each row, and its text in the columns wanted, one at a time."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            header = next(reader, [])
            missing = [name for name in names if name not in header]
            if missing:
                raise DataError(
                    f"{path} has no column {', '.join(missing)} (it has "
                    f"{', '.join(header)!r:.200}): {remedy}"
                )
            places = [header.index(name) for name in names]
            for number, row in enumerate(reader, start=1):
                if is_blank(row):
                    continue
                if len(row) != len(header):
                    raise DataError(
                        f"{path}, row {number} (the header not counted) has {len(row)} "
                        f"fields and the header {len(header)}: {remedy}"
                    )
                yield number, [row[place] for place in places]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"{path} cannot be read ({folder.one_line(error)}): {remedy}"
        ) from error
