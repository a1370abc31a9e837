"""Decisions are no probabilities, NaN is no score, and infinity is no logit."""

import inspect
import types

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


SHARES = np.linspace(0.0, 1.0, 5)
WEIGHTED = {
    "accuracy": lambda b, w: metrics.accuracy(b.answers[:, 0], b.labels, w),
    "coverage": lambda b, w: metrics.coverage(b.decision, w),
    "deferral_rate": lambda b, w: metrics.deferral_rate(b.decision, w),
    "system_accuracy": lambda b, w: metrics.system_accuracy(
        b.decision, b.labels, b.answers, w
    ),
    "subgroup_accuracy": lambda b, w: metrics.subgroup_accuracy(
        b.correct, b.groups, 2, w
    ),
    "min_subgroup_accuracy": lambda b, w: metrics.min_subgroup_accuracy(
        b.correct, b.groups, 2, w
    ),
    "calibration_error": lambda b, w: metrics.calibration_error(
        b.probs, b.correct, 5, w
    ),
    "roc_auc": lambda b, w: metrics.roc_auc(b.score, b.binary, w),
    "team_metrics": lambda b, w: metrics.team_metrics(
        b.decision, b.labels, b.answers, w
    ),
    "deferral_curves": lambda b, w: metrics.deferral_curves(
        b.decision, b.labels, b.answers, SHARES, w
    ),
    "coverage_accuracy_curve": lambda b, w: metrics.coverage_accuracy_curve(
        b.score, b.correct, b.expert_correct, SHARES, w
    ),
    "best_coverage_accuracy_curve": lambda b, w: metrics.best_coverage_accuracy_curve(
        b.correct, b.expert_correct, SHARES, w
    ),
}


def rows_that_count(counts, garbage):
    """Columns of a batch, with garbage where a row does not count."""
    generator = np.random.default_rng(0)
    size = len(counts)
    columns = {
        "labels": generator.integers(0, 3, size),
        "answers": generator.integers(-1, 3, (size, 2)),
        "groups": generator.integers(0, 2, size),
        "binary": generator.integers(0, 2, size),
        "correct": generator.integers(0, 2, size).astype(float),
        "expert_correct": generator.integers(0, 2, size).astype(float),
        "probs": generator.random(size),
        "score": generator.normal(size=size),
        "class_probs": generator.dirichlet(np.ones(3), size),
        "scores": generator.normal(size=(size, 2)),
    }
    # Somebody is asked about each, so that every measure has a value.
    columns["answers"][:, 0] = generator.integers(0, 3, size)
    for column in columns.values():
        whole = np.issubdtype(column.dtype, np.integer)
        column[~counts] = -7 if whole else garbage
    return columns


def as_batch(columns):
    batch = types.SimpleNamespace(**columns)
    # No rule makes a decision of probabilities that are none.
    decision = decisions.decide(jnp.full((len(batch.scores), 3), jnp.nan), batch.scores)
    batch.decision = decision._replace(class_probs=batch.class_probs)
    return batch


@pytest.mark.parametrize(
    ("traced", "garbage"),
    [(False, np.nan), (False, np.inf), (False, -5.0), (True, np.nan)],
)
@pytest.mark.parametrize("name", WEIGHTED)
def test_a_row_of_weight_0_counts_for_nothing_whatever_it_holds(name, traced, garbage):
    counts = np.arange(40) % 4 > 0
    columns = rows_that_count(counts, garbage)
    kept = {key: column[counts] for key, column in columns.items()}
    expected = WEIGHTED[name](as_batch(kept), np.ones(counts.sum()))

    def measure(columns, weights):
        return WEIGHTED[name](as_batch(columns), weights)

    found = (jax.jit(measure) if traced else measure)(columns, counts.astype(float))
    for ours, theirs in zip(
        jax.tree.leaves(found), jax.tree.leaves(expected), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_every_measure_with_weights_is_tried():
    weighted = {
        name
        for name, function in vars(metrics).items()
        if inspect.isfunction(function)
        and function.__module__ == metrics.__name__
        and not name.startswith("_")
        and "weights" in inspect.signature(function).parameters
    }
    assert weighted - {*WEIGHTED} <= {"team_ratios"}
