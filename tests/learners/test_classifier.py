"""A classifier by K logits, or by one of two classes; and its price of disparity."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from l2d_jax import fairness, models, optimizers
from l2d_jax.learners import classifier
from l2d_jax.types import Batch

pytestmark = pytest.mark.usefixtures("cheap_compiles")

KEY = jax.random.key(3)


def random_case(num_outputs, seed=0, size=40):
    generator = np.random.default_rng(seed)
    outputs = (2 * generator.normal(size=(size, num_outputs))).astype(np.float32)
    labels = generator.integers(0, max(num_outputs, 2), size).astype(np.int32)
    groups = generator.integers(0, 2, size).astype(np.int32)
    weights = generator.uniform(size=size).astype(np.float32)
    return outputs, Batch(np.zeros((size, 1)), labels, groups=groups, weights=weights)


def oracle_probs(outputs):
    """In float64."""
    logits = np.float64(outputs)
    if logits.shape[1] == 1:
        logits = np.concatenate([0 * logits, logits], axis=1)
    exp = np.exp(logits - logits.max(1, keepdims=True))
    return exp / exp.sum(1, keepdims=True)


def oracle_loss(outputs, batch, weight_of_fairness):
    probs = oracle_probs(outputs)
    nll = -np.log(probs[np.arange(len(probs)), batch.labels])
    gaps = []
    for label in (0, 1):
        misses = []
        for group in (0, 1):
            cell = (batch.labels == label) & (batch.groups == group)
            miss = np.abs(probs[:, 1] - label)
            misses.append(np.average(miss[cell], weights=batch.weights[cell]))
        gaps.append(abs(misses[0] - misses[1]))
    unfair = 0.5 * sum(gaps) if weight_of_fairness else 0.0
    return np.average(nll, weights=batch.weights) + weight_of_fairness * unfair


@pytest.mark.parametrize(
    ("num_outputs", "weight"),
    [(1, 0.0), (1, 0.4), (1, -0.1), (2, 0.4), (4, 0.0)],  # Disparity is of two classes.
)
def test_loss_and_score_agree_with_the_oracle(num_outputs, weight):
    outputs, batch = random_case(num_outputs)
    hparams = {"fairness": jnp.float32(weight)}
    expected = oracle_loss(outputs, batch, weight)
    for regularized in {bool(weight), num_outputs < 4}:
        loss_fn = classifier.make_batch_loss(regularized=regularized)
        score = classifier.loss_score(regularized=regularized)

        @jax.jit
        def both(outputs, loss_fn=loss_fn, score=score):
            probs = classifier.class_probs(outputs)
            return (
                loss_fn(outputs, batch, hparams, KEY),
                -score(probs, batch, hparams),
                probs,
            )

        loss, minus_score, probs = both(outputs)
        np.testing.assert_allclose(loss, expected, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(minus_score, expected, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(probs, oracle_probs(outputs), rtol=1e-5, atol=1e-7)


def test_one_logit_is_two_of_which_one_is_0():
    outputs, batch = random_case(1)
    two = np.concatenate([0 * outputs, outputs], axis=1)
    np.testing.assert_allclose(
        classifier.label_nll(outputs, batch.labels),
        classifier.label_nll(two, batch.labels),
        rtol=1e-5,
        atol=1e-6,
    )


@pytest.mark.parametrize("num_outputs", [1, 3])
def test_a_label_that_is_no_class_is_not_passed_over(num_outputs):
    """As 2 is none of one logit: the loss says so, of its row alone."""
    outputs = np.zeros((3, num_outputs), np.float32)
    bad = 2 if num_outputs == 1 else 3
    for label in (bad, -1):
        labels = np.int32([0, label, 1])
        nll = classifier.label_nll(outputs, labels)
        np.testing.assert_array_equal(np.isnan(nll), [False, True, False])
        batch = Batch(np.zeros((3, 1)), labels)
        loss = classifier.make_batch_loss()(outputs, batch, {}, KEY)
        assert np.isnan(loss)
        padded = batch._replace(weights=np.float32([1, 0, 1]))
        assert np.isfinite(classifier.make_batch_loss()(outputs, padded, {}, KEY))


def test_score_at_large_logits():
    """Likelihoods keep their digits where a probability is near 0 or near 1."""
    score = classifier.loss_score()
    for logit, label, expected in (
        (-60.0, 1, 60.0),
        (20.0, 1, np.exp(-20.0)),
        (60.0, 0, 60.0),
        (-20.0, 0, np.exp(-20.0)),
    ):
        batch = Batch(np.zeros((1, 1)), np.array([label]))
        probs = classifier.class_probs(jnp.array([[logit]]))
        ours = score(probs, batch, {})
        np.testing.assert_allclose(ours, -expected, rtol=1e-4, atol=0)


@pytest.mark.parametrize("num_outputs", [1, 2, 3])
def test_finite_at_extreme_logits(num_outputs):
    outputs = 1e4 * np.sign(np.random.default_rng(0).normal(size=(32, num_outputs)))
    labels = (np.arange(32) % max(num_outputs, 2)).astype(np.int32)
    groups = (np.arange(32) // 4 % 2).astype(np.int32)
    batch = Batch(np.zeros((32, 1), np.float32), labels, groups=groups)
    fair = num_outputs < 3
    hparams = {"fairness": jnp.float32(0.4)}
    loss_fn = classifier.make_batch_loss(regularized=fair)
    loss, slope = jax.jit(jax.value_and_grad(loss_fn))(
        outputs.astype(np.float32), batch, hparams, KEY
    )
    assert np.isfinite(loss)
    assert np.isfinite(slope).all()
    probs = classifier.class_probs(jnp.asarray(outputs))
    score = classifier.loss_score(regularized=fair)(probs, batch, hparams)
    assert np.isfinite(score)


def test_fairness_zero_is_not_regularized():
    outputs, batch = random_case(1, 3)
    hparams = {"fairness": jnp.float32(0.0)}
    (plain, slope), ours = (
        jax.jit(jax.value_and_grad(classifier.make_batch_loss(regularized=fair)))(
            outputs, batch, hparams, KEY
        )
        for fair in (False, True)
    )
    np.testing.assert_allclose(ours[0], plain, rtol=1e-6, atol=0)
    np.testing.assert_allclose(ours[1], slope, rtol=1e-6, atol=1e-8)


def test_a_group_that_never_occurs_adds_nothing():
    outputs, batch = random_case(1, 4)
    alone = batch._replace(groups=np.zeros_like(batch.groups))
    loss_fn = classifier.make_batch_loss(regularized=True)
    hparams = {"fairness": jnp.float32(0.4)}
    ours, slope = jax.jit(jax.value_and_grad(loss_fn))(outputs, alone, hparams, KEY)
    plain = classifier.make_batch_loss()(outputs, batch, {}, KEY)
    np.testing.assert_allclose(ours, plain, rtol=1e-6, atol=0)
    assert np.isfinite(slope).all()


def test_disparity_needs_groups():
    outputs, batch = random_case(1)
    alone, hparams = batch._replace(groups=None), {"fairness": jnp.float32(0.4)}
    with pytest.raises(ValueError, match=r"batch\.groups is None"):
        classifier.make_batch_loss(regularized=True)(outputs, alone, hparams, KEY)
    probs = classifier.class_probs(jnp.asarray(outputs))
    with pytest.raises(ValueError, match=r"batch\.groups is None"):
        classifier.loss_score(regularized=True)(probs, alone, hparams)


def test_a_regularized_classifier_treats_groups_alike():
    """Group 1 is predicted by an input of its own; the price takes the gap away."""
    generator = np.random.default_rng(0)
    labels, groups = generator.integers(0, 2, (2, 2000)).astype(np.int32)
    evidence = generator.normal(size=2000) + 1.5 * (2 * labels - 1) * (groups == 1)
    inputs = np.stack([evidence, groups], axis=1).astype(np.float32)
    batch = Batch(inputs, labels, groups=groups)
    learner = classifier.make_learner(
        models.mlp((), 1), optimizers.make_adam(), regularized=True
    )

    @jax.jit
    def gap(weight):
        hparams = {"fairness": weight, "learning_rate": jnp.float32(0.05)}
        state, _ = jax.lax.scan(
            lambda state, _: (learner.update(state, hparams, batch)[0], None),
            learner.init(jax.random.key(0), hparams, batch),
            length=200,
        )
        probs = learner.predict(state.variables, hparams, inputs)
        return fairness.equalized_odds_regularizer(probs[:, 1], labels, groups)

    gaps = [gap(jnp.float32(weight)) for weight in (1.0, 0.0, -0.1)]
    assert gaps[0] < 0.5 * gaps[1] < gaps[1] < gaps[2]
