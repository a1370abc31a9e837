"""A logistic loss for each class and each expert."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from l2d_jax._checks import poison_unless
from l2d_jax.losses._terms import bernoulli_nll, is_class, require_classes_and_experts


def one_vs_all_loss(
    logits: ArrayLike, label: ArrayLike, expert_correct: ArrayLike
) -> jax.Array:
    r"""One logistic loss for each class and each expert, in nats.

    .. math:: \phi(g_y) + \sum_{k \neq y} \phi(-g_k) + \sum_j \big[c_j \phi(g_{K+j})
        + (1 - c_j)\,\phi(-g_{K+j})\big], \quad \phi(u) = \log(1 + e^{-u})

    At the minimiser of its mean :math:`\sigma(g_k)` is the probability of class k and
    :math:`\sigma(g_{K+j})` that of expert j being right, so that the largest of all
    K+M logits is the best choice, and the estimates lie in [0, 1] by construction. The
    terms of the experts stand apart: who was not asked has none.

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
      Verma and Nalisnick, "Calibrated Learning to Defer with One-vs-All Classifiers",
      2022, Eq. 5; Verma, Barrejon and Nalisnick, "Learning to Defer to Multiple
      Experts", 2023, Eq. 9, for several. Their released code gives 0 or infinity at a
      logit of exactly 0.
    """
    num_classes = require_classes_and_experts(logits, label, expert_correct)
    logits, label = jnp.asarray(logits), jnp.asarray(label)
    correct = jnp.asarray(expert_correct, logits.dtype)
    asked = correct >= 0  # False for NaN.
    is_label = (jnp.arange(num_classes) == label).astype(logits.dtype)
    of_classes = jnp.sum(bernoulli_nll(logits[:num_classes], is_label))
    of_experts = bernoulli_nll(logits[num_classes:], jnp.where(asked, correct, 0.0))
    of_experts = jnp.sum(jnp.where(asked, of_experts, 0.0))
    return poison_unless(is_class(label, num_classes), of_classes + of_experts)
