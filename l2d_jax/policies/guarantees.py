"""The most coverage whose error among kept cases is small, with confidence."""

from typing import NamedTuple

import numpy as np
from jax.typing import ArrayLike
from scipy import stats

from l2d_jax._checks import require_all, require_exact_shape, require_shape


class Certificate(NamedTuple):
    """A threshold and what is known of it: keep where score <= ``threshold``."""

    threshold: float
    coverage: float
    error: float
    bound: float
    num_kept: int


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
    binomial tail holds. Bonferroni shares 1 - confidence among them. The cases must be
    ones that nothing was chosen on.

    Args:
      scores: defer score, float ``[B]``; NaN is always deferred.
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
    score = np.asarray(scores, np.float64)
    require_exact_shape("wrong", wrong, score.shape, "[B]")
    require_all("wrong", wrong, lambda v: np.isin(v, (0, 1)), "be 0 or 1")
    for name, value in (("max_error", max_error), ("confidence", confidence)):
        if not 0 < value < 1:
            raise ValueError(f"{name} must be in (0, 1), got {value}")
    if num_thresholds < 1:
        raise ValueError(f"num_thresholds must be >= 1, got {num_thresholds}")
    known = ~np.isnan(score)
    order = np.argsort(score[known])
    ranked = score[known][order]
    errors = np.append(0, np.cumsum(np.asarray(wrong)[known][order].astype(int)))
    ranks = np.arange(1, num_thresholds) * len(ranked) // num_thresholds
    cuts = np.append(
        np.nextafter(ranked[ranks], -np.inf) if len(ranked) else [], np.inf
    )
    kept = np.searchsorted(ranked, cuts, side="right")
    delta = (1 - confidence) / num_thresholds
    bound = stats.beta.ppf(
        1 - delta, errors[kept] + 1, np.maximum(kept - errors[kept], 1)
    )
    bound = np.where(errors[kept] < kept, bound, 1.0)
    passed = np.flatnonzero(bound <= max_error)
    if not len(passed):
        return None
    j = passed[-1]
    n = int(kept[j])
    return Certificate(
        float(cuts[j]), n / len(score), errors[n] / n, float(bound[j]), n
    )
