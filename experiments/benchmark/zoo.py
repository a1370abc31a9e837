"""Seven methods that learn to defer, over many seeds: all of them, and one in PyTorch.

What the sweeps train is what `experiments.zoo` trains, by the same rows of methods and
trainings. Five are the surrogates of one network that the literature compares; the
sixth trains two networks by themselves, the seventh one after another. The last two
share their classifier, in PyTorch too.
"""

import functools
import itertools
import math
from collections.abc import Callable, Iterator, Sequence

import ml_collections
import numpy as np
import pandas as pd

from experiments import trainings
from experiments.benchmark.timing import (
    SEQUENTIAL_TORCH,
    SWEEP,
    Timing,
    Variant,
    thread_counts,
    time_peer,
    time_sweep,
)
from experiments.methods import METHODS
from experiments.problem import Problem, Traits, one_team, split_at_random
from experiments.trainings import TRAININGS
from l2d_jax.engine import orders
from l2d_jax.types import Dataset

NAMES = (
    "deferral",
    "one_vs_all",
    "asymmetric_softmax",
    "realizable",
    "rl2d",
    "confidence",
    "two_stage",
)
UNIT = f"seeds of {len(NAMES)} methods"
EPOCHS_PER_DISPATCH = 10


def needed_trainings() -> list[str]:
    """What the methods train, each once; what another comes after stands before it."""
    rows = [name for method in NAMES for name in METHODS[method].trainings]
    both = [part for name in rows for part in (TRAININGS[name].after, name)]
    return [name for name in dict.fromkeys(both) if name]


def make_problem(sizes: ml_collections.ConfigDict) -> Problem:
    """Made-up examples of K labels, and an expert who is right about seven in ten."""
    generator = np.random.default_rng(0)
    size, num_classes = sizes.rows + sizes.valid_rows, sizes.classes
    inputs = generator.normal(size=(size, sizes.features)).astype(np.float32)
    noise = generator.gumbel(size=(size, num_classes))
    labels = np.argmax(inputs[:, :num_classes] + noise, axis=1).astype(np.int32)
    is_right = generator.random(size) < 0.7
    answers = np.where(is_right, labels, (labels + 1) % num_classes)[:, None]
    pool = Dataset(inputs, labels, answers.astype(np.int32))
    return Problem(
        name="made up",
        traits=Traits(num_classes),
        pool=pool,
        test=pool,
        teams=one_team,
        split=split_at_random(size, sizes.valid_rows / size),
    )


