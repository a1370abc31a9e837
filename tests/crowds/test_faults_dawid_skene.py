"""Dawid and Skene's model on crowds so small that a prior would speak for them."""

import jax
import numpy as np
import pandas as pd
import pytest

from l2d_jax.crowds import dawid_skene

fit = jax.jit(dawid_skene.fit, static_argnums=2)


def plain_em(answers, heard, num_iterations, nudge=0.0):
    """EM from the votes, in float64; rates are clipped and nothing is smoothed.

    The votes are moved by ``nudge``, up and down in turn.
    """
    heard = np.asarray(heard, float)
    ones = heard * (np.asarray(answers) == 1)
    count = heard.sum(1)
    probs = np.where(count > 0, ones.sum(1) / np.maximum(count, 1), 0.0)
    probs = np.clip(probs + nudge * np.resize([1, -1], len(probs)), 0, 1)
    for _ in range(num_iterations):
        truth = np.stack([1 - probs, probs], axis=1)
        counts = np.stack([(heard - ones).T @ truth, ones.T @ truth], axis=-1)
        sums = counts.sum(axis=-1, keepdims=True)
        rates = np.where(sums > 0, counts / np.where(sums > 0, sums, 1), 0.5)
        logs = np.log(np.clip(rates, 1e-10, None))
        totals = (truth * (count > 0)[:, None]).sum(axis=0)
        prior = np.log(np.clip(totals / totals.sum(), 1e-10, None))
        odds = prior + ones @ logs[:, :, 1] + (heard - ones) @ logs[:, :, 0]
        probs = 1 / (1 + np.exp(np.clip(odds[:, 0] - odds[:, 1], -700, 700)))
    return probs


@pytest.mark.parametrize("num_iterations", [0, 1, 50, 100, 200, 1000])
def test_one_worker_is_believed(num_iterations):
    answers = np.array([[1], [0], [1]])
    _, probs = fit(answers, np.ones((3, 1)), num_iterations)
    np.testing.assert_allclose(probs, [1, 0, 1], atol=1e-3)


@pytest.mark.long
def test_small_crowds_are_those_of_plain_em():
    found = [compare(seed) for seed in range(50)]
    assert sum(found) >= 45


def small_crowd(seed):
    """Answers of a few workers, many of them missing, and who gave one."""
    generator = np.random.default_rng(seed)
    # Two shapes, so that two programs serve all; who is too many answers nothing.
    num_tasks, num_workers = (12, 5) if seed % 2 else (6, 3)
    labels = generator.integers(0, 2, num_tasks)
    right = generator.random((num_tasks, num_workers)) < 0.8
    answers = np.where(right, labels[:, None], 1 - labels[:, None])
    heard = generator.random((num_tasks, num_workers)) < generator.uniform(0.2, 1)
    heard[:, generator.integers(1, num_workers + 1) :] = False  # One worker, or more.
    return answers, heard


def compare(seed):
    """Compares one crowd; whether plain EM itself does not turn on rounding there."""
    answers, heard = small_crowd(seed)
    expected = plain_em(answers, heard, 20)
    for nudge in (1e-6, -1e-6):
        if np.abs(plain_em(answers, heard, 20, nudge) - expected).max() > 1e-3:
            return False
    _, probs = fit(np.where(heard, answers, 7), heard, 20)
    asked = heard.any(axis=1)
    sure = asked & (np.abs(expected - 0.5) > 0.05)
    np.testing.assert_array_equal(probs[sure] > 0.5, expected[sure] > 0.5)
    np.testing.assert_allclose(probs[asked], expected[asked], atol=0.02)
    return True


def by_crowd_kit(crowd_kit, answers, heard, num_iterations):
    tasks, workers = np.nonzero(heard)
    given = {"task": tasks, "worker": workers, "label": answers[tasks, workers]}
    model = crowd_kit.DawidSkene(n_iter=num_iterations, tol=-np.inf)
    probs = model.fit_predict_proba(pd.DataFrame(given))
    return probs.reindex(columns=[0, 1], fill_value=0.0)[1]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Of its own use of pandas.
def test_small_crowds_are_those_of_crowd_kit():
    """Of 50, those in which EM itself does not turn on rounding."""
    crowd_kit = pytest.importorskip("crowdkit.aggregation")
    compared, one_worker, unasked = 0, 0, 0
    for seed in range(50):
        answers, heard = small_crowd(seed)
        if not heard.any():
            continue
        exact = plain_em(answers, heard, 10)
        nudged = [plain_em(answers, heard, 10, nudge) for nudge in (1e-6, -1e-6)]
        if max(np.abs(other - exact).max() for other in nudged) > 1e-3:
            continue
        expected = by_crowd_kit(crowd_kit, answers, heard, 10)
        _, probs = fit(np.where(heard, answers, 7), heard, 10)
        probs = np.asarray(probs)[expected.index]
        sure = np.abs(expected - 0.5) > 0.05
        np.testing.assert_array_equal(probs[sure] > 0.5, expected[sure] > 0.5)
        np.testing.assert_allclose(probs, expected, atol=0.02)
        compared += 1
        one_worker += (heard.sum(axis=1) == 1).any()
        unasked += not heard.any(axis=1).all()
    assert compared >= 45 and one_worker >= 30 and unasked >= 10


def test_unknown_answers_are_refused_or_nan():
    answers = np.array([[1, 0], [2, 1]])
    with pytest.raises(ValueError, match="answers must be 0, 1 or -1, got 2 in row 1"):
        dawid_skene.fit(answers, np.ones((2, 2)), 3)
    assert np.isnan(fit(answers, np.ones((2, 2)), 3)[1]).any()
    heard = np.array([[1, 1], [0, 1]])
    assert np.isfinite(fit(answers, heard, 3)[1]).all()
