r"""What one person is good at, from few answers, given what people are like.

Whether person i is right on input x has the log-odds

.. math:: f(x) + b_i \cdot \psi(x), \qquad b_i \sim N(0, diag(s_g^2)), \quad g \sim \pi

f is a model of other people, psi(x) a description of the input in a few dimensions
(a constant, and the probability of each class under a classifier), and b_i the person:
an embedding that says where they are better or worse than others, and by how much. How
far people differ is not known, so the prior is a mixture over a grid of scales, whose
proportions are learned from the answers of other people; one person's own answers then
choose among the scales. A crowd of similar people thus shrinks a person towards f, and
a person unlike any of them is still followed once their answers say so.

Everything here is a function of one person unless it says otherwise, and fits in a few
Newton steps. It follows the hierarchical models of item response theory; learning to
defer to a population (Tailor et al., 2024) has the same aim with a network in place of
the posterior.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from l2d_jax._checks import require_distributions
from l2d_jax.learners.batches import blank
from l2d_jax.people import positive_definite
from l2d_jax.types import Array

# The shortest are for many answers that the base is sure of and half of which are
# wrong: the curvature is next to nothing there, and Newton's step far too long.
_STEP_SIZES = (1.0, 0.5, 0.1, 1e-2, 1e-3, 1e-4)


class Person(NamedTuple):
    """Posterior of one person, for every scale of the grid.

    Attributes:
      mean: of the embedding, float ``[S, D]``.
      covariance: of the embedding, float ``[S, D, D]``.
      log_evidence: of the person's answers, in nats, float ``[S]``, <= 0 but for
        rounding.
    """

    mean: jax.Array
    covariance: jax.Array
    log_evidence: jax.Array


def describe(class_probs: Array) -> jax.Array:
    """Description psi of inputs: a constant and the class probabilities.

    Args:
      class_probs: of a classifier, float ``[B, K]``, rows sum to 1.

    Returns:
      Float ``[B, K+1]``.

    Raises:
      ValueError: concrete rows are no probabilities.
    """
    require_distributions("class_probs", class_probs)
    return jnp.concatenate(
        [jnp.ones((class_probs.shape[0], 1)), jnp.asarray(class_probs)], axis=1
    )


def scale_grid(
    overall: Sequence[float], by_class: Sequence[float], num_classes: int
) -> np.ndarray:
    """Every pair of an overall scale and one by class, for `describe`'s description.

    Args:
      overall: standard deviations of overall skill, log-odds, each > 0 and finite.
      by_class: standard deviations of skill at one class, log-odds, each > 0 and
        finite.
      num_classes: K.

    Returns:
      Float ``[S, K+1]``; the scale by class varies fastest.

    Raises:
      ValueError: no scale, or one that is not positive and finite.
    """
    for name, scales in (("overall", overall), ("by_class", by_class)):
        if not len(scales) or not all(0 < scale < np.inf for scale in scales):
            raise ValueError(
                f"{name} must hold scales, all > 0 and finite, got {tuple(scales)}"
            )
    return np.array(
        [[a, *num_classes * [b]] for a in overall for b in by_class], np.float32
    )


def infer(
    base_logits: Array,
    description: Array,
    correct: Array,
    weights: Array,
    scales: Array,
    num_steps: int = 12,
) -> Person:
    """Laplace approximation to one person's posterior, for every scale.

    Args:
      base_logits: f, log-odds that others are right, float ``[V]``.
      description: psi, float ``[V, D]``.
      correct: whether the person was right, or the share of times they were, float
        ``[V]``, in [0, 1].
      weights: of the answers, float ``[V]``, >= 0; all 0 gives back the prior.
      scales: standard deviations of the prior, float ``[S, D]``, > 0.
      num_steps: of Newton's method, > 0. The posterior is log-concave; a dozen come
        within a hundredth of a nat of its mode for base logits up to +-30 and thousands
        of answers.
    """
    psi = jnp.asarray(description)
    chex.assert_rank([base_logits, psi, correct, weights, scales], [1, 2, 1, 1, 2])
    chex.assert_equal_shape([base_logits, correct, weights])
    chex.assert_shape(psi, (*jnp.shape(base_logits), jnp.shape(scales)[1]))
    base_logits, psi, correct = (
        blank(values, weights) for values in (base_logits, psi, correct)
    )

    def log_posterior(b: jax.Array, scale: jax.Array) -> jax.Array:
        logits = base_logits + psi @ b
        right, wrong = jax.nn.log_sigmoid(logits), jax.nn.log_sigmoid(-logits)
        likelihood = jnp.sum(weights * (correct * right + (1.0 - correct) * wrong))
        return likelihood - 0.5 * jnp.sum((b / scale) ** 2)

    def curvature(b: jax.Array, scale: jax.Array) -> jax.Array:
        prob = jax.nn.sigmoid(base_logits + psi @ b)
        return (psi.T * (weights * prob * (1.0 - prob))) @ psi + jnp.diag(scale**-2)

    def of_scale(scale: jax.Array) -> Person:
        def step(b: jax.Array, _: Any) -> tuple[jax.Array, None]:
            gradient = jax.grad(log_posterior)(b, scale)
            solution, _ = positive_definite.solve(
                curvature(b, scale), gradient[:, None]
            )
            direction = solution[:, 0]
            # A full step can overshoot where the answers are surprising; the best of a
            # few lengths cannot do worse than staying.
            steps = jnp.array((0.0, *_STEP_SIZES))
            candidates = b + steps[:, None] * direction
            values = jax.vmap(log_posterior, (0, None))(candidates, scale)
            return candidates[jnp.argmax(values)], None

        b, _ = jax.lax.scan(step, jnp.zeros(psi.shape[1]), None, num_steps)
        covariance, log_det = positive_definite.solve(
            curvature(b, scale), jnp.eye(psi.shape[1])
        )
        # Of the posterior's volume as a part of the prior's.
        log_volume = -0.5 * log_det - jnp.sum(jnp.log(scale))
        return Person(b, covariance, log_posterior(b, scale) + log_volume)

    return jax.vmap(of_scale)(jnp.asarray(scales))


def learn_proportions(
    log_evidence: Array, weights: Array, num_steps: int = 50
) -> jax.Array:
    """How common each scale is among people, by expectation maximization.

    One person's worth of evidence is spread evenly beforehand, so that no scale is ever
    impossible.

    Args:
      log_evidence: of P people, in nats, float ``[P, S]``.
      weights: of the people, float ``[P]``, >= 0; all 0 gives equal proportions.
      num_steps: of the algorithm, > 0.

    Returns:
      Float ``[S]``, positive, with sum 1.
    """
    num_scales = log_evidence.shape[1]
    log_evidence, weights = blank(log_evidence, weights), jnp.asarray(weights)

    def step(proportions: jax.Array, _: None) -> tuple[jax.Array, None]:
        share = jax.nn.softmax(log_evidence + jnp.log(proportions), axis=1)
        counts = weights @ share + 1.0 / num_scales
        return counts / jnp.sum(counts), None

    start = jnp.full(num_scales, 1.0 / num_scales)
    proportions, _ = jax.lax.scan(step, start, None, num_steps)
    return proportions


def correct_prob(
    person: Person, proportions: Array, base_logits: Array, description: Array
) -> jax.Array:
    """Probability that the person is right on each input.

    The mean over the posterior, scale by scale (MacKay's approximation to the mean of a
    logistic function of a Gaussian), and over the scales.

    Args:
      person: from `infer`.
      proportions: of the scales among people, float ``[S]``, from `learn_proportions`.
      base_logits: f, float ``[B]``.
      description: psi, float ``[B, D]``.

    Returns:
      Float ``[B]``, in [0, 1] but for rounding.
    """
    psi = jnp.asarray(description)
    chex.assert_rank([proportions, base_logits, psi], [1, 1, 2])
    chex.assert_shape(psi, (*jnp.shape(base_logits), None))
    share = jax.nn.softmax(person.log_evidence + jnp.log(proportions))

    def add(total: jax.Array, part: Any) -> tuple[jax.Array, None]:
        mean, covariance, weight = part
        variance = jnp.sum((psi @ covariance) * psi, axis=1)
        logits = (base_logits + psi @ mean) / jnp.sqrt(1.0 + jnp.pi / 8.0 * variance)
        return total + weight * jax.nn.sigmoid(logits), None

    # One scale at a time: all at once would hold S times the inputs' description.
    start = jnp.zeros(psi.shape[0])
    total, _ = jax.lax.scan(add, start, (person.mean, person.covariance, share))
    return total
