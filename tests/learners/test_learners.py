"""Learners on a table of cells, where the best rule is known.

The inputs are one-hot, so a linear model without bias is a free table of logits: what
each loss converges to in a cell is the cell's own frequencies.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from l2d_jax import decisions, optimizers
from l2d_jax.learners import (
    classifier,
    cost_sensitive,
    deferral,
    expert_model,
    gradient,
    mixture,
)
from l2d_jax.types import Batch, ModelFns

pytestmark = pytest.mark.usefixtures("cheap_compiles")

PER_CELL = 20
# Of the 20 examples of each cell: labels, and whether the expert is right.
CELL_LABELS = (
    [0] * 20,  # Certain.
    [1] * 10 + [2] * 10,  # A coin's toss.
    [1] * 14 + [2] * 6,
    [2] * 12 + [0] * 8,
)
CELL_CORRECT = (
    [1, 0] * 10,  # Right on half.
    [1] * 20,  # Always right.
    [1, 0, 0, 0, 1] * 4,  # Right on 0.4: 6 of them among the first 14.
    [1, 1, 1, 0] * 5,  # Right on 0.75.
)
CLASS_FREQUENCIES = np.array([[1, 0, 0], [0, 0.5, 0.5], [0, 0.7, 0.3], [0.4, 0, 0.6]])
EXPERT_ACCURACY = np.array([0.5, 1.0, 0.4, 0.75])
# The expert is asked where it is more often right than the best guess.
BEST_DEFER = [False, True, False, True]
BEST_PREDICTION = [0, None, 1, None]


def table_model(num_outputs):
    def init(key, inputs):
        return {"w": jax.random.uniform(key, (inputs.shape[-1], num_outputs))}, {}

    def apply(params, model_state, inputs, train):
        del train
        return inputs @ params["w"], model_state

    return ModelFns(init, apply)


@pytest.fixture(scope="module")
def batch():
    labels = np.array(CELL_LABELS, np.int32).ravel()
    correct = np.array(CELL_CORRECT, bool).ravel()
    expert_labels = np.where(correct, labels, (labels + 1) % 3).astype(np.int32)
    inputs = np.repeat(np.eye(4, dtype=np.float32), PER_CELL, axis=0)
    return Batch(inputs, labels, expert_labels[:, None])


HPARAMS = {"learning_rate": 0.1, "weight_decay": 0.0, "alpha": 1.0, "cost": 0.1}
HPARAMS |= {"price": 0.0, "smoothing": 0.25}
HPARAMS = {name: np.float32(value) for name, value in HPARAMS.items()}


def fit(learner, batch, hparams=HPARAMS, num_steps=400):
    """Descend on the whole batch; what the learner then says of each cell."""

    @jax.jit
    def run(batch, hparams):
        def step(state, _):
            return learner.update(state, hparams, batch)[0], None

        state = learner.init(jax.random.key(0), hparams, batch)
        state, _ = jax.lax.scan(step, state, length=num_steps)
        return state.step, learner.predict(state.variables, hparams, jnp.eye(4))

    step, outputs = run(batch, hparams)
    assert step == num_steps
    return jax.tree.map(np.asarray, outputs)


def make(name, optimizer=None):
    optimizer = optimizer or optimizers.make_adam()
    maker, num_outputs = {
        "deferral": (deferral.make_learner, 4),
        "classifier": (classifier.make_learner, 3),
        "cost_sensitive": (cost_sensitive.make_learner, 4),
        "expert_model": (expert_model.make_learner, 1),
        "mixture": (mixture.make_learner, 4),
        "binary_mixture": (mixture.make_learner, 2),
    }[name]
    return maker(table_model(num_outputs), optimizer)


def defers(decision):
    assert decision.allocation.shape == (4, 2)
    return decision.allocation[:, 0] == 1


def test_deferral_finds_the_best_rule(batch):
    decision = fit(make("deferral"), batch)
    np.testing.assert_array_equal(defers(decision), BEST_DEFER)
    predictions = decisions.prediction(decision)
    for cell, prediction in enumerate(BEST_PREDICTION):
        if prediction is not None:
            assert predictions[cell] == prediction
    np.testing.assert_allclose(
        decision.expert_correct_prob[:, 0], EXPERT_ACCURACY, rtol=0, atol=0.02
    )
    np.testing.assert_allclose(
        decision.class_probs, CLASS_FREQUENCIES, rtol=0, atol=0.02
    )


def test_alpha_zero_learns_classes_where_the_expert_errs(batch):
    """With alpha = 0 the classifier learns only from the expert's mistakes."""
    decision = fit(make("deferral"), batch, {**HPARAMS, "alpha": np.float32(0.0)})
    correct, labels = np.array(CELL_CORRECT, bool), np.array(CELL_LABELS)
    for cell in (0, 2, 3):
        wrong = labels[cell][~correct[cell]]
        frequencies = np.bincount(wrong, minlength=3) / len(wrong)
        np.testing.assert_allclose(
            decision.class_probs[cell], frequencies, rtol=0, atol=0.02
        )
    np.testing.assert_allclose(
        decision.expert_correct_prob[:, 0], EXPERT_ACCURACY, rtol=0, atol=0.02
    )


