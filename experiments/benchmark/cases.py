"""Sweeps as the programs that they call: for devices that are there, or described.

A case is a workload of the benchmark at the default placement: what a sweep calls for a
chunk of runs, and one step of it, whose operations the compiler counts.
"""

import pathlib
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import ml_collections
import numpy as np

from experiments import images, problem, trainings
from experiments.benchmark import pairs, streams
from experiments.configs import cifar10, digits
from experiments.runtime.errors import ConfigError
from l2d_jax import data, models, optimizers
from l2d_jax.engine import chunks, placement, sweeps, training
from l2d_jax.learners import mixture
from l2d_jax.learners.batches import take
from l2d_jax.types import Dataset, HParams, PyTree, Sweep, TrainState


class Case(NamedTuple):
    """A workload as the programs that a slice would run.

    Attributes:
      workload: its name.
      unit: what a step is.
      network: as in `placement.default_placement`.
      dispatch: the program that the sweep calls, for a placement.
      step: one step of all runs of a chunk, without its loop: the compiler counts what
        is in a loop once, whatever its length.
      seconds: of such a step where the devices are there, for a placement and a number
        of steps, which are run.
    """

    workload: str
    unit: str
    network: str
    dispatch: Callable[[placement.Placement], jax.stages.Lowered]
    step: Callable[[placement.Placement], jax.stages.Lowered]
    seconds: Callable[[placement.Placement, int], float]


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


class Step(NamedTuple):
    """A step of all runs of a chunk, and what it starts from.

    Attributes:
      start: state of the runs before the first step.
      update: the experts' answers to a minibatch, and the update.
      runs: of the chunk.
      rows: a minibatch for each device or run, int ``[D or R, B]``.
    """

    start: placement.Placed
    update: placement.Placed
    runs: Sweep
    rows: np.ndarray


def make_step(trained: Trained, where: placement.Placement) -> Step:
    """The step of a sweep, without the loop that it is in."""
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
    size = (blocks, trained.batch_size)
    return Step(
        placement.place(start, where, "rrs"),
        placement.place(step, where, "rrr" + ("b" if share else "r"), donate=(0,)),
        runs,
        np.arange(blocks * trained.batch_size).reshape(size) % len(trained.pool.labels),
    )


def lower_step(trained: Trained, where: placement.Placement) -> jax.stages.Lowered:
    """One step of it: the experts' answers to a minibatch, and the update."""
    made = make_step(trained, where)
    batches = jax.eval_shape(jax.vmap(take, (None, 0)), trained.pool, made.rows)
    state = made.start.shapes(*made.runs, trained.pool)
    return made.update.lower(state, *made.runs, batches)


def time_step(trained: Trained, where: placement.Placement, num_steps: int) -> float:
    """Seconds of a step, the mean of as many, after one."""
    made = make_step(trained, where)
    runs = made.update.put_runs(tuple(made.runs))
    batches = made.update.put_runs(jax.vmap(take, (None, 0))(trained.pool, made.rows))
    state = made.start.run(*runs, made.start.put_shared(trained.pool))
    state = jax.block_until_ready(made.update.run(state, *runs, batches))
    began = time.perf_counter()
    for _ in range(num_steps):
        state = made.update.run(state, *runs, batches)
    jax.block_until_ready(state)
    return (time.perf_counter() - began) / num_steps


