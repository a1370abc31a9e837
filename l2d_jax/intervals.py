r"""Intervals of means that cover what varies: seeds, and the cases they are tested on.

A mean over S seeds on the same test cases has two sources of error: other seeds would
train other systems, and other cases would be answered otherwise. Its variance is taken
to be the sum of

* that between seeds, :math:`s^2 / S`, from the metric of each seed, and
* that between cases, from :data:`NUM_RESAMPLES` bootstrap resamples of the cases, the
  same for all seeds and methods: the variance of the mean over seeds.

Noise of a single seed on a single case is in both, so the sum errs on the side of a
wider interval (Owen, "The Pigeonhole Bootstrap", 2007). The interval is Student's with
Satterthwaite's degrees of freedom. A difference of two methods is paired by seed and
case: it is the same computation on the differences.

Where the repetitions are people, each with cases of their own, or splits of one data
set, there is one source: Student's interval, or `split_interval`.
"""

from typing import NamedTuple

import numpy as np
from scipy import special

NUM_RESAMPLES = 100
"""Bootstrap resamples of the test cases."""


class Interval(NamedTuple):
    """Means and how sure they are, arrays of one shape.

    Attributes:
      n: repetitions that count: those whose value is not NaN.
      mean: over them; NaN where there are none.
      low: lower end of the 95 % interval; NaN for one seed whose cases are not known.
      high: its upper end.
      p_value: of the hypothesis that the mean is 0, two-sided; 1 where it is 0 without
        any spread, and 0 where it is another number without any.
    """

    n: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    p_value: np.ndarray


def draw_resamples(num_cases: int, seed: int = 0) -> np.ndarray:
    """How often each resample has each case, uint8 ``[NUM_RESAMPLES, num_cases]``."""
    generator = np.random.default_rng([seed, num_cases])
    even = np.full(num_cases, 1.0 / num_cases)
    counts = generator.multinomial(num_cases, even, NUM_RESAMPLES)
    return np.minimum(counts, 255).astype(np.uint8)


def mean_interval(
    values: np.ndarray, resampled: np.ndarray | None = None, level: float = 0.95
) -> Interval:
    """Intervals of means over seeds and cases.

    Args:
      values: of each seed, float ``[S, ...]``; NaN where it is not defined.
      resampled: the same under each resample of the cases, float ``[S, ...,
        NUM_RESAMPLES]``; None where it is not known.
      level: confidence in (0, 1).
    """
    values = np.asarray(values, float)
    known = ~np.isnan(values)
    n, mean = known.sum(axis=0), _mean(values)
    seeds = _variance(values, mean)
    variance = seeds / np.maximum(n, 1)
    spread = variance**2 / np.maximum(n - 1, 1)
    if resampled is not None:
        draws = np.where(known[..., None], np.asarray(resampled, float), np.nan)
        means = np.moveaxis(_mean(draws), -1, 0)
        cases = _variance(means, _mean(means))
        variance = variance + cases
        spread = spread + cases**2 / (NUM_RESAMPLES - 1)
    freedom = np.where(spread > 0, variance**2 / np.where(spread > 0, spread, 1), 1.0)
    deviation = np.sqrt(variance)
    half = special.stdtrit(freedom, (1 + level) / 2) * deviation
    unknown = (n == 0) | ((n == 1) & (resampled is None))
    half = np.where(unknown, np.nan, half)
    p_value = _p_value(mean, deviation, freedom)
    p_value = np.where(unknown, np.nan, p_value)
    return Interval(n, mean, mean - half, mean + half, p_value)


def split_interval(
    values: np.ndarray,
    test_to_train: float,
    level: float = 0.95,
    center: np.ndarray | float | None = None,
) -> Interval:
    """Corrected t intervals of means over overlapping splits of one data set.

    Splits of repeated cross-validation share most of their training rows, so Student's
    interval is too narrow; the variance of the mean is taken to be ``1 / n +
    test_to_train`` of that of the values.

    Args:
      values: one for each split, float ``[S, ...]``; NaN where it is not defined.
      test_to_train: size of a test part over that of a training part, >= 0; 1/4 for
        five folds. At 0 it is Student's interval.
      level: confidence in (0, 1).
      center: mean that the interval is around, ``[...]``, such as that over all cases
        of parts that differ in size; None: that of the values.

    References:
      Nadeau and Bengio, "Inference for the Generalization Error", 2003, Section 3.
    """
    values = np.asarray(values, float)
    n, mean = (~np.isnan(values)).sum(axis=0), _mean(values)
    shares = 1.0 / np.maximum(n, 1) + test_to_train
    deviation = np.sqrt(_variance(values, mean) * shares)
    mean = mean if center is None else np.asarray(center, float)
    freedom = np.maximum(n - 1, 1)
    half = special.stdtrit(freedom, (1 + level) / 2) * deviation
    half = np.where(n < 2, np.nan, half)
    p_value = np.where(n < 2, np.nan, _p_value(mean, deviation, freedom))
    return Interval(n, mean, mean - half, mean + half, p_value)


def _p_value(
    mean: np.ndarray, deviation: np.ndarray, freedom: np.ndarray
) -> np.ndarray:
    """Two-sided, of Student's t; what does not vary is 0 for certain, or is not."""
    ratio = np.abs(mean) / np.where(deviation > 0, deviation, 1.0)
    varies = 2.0 * special.stdtr(freedom, -ratio)
    return np.where(deviation > 0, varies, np.where(mean == 0, 1.0, 0.0))


def holm(p_values: np.ndarray) -> np.ndarray:
    """p-values corrected for how many there are, by Holm's method.

    Args:
      p_values: float ``[C]``, in [0, 1], without NaN, C >= 1.
    """
    # By hand: that of statsmodels collects garbage twice a call, which beside JAX's
    # objects takes a fifth of a second for each family of a comparison.
    order = np.argsort(p_values)
    steps = p_values[order] * np.arange(len(p_values), 0, -1)
    corrected = np.empty_like(steps)
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return corrected


def _mean(values: np.ndarray) -> np.ndarray:
    """Along the first axis, over what is not NaN; NaN where nothing is."""
    known = ~np.isnan(values)
    count = known.sum(axis=0)
    total = np.where(known, values, 0.0).sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _variance(values: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Along the first axis, of a sample; 0 for fewer than two values."""
    known = ~np.isnan(values)
    count = known.sum(axis=0)
    squares = np.where(known, np.square(values - mean), 0.0).sum(axis=0)
    return np.where(count > 1, squares / np.maximum(count - 1, 1), 0.0)
