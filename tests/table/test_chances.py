import numpy as np
import pytest
from scipy.special import expit

from l2d_jax.table import chances


def simulate(num_cases=1000, num_people=12, per_case=10, seed=0):
    """People whose skill differs, overall and by class, and some cases are hard."""
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(num_cases, 4)).astype(np.float32)
    second = expit(2 * inputs[:, 0])
    probs = np.stack([1 - second, second], axis=1)
    skill = 1.0 + rng.normal(0, 0.7, num_people)
    side = rng.normal(0, 1.0, num_people)
    true = expit(skill + side * (second - 0.5)[:, None] + 0.5 * inputs[:, 1:2])
    right = (rng.random(true.shape) < true).astype(float)
    asked = rng.random(true.shape).argsort(axis=1) < per_case
    right[~asked] = np.nan
    folds = rng.integers(0, 5, num_cases)
    return inputs, np.log(probs).astype(np.float32), right, folds, true


@pytest.fixture(scope="module")
def simulated():
    return simulate()


@pytest.fixture(scope="module")
def fitted(simulated):
    inputs, log_probs, right, folds, _ = simulated
    return chances.fit(inputs, log_probs, right, folds)


@pytest.mark.long
def test_chances_are_calibrated(simulated, fitted):
    """Within .03 on answers that were not fitted to, at 1,000 cases x 10 answers."""
    _, _, right, _, true = simulated
    _, held_out, _ = fitted
    asked = ~np.isnan(right)
    predicted, observed = held_out[asked], right[asked]
    order = np.array_split(np.argsort(predicted), 10)
    gaps = [abs(predicted[i].mean() - observed[i].mean()) for i in order]
    assert np.mean(gaps) < 0.03
    assert np.abs(held_out - true).mean() < 0.05


def test_people_are_told_apart(simulated, fitted):
    *_, true = simulated
    _, held_out, _ = fitted
    by_person = np.corrcoef(held_out.mean(axis=0), true.mean(axis=0))[0, 1]
    assert by_person > 0.97


def test_new_cases_are_as_the_old(simulated, fitted):
    inputs, log_probs, _, _, true = simulated
    params, *_ = fitted
    found = chances.predict(params, inputs, log_probs)
    assert found.prob.shape == true.shape
    assert np.abs(np.asarray(found.prob) - true).mean() < 0.05
    assert (found.low <= found.prob + 1e-6).all()
    assert (found.prob <= found.high + 1e-6).all()


@pytest.mark.long
def test_where_people_are_not_as_the_model_says_intervals_are_wider():
    """People who are good at what the model does not know of: neighbours show it."""
    rng = np.random.default_rng(1)
    inputs, log_probs, right, folds, _ = simulate()
    skill = rng.normal(0, 0.5, (4, 12))
    true = expit(1.0 + inputs @ skill - 0.3 * inputs[:, 2:3] ** 2)
    drawn = (rng.random(true.shape) < true).astype(float)
    params, *_ = chances.fit(
        inputs, log_probs, np.where(np.isnan(right), np.nan, drawn), folds
    )

    def covered(params):
        found = chances.predict(params, inputs, log_probs)
        return ((found.low <= true) & (true <= found.high)).mean()

    assert params["excess"] > 0.3
    assert covered({**params, "excess": np.float32(0)}) < 0.3
    assert 0.7 < covered(params) < 0.97


def test_where_they_are_intervals_stay(fitted, simulated):
    inputs, log_probs, _, _, true = simulated
    params, *_ = fitted
    assert params["excess"] == 0
    found = chances.predict(params, inputs, log_probs)
    assert ((found.low <= true) & (true <= found.high)).mean() > 0.8


@pytest.mark.long
def test_somebody_of_few_answers_is_as_the_others_and_less_sure():
    inputs, log_probs, right, folds, _ = simulate(400, 8, 8)
    right[:, 0] = np.nan
    right[:3, 0] = 0.0
    right[:, 1] = np.nan
    params, *_ = chances.fit(inputs, log_probs, right, folds)
    found = chances.predict(params, inputs, log_probs)
    prob, width = np.asarray(found.prob), np.asarray(found.high - found.low)
    # Three wrong of three are no proof, and none are nothing at all.
    others = prob[:, 2:].mean()
    assert 0.25 < prob[:, 0].mean() < others
    assert prob[:, 1].mean() == pytest.approx(others, abs=0.1)
    assert width[:, 1].mean() > 2 * width[:, 2:].mean()


@pytest.mark.long
@pytest.mark.parametrize("all_right", [0.0, 1.0])
def test_people_who_are_always_right_or_wrong_do_not_fail(all_right):
    inputs, log_probs, right, folds, _ = simulate(60, 2, 2)
    params, held_out, _ = chances.fit(
        inputs, log_probs, np.full_like(right, all_right), folds
    )
    found = np.asarray(chances.predict(params, inputs, log_probs).prob)
    assert np.isfinite(found).all()
    assert (np.abs(found - all_right) < 0.2).all()
    assert (np.abs(held_out - all_right) < 0.2).all()


@pytest.mark.long
def test_what_is_known_without_a_fold_knows_nothing_of_it():
    """To the bit; else networks would be judged on people they were told of."""
    inputs, log_probs, right, folds, _ = simulate(200, 4, 3)
    *_, without = chances.fit(inputs, log_probs, right, folds)
    changed = np.where((folds == 2)[:, None], 1 - right, right)
    *_, again = chances.fit(inputs, log_probs, changed, folds)
    np.testing.assert_array_equal(again[2], without[2])
    for fold in (0, 1, 3, 4):
        assert (again[fold] != without[fold]).any()
