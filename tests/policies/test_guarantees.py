"""The error among kept cases is as small as was certified."""

import numpy as np
import pytest

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
