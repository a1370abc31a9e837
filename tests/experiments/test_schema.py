"""Every config of the grid passes the one check, and what does not is one line."""

import importlib

import ml_collections
import pytest

from experiments import schema
from experiments.configs import digits, synthetic
from experiments.methods import METHODS
from experiments.problems import PROBLEMS
from experiments.runtime.errors import ConfigError
from experiments.trainings import TRAININGS

CONFIGS = {
    "cifar10": ("smoke", "default", "paper"),
    "cifar10_finetune": ("smoke", "default", "paper"),
    "compas": ("smoke", "default", "paper"),
    "digits": ("smoke", "default", "paper"),
    "digits_finetune": ("smoke", "default", "paper"),
    "halfspaces": ("smoke", "default", "realizable"),
    "health": ("smoke", "default", "paper"),
    "synthetic": ("smoke", "default", "paper"),
    "table": ("smoke", "default", "one"),
    "texts": ("smoke", "default", "one"),
    "unseen": ("smoke", "default", "texts"),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_configs_of_all_scales_are_sound(name):
    module = importlib.import_module(f"experiments.configs.{name}")
    for scale in CONFIGS[name]:
        config = module.get_config(scale)
        schema.check(config)
        assert config.problem in PROBLEMS and {*config.references} <= {*METHODS}
    with pytest.raises(ValueError, match=r"scale must be smoke or .*got 'huge'"):
        module.get_config("huge")


def test_every_field_says_what_it_means():
    for path, field in schema.FIELDS.items():
        assert field.meaning.endswith("."), path


def test_fields_that_rows_read_are_known():
    read = [*(row.fields for row in PROBLEMS.values())]
    read += [row.fields for row in (*METHODS.values(), *TRAININGS.values())]
    for name in {name for fields in read for name in fields}:
        assert name in schema.FIELDS or name in schema._NETWORK_FIELDS, name
    for row in TRAININGS.values():
        assert {f"grid.{name}" for name in row.hparams} <= set(schema.FIELDS)


def refused(config):
    with pytest.raises(ConfigError) as error:
        schema.check(config)
    assert "\n" not in str(error.value)
    return str(error.value)


def change(config, path, value):
    *sections, field = path.split(".")
    for section in sections:
        config = config[section]
    if field in config:
        del config[field]
    config[field] = value


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("num_epocs", 3, "num_epocs: no program knows this field"),
        ("grid.alfa", (1.0,), "grid.alfa: no program knows this field"),
        ("num_seeds", 1.0, "num_seeds must be a whole number >= 1, got 1.0"),
        ("num_seeds", "1", "num_seeds must be a whole number >= 1, got '1'"),
        ("num_seeds", True, "num_seeds must be a whole number >= 1, got True"),
        ("momentum", False, "momentum must be a finite number in [0, 1], got False"),
        ("momentum", "0.9", "momentum must be a finite number in [0, 1], got '0.9'"),
        ("sampled", 1, "sampled must be True or False, got 1"),
        ("experiment", 3, "experiment must be text, got 3"),
        ("methods", "deferral", "methods must hold at least one value, got 'deferral'"),
        ("methods", (1,), "methods must be text, got 1"),
        ("grid", 3, "grid must be a group of fields, got 3; set one of them"),
        ("grid", {"alpha": (1.0,)}, "grid.learning_rate is missing; add it to"),
        ("grid.alpha", (True,), "grid.alpha must be a finite number >= 0, got True"),
        ("grid.alpha", 1.0, "grid.alpha must hold at least one value, got 1.0"),
        ("grid.alpha", (1.0, 1.0), "grid.alpha must not repeat a value"),
        ("grid.alpha", (1, 1.0), "grid.alpha must not repeat a value"),
        ("grid.alpha", (0.1, 0.1 + 1e-10), "grid.alpha must not repeat a value"),
        ("grid.alpha", (2**24, 2**24 + 1), "grid.alpha must not repeat a value"),
        ("grid.cost", (0.1, 0.1 + 1e-10), "grid.cost must increase, without repeats"),
        ("grid.learning_rate", (1e-60,), "grid.learning_rate must keep its value as"),
        ("grid.learning_rate", (1e39,), "grid.learning_rate must keep its value as fl"),
        ("grid.learning_rate", (10**400,), "grid.learning_rate must keep its value"),
        ("checkpoint_seconds", 2**31, "checkpoint_seconds must be written as 2147483"),
        ("seed", 2**31, "seed must be a whole number in 0..2147483647, got 2147483648"),
        ("seed", 0.5, "seed must be a whole number in 0..2147483647, got 0.5"),
        (
            "optimizer",
            "adm",
            "optimizer must be one of sgd, plain_sgd, adam, got",
        ),
        ("model", "mlp", "model must be a group of fields, got 'mlp'"),
        ("model.hidden", (True,), "model.hidden must be a whole number >= 1, got True"),
        ("model.name", "mpl", "model.name must be one of mlp, convnet, wide_resnet,"),
        ("joint.deferrer", {"name": "mlp"}, "joint.deferrer.hidden is missing, which"),
    ],
)
def test_a_wrong_value_is_one_line_that_names_the_field(path, value, message):
    config = digits.get_config("smoke")
    change(config, path, value)
    assert refused(config).startswith(message)


