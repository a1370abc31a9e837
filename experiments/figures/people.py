"""Figures of the experiment on particular persons, drawn from its tables alone."""

import pathlib

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from experiments import tables
from experiments.figures import styles
from experiments.figures.save import save

PANELS = {
    "human_model_accuracy": "accuracy of the model of the person, %",
    "system_accuracy": "system accuracy, %",
}


def draw(workdir: pathlib.Path) -> None:
    """Draw every figure of a work folder into its ``figures``.

    They compare imputers: of several methods the first is drawn.
    """
    folder = workdir / "figures"
    folder.mkdir(exist_ok=True)
    results = tables.read_csv(workdir / "results.csv")
    summary = tables.read_csv(workdir / "summary.csv")
    method = results.method.iloc[0]
    results = results[results.method == method]
    summary = summary[summary.method == method]
    if "specialist" in results.people.unique():
        save(draw_specialists(summary), folder / "specialists.png")
    for source in results.people.unique():
        if source != "specialist":
            rows = results[results.people == source]
            if source == "cifar10h":
                # Somebody else at every seed.
                rows = rows.assign(person=rows.seed)
            save(draw_people(rows), folder / f"people_{source}.png")


def draw_specialists(summary: pd.DataFrame) -> plt.Figure:
    """Both accuracies against the person's skill: the paper's Figure 2."""
    rows = summary[(summary.people == "specialist") & (summary.split == "test")]
    figure, panels = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    for axes, (metric, title) in zip(panels, PANELS.items(), strict=True):
        for method, (label, color, line) in styles.PEOPLE.items():
            part = rows[(rows.imputer == method) & (rows.metric == metric)]
            part = part.sort_values("num_perfect")
            if part.empty:
                continue
            x = part.num_perfect
            axes.plot(x, 100 * part["mean"], line, color=color, marker=".", label=label)
            low, high = 100 * part.ci_low, 100 * part.ci_high
            axes.fill_between(x, low, high, color=color, alpha=0.15, linewidth=0)
        axes.set_xlabel("k: classes on which the person is perfect (a guess elsewhere)")
        axes.set_ylabel(title)
        axes.grid(alpha=0.3)
    panels[0].legend()
    name, seeds = rows.problem.iloc[0], rows.n.max()
    figure.suptitle(f"{name}: mean and 95 % interval over {seeds} seeds")
    return figure


def draw_people(results: pd.DataFrame) -> plt.Figure:
    """Each person without and with fine-tuning, and ours: the paper's Figure 3.

    People are sorted by the accuracy of their model without fine-tuning; a line leads
    from there to where the method brings them. Without ``none`` it leads from the first
    method there is.
    """
    results = results[results.split == "test"]
    means = results.groupby(["person", "imputer"])[[*PANELS]].mean().reset_index()
    base, *methods = [m for m in styles.PEOPLE if m in means.imputer.unique()]
    shown = [m for m in ("finetune", "population") if m in methods] or methods[:1]
    shown = shown or [base]
    figure, panels = plt.subplots(
        len(PANELS),
        len(shown),
        figsize=(5.5 * len(shown), 6.5),
        sharex=True,
        sharey="row",
        squeeze=False,
        layout="constrained",
    )
    first = means[means.imputer == base].set_index("person")
    order = first.sort_values([*PANELS]).index
    place = np.arange(len(order))
    for column, method in zip(panels.T, shown, strict=True):
        after_all = means[means.imputer == method].set_index("person").loc[order]
        for axes, (metric, title) in zip(column, PANELS.items(), strict=True):
            before = 100 * first.loc[order][metric].to_numpy()
            after = 100 * after_all[metric].to_numpy()
            change = after - before
            change[np.abs(change) < 1e-4] = 0.0  # Rounding of means.
            for moved, color, name in (
                (change > 0, "C2", "up"),
                (change < 0, "C3", "down"),
                (change == 0, "0.6", "unchanged"),
            ):
                x = place[moved]
                label = f"{name}: {moved.sum()}"
                axes.vlines(x, before[moved], after[moved], color=color, linewidth=1)
                axes.plot(x, after[moved], ".", color=color, markersize=4, label=label)
            axes.plot(place, before, "_", color="k", markersize=4, label=base)
            axes.grid(alpha=0.3)
            axes.legend(fontsize="small", ncols=2, loc="upper left")
            if axes in panels[:, 0]:
                axes.set_ylabel(title)
        column[0].set_title(styles.PEOPLE[method][0])
        column[-1].set_xlabel(f"person, by the accuracy of their model ({base})")
    source, dataset = results.people.iloc[0], results.problem.iloc[0]
    figure.suptitle(f"{dataset}, {source}: {len(order)} people, on their test answers")
    return figure
