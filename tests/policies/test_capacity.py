"""Who is asked about which case of a batch, where time is short."""

import itertools

import jax
import numpy as np
import pytest

from l2d_jax import decisions
from l2d_jax.policies import capacity

NAN, INF = np.nan, np.inf
KEY = jax.random.key(0)


def decide(scores):
    scores = np.asarray(scores, np.float32)
    return decisions.decide(np.full((len(scores), 2), 0.5), scores)


def who(decision):
    """Number of the expert who is asked, -1 where the case is kept."""
    allocation = np.asarray(decision.allocation)
    assert set(np.unique(allocation)) <= {0.0, 1.0}
    np.testing.assert_array_equal(allocation.sum(axis=1), 1.0)
    chosen = allocation.argmax(axis=1)
    return np.where(chosen == allocation.shape[1] - 1, -1, chosen)


def best_by_trying(scores, room, budget):
    """The greatest sum of scores over every way to ask."""
    num_cases, num_experts = scores.shape
    best = -INF
    for ways in itertools.product(range(-1, num_experts), repeat=num_cases):
        asked = [m for m in ways if m >= 0]
        if len(asked) > budget or any(asked.count(m) > c for m, c in enumerate(room)):
            continue
        total = sum(scores[i, m] for i, m in enumerate(ways) if m >= 0)
        best = max(best, total)
    return best


@pytest.mark.parametrize("seed", range(12))
def test_it_is_the_best_of_every_way_to_ask(seed):
    rng = np.random.default_rng(seed)
    num_cases, num_experts = rng.integers(1, 6), rng.integers(1, 4)
    scores = rng.normal(size=(num_cases, num_experts)).astype(np.float32)
    room = rng.integers(0, 3, num_experts)
    share = rng.choice([0.0, 0.4, 1.0])
    found = who(capacity.assign(KEY, decide(scores), room, share))
    budget = capacity.places(share, int(num_cases))
    assert (found >= 0).sum() <= budget
    assert all((found == m).sum() <= c for m, c in enumerate(room))
    total = sum(scores[i, m] for i, m in enumerate(found) if m >= 0)
    assert total == pytest.approx(best_by_trying(scores, room, budget), abs=1e-5)


def test_places_by_hand():
    assert [capacity.places(p, n) for p, n in ((0.2, 15), (0.29, 100), (0.7, 10))] == [
        3,
        29,
        7,
    ]
    assert [capacity.places(0.2, n) for n in (0, 1, 4, 5, 9)] == [0, 0, 0, 1, 1]
    assert capacity.places(1.0, 7) == 7
    assert capacity.places(np.float32(0.7), 10) == 7
    assert capacity.places(np.nextafter(0.3, 0.0), 10) == 2
    assert [capacity.places(1, 4), capacity.places(0, 4)] == [4, 0]


def test_every_share_of_a_batch_gives_its_own_number_of_places():
    for kind in (np.float32, np.float64):
        for size in range(1, 60):
            found = [capacity.places(kind(k / size), size) for k in range(size + 1)]
            assert found == list(range(size + 1))


def test_a_budget_is_kept_to_the_case_and_goes_to_the_greatest_scores():
    scores = np.random.default_rng(0).normal(1.0, 1.0, (1001, 3)).astype(np.float32)
    found = who(capacity.assign(KEY, decide(scores), max_deferral=0.2))
    assert (found >= 0).sum() == 200
    np.testing.assert_array_equal(found[found >= 0], scores[found >= 0].argmax(axis=1))
    greatest = scores.max(axis=1)
    assert greatest[found >= 0].min() >= greatest[found < 0].max() - 1e-5


def test_capacities_are_kept_to_the_case():
    scores = np.abs(np.random.default_rng(1).normal(size=(300, 4))).astype(np.float32)
    room = [10, 0, 100, 25]
    found = who(capacity.assign(KEY, decide(scores), room))
    assert [(found == m).sum() for m in range(4)] == room


def test_the_second_best_is_asked_where_the_best_has_no_time():
    found = capacity.assign(KEY, decide([[0.9, 0.8], [0.5, 0.1]]), [1, 1])
    np.testing.assert_array_equal(who(found), [1, 0])
    np.testing.assert_allclose(found.defer_score, [[0.9, 0.8], [0.5, 0.1]])


def test_nobody_is_asked_who_is_not_worth_it_or_cannot_be():
    found = capacity.assign(KEY, decide([[0.0, -1.0], [-INF, 0.1], [-INF, -INF]]))
    np.testing.assert_array_equal(who(found), [-1, 1, -1])


