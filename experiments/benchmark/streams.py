"""Closed-loop streams that the benchmark times: a NumPy loop, and this library's scan.

A stream serves its tasks one at a time: weigh the annotators, draw a committee, let it
vote, and take a step of gradient descent on who agreed (Smooth-Matching, a linear score
for each annotator). Both ways take the same tasks, order and noise and give the same
labels.

Axes: T tasks, D features, M annotators, Z categories, k seats.

References:
  Keswani, Celis, Kenthapadi and Lease, "Designing Closed-Loop Models for Task
  Allocation", 2023.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from experiments.benchmark.timing import (
    SEQUENTIAL_JAX,
    SEQUENTIAL_NUMPY,
    SWEEP,
    Timing,
    Variant,
    time_peer,
    time_sweep,
)
from l2d_jax import models, optimizers
from l2d_jax.crowds import allocation, closed_loop, streams
from l2d_jax.crowds.allocation import Annotators, Arrivals, Committee
from l2d_jax.engine import chunks, placement
from l2d_jax.types import HParams, PyTree

NUM_FEATURES = 8
NUM_CATEGORIES = 4
COMMITTEE = Committee(5)
LEARNING_RATE = 0.1
FADE = 100.0


class Tasks(NamedTuple):
    """What the streams of a benchmark share.

    Attributes:
      arrivals: the tasks, ``[T, ...]``; every annotator can be asked about each.
      annotators: the prior; one pool.
      hparams: of `closed_loop.make_allocator`, by name.
    """

    arrivals: Arrivals
    annotators: Annotators
    hparams: HParams


class Stream(NamedTuple):
    """A stream, or with a leading axis several.

    Attributes:
      order: the tasks in the order of their arrival, int ``[T]``.
      seed: of the committees, int ``[]``.
    """

    order: np.ndarray
    seed: np.ndarray


def make_tasks(num_tasks: int, num_annotators: int) -> Tasks:
    """Made-up tasks, and annotators who are right as often as the prior says."""
    generator = np.random.default_rng(0)
    similarity = generator.uniform(0.4, 0.95, (num_annotators, NUM_CATEGORIES))
    features = generator.normal(size=(num_tasks, NUM_FEATURES))
    categories = generator.integers(0, NUM_CATEGORIES, num_tasks)
    labels = generator.integers(0, 2, num_tasks)
    is_right = generator.random((num_tasks, num_annotators)) < similarity.T[categories]
    answers = np.where(is_right, labels[:, None], 1 - labels[:, None])
    given = {"learning_rate": LEARNING_RATE, "fade": FADE}
    hparams = {name: jnp.float32(given.get(name, 0.0)) for name in closed_loop.HPARAMS}
    return Tasks(
        Arrivals(
            features.astype(np.float32),
            categories.astype(np.int32),
            answers.astype(np.int8),
            labels.astype(np.int32),
        ),
        Annotators(similarity.astype(np.float32), np.zeros(num_annotators, np.int32)),
        hparams,
    )


def make_streams(num_streams: int, num_tasks: int) -> Stream:
    """Streams, each with an order of its own."""
    generator = np.random.default_rng(0)
    orders = [generator.permutation(num_tasks) for _ in range(num_streams)]
    return Stream(np.stack(orders).astype(np.int32), np.arange(num_streams))


def serve_with_numpy(
    tasks: Tasks, order: np.ndarray, noise: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Serve a stream in a loop of NumPy calls.

    Written for speed: all that the parameters do not change is made beforehand, results
    go to arrays that are there already, and only those on the committee learn.

    Args:
      tasks: what is served.
      order: int ``[T]``.
      noise: of the committees, uniform in [0, 1), float32 ``[T, k]``.

    Returns:
      The labels, int ``[T]``, and the parameters, float32 ``[M, D + 1]``, an
      annotator's bias last.
    """
    arrivals = tasks.arrivals
    num_tasks, num_annotators = len(order), arrivals.answers.shape[1]
    features = np.ones((num_tasks, NUM_FEATURES + 1), np.float32)
    features[:, :-1] = arrivals.features[order]
    steps = LEARNING_RATE * features
    answers = arrivals.answers[order]
    prior = np.cumsum(tasks.annotators.similarity, axis=0).T
    prior = np.ascontiguousarray(prior / prior[:, -1:])
    prior_rows = [prior[category] for category in arrivals.categories[order].tolist()]
    seen = np.arange(num_tasks)
    shares = (seen / (seen + FADE)).tolist()
    majority = noise.shape[1] // 2
    params = np.zeros((num_annotators, NUM_FEATURES + 1), np.float32)
    chances = np.empty(num_annotators, np.float32)
    upper = np.empty_like(chances)
    faded = np.empty_like(chances)
    labels = np.empty(num_tasks, np.int64)
    for t, share in enumerate(shares):
        # The sigmoid of each score.
        np.dot(params, features[t], out=chances)
        np.negative(chances, chances)
        np.exp(chances, chances)
        np.add(chances, 1.0, chances)
        np.reciprocal(chances, chances)
        # Running sums of the allocation; the last of them is the sum of the sigmoids.
        np.add.accumulate(chances, out=upper)
        np.multiply(upper, share / upper[-1], upper)
        np.multiply(prior_rows[t], 1.0 - share, faded)
        np.add(upper, faded, upper)
        seats = upper.searchsorted(noise[t] * upper[-1], "right")
        said = answers[t].take(seats)
        label = np.count_nonzero(said) > majority
        labels[t] = label
        errors = chances.take(seats)
        errors -= said == label
        # Who has several seats is written several times, with the same.
        params[seats] -= errors[:, None] * steps[t]
    return labels, params


