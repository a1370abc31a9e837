"""Speed of the engine beside its peers, measured in one run.

Every workload is the same training in several variants: plain PyTorch one run after
another, PyTorch with the runs stacked by hand, one jitted JAX run after another, and
this library's sweep; closed-loop streams have a loop of NumPy calls in place of
PyTorch. All variants are timed in turn, several times over; a rate is the
median of its repeats. A sweep is timed from the call to its result, compilation
included; ``steady_rate`` leaves compilation out. On a GPU the peers run there too.
For scaling, the same sweep runs on one core and on more devices and processes.

  python -m experiments.benchmark --workdir=DIR
"""

import dataclasses
import functools
import itertools
import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib
import ml_collections
import numpy as np
import pandas as pd

from experiments import benchmark_streams, images, tables
from experiments.runtime import cli
from experiments.runtime.devices import num_cores
from experiments.runtime.errors import ConfigError
from l2d_jax import data, models, optimizers
from l2d_jax.engine import (
    chunks,
    placement,
    sweeps,
    training,
)
from l2d_jax.learners import deferral, gradient, mixture
from l2d_jax.types import (
    Dataset,
    HParams,
    Learner,
    ModelFns,
    PyTree,
    Sweep,
    TrainState,
)

matplotlib.use("Agg")

import matplotlib.pyplot as plt

SEQUENTIAL_TORCH = "PyTorch, one run after another"
SEQUENTIAL_JAX = "JAX, one jitted run after another"
STACKED_TORCH = "PyTorch, runs stacked by hand"
SEQUENTIAL_NUMPY = "NumPy, one stream after another"
SWEEP = "l2d_jax sweep"
ONE_CORE = "1 process, 1 device, 1 core"
NUM_FEATURES = 20


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
      dtype: of the matrix product whose rate is the peak.
      time: does it, and says how long it took.
    """

    workload: str
    name: str
    width: int
    unit: str
    flops: float
    time: Callable[[], Timing]
    dtype: str = "float32"


def measure_peak(dtype: str = "float32") -> float:
    """Floating-point operations a second of a large matrix product.

    The best of ten products each with XLA and, on a CPU, with NumPy's BLAS.
    """
    size = 2048 if jax.default_backend() == "cpu" else 8192
    a = np.random.default_rng(0).normal(size=(size, size)).astype(np.float32)
    on_device = jnp.asarray(a, dtype)
    compiled = jax.jit(jnp.matmul)
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


def time_peer(run: Callable[[], object], work: float) -> Timing:
    """Time a call that compiles nothing."""
    start = time.perf_counter()
    run()
    seconds = time.perf_counter() - start
    return Timing(work, seconds, seconds)


def make_pool(size: int, num_features: int, *, grouped: bool = False) -> Dataset:
    """Made-up examples of two labels, an expert's probabilities and perhaps groups."""
    generator = np.random.default_rng(0)
    inputs = generator.normal(size=(size, num_features)).astype(np.float32)
    labels = (generator.random(size) < 1 / (1 + np.exp(-inputs[:, 0]))).astype(np.int32)
    prob = generator.uniform(0.05, 0.95, size).astype(np.float32)
    expert = np.stack([1 - prob, prob], axis=-1)[:, None]
    groups = generator.integers(0, 2, size).astype(np.int32) if grouped else None
    return Dataset(inputs, labels, expert, groups)


def make_small_learner(hidden: int) -> Learner:
    """A pair of small nets, as in the experiments of Madras et al."""
    return gradient.make_gradient_learner(
        models.gated_pair(hidden),
        optimizers.make_adam(),
        mixture.batch_loss,
        lambda outputs, hparams: outputs,
    )


def make_small_sweep(width: int) -> Sweep:
    """As many runs of such pairs, at different costs of deferring."""
    costs = np.linspace(0.0, 0.3, width)
    return sweeps.grid((0,), {"cost": costs, "learning_rate": (0.01,)})


def score_small(outputs: PyTree, valid: Dataset, hparams: HParams) -> jax.Array:
    """Their score in validation: how far their loss is below zero."""
    return -mixture.batch_loss(outputs, valid, hparams)


