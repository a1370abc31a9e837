"""Allocations, committees and votes, against float64 NumPy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from l2d_jax.crowds import allocation
from l2d_jax.crowds.allocation import Committee

pytestmark = pytest.mark.usefixtures("cheap_compiles")

TOL = {"rtol": 1e-5, "atol": 1e-6}
M, ROWS = 5, 16
ALMOST_ONE = np.float32(1 - 2**-23)  # The largest uniform float32 of `jax.random`.


# Float64 NumPy oracles.


def oracle_normalize(weights, available):
    weights = np.where(available, weights, 0.0)
    if weights.sum() > 0:
        return weights / weights.sum()
    return available / max(available.sum(), 1)


def oracle_prior(similarity, category, available):
    return oracle_normalize(similarity[:, category], available)


def oracle_sigmoid_head(logits, available):
    return oracle_normalize(1 / (1 + np.exp(-logits)), available)


def oracle_softmax_head(logits, available):
    return oracle_normalize(np.exp(logits), available)


def oracle_discount(weights, costs, rate):
    changed = weights * np.exp(-rate * costs)
    return changed * weights.sum() / max(changed.sum(), 1e-300)


def oracle_seat_replaced(weights, noise):
    votes = np.zeros(len(weights))
    for draw in noise * weights.sum() if weights.sum() > 0 else ():
        votes[np.searchsorted(np.cumsum(weights), draw, side="right")] += 1
    return votes / len(noise)


def oracle_seat_distinct(weights, noise):
    scores = np.log(np.where(weights > 0, weights, 1.0)) + noise
    ranks = np.argsort(np.where(weights > 0, scores, -np.inf))
    seated = np.isin(np.arange(len(weights)), ranks[-3:])
    seated = np.where(seated, weights, 0.0)
    return seated / max(seated.sum(), 1e-300)


def oracle_vote(votes, answers):
    return votes[answers == 1].sum()


def oracle_rewards(weights, agrees, consulted, rate):
    total = weights[consulted].sum()
    good = weights[consulted & agrees].sum()
    share = good / total if total else 0.0
    rewards = rate * weights * (1 - share) * (consulted & agrees)
    return rewards, rate * weights * share * (consulted & ~agrees)


def oracle_rbf(inputs, centers, width):
    return np.exp(-((inputs - centers) ** 2).sum(axis=1) / (2 * width**2))


def assert_close(ours, expected):
    np.testing.assert_allclose(ours, expected, **TOL)


def draw_rows():
    """Arguments of every function, a batch of them; nobody is available in row 1."""
    generator = np.random.default_rng(0)
    available = generator.random((ROWS, M)) < 0.7
    available[1] = False
    weights = generator.dirichlet(np.ones(M), ROWS) * available
    weights[2] = 0.0
    return {
        "available": available,
        "weights": weights,
        "similarity": generator.random((ROWS, M, 3)) * (generator.random(3) < 0.8),
        "category": generator.integers(0, 3, ROWS),
        "logits": generator.normal(0, 3, (ROWS, M)),
        "costs": generator.random((ROWS, M)) * 4,
        "rate": generator.random(ROWS),
        "uniform": generator.random((ROWS, 3)),
        "gumbel": generator.gumbel(size=(ROWS, M)),
        "answers": np.where(available, generator.integers(0, 2, (ROWS, M)), -1),
        "agrees": generator.random((ROWS, M)) < 0.5,
        "inputs": generator.normal(size=(ROWS, 2)),
        "centers": generator.normal(size=(ROWS, 4, 2)),
    }


CASES = {
    "normalize": (allocation.normalize, oracle_normalize, "weights available"),
    "prior": (
        allocation.prior_weights,
        oracle_prior,
        "similarity category available",
    ),
    "sigmoid": (
        lambda *args: allocation.head_weights(*args, "sigmoid"),
        oracle_sigmoid_head,
        "logits available",
    ),
    "softmax": (
        lambda *args: allocation.head_weights(*args, "softmax"),
        oracle_softmax_head,
        "logits available",
    ),
    "discount": (allocation.discount, oracle_discount, "weights costs rate"),
    "seat_replaced": (
        lambda *args: allocation.seat(*args, Committee(3)),
        oracle_seat_replaced,
        "weights uniform",
    ),
    "seat_distinct": (
        lambda *args: allocation.seat(*args, Committee(3, replace=False)),
        oracle_seat_distinct,
        "weights gumbel",
    ),
    "vote": (allocation.vote, oracle_vote, "weights answers"),
    "rewards": (
        allocation.rewards_and_penalties,
        oracle_rewards,
        "weights agrees available rate",
    ),
    "rbf": (allocation.rbf_features, oracle_rbf, "inputs centers rate"),
}


@pytest.mark.parametrize("name", CASES)
def test_oracle_with_and_without_jit_and_under_vmap(name):
    function, oracle, arguments = CASES[name]
    rows = draw_rows()
    args = [rows[argument] for argument in arguments.split()]
    expected = [oracle(*(arg[row] for arg in args)) for row in range(ROWS)]
    expected = jax.tree.map(lambda *leaves: np.stack(leaves), *expected)
    args = jax.tree.map(
        lambda leaf: jnp.asarray(leaf, "float32" if leaf.dtype == "float64" else None),
        args,
    )
    check = functools.partial(jax.tree.map, assert_close)
    first = jax.tree.map(lambda leaf: leaf[0], expected)
    check(function(*(arg[0] for arg in args)), first)
    check(jax.jit(jax.vmap(function))(*args), expected)


@pytest.mark.parametrize("name", CASES)
def test_a_batch_is_refused(name):
    function, _, arguments = CASES[name]
    rows = draw_rows()
    args = [rows[argument] for argument in arguments.split()]
    with pytest.raises(AssertionError, match="rank"):
        function(*args)


def test_normalize_by_hand():
    all_of_them = np.ones(3, bool)
    normalize = jax.jit(allocation.normalize)
    ours = normalize(np.array([1.0, 3.0, 0.0]), all_of_them)
    np.testing.assert_allclose(ours, [0.25, 0.75, 0.0], **TOL)
    # Nobody has weight: uniform over who is available. Nobody is available: zero.
    some = np.array([True, False, True])
    ours = normalize(np.array([0.0, 3.0, 0.0]), some)
    np.testing.assert_allclose(ours, [0.5, 0.0, 0.5], **TOL)
    nobody = normalize(np.array([1.0, np.nan, 1.0]), np.zeros(3, bool))
    np.testing.assert_array_equal(nobody, np.zeros(3))
    ours = normalize(np.array([1.0, np.nan, 1.0]), some)
    np.testing.assert_allclose(ours, [0.5, 0.0, 0.5], **TOL)
    alone = normalize(np.array([0.3]), np.ones(1, bool))
    np.testing.assert_allclose(alone, [1.0], **TOL)


def test_prior_weights_by_hand():
    similarity = np.array([[0.9, 0.0], [0.3, 0.0], [0.6, 0.0]])
    everyone = np.ones(3, bool)
    prior_weights = jax.jit(allocation.prior_weights)
    ours = prior_weights(similarity, 0, everyone)
    np.testing.assert_allclose(ours, [0.5, 1 / 6, 1 / 3], **TOL)
    ours = prior_weights(similarity, 0, np.array([False, True, True]))
    np.testing.assert_allclose(ours, [0.0, 1 / 3, 2 / 3], **TOL)
    # A category that nobody suits.
    ours = prior_weights(similarity, 1, everyone)
    np.testing.assert_allclose(ours, [1 / 3] * 3, **TOL)
    assert allocation.check_similarity(similarity) == [1]


def test_head_weights_by_hand():
    everyone = np.ones(2, bool)
    # sigmoid(0) = 1/2 and sigmoid(log 3) = 3/4; exp: 1 and 3.
    logits = np.array([0.0, np.log(3.0)], np.float32)
    ours = allocation.head_weights(logits, everyone, "sigmoid")
    np.testing.assert_allclose(ours, [0.4, 0.6], **TOL)
    ours = allocation.head_weights(logits, everyone, "softmax")
    np.testing.assert_allclose(ours, [0.25, 0.75], **TOL)
    with pytest.raises(ValueError, match="form must be one of sigmoid, softmax, got"):
        allocation.head_weights(logits, everyone, "linear")


@pytest.mark.parametrize("form", allocation.FORMS)
def test_head_weights_at_extreme_logits(form):
    @jax.jit
    @jax.vmap
    def value_and_slope(logits, available):
        def weight_of_first(logits):
            return allocation.head_weights(logits, available, form)[0]

        weights = allocation.head_weights(logits, available, form)
        return weights, jax.grad(weight_of_first)(logits)

    logits = 1e4 * np.array([[1, -1], [-1, -1], [1, 1], [-1, 1], [-1, 1]], np.float32)
    available = np.array([[1, 1], [1, 1], [1, 1], [1, 0], [0, 0]], bool)
    weights, slopes = value_and_slope(logits, available)
    expected = [[1, 0], [0.5, 0.5], [0.5, 0.5], [1, 0], [0, 0]]
    np.testing.assert_allclose(weights, expected, **TOL)
    assert np.isfinite(slopes).all()
    # Of two scores far below 0, sigmoids are as exponentials: the slope is 1/4.
    np.testing.assert_allclose(slopes[1], [0.25, -0.25], **TOL)


@pytest.mark.parametrize("form", allocation.FORMS)
def test_head_weights_gradient(form):
    available = jnp.array([True, True, False, True])
    logits = jnp.array([0.0, -1.2, 0.5, 2.0])
    check_grads(
        jax.jit(lambda z: allocation.head_weights(z, available, form)),
        (logits,),
        order=1,
        rtol=1e-2,
        atol=1e-3,
    )


@pytest.mark.parametrize("form", allocation.FORMS)
def test_who_cannot_be_asked_changes_nothing(form):
    """Neither their scores nor their being there; -1 is never an answer of 0."""
    logits = np.array([0.3, -1.0, 2.0], np.float32)
    answers = np.array([1, 0, 1])

    @jax.jit
    def serve(logits, answers):
        available = allocation.can_answer(answers)
        weights = allocation.head_weights(logits, available, form)
        changes = allocation.rewards_and_penalties(
            weights, answers == 0, available, 0.5
        )
        return weights, allocation.vote(weights, answers), changes

    alone = serve(logits, answers)
    for score in (-1e4, 0.0, 1e4):
        weights, vote, changes = serve(
            np.append(logits, np.float32(score)), np.append(answers, -1)
        )
        np.testing.assert_allclose(weights, [*alone[0], 0.0], **TOL)
        np.testing.assert_allclose(vote, alone[1], **TOL)
        for ours, theirs in zip(changes, alone[2], strict=True):
            np.testing.assert_allclose(ours, [*theirs, 0.0], **TOL)
    # An answer of 0 is another thing.
    weights, vote, _ = serve(np.append(logits, np.float32(0)), np.append(answers, 0))
    assert weights[3] > 0.05
    assert vote < alone[1] - 0.02


def test_model_share():
    share = jax.jit(allocation.model_share)
    for seen, fade, expected in (
        (0.0, 0.0, 1.0),
        (7.0, 0.0, 1.0),
        (0.0, 5.0, 0.0),
        (5.0, 5.0, 0.5),
        (30.0, 10.0, 0.75),
        (0.0, np.inf, 0.0),
        (1e6, np.inf, 0.0),
    ):
        np.testing.assert_allclose(share(seen, fade), expected, **TOL)
    assert allocation.model_share(3, 0) == 1.0
    seen = jnp.arange(4)
    np.testing.assert_allclose(
        jax.vmap(share, (0, None))(seen, 2.0), np.arange(4) / np.arange(2, 6), **TOL
    )


def test_discount_by_hand():
    discount = jax.jit(allocation.discount)
    weights = np.array([0.5, 0.5], np.float32)
    costs = np.array([0.0, np.log(3.0)], np.float32)
    np.testing.assert_allclose(discount(weights, costs, 1.0), [0.75, 0.25], **TOL)
    # Only differences of costs count, and the sum stays what it is.
    np.testing.assert_allclose(discount(weights, costs + 7, 1.0), [0.75, 0.25], **TOL)
    ours = discount(0.4 * weights, costs, 1.0)
    np.testing.assert_allclose(ours, [0.3, 0.1], **TOL)


def test_discount_properties():
    rows = draw_rows()
    weights = rows["weights"].astype(np.float32)
    costs = rows["costs"].astype(np.float32)
    discount = jax.jit(jax.vmap(allocation.discount, (0, 0, None)))
    np.testing.assert_allclose(discount(weights, costs, 0.0), weights, **TOL)
    ours = np.asarray(discount(weights, costs, 0.7))
    np.testing.assert_allclose(ours.sum(axis=1), weights.sum(axis=1), **TOL)
    for before, after, cost in zip(weights, ours, costs, strict=True):
        order = [i for i in np.argsort(cost) if before[i] > 0]
        gains = after[order] / before[order]
        assert (np.diff(gains) < 0).all()
        np.testing.assert_array_equal(after[before == 0], 0.0)


def test_discount_is_finite_at_huge_costs():
    discount = jax.jit(allocation.discount)
    weights = np.array([0.2, 0.3, 0.5], np.float32)
    for costs, expected in (
        ([1e30, 1e30, 1e30], [0.2, 0.3, 0.5]),
        ([1e30, 0.0, 1e30], [0.0, 1.0, 0.0]),
        ([1e4, 1e4, 2e4], [0.4, 0.6, 0.0]),
    ):
        ours = discount(weights, np.array(costs, np.float32), 1.0)
        np.testing.assert_allclose(ours, expected, **TOL)
    # What it would cost to ask who cannot be asked is not looked at.
    ours = discount(
        np.array([0.5, 0.5, 0.0], np.float32),
        np.array([5.0, 5.0, np.nan], np.float32),
        1.0,
    )
    np.testing.assert_allclose(ours, [0.5, 0.5, 0.0], **TOL)
    nobody = discount(np.zeros(3, np.float32), np.ones(3, np.float32), 1.0)
    np.testing.assert_array_equal(nobody, np.zeros(3))


def test_seats_follow_the_weights():
    weights = np.array([0.5, 0.0, 0.3, 0.2], np.float32)
    committee, draws = Committee(5), 4000

    @jax.jit
    def seats(key):
        noise = allocation.draw_noise(key, draws, 4, committee)
        return jax.vmap(lambda row: allocation.seat(weights, row, committee))(noise)

    votes = np.asarray(seats(jax.random.key(0)))
    assert votes.shape == (draws, 4)
    np.testing.assert_allclose(votes.sum(axis=1), 1.0, **TOL)
    np.testing.assert_allclose(votes * 5, np.round(votes * 5), rtol=0, atol=1e-5)
    errors = np.sqrt(weights * (1 - weights) / (5 * draws))
    assert (np.abs(votes.mean(axis=0) - weights) <= 4 * errors).all()
    assert (votes[:, 1] == 0).all()
    # With replacement one may have several seats, as often as a binomial has.
    twice = 1 - 0.5**5 - 5 * 0.5**5
    error = np.sqrt(twice * (1 - twice) / draws)
    assert abs((votes[:, 0] > 0.3).mean() - twice) <= 4 * error


def test_seats_at_the_edges():
    seat = jax.jit(allocation.seat, static_argnums=2)
    weights = np.array([0.0, 0.25, 0.0, 0.75, 0.0], np.float32)
    for edge, expected in (
        (0.0, [0, 1, 0, 0, 0]),
        (0.25, [0, 0, 0, 1, 0]),
        (ALMOST_ONE, [0, 0, 0, 1, 0]),
    ):
        noise = np.array([edge], np.float32)
        ours = seat(weights, noise, Committee(1))
        np.testing.assert_array_equal(ours, expected)


def test_every_seat_is_taken_whatever_the_rounding():
    """Draws at, just below and just above each running sum, of sums not quite 1."""
    generator = np.random.default_rng(0)
    seats = jax.jit(
        jax.vmap(lambda draw, w: allocation.seat(w, draw, Committee(1)), (0, None))
    )
    sum_up = jax.jit(jnp.cumsum)
    for _ in range(5):
        weights = generator.dirichlet(np.ones(30)).astype(np.float32)
        weights[generator.random(30) < 0.3] = 0.0
        sums = np.cumsum(weights)
        ends = np.concatenate([sums, np.asarray(sum_up(weights)), sums - weights])
        ends = np.concatenate([ends, np.nextafter(ends, 0), np.nextafter(ends, 2)])
        noise = np.clip(ends / sums[-1], 0.0, ALMOST_ONE).astype(np.float32)
        votes = np.asarray(seats(noise[:, None], weights))
        np.testing.assert_array_equal(votes.sum(axis=1), 1.0)
        assert (votes[:, weights == 0] == 0).all()


def test_seats_without_replacement():
    weights = np.array([0.5, 0.3, 0.2, 0.0], np.float32)
    committee, draws = Committee(2, replace=False), 4000

    @jax.jit
    def seats(key):
        noise = allocation.draw_noise(key, draws, 4, committee)
        return jax.vmap(lambda row: allocation.seat(weights, row, committee))(noise)

    votes = np.asarray(seats(jax.random.key(1)))
    assert ((votes > 0).sum(axis=1) == 2).all()
    np.testing.assert_allclose(votes.sum(axis=1), 1.0, **TOL)
    # Votes are as the weights: of the first two, 5/8 and 3/8.
    pair = (votes[:, 0] > 0) & (votes[:, 1] > 0)
    np.testing.assert_allclose(votes[pair][0], [0.625, 0.375, 0, 0], **TOL)
    # Drawn one after the other: first, or second after each of the others.
    w = weights[:3].astype(float)
    seated = [
        w[i] + sum(w[j] * w[i] / (1 - w[j]) for j in range(3) if j != i)
        for i in range(3)
    ]
    errors = np.sqrt(np.multiply(seated, np.subtract(1, seated)) / draws)
    shares = (votes[:, :3] > 0).mean(axis=0)
    assert (np.abs(shares - seated) <= 4 * errors).all()


def test_seats_without_replacement_of_few_and_of_ties():
    committee = Committee(3, replace=False)
    seat = jax.jit(allocation.seat, static_argnums=2)
    weights = np.array([0.0, 0.25, 0.75, 0.0], np.float32)
    noise = np.array([9.0, -1.0, 0.0, 9.0], np.float32)
    ours = seat(weights, noise, committee)
    np.testing.assert_allclose(ours, weights, **TOL)
    nobody = seat(np.zeros(4, np.float32), noise, committee)
    np.testing.assert_array_equal(nobody, np.zeros(4))
    # Equal scores do not make a committee larger.
    equal = seat(np.full(4, 0.25), np.zeros(4), committee)
    np.testing.assert_allclose(np.sort(equal), [0, 1 / 3, 1 / 3, 1 / 3], **TOL)
    alone = seat(np.ones(1), np.zeros(1), Committee(1, replace=False))
    np.testing.assert_array_equal(alone, [1.0])


def test_everybody_votes_in_a_committee_of_size_0():
    weights = np.array([0.7, 0.0, 0.3], np.float32)
    for replace in (True, False):
        committee = Committee(0, replace)
        noise = allocation.draw_noise(jax.random.key(0), 6, 3, committee)
        assert noise.shape == (6, 0)
        ours = allocation.seat(weights, noise[0], committee)
        np.testing.assert_array_equal(ours, weights)


def test_nobody_has_a_seat_where_nobody_has_weight():
    noise = np.array([0.0, 0.5, ALMOST_ONE], np.float32)
    votes = allocation.seat(np.zeros(4, np.float32), noise, Committee(3))
    np.testing.assert_array_equal(votes, np.zeros(4))


def test_vote_by_hand():
    votes = np.array([0.2, 0.3, 0.5])
    np.testing.assert_allclose(allocation.vote(votes, np.array([1, 0, 1])), 0.7, **TOL)
    np.testing.assert_allclose(allocation.vote(votes, np.array([1, -1, 0])), 0.2, **TOL)
    # A tie is exactly 1/2, which is not above it.
    assert allocation.vote(np.array([0.5, 0.5]), np.array([1, 0])) == 0.5


def test_rewards_and_penalties_by_hand():
    weights = np.array([0.5, 0.3, 0.2])
    agrees = np.array([True, False, True])
    step = jax.jit(allocation.rewards_and_penalties)
    # a = .7: those who agree gain .3 of their weight, the other loses .7 of theirs.
    rewards, penalties = step(weights, agrees, np.ones(3, bool), 1.0)
    np.testing.assert_allclose(rewards, [0.15, 0.0, 0.06], **TOL)
    np.testing.assert_allclose(penalties, [0.0, 0.21, 0.0], **TOL)
    # Without the third, a = 5/8.
    heard = np.array([True, True, False])
    rewards, penalties = step(weights, agrees, heard, 0.5)
    np.testing.assert_allclose(rewards, [0.09375, 0.0, 0.0], **TOL)
    np.testing.assert_allclose(penalties, [0.0, 0.09375, 0.0], **TOL)


def test_rewards_equal_penalties_and_weights_stay_weights():
    """The condition of Eq. 1 and 2, whatever the weights, answers and who is asked."""
    generator = np.random.default_rng(3)
    weights = generator.dirichlet(np.full(6, 0.5), 200).astype(np.float32)
    agrees = generator.random((200, 6)) < generator.random((200, 1))
    consulted = generator.random((200, 6)) < generator.random((200, 1))
    consulted[0], agrees[1], agrees[2] = False, True, False
    rates = np.where(np.arange(200) < 100, 1.0, generator.random(200))
    step = jax.jit(jax.vmap(allocation.rewards_and_penalties))
    rewards, penalties = (
        np.asarray(part)
        for part in step(weights, agrees, consulted, rates.astype(np.float32))
    )
    np.testing.assert_allclose(rewards.sum(axis=1), penalties.sum(axis=1), **TOL)
    after = weights + rewards - penalties
    np.testing.assert_allclose(after.sum(axis=1), 1.0, **TOL)
    assert (after >= -1e-7).all()
    assert (rewards >= 0).all() and (penalties >= 0).all()
    assert (rewards[~(consulted & agrees)] == 0).all()
    assert (penalties[~consulted | agrees] == 0).all()
    # Nobody asked, all agree, nobody agrees: nothing moves.
    np.testing.assert_allclose(after[:3], weights[:3], **TOL)
    assert np.abs(after - weights).max() > 0.1


def test_rewards_and_penalties_are_along_the_gradient_of_agreement():
    scores = jnp.array([0.3, -0.5, 1.0])
    agrees = jnp.array([True, False, True])

    def agreement(scores):
        return jnp.sum(jax.nn.softmax(scores) * agrees)

    @jax.jit
    def both(scores):
        rewards, penalties = allocation.rewards_and_penalties(
            jax.nn.softmax(scores), agrees, jnp.ones(3, bool), 1.0
        )
        return rewards - penalties, jax.grad(agreement)(scores)

    ours, slope = both(scores)
    np.testing.assert_allclose(ours, slope, **TOL)


def test_rbf_features_by_hand():
    centers = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [1e4, 0.0]])
    rbf_features = jax.jit(allocation.rbf_features)
    ours = rbf_features(np.zeros(2), centers, 1.0)
    np.testing.assert_allclose(ours, [1, np.exp(-0.5), np.exp(-1), 0], **TOL)
    ours = rbf_features(np.zeros(2), centers, 0.5)
    np.testing.assert_allclose(ours, [1, np.exp(-2), np.exp(-4), 0], **TOL)


@pytest.mark.parametrize(
    ("similarity", "message"),
    [
        ([[0.5, 1.5]], r"similarity of annotator 0 to category 1 must be in \[0, 1\]"),
        ([[0.5], [-0.1]], "annotator 1 to category 0 .* got -0.1"),
        ([[np.nan]], "annotator 0 to category 0 .* got nan"),
        ([0.5, 0.5], r"similarity must have shape \[M, Z\], got \(2,\)"),
        (np.zeros((0, 2)), r"similarity must have shape \[M, Z\], got \(0, 2\)"),
    ],
)
def test_a_wrong_similarity_is_refused(similarity, message):
    with pytest.raises(ValueError, match=message):
        allocation.check_similarity(np.array(similarity))


def test_categories_without_a_prior_are_listed():
    similarity = np.array([[0.0, 0.5, 0.0], [0.0, 0.0, 0.0]])
    assert allocation.check_similarity(similarity) == [0, 2]
    assert allocation.check_similarity(np.ones((1, 1))) == []


@pytest.mark.parametrize(
    ("committee", "message"),
    [
        (Committee(-1), "committee size must be >= 0"),
        (Committee(4), "size 4 is even, so that votes may tie; choose 3 or 5"),
        (Committee(6, replace=False), "size 6 is more than the 5 annotators"),
    ],
)
def test_a_wrong_committee_is_refused(committee, message):
    with pytest.raises(ValueError, match=message):
        allocation.check_committee(committee, 5)


def test_good_committees():
    for committee in (
        Committee(0),
        Committee(1),
        Committee(7),  # Larger than the pool, with replacement.
        Committee(4, replace=False),
        Committee(5, replace=False),
        Committee(0, replace=False),
    ):
        allocation.check_committee(committee, 5)
