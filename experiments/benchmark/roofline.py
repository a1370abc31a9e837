"""What a step of a sweep could take at least on this machine, and what it takes.

The compiler counts the operations of a step, the bytes that its operations read and
write, and the transcendental functions, which for networks of a few units are no small
part. The machine's rates are measured with all devices at work: of a large matrix
product, of hyperbolic tangents, and of adding arrays that take as much memory as the
step, since what fits in a cache is moved faster. Each count by its rate is a least
time. The longest of them bounds the step; where one is done after another, and not at
once, their sum does.

  python -m experiments.benchmark --workdir=DIR --config.workloads="('roofline',)"
"""

import pathlib
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pandas as pd

from experiments import tables
from experiments.benchmark.cases import Case, cases_of
from experiments.benchmark.timing import measure_peak
from l2d_jax.engine import placement
from l2d_jax.types import PyTree

_BYTES = 2**29
"""Moved, about, to measure how fast."""
_TANH = (2**12, 2**12)
"""Numbers, few enough for the fastest cache, and how often each is used."""


def measure_bandwidth(num_bytes: int, where: placement.Placement) -> float:
    """Bytes that a device reads and writes a second, while all do.

    Args:
      num_bytes: that its arrays take.
      where: the devices.
    """
    size = max(num_bytes // 8, 2**10)
    times = max(_BYTES // (12 * size), 1)

    def add(arrays: PyTree) -> jax.Array:
        first, second = arrays
        return jax.lax.fori_loop(0, times, lambda _, total: 0.5 * total + second, first)

    arrays = np.ones((2, where.num_devices, size), np.float32)
    # Two numbers are read and one is written.
    return 12 * size * times / _time(add, where, (arrays[0], arrays[1]))


def measure_tanh(where: placement.Placement) -> float:
    """Hyperbolic tangents of a device a second, while all take them."""
    size, times = _TANH

    def take(numbers: jax.Array) -> jax.Array:
        return jax.lax.fori_loop(0, times, lambda _, n: jnp.tanh(n), numbers)

    numbers = np.full((where.num_devices, size), 0.5, np.float32)
    return size * times / _time(take, where, numbers)


def _time(
    function: Callable[[PyTree], PyTree], where: placement.Placement, runs: PyTree
) -> float:
    """Seconds of a function on all devices, one run on each, the best of three."""
    placed = placement.place(function, where._replace(runs_per_device=1), "r")
    runs = placed.put_runs(runs)
    jax.block_until_ready(placed.run(runs))
    best = float("inf")
    for _ in range(3):
        began = time.perf_counter()
        jax.block_until_ready(placed.run(runs))
        best = min(best, time.perf_counter() - began)
    return best


def measure(
    case: Case, where: placement.Placement, product_rate: float, num_steps: int
) -> dict[str, str | int | float]:
    """A case's row of the table; counts, bytes and rates are those of a device.

    Args:
      case: what is computed.
      where: its runs.
      product_rate: operations of a matrix product a second, of a device.
      num_steps: that are timed.
    """
    compiled = case.step(where).compile()
    cost, memory = compiled.cost_analysis(), compiled.memory_analysis()
    assert cost is not None and memory is not None
    in_use = memory.argument_size_in_bytes + memory.temp_size_in_bytes
    bandwidth = measure_bandwidth(in_use, where)
    least = {
        "operations": cost["flops"] / product_rate,
        "memory": cost["bytes accessed"] / bandwidth,
        "functions": cost.get("transcendentals", 0.0) / measure_tanh(where),
    }
    seconds = case.seconds(where, num_steps)
    bound = max(least, key=lambda name: least[name])
    return {
        "workload": case.workload,
        "devices": where.num_devices,
        "runs_per_device": where.runs_per_device,
        "unit": case.unit,
        "flops": cost["flops"],
        "bytes": cost["bytes accessed"],
        "functions": cost.get("transcendentals", 0.0),
        "memory_mib": in_use / 2**20,
        "product_gflops": product_rate / 1e9,
        "gb_per_second": bandwidth / 1e9,
        **{f"{name}_seconds": value for name, value in least.items()},
        "seconds": seconds,
        "bound": bound,
        "share": least[bound] / seconds,
        "share_of_sum": sum(least.values()) / seconds,
    }


def run(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> None:
    """Measure every workload; the table goes to ``roofline.csv``.

    Raises:
      ConfigError: a workload is not known.
    """
    given = config.roofline
    cases, peak = cases_of(config, "roofline"), measure_peak()
    rows = []
    for case in cases:
        where = placement.default_placement(case.network)
        # Of one device: the product that is measured has all of them.
        rows.append(measure(case, where, peak / where.num_devices, given.steps))
        print(f"{case.workload}: {rows[-1]['share']:.0%} of what is possible")
        tables.write_csv(pd.DataFrame(rows), workdir / "roofline.csv")
    with pd.option_context("display.width", 250, "display.max_columns", None):
        print(pd.DataFrame(rows).to_string(index=False, float_format="{:.3g}".format))
    print(f"\nTable: {workdir / 'roofline.csv'}")
