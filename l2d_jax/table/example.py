"""A small real table with simulated readers, to try everything on."""

import pathlib

import numpy as np
import pandas as pd
from sklearn.datasets import load_breast_cancer

_READERS = {
    # Chance of being right on a small tumour, and on a large one.
    "reader_1": (0.98, 0.84),
    "reader_2": (0.82, 0.98),
    "reader_3": (0.88, 0.88),
    "trainee": (0.72, 0.72),
}
_ASKED = 0.8
_NUM_NEW = 69

README = """\
cases.csv and new_cases.csv hold the 569 tumours of the Wisconsin Diagnostic Breast
Cancer data (Wolberg, Street and Mangasarian, 1995), as scikit-learn packages them: ten
measurements of cell nuclei and the diagnosis. The READERS ARE SIMULATED: each answers
eight of ten cases drawn at random, and is right with a chance that depends on the size
of the tumour. `site` is drawn at random, too. They show how a table looks and what is
made of it, and nothing about readers.
"""


def write(folder: pathlib.Path) -> None:
    """Write ``cases.csv``, ``new_cases.csv`` and ``README.txt`` into a new folder.

    Raises:
      FileExistsError: the folder exists.
    """
    folder.mkdir(parents=True)
    known, new = make()
    known.to_csv(folder / "cases.csv", index=False)
    new.to_csv(folder / "new_cases.csv", index=False)
    (folder / "README.txt").write_text(README, "utf-8")


def make() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Cases with labels and answers, and new ones without; the same at every call."""
    data = load_breast_cancer(as_frame=True)
    rng = np.random.default_rng(1995)
    # The ten means; the other columns are spreads and extremes of the same.
    frame = data.data.iloc[:, :10].copy()
    frame.columns = [name.replace(" ", "_") for name in frame.columns]
    frame.insert(0, "case", [f"T{number:04d}" for number in range(1, len(frame) + 1)])
    frame["site"] = rng.choice(
        ["north", "south", "west"], len(frame), p=[0.5, 0.3, 0.2]
    )
    names = np.array(["malignant", "benign"])
    labels = data.target.to_numpy()
    large = (frame.mean_area > frame.mean_area.median()).to_numpy().astype(int)
    for reader, chances in _READERS.items():
        right = rng.random(len(frame)) < np.array(chances)[large]
        answer = names[np.where(right, labels, 1 - labels)]
        frame[reader] = np.where(rng.random(len(frame)) < _ASKED, answer, "")
    frame["diagnosis"] = names[labels]
    frame = frame.iloc[rng.permutation(len(frame))]
    new = frame.iloc[:_NUM_NEW].drop(columns=["diagnosis", *_READERS])
    return frame.iloc[_NUM_NEW:], new
