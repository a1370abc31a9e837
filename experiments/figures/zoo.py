"""Figures of the zoo: methods over problems, drawn from its tables alone."""

import pathlib

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from experiments import tables
from experiments.figures.save import save
from experiments.methods import METHODS

# Columns that tell the settings of a problem apart, where it has several.
_SETTINGS = ("num_perfect", "scenario", "answers")
_TUNED = "_tuned"
_SHOWN = 12.0
"""Points below the median that a panel shows."""


def draw(workdir: pathlib.Path) -> None:
    """Draw every figure of a work folder into its ``figures``."""
    folder = workdir / "figures"
    folder.mkdir(exist_ok=True)
    summary = tables.read_csv(workdir / "summary.csv")
    curves = tables.read_csv(workdir / "curves.csv")
    accuracy = draw_methods(summary, "system_accuracy", "system accuracy, %")
    save(accuracy, folder / "system_accuracy.png")
    name = "calibration error of P(expert right), %"
    calibration = draw_methods(summary, "expert_calibration_error", name)
    save(calibration, folder / "calibration.png")
    save(draw_curves(curves), folder / "coverage_accuracy.png")


def chosen(table: pd.DataFrame) -> pd.DataFrame:
    """What validation chose, on the test part, without a weight of fairness."""
    rows = table[table.split == "test"]
    if "chosen" in rows:
        rows = rows[rows.chosen.isna() | rows.chosen.astype(bool)]
    if "fairness" in rows:
        rows = rows[rows.fairness.isna() | (rows.fairness == 0)]
    return rows


def by_setting(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The rows of each problem and setting, by a name for a panel."""
    settings = [name for name in _SETTINGS if name in table]
    found = {}
    for values, rows in table.groupby(["part", *settings], sort=False, dropna=False):
        told = [
            f"{name} {value:g}" if isinstance(value, float) else str(value)
            for name, value in zip(settings, values[1:], strict=True)
            if not pd.isna(value)
        ]
        found[", ".join([str(values[0]), *told])] = rows
    return found


def draw_methods(summary: pd.DataFrame, metric: str, label: str) -> plt.Figure:
    """Mean and interval of a metric, a row a method and a panel a problem.

    A full mark is a method by its own rule, an empty one with a threshold that
    validation chose.
    """
    rows = chosen(summary[summary.metric == metric]).dropna(subset="mean")
    panels_of = by_setting(rows)
    names = {name.removesuffix(_TUNED) for name in rows.method}
    methods = [name for name in METHODS if name in names][::-1]
    figure, panels = plt.subplots(
        1,
        max(len(panels_of), 1),
        figsize=(2.2 + 2.8 * max(len(panels_of), 1), 1.4 + 0.3 * len(methods)),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for axes, (name, part) in zip(panels[0], panels_of.items(), strict=False):
        part = part.drop_duplicates("method").set_index("method")
        for shift, suffix, fill in ((0.15, "", "full"), (-0.15, _TUNED, "none")):
            wanted = part.reindex([method + suffix for method in methods])
            middle = 100 * wanted["mean"]
            bars = [middle - 100 * wanted.ci_low, 100 * wanted.ci_high - middle]
            places = np.arange(len(methods)) + shift
            axes.errorbar(
                middle,
                places,
                xerr=np.nan_to_num(np.abs(bars)),
                fmt="o",
                ms=4,
                color="C0" if not suffix else "C1",
                fillstyle=fill,
                capsize=2,
                lw=1,
                label="threshold by validation" if suffix else "its own rule",
            )
        _mind_the_systems(axes, part)
        axes.set_title(
            f"{name}\n{part.n.max():.0f} {part.over.iloc[0]}, {part.cases.max():.0f}"
            " cases",
            fontsize="small",
        )
        axes.grid(alpha=0.3)
    panels[0][0].set_yticks(range(len(methods)), [METHODS[m].label for m in methods])
    panels[0][0].legend(fontsize="x-small")
    figure.supxlabel(f"{label}: mean and 95 % interval")
    return figure


def _mind_the_systems(axes: plt.Axes, part: pd.DataFrame) -> None:
    """Leave room for the systems: who is far below is told in a number at the edge."""
    means = 100 * part["mean"]
    least = means.median() - _SHOWN
    if means.min() >= least:
        return
    axes.set_xlim(left=least)
    own = axes.containers[0][0]
    for value, place in zip(own.get_xdata(), own.get_ydata(), strict=True):
        if value < least:
            axes.text(least, place, f" {value:.0f}", va="center", fontsize="x-small")


def draw_curves(curves: pd.DataFrame) -> plt.Figure:
    """System accuracy at each coverage, a line a method and a panel a problem.

    Coverages are each method's own: its scores put the cases in the order in which it
    would defer.
    """
    rows = chosen(curves)
    methods = [
        name
        for name in METHODS
        if name in set(rows.method) and not name.endswith(_TUNED)
    ]
    panels_of = by_setting(rows)
    columns = min(len(panels_of), 3)
    lines = -(-len(panels_of) // columns)
    figure, panels = plt.subplots(
        lines,
        columns,
        figsize=(4.2 * columns + 2.4, 3.4 * lines),
        squeeze=False,
        layout="constrained",
    )
    for axes in panels.ravel()[len(panels_of) :]:
        axes.set_visible(False)
    colors = plt.get_cmap("tab20")(np.linspace(0, 1, max(len(methods), 1)))
    styles = ("-", "--", ":", "-.")
    for axes, (name, part) in zip(panels.ravel(), panels_of.items(), strict=False):
        for number, method in enumerate(methods):
            points = part[part.method == method].groupby("coverage")
            mean = 100 * points.system_accuracy.mean()
            if mean.isna().all():
                continue
            axes.plot(
                mean.index,
                mean,
                styles[number % len(styles)],
                color=colors[number],
                lw=1.2,
                label=METHODS[method].label,
            )
        axes.set_title(f"{name}: mean over {part.seed.nunique()} seeds")
        axes.set_xlabel("coverage: share the classifier keeps")
        axes.set_ylabel("system accuracy, %")
        axes.grid(alpha=0.3)
    # A method may be in some of the panels only.
    told = [axes.get_legend_handles_labels() for axes in panels.ravel()]
    lines_of = {
        label: handle
        for handles, labels in told
        for handle, label in zip(handles, labels, strict=True)
    }
    shown = [METHODS[name].label for name in methods if METHODS[name].label in lines_of]
    figure.legend(
        [lines_of[label] for label in shown],
        shown,
        fontsize="x-small",
        loc="outside right upper",
    )
    return figure
