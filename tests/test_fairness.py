import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from l2d_jax.fairness import (
    equalized_odds_gap,
    equalized_odds_regularizer,
    group_rates,
)

# Two examples of label 0 in each group, two of label 1 in group 0, one in group 1.
PROBS = np.float32([0.1, 0.3, 0.6, 0.8, 0.9, 0.7, 0.4])
LABELS = np.array([0, 0, 0, 0, 1, 1, 1])
GROUPS = np.array([0, 0, 1, 1, 0, 0, 1])

RATES = jax.jit(group_rates)
SOFT_AND_SLOPE = jax.jit(jax.value_and_grad(equalized_odds_regularizer))


def oracle(probs, labels, groups, weights):
    """Eq. 12 of Madras et al. 2018, cell by cell, in float64."""
    total = 0.0
    for label in (0, 1):
        rates = []
        for group in (0, 1):
            cell = (labels == label) & (groups == group) & (weights > 0)
            if cell.any():
                miss = np.abs(probs[cell].astype(np.float64) - label)
                rates.append(np.average(miss, weights=weights[cell]))
        if len(rates) == 2:
            total += abs(rates[0] - rates[1]) / 2
    return total


def random_batch(seed, size=24):
    rng = np.random.default_rng(seed)
    return (
        rng.uniform(size=size).astype(np.float32),
        rng.integers(2, size=size),
        rng.integers(2, size=size),
        (rng.uniform(size=size) * (rng.uniform(size=size) < 0.8)).astype(np.float32),
    )


def test_regularizer_by_hand():
    # Label 0: means .2 and .7, gap .5. Label 1: mean misses .2 and .6, gap .4.
    ours = equalized_odds_regularizer(PROBS, LABELS, GROUPS)
    np.testing.assert_allclose(ours, 0.45, rtol=1e-6, atol=1e-6)
    # Without row 2 the group-1 mean of label 0 is .8, so the gap is .6.
    weights = np.float32([1, 1, 0, 1, 1, 1, 1])
    ours = equalized_odds_regularizer(PROBS, LABELS, GROUPS, weights)
    np.testing.assert_allclose(ours, 0.5, rtol=1e-6, atol=1e-6)
    # Weights 1 and 3 in group 0 of label 0: mean .25, gap .45.
    weights = np.float32([1, 3, 1, 1, 1, 1, 1])
    ours = equalized_odds_regularizer(PROBS, LABELS, GROUPS, weights)
    np.testing.assert_allclose(ours, 0.425, rtol=1e-6, atol=1e-6)


def test_gap_by_hand():
    # False positive rates 0 and 1/2, false negative rates 1/2 and 1.
    decisions = np.array([0, 0, 0, 1, 1, 0, 0])
    for form in (decisions, decisions.astype(bool), jnp.asarray(decisions)):
        ours = equalized_odds_gap(form, LABELS, GROUPS)
        np.testing.assert_allclose(ours, 0.5, rtol=1e-6, atol=1e-6)


def test_agrees_with_the_oracle():
    batches = [random_batch(seed) for seed in range(3)]
    stacked = tuple(np.stack(column) for column in zip(*batches, strict=True))
    soft = [oracle(*batch) for batch in batches]
    hard = [oracle(np.round(p), *rest) for p, *rest in batches]
    for wrap in (lambda f: f, jax.jit):
        mapped = wrap(jax.vmap(equalized_odds_regularizer))
        np.testing.assert_allclose(mapped(*stacked), soft, rtol=1e-5, atol=1e-6)
        mapped = wrap(jax.vmap(equalized_odds_gap))
        decisions = stacked[0] > 0.5
        ours = mapped(decisions, *stacked[1:])
        np.testing.assert_allclose(ours, hard, rtol=1e-5, atol=1e-6)
    eager = [equalized_odds_regularizer(*batch) for batch in batches]
    np.testing.assert_allclose(eager, soft, rtol=1e-5, atol=1e-6)


def test_gradients():
    probs, labels, groups, weights = random_batch(5)
    weights = weights + 0.5

    @jax.jit  # Traced, so that a step may leave the range of a probability.
    def soft(probs, weights):
        return equalized_odds_regularizer(probs, labels, groups, weights)

    check_grads(
        soft, (probs, weights), order=1, modes=["rev"], atol=1e-2, rtol=1e-2, eps=1e-2
    )


def test_gradient_by_hand_also_at_certain_predictions():
    # Group 1 misses more on both labels; each cell's slope is +-1/2 over its size.
    probs = np.float32([0, 0, 1, 1, 1, 1, 0])  # Certain, and |p - y| kinks at p = y.
    slope = jax.grad(equalized_odds_regularizer)(probs, LABELS, GROUPS)
    expected = [-0.25, -0.25, 0.25, 0.25, 0.25, 0.25, -0.5]
    np.testing.assert_allclose(slope, expected, rtol=1e-6, atol=1e-6)


def test_gradient_at_equal_rates_is_zero():
    probs = np.full(7, 0.5, np.float32)
    value, slope = jax.value_and_grad(equalized_odds_regularizer)(probs, LABELS, GROUPS)
    assert value == 0.0
    np.testing.assert_array_equal(slope, np.zeros(7))


