"""What learners read of a batch, and that nothing else of it reaches them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from l2d_jax import models, optimizers
from l2d_jax.learners import (
    batches,
    bayesian,
    classifier,
    cost_sensitive,
    deferral,
    expert_model,
    joint,
    mixture,
)
from l2d_jax.types import Batch

pytestmark = pytest.mark.usefixtures("cheap_compiles")

LABELS = np.int32([2, 0, 0])
ANSWERS = np.int32([[2, 0], [1, -1], [0, 1]])


def make_batch(**changes):
    return Batch(np.zeros((3, 4), np.float32), LABELS, ANSWERS)._replace(**changes)


# Whether experts are right.


def test_whether_each_expert_is_right():
    for wrap in (lambda f: f, jax.jit):
        right, known = wrap(lambda b: batches.experts_correct(b, jnp.float16))(
            make_batch()
        )
        assert right.dtype == jnp.float16
        np.testing.assert_array_equal(right, [[1, 0], [0, 0], [1, 0]])
        np.testing.assert_array_equal(known, [[1, 1], [1, 0], [1, 1]])


def test_an_imputed_probability_takes_the_place_of_answers():
    imputed = np.float32([[0.25, 1], [0.5, np.nan], [1, 0]])
    for answers in (ANSWERS, None):
        batch = make_batch(expert_labels=answers, expert_correct=imputed)
        right, known = batches.experts_correct(batch, jnp.float32)
        np.testing.assert_array_equal(right, [[0.25, 1], [0.5, 0], [1, 0]])
        np.testing.assert_array_equal(known, [[1, 1], [1, 0], [1, 1]])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"expert_labels": np.zeros(3, int)},
            r"batch\.expert_labels must have shape \[B, M\], got \(3,\); give a column",
        ),
        (
            {"expert_correct": np.zeros((3, 2, 1))},
            r"batch\.expert_correct must have shape \[B, M\], got \(3, 2, 1\)",
        ),
        (
            {"expert_labels": None},
            r"batch\.expert_labels is None and so is batch\.expert_correct; give an",
        ),
    ],
)
def test_a_batch_without_a_column_for_each_expert(changes, message):
    for function in (batches.experts_correct, batches.one_expert_correct):
        with pytest.raises(ValueError, match=message):
            function(make_batch(**changes), jnp.float32)


def test_one_expert_and_the_weights_of_what_is_known():
    alone = make_batch(expert_labels=ANSWERS[:, 1:])
    right, weights = batches.one_expert_correct(alone, jnp.float32)
    np.testing.assert_array_equal(right, [0, 0, 0])
    np.testing.assert_array_equal(weights, [1, 0, 1])
    weighted = alone._replace(weights=np.float32([0.5, 2, 3]))
    _, weights = batches.one_expert_correct(weighted, jnp.float32)
    np.testing.assert_array_equal(weights, [0.5, 0, 3])
    with pytest.raises(ValueError, match="the batch has 2 experts and this method tak"):
        batches.one_expert_correct(make_batch(), jnp.float32)


# The probability that the expert gives to the label.


def test_an_answer_is_a_smoothed_distribution():
    """Right, wrong and not asked; a wrong answer costs -log(s / (K - 1))."""
    answers = np.int32([[2], [1], [-1]])
    for num_classes, smoothing in ((3, 0.1), (2, 0.1), (5, 0.4)):
        labels = np.minimum(LABELS, num_classes - 1)
        batch = make_batch(
            labels=labels, expert_labels=np.minimum(answers, num_classes - 1)
        )
        prob, weights = jax.jit(
            lambda b, s, k=num_classes: batches.one_expert_label_prob(b, k, s)
        )(batch, smoothing)
        wrong = smoothing / (num_classes - 1)
        np.testing.assert_allclose(prob[:2], [1 - smoothing, wrong], rtol=1e-6)
        np.testing.assert_array_equal(weights, [1, 1, 0])
    # Of an imputed probability of being right the mean: .25 * .9 + .75 * .1 / 2.
    imputed = make_batch(
        expert_labels=None, expert_correct=np.float32([[0.25], [1], [0]])
    )
    prob, weights = batches.one_expert_label_prob(imputed, 3, 0.1)
    np.testing.assert_allclose(prob, [0.2625, 0.9, 0.05], rtol=1e-6)
    np.testing.assert_array_equal(weights, [1, 1, 1])


def test_a_wrong_answer_does_not_cost_the_logarithm_of_nothing():
    batch = Batch(np.zeros((1, 1)), np.array([0]), np.array([[1]]))
    # To pass is certain, so that the loss is the expert's.
    outputs = jnp.array([[0.0, 0.0, 0.0, 60.0]])
    hparams = {"cost": jnp.float32(0.0), "smoothing": jnp.float32(0.1)}
    loss = mixture.make_batch_loss()(outputs, batch, hparams, jax.random.key(0))
    np.testing.assert_allclose(loss, -np.log(0.05), rtol=1e-5)  # 3 nats, and not 27.


def test_the_experts_own_probabilities_come_first():
    probs = np.float32([[[0.2, 0.3, 0.5]], [[0.6, 0.3, 0.1]], [[0, 1, 0]]])
    batch = make_batch(expert_probs=probs, weights=np.float32([1, 2, 3]))
    prob, weights = batches.one_expert_label_prob(batch, 3)
    np.testing.assert_allclose(prob, [0.5, 0.6, 0.0], rtol=1e-6)
    np.testing.assert_array_equal(weights, [1, 2, 3])
    for shape in ((3, 2, 3), (3, 1, 2), (3, 3)):
        wrong = batch._replace(expert_probs=np.zeros(shape, np.float32))
        with pytest.raises(ValueError, match=r"\[B, 1, K\] with K = 3, got shape"):
            batches.one_expert_label_prob(wrong, 3)


# Means and rows.


def test_weighted_mean_by_hand():
    values = jnp.array([1.0, 2.0, 4.0])
    np.testing.assert_allclose(batches.weighted_mean(values, None), 7 / 3, rtol=1e-6)
    weights = np.float32([3, 1, 0])
    assert batches.weighted_mean(values, weights) == 5 / 4
    for behind in (np.nan, np.inf):
        assert batches.weighted_mean(values.at[2].set(behind), weights) == 5 / 4
    assert batches.weighted_mean(values * np.nan, np.zeros(3)) == 0
    # A NaN that counts is no mean.
    assert np.isnan(batches.weighted_mean(values.at[0].set(np.nan), weights))


def test_rows_of_weight_0_are_blank():
    weights = np.float32([1, 0, 0.5])
    batch = Batch(
        np.full((3, 2, 2), np.nan),
        np.int32([1, 7, 2]),
        ANSWERS,
        groups=np.int32([1, 1, 1]),
        weights=weights,
        expert_correct=np.full((3, 2), 0.5),
        expert_probs=np.full((3, 2, 3), 1 / 3),
    )
    blank = batches.blank_unweighted(batch)
    for name, leaf in blank._asdict().items():
        given = getattr(batch, name)
        if given is None:
            assert leaf is None
            continue
        assert leaf.dtype == jnp.asarray(given).dtype
        np.testing.assert_array_equal(leaf[::2], jnp.asarray(given)[::2])
        np.testing.assert_array_equal(leaf[1], -1 if name == "expert_labels" else 0)
    assert batches.blank_unweighted(make_batch()) is not None
    alone = make_batch()
    assert batches.blank_unweighted(alone) is alone


def test_take_is_of_every_column():
    batch = make_batch(weights=np.float32([1, 2, 3]))
    taken = batches.take(batch, np.array([2, 0, 2]))
    np.testing.assert_array_equal(taken.labels, [0, 2, 0])
    np.testing.assert_array_equal(taken.expert_labels, [[0, 1], [2, 0], [0, 1]])
    np.testing.assert_array_equal(taken.weights, [3, 1, 3])
    assert taken.costs is None


# Padding.


def all_learners():
    def sgd(hparams):
        return optimizers.make_plain_sgd()(hparams)

    def net(outputs):
        return models.mlp((3,), outputs)

    fair = {"regularized": True}
    return {
        "deferral": deferral.make_learner(net(3), sgd, **fair),
        "classifier": classifier.make_learner(net(2), sgd, **fair),
        "expert_model": expert_model.make_learner(net(1), sgd),
        "cost_sensitive": cost_sensitive.make_learner(net(3), sgd),
        "mixture": mixture.make_learner(net(2), sgd, sampled=True, **fair),
        "mixture of classes": mixture.make_learner(net(3), sgd),
        "rejection": mixture.make_learner(net(2), sgd, objective="reject", **fair),
        "bayesian": bayesian.make_learner(net(1), sgd, num_examples=8, **fair),
        "joint": joint.make_learner(net(2), net(1), sgd),
        "balanced": joint.make_learner(net(2), net(2), sgd, 2, objective="balanced"),
        "minimax": joint.make_minimax_learner(
            net(2), net(1), sgd, 2, num_rounds=2, steps_per_round=2
        ),
    }


HPARAMS = {
    "learning_rate": 0.5,
    "alpha": 0.5,
    "fairness": 0.3,
    "cost": 0.1,
    "price": 0.1,
    "smoothing": 0.1,
    "dropout": 0.3,
    "cost_weight": 0.1,
    "step_exponent": 0.5,
}
HPARAMS = {name: np.float32(value) for name, value in HPARAMS.items()}


@pytest.mark.long
@pytest.mark.parametrize("name", all_learners())
def test_what_padding_holds_reaches_no_loss_and_no_update(name):
    """Bitwise: numbers that are none, and labels and answers that are no class."""
    learner = all_learners()[name]
    generator = np.random.default_rng(0)
    unused = np.arange(12) % 3 == 1
    clean = Batch(
        generator.normal(size=(12, 2)).astype(np.float32),
        generator.integers(0, 2, 12).astype(np.int32),
        generator.integers(0, 2, (12, 1)).astype(np.int32),
        generator.integers(0, 2, 12).astype(np.int32),
        np.where(unused, 0, generator.uniform(0.5, 2, 12)).astype(np.float32),
    )
    filled = Batch(
        np.where(unused[:, None], np.float32(np.nan), clean.inputs),
        np.where(unused, np.int32(-1), clean.labels),
        np.where(unused[:, None], np.int32(5), clean.expert_labels),
        np.where(unused, np.int32(9), clean.groups),
        clean.weights,
    )

    @jax.jit
    def two_steps(batch):
        state = learner.init(jax.random.key(0), HPARAMS, clean)
        losses = []
        for _ in range(2):
            state, metrics = learner.update(state, HPARAMS, batch)
            losses.append(metrics["loss"])
        start = learner.init(jax.random.key(0), HPARAMS, clean).variables
        return losses, state.variables, start

    ours, theirs = two_steps(clean), two_steps(filled)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(theirs))
    jax.tree.map(np.testing.assert_array_equal, ours[:2], theirs[:2])
    # And it did train.
    after, before = (jax.tree.leaves(tree) for tree in theirs[1:])
    assert max(np.abs(a - b).max() for a, b in zip(after, before, strict=True)) > 1e-3
