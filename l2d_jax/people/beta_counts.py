r"""How often one person is right on each class, from counts and what people are like.

The chance of a person's being right on examples of class k is taken to be a draw from
:math:`Beta(a_k, b_k)`, which other people's counts show (empirical Bayes). With
:math:`r_k` right of :math:`n_k` answers to examples of class k the person's own mean is
:math:`(a_k + r_k) / (a_k + b_k + n_k)`, and on an input whose class is not known

.. math:: \hat{A}(x) = \sum_k \eta_k(x) \frac{a_k + r_k}{a_k + b_k + n_k},

:math:`\eta` being a classifier's probabilities. Nothing is trained for a new person: it
is the baseline in closed form that every learnt model of a population has to beat. The
counts are the representation of an expert in EA-L2D; that they alone give the estimate,
and how the prior is fitted, is ours. Axes: J people, N answers, K classes.

References:
  EA-L2D, 2025, arXiv 2502.10533, whose experts are such counts; Minka,
  "Estimating a Dirichlet Distribution", 2000, for the fixed point of the prior.
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from l2d_jax._checks import poison_unless, require_distributions
from l2d_jax.learners.batches import blank
from l2d_jax.types import Array


class BetaPrior(NamedTuple):
    """How the chance of being right differs between people, by class.

    Attributes:
      right: a, pseudo-answers that were right, float ``[K]``, > 0.
      wrong: b, those that were wrong, float ``[K]``, > 0.
    """

    right: jax.Array
    wrong: jax.Array


class Counts(NamedTuple):
    """Answers of one person by the class of the example.

    Attributes:
      right: r, float ``[K]``, in [0, answered].
      answered: n, float ``[K]``.
    """

    right: jax.Array
    answered: jax.Array


def count(labels: Array, correct: Array, weights: Array, num_classes: int) -> Counts:
    """Count one person's answers.

    Args:
      labels: class of each example, int ``[N]``, in [0, K).
      correct: whether the answer was right, float ``[N]``, in [0, 1].
      weights: of the answers, float ``[N]``, >= 0; 0 is padding.
      num_classes: K.
    """
    chex.assert_rank([labels, correct, weights], 1)
    chex.assert_equal_shape([labels, correct, weights])
    member = jax.nn.one_hot(labels, num_classes) * jnp.asarray(weights)[:, None]
    return Counts(blank(correct, weights) @ member, jnp.sum(member, axis=0))


def fit_prior(counts: Counts, max_answers: int, num_steps: int = 1000) -> BetaPrior:
    r"""Fit a prior to other people's counts, by maximum likelihood.

    The beta-binomial likelihood of each class rises at every step of the fixed point

    .. math:: a \leftarrow a \frac{\sum_j \psi(a + r_j) - \psi(a)}
        {\sum_j \psi(a + b + n_j) - \psi(a + b)},

    and likewise for b. One answer that is right and one that is wrong, each of somebody
    of whom nothing else is known, are added to every class: so nothing is impossible,
    and the prior of a class that nobody was asked about is uniform.

    Args:
      counts: of each person, whole numbers, float ``[J, K]``; J may be 0, and who was
        not asked has no part in it.
      max_answers: what no count exceeds, static, >= 1.
      num_steps: of the fixed point, > 0. Where people do not differ, a + b has no
        finite best value and only grows with them.

    Returns:
      The prior; NaN where a count exceeds ``max_answers``.
    """
    chex.assert_rank([counts.right, counts.answered], 2)
    chex.assert_equal_shape([counts.right, counts.answered])

    # psi(a + r) - psi(a) is the sum of 1 / (a + i) over i < r: how many people have
    # more than i is all that is needed, and the small differences of psi at large a,
    # which float32 would lose, never arise.
    index = jnp.arange(max_answers)[:, None]

    def more_than(numbers: Array) -> jax.Array:
        return jnp.sum(jnp.asarray(numbers) > index[..., None], axis=1)

    first = (index == 0).astype(jnp.float32)
    right = more_than(counts.right) + first
    wrong = more_than(counts.answered - counts.right) + first
    answered = more_than(counts.answered) + 2.0 * first

    def step(prior: BetaPrior, _: None) -> tuple[BetaPrior, None]:
        a, b = prior
        total = jnp.sum(answered / (a + b + index), axis=0)
        return BetaPrior(
            a * jnp.sum(right / (a + index), axis=0) / total,
            b * jnp.sum(wrong / (b + index), axis=0) / total,
        ), None

    ones = jnp.ones(jnp.shape(counts.right)[1])
    prior, _ = jax.lax.scan(step, BetaPrior(ones, ones), None, num_steps)
    counted = jnp.all(jnp.asarray(counts.answered) <= max_answers)
    return jax.tree.map(lambda leaf: poison_unless(counted, leaf), prior)


def correct_prob(prior: BetaPrior, counts: Counts, class_probs: Array) -> jax.Array:
    """Probability that the person is right on each input.

    Args:
      prior: from `fit_prior`.
      counts: of the person, float ``[K]``; all 0 gives the population's mean.
      class_probs: of a classifier, float ``[B, K]``, rows sum to 1.

    Returns:
      Float ``[B]``, in [0, 1] but for rounding.

    Raises:
      ValueError: concrete rows of ``class_probs`` are no probabilities.
    """
    require_distributions("class_probs", class_probs)
    chex.assert_rank([prior.right, counts.right, class_probs], [1, 1, 2])
    chex.assert_equal_shape([*prior, *counts])
    chex.assert_shape(class_probs, (None, *jnp.shape(prior.right)))
    rate = (prior.right + counts.right) / (prior.right + prior.wrong + counts.answered)
    return jnp.asarray(class_probs) @ rate
