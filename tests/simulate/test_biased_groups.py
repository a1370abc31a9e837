"""What biased annotators cost: the exact gap and the printed bounds."""

import jax
import numpy as np
import pytest

from l2d_jax.crowds import allocation
from l2d_jax.simulate import biased_groups

pytestmark = pytest.mark.usefixtures("cheap_compiles")

TOL = {"rtol": 1e-5, "atol": 1e-6}


def test_gap_by_hand():
    # Guesses on group 0: .6 * .5 / (.4 + .3) = 3/7; on group 1: .2 / (.6 + .2) = 1/4.
    expected = 0.5 * (3 / 7 - 1 / 4)
    np.testing.assert_allclose(biased_groups.gap(0.6, 0.5), expected, rtol=1e-12)
    assert round(expected, 4) == 0.0893
    np.testing.assert_allclose(biased_groups.gap(0.5, [0.0, 0.3, 1.0]), 0.0, atol=1e-12)
    lower, upper = biased_groups.printed_bounds(0.6, 0.5)
    np.testing.assert_allclose([lower, upper], [0.25, 0.375], rtol=1e-12)
    # The printed interval leaves the gap out.
    assert biased_groups.gap(0.6, 0.5) < lower


def test_gap_at_the_ends():
    alphas = np.linspace(0.05, 0.95, 19)
    np.testing.assert_allclose(biased_groups.gap(alphas, 1.0), alphas - 0.5, atol=1e-12)
    np.testing.assert_allclose(biased_groups.gap(alphas, 0.0), 0.0, atol=1e-12)


def test_gap_grows_as_the_prior_knows_less():
    alphas = np.linspace(0.51, 0.95, 12)[:, None]
    gaps = biased_groups.gap(alphas, np.linspace(0.0, 1.0, 41))
    assert (np.diff(gaps, axis=1) > 0).all()
    # Exchanged groups, exchanged sign.
    mirrored = biased_groups.gap(1 - alphas, np.linspace(0.0, 1.0, 41))
    np.testing.assert_allclose(mirrored, -gaps, atol=1e-12)


def test_the_printed_upper_bound_holds_and_the_lower_one_does_not():
    alphas = np.array([0.55, 0.6, 0.7, 0.8, 0.9])[:, None]
    gammas = np.array([0.1, 0.3, 0.5, 0.8, 1.0])
    gaps = biased_groups.gap(alphas, gammas)
    lower, upper = biased_groups.printed_bounds(alphas, gammas)
    assert lower.shape == upper.shape == gaps.shape == (5, 5)
    assert (gaps <= upper).all()
    assert (gaps < lower).sum() == 18


def test_the_gap_is_that_of_the_prior():
    """Of one annotator drawn from the weights that dSim makes."""
    annotators = biased_groups.make_annotators(5, 0.6, 0.5)
    right = np.array([[0.5, 1.0]] * 3 + [[1.0, 0.5]] * 2)
    accuracy = [
        allocation.prior_weights(annotators.similarity, group, np.ones(5, bool))
        @ right[:, group]
        for group in (0, 1)
    ]
    np.testing.assert_allclose(
        accuracy[1] - accuracy[0], biased_groups.gap(0.6, 0.5), **TOL
    )


def test_annotators_by_hand():
    np.testing.assert_array_equal(biased_groups.biased_against(5, 0.6), [0, 0, 0, 1, 1])
    np.testing.assert_array_equal(biased_groups.biased_against(3, 0.0), [1, 1, 1])
    np.testing.assert_array_equal(biased_groups.biased_against(3, 1.0), [0, 0, 0])
    annotators = biased_groups.make_annotators(4, 0.75, 0.2)
    np.testing.assert_allclose(
        annotators.similarity, [[0.2, 1], [0.2, 1], [0.2, 1], [1, 0.2]], **TOL
    )
    np.testing.assert_array_equal(annotators.pools, [0, 0, 0, 1])
    assert allocation.check_similarity(annotators.similarity) == []


def test_simulated_accuracies():
    simulate = jax.jit(biased_groups.simulate, static_argnums=(1, 2))
    tasks = jax.device_get(simulate(jax.random.key(0), 4000, 4, 0.75))
    np.testing.assert_array_equal(tasks.categories, np.arange(4000) % 2)
    np.testing.assert_array_equal(tasks.features, np.eye(2)[tasks.categories])
    error = 4 * np.sqrt(0.25 / 2000)
    for group in (0, 1):
        mine = tasks.categories == group
        assert abs(tasks.labels[mine].mean() - 0.5) <= error
        right = (tasks.answers == tasks.labels[:, None])[mine].mean(axis=0)
        for annotator, against in enumerate((0, 0, 0, 1)):
            if against == group:
                assert abs(right[annotator] - 0.5) <= error
            else:
                assert right[annotator] == 1.0
    # Guesses are each annotator's own.
    wrong = (tasks.answers != tasks.labels[:, None])[tasks.categories == 0]
    assert abs((wrong[:, 0] & wrong[:, 1]).mean() - 0.25) <= error
