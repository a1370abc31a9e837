"""One threshold on the defer score, chosen for the accuracy of the team.

Every method has a score and a rule of its own, which asks where the score is > 0. Where
scores are biased, or the rule is not the best one, another threshold makes a better
team; chosen alike for all methods, it lets them be compared by the order in which they
would defer.
"""

import jax
import jax.numpy as jnp

from l2d_jax import decisions
from l2d_jax._checks import poison_unless, require_all, require_exact_shape
from l2d_jax._rounding import of_sum
from l2d_jax.types import Array, Decision


def best_threshold(
    decision: Decision,
    labels: Array,
    expert_correct: Array,
    weights: Array | None = None,
) -> jax.Array:
    """Threshold on the greatest defer score with the best team on these examples.

    Deferring where the score is above it makes the team as accurate as any threshold
    can. Of equals it is the one nearest to 0, the method's own rule, and 0 itself where
    none is better. It lies half way between two scores. Choose it on validation data
    and use it unchanged on test data, with `l2d_jax.decisions.apply_threshold`.

    Args:
      decision: over ``[B]`` and M experts, B >= 1. An expert with a score of -inf
        cannot be asked; an example with a score of NaN is always deferred.
      labels: class of each example, int ``[B]``.
      expert_correct: whether each expert is right, or the probability of it, float
        ``[B, M]``, in [0, 1]; anything of an expert who cannot be asked.
      weights: weight of each example, float ``[B]``, >= 0; one of weight 0 counts for
        nothing, whatever its row holds. All 1 if None.

    Returns:
      The threshold, float ``[]``, in units of the score; NaN where a traced probability
      of who would be asked is none.

    Raises:
      ValueError: the shapes do not match, or a concrete probability of who would be
        asked is not in [0, 1].

    References:
      Mozannar et al., "Who Should Predict? Exact Algorithms For Learning to Defer to
      Humans", 2023, which searches for its own method alone.
    """
    scores = jnp.asarray(decision.defer_score)
    require_exact_shape("expert_correct", expert_correct, scores.shape, "[B, M]")
    require_exact_shape("labels", labels, scores.shape[:1], "[B]")
    weights = jnp.ones(len(scores)) if weights is None else jnp.asarray(weights)
    require_exact_shape("weights", weights, scores.shape[:1], "[B]")
    right = decisions.prediction(decision) == jnp.asarray(labels)
    first = jnp.argmax(scores, axis=1)[:, None]
    expert_right = jnp.take_along_axis(jnp.asarray(expert_correct), first, axis=1)[:, 0]
    score = jnp.max(scores, axis=1)
    undecided = jnp.isnan(score)
    # No threshold changes what becomes of the others.
    counts = (weights > 0) & (score > -jnp.inf)
    known = (expert_right >= 0) & (expert_right <= 1) | ~counts
    require_all(
        "expert_correct",
        jnp.where(known, 0.5, expert_right),
        lambda v: (v >= 0) & (v <= 1),
        "be in [0, 1] of who would be asked: exclude them with `decisions.among`",
    )
    gain = jnp.where(counts, weights * (expert_right - right), 0.0)

    score = jnp.where(undecided, jnp.inf, score)
    # Nor is a score that does not count a neighbour of one that does.
    score = jnp.where(weights > 0, score, -jnp.inf)
    order = jnp.argsort(-score)
    score, gain = score[order], gain[order]
    # What is gained by deferring the first j, and a threshold that does so.
    gained = jnp.pad(jnp.cumsum(gain), (1, 0))
    below = score - (1.0 + jnp.abs(score))
    following = jnp.append(score[1:], -jnp.inf)
    following = jnp.where(following > -jnp.inf, following, below)
    half_way = following + (score - following) / 2.0
    # Half way between neighbours among floats is one of them.
    between = jnp.where(half_way < score, half_way, following)
    threshold = jnp.append(score[:1], between)
    splits = jnp.append(True, (following < score) & (score > -jnp.inf))
    gained = jnp.where(splits, gained, -jnp.inf)
    best = jnp.max(gained)
    distance = jnp.where(gained == best, jnp.abs(threshold), jnp.inf)
    own = jnp.sum(jnp.where(score > 0, gain, 0.0))
    # Added up in another order, equals differ by their rounding.
    rounding = of_sum(len(gain), gain.dtype) * jnp.sum(jnp.abs(gain))
    found = jnp.where(own >= best - rounding, 0.0, threshold[jnp.argmin(distance)])
    return poison_unless(jnp.all(known), found)
