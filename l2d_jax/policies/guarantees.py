"""The most coverage whose error among kept cases is small, with confidence."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from scipy import stats

from l2d_jax._checks import require_all, require_exact_shape, require_shape


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
    # As the rule has them, in whose precision the threshold must be below a score.
    score = np.asarray(jnp.asarray(scores, float))
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
    if not len(ranked):
        return None
    errors = np.append(0, np.cumsum(np.asarray(wrong)[known][order].astype(int)))
    ranks = np.arange(1, num_thresholds) * len(ranked) // num_thresholds
    below = np.asarray(-np.inf, ranked.dtype)
    cuts = np.append(
        np.nextafter(ranked[ranks], below), np.asarray(np.inf, below.dtype)
    )
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
