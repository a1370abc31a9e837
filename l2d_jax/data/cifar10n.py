"""CIFAR-10N: three people's labels of each training image of CIFAR-10."""

import os

import numpy as np

from l2d_jax.data import folder
from l2d_jax.data.folder import DataError

_PLACE = "cifar10n/cifar10n_labels.npz"
# `arrays_sha256` of `clean` and `random` as uint8: the bytes of an archive depend on
# who packed it.
_SHA256 = "280f9b39a9e747601082f43842cc92f1bcda871023eb35105bb8aec15e5157b4"
# Seven labels of each of 50,000 images, of eight bytes each, take 2.8 MB.
_MOST_BYTES = 2**24
_REMEDY = (
    "get CIFAR-10_human.pt from github.com/UCSC-REAL/cifar-10-100n, convert it as the "
    "docstring of load_cifar10n shows"
)


def load_cifar10n(data_dir: str | os.PathLike[str] | None = None) -> np.ndarray:
    """CIFAR-10N: three human labels of each training image of CIFAR-10.

    Each image was labelled by three people, who are wrong about 17.2, 18.1 and 17.6 %
    of the images. Who they were is not usable: a column is NOT one person, it mixes
    the answers of many. Licence CC BY-NC 4.0.

    The labels are published as a pickle, which this function does not load. Where you
    trust it, convert ``CIFAR-10_human.pt`` once::

        file = torch.load("CIFAR-10_human.pt", weights_only=False)
        random = [file[f"random_label{i}"] for i in (1, 2, 3)]
        numpy.savez(
            "cifar10n_labels.npz",
            clean=file["clean_label"],
            random=numpy.stack(random, axis=1),
        )

    Args:
      data_dir: folder that holds ``cifar10n/cifar10n_labels.npz``; see
        `l2d_jax.data.folder.resolve_data_dir` for the default.

    Returns:
      The labels, int32 ``[50000, 3]``, in [0, 10); row i is of image i of the training
      part of `load_cifar10`.

    Raises:
      DataError: the folder or the file is missing or damaged.

    References:
      Wei, Zhu, Cheng, Liu, Niu and Liu, "Learning with Noisy Labels Revisited: A Study
      Using Real-World Human Annotations", 2022.
    """
    path = folder.find(data_dir, _PLACE, sha256=None, url=None, remedy=_REMEDY)
    arrays, cause = {}, None
    try:
        folder.require_unpacked(path, _MOST_BYTES)
        with np.load(path, allow_pickle=False) as file:
            # `clean` tells whether the rows are in CIFAR-10's own order.
            arrays = {name: file[name].astype(np.uint8) for name in ("clean", "random")}
        found = folder.arrays_sha256(arrays)
    # Damage can surface anywhere in zipfile or NumPy, a missing array as a KeyError.
    except Exception as error:
        cause, found = error, f"none, {folder.one_line(error)}"
    if found != _SHA256:
        raise DataError(
            f"{path} is damaged (sha256 of its arrays clean and random expected "
            f"{_SHA256}, found {found}): {_REMEDY} and place it there, or name another "
            "folder with L2D_DATA_DIR or --config.data_dir"
        ) from cause
    return arrays["random"].astype(np.int32)
