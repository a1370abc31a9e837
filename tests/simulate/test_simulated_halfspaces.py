"""Simulated half-spaces: who is right where, and how often."""

import jax
import numpy as np
import pytest

from l2d_jax.simulate import halfspaces

pytestmark = pytest.mark.usefixtures("cheap_compiles")

N, D = 4000, 6


def draw(seed, law=(0.0, 0.3, 0.0), inputs=halfspaces.uniform_inputs, size=N):
    key = jax.random.key(seed)
    points = inputs(jax.random.fold_in(key, 0), size, D)
    drawn = jax.device_get(halfspaces.simulate(key, points, *law))
    defers, predicts = (
        np.asarray(halfspaces.beyond(half, points))
        for half in (drawn.rejector, drawn.classifier)
    )
    return drawn, defers, predicts


def near(share, expected, count):
    return abs(share - expected) <= 4 * np.sqrt(max(expected, 0.01) / count)


@pytest.mark.parametrize("seed", range(3))
def test_the_pair_is_never_wrong_where_nothing_is_noise(seed):
    drawn, defers, predicts = draw(seed)
    answers = drawn.expert_labels[:, 0]
    assert drawn.expert_labels.shape == (N, 1) and drawn.inputs.shape == (N, D)
    np.testing.assert_array_equal(np.where(defers, answers, predicts), drawn.labels)
    # Neither alone: labels beyond the rejector are coins, and the expert errs before.
    assert near((predicts != drawn.labels)[defers].mean(), 0.5, defers.sum())
    assert near((answers != drawn.labels)[~defers].mean(), 0.3, (~defers).sum())


@pytest.mark.parametrize("seed", range(3))
def test_error_rates_are_those_asked_for(seed):
    drawn, defers, predicts = draw(seed, (0.1, 0.4, 0.2))
    wrong = drawn.expert_labels[:, 0] != drawn.labels
    assert near(wrong[defers].mean(), 0.1, defers.sum())
    assert near(wrong[~defers].mean(), 0.4, (~defers).sum())
    # Half of the labels that are coins are right by luck.
    assert near((predicts != drawn.labels)[~defers].mean(), 0.1, (~defers).sum())


@pytest.mark.parametrize(
    "inputs", [halfspaces.uniform_inputs, halfspaces.mixture_inputs]
)
def test_both_half_spaces_are_balanced(inputs):
    for seed in range(5):
        _, defers, predicts = draw(seed, inputs=inputs)
        assert 0.2 <= defers.mean() <= 0.8
        assert 0.2 <= predicts[~defers].mean() <= 0.8


def test_laws_of_inputs():
    key = jax.random.key(0)
    cube = np.asarray(halfspaces.uniform_inputs(key, N, D))
    assert 0 <= cube.min() and cube.max() < 1 and near(cube.mean(), 0.5, cube.size)
    # One component is one normal; many have the variance of means and deviations.
    one = np.asarray(halfspaces.mixture_inputs(key, N, D, 1))
    assert one.std(axis=0).max() < 1
    many = np.asarray(halfspaces.mixture_inputs(key, N, 40, 2000))
    np.testing.assert_allclose(many.var(), 1 + 1 / 3, rtol=0, atol=0.03)


def test_of_no_balanced_half_space_the_most_balanced():
    inputs = np.full((10, D), 0.5, np.float32)
    drawn = halfspaces.simulate(jax.random.key(0), inputs)
    assert np.isfinite(drawn.rejector).all()


def test_inputs_that_are_no_matrix_are_refused():
    with pytest.raises(
        ValueError, match=r"inputs must have shape \[N, D\], got \(3,\)"
    ):
        halfspaces.simulate(jax.random.key(0), np.zeros(3))
