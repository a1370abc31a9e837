"""The gate of Madras et al. on data whose best rule is known."""

import jax
import jax.numpy as jnp
import numpy as np

from l2d_jax import models, optimizers
from l2d_jax.learners import mixture
from l2d_jax.types import Batch

HPARAMS = {"cost": jnp.array(0.0), "learning_rate": jnp.array(0.05)}


def make_batch():
    """The first input tells the label where the second is > 0, the expert elsewhere."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 2, 400).astype(np.int32)
    inputs = generator.normal(size=(400, 2)).astype(np.float32)
    inputs[:, 0] = np.where(inputs[:, 1] > 0, 2.0 * labels - 1, 0.0)
    right = np.where(inputs[:, 1] > 0, 0.5, 0.95)
    prob = np.where(labels == 1, right, 1 - right).astype(np.float32)
    return Batch(inputs, labels, np.stack([1 - prob, prob], axis=-1)[:, None])


def test_loss_by_hand():
    # Classifier logit log 3: p(1) = 3/4. Defer logit 0: half the weight on each.
    outputs = jnp.array([[jnp.log(3.0), 0.0], [jnp.log(3.0), 0.0]])
    expert = np.array([[[0.5, 0.5]], [[0.8, 0.2]]], np.float32)
    batch = Batch(np.zeros((2, 1), np.float32), np.array([1, 0]), expert)
    loss = mixture.batch_loss(outputs, batch, {"cost": jnp.array(0.2)})
    first = 0.5 * -np.log(0.75) + 0.5 * (-np.log(0.5) + 0.2)
    second = 0.5 * -np.log(0.25) + 0.5 * (-np.log(0.8) + 0.2)
    np.testing.assert_allclose(loss, (first + second) / 2, rtol=1e-6, atol=1e-7)


def test_weights_of_zero_are_left_out():
    batch = make_batch()
    outputs = jax.random.normal(jax.random.key(0), (400, 2))
    kept = np.arange(400) < 100
    weighted = batch._replace(weights=kept.astype(np.float32))
    alone = jax.tree.map(lambda leaf: leaf[kept], batch)
    np.testing.assert_allclose(
        mixture.batch_loss(outputs, weighted, HPARAMS),
        mixture.batch_loss(outputs[kept], alone, HPARAMS),
        rtol=1e-5,
        atol=1e-6,
    )


def test_it_learns_who_is_right():
    batch = make_batch()
    learner = mixture.make_learner(models.gated_pair(8), optimizers.make_adam())
    state = learner.init(jax.random.key(0), HPARAMS, batch)

    @jax.jit
    def train(state):
        return jax.lax.scan(
            lambda state, _: (learner.update(state, HPARAMS, batch)[0], None),
            state,
            length=600,
        )[0]

    decision = learner.predict(train(state).variables, HPARAMS, batch.inputs)
    own = np.asarray(batch.inputs[:, 1] > 0)
    np.testing.assert_array_less(0.95, np.mean(np.asarray(decision.defer) != own))
    right = np.asarray(decision.prediction) == batch.labels
    assert right[own].mean() > 0.98
    assert np.isnan(decision.expert_correct_prob).all()
