"""Decisions that compare the probabilities of classifier and experts."""

import jax
import jax.numpy as jnp

from l2d_jax._checks import require_matrix
from l2d_jax.decisions._arguments import classes_and_experts, require_examples
from l2d_jax.decisions.rule import decide
from l2d_jax.types import Array, Decision


def confidence_decision(class_probs: Array, expert_correct_prob: Array) -> Decision:
    """Decision by comparing confidences: the surest of classifier and experts answers.

    Defers where the greatest ``expert_correct_prob`` exceeds the classifier's greatest
    class probability. The released code of Mozannar and Sontag defers on equality too;
    here a tie keeps the input, as in every rule of this module.

    Args:
      class_probs: probability of each class, float ``[B, K]``.
      expert_correct_prob: estimated probability that each expert is right, float
        ``[B, M]``, in [0, 1].

    Returns:
      The decision; ``defer_score`` is the difference of the two probabilities, in
      [-1, 1].

    Raises:
      ValueError: if an argument is not a matrix, or the two differ in length.

    References:
      Raghu et al., "The Algorithmic Automation Problem", 2019; the "confidence"
      baseline of Mozannar and Sontag, 2020.
    """
    require_matrix("class_probs", class_probs, "[B, K]", 1)
    require_matrix("expert_correct_prob", expert_correct_prob, "[B, M]", 1)
    require_examples("expert_correct_prob", expert_correct_prob, class_probs)
    surest = jnp.max(jnp.asarray(class_probs), axis=1, keepdims=True)
    return decide(
        class_probs, jnp.asarray(expert_correct_prob) - surest, expert_correct_prob
    )


def decoupled_decision(logits: Array, num_experts: int) -> Decision:
    r"""Decision of the outputs that `l2d_jax.losses.decoupled_loss` trains.

    That of `confidence_decision`: the surest of classifier and experts answers.

    Args:
      logits: scores of the classes, read by a softmax of their own, and behind them
        log-odds of the experts' being right, float ``[B, K+M]``.
      num_experts: M, static, >= 1.

    Returns:
      The decision; ``expert_correct_prob`` is :math:`\sigma` of an expert's logit.

    Raises:
      ValueError: if there are not logits of two classes at least, or M < 1.
    """
    of_classes, of_experts = classes_and_experts(logits, num_experts)
    return confidence_decision(
        jax.nn.softmax(of_classes, axis=1), jax.nn.sigmoid(of_experts)
    )
