"""Committees whose seats are drawn by the weights of a decision."""

import jax
import numpy as np
import pytest

from l2d_jax import decisions
from l2d_jax.policies import committees
from l2d_jax.types import Decision

pytestmark = pytest.mark.usefixtures("cheap_compiles")

KEY = jax.random.key(0)
# Two rows: the first expert, the third and the classifier vote; nobody was asked.
SHARES = np.array([[0.5 / 1.65, 0, 0.9 / 1.65, 0.25 / 1.65], [0, 0, 0, 1]], np.float32)
ANSWERS = np.array([[1, -1, 0], [-1, -1, -1]], np.int32)
PROBS = np.array([[0.2, 0.8], [0.7, 0.3]], np.float32)


def make_decision(count=1, allocation=SHARES, probs=PROBS):
    allocation, probs = (np.repeat(leaf, count, 0) for leaf in (allocation, probs))
    estimate = np.full(allocation[:, :-1].shape, 0.5, np.float32)
    return Decision(
        probs, estimate, allocation[:, :-1] - allocation[:, -1:], allocation
    )


def test_seats_are_drawn_by_share():
    count = 4000
    drawn = jax.jit(lambda d: committees.draw_committee(KEY, d, 3))(
        make_decision(count)
    )
    seats = np.asarray(drawn.allocation).reshape(2, count, 4)
    np.testing.assert_allclose(seats.sum(-1), 1.0, rtol=0, atol=1e-6)
    assert set(np.unique(np.round(3 * seats))) == {0, 1, 2, 3}
    # No seat is no share: a share of 1e-8 would let in a classifier that is not there.
    assert (seats[np.round(3 * seats) == 0] == 0).all()
    # Four standard errors of 12,000 draws.
    np.testing.assert_allclose(seats.mean(1), SHARES, rtol=0, atol=0.018)
    # Who has no weight has no seat at all.
    assert (seats[0, :, 1] == 0).all()
    assert (seats[1, :, :3] == 0).all()


@pytest.mark.long
def test_the_classifier_votes_for_a_class():
    """Two of five seats are its own, the first expert has one and the third two."""
    seats = np.array([[0.2, 0, 0.4, 0.4], [0, 0, 0, 1.0]], np.float32)
    decision = make_decision(400)
    drawn = committees.draw_committee(KEY, decision, 5)
    np.testing.assert_array_equal(
        drawn.class_probs, np.repeat([[0, 1], [1, 0]], 400, 0)
    )
    as_drawn = jax.tree.map(lambda leaf: leaf[::400], drawn)._replace(allocation=seats)
    votes = decisions.vote(as_drawn, ANSWERS)
    np.testing.assert_allclose(votes, [[0.4, 0.6], [1, 0]], rtol=1e-6, atol=1e-7)
    # The share of the votes of those drawn is the share of their seats.
    answers = np.repeat(ANSWERS, 400, 0)
    ones = drawn.allocation[:400, 0] + drawn.allocation[:400, 3]
    votes = decisions.vote(drawn, answers)
    np.testing.assert_allclose(votes[:400, 1], ones, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(
        decisions.answer(drawn, answers)[:400], np.asarray(ones) > 0.5
    )


def test_the_rest_of_a_decision_is_left_as_it_is():
    decision = make_decision(5)
    drawn = committees.draw_committee(KEY, decision, 3)
    np.testing.assert_array_equal(drawn.defer_score, decision.defer_score)
    np.testing.assert_array_equal(
        drawn.expert_correct_prob, decision.expert_correct_prob
    )
    again = committees.draw_committee(KEY, decision, 3)
    np.testing.assert_array_equal(again.allocation, drawn.allocation)
    other = committees.draw_committee(jax.random.key(1), decision, 3)
    assert (other.allocation != drawn.allocation).any()


def test_who_cannot_be_asked_has_no_seat():
    generator = np.random.default_rng(0)
    weights = generator.dirichlet(np.ones(5), 300).astype(np.float32)
    available = generator.random((300, 4)) < 0.5
    decision = make_decision(1, weights, np.full((300, 3), 1 / 3, np.float32))
    left = decisions.among(decision, available)
    seats = np.asarray(committees.draw_committee(KEY, left, 7).allocation)
    assert (seats[:, :-1][~available] == 0).all()
    assert (seats[:, :-1][available] > 0).any()
    np.testing.assert_allclose(seats.sum(1), 1.0, rtol=1e-6)


def test_a_classifier_that_is_not_there_has_no_vote():
    everybody = decisions.majority_decision(50, 3, 4)
    drawn = committees.draw_committee(KEY, everybody, 3)
    assert np.isnan(drawn.class_probs).all()
    np.testing.assert_array_equal(decisions.prediction(drawn), -1)
    assert (np.asarray(drawn.allocation)[:, -1] == 0).all()
    answers = np.tile([0, 1, 2, 2], (50, 1))
    votes = decisions.vote(drawn, answers)
    np.testing.assert_allclose(np.sum(votes, axis=1), 1.0, rtol=1e-6)


def test_a_committee_of_nobody():
    with pytest.raises(ValueError, match="size must be > 0, got 0"):
        committees.draw_committee(KEY, make_decision(), 0)
