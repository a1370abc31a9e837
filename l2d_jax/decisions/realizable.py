"""Decisions of the surrogates of the team's being right."""

import jax
import jax.numpy as jnp

from l2d_jax._checks import require_matrix
from l2d_jax.decisions.rule import decide
from l2d_jax.types import Array, Decision


def realizable_decision(logits: Array) -> Decision:
    """Decision of a softmax that fits how often label or deferral is right.

    Defers where deferring has a greater probability than the best class. Neither
    `l2d_jax.losses.realizable_surrogate_loss` nor `l2d_jax.losses.rl2d_loss` makes that
    the best rule in general: find a threshold of the score on validation data, for
    `apply_threshold`. No output estimates the expert's chance of being right.

    Args:
      logits: scores of the classes and, last, of deferring, float ``[B, K+1]``, K >= 2.

    Returns:
      The decision, of one expert; ``defer_score`` is the probability of deferring less
      the greatest of a class, in [-1, 1], under the softmax of all;
      ``class_probs`` is the softmax of the first K, and ``expert_correct_prob`` NaN.

    Raises:
      ValueError: if ``logits`` is not a matrix with K >= 2.

    References:
      Mozannar et al., "Who Should Predict? Exact Algorithms For Learning to Defer to
      Humans", 2023, whose released code has this score.
    """
    require_matrix("logits", logits, "[B, K+1]", 3)
    logits = jnp.asarray(logits)
    probs = jax.nn.softmax(logits, axis=1)
    return decide(
        jax.nn.softmax(logits[:, :-1], axis=1),
        probs[:, -1:] - jnp.max(probs[:, :-1], axis=1, keepdims=True),
    )