def small_variants(config: ml_collections.ConfigDict, hidden: int) -> Iterator[Variant]:
    """Pairs of small nets in four ways."""
    first = hidden == config.hidden[0]
    yield from pair_variants(
        config,
        f"small nets, {hidden} units",
        hidden,
        make_pool(config.rows + config.valid_rows, NUM_FEATURES),
        config.rows,
        min(100, config.rows),
        make_small_learner(hidden),
        score_small,
        make_small_sweep(1),
        [make_small_sweep(width) for width in config.stacked_widths],
        [
            make_small_sweep(width)
            for width in (config.widths if first else config.other_widths)
        ],
    )


def fair_variants(config: ml_collections.ConfigDict) -> Iterator[Variant]:
    """Fair deferral over prices and weights of fairness, in the shapes of COMPAS."""
    sizes = config.fair
    learner = mixture.make_learner(
        models.gated_pair(sizes.hidden), optimizers.make_adam(), regularized=True
    )

    def runs_of(num_costs: int, num_alphas: int) -> Sweep:
        hparams = {
            "cost": np.linspace(0.0, 0.3, num_costs),
            "alpha": np.linspace(0.0, 2.0, num_alphas),
            "learning_rate": np.array([0.01]),
        }
        return sweeps.grid((0,), hparams)

    grids = [runs_of(*grid) for grid in sizes.grids]
    yield from pair_variants(
        config,
        f"fair deferral, {sizes.hidden} units",
        sizes.hidden,
        make_pool(sizes.rows + sizes.valid_rows, sizes.features, grouped=True),
        sizes.rows,
        sizes.batch,
        learner,
        mixture.loss_score(regularized=True),
        runs_of(1, 1),
        grids,
        grids,
    )


def pair_variants(
    config: ml_collections.ConfigDict,
    workload: str,
    hidden: int,
    pool: Dataset,
    num_train: int,
    batch: int,
    learner: Learner,
    score: training.Score,
    single: Sweep,
    stacked: list[Sweep],
    swept: list[Sweep],
) -> Iterator[Variant]:
    """Pairs of small nets in four ways, validated after every epoch.

    Args:
      config: of the benchmark.
      workload: its name.
      hidden: units of each net of a pair.
      pool: ``num_train`` examples to train on, and those to validate on.
      num_train: examples that the peers train on; a sweep draws as many.
      batch: examples of a minibatch.
      learner: reads ``learning_rate``, ``cost`` and, for fairness, ``alpha``.
      score: on validation data.
      single: the run that is trained alone.
      stacked: runs that are stacked by hand.
      swept: runs of the sweeps.
    """
    import torch

    from experiments import benchmark_torch as peers

    size, num_features = pool.inputs.shape
    unit = "epochs of a run"
    steps = num_train // batch
    # The disparity's few products are left out.
    weights = hidden * (2 * num_features + 3)
    flops = 2.0 * weights * (3 * steps * batch + size - num_train)
    generator = np.random.default_rng(0)

    def sweep_of(runs: Sweep, where: placement.Placement) -> Timing:
        timed = training.Program(
            learner,
            images.annotate_with_nobody,
            score,
            num_epochs=config.epochs,
            eval_batch_size=size - num_train,
        )

        def run(report: Callable) -> object:
            return sweeps.run_sweep(
                timed,
                runs,
                pool,
                root_seed=0,
                valid_fraction=1 - num_train / size,
                batch_size=batch,
                where=where,
                epochs_per_dispatch=10,
                report=report,
            )

        return time_sweep(run, 1.0)

    def peer(train: Callable, runs: Sweep, threads: int) -> Timing:
        torch.set_num_threads(threads)
        width, epochs = len(runs.seeds), config.peer_epochs
        rows = [
            generator.permutation(num_train)[: steps * batch] for _ in range(epochs)
        ]
        orders = np.stack(rows).reshape(epochs, steps, batch)
        params = peers.SmallParams(
            peers.xavier_params(range(width), num_features, hidden, 1),
            peers.xavier_params(range(width), num_features + 1, hidden, 1),
        )
        parts = (
            jax.tree.map(lambda leaf: leaf[:num_train], pool),
            jax.tree.map(lambda leaf: leaf[num_train:], pool),
        )
        costs, alphas = runs.hparams["cost"], runs.hparams.get("alpha")
        return time_peer(
            lambda: train(*parts, orders, costs, params, alphas=alphas),
            float(width * epochs),
        )

    for threads in thread_counts():
        yield Variant(
            workload,
            f"{SEQUENTIAL_TORCH}, {threads} thread(s)",
            1,
            unit,
            flops,
            functools.partial(peer, peers.train_small_sequential, single, threads),
        )
        for runs in stacked:
            yield Variant(
                workload,
                f"{STACKED_TORCH}, {threads} thread(s)",
                len(runs.seeds),
                unit,
                flops,
                functools.partial(peer, peers.train_small_stacked, runs, threads),
            )
    yield Variant(
        workload,
        SEQUENTIAL_JAX,
        1,
        unit,
        flops,
        lambda: sweep_of(single, placement.Placement("vmap", 1)),
    )
    default = placement.default_placement(convolutional=False)
    for runs in swept:
        yield Variant(
            workload,
            SWEEP,
            len(runs.seeds),
            unit,
            flops,
            functools.partial(sweep_of, runs, default),
        )