def test_a_name_that_is_nearly_right_is_guessed():
    config = synthetic.get_config("smoke")
    config.choose = "over_seeds_"
    assert refused(config).endswith("(did you mean over_seeds or per_seed?)")
    with pytest.raises(ConfigError, match=r"\(did you mean compas\?\)$"):
        schema.one_of(PROBLEMS)("problem", "compass")
    guess = "did you mean mixture or mixture_fair or mixture_tuned?"
    assert schema.nearest("mixtur", METHODS) == guess
    assert schema.nearest("qqqq", METHODS) == ""


SWEPT = {
    "strengths": (0.8, 0.8),
    "misplaced": (0.0, 0),
    "truths": ("objective", "objective"),
    "alphas": (0.3, 0.3 + 1e-12),
    "gammas": (1, 1.0),
    "committee_sizes": (1, 1),
    "finetune_trips": (3, 3),
    "methods": ("a", "a"),
    "num_perfect": (5, 5),
    "scenarios": ("biased", "biased"),
    "imputers": ("none", "none"),
}


@pytest.mark.parametrize("name", SWEPT)
def test_what_is_swept_is_swept_once(name):
    tables = (schema.FIELDS, schema.TRIPS, schema.ALLOCATION, schema.STREAM)
    fields = [fields[name] for fields in tables if name in fields]
    for field in fields:
        if field is schema.ALLOCATION["scenarios"]:
            continue  # Those of clusters are a group, whose names differ.
        with pytest.raises(ConfigError, match=f"^{name} must (not repeat|increase)"):
            field.check(name, SWEPT[name])
        field.check(name, SWEPT[name][:1])


def test_every_other_list_says_that_it_may_repeat():
    """A list is of distinct values unless its place in a row is what it means."""
    for fields in (schema.FIELDS, schema.TRIPS, schema.ALLOCATION, schema.STREAM):
        for path, field in fields.items():
            for value in (1, 0.5, 3, "joint", (0, 1)):
                try:
                    field.check(path, (value, value))
                except ConfigError:
                    continue
                assert path.rpartition(".")[2] in (
                    "hidden",
                    "panel",
                    "costs",
                    "crowd_skill",
                    "encoder",
                    "rejector",
                ), path


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        (schema.whole(2, 4), (2, 4), (1, 5, 2.0, True, None)),
        (schema.number(0.0, 1.0), (0, 1, 0.5), (-0.1, 1.1, "1", float("nan"))),
        (schema.number(0.0, above=True), (1e-9, 3), (0.0, -1.0, float("inf"))),
        (schema.flag, (True, False), (0, 1, "True")),
        (schema.many(schema.whole(0), rising=True), ((0, 1),), ((1, 0), (0, 0), ())),
        (schema.several(schema.whole(0), 2), ((1, 1), [1, 2]), ((1,), (1, 2, 3), 1)),
        (schema.one_of(("a", "b")), ("a",), ("c", "", 1)),
    ],
)
def test_checks(check, good, bad):
    for value in good:
        check("field", value)
    for value in bad:
        with pytest.raises(ConfigError, match=r"^field must "):
            check("field", value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"depth": 12}, "model.depth must be 6n + 4, got 12"),
        ({"convolution": "fast"}, "model.convolution must be one of auto, xla, explic"),
        ({"dtype": "float16"}, "model.dtype must be one of float32, bfloat16"),
        ({"width": 0}, "model.width must be a whole number >= 1, got 0"),
    ],
)
def test_sizes_of_a_wide_resnet(changes, message):
    sizes = {"depth": 10, "width": 1, "stem_stride": 1, "dtype": "float32"}
    network = {"name": "wide_resnet", **sizes}
    schema.check_network("model", ml_collections.ConfigDict(network))
    with pytest.raises(ConfigError) as error:
        schema.check_network("model", ml_collections.ConfigDict(network | changes))
    assert str(error.value).startswith(message)
