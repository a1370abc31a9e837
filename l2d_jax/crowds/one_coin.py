"""Dawid and Skene's model with one coin for each: how often they are right, no more.

Everybody is right with a probability of their own, whatever the truth, and all wrong
classes are alike to them. Then the most probable class is that of a weighted vote, so
that what is learned of the crowd can be used as an allocation, which confusion matrices
cannot: there an answer weighs by what it says.

References:
  Dawid and Skene, "Maximum Likelihood Estimation of Observer Error-Rates Using the EM
  Algorithm", 1979.
  Li and Yu, "Error Rate Bounds and Iterative Weighted Majority Voting for
  Crowdsourcing", 2014, for one coin and any number of classes.
"""

import jax
import jax.numpy as jnp

from l2d_jax._checks import (
    require_all,
    require_exact_shape,
    require_integer,
    require_shape,
)
from l2d_jax.decisions import signed
from l2d_jax.types import Array


def vote_weights(rates: Array, num_classes: int) -> jax.Array:
    r"""Weight of each vote: log-odds of being right over those of a guess, in nats.

    .. math:: w_m = \log \frac{(K - 1) r_m}{1 - r_m}

    The most probable class under classes as likely as one another is that of the
    greatest sum of weights; who is worse than a guess weighs less than nothing.

    Args:
      rates: how often each expert is right, float ``[M]``, in (0, 1).
      num_classes: K, >= 2.

    Raises:
      ValueError: a concrete rate is not in (0, 1), or K < 2.
    """
    if num_classes < 2:
        raise ValueError(f"num_classes must be at least 2, got {num_classes}")
    require_shape("rates", rates, "[M]", remedy="vmap over the crowds")
    require_all("rates", rates, lambda v: (v > 0) & (v < 1), "be in (0, 1)")
    rates = jnp.asarray(rates)
    return jnp.log(rates) - jnp.log1p(-rates) + jnp.log(num_classes - 1.0)


def fit(
    answers: Array,
    num_classes: int,
    weights: Array | None = None,
    num_iterations: int = 100,
    right: float = 2.0,
    wrong: float = 1.0,
) -> tuple[jax.Array, jax.Array]:
    """How often each is right, from answers alone, by EM from the majority vote.

    Classes are taken to be as likely as one another. How often people are right is told
    by whom they agree with. A task that one alone has answered is as likely under any
    rate and has no part in it, so of one whom no other answer meets it is what was
    taken of them at first; counted, such tasks would only confirm what EM started with.

    Args:
      answers: int ``[B, M]``, in [0, K); -1 of who was not asked.
      num_classes: K, >= 2, static.
      weights: weight of each task, float ``[B]``, >= 0; 0 counts for nothing, whatever
        its row holds. None: 1.
      num_iterations: steps of EM, >= 0, static; 0 gives the majority vote's rates.
      right: answers that everybody is taken to have given right beside theirs, > 0, so
        that two do not beat a hundred. More than a guess's share of ``right`` and
        ``wrong`` says that people are better than one, without which a vote by these
        rates would be no vote for who was not heard.
      wrong: answers that everybody is taken to have given wrong beside theirs, > 0.

    Returns:
      How often each is right, float ``[M]``, in (0, 1), ``right / (right + wrong)`` of
      whom no answer meets; and the probability of each class of each task, float
      ``[B, K]``, rows sum to 1, uniform where nobody was asked. Rates are NaN where a
      traced answer that counts is neither a class nor -1, and so are probabilities.

    Raises:
      TypeError: the answers are not of an integer dtype.
      ValueError: a shape is wrong, K < 2, a concrete answer that counts is neither a
        class nor -1, a concrete weight is negative or NaN, or ``right`` or ``wrong`` is
        not positive and finite.
    """
    if num_classes < 2:
        raise ValueError(f"num_classes must be at least 2, got {num_classes}")
    for name, count in (("right", right), ("wrong", wrong)):
        require_all(
            name, count, lambda v: (v > 0) & (v < jnp.inf), "be positive and finite"
        )
    require_shape("answers", answers, "[B, M]", remedy="vmap over the crowds")
    require_integer("answers", answers, "-1 of who was not asked")
    given = signed(answers)
    if weights is None:
        weights = jnp.ones(given.shape[:1])
    require_exact_shape("weights", weights, given.shape[:1], "[B]")
    require_all("weights", weights, lambda v: v >= 0, "be at least 0")
    weights = jnp.asarray(weights)
    counts = (weights > 0)[:, None]
    if not isinstance(given, jax.core.Tracer):
        counted = jnp.where(counts, given, -1)
        require_all(
            "answers",
            counted,
            lambda v: (v >= -1) & (v < num_classes),
            f"be classes in [0, {num_classes}), or -1 of who was not asked",
        )
    known = jnp.all(~counts | ((given >= -1) & (given < num_classes)))
    heard = counts & (given >= 0)
    # A lone answer is as likely of one as of another rate: it says nothing of it.
    met = heard & (jnp.sum(heard, axis=1, keepdims=True) > 1)

    def summed(values: jax.Array) -> jax.Array:
        """Of each class the sum over who named it, ``[B, K]``; of values ``[M]``."""
        # One class at a time: [B, M, K] may be large.
        named = [heard & (given == label) for label in range(num_classes)]
        return jnp.stack([jnp.where(who, values, 0.0).sum(1) for who in named], axis=1)

    def rates_of(probs: jax.Array) -> jax.Array:
        named = jnp.take_along_axis(probs, jnp.where(met, given, 0), axis=1)
        each = jnp.where(met, weights[:, None], 0.0)
        found = jnp.sum(each * named, axis=0)
        return (found + right) / (jnp.sum(each, axis=0) + right + wrong)

    def step(probs: jax.Array, _: None) -> tuple[jax.Array, None]:
        scores = summed(vote_weights(rates_of(probs), num_classes))
        return jax.nn.softmax(scores, axis=1), None

    votes = summed(jnp.ones(given.shape[1]))
    total = jnp.sum(votes, axis=1, keepdims=True)
    start = jnp.where(total > 0, votes / jnp.maximum(total, 1.0), 1.0 / num_classes)
    probs, _ = jax.lax.scan(step, start, None, length=num_iterations)
    rates = rates_of(probs)
    return jnp.where(known, rates, jnp.nan), jnp.where(known, probs, jnp.nan)
