"""Classifier and deferrer trained together, on votes worked out by hand."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from l2d_jax import decisions, models, optimizers
from l2d_jax.learners import classifier, joint
from l2d_jax.types import Batch, ModelFns, Variables

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
PROBS = np.array([[0.2, 0.8], [0.7, 0.3]], np.float32)
ANSWERS = np.array([[1, -1, 0], [-1, -1, -1]], np.int32)
VOTE_LOSSES = jax.jit(joint.vote_losses)
SHARES = jax.jit(joint.shares)


def random_case(count=30, num_experts=4, num_classes=2):
    generator = np.random.default_rng(1)
    weights = generator.uniform(0.05, 1, (count, num_experts + 1)).astype(np.float32)
    probs = generator.dirichlet(np.ones(num_classes), count).astype(np.float32)
    answers = generator.integers(-1, num_classes, (count, num_experts))
    return weights, probs, answers.astype(np.int32)


def random_batch(num_classes=2, **changes):
    """With groups of different size, in other than the proportion of the batch."""
    generator = np.random.default_rng(2)
    batch = Batch(
        generator.normal(size=(30, 3)).astype(np.float32),
        generator.integers(0, num_classes, 30).astype(np.int32),
        random_case(num_classes=num_classes)[2],
        (np.arange(30) % 3 == 0).astype(np.int32),
        generator.uniform(0.5, 1.5, 30).astype(np.float32),
    )
    return batch._replace(**changes)


def oracle_losses(weights, probs, labels, answers):
    """Row by row, in float64."""
    losses = []
    for row, of_classes, label, given in zip(
        np.float64(weights), np.float64(probs), labels, answers, strict=True
    ):
        asked = [expert for expert, answer in enumerate(given) if answer >= 0]
        vote = row[-1] * of_classes
        for i in asked:
            vote[given[i]] += row[i]
        vote /= sum(row[i] for i in asked) + row[-1]
        losses.append(np.log(np.exp(vote).sum()) - vote[label])
    return np.array(losses)


# Shares.


def test_shares_by_hand():
    np.testing.assert_allclose(
        joint.shares(jnp.asarray(WEIGHTS)),
        [
            [0.5 / 1.9, 0.25 / 1.9, 0.9 / 1.9, 0.25 / 1.9],
            [0.5 / 1.6, 0.5 / 1.6, 0.5 / 1.6, 0.1 / 1.6],
        ],
        rtol=1e-6,
        atol=1e-7,
    )


def test_decide_by_hand():
    decision = joint.decide(WEIGHTS, PROBS)
    np.testing.assert_allclose(
        decision.defer_score,
        [[0.25, 0.0, 0.65], [0.4, 0.4, 0.4]],
        rtol=1e-6,
        atol=1e-7,
    )
    np.testing.assert_array_equal(decision.allocation, joint.shares(WEIGHTS))
    np.testing.assert_array_equal(decision.class_probs, PROBS)
    assert np.isnan(decision.expert_correct_prob).all()
    # (0.5 * 1 + 0.9 * 0 + 0.25 * 0.8) / (0.5 + 0.9 + 0.25) = 0.7 / 1.65 for label 1;
    # of the other only the classifier votes.
    votes = decisions.vote(decision, ANSWERS)
    expected = [[0.95 / 1.65, 0.7 / 1.65], [0.7, 0.3]]
    np.testing.assert_allclose(votes, expected, rtol=1e-6, atol=1e-7)


def test_permuting_experts_permutes_the_shares():
    weights, _, _ = random_case()
    order = np.array([2, 0, 3, 1, 4])
    np.testing.assert_allclose(
        SHARES(weights[:, order]), SHARES(weights)[:, order], rtol=1e-6, atol=1e-7
    )


@pytest.mark.parametrize("factor", [1e-12, 1e-30])
def test_a_common_factor_of_the_weights_cancels(factor):
    weights, _, _ = random_case()
    np.testing.assert_allclose(
        SHARES(np.float32(factor) * weights), SHARES(weights), rtol=1e-5, atol=1e-6
    )


def test_without_any_weight_the_classifier_decides():
    decision = joint.decide(np.zeros((2, 4), np.float32), PROBS)
    np.testing.assert_array_equal(decision.allocation, [[0, 0, 0, 1]] * 2)
    votes = decisions.vote(decision, ANSWERS)
    np.testing.assert_allclose(votes, PROBS, rtol=0, atol=0)


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
    # Margins 2 * 0.7 / 1.65 - 1 = -0.151515 of label 1, 1 - 2 * 0.3 = 0.4 of label 0.
    expected = [np.log1p(np.exp(0.25 / 1.65)), np.log1p(np.exp(-0.4))]
    losses = joint.vote_losses(WEIGHTS, PROBS, np.array([1, 0]), ANSWERS)
    np.testing.assert_allclose(losses, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.long
@pytest.mark.parametrize("num_classes", [2, 5])
def test_losses_agree_with_the_oracle(num_classes):
    weights, probs, answers = random_case(num_classes=num_classes)
    labels = np.random.default_rng(2).integers(0, num_classes, 30)
    expected = oracle_losses(weights, probs, labels, answers)
    for function in (joint.vote_losses, VOTE_LOSSES):
        np.testing.assert_allclose(
            function(weights, probs, labels, answers), expected, rtol=1e-5, atol=1e-6
        )
    check_grads(
        lambda *p: jnp.mean(VOTE_LOSSES(*p, labels, answers)),
        (weights, probs),
        order=1,
        modes=["rev"],
    )


def test_who_was_not_asked_changes_nothing():
    weights, probs, answers = random_case(num_classes=3)
    labels = np.zeros(30, int)
    unasked = np.pad(answers < 0, ((0, 0), (0, 1)))
    assert unasked.any()

    def total(weights):
        of_votes = joint.vote_losses(weights, probs, labels, answers)
        return jnp.sum(of_votes), of_votes

    step = jax.jit(jax.value_and_grad(total, has_aux=True))
    (_, before), gradient = step(weights)
    (_, after), _ = step(np.where(unasked, np.float32(0.99), weights))
    np.testing.assert_array_equal(before, after)
    assert (np.asarray(gradient)[unasked] == 0).all()
    assert (np.abs(gradient)[~unasked] > 0).any()


def test_finite_at_extreme_logits():
    batch = random_batch()

    def loss(logits, classifier_logit):
        probs = classifier.class_probs(classifier_logit[:, None])
        weights = jax.nn.sigmoid(logits)
        of_votes = joint.vote_losses(weights, probs, batch.labels, batch.expert_labels)
        return jnp.sum(of_votes)

    step = jax.jit(jax.value_and_grad(loss, (0, 1)))
    # At -60 and -85 a weight's square is below all floats, the weight is not.
    for size, of_classifier in itertools.product((1e4, -60.0, -85.0, -1e4), repeat=2):
        logits = np.full((30, 5), size, np.float32)
        logits[:, -1] = of_classifier
        value, gradients = step(logits, -logits[:, 0])
        assert np.isfinite(value)
        assert all(np.isfinite(gradient).all() for gradient in gradients)


def test_group_means_by_hand():
    values = np.array([1.0, 2.0, 4.0, 9.0])
    groups = np.array([0, 0, 2, 2])
    means, totals = joint.group_means(values, groups, None, 3)
    np.testing.assert_allclose(means, [1.5, 0, 6.5], rtol=1e-6, atol=0)
    np.testing.assert_array_equal(totals, [2, 0, 2])
    means, totals = joint.group_means(values, groups, np.array([3, 1, 0, 0.0]), 3)
    np.testing.assert_allclose(means, [1.25, 0, 0], rtol=1e-6, atol=0)
    np.testing.assert_array_equal(totals, [4, 0, 0])


def make_learner(num_groups=2, num_outputs=1, **kwargs):
    return joint.make_learner(
        models.mlp((), 5),
        models.mlp((), num_outputs),
        optimizers.make_plain_sgd(),
        num_groups,
        **kwargs,
    )


@functools.partial(jax.jit, static_argnames=("objective", "num_groups", "num_outputs"))
def update_once(hparams, batch, step, objective, num_groups=2, num_outputs=1):
    """Decision before, and parameters before and after, a step, and its loss."""
    learner = make_learner(num_groups, num_outputs, objective=objective)
    state = learner.init(KEY, hparams, batch)._replace(step=step)
    decision = learner.predict(state.variables, hparams, batch.inputs)
    after, metrics = learner.update(state, hparams, batch)
    return decision, state.variables.params, after.variables.params, metrics["loss"]


@pytest.mark.long
@pytest.mark.parametrize(
    ("objective", "num_outputs"),
    [*((objective, 1) for objective in joint.OBJECTIVES), ("minimax", 3)],
)
def test_objective_by_its_definition(objective, num_outputs):
    """At step 4 the vote's loss counts 1 - 1 / sqrt(4); a third group is absent."""
    batch = random_batch(num_classes=max(2, num_outputs))
    batch = batch._replace(
        costs=np.random.default_rng(3).uniform(size=(30, 4)).astype(np.float32)
    )
    group_weights = np.array([0.2, 0.3, 0.5])
    hparams = {
        **HPARAMS,
        "cost_weight": jnp.float32(0.7),
        "group_weights": jnp.asarray(group_weights, jnp.float32),
    }
    decision, _, _, loss = update_once(
        hparams, batch, 3, objective=objective, num_groups=3, num_outputs=num_outputs
    )

    weights = np.float64(batch.weights)
    probs = np.float64(decision.class_probs)
    expected = np.average(-np.log(probs[np.arange(30), batch.labels]), weights=weights)
    # Shares are weights up to a factor of the row, which a vote knows nothing of.
    losses = oracle_losses(
        decision.allocation, probs, batch.labels, batch.expert_labels
    )
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
    shares = np.where(asked, np.float64(decision.allocation), 0)
    shares /= shares.sum(1, keepdims=True)
    cost = (shares[:, :-1] * batch.costs).sum(1)
    expected += 0.7 * np.average(cost, weights=weights)
    np.testing.assert_allclose(loss, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.long
def test_the_first_step_trains_the_classifier_alone():
    """1 - 1^-c is 0: the deferrer stays as it starts, the classifier is one alone."""
    batch = random_batch()
    _, before, after, loss = update_once(HPARAMS, batch, 0, objective="joint")
    alone = classifier.make_learner(models.mlp((), 1), optimizers.make_plain_sgd())
    state = alone.init(KEY, HPARAMS, batch)
    state = state._replace(variables=Variables(before["classifier"], {}))
    state, metrics = jax.jit(alone.update)(state, HPARAMS, batch)
    np.testing.assert_allclose(loss, metrics["loss"], rtol=1e-6, atol=1e-7)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7),
        after["classifier"],
        state.variables.params,
    )
    jax.tree.map(np.testing.assert_array_equal, after["deferrer"], before["deferrer"])
    _, _, later, _ = update_once(HPARAMS, batch, 1, objective="joint")
    kernels = jax.tree.leaves(later["deferrer"]), jax.tree.leaves(before["deferrer"])
    assert all(np.abs(a - b).max() > 1e-4 for a, b in zip(*kernels, strict=True))


