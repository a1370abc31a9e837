"""Models of whether experts are right, trained by themselves.

One half of deferring by confidence, Raghu et al., "The Algorithmic Automation Problem:
Prediction, Triage, and Human Effort", 2019, in the form in which Mozannar and Sontag
(2020) use it as a baseline: a classifier knows nothing of the experts, this model
predicts whether they are right, and the surest is asked. The two are two learners, so
that one classifier serves every expert; `l2d_jax.decisions.confidence_decision` joins
them.
"""

import jax
import jax.numpy as jnp

from l2d_jax import losses
from l2d_jax.learners.batches import experts_correct
from l2d_jax.learners.gradient import make_gradient_learner
from l2d_jax.types import Batch, HParams, Learner


def batch_loss(
    outputs: jax.Array, batch: Batch, hparams: HParams, key: jax.Array
) -> jax.Array:
    """Mean binary cross-entropy of "the expert is right", in nats, over what is known.

    Args:
      outputs: logits of each expert, float ``[B, M]``.
      batch: ``expert_correct`` or the experts' answers, ``[B, M]``; see
        `l2d_jax.learners.batches.experts_correct`.
      hparams: none are read.
      key: not used; nothing is drawn.
    """
    del hparams, key
    correct, known = experts_correct(batch, outputs.dtype)
    example_losses = jax.vmap(jax.vmap(losses.expert_correctness_nll))(outputs, correct)
    weights = known.astype(outputs.dtype)
    if batch.weights is not None:
        weights = weights * jnp.asarray(batch.weights)[:, None]
    total = jnp.sum(weights)
    weighted = jnp.where(weights > 0, example_losses * weights, 0.0)
    return jnp.sum(weighted) / jnp.where(total > 0, total, 1.0)


def make_learner(model, optimizer, **kwargs) -> Learner:
    """The learner; ``predict`` gives P(expert is right), float ``[B, M]``.

    Args:
      model: gives one logit an expert, ``[B, M]``.
      optimizer: from `l2d_jax.optimizers`.
      **kwargs: as in `l2d_jax.learners.gradient.make_gradient_learner`.
    """
    return make_gradient_learner(
        model,
        optimizer,
        batch_loss,
        lambda outputs, hparams: jax.nn.sigmoid(outputs),
        **kwargs,
    )
