"""Small positive definite systems, many at once.

Not by LAPACK: its calls from two host devices at a time wait for each other's threads
and may never return, and for a dozen unknowns it is slower than plain arithmetic that
`jax.vmap` turns into vectors.
"""

from typing import Any

import jax
import jax.numpy as jnp

from l2d_jax.types import Array


def solve(matrix: Array, right: Array) -> tuple[jax.Array, jax.Array]:
    """Solution of a system, and the logarithm of its determinant.

    By Gauss-Jordan elimination without pivoting, which is stable for positive definite
    matrices. Meant for D up to a few dozen.

    Args:
      matrix: symmetric and positive definite, float ``[D, D]``.
      right: right-hand sides, float ``[D, N]``.

    Returns:
      The solutions, float ``[D, N]``, and log det of the matrix, float ``[]``. Where
      the matrix is not positive definite log det is not finite, and the solutions mean
      nothing.

    Raises:
      ValueError: the shapes do not fit.
    """
    size = jnp.shape(matrix)[0] if jnp.ndim(matrix) else 0
    if jnp.shape(matrix) != (size, size) or jnp.shape(right)[:-1] != (size,):
        raise ValueError(
            f"matrix must be [D, D] and right [D, N], got {jnp.shape(matrix)} and"
            f" {jnp.shape(right)}; use jax.vmap for many systems"
        )
    table = jnp.concatenate([jnp.asarray(matrix), jnp.asarray(right)], axis=1)

    def eliminate(row: Any, carry: tuple[jax.Array, jax.Array]) -> Any:
        table, log_det = carry
        pivot = table[row, row]
        scaled = table[row] / pivot
        is_row = (jnp.arange(size) == row)[:, None]
        table = jnp.where(is_row, scaled, table - table[:, row][:, None] * scaled)
        return table, log_det + jnp.log(pivot)

    table, log_det = jax.lax.fori_loop(
        0, size, eliminate, (table, jnp.zeros((), table.dtype))
    )
    return table[:, size:], log_det
