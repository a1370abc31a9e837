import jax
import numpy as np

from l2d_jax.table import networks
from l2d_jax.table.methods import METHODS
from tests.table.conftest import SHORT


def make_part(size, seed, num_folds=3):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, size).astype(np.int32)
    inputs = rng.normal(size=(size, 3)).astype(np.float32)
    probs = np.full((size, 2), 0.5, np.float32)
    # Each fold's column of people says which fold it is of.
    correct = np.broadcast_to(
        np.arange(num_folds)[:, None, None] / 10, (num_folds, size, 2)
    ).astype(np.float32)
    folds = rng.permutation(np.arange(size) % num_folds)
    return networks.Part(
        inputs, labels, probs, correct, np.ones(size, np.float32), folds
    )


def test_each_network_sees_what_is_known_without_its_fold():
    parts = [make_part(20, 0), make_part(23, 1)]
    pool, folds = networks._pool(parts), networks._split(parts, 0)
    assert len(folds) == 6
    assert len({(len(fold.train), len(fold.valid)) for fold in folds}) == 1
    for number, fold in enumerate(folds):
        part, left_out = parts[number // 3], number % 3
        rows = np.concatenate(fold)
        np.testing.assert_allclose(pool.expert_correct[rows], left_out / 10)
        expected = part.inputs[part.folds != left_out]
        # All of them, and nothing else; some stand in twice so that all are as many.
        seen = {tuple(row) for row in pool.inputs[rows]}
        assert seen == {tuple(row) for row in expected}
        assert not set(fold.train) & set(fold.valid)


def test_of_a_very_large_part_some_cases_are_enough(monkeypatch):
    monkeypatch.setattr(networks, "_ENOUGH_CASES", 12)
    parts = [make_part(20, 0), make_part(15, 1)]
    pool, folds = networks._pool(parts), networks._split(parts, 0)
    # Of 20 cases there are 13 or 14 without a fold, and 10 of 15.
    assert len(pool.labels) == 3 * 12 + 3 * 10
    for number, fold in enumerate(folds):
        part, left_out = parts[number // 3], number % 3
        rows = np.concatenate(fold)
        np.testing.assert_allclose(pool.expert_correct[rows], left_out / 10)
        seen = {tuple(row) for row in pool.inputs[rows]}
        assert len(seen) == (12, 10)[number // 3]
        assert seen <= {tuple(row) for row in part.inputs[part.folds != left_out]}


def test_networks_come_back_by_part():
    parts = [make_part(40, 0), make_part(43, 1)]
    found = networks.train(METHODS["two_stage"], parts, 0.0, SHORT, 0)
    assert len(found) == 2
    assert {leaf.shape[0] for leaf in jax.tree.leaves(found)} == {3}
    model = networks.network(METHODS["two_stage"], 2, 2, SHORT)
    each = [
        model.apply(
            jax.tree.map(lambda leaf, n=n: leaf[n], found[0]),
            {},
            parts[0].inputs,
            False,
        )[0]
        for n in range(3)
    ]
    mean = networks.mean_outputs(model, found[0], parts[0].inputs)
    np.testing.assert_allclose(mean, np.mean(each, axis=0), atol=1e-6)