@pytest.mark.parametrize(
    ("keep", "expected"),
    [
        (LABELS == 0, 0.25),  # No label 1 at all: half the gap of label 0.
        ((LABELS == 0) | (GROUPS == 0), 0.25),  # Label 1 lacks group 1.
        ((LABELS == 1) | (GROUPS == 1), 0.2),  # Label 0 lacks group 0.
        (GROUPS == 0, 0.0),
        (np.zeros(7, bool), 0.0),
    ],
)
def test_a_label_that_a_group_lacks_contributes_nothing(keep, expected):
    value, slope = SOFT_AND_SLOPE(PROBS, LABELS, GROUPS, keep.astype(np.float32))
    np.testing.assert_allclose(value, expected, rtol=1e-6, atol=1e-6)
    assert np.isfinite(slope).all()


def test_an_empty_batch_has_no_disparity():
    assert equalized_odds_regularizer(PROBS[:0], LABELS[:0], GROUPS[:0]) == 0.0


@pytest.mark.parametrize("seed", range(4))
def test_properties(seed):
    probs, labels, groups, weights = random_batch(seed)
    decisions = (probs > 0.5).astype(int)
    order = np.random.default_rng(seed).permutation(probs.size)
    for measure, values in (
        (equalized_odds_regularizer, probs),
        (equalized_odds_gap, decisions),
    ):
        ours = measure(values, labels, groups, weights)
        assert 0.0 < ours <= 1.0
        changes = {
            "permuted": (values[order], labels[order], groups[order], weights[order]),
            "groups swapped": (values, labels, 1 - groups, weights),
            "labels swapped": (1 - values, 1 - labels, groups, weights),
            "weights scaled": (values, labels, groups, 3 * weights),
        }
        for change, arguments in changes.items():
            np.testing.assert_allclose(
                measure(*arguments), ours, rtol=1e-5, atol=1e-6, err_msg=change
            )
    # At certain predictions the soft form is the hard one.
    np.testing.assert_allclose(
        equalized_odds_regularizer(decisions.astype(np.float32), labels, groups),
        equalized_odds_gap(decisions, labels, groups),
        rtol=1e-6,
        atol=1e-6,
    )


def test_the_extremes_are_reached():
    labels, groups = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])
    assert equalized_odds_gap(np.array([0, 1, 1, 0]), labels, groups) == 1.0
    assert equalized_odds_gap(labels, labels, groups) == 0.0


def test_integer_weights_repeat_examples():
    weights = np.array([2, 1, 1, 3, 1, 2, 1])
    repeated = (np.repeat(array, weights) for array in (PROBS, LABELS, GROUPS))
    np.testing.assert_allclose(
        equalized_odds_regularizer(PROBS, LABELS, GROUPS, weights.astype(np.float32)),
        equalized_odds_regularizer(*repeated),
        rtol=1e-6,
        atol=1e-6,
    )


def test_rows_of_weight_zero_are_ignored():
    padded = [
        np.append(PROBS, np.float32([np.nan, 0.5])),
        np.append(LABELS, [-1, 7]),
        np.append(GROUPS, [-1, 1]),
        np.append(np.ones(7, np.float32), np.float32([0, 0])),
    ]
    soft = jax.value_and_grad(equalized_odds_regularizer)
    for run in (soft, jax.jit(soft)):
        value, slope = run(*padded)
        np.testing.assert_allclose(value, 0.45, rtol=1e-6, atol=1e-6)
        np.testing.assert_array_equal(slope[7:], [0.0, 0.0])
        assert np.isfinite(slope).all()
    np.testing.assert_allclose(
        equalized_odds_regularizer(*padded), 0.45, rtol=1e-6, atol=1e-6
    )


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["eager", "jit"])
@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((PROBS[None], LABELS, GROUPS), r"probs must have shape \[B\], got \(1, 7\)"),
        ((PROBS, LABELS[:6], GROUPS), r"labels .* shape \(7,\) of probs, got \(6,\)"),
        ((PROBS, LABELS, GROUPS[:1]), r"groups .* shape \(7,\) of probs, got \(1,\)"),
        (
            (PROBS, LABELS, GROUPS[:, None]),
            r"groups must have shape \[B\], got \(7, 1\)",
        ),
        ((PROBS, LABELS, GROUPS, 1.0), r"weights must have shape \[B\], got \(\)"),
        ((PROBS, LABELS, GROUPS, PROBS[:3]), r"weights .* of probs, got \(3,\)"),
    ],
)
def test_a_wrong_shape_names_the_argument(wrap, args, message):
    with pytest.raises(ValueError, match=message):
        wrap(equalized_odds_regularizer)(*args)
    values = np.ones_like(args[0], dtype=int)
    with pytest.raises(ValueError, match=message.replace("probs", "decisions")):
        wrap(equalized_odds_gap)(values, *args[1:])


