"""Intervals of means over seeds and cases, against simulations and by hand."""

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from experiments import tables
from l2d_jax import intervals


def resample(outcomes, counts):
    """Means of each row of outcomes ``[S, N]`` under each resample, ``[S, R]``."""
    return outcomes @ counts.T.astype(float) / outcomes.shape[1]


def simulate(num_seeds, num_cases, repeats, spreads, seed):
    """Share of intervals that cover the mean of a crossed design, in float64.

    Outcome of seed s on case c: a + b_s + d_c + e_sc, of the given deviations.
    """
    generator = np.random.default_rng(seed)
    counts = intervals.draw_resamples(num_cases)
    covered = 0
    for _ in range(repeats):
        of_seed, of_case, of_both = (
            deviation * generator.normal(size=shape)
            for deviation, shape in zip(
                spreads,
                ((num_seeds, 1), (1, num_cases), (num_seeds, num_cases)),
                strict=True,
            )
        )
        outcomes = 0.7 + of_seed + of_case + of_both
        found = intervals.mean_interval(
            outcomes.mean(axis=1), resample(outcomes, counts)
        )
        covered += bool(found.low <= 0.7 <= found.high)
    return covered / repeats


@pytest.mark.parametrize(
    "spreads", [(0.03, 0.4, 0.0), (0.1, 0.1, 0.0), (0.0, 0.4, 0.0)]
)
def test_coverage_of_a_crossed_design(spreads):
    # 600 repeats: the standard deviation of the share is 0.009.
    assert 0.92 < simulate(5, 200, 600, spreads, seed=0) < 0.98


def test_noise_of_a_single_case_makes_it_wider_only():
    assert simulate(5, 200, 400, (0.03, 0.1, 0.4), seed=1) > 0.93


def test_one_seed_has_an_interval_over_cases():
    generator = np.random.default_rng(0)
    outcomes = (generator.random((1, 400)) < 0.8).astype(float)
    counts = intervals.draw_resamples(400)
    found = intervals.mean_interval(outcomes.mean(axis=1), resample(outcomes, counts))
    # 1.98 standard deviations of 0.4 / sqrt(400), estimated from 100 resamples.
    assert found.n == 1
    assert (found.high - found.low) / 2 == pytest.approx(1.98 * 0.02, rel=0.25)
    alone = intervals.mean_interval(outcomes.mean(axis=1))
    assert np.isnan([alone.low, alone.high, alone.p_value]).all()


def test_without_cases_it_is_students():
    values = np.random.default_rng(0).normal(size=(6, 3))
    found = intervals.mean_interval(values)
    for column in range(3):
        ends = tables.mean_interval(values[:, column])
        assert (found.low[column], found.high[column]) == pytest.approx(ends)
        p_value = stats.ttest_1samp(values[:, column], 0.0).pvalue
        assert found.p_value[column] == pytest.approx(p_value)


def test_of_splits_it_is_the_corrected_one():
    values = np.random.default_rng(0).normal(size=25)
    found = intervals.split_interval(values[:, None], 1 / 4)
    ends = tables.resampled_interval(values, 1 / 4)
    assert (found.low[0], found.high[0]) == pytest.approx(ends)


def test_of_splits_it_can_be_around_the_mean_of_all_their_cases():
    """As wide as it is around theirs, with the p-value of that mean."""
    values = np.array([0.0, 0.1, 0.2])
    own = intervals.split_interval(values, 1 / 2)
    found = intervals.split_interval(values, 1 / 2, center=0.05)
    assert found.mean == 0.05
    assert found.high - found.low == pytest.approx(own.high - own.low)
    # 0.1 is the deviation of the values, and sqrt(1 / 3 + 1 / 2) that of their mean.
    ratio = 0.05 / (0.1 * np.sqrt(5 / 6))
    assert found.p_value == pytest.approx(2 * stats.t.sf(ratio, 2))


def test_what_is_not_defined_is_left_out():
    values = np.array([[0.1, np.nan], [0.3, np.nan], [np.nan, np.nan]])
    draws = np.repeat(values[..., None], intervals.NUM_RESAMPLES, axis=-1)
    found = intervals.mean_interval(values, draws)
    assert list(found.n) == [2, 0] and found.mean[0] == pytest.approx(0.2)
    assert np.isnan([part[1] for part in found[1:]]).all()


def test_no_difference_is_0_for_certain():
    zeros = np.zeros((4, 1))
    found = intervals.mean_interval(zeros, np.zeros((4, 1, intervals.NUM_RESAMPLES)))
    assert (found.mean, found.low, found.high) == (0, 0, 0)
    assert found.p_value == 1
    # A difference that never varies is certain.
    assert intervals.mean_interval(zeros + 0.1).p_value == 0
    assert intervals.split_interval(zeros, 0.25).p_value == 1
    assert intervals.split_interval(zeros + 0.1, 0.25).p_value == 0
    # One seed of unknown cases tells nothing, and no seed either.
    assert np.isnan(intervals.mean_interval(zeros[:1]).p_value).all()
    assert np.isnan(intervals.split_interval(zeros[:1], 0.25).p_value).all()
    assert np.isnan(intervals.split_interval(zeros * np.nan, 0.25).p_value).all()


def test_resamples_have_as_many_cases_and_are_the_same_again():
    counts = intervals.draw_resamples(50, seed=3)
    assert counts.shape == (intervals.NUM_RESAMPLES, 50)
    assert (counts.sum(axis=1) == 50).all()
    np.testing.assert_array_equal(counts, intervals.draw_resamples(50, seed=3))
    assert (counts != intervals.draw_resamples(50, seed=4)).any()


def test_holm_by_hand():
    # 3 * .01, 2 * .02, and .04 no less than that; in the order given.
    found = intervals.holm(np.array([0.02, 0.04, 0.01]))
    np.testing.assert_allclose(found, [0.04, 0.04, 0.03])
    np.testing.assert_allclose(intervals.holm(np.array([0.9, 0.8])), [1.0, 1.0])


@pytest.mark.parametrize("size", [1, 2, 5, 40])
def test_holm_as_statsmodels_has_it(size):
    # Some are equal, and some are 0 or 1.
    p_values = np.random.default_rng(size).random(size).round(1)
    expected = multipletests(p_values, method="holm")[1]
    np.testing.assert_array_equal(intervals.holm(p_values), expected)
