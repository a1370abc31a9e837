"""The error among kept cases is as small as was certified."""

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
