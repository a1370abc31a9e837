"""Images as problems: synthetic experts who answer by the class alone."""

import functools
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from experiments.problem import (
    Problem,
    Traits,
    every_value,
    one_team,
    split_at_random,
)
from experiments.runtime.errors import ConfigError
from l2d_jax import augmentation, data
from l2d_jax.simulate import experts
from l2d_jax.types import Dataset, HParams

LOADERS: dict[str, Callable[[str], data.Splits]] = {
    "digits": lambda data_dir: data.load_digits(),
    "cifar10": lambda data_dir: data.load_cifar10(data_dir or None),
}
"""Data sets by name, of the data folder."""


def load(config: ml_collections.ConfigDict) -> data.Splits:
    """The data set that ``config.images`` names.

    Raises:
      ConfigError: a part would be empty, a batch is larger than the training part, or
        ``panel`` has a class that there is not, or ``crop_padding`` is wider than the
        images.
    """
    splits = LOADERS[config.images](config.data_dir)
    check_sizes(config, len(splits.train.labels))
    check_padding(config, np.shape(splits.train.inputs))
    for classes in config.get("panel", ()):
        if not all(0 <= label < splits.num_classes for label in classes):
            raise ConfigError(
                f"panel must hold classes in 0..{splits.num_classes - 1}, got {classes}"
            )
    return splits


def check_sizes(config: ml_collections.ConfigDict, size: int) -> None:
    """See that a pool of so many examples can be trained and validated on.

    Raises:
      ConfigError: a part is empty or a batch is larger than the training part.
    """
    check_split(config, size)
    num_train = size - round(config.valid_fraction * size)
    if config.batch_size > num_train:
        raise ConfigError(
            f"batch_size {config.batch_size} is larger than the {num_train} training"
            f" examples; choose one of at most {num_train}"
        )


def check_padding(config: ml_collections.ConfigDict, shape: tuple[int, ...]) -> None:
    """See that inputs ``[N, ...]`` are images that can be shifted so far.

    Raises:
      ConfigError: they are not.
    """
    largest = min(shape[1:3]) - 1 if len(shape) == 4 else 0
    if config.crop_padding > largest:
        raise ConfigError(
            f"crop_padding {config.crop_padding} is more than the inputs can be"
            f" shifted, {largest} pixels; choose one of at most {largest}"
        )


def check_split(config: ml_collections.ConfigDict, size: int) -> None:
    """See that training and validation parts have examples.

    Raises:
      ConfigError: one has none.
    """
    num_valid = round(config.valid_fraction * size)
    if not 0 < num_valid < size:
        raise ConfigError(
            f"valid_fraction {config.valid_fraction} leaves {size - num_valid} examples"
            f" to train on and {num_valid} to validate on; both must be positive"
        )


def options(config: ml_collections.ConfigDict, name: str) -> dict[str, Any]:
    """How images are augmented and standardized, as fields of a problem."""
    found: dict[str, Any] = {}
    if config.crop_padding:
        found["augment"] = functools.partial(
            augmentation.random_crop_and_flip, padding=config.crop_padding
        )
    if name in _STANDARDIZED:
        mean, std = _STANDARDIZED[name]
        found["preprocess"] = functools.partial(
            augmentation.standardize, mean=mean, std=std
        )
    return found


_STANDARDIZED = {"cifar10": (augmentation.CIFAR10_MEAN, augmentation.CIFAR10_STD)}


def specialist(
    config: ml_collections.ConfigDict,
    splits: data.Splits,
    workdir: pathlib.Path,
    stop: Callable[[], bool],
) -> list[Problem]:
    """One expert who is perfect on the first k classes and guesses on the others.

    The answer to an image is drawn once for each seed, not anew at every epoch.
    """
    del workdir, stop
    num_classes = splits.num_classes

    def annotate(key: jax.Array, hparams: HParams, dataset: Dataset) -> Dataset:
        person = experts.specialist(hparams["num_perfect"], num_classes)
        labels = experts.sample_expert_labels(key, person, dataset.labels)
        return dataset._replace(expert_labels=labels[:, None])

    return [
        Problem(
            name=splits.name,
            traits=Traits(num_classes),
            pool=splits.train,
            test=splits.test,
            teams=every_value("num_perfect", tuple(config.num_perfect)),
            split=split_at_random(len(splits.train.labels), config.valid_fraction),
            annotate=annotate,
            **options(config, splits.name),
        )
    ]


def panel(
    config: ml_collections.ConfigDict,
    splits: data.Splits,
    workdir: pathlib.Path,
    stop: Callable[[], bool],
) -> list[Problem]:
    """Several experts, each right on some classes and a guess on the others."""
    del workdir, stop
    num_classes = splits.num_classes
    known = np.zeros((len(config.panel), num_classes, 1), bool)
    for number, classes in enumerate(config.panel):
        known[number, list(classes)] = True
    confusion = np.where(known, np.eye(num_classes), 1.0 / num_classes)

    def annotate(key: jax.Array, hparams: HParams, dataset: Dataset) -> Dataset:
        del hparams
        keys = jax.random.split(key, len(confusion))
        answers = [
            experts.sample_expert_labels(own, experts.Expert(rows), dataset.labels)
            for own, rows in zip(keys, confusion.astype(np.float32), strict=True)
        ]
        return dataset._replace(expert_labels=jnp.stack(answers, axis=1))

    return [
        Problem(
            name=f"{splits.name}_panel",
            traits=Traits(num_classes, num_experts=len(config.panel)),
            pool=splits.train,
            test=splits.test,
            teams=one_team,
            split=split_at_random(len(splits.train.labels), config.valid_fraction),
            annotate=annotate,
            **options(config, splits.name),
        )
    ]
