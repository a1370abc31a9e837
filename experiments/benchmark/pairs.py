"""Pairs of small nets, as in the experiments of Madras et al.: plain, and fair."""

import functools
from collections.abc import Callable, Iterator

import jax
import ml_collections
import numpy as np

from experiments.benchmark.timing import (
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
from l2d_jax import models, optimizers
from l2d_jax.engine import placement, sweeps, training
from l2d_jax.learners import gradient, mixture
from l2d_jax.types import Dataset, HParams, Learner, PyTree, Sweep

NUM_FEATURES = 20


def make_pool(size: int, num_features: int, *, grouped: bool = False) -> Dataset:
    """Made-up examples of two labels, an expert's probabilities and perhaps groups."""
    generator = np.random.default_rng(0)
    inputs = generator.normal(size=(size, num_features)).astype(np.float32)
    labels = (generator.random(size) < 1 / (1 + np.exp(-inputs[:, 0]))).astype(np.int32)
    prob = generator.uniform(0.05, 0.95, size).astype(np.float32)
    expert = np.stack([1 - prob, prob], axis=-1)[:, None]
    groups = generator.integers(0, 2, size).astype(np.int32) if grouped else None
    return Dataset(inputs, labels, groups=groups, expert_probs=expert)


def make_small_learner(hidden: int) -> Learner:
    """A pair of small nets, as in the experiments of Madras et al."""
    return gradient.make_gradient_learner(
        models.gated_pair(hidden),
        optimizers.make_adam(),
        mixture.make_batch_loss(),
        lambda outputs, hparams: outputs,
    )


def make_small_sweep(width: int) -> Sweep:
    """As many runs of such pairs, at different costs of deferring."""
    costs = np.linspace(0.0, 0.3, width)
    return sweeps.grid((0,), {"cost": costs, "learning_rate": (0.01,)})


def score_small(outputs: PyTree, valid: Dataset, hparams: HParams) -> jax.Array:
    """Their score in validation: how far their loss is below zero."""
    # This loss draws nothing.
    key = jax.random.key(0)
    return -mixture.make_batch_loss()(outputs, valid, hparams, key)


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

    def runs_of(num_costs: int, num_weights: int) -> Sweep:
        hparams = {
            "cost": np.linspace(0.0, 0.3, num_costs),
            "fairness": np.linspace(0.0, 2.0, num_weights),
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
      learner: reads ``learning_rate``, ``cost`` and perhaps ``fairness``.
      score: on validation data.
      single: the run that is trained alone.
      stacked: runs that are stacked by hand.
      swept: runs of the sweeps.
    """
    import torch

    from experiments.benchmark import torch_peers as peers

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
            annotate_with_nobody,
            score,
            num_epochs=config.epochs,
            eval_batch_size=size - num_train,
        )

        return time_training(
            timed,
            runs,
            pool,
            1.0,
            split=split_at_random(size, 1 - num_train / size),
            batch_size=batch,
            where=where,
            epochs_per_dispatch=10,
        )

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
        costs, alphas = runs.hparams["cost"], runs.hparams.get("fairness")
        return time_peer(
            lambda: train(*parts, orders, costs, params, alphas=alphas),
            float(width * epochs),
        )

    variant = functools.partial(Variant, workload=workload, unit=unit, flops=flops)
    for threads in thread_counts():
        yield variant(
            name=f"{SEQUENTIAL_TORCH}, {threads} thread(s)",
            width=1,
            time=functools.partial(peer, peers.train_small_sequential, single, threads),
        )
        for runs in stacked:
            yield variant(
                name=f"{STACKED_TORCH}, {threads} thread(s)",
                width=len(runs.seeds),
                time=functools.partial(peer, peers.train_small_stacked, runs, threads),
            )
    yield variant(
        name=SEQUENTIAL_JAX,
        width=1,
        time=lambda: sweep_of(single, placement.Placement("vmap", 1)),
    )
    default = placement.default_placement("dense")
    for runs in swept:
        yield variant(
            name=SWEEP,
            width=len(runs.seeds),
            time=functools.partial(sweep_of, runs, default),
        )
