"""Decisions of scores of whom to ask, next to a classifier that is fixed."""

import jax.numpy as jnp

from l2d_jax._checks import require_matrix
from l2d_jax.decisions._arguments import require_examples
from l2d_jax.decisions.rule import decide
from l2d_jax.types import Array, Decision


def two_stage_decision(class_probs: Array, scores: Array) -> Decision:
    """Decision by the scores of the experts and, last, of the classifier.

    The greatest score is that of the least mean cost, prices and all. Scores tell costs
    by their ratios alone, so there is no estimate of the experts' being right.

    Args:
      class_probs: probability of each class under the classifier, float ``[B, K]``.
      scores: of those who may answer, float ``[B, M+1]``: the experts in their order
        and, last, the classifier, as `l2d_jax.losses.two_stage_loss` trains them.

    Returns:
      The decision; ``defer_score`` is an expert's score less the classifier's, and
      ``expert_correct_prob`` is NaN.

    Raises:
      ValueError: if an argument is not a matrix, or the two differ in length.

    References:
      Mao et al., "Two-Stage Learning to Defer with Multiple Experts", 2023.
    """
    require_matrix("class_probs", class_probs, "[B, K]", 1)
    require_matrix("scores", scores, "[B, M+1]", 2)
    require_examples("scores", scores, class_probs)
    scores = jnp.asarray(scores)
    return decide(class_probs, scores[:, :-1] - scores[:, -1:])
