"""Equalized odds of a whole batch: a soft form to train on and a hard one to report.

Both compare the error rates of two groups, separately for each label. They are
statistics of a batch, so they take the batch axis; do not vmap them over examples.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from l2d_jax import ratios
from l2d_jax._checks import (
    poison_unless,
    require_all,
    require_integer,
    require_same_shape,
    require_shape,
)
from l2d_jax.ratios import Ratio


def equalized_odds_regularizer(
    probs: ArrayLike,
    labels: ArrayLike,
    groups: ArrayLike,
    weights: ArrayLike | None = None,
) -> jax.Array:
    r"""Disparity of the expected error rates of two groups, soft equalized odds.

    .. math:: D = \tfrac12 \sum_{y \in \{0, 1\}} | r_{y0} - r_{y1} |

    where :math:`r_{ya}` is the weighted mean of :math:`|p - y|` over the examples of
    label y in group a: the false positive rate for y = 0 and the false negative rate
    for y = 1 of predictions drawn as Bernoulli(p). A label that one of the groups lacks
    has no gap to measure and contributes 0. Where the rates are equal the gradient is
    the subgradient 0.

    Args:
      probs: probability of label 1, of the classifier or of the whole system, float
        ``[B]``, in [0, 1].
      labels: true label, int ``[B]``, 0 or 1.
      groups: sensitive group, int ``[B]``, 0 or 1.
      weights: weight of each example, float ``[B]``, >= 0; None is all ones. An example
        of weight 0 is ignored, whatever else it holds.

    Returns:
      The disparity, float ``[]``, in [0, 1]; 0 for a batch without weight. Where a
      traced example of positive weight has a label or group other than 0 and 1 or a NaN
      probability, or a traced weight is negative, the result and its gradient are NaN.

    Raises:
      TypeError: ``labels`` or ``groups`` is not of an integer dtype.
      ValueError: shapes disagree, or a value is out of its range and nothing is traced.

    References:
      Madras, Pitassi and Zemel, "Predict Responsibly", 2018, Eq. 12. The authors' code
      compares a missing cell's rate as 0; here the label then contributes nothing.
    """
    require_shape("probs", probs, "[B]", remedy="pass one probability an example")
    weights = _check_batch("probs", probs, labels, groups, weights)
    return _mean_gap(jnp.asarray(probs), labels, groups, weights)


def equalized_odds_gap(
    decisions: ArrayLike,
    labels: ArrayLike,
    groups: ArrayLike,
    weights: ArrayLike | None = None,
) -> jax.Array:
    r"""Disparity of the error rates of two groups, hard equalized odds.

    .. math:: \tfrac12 (|FPR_0 - FPR_1| + |FNR_0 - FNR_1|)

    A label that one of the groups lacks contributes 0.

    Args:
      decisions: decided label, int or bool ``[B]``, 0 or 1. Threshold probabilities
        first, for instance ``probs > 0.5``.
      labels: true label, int ``[B]``, 0 or 1.
      groups: sensitive group, int ``[B]``, 0 or 1.
      weights: weight of each example, float ``[B]``, >= 0; None is all ones. An example
        of weight 0 is ignored, whatever else it holds.

    Returns:
      The disparity, float ``[]``, in [0, 1]; 0 for a batch without weight. NaN where a
      traced example of positive weight has a decision, label or group other than 0 and
      1, or a traced weight is negative.

    Raises:
      TypeError: ``decisions``, ``labels`` or ``groups`` is not of an integer dtype.
      ValueError: shapes disagree, or a value is out of its range and nothing is traced.

    References:
      Madras, Pitassi and Zemel, "Predict Responsibly", 2018, Eq. 12 at probabilities 0
      and 1: its disparate impact, DI.
    """
    require_shape("decisions", decisions, "[B]", remedy="pass one decision an example")
    require_integer(
        "decisions", decisions, "threshold probabilities first, e.g. probs > 0.5"
    )
    weights = _check_batch("decisions", decisions, labels, groups, weights)
    return _mean_gap(_binary_or_nan(decisions), labels, groups, weights)


def group_rates(
    predictions: ArrayLike,
    labels: ArrayLike,
    groups: ArrayLike,
    weights: ArrayLike | None = None,
) -> dict[str, jax.Array]:
    """Error rates of two groups and of both together, to report.

    Args:
      predictions: decided label, of the classifier or of the whole system, int or bool
        ``[B]``, 0 or 1. Threshold probabilities first, for instance ``probs > 0.5``.
      labels: true label, int ``[B]``, 0 or 1.
      groups: sensitive group, int ``[B]``, 0 or 1.
      weights: weight of each example, float ``[B]``, >= 0; None is all ones. An example
        of weight 0 is ignored, whatever else it holds.

    Returns:
      Scalars, float ``[]``, in [0, 1], by name:

      * ``fpr``, ``fpr_0``, ``fpr_1``: false positive rate, the fraction of label 0 that
        is predicted 1: of all, of group 0, of group 1.
      * ``fnr``, ``fnr_0``, ``fnr_1``: false negative rate, the fraction of label 1 that
        is predicted 0.
      * ``di``: disparate impact, the mean of the groups' two gaps. It is
        `equalized_odds_gap`, but not where a group lacks a label.

      A rate over no examples is NaN, and so is ``di`` where it needs one. All are NaN
      where `equalized_odds_gap` is NaN.

    Raises:
      TypeError: ``predictions``, ``labels`` or ``groups`` is not of an integer dtype.
      ValueError: shapes disagree, or a value is out of its range and nothing is traced.

    References:
      Madras, Pitassi and Zemel, "Predict Responsibly", 2018, Section 3.3.
    """
    require_shape(
        "predictions", predictions, "[B]", remedy="pass one prediction an example"
    )
    require_integer(
        "predictions", predictions, "threshold probabilities first, e.g. probs > 0.5"
    )
    weights = _check_batch("predictions", predictions, labels, groups, weights)
    weights = jnp.asarray(weights, float)
    rates = of_groups(ratios.weigh(group_ratios(predictions, labels, groups), weights))
    sound = (weights >= 0).all()
    return {name: jnp.where(sound, rate, jnp.nan) for name, rate in rates.items()}


def group_ratios(
    predictions: ArrayLike, labels: ArrayLike, groups: ArrayLike
) -> dict[str, Ratio]:
    """What `group_rates` but ``di`` are ratios of, for any weighting of the cases.

    Args:
      predictions: as for `group_rates`, and so are the others.
      labels: true label, ``[B]``.
      groups: sensitive group, ``[B]``.

    Returns:
      By the names of `group_rates`, of B cases.
    """
    labels, groups = jnp.asarray(labels), jnp.asarray(groups)
    predicted = _binary_or_nan(predictions)
    binary = jnp.arange(2)
    valid = (labels[:, None] == binary).any(1) & (groups[:, None] == binary).any(1)
    errors = jnp.where(labels == 1, 1.0 - predicted, predicted)
    members = {}
    for label, name in enumerate(("fpr", "fnr")):
        members[name] = labels == label
        members |= {f"{name}_{g}": (labels == label) & (groups == g) for g in (0, 1)}
    # What is no label, group or prediction makes all rates unknown.
    sound = valid & ~jnp.isnan(errors)
    return {
        name: Ratio(jnp.where(sound, jnp.where(inside, errors, 0), jnp.nan), inside)
        for name, inside in members.items()
    }


def of_groups(found: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """`group_rates` of what `group_ratios` came to, ``[...]`` each."""
    gaps = [jnp.abs(found[f"{name}_0"] - found[f"{name}_1"]) for name in ("fpr", "fnr")]
    return {**found, "di": 0.5 * (gaps[0] + gaps[1])}


def _binary_or_nan(decisions: ArrayLike) -> jax.Array:
    decisions = jnp.asarray(decisions)
    is_binary = (decisions == 0) | (decisions == 1)
    return jnp.where(is_binary, decisions.astype(float), jnp.nan)


def _mean_gap(
    probs: jax.Array, labels: ArrayLike, groups: ArrayLike, weights: ArrayLike
) -> jax.Array:
    mass, error_mass, all_valid = _cell_errors(probs, labels, groups, weights)
    # The divisor is made safe before the division, or the gradient would be 0 * NaN.
    rates = error_mass / jnp.where(mass > 0, mass, 1.0)
    differences = jnp.where((mass > 0).all(1), rates[:, 0] - rates[:, 1], 0.0)
    # Not abs, whose slope at 0 is 1: equal rates favour neither group.
    gaps = differences * jax.lax.stop_gradient(jnp.sign(differences))
    return poison_unless(all_valid, 0.5 * gaps.sum())


def _cell_errors(
    probs: jax.Array, labels: ArrayLike, groups: ArrayLike, weights: ArrayLike
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Weight and weighted errors by label and group, ``[2, 2]``; if all is valid."""
    labels, groups, weights = map(jnp.asarray, (labels, groups, weights))
    counted = weights > 0
    binary = jnp.arange(2)
    is_label = labels[:, None] == binary  # [B, 2]
    is_group = groups[:, None] == binary
    valid = is_label.any(1) & is_group.any(1) & ~jnp.isnan(probs)

    # |p - y| as a linear function: abs has no slope at p = y, where 1 - p has slope -1.
    probs = jnp.where(counted, probs, 0.0)
    errors = jnp.where(labels == 1, 1.0 - probs, probs)
    in_cell = is_label[:, :, None] & is_group[:, None, :] & counted[:, None, None]
    cells = jnp.where(in_cell, weights[:, None, None], 0.0).reshape(-1, 4)
    mass = cells.sum(0)  # Of labels and groups: 00, 01, 10, 11.
    # One product for all runs that share the batch, where sums would be as slow as
    # the network; in full precision, since an accelerator would round its inputs.
    error_mass = jnp.matmul(errors, cells, precision=jax.lax.Precision.HIGHEST)
    all_valid = ((weights == 0) | (counted & valid)).all()
    return mass.reshape(2, 2), error_mass.reshape(2, 2), all_valid


def _check_batch(
    name: str, values: Any, labels: Any, groups: Any, weights: Any
) -> ArrayLike:
    """Checks what both measures share; returns the weights, ones in place of None."""
    if weights is None:
        weights = np.ones(jnp.shape(values), np.float32)
    for other_name, other in (
        ("labels", labels),
        ("groups", groups),
        ("weights", weights),
    ):
        require_shape(other_name, other, "[B]", remedy=f"give it the shape of {name}")
        require_same_shape(other_name, other, name, values)
    require_integer("labels", labels)
    require_integer("groups", groups)

    arrays = (values, labels, groups, weights)
    if not any(isinstance(array, jax.core.Tracer) for array in arrays):
        values, labels, groups, weights = map(np.asarray, jax.device_get(arrays))
        require_all("weights", weights, lambda v: v >= 0, "be >= 0")
        ignored = weights == 0
        require_all(
            name, values, lambda v: ((v >= 0) & (v <= 1)) | ignored, "be in [0, 1]"
        )
        for other_name, other in (("labels", labels), ("groups", groups)):
            require_all(
                other_name, other, lambda v: np.isin(v, (0, 1)) | ignored, "be 0 or 1"
            )
    return weights
