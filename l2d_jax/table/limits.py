"""Decisions within a budget and what people have time for, and what comes of them."""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from l2d_jax import decisions
from l2d_jax.policies import capacity, one_by_one, prices
from l2d_jax.table.chunks import in_chunks
from l2d_jax.table.methods import METHODS
from l2d_jax.table.options import Options
from l2d_jax.types import Array, Decision

# Of the spread of past scores that are worth it, by which prices move with a case.
_STEP = 0.2
_TINY = 1e-9


def within_limits(
    decision: Decision,
    name: str,
    options: Options,
    people: Sequence[str],
    threshold: float | np.ndarray = 0.0,
) -> Decision:
    """The decision within budget and capacity, for cases that come as one batch.

    Args:
      decision: by scores, over ``[B]`` and M people.
      name: of the method.
      options: of which the limits are kept.
      people: names, M.
      threshold: above which a score defers, float ``[]`` or ``[B]``; NaN always does.
        Of no account where several share an answer.

    Raises:
      ValueError: there is no room for cases that cannot be kept; see
        `l2d_jax.policies.capacity.assign`.
    """
    if not people:
        return decision
    if METHODS[name].several:
        return _few(decision, options)
    given = dict(options.capacity)
    size = decision.defer_score.shape[0]
    places = np.array([given.get(person, size) for person in people])
    found = capacity.assign(
        jax.random.key(options.seed),
        decision._replace(defer_score=_above(decision.defer_score, threshold)),
        places if given else None,
        options.max_deferral,
    )
    return decision._replace(allocation=found.allocation)


def in_order(
    decision: Decision,
    options: Options,
    people: Sequence[str],
    period: int,
    past: Mapping[str, np.ndarray],
    threshold: float | np.ndarray = 0.0,
) -> tuple[Decision, np.ndarray]:
    """The decision within the limits of each period, one case after another.

    Args:
      decision: by scores, over ``[B]`` and M people, one of whom answers a case.
      options: of which the limits are kept.
      people: names, M.
      period: cases that the limits are of, >= 1.
      past: of cases before, from which prices start, ``scores``, float ``[P, M]``, P >=
        1, -inf of whom nothing is known, and ``thresholds``, float ``[P]``.
      threshold: as of `within_limits`.

    Returns:
      The decision, and what each person's score had to be above at the turn of each
      case, the threshold and what a place cost then, float64 ``[B, M]``; inf where they
      had no place.

    Raises:
      ValueError: there is no room for a case that cannot be kept; see
        `l2d_jax.policies.one_by_one.assign`.
    """
    given = dict(options.capacity)
    room = np.minimum([given.get(person, period) for person in people], period)
    # Not of these cases: none of them may depend on a later one.
    known = past["scores"][np.isfinite(past["scores"])]
    least = float(known.min()) - 1.0 if len(known) else 0.0
    worth = _above(past["scores"], past["thresholds"], least)
    share = capacity.places(options.max_deferral, period) / period
    alone = np.eye(worth.shape[1] + 1)[np.full(len(worth), -1)]
    before = decision._replace(defer_score=worth, allocation=alone)
    gains = worth[worth > 0]
    spread = float(gains.std()) if len(gains) else 0.0
    found = one_by_one.assign(
        decision._replace(defer_score=_above(decision.defer_score, threshold, least)),
        period,
        room,
        options.max_deferral,
        duals=prices.fit_duals(before, room / period, share),
        step_size=_STEP * spread,
    )
    cuts = np.broadcast_to(np.asarray(threshold, float), found.charged.shape[:1])
    cuts = np.where(cuts == -np.inf, least, cuts)
    allocation = found.decision.allocation
    return decision._replace(allocation=allocation), cuts[:, None] + found.charged


def _above(
    defer_score: Array, threshold: float | np.ndarray, least: float | None = None
) -> np.ndarray:
    """Scores from the threshold up, in their order, and -inf below it.

    Where the threshold is -inf they are from the least up, that of these or of others.
    """
    scores = np.asarray(defer_score, np.float64)
    cuts = np.broadcast_to(np.asarray(threshold, float), scores.shape[:1])[:, None]
    # Where all who can be asked are to be, it is from the least of them.
    finite = scores[np.isfinite(scores)]
    if least is None:
        least = finite.min() - 1.0 if len(finite) else 0.0
    with np.errstate(invalid="ignore"):
        shifted = scores - np.where(cuts == -np.inf, least, cuts)
        shifted = np.where(cuts == -np.inf, np.maximum(shifted, _TINY), shifted)
        above = scores > cuts
    return np.where(above | np.isnan(scores), shifted, -np.inf)


def _few(decision: Decision, options: Options) -> Decision:
    """No more cases are deferred than the budget has, those of greatest score first."""
    allocation = np.array(decision.allocation)
    score = np.max(np.asarray(decision.defer_score), axis=1)
    deferred = np.flatnonzero(allocation[:, :-1].sum(axis=1) > 0)
    drawn = np.random.default_rng(options.seed).permutation(len(deferred))
    rank = np.lexsort([drawn, -np.nan_to_num(score[deferred], nan=np.inf)])
    beyond = deferred[rank[capacity.places(options.max_deferral, len(score)) :]]
    allocation[beyond] = np.eye(allocation.shape[1])[-1]
    return decision._replace(allocation=jnp.asarray(allocation))


def outcome(
    decision: Decision, labels: np.ndarray, answers: np.ndarray, prices: np.ndarray
) -> dict[str, np.ndarray]:
    """What comes of a decision, by name, each float ``[B]``.

    ``said``: the team's answer, int; ``right``: whether that is the label;
    ``deferral``: whether a person has a part in it; ``asked``: people who are asked;
    ``utility``: right less what asking costs.

    Args:
      decision: over ``[B]`` and M people, who all have answered what they are asked.
      labels: int ``[B]``.
      answers: int ``[B, M]``, -1 who was not asked.
      prices: float ``[M]``, in errors.
    """
    allocation = np.asarray(decision.allocation)
    asked = allocation[:, :-1] > 0
    if asked.shape[1]:
        said = in_chunks(_answer, None, *map(np.asarray, decision), answers)
    else:
        said = np.argmax(np.asarray(decision.class_probs), axis=1)
    right = (said == labels).astype(float)
    return {
        "said": said,
        "right": right,
        "deferral": asked.any(axis=1).astype(float),
        "asked": asked.sum(axis=1).astype(float),
        "utility": right - asked @ prices.astype(float),
    }


@jax.jit
def _answer(params: None, *arrays: jax.Array) -> jax.Array:
    *parts, answers = arrays
    return decisions.answer(Decision(*parts), answers)
