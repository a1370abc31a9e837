"""Config fields that cannot be used are named before anything is computed."""

import math
import pathlib

import ml_collections

from experiments import fields, human_models, images, people
from experiments.runtime.errors import ConfigError
from l2d_jax.engine import placement

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
    fields.one_of("dataset", config.dataset, DATASETS)
    fields.one_of("expert", config.expert, images.EXPERTS)
    fields.one_of("optimizer", config.optimizer, ("sgd", "adam"))
    fields.one_of("placement", config.placement, ("auto", *placement.KINDS))
    fields.values("methods", config.methods)
    for method in config.methods:
        fields.one_of("methods", method, METHODS)
    for name in ("model", "expert_model"):
        _check_model(name, config[name])

    _check_num_perfect(config)
    for name in config.grid:
        fields.values(f"grid.{name}", config.grid[name])
        for value in config.grid[name]:
            fields.number(f"grid.{name}", value, 0.0, math.inf)
    if 0.0 in config.grid.learning_rate:
        raise ConfigError("grid.learning_rate must be > 0, got 0.0")

    fields.whole("seed", config.seed, 0, 2**31 - 1)
    fields.whole("num_seeds", config.num_seeds, 1)
    fields.whole("num_epochs", config.num_epochs, 1)
    fields.whole("expert_model_epochs", config.expert_model_epochs, 1)
    fields.whole("patience", config.patience, 0)
    fields.whole("batch_size", config.batch_size, 1)
    fields.whole("eval_batch_size", config.eval_batch_size, 1)
    fields.whole("epochs_per_dispatch", config.epochs_per_dispatch, 1)
    fields.whole("runs_per_device", config.runs_per_device, 0)
    fields.whole("crop_padding", config.crop_padding, 0)
    fields.number("momentum", config.momentum, 0.0, 1.0)
    fields.number("checkpoint_seconds", config.checkpoint_seconds, 0.0, math.inf)
    fields.number("valid_fraction", config.valid_fraction, 0.0, 1.0)


def check_people(config: ml_collections.ConfigDict) -> None:
    """Check the config of an experiment on particular persons.

    Raises:
      ConfigError: a value cannot be used; the message names the field and the remedy.
    """
    group = config.people
    fields.one_of("dataset", config.dataset, DATASETS)
    fields.one_of("optimizer", config.optimizer, ("sgd", "adam"))
    fields.one_of("placement", config.placement, ("auto", *placement.KINDS))
    fields.one_of("tune", config.tune, ("head", "network"))
    fields.one_of("people.crowd", group.crowd, ("simulated", "cifar10h"))
    fields.values("methods", config.methods)
    for method in config.methods:
        fields.one_of("methods", method, human_models.METHODS)
    fields.values("people.sources", group.sources)
    for name in ("methods", "people.sources"):
        values = config.methods if name == "methods" else group.sources
        if len(set(values)) < len(values):
            raise ConfigError(f"{name} must not repeat a name, got {values}")
    for source in group.sources:
        fields.one_of("people.sources", source, people.SOURCES)
        if config.dataset != "cifar10" and source != "specialist":
            raise ConfigError(
                f"people.sources: {source} answered images of cifar10; use it with"
                f" dataset cifar10, not {config.dataset}"
            )
    if config.dataset != "cifar10" and group.crowd == "cifar10h":
        raise ConfigError(
            "people.crowd cifar10h is of images of cifar10; choose simulated for"
            f" dataset {config.dataset}"
        )
    if "cifar10h_raw" in group.sources and not group.raw_file:
        raise ConfigError("people.raw_file is empty; name your cifar10h-raw.zip")
    if "cifar10h_raw" in group.sources:
        path = pathlib.Path(group.raw_file).expanduser()
        if not path.is_file():
            raise ConfigError(
                f"people.raw_file: there is no file {path}; name your cifar10h-raw.zip"
            )
    for name in ("model", "human_model", "system_model"):
        _check_model(name, config[name])
    _check_num_perfect(config)

    fields.number("people.human_fraction", group.human_fraction, 0.01, 0.99)
    fields.whole("people.reserved", group.reserved, 0)
    if "cifar10n" in group.sources:
        fields.whole("people.reserved", group.reserved, 2)
    fields.whole("people.unlabelled", group.unlabelled, 0)
    fields.whole("people.crowd_images", group.crowd_images, 1)
    fields.whole("people.crowd_people", group.crowd_people, 1)
    fields.whole("people.crowd_answers", group.crowd_answers, 1)
    fields.values("people.crowd_skill", group.crowd_skill)
    for value in group.crowd_skill:
        fields.positive("people.crowd_skill", value)
    if len(group.crowd_skill) != 2:
        raise ConfigError(
            "people.crowd_skill must hold the two parameters of a beta distribution,"
            f" got {group.crowd_skill}"
        )
    fields.whole("people.budget", group.budget, 1)
    fields.whole("people.real_budget", group.real_budget, 2)
    fields.whole("people.folds", group.folds, 2)
    fields.whole("people.max_people", group.max_people, 0)

    for name in ("seed", "patience", "runs_per_device", "crop_padding"):
        fields.whole(name, config[name], 0, 2**31 - 1)
    for name in (
        "num_seeds",
        "num_epochs",
        "batch_size",
        "human_model_epochs",
        "human_model_batch_size",
        "system_epochs",
        "system_batch_size",
        "epochs_per_dispatch",
        "eval_batch_size",
    ):
        fields.whole(name, config[name], 1)
    for name in (
        "learning_rate",
        "human_model_learning_rate",
        "finetune_learning_rate",
        "system_learning_rate",
    ):
        fields.positive(name, config[name])
    fields.number("weight_decay", config.weight_decay, 0.0)
    fields.number("alpha", config.alpha, 0.0)
    fields.number("momentum", config.momentum, 0.0, 1.0)
    fields.number("valid_fraction", config.valid_fraction, 0.0, 1.0)
    fields.number("checkpoint_seconds", config.checkpoint_seconds, 0.0)
    fields.positive("finetune_ratio", config.finetune_ratio)
    fields.number("self_training_threshold", config.self_training_threshold, 0.0)
    fields.whole("propagation.num_neighbors", config.propagation.num_neighbors, 1)
    fields.whole("propagation.num_steps", config.propagation.num_steps, 0)
    fields.number("propagation.retention", config.propagation.retention, 0.0, 0.9999)
    fields.positive("propagation.prior_answers", config.propagation.prior_answers)
    for name in ("overall", "by_class", "image_scales"):
        fields.values(f"population.{name}", config.population[name])
        for value in config.population[name]:
            fields.positive(f"population.{name}", value)


