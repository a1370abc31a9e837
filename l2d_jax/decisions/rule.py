"""Who answers by the scores, and what they say."""

import jax
import jax.numpy as jnp
import numpy as np

from l2d_jax._checks import (
    poison_unless,
    require_all,
    require_distributions,
    require_exact_shape,
    require_integer,
    require_matrix,
)
from l2d_jax._rounding import of_sum
from l2d_jax.decisions._arguments import require_examples
from l2d_jax.types import Array, Decision


def decide(
    class_probs: Array, defer_score: Array, expert_correct_prob: Array | None = None
) -> Decision:
    """The decision that follows from scores by the rule of this module.

    Args:
      class_probs: probability of each class, float ``[B, K]``.
      defer_score: inclination to ask each expert, float ``[B, M]``.
      expert_correct_prob: estimated probability that each is right, float ``[B, M]``;
        None: no estimate.

    Raises:
      ValueError: the shapes do not match, or concrete probabilities are none: outside
        [0, 1], or of classes and of another sum than 1. NaN is one that is not known.
    """
    require_matrix("class_probs", class_probs, "[B, K]", 1)
    require_matrix("defer_score", defer_score, "[B, M]", 1)
    defer_score = jnp.asarray(defer_score)
    require_examples("defer_score", defer_score, class_probs)
    if expert_correct_prob is None:
        expert_correct_prob = jnp.full(defer_score.shape, jnp.nan)
    require_exact_shape(
        "expert_correct_prob", expert_correct_prob, defer_score.shape, "[B, M]"
    )
    require_distributions("class_probs", class_probs, unknown=True)
    require_all(
        "expert_correct_prob",
        expert_correct_prob,
        lambda v: np.isnan(v) | ((v >= 0) & (v <= 1)),
        "be in [0, 1]",
    )
    return Decision(
        class_probs=jnp.asarray(class_probs),
        expert_correct_prob=jnp.asarray(expert_correct_prob),
        defer_score=defer_score,
        allocation=allocate(defer_score),
    )


def allocate(defer_score: Array, threshold: Array | float = 0.0) -> jax.Array:
    """Who answers by the rule of this module, one-hot float ``[B, M + 1]``.

    Args:
      defer_score: inclination to ask each expert, float ``[B, M]``, M >= 1.
      threshold: above which a score defers, float ``[]``, in units of the score. Of
        another precision, both are compared in the coarser, so that whatever was kept
        where the threshold was chosen is kept here.

    Raises:
      ValueError: a concrete threshold is NaN. Where it is traced, so is the allocation.
    """
    require_matrix("defer_score", defer_score, "[B, M]", 1)
    defer_score = _as_floats(defer_score)
    num_experts = defer_score.shape[1]
    require_all("threshold", threshold, lambda v: ~np.isnan(v), "not be NaN")
    greatest = jnp.max(defer_score, axis=1)
    if not isinstance(threshold, float):
        # Rounding keeps an order: what was not above the threshold is not above it now.
        threshold = _as_floats(threshold)
        coarser = min(greatest.dtype, threshold.dtype, key=lambda d: jnp.finfo(d).bits)
        greatest, threshold = greatest.astype(coarser), threshold.astype(coarser)
    # Written so that a NaN defers; argmax takes it for the greatest.
    keeps = greatest <= threshold
    chosen = jnp.where(keeps, num_experts, jnp.argmax(defer_score, axis=1))
    allocation = (chosen[:, None] == jnp.arange(num_experts + 1)).astype(float)
    return jnp.where(jnp.isnan(threshold), jnp.nan, allocation)


def _as_floats(values: Array | float) -> jax.Array:
    array = jnp.asarray(values)
    floating = jnp.issubdtype(array.dtype, jnp.floating)
    return array if floating else array.astype(float)


def prediction(decision: Decision) -> jax.Array:
    """Class that the classifier chooses, int ``[B]``; a tie is the lowest label.

    -1 where there is no classifier: its probabilities are NaN.
    """
    probs = jnp.asarray(decision.class_probs)
    unknown = jnp.isnan(probs).any(axis=-1)
    return jnp.where(unknown, -1, jnp.argmax(probs, axis=-1))


def among(decision: Decision, available: Array) -> Decision:
    """The decision where only some experts can be asked.

    Votes are shared among who is left. Where the one expert who was to answer is not
    to be had, the rule of this module decides among the others and the classifier.

    Args:
      decision: over ``[B]`` and M experts.
      available: whether each expert can be asked, bool ``[B, M]``.

    Raises:
      ValueError: ``available`` is of another shape.
    """
    require_exact_shape(
        "available", available, jnp.shape(decision.defer_score), "[B, M]"
    )
    available = jnp.asarray(available, bool)
    score = jnp.where(available, jnp.asarray(decision.defer_score), -jnp.inf)
    open_to = jnp.pad(available, ((0, 0), (0, 1)), constant_values=True)
    left = jnp.where(open_to, jnp.asarray(decision.allocation), 0.0)
    total = jnp.sum(left, axis=1, keepdims=True)
    shared = left / jnp.where(total > 0, total, 1.0)
    return decision._replace(
        defer_score=score, allocation=jnp.where(total > 0, shared, allocate(score))
    )


