"""Dawid and Skene's model of a crowd: everyone has a confusion matrix of their own.

References:
  Dawid and Skene, "Maximum Likelihood Estimation of Observer Error-Rates Using the EM
  Algorithm", 1979.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from l2d_jax._rounding import of_sum
from l2d_jax.crowds import allocation
from l2d_jax.crowds.allocation import Annotators, Crowd
from l2d_jax.decisions import signed
from l2d_jax.types import Array


class Confusion(NamedTuple):
    """Soft counts of what was answered to what was true.

    Attributes:
      counts: float ``[M, 2, 2]``: of each annotator, by truth and answer.
      totals: of the truth, float ``[2]``.
    """

    counts: jax.Array
    totals: jax.Array


def log_likelihoods(
    confusion: Confusion, answers: Array, consulted: Array
) -> jax.Array:
    """Log of truth and answers together, in nats, for both truths.

    Args:
      confusion: counts, > 0.
      answers: int ``[B, M]``, 0 or 1; anything where not consulted.
      consulted: ``[B, M]``, whose answers count.

    Returns:
      Float ``[B, 2]``; NaN where a traced answer that counts is none.

    Raises:
      ValueError: a concrete answer that counts is neither 0 nor 1.
    """
    allocation.check_answers(answers, consulted)
    rates = confusion.counts / jnp.sum(confusion.counts, axis=-1, keepdims=True)
    logs = jnp.log(rates)
    heard = jnp.asarray(consulted).astype(jnp.float32)
    ones = heard * (jnp.asarray(answers) == 1)
    prior = jnp.log(confusion.totals / jnp.sum(confusion.totals))
    known = allocation.are_known(answers, consulted)[:, None]
    found = prior + ones @ logs[:, :, 1] + (heard - ones) @ logs[:, :, 0]
    return jnp.where(known, found, jnp.nan)


def _probs(confusion: Confusion, answers: Array, consulted: Array) -> jax.Array:
    """Probability of label 1, ``[B]``; 1/2 where nothing but rounding speaks for it."""
    logs = log_likelihoods(confusion, answers, consulted)
    size = jnp.abs(logs[:, 1]) + jnp.abs(logs[:, 0])
    rounding = of_sum(jnp.shape(answers)[1] + 1, logs.dtype) * size
    return allocation.probability(logs[:, 1] - logs[:, 0], rounding)


def _count(answers: Array, consulted: Array, probs: jax.Array) -> Confusion:
    """Soft counts of a batch, ``probs`` of label 1 ``[B]``."""
    heard = jnp.asarray(consulted).astype(jnp.float32)
    ones = heard * (jnp.asarray(answers) == 1)
    truth = jnp.stack([1.0 - probs, probs], axis=1)
    counts = jnp.stack([(heard - ones).T @ truth, ones.T @ truth], axis=-1)
    anyone = jnp.any(heard > 0, axis=1)
    return Confusion(counts, jnp.sum(truth * anyone[:, None], axis=0))


def make_crowd(right: float = 2.0, wrong: float = 1.0) -> Crowd:
    """Dawid and Skene's model learned as answers arrive, a pass of incremental EM.

    It knows neither categories nor the prior. Each batch is judged with what was
    learned before it, and its soft counts are added.

    Args:
      right: answers that everybody is taken to have given right at first, to each
        truth, > 0. More than ``wrong`` says that people are better than chance, without
        which the two labels could not be told apart.
      wrong: answers that everybody is taken to have given wrong at first, > 0.
    """

    def init(annotators: Annotators) -> Confusion:
        start = wrong + (right - wrong) * jnp.eye(2)
        shape = (annotators.similarity.shape[0], 2, 2)
        return Confusion(jnp.broadcast_to(start, shape), jnp.ones(2))

    def posterior(
        confusion: Confusion, categories: Array, answers: Array, consulted: jax.Array
    ) -> jax.Array:
        del categories
        return _probs(confusion, answers, consulted)

    def learn(
        confusion: Confusion,
        categories: Array,
        answers: Array,
        consulted: jax.Array,
        probs: jax.Array,
    ) -> Confusion:
        del categories
        return jax.tree.map(jnp.add, confusion, _count(answers, consulted, probs))

    def scores(confusion: Confusion, explore: ArrayLike) -> jax.Array:
        counts = confusion.counts
        rates = jnp.diagonal(counts, axis1=1, axis2=2) / jnp.sum(counts, axis=-1)
        accuracy = rates @ (confusion.totals / jnp.sum(confusion.totals))
        spread = jnp.sqrt(accuracy * (1 - accuracy) / jnp.sum(counts, axis=(1, 2)))
        hopeful = jnp.clip(accuracy + explore * spread, 1e-6, 1 - 1e-6)
        return jax.scipy.special.logit(hopeful)[:, None]

    return Crowd(init, posterior, learn, scores)


def fit(
    answers: Array, consulted: Array, num_iterations: int, smoothing: float = 1e-8
) -> tuple[Confusion, jax.Array]:
    """Dawid and Skene's model of all answers at once, by EM from the majority vote.

    Args:
      answers: int ``[B, M]``, 0 or 1; anything where not consulted.
      consulted: ``[B, M]``, whose answers count.
      num_iterations: steps of EM, >= 0; 0 gives the majority vote's counts.
      smoothing: added to all counts, > 0, so that no rate is 0. More than next to
        nothing is a prior, to which a small crowd gives way: with .01, one worker's
        answers 1, 0, 1 are 1, 1, 1 after some hundred steps.

    Returns:
      The counts, and the probability of label 1 of each task, float ``[B]``. Without
      an iteration it is the share of the votes; after some, that of a task that nobody
      was consulted about is the frequency of label 1. All are NaN where a traced answer
      that counts is neither 0 nor 1.

    Raises:
      ValueError: a concrete answer that counts is neither 0 nor 1.
    """
    allocation.check_answers(answers, consulted)
    heard = jnp.asarray(consulted).astype(jnp.float32)
    seats = jax.vmap(allocation.normalize)(heard, heard > 0)
    # Behind who was not consulted may be anything.
    given = jnp.where(heard > 0, signed(answers), -1)
    start = jax.vmap(allocation.vote)(seats, given)

    def maximize(probs: jax.Array) -> Confusion:
        counted = _count(answers, consulted, probs)
        return jax.tree.map(lambda leaf: leaf + smoothing, counted)

    def step(probs: jax.Array, _: None) -> tuple[jax.Array, None]:
        return _probs(maximize(probs), answers, consulted), None

    probs, _ = jax.lax.scan(step, start, None, length=num_iterations)
    return maximize(probs), probs
