"""Figures of an evaluation against NumPy and SciPy, of records made by hand."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from l2d_jax.table import columns, evaluation
from l2d_jax.table.evaluation import FOREMOST, MAJORITY, MODEL, POLICY
from l2d_jax.table.options import Options
from l2d_jax.table.report import render
from tests.table.conftest import make

METHOD = "the surest answers"


def record_of(cases, right, splits, deferral=None, methods=("confidence",), **values):
    """Of the model, the policy and the method that it is, each right where it is said.

    ``right`` are rows of the first two, ``[N]`` or ``[R, N]``, as are ``splits``.
    """
    splits = np.atleast_2d(splits)
    empty = evaluation._empty((MODEL, POLICY, "confidence"), len(splits), cases)
    model, policy = (np.broadcast_to(of, splits.shape).astype(float) for of in right)
    right = np.stack([model, policy, policy])
    deferred = np.zeros_like(right)
    deferred[1:] = 1.0 if deferral is None else deferral
    given = {
        "right": right,
        "utility": right,
        "said": np.where(right == 1, cases.labels, 1 - cases.labels),
        "deferral": deferred,
        "asked": deferred,
        "kept_right": right,
        "splits": splits,
        "test_to_train": 1 / splits.max() if splits.max() else 0.0,
        "methods": tuple(methods),
    }
    return empty._replace(**given | values)


def tabulated(record, cases, chosen="confidence", **values):
    return evaluation.tabulate(record, cases, title="t", chosen=chosen, **values)


def row(judged, party):
    return judged.parties.set_index("party").loc[party]


def students(sums, count):
    """Half of an interval, and the error, of a mean whose units have these sums."""
    units = len(sums)
    error = np.sqrt(np.sum(sums**2) * units / (units - 1)) / count
    return stats.t.ppf(0.975, units - 1) * error, error


@pytest.fixture
def uneven():
    """Parts of 200, 20 and 20 cases, in which the policy gains 0, 40 and 40 points."""
    cases = make(240, 1, asked=1.0)
    splits = np.repeat([0, 1, 2], [200, 20, 20])
    first = np.arange(240) - np.array([0, 200, 220])[splits]
    policy = (first % 10 < 9).astype(float)
    model = np.where(splits == 0, policy, first % 10 < 5)
    return cases, record_of(cases, (model, policy), splits)


def test_a_gain_is_the_difference_of_the_accuracies(uneven):
    """Of all cases, 16 of 240, and not the mean of what the parts gained."""
    cases, record = uneven
    found = row(tabulated(record, cases), POLICY)
    accuracy = row(tabulated(record, cases), MODEL).accuracy
    assert found.gain == pytest.approx(found.accuracy - accuracy)
    assert found.gain == pytest.approx(16 / 240)
    # Nadeau and Bengio's interval of the parts, around it.
    error = np.std([0.0, 0.4, 0.4], ddof=1) * np.sqrt(1 / 3 + 1 / 2)
    half = stats.t.ppf(0.975, 2) * error
    assert (found.gain_low, found.gain_high) == pytest.approx(
        (16 / 240 - half, 16 / 240 + half)
    )
    assert found.gain_p == pytest.approx(2 * stats.t.sf(16 / 240 / error, 2))


def test_a_gain_of_parts_that_are_alike_is_as_sure_as_its_cases():
    """Two parts of 60 that gain 5 points each: 6 cases of 120, not 5 for certain."""
    cases = make(120, 1, asked=1.0)
    policy = np.ones(120)
    model = (np.arange(120) % 20 > 0).astype(float)
    record = record_of(cases, (model, policy), np.arange(120) // 60)
    found = row(tabulated(record, cases), POLICY)
    mean = 6 / 120
    half, error = students(policy - model - mean, 120)
    assert (found.gain_low, found.gain_high) == pytest.approx(
        (mean - half, mean + half)
    )
    assert found.gain_p == pytest.approx(2 * stats.t.sf(mean / error, 119))


def test_no_difference_in_any_case_may_be_one_in_others():
    """Of 180 cases none differs; as many may as Wilson's interval of 0 says."""
    cases = make(180, 1, asked=1.0)
    cases = cases._replace(answers=cases.labels[:, None].copy())
    right = np.ones(180)
    record = record_of(cases, (right, right), np.arange(180) // 60)
    judged = tabulated(record, cases)
    most = 1.959964**2 / (180 + 1.959964**2)
    for party in (POLICY, "r0"):
        found = row(judged, party)
        assert (found.gain_low, found.gain_high) == pytest.approx((-most, most))
    assert row(judged, POLICY).gain_p == 1
    # But who asks nobody is the model.
    record = record_of(cases, (right, right), np.arange(180) // 60, deferral=0.0)
    found = row(tabulated(record, cases), POLICY)
    assert (found.gain, found.gain_low, found.gain_high) == (0, 0, 0)


def test_all_right_in_every_part_is_not_certain():
    cases = make(180, 1, asked=1.0)
    right = np.ones(180)
    splits = np.stack([np.arange(180) // 60, 3 + np.arange(180) % 3])
    record = record_of(cases, (right, right), splits)
    low = 180 / (180 + 1.959964**2)
    judged = tabulated(record, cases)
    for party in (MODEL, POLICY):
        found = row(judged, party)
        assert found.accuracy == 1
        assert (found.accuracy_low, found.accuracy_high) == pytest.approx((low, 1))
    curve = judged.curve[judged.curve.deferral == 0]
    assert curve.low.tolist() == pytest.approx([low])
    # Of 30 units there are but 30 cases.
    units = np.arange(180) // 6
    found = row(tabulated(record, cases._replace(units=units)), POLICY)
    assert found.accuracy_low == pytest.approx(30 / (30 + 1.959964**2))


def test_units_that_are_alike_by_chance_are_no_more_than_their_cases():
    """Two units of as many right: their means do not vary, those of others would."""
    right = np.tile([1.0, 1.0, 0.0, 1.0], 20)
    found = evaluation._of_units(right, np.arange(80) % 40 // 20)
    expected = evaluation._of_units(right, np.arange(80))
    assert found == pytest.approx(expected)


@pytest.fixture
def repeated():
    """Cases that stand in once, and each of them six times as one unit."""
    once = make(60, 1, seed=4, asked=1.0)
    six = evaluation.take(once, np.repeat(np.arange(60), 6))
    six = six._replace(units=np.repeat(np.arange(60), 6))
    rng = np.random.default_rng(0)
    drawn = {
        "right": (rng.random((2, 60)) < 0.8).astype(float),
        "deferral": (rng.random(60) < 0.4).astype(float),
        "chances": rng.random((1, 60, 1)),
        "scores": rng.normal(size=(3, 1, 60)),
        "first_right": (rng.random((3, 1, 60)) < 0.7).astype(float),
    }
    evaluations = []
    for cases, times in ((once, 1), (six, 6)):
        more = {name: np.repeat(of, times, axis=-1) for name, of in drawn.items()}
        more["chances"] = np.repeat(drawn["chances"], times, axis=1)
        record = record_of(
            cases,
            more.pop("right"),
            np.zeros(60 * times, int),
            more.pop("deferral"),
            **more,
        )
        plan = columns.plan_columns(cases.features)
        encoder = columns.fit_encoder(plan, cases.features)
        shown = columns.in_units(encoder, cases.features)
        evaluations.append(tabulated(record, cases, features=shown))
    return evaluations


def test_what_stands_in_six_times_is_no_more_certain(repeated):
    once, six = repeated
    same = ["party", "accuracy", "accuracy_low", "accuracy_high", "gain_low", "gain_p"]
    pd.testing.assert_frame_equal(once.parties[same], six.parties[same])
    pd.testing.assert_frame_equal(once.features, six.features)
    of_bins = ["observed", "low", "high"]
    pd.testing.assert_frame_equal(once.calibration[of_bins], six.calibration[of_bins])
    # At no share and all: where some are deferred the six are drawn apart.
    ends = [0.0, 1.0]
    first, second = (
        judged.curve[judged.curve.deferral.isin(ends)] for judged in repeated
    )
    pd.testing.assert_frame_equal(first, second)
    assert len(first) == 2


def test_bins_of_chances_hold_answers_and_are_of_units():
    """Twenty cases, of which two people say the same: one case is one unit."""
    cases = make(20, 2, asked=1.0)
    right = np.arange(20) % 4 > 0
    answers = np.where(right, cases.labels, 1 - cases.labels)
    cases = cases._replace(answers=np.stack([answers, answers], axis=1))
    ones = np.ones(20)
    chances = np.full((1, 20, 2), 0.7)
    record = record_of(cases, (ones, ones), np.zeros(20, int), chances=chances)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation, "_NUM_BINS", 1)
        judged = tabulated(record, cases)
    bins = judged.calibration.iloc[0]
    assert bins["count"] == 40
    _, error = students(2 * (right - 0.75), 40)
    count = 0.75 * 0.25 / error**2
    expected = proportion_confint(0.75 * count, count, method="wilson")
    assert (bins.low, bins.high) == pytest.approx(expected)
    assert count == pytest.approx(19)
    assert "observed 75 % of 40 answers" in render(judged).replace("&nbsp;", " ")


def test_means_of_features_are_those_of_the_table():
    """In its units, of the cells that are there, dates as dates."""
    cases = make(40, 1, asked=1.0)
    deferral = (np.arange(40) % 4 == 0).astype(float)
    area = 500.0 + 10 * np.arange(40)
    day = np.where(deferral > 0, "2024-03-03", "2024-03-01").astype(object)
    # Two blanks; and a Monday, so that a mean is of the days that are known.
    area[[3, 4]] = np.nan
    day[[1, 8]] = [None, "2024-03-01"]
    site = np.where(np.arange(40) < 20, "north", "south")
    table = pd.DataFrame({"area": area, "seen": day, "site": site})
    encoder = columns.fit_encoder(columns.plan_columns(table), table)
    shown = columns.in_units(encoder, table)
    ones = np.ones(40)
    record = record_of(cases, (ones, ones), np.zeros(40, int), deferral)
    judged = tabulated(record, cases, features=shown)
    found = judged.features.set_index("feature")
    known, asked = ~np.isnan(area), deferral > 0
    assert found.loc["area"].deferred == pytest.approx(area[known & asked].mean())
    assert found.loc["area"].kept == pytest.approx(area[known & ~asked].mean())
    assert found.loc["site = north"].kept == pytest.approx(
        np.mean(site[~asked] == "north")
    )
    spread = area[known].std()
    assert found.loc["area"].difference == pytest.approx(
        (area[known & asked].mean() - area[known & ~asked].mean()) / spread
    )
    # Squares around the mean of both, of those deferred and of those kept.
    far = (area - area[known].mean()) / spread
    squares = sum(
        np.sum(far[known & here] ** 2) / np.sum(known & here) ** 2
        for here in (asked, ~asked)
    )
    half = stats.t.ppf(0.975, 37) * np.sqrt(squares * 38 / 37)
    assert found.loc["area"].high - found.loc["area"].low == pytest.approx(2 * half)
    dates = found.loc["seen"]
    assert dates.date
    assert pd.Timestamp("1970-01-01") + pd.Timedelta(days=dates.kept) == pd.Timestamp(
        "2024-03-01"
    )
    page = render(judged)
    assert "2024-03-01" in page
    # (9 of the third and one of the first) / 10, the part of a day left out.
    assert "2024-03-02" in page


def test_a_feature_alone_that_decides_is_not_certain():
    cases = make(40, 1, asked=1.0)
    deferral = (np.arange(40) < 20).astype(float)
    values = np.stack([deferral, np.full(40, 0.1)], axis=1)
    shown = columns.InUnits(values, ("decides", "same"), np.zeros(2, bool))
    ones = np.ones(40)
    record = record_of(cases, (ones, ones), np.zeros(40, int), deferral)
    found = tabulated(record, cases, features=shown).features
    # What does not vary tells nothing.
    assert found.feature.tolist() == ["decides"]
    half = stats.t.ppf(0.975, 39) * np.sqrt((1 / 20 + 1 / 20) * 40 / 39)
    assert found.iloc[0][["low", "difference", "high"]].tolist() == pytest.approx(
        [2 - half, 2, 2 + half]
    )


@pytest.fixture
def wise():
    """The model is right in 80 % of 100 cases, r0 in all and r1 in 90 %."""
    cases = make(100, 2, asked=1.0)
    number = np.arange(100)
    worse = np.where(number % 10 > 0, cases.labels, 1 - cases.labels)
    cases = cases._replace(answers=np.stack([cases.labels, worse], axis=1))
    model = (number % 5 > 0).astype(float)
    splits = number // 50
    return cases, model, splits


@pytest.mark.parametrize(
    ("capacity", "best"),
    [
        ((), "r0"),
        ((("r0", 50),), "r0"),
        ((("r0", 49),), "r1"),
        ((("r0", 49), ("r1", 20)), MODEL),
    ],
)
def test_who_has_no_time_for_a_batch_is_no_alternative(wise, capacity, best):
    cases, model, splits = wise
    foremost = np.where(np.arange(100) % 50 < 25, 0, 1)
    record = record_of(cases, (model, np.ones(100)), splits)
    options = Options(capacity=capacity)
    judged = tabulated(record, cases, options=options)
    assert judged.parties.party[judged.parties.best_single].tolist() == [best]
    said = "a batch; it was one held-out part, of 50 cases."
    assert any(said in note for note in judged.notes) == bool(capacity)
    # Whoever is foremost may have the time where no single person has.
    record = record._replace(foremost=foremost[None])
    both = tabulated(record, cases, options=Options(capacity=(("r0", 25), ("r1", 25))))
    assert both.parties.party[both.parties.best_single].tolist() == [FOREMOST]


def test_what_people_would_be_better_at_is_told_where_they_have_no_time(wise):
    cases, model, splits = wise
    record = record_of(cases, (model, model), splits)
    options = Options(capacity=(("r0", 5), ("r1", 5)))
    (note,) = [
        note
        for note in tabulated(record, cases, options=options).notes
        if note.startswith("Asked about every case, r0 would be right in 100.0 % of")
    ]
    assert "the policy's 80.0 %; but that is more cases of a batch than their" in note


def test_with_prices_gains_are_less_what_was_paid(wise):
    cases, model, splits = wise
    deferral = (np.arange(100) % 5 == 0).astype(float)
    right = np.stack([model, np.ones(100), np.ones(100)])[:, None]
    paid = 0.25 * np.stack([0 * deferral, deferral, deferral])[:, None]
    record = record_of(
        cases,
        (model, np.ones(100)),
        splits,
        deferral,
        utility=right - paid,
        foremost=np.zeros((1, 100), int),
    )
    options = Options(prices=(("r0", 0.25), ("r1", 0.125)))
    judged = tabulated(record, cases, options=options)
    # r0 is right in all, at a quarter each; r1 at an eighth: 0.75, 0.775, and 0.8.
    assert row(judged, MODEL).best_single
    gains = {POLICY: 0.2 - 0.05, "r0": 0.2 - 0.25, "r1": 0.1 - 0.125, FOREMOST: -0.05}
    # Of a tie half is right; both are paid.
    gains[MAJORITY] = 0.95 - 0.375 - 0.8
    for name, gain in gains.items():
        assert row(judged, name).gain == pytest.approx(gain), name
    assert row(judged, POLICY).cost == pytest.approx(0.05)
    assert "gains 15.0 points (" in judged.headline
    assert judged.headline.endswith("prices paid, over the model alone.")
    over = 1 - 0.05 - (0.95 - 0.375)
    assert f"the policy gains {100 * over:.1f} points" in judged.notes[0]
    page = render(judged)
    assert "less the price of asking" in page
    assert "Price a case, points" in page


def test_where_the_policy_asks_nobody_the_page_is_of_the_model():
    """Whatever was chosen in some parts, of which a note tells."""
    cases = make(100, 1, asked=1.0)._replace(groups=np.repeat(["a", "b"], 50))
    model = (np.arange(100) % 5 > 0).astype(float)
    allocation = np.tile([1.0, 0.0], (1, 100, 1))
    record = record_of(
        cases,
        (model, np.ones(100)),
        np.arange(100) // 20,
        methods=("never", "confidence", "never", "confidence", "never"),
        allocation=allocation,
    )
    shown = columns.InUnits(model[:, None], ("a",), np.zeros(1, bool))
    judged = tabulated(record, cases, "never", features=shown)
    found = judged.parties[judged.parties.chosen].iloc[0]
    assert (found.party, found.accuracy, found.deferral) == (MODEL, 0.8, 0)
    assert judged.workload.asked.tolist() == [0]
    assert judged.workload.when_asked.isna().all()
    assert judged.features.empty
    assert POLICY not in set(judged.groups.party)
    assert judged.headline.startswith("Nothing here beats")
    (note,) = [note for note in judged.notes if "asks nobody" in note]
    assert (
        "Of the 5 parts held out 2 chose otherwise (never in 3, confidence in 2)"
        in note
    )
    page = render(judged)
    assert "The chosen policy asks nobody" in page
    assert "The chosen policy defers no case" in page


def test_a_gain_of_few_cases_is_told_without_an_interval():
    """And a loss of nothing has no sign."""
    cases = make(60, 2, asked=1.0)
    answers = np.full((60, 2), -1, np.int32)
    answers[:5] = cases.labels[:5, None]
    ones = np.ones(60)
    cases = cases._replace(answers=answers)
    record = record_of(cases, (ones, ones), np.arange(60) // 20)
    (note,) = [n for n in tabulated(record, cases).notes if MAJORITY in n]
    assert note == (
        "Over the majority of the people the policy gains 0.0 points (too few cases"
        " for an interval), paired."
    )
    right = ones.copy()
    right[0] = 0.9996
    record = record_of(cases, (ones, right), np.arange(60) // 20)
    assert not any(
        "-0.0" in note or "nan" in note for note in tabulated(record, cases).notes
    )


def test_one_policy_of_two_names_counts_once():
    cases = make(100, 1, asked=1.0)
    cases = cases._replace(answers=1 - cases.labels[:, None])
    model = (np.arange(100) % 10 > 0).astype(float)
    policy = np.maximum(model, np.arange(100) % 20 == 0)
    record = record_of(cases, (model, policy), np.zeros(100, int))
    judged = tabulated(record, cases)
    expected = stats.ttest_rel(policy, model).pvalue
    for party in (POLICY, METHOD):
        assert row(judged, party).gain_p == pytest.approx(expected)
    # Where they differ in one case they are two.
    right = record.right.copy()
    right[2, 0, 1] = 0.0
    judged = tabulated(record._replace(right=right, utility=right), cases)
    assert row(judged, POLICY).gain_p == pytest.approx(2 * expected)


def test_what_a_classifier_reads_is_shown_as_the_table_has_it():
    """Also a cell far from all others, and one that is blank only here."""
    fitted = pd.DataFrame(
        {
            "area": [100.0, 200.0, 300.0, np.nan],
            "age": [30, 40, 50, 60],
            "note": ["pain in the chest", "chest pain", "fever", "fever at night"],
            "same": ["a"] * 4,
        }
    )
    plan = columns.plan_columns(fitted, text=("note",))
    encoder = columns.fit_encoder(plan, fitted)
    here = fitted.assign(area=[np.nan, 200.0, 9e9, 100.0], age=[30, None, 50, 60])
    found = columns.in_units(encoder, here)
    encoded, _ = columns.encode(encoder, here)
    assert found.names == encoder.names
    assert found.values.shape == encoded.shape
    assert not found.dates.any()
    shown = pd.DataFrame(found.values, columns=list(found.names))
    np.testing.assert_array_equal(shown["area"], [np.nan, 200.0, 9e9, 100.0])
    np.testing.assert_array_equal(shown["area missing"], [1, 0, 0, 0])
    np.testing.assert_array_equal(shown["age"], [30, np.nan, 50, 60])
    np.testing.assert_allclose(found.values[:, 3:], encoded[:, 3:], atol=1e-6)
