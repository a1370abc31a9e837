"""Seconds and memory against the size of an experiment, drawn from their table."""

import pathlib

import matplotlib.pyplot as plt
import pandas as pd

from experiments import tables
from experiments.figures.save import save
from experiments.methods import METHODS

_PARTS = {
    "compile_seconds": ("compiling", "C7", ":"),
    "train_seconds": ("training", "C0", "-"),
    "measure_seconds": ("measuring", "C1", "--"),
    "table_seconds": ("tables", "C2", "-."),
    "run_seconds": ("all but compiling", "k", "-"),
}
"""Label, colour and line of the seconds that are drawn."""


def draw(workdir: pathlib.Path) -> None:
    """Draw the table of a work folder into it."""
    save(draw_growth(tables.read_csv(workdir / "growth.csv")), workdir / "growth.png")


def draw_growth(table: pd.DataFrame) -> plt.Figure:
    """Seconds by part above, the most memory below, a column for each axis.

    A circle marks a size whose seconds or memory are steeper than linear.
    """
    axes_of = list(dict.fromkeys(table.axis))
    figure, panels = plt.subplots(
        2,
        len(axes_of),
        figsize=(1 + 3.2 * len(axes_of), 6),
        sharex="col",
        sharey="row",
        squeeze=False,
        layout="constrained",
    )
    for (above, below), name in zip(panels.T, axes_of, strict=True):
        rows = table[table.axis == name]
        for column, (label, color, line) in _PARTS.items():
            above.plot(
                rows["size"], rows[column], line, color=color, marker=".", label=label
            )
        steep = rows[rows.steep]
        above.plot(steep["size"], steep.run_seconds, "o", color="C3", mfc="none", ms=10)
        # What would be linear, from the largest size down.
        last = rows.iloc[-1]
        linear = last.run_seconds * rows["size"] / last["size"]
        above.plot(rows["size"], linear, color="0.8", lw=1, zorder=0, label="linear")
        below.plot(rows["size"], rows.memory_mib, "-", color="k", marker=".")
        above.set_title(
            f"{METHODS[rows.method.iloc[0]].label}", loc="left", fontsize="medium"
        )
        below.set_xlabel(name)
        for axes in (above, below):
            axes.set_xscale("log")
            axes.set_yscale("log")
            axes.grid(alpha=0.3)
    # A part of no time at all is not on a logarithmic axis.
    panels[0, 0].set_ylim(bottom=1e-3)
    panels[0, 0].set_ylabel("seconds")
    # At least a decade, so that there are ticks.
    panels[1, 0].set_ylim(bottom=100, top=max(1200, 1.2 * table.memory_mib.max()))
    panels[1, 0].yaxis.set_major_formatter("{x:,.0f}")
    panels[1, 0].set_ylabel("most memory, MiB")
    # Lines may lie anywhere in a panel.
    lines, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(
        lines, labels, loc="outside upper center", ncols=len(labels), fontsize="small"
    )
    return figure
