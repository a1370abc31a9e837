"""A performance model fitted to one person: without, with and by self-training.

A performance model predicts how a human does on an input: whether they are right, or
how long they take. Raman and Yee, "Improving Learning-to-Defer Algorithms Through
Fine-Tuning", 2021, section 3, fit it to one person in three ways, which are the
functions here. Each is pure and of one person; the caller maps them over people.

The data are those of the paper's section 2: ``aggregate`` is what other people did (w),
``individual`` what this person did (v), ``unlabelled`` what nobody did (u).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from l2d_jax.learners.batches import take
from l2d_jax.types import (
    Array,
    Dataset,
    HParams,
    Learner,
    PyTree,
    TrainState,
    Variables,
)


class Fitted(NamedTuple):
    """A model of one person.

    Attributes:
      variables: of the performance model.
      num_selected: pseudo-labels used, int ``[]``; 0 where none were wanted, or none
        was sure enough.
    """

    variables: Variables
    num_selected: jax.Array


def balanced_weights(classes: Array, weights: Array, num_classes: int) -> jax.Array:
    """Weights by which every class that occurs has the same share of the loss.

    A class is weighted by the inverse of its frequency. Where only one class occurs the
    weights are left as they are; where nothing has any weight they stay 0.

    Args:
      classes: int ``[B]``, in [0, num_classes).
      weights: of the examples, float ``[B]``, >= 0.
      num_classes: classes there may be, > 0.

    Returns:
      Float ``[B]``, with the sum of ``weights``.

    References:
      Raman and Yee, 2021, section 3.2.
    """
    member = jax.nn.one_hot(classes, num_classes) * weights[:, None]
    totals = jnp.sum(member, axis=0)
    num_present = jnp.maximum(jnp.sum(totals > 0), 1)
    share = jnp.sum(totals) / num_present
    scale = jnp.where(totals > 0, share / jnp.where(totals > 0, totals, 1.0), 0.0)
    return scale[classes] * weights


def fit(
    learner: Learner,
    hparams: HParams,
    state: TrainState,
    dataset: Dataset,
    order: Array,
    bank: Array | None = None,
) -> TrainState:
    """Train on given minibatches, without validation.

    Args:
      learner: the method.
      hparams: its hyperparameters.
      state: where to start.
      dataset: examples, ``[N, ...]``.
      order: examples of each minibatch, int ``[epochs, steps, B]`` or ``[steps, B]``.
      bank: inputs that people share, ``[I, ...]``; ``dataset.inputs`` are then rows of
        it, int ``[N]``. None: ``dataset.inputs`` are the inputs.
    """

    def step(state: TrainState, index: Any) -> tuple[TrainState, None]:
        state, _ = learner.update(state, hparams, look_up(take(dataset, index), bank))
        return state, None

    state, _ = jax.lax.scan(step, state, order.reshape(-1, order.shape[-1]))
    return state


def look_up(dataset: Dataset, bank: Array | None) -> Dataset:
    """The examples with their inputs from the bank, if there is one."""
    if bank is None:
        return dataset
    return dataset._replace(inputs=jnp.take(bank, dataset.inputs, axis=0))


def join(first: Dataset, second: Dataset) -> Dataset:
    """The examples of both, ``[N1 + N2, ...]``; they have the same fields."""
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), first, second)


def without_finetuning(
    learner: Learner,
    hparams: HParams,
    key: jax.Array,
    aggregate: Dataset,
    individual: Dataset,
    order: Array,
    bank: Array | None = None,
) -> Fitted:
    """One model of everybody: trained on both kinds of data at once.

    Args:
      learner: performance model; its ``init`` is given two examples.
      hparams: its hyperparameters.
      key: for its parameters.
      aggregate: what other people did, ``[W, ...]``.
      individual: what this person did, ``[V, ...]``.
      order: minibatches of both joined, int ``[epochs, steps, B]``, in [0, W + V).
      bank: as in `fit`.

    References:
      Raman and Yee, 2021, section 3.1.
    """
    both = join(aggregate, individual)
    state = _init(learner, hparams, key, both, bank)
    state = fit(learner, hparams, state, both, order, bank)
    return Fitted(state.variables, jnp.zeros((), jnp.int32))


def finetune(
    learner: Learner,
    hparams: HParams,
    key: jax.Array,
    aggregate: Dataset,
    individual: Dataset,
    aggregate_order: Array,
    individual_order: Array,
    bank: Array | None = None,
) -> Fitted:
    """Trained on other people, then on this person.

    The second part starts with a fresh optimizer at
    ``hparams["finetune_learning_rate"]``. A person without answers keeps the model of
    the others.

    Args:
      learner: performance model.
      hparams: its hyperparameters.
      key: for its parameters.
      aggregate: what other people did, ``[W, ...]``.
      individual: what this person did, ``[V, ...]``, weighted as `balanced_weights`
        says if classes are to be balanced.
      aggregate_order: minibatches of n epochs, int ``[n, steps, B]``, in [0, W).
      individual_order: minibatches of lambda n epochs, in [0, V).
      bank: as in `fit`.

    References:
      Raman and Yee, 2021, section 3.2.
    """
    state = _init(learner, hparams, key, aggregate, bank)
    state = fit(learner, hparams, state, aggregate, aggregate_order, bank)
    # Whatever is drawn in training is drawn anew.
    key = jax.random.fold_in(key, 1)
    variables = continue_with(
        learner, hparams, key, state.variables, individual, individual_order, bank
    )
    return Fitted(variables, jnp.zeros((), jnp.int32))


def continue_with(
    learner: Learner,
    hparams: HParams,
    key: jax.Array,
    variables: Variables,
    individual: Dataset,
    order: Array,
    bank: Array | None = None,
) -> Variables:
    """A trained model, trained further on one person: the second part of `finetune`.

    Apart, so that people who share their aggregate data can share what it taught.

    Args:
      learner: performance model.
      hparams: with ``finetune_learning_rate``, at which it goes on.
      key: of the optimizer's state.
      variables: of the model of other people.
      individual: what this person did, ``[V, ...]``.
      order: minibatches, int ``[epochs, steps, B]``, in [0, V).
      bank: as in `fit`.
    """
    hparams = {**hparams, "learning_rate": hparams["finetune_learning_rate"]}
    state = _init(learner, hparams, key, individual, bank)
    state = state._replace(variables=variables)
    return fit(learner, hparams, state, individual, order, bank).variables


def self_train(
    learner: Learner,
    hparams: HParams,
    key: jax.Array,
    individual: Dataset,
    unlabelled: Dataset,
    individual_order: Array,
    joined_order: Array,
    imitate: Callable[[PyTree, Dataset], tuple[Dataset, Array]],
    bank: Array | None = None,
) -> Fitted:
    """Trained on this person, then again with its own sure predictions as data.

    Where no prediction is sure enough the first model stays, and ``num_selected`` is 0.
    The second model starts from the first's initial parameters.

    Args:
      learner: performance model; its ``predict`` feeds ``imitate``.
      hparams: with ``threshold``: how sure a prediction must be, in the unit of
        ``imitate``'s confidence; selected are those at or above it.
      key: for the parameters.
      individual: what this person did, ``[V, ...]``, with weights.
      unlabelled: examples without this person's answers, ``[U, ...]``, with all fields
        of ``individual``; a weight of 0 is padding, which is never selected.
      individual_order: minibatches for the first model, in [0, V).
      joined_order: minibatches for the second, in [0, V + U).
      imitate: ``(prediction, unlabelled) -> (unlabelled with the predictions as its
        labels, confidence [U])``.
      bank: as in `fit`.

    Raises:
      ValueError: the examples that ``imitate`` gives have no weights.

    References:
      Raman and Yee, 2021, section 3.3.
    """
    start = _init(learner, hparams, key, individual, bank)
    first = fit(learner, hparams, start, individual, individual_order, bank)
    inputs = look_up(unlabelled, bank).inputs
    prediction = learner.predict(first.variables, hparams, inputs)
    pseudo, confidence = imitate(prediction, unlabelled)
    if pseudo.weights is None:
        raise ValueError(
            "unlabelled.weights is None; give every example a weight, 0 for padding"
        )
    # Padding is never selected, however sure the model is of it.
    selected = (confidence >= hparams["threshold"]) & (pseudo.weights > 0)
    pseudo = pseudo._replace(weights=pseudo.weights * selected)
    both = join(individual, pseudo)
    # The same parameters, but what is drawn in training is drawn anew.
    again = start._replace(key=jax.random.fold_in(start.key, 1))
    second = fit(learner, hparams, again, both, joined_order, bank)
    num_selected = jnp.sum(selected)
    variables = jax.tree.map(
        lambda new, old: jnp.where(num_selected > 0, new, old),
        second.variables,
        first.variables,
    )
    return Fitted(variables, num_selected.astype(jnp.int32))


def _init(
    learner: Learner,
    hparams: HParams,
    key: jax.Array,
    dataset: Dataset,
    bank: Array | None,
) -> TrainState:
    batch = jax.tree.map(lambda leaf: leaf[:2], dataset)
    return learner.init(key, hparams, look_up(batch, bank))
