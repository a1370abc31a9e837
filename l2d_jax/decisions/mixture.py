"""Decisions of a gate over experts and classifier."""

import jax
import jax.numpy as jnp

from l2d_jax._checks import require_matrix
from l2d_jax.decisions._arguments import require_examples
from l2d_jax.decisions.rule import decide
from l2d_jax.types import Array, Decision


def mixture_of_experts_decision(class_logits: Array, gate_logits: Array) -> Decision:
    """Decision of the gate that `l2d_jax.losses.mixture_of_experts_nll` trains.

    Asks the expert of the greatest weight where that exceeds the classifier's. A gate
    that fits a likelihood hedges, so this is not in general the best rule, and a
    weight is no estimate of anybody's being right: find a threshold of the score on
    validation data.

    Args:
      class_logits: scores of the classes, float ``[B, K]``.
      gate_logits: scores of the experts in their order and, last, of the classifier,
        float ``[B, M+1]``.

    Returns:
      The decision; ``defer_score`` is the logarithm of an expert's weight less that of
      the classifier's, and ``expert_correct_prob`` is NaN.

    Raises:
      ValueError: if an argument is not a matrix, or the two differ in length.

    References:
      Hemmer et al., "Forming Effective Human-AI Teams", 2022.
    """
    require_matrix("class_logits", class_logits, "[B, K]", 2)
    require_matrix("gate_logits", gate_logits, "[B, M+1]", 2)
    require_examples("gate_logits", gate_logits, class_logits)
    gate_logits = jnp.asarray(gate_logits)
    return decide(
        jax.nn.softmax(jnp.asarray(class_logits), axis=1),
        gate_logits[:, :-1] - gate_logits[:, -1:],
    )
