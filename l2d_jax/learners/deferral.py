"""Learning to defer by one softmax over the classes and the expert.

Mozannar and Sontag, "Consistent Estimators for Learning to Defer to an Expert", 2020: a
network with K+1 outputs, trained with the deferral cross-entropy; the system defers
where the last output is the largest.
"""

import jax

from l2d_jax import decisions, losses
from l2d_jax.learners.batches import one_expert_correct, weighted_mean
from l2d_jax.learners.disparity import disparity, team_prob
from l2d_jax.learners.gradient import BatchLoss, make_gradient_learner
from l2d_jax.types import Batch, Decision, HParams, Learner


def make_batch_loss(*, regularized: bool = False) -> BatchLoss:
    """Mean deferral cross-entropy of a batch, in nats.

    Args:
      regularized: whether to add the soft disparity of the system's error rates, for
        two classes and two groups; the softmax probability of deferring is the share
        that is passed. Ours: the paper knows of no groups.

    Returns:
      The loss, of outputs ``[B, K+1]``. Its batch has labels ``[B]`` and either
      ``expert_correct`` or the answers of one expert, ``[B, 1]``; where nothing is
      known of the expert the example has no part in it. It reads ``hparams["alpha"]``,
      the weight of the label where the expert is right, and ``hparams["fairness"]`` if
      regularized.
    """

    def batch_loss(
        outputs: jax.Array, batch: Batch, hparams: HParams, key: jax.Array
    ) -> jax.Array:
        del key
        correct, weights = one_expert_correct(
            batch, outputs.dtype, outputs.shape[1] - 1
        )
        example_losses = jax.vmap(losses.deferral_cross_entropy, (0, 0, 0, None))(
            outputs, batch.labels, correct, hparams["alpha"]
        )
        loss = weighted_mean(example_losses, weights)
        if regularized:
            gate = jax.nn.softmax(outputs, axis=1)[:, -1]
            probs = jax.nn.softmax(outputs[:, :-1], axis=1)[:, 1]
            loss += disparity(team_prob(probs, gate, batch), batch, hparams)
        return loss

    return batch_loss


def decide(outputs: jax.Array, hparams: HParams) -> Decision:
    """The `l2d_jax.decisions.deferral_decision` at the run's ``alpha``."""
    return decisions.deferral_decision(outputs, hparams["alpha"])


def make_learner(model, optimizer, *, regularized: bool = False, **kwargs) -> Learner:
    """The learner of a network with K+1 outputs.

    Args:
      model: gives the scores of the classes and, last, of deferring, ``[B, K+1]``.
      optimizer: from `l2d_jax.optimizers`.
      regularized: as for `make_batch_loss`, also for the hyperparameters read.
      **kwargs: as in `l2d_jax.learners.gradient.make_gradient_learner`.

    Returns:
      The learner; its ``predict`` gives a `l2d_jax.types.Decision` of one expert.
    """
    loss = make_batch_loss(regularized=regularized)
    return make_gradient_learner(model, optimizer, loss, decide, **kwargs)
