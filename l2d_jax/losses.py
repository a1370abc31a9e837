"""Losses of one example, in nats.

Every function takes one example and returns a scalar: the caller applies `jax.vmap`
over the batch and reduces. Wrong shapes and dtypes raise when the function is traced.
Wrong values raise where they are concrete (outside `jax.jit`, `jax.vmap` and
`jax.grad`); where they are traced, a label out of range makes the loss and its gradient
NaN, and other values are used as given.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from l2d_jax._checks import (
    poison_unless,
    require_all,
    require_finite,
    require_label,
    require_probability,
    require_same_shape,
    require_shape,
    require_values,
)


def deferral_cross_entropy(
    logits: ArrayLike,
    label: ArrayLike,
    expert_correct: ArrayLike,
    alpha: ArrayLike = 1.0,
) -> jax.Array:
    r"""Cross entropy of the K classes and the choice to defer, in nats.

    .. math:: -c \log p_{K} - (\alpha c + 1 - c) \log p_y, \quad p = softmax(logits)

    The loss is linear in ``expert_correct``, so an imputed probability of correctness
    gives the mean of the loss over the two outcomes. The authors' code takes logarithms
    to the base 2; divide by log 2 to compare.

    Args:
      logits: scores of the K classes and, last, of deferring, float ``[K+1]``, finite.
      label: class of the example, int ``[]``, in [0, K).
      expert_correct: whether the expert is right, or the probability of it, float
        ``[]``, in [0, 1].
      alpha: weight of the label where the expert is right, float ``[]``, >= 0. 1 is the
        consistent surrogate; less leaves such examples to the expert.

    Returns:
      The loss, float ``[]``, >= 0. NaN, and so is its gradient, where a traced
      ``label`` is outside [0, K).

    Raises:
      TypeError: ``label`` is not an integer.
      ValueError: an argument has the wrong shape, or a concrete value out of its range.

    References:
      Mozannar and Sontag, "Consistent Estimators for Learning to Defer to an Expert",
      2020, the loss L_CE^alpha. Raman and Yee, "Improving Learning-to-Defer Algorithms
      Through Fine-Tuning", 2021, for an imputed ``expert_correct``.
    """
    require_shape("logits", logits, "[K+1]", min_size=2)
    require_label(label, jnp.shape(logits)[0] - 1, "K")
    require_shape("expert_correct", expert_correct, "[]")
    require_shape("alpha", alpha, "[]")
    require_finite("logits", logits)
    require_probability("expert_correct", expert_correct)
    require_values("alpha", alpha, "be >= 0", lambda v: v >= 0)

    # log_softmax subtracts the maximum first: no exponential can overflow.
    log_probs = jax.nn.log_softmax(jnp.asarray(logits))
    label_nll = -_log_prob_of_class(log_probs[:-1], label)
    expert_correct, alpha = jnp.asarray(expert_correct), jnp.asarray(alpha)
    label_weight = 1.0 + (alpha - 1.0) * expert_correct  # Exactly 1 at alpha = 1.
    return label_weight * label_nll - expert_correct * log_probs[-1]


def one_vs_all_loss(
    logits: ArrayLike, label: ArrayLike, expert_correct: ArrayLike
) -> jax.Array:
    r"""One logistic loss for each class and each expert, in nats.

    .. math:: \phi(g_y) + \sum_{k \neq y} \phi(-g_k) + \sum_j \big[c_j \phi(g_{K+j})
        + (1 - c_j)\,\phi(-g_{K+j})\big], \quad \phi(u) = \log(1 + e^{-u})

    At the minimiser of its mean :math:`\sigma(g_k)` is the probability of class k and
    :math:`\sigma(g_{K+j})` that of expert j being right, so that the largest of all
    K+M logits is the best choice, and the estimates lie in [0, 1] by construction. The
    terms of the experts stand apart: who was not asked has none.

    Args:
      logits: scores of the K classes and, behind them, of the M experts, float
        ``[K+M]``, finite.
      label: class of the example, int ``[]``, in [0, K).
      expert_correct: whether each expert is right, or the probability of it, float
        ``[M]``, in [0, 1]; NaN or negative where they were not asked.

    Returns:
      The loss, float ``[]``, >= 0. NaN, and so is its gradient, where a traced
      ``label`` is outside [0, K).

    Raises:
      TypeError: ``label`` is not an integer.
      ValueError: an argument has the wrong shape, or a concrete value out of its range.

    References:
      Verma and Nalisnick, "Calibrated Learning to Defer with One-vs-All Classifiers",
      2022, Eq. 5; Verma, Barrejon and Nalisnick, "Learning to Defer to Multiple
      Experts", 2023, Eq. 9, for several. Their released code gives 0 or infinity at a
      logit of exactly 0.
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
    require_all("expert_correct", expert_correct, lambda v: ~(v > 1), "be at most 1")

    logits, label = jnp.asarray(logits), jnp.asarray(label)
    correct = jnp.asarray(expert_correct, logits.dtype)
    asked = correct >= 0  # False for NaN.
    is_label = (jnp.arange(num_classes) == label).astype(logits.dtype)
    of_classes = jnp.sum(_bernoulli_nll(logits[:num_classes], is_label))
    of_experts = _bernoulli_nll(logits[num_classes:], jnp.where(asked, correct, 0.0))
    valid = (label >= 0) & (label < num_classes)
    return poison_unless(valid, of_classes + jnp.sum(jnp.where(asked, of_experts, 0.0)))


