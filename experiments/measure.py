"""What a system achieves on examples: one function for every method and problem."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from l2d_jax import decisions, fairness, metrics, ratios
from l2d_jax.learners.batches import experts_correct
from l2d_jax.ratios import Ratio
from l2d_jax.types import Array, Batch, Decision, PyTree

COVERAGES = np.linspace(0.0, 1.0, 21)
"""Coverages of the curves."""


def available(batch: Batch) -> jax.Array:
    """Who can be asked about each example, bool ``[B, M]``: who was."""
    if batch.expert_labels is not None:
        return jnp.asarray(batch.expert_labels) >= 0
    return experts_correct(batch, jnp.float32)[1]


def expected_right(decision: Decision, batch: Batch) -> jax.Array:
    """How likely the team is right if imputed probabilities are right, float ``[B]``.

    Args:
      decision: over ``[B]`` and M experts.
      batch: labels and imputed probabilities.
    """
    correct, _ = experts_correct(batch, jnp.float32)
    allocation = jnp.asarray(decision.allocation)
    right = decisions.prediction(decision) == jnp.asarray(batch.labels)
    return jnp.sum(allocation[:, :-1] * correct, axis=1) + allocation[:, -1] * right


def make_ratios(
    decision: Decision,
    batch: Batch,
    slices: Mapping[str, Array],
    subgroup: Array | None,
    num_subgroups: int,
) -> dict[str, PyTree]:
    """What `scalars` are ratios of, for any weighting of the cases.

    Args:
      decision: over ``[B]`` and M experts.
      batch: labels and answers, perhaps groups and imputed probabilities.
      slices: bool ``[B]``, by name.
      subgroup: int ``[B]``.
      num_subgroups: of these.

    Returns:
      `l2d_jax.ratios.Ratio` of B cases, by what they are of, or by name within it.
    """
    labels = jnp.asarray(batch.labels)
    everyone = jnp.ones(labels.shape)
    allocation = jnp.asarray(decision.allocation)
    deferred = jnp.sum(allocation[:, :-1], axis=1)
    if batch.expert_labels is None:
        right = decisions.prediction(decision) == labels
        expected = {
            "system_accuracy": Ratio(expected_right(decision, batch), everyone),
            "coverage": Ratio(allocation[:, -1], everyone),
            "deferral_rate": Ratio(deferred, everyone),
            "classifier_accuracy": Ratio(right, everyone),
        }
        return {"expected": expected}
    found: dict[str, PyTree] = {
        "team": metrics.team_ratios(decision, labels, batch.expert_labels)
    }
    answers = decisions.answer(decision, batch.expert_labels)
    answered, right = answers >= 0, answers == labels
    if batch.groups is not None and decision.class_probs.shape[1] == 2:
        rates = fairness.group_ratios(jnp.maximum(answers, 0), labels, batch.groups)
        found["groups"] = jax.tree.map(lambda part: jnp.where(answered, part, 0), rates)
    found["slices"] = {}
    for name, members in slices.items():
        found["slices"] |= {
            f"system_accuracy_{name}": ratios.mean(right, members & answered),
            f"deferral_rate_{name}": ratios.mean(deferred, members),
        }
    if subgroup is not None:
        members = subgroup[:, None] == jnp.arange(num_subgroups)
        found["subgroups"] = ratios.mean(right[:, None], members & answered[:, None])
    if decision.defer_score.shape[1] > 1:
        found["shares"] = Ratio(allocation[:, :-1], everyone[:, None])
    if batch.expert_correct is not None:
        prob = jnp.asarray(batch.expert_correct)
        expert_right = jnp.asarray(batch.expert_labels) == labels[:, None]
        asked = jnp.asarray(batch.expert_labels) >= 0
        likelihood = jnp.where(expert_right, prob, 1.0 - prob)
        # Kept from 0, so that one sure mistake in float32 is not the loss of everybody.
        nll = -jnp.log(jnp.maximum(likelihood, 1e-7))
        found["human_model"] = {
            f"human_model_{name}": ratios.over_experts(ratios.mean(values, asked))
            for name, values in (
                ("accuracy", (prob >= 0.5) == expert_right),
                ("nll", nll),
            )
        }
    return found


def of_ratios(found: dict[str, PyTree]) -> dict[str, jax.Array]:
    """`scalars` of what `make_ratios` came to, float ``[...]`` each."""
    if "expected" in found:
        return found["expected"]
    made = metrics.of_team(found["team"])
    made["system_error"] = 1.0 - made["system_accuracy"]
    if "groups" in found:
        made |= fairness.of_groups(found["groups"])
    made |= found["slices"]
    if "subgroups" in found:
        accuracies = found["subgroups"]
        made["min_subgroup_accuracy"] = jnp.nanmin(accuracies, axis=-1)
        # One subgroup alone has no gap to another.
        several = jnp.sum(~jnp.isnan(accuracies), axis=-1) > 1
        gap = jnp.nanmax(accuracies, axis=-1) - jnp.nanmin(accuracies, axis=-1)
        made["subgroup_gap"] = jnp.where(several, gap, jnp.nan)
    if "shares" in found:
        made["top_share"] = jnp.max(found["shares"], axis=-1)
    made |= found.get("human_model", {})
    return {name: jnp.asarray(value, jnp.float32) for name, value in made.items()}


def scalars(
    decision: Decision,
    batch: Batch,
    slices: Mapping[str, Array],
    subgroup: Array | None,
    num_subgroups: int,
) -> dict[str, jax.Array]:
    """Every measure that is one number, float ``[]``, by the names that tables carry.

    Where nobody has answered, accuracies, coverage and deferral rate to be expected if
    imputed probabilities of being right are right.

    Beside those of `l2d_jax.metrics.team_metrics`: ``system_error``; the error rates of
    two groups and their disparity ``di``, of two classes; ``system_accuracy_NAME`` and
    ``deferral_rate_NAME`` of each slice; ``min_subgroup_accuracy``, and
    ``subgroup_gap`` to the greatest; of several experts ``top_share``, the greatest
    share of all answers that one has; and, where the experts' being right was imputed,
    how well: ``human_model_accuracy`` and ``human_model_nll``, in nats.

    Args:
      decision: as for `make_ratios`, and so are the others.
      batch: perhaps weighted.
      slices: bool ``[B]``, by name.
      subgroup: int ``[B]``.
      num_subgroups: of these.
    """
    made = make_ratios(decision, batch, slices, subgroup, num_subgroups)
    weights = batch.weights
    if weights is None:
        weights = jnp.ones(jnp.shape(batch.labels))
    return of_ratios(ratios.weigh(made, weights))


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
