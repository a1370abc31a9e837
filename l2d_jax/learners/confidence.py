"""Deferring by confidence: a classifier and an expert-performance model, apart.

Raghu et al., "The Algorithmic Automation Problem: Prediction, Triage, and Human
Effort", 2019, in the form in which Mozannar and Sontag (2020) use it as a baseline: the
classifier knows nothing of the expert; the expert model predicts whether the expert is
right; the system asks whoever is the more likely to be right. The two are two learners,
so that one classifier serves every expert; `l2d_jax.decisions.confidence_decision`
joins them.
"""

import jax

from l2d_jax import losses
from l2d_jax.learners.batches import expert_correct, weighted_mean
from l2d_jax.learners.gradient import make_gradient_learner
from l2d_jax.types import Batch, HParams, Learner


def classifier_batch_loss(
    outputs: jax.Array, batch: Batch, hparams: HParams, key: jax.Array
) -> jax.Array:
    """Mean cross-entropy of logits ``[B, K]`` against the labels, in nats."""
    del hparams, key
    example_losses = jax.vmap(losses.classification_cross_entropy)(
        outputs, batch.labels
    )
    return weighted_mean(example_losses, batch.weights)


def expert_model_batch_loss(
    outputs: jax.Array, batch: Batch, hparams: HParams, key: jax.Array
) -> jax.Array:
    """Mean binary cross-entropy of "the expert is right" under logits ``[B, 1]``.

    The batch gives ``expert_correct`` or the expert's answers, ``[B, 1]``; see
    `l2d_jax.learners.batches.expert_correct`.
    """
    del hparams, key
    correct = expert_correct(batch, outputs.dtype)
    example_losses = jax.vmap(losses.expert_correctness_nll)(outputs[:, 0], correct)
    return weighted_mean(example_losses, batch.weights)


def make_classifier(model, optimizer, **kwargs) -> Learner:
    """Classifier alone; ``predict`` gives its logits, float ``[B, K]``.

    Arguments as in `l2d_jax.learners.gradient.make_gradient_learner`.
    """
    return make_gradient_learner(
        model,
        optimizer,
        classifier_batch_loss,
        lambda outputs, hparams: outputs,
        **kwargs,
    )


def make_expert_model(model, optimizer, **kwargs) -> Learner:
    """Expert-performance model; ``predict`` gives P(expert is right), float ``[B]``.

    Arguments as in `l2d_jax.learners.gradient.make_gradient_learner`.
    """
    return make_gradient_learner(
        model,
        optimizer,
        expert_model_batch_loss,
        lambda outputs, hparams: jax.nn.sigmoid(outputs[:, 0]),
        **kwargs,
    )
