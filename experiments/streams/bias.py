"""Bias in a closed loop: Claims 2.1 and 2.2 by formula and by simulation.

References:
  Keswani, Celis, Kenthapadi and Lease, "Designing Closed-Loop Models for Task
  Allocation", 2023, Sections 2.1 and 2.2.
"""

import itertools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pandas as pd

from experiments import schema, tables
from experiments.runtime.errors import ConfigError
from experiments.streams.studies import Kind, Study
from l2d_jax.crowds import allocation, reward_penalty, streams
from l2d_jax.crowds.allocation import Arrivals, Committee
from l2d_jax.engine import memory, training
from l2d_jax.simulate import biased_groups
from l2d_jax.types import PyTree

METHODS = {"everyone": True, "consulted": False}
"""Who is rewarded and penalized: all annotators, as Eq. 2 has it, or who was asked."""
METRICS = ("gap", "accuracy_0", "accuracy_1")


def check(config: ml_collections.ConfigDict) -> None:
    """Check what the fields of a config say together.

    Raises:
      ConfigError: a value cannot be used; the message names the field and the remedy.
    """
    for alpha in config.alphas:
        count = alpha * config.num_annotators
        if abs(count - round(count)) > 1e-6 or not 0 < count < config.num_annotators:
            raise ConfigError(
                f"alphas: {alpha} of {config.num_annotators} annotators is {count:g},"
                " not a whole number of them; change it or num_annotators"
            )
    for size in config.committee_sizes:
        try:
            allocation.check_committee(Committee(size), config.num_annotators)
        except ValueError as error:
            raise ConfigError(f"committee_sizes: {error}") from error
    schema.whole(config.num_windows)("num_tasks", config.num_tasks)


def make_run(
    config: ml_collections.ConfigDict, method: str, size: int
) -> Callable[[PyTree, PyTree], PyTree]:
    """A stream of tasks, as a function of ``(run, shared)`` for `chunks.map_runs`.

    The result has the accuracies of the committee on held-out tasks of either group,
    float ``[W + 1, 2]``, before the stream and after each window of it.
    """
    num_annotators = config.num_annotators
    allocator = reward_penalty.make_allocator(METHODS[method])
    committee = Committee(size)

    def run(run: PyTree, shared: PyTree) -> PyTree:
        key = training.run_key(jax.random.key(shared["seed"]), run["seed"])
        train_key, test_key, seat_key, test_seat_key = jax.random.split(key, 4)
        alpha = run["alpha"]
        train = biased_groups.simulate(
            train_key, config.num_tasks, num_annotators, alpha
        )
        test = biased_groups.simulate(
            test_key, config.num_test_tasks, num_annotators, alpha
        )
        annotators = biased_groups.make_annotators(num_annotators, alpha, run["gamma"])
        hparams = {"rate": run["rate"], "gold": jnp.zeros(())}
        state = allocator.init(key, hparams, annotators, train.features)
        test_noise = allocation.draw_noise(
            test_seat_key, config.num_test_tasks, num_annotators, committee
        )

        def judge(state: PyTree) -> jax.Array:
            served, _ = streams.deploy(
                allocator, hparams, committee, state, test, test_noise
            )
            measured = streams.measure(served, test, annotators.pools, 2, 2)
            return measured["accuracy_by_category"]

        width = -(-config.num_tasks // config.num_windows)
        padded = streams.pad(train, width * config.num_windows)
        noise = allocation.draw_noise(
            seat_key, width * config.num_windows, num_annotators, committee
        )

        def window(
            state: PyTree, part: tuple[Arrivals, jax.Array]
        ) -> tuple[PyTree, jax.Array]:
            state, _ = streams.serve(
                allocator, hparams, committee, state, *part, 1, lambda a, s: ()
            )
            return state, judge(state)

        parts = jax.tree.map(
            lambda leaf: leaf.reshape(config.num_windows, width, *leaf.shape[1:]),
            (padded, noise),
        )
        first = judge(state)
        _, rest = jax.lax.scan(window, state, parts)
        return jnp.concatenate([first[None], rest])

    return run


def plan(config: ml_collections.ConfigDict) -> Study:
    """All settings; a kind's table has a row for each run and place in the stream."""
    num_settings = len(config.alphas) * len(config.gammas)
    # Of a row its three numbers alone, as Python has them.
    memory.require(runs=3 * 24 * num_settings * config.num_seeds)
    grid = list(
        itertools.product(config.alphas, config.gammas, range(config.num_seeds))
    )
    alphas, gammas, seeds = (np.array(column) for column in zip(*grid, strict=True))
    runs = {
        "seed": seeds.astype(np.int32),
        "alpha": alphas.astype(np.float32),
        "gamma": gammas.astype(np.float32),
        "rate": np.full(len(grid), config.rate, np.float32),
    }
    exact = biased_groups.gap(alphas, gammas)
    lower, upper = biased_groups.printed_bounds(alphas, gammas)

    def make_kind(size: int, method: str) -> Kind:
        def tabulate(accuracies: np.ndarray) -> pd.DataFrame:
            parts = [
                pd.DataFrame(
                    {
                        "experiment": "allocation",
                        "dataset": "biased_groups",
                        "method": method,
                        "seed": seeds,
                        "committee_size": size,
                        "alpha": alphas,
                        "gamma": gammas,
                        "split": "test",
                        "window": place,
                        "gap": accuracies[:, place, 1] - accuracies[:, place, 0],
                        "accuracy_0": accuracies[:, place, 0],
                        "accuracy_1": accuracies[:, place, 1],
                        "exact_gap": exact,
                        "printed_lower": lower,
                        "printed_upper": upper,
                    }
                )
                for place in range(accuracies.shape[1])
            ]
            return pd.concat(parts, ignore_index=True)

        return Kind(
            f"bias, {method}, k = {size}",
            f"{method}_{size}",
            make_run(config, method, size),
            runs,
            tabulate,
        )

    pairs = itertools.product(config.committee_sizes, METHODS)
    return Study(
        [make_kind(*pair) for pair in pairs], lambda: {"seed": np.int32(config.seed)}
    )


def join(
    config: ml_collections.ConfigDict, parts: Sequence[pd.DataFrame]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Tables of all kinds as one.

    Returns:
      ``results``: a row for each run at its start and at its end; ``curves``: means
      over seeds with intervals along the stream.
    """
    everything = pd.concat(parts, ignore_index=True)
    ends = (0, config.num_windows)
    results = everything[everything.window.isin(ends)].reset_index(drop=True)
    settings = [
        "dataset",
        "method",
        "committee_size",
        "alpha",
        "gamma",
        "exact_gap",
        "printed_lower",
        "printed_upper",
        "split",
        "window",
    ]
    return results, tables.summarize(everything, settings, METRICS)
