"""Networks of images: that of the digits, and WideResNets."""

import functools
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import ml_collections
import numpy as np

from experiments.benchmark.timing import (
    PRECISIONS,
    SEQUENTIAL_JAX,
    SEQUENTIAL_TORCH,
    STACKED_TORCH,
    SWEEP,
    Timing,
    Variant,
    thread_counts,
    time_peer,
    time_training,
)
from experiments.problem import annotate_with_nobody, split_at_random
from experiments.trainings import team_score
from l2d_jax import data, models, optimizers
from l2d_jax.engine import placement, sweeps, training
from l2d_jax.learners import deferral
from l2d_jax.types import Dataset, HParams, ModelFns, TrainState


def digits_variants(config: ml_collections.ConfigDict) -> Iterator[Variant]:
    """The network of the digits experiment, over many seeds."""
    import torch

    from experiments.benchmark import torch_peers as peers

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
            annotate_with_nobody,
            team_score,
            num_epochs=config.digits_epochs,
        )
        hparams = {"alpha": (1.0,), "learning_rate": (0.1,), "weight_decay": (0.0,)}

        return time_training(
            timed,
            sweeps.grid(range(seeds), hparams),
            annotated,
            float(steps),
            split=split_at_random(len(pool.labels), 0.2),
            batch_size=128,
            where=where,
            epochs_per_dispatch=20,
        )

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
    variant = functools.partial(Variant, workload=workload, unit=unit, flops=flops)
    for threads in thread_counts():
        yield variant(
            name=f"{SEQUENTIAL_TORCH}, {threads} thread(s)",
            width=1,
            time=functools.partial(peer, peers.train_digits_sequential, 1, threads),
        )
        yield variant(
            name=f"{STACKED_TORCH}, {threads} thread(s)",
            width=seeds,
            time=functools.partial(peer, peers.train_digits_stacked, seeds, threads),
        )
    yield variant(
        name=SEQUENTIAL_JAX,
        width=1,
        time=lambda: sweep_of(1, placement.Placement("vmap", 1)),
    )
    default = placement.default_placement("dense")
    yield variant(name=SWEEP, width=seeds, time=lambda: sweep_of(seeds, default))


def make_images(size: int) -> Dataset:
    """Made-up images of 32 x 32 pixels, labels of ten classes and an expert's."""
    generator = np.random.default_rng(0)
    return Dataset(
        generator.normal(size=(size, 32, 32, 3)).astype(np.float32),
        generator.integers(0, 10, size).astype(np.int32),
        generator.integers(0, 10, (size, 1)).astype(np.int32),
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


def time_wide_resnet_peer(
    batch: Dataset,
    depth: int,
    width: int,
    num_seeds: int,
    num_steps: int,
    work_per_step: float,
    precision: str = "default",
) -> Timing:
    """Time training steps in PyTorch, one seed after another."""
    import torch

    from experiments.benchmark import torch_peers as peers

    dtype = getattr(torch, PRECISIONS[precision][0])
    inputs = torch.tensor(np.asarray(batch.inputs))
    targets = torch.tensor(peers.deferral_targets(batch, 10, 1.0))
    made = [peers.make_wide_resnet(seed, depth, width, 11) for seed in range(num_seeds)]

    def run(steps: int) -> None:
        for net in made:
            for _ in range(steps):
                loss = peers.wide_resnet_step(*net, inputs, targets, dtype)
        loss.item()  # A GPU is done then.

    run(1)
    work = num_seeds * num_steps * work_per_step
    return time_peer(functools.partial(run, num_steps), work)


def wide_resnet_variants(config: ml_collections.ConfigDict) -> Iterator[Variant]:
    """A training step of a WideResNet, over a few seeds."""
    import torch

    sizes = config.wide_resnet
    batch = make_images(sizes.batch)
    workload = f"WideResNet-{sizes.depth}-{sizes.width} step, batch {sizes.batch}"
    model = models.wide_resnet(sizes.depth, sizes.width, 11)
    flops = wide_resnet_flops(sizes.depth, sizes.width) * sizes.batch
    unit = "steps of a seed"

    def sweep_of(where: placement.Placement) -> Timing:
        return time_steps(model, batch, where, sizes.seeds, sizes.steps, 1)

    def peer(threads: int) -> Timing:
        torch.set_num_threads(threads)
        return time_wide_resnet_peer(
            batch, sizes.depth, sizes.width, sizes.seeds, sizes.steps, 1
        )

    variant = functools.partial(Variant, workload=workload, unit=unit, flops=flops)
    for threads in thread_counts():
        yield variant(
            name=f"{SEQUENTIAL_TORCH}, {threads} thread(s)",
            width=1,
            time=functools.partial(peer, threads),
        )
    yield variant(
        name=SEQUENTIAL_JAX,
        width=1,
        time=lambda: sweep_of(placement.Placement("vmap", 1)),
    )
    where = placement.default_placement("convolutional")
    yield variant(
        name=SWEEP,
        width=where.num_devices * where.runs_per_device,
        time=lambda: sweep_of(where),
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


def convnet_flops(
    channels: Sequence[int], window: int, hidden: Sequence[int], num_outputs: int
) -> float:
    """Operations of a training step of `models.convnet` on one 32 x 32 image.

    A multiply and an add count as two; the backward pass is twice the forward one.
    """
    total, side, planes = 0, 32, 3
    for outputs in channels:
        side -= window - 1
        total += side**2 * window**2 * planes * outputs
        side, planes = side // 2, outputs
    dense = (side**2 * planes, *hidden, num_outputs)
    total += sum(rows * columns for rows, columns in itertools.pairwise(dense))
    return 3.0 * 2.0 * total
