"""Checks of arguments, which name the one at fault: the one dialect of the library.

A check of shapes or dtypes raises at trace time. A check of values raises where the
value is concrete; a traced value is its function's own affair.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

# An error of rounding this large, relative to a feature's spread, blurs its values.
_LOST = 1e-4
# How far the sum of probabilities of half precision may be from 1.
_ROUNDED = 0.02


def require_shape(
    name: str,
    value: Any,
    shape: str,
    *,
    min_size: int = 0,
    remedy: str = "vmap over the batch",
) -> None:
    """Raises unless the value has the rank that a shape such as ``[B, K]`` spells."""
    if not hasattr(value, "shape") and not isinstance(value, int | float):
        kind = type(value).__name__
        raise TypeError(f"{name} must be an array of shape {shape}, got {kind}")
    actual = jnp.shape(value)
    axes = [axis for axis in shape.strip("[]").split(",") if axis]
    if len(actual) != len(axes):
        advice = f"; {remedy}" if len(actual) > len(axes) else ""
        raise ValueError(f"{name} must have shape {shape}, got {actual}{advice}")
    if axes and actual[0] < min_size:
        raise ValueError(
            f"{name} must have shape {shape} with at least {min_size} entries, "
            f"got {actual}"
        )


def require_same_shape(name: str, value: Any, other_name: str, other: Any) -> None:
    """Raises unless two values have one shape."""
    if jnp.shape(value) != jnp.shape(other):
        raise ValueError(
            f"{name} must have the shape {jnp.shape(other)} of {other_name}, "
            f"got {jnp.shape(value)}"
        )


def require_integer(name: str, value: Any, remedy: str = "convert it") -> None:
    """Raises unless the value is of integers or booleans."""
    dtype = jnp.result_type(value)
    if not (jnp.issubdtype(dtype, jnp.integer) or dtype == jnp.bool_):
        raise TypeError(f"{name} must be of an integer dtype, got {dtype}; {remedy}")


def require_classes(name: str, values: Any, remedy: str = "convert it") -> None:
    """Raises unless the values are of integers, and fit the device's where concrete."""
    require_integer(name, values, remedy)
    largest = 2**31 - 1
    # A wider integer would be cut to its lower half, and be another class.
    require_all(
        name,
        values,
        lambda v: (v >= -largest - 1) & (v <= largest),
        "fit 32 bits",
    )


def require_label(label: Any, num_classes: int, symbol: str) -> None:
    """Raises unless the value is one label, in [0, K) where concrete."""
    require_shape("label", label, "[]")
    require_integer("label", label)
    known = f" = [0, {num_classes})" if symbol != str(num_classes) else ""
    require_values(
        "label", label, f"be in [0, {symbol}){known}", lambda v: 0 <= v < num_classes
    )


def require_count(name: str, value: Any) -> None:
    """Raises unless the value is a whole number of at least 1, as Python counts."""
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not whole or value < 1:
        raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}")


def require_finite(name: str, value: Any) -> None:
    """Raises where a concrete value is NaN or infinite."""
    require_values(name, value, "be finite", lambda v: abs(v) != float("inf"))


def require_probability(name: str, value: Any) -> None:
    """Raises where a concrete value is not in [0, 1]."""
    require_values(name, value, "be in [0, 1]", lambda v: 0 <= v <= 1)


def require_values(
    name: str, value: Any, must: str, holds: Callable[[Any], Any]
) -> None:
    """Raises where a concrete value has an entry that is NaN or fails ``holds``."""
    if isinstance(value, jax.core.Tracer):
        return
    host = jax.device_get(value)
    for entry in host.ravel() if jnp.ndim(host) else [host]:
        if entry != entry:
            raise ValueError(f"{name} must {must}, got NaN")
        if not holds(entry):
            raise ValueError(f"{name} must {must}, got {entry}")


def require_all(
    name: str, values: Any, holds: Callable[[np.ndarray], Any], must: str
) -> None:
    """Raises where a concrete array has an entry that fails ``holds``, with its row."""
    if isinstance(values, jax.core.Tracer):
        return
    host = np.asarray(values)
    sound = np.asarray(holds(host))
    if not sound.all():
        place = np.unravel_index(int(np.argmin(sound)), sound.shape)
        where = f" in row {place[0]}" if place else ""
        raise ValueError(f"{name} must {must}, got {host[place]}{where}")


