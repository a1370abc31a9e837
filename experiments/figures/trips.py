"""Figures of the trips, drawn from their tables alone."""

import pathlib

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from experiments import tables
from experiments.figures import styles
from experiments.figures.save import save


def draw(workdir: pathlib.Path) -> None:
    """Draw every figure of a work folder into its ``figures``."""
    folder = workdir / "figures"
    folder.mkdir(exist_ok=True)
    results = tables.read_csv(workdir / "results.csv")
    comparison = tables.read_csv(workdir / "comparison.csv")
    save(draw_minutes(results), folder / "trip_minutes.png")
    save(draw_share(comparison), folder / "share.png")


def draw_minutes(results: pd.DataFrame) -> plt.Figure:
    """Mean trip minutes of each person, at the largest number of tuning trips.

    Raman and Yee, 2021, Figure 1, with medians and means.
    """
    budget = results.finetune_trips.max()
    rows = results[results.finetune_trips == budget]
    shown = [method for method in styles.TRIPS if method in set(rows.method)]
    figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    for place, method in enumerate(shown):
        minutes = rows[rows.method == method].minutes.to_numpy()
        _, color, _ = styles.TRIPS[method]
        if np.ptp(minutes) > 0:
            shape = axes.violinplot(
                [minutes], [place], widths=0.85, showextrema=False, points=200
            )
            plt.setp(shape["bodies"], facecolor=color, alpha=0.45)
        median, mean = np.median(minutes), np.mean(minutes)
        ends = place - 0.3, place + 0.3
        line = axes.hlines(median, *ends, color="black")
        (mark,) = axes.plot(place, mean, "D", color="white", markeredgecolor="black")
        if place == 0:
            line.set_label("median")
            mark.set_label("mean")
        axes.annotate(
            f"median {median:.2f}\nmean {mean:.2f}",
            (place, 0.02),
            xycoords=("data", "axes fraction"),
            ha="center",
            fontsize="small",
        )
    low, high = axes.get_ylim()
    axes.set_ylim(low - 0.16 * (high - low), high)
    axes.set_xticks(range(len(shown)), [styles.TRIPS[method][0] for method in shown])
    axes.set_ylabel("minutes a trip, mean of one person's test trips")
    axes.grid(axis="y", alpha=0.3)
    axes.legend(loc="upper right")
    people = rows.seed.nunique()
    axes.set_title(f"{people} people, {budget} trips of each to tune with")
    return figure


def draw_share(comparison: pd.DataFrame) -> plt.Figure:
    """Share of the achievable saving against the number of tuning trips."""
    figure, axes = plt.subplots(figsize=(6.5, 4.2), layout="constrained")
    budgets = np.sort(comparison.finetune_trips.unique())
    for method, (label, color, line) in styles.TRIPS.items():
        part = comparison[comparison.method == method].sort_values("finetune_trips")
        if part.empty or method in ("none", "known_mean", "ideal"):
            continue
        x = np.searchsorted(budgets, part.finetune_trips)
        label = label.replace("\n", " ")
        axes.plot(x, 100 * part.share, line, color=color, marker=".", label=label)
        low, high = 100 * part.share_low, 100 * part.share_high
        axes.fill_between(x, low, high, color=color, alpha=0.2, linewidth=0)
        if len(x) == 1:
            axes.vlines(x, low, high, color=color)
    axes.axhline(100, color="0.45", linewidth=1, label="known mean")
    axes.axhline(0, color="C3", linestyle=":", label="no fine-tuning")
    axes.set_xticks(range(len(budgets)), budgets)
    axes.set_xlim(-0.3, len(budgets) - 0.7)
    axes.set_xlabel("trips of the person to tune with")
    axes.set_ylabel("share of the achievable saving, %")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    axes.set_title(f"{comparison.n.max()} people; bands: 95 % intervals")
    return figure