def digits_variants(config: ml_collections.ConfigDict) -> Iterator[Variant]:
    """The network of the digits experiment, over many seeds."""
    import torch

    from experiments import benchmark_torch as peers

    splits = data.load_digits()
    pool = splits.train
    num_train = len(pool.labels) - round(0.2 * len(pool.labels))
    steps = num_train // 128
    expert_labels = np.where(pool.labels < 5, pool.labels, 0)[:, None]
    annotated = pool._replace(expert_labels=expert_labels.astype(np.int32))
    weights = 64 * 128 + 128 * 11
    # Forward, both weight gradients, and the gradient of the hidden units.
    flops = 2.0 * 128 * (2 * weights + 128 * 11)
    workload, unit = "digits net", "steps of a run"

    def sweep_of(seeds: int, where: placement.Placement) -> Timing:
        timed = training.Program(
            deferral.make_learner(
                models.mlp((128,), 11),
                optimizers.make_sgd(config.digits_epochs * steps),
            ),
            images.annotate_with_nobody,
            images.system_score,
            num_epochs=config.digits_epochs,
        )
        hparams = {"alpha": (1.0,), "learning_rate": (0.1,), "weight_decay": (0.0,)}

        def run(report: Callable) -> object:
            return sweeps.run_sweep(
                timed,
                sweeps.grid(range(seeds), hparams),
                annotated,
                root_seed=0,
                valid_fraction=0.2,
                batch_size=128,
                where=where,
                epochs_per_dispatch=20,
                report=report,
            )

        return time_sweep(run, float(steps))

    def peer(train: Callable, seeds: int, threads: int) -> Timing:
        torch.set_num_threads(threads)
        epochs = config.digits_peer_epochs
        generator = np.random.default_rng(0)
        size = len(annotated.labels)
        rows = [
            generator.permutation(size)[: steps * 128] for _ in range(seeds * epochs)
        ]
        orders = np.stack(rows).reshape(seeds, epochs, steps, 128)
        targets = peers.deferral_targets(annotated, 10, 1.0)
        params = peers.xavier_params(range(seeds), 64, 128, 11)
        inputs = np.asarray(annotated.inputs).reshape(size, -1)
        return time_peer(
            lambda: train(inputs, targets, orders, params),
            float(seeds * epochs * steps),
        )

    seeds = config.digits_seeds
    for threads in thread_counts():
        yield Variant(
            workload,
            f"{SEQUENTIAL_TORCH}, {threads} thread(s)",
            1,
            unit,
            flops,
            functools.partial(peer, peers.train_digits_sequential, 1, threads),
        )
        yield Variant(
            workload,
            f"{STACKED_TORCH}, {threads} thread(s)",
            seeds,
            unit,
            flops,
            functools.partial(peer, peers.train_digits_stacked, seeds, threads),
        )
    yield Variant(
        workload,
        SEQUENTIAL_JAX,
        1,
        unit,
        flops,
        lambda: sweep_of(1, placement.Placement("vmap", 1)),
    )
    yield Variant(
        workload,
        SWEEP,
        seeds,
        unit,
        flops,
        lambda: sweep_of(seeds, placement.default_placement(convolutional=False)),
    )


