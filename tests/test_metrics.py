import jax
import numpy as np
import pytest

from l2d_jax import decisions, metrics
from l2d_jax.types import Decision

pytestmark = pytest.mark.usefixtures("cheap_compiles")

team_metrics = jax.jit(metrics.team_metrics)
deferral_curves = jax.jit(metrics.deferral_curves)
system_accuracy = jax.jit(metrics.system_accuracy)
deferral_rate = jax.jit(metrics.deferral_rate)
coverage = jax.jit(metrics.coverage)
curve = jax.jit(metrics.coverage_accuracy_curve)
best_curve = jax.jit(metrics.best_coverage_accuracy_curve)
area_under_curve = jax.jit(metrics.area_under_curve)
calibration_error = jax.jit(metrics.calibration_error, static_argnames="num_bins")
TOL = {"rtol": 1e-5, "atol": 1e-6}
NAMES = [
    "system_accuracy",
    "coverage",
    "deferral_rate",
    "classifier_accuracy",
    "classifier_accuracy_kept",
    "expert_accuracy",
    "expert_accuracy_deferred",
    "expert_calibration_error",
]


def make_decision(predicted, defer, expert_correct_prob):
    """Of one expert, who answers where ``defer``."""
    defer = np.asarray(defer, bool)[:, None]
    return Decision(
        class_probs=np.eye(3)[np.asarray(predicted)],
        expert_correct_prob=np.asarray(expert_correct_prob, float)[:, None],
        defer_score=np.where(defer, 1.0, -1.0),
        allocation=np.concatenate([defer, ~defer], axis=1).astype(float),
    )


def random_batch(seed, size=24):
    rng = np.random.default_rng(seed)
    decision = make_decision(
        rng.integers(0, 3, size), rng.random(size) < 0.4, rng.random(size)
    )
    labels, expert_labels = rng.integers(0, 3, (2, size))
    return decision, labels, expert_labels[:, None], rng.random(size)


def random_curve_inputs(seed, size=24):
    """Scores with many ties, and who is right."""
    rng = np.random.default_rng(seed)
    score = rng.integers(-3, 4, size).astype(float)
    classifier_correct, expert_correct = rng.random((2, size)) < 0.6
    return score, classifier_correct, expert_correct


def team_oracle(decision, labels, expert_labels, weights):
    """The definitions, in float64."""

    def mean(values, w):
        return np.sum(values * w) / np.sum(w) if np.sum(w) > 0 else np.nan

    classifier = decision.class_probs.argmax(1) == labels
    expert = expert_labels[:, 0] == labels
    defer = decision.allocation[:, 0] == 1
    kept, deferred = weights * ~defer, weights * defer
    error = 0.0
    for b in range(15):
        low, high = b / 15, (b + 1) / 15
        p = decision.expert_correct_prob[:, 0]
        inside = (p > low) & (p <= high)
        error += abs(np.sum((weights * (expert - p))[inside])) / np.sum(weights)
    return {
        "system_accuracy": mean(np.where(defer, expert, classifier), weights),
        "coverage": mean(~defer, weights),
        "deferral_rate": mean(defer, weights),
        "classifier_accuracy": mean(classifier, weights),
        "classifier_accuracy_kept": mean(classifier, kept),
        "expert_accuracy": mean(expert, weights),
        "expert_accuracy_deferred": mean(expert, deferred),
        "expert_calibration_error": error,
    }


def curve_oracle(score, classifier_correct, expert_correct, num_kept, seed=0):
    """Mean over all the ways to break ties, by shuffling; exact without ties."""
    rng = np.random.default_rng(seed)
    results = []
    for _ in range(4000):
        order = rng.permutation(len(score))
        order = order[np.argsort(score[order], kind="stable")]
        kept = order[:num_kept]
        correct = expert_correct.astype(float)
        correct[kept] = classifier_correct[kept]
        results.append(correct.mean())
    return np.mean(results)


