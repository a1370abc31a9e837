"""Triage: who takes what within a budget, and a classifier that learns the rest."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from l2d_jax import models, optimizers
from l2d_jax.learners import triage
from l2d_jax.types import Batch


@pytest.mark.parametrize(
    ("budget", "expected"),
    [
        (0.0, [0, 0, 0, 0, 0]),
        (0.2, [0, 0, 1, 0, 0]),
        (0.4, [1, 0, 1, 0, 0]),
        # The human is better at three only.
        (1.0, [1, 0, 1, 0, 1]),
    ],
)
def test_the_human_takes_the_greatest_differences(budget, expected):
    classifier = jnp.array([2.0, 0.1, 3.0, 1.0, 0.6])
    human = jnp.array([0.5, 0.1, 0.5, 2.0, 0.5])
    found = triage.passed(classifier, human, jnp.ones(5), budget)
    np.testing.assert_array_equal(found, np.array(expected, bool))


def test_a_whole_share_is_not_lost_to_rounding():
    found = triage.passed(jnp.arange(1.0, 11.0), jnp.zeros(10), jnp.ones(10), 0.7)
    assert found.sum() == 7


def test_what_has_no_weight_takes_no_budget():
    classifier = jnp.array([5.0, 1.0, 2.0, 0.5])
    weights = jnp.array([0.0, 1.0, 1.0, 0.0])
    found = triage.passed(classifier, jnp.zeros(4), weights, 0.5)
    np.testing.assert_array_equal(found, [False, False, True, False])


def make_batch():
    """The expert is right where the second feature is 1, and only there."""
    generator = np.random.default_rng(0)
    sure = generator.integers(0, 2, 400)
    labels = generator.integers(0, 2, 400).astype(np.int32)
    # The first feature says the label where the expert does not know it.
    signal = np.where(sure == 1, 0.1 * generator.normal(size=400), 2.0 * labels - 1)
    answers = np.where(sure == 1, labels, 1 - labels).astype(np.int32)
    inputs = np.stack([signal, sure], axis=1).astype(np.float32)
    return Batch(inputs, labels, answers[:, None])


def test_it_learns_what_to_keep():
    batch = make_batch()
    learner = triage.make_learner(
        models.mlp((16,), 3), optimizers.make_adam(), num_classes=2
    )
    hparams = {
        name: jnp.float32(value)
        for name, value in (
            ("learning_rate", 0.03),
            ("budget", 0.6),
            ("smoothing", 0.05),
        )
    }

    @jax.jit
    def fit():
        state = learner.init(jax.random.key(0), hparams, batch)
        state, _ = jax.lax.scan(
            lambda state, _: (learner.update(state, hparams, batch)[0], None),
            state,
            length=300,
        )
        return learner.predict(state.variables, hparams, batch.inputs)

    decision = fit()
    kept = np.asarray(decision.allocation[:, -1]) == 1
    sure = np.asarray(batch.inputs)[:, 1] == 1
    assert (kept == ~sure).mean() > 0.95
    right = np.argmax(decision.class_probs, axis=1) == batch.labels
    assert right[kept & ~sure].mean() > 0.99
    assert np.isnan(decision.expert_correct_prob).all()
