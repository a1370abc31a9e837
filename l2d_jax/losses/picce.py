"""Of the experts who are right, the one whose score is the greatest learns."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from l2d_jax._checks import poison_unless, require_all
from l2d_jax.losses._terms import greatest, require_classes_and_experts
from l2d_jax.losses.one_vs_all import one_vs_all_loss
from l2d_jax.losses.softmax import multi_expert_cross_entropy


def picce_cross_entropy(
    logits: ArrayLike, label: ArrayLike, expert_correct: ArrayLike
) -> jax.Array:
    r"""Cross entropy of the classes and of one expert who is right, in nats.

    .. math:: -\log p_y - 1[\textstyle\sum_j c_j > 0] \log p_{K+j^*},
        \quad p = softmax(logits), \quad j^* = \arg\max_{j: c_j = 1} g_{K+j}

    `l2d_jax.losses.multi_expert_cross_entropy` of the picked expert alone, so the
    classes keep at least half of the mass however many experts there are. The pick
    :math:`j^*` is an index and has no gradient; of several greatest it is the first.

    At the minimiser of its mean the experts stand in an order, and the share of each,
    over that of all classes, is the chance that they are right and nobody before them
    is. That of the first is their chance of being right; the others' are no
    probabilities of theirs. Nor is the first the best expert in general: where three or
    more depend on each other the loss prefers one whom others complement, and may give
    the best expert the probability 0.

    Args:
      logits: scores of the K classes and, behind them, of the M experts, float
        ``[K+M]``, finite.
      label: class of the example, int ``[]``, in [0, K).
      expert_correct: whether each expert is right, ``[M]``, 0 or 1: no mean of the loss
        over answers is a function of their probabilities. NaN or negative where they
        were not asked: such an expert is not picked, and has no column. The shares then
        move, since what an expert alone knows depends on who else was asked; those of
        `picce_one_vs_all` move for all but the first.

    Returns:
      The loss, float ``[]``, >= 0. NaN, and so is its gradient, where a traced
      ``label`` is outside [0, K) or a traced ``expert_correct`` is between 0 and 1.

    Raises:
      TypeError: ``label`` is not an integer.
      ValueError: an argument has the wrong shape, or a concrete value out of its range.

    References:
      PiCCE, arXiv 2602.17144, 2026, as an independent reimplementation and its audit
      have it; the paper's consistency needs its Condition 1, of a best expert whose
      answers also add the most to those of any others.
    """
    require_classes_and_experts(logits, label, expert_correct)
    valid, picked = _pick(logits, expert_correct)
    return poison_unless(valid, multi_expert_cross_entropy(logits, label, picked))


def picce_one_vs_all(
    logits: ArrayLike, label: ArrayLike, expert_correct: ArrayLike
) -> jax.Array:
    r"""Logistic losses of the classes and of one expert who is right, in nats.

    .. math:: \phi(g_y) + \sum_{k \neq y} \phi(-g_k) + \sum_j \phi(-g_{K+j})
        - 1[\textstyle\sum_j c_j > 0]\, g_{K+j^*}, \quad \phi(u) = \log(1 + e^{-u})

    `l2d_jax.losses.one_vs_all_loss` of the expert :math:`j^*` whom
    `picce_cross_entropy` picks, as if the others were wrong. :math:`\sigma(g_k)` is
    the probability of class k at the minimiser of its mean, and :math:`\sigma` of the
    greatest of the experts' logits that of their being right; the others' are no
    probabilities of theirs, and the order of the experts is subject to what is said
    there.

    Args:
      logits: scores of the K classes and, behind them, of the M experts, float
        ``[K+M]``, finite.
      label: class of the example, int ``[]``, in [0, K).
      expert_correct: whether each expert is right, ``[M]``, 0 or 1; NaN or negative
        where they were not asked, which has no term.

    Returns:
      The loss, float ``[]``, >= 0. NaN, and so is its gradient, where a traced
      ``label`` is outside [0, K) or a traced ``expert_correct`` is between 0 and 1.

    Raises:
      TypeError: ``label`` is not an integer.
      ValueError: an argument has the wrong shape, or a concrete value out of its range.

    References:
      PiCCE, arXiv 2602.17144, 2026, as an independent reimplementation has it.
    """
    require_classes_and_experts(logits, label, expert_correct)
    valid, picked = _pick(logits, expert_correct)
    return poison_unless(valid, one_vs_all_loss(logits, label, picked))


def _pick(logits: ArrayLike, expert_correct: ArrayLike) -> tuple[jax.Array, jax.Array]:
    """Whether all answers are hard, and 1 for the picked expert, -1 for the unasked."""
    require_all(
        "expert_correct",
        expert_correct,
        lambda v: ~((v > 0) & (v < 1)),
        "be 0 or 1, or negative where an expert was not asked",
    )
    logits = jnp.asarray(logits)
    correct = jnp.asarray(expert_correct, logits.dtype)
    asked = correct >= 0  # False for NaN.
    right = correct == 1
    of_experts = logits[-correct.shape[0] :]
    best = greatest(jnp.where(right, of_experts, -jnp.inf)) & right
    valid = jnp.all(~asked | right | (correct == 0))
    return valid, jnp.where(asked, best.astype(logits.dtype), -1.0)