def test_team_metrics_by_hand():
    # Right: classifier on 0, 1; expert on 0, 2, 3. Examples 2, 3, 4 are deferred.
    decision = make_decision(
        [0, 1, 0, 0, 0], [False, False, True, True, True], [0.9, 0.1, 0.9, 0.9, 0.1]
    )
    labels = np.array([0, 1, 2, 1, 2])
    expert_labels = np.array([[0], [2], [2], [1], [1]])
    result = team_metrics(decision, labels, expert_labels)
    assert sorted(result) == sorted(NAMES)
    np.testing.assert_allclose(result["system_accuracy"], 4 / 5, **TOL)
    np.testing.assert_allclose(result["coverage"], 2 / 5, **TOL)
    np.testing.assert_allclose(result["deferral_rate"], 3 / 5, **TOL)
    np.testing.assert_allclose(result["classifier_accuracy"], 2 / 5, **TOL)
    np.testing.assert_allclose(result["classifier_accuracy_kept"], 1.0, **TOL)
    np.testing.assert_allclose(result["expert_accuracy"], 3 / 5, **TOL)
    np.testing.assert_allclose(result["expert_accuracy_deferred"], 2 / 3, **TOL)
    # Three times 0.9 where right, twice 0.1 where wrong: off by 0.1 everywhere.
    np.testing.assert_allclose(result["expert_calibration_error"], 0.1, **TOL)


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["plain", "jit"])
def test_team_metrics_match_the_definitions(wrap):
    batch = random_batch(0)
    result = wrap(metrics.team_metrics)(*batch)
    for name, value in team_oracle(*batch).items():
        np.testing.assert_allclose(result[name], value, err_msg=name, **TOL)


def test_team_metrics_under_vmap_equal_each_run_alone():
    batches = [random_batch(seed) for seed in range(3)]
    stacked = jax.tree.map(lambda *x: np.stack(x), *batches)
    result = jax.vmap(metrics.team_metrics)(*stacked)
    for run, batch in enumerate(batches):
        for name, value in team_metrics(*batch).items():
            np.testing.assert_allclose(result[name][run], value, **TOL)


def test_weight_zero_equals_absence():
    decision, labels, expert_labels, weights = random_batch(1)
    weights[::3] = 0
    decision.expert_correct_prob[::3] = np.nan
    kept = weights > 0
    alone = team_metrics(
        jax.tree.map(lambda x: x[kept], decision),
        labels[kept],
        expert_labels[kept],
        weights[kept],
    )
    padded = team_metrics(decision, labels, expert_labels, weights)
    for name in NAMES:
        np.testing.assert_allclose(padded[name], alone[name], err_msg=name, **TOL)


def test_integer_weight_equals_repetition():
    decision, labels, expert_labels, _ = random_batch(2)
    counts = np.arange(labels.size) % 4
    weighted = team_metrics(decision, labels, expert_labels, counts)
    repeated = team_metrics(
        *jax.tree.map(lambda x: np.repeat(x, counts, 0), (decision, labels)),
        np.repeat(expert_labels, counts, 0),
    )
    for name in NAMES:
        np.testing.assert_allclose(weighted[name], repeated[name], **TOL)


@pytest.mark.parametrize("defer", [False, True])
def test_nothing_on_one_side_is_nan_there_only(defer):
    decision, labels, expert_labels, weights = random_batch(3)
    share = np.full(labels.shape, defer, float)
    decision = decision._replace(allocation=np.stack([share, 1 - share], axis=1))
    result = team_metrics(decision, labels, expert_labels, weights)
    empty = "classifier_accuracy_kept" if defer else "expert_accuracy_deferred"
    assert [name for name in NAMES if np.isnan(result[name])] == [empty]
    whole = "expert_accuracy" if defer else "classifier_accuracy"
    assert result["system_accuracy"] == result[whole]
    assert result["coverage"] == (0.0 if defer else 1.0)


def test_no_weight_is_nan_everywhere():
    decision, labels, expert_labels, weights = random_batch(4)
    result = team_metrics(decision, labels, expert_labels, 0 * weights)
    assert all(np.isnan(value) for value in result.values())


def test_no_estimate_of_the_expert_is_nan():
    decision, labels, expert_labels, _ = random_batch(5)
    nothing = np.full(decision.defer_score.shape, np.nan)
    decision = decision._replace(expert_correct_prob=nothing)
    result = team_metrics(decision, labels, expert_labels)
    undefined = [name for name in NAMES if np.isnan(result[name])]
    assert undefined == ["expert_calibration_error"]


