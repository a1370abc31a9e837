"""What TPU slices would run, compiled without one: collectives, memory, operations.

A TPU's compiler needs the description of a slice and not the slice (extra ``tpu``), so
a machine without an accelerator compiles the very programs that a sweep would run on 4
or 256 chips. The table says what is in them: how many collectives, how much memory of a
chip they take, and what a step asks of its arithmetic and its memory. Nothing is run:
times are rooflines, the least that the chip's peaks allow, not measurements.

  JAX_PLATFORMS=cpu python -m experiments.benchmark --workdir=DIR \
      --config.workloads="('topology',)"
"""

import importlib.util
import os
import pathlib
import re
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import ml_collections
import numpy as np
import pandas as pd
from jax.experimental import topologies

from experiments import images, problem, tables, trainings
from experiments.benchmark import pairs, streams
from experiments.configs import cifar10, digits
from experiments.runtime.errors import ConfigError
from l2d_jax import data, models, optimizers
from l2d_jax.engine import chunks, placement, sweeps, training
from l2d_jax.learners import mixture
from l2d_jax.learners.batches import take
from l2d_jax.types import Dataset, HParams, Sweep, TrainState

COLLECTIVES = re.compile(
    r"\b(?:all-gather|all-reduce|all-to-all|collective-broadcast|collective-permute"
    r"|ragged-all-to-all|recv|reduce-scatter|send)(?:-start)?\("
)
"""Operations of a compiled program that send something to another chip."""


_OF_NO_SLICE = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}
"""What the compiler need not ask a machine without a TPU; no chip is there that only
one program may have."""


class Case(NamedTuple):
    """A workload as the programs that a slice would run.

    Attributes:
      workload: its name.
      unit: what a step is.
      network: as in `placement.default_placement`.
      dispatch: the program that the sweep calls, for a placement.
      step: one step of all runs of a chunk, without its loop: the compiler counts what
        is in a loop once, whatever its length.
    """

    workload: str
    unit: str
    network: str
    dispatch: Callable[[placement.Placement], jax.stages.Lowered]
    step: Callable[[placement.Placement], jax.stages.Lowered]


class Trained(NamedTuple):
    """What a sweep is made of, but for its runs.

    Attributes:
      program: what its runs share.
      pool: examples to train and validate on.
      valid_fraction: of the pool.
      batch_size: examples of a minibatch.
      epochs_per_dispatch: as in `sweeps.run_sweep`.
      hparams: of the grid; the first is varied between its ends.
    """

    program: training.Program
    pool: Dataset
    valid_fraction: float
    batch_size: int
    epochs_per_dispatch: int
    hparams: dict[str, tuple[float, ...]]


def make_runs(
    hparams: dict[str, tuple[float, ...]], where: placement.Placement
) -> Sweep:
    """As many runs as the devices hold: a seed for each, at as many settings."""
    (name, ends), *rest = hparams.items()
    values = np.linspace(ends[0], ends[-1], where.runs_per_device)
    return sweeps.grid(range(where.num_devices), {name: values, **dict(rest)})


def lower_dispatch(trained: Trained, where: placement.Placement) -> jax.stages.Lowered:
    """The program that a sweep calls for a chunk."""
    return sweeps.lower_dispatch(
        trained.program,
        make_runs(trained.hparams, where),
        trained.pool,
        split=problem.split_at_random(len(trained.pool.labels), trained.valid_fraction),
        batch_size=trained.batch_size,
        where=where,
        epochs_per_dispatch=trained.epochs_per_dispatch,
    )


def lower_step(trained: Trained, where: placement.Placement) -> jax.stages.Lowered:
    """One step of it: the experts' answers to a minibatch, and the update."""
    program = trained.program
    runs = make_runs(trained.hparams, where)
    _, share = sweeps.plan_chunks(runs.seeds, where.num_devices, where.runs_per_device)

    def start(seed: jax.Array, hparams: HParams, pool: Dataset) -> TrainState:
        return training.start(program, jax.random.key(0), seed, hparams, pool).train

    def step(
        state: TrainState, seed: jax.Array, hparams: HParams, batch: Dataset
    ) -> TrainState:
        key = training.run_key(jax.random.key(0), seed)
        batch = training.annotate_pool(program.annotate, key, hparams, batch)
        return program.learner.update(state, hparams, batch)[0]

    blocks = where.num_devices if share else len(runs.seeds)
    rows = np.zeros((blocks, trained.batch_size), np.int32)
    batches = jax.eval_shape(jax.vmap(take, (None, 0)), trained.pool, rows)
    state = placement.place(start, where, "rrs").shapes(*runs, trained.pool)
    axes = "rrr" + ("b" if share else "r")
    return placement.place(step, where, axes, donate=(0,)).lower(state, *runs, batches)