def test_a_wrong_dtype_names_the_argument():
    with pytest.raises(TypeError, match=r"decisions .* got float32; threshold prob"):
        equalized_odds_gap(PROBS, LABELS, GROUPS)
    with pytest.raises(TypeError, match="labels must be of an integer dtype"):
        equalized_odds_regularizer(PROBS, PROBS, GROUPS)
    with pytest.raises(TypeError, match="groups must be of an integer dtype"):
        equalized_odds_regularizer(PROBS, LABELS, PROBS)


def replaced(array, value):
    array = array.copy()
    array[3] = value
    return array


WRONG = {
    "probs must be in": (replaced(PROBS, np.nan), LABELS, GROUPS, np.ones(7)),
    "labels must be 0 or 1, got 2 in row 3": (
        PROBS,
        replaced(LABELS, 2),
        GROUPS,
        np.ones(7),
    ),
    "groups must be 0 or 1, got -1 in row 3": (
        PROBS,
        LABELS,
        replaced(GROUPS, -1),
        np.ones(7),
    ),
    "weights must be >= 0, got -1": (
        PROBS,
        LABELS,
        GROUPS,
        replaced(np.ones(7), -1.0),
    ),
}


@pytest.mark.parametrize("message", WRONG)
def test_a_wrong_value_raises_or_poisons(message):
    args = WRONG[message]
    with pytest.raises(ValueError, match=message):
        equalized_odds_regularizer(*args)
    value, slope = SOFT_AND_SLOPE(*args)
    assert np.isnan(value)
    assert np.isnan(slope).any()


def test_a_probability_out_of_range_or_a_wrong_decision_raises():
    with pytest.raises(
        ValueError, match=r"probs must be in \[0, 1\], got 1.5 in row 3"
    ):
        equalized_odds_regularizer(replaced(PROBS, 1.5), LABELS, GROUPS)
    decisions = replaced(LABELS, 2)
    with pytest.raises(ValueError, match="decisions must be"):
        equalized_odds_gap(decisions, LABELS, GROUPS)
    assert np.isnan(jax.jit(equalized_odds_gap)(decisions, LABELS, GROUPS))


def test_group_rates_by_hand():
    # Label 0: none of two in group 0, one of two in group 1. Label 1: one of two; all.
    decisions = np.array([0, 0, 0, 1, 1, 0, 0])
    expected = {
        "fpr": 1 / 4,
        "fpr_0": 0.0,
        "fpr_1": 1 / 2,
        "fnr": 2 / 3,
        "fnr_0": 1 / 2,
        "fnr_1": 1.0,
        "di": 1 / 2,
    }
    for rates in (group_rates, RATES):
        for form in (decisions, decisions.astype(bool)):
            ours = rates(form, LABELS, GROUPS)
            assert set(ours) == set(expected)
            for name, value in expected.items():
                np.testing.assert_allclose(ours[name], value, rtol=1e-6, atol=1e-7)
    # Weights 1 and 3 on label 0 of group 1; the second is the false positive.
    weights = np.float32([1, 1, 1, 3, 1, 1, 1])
    ours = RATES(decisions, LABELS, GROUPS, weights)
    np.testing.assert_allclose(ours["fpr_1"], 3 / 4, rtol=1e-6, atol=0)
    np.testing.assert_allclose(ours["fpr"], 3 / 6, rtol=1e-6, atol=0)


def test_group_rates_agree_with_the_gap_and_mix_to_the_whole():
    columns = [random_batch(seed) for seed in range(3)]
    probs, labels, groups, weights = map(np.stack, zip(*columns, strict=True))
    decisions = probs > 0.5
    ours = jax.jit(jax.vmap(group_rates))(decisions, labels, groups, weights)
    gaps = jax.vmap(equalized_odds_gap)(decisions, labels, groups, weights)
    np.testing.assert_allclose(ours["di"], gaps, rtol=1e-5, atol=1e-6)
    for label, name in enumerate(("fpr", "fnr")):
        share = weights * (labels == label)
        mass = [(share * (groups == group)).sum(1) for group in (0, 1)]
        mixed = mass[0] * ours[f"{name}_0"] + mass[1] * ours[f"{name}_1"]
        np.testing.assert_allclose(
            ours[name], mixed / share.sum(1), rtol=1e-5, atol=1e-6
        )


def test_rates_over_nobody_are_nan():
    alone = RATES(LABELS, LABELS, np.zeros_like(GROUPS))
    for name in ("fpr", "fpr_0", "fnr", "fnr_0"):
        assert alone[name] == 0.0
    for name in ("fpr_1", "fnr_1", "di"):
        assert np.isnan(alone[name])
    for args in (
        (LABELS, LABELS, GROUPS, np.zeros(7, np.float32)),
        (replaced(LABELS, 2), LABELS, GROUPS),  # Traced, so that it cannot raise.
    ):
        assert all(np.isnan(value) for value in RATES(*args).values())
    with pytest.raises(ValueError, match="predictions must be"):
        group_rates(replaced(LABELS, 2), LABELS, GROUPS)
    with pytest.raises(TypeError, match=r"predictions .* threshold probabilities"):
        group_rates(PROBS, LABELS, GROUPS)