def test_without_experts_the_classifier_votes():
    """Dropout of all of them leaves the classifier's own vote to be trained."""
    batch = random_batch()
    alone = batch._replace(expert_labels=np.full_like(batch.expert_labels, -1))
    dropped = {**HPARAMS, "dropout": jnp.float32(1.0)}
    losses = [
        update_once(hparams, data, 3, objective="joint")[-1]
        for hparams, data in ((dropped, batch), (HPARAMS, alone), (HPARAMS, batch))
    ]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-6, atol=1e-7)
    assert abs(losses[0] - losses[2]) > 1e-3


def test_examples_without_weight_count_for_nothing():
    batch = random_batch()
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


def fixed_model(outputs_of):
    """One parameter, of which the outputs do not depend."""

    def init(key, inputs):
        del inputs
        return {"drawn": jax.random.uniform(key)}, {}

    def apply(params, model_state, inputs, train):
        del train
        return outputs_of(inputs) + 0.0 * params["drawn"], model_state

    return ModelFns(init, apply)


def minimax_of_fixed_votes(steps_per_round, num_rounds=3):
    """A pair that cannot learn, whose classifier's logits are the inputs."""
    return joint.make_minimax_learner(
        fixed_model(lambda inputs: jnp.zeros((len(inputs), 2))),
        fixed_model(lambda inputs: inputs),
        optimizers.make_plain_sgd(),
        2,
        num_rounds=num_rounds,
        steps_per_round=steps_per_round,
    )


