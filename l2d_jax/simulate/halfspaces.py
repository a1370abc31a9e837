"""Examples of which a half-space is the expert's and another tells the labels apart.

A random half-space is the best rejector: beyond it the label is a coin and the expert
knows it. On the side that is kept another random half-space gives the label and the
expert is wrong more often. So one linear classifier and one linear rejector make the
best team, though a linear classifier alone is right on half of the deferred side and
the expert on a part of the kept one.

References:
  Mozannar, Lang, Wei, Sattigeri, Das and Sontag, "Who Should Predict? Exact Algorithms
  For Learning to Defer to Humans", 2023, the synthetic experiments, as the authors'
  code has them.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

# Half-spaces that are tried; about one in three is balanced.
_NUM_DRAWS = 100


class Simulated(NamedTuple):
    """Examples and the best team for them.

    Attributes:
      inputs: float ``[N, D]``.
      labels: int32 ``[N]``, 0 or 1.
      expert_labels: answers of the one expert, int32 ``[N, 1]``.
      classifier: weights of the features and, last, of 1, float ``[D + 1]``; label 1
        where the sum is > 0.
      rejector: likewise; defers where the sum is > 0.
    """

    inputs: jax.Array
    labels: jax.Array
    expert_labels: jax.Array
    classifier: jax.Array
    rejector: jax.Array


def uniform_inputs(key: jax.Array, num_examples: int, num_features: int) -> jax.Array:
    """Points of the unit cube, float ``[N, D]``."""
    return jax.random.uniform(key, (num_examples, num_features))


def mixture_inputs(
    key: jax.Array, num_examples: int, num_features: int, num_components: int = 15
) -> jax.Array:
    """Points of a mixture of normals of equal weights, float ``[N, D]``.

    The means are standard normal and the standard deviations, one for each component
    and feature, uniform in [0, 1].
    """
    keys = jax.random.split(key, 4)
    shape = (num_components, num_features)
    means = jax.random.normal(keys[0], shape)
    deviations = jax.random.uniform(keys[1], shape)
    component = jax.random.randint(keys[2], (num_examples,), 0, num_components)
    noise = jax.random.normal(keys[3], (num_examples, num_features))
    return means[component] + deviations[component] * noise


def simulate(
    key: jax.Array,
    inputs: ArrayLike,
    deferred_error: ArrayLike = 0.0,
    kept_error: ArrayLike = 0.3,
    label_noise: ArrayLike = 0.0,
) -> Simulated:
    """Draw half-spaces, labels and answers for some inputs.

    Weights are uniform within the inverse of the root of D, as a linear layer of
    PyTorch starts. Half-spaces are drawn until 20 to 80 % of the examples lie beyond
    the rejector, and as many of the kept ones beyond the classifier.

    The best team is wrong on ``deferred_error`` of what it defers and on half of
    ``label_noise`` of what it keeps, as long as these are not above 1/2 and
    ``kept_error``. With neither it is never wrong: the problem is realizable.

    Args:
      key: of all but the inputs.
      inputs: float ``[N, D]``.
      deferred_error: probability that the expert is wrong beyond the rejector, float
        ``[]``, in [0, 1].
      kept_error: the same on the side that is kept.
      label_noise: probability that a label of the kept side is a coin, too, in [0, 1].

    Raises:
      ValueError: the inputs are not a matrix.
    """
    inputs = jnp.asarray(inputs)
    if inputs.ndim != 2:
        raise ValueError(f"inputs must have shape [N, D], got {inputs.shape}")
    reject_key, classify_key, key = jax.random.split(key, 3)
    everywhere = jnp.ones(len(inputs), bool)
    rejector = _balanced_halfspace(reject_key, inputs, everywhere)
    defers = beyond(rejector, inputs)
    classifier = _balanced_halfspace(classify_key, inputs, ~defers)
    coin, noise, wrong = jax.random.uniform(key, (3, len(inputs)))
    known = ~defers & (noise >= label_noise)
    labels = jnp.where(known, beyond(classifier, inputs), coin < 0.5)
    is_wrong = wrong < jnp.where(defers, deferred_error, kept_error)
    answers = jnp.where(is_wrong, ~labels, labels)
    return Simulated(
        inputs,
        labels.astype(jnp.int32),
        answers.astype(jnp.int32)[:, None],
        classifier,
        rejector,
    )


def beyond(halfspace: jax.Array, inputs: ArrayLike) -> jax.Array:
    """Whether each point lies beyond, where the weighted sum is > 0, bool ``[N]``."""
    return jnp.asarray(inputs) @ halfspace[:-1] + halfspace[-1] > 0


def _balanced_halfspace(
    key: jax.Array, inputs: jax.Array, counts: jax.Array
) -> jax.Array:
    """The first of some random half-spaces beyond which 20 to 80 % of points lie.

    Of no balanced one it would be the most balanced.
    """
    size = inputs.shape[1]
    bound = size**-0.5
    drawn = jax.random.uniform(key, (_NUM_DRAWS, size + 1), minval=-bound, maxval=bound)

    def share(halfspace: jax.Array) -> jax.Array:
        inside = beyond(halfspace, inputs) & counts
        return jnp.sum(inside) / jnp.maximum(jnp.sum(counts), 1)

    unbalance = jnp.abs(jax.lax.map(share, drawn) - 0.5)
    is_balanced = unbalance <= 0.3
    first = jnp.argmax(is_balanced)
    return drawn[jnp.where(is_balanced[first], first, jnp.argmin(unbalance))]
