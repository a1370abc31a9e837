"""Every field of every config, with every kind of value that it should not have."""

import copy
import importlib
import math
import pathlib

import ml_collections
import pytest

from experiments import allocation, deferral, trips, zoo
from experiments.benchmark import fields as benchmark
from experiments.claims import ledger
from experiments.runtime.errors import ConfigError

CONFIGS = sorted(
    path.stem
    for path in pathlib.Path(deferral.__file__).parent.glob("configs/*.py")
    # Checked by their own programs, field by field, in their own tests.
    if path.stem not in ("__init__", "benchmark_scaling")
)
VALUES = (
    *(None, True, "", "nonsense", b"x"),
    *(math.nan, math.inf, -math.inf, -1, 0, 0.5, 2**31, 10**30, 1e30, 1e39, 1e-50),
    *((), [], [[1]], (1, 1), (0.1, 0.1), ("a", "a"), (None,), (math.nan,)),
    *({}, {"x": 1}),
)


def check_of(config):
    """The check that the program of a config begins with."""
    if "parts" in config:
        return zoo.check
    if "workloads" in config:
        return benchmark.check
    if "results" in config:
        return ledger.check
    if "task" in config:
        return allocation.check
    return deferral.check if "problem" in config else trips.check


def paths(group, above=()):
    for name, value in group.items():
        yield (*above, name)
        if isinstance(value, dict):
            yield from paths(value, (*above, name))


def without(fields, path):
    """A copy, the group that holds the field in it, and the field's name."""
    changed = copy.deepcopy(fields)
    group = changed
    for name in path[:-1]:
        group = group[name]
    return changed, group, path[-1]


@pytest.mark.long
@pytest.mark.parametrize(
    "name",
    [
        # Many parts of thirty fields each, all of them in other configs too.
        pytest.param(name, marks=pytest.mark.slow) if name == "zoo_tables" else name
        for name in CONFIGS
    ],
)
def test_it_is_used_or_named(name):
    config = importlib.import_module(f"experiments.configs.{name}").get_config("smoke")
    check, fields = check_of(config), config.to_dict()
    check(ml_collections.ConfigDict(fields))
    refused = 0
    for path in paths(fields):
        for value in VALUES:
            changed, group, field = without(fields, path)
            group[field] = value
            try:
                check(ml_collections.ConfigDict(changed))
            except ConfigError as error:
                refused += 1
                # A bound may be another field's, which the message then names too.
                named = [*path[-1:], "num_tasks"] if name == "bias" else path[-1:]
                assert any(part in str(error) for part in named), (path, value)
            except AttributeError as error:
                # A group of other fields lacks those that are read.
                assert isinstance(error.args[0], KeyError), (path, value, error)
                assert value in ({}, {"x": 1}), (path, value)
    num_fields = len(list(paths(fields)))
    assert refused > 10 * num_fields
    # Shown by pytest -rP. Whatever else had been raised would have ended the test.
    print(f"{name}: {num_fields} fields x {len(VALUES)} values, {refused} refused")


@pytest.mark.parametrize("name", CONFIGS)
def test_a_field_that_is_not_there(name):
    config = importlib.import_module(f"experiments.configs.{name}").get_config("smoke")
    check, fields = check_of(config), config.to_dict()
    for path in paths(fields):
        changed, group, field = without(fields, path)
        del group[field]
        try:
            check(ml_collections.ConfigDict(changed))
        except ConfigError as error:
            assert "\n" not in str(error)
        except AttributeError as error:
            # That of a config, of which the command line makes one line.
            assert isinstance(error.args[0], KeyError), (path, error)
            assert field in str(error), path
