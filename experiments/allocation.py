"""Whom to ask when nobody knows the truth: closed-loop task allocation.

A stream of tasks is served by committees of annotators, and their answers, right or
wrong, are all that trains the choice of the next committee. A stream is one scan;
hundreds of them (seeds, strengths of the prior, pools) are one program.

  python -m experiments.allocation --config=experiments/configs/FILE --workdir=DIR

``clusters.py`` has tasks in clusters of which each annotator knows one; ``bias.py``
tests the paper's two claims about bias, and ``toxicity.py`` asks real people whether
posts are toxic.

References:
  Keswani, Celis, Kenthapadi and Lease, "Designing Closed-Loop Models for Task
  Allocation", 2023.
"""

import pathlib
from collections.abc import Mapping

import ml_collections
import pandas as pd

from experiments import networks, schema, tables
from experiments.figures import streams as stream_figures
from experiments.runtime import cli, progress, signals
from experiments.runtime.errors import ConfigError
from experiments.runtime.workdir import claim_workdir
from experiments.streams import bias, clusters, studies, texts
from experiments.streams import tables as stream_tables
from experiments.streams.methods import METHODS
from experiments.streams.studies import Study
from l2d_jax.crowds import allocation
from l2d_jax.crowds.allocation import Committee
from l2d_jax.data import Annotated
from l2d_jax.engine import processes
from l2d_jax.simulate import biased_groups

SETTINGS = {
    "clusters": ("dataset", "method", "strength", "misplaced", "split"),
    "bias": (
        "dataset",
        "method",
        "committee_size",
        "alpha",
        "gamma",
        "window",
        "split",
    ),
    "texts": ("dataset", "truth", "method", "split"),
}
"""Columns that name a setting, by task."""


def check(config: ml_collections.ConfigDict) -> None:
    """Check the config.

    Raises:
      ConfigError: a value cannot be used; the message names the field and the remedy.
    """
    schema.check(config, schema.ALLOCATION)
    if config.task == "bias":
        bias.check(config)
        return
    parts = parts_of(config)
    if not parts:
        field = "scenarios" if config.task == "clusters" else "datasets"
        raise ConfigError(f"{field} is empty; give at least one to run")
    for name, part in parts.items():
        where = f"{'scenarios' if config.task == 'clusters' else 'datasets'}.{name}"
        check_stream(where, part)
        if config.task == "clusters":
            clusters.check(where, part)
        else:
            texts.check(where, name, part)


def parts_of(
    config: ml_collections.ConfigDict,
) -> dict[str, ml_collections.ConfigDict]:
    """The scenarios or data sets that are to be run, by name."""
    parts = config.scenarios if config.task == "clusters" else config.datasets
    chosen = config.run or tuple(parts)
    schema.many(schema.one_of(parts), least=0)("run", chosen)
    return {name: parts[name] for name in chosen}


def check_stream(where: str, config: ml_collections.ConfigDict) -> None:
    """Check one scenario or data set; ``where`` leads to it.

    Raises:
      ConfigError: a value cannot be used.
    """
    schema.check(config, schema.STREAM, f"{where}.")
    schema.many(schema.one_of(METHODS))(f"{where}.methods", config.methods)
    count = config.get("num_annotators", config.committee_size)
    try:
        allocation.check_committee(
            Committee(config.committee_size, config.replace), count
        )
    except ValueError as error:
        raise ConfigError(f"{where}.committee_size: {error}") from error
    ours = config.competence
    schema.number(0.0, ours.base)(f"{where}.competence.least", ours.least)


def plan(
    config: ml_collections.ConfigDict, sources: Mapping[str, Annotated]
) -> list[Study]:
    """What the config asks for, of the data sets that it names."""
    if config.task == "bias":
        return [bias.plan(config)]
    return [
        clusters.plan(name, part, config.seed)
        if config.task == "clusters"
        else texts.plan(name, part, sources[name], config.seed)
        for name, part in parts_of(config).items()
    ]


