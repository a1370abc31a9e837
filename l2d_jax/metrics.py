"""What a team of a classifier and an expert achieves: accuracies, coverage, curves.

Each function takes a whole batch and returns scalars or curves of a fixed size. An
example of weight 0 counts for nothing, whatever it holds. A quantity that is undefined
(an accuracy over no examples) is NaN.
"""

import jax
import jax.numpy as jnp
import numpy as np

from l2d_jax import decisions, ratios
from l2d_jax._checks import (
    require_all,
    require_classes,
    require_integer,
    require_matrix,
    require_vectors,
)
from l2d_jax.ratios import Ratio
from l2d_jax.types import Array, Decision


def _allocation(decision: Decision) -> jax.Array:
    if not isinstance(decision, Decision):
        raise TypeError(
            f"decision must be a l2d_jax.types.Decision, got {type(decision).__name__};"
            " l2d_jax.decisions makes one of scores"
        )
    return jnp.asarray(decision.allocation)


def _batch_weights(weights: Array | None, values: Array) -> jax.Array:
    if weights is None:
        return jnp.ones(jnp.shape(values), float)
    require_vectors("B", values, weights=weights)
    return jnp.asarray(weights, float)


def _ratio(numerator: jax.Array, denominator: jax.Array) -> jax.Array:
    """The ratio, NaN where the denominator is not positive."""
    positive = denominator > 0
    return jnp.where(positive, numerator / jnp.where(positive, denominator, 1), jnp.nan)


def _weighted_mean(values: Array, weights: jax.Array) -> jax.Array:
    # The mask keeps a NaN in padding out of the sum: 0 * NaN is NaN.
    total = jnp.sum(jnp.where(weights > 0, weights * values, 0))
    return _ratio(total, jnp.sum(weights))


def _ignored(values: Array, weights: Array | None) -> np.ndarray | None:
    """Which examples count for nothing; None where that is traced."""
    if weights is None:
        return np.zeros((), bool)
    require_vectors("B", values, weights=weights)
    if isinstance(weights, jax.core.Tracer):
        return None
    return ~(np.asarray(weights) > 0)


def _require_shares(name: str, values: Array, weights: Array | None) -> None:
    """Raises where a concrete value that counts is not in [0, 1]; NaN is not known."""
    ignored = _ignored(values, weights)
    if ignored is not None:
        require_all(
            name,
            values,
            lambda v: ~((v < 0) | (v > 1)) | ignored,
            "be in [0, 1], whether it is so or how likely",
        )


def accuracy(predictions: Array, labels: Array, weights: Array | None = None) -> Array:
    """Fraction of the weight whose prediction is the label.

    Args:
      predictions: class chosen for each example, int ``[B]``.
      labels: class of each example, int ``[B]``.
      weights: weight of each example, float ``[B]``, >= 0; all 1 if None.

    Returns:
      The accuracy, float ``[]``, in [0, 1]; NaN where the weights sum to 0.

    Raises:
      TypeError: ``predictions`` or ``labels`` is not of an integer dtype.
      ValueError: if an argument is not a vector of one shared length, or a concrete
        class does not fit 32 bits.
    """
    require_vectors("B", labels, labels=labels, predictions=predictions)
    require_classes(
        "predictions", predictions, "take the class of the greatest probability"
    )
    require_classes("labels", labels)
    correct = jnp.asarray(predictions) == jnp.asarray(labels)
    return _weighted_mean(correct, _batch_weights(weights, labels))


def coverage(decision: Decision, weights: Array | None = None) -> Array:
    """Share of the weight that the classifier keeps: 1 - deferral rate.

    Args:
      decision: over ``[B]``; of an answer that is voted on, the classifier's share of
        the vote counts.
      weights: weight of each example, float ``[B]``, >= 0; all 1 if None.

    Returns:
      The coverage, float ``[]``, in [0, 1]; NaN where the weights sum to 0.

    Raises:
      TypeError: ``decision`` is something else, such as probabilities.
    """
    kept = _allocation(decision)[:, -1]
    return _weighted_mean(kept, _batch_weights(weights, kept))