def make_config(sizes: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
    """What the trainings read of an experiment's config."""
    config = ml_collections.ConfigDict()
    config.seed = 0
    config.num_seeds = sizes.seeds
    # RL2D has its own loss from the first step on, as in PyTorch.
    config.grid = {"learning_rate": (0.01,), "warm": (0.0,)}
    network = {"name": "mlp", "hidden": sizes.hidden, "activation": "sigmoid"}
    config.model = config.expert_model = network
    config.optimizer = "adam"
    config.batch_size = sizes.batch
    config.num_epochs = config.expert_model_epochs = sizes.epochs
    config.best_epoch = "loss"
    config.patience = 0
    config.placement = "auto"
    config.runs_per_device = sizes.runs_per_device
    config.epochs_per_dispatch = EPOCHS_PER_DISPATCH
    config.eval_batch_size = sizes.valid_rows
    config.checkpoint_seconds = math.inf
    return config


def time_zoo(sizes: ml_collections.ConfigDict) -> Timing:
    """Time all seeds of all methods."""
    config, problem = make_config(sizes), make_problem(sizes)
    names = needed_trainings()
    done: dict[str, trainings.Trained] = {}
    timings = []
    for name in names:

        def run(report: Callable, name: str = name) -> None:
            done[name] = trainings.train(
                config, problem, name, None, lambda: False, done, report
            )

        timings.append(time_sweep(run, 1.0 / (sizes.epochs * len(names))))
    return Timing(
        sum(timing.work for timing in timings),
        sum(timing.seconds for timing in timings),
        sum(timing.steady_seconds for timing in timings),
    )


def draw_layers(
    seed: int, widths: Sequence[int]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Kernels and biases of a network to start from, LeCun's variance and zeros."""
    generator = np.random.default_rng(seed)
    return [
        (
            generator.normal(0.0, num_in**-0.5, (num_in, num_out)).astype(np.float32),
            np.zeros(num_out, np.float32),
        )
        for num_in, num_out in itertools.pairwise(widths)
    ]


def zoo_variants(config: ml_collections.ConfigDict, name: str) -> Iterator[Variant]:
    """All methods on one shape: some epochs in PyTorch, and sweeps of all seeds.

    Args:
      config: of the benchmark.
      name: of the shape, a field of ``config.zoo``.
    """
    import torch

    from experiments.benchmark import torch_zoo

    sizes = config.zoo[name]
    names = needed_trainings()
    widths = {
        training: (
            sizes.features,
            *sizes.hidden,
            torch_zoo.PEERS[training].num_outputs(sizes.classes),
        )
        for training in names
    }

    def peer(threads: int) -> Timing:
        torch.set_num_threads(threads)
        problem = make_problem(sizes)
        pool = problem.pool
        runs = []
        for seed in range(sizes.peer_seeds):
            fold = problem.split(seed)
            rows = orders.epoch_orders(
                seed, 0, sizes.peer_epochs, fold.train, sizes.batch
            )
            layers = {key: draw_layers(seed, value) for key, value in widths.items()}
            runs.append((fold.valid, rows, layers))

        def run(num_epochs: int, num_steps: int) -> None:
            for valid, rows, layers in runs:
                part = rows[:num_epochs, :num_steps]
                torch_zoo.train_in_turn(names, pool, sizes.classes, valid, part, layers)

        run(1, 1)  # PyTorch's first calls take as long as many epochs.
        everything = functools.partial(run, *runs[0][1].shape[:2])
        return time_peer(
            everything, sizes.peer_seeds * sizes.peer_epochs / sizes.epochs
        )

    workload = f"zoo of {len(NAMES)} methods, {name}, {sizes.epochs} epochs"
    per_epoch = sum(epoch_flops(sizes, value) for value in widths.values())
    variant = functools.partial(
        Variant, workload=workload, unit=UNIT, flops=sizes.epochs * per_epoch
    )
    for threads in thread_counts():
        yield variant(
            name=f"{SEQUENTIAL_TORCH}, {threads} thread(s)",
            width=1,
            time=functools.partial(peer, threads),
        )
    yield variant(
        name=SWEEP, width=sizes.seeds, time=functools.partial(time_zoo, sizes)
    )


def epoch_flops(sizes: ml_collections.ConfigDict, widths: Sequence[int]) -> float:
    """Operations of an epoch of a network, validation among them; products only."""
    products = [num_in * num_out for num_in, num_out in itertools.pairwise(widths)]
    # Forward, the gradients of weights, and that of all but the first layer's inputs.
    trained = 2 * sum(products) + sum(products[1:])
    steps = sizes.rows // sizes.batch
    return 2.0 * (steps * sizes.batch * trained + sizes.valid_rows * sum(products))


def describe(table: pd.DataFrame) -> list[str]:
    """A line for each shape in a table of rates: all seeds here, and one in PyTorch."""
    lines = []
    for workload, rows in table[table.unit == UNIT].groupby("workload", sort=False):
        peers = rows[rows.variant.str.startswith(SEQUENTIAL_TORCH)]
        sweep = rows[rows.variant == SWEEP].iloc[0]
        one, every = 1.0 / peers.rate.max(), sweep.width / sweep.rate
        lines.append(
            f"{workload}: one seed in PyTorch takes {one:.3g} s, all {sweep.width} in"
            f" l2d_jax {every:.3g} s, {every / one:.3g} times as long, compilation"
            f" ({sweep.compile_seconds:.3g} s) included"
        )
    return lines
