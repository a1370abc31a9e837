"""Closed loops against a loop in float64 NumPy, and what they must never do."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from l2d_jax import models, optimizers
from l2d_jax.crowds import allocation, closed_loop, dawid_skene, streams
from l2d_jax.crowds.allocation import Annotators, Arrivals, Committee
from l2d_jax.types import ModelFns

pytestmark = [pytest.mark.usefixtures("cheap_compiles"), pytest.mark.long]

TOL = {"rtol": 1e-4, "atol": 1e-5}
SIMILARITY = np.array([[0.9, 0.3], [0.3, 0.6]])
ANNOTATORS = Annotators(SIMILARITY, np.array([0, 1]))
LOG3 = np.log(3.0)
EVERYBODY = Committee(0)


def hparams_of(**numbers):
    values = dict.fromkeys(closed_loop.HPARAMS, 0.0) | {"learning_rate": 0.5}
    assert numbers.keys() <= values.keys()
    return {name: jnp.float32(value) for name, value in (values | numbers).items()}


def four_tasks():
    """The third cannot be given to annotator 0, nor the last to anybody."""
    return Arrivals(
        features=np.array([[1.0, 0.5], [-0.5, 2.0], [0.3, -1.0], [1.0, 1.0]]),
        categories=np.array([0, 1, 0, 1]),
        answers=np.array([[1, 0], [1, 0], [-1, 1], [-1, -1]]),
        labels=np.array([0, 1, 1, -1]),
        costs=np.array([[0.2, 1.0], [0.5, 0.1], [0.3, 0.4], [0.0, 0.0]]),
    )


# The loop by hand, of a linear model that starts from 0 and all annotators' votes.


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def share_out(scores, available):
    scores = np.where(available, scores, 0.0)
    return scores / scores.sum() if scores.sum() > 0 else scores


def head(logits, available, form):
    return share_out(
        sigmoid(logits) if form == "sigmoid" else np.exp(logits), available
    )


def slope_of_head(weights, slope, logits, form):
    """Chain rule: of a loss whose slope in the weights is known, in the logits."""
    slope = weights * (slope - weights @ slope)
    return slope * (1 - sigmoid(logits)) if form == "sigmoid" else slope


def slope_of_task(logits, answers, label, costs, form, feedback, numbers):
    """Slope of a task's loss in the scores."""
    asked = answers >= 0
    agrees = answers == label
    weights = head(logits, asked, form)
    if feedback == "agreement":
        slope = asked * (sigmoid(logits) - agrees)
    elif feedback == "committee":
        ones = (answers == 1).astype(float)
        lean = 2 * (sigmoid(2 * weights @ ones - 1) - label)
        slope = slope_of_head(weights, lean * ones, logits, form)
    else:
        agreeing = weights[agrees].sum()
        moved = weights * np.where(agrees, 1 - agreeing, -agreeing)
        slope = -moved * (1 - sigmoid(logits) if form == "sigmoid" else 1)
    spent = slope_of_head(weights, costs, logits, form)
    return slope + numbers["cost_rate"] * spent


def loop(tasks, numbers, form, feedback, batch_size):
    kernel, bias, seen = np.zeros((2, 2)), np.zeros(2), 0
    served, all_weights = [], []
    for start in range(0, len(tasks.labels), batch_size):
        slopes, inputs, asked_of = [], [], 0
        for i in range(start, start + batch_size):
            x, z, answers, label, costs = (leaf[i] for leaf in tasks[:5])
            asked = answers >= 0
            logits = x @ kernel + bias
            share = seen / (seen + numbers["fade"]) if numbers["fade"] else 1.0
            if numbers["fade"] == np.inf:
                share = 0.0
            weights = share * head(logits, asked, form)
            weights = weights + (1 - share) * share_out(SIMILARITY[:, z], asked)
            uniform = share_out(np.ones(2), asked)
            explore = numbers["explore"]
            weights = (1 - explore) * weights + explore * uniform
            cheap = np.exp(-numbers["cost_rate"] * costs)
            weights = share_out(weights * cheap, asked)
            prob = weights[answers == 1].sum()
            served.append(prob)
            all_weights.append(weights)
            asked_of += asked.any()
            gold = numbers["gold"] > 0
            found = label if gold else int(prob > 0.5)
            if asked.any() and not (gold and label < 0):
                inputs.append(x)
                slopes.append(
                    slope_of_task(
                        logits, answers, found, costs, form, feedback, numbers
                    )
                )
        for x, slope in zip(inputs, slopes, strict=True):
            rate = numbers["learning_rate"] / len(slopes)
            kernel = kernel - rate * np.outer(x, slope)
            bias = bias - rate * slope
        seen += asked_of
    return kernel, bias, seen, np.array(served), np.array(all_weights)