def test_standalone_functions_agree_with_team_metrics():
    decision, labels, expert_labels, weights = random_batch(6)
    result = team_metrics(decision, labels, expert_labels, weights)
    system = system_accuracy(decision, labels, expert_labels, weights)
    expected = team_oracle(decision, labels, expert_labels, weights)
    np.testing.assert_allclose(system, expected["system_accuracy"], **TOL)
    np.testing.assert_allclose(coverage(decision, weights), expected["coverage"], **TOL)
    np.testing.assert_allclose(
        deferral_rate(decision, weights), expected["deferral_rate"], **TOL
    )
    # System accuracy is the mixture of the two conditional accuracies.
    mixture = (
        result["coverage"] * result["classifier_accuracy_kept"]
        + result["deferral_rate"] * result["expert_accuracy_deferred"]
    )
    np.testing.assert_allclose(mixture, system, **TOL)


def test_calibration_error_by_hand():
    # Two bins: {0.2, 0.4} with outcomes 0, 1 is off by 0.4 in sum; {0.8} by 0.2.
    probs, outcomes = np.array([0.2, 0.4, 0.8]), np.array([0, 1, 1])
    result = calibration_error(probs, outcomes, num_bins=2)
    np.testing.assert_allclose(result, (0.4 + 0.2) / 3, **TOL)
    # In one bin: |0.2 + 0.4 + 0.8 - 2| = 0.6 again, but with weights 3, 1, 1:
    # |-0.6 + 0.6 + 0.2| / 5.
    weights = np.array([3.0, 1.0, 1.0])
    result = calibration_error(probs, outcomes, 1, weights)
    np.testing.assert_allclose(result, 0.2 / 5, **TOL)


def test_calibration_bins_are_closed_on_the_right():
    # 0.5 shares a bin with 0.1, and their errors -0.5 and 0.5 cancel; 0.6 is alone.
    probs, outcomes = np.array([0.5, 0.5, 0.6]), np.array([0, 1, 1])
    result = calibration_error(probs, outcomes, num_bins=2)
    np.testing.assert_allclose(result, 0.4 / 3, **TOL)
    # 0 and 1 belong to the end bins.
    ends = calibration_error(np.array([0.0, 1.0]), np.array([1, 0]), 2)
    np.testing.assert_allclose(ends, 1.0, **TOL)


def test_certain_and_right_is_calibrated():
    outcomes = np.array([0, 1, 1, 0])
    assert calibration_error(outcomes.astype(float), outcomes) == 0.0


def test_curve_by_hand():
    # In order of score: classifier 1 1 0 0, expert 0 1 1 0.
    score = np.array([0.3, 0.1, 0.4, 0.2])
    classifier = np.array([0, 1, 0, 1])
    expert = np.array([1, 0, 0, 1])
    coverages = np.array([0, 0.25, 0.5, 0.625, 0.75, 1])
    result = curve(score, classifier, expert, coverages)
    np.testing.assert_allclose(result, [0.5, 0.75, 0.75, 0.625, 0.5, 0.5], **TOL)


def test_curve_spreads_ties_by_hand():
    # All tied: the curve is the straight line from the expert to the classifier.
    classifier, expert = np.array([1, 1, 1, 0]), np.array([0, 1, 0, 0])
    coverages = np.array([0, 0.25, 0.5, 1])
    result = curve(np.zeros(4), classifier, expert, coverages)
    np.testing.assert_allclose(result, [0.25, 0.375, 0.5, 0.75], **TOL)


def test_curve_is_the_expectation_over_random_tie_breaking():
    score, classifier, expert = random_curve_inputs(0, size=12)
    counts = np.array([3, 5, 8])
    result = curve(score, classifier, expert, counts / 12)
    expected = [curve_oracle(score, classifier, expert, n) for n in counts]
    np.testing.assert_allclose(result, expected, rtol=0, atol=0.01)
    distinct = score + np.linspace(0, 0.9, 12)
    result = curve(distinct, classifier, expert, counts / 12)
    expected = [curve_oracle(distinct, classifier, expert, n) for n in counts]
    np.testing.assert_allclose(result, expected, **TOL)


