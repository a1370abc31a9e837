r"""Ratios of weighted sums over cases, under one weighting of the cases or many.

An accuracy, a rate or a mean is :math:`\sum_i w_i n_i / \sum_i w_i d_i`, with a
numerator and a denominator of each case, whatever its weight. Kept apart from the
weights, all of them under all resamples of the cases are one product of matrices.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from l2d_jax.types import Array, PyTree

# Cases of a piece of the products: what is held of the weights is this many columns.
_PIECE = 8192


class Ratio(NamedTuple):
    """A measure of each of B cases, before they are weighted.

    Attributes:
      numerator: float or bool ``[B, ...]``.
      denominator: the same, of a shape that broadcasts to the numerator's.
    """

    numerator: Array
    denominator: Array


def mean(values: Array, share: Array) -> Ratio:
    """The mean of values ``[B, ...]`` over what counts of each, a share >= 0 alike.

    A value of which nothing counts may be NaN.
    """
    values, share = jnp.asarray(values, float), jnp.asarray(share, float)
    # The mask keeps a NaN of no share out of the sum: 0 * NaN is NaN.
    return Ratio(jnp.where(share > 0, share * values, 0), share)


def over_experts(ratio: Ratio) -> Ratio:
    """A ratio of cases and experts ``[B, M]`` as one of cases ``[B]``."""
    return Ratio(*(jnp.sum(part, axis=1) for part in ratio))


def weigh(ratios: PyTree, weights: Array) -> PyTree:
    """Ratios under one weighting of the cases.

    Args:
      ratios: a pytree whose leaves are each a `Ratio`, of B cases, ``[B, ...]``.
      weights: float ``[B]``, >= 0; a case of weight 0 counts for nothing, whatever it
        holds.

    Returns:
      The same pytree of float ``[...]``; NaN where the denominators sum to 0.
    """
    weights = jnp.asarray(weights, float)
    return _divide(ratios, _product(weights, _tabulate(ratios, weights)))


def resample(ratios: PyTree, weights: Array, counts: Array) -> PyTree:
    """The same under R resamples of the cases.

    Args:
      ratios: a pytree whose leaves are each a `Ratio`, of B cases, ``[B, ...]``.
      weights: of the cases as they are, float ``[B]``, >= 0.
      counts: how often each resample has each case, ``[R, B]``, >= 0.

    Returns:
      The same pytree of float ``[R, ...]``; NaN in all resamples where it is NaN of one
      case that counts.
    """
    weights, counts = jnp.asarray(weights, float), jnp.asarray(counts)
    table = _tabulate(ratios, weights) * weights[:, None]
    # Counts are of few bits, and are made floats a piece at a time.
    num_pieces = max(1, -(-len(table) // _PIECE))
    length = -(-len(table) // num_pieces)
    padding = num_pieces * length - len(table)
    table = jnp.pad(table, ((0, padding), (0, 0)))
    counts = jnp.pad(counts, ((0, 0), (0, padding)))

    def add(sums: jax.Array, first: jax.Array) -> tuple[jax.Array, None]:
        of_piece = jax.lax.dynamic_slice_in_dim(counts, first, length, 1)
        rows = jax.lax.dynamic_slice_in_dim(table, first, length)
        return sums + _product(of_piece.astype(table.dtype), rows), None

    nothing = jnp.zeros((len(counts), table.shape[1]), table.dtype)
    sums, _ = jax.lax.scan(add, nothing, length * jnp.arange(num_pieces))
    return _divide(ratios, sums)


def _tabulate(ratios: PyTree, weights: jax.Array) -> jax.Array:
    """Numerators and denominators as columns, 0 in rows of weight 0: ``[B, Q]``."""
    columns = [
        jnp.asarray(part, float).reshape(len(weights), math.prod(jnp.shape(part)[1:]))
        for part in jax.tree.leaves(ratios)
    ]
    return jnp.where(weights[:, None] > 0, jnp.concatenate(columns, axis=1), 0)


def _product(weights: jax.Array, table: jax.Array) -> jax.Array:
    # In full precision, since an accelerator would round its inputs.
    return jnp.matmul(weights, table, precision=jax.lax.Precision.HIGHEST)


def _divide(ratios: PyTree, sums: jax.Array) -> PyTree:
    """The ratios of sums ``[..., Q]`` of the columns."""
    shapes = [jnp.shape(part)[1:] for part in jax.tree.leaves(ratios)]
    ends = np.cumsum([math.prod(shape) for shape in shapes])
    parts = [
        part.reshape(*sums.shape[:-1], *shape)
        for part, shape in zip(jnp.split(sums, ends[:-1], axis=-1), shapes, strict=True)
    ]
    summed = jax.tree.unflatten(jax.tree.structure(ratios), parts)
    return jax.tree.map(
        lambda ratio: _quotient(*ratio), summed, is_leaf=lambda x: isinstance(x, Ratio)
    )


def _quotient(numerator: jax.Array, denominator: jax.Array) -> jax.Array:
    positive = denominator > 0
    return jnp.where(positive, numerator / jnp.where(positive, denominator, 1), jnp.nan)
