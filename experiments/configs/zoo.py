r"""The zoo on what needs no download: every method on digits and on a synthetic table.

  python -m experiments.zoo --config=experiments/configs/zoo.py --workdir=runs/zoo

Default: specialists on k = 2, 5 and 8 of the ten digits, a panel of three of them, and
the synthetic decision-makers; all methods, each by its own rule and with a threshold
that validation chooses, over the same grids. ``:smoke`` is fewer seeds and epochs.

What the papers leave open, and these fields decide: the hyperparameters of every loss
(``mix``, ``q``, ``expert_weight``, ``budget``, ``price``) have the same number of
values at most, and validation chooses among them for each seed, the first of equals;
two-stage methods see the answers of the classifier to its own training examples; RL2D
takes half of its steps at q = 0 first (``warm``), without which it passes all on.
"""

import ml_collections

from experiments.configs import digits_grid, synthetic

METHODS = ("all", "tuned")
REFERENCES = ("deferral", "confidence")
GRID = {
    "alpha": (1.0,),
    "mix": (1.0, 0.5),
    "q": (0.7, 1.0),
    "expert_weight": (1.0,),
    "budget": (0.2, 0.5),
    "price": (0.0,),
    "smoothing": (0.1,),
}
"""Of the methods, beside the optimizer's; the same on every problem."""


def compare(part: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
    """A config with every method, the zoo's hyperparameters and its references."""
    part.methods = METHODS
    part.references = REFERENCES
    part.choose = "per_seed"
    part.grid.update(GRID)
    return part


def get_config(scale: str = "default") -> ml_collections.ConfigDict:
    """Settings at a scale: ``smoke`` (seconds of training) or default (minutes)."""
    if scale not in ("smoke", "default"):
        raise ValueError(f"scale must be smoke or left out, got {scale!r}")
    config = ml_collections.ConfigDict()
    config.experiment = "zoo"
    digits = digits_grid.get_config(scale)
    panel = digits_grid.get_config("panel" if scale == "default" else "panel_smoke")
    table = synthetic.get_config(scale)
    table.scenarios = ("inconsistent",)
    config.parts = {
        "digits": compare(digits),
        "panel": compare(panel),
        "synthetic": compare(table),
    }
    table.grid.fairness = (0.0,)
    return config
