"""Figures of the tabular experiments, drawn from their tables alone.

They have the numbers of those of Madras, Pitassi and Zemel (2018); one whose methods
are not in the tables is left out.
"""

import pathlib
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from experiments import tables
from experiments.figures import fronts, styles
from experiments.figures.save import save

SCENARIOS = {
    "accurate": "accurate decision-maker",
    "biased": "biased decision-maker",
    "inconsistent": "inconsistent decision-maker",
}
_PASSING = ("rejection", "mixture")
_FRONTS = ("rejection_thresholds", "deferral_thresholds", *_PASSING)


def draw(workdir: pathlib.Path) -> None:
    """Draw every figure of a work folder into its ``figures``."""
    folder = workdir / "figures"
    folder.mkdir(exist_ok=True)
    results = tables.read_csv(workdir / "results.csv")
    test = results[results.split == "test"]
    medians = fronts.medians(results)
    # The paper's Figure 6 is Figure 3 of the other data set.
    number = "06" if "health" in set(test.problem) else "03"
    figures = {
        f"fig{number}_fronts": draw_scenarios(medians),
        "fig04_subgroup_deferral": draw_subgroup_deferral(test),
        "fig05_min_subgroup_accuracy": draw_min_subgroup_accuracy(test),
        "fig07_di_by_alpha": draw_by_alpha(test, "di", "DI"),
        "fig08_error_by_alpha": draw_by_alpha(test, "system_error", "error"),
        "fig09_oracle": draw_oracle(medians),
        "fig10_inconsistent": draw_inconsistent(medians),
        "fig11_by_deferral_rate": draw_by_deferral_rate(medians),
        "fig12_deferral_rates": draw_deferral_rates(test),
    }
    for name, figure in figures.items():
        if figure is not None:
            save(figure, folder / f"{name}.png")


def _of(table: pd.DataFrame, **values: object) -> pd.DataFrame:
    """Rows with the given values."""
    for name, value in values.items():
        table = table[table[name] == value]
    return table


def _has(table: pd.DataFrame, *methods: str, **values: object) -> bool:
    """Whether there are rows of every method, at the given values."""
    return set(methods) <= set(_of(table, **values).method)


def _subplots(
    num_rows: int, num_columns: int, **kwargs: Any
) -> tuple[plt.Figure, np.ndarray]:
    return plt.subplots(
        num_rows,
        num_columns,
        figsize=(5.0 * num_columns, 4.2 * num_rows),
        squeeze=False,
        layout="constrained",
        **kwargs,
    )


def _draw_fronts(
    axes: plt.Axes, points: pd.DataFrame, methods: tuple[str, ...]
) -> None:
    """Fronts of methods, over the settings in ``points``, of one scenario."""
    for method in methods:
        front = fronts.front_of(points[points.method == method])
        if front.empty:
            continue
        label, color, line = styles.TABLES[method]
        axes.plot(
            100 * front.di,
            100 * front.system_accuracy,
            line,
            color=color,
            marker=".",
            label=label,
        )
    axes.set_xlabel("DI of the system, points (lower is fairer)")
    axes.grid(alpha=0.3)


def _draw_references(axes: plt.Axes, points: pd.DataFrame, x: str) -> None:
    """The classifier that only wants to be right, and the decision-maker alone."""
    baseline = _of(points, method="classifier", fairness=0.0)
    alone = _of(points, method="expert")
    for rows, marker, color, label in (
        (baseline, "s", "C3", "classifier"),
        (alone, "o", "gold", "decision-maker"),
    ):
        axes.plot(
            100 * rows[x],
            100 * rows.system_accuracy,
            marker,
            color=color,
            markeredgecolor="black",
            markersize=9,
            linestyle="none",
            label=label if len(rows) else None,
        )