def make_server(num_annotators: int) -> Callable[..., tuple[PyTree, jax.Array]]:
    """The same with this library: ``(tasks, order, noise) -> (params, labels)``.

    The parameters are those of `models.linear`, the labels bool ``[T]``.
    """
    allocator = closed_loop.make_allocator(
        models.linear(num_annotators), optimizers.make_plain_sgd()
    )

    def observe(arrivals: Arrivals, served: streams.Served) -> jax.Array:
        del arrivals
        return served.probs > 0.5

    def serve(
        tasks: Tasks, order: jax.Array, noise: jax.Array
    ) -> tuple[PyTree, jax.Array]:
        state = allocator.init(
            jax.random.key(0), tasks.hparams, tasks.annotators, tasks.arrivals.features
        )
        state, labels = streams.serve(
            allocator,
            tasks.hparams,
            COMMITTEE,
            state,
            tasks.arrivals,
            noise,
            1,
            observe,
            order,
        )
        return state.params, labels.reshape(-1)

    return serve


def make_runner(num_annotators: int) -> Callable[[Stream, Tasks], PyTree]:
    """A stream as a function for `chunks.map_runs`: parameters and accuracy."""
    serve = make_server(num_annotators)

    def run(stream: Stream, tasks: Tasks) -> PyTree:
        noise = allocation.draw_noise(
            jax.random.key(stream.seed), len(stream.order), num_annotators, COMMITTEE
        )
        params, labels = serve(tasks, stream.order, noise)
        truth = jnp.asarray(tasks.arrivals.labels)[stream.order]
        return params, jnp.mean(labels == (truth == 1))

    return run


def stream_variants(
    config: ml_collections.ConfigDict, num_annotators: int
) -> Iterator[Variant]:
    """Closed-loop allocation, one arrival at a time, in many streams."""
    sizes = config.streams
    workload, unit = f"closed-loop streams, {num_annotators} annotators", "arrivals"
    # The scores, and the gradient and the step of every annotator's.
    flops = 3 * 2.0 * num_annotators * (NUM_FEATURES + 1)
    tasks = make_tasks(sizes.arrivals, num_annotators)
    drawn = make_streams(sizes.streams, sizes.arrivals)

    def loop() -> Timing:
        generator = np.random.default_rng(0)
        shape = (sizes.arrivals, COMMITTEE.size)

        def run() -> None:
            for order in drawn.order[: sizes.peer_streams]:
                noise = generator.random(shape, dtype=np.float32)
                serve_with_numpy(tasks, order, noise)

        return time_peer(run, float(sizes.peer_streams * sizes.arrivals))

    def sweep_of(count: int, where: placement.Placement) -> Timing:
        def run(report: Callable) -> object:
            return chunks.map_runs(
                make_runner(num_annotators),
                jax.tree.map(lambda leaf: leaf[:count], drawn),
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
    where = placement.default_placement("dense")
    yield Variant(
        workload,
        SWEEP,
        min(sizes.streams, where.num_devices * where.runs_per_device),
        unit,
        flops,
        lambda: sweep_of(sizes.streams, where),
    )
