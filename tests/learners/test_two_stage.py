"""Deferring from a classifier that is given: whom to ask, and when."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from l2d_jax import decisions, optimizers
from l2d_jax.learners import rejector, two_stage
from l2d_jax.learners.batches import classifier_right
from l2d_jax.types import Batch, ModelFns

# One cell a row: the share of it on which classifier and expert are right.
CLASSIFIER = np.array([0.9, 0.4, 0.5])
EXPERT = np.array([0.5, 0.8, 0.6])
SIZE = 100


def table(num_outputs):
    """A free score for each cell and output."""
    return ModelFns(
        lambda key, inputs: ({"w": jnp.zeros((3, num_outputs))}, {}),
        lambda params, state, inputs, train: (inputs @ params["w"], state),
    )


def make_batch():
    inputs, labels, answers, probs = [], [], [], []
    for cell, (right, expert_right) in enumerate(zip(CLASSIFIER, EXPERT, strict=True)):
        rank = np.arange(SIZE)
        says = np.where(rank < right * SIZE, 1, 0)
        # From the other end, so that the two err on different examples.
        answer = np.where(rank >= (1 - expert_right) * SIZE, 1, 0)
        inputs.append(np.tile(np.eye(3, dtype=np.float32)[cell], (SIZE, 1)))
        labels.append(np.ones(SIZE, np.int32))
        answers.append(answer)
        probs.append(np.eye(2)[says])
    return Batch(
        np.concatenate(inputs),
        np.concatenate(labels),
        np.concatenate(answers).astype(np.int32)[:, None],
        class_probs=np.concatenate(probs).astype(np.float32),
    )


def fit(learner, batch, price):
    hparams = {"learning_rate": jnp.float32(0.1), "price": jnp.float32(price)}

    @jax.jit
    def run():
        state = learner.init(jax.random.key(0), hparams, batch)
        state, _ = jax.lax.scan(
            lambda state, _: (learner.update(state, hparams, batch)[0], None),
            state,
            length=500,
        )
        return learner.predict(state.variables, hparams, jnp.eye(3))

    return run()


def test_two_stage_scores_follow_what_answers_cost():
    scores = fit(
        two_stage.make_learner(table(2), optimizers.make_adam()), make_batch(), 0.0
    )
    shares = np.stack([EXPERT, CLASSIFIER], axis=1)
    np.testing.assert_allclose(
        jax.nn.softmax(scores, axis=1),
        shares / shares.sum(axis=1, keepdims=True),
        atol=0.01,
    )


@pytest.mark.parametrize(("price", "asked"), [(0.0, [0, 1, 1]), (0.15, [0, 1, 0])])
@pytest.mark.parametrize("name", ["two_stage", "rejector"])
def test_who_answers_at_a_price(name, price, asked):
    probs = np.eye(2, dtype=np.float32)[[0, 0, 0]]
    if name == "two_stage":
        learner = two_stage.make_learner(table(2), optimizers.make_adam())
        scores = fit(learner, make_batch(), price)
        decision = decisions.two_stage_decision(probs, scores)
    else:
        learner = rejector.make_learner(table(1), optimizers.make_adam())
        decision = decisions.decide(probs, fit(learner, make_batch(), price))
    np.testing.assert_array_equal(decision.allocation[:, 0], asked)


def test_who_was_not_asked_has_no_part():
    batch = make_batch()
    unknown = np.where(np.arange(3 * SIZE)[:, None] % 2 == 0, -1, batch.expert_labels)
    half = batch._replace(
        weights=(np.arange(3 * SIZE) % 2).astype(np.float32),
    )
    hparams = {"price": 0.0}
    outputs = jnp.asarray(np.random.default_rng(0).normal(size=(3 * SIZE, 2)))
    for part in (two_stage, rejector):
        columns = outputs if part is two_stage else outputs[:, :1]
        found, wanted = (
            part.batch_loss(columns, case, hparams, None)
            for case in (batch._replace(expert_labels=unknown), half)
        )
        assert found == pytest.approx(float(wanted), rel=1e-6)


def test_the_classifier_that_is_given():
    probs = np.array([[0.5, 0.5], [0.2, 0.8], [np.nan, 0.9]], np.float32)
    batch = Batch(np.zeros((3, 1)), np.array([0, 0, 1]), class_probs=probs)
    np.testing.assert_array_equal(classifier_right(batch), [True, False, False])
    with pytest.raises(ValueError, match=r"batch\.class_probs is None; give the"):
        classifier_right(batch._replace(class_probs=None))
