"""Classifier and deferrer trained together, on votes worked out by hand."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from l2d_jax import models, optimizers
from l2d_jax.learners import joint
from l2d_jax.types import Batch, Learner, TrainState, Variables

pytestmark = pytest.mark.usefixtures("cheap_compiles")

KEY = jax.random.key(0)
HPARAMS = {
    "learning_rate": jnp.float32(0.5),
    "dropout": jnp.float32(0.0),
    "cost_weight": jnp.float32(0.0),
    "step_exponent": jnp.float32(0.5),
}
# Two rows: the first expert, the third and the classifier vote; nobody was asked.
WEIGHTS = np.array([[0.5, 0.25, 0.9, 0.25], [0.5, 0.5, 0.5, 0.1]], np.float32)
PROB = np.array([0.8, 0.3], np.float32)
ANSWERS = np.array([[1, -1, 0], [-1, -1, -1]], np.int32)


def random_case(count=30, num_experts=4):
    generator = np.random.default_rng(1)
    weights = generator.uniform(0.05, 1, (count, num_experts + 1)).astype(np.float32)
    prob = generator.uniform(size=count).astype(np.float32)
    answers = generator.integers(-1, 2, (count, num_experts)).astype(np.int32)
    return weights, prob, answers


def random_batch(**changes):
    """With groups of different size, in other than the proportion of the batch."""
    weights, prob, answers = random_case()
    generator = np.random.default_rng(2)
    batch = Batch(
        generator.normal(size=(30, 3)).astype(np.float32),
        generator.integers(0, 2, 30).astype(np.int32),
        answers,
        (np.arange(30) % 3 == 0).astype(np.int32),
        generator.uniform(0.5, 1.5, 30).astype(np.float32),
    )
    return joint.Prediction(weights, prob), batch._replace(**changes)


def oracle_vote(weights, prob, answers, normalized):
    """Row by row, in float64."""
    votes = []
    for row, classifier, given in zip(np.float64(weights), prob, answers, strict=True):
        asked = [expert for expert, answer in enumerate(given) if answer >= 0]
        total = sum(row[i] * given[i] for i in asked) + row[-1] * np.float64(classifier)
        scale = sum(row[i] for i in asked) + row[-1] if normalized else 1.0
        votes.append(total / scale)
    return np.array(votes)


def oracle_losses(prediction, batch, normalized=True):
    vote = oracle_vote(*prediction, batch.expert_labels, normalized)
    margin = np.where(batch.labels == 1, 1, -1) * (2 * vote - 1)
    return np.log1p(np.exp(-margin))


# Votes.


def test_vote_by_hand():
    # (0.5 * 1 + 0.9 * 0 + 0.25 * 0.8) / (0.5 + 0.9 + 0.25) = 0.7 / 1.65.
    vote = joint.vote(WEIGHTS, PROB, ANSWERS)
    np.testing.assert_allclose(vote, [0.7 / 1.65, 0.3], rtol=1e-6, atol=1e-7)
    raw = joint.vote(WEIGHTS, PROB, ANSWERS, normalized=False)
    np.testing.assert_allclose(raw, [0.7, 0.03], rtol=1e-6, atol=1e-7)


def test_seat_shares_by_hand():
    shares = joint.seat_shares(WEIGHTS, ANSWERS)
    expected = [[0.5 / 1.65, 0, 0.9 / 1.65, 0.25 / 1.65], [0, 0, 0, 1]]
    np.testing.assert_allclose(shares, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("normalized", [True, False])
def test_votes_agree_with_the_oracle(normalized):
    case = random_case()
    expected = oracle_vote(*case, normalized)

    def vote(*arguments):
        return joint.vote(*arguments, normalized=normalized)

    for function in (vote, jax.jit(vote)):
        np.testing.assert_allclose(function(*case), expected, rtol=1e-5, atol=1e-6)
    two = jax.vmap(vote)(*(np.stack([leaf, leaf[::-1]]) for leaf in case))
    np.testing.assert_allclose(two, [expected, expected[::-1]], rtol=1e-5, atol=1e-6)


def test_who_was_not_asked_changes_nothing():
    prediction, batch = random_batch()
    unasked = np.pad(batch.expert_labels < 0, ((0, 0), (0, 1)))
    assert unasked.any()
    changed = prediction._replace(weights=np.where(unasked, 0.99, prediction.weights))
    seats = joint.draw_committee(KEY, prediction.weights, batch.expert_labels, 3)
    for normalized in (True, False):
        before, after = (
            joint.vote(*p, batch.expert_labels, normalized=normalized)
            for p in (prediction, changed)
        )
        np.testing.assert_array_equal(before, after)
    np.testing.assert_array_equal(
        seats, joint.draw_committee(KEY, changed.weights, batch.expert_labels, 3)
    )

    def loss(weights):
        return jnp.sum(joint.vote_losses(prediction._replace(weights=weights), batch))

    gradient = jax.jit(jax.grad(loss))(prediction.weights)
    assert (np.asarray(gradient)[unasked] == 0).all()
    assert (np.abs(gradient)[~unasked] > 0).any()


def test_permuting_experts_permutes_the_shares():
    weights, prob, answers = random_case()
    order = np.array([2, 0, 3, 1])
    moved = weights[:, [*order, 4]], prob, answers[:, order]
    np.testing.assert_allclose(
        joint.vote(*moved), joint.vote(weights, prob, answers), rtol=1e-6, atol=1e-7
    )


@pytest.mark.parametrize("factor", [1e-12, 1e-30])
def test_a_common_factor_of_the_weights_cancels(factor):
    weights, prob, answers = random_case()
    expected = joint.vote(weights, prob, answers)
    scaled = np.float32(factor) * weights
    np.testing.assert_allclose(
        joint.vote(scaled, prob, answers), expected, rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("normalized", [True, False])
def test_finite_at_extreme_logits(normalized):
    _, batch = random_batch()

    def loss(logits, classifier_logit):
        prediction = joint.Prediction(
            jax.nn.sigmoid(logits), jax.nn.sigmoid(classifier_logit)
        )
        return jnp.sum(joint.vote_losses(prediction, batch, normalized=normalized))

    step = jax.jit(jax.value_and_grad(loss, (0, 1)))
    # At -60 and -85 a weight's square is below all floats, the weight is not.
    for size, of_classifier in itertools.product((1e4, -60.0, -85.0, -1e4), repeat=2):
        logits = np.full((30, 5), size, np.float32)
        logits[:, -1] = of_classifier
        value, gradients = step(logits, -logits[:, 0])
        assert np.isfinite(value)
        assert all(np.isfinite(gradient).all() for gradient in gradients)


def test_without_any_weight_the_classifier_decides():
    vote = joint.vote(np.zeros((2, 4), np.float32), PROB, ANSWERS)
    np.testing.assert_allclose(vote, PROB, rtol=0, atol=0)


def test_decisions_and_their_ties():
    np.testing.assert_array_equal(joint.decide(np.array([0.5, 0.51, 0.2])), [0, 1, 0])
    decisions = np.array([[1, 1, 0], [1, 0, 0], [0, 1, 0]])
    np.testing.assert_array_equal(joint.majority(decisions), [1, 1, 0])
    np.testing.assert_array_equal(joint.majority(decisions[:2]), [1, 0, 0])


# Committees.


def test_committee_seats_are_drawn_by_share():
    count = 4000
    seats = joint.draw_committee(
        KEY, np.repeat(WEIGHTS, count, 0), np.repeat(ANSWERS, count, 0), 3
    )
    seats = np.asarray(seats).reshape(2, count, 4)
    np.testing.assert_allclose(seats.sum(-1), 1.0, rtol=0, atol=1e-6)
    assert set(np.unique(np.round(3 * seats))) == {0, 1, 2, 3}
    expected = [[0.5 / 1.65, 0, 0.9 / 1.65, 0.25 / 1.65], [0, 0, 0, 1]]
    # Four standard errors of 12,000 draws.
    np.testing.assert_allclose(seats.mean(1), expected, rtol=0, atol=0.018)
    # Who was not asked has no seat at all.
    assert (seats[0, :, 1] == 0).all()
    assert (seats[1, :, :3] == 0).all()


def test_committee_vote_by_hand():
    # The classifier (0.8, so 1) has two of five seats, the first expert one.
    seats = np.array([[0.2, 0, 0.4, 0.4], [0, 0, 0, 1.0]], np.float32)
    votes = joint.committee_vote(seats, PROB, ANSWERS)
    np.testing.assert_allclose(votes, [0.6, 0.0], rtol=1e-6, atol=1e-7)


def test_dropout_never_touches_who_was_not_asked():
    _, _, answers = random_case(2000)
    kept = np.asarray(joint.drop_experts(KEY, answers, 0.2))
    given = answers >= 0
    assert (kept[~given] == -1).all()
    changed = kept != answers
    assert (kept[changed] == -1).all()
    # Four standard errors of about 5,300 draws.
    assert abs(changed[given].mean() - 0.2) < 0.022
    np.testing.assert_array_equal(joint.drop_experts(KEY, answers, 0.0), answers)
    assert (np.asarray(joint.drop_experts(KEY, answers, 1.0)) == -1).all()


# Losses.


def test_loss_by_hand():
    prediction = joint.Prediction(WEIGHTS, PROB)
    batch = Batch(np.zeros((2, 1)), np.array([1, 0]), ANSWERS)
    # Margins 2 * 0.7 / 1.65 - 1 = -0.151515 of label 1, 1 - 2 * 0.3 = 0.4 of label 0.
    expected = [np.log1p(np.exp(0.25 / 1.65)), np.log1p(np.exp(-0.4))]
    losses = joint.vote_losses(prediction, batch)
    np.testing.assert_allclose(losses, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("normalized", [True, False])
def test_losses_agree_with_the_oracle(normalized):
    prediction, batch = random_batch()
    expected = oracle_losses(prediction, batch, normalized)

    def losses(weights, prob):
        return joint.vote_losses(
            joint.Prediction(weights, prob), batch, normalized=normalized
        )

    for function in (losses, jax.jit(losses)):
        np.testing.assert_allclose(
            function(*prediction), expected, rtol=1e-5, atol=1e-6
        )
    check_grads(
        lambda *p: jnp.mean(losses(*p)), tuple(prediction), order=1, modes=["rev"]
    )


def test_group_means_by_hand():
    values = np.array([1.0, 2.0, 4.0, 9.0])
    groups = np.array([0, 0, 2, 2])
    means, present = joint.group_means(values, groups, None, 3)
    np.testing.assert_allclose(means, [1.5, 0, 6.5], rtol=1e-6, atol=0)
    np.testing.assert_array_equal(present, [True, False, True])
    means, present = joint.group_means(values, groups, np.array([3, 1, 0, 0.0]), 3)
    np.testing.assert_allclose(means, [1.25, 0, 0], rtol=1e-6, atol=0)
    np.testing.assert_array_equal(present, [True, False, False])


def make_learner(num_groups=2, **kwargs):
    return joint.make_learner(
        models.mlp((), 5),
        models.mlp((), 1),
        optimizers.make_plain_sgd(),
        num_groups,
        **kwargs,
    )


@functools.partial(jax.jit, static_argnames=("objective", "num_groups"))
def update_once(hparams, batch, step, objective, num_groups=2):
    """Prediction before, and parameters before and after, a step, and its loss."""
    learner = make_learner(num_groups, objective=objective)
    state = learner.init(KEY, hparams, batch)._replace(step=step)
    prediction = learner.predict(state.variables, hparams, batch.inputs)
    after, metrics = learner.update(state, hparams, batch)
    return (prediction, state.variables.params, after.variables.params, metrics["loss"])


@pytest.mark.parametrize("objective", joint.OBJECTIVES)
def test_objective_by_its_definition(objective):
    """At step 4 the vote's loss counts 1 - 1 / sqrt(4); a third group is absent."""
    _, batch = random_batch()
    batch = batch._replace(
        costs=np.random.default_rng(3).uniform(size=(30, 4)).astype(np.float32)
    )
    group_weights = np.array([0.2, 0.3, 0.5])
    hparams = {
        **HPARAMS,
        "cost_weight": jnp.float32(0.7),
        "group_weights": jnp.asarray(group_weights, jnp.float32),
    }
    prediction, _, _, loss = update_once(
        hparams, batch, 3, objective=objective, num_groups=3
    )

    weights = np.float64(batch.weights)
    prob = np.float64(prediction.classifier_prob)
    nll = -np.log(np.where(batch.labels == 1, prob, 1 - prob))
    expected = np.average(nll, weights=weights)
    if objective != "classify":
        losses = oracle_losses(prediction, batch)
        of_groups = [
            np.average(losses[member], weights=weights[member])
            for member in (batch.groups == 0, batch.groups == 1)
        ]
        expected += (
            0.5
            * {
                "joint": np.average(losses, weights=weights),
                "balanced": np.mean(of_groups),
                "minimax": (0.2 * of_groups[0] + 0.3 * of_groups[1]) / 0.5,
            }[objective]
        )
        asked = np.pad(batch.expert_labels >= 0, ((0, 0), (0, 1)), constant_values=True)
        shares = np.where(asked, np.float64(prediction.weights), 0)
        shares /= shares.sum(1, keepdims=True)
        cost = (shares[:, :-1] * batch.costs).sum(1)
        expected += 0.7 * np.average(cost, weights=weights)
    np.testing.assert_allclose(loss, expected, rtol=1e-5, atol=1e-6)


