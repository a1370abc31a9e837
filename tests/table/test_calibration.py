import numpy as np
import pytest
from scipy.special import expit, logit

from l2d_jax.table import calibration


def error(predicted, outcomes, bins=10):
    """Expected calibration error in bins of equal size."""
    parts = np.array_split(np.argsort(predicted), bins)
    return sum(
        len(part) * abs(predicted[part].mean() - outcomes[part].mean())
        for part in parts
    ) / len(predicted)


@pytest.mark.parametrize("size", [400, 6000])
def test_what_is_too_sure_is_calibrated(size):
    rng = np.random.default_rng(0)
    true = rng.uniform(0.05, 0.95, 2 * size)
    outcomes = rng.random(2 * size) < true
    told = 3.0 * logit(true) + 1.0
    folds = rng.integers(0, 5, size)
    found = calibration.fit_log_odds(told[:size], outcomes[:size], folds)
    mapped = np.asarray(calibration.of_log_odds(found, told[size:]))
    assert error(expit(told[size:]), true[size:]) > 0.1
    assert np.abs(mapped - true[size:]).mean() < (0.05 if size == 400 else 0.02)


def test_a_bend_takes_steps_and_few_cases_take_a_line():
    rng = np.random.default_rng(0)
    told = rng.uniform(-3, 3, 5000)
    true = np.where(told < 0, 0.3, 0.9)
    outcomes = rng.random(5000) < true
    folds = rng.integers(0, 5, 5000)
    found = calibration.fit_log_odds(told, outcomes, folds)
    mapped = np.asarray(calibration.of_log_odds(found, np.array([-1.0, 1.0])))
    np.testing.assert_allclose(mapped, [0.3, 0.9], atol=0.03)
    few = calibration.fit_log_odds(told[:500], outcomes[:500], folds[:500])
    assert len(np.unique(few["x"])) == 2


def test_order_is_kept():
    """Whatever the data say, a higher score is no lower a probability."""
    rng = np.random.default_rng(0)
    told = rng.normal(size=3000)
    outcomes = rng.random(3000) < expit(-told)
    found = calibration.fit_log_odds(told, outcomes, rng.integers(0, 5, 3000))
    mapped = np.asarray(calibration.of_log_odds(found, np.linspace(-5, 5, 50)))
    assert (np.diff(mapped) >= -1e-6).all()


@pytest.mark.parametrize("outcomes", [np.zeros(50), np.ones(50), np.zeros(0)])
def test_outcomes_all_alike_give_no_map(outcomes):
    told = np.linspace(-2, 2, len(outcomes))
    found = calibration.fit_log_odds(told, outcomes, np.zeros(len(outcomes), int))
    mapped = calibration.of_log_odds(found, np.array([-2.0, 0.5]))
    np.testing.assert_allclose(mapped, expit([-2.0, 0.5]), atol=1e-6)


@pytest.mark.parametrize("num_classes", [2, 3])
def test_a_given_model_keeps_its_predictions(num_classes):
    rng = np.random.default_rng(0)
    logits = 4 * rng.normal(size=(500, num_classes))
    labels = np.argmax(logits / 4 + rng.gumbel(size=logits.shape), axis=1)
    told = np.log(expit(logits))
    found = calibration.fit_classes(told, labels, np.arange(500) % 5, keep_order=True)
    probs = np.asarray(calibration.of_classes(found, told))
    np.testing.assert_allclose(probs.sum(axis=1), 1, atol=1e-6)
    assert (probs.argmax(axis=1) == told.argmax(axis=1)).all()


def test_three_classes_are_less_sure_where_they_were_too_sure():
    rng = np.random.default_rng(0)
    true = rng.normal(size=(4000, 3))
    labels = np.argmax(true + rng.gumbel(size=true.shape), axis=1)
    folds = np.arange(4000) % 5
    found = calibration.fit_classes(3 * true, labels, folds, keep_order=False)
    probs = np.asarray(calibration.of_classes(found, 3 * true))
    expected = np.exp(true) / np.exp(true).sum(axis=1, keepdims=True)
    assert np.abs(probs - expected).mean() < 0.03
    assert float(found["temperature"]) == pytest.approx(3.0, rel=0.1)
