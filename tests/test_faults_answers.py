"""Answers and labels that are none, and scores that are no numbers, decide nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from l2d_jax import decisions, losses, metrics, models, optimizers
from l2d_jax.crowds import dawid_skene, one_coin
from l2d_jax.learners import (
    cost_sensitive,
    deferral,
    expert_model,
    joint,
    mixture,
    surrogates,
)
from l2d_jax.learners.batches import experts_correct
from l2d_jax.policies import thresholds
from l2d_jax.types import Dataset

pytestmark = pytest.mark.usefixtures("cheap_compiles")

WRONG = [2, 7, -2, -(2**31)]
KNOWN = r"be classes.*, or -1 of who was not asked, got {} in row 1"


def answers(wrong, asked=0):
    return np.array([[0, 1, 1], [asked, wrong, 0]])


@pytest.mark.parametrize("wrong", WRONG)
def test_a_vote_over_no_answers(wrong):
    decision = decisions.majority_decision(2, 2, 3)
    for function in (decisions.vote, decisions.answer):
        with pytest.raises(ValueError, match=KNOWN.format(wrong)):
            function(decision, answers(wrong))
    votes = jax.jit(decisions.vote)(decision, answers(wrong))
    np.testing.assert_allclose(votes[0], [1 / 3, 2 / 3], rtol=1e-6)
    assert np.isnan(votes[1]).all()
    chosen = jax.jit(decisions.answer)(decision, answers(wrong))
    np.testing.assert_array_equal(chosen, [1, -1])


def test_answers_are_integers():
    decision, missing = decisions.majority_decision(1, 2, 2), np.array([[np.nan, 1.0]])
    with pytest.raises(TypeError, match="expert_labels must be of an integer dtype"):
        decisions.vote(decision, missing)
    with pytest.raises(TypeError, match="expert_labels must be of an integer dtype"):
        experts_correct(Dataset(None, np.zeros(1, int), missing), jnp.float32)


@pytest.mark.parametrize("wrong", WRONG)
def test_measures_of_no_answers(wrong):
    decision, labels = decisions.majority_decision(2, 2, 3), np.array([1, 0])
    given = answers(wrong)
    with pytest.raises(ValueError, match=KNOWN.format(wrong)):
        metrics.team_metrics(decision, labels, given)
    found = jax.jit(metrics.team_metrics)(decision, labels, given)
    for name in ("system_accuracy", "expert_accuracy", "expert_accuracy_deferred"):
        assert np.isnan(found[name]), name
    assert found["coverage"] == 0.0
    curves = jax.jit(metrics.deferral_curves)(
        decisions.classifier_decision(np.eye(2), 3), labels, given, np.array([0.0, 1])
    )
    assert np.isnan(curves[0]).all() and np.isnan(curves[1]).all()
    # Of a row of weight 0 nothing is looked at.
    weights = np.array([1.0, 0.0])
    found = metrics.team_metrics(decision, labels, given, weights)
    sound = metrics.team_metrics(decision, labels, answers(1), weights)
    for name, value in found.items():
        np.testing.assert_array_equal(value, sound[name], err_msg=name)
    assert found["system_accuracy"] == 1.0


HPARAMS = {
    **dict.fromkeys(("alpha", "price", "smoothing", "learning_rate"), 0.1),
    **dict.fromkeys(("cost", "dropout", "cost_weight"), 0.0),
    **dict.fromkeys(("step_exponent", "mix", "q", "expert_weight"), 0.5),
}
ADAM = optimizers.make_adam()
LEARNERS = {
    "deferral": lambda: deferral.make_learner(models.linear(3), ADAM),
    **{
        name: lambda row=row: surrogates.make_learner(
            models.linear(3 + row.extra_outputs), ADAM, row
        )
        for name, row in surrogates.SURROGATES.items()
    },
    "cost_sensitive": lambda: cost_sensitive.make_learner(models.linear(3), ADAM),
    "expert_model": lambda: expert_model.make_learner(models.linear(1), ADAM),
    "mixture": lambda: mixture.make_learner(models.linear(3), ADAM),
    "mixture, one logit": lambda: mixture.make_learner(models.linear(2), ADAM),
    "joint": lambda: joint.make_learner(models.linear(2), models.linear(2), ADAM),
}


def update(name, batch):
    learner = LEARNERS[name]()
    hparams = {key: jnp.float32(value) for key, value in HPARAMS.items()}
    state = learner.init(jax.random.key(0), hparams, batch)
    return jax.jit(learner.update)(state, hparams, batch)


@pytest.mark.long
@pytest.mark.parametrize("wrong", [2, -2])
@pytest.mark.parametrize("name", LEARNERS)
def test_a_loss_of_no_answers_is_nan(name, wrong):
    if (name, wrong) == ("expert_model", 2):
        return  # How many classes there are is not its affair.
    batch = Dataset(np.ones((4, 2), np.float32), np.array([0, 1, 0, 1]))
    sound = batch._replace(expert_labels=np.array([[0], [1], [-1], [0]]))
    assert np.isfinite(update(name, sound)[1]["loss"])
    bad = batch._replace(expert_labels=np.array([[0], [1], [wrong], [0]]))
    assert np.isnan(update(name, bad)[1]["loss"])
    # In a row of weight 0 it is nothing.
    weights = np.array([1, 1, 0, 1], np.float32)
    found = update(name, bad._replace(weights=weights))[1]["loss"]
    assert found == update(name, sound._replace(weights=weights))[1]["loss"]


@pytest.mark.parametrize(
    "name", [name for name in LEARNERS if name not in ("expert_model")]
)
def test_labels_from_one_up_are_no_labels(name):
    batch = Dataset(np.ones((2, 2), np.float32), np.array([1, 2]), np.array([[1], [1]]))
    if name == "cost_sensitive":
        return  # Its costs are of actions; the door of a sweep knows the labels.
    assert np.isnan(update(name, batch)[1]["loss"])


@pytest.mark.long
@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint32, bool])
def test_answers_of_a_type_without_a_minus(dtype):
    """The padding of weight 0 holds -1, and 255 would be no answer."""
    weights = np.array([1, 1, 0, 1], np.float32)
    batch = Dataset(
        np.ones((4, 2), np.float32),
        np.array([0, 1, 0, 1]),
        np.array([[0], [1], [1], [0]]),
        weights=weights,
    )
    small = batch._replace(expert_labels=batch.expert_labels.astype(dtype))
    (ours, found), (theirs, expected) = (
        update("deferral", given) for given in (small, batch)
    )
    assert np.isfinite(found["loss"]) and found["loss"] == expected["loss"]
    jax.tree.map(np.testing.assert_array_equal, ours.variables, theirs.variables)
    decision = decisions.expert_decision(4, 2)
    measured = metrics.team_metrics(
        decision, batch.labels, small.expert_labels, weights
    )
    assert measured["system_accuracy"] == pytest.approx(2 / 3)


def test_known_answers_pass_unchanged():
    batch = Dataset(None, np.array([0, 1]), np.array([[0, -1], [0, 1]]))
    correct, known = experts_correct(batch, jnp.float32, 2)
    np.testing.assert_array_equal(correct, [[1, 0], [0, 1]])
    np.testing.assert_array_equal(known, [[True, False], [True, True]])
    with pytest.raises(ValueError, match="expert_labels must be classes"):
        experts_correct(batch._replace(expert_labels=np.array([[0], [2]])), float, 2)


def test_an_agreement_of_no_answers():
    logits, asked = np.zeros(2), np.array([1.0, 0.0])
    assert losses.agreement_nll(logits, np.array([1, 7]), 1, asked) == np.float32(
        np.log(2)
    )
    with pytest.raises(ValueError, match="expert_labels must be 0 or 1 where consul"):
        losses.agreement_nll(logits, np.array([2, 0]), 1, asked)
    assert np.isnan(jax.jit(losses.agreement_nll)(logits, np.array([2, 0]), 1, asked))


# Thresholds.


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_no_threshold_follows_from_what_is_no_score(bad):
    scores = np.array([0.1, bad, 0.3])
    with pytest.raises(ValueError, match="defer_score must be finite, or -inf, got"):
        decisions.threshold_for_coverage(scores, 0.5)
    for coverage in (0.0, 0.5, 1.0):
        assert np.isnan(jax.jit(decisions.threshold_for_coverage)(scores, coverage))


def test_who_cannot_be_asked_is_kept():
    """Their score is -inf; with a coverage of 0 all others are deferred."""
    scores = np.array([-np.inf, 0.1, 0.3], np.float32)
    threshold = decisions.threshold_for_coverage(scores, 0.0)
    kept = decisions.allocate(scores[:, None], threshold)[:, -1]
    np.testing.assert_array_equal(kept, [1, 0, 0])


def test_a_threshold_of_nan_decides_nothing():
    decision = decisions.classifier_decision(np.full((2, 2), 0.5))
    with pytest.raises(ValueError, match="threshold must not be NaN"):
        decisions.apply_threshold(decision, np.nan)
    found = jax.jit(decisions.apply_threshold)(decision, jnp.nan)
    assert np.isnan(found.allocation).all() and np.isnan(metrics.coverage(found))


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e7, 1e30])
@pytest.mark.parametrize("chosen", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("applied", [np.float16, np.float32, np.float64])
def test_coverage_is_kept_in_any_precision(chosen, applied, scale):
    """Also by hand, in NumPy's own precision, where nothing was rounded but that."""
    if np.float16 in (chosen, applied) and scale != 1.0:
        return
    exact = scale * (0.5 + np.random.default_rng(0).random(2000))
    exact[::7] = exact[0] * (1 + 1e-9 * np.arange(len(exact[::7])))
    scores, again = exact.astype(chosen), exact.astype(applied)
    for coverage in (0.0, 0.1, 0.5, 0.7, 0.9, 1.0):
        threshold = decisions.threshold_for_coverage(scores, coverage)
        kept = np.asarray(decisions.allocate(again[:, None], threshold))[:, -1]
        assert kept.mean() >= coverage - 1e-9
        assert (scores <= np.asarray(threshold, np.float64)).mean() >= coverage - 1e-9
        if coverage == 0.0:
            assert kept.mean() == 0.0
        if chosen == applied == np.float32:
            count = int(np.ceil(coverage * 2000 - 1e-6))
            least = np.sort(scores)[count - 1] if count else -np.inf
            np.testing.assert_array_equal(kept == 1, scores <= least)


