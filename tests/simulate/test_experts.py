import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from l2d_jax.simulate import experts
from l2d_jax.simulate.experts import Expert

inverse_cdf = jax.jit(experts._inverse_cdf)
sample = jax.jit(experts.sample_expert_labels)
make_specialists = jax.jit(
    jax.vmap(functools.partial(experts.specialist, num_classes=10))
)
TOL = {"rtol": 1e-5, "atol": 1e-6}
K = 10


def test_specialist_by_hand():
    confusion = experts.specialist(2, 4).confusion
    expected = [[1, 0, 0, 0], [0, 1, 0, 0], [0.25] * 4, [0.25] * 4]
    np.testing.assert_array_equal(confusion, expected)
    # The ends: pure guessing and an oracle.
    np.testing.assert_array_equal(
        experts.specialist(0, 4).confusion, np.full((4, 4), 0.25)
    )
    np.testing.assert_array_equal(experts.specialist(4, 4).confusion, np.eye(4))


def test_num_perfect_is_traced_and_vmapped():
    together = make_specialists(jnp.arange(K + 1))
    for k in range(K + 1):
        np.testing.assert_array_equal(
            together.confusion[k], experts.specialist(k, K).confusion
        )


def test_accuracy_by_hand():
    balanced = np.full(K, 1 / K)
    result = [
        experts.expert_accuracy(experts.specialist(k, K), balanced) for k in (0, 5, 10)
    ]
    np.testing.assert_allclose(result, [0.1, 0.55, 1.0], **TOL)
    # Perfect on a class of share 0.7, lucky in half of the rest.
    result = experts.expert_accuracy(experts.specialist(1, 2), np.array([0.7, 0.3]))
    np.testing.assert_allclose(result, 0.85, **TOL)


def test_accuracy_of_every_specialist_follows_the_formula():
    k = np.arange(K + 1)
    result = jax.vmap(experts.expert_accuracy, (0, None))(
        make_specialists(k), np.full(K, 1 / K)
    )
    np.testing.assert_allclose(result, k / K + (1 - k / K) / K, **TOL)


@pytest.mark.parametrize("seed", [0, 1])
def test_sampled_answers_follow_the_confusion(seed):
    confusion = np.array([[0.7, 0.2, 0.1], [0.0, 1.0, 0.0], [0.3, 0.0, 0.7]])
    num_each = 4000
    labels = np.repeat(np.arange(3), num_each)
    answers = np.asarray(sample(jax.random.key(seed), Expert(confusion), labels))
    assert answers.dtype == np.int32 and answers.shape == labels.shape
    counts = np.stack(
        [np.bincount(answers[labels == y], minlength=3) for y in range(3)]
    )
    # Five standard errors; what is impossible never happens.
    error = 5 * np.sqrt(confusion * (1 - confusion) / num_each)
    assert np.all(np.abs(counts / num_each - confusion) <= error)


def test_perfect_classes_are_always_right():
    labels = np.tile(np.arange(K), 300)
    for k in (1, 5, K):
        answers = np.asarray(
            sample(jax.random.key(k), experts.specialist(k, K), labels)
        )
        assert np.all(answers[labels < k] == labels[labels < k])
        if k < K:
            assert np.mean(answers[labels >= k] == labels[labels >= k]) < 0.2


@pytest.mark.parametrize("draw", [0.0, 2.0**-24, 0.5, 1 - 2.0**-23, 1 - 2.0**-24])
def test_extreme_draws_give_possible_answers(draw):
    # An oracle; guesses among n classes whose sum may round below 1, with impossible
    # answers at both ends; and a sum well below 1.
    sizes = (3, 7, K, 11)
    rows = np.zeros((K + 5, K + 3))
    rows[:K, 1 : K + 1] = np.eye(K)
    for row, n in enumerate(sizes, K):
        rows[row, 1 : n + 1] = 1 / n
    rows[-1, 1:3] = 0.4, 0.5999
    draws = jnp.full(len(rows), draw, jnp.float32)
    answers = np.asarray(inverse_cdf(jnp.asarray(rows, jnp.float32), draws))
    np.testing.assert_array_equal(answers[:K], 1 + np.arange(K))
    assert np.all(rows[np.arange(len(rows)), answers] > 0)


def test_draws_map_to_answers_by_hand():
    rows = jnp.array([[0.25, 0.5, 0.25]] * 5)
    draws = jnp.array([0.0, 0.24, 0.25, 0.74, 0.75])
    np.testing.assert_array_equal(inverse_cdf(rows, draws), [0, 0, 1, 1, 2])


def test_experts_at_one_key_share_their_guesses():
    labels = np.random.default_rng(0).integers(0, K, 3000)
    key = jax.random.key(0)
    sample_all = jax.jit(jax.vmap(experts.sample_expert_labels, (None, 0, None)))
    answers = np.asarray(sample_all(key, make_specialists(jnp.arange(K + 1)), labels))
    for k in range(1, K + 1):
        both_guess = labels >= k
        np.testing.assert_array_equal(
            answers[k, both_guess], answers[k - 1, both_guess]
        )
        alone = sample(key, experts.specialist(k, K), labels)
        np.testing.assert_array_equal(answers[k], alone)
    # Paired, a better expert is nowhere worse; another key is another guess.
    correct = answers == labels
    assert np.all(correct[1:] >= correct[:-1])
    other = sample(jax.random.key(1), experts.specialist(0, K), labels)
    assert np.mean(np.asarray(other) == answers[0]) < 0.3


def test_wrong_arguments_are_named():
    key, labels = jax.random.key(0), np.array([0, 1, 2])
    expert = experts.specialist(1, 3)
    for num_perfect in (-1, 4, 1.5):
        message = rf"^num_perfect must be a whole number in 0\.\.3, got {num_perfect}$"
        with pytest.raises(ValueError, match=message):
            experts.specialist(num_perfect, 3)
    with pytest.raises(ValueError, match=r"^num_perfect must have shape \[\]"):
        experts.specialist(np.arange(3), 3)
    with pytest.raises(ValueError, match=r"^num_classes must be at least 1, got 0"):
        experts.specialist(0, 0)
    with pytest.raises(ValueError, match=r"^labels must be in \[0, 3\), got 3$"):
        experts.sample_expert_labels(key, expert, np.array([0, 3]))
    with pytest.raises(ValueError, match=r"^labels must be in \[0, 3\), got -1$"):
        experts.sample_expert_labels(key, expert, np.array([-1, 0]))
    with pytest.raises(ValueError, match=r"^labels must have shape \[B\]"):
        experts.sample_expert_labels(key, expert, labels[None])
    with pytest.raises(ValueError, match=r"^labels must be integers, got float"):
        experts.sample_expert_labels(key, expert, labels * 1.0)
    with pytest.raises(
        ValueError, match=r"^expert\.confusion must have shape \[K, K\]"
    ):
        experts.sample_expert_labels(key, Expert(np.ones((2, 3))), labels)
    with pytest.raises(ValueError, match=r"^expert\.confusion must have rows"):
        experts.sample_expert_labels(key, Expert(np.ones((3, 3))), labels)
    with pytest.raises(
        ValueError, match=r"^class_probs must have shape \[K\] = \(3,\)"
    ):
        experts.expert_accuracy(expert, np.full(4, 0.25))