@pytest.mark.parametrize(
    ("price", "defer"),
    # A guess is right on 1, .5, .7 and .6, the expert on .5, 1, .4 and .75.
    [(0.0, BEST_DEFER), (0.2, [False, True, False, False]), (0.6, [False] * 4)],
)
def test_actions_that_cost_errors_find_the_best_rule(batch, price, defer):
    hparams = {**HPARAMS, "price": np.float32(price)}
    decision = fit(make("cost_sensitive"), batch, hparams)
    np.testing.assert_array_equal(defers(decision), defer)
    assert np.isnan(decision.expert_correct_prob).all()
    predictions = decisions.prediction(decision)
    for cell, prediction in enumerate(BEST_PREDICTION):
        if prediction is not None:
            assert predictions[cell] == prediction


def test_classifier_finds_the_class_frequencies(batch):
    probs = fit(make("classifier"), batch)
    np.testing.assert_allclose(probs, CLASS_FREQUENCIES, rtol=0, atol=0.02)


def test_expert_model_finds_the_expert_accuracy(batch):
    probs = fit(make("expert_model"), batch)
    assert probs.shape == (4, 1)
    np.testing.assert_allclose(probs[:, 0], EXPERT_ACCURACY, rtol=0, atol=0.02)


def test_one_model_of_several_experts_finds_each_accuracy(batch):
    """The second is asked of every other example alone, the third of nothing."""
    second = np.where(np.arange(80) % 2, -1, (batch.labels + 1) % 3)
    answers = np.stack([batch.expert_labels[:, 0], second, np.full(80, -1)], axis=1)
    learner = expert_model.make_learner(table_model(3), optimizers.make_adam())
    several = batch._replace(expert_labels=answers.astype(np.int32))
    probs = fit(learner, several)
    assert probs.shape == (4, 3)
    np.testing.assert_allclose(probs[:, 0], EXPERT_ACCURACY, rtol=0, atol=0.02)
    # Always wrong, where it was asked.
    assert (probs[:, 1] < 0.05).all()
    start = learner.init(jax.random.key(0), HPARAMS, several).variables.params["w"]
    np.testing.assert_allclose(
        probs[:, 2], jax.nn.sigmoid(start)[:, 2], rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize(
    ("cost", "defer"),
    [
        # Classifier: 0, 0.693, 0.611, 0.673 nats; expert: 0.105 nats everywhere.
        (0.1, [False, True, True, True]),
        (0.54, [False, True, False, True]),
        (0.62, [False, False, False, False]),
    ],
)
def test_mixture_defers_where_the_expert_is_worth_its_cost(batch, cost, defer):
    labels = (np.array(CELL_LABELS) == [[0], [1], [1], [2]]).astype(np.int32).ravel()
    # Always 0.9 on the truth.
    truth = np.where(np.eye(2)[labels] == 1, 0.9, 0.1).astype(np.float32)
    binary = Batch(batch.inputs, labels, expert_probs=truth[:, None, :])
    hparams = {**HPARAMS, "cost": np.float32(cost)}
    decision = fit(make("binary_mixture"), binary, hparams)
    np.testing.assert_array_equal(defers(decision), defer)
    kept = ~np.array(defer)
    frequencies = np.array([1.0, 0.5, 0.7, 0.6])
    np.testing.assert_allclose(
        decision.class_probs[kept, 1], frequencies[kept], rtol=0, atol=0.02
    )
    assert np.isnan(decision.expert_correct_prob).all()


def test_mixture_of_three_classes_defers_where_the_expert_is_likelier_right():
    """Right on 3/4 or 1/3 of what is a guess to the classifier, 1/2 and all."""
    labels = np.int32([[0, 1, 2] * 4, [0, 1, 2] * 4, [2] * 12, [0, 1] * 6])
    correct = np.array([[1, 1, 1, 0] * 3, [1, 0, 0, 0] * 3, [1, 0] * 6, [1] * 12], bool)
    labels, correct = labels.ravel(), correct.ravel()
    answers = np.where(correct, labels, (labels + 1) % 3)
    inputs = np.repeat(np.eye(4, dtype=np.float32), 12, axis=0)
    batch = Batch(inputs, labels, answers[:, None].astype(np.int32))
    decision = fit(make("mixture"), batch, {**HPARAMS, "cost": np.float32(0.0)})
    # An answer has 3/4, so that it costs .288 right and 2.079 wrong: .736, 1.632, 1.184
    # and .288 nats in the mean, against 1.099, 1.099, 0 and .693 of the classifier.
    np.testing.assert_array_equal(defers(decision), [True, False, False, True])
    expected = [[1 / 3, 1 / 3, 1 / 3], [0, 0, 1]]
    np.testing.assert_allclose(decision.class_probs[1:3], expected, rtol=0, atol=0.02)


def plain_sgd():
    """At its first step, exactly the learning rate times the gradient."""
    return optimizers.make_sgd(1000, momentum=0.0)


def gradient_of(learner, batch):
    """The gradient that one update applied, the loss it reports, and the start."""
    hparams = {**HPARAMS, "alpha": np.float32(0.3), "learning_rate": np.float32(1.0)}

    @jax.jit
    def update_once(batch, hparams):
        before = learner.init(jax.random.key(1), hparams, batch)
        after, metrics = learner.update(before, hparams, batch)
        w = before.variables.params["w"]
        return w - after.variables.params["w"], metrics["loss"], w

    got, loss, w = update_once(batch, hparams)
    return np.asarray(got), float(loss), np.asarray(w, np.float64)


def softmax(logits):
    exp = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exp / exp.sum(axis=1, keepdims=True)


def expected_gradient(name, batch, w, weights):
    """The weighted mean loss and its gradient, in float64 from the equations."""
    logits = batch.inputs.astype(np.float64) @ w
    if batch.expert_correct is None:
        correct = (batch.expert_labels[:, 0] == batch.labels).astype(float)
    else:
        correct = batch.expert_correct[:, 0].astype(np.float64)
    if name == "expert_model":
        prob = 1 / (1 + np.exp(-logits[:, 0]))
        losses = -correct * np.log(prob) - (1 - correct) * np.log(1 - prob)
        slopes = (prob - correct)[:, None]
    else:
        # Targets of a cross-entropy: the label's weight, and the expert's.
        targets = np.eye(logits.shape[1])[batch.labels]
        if name == "deferral":
            targets *= (1.0 - 0.7 * correct)[:, None]
        if name != "classifier":
            targets[:, -1] = correct
        probs = softmax(logits)
        losses = -np.sum(targets * np.log(probs), axis=1)
        slopes = targets.sum(axis=1, keepdims=True) * probs - targets
    share = weights / weights.sum()
    return batch.inputs.T @ (share[:, None] * slopes), np.sum(share * losses)


TRAINED = ("deferral", "classifier", "cost_sensitive", "expert_model")


@pytest.mark.parametrize("name", TRAINED)
@pytest.mark.parametrize("weighted", [False, True])
def test_an_update_follows_the_gradient_of_the_mean_loss(batch, name, weighted):
    weights = np.random.default_rng(0).uniform(0.0, 2.0, len(batch.labels))
    if not weighted:
        weights = np.ones(len(batch.labels))
    given = batch._replace(weights=weights.astype(np.float32)) if weighted else batch
    got, loss, w = gradient_of(make(name, plain_sgd()), given)
    expected, expected_loss = expected_gradient(name, batch, w, weights)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["deferral", "cost_sensitive", "expert_model"])