def test_the_first_step_trains_the_classifier_alone():
    """1 - 1^-c is 0: the deferrer stays as it starts, by the one loss and the other."""
    _, batch = random_batch()
    _, before, joint_after, _ = update_once(HPARAMS, batch, 0, objective="joint")
    _, _, after, _ = update_once(HPARAMS, batch, 0, objective="classify")
    for name in ("deferrer", "classifier"):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7),
            joint_after[name],
            after[name],
        )
    jax.tree.map(
        np.testing.assert_array_equal, joint_after["deferrer"], before["deferrer"]
    )
    _, _, later, _ = update_once(HPARAMS, batch, 1, objective="joint")
    kernels = jax.tree.leaves(later["deferrer"]), jax.tree.leaves(before["deferrer"])
    assert all(np.abs(a - b).max() > 1e-4 for a, b in zip(*kernels, strict=True))


def test_without_experts_the_classifier_votes():
    """Dropout of all of them leaves the classifier's own vote to be trained."""
    _, batch = random_batch()
    alone = batch._replace(expert_labels=np.full_like(batch.expert_labels, -1))
    dropped = {**HPARAMS, "dropout": jnp.float32(1.0)}
    losses = [
        update_once(hparams, data, 3, objective="joint")[-1]
        for hparams, data in ((dropped, batch), (HPARAMS, alone), (HPARAMS, batch))
    ]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-6, atol=1e-7)
    assert abs(losses[0] - losses[2]) > 1e-3


