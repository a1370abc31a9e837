r"""Thresholds per group that treat groups alike: the best team within a tolerance.

Each group draws its threshold on the greatest defer score from a few, with weights
:math:`w_{gt}` that one linear program finds on validation data,

.. math:: \max_{w \ge 0} \sum_{g, t} w_{gt} \big(\tfrac{n_g}{n} a_{gt}
    - \textstyle\sum_m p_m d_{gtm}\big) \quad \text{s.t.} \quad \sum_t w_{gt} = 1, \quad
    \Big| \sum_t w_{gt} r_{gt} - \sum_t w_{ht} r_{ht} \Big| \le \tau, \quad
    \sum_{g, t, m} w_{gt} d_{gtm} \le b, \quad \sum_{g, t} w_{gt} d_{gtm} \le c_m,

with a the team's accuracy, r each rate that groups should share, and d the share of all
cases in which expert m is asked, of price p. Fairness, a budget, prices and the
experts' time are met at once, which one after the other they are not.
"""

from collections.abc import Callable, Sequence
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
    require_integer,
    require_shape,
)
from l2d_jax.decisions import allocate
from l2d_jax.policies._arguments import first_answers, require_one_answers, rule_scores
from l2d_jax.types import Array, Decision

# Of teams that differ by less in accuracy, the one that defers less.
_EQUAL = 1e-6


class FairThresholds(NamedTuple):
    """Thresholds of G groups, drawn by weight, and what they give where they were fit.

    Attributes:
      thresholds: P of each group, float ``[G, P]``, in units of the score; a case is
        deferred where its greatest score is above. -inf defers all who can be.
      weights: probability of each, float ``[G, P]``, rows sum to 1.
      accuracy: of the team, each group by its size, in [0, 1].
      asked: share of all cases in which each expert is asked, float ``[M]``.
      rates: of each group, that should be alike, float ``[C, G]``; see `CRITERIA`.
      gap: the greatest difference of two groups in one rate, in [0, 1].
    """

    thresholds: jax.Array
    weights: jax.Array
    accuracy: float
    asked: np.ndarray
    rates: np.ndarray
    gap: float


class _Outcomes(NamedTuple):
    """What would become of each case, ``[B]``."""

    labels: np.ndarray
    predicted: np.ndarray
    answered: np.ndarray
    known: np.ndarray
    num_classes: int


class _Rate(NamedTuple):
    """A mean over some cases of what is so where they are kept, and where not."""

    among: np.ndarray
    kept: np.ndarray
    deferred: np.ndarray
    of: str


def _equalized_odds(outcomes: _Outcomes) -> list[_Rate]:
    return [_rate_of_label(outcomes, label) for label in (0, 1)]


def _equal_opportunity(outcomes: _Outcomes) -> list[_Rate]:
    return [_rate_of_label(outcomes, 1)]


def _demographic_parity(outcomes: _Outcomes) -> list[_Rate]:
    return [
        _Rate(outcomes.known, outcomes.predicted == k, outcomes.answered == k, "")
        for k in range(outcomes.num_classes)
    ]


def _equal_accuracy(outcomes: _Outcomes) -> list[_Rate]:
    kept = outcomes.predicted == outcomes.labels
    return [_Rate(outcomes.known, kept, outcomes.answered == outcomes.labels, "")]


def _deferral_rate(outcomes: _Outcomes) -> list[_Rate]:
    everybody = np.ones_like(outcomes.known)
    return [_Rate(everybody, ~everybody, everybody, "")]


CRITERIA: dict[str, Callable[[_Outcomes], list[_Rate]]] = {
    "equalized_odds": _equalized_odds,
    "equal_opportunity": _equal_opportunity,
    "demographic_parity": _demographic_parity,
    "equal_accuracy": _equal_accuracy,
    "deferral_rate": _deferral_rate,
}
"""What groups should share: the team's rates of saying 1 among cases of label 0 and of
label 1, that of label 1 alone, how often it says each class, how often it is right, how
often it asks. The first two are of two classes."""