def test_curve_does_not_depend_on_the_order_of_examples():
    inputs = random_curve_inputs(1)
    coverages = np.linspace(0, 1, 11)
    order = np.random.default_rng(0).permutation(inputs[0].size)
    result = curve(*inputs, coverages)
    shuffled = curve(*(x[order] for x in inputs), coverages)
    np.testing.assert_allclose(shuffled, result, **TOL)
    assert len(np.unique(np.asarray(result))) > 3


def test_curve_ends_at_expert_and_classifier():
    for seed in range(5):
        score, classifier, expert = random_curve_inputs(seed, size=23)
        result = curve(score, classifier, expert, np.array([0.0, 1.0]))
        expected = [expert.mean(), classifier.mean()]
        np.testing.assert_allclose(result, expected, rtol=3e-7, atol=0)


def test_curve_is_nowhere_above_the_best_curve():
    coverages = np.linspace(0, 1, 17)
    curves, best_curves = (
        jax.jit(jax.vmap(f, (*axes, None)))
        for f, axes in [
            (metrics.coverage_accuracy_curve, (0, 0, 0)),
            (metrics.best_coverage_accuracy_curve, (0, 0)),
        ]
    )
    inputs = jax.tree.map(lambda *x: np.stack(x), *map(random_curve_inputs, range(8)))
    below = np.asarray(curves(*inputs, coverages))
    above = np.asarray(best_curves(*inputs[1:], coverages))
    assert np.all(below <= above + 1e-6)
    assert np.mean(below < above - 0.05) > 0.5


def test_best_curve_by_hand():
    # Gains 1, 0, 0, -1: the best team is right on three of four.
    classifier, expert = np.array([0, 1, 1, 0]), np.array([1, 1, 0, 0])
    result = best_curve(classifier, expert, np.array([0, 0.125, 0.25, 0.5, 0.75, 1]))
    np.testing.assert_allclose(result, [0.5, 0.625, 0.75, 0.75, 0.75, 0.5], **TOL)


def test_curve_weights_count_examples():
    score, classifier, expert = random_curve_inputs(2)
    counts = np.arange(score.size) % 3
    coverages = np.linspace(0, 1, 9)
    weighted = curve(
        np.where(counts > 0, score, np.inf), classifier, expert, coverages, counts
    )
    repeated = curve(
        *(np.repeat(x, counts) for x in (score, classifier, expert)), coverages
    )
    np.testing.assert_allclose(weighted, repeated, **TOL)
    nothing = curve(score, classifier, expert, coverages, 0 * counts)
    assert np.all(np.isnan(nothing))


def test_curve_agrees_with_system_accuracy_at_a_threshold():
    decision, labels, expert_labels, _ = random_batch(7)
    score = np.random.default_rng(7).normal(size=(labels.size, 1))
    decision = decision._replace(defer_score=score)
    for threshold in (-0.5, 0.0, 0.7):
        shifted = decisions.apply_threshold(decision, threshold)
        system = system_accuracy(shifted, labels, expert_labels)
        point = curve(
            score[:, 0],
            decision.class_probs.argmax(1) == labels,
            expert_labels[:, 0] == labels,
            coverage(shifted)[None],
        )
        np.testing.assert_allclose(point[0], system, **TOL)


# Several experts, some of whom were not asked.