def test_examples_without_weight_count_for_nothing():
    _, batch = random_batch()
    idle = np.arange(30) >= 20
    batch = batch._replace(weights=np.where(idle, 0, batch.weights).astype(np.float32))
    changed = batch._replace(
        labels=np.where(idle, 1 - batch.labels, batch.labels),
        groups=np.where(idle, 1 - batch.groups, batch.groups),
        expert_labels=np.where(idle[:, None], -1, batch.expert_labels),
    )
    steps = [update_once(HPARAMS, b, 3, objective="balanced") for b in (batch, changed)]
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7),
        *(step[2:] for step in steps),
    )


# Minimax.


def test_group_weights_by_hand():
    weights = joint.next_group_weights(np.array([0.5, 0.5]), np.log([2.0, 1.0]), 1)
    np.testing.assert_allclose(weights, [2 / 3, 1 / 3], rtol=1e-6, atol=1e-7)
    # After the fourth round a loss counts half: sqrt(9) = 3 times as much weight.
    weights = joint.next_group_weights(weights, np.log([1.0, 9.0]), 4)
    np.testing.assert_allclose(weights, [2 / 5, 3 / 5], rtol=1e-6, atol=1e-7)


def test_minimax_rounds_by_hand():
    """A pair that cannot learn: its groups' losses are the same in every round."""
    probs = np.array([0.9, 0.1, 0.4], np.float32)

    def init(key, hparams, batch):
        del hparams, batch
        variables = Variables({"key": jax.random.key_data(key)}, {})
        return TrainState(variables, (), key, jnp.int32(0))

    def predict(variables, hparams, inputs):
        del variables, hparams
        return joint.Prediction(jnp.ones((3, 2)), jnp.asarray(probs)[inputs])

    def fit(state, hparams):
        assert set(hparams) == {"group_weights"}
        return state

    # The last row has no weight; its group's loss is that of the second row.
    data = Batch(
        np.arange(3),
        np.array([1, 1, 1]),
        np.full((3, 1), -1),
        np.array([0, 1, 1]),
        np.array([1.0, 1.0, 0.0]),
    )
    rounds = joint.train_minimax(
        Learner(init, lambda *arguments: arguments, predict),
        {},
        KEY,
        data,
        fit,
        num_rounds=3,
        num_groups=2,
    )
    # Nobody was asked, so the vote is the classifier's: 0.9, and 0.1.
    first, second = np.log1p(np.exp(-0.8)), np.log1p(np.exp(0.8))
    np.testing.assert_allclose(
        rounds.group_losses, [[first, second]] * 3, rtol=1e-6, atol=1e-7
    )
    # The losses differ by 0.8, so that the weights' ratio grows by exp(0.8 / sqrt r).
    ratios = np.exp([0.0, 0.8, 0.8 * (1 + 1 / np.sqrt(2))])
    expected = np.stack([1 / (1 + ratios), ratios / (1 + ratios)], axis=1)
    np.testing.assert_allclose(rounds.group_weights, expected, rtol=1e-5, atol=1e-6)
    keys = np.asarray(rounds.variables.params["key"])
    assert len(np.unique(keys, axis=0)) == 3


