"""Networks as pairs of pure functions, and convolutions that are fast in loops."""

from l2d_jax.models.context import Context, Query, context_rejector
from l2d_jax.models.networks import (
    convnet,
    gated_pair,
    linear,
    mlp,
    separate_mlps,
    wide_resnet,
)

__all__ = [
    "Context",
    "Query",
    "context_rejector",
    "convnet",
    "gated_pair",
    "linear",
    "mlp",
    "separate_mlps",
    "wide_resnet",
]
