"""The problems that methods are compared on, by name."""

import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import ml_collections

from experiments import (
    cifar10h,
    decision_makers,
    halfspaces,
    hatespeech,
    images,
    own_table,
    persons,
    texts,
)
from experiments.problem import Problem, Traits
from experiments.runtime.errors import ConfigError


class Row(NamedTuple):
    """A problem before it is loaded.

    Attributes:
      traits: what it has; the number of experts of a panel is its config's.
      prepare: reads what it is made of, from the config; raises for what the user can
        mend.
      make: ``(config, prepared, workdir, stop) -> problems``, most often one. Several
        share a config and a table.
      fields: of the config, what only some problems read.
    """

    traits: Traits
    prepare: Callable[[ml_collections.ConfigDict], Any]
    make: Callable[
        [ml_collections.ConfigDict, Any, pathlib.Path, Callable[[], bool]],
        list[Problem],
    ]
    fields: tuple[str, ...] = ()


def _of_its_own(config: ml_collections.ConfigDict) -> Any:
    """A problem whose runs each simulate a world of their own."""
    raise ConfigError(
        f"problem {config.problem} is simulated anew by every run; use python -m"
        f" experiments.{config.problem}"
    )


def _nothing(*args: Any) -> list[Problem]:
    return []


_OF_TABLES = ("decision_maker", "scenarios", "biased_fairness", "flip_rate")
_OF_TEXTS = ("texts", "answers", "num_folds", "features", "num_features")
_OF_TWEETS = ("features", "num_features", "test_fraction")
_OF_PEOPLE = ("people", "imputers", "images", "base", "human_model", "tune")
_OF_HALFSPACES = ("num_examples", "num_test", "num_features", "input_law")
_IMAGES = Traits(num_classes=10)
_DIGITS = _IMAGES._replace(few=True)
_TABLE = Traits(num_classes=2, num_groups=2, hidden=True)
_TEXTS = Traits(num_classes=2, few=True)
_PEOPLE = Traits(num_classes=10, people=True)
# What a table may have; what it has is known when it is read.
_OWN_TABLE = Traits(num_classes=2, num_groups=2, few=True)
PROBLEMS = {
    "digits": Row(_DIGITS, images.load, images.specialist, ("images", "num_perfect")),
    "digits_panel": Row(
        _DIGITS._replace(num_experts=3), images.load, images.panel, ("images", "panel")
    ),
    "cifar10": Row(_IMAGES, images.load, images.specialist, ("images", "num_perfect")),
    "cifar10h": Row(
        _IMAGES,
        cifar10h.load,
        cifar10h.make,
        ("base", "crop_padding", "test_fraction"),
    ),
    "synthetic": Row(
        _TABLE._replace(law=True),
        decision_makers.load,
        decision_makers.make,
        (*_OF_TABLES, "num_examples"),
    ),
    "compas": Row(_TABLE, decision_makers.load, decision_makers.make, _OF_TABLES),
    "health": Row(_TABLE, decision_makers.load, decision_makers.make, _OF_TABLES),
    **{
        name: Row(
            _TEXTS._replace(num_experts=many, num_groups=groups, sparse=sparse),
            texts.load,
            texts.make,
            _OF_TEXTS,
        )
        for name, many, groups, sparse in (
            ("keswani_mturk", 170, 2, True),
            ("annwithattitudes", 265, 4, True),
            ("hs_brexit", 6, 1, False),
        )
    },
    **{
        f"{name}_one": Row(
            _TEXTS._replace(num_groups=groups),
            texts.load,
            texts.make,
            _OF_TEXTS,
        )
        for name, groups in (
            ("keswani_mturk", 2),
            ("annwithattitudes", 4),
            ("hs_brexit", 1),
        )
    },
    "hatespeech": Row(hatespeech.TRAITS, hatespeech.load, hatespeech.make, _OF_TWEETS),
    "hatespeech_panel": Row(
        hatespeech.TRAITS._replace(num_experts=len(hatespeech.PANEL)),
        hatespeech.load,
        hatespeech.make_panel,
        (*_OF_TWEETS, "panel_size"),
    ),
    **{
        name: Row(
            Traits(num_classes=2, law=True, few=True),
            halfspaces.load,
            halfspaces.make,
            _OF_HALFSPACES,
        )
        for name in halfspaces.LAWS
    },
    "digits_people": Row(
        _PEOPLE._replace(few=True), persons.prepare, persons.make, _OF_PEOPLE
    ),
    "cifar10_people": Row(_PEOPLE, persons.prepare, persons.make, _OF_PEOPLE),
    "keswani_mturk_people": Row(
        _PEOPLE._replace(num_classes=2, few=True),
        persons.prepare,
        persons.make,
        _OF_PEOPLE,
    ),
    "table": Row(
        _OWN_TABLE._replace(num_experts=2),
        own_table.load,
        own_table.make,
        own_table.FIELDS,
    ),
    "table_one": Row(
        _OWN_TABLE, own_table.load_one, own_table.make_one, own_table.FIELDS
    ),
    "trips": Row(Traits(num_classes=0, costs=True, people=True), _of_its_own, _nothing),
}
"""Problems by name."""
