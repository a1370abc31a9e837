"""Decisions where the likeliest expert alone has an estimate."""

import jax.numpy as jnp

from l2d_jax.decisions._arguments import classes_and_experts
from l2d_jax.decisions.one_vs_all import one_vs_all_decision
from l2d_jax.decisions.softmax import multi_expert_decision
from l2d_jax.types import Array, Decision


def picce_decision(logits: Array, num_experts: int) -> Decision:
    """Decision of the outputs that `l2d_jax.losses.picce_cross_entropy` trains.

    Asks the expert of the greatest logit where that exceeds the logits of all classes.
    Their chance of being right is as in `multi_expert_decision`. The others' outputs
    say how often they are right where nobody before them is, which is not theirs to
    be judged by: they have no estimate, and where the first cannot be asked, what
    their scores say of them is too little.

    Args:
      logits: scores of the classes and, behind them, of the experts, float
        ``[B, K+M]``.
      num_experts: M, static, >= 1.

    Returns:
      The decision; ``expert_correct_prob`` is NaN but for the expert of the greatest
      logit, of several the first.

    Raises:
      ValueError: if there are not logits of two classes at least, or M < 1.
    """
    return _of_the_first(multi_expert_decision(logits, num_experts), logits)


def picce_one_vs_all_decision(logits: Array, num_experts: int) -> Decision:
    r"""Decision of the outputs that `l2d_jax.losses.picce_one_vs_all` trains.

    As `picce_decision`, with the estimates of `one_vs_all_decision`.

    Args:
      logits: scores of the classes and, behind them, of the experts, float
        ``[B, K+M]``.
      num_experts: M, static, >= 1.

    Returns:
      The decision; ``expert_correct_prob`` is :math:`\sigma` of the greatest of the
      experts' logits, and NaN for the others.

    Raises:
      ValueError: if there are not logits of two classes at least, or M < 1.
    """
    return _of_the_first(one_vs_all_decision(logits, num_experts), logits)


def _of_the_first(decision: Decision, logits: Array) -> Decision:
    num_experts = decision.expert_correct_prob.shape[1]
    _, of_experts = classes_and_experts(logits, num_experts)
    first = jnp.argmax(of_experts, axis=1)[:, None] == jnp.arange(num_experts)
    estimate = jnp.where(first, decision.expert_correct_prob, jnp.nan)
    return decision._replace(expert_correct_prob=estimate)
