r"""A batch whose experts have only so much time: who is asked about which case.

One linear program over the whole batch,

.. math:: \max_{a \ge 0} \sum_{i, m} a_{im} s_{im} \quad \text{s.t.} \quad
    \sum_m a_{im} \le 1, \quad \sum_i a_{im} \le c_m, \quad \sum_{i, m} a_{im} \le b,

with s the ``defer_score`` of a `l2d_jax.types.Decision`, which is that of keeping the
case where it is 0. Without the last row it is a transportation problem, and with it the
rows still split into two families of nested sets, so its corners are whole numbers:
nobody is asked in part.
"""

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize
import scipy.sparse
import scipy.sparse.csgraph

from l2d_jax._checks import poison_unless, require_all
from l2d_jax._rounding import whole_part
from l2d_jax.decisions import allocate
from l2d_jax.policies._arguments import require_one_answers, rooms
from l2d_jax.types import Array, Decision

# Scores that differ by less, relative to the greatest, are equal here.
_EQUAL = 1e-6


def places(max_deferral: float, num_cases: int) -> int:
    """Cases that may be deferred of a batch: the whole part of share times size.

    Args:
      max_deferral: share of the cases, in [0, 1].
      num_cases: size of the batch, >= 0.

    Raises:
      ValueError: the share is not in [0, 1].
    """
    require_all(
        "max_deferral", max_deferral, lambda v: (v >= 0) & (v <= 1), "be in [0, 1]"
    )
    return whole_part(max_deferral, num_cases)


def assign(
    key: jax.Array,
    decision: Decision,
    capacity: Array | None = None,
    max_deferral: float = 1.0,
) -> Decision:
    """Ask where it is worth most, within what the experts and a budget allow.

    A case goes to an expert of score > 0 where there is room, not always to the one of
    greatest score, and is kept else. A case whose scores are NaN cannot be decided
    upon: it takes a place before any other does, with any expert who can be asked, and
    is never kept. For a batch on the host; of cases that come one by one use a
    threshold on the score (`l2d_jax.decisions.threshold_for_coverage`) or
    `l2d_jax.policies.prices`.

    Args:
      key: PRNG key, which draws among cases and experts of equal worth: scores that
        differ by no more than 1e-6 of the greatest.
      decision: over ``[B]`` and M experts, by scores; a score of -inf cannot be asked.
        Where an answer is shared by several there is no saying who is asked less, so
        shares other than 0 and 1 are refused.
      capacity: cases that each expert can answer, int ``[M]``, >= 0. None: any number.
      max_deferral: share of the batch that may be deferred, in [0, 1]; see `places`.

    Returns:
      The decision with another ``allocation``; scores and estimates are unchanged.

    Raises:
      ValueError: shapes disagree, a capacity or the share is out of its range, an
        allocation is shared, or there are more cases that cannot be decided upon than
        places for them; the message says how many.

    References:
      Alves et al., "Cost-Sensitive Learning to Defer to Multiple Experts with Workload
      Constraints", 2024, whose assignment takes the greatest probability of being right
      (Equation 7 prints arg min); the budget and the NaN are ours.
    """
    require_one_answers(decision)
    scores = np.asarray(decision.defer_score, np.float64)
    num_cases, num_experts = scores.shape
    room = rooms(capacity, num_experts, num_cases)
    budget = places(max_deferral, num_cases)

    unknown = np.isnan(scores)
    must = np.any(unknown, axis=1)
    open_to = np.where(must[:, None], scores != -np.inf, scores > 0)
    _require_room(must, open_to, room, budget)
    cases, experts = np.nonzero(open_to)
    allocation = np.zeros((num_cases, num_experts + 1))
    if len(cases):
        worth = _worth(key, scores[cases, experts], must[cases])
        if capacity is None:
            chosen = _first(cases, worth, must, budget)
        else:
            chosen = _solve(cases, experts, worth, must, room, budget)
        allocation[cases[chosen], experts[chosen]] = 1.0
    allocation[:, -1] = 1.0 - allocation[:, :-1].sum(axis=1)
    return decision._replace(
        allocation=jnp.asarray(allocation, jnp.asarray(decision.allocation).dtype)
    )


