"""Functions of cases, a fixed number of them at a time."""

from collections.abc import Callable

import jax
import numpy as np

from l2d_jax.types import Array, PyTree

# Fixed, so that a program is compiled once, and what else is in a table changes no
# last bit of a case.
_AT_ONCE = 1024


def in_chunks(
    function: Callable[[PyTree, Array], PyTree], params: PyTree, *columns: np.ndarray
) -> PyTree:
    """A pure function of rows, a fixed number of them at a time, as NumPy arrays.

    Args:
      function: ``(params, *columns [B, ...]) -> pytree of [B, ...]``.
      params: what it reads besides.
      *columns: arrays ``[N, ...]``, N > 0.
    """
    found = []
    for first in range(0, len(columns[0]), _AT_ONCE):
        some = [column[first : first + _AT_ONCE] for column in columns]
        size = len(some[0])
        padded = [
            np.pad(column, [(0, _AT_ONCE - size)] + [(0, 0)] * (column.ndim - 1))
            for column in some
        ]
        out = function(params, *padded)
        found.append(jax.tree.map(lambda leaf, size=size: np.asarray(leaf)[:size], out))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *found)
