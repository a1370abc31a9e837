"""One training run as a pure function: epochs, early stopping, the best parameters.

A run is `start` and then `advance`, some epochs at a time, until it is no longer
active. Both are pure and know nothing of other runs: `l2d_jax.engine.sweeps` maps them.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from l2d_jax.learners.batches import take
from l2d_jax.types import (
    Array,
    Batch,
    Dataset,
    Decision,
    HParams,
    Learner,
    PyTree,
    TrainState,
    Variables,
)

# A run's randomness, by use. Everything is derived from the run's key, which depends on
# its seed alone, so runs that differ in hyperparameters only are paired comparisons.
_LEARNER_STREAM, _POOL_STREAM, _TEST_STREAM = range(3)

Annotate: TypeAlias = Callable[[jax.Array, HParams, Dataset], Dataset]
"""``(key, hparams, dataset) -> dataset``: adds what is this run's own, its expert."""

Score: TypeAlias = Callable[[PyTree, Batch, HParams], Array]
"""``(prediction of the learner, batch, hparams) -> []``: higher is better."""


class Program(NamedTuple):
    """What all runs of a sweep share; everything here is static.

    Attributes:
      learner: the method.
      annotate: gives a run's expert labels; see `Annotate`.
      score: model selection on validation data; see `Score`.
      num_epochs: epochs at most, > 0.
      patience: epochs without a better score after which a run stops, > 0; None never
        stops.
      eval_batch_size: examples a prediction holds in memory at once, > 0.
    """

    learner: Learner
    annotate: Annotate
    score: Score
    num_epochs: int
    patience: int | None = None
    eval_batch_size: int = 1000


class RunState(NamedTuple):
    """Where a run stands.

    Attributes:
      train: state of the learner.
      best: variables at the best validation score so far.
      best_score: that score, float ``[]``; -inf before the first epoch.
      best_epoch: epochs done when it was reached, int ``[]``.
      epoch: epochs done, int ``[]``.
      active: whether the run goes on, bool ``[]``.
      diverged: whether a loss, a score or a parameter was not finite, or the prediction
        for a validation example that counts was NaN, bool ``[]``. The
        best variables are then those of the last sound epoch that was the best.
    """

    train: TrainState
    best: Variables
    best_score: jax.Array
    best_epoch: jax.Array
    epoch: jax.Array
    active: jax.Array
    diverged: jax.Array


def run_key(root: jax.Array, seed: Array) -> jax.Array:
    """Key of a run, from its seed alone."""
    return jax.random.fold_in(root, seed)


def annotate_pool(
    annotate: Annotate, key: jax.Array, hparams: HParams, pool: Dataset
) -> Dataset:
    """Training and validation examples with the expert labels of the run of ``key``."""
    return annotate(jax.random.fold_in(key, _POOL_STREAM), hparams, pool)


def annotate_test(
    annotate: Annotate, key: jax.Array, hparams: HParams, test: Dataset
) -> Dataset:
    """Test examples with the expert labels of the run of ``key``."""
    return annotate(jax.random.fold_in(key, _TEST_STREAM), hparams, test)


