"""Means with intervals, and paired comparisons, of what the runner has measured."""

from typing import Any, NamedTuple

import ml_collections
import numpy as np
import pandas as pd

from experiments import tables
from experiments.problem import Problem
from l2d_jax import intervals
from l2d_jax.intervals import Interval

PREFERENCES = ("fairness",)
"""Hyperparameters that are a preference: validation chooses the others at each value,
and systems are compared at the same."""
PARTIES = ("classifier", "expert")
"""Those who may answer alone: a team is compared with the better of them first."""
COMPARED = ("system_accuracy", "di", "human_model_accuracy", "human_model_nll")
"""Metrics in which methods are compared."""


_INTERVAL = ("n", "mean", "ci_low", "ci_high", "p_value")


class Summary(NamedTuple):
    """Tables of means.

    Attributes:
      summary: a row for each setting, split and metric: ``n`` runs that count,
        ``cases`` of the split, ``diverged`` runs that do not, ``mean``, ``ci_low``,
        ``ci_high`` and what the interval is ``over``.
      comparison: a row for each setting, method, other method and metric, on the test
        part: the ``mean`` difference, paired by seed and case, its interval, its
        ``p_value`` and ``p_holm``, corrected for the number of methods compared.
    """

    summary: pd.DataFrame
    comparison: pd.DataFrame


def make(
    config: ml_collections.ConfigDict,
    problem: Problem,
    table: pd.DataFrame,
    resampled: dict[str, np.ndarray] | None,
) -> Summary:
    """Means and comparisons of one problem.

    Args:
      config: of the experiment.
      problem: it.
      table: its rows, numbered from 0.
      resampled: metrics of the rows under each resample of the cases.
    """
    metrics = measured(table)
    settings = _settings(problem, table)
    values = table[metrics].to_numpy(float)
    draws = None
    if resampled is not None:
        size = (len(table), intervals.NUM_RESAMPLES)
        nothing = np.broadcast_to(np.float32(np.nan), size)
        draws = np.stack([resampled.get(name, nothing) for name in metrics], axis=1)
    per_seed = config.choose == "per_seed"
    rows = table[table.chosen] if per_seed else table
    hparams = [name for name in config.grid if not per_seed or name in PREFERENCES]
    keys = ["experiment", "problem", *problem.columns, "method", *settings, *hparams]
    keys.append("split")
    if not per_seed:
        keys.append("chosen")
    told, found = [], []
    for setting, group in rows.groupby(keys, dropna=False, sort=False):
        sound = group.index[~group.diverged]
        split = group.split.iloc[0]
        found.append(
            _interval(
                problem,
                values[sound],
                draws[sound] if draws is not None and split == "test" else None,
                _people(problem, table.loc[sound]),
            )
        )
        told.append((*setting, _cases(problem, split), int(group.diverged.sum())))
    summary = _tabulate([*keys, "cases", "diverged"], told, metrics, found)
    summary["over"] = problem.sampled
    order = ["n", "cases", "diverged", "mean", "ci_low", "ci_high", "over"]
    summary = summary[[*keys, "metric", *order]]
    compared = [name for name in COMPARED if name in metrics]
    columns = [metrics.index(name) for name in compared]
    comparison = _compare(
        config,
        problem,
        table,
        settings,
        compared,
        values[:, columns],
        None if draws is None else draws[:, columns],
    )
    return Summary(summary, comparison)


def _tabulate(
    names: list[str],
    told: list[tuple[Any, ...]],
    metrics: list[str],
    found: list[Interval],
) -> pd.DataFrame:
    """A row for each of what is told and each metric.

    Args:
      names: columns of what is told.
      told: values of these, of each of G.
      metrics: Q names.
      found: intervals of each of G, arrays ``[Q]``.
    """
    # One frame for all: thousands of small ones take minutes.
    table = pd.DataFrame(told, columns=names)
    table = table.loc[table.index.repeat(len(metrics))].reset_index(drop=True)
    table["metric"] = np.tile(metrics, len(told))
    columns = (np.concatenate(column) for column in zip(*found, strict=True))
    for name, column in zip(_INTERVAL, columns, strict=True):
        table[name] = column
    return table


