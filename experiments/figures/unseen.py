"""Figures of the experiment on people never seen, drawn from its tables alone."""

import pathlib

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from experiments import tables
from experiments.figures import styles
from experiments.figures.save import save

PANELS = {
    "system_accuracy": ("system accuracy, %", 100),
    "human_model_nll": ("log loss of P(right), nats; less is better", 1),
    "expert_calibration_error": ("calibration error of P(right)", 1),
}
"""Metrics that are drawn: the title, and the factor to its unit."""


def draw(workdir: pathlib.Path) -> None:
    """Draw every figure of a work folder into its ``figures``.

    They compare imputers: of several methods the first is drawn.
    """
    folder = workdir / "figures"
    folder.mkdir(exist_ok=True)
    summary = tables.read_csv(workdir / "summary.csv")
    differences = tables.read_csv(workdir / "differences.csv")
    for source in summary.people.unique():
        figure = draw_curves(
            summary[(summary.people == source) & (summary.split == "test")],
            differences[differences.people == source],
        )
        save(figure, folder / f"{source}.png")


def draw_curves(summary: pd.DataFrame, differences: pd.DataFrame) -> plt.Figure:
    """Against the number of answers: the means above, differences below."""
    method = summary.method.iloc[0]
    figure, panels = plt.subplots(
        2, len(PANELS), figsize=(13, 7), sharex=True, layout="constrained"
    )
    people = summary.groupby("num_answers").n.max()
    numbers = people.index.to_numpy()
    differences = differences[differences.method == method]
    for column, (metric, (title, factor)) in zip(panels.T, PANELS.items(), strict=True):
        above, below = column
        rows = summary[summary.metric == metric]
        _lines(above, rows[rows.method == method], numbers, factor)
        _lines(below, differences[differences.metric == metric], numbers, factor)
        below.axhline(0.0, color="k", linewidth=1)
        above.set_title(title)
        for axes in column:
            axes.grid(alpha=0.3)
        below.set_xticks(
            range(len(numbers)),
            [f"{number}\nn = {count}" for number, count in people.items()],
        )
        below.set_xlabel("known answers of the new person; n people")
    _draw_alone(panels[0, 0], summary[summary.metric == "system_accuracy"], numbers)
    panels[0, 0].set_ylabel("mean")
    panels[1, 0].set_ylabel("difference to Beta counts, paired by person")
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside right center")
    name = summary.problem.iloc[0]
    figure.suptitle(f"{name}: mean and 95 % interval over people new to the models")
    return figure


def _draw_alone(axes: plt.Axes, rows: pd.DataFrame, numbers: np.ndarray) -> None:
    """Who answers alone; the worse of them is said, where it is too far below."""
    low, high = axes.get_ylim()
    means = []
    for name, (label, color, line) in styles.ALONE.items():
        part = rows[rows.method == name].drop_duplicates("num_answers")
        if len(part):
            means.append(100 * part["mean"].iloc[0])
            label = f"{label}, {means[-1]:.1f} %"
            _line(axes, part, numbers, 100, (label, color, line))
    if means:
        margin = 0.05 * (high - low)
        axes.set_ylim(min(low, max(means) - margin), max(high, max(means) + margin))


def _lines(
    axes: plt.Axes, rows: pd.DataFrame, numbers: np.ndarray, factor: float
) -> None:
    for imputer, style in styles.UNSEEN.items():
        _line(axes, rows[rows.imputer == imputer], numbers, factor, style)


def _line(
    axes: plt.Axes,
    part: pd.DataFrame,
    numbers: np.ndarray,
    factor: float,
    style: tuple[str, str, str],
) -> None:
    label, color, line = style
    part = part[part["mean"].notna()].sort_values("num_answers")
    if part.empty:
        return
    x = np.searchsorted(numbers, part.num_answers)
    axes.plot(x, factor * part["mean"], line, color=color, marker=".", label=label)
    low, high = factor * part.ci_low, factor * part.ci_high
    axes.fill_between(x, low, high, color=color, alpha=0.12, linewidth=0)
