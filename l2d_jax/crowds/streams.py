"""A stream of tasks served by a closed-loop method: one scan, to be vmapped."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from l2d_jax import metrics
from l2d_jax._checks import require_all
from l2d_jax.crowds import allocation
from l2d_jax.crowds.allocation import Allocator, Annotators, Arrivals, Committee
from l2d_jax.decisions import signed
from l2d_jax.types import Array, HParams, PyTree


class Served(NamedTuple):
    """What happened to tasks.

    Attributes:
      probs: aggregate of the committee, the share of label 1, float ``[B]``.
      votes: of each annotator, float ``[B, M]``; all zero for a task that nobody could
        be asked about.
    """

    probs: jax.Array
    votes: jax.Array


def check_arrivals(arrivals: Arrivals, num_categories: int) -> None:
    """Check tasks on the host; what is traced is not looked at.

    Raises:
      ValueError: a category does not exist, or an answer or a label is not 0, 1 or -1.
    """
    allocation.check_categories(arrivals.categories, num_categories)
    allocation.check_answers(arrivals.answers)
    allocation.check_answers(arrivals.labels, name="labels")
    if arrivals.gold is not None:
        allocation.check_answers(arrivals.gold, name="gold")


def pad(arrivals: Arrivals, size: int) -> Arrivals:
    """Arrivals filled up to ``size`` with tasks that nobody can be asked about.

    Raises:
      ValueError: there are more than ``size``.
    """
    extra = size - arrivals.answers.shape[0]
    if extra < 0:
        raise ValueError(f"size {size} is less than the {size - extra} arrivals")

    def filled(leaf: Array, value: int) -> jax.Array:
        # A type that has no -1 would hold an answer.
        leaf = signed(leaf) if value < 0 else jnp.asarray(leaf)
        widths = [(0, extra)] + [(0, 0)] * (leaf.ndim - 1)
        return jnp.pad(leaf, widths, constant_values=value)

    return Arrivals(
        filled(arrivals.features, 0),
        filled(arrivals.categories, 0),
        filled(arrivals.answers, -1),
        filled(arrivals.labels, -1),
        None if arrivals.costs is None else filled(arrivals.costs, 0),
        None if arrivals.gold is None else filled(arrivals.gold, -1),
    )


def serve(
    allocator: Allocator,
    hparams: HParams,
    committee: Committee,
    state: PyTree,
    arrivals: Arrivals,
    noise: jax.Array,
    batch_size: int,
    observe: Callable[[Arrivals, Served], PyTree] = lambda arrivals, served: served,
    order: Array | None = None,
) -> tuple[PyTree, PyTree]:
    """Serve arrivals in batches, learning after each.

    Args:
      allocator: the method.
      hparams: its hyperparameters.
      committee: how committees are made.
      state: of the allocator.
      arrivals: ``[B, ...]``; B a multiple of ``batch_size``, see `pad`.
      noise: of `allocation.draw_noise`, ``[B, ...]``.
      batch_size: tasks between two updates, > 0; all are allocated with the same model.
      observe: what to keep of a batch.
      order: which of the arrivals come, one after another, int ``[B]``, and these are
        then any number; None: each as it stands. Streams that differ in their order
        alone share the arrivals, of which each holds a batch at a time.

    Returns:
      The state, and what was kept, ``[B / batch_size, ...]``.

    Raises:
      ValueError: what comes is no whole number of batches, or a concrete order has a
        row that is not there; of a traced one that is a task nobody can be asked about.
    """
    if order is not None:
        known = arrivals.answers.shape[0]
        require_all(
            "order",
            order,
            lambda rows: (rows >= 0) & (rows < known),
            f"be rows of the {known} arrivals",
        )
    num_tasks = len(arrivals.answers if order is None else order)
    if num_tasks % batch_size:
        raise ValueError(
            f"{num_tasks} arrivals are no whole number of batches of {batch_size}; pad"
            " them with streams.pad"
        )

    def step(state: PyTree, batch: tuple[PyTree, jax.Array]) -> tuple[PyTree, PyTree]:
        coming, batch_noise = batch
        batch_arrivals = coming
        if order is not None:
            batch_arrivals = jax.tree.map(
                lambda leaf: jnp.take(jnp.asarray(leaf), coming, axis=0), arrivals
            )
        weights = allocator.weigh(state, hparams, batch_arrivals)
        votes = _seat(weights, batch_noise, committee)
        probs = _aggregate(allocator, state, hparams, batch_arrivals, weights, votes)
        state = allocator.learn(state, hparams, batch_arrivals, votes, probs)
        return state, observe(batch_arrivals, Served(probs, votes))

    # In full, not -1: the noise has no columns where everybody votes.
    count = num_tasks // batch_size
    batches = jax.tree.map(
        lambda leaf: leaf.reshape(count, batch_size, *leaf.shape[1:]),
        (arrivals if order is None else order, noise),
    )
    return jax.lax.scan(step, state, batches)


def deploy(
    allocator: Allocator,
    hparams: HParams,
    committee: Committee,
    state: PyTree,
    arrivals: Arrivals,
    noise: jax.Array,
) -> tuple[Served, jax.Array]:
    """Serve held-out arrivals without learning.

    Returns:
      What the committees found, and the deployed allocation, float ``[B, M]``.
    """
    weights = allocator.deploy(state, hparams, arrivals)
    votes = _seat(weights, noise, committee)
    probs = _aggregate(allocator, state, hparams, arrivals, weights, votes)
    return Served(probs, votes), weights


def _aggregate(
    allocator: Allocator,
    state: PyTree,
    hparams: HParams,
    arrivals: Arrivals,
    weights: jax.Array,
    votes: jax.Array,
) -> jax.Array:
    probs = allocator.aggregate(state, hparams, arrivals, votes)
    # Weights that are no numbers seat nobody, and the label would be that of none. Of
    # the weights, since the seats' last bits depend on what they are compiled with.
    undecided = jnp.any(jnp.isnan(weights), axis=1)
    return jnp.where(undecided, jnp.nan, probs)


def _seat(weights: jax.Array, noise: jax.Array, committee: Committee) -> jax.Array:
    return jax.vmap(lambda row, drawn: allocation.seat(row, drawn, committee))(
        weights, noise
    )


def run(
    allocator: Allocator,
    hparams: HParams,
    committee: Committee,
    annotators: Annotators,
    state: PyTree,
    train: Arrivals,
    test: Arrivals,
    key: jax.Array,
    *,
    num_pools: int,
    num_categories: int,
    num_windows: int,
    batch_size: int,
) -> tuple[PyTree, dict[str, dict[str, jax.Array]]]:
    """A whole stream in windows, with held-out tasks served after each.

    Args:
      allocator: the method.
      hparams: its hyperparameters.
      committee: how committees are made.
      annotators: who may be asked.
      state: of the allocator at first.
      train: the stream, ``[T, ...]``.
      test: held-out tasks, ``[N, ...]``; the committees drawn for them are the same
        after each window.
      key: of all committees.
      num_pools: G.
      num_categories: Z.
      num_windows: parts of the stream, > 0.
      batch_size: tasks between two updates, > 0.

    Returns:
      The last state; and by name, ``[num_windows, ...]``, `measure` and
      `measure_ranking` of each window of the stream (``"stream"``), and `measure` and
      `measure_first` of the held-out tasks after it (``"test"``). What
      `measure_ranking` says of these is of the end alone, and NaN before: it takes
      sorting. Both also have ``diverged``, bool ``[num_windows]``: whether until then a
      vote, an aggregate, the state or the features of a task that somebody could be
      asked about were not finite, or the state so large that its squares are not. What
      is measured over what is not finite is NaN.

    Raises:
      ValueError: a concrete category does not exist, a concrete answer or label is
        not 0, 1 or -1, or the committee is of a size that `check_committee` refuses.
    """
    for arrivals in (train, test):
        check_arrivals(arrivals, num_categories)
    num_annotators = train.answers.shape[1]
    allocation.check_committee(committee, num_annotators)
    width = -(-train.answers.shape[0] // (num_windows * batch_size)) * batch_size
    train = pad(train, width * num_windows)
    stream_key, test_key = jax.random.split(key)
    noise = allocation.draw_noise(
        stream_key, width * num_windows, num_annotators, committee
    )
    test_noise = allocation.draw_noise(
        test_key, test.answers.shape[0], num_annotators, committee
    )
    sizes = {"num_pools": num_pools, "num_categories": num_categories}

    def window(
        state: PyTree, part: tuple[Arrivals, jax.Array]
    ) -> tuple[PyTree, PyTree]:
        arrivals, drawn = part
        state, served = serve(
            allocator, hparams, committee, state, arrivals, drawn, batch_size
        )
        served = jax.tree.map(lambda leaf: leaf.reshape(width, *leaf.shape[2:]), served)
        deployed, weights = deploy(
            allocator, hparams, committee, state, test, test_noise
        )
        tested = measure(deployed, test, annotators.pools, **sizes)
        tested |= measure_first(weights, test, num_categories)
        streamed = measure(served, arrivals, annotators.pools, **sizes)
        streamed |= measure_ranking(served.probs, arrivals, num_categories)
        streamed["diverged"] = _diverged(served, arrivals) | ~_is_finite(state)
        tested["diverged"] = _diverged(deployed, test)
        return state, ({"stream": streamed, "test": tested}, deployed.probs)

    parts = jax.tree.map(
        lambda leaf: leaf.reshape(num_windows, width, *leaf.shape[1:]), (train, noise)
    )
    state, (measures, probs) = jax.lax.scan(window, state, parts)
    # Once is enough.
    so_far = jnp.cumsum(measures["stream"]["diverged"]) > 0
    measures["stream"]["diverged"] = so_far
    measures["test"]["diverged"] |= so_far
    for name, value in measure_ranking(probs[-1], test, num_categories).items():
        before = jnp.full((num_windows - 1, *value.shape), jnp.nan)
        measures["test"][name] = jnp.concatenate([before, value[None]])
    return state, measures


def _is_finite(tree: PyTree) -> jax.Array:
    # With parameters of 1e30, as a learning rate of that size gives, nothing is learned
    # any more, and nothing is infinite either.
    flags = [
        jnp.all(jnp.isfinite(jnp.square(jnp.asarray(leaf, float))))
        for leaf in jax.tree.leaves(tree)
    ]
    return jnp.all(jnp.stack(flags)) if flags else jnp.ones((), bool)


def _diverged(served: Served, arrivals: Arrivals) -> jax.Array:
    """Whether a task has no answer because something is not finite, bool ``[]``."""
    asked = jnp.any(jnp.asarray(arrivals.answers) >= 0, axis=1)
    features = jnp.asarray(arrivals.features).reshape(len(asked), -1)
    finite = jnp.isfinite(served.probs) & jnp.all(jnp.isfinite(served.votes), axis=1)
    finite &= jnp.all(jnp.isfinite(features), axis=1)
    return jnp.any(asked & ~finite)


def measure(
    served: Served,
    arrivals: Arrivals,
    pools: Array,
    num_pools: int,
    num_categories: int,
) -> dict[str, jax.Array]:
    """How well committees did, over tasks whose truth is known; NaN over none.

    NaN, too, where the aggregate of a task that counts is, or its label is above 1.

    Args:
      served: what they found.
      arrivals: the tasks.
      pools: pool of each annotator, int ``[M]``.
      num_pools: G.
      num_categories: Z.

    Returns:
      ``accuracy`` ``[]``, ``accuracy_by_category`` ``[Z]``, ``gap`` (of the accuracies,
      between the best and the worst category; NaN of one alone) ``[]``; ``regret``
      ``[]``, what accuracy lacks to that of the best annotator of each task;
      ``pool_share`` ``[G]``, each pool's share of the votes; ``workload`` ``[M]``, each
      annotator's; and, where
      asking has costs, ``cost`` ``[]``, that of the average vote.
    """
    answers = jnp.asarray(arrivals.answers)
    asked = jnp.any(answers >= 0, axis=1)
    right = (served.probs > 0.5) == (arrivals.labels == 1)
    # No aggregate is above 1/2 and none is not: NaN is not label 0.
    no_label = jnp.isnan(served.probs) | (jnp.asarray(arrivals.labels) > 1)
    right = jnp.where(no_label, jnp.nan, right)
    best = jnp.any(answers == jnp.maximum(arrivals.labels, 0)[:, None], axis=1)
    weights = _by_category(asked, arrivals, num_categories)
    accuracies = _means(weights, right)
    workload = jnp.sum(served.votes, axis=0) / jnp.maximum(jnp.sum(asked), 1)
    undecided = jnp.any(asked & jnp.isnan(served.probs))
    workload = jnp.where(undecided, jnp.nan, workload)
    spent = {}
    if arrivals.costs is not None:
        total = jnp.sum(served.votes * arrivals.costs)
        spent["cost"] = total / jnp.maximum(jnp.sum(asked), 1)
    return spent | {
        "accuracy": accuracies[0],
        "accuracy_by_category": accuracies[1:],
        # A category without tasks has no part in it; one without answers has. One
        # category alone has no gap to another.
        "gap": jnp.where(
            jnp.isnan(accuracies[0]) | (jnp.sum(~jnp.isnan(accuracies[1:])) < 2),
            jnp.nan,
            jnp.nanmax(accuracies[1:]) - jnp.nanmin(accuracies[1:]),
        ),
        "regret": _means(weights[:1], best)[0] - accuracies[0],
        "pool_share": workload @ jax.nn.one_hot(pools, num_pools),
        "workload": workload,
    }


def measure_ranking(
    probs: jax.Array, arrivals: Arrivals, num_categories: int
) -> dict[str, jax.Array]:
    """How well aggregates rank tasks, over those whose truth is known.

    Args:
      probs: aggregate of each committee, float ``[B]``.
      arrivals: the tasks.
      num_categories: Z.

    Returns:
      ``roc_auc`` ``[]`` and ``roc_auc_by_category`` ``[Z]``; NaN over tasks of one
      label.
    """
    asked = jnp.any(jnp.asarray(arrivals.answers) >= 0, axis=1)
    weights = _by_category(asked, arrivals, num_categories)
    labels = jnp.maximum(arrivals.labels, 0)
    areas = jnp.asarray(
        jax.vmap(metrics.roc_auc, (None, None, 0))(probs, labels, weights)
    )
    return {"roc_auc": areas[0], "roc_auc_by_category": areas[1:]}


def measure_first(
    weights: jax.Array, arrivals: Arrivals, num_categories: int
) -> dict[str, jax.Array]:
    """How well the annotator of the largest weight does alone.

    Where several have it, to a millionth of it, one of them is chosen at random: the
    accuracies are expected ones.

    Args:
      weights: allocation, float ``[B, M]``.
      arrivals: the tasks.
      num_categories: Z.

    Returns:
      ``first_accuracy`` ``[]`` and ``first_accuracy_by_category`` ``[Z]``; NaN where a
      weight of a task that counts is.
    """
    answers = jnp.asarray(arrivals.answers)
    most = jnp.max(weights, axis=1, keepdims=True)
    first = (weights >= most * (1.0 - 1e-6)) & (answers >= 0)
    right = first & (answers == arrivals.labels[:, None])
    count = jnp.sum(first, axis=1)
    expected = jnp.sum(right, axis=1) / jnp.maximum(count, 1)
    unknown = jnp.isnan(most[:, 0]) & jnp.any(answers >= 0, axis=1)
    expected = jnp.where(unknown, jnp.nan, expected)
    counts = (count > 0) | unknown
    means = _means(_by_category(counts, arrivals, num_categories), expected)
    return {"first_accuracy": means[0], "first_accuracy_by_category": means[1:]}


def _by_category(
    counts: jax.Array, arrivals: Arrivals, num_categories: int
) -> jax.Array:
    """Weights of the tasks that count and whose truth is known, ``[1 + Z, B]``.

    The first row is of all categories, the others of one each.
    """
    known = (counts & (arrivals.labels >= 0)).astype(jnp.float32)
    rows = jax.nn.one_hot(arrivals.categories, num_categories, axis=0)
    return jnp.concatenate([jnp.ones_like(known)[None], rows]) * known


def _means(weights: jax.Array, values: Array) -> jax.Array:
    """Mean of ``values [B]`` under each row of ``weights [S, B]``; NaN over none."""
    totals = jnp.sum(weights, axis=1)
    # A NaN where there is no weight is not in the mean.
    sums = jnp.sum(jnp.where(weights > 0, weights * values, 0.0), axis=1)
    return jnp.where(totals > 0, sums / jnp.where(totals > 0, totals, 1.0), jnp.nan)