def test_equal_cases_are_drawn_by_the_key():
    tied = decide(np.full((40, 2), 0.5))
    first, again, other = (
        who(capacity.assign(jax.random.key(seed), tied, [5, 5])) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert (first >= 0).sum() == (other >= 0).sum() == 10
    alone = [
        who(capacity.assign(jax.random.key(seed), tied, max_deferral=0.25))
        for seed in (0, 1)
    ]
    assert (alone[0] != alone[1]).any()
    assert [(found >= 0).sum() for found in alone] == [10, 10]


def test_what_cannot_be_decided_upon_goes_first_and_is_never_kept():
    scores = [[9.0, 9.0], [NAN, NAN], [8.0, -1.0], [NAN, -INF]]
    for room in (None, [1, 1]):
        found = who(capacity.assign(KEY, decide(scores), room, 0.5))
        assert found[1] >= 0 and found[3] == 0
        np.testing.assert_array_equal(found[[0, 2]], [-1, -1])


def test_no_place_for_what_cannot_be_kept():
    scores = [[NAN, NAN], [NAN, NAN], [1.0, 2.0]]
    with pytest.raises(
        ValueError, match=r"allows 1 of 3 cases .* 2 have a score of NaN"
    ):
        capacity.assign(KEY, decide(scores), max_deferral=0.4)
    with pytest.raises(ValueError, match="places for 1 of the 2 cases"):
        capacity.assign(KEY, decide(scores), [1, 0])
    with pytest.raises(ValueError, match="places for 0 of the 1 cases"):
        capacity.assign(KEY, decide([[NAN, -INF]]), [0, 5])


@pytest.mark.parametrize(
    ("room", "share", "message"),
    [
        ([1], 1.0, "capacity must have shape"),
        ([1, -1], 1.0, "capacity must be a whole number >= 0, got -1"),
        ([1, 0.5], 1.0, "capacity must be a whole number >= 0, got 0.5"),
        ([1, NAN], 1.0, "capacity must be a whole number >= 0, got nan"),
        (None, 1.1, "max_deferral must be in"),
        (None, NAN, "max_deferral must be in"),
    ],
)
def test_what_cannot_be_used_is_named(room, share, message):
    with pytest.raises(ValueError, match=message):
        capacity.assign(KEY, decide([[1.0, 2.0]]), room, share)


def test_shared_answers_are_refused():
    shared = decide([[1.0, 2.0]])._replace(allocation=np.array([[0.5, 0.5, 0.0]]))
    with pytest.raises(ValueError, match="several who share"):
        capacity.assign(KEY, shared, [1, 1])


@pytest.mark.parametrize("seed", range(5))
def test_a_budget_under_jit_is_that_of_the_assignment(seed):
    rng = np.random.default_rng(seed)
    decision = decide(rng.normal(size=(37, 3)))
    for share in (0.0, 0.2, 1.0):
        best = who(capacity.assign(KEY, decision, max_deferral=share))
        kept = jax.jit(capacity.keep_to_budget, static_argnums=2)
        np.testing.assert_array_equal(who(kept(KEY, decision, share)), best)


def test_a_budget_leaves_who_is_asked_as_it_was_decided():
    scores = [[0.9, 0.8], [0.5, 0.6], [0.7, 0.1], [0.1, 0.2]]
    decision = decide(scores)._replace(allocation=np.eye(3)[[1, 1, 2, 0]])
    found = capacity.keep_to_budget(KEY, decision, 0.5)
    np.testing.assert_array_equal(who(found), [1, 1, -1, -1])
    np.testing.assert_array_equal(found.defer_score, decision.defer_score)


def test_a_budget_is_drawn_among_equals_and_what_cannot_be_kept_goes_first():
    tied = decide(np.full((40, 2), 0.5))
    drawn = [
        who(capacity.keep_to_budget(jax.random.key(s), tied, 0.25)) for s in range(2)
    ]
    assert (drawn[0] != drawn[1]).any()
    assert [(each >= 0).sum() for each in drawn] == [10, 10]
    scores = [[9.0, 9.0], [NAN, 5.0], [8.0, -1.0], [2.0, NAN]]
    for allocation in (np.eye(3)[[0, 0, 0, 1]], np.eye(3)[[0, 2, 0, 2]]):
        decision = decide(scores)._replace(allocation=allocation)
        found = capacity.keep_to_budget(KEY, decision, 0.5)
        np.testing.assert_array_equal(who(found), [-1, 0, -1, 1])


def test_a_budget_that_what_cannot_be_kept_breaks():
    decision = decide([[NAN], [NAN], [1.0]])
    with pytest.raises(ValueError, match=r"allows 1 of 3 cases .* 2 have a score"):
        capacity.keep_to_budget(KEY, decision, 0.4)
    traced = jax.jit(capacity.keep_to_budget, static_argnums=2)(KEY, decision, 0.4)
    assert np.isnan(traced.allocation).all()
