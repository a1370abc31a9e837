"""Features keep their differences, from the table to float32, or are refused."""

import numpy as np
import pandas as pd
import pytest

from l2d_jax.data import DataError
from l2d_jax.data.tabular import (
    make_tabular,
    split_rows,
    standardize,
    with_decisions,
)
from l2d_jax.types import Dataset


def table(inputs=None, extra=None, **changes):
    inputs = np.arange(20.0)[:, None] if inputs is None else inputs
    extra = np.zeros((20, 1)) if extra is None else extra
    labels = np.arange(20) % 2
    return make_tabular(
        inputs,
        labels,
        labels,
        extra,
        labels == 1,
        split_rows(20, seed=0),
        feature_names=[f"x{i}" for i in range(np.shape(inputs)[1])],
        group_name="g",
        name="mine",
        **changes,
    )


def test_a_near_constant_feature_is_constant():
    near = np.array([0.3, 3 * 0.1, 0.3, 0.3, 3 * 0.1, 0.3001])[:, None]
    assert np.ptp(near[:5]) > 0
    np.testing.assert_allclose(standardize(near[:5]), 0, atol=1e-15)
    # Off the training part what differs is centered only.
    outside = standardize(near, np.arange(5))
    np.testing.assert_allclose(outside[5], 1e-4, rtol=1e-9)
    near = near.astype(np.float32)
    np.testing.assert_allclose(standardize(near[:5]), 0, atol=1e-7)
    np.testing.assert_allclose(standardize(near, np.arange(5))[5], 1e-4, rtol=1e-3)


@pytest.mark.parametrize("unit", [1e-300, 1e-200, 1e-30, 1.0, 1e30, 1e200, 1e307])
def test_units_do_not_matter(unit):
    found = standardize(np.array([[1.0, 5.0], [2.0, 5.0], [4.0, 5.0]]) * unit)
    expected = (np.array([1, 2, 4]) - 7 / 3) / np.std([1, 2, 4])
    np.testing.assert_allclose(found[:, 0], expected, rtol=1e-12)
    np.testing.assert_allclose(found[:, 1] / unit, 0, atol=1e-14)


@pytest.mark.parametrize("start", [1.7e9, 1.7e12, 2**53])
def test_time_stamps_keep_their_differences(start):
    times = int(start) + np.array([[0], [3], [4], [10]], np.int64)
    expected = standardize(np.array([[0.0], [3.0], [4.0], [10.0]]))
    if start < 2**53:
        np.testing.assert_allclose(standardize(times), expected, rtol=1e-9)
    late = pd.DataFrame({"t": times[:, 0]}, index=[9, 9, 2, 1])
    np.testing.assert_array_equal(standardize(late), standardize(times))


def test_sound_features_are_scaled_as_ever():
    values = np.random.default_rng(0).normal(3, 7, (50, 4))
    for sound in (values, values.astype(np.float32), values.round().astype(int)):
        exact = np.asarray(sound, np.float64)
        by_hand = (sound - exact[:20].mean(axis=0)) / exact[:20].std(axis=0)
        np.testing.assert_array_equal(standardize(sound, np.arange(20)), by_hand)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e39, -1e39, None, pd.NA])
@pytest.mark.parametrize("where", ["inputs", "extra"])
def test_what_float32_cannot_hold_is_named(where, value):
    values = np.arange(40.0).reshape(20, 2).astype(object)
    values[3, 1] = value
    name = {"inputs": "x1", "extra": r"extra\[1\]"}[where]
    with pytest.raises(DataError, match=rf"mine: feature {name} .* row 3 "):
        table(**{where: values})


@pytest.mark.parametrize(
    "values",
    [
        1.7e9 + np.arange(20.0),
        1 + 1e-9 * np.arange(20.0),
        1e-45 * np.arange(20.0),
        1e-50 * np.arange(20.0),
    ],
)
def test_lost_differences_are_refused(values):
    with pytest.raises(DataError, match=r"feature x0 varies by .*`standardize`"):
        table(values[:, None])
    kept = table(standardize(values[:, None])).train.inputs[:, 0]
    assert len(np.unique(kept)) == len(kept)


def test_no_difference_is_lost_where_there_is_none():
    constant = np.where(np.arange(20) % 2, 0.3, 3 * 0.1)[:, None]
    np.testing.assert_array_equal(table(constant).train.inputs, np.float32(0.3))


def test_features_are_numbers():
    with pytest.raises(DataError, match="inputs must be numbers"):
        table(np.full((20, 1), "a"))
    with pytest.raises(DataError, match="inputs must be numbers"):
        table(np.full((20, 1), "a", object))
    with pytest.raises(DataError, match="expert_probs must be numbers"):
        table(expert_probs=np.full(20, "yes"))
    with pytest.raises(DataError, match="expert_probs must be probabilities"):
        table(expert_probs=pd.array([0.5] * 19 + [pd.NA], dtype="Float64"))
    with pytest.raises(ValueError, match="inputs must have shape"):
        make_tabular(
            np.zeros(20),
            *[np.zeros(20)] * 4,
            split_rows(20, seed=0),
            feature_names=["x"],
            group_name="g",
            name="mine",
        )


def test_no_decision_follows_from_nan():
    probs = np.full((2, 1, 2), 0.5)
    probs[1, 0] = np.nan
    with pytest.raises(DataError, match="not all finite"):
        with_decisions(Dataset(np.zeros((2, 1)), np.zeros(2, int)), probs)
