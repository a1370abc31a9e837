"""Differentiable triage: a classifier trained on what is left to it.

Okati, De and Gomez-Rodriguez, "Differentiable Learning Under Triage", 2021. Where a
human is better than the classifier, up to a share of the examples that is the budget
has no part in its training, and a rejector learns which those are.

Ours: the examples are chosen within every minibatch, by the classifier as it is then,
and the rejector is the last output of the same network; there it is a classifier
trained in rounds and a second network afterwards. At most the budget is passed in
training; at test a threshold on the score decides, not a rank within the test set.
"""

import jax
import jax.numpy as jnp

from l2d_jax import decisions, losses
from l2d_jax.learners.batches import one_expert_label_prob, weighted_mean
from l2d_jax.learners.gradient import make_gradient_learner
from l2d_jax.optimizers import OptimizerFn
from l2d_jax.types import Batch, Decision, HParams, Learner, ModelFns


def passed(
    classifier_loss: jax.Array,
    expert_loss: jax.Array,
    weights: jax.Array,
    budget: jax.Array | float,
) -> jax.Array:
    """Which examples of a batch the human takes, bool ``[B]``.

    Those of the greatest positive difference of losses, as many as fit the budget.

    Args:
      classifier_loss: float ``[B]``.
      expert_loss: float ``[B]``, of the same unit.
      weights: weight of each example, float ``[B]``, >= 0.
      budget: share of the weight that may be passed, float ``[]``, in [0, 1].
    """
    gain = jnp.where(weights > 0, classifier_loss - expert_loss, -jnp.inf)
    order = jnp.argsort(-gain)
    spent = jnp.cumsum(weights[order])
    # Without the slack, rounding would lose one of ten at a budget of 0.7.
    slack = 1.0 + 4 * jnp.finfo(spent.dtype).eps
    fits = (spent <= budget * jnp.sum(weights) * slack) & (gain[order] > 0)
    return jnp.zeros(gain.shape, bool).at[order].set(fits)


def make_batch_loss(num_classes: int):
    """Mean loss of a batch, in nats.

    Args:
      num_classes: K.

    Returns:
      The loss, of outputs ``[B, K+1]``: that of the classifier on what it keeps, and
      that of the last output as a logistic model of what the human takes. Its batch is
      one of `l2d_jax.learners.batches.one_expert_label_prob`; it reads
      ``hparams["budget"]`` and, of answers, ``hparams["smoothing"]``.
    """

    def batch_loss(
        outputs: jax.Array, batch: Batch, hparams: HParams, key: jax.Array
    ) -> jax.Array:
        del key
        smoothing = 0.0 if batch.expert_probs is not None else hparams["smoothing"]
        label_prob, weights = one_expert_label_prob(batch, num_classes, smoothing)
        weights = jnp.ones(len(outputs)) if weights is None else jnp.asarray(weights)
        nll = jax.vmap(losses.classification_cross_entropy)(
            outputs[:, :-1], jnp.asarray(batch.labels)
        )
        human = -jnp.log(jnp.maximum(label_prob, 1e-12))
        takes = passed(jax.lax.stop_gradient(nll), human, weights, hparams["budget"])
        gate = jax.vmap(losses.expert_correctness_nll)(
            outputs[:, -1], takes.astype(outputs.dtype)
        )
        kept = jnp.where(takes, 0.0, weights)
        # Of all examples, so that a batch of which little is kept counts for little.
        return weighted_mean(gate, weights) + jnp.sum(
            jnp.where(kept > 0, kept * nll, 0.0)
        ) / jnp.maximum(jnp.sum(weights), 1e-9)

    return batch_loss


def decide(outputs: jax.Array, hparams: HParams) -> Decision:
    """Defers where the last output is > 0; no estimate of the expert's being right."""
    del hparams
    return decisions.decide(jax.nn.softmax(outputs[:, :-1], axis=1), outputs[:, -1:])


def make_learner(
    model: ModelFns, optimizer: OptimizerFn, *, num_classes: int, **kwargs
) -> Learner:
    """The learner of a network with K+1 outputs.

    Args:
      model: gives the scores of the classes and, last, of passing, ``[B, K+1]``.
      optimizer: from `l2d_jax.optimizers`.
      num_classes: K.
      **kwargs: as in `l2d_jax.learners.gradient.make_gradient_learner`.

    Returns:
      The learner; its ``predict`` gives a `l2d_jax.types.Decision` of one expert.
    """
    return make_gradient_learner(
        model, optimizer, make_batch_loss(num_classes), decide, **kwargs
    )
