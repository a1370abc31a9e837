"""Figures of a report, as SVG that stands inside a page and is heard as well as seen.

Lines differ by style and marker and bars by hatching, so that they are told apart in
black and white. Text stays text. Equal input gives equal bytes.
"""

import contextlib
import io
import itertools
import re
import warnings
from collections.abc import Iterator, Sequence
from xml.etree import ElementTree

import numpy as np
import pandas as pd
from matplotlib import style, ticker
from matplotlib.axis import Axis
from matplotlib.figure import Figure

from l2d_jax.table.wording import count, interval, percent, printable, shorten

_STYLE = {
    "axes.edgecolor": "#444444",
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.axisbelow": True,
    "font.size": 9.5,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "hatch.linewidth": 0.6,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "l2d_jax",
    # A name with two dollars is a name, not a formula.
    "text.parse_math": False,
}
_WIDTH = 4.2
"""Inches: the figure's text is still read where a telephone shows it 8 cm wide."""
_COLOURS = ("#0b4f8a", "#a8400b", "#1b6b43", "#6b3fa0", "#7a5c00", "#333333")
_LINES = ("-", "--", "-.", ":")
_MARKERS = ("o", "s", "^", "D", "v", "P")
MAX_METHODS = 6
_NAME_WIDTH = 16


def curve_figure(
    curve: pd.DataFrame,
    chosen: tuple[float, float],
    best: tuple[str, float],
    prefix: str,
) -> str:
    """Accuracy against the share of cases deferred, a line with a band a method.

    Args:
      curve: as in `l2d_jax.table.results.Evaluation`; the first `MAX_METHODS` methods
        are drawn.
      chosen: share deferred and accuracy of the chosen policy.
      best: name and accuracy of the best single party.
      prefix: of the identifiers inside, distinct among the figures of a page.
    """
    said = []
    with _style():
        figure = Figure(figsize=(_WIDTH, 3.6), layout="constrained")
        axes = figure.subplots()
        handles, labels = [], []
        looks = zip(
            _COLOURS, itertools.cycle(_LINES), itertools.cycle(_MARKERS), strict=False
        )
        methods = list(curve.groupby("method", sort=False))[:MAX_METHODS]
        for (method, points), (colour, line, marker) in zip(
            methods, looks, strict=False
        ):
            points = points.sort_values("deferral", kind="stable")
            x = points["deferral"].to_numpy(float)
            low, high = points["low"].to_numpy(float), points["high"].to_numpy(float)
            axes.fill_between(x, low, high, color=colour, alpha=0.13, linewidth=0)
            for edge in (low, high):
                axes.plot(x, edge, color=colour, linestyle=line, linewidth=0.5)
            (handle,) = axes.plot(
                *(x, points["accuracy"].to_numpy(float)),
                color=colour,
                linestyle=line,
                linewidth=1.6,
                marker=marker,
                markersize=4,
                markerfacecolor="white",
            )
            handles.append(handle)
            labels.append(shorten(method, 40))
            said.append(_said_of_curve(str(method), points))
        if np.isfinite(best[1]):
            handles.append(axes.axhline(best[1], color="black", linestyle=(0, (6, 3))))
            labels.append(f"best single party: {shorten(best[0], 28)}")
            said.append(f"the best single party, {best[0]}: {percent(best[1])}")
        if np.isfinite(chosen).all():
            handles += axes.plot(
                *([chosen[0]], [chosen[1]]),
                linestyle="none",
                marker="*",
                markersize=13,
                color="black",
                clip_on=False,
                zorder=5,
            )
            labels.append("the chosen policy")
            said.append(
                f"the chosen policy: {percent(chosen[1])} with {percent(chosen[0])} "
                "deferred"
            )
        axes.set(xlabel="Share of cases deferred to people", ylabel="Accuracy")
        _percent_axes(axes.xaxis, axes.yaxis)
        _legend(figure, handles, labels)
        about = "Accuracy against the share of cases deferred. " + "; ".join(said) + "."
        return _svg(figure, about, prefix)


