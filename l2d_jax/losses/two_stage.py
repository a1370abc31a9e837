"""Whom to ask where the classifier is fixed."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from l2d_jax._checks import (
    require_finite,
    require_probability,
    require_same_shape,
    require_shape,
    require_values,
)
from l2d_jax.losses._terms import bernoulli_nll


def two_stage_loss(scores: ArrayLike, costs: ArrayLike) -> jax.Array:
    r"""Cross entropy of who answers, each weighted by what they save, in nats.

    .. math:: -\sum_a (1 - c_a) \log p_a, \quad p = softmax(scores)

    At the minimiser of its mean p is proportional to :math:`1 - E[c_a]`: the greatest
    score is that of the least mean cost. It is
    `l2d_jax.losses.cost_sensitive_cross_entropy` with 1 in place of the greatest cost,
    so that agents who all err at once still teach something if their costs are below 1.

    Args:
      scores: of those who may answer, float ``[A]``, A >= 2, finite: the experts and,
        last, the classifier, for `l2d_jax.decisions.two_stage_decision`.
      costs: cost of each one's answer, in the order of ``scores``, float ``[A]``, in
        [0, 1]: whether they are wrong, or with a price added, divided by the greatest
        cost there can be, which changes no choice.

    Returns:
      The loss, float ``[]``, >= 0; 0, and so is its gradient, where all costs are 1.

    Raises:
      ValueError: an argument has the wrong shape, or a concrete value out of its range.

    References:
      Mao et al., "Two-Stage Learning to Defer with Multiple Experts", 2023, against
      which the formula is not checked. Later work has the sum of the others' costs for
      a weight, which is as consistent and flattens as there are more of them.
    """
    require_shape("scores", scores, "[A]", min_size=2)
    require_shape("costs", costs, "[A]", min_size=2)
    require_same_shape("costs", costs, "scores", scores)
    require_finite("scores", scores)
    require_probability("costs", costs)

    log_probs = jax.nn.log_softmax(jnp.asarray(scores))
    return -jnp.sum((1.0 - jnp.asarray(costs, log_probs.dtype)) * log_probs)


def posthoc_rejector_loss(
    score: ArrayLike,
    classifier_wrong: ArrayLike,
    expert_wrong: ArrayLike,
    price: ArrayLike,
) -> jax.Array:
    r"""Logistic loss of the choice to defer a fixed classifier's input, in nats.

    .. math:: 1[h \neq y]\,\phi(r) + (\gamma + 1[m \neq y])\,\phi(-r),
        \quad \phi(u) = \log(1 + e^{-u})

    with h the answer of the classifier and m the expert's. At the minimiser of its mean
    :math:`e^r` is the chance of the classifier's being wrong over the price plus that
    of the expert's, so :math:`r > 0` exactly where deferring costs less. An input that
    both answer rightly has no weight at a price of 0: divide by the number of examples
    and never by the sum of weights, which may be 0.

    Args:
      score: inclination r to defer, float ``[]``, finite; `l2d_jax.decisions.decide`
        takes it as it is.
      classifier_wrong: whether the classifier is wrong, or the probability of it,
        float ``[]``, in [0, 1]: of its answer itself, not of a smooth loss of it.
      expert_wrong: whether the expert is wrong, or the probability of it, float ``[]``,
        in [0, 1].
      price: of deferring, :math:`\gamma`, float ``[]``, >= 0; an error costs 1.

    Returns:
      The loss, float ``[]``, >= 0.

    Raises:
      ValueError: an argument has the wrong shape, or a concrete value out of its range.

    References:
      Narasimhan et al., "Post-hoc Estimators for Learning to Defer to an Expert", 2022,
      for the rule; the loss is ours. With an expert who is never wrong it is Eq. 5 of
      Mao, Mohri and Zhong, "Predictor-Rejector Multi-Class Abstention", 2024, with the
      score's sign turned.
    """
    for name, value in (
        ("score", score),
        ("classifier_wrong", classifier_wrong),
        ("expert_wrong", expert_wrong),
        ("price", price),
    ):
        require_shape(name, value, "[]")
    require_finite("score", score)
    require_probability("classifier_wrong", classifier_wrong)
    require_probability("expert_wrong", expert_wrong)
    require_values("price", price, "be >= 0", lambda v: 0 <= v < float("inf"))

    score = jnp.asarray(score)
    of_keeping = jnp.asarray(classifier_wrong) * bernoulli_nll(score, 1.0)
    of_deferring = jnp.asarray(price) + jnp.asarray(expert_wrong)
    return of_keeping + of_deferring * bernoulli_nll(score, 0.0)