def cost_sensitive_cross_entropy(logits: ArrayLike, costs: ArrayLike) -> jax.Array:
    r"""Cross entropy of actions that each have a cost, in nats times its unit.

    .. math:: -\sum_i (\max_j c_j - c_i) \log p_i, \quad p = softmax(logits)

    An action weighs as much as it saves over the costliest one, so only differences of
    costs count: they may be negative, and in any unit. The softmax that minimizes the
    mean of the loss is proportional to the mean of these savings; its largest entry is
    thus the action of least mean cost. With :math:`c_k = 1[k \neq y]` for the classes
    and :math:`c_K = 1[m \neq y]` for deferring to the answer m, this is
    `deferral_cross_entropy` at alpha = 1. A price of deferring that makes it the
    costliest action puts weight on every wrong class.

    Args:
      logits: scores of the actions, float ``[A]``, A >= 2, finite: the K classes and,
        last, deferring, or any others.
      costs: cost of each action, in the order of ``logits``, ``[A]``, finite; lower is
        better.

    Returns:
      The loss, float ``[]``, >= 0; 0, and so is its gradient with respect to the
      logits, where all costs are equal. Not finite where traced ``costs`` are not.

    Raises:
      ValueError: an argument has the wrong shape, or a concrete value is not finite.

    References:
      Mozannar and Sontag, "Consistent Estimators for Learning to Defer to an Expert",
      2020, Eq. 3.
    """
    require_shape("logits", logits, "[A]", min_size=2)
    require_shape("costs", costs, "[A]", min_size=2)
    require_same_shape("costs", costs, "logits", logits)
    require_finite("logits", logits)
    require_finite("costs", costs)

    log_probs = jax.nn.log_softmax(jnp.asarray(logits))
    costs = jnp.asarray(costs, log_probs.dtype)
    return -jnp.sum((jnp.max(costs) - costs) * log_probs)


def classification_cross_entropy(logits: ArrayLike, label: ArrayLike) -> jax.Array:
    r"""Cross entropy of the K classes, in nats.

    .. math:: -\log p_y, \quad p = softmax(logits)

    Args:
      logits: scores of the K classes, float ``[K]``, K >= 2, finite.
      label: class of the example, int ``[]``, in [0, K).

    Returns:
      The negative log-likelihood of the label, float ``[]``, >= 0. NaN, and so is its
      gradient, where a traced ``label`` is outside [0, K).

    Raises:
      TypeError: ``label`` is not an integer.
      ValueError: an argument has the wrong shape, or a concrete value out of its range.

    References:
      Madras, Pitassi and Zemel, "Predict Responsibly", 2018, Eq. 3: for K = 2 its
      :math:`-\ell(Y, \hat Y)`.
    """
    require_shape("logits", logits, "[K]", min_size=2)
    require_label(label, jnp.shape(logits)[0], "K")
    require_finite("logits", logits)
    return -_log_prob_of_class(jax.nn.log_softmax(jnp.asarray(logits)), label)


