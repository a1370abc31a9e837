r"""Prices of the experts: who is asked where each case of theirs costs something.

A price is what an expert's time, or money, is worth in units of the score, and by
prices a stream keeps to its experts' rates on average: they are the dual variables of
the program of `l2d_jax.policies.capacity`. With scores :math:`s_{im}`, rates
:math:`r_m` of B cases and a budget b they are least in

.. math:: \min_{p, q \ge 0} \; \sum_i \max\big(0, \max_m (s_{im} - p_m - q)\big)
    + B \sum_m r_m p_m + B b q

where a case's own share is what it is worth to ask about it.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize
import scipy.sparse

from l2d_jax._checks import (
    poison_unless,
    require_all,
    require_exact_shape,
    require_matrix,
    require_shape,
)
from l2d_jax._rounding import round_up
from l2d_jax.decisions import allocate
from l2d_jax.policies._arguments import require_one_answers
from l2d_jax.types import Array, Decision

# The least that the solver takes; the greatest score is scaled to 1.
_TOLERANCE = 1e-10


class Duals(NamedTuple):
    """Prices apart, each in units of the score, >= 0.

    Attributes:
      experts: of a case of each expert, float ``[M]``; infinite of who has no time.
      budget: of deferring a case, to anybody, float ``[]``; infinite where none may be.
    """

    experts: jax.Array
    budget: jax.Array


def with_prices(decision: Decision, prices: Array) -> Decision:
    """The decision of the rule where each expert has a price.

    Of a score that is a gain in the probability of being right, as that of
    `l2d_jax.decisions.confidence_decision`, 0.02 is the price of who is asked only
    where they are right by two points more; of logits it is in logits.

    Args:
      decision: over ``[B]`` and M experts, one of whom or the classifier answers each
        case.
      prices: of a case of each expert, in units of the score, float ``[M]``, >= 0;
        infinite: is not asked.

    Returns:
      The decision with ``defer_score`` less the prices and the allocation by the rule
      of `l2d_jax.decisions`: a case whose score is NaN is deferred at any price. NaN
      where a traced price is negative or NaN, and in the rows where a traced decision
      is shared.

    Raises:
      ValueError: shapes disagree, a price is out of its range, or answers are shared.
    """
    one_answers = require_one_answers(decision)
    scores = jnp.asarray(decision.defer_score)
    require_exact_shape("prices", prices, scores.shape[1:], "[M]")
    require_all("prices", prices, lambda v: v >= 0, "be >= 0")
    prices = jnp.asarray(prices, float)
    # Infinity less infinity would be unknown, which is deferred.
    priced = jnp.where((prices == jnp.inf) & ~jnp.isnan(scores), -jnp.inf, scores)
    priced = jnp.where(prices < jnp.inf, scores - prices, priced)
    sound = (jnp.all(prices >= 0) & one_answers)[:, None]
    return decision._replace(
        defer_score=poison_unless(jnp.all(prices >= 0), priced),
        allocation=poison_unless(sound, allocate(priced)),
    )


def fit_prices(
    decision: Decision, rates: Array | None = None, max_deferral: float = 1.0
) -> jax.Array:
    """Prices by which experts are asked as often as they can be, float ``[M]``.

    Of these cases each expert is asked about their rate at most, and who has a price
    about the whole of it; where scores are equal, or scores less prices are, M cases
    more or less. On others it is so on average, as far as such cases tell. Choose
    prices on validation data, use them with `with_prices`, and in a stream go on from
    them with `update_prices`. It runs on the host.

    Args:
      decision: over ``[B]``, B >= 1, and M experts, by scores; answers are not shared.
        A score of -inf cannot be asked; a case whose score is NaN or infinite is asked
        of the same expert at any price, and fills a place of theirs.
      rates: share of all cases that each expert can answer, float ``[M]``, in [0, 1].
        None: any.
      max_deferral: share of all cases that may be deferred, in [0, 1]; its price is in
        everybody's.

    Returns:
      The prices, in units of the score, >= 0: 0 where there is time enough, infinite
      where there is none.

    Raises:
      ValueError: shapes disagree, a value is out of its range, or those who are asked
        at any price are more than a rate allows.

    References:
      Ours; of the program of Alves et al., "Cost-Sensitive Learning to Defer to
      Multiple Experts with Workload Constraints", 2024. Prices for a stream from the
      cases before are those of Agrawal, Wang and Ye, "A Dynamic Near-Optimal Algorithm
      for Online Linear Programming", 2014.
    """
    experts, budget = _fit_duals(decision, rates, max_deferral)
    prices = experts + budget
    # No less than they are, or who should be kept by a hair would be asked.
    return jnp.asarray(round_up(prices, jnp.result_type(float)))


def fit_duals(
    decision: Decision, rates: Array | None = None, max_deferral: float = 1.0
) -> Duals:
    """As `fit_prices`, with the price of the budget apart.

    Args:
      decision: as of `fit_prices`, and what follows.
      rates: share of all cases that each expert can answer, float ``[M]``, in [0, 1].
      max_deferral: share of all cases that may be deferred, in [0, 1].

    Raises:
      ValueError: as of `fit_prices`.
    """
    experts, budget = _fit_duals(decision, rates, max_deferral)
    return Duals(jnp.asarray(experts, float), jnp.asarray(budget, float))


def _fit_duals(
    decision: Decision, rates: Array | None, max_deferral: float
) -> tuple[np.ndarray, float]:
    require_one_answers(decision)
    require_shape("defer_score", decision.defer_score, "[B, M]", min_size=1)
    scores = np.array(decision.defer_score, np.float64)
    num_cases, num_experts = scores.shape
    rates = np.ones(num_experts) if rates is None else np.asarray(rates, np.float64)
    require_exact_shape("rates", rates, (num_experts,), "[M]")
    for name, value in (("rates", rates), ("max_deferral", max_deferral)):
        require_all(name, value, lambda v: (v >= 0) & (v <= 1), "be in [0, 1]")
    none = (rates == 0) | (max_deferral == 0)
    scores[:, none] = np.where(np.isnan(scores[:, none]), np.nan, -np.inf)

    first = scores.argmax(axis=1)
    at_any_price = ~(scores[np.arange(num_cases), first] < np.inf)
    taken = np.bincount(first[at_any_price], minlength=num_experts)
    room = rates * num_cases - taken
    budget = float(max_deferral) * num_cases - taken.sum()
    _require_room(taken, room, budget)
    cases, experts = np.nonzero((scores > 0) & ~at_any_price[:, None])
    prices, of_budget = np.zeros(num_experts), 0.0
    if len(cases):
        worth = scores[cases, experts]
        prices, of_budget = _duals(cases, experts, worth, num_cases, room, budget)
    prices[none] = np.inf
    return prices, np.inf if max_deferral == 0 else of_budget


def update_prices(
    prices: Array, allocation: Array, rates: Array, step_size: Array | float
) -> jax.Array:
    r"""Prices of the experts after some cases of a stream, float ``[M]``.

    Decide by `with_prices`; who is asked more than their rate becomes dearer, who is
    asked less cheaper, and never less than free: :math:`p \leftarrow \max(0, p +
    \epsilon (\bar a - r))`, a subgradient step on the dual of the program above, whose
    rows of capacity are met on average.

    Args:
      prices: before, in units of the score, float ``[M]``, >= 0; 0 at the start, or
        those of `fit_prices`.
      allocation: of the cases since, float ``[B, M + 1]``, B >= 1.
      rates: share of all cases that each expert can answer, float ``[M]``, in [0, 1].
      step_size: :math:`\epsilon`, float ``[]``, > 0, in units of the score.
    """
    prices, rates = jnp.asarray(prices), jnp.asarray(rates)
    require_exact_shape("rates", rates, prices.shape, "[M]")
    require_matrix("allocation", allocation, "[B, M + 1]", prices.shape[0] + 1)
    asked = jnp.mean(jnp.asarray(allocation)[:, :-1], axis=0)
    require_exact_shape("prices", prices, asked.shape, "[M]")
    return jnp.maximum(0.0, prices + step_size * (asked - rates))


def _require_room(taken: np.ndarray, room: np.ndarray, budget: float) -> None:
    """Raises unless who is asked at any price has the time."""
    # A rate times a number of cases is rounded.
    slack = 1e-6
    short = np.flatnonzero((room < -slack) & (taken > 0))
    if len(short):
        first = short[0]
        raise ValueError(
            f"rates allows expert {first} {max(room[first] + taken[first], 0):.4g}"
            f" cases, and {taken[first]} with a score of NaN or infinity are asked of"
            " them at any price; raise it, or mend those cases"
        )
    if taken.any() and budget < -slack:
        raise ValueError(
            f"max_deferral allows {budget + taken.sum():.4g} cases to be deferred, and"
            f" {taken.sum()} with a score of NaN or infinity are, at any price; raise"
            " it, or mend those cases"
        )


def _duals(
    cases: np.ndarray,
    experts: np.ndarray,
    worth: np.ndarray,
    num_cases: int,
    room: np.ndarray,
    budget: float,
) -> tuple[np.ndarray, float]:
    """Price of each expert, ``[M]``, and of the budget."""
    pairs, ones = np.arange(len(cases)), np.ones(len(cases))

    def rows(of: np.ndarray, size: int) -> scipy.sparse.csr_matrix:
        return scipy.sparse.csr_matrix((ones, (of, pairs)), (size, len(cases)))

    num_experts = len(room)
    scale = worth.max()
    found = scipy.optimize.linprog(
        -worth / scale,
        A_ub=scipy.sparse.vstack(
            [
                rows(experts, num_experts),
                scipy.sparse.csr_matrix(ones),
                rows(cases, num_cases),
            ]
        ),
        b_ub=np.concatenate(
            [np.maximum(room, 0), [max(budget, 0)], np.ones(num_cases)]
        ),
        bounds=(0.0, None),
        method="highs-ds",
        options={
            "primal_feasibility_tolerance": _TOLERANCE,
            "dual_feasibility_tolerance": _TOLERANCE,
        },
    )
    if found.x is None:
        raise RuntimeError(f"the prices were not found: {found.message}")
    duals = np.maximum(-found.ineqlin.marginals[: num_experts + 1], 0.0) * scale
    return duals[:-1], float(duals[-1])
