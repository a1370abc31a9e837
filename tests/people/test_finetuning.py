"""Performance models of one person, on people whose best model is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from l2d_jax import models, optimizers
from l2d_jax.learners import expert_model
from l2d_jax.people import finetuning
from l2d_jax.types import Dataset, Learner

pytestmark = pytest.mark.usefixtures("cheap_compiles")

# Compiled, so that what is called again and again is traced once.
LEARNER = Learner(
    *map(
        jax.jit,
        expert_model.make_learner(models.mlp((), 1), optimizers.make_adam()),
    )
)
# Arrays, so that other values are the same program.
HPARAMS = {
    "learning_rate": jnp.float32(0.1),
    "finetune_learning_rate": jnp.float32(0.2),
    "threshold": jnp.float32(0.75),
}
KEY = jax.random.key(0)
BATCH_SIZE = 4
NUM_EXAMPLES = 8  # Of each kind of data: one program fits any of them.


def make_dataset(inputs, correct, weights=None):
    count = len(inputs)
    return Dataset(
        inputs=np.asarray(inputs, np.float32),
        labels=np.zeros(count, np.int32),
        weights=np.asarray(np.ones(count) if weights is None else weights, np.float32),
        expert_correct=np.asarray(correct, np.float32)[:, None],
    )


def make_person(seed, count, sign=1.0):
    """Somebody right where the first feature has the given sign."""
    inputs = np.random.default_rng(seed).normal(size=(count, 2))
    return make_dataset(inputs, sign * inputs[:, 0] > 0)


def make_order(seed, count, epochs=15):
    generator = np.random.default_rng(seed)
    order = np.stack([generator.permutation(count) for _ in range(epochs)])
    return order.reshape(epochs, -1, BATCH_SIZE).astype(np.int32)


AGGREGATE_ORDER = make_order(0, NUM_EXAMPLES)
INDIVIDUAL_ORDER = make_order(1, NUM_EXAMPLES)
JOINED_ORDER = make_order(2, 2 * NUM_EXAMPLES)
BOTH_ORDER = make_order(3, 2 * NUM_EXAMPLES)


@pytest.fixture(scope="module")
def aggregate():
    return make_person(0, NUM_EXAMPLES)


@pytest.fixture(scope="module")
def individual():
    """The opposite of the aggregate: wrong where it is right."""
    return make_person(1, NUM_EXAMPLES, sign=-1.0)


@pytest.fixture(scope="module")
def unlabelled():
    return make_person(2, NUM_EXAMPLES)


def imitate(prediction, unlabelled):
    sure = jnp.maximum(prediction, 1.0 - prediction)[:, 0]
    return unlabelled._replace(expert_correct=jnp.round(prediction)), sure


def fit_from_scratch(dataset, order, bank=None):
    batch = finetuning.look_up(jax.tree.map(lambda leaf: leaf[:2], dataset), bank)
    state = LEARNER.init(KEY, HPARAMS, batch)
    return finetuning.fit(LEARNER, HPARAMS, state, dataset, order, bank).variables


def nll(variables, dataset):
    """Mean negative log-likelihood of a person's answers, in nats, by NumPy."""
    prob = np.asarray(LEARNER.predict(variables, HPARAMS, dataset.inputs), np.float64)
    correct = dataset.expert_correct
    assert prob.shape == correct.shape
    return -np.mean(np.log(np.where(correct > 0.5, prob, 1.0 - prob)))


@pytest.fixture(scope="module")
def others(aggregate):
    """The model of the others."""
    return fit_from_scratch(aggregate, AGGREGATE_ORDER)


@pytest.fixture(scope="module")
def first(individual):
    """The first model of self-training."""
    return fit_from_scratch(individual, INDIVIDUAL_ORDER)


def assert_equal(tree, other):
    assert jax.tree.structure(tree) == jax.tree.structure(other)
    jax.tree.map(np.testing.assert_array_equal, tree, other)


def assert_close(tree, other, rtol=1e-4, atol=1e-5):
    assert jax.tree.structure(tree) == jax.tree.structure(other)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=atol), tree, other
    )


def largest_difference(tree, other):
    differences = jax.tree.map(lambda a, b: float(jnp.max(jnp.abs(a - b))), tree, other)
    return max(jax.tree.leaves(differences))


