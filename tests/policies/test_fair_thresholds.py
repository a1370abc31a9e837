"""The best team whose groups are treated alike, by thresholds of their own."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from l2d_jax import decisions
from l2d_jax.policies import fair_thresholds

NAN, INF = np.nan, np.inf
KEY = jax.random.key(0)


def team(seed, size, num_experts=1, num_groups=2, num_classes=2, silent=0.0):
    """A decision, labels, answers and groups; the classifier favours group 0."""
    rng = np.random.default_rng(seed)
    groups = np.arange(size) % num_groups
    labels = rng.integers(0, num_classes, size)
    wrong = rng.random(size) < 0.1 + 0.3 * groups
    predicted = np.where(wrong, (labels + 1) % num_classes, labels)
    missed = rng.random((size, num_experts)) < 0.2
    answers = np.where(missed, (labels[:, None] + 1) % num_classes, labels[:, None])
    answers = np.where(rng.random(answers.shape) < silent, -1, answers)
    scores = rng.normal(wrong[:, None] * 1.0, 1.0, (size, num_experts)).round(2)
    decision = decisions.decide(
        np.eye(num_classes)[predicted], scores.astype(np.float32)
    )
    return decision, labels, answers, groups


def outcome(decision, labels, answers, groups, cuts):
    """What becomes of cases with one threshold a group: said, asked, counted."""
    scores = np.asarray(decision.defer_score)
    first = scores.argmax(axis=1)
    asks = ~(scores.max(axis=1) <= np.asarray(cuts)[groups])
    answered = answers[np.arange(len(labels)), first]
    said = np.where(asks, answered, np.asarray(decision.class_probs).argmax(axis=1))
    asked = np.stack([asks & (first == m) for m in range(scores.shape[1])], axis=1)
    return said, asked, answered >= 0


def rates_of(criterion, said, asked, labels, groups, counted):
    """The rates by group that should be alike, ``[C, G]``."""

    def by_group(values, among):
        return [values[among & (groups == g)].mean() for g in range(groups.max() + 1)]

    every = np.ones_like(counted)
    return np.array(
        {
            "equalized_odds": lambda: [
                by_group(said == 1, counted & (labels == y)) for y in (0, 1)
            ],
            "equal_opportunity": lambda: [by_group(said == 1, counted & (labels == 1))],
            "demographic_parity": lambda: [
                by_group(said == k, counted) for k in range(labels.max() + 1)
            ],
            "equal_accuracy": lambda: [by_group(said == labels, counted)],
            "deferral_rate": lambda: [by_group(asked.any(axis=1), every)],
        }[criterion]()
    )


def accuracy_of(said, labels, groups, counted):
    """Each group by its size, whatever part of it is known."""
    return sum(
        (groups == g).mean() * (said == labels)[counted & (groups == g)].mean()
        for g in range(groups.max() + 1)
    )


def best_by_trying(given, criterion, tolerance, budget, prices, rates):
    """The greatest accuracy less prices of one threshold a group, and its cuts."""
    decision, labels, _, groups = given
    greatest = np.asarray(decision.defer_score).max(axis=1)
    cuts = [
        [-INF, *np.unique(greatest[groups == g]), INF] for g in range(groups.max() + 1)
    ]
    best = -INF
    for each in itertools.product(*cuts):
        said, asked, counted = outcome(*given, each)
        found = rates_of(criterion, said, asked, labels, groups, counted)
        shares = asked.mean(axis=0)
        if (
            np.ptp(found, axis=1).max() <= tolerance + 1e-9
            and shares.sum() <= budget + 1e-9
            and (shares <= rates + 1e-9).all()
        ):
            worth = accuracy_of(said, labels, groups, counted) - prices @ shares
            best = max(best, worth)
    return best


@pytest.mark.parametrize("criterion", fair_thresholds.CRITERIA)
@pytest.mark.parametrize(
    ("num_groups", "tolerance", "budget", "prices", "rates"),
    [
        (2, 0.1, 1.0, [0.0, 0.0], [1.0, 1.0]),
        (2, 0.3, 0.3, [0.0, 0.0], [0.2, 0.15]),
        (3, 0.35, 0.5, [0.1, 0.4], [1.0, 1.0]),
    ],
)
def test_one_threshold_a_group_is_the_best_of_all(
    criterion, num_groups, tolerance, budget, prices, rates
):
    prices, rates = np.array(prices), np.array(rates)
    given = team(0, 12 * num_groups, 2, num_groups, silent=0.15)
    best = best_by_trying(given, criterion, tolerance, budget, prices, rates)
    limits = {"max_deferral": budget, "prices": prices, "rates": rates}
    task = (*given, criterion, tolerance)
    if best == -INF:
        with pytest.raises(ValueError, match="tolerance of"):
            fair_thresholds.fit(*task, **limits, randomized=False)
        return
    found = fair_thresholds.fit(*task, **limits, randomized=False)
    assert ((found.weights == 0) | (found.weights == 1)).all()
    worth = found.accuracy - prices @ found.asked
    assert worth == pytest.approx(best, abs=1e-5)
    # What it says of itself is so.
    cuts = np.asarray(found.thresholds)[np.asarray(found.weights) == 1]
    said, asked, counted = outcome(*given, cuts)
    labels, groups = given[1], given[3]
    rates_found = rates_of(criterion, said, asked, labels, groups, counted)
    np.testing.assert_allclose(found.rates, rates_found, atol=1e-6)
    np.testing.assert_allclose(found.asked, asked.mean(axis=0), atol=1e-6)
    assert found.gap == pytest.approx(np.ptp(rates_found, axis=1).max(), abs=1e-6)
    drawn = fair_thresholds.fit(*task, **limits)
    assert drawn.accuracy - prices @ drawn.asked >= worth - 1e-5
    assert drawn.gap <= tolerance + 1e-6
    assert drawn.asked.sum() <= budget + 1e-6 and all(drawn.asked <= rates + 1e-6)


def hull(rates, worths, at):
    """The upper concave hull of points, at some rates; -inf beyond them.

    Between two points each, the highest chord.
    """
    best = np.full(len(at), -INF)
    points = list(zip(rates, worths, strict=True))
    for (r0, w0), (r1, w1) in itertools.product(points, repeat=2):
        within = (at >= min(r0, r1)) & (at <= max(r0, r1))
        part = (at - r0) / (r1 - r0) if r1 != r0 else np.zeros(len(at))
        best = np.where(within, np.maximum(best, w0 + part * (w1 - w0)), best)
    return best


@pytest.mark.parametrize("criterion", ["equal_opportunity", "deferral_rate"])
def test_drawn_thresholds_are_the_best_mixtures(criterion):
    # Without a tolerance both groups share a rate: the best of it is that of two
    # concave hulls, whose sum is greatest at a corner of one of them.
    given = team(3, 60)
    _, labels, _, groups = given
    greatest = np.asarray(given[0].defer_score).max(axis=1)
    points = []
    for group in (0, 1):
        rates, worths = [], []
        for cut in [-INF, *greatest[groups == group], INF]:
            said, asked, counted = outcome(*given, [cut, cut])
            rates.append(
                rates_of(criterion, said, asked, labels, groups, counted)[0, group]
            )
            worths.append((said == labels)[groups == group].mean() / 2)
        points.append((rates, worths))
    corners = np.unique(np.concatenate([points[0][0], points[1][0]]))
    best = (hull(*points[0], corners) + hull(*points[1], corners)).max()
    found = fair_thresholds.fit(*given, criterion, 0.0, num_thresholds=100)
    assert found.accuracy == pytest.approx(best, abs=1e-5)
    assert found.gap <= 1e-6
    # A few thresholds are drawn among: as many more as there are shared rates.
    assert (np.asarray(found.weights) > 0).sum() <= 3


def test_without_a_tolerance_it_is_each_groups_best():
    given = team(2, 60)
    decision, labels, _, groups = given
    found = fair_thresholds.fit(*given, "demographic_parity", 1.0, num_thresholds=100)
    total = 0.0
    greatest = np.asarray(decision.defer_score).max(axis=1)
    for group in (0, 1):
        total += max(
            (outcome(*given, [cut, cut])[0] == labels)[groups == group].sum()
            for cut in [-INF, *greatest[groups == group], INF]
        )
    assert found.accuracy == pytest.approx(total / 60, abs=1e-5)


def test_the_trade_off_rises_and_begins_where_it_can():
    given = team(3, 400)
    tolerances = [0.0, 0.02, 0.05, 0.1, 0.3, 1.0]
    curve = fair_thresholds.trade_off(*given, "equalized_odds", tolerances)
    there = [each is not None for each in curve]
    assert there == sorted(there) and there[-1]
    found = [each.accuracy for each in curve if each is not None]
    assert all(np.diff(found) >= -1e-5)
    for tolerance, each in zip(tolerances, curve, strict=True):
        if each is not None:
            assert each.gap <= tolerance + 1e-6
            alone = fair_thresholds.fit(*given, "equalized_odds", tolerance)
            assert alone.accuracy == each.accuracy


def test_what_no_threshold_can_give_is_said_with_what_could():
    # Group 1 is never kept nor asked rightly at label 1; group 0 is always right.
    labels, groups = np.array([1, 1, 0, 1, 1, 0]), np.array([0, 0, 0, 1, 1, 1])
    said = np.where(groups == 0, labels, 0)
    answers = np.where(np.arange(6) == 3, 1, said)
    scores = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])[:, None]
    decision = decisions.decide(np.eye(2)[said], scores)
    given = (decision, labels, answers[:, None], groups, "equal_opportunity")
    # At best half of group 1: its case 3 is asked.
    with pytest.raises(ValueError, match=r"must be >= 0\.5000, the least"):
        fair_thresholds.fit(*given, 0.2)
    assert fair_thresholds.least_tolerance(*given) == 0.5
    assert fair_thresholds.fit(*given, 0.5).gap == pytest.approx(0.5)
    # A budget of one case: to ask about 3 all three of the group are asked.
    with pytest.raises(ValueError, match=r"must be >= 0\.8334"):
        fair_thresholds.fit(*given, 0.5, max_deferral=1 / 6)
    assert fair_thresholds.trade_off(*given, [0.2, 0.5])[0] is None


def test_what_cannot_be_kept_needs_room():
    decision, labels, answers, groups = team(4, 20)
    scores = np.array(decision.defer_score)
    scores[:4] = NAN
    decision = decisions.decide(decision.class_probs, scores)
    given = (decision, labels, answers, groups, "deferral_rate", 0.0)
    with pytest.raises(ValueError, match=r"room for the 0\.2 of all cases"):
        fair_thresholds.fit(*given, max_deferral=0.1)
    found = fair_thresholds.fit(*given, max_deferral=0.2)
    np.testing.assert_allclose(found.asked, 0.2)
    applied = fair_thresholds.apply(KEY, decision, found, groups)
    np.testing.assert_array_equal(
        np.asarray(applied.allocation)[:, 0], np.isnan(scores[:, 0])
    )


def test_equal_scores_are_not_parted_and_who_cannot_be_asked_is_not():
    decision, labels, answers, groups = team(5, 200)
    scores = np.asarray(decision.defer_score).round(0)
    scores[::7] = -INF
    answers[::7] = -1
    decision = decisions.decide(decision.class_probs, scores)
    found = fair_thresholds.fit(
        *(decision, labels, answers, groups), "equalized_odds", 0.2
    )
    between = np.asarray(found.thresholds)
    assert not np.isin(between[np.isfinite(between) & (between != 0)], scores).any()
    assert found.asked.sum() <= 1 - 29 / 200
    everything = found._replace(
        thresholds=jnp.full((2, 1), -jnp.inf), weights=jnp.ones((2, 1))
    )
    applied = fair_thresholds.apply(KEY, decision, everything, groups)
    np.testing.assert_array_equal(
        np.asarray(applied.allocation)[:, -1] == 1, scores[:, 0] == -INF
    )


def test_of_equals_it_is_the_team_that_defers_least():
    # The expert is right where the classifier is.
    labels = np.arange(40) % 2
    decision = decisions.decide(np.eye(2)[labels], np.arange(40.0)[:, None] - 20)
    found = fair_thresholds.fit(
        decision, labels, labels[:, None], np.arange(40) // 20, "deferral_rate", 0.5
    )
    assert found.accuracy == 1.0 and found.asked.sum() == 0.0


@pytest.mark.long
def test_drawn_thresholds_give_their_rates_to_those_to_come():
    given = team(6, 400, 2)
    found = fair_thresholds.fit(
        *given, "deferral_rate", 0.0, max_deferral=0.23, rates=np.array([0.1, 0.2])
    )
    assert 0 < (np.asarray(found.weights) > 0).sum() - 2
    decision, labels, answers, groups = team(6, 400, 2)
    given = (decision.class_probs, decision.defer_score, answers)
    *parts, many = (np.tile(each, (100, 1)) for each in given)
    again = decisions.decide(*parts)
    applied = fair_thresholds.apply(KEY, again, found, np.tile(groups, 100))
    np.testing.assert_array_equal(applied.defer_score, again.defer_score)
    shares = np.asarray(applied.allocation).mean(axis=0)[:2]
    np.testing.assert_allclose(shares, found.asked, atol=0.005)
    said = np.asarray(decisions.answer(applied, many))
    assert (said == np.tile(labels, 100)).mean() == pytest.approx(
        found.accuracy, abs=0.005
    )


def test_thresholds_are_drawn_by_the_key_and_traced():
    decision, _, _, groups = team(7, 100)
    fitted = fair_thresholds.FairThresholds(
        jnp.array([[-jnp.inf, jnp.inf], [-jnp.inf, jnp.inf]]),
        jnp.array([[0.5, 0.5], [0.0, 1.0]]),
        *(0.5, np.zeros(1), np.zeros((1, 2)), 0.0),
    )
    keys = [jax.random.key(seed) for seed in (0, 0, 1)]
    found = [
        np.asarray(fair_thresholds.apply(key, decision, fitted, groups).allocation)
        for key in keys
    ]
    np.testing.assert_array_equal(found[0], found[1])
    assert (found[0] != found[2]).any()
    assert 10 < found[0][groups == 0, 0].sum() < 40
    assert found[0][groups == 1, 0].sum() == 0
    compiled = jax.jit(fair_thresholds.apply)
    traced = compiled(KEY, decision, fitted, groups).allocation
    np.testing.assert_array_equal(traced, found[0])
    other = compiled(KEY, decision, fitted, np.where(groups == 1, 5, 0)).allocation
    np.testing.assert_array_equal(np.isnan(other).all(axis=1), groups == 1)
    np.testing.assert_array_equal(other[groups == 0], found[0][groups == 0])


@pytest.mark.parametrize("criterion", ["equalized_odds", "equal_opportunity"])
def test_sensitivity_is_of_two_classes(criterion):
    given = team(0, 30, num_classes=3)
    with pytest.raises(ValueError, match="where there are 3 classes"):
        fair_thresholds.fit(*given, criterion, 0.1)
    found = fair_thresholds.fit(*given, "demographic_parity", 0.1)
    assert found.rates.shape == (3, 2)
    np.testing.assert_allclose(found.rates.sum(axis=0), 1.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"criterion": "fair"}, "criterion must be one of equalized_odds, .* 'fair'"),
        ({"tolerance": -0.1}, "tolerance must be in"),
        ({"tolerance": NAN}, "tolerance must be in"),
        ({"max_deferral": 2.0}, "max_deferral must be in"),
        ({"prices": np.array([-1.0])}, "prices must be >= 0"),
        ({"prices": np.zeros(2)}, "prices must have shape"),
        ({"rates": np.array([NAN])}, "rates must be in"),
        ({"num_thresholds": 0}, "num_thresholds must be >= 1"),
        ({"groups": np.zeros(3, int)}, "groups must have shape"),
        ({"groups": np.array([0, 0, 2, 2])}, "there is a group 2 and none of 1"),
        ({"groups": np.array([0, 0, -1, 1])}, "groups must be >= 0"),
        ({"labels": np.array([0, 1, 2, 0])}, "labels must be in"),
        ({"expert_labels": np.full((4, 1), -1)}, "whose expert .* group 0 has none"),
        ({"labels": np.array([0, 0, 0, 1])}, "a case of label 1 .* group 0 has none"),
    ],
)
def test_what_cannot_be_used_is_named(changes, message):
    given = {
        "decision": decisions.decide(np.full((4, 2), 0.5), np.ones((4, 1))),
        "labels": np.array([0, 1, 0, 1]),
        "expert_labels": np.array([[0], [1], [1], [0]]),
        "groups": np.array([0, 0, 1, 1]),
        "criterion": "equalized_odds",
        "tolerance": 1.0,
    }
    fair_thresholds.fit(**given)
    with pytest.raises(ValueError, match=message):
        fair_thresholds.fit(**given | changes)


def test_a_group_that_is_new_is_named():
    given = team(0, 30)
    found = fair_thresholds.fit(*given, "deferral_rate", 0.1)
    with pytest.raises(ValueError, match=r"one of the 2 groups .* got 2 in row 3"):
        fair_thresholds.apply(KEY, given[0], found, np.where(np.arange(30) == 3, 2, 0))


def test_gaps_are_those_of_what_the_team_said():
    """By hand: two groups of four cases, labels 0, 0, 1, 1."""
    labels = np.array([0, 0, 1, 1] * 2)
    said = np.array([0, 1, 1, 1, 0, 0, 0, 1])
    asked = np.array([1, 0, 0, 0, 1, 1, 1, 0], bool)
    groups = np.repeat([0, 1], 4)
    expected = {
        "equalized_odds": 0.5,  # 1 of label 0: .5 and 0; of label 1: 1 and .5.
        "equal_opportunity": 0.5,
        "demographic_parity": 0.5,
        "equal_accuracy": 0.0,
        "deferral_rate": 0.5,
    }
    for criterion, value in expected.items():
        found = fair_thresholds.gap(said, asked, labels, groups, criterion, 2)
        assert found == pytest.approx(value), criterion
    silent = np.where(groups == 1, -1, said)
    alone = fair_thresholds.gap(silent, asked, labels, groups, "equal_accuracy", 2)
    assert np.isnan(alone)
    with pytest.raises(ValueError, match="criterion must be one of"):
        fair_thresholds.gap(said, asked, labels, groups, "odds", 2)