def fixed_votes(probs):
    """Nobody was asked, so the vote is the classifier's; label 1 is right.

    The last row has no weight; its group's loss is that of the second row.
    """
    probs = np.array(probs)
    return Batch(
        np.log(probs / (1 - probs))[:, None].astype(np.float32),
        np.array([1, 1, 1]),
        np.full((3, 1), -1),
        np.array([0, 1, 1]),
        np.array([1.0, 1.0, 0.0], np.float32),
    )


@pytest.mark.long
def test_minimax_rounds_by_hand():
    """Its groups' losses are the same in every round."""
    learner = minimax_of_fixed_votes(steps_per_round=2)
    batch = fixed_votes([0.9, 0.1, 0.4])
    update = jax.jit(learner.update)
    state = learner.init(KEY, HPARAMS, batch)
    # Votes of 0.9, and 0.1.
    losses = np.log1p(np.exp([-0.8, 0.8]))
    # They differ by 0.8, so that the weights' ratio grows by exp(0.8 / sqrt r); what
    # comes after the last round is of that round.
    ratios = np.exp([0.0, 0.8, 0.8 * (1 + 1 / np.sqrt(2))])
    by_round = np.stack([1 / (1 + ratios), ratios / (1 + ratios)], axis=1)
    for step, number in enumerate([0, 0, 1, 1, 2, 2, 2, 2]):
        state, metrics = update(state, HPARAMS, batch)
        params = state.variables.params
        assert params["begun"] == number + 1
        np.testing.assert_allclose(
            params["group_weights"], by_round[number], rtol=1e-5, atol=1e-6
        )
        means = params["loss_sums"] / np.maximum(params["weight_sums"], 1e-9)
        # Of the first half of a round nothing is kept.
        measured = losses if step in (1, 3, 5, 6, 7) else 0 * losses
        np.testing.assert_allclose(means, measured, rtol=1e-5, atol=1e-6)
        # The ramp of every round begins anew: 0 at its first step.
        nll = -np.log([0.9, 0.1]).mean()
        of_round = step - 2 * number
        ramp = 1 - (1 + of_round) ** -0.5
        expected = nll + ramp * by_round[number] @ losses
        np.testing.assert_allclose(metrics["loss"], expected, rtol=1e-5, atol=1e-6)
    drawn = np.asarray(state.variables.params["pairs"]["classifier"]["drawn"])
    assert drawn.shape == (3,) and len(np.unique(drawn)) == 3