def check_systems(
    config: ml_collections.ConfigDict, num_unlabelled: int, num_tuned: int
) -> None:
    """Check sizes of the models of people and of systems against the data.

    Args:
      config: of an experiment on particular persons.
      num_unlabelled: images that answers are imputed on.
      num_tuned: images that anybody is tuned on.

    Raises:
      ConfigError: there are fewer images than a field asks for.
    """
    size = num_unlabelled + num_tuned
    num_train = size - round(config.valid_fraction * size)
    if config.system_batch_size > num_train:
        raise ConfigError(
            f"system_batch_size {config.system_batch_size} is larger than the"
            f" {num_train} images to train systems on; lower it or raise"
            " people.unlabelled"
        )
    if "propagation" in config.methods and config.propagation.num_neighbors >= size:
        raise ConfigError(
            f"propagation.num_neighbors {config.propagation.num_neighbors} must be"
            f" below the number of images, {size}"
        )


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


def _check_num_perfect(config: ml_collections.ConfigDict) -> None:
    fields.values("num_perfect", config.num_perfect)
    num_classes = DATASETS[config.dataset]
    for value in config.num_perfect:
        fields.whole("num_perfect", value, 0, num_classes)
    if list(config.num_perfect) != sorted(set(config.num_perfect)):
        raise ConfigError(
            f"num_perfect must increase, without repeats, got {config.num_perfect}"
        )


def _check_model(field: str, model: ml_collections.ConfigDict) -> None:
    fields.one_of(f"{field}.name", model.name, MODELS)
    for part in MODELS[model.name]:
        if part not in model:
            raise ConfigError(
                f"{field}.{part} is missing, which {model.name} needs; add it to the"
                " config file"
            )
    if model.name == "mlp":
        for size in model.hidden:
            fields.whole(f"{field}.hidden", size, 1)
        return
    fields.whole(f"{field}.depth", model.depth, 10)
    if model.depth % 6 != 4:
        raise ConfigError(f"{field}.depth must be 6n + 4, got {model.depth}")
    fields.whole(f"{field}.width", model.width, 1)
    fields.whole(f"{field}.stem_stride", model.stem_stride, 1)
    fields.one_of(f"{field}.dtype", model.dtype, ("float32", "bfloat16"))