def time_steps(
    model: ModelFns,
    batch: Dataset,
    where: placement.Placement,
    num_seeds: int,
    num_steps: int,
    work_per_step: float,
) -> Timing:
    """Time training steps of the deferral learner, for several seeds."""
    learner = deferral.make_learner(model, optimizers.make_sgd(1000))
    hparams = {"alpha": 1.0, "learning_rate": 0.1, "weight_decay": 5e-4}
    hparams = jax.tree.map(np.float32, hparams)

    def init(seed: jax.Array, hparams: HParams, batch: Dataset) -> TrainState:
        return learner.init(jax.random.key(seed), hparams, batch)

    def advance(state: TrainState, hparams: HParams, batch: Dataset) -> TrainState:
        def step(state: TrainState, _: Any) -> tuple[TrainState, None]:
            return learner.update(state, hparams, batch)[0], None

        return jax.lax.scan(step, state, length=num_steps)[0]

    start = time.perf_counter()
    placed = placement.place(advance, where, "rss", donate=(0,))
    started = placement.place(init, where, "rss")
    width = where.num_devices * where.runs_per_device
    groups = -(-num_seeds // width)
    shared = placed.put_shared((hparams, batch))
    states = [
        started.run(placed.put_runs(np.arange(g * width, (g + 1) * width)), *shared)
        for g in range(groups)
    ]
    states = [jax.block_until_ready(placed.run(state, *shared)) for state in states]
    compiled = time.perf_counter()
    for _ in range(2):
        states = [jax.block_until_ready(placed.run(state, *shared)) for state in states]
    steady = time.perf_counter() - compiled
    work = 2.0 * groups * width * num_steps * work_per_step
    return Timing(work, steady + compiled - start, steady)


def wide_resnet_variants(config: ml_collections.ConfigDict) -> Iterator[Variant]:
    """A training step of a WideResNet, over a few seeds."""
    import torch

    from experiments import benchmark_torch as peers

    sizes = config.wide_resnet
    generator = np.random.default_rng(0)
    batch = Dataset(
        generator.normal(size=(sizes.batch, 32, 32, 3)).astype(np.float32),
        generator.integers(0, 10, sizes.batch).astype(np.int32),
        generator.integers(0, 10, (sizes.batch, 1)).astype(np.int32),
    )
    workload = f"WideResNet-{sizes.depth}-{sizes.width} step, batch {sizes.batch}"
    model = models.wide_resnet(sizes.depth, sizes.width, 11)
    flops = wide_resnet_flops(sizes.depth, sizes.width) * sizes.batch
    unit = "steps of a seed"

    def sweep_of(where: placement.Placement) -> Timing:
        return time_steps(model, batch, where, sizes.seeds, sizes.steps, 1)

    def peer(threads: int) -> Timing:
        torch.set_num_threads(threads)
        targets = peers.deferral_targets(batch, 10, 1.0)
        made = [
            peers.make_wide_resnet(seed, sizes.depth, sizes.width, 11)
            for seed in range(sizes.seeds)
        ]
        inputs = np.asarray(batch.inputs)
        for net in made:
            peers.wide_resnet_step(*net, inputs, targets)

        def run() -> None:
            for net in made:
                for _ in range(sizes.steps):
                    peers.wide_resnet_step(*net, inputs, targets)

        return time_peer(run, float(sizes.seeds * sizes.steps))

    for threads in thread_counts():
        yield Variant(
            workload,
            f"{SEQUENTIAL_TORCH}, {threads} thread(s)",
            1,
            unit,
            flops,
            functools.partial(peer, threads),
        )
    yield Variant(
        workload,
        SEQUENTIAL_JAX,
        1,
        unit,
        flops,
        lambda: sweep_of(placement.Placement("vmap", 1)),
    )
    where = placement.default_placement(convolutional=True)
    yield Variant(
        workload,
        SWEEP,
        where.num_devices * where.runs_per_device,
        unit,
        flops,
        lambda: sweep_of(where),
    )


def large_wide_resnet_variants(
    config: ml_collections.ConfigDict,
) -> Iterator[Variant]:
    """Images a second of a large WideResNet, for one seed and for several together."""
    sizes = config.large_wide_resnet
    generator = np.random.default_rng(0)
    batch = Dataset(
        generator.normal(size=(sizes.batch, 32, 32, 3)).astype(np.float32),
        generator.integers(0, 10, sizes.batch).astype(np.int32),
        generator.integers(0, 10, (sizes.batch, 1)).astype(np.int32),
    )
    model = models.wide_resnet(
        sizes.depth, sizes.width, 11, dtype=jnp.dtype(sizes.dtype)
    )
    for seeds in sizes.seeds:
        for kind in ("vmap", "loop"):
            yield Variant(
                f"WideResNet-{sizes.depth}-{sizes.width}, {sizes.dtype}",
                f"{SWEEP}, {kind}",
                seeds,
                "images",
                wide_resnet_flops(sizes.depth, sizes.width),
                functools.partial(
                    time_steps,
                    model,
                    batch,
                    placement.Placement(kind, seeds),
                    seeds,
                    sizes.steps,
                    sizes.batch,
                ),
                sizes.dtype,
            )


def stream_variants(
    config: ml_collections.ConfigDict, num_annotators: int
) -> Iterator[Variant]:
    """Closed-loop allocation, one arrival at a time, in many streams."""
    sizes = config.streams
    workload, unit = f"closed-loop streams, {num_annotators} annotators", "arrivals"
    # The scores, and the gradient and the step of every annotator's.
    flops = 3 * 2.0 * num_annotators * (benchmark_streams.NUM_FEATURES + 1)
    tasks = benchmark_streams.make_tasks(sizes.arrivals, num_annotators)
    streams = benchmark_streams.make_streams(sizes.streams, sizes.arrivals)

    def loop() -> Timing:
        generator = np.random.default_rng(0)
        shape = (sizes.arrivals, benchmark_streams.COMMITTEE.size)

        def run() -> None:
            for order in streams.order[: sizes.peer_streams]:
                noise = generator.random(shape, dtype=np.float32)
                benchmark_streams.serve_with_numpy(tasks, order, noise)

        return time_peer(run, float(sizes.peer_streams * sizes.arrivals))

    def sweep_of(count: int, where: placement.Placement) -> Timing:
        def run(report: Callable) -> object:
            return chunks.map_runs(
                benchmark_streams.make_runner(num_annotators),
                jax.tree.map(lambda leaf: leaf[:count], streams),
                tasks,
                where=where,
                report=report,
            )

        return time_sweep(run, float(sizes.arrivals))

    yield Variant(workload, SEQUENTIAL_NUMPY, 1, unit, flops, loop)
    yield Variant(
        workload,
        SEQUENTIAL_JAX,
        1,
        unit,
        flops,
        lambda: sweep_of(sizes.peer_streams, placement.Placement("vmap", 1)),
    )
    where = placement.default_placement(convolutional=False)
    yield Variant(
        workload,
        SWEEP,
        min(sizes.streams, where.num_devices * where.runs_per_device),
        unit,
        flops,
        lambda: sweep_of(sizes.streams, where),
    )


def scaling_variants(config: ml_collections.ConfigDict) -> Iterator[Variant]:
    """One sweep of small nets on more and more devices, and on more processes.

    In strong scaling the runs are as many, in weak scaling they grow with the devices.
    Devices beyond the cores are simulated: they show what more of them cost, and not
    what they gain.
    """
    sizes = config.scaling
    cores = num_cores()
    layouts = [(1, 1, 1), (1, cores, cores), (cores, 1, cores)]
    layouts.append((1, sizes.simulated_devices, cores))

    def time_layout(processes: int, devices: int, cores: int, runs: int) -> Timing:
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "launch.local", f"--processes={processes}"]
            command += ["--", "experiments.benchmark_scaling", f"--workdir={folder}"]
            command += [f"--config.num_runs={runs}"]
            for name in ("rows", "valid_rows", "epochs", "runs_per_device"):
                command.append(f"--config.{name}={sizes[name]}")
            every = os.sched_getaffinity(0)
            # Inherited by the processes that this thread starts.
            os.sched_setaffinity(0, sorted(every)[:cores])
            try:
                subprocess.run(
                    command,
                    env={**os.environ, "JAX_NUM_CPU_DEVICES": str(devices)},
                    stdout=subprocess.DEVNULL,
                    check=True,
                )
            finally:
                os.sched_setaffinity(0, every)
            return Timing(**json.loads(pathlib.Path(folder, "timing.json").read_text()))

    for kind in ("strong", "weak"):
        for processes, devices, used in layouts:
            runs = sizes.strong_runs
            if kind == "weak":
                runs = sizes.weak_runs * processes * devices
            name = ONE_CORE if used == 1 else f"{processes} x {devices}, {used} cores"
            yield Variant(
                f"{kind} scaling, processes x devices",
                name,
                runs,
                "epochs of a run",
                float("nan"),
                functools.partial(time_layout, processes, devices, used, runs),
            )


