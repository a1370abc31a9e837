"""Pareto fronts of accuracy and unfairness, over the settings of a method."""

import numpy as np
import pandas as pd

SETTING = ["problem", "scenario", "method", "cost", "fairness"]
MEDIANS = ("system_accuracy", "di", "deferral_rate", "min_subgroup_accuracy")


def pareto_front(accuracy: np.ndarray, disparity: np.ndarray) -> np.ndarray:
    """Points that no other dominates, by ascending disparity.

    One dominates another if it is at least as accurate and at most as disparate, and
    not equal in both. Of equal points the first is kept; a NaN is never on the front.

    Args:
      accuracy: float ``[P]``; higher is better.
      disparity: float ``[P]``; lower is better.

    Returns:
      Indices, int.
    """
    order = np.lexsort((-accuracy, disparity))
    order = order[~np.isnan(accuracy[order]) & ~np.isnan(disparity[order])]
    before = np.maximum.accumulate(np.append(-np.inf, accuracy[order]))[:-1]
    return order[accuracy[order] > before]


def medians(results: pd.DataFrame) -> pd.DataFrame:
    """Medians over seeds on the test part, one row for each setting.

    Returns:
      Columns ``problem, scenario, method, cost, fairness, n``, and those of `MEDIANS`.
    """
    test = results[results.split == "test"]
    groups = test.groupby(SETTING, dropna=False, sort=False)
    table = groups[[*MEDIANS]].median()
    table.insert(0, "n", groups.size())
    return table.reset_index()


def front_of(points: pd.DataFrame) -> pd.DataFrame:
    """The rows of one method's settings that are on its front, by ascending DI."""
    return points.iloc[
        pareto_front(points.system_accuracy.to_numpy(), points.di.to_numpy())
    ]


def make_fronts(results: pd.DataFrame) -> pd.DataFrame:
    """Fronts of the medians over seeds on the test part, of each method and scenario.

    Returns:
      The rows of `medians` that are on them, by ascending DI.
    """
    groups = medians(results).groupby(SETTING[:3], sort=False)
    return pd.concat([front_of(part) for _, part in groups], ignore_index=True)
