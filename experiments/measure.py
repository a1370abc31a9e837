"""What a system achieves on examples: one function for every method and problem."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from l2d_jax import decisions, fairness, metrics
from l2d_jax.learners.batches import experts_correct, weighted_mean
from l2d_jax.types import Array, Batch, Decision

COVERAGES = np.linspace(0.0, 1.0, 21)
"""Coverages of the curves."""


def available(batch: Batch) -> jax.Array:
    """Who can be asked about each example, bool ``[B, M]``: who was."""
    if batch.expert_labels is not None:
        return jnp.asarray(batch.expert_labels) >= 0
    return experts_correct(batch, jnp.float32)[1]


def expected(decision: Decision, batch: Batch) -> dict[str, jax.Array]:
    """What is to be expected if imputed probabilities of being right are right.

    Args:
      decision: over ``[B]`` and M experts.
      batch: labels and imputed probabilities, perhaps weights.
    """
    labels = jnp.asarray(batch.labels)
    weights = jnp.ones(labels.shape) if batch.weights is None else batch.weights
    correct, _ = experts_correct(batch, jnp.float32)
    allocation = jnp.asarray(decision.allocation)
    right = decisions.prediction(decision) == labels
    team = jnp.sum(allocation[:, :-1] * correct, axis=1) + allocation[:, -1] * right
    return {
        "system_accuracy": weighted_mean(team, weights),
        "coverage": jnp.asarray(metrics.coverage(decision, weights)),
        "deferral_rate": jnp.asarray(metrics.deferral_rate(decision, weights)),
        "classifier_accuracy": weighted_mean(right.astype(jnp.float32), weights),
    }


def scalars(
    decision: Decision,
    batch: Batch,
    slices: Mapping[str, Array],
    subgroup: Array | None,
    num_subgroups: int,
) -> dict[str, jax.Array]:
    """Every measure that is one number, float ``[]``, by the names that tables carry.

    Where nobody has answered, those of `expected`.

    Beside those of `l2d_jax.metrics.team_metrics`: ``system_error``; the error rates of
    two groups and their disparity ``di``, of two classes; ``system_accuracy_NAME`` and
    ``deferral_rate_NAME`` of each slice; ``min_subgroup_accuracy``, and
    ``subgroup_gap`` to the greatest; of several experts ``top_share``, the greatest
    share of all answers that one has; and, where the experts' being right was imputed,
    how well: ``human_model_accuracy`` and ``human_model_nll``, in nats.

    Args:
      decision: over ``[B]`` and M experts.
      batch: labels and answers, perhaps groups, weights and imputed probabilities.
      slices: bool ``[B]``, by name.
      subgroup: int ``[B]``.
      num_subgroups: of these.
    """
    if batch.expert_labels is None:
        return expected(decision, batch)
    labels = jnp.asarray(batch.labels)
    weights = jnp.ones(labels.shape) if batch.weights is None else batch.weights
    found: dict[str, Array] = metrics.team_metrics(
        decision, labels, batch.expert_labels, weights
    )
    answers = decisions.answer(decision, batch.expert_labels)
    answered = jnp.where(answers >= 0, weights, 0.0)
    right = answers == labels
    found["system_error"] = 1.0 - found["system_accuracy"]
    if batch.groups is not None and decision.class_probs.shape[1] == 2:
        found |= fairness.group_rates(
            jnp.maximum(answers, 0), labels, batch.groups, answered
        )
    for name, members in slices.items():
        inside = jnp.where(members, answered, 0.0)
        found[f"system_accuracy_{name}"] = metrics.accuracy(answers, labels, inside)
        found[f"deferral_rate_{name}"] = metrics.deferral_rate(
            decision, jnp.where(members, weights, 0.0)
        )
    if subgroup is not None:
        accuracies = metrics.subgroup_accuracy(right, subgroup, num_subgroups, answered)
        found["min_subgroup_accuracy"] = jnp.nanmin(accuracies)
        # One subgroup alone has no gap to another.
        several = jnp.sum(~jnp.isnan(accuracies)) > 1
        gap = jnp.nanmax(accuracies) - jnp.nanmin(accuracies)
        found["subgroup_gap"] = jnp.where(several, gap, jnp.nan)
    if decision.defer_score.shape[1] > 1:
        shares = jnp.sum(decision.allocation[:, :-1] * weights[:, None], axis=0)
        found["top_share"] = jnp.max(shares) / jnp.sum(weights)
    if batch.expert_correct is not None:
        prob = jnp.asarray(batch.expert_correct).ravel()
        expert_right = (jnp.asarray(batch.expert_labels) == labels[:, None]).ravel()
        asked = jnp.asarray(batch.expert_labels) >= 0
        given = jnp.where(asked, weights[:, None], 0.0).ravel()
        likelihood = jnp.where(expert_right, prob, 1.0 - prob)
        # Kept from 0, so that one sure mistake in float32 is not the loss of everybody.
        nll = -jnp.log(jnp.maximum(likelihood, 1e-7))
        found["human_model_accuracy"] = metrics.accuracy(
            prob >= 0.5, expert_right, given
        )
        total = jnp.sum(given)
        found["human_model_nll"] = jnp.where(
            total > 0,
            jnp.sum(jnp.where(given > 0, given * nll, 0.0)) / jnp.maximum(total, 1e-9),
            jnp.nan,
        )
    return {name: jnp.asarray(value, jnp.float32) for name, value in found.items()}


def curves(decision: Decision, batch: Batch) -> dict[str, Array]:
    """The system's curve over `COVERAGES` and the best rejector's, and both areas.

    Nothing where nobody has answered.
    """
    if batch.expert_labels is None:
        return {}
    curve, best = metrics.deferral_curves(
        decision, batch.labels, batch.expert_labels, COVERAGES, batch.weights
    )
    return {
        "curve": curve,
        "best_curve": best,
        "coverage_accuracy_area": metrics.area_under_curve(COVERAGES, curve),
        "best_coverage_accuracy_area": metrics.area_under_curve(COVERAGES, best),
    }
