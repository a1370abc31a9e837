"""Another threshold on the defer score than 0."""

import jax
import jax.numpy as jnp
import numpy as np

from l2d_jax._checks import require_all, require_exact_shape
from l2d_jax._rounding import round_up
from l2d_jax.decisions.rule import allocate
from l2d_jax.types import Array, Decision


def threshold_for_coverage(defer_score: Array, coverage: Array | float) -> Array:
    """Threshold on the defer score that keeps a given fraction of these inputs.

    Deferring where ``defer_score > threshold`` keeps the smallest fraction >=
    ``coverage`` that a threshold can: exactly 0 at coverage 0, all at 1, and more than
    asked only where B times the coverage is not whole or scores tie. Choose it on
    validation data and use it unchanged on test data.

    Args:
      defer_score: inclination to defer, float ``[B]``, finite or -inf, which is never
        deferred, B >= 1; with several experts that of the greatest.
      coverage: fraction to keep, float ``[]``, in [0, 1]; traced.

    Returns:
      The threshold, float ``[]``, in units of the score. Of scores that the device
        rounds (float64 where JAX computes with float32) it is rounded up, so that the
        fraction is kept of both. NaN where a traced score is NaN or +inf.

    Raises:
      ValueError: if ``defer_score`` is not a vector with B >= 1, ``coverage`` is not a
        scalar or, when concrete, leaves [0, 1], or a concrete score is NaN or +inf.
    """
    size = jnp.size(defer_score)
    require_all("defer_score", defer_score, lambda v: v < np.inf, "be finite, or -inf")
    require_exact_shape("defer_score", defer_score, (max(size, 1),), "[B]")
    require_exact_shape("coverage", jnp.asarray(coverage), (), "[]")
    if not isinstance(coverage, jax.core.Tracer) and not 0 <= float(coverage) <= 1:
        raise ValueError(f"coverage must be in [0, 1], got {coverage}")
    scores = jnp.sort(_rounded_up(defer_score))
    # Without the slack, rounding in 0.7 * 10 would keep 8 of 10.
    coverage = jnp.asarray(coverage, float)
    slack = 1 - 2 * jnp.finfo(coverage.dtype).eps
    num_kept = jnp.ceil(coverage * size * slack).astype(int)
    below_all = scores[0] - (1 + jnp.abs(scores[0]))
    found = jnp.where(num_kept > 0, scores[jnp.maximum(num_kept - 1, 0)], below_all)
    # Sorted, what is no score comes last.
    return jnp.where(scores[-1] < jnp.inf, found, jnp.nan)


def _rounded_up(values: Array) -> jax.Array:
    """The values on the device, none of which is less than it was."""
    kind = jnp.result_type(values)
    if not isinstance(values, np.ndarray) or values.dtype == kind:
        return jnp.asarray(values)
    return jnp.asarray(round_up(values, kind))


def apply_threshold(decision: Decision, threshold: Array | float) -> Decision:
    """Defers where the greatest defer score exceeds a threshold instead of 0.

    Args:
      decision: decision with any rule, arrays over ``[B]``.
      threshold: threshold, float ``[]``, in units of ``decision.defer_score``.

    Returns:
      The decision by the rule of this module, with ``defer_score`` less the threshold,
      so that it again defers where the score is > 0; the rest is unchanged.

    Raises:
      ValueError: if ``threshold`` is not a scalar.
    """
    require_exact_shape("threshold", jnp.asarray(threshold), (), "[]")
    defer_score = jnp.asarray(decision.defer_score)
    return decision._replace(
        defer_score=defer_score - threshold,
        # Of the scores themselves: a difference may round to 0.
        allocation=allocate(defer_score, threshold),
    )