@functools.cache
def program(form, feedback, batch_size):
    allocator = closed_loop.make_allocator(
        models.linear(2), optimizers.make_plain_sgd(), form=form, feedback=feedback
    )

    @jax.jit
    def serve(hparams, tasks):
        state = allocator.init(jax.random.key(0), hparams, ANNOTATORS, tasks.features)
        noise = jnp.zeros((len(tasks.labels), 0))
        return streams.serve(
            allocator, hparams, EVERYBODY, state, tasks, noise, batch_size
        )

    return serve


SETTINGS = {
    "no_prior": {},
    "smooth": {"fade": 2.0},
    "prior": {"fade": np.inf},
    "bandit": {"explore": 0.5},
    "gold": {"gold": 1.0},
    "costs": {"cost_rate": 0.8, "fade": 1.0},
}


@pytest.mark.parametrize(
    ("form", "feedback", "batch_size"),
    [
        ("sigmoid", "agreement", 1),
        ("sigmoid", "agreement", 2),
        ("softmax", "committee", 1),
        ("sigmoid", "committee", 2),
        ("softmax", "reward", 1),
        ("sigmoid", "reward", 1),
    ],
)
def test_it_is_the_loop_by_hand(form, feedback, batch_size):
    tasks = four_tasks()
    tasks = tasks._replace(labels=np.array([0, -1, 1, 1]))
    serve = program(form, feedback, batch_size)
    for name, setting in SETTINGS.items():
        hparams = hparams_of(**setting)
        state, served = serve(hparams, tasks)
        numbers = {key: float(value) for key, value in hparams.items()}
        kernel, bias, seen, probs, weights = loop(
            tasks, numbers, form, feedback, batch_size
        )
        np.testing.assert_allclose(state.params["kernel"], kernel, **TOL, err_msg=name)
        np.testing.assert_allclose(state.params["bias"], bias, **TOL, err_msg=name)
        np.testing.assert_allclose(served.probs.reshape(-1), probs, **TOL)
        np.testing.assert_allclose(served.votes.reshape(-1, 2), weights, **TOL)
        assert state.num_seen == seen == 3
        assert np.abs(kernel).max() > 0.01


@pytest.fixture(scope="module")
def allocator():
    made = closed_loop.make_allocator(models.linear(2), optimizers.make_plain_sgd())
    return type(made)(*map(jax.jit, made))


@pytest.fixture(scope="module")
def state(allocator):
    """A model that prefers annotator 1 by 3 to 1, whatever the task."""
    state = allocator.init(
        jax.random.key(0), hparams_of(), ANNOTATORS, four_tasks().features
    )
    # sigmoid(-100) = exp(-100), sigmoid(-100 + log 3) is three times that.
    bias = jnp.array([-100.0, -100.0 + LOG3])
    return state._replace(params={"kernel": jnp.zeros((2, 2)), "bias": bias})


def test_weights_of_the_methods_by_hand(allocator, state):
    tasks = four_tasks()._replace(costs=np.zeros((4, 2)))
    model = [[0.25, 0.75], [0.25, 0.75], [0, 1], [0, 0]]
    prior = [[0.75, 0.25], [1 / 3, 2 / 3], [0, 1], [0, 0]]
    uniform = [[0.5, 0.5], [0.5, 0.5], [0, 1], [0, 0]]
    state = state._replace(num_seen=jnp.float32(6.0))
    for setting, share in (
        ({}, (1.0, 0.0, 0.0)),
        ({"fade": 2.0}, (0.75, 0.25, 0.0)),
        ({"fade": jnp.inf}, (0.0, 1.0, 0.0)),
        ({"explore": 1.0}, (0.0, 0.0, 1.0)),
        ({"explore": 0.5, "fade": 6.0}, (0.25, 0.25, 0.5)),
    ):
        ours = allocator.weigh(state, hparams_of(**setting), tasks)
        expected = np.einsum("s,sbm->bm", share, np.array([model, prior, uniform]))
        np.testing.assert_allclose(ours, expected, **TOL, err_msg=str(setting))
        # While learning is over, neither the prior nor exploration counts,
        ours = allocator.deploy(state, hparams_of(**setting), tasks)
        np.testing.assert_allclose(ours, model, **TOL)
    # unless the prior is what is deployed.
    ours = allocator.deploy(state, hparams_of(deploy_prior=1.0), tasks)
    np.testing.assert_allclose(ours, prior, **TOL)


