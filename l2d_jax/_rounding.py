"""What rounding leaves: of a float next to another, and of a sum.

A threshold that is found on the host, just below a score or no less than a number of
more digits, must compare with scores on the device as it does here. Devices take
subnormal numbers for 0.
"""

import math

import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike


def of_sum(num_terms: int, kind: DTypeLike) -> float:
    r"""How far a sum may be off by rounding, as a share of the sum of magnitudes.

    .. math:: \min(n, 8 \sqrt{n})\, u

    The bound of n terms, or where it is less one that all but never fails: errors of
    rounding are as often up as down. The first alone would take one vote of 3,000 for
    rounding.

    Args:
      num_terms: n, >= 1.
      kind: dtype of the sum, whose unit roundoff is u.

    References:
      Higham and Mary, "A New Approach to Probabilistic Rounding Error Analysis", 2019.
    """
    unit = 0.5 * float(jnp.finfo(kind).eps)
    return min(num_terms, 8 * math.sqrt(num_terms)) * unit


def varies(values: np.ndarray) -> np.ndarray:
    """Whether each column holds more than what rounding has left of a constant.

    Args:
      values: float ``[N, D]``, finite.

    Returns:
      Bool ``[D]``; 0.3 next to 3 * 0.1 is no variation.
    """
    largest = np.abs(values).max(axis=0, initial=0.0)
    return np.ptp(values, axis=0) > 8 * np.finfo(values.dtype).eps * largest


def whole_part(share: float, size: int) -> int:
    """The whole part of a share times a size, as the share is meant.

    The most k with k / size no more than the share, in the share's own precision:
    .29 * 100 is 28.999999999999996 and .7 in float32 is less than 7 / 10, and 29 and 7
    are meant.

    Args:
      share: in [0, 1].
      size: >= 0.
    """
    own = np.asarray(share)
    own = own if own.dtype.kind == "f" else own.astype(float)
    shares = np.arange(size + 1) / max(size, 1)
    return int((shares.astype(own.dtype)[1:] <= own).sum())


def flushed(values: np.ndarray) -> np.ndarray:
    """The values, 0 where they are subnormal."""
    return np.where(np.abs(values) < np.finfo(values.dtype).tiny, 0, values).astype(
        values.dtype
    )


def just_below(values: np.ndarray) -> np.ndarray:
    """The greatest normal float or 0 that is less than each value, of its dtype."""
    below = np.nextafter(flushed(values), np.asarray(-np.inf, values.dtype))
    return _down(below)


def just_above(values: np.ndarray) -> np.ndarray:
    """The least normal float or 0 that is greater than each value, of its dtype."""
    return -just_below(-values)


def round_down(values: np.ndarray, kind: DTypeLike) -> np.ndarray:
    """The greatest normal float of a dtype, or 0, that is no more than each value."""
    with np.errstate(over="ignore"):
        rounded = values.astype(kind)
    below = np.nextafter(rounded, np.asarray(-np.inf, kind))
    return _down(np.where(rounded.astype(values.dtype) > values, below, rounded))


def round_up(values: np.ndarray, kind: DTypeLike) -> np.ndarray:
    """The least normal float of a dtype, or 0, that is no less than each value."""
    return -round_down(-values, kind)


def _down(values: np.ndarray) -> np.ndarray:
    tiny = np.finfo(values.dtype).tiny
    return np.where((values < 0) & (values > -tiny), -tiny, flushed(values)).astype(
        values.dtype
    )
