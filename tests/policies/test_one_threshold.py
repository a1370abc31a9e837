"""The threshold of the best team: by hand, against every threshold, and ties."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from l2d_jax import decisions, metrics
from l2d_jax.policies.one_threshold import best_threshold

pytestmark = pytest.mark.usefixtures("cheap_compiles")


def make(score, right, expert_right):
    """A decision whose classifier says 0, and labels by which it is right or not."""
    probs = np.tile([1.0, 0.0], (len(right), 1)).astype(np.float32)
    labels = np.where(right, 0, 1)
    score = np.asarray(score, np.float32)
    score = score[:, None] if score.ndim == 1 else score
    return decisions.decide(probs, score), labels, np.asarray(expert_right, float)


def test_by_hand():
    # The first two are worth deferring, the third is not.
    case = make([0.9, 0.5, 0.1, -0.3], [0, 0, 1, 1], [[1], [1], [0], [1]])
    assert best_threshold(*case) == pytest.approx(0.3)


def test_its_own_rule_stays_where_nothing_is_better():
    case = make([0.9, 0.5, -0.4, -0.8], [0, 0, 1, 1], [[1], [1], [0], [0]])
    assert best_threshold(*case) == 0.0


def test_of_equals_the_nearest_to_its_own_rule():
    # Deferring 1, 2 or 3 is as good; 0 would defer all four, which is worse.
    case = make([0.9, 0.7, 0.5, 0.2], [0, 1, 1, 1], [[1], [1], [1], [0]])
    assert best_threshold(*case) == pytest.approx(0.35)


@pytest.mark.parametrize("better", [0, 1])
def test_all_or_none(better):
    score = [0.5, 0.5, 0.5]
    case = make(score, [better] * 3, [[1 - better]] * 3)
    threshold = best_threshold(*case)
    allocation = decisions.apply_threshold(case[0], threshold).allocation
    np.testing.assert_array_equal(allocation[:, -1], [float(better)] * 3)


def accuracy_at(case, threshold, weights):
    decision, labels, expert_correct = case
    allocation = np.asarray(decisions.apply_threshold(decision, threshold).allocation)
    right = np.asarray(decisions.prediction(decision)) == labels
    team = (allocation[:, :-1] * expert_correct).sum(1) + allocation[:, -1] * right
    return np.average(team, weights=weights)


@pytest.mark.parametrize("num_experts", [1, 3])
@pytest.mark.parametrize("seed", range(6))
def test_no_threshold_is_better(num_experts, seed):
    generator = np.random.default_rng(seed)
    # Scores of one digit tie often.
    score = generator.normal(size=(40, num_experts)).round(1)
    case = make(
        score,
        generator.integers(0, 2, 40),
        generator.integers(0, 2, (40, num_experts)),
    )
    weights = generator.integers(0, 3, 40).astype(np.float32)
    found = jax.jit(best_threshold)(*case, weights)
    values = np.unique(np.asarray(case[0].defer_score))
    tried = [*values, *((values[1:] + values[:-1]) / 2), values[0] - 1]
    best = max(accuracy_at(case, value, weights) for value in tried)
    assert accuracy_at(case, found, weights) == pytest.approx(best, abs=1e-6)


def test_neighbouring_floats_are_told_apart():
    high = np.float32(1.0)
    low = np.nextafter(high, np.float32(0.0))
    case = make([high, low], [0, 1], [[1], [0]])
    kept = decisions.apply_threshold(case[0], best_threshold(*case)).allocation[:, -1]
    np.testing.assert_array_equal(kept, [0.0, 1.0])


def test_who_cannot_be_asked_and_what_cannot_be_decided():
    case = make([-np.inf, np.nan, 0.5, 0.2], [0, 1, 1, 0], [[1], [0], [0], [1]])
    threshold = best_threshold(*case)
    # Neither of the two can be changed; of the others keeping both is as good as
    # deferring both, which is the rule of 0.
    assert threshold == 0.0
    kept = decisions.apply_threshold(case[0], threshold).allocation[:, -1]
    np.testing.assert_array_equal(kept, [1.0, 0.0, 0.0, 0.0])


@pytest.mark.long
def test_the_team_is_as_accurate_as_its_curve():
    generator = np.random.default_rng(7)
    case = make(
        generator.normal(size=30),
        generator.integers(0, 2, 30),
        generator.integers(0, 2, (30, 1)),
    )
    answers = np.where(case[2] == 1, case[1][:, None], 1 - case[1][:, None])
    chosen = decisions.apply_threshold(case[0], best_threshold(*case))
    curve, _ = metrics.deferral_curves(
        case[0], case[1], answers.astype(int), np.linspace(0, 1, 31)
    )
    team = metrics.system_accuracy(chosen, case[1], answers.astype(int))
    assert team == pytest.approx(float(jnp.max(curve)), abs=1e-6)


@pytest.mark.parametrize("garbage", [0.35, 1e9, -np.inf, np.nan])
def test_a_weight_of_0_counts_for_nothing_whatever_its_row_holds(garbage):
    """Not even as the neighbour that a threshold is half way to."""
    score, right, expert_right = [0.2, 0.5, 0.9], [1, 0, 0], [[0], [1], [1]]
    expected = best_threshold(*make(score, right, expert_right))
    assert expected == pytest.approx(0.35)
    case = make([*score, garbage, 0.4], [*right, 1, 0], [*expert_right, [0], [1]])
    found = best_threshold(*case, weights=jnp.float32([1, 1, 1, 0, 0]))
    assert found == expected


def test_shapes_are_checked():
    decision, labels, correct = make([0.1, 0.2], [0, 1], [[1], [0]])
    with pytest.raises(ValueError, match=r"expert_correct must have shape \[B, M\]"):
        best_threshold(decision, labels, correct[:, 0])
    with pytest.raises(ValueError, match=r"labels must have shape \[B\]"):
        best_threshold(decision, labels[:1], correct)


def test_what_is_no_probability_decides_nothing():
    case = make([0.9, 0.5, -0.3], [0, 1, 1], [[1], [np.nan], [1]])
    with pytest.raises(ValueError, match=r"expert_correct must be .* got nan in row 1"):
        best_threshold(*case)
    assert np.isnan(jax.jit(best_threshold)(*case))
    kept = best_threshold(*case, np.array([1.0, 0.0, 1.0]))
    assert kept == best_threshold(*make([0.9, -0.3], [0, 1], [[1], [1]]))


@pytest.mark.parametrize("seed", range(20))
def test_its_own_rule_stays_where_it_is_best_but_for_rounding(seed):
    generator = np.random.default_rng(seed)
    score = generator.normal(size=3000).astype(np.float32)
    # Deferring is worth as much as the score says.
    chance = (1 + np.tanh(score)) / 2
    right = np.arange(3000) % 2
    expert = np.where(right, np.where(score > 0, 1, chance), chance * (score > 0))
    assert best_threshold(*make(score, right, expert[:, None])) == 0
