"""Learning to defer by a logistic regression for each class and each expert.

Verma and Nalisnick, "Calibrated Learning to Defer with One-vs-All Classifiers", 2022,
and Verma, Barrejon and Nalisnick, "Learning to Defer to Multiple Experts", 2023.
"""

import jax
import jax.numpy as jnp

from l2d_jax import decisions, losses
from l2d_jax._checks import poison_unless
from l2d_jax.learners.batches import experts_correct, weighted_mean
from l2d_jax.learners.gradient import make_gradient_learner
from l2d_jax.types import Batch, HParams, Learner


def batch_loss(
    outputs: jax.Array, batch: Batch, hparams: HParams, key: jax.Array
) -> jax.Array:
    """Mean one-vs-all loss of a batch, in nats.

    Args:
      outputs: logits of the classes and the experts, float ``[B, K+M]``.
      batch: labels ``[B]`` and ``expert_correct`` or the experts' answers, ``[B, M]``;
        who was not asked has no term.
      hparams: none are read.
      key: not used; nothing is drawn.
    """
    del hparams, key
    given = (
        batch.expert_labels if batch.expert_correct is None else batch.expert_correct
    )
    num_experts = 0 if given is None else jnp.shape(given)[-1]
    num_classes = outputs.shape[1] - num_experts
    correct, known = experts_correct(batch, outputs.dtype, num_classes)
    example_losses = jax.vmap(losses.one_vs_all_loss)(
        outputs, jnp.asarray(batch.labels), jnp.where(known, correct, -1.0)
    )
    # To the loss a NaN is somebody who was not asked.
    sound = ~jnp.any(known & jnp.isnan(correct), axis=1)
    example_losses = poison_unless(sound, example_losses)
    return weighted_mean(example_losses, batch.weights)


def make_learner(model, optimizer, *, num_experts: int = 1, **kwargs) -> Learner:
    """The learner of a network with K+M outputs.

    Args:
      model: gives the logits of the classes and, behind them, of the experts.
      optimizer: from `l2d_jax.optimizers`.
      num_experts: M.
      **kwargs: as in `l2d_jax.learners.gradient.make_gradient_learner`.

    Returns:
      The learner; its ``predict`` gives a `l2d_jax.types.Decision` of M experts.
    """
    return make_gradient_learner(
        model,
        optimizer,
        batch_loss,
        lambda outputs, hparams: decisions.one_vs_all_decision(outputs, num_experts),
        **kwargs,
    )