# Learning.


def make_crowd(seed=0, count=400):
    """Expert 1 is right in group 0 and mostly wrong in the other, expert 2 reversed.

    The inputs tell the group and nothing of the label.
    """
    generator = np.random.default_rng(seed)
    groups = generator.integers(0, 2, count).astype(np.int32)
    labels = generator.integers(0, 2, count).astype(np.int32)
    inputs = generator.normal(scale=0.3, size=(count, 2)).astype(np.float32)
    inputs[:, 0] += 2.0 * groups - 1.0
    answers = np.empty((count, 2), np.int32)
    for expert in range(2):
        right = (groups == expert) | (generator.uniform(size=count) < 0.2)
        answers[:, expert] = np.where(right, labels, 1 - labels)
    return Batch(inputs, labels, answers, groups, np.ones(count, np.float32))


def train_and_predict(key, hparams, train, test_inputs, objective="joint", steps=300):
    learner = joint.make_learner(
        models.mlp((8,), 3),
        models.mlp((8,), 1),
        optimizers.make_plain_sgd(),
        objective=objective,
    )

    def step(state, _):
        state, metrics = learner.update(state, hparams, train)
        return state, metrics["loss"]

    state = learner.init(key, hparams, train)
    state, losses = jax.lax.scan(step, state, None, length=steps)
    return learner.predict(state.variables, hparams, test_inputs), losses