def test_a_round_is_judged_by_its_second_half():
    """Of four steps the last two, each row with its weight."""
    learner = minimax_of_fixed_votes(steps_per_round=4)
    early, late, last = (
        fixed_votes(probs) for probs in ([0.1, 0.9, 0.5], [0.8, 0.3, 0.5], [0.6] * 3)
    )
    last = last._replace(weights=np.array([3.0, 1.0, 0.0], np.float32))
    update = jax.jit(learner.update)
    state = learner.init(KEY, HPARAMS, early)
    for batch in (early, early, late, last, early):
        state, _ = update(state, HPARAMS, batch)
    of = {p: np.log1p(np.exp(1 - 2 * p)) for p in (0.8, 0.6, 0.3)}
    means = [(of[0.8] + 3 * of[0.6]) / 4, (of[0.3] + of[0.6]) / 2]
    np.testing.assert_allclose(
        state.variables.params["group_weights"],
        joint.next_group_weights(np.array([0.5, 0.5]), np.array(means), 1),
        rtol=1e-5,
        atol=1e-6,
    )


@pytest.mark.long
def test_rounds_that_have_begun_decide_together():
    """By the mean of their decisions; one that has not begun has no part in it."""
    batch = random_batch()
    pair = make_learner(objective="minimax")
    learner = joint.make_minimax_learner(
        models.mlp((), 5),
        models.mlp((), 1),
        optimizers.make_plain_sgd(),
        2,
        num_rounds=3,
        steps_per_round=2,
    )
    update, predict = jax.jit(learner.update), jax.jit(learner.predict)
    of_pair = jax.jit(pair.predict)
    state = learner.init(KEY, HPARAMS, batch)
    first = state.variables.params["pairs"]
    for step in range(6):
        begun = 1 + step // 2
        before = state.variables.params["pairs"]
        state, _ = update(state, HPARAMS, batch)
        pairs = state.variables.params["pairs"]
        # A step trains the round that it is of, from where it started.
        for number in range(3):
            same = [
                np.array_equal(a[number], b[number])
                for a, b in zip(
                    jax.tree.leaves(before), jax.tree.leaves(pairs), strict=True
                )
            ]
            assert all(same) == (number != begun - 1)
        decision = predict(state.variables, HPARAMS, batch.inputs)
        each = [
            of_pair(
                Variables(
                    jax.tree.map(lambda leaf, i=i: leaf[i], pairs),
                    {"deferrer": {}, "classifier": {}},
                ),
                HPARAMS,
                batch.inputs,
            )
            for i in range(begun)
        ]
        for name in ("class_probs", "defer_score", "allocation"):
            expected = np.mean([getattr(one, name) for one in each], axis=0)
            np.testing.assert_allclose(
                getattr(decision, name), expected, rtol=1e-5, atol=1e-6
            )
        assert np.isnan(decision.expert_correct_prob).all()
        other = jax.tree.map(lambda leaf, n=begun: leaf.at[n:].add(1.0), pairs)
        moved = Variables(
            {**state.variables.params, "pairs": other}, state.variables.model_state
        )
        jax.tree.map(
            np.testing.assert_array_equal,
            predict(moved, HPARAMS, batch.inputs),
            decision,
        )
    assert all(
        np.abs(a[0] - a[1]).max() > 1e-3
        for a in jax.tree.leaves(first["deferrer"])
        if a.ndim > 2
    )


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
    """Three runs at once, with dropout; the decisions are ``[3, ...]``."""
    train, test = make_crowd(), make_crowd(1)
    hparams = {**HPARAMS, "dropout": jnp.float32(0.2)}
    keys = jax.random.split(KEY, 3)
    run = jax.jit(
        jax.vmap(lambda key: train_and_predict(key, hparams, train, test.inputs))
    )
    return keys, hparams, train, test, run(keys)