def measured(table: pd.DataFrame) -> list[str]:
    """Columns of the results that are metrics: those behind ``diverged``."""
    after = table.columns[table.columns.get_loc("diverged") + 1 :]
    return [name for name in after if name not in ("chosen", "note")]


def _settings(problem: Problem, table: pd.DataFrame) -> list[str]:
    """Columns that tell what a mean is of: the team's, but who the person is."""
    teams = problem.teams(1)
    told = [name for name in teams.columns if name not in problem.unit_columns]
    return [name for name in told if name in table]


def _cases(problem: Problem, split: str) -> int:
    if split == "valid":
        return len(problem.split(0).valid)
    if problem.num_cases is not None:
        return problem.num_cases
    rows = problem.test_rows(0) if problem.test_rows else problem.test.labels
    return len(rows)


def _people(problem: Problem, rows: pd.DataFrame) -> np.ndarray | None:
    """Who each row is of, where the repetitions are people."""
    return rows.person.to_numpy() if problem.sampled == "people" else None


def _interval(
    problem: Problem,
    values: np.ndarray,
    draws: np.ndarray | None,
    people: np.ndarray | None,
) -> Interval:
    """Intervals of means over what a problem's repetitions are.

    Args:
      problem: it.
      values: of each row, ``[R, Q]``.
      draws: under resamples of the cases, ``[R, Q, NUM_RESAMPLES]``, or None.
      people: of whom each row is, ``[R]``; their rows are first averaged.
    """
    if problem.sampled == "splits":
        return intervals.split_interval(values, problem.test_to_train)
    if people is not None:
        values = pd.DataFrame(values).groupby(people, sort=False).mean().to_numpy()
        draws = None
    return intervals.mean_interval(values, draws)


def _compare(
    config: ml_collections.ConfigDict,
    problem: Problem,
    table: pd.DataFrame,
    settings: list[str],
    metrics: list[str],
    values: np.ndarray,
    draws: np.ndarray | None,
) -> pd.DataFrame:
    """Chosen systems against the better single party and against the reference."""
    preferences = [name for name in PREFERENCES if name in config.grid]
    chosen = table[table.chosen].copy()
    for name in preferences:
        # What has no such preference stands beside every one.
        chosen[name] = chosen[name].fillna(0.0)
    units = ["seed", *(name for name in problem.unit_columns if name in table)]
    told, found = [], []
    groups = [((), chosen)]
    if settings:
        groups = list(chosen.groupby(settings, dropna=False, sort=False))
    for setting, group in groups:
        test = group[(group.split == "test") & ~group.diverged]
        for method, against, other in _pairs(config, group):
            rows, base = test[test.method == method], test[test.method == other]
            for preference, ours in _by_preference(rows, preferences):
                theirs = _at_preference(base, preferences, preference)
                pairs = ours.assign(first=ours.index).merge(
                    theirs.assign(second=theirs.index)[[*units, "second"]], on=units
                )
                if pairs.empty:
                    continue
                first, second = pairs["first"].to_numpy(), pairs["second"].to_numpy()
                interval = _interval(
                    problem,
                    values[first] - values[second],
                    None if draws is None else draws[first] - draws[second],
                    _people(problem, pairs),
                )
                told.append((*setting, *preference, method, against, other))
                found.append(interval)
    names = [*settings, *preferences, "method", "against", "reference"]
    if not found:
        columns = ["problem", *problem.columns, *names, "metric", *_INTERVAL, "p_holm"]
        return pd.DataFrame(columns=columns)
    comparison = _tabulate(names, told, metrics, found)
    keys = [*settings, *preferences, "method", "against", "reference", "metric"]
    comparison = comparison[comparison.n > 0][[*keys, *_INTERVAL]]
    comparison = comparison.astype({"n": int}).reset_index(drop=True)
    for place, (name, value) in enumerate(
        {"problem": problem.name, **problem.columns}.items()
    ):
        comparison.insert(place, name, value)
    comparison["p_holm"] = np.nan
    family = [*settings, *preferences, "against", "reference", "metric"]
    known = comparison[comparison.p_value.notna()]
    for _, part in known.groupby(family, dropna=False, sort=False):
        comparison.loc[part.index, "p_holm"] = intervals.holm(part.p_value.to_numpy())
    return comparison