def fit(
    decision: Decision,
    labels: Array,
    expert_labels: Array,
    groups: Array,
    criterion: str,
    tolerance: float,
    max_deferral: float = 1.0,
    prices: Array | None = None,
    rates: Array | None = None,
    num_thresholds: int = 50,
    randomized: bool = True,
) -> FairThresholds:
    """Thresholds of the best team whose groups differ by no more than a tolerance.

    Of equals it is the team that defers least. A case whose expert of the greatest
    score did not answer says nothing of accuracy or of what the team says, and is left
    out of those means; whom it would be asked of still counts. Choose on validation
    data: rates of other cases differ by the error of sampling besides.

    Args:
      decision: over ``[B]``, K classes and M experts, by scores; answers are not
        shared. NaN is deferred by every threshold, and -inf, nobody to ask, kept.
      labels: class of each case, int ``[B]``, in [0, K).
      expert_labels: answers of the experts, int ``[B, M]``, in [0, K); -1 of who was
        not asked.
      groups: of each case, int ``[B]``, in [0, G), none of which is empty.
      criterion: a name in `CRITERIA`.
      tolerance: the most that two groups may differ in a rate, in [0, 1]; 1: anything.
      max_deferral: share of all cases that may be deferred, in [0, 1].
      prices: of a case of each expert, in units of accuracy, float ``[M]``, >= 0: 0.01
        is what asking in every case must add to the team's accuracy. None: 0.
      rates: share of all cases that each expert can answer, float ``[M]``, in [0, 1].
        None: any.
      num_thresholds: tried in each group, >= 1, at equal steps of its cases; besides
        them the method's own, 0, and keeping and deferring all.
      randomized: whether a group may draw among thresholds; else it has one, found by
        an integer program, and a tolerance may be out of reach that draws can meet.

    Returns:
      The thresholds; `apply` decides by them.

    Raises:
      TypeError: labels, answers or groups are not of an integer dtype.
      ValueError: shapes disagree, a value is out of its range, the criterion needs two
        classes, a group has no case that tells a rate, or nothing meets the tolerance,
        the budget and the rates; the message says what could.

    References:
      The program is ours. Thresholds per group, drawn at random, are those of Hardt,
      Price and Srebro, "Equality of Opportunity in Supervised Learning", 2016.
      Charusaie and Samadi, "A Unifying Post-Processing Framework for Multi-Objective
      Learn-to-Defer Problems", 2024, decide each case by estimates, the greatest of
      the probabilities of being right less multiples of a function for each constraint,
      and search the multiples on validation data; so they may change the class that is
      predicted, too. Here predictions and who is asked stay as they are, and what
      counts is what was observed.
    """
    program = _program(
        *(decision, labels, expert_labels, groups, criterion),
        *(max_deferral, prices, rates, num_thresholds),
    )
    require_all("tolerance", tolerance, lambda v: (v >= 0) & (v <= 1), "be in [0, 1]")
    found = _solve(program, tolerance, randomized)
    if found is None:
        least = _least_tolerance(program, randomized)
        raise ValueError(
            f"tolerance of {criterion} must be >= {least:.4f}, the least that"
            f" thresholds can give within max_deferral and rates, got {tolerance}"
        )
    return found


def least_tolerance(
    decision: Decision,
    labels: Array,
    expert_labels: Array,
    groups: Array,
    criterion: str,
    max_deferral: float = 1.0,
    prices: Array | None = None,
    rates: Array | None = None,
    num_thresholds: int = 50,
    randomized: bool = True,
) -> float:
    """The least tolerance that `fit` can meet, which takes the same arguments.

    Raises:
      TypeError: as of `fit`.
      ValueError: as of `fit`, but for the tolerance.
    """
    program = _program(
        *(decision, labels, expert_labels, groups, criterion),
        *(max_deferral, prices, rates, num_thresholds),
    )
    return _least_tolerance(program, randomized)


def gap(
    answers: Array,
    asked: Array,
    labels: Array,
    groups: Array,
    criterion: str,
    num_classes: int,
) -> float:
    """How far groups differ in what a criterion says they should share.

    Args:
      answers: of the team, int ``[B]``, in [0, K); -1 where there is none.
      asked: whether somebody was asked, bool ``[B]``.
      labels: class of each case, int ``[B]``, in [0, K).
      groups: of each case, int ``[B]``, in [0, G).
      criterion: a name in `CRITERIA`.
      num_classes: K.

    Returns:
      The greatest difference of two groups in one rate, in [0, 1]; a group without a
      case that tells a rate has no part in it. NaN where fewer than two have one.

    Raises:
      ValueError: the criterion is not known, or is of two classes and K is not.
    """
    if criterion not in CRITERIA:
        names = ", ".join(CRITERIA)
        raise ValueError(f"criterion must be one of {names}, got {criterion!r}")
    said, groups = np.asarray(answers), np.asarray(groups)
    known = said >= 0
    # What the team said stands for both who might have.
    outcomes = _Outcomes(np.asarray(labels), said, said, known, num_classes)
    found = []
    for rate in CRITERIA[criterion](outcomes):
        values = np.where(asked, rate.deferred, rate.kept)
        means = [
            values[rate.among & (groups == group)].mean()
            for group in np.unique(groups)
            if (rate.among & (groups == group)).any()
        ]
        if len(means) > 1:
            found.append(max(means) - min(means))
    return float(max(found)) if found else float("nan")


