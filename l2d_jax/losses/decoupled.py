"""Classifier and experts, each with a likelihood of their own."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from l2d_jax._checks import (
    poison_unless,
    require_finite,
    require_label,
    require_probability,
    require_shape,
    require_values,
)
from l2d_jax.losses._terms import (
    bernoulli_nll,
    is_class,
    log_prob_of_class,
    require_classes_and_experts,
)


def classification_cross_entropy(logits: ArrayLike, label: ArrayLike) -> jax.Array:
    r"""Cross entropy of the K classes, in nats.

    .. math:: -\log p_y, \quad p = softmax(logits)

    Args:
      logits: scores of the K classes, float ``[K]``, K >= 2, finite.
      label: class of the example, int ``[]``, in [0, K).

    Returns:
      The negative log-likelihood of the label, float ``[]``, >= 0. NaN, and so is its
      gradient, where a traced ``label`` is outside [0, K).

    Raises:
      TypeError: ``label`` is not an integer.
      ValueError: an argument has the wrong shape, or a concrete value out of its range.

    References:
      Madras, Pitassi and Zemel, "Predict Responsibly", 2018, Eq. 3: for K = 2 its
      :math:`-\ell(Y, \hat Y)`.
    """
    require_shape("logits", logits, "[K]", min_size=2)
    require_label(label, jnp.shape(logits)[0], "K")
    require_finite("logits", logits)
    return -log_prob_of_class(jax.nn.log_softmax(jnp.asarray(logits)), label)


def expert_correctness_nll(logit: ArrayLike, expert_correct: ArrayLike) -> jax.Array:
    r"""Binary cross entropy of a model of whether the expert is right, in nats.

    .. math:: -c \log \sigma(z) - (1 - c) \log \sigma(-z)

    Args:
      logit: log-odds z that the expert is right, float ``[]``, finite.
      expert_correct: whether the expert is right, or the probability of it, float
        ``[]``, in [0, 1].

    Returns:
      The loss, float ``[]``, >= 0.

    Raises:
      ValueError: an argument has the wrong shape, or a concrete value out of its range.

    References:
      Raman and Yee, "Improving Learning-to-Defer Algorithms Through Fine-Tuning", 2021,
      Section 3.1: the model of human performance, which there codes right as 0.
    """
    require_shape("logit", logit, "[]")
    require_shape("expert_correct", expert_correct, "[]")
    require_finite("logit", logit)
    require_probability("expert_correct", expert_correct)
    return bernoulli_nll(jnp.asarray(logit), jnp.asarray(expert_correct))


def decoupled_loss(
    logits: ArrayLike,
    label: ArrayLike,
    expert_correct: ArrayLike,
    weight: ArrayLike = 1.0,
) -> jax.Array:
    r"""Cross entropy of the classes, and a logistic loss for each expert, in nats.

    .. math:: -\log p_y + \frac{\lambda}{M} \sum_j \big[c_j \phi(g_{K+j})
        + (1 - c_j)\,\phi(-g_{K+j})\big], \quad p = softmax(g_{<K}),
        \quad \phi(u) = \log(1 + e^{-u})

    The two models share what computes the logits and no normaliser: at the minimiser
    of its mean p is the distribution of the label and :math:`\sigma(g_{K+j})` the
    probability of expert j being right, whatever the weight and however the experts
    depend on each other, so that the greatest of all these probabilities is the best
    choice.

    Args:
      logits: scores of the K classes and, behind them, log-odds of the M experts,
        float ``[K+M]``, finite.
      label: class of the example, int ``[]``, in [0, K).
      expert_correct: whether each expert is right, or the probability of it, float
        ``[M]``, in [0, 1]; NaN or negative where they were not asked. The mean is over
        who was asked, and 0 where nobody was.
      weight: of the experts, :math:`\lambda`, float ``[]``, >= 0.

    Returns:
      The loss, float ``[]``, >= 0. NaN, and so is its gradient, where a traced
      ``label`` is outside [0, K).

    Raises:
      TypeError: ``label`` is not an integer.
      ValueError: an argument has the wrong shape, or a concrete value out of its range.

    References:
      The decoupled surrogate of Montreuil et al., 2026, arXiv 2604.09414, which was
      read in its abstract alone. Two networks trained so are the "confidence" baseline
      of Raghu et al., "The Algorithmic Automation Problem", 2019.
    """
    num_classes = require_classes_and_experts(logits, label, expert_correct)
    require_shape("weight", weight, "[]")
    require_values("weight", weight, "be >= 0", lambda v: 0 <= v < float("inf"))

    logits = jnp.asarray(logits)
    correct = jnp.asarray(expert_correct, logits.dtype)
    asked = correct >= 0  # False for NaN.
    label_nll = -log_prob_of_class(jax.nn.log_softmax(logits[:num_classes]), label)
    nlls = bernoulli_nll(logits[num_classes:], jnp.where(asked, correct, 0.0))
    total = jnp.sum(jnp.where(asked, nlls, 0.0))
    of_experts = weight * total / jnp.maximum(jnp.sum(asked), 1)
    valid = is_class(jnp.asarray(label), num_classes)
    return poison_unless(valid, label_nll + of_experts)
