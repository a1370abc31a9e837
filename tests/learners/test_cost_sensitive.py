"""The learner of actions that have costs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from l2d_jax import models, optimizers
from l2d_jax.learners import cost_sensitive
from l2d_jax.types import Dataset

HPARAMS = {"learning_rate": 0.05}
KEY = jax.random.key(0)


def make_batch(**changes):
    inputs = np.array([[0.0], [1.0]], np.float32)
    costs = np.array([[1.0, 3.0, 2.0], [4.0, 0.0, 4.0]], np.float32)
    return Dataset(inputs, np.zeros(2, np.int32), costs=costs)._replace(**changes)


def test_loss_by_hand():
    # Every action has log-probability -log 3; savings of 2 + 0 + 1 and of 4.
    loss = cost_sensitive.batch_loss(jnp.zeros((2, 3)), make_batch(), {}, KEY)
    assert loss == pytest.approx(3.5 * np.log(3.0), rel=1e-6)
    weights = np.array([1.0, 0.0], np.float32)
    batch = make_batch(weights=weights)
    loss = cost_sensitive.batch_loss(jnp.zeros((2, 3)), batch, {}, KEY)
    assert loss == pytest.approx(3.0 * np.log(3.0), rel=1e-6)


def test_a_batch_without_costs_raises():
    with pytest.raises(ValueError, match=r"batch\.costs is None; give the cost"):
        cost_sensitive.batch_loss(jnp.zeros((2, 3)), make_batch(costs=None), {}, KEY)


def test_the_action_of_least_mean_cost_is_found():
    """Though on most of its examples another action is the cheapest."""
    inputs = np.repeat(np.linspace(-1, 1, 25, dtype=np.float32), 10)[:, None]
    # Cheapest nine times of ten, and 5 in the mean.
    gamble = np.tile([0.0] * 9 + [50.0], 25)
    costs = np.stack([4.0 + 3.0 * inputs[:, 0], np.full(250, 4.0), gamble], axis=1)
    dataset = Dataset(inputs, np.zeros(250, np.int32), costs=costs.astype(np.float32))
    learner = cost_sensitive.make_learner(models.mlp((8,), 3), optimizers.make_adam())

    @jax.jit
    def train(dataset):
        state = learner.init(jax.random.key(0), HPARAMS, dataset)

        def step(state, _):
            return learner.update(state, HPARAMS, dataset)[0], None

        return jax.lax.scan(step, state, length=300)[0].variables

    scores = learner.predict(train(dataset), HPARAMS, np.array([[-0.8], [0.8]]))
    assert scores.shape == (2, 3)
    assert np.argmax(scores, axis=1).tolist() == [0, 1]