def _pairs(
    config: ml_collections.ConfigDict, group: pd.DataFrame
) -> list[tuple[str, str, str]]:
    """Method, what it is compared with, and the method that this is."""
    methods = list(group.method.unique())
    pairs = []
    parties = [name for name in PARTIES if name in methods]
    if parties:
        valid = group[(group.split == "valid") & group.method.isin(parties)]
        means = valid.groupby("method", sort=False).system_accuracy.mean()
        best = str(means.idxmax()) if means.notna().any() else parties[0]
        pairs += [(name, "best single party", best) for name in methods if name != best]
    for reference in config.references:
        if reference in methods:
            pairs += [
                (name, "reference", reference) for name in methods if name != reference
            ]
    return pairs


def _by_preference(
    rows: pd.DataFrame, preferences: list[str]
) -> list[tuple[tuple[Any, ...], pd.DataFrame]]:
    """Rows at each preference that they have."""
    if not preferences:
        return [((), rows)]
    return list(rows.groupby(preferences, dropna=False, sort=False))


def _at_preference(
    base: pd.DataFrame, preferences: list[str], value: tuple[Any, ...]
) -> pd.DataFrame:
    """What is compared with at a preference: itself there, or where it has none."""
    for name, wanted in zip(preferences, value, strict=True):
        at = base[base[name] == wanted]
        base = at if len(at) else base[base[name] == 0.0]
    return base


def describe(config: ml_collections.ConfigDict, problem: Problem, made: Summary) -> str:
    """System accuracy of the chosen systems as text, and the first comparison."""
    rows = made.summary
    rows = rows[(rows.split == "test") & (rows.metric == "system_accuracy")]
    if "chosen" in rows:
        rows = rows[rows.chosen]
    if "fairness" in rows:
        rows = rows[rows.fairness.isna() | (rows.fairness == 0)]
    settings = [name for name in _settings(problem, rows) if rows[name].notna().any()]
    cells = rows.assign(cell=tables.cells(rows))
    index = settings or ["problem"]
    table = cells.pivot_table(
        index="method", columns=index, values="cell", aggfunc="first", sort=False
    )
    lines = [
        f"{problem.name}: system accuracy, % on {rows.cases.max()} test cases, mean and"
        f" 95 % interval over {rows.n.max()} {problem.sampled}",
        table.to_string(),
    ]
    diverged = rows[rows.diverged > 0]
    for name, count in diverged.groupby("method", sort=False).diverged.sum().items():
        lines.append(f"{name}: {count} runs diverged and are in no mean")
    best = made.comparison
    if best.empty:
        return "\n".join(lines)
    best = best[
        (best.against == "best single party") & (best.metric == "system_accuracy")
    ]
    if "fairness" in best:
        best = best[best.fairness == 0]
    if len(best):
        shown = best[[*settings, "method", "reference", "n"]].copy()
        for name in ("mean", "ci_low", "ci_high"):
            shown[name] = (100 * best[name]).map("{:+.1f}".format)
        shown["p_holm"] = best.p_holm.map("{:.2g}".format)
        lines.append(
            "\nAgainst the best single party, points, paired by seed and case; p"
            f" corrected for the number of methods\n{shown.to_string(index=False)}"
        )
    return "\n".join(lines)