def trained_case(workload: str, trained: Trained, network: str = "dense") -> Case:
    """A sweep as a case."""
    return Case(
        workload,
        f"step of {trained.batch_size}",
        network,
        lambda where: lower_dispatch(trained, where),
        lambda where: lower_step(trained, where),
    )


def image_sweep(config: ml_collections.ConfigDict, splits: data.Splits) -> Trained:
    """The deferral learner's sweep of a config of images, by its own program."""
    (specialist,) = images.specialist(config, splits, pathlib.Path(), lambda: False)
    fold = specialist.split(0)
    return Trained(
        trainings.make_program(config, specialist, "deferral", len(fold.train)),
        specialist.pool,
        config.valid_fraction,
        config.batch_size,
        config.epochs_per_dispatch,
        {
            "alpha": (0.0, 1.0),
            "num_perfect": (5.0,),
            "learning_rate": (0.1,),
            "weight_decay": (5e-4,),
        },
    )


def digits_cases(config: ml_collections.ConfigDict) -> Iterator[Case]:
    """The network of the digits experiment."""
    del config
    yield trained_case(
        "digits net", image_sweep(digits.get_config(), data.load_digits())
    )


def compas_cases(config: ml_collections.ConfigDict) -> Iterator[Case]:
    """Pairs of small nets with the mixture's regularized loss, in COMPAS's shapes."""
    sizes = config.fair
    size = sizes.rows + sizes.valid_rows
    program = training.Program(
        mixture.make_learner(
            models.gated_pair(sizes.hidden), optimizers.make_adam(), regularized=True
        ),
        problem.annotate_with_nobody,
        mixture.loss_score(regularized=True),
        num_epochs=config.epochs,
        eval_batch_size=sizes.valid_rows,
    )
    trained = Trained(
        program,
        pairs.make_pool(size, sizes.features, grouped=True),
        sizes.valid_rows / size,
        sizes.batch,
        10,
        {"cost": (0.0, 0.3), "fairness": (0.5,), "learning_rate": (0.01,)},
    )
    yield trained_case("COMPAS pair, mixture", trained)


def stream_cases(config: ml_collections.ConfigDict) -> Iterator[Case]:
    """Closed-loop streams, a chunk of them in one call."""
    num_annotators = config.topology.annotators
    run = streams.make_runner(num_annotators)

    def lower(num_tasks: int, where: placement.Placement) -> jax.stages.Lowered:
        count = where.num_devices * where.runs_per_device
        drawn = streams.Stream(
            np.zeros((count, num_tasks), np.int32), np.zeros(count, np.int32)
        )
        tasks = streams.make_tasks(num_tasks, num_annotators)
        return chunks.lower_runs(run, drawn, tasks, where=where)

    yield Case(
        f"closed-loop streams, {num_annotators} annotators",
        "arrival",
        "dense",
        lambda where: lower(config.streams.arrivals, where),
        lambda where: lower(1, where),
    )


def wide_resnet_cases(config: ml_collections.ConfigDict) -> Iterator[Case]:
    """WideResNets in the shapes of CIFAR-10, as its config trains them on a GPU."""
    empty = Dataset(
        np.zeros((50000, 32, 32, 3), np.uint8), np.arange(50000, dtype=np.int32) % 10
    )
    for depth, width in config.topology.wide_resnets:
        settings = cifar10.get_config("paper")
        # What a TPU would choose: "auto" asks for the backend of this machine.
        sizes = {"depth": depth, "width": width, "convolution": "xla"}
        settings.model.update(sizes)
        yield trained_case(
            f"WideResNet-{depth}-{width}",
            image_sweep(settings, data.Splits(empty, empty, 10, "cifar10")),
            "convolutional",
        )


CASES: dict[str, Callable[[ml_collections.ConfigDict], Iterator[Case]]] = {
    "digits": digits_cases,
    "compas": compas_cases,
    "streams": stream_cases,
    "wide_resnet": wide_resnet_cases,
}
"""Workloads by name."""


