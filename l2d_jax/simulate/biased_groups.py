"""Annotators who are each biased against one of two groups, and what that costs.

A share alpha of the annotators guess on tasks of group 0 and are right on those of
group 1; the others guess on group 1. The functions give the gap between the accuracies
on group 1 and on group 0 of one annotator drawn from an allocation.

References:
  Keswani, Celis, Kenthapadi and Lease, "Designing Closed-Loop Models for Task
  Allocation", 2023, Claims 2.1 and 2.2.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from l2d_jax.crowds.allocation import Annotators, Arrivals


def simulate(
    key: jax.Array, num_tasks: int, num_annotators: int, alpha: ArrayLike
) -> Arrivals:
    """Tasks of both groups in turn, with fair coins as labels.

    Args:
      key: of labels and guesses.
      num_tasks: B, > 0.
      num_annotators: M, > 0; the first ``round(alpha M)`` are biased against group 0.
      alpha: share of annotators biased against group 0, float ``[]``, in [0, 1].

    Returns:
      The tasks, ``[B]``; the category is the group, and the features say it.
    """
    chance = jax.random.uniform(key, (num_tasks, num_annotators + 1))
    groups = jnp.arange(num_tasks) % 2
    labels = (chance[:, 0] < 0.5).astype(jnp.int32)
    biased = biased_against(num_annotators, alpha) == groups[:, None]
    right = ~biased | (chance[:, 1:] < 0.5)
    answers = jnp.where(right, labels[:, None], 1 - labels[:, None])
    return Arrivals(jax.nn.one_hot(groups, 2), groups, answers, labels)


def biased_against(num_annotators: int, alpha: ArrayLike) -> jax.Array:
    """The group that each annotator is biased against, int ``[M]``."""
    count = jnp.round(jnp.asarray(alpha) * num_annotators)
    return (jnp.arange(num_annotators) >= count).astype(jnp.int32)


def make_annotators(
    num_annotators: int, alpha: ArrayLike, gamma: ArrayLike
) -> Annotators:
    """Annotators with a prior: dSim is 1, or gamma to the group of their bias.

    Args:
      num_annotators: M.
      alpha: share biased against group 0, in [0, 1].
      gamma: how little the prior knows, float ``[]``, in [0, 1]: 0 is all, 1 nothing.

    Returns:
      The annotators; their pools are the groups they are biased against.
    """
    against = biased_against(num_annotators, alpha)
    biased = against[:, None] == jnp.arange(2)
    return Annotators(jnp.where(biased, gamma, 1.0), against)


def gap(alpha: np.ndarray | float, gamma: np.ndarray | float) -> np.ndarray:
    r"""Gap of the allocation in proportion to dSim, exact.

    .. math:: \frac12 \left[ \frac{\alpha\gamma}{1 - \alpha + \alpha\gamma}
              - \frac{(1 - \alpha)\gamma}{\alpha + (1 - \alpha)\gamma} \right]

    At gamma = 1, where the prior says nothing, it is the alpha - 1/2 of Claim 2.1.

    Args:
      alpha: in (0, 1).
      gamma: in [0, 1].
    """
    alpha, gamma = np.asarray(alpha, float), np.asarray(gamma, float)
    rest = 1.0 - alpha
    guesses_0 = alpha * gamma / (rest + alpha * gamma)
    guesses_1 = rest * gamma / (alpha + rest * gamma)
    return 0.5 * (guesses_0 - guesses_1)


def printed_bounds(
    alpha: np.ndarray | float, gamma: np.ndarray | float
) -> tuple[np.ndarray, np.ndarray]:
    r"""The interval for the gap that Claim 2.2 prints.

    :math:`[\gamma / 2,\ \alpha \gamma / (2 (1 - \alpha))]`. The upper end is right. The
    lower one is not: at alpha = .6 and gamma = .5 the gap is .089 and the bound .25.

    Args:
      alpha: in (0, 1).
      gamma: in [0, 1].

    Returns:
      Lower and upper end.
    """
    alpha, gamma = np.asarray(alpha, float), np.asarray(gamma, float)
    lower, upper = np.broadcast_arrays(gamma / 2.0, alpha / (1.0 - alpha) * gamma / 2.0)
    return lower, upper