def test_costs_enter_the_choice(allocator, state):
    tasks = four_tasks()._replace(costs=np.array([[0.0, LOG3]] * 4))
    for choose in (allocator.weigh, allocator.deploy):
        ours = choose(state, hparams_of(cost_rate=1.0), tasks)
        expected = [[0.5, 0.5], [0.5, 0.5], [0, 1], [0, 0]]
        np.testing.assert_allclose(ours, expected, **TOL)
    huge = tasks._replace(costs=np.array([[1e30, 0.0]] * 4))
    ours = allocator.weigh(state, hparams_of(cost_rate=1.0), huge)
    np.testing.assert_allclose(ours, [[0, 1], [0, 1], [0, 1], [0, 0]], **TOL)


def learn(allocator, state, tasks, **numbers):
    hparams = hparams_of(**numbers)
    votes = allocator.weigh(state, hparams, tasks)
    probs = allocator.aggregate(state, hparams, tasks, votes)
    return allocator.learn(state, hparams, tasks, votes, probs)


def test_costs_enter_the_loss(allocator, state):
    """With nothing to learn from the labels, the dearer annotator is asked less."""
    state = state._replace(params={"kernel": jnp.zeros((2, 2)), "bias": jnp.zeros(2)})
    tasks = four_tasks()._replace(
        answers=np.array([[1, 1]] * 4), costs=np.array([[0.0, 2.0]] * 4)
    )
    free = learn(allocator, state, tasks).params["bias"]
    np.testing.assert_allclose(free[0], free[1], **TOL)
    assert free[0] > 0
    # Of w.c = 2 w_2, with w_2 = 1/2: slope 2 w_1 w_2 (1 - sigmoid(0)) = 1/4.
    dear = learn(allocator, state, tasks, cost_rate=1.0).params["bias"]
    np.testing.assert_allclose(dear - free, [0.5 / 4, -0.5 / 4], **TOL)


def test_what_asking_the_unasked_would_cost_changes_nothing(allocator, state):
    tasks = four_tasks()
    odd = tasks._replace(costs=np.where(tasks.answers < 0, np.nan, tasks.costs))
    for numbers in ({"fade": 2.0, "cost_rate": 0.7}, {"gold": 1.0}):
        expected = learn(allocator, state, tasks, **numbers)
        ours = learn(allocator, state, odd, **numbers)
        jax.tree.map(np.testing.assert_array_equal, ours, expected)
    # An answer of 0 is another thing.
    zeros = tasks._replace(answers=np.maximum(tasks.answers, 0))
    ours = learn(allocator, state, zeros)
    assert np.abs(ours.params["bias"] - state.params["bias"]).max() > 0.01
    assert not np.allclose(ours.params["kernel"], expected.params["kernel"])