def require_distributions(
    name: str,
    values: Any,
    rows: np.ndarray | None = None,
    unknown: bool = False,
    remedy: str = "pass logits through a softmax first",
) -> None:
    """Raises where a concrete array's last axis is no distribution of the classes.

    Args:
      name: of the argument, for the message.
      values: probabilities of the classes, float ``[..., K]``.
      rows: the ones to look at, of the first axis, int ``[N]``. None: all.
      unknown: whether NaN may stand for a distribution that is not known.
      remedy: what to do about it.
    """
    if isinstance(values, jax.core.Tracer):
        return
    host = np.asarray(values)
    host = host.astype(float) if rows is None else host[rows].astype(float)
    total = host.sum(axis=-1)
    # Written so that a NaN is none of them.
    sound = ((host >= 0) & (host <= 1 + _ROUNDED)).all(axis=-1)
    sound &= abs(total - 1) <= _ROUNDED
    if unknown:
        sound |= np.isnan(total)
    if not sound.all():
        place = tuple(int(axis) for axis in np.argwhere(~sound)[0])
        row = place[0] if rows is None or not place else int(rows[place[0]])
        wrong = host[place]
        outside = wrong[~((wrong >= 0) & (wrong <= 1 + _ROUNDED))]
        got = outside[0] if outside.size else f"a sum of {total[place]:.6g}"
        raise ValueError(
            f"{name} must be in [0, 1] and sum to 1 over the classes, got {got} in row"
            f" {row}: {remedy}"
        )


def float32_fault(
    values: np.ndarray, rows: np.ndarray | None = None
) -> tuple[int, str] | None:
    """What float32 does not hold of some features; NaN and infinity are passed over.

    Args:
      values: float64 ``[N, D]``.
      rows: number of each row, int ``[N]``, for the message. None: 0, 1, ...

    Returns:
      The column, and what is wrong with it and the remedy; None where nothing is lost:
      no value is beyond the range, and none varies by little more than is rounded.
    """
    finite = np.isfinite(values)
    exact = np.where(finite, values, 0.0)
    with np.errstate(over="ignore"):
        single = exact.astype(np.float32)
    beyond = ~np.isfinite(single)
    if beyond.any():
        row, column = (int(place) for place in np.argwhere(beyond)[0])
        row = row if rows is None else int(rows[row])
        return column, (
            f"holds a value in row {row} beyond the range of float32, 3.4e38: give it"
            " in another unit"
        )
    # Smaller numbers are 0 on most devices.
    kept = np.where(np.abs(single) < np.finfo(np.float32).tiny, 0.0, single)
    low = np.where(finite, exact, np.inf).min(axis=0, initial=np.inf)
    high = np.where(finite, exact, -np.inf).max(axis=0, initial=-np.inf)
    spread = np.where(low <= high, high - low, 0.0)
    largest = np.abs(exact).max(axis=0, initial=0.0)
    error = np.abs(kept - exact).max(axis=0, initial=0.0)
    varies = spread > 8 * np.finfo(np.float64).eps * largest
    lost = varies & (error > _LOST * spread)
    if lost.any():
        column = int(np.argmax(lost))
        return column, (
            f"varies by {spread[column]:.3g} around {largest[column]:.3g}, which"
            " float32 cannot hold: center and scale it first, as `standardize` of"
            " l2d_jax.data.tabular does"
        )
    return None


def require_exact_shape(
    name: str, array: ArrayLike, shape: tuple[int, ...], axes: str
) -> None:
    """Raises unless the array has the shape, which is that of the named axes."""
    if jnp.shape(array) != shape:
        raise ValueError(
            f"{name} must have shape {axes} = {shape}, got {jnp.shape(array)}"
        )


def require_vectors(axis: str, reference: ArrayLike, **arrays: ArrayLike) -> None:
    """Raises unless every array is a vector as long as the reference."""
    size = (*jnp.shape(reference), 1)[0]
    for name, array in arrays.items():
        require_exact_shape(name, array, (size,), f"[{axis}]")


def require_matrix(name: str, array: ArrayLike, axes: str, min_columns: int) -> None:
    """Raises unless the array has two axes, the second of which is long enough."""
    shape = jnp.shape(array)
    if len(shape) != 2 or shape[1] < min_columns:
        raise ValueError(
            f"{name} must have shape {axes} with at least {min_columns} columns, "
            f"got {shape}"
        )


def poison_unless(valid: jax.Array, value: jax.Array) -> jax.Array:
    """The value, or NaN with a NaN gradient where a traced condition fails."""
    # A product, since the NaN of a select would leave the gradient a silent 0; and a
    # select, since a compiler may make the product of a bool another, of which 0 is 0.
    return jnp.where(valid, value * jnp.where(valid, 1.0, jnp.nan), jnp.nan)
