"""Whom to consult: of each case a set of people that holds one who is right.

The sets are those of `l2d_jax.policies.expert_sets`, by rank, of two levels. Where
everybody can be asked, who did not answer a held-out case is no right one there: the
fewer have answered, the larger sets are, and as a rule no blank makes one too small. Of
M people of whom any k answer rightly, the first is among the first r with a probability
of about 1 - (1 - r / M)^k, so that no order that does not know who will answer makes
small sets of a large crowd. Where some people cannot be asked, the level is that of
held-out cases about which those who answered could be, and nobody else.
"""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from l2d_jax.policies import expert_sets
from l2d_jax.table import calibration
from l2d_jax.table.calibration import Calibration
from l2d_jax.table.chunks import in_chunks
from l2d_jax.types import Array

# One who answers alone is the only right one there can be, wherever they rank.
_SEVERAL = 2
_SURE = 1e-6


class Consult(NamedTuple):
    """The level of sets, and what it was calibrated on.

    Attributes:
      level: of `l2d_jax.policies.expert_sets.members_by_rank`, >= 0; inf: everybody.
      nobody_right: share of the cases that two people or more answered in which none of
        them is right, in [0, 1]; NaN without such a case.
      num_cases: in which one of them is right, which the level is of, >= 0.
      people: names of those whom sets are of, in their order.
      among: level where only those who answered could be asked, >= 0; inf likewise.
      most_answers: people who answered one of those cases at most; where more than so
        many can be asked, or all, the other level holds. 0 has but that.
    """

    level: float
    nobody_right: float
    num_cases: int
    people: tuple[str, ...]
    among: float = np.inf
    most_answers: int = 0


def fit(
    chances: Array, right: np.ndarray, people: tuple[str, ...], wanted: float
) -> Consult:
    """The level by which sets hold somebody right as often as is wanted.

    Args:
      chances: of each person's being right, on cases that nothing was fitted to and
        that are independent of one another, float ``[N, M]``.
      right: whether they were, float ``[N, M]``: 0, 1, or NaN who was not asked.
      people: names, M.
      wanted: probability that a right one is in the set where somebody who answers is
        right, in (0, 1).
    """
    known = several(right)
    probs, correct = np.asarray(chances)[known], right[known]
    answered = ~np.isnan(correct)
    found = expert_sets.fit_by_rank(probs, correct, 1.0 - wanted)
    among = expert_sets.fit_by_rank(
        np.where(answered, probs, 0.0), correct, 1.0 - wanted
    )
    return Consult(
        found.level,
        found.nobody_right,
        found.num_cases,
        people,
        among.level,
        int(answered.sum(axis=1).max(initial=0)),
    )


def fit_nobody(
    chances: np.ndarray, right: np.ndarray, folds: np.ndarray
) -> Calibration:
    """Map to the probability that nobody is right, for `nobody_right`.

    People err on the same cases, so that the product of their chances of being wrong is
    too small; the map is of its log-odds, on cases that several answered.

    Args:
      chances: of each person's being right, fitted without the case, float ``[N, M]``.
      right: whether they were, float ``[N, M]``: 0, 1, or NaN who was not asked.
      folds: int ``[N]``, as of `l2d_jax.table.calibration.fit_log_odds`.
    """
    known = several(right)
    asked = ~np.isnan(right)
    log_odds = np.asarray(_log_odds(chances, asked))[known]
    nobody = ~(right == 1).any(axis=1)
    return calibration.fit_log_odds(log_odds, nobody[known], folds[known])


def several(right: np.ndarray) -> np.ndarray:
    """Whether two people or more answered, bool ``[N]``; NaN who did not."""
    return (~np.isnan(right)).sum(axis=1) >= _SEVERAL


def members(found: Consult, chances: Array, available: np.ndarray) -> np.ndarray:
    """Who is in the set of each case, bool ``[B, M]``; nobody where nobody can be.

    Args:
      found: from `fit`.
      chances: of each person's being right, float ``[B, M]``.
      available: whether they can be asked, bool ``[B, M]``.
    """
    levels = np.where(is_among(found, available), found.among, found.level)
    return in_chunks(_members, None, levels, np.asarray(chances), available)


def is_among(found: Consult, available: np.ndarray) -> np.ndarray:
    """Whether a set is by the level of those who answered, bool ``[B]``.

    Args:
      found: from `fit`.
      available: whether each person can be asked, bool ``[B, M]``.
    """
    count = available.sum(axis=1)
    return (count < len(found.people)) & (count <= found.most_answers)


def nobody_right(
    mapped: Mapping[str, Array], chances: Array, available: np.ndarray
) -> np.ndarray:
    """Probability that none of those who can be asked is right, float ``[B]``.

    Args:
      mapped: from `fit_nobody`.
      chances: of each person's being right, float ``[B, M]``.
      available: whether they can be asked, bool ``[B, M]``.
    """
    return in_chunks(_nobody_right, dict(mapped), np.asarray(chances), available)


@jax.jit
def _members(
    params: None, levels: Array, chances: Array, available: Array
) -> jax.Array:
    del params

    def of_case(probs: jax.Array, level: jax.Array) -> jax.Array:
        return expert_sets.members_by_rank(probs[None], level)[0]

    probs = jnp.where(available, chances, 0.0)
    return jax.vmap(of_case)(probs, jnp.asarray(levels, probs.dtype)) & available


@jax.jit
def _nobody_right(mapped: Calibration, chances: Array, available: Array) -> jax.Array:
    found = calibration.of_log_odds(mapped, _log_odds(chances, available))
    return jnp.where(jnp.any(available, axis=1), found, 1.0)


def _log_odds(chances: Array, asked: Array) -> jax.Array:
    """Of all who are asked being wrong, if they were independent, ``[B]``."""
    wrong = jnp.log1p(-jnp.clip(jnp.asarray(chances), _SURE, 1 - _SURE))
    every = jnp.minimum(jnp.sum(jnp.where(asked, wrong, 0.0), axis=1), -_SURE)
    return every - jnp.log(-jnp.expm1(every))
