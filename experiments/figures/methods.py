"""Figures of any experiment that learns to defer, drawn from its tables alone."""

import pathlib

import matplotlib.pyplot as plt
import pandas as pd

from experiments import tables
from experiments.figures.save import save
from experiments.methods import METHODS


def draw(workdir: pathlib.Path) -> None:
    """Draw every figure of a work folder into its ``figures``."""
    folder = workdir / "figures"
    folder.mkdir(exist_ok=True)
    summary = tables.read_csv(workdir / "summary.csv")
    save(draw_accuracy(summary), folder / "system_accuracy.png")


def draw_accuracy(summary: pd.DataFrame) -> plt.Figure:
    """System accuracy of the chosen systems, a row a method and a panel a setting."""
    rows = summary[(summary.split == "test") & (summary.metric == "system_accuracy")]
    if "chosen" in rows:
        rows = rows[rows.chosen]
    if "fairness" in rows:
        rows = rows[rows.fairness.isna() | (rows.fairness == 0)]
    settings = [name for name in ("scenario", "num_perfect", "imputer") if name in rows]
    groups = [("", rows)]
    if settings:
        groups = list(rows.groupby(settings[0], sort=False, dropna=False))
    methods = [name for name in METHODS if name in set(rows.method)][::-1]
    figure, panels = plt.subplots(
        1,
        len(groups),
        figsize=(2.0 + 3.2 * len(groups), 1.2 + 0.32 * len(methods)),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for axes, (name, part) in zip(panels[0], groups, strict=True):
        part = part.drop_duplicates("method").set_index("method").reindex(methods)
        places = range(len(methods))
        low, high = part["mean"] - part.ci_low, part.ci_high - part["mean"]
        axes.errorbar(
            100 * part["mean"], places, xerr=[100 * low, 100 * high], fmt="o", capsize=2
        )
        axes.set_title(f"{settings[0]} {name}" if settings else "")
        axes.set_xlabel("system accuracy, %")
        axes.grid(alpha=0.3)
    panels[0][0].set_yticks(range(len(methods)), [METHODS[m].label for m in methods])
    figure.suptitle(
        # Two lines, as one panel is too narrow for one.
        f"{rows.problem.iloc[0]}: {rows.cases.max()} test cases\n"
        f"mean and 95 % interval over {rows.n.max()} {rows.over.iloc[0]}"
    )
    return figure