def workload_figure(workload: pd.DataFrame, prefix: str) -> str:
    """Bars of what each person is asked, beside how often they are right.

    Args:
      workload: the people to draw, first at the top, as in
        `l2d_jax.table.results.Evaluation`.
      prefix: of the identifiers inside.
    """
    num_people = len(workload)
    places = np.arange(num_people)
    accuracy, when_asked = (
        workload[column].to_numpy(float) for column in ("accuracy", "when_asked")
    )
    said = [
        f"{row.person}: asked in {percent(row.asked)} of cases, right in "
        f"{percent(row.accuracy)} of all their answers"
        + (
            ""
            if np.isnan(row.when_asked)
            else f" and in {percent(row.when_asked)} when asked"
        )
        for row in workload.itertuples()
    ]
    with _style():
        figure = Figure(
            figsize=(_WIDTH, 1.35 + 0.24 * num_people), layout="constrained"
        )
        bars, dots = figure.subplots(1, 2, sharey=True)
        bars.barh(
            *(places, workload["asked"].to_numpy(float)),
            height=0.62,
            color="#b9cfe4",
            edgecolor="#0b4f8a",
            hatch="////",
            linewidth=0.8,
        )
        bars.set_yticks(places, [shorten(p, _NAME_WIDTH) for p in workload["person"]])
        bars.set(xlabel="Cases given")
        bars.grid(False, axis="y")
        bars.tick_params(axis="y", length=0)
        bars.set_xlim(0, max(1.08 * np.nanmax([*workload["asked"], 0.0]), 0.01))
        bars.set_ylim(num_people - 0.4, -0.6)
        handles = [
            dots.hlines(
                *(places, workload["low"], workload["high"]),
                color="#333333",
                linewidth=1.2,
            ),
            *dots.plot(accuracy, places, "o", color="#333333", markersize=4.5),
            *dots.plot(
                *(when_asked, places, "D"),
                markerfacecolor="white",
                markeredgecolor="#a8400b",
                markeredgewidth=1.3,
                markersize=6,
                zorder=1.5,
            ),
        ]
        dots.set(xlabel="Answers right")
        dots.tick_params(axis="y", length=0)
        _percent_axes(bars.xaxis, dots.xaxis, steps=3)
        _legend(
            figure,
            handles[1:] + handles[:1],
            ["all their answers", "when asked", "95 % interval"],
            columns=3,
        )
        about = "What the people are asked and how often they are right. "
        return _svg(figure, about + "; ".join(said) + ".", prefix)


def calibration_figure(calibration: pd.DataFrame, prefix: str) -> str:
    """How often answers are right, against how often they were predicted to be.

    Args:
      calibration: as in `l2d_jax.table.results.Evaluation`, with at least one bin.
      prefix: of the identifiers inside.
    """
    bins = calibration.sort_values("predicted", kind="stable")
    predicted, observed, low, high, counts = (
        bins[column].to_numpy(float)
        for column in ("predicted", "observed", "low", "high", "count")
    )
    said = [
        f"predicted {percent(row.predicted, 0)}, observed {percent(row.observed, 0)} "
        f"({interval(row.low, row.high, 0)}) of {count(row.count)} answers"
        for row in bins[["predicted", "observed", "low", "high", "count"]].itertuples(
            index=False, name="Bin"
        )
    ]
    start = np.nanmin([*predicted, *observed, *low, 0.9])
    start = max(0.0, np.floor(10 * start) / 10)
    with _style():
        figure = Figure(figsize=(_WIDTH, 4.2), layout="constrained")
        above, below = figure.subplots(2, sharex=True, height_ratios=[4, 1])
        ideal = above.plot([start, 1], [start, 1], "--", color="#555555", linewidth=1)
        known = np.isfinite(low) & np.isfinite(high)
        above.vlines(
            *(predicted[known], low[known], high[known]), color="#0b4f8a", linewidth=1.2
        )
        seen = above.plot(
            *(predicted, observed, "o-"),
            color="#0b4f8a",
            markersize=5,
            linewidth=1,
            markerfacecolor="white",
        )
        above.set(ylabel="Observed share right")
        below.vlines(predicted, 0, counts, color="#333333", linewidth=4)
        below.set(xlabel="Predicted chance of being right", ylabel="Answers")
        below.set_ylim(0)
        below.set_xlim(start - 0.02, 1.02)
        below.yaxis.set_major_locator(ticker.MaxNLocator(3, integer=True))
        _percent_axes(above.xaxis, above.yaxis)
        _legend(figure, [*seen, *ideal], ["observed, 95 % interval", "ideal"])
        about = "Observed share of right answers against the predicted chance. "
        return _svg(figure, about + "; ".join(said) + ".", prefix)


