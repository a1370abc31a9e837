"""Decisions of one softmax over the classes and whom to defer to."""

import jax
import jax.numpy as jnp
import numpy as np

from l2d_jax._checks import require_exact_shape, require_matrix, require_values
from l2d_jax.decisions._arguments import classes_and_experts
from l2d_jax.decisions.rule import decide
from l2d_jax.types import Array, Decision


def deferral_decision(logits: Array, alpha: Array | float = 1.0) -> Decision:
    r"""Decision of a classifier whose last output is the choice to defer.

    Defers where the last of the K+1 scores is strictly the greatest; the prediction is
    the greatest of the first K.

    The expert's chance of being right, :math:`q`, is read from the softmax
    probability :math:`p_\bot` of deferring. With :math:`c` for "the expert is right",
    the loss :math:`-c \log p_\bot - (\alpha c + 1 - c) \log p_y` is on average a cross
    entropy whose target puts :math:`q` on deferring and :math:`\alpha q + 1 - q` on
    the classes, so its minimiser has :math:`p_\bot = q / (1 + \alpha q)`, whence

    .. math:: q = \frac{p_\bot}{1 - \alpha p_\bot}
        = \Big(e^{r} + 1 - \alpha\Big)^{-1},
        \quad r = \operatorname{logsumexp}_{k<K} g_k - g_\bot

    cut to [0, 1]: a fitted network need not respect :math:`p_\bot \le 1/(1+\alpha)`,
    and beyond :math:`1/\alpha` the fraction loses its meaning and counts as 1. At
    ``alpha`` = 1 it is the known :math:`p_\bot / (1 - p_\bot)`.

    Args:
      logits: scores, float ``[B, K+1]``; the defer score is the last.
      alpha: weight of the label where the expert is right, as in training, float
        ``[]``, >= 0; traced.

    Returns:
      The decision, of one expert; ``defer_score`` is the last logit less the greatest
      of the others, ``class_probs`` the softmax of the first K.

    Raises:
      ValueError: if ``logits`` is not a matrix with K >= 1, or ``alpha`` is not a
        scalar or, when concrete, not finite or negative.

    References:
      Mozannar and Sontag, "Consistent Estimators for Learning to Defer to an Expert",
      2020. The estimator at ``alpha`` = 1: Verma and Nalisnick, "Calibrated Learning to
      Defer with One-vs-All Classifiers", 2022.
    """
    require_matrix("logits", logits, "[B, K+1]", 2)
    require_exact_shape("alpha", jnp.asarray(alpha), (), "[]")
    if not isinstance(alpha, jax.core.Tracer) and not 0 <= float(alpha) < np.inf:
        raise ValueError(f"alpha must be finite and >= 0, got {alpha}")
    logits = jnp.asarray(logits)
    class_logits, defer_logit = logits[:, :-1], logits[:, -1]
    defer_score = defer_logit - jnp.max(class_logits, axis=1)
    # The difference first: near 1e4 the sum's own logarithm would lose its digits.
    log_ratio = jax.nn.logsumexp(class_logits - defer_logit[:, None], axis=1)
    # Beyond these bounds q is 0, 1 or 1/(1 - alpha) to rounding; exp stays finite.
    inverse_prob = jnp.exp(jnp.clip(log_ratio, -40.0, 40.0)) + (1 - alpha)
    return decide(
        jax.nn.softmax(class_logits, axis=1),
        defer_score[:, None],
        # The floor of 1 cuts q at 1 and guards the pole and what lies beyond it.
        (1 / jnp.maximum(inverse_prob, 1))[:, None],
    )


