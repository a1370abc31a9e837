"""Texts that people of several pools answered about, yes or no."""

import logging
import os
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np

from l2d_jax.data.answers import as_column, as_identifier, whole_number
from l2d_jax.data.folder import DataError

_LOGGER = logging.getLogger(__name__)

Column: TypeAlias = Sequence[object] | np.ndarray
"""One value a row, as text or numbers."""


class Annotated(NamedTuple):
    """N texts with a category each, and what M people of G pools answered about them.

    An answer is 1 for yes (the text is an attack, offensive, hateful) and 0 for no.
    Every text has an answer, and every annotator gave one.

    Attributes:
      texts: the items, ``[N]``.
      labels: truth from outside, int32 ``[N]``, 0 or 1; -1 where none is known.
      answers: what each annotator said, int32 ``[N, M]``, 0 or 1; -1 where the
        annotator was not asked or gave no answer.
      categories: category of each item, int32 ``[N]``, in [0, Z).
      similarity: prior similarity of each annotator to each category, float32
        ``[M, Z]``, in [0, 1]. A category may be similar to nobody.
      pools: pool of each annotator, int32 ``[M]``, in [0, G).
      category_names: ``[Z]``.
      pool_names: ``[G]``.
      annotator_names: ``[M]``.
      num_skipped: how many items were left out, because nobody answered about them or
        what their loader needs is not known.
      num_silent: how many annotators were left out, because they answered nothing.
      num_repeats: how many further answers of an annotator to the same item were left
        out.
    """

    texts: tuple[str, ...]
    labels: np.ndarray
    answers: np.ndarray
    categories: np.ndarray
    similarity: np.ndarray
    pools: np.ndarray
    category_names: tuple[str, ...]
    pool_names: tuple[str, ...]
    annotator_names: tuple[str, ...]
    num_skipped: int
    num_silent: int
    num_repeats: int


def make_annotated(
    texts: Sequence[str],
    items: Column,
    annotators: Column,
    answers: Column,
    *,
    categories: Column,
    category_names: Sequence[str],
    annotator_names: Column,
    pools: Column,
    pool_names: Sequence[str],
    similarity: np.ndarray | Sequence[Sequence[float]],
    source: str | os.PathLike[str],
    labels: Column | None = None,
    rows: Sequence[int] | None = None,
) -> Annotated:
    """Annotated texts from A answers, each a row of three columns, checked.

    For data of one's own: one row an answer, and no row where somebody was not asked.
    From a matrix ``[N, P]`` with -1 for "not asked", ``(matrix >= 0).nonzero()`` is
    ``items, annotators``, where ``annotator_names`` is ``range(P)``. Of an annotator's
    answers to the same item the first stays. Items without an answer and annotators
    without one are left out; categories and pools stay even where nothing is left of
    them. What is left out is counted, and said in the log.

    Args:
      texts: the items, ``[N]``.
      items: item that each answer is about, ``[A]``, whole numbers or their text, in
        [0, N).
      annotators: who answered, ``[A]``, each one of ``annotator_names``.
      answers: what they answered, ``[A]``, 0 or 1, or their text.
      categories: category of each item, ``[N]``, whole numbers in [0, Z).
      category_names: names of the categories, ``[Z]``, no two alike.
      annotator_names: the annotators, ``[P]``, as text or numbers, no two alike.
      pools: pool of each annotator, ``[P]``, whole numbers in [0, G).
      pool_names: names of the pools, ``[G]``, no two alike.
      similarity: prior similarity of each annotator to each category, real ``[P, Z]``,
        in [0, 1]: 1 for an annotator who knows what such texts do to people.
      source: the file or study that the columns are from, for messages.
      labels: truth from outside, ``[N]``, 0, 1, or -1 where none is known. None: none
        is known.
      rows: number of each answer's row in the source, ``[A]``, for messages. None: 1,
        2, ..., A.

    Returns:
      The items and annotators that are left, in the order given.

    Raises:
      DataError: a value is missing or out of range, two names are alike, an answer is
        of somebody unknown, or there is no answer at all.
      ValueError: a column is none, or columns that belong together differ in length.
    """
    texts = as_column("texts", texts)
    items, annotators, answers, categories, pools = (
        as_column(field, column)
        for field, column in (
            ("items", items),
            ("annotators", annotators),
            ("answers", answers),
            ("categories", categories),
            ("pools", pools),
        )
    )
    labels = [-1] * len(texts) if labels is None else as_column("labels", labels)
    rows = range(1, len(items) + 1) if rows is None else as_column("rows", rows)
    category_names, pool_names, names = (
        [as_identifier(name) for name in as_column(field, column)]
        for field, column in (
            ("category_names", category_names),
            ("pool_names", pool_names),
            ("annotator_names", annotator_names),
        )
    )
    prior = np.asarray(similarity, np.float64)
    _check_lengths(
        "items, annotators, answers and rows", items, annotators, answers, rows
    )
    _check_lengths("texts, categories and labels", texts, categories, labels)
    _check_lengths("annotator_names and pools", names, pools)
    if prior.shape != (len(names), len(category_names)):
        raise ValueError(
            f"similarity must be [P, Z] = [{len(names)}, {len(category_names)}], not "
            f"{list(prior.shape)}"
        )
    for field, values in (
        ("category_names", category_names),
        ("pool_names", pool_names),
        ("annotator_names", names),
    ):
        _check_names(field, values, source)
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            raise DataError(
                f"{source}: texts[{i}] is {text!r:.50}, which is no text: leave the "
                "item out, or give its text"
            )
    category_of = _indices("categories", categories, len(category_names), source)
    pool_of = _indices("pools", pools, len(pool_names), source)
    truth = _indices("labels", labels, 2, source, lowest=-1)
    # Written so that NaN is caught too.
    wrong = np.argwhere(~((prior >= 0.0) & (prior <= 1.0)))
    if len(wrong):
        i, j = wrong[0]
        raise DataError(
            f"{source}: similarity of annotator {names[i]!r} to category "
            f"{category_names[j]!r} is {prior[i, j]}: scale it to [0, 1]"
        )

    places = {name: place for place, name in enumerate(names)}
    matrix = np.full((len(texts), len(names)), -1, np.int32)
    num_repeats = 0
    for item, annotator, answer, row in zip(
        items, annotators, answers, rows, strict=True
    ):
        index, given = whole_number(item), whole_number(answer)
        # Missing is nobody: no name is empty.
        place = places.get(as_identifier(annotator))
        if index is None or not 0 <= index < len(texts):
            problem = (
                f"item {str(item)!r:.50} is not a whole number in [0, {len(texts)})"
            )
        elif place is None:
            problem = f"annotator {str(annotator)!r:.50} is not among annotator_names"
        elif given not in (0, 1):
            problem = f"answer {str(answer)!r:.50} is neither 0 nor 1"
        else:
            if matrix[index, place] < 0:
                matrix[index, place] = given
            else:
                num_repeats += 1
            continue
        raise DataError(
            f"{source}, row {row} (the header not counted): {problem}; correct the row "
            "or leave it out"
        )
    answered = matrix >= 0
    kept = np.any(answered, axis=1)
    active = np.any(answered, axis=0)
    if not kept.any():
        raise DataError(f"{source} holds no answer: get the whole file")
    num_skipped, num_silent = int(np.sum(~kept)), int(np.sum(~active))
    for count, what in (
        (num_skipped, "items left out about which nobody answered"),
        (num_silent, "annotators left out who answered nothing"),
        (
            num_repeats,
            "repeated answers left out; of each annotator's answers to the same item "
            "the first stays",
        ),
    ):
        if count:
            _LOGGER.info("%s: %d %s", source, count, what)
    return Annotated(
        texts=tuple(texts[i] for i in np.flatnonzero(kept).tolist()),
        labels=truth[kept],
        answers=matrix[np.ix_(kept, active)],
        categories=category_of[kept],
        similarity=prior[active].astype(np.float32),
        pools=pool_of[active],
        category_names=tuple(category_names),
        pool_names=tuple(pool_names),
        annotator_names=tuple(names[i] for i in np.flatnonzero(active).tolist()),
        num_skipped=num_skipped,
        num_silent=num_silent,
        num_repeats=num_repeats,
    )