def test_an_answer_that_was_not_asked_for_counts_nowhere():
    """An expert who is right 80 times of 100 and asked half of the time."""
    labels = np.arange(200) % 3
    answers = np.where(np.arange(200) % 10 < 2, (labels + 1) % 3, labels)
    answers = np.where(np.arange(200) < 100, answers, -1)[:, None]
    # The classifier, who is always wrong, keeps a fifth of either half.
    defer = np.arange(200) % 5 < 4
    decision = make_decision((labels + 1) % 3, defer, np.full(200, 0.8))
    result = team_metrics(decision, labels, answers)
    np.testing.assert_allclose(result["expert_accuracy"], 0.8, **TOL)
    # 80 answers are asked for and given, among them all of the 20 that are wrong.
    np.testing.assert_allclose(result["expert_accuracy_deferred"], 60 / 80, **TOL)
    # Of 200 inputs 80 have no answer, and the 40 that are kept are wrong.
    np.testing.assert_allclose(result["system_accuracy"], 60 / 120, **TOL)
    np.testing.assert_allclose(result["expert_calibration_error"], 0.0, **TOL)
    # Whom the system would ask it decides all the same.
    np.testing.assert_allclose(result["deferral_rate"], 0.8, **TOL)
    half = jax.tree.map(lambda leaf: leaf[:100], decision)
    alone = team_metrics(half, labels[:100], answers[:100])
    for name in ("expert_accuracy", "expert_accuracy_deferred"):
        np.testing.assert_allclose(result[name], alone[name], **TOL)


def team_by_hand():
    """Two experts and three classes; four inputs of class 0.

    The first input is kept, the second goes to the second expert, the third is voted
    on and the fourth left to somebody who was not asked.
    """
    decision = Decision(
        class_probs=np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1]] * 2),
        expert_correct_prob=np.array([[0.5, 0.5], [0.5, 0.9], [0.5, 0.5], [0.5, 0.1]]),
        defer_score=np.array([[-1.0, -2.0], [0.1, 0.5], [0.6, 0.2], [2.0, 1.0]]),
        allocation=np.array([[0, 0, 1], [0, 1, 0], [0.5, 0.3, 0.2], [1, 0, 0]]),
    )
    answers = np.array([[0, 1], [1, 0], [0, 2], [-1, 0]])
    return decision, np.zeros(4, int), answers


def test_team_of_two_experts_by_hand():
    decision, labels, answers = team_by_hand()
    for function in (metrics.team_metrics, team_metrics):
        result = function(decision, labels, answers)
        expected = {
            # Three have an answer: 0 of the classifier, 0 of the second expert, and a
            # vote of .5 + .2 * .8 for 0.
            "system_accuracy": 1.0,
            # Shares: 1 + 0 + .2 + 0 of four, and 0 + 1 + .8 + 1.
            "coverage": 0.3,
            "deferral_rate": 0.7,
            # Right on the first and the third.
            "classifier_accuracy": 0.5,
            # Kept with weights 1 and .2, right both times.
            "classifier_accuracy_kept": 1.0,
            # Of seven answers four are 0.
            "expert_accuracy": 4 / 7,
            # With weights 1 (right), .5 (right) and .3 (wrong); -1 has none.
            "expert_accuracy_deferred": 1.5 / 1.8,
            # Five of .5, of which two are right; .9 and .1, both right.
            "expert_calibration_error": (0.5 + 0.1 + 0.9) / 7,
        }
        assert sorted(result) == sorted(expected)
        for name, value in expected.items():
            np.testing.assert_allclose(result[name], value, err_msg=name, **TOL)
    # With other weights, among them none.
    weights = np.array([1.0, 2.0, 3.0, 0.0])
    result = team_metrics(decision, labels, answers, weights)
    np.testing.assert_allclose(result["coverage"], 1.6 / 6, **TOL)
    np.testing.assert_allclose(result["expert_accuracy"], (1 + 2 + 3) / 12, **TOL)
    np.testing.assert_allclose(
        result["expert_accuracy_deferred"], (2 + 1.5) / (2 + 1.5 + 0.9), **TOL
    )


def test_without_a_classifier_nothing_of_it_is_defined():
    everybody = decisions.majority_decision(4, 3, 2)
    _, labels, answers = team_by_hand()
    result = team_metrics(everybody, labels, answers)
    undefined = [name for name in NAMES if np.isnan(result[name])]
    assert undefined == [
        "classifier_accuracy",
        "classifier_accuracy_kept",
        "expert_calibration_error",
    ]
    # Votes 0:1, 1:0, 0:2 and 0 alone; a tie is the lowest label.
    np.testing.assert_allclose(result["system_accuracy"], 1.0, **TOL)
    np.testing.assert_allclose(result["coverage"], 0.0, **TOL)
    np.testing.assert_allclose(result["deferral_rate"], 1.0, **TOL)
    np.testing.assert_allclose(result["expert_accuracy"], 4 / 7, **TOL)
    curves = deferral_curves(everybody, labels, answers, np.array([0.0, 0.5, 1.0]))
    assert np.isnan(curves[0][1:]).all() and np.isnan(curves[1][1:]).all()