@pytest.mark.parametrize("crowd", ["vote", "dawid_skene"])
def test_an_annotator_who_is_never_there_changes_nothing(crowd):
    crowd = None if crowd == "vote" else dawid_skene.make_crowd()
    hparams = hparams_of(fade=2.0, cost_rate=0.5)
    results = []
    for extra in (0, 1):
        tasks = four_tasks()
        absent = np.full((4, extra), -1)
        tasks = tasks._replace(
            answers=np.hstack([tasks.answers, absent]),
            costs=np.hstack([tasks.costs, 3.0 * absent]),
        )
        annotators = Annotators(
            np.vstack([SIMILARITY, np.ones((extra, 2))]),
            np.array([0, 1, 1][: 2 + extra]),
        )
        allocator = closed_loop.make_allocator(
            models.linear(2 + extra), optimizers.make_plain_sgd(), crowd=crowd
        )

        @jax.jit
        def serve(tasks, allocator=allocator, annotators=annotators):
            key = jax.random.key(0)
            state = allocator.init(key, hparams, annotators, tasks.features)
            return streams.serve(
                allocator, hparams, EVERYBODY, state, tasks, jnp.zeros((4, 0)), 2
            )

        results.append(serve(tasks))
    (state, served), (more_state, more) = results
    np.testing.assert_allclose(more.probs, served.probs, **TOL)
    np.testing.assert_allclose(more.votes[..., :2], served.votes, **TOL)
    np.testing.assert_array_equal(more.votes[..., 2], 0.0)
    kernel = more_state.params["kernel"]
    np.testing.assert_allclose(kernel[:, :2], state.params["kernel"], **TOL)
    np.testing.assert_array_equal(kernel[:, 2], 0.0)


def test_nobody_is_there(allocator, state):
    tasks = four_tasks()._replace(answers=np.full((4, 2), -1))
    for numbers in ({}, {"gold": 1.0}, {"explore": 1.0, "cost_rate": 1.0}):
        weights = allocator.weigh(state, hparams_of(**numbers), tasks)
        np.testing.assert_array_equal(weights, np.zeros((4, 2)))
        ours = learn(allocator, state, tasks, **numbers)
        jax.tree.map(np.testing.assert_array_equal, ours, state)


def test_gold_labels(allocator, state):
    """They teach in place of the vote, and where there are none, nothing."""
    tasks = four_tasks()
    none = tasks._replace(gold=np.full(4, -1))
    ours = learn(allocator, state, none, gold=1.0)
    jax.tree.map(np.testing.assert_array_equal, ours.params, state.params)
    # Those without one do not weaken the others.
    gold = np.array([0, -1, -1, -1])
    ours = learn(allocator, state, tasks._replace(gold=gold), gold=1.0)
    first = jax.tree.map(lambda leaf: leaf[:1], tasks._replace(gold=gold))
    expected = learn(allocator, state, first, gold=1.0)
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, **TOL),
        ours.params,
        expected.params,
    )
    assert np.abs(ours.params["bias"] - state.params["bias"]).max() > 0.1
    # The vote, which is what a closed loop has, does not read them.
    vote = learn(allocator, state, tasks._replace(gold=gold)).params
    blind = learn(allocator, state, tasks._replace(labels=np.zeros(4, int))).params
    jax.tree.map(np.testing.assert_array_equal, vote, blind)


def test_reward_moves_softmax_scores_by_rewards_less_penalties():
    made = closed_loop.make_allocator(
        models.linear(3), optimizers.make_plain_sgd(), form="softmax", feedback="reward"
    )
    tasks = Arrivals(
        np.zeros((1, 1)), np.array([0]), np.array([[1, 0, 1]]), np.array([1])
    )
    annotators = Annotators(np.ones((3, 1)), np.zeros(3, int))
    hparams = hparams_of(learning_rate=1.0)
    bias = np.log([0.5, 0.3, 0.2])

    @jax.jit
    def step(bias):
        state = made.init(jax.random.key(0), hparams, annotators, tasks.features)
        state = state._replace(params={"kernel": jnp.zeros((1, 3)), "bias": bias})
        weights = made.weigh(state, hparams, tasks)
        probs = made.aggregate(state, hparams, tasks, weights)
        return made.learn(state, hparams, tasks, weights, probs).params["bias"]

    rewards, penalties = allocation.rewards_and_penalties(
        np.array([0.5, 0.3, 0.2]), np.array([1, 0, 1], bool), np.ones(3, bool), 1.0
    )
    np.testing.assert_allclose(step(bias) - bias, rewards - penalties, **TOL)
    np.testing.assert_allclose(step(bias) - bias, [0.15, -0.21, 0.06], **TOL)


