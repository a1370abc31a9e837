"""CIFAR-10H: how people label the test images of CIFAR-10, together and one by one."""

import io
import os
import pathlib
import zipfile

import numpy as np

from l2d_jax.data import folder
from l2d_jax.data.answers import Answers, make_answers, read_columns, whole_number
from l2d_jax.data.folder import DataError

_PLACE = "cifar10h/cifar10h-probs.npy"
_SHA256 = "436ae98620e00073f9d08585ac870573b588853e7af9f54eb1647408114af77d"
_URL = (
    "https://raw.githubusercontent.com/jcpeterson/cifar-10h/master/data/"
    "cifar10h-probs.npy"
)
_REMEDY = "get it from github.com/jcpeterson/cifar-10h"
_RAW_REMEDY = (
    "name the cifar10h-raw.zip of github.com/jcpeterson/cifar-10h, folder data, or the "
    "csv inside it"
)
# About 570,000 rows of less than 100 bytes.
_MOST_BYTES = 2**27
_ATTENTION_CHECK = -99_999


def load_cifar10h(data_dir: str | os.PathLike[str] | None = None) -> np.ndarray:
    """CIFAR-10H: how often people gave each class to each test image of CIFAR-10.

    The shares of about 50 answers an image. The most frequent class is the label of
    99.21 % of the images. Downloaded where the folder lacks it; licence CC BY-NC-SA
    4.0.

    Args:
      data_dir: folder that holds ``cifar10h/cifar10h-probs.npy``; see
        `l2d_jax.data.folder.resolve_data_dir` for the default.

    Returns:
      Probability of each class, float32 ``[10000, 10]``, rows sum to 1; row i is of
      image i of the test part of `load_cifar10`.

    Raises:
      DataError: the folder or the file is missing, damaged, or not to be had.

    References:
      Peterson, Battleday, Griffiths and Russakovsky, "Human uncertainty makes
      classification more robust", 2019.
    """
    path = folder.find(data_dir, _PLACE, _SHA256, _URL, _REMEDY)
    return np.load(path, allow_pickle=False).astype(np.float32)


def load_cifar10h_raw(path: str | os.PathLike[str]) -> Answers:
    """The answers of each person behind CIFAR-10H, from the user's own download.

    Each person labelled 200 test images of CIFAR-10. The attention checks in between
    are left out. Licence CC BY-NC-SA 4.0.

    Args:
      path: ``cifar10h-raw.zip`` as its authors publish it, or the csv inside it. Its
        columns ``annotator_id``, ``chosen_label`` and ``cifar10_test_test_idx`` are
        read; -99999 in the last marks an attention check.

    Returns:
      The answers; ``examples`` index the test part of `load_cifar10`, in [0, 10000),
      and ``labels`` are its classes, in [0, 10).

    Raises:
      DataError: the file or a column is missing, damaged, or holds what it may not.

    References:
      Peterson, Battleday, Griffiths and Russakovsky, "Human uncertainty makes
      classification more robust", 2019.
    """
    path = folder.expand(path)
    names = ("annotator_id", "cifar10_test_test_idx", "chosen_label")
    ids, images, labels = read_columns(io.StringIO(_read_text(path)), names, path)
    kept = [
        i for i, image in enumerate(images) if whole_number(image) != _ATTENTION_CHECK
    ]
    return make_answers(
        ids=[ids[i] for i in kept],
        examples=[images[i] for i in kept],
        labels=[labels[i] for i in kept],
        num_examples=10_000,
        num_classes=10,
        source=path,
        rows=[i + 1 for i in kept],
    )


def _read_text(path: pathlib.Path) -> str:
    try:
        if path.suffix != ".zip" and not zipfile.is_zipfile(path):
            return path.read_text("utf-8-sig")
        folder.require_unpacked(path, _MOST_BYTES)
        with zipfile.ZipFile(path) as archive:
            # A Mac adds a hidden companion, "._NAME", to each file it packs.
            members = [
                name
                for name in archive.namelist()
                if name.endswith(".csv") and not name.split("/")[-1].startswith("._")
            ]
            if len(members) == 1:
                return archive.read(members[0]).decode("utf-8-sig")
    # Damage surfaces as many types, from zipfile, zlib and the text's decoder alike.
    except Exception as error:
        raise DataError(
            f"{path} cannot be read ({folder.one_line(error)}): {_RAW_REMEDY}"
        ) from error
    raise DataError(
        f"{path} holds {len(members)} csv files, and should hold one: {_RAW_REMEDY}"
    )