def draw_scenarios(medians: pd.DataFrame) -> plt.Figure | None:
    """Fronts with an accurate and a biased decision-maker; accuracy by deferral rate.

    Figures 3 and 6. The last panel is with an inconsistent decision-maker, at alpha 0.
    """
    shown = [name for name in SCENARIOS if _has(medians, "mixture", scenario=name)]
    if not shown:
        return None
    figure, panels = _subplots(1, len(shown))
    for axes, scenario in zip(panels[0], shown, strict=True):
        points = _of(medians, scenario=scenario)
        axes.set_title(SCENARIOS[scenario])
        if scenario == "inconsistent":
            for method in _PASSING:
                part = _of(points, method=method, fairness=0.0)
                part = part.sort_values("deferral_rate")
                label, color, line = styles.TABLES[method]
                x, y = 100 * part.deferral_rate, 100 * part.system_accuracy
                axes.plot(x, y, line, color=color, marker=".", label=label)
            _draw_references(axes, points, "deferral_rate")
            axes.set_xlabel("deferral rate, %")
            axes.grid(alpha=0.3)
        else:
            _draw_fronts(axes, points, ("classifier", *_FRONTS))
            _draw_references(axes, points, "di")
    panels[0, 0].set_ylabel("system accuracy, %")
    handles = {
        label: handle
        for axes in panels[0]
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        handles.values(),
        handles.keys(),
        loc="outside lower center",
        ncols=len(handles),
        fontsize="small",
    )
    figure.suptitle(_title(medians))
    return figure


def _title(medians: pd.DataFrame) -> str:
    seeds = medians.n.max()
    return f"{medians.problem.iloc[0]}: medians of {seeds} seeds on the test part"


def draw_subgroup_deferral(test: pd.DataFrame) -> plt.Figure | None:
    """Deferral rate where the decision-maker is reliable and where not: Figure 4."""
    rows = _of(test, scenario="inconsistent", fairness=0.0)
    if not _has(rows, *_PASSING):
        return None
    figure, panels = _subplots(1, 1)
    axes = panels[0, 0]
    axes.plot([0, 100], [0, 100], color="0.7")
    for method in _PASSING:
        rates = [f"deferral_rate{part}" for part in ("", "_reliable", "_unreliable")]
        part = _of(rows, method=method).groupby("cost")[rates].median()
        part = 100 * part.sort_values("deferral_rate")
        name, _, line = styles.TABLES[method]
        for subgroup, color in (("reliable", "C0"), ("unreliable", "C1")):
            axes.plot(
                part.deferral_rate,
                part[f"deferral_rate_{subgroup}"],
                line,
                color=color,
                marker=".",
                label=f"{name}, {subgroup} subgroup",
            )
    axes.set_xlabel("deferral rate, %")
    axes.set_ylabel("deferral rate of the subgroup, %")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    axes.set_title(f"{rows.problem.iloc[0]}: inconsistent decision-maker, alpha 0")
    return figure


def draw_min_subgroup_accuracy(test: pd.DataFrame) -> plt.Figure | None:
    """Accuracy against the least accuracy of four subgroups, single runs: Figure 5."""
    rows = _of(test, scenario="inconsistent", fairness=0.0)
    if not _has(rows, *_PASSING):
        return None
    figure, panels = _subplots(1, 1)
    axes = panels[0, 0]
    for method, color in zip(_PASSING, ("C1", "C0"), strict=True):
        part = _of(rows, method=method)
        least = part.min_subgroup_accuracy.to_numpy()
        accuracy = part.system_accuracy.to_numpy()
        best = fronts.pareto_front(accuracy, -least)
        label, _, line = styles.TABLES[method]
        axes.plot(100 * least, 100 * accuracy, ".", color=color, alpha=0.25)
        x, y = 100 * least[best], 100 * accuracy[best]
        axes.plot(x, y, line, color=color, marker="o", label=label)
    axes.set_xlabel("least accuracy of group x reliability, %")
    axes.set_ylabel("system accuracy, %")
    axes.grid(alpha=0.3)
    axes.legend(title="best runs; dots: all")
    axes.set_title(f"{rows.problem.iloc[0]}: inconsistent decision-maker, alpha 0")
    return figure


def draw_by_alpha(test: pd.DataFrame, metric: str, name: str) -> plt.Figure | None:
    """A metric of classifiers against alpha, every seed and the median: 7 and 8."""
    shown = [
        (method, title)
        for method, title in (
            ("classifier", "network"),
            ("bayesian", "Bayesian network"),
        )
        if _of(test, method=method).fairness.nunique() > 1
    ]
    if not shown:
        return None
    figure, panels = _subplots(1, len(shown), sharey=True)
    for axes, (method, title) in zip(panels[0], shown, strict=True):
        rows = _of(test, method=method, scenario=test.scenario.iloc[0])
        axes.plot(rows.fairness, 100 * rows[metric], ".", color="C0", alpha=0.5)
        middle = rows.groupby("fairness")[metric].median()
        axes.plot(middle.index, 100 * middle, "-", color="C0")
        axes.set_xlabel("alpha, weight of equalized odds")
        axes.set_title(f"{test.problem.iloc[0]}: {title}")
        axes.grid(alpha=0.3)
    unit = "points" if metric == "di" else "%"
    panels[0, 0].set_ylabel(f"{name} of the classifier, {unit}")
    return figure


