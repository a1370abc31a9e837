"""Learning to defer where every action has a cost: one softmax over the actions.

Mozannar and Sontag, "Consistent Estimators for Learning to Defer to an Expert", 2020,
section 4: deferring is an action among others, and the network learns, of each, how
often it should be taken from what every action cost on past examples. It covers costs
that are not errors, such as the minutes of a trip.
"""

import jax

from l2d_jax import losses
from l2d_jax.learners.batches import weighted_mean
from l2d_jax.learners.gradient import make_gradient_learner
from l2d_jax.types import Batch, HParams, Learner


def batch_loss(
    outputs: jax.Array, batch: Batch, hparams: HParams, key: jax.Array
) -> jax.Array:
    """Mean cost-sensitive cross-entropy of a batch, in nats times the unit of costs.

    Args:
      outputs: network outputs, float ``[B, A]``.
      batch: with ``costs`` ``[B, A]``.
      hparams: none are read.
      key: not used; nothing is drawn.

    Raises:
      ValueError: the batch has no costs.
    """
    del hparams, key
    if batch.costs is None:
        raise ValueError("batch.costs is None; give the cost of each action, [B, A]")
    example_losses = jax.vmap(losses.cost_sensitive_cross_entropy)(outputs, batch.costs)
    return weighted_mean(example_losses, batch.weights)


def make_learner(model, optimizer, **kwargs) -> Learner:
    """The learner; arguments as in `l2d_jax.learners.gradient.make_gradient_learner`.

    Its ``predict`` gives the scores of the actions, float ``[B, A]``; the largest is
    the action of least expected cost.
    """
    return make_gradient_learner(
        model, optimizer, batch_loss, lambda outputs, hparams: outputs, **kwargs
    )
