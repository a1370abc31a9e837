"""What learners read of a batch: its rows, its mean, and how right its experts are."""

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from l2d_jax._checks import require_all
from l2d_jax.decisions import known_answers, signed
from l2d_jax.types import Array, Batch, Dataset, PyTree


def take(dataset: Dataset, index: Array) -> Dataset:
    """The examples at ``index``, int ``[B]``."""
    return jax.tree.map(lambda leaf: jnp.take(leaf, index, axis=0), dataset)


def weighted_mean(values: jax.Array, weights: Array | None) -> jax.Array:
    """Mean of ``values [B]`` under ``weights [B]``; 0 where all weights are 0.

    A value of weight 0 counts for nothing, NaN included.
    """
    if weights is None:
        return jnp.mean(values)
    total = jnp.sum(weights)
    weighted = jnp.where(jnp.asarray(weights) > 0, values * weights, 0.0)
    return jnp.sum(weighted) / jnp.where(total > 0, total, 1.0)


def blank(values: Array, weights: Array, fill: float = 0) -> jax.Array:
    """Values of weight 0 filled, so that a NaN there reaches no product.

    Args:
      values: ``[..., N, ...]``.
      weights: ``[..., N]``, of the leading axes of the values.
      fill: what takes their place.
    """
    values, counts = jnp.asarray(values), jnp.asarray(weights) > 0
    counts = counts.reshape(*counts.shape, *(1,) * (values.ndim - counts.ndim))
    return jnp.where(counts, values, jnp.asarray(fill, values.dtype))


def blank_unweighted(batch: Batch) -> Batch:
    """The batch with rows of weight 0 filled with zeros and answers of -1.

    What such a row holds (NaN, a label out of range) then reaches no activation and no
    gradient. A batch without weights is returned as it is.
    """
    if batch.weights is None:
        return batch
    weights, answers = batch.weights, batch.expert_labels
    blanked = jax.tree.map(lambda leaf: blank(leaf, weights), batch)
    if answers is None:
        return blanked
    # A type that has no -1 would hold another answer.
    answers = signed(answers)
    return blanked._replace(expert_labels=blank(answers, weights, -1))


def counted_rows(model_state: PyTree, batch: Batch) -> dict[str, Array | None]:
    """What `l2d_jax.types.ModelFns.apply` is told of the weights of a batch.

    A network without a state has no statistics, and is told nothing.
    """
    return {"weights": batch.weights} if jax.tree.leaves(model_state) else {}


def experts_correct(
    batch: Batch, dtype: DTypeLike, num_classes: int | None = None
) -> tuple[jax.Array, jax.Array]:
    """Whether each expert is right, or the probability of it, and whether it is known.

    Losses that are linear in whether an expert is right take an imputed probability as
    well as an answer.

    Args:
      batch: ``expert_correct`` ``[B, M]``, which is used where it is given; else
        ``labels`` ``[B]`` and ``expert_labels``, int ``[B, M]``.
      dtype: float type of the result.
      num_classes: K; None where it is not known.

    Returns:
      Whether each is right, float ``[B, M]``, in [0, 1], 0 where it is not known; and
      whether it is known, bool ``[B, M]``: an answer of -1 and a NaN are not. A traced
      answer that is neither -1 nor a class is known and NaN, and so is a loss of it.

    Raises:
      TypeError: answers are not of an integer dtype.
      ValueError: the batch has neither field, the one it has is not ``[B, M]``, or a
        concrete answer is neither -1 nor a class.
    """
    if batch.expert_correct is not None:
        values = jnp.asarray(batch.expert_correct, dtype)
        _require_columns("expert_correct", values)
        known = ~jnp.isnan(values)
        return jnp.where(known, values, 0), known
    if batch.expert_labels is None:
        raise ValueError(
            "batch.expert_labels is None and so is batch.expert_correct; give an "
            "expert's answers or the probability that they are right"
        )
    answers = jnp.asarray(batch.expert_labels)
    _require_columns("expert_labels", answers)
    is_answer = known_answers(answers, num_classes)
    most = jnp.inf if num_classes is None else num_classes - 1
    require_all(
        "batch.expert_labels",
        batch.expert_labels,
        lambda v: (v >= -1) & (v <= most),
        "be classes, or -1 of who was not asked",
    )
    right = (answers == jnp.asarray(batch.labels)[:, None]).astype(dtype)
    return jnp.where(is_answer, right, jnp.nan), answers != -1


