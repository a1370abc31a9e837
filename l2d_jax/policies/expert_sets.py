r"""Whom to consult: a set of experts among whom one is right, with confidence.

Of the estimated probabilities :math:`s_m` that each expert is right, a level is
calibrated on held-out cases that nothing was chosen on. Of a case to come of their
kind, in which someone is right,

.. math:: P(\text{a right one is in the set} \mid \text{someone is right}) \ge
    1 - \alpha

over the calibration cases, too, and whatever the estimates are worth; those of no worth
make large sets. No set helps where nobody is right: such cases calibrate nothing, and
their share is told apart. A set is by rank or by score, and there is no saying which is
smaller.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from l2d_jax._checks import require_all, require_exact_shape, require_matrix
from l2d_jax._rounding import of_sum
from l2d_jax.types import Array, Decision


class ExpertSets(NamedTuple):
    """A level that makes sets of experts, and what it was calibrated on.

    Attributes:
      level: for `members_by_rank` or `members_by_score`, whichever it was fit for.
      nobody_right: share of the cases that anybody answered in which none of the
        answers is right, in [0, 1]; NaN where there is no such case.
      num_cases: in which someone is right, n >= 0; below 1 / alpha - 1 of them every
        set is of everybody.
    """

    level: float
    nobody_right: float
    num_cases: int


def fit_by_rank(
    expert_correct_prob: Array,
    expert_correct: Array,
    alpha: float,
    every: bool = False,
) -> ExpertSets:
    r"""Level for sets that go down the ranks until enough probability is in them.

    A case's statistic is the sum of the probabilities ranked before its first right
    expert, and the level is the :math:`\lceil (n + 1)(1 - \alpha) \rceil`-th smallest
    of them. ``every`` asks for all who are right: the sum is that down to the last
    right expert, who is in it, and sets are as a rule of nearly everybody.

    Args:
      expert_correct_prob: estimated probability that each expert is right, float
        ``[B, M]``, in [0, 1]; a case of any NaN is asked of everybody. For sets of
        deferred cases give deferred cases.
      expert_correct: whether each is right, ``[B, M]``, 0 or 1; NaN of who was not
        asked, who is never the right one: the guarantee is then for a right one among
        who answers, where someone who answers is right. Who cannot be asked has a
        probability of 0 and NaN.
      alpha: in (0, 1).
      every: whether all who are right are to be in the set, with the same confidence.

    Raises:
      ValueError: shapes disagree, or a value is out of its range.

    References:
      Verma, Barrejon and Nalisnick, "Learning to Defer to Multiple Experts: Consistent
      Surrogate Losses, Confidence Calibration, and Conformal Ensembles", 2023,
      Equation 14, is ``every``, with cases in which nobody is right left out. The first
      right one instead is ours.
    """
    probs, right, counts, nobody_right = _calibration(
        expert_correct_prob, expert_correct, alpha
    )
    order, before, upto = (np.asarray(each) for each in _ranked(jnp.asarray(probs)))
    by_rank = np.take_along_axis(right, order, axis=1)
    if every:
        last = by_rank.shape[1] - 1 - by_rank[:, ::-1].argmax(axis=1)
        statistic = np.take_along_axis(upto, last[:, None], axis=1)[:, 0]
    else:
        first = by_rank.argmax(axis=1)
        statistic = np.take_along_axis(before, first[:, None], axis=1)[:, 0]
    # Everybody is asked, however low the level.
    statistic = np.where(np.isnan(probs).any(axis=1), 0.0, statistic)
    num_cases = int(counts.sum())
    missed = _may_miss(alpha, num_cases)
    ranked = np.sort(statistic[counts])
    level = float(ranked[num_cases - missed]) if missed >= 1 else np.inf
    return ExpertSets(level, nobody_right, num_cases)


def fit_by_score(
    expert_correct_prob: Array,
    expert_correct: Array,
    alpha: float,
    every: bool = False,
) -> ExpertSets:
    r"""Level for sets of whoever is probable enough to be right, and the first.

    The greatest level t of :math:`\{m: s_m \ge t\}` and the expert of the greatest
    probability whose loss on n cases has, as conformal risk control asks,

    .. math:: \frac{n}{n + 1} \bar L(t) + \frac{1}{n + 1} \le \alpha

    The loss is whether no right one is in the set, or with ``every`` the share of those
    who are right that is not in it, which is then <= alpha on average.

    Args:
      expert_correct_prob: as of `fit_by_rank`.
      expert_correct: as of `fit_by_rank`.
      alpha: in (0, 1).
      every: whether the share of right ones that are missed is held to alpha, not the
        probability that all of them are.

    Raises:
      ValueError: shapes disagree, or a value is out of its range.

    References:
      Verma, Barrejon and Nalisnick, "Learning to Defer to Multiple Experts: Consistent
      Surrogate Losses, Confidence Calibration, and Conformal Ensembles", 2023, Equation
      15, is ``every``. Its score s + beta (s - kappa) rises with s alone, so that beta
      and kappa make no set that another level of s does not; here there are none, and
      the level is exact and not of a grid. Cases in which nobody is right are left out:
      counted as a loss of 1 they make alpha unreachable. Angelopoulos, Bates, Fisch,
      Lei and Schuster, "Conformal Risk Control", 2024.
    """
    probs, right, counts, nobody_right = _calibration(
        expert_correct_prob, expert_correct, alpha
    )
    num_cases = int(counts.sum())
    first = np.eye(probs.shape[1], dtype=bool)[probs.argmax(axis=1)]
    # Whom a level can miss: not the first, nor anybody where everybody is asked.
    known = counts & ~np.isnan(probs).any(axis=1)
    if every:
        can_miss = right & ~first & known[:, None]
        share = right / np.maximum(right.sum(axis=1, keepdims=True), 1)
        scores, losses = probs[can_miss], share[can_miss]
    else:
        all_missed = known & ~(right & first).any(axis=1)
        scores = np.where(right, probs, -np.inf).max(axis=1)[all_missed]
        losses = np.ones(len(scores))
    order = np.argsort(scores)
    ranked, lost = scores[order], np.append(0.0, np.cumsum(losses[order]))
    # Below each level, equal scores apart, and below infinity.
    levels = np.append(ranked, np.inf)
    below = lost[np.searchsorted(ranked, levels, side="left")]
    allowed = np.flatnonzero(below <= alpha * (num_cases + 1) - 1 + 1e-9)
    level = float(levels[allowed[-1]]) if len(allowed) else -np.inf
    return ExpertSets(level, nobody_right, num_cases)


def members_by_rank(expert_correct_prob: Array, level: Array | float) -> jax.Array:
    """Who is in each set, bool ``[B, M]``: those before whom the sum is <= the level.

    Experts stand in their own order, whatever their rank; of equal ones the first is
    ranked first. The expert of the greatest probability is always in the set, and
    everybody where a probability is NaN.

    Args:
      expert_correct_prob: estimated probability that each expert is right, float
        ``[B, M]``, in [0, 1].
      level: from `fit_by_rank`, float ``[]``, >= 0; inf: everybody.

    Raises:
      ValueError: a concrete probability or level is out of its range.
    """
    _require_probs(expert_correct_prob)
    require_all("level", level, lambda v: v >= 0, "be >= 0")
    probs = jnp.asarray(expert_correct_prob, float)
    order, before, _ = _ranked(probs)
    # A sum may be rounded otherwise here than where the level was one; nobody is lost
    # by the greater of the two.
    num_experts = probs.shape[1]
    slack = 2 * of_sum(num_experts, probs.dtype) * jnp.maximum(level, 1.0)
    within = ~(before > level + slack)
    members = jnp.take_along_axis(within, jnp.argsort(order, axis=1), axis=1)
    return members | jnp.isnan(probs).any(axis=1, keepdims=True)


def members_by_score(expert_correct_prob: Array, level: Array | float) -> jax.Array:
    """Who is in each set, bool ``[B, M]``: whose probability is >= the level.

    The expert of the greatest probability, of equal ones the first, is always in it,
    and everybody where a probability is NaN.

    Args:
      expert_correct_prob: estimated probability that each expert is right, float
        ``[B, M]``, in [0, 1].
      level: from `fit_by_score`, float ``[]``; inf: the first alone.

    Raises:
      ValueError: a concrete probability is out of its range, or the level is NaN.
    """
    _require_probs(expert_correct_prob)
    require_all("level", level, lambda v: ~np.isnan(v), "not be NaN")
    probs = jnp.asarray(expert_correct_prob, float)
    first = jnp.argmax(probs, axis=1)[:, None] == jnp.arange(probs.shape[1])
    unknown = jnp.isnan(probs).any(axis=1, keepdims=True)
    return ~(probs < level) | first | unknown


def consult(decision: Decision, members: Array) -> Decision:
    """The decision where a set votes, one vote each, on whatever is deferred.

    `l2d_jax.decisions.answer` is the majority's. Who cannot be asked, of a score of
    -inf, is left out; where that leaves nobody the decision stays as it was.

    Args:
      decision: over ``[B]`` and M experts.
      members: who is in the set of each case, bool ``[B, M]``.

    Returns:
      The decision with another ``allocation``; what the classifier answers alone is as
      it was.

    Raises:
      ValueError: ``members`` is of another shape.
    """
    scores = jnp.asarray(decision.defer_score)
    require_exact_shape("members", members, scores.shape, "[B, M]")
    weights = jnp.asarray(decision.allocation)
    voters = jnp.asarray(members, bool) & (scores != -jnp.inf)
    size = voters.sum(axis=1, keepdims=True)
    shares = jnp.pad(voters / jnp.maximum(size, 1), ((0, 0), (0, 1)))
    votes = (size > 0) & (weights[:, -1:] < 1)
    return decision._replace(allocation=jnp.where(votes, shares, weights))


def _ranked(probs: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Experts by rank, and the sum before each rank and down to it, ``[B, M]``."""
    order = jnp.argsort(-probs, axis=1, stable=True)
    upto = jnp.cumsum(jnp.take_along_axis(probs, order, axis=1), axis=1)
    return order, jnp.pad(upto[:, :-1], ((0, 0), (1, 0))), upto


