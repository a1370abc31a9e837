"""Checks of what several rules take."""

import jax.numpy as jnp

from l2d_jax._checks import require_matrix
from l2d_jax.types import Array


def require_experts(num_experts: int) -> int:
    """The number of experts, which is checked."""
    if num_experts < 1:
        raise ValueError(f"num_experts must be at least 1, got {num_experts}")
    return num_experts


def require_examples(name: str, array: Array, class_probs: Array) -> None:
    """Raises unless an array has as many rows as ``class_probs``."""
    if jnp.shape(array)[0] != jnp.shape(class_probs)[0]:
        raise ValueError(
            f"{name} must have the {jnp.shape(class_probs)[0]} examples of class_probs,"
            f" got {jnp.shape(array)[0]}"
        )


def classes_and_experts(logits: Array, num_experts: int) -> tuple[Array, Array]:
    """Logits ``[B, K+M]`` as those of the classes and those of the experts.

    Raises:
      ValueError: if there are not logits of two classes at least, or M < 1.
    """
    require_matrix("logits", logits, "[B, K+M]", require_experts(num_experts) + 2)
    logits = jnp.asarray(logits)
    return logits[:, :-num_experts], logits[:, -num_experts:]
