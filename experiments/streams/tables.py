"""Tables of streams: the end of each, what happened along it, and who did the work."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from experiments import tables

METRICS = (
    "accuracy",
    "first_accuracy",
    "roc_auc",
    "gap",
    "regret",
    "top_workload",
    "num_working",
)
"""Of the held-out tasks: the committee's accuracy, that of the annotator of the largest
weight alone, the area under the ROC curve of the votes, the gap between categories,
what accuracy lacks to the best annotator of each task, the largest share of the votes
that one annotator has, and the effective number of annotators (the exponential of the
entropy of the workload)."""
_ALONG = ("accuracy", "first_accuracy", "roc_auc", "gap", "regret")


class Tables(NamedTuple):
    """Tables of one data set.

    Attributes:
      results: a row for each run: held-out tasks after the whole stream.
      curves: means over seeds with intervals, along the stream, of the stream's own
        committees and of held-out tasks.
      workload: mean share of the held-out votes of each annotator.
    """

    results: pd.DataFrame
    curves: pd.DataFrame
    workload: pd.DataFrame


def tabulate(
    dataset: str,
    settings: Sequence[Mapping[str, object]],
    measures: Mapping[str, Mapping[str, np.ndarray]],
    category_names: Sequence[str],
    pool_names: Sequence[str],
    interval: tables.Interval = tables.mean_interval,
) -> Tables:
    """Tables of runs.

    Args:
      dataset: its name.
      settings: of each run: ``method``, ``seed`` and others.
      measures: of `streams.run`, ``[R, W, ...]``.
      category_names: ``[Z]``.
      pool_names: ``[G]``.
      interval: of means over seeds.
    """
    base = pd.DataFrame(list(settings))
    base.insert(0, "experiment", "allocation")
    base.insert(1, "dataset", dataset)
    keys = [name for name in base.columns if name != "seed"]
    last = {name: values[:, -1] for name, values in measures["test"].items()}
    results = base.assign(split="test")
    results = pd.concat(
        [results, _columns(last, category_names, pool_names)], axis=1
    ).assign(**_spread(last["workload"]))
    return Tables(
        results,
        _curves(base, keys, measures, category_names, pool_names, interval),
        _workload(base, keys, last["workload"]),
    )


def join(parts: Sequence[Tables]) -> Tables:
    """Tables of several data sets or methods as one."""
    return Tables(
        *(pd.concat(column, ignore_index=True) for column in zip(*parts, strict=True))
    )


def _columns(
    values: Mapping[str, np.ndarray],
    category_names: Sequence[str],
    pool_names: Sequence[str],
) -> pd.DataFrame:
    """A column for each scalar, and for each category and pool; workload apart."""
    columns = {}
    for name, array in values.items():
        if name == "workload":
            continue
        if name == "pool_share":
            endings = pool_names
        elif name.endswith("_by_category"):
            name, endings = name.removesuffix("_by_category"), category_names
        else:
            columns[name] = array
            continue
        for place, ending in enumerate(endings):
            columns[f"{name}_{ending}"] = array[:, place]
    return pd.DataFrame(columns)


def _spread(workload: np.ndarray) -> dict[str, np.ndarray]:
    """Largest share and effective number of annotators, from shares ``[R, M]``."""
    logs = np.log(np.where(workload > 0, workload, 1.0))
    return {
        "top_workload": workload.max(axis=1),
        "num_working": np.exp(-np.sum(workload * logs, axis=1)),
    }


def _curves(
    base: pd.DataFrame,
    keys: Sequence[str],
    measures: Mapping[str, Mapping[str, np.ndarray]],
    category_names: Sequence[str],
    pool_names: Sequence[str],
    interval: tables.Interval,
) -> pd.DataFrame:
    parts = []
    for split, values in measures.items():
        shown = {n: a for n, a in values.items() if n in (*_ALONG, "pool_share")}
        for window in range(values["accuracy"].shape[1]):
            at = {name: array[:, window] for name, array in shown.items()}
            columns = _columns(at, category_names, pool_names)
            rows = pd.concat([base, columns], axis=1)
            settings = [*keys, "split", "window"]
            rows = rows.assign(split=split, window=window + 1)
            summary = tables.summarize(rows, settings, columns.columns, interval)
            parts.append(summary)
    return pd.concat(parts, ignore_index=True)


def _workload(
    base: pd.DataFrame, keys: Sequence[str], workload: np.ndarray
) -> pd.DataFrame:
    rows = pd.concat([base[keys], pd.DataFrame(workload)], axis=1)
    means = rows.groupby(list(keys), dropna=False, sort=False).mean().reset_index()
    return means.melt(id_vars=list(keys), var_name="annotator", value_name="share")