def test_where_nobody_has_an_answer_all_is_nan():
    alone = decisions.expert_decision(3, 3, 2)
    result = team_metrics(alone, np.zeros(3, int), np.full((3, 2), -1))
    defined = [name for name in NAMES if not np.isnan(result[name])]
    assert defined == ["coverage", "deferral_rate"]


def test_curves_of_two_experts_by_hand():
    # Whom the scores ask of those who were asked: 0 (right), 0 (wrong), 0 (right), and
    # 1 (right), for 0 was not asked; kept first: inputs 0 (right), 1 (wrong), 2, 3.
    decision, labels, answers = team_by_hand()
    decision.defer_score[1] = [0.5, 0.1]
    coverages = np.array([0.0, 0.25, 0.5, 0.75, 1.0])
    for function in (metrics.deferral_curves, deferral_curves):
        ours, best = function(decision, labels, answers, coverages)
        np.testing.assert_allclose(ours, [3 / 4, 3 / 4, 3 / 4, 3 / 4, 2 / 4], **TOL)
        # Somebody is always right; the classifier is on two.
        np.testing.assert_allclose(best, [1, 1, 1, 3 / 4, 1 / 2], **TOL)
    # A row in which nobody was asked counts for nothing, whatever it holds.
    more = jax.tree.map(
        lambda leaf: np.concatenate([leaf, np.full_like(leaf[:1], np.nan)]), decision
    )
    unasked = np.concatenate([answers, [[-1, -1]]])
    longer = deferral_curves(more, np.zeros(5, int), unasked, coverages)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, **TOL), longer, (ours, best)
    )


def test_curves_do_not_read_the_allocation_and_have_its_points():
    """At the coverage of a threshold the curve is the accuracy under that threshold."""
    rng = np.random.default_rng(11)
    labels = rng.integers(0, 3, 40)
    answers = rng.integers(0, 3, (40, 3))
    probs = rng.dirichlet(np.ones(3), 40)
    decision = decisions.decide(probs, rng.normal(size=(40, 3)))
    for threshold in (-1.0, 0.3, 1.0):
        shifted = decisions.apply_threshold(decision, threshold)
        ours, best = deferral_curves(
            decision, labels, answers, metrics.coverage(shifted)[None]
        )
        system = system_accuracy(shifted, labels, answers)
        np.testing.assert_allclose(ours[0], system, **TOL)
        assert best[0] >= ours[0]
        moved = deferral_curves(shifted, labels, answers, coverage(shifted)[None])
        np.testing.assert_allclose(moved[0], ours, **TOL)


def test_area_by_hand():
    x, y = np.array([0, 0.5, 1]), np.array([0.5, 1, 0.5])
    np.testing.assert_allclose(area_under_curve(x, y), 0.75, **TOL)
    # The order of the points does not matter.
    np.testing.assert_allclose(area_under_curve(x[::-1], y[::-1]), 0.75, **TOL)


@pytest.mark.parametrize(
    ("accuracies", "area"),
    [
        ([0.5, np.nan, 0.5], 0.5),  # Neighbours joined.
        ([np.nan, 1, 0.5], 0.375),  # Span shortened.
        ([0.5, 1, np.nan], 0.375),
        ([np.nan, 1, np.nan], np.nan),
        ([np.nan, np.nan, np.nan], np.nan),
    ],
)
def test_area_skips_undefined_points(accuracies, area):
    result = area_under_curve(np.array([0, 0.5, 1]), np.array(accuracies))
    np.testing.assert_allclose(result, area, **TOL)