def one_expert_correct(
    batch: Batch, dtype: DTypeLike, num_classes: int | None = None
) -> tuple[jax.Array, jax.Array]:
    """As `experts_correct`, of the one expert there is: ``[B]``, and weights ``[B]``.

    The weights are those of the batch, 0 where nothing is known of the expert.

    Raises:
      ValueError: there is not one expert.
    """
    correct, known = experts_correct(batch, dtype, num_classes)
    if correct.shape[1] != 1:
        raise ValueError(
            f"the batch has {correct.shape[1]} experts and this method takes one;"
            " choose a column, or a method of several experts"
        )
    weights = known[:, 0].astype(dtype)
    if batch.weights is not None:
        weights = weights * batch.weights
    return correct[:, 0], weights


def classifier_right(batch: Batch) -> jax.Array:
    """Whether the classifier that is given is right, bool ``[B]``.

    A tie is the lowest label; a NaN is wrong.

    Raises:
      ValueError: the batch has no ``class_probs``.
    """
    if batch.class_probs is None:
        raise ValueError(
            "batch.class_probs is None; give the probabilities of the classifier that"
            " is deferred from, or a method that trains its own"
        )
    probs = jnp.asarray(batch.class_probs)
    sound = ~jnp.isnan(probs).any(axis=-1)
    return sound & (jnp.argmax(probs, axis=-1) == jnp.asarray(batch.labels))


def one_expert_label_prob(
    batch: Batch, num_classes: int, smoothing: Array | float = 0.0
) -> tuple[jax.Array, Array | None]:
    r"""Probability that the one expert gives to the label, and weights, ``[B]``.

    Args:
      batch: the expert's own ``expert_probs``, float ``[B, 1, K]``, where given. Else
        what `one_expert_correct` reads: an answer stands for the distribution that has
        :math:`1 - s` on it and the rest spread evenly over the other classes, so that
        a wrong answer costs :math:`-\log(s / (K - 1))` and not infinitely much; an
        imputed probability of being right is mixed likewise.
      num_classes: K, >= 2.
      smoothing: s, float ``[]``, in (0, 1); not read where there are ``expert_probs``.

    Raises:
      ValueError: there is not one expert, or its probabilities are not ``[B, 1, K]``.
    """
    if batch.expert_probs is None:
        correct, weights = one_expert_correct(batch, jnp.float32, num_classes)
        wrong = smoothing / (num_classes - 1)
        return correct * (1.0 - smoothing) + (1.0 - correct) * wrong, weights
    shape = jnp.shape(batch.expert_probs)
    if len(shape) != 3 or shape[1:] != (1, num_classes):
        raise ValueError(
            "batch.expert_probs must be one expert's probabilities of the classes, "
            f"[B, 1, K] with K = {num_classes}, got shape {shape}"
        )
    probs = jnp.asarray(batch.expert_probs)[:, 0]
    # A masked sum: the gradient of indexing is a scatter.
    is_label = jnp.arange(num_classes) == jnp.asarray(batch.labels)[:, None]
    return jnp.sum(jnp.where(is_label, probs, 0.0), axis=1), batch.weights


def _require_columns(name: str, values: jax.Array) -> None:
    if values.ndim != 2:
        raise ValueError(
            f"batch.{name} must have shape [B, M], got {values.shape}; give a "
            "column to each expert"
        )