@pytest.mark.parametrize(
    ("classes", "weights", "expected"),
    [
        # Three of class 0 and one of class 1: 2 of the sum 4 each.
        ([0, 0, 0, 1], [1, 1, 1, 1], [2 / 3, 2 / 3, 2 / 3, 2]),
        # Class 1 does not occur; the others have 2 of the sum 4 each.
        ([0, 2, 2, 2], [1, 1, 1, 1], [2, 2 / 3, 2 / 3, 2 / 3]),
        # Within a class the weights keep their ratio: 3 of the sum 6 each.
        ([0, 0, 1, 1], [1, 2, 1, 2], [1, 2, 1, 2]),
        ([0, 0, 1, 1], [1, 3, 1, 1], [0.75, 2.25, 1.5, 1.5]),
        # Only one class occurs: as they are.
        ([2, 2, 2, 2], [0.5, 1, 2, 3], [0.5, 1, 2, 3]),
        # Nothing has any weight.
        ([0, 1, 2, 0], [0, 0, 0, 0], [0, 0, 0, 0]),
        # Padding counts for no class and stays out: one of class 0, one of class 2.
        ([0, 2, 1, 0], [1, 3, 0, 0], [2, 2, 0, 0]),
    ],
)
@pytest.mark.parametrize("transform", [lambda function: function, jax.jit])
def test_balanced_weights(transform, classes, weights, expected):
    def balance(classes, weights):
        return finetuning.balanced_weights(classes, weights, 3)

    classes, weights = np.array(classes), np.array(weights, np.float32)
    balanced = transform(balance)(classes, weights)
    np.testing.assert_allclose(balanced, expected, rtol=1e-6, atol=0)


def test_balanced_weights_share_the_sum_among_the_classes():
    generator = np.random.default_rng(0)
    classes = generator.integers(0, 4, (3, 50))
    weights = generator.uniform(0, 5, (3, 50)).astype(np.float32)

    def balance(classes, weights):
        return finetuning.balanced_weights(classes, weights, 5)

    balanced = np.asarray(jax.jit(jax.vmap(balance))(classes, weights))
    for row, row_classes, row_weights in zip(balanced, classes, weights, strict=True):
        np.testing.assert_allclose(
            [np.sum(row[row_classes == k]) for k in range(5)],
            [np.sum(row_weights, dtype=np.float64) / 4] * 4 + [0],
            rtol=1e-5,
            atol=0,
        )


def test_fit_is_the_loop_of_updates(aggregate):
    state = LEARNER.init(KEY, HPARAMS, aggregate)
    fitted = finetuning.fit(LEARNER, HPARAMS, state, aggregate, AGGREGATE_ORDER)
    for epoch in AGGREGATE_ORDER:
        for index in epoch:
            batch = jax.tree.map(lambda leaf, index=index: leaf[index], aggregate)
            state, _ = LEARNER.update(state, HPARAMS, batch)
    assert int(fitted.step) == int(state.step) == 30
    assert_close(fitted.variables, state.variables)
    assert nll(fitted.variables, aggregate) < np.log(2)


def test_fit_takes_minibatches_with_or_without_epochs(aggregate, others):
    flat = AGGREGATE_ORDER.reshape(-1, BATCH_SIZE)
    assert_equal(fit_from_scratch(aggregate, flat), others)


def test_inputs_from_the_bank(aggregate):
    """Rows of a bank, in any order and more than once, are the inputs themselves."""
    index = np.array([5, 0, 3, 3, 1, 2, 0, 4])
    bank = np.random.default_rng(3).normal(size=(6, 2)).astype(np.float32)
    by_row = aggregate._replace(inputs=index)
    direct = aggregate._replace(inputs=bank[index])
    assert_equal(finetuning.look_up(by_row, bank), direct)
    assert finetuning.look_up(direct, None) is direct
    assert_close(
        fit_from_scratch(by_row, AGGREGATE_ORDER, bank),
        fit_from_scratch(direct, AGGREGATE_ORDER),
    )


def test_join():
    first = make_dataset([[1, 2]], [1])
    second = make_dataset([[3, 4], [5, 6]], [0, 1], weights=[1, 0])
    both = finetuning.join(first, second)
    np.testing.assert_array_equal(both.inputs, [[1, 2], [3, 4], [5, 6]])
    np.testing.assert_array_equal(both.expert_correct, [[1], [0], [1]])
    np.testing.assert_array_equal(both.weights, [1, 1, 0])
    assert both.costs is None


def test_without_finetuning_is_one_fit_of_both(aggregate, individual):
    fitted = finetuning.without_finetuning(
        LEARNER, HPARAMS, KEY, aggregate, individual, BOTH_ORDER
    )
    both = finetuning.join(aggregate, individual)
    assert_equal(fitted.variables, fit_from_scratch(both, BOTH_ORDER))
    assert int(fitted.num_selected) == 0


def finetune(aggregate, individual, **hparams):
    return finetuning.finetune(
        LEARNER,
        HPARAMS | {name: jnp.float32(value) for name, value in hparams.items()},
        KEY,
        aggregate,
        individual,
        AGGREGATE_ORDER,
        INDIVIDUAL_ORDER,
    )


