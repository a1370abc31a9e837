"""Networks, optimizers and placements that a config describes."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import ml_collections

from l2d_jax import models, optimizers
from l2d_jax.engine import placement
from l2d_jax.types import ModelFns, PyTree


def _mlp(config: ml_collections.ConfigDict, outputs: tuple[int, int]) -> ModelFns:
    return models.mlp(
        tuple(config.hidden), sum(outputs) or None, config.get("activation", "relu")
    )


def _wide_resnet(
    config: ml_collections.ConfigDict, outputs: tuple[int, int]
) -> ModelFns:
    return models.wide_resnet(
        config.depth,
        config.width,
        sum(outputs) or None,
        stem_stride=config.stem_stride,
        dtype=jnp.dtype(config.dtype),
        convolution=config.get("convolution", "auto"),
    )


def _convnet(config: ml_collections.ConfigDict, outputs: tuple[int, int]) -> ModelFns:
    return models.convnet(
        sum(outputs) or None,
        channels=tuple(config.channels),
        window=config.window,
        hidden=tuple(config.hidden),
        dtype=jnp.dtype(config.dtype),
    )


def _gated_pair(
    config: ml_collections.ConfigDict, outputs: tuple[int, int]
) -> ModelFns:
    """One logit of label 1 and, where it is asked for, one of passing.

    What has other outputs gets one layer of as many units in all.
    """
    if outputs == (1, 1):
        return models.gated_pair(config.hidden)
    if outputs == (1, 0):
        pair = models.gated_pair(config.hidden)

        def apply(
            params: PyTree, model_state: PyTree, inputs: jax.Array, train: bool
        ) -> tuple[jax.Array, PyTree]:
            # The rejector stays as it starts.
            both, model_state = pair.apply(params, model_state, inputs, train)
            return both[:, :1], model_state

        return ModelFns(pair.init, apply)
    return models.mlp((2 * config.hidden,), sum(outputs) or None, "sigmoid")


MODELS: dict[str, Callable[[ml_collections.ConfigDict, tuple[int, int]], ModelFns]] = {
    "mlp": _mlp,
    "convnet": _convnet,
    "wide_resnet": _wide_resnet,
    "gated_pair": _gated_pair,
}
"""Networks by name; each is made of its sizes and of the numbers of outputs: those of
the classes, and others. No outputs at all give the features."""

_CONVOLUTIONAL = {"convnet": "small_convolutional", "wide_resnet": "convolutional"}


def make_model(config: ml_collections.ConfigDict, outputs: tuple[int, int]) -> ModelFns:
    """The network that a config of ``name`` and its sizes describes.

    Args:
      config: ``name``, one of `MODELS`, and its sizes.
      outputs: numbers of outputs of the classes, and of others behind them.
    """
    return MODELS[config.name](config, outputs)


def class_outputs(num_classes: int) -> int:
    """Logits of a classifier: one for two classes, else one each."""
    return 1 if num_classes == 2 else num_classes


def make_optimizer(
    config: ml_collections.ConfigDict, num_epochs: int, num_train: int
) -> optimizers.OptimizerFn:
    """The optimizer that ``config.optimizer`` names.

    Args:
      config: of the experiment.
      num_epochs: along which ``sgd`` lowers its learning rate.
      num_train: training examples.
    """
    return OPTIMIZERS[config.optimizer](
        config, num_epochs * (num_train // config.batch_size)
    )


OPTIMIZERS: dict[
    str, Callable[[ml_collections.ConfigDict, int], optimizers.OptimizerFn]
] = {
    "sgd": lambda config, steps: optimizers.make_sgd(steps, config.momentum),
    "plain_sgd": lambda config, steps: optimizers.make_plain_sgd(),
    "adam": lambda config, steps: optimizers.make_adam(),
}
"""Optimizers by name, of the config and the number of steps."""


def make_placement(
    config: ml_collections.ConfigDict, model: ml_collections.ConfigDict | None = None
) -> placement.Placement:
    """The placement that the config names, or the default of this backend and model.

    Args:
      config: of the experiment.
      model: what is trained; None for what is as light as a small net.
    """
    network = "dense" if model is None else _CONVOLUTIONAL.get(model.name, "dense")
    default = placement.default_placement(network)
    kind = default.kind if config.placement == "auto" else config.placement
    return placement.Placement(kind, config.runs_per_device or default.runs_per_device)
