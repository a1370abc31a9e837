r"""A performance model of one person that borrows strength from other people.

Linear random coefficients: what person j does is

.. math:: y = x^\top \theta_j + \epsilon, \quad \theta_j \sim N(m, S),
    \quad \epsilon \sim N(0, \sigma^2).

The population :math:`(m, S, \sigma^2)` is estimated from other people and is the prior
of the person at hand (empirical Bayes). Without answers the person is taken for the
mean of the others; with many, for what they did; in between, each direction of
:math:`\theta` is trusted as far as its answers and the spread of people warrant. Axes:
J people, N and V answers, D features.

References:
  Swamy, "Efficient Inference in a Random Coefficient Regression Model", 1970; Efron and
  Morris, "Stein's Estimation Rule and Its Competitors: An Empirical Bayes Approach",
  1973.
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from l2d_jax.learners.batches import blank
from l2d_jax.people import positive_definite
from l2d_jax.types import Array

# A direction that the answers determine less than this, relative to the best
# determined, counts as not determined: float32 could not tell.
_CONDITION = 1e-5
# Least share of the answers' mean square that is noise: float32 could not tell less.
_NOISE_FLOOR = 1e-10


class Population(NamedTuple):
    """How people differ.

    Attributes:
      mean: m, float ``[D]``.
      covariance: S, float ``[D, D]``, symmetric, no eigenvalue below 0.
      noise_variance: of one answer of weight 1, float ``[]``, > 0 unless every answer
        is 0.
    """

    mean: jax.Array
    covariance: jax.Array
    noise_variance: jax.Array


def fit_population(
    features: Array, targets: Array, weights: Array | None = None
) -> Population:
    r"""Estimate how people differ, by moments.

    Each person's coefficients are fitted by least squares. Their mean estimates m;
    their covariance, less the mean covariance of their errors, estimates S, with
    eigenvalues below 0 set to 0; the residuals estimate :math:`\sigma^2`.

    A person with too few different answers to be fitted counts only where nobody can
    be: then m is the least-squares fit of shortest length to all answers together. S is
    0 unless two people can be fitted; nobody is then known to differ.

    Args:
      features: of each answer, float ``[J, N, D]``.
      targets: the answers, float ``[J, N]``.
      weights: of the answers, float ``[J, N]``, >= 0; the noise of an answer has
        variance :math:`\sigma^2` / weight, and weight 0 is padding. None: all 1.

    Returns:
      The population, finite for any finite input.
    """
    features, targets = jnp.asarray(features), jnp.asarray(targets)
    weights = jnp.ones_like(targets) if weights is None else jnp.asarray(weights)
    chex.assert_rank([features, targets, weights], [3, 2, 2])
    chex.assert_equal_shape([targets, weights])
    chex.assert_shape(features, (*targets.shape, None))
    features, targets = blank(features, weights), blank(targets, weights)
    size = features.shape[-1]

    grams = jnp.einsum("jnd,jn,jne->jde", features, weights, features)
    moments = jnp.einsum("jnd,jn,jn->jd", features, weights, targets)
    inverses, ranks = jax.vmap(_pseudo_inverse)(grams)
    estimates = jnp.einsum("jde,je->jd", inverses, moments)
    residuals = targets - jnp.einsum("jnd,jd->jn", features, estimates)
    squares = jnp.sum(weights * jnp.square(residuals), axis=1)
    spare = jnp.sum(weights > 0, axis=1) - ranks
    # Anyone's residuals count, if they have more answers than determine the fit.
    noise = jnp.sum(squares) / jnp.maximum(jnp.sum(spare), 1)
    total = jnp.sum(weights * jnp.square(targets)) / jnp.maximum(
        jnp.sum(weights > 0), 1
    )
    noise = jnp.maximum(noise, _NOISE_FLOOR * total)

    fitted = (ranks == size).astype(targets.dtype)
    count = jnp.sum(fitted)
    mean = fitted @ estimates / jnp.maximum(count, 1)
    deviations = fitted[:, None] * (estimates - mean)
    spread = deviations.T @ deviations / jnp.maximum(count - 1, 1)
    errors = noise * jnp.einsum("j,jde->de", fitted, inverses) / jnp.maximum(count, 1)
    covariance = jnp.where(count > 1, _positive_part(spread - errors), 0.0)

    pooled_inverse, _ = _pseudo_inverse(jnp.sum(grams, axis=0))
    pooled = pooled_inverse @ jnp.sum(moments, axis=0)
    return Population(jnp.where(count > 0, mean, pooled), covariance, noise)


def posterior(
    population: Population,
    features: Array,
    targets: Array,
    weights: Array | None = None,
) -> tuple[jax.Array, jax.Array]:
    r"""Coefficients of a person given some answers, or none.

    With :math:`S = L L^\top`, Gram matrix :math:`G = X^\top W X` and
    :math:`A = I + L^\top G L / \sigma^2`, whose eigenvalues are at least 1 whatever
    the answers, the covariance is :math:`L A^{-1} L^\top` and the mean
    :math:`m + L A^{-1} L^\top X^\top W (y - X m) / \sigma^2`.

    Args:
      population: the prior, from `fit_population`.
      features: of each answer, float ``[V, D]``.
      targets: the answers, float ``[V]``.
      weights: as in `fit_population`, float ``[V]``.

    Returns:
      Mean, float ``[D]``, and covariance, float ``[D, D]``. Without answers those of
      the population.
    """
    features, targets = jnp.asarray(features), jnp.asarray(targets)
    weights = jnp.ones_like(targets) if weights is None else jnp.asarray(weights)
    chex.assert_rank([features, targets, weights], [2, 1, 1])
    chex.assert_equal_shape([targets, weights])
    chex.assert_shape(features, (*targets.shape, None))
    features, targets = blank(features, weights), blank(targets, weights)

    values, vectors = jnp.linalg.eigh(population.covariance)
    root = vectors * jnp.sqrt(jnp.maximum(values, 0.0))
    weighted = features * weights[:, None]
    noise = jnp.where(population.noise_variance > 0, population.noise_variance, 1.0)
    precision = root.T @ (features.T @ weighted) @ root / noise
    inner = jnp.eye(len(values), dtype=precision.dtype) + precision
    surprise = root.T @ (weighted.T @ (targets - features @ population.mean)) / noise
    right = jnp.concatenate([surprise[:, None], root.T], axis=1)
    solution, _ = positive_definite.solve(inner, right)
    return population.mean + root @ solution[:, 0], root @ solution[:, 1:]


def _pseudo_inverse(gram: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Pseudo-inverse of a Gram matrix ``[D, D]``, and its rank, int ``[]``."""
    values, vectors = jnp.linalg.eigh(gram)
    determined = values > _CONDITION * values[-1]
    reciprocals = jnp.where(determined, 1.0 / jnp.where(determined, values, 1.0), 0.0)
    return (vectors * reciprocals) @ vectors.T, jnp.sum(determined)


def _positive_part(matrix: jax.Array) -> jax.Array:
    """The symmetric matrix with its negative eigenvalues set to 0."""
    values, vectors = jnp.linalg.eigh(0.5 * (matrix + matrix.T))
    return (vectors * jnp.maximum(values, 0.0)) @ vectors.T
