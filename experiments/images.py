"""Parts of the image experiments: data, networks, experts and trainings by name."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections

from l2d_jax import (
    augmentation,
    data,
    metrics,
    models,
    optimizers,
)
from l2d_jax.engine import placement, training
from l2d_jax.learners import confidence, deferral
from l2d_jax.simulate import experts
from l2d_jax.types import Array, Batch, Dataset, Decision, HParams, ModelFns

EXPERTS = {"specialist": experts.specialist}
"""Synthetic experts by name: ``(num_perfect, num_classes) -> Expert``."""


def load_data(config: ml_collections.ConfigDict) -> data.Splits:
    """The data set that ``config.dataset`` names."""
    if config.dataset == "digits":
        return data.load_digits()
    return data.load_cifar10(config.data_dir or None)


def annotate(
    key: jax.Array, hparams: HParams, dataset: Dataset, expert: str, num_classes: int
) -> Dataset:
    """The examples with the answers of the run's synthetic expert."""
    person = EXPERTS[expert](hparams["num_perfect"], num_classes)
    labels = experts.sample_expert_labels(key, person, dataset.labels)
    return dataset._replace(expert_labels=labels[:, None])


def annotate_with_nobody(key: jax.Array, hparams: HParams, dataset: Dataset) -> Dataset:
    """The examples as they are, for methods that know of no expert."""
    del key, hparams
    return dataset


def system_score(decision: Decision, batch: Batch, hparams: HParams) -> Array:
    """System accuracy, in [0, 1]."""
    del hparams
    assert batch.expert_labels is not None
    return metrics.system_accuracy(
        decision.defer, decision.prediction, batch.labels, batch.expert_labels[:, 0]
    )


def classifier_score(logits: jax.Array, batch: Batch, hparams: HParams) -> jax.Array:
    """Accuracy of the classifier alone, in [0, 1]."""
    del hparams
    return jnp.mean(jnp.argmax(logits, axis=-1) == batch.labels)


def expert_model_score(prob: jax.Array, batch: Batch, hparams: HParams) -> jax.Array:
    """Mean log-likelihood of the expert's being right or wrong, in nats, <= 0.

    Probabilities are kept 1e-7 away from 0, so that one sure mistake in float32 does
    not make the score -inf.
    """
    del hparams
    assert batch.expert_labels is not None
    correct = batch.expert_labels[:, 0] == batch.labels
    return jnp.mean(jnp.log(jnp.maximum(jnp.where(correct, prob, 1.0 - prob), 1e-7)))


def make_model(model: ml_collections.ConfigDict, num_outputs: int | None) -> ModelFns:
    """The network that a config of fields ``name`` and its sizes describes.

    None for ``num_outputs`` gives its features.
    """
    if model.name == "mlp":
        return models.mlp(tuple(model.hidden), num_outputs)
    return models.wide_resnet(
        model.depth,
        model.width,
        num_outputs,
        stem_stride=model.stem_stride,
        dtype=jnp.dtype(model.dtype),
    )


def make_placement(
    config: ml_collections.ConfigDict, model: ml_collections.ConfigDict | None
) -> placement.Placement:
    """The placement that the config names, or the default of this backend and model.

    Args:
      config: of the experiment.
      model: what is trained; None for what is as light as a small net.
    """
    convolutional = model is not None and model.name == "wide_resnet"
    default = placement.default_placement(convolutional)
    kind = default.kind if config.placement == "auto" else config.placement
    return placement.Placement(kind, config.runs_per_device or default.runs_per_device)


def make_programs(
    config: ml_collections.ConfigDict, splits: data.Splits
) -> dict[str, training.Program]:
    """The three trainings of the experiment.

    ``deferral`` is a system by itself; ``classifier`` and ``expert_model`` are the two
    halves of deferring by confidence, and the classifier is a baseline of its own.
    """
    num_classes = splits.num_classes
    with_expert = functools.partial(
        annotate, expert=config.expert, num_classes=num_classes
    )
    return {
        "deferral": _make_program(
            config,
            splits,
            deferral.make_learner,
            config.model,
            num_classes + 1,
            with_expert,
            system_score,
            config.num_epochs,
        ),
        "classifier": make_classifier(config, splits),
        "expert_model": _make_program(
            config,
            splits,
            confidence.make_expert_model,
            config.expert_model,
            1,
            with_expert,
            expert_model_score,
            config.expert_model_epochs,
        ),
    }


def make_classifier(
    config: ml_collections.ConfigDict, splits: data.Splits
) -> training.Program:
    """The classifier alone, which knows of no expert."""
    return _make_program(
        config,
        splits,
        confidence.make_classifier,
        config.model,
        splits.num_classes,
        annotate_with_nobody,
        classifier_score,
        config.num_epochs,
    )


def _make_program(
    config: ml_collections.ConfigDict,
    splits: data.Splits,
    make_learner: Callable[..., Any],
    model: ml_collections.ConfigDict,
    num_outputs: int,
    annotate: training.Annotate,
    score: training.Score,
    num_epochs: int,
) -> training.Program:
    return training.Program(
        learner=make_learner(
            make_model(model, num_outputs),
            _make_optimizer(config, num_epochs, len(splits.train.labels)),
            **input_options(config, splits),
        ),
        annotate=annotate,
        score=score,
        num_epochs=num_epochs,
        patience=config.patience or None,
        eval_batch_size=config.eval_batch_size,
    )


def _make_optimizer(
    config: ml_collections.ConfigDict, num_epochs: int, num_examples: int
) -> optimizers.OptimizerFn:
    if config.optimizer == "adam":
        return optimizers.make_adam()
    num_train = num_examples - round(config.valid_fraction * num_examples)
    num_steps = num_epochs * (num_train // config.batch_size)
    return optimizers.make_sgd(num_steps, config.momentum)


def input_options(
    config: ml_collections.ConfigDict, splits: data.Splits
) -> dict[str, Any]:
    """How a learner on images augments and standardizes them, as keyword arguments."""
    options: dict[str, Any] = {}
    if config.crop_padding:
        options["augment"] = functools.partial(
            augmentation.random_crop_and_flip, padding=config.crop_padding
        )
    if splits.name == "cifar10":
        options["preprocess"] = functools.partial(
            augmentation.standardize,
            mean=augmentation.CIFAR10_MEAN,
            std=augmentation.CIFAR10_STD,
        )
    return options