@pytest.fixture(scope="module")
def sweep():
    """Three runs at once, with dropout; the predictions are ``[3, ...]``."""
    train, test = make_crowd(), make_crowd(1)
    hparams = {**HPARAMS, "dropout": jnp.float32(0.2)}
    keys = jax.random.split(KEY, 3)
    run = jax.jit(
        jax.vmap(lambda key: train_and_predict(key, hparams, train, test.inputs))
    )
    return keys, hparams, train, test, run(keys)


def test_whom_to_trust_is_found(sweep):
    *_, test, (predictions, _) = sweep
    for run in range(3):
        weights, prob = (leaf[run] for leaf in predictions)
        vote = joint.vote(weights, prob, test.expert_labels)
        team = np.mean(np.asarray(joint.decide(vote)) == test.labels)
        classifier = np.mean(np.asarray(joint.decide(prob)) == test.labels)
        # The label is a coin for the classifier, and one expert knows it.
        assert team > 0.97
        assert classifier < 0.6
        shares = np.asarray(joint.seat_shares(weights, test.expert_labels))
        for group in range(2):
            assert shares[test.groups == group, group].mean() > 0.6


def test_a_row_alone_equals_its_row_in_the_sweep(sweep):
    keys, hparams, train, test, (predictions, losses) = sweep
    run = jax.jit(lambda key: train_and_predict(key, hparams, train, test.inputs))
    alone, alone_losses = run(keys[1])
    np.testing.assert_allclose(losses[1], alone_losses, rtol=1e-3, atol=1e-4)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b[1], rtol=2e-2, atol=2e-3),
        alone,
        predictions,
    )
    # Another key is another run.
    assert np.abs(losses[0] - alone_losses).max() > 1e-2
    again, _ = run(keys[1])
    jax.tree.map(np.testing.assert_array_equal, again, alone)


