"""Learning when to pass a case to the expert, for a classifier that is given.

After Narasimhan et al., "Post-hoc Estimators for Learning to Defer to an Expert", 2022:
one score, trained by which of the two would be wrong.
"""

import jax
import jax.numpy as jnp

from l2d_jax import losses
from l2d_jax.learners.batches import (
    classifier_right,
    one_expert_correct,
    weighted_mean,
)
from l2d_jax.learners.gradient import make_gradient_learner
from l2d_jax.optimizers import OptimizerFn
from l2d_jax.types import Batch, HParams, Learner, ModelFns


def batch_loss(
    outputs: jax.Array, batch: Batch, hparams: HParams, key: jax.Array
) -> jax.Array:
    """Mean loss of a rejector on a batch, in nats.

    Args:
      outputs: scores of passing, float ``[B, 1]``.
      batch: labels ``[B]``, ``class_probs`` of the classifier ``[B, K]``, and
        ``expert_correct`` or the answers of one expert, ``[B, 1]``; where nothing is
        known of the expert the example has no part in the mean.
      hparams: ``price`` of asking the expert, in errors, >= 0.
      key: not used; nothing is drawn.
    """
    del key
    wrong = 1.0 - classifier_right(batch).astype(outputs.dtype)
    assert batch.class_probs is not None
    num_classes = jnp.shape(batch.class_probs)[-1]
    correct, weights = one_expert_correct(batch, outputs.dtype, num_classes)
    example_losses = jax.vmap(losses.posthoc_rejector_loss, (0, 0, 0, None))(
        outputs[:, 0], wrong, 1.0 - correct, jnp.asarray(hparams["price"])
    )
    return weighted_mean(example_losses, weights)


def make_learner(model: ModelFns, optimizer: OptimizerFn, **kwargs) -> Learner:
    """The learner of a network with one output.

    Args:
      model: gives the score of passing, ``[B, 1]``.
      optimizer: from `l2d_jax.optimizers`.
      **kwargs: as in `l2d_jax.learners.gradient.make_gradient_learner`.

    Returns:
      The learner; its ``predict`` gives the scores ``[B, 1]``, of which one > 0 passes.
    """
    return make_gradient_learner(
        model, optimizer, batch_loss, lambda outputs, hparams: outputs, **kwargs
    )
