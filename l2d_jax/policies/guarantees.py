"""The most coverage whose error is small, with confidence: of kept cases, of the team.

A threshold is certified on held-out cases, which nothing was chosen on, for those to
come of their kind.
"""

from typing import NamedTuple

import numpy as np
from jax.typing import ArrayLike
from scipy import stats

from l2d_jax._checks import require_all, require_exact_shape, require_shape
from l2d_jax._rounding import flushed, just_below
from l2d_jax.policies._arguments import first_answers, require_one_answers, rule_scores
from l2d_jax.types import Array, Decision


class Certificate(NamedTuple):
    """A threshold on the defer score, and what is known of keeping up to it.

    Attributes:
      threshold: keep where the score is <= this, as
        `l2d_jax.decisions.apply_threshold` does; in the precision of JAX's floats.
      coverage: share of the held-out cases that are kept, in (0, 1].
      error: share of those that are wrong, in [0, 1].
      bound: what the error of kept cases is below, with confidence in all thresholds
        that were tried at once, in [0, 1].
      num_kept: held-out cases that are kept, >= 1.
    """

    threshold: float
    coverage: float
    error: float
    bound: float
    num_kept: int


class TeamCertificate(NamedTuple):
    """A threshold on the greatest defer score, and what is known of the team by it.

    Attributes:
      threshold: defer where the score is above, as `l2d_jax.decisions.apply_threshold`
        does; in the precision of the scores.
      coverage: share of the held-out cases that are kept, in [0, 1].
      error: share of the cases that count in which the team is wrong, in [0, 1].
      bound: what the error of the team is below, with confidence, in [0, 1].
      num_cases: held-out cases that count.
      num_unanswered: of those, the deferred ones that nobody answered, which are
        counted as wrong.
    """

    threshold: float
    coverage: float
    error: float
    bound: float
    num_cases: int
    num_unanswered: int


def certify(
    scores: ArrayLike,
    wrong: ArrayLike,
    max_error: float,
    confidence: float = 0.95,
    num_thresholds: int = 20,
) -> Certificate | None:
    """Threshold of most coverage whose error among kept cases is <= ``max_error``.

    Thresholds lie just below order statistics of the scores, at equal steps of the
    number kept; given one, the cases below it are independent and alike, so the exact
    binomial tail holds. Bonferroni shares 1 - confidence among them: the guarantee is
    for whichever is chosen. The cases must be ones that nothing was chosen on, neither
    a network's epoch nor a method, and those to come of their kind.

    Args:
      scores: defer score, float ``[B]``, with several experts that of the greatest;
        equal ones are kept or deferred together. NaN is always deferred, and -inf,
        nobody to ask, always kept.
      wrong: whether the classifier is wrong, ``[B]``, 0 or 1.
      max_error: in (0, 1).
      confidence: in (0, 1).
      num_thresholds: thresholds tried, >= 1.

    Returns:
      The certificate, or None where these cases cannot give the guarantee. Even
      without an error it takes log((1 - confidence) / num_thresholds) /
      log(1 - max_error) kept cases.

    Raises:
      ValueError: shapes disagree, or a value is out of its range.

    References:
      Geifman and El-Yaniv, "Selective Classification for Deep Neural Networks", 2017,
      with order statistics in place of their binary search.
    """
    require_shape("scores", scores, "[B]")
    # In whose precision the threshold must be below a score.
    score = rule_scores(scores)
    require_exact_shape("wrong", wrong, score.shape, "[B]")
    require_all("wrong", wrong, lambda v: np.isin(v, (0, 1)), "be 0 or 1")
    _require_open(max_error=max_error, confidence=confidence)
    if num_thresholds < 1:
        raise ValueError(f"num_thresholds must be >= 1, got {num_thresholds}")
    known = ~np.isnan(score)
    order = np.argsort(score[known])
    ranked = score[known][order]
    if not len(ranked):
        return None
    errors = np.append(0, np.cumsum(np.asarray(wrong)[known][order].astype(int)))
    ranks = np.arange(1, num_thresholds) * len(ranked) // num_thresholds
    cuts = np.append(just_below(ranked[ranks]), np.asarray(np.inf, ranked.dtype))
    kept = np.searchsorted(ranked, cuts, side="right")
    # Nothing is below -inf, and its own cases say nothing of a threshold there.
    kept[cuts == -np.inf] = 0
    wrong_kept = errors[kept]
    share = (1 - confidence) / num_thresholds
    some_right = wrong_kept < kept
    bound = np.ones(len(cuts))
    bound[some_right] = stats.beta.ppf(
        1 - share, wrong_kept[some_right] + 1, (kept - wrong_kept)[some_right]
    )
    passed = np.flatnonzero(bound <= max_error)
    if not len(passed):
        return None
    best = passed[-1]
    num_kept = int(kept[best])
    return Certificate(
        threshold=float(cuts[best]),
        coverage=num_kept / len(score),
        error=float(wrong_kept[best] / num_kept),
        bound=float(bound[best]),
        num_kept=num_kept,
    )


