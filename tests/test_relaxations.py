from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from l2d_jax.relaxations import sample_binary_concrete

KEY = jax.random.key(7)
NUM_DRAWS = 20_000


def sigmoid(x):
    return 1 / (1 + np.exp(-np.asarray(x, np.float64)))


def draws(logit, temperature, key=KEY):
    return np.asarray(
        sample_binary_concrete(key, jnp.full(NUM_DRAWS, logit), temperature), np.float64
    )


def noise_of(key, shape=()):
    """The logistic noise of a key, read off a sample at logit 0 and temperature 1."""
    sample = np.asarray(sample_binary_concrete(key, jnp.zeros(shape), 1.0), np.float64)
    return np.log(sample) - np.log1p(-sample)


@pytest.mark.parametrize("temperature", [0.1, 0.5, 3.0])
@pytest.mark.parametrize("logit", [-1.5, 0.0, 0.8])
def test_exceeds_half_as_often_as_the_bernoulli(logit, temperature):
    prob = sigmoid(logit)
    error = np.mean(draws(logit, temperature) > 0.5) - prob
    assert abs(error) < 4 * np.sqrt(prob * (1 - prob) / NUM_DRAWS)


@pytest.mark.parametrize(("logit", "temperature"), [(0.8, 0.5), (-1.0, 2.0)])
def test_distribution(logit, temperature):
    # P(sample <= s) = P(L <= temperature * log-odds(s) - logit), L standard logistic.
    levels = np.linspace(0.05, 0.95, 19)
    log_odds = np.log(levels / (1 - levels))
    expected = sigmoid(temperature * log_odds - logit)
    actual = np.mean(draws(logit, temperature)[:, None] <= levels, axis=0)
    assert np.abs(actual - expected).max() < 1.95 / np.sqrt(NUM_DRAWS)  # p = 0.001.

    # The paper's form: a softmax of log-probabilities and Gumbel noise.
    gumbels = np.random.default_rng(0).gumbel(size=(NUM_DRAWS, 2))
    log_probs = np.log([sigmoid(logit), sigmoid(-logit)])
    exps = np.exp((log_probs + gumbels) / temperature)
    gumbel_softmax = exps[:, 0] / exps.sum(axis=1)
    theirs = np.mean(gumbel_softmax[:, None] <= levels, axis=0)
    assert np.abs(actual - theirs).max() < 1.95 * np.sqrt(2 / NUM_DRAWS)


def test_is_the_gumbel_softmax_of_the_same_noise():
    logits, temperature = jnp.linspace(-2.0, 2.0, 5), 0.5
    ours = sample_binary_concrete(KEY, logits, temperature)
    # Any two numbers that differ by the noise stand for the two Gumbel draws.
    second = np.linspace(-1.0, 1.0, 5)
    first = noise_of(KEY, (5,)) + second
    one = np.exp((np.log(sigmoid(logits)) + first) / temperature)
    zero = np.exp((np.log(sigmoid(-logits)) + second) / temperature)
    np.testing.assert_allclose(ours, one / (one + zero), rtol=1e-4, atol=1e-5)


def test_low_temperature_is_the_bernoulli_draw():
    warm = draws(0.3, 1.0)
    cold = draws(0.3, 1e-6)
    np.testing.assert_array_equal(cold > 0.5, warm > 0.5)
    assert np.mean((cold < 1e-3) | (cold > 1 - 1e-3)) > 0.999


def test_high_temperature_is_one_half():
    np.testing.assert_allclose(draws(0.3, 1e6), 0.5, rtol=0, atol=1e-4)


def test_shapes_keys_and_jit():
    logits = jnp.zeros((2, 3))
    sample = sample_binary_concrete(KEY, logits, 0.5)
    assert sample.shape == (2, 3)
    assert np.unique(sample).size == 6  # Noise of its own in each entry.
    assert sample_binary_concrete(KEY, 0.0, 0.5).shape == ()
    np.testing.assert_allclose(
        jax.jit(sample_binary_concrete)(KEY, logits, 0.5), sample, rtol=1e-5, atol=1e-6
    )
    other = sample_binary_concrete(jax.random.key(8), logits, 0.5)
    assert not np.any(other == sample)

    keys = jax.random.split(KEY, 3)
    temperatures = jnp.array([0.5, 1.0, 2.0])
    mapped = jax.vmap(sample_binary_concrete)(keys, jnp.ones(3), temperatures)
    alone = [
        sample_binary_concrete(key, 1.0, temperature)
        for key, temperature in zip(keys, temperatures, strict=True)
    ]
    np.testing.assert_allclose(mapped, alone, rtol=1e-5, atol=1e-6)


def test_sample_given_its_noise():
    noise = noise_of(KEY)
    for logit, temperature in ((0.7, 0.5), (-1.2, 2.0)):
        ours = sample_binary_concrete(KEY, logit, temperature)
        expected = sigmoid((logit + noise) / temperature)
        np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-6)


def test_gradients():
    sample = partial(sample_binary_concrete, KEY)
    at = jnp.array([0.4, -0.6]), 0.7
    check_grads(sample, at, order=1, modes=["rev"], atol=1e-2, rtol=1e-2, eps=1e-2)


@pytest.mark.parametrize("logit", [1e4, -1e4])
def test_finite_at_extreme_logits(logit):
    sample = partial(sample_binary_concrete, KEY)
    value, slopes = jax.value_and_grad(sample, argnums=(0, 1))(logit, 0.5)
    assert value == float(logit > 0)
    assert slopes == (0.0, 0.0)


def test_wrong_input_names_the_argument():
    for temperature in (0.0, -1.0):
        with pytest.raises(ValueError, match="temperature must be > 0, got"):
            sample_binary_concrete(KEY, 0.0, temperature)
    with pytest.raises(ValueError, match="temperature must be > 0, got NaN"):
        sample_binary_concrete(KEY, 0.0, jnp.nan)
    with pytest.raises(ValueError, match="logit must be finite, got NaN"):
        sample_binary_concrete(KEY, jnp.nan, 0.5)
    with pytest.raises(
        ValueError, match=r"temperature must have shape \[\], got \(2,\)"
    ):
        jax.jit(sample_binary_concrete)(KEY, jnp.zeros(2), jnp.ones(2))
    with pytest.raises(ValueError, match="key"):
        sample_binary_concrete(jax.random.split(KEY, 2), jnp.zeros(2), 0.5)


@pytest.mark.parametrize("temperature", [0.0, -1.0])
def test_a_traced_temperature_out_of_range_poisons(temperature):
    sample = jax.jit(jax.value_and_grad(sample_binary_concrete, argnums=(1, 2)))
    value, slopes = sample(KEY, 0.3, temperature)
    assert np.isnan(value)
    assert np.isnan(slopes).all()
