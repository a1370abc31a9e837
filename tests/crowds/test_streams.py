"""Streams: what they measure by hand, and that a run does not know of others."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from l2d_jax import models, optimizers
from l2d_jax.crowds import closed_loop, streams
from l2d_jax.crowds.allocation import Annotators, Arrivals, Committee, draw_noise
from l2d_jax.crowds.streams import Served

pytestmark = pytest.mark.usefixtures("cheap_compiles")

TOL = {"rtol": 1e-5, "atol": 1e-6}
NAN = np.nan


def make_tasks(seed, num_tasks, num_annotators=3, num_categories=2):
    """Annotator m is good at category m, if there is one, and some cannot be asked."""
    generator = np.random.default_rng(seed)
    categories = generator.integers(0, num_categories, num_tasks)
    labels = generator.integers(0, 2, num_tasks)
    skill = np.where(categories[:, None] == np.arange(num_annotators), 0.9, 0.6)
    right = generator.random((num_tasks, num_annotators)) < skill
    answers = np.where(right, labels[:, None], 1 - labels[:, None])
    answers[generator.random(answers.shape) < 0.2] = -1
    return Arrivals(
        np.eye(num_categories, dtype=np.float32)[categories],
        categories.astype(np.int32),
        answers.astype(np.int32),
        labels.astype(np.int32),
        generator.random(answers.shape).astype(np.float32),
    )


ANNOTATORS = Annotators(
    np.array([[0.8, 0.2], [0.2, 0.8], [0.5, 0.5]], np.float32), np.array([1, 0, 1])
)


def hparams_of(**numbers):
    values = dict.fromkeys(closed_loop.HPARAMS, 0.0) | {"learning_rate": 0.3}
    return {name: jnp.float32(value) for name, value in (values | numbers).items()}


@pytest.fixture(scope="module")
def tasks():
    """What four committees found, and a task without a truth."""
    arrivals = Arrivals(
        features=np.zeros((5, 1)),
        categories=np.array([0, 0, 1, 1, 1]),
        answers=np.array([[1, 0], [1, 0], [-1, 0], [-1, -1], [1, 1]]),
        labels=np.array([1, 0, 0, 1, -1]),
    )
    served = Served(
        probs=jnp.array([0.8, 0.6, 0.2, 0.0, 1.0]),
        votes=jnp.array([[0.8, 0.2], [0.6, 0.4], [0.0, 1.0], [0.0, 0.0], [0.5, 0.5]]),
    )
    return arrivals, served


def test_measure_by_hand(tasks):
    arrivals, served = tasks
    measure = jax.jit(streams.measure, static_argnums=(3, 4))
    ours = measure(served, arrivals, np.array([1, 0]), 3, 3)
    # Of the tasks that somebody can answer and whose truth is known: the first is
    # right, the second is not (though somebody knew), the third is.
    expected = {
        "accuracy": 2 / 3,
        "accuracy_by_category": [1 / 2, 1.0, NAN],
        "gap": 1 / 2,
        "regret": 1 / 3,
        "workload": [1.9 / 4, 2.1 / 4],
        "pool_share": [2.1 / 4, 1.9 / 4, 0.0],
    }
    assert ours.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(ours[name], value, **TOL, err_msg=name)
    # Half of the votes is label 0, as is the truth of the second.
    tie = Served(served.probs.at[1].set(0.5), served.votes)
    assert measure(tie, arrivals, np.array([1, 0]), 3, 3)["accuracy"] == 1.0


def test_measure_over_nothing_is_nan(tasks):
    arrivals, served = tasks
    nobody = arrivals._replace(answers=np.full((5, 2), -1))
    measure = jax.jit(streams.measure, static_argnums=(3, 4))
    ours = measure(
        served._replace(votes=0 * served.votes), nobody, np.array([0, 0]), 1, 2
    )
    for name in ("accuracy", "gap", "regret"):
        assert np.isnan(ours[name]), name
    ranking = streams.measure_ranking(served.probs, nobody, 2)
    assert np.isnan(ranking["roc_auc"])
    np.testing.assert_array_equal(ours["workload"], [0.0, 0.0])


def test_measure_ranking_by_hand(tasks):
    arrivals, served = tasks
    ours = jax.jit(streams.measure_ranking, static_argnums=2)(served.probs, arrivals, 3)
    # The one task of label 1 is above the two of label 0 whose truth is known.
    np.testing.assert_allclose(ours["roc_auc"], 1.0, **TOL)
    np.testing.assert_allclose(ours["roc_auc_by_category"], [1.0, NAN, NAN], **TOL)


def test_measure_first_by_hand(tasks):
    arrivals, _ = tasks
    weights = jnp.array([[0.8, 0.2], [0.5, 0.5], [0.0, 1.0], [0.0, 0.0], [1.0, 0.0]])
    ours = jax.jit(streams.measure_first, static_argnums=2)(weights, arrivals, 3)
    # Right, a tie of one who is right with one who is not, and right.
    np.testing.assert_allclose(ours["first_accuracy"], 2.5 / 3, **TOL)
    np.testing.assert_allclose(
        ours["first_accuracy_by_category"], [0.75, 1.0, NAN], **TOL
    )


def test_pad_by_hand():
    arrivals = make_tasks(0, 2)
    padded = streams.pad(arrivals, 3)
    assert padded.gold is None
    jax.tree.map(
        lambda ours, theirs: np.testing.assert_array_equal(ours[:2], theirs),
        padded,
        arrivals,
    )
    np.testing.assert_array_equal(padded.answers[2], [-1, -1, -1])
    np.testing.assert_array_equal(padded.features[2], [0, 0])
    np.testing.assert_array_equal(padded.costs[2], [0, 0, 0])
    assert padded.labels[2] == -1 and padded.categories[2] == 0
    padded = streams.pad(arrivals._replace(costs=None, gold=np.array([0, 1])), 4)
    assert padded.costs is None
    np.testing.assert_array_equal(padded.gold, [0, 1, -1, -1])


SIZES = {"num_pools": 2, "num_categories": 2, "num_windows": 3, "batch_size": 4}
COMMITTEE = Committee(3)


@pytest.fixture(scope="module")
def stream():
    allocator = closed_loop.make_allocator(
        models.linear(3), optimizers.make_plain_sgd()
    )

    def stream(hparams, key, train, test):
        init_key, run_key = jax.random.split(key)
        state = allocator.init(init_key, hparams, ANNOTATORS, train.features[:1])
        return streams.run(
            allocator,
            hparams,
            COMMITTEE,
            ANNOTATORS,
            state,
            train,
            test,
            run_key,
            **SIZES,
        )

    return stream


@pytest.fixture(scope="module")
def alone(stream):
    return jax.jit(stream)


SETTINGS = (
    {"fade": 20.0},
    {"explore": 0.5, "cost_rate": 1.0},
    {"gold": 1.0, "learning_rate": 0.1},
)
TEST = make_tasks(100, 10)


@pytest.mark.long
def test_a_stream_alone_is_its_row_among_many(stream, alone):
    hparams = [hparams_of(**setting) for setting in SETTINGS]
    trains = [make_tasks(seed, 30) for seed in range(3)]
    keys = jax.random.split(jax.random.key(0), 3)
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *hparams)
    many = jax.jit(jax.vmap(stream, (0, 0, 0, None)))(
        stacked, keys, jax.tree.map(lambda *leaves: np.stack(leaves), *trains), TEST
    )
    for row in range(3):
        one = alone(hparams[row], keys[row], trains[row], TEST)
        jax.tree.map(
            lambda ours, theirs, row=row: np.testing.assert_allclose(
                ours[row], theirs, **TOL
            ),
            many,
            one,
        )
    assert not np.allclose(many[0].params["kernel"][0], many[0].params["kernel"][1])


@pytest.mark.long
def test_the_same_seed_twice_is_identical_and_another_is_not(alone):
    hparams, train = hparams_of(fade=20.0), make_tasks(0, 30)
    first, again, other = (
        alone(hparams, jax.random.key(seed), train, TEST) for seed in (0, 0, 1)
    )
    jax.tree.map(np.testing.assert_array_equal, first, again)
    workloads = (run[1]["stream"]["workload"] for run in (first, other))
    assert not np.array_equal(*workloads)


def test_shapes_and_windows(alone):
    """30 tasks in windows of 12: the last one has 6 and padding."""
    state, measures = alone(hparams_of(), jax.random.key(0), make_tasks(0, 30), TEST)
    assert measures["stream"]["accuracy"].shape == (3,)
    assert measures["test"]["workload"].shape == (3, 3)
    assert measures["test"]["first_accuracy_by_category"].shape == (3, 2)
    assert "first_accuracy" not in measures["stream"]
    asked = (make_tasks(0, 30).answers >= 0).any(axis=1).sum()
    assert state.num_seen == asked
    for part in measures.values():
        np.testing.assert_allclose(part["workload"].sum(axis=1), 1.0, **TOL)
        np.testing.assert_allclose(part["pool_share"].sum(axis=1), 1.0, **TOL)


def test_a_stream_that_nobody_can_be_asked_about(alone):
    hparams, train = hparams_of(fade=20.0, cost_rate=1.0), make_tasks(0, 30)
    nobody = train._replace(answers=np.full_like(train.answers, -1))
    state, measures = alone(hparams, jax.random.key(0), nobody, TEST)
    jax.tree.map(
        lambda leaf: np.testing.assert_array_equal(leaf, np.zeros_like(leaf)),
        state.params,
    )
    assert state.num_seen == 0
    assert np.isnan(measures["stream"]["accuracy"]).all()
    np.testing.assert_array_equal(measures["stream"]["workload"], np.zeros((3, 3)))
    # What is held out is served as ever.
    assert np.isfinite(measures["test"]["accuracy"]).all()


def test_batches_of_padding_change_nothing():
    """An optimizer with momentum stands still as well."""
    allocator = closed_loop.make_allocator(models.linear(3), optimizers.make_adam())
    hparams, train = hparams_of(fade=5.0, cost_rate=0.5), make_tasks(0, 6)

    @jax.jit
    def serve(tasks):
        noise = draw_noise(jax.random.key(0), 16, 3, COMMITTEE)[: len(tasks.labels)]
        state = allocator.init(jax.random.key(0), hparams, ANNOTATORS, tasks.features)
        state, served = streams.serve(
            allocator, hparams, COMMITTEE, state, tasks, noise, 2
        )
        return state, served

    state, served = serve(train)
    padded_state, padded = serve(streams.pad(train, 16))
    jax.tree.map(
        lambda ours, theirs: np.testing.assert_allclose(ours, theirs, **TOL),
        padded_state,
        state,
    )
    jax.tree.map(
        lambda ours, theirs: np.testing.assert_allclose(ours[:3], theirs, **TOL),
        padded,
        served,
    )
    np.testing.assert_array_equal(padded.votes[3:], np.zeros((5, 2, 3)))


def test_padding_within_a_batch_changes_nothing():
    allocator = closed_loop.make_allocator(
        models.linear(3), optimizers.make_plain_sgd()
    )
    hparams, train = hparams_of(), make_tasks(0, 3)

    @jax.jit
    def learn(tasks):
        state = allocator.init(jax.random.key(0), hparams, ANNOTATORS, tasks.features)
        noise = jnp.zeros((len(tasks.labels), 0))
        state, _ = streams.serve(
            allocator, hparams, Committee(0), state, tasks, noise, len(tasks.labels)
        )
        return state.params

    params = learn(train)
    assert np.abs(params["kernel"]).max() > 0.01
    jax.tree.map(
        lambda ours, theirs: np.testing.assert_allclose(ours, theirs, **TOL),
        learn(streams.pad(train, 5)),
        params,
    )


def test_deploy_learns_nothing_and_observe_chooses_what_is_kept():
    allocator = closed_loop.make_allocator(
        models.linear(3), optimizers.make_plain_sgd()
    )
    hparams, train = hparams_of(explore=1.0), make_tasks(0, 4)
    noise, everybody = jnp.zeros((4, 0)), Committee(0)

    def keep(arrivals, served):
        return arrivals.labels, served.probs

    @jax.jit
    def run(train):
        state = allocator.init(jax.random.key(0), hparams, ANNOTATORS, train.features)
        deployed = streams.deploy(allocator, hparams, everybody, state, train, noise)
        served = streams.serve(
            allocator, hparams, everybody, state, train, noise, 2, keep
        )
        return deployed, served[1]

    (served, weights), kept = run(train)
    available = train.answers >= 0
    # A model that starts from zero prefers nobody.
    uniform = available / np.maximum(available.sum(axis=1, keepdims=True), 1)
    np.testing.assert_allclose(weights, uniform, **TOL)
    np.testing.assert_array_equal(served.votes, weights)
    np.testing.assert_array_equal(kept[0].reshape(-1), train.labels)
    np.testing.assert_allclose(kept[1].reshape(-1), served.probs, **TOL)


@pytest.mark.long
def test_an_order_serves_as_arrivals_in_that_order():
    """To the last bit; and many orders share the tasks, of which none has a copy."""
    allocator = closed_loop.make_allocator(
        models.linear(3), optimizers.make_plain_sgd()
    )
    hparams, train = hparams_of(fade=5.0, cost_rate=0.5), make_tasks(0, 7)
    # The last has a row that is not there, where nobody can look beforehand.
    orders = np.array([[6, 2, 2, 0], [1, 3, 5, 4], [0, 1, 2, 7]])
    noise = draw_noise(jax.random.key(0), 4, 3, COMMITTEE)

    def serve(tasks, order=None):
        state = allocator.init(jax.random.key(0), hparams, ANNOTATORS, tasks.features)
        return streams.serve(
            allocator, hparams, COMMITTEE, state, tasks, noise, 2, order=order
        )

    found = jax.jit(jax.vmap(serve, (None, 0)))(train, orders)
    gathered = jax.tree.map(lambda leaf: leaf[np.minimum(orders, 6)], train)
    expected = jax.jit(jax.vmap(serve))(gathered)
    np.testing.assert_array_equal(found[1].votes[2, 1, 1], np.zeros(3))
    found, expected = jax.tree.map(lambda leaf: leaf[:2], (found, expected))
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    assert np.abs(found[0].params["kernel"]).max() > 0.01


def test_what_cannot_be_an_order():
    train, noise = make_tasks(0, 3), jnp.zeros((4, 0))
    for order, says in (
        ([0, 1, 2, 3], "order must be rows of the 3 arrivals, got 3 in row 3"),
        ([0, -1, 2, 0], "order must be rows of the 3 arrivals, got -1 in row 1"),
        ([0, 1, 2], "3 arrivals are no whole number of batches of 2"),
    ):
        with pytest.raises(ValueError, match=says):
            streams.serve(
                None, {}, Committee(0), None, train, noise, 2, order=np.array(order)
            )


def test_arrivals_must_fill_their_batches():
    arrivals = Arrivals(
        np.zeros((3, 1), np.float32),
        np.zeros(3, np.int32),
        np.zeros((3, 2), np.int32),
        np.zeros(3, np.int32),
    )
    with pytest.raises(ValueError, match="3 arrivals are no whole number of batches"):
        streams.serve(None, {}, Committee(0), None, arrivals, np.zeros((3, 0)), 2)
    with pytest.raises(ValueError, match="size 2 is less than the 3 arrivals"):
        streams.pad(arrivals, 2)


def test_padding_of_a_type_without_a_minus_is_no_task():
    known = make_tasks(0, 4)
    known = known._replace(
        answers=np.maximum(known.answers, 0), labels=np.maximum(known.labels, 0)
    )
    small = known._replace(
        answers=known.answers.astype(bool), labels=known.labels.astype(np.uint8)
    )
    found, expected = streams.pad(small, 7), streams.pad(known, 7)
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    assert (np.asarray(found.answers)[4:] == -1).all()


def test_a_committee_that_ties_is_refused(stream, monkeypatch):
    monkeypatch.setitem(stream.__globals__, "COMMITTEE", Committee(2))
    tasks = make_tasks(0, 12)
    with pytest.raises(ValueError, match="committee size 2 is even"):
        stream(hparams_of(), jax.random.key(0), tasks, tasks)
