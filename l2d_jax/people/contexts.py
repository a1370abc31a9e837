"""Answers of many people as examples for a learner that is told whom it may ask.

An example is one answer of a person drawn at random, and beside it a context: others
that the same person gave, a random number of them. A learner of such examples meets
every size of context, and none of its people is anybody to it but their answers.

References:
  Tailor et al., "Learning to Defer to a Population: A Meta-Learning Approach", 2024.
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from l2d_jax.models import Context, Query
from l2d_jax.types import (
    Array,
    Dataset,
    HParams,
    Learner,
    PyTree,
    TrainState,
    Variables,
)


class Answers(NamedTuple):
    """Answers of J people, padded to N.

    Attributes:
      examples: what was answered, int ``[J, N]``, rows of the features.
      labels: classes of these, int ``[J, N]``, in [0, K).
      answers: classes given, int ``[J, N]``, in [0, K).
      weights: float ``[J, N]``, 1, or 0 for padding; somebody has answered.
    """

    examples: Array
    labels: Array
    answers: Array
    weights: Array


class Draw(NamedTuple):
    """Places of B answers and their contexts in a table of people.

    Attributes:
      persons: int ``[B]``.
      targets: place of the answer, int ``[B]``.
      places: of the answers of the context, int ``[B, C]``.
      weights: float ``[B, C]``, 1, or 0 for padding.
    """

    persons: jax.Array
    targets: jax.Array
    places: jax.Array
    weights: jax.Array


def draw(key: jax.Array, weights: Array, num_examples: int, max_size: int) -> Draw:
    """Draw people, one answer of each, and contexts from their other answers.

    People who answered are equally likely, and so is each of their answers, each size
    of context from 0 to ``max_size``, or all others where they are fewer, and each
    context of a size. The target is never in its context.

    Args:
      key: randomness.
      weights: whether there is an answer at each place, float ``[J, N]``, 1 or 0;
        somebody has answered.
      num_examples: B.
      max_size: of a context, >= 0; C is the lesser of it and N - 1.
    """
    chex.assert_rank(weights, 2)
    answered = jnp.asarray(weights) > 0
    person_key, order_key, size_key = jax.random.split(key, 3)
    present = jnp.any(answered, axis=1)
    persons = jax.random.choice(
        person_key, len(answered), (num_examples,), p=present / jnp.sum(present)
    )
    own = answered[persons]
    scores = jnp.where(own, jax.random.uniform(order_key, own.shape), -1.0)
    length = min(max_size, own.shape[1] - 1)
    _, order = jax.lax.top_k(scores, length + 1)
    others = jnp.minimum(jnp.sum(own, axis=1) - 1, length)
    sizes = jax.random.randint(size_key, (num_examples,), 0, others + 1)
    return Draw(
        persons,
        order[:, 0],
        order[:, 1:],
        (jnp.arange(length) < sizes[:, None]).astype(jnp.float32),
    )


def make_batch(answers: Answers, features: Array, drawn: Draw) -> Dataset:
    """What was drawn, as examples.

    Args:
      answers: of everybody.
      features: of all examples, float ``[I, F]``.
      drawn: from `draw`.

    Returns:
      B examples, whose inputs are a `l2d_jax.models.Query` and whose one expert is the
      person of each.
    """
    answers, persons = jax.tree.map(jnp.asarray, answers), drawn.persons
    target = jax.tree.map(lambda leaf: leaf[persons, drawn.targets], answers)
    others = persons[:, None], drawn.places
    of_context = jax.tree.map(lambda leaf: leaf[others], answers)
    features = jnp.asarray(features)
    context = Context(
        features[of_context.examples],
        of_context.labels,
        of_context.answers,
        drawn.weights,
    )
    query: PyTree = Query(features[target.examples], context)
    return Dataset(query, target.labels, expert_labels=target.answers[:, None])


def fit(
    learner: Learner,
    hparams: HParams,
    key: jax.Array,
    answers: Answers,
    features: Array,
    *,
    num_steps: int,
    batch_size: int,
    max_size: int,
) -> Variables:
    """Train on people and contexts that are drawn anew at every step.

    Args:
      learner: from `l2d_jax.learners.context_rejector.make_learner`.
      hparams: its hyperparameters.
      key: for its parameters and what is drawn.
      answers: of everybody.
      features: of all examples, float ``[I, F]``.
      num_steps: updates.
      batch_size: examples of each.
      max_size: answers of a context, at most.
    """
    init_key, draw_key = jax.random.split(key)

    def batch(number: Array) -> Dataset:
        step_key = jax.random.fold_in(draw_key, number)
        drawn = draw(step_key, answers.weights, batch_size, max_size)
        return make_batch(answers, features, drawn)

    def step(state: TrainState, number: Array) -> tuple[TrainState, None]:
        state, _ = learner.update(state, hparams, batch(number))
        return state, None

    state = learner.init(init_key, hparams, batch(jnp.zeros((), jnp.int32)))
    state, _ = jax.lax.scan(step, state, jnp.arange(num_steps))
    return state.variables