def deferral_rate(decision: Decision, weights: Array | None = None) -> Array:
    """Share of the weight that experts decide: 1 - `coverage`, never below 0.

    Args:
      decision: as for `coverage`.
      weights: as for `coverage`.

    Returns:
      The rate, float ``[]``, in [0, 1]; NaN where the weights sum to 0.
    """
    deferred = jnp.sum(_allocation(decision)[:, :-1], axis=1)
    return _weighted_mean(deferred, _batch_weights(weights, deferred))


def system_accuracy(
    decision: Decision,
    labels: Array,
    expert_labels: Array,
    weights: Array | None = None,
) -> Array:
    """Accuracy of the team: of whoever answers, or of the vote.

    An example that was left to somebody who was not asked has no answer and no part in
    the mean.

    Args:
      decision: over ``[B]`` and M experts.
      labels: class of each example, int ``[B]``.
      expert_labels: answers of the experts, int ``[B, M]``; -1 of who was not asked.
      weights: weight of each example, float ``[B]``, >= 0; all 1 if None.

    Returns:
      The accuracy, float ``[]``, in [0, 1]; NaN where no weight has an answer.

    Raises:
      TypeError: ``expert_labels`` is not of an integer dtype.
      ValueError: if the shapes do not match, or a concrete answer of positive weight is
        neither a class nor -1. Where it is traced the accuracy is NaN.

    References:
      Mozannar and Sontag, "Consistent Estimators for Learning to Defer to an Expert",
      2020.
    """
    expert_labels = _answers_that_count(expert_labels, weights)
    right = _team_right(decision, labels, expert_labels)
    return ratios.weigh({"right": right}, _batch_weights(weights, labels))["right"]


def _team_right(decision: Decision, labels: Array, expert_labels: Array) -> Ratio:
    """Whether the team is right, of cases that somebody answers."""
    allocation = _allocation(decision)
    answers = decisions.answer(decision, expert_labels)
    require_vectors("B", answers, labels=labels)
    # An allocation that is NaN is not somebody who was not asked, nor is an answer
    # that is none.
    num_classes = jnp.shape(decision.class_probs)[1]
    known = decisions.known_answers(expert_labels, num_classes).all(axis=1)
    undecided = jnp.isnan(allocation).any(axis=1) | ~known
    right = jnp.where(undecided, jnp.nan, answers == jnp.asarray(labels))
    return ratios.mean(right, (answers >= 0) | undecided)


def _answers_that_count(expert_labels: Array, weights: Array | None) -> Array:
    """The answers, -1 in rows of weight 0, whatever they hold."""
    if weights is None:
        return expert_labels
    require_matrix("expert_labels", expert_labels, "[B, M]", 1)
    require_vectors("B", jnp.asarray(expert_labels)[:, 0], weights=weights)
    counts = jnp.asarray(weights)[:, None] > 0
    return jnp.where(counts, decisions.signed(expert_labels), -1)


def _right(expert_labels: Array, labels: Array, num_classes: int) -> jax.Array:
    """Whether each answer is right, float ``[B, M]``; NaN rows where one is none."""
    right = jnp.asarray(expert_labels) == jnp.asarray(labels)[:, None]
    known = decisions.known_answers(expert_labels, num_classes)
    return jnp.where(known.all(axis=1, keepdims=True), right, jnp.nan)


