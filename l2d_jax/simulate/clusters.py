"""Tasks in clusters, and annotators who each know one of them.

The label is a coin toss that the place of a task says nothing about, so only whom to
ask can be learned. An annotator is right on the cluster they know and mostly wrong
elsewhere; where one in three knows a cluster, its majority is wrong.

References:
  Keswani, Celis, Kenthapadi and Lease, "Designing Closed-Loop Models for Task
  Allocation", 2023, the synthetic experiment, as the authors' code has it.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from l2d_jax.crowds.allocation import Annotators, Arrivals


class Simulated(NamedTuple):
    """A draw of tasks and annotators.

    Attributes:
      tasks: standardized places in the plane as features, ``[Z n, 2]``, in random
        order; the category is the cluster.
      knows: the cluster that each annotator knows, int ``[M]``.
      chance: a uniform draw for each annotator, float ``[M]``, for `misplace`.
    """

    tasks: Arrivals
    knows: jax.Array
    chance: jax.Array


def simulate(
    key: jax.Array,
    num_clusters: int,
    tasks_per_cluster: int,
    num_annotators: int,
    accuracy: ArrayLike = 1.0,
    other_accuracy: ArrayLike = 0.2,
    spacing: float = 2.5,
) -> Simulated:
    """Draw tasks and answers.

    The clusters are normal with one diagonal covariance, whose variances are uniform in
    [0, 1]; the first is centred uniformly in the unit square and each next one
    ``spacing`` further along both axes. Annotators are dealt to clusters in turn.

    Args:
      key: of everything.
      num_clusters: Z, > 0.
      tasks_per_cluster: n, > 0.
      num_annotators: M, > 0.
      accuracy: of an annotator on the cluster they know, float ``[]``, in [0, 1].
      other_accuracy: on others.
      spacing: between the centres of neighbours, along each axis.
    """
    total = num_clusters * tasks_per_cluster
    # Few draws: each costs a third of a second to compile on a CPU.
    normal_key, uniform_key = jax.random.split(key)
    normal = jax.random.normal(normal_key, (total, 2))
    count = 4 + num_annotators + total * (num_annotators + 2)
    uniform = jax.random.uniform(uniform_key, (count,))
    first, variances = uniform[:2], uniform[2:4]
    chance = uniform[4 + num_annotators :].reshape(total, num_annotators + 2)
    order = jnp.argsort(chance[:, 0])
    clusters = order % num_clusters
    labels = (chance[:, 1] < 0.5).astype(jnp.int32)
    features = first + spacing * clusters[:, None] + jnp.sqrt(variances) * normal
    features = (features - features.mean(axis=0)) / features.std(axis=0)
    knows = jnp.arange(num_annotators) % num_clusters
    skill = jnp.where(clusters[:, None] == knows, accuracy, other_accuracy)
    right = chance[:, 2:] < skill
    answers = jnp.where(right, labels[:, None], 1 - labels[:, None])
    return Simulated(
        Arrivals(features, clusters, answers, labels),
        knows,
        uniform[4 : 4 + num_annotators],
    )


def make_annotators(
    thought: jax.Array, num_clusters: int, strength: ArrayLike
) -> Annotators:
    """Annotators with a prior: a cluster each is thought to know.

    Args:
      thought: that cluster, int ``[M]``, in [0, Z); right or wrong.
      num_clusters: Z, > 1.
      strength: sU, similarity to that cluster, float ``[]``, in [1 / Z, 1]; to the
        others it is (1 - sU) / (Z - 1). 1 / Z says nothing.

    Returns:
      The annotators; their pools are the clusters they are thought to know.
    """
    matched = thought[:, None] == jnp.arange(num_clusters)
    rest = (1.0 - strength) / (num_clusters - 1)
    return Annotators(jnp.where(matched, strength, rest), thought)


def misplace(
    chance: jax.Array, thought: jax.Array, num_clusters: int, share: ArrayLike
) -> jax.Array:
    """Beliefs of which some are wrong: they name the next cluster.

    Args:
      chance: uniform draws, float ``[M]``; those with the least are misplaced.
      thought: int ``[M]``, in [0, Z).
      num_clusters: Z.
      share: of the annotators, float ``[]``, in [0, 1], rounded to whole annotators.

    Returns:
      Int ``[M]``.
    """
    # How many have less, without a matrix of all pairs.
    ranks = jnp.searchsorted(jnp.sort(chance), chance)
    wrong = ranks < jnp.round(share * thought.shape[0])
    return jnp.where(wrong, (thought + 1) % num_clusters, thought)
