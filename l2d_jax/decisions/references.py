"""What methods are set against: one alone, a majority, one who knows who is right."""

import jax
import jax.numpy as jnp

from l2d_jax._checks import require_matrix
from l2d_jax.decisions._arguments import require_examples, require_experts
from l2d_jax.decisions.rule import decide
from l2d_jax.types import Array, Decision


def classifier_decision(class_probs: Array, num_experts: int = 1) -> Decision:
    """Decision of a classifier alone: it never defers.

    Args:
      class_probs: probability of each class, float ``[B, K]``.
      num_experts: M, static, >= 1.

    Returns:
      The decision; ``defer_score`` is minus the greatest class probability, in
      [-1, -1/K], so that a threshold or a coverage curve defers the least sure inputs
      first (selective prediction). ``expert_correct_prob`` is NaN: no estimate.

    Raises:
      ValueError: if ``class_probs`` is not a matrix with K >= 1, or M < 1.
    """
    require_matrix("class_probs", class_probs, "[B, K]", 1)
    unsure = -jnp.max(jnp.asarray(class_probs), axis=1, keepdims=True)
    return decide(class_probs, jnp.repeat(unsure, require_experts(num_experts), 1))


def expert_decision(
    num_examples: int, num_classes: int, num_experts: int = 1, expert: Array | int = 0
) -> Decision:
    """Decision of one expert alone: every input is deferred to them.

    Args:
      num_examples: B, static, >= 0.
      num_classes: K, static, >= 1.
      num_experts: M, static, >= 1.
      expert: who answers, int ``[]``, in [0, M); traced.

    Returns:
      The decision; the expert's ``defer_score`` is 1 and the others' -1;
      ``class_probs`` are NaN, for there is no classifier, and so is
      ``expert_correct_prob``: no estimate.

    Raises:
      ValueError: if a size is out of range.
    """
    if num_examples < 0:
        raise ValueError(f"num_examples must be at least 0, got {num_examples}")
    mine = jnp.arange(require_experts(num_experts)) == expert
    score = jnp.where(mine, 1.0, -1.0)
    return decide(
        _nobody(num_examples, num_classes), jnp.tile(score, (num_examples, 1))
    )


def majority_decision(
    num_examples: int, num_classes: int, num_experts: int
) -> Decision:
    """Decision in which all experts vote alike and there is no classifier.

    Args:
      num_examples: B, static, >= 0.
      num_classes: K, static, >= 1.
      num_experts: M, static, >= 1.

    Raises:
      ValueError: if a size is out of range.
    """
    everybody = expert_decision(num_examples, num_classes, num_experts)
    shares = jnp.full((num_examples, num_experts), 1.0 / num_experts)
    return everybody._replace(
        defer_score=jnp.ones_like(shares),
        allocation=jnp.pad(shares, ((0, 0), (0, 1))),
    )


def oracle_decision(
    class_probs: Array, labels: Array, expert_labels: Array
) -> Decision:
    """Decision of a router that knows who is right: the bound of every rejector.

    Keeps where the classifier is right, else asks the first expert who is.

    Args:
      class_probs: probability of each class, float ``[B, K]``.
      labels: class of each example, int ``[B]``.
      expert_labels: answers of the experts, int ``[B, M]``; -1 of who was not asked.

    Returns:
      The decision; ``defer_score`` is whether the expert is right less whether the
      classifier is.
    """
    require_matrix("class_probs", class_probs, "[B, K]", 1)
    require_matrix("expert_labels", expert_labels, "[B, M]", 1)
    require_examples("expert_labels", expert_labels, class_probs)
    right = jnp.argmax(jnp.asarray(class_probs), axis=1) == jnp.asarray(labels)
    expert_right = jnp.asarray(expert_labels) == jnp.asarray(labels)[:, None]
    score = expert_right.astype(float) - right[:, None]
    return decide(class_probs, score, expert_right.astype(float))


def _nobody(num_examples: int, num_classes: int) -> jax.Array:
    if num_classes < 1:
        raise ValueError(f"num_classes must be at least 1, got {num_classes}")
    return jnp.full((num_examples, num_classes), jnp.nan)
