"""Checks of what several policies take."""

import jax
import jax.numpy as jnp
import numpy as np

from l2d_jax._checks import require_all, require_exact_shape, require_matrix
from l2d_jax.types import Decision


def require_one_answers(decision: Decision) -> jax.Array:
    """Whether each case is answered by one and not by several who share, bool ``[B]``.

    Raises:
      ValueError: shapes disagree, or a concrete allocation is shared; one of NaN, which
        nothing could be decided upon, is not.
    """
    require_matrix("defer_score", decision.defer_score, "[B, M]", 1)
    num_cases, num_experts = jnp.shape(decision.defer_score)
    require_exact_shape(
        "allocation", decision.allocation, (num_cases, num_experts + 1), "[B, M + 1]"
    )
    require_all(
        "allocation",
        decision.allocation,
        lambda v: (v == 0) | (v == 1) | np.isnan(v),
        "be 0 or 1: several who share an answer are not one who is asked",
    )
    weights = jnp.asarray(decision.allocation)
    return ((weights == 0) | (weights == 1) | jnp.isnan(weights)).all(axis=1)