def _calibration(
    expert_correct_prob: Array, expert_correct: Array, alpha: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Probabilities, who is right, in which cases someone is, and how often nobody."""
    _require_probs(expert_correct_prob)
    # In the precision that sets are made in.
    probs = np.asarray(jnp.asarray(expert_correct_prob, float))
    require_exact_shape("expert_correct", expert_correct, probs.shape, "[B, M]")
    correct = np.asarray(expert_correct, float)
    require_all(
        "expert_correct",
        correct,
        lambda v: (v == 0) | (v == 1) | np.isnan(v),
        "be 0 or 1, or NaN of who was not asked",
    )
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must be in (0, 1), got {alpha}")
    right = correct == 1
    someone = right.any(axis=1)
    answered = ~np.isnan(correct).all(axis=1)
    nobody = float((~someone[answered]).mean()) if answered.any() else np.nan
    return probs, right, someone, nobody


def _require_probs(expert_correct_prob: Array) -> None:
    require_matrix("expert_correct_prob", expert_correct_prob, "[B, M]", 1)
    require_all(
        "expert_correct_prob",
        expert_correct_prob,
        lambda v: ((v >= 0) & (v <= 1)) | np.isnan(v),
        "be in [0, 1], or NaN",
    )


def _may_miss(alpha: float, num_cases: int) -> int:
    """How many of n + 1 cases a set may miss; alpha is rounded."""
    return int(np.floor(alpha * (num_cases + 1) * (1 + 1e-12)))