@pytest.mark.parametrize("answered", [False, True])
def test_an_imputed_correctness_takes_the_place_of_answers(batch, name, answered):
    probs = np.random.default_rng(1).uniform(size=(len(batch.labels), 1))
    given = batch._replace(
        expert_labels=batch.expert_labels if answered else None,
        expert_correct=probs.astype(np.float32),
    )
    got, loss, w = gradient_of(make(name, plain_sgd()), given)
    ones = np.ones(len(batch.labels))
    expected, expected_loss = expected_gradient(name, given, w, ones)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", TRAINED)
def test_examples_of_weight_0_change_nothing(batch, name):
    """Padding, whatever it holds."""
    weights = np.ones(len(batch.labels), np.float32)
    weights[3::7] = 0.0
    unused = weights == 0.0
    padded = Batch(
        np.where(unused[:, None], np.float32(np.nan), batch.inputs),
        np.where(unused, -1, batch.labels).astype(np.int32),
        np.where(unused[:, None], 9, batch.expert_labels).astype(np.int32),
        weights=weights,
    )
    got, loss, w = gradient_of(make(name, plain_sgd()), padded)
    expected, expected_loss = expected_gradient(name, batch, w, weights)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["deferral", "cost_sensitive", "expert_model"])
@pytest.mark.parametrize("imputed", [False, True])
def test_examples_about_which_nobody_was_asked_change_nothing(batch, name, imputed):
    unasked = np.arange(len(batch.labels)) % 7 == 3
    if imputed:
        correct = (batch.expert_labels == batch.labels[:, None]).astype(np.float32)
        correct[unasked] = np.nan
        given = batch._replace(expert_labels=None, expert_correct=correct)
    else:
        answers = np.where(unasked[:, None], -1, batch.expert_labels)
        given = batch._replace(expert_labels=answers.astype(np.int32))
    got, loss, w = gradient_of(make(name, plain_sgd()), given)
    expected, expected_loss = expected_gradient(name, batch, w, 1.0 - unasked)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-5, atol=1e-6)