def signed(expert_labels: Array) -> jax.Array:
    """The answers, int32 where their own type cannot hold -1."""
    answers = jnp.asarray(expert_labels)
    holds = jnp.issubdtype(answers.dtype, jnp.signedinteger)
    whole = answers.dtype == bool or jnp.issubdtype(answers.dtype, jnp.integer)
    return answers.astype(jnp.int32) if whole and not holds else answers


def known_answers(expert_labels: Array, num_classes: int | None = None) -> jax.Array:
    """Whether each answer is one: a class, or -1 of who was not asked; bool ``[B, M]``.

    Args:
      expert_labels: answers of the experts, int ``[B, M]``.
      num_classes: K; None where it is not known.

    Raises:
      TypeError: the answers are not of an integer dtype.
    """
    require_integer("expert_labels", expert_labels, "-1 of who was not asked")
    answers = signed(expert_labels)
    known = answers >= -1
    return known if num_classes is None else known & (answers < num_classes)


def vote(decision: Decision, expert_labels: Array) -> jax.Array:
    r"""What the allocation says of each class, float ``[B, K]``, rows sum to 1.

    .. math:: q_k = \sum_i w_i 1[e_i = k] + w_{M+1} p_k

    with the weights shared among the experts who answered and the classifier. A row is
    NaN where all of the weight is on experts who were not asked, or a traced answer is
    neither a class nor -1.

    Args:
      decision: over ``[B]`` and M experts.
      expert_labels: answers of the experts, int ``[B, M]``; -1 of who was not asked.

    Raises:
      TypeError: the answers are not of an integer dtype.
      ValueError: the shapes do not match, or a concrete answer is neither a class nor
        -1.

    References:
      Keswani, Lease and Kenthapadi, "Towards Unbiased and Accurate Deferral to Multiple
      Experts", 2021, for a label that is 0 or 1.
    """
    require_exact_shape(
        "expert_labels", expert_labels, jnp.shape(decision.defer_score), "[B, M]"
    )
    class_probs, answers = jnp.asarray(decision.class_probs), jnp.asarray(expert_labels)
    num_classes = class_probs.shape[1]
    known = known_answers(expert_labels, num_classes).all(axis=1, keepdims=True)
    require_all(
        "expert_labels",
        expert_labels,
        lambda v: (v >= -1) & (v < num_classes),
        f"be classes in [0, {num_classes}), or -1 of who was not asked",
    )
    weights = jnp.asarray(decision.allocation)
    asked = jnp.where(answers >= 0, weights[:, :-1], 0.0)
    total = jnp.sum(asked, axis=1) + weights[:, -1]
    # One class at a time: [B, M, K] may be large.
    experts = jnp.stack(
        [
            jnp.sum(jnp.where(answers == label, asked, 0.0), axis=1)
            for label in range(num_classes)
        ],
        axis=1,
    )
    # No classifier, whose probabilities are NaN, has no part in the vote.
    votes = experts + jnp.where(weights[:, -1:] > 0, weights[:, -1:] * class_probs, 0.0)
    some = (total > 0)[:, None]
    votes = jnp.where(some, votes / jnp.where(some, total[:, None], 1.0), jnp.nan)
    return poison_unless(known, votes)


def answer(decision: Decision, expert_labels: Array) -> jax.Array:
    """The team's answer, int ``[B]``: the class of the greatest `vote`.

    A tie is the lowest label; shares of experts are added up in floating point, so
    votes that differ by no more than its rounding are a tie. -1 where nobody who was to
    answer was asked, or a traced answer of the row is none.

    Args:
      decision: over ``[B]`` and M experts.
      expert_labels: answers of the experts, int ``[B, M]``; -1 of who was not asked.
    """
    votes = vote(decision, expert_labels)
    # The classifier alone adds nothing up.
    by_experts = 1.0 - jnp.asarray(decision.allocation)[:, -1:]
    num_voters = jnp.shape(decision.allocation)[1]
    # Of two sums, one of which may be as far up as the other down.
    rounding = by_experts * 2 * of_sum(num_voters, votes.dtype)
    most = votes >= jnp.max(votes, axis=1, keepdims=True) - rounding
    # A comparison with NaN is False: nothing is the most where nobody answered.
    return jnp.where(most.any(axis=1), jnp.argmax(most, axis=1), -1)


def action(decision: Decision) -> jax.Array:
    """What is done where one answers, int ``[B]``: a class, or K and up for an expert.

    Actions are in the order of `l2d_jax.types.Dataset.costs`. Of several who share an
    answer it is the one with the greatest share.

    Args:
      decision: over ``[B]``, K classes and M experts.
    """
    allocation = jnp.asarray(decision.allocation)
    num_experts = allocation.shape[1] - 1
    who = jnp.argmax(allocation, axis=1)
    num_classes = jnp.shape(decision.class_probs)[1]
    return jnp.where(who < num_experts, num_classes + who, prediction(decision))
