"""Simulated clusters: who knows what, and what is thought of them."""

import jax
import numpy as np
import pytest

from l2d_jax.simulate import clusters

pytestmark = pytest.mark.usefixtures("cheap_compiles")

TOL = {"rtol": 1e-5, "atol": 1e-6}
Z, N, M = 3, 800, 5


@pytest.fixture(scope="module")
def simulate():
    return jax.jit(clusters.simulate, static_argnums=(1, 2, 3))


@pytest.fixture(scope="module")
def drawn(simulate):
    return jax.device_get(simulate(jax.random.key(0), Z, N, M, 0.9, 0.2))


def test_accuracies(drawn):
    tasks = drawn.tasks
    np.testing.assert_array_equal(drawn.knows, [0, 1, 2, 0, 1])
    right = tasks.answers == tasks.labels[:, None]
    for cluster in range(Z):
        for annotator in range(M):
            expected = 0.9 if drawn.knows[annotator] == cluster else 0.2
            share = right[tasks.categories == cluster, annotator].mean()
            error = np.sqrt(expected * (1 - expected) / N)
            assert abs(share - expected) <= 4 * error
    assert set(np.unique(tasks.answers)) == set(np.unique(tasks.labels)) == {0, 1}


def test_labels_are_coins_that_the_place_says_nothing_about(drawn):
    tasks = drawn.tasks
    for cluster in range(Z):
        share = tasks.labels[tasks.categories == cluster].mean()
        assert abs(share - 0.5) <= 4 * np.sqrt(0.25 / N)
    for axis in range(2):
        related = np.corrcoef(tasks.features[:, axis], tasks.labels)[0, 1]
        assert abs(related) <= 4 / np.sqrt(Z * N)


def test_the_first_one_right_and_always_so_by_default(simulate):
    tasks = jax.device_get(simulate(jax.random.key(1), 3, 40, 3)).tasks
    own = np.arange(3) == tasks.categories[:, None]
    right = tasks.answers == tasks.labels[:, None]
    assert right[own].all()
    assert abs(right[~own].mean() - 0.2) <= 4 * np.sqrt(0.16 / 240)


def test_places_are_standardized_and_clusters_equally_large(drawn):
    tasks = drawn.tasks
    np.testing.assert_allclose(tasks.features.mean(axis=0), 0, rtol=0, atol=1e-5)
    np.testing.assert_allclose(tasks.features.std(axis=0), 1, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(np.bincount(tasks.categories), [N] * Z)
    # In random order: no cluster comes first.
    first = np.bincount(tasks.categories[:N], minlength=Z) / N
    assert (np.abs(first - 1 / Z) <= 4 * np.sqrt(2 / 9 / N)).all()
    # Equally far from each other, and alike.
    parts = [tasks.features[tasks.categories == cluster] for cluster in range(Z)]
    centers = np.array([part.mean(axis=0) for part in parts])
    spreads = np.array([part.std(axis=0) for part in parts])
    steps = np.diff(centers, axis=0)
    # Of a difference of two means, each with standard error spread / sqrt(N).
    error = 4 * spreads.max(axis=0) * np.sqrt(6 / N)
    assert (np.abs(steps[0] - steps[1]) <= error).all()
    assert (steps > 0.2).all()
    np.testing.assert_allclose(spreads[1:], spreads[:1].repeat(2, 0), rtol=0.15, atol=0)


def test_the_key_decides(simulate):
    one, again, other = (
        simulate(jax.random.key(key), 2, 5, 2).tasks for key in (0, 0, 1)
    )
    jax.tree.map(np.testing.assert_array_equal, one, again)
    assert not np.array_equal(one.features, other.features)


def test_annotators_by_hand():
    thought = np.array([1, 0])
    annotators = clusters.make_annotators(thought, 3, 0.8)
    np.testing.assert_allclose(
        annotators.similarity, [[0.1, 0.8, 0.1], [0.8, 0.1, 0.1]], **TOL
    )
    np.testing.assert_array_equal(annotators.pools, thought)
    nothing = clusters.make_annotators(thought, 3, 1 / 3)
    np.testing.assert_allclose(nothing.similarity, np.full((2, 3), 1 / 3), **TOL)
    certain = clusters.make_annotators(thought, 3, 1.0)
    np.testing.assert_array_equal(certain.similarity, [[0, 1, 0], [1, 0, 0]])


def test_the_share_of_the_misplaced_is_exact(drawn):
    thought = np.arange(12) % 3
    chance = np.random.default_rng(0).random(12, np.float32)
    misplace = jax.jit(clusters.misplace, static_argnums=2)
    for share in (0.0, 1 / 12, 0.25, 1 / 3, 0.5, 1.0):
        ours = np.asarray(misplace(chance, thought, 3, share))
        wrong = ours != thought
        assert wrong.sum() == round(12 * share)
        np.testing.assert_array_equal(ours[wrong], (thought[wrong] + 1) % 3)
        # More of the same chance are more of the same annotators.
        assert set(np.flatnonzero(wrong)) == set(np.argsort(chance)[: wrong.sum()])
    # Who has the same draw is misplaced together, or nobody of them.
    tied = np.asarray(misplace(np.float32([0.5, 0.2, 0.5]), thought[:3], 3, 2 / 3))
    np.testing.assert_array_equal(tied != thought[:3], [True, True, True])
    # The draws that a simulation has for it.
    assert drawn.chance.shape == (M,) and len(set(drawn.chance)) == M
    assert (drawn.chance >= 0).all() and (drawn.chance < 1).all()


def test_misplaced_by_hand():
    chance = np.array([0.9, 0.1, 0.5, 0.3])
    ours = clusters.misplace(chance, np.array([0, 2, 1, 0]), 3, 0.5)
    np.testing.assert_array_equal(ours, [0, 0, 1, 1])
