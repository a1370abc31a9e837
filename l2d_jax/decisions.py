"""From scores to decisions: who answers each input, the classifier or an expert.

Every rule asks the expert of the greatest ``defer_score`` where that is > 0; a tie of
experts asks the first, and a score of 0 keeps the input. A score that is NaN cannot be
decided upon, so the input is deferred.
"""

import jax
import jax.numpy as jnp
import numpy as np

from l2d_jax._checks import (
    poison_unless,
    require_all,
    require_exact_shape,
    require_integer,
    require_matrix,
)
from l2d_jax.types import Array, Decision


def decide(
    class_probs: Array, defer_score: Array, expert_correct_prob: Array | None = None
) -> Decision:
    """The decision that follows from scores by the rule of this module.

    Args:
      class_probs: probability of each class, float ``[B, K]``.
      defer_score: inclination to ask each expert, float ``[B, M]``.
      expert_correct_prob: estimated probability that each is right, float ``[B, M]``;
        None: no estimate.

    Raises:
      ValueError: the shapes do not match.
    """
    require_matrix("class_probs", class_probs, "[B, K]", 1)
    require_matrix("defer_score", defer_score, "[B, M]", 1)
    defer_score = jnp.asarray(defer_score)
    _require_examples("defer_score", defer_score, class_probs)
    if expert_correct_prob is None:
        expert_correct_prob = jnp.full(defer_score.shape, jnp.nan)
    require_exact_shape(
        "expert_correct_prob", expert_correct_prob, defer_score.shape, "[B, M]"
    )
    return Decision(
        class_probs=jnp.asarray(class_probs),
        expert_correct_prob=jnp.asarray(expert_correct_prob),
        defer_score=defer_score,
        allocation=allocate(defer_score),
    )


def allocate(defer_score: Array, threshold: Array | float = 0.0) -> jax.Array:
    """Who answers by the rule of this module, one-hot float ``[B, M + 1]``.

    Args:
      defer_score: inclination to ask each expert, float ``[B, M]``, M >= 1.
      threshold: above which a score defers, float ``[]``, in units of the score. Of
        another precision, both are compared in the coarser, so that whatever was kept
        where the threshold was chosen is kept here.

    Raises:
      ValueError: a concrete threshold is NaN. Where it is traced, so is the allocation.
    """
    require_matrix("defer_score", defer_score, "[B, M]", 1)
    defer_score = _as_floats(defer_score)
    num_experts = defer_score.shape[1]
    require_all("threshold", threshold, lambda v: ~np.isnan(v), "not be NaN")
    greatest = jnp.max(defer_score, axis=1)
    if not isinstance(threshold, float):
        # Rounding keeps an order: what was not above the threshold is not above it now.
        threshold = _as_floats(threshold)
        coarser = min(greatest.dtype, threshold.dtype, key=lambda d: jnp.finfo(d).bits)
        greatest, threshold = greatest.astype(coarser), threshold.astype(coarser)
    # Written so that a NaN defers; argmax takes it for the greatest.
    keeps = greatest <= threshold
    chosen = jnp.where(keeps, num_experts, jnp.argmax(defer_score, axis=1))
    allocation = (chosen[:, None] == jnp.arange(num_experts + 1)).astype(float)
    return jnp.where(jnp.isnan(threshold), jnp.nan, allocation)


def _as_floats(values: Array | float) -> jax.Array:
    array = jnp.asarray(values)
    floating = jnp.issubdtype(array.dtype, jnp.floating)
    return array if floating else array.astype(float)


def prediction(decision: Decision) -> jax.Array:
    """Class that the classifier chooses, int ``[B]``; a tie is the lowest label.

    -1 where there is no classifier: its probabilities are NaN.
    """
    probs = jnp.asarray(decision.class_probs)
    unknown = jnp.isnan(probs).any(axis=-1)
    return jnp.where(unknown, -1, jnp.argmax(probs, axis=-1))


