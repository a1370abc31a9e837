"""What is timed, and how: one way of doing a workload, and one measurement of it."""

import dataclasses
import functools
import itertools
import resource
import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from experiments.runtime.devices import num_cores
from l2d_jax.engine import sweeps, training
from l2d_jax.types import Dataset, Sweep

SEQUENTIAL_TORCH = "PyTorch, one run after another"
SEQUENTIAL_JAX = "JAX, one jitted run after another"
STACKED_TORCH = "PyTorch, runs stacked by hand"
SEQUENTIAL_NUMPY = "NumPy, one stream after another"
SWEEP = "l2d_jax sweep"
ONE_CORE = "1 process, 1 device, 1 core"

PRECISIONS: dict[str, tuple[str, str | None]] = {
    "default": ("float32", None),
    "float32": ("float32", "highest"),
    "tf32": ("float32", "tensorfloat32"),
    "bfloat16": ("bfloat16", None),
}
"""Of what is computed, the dtype, and JAX's precision of products; None is JAX's own
choice, which on a GPU rounds the operands of float32 products to tf32."""


@dataclasses.dataclass(frozen=True)
class Timing:
    """One measurement.

    Attributes:
      work: units of work done.
      seconds: from the call to the result.
      steady_seconds: the same without compilation.
      memory_mib: most memory in use, of a process; None if it is not another one.
    """

    work: float
    seconds: float
    steady_seconds: float
    memory_mib: float | None = None


@dataclasses.dataclass(frozen=True)
class Variant:
    """One way of doing a workload.

    Attributes:
      workload: what is computed.
      name: how.
      width: runs at a time.
      unit: unit of work.
      flops: floating-point operations in a unit of work.
      precision: one of `PRECISIONS`: of it, and of the product whose rate is the peak.
      time: does it, and says how long it took.
    """

    workload: str
    name: str
    width: int
    unit: str
    flops: float
    time: Callable[[], Timing]
    precision: str = "default"


def measure_peak(precision: str = "default") -> float:
    """Floating-point operations a second of a large matrix product.

    The best of ten products each with XLA and, on a CPU, with NumPy's BLAS.

    Args:
      precision: one of `PRECISIONS`.
    """
    dtype, of_products = PRECISIONS[precision]
    size = 2048 if jax.default_backend() == "cpu" else 8192
    a = np.random.default_rng(0).normal(size=(size, size)).astype(np.float32)
    on_device = jnp.asarray(a, dtype)
    compiled = jax.jit(functools.partial(jnp.matmul, precision=of_products))
    products = [lambda: compiled(on_device, on_device).block_until_ready()]
    if jax.default_backend() == "cpu" and dtype == "float32":
        products.append(lambda: a @ a)
    best = float("inf")
    for product in products:
        product()
        for _ in range(10):
            start = time.perf_counter()
            product()
            best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


def time_sweep(run: Callable[[Callable], object], work_per_epoch: float) -> Timing:
    """Time a sweep; ``run`` is given what to call after each dispatch."""
    marks: list[tuple[float, int]] = []
    start = time.perf_counter()
    run(lambda progress: marks.append((time.perf_counter(), progress.done)))
    seconds = time.perf_counter() - start
    epochs = marks[-1][1]
    # The first dispatch of a chunk of a new shape compiles; a steady one is the median.
    gaps = [
        (end[0] - begin[0]) / (end[1] - begin[1])
        for begin, end in itertools.pairwise(marks)
        if end[1] > begin[1]
    ]
    steady = statistics.median(gaps) * epochs if gaps else seconds
    return Timing(epochs * work_per_epoch, seconds, steady)


def time_training(
    program: training.Program,
    runs: Sweep,
    pool: Dataset,
    work_per_epoch: float,
    **given,
) -> Timing:
    """Time a sweep of a program; ``given`` is what else `sweeps.run_sweep` takes."""
    return time_sweep(
        lambda report: sweeps.run_sweep(
            program, runs, pool, root_seed=0, report=report, **given
        ),
        work_per_epoch,
    )


def time_peer(run: Callable[[], object], work: float) -> Timing:
    """Time a call that compiles nothing."""
    start = time.perf_counter()
    run()
    seconds = time.perf_counter() - start
    return Timing(work, seconds, seconds)


def thread_counts() -> list[int]:
    """One thread, and all."""
    return sorted({1, num_cores()})


def peak_memory_mib() -> float:
    """Most memory in use so far, in MiB: of the accelerator, or else of the process."""
    stats = jax.devices()[0].memory_stats() or {}
    if "peak_bytes_in_use" in stats:
        return stats["peak_bytes_in_use"] / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
