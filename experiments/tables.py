"""Tidy tables of results: one row per run and split, and their means with intervals."""

import csv
import hashlib
import json
import pathlib
import warnings
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from scipy import special

from experiments.runtime.errors import ConfigError
from experiments.runtime.workdir import read_origin, replacing, write_text
from l2d_jax.engine import processes
from l2d_jax.table import cells as csv_cells

NUM_RESAMPLES = 2000
"""Of a bootstrap interval."""
Interval: TypeAlias = Callable[[np.ndarray], tuple[float, float]]
"""Ends of the 95 % interval of a mean of values ``[n]``, NaN for fewer than two."""
SEAL = "tables.json"
"""What a finished program says of its tables; written last."""


def write_csv(table: pd.DataFrame, path: pathlib.Path) -> None:
    """Write a table in one move, floats to their last digit.

    A text that a spreadsheet would run, such as a class that is named ``=1+1``, is
    written with an apostrophe before it; `read_csv` takes it off again.

    Where there are several processes the first does, and all wait until it is there.

    Raises:
      OSError: it cannot be written; it names ``path``, which stays as it was.
    """

    def write() -> None:
        with replacing(path) as temporary:
            marked = csv_cells.guard_table(table)
            quoting = csv_cells.quoting(marked)
            marked.to_csv(temporary, index=False, quoting=quoting)

    processes.from_first(write)


def read_csv(path: pathlib.Path, **options: Any) -> pd.DataFrame:
    """A table of `write_csv`.

    Args:
      path: of the table.
      options: of `pandas.read_csv`.
    """
    return csv_cells.unguard_table(pd.read_csv(path, low_memory=False, **options))


def seal(workdir: pathlib.Path) -> None:
    """Write of every table in a folder how many rows it has, and its checksum.

    With them goes what the tables are made of, see `experiments.runtime.workdir`. Where
    there are several processes the first writes.
    """

    def write() -> None:
        told = {path.name: _describe(path) for path in sorted(workdir.glob("*.csv"))}
        sealed = {"tables": told, "origin": read_origin(workdir)}
        write_text(workdir / SEAL, json.dumps(sealed, indent=2) + "\n")

    processes.from_first(write)


def is_sealed(workdir: pathlib.Path) -> bool:
    """Whether a program has finished the tables of a folder."""
    return (workdir / SEAL).exists()


def read_seal(workdir: pathlib.Path) -> dict[str, dict]:
    """The origin of a folder's tables, and of each its rows and checksum.

    Raises:
      ConfigError: the tables were never finished, or it cannot be read.
    """
    path = workdir / SEAL
    try:
        found = json.loads(path.read_text())
        return {name: dict(found[name]) for name in ("origin", "tables")}
    except FileNotFoundError as error:
        raise ConfigError(
            f"{workdir}: no {SEAL}, which is written last, so its tables may be of an"
            " unfinished run; run the same command again"
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{path}: cannot be read ({error}); run the same command again"
        ) from error


def check_seal(path: pathlib.Path) -> None:
    """See that a table is as its program finished it.

    Raises:
      ConfigError: it was cut short or changed, or never finished.
    """
    told = read_seal(path.parent)["tables"].get(path.name)
    if told is None:
        raise ConfigError(f"{path}: {SEAL} beside it does not know this table")
    if not path.exists():
        raise ConfigError(
            f"{path}: is gone, and had {told['rows']} rows; run the same command again"
        )
    found = _describe(path)
    if found != told:
        raise ConfigError(
            f"{path}: {found['rows']} rows with sha256 {found['sha256'][:12]}, written"
            f" were {told['rows']} with {told['sha256'][:12]}; run the same command"
            " again"
        )


def _describe(path: pathlib.Path) -> dict[str, Any]:
    content = path.read_bytes()
    # A cell may hold a line break; what is no text any more has no rows either.
    rows = csv.reader(content.decode(errors="replace").splitlines(keepends=True))
    return {
        "rows": max(sum(1 for _ in rows) - 1, 0),
        "sha256": hashlib.sha256(content).hexdigest(),
    }