def among(decision: Decision, available: Array) -> Decision:
    """The decision where only some experts can be asked.

    Votes are shared among who is left. Where the one expert who was to answer is not
    to be had, the rule of this module decides among the others and the classifier.

    Args:
      decision: over ``[B]`` and M experts.
      available: whether each expert can be asked, bool ``[B, M]``.

    Raises:
      ValueError: ``available`` is of another shape.
    """
    require_exact_shape(
        "available", available, jnp.shape(decision.defer_score), "[B, M]"
    )
    available = jnp.asarray(available, bool)
    score = jnp.where(available, jnp.asarray(decision.defer_score), -jnp.inf)
    open_to = jnp.pad(available, ((0, 0), (0, 1)), constant_values=True)
    left = jnp.where(open_to, jnp.asarray(decision.allocation), 0.0)
    total = jnp.sum(left, axis=1, keepdims=True)
    shared = left / jnp.where(total > 0, total, 1.0)
    return decision._replace(
        defer_score=score, allocation=jnp.where(total > 0, shared, allocate(score))
    )


def signed(expert_labels: Array) -> jax.Array:
    """The answers, int32 where their own type cannot hold -1."""
    answers = jnp.asarray(expert_labels)
    holds = jnp.issubdtype(answers.dtype, jnp.signedinteger)
    whole = answers.dtype == bool or jnp.issubdtype(answers.dtype, jnp.integer)
    return answers.astype(jnp.int32) if whole and not holds else answers


def known_answers(expert_labels: Array, num_classes: int | None = None) -> jax.Array:
    """Whether each answer is one: a class, or -1 of who was not asked; bool ``[B, M]``.

    Args:
      expert_labels: answers of the experts, int ``[B, M]``.
      num_classes: K; None where it is not known.

    Raises:
      TypeError: the answers are not of an integer dtype.
    """
    require_integer("expert_labels", expert_labels, "-1 of who was not asked")
    answers = jnp.asarray(expert_labels)
    known = answers >= -1
    return known if num_classes is None else known & (answers < num_classes)


def vote(decision: Decision, expert_labels: Array) -> jax.Array:
    r"""What the allocation says of each class, float ``[B, K]``, rows sum to 1.

    .. math:: q_k = \sum_i w_i 1[e_i = k] + w_{M+1} p_k

    with the weights shared among the experts who answered and the classifier. A row is
    NaN where all of the weight is on experts who were not asked, or a traced answer is
    neither a class nor -1.

    Args:
      decision: over ``[B]`` and M experts.
      expert_labels: answers of the experts, int ``[B, M]``; -1 of who was not asked.

    Raises:
      TypeError: the answers are not of an integer dtype.
      ValueError: the shapes do not match, or a concrete answer is neither a class nor
        -1.

    References:
      Keswani, Lease and Kenthapadi, "Towards Unbiased and Accurate Deferral to Multiple
      Experts", 2021, for a label that is 0 or 1.
    """
    require_exact_shape(
        "expert_labels", expert_labels, jnp.shape(decision.defer_score), "[B, M]"
    )
    class_probs, answers = jnp.asarray(decision.class_probs), jnp.asarray(expert_labels)
    num_classes = class_probs.shape[1]
    known = known_answers(expert_labels, num_classes).all(axis=1, keepdims=True)
    require_all(
        "expert_labels",
        expert_labels,
        lambda v: (v >= -1) & (v < num_classes),
        f"be classes in [0, {num_classes}), or -1 of who was not asked",
    )
    weights = jnp.asarray(decision.allocation)
    asked = jnp.where(answers >= 0, weights[:, :-1], 0.0)
    total = jnp.sum(asked, axis=1) + weights[:, -1]
    # One class at a time: [B, M, K] may be large.
    experts = jnp.stack(
        [
            jnp.sum(jnp.where(answers == label, asked, 0.0), axis=1)
            for label in range(num_classes)
        ],
        axis=1,
    )
    # No classifier, whose probabilities are NaN, has no part in the vote.
    votes = experts + jnp.where(weights[:, -1:] > 0, weights[:, -1:] * class_probs, 0.0)
    some = (total > 0)[:, None]
    votes = jnp.where(some, votes / jnp.where(some, total[:, None], 1.0), jnp.nan)
    return poison_unless(known, votes)


