"""Committees: a few seats drawn by the weights of an allocation."""

import jax
import jax.numpy as jnp

from l2d_jax import decisions
from l2d_jax.crowds import allocation
from l2d_jax.types import Decision


def draw_committee(key: jax.Array, decision: Decision, size: int) -> Decision:
    """The decision of committees whose seats are drawn by weight, with replacement.

    Each member has one vote a seat; the classifier, too, votes for a class and not with
    its probabilities.

    Args:
      key: PRNG key.
      decision: over ``[B]`` and M experts, all of whom can be asked; see
        `l2d_jax.decisions.among`.
      size: seats k, > 0; static. Odd, it leaves no tie of two classes.

    Returns:
      The decision, whose ``allocation`` is the share of the seats.

    Raises:
      ValueError: ``size`` is not > 0.

    References:
      Keswani, Lease and Kenthapadi, "Towards Unbiased and Accurate Deferral to Multiple
      Experts", 2021, the sparse committee.
    """
    if size < 1:
        raise ValueError(f"size must be > 0, got {size}")
    committee = allocation.Committee(size)
    shares = jnp.asarray(decision.allocation)
    noise = allocation.draw_noise(key, shares.shape[0], shares.shape[1], committee)
    seats = jax.vmap(lambda row, drawn: allocation.seat(row, drawn, committee))(
        shares, noise
    )
    chosen = decisions.prediction(decision)
    classes = jax.nn.one_hot(chosen, jnp.shape(decision.class_probs)[1])
    # Where there is no classifier there is none on a committee.
    classes = jnp.where(chosen[:, None] >= 0, classes, jnp.nan)
    return decision._replace(class_probs=classes, allocation=seats)
