"""Learning to defer by one softmax over the classes and the expert.

Mozannar and Sontag, "Consistent Estimators for Learning to Defer to an Expert", 2020: a
network with K+1 outputs, trained with the deferral cross-entropy; the system defers
where the last output is the largest.
"""

import jax

from l2d_jax import decisions, losses
from l2d_jax.learners.batches import expert_correct, weighted_mean
from l2d_jax.learners.gradient import make_gradient_learner
from l2d_jax.types import Batch, HParams, Learner


def batch_loss(
    outputs: jax.Array, batch: Batch, hparams: HParams, key: jax.Array
) -> jax.Array:
    """Mean deferral cross-entropy of a batch, in nats.

    Args:
      outputs: network outputs, float ``[B, K+1]``.
      batch: labels ``[B]`` and either ``expert_correct`` or the answers of one expert,
        ``[B, 1]``; see `l2d_jax.learners.batches.expert_correct`.
      hparams: ``alpha``, the weight of the label where the expert is right.
      key: not used; nothing is drawn.
    """
    del key
    correct = expert_correct(batch, outputs.dtype)
    example_losses = jax.vmap(losses.deferral_cross_entropy, (0, 0, 0, None))(
        outputs, batch.labels, correct, hparams["alpha"]
    )
    return weighted_mean(example_losses, batch.weights)


def make_learner(model, optimizer, **kwargs) -> Learner:
    """The learner; arguments as in `l2d_jax.learners.gradient.make_gradient_learner`.

    Its ``predict`` gives a `l2d_jax.types.Decision`; it reads ``hparams["alpha"]``.
    """
    return make_gradient_learner(
        model,
        optimizer,
        batch_loss,
        lambda outputs, hparams: decisions.deferral_decision(outputs, hparams["alpha"]),
        **kwargs,
    )
