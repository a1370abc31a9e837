"""The table of weights that rewards and penalties move."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from l2d_jax.crowds import reward_penalty, streams
from l2d_jax.crowds.allocation import Annotators, Arrivals, Committee, draw_noise
from l2d_jax.simulate import biased_groups

pytestmark = pytest.mark.usefixtures("cheap_compiles")

TOL = {"rtol": 1e-5, "atol": 1e-6}
ANNOTATORS = Annotators(
    np.array([[0.5, 1.0, 0.0], [0.3, 1.0, 0.0], [0.2, 1.0, 0.0]]), np.zeros(3, int)
)
START = np.array([[0.5, 1 / 3, 1 / 3], [0.3, 1 / 3, 1 / 3], [0.2, 1 / 3, 1 / 3]])


def arrivals_of(categories, answers, labels, gold=None):
    size = len(categories)
    return Arrivals(
        np.zeros((size, 1), np.float32),
        np.array(categories),
        np.array(answers),
        np.array(labels),
        gold=None if gold is None else np.array(gold),
    )


def hparams_of(gold, rate=1.0):
    return {"gold": jnp.float32(gold), "rate": jnp.float32(rate)}


@pytest.fixture(scope="module")
def allocators():
    made = {}
    for everyone in (True, False):
        allocator = reward_penalty.make_allocator(everyone)
        made[everyone] = type(allocator)(*map(jax.jit, allocator))
    return made


@pytest.fixture(scope="module")
def table(allocators):
    return allocators[True].init(None, {}, ANNOTATORS, np.zeros((1, 1)))


def learn(allocator, table, arrivals, hparams, votes=None):
    """With the votes of everybody by weight, if none are given."""
    if votes is None:
        votes = allocator.weigh(table, hparams, arrivals)
    probs = allocator.aggregate(table, hparams, arrivals, votes)
    return np.asarray(allocator.learn(table, hparams, arrivals, votes, probs))


def test_it_starts_in_proportion_to_the_prior(allocators, table):
    np.testing.assert_allclose(table, START, **TOL)
    arrivals = arrivals_of(
        [0, 0, 2, 0], [[1, 0, 1], [1, 0, -1], [0, 0, 0], [-1] * 3], [1] * 4
    )
    weights = allocators[True].weigh(table, {}, arrivals)
    expected = [[0.5, 0.3, 0.2], [0.625, 0.375, 0], [1 / 3] * 3, [0, 0, 0]]
    np.testing.assert_allclose(weights, expected, **TOL)
    np.testing.assert_allclose(
        allocators[True].deploy(table, {}, arrivals), expected, **TOL
    )


def test_a_step_by_hand(allocators, table):
    arrivals = arrivals_of([0], [[1, 0, 1]], [0])
    # The committee says 1, with .7 of the weight, which .3 lose and the rest gain.
    ours = learn(allocators[True], table, arrivals, hparams_of(0.0))
    np.testing.assert_allclose(ours[:, 0], [0.65, 0.09, 0.26], **TOL)
    np.testing.assert_allclose(ours[:, 1:], START[:, 1:], **TOL)
    # The truth is 0: .3 of the weight agrees.
    ours = learn(allocators[True], table, arrivals, hparams_of(1.0, 0.5))
    np.testing.assert_allclose(ours[:, 0], [0.425, 0.405, 0.17], **TOL)
    # Gold labels come before the truth.
    arrivals = arrivals._replace(gold=np.array([1]))
    ours = learn(allocators[True], table, arrivals, hparams_of(1.0))
    np.testing.assert_allclose(ours[:, 0], [0.65, 0.09, 0.26], **TOL)


def test_only_who_was_asked(allocators, table):
    arrivals = arrivals_of([0], [[1, 0, 1]], [0])
    votes = jnp.array([[2 / 3, 1 / 3, 0.0]])
    # Of the .8 who were heard, 5/8 agree; the third keeps what they have.
    ours = learn(allocators[False], table, arrivals, hparams_of(0.0), votes)
    np.testing.assert_allclose(ours[:, 0], [0.6875, 0.1125, 0.2], **TOL)
    # As though all had been heard: .7 agree.
    ours = learn(allocators[True], table, arrivals, hparams_of(0.0), votes)
    np.testing.assert_allclose(ours[:, 0], [0.65, 0.09, 0.26], **TOL)


def test_a_committee_of_one_agrees_with_itself(allocators, table):
    arrivals = arrivals_of([0, 1], [[1, 0, 1], [0, 1, 1]], [0, 0])
    votes = jnp.eye(3)[:2]
    ours = learn(allocators[False], table, arrivals, hparams_of(0.0), votes)
    np.testing.assert_allclose(ours, START, **TOL)


def test_a_batch_moves_each_category_by_its_mean(allocators, table):
    arrivals = arrivals_of([0, 1, 0], [[1, 0, 1], [1, 1, 0], [0, 1, 1]], [1, 1, 0])
    hparams = hparams_of(1.0, 0.4)
    ours = learn(allocators[True], table, arrivals, hparams)
    steps = [
        learn(
            allocators[True],
            table,
            jax.tree.map(lambda x, i=i: x[i, None], arrivals),
            hparams,
        )
        - START
        for i in range(3)
    ]
    np.testing.assert_allclose(
        ours[:, 0], (START + (steps[0] + steps[2]) / 2)[:, 0], **TOL
    )
    np.testing.assert_allclose(ours[:, 1], (START + steps[1])[:, 1], **TOL)
    np.testing.assert_allclose(ours[:, 2], START[:, 2], **TOL)


def test_what_is_not_known_teaches_nothing(allocators, table):
    """Nobody could be asked, or there is no gold label: as if there were no task."""
    arrivals = arrivals_of([0], [[1, 0, 1]], [0])
    more = arrivals_of([0, 0, 0], [[1, 0, 1], [-1] * 3, [0, 1, 0]], [0, 1, -1])
    for everyone in (True, False):
        expected = learn(allocators[everyone], table, arrivals, hparams_of(1.0))
        ours = learn(allocators[everyone], table, more, hparams_of(1.0))
        np.testing.assert_allclose(ours, expected, **TOL)
    nobody = arrivals_of([0], [[-1, -1, -1]], [1])
    for gold in (0.0, 1.0):
        ours = learn(allocators[True], table, nobody, hparams_of(gold))
        np.testing.assert_allclose(ours, START, **TOL)


def test_who_cannot_be_asked_keeps_their_weight(allocators, table):
    arrivals = arrivals_of([0], [[1, 0, -1]], [0])
    ours = learn(allocators[True], table, arrivals, hparams_of(0.0))
    # Of .8 who answer, 5/8 say 1. The third answered nothing, which is not 0.
    np.testing.assert_allclose(ours[:, 0], [0.6875, 0.1125, 0.2], **TOL)


def test_weights_stay_weights_along_a_stream():
    annotators = biased_groups.make_annotators(5, 0.6, 0.5)
    allocator = reward_penalty.make_allocator(True)
    committee = Committee(1)

    @jax.jit
    def run(hparams):
        tasks = biased_groups.simulate(jax.random.key(0), 200, 5, 0.6)
        table = allocator.init(None, hparams, annotators, tasks.features)
        noise = draw_noise(jax.random.key(1), 200, 5, committee)
        return streams.serve(allocator, hparams, committee, table, tasks, noise, 4)

    gold, _ = run(hparams_of(1.0, 0.2))
    for table in (gold, run(hparams_of(0.0, 1.0))[0]):
        np.testing.assert_allclose(table.sum(axis=0), [1, 1], rtol=0, atol=1e-4)
        assert (np.asarray(table) >= -1e-6).all()
    # With the truth, who guesses on a group is soon not asked about it.
    against = np.asarray(annotators.pools)
    for group in (0, 1):
        assert gold[against == group, group].sum() < 0.05
