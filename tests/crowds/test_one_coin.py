"""One coin for each of a crowd, against EM in NumPy, crowd-kit and the truth."""

import jax
import numpy as np
import pandas as pd
import pytest

from l2d_jax import decisions
from l2d_jax.crowds import one_coin

pytestmark = pytest.mark.usefixtures("cheap_compiles")


def make_crowd(seed, num_tasks=60, num_classes=3, rates=(0.9, 0.8, 0.6, 0.4)):
    """Answers of people who are right as often, and the truth; a fifth is missing."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, num_classes, num_tasks)
    shape = (num_tasks, len(rates))
    right = generator.random(shape) < np.asarray(rates)
    wrong = (labels[:, None] + generator.integers(1, num_classes, shape)) % num_classes
    answers = np.where(right, labels[:, None], wrong)
    return np.where(generator.random(shape) < 0.8, answers, -1), labels


def plain_em(answers, num_classes, num_iterations, more_right, more_wrong):
    """From the definition, in float64, one product of likelihoods a task.

    A lone answer is in no rate: its likelihood is 1/K under any.
    """
    heard = answers >= 0
    met = heard & (heard.sum(axis=1, keepdims=True) > 1)
    votes = np.stack([(answers == k).sum(1) for k in range(num_classes)], axis=1)
    probs = votes / votes.sum(axis=1, keepdims=True)
    for step in range(num_iterations + 1):
        right = np.zeros(answers.shape[1])
        for task, row in enumerate(answers):
            for expert in np.flatnonzero(met[task]):
                right[expert] += probs[task, row[expert]]
        rates = (right + more_right) / (met.sum(axis=0) + more_right + more_wrong)
        if step == num_iterations:
            return rates, probs
        for task, row in enumerate(answers):
            likelihood = np.ones(num_classes)
            for expert in np.flatnonzero(heard[task]):
                wrong = (1 - rates[expert]) / (num_classes - 1)
                said = np.arange(num_classes) == row[expert]
                likelihood *= np.where(said, rates[expert], wrong)
            probs[task] = likelihood / likelihood.sum()


@pytest.mark.parametrize("num_classes", [2, 3])
@pytest.mark.parametrize("num_iterations", [0, 1, 20])
def test_it_is_em(num_classes, num_iterations):
    answers, _ = make_crowd(0, num_classes=num_classes)
    found = one_coin.fit(answers, num_classes, None, num_iterations, 0.7, 0.3)
    expected = plain_em(answers, num_classes, num_iterations, 0.7, 0.3)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_the_most_probable_class_is_that_of_the_vote():
    answers, _ = make_crowd(1, rates=(0.9, 0.8, 0.7, 0.6, 0.7))
    rates, probs = one_coin.fit(answers, 3)
    weights = np.asarray(one_coin.vote_weights(rates, 3))
    assert (weights > 0).all()
    everybody = decisions.majority_decision(*answers.shape, 5)._replace(
        class_probs=np.full((len(answers), 3), np.nan)
    )
    shares = np.tile(np.append(weights / weights.sum(), 0.0), (len(answers), 1))
    voted = decisions.answer(everybody._replace(allocation=shares), answers)
    np.testing.assert_array_equal(voted, np.argmax(probs, axis=1))


def test_who_is_right_how_often_is_learned_without_a_label():
    truth = np.array([0.95, 0.85, 0.75, 0.6, 0.5, 0.34])
    answers, labels = make_crowd(2, 5000, rates=truth)
    rates, probs = one_coin.fit(answers, 3)
    np.testing.assert_allclose(rates, truth, atol=0.03)
    majority, _ = one_coin.fit(answers, 3, None, 0)[1], None
    right = [np.mean(np.argmax(p, axis=1) == labels) for p in (probs, majority)]
    assert right[0] > right[1] + 0.02


def test_a_task_of_weight_0_counts_for_nothing_whatever_it_holds():
    answers, _ = make_crowd(3)
    counts = np.arange(len(answers)) % 3 > 0
    garbage = np.where(counts[:, None], answers, 99)
    weights = np.float32(counts)
    expected_rates, expected_probs = one_coin.fit(answers[counts], 3)
    for fit in (one_coin.fit, jax.jit(one_coin.fit, static_argnums=1)):
        rates, probs = fit(garbage, 3, weights)
        np.testing.assert_allclose(rates, expected_rates, rtol=1e-5)
        np.testing.assert_allclose(probs[counts], expected_probs, atol=1e-5)
        # Nobody was asked about the others.
        np.testing.assert_allclose(probs[~counts], 1 / 3, rtol=1e-6)


def test_a_weight_is_so_many_tasks():
    answers, _ = make_crowd(4)
    times = 1 + np.arange(len(answers)) % 2
    found, _ = one_coin.fit(answers, 3, np.float32(times))
    expected, _ = one_coin.fit(np.repeat(answers, times, axis=0), 3)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_who_says_nothing_is_what_was_taken_of_them():
    answers, _ = make_crowd(5)
    answers[:, 2] = -1
    rates, probs = one_coin.fit(answers, 3)
    np.testing.assert_allclose(rates[2], 2 / 3, rtol=1e-6)
    np.testing.assert_allclose(probs.sum(axis=1), 1.0, rtol=1e-5)
    nobody, of_nobody = one_coin.fit(np.full((4, 2), -1), 3)
    np.testing.assert_allclose(nobody, 2 / 3, rtol=1e-6)
    np.testing.assert_allclose(one_coin.fit(answers, 3, right=4.0)[0][2], 0.8)
    np.testing.assert_allclose(of_nobody, 1 / 3, rtol=1e-6)


@pytest.mark.parametrize("num_classes", [2, 3])
@pytest.mark.parametrize("num_iterations", [1, 100, 1000])
def test_one_alone_is_believed_as_at_first(num_classes, num_iterations):
    answers = np.array([[1], [0], [1]])
    rates, probs = one_coin.fit(answers, num_classes, None, num_iterations)
    np.testing.assert_array_equal(np.argmax(probs, axis=1), answers[:, 0])
    np.testing.assert_allclose(rates, 2 / 3, atol=1e-5)
    np.testing.assert_allclose(np.max(probs, axis=1), 2 / 3, atol=1e-5)


def test_weights_are_log_odds_over_a_guess():
    np.testing.assert_allclose(
        one_coin.vote_weights(np.float32([0.5, 0.9, 0.25]), 4),
        np.log([3.0, 27.0, 1.0]),
        atol=1e-6,
    )


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"answers": [[0.0, 1.0]]}, TypeError, "answers must be of an integer dtype"),
        ({"answers": [[0, 3]]}, ValueError, r"answers must be classes in \[0, 3\), or"),
        ({"answers": [[0, -2]]}, ValueError, "-1 of who was not asked, got -2 in row"),
        ({"answers": [0, 1]}, ValueError, r"answers must have shape \[B, M\]"),
        ({"num_classes": 1}, ValueError, "num_classes must be at least 2, got 1"),
        ({"weights": [1.0, 1.0]}, ValueError, "weights must have shape"),
        ({"weights": [-1.0]}, ValueError, "weights must be at least 0, got -1.0"),
        ({"right": 0.0}, ValueError, "right must be positive and finite, got 0.0"),
        ({"right": np.inf}, ValueError, "right must be positive and finite, got inf"),
        ({"wrong": np.nan}, ValueError, "wrong must be positive and finite, got nan"),
    ],
)
def test_wrong_arguments(change, error, message):
    arguments = {"answers": [[0, 1]], "num_classes": 3, "weights": None, **change}
    given = {
        key: np.asarray(value) if isinstance(value, list) else value
        for key, value in arguments.items()
    }
    with pytest.raises(error, match=message):
        one_coin.fit(**given)


def test_a_traced_answer_that_is_none_is_nan():
    answers = np.array([[0, 1], [1, 7]])
    rates, probs = jax.jit(one_coin.fit, static_argnums=1)(answers, 3)
    assert np.isnan(rates).all() and np.isnan(probs).all()


@pytest.mark.parametrize("rate", [0.0, 1.0, np.nan])
def test_a_rate_without_odds_is_refused(rate):
    with pytest.raises(ValueError, match=r"rates must be in \(0, 1\)"):
        one_coin.vote_weights(np.array([0.5, rate]), 2)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Of its own use of pandas.
def test_it_is_that_of_crowd_kit():
    crowd_kit = pytest.importorskip("crowdkit.aggregation")
    for seed in range(20):
        answers, _ = make_crowd(seed, rates=(0.9, 0.8, 0.7, 0.6, 0.7))
        tasks, workers = np.nonzero(answers >= 0)
        given = {"task": tasks, "worker": workers, "label": answers[tasks, workers]}
        model = crowd_kit.OneCoinDawidSkene(n_iter=100, tol=-np.inf)
        theirs = model.fit_predict(pd.DataFrame(given))
        _, probs = one_coin.fit(answers, 3, right=1e-6, wrong=1e-6)
        sure = np.sort(np.asarray(probs), axis=1)[:, -1] > 0.9
        same = np.asarray(np.argmax(probs, axis=1))[theirs.index] == theirs
        assert same[sure[theirs.index]].mean() > 0.98


def test_tasks_of_one_alone_say_nothing_of_them():
    alone = np.stack([np.arange(1000) % 2, np.full(1000, -1)], axis=1)
    np.testing.assert_allclose(one_coin.fit(alone, 2)[0], 2 / 3, atol=1e-6)
    shared, labels = make_crowd(3, 200, num_classes=2, rates=(0.3, 0.9, 0.9))
    solo = np.full((3000, 3), -1)
    solo[:, 0] = np.arange(3000) % 2
    rates, probs = one_coin.fit(np.concatenate([solo, shared]), 2)
    expected, of_shared = one_coin.fit(shared, 2)
    np.testing.assert_allclose(rates, expected, atol=1e-5)
    right = np.where(shared < 0, np.nan, shared == labels[:, None])
    np.testing.assert_allclose(rates, np.nanmean(right, axis=0), atol=0.07)
    np.testing.assert_allclose(probs[3000:], of_shared, atol=1e-5)
