"""Figures of closed-loop allocation, drawn from its tables alone.

A figure whose methods or settings are not in the tables is left out.
"""

import pathlib
from collections.abc import Callable, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from experiments import tables
from experiments.figures import styles
from experiments.figures.save import save
from l2d_jax.simulate import biased_groups

_STRENGTHS = (0.45, 0.7)
"""For which streams are drawn, or the nearest of the scenario's."""
_WAYS = {"everyone": "everyone learns", "consulted": "who was asked learns"}


def draw(workdir: pathlib.Path, task: str) -> None:
    """Draw every figure of a task, of ``allocation.TASKS``, into ``figures``."""
    folder = workdir / "figures"
    folder.mkdir(exist_ok=True)

    def read(name: str) -> pd.DataFrame:
        return tables.read_csv(workdir / f"{name}.csv")

    curves = read("curves")
    drawn: dict[str, plt.Figure | None]
    if task == "bias":
        drawn = {"gap_at_start": draw_start(curves), "gap_stream": draw_gaps(curves)}
    elif task == "clusters":
        drawn = {
            "accuracy_by_strength": draw_strengths(read("summary")),
            "stream": draw_cluster_streams(curves),
            "workload": draw_crowd_workload(read("workload")),
        }
    else:
        summary = read("summary")
        # A data set of one category has none.
        gaps = summary[summary.metric == "gap"]
        gaps = gaps[gaps.groupby("dataset")["mean"].transform("max") > 0]
        drawn = {
            "accuracy": draw_points(
                summary,
                {
                    "accuracy": "committee",
                    "first_accuracy": "largest weight alone",
                },
                "accuracy on the test part, %",
            ),
            "gap": draw_points(
                gaps,
                {"gap": "committee"},
                "largest less least accuracy of a category, points",
            ),
            "stream": draw_text_streams(curves),
            "workload": draw_text_workload(read("workload")),
        }
    for name, figure in drawn.items():
        if figure is not None:
            save(figure, folder / f"{name}.png")


def _of(table: pd.DataFrame, **values: object) -> pd.DataFrame:
    """Rows with the given values; NaN is a value like any other."""
    for name, value in values.items():
        column = table[name]
        missing = isinstance(value, float) and np.isnan(value)
        table = table[column.isna() if missing else column == value]
    return table


def _shown(table: pd.DataFrame) -> list[str]:
    """Methods in the table, the first of the styles last: drawn over the others."""
    found = set(table.method)
    return [method for method in reversed(styles.STREAMS) if method in found]