def answer(decision: Decision, expert_labels: Array) -> jax.Array:
    """The team's answer, int ``[B]``: the class of the greatest `vote`.

    A tie is the lowest label; shares of experts are added up in floating point, so
    votes that differ by no more than its rounding are a tie. -1 where nobody who was to
    answer was asked, or a traced answer of the row is none.

    Args:
      decision: over ``[B]`` and M experts.
      expert_labels: answers of the experts, int ``[B, M]``; -1 of who was not asked.
    """
    votes = vote(decision, expert_labels)
    # The classifier alone adds nothing up.
    by_experts = 1.0 - jnp.asarray(decision.allocation)[:, -1:]
    num_voters = jnp.shape(decision.allocation)[1]
    rounding = by_experts * num_voters * jnp.finfo(votes.dtype).eps
    most = votes >= jnp.max(votes, axis=1, keepdims=True) - rounding
    # A comparison with NaN is False: nothing is the most where nobody answered.
    return jnp.where(most.any(axis=1), jnp.argmax(most, axis=1), -1)


def action(decision: Decision) -> jax.Array:
    """What is done where one answers, int ``[B]``: a class, or K and up for an expert.

    Actions are in the order of `l2d_jax.types.Dataset.costs`. Of several who share an
    answer it is the one with the greatest share.

    Args:
      decision: over ``[B]``, K classes and M experts.
    """
    allocation = jnp.asarray(decision.allocation)
    num_experts = allocation.shape[1] - 1
    who = jnp.argmax(allocation, axis=1)
    num_classes = jnp.shape(decision.class_probs)[1]
    return jnp.where(who < num_experts, num_classes + who, prediction(decision))


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
      The decision, of one expert; ``defer_score`` is the last logit less the greatest
      of the others, ``class_probs`` the softmax of the first K.

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
    return decide(
        jax.nn.softmax(class_logits, axis=1),
        defer_score[:, None],
        # The floor of 1 cuts q at 1 and guards the pole and what lies beyond it.
        (1 / jnp.maximum(inverse_prob, 1))[:, None],
    )


def one_vs_all_decision(logits: Array, num_experts: int) -> Decision:
    r"""Decision of a classifier with one logit for each class and each expert.

    Asks the expert of the greatest logit where that exceeds the logits of all classes.
    Each :math:`\sigma(g)` estimates a probability by itself: that of an expert's being
    right is given as it is, and those of the classes are divided by their sum.

    Args:
      logits: scores of the classes and, behind them, of the experts, float
        ``[B, K+M]``.
      num_experts: M, static, >= 1.

    Returns:
      The decision; ``defer_score`` is an expert's logit less the greatest of the
      classes'.

    Raises:
      ValueError: if there are not logits of two classes at least, or M < 1.

    References:
      Verma and Nalisnick, "Calibrated Learning to Defer with One-vs-All Classifiers",
      2022.
    """
    require_matrix("logits", logits, "[B, K+M]", _require_experts(num_experts) + 2)
    logits = jnp.asarray(logits)
    of_classes, of_experts = logits[:, :-num_experts], logits[:, -num_experts:]
    return decide(
        # The softmax of log-probabilities is these, by their sum.
        jax.nn.softmax(jax.nn.log_sigmoid(of_classes), axis=1),
        of_experts - jnp.max(of_classes, axis=1, keepdims=True),
        jax.nn.sigmoid(of_experts),
    )


def confidence_decision(class_probs: Array, expert_correct_prob: Array) -> Decision:
    """Decision by comparing confidences: the surest of classifier and experts answers.

    Defers where the greatest ``expert_correct_prob`` exceeds the classifier's greatest
    class probability. The released code of Mozannar and Sontag defers on equality too;
    here a tie keeps the input, as in every rule of this module.

    Args:
      class_probs: probability of each class, float ``[B, K]``.
      expert_correct_prob: estimated probability that each expert is right, float
        ``[B, M]``, in [0, 1].

    Returns:
      The decision; ``defer_score`` is the difference of the two probabilities, in
      [-1, 1].

    Raises:
      ValueError: if an argument is not a matrix, or the two differ in length.

    References:
      Raghu et al., "The Algorithmic Automation Problem", 2019; the "confidence"
      baseline of Mozannar and Sontag, 2020.
    """
    require_matrix("class_probs", class_probs, "[B, K]", 1)
    require_matrix("expert_correct_prob", expert_correct_prob, "[B, M]", 1)
    _require_examples("expert_correct_prob", expert_correct_prob, class_probs)
    surest = jnp.max(jnp.asarray(class_probs), axis=1, keepdims=True)
    return decide(
        class_probs, jnp.asarray(expert_correct_prob) - surest, expert_correct_prob
    )