def _said_of_curve(method: str, points: pd.DataFrame) -> str:
    """Its ends and its best point, in words."""
    known = points.dropna(subset=["accuracy"])
    if known.empty:
        return f"{method}: not known"
    ends = [0, int(np.argmax(known["accuracy"].to_numpy())), len(known) - 1]
    told = [
        f"{percent(row.accuracy)} ({interval(row.low, row.high)}) with "
        f"{percent(row.deferral)} deferred"
        for row in known.iloc[sorted(set(ends))].itertuples()
    ]
    return f"{method}: " + ", ".join(told)


@contextlib.contextmanager
def _style() -> Iterator[None]:
    """Matplotlib's own style with ours, whatever the user has set."""
    with style.context(_STYLE, after_reset=True), warnings.catch_warnings():
        # Letters that Matplotlib's font lacks are drawn by the browser's.
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        warnings.filterwarnings("ignore", "Matplotlib currently does not support")
        yield


def _percent_axes(*axes: Axis, steps: int = 5) -> None:
    for axis in axes:
        axis.set_major_formatter(lambda share, _: f"{round(100 * share, 6):g} %")
        axis.set_major_locator(ticker.MaxNLocator(steps, steps=[1, 2, 2.5, 5, 10]))


def _legend(
    figure: Figure, handles: Sequence, labels: Sequence[str], columns: int = 1
) -> None:
    """Below the axes; set afterwards, as a label that starts with _ is not shown."""
    legend = figure.legend(
        handles,
        [f"entry {i}" for i in range(len(labels))],
        loc="outside lower center",
        ncols=columns,
        handlelength=3 if columns == 1 else 1.5,
    )
    for text, label in zip(legend.get_texts(), labels, strict=True):
        text.set_text(label)


def _svg(figure: Figure, about: str, prefix: str) -> str:
    """The drawing as an element of a page, with ``about`` in place of sight."""
    file = io.BytesIO()
    figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    source = ElementTree.fromstring(file.getvalue())
    for element in source.iter():
        element.tag = _local(element.tag)
        element.attrib = {
            _local(name): _with_prefix(_local(name), value, prefix)
            for name, value in element.attrib.items()
        }
    # The page's own style holds what theirs says, which would be that of all the page.
    for parent in list(source.iter()):
        for child in list(parent):
            if child.tag in ("metadata", "style"):
                parent.remove(child)
    source.attrib = {
        "viewBox": source.attrib["viewBox"],
        "role": "img",
        "aria-label": printable(about),
    }
    return ElementTree.tostring(source, encoding="unicode")


def _local(name: str) -> str:
    """A name without its namespace, which elements of a page have of themselves."""
    return name.rpartition("}")[2]


def _with_prefix(name: str, value: str, prefix: str) -> str:
    """Identifiers, and what refers to them, are distinct among a page's figures."""
    if name == "id":
        return f"{prefix}-{value}"
    if name == "href":
        return value.replace("#", f"#{prefix}-", 1)
    return re.sub(r"url\(#", f"url(#{prefix}-", value)
