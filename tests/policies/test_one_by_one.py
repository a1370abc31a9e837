"""Cases that come one by one: places are kept, and nothing to come is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from l2d_jax import decisions
from l2d_jax.policies import capacity, one_by_one, prices

NAN, INF = np.nan, np.inf
FREE = prices.Duals(np.zeros(2), 0.0)


def decide(scores):
    scores = np.asarray(scores, np.float32)
    return decisions.decide(np.full((len(scores), 2), 0.5), scores)


def assign(scores, period, *limits, duals=FREE, step_size=0.0):
    return one_by_one.assign(
        decide(scores), period, *limits, duals=duals, step_size=step_size
    )


def who(found):
    """Number of the expert of each case, or 2: the classifier."""
    return np.asarray(found.decision.allocation).argmax(axis=1).tolist()


def test_a_stream_by_hand():
    scores = [[0.5, 0.25], [0.75, 0.5], [0.25, -INF], [-0.5, -0.25], [1, 0], [1, 0]]
    found = assign(scores, 3, np.array([1, 2]))
    # The second is whom there is a place with; what is left of three is lost.
    assert who(found) == [0, 1, 2, 2, 0, 2]
    np.testing.assert_array_equal(found.duals.experts, [0, 0])
    dear = assign(scores, 3, np.array([1, 2]), duals=prices.Duals([0.5, 0], 0.125))
    assert who(dear) == [1, 1, 2, 2, 0, 2]


def test_prices_move_with_who_is_asked():
    found = assign([[0.5, -1.0], [0.0, -1.0]], 4, np.array([2, 4]), 0.5, step_size=0.25)
    # One of two asked at a rate of 1/2: up by 1/8 and down by as much; the second,
    # of the rate 1, is free; the budget's rate is 1/2 as well.
    first = assign([[0.5, -1.0]], 4, np.array([2, 4]), 0.5, step_size=0.25)
    np.testing.assert_allclose(first.duals.experts, [0.125, 0])
    assert first.duals.budget == 0.125
    np.testing.assert_allclose(found.duals.experts, [0, 0])
    assert found.duals.budget == 0
    assert who(found) == [0, 2]


def test_what_was_charged_is_what_decided():
    """By hand; and in a long stream who is asked is above it, and nobody else is."""
    dear = prices.Duals([0.5, 0], 0.125)
    scores = [[0.75, -1.0], [0.75, 0.25], [0.75, 0.25]]
    found = assign(scores, 3, np.array([1, 3]), 0.7, duals=dear)
    assert who(found) == [0, 1, 2]
    assert found.charged.tolist() == [[0.625, 0.125], [INF, 0.125], [INF, INF]]
    scores = random(4)
    found = assign(scores, 50, np.array([4, 9]), 0.2, step_size=0.1)
    asked = np.asarray(found.decision.allocation)[:, :2] > 0
    above = scores > found.charged
    np.testing.assert_array_equal(asked.any(axis=1), above.any(axis=1))
    assert above[asked].all() and 60 < asked.sum() < 130


def test_a_budget_is_of_each_period():
    found = assign([[1.0, 0.5]] * 25, 10, None, 0.3)
    assert np.flatnonzero(np.array(who(found)) < 2).tolist() == [
        *(0, 1, 2, 10, 11, 12, 20, 21, 22)
    ]


def random(seed, num_cases=600):
    rng = np.random.default_rng(seed)
    return rng.normal([0.2, 0.0], 0.5, (num_cases, 2)).astype(np.float32)


def test_nothing_depends_on_what_is_to_come():
    scores, room = random(3), np.array([4, 9])
    whole = assign(scores, 50, room, 0.2, step_size=0.1)
    for size in (1, 333):
        part = assign(scores[:size], 50, room, 0.2, step_size=0.1)
        np.testing.assert_array_equal(
            part.decision.allocation, np.asarray(whole.decision.allocation)[:size]
        )
    # It goes on from a period's end as if it had never stopped.
    first = assign(scores[:100], 50, room, 0.2, step_size=0.1)
    rest = assign(scores[100:], 50, room, 0.2, step_size=0.1, duals=first.duals)
    assert who(rest) == who(whole)[100:]


@pytest.mark.parametrize("step_size", [0.0, 0.02, 1.0])
def test_places_are_kept_to_in_every_period(step_size):
    room = np.array([4, 9])
    found = assign(random(5), 50, room, 0.2, step_size=step_size)
    asked = np.asarray(found.decision.allocation)[:, :2].reshape(-1, 50, 2).sum(axis=1)
    assert (asked <= room).all()
    assert (asked.sum(axis=1) <= 10).all()
    assert asked.sum() > 60


def test_prices_wait_for_what_is_worth_it():
    """With those of past cases four fifths of what each batch at once would give."""
    room, worth = np.array([3, 6]), []
    duals = prices.fit_duals(decide(random(0)), room / 50)
    for start in (FREE, duals):
        scores = random(1)
        found = assign(scores, 50, room, duals=start, step_size=0.05)
        asked = np.asarray(found.decision.allocation)[:, :2]
        worth.append((asked * scores).sum())
    best = sum(
        (np.asarray(capacity.assign(key, decide(part), room).allocation)[:, :2] * part)
        for key, part in zip(
            jax.random.split(jax.random.key(0), 12),
            np.split(random(1), 12),
            strict=True,
        )
    ).sum()
    assert worth[0] < 0.6 * best
    assert worth[1] > 0.8 * best


def test_the_prices_of_experts_and_budget_are_those_of_fit_prices():
    decision, rates = decide(random(2)), np.array([0.05, 0.2])
    duals = prices.fit_duals(decision, rates, 0.2)
    whole = prices.fit_prices(decision, rates, 0.2)
    np.testing.assert_allclose(duals.experts + duals.budget, whole, rtol=1e-5)
    assert duals.budget > 0 and duals.experts[0] > 0
    none = prices.fit_duals(decision, rates, 0.0)
    assert none.budget == INF


def test_what_cannot_be_kept_takes_a_place():
    scores = [[0.5, -1.0], [-1.0, NAN], [NAN, 0.5], [0.5, 0.5]]
    dear = prices.Duals(np.full(2, 9.0), 9.0)
    found = assign(scores, 4, np.array([1, 1]), duals=dear)
    assert who(found) == [2, 1, 0, 2]
    with pytest.raises(ValueError, match="case 1 has a score of NaN"):
        assign([[1.0, 0.0], [NAN, 0.5]], 2, np.array([1, 0]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"period": 0}, "period must be >= 1"),
        ({"capacity": np.array([1])}, "capacity must have shape"),
        ({"capacity": np.array([1, -1])}, "capacity must be a whole number"),
        ({"max_deferral": 1.5}, "max_deferral must be in"),
        ({"step_size": NAN}, "step_size must be >= 0"),
        ({"duals": prices.Duals(np.zeros(3), 0.0)}, "duals.experts must have shape"),
        ({"duals": prices.Duals(np.zeros(2), -1.0)}, "duals must be >= 0"),
    ],
)
def test_what_cannot_be_used_is_named(changes, message):
    given = {"period": 2, "capacity": None, "duals": FREE, "step_size": 0.1}
    with pytest.raises(ValueError, match=message):
        one_by_one.assign(decide([[0.5, 0.5]]), **given | changes)


def test_infinite_room_is_any_number():
    decision = decisions.decide(
        np.tile([0.4, 0.6], (6, 1)), np.tile([[0.5, 0.3]], (6, 1))
    )
    duals = prices.Duals(jnp.zeros(2), jnp.zeros(()))
    found = [
        one_by_one.assign(decision, 6, np.array(room), duals=duals, step_size=0.01)
        for room in ([np.inf, 2.0], [6.0, 2.0])
    ]
    jax.tree.map(np.testing.assert_array_equal, *found)
    assert found[0].decision.allocation[:, 0].sum() == 6