def main(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> None:
    """Run the experiment; results go to ``workdir``."""
    check(config)
    sources = texts.load(config) if config.task == "texts" else {}
    claim_workdir(config, workdir, sources)
    where = networks.make_placement(config)
    with signals.StopSignal() as stop:
        planned = plan(config, sources)
        studies.check(planned, where)
        parts = studies.run(planned, where, workdir, stop)
    if config.task == "bias":
        results, curves = bias.join(config, parts)
    else:
        results, curves, workload = stream_tables.join(parts)
        tables.write_csv(workload, workdir / "workload.csv")
    summary = summarize(config, results)
    tables.write_csv(results, workdir / "results.csv")
    tables.write_csv(curves, workdir / "curves.csv")
    tables.write_csv(summary, workdir / "summary.csv")
    processes.from_first(lambda: stream_figures.draw(workdir, config.task))
    tables.seal(workdir)
    progress.say(describe(config.task, summary))
    progress.say(f"\nTables, figures and checkpoints: {workdir}")


def summarize(config: ml_collections.ConfigDict, results: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds, or splits, and their intervals."""
    settings = SETTINGS[config.task]
    if config.task == "bias":
        return tables.summarize(results, settings, bias.METRICS)
    if config.task == "clusters":
        return tables.summarize(results, settings, stream_tables.METRICS)
    metrics = stream_tables.METRICS
    parts = [
        tables.summarize(rows, settings, metrics, texts.interval(config.datasets[name]))
        for name, rows in results.groupby("dataset", sort=False)
    ]
    return pd.concat(parts, ignore_index=True)


def describe(task: str, summary: pd.DataFrame) -> str:
    """The summary of a task as text, in %, with half widths of 95 % intervals."""
    rows = summary[summary.split == "test"]
    if task == "bias":
        return describe_bias(rows)
    text = describe_clusters(rows) if task == "clusters" else describe_texts(rows)
    return text + tables.describe_diverged(rows, ("dataset", "method"))


def describe_clusters(rows: pd.DataFrame) -> str:
    """Accuracy of the annotator of largest weight, by method and strength."""
    parts = []
    for dataset, part in rows.groupby("dataset", sort=False):
        reads = part.strength.notna()
        for share, of_share in part[reads].groupby("misplaced"):
            table = tables.pivot(of_share, "strength", "first_accuracy")
            parts.append(f"{dataset}, {100 * share:.0f} % misplaced: {table}")
        if not reads.all():
            table = tables.pivot(part[~reads], "dataset", "first_accuracy")
            parts.append(f"{dataset}, methods that read no prior: {table}")
    return "\n\n".join(parts)


def describe_bias(rows: pd.DataFrame) -> str:
    """The gap at start and end, beside the exact one of the start with k = 1."""
    gaps = rows[rows.metric == "gap"]
    first, last = gaps.window.min(), gaps.window.max()
    when = gaps.window.map({first: "start", last: "end"})
    # Before the stream nobody has learned, whatever the method.
    name = gaps.method.where(gaps.window == last, "any")
    column = when + ", " + name + ", k=" + gaps.committee_size.astype(str)
    table = gaps.assign(cell=tables.cells(gaps), column=column).drop_duplicates(
        ["alpha", "gamma", "column"]
    )
    order = table.sort_values("window", kind="stable").column.unique()
    table = table.pivot(index=["alpha", "gamma"], columns="column", values="cell")
    table = table[order]
    alphas, gammas = (table.index.get_level_values(place) for place in (0, 1))
    exact = [f"{100 * gap:.1f}" for gap in biased_groups.gap(alphas, gammas)]
    table.insert(0, "exact, k=1", exact)
    return (
        "accuracy on group 1 less that on group 0, points, mean ± 95 % interval over"
        f" {gaps.n.max()} seeds\n{table.rename_axis(columns=None).to_string()}"
    )


def describe_texts(rows: pd.DataFrame) -> str:
    """Accuracy of the committee, that of the largest weight, and area, by method."""
    metrics = ["accuracy", "first_accuracy", "roc_auc"]
    rows = rows[rows.metric.isin(metrics) & (rows.n > 0)]
    parts = []
    for (dataset, truth), part in rows.groupby(["dataset", "truth"], sort=False):
        table = part.assign(cell=tables.cells(part)).pivot(
            index="method", columns="metric", values="cell"
        )
        methods = part.method.unique()
        table = table.reindex(index=methods, columns=metrics)
        table = table.astype(object).fillna("")
        table = table.rename_axis(index=None, columns=None)
        parts.append(
            f"{dataset}, {truth} truth: %, mean ± 95 % interval over {part.n.max()}"
            f" splits\n{table.to_string()}"
        )
    return "\n\n".join(parts)


if __name__ == "__main__":
    cli.run(main)