def draw_oracle(medians: pd.DataFrame) -> plt.Figure | None:
    """Rejecting, and deferring that was learned with an oracle: Figure 9."""
    scenario = "accurate"
    if not _has(medians, "rejection", "mixture_oracle", scenario=scenario):
        return None
    figure, panels = _subplots(1, 1)
    points = _of(medians, scenario=scenario)
    _draw_fronts(panels[0, 0], points, ("rejection", "mixture_oracle"))
    panels[0, 0].set_ylabel("system accuracy, %")
    panels[0, 0].legend()
    panels[0, 0].set_title(f"{medians.problem.iloc[0]}: {SCENARIOS[scenario]}")
    return figure


def draw_inconsistent(medians: pd.DataFrame) -> plt.Figure | None:
    """Fronts with an inconsistent decision-maker: Figure 10."""
    scenario = "inconsistent"
    if not _has(medians, *_PASSING, scenario=scenario):
        return None
    figure, panels = _subplots(1, 1)
    points = _of(medians, scenario=scenario)
    _draw_fronts(panels[0, 0], points, ("classifier", *_PASSING))
    _draw_references(panels[0, 0], points, "di")
    panels[0, 0].set_ylabel("system accuracy, %")
    panels[0, 0].legend(fontsize="small")
    panels[0, 0].set_title(f"{medians.problem.iloc[0]}: {SCENARIOS[scenario]}")
    return figure


def draw_by_deferral_rate(medians: pd.DataFrame) -> plt.Figure | None:
    """Fronts among settings that defer little, some and much: Figure 11."""
    scenario = "accurate"
    if not _has(medians, *_PASSING, scenario=scenario):
        return None
    points = _of(medians, scenario=scenario)
    figure, panels = _subplots(1, 3, sharey=True)
    edges = np.linspace(0.0, 1.0, 4)
    names = ("low", "medium", "high")
    for number, (axes, name) in enumerate(zip(panels[0], names, strict=True)):
        low, high = edges[number : number + 2]
        inside = (points.deferral_rate >= low) & (points.deferral_rate <= high)
        _draw_fronts(axes, points[inside], _PASSING)
        axes.set_title(f"{name}: {100 * low:.0f} to {100 * high:.0f} % deferred")
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize="small")
    panels[0, 0].set_ylabel("system accuracy, %")
    figure.suptitle(f"{medians.problem.iloc[0]}: {SCENARIOS[scenario]}")
    return figure


def draw_deferral_rates(test: pd.DataFrame) -> plt.Figure | None:
    """Cumulative deferral rates of all runs, by group and decision-maker: Figure 12."""
    scenarios = (("biased", "C0", "-"), ("accurate", "C4", "--"))
    if not all(_has(test, *_PASSING, scenario=name) for name, _, _ in scenarios):
        return None
    figure, panels = _subplots(2, 2, sharex=True, sharey=True)
    for column, method in enumerate(_PASSING):
        for group in range(2):
            axes = panels[group, column]
            for scenario, color, line in scenarios:
                rates = _of(test, method=method, scenario=scenario)
                rates = np.sort(rates[f"deferral_rate_group_{group}"].dropna())
                share = np.arange(len(rates) + 1) / max(len(rates), 1)
                x = 100 * np.concatenate([[0.0], rates, [1.0]])
                y = 100 * np.append(share, 1.0)
                name = SCENARIOS[scenario]
                axes.step(x, y, line, where="post", color=color, label=name)
            axes.set_title(f"{styles.TABLES[method][0]}, group {group}")
            axes.grid(alpha=0.3)
    for axes in panels[1]:
        axes.set_xlabel("deferral rate, %")
    for axes in panels[:, 0]:
        axes.set_ylabel("runs with at most this rate, %")
    panels[0, 0].legend(fontsize="small")
    figure.suptitle(f"{test.problem.iloc[0]}: all runs")
    return figure
