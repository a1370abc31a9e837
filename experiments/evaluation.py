"""From decisions to rows of the results table and coverage-accuracy curves."""

import jax
import numpy as np
import pandas as pd

from l2d_jax import metrics
from l2d_jax.engine import chunks, placement
from l2d_jax.types import Array, Decision, PyTree, Sweep

METRICS = (
    "system_accuracy",
    "coverage",
    "deferral_rate",
    "classifier_accuracy",
    "classifier_accuracy_kept",
    "expert_accuracy",
    "expert_accuracy_deferred",
    "expert_calibration_error",
    "coverage_accuracy_area",
    "best_coverage_accuracy_area",
)
COVERAGES = np.linspace(0.0, 1.0, 21)


def _measure(
    run: tuple[Decision, jax.Array, jax.Array], shared: tuple[()]
) -> dict[str, Array]:
    del shared
    decision, labels, expert_labels = run
    measured = metrics.team_metrics(decision, labels, expert_labels)
    right = (decision.prediction == labels, expert_labels == labels)
    curve = metrics.coverage_accuracy_curve(decision.defer_score, *right, COVERAGES)
    best = metrics.best_coverage_accuracy_curve(*right, COVERAGES)
    measured["coverage_accuracy_area"] = metrics.area_under_curve(COVERAGES, curve)
    measured["best_coverage_accuracy_area"] = metrics.area_under_curve(COVERAGES, best)
    return measured | {"curve": curve, "best_curve": best}


def measure(
    keys: dict[str, str],
    sweep: Sweep,
    hparam_names: tuple[str, ...],
    info: dict[str, np.ndarray],
    decision: Decision,
    labels: np.ndarray,
    expert_labels: np.ndarray,
    *,
    where: placement.Placement,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows of the results table, and of the table of curves.

    Args:
      keys: columns that are the same in all rows, ``split`` among them.
      sweep: R runs.
      hparam_names: columns of hyperparameters; NaN where the sweep has none of a name.
      info: further columns, each ``[R]``.
      decision: of the runs, every field ``[R, B, ...]``.
      labels: int ``[R, B]``.
      expert_labels: int ``[R, B]``.
      where: placement of the runs.

    Returns:
      A table of R rows, and one of R rows for each coverage in `COVERAGES`.
    """
    runs = (decision, labels, expert_labels)
    measured = chunks.map_runs(_measure, runs, (), where=where)
    curve, best_curve = measured.pop("curve"), measured.pop("best_curve")
    hparams = {
        # Through text, so that the float32 that was computed with reads as it was
        # typed.
        name: [float(str(value)) for value in sweep.hparams[name]]
        if name in sweep.hparams
        else np.full(len(sweep.seeds), np.nan)
        for name in hparam_names
    }
    split = keys["split"]
    constant = {name: value for name, value in keys.items() if name != "split"}
    names = {**constant, "seed": sweep.seeds, **hparams, "split": split}
    table = pd.DataFrame(
        {**names, **info, **{name: measured[name] for name in METRICS}}
    )
    points = pd.DataFrame(names)
    points = points.loc[points.index.repeat(len(COVERAGES))].reset_index(drop=True)
    points["coverage"] = np.tile(COVERAGES, len(table))
    points["system_accuracy"] = curve.ravel()
    points["best_system_accuracy"] = best_curve.ravel()
    return table, points


def take_runs(tree: PyTree, runs: np.ndarray) -> PyTree:
    """The given runs, int ``[P]``, of a pytree with a leading run axis."""
    return jax.tree.map(lambda leaf: np.asarray(leaf)[runs], tree)
