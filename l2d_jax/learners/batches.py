"""What learners read of a batch: its rows, its weighted mean, who is right."""

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from l2d_jax.types import Array, Batch, Dataset


def take(dataset: Dataset, index: Array) -> Dataset:
    """The examples at ``index``, int ``[B]``."""
    return jax.tree.map(lambda leaf: jnp.take(leaf, index, axis=0), dataset)


def weighted_mean(values: jax.Array, weights: Array | None) -> jax.Array:
    """Mean of ``values [B]`` under ``weights [B]``; 0 where all weights are 0."""
    if weights is None:
        return jnp.mean(values)
    total = jnp.sum(weights)
    return jnp.sum(values * weights) / jnp.where(total > 0, total, 1.0)


def expert_correct(batch: Batch, dtype: DTypeLike) -> jax.Array:
    """Whether the first expert is right, or the probability of it.

    Args:
      batch: ``expert_correct`` ``[B, M]``, which is used where it is given; else
        ``labels`` ``[B]`` and ``expert_labels``, int ``[B, M]``.
      dtype: float type of the result.

    Returns:
      Whether the expert is right, float ``[B]``, in [0, 1].

    Raises:
      ValueError: the batch has neither field, or the one it has is not ``[B, M]``.
    """
    if batch.expert_correct is not None:
        name, values = "expert_correct", batch.expert_correct
    elif batch.expert_labels is not None:
        name, values = "expert_labels", batch.expert_labels
    else:
        raise ValueError(
            "batch.expert_labels is None and so is batch.expert_correct; give an "
            "expert's answers or the probability that they are right"
        )
    if jnp.ndim(values) != 2:
        raise ValueError(
            f"batch.{name} must have shape [B, M], got {jnp.shape(values)}; give a "
            "column to each expert"
        )
    first = values[:, 0]
    return jnp.asarray(
        first if name == "expert_correct" else first == batch.labels, dtype
    )
