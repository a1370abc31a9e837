"""A tie is label 0, whatever the size of the committee and the order of its seats."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from l2d_jax import decisions
from l2d_jax.crowds import allocation, competence, dawid_skene
from l2d_jax.crowds.allocation import Annotators, Committee

EVEN = np.arange(2, 101, 2)
normalize, vote = jax.jit(allocation.normalize), jax.jit(allocation.vote)


def halves(size):
    """Half say 1: in turn, first, last, and in disorder."""
    turns = np.arange(size) % 2
    disorder = np.random.default_rng(size).permutation(turns)
    return [turns, np.sort(turns), np.sort(turns)[::-1], disorder]


@pytest.mark.parametrize("size", [*EVEN[::7], 20, 22, 28, 40])
def test_a_tie_of_equal_weights_is_a_half(size):
    weights = normalize(np.ones(size, np.float32), np.ones(size, bool))
    for answers in halves(size):
        assert vote(weights, answers) == 0.5
        # One vote more is no tie.
        more = np.array(answers)
        more[np.argmin(more)] = 1
        assert vote(weights, more) > 0.5


def test_everybody_votes_and_ties_over_unasked_people():
    answers = np.r_[np.arange(20) % 2, np.full(9, -1)]
    weights = normalize(np.full(29, 0.3, np.float32), answers >= 0)
    seats = allocation.seat(weights, np.zeros(0), Committee(0))
    assert allocation.vote(seats, answers) == 0.5


@pytest.mark.long
@pytest.mark.parametrize("size", [4, 20, 22, 28, 40])
def test_a_tie_of_decisions_is_the_lowest_label(size):
    for answers in halves(size):
        everybody = decisions.majority_decision(1, 2, size)
        assert decisions.answer(everybody, answers[None])[0] == 0


@pytest.mark.long
@pytest.mark.parametrize("size", [4, 20, 22, 28, 40])
@pytest.mark.parametrize(
    "crowd", [dawid_skene.make_crowd(), competence.make_crowd(0.7)]
)
def test_a_tie_of_a_crowd_is_a_half(crowd, size):
    people = Annotators(np.full((size, 1), 0.5, np.float32), np.zeros(size, int))
    answers = np.stack(halves(size))
    probs = jax.jit(crowd.posterior)(
        crowd.init(people), jnp.zeros(len(answers), int), answers, answers >= 0
    )
    np.testing.assert_array_equal(probs, 0.5)


@pytest.mark.long
@pytest.mark.parametrize("size", [4, 20, 28])
def test_a_tie_stays_one_in_em(size):
    answers = np.stack([halves(size)[1], 1 - halves(size)[1]])
    _, probs = dawid_skene.fit(answers, np.ones_like(answers), 20)
    np.testing.assert_array_equal(probs, 0.5)


@pytest.mark.parametrize("size", [999, 3001, 6001, 9999])
def test_a_single_vote_decides_among_thousands(size):
    answers = (np.arange(size) > size // 2 - 1).astype(int)
    assert answers.sum() == size // 2 + 1
    assert allocation.vote(np.full(size, 1 / size, np.float32), answers) > 0.5
    everybody = decisions.majority_decision(1, 2, size)
    assert decisions.answer(everybody, answers[None])[0] == 1


@pytest.mark.parametrize("size", [66, 250, 1000, 3000, 9998])
def test_a_tie_among_thousands_is_label_0(size):
    generator = np.random.default_rng(size)
    everybody = decisions.majority_decision(1, 2, size)
    for _ in range(10):
        answers = generator.permutation(np.arange(size) % 2)
        assert allocation.vote(np.full(size, 1 / size, np.float32), answers) == 0.5
        assert decisions.answer(everybody, answers[None])[0] == 0
