"""The problems that methods are compared on, by name."""

import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import ml_collections

from experiments import decision_makers, images
from experiments.problem import Problem, Traits


class Row(NamedTuple):
    """A problem before it is loaded.

    Attributes:
      traits: what it has; the number of experts of a panel is its config's.
      prepare: reads what it is made of, from the config; raises for what the user can
        mend.
      make: ``(config, prepared, workdir, stop) -> problems``, most often one. Several
        share a config and a table.
    """

    traits: Traits
    prepare: Callable[[ml_collections.ConfigDict], Any]
    make: Callable[
        [ml_collections.ConfigDict, Any, pathlib.Path, Callable[[], bool]],
        list[Problem],
    ]


_IMAGES = Traits(num_classes=10)
_TABLE = Traits(num_classes=2, num_groups=2, hidden=True)
PROBLEMS = {
    "digits": Row(_IMAGES, images.load, images.specialist),
    "digits_panel": Row(_IMAGES._replace(num_experts=3), images.load, images.panel),
    "cifar10": Row(_IMAGES, images.load, images.specialist),
    "synthetic": Row(
        _TABLE._replace(law=True), decision_makers.load, decision_makers.make
    ),
    "compas": Row(_TABLE, decision_makers.load, decision_makers.make),
    "health": Row(_TABLE, decision_makers.load, decision_makers.make),
}
"""Problems by name."""
