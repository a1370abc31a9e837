import jax
import jax.numpy as jnp
import numpy as np
import pytest

from l2d_jax import optimizers
from l2d_jax.learners import context_rejector
from l2d_jax.models import Context, Query
from l2d_jax.models import context_rejector as make_model
from l2d_jax.people import contexts
from l2d_jax.people.contexts import Answers, draw, make_batch

MANY, MAX_SIZE = 4000, 3
# Of 6, 2, 1 and 0 answers, the first person's with a gap.
WEIGHTS = np.float32(
    [
        [1, 1, 0, 1, 1, 1, 1],
        [0, 0, 1, 1, 0, 0, 0],
        [0, 0, 0, 0, 1, 0, 0],
        [0, 0, 0, 0, 0, 0, 0],
    ]
)


@pytest.fixture(scope="module")
def drawn():
    found = jax.jit(draw, static_argnums=(2, 3))(
        jax.random.key(0), WEIGHTS, MANY, MAX_SIZE
    )
    return jax.tree.map(np.asarray, found)


def test_shapes(drawn):
    assert drawn.persons.shape == drawn.targets.shape == (MANY,)
    assert drawn.places.shape == drawn.weights.shape == (MANY, MAX_SIZE)


def test_people_and_answers_are_equally_likely(drawn):
    # 4000 draws: the standard deviation of a share of 1/3 is .0075.
    shares = np.bincount(drawn.persons, minlength=4) / MANY
    np.testing.assert_allclose(shares, [1 / 3, 1 / 3, 1 / 3, 0], atol=0.03)
    first = drawn.targets[drawn.persons == 0]
    shares = np.bincount(first, minlength=7) / len(first)
    np.testing.assert_allclose(shares, WEIGHTS[0] / 6, atol=0.04)


def test_a_context_is_of_the_persons_other_answers(drawn):
    used = drawn.weights > 0
    assert (WEIGHTS[drawn.persons, drawn.targets] == 1).all()
    own = WEIGHTS[drawn.persons[:, None], drawn.places]
    assert (own[used] == 1).all()
    assert (drawn.places != drawn.targets[:, None])[used].all()
    for places, row in zip(drawn.places, used, strict=True):
        assert len(set(places[row])) == row.sum()


def test_every_size_up_to_what_there_is(drawn):
    sizes = drawn.weights.sum(axis=1).astype(int)
    for person, most in ((0, 3), (1, 1), (2, 0)):
        counts = np.bincount(sizes[drawn.persons == person], minlength=4)
        shares = counts / counts.sum()
        expected = np.where(np.arange(4) <= most, 1 / (most + 1), 0)
        np.testing.assert_allclose(shares, expected, atol=0.05)


def test_one_answer_each_has_no_context():
    found = draw(jax.random.key(0), np.ones((5, 1), np.float32), 8, 10)
    assert found.places.shape == (8, 0) and (found.targets == 0).all()


@pytest.mark.long
def test_a_batch_holds_what_was_drawn():
    generator = np.random.default_rng(0)
    answers = Answers(
        generator.integers(0, 9, WEIGHTS.shape),
        generator.integers(0, 3, WEIGHTS.shape),
        generator.integers(0, 3, WEIGHTS.shape),
        WEIGHTS,
    )
    features = np.arange(9.0)[:, None] * np.ones(2)
    found = draw(jax.random.key(1), WEIGHTS, 16, MAX_SIZE)
    batch = make_batch(answers, features, found)
    context = batch.inputs.context
    for row in range(16):
        person, target = int(found.persons[row]), int(found.targets[row])
        assert batch.labels[row] == answers.labels[person, target]
        assert batch.expert_labels[row] == answers.answers[person, target]
        assert batch.inputs.features[row, 0] == answers.examples[person, target]
        places = np.asarray(found.places[row])
        for ours, theirs in (
            (context.features[row, :, 0], answers.examples),
            (context.labels[row], answers.labels),
            (context.answers[row], answers.answers),
        ):
            np.testing.assert_array_equal(ours, theirs[person, places])
    np.testing.assert_array_equal(context.weights, found.weights)


@pytest.mark.long
@pytest.mark.usefixtures("cheap_compiles")
@pytest.mark.parametrize("surrogate", ["one_vs_all", "softmax"])
@pytest.mark.parametrize("num_heads", [0, 2])
def test_somebody_new_is_known_by_their_answers(surrogate, num_heads):
    """People always right or always wrong: one answer tells who is who."""
    num_people, length = 20, 6
    generator = np.random.default_rng(0)
    features = np.eye(2, dtype=np.float32)[np.arange(10) % 2]
    examples = generator.integers(0, 10, (num_people, length))
    labels = examples % 2
    right = np.arange(num_people)[:, None] % 2 == 0
    answers = np.where(right, labels, 1 - labels)
    learner = context_rejector.make_learner(
        make_model(2, embedding=2, encoder=(8, 8), rejector=(8,), num_heads=num_heads),
        optimizers.make_adam(),
        surrogate=surrogate,
    )
    table = Answers(examples, labels, answers, np.ones(examples.shape, np.float32))
    variables = jax.jit(
        lambda key: contexts.fit(
            learner,
            {"learning_rate": jnp.float32(0.02)},
            key,
            table,
            features,
            num_steps=300,
            batch_size=32,
            max_size=4,
        )
    )(jax.random.key(0))

    def probs(answer, weight):
        context = Context(
            features[None, :1], np.array([[0]]), np.array([[answer]]), [[weight]]
        )
        context = jax.tree.map(np.asarray, context)
        return np.asarray(learner.predict(variables, {}, Query(features, context)))

    assert (probs(0, 1.0) > 0.9).all() and (probs(1, 1.0) < 0.1).all()
    nothing = probs(0, 0.0)
    assert ((nothing > 0.25) & (nothing < 0.75)).all()