def multi_expert_decision(logits: Array, num_experts: int) -> Decision:
    r"""Decision of a softmax over the classes and the experts.

    Asks the expert of the greatest logit where that exceeds the logits of all classes.
    At the minimiser of `l2d_jax.losses.multi_expert_cross_entropy` an expert's share
    over that of all classes is their chance of being right,

    .. math:: q_j = \frac{p_{K+j}}{1 - \sum_i p_{K+i}}
        = \exp\big(g_{K+j} - \operatorname{logsumexp}_{k<K} g_k\big)

    which a fitted network may take above 1: it is cut there, where the surest of
    several experts are no longer told apart; the scores still tell them.

    Args:
      logits: scores of the classes and, behind them, of the experts, float
        ``[B, K+M]``.
      num_experts: M, static, >= 1.

    Returns:
      The decision; ``defer_score`` is an expert's logit less the greatest of the
      classes', ``class_probs`` the softmax of the first K.

    Raises:
      ValueError: if there are not logits of two classes at least, or M < 1.

    References:
      Verma, Barrejon and Nalisnick, "Learning to Defer to Multiple Experts", 2023.
    """
    of_classes, of_experts = classes_and_experts(logits, num_experts)
    return decide(
        jax.nn.softmax(of_classes, axis=1),
        of_experts - jnp.max(of_classes, axis=1, keepdims=True),
        _odds_of_experts(of_classes, of_experts),
    )


def priced_deferral_decision(logits: Array, price: Array | float) -> Decision:
    r"""Decision of a softmax that has learnt the price of deferring.

    At the minimiser of `l2d_jax.losses.priced_deferral_cross_entropy`, at the price
    :math:`\gamma`, the softmax is proportional to :math:`\eta_k + \gamma 1[k = \hat k]`
    and :math:`q`, with :math:`\eta` the probabilities of the classes, the greatest of
    which is that of :math:`\hat k`, and :math:`q` the expert's chance of being right.
    With s the softmax of the classes alone,

    .. math:: q = (1 + \gamma) \frac{p_\bot}{1 - p_\bot},
        \quad \eta_k = (1 + \gamma) s_k - \gamma 1[k = \hat k]

    q is cut at 1. A fitted network may leave the greatest class less than the price
    takes away: it then keeps as much as the second, and all are divided by their sum.

    Args:
      logits: scores of the classes and, last, of deferring, float ``[B, K+1]``, K >= 2.
      price: :math:`\gamma` as in training, float ``[]``, >= 0; traced.

    Returns:
      The decision, of one expert. ``defer_score`` is the last logit less the greatest
      of the others, net of the price: do not take the price off again.
      ``expert_correct_prob`` is q, before it.

    Raises:
      ValueError: if ``logits`` is not a matrix with K >= 2, or ``price`` is not a
        scalar or, when concrete, not finite or negative.
    """
    require_matrix("logits", logits, "[B, K+1]", 3)
    require_exact_shape("price", jnp.asarray(price), (), "[]")
    require_values("price", price, "be finite and >= 0", lambda v: 0 <= v < np.inf)
    of_classes, of_expert = jnp.asarray(logits)[:, :-1], jnp.asarray(logits)[:, -1:]
    share = jax.nn.softmax(of_classes, axis=1)
    first = jnp.argmax(of_classes, axis=1)[:, None] == jnp.arange(share.shape[1])
    second = jnp.max(share, axis=1, where=~first, initial=0.0, keepdims=True)
    taken = jnp.maximum(share - price / (1.0 + price), second)
    kept = jnp.where(first, taken, share)
    return decide(
        kept / jnp.sum(kept, axis=1, keepdims=True),
        of_expert - jnp.max(of_classes, axis=1, keepdims=True),
        _odds_of_experts(of_classes, of_expert, 1.0 + price),
    )


def _odds_of_experts(
    of_classes: Array, of_experts: Array, unit: Array | float = 1.0
) -> jax.Array:
    """Share of each expert over that of all classes, cut at 1, float ``[B, M]``.

    Args:
      of_classes: scores of the classes, float ``[B, K]``.
      of_experts: scores of the experts, float ``[B, M]``, of the same softmax.
      unit: what the shares of all classes stand for, float ``[]``, > 0.
    """
    # From the greatest, so that scores near 1e4 keep their digits.
    greatest = jnp.max(of_classes, axis=1, keepdims=True)
    log_total = jax.nn.logsumexp(of_classes - greatest, axis=1, keepdims=True)
    log_odds = of_experts - greatest - log_total + jnp.log(unit)
    return jnp.exp(jnp.minimum(log_odds, 0.0))
