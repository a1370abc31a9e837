"""The table of rates: every variant timed in turn, several times over; its figure."""

import pathlib
import statistics
from collections.abc import Callable

import jax
import matplotlib
import ml_collections
import pandas as pd

from experiments import tables
from experiments.benchmark import fields, growth, roofline, start, topology
from experiments.benchmark.layouts import layout_variants
from experiments.benchmark.networks import digits_variants, wide_resnet_variants
from experiments.benchmark.pairs import fair_variants, small_variants
from experiments.benchmark.scaling import scaling_variants
from experiments.benchmark.streams import stream_variants
from experiments.benchmark.timing import (
    ONE_CORE,
    SEQUENTIAL_JAX,
    SEQUENTIAL_NUMPY,
    SEQUENTIAL_TORCH,
    STACKED_TORCH,
    SWEEP,
    Timing,
    Variant,
    measure_peak,
    peak_memory_mib,
)
from experiments.benchmark.zoo import describe, zoo_variants
from experiments.runtime.errors import ConfigError

matplotlib.use("Agg")

import matplotlib.pyplot as plt

ALONE: dict[
    tuple[str, ...], Callable[[ml_collections.ConfigDict, pathlib.Path], None]
] = {
    ("growth",): growth.run,
    ("roofline",): roofline.run,
    ("start",): start.run,
    ("topology",): topology.run,
}
"""Workloads with tables of their own, not timed in turn with others."""


def run_all(variants: list[Variant], repeats: int) -> pd.DataFrame:
    """Time the variants in turn, ``repeats`` times over; one row each."""
    precisions = dict.fromkeys(variant.precision for variant in variants)
    peaks = {precision: measure_peak(precision) for precision in precisions}
    timings: list[list[Timing]] = [[] for _ in variants]
    memory = [float("nan")] * len(variants)
    for repeat in range(repeats):
        for number, variant in enumerate(variants):
            jax.clear_caches()
            timings[number].append(variant.time())
            memory[number] = timings[number][-1].memory_mib or peak_memory_mib()
            print(
                f"{repeat + 1}/{repeats} {variant.workload}: {variant.name},"
                f" width {variant.width}: "
                f"{timings[number][-1].work / timings[number][-1].seconds:.4g}"
                f" {variant.unit} a second",
                flush=True,
            )
    rows = []
    for variant, timed, most in zip(variants, timings, memory, strict=True):
        rate = statistics.median(t.work / t.seconds for t in timed)
        steady = statistics.median(t.work / t.steady_seconds for t in timed)
        rows.append(
            {
                "workload": variant.workload,
                "variant": variant.name,
                "width": variant.width,
                "unit": variant.unit,
                "rate": rate,
                "steady_rate": steady,
                "compile_seconds": statistics.median(
                    t.seconds - t.steady_seconds for t in timed
                ),
                "share_of_peak": steady * variant.flops / peaks[variant.precision],
                "peak_gflops": peaks[variant.precision] / 1e9,
                "peak_memory_mib": most,
                "repeats": repeats,
            }
        )
    table = pd.DataFrame(rows)
    for column, name in (
        ("ratio_to_sequential_torch", SEQUENTIAL_TORCH),
        ("ratio_to_stacked_torch", STACKED_TORCH),
        ("ratio_to_sequential_jax", SEQUENTIAL_JAX),
        ("ratio_to_sequential_numpy", SEQUENTIAL_NUMPY),
        ("ratio_to_one_core", ONE_CORE),
    ):
        # Against the best of the peer's rows: threads and widths are its own choice.
        peer_rows = table[table.variant.str.startswith(name)]
        best = peer_rows.groupby("workload").steady_rate.max()
        table[column] = table.rate / table.workload.map(best)
        table[f"steady_{column}"] = table.steady_rate / table.workload.map(best)
    return table


def draw(table: pd.DataFrame, path: pathlib.Path) -> None:
    """Rates of all variants, a panel for each workload."""
    workloads = list(dict.fromkeys(table.workload))
    figure, panels = plt.subplots(
        len(workloads),
        1,
        figsize=(8, 1 + 2.6 * len(workloads)),
        squeeze=False,
        layout="constrained",
    )
    for axes, workload in zip(panels[:, 0], workloads, strict=True):
        rows = table[table.workload == workload]
        names = rows.variant + ", width " + rows.width.astype(str)
        colors = ["C0" if v.startswith(SWEEP) else "0.6" for v in rows.variant]
        bars = axes.barh(names, rows.steady_rate, color=colors)
        ratios = rows.steady_ratio_to_sequential_torch.fillna(
            rows.steady_ratio_to_sequential_numpy
        ).fillna(rows.steady_ratio_to_one_core)
        labels = [f"{value:.3g} x" if value > 0 else "" for value in ratios]
        axes.bar_label(bars, labels)
        axes.margins(x=0.15)
        axes.invert_yaxis()
        axes.set_title(workload, loc="left")
        axes.set_xlabel(f"{rows.unit.iloc[0]} a second, compilation left out")
    figure.suptitle(
        "Labels: rate relative to PyTorch or NumPy, one run after another, or to 1 core"
    )
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> None:
    """Measure; the table goes to ``benchmark.csv`` in ``workdir``."""
    fields.check(config)
    if tuple(config.workloads) in ALONE:
        return ALONE[tuple(config.workloads)](config, workdir)
    try:
        import torch
    except ImportError as error:
        raise ConfigError(
            "the benchmark needs PyTorch; pip install 'l2d-jax[bench]'"
        ) from error
    if jax.default_backend() == "gpu" and torch.cuda.is_available():
        torch.set_default_device("cuda")
    made = {
        "small": lambda: [v for h in config.hidden for v in small_variants(config, h)],
        "fair": lambda: list(fair_variants(config)),
        "zoo": lambda: [v for name in config.zoo for v in zoo_variants(config, name)],
        "digits": lambda: list(digits_variants(config)),
        "streams": lambda: [
            v for m in config.streams.annotators for v in stream_variants(config, m)
        ],
        "scaling": lambda: list(scaling_variants(config)),
        "wide_resnet": lambda: list(wide_resnet_variants(config)),
        "layouts": lambda: list(layout_variants(config)),
    }
    for name in config.workloads:
        if name not in made:
            known = ", ".join(made)
            raise ConfigError(
                f"workloads must be among {known}, or growth, roofline, start or"
                f" topology alone, got {name!r}"
            )
    variants = [variant for name in config.workloads for variant in made[name]()]
    table = run_all(variants, config.repeats)
    tables.write_csv(table, workdir / "benchmark.csv")
    draw(table, workdir / "benchmark.png")
    with pd.option_context("display.width", 250, "display.max_colwidth", 50):
        print(table.to_string(index=False, float_format=lambda value: f"{value:.3g}"))
    for line in describe(table):
        print(line)
    print(f"\nTable and figure: {workdir}")