def test_a_batch_of_weight_0_is_no_step(batch):
    nothing = batch._replace(weights=np.zeros(len(batch.labels), np.float32))
    got, loss, _ = gradient_of(make("deferral", plain_sgd()), nothing)
    np.testing.assert_array_equal(got, 0.0)
    assert loss == 0.0


@pytest.mark.parametrize(
    "name", ["deferral", "cost_sensitive", "expert_model", "mixture"]
)
def test_without_an_expert(batch, name):
    learner = make(name)
    alone = batch._replace(expert_labels=None)

    def update_once():
        state = learner.init(jax.random.key(0), HPARAMS, alone)
        return learner.update(state, HPARAMS, alone)

    message = r"batch\.expert_labels is None and so is batch\.expert_correct; give"
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(update_once)


@pytest.mark.parametrize("name", ["deferral", "cost_sensitive", "mixture"])
def test_a_method_of_one_expert_refuses_two(batch, name):
    learner = make(name)
    two = batch._replace(expert_labels=np.repeat(batch.expert_labels, 2, axis=1))

    def update_once():
        state = learner.init(jax.random.key(0), HPARAMS, two)
        return learner.update(state, HPARAMS, two)

    with pytest.raises(ValueError, match="the batch has 2 experts and this method tak"):
        jax.eval_shape(update_once)


def disparity_oracle(probs, labels, groups, weights):
    gaps = []
    for label in (0, 1):
        cells = [(labels == label) & (groups == group) for group in (0, 1)]
        misses = [
            np.average(np.abs(probs - label)[cell], weights=weights[cell])
            for cell in cells
        ]
        gaps.append(abs(misses[0] - misses[1]))
    return 0.5 * sum(gaps)