def keep_to_budget(key: jax.Array, decision: Decision, max_deferral: float) -> Decision:
    """The decision where no more of a batch is deferred than a share of it.

    Of the cases that the decision defers, those of the greatest score stay deferred, as
    many as there are places, and the others are kept; who is asked stays as decided. A
    case whose score is NaN takes a place before any other does, and is never kept. It
    is `assign` without capacities where the decision is that of the rule, and can be
    traced.

    Args:
      key: PRNG key, which draws among equal scores.
      decision: over ``[B]`` and M experts, one of whom or the classifier answers each
        case.
      max_deferral: share of the batch that may be deferred, in [0, 1]; see `places`;
        static.

    Returns:
      The decision with another ``allocation``; scores and estimates are unchanged. All
      of it is NaN where traced scores are NaN in more cases than there are places, and
      a row where a traced decision is shared.

    Raises:
      ValueError: the share is out of its range, an allocation is shared, or there are
        more cases that cannot be decided upon than places for them.
    """
    one_answers = require_one_answers(decision)
    scores, weights = map(jnp.asarray, (decision.defer_score, decision.allocation))
    num_cases, num_experts = scores.shape
    budget = places(max_deferral, num_cases)
    must = jnp.isnan(scores).any(axis=1)
    if not isinstance(must, jax.core.Tracer):
        _require_budget(int(must.sum()), num_cases, budget)

    # Where nothing was asked of anybody, as the rule does.
    unasked = must & ~(weights[:, :-1] > 0).any(axis=1)
    weights = jnp.where(unasked[:, None], allocate(scores), weights)
    asked = weights[:, :-1] > 0
    deferred = asked.any(axis=1)
    score = jnp.where(asked, scores, -jnp.inf).max(axis=1)
    drawn = jax.random.permutation(key, num_cases)
    # The last key counts most: what must be deferred is first, whatever its score.
    order = jnp.lexsort((drawn, -score, ~deferred, ~must))
    rank = jnp.zeros(num_cases, int).at[order].set(jnp.arange(num_cases))
    alone = (jnp.arange(num_experts + 1) == num_experts).astype(weights.dtype)
    over = deferred & (rank >= budget)
    sound = (one_answers & (must.sum() <= budget))[:, None]
    return decision._replace(
        allocation=poison_unless(sound, jnp.where(over[:, None], alone, weights))
    )


def _require_budget(num_must: int, num_cases: int, budget: int) -> None:
    if num_must > budget:
        raise ValueError(
            f"max_deferral allows {budget} of {num_cases} cases to be deferred, and"
            f" {num_must} have a score of NaN and cannot be kept; raise it, or mend"
            " those cases"
        )


def _require_room(
    must: np.ndarray, open_to: np.ndarray, room: np.ndarray, budget: int
) -> None:
    """Raises unless every case that must be deferred has a place."""
    num_must = int(must.sum())
    if not num_must:
        return
    _require_budget(num_must, len(must), budget)
    # The most that the experts can take, one by one: a matching of cases and places.
    rows = open_to[must]
    seats = np.repeat(np.arange(len(room)), np.minimum(room, num_must))
    graph = scipy.sparse.csr_matrix(rows[:, seats])
    matched = scipy.sparse.csgraph.maximum_bipartite_matching(graph)
    fits = int((matched >= 0).sum())
    if fits < num_must:
        raise ValueError(
            f"capacity has places for {fits} of the {num_must} cases that have a score"
            " of NaN and cannot be kept; raise it, or mend those cases"
        )


def _worth(key: jax.Array, scores: np.ndarray, must: np.ndarray) -> np.ndarray:
    """What each pair adds, in (0, 1], equal scores in a drawn order."""
    scores = np.where(must, 0.0, scores)
    largest = scores[np.isfinite(scores)].max(initial=0.0)
    # Whoever is infinitely inclined goes first; a scale changes no decision.
    scores = np.where(np.isinf(scores), 2.0 * max(largest, 1.0), scores)
    worth = scores / max(scores.max(), np.finfo(float).tiny)
    # On the host: shapes differ from batch to batch, and each would compile.
    seed = np.asarray(jax.random.key_data(key)).ravel()
    noise = np.random.default_rng(seed).random(worth.shape)
    # As much as the solver tells apart.
    return worth + _EQUAL * noise


def _first(
    cases: np.ndarray, worth: np.ndarray, must: np.ndarray, budget: int
) -> np.ndarray:
    """The best pair of each of the best cases, int: numbers of pairs."""
    order = np.lexsort([-worth, ~must[cases]])
    _, first = np.unique(cases[order], return_index=True)
    return order[np.sort(first)[:budget]]


def _solve(
    cases: np.ndarray,
    experts: np.ndarray,
    worth: np.ndarray,
    must: np.ndarray,
    room: np.ndarray,
    budget: int,
) -> np.ndarray:
    """Whether each pair of a case and an expert is chosen, bool ``[P]``."""
    pairs = np.arange(len(cases))
    ones = np.ones(len(cases))

    def rows(of: np.ndarray, size: int) -> scipy.sparse.csr_matrix:
        return scipy.sparse.csr_matrix((ones, (of, pairs)), (size, len(cases)))

    by_case = rows(cases, len(must))
    # The simplex method ends in a corner, where all are whole numbers.
    found = scipy.optimize.linprog(
        -worth,
        A_ub=scipy.sparse.vstack(
            [by_case[~must], rows(experts, len(room)), scipy.sparse.csr_matrix(ones)]
        ),
        b_ub=np.concatenate([np.ones(int((~must).sum())), room, [budget]]),
        A_eq=by_case[must],
        b_eq=np.ones(int(must.sum())),
        bounds=(0.0, 1.0),
        method="highs-ds",
    )
    if found.x is None:
        raise RuntimeError(f"the assignment was not found: {found.message}")
    return found.x > 0.5