def describe_slice(name: str) -> tuple[jax.Device, ...]:
    """The chips of a slice that is not there, such as ``v5e:2x2``.

    Raises:
      ConfigError: the compiler is not installed or does not start, or knows of no such
        slice.
    """
    if importlib.util.find_spec("libtpu") is None:
        raise ConfigError(
            "workload topology needs the TPU compiler; pip install 'l2d-jax[tpu]'"
        )
    if jax.default_backend() != "tpu":
        # Else it asks a server for the slice that this machine is of, and complains.
        for variable, value in _OF_NO_SLICE.items():
            os.environ.setdefault(variable, value)
    try:
        described = topologies.get_topology_desc(platform="tpu", topology_name=name)
    except jax.errors.JaxRuntimeError as error:
        said = (str(error).splitlines() or [""])[0]
        if not said.startswith("INVALID_ARGUMENT"):
            raise ConfigError(f"the TPU compiler does not start: {said}") from error
        raise ConfigError(
            f"topology.slices: no slice {name!r} can be described ({said}); give sizes"
            " such as '2x2' of a topology.generation such as 'v5e'"
        ) from error
    return tuple(np.ravel(described.devices))


def measure(
    case: Case,
    name: str,
    chip: ml_collections.ConfigDict,
    runs_per_chip: int | None = None,
) -> dict[str, str | int | float]:
    """Compile a case for a slice: its row of the table.

    Memory, operations and bytes are those of a chip; ``compile_seconds`` has tracing in
    it, and is of the whole program alone. Without a number of runs it is the default
    placement's.
    """
    where = placement.default_placement(case.network, describe_slice(name))
    if runs_per_chip is not None:
        where = where._replace(runs_per_device=runs_per_chip)
    began = time.perf_counter()
    compiled = case.dispatch(where).compile()
    seconds = time.perf_counter() - began
    memory = compiled.memory_analysis()
    cost = case.step(where).compile().cost_analysis()
    text = compiled.as_text()
    # The compiler of a TPU tells them all.
    assert memory is not None and cost is not None and text is not None
    in_use = (
        memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        - memory.alias_size_in_bytes
        + memory.temp_size_in_bytes
    )
    compute = cost["flops"] / (chip.peak_tflops * 1e12)
    transfer = cost["bytes accessed"] / (chip.memory_gb_per_second * 1e9)
    return {
        "workload": case.workload,
        "slice": name,
        "chips": where.num_devices,
        "runs_per_chip": where.runs_per_device,
        "runs": where.num_devices * where.runs_per_device,
        "collectives": len(COLLECTIVES.findall(text)),
        "argument_mib": memory.argument_size_in_bytes / 2**20,
        "temporary_mib": memory.temp_size_in_bytes / 2**20,
        "share_of_memory": in_use / (chip.memory_gib * 2**30),
        "unit": case.unit,
        "flops": cost["flops"],
        "bytes": cost["bytes accessed"],
        "roofline_seconds": max(compute, transfer),
        "bound": "arithmetic" if compute > transfer else "memory",
        "compile_seconds": seconds,
    }


def run(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> None:
    """Compile every workload for its slices; the table goes to ``topology.csv``.

    Raises:
      ConfigError: a workload or slice is not known, or there is no compiler.
    """
    given = config.topology
    for name in given.workloads:
        if name not in CASES:
            raise ConfigError(
                f"topology.workloads must be among {', '.join(CASES)}, got {name!r}"
            )
    rows = []
    for workload in given.workloads:
        for case in CASES[workload](config):
            sizes, runs = given.slices, None
            if case.network == "convolutional":
                sizes, runs = given.wide_resnet_slices, given.wide_resnet_runs
            for size in sizes:
                name = f"{given.generation}:{size}"
                rows.append(measure(case, name, given.chip, runs))
                print(
                    f"{case.workload}, {name}: {rows[-1]['collectives']} collectives,"
                    f" compiled in {rows[-1]['compile_seconds']:.0f} s",
                    flush=True,
                )
                # What is there stays, if a later one does not compile.
                tables.write_csv(pd.DataFrame(rows), workdir / "topology.csv")
    with pd.option_context("display.width", 250, "display.max_columns", None):
        print(pd.DataFrame(rows).to_string(index=False, float_format="{:.3g}".format))
    print(f"\nTable: {workdir / 'topology.csv'}")
