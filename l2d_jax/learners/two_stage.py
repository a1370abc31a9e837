"""Learning whom to ask when the classifier is given: it is trained before, or yours.

Mao, Mohri and Zhong, "Two-Stage Learning to Defer with Multiple Experts", 2023: one
score for each who may answer, trained by what the answer of each would cost.
"""

import jax
import jax.numpy as jnp

from l2d_jax import losses
from l2d_jax.learners.batches import (
    classifier_right,
    experts_correct,
    weighted_mean,
)
from l2d_jax.learners.gradient import make_gradient_learner
from l2d_jax.optimizers import OptimizerFn
from l2d_jax.types import Batch, HParams, Learner, ModelFns


def batch_loss(
    outputs: jax.Array, batch: Batch, hparams: HParams, key: jax.Array
) -> jax.Array:
    """Mean two-stage loss of a batch, in nats.

    Args:
      outputs: scores of the experts and, last, of the classifier, float ``[B, M+1]``.
      batch: labels ``[B]``, ``class_probs`` of the classifier ``[B, K]``, and
        ``expert_correct`` or the experts' answers, ``[B, M]``; an example that some
        expert was not asked about has no part in the mean.
      hparams: ``price`` of asking an expert, in errors, >= 0.
      key: not used; nothing is drawn.
    """
    del key
    right = classifier_right(batch).astype(outputs.dtype)
    assert batch.class_probs is not None
    num_classes = jnp.shape(batch.class_probs)[-1]
    correct, known = experts_correct(batch, outputs.dtype, num_classes)
    # In [0, 1], as the loss wants them; a scale changes no decision.
    costs = jnp.column_stack([1.0 - correct + hparams["price"], 1.0 - right])
    costs = costs / (1.0 + hparams["price"])
    weights = jnp.all(known, axis=1).astype(outputs.dtype)
    if batch.weights is not None:
        weights = weights * batch.weights
    return weighted_mean(jax.vmap(losses.two_stage_loss)(outputs, costs), weights)


def make_learner(model: ModelFns, optimizer: OptimizerFn, **kwargs) -> Learner:
    """The learner of a network with an output for each who may answer.

    Args:
      model: gives the scores of the experts and, last, of the classifier, ``[B, M+1]``.
      optimizer: from `l2d_jax.optimizers`.
      **kwargs: as in `l2d_jax.learners.gradient.make_gradient_learner`.

    Returns:
      The learner; its ``predict`` gives the scores, which decide by
      `l2d_jax.decisions.two_stage_decision` beside the classifier's probabilities.
    """
    return make_gradient_learner(
        model, optimizer, batch_loss, lambda outputs, hparams: outputs, **kwargs
    )