@pytest.mark.parametrize("feedback", closed_loop.FEEDBACKS)
def test_extreme_scores_are_finite(feedback):
    for form in allocation.FORMS:
        made = closed_loop.make_allocator(
            models.linear(2), optimizers.make_plain_sgd(), form=form, feedback=feedback
        )
        tasks = four_tasks()

        @jax.jit
        def step(bias, made=made, tasks=tasks):
            hparams = hparams_of(cost_rate=1.0, explore=0.1)
            state = made.init(jax.random.key(0), hparams, ANNOTATORS, tasks.features)
            state = state._replace(params={"kernel": jnp.zeros((2, 2)), "bias": bias})
            return learn(made, state, tasks, cost_rate=1.0, explore=0.1).params

        for bias in ([1e4, -1e4], [-1e4, 1e4], [1e4, 1e4], [-1e4, -1e4]):
            for leaf in jax.tree.leaves(step(np.array(bias, np.float32))):
                assert np.isfinite(leaf).all()


def test_wrong_arguments_are_refused():
    make = functools.partial(
        closed_loop.make_allocator, models.linear(2), optimizers.make_plain_sgd()
    )
    with pytest.raises(
        ValueError, match=r"feedback must be one of agreement, .* 'gold'"
    ):
        make(feedback="gold")
    with pytest.raises(ValueError, match="form must be one of sigmoid, softmax"):
        make(form="linear")
    with pytest.raises(ValueError, match="crowd_allocates needs a crowd"):
        make(crowd_allocates=True)
    with pytest.raises(ValueError, match="form must be one of sigmoid, softmax"):
        pretrain("linear")


# Strict-Matching's start.

PRIOR = np.array([[0.9, 0.1, 0.5], [0.2, 0.8, 0.6], [0.4, 0.4, 0.1], [0.7, 0.3, 0.9]])


def pretrain(form, model=None, num_restarts=1, num_steps=600, seed=0):
    categories = np.arange(30) % 3
    return closed_loop.pretrain(
        jax.random.key(seed),
        models.linear(4) if model is None else model,
        PRIOR,
        np.eye(3, dtype=np.float32)[categories],
        categories,
        learning_rate=3.0,
        num_steps=num_steps,
        batch_size=12,
        num_restarts=num_restarts,
        form=form,
    )


def test_pretraining_is_the_prior_where_categories_can_be_told_apart():
    params = jax.jit(lambda: pretrain("sigmoid"))()
    fitted = sigmoid(np.asarray(params["kernel"] + params["bias"]).astype(float))
    np.testing.assert_allclose(fitted.T, PRIOR, rtol=0, atol=0.05)
    params = jax.jit(lambda: pretrain("softmax"))()
    fitted = jax.nn.softmax(params["kernel"] + params["bias"])
    np.testing.assert_allclose(fitted.T, PRIOR / PRIOR.sum(0), rtol=0, atol=0.05)


def test_a_start_that_diverged_is_not_kept():
    linear = models.linear(4)

    def init(key, inputs):
        params, model_state = linear.init(key, inputs)
        broken = jax.random.bernoulli(key, 0.5)
        return jax.tree.map(
            lambda leaf: jnp.where(broken, jnp.nan, leaf), params
        ), model_state

    model = ModelFns(init, linear.apply)
    fit = jax.jit(
        jax.vmap(lambda seed: pretrain("sigmoid", model, 6, num_steps=1, seed=seed))
    )
    # Among 60 starts there are some of both kinds.
    assert np.isfinite(fit(jnp.arange(10))["kernel"]).all()
    alone = jax.jit(
        jax.vmap(lambda seed: pretrain("sigmoid", model, num_steps=1, seed=seed))
    )
    assert np.isnan(alone(jnp.arange(10))["kernel"]).any()


def test_the_start_that_fits_best_is_kept():
    """Of a model that learns nothing, whose starts are further and further away."""

    def init(key, inputs):
        del inputs
        return {"offset": 5.0 * jax.random.uniform(key, ())}, {}

    def apply(params, model_state, inputs, train):
        del train
        logits = jnp.log(PRIOR / (1 - PRIOR)).T[jnp.argmax(inputs, axis=1)]
        return logits + jax.lax.stop_gradient(params["offset"]), model_state

    fit = functools.partial(pretrain, "sigmoid", ModelFns(init, apply), num_steps=1)
    ours = jax.jit(lambda: fit(num_restarts=8))()["offset"]
    starts = jax.vmap(lambda key: init(key, None)[0]["offset"])(
        jax.random.split(jax.random.key(0), 9)[1:]
    )
    np.testing.assert_allclose(ours, np.min(starts), **TOL)
