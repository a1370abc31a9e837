"""Decisions are no probabilities, NaN is no score, and infinity is no logit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from l2d_jax import decisions, losses, metrics
from l2d_jax.learners import joint

BAD = [np.inf, -np.inf, np.nan]


def test_accuracy_is_of_classes():
    labels = np.array([0, 1])
    with pytest.raises(TypeError, match="predictions must be of an integer dtype"):
        metrics.accuracy(np.array([0.1, 0.9]), labels)
    with pytest.raises(TypeError, match="labels must be of an integer dtype"):
        metrics.accuracy(labels, np.array([0.1, 0.9]))
    with pytest.raises(
        ValueError, match="predictions must fit 32 bits, got 4294967296"
    ):
        metrics.accuracy(np.array([2**32, 0]), np.zeros(2, int))
    assert metrics.accuracy(np.array([False, True]), labels) == 1.0


def test_subgroups_and_shares_have_their_range():
    groups = np.array([0, 1])
    with pytest.raises(
        ValueError, match=r"correct must be in \[0, 1\].*, got 7 in row"
    ):
        metrics.subgroup_accuracy(np.array([1, 7]), groups, 2)
    with pytest.raises(TypeError, match="subgroup must be of an integer dtype"):
        metrics.subgroup_accuracy(np.ones(2), np.array([0.2, 0.9]), 2)
    found = metrics.subgroup_accuracy(np.array([1, 7]), groups, 2, np.array([1.0, 0]))
    np.testing.assert_array_equal(found, [1.0, np.nan])


def test_calibration_is_of_probabilities():
    with pytest.raises(TypeError, match="probs must be of a floating dtype"):
        metrics.calibration_error(np.array([0, 1]), np.array([0, 1]))
    with pytest.raises(ValueError, match=r"outcomes must be in \[0, 1\]"):
        metrics.calibration_error(np.array([0.1, 0.9]), np.array([2, 1]))


def test_roc_auc_of_nan_is_nan():
    scores, labels = np.array([0.1, np.nan, 0.7]), np.array([0, 1, 1])
    assert np.isnan(metrics.roc_auc(scores, labels))
    assert metrics.roc_auc(scores, labels, np.array([1.0, 0.0, 1.0])) == 1.0
    with pytest.raises(ValueError, match="labels must be 0 or 1, got 2 in row 1"):
        metrics.roc_auc(np.array([0.1, 0.2]), np.array([0, 2]))
    with pytest.raises(TypeError, match="labels must be of an integer dtype"):
        metrics.roc_auc(np.array([0.1, 0.2]), np.array([0.2, 0.9]))
    found = jax.jit(metrics.roc_auc)(np.array([0.1, 0.2, 0.3]), np.array([0, 1, 2]))
    assert np.isnan(found)


def test_a_curve_over_a_nan_score_is_nan():
    score, right = np.array([0.1, np.nan, 0.7]), np.array([1.0, 1.0, 0.0])
    points = np.array([0.0, 0.5, 1.0])
    found = metrics.coverage_accuracy_curve(score, right, 1 - right, points)
    assert np.isnan(found).all()
    weights = np.array([1.0, 0.0, 1.0])
    found = metrics.coverage_accuracy_curve(score, right, 1 - right, points, weights)
    np.testing.assert_allclose(found, [0.5, 1.0, 0.5])
    with pytest.raises(ValueError, match=r"expert_correct must be in \[0, 1\]"):
        metrics.coverage_accuracy_curve(right, right, right + 1, points)


def test_weights_that_are_nan_decide_nothing():
    decision = joint.decide(jnp.full((2, 2), jnp.nan), jnp.full((2, 2), 0.5))
    assert np.isnan(decision.allocation).all()
    assert np.isnan(metrics.coverage(decision))
    labels = np.array([0, 1])
    assert np.isnan(metrics.system_accuracy(decision, labels, labels[:, None]))
    sound = decisions.majority_decision(2, 2, 1)
    assert metrics.system_accuracy(sound, labels, labels[:, None]) == 1.0


@pytest.mark.parametrize("bad", BAD)
def test_losses_are_of_finite_numbers(bad):
    logits = jnp.array([bad, 0.0, 0.0])
    for name, call in {
        "logits": lambda: losses.deferral_cross_entropy(logits, 0, 1.0),
        "logits ": lambda: losses.one_vs_all_loss(logits, 0, jnp.ones(1)),
        "logits  ": lambda: losses.cost_sensitive_cross_entropy(logits, jnp.ones(3)),
        "costs": lambda: losses.cost_sensitive_cross_entropy(jnp.ones(3), logits),
        "logits   ": lambda: losses.classification_cross_entropy(logits, 0),
        "logit": lambda: losses.expert_correctness_nll(bad, 1.0),
        "expert_nll": lambda: losses.mixture_nll(1.0, bad, 0.5),
        "classifier_nll": lambda: losses.rejection_nll(bad, 0.5, 1.0),
        "cost": lambda: losses.rejection_nll(1.0, 0.5, bad),
        "weights": lambda: losses.allocation_log_loss(logits, jnp.ones(3), 1),
        "logits    ": lambda: losses.agreement_nll(logits, jnp.ones(3), 1, jnp.ones(3)),
    }.items():
        with pytest.raises(ValueError, match=f"{name.strip()} must be finite, got"):
            call()


@pytest.mark.parametrize(
    "measure",
    [
        lambda wrong: metrics.coverage(wrong),
        lambda wrong: metrics.deferral_rate(wrong),
        lambda wrong: metrics.system_accuracy(
            wrong, np.zeros(2, int), np.zeros((2, 1))
        ),
    ],
)
def test_probabilities_are_no_decision(measure):
    with pytest.raises(TypeError, match=r"decision must be a .*Decision, got ndarray"):
        measure(np.full((2, 2), 0.5))