def _subplots(count: int, columns: int) -> tuple[plt.Figure, list[plt.Axes]]:
    """Panels in rows of at most so many columns; the last row may be shorter."""
    columns = min(columns, count)
    rows = -(-count // columns)
    figure, panels = plt.subplots(
        rows,
        columns,
        figsize=(4.8 * columns, 3.9 * rows),
        squeeze=False,
        layout="constrained",
    )
    flat = list(panels.flat)
    for axes in flat[count:]:
        axes.set_axis_off()
    return figure, flat[:count]


def _add_legend(figure: plt.Figure, panels: Sequence[plt.Axes]) -> None:
    """One legend for all panels, below them."""
    handles = {
        label: handle
        for axes in panels
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    order = [label for label, _, _ in styles.STREAMS.values() if label in handles]
    order += [label for label in handles if label not in order]
    figure.legend(
        [handles[label] for label in order],
        order,
        loc="outside lower center",
        ncols=min(len(order), 5),
        fontsize="small",
    )


def _draw_mean(
    axes: plt.Axes,
    x: np.ndarray | pd.Series,
    rows: pd.DataFrame,
    method: str,
    band: bool = True,
) -> None:
    """Means in % as a line, and their intervals as a band."""
    label, color, line = styles.STREAMS[method]
    axes.plot(x, 100 * rows["mean"], line, color=color, marker=".", label=label)
    if band:
        low, high = 100 * rows.ci_low, 100 * rows.ci_high
        axes.fill_between(x, low, high, color=color, alpha=0.15, linewidth=0)


def _shares(rows: pd.DataFrame) -> list[float]:
    """Shares of misplaced annotators, of methods that read a prior."""
    return sorted(rows.misplaced.dropna().unique())


def _scenarios(table: pd.DataFrame) -> list[tuple[str, float]]:
    """Scenarios and shares of misplaced annotators, in the order of the table."""
    names = {
        "well_conditioned": 0,
        "released": 1,
    }
    order = sorted(
        table.dataset.unique(), key=lambda name: (names.get(name, len(names)), name)
    )
    return [
        (scenario, share)
        for scenario in order
        for share in _shares(_of(table, dataset=scenario)) or [float("nan")]
    ]


def _scenario_title(table: pd.DataFrame, scenario: str, share: float) -> str:
    several = len(_shares(_of(table, dataset=scenario))) > 1
    title = scenario.replace("_", " ")
    return f"{title}, {100 * share:.0f} % misplaced" if several else title


def _with_prior(rows: pd.DataFrame, share: float) -> pd.DataFrame:
    """Rows of one share of misplaced annotators, and of methods without a prior."""
    return rows[rows.misplaced.isna() | (rows.misplaced == share)]


def draw_strengths(summary: pd.DataFrame) -> plt.Figure | None:
    """Accuracy of the annotator of largest weight against the strength of the prior."""
    rows = summary[(summary.metric == "first_accuracy") & (summary.split == "test")]
    places = _scenarios(rows)
    if not places:
        return None
    figure, panels = _subplots(len(places), 3)
    for axes, (scenario, share) in zip(panels, places, strict=True):
        part = _with_prior(_of(rows, dataset=scenario), share)
        for method in _shown(part):
            found = _of(part, method=method).sort_values("strength")
            label, color, line = styles.STREAMS[method]
            if found.strength.isna().all():
                level = 100 * found["mean"].iloc[0]
                axes.axhline(level, color=color, linestyle=line, label=label)
                continue
            _draw_mean(axes, found.strength, found, method)
        if scenario == "well_conditioned":
            axes.axvline(0.5, color="black", linewidth=1, linestyle=":")
            axes.annotate(
                "sU = 1/2", (0.49, 72), rotation=90, ha="right", fontsize="small"
            )
        axes.set_title(_scenario_title(rows, scenario, share))
        axes.set_xlabel("strength of the prior, sU")
        axes.set_ylabel("test accuracy of the\nlargest weight, %")
        axes.set_ylim(0, 103)
        axes.grid(alpha=0.3)
    _add_legend(figure, panels)
    figure.suptitle(f"{rows.n.max()} seeds at most; bands: 95 % intervals")
    return figure


def draw_cluster_streams(curves: pd.DataFrame) -> plt.Figure | None:
    """Test accuracy of the largest weight along the stream, for two strengths."""
    rows = _of(curves, split="test", metric="first_accuracy")
    places = _scenarios(rows)
    panels_of: list[tuple[str, float, float]] = []
    for scenario, share in places:
        strengths = _of(rows, dataset=scenario).strength.dropna().unique()
        for wanted in _STRENGTHS:
            if len(strengths):
                nearest = min(strengths, key=lambda s: abs(s - wanted))
                panels_of.append((scenario, share, float(nearest)))
    # Where both wanted strengths have the same nearest one, once.
    panels_of = list(dict.fromkeys(panels_of))
    if not panels_of:
        return None
    figure, panels = _subplots(len(panels_of), len(_STRENGTHS))
    for axes, (scenario, share, strength) in zip(panels, panels_of, strict=True):
        part = _with_prior(_of(rows, dataset=scenario), share)
        part = part[part.strength.isna() | (part.strength == strength)]
        _draw_along(axes, part)
        title = _scenario_title(rows, scenario, share)
        axes.set_title(f"{title}\nsU = {strength:g}")
        axes.set_ylabel("test accuracy of the\nlargest weight, %")
        axes.set_ylim(0, 103)
    _add_legend(figure, panels)
    figure.suptitle(
        f"{rows.n.max()} seeds at most; bands, of full lines: 95 % intervals"
    )
    return figure


def _draw_along(axes: plt.Axes, rows: pd.DataFrame, band: bool = True) -> None:
    """Means of one metric against the share of the stream that is served."""
    for method in _shown(rows):
        found = _of(rows, method=method).sort_values("window")
        x = 100 * found.window / rows.window.max()
        _draw_mean(axes, x, found, method, band and styles.STREAMS[method][2] == "-")
    axes.set_xlabel("share of the stream, %")
    axes.set_xlim(0, 102)
    axes.grid(alpha=0.3)


def _draw_workload(axes: plt.Axes, rows: pd.DataFrame) -> None:
    """Sorted shares of the votes, of each method."""
    for method in _shown(rows):
        shares = np.sort(_of(rows, method=method).share.dropna().to_numpy())[::-1]
        label, color, line = styles.STREAMS[method]
        places = np.arange(1, len(shares) + 1)
        axes.plot(places, 100 * shares, line, color=color, label=label)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("annotators, most votes first")
    axes.set_ylabel("share of the votes, %")
    axes.grid(alpha=0.3)


def draw_crowd_workload(workload: pd.DataFrame) -> plt.Figure | None:
    """Who votes in committees of many annotators, with the strongest prior."""
    sizes = workload.groupby("dataset").annotator.nunique()
    rows = workload[workload.dataset.isin(sizes.index[sizes > 3])]
    places = _scenarios(rows)
    if not places:
        return None
    figure, panels = _subplots(len(places), 3)
    for axes, (scenario, share) in zip(panels, places, strict=True):
        part = _with_prior(_of(rows, dataset=scenario), share)
        strongest = part.strength.max()
        part = part[part.strength.isna() | (part.strength == strongest)]
        _draw_workload(axes, part)
        title = _scenario_title(rows, scenario, share)
        axes.set_title(f"{title}, sU = {strongest:g}")
    _add_legend(figure, panels)
    figure.suptitle("Means over seeds, of held-out tasks")
    return figure


# Bias.


def _gap_rows(curves: pd.DataFrame) -> pd.DataFrame:
    return curves[(curves.metric == "gap") & (curves.split == "test")]


def draw_start(curves: pd.DataFrame) -> plt.Figure | None:
    """The gap before the stream: simulated, by formula, and the printed bounds."""
    rows = _gap_rows(curves)
    rows = _of(rows, method="everyone", committee_size=1, window=0)
    if rows.empty:
        return None
    figure, panels = _subplots(3, 3)
    alphas, gammas = sorted(rows.alpha.unique()), sorted(rows.gamma.unique())
    _draw_gaps(panels[0], rows, "alpha", "gamma", np.linspace(0.5, 0.95, 91))
    _draw_gaps(panels[1], rows, "gamma", "alpha", np.linspace(0.0, 1.0, 101))
    panels[0].set_xlabel("alpha, share biased against group 0")
    panels[1].set_xlabel("gamma, how little the prior knows")
    alpha = 0.6 if 0.6 in alphas else alphas[0]
    _draw_bounds(panels[2], rows, alpha, 0.5 if 0.5 in gammas else gammas[0])
    for axes in panels:
        axes.set_ylabel("accuracy on group 1\nless that on group 0, points")
        axes.grid(alpha=0.3)
        low, high = axes.get_ylim()
        axes.set_ylim(low, high + 0.3 * (high - low))  # Room for the legend.
        axes.legend(fontsize="small", loc="upper left", ncols=2)
    figure.suptitle(
        f"One annotator a task, before learning; lines: exact; points: {rows.n.max()}"
        " seeds, bars: 3 standard errors"
    )
    return figure


def _errors(rows: pd.DataFrame) -> np.ndarray:
    """Three standard errors, from the half width of a 95 % interval."""
    from scipy import special

    quantile = special.stdtrit(np.maximum(rows.n - 1, 1), 0.975)
    half = (rows.ci_high - rows["mean"]).to_numpy(float)
    return np.nan_to_num(3.0 * half / quantile)


def _draw_gaps(
    axes: plt.Axes, rows: pd.DataFrame, along: str, by: str, grid: np.ndarray
) -> None:
    """Simulated gaps and the exact curve, a line for each value of ``by``."""
    levels = sorted(rows[by].unique())
    for place, level in enumerate(levels):
        color = plt.colormaps["viridis"](place / max(len(levels), 2))
        part = _of(rows, **{by: level}).sort_values(along)
        exact = biased_groups.gap(**{along: grid, by: level})
        axes.plot(grid, 100 * exact, color=color, linewidth=1)
        axes.errorbar(
            part[along],
            100 * part["mean"],
            100 * _errors(part),
            fmt="o",
            markersize=3,
            capsize=2,
            color=color,
            label=f"{by} = {level:g}",
        )


def _draw_bounds(
    axes: plt.Axes, rows: pd.DataFrame, alpha: float, gamma: float
) -> None:
    """The printed interval, which the exact gap leaves; one such gap is marked."""
    grid = np.linspace(0.0, 1.0, 101)
    lower, upper = biased_groups.printed_bounds(alpha, grid)
    axes.fill_between(
        grid,
        100 * lower,
        100 * upper,
        color="C1",
        alpha=0.25,
        label="interval that is printed",
    )
    exact = biased_groups.gap(alpha, grid)
    axes.plot(grid, 100 * exact, color="C0", label="exact gap")
    part = _of(rows, alpha=alpha)
    axes.errorbar(
        part.gamma,
        100 * part["mean"],
        100 * _errors(part),
        fmt="o",
        markersize=3,
        capsize=2,
        color="C0",
        label="simulated gap",
    )
    value = float(biased_groups.gap(alpha, gamma))
    least = float(biased_groups.printed_bounds(alpha, gamma)[0])
    if value < least:
        axes.plot(gamma, 100 * value, "X", color="C3", markersize=9)
        axes.annotate(
            f"gamma = {gamma:g}: {100 * value:.1f},\nprinted: at least {100 * least:g}",
            (gamma, 100 * value),
            xytext=(12, -22),
            textcoords="offset points",
            color="C3",
            fontsize="small",
        )
    axes.set_ylim(bottom=min(-8.0, axes.get_ylim()[0]))
    axes.set_xlabel("gamma, how little the prior knows")
    axes.set_title(f"alpha = {alpha:g}")


def draw_gaps(curves: pd.DataFrame) -> plt.Figure | None:
    """The gap along the stream without a prior, for every way to learn."""
    rows = _gap_rows(curves)
    rows = _of(rows, gamma=1.0)
    ways = [
        (method, size)
        for method in _WAYS
        for size in sorted(_of(rows, method=method).committee_size.unique())
    ]
    if not ways:
        return None
    figure, panels = _subplots(len(ways), rows.committee_size.nunique())
    alphas = sorted(rows.alpha.unique())
    highest = 100 * rows.ci_high.fillna(rows["mean"]).max()
    for axes, (method, size) in zip(panels, ways, strict=True):
        part = _of(rows, method=method, committee_size=size)
        for place, alpha in enumerate(alphas):
            found = _of(part, alpha=alpha).sort_values("window")
            color = plt.colormaps["viridis"](place / max(len(alphas), 2))
            x = 100 * found.window / part.window.max()
            axes.plot(
                x,
                100 * found["mean"],
                color=color,
                marker=".",
                label=f"alpha = {alpha:g}",
            )
            low, high = 100 * found.ci_low, 100 * found.ci_high
            axes.fill_between(x, low, high, color=color, alpha=0.2, linewidth=0)
        axes.set_title(f"{_WAYS[method]}, committees of {size}")
        axes.set_xlabel("share of the stream, %")
        axes.set_ylabel("accuracy on group 1\nless that on group 0, points")
        axes.set_ylim(-3, 1.08 * highest + 1)
        axes.grid(alpha=0.3)
    _add_legend(figure, panels)
    figure.suptitle(
        f"No prior (gamma = 1), {rows.n.max()} seeds; bands: 95 % intervals"
    )
    return figure


# Texts.


def _draw_each(
    table: pd.DataFrame,
    columns: int,
    draw_one: Callable[[plt.Axes, pd.DataFrame], None],
) -> tuple[plt.Figure, list[plt.Axes]] | None:
    """A panel for each data set and truth."""
    places = list(table[["dataset", "truth"]].drop_duplicates().itertuples(index=False))
    if not places:
        return None
    figure, panels = _subplots(len(places), columns)
    for axes, (dataset, truth) in zip(panels, places, strict=True):
        draw_one(axes, _of(table, dataset=dataset, truth=truth))
        axes.set_title(f"{dataset}, {truth} truth")
    return figure, panels


def draw_points(
    summary: pd.DataFrame, metrics: dict[str, str], name: str
) -> plt.Figure | None:
    """Means with intervals of every method, a row each.

    Args:
      summary: table of means.
      metrics: columns to show, with the label of each.
      name: of the axis.
    """
    rows = summary[summary.metric.isin(list(metrics)) & (summary.split == "test")]

    def draw_one(axes: plt.Axes, part: pd.DataFrame) -> None:
        methods = _shown(part)[::-1]
        for number, (metric, label) in enumerate(metrics.items()):
            shift = 0.18 * (2 * number - len(metrics) + 1)
            for place, method in enumerate(methods):
                found = _of(part, method=method, metric=metric).dropna(subset="mean")
                if found.empty:
                    continue
                row = found.iloc[0]
                half = 100 * np.nan_to_num(row.ci_high - row["mean"])
                color = styles.STREAMS[method][1]
                axes.errorbar(
                    100 * row["mean"],
                    place + shift,
                    xerr=half,
                    fmt="o" if number == 0 else "s",
                    markersize=5,
                    markerfacecolor=color if number == 0 else "white",
                    color=color,
                    capsize=2,
                )
            marker = "o" if number == 0 else "s"
            face = "0.3" if number == 0 else "white"
            axes.plot(
                [],
                [],
                marker,
                color="0.3",
                markerfacecolor=face,
                label=label,
            )
        axes.set_yticks(range(len(methods)), [styles.STREAMS[m][0] for m in methods])
        axes.set_ylim(len(methods) - 0.4, -0.6)
        axes.set_xlabel(name)
        axes.grid(alpha=0.3)

    drawn = _draw_each(rows, 2, draw_one)
    if drawn is None:
        return None
    figure, panels = drawn
    rows_of_panel = max(len(axes.get_yticks()) for axes in panels)
    width, height = figure.get_size_inches()
    figure.set_size_inches(1.25 * width, max(height, height * rows_of_panel / 13))
    _add_legend(figure, panels)
    figure.suptitle(f"{rows.n.max()} splits at most; bars: 95 % intervals")
    return figure


def draw_text_streams(curves: pd.DataFrame) -> plt.Figure | None:
    """Test accuracy of committees along the stream.

    Without the intervals, which all overlap; `draw_points` has those of the end.
    """
    rows = _of(curves, split="test", metric="accuracy")

    def draw_one(axes: plt.Axes, part: pd.DataFrame) -> None:
        _draw_along(axes, part, band=False)
        axes.set_ylabel("test accuracy of committees, %")

    drawn = _draw_each(rows, 2, draw_one)
    if drawn is None:
        return None
    _add_legend(*drawn)
    drawn[0].suptitle(f"Means over {rows.n.max()} splits at most")
    return drawn[0]


def draw_text_workload(workload: pd.DataFrame) -> plt.Figure | None:
    """Who votes; annotators who answered few texts cannot have many votes."""

    def draw_one(axes: plt.Axes, part: pd.DataFrame) -> None:
        _draw_workload(axes, part)
        if part.annotator.nunique() > 30:
            axes.set_xscale("log")

    drawn = _draw_each(workload, 2, draw_one)
    if drawn is None:
        return None
    _add_legend(*drawn)
    drawn[0].suptitle("Means over splits, of test parts")
    return drawn[0]
