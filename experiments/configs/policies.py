r"""What is decided after training: the same policies behind several methods.

  python -m experiments.zoo --config=experiments/configs/policies.py \
      --workdir=runs/policies

Default: the inconsistent decision-maker of COMPAS, and a panel of three specialists on
digits. Each method decides by its own rule, with the threshold of the best team, and
where no more than a fifth is deferred, of a batch or of a stream; on COMPAS besides
with thresholds per group that differ by at most .02 in equalized odds on validation
cases, on digits where each expert has time for a tenth of the images. ``:smoke`` is
seconds of training.

Ours: the papers leave what is asked of a team after training to its user. Budgets,
shares and the tolerance are examples, set in ``policy``.
"""

import ml_collections

from experiments.configs import compas_grid, digits_grid
from experiments.configs.zoo import GRID


def with_policies(
    part: ml_collections.ConfigDict, methods: tuple[str, ...], policies: tuple[str, ...]
) -> ml_collections.ConfigDict:
    """A config of some methods, each alone and with each policy."""
    followed = [f"{name}_{policy}" for name in methods for policy in policies]
    part.methods = (*methods, *followed, "classifier", "expert", "oracle")
    part.references = ("classifier",)
    part.choose = "per_seed"
    part.grid.update(GRID)
    return part


def get_config(scale: str = "default") -> ml_collections.ConfigDict:
    """Settings at a scale: ``smoke`` (seconds of training) or default (minutes)."""
    if scale not in ("smoke", "default"):
        raise ValueError(f"scale must be smoke or left out, got {scale!r}")
    config = ml_collections.ConfigDict()
    config.experiment = "zoo"
    table = with_policies(
        compas_grid.get_config(scale),
        ("deferral", "one_vs_all", "confidence", "mixture"),
        ("tuned", "budget", "stream", "fair", "fair_budget"),
    )
    table.scenarios = ("inconsistent",)
    table.grid.fairness = (0.0,)
    table.grid.cost = (0.0, 0.1, 0.3)
    panel = with_policies(
        digits_grid.get_config("panel" if scale == "default" else "panel_smoke"),
        ("one_vs_all", "multi_expert", "confidence"),
        ("tuned", "budget", "stream", "capacity", "prices"),
    )
    config.parts = {"compas": table, "panel": panel}
    return config
