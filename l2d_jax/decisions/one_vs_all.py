"""Decisions of one logistic output for each class and each expert."""

import jax
import jax.numpy as jnp

from l2d_jax.decisions._arguments import classes_and_experts
from l2d_jax.decisions.rule import decide
from l2d_jax.types import Array, Decision


def one_vs_all_decision(logits: Array, num_experts: int) -> Decision:
    r"""Decision of a classifier with one logit for each class and each expert.

    Asks the expert of the greatest logit where that exceeds the logits of all classes.
    Each :math:`\sigma(g)` estimates a probability by itself: that of an expert's being
    right is given as it is, and those of the classes are divided by their sum.

    Args:
      logits: scores of the classes and, behind them, of the experts, float
        ``[B, K+M]``.
      num_experts: M, static, >= 1.

    Returns:
      The decision; ``defer_score`` is an expert's logit less the greatest of the
      classes'.

    Raises:
      ValueError: if there are not logits of two classes at least, or M < 1.

    References:
      Verma and Nalisnick, "Calibrated Learning to Defer with One-vs-All Classifiers",
      2022.
    """
    of_classes, of_experts = classes_and_experts(logits, num_experts)
    return decide(
        # The softmax of log-probabilities is these, by their sum.
        jax.nn.softmax(jax.nn.log_sigmoid(of_classes), axis=1),
        of_experts - jnp.max(of_classes, axis=1, keepdims=True),
        jax.nn.sigmoid(of_experts),
    )
