"""From scores to decisions: who answers each input, the classifier or the expert.

Every rule defers where its ``defer_score`` is > 0; a tie keeps the input.
"""

import jax
import jax.numpy as jnp
import numpy as np

from l2d_jax._checks import require_exact_shape, require_matrix
from l2d_jax.types import Array, Decision


def deferral_decision(logits: Array, alpha: Array | float = 1.0) -> Decision:
    r"""Decision of a classifier whose last output is the choice to defer.

    Defers where the last of the K+1 scores is strictly the greatest; the prediction is
    the greatest of the first K.

    The expert's chance of being right, :math:`q`, is read from the softmax
    probability :math:`p_\bot` of deferring. With :math:`c` for "the expert is right",
    the loss :math:`-c \log p_\bot - (\alpha c + 1 - c) \log p_y` is on average a cross
    entropy whose target puts :math:`q` on deferring and :math:`\alpha q + 1 - q` on
    the classes, so its minimiser has :math:`p_\bot = q / (1 + \alpha q)`, whence

    .. math:: q = \frac{p_\bot}{1 - \alpha p_\bot}
        = \Big(e^{r} + 1 - \alpha\Big)^{-1},
        \quad r = \operatorname{logsumexp}_{k<K} g_k - g_\bot

    cut to [0, 1]: a fitted network need not respect :math:`p_\bot \le 1/(1+\alpha)`,
    and beyond :math:`1/\alpha` the fraction loses its meaning and counts as 1. At
    ``alpha`` = 1 it is the known :math:`p_\bot / (1 - p_\bot)`.

    Args:
      logits: scores, float ``[B, K+1]``; the defer score is the last.
      alpha: weight of the label where the expert is right, as in training, float
        ``[]``, >= 0; traced.

    Returns:
      The decision; ``defer_score`` is the last logit less the greatest of the others,
      ``class_probs`` the softmax of the first K.

    Raises:
      ValueError: if ``logits`` is not a matrix with K >= 1, or ``alpha`` is not a
        scalar or, when concrete, not finite or negative.

    References:
      Mozannar and Sontag, "Consistent Estimators for Learning to Defer to an Expert",
      2020. The estimator at ``alpha`` = 1: Verma and Nalisnick, "Calibrated Learning to
      Defer with One-vs-All Classifiers", 2022.
    """
    require_matrix("logits", logits, "[B, K+1]", 2)
    require_exact_shape("alpha", jnp.asarray(alpha), (), "[]")
    if not isinstance(alpha, jax.core.Tracer) and not 0 <= float(alpha) < np.inf:
        raise ValueError(f"alpha must be finite and >= 0, got {alpha}")
    logits = jnp.asarray(logits)
    class_logits, defer_logit = logits[:, :-1], logits[:, -1]
    defer_score = defer_logit - jnp.max(class_logits, axis=1)
    # The difference first: near 1e4 the sum's own logarithm would lose its digits.
    log_ratio = jax.nn.logsumexp(class_logits - defer_logit[:, None], axis=1)
    # Beyond these bounds q is 0, 1 or 1/(1 - alpha) to rounding; exp stays finite.
    inverse_prob = jnp.exp(jnp.clip(log_ratio, -40.0, 40.0)) + (1 - alpha)
    return Decision(
        prediction=jnp.argmax(class_logits, axis=1),
        defer=defer_score > 0,
        defer_score=defer_score,
        class_probs=jax.nn.softmax(class_logits, axis=1),
        # The floor of 1 cuts q at 1 and guards the pole and what lies beyond it.
        expert_correct_prob=1 / jnp.maximum(inverse_prob, 1),
    )


def confidence_decision(class_logits: Array, expert_correct_prob: Array) -> Decision:
    """Decision by comparing confidences: the surer of classifier and expert answers.

    Defers where ``expert_correct_prob`` exceeds the classifier's greatest class
    probability. The released code of Mozannar and Sontag defers on equality too; here a
    tie keeps the input, as in every rule of this module.

    Args:
      class_logits: scores of the classes, float ``[B, K]``.
      expert_correct_prob: estimated probability that the expert is right, float
        ``[B]``, in [0, 1].

    Returns:
      The decision; ``defer_score`` is the difference of the two probabilities, in
      [-1, 1].

    Raises:
      ValueError: if ``class_logits`` is not a matrix with K >= 1, or
        ``expert_correct_prob`` is not of shape ``[B]``.

    References:
      Raghu et al., "The Algorithmic Automation Problem", 2019; the "confidence"
      baseline of Mozannar and Sontag, 2020.
    """
    require_matrix("class_logits", class_logits, "[B, K]", 1)
    num_examples = jnp.shape(class_logits)[0]
    require_exact_shape(
        "expert_correct_prob", expert_correct_prob, (num_examples,), "[B]"
    )
    class_probs = jax.nn.softmax(jnp.asarray(class_logits), axis=1)
    expert_correct_prob = jnp.asarray(expert_correct_prob)
    defer_score = expert_correct_prob - jnp.max(class_probs, axis=1)
    return Decision(
        prediction=jnp.argmax(jnp.asarray(class_logits), axis=1),
        defer=defer_score > 0,
        defer_score=defer_score,
        class_probs=class_probs,
        expert_correct_prob=expert_correct_prob,
    )