def test_area_between_expert_and_classifier_of_a_blind_rejector():
    classifier, expert = np.array([1, 1, 1, 0]), np.array([0, 1, 0, 0])
    coverages = np.linspace(0, 1, 7)
    accuracies = curve(np.zeros(4), classifier, expert, coverages)
    area = area_under_curve(coverages, accuracies)
    np.testing.assert_allclose(area, (0.25 + 0.75) / 2, **TOL)


def test_wrong_arguments_are_named():
    decision, labels, expert_labels, weights = random_batch(8)
    message = r"^expert_labels must have shape \[B, M\] = \(24, 1\), got \(5, 1\)$"
    with pytest.raises(ValueError, match=message):
        metrics.team_metrics(decision, labels, expert_labels[:5])
    with pytest.raises(ValueError, match=r"^expert_labels must have shape \[B, M\]"):
        metrics.system_accuracy(decision, labels, expert_labels[:, 0])
    with pytest.raises(ValueError, match=r"^labels must have shape \[B\] = \(24,\)"):
        metrics.team_metrics(decision, np.stack([labels] * 2, 1), expert_labels)
    with pytest.raises(ValueError, match=r"^weights must have shape \[B\]"):
        metrics.system_accuracy(decision, labels, expert_labels, weights[1:])
    with pytest.raises(ValueError, match=r"^weights must have shape \[B\]"):
        metrics.coverage(decision, weights[1:])
    with pytest.raises(ValueError, match=r"^num_bins must be at least 1, got 0"):
        metrics.calibration_error(weights, weights, 0)
    with pytest.raises(ValueError, match=r"^outcomes must have shape \[B\]"):
        metrics.calibration_error(weights, weights[1:])
    with pytest.raises(ValueError, match=r"^coverages must be in \[0, 1\]"):
        metrics.coverage_accuracy_curve(weights, labels, labels, np.array([0.5, 50.0]))
    with pytest.raises(ValueError, match=r"^coverages must have shape \[P\]"):
        metrics.coverage_accuracy_curve(weights, labels, labels, 0.5)
    with pytest.raises(ValueError, match=r"^accuracies must have shape \[P\]"):
        metrics.area_under_curve(np.zeros(3), np.zeros((3, 2)))


def test_subgroup_accuracy_by_hand():
    correct = np.array([1, 0, 1, 1, 0, 0], bool)
    subgroup = np.array([0, 0, 1, 1, 1, 3])
    for wrap in (lambda f, **_: f, jax.jit):
        of_each = wrap(metrics.subgroup_accuracy, static_argnames="num_subgroups")
        lowest = wrap(metrics.min_subgroup_accuracy, static_argnames="num_subgroups")
        expected = [1 / 2, 2 / 3, np.nan, 0.0]
        ours = of_each(correct, subgroup, num_subgroups=4)
        np.testing.assert_allclose(ours, expected, **TOL)
        np.testing.assert_allclose(lowest(correct, subgroup, num_subgroups=4), 0.0)
        # Without the last two: 1/2, 1, and nobody in the others.
        weights = np.array([1, 1, 1, 3, 0, 0])
        ours = of_each(correct, subgroup, num_subgroups=4, weights=weights)
        np.testing.assert_allclose(ours, [1 / 2, 1.0, np.nan, np.nan], **TOL)
        ours = lowest(correct, subgroup, num_subgroups=4, weights=weights)
        np.testing.assert_allclose(ours, 1 / 2, **TOL)
        ours = lowest(correct, subgroup, num_subgroups=4, weights=0.0 * weights)
        assert np.isnan(ours)
        # Weights count, and an example of no subgroup does not.
        ours = of_each(correct[2:6], subgroup[2:6] - 1, 1, np.array([2, 1, 1, 5]))
        np.testing.assert_allclose(ours, [3 / 4], **TOL)


def test_subgroup_accuracy_refuses_wrong_arguments():
    with pytest.raises(ValueError, match="num_subgroups must be at least 1, got 0"):
        metrics.subgroup_accuracy(np.ones(2), np.zeros(2, int), 0)
    with pytest.raises(ValueError, match=r"subgroup must have shape \[B\]"):
        metrics.min_subgroup_accuracy(np.ones(2), np.zeros(3, int), 2)


roc_auc = jax.jit(metrics.roc_auc)


