"""Losses of a weighted vote of experts, and of who agrees with a label."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from l2d_jax._checks import (
    poison_unless,
    require_finite,
    require_label,
    require_probability,
    require_same_shape,
    require_shape,
)
from l2d_jax.losses._terms import bernoulli_nll, log_prob_of_class


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
    nll = bernoulli_nll(2.0 * vote - 1.0 if centered else vote, label)
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
    return -log_prob_of_class(jax.nn.log_softmax(jnp.asarray(votes)), label)


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
    nll = jnp.sum(consulted * bernoulli_nll(jnp.asarray(logits), agree))
    return poison_unless(known, nll)
