import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit, logit

from l2d_jax import decisions
from l2d_jax.table.methods import METHODS, Known, unmet

PROBS = np.array([[0.9, 0.1], [0.55, 0.45], [0.5, 0.5]], np.float32)
CHANCES = np.array([[0.8, 0.95, 0.4]] * 3, np.float32)


def known(probs=PROBS, chances=CHANCES, prices=(0, 0, 0), ask=1, available=None):
    available = np.ones(np.shape(chances), bool) if available is None else available
    return Known(probs, chances, np.asarray(prices, np.float32), ask, available)


def test_never_asks_nobody():
    decision = METHODS["never"].decide(known(), None)
    assert np.asarray(decision.allocation)[:, -1].tolist() == [1, 1, 1]
    assert (np.asarray(decision.defer_score) == -np.inf).all()


def test_confidence_asks_whoever_is_surest_net_of_prices():
    free = METHODS["confidence"].decide(known(), None)
    np.testing.assert_allclose(free.defer_score[0], [-0.1, 0.05, -0.5], atol=1e-6)
    assert np.asarray(free.allocation).argmax(axis=1).tolist() == [1, 1, 1]
    dear = METHODS["confidence"].decide(known(prices=(0, 0.2, 0)), None)
    assert np.asarray(dear.allocation).argmax(axis=1).tolist() == [3, 0, 0]


def test_surrogates_count_prices_in_errors():
    """A softmax that says .9 of the model and .95 of the first of two people."""
    outputs = jnp.log(jnp.array([[0.9, 0.1, 0.95, 0.2]]))
    row = METHODS["softmax"]
    two = {"probs": PROBS[:1], "chances": CHANCES[:1, :2]}
    free = row.decide(known(**two, prices=(0, 0)), outputs)
    assert np.asarray(free.allocation).argmax(axis=1) == 0
    dear = row.decide(known(**two, prices=(0.1, 0)), outputs)
    assert np.asarray(dear.allocation).argmax(axis=1) == 2
    np.testing.assert_allclose(dear.defer_score, [[-0.05, -0.7]], atol=1e-6)


@pytest.mark.parametrize("price", [0, 0.001])
def test_a_price_for_all_changes_nothing_between_people(price):
    """Both are surely right by their odds, which are cut at 1; the second more so."""
    outputs = np.array([[0.0, 0.0, 2.0, 3.0]])
    two = {"probs": PROBS[:1], "chances": CHANCES[:1, :2]}
    decision = METHODS["softmax"].decide(known(**two, prices=(price, price)), outputs)
    np.testing.assert_array_equal(decision.allocation, [[0, 1, 0]])


def test_a_panel_of_two_classes_is_the_posterior():
    """Whatever people say, the vote is Bayes' rule for independent answers."""
    rng = np.random.default_rng(0)
    second = rng.uniform(0.05, 0.95, 200).astype(np.float32)
    probs = np.stack([1 - second, second], axis=1)
    chances = rng.uniform(0.55, 0.98, (200, 3)).astype(np.float32)
    decision = METHODS["panel"].decide(known(probs, chances, ask=3), None)
    answers = rng.integers(0, 2, (200, 3))
    evidence = logit(second) + ((2 * answers - 1) * logit(chances)).sum(axis=1)
    asked = np.asarray(decision.allocation)[:, :-1].sum(axis=1) > 0
    said = np.asarray(decisions.answer(decision, answers))
    assert asked.any()
    assert (~asked).any()
    np.testing.assert_array_equal(said, expit(evidence) > 0.5)


def test_a_panel_asks_the_surest_of_those_who_can_be_asked():
    available = np.array([[True, True, True], [True, False, True], [False] * 3])
    decision = METHODS["panel"].decide(known(ask=2, available=available), None)
    asked = np.asarray(decision.allocation)[:, :-1] > 0
    # Somebody who is wrong more often than not has no vote.
    assert asked.tolist() == [[True, True, False], [True, False, False], [False] * 3]
    assert np.asarray(decision.allocation)[2].tolist() == [0, 0, 0, 1]
    np.testing.assert_allclose(decision.allocation.sum(axis=1), 1, atol=1e-6)


def test_a_panel_that_cannot_change_the_answer_is_not_asked():
    sure = np.array([[0.999, 0.001]], np.float32)
    decision = METHODS["panel"].decide(
        known(sure, np.array([[0.8, 0.8, 0.7]], np.float32), ask=3), None
    )
    assert np.asarray(decision.allocation)[0].tolist() == [0, 0, 0, 1]


@pytest.mark.parametrize(
    ("name", "change", "reason"),
    [
        ("panel", {"ask": 1}, "several people"),
        ("panel", {"ask": 3, "capacity": True}, "capacity"),
        ("panel", {"ask": 3, "fair": True}, "no thresholds by group"),
        ("panel", {"ask": 3, "guaranteed": True}, "no threshold to guarantee"),
        ("softmax", {"given": True}, "yours is given"),
        ("two_stage", {"prices": np.array([0.1, 0.2])}, "prices differ"),
        ("two_stage", {}, ""),
        ("confidence", {"given": True, "prices": np.array([0.1, 0.2])}, ""),
    ],
)
def test_an_unmet_need_says_why(name, change, reason):
    of_table = {"ask": 1, "prices": np.zeros(2), "capacity": False, "given": False}
    of_table |= {"fair": False, "guaranteed": False}
    found = unmet(METHODS[name], **of_table | change)
    assert reason in found
    assert bool(reason) == bool(found)