def test_roc_auc_by_hand():
    scores = np.array([0.1, 0.4, 0.35, 0.8])
    labels = np.array([0, 0, 1, 1])
    # Of four pairs of a 1 and a 0, three are in order.
    np.testing.assert_allclose(roc_auc(scores, labels), 0.75, **TOL)
    np.testing.assert_allclose(metrics.roc_auc(scores, labels), 0.75, **TOL)
    np.testing.assert_allclose(roc_auc(-scores, labels), 0.25, **TOL)
    # A tie is half a pair in order.
    ties = np.array([0.1, 0.4, 0.4, 0.4])
    np.testing.assert_allclose(roc_auc(ties, labels), 0.75, **TOL)
    np.testing.assert_allclose(roc_auc(np.zeros(4), labels), 0.5, **TOL)
    # Pairs by weight: of 2 * 1 + 2 * 3 + 1 * 1 + 1 * 3 = 12, all but the 3 * 2.
    weights = np.array([1, 3, 2, 1])
    np.testing.assert_allclose(roc_auc(scores, labels, weights), 0.5, **TOL)
    np.testing.assert_allclose(roc_auc(scores, labels, weights / 7), 0.5, **TOL)


def test_roc_auc_without_one_of_the_labels():
    scores = np.array([0.1, 0.4, 0.35, 0.8])
    assert np.isnan(roc_auc(scores, np.ones(4, int)))
    assert np.isnan(roc_auc(scores, np.zeros(4, int)))
    weights = np.array([1, 1, 0, 0])
    assert np.isnan(roc_auc(scores, np.array([0, 0, 1, 1]), weights))
    # An example of weight 0 counts for nothing, whatever it holds.
    labels, weights = np.array([0, 1, 0, 1]), np.array([1, 1, 1, 0])
    for score in (-1e9, 0.4, np.inf, np.nan):
        scores[3] = score
        np.testing.assert_allclose(roc_auc(scores, labels, weights), 1.0, **TOL)


def test_roc_auc_is_that_of_scikit_learn():
    sklearn_metrics = pytest.importorskip("sklearn.metrics")
    generator = np.random.default_rng(7)
    # Rounded to few values, so that most are ties.
    scores = np.round(generator.random((20, 50)), 1).astype(np.float32)
    labels = generator.integers(0, 2, (20, 50))
    weights = generator.random((20, 50)) * (generator.random((20, 50)) < 0.8)
    ours = jax.jit(jax.vmap(metrics.roc_auc))(scores, labels, weights)
    expected = [
        sklearn_metrics.roc_auc_score(y, s, sample_weight=w)
        for y, s, w in zip(labels, scores, weights, strict=True)
    ]
    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5)
    # Only the order of scores and not that of examples counts.
    again = jax.jit(jax.vmap(metrics.roc_auc))(
        np.exp(3 * scores)[:, ::-1], labels[:, ::-1], weights[:, ::-1]
    )
    np.testing.assert_allclose(again, ours, rtol=1e-4, atol=1e-5)


def test_roc_auc_refuses_wrong_shapes():
    with pytest.raises(ValueError, match=r"labels must have shape \[B\] = \(3,\)"):
        metrics.roc_auc(np.zeros(3), np.zeros(4, int))
    with pytest.raises(ValueError, match=r"weights must have shape \[B\] = \(3,\)"):
        metrics.roc_auc(np.zeros(3), np.zeros(3, int), np.ones(2))
    with pytest.raises(ValueError, match=r"scores must have shape \[B\] = \(3,\)"):
        metrics.roc_auc(np.zeros((3, 2)), np.zeros(3, int))


@pytest.mark.parametrize("scores", [(-np.inf, -np.inf), (0.1, -np.inf)])
def test_a_curve_asks_none_who_was_not_asked(scores):
    # -inf is of who cannot be asked; who was asked comes before who was not.
    decision = decisions.decide(np.array([[0.4, 0.6]]), np.array([scores]))
    labels, answers = np.array([0]), np.array([[-1, 0]])
    curve, _ = metrics.deferral_curves(decision, labels, answers, np.array([0.0]))
    np.testing.assert_array_equal(curve, [1.0])