def classifier_decision(class_probs: Array, num_experts: int = 1) -> Decision:
    """Decision of a classifier alone: it never defers.

    Args:
      class_probs: probability of each class, float ``[B, K]``.
      num_experts: M, static, >= 1.

    Returns:
      The decision; ``defer_score`` is minus the greatest class probability, in
      [-1, -1/K], so that a threshold or a coverage curve defers the least sure inputs
      first (selective prediction). ``expert_correct_prob`` is NaN: no estimate.

    Raises:
      ValueError: if ``class_probs`` is not a matrix with K >= 1, or M < 1.
    """
    require_matrix("class_probs", class_probs, "[B, K]", 1)
    unsure = -jnp.max(jnp.asarray(class_probs), axis=1, keepdims=True)
    return decide(class_probs, jnp.repeat(unsure, _require_experts(num_experts), 1))


def expert_decision(
    num_examples: int, num_classes: int, num_experts: int = 1, expert: Array | int = 0
) -> Decision:
    """Decision of one expert alone: every input is deferred to them.

    Args:
      num_examples: B, static, >= 0.
      num_classes: K, static, >= 1.
      num_experts: M, static, >= 1.
      expert: who answers, int ``[]``, in [0, M); traced.

    Returns:
      The decision; the expert's ``defer_score`` is 1 and the others' -1;
      ``class_probs`` are NaN, for there is no classifier, and so is
      ``expert_correct_prob``: no estimate.

    Raises:
      ValueError: if a size is out of range.
    """
    if num_examples < 0:
        raise ValueError(f"num_examples must be at least 0, got {num_examples}")
    mine = jnp.arange(_require_experts(num_experts)) == expert
    score = jnp.where(mine, 1.0, -1.0)
    return decide(
        _nobody(num_examples, num_classes), jnp.tile(score, (num_examples, 1))
    )


def majority_decision(
    num_examples: int, num_classes: int, num_experts: int
) -> Decision:
    """Decision in which all experts vote alike and there is no classifier.

    Args:
      num_examples: B, static, >= 0.
      num_classes: K, static, >= 1.
      num_experts: M, static, >= 1.

    Raises:
      ValueError: if a size is out of range.
    """
    everybody = expert_decision(num_examples, num_classes, num_experts)
    shares = jnp.full((num_examples, num_experts), 1.0 / num_experts)
    return everybody._replace(
        defer_score=jnp.ones_like(shares),
        allocation=jnp.pad(shares, ((0, 0), (0, 1))),
    )


def oracle_decision(
    class_probs: Array, labels: Array, expert_labels: Array
) -> Decision:
    """Decision of a router that knows who is right: the bound of every rejector.

    Keeps where the classifier is right, else asks the first expert who is.

    Args:
      class_probs: probability of each class, float ``[B, K]``.
      labels: class of each example, int ``[B]``.
      expert_labels: answers of the experts, int ``[B, M]``; -1 of who was not asked.

    Returns:
      The decision; ``defer_score`` is whether the expert is right less whether the
      classifier is.
    """
    require_matrix("class_probs", class_probs, "[B, K]", 1)
    require_matrix("expert_labels", expert_labels, "[B, M]", 1)
    _require_examples("expert_labels", expert_labels, class_probs)
    right = jnp.argmax(jnp.asarray(class_probs), axis=1) == jnp.asarray(labels)
    expert_right = jnp.asarray(expert_labels) == jnp.asarray(labels)[:, None]
    score = expert_right.astype(float) - right[:, None]
    return decide(class_probs, score, expert_right.astype(float))


