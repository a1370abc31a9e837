"""Davidson's tweets: how many people called each hate speech, offensive or neither."""

import logging
import os
from typing import NamedTuple

import numpy as np

from l2d_jax.data import folder
from l2d_jax.data.answers import read_columns, whole_number
from l2d_jax.data.folder import DataError

CLASS_NAMES = ("hate", "offensive", "neither")
"""Names of the classes, in order."""

_PLACE = "toxicity/davidson/labeled_data.csv"
_SHA256 = "fcb8bc7c68120ae4af04a5b9acd58585513ede11e1548ebf36a5c2040b6f6281"
_URL = (
    "https://raw.githubusercontent.com/t-davidson/hate-speech-and-offensive-language/"
    "master/data/labeled_data.csv"
)
_REMEDY = "get it from github.com/t-davidson/hate-speech-and-offensive-language"
_COUNTS = ("hate_speech", "offensive_language", "neither")
_LOGGER = logging.getLogger(__name__)


class Davidson(NamedTuple):
    """N tweets, and how often each class was given to them.

    Attributes:
      texts: the tweets, ``[N]``, no two alike.
      labels: the class that most people gave, int32 ``[N]``: 0 hate, 1 offensive, 2
        neither.
      counts: how many people gave each class, int32 ``[N, 3]``, rows sum to 3 or more.
      num_repeats: how many further rows of the same tweet were left out.
    """

    texts: tuple[str, ...]
    labels: np.ndarray
    counts: np.ndarray
    num_repeats: int


def load_davidson(data_dir: str | os.PathLike[str] | None = None) -> Davidson:
    """Davidson's tweets: 24,783 of them, each judged by three people or more.

    Of the tweets 1,430 are hate speech, 19,190 offensive and 4,163 neither. The label
    is the majority of the very answers that are counted, which flatters people: one
    drawn from those who answered is right with a chance of 90.5 %. Nothing is known of
    who they are. A tweet that comes again keeps its first row; some hundreds that are
    alike but for names, marks and links are different tweets.

    Downloaded where the folder lacks it; MIT licence. The tweets hold offensive
    language.

    Args:
      data_dir: folder that holds ``toxicity/davidson/labeled_data.csv``; see
        `l2d_jax.data.folder.resolve_data_dir` for the default.

    Returns:
      The tweets, in the order of the file.

    Raises:
      DataError: the folder or the file is missing, damaged, or not to be had; a count
        is no count, or the label is not what most people gave.

    References:
      Davidson, Warmsley, Macy and Weber, "Automated Hate Speech Detection and the
      Problem of Offensive Language", 2017.
    """
    path = folder.find(data_dir, _PLACE, _SHA256, _URL, _REMEDY)
    with open(path, newline="", encoding="utf-8") as file:
        texts, totals, classes, *columns = read_columns(
            file, ("tweet", "count", "class", *_COUNTS), path
        )
    rows: dict[str, tuple[int, list[int]]] = {}
    for number, (text, total, label, *cells) in enumerate(
        zip(texts, totals, classes, *columns, strict=True), 1
    ):
        counts = [whole_number(cell) for cell in cells]
        known = [count for count in counts if count is not None and count >= 0]
        given = whole_number(label)
        if not text.strip():
            problem = "the tweet is blank"
        elif len(known) < len(counts):
            problem = f"the counts {', '.join(cells)!r:.50} are not whole numbers >= 0"
        elif sum(known) == 0 or sum(known) != whole_number(total):
            problem = f"the counts sum to {sum(known)}, and count is {total!r:.50}"
        elif given is None or not 0 <= given < len(known):
            problem = f"class {label!r:.50} is not a whole number in [0, {len(known)})"
        elif known[given] < max(known):
            problem = f"class {given} is not what most people gave, {known}"
        else:
            rows.setdefault(text, (given, known))
            continue
        raise DataError(
            f"{path}, row {number} (the header not counted): {problem}; correct the row"
            " or leave it out"
        )
    if not rows:
        raise DataError(f"{path} holds no tweet: {_REMEDY}")
    num_repeats = len(texts) - len(rows)
    if num_repeats:
        _LOGGER.info(
            "%s: %d repeated tweets left out; of each the first row stays",
            path,
            num_repeats,
        )
    return Davidson(
        texts=tuple(rows),
        labels=np.array([label for label, _ in rows.values()], np.int32),
        counts=np.array([counts for _, counts in rows.values()], np.int32),
        num_repeats=num_repeats,
    )
