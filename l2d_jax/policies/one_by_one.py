r"""Cases that come one by one: who is asked, not knowing what is to come.

Each expert has so many places of every so many cases, and may be asked about the next
case of worth, or wait for a better one. What a place is worth is its price, the dual
variable of `l2d_jax.policies.capacity`'s program: a case is asked of whom

.. math:: s_{im} - p_m - q

is greatest of, where that is > 0 and there is a place, and then prices move as in
`l2d_jax.policies.prices.update_prices`,

.. math:: p_m \leftarrow \max(0, p_m + \epsilon (a_{im} - r_m)), \quad
    q \leftarrow \max(0, q + \epsilon (\textstyle\sum_m a_{im} - b))

with rates r and b of a case. No decision depends on a later case, nor on how many there
are.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from l2d_jax._checks import require_all, require_exact_shape
from l2d_jax.policies._arguments import require_one_answers, rooms
from l2d_jax.policies.capacity import places
from l2d_jax.policies.prices import Duals
from l2d_jax.types import Array, Decision


class Assigned(NamedTuple):
    """What became of a stream so far.

    Attributes:
      decision: with the allocation of each case in its turn.
      duals: after the last of them, to go on from.
      charged: what asking each expert cost at the turn of each case, the budget's price
        included, float64 ``[B, M]``, >= 0; inf where there was no place.
    """

    decision: Decision
    duals: Duals
    charged: np.ndarray


def assign(
    decision: Decision,
    period: int,
    capacity: Array | None = None,
    max_deferral: float = 1.0,
    *,
    duals: Duals,
    step_size: float,
) -> Assigned:
    """Decide on cases in their order, within places of each period.

    On the host. Of the first ``period`` cases, the next ones and so on nobody is asked
    about more than their capacity, whatever prices are, and what is left of a period is
    lost. A case whose scores are NaN cannot be kept: it takes the place of whoever has
    one, at any price.

    Args:
      decision: over ``[B]`` and M experts, by scores; a score of -inf cannot be asked.
      period: cases that the limits are of, >= 1.
      capacity: cases of a period that each expert can answer, int ``[M]``, >= 0; None:
        any number.
      max_deferral: share of a period that may be deferred, in [0, 1]; see
        `l2d_jax.policies.capacity.places`.
      duals: prices to start from, as of `l2d_jax.policies.prices.fit_duals` on past
        cases: from 0 the first cases of a stream take all places.
      step_size: by which prices move, in units of the score, >= 0; 0 keeps them. A
        fifth of the standard deviation of scores > 0 is a fair one.

    Raises:
      ValueError: shapes disagree, a value is out of its range, answers are shared, or
        there is no place for a case that cannot be kept.

    References:
      Agrawal, Wang and Ye, "A Dynamic Near-Optimal Algorithm for Online Linear
      Programming", 2014, for prices of past cases; Balseiro, Lu and Mirrokni, "The Best
      of Many Worlds: Dual Mirror Descent for Online Allocation Problems", 2023, for the
      step, here of plain subgradients. Places that end with a period are ours.
    """
    require_one_answers(decision)
    scores = np.asarray(decision.defer_score, np.float64)
    num_cases, num_experts = scores.shape
    if period < 1:
        raise ValueError(f"period must be >= 1, got {period}")
    room_of_each = rooms(capacity, num_experts, period)
    if not 0 <= step_size < np.inf:
        raise ValueError(f"step_size must be >= 0 and finite, got {step_size}")
    prices = np.array(duals.experts, np.float64)
    require_exact_shape("duals.experts", prices, (num_experts,), "[M]")
    budget_price = float(duals.budget)
    require_all("duals", np.append(prices, budget_price), lambda v: v >= 0, "be >= 0")
    budget = places(max_deferral, period)
    rates, rate = room_of_each / period, budget / period

    allocation = np.zeros((num_cases, num_experts + 1))
    charged = np.empty((num_cases, num_experts))
    room, left = room_of_each.copy(), budget
    for case, row in enumerate(scores):
        if case % period == 0:
            room, left = room_of_each.copy(), budget
        asked = np.zeros(num_experts)
        has_place = (room > 0) & (left > 0)
        charged[case] = np.where(has_place, prices + budget_price, np.inf)
        must = np.isnan(row).any()
        if left:
            net = row - prices - budget_price
            if must:
                net = np.where(np.isnan(row), np.inf, net)
            # Infinity less infinity, of who has no time at all.
            net = np.where(has_place & (row != -np.inf) & ~np.isnan(net), net, -np.inf)
            first = int(np.argmax(net))
            if net[first] > 0 or (must and net[first] > -np.inf):
                asked[first] = 1.0
                room[first] -= 1
                left -= 1
        if must and not asked.any():
            raise ValueError(
                f"case {case} has a score of NaN and cannot be kept, and of its period"
                " there is no place left; give more, or mend the case"
            )
        allocation[case, :-1] = asked
        prices = np.maximum(0.0, prices + step_size * (asked - rates))
        budget_price = max(0.0, budget_price + step_size * (asked.sum() - rate))
    allocation[:, -1] = 1.0 - allocation[:, :-1].sum(axis=1)
    kind = jnp.asarray(decision.allocation).dtype
    return Assigned(
        decision._replace(allocation=jnp.asarray(allocation, kind)),
        Duals(jnp.asarray(prices, float), jnp.asarray(budget_price, float)),
        charged,
    )