def threshold_for_coverage(defer_score: Array, coverage: Array | float) -> Array:
    """Threshold on the defer score that keeps a given fraction of these inputs.

    Deferring where ``defer_score > threshold`` keeps the smallest fraction >=
    ``coverage`` that a threshold can: exactly 0 at coverage 0, all at 1, and more than
    asked only where B times the coverage is not whole or scores tie. Choose it on
    validation data and use it unchanged on test data.

    Args:
      defer_score: inclination to defer, float ``[B]``, finite or -inf, which is never
        deferred, B >= 1; with several experts that of the greatest.
      coverage: fraction to keep, float ``[]``, in [0, 1]; traced.

    Returns:
      The threshold, float ``[]``, in units of the score. Of scores that the device
        rounds (float64 where JAX computes with float32) it is rounded up, so that the
        fraction is kept of both. NaN where a traced score is NaN or +inf.

    Raises:
      ValueError: if ``defer_score`` is not a vector with B >= 1, ``coverage`` is not a
        scalar or, when concrete, leaves [0, 1], or a concrete score is NaN or +inf.
    """
    size = jnp.size(defer_score)
    require_all("defer_score", defer_score, lambda v: v < np.inf, "be finite, or -inf")
    require_exact_shape("defer_score", defer_score, (max(size, 1),), "[B]")
    require_exact_shape("coverage", jnp.asarray(coverage), (), "[]")
    if not isinstance(coverage, jax.core.Tracer) and not 0 <= float(coverage) <= 1:
        raise ValueError(f"coverage must be in [0, 1], got {coverage}")
    scores = jnp.sort(_rounded_up(defer_score))
    # Without the slack, rounding in 0.7 * 10 would keep 8 of 10.
    coverage = jnp.asarray(coverage, float)
    slack = 1 - 2 * jnp.finfo(coverage.dtype).eps
    num_kept = jnp.ceil(coverage * size * slack).astype(int)
    below_all = scores[0] - (1 + jnp.abs(scores[0]))
    found = jnp.where(num_kept > 0, scores[jnp.maximum(num_kept - 1, 0)], below_all)
    # Sorted, what is no score comes last.
    return jnp.where(scores[-1] < jnp.inf, found, jnp.nan)


def _rounded_up(values: Array) -> jax.Array:
    """The values on the device, none of which is less than it was."""
    kind = jnp.result_type(values)
    if not isinstance(values, np.ndarray) or values.dtype == kind:
        return jnp.asarray(values)
    single = values.astype(kind)
    up = np.nextafter(single, np.array(np.inf, single.dtype))
    return jnp.asarray(np.where(single.astype(values.dtype) < values, up, single))


def apply_threshold(decision: Decision, threshold: Array | float) -> Decision:
    """Defers where the greatest defer score exceeds a threshold instead of 0.

    Args:
      decision: decision with any rule, arrays over ``[B]``.
      threshold: threshold, float ``[]``, in units of ``decision.defer_score``.

    Returns:
      The decision by the rule of this module, with ``defer_score`` less the threshold,
      so that it again defers where the score is > 0; the rest is unchanged.

    Raises:
      ValueError: if ``threshold`` is not a scalar.
    """
    require_exact_shape("threshold", jnp.asarray(threshold), (), "[]")
    defer_score = jnp.asarray(decision.defer_score)
    return decision._replace(
        defer_score=defer_score - threshold,
        # Of the scores themselves: a difference may round to 0.
        allocation=allocate(defer_score, threshold),
    )


def _nobody(num_examples: int, num_classes: int) -> jax.Array:
    if num_classes < 1:
        raise ValueError(f"num_classes must be at least 1, got {num_classes}")
    return jnp.full((num_examples, num_classes), jnp.nan)


def _require_experts(num_experts: int) -> int:
    if num_experts < 1:
        raise ValueError(f"num_experts must be at least 1, got {num_experts}")
    return num_experts


def _require_examples(name: str, array: Array, class_probs: Array) -> None:
    if jnp.shape(array)[0] != jnp.shape(class_probs)[0]:
        raise ValueError(
            f"{name} must have the {jnp.shape(class_probs)[0]} examples of class_probs,"
            f" got {jnp.shape(array)[0]}"
        )
