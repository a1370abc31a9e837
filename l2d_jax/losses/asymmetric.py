"""A softmax of the classes, and one of deferring against all but the best class."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from l2d_jax._checks import (
    poison_unless,
    require_finite,
    require_label,
    require_shape,
)
from l2d_jax.losses._terms import (
    bernoulli_nll,
    greatest,
    is_class,
    log_prob_of_class,
    require_at_most_one,
)


def asymmetric_softmax_loss(
    logits: ArrayLike, label: ArrayLike, expert_correct: ArrayLike
) -> jax.Array:
    r"""Asymmetric softmax loss: calibrated classes and a calibrated expert, in nats.

    .. math:: -\log p_y - c \log q - (1 - c) \log(1 - q), \quad p = softmax(g_{<K}),
        \quad q = \frac{e^{g_K}}{\sum_{k \le K} e^{g_k} - \max_{k < K} e^{g_k}}

    At the minimiser of its mean p is the distribution of the label and q the
    probability of the expert's being right, in (0, 1) by construction, and the deferral
    score is the greatest exactly where the expert is likelier to be right than the best
    class. q is the logistic function of the deferral score less the ``logsumexp`` of
    all classes but the greatest, so no exponential is taken of a raw score; of
    several greatest the first is left out.

    Args:
      logits: scores of the K classes and, last, of deferring, float ``[K+1]``, K >= 2,
        finite.
      label: class of the example, int ``[]``, in [0, K).
      expert_correct: whether the expert is right, or the probability of it, float
        ``[]``, in [0, 1]; NaN or negative where they were not asked, which leaves the
        cross entropy of the classes.

    Returns:
      The loss, float ``[]``, >= 0. NaN, and so is its gradient, where a traced
      ``label`` is outside [0, K).

    Raises:
      TypeError: ``label`` is not an integer.
      ValueError: an argument has the wrong shape, or a concrete value out of its range.

    References:
      Cao et al., "In Defense of Softmax Parametrization for Calibrated and Consistent
      Learning to Defer", 2023, as a public reimplementation has it.
    """
    require_shape("logits", logits, "[K+1]", min_size=3)
    require_label(label, jnp.shape(logits)[0] - 1, "K")
    require_shape("expert_correct", expert_correct, "[]")
    require_finite("logits", logits)
    require_at_most_one("expert_correct", expert_correct)

    logits = jnp.asarray(logits)
    class_logits = logits[:-1]
    label_nll = -log_prob_of_class(jax.nn.log_softmax(class_logits), label)
    correct = jnp.asarray(expert_correct, logits.dtype)
    asked = correct >= 0  # False for NaN.
    # The differences first: near 1e4 the sum's own logarithm would lose its digits.
    others = jax.nn.logsumexp(class_logits - logits[-1], where=~greatest(class_logits))
    expert_nll = bernoulli_nll(-others, jnp.where(asked, correct, 0.0))
    valid = is_class(jnp.asarray(label), class_logits.shape[0])
    return poison_unless(valid, label_nll + jnp.where(asked, expert_nll, 0.0))