def trade_off(
    decision: Decision,
    labels: Array,
    expert_labels: Array,
    groups: Array,
    criterion: str,
    tolerances: Sequence[float] | np.ndarray,
    max_deferral: float = 1.0,
    prices: Array | None = None,
    rates: Array | None = None,
    num_thresholds: int = 50,
    randomized: bool = True,
) -> tuple[FairThresholds | None, ...]:
    """What `fit` finds at each tolerance, None where nothing meets it.

    Accuracy less prices never falls as the tolerance grows: what fairness costs.
    """
    program = _program(
        *(decision, labels, expert_labels, groups, criterion),
        *(max_deferral, prices, rates, num_thresholds),
    )
    tolerances = np.asarray(tolerances, float)
    require_shape("tolerances", tolerances, "[T]")
    require_all("tolerances", tolerances, lambda v: (v >= 0) & (v <= 1), "be in [0, 1]")
    return tuple(_solve(program, float(each), randomized) for each in tolerances)


def apply(
    key: jax.Array, decision: Decision, fitted: FairThresholds, groups: Array
) -> Decision:
    """Decides by the thresholds of each case's group, each drawn anew.

    Args:
      key: PRNG key, which draws the threshold of each case.
      decision: over ``[B]`` and M experts, by scores; answers are not shared.
      fitted: of G groups, from `fit`.
      groups: of each case, int ``[B]``, in [0, G).

    Returns:
      The decision with another ``allocation``; scores and estimates are unchanged. A
      case whose score is NaN is deferred. NaN in rows where a traced group is not one
      of G, or a traced decision is shared.

    Raises:
      TypeError: ``groups`` is not of an integer dtype.
      ValueError: shapes disagree, a group is not one of G, or answers are shared.
    """
    one_answers = require_one_answers(decision)
    scores = jnp.asarray(decision.defer_score)
    num_groups = jnp.shape(fitted.weights)[0]
    require_exact_shape("groups", groups, scores.shape[:1], "[B]")
    require_integer("groups", groups, "number the groups as where thresholds were fit")
    require_all(
        "groups",
        groups,
        lambda v: (v >= 0) & (v < num_groups),
        f"be one of the {num_groups} groups that thresholds were fit for",
    )
    groups = jnp.asarray(groups)
    known = (groups >= 0) & (groups < num_groups)
    mine = jnp.clip(groups, 0, num_groups - 1)
    # What has no weight has a logarithm of -inf and is never drawn.
    drawn = jax.random.categorical(key, jnp.log(jnp.asarray(fitted.weights))[mine])
    threshold = jnp.asarray(fitted.thresholds)[mine, drawn]
    allocation = jax.vmap(lambda row, cut: allocate(row[None], cut)[0])(
        scores, threshold
    )
    return decision._replace(
        allocation=poison_unless((known & one_answers)[:, None], allocation)
    )


class _Program(NamedTuple):
    """G groups at P thresholds each.

    Attributes:
      thresholds: ``[G, P]``.
      right: part of all cases in which the team is right and the group's, ``[G, P]``.
      asked: part of all cases in which each expert is asked, ``[M, G, P]``.
      rates: that groups should share, ``[C, G, P]``.
      prices: ``[M]``.
      limits: of the cases that may be deferred and that each expert can answer,
        ``[1 + M]``.
    """

    thresholds: np.ndarray
    right: np.ndarray
    asked: np.ndarray
    rates: np.ndarray
    prices: np.ndarray
    limits: np.ndarray