def mean_interval(values: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """Student's t interval of a mean; NaN at both ends for fewer than two values.

    Args:
      values: independent repetitions, float ``[n]``, without NaN.
      level: confidence in (0, 1).
    """
    if len(values) < 2:
        return float("nan"), float("nan")
    # scipy.stats would give the same, and take a second to import.
    quantile = special.stdtrit(len(values) - 1, (1 + level) / 2)
    half = float(quantile * np.std(values, ddof=1) / np.sqrt(len(values)))
    mean = float(np.mean(values))
    return mean - half, mean + half


def resampled_interval(
    values: np.ndarray, test_to_train: float, level: float = 0.95
) -> tuple[float, float]:
    """Corrected t interval of a mean over overlapping splits of one data set.

    Splits of repeated cross-validation share most of their training rows, so Student's
    interval is too narrow; the variance of the mean is taken to be ``1 / n +
    test_to_train`` of that of the values. NaN at both ends for fewer than two values.

    Args:
      values: one for each split, float ``[n]``, without NaN.
      test_to_train: size of a test part over that of a training part, >= 0; 1/4 for
        five folds. At 0 it is `mean_interval`.
      level: confidence in (0, 1).

    References:
      Nadeau and Bengio, "Inference for the Generalization Error", 2003, Section 3.
    """
    low, high = mean_interval(values, level)
    wider = float(np.sqrt(1.0 + len(values) * test_to_train))
    middle, half = (low + high) / 2, (high - low) / 2
    return middle - half * wider, middle + half * wider


def bootstrap_interval(
    statistic: Callable[..., np.ndarray], *columns: np.ndarray
) -> tuple[float, float, float]:
    """A statistic of independent rows and its 95 % percentile bootstrap interval.

    The resamples are the same at every call; NaN at both ends for fewer than two rows.

    Args:
      statistic: ``(*columns, axis) -> array``, along rows on that axis.
      columns: float ``[n]`` each, resampled together.

    Returns:
      The statistic, and the ends of the interval.
    """
    from scipy import stats

    value = float(statistic(*columns, axis=-1))
    if len(columns[0]) < 2 or np.isnan(value):
        return value, float("nan"), float("nan")
    with warnings.catch_warnings():
        # Where no resample differs the interval is a point, as it should be.
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        interval = stats.bootstrap(
            columns,
            statistic,
            paired=True,
            vectorized=True,
            n_resamples=NUM_RESAMPLES,
            method="percentile",
            rng=np.random.default_rng(0),
        ).confidence_interval
    return value, float(interval.low), float(interval.high)


def summarize(
    results: pd.DataFrame,
    settings: Sequence[str],
    metrics: Sequence[str],
    interval: Interval = mean_interval,
) -> pd.DataFrame:
    """Mean and 95 % interval over seeds, one row for each setting and metric.

    Values that are NaN (an accuracy over no examples) are left out and ``n`` counts the
    others. So are runs that diverged.

    Args:
      results: one row per run and split; ``diverged`` says which are in no mean.
      settings: columns that name a setting; NaN in one is a value like any other.
      metrics: columns to average.
      interval: of the means.

    Returns:
      Columns ``*settings, metric, n, mean, ci_low, ci_high`` and, where the results say
      it, ``diverged``, how many runs have.
    """
    rows = []
    told = "diverged" in results
    groups = results.groupby(list(settings), dropna=False, sort=False)
    for setting, group in groups:
        bad = group.diverged.to_numpy(bool) if told else np.zeros(len(group), bool)
        for metric in metrics:
            values = group[metric][~bad].dropna().to_numpy(float)
            low, high = interval(values)
            mean = float(np.mean(values)) if len(values) else float("nan")
            row = (*setting, metric, len(values), mean, low, high, int(bad.sum()))
            rows.append(row)
    names = ["metric", "n", "mean", "ci_low", "ci_high", "diverged"]
    summary = pd.DataFrame(rows, columns=[*settings, *names])
    return summary if told else summary.drop(columns="diverged")


def describe_diverged(summary: pd.DataFrame, keys: Sequence[str]) -> str:
    """A line for each setting of which runs diverged; empty where none has."""
    if "diverged" not in summary:
        return ""
    rows = summary[summary.diverged > 0]
    counts = rows.groupby([*keys, "metric"], sort=False).diverged.sum()
    counts = counts.groupby(level=[*keys], sort=False).max()
    return "".join(
        f"\n{', '.join(map(str, key))}: {count} runs diverged and are in no mean"
        for key, count in counts.items()
    )


def cells(summary: pd.DataFrame) -> pd.Series:
    """Means as text, in %, each with half its 95 % interval where there is one."""
    half = (summary.ci_high - summary["mean"]).map(
        lambda value: "" if np.isnan(value) else f" ± {100 * value:.1f}"
    )
    return summary["mean"].map(lambda mean: f"{100 * mean:z.1f}") + half


def pivot(
    summary: pd.DataFrame, index: str, metric: str, repetitions: str = "seeds"
) -> str:
    """Means of a metric on the test set as text, one column for each method.

    Each cell is the mean and, where there are several seeds, half the width of its 95 %
    interval.
    """
    rows = summary[(summary.split == "test") & (summary.metric == metric)]
    table = rows.assign(cell=cells(rows)).pivot(
        index=index, columns="method", values="cell"
    )
    title = (
        f"{metric}, % on the test set, mean ± 95 % interval over {rows.n.max()}"
        f" {repetitions}"
    )
    return f"{title}\n{table.to_string()}"
