r"""Simulated trips of a car that its driver can take over.

Raman and Yee, "Improving Learning-to-Defer Algorithms Through Fine-Tuning", 2021,
section 4 and appendices B and C. A trip has two conditions, rain and darkness. The
minutes that somebody or something takes for it are normal around a line in them,

.. math:: N(\mu, \sigma) + r N(\mu_r, \sigma_r) + d N(\mu_d, \sigma_d),

with whole numbers :math:`\mu, \mu_r, \mu_d` that are Poisson for every human driver.
The car knows two ways to drive, one of which does not depend on the conditions. Axes:
N trips, J drivers, P = 3 coefficients (of 1, rain and darkness), A = 3 actions.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from l2d_jax.types import Array

NUM_ACTIONS = 3
CONSTANT, DEPENDENT, DEFER = range(NUM_ACTIONS)
"""Actions: the car drives in one of its two ways or, last, the human does."""


class World(NamedTuple):
    """The numbers that describe everybody; traced.

    Attributes:
      driver_table: cumulative probabilities of each coefficient of a human driver,
        float ``[P, T]``, from `poisson_table`.
      driver_deviations: standard deviations of the terms of a human's trip, minutes,
        float ``[P]``, >= 0.
      car_coefficients: mean of the terms of the car's two ways, minutes, float
        ``[2, P]``.
      car_deviations: their standard deviations, minutes, float ``[2, P]``, >= 0.
    """

    driver_table: Array
    driver_deviations: Array
    car_coefficients: Array
    car_deviations: Array


class Trips(NamedTuple):
    """Trips under given conditions, and what each action takes.

    Attributes:
      conditions: rain and darkness, float ``[N, 2]``, in [0, 1].
      human: minutes the human takes, float ``[N]``.
      car: minutes each of the car's two ways takes, float ``[N, 2]``.
    """

    conditions: jax.Array
    human: jax.Array
    car: jax.Array


class UnlabelledTrips(NamedTuple):
    """Trips that no human drove.

    Attributes:
      conditions: rain and darkness, float ``[L, 2]``, in [0, 1].
      car: minutes each of the car's two ways takes, float ``[L, 2]``.
    """

    conditions: jax.Array
    car: jax.Array


class Repetition(NamedTuple):
    """One person, the others, and trips that nobody drove.

    Attributes:
      coefficients: of every driver, minutes, float ``[J, P]``; the person is the last.
      others: trips of all drivers but the person, fields ``[J - 1, N, ...]``.
      tuning: first half of the person's trips, fields ``[N / 2, ...]``.
      test: second half.
      unlabelled: further trips.
    """

    coefficients: jax.Array
    others: Trips
    tuning: Trips
    test: Trips
    unlabelled: UnlabelledTrips


def poisson_table(rates: Sequence[float]) -> np.ndarray:
    """Cumulative probabilities of Poisson variables, float32 ``[P, T]``.

    Row p, column t: P(X <= t) at ``rates[p]``. T is such that float32 can tell no
    further column from 1.

    Args:
      rates: means, each finite and >= 0.

    Raises:
      ValueError: a rate is negative or not finite.
    """
    for rate in rates:
        if not 0.0 <= rate < float("inf"):
            raise ValueError(f"rates must be finite and >= 0, got {rate}")
    size = int(max(rates) + 10.0 * max(rates) ** 0.5 + 20.0)
    counts = np.arange(size)
    log_factorials = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, size)))])
    rows = []
    for rate in rates:
        # At rate 0 the smallest of numbers stands for it; its logarithm is finite.
        log_rate = np.log(max(rate, np.finfo(float).tiny))
        terms = np.exp(counts * log_rate - rate - log_factorials)
        rows.append(np.minimum(np.cumsum(terms), 1.0))
    return np.stack(rows).astype(np.float32)


def expected_minutes(coefficients: Array, conditions: Array) -> jax.Array:
    """Mean minutes of trips, float ``[N]``.

    Args:
      coefficients: of one driver or way, minutes, float ``[P]``.
      conditions: rain and darkness, float ``[N, 2]``.

    References:
      Raman and Yee, 2021, Eq. 2.
    """
    return features(conditions) @ jnp.asarray(coefficients)


def features(conditions: Array) -> jax.Array:
    """1, rain and darkness, float ``[..., P]``; conditions are ``[..., 2]``."""
    conditions = jnp.asarray(conditions)
    ones = jnp.ones((*conditions.shape[:-1], 1), conditions.dtype)
    return jnp.concatenate([ones, conditions], axis=-1)


def simulate(
    key: jax.Array,
    world: World,
    num_drivers: int,
    trips_per_driver: int,
    num_unlabelled: int,
    binary: bool,
) -> Repetition:
    """Draw drivers and trips.

    Conditions are independent and uniform in [0, 1], which the paper leaves open, or
    fair coins. The sum of independent normals that Eq. 2 writes is one normal given the
    conditions, and drawn as such.

    Args:
      key: of all randomness.
      world: who the drivers and what the car is.
      num_drivers: J, the person included, >= 2.
      trips_per_driver: N, even, >= 2.
      num_unlabelled: L, >= 0.
      binary: whether conditions are either 0 or 1.

    Raises:
      ValueError: a number is out of its range.

    References:
      Raman and Yee, 2021, section 4.1.
    """
    if num_drivers < 2:
        raise ValueError(f"num_drivers must be at least 2, got {num_drivers}")
    if trips_per_driver < 2 or trips_per_driver % 2:
        raise ValueError(
            f"trips_per_driver must be even and at least 2, got {trips_per_driver}"
        )
    if num_unlabelled < 0:
        raise ValueError(f"num_unlabelled must be at least 0, got {num_unlabelled}")
    driven = num_drivers * trips_per_driver
    total = driven + num_unlabelled
    num_terms = world.driver_table.shape[0]

    # One draw of each kind: every other draw costs a third of a second to compile.
    uniform_key, normal_key = jax.random.split(key)
    uniforms = jax.random.uniform(uniform_key, (num_drivers * num_terms + 2 * total,))
    normals = jax.random.normal(normal_key, (driven + 2 * total,))

    ranks, conditions = jnp.split(uniforms, (num_drivers * num_terms,))
    ranks = ranks.reshape(num_drivers, num_terms)
    table = jnp.asarray(world.driver_table)
    coefficients = jnp.sum(ranks[:, :, None] >= table, axis=-1).astype(jnp.float32)
    conditions = conditions.reshape(total, 2)
    if binary:
        conditions = jnp.round(conditions)

    terms = features(conditions)
    human_noise, car_noise = jnp.split(normals, (driven,))
    drivers = jnp.repeat(coefficients, trips_per_driver, axis=0)
    human = jnp.sum(terms[:driven] * drivers, axis=1)
    human += _deviations(terms[:driven], world.driver_deviations) * human_noise
    car = terms @ jnp.asarray(world.car_coefficients).T
    car_deviations = jax.vmap(_deviations, (None, 0), 1)(
        terms, jnp.asarray(world.car_deviations)
    )
    car += car_deviations * car_noise.reshape(car.shape)

    # The person's trips come after those of the others.
    person, half = driven - trips_per_driver, driven - trips_per_driver // 2

    def select(first: int, last: int) -> Trips:
        return Trips(conditions[first:last], human[first:last], car[first:last])

    others = jax.tree.map(
        lambda leaf: leaf.reshape(-1, trips_per_driver, *leaf.shape[1:]),
        select(0, person),
    )
    return Repetition(
        coefficients=coefficients,
        others=others,
        tuning=select(person, half),
        test=select(half, driven),
        unlabelled=UnlabelledTrips(conditions[driven:], car[driven:]),
    )


def _deviations(terms: jax.Array, deviations: Array) -> jax.Array:
    """Standard deviation of the minutes of trips with these terms ``[..., P]``."""
    return jnp.sqrt(jnp.square(terms) @ jnp.square(jnp.asarray(deviations)))
