"""The error among kept cases is as small as was certified."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from l2d_jax import decisions
from l2d_jax.policies import guarantees


@pytest.mark.parametrize("size", [500, 5000])
def test_the_guarantee_holds_and_is_not_vacuous(size):
    # P(wrong | score) = score / 2: the error of keeping up to t is t / 4.
    rng = np.random.default_rng(0)
    failures, coverage = 0, []
    for _ in range(200):
        scores = rng.random(size)
        wrong = rng.random(size) < scores / 2
        found = guarantees.certify(scores, wrong, 0.15)
        if found is None:
            continue
        coverage.append(min(found.threshold, 1.0))
        failures += coverage[-1] / 4 > 0.15
    assert failures <= 10
    if size == 5000:
        assert np.mean(coverage) > 0.8 * 0.6


def test_too_few_cases_are_refused():
    # log(0.05) / log(0.9) = 28.4: one threshold needs 29 cases without an error.
    for size, known in ((28, False), (29, True)):
        found = guarantees.certify(
            np.arange(size), np.zeros(size), 0.1, num_thresholds=1
        )
        assert (found is not None) == known


def test_a_score_of_nan_is_deferred():
    scores = np.append(np.arange(100.0), [np.nan] * 100)
    found = guarantees.certify(scores, np.isnan(scores), 0.1)
    assert found.num_kept == 100 and found.coverage == 0.5


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_is_kept_by_the_rule_is_what_was_certified(dtype):
    # Many ties: no threshold may fall within one.
    rng = np.random.default_rng(0)
    scores = (rng.integers(0, 30, 2000) / 7).astype(dtype)
    wrong = rng.random(2000) < scores / 10
    found = guarantees.certify(scores, wrong, 0.15)
    by_rule = decisions.apply_threshold(
        decisions.decide(np.full((2000, 2), 0.5), scores[:, None]), found.threshold
    )
    kept = np.asarray(by_rule.allocation)[:, -1] == 1
    assert kept.sum() == found.num_kept == 2000 * found.coverage
    assert wrong[kept].mean() == pytest.approx(found.error)
    assert not np.isin(scores[kept], scores[~kept]).any()


def test_the_bound_is_that_of_clopper_and_pearson():
    scores, wrong = np.arange(200.0), np.arange(200) % 20 == 0
    found = guarantees.certify(scores, wrong, 0.2, num_thresholds=1)
    exact = stats.binomtest(10, 200).proportion_ci(0.9, "exact").high
    assert (found.num_kept, found.error) == (200, 0.05)
    assert found.bound == pytest.approx(exact)


def test_half_the_data_sets_of_500_get_their_guarantee():
    rng = np.random.default_rng(1)
    found = []
    for _ in range(100):
        scores = rng.random(500)
        found.append(guarantees.certify(scores, rng.random(500) < scores / 2, 0.15))
    assert sum(each is not None for each in found) >= 50


def test_nobody_to_ask_says_nothing_of_a_threshold():
    scores = np.append(np.full(100, -np.inf), np.arange(5.0))
    wrong = np.append(np.zeros(100), np.ones(5))
    assert guarantees.certify(scores, wrong, 0.04) is None
    assert guarantees.certify(scores, wrong, 0.2).threshold == np.inf


@pytest.mark.parametrize("scores", [[], [np.nan, np.nan]])
def test_no_case_that_could_be_kept(scores):
    assert guarantees.certify(np.array(scores), np.zeros(len(scores)), 0.5) is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"wrong": np.zeros(3)}, "wrong must have shape"),
        ({"wrong": np.array([0, 1, 2, 0])}, "wrong must be 0 or 1, got 2 in row 2"),
        ({"wrong": np.array([0, np.nan, 1, 0])}, "wrong must be 0 or 1, got nan"),
        ({"max_error": 0.0}, "max_error must be in"),
        ({"max_error": np.nan}, "max_error must be in"),
        ({"confidence": 1.0}, "confidence must be in"),
        ({"num_thresholds": 0}, "num_thresholds must be >= 1"),
    ],
)
def test_what_cannot_be_used_is_named(changes, message):
    given = {"scores": np.arange(4.0), "wrong": np.zeros(4), "max_error": 0.1}
    with pytest.raises(ValueError, match=message):
        guarantees.certify(**given | changes)


def team(rng, size, expert_error=0.1):
    """Cases of a classifier that is wrong with probability score / 2.

    Deferring above t, the team errs with t ** 2 / 4 + expert_error (1 - t).
    """
    scores = rng.random(size).astype(np.float32)
    labels = rng.integers(0, 2, size)
    wrong = rng.random(size) < scores / 2
    probs = np.eye(2)[np.where(wrong, 1 - labels, labels)]
    answers = np.where(rng.random(size) < expert_error, 1 - labels, labels)
    return decisions.decide(probs, scores[:, None]), labels, answers[:, None]


def team_error(threshold, expert_error=0.1):
    kept = min(max(threshold, 0.0), 1.0)
    return kept**2 / 4 + expert_error * (1 - kept)


GRID = np.linspace(0, 1, 21)


@pytest.mark.parametrize("size", [500, 5000])
@pytest.mark.parametrize("in_sequence", [False, True])
def test_the_guarantee_for_the_team_holds_and_is_not_vacuous(size, in_sequence):
    rng = np.random.default_rng(0)
    failures, found = 0, []
    grid = np.append(GRID[4:], GRID[:4]) if in_sequence else GRID
    for _ in range(200):
        certificate = guarantees.certify_team(
            *team(rng, size), grid, 0.15, in_sequence=in_sequence
        )
        if certificate is not None:
            found.append(certificate.threshold)
            failures += team_error(certificate.threshold) > 0.15
    assert failures <= 10
    # The level is reached at 0.69.
    assert len(found) >= 150
    assert np.mean(found) > (0.6 if size == 5000 else 0.35)
    assert np.mean(found) < 0.69


def test_the_level_is_that_of_the_binomial():
    # The error is just above the level: as seldom as 5 % is it certified, and not
    # much more seldom.
    rng = np.random.default_rng(1)
    level = team_error(0.4) - 1e-6
    passed = sum(
        guarantees.certify_team(*team(rng, 500), np.array([0.4]), level) is not None
        for _ in range(1000)
    )
    assert 20 <= passed <= 65


def test_a_team_certificate_by_hand():
    # Wrong: the classifier from 60 on, the expert at 90 and above.
    labels = np.zeros(100, int)
    probs = np.eye(2)[(np.arange(100) >= 60).astype(int)]
    decision = decisions.decide(probs, np.arange(100.0)[:, None])
    answers = (np.arange(100) >= 90).astype(int)[:, None]
    thresholds = np.array([-np.inf, 30.0, 64.0, 70.0, np.inf])
    errors = np.array([10, 10, 15, 21, 50])
    found = guarantees.certify_team(decision, labels, answers, thresholds, 0.25)
    tails = stats.binom.cdf(errors, 100, 0.25)
    assert (tails <= 0.01).tolist() == [True, True, False, False, False]
    assert (found.threshold, found.coverage, found.error) == (30.0, 0.31, 0.1)
    exact = stats.binomtest(10, 100).proportion_ci(0.98, "exact").high
    assert found.bound == pytest.approx(exact)
    # Each at 5 %, up to the first that fails.
    found = guarantees.certify_team(
        decision, labels, answers, thresholds, 0.25, in_sequence=True
    )
    assert (tails <= 0.05).tolist() == [True, True, True, False, False]
    assert (found.threshold, found.bound) == (64.0, 0.25)
    found = guarantees.certify_team(
        decision, labels, answers, thresholds[::-1], 0.25, in_sequence=True
    )
    assert found is None


def test_the_least_bound_is_the_least_error_that_can_be_certified():
    decision, labels, answers = team(np.random.default_rng(4), 500)
    given = (decision, labels, answers, GRID)
    bounds = guarantees.team_bounds(*given)
    assert bounds.shape == GRID.shape
    errors = round(500 * guarantees.certify_team(*given[:3], GRID[4:5], 0.9).error)
    exact = stats.binomtest(errors, 500).proportion_ci(1 - 0.1 / 21, "exact").high
    assert bounds[4] == pytest.approx(exact)
    least = bounds.min()
    found = guarantees.certify_team(*given, least + 1e-9)
    assert found.bound == pytest.approx(least)
    assert guarantees.certify_team(*given, least - 1e-6) is None
    nobody = (decision, labels, np.full_like(answers, -1), GRID)
    assert guarantees.team_bounds(*nobody, unanswered_wrong=False).tolist() == [1] * 21


def test_silence_is_wrong_or_left_out():
    decision, labels, answers = team(np.random.default_rng(2), 2000, 0.0)
    answers[::2] = -1
    given = (decision, labels, answers, np.array([0.2]), 0.6)
    found = guarantees.certify_team(*given)
    scores = np.asarray(decision.defer_score)[:, 0]
    wrong = np.asarray(decisions.prediction(decision)) != labels
    silent = (answers[:, 0] < 0) & (scores > 0.2)
    errors = silent.sum() + wrong[scores <= 0.2].sum()
    assert found.num_cases == 2000 and found.num_unanswered == silent.sum()
    assert found.error == errors / 2000
    found = guarantees.certify_team(*given, unanswered_wrong=False)
    assert found.num_cases == 1000 and found.num_unanswered == 0
    assert found.error == wrong[1::2][scores[1::2] <= 0.2].sum() / 1000
    nobody = (decision, labels, np.full_like(answers, -1), *given[3:])
    assert guarantees.certify_team(*nobody, unanswered_wrong=False) is None


def test_the_team_of_nan_and_of_nobody_to_ask():
    # NaN is deferred by every threshold, and -inf is kept, though nobody answers.
    labels = np.zeros(200, int)
    scores = np.repeat([np.nan, -np.inf], 100)[:, None]
    decision = decisions.decide(np.eye(2)[labels], scores)
    answers = np.repeat([0, -1], 100)[:, None]
    for threshold in (-np.inf, 0.0, np.inf):
        found = guarantees.certify_team(
            decision, labels, answers, np.array([threshold]), 0.1
        )
        assert (found.coverage, found.error, found.num_unanswered) == (0.5, 0.0, 0)


def test_the_rule_by_the_certified_threshold_is_the_team_that_was_certified():
    decision, labels, answers = team(np.random.default_rng(3), 2000)
    found = guarantees.certify_team(decision, labels, answers, GRID, 0.2)
    by_rule = decisions.apply_threshold(decision, found.threshold)
    said = np.asarray(decisions.answer(by_rule, answers))
    assert (said != labels).mean() == pytest.approx(found.error)
    kept = np.asarray(by_rule.allocation)[:, -1]
    assert kept.mean() == pytest.approx(found.coverage)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": np.array([0, 2])}, r"labels must be in \[0, 2\), got 2 in row 1"),
        ({"labels": np.zeros(3, int)}, "labels must have shape"),
        ({"expert_labels": np.array([[0], [-2]])}, "expert_labels must be in"),
        ({"expert_labels": np.zeros((2, 2), int)}, "expert_labels must have shape"),
        ({"thresholds": np.array([])}, "thresholds must have shape"),
        ({"thresholds": np.array([np.nan])}, "thresholds must not be NaN"),
        ({"max_error": 1.0}, "max_error must be in"),
        ({"confidence": 0.0}, "confidence must be in"),
    ],
)
def test_what_cannot_be_used_of_a_team_is_named(changes, message):
    given = {
        "decision": decisions.decide(np.full((2, 2), 0.5), np.ones((2, 1))),
        "labels": np.array([0, 1]),
        "expert_labels": np.array([[0], [1]]),
        "thresholds": np.array([0.0]),
        "max_error": 0.1,
    }
    with pytest.raises(ValueError, match=message):
        guarantees.certify_team(**given | changes)


def test_a_certificate_is_of_what_its_threshold_keeps_where_scores_are_zero():
    # Just below 0 lie numbers that a device takes for 0.
    score = np.repeat(np.float32([-0.1, 0.0, 0.1]), 1000)
    wrong = np.repeat([0, 1, 1], 1000)
    found = guarantees.certify(score, wrong, 0.05, num_thresholds=3)
    decision = decisions.decide(np.tile([0.6, 0.4], (3000, 1)), score[:, None])
    kept = decisions.apply_threshold(decision, found.threshold).allocation[:, -1] > 0
    assert found.coverage == pytest.approx(1 / 3) == np.mean(kept)
    assert found.error == 0 == wrong[np.asarray(kept)].sum()


def test_scores_of_half_precision_are_refused():
    with pytest.raises(TypeError, match="scores must be of float32 or float64, got bf"):
        guarantees.certify(jnp.ones(3, jnp.bfloat16), np.zeros(3, int), 0.05)