@pytest.mark.parametrize(
    ("weight", "rate"), [(0.0, 0.1), (1.0, 0.0)], ids=["no answers", "no steps"]
)
def test_a_person_without_answers_keeps_the_model_of_the_others(
    aggregate, individual, others, weight, rate
):
    """Exactly: the optimizer is a fresh one, without momentum that would go on."""
    individual = individual._replace(weights=weight * individual.weights)
    fitted = finetune(aggregate, individual, finetune_learning_rate=rate)
    assert_equal(fitted.variables, others)


def test_finetuning_is_a_second_fit_at_its_own_rate(aggregate, individual, others):
    fitted = finetune(aggregate, individual, finetune_learning_rate=0.02)
    hparams = HPARAMS | {"learning_rate": jnp.float32(0.02)}
    state = LEARNER.init(KEY, hparams, individual)
    state = state._replace(variables=others)
    second = finetuning.fit(LEARNER, hparams, state, individual, INDIVIDUAL_ORDER)
    assert_equal(fitted.variables, second.variables)
    assert int(fitted.num_selected) == 0
    faster = finetune(aggregate, individual, finetune_learning_rate=0.1)
    assert largest_difference(fitted.variables, faster.variables) > 0.1


def test_finetuning_helps_a_person_unlike_the_others(aggregate, individual, others):
    without = finetuning.without_finetuning(
        LEARNER, HPARAMS, KEY, aggregate, individual, BOTH_ORDER
    )
    tuned = finetune(aggregate, individual)
    unseen = make_person(3, 200, sign=-1.0)
    assert nll(tuned.variables, unseen) < nll(without.variables, unseen) - 0.1
    # The others' model is worse than a coin's toss.
    assert nll(others, unseen) > np.log(2)


def self_train(individual, unlabelled, threshold, imitate=imitate):
    return finetuning.self_train(
        LEARNER,
        HPARAMS | {"threshold": threshold},
        KEY,
        individual,
        unlabelled,
        INDIVIDUAL_ORDER,
        JOINED_ORDER,
        imitate,
    )


def sure_of_first_feature(prediction, unlabelled):
    """Confidence known in advance: the first feature."""
    pseudo = unlabelled._replace(expert_correct=jnp.round(prediction))
    return pseudo, unlabelled.inputs[:, 0]


@jax.jit
def self_train_by_first_feature(individual, unlabelled, threshold):
    return self_train(individual, unlabelled, threshold, sure_of_first_feature)


@jax.jit
def fit_joined(both):
    return fit_from_scratch(both, JOINED_ORDER)


SURE = np.array([0.25, 0.5, 0.75, 1.0, 0.0, 0.5, 0.25, 0.875])


@pytest.mark.parametrize("weights", [1.0, 0.0], ids=["none is sure", "only padding is"])
def test_without_a_sure_prediction_the_first_model_stays(
    individual, unlabelled, first, weights
):
    unlabelled = unlabelled._replace(weights=weights * unlabelled.weights)
    threshold = 1.01 if weights else 0.0
    fitted = self_train(individual, unlabelled, threshold)
    assert int(fitted.num_selected) == 0
    assert_equal(fitted.variables, first)


@pytest.mark.parametrize(
    ("threshold", "num_padding", "expected"),
    # At the threshold is sure enough; of the last two one is sure of more than 0.5.
    [(0.0, 0, 8), (0.5, 0, 5), (0.5, 2, 4), (0.6, 0, 3), (1.0, 0, 1)],
)
def test_self_training_goes_on_with_what_is_sure(
    individual, unlabelled, first, threshold, num_padding, expected
):
    inputs = np.stack([SURE, unlabelled.inputs[:, 1]], axis=1).astype(np.float32)
    padding = np.arange(NUM_EXAMPLES) >= NUM_EXAMPLES - num_padding
    weights = np.where(padding, 0, 1).astype(np.float32)
    unlabelled = unlabelled._replace(inputs=inputs, weights=weights)
    fitted = self_train_by_first_feature(individual, unlabelled, threshold)
    assert int(fitted.num_selected) == expected
    prediction = np.asarray(LEARNER.predict(first, HPARAMS, inputs))[:, 0]
    pseudo = make_dataset(inputs, prediction > 0.5, weights * (SURE >= threshold))
    both = finetuning.join(individual, pseudo)
    assert_close(fitted.variables, fit_joined(both))


def test_self_training_without_weights(individual, unlabelled):
    with pytest.raises(ValueError, match=r"^unlabelled\.weights is None; give"):
        self_train(individual, unlabelled._replace(weights=None), 0.5)


