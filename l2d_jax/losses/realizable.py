"""Surrogates of the probability that the team is right: label or deferral."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from l2d_jax._checks import (
    require_finite,
    require_label,
    require_probability,
    require_shape,
)
from l2d_jax.losses._terms import log_prob_of_class


def realizable_surrogate_loss(
    logits: ArrayLike,
    label: ArrayLike,
    expert_correct: ArrayLike,
    alpha: ArrayLike = 1.0,
) -> jax.Array:
    r"""Realizable surrogate, mixed with the cross entropy of the classes, in nats.

    .. math:: -2 \alpha \log(p_y + c\,p_K) - (1 - \alpha) \log q_y,
        \quad p = softmax(g), \quad q = softmax(g_{<K})

    with c 0 or 1; for a probability of c it is the mean over the two. At alpha = 1 a
    team that can be perfect within the model class has the least loss.

    The deferral score's being the greatest is not in general the best rule: at two
    classes of probability .5 and an expert who is right with .55, whatever the label,
    the minimiser is p = (.45, .45, .10), which keeps. Find a threshold on validation
    data. No output estimates the expert's chance of being right.

    Args:
      logits: scores of the K classes and, last, of deferring, float ``[K+1]``, K >= 2,
        finite.
      label: class of the example, int ``[]``, in [0, K).
      expert_correct: whether the expert is right, or the probability of it, float
        ``[]``, in [0, 1].
      alpha: weight of the surrogate against the cross entropy, float ``[]``, in [0, 1].

    Returns:
      The loss, float ``[]``, >= 0. NaN, and so is its gradient, where a traced
      ``label`` is outside [0, K).

    Raises:
      TypeError: ``label`` is not an integer.
      ValueError: an argument has the wrong shape, or a concrete value out of its range.

    References:
      Mozannar et al., "Who Should Predict? Exact Algorithms For Learning to Defer to
      Humans", 2023, Eq. 14, with its factor 2 and the natural logarithm.
    """
    _require("expert_correct", logits, label, expert_correct)
    require_shape("alpha", alpha, "[]")
    require_probability("alpha", alpha)
    of_label, of_team = _nlls(jnp.asarray(logits), label)
    correct, alpha = jnp.asarray(expert_correct), jnp.asarray(alpha)
    surrogate = 2.0 * (correct * of_team + (1.0 - correct) * of_label)
    of_classes = jax.nn.log_softmax(jnp.asarray(logits)[:-1])
    return alpha * surrogate - (1.0 - alpha) * log_prob_of_class(of_classes, label)


def rl2d_loss(
    logits: ArrayLike, label: ArrayLike, cost: ArrayLike, q: ArrayLike
) -> jax.Array:
    r"""Surrogate with a generalized cross entropy of label and of label or deferral.

    .. math:: c\,\Psi(p_y) + (1 - c)\,\Psi(p_y + p_K), \quad p = softmax(logits),
        \quad \Psi(t) = \frac{1 - t^q}{q}

    :math:`\Psi(t)` is :math:`-\log t` at q = 0, where the loss is half of
    `realizable_surrogate_loss` at alpha = 1, in nats. At q = 1 it is
    :math:`1 - p_y - (1 - c) p_K`, the chance of a team that draws its answer from p of
    being wrong: linear in p, so its minimiser is the best choice for any cost, but its
    gradient vanishes where p is sure, right or wrong; start from what a cross entropy
    has learnt. Between the two the rule of the greatest score needs a threshold: at two
    classes of probability .5 it defers from a chance of the expert of
    :math:`1 / (1 + 2^{q - 1})` on.

    Args:
      logits: scores of the K classes and, last, of deferring, float ``[K+1]``, K >= 2,
        finite.
      label: class of the example, int ``[]``, in [0, K).
      cost: of deferring, where an error of the classifier costs 1, float ``[]``, in
        [0, 1]: whether the expert is wrong, or the probability of it. A price on top
        would lead out of the range; take it off with a threshold of the score.
      q: exponent, float ``[]``, in [0, 1].

    Returns:
      The loss, float ``[]``, >= 0; at most 1/q for q > 0. NaN, and so is its gradient,
      where a traced ``label`` is outside [0, K).

    Raises:
      TypeError: ``label`` is not an integer.
      ValueError: an argument has the wrong shape, or a concrete value out of its range.

    References:
      The family of Mao, Mohri and Zhong, "Realizable H-Consistent and Bayes-Consistent
      Loss Functions for Learning to Defer", 2024, of which the abstract alone was read:
      the formula is not checked against the paper, and what is said of its minimisers
      is ours.
    """
    _require("cost", logits, label, cost)
    require_shape("q", q, "[]")
    require_probability("q", q)
    of_label, of_team = _nlls(jnp.asarray(logits), label)
    cost, q = jnp.asarray(cost), jnp.asarray(q)
    return cost * _psi(of_label, q) + (1.0 - cost) * _psi(of_team, q)


def _require(
    name: str, logits: ArrayLike, label: ArrayLike, of_expert: ArrayLike
) -> None:
    require_shape("logits", logits, "[K+1]", min_size=3)
    require_label(label, jnp.shape(logits)[0] - 1, "K")
    require_shape(name, of_expert, "[]")
    require_finite("logits", logits)
    require_probability(name, of_expert)


def _nlls(logits: jax.Array, label: ArrayLike) -> tuple[jax.Array, jax.Array]:
    """Negative logarithms of the label's probability, and of label or deferral."""
    log_probs = jax.nn.log_softmax(logits)
    of_label = log_prob_of_class(log_probs[:-1], label)
    is_label = jnp.arange(log_probs.shape[0] - 1) == label
    wrong = jax.nn.logsumexp(log_probs[:-1], where=~is_label)
    # A softplus: that sum of two probabilities may round to more than 1.
    of_team = jax.nn.softplus(wrong - jnp.logaddexp(of_label, log_probs[-1]))
    return -of_label, of_team


def _psi(nll: jax.Array, q: jax.Array) -> jax.Array:
    r"""(1 - t^q) / q of :math:`t = e^{-nll}`, and the limit ``nll`` at q = 0."""
    power = -q * nll
    small = jnp.abs(power) < 1e-3
    # expm1(u) / u, by its series where u is near 0, which the slope in q needs.
    ratio = jnp.where(
        small,
        1.0 + power / 2 * (1.0 + power / 3 * (1.0 + power / 4)),
        jnp.expm1(power) / jnp.where(small, 1.0, power),
    )
    return nll * ratio