def subjective_labels(annotated: Annotated) -> np.ndarray:
    """The truth according to those whom a text's category concerns.

    It is what the majority answered of the annotators whose similarity to the item's
    category is above 0. The authors' code makes a tie 0, and counts who gave no answer
    as a 0; here a tie is no truth, and who gave no answer has no vote.

    Args:
      annotated: the items and their answers, N items.

    Returns:
      The labels, int32 ``[N]``, 0 or 1; -1 for a tie, and where no such annotator
      answered.

    References:
      Keswani, Celis, Kenthapadi and Lease, "Designing Closed-Loop Models for Task
      Allocation", 2023, the code of its toxicity study.
    """
    votes = annotated.similarity[:, annotated.categories].T > 0
    ones = np.sum(votes & (annotated.answers == 1), axis=1)
    zeros = np.sum(votes & (annotated.answers == 0), axis=1)
    return np.where(ones == zeros, -1, ones > zeros).astype(np.int32)


def _check_lengths(what: str, *columns: Column) -> None:
    sizes = [len(column) for column in columns]
    if len(set(sizes)) > 1:
        raise ValueError(f"{what} must be of one length, not {sizes}")


def _check_names(
    field: str, names: Sequence[str], source: str | os.PathLike[str]
) -> None:
    for i, name in enumerate(names):
        if not name:
            raise DataError(
                f"{source}: a name in {field}, '', is empty or missing in row {i}: "
                "give each its own, and leave out what has none"
            )
    for name, count in Counter(names).items():
        if count > 1:
            raise DataError(
                f"{source}: a name in {field}, {name!r:.50}, appears {count} times: "
                "give each its own"
            )


def _indices(
    field: str,
    values: Column,
    size: int,
    source: str | os.PathLike[str],
    lowest: int = 0,
) -> np.ndarray:
    numbers = np.zeros(len(values), np.int32)
    for i, value in enumerate(values):
        number = whole_number(value)
        if number is None or not lowest <= number < size:
            raise DataError(
                f"{source}: {field}[{i}] is {str(value)!r:.50}, not a whole number in "
                f"[{lowest}, {size}): correct it or leave it out"
            )
        numbers[i] = number
    return numbers