def subgroup_accuracy(
    correct: Array,
    subgroup: Array,
    num_subgroups: int,
    weights: Array | None = None,
) -> Array:
    """Accuracy on each of several subgroups, such as those of two attributes crossed.

    Args:
      correct: whether each example is decided right, bool or float ``[B]``, in [0, 1].
      subgroup: subgroup of each example, int ``[B]``, in [0, S); an example outside
        counts nowhere.
      num_subgroups: S, static, >= 1.
      weights: weight of each example, float ``[B]``, >= 0; all 1 if None.

    Returns:
      The accuracies, float ``[S]``, in [0, 1]; NaN for a subgroup without weight.

    Raises:
      TypeError: ``subgroup`` is not of an integer dtype.
      ValueError: if ``num_subgroups`` < 1, an array is not a vector of one shared
        length, or a concrete ``correct`` of positive weight is not in [0, 1].
    """
    if num_subgroups < 1:
        raise ValueError(f"num_subgroups must be at least 1, got {num_subgroups}")
    require_vectors("B", correct, correct=correct, subgroup=subgroup)
    require_classes("subgroup", subgroup)
    _require_shares("correct", correct, weights)
    correct = jnp.asarray(correct, float)
    weights = _batch_weights(weights, correct)
    members = jnp.asarray(subgroup)[:, None] == jnp.arange(num_subgroups)
    return jax.vmap(_weighted_mean, (None, 1))(
        correct, jnp.where(members, weights[:, None], 0)
    )


def min_subgroup_accuracy(
    correct: Array,
    subgroup: Array,
    num_subgroups: int,
    weights: Array | None = None,
) -> Array:
    """Accuracy on the subgroup where it is lowest, of those that have weight.

    Args:
      correct: as for `subgroup_accuracy`.
      subgroup: as for `subgroup_accuracy`.
      num_subgroups: as for `subgroup_accuracy`.
      weights: as for `subgroup_accuracy`.

    Returns:
      The accuracy, float ``[]``, in [0, 1]; NaN where no subgroup has weight.

    Raises:
      ValueError: as for `subgroup_accuracy`.

    References:
      Madras, Pitassi and Zemel, "Predict Responsibly", 2018, Figure 5: the minimum
      subgroup accuracy.
    """
    return jnp.nanmin(subgroup_accuracy(correct, subgroup, num_subgroups, weights))


def calibration_error(
    probs: Array, outcomes: Array, num_bins: int = 15, weights: Array | None = None
) -> Array:
    r"""Expected calibration error, in equal-width bins closed on the right.

    .. math:: \sum_b \Big| \sum_{i \in b} w_i (o_i - p_i) \Big| \Big/ \sum_i w_i

    Args:
      probs: estimated probability of the outcome, float ``[B]``, in [0, 1]; a value
        outside counts in the nearest bin.
      outcomes: whether it happened, bool or float ``[B]``, in [0, 1].
      num_bins: number of bins, static, >= 1.
      weights: weight of each example, float ``[B]``, >= 0; all 1 if None.

    Returns:
      The error, float ``[]``, in [0, 1]; NaN where a probability of positive weight is
      NaN or the weights sum to 0.

    Raises:
      TypeError: ``probs`` is of integers or booleans: decisions, not probabilities.
      ValueError: if ``num_bins`` < 1, an array is not a vector of one shared length, or
        a concrete outcome of positive weight is not in [0, 1].

    References:
      Guo et al., "On Calibration of Modern Neural Networks", 2017, Eq. 3.
    """
    if num_bins < 1:
        raise ValueError(f"num_bins must be at least 1, got {num_bins}")
    require_vectors("B", probs, probs=probs, outcomes=outcomes)
    if not jnp.issubdtype(jnp.result_type(probs), jnp.floating):
        raise TypeError(
            "probs must be of a floating dtype, the probability of the outcome, got "
            f"{jnp.result_type(probs)}"
        )
    _require_shares("outcomes", outcomes, weights)
    probs, outcomes = jnp.asarray(probs, float), jnp.asarray(outcomes, float)
    weights = _batch_weights(weights, probs)
    columns = probs[:, None], outcomes[:, None], jnp.ones((len(probs), 1))
    gaps = _calibration_gaps(*columns, num_bins)
    return jnp.sum(jnp.abs(ratios.weigh({"gaps": gaps}, weights)["gaps"]))