def _program(
    decision: Decision,
    labels: Array,
    expert_labels: Array,
    groups: Array,
    criterion: str,
    max_deferral: float,
    prices: Array | None,
    rates: Array | None,
    num_thresholds: int,
) -> _Program:
    require_one_answers(decision)
    scores = rule_scores(decision.defer_score)
    num_cases, num_experts = scores.shape
    if criterion not in CRITERIA:
        names = ", ".join(CRITERIA)
        raise ValueError(f"criterion must be one of {names}, got {criterion!r}")
    if num_thresholds < 1:
        raise ValueError(f"num_thresholds must be >= 1, got {num_thresholds}")
    prices = np.zeros(num_experts) if prices is None else np.asarray(prices, float)
    rates = np.ones(num_experts) if rates is None else np.asarray(rates, float)
    for name, value in (("prices", prices), ("rates", rates)):
        require_exact_shape(name, value, (num_experts,), "[M]")
    require_all("prices", prices, lambda v: (v >= 0) & (v < np.inf), "be >= 0")
    for name, share in (("rates", rates), ("max_deferral", max_deferral)):
        require_all(name, share, lambda v: (v >= 0) & (v <= 1), "be in [0, 1]")
    members = _members(groups, num_cases)

    greatest, first = scores.max(axis=1), scores.argmax(axis=1)
    classes, predicted, answered = first_answers(decision, labels, expert_labels)
    known = (answered >= 0) | (greatest == -np.inf)
    num_classes = jnp.shape(decision.class_probs)[1]
    outcomes = _Outcomes(classes, predicted, answered, known, num_classes)
    (accuracy,) = _equal_accuracy(outcomes)
    shared = CRITERIA[criterion](outcomes)
    cuts = _cuts(greatest, members, num_thresholds)
    deferred = [
        ~(greatest[mine] <= cut[:, None])
        for mine, cut in zip(members, cuts, strict=True)
    ]

    def means(rate: _Rate) -> np.ndarray:
        rows = []
        for group, (mine, asks) in enumerate(zip(members, deferred, strict=True)):
            among = rate.among[mine]
            if not among.any():
                raise ValueError(
                    f"groups must each hold a case{rate.of} whose expert of the"
                    f" greatest score answered, and group {group} has none"
                )
            so = np.where(asks, rate.deferred[mine], rate.kept[mine])
            rows.append(so[:, among].mean(axis=1))
        return np.stack(rows)

    sizes = np.array([len(mine) for mine in members]) / num_cases
    is_first = (first[:, None] == np.arange(num_experts)).astype(float)
    asked = np.stack(
        [
            asks.astype(float) @ is_first[mine]
            for mine, asks in zip(members, deferred, strict=True)
        ]
    )
    return _Program(
        thresholds=cuts,
        right=sizes[:, None] * means(accuracy),
        asked=np.moveaxis(asked, 2, 0) / num_cases,
        rates=np.stack([means(rate) for rate in shared]),
        prices=prices,
        limits=np.append(float(max_deferral), rates),
    )


def _members(groups: Array, num_cases: int) -> list[np.ndarray]:
    """The cases of each group, int."""
    require_shape("groups", groups, "[B]", min_size=1)
    require_exact_shape("groups", groups, (num_cases,), "[B]")
    require_integer("groups", groups, "number the groups 0, 1, ...")
    require_all("groups", groups, lambda v: v >= 0, "be >= 0")
    numbers = np.asarray(groups).astype(int)
    present = np.unique(numbers)
    if len(present) <= numbers.max():
        absent = int(np.argmin(present == np.arange(len(present))))
        raise ValueError(
            f"groups must be numbered 0, 1, ... and none be empty: there is a group"
            f" {numbers.max()} and none of {absent}"
        )
    return [np.flatnonzero(numbers == group) for group in present]


def _cuts(
    greatest: np.ndarray, members: list[np.ndarray], num_thresholds: int
) -> np.ndarray:
    """Thresholds of each group, half way between scores, ``[G, P]``."""
    every = []
    for mine in members:
        ranked = np.sort(greatest[mine][greatest[mine] > -np.inf])
        steps = np.arange(1, num_thresholds + 1) * len(ranked) // (num_thresholds + 1)
        below = np.unique(ranked[steps]) if len(ranked) else ranked
        above = np.searchsorted(ranked, below, side="right")
        inner = above < len(ranked)
        below, above = below[inner], ranked[above[inner]]
        half_way = below + (above - below) / 2
        # Half way between neighbours among floats is one of them.
        between = np.where(half_way < above, half_way, below)
        every.append(np.unique(np.concatenate([between, [-np.inf, 0.0, np.inf]])))
    longest = max(map(len, every))
    return np.stack(
        [np.pad(cuts, (0, longest - len(cuts)), mode="edge") for cuts in every]
    ).astype(greatest.dtype)


