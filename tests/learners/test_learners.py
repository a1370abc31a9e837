"""Learners on a table of cells, where the best rule is known.

The inputs are one-hot, so a linear model without bias is a free table of logits: what
each loss converges to in a cell is the cell's own frequencies.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from l2d_jax import optimizers
from l2d_jax.learners import (
    batches,
    confidence,
    deferral,
    gradient,
    mixture,
)
from l2d_jax.types import Batch, ModelFns

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
        "classifier": (confidence.make_classifier, 3),
        "expert_model": (confidence.make_expert_model, 1),
        "mixture": (mixture.make_learner, 2),
    }[name]
    return maker(table_model(num_outputs), optimizer)


def test_deferral_finds_the_best_rule(batch):
    decision = fit(make("deferral"), batch)
    np.testing.assert_array_equal(decision.defer, BEST_DEFER)
    for cell, prediction in enumerate(BEST_PREDICTION):
        if prediction is not None:
            assert decision.prediction[cell] == prediction
    np.testing.assert_allclose(
        decision.expert_correct_prob, EXPERT_ACCURACY, rtol=0, atol=0.02
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
        decision.expert_correct_prob, EXPERT_ACCURACY, rtol=0, atol=0.02
    )


def test_classifier_finds_the_class_frequencies(batch):
    logits = fit(make("classifier"), batch)
    np.testing.assert_allclose(
        jax.nn.softmax(logits), CLASS_FREQUENCIES, rtol=0, atol=0.02
    )


def test_expert_model_finds_the_expert_accuracy(batch):
    probs = fit(make("expert_model"), batch)
    assert probs.shape == (4,)
    np.testing.assert_allclose(probs, EXPERT_ACCURACY, rtol=0, atol=0.02)


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
    binary = Batch(batch.inputs, labels, truth[:, None, :])
    decision = fit(make("mixture"), binary, {**HPARAMS, "cost": np.float32(cost)})
    np.testing.assert_array_equal(decision.defer, defer)
    kept = ~np.array(defer)
    frequencies = np.array([1.0, 0.5, 0.7, 0.6])
    np.testing.assert_allclose(
        decision.class_probs[kept, 1], frequencies[kept], rtol=0, atol=0.02
    )
    assert np.isnan(decision.expert_correct_prob).all()


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
            targets[:, -1] = correct
        probs = softmax(logits)
        losses = -np.sum(targets * np.log(probs), axis=1)
        slopes = targets.sum(axis=1, keepdims=True) * probs - targets
    share = weights / weights.sum()
    return batch.inputs.T @ (share[:, None] * slopes), np.sum(share * losses)


@pytest.mark.parametrize("name", ["deferral", "classifier", "expert_model"])
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


@pytest.mark.parametrize("name", ["deferral", "expert_model"])
@pytest.mark.parametrize("answered", [False, True])
def test_an_imputed_correctness_takes_the_place_of_answers(batch, name, answered):
    probs = np.random.default_rng(1).uniform(size=(len(batch.labels), 2))
    given = batch._replace(
        expert_labels=batch.expert_labels if answered else None,
        expert_correct=probs.astype(np.float32),
    )
    got, loss, w = gradient_of(make(name, plain_sgd()), given)
    ones = np.ones(len(batch.labels))
    expected, expected_loss = expected_gradient(name, given, w, ones)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["deferral", "classifier", "expert_model"])
def test_examples_of_weight_0_change_nothing(batch, name):
    """Padding, whatever it holds, and examples that nobody annotated."""
    weights = np.ones(len(batch.labels), np.float32)
    weights[3::7] = 0.0
    unused = weights == 0.0
    padded = Batch(
        np.where(unused[:, None], np.float32(1e3), batch.inputs),
        np.where(unused, 0, batch.labels).astype(np.int32),
        np.where(unused[:, None], -1, batch.expert_labels).astype(np.int32),
        weights=weights,
    )
    got, loss, w = gradient_of(make(name, plain_sgd()), padded)
    expected, expected_loss = expected_gradient(name, batch, w, weights)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-5, atol=1e-6)


def test_a_batch_of_weight_0_is_no_step(batch):
    nothing = batch._replace(weights=np.zeros(len(batch.labels), np.float32))
    got, loss, _ = gradient_of(make("deferral", plain_sgd()), nothing)
    np.testing.assert_array_equal(got, 0.0)
    assert loss == 0.0


@pytest.mark.parametrize("name", ["deferral", "expert_model", "mixture"])
def test_without_an_expert(batch, name):
    learner = make(name)
    alone = batch._replace(expert_labels=None)

    def update_once():
        state = learner.init(jax.random.key(0), HPARAMS, alone)
        return learner.update(state, HPARAMS, alone)

    with pytest.raises(ValueError, match=r"batch\.expert_labels is None") as error:
        jax.eval_shape(update_once)
    assert ("batch.expert_correct" in str(error.value)) == (name != "mixture")


def test_whether_the_expert_is_right():
    answers = np.int32([[2, 0], [1, 1], [0, 1]])
    given = Batch(np.zeros((3, 4)), np.int32([2, 0, 0]), answers)
    right = batches.expert_correct(given, jnp.float32)
    assert right.dtype == jnp.float32
    np.testing.assert_array_equal(right, [1.0, 0.0, 1.0])
    imputed = given._replace(expert_correct=np.float32([[0.25, 1], [0.5, 1], [1, 0]]))
    np.testing.assert_array_equal(
        batches.expert_correct(imputed, jnp.float32), [0.25, 0.5, 1.0]
    )
    for field, values in (
        ("expert_labels", np.zeros((3, 2, 3))),
        ("expert_correct", np.zeros(3)),
    ):
        with pytest.raises(
            ValueError, match=rf"batch\.{field} must have shape \[B, M\]"
        ):
            batches.expert_correct(given._replace(**{field: values}), jnp.float32)


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