def trained_case(workload: str, trained: Trained, network: str = "dense") -> Case:
    """A sweep as a case."""
    return Case(
        workload,
        f"step of {trained.batch_size}",
        network,
        lambda where: lower_dispatch(trained, where),
        lambda where: lower_step(trained, where),
        lambda where, num_steps: time_step(trained, where, num_steps),
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


def small_cases(
    config: ml_collections.ConfigDict, given: ml_collections.ConfigDict
) -> Iterator[Case]:
    """Pairs of small nets."""
    del given
    size = config.rows + config.valid_rows
    for hidden in config.hidden:
        program = training.Program(
            pairs.make_small_learner(hidden),
            problem.annotate_with_nobody,
            pairs.score_small,
            num_epochs=config.epochs,
            eval_batch_size=config.valid_rows,
        )
        trained = Trained(
            program,
            pairs.make_pool(size, pairs.NUM_FEATURES),
            config.valid_rows / size,
            min(100, config.rows),
            10,
            {"cost": (0.0, 0.3), "learning_rate": (0.01,)},
        )
        yield trained_case(f"small nets, {hidden} units", trained)


def digits_cases(
    config: ml_collections.ConfigDict, given: ml_collections.ConfigDict
) -> Iterator[Case]:
    """The network of the digits experiment."""
    del config, given
    yield trained_case(
        "digits net", image_sweep(digits.get_config(), data.load_digits())
    )


def compas_cases(
    config: ml_collections.ConfigDict, given: ml_collections.ConfigDict
) -> Iterator[Case]:
    """Pairs of small nets with the mixture's regularized loss, in COMPAS's shapes."""
    del given
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


def stream_cases(
    config: ml_collections.ConfigDict, given: ml_collections.ConfigDict
) -> Iterator[Case]:
    """Closed-loop streams, a chunk of them in one call."""
    for num_annotators in given.annotators:
        yield stream_case(config.streams.arrivals, num_annotators)


def stream_case(num_tasks: int, num_annotators: int) -> Case:
    """Closed-loop streams of so many arrivals."""
    run = streams.make_runner(num_annotators)

    def arguments(num_tasks: int, where: placement.Placement) -> tuple[PyTree, PyTree]:
        count = where.num_devices * where.runs_per_device
        return (
            streams.make_streams(count, num_tasks),
            streams.make_tasks(num_tasks, num_annotators),
        )

    def lower(num_tasks: int, where: placement.Placement) -> jax.stages.Lowered:
        return chunks.lower_runs(run, *arguments(num_tasks, where), where=where)

    def seconds(where: placement.Placement, num_steps: int) -> float:
        drawn, tasks = arguments(num_steps, where)
        for _ in range(2):
            began = time.perf_counter()
            # The first of them compiles.
            jax.block_until_ready(chunks.map_runs(run, drawn, tasks, where=where))
        return (time.perf_counter() - began) / num_steps

    return Case(
        f"closed-loop streams, {num_annotators} annotators",
        "arrival",
        "dense",
        lambda where: lower(num_tasks, where),
        lambda where: lower(1, where),
        seconds,
    )


def wide_resnet_cases(
    config: ml_collections.ConfigDict, given: ml_collections.ConfigDict
) -> Iterator[Case]:
    """WideResNets in the shapes of CIFAR-10, as its config trains them on a GPU.

    Their convolution is given: "auto" asks for the backend of this machine, and not of
    the one that is compiled for.
    """
    empty = Dataset(
        np.zeros((50000, 32, 32, 3), np.uint8), np.arange(50000, dtype=np.int32) % 10
    )
    del config
    for depth, width in given.wide_resnets:
        settings = cifar10.get_config("paper")
        sizes = {"depth": depth, "width": width, "convolution": given.convolution}
        settings.model.update(sizes)
        yield trained_case(
            f"WideResNet-{depth}-{width}",
            image_sweep(settings, data.Splits(empty, empty, 10, "cifar10")),
            "convolutional",
        )


CASES: dict[
    str,
    Callable[[ml_collections.ConfigDict, ml_collections.ConfigDict], Iterator[Case]],
] = {
    "small": small_cases,
    "digits": digits_cases,
    "compas": compas_cases,
    "streams": stream_cases,
    "wide_resnet": wide_resnet_cases,
}
"""Workloads by name, of the config and of what it says of a table of cases."""


def cases_of(config: ml_collections.ConfigDict, name: str) -> list[Case]:
    """The cases of a table, such as ``topology``, in the order of its workloads.

    Raises:
      ConfigError: a workload is not known.
    """
    given = config[name]
    for workload in given.workloads:
        if workload not in CASES:
            raise ConfigError(
                f"{name}.workloads must be among {', '.join(CASES)}, got {workload!r}"
            )
    return [case for key in given.workloads for case in CASES[key](config, given)]
