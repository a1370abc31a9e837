"""Decisions of the asymmetric softmax."""

import jax
import jax.numpy as jnp

from l2d_jax._checks import require_matrix
from l2d_jax.decisions.rule import decide
from l2d_jax.types import Array, Decision


def asymmetric_softmax_decision(logits: Array) -> Decision:
    r"""Decision of a softmax whose last output is set against all but the best class.

    Defers where the last of the K+1 scores is strictly the greatest. The expert's
    chance of being right is what `l2d_jax.losses.asymmetric_softmax_loss` fits, within
    [0, 1]:

    .. math:: q = \frac{e^{g_K}}{\sum_{k \le K} e^{g_k} - \max_{k < K} e^{g_k}}

    The last score is the greatest exactly where q is above the greatest of
    ``class_probs``, so both rules are one.

    Args:
      logits: scores of the classes and, last, of deferring, float ``[B, K+1]``, K >= 2.

    Returns:
      The decision, of one expert; ``defer_score`` is the last logit less the greatest
      of the others, ``class_probs`` the softmax of the first K.

    Raises:
      ValueError: if ``logits`` is not a matrix with K >= 2.

    References:
      Cao et al., "In Defense of Softmax Parametrization for Calibrated and Consistent
      Learning to Defer", 2023.
    """
    require_matrix("logits", logits, "[B, K+1]", 3)
    of_classes, of_expert = jnp.asarray(logits)[:, :-1], jnp.asarray(logits)[:, -1:]
    # Of several greatest one alone is left out.
    best = jnp.argmax(of_classes, axis=1)[:, None]
    others = jax.nn.logsumexp(
        of_classes - of_expert,
        axis=1,
        where=jnp.arange(of_classes.shape[1]) != best,
        keepdims=True,
    )
    return decide(
        jax.nn.softmax(of_classes, axis=1),
        of_expert - jnp.max(of_classes, axis=1, keepdims=True),
        jax.nn.sigmoid(-others),
    )
