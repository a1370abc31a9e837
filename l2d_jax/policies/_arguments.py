"""Checks of what several policies take."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from l2d_jax import decisions
from l2d_jax._checks import (
    require_all,
    require_exact_shape,
    require_integer,
    require_matrix,
)
from l2d_jax._rounding import flushed
from l2d_jax.types import Array, Decision


def require_one_answers(decision: Decision) -> jax.Array:
    """Whether each case is answered by one and not by several who share, bool ``[B]``.

    Raises:
      ValueError: shapes disagree, or a concrete allocation is shared; one of NaN, which
        nothing could be decided upon, is not.
    """
    require_matrix("defer_score", decision.defer_score, "[B, M]", 1)
    num_cases, num_experts = jnp.shape(decision.defer_score)
    require_exact_shape(
        "allocation", decision.allocation, (num_cases, num_experts + 1), "[B, M + 1]"
    )
    require_all(
        "allocation",
        decision.allocation,
        lambda v: (v == 0) | (v == 1) | np.isnan(v),
        "be 0 or 1: several who share an answer are not one who is asked",
    )
    weights = jnp.asarray(decision.allocation)
    return ((weights == 0) | (weights == 1) | jnp.isnan(weights)).all(axis=1)


def rule_scores(scores: ArrayLike) -> np.ndarray:
    """Scores on the host, in the precision in which the rule compares them.

    A threshold on scores of float32 has no more digits, whatever JAX computes with.

    Raises:
      TypeError: they are of half precision, in which a threshold between two of them
        may be one of them.
    """
    kind = jnp.result_type(scores)
    exact = kind in (jnp.float32, jnp.float64)
    if jnp.issubdtype(kind, jnp.floating) and not exact:
        raise TypeError(
            f"scores must be of float32 or float64, got {kind}: convert those of the"
            " decision, and apply the threshold to the same"
        )
    return flushed(np.asarray(jnp.asarray(scores, kind if exact else float)))


def rooms(capacity: Array | None, num_experts: int, num_cases: int) -> np.ndarray:
    """Cases of so many that each expert can answer, int ``[M]``, in [0, num_cases].

    Args:
      capacity: whole numbers >= 0 or infinity, ``[M]``; None: any number.
      num_experts: M.
      num_cases: of a batch or a period.

    Raises:
      ValueError: it is of another shape, or a value is none.
    """
    if capacity is None:
        return np.full(num_experts, num_cases)
    given = np.asarray(capacity)
    require_exact_shape("capacity", given, (num_experts,), "[M]")
    require_all(
        "capacity",
        given,
        lambda v: (v >= 0) & (v == np.floor(v)),
        "be a whole number >= 0",
    )
    return np.minimum(given, num_cases).astype(np.int64)


def first_answers(
    decision: Decision, labels: Array, expert_labels: Array
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, the classifier's predictions and the answers of who is asked, if any.

    Args:
      decision: over ``[B]``, K classes and M experts; who is asked is the expert of the
        greatest score.
      labels: class of each case, int ``[B]``, in [0, K).
      expert_labels: answers of the experts, int ``[B, M]``, in [0, K); -1 of who was
        not asked.

    Returns:
      Int ``[B]`` each; -1 where there is no classifier, or no answer.

    Raises:
      TypeError: labels or answers are not of an integer dtype.
      ValueError: shapes disagree, or a value is out of its range.
    """
    scores, num_classes = decision.defer_score, jnp.shape(decision.class_probs)[1]
    require_exact_shape("labels", labels, jnp.shape(scores)[:1], "[B]")
    require_exact_shape("expert_labels", expert_labels, jnp.shape(scores), "[B, M]")
    require_integer("labels", labels, "classes in [0, K)")
    require_integer("expert_labels", expert_labels, "-1 of who was not asked")
    require_all(
        "labels",
        labels,
        lambda v: (v >= 0) & (v < num_classes),
        f"be in [0, {num_classes})",
    )
    require_all(
        "expert_labels",
        expert_labels,
        lambda v: (v >= -1) & (v < num_classes),
        f"be in [0, {num_classes}), or -1 of who was not asked",
    )
    first = np.asarray(jnp.argmax(jnp.asarray(scores), axis=1))[:, None]
    answered = np.take_along_axis(np.asarray(decisions.signed(expert_labels)), first, 1)
    predicted = np.asarray(decisions.prediction(decision))
    return np.asarray(labels).astype(int), predicted, answered[:, 0].astype(int)
