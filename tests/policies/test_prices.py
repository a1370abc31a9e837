"""Prices of the experts: by them, as many are asked as there is time for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from l2d_jax import decisions
from l2d_jax.policies import capacity, prices

NAN, INF = np.nan, np.inf


def decide(scores):
    scores = np.asarray(scores, np.float32)
    return decisions.decide(np.full((len(scores), 2), 0.5), scores)


def asked(decision):
    """How many cases each expert is asked, and the classifier answers."""
    return np.asarray(decision.allocation).sum(axis=0).tolist()


def test_a_price_by_hand():
    scores = [[0.5, 0.375], [0.25, 0.125], [-INF, 0.5], [0.125, 0.25]]
    found = prices.with_prices(decide(scores), np.array([0.25, 0.125]))
    np.testing.assert_array_equal(
        found.defer_score, [[0.25, 0.25], [0, 0], [-INF, 0.375], [-0.125, 0.125]]
    )
    # A tie asks the first; what is worth just its price is kept.
    assert np.asarray(found.allocation).argmax(axis=1).tolist() == [0, 2, 1, 1]


def test_without_prices_nothing_changes():
    decision = decide(np.random.default_rng(0).normal(size=(50, 3)))
    found = prices.with_prices(decision, np.zeros(3))
    jax.tree.map(np.testing.assert_array_equal, found, decision)


def test_at_an_infinite_price_nobody_is_asked_but_for_what_cannot_be_kept():
    scores = [[INF, 0.5], [3.0, -1.0], [NAN, 0.5]]
    found = prices.with_prices(decide(scores), np.array([INF, 0.25]))
    np.testing.assert_array_equal(
        found.defer_score, [[-INF, 0.25], [-INF, -1.25], [NAN, 0.25]]
    )
    assert np.asarray(found.allocation).argmax(axis=1).tolist() == [1, 2, 0]


def test_prices_are_traced():
    decision = decide([[0.5, 0.25], [0.1, 0.2]])
    by_hand = prices.with_prices(decision, np.array([0.4, 0.0]))
    compiled = jax.jit(prices.with_prices)
    found = compiled(decision, jnp.array([0.4, 0.0]))
    jax.tree.map(np.testing.assert_array_equal, found, by_hand)
    for wrong in (-0.1, NAN):
        poisoned = compiled(decision, jnp.array([0.4, wrong]))
        assert np.isnan(poisoned.allocation).all()
    shared = decision._replace(allocation=jnp.array([[0.5, 0.5, 0], [0, 0, 1.0]]))
    rows = np.isnan(compiled(shared, jnp.zeros(2)).allocation).all(axis=1)
    assert rows.tolist() == [True, False]


def dual(scores, rates, share, per_expert):
    """The dual's value at prices without that of the budget, which is then a minimum.

    Of each price of the budget the program is convex; its kinks are at the scores.
    """
    best = INF
    gains = np.maximum(scores - per_expert, 0).max(axis=1)
    for of_budget in np.append(gains, 0.0):
        value = np.maximum(gains - of_budget, 0).sum()
        value += len(scores) * (rates @ per_expert + share * of_budget)
        best = min(best, value)
    return best


@pytest.mark.parametrize("seed", range(6))
def test_prices_are_the_duals_of_the_best_assignment(seed):
    rng = np.random.default_rng(seed)
    scores = np.round(rng.normal(size=(40, 2)), 3).astype(np.float32)
    room = np.array([4, 6])
    best = capacity.assign(jax.random.key(0), decide(scores), room)
    total = (np.asarray(best.allocation)[:, :2] * scores).sum()
    found = np.asarray(prices.fit_prices(decide(scores), room / 40))
    # Strong duality: no other prices bound the sum by less.
    assert dual(scores, room / 40, 1.0, found) == pytest.approx(total, abs=1e-4)
    counts = asked(prices.with_prices(decide(scores), found))[:2]
    assert all(room - 2 <= counts) and all(counts <= room)


def test_the_price_of_a_budget_is_in_everybodys():
    scores = np.arange(10)[:, None] / 8.0
    # At the third greatest, 0.875, two or three of ten are asked.
    found = prices.fit_prices(decide(np.tile(scores, 2)), max_deferral=0.3)
    assert found[0] == found[1] and 0.75 <= found[0] <= 0.875
    free = prices.fit_prices(decide(np.tile(scores, 2)))
    np.testing.assert_array_equal(free, 0.0)


def test_rates_and_budget_are_kept_of_other_cases():
    rng = np.random.default_rng(1)
    rates = np.array([0.02, 0.1, 0.5])
    past, to_come = (rng.normal([0.5, 0, 0], size=(4000, 3)) for _ in range(2))
    found = prices.fit_prices(decide(past), rates, 0.3)
    shares = np.array(asked(prices.with_prices(decide(past), found))[:3]) / 4000
    assert all(shares <= rates + 3 / 4000)
    assert 0.3 - 3 / 4000 <= shares.sum() <= 0.3 + 3 / 4000
    new = np.array(asked(prices.with_prices(decide(to_come), found))[:3]) / 4000
    np.testing.assert_allclose(new, shares, atol=0.03)


def test_who_has_no_time_is_never_asked():
    scores = [[0.5, 0.25], [INF, 0.5], [0.75, -1.0]]
    found = prices.fit_prices(decide(scores), np.array([0.0, 1.0]))
    assert np.asarray(found).tolist() == [INF, 0.0]
    assert asked(prices.with_prices(decide(scores), found)) == [0, 2, 1]
    found = prices.fit_prices(decide(scores), max_deferral=0.0)
    assert asked(prices.with_prices(decide(scores), found)) == [0, 0, 3]


def test_what_is_asked_at_any_price_fills_its_places():
    scores = [[NAN, 0.0], [0.5, 0.0], [0.25, 0.0], [-1.0, INF]]
    decision = decide(scores)
    found = prices.fit_prices(decision, np.array([0.5, 0.25]))
    assert 0.25 <= found[0] <= 0.5
    found = prices.fit_prices(decision, np.array([0.25, 0.25]))
    assert asked(prices.with_prices(decision, found)) == [1, 1, 2]
    with pytest.raises(ValueError, match=r"allows expert 0 0\.8 cases, and 1 with"):
        prices.fit_prices(decision, np.array([0.2, 1.0]))
    with pytest.raises(ValueError, match=r"max_deferral allows 1 cases .* 2 with"):
        prices.fit_prices(decision, max_deferral=0.25)


def test_prices_bring_a_stream_to_its_rates():
    rng = np.random.default_rng(0)
    rates = jnp.array([0.1, 0.3])
    scores = jnp.asarray(rng.normal(0.5, 1.0, (400, 50, 2)), jnp.float32)

    def step(now, batch):
        decision = decisions.decide(jnp.full((50, 2), 0.5), batch)
        weights = prices.with_prices(decision, now).allocation
        return prices.update_prices(now, weights, rates, 0.2), weights[:, :2].mean(0)

    last, shares = jax.lax.scan(step, jnp.zeros(2), scores)
    np.testing.assert_allclose(shares[200:].mean(axis=0), rates, atol=0.01)
    assert last[0] > last[1] > 0


def test_a_price_never_falls_below_free():
    kept = jnp.array([[0.0, 1.0]])
    assert prices.update_prices(jnp.zeros(1), kept, jnp.ones(1), 1.0) == 0.0


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (lambda d: prices.with_prices(d, np.zeros(3)), "prices must have shape"),
        (lambda d: prices.with_prices(d, np.array([0, -1.0])), "prices must be >= 0"),
        (lambda d: prices.with_prices(d, np.array([0, NAN])), "prices must be >= 0"),
        (lambda d: prices.fit_prices(d, np.ones(3)), "rates must have shape"),
        (lambda d: prices.fit_prices(d, np.array([1, 1.5])), "rates must be in"),
        (lambda d: prices.fit_prices(d, max_deferral=NAN), "max_deferral must be in"),
        (lambda d: prices.fit_prices(decide(np.ones((0, 2)))), "defer_score must have"),
        (
            lambda d: prices.with_prices(
                d._replace(allocation=np.array([[0.5, 0.5, 0.0]])), np.zeros(2)
            ),
            "allocation must be 0 or 1: several who share",
        ),
    ],
)
def test_what_cannot_be_used_is_named(run, message):
    with pytest.raises(ValueError, match=message):
        run(decide([[1.0, 2.0]]))
