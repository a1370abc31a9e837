"""The simulator against the law it draws from."""

import jax
import numpy as np
import pytest

from l2d_jax.simulate import trips

pytestmark = pytest.mark.usefixtures("cheap_compiles")

CAR = np.array([[45.0, 0.0, 0.0], [40.0, 5.0, 5.0]], np.float32)
CAR_DEVIATIONS = np.array([[0.001, 0.0, 0.0], [5.0, 2.0, 2.0]], np.float32)
WORLD = trips.World(
    trips.poisson_table([35.0, 5.0, 5.0]),
    np.array([5.0, 2.0, 2.0], np.float32),
    CAR,
    CAR_DEVIATIONS,
)
STILL = WORLD._replace(
    driver_deviations=np.zeros(3, np.float32),
    car_deviations=np.zeros((2, 3), np.float32),
)
simulate = jax.jit(trips.simulate, static_argnums=(2, 3, 4, 5))
NUM_DRIVERS, NUM_TRIPS, NUM_UNLABELLED = 400, 100, 60_000


@pytest.fixture(scope="module")
def many():
    drawn = simulate(
        jax.random.key(0), WORLD, NUM_DRIVERS, NUM_TRIPS, NUM_UNLABELLED, False
    )
    return jax.tree.map(np.asarray, drawn)


def test_poisson_by_hand():
    table = trips.poisson_table([1.0, 0.0])
    np.testing.assert_allclose(
        table[0, :4], [0.367879, 0.735759, 0.919699, 0.981012], rtol=0, atol=1e-6
    )
    np.testing.assert_array_equal(table[1], 1.0)


@pytest.mark.parametrize("rate", [0.1, 5.0, 35.0, 1000.0])
def test_poisson_tables_end_at_one(rate):
    (row,) = trips.poisson_table([rate])
    assert row[-1] == pytest.approx(1.0, abs=1e-7) and np.all(np.diff(row) >= 0)
    # The mean is the sum of the probabilities of more than t.
    assert np.sum(1.0 - row.astype(float)) == pytest.approx(rate, rel=1e-3)


@pytest.mark.parametrize("rate", [-1.0, float("nan"), float("inf")])
def test_bad_rates_raise(rate):
    with pytest.raises(ValueError, match="rates must be finite and >= 0"):
        trips.poisson_table([5.0, rate])


def test_expected_minutes_by_hand():
    conditions = np.array([[0.0, 0.0], [1.0, 0.5]])
    minutes = trips.expected_minutes(np.array([40.0, 5.0, 3.0]), conditions)
    np.testing.assert_allclose(minutes, [40.0, 46.5], rtol=0, atol=1e-5)


def test_shapes_and_who_is_who():
    drawn = simulate(jax.random.key(0), STILL, 4, 6, 5, False)
    shapes = jax.tree.map(lambda leaf: leaf.shape, drawn)
    half = ((3, 2), (3,), (3, 2))
    assert shapes == trips.Repetition(
        (4, 3),
        trips.Trips((3, 6, 2), (3, 6), (3, 6, 2)),
        trips.Trips(*half),
        trips.Trips(*half),
        trips.UnlabelledTrips((5, 2), (5, 2)),
    )
    # Without noise minutes tell whose trips they are.
    for number in range(3):
        expected = trips.expected_minutes(
            drawn.coefficients[number], drawn.others.conditions[number]
        )
        np.testing.assert_allclose(drawn.others.human[number], expected, rtol=1e-6)
    for part in (drawn.tuning, drawn.test):
        expected = trips.expected_minutes(drawn.coefficients[-1], part.conditions)
        np.testing.assert_allclose(part.human, expected, rtol=1e-6)
    for part in (drawn.tuning, drawn.test, drawn.unlabelled):
        rain, darkness = np.asarray(part.conditions).T
        np.testing.assert_allclose(part.car[:, 0], 45.0, rtol=1e-6)
        np.testing.assert_allclose(
            part.car[:, 1], 40 + 5 * rain + 5 * darkness, rtol=1e-6
        )


def test_no_two_trips_are_one():
    drawn = simulate(jax.random.key(0), WORLD, 4, 6, 5, False)
    conditions = np.concatenate(
        [
            np.asarray(part.conditions).reshape(-1, 2)
            for part in (drawn.others, drawn.tuning, drawn.test, drawn.unlabelled)
        ]
    )
    assert len(np.unique(conditions)) == conditions.size == 2 * (4 * 6 + 5)