# What is refused.


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (
            lambda: joint.vote(WEIGHTS[0], PROB, ANSWERS),
            r"weights must be \[B, M \+ 1\]",
        ),
        (lambda: joint.vote(WEIGHTS[:, :3], PROB, ANSWERS), r"= \[2, 4\], got shape"),
        (lambda: joint.vote(WEIGHTS[None], PROB, ANSWERS), r"shape \(1, 2, 4\)"),
        (lambda: joint.vote(WEIGHTS, PROB[:1], ANSWERS), "classifier_prob must be"),
        (lambda: joint.vote(WEIGHTS, PROB, ANSWERS[0]), "expert_labels must be"),
        (lambda: joint.draw_committee(KEY, WEIGHTS, ANSWERS, 0), "size must be > 0"),
        (lambda: joint.committee_vote(WEIGHTS[:1], PROB, ANSWERS), "seats must be"),
        (lambda: joint.drop_experts(KEY, ANSWERS[0], 0.1), "expert_labels must be"),
        (lambda: make_learner(objective="fair"), "one of classify, joint, balanced"),
        (lambda: make_learner(num_groups=0), "num_groups must be > 0, got 0"),
    ],
)
def test_wrong_arguments(function, message):
    with pytest.raises(ValueError, match=message):
        function()


def test_answers_must_be_integers():
    with pytest.raises(TypeError, match="expert_labels must be integers, 0, 1 or -1"):
        joint.vote(WEIGHTS, PROB, ANSWERS.astype(np.float32))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"expert_labels": None}, r"batch\.expert_labels is None"),
        ({"groups": None}, r"batch\.groups is None"),
        ({"costs": np.ones((30, 5))}, r"batch\.costs must be .* \[30, 4\], got shape"),
    ],
)
def test_a_batch_that_lacks_a_field(changes, message):
    _, batch = random_batch(**changes)
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(
            functools.partial(update_once, objective="balanced"), HPARAMS, batch, 0
        )


def test_minimax_needs_a_round():
    _, batch = random_batch()
    with pytest.raises(ValueError, match="num_rounds must be > 0, got 0"):
        joint.train_minimax(
            make_learner(objective="minimax"),
            HPARAMS,
            KEY,
            batch,
            lambda state, hparams: state,
            num_rounds=0,
            num_groups=2,
        )