@pytest.mark.long
def test_whom_to_trust_is_found(sweep):
    *_, test, (of_runs, _) = sweep
    for run in range(3):
        decision = jax.tree.map(lambda leaf, run=run: leaf[run], of_runs)
        answers = decisions.answer(decision, test.expert_labels)
        team = np.mean(np.asarray(answers) == test.labels)
        own = np.mean(np.asarray(decisions.prediction(decision)) == test.labels)
        # The label is a coin for the classifier, and one expert knows it.
        assert team > 0.97
        assert own < 0.6
        for group in range(2):
            shares = np.asarray(decision.allocation)[test.groups == group, group]
            assert shares.mean() > 0.6


@pytest.mark.long
def test_a_row_alone_equals_its_row_in_the_sweep(sweep):
    keys, hparams, train, test, (of_runs, losses) = sweep
    run = jax.jit(lambda key: train_and_predict(key, hparams, train, test.inputs))
    alone, alone_losses = run(keys[1])
    np.testing.assert_allclose(losses[1], alone_losses, rtol=1e-3, atol=1e-4)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b[1], rtol=2e-2, atol=2e-3),
        alone,
        of_runs,
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
            lambda: joint.vote_losses(WEIGHTS[0], PROBS, [1, 0], ANSWERS),
            r"weights must be \[B, M \+ 1\].*= \[2, 4\], got shape \(4,\)",
        ),
        (
            lambda: joint.vote_losses(WEIGHTS[:, :3], PROBS, [1, 0], ANSWERS),
            r"= \[2, 4\], got shape \(2, 3\)",
        ),
        (
            lambda: joint.vote_losses(WEIGHTS[None], PROBS, [1, 0], ANSWERS),
            r"got shape \(1, 2, 4\)",
        ),
        (lambda: joint.decide(WEIGHTS, PROBS[:1]), "must have the 1 examples of class"),
        (
            lambda: joint.decide(WEIGHTS, PROBS[0]),
            r"class_probs must have shape \[B, K",
        ),
        (
            lambda: make_learner(objective="fair"),
            "must be one of joint, balanced, minimax, got 'fair'",
        ),
        (lambda: make_learner(num_groups=0), "num_groups must be > 0, got 0"),
    ],
)
def test_wrong_arguments(function, message):
    with pytest.raises(ValueError, match=message):
        function()


