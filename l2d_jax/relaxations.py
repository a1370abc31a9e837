"""Continuous relaxations of discrete choices, differentiable given their noise."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from l2d_jax._checks import (
    poison_unless,
    require_finite,
    require_shape,
    require_values,
)


def sample_binary_concrete(
    key: jax.Array, logit: ArrayLike, temperature: ArrayLike
) -> jax.Array:
    r"""Sample of a binary Concrete variable, a relaxed Bernoulli draw.

    .. math:: \sigma((z + L) / \tau), \quad L \sim Logistic(0, 1)

    L is the difference of two Gumbel variables, so this is the first entry of the
    two-class Gumbel softmax at probabilities :math:`(\sigma(z), \sigma(-z))`. At every
    temperature the sample exceeds 1/2 with probability :math:`\sigma(z)`; as the
    temperature falls to 0 the sample becomes that Bernoulli draw.

    Args:
      key: PRNG key ``[]``.
      logit: log-odds z of the outcome 1, float ``[]`` for one example; in an array of
        any shape each entry gets noise of its own.
      temperature: :math:`\tau`, float ``[]``, > 0.

    Returns:
      The sample, float, of the shape of ``logit``, in [0, 1]; differentiable in
      ``logit`` and ``temperature``. NaN, and so is its gradient, where a traced
      ``temperature`` is not > 0.

    Raises:
      ValueError: ``temperature`` is no scalar, or a concrete ``temperature`` is not
        > 0, or a concrete ``logit`` is NaN.

    References:
      Maddison, Mnih and Teh, "The Concrete Distribution", 2017. Madras, Pitassi and
      Zemel, "Predict Responsibly", 2018, Section 3.2; the authors' code uses the
      temperature 0.5.
    """
    require_shape("temperature", temperature, "[]", remedy="vmap over the temperatures")
    require_values("temperature", temperature, "be > 0", lambda v: v > 0)
    require_finite("logit", logit)
    logit = jnp.asarray(logit)
    noise = jax.random.logistic(key, logit.shape, jnp.result_type(float, logit))
    temperature = jnp.asarray(temperature)
    temperature = poison_unless(temperature > 0, temperature)
    return jax.nn.sigmoid((logit + noise) / temperature)
