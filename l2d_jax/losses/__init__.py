"""Losses of one example, in nats.

Every function takes one example and returns a scalar: the caller applies `jax.vmap`
over the batch and reduces. Wrong shapes and dtypes raise when the function is traced.
Wrong values raise where they are concrete (outside `jax.jit`, `jax.vmap` and
`jax.grad`); where they are traced, a label out of range makes the loss and its gradient
NaN, and other values are used as given.
"""

from l2d_jax.losses.asymmetric import asymmetric_softmax_loss
from l2d_jax.losses.decoupled import (
    classification_cross_entropy,
    decoupled_loss,
    expert_correctness_nll,
)
from l2d_jax.losses.mixture import mixture_nll, mixture_of_experts_nll, rejection_nll
from l2d_jax.losses.one_vs_all import one_vs_all_loss
from l2d_jax.losses.picce import picce_cross_entropy, picce_one_vs_all
from l2d_jax.losses.realizable import realizable_surrogate_loss, rl2d_loss
from l2d_jax.losses.softmax import (
    cost_sensitive_cross_entropy,
    deferral_cross_entropy,
    multi_expert_cross_entropy,
    priced_deferral_cross_entropy,
)
from l2d_jax.losses.two_stage import posthoc_rejector_loss, two_stage_loss
from l2d_jax.losses.votes import agreement_nll, allocation_log_loss, vote_log_loss

__all__ = [
    "agreement_nll",
    "allocation_log_loss",
    "asymmetric_softmax_loss",
    "classification_cross_entropy",
    "cost_sensitive_cross_entropy",
    "decoupled_loss",
    "deferral_cross_entropy",
    "expert_correctness_nll",
    "mixture_nll",
    "mixture_of_experts_nll",
    "multi_expert_cross_entropy",
    "one_vs_all_loss",
    "picce_cross_entropy",
    "picce_one_vs_all",
    "posthoc_rejector_loss",
    "priced_deferral_cross_entropy",
    "realizable_surrogate_loss",
    "rejection_nll",
    "rl2d_loss",
    "two_stage_loss",
    "vote_log_loss",
]