def wide_resnet_flops(depth: int, width: int) -> float:
    """Operations of a training step on one 32 x 32 image, convolutions only.

    A multiply and an add count as two; the backward pass is twice the forward one.
    """
    blocks = (depth - 4) // 6
    total, channels, size = 32 * 32 * 9 * 3 * 16, 16, 32
    for group in range(3):
        out = 16 * width * 2**group
        size = 32 // 2**group
        for block in range(blocks):
            total += size * size * 9 * out * (channels + out)
            if block == 0:
                total += size * size * channels * out
            channels = out
    return 3.0 * 2.0 * total


def thread_counts() -> list[int]:
    """One thread, and all."""
    return sorted({1, num_cores()})


def peak_memory_mib() -> float:
    """Most memory in use so far, in MiB: of the accelerator, or else of the process."""
    stats = jax.devices()[0].memory_stats() or {}
    if "peak_bytes_in_use" in stats:
        return stats["peak_bytes_in_use"] / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def run_all(variants: list[Variant], repeats: int) -> pd.DataFrame:
    """Time the variants in turn, ``repeats`` times over; one row each."""
    peaks = {dtype: measure_peak(dtype) for dtype in {v.dtype for v in variants}}
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
                "share_of_peak": steady * variant.flops / peaks[variant.dtype],
                "peak_gflops": peaks[variant.dtype] / 1e9,
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
        colors = ["C0" if v == SWEEP else "0.6" for v in rows.variant]
        bars = axes.barh(names, rows.steady_rate, color=colors)
        ratios = rows.steady_ratio_to_sequential_torch.fillna(
            rows.steady_ratio_to_sequential_numpy
        ).fillna(rows.steady_ratio_to_one_core)
        axes.bar_label(bars, [f"{value:.3g} x" for value in ratios])
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
        "digits": lambda: list(digits_variants(config)),
        "streams": lambda: [
            v for m in config.streams.annotators for v in stream_variants(config, m)
        ],
        "scaling": lambda: list(scaling_variants(config)),
        "wide_resnet": lambda: list(wide_resnet_variants(config)),
        "large_wide_resnet": lambda: list(large_wide_resnet_variants(config)),
    }
    for name in config.workloads:
        if name not in made:
            known = ", ".join(made)
            raise ConfigError(f"workloads must be among {known}, got {name!r}")
    names = list(config.workloads)
    if jax.default_backend() == "gpu":
        names.append("large_wide_resnet")
    variants = [variant for name in names for variant in made[name]()]
    table = run_all(variants, config.repeats)
    tables.write_csv(table, workdir / "benchmark.csv")
    draw(table, workdir / "benchmark.png")
    with pd.option_context("display.width", 250, "display.max_colwidth", 50):
        print(table.to_string(index=False, float_format=lambda value: f"{value:.3g}"))
    print(f"\nTable and figure: {workdir}")


if __name__ == "__main__":
    cli.run(main, "experiments/configs/benchmark.py")
