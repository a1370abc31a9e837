"""CIFAR-10S: what each of 248 people saw in test images of CIFAR-10."""

import json
import os

from l2d_jax.data import folder
from l2d_jax.data.answers import Answers, make_answers, read_columns

_PLACE = "cifar10s/raw_human_data.csv"
_SHA256 = "e1dd26bfd75a00cb4e9e875a4ad7a02b3f16a3bd318a165b4693c059c85d0eb0"
_URL = (
    "https://raw.githubusercontent.com/cambridge-mlg/cifar-10s/master/cifar10s_data/"
    "raw_human_data.csv"
)
_REMEDY = "get it from github.com/cambridge-mlg/cifar-10s"
# CIFAR-10's classes in its own order, as the answers spell them.
_CHOICES = [
    f"mostProb{name}"
    for name in (
        "Airplane",
        "Automobile",
        "Bird",
        "Cat",
        "Deer",
        "Dog",
        "Frog",
        "Horse",
        "Ship",
        "Truck",
    )
]


def load_cifar10s(data_dir: str | os.PathLike[str] | None = None) -> Answers:
    """CIFAR-10S: 6,200 answers of 248 people to 1,000 test images of CIFAR-10.

    The images were chosen to be hard. Each was shown to 6 or 7 people, and each person
    saw 25; an answer here is the class that the person held most probable, and 84.35 %
    of them are right. Two images a person were shown again at the end, and one person
    went through the images twice: the first answer stays. Downloaded where the folder
    lacks it; the authors' repository has no licence file.

    Args:
      data_dir: folder that holds ``cifar10s/raw_human_data.csv``; see
        `l2d_jax.data.folder.resolve_data_dir` for the default.

    Returns:
      The answers; ``examples`` index the test part of `load_cifar10`, in [0, 10000),
      and ``labels`` are its classes, in [0, 10).

    Raises:
      DataError: the folder or the file is missing, damaged, or not to be had.

    References:
      Collins, Bhatt and Weller, "Eliciting and Learning with Soft Labels from Every
      Annotator", 2022.
    """
    path = folder.find(data_dir, _PLACE, _SHA256, _URL, _REMEDY)
    with open(path, newline="", encoding="utf-8") as file:
        columns = read_columns(file, ("subject", "img_id", "response"), path)
    # Pages that show no image, such as the instructions, have no `img_id`.
    trials = [
        (row, subject, image, response)
        for row, (subject, image, response) in enumerate(
            zip(*columns, strict=True), start=1
        )
        if image
    ]
    return make_answers(
        ids=[subject for _, subject, _, _ in trials],
        examples=[image for _, _, image, _ in trials],
        labels=[_label(response) for _, _, _, response in trials],
        num_examples=10_000,
        num_classes=10,
        source=path,
        rows=[row for row, _, _, _ in trials],
    )


def _label(response: str) -> int | str:
    choice = json.loads(response)["classSelect"]
    return _CHOICES.index(choice) if choice in _CHOICES else choice
