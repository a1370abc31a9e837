"""Whom to ask: allocations over annotators, their priors, committees and votes.

A task arrives, an allocation (a distribution over annotators) chooses a committee, and
the committee's vote is the label. In a closed loop that label, right or wrong, is all
there is to train the allocation with. Functions here are of one task unless they say
otherwise; `l2d_jax.crowds.streams` puts them in a loop and `l2d_jax.learners` trains.

Answers are 0 or 1, and -1 of who was not or cannot be asked: such an annotator has no
weight, no seat and no vote. Any other answer, and a category that does not exist, is a
ValueError where it is concrete and makes weights and votes NaN where it is traced; so
does a score that is NaN.

References:
  Keswani, Celis, Kenthapadi and Lease, "Designing Closed-Loop Models for Task
  Allocation", 2023.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from l2d_jax._checks import require_all
from l2d_jax._rounding import of_sum
from l2d_jax.decisions import signed
from l2d_jax.types import Array, HParams, PyTree

FORMS = ("sigmoid", "softmax")
"""How scores of annotators become an allocation; see `head_weights`."""
_NOISE_STEPS = 2**23  # A uniform float32 of `jax.random` is a multiple of 2**-23.


class Annotators(NamedTuple):
    """Who may be asked, and what is known of them beforehand.

    Attributes:
      similarity: how well each annotator suits each category, dSim, float ``[M, Z]``,
        in [0, 1].
      pools: pool of each annotator, int ``[M]``, in [0, G).
    """

    similarity: Array
    pools: Array


class Arrivals(NamedTuple):
    """Tasks in the order of their arrival.

    Attributes:
      features: what a model sees, float ``[B, D]``.
      categories: category of each task, int ``[B]``, in [0, Z).
      answers: what each annotator answers if asked, int ``[B, M]``: 0, 1, or -1 who
        cannot be asked.
      labels: the truth, int ``[B]``, 0 or 1, or -1 where there is none. Measures read
        it, and training on gold labels where there are no others.
      costs: cost of asking each annotator, float ``[B, M]``, >= 0; None: 0.
      gold: labels that training on gold labels is given in place of the truth, int
        ``[B]``, 0, 1 or -1; None: the truth.
    """

    features: Array
    categories: Array
    answers: Array
    labels: Array
    costs: Array | None = None
    gold: Array | None = None


class Committee(NamedTuple):
    """How a committee is made.

    Attributes:
      size: seats k, > 0 and odd if drawn with replacement; 0: everyone who can be asked
        votes, with the allocation's weight.
      replace: whether seats are drawn with replacement (an annotator may have several,
        all seats count the same) or without (votes are weighted with the allocation).
    """

    size: int
    replace: bool = True


class Allocator(NamedTuple):
    """A closed-loop method: five pure functions.

    Attributes:
      init: ``(key, hparams, annotators, features [B, D]) -> state``; the features give
        shapes only.
      weigh: ``(state, hparams, arrivals) -> weights [B, M]``: whom to ask while
        learning.
      aggregate: ``(state, hparams, arrivals, votes [B, M]) -> float [B]``: probability
        of label 1, from the answers of who has a vote.
      learn: ``(state, hparams, arrivals, votes, probs [B]) -> state``.
      deploy: ``(state, hparams, arrivals) -> weights [B, M]``: whom to ask once
        learning is over.
    """

    init: Callable[[jax.Array, HParams, Annotators, Array], PyTree]
    weigh: Callable[[PyTree, HParams, Arrivals], jax.Array]
    aggregate: Callable[[PyTree, HParams, Arrivals, jax.Array], jax.Array]
    learn: Callable[[PyTree, HParams, Arrivals, jax.Array, jax.Array], PyTree]
    deploy: Callable[[PyTree, HParams, Arrivals], jax.Array]


class Crowd(NamedTuple):
    """A model of what the answers of a crowd say about the truth: pure functions.

    Attributes:
      init: ``annotators -> state``.
      posterior: ``(state, categories [B], answers [B, M], consulted [B, M]) -> float
        [B]``: probability of label 1.
      learn: ``(state, categories, answers, consulted, probs [B]) -> state``.
      scores: ``(state, explore []) -> float [M, Z]``, or ``[M, 1]`` where categories
        make no difference: log-odds that an annotator is right about a task of a
        category, optimistic by ``explore`` standard deviations.
    """

    init: Callable[[Annotators], PyTree]
    posterior: Callable[[PyTree, Array, Array, jax.Array], jax.Array]
    learn: Callable[[PyTree, Array, Array, jax.Array, jax.Array], PyTree]
    scores: Callable[[PyTree, ArrayLike], jax.Array]


def can_answer(answers: Array) -> jax.Array:
    """Whether an annotator can be asked, bool, the shape of ``answers``."""
    return jnp.asarray(answers) >= 0


def check_answers(
    answers: Array, consulted: Array | bool = True, name: str = "answers"
) -> None:
    """Check on the host what was answered; what is traced is not looked at.

    Args:
      answers: of any shape; 0, 1, or -1 of who cannot be asked.
      consulted: whose answers count, of that shape.
      name: of the answers, for messages.

    Raises:
      ValueError: an answer that counts is none of these.
    """
    if isinstance(consulted, jax.core.Tracer):
        return
    ignored = ~np.asarray(consulted, bool)
    require_all(
        name, answers, lambda v: np.isin(v, (-1, 0, 1)) | ignored, "be 0, 1 or -1"
    )


def check_categories(categories: Array, num_categories: int) -> None:
    """Check categories on the host; what is traced is not looked at.

    Raises:
      ValueError: one is not in [0, num_categories).
    """
    require_all(
        "categories",
        categories,
        lambda v: (v >= 0) & (v < num_categories),
        f"be in [0, {num_categories})",
    )


def are_known(answers: Array, consulted: Array | bool = True) -> jax.Array:
    """Whether all answers of a task that count are 0, 1 or -1, bool ``[...]``.

    Args:
      answers: int ``[..., M]``.
      consulted: whose answers count, ``[..., M]``.
    """
    answers = signed(answers)
    known = (answers >= -1) & (answers <= 1)
    return jnp.all(known | ~jnp.asarray(consulted, bool), axis=-1)


def check_similarity(similarity: np.ndarray) -> list[int]:
    """Check a prior on the host.

    Args:
      similarity: dSim, float ``[M, Z]``.

    Returns:
      The categories for which it is zero for everyone: there the prior is uniform.

    Raises:
      ValueError: it is not a matrix, or an entry is not in [0, 1].
    """
    similarity = np.asarray(similarity)
    if similarity.ndim != 2 or 0 in similarity.shape:
        raise ValueError(f"similarity must have shape [M, Z], got {similarity.shape}")
    # The negation also finds NaN.
    wrong = np.argwhere(~((similarity >= 0) & (similarity <= 1)))
    if len(wrong):
        annotator, category = (int(place) for place in wrong[0])
        raise ValueError(
            f"similarity of annotator {annotator} to category {category} must be in"
            f" [0, 1], got {similarity[annotator, category]}"
        )
    return np.flatnonzero(similarity.max(axis=0) == 0).tolist()


def check_committee(committee: Committee, num_annotators: int) -> None:
    """Check the size of a committee.

    Raises:
      ValueError: it is negative; even, where a draw with replacement could tie; or more
        than there are annotators to draw without replacement.
    """
    size = committee.size
    if size < 0:
        raise ValueError(f"committee size must be >= 0 (0: everybody), got {size}")
    if committee.replace and size and size % 2 == 0:
        raise ValueError(
            f"committee size {size} is even, so that votes may tie; choose {size - 1}"
            f" or {size + 1}, or draw without replacement, where votes are weighted"
        )
    if not committee.replace and size > num_annotators:
        raise ValueError(
            f"committee size {size} is more than the {num_annotators} annotators; draw"
            " with replacement or choose a smaller one"
        )


def normalize(weights: Array, available: Array) -> jax.Array:
    """Weights of who is available, made to sum to 1.

    Args:
      weights: float ``[M]``, >= 0.
      available: bool ``[M]``.

    Returns:
      Float ``[M]``; uniform where nobody available has any weight, zero where nobody is
      available, and NaN where a weight of somebody available is.
    """
    chex.assert_rank([weights, available], 1)
    weights = jnp.where(available, weights, 0.0)
    total = jnp.sum(weights)
    count = jnp.sum(available)
    uniform = jnp.where(available, 1.0 / jnp.maximum(count, 1), 0.0)
    # Written so that NaN stays, which has no share.
    none = total <= 0
    return jnp.where(none, uniform, weights / jnp.where(none, 1.0, total))


def prior_weights(similarity: Array, category: Array, available: Array) -> jax.Array:
    """Allocation that the prior alone makes, in proportion to dSim.

    Args:
      similarity: dSim, float ``[M, Z]``, in [0, 1].
      category: int ``[]``, in [0, Z).
      available: bool ``[M]``.

    Returns:
      Float ``[M]``, sums to 1; uniform where dSim is zero for everyone available. NaN
      for a traced category that does not exist.

    Raises:
      ValueError: a concrete category does not exist.

    References:
      Keswani et al. 2023, Algorithm 1, line 1.
    """
    chex.assert_rank([similarity, category, available], [2, 0, 1])
    similarity, category = jnp.asarray(similarity), jnp.asarray(category)
    num_categories = similarity.shape[1]
    check_categories(category, num_categories)
    # Indexing alone would wrap a negative category and clip a large one.
    exists = (category >= 0) & (category < num_categories)
    return normalize(jnp.where(exists, similarity[:, category], jnp.nan), available)


def head_weights(logits: Array, available: Array, form: str) -> jax.Array:
    """Allocation from a score for each annotator.

    Args:
      logits: float ``[M]``.
      available: bool ``[M]``.
      form: ``"sigmoid"``: in proportion to ``sigmoid(logits)``, each annotator's own
        probability of agreeing with the label, as in the authors' code; ``"softmax"``:
        a softmax over annotators.

    Returns:
      Float ``[M]``, sums to 1, or zero where nobody is available; NaN where the score
      of somebody available is.
    """
    if form not in FORMS:
        raise ValueError(f"form must be one of {', '.join(FORMS)}, got {form!r}")
    chex.assert_rank([logits, available], 1)
    scores, divisors = jnp.asarray(logits), jnp.ones(())
    if form == "sigmoid":
        # sigmoid(z) is exp(min(z, 0)) / (1 + exp(-|z|)): scaled together, the
        # numerators cannot all underflow, and there is no logarithm to compute. With
        # selects, since min and abs have no slope at 0, where models start.
        positive = scores > 0
        divisors = 1.0 + jnp.exp(jnp.where(positive, -scores, scores))
        scores = jnp.where(positive, 0.0, scores)
    top = jax.lax.stop_gradient(jnp.max(scores, where=available, initial=-jnp.inf))
    top = jnp.where(jnp.isfinite(top), top, 0.0)
    powers = jnp.exp(jnp.where(available, scores - top, 0.0)) / divisors
    powers = jnp.where(available, powers, 0.0)
    total = jnp.sum(powers)
    # Written so that NaN stays.
    return powers / jnp.where(total <= 0, 1.0, total)


def model_share(num_seen: ArrayLike, fade: ArrayLike) -> jax.Array:
    r"""Share of the model in an allocation that mixes it with the prior.

    .. math:: \mu_t = t / (t + T_d)

    Args:
      num_seen: t, tasks seen so far, float ``[]``, >= 0.
      fade: :math:`T_d`, tasks after which both count the same, float ``[]``, >= 0. 0 is
        the model alone, infinity the prior alone.

    Returns:
      Float ``[]``, in [0, 1].

    References:
      Keswani et al. 2023, Smooth-Matching, as the authors' code has it.
    """
    seen = jnp.asarray(num_seen, jnp.float32)
    whole = seen + fade
    return jnp.where(fade == 0, 1.0, seen / jnp.where(whole > 0, whole, 1.0))


def discount(weights: Array, costs: Array, rate: ArrayLike) -> jax.Array:
    """Allocation that asks costly annotators less, ``weights * exp(-rate * costs)``.

    Args:
      weights: float ``[M]``, >= 0.
      costs: of asking each annotator about this task, float ``[M]``.
      rate: how much a unit of cost counts, float ``[]``, >= 0; 0 changes nothing.

    Returns:
      Float ``[M]``, with the sum of ``weights``.
    """
    weights = jnp.asarray(weights)
    chex.assert_rank([weights, costs], 1)
    # Relative to the least cost, so that large costs do not make all weights 0.
    least = jnp.min(jnp.where(weights > 0, costs, jnp.inf))
    excess = costs - jnp.where(jnp.isfinite(least), least, 0.0)
    factor = jnp.exp(-jnp.asarray(rate) * excess)
    changed = weights * jnp.where(weights > 0, factor, 0.0)
    total = jnp.sum(changed)
    return changed * (jnp.sum(weights) / jnp.where(total > 0, total, 1.0))


def draw_noise(
    key: jax.Array, num_tasks: int, num_annotators: int, committee: Committee
) -> jax.Array:
    """Randomness of the committees of many tasks, drawn at once.

    Returns:
      Float ``[B, k]`` with replacement, ``[B, M]`` without, ``[B, 0]`` where everybody
      votes; for `seat`.
    """
    if committee.size == 0:
        return jnp.zeros((num_tasks, 0))
    if committee.replace:
        # Flat and then shaped: on a CPU faster than a short last axis.
        uniform = jax.random.uniform(key, (num_tasks * committee.size,))
        return uniform.reshape(num_tasks, committee.size)
    return jax.random.gumbel(key, (num_tasks, num_annotators))


def seat(weights: Array, noise: Array, committee: Committee) -> jax.Array:
    """Votes of the annotators on a committee.

    Args:
      weights: allocation, float ``[M]``, sums to 1.
      noise: a row of `draw_noise`.
      committee: its size and kind; a committee drawn without replacement is everyone
        who has weight, where these are fewer than its size.

    Returns:
      Float ``[M]``: an annotator's share of the seats, or weight among those seated;
      sums to 1, or is zero where nobody has weight. Where a weight is NaN some are NaN,
      or, with replacement, all zero: no draw is below NaN. Look at the weights.

    References:
      Keswani et al. 2023, Section 2, "Committee Voting".
    """
    chex.assert_rank([weights, noise], 1)
    if committee.size == 0:
        return jnp.asarray(weights)
    if committee.replace:
        # In whole steps of the noise sums are exact, in whatever order they are made:
        # nobody without weight adds to them, and every draw falls to one annotator.
        upper = _running_sums(jnp.round(weights * _NOISE_STEPS))
        # The sum may be off by the rounding; scaled, no seat stays empty.
        draws = noise[:, None] * upper[-1]
        # Seats up to each annotator, and so each one's own. Counts are subtracted, not
        # shares: a fused product would leave somebody without a seat a share of 1e-8.
        reached = jnp.sum(draws < upper, axis=0, dtype=jnp.float32)
        return jnp.diff(reached, prepend=0.0) / committee.size
    scores = jnp.where(weights > 0, jnp.log(weights) + noise, -jnp.inf)
    _, chosen = jax.lax.top_k(scores, min(committee.size, scores.shape[0]))
    is_chosen = jnp.any(chosen[:, None] == jnp.arange(scores.shape[0]), axis=0)
    seated = jnp.where(is_chosen, weights, 0.0)
    total = jnp.sum(seated)
    seats = seated / jnp.where(total > 0, total, 1.0)
    return jnp.where(jnp.any(jnp.isnan(weights)), jnp.nan, seats)


def _running_sums(values: jax.Array) -> jax.Array:
    """``cumsum(values)``, as products with small triangles: much faster on a CPU."""
    size = math.isqrt(len(values) - 1) + 1  # The square root, rounded up.
    blocks = jnp.pad(values, (0, -len(values) % size)).reshape(-1, size)
    highest = jax.lax.Precision.HIGHEST
    within = jnp.matmul(blocks, np.tri(size, dtype=np.float32).T, precision=highest)
    below = np.tri(len(blocks), k=-1, dtype=np.float32)
    before = jnp.matmul(below, within[:, -1], precision=highest)
    return (within + before[:, None]).reshape(-1)[: len(values)]


def vote(votes: Array, answers: Array) -> jax.Array:
    """Share of the votes that are for label 1.

    The label is 1 where the share is above 1/2: a tie is label 0. Votes are added up in
    floating point: a share that differs from 1/2 by its rounding at most is 1/2.

    Args:
      votes: float ``[M]``, sums to 1.
      answers: int ``[M]``; those of -1 do not count.

    Returns:
      Float ``[]``, in [0, 1]; NaN where a vote is, or a traced answer is none.

    Raises:
      ValueError: a concrete answer is none of -1, 0 and 1.
    """
    chex.assert_rank([votes, answers], 1)
    check_answers(answers)
    share = jnp.sum(votes * (jnp.asarray(answers) == 1))
    # Of terms that sum to 1/2, and of the weights, which a sum was divided by.
    rounding = of_sum(jnp.shape(votes)[0], share.dtype)
    share = jnp.where(jnp.abs(share - 0.5) <= rounding, 0.5, share)
    return jnp.where(are_known(answers), share, jnp.nan)


def probability(odds: jax.Array, rounding: jax.Array) -> jax.Array:
    """Probability of label 1 from its log-odds; 1/2 where they are 0 but for rounding.

    Args:
      odds: sums of evidence for label 1, less that for label 0, in nats.
      rounding: how far from 0 they may be by rounding alone, of that shape.
    """
    return jax.nn.sigmoid(jnp.where(jnp.abs(odds) <= rounding, 0.0, odds))


def rewards_and_penalties(
    weights: Array, agrees: Array, consulted: Array, rate: ArrayLike
) -> tuple[jax.Array, jax.Array]:
    r"""What annotators gain who agree with the label, and lose who do not.

    .. math:: \delta^+_i = \eta\, w_i (1 - a), \quad \delta^-_i = \eta\, w_i\, a

    where a is the share of those consulted, by weight, who agree. Gains and losses sum
    to zero, so the weights still sum to 1. The paper asks for that sum and leaves the
    functions open; these are a step of the replicator equation, along the gradient of
    log a with respect to softmax scores.

    Args:
      weights: allocation, float ``[M]``, >= 0.
      agrees: whether an annotator's answer is the label, bool ``[M]``.
      consulted: whose answer is known, bool ``[M]``; the others neither gain nor lose.
      rate: :math:`\eta`, float ``[]``, in [0, 1].

    Returns:
      Rewards of who agrees and penalties of who does not, float ``[M]`` each, >= 0.

    References:
      Keswani et al. 2023, Eq. 1 (the label is the truth) and Eq. 2 (the committee's).
    """
    agrees = jnp.asarray(agrees)
    chex.assert_rank([weights, agrees, consulted], 1)
    heard = jnp.where(consulted, weights, 0.0)
    total = jnp.sum(heard)
    agreeing = jnp.sum(heard * agrees) / jnp.where(total > 0, total, 1.0)
    change = jnp.asarray(rate) * heard
    rewards = change * (1.0 - agreeing) * agrees
    penalties = change * agreeing * jnp.logical_not(agrees)
    return rewards, penalties


def rbf_features(inputs: Array, centers: Array, width: ArrayLike) -> jax.Array:
    r"""Radial basis functions, :math:`\exp(-\|x - c\|^2 / (2 w^2))`.

    Args:
      inputs: float ``[D]``.
      centers: float ``[C, D]``.
      width: w, float ``[]``, > 0, in the unit of the inputs.

    Returns:
      Float ``[C]``, in (0, 1].
    """
    chex.assert_rank([inputs, centers], [1, 2])
    squared = jnp.sum(jnp.square(jnp.asarray(inputs) - centers), axis=-1)
    return jnp.exp(-squared / (2.0 * jnp.square(width)))
