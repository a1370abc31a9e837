"""A network of images that is trained beforehand, for the features below its outputs.

It learns the classes of images on which nobody is asked; what is learned on others
reads its features and leaves it as it is.
"""

import pathlib
from collections.abc import Callable
from typing import NamedTuple

import jax
import ml_collections
import numpy as np

from experiments import images, networks
from experiments.problem import annotate_with_nobody, split_at_random
from experiments.runtime import progress
from experiments.runtime.errors import ConfigError
from experiments.runtime.workdir import read_origin
from experiments.trainings import classifier_score
from l2d_jax.engine import sweeps, training
from l2d_jax.learners import classifier
from l2d_jax.types import Array, Dataset, Variables


class Base(NamedTuple):
    """A trained network.

    Attributes:
      program: its training.
      variables: what was trained.
      name: of the data set, by which images are standardized.
    """

    program: training.Program
    variables: Variables
    name: str


def check(config: ml_collections.ConfigDict, size: int) -> None:
    """See that so many images make a minibatch.

    Raises:
      ConfigError: they do not, or a part of them is empty.
    """
    images.check_split(config, size)
    num_train = size - round(config.valid_fraction * size)
    if config.base.batch_size > num_train:
        raise ConfigError(
            f"base.batch_size {config.base.batch_size} is larger than the {num_train}"
            f" training examples; choose one of at most {num_train}"
        )


def train(
    config: ml_collections.ConfigDict,
    dataset: Dataset,
    num_classes: int,
    name: str,
    workdir: pathlib.Path,
    stop: Callable[[], bool],
) -> Base:
    """Train it, one run, or take it from the checkpoints that it has left.

    Args:
      config: has ``base``, the fields of the optimizer and how images are augmented.
      dataset: images and their classes.
      num_classes: K.
      name: of the data set.
      workdir: folder of the experiment.
      stop: asked after every dispatch.

    Raises:
      ConfigError: it diverged.
      Interrupted: ``stop`` said so.
    """
    base, size = config.base, len(dataset.labels)
    num_train = size - round(config.valid_fraction * size)
    steps = base.num_epochs * (num_train // base.batch_size)
    program = training.Program(
        learner=classifier.make_learner(
            networks.make_model(base.model, (num_classes, 0)),
            networks.OPTIMIZERS[config.optimizer](config, steps),
            **images.options(config, name),
        ),
        annotate=annotate_with_nobody,
        score=classifier_score(config),
        num_epochs=base.num_epochs,
        patience=config.patience or None,
        eval_batch_size=config.eval_batch_size,
    )
    hparams = {
        "learning_rate": (base.learning_rate,),
        "weight_decay": (base.weight_decay,),
    }
    result = sweeps.run_sweep(
        program,
        sweeps.grid((0,), hparams),
        dataset,
        root_seed=config.seed,
        split=split_at_random(size, config.valid_fraction),
        batch_size=base.batch_size,
        where=networks.make_placement(config, base.model)._replace(runs_per_device=1),
        epochs_per_dispatch=config.epochs_per_dispatch,
        checkpoint_dir=workdir / "checkpoints" / "base",
        checkpoint_seconds=config.checkpoint_seconds,
        origin=read_origin(workdir),
        report=progress.ProgressBar("base"),
        should_stop=stop,
    )
    if result.diverged[0]:
        raise ConfigError(
            "base: the network diverged; lower base.learning_rate or base.weight_decay"
        )
    variables = jax.tree.map(lambda leaf: leaf[0], result.variables)
    return Base(program, variables, name)


def look(
    config: ml_collections.ConfigDict, base: Base, inputs: Array
) -> tuple[np.ndarray, np.ndarray]:
    """Features of inputs, float32 ``[N, F]``, and class probabilities, ``[N, K]``."""
    prepare = images.options(config, base.name).get("preprocess", lambda x: x)
    below, variables = networks.make_model(config.base.model, (0, 0)), base.variables

    @jax.jit
    def look_at(batch: jax.Array) -> tuple[jax.Array, jax.Array]:
        features, _ = below.apply(
            variables.params, variables.model_state, prepare(batch), train=False
        )
        return features, base.program.learner.predict(variables, {}, batch)

    size = config.eval_batch_size
    parts = [
        look_at(inputs[first : first + size]) for first in range(0, len(inputs), size)
    ]
    features, class_probs = (
        np.concatenate([np.asarray(part) for part in column])
        for column in zip(*parts, strict=True)
    )
    return features, class_probs
