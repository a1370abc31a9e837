"""Learning to defer where every action has a cost: one softmax over the actions.

Mozannar and Sontag, "Consistent Estimators for Learning to Defer to an Expert", 2020,
section 4: deferring is an action among others, and the network learns, of each, how
often it should be taken from what every action cost on past examples. It covers costs
that are not errors, such as the minutes of a trip.
"""

import jax
import jax.numpy as jnp

from l2d_jax import decisions, losses
from l2d_jax.learners.batches import one_expert_correct, weighted_mean
from l2d_jax.learners.gradient import make_gradient_learner
from l2d_jax.types import Batch, Decision, HParams, Learner


def error_costs(
    batch: Batch, num_classes: int, hparams: HParams
) -> tuple[jax.Array, jax.Array]:
    """An error costs 1 and asking the expert ``hparams["price"]``, and weights ``[B]``.

    Args:
      batch: labels ``[B]`` and what is known of one expert; see
        `l2d_jax.learners.batches.one_expert_correct`.
      num_classes: K.
      hparams: ``price``, of asking, >= 0.

    Returns:
      Costs, float ``[B, K+1]``, and the weights.
    """
    correct, weights = one_expert_correct(batch, jnp.float32, num_classes)
    wrong = jnp.arange(num_classes) != jnp.asarray(batch.labels)[:, None]
    asking = 1.0 - correct + hparams["price"]
    return jnp.concatenate([wrong.astype(float), asking[:, None]], axis=1), weights


def batch_loss(
    outputs: jax.Array, batch: Batch, hparams: HParams, key: jax.Array
) -> jax.Array:
    """Mean cost-sensitive cross-entropy of a batch, in nats times the unit of costs.

    Args:
      outputs: network outputs, float ``[B, A]``.
      batch: with ``costs`` ``[B, A]``; without them those of `error_costs` of K = A - 1
        classes and one expert.
      hparams: ``price``, where there are no ``costs``.
      key: not used; nothing is drawn.
    """
    del key
    costs, weights = batch.costs, batch.weights
    if costs is None:
        costs, weights = error_costs(batch, outputs.shape[1] - 1, hparams)
    example_losses = jax.vmap(losses.cost_sensitive_cross_entropy)(outputs, costs)
    return weighted_mean(example_losses, weights)


def decide(outputs: jax.Array, hparams: HParams) -> Decision:
    """Takes the action of the largest score, that of least expected cost.

    The last score is the expert's. There is no estimate of their being right.
    """
    del hparams
    score = outputs[:, -1:] - jnp.max(outputs[:, :-1], axis=1, keepdims=True)
    return decisions.decide(jax.nn.softmax(outputs[:, :-1], axis=1), score)


def make_learner(model, optimizer, **kwargs) -> Learner:
    """The learner of a network with a score for each action, the expert's last.

    Its ``predict`` gives a `l2d_jax.types.Decision`, see `decide`; arguments as in
    `l2d_jax.learners.gradient.make_gradient_learner`.
    """
    return make_gradient_learner(model, optimizer, batch_loss, decide, **kwargs)