def expert_correctness_nll(logit: ArrayLike, expert_correct: ArrayLike) -> jax.Array:
    r"""Binary cross entropy of a model of whether the expert is right, in nats.

    .. math:: -c \log \sigma(z) - (1 - c) \log \sigma(-z)

    Args:
      logit: log-odds z that the expert is right, float ``[]``, finite.
      expert_correct: whether the expert is right, or the probability of it, float
        ``[]``, in [0, 1].

    Returns:
      The loss, float ``[]``, >= 0.

    Raises:
      ValueError: an argument has the wrong shape, or a concrete value out of its range.

    References:
      Raman and Yee, "Improving Learning-to-Defer Algorithms Through Fine-Tuning", 2021,
      Section 3.1: the model of human performance, which there codes right as 0.
    """
    require_shape("logit", logit, "[]")
    require_shape("expert_correct", expert_correct, "[]")
    require_finite("logit", logit)
    require_probability("expert_correct", expert_correct)
    return _bernoulli_nll(jnp.asarray(logit), jnp.asarray(expert_correct))


def mixture_nll(
    classifier_nll: ArrayLike,
    expert_nll: ArrayLike,
    defer_prob: ArrayLike,
    cost: ArrayLike = 0.0,
) -> jax.Array:
    r"""Expected loss of a classifier that may defer to an expert, in nats.

    .. math:: (1 - \pi)\,\ell(y, \hat y_M) + \pi\,(\ell(y, \hat y_D) + \gamma)

    The expectation over the decision to defer is taken exactly, not by sampling. With
    an expert of constant loss c this is `rejection_nll` at the cost :math:`\gamma + c`.

    Args:
      classifier_nll: negative log-likelihood of the label under the classifier, float
        ``[]``, >= 0.
      expert_nll: negative log-likelihood of the label under the expert, float ``[]``,
        >= 0.
      defer_prob: probability :math:`\pi` of deferring, float ``[]``, in [0, 1].
      cost: price :math:`\gamma` of deferring, float ``[]``, nats. The paper's Eq. 7
        carries the opposite sign.

    Returns:
      The loss, float ``[]``.

    Raises:
      ValueError: an argument has the wrong shape, or a concrete value is not finite
        or, for ``defer_prob``, outside [0, 1].

    References:
      Madras, Pitassi and Zemel, "Predict Responsibly", 2018, Eq. 9, with the cost of
      Eq. 7.
    """
    require_shape("expert_nll", expert_nll, "[]")
    require_finite("expert_nll", expert_nll)
    pass_loss = jnp.asarray(expert_nll) + _checked_cost(cost)
    return _gate(classifier_nll, pass_loss, defer_prob)


def rejection_nll(
    classifier_nll: ArrayLike, defer_prob: ArrayLike, cost: ArrayLike
) -> jax.Array:
    r"""Expected loss of a model that may reject, in nats.

    .. math:: (1 - \pi)\,\ell(y, \hat y) + \pi\,\gamma

    Args:
      classifier_nll: negative log-likelihood of the label under the classifier, float
        ``[]``, >= 0.
      defer_prob: probability :math:`\pi` of rejecting, float ``[]``, in [0, 1].
      cost: price :math:`\gamma` of a rejection, float ``[]``, nats. The paper's Eq. 4
        carries the opposite sign.

    Returns:
      The loss, float ``[]``.

    Raises:
      ValueError: an argument has the wrong shape, or a concrete value is not finite
        or, for ``defer_prob``, outside [0, 1].

    References:
      Madras, Pitassi and Zemel, "Predict Responsibly", 2018, Eq. 10.
    """
    return _gate(classifier_nll, _checked_cost(cost), defer_prob)


