"""Terms that several losses share, and the checks of what they take."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from l2d_jax._checks import (
    poison_unless,
    require_all,
    require_finite,
    require_label,
    require_shape,
)


def bernoulli_nll(logit: jax.Array, target: jax.Array | float) -> jax.Array:
    """Negative log-likelihood of a target in [0, 1] under log-odds, elementwise."""
    # softplus(z) - target * z without the cancellation, and its gradient needs one
    # exponential. With selects, since max and abs have no slope at 0.
    positive = logit > 0
    linear = jnp.where(positive, 1.0 - target, -target) * logit
    return linear + jnp.log1p(jnp.exp(jnp.where(positive, -logit, logit)))


def log_prob_of_class(log_probs: jax.Array, label: ArrayLike) -> jax.Array:
    """Entry of ``log_probs`` at the label; NaN where a traced label is out of range."""
    # Indexing alone would wrap a negative label and clip a large one.
    label = jnp.asarray(label)
    valid = is_class(label, log_probs.shape[0])
    log_probs = poison_unless(valid, log_probs)
    # A masked sum, since the gradient of indexing is a scatter.
    is_label = jnp.arange(log_probs.shape[0]) == jnp.where(valid, label, 0)
    return jnp.sum(log_probs, where=is_label)


def is_class(label: jax.Array, num_classes: int) -> jax.Array:
    """Whether a label is in [0, K)."""
    return (label >= 0) & (label < num_classes)


def greatest(scores: jax.Array) -> jax.Array:
    """Where the greatest score is, bool and one-hot: the first of several.

    An index has no gradient, so what it picks is differentiated as if it were fixed.
    """
    return jnp.arange(scores.shape[0]) == jnp.argmax(scores)


def require_classes_and_experts(
    logits: ArrayLike, label: ArrayLike, expert_correct: ArrayLike
) -> int:
    """K, of logits of K classes and M experts behind them, which are checked.

    Raises:
      TypeError: ``label`` is not an integer.
      ValueError: an argument has the wrong shape, or a concrete value out of its range.
    """
    require_shape("logits", logits, "[K+M]", min_size=3)
    require_shape("expert_correct", expert_correct, "[M]", min_size=1)
    num_classes = jnp.shape(logits)[0] - jnp.shape(expert_correct)[0]
    if num_classes < 2:
        raise ValueError(
            f"logits must have shape [K+M] with K >= 2, got {jnp.shape(logits)} for"
            f" {jnp.shape(expert_correct)[0]} experts"
        )
    require_label(label, num_classes, "K")
    require_finite("logits", logits)
    require_at_most_one("expert_correct", expert_correct)
    return num_classes


def require_at_most_one(name: str, value: ArrayLike) -> None:
    """Raises where a concrete value is above 1; NaN and less than 0 are "not asked"."""
    require_all(name, value, lambda v: ~(v > 1), "be at most 1")
