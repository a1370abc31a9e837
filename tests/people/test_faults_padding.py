"""A row of weight 0 counts for nothing, whatever it holds, in every model of people."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from l2d_jax import augmentation, models, optimizers
from l2d_jax.learners import classifier, expert_model, joint
from l2d_jax.people import finetuning, hierarchical, population
from l2d_jax.types import Batch, Dataset

pytestmark = pytest.mark.usefixtures("cheap_compiles")

generator = np.random.default_rng(0)


def draw(*shape):
    return generator.normal(size=shape).astype(np.float32)


def with_nan(*values, row=1):
    changed = [np.array(value) for value in values]
    for value in changed:
        value[..., row, :] = np.nan
    return changed


def assert_same(found, expected):
    for leaf in jax.tree.leaves(expected):
        assert np.isfinite(leaf).all()
    jax.tree.map(np.testing.assert_array_equal, found, expected)


WEIGHTS = np.array([1, 0, 2, 1, 1, 0.5], np.float32)


def test_hierarchical():
    features, targets = draw(4, 6, 2), draw(4, 6)
    weights = np.tile(WEIGHTS, (4, 1))
    bad, worse = with_nan(features, targets[..., None])
    fit, infer = map(jax.jit, (hierarchical.fit_population, hierarchical.posterior))
    expected = fit(features, targets, weights)
    assert_same(fit(bad, worse[..., 0], weights), expected)
    assert_same(
        infer(expected, bad[0], worse[0, :, 0], WEIGHTS),
        infer(expected, features[0], targets[0], WEIGHTS),
    )


def test_population():
    base, psi, scales = draw(6), draw(6, 2), np.abs(draw(3, 2))
    correct = (draw(6) > 0).astype(np.float32)
    infer = jax.jit(population.infer)
    bad = with_nan(base[:, None], psi, correct[:, None])
    assert_same(
        infer(bad[0][:, 0], bad[1], bad[2][:, 0], WEIGHTS, scales),
        infer(base, psi, correct, WEIGHTS, scales),
    )
    evidence, learn = draw(6, 3), jax.jit(population.learn_proportions)
    assert_same(learn(*with_nan(evidence), WEIGHTS), learn(evidence, WEIGHTS))


def test_means_of_groups():
    values, groups = draw(6), np.array([0, 1, 0, 1, 1, 0])
    (bad,) = with_nan(values[:, None])
    assert_same(
        joint.group_means(bad[:, 0], groups, WEIGHTS, 2),
        joint.group_means(values, groups, WEIGHTS, 2),
    )


def person(inputs, weights):
    labels = np.zeros(len(inputs), np.int32)
    right = (np.arange(len(inputs)) % 2).astype(np.float32)
    correct = np.where(weights > 0, right, np.nan)[:, None].astype(np.float32)
    return Dataset(inputs, labels, weights=weights, expert_correct=correct)


def test_self_training():
    """Padding among the person's examples and among those nobody answered."""
    learner = expert_model.make_learner(models.mlp((4,), 1), optimizers.make_adam())
    hparams = {"learning_rate": jnp.float32(0.1), "threshold": jnp.float32(0.5)}
    order = np.arange(6).reshape(1, 2, 3)
    both = np.arange(12).reshape(1, 4, 3)

    def imitate(prob, unlabelled):
        right = (prob >= 0.5).astype(jnp.float32)
        confidence = jnp.maximum(prob, 1 - prob)[:, 0]
        return unlabelled._replace(expert_correct=right), confidence

    @jax.jit
    def fit(own, others):
        return finetuning.self_train(
            *(learner, hparams, jax.random.key(0)),
            *(person(own, WEIGHTS), person(others, WEIGHTS)),
            *(order, both, imitate),
        )

    own, others = draw(6, 2), draw(6, 2)
    expected = fit(own, others)
    assert expected.num_selected == 5
    assert_same(fit(*with_nan(own, others)), expected)


def wide_resnet():
    return models.wide_resnet(10, 1, 2, stem_stride=2)


@pytest.mark.long
@pytest.mark.parametrize("augments", [False, True])
def test_statistics_of_a_layer_are_of_what_counts(augments):
    """As if the row were not there, whatever it holds; also if it is augmented."""
    augment = augmentation.random_crop_and_flip if augments else None
    learner = classifier.make_learner(
        wide_resnet(), optimizers.make_plain_sgd(), augment=augment
    )
    hparams = {"learning_rate": jnp.float32(0.1)}
    images = draw(5, 8, 8, 3)
    labels, weights = np.arange(5) % 2, np.array([1, 1, 1, 1, 0], np.float32)
    state = learner.init(jax.random.key(0), hparams, Batch(images, labels))

    @jax.jit
    def statistics(images, labels, weights):
        batch = Batch(images, labels, weights=weights)
        state_after, measured = learner.update(state, hparams, batch)
        return measured["loss"], state_after.variables

    expected = statistics(images, labels, weights)
    images[4], labels[4] = np.nan, -1
    assert_same(statistics(images, labels, weights), expected)
    if not augments:
        alone = statistics(images[:4], labels[:4], weights[:4])
        for ours, theirs in zip(*map(jax.tree.leaves, (expected, alone)), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-5)
    nothing = statistics(images, labels, 0 * weights)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(nothing))
    assert nothing[0] == 0.0
