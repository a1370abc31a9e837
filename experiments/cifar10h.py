"""Photographs and those who named them: the test images of CIFAR-10, and CIFAR-10H.

Some fifty people named each image. The expert is one of them, drawn for each seed and
image: "a person". A network that is trained beforehand, on the training images, gives
features, which nothing here changes. A seed divides the test images at random into
training, validation and test part.

References:
  Peterson, Battleday, Griffiths and Russakovsky, "Human uncertainty makes
  classification more robust", 2019; Mozannar et al., "Who Should Predict? Exact
  Algorithms For Learning to Defer to Humans", 2023, for the setting.
"""

import pathlib
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from experiments import base_network, images, parts
from experiments.imputers import standardize
from experiments.parts import Parts
from experiments.problem import Problem, Traits, one_team
from l2d_jax import data
from l2d_jax.engine import memory
from l2d_jax.types import Dataset, HParams


class Prepared(NamedTuple):
    """What is loaded before anything is trained.

    Attributes:
      splits: images that the network learns from, and N that people named.
      probs: share of the people who gave each class, float32 ``[N, K]``.
      parts: how seeds divide the latter.
    """

    splits: data.Splits
    probs: np.ndarray
    parts: Parts


def load(config: ml_collections.ConfigDict) -> Prepared:
    """The images and what people said they are.

    Raises:
      DataError: a file is missing or damaged.
      ConfigError: the config does not suit the data.
    """
    splits = data.load_cifar10(config.data_dir or None)
    probs = data.load_cifar10h(config.data_dir or None)
    images.check_padding(config, np.shape(splits.train.inputs))
    base_network.check(config, len(splits.train.labels))
    return Prepared(splits, probs, parts.draw(config, len(splits.test.labels)))


def annotate(key: jax.Array, hparams: HParams, dataset: Dataset) -> Dataset:
    """The answer of one of those who named each image."""
    del hparams
    assert dataset.expert_probs is not None
    drawn = jax.random.categorical(key, jnp.log(jnp.asarray(dataset.expert_probs)))
    return dataset._replace(expert_labels=drawn.astype(jnp.int32), expert_probs=None)


def make(
    config: ml_collections.ConfigDict,
    prepared: Prepared,
    workdir: pathlib.Path,
    stop: Callable[[], bool],
) -> list[Problem]:
    """The images by their features, scaled as those that a seed does not test."""
    splits, drawn = prepared.splits, prepared.parts
    base = base_network.train(
        config, splits.train, splits.num_classes, splits.name, workdir, stop
    )
    features, _ = base_network.look(config, base, splits.test.inputs)
    memory.require(features=features.nbytes * config.num_seeds)
    inputs = np.stack(
        [
            standardize(np.concatenate([features[rows], features]), len(rows))
            for rows in drawn.rest
        ],
        axis=1,
    )[drawn.rest.shape[1] :]
    dataset = Dataset(inputs, splits.test.labels, expert_probs=prepared.probs[:, None])
    return [
        Problem(
            name=config.problem,
            traits=Traits(splits.num_classes),
            pool=dataset,
            test=dataset,
            teams=one_team,
            split=drawn.fold,
            annotate=annotate,
            test_rows=lambda seed: drawn.test[seed],
            inputs_by_seed=True,
            sampled="splits",
            test_to_train=drawn.test_to_train,
        )
    ]