def fit_three_ways(key, individual, aggregate, unlabelled, bank):
    """A person's three models, and how many pseudo-labels there were."""
    classes = individual.expert_correct[:, 0].astype(int)
    balanced = individual._replace(
        weights=finetuning.balanced_weights(classes, individual.weights, 2)
    )
    return (
        finetuning.without_finetuning(
            LEARNER, HPARAMS, key, aggregate, individual, BOTH_ORDER, bank
        ),
        finetuning.finetune(
            LEARNER,
            HPARAMS,
            key,
            aggregate,
            balanced,
            AGGREGATE_ORDER,
            INDIVIDUAL_ORDER,
            bank,
        ),
        finetuning.self_train(
            LEARNER,
            HPARAMS,
            key,
            balanced,
            unlabelled,
            INDIVIDUAL_ORDER,
            JOINED_ORDER,
            imitate,
            bank,
        ),
    )


@pytest.fixture(scope="module")
def people():
    """Keys, their answers to inputs of a bank, and what they share.

    One has one answer, one is always right and one is always wrong.
    """
    generator = np.random.default_rng(4)
    bank = generator.normal(size=(12, 2)).astype(np.float32)

    def rows(count):
        return generator.integers(0, len(bank), count).astype(np.int32)

    def answers(correct, weights):
        dataset = make_dataset(np.zeros((NUM_EXAMPLES, 2)), correct, weights)
        return dataset._replace(inputs=rows(NUM_EXAMPLES))

    ones, zeros = np.ones(NUM_EXAMPLES), np.zeros(NUM_EXAMPLES)
    one_answer = np.eye(NUM_EXAMPLES)[0]
    individuals = jax.tree.map(
        lambda *leaves: np.stack(leaves),
        answers(ones, one_answer),
        answers(ones, ones),
        answers(zeros, ones),
    )
    aggregate = make_person(5, NUM_EXAMPLES)._replace(inputs=rows(NUM_EXAMPLES))
    unlabelled = make_person(6, NUM_EXAMPLES)._replace(inputs=rows(NUM_EXAMPLES))
    return jax.random.split(KEY, 3), individuals, aggregate, unlabelled, bank


@pytest.fixture(scope="module")
def fitted_people(people):
    return jax.jit(jax.vmap(fit_three_ways, (0, 0, None, None, None)))(*people)


def test_people_together_are_people_one_at_a_time(people, fitted_people):
    keys, individuals, *shared = people
    fit_one = jax.jit(fit_three_ways)
    for number in range(3):
        individual = jax.tree.map(lambda leaf, i=number: leaf[i], individuals)
        alone = fit_one(keys[number], individual, *shared)
        together = jax.tree.map(lambda leaf, i=number: leaf[i], fitted_people)
        assert_close(together, alone)


def test_extreme_people_have_sound_models(people, fitted_people):
    """One answer, all right and all wrong: finite, and as likely as they should be."""
    bank = people[-1]
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(fitted_people))
    predict = jax.vmap(LEARNER.predict, (0, None, None))
    for fitted in fitted_people:
        prob = np.asarray(predict(fitted.variables, HPARAMS, bank)).mean(axis=(1, 2))
        _, all_right, all_wrong = prob
        assert all_right > all_wrong + 0.1
    _, tuned, self_trained = fitted_people
    np.testing.assert_array_equal(tuned.num_selected, 0)
    assert np.all(self_trained.num_selected <= NUM_EXAMPLES)
    assert self_trained.num_selected.max() > 0


def test_a_person_with_one_example_in_all(aggregate, others):
    person = make_dataset([[1, -1]], [1])
    order = np.zeros((5, 1, 1), np.int32)
    fitted = finetuning.finetune(
        LEARNER, HPARAMS, KEY, aggregate, person, AGGREGATE_ORDER, order
    )
    assert nll(fitted.variables, person) < nll(others, person)


@pytest.mark.parametrize("method", ["finetune", "self_train"])
def test_no_draw_is_made_twice(method):
    """Augmentation of the second part does not repeat that of the first."""
    drawn = []

    def augment(key, inputs):
        jax.debug.callback(
            lambda data: drawn.append(tuple(data.tolist())), jax.random.key_data(key)
        )
        return inputs

    learner = expert_model.make_learner(
        models.linear(1), optimizers.make_adam(), augment=augment
    )
    hparams = dict.fromkeys(("learning_rate", "finetune_learning_rate"), 0.1)
    known = Dataset(
        np.ones((8, 2), np.float32),
        np.zeros(8, np.int32),
        weights=np.ones(8, np.float32),
        expert_correct=np.ones((8, 1), np.float32),
    )
    order = np.arange(8).reshape(1, 2, 4)
    key = jax.random.key(0)
    if method == "finetune":
        finetuning.finetune(learner, hparams, key, known, known, order, order)
    else:
        finetuning.self_train(
            learner,
            hparams | {"threshold": 0.0},
            key,
            known,
            known,
            order,
            order,
            lambda prob, unlabelled: (unlabelled, jnp.ones(8)),
        )
    jax.effects_barrier()
    assert len(drawn) == len(set(drawn)) == 4
