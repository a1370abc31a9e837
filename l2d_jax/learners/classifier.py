"""A classifier alone, which knows of no expert.

Its outputs are the logits of the K classes, or for two classes the one logit of label
1. It can be regularized towards equal error rates of two groups.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from l2d_jax import losses
from l2d_jax._checks import poison_unless
from l2d_jax.learners.batches import weighted_mean
from l2d_jax.learners.disparity import disparity
from l2d_jax.learners.gradient import BatchLoss, make_gradient_learner
from l2d_jax.types import Batch, HParams, Learner


def class_probs(logits: jax.Array) -> jax.Array:
    """Probabilities of the classes, float ``[B, K]``, of logits ``[B, K]``.

    ``[B, 1]`` is the logit of label 1 of two; both probabilities then keep their digits
    near 0, so that a likelihood can be computed from them.
    """
    if logits.shape[1] > 1:
        return jax.nn.softmax(logits, axis=1)
    # Not 1 less the other, which is 0 from a logit of 17 on.
    return jax.nn.sigmoid(jnp.concatenate([-logits, logits], axis=1))


def label_nll(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Negative log-likelihood of the labels in nats, ``[B]``; logits as above.

    NaN, and so is its gradient, where a label is none of the classes.
    """
    if logits.shape[1] > 1:
        return jax.vmap(losses.classification_cross_entropy)(logits, labels)
    # -log sigmoid of the logit towards the label, stable at any logit.
    known = (labels == 0) | (labels == 1)
    nll = jax.nn.softplus(jnp.where(labels == 1, -1, 1) * logits[:, 0])
    return poison_unless(known, nll)


def nll_of_probs(probs: jax.Array, labels: jax.Array) -> jax.Array:
    """The same of probabilities, float ``[B, K]``; finite where they are.

    Likelihoods below the smallest normal float count as that.
    """
    is_label = jnp.arange(probs.shape[1]) == jnp.asarray(labels)[:, None]
    label_prob = jnp.sum(jnp.where(is_label, probs, 0.0), axis=1)
    if probs.shape[1] > 2:
        return -jnp.log(jnp.maximum(label_prob, jnp.finfo(probs.dtype).tiny))
    other_prob = jnp.sum(jnp.where(is_label, 0.0, probs), axis=1)
    # Of the two probabilities the smaller is the exact one.
    return jnp.where(
        label_prob < other_prob,
        -jnp.log(jnp.maximum(label_prob, jnp.finfo(probs.dtype).tiny)),
        -jnp.log1p(-jnp.minimum(other_prob, 0.5)),
    )


def make_batch_loss(*, regularized: bool = False) -> BatchLoss:
    """Mean cross-entropy of a batch against its labels, in nats.

    Args:
      regularized: whether to add the soft disparity of the classifier's error rates,
        for two classes and two groups.

    Returns:
      The loss, of logits ``[B, K]``, or ``[B, 1]`` for two classes; it reads
      ``hparams["fairness"]`` if regularized.
    """

    def batch_loss(
        outputs: jax.Array, batch: Batch, hparams: HParams, key: jax.Array
    ) -> jax.Array:
        del key
        nll = label_nll(outputs, jnp.asarray(batch.labels))
        loss = weighted_mean(nll, batch.weights)
        if regularized:
            loss += disparity(class_probs(outputs)[:, 1], batch, hparams)
        return loss

    return batch_loss


def loss_score(
    *, regularized: bool = False
) -> Callable[[jax.Array, Batch, HParams], jax.Array]:
    """Minus the loss of `make_batch_loss`, to select a model by on validation data.

    Returns:
      The score: a function of the probabilities of the classes, ``[B, K]``, of the
      examples and of the hyperparameters, as `l2d_jax.engine.training.Score`.
    """

    def score(probs: jax.Array, batch: Batch, hparams: HParams) -> jax.Array:
        nll = nll_of_probs(jnp.asarray(probs), jnp.asarray(batch.labels))
        loss = weighted_mean(nll, batch.weights)
        if regularized:
            loss += disparity(jnp.asarray(probs)[:, 1], batch, hparams)
        return -loss

    return score


def make_learner(model, optimizer, *, regularized: bool = False, **kwargs) -> Learner:
    """The learner; ``predict`` gives the probabilities of the classes, ``[B, K]``.

    Args:
      model: gives logits ``[B, K]``, or ``[B, 1]`` for two classes.
      optimizer: from `l2d_jax.optimizers`.
      regularized: as for `make_batch_loss`.
      **kwargs: as in `l2d_jax.learners.gradient.make_gradient_learner`.
    """
    return make_gradient_learner(
        model,
        optimizer,
        make_batch_loss(regularized=regularized),
        lambda outputs, hparams: class_probs(outputs),
        **kwargs,
    )