@pytest.mark.parametrize(("num_rounds", "steps_per_round"), [(0, 2), (1, 1)])
def test_minimax_needs_a_round_and_two_steps(num_rounds, steps_per_round):
    message = f"num_rounds must be > 0 .* got {num_rounds} and {steps_per_round}"
    with pytest.raises(ValueError, match=message):
        minimax_of_fixed_votes(steps_per_round, num_rounds)


def test_answers_must_be_integers():
    batch = random_batch()
    batch = batch._replace(expert_labels=batch.expert_labels.astype(np.float32))
    message = "expert_labels must be integers, -1 for who was not asked, got float32"
    with pytest.raises(TypeError, match=message):
        jax.eval_shape(
            functools.partial(update_once, objective="joint"), HPARAMS, batch, 0
        )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"expert_labels": None}, r"batch\.expert_labels is None"),
        ({"expert_labels": np.zeros(30, int)}, r"must be \[B, M\], got shape \(30,\)"),
        ({"groups": None}, r"batch\.groups is None"),
        ({"costs": np.ones((30, 5))}, r"batch\.costs must be .* \[30, 4\], got shape"),
    ],
)
def test_a_batch_that_lacks_a_field(changes, message):
    batch = random_batch(**changes)
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(
            functools.partial(update_once, objective="balanced"), HPARAMS, batch, 0
        )


def test_groups_that_do_not_exist_are_no_groups():
    values, weights = jnp.array([1.0, 9.0, 5.0]), jnp.array([1.0, 1.0, 0.0])
    with pytest.raises(ValueError, match=r"groups must be in \[0, 2\), got 2 in row 1"):
        joint.group_means(values, jnp.array([1, 2, 7]), weights, 2)
    traced = jax.jit(joint.group_means, static_argnums=3)
    assert np.isnan(traced(values, jnp.array([1, 2, 7]), weights, 2)[0]).all()
    means, totals = traced(values, jnp.array([0, 1, 7]), weights, 2)
    np.testing.assert_array_equal(means, [1, 9])
    np.testing.assert_array_equal(totals, [1, 1])
