"""An allocation for each category, moved by rewards and penalties.

References:
  Keswani, Celis, Kenthapadi and Lease, "Designing Closed-Loop Models for Task
  Allocation", 2023, Eq. 1 and 2, the setting of Claims 2.1 and 2.2.
"""

import jax
import jax.numpy as jnp

from l2d_jax.crowds import allocation
from l2d_jax.crowds.allocation import Allocator, Annotators, Arrivals
from l2d_jax.types import Array, HParams


def make_allocator(everyone: bool) -> Allocator:
    """A table of weights ``[M, Z]`` that starts in proportion to dSim.

    Reads ``hparams["rate"]``, of `allocation.rewards_and_penalties`, in [0, 1], and
    ``hparams["gold"]``: above 0 the label is the truth (Eq. 1), else the committee's
    (Eq. 2).

    Args:
      everyone: whether the label rewards and penalizes all annotators, as the equations
        have it, as though all their answers were known; or only who was asked. A
        committee of one agrees with itself, so that then nothing is learned.
    """

    def init(
        key: jax.Array, hparams: HParams, annotators: Annotators, features: Array
    ) -> jax.Array:
        del key, hparams, features
        similarity = jnp.asarray(annotators.similarity)
        available = jnp.ones(similarity.shape[0], bool)
        return jax.vmap(allocation.normalize, (1, None), 1)(similarity, available)

    def weigh(table: jax.Array, hparams: HParams, arrivals: Arrivals) -> jax.Array:
        del hparams
        return jax.vmap(allocation.prior_weights, (None, 0, 0))(
            table, arrivals.categories, allocation.can_answer(arrivals.answers)
        )

    def aggregate(
        table: jax.Array, hparams: HParams, arrivals: Arrivals, votes: jax.Array
    ) -> jax.Array:
        del table, hparams
        return jax.vmap(allocation.vote)(votes, arrivals.answers)

    def learn(
        table: jax.Array,
        hparams: HParams,
        arrivals: Arrivals,
        votes: jax.Array,
        probs: jax.Array,
    ) -> jax.Array:
        gold = arrivals.labels if arrivals.gold is None else arrivals.gold
        labels = jnp.where(hparams["gold"] > 0, gold, probs > 0.5)
        valid = jnp.any(votes > 0, axis=1) & (labels >= 0)
        known = allocation.can_answer(arrivals.answers) if everyone else votes > 0

        def change(
            category: Array, answers: Array, label: jax.Array, known: jax.Array
        ) -> jax.Array:
            rewards, penalties = allocation.rewards_and_penalties(
                table[:, category], answers == label, known, hparams["rate"]
            )
            return rewards - penalties

        changes = jax.vmap(change)(arrivals.categories, arrivals.answers, labels, known)
        of_category = jax.nn.one_hot(arrivals.categories, table.shape[1])
        of_category *= valid[:, None]
        counts = jnp.maximum(jnp.sum(of_category, axis=0), 1.0)
        after = table + changes.T @ (of_category / counts)
        # With 64 bits the changes have more of them than a prior in float32.
        return after.astype(table.dtype)

    return Allocator(init, weigh, aggregate, learn, weigh)
