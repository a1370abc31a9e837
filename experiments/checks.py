"""Config fields that cannot be used are named before anything is computed."""

import math
import numbers
from collections.abc import Iterable
from typing import Any

import ml_collections

from experiments import images
from experiments.program import ConfigError
from l2d_jax import placement

METHODS = ("deferral", "classifier", "expert", "confidence")
MODELS = {"mlp": ("hidden",), "wide_resnet": ("depth", "width", "stem_stride", "dtype")}
"""Sizes that each network needs."""
DATASETS = {"digits": 10, "cifar10": 10}
"""Number of classes of each data set."""


def check_images(config: ml_collections.ConfigDict) -> None:
    """Check the config of an image experiment.

    Raises:
      ConfigError: a value cannot be used; the message names the field and the remedy.
    """
    _one_of("dataset", config.dataset, DATASETS)
    _one_of("expert", config.expert, images.EXPERTS)
    _one_of("optimizer", config.optimizer, ("sgd", "adam"))
    _one_of("placement", config.placement, ("auto", *placement.KINDS))
    _values("methods", config.methods)
    for method in config.methods:
        _one_of("methods", method, METHODS)
    for name in ("model", "expert_model"):
        _check_model(name, config[name])

    _values("num_perfect", config.num_perfect)
    num_classes = DATASETS[config.dataset]
    for value in config.num_perfect:
        _whole("num_perfect", value, 0, num_classes)
    if list(config.num_perfect) != sorted(set(config.num_perfect)):
        raise ConfigError(
            f"num_perfect must increase, without repeats, got {config.num_perfect}"
        )
    for name in config.grid:
        _values(f"grid.{name}", config.grid[name])
        for value in config.grid[name]:
            _number(f"grid.{name}", value, 0.0, math.inf)
    if 0.0 in config.grid.learning_rate:
        raise ConfigError("grid.learning_rate must be > 0, got 0.0")

    _whole("seed", config.seed, 0, 2**31 - 1)
    _whole("num_seeds", config.num_seeds, 1)
    _whole("num_epochs", config.num_epochs, 1)
    _whole("expert_model_epochs", config.expert_model_epochs, 1)
    _whole("patience", config.patience, 0)
    _whole("batch_size", config.batch_size, 1)
    _whole("eval_batch_size", config.eval_batch_size, 1)
    _whole("epochs_per_dispatch", config.epochs_per_dispatch, 1)
    _whole("runs_per_device", config.runs_per_device, 0)
    _whole("crop_padding", config.crop_padding, 0)
    _number("momentum", config.momentum, 0.0, 1.0)
    _number("checkpoint_seconds", config.checkpoint_seconds, 0.0, math.inf)
    _number("valid_fraction", config.valid_fraction, 0.0, 1.0)


def check_batch(
    config: ml_collections.ConfigDict, num_train: int, num_valid: int
) -> None:
    """Check sizes against the data.

    Raises:
      ConfigError: the validation part is empty or a batch is larger than the data.
    """
    if num_valid < 1 or num_train < 1:
        raise ConfigError(
            f"valid_fraction {config.valid_fraction} leaves {num_train} examples to"
            f" train on and {num_valid} to validate on; both must be positive"
        )
    if config.batch_size > num_train:
        raise ConfigError(
            f"batch_size {config.batch_size} is larger than the {num_train} training"
            f" examples; choose one of at most {num_train}"
        )


def _check_model(field: str, model: ml_collections.ConfigDict) -> None:
    _one_of(f"{field}.name", model.name, MODELS)
    for part in MODELS[model.name]:
        if part not in model:
            raise ConfigError(
                f"{field}.{part} is missing, which {model.name} needs; add it to the"
                " config file"
            )
    if model.name == "mlp":
        for size in model.hidden:
            _whole(f"{field}.hidden", size, 1)
        return
    _whole(f"{field}.depth", model.depth, 10)
    if model.depth % 6 != 4:
        raise ConfigError(f"{field}.depth must be 6n + 4, got {model.depth}")
    _whole(f"{field}.width", model.width, 1)
    _whole(f"{field}.stem_stride", model.stem_stride, 1)
    _one_of(f"{field}.dtype", model.dtype, ("float32", "bfloat16"))


def _one_of(field: str, value: Any, known: Iterable[str]) -> None:
    if value not in known:
        raise ConfigError(f"{field} must be one of {', '.join(known)}, got {value!r}")


def _values(field: str, values: Any) -> None:
    if not isinstance(values, list | tuple) or not values:
        raise ConfigError(f"{field} must hold at least one value, got {values!r}")


def _whole(field: str, value: Any, low: int, high: float = math.inf) -> None:
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not whole or not low <= value <= high:
        limit = f">= {low}" if high == math.inf else f"in {low}..{high}"
        raise ConfigError(f"{field} must be a whole number {limit}, got {value!r}")


def _number(field: str, value: Any, low: float, high: float) -> None:
    number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or not low <= value <= high:
        limit = f">= {low:g}" if high == math.inf else f"in [{low:g}, {high:g}]"
        raise ConfigError(f"{field} must be a finite number {limit}, got {value!r}")
