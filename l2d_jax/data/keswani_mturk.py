"""Abusive tweets: what a crowd of 170 workers made of 1,471 tweets."""

import os

import numpy as np

from l2d_jax.data import folder
from l2d_jax.data.annotated import Annotated, make_annotated
from l2d_jax.data.answers import read_columns

_PLACE = "toxicity/keswani_mturk/all_results.csv"
_SHA256 = "0ec0bae27fcc5a0245b7d7ac4a52dd5374eed2ce65bdf959a5d3f906517decae"
_URL = (
    "https://raw.githubusercontent.com/vijaykeswani/Deferral-To-Multiple-Experts/"
    "3aa1f621991cb9d7823757d68c178870b686da62/all_results.csv"
)
_REMEDY = "get it from github.com/vijaykeswani/Deferral-To-Multiple-Experts"
_WORKERS = tuple(f"Expert {i}" for i in range(1, 177))
_NOT_ASKED = "-"


def load_keswani_mturk(data_dir: str | os.PathLike[str] | None = None) -> Annotated:
    """Abusive tweets: 12,408 answers of 170 crowd workers about 1,471 tweets.

    A worker says whether a tweet is abusive; the outside label is of the data set that
    the tweets are from. Of the answers 77.3 % agree with it. Each tweet has 4 to 24
    answers. Six of the 176 columns of workers hold no answer and are left out. Nothing
    is known of the workers: they are one pool, similar to both categories.

    Downloaded where the folder lacks it; the authors' repository has no licence file.
    The tweets hold offensive language.

    Args:
      data_dir: folder that holds ``toxicity/keswani_mturk/all_results.csv``; see
        `l2d_jax.data.folder.resolve_data_dir` for the default.

    Returns:
      The tweets, N = 1,471 and M = 170. Categories are the dialect that a model takes a
      tweet to be in: ``aae`` (African-American English) or ``other``.

    Raises:
      DataError: the folder or the file is missing, damaged, or not to be had.

    References:
      Keswani, Lease and Kenthapadi, "Towards Unbiased and Accurate Deferral to Multiple
      Experts", 2021.
      Davidson, Warmsley, Macy and Weber, "Automated Hate Speech Detection and the
      Problem of Offensive Language", 2017.
    """
    path = folder.find(data_dir, _PLACE, _SHA256, _URL, _REMEDY)
    names = ("Tweet", "True Label", "Dialect", *_WORKERS)
    with open(path, newline="", encoding="utf-8") as file:
        texts, labels, dialects, *cells = read_columns(file, names, path)
    asked = [
        (row, worker, cells[worker][row])
        for row in range(len(texts))
        for worker in range(len(_WORKERS))
        if cells[worker][row] != _NOT_ASKED
    ]
    return make_annotated(
        texts,
        items=[row for row, _, _ in asked],
        annotators=[_WORKERS[worker] for _, worker, _ in asked],
        answers=[answer for _, _, answer in asked],
        categories=dialects,
        category_names=("other", "aae"),
        annotator_names=_WORKERS,
        pools=[0] * len(_WORKERS),
        pool_names=("crowd",),
        similarity=np.ones((len(_WORKERS), 2)),
        source=path,
        labels=labels,
        rows=[row + 1 for row, _, _ in asked],
    )