def allocation_log_loss(
    weights: ArrayLike,
    expert_labels: ArrayLike,
    label: ArrayLike,
    centered: bool = True,
) -> jax.Array:
    r"""Log loss of the experts' weighted vote on a binary label, in nats.

    .. math:: -y \log \sigma(v) - (1 - y) \log \sigma(-v), \quad q = \sum_i w_i e_i

    with :math:`v = 2q - 1` if ``centered``, else :math:`v = q`. The weights of experts
    who answered the label grow along the negative gradient. Uncentered, as the paper
    prints it, a vote in [0, 1] never favours the label 0: that label loses at least log
    2. The authors' code centers the vote, which treats the two labels alike.

    Args:
      weights: weight of each expert, float ``[M]``, finite. An allocation or a
        committee's mean sums to 1; other weights are used as they are.
      expert_labels: answers of the experts, or their probabilities of label 1, ``[M]``,
        in [0, 1].
      label: label, or the aggregate that stands in for it in a closed loop, int ``[]``,
        0 or 1.
      centered: whether to center the vote; static.

    Returns:
      The loss, float ``[]``, >= 0. NaN, and so is its gradient, where a traced
      ``label`` is neither 0 nor 1.

    Raises:
      TypeError: ``label`` is not an integer.
      ValueError: an argument has the wrong shape, or a concrete value out of its range.

    References:
      Keswani, Celis, Kenthapadi and Lease, "Designing Closed-Loop Models for Task
      Allocation", 2023, Section 2.1, the loss L_D. Keswani, Lease and Kenthapadi,
      "Towards Unbiased and Accurate Deferral to Multiple Experts", 2021, for the
      centered form.
    """
    require_shape("weights", weights, "[M]", min_size=1)
    require_shape("expert_labels", expert_labels, "[M]", min_size=1)
    require_same_shape("expert_labels", expert_labels, "weights", weights)
    require_label(label, 2, "2")
    require_finite("weights", weights)
    require_probability("expert_labels", expert_labels)

    # A sum, since an accelerator may round the inputs of a matrix product.
    vote = jnp.sum(jnp.asarray(weights) * jnp.asarray(expert_labels))
    label = jnp.asarray(label)
    nll = _bernoulli_nll(2.0 * vote - 1.0 if centered else vote, label)
    return poison_unless((label == 0) | (label == 1), nll)


def vote_log_loss(votes: ArrayLike, label: ArrayLike) -> jax.Array:
    r"""Log loss of a weighted vote on K classes, in nats.

    .. math:: -\log \frac{e^{q_y}}{\sum_k e^{q_k}}

    with :math:`q_k` the share of the vote for class k. For two classes this is
    `allocation_log_loss` of the vote for label 1, centered.

    Args:
      votes: share of the vote of each class, float ``[K]``, in [0, 1], sums to 1.
      label: class of the example, int ``[]``, in [0, K).

    Returns:
      The loss, float ``[]``, from :math:`\log(1 + (K - 1)/e)` for a vote that is right
      and united to :math:`\log(e + K - 1)`. NaN, and so is its gradient, where a
      traced ``label`` is outside [0, K).

    Raises:
      TypeError: ``label`` is not an integer.
      ValueError: an argument has the wrong shape, or a concrete value out of its range.

    References:
      Keswani, Lease and Kenthapadi, "Towards Unbiased and Accurate Deferral to Multiple
      Experts", 2021, the loss L_D, for a label that is 0 or 1; more classes are ours.
    """
    require_shape("votes", votes, "[K]", min_size=2)
    require_label(label, jnp.shape(votes)[0], "K")
    require_probability("votes", votes)
    return -_log_prob_of_class(jax.nn.log_softmax(jnp.asarray(votes)), label)