def certify_team(
    decision: Decision,
    labels: Array,
    expert_labels: Array,
    thresholds: ArrayLike,
    max_error: float,
    confidence: float = 0.95,
    in_sequence: bool = False,
    unanswered_wrong: bool = True,
) -> TeamCertificate | None:
    r"""Threshold of fewest deferrals by which the team's error is <= ``max_error``.

    The team is wrong where a kept case has a wrong prediction, or a deferred one a
    wrong answer of whoever is asked, the expert of the greatest score. At a threshold
    that was fixed before, wrong cases are binomial among n, so that the probability of
    as few as w of them with an error above the level is at most

    .. math:: P(\operatorname{Bin}(n, \epsilon) \le w)

    and a threshold passes where that is no more than its share of 1 - confidence. The
    error need neither rise nor fall with the threshold: where experts err, to defer all
    is no safer than to keep all.

    Who is asked may not have answered on a held-out case. Counted as wrong where it is
    deferred, such a case makes the certificate true of a team whose experts may stay
    silent, whatever the reason; left out, the certificate is of cases that are
    answered, and true of all only where silence has nothing to do with the case.

    Args:
      decision: of the held-out cases, over ``[B]`` and M experts, by scores; answers
        are not shared. NaN is always deferred, -inf, nobody to ask, always kept.
      labels: class of each case, int ``[B]``, in [0, K).
      expert_labels: answers of the experts, int ``[B, M]``, in [0, K); -1 of who was
        not asked.
      thresholds: that are tried, float ``[T]``, T >= 1, fixed without these cases:
        quantiles of the scores of validation cases. inf keeps all, -inf defers all.
      max_error: in (0, 1).
      confidence: in (0, 1).
      in_sequence: whether thresholds are tested in their order, up to the first that
        fails and each at 1 - confidence. For an order from the surest on, as by the
        team's error on validation data. Otherwise each has a T-th of it (Bonferroni).
      unanswered_wrong: whether a deferred case without an answer counts as wrong; else
        every case whose expert did not answer is left out, deferred or kept.

    Returns:
      The certificate, or None where these cases cannot give the guarantee. Even
      without an error it takes log((1 - confidence) / T) / log(1 - max_error) of them,
      with T = 1 in sequence.

    Raises:
      TypeError: labels or answers are not of an integer dtype.
      ValueError: shapes disagree, or a value is out of its range.

    References:
      Angelopoulos, Bates, Candes, Jordan and Lei, "Learn then Test: Calibrating
      Predictive Algorithms to Achieve Risk Control", 2021: fixed-sequence testing and
      Bonferroni. The risk of a team, and the rule for silence, are ours.
    """
    _require_open(max_error=max_error, confidence=confidence)
    cuts, kept, errors, silent, num_cases = _team_errors(
        decision, labels, expert_labels, thresholds, unanswered_wrong
    )
    if not num_cases:
        return None
    share = (1 - confidence) / (1 if in_sequence else len(cuts))
    passes = stats.binom.cdf(errors, num_cases, max_error) <= share
    if in_sequence:
        passes = np.logical_and.accumulate(passes)
    if not passes.any():
        return None
    num_kept = kept.sum(axis=1)
    # Of as few deferrals the fewest errors, and of those the first.
    ranks = np.lexsort([errors, -num_kept, ~passes])
    best = ranks[0]
    bound = max_error
    if not in_sequence:
        bound = float(_upper(errors[best], num_cases, share))
    return TeamCertificate(
        threshold=float(cuts[best]),
        coverage=float(num_kept[best] / kept.shape[1]),
        error=float(errors[best] / num_cases),
        bound=bound,
        num_cases=num_cases,
        num_unanswered=int((silent & ~kept[best]).sum()) if unanswered_wrong else 0,
    )