def predict(
    program: Program,
    variables: Variables,
    hparams: HParams,
    inputs: Array,
    index: Array,
) -> PyTree:
    """Predictions for ``inputs[index]`` in batches, pytree of ``[B, ...]``.

    Args:
      program: gives the learner and the size of a batch.
      variables: of a trained run.
      hparams: of that run.
      inputs: all inputs, ``[N, ...]``.
      index: which of them, int ``[B]``.
    """

    def predict_batch(batch_index: jax.Array) -> PyTree:
        batch = jnp.take(inputs, batch_index, axis=0)
        return program.learner.predict(variables, hparams, batch)

    count = index.shape[0]
    if count <= program.eval_batch_size:
        return predict_batch(jnp.asarray(index))
    num_batches = -(-count // program.eval_batch_size)
    batch_size = -(-count // num_batches)
    # The last batch is filled up with its own beginning, which is then cut off.
    padded = jnp.resize(jnp.asarray(index), (num_batches, batch_size))
    outputs = jax.lax.map(predict_batch, padded)
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[:count], outputs)


def start(
    program: Program, root: jax.Array, seed: Array, hparams: HParams, pool: Dataset
) -> RunState:
    """State of a run before its first epoch.

    Args:
      program: what all runs share.
      root: key of the whole sweep.
      seed: the run's seed, int ``[]``.
      hparams: the run's hyperparameters.
      pool: training and validation examples; gives shapes only.
    """
    key = run_key(root, seed)
    batch = jax.tree.map(lambda leaf: leaf[:2], pool)
    batch = annotate_pool(program.annotate, key, hparams, batch)
    train = program.learner.init(
        jax.random.fold_in(key, _LEARNER_STREAM), hparams, batch
    )
    return RunState(
        train=train,
        best=jax.tree.map(jnp.copy, train.variables),
        best_score=jnp.array(-jnp.inf, jnp.float32),
        best_epoch=jnp.zeros((), jnp.int32),
        epoch=jnp.zeros((), jnp.int32),
        active=jnp.ones((), bool),
        diverged=jnp.zeros((), bool),
    )


def advance(
    program: Program,
    root: jax.Array,
    seed: Array,
    hparams: HParams,
    state: RunState,
    pool: Dataset,
    order: Array,
    valid_index: Array,
) -> RunState:
    """Train for some epochs, validating after each.

    Args:
      program: what all runs share.
      root: key of the whole sweep.
      seed: the run's seed, int ``[]``.
      hparams: the run's hyperparameters.
      state: where the run stands; an inactive run is returned as it is.
      pool: training and validation examples, ``[N, ...]``.
      order: examples of each minibatch, int ``[epochs, steps, B]``, indices into
          ``pool``.
      valid_index: validation examples, int ``[V]``, indices into ``pool``.
    """
    annotated = annotate_pool(program.annotate, run_key(root, seed), hparams, pool)
    valid = take(annotated, valid_index)

    def step(train: TrainState, batch_index: jax.Array) -> tuple[TrainState, jax.Array]:
        train, metrics = program.learner.update(
            train, hparams, take(annotated, batch_index)
        )
        return train, metrics["loss"]

    def epoch(state: RunState, batches: Any) -> tuple[RunState, None]:
        train, epoch_losses = jax.lax.scan(step, state.train, batches)
        outputs = predict(program, train.variables, hparams, pool.inputs, valid_index)
        score = jnp.asarray(program.score(outputs, valid, hparams), jnp.float32)
        finite = (
            jnp.all(jnp.isfinite(epoch_losses))
            & jnp.isfinite(score)
            & _all_finite(train.variables)
            & _is_decided(outputs, valid.weights)
        )
        better = finite & (score > state.best_score)
        epochs_done = state.epoch + 1
        best_epoch = jnp.where(better, epochs_done, state.best_epoch)
        active = finite & (epochs_done < program.num_epochs)
        if program.patience is not None:
            active &= epochs_done - best_epoch < program.patience
        after = RunState(
            train=train,
            best=_where(better, train.variables, state.best),
            best_score=jnp.where(better, score, state.best_score),
            best_epoch=best_epoch,
            epoch=epochs_done,
            active=active,
            diverged=~finite,
        )
        return _where(state.active, after, state), None

    state, _ = jax.lax.scan(epoch, state, order)
    return state


def _where(condition: jax.Array, new: PyTree, old: PyTree) -> PyTree:
    return jax.tree.map(lambda n, o: jnp.where(condition, n, o), new, old)


def _is_decided(outputs: PyTree, weights: Array | None) -> jax.Array:
    """Whether no prediction is NaN for some examples that count, bool ``[]``.

    What a method does not estimate is NaN for all of them; how right an expert would be
    it may estimate of some, so a decision is known by its scores and probabilities.
    """
    sound = jnp.ones((), bool)
    if isinstance(outputs, Decision):
        outputs = outputs._replace(expert_correct_prob=jnp.zeros(()))
    for leaf in jax.tree.leaves(outputs):
        if not jnp.issubdtype(leaf.dtype, jnp.floating) or not leaf.ndim:
            continue
        unknown = jnp.isnan(leaf)
        counts = jnp.ones(len(leaf), bool) if weights is None else weights > 0
        counts = counts.reshape(-1, *[1] * (leaf.ndim - 1))
        some = jnp.any(unknown & counts, axis=0)
        every = jnp.all(unknown | ~counts, axis=0)
        sound &= jnp.all(~some | every)
    if isinstance(outputs, Decision):
        # A rule that defers by its scores has them.
        scores = jnp.isnan(outputs.defer_score)
        if weights is not None:
            scores &= (weights > 0)[:, None]
        sound &= ~jnp.any(scores)
    return sound


def _all_finite(tree: PyTree) -> jax.Array:
    found = [jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]
    # A classifier that is given has no parameters.
    return jnp.all(jnp.stack(found)) if found else jnp.ones((), bool)
