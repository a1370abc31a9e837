r"""Thresholds on the score of a classifier that is already trained: when to pass.

A ternary classifier: a score :math:`\beta` with :math:`t_0 < \beta < t_1` is passed to
the expert (:math:`\pi = 1`), the others are kept. The thresholds of each group are
found by random search.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from l2d_jax._checks import (
    require_all,
    require_integer,
    require_same_shape,
    require_shape,
)

_NUM_GROUPS = 2


class Thresholds(NamedTuple):
    """Bounds of the scores that are passed, G = 2 groups.

    Attributes:
      t0: scores at or below it are kept, float ``[G]``, in [0, 0.5].
      t1: scores at or above it are kept, float ``[G]``, in [0.5, 1].
    """

    t0: jax.Array
    t1: jax.Array


def search(
    key: jax.Array,
    scores_train: ArrayLike,
    groups_train: ArrayLike,
    scores_a: ArrayLike,
    labels_a: ArrayLike,
    groups_a: ArrayLike,
    expert_probs_a: ArrayLike | None,
    cost: ArrayLike,
    alpha: ArrayLike,
    num_draws: int = 1000,
    per_group: bool = True,
    *,
    weights_train: ArrayLike | None = None,
    weights_a: ArrayLike | None = None,
) -> Thresholds:
    r"""Thresholds of least loss among random ones.

    A draw takes each lower threshold from the training scores below 1/2 and each upper
    one from those above, so that 1/2 is always passed and thresholds are dense where
    scores are. Its loss on part a is that of the system with
    :math:`\pi = 1[t_0 < \beta < t_1]`, in nats,

    .. math:: \frac1{\sum_i w_i} \sum_i w_i \big[(1 - \pi_i)\,\ell(y_i, \beta_i) +
        \pi_i\,(\ell(y_i, \hat y_{D,i}) + \gamma)\big] + \alpha\,D(y, a, (1 - \pi) \beta
        + \pi \hat y_D)

    with D the soft disparity of `l2d_jax.fairness.equalized_odds_regularizer`. Without
    an expert it is that of rejection: :math:`\ell(y, \hat y_D)` is 0 and D is of
    :math:`\beta` on all examples, the same for every draw. A draw costs a binary search
    in the sorted scores, not a pass over the examples. Likelihoods below 1e-12 count as
    that.

    Args:
      key: PRNG key ``[]``.
      scores_train: probability of label 1 by the classifier on training examples, float
        ``[N]``, in [0, 1].
      groups_train: their groups, int ``[N]``, 0 or 1.
      scores_a: the same probability on the examples to choose by, float ``[B]``, in
        [0, 1].
      labels_a: their labels, int ``[B]``, 0 or 1.
      groups_a: their groups, int ``[B]``, 0 or 1.
      expert_probs_a: probability of label 1 by the expert, float ``[B]``, in [0, 1];
        None to learn to reject.
      cost: price :math:`\gamma` of passing, float ``[]``, nats.
      alpha: weight :math:`\alpha` of the disparity, float ``[]``.
      num_draws: draws of all thresholds at once, static, >= 1.
      per_group: whether each group has thresholds of its own, from its own training
        scores; else both groups share those drawn from all; static.
      weights_train: weight of each training example, float ``[N]``, >= 0: one of weight
        0 counts for nothing, whatever its row holds, and all others alike. None: 1.
      weights_a: weight :math:`w` of each example to choose by, float ``[B]``, >= 0; one
        of weight 0 counts for nothing, whatever its row holds. None: 1.

    Returns:
      The thresholds of the draw with the least loss, of the first of equals. One with
      no training score on its side of 1/2 is 1/2. NaN where a traced score is.

    Raises:
      TypeError: labels or groups are not of an integer dtype.
      ValueError: shapes disagree, ``num_draws`` is < 1, or a concrete value is out of
        its range.

    References:
      Madras, Pitassi and Zemel, "Predict Responsibly", 2018, Section 3.1, Figure 2 and
      Appendix D, with the loss of Eqs. 9 to 12.
    """
    if num_draws < 1:
        raise ValueError(f"num_draws must be at least 1, got {num_draws}")
    w_train = _weights("weights_train", weights_train, scores_train)
    scores_train, groups_train = _counted(w_train, scores_train, groups_train)
    _check("scores_train", scores_train, groups_train=groups_train)
    w_a = _weights("weights_a", weights_a, scores_a)
    scores_a, groups_a, labels_a = _counted(w_a, scores_a, groups_a, labels_a)
    _check("scores_a", scores_a, groups_a=groups_a, labels_a=labels_a)
    if expert_probs_a is not None:
        (expert_probs_a,) = _counted(w_a, expert_probs_a)
        _check("expert_probs_a", expert_probs_a)
        require_same_shape("expert_probs_a", expert_probs_a, "scores_a", scores_a)
    require_shape("cost", cost, "[]", remedy="vmap over the costs")
    require_shape("alpha", alpha, "[]", remedy="vmap over the weights")

    draws = _draw(
        key,
        jnp.asarray(scores_train),
        jnp.asarray(groups_train),
        w_train > 0,
        num_draws,
        per_group,
    )
    scores, labels, groups = map(jnp.asarray, (scores_a, labels_a, groups_a))
    expert_probs = None if expert_probs_a is None else jnp.asarray(expert_probs_a)
    of_losses = _losses(draws, scores, labels, groups, expert_probs, w_a, cost, alpha)
    best = jnp.argmin(of_losses)
    # Of a NaN no loss is the least, and argmin takes it for that.
    unknown = jnp.any(jnp.isnan(of_losses)) | jnp.any(jnp.isnan(scores_train))
    return jax.tree.map(lambda leaf: jnp.where(unknown, jnp.nan, leaf[best]), draws)


def apply_thresholds(
    thresholds: Thresholds, scores: ArrayLike, groups: ArrayLike
) -> jax.Array:
    """Whether each example is passed: its score is between its group's thresholds.

    Args:
      thresholds: from `search`.
      scores: probability of label 1 by the classifier, float ``[B]``, in [0, 1].
      groups: group of each example, int ``[B]``, 0 or 1.

    Returns:
      Whether the expert decides, bool ``[B]``; never where a traced group is neither 0
      nor 1, always where a traced score or threshold is NaN, which decides nothing.
      Kept examples get label 1 where the score is above 1/2.

    Raises:
      TypeError: ``groups`` is not of an integer dtype.
      ValueError: shapes disagree, or a concrete value is out of its range.

    References:
      Madras, Pitassi and Zemel, "Predict Responsibly", 2018, Section 3.1 and Figure 2.
    """
    _check("scores", scores, groups=groups)
    scores, groups = jnp.asarray(scores), jnp.asarray(groups)
    passed = jnp.zeros(scores.shape, bool)
    for group in range(_NUM_GROUPS):
        kept = (scores <= thresholds.t0[group]) | (scores >= thresholds.t1[group])
        passed |= (groups == group) & ~kept
    return passed


def _draw(
    key: jax.Array,
    scores: jax.Array,
    groups: jax.Array,
    counts: jax.Array,
    num_draws: int,
    per_group: bool,
) -> Thresholds:
    """Random thresholds, ``[P, G]`` for P draws."""
    uniform = jax.random.uniform(key, (2, _NUM_GROUPS, num_draws))

    def draw(members: jax.Array, uniform: jax.Array) -> jax.Array:
        count = members.sum()
        # The members come first, in order; what follows them is never drawn.
        ordered = jnp.sort(jnp.where(members, scores, jnp.inf))
        rank = jnp.minimum((uniform * count).astype(int), jnp.maximum(count - 1, 0))
        return jnp.where(count > 0, ordered[rank], 0.5)

    if not len(scores):
        of_none = jnp.full((num_draws, _NUM_GROUPS), 0.5, scores.dtype)
        return Thresholds(of_none, of_none)
    columns: list[list[jax.Array]] = [[], []]
    for group in range(_NUM_GROUPS):
        mine = counts & (groups == group) if per_group else counts
        for side, members in enumerate((scores < 0.5, scores > 0.5)):
            row = uniform[side, group if per_group else 0]
            columns[side].append(draw(mine & members, row))
    return Thresholds(*(jnp.stack(column, axis=-1) for column in columns))


def _losses(
    draws: Thresholds,
    scores: jax.Array,
    labels: jax.Array,
    groups: jax.Array,
    expert_probs: jax.Array | None,
    weights: jax.Array,
    cost: ArrayLike,
    alpha: ArrayLike,
) -> jax.Array:
    """Loss of the system at each of P draws, ``[P]``."""
    by_score = jnp.argsort(scores)
    scores, labels, groups = scores[by_score], labels[by_score], groups[by_score]
    weights = weights[by_score]
    is_label = labels[:, None] == jnp.arange(2)
    is_group = groups[:, None] == jnp.arange(_NUM_GROUPS)
    in_cell = is_label[:, :, None] & is_group[:, None, :]
    in_cell = jnp.where(in_cell, weights[:, None, None], 0)
    counts = in_cell.sum(0)  # [label, group]
    nll, errors = _nll(scores, labels), jnp.abs(scores - labels)
    if expert_probs is None:
        changes = [cost - nll, *2 * (jnp.zeros_like(errors),)]
    else:
        expert_probs = expert_probs[by_score]
        more_errors = jnp.abs(expert_probs - labels) - errors
        changes = [_nll(expert_probs, labels) + cost - nll]
        changes += [jnp.where(is_label[:, label], more_errors, 0) for label in (0, 1)]

    # What passing an example adds to the loss and to the errors of its label; of all
    # examples of a group between two ranks it is a difference of running sums.
    change = weights[:, None] * jnp.stack(changes, -1)
    change = jnp.where(is_group[:, :, None], change[:, None], 0)
    running = jnp.cumsum(jnp.pad(change, ((1, 0), (0, 0), (0, 0))), axis=0)
    first = jnp.searchsorted(scores, draws.t0, side="right")  # [P, G]
    # Not before the first: nothing is between where the thresholds are one score.
    last = jnp.maximum(jnp.searchsorted(scores, draws.t1, side="left"), first)
    group = jnp.arange(_NUM_GROUPS)
    change = running[last, group] - running[first, group]  # [P, G, 3]

    likelihood = (weights * nll).sum() + change[:, :, 0].sum(1)
    kept_errors = (in_cell * errors[:, None, None]).sum(0)
    error_mass = kept_errors + jnp.swapaxes(change[:, :, 1:], 1, 2)  # [P, label, G]
    rates = error_mass / jnp.where(counts > 0, counts, 1)
    gaps = jnp.abs(rates[:, :, 0] - rates[:, :, 1])
    disparity = 0.5 * jnp.where((counts > 0).all(1), gaps, 0).sum(1)
    total = weights.sum()
    return likelihood / jnp.where(total > 0, total, 1) + alpha * disparity


def _nll(probs: jax.Array, labels: jax.Array) -> jax.Array:
    return -jnp.log(jnp.maximum(jnp.where(labels == 1, probs, 1 - probs), 1e-12))


def _weights(name: str, weights: ArrayLike | None, values: ArrayLike) -> jax.Array:
    """Checks weights of examples; ones in place of None."""
    if weights is None:
        return jnp.ones(jnp.shape(values))
    require_same_shape(name, weights, name.replace("weights", "scores"), values)
    require_all(name, weights, lambda v: v >= 0, "be at least 0")
    return jnp.asarray(weights)


def _counted(weights: jax.Array, *columns: ArrayLike) -> tuple[ArrayLike, ...]:
    """The columns, and something harmless where the weight is 0."""
    size = jnp.shape(weights)
    # What is of another shape is the affair of whoever checks it.
    return tuple(
        jnp.where(weights > 0, column, 0) if jnp.shape(column) == size else column
        for column in columns
    )


def _check(name: str, probs: ArrayLike, **of_examples: ArrayLike) -> None:
    """Checks probabilities and what is 0 or 1 of the same examples."""
    require_shape(name, probs, "[B]", remedy="vmap over the runs")
    for other_name, other in of_examples.items():
        require_shape(other_name, other, "[B]", remedy="vmap over the runs")
        require_same_shape(other_name, other, name, probs)
        require_integer(other_name, other)
        require_all(other_name, other, lambda v: np.isin(v, (0, 1)), "be 0 or 1")
    require_all(name, probs, lambda v: (v >= 0) & (v <= 1), "be in [0, 1]")
