"""What a weight on fairness adds to the loss of a system, for two labels and groups."""

import jax
import jax.numpy as jnp

from l2d_jax import fairness
from l2d_jax.types import Batch, HParams


def disparity(probs: jax.Array, batch: Batch, hparams: HParams) -> jax.Array:
    """Soft disparity of error rates, times ``hparams["fairness"]``.

    Args:
      probs: probability of label 1, float ``[B]``.
      batch: labels 0 or 1 and ``groups`` 0 or 1, ``[B]``.
      hparams: ``fairness``, the weight; < 0 rewards disparity.

    Raises:
      ValueError: the batch has no groups.

    References:
      Madras, Pitassi and Zemel, "Predict Responsibly", 2018, Eqs. 11 and 12.
    """
    if batch.groups is None:
        raise ValueError("batch.groups is None; disparity needs everyone's group")
    return hparams["fairness"] * fairness.equalized_odds_regularizer(
        probs, batch.labels, batch.groups, batch.weights
    )


def team_prob(probs: jax.Array, gate: jax.Array, batch: Batch) -> jax.Array:
    """Probability of label 1 by a classifier who passes some of it to one expert.

    Args:
      probs: the classifier's probability of label 1, float ``[B]``.
      gate: weight of passing, float ``[B]``, in [0, 1].
      batch: the expert's probabilities, float ``[B, 1, 2]``, or answers, ``[B, 1]``;
        where they were not asked the classifier answers.

    Raises:
      ValueError: the batch has neither, or not of one expert.
    """
    if batch.expert_probs is not None:
        expert = jnp.asarray(batch.expert_probs)
        if expert.shape[1:] != (1, 2):
            raise ValueError(
                "batch.expert_probs must be one expert's probabilities of both labels, "
                f"[B, 1, 2], got shape {expert.shape}"
            )
        return (1 - gate) * probs + gate * expert[:, 0, 1]
    if batch.expert_labels is None:
        raise ValueError("batch.expert_labels is None; deferral needs an expert")
    answers = jnp.asarray(batch.expert_labels)
    if answers.ndim != 2 or answers.shape[1] != 1:
        raise ValueError(
            f"batch.expert_labels must be of one expert, [B, 1], got {answers.shape}"
        )
    gate = jnp.where(answers[:, 0] >= 0, gate, 0.0)
    return (1 - gate) * probs + gate * (answers[:, 0] == 1)