def _calibration_gaps(
    probs: jax.Array, outcomes: jax.Array, share: jax.Array, num_bins: int
) -> Ratio:
    """How far outcomes are from their probabilities in each bin: ``[B, num_bins]``.

    Args:
      probs: float ``[B, M]``.
      outcomes: float ``[B, M]``, in [0, 1].
      share: of each that counts, ``[B, M]``.
      num_bins: of equal width, closed on the right.
    """
    gap = ratios.mean(outcomes - probs, share)
    inner_edges = jnp.asarray(np.arange(1, num_bins) / num_bins, probs.dtype)
    bins = jnp.sum(probs[..., None] > inner_edges, axis=-1)
    # A masked sum, not a scatter: the compiler fuses it, and its order is fixed.
    members = bins[..., None] == jnp.arange(num_bins)
    in_bins = jnp.sum(jnp.where(members, gap.numerator[..., None], 0), axis=1)
    return Ratio(in_bins, jnp.sum(gap.denominator, axis=1, keepdims=True))


def roc_auc(scores: Array, labels: Array, weights: Array | None = None) -> Array:
    """Area under the receiver operating characteristic.

    The probability that a positive example scores above a negative one, ties counting
    one half.

    Args:
      scores: float ``[B]``, higher where label 1 is likelier.
      labels: int ``[B]``, 0 or 1.
      weights: weight of each example, float ``[B]``, >= 0; None: all 1.

    Returns:
      The area, float ``[]``, in [0, 1]; NaN where one of the labels has no weight, or
      an example of positive weight has a NaN score or a traced label other than 0 or 1.

    Raises:
      TypeError: ``labels`` is not of an integer dtype.
      ValueError: the arguments differ in shape, or a concrete label of positive weight
        is neither 0 nor 1.
    """
    require_vectors("B", scores, scores=scores, labels=labels)
    require_integer("labels", labels, "threshold probabilities first, e.g. probs > 0.5")
    ignored = _ignored(labels, weights)
    if ignored is not None:
        require_all(
            "labels", labels, lambda v: (v == 0) | (v == 1) | ignored, "be 0 or 1"
        )
    weights = _batch_weights(weights, scores)
    is_label = (jnp.asarray(labels) == 0) | (jnp.asarray(labels) == 1)
    unknown = jnp.isnan(jnp.asarray(scores)) | ~is_label
    order = jnp.argsort(scores)
    ranked = jnp.asarray(scores)[order]
    positive = jnp.where(jnp.asarray(labels) == 1, weights, 0.0)[order]
    negative = weights[order] - positive
    # Weight of negatives below each run of equal scores, and up to its end.
    total = jnp.cumsum(negative)
    new = jnp.concatenate([jnp.ones(1, bool), ranked[1:] > ranked[:-1]])
    below = jax.lax.cummax(jnp.where(new, total - negative, 0.0))
    last = jnp.concatenate([new[1:], jnp.ones(1, bool)])
    upto = jax.lax.cummin(jnp.where(last, total, jnp.inf), reverse=True)
    above = jnp.sum(positive * 0.5 * (below + upto))
    area = _ratio(above, jnp.sum(positive) * jnp.sum(negative))
    return jnp.where(jnp.any(unknown & (weights > 0)), jnp.nan, area)


