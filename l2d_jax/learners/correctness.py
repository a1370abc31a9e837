"""Whether the expert is right: what a learner reads of a batch where it needs no more.

The deferral cross-entropy and the model of the expert are linear in whether the expert
is right, so an imputed probability of it serves as well as an answer.
"""

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from l2d_jax.types import Batch


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
