"""One softmax over the classes and whom to defer to."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from l2d_jax._checks import (
    require_finite,
    require_label,
    require_probability,
    require_same_shape,
    require_shape,
    require_values,
)
from l2d_jax.losses._terms import (
    greatest,
    log_prob_of_class,
    require_classes_and_experts,
)


def deferral_cross_entropy(
    logits: ArrayLike,
    label: ArrayLike,
    expert_correct: ArrayLike,
    alpha: ArrayLike = 1.0,
) -> jax.Array:
    r"""Cross entropy of the K classes and the choice to defer, in nats.

    .. math:: -c \log p_{K} - (\alpha c + 1 - c) \log p_y, \quad p = softmax(logits)

    The loss is linear in ``expert_correct``, so an imputed probability of correctness
    gives the mean of the loss over the two outcomes. The authors' code takes logarithms
    to the base 2; divide by log 2 to compare.

    Args:
      logits: scores of the K classes and, last, of deferring, float ``[K+1]``, finite.
      label: class of the example, int ``[]``, in [0, K).
      expert_correct: whether the expert is right, or the probability of it, float
        ``[]``, in [0, 1].
      alpha: weight of the label where the expert is right, float ``[]``, >= 0. 1 is the
        consistent surrogate; less leaves such examples to the expert. Then a class
        counts for the less the oftener the expert is right about it, so the greatest
        score is not in general the best choice, of a class or of deferring.

    Returns:
      The loss, float ``[]``, >= 0. NaN, and so is its gradient, where a traced
      ``label`` is outside [0, K).

    Raises:
      TypeError: ``label`` is not an integer.
      ValueError: an argument has the wrong shape, or a concrete value out of its range.

    References:
      Mozannar and Sontag, "Consistent Estimators for Learning to Defer to an Expert",
      2020, the loss L_CE^alpha. Raman and Yee, "Improving Learning-to-Defer Algorithms
      Through Fine-Tuning", 2021, for an imputed ``expert_correct``.
    """
    require_shape("logits", logits, "[K+1]", min_size=2)
    require_label(label, jnp.shape(logits)[0] - 1, "K")
    require_shape("expert_correct", expert_correct, "[]")
    require_shape("alpha", alpha, "[]")
    require_finite("logits", logits)
    require_probability("expert_correct", expert_correct)
    require_values("alpha", alpha, "be >= 0", lambda v: v >= 0)

    # log_softmax subtracts the maximum first: no exponential can overflow.
    log_probs = jax.nn.log_softmax(jnp.asarray(logits))
    label_nll = -log_prob_of_class(log_probs[:-1], label)
    expert_correct, alpha = jnp.asarray(expert_correct), jnp.asarray(alpha)
    label_weight = 1.0 + (alpha - 1.0) * expert_correct  # Exactly 1 at alpha = 1.
    return label_weight * label_nll - expert_correct * log_probs[-1]


def cost_sensitive_cross_entropy(logits: ArrayLike, costs: ArrayLike) -> jax.Array:
    r"""Cross entropy of actions that each have a cost, in nats times its unit.

    .. math:: -\sum_i (\max_j c_j - c_i) \log p_i, \quad p = softmax(logits)

    An action weighs as much as it saves over the costliest one, so only differences of
    costs count: they may be negative, and in any unit. The softmax that minimizes the
    mean of the loss is proportional to the mean of these savings; its largest entry is
    thus the action of least mean cost. With :math:`c_k = 1[k \neq y]` for the classes
    and :math:`c_K = 1[m \neq y]` for deferring to the answer m, this is
    `deferral_cross_entropy` at alpha = 1. A price of deferring that makes it the
    costliest action puts weight on every wrong class.

    Args:
      logits: scores of the actions, float ``[A]``, A >= 2, finite: the K classes and,
        last, deferring, or any others.
      costs: cost of each action, in the order of ``logits``, ``[A]``, finite; lower is
        better.

    Returns:
      The loss, float ``[]``, >= 0; 0, and so is its gradient with respect to the
      logits, where all costs are equal. Not finite where traced ``costs`` are not.

    Raises:
      ValueError: an argument has the wrong shape, or a concrete value is not finite.

    References:
      Mozannar and Sontag, "Consistent Estimators for Learning to Defer to an Expert",
      2020, Eq. 3.
    """
    require_shape("logits", logits, "[A]", min_size=2)
    require_shape("costs", costs, "[A]", min_size=2)
    require_same_shape("costs", costs, "logits", logits)
    require_finite("logits", logits)
    require_finite("costs", costs)

    log_probs = jax.nn.log_softmax(jnp.asarray(logits))
    costs = jnp.asarray(costs, log_probs.dtype)
    return -jnp.sum((jnp.max(costs) - costs) * log_probs)


def multi_expert_cross_entropy(
    logits: ArrayLike, label: ArrayLike, expert_correct: ArrayLike
) -> jax.Array:
    r"""Cross entropy of the K classes and of deferring to each expert, in nats.

    .. math:: -\log p_y - \sum_j c_j \log p_{K+j}, \quad p = softmax(logits)

    At the minimiser of its mean p is proportional to the probabilities of the classes
    and, behind them, of each expert's being right, however the experts depend on each
    other: the greatest is the best choice. With one expert it is
    `deferral_cross_entropy` at alpha = 1. The share of the classes falls as one over 1
    plus the sum of the experts' chances, and with it the margins and the gradients of
    the classes: 20 experts of .7 leave them .067.

    An expert who was not asked has no column: the softmax is over the others. Ratios of
    the minimiser do not depend on who is left out, so it stays as it is where being
    asked does not depend on the label or on being right, given the input.

    Args:
      logits: scores of the K classes and, behind them, of the M experts, float
        ``[K+M]``, finite.
      label: class of the example, int ``[]``, in [0, K).
      expert_correct: whether each expert is right, or the probability of it, float
        ``[M]``, in [0, 1]; NaN or negative where they were not asked.

    Returns:
      The loss, float ``[]``, >= 0. NaN, and so is its gradient, where a traced
      ``label`` is outside [0, K).

    Raises:
      TypeError: ``label`` is not an integer.
      ValueError: an argument has the wrong shape, or a concrete value out of its range.

    References:
      Verma, Barrejon and Nalisnick, "Learning to Defer to Multiple Experts", 2023, the
      softmax surrogate; leaving out who was not asked is ours.
    """
    num_classes = require_classes_and_experts(logits, label, expert_correct)

    logits = jnp.asarray(logits)
    correct = jnp.asarray(expert_correct, logits.dtype)
    asked = correct >= 0  # False for NaN.
    of_experts = jnp.where(asked, logits[num_classes:], -jnp.inf)
    log_probs = jax.nn.log_softmax(logits.at[num_classes:].set(of_experts))
    label_nll = -log_prob_of_class(log_probs[:num_classes], label)
    # Selected before the product, which would make 0 times infinity.
    gains = jnp.where(asked, correct, 0.0) * jnp.where(
        asked, log_probs[num_classes:], 0.0
    )
    return label_nll - jnp.sum(gains)


def priced_deferral_cross_entropy(
    logits: ArrayLike,
    label: ArrayLike,
    expert_correct: ArrayLike,
    price: ArrayLike,
) -> jax.Array:
    r"""Cross entropy of the classes and of deferring at a price, in nats.

    .. math:: -\log p_y - c \log p_K - \gamma \log p_{\hat y},
        \quad p = softmax(logits), \quad \hat y = \arg\max_{k < K} p_k

    A surrogate of this library, of no paper. At the minimiser of its mean p is
    proportional to the probabilities of the classes, the greatest of which has the
    price :math:`\gamma` added, and the probability of the expert's being right: the
    deferral score is the greatest where that exceeds the best class's by more than the
    price. `cost_sensitive_cross_entropy` makes the same choice, but a price there
    puts weight on every wrong class alike, which draws the classes together; here the
    price is on one class, and sharpens. The class :math:`\hat y` is an index and has no
    gradient; of several greatest it is the first.

    Args:
      logits: scores of the K classes and, last, of deferring, float ``[K+1]``, finite.
      label: class of the example, int ``[]``, in [0, K).
      expert_correct: whether the expert is right, or the probability of it, float
        ``[]``, in [0, 1].
      price: of deferring, :math:`\gamma`, float ``[]``, >= 0; an error costs 1.

    Returns:
      The loss, float ``[]``, >= 0; at a price of 0 `deferral_cross_entropy` at alpha =
      1. NaN, and so is its gradient, where a traced ``label`` is outside [0, K).

    Raises:
      TypeError: ``label`` is not an integer.
      ValueError: an argument has the wrong shape, or a concrete value out of its range.

    References:
      Ours. Liu et al., "Mitigating Underfitting in Learning to Defer with Consistent
      Losses", 2024, have the same aim; their formula was not read.
    """
    require_shape("price", price, "[]")
    require_values("price", price, "be >= 0", lambda v: 0 <= v < float("inf"))
    loss = deferral_cross_entropy(logits, label, expert_correct)
    log_probs = jax.nn.log_softmax(jnp.asarray(logits))[:-1]
    return loss - price * jnp.sum(log_probs, where=greatest(log_probs))
