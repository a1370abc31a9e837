"""Figures of the image experiment, drawn from its tables alone."""

import pathlib

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from experiments import tables
from experiments.figures import styles
from experiments.figures.save import save
from experiments.tables import mean_interval


def draw(workdir: pathlib.Path) -> None:
    """Draw every figure of a work folder into its ``figures``."""
    folder = workdir / "figures"
    folder.mkdir(exist_ok=True)
    summary = tables.read_csv(workdir / "summary.csv")
    curves = tables.read_csv(workdir / "curves.csv")
    save(draw_accuracy(summary), folder / "system_accuracy.png")
    save(draw_curves(curves), folder / "coverage_accuracy.png")


def draw_accuracy(summary: pd.DataFrame) -> plt.Figure:
    """System accuracy against the expert's skill, with 95 % bands.

    The second panel shows the same where the systems are.
    """
    rows = summary[(summary.split == "test") & (summary.metric == "system_accuracy")]
    figure, panels = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for axes in panels:
        _draw_accuracy(axes, rows)
    systems = rows[rows.method != "expert"].dropna(subset=["mean"])
    if not systems.empty:
        low, high = 100 * systems["mean"].min(), 100 * systems["mean"].max()
        margin = 0.15 * (high - low) + 0.5
        panels[1].set_ylim(low - margin, high + margin)
    panels[0].set_ylabel("system accuracy on the test set, %")
    panels[0].legend()
    figure.suptitle(
        f"{rows.problem.iloc[0]}: mean and 95 % interval over {rows.n.max()}"
        f" {rows.over.iloc[0]}"
    )
    return figure


def _draw_accuracy(axes: plt.Axes, rows: pd.DataFrame) -> None:
    for method, (label, color, line) in styles.IMAGES.items():
        part = rows[rows.method == method].sort_values("num_perfect")
        if part.empty:
            continue
        x = part.num_perfect
        axes.plot(x, 100 * part["mean"], line, color=color, marker=".", label=label)
        low, high = 100 * part.ci_low, 100 * part.ci_high
        axes.fill_between(x, low, high, color=color, alpha=0.2, linewidth=0)
    axes.set_xlabel("k: classes on which the expert is perfect (a guess elsewhere)")
    axes.grid(alpha=0.3)


def draw_curves(curves: pd.DataFrame) -> plt.Figure:
    """Coverage-accuracy curves for a few experts, with the best possible rejector."""
    experts = np.unique(curves.num_perfect)
    shown = experts[np.unique(np.linspace(0, len(experts) - 1, 4).round().astype(int))]
    figure, panels = plt.subplots(
        1,
        len(shown),
        figsize=(3.2 * len(shown), 3.4),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for axes, expert in zip(panels[0], shown, strict=True):
        rows = curves[curves.num_perfect == expert]
        for method in ("deferral", "confidence"):
            part = rows[rows.method == method]
            if part.empty:
                continue
            label, color, line = styles.IMAGES[method]
            _band(axes, part, "system_accuracy", color, line, label)
            if method == "deferral":
                name = "best rejector, same classifier"
                _band(axes, part, "best_system_accuracy", "0.5", ":", name)
        axes.set_title(f"k = {expert:g}")
        axes.set_xlabel("coverage: share the classifier keeps")
        axes.grid(alpha=0.3)
    panels[0][0].set_ylabel("system accuracy on the test set, %")
    seeds = curves.seed.nunique()
    figure.suptitle(
        f"{curves.problem.iloc[0]}: mean and 95 % interval over {seeds} seeds"
    )
    if panels[0][0].lines:
        panels[0][0].legend(fontsize="small")
    return figure


def _band(
    axes: plt.Axes,
    rows: pd.DataFrame,
    column: str,
    color: str,
    line: str,
    label: str,
) -> None:
    table = rows.pivot(index="coverage", columns="seed", values=column)
    mean = table.mean(axis=1)
    # A coverage at which no seed has a value stays a gap in the line.
    bounds = [mean_interval(row.dropna().to_numpy()) for _, row in table.iterrows()]
    low, high = np.array(bounds).T
    axes.plot(table.index, 100 * mean, line, color=color, label=label)
    axes.fill_between(
        table.index, 100 * low, 100 * high, color=color, alpha=0.2, linewidth=0
    )