def agreement_nll(
    logits: ArrayLike,
    expert_labels: ArrayLike,
    label: ArrayLike,
    consulted: ArrayLike,
) -> jax.Array:
    r"""How badly scores of experts predict who agrees with a label, in nats.

    .. math:: -\sum_{i \in C} [a_i \log \sigma(g_i) + (1 - a_i) \log \sigma(-g_i)]

    where :math:`a_i = 1[e_i = y]`; for a label that is a probability, the probability
    of agreeing. Each expert is a logistic regression of its own: there is no choice
    among them.

    Args:
      logits: score of each expert, float ``[M]``, finite.
      expert_labels: answers of the experts, ``[M]``, 0 or 1; anything where an expert
        was not consulted.
      label: label, or what stands in for it in a closed loop, ``[]``, in [0, 1].
      consulted: whether each expert was asked, ``[M]``, 0 or 1.

    Returns:
      The loss, float ``[]``, >= 0; 0 where nobody was consulted. NaN, and so is its
      gradient, where a traced answer of somebody consulted is neither 0 nor 1.

    Raises:
      ValueError: an argument has the wrong shape, or a concrete value out of its range.

    References:
      Keswani, Celis, Kenthapadi and Lease, "Designing Closed-Loop Models for Task
      Allocation", 2023, the update of the authors' code.
    """
    require_shape("logits", logits, "[M]", min_size=1)
    for name, value in (("expert_labels", expert_labels), ("consulted", consulted)):
        require_shape(name, value, "[M]", min_size=1)
        require_same_shape(name, value, "logits", logits)
    require_shape("label", label, "[]")
    require_finite("logits", logits)
    require_probability("label", label)
    require_probability("consulted", consulted)
    ignored = jnp.asarray(consulted) == 0
    answers = jnp.asarray(expert_labels)
    ones, zeros = answers == 1, answers == 0
    known = jnp.all(ones | zeros | ignored)
    if not isinstance(known, jax.core.Tracer) and not known:
        raise ValueError(
            f"expert_labels must be 0 or 1 where consulted, got {expert_labels}"
        )

    agree = jnp.where(ones, label, 1.0 - jnp.asarray(label))
    nll = jnp.sum(consulted * _bernoulli_nll(jnp.asarray(logits), agree))
    return poison_unless(known, nll)


def _bernoulli_nll(logit: jax.Array, target: jax.Array) -> jax.Array:
    # softplus(z) - target * z without the cancellation, and its gradient needs one
    # exponential. With selects, since max and abs have no slope at 0.
    positive = logit > 0
    linear = jnp.where(positive, 1.0 - target, -target) * logit
    return linear + jnp.log1p(jnp.exp(jnp.where(positive, -logit, logit)))


def _gate(
    classifier_nll: ArrayLike, pass_loss: jax.Array, defer_prob: ArrayLike
) -> jax.Array:
    require_shape("classifier_nll", classifier_nll, "[]")
    require_shape("defer_prob", defer_prob, "[]")
    require_finite("classifier_nll", classifier_nll)
    require_probability("defer_prob", defer_prob)
    classifier_nll, defer_prob = jnp.asarray(classifier_nll), jnp.asarray(defer_prob)
    return (1.0 - defer_prob) * classifier_nll + defer_prob * pass_loss


def _checked_cost(cost: ArrayLike) -> jax.Array:
    require_shape("cost", cost, "[]")
    require_finite("cost", cost)
    return jnp.asarray(cost)


def _log_prob_of_class(log_probs: jax.Array, label: ArrayLike) -> jax.Array:
    # Indexing alone would wrap a negative label and clip a large one.
    label = jnp.asarray(label)
    valid = (label >= 0) & (label < log_probs.shape[0])
    log_probs = poison_unless(valid, log_probs)
    # A masked sum, since the gradient of indexing is a scatter.
    is_label = jnp.arange(log_probs.shape[0]) == jnp.where(valid, label, 0)
    return jnp.sum(log_probs, where=is_label)