def team_bounds(
    decision: Decision,
    labels: Array,
    expert_labels: Array,
    thresholds: ArrayLike,
    confidence: float = 0.95,
    unanswered_wrong: bool = True,
) -> np.ndarray:
    """What the team's error is below at each threshold, at all of them at once.

    The least of them is the least error that `certify_team`, not in sequence, can
    certify by these cases. As all hold together it may be asked for after it was seen.

    Args:
      decision: as of `certify_team`, and what follows.
      labels: class of each case, int ``[B]``, in [0, K).
      expert_labels: answers of the experts, int ``[B, M]``, -1 of who was not asked.
      thresholds: float ``[T]``, T >= 1, fixed without these cases.
      confidence: in (0, 1), that all bounds hold.
      unanswered_wrong: whether a deferred case without an answer counts as wrong.

    Returns:
      Upper ends of the exact binomial intervals, float ``[T]``, in (0, 1]; 1 where no
      case counts.

    Raises:
      TypeError: labels or answers are not of an integer dtype.
      ValueError: shapes disagree, or a value is out of its range.

    References:
      Clopper and Pearson, "The Use of Confidence or Fiducial Limits Illustrated in the
      Case of the Binomial", 1934; Bonferroni.
    """
    _require_open(confidence=confidence)
    cuts, _, errors, _, num_cases = _team_errors(
        decision, labels, expert_labels, thresholds, unanswered_wrong
    )
    return _upper(errors, num_cases, (1 - confidence) / len(cuts))


def _team_errors(
    decision: Decision,
    labels: Array,
    expert_labels: Array,
    thresholds: ArrayLike,
    unanswered_wrong: bool,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, int]:
    """Thresholds, kept ``[T, B]``, errors ``[T]``, who is silent ``[B]``, and n."""
    require_one_answers(decision)
    score = rule_scores(decision.defer_score).max(axis=1)
    classes, predicted, answered = first_answers(decision, labels, expert_labels)
    require_shape("thresholds", thresholds, "[T]", min_size=1)
    require_all("thresholds", thresholds, lambda v: ~np.isnan(v), "not be NaN")
    # As the rule compares them.
    cuts = flushed(np.asarray(thresholds).astype(score.dtype))
    silent = (answered < 0) & (score != -np.inf)
    counts = np.ones(len(score), bool) if unanswered_wrong else ~silent
    kept = score <= cuts[:, None]
    # No answer is no class either.
    wrong = np.where(kept, predicted, answered) != classes
    return cuts, kept, (counts & wrong).sum(axis=1), silent, int(counts.sum())


def _upper(errors: np.ndarray, num_cases: int, share: float) -> np.ndarray:
    """Upper end of the exact interval of a rate, one-sided; 1 where all are errors."""
    some_right = errors < num_cases
    rest = np.where(some_right, num_cases - errors, 1)
    return np.where(some_right, stats.beta.ppf(1 - share, errors + 1, rest), 1.0)


def _require_open(**values: float) -> None:
    for name, value in values.items():
        if not 0 < value < 1:
            raise ValueError(f"{name} must be in (0, 1), got {value}")
