"""The search for thresholds, against a search that passes over all examples."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from l2d_jax.policies import thresholds as policy
from l2d_jax.policies.thresholds import Thresholds

pytestmark = pytest.mark.usefixtures("cheap_compiles")

KEY = jax.random.key(0)
# Few programs, each compiled once.
SEARCH = jax.jit(policy.search, static_argnames=("num_draws", "per_group"))
DRAW = jax.jit(policy._draw, static_argnums=(4, 5))
LOSSES = jax.jit(policy._losses)


def random_part(seed, size=80):
    generator = np.random.default_rng(seed)
    # Coarse, so that scores and thresholds tie.
    scores = (generator.integers(0, 21, size) / 20).astype(np.float32)
    labels, groups = generator.integers(0, 2, (2, size))
    expert_probs = generator.uniform(0.05, 0.95, size).astype(np.float32)
    return scores, labels, groups, expert_probs


def oracle_loss(thresholds, scores, labels, groups, expert_probs, cost, alpha):
    """Loss of the system on part a, from its definition, in float64."""
    scores = np.float64(scores)
    passed = (thresholds.t0[groups] < scores) & (scores < thresholds.t1[groups])

    def cross_entropy(probs):
        of_label = np.where(labels == 1, probs, 1 - probs)
        return -np.log(np.maximum(of_label, 1e-12))

    own = cross_entropy(scores)
    system = scores
    if expert_probs is None:
        losses = np.where(passed, cost, own)
    else:
        losses = np.where(passed, cross_entropy(np.float64(expert_probs)) + cost, own)
        system = np.where(passed, expert_probs, scores)
    disparity = 0.0
    for label in (0, 1):
        cells = [(labels == label) & (groups == group) for group in (0, 1)]
        if all(cell.any() for cell in cells):
            rates = [np.abs(system - label)[cell].mean() for cell in cells]
            disparity += abs(rates[0] - rates[1]) / 2
    return losses.mean() + alpha * disparity


@pytest.mark.long
@pytest.mark.parametrize("with_expert", [True, False])
@pytest.mark.parametrize("per_group", [True, False])
def test_the_draw_of_least_loss_is_chosen(with_expert, per_group):
    scores, labels, groups, expert_probs = random_part(0)
    expert_probs = expert_probs if with_expert else None
    train_scores, _, train_groups, _ = random_part(1)
    for cost, alpha in ((0.0, 0.0), (0.3, 0.0), (0.1, 2.0), (0.1, -0.1)):
        found = SEARCH(
            KEY,
            train_scores,
            train_groups,
            scores,
            labels,
            groups,
            expert_probs,
            cost,
            alpha,
            num_draws=1000,
            per_group=per_group,
        )
        everyone = np.full(train_scores.shape, True)
        draws = DRAW(KEY, train_scores, train_groups, everyone, 1000, per_group)
        draws = jax.tree.map(np.asarray, draws)
        losses = [
            oracle_loss(
                Thresholds(*pair), scores, labels, groups, expert_probs, cost, alpha
            )
            for pair in zip(*draws, strict=True)
        ]
        same = np.ones_like(scores)
        ours = LOSSES(draws, scores, labels, groups, expert_probs, same, cost, alpha)
        np.testing.assert_allclose(ours, losses, rtol=1e-5, atol=1e-5)
        found = jax.tree.map(np.asarray, found)
        reached = oracle_loss(found, scores, labels, groups, expert_probs, cost, alpha)
        np.testing.assert_allclose(reached, min(losses), rtol=1e-5, atol=1e-5)
        if not per_group:
            assert found.t0[0] == found.t0[1]
            assert found.t1[0] == found.t1[1]


def test_draws_are_training_scores_of_their_side_and_group():
    scores = np.float32([0.1, 0.2, 0.7, 0.5, 0.3, 0.8, 0.9, 0.5])
    groups = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    everyone = np.full(8, True)
    draws = DRAW(KEY, scores, groups, everyone, 4000, True)
    for column, allowed in (
        (draws.t0[:, 0], {0.1: 0.5, 0.2: 0.5}),
        (draws.t1[:, 0], {0.7: 1.0}),
        (draws.t0[:, 1], {0.3: 1.0}),
        (draws.t1[:, 1], {0.8: 0.5, 0.9: 0.5}),
    ):
        values, counts = np.unique(column, return_counts=True)
        np.testing.assert_allclose(values, list(allowed), rtol=1e-6, atol=0)
        # Each score alike: the standard error is 0.008.
        np.testing.assert_allclose(counts / 4000, list(allowed.values()), atol=0.04)
    shared = DRAW(KEY, scores, groups, everyone, 4000, False)
    np.testing.assert_allclose(np.unique(shared.t0), [0.1, 0.2, 0.3], rtol=1e-6, atol=0)
    np.testing.assert_array_equal(shared.t0[:, 0], shared.t0[:, 1])


@pytest.mark.parametrize("with_expert", [True, False])
def test_a_weight_is_so_many_examples(with_expert):
    scores, labels, groups, expert_probs = random_part(2)
    times = np.arange(len(scores)) % 3

    def losses(index, weights):
        mine = [column[index] for column in (scores, labels, groups, expert_probs)]
        if not with_expert:
            mine[-1] = None
        draws = Thresholds(np.full((4, 2), [0.1, 0.4]), np.full((4, 2), [0.9, 0.6]))
        return LOSSES(draws, *mine, weights, 0.1, 0.5)

    found = losses(np.arange(len(scores)), np.float32(times))
    repeated = np.repeat(np.arange(len(scores)), times)
    expected = losses(repeated, np.ones(len(repeated), np.float32))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_a_weight_of_0_counts_for_nothing_whatever_its_row_holds():
    scores, labels, groups, expert_probs = random_part(3)
    counts = np.arange(len(scores)) % 4 > 0

    def search(rows, weights=None):
        columns = [column[rows] for column in (scores, groups)]
        return policy.search(
            KEY,
            *columns,
            *(column[rows] for column in (scores, labels, groups, expert_probs)),
            0.1,
            0.5,
            50,
            weights_train=weights,
            weights_a=weights,
        )

    expected = search(counts)
    scores = np.where(counts, scores, np.nan)
    expert_probs = np.where(counts, expert_probs, -7.0)
    labels, groups = (np.where(counts, column, -1) for column in (labels, groups))
    found = search(slice(None), np.float32(counts))
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_apply_by_hand():
    thresholds = Thresholds(jnp.array([0.2, 0.5]), jnp.array([0.7, 0.6]))
    scores = np.float32([0.2, 0.21, 0.5, 0.7, 0.69, 0.5, 0.55, 0.6, 0.1, 0.9])
    groups = np.array([0, 0, 0, 0, 0, 1, 1, 1, 1, 1])
    expected = [False, True, True, False, True, False, True, False, False, False]
    for wrap in (lambda f: f, jax.jit):
        ours = wrap(policy.apply_thresholds)(thresholds, scores, groups)
        assert ours.dtype == bool
        np.testing.assert_array_equal(ours, expected)


def test_an_expert_of_one_group_is_asked_where_the_classifier_is_unsure():
    """Group 0's expert knows all, group 1's little; scores near 1/2 are a coin."""
    generator = np.random.default_rng(0)
    levels = np.float32([0.05, 0.3, 0.45, 0.55, 0.7, 0.95])
    scores = levels[generator.integers(0, 6, 2000)]
    groups = generator.integers(0, 2, 2000)
    unsure = np.abs(scores - 0.5) < 0.3
    labels = np.where(unsure, generator.random(2000) < 0.5, scores > 0.5).astype(int)
    right = np.where(groups == 0, 0.95, 0.2)
    expert_probs = np.where(labels == 1, right, 1 - right).astype(np.float32)
    found = SEARCH(KEY, scores, groups, scores, labels, groups, expert_probs, 0.3, 0.0)
    np.testing.assert_allclose(found.t0, [0.05, 0.45], rtol=1e-6, atol=0)
    np.testing.assert_allclose(found.t1, [0.95, 0.55], rtol=1e-6, atol=0)
    passed = policy.apply_thresholds(found, scores, groups)
    np.testing.assert_array_equal(passed, unsure & (groups == 0))


def test_a_constant_expert_makes_deferring_rejecting():
    scores, labels, groups, _ = random_part(2)
    expert_probs = np.where(labels == 1, 0.8, 0.2).astype(np.float32)
    defer = SEARCH(KEY, scores, groups, scores, labels, groups, expert_probs, 0.1, 0.0)
    price = 0.1 - np.log(0.8)
    reject = SEARCH(KEY, scores, groups, scores, labels, groups, None, price, 0.0)
    for ours, theirs in zip(defer, reject, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_no_score_on_a_side_leaves_one_half():
    scores, labels, groups, expert_probs = random_part(3)
    # All training scores of group 0 are high, and group 1 has none.
    train = np.float32([0.6, 0.9, 0.5])
    found = SEARCH(
        KEY, train, np.zeros(3, int), scores, labels, groups, expert_probs, 0.1, 0.1
    )
    assert found.t0[0] == 0.5
    assert found.t1[0] in train
    assert found.t0[1] == found.t1[1] == 0.5
    none = SEARCH(
        KEY, train[:0], groups[:0], scores, labels, groups, expert_probs, 0.1, 0.1
    )
    np.testing.assert_array_equal(none.t0, [0.5, 0.5])
    np.testing.assert_array_equal(none.t1, [0.5, 0.5])
    assert not policy.apply_thresholds(none, scores, groups).any()


def test_certain_scores_and_a_group_that_never_occurs():
    scores = np.float32([0, 0, 1, 1, 0, 1, 0.4, 0.6] * 10)
    labels = np.array([0, 1, 0, 1, 0, 1, 1, 0] * 10)
    groups = np.zeros(80, int)
    expert_probs = np.float32([0, 1, 0, 1, 1, 0, 1, 0] * 10)
    same = np.ones_like(scores)
    draws = DRAW(KEY, scores, groups, same > 0, 1000, True)
    losses = LOSSES(draws, scores, labels, groups, expert_probs, same, 0.1, 0.5)
    assert np.isfinite(losses).all()
    found = SEARCH(KEY, scores, groups, scores, labels, groups, expert_probs, 0.1, 0.5)
    assert np.isfinite(found.t0).all()
    assert found.t0[1] == 0.5


def test_a_run_alone_is_the_same_run_among_others():
    parts = [random_part(seed) for seed in range(3)]
    scores, labels, groups, expert_probs = map(np.stack, zip(*parts, strict=True))
    keys = jax.random.split(KEY, 3)
    costs = jnp.array([0.0, 0.1, 0.3])

    def run(key, scores, labels, groups, expert_probs, cost):
        return policy.search(
            key, scores, groups, scores, labels, groups, expert_probs, cost, 0.2
        )

    together = jax.jit(jax.vmap(run))(keys, scores, labels, groups, expert_probs, costs)
    for row in range(3):
        alone = SEARCH(
            keys[row],
            *(scores[row], groups[row], scores[row], labels[row], groups[row]),
            *(expert_probs[row], costs[row], 0.2),
        )
        for ours, theirs in zip(alone, together, strict=True):
            np.testing.assert_array_equal(ours, theirs[row])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"scores_a": np.float32([0.5, 1.5])},
            r"scores_a must be in \[0, 1\], got 1.5",
        ),
        ({"labels_a": np.array([0, 2])}, "labels_a must be 0 or 1, got 2 in row 1"),
        ({"groups_train": np.array([0])}, r"groups_train .* of scores_train"),
        ({"groups_a": np.array([[0, 1]])}, r"groups_a must have shape \[B\]"),
        ({"expert_probs_a": np.float32([0.5])}, r"expert_probs_a .* of scores_a"),
        (
            {"cost": np.float32([0.5])},
            r"cost must have shape \[\].*vmap over the costs",
        ),
        ({"num_draws": 0}, "num_draws must be at least 1, got 0"),
        (
            {"weights_a": np.ones(3)},
            r"weights_a must have the shape \(2,\) of scores_a",
        ),
        (
            {"weights_train": np.float32([-1, 1])},
            "weights_train must be at least 0, got -1.0",
        ),
    ],
)
def test_wrong_arguments(change, message):
    arguments = {
        "scores_train": np.float32([0.1, 0.9]),
        "groups_train": np.array([0, 1]),
        "scores_a": np.float32([0.1, 0.9]),
        "labels_a": np.array([0, 1]),
        "groups_a": np.array([0, 1]),
        "expert_probs_a": np.float32([0.1, 0.9]),
        "cost": 0.1,
        "alpha": 0.1,
    }
    with pytest.raises(ValueError, match=message):
        policy.search(KEY, **(arguments | change))


def test_a_wrong_dtype_names_the_argument():
    thresholds = Thresholds(np.zeros(2), np.ones(2))
    with pytest.raises(TypeError, match="groups must be of an integer dtype"):
        policy.apply_thresholds(thresholds, np.float32([0.5]), np.float32([0.0]))