def test_drivers_are_poisson(many):
    # Mean and variance, within four standard errors.
    for column, rate in enumerate((35.0, 5.0, 5.0)):
        values = many.coefficients[:, column]
        np.testing.assert_array_equal(values, np.round(values))
        assert values.mean() == pytest.approx(rate, abs=4 * (rate / NUM_DRIVERS) ** 0.5)
        error = rate * (2 / NUM_DRIVERS + 1 / (rate * NUM_DRIVERS)) ** 0.5
        assert values.var() == pytest.approx(rate, abs=4 * error)
    correlation = np.corrcoef(many.coefficients.T) - np.eye(3)
    assert np.abs(correlation).max() < 0.2


def test_conditions_are_uniform_and_independent(many):
    conditions = many.unlabelled.conditions
    assert conditions.min() >= 0.0 and conditions.max() <= 1.0
    for column in conditions.T:
        counts, _ = np.histogram(column, bins=10, range=(0, 1))
        assert np.abs(counts / NUM_UNLABELLED - 0.1).max() < 0.005
    assert abs(np.corrcoef(conditions.T)[0, 1]) < 0.02


def standardized(minutes, conditions, coefficients, deviations):
    """Minutes less their mean, over the standard deviation of Eq. 2's three terms."""
    rain, darkness = conditions[..., 0], conditions[..., 1]
    base, of_rain, of_darkness = np.moveaxis(np.asarray(coefficients), -1, 0)
    mean = base + rain * of_rain + darkness * of_darkness
    sd, sd_rain, sd_darkness = deviations
    variance = sd**2 + (rain * sd_rain) ** 2 + (darkness * sd_darkness) ** 2
    return (minutes - mean) / np.sqrt(variance)


def check_standard_normal(values):
    """Mean, variance and tail, within four standard errors."""
    values = values.ravel()
    error = 4 / len(values) ** 0.5
    assert values.mean() == pytest.approx(0.0, abs=error)
    assert values.var() == pytest.approx(1.0, abs=1.5 * error)
    assert np.mean(np.abs(values) > 1.96) == pytest.approx(0.05, abs=0.22 * error)


def test_minutes_of_humans_are_those_of_equation_2(many):
    others = many.others
    coefficients = many.coefficients[:-1, None]
    values = standardized(others.human, others.conditions, coefficients, (5, 2, 2))
    check_standard_normal(values)
    # The spread grows with rain and darkness.
    bad = others.conditions.sum(axis=-1) > 1.5
    check_standard_normal(values[bad])


def test_minutes_of_the_car(many):
    drawn = many.unlabelled
    values = standardized(drawn.car[:, 1], drawn.conditions, CAR[1], (5, 2, 2))
    check_standard_normal(values)
    constant = drawn.car[:, 0]
    assert constant.mean() == pytest.approx(45.0, abs=1e-3)
    assert constant.std() == pytest.approx(0.001, rel=0.05)


def test_binary_conditions():
    drawn = simulate(jax.random.key(0), WORLD, 2, 2, 4000, True)
    values, counts = np.unique(drawn.unlabelled.conditions, axis=0, return_counts=True)
    assert values.tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    assert np.abs(counts / 4000 - 0.25).max() < 0.03


def test_the_key_decides():
    def draw(seed):
        return simulate(jax.random.key(seed), WORLD, 4, 6, 5, False)

    for one, same, other in zip(
        *(jax.tree.leaves(draw(seed)) for seed in (0, 0, 1)), strict=True
    ):
        np.testing.assert_array_equal(one, same)
        assert not np.array_equal(one, other)


def test_repetitions_at_once_are_repetitions_one_by_one():
    keys = jax.random.split(jax.random.key(0), 3)
    together = jax.jit(
        jax.vmap(lambda key: trips.simulate(key, WORLD, 4, 6, 5, False))
    )(keys)
    alone = simulate(keys[1], WORLD, 4, 6, 5, False)
    jax.tree.map(
        lambda many, one: np.testing.assert_allclose(many[1], one, rtol=1e-5),
        together,
        alone,
    )


@pytest.mark.parametrize(
    ("sizes", "name"),
    [
        ((1, 4, 0), "num_drivers"),
        ((3, 5, 0), "trips_per_driver"),
        ((3, 0, 0), "trips_per_driver"),
        ((3, 4, -1), "num_unlabelled"),
    ],
)
def test_bad_sizes_raise(sizes, name):
    with pytest.raises(ValueError, match=f"^{name} must be"):
        trips.simulate(jax.random.key(0), WORLD, *sizes, False)
