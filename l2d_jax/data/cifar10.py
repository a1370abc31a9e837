"""CIFAR-10 in its canonical order, read without TensorFlow."""

import importlib.util
import logging
import os
import pathlib

import numpy as np

from l2d_jax.data import folder as data_folder
from l2d_jax.data.folder import DataError
from l2d_jax.data.splits import Splits
from l2d_jax.types import Dataset

_VERSION = "3.0.2"
_PLACE = f"tensorflow_datasets/cifar10/{_VERSION}"
_ELSEWHERE = f"name a folder that holds {_PLACE} with L2D_DATA_DIR or --config.data_dir"
_LOGGER = logging.getLogger(__name__)

# `arrays_sha256` of images and labels in canonical order.
_SHA256 = {
    "train": "bb4a81dd9d8cf1fee26efe995a95acb4fc56cc6cd8c500ca8b51729c917bc04c",
    "test": "36c87b34c49597264398142a80c0c7c9518040ee35fb2f950868604e761922a2",
}


def load_cifar10(data_dir: str | os.PathLike[str] | None = None) -> Splits:
    """CIFAR-10: 50,000 training and 10,000 test images of ten kinds of object.

    Examples are in the order of the original release, so that row i of the test part
    is the image that CIFAR-10H and other annotations call i. The first call decodes
    the images, about half a minute; later ones read a cache (see
    `l2d_jax.data.folder.cached_arrays`).

    Args:
      data_dir: folder that holds ``tensorflow_datasets/cifar10/3.0.2``; see
        `l2d_jax.data.folder.resolve_data_dir` for the default. Where it lacks the
        images and TensorFlow is installed, they are downloaded and prepared there.

    Returns:
      Inputs uint8 ``[B, 32, 32, 3]`` in [0, 255], labels int32 ``[B]`` in [0, 10).

    Raises:
      DataError: the folder or the images are missing, damaged, or not to be had.

    References:
      Krizhevsky, "Learning multiple layers of features from tiny images", 2009.
    """
    directory = data_folder.resolve_data_dir(data_dir)
    return Splits(
        train=_load_split(directory, "train"),
        test=_load_split(directory, "test"),
        num_classes=10,
        name="cifar10",
    )


def _load_split(data_dir: pathlib.Path, split: str) -> Dataset:
    arrays = data_folder.cached_arrays(
        data_dir,
        f"cifar10-{_VERSION}-{split}.npz",
        _SHA256[split],
        _records(data_dir, split),
        lambda: _build_split(data_dir, split),
    )
    return Dataset(inputs=arrays["images"], labels=arrays["labels"])


def _records(data_dir: pathlib.Path, split: str) -> pathlib.Path:
    return data_dir / _PLACE / f"cifar10-{split}.array_record-00000-of-00001"


def _build_split(data_dir: pathlib.Path, split: str) -> dict[str, np.ndarray]:
    """Decodes and checks one split, prepared first if need be and if possible."""
    folder = data_dir / _PLACE
    if not os.path.isfile(folder / "dataset_info.json"):
        _prepare(data_dir)
    path = _records(data_dir, split)
    _LOGGER.info("decoding %s, once: later runs read the cache", path)
    cause = None
    try:
        arrays = _decode(folder, split)
        found = data_folder.arrays_sha256(arrays)
    except ImportError as error:
        raise DataError(
            "reading CIFAR-10 needs tensorflow-datasets and Pillow "
            f"({data_folder.one_line(error)}): pip install 'l2d-jax[experiments]'"
        ) from error
    # Damage surfaces as many types, from protobuf, Riegeli and PIL alike.
    except Exception as error:
        cause, found = error, f"none, {data_folder.one_line(error)}"
    if found != _SHA256[split]:
        raise DataError(
            f"{path} is missing or damaged (sha256 of its images and labels expected "
            f"{_SHA256[split]}, found {found}): delete its folder and prepare CIFAR-10 "
            f"again, or {_ELSEWHERE}"
        ) from cause
    return arrays


def _decode(folder: pathlib.Path, split: str) -> dict[str, np.ndarray]:
    import tensorflow_datasets as tfds

    source = tfds.builder_from_directory(folder).as_data_source(split)
    absl_logger = logging.getLogger("absl")
    absl_logger.addFilter(_is_not_about_opencv)
    try:
        examples = list(source)
    finally:
        absl_logger.removeFilter(_is_not_about_opencv)
    # The files are shuffled; an id such as b"test_09933" ends in the canonical index.
    order = np.argsort([int(example["id"].split(b"_")[-1]) for example in examples])
    return {
        "images": np.stack([examples[i]["image"] for i in order]),
        "labels": np.array([examples[i]["label"] for i in order], np.int32),
    }


def _is_not_about_opencv(record: logging.LogRecord) -> bool:
    # The advice to install OpenCV would save seconds, once.
    return "OpenCV" not in record.getMessage()


def _prepare(data_dir: pathlib.Path) -> None:
    folder = data_dir / _PLACE
    if importlib.util.find_spec("tensorflow") is None:
        raise DataError(
            f"CIFAR-10 is not prepared in {folder}: to download and prepare it, "
            f"pip install 'l2d-jax[prepare]', or {_ELSEWHERE}"
        )
    _LOGGER.info("downloading and preparing CIFAR-10 in %s", folder)
    try:
        _download(data_dir)
    # Network, disk, checksum and TensorFlow itself fail in many types.
    except Exception as error:
        raise DataError(
            f"CIFAR-10 could not be downloaded and prepared in {folder} "
            f"({data_folder.one_line(error)}): check the network and try again, or "
            f"{_ELSEWHERE}"
        ) from error


def _download(data_dir: pathlib.Path) -> None:
    import tensorflow as tf
    import tensorflow_datasets as tfds

    # Otherwise TensorFlow takes the memory of the GPU that JAX is to use.
    tf.config.set_visible_devices([], "GPU")
    tfds.builder(
        f"cifar10:{_VERSION}",
        data_dir=data_dir / "tensorflow_datasets",
        file_format="array_record",
    ).download_and_prepare()
