import numpy as np
import pytest

from l2d_jax.table import columns, evaluation, fitting
from l2d_jax.table.options import Options
from l2d_jax.table.results import check_evaluation
from tests.table.conftest import SHORT, make

OPTIONS = Options(
    methods=("never", "confidence", "softmax"),
    classifiers=("logistic",),
    num_folds=2,
    how=SHORT,
)


pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def grouped():
    cases = make(300, seed=5)
    groups = np.where(cases.features.b > 0, "low", "high").astype(object)
    return cases._replace(groups=groups, units=np.arange(300) // 2)


@pytest.fixture(scope="module")
def record(grouped):
    return evaluation.cross_validate(grouped, OPTIONS, num_folds=3, num_repeats=2)


@pytest.fixture(scope="module")
def judged(grouped, record):
    plan = columns.plan_columns(grouped.features)
    encoder = columns.fit_encoder(plan, grouped.features)
    features = columns.in_units(encoder, grouped.features)
    return evaluation.tabulate(
        record, grouped, title="t", chosen="confidence", features=features
    )


def test_every_case_is_held_out_once_in_each_repetition(record, grouped):
    assert record.splits.shape == (2, 300)
    assert np.bincount(record.splits.ravel()).sum() == 600
    for repeat in range(2):
        assert set(record.splits[repeat]) == set(range(3 * repeat, 3 * repeat + 3))
        # And with it whatever is of its unit.
        for unit in range(150):
            assert len(set(record.splits[repeat][grouped.units == unit])) == 1
    assert not np.isnan(record.right).any()
    assert record.test_to_train == 0.5


def test_parts_of_a_large_table_are_fitted_in_turn(record, grouped, monkeypatch):
    """As together but for the networks, whose randomness is numbered in each turn."""
    shares = []
    options = OPTIONS._replace(methods=("never", "confidence"))
    how = {"num_folds": 3, "num_repeats": 2}
    monkeypatch.setattr(evaluation, "_ROWS_TOGETHER", 2 * len(grouped.labels))
    found = evaluation.cross_validate(
        grouped, options, report=lambda what, share: shares.append(share), **how
    )
    assert found.parties == record.parties[:3]
    assert shares[: shares.index(1.0)] == sorted(shares[: shares.index(1.0)])
    np.testing.assert_array_equal(found.splits, record.splits)
    # By the model alone, and by confidence.
    for name in ("right", "asked", "scores"):
        ours, theirs = getattr(found, name), getattr(record, name)
        np.testing.assert_array_equal(ours[[0, 2]], theirs[[0, 2]])


def test_folders_of_parts_in_turn(grouped, monkeypatch, tmp_path):
    """A stop is gone on from by the part that it was in."""
    folders = []

    def fit_parts(cases, parts, *args, checkpoint_dir, **given):
        folders.append(checkpoint_dir)
        raise ZeroDivisionError

    monkeypatch.setattr(evaluation, "fit_parts", fit_parts)
    for rows in (10**6, 1):
        monkeypatch.setattr(evaluation, "_ROWS_TOGETHER", rows)
        with pytest.raises(ZeroDivisionError):
            evaluation.cross_validate(grouped, OPTIONS, checkpoint_dir=tmp_path)
    assert folders == [tmp_path, tmp_path / "part_000"]


def test_people_are_asked_only_what_they_answered(record, grouped):
    asked = record.allocation[:, :, :-1] > 0
    assert asked.any()
    assert not asked[:, grouped.answers < 0].any()


def test_tables_are_as_the_report_wants_them(judged):
    check_evaluation(judged)
    for table in (judged.parties, judged.curve, judged.groups, judged.workload):
        for low, high in (("accuracy_low", "accuracy_high"), ("low", "high")):
            if low in table:
                known = table[[low, high]].dropna()
                assert (known[low] <= known[high]).all()
                assert known.to_numpy().min() >= 0
                assert known.to_numpy().max() <= 1


def test_figures_are_those_of_the_cases(judged, record, grouped):
    parties = judged.parties.set_index("party")
    person = parties.loc["r1"]
    own = grouped.answers[:, 1]
    assert person.cases == (own >= 0).sum()
    right = (own == grouped.labels)[own >= 0]
    assert person.accuracy == pytest.approx(right.mean())
    of_second = right[grouped.labels[own >= 0] == 1]
    assert person.sensitivity == pytest.approx(of_second.mean())
    model = parties.loc[evaluation.MODEL]
    assert model.accuracy == pytest.approx(record.right[0].mean())
    assert model.deferral == 0
    confidence = parties.loc["the surest answers"]
    best = parties.index[parties.best_single][0]
    assert confidence.gain == pytest.approx(
        confidence.accuracy - parties.loc[best].accuracy, abs=0.02
    )
    work = judged.workload.set_index("person")
    assert work.asked.sum() == pytest.approx(
        parties.loc[evaluation.POLICY].deferral, abs=1e-9
    )


def test_a_gain_on_few_cases_has_no_interval(record, grouped):
    """One answer that was right is no proof of anything, nor sure of being none."""
    few = grouped.answers.copy()
    few[:, 2] = -1
    few[:3, 2] = grouped.labels[:3]
    cases = grouped._replace(answers=few)
    judged = evaluation.tabulate(record, cases, title="t", chosen="confidence")
    row = judged.parties.set_index("party").loc["r2"]
    assert row.cases == 3
    assert not np.isnan(row.gain)
    assert np.isnan([row.gain_low, row.gain_high]).all()


def test_few_cases_are_told(team):
    new = make(40, seed=9)
    record = evaluation.record_of(team, new)
    judged = evaluation.tabulate(record, new, title="t", chosen=team.method)
    assert judged.notes[-1].startswith("There are 40 labelled cases: an accuracy is")


def test_the_majority_counts_ties_as_drawn():
    cases = make(4, 2)._replace(
        labels=np.array([0, 0, 1, 1], np.int32),
        answers=np.array([[0, 1], [0, 0], [0, -1], [-1, -1]], np.int32),
    )
    record = evaluation._empty((evaluation.MODEL, evaluation.POLICY), 1, cases)
    everybody = evaluation._everybody(record, cases, np.zeros(2))
    found = everybody[evaluation.MAJORITY].right[0]
    np.testing.assert_array_equal(found, [0.5, 1.0, 0.0, np.nan])


def test_an_interval_of_people_is_wilsons_and_heeds_units():
    right = np.array([[1.0] * 30 + [0.0] * 10])
    record = evaluation._empty((), 1, make(40))
    mean, low, high = evaluation._interval(record, np.arange(40), [right], False)
    assert mean == 0.75
    assert (low, high) == pytest.approx((0.598, 0.858), abs=5e-3)
    # Ten rows of four people are ten times less than forty.
    units = np.arange(40) // 10
    _, wide_low, wide_high = evaluation._interval(record, units, [right], False)
    assert wide_high - wide_low > 1.5 * (high - low)


def test_gains_over_model_and_majority_are_told_where_another_is_best(record, grouped):
    wise = grouped._replace(answers=np.tile(grouped.labels[:, None], (1, 3)))
    judged = evaluation.tabulate(record, wise, title="t", chosen="confidence")
    over = record.right[1] - record.right[0]
    expected = f"Over the model alone the policy gains {100 * over.mean():.1f} points"
    assert judged.notes[0].startswith(expected)


def test_a_policy_that_never_defers_says_so(record, grouped):
    judged = evaluation.tabulate(record, grouped, title="t", chosen="never")
    assert judged.headline.startswith("Nothing here beats")


def test_who_may_not_be_asked_everything_is_no_alternative(record, grouped):
    """Within a budget the model is what a team is compared with, and that is said."""
    wise = grouped._replace(answers=np.tile(grouped.labels[:, None], (1, 3)))
    free = evaluation.tabulate(record, wise, title="t", chosen="confidence")
    assert free.parties.party[free.parties.best_single].iloc[0] != evaluation.MODEL
    assert not any("Asked about every case" in note for note in free.notes)
    limited = evaluation.tabulate(
        record,
        wise,
        title="t",
        chosen="confidence",
        options=Options(max_deferral=0.2),
    )
    best = limited.parties.party[limited.parties.best_single]
    assert best.tolist() == [evaluation.MODEL]
    assert any("would be right in 100.0 % of them" in note for note in limited.notes)
    assert any("Only 6 parts were held out" in note for note in limited.notes)


def test_held_out_cases_are_judged_as_one_batch(team):
    new = make(150, seed=9)
    record = evaluation.record_of(team, new)
    judged = evaluation.tabulate(record, new, title="t", chosen=team.method)
    check_evaluation(judged)
    assert record.right.shape == (len(record.parties), 1, 150)
    row = judged.parties.iloc[0]
    assert row.accuracy == pytest.approx(record.right[0].mean())
    assert row.accuracy_low < row.accuracy < row.accuracy_high


def test_chances_in_bins_are_all_answers(judged, grouped):
    bins = judged.calibration
    assert bins["count"].sum() == pytest.approx((grouped.answers >= 0).sum(), abs=10)
    assert (bins.predicted.diff().dropna() >= 0).all()
    assert 0 <= judged.calibration_error < 0.2


def test_groups_are_told_apart(judged, grouped):
    groups = judged.groups.set_index(["group", "party"])
    size = (grouped.groups == "high").sum()
    assert groups.loc[("high", evaluation.MODEL)].cases == size
    # People are worse where b is high, so fewer of those cases are theirs.
    high, low = (groups.loc[(g, evaluation.POLICY)].deferral for g in ("low", "high"))
    assert high > low


def test_what_tells_deferred_cases_apart_is_found(judged):
    assert judged.features.feature.iloc[0] in ("a", "b")
    row = judged.features.set_index("feature").loc["b"]
    assert row.difference == pytest.approx(row.deferred - row.kept, rel=0.1)
    assert row.low < row.difference < row.high


@pytest.mark.slow
def test_where_nobody_beats_the_model_it_is_left_alone():
    """People at 57 %, the model at 67 %, 1,000 cases: half a point is not lost."""
    lost, chosen = [], []
    for seed in range(3):
        cases = nobody_beats_the_model(seed)
        options = Options()
        record = evaluation.cross_validate(cases, options)
        team = fitting.fit(cases, options)
        judged = evaluation.tabulate(record, cases, title="t", chosen=team.method)
        parties = judged.parties.set_index("party")
        model, policy = evaluation.MODEL, evaluation.POLICY
        lost.append(parties.accuracy[model] - parties.accuracy[policy])
        chosen.append(team.method)
        assert judged.headline == "Nothing here beats the model alone; do not defer."
    assert max(lost) < 0.005
    assert set(chosen) == {"never"}


def nobody_beats_the_model(seed):
    rng = np.random.default_rng(seed)
    cases = make(1000, 4, seed=seed)
    told = rng.integers(0, 2, 1000)
    labels = np.where(rng.random(1000) < 0.67, told, 1 - told)
    right = rng.random((1000, 4)) < 0.57
    answers = np.where(right, labels[:, None], 1 - labels[:, None])
    answers[rng.random(answers.shape) < 0.3] = -1
    return cases._replace(
        features=cases.features.assign(a=told),
        labels=labels.astype(np.int32),
        answers=answers.astype(np.int32),
    )


def test_the_plan_is_the_tables_and_statistics_the_parts(grouped):
    plan = columns.plan_columns(grouped.features)
    first, second = (
        columns.fit_encoder(plan, grouped.features.iloc[rows])
        for rows in (slice(0, 100), slice(100, 300))
    )
    assert first.names == second.names
    assert first.center["a"][0] != second.center["a"][0]