def team_metrics(
    decision: Decision,
    labels: Array,
    expert_labels: Array,
    weights: Array | None = None,
) -> dict[str, jax.Array]:
    """The measures of one system on one batch, by the names that tables carry.

    An answer of -1 (not asked) counts nowhere. Where several vote, keeping and
    deferring are shares of the vote.

    Args:
      decision: what the system does with each input, over ``[B]`` and M experts.
      labels: class of each example, int ``[B]``.
      expert_labels: answers of the experts, int ``[B, M]``; -1 of who was not asked.
      weights: weight of each example, float ``[B]``, >= 0; all 1 if None.

    Returns:
      Scalars, float ``[]``, in [0, 1]. Each is NaN where nothing defines it:

      * ``system_accuracy``: of whoever answers, or of the vote.
      * ``coverage``, ``deferral_rate``: share kept, and the rest.
      * ``classifier_accuracy``, ``classifier_accuracy_kept``: of the classifier on all
        examples and on those it keeps.
      * ``expert_accuracy``, ``expert_accuracy_deferred``: of all answers that experts
        gave, each alike, and of those that the system asked for.
      * ``expert_calibration_error``: of ``decision.expert_correct_prob``, in 15 bins,
        over all answers given of which there is an estimate; NaN where there is none.

    Raises:
      ValueError: if the shapes do not match.
    """
    expert_labels = _answers_that_count(expert_labels, weights)
    weights = _batch_weights(weights, labels)
    return of_team(ratios.weigh(team_ratios(decision, labels, expert_labels), weights))


def team_ratios(
    decision: Decision, labels: Array, expert_labels: Array
) -> dict[str, Ratio]:
    """What `team_metrics` are ratios of, for any weighting of the cases.

    Args:
      decision: over ``[B]`` and M experts.
      labels: class of each example, int ``[B]``.
      expert_labels: answers of the experts, int ``[B, M]``; -1 of who was not asked.

    Returns:
      By the names of `team_metrics`, of B cases; in place of
      ``expert_calibration_error`` what is to be added up to it, ``[B, 15]``.
    """
    team_right = _team_right(decision, labels, expert_labels)
    labels, allocation = jnp.asarray(labels), jnp.asarray(decision.allocation)
    asked_for, num_classes = allocation[:, :-1], jnp.shape(decision.class_probs)[1]
    predicted = decisions.prediction(decision)
    # Without a classifier nothing of it is defined.
    predicts, predicted_right = predicted >= 0, predicted == labels
    expert_right = _right(expert_labels, labels, num_classes)
    asked = jnp.asarray(expert_labels) != -1
    estimate = jnp.asarray(decision.expert_correct_prob)
    return {
        "system_accuracy": team_right,
        "coverage": Ratio(allocation[:, -1], jnp.ones(labels.shape)),
        # Not 1 - coverage, which the compiler may round to just below 0.
        "deferral_rate": Ratio(jnp.sum(asked_for, axis=1), jnp.ones(labels.shape)),
        "classifier_accuracy": ratios.mean(predicted_right, predicts),
        "classifier_accuracy_kept": ratios.mean(
            predicted_right, predicts * allocation[:, -1]
        ),
        "expert_accuracy": ratios.over_experts(ratios.mean(expert_right, asked)),
        "expert_accuracy_deferred": ratios.over_experts(
            ratios.mean(expert_right, asked * asked_for)
        ),
        "expert_calibration_gaps": _calibration_gaps(
            estimate, expert_right, asked & ~jnp.isnan(estimate), 15
        ),
    }


