"""Learning to defer with a gate: the mixture of the model's and the expert's loss.

Madras, Pitassi and Zemel, "Predict Responsibly: Improving Fairness and Accuracy by
Learning to Defer", 2018: a binary classifier and a rejector, whose probability of
deferring weighs the expert's loss against the classifier's. The expectation over the
decision to defer is taken in closed form.
"""

import jax
import jax.numpy as jnp

from l2d_jax import losses
from l2d_jax.learners.gradient import make_gradient_learner, weighted_mean
from l2d_jax.types import Batch, Decision, HParams, Learner


def batch_loss(outputs: jax.Array, batch: Batch, hparams: HParams) -> jax.Array:
    """Mean mixture loss of a batch, in nats.

    Args:
      outputs: logits of label 1 and of deferring, float ``[B, 2]``.
      batch: labels 0 or 1, ``[B]``, and one expert's probabilities of both, float
        ``[B, 1, 2]``.
      hparams: ``cost``, the price of deferring, in nats.

    References:
      Madras, Pitassi and Zemel, 2018, Eq. 8.
    """
    if batch.expert_labels is None:
        raise ValueError("batch.expert_labels is None; deferral needs an expert")
    # -log sigmoid of the logit towards the label, stable at any logit.
    classifier_nll = jax.nn.softplus(
        jnp.where(batch.labels == 1, -1, 1) * outputs[:, 0]
    )
    label_prob = jnp.where(
        batch.labels == 1, batch.expert_labels[:, 0, 1], batch.expert_labels[:, 0, 0]
    )
    expert_nll = -jnp.log(jnp.maximum(label_prob, 1e-12))
    example_losses = jax.vmap(losses.mixture_nll, (0, 0, 0, None))(
        classifier_nll, expert_nll, jax.nn.sigmoid(outputs[:, 1]), hparams["cost"]
    )
    return weighted_mean(example_losses, batch.weights)


def decide(outputs: jax.Array, hparams: HParams) -> Decision:
    """Decision by the two logits ``[B, 2]``: defer where deferring is likelier.

    The method makes no estimate of the expert's being right; that field is NaN.
    """
    del hparams
    prob = jax.nn.sigmoid(outputs[:, 0])
    return Decision(
        prediction=(outputs[:, 0] > 0).astype(jnp.int32),
        defer=outputs[:, 1] > 0,
        defer_score=outputs[:, 1],
        class_probs=jnp.stack([1 - prob, prob], axis=-1),
        expert_correct_prob=jnp.full(outputs.shape[0], jnp.nan),
    )


def make_learner(model, optimizer, **kwargs) -> Learner:
    """The learner; arguments as in `l2d_jax.learners.gradient.make_gradient_learner`.

    The model gives the two logits, as `l2d_jax.models.gated_pair` does.
    """
    return make_gradient_learner(model, optimizer, batch_loss, decide, **kwargs)
