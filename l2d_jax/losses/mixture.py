"""Mixtures of classifier and experts under a soft gate."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from l2d_jax._checks import (
    require_exact_shape,
    require_finite,
    require_label,
    require_probability,
    require_shape,
)
from l2d_jax.losses._terms import log_prob_of_class, require_at_most_one


def mixture_nll(
    classifier_nll: ArrayLike,
    expert_nll: ArrayLike,
    defer_prob: ArrayLike,
    cost: ArrayLike = 0.0,
) -> jax.Array:
    r"""Expected loss of a classifier that may defer to an expert, in nats.

    .. math:: (1 - \pi)\,\ell(y, \hat y_M) + \pi\,(\ell(y, \hat y_D) + \gamma)

    The expectation over the decision to defer is taken exactly, not by sampling. With
    an expert of constant loss c this is `rejection_nll` at the cost :math:`\gamma + c`.

    Args:
      classifier_nll: negative log-likelihood of the label under the classifier, float
        ``[]``, >= 0.
      expert_nll: negative log-likelihood of the label under the expert, float ``[]``,
        >= 0.
      defer_prob: probability :math:`\pi` of deferring, float ``[]``, in [0, 1].
      cost: price :math:`\gamma` of deferring, float ``[]``, nats. The paper's Eq. 7
        carries the opposite sign.

    Returns:
      The loss, float ``[]``.

    Raises:
      ValueError: an argument has the wrong shape, or a concrete value is not finite
        or, for ``defer_prob``, outside [0, 1].

    References:
      Madras, Pitassi and Zemel, "Predict Responsibly", 2018, Eq. 9, with the cost of
      Eq. 7.
    """
    require_shape("expert_nll", expert_nll, "[]")
    require_finite("expert_nll", expert_nll)
    pass_loss = jnp.asarray(expert_nll) + _checked_cost(cost)
    return _gate(classifier_nll, pass_loss, defer_prob)


def rejection_nll(
    classifier_nll: ArrayLike, defer_prob: ArrayLike, cost: ArrayLike
) -> jax.Array:
    r"""Expected loss of a model that may reject, in nats.

    .. math:: (1 - \pi)\,\ell(y, \hat y) + \pi\,\gamma

    Args:
      classifier_nll: negative log-likelihood of the label under the classifier, float
        ``[]``, >= 0.
      defer_prob: probability :math:`\pi` of rejecting, float ``[]``, in [0, 1].
      cost: price :math:`\gamma` of a rejection, float ``[]``, nats. The paper's Eq. 4
        carries the opposite sign.

    Returns:
      The loss, float ``[]``.

    Raises:
      ValueError: an argument has the wrong shape, or a concrete value is not finite
        or, for ``defer_prob``, outside [0, 1].

    References:
      Madras, Pitassi and Zemel, "Predict Responsibly", 2018, Eq. 10.
    """
    return _gate(classifier_nll, _checked_cost(cost), defer_prob)


def mixture_of_experts_nll(
    class_logits: ArrayLike,
    gate_logits: ArrayLike,
    label: ArrayLike,
    expert_correct: ArrayLike,
) -> jax.Array:
    r"""Likelihood of the label under a gate over experts and classifier, in nats.

    .. math:: -\log \Big(w_{M}\, p_y + \sum_{j < M} w_j c_j\Big),
        \quad w = softmax(gate), \quad p = softmax(class)

    It is the likelihood of a team that draws who answers, not the accuracy of one that
    asks the likeliest: a weight hedges among those who are right on different
    occasions, so the greatest weight is not in general the best choice, and a weight
    estimates nobody's chance of being right. Read it as a score, with a threshold
    found on validation data. In log space throughout, with nothing added within the
    logarithm: where every expert is wrong the classifier's term is left.

    Args:
      class_logits: scores of the K classes, float ``[K]``, K >= 2, finite.
      gate_logits: scores of the M experts and, last, of the classifier, float
        ``[M+1]``, finite.
      label: class of the example, int ``[]``, in [0, K).
      expert_correct: whether each expert is right, or their probability of the label,
        float ``[M]``, in [0, 1]; the loss is not linear in it. NaN or negative where an
        expert was not asked: the gate is then among the others.

    Returns:
      The loss, float ``[]``, >= 0 up to rounding. NaN, and so is its gradient, where a
      traced ``label`` is outside [0, K).

    Raises:
      TypeError: ``label`` is not an integer.
      ValueError: an argument has the wrong shape, or a concrete value out of its range.

    References:
      Hemmer et al., "Forming Effective Human-AI Teams", 2022, as their released code
      has it, where the classifier is first and 1e-7 is added within the logarithm.
      Verma, Barrejon and Nalisnick, "Learning to Defer to Multiple Experts", 2023,
      Appendix A.4, show that it is not consistent.
    """
    require_shape("class_logits", class_logits, "[K]", min_size=2)
    require_shape("gate_logits", gate_logits, "[M+1]", min_size=2)
    require_label(label, jnp.shape(class_logits)[0], "K")
    require_shape("expert_correct", expert_correct, "[M]", min_size=1)
    num_experts = jnp.shape(gate_logits)[0] - 1
    require_exact_shape("expert_correct", expert_correct, (num_experts,), "[M]")
    require_finite("class_logits", class_logits)
    require_finite("gate_logits", gate_logits)
    require_at_most_one("expert_correct", expert_correct)

    gate_logits = jnp.asarray(gate_logits)
    correct = jnp.asarray(expert_correct, gate_logits.dtype)
    open_to = jnp.append(correct >= 0, True)  # A comparison with NaN is False.
    log_gate = jax.nn.log_softmax(jnp.where(open_to, gate_logits, -jnp.inf))
    label_log_prob = log_prob_of_class(jax.nn.log_softmax(class_logits), label)
    some = correct > 0  # Else the logarithm's slope would be infinite.
    log_correct = jnp.where(some, jnp.log(jnp.where(some, correct, 1.0)), -jnp.inf)
    return -jax.nn.logsumexp(log_gate + jnp.append(log_correct, label_log_prob))


def _gate(
    classifier_nll: ArrayLike, pass_loss: jax.Array, defer_prob: ArrayLike
) -> jax.Array:
    require_shape("classifier_nll", classifier_nll, "[]")
    require_shape("defer_prob", defer_prob, "[]")
    require_finite("classifier_nll", classifier_nll)
    require_probability("defer_prob", defer_prob)
    classifier_nll, defer_prob = jnp.asarray(classifier_nll), jnp.asarray(defer_prob)
    return (1.0 - defer_prob) * classifier_nll + defer_prob * pass_loss


def _checked_cost(cost: ArrayLike) -> jax.Array:
    require_shape("cost", cost, "[]")
    require_finite("cost", cost)
    return jnp.asarray(cost)