def of_team(found: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """`team_metrics` of what `team_ratios` came to, ``[...]`` each."""
    gaps = found["expert_calibration_gaps"]
    others = {k: v for k, v in found.items() if k != "expert_calibration_gaps"}
    return {**others, "expert_calibration_error": jnp.sum(jnp.abs(gaps), axis=-1)}


def deferral_curves(
    decision: Decision,
    labels: Array,
    expert_labels: Array,
    coverages: Array,
    weights: Array | None = None,
) -> tuple[Array, Array]:
    """System accuracy at each coverage, of this rejector and of the best possible one.

    Whoever of those who were asked has the greatest score answers what is deferred; the
    best rejector asks somebody who is right. An example about which nobody was asked
    counts for nothing.

    Args:
      decision: over ``[B]`` and M experts; its scores are read, its allocation is not.
      labels: class of each example, int ``[B]``.
      expert_labels: answers of the experts, int ``[B, M]``; -1 of who was not asked.
      coverages: fractions to keep, float ``[P]``, in [0, 1].
      weights: weight of each example, float ``[B]``, >= 0; all 1 if None.

    Returns:
      Both curves, float ``[P]``; see `coverage_accuracy_curve` and
      `best_coverage_accuracy_curve`.
    """
    labels = jnp.asarray(labels)
    answers = jnp.asarray(_answers_that_count(expert_labels, weights))
    asked = answers != -1
    score = jnp.where(asked, jnp.asarray(decision.defer_score), -jnp.inf)
    # Who was asked comes before who was not, whatever the score.
    lowest = jnp.finfo(score.dtype).min
    ranked = jnp.where(asked, jnp.maximum(score, lowest), -jnp.inf)
    first = jnp.argmax(ranked, axis=1)[:, None]
    expert_right = _right(answers, labels, jnp.shape(decision.class_probs)[1])
    chosen_right = jnp.take_along_axis(expert_right, first, axis=1)[:, 0]
    some = asked.any(axis=1)
    weights = jnp.where(some, _batch_weights(weights, labels), 0)
    predicted = decisions.prediction(decision)
    # Without a classifier there is no curve.
    right = jnp.where(predicted >= 0, (predicted == labels).astype(float), jnp.nan)
    return (
        coverage_accuracy_curve(
            # What counts for nothing must have a score all the same.
            jnp.where(some, jnp.max(score, axis=1), 0.0),
            right,
            chosen_right,
            coverages,
            weights,
        ),
        best_coverage_accuracy_curve(
            right, jnp.max(expert_right, axis=1), coverages, weights
        ),
    )


def coverage_accuracy_curve(
    defer_score: Array,
    classifier_correct: Array,
    expert_correct: Array,
    coverages: Array,
    weights: Array | None = None,
) -> Array:
    """System accuracy at each coverage when the lowest defer scores are kept.

    The classifier keeps the examples of lowest score, to exactly the asked fraction of
    the weight, and the expert decides the rest. The example (or the group of equal
    scores) on the boundary is kept in part: its gain is spread evenly. That is the
    expected accuracy when ties break at random, so the curve does not depend on the
    order of the examples. Coverage 0 is the expert alone, coverage 1 the classifier.

    Args:
      defer_score: inclination to defer, float ``[B]``, not NaN.
      classifier_correct: whether the classifier is right, bool or float ``[B]``.
      expert_correct: whether the expert is right, bool or float ``[B]``.
      coverages: fractions to keep, float ``[P]``, in [0, 1].
      weights: weight of each example, float ``[B]``, >= 0; all 1 if None.

    Returns:
      System accuracy at each coverage, float ``[P]``, in [0, 1]; NaN where the weights
      sum to 0, or a score or an accuracy of positive weight is NaN.

    Raises:
      ValueError: if an argument over examples is not a vector of one shared length, one
        of positive weight is concrete and not in [0, 1] where it must be (NaN is an
        accuracy that is not known), or ``coverages`` is not a vector or, when concrete,
        leaves [0, 1].
    """
    require_vectors(
        "B",
        defer_score,
        defer_score=defer_score,
        classifier_correct=classifier_correct,
        expert_correct=expert_correct,
    )
    require_vectors("P", coverages, coverages=coverages)
    if not isinstance(coverages, jax.core.Tracer) and not np.all(
        (np.asarray(coverages) >= 0) & (np.asarray(coverages) <= 1)
    ):
        raise ValueError(f"coverages must be in [0, 1], got {np.asarray(coverages)}")
    _require_shares("classifier_correct", classifier_correct, weights)
    _require_shares("expert_correct", expert_correct, weights)
    weights = _batch_weights(weights, defer_score)
    # Sorted, NaN comes last and would be deferred as any greatest score is.
    unknown = jnp.any(jnp.isnan(jnp.asarray(defer_score)) & (weights > 0))
    expert_correct = jnp.asarray(expert_correct, float)
    gain = jnp.asarray(classifier_correct, float) - expert_correct
    order = jnp.argsort(jnp.asarray(defer_score))
    scores = jnp.asarray(defer_score)[order]
    kept = _cumulative(weights[order])
    gained = _cumulative(jnp.where(weights > 0, weights * gain, 0)[order])
    # Between the ends of two groups of equal scores the curve is a straight line, so
    # only the ends are knots: a point inside a group repeats the knot before it.
    is_end = jnp.append(scores[1:] != scores[:-1], True)[: scores.size]
    positions = jnp.arange(1, scores.size + 1)
    knots = jax.lax.cummax(jnp.where(is_end, positions, 0))
    knots = jnp.concatenate([jnp.zeros(1, knots.dtype), knots])
    total = kept[-1]
    expert_total = jnp.sum(jnp.where(weights > 0, weights * expert_correct, 0))
    gain_at = jnp.interp(jnp.asarray(coverages) * total, kept[knots], gained[knots])
    # One sum, divided once, so that the two ends carry no rounding of a difference.
    return jnp.where(unknown, jnp.nan, _ratio(expert_total + gain_at, total))


def _cumulative(values: jax.Array) -> jax.Array:
    return jnp.concatenate([jnp.zeros(1, values.dtype), jnp.cumsum(values)])


def best_coverage_accuracy_curve(
    classifier_correct: Array,
    expert_correct: Array,
    coverages: Array,
    weights: Array | None = None,
) -> Array:
    """The coverage-accuracy curve of the best possible rejector.

    It knows who will be right, and keeps examples in descending order of
    ``classifier_correct - expert_correct``: no rejector with the same classifier and
    expert does better at any coverage.

    Args:
      classifier_correct: whether the classifier is right, bool or float ``[B]``.
      expert_correct: whether the expert is right, bool or float ``[B]``.
      coverages: fractions to keep, float ``[P]``, in [0, 1].
      weights: weight of each example, float ``[B]``, >= 0; all 1 if None.

    Returns:
      System accuracy at each coverage, float ``[P]``, in [0, 1]; NaN where the weights
      sum to 0.

    Raises:
      ValueError: as for `coverage_accuracy_curve`.
    """
    require_vectors(
        "B",
        expert_correct,
        expert_correct=expert_correct,
        classifier_correct=classifier_correct,
    )
    loss = jnp.asarray(expert_correct, float) - jnp.asarray(classifier_correct, float)
    return coverage_accuracy_curve(
        loss, classifier_correct, expert_correct, coverages, weights
    )


def area_under_curve(coverages: Array, accuracies: Array) -> Array:
    """Area under a curve by the trapezoidal rule, over its defined points.

    A point where either coordinate is NaN is left out and its neighbours are joined.
    Left out at an end, it shortens the span, and the area with it: compare areas over
    the same span only.

    Args:
      coverages: abscissae, float ``[P]``, in any order.
      accuracies: ordinates, float ``[P]``; for instance accuracy in [0, 1].

    Returns:
      The area, float ``[]``; NaN where fewer than two points are defined.

    Raises:
      ValueError: if an argument is not a vector of one shared length.
    """
    require_vectors("P", coverages, coverages=coverages, accuracies=accuracies)
    x, y = jnp.asarray(coverages, float), jnp.asarray(accuracies, float)
    # Sorted, the undefined points come last; there they repeat the last defined one
    # and so span no width.
    x, y = jax.lax.sort([jnp.where(jnp.isnan(y), jnp.nan, x), y], num_keys=1)
    num_defined = jnp.sum(~jnp.isnan(x))
    index = jnp.minimum(jnp.arange(x.size), jnp.maximum(num_defined - 1, 0))
    area = jnp.trapezoid(y[index], x[index])
    return jnp.where(num_defined >= 2, area, jnp.nan)