def _rows(program: _Program) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Coefficients of the weights ``[G * P]``, the least of each rate, and the gap.

    Returns:
      Sums of each group's weights, ``[G, V]``; what is limited, ``[1 + M, V]``; and how
      far each group's rate is above the least, less the gap, beside how far it is below
      it, ``[2 * C * G, V]``, none of which may be > 0.
    """
    num_rates, num_groups, num_cuts = program.rates.shape
    num_weights = num_groups * num_cuts
    width = num_weights + num_rates + 1
    sums = np.zeros((num_groups, width))
    above = np.zeros((num_rates, num_groups, width))
    below = np.zeros((num_rates, num_groups, width))
    for group in range(num_groups):
        mine = slice(group * num_cuts, (group + 1) * num_cuts)
        sums[group, mine] = 1.0
        above[:, group, mine] = program.rates[:, group]
        below[:, group, mine] = -program.rates[:, group]
    for rate in range(num_rates):
        above[rate, :, num_weights + rate] = -1.0
        below[rate, :, num_weights + rate] = 1.0
    above[:, :, -1] = -1.0
    limited = np.zeros((len(program.limits), width))
    limited[0, :num_weights] = program.asked.sum(axis=0).ravel()
    limited[1:, :num_weights] = program.asked.reshape(-1, num_weights)
    return sums, limited, np.concatenate([above, below]).reshape(-1, width)


def _minimum(
    program: _Program, cost: np.ndarray, most: float, randomized: bool
) -> np.ndarray | None:
    """Variables of least cost with a gap of at most that; None: there are none."""
    sums, limited, differences = _rows(program)
    num_weights = program.right.size
    upper = np.ones(len(cost))
    upper[-1] = most
    whole = np.zeros(len(cost))
    whole[:num_weights] = not randomized
    # As far as shares of cases are rounded.
    limits = program.limits * (1 + 1e-12)
    found = scipy.optimize.milp(
        cost,
        integrality=whole,
        bounds=scipy.optimize.Bounds(np.zeros(len(cost)), upper),
        constraints=[
            scipy.optimize.LinearConstraint(scipy.sparse.csr_array(sums), 1.0, 1.0),
            scipy.optimize.LinearConstraint(
                scipy.sparse.csr_array(limited), -np.inf, limits
            ),
            scipy.optimize.LinearConstraint(
                scipy.sparse.csr_array(differences), -np.inf, 0.0
            ),
        ],
        options={"mip_rel_gap": 0.0},
    )
    if found.x is None and "infeasible" not in found.message:
        raise RuntimeError(f"the thresholds were not found: {found.message}")
    return found.x


def _solve(
    program: _Program, tolerance: float, randomized: bool
) -> FairThresholds | None:
    num_weights = program.right.size
    cost = np.zeros(num_weights + len(program.rates) + 1)
    paid = np.tensordot(program.prices + _EQUAL, program.asked, axes=1)
    cost[:num_weights] = (paid - program.right).ravel()
    found = _minimum(program, cost, tolerance, randomized)
    if found is None:
        return None
    weights = np.maximum(found[:num_weights].reshape(program.right.shape), 0.0)
    # What is 0 but for the solver's tolerance would be drawn now and then.
    weights = np.where(weights < 1e-9, 0.0, weights)
    weights = weights / weights.sum(axis=1, keepdims=True)
    rates = (program.rates * weights).sum(axis=2)
    return FairThresholds(
        thresholds=jnp.asarray(program.thresholds),
        weights=jnp.asarray(weights, float),
        accuracy=float((program.right * weights).sum()),
        asked=(program.asked * weights).sum(axis=(1, 2)),
        rates=rates,
        gap=float(np.ptp(rates, axis=1).max()),
    )


def _least_tolerance(program: _Program, randomized: bool) -> float:
    """The least gap of any thresholds within the limits, up to four digits."""
    cost = np.zeros(program.right.size + len(program.rates) + 1)
    cost[-1] = 1.0
    found = _minimum(program, cost, 1.0, randomized)
    if found is None:
        always = program.asked.min(axis=2).sum()
        raise ValueError(
            f"max_deferral and rates must leave room for the {always:.4g} of all cases"
            " whose score is NaN, which every threshold defers: raise them, or mend"
            " those cases"
        )
    # Up, but not by what the solver rounds.
    return float(np.ceil(found[-1] * 1e4 - 1e-3) / 1e4)


def _rate_of_label(outcomes: _Outcomes, label: int) -> _Rate:
    if outcomes.num_classes != 2:
        raise ValueError(
            "criterion must be demographic_parity, equal_accuracy or deferral_rate"
            f" where there are {outcomes.num_classes} classes: equalized_odds and"
            " equal_opportunity are about the sensitivity to label 1 of two"
        )
    among = outcomes.known & (outcomes.labels == label)
    return _Rate(
        among, outcomes.predicted == 1, outcomes.answered == 1, f" of label {label}"
    )
