"""Optimizers against their equations, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from l2d_jax import optimizers

GRADIENTS = np.array([[1.0, -2.0], [0.5, 0.1], [-1.0, 3.0], [0.2, 0.2]])
START = np.array([3.0, -4.0])


def run(optimizer, hparams):
    transformation = optimizer(hparams)
    params = jnp.asarray(START, jnp.float32)
    state = transformation.init(params)
    path = []
    for gradient in jnp.asarray(GRADIENTS, jnp.float32):
        updates, state = transformation.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
        path.append(params)
    return jnp.stack(path)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_sgd_is_nesterov_with_weight_decay_and_cosine(momentum):
    rate, decay, num_steps = 0.1, 0.01, 4
    params, velocity, expected = START.copy(), np.zeros(2), []
    for step, gradient in enumerate(GRADIENTS):
        gradient = gradient + decay * params
        velocity = momentum * velocity + gradient
        cosine = 0.5 * (1 + np.cos(np.pi * step / num_steps))
        params = params - rate * cosine * (gradient + momentum * velocity)
        expected.append(params)
    hparams = {"learning_rate": jnp.float32(rate), "weight_decay": jnp.float32(decay)}
    path = run(optimizers.make_sgd(num_steps, momentum), hparams)
    np.testing.assert_allclose(path, expected, rtol=1e-5, atol=1e-6)


def test_sgd_stands_still_at_the_end():
    hparams = {"learning_rate": jnp.float32(0.1), "weight_decay": jnp.float32(0.0)}
    path = run(optimizers.make_sgd(3, 0.9), hparams)
    assert (path[2] != path[1]).all()
    np.testing.assert_allclose(path[3], path[2], rtol=0, atol=1e-6)


def test_adam():
    rate, params, expected = 0.1, START.copy(), []
    first, second = np.zeros(2), np.zeros(2)
    for step, gradient in enumerate(GRADIENTS, start=1):
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        mean, square = first / (1 - 0.9**step), second / (1 - 0.999**step)
        params = params - rate * mean / (np.sqrt(square) + 1e-8)
        expected.append(params)
    path = run(optimizers.make_adam(), {"learning_rate": jnp.float32(rate)})
    np.testing.assert_allclose(path, expected, rtol=1e-5, atol=1e-5)


def test_hyperparameters_are_traced():
    """A vmap over them is each of them alone."""
    rates, decays = jnp.array([0.1, 0.01]), jnp.array([0.0, 0.1])
    hparams = {"learning_rate": rates, "weight_decay": decays}
    optimizer = optimizers.make_sgd(4)
    both = jax.jit(jax.vmap(lambda hparams: run(optimizer, hparams)))(hparams)
    for i in range(2):
        alone = run(optimizer, {name: value[i] for name, value in hparams.items()})
        np.testing.assert_allclose(both[i], alone, rtol=1e-5, atol=1e-6)


def test_plain_sgd():
    path = run(optimizers.make_plain_sgd(), {"learning_rate": jnp.float32(0.1)})
    # From (3, -4): less a tenth of (1, -2), then of (.5, .1), (-1, 3) and (.2, .2).
    expected = [[2.9, -3.8], [2.85, -3.81], [2.95, -4.11], [2.93, -4.13]]
    np.testing.assert_allclose(path, expected, rtol=1e-6, atol=1e-6)
    still = run(optimizers.make_plain_sgd(), {"learning_rate": jnp.float32(0.0)})
    np.testing.assert_array_equal(still, np.tile(START, (4, 1)))
