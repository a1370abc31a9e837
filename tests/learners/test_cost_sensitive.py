"""The learner of actions that have costs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from l2d_jax import decisions, models, optimizers
from l2d_jax.learners import cost_sensitive, deferral
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


def test_costs_of_errors_by_hand():
    # Labels 1, 0 and 2; the expert is right, wrong and was not asked.
    answers = np.array([[1], [2], [-1]])
    batch = Dataset(np.zeros((3, 1)), np.array([1, 0, 2]), answers)
    hparams = {"price": 0.25}
    costs, weights = cost_sensitive.error_costs(batch, 3, hparams)
    np.testing.assert_allclose(costs[:2], [[1, 0, 1, 0.25], [0, 1, 1, 1.25]], rtol=1e-6)
    np.testing.assert_array_equal(weights, [1, 1, 0])
    # An imputed probability of being right takes the place of answers.
    imputed = np.float32([[0.5], [1.0], [np.nan]])
    weighted = batch._replace(expert_correct=imputed, weights=np.float32([2, 3, 4]))
    costs, weights = cost_sensitive.error_costs(weighted, 3, hparams)
    np.testing.assert_allclose(costs[:2, 3], [0.75, 0.25], rtol=1e-6)
    np.testing.assert_array_equal(weights, [2, 3, 0])


@pytest.mark.parametrize("imputed", [False, True])
def test_errors_without_a_price_are_the_deferral_cross_entropy(imputed):
    generator = np.random.default_rng(0)
    outputs = generator.normal(size=(40, 5)).astype(np.float32)
    batch = Dataset(
        np.zeros((40, 1), np.float32),
        generator.integers(0, 4, 40).astype(np.int32),
        generator.integers(-1, 4, (40, 1)).astype(np.int32),
        weights=generator.uniform(size=40).astype(np.float32),
    )
    if imputed:
        correct = generator.uniform(size=(40, 1)).astype(np.float32)
        batch = batch._replace(expert_correct=correct)
    hparams = {"price": jnp.float32(0.0), "alpha": jnp.float32(1.0)}
    of_costs, of_deferral = (
        jax.jit(jax.value_and_grad(loss))(outputs, batch, hparams, KEY)
        for loss in (cost_sensitive.batch_loss, deferral.make_batch_loss())
    )
    for ours, theirs in zip(of_costs, of_deferral, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    assert np.abs(of_costs[1]).max() > 1e-3


def test_a_batch_without_costs_needs_an_expert():
    with pytest.raises(ValueError, match=r"batch\.expert_labels is None and so is"):
        cost_sensitive.batch_loss(
            jnp.zeros((2, 3)), make_batch(costs=None), {"price": 0.0}, KEY
        )


def test_decide_by_hand():
    # The expert's score is 1 above the best class, equal to it, and below.
    outputs = np.log(np.array([[1.0, 3.0, 3.0 * np.e], [1.0, 3.0, 3.0], [2, 2, 1]]))
    decision = cost_sensitive.decide(outputs, {})
    np.testing.assert_allclose(
        decision.defer_score, [[1], [0], [-np.log(2)]], rtol=1e-5, atol=1e-6
    )
    np.testing.assert_array_equal(decision.allocation, [[1, 0], [0, 1], [0, 1]])
    expected = [[1 / 4, 3 / 4], [1 / 4, 3 / 4], [1 / 2, 1 / 2]]
    np.testing.assert_allclose(decision.class_probs, expected, rtol=1e-5)
    assert np.isnan(decision.expert_correct_prob).all()


def test_the_action_of_least_mean_cost_is_found():
    """Though on most of its examples another action is the cheapest."""
    inputs = np.repeat(np.linspace(-1, 1, 25, dtype=np.float32), 10)[:, None]
    # Cheapest nine times of ten, and 5 in the mean.
    gamble = np.tile([0.0] * 9 + [50.0], 25)
    # The last, which is to ask the expert, always costs 4.
    costs = np.stack([4.0 + 3.0 * inputs[:, 0], gamble, np.full(250, 4.0)], axis=1)
    dataset = Dataset(inputs, np.zeros(250, np.int32), costs=costs.astype(np.float32))
    learner = cost_sensitive.make_learner(models.mlp((8,), 3), optimizers.make_adam())

    @jax.jit
    def train(dataset):
        state = learner.init(jax.random.key(0), HPARAMS, dataset)

        def step(state, _):
            return learner.update(state, HPARAMS, dataset)[0], None

        return jax.lax.scan(step, state, length=300)[0].variables

    decision = learner.predict(train(dataset), HPARAMS, np.array([[-0.8], [0.8]]))
    np.testing.assert_array_equal(decision.allocation, [[0, 1], [1, 0]])
    assert decisions.prediction(decision)[0] == 0