@pytest.mark.long
@pytest.mark.parametrize("expert", ["answers", "probabilities"])
def test_a_fair_deferral_adds_the_disparity_of_the_system(expert):
    """In float64: who was not asked is decided upon by the classifier."""
    generator = np.random.default_rng(5)
    labels, groups = generator.integers(0, 2, (2, 60)).astype(np.int32)
    outputs = generator.normal(size=(60, 3)).astype(np.float32)
    weights = generator.uniform(0.5, 2.0, 60).astype(np.float32)
    answers = generator.integers(-1, 2, 60).astype(np.int32)
    probs = generator.dirichlet([1, 1], 60).astype(np.float32)
    batch = Batch(
        np.zeros((60, 1), np.float32),
        labels,
        answers[:, None],
        groups,
        weights,
        expert_probs=probs[:, None] if expert == "probabilities" else None,
    )
    hparams = {"alpha": np.float32(0.3), "fairness": np.float32(0.7)}
    of_actions = softmax(np.float64(outputs))
    positive, gate = softmax(np.float64(outputs[:, :2]))[:, 1], of_actions[:, 2]
    correct = answers == labels
    losses = -(1.0 - 0.7 * correct) * np.log(of_actions[np.arange(60), labels])
    losses -= correct * np.log(gate)
    expected = np.average(losses, weights=weights * (answers >= 0))
    if expert == "answers":
        team = np.where(answers >= 0, gate * answers + (1 - gate) * positive, positive)
    else:
        team = gate * probs[:, 1] + (1 - gate) * positive
    unfair = disparity_oracle(team, labels, groups, weights)
    assert unfair > 0.01
    loss_fn = deferral.make_batch_loss(regularized=True)
    for function in (loss_fn, jax.jit(loss_fn)):
        loss = function(outputs, batch, hparams, jax.random.key(0))
        np.testing.assert_allclose(loss, expected + 0.7 * unfair, rtol=1e-5, atol=1e-6)
    plain = deferral.make_batch_loss()(outputs, batch, hparams, jax.random.key(0))
    np.testing.assert_allclose(plain, expected, rtol=1e-5, atol=1e-6)


def test_the_classifier_knows_nothing_of_the_expert(batch):
    learner = make("classifier", plain_sgd())
    alone, _, _ = gradient_of(learner, batch._replace(expert_labels=None))
    beside, _, _ = gradient_of(learner, batch)
    np.testing.assert_array_equal(alone, beside)


def test_augmentation_is_of_training_only_and_new_at_every_step(batch):
    """The update sees ``augment``ed inputs, then both see them ``preprocess``ed."""
    learner = gradient.make_gradient_learner(
        table_model(1),
        plain_sgd(),
        # The gradient of the loss is the mean input, and tells what was seen.
        lambda outputs, batch, hparams, key: jnp.mean(outputs),
        lambda outputs, hparams: outputs,
        augment=lambda key, inputs: inputs + jax.random.uniform(key),
        preprocess=lambda inputs: 2.0 * inputs,
    )
    hparams = {**HPARAMS, "learning_rate": np.float32(1.0)}
    batch = batch._replace(inputs=np.zeros_like(batch.inputs))
    state = learner.init(jax.random.key(0), hparams, batch)
    update = jax.jit(learner.update)
    shifts = []
    for _ in range(2):
        before = state.variables.params["w"]
        state, _ = update(state, hparams, batch)
        shifts.append(np.asarray(before - state.variables.params["w"])[0, 0] / 2.0)
    assert all(0.0 < shift < 1.0 for shift in shifts)
    assert abs(shifts[0] - shifts[1]) > 1e-3
    outputs = learner.predict(state.variables, hparams, jnp.ones((3, 4)))
    expected = 2.0 * np.sum(state.variables.params["w"])
    np.testing.assert_allclose(outputs, np.full((3, 1), expected), rtol=1e-5, atol=1e-6)


def test_the_same_key_gives_the_same_start(batch):
    learner = make("deferral")
    first, again, other = (
        learner.init(jax.random.key(seed), HPARAMS, batch).variables.params["w"]
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
