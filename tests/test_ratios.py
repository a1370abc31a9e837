"""Ratios of weighted sums, by hand and against one weighting after another."""

import jax
import numpy as np
import pytest

from l2d_jax import ratios
from l2d_jax.ratios import Ratio

NAN = np.nan


def test_ratios_by_hand():
    given = {
        "right": ratios.mean([1.0, 0.0, NAN, 1.0], [True, True, False, True]),
        "of two": {
            "shares": Ratio(
                np.array([[1, 0], [0, 2], [3, 0], [NAN, 1]]), np.ones((4, 1))
            )
        },
        "nobody": ratios.mean([1.0, 1.0, 1.0, NAN], [0, 0, 0, 1]),
    }
    # The last counts for nothing, whatever it holds.
    found = ratios.weigh(given, np.array([1.0, 3.0, 2.0, 0.0]))
    np.testing.assert_allclose(found["right"], 1 / 4)
    np.testing.assert_allclose(found["of two"]["shares"], [7 / 6, 1.0], rtol=1e-6)
    assert np.isnan(found["nobody"])
    # And where it counts it is not known.
    found = ratios.weigh(given, np.ones(4))
    np.testing.assert_allclose(found["right"], 2 / 3, rtol=1e-6)
    np.testing.assert_array_equal(found["of two"]["shares"], [NAN, 3 / 4])


def test_experts_are_added_up():
    right = np.array([[1.0, NAN], [0.0, 1.0]])
    made = ratios.over_experts(ratios.mean(right, [[1.0, 0.0], [1.0, 0.5]]))
    np.testing.assert_allclose(made.numerator, [1.0, 0.5])
    np.testing.assert_allclose(made.denominator, [1.0, 1.5])
    assert ratios.weigh(made, np.ones(2)) == pytest.approx(1.5 / 2.5)


@pytest.mark.parametrize("piece", [3, 7, 8192])
def test_resamples_are_as_if_each_were_weighted(piece, monkeypatch):
    monkeypatch.setattr(ratios, "_PIECE", piece)
    rng = np.random.default_rng(0)
    given = {
        "a": ratios.mean(rng.random(20), rng.random(20) < 0.5),
        "b": Ratio(rng.random((20, 3)), rng.random((20, 1))),
        "never": ratios.mean(np.full(20, NAN), np.zeros(20)),
    }
    weights = rng.integers(0, 3, 20).astype(float)
    # A row that counts for nothing may hold anything.
    given["b"].numerator[weights == 0] = NAN
    counts = rng.integers(0, 4, (6, 20)).astype(np.uint8)
    found = jax.jit(ratios.resample)(given, weights, counts)
    for number, count in enumerate(counts):
        alone = ratios.weigh(given, weights * count)
        for name, value in alone.items():
            np.testing.assert_allclose(found[name][number], value, rtol=1e-5)
    assert found["b"].shape == (6, 3) and np.isnan(found["never"]).all()


def test_what_is_not_known_of_a_case_is_not_known_in_any_resample():
    given = ratios.mean([1.0, NAN, 0.0], np.ones(3))
    found = ratios.resample(given, np.ones(3), np.array([[2, 0, 1], [1, 1, 1]]))
    assert np.isnan(found).all()


def test_of_no_cases_nothing_is_known():
    given = {"a": ratios.mean([], []), "b": Ratio(np.zeros((0, 2)), np.ones((0, 1)))}
    alone = ratios.weigh(given, np.zeros(0))
    many = ratios.resample(given, np.zeros(0), np.zeros((3, 0)))
    assert np.isnan(alone["a"]) and np.isnan(many["a"]).all()
    assert alone["b"].shape == (2,) and many["b"].shape == (3, 2)