def classifier_decision(class_logits: Array) -> Decision:
    """Decision of a classifier alone: it never defers.

    Args:
      class_logits: scores of the classes, float ``[B, K]``.

    Returns:
      The decision; ``defer_score`` is minus the greatest class probability, in
      [-1, -1/K], so that a threshold or a coverage curve defers the least sure inputs
      first (selective prediction). ``expert_correct_prob`` is NaN: no estimate.

    Raises:
      ValueError: if ``class_logits`` is not a matrix with K >= 1.
    """
    require_matrix("class_logits", class_logits, "[B, K]", 1)
    class_probs = jax.nn.softmax(jnp.asarray(class_logits), axis=1)
    defer_score = -jnp.max(class_probs, axis=1)
    return Decision(
        prediction=jnp.argmax(jnp.asarray(class_logits), axis=1),
        defer=jnp.zeros(defer_score.shape, bool),
        defer_score=defer_score,
        class_probs=class_probs,
        expert_correct_prob=jnp.full_like(defer_score, jnp.nan),
    )


def expert_decision(num_examples: int, num_classes: int) -> Decision:
    """Decision of an expert alone: every input is deferred.

    Args:
      num_examples: B, static, >= 0.
      num_classes: K, static, >= 1.

    Returns:
      The decision; ``defer_score`` is 1, ``prediction`` 0 and ``class_probs`` uniform,
      for there is no classifier; ``expert_correct_prob`` is NaN: no estimate.

    Raises:
      ValueError: if a size is out of range.
    """
    if num_examples < 0:
        raise ValueError(f"num_examples must be at least 0, got {num_examples}")
    if num_classes < 1:
        raise ValueError(f"num_classes must be at least 1, got {num_classes}")
    return Decision(
        prediction=jnp.zeros(num_examples, int),
        defer=jnp.ones(num_examples, bool),
        defer_score=jnp.ones(num_examples),
        class_probs=jnp.full((num_examples, num_classes), 1 / num_classes),
        expert_correct_prob=jnp.full(num_examples, jnp.nan),
    )


def threshold_for_coverage(defer_score: Array, coverage: Array | float) -> Array:
    """Threshold on the defer score that keeps a given fraction of these inputs.

    Deferring where ``defer_score > threshold`` keeps the smallest fraction >=
    ``coverage`` that a threshold can: exactly 0 at coverage 0, all at 1, and more than
    asked only where B times the coverage is not whole or scores tie. Choose it on
    validation data and use it unchanged on test data.

    Args:
      defer_score: inclination to defer, float ``[B]``, finite, B >= 1.
      coverage: fraction to keep, float ``[]``, in [0, 1]; traced.

    Returns:
      The threshold, float ``[]``, in units of the score.

    Raises:
      ValueError: if ``defer_score`` is not a vector with B >= 1, or ``coverage`` is not
        a scalar or, when concrete, leaves [0, 1].
    """
    size = jnp.size(defer_score)
    require_exact_shape("defer_score", defer_score, (max(size, 1),), "[B]")
    require_exact_shape("coverage", jnp.asarray(coverage), (), "[]")
    if not isinstance(coverage, jax.core.Tracer) and not 0 <= float(coverage) <= 1:
        raise ValueError(f"coverage must be in [0, 1], got {coverage}")
    scores = jnp.sort(jnp.asarray(defer_score))
    # Without the slack, rounding in 0.7 * 10 would keep 8 of 10.
    coverage = jnp.asarray(coverage, float)
    slack = 1 - 2 * jnp.finfo(coverage.dtype).eps
    num_kept = jnp.ceil(coverage * size * slack).astype(int)
    below_all = scores[0] - (1 + jnp.abs(scores[0]))
    return jnp.where(num_kept > 0, scores[jnp.maximum(num_kept - 1, 0)], below_all)


def apply_threshold(decision: Decision, threshold: Array | float) -> Decision:
    """Defers where the defer score exceeds a threshold instead of 0.

    Args:
      decision: decision with any rule, arrays over ``[B]``.
      threshold: threshold, float ``[]``, in units of ``decision.defer_score``.

    Returns:
      The decision with ``defer_score`` less the threshold, so that it again defers
      where its score is > 0; the rest is unchanged.

    Raises:
      ValueError: if ``threshold`` is not a scalar.
    """
    require_exact_shape("threshold", jnp.asarray(threshold), (), "[]")
    defer_score = jnp.asarray(decision.defer_score) - threshold
    return decision._replace(defer=defer_score > 0, defer_score=defer_score)
