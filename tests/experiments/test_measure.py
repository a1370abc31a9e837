"""What a system achieves, on a few examples by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import measure
from l2d_jax import decisions, ratios
from l2d_jax.data.tabular import with_decisions
from l2d_jax.types import Dataset


def measured(prediction, defer, batch, unreliable):
    """Measures of a table of people, as `experiments.decision_makers` slices them."""
    decision = decisions.decide(
        np.eye(2, dtype=np.float32)[prediction],
        np.where(defer, 1.0, -1.0).astype(np.float32)[:, None],
    )
    groups = batch.groups
    slices = {"group_0": groups == 0, "group_1": groups == 1}
    slices |= {"reliable": ~unreliable, "unreliable": unreliable}
    return jax.jit(measure.scalars, static_argnums=4)(
        decision, batch, slices, 2 * groups + unreliable, 4
    )


def test_measure_system_by_hand():
    # Four people of group 0, four of group 1; the last two of each are label 1.
    labels = np.array([0, 0, 1, 1, 0, 0, 1, 1])
    groups = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    prediction = np.array([0, 1, 1, 1, 0, 0, 0, 1])
    expert = np.array([0, 0, 0, 1, 1, 1, 1, 1])
    unreliable = np.array([0, 1, 0, 1, 0, 1, 0, 1], bool)
    probs = np.stack([1 - expert, expert], axis=1)[:, None].astype(np.float32)
    defer = np.zeros(8, bool)
    defer[[1, 6]] = True
    dataset = Dataset(np.zeros((8, 1)), labels, groups=groups)
    found = [
        measured(prediction, defer, with_decisions(dataset, of_expert), unreliable)
        for of_expert in (probs, probs[:, :, ::-1])  # And the opposite.
    ]
    expected = {
        "system_accuracy": (1.0, 0.75),
        "system_error": (0.0, 0.25),
        "di": (0.0, 0.5),
        "fpr": (0.0, 0.25),
        "fpr_0": (0.0, 0.5),
        "fpr_1": (0.0, 0.0),
        "fnr_1": (0.0, 0.5),
        "min_subgroup_accuracy": (1.0, 0.5),
        "deferral_rate": (0.25, 0.25),
        "deferral_rate_group_0": (0.25, 0.25),
        "deferral_rate_reliable": (0.25, 0.25),
        "deferral_rate_unreliable": (0.25, 0.25),
        "classifier_accuracy": (0.75, 0.75),
        "classifier_accuracy_kept": (1.0, 1.0),
        "expert_accuracy": (0.625, 0.375),
        "expert_accuracy_deferred": (1.0, 0.0),
    }
    for name, values in expected.items():
        for row, value in zip(found, values, strict=True):
            np.testing.assert_allclose(row[name], value, atol=1e-6, rtol=0), name


def test_a_group_or_a_label_that_never_occurs_is_nan_and_no_crash():
    labels, probs = np.zeros(3, int), np.full((3, 1, 2), 0.5, np.float32)
    dataset = Dataset(np.zeros((3, 1)), labels, groups=np.ones(3, int))
    nowhere = np.zeros(3, bool)
    found = measured(labels, nowhere, with_decisions(dataset, probs), nowhere)
    for name in ("di", "fpr_0", "fnr", "fnr_1", "deferral_rate_group_0"):
        assert np.isnan(found[name]), name
    assert found["min_subgroup_accuracy"] == 1.0
    assert np.isnan(found["deferral_rate_unreliable"])


# Two experts, of whom the second was not asked about the last two of four examples.
LABELS = np.array([0, 1, 1, 0], np.int32)
ANSWERS = np.array([[0, 1], [0, 1], [1, -1], [1, -1]], np.int32)
DECISION = decisions.decide(
    np.eye(2, dtype=np.float32)[[0, 0, 1, 1]],
    np.array([[-1.0, -2.0], [-1.0, 2.0], [1.0, -1.0], [-1.0, -1.0]], np.float32),
    np.full((4, 2), 0.75, np.float32),
)


def test_who_was_not_asked_is_in_no_measure():
    """Whatever is said of them, and even where a rule would have asked them."""
    batch = Dataset(np.zeros((4, 1)), LABELS, ANSWERS)
    found = measure.scalars(DECISION, batch, {}, None, 0)
    # Kept right; deferred to the second, right; to the first, right; kept wrong.
    assert found["system_accuracy"] == 0.75 and found["system_error"] == 0.25
    assert found["coverage"] == 0.5 and found["deferral_rate"] == 0.5
    assert found["expert_accuracy_deferred"] == 1.0
    # Right in 3 of the 6 answers that there are, and foreseen with .75.
    assert found["expert_accuracy"] == pytest.approx(3 / 6)
    assert found["expert_calibration_error"] == pytest.approx(0.25)
    assert found["top_share"] == 0.25
    asked = jnp.asarray(ANSWERS) >= 0
    np.testing.assert_array_equal(measure.available(batch), asked)


def test_a_weight_of_0_counts_for_nothing():
    batch = Dataset(np.zeros((4, 1)), LABELS, ANSWERS)
    weighted = batch._replace(weights=np.array([1.0, 1.0, 1.0, 0.0]))
    found = measure.scalars(DECISION, weighted, {"odd": LABELS == 1}, None, 0)
    assert found["system_accuracy"] == 1.0
    assert found["coverage"] == pytest.approx(1 / 3)
    assert found["deferral_rate_odd"] == 1.0


def test_curves_run_from_expert_to_classifier():
    batch = Dataset(np.zeros((4, 1)), LABELS, ANSWERS[:, :1])
    decision = decisions.decide(DECISION.class_probs, DECISION.defer_score[:, :1])
    found = measure.curves(decision, batch)
    assert len(found["curve"]) == len(measure.COVERAGES)
    assert found["curve"][0] == 0.5 and found["curve"][-1] == 0.5
    # The best keeps the first and passes the third; the second and last stay wrong.
    assert np.max(found["best_curve"]) == 0.5
    assert np.all(found["best_curve"] >= found["curve"] - 1e-6)
    for name in ("curve", "best_curve"):
        area = {"curve": "", "best_curve": "best_"}[name] + "coverage_accuracy_area"
        expected = np.trapezoid(np.asarray(found[name]), measure.COVERAGES)
        assert found[area] == pytest.approx(expected, abs=1e-6)
    assert measure.curves(decision, batch._replace(expert_labels=None)) == {}


def test_what_is_to_be_expected_of_imputed_answers():
    imputed = np.array([[0.5], [0.9], [0.2], [np.nan]], np.float32)
    batch = Dataset(
        np.zeros((4, 1)),
        LABELS,
        expert_correct=imputed,
        weights=np.array([1.0, 1.0, 1.0, 0.0]),
    )
    probs = np.eye(2, dtype=np.float32)[[0, 0, 0, 1]]
    score = np.array([[-1.0], [1.0], [-1.0], [-1.0]], np.float32)
    found = measure.scalars(decisions.decide(probs, score), batch, {}, None, 0)
    # Right, 0.9 of an answer, wrong; the last is no example.
    assert found["system_accuracy"] == pytest.approx(1.9 / 3)
    assert found["coverage"] == pytest.approx(2 / 3)


def test_how_well_a_model_of_the_person_foresees_them():
    batch = Dataset(
        np.zeros((4, 1)),
        LABELS,
        np.array([[0], [0], [1], [-1]], np.int32),
        expert_correct=np.array([[0.9], [0.9], [0.4], [0.9]], np.float32),
        weights=np.array([1.0, 1.0, 1.0, 0.0]),
    )
    decision = decisions.decide(DECISION.class_probs, DECISION.defer_score[:, :1])
    found = measure.scalars(decision, batch, {}, None, 0)
    # Right, wrong and right: foreseen, not foreseen and not foreseen.
    assert found["human_model_accuracy"] == pytest.approx(1 / 3)
    nll = -(np.log(0.9) + np.log(0.1) + np.log(0.4)) / 3
    assert found["human_model_nll"] == pytest.approx(nll, abs=1e-5)


def test_a_resample_is_measured_as_if_its_cases_were_there_so_often():
    batch = Dataset(
        np.zeros((4, 1)),
        LABELS,
        ANSWERS,
        groups=np.array([0, 1, 0, 1]),
        expert_correct=np.array([[0.9, 0.2], [0.6, 0.7], [0.5, 0.4], [0.1, 0.3]]),
        weights=np.array([1.0, 1.0, 0.5, 1.0]),
    )
    given = {"odd": LABELS == 1}, np.array([0, 1, 1, 2]), 3
    made = measure.make_ratios(DECISION, batch, *given)
    counts = np.array([[1, 1, 1, 1], [2, 0, 1, 1], [0, 0, 4, 0]])
    found = measure.of_ratios(ratios.resample(made, batch.weights, counts))
    for number, count in enumerate(counts):
        weighted = batch._replace(weights=batch.weights * count)
        alone = measure.scalars(DECISION, weighted, *given)
        assert alone.keys() == found.keys()
        for name, value in alone.items():
            np.testing.assert_allclose(found[name][number], value, rtol=1e-5)
