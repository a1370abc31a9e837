"""Simulated experts as pytrees, so that one vmap covers many of them."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from l2d_jax.types import Array


class Expert(NamedTuple):
    """An expert whose answer depends on the class of the example alone.

    Attributes:
      confusion: probability of each answer, float ``[K, K]``; row y is the distribution
        of answers to an example of class y, >= 0, summing to 1.
    """

    confusion: Array


def _is_concrete(array: Array | int) -> bool:
    return not isinstance(array, jax.core.Tracer)


def _num_classes(expert: Expert) -> int:
    shape = jnp.shape(expert.confusion)
    if len(shape) != 2 or shape[0] != shape[1] or shape[0] < 1:
        raise ValueError(f"expert.confusion must have shape [K, K], got {shape}")
    return shape[0]


def specialist(num_perfect: Array | int, num_classes: int) -> Expert:
    """Expert who knows the first classes and guesses on the others.

    Always right on classes < ``num_perfect``; elsewhere the answer is uniform over all
    K classes, so 1/K of the guesses are right by luck. The authors' released code tests
    ``label <= k``, which makes expert k perfect on k+1 classes; here the test is
    ``label < k``, as the paper says, with k = 0 for pure guessing and k = K for an
    oracle.

    Args:
      num_perfect: number of classes the expert knows, int ``[]``, in 0..K; traced.
      num_classes: K, static, >= 1.

    Returns:
      The expert, right in k/K + (1 - k/K)/K of the cases when classes are balanced.

    Raises:
      ValueError: if ``num_classes`` < 1, or ``num_perfect`` is not a scalar or, when
        concrete, not a whole number in 0..K.

    References:
      Mozannar and Sontag, "Consistent Estimators for Learning to Defer to an Expert",
      2020, the CIFAR-10 experiment; Raman and Yee, "Improving Learning-to-Defer
      Algorithms Through Fine-Tuning", 2021.
    """
    if num_classes < 1:
        raise ValueError(f"num_classes must be at least 1, got {num_classes}")
    if jnp.shape(num_perfect) != ():
        raise ValueError(
            f"num_perfect must have shape [], got {jnp.shape(num_perfect)}; "
            "vmap over several experts"
        )
    if _is_concrete(num_perfect) and num_perfect not in range(num_classes + 1):
        raise ValueError(
            f"num_perfect must be a whole number in 0..{num_classes}, got {num_perfect}"
        )
    is_perfect = jnp.arange(num_classes)[:, None] < num_perfect
    return Expert(jnp.where(is_perfect, jnp.eye(num_classes), 1 / num_classes))


def expert_accuracy(expert: Expert, class_probs: Array) -> Array:
    """Probability that the expert is right on a random example.

    Args:
      expert: the expert, over K classes.
      class_probs: share of each class among the examples, float ``[K]``, sums to 1.

    Returns:
      The expected accuracy, float ``[]``, in [0, 1].

    Raises:
      ValueError: if ``expert.confusion`` is not square or ``class_probs`` is not of
        shape ``[K]``.
    """
    num_classes = _num_classes(expert)
    if jnp.shape(class_probs) != (num_classes,):
        raise ValueError(
            f"class_probs must have shape [K] = ({num_classes},), "
            f"got {jnp.shape(class_probs)}"
        )
    return jnp.sum(jnp.asarray(class_probs) * jnp.diagonal(expert.confusion))


def sample_expert_labels(key: jax.Array, expert: Expert, labels: Array) -> jax.Array:
    """Samples the expert's answer to each example.

    Each answer comes from one uniform draw through the inverse of the cumulative
    distribution. At the same key, experts therefore share their luck: two specialists
    give the same guess wherever both guess, and comparing them is a paired comparison.

    Args:
      key: randomness, a PRNG key ``[]``.
      expert: the expert, over K classes.
      labels: class of each example, int ``[B]``, in [0, K).

    Returns:
      The answers, int32 ``[B]``, in [0, K).

    Raises:
      ValueError: if ``expert.confusion`` is not square, ``labels`` is not a vector of
        integers or, when concrete, leaves [0, K), or a concrete row of
        ``expert.confusion`` is not a distribution.
    """
    num_classes = _num_classes(expert)
    if jnp.ndim(labels) != 1:
        raise ValueError(f"labels must have shape [B], got {jnp.shape(labels)}")
    if not jnp.issubdtype(jnp.result_type(labels), jnp.integer):
        raise ValueError(f"labels must be integers, got {jnp.result_type(labels)}")
    if _is_concrete(labels):
        values = np.asarray(labels)
        outside = values[(values < 0) | (values >= num_classes)]
        if outside.size:
            raise ValueError(f"labels must be in [0, {num_classes}), got {outside[0]}")
    if _is_concrete(expert.confusion):
        confusion = np.asarray(expert.confusion)
        if not (np.all(confusion >= 0) and np.allclose(confusion.sum(1), 1, atol=1e-4)):
            raise ValueError("expert.confusion must have rows >= 0 that sum to 1")
    probs = jnp.asarray(expert.confusion, float)[jnp.asarray(labels)]
    draws = jax.random.uniform(key, jnp.shape(labels), probs.dtype)
    return _inverse_cdf(probs, draws)


def _inverse_cdf(probs: jax.Array, draws: jax.Array) -> jax.Array:
    """The answer at which the cumulative distribution passes each draw in [0, 1]."""
    # An answer of probability 0 is never given, however the cumulative sum rounds.
    passed = (jnp.cumsum(probs, axis=1) > draws[:, None]) & (probs > 0)
    answers = jnp.argmax(passed, axis=1)
    # The sum may round to less than a draw near 1: then any possible answer will do.
    answers = jnp.where(jnp.any(passed, axis=1), answers, jnp.argmax(probs, axis=1))
    return answers.astype(jnp.int32)