@pytest.mark.long
def test_thresholds_of_nan_scores():
    key, groups = jax.random.key(0), np.array([0, 1, 0, 1])
    scores, labels = np.array([0.2, 0.4, 0.6, 0.9], np.float32), np.array([0, 0, 1, 1])

    def search(scores):
        return thresholds.search(
            key, scores, groups, scores, labels, groups, None, 0.1, 0.0, 10
        )

    def apply(found, scores):
        return thresholds.apply_thresholds(found, scores, groups)

    sound = search(scores)
    assert np.isfinite(sound.t0).all() and np.isfinite(sound.t1).all()
    bad = scores.copy()
    bad[1] = np.nan
    found = jax.jit(search)(bad)
    assert np.isnan(found.t0).all() and np.isnan(found.t1).all()
    assert jax.jit(apply)(found, scores).all()
    passed = jax.jit(apply)(sound, bad)
    expected = np.asarray(apply(sound, scores)).copy()
    expected[1] = True
    np.testing.assert_array_equal(passed, expected)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint32, np.int8, bool])
def test_a_type_without_a_minus_holds_answers(dtype):
    labels, answers = np.array([0, 1, 1]), np.array([[0, 1], [1, 1], [0, 1]])
    small = answers.astype(dtype)
    decision = decisions.majority_decision(3, 2, 2)
    np.testing.assert_array_equal(decisions.answer(decision, small), [0, 1, 0])
    assert metrics.system_accuracy(decision, labels, small) == pytest.approx(2 / 3)
    for fit in (
        lambda given: one_coin.fit(given, 2),
        lambda given: dawid_skene.fit(given, np.ones_like(answers), 5),
        lambda given: joint.drop_experts(jax.random.key(0), given, 0.5),
    ):
        jax.tree.map(np.testing.assert_array_equal, fit(small), fit(answers))
