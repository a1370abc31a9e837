"""What a policy guarantees of its error holds, or is refused with what could be had."""

import re

import numpy as np
import pytest

from l2d_jax.policies.guarantees import TeamCertificate
from l2d_jax.table import fitting, storage
from l2d_jax.table.cases import take
from l2d_jax.table.limits import outcome
from l2d_jax.table.options import Options, check_options
from l2d_jax.table.team import decide, welcome
from tests.table.conftest import make

OPTIONS = Options(("confidence",), ("logistic",), num_folds=2, max_team_error=0.3)


@pytest.fixture(scope="module")
def cases():
    return make(600)


@pytest.fixture(scope="module")
def team(cases):
    return fitting.fit(cases, OPTIONS)


def test_a_team_is_certified_and_decides_by_it(team, cases):
    found = team.certificate
    assert isinstance(found, TeamCertificate)
    assert found.error < found.bound <= 0.3
    # Of the 200 cases held out those whom the policy asks has answered.
    assert 100 < found.num_cases < 200 and found.num_unanswered == 0
    decided = decide(team, cases)
    kept = np.asarray(decided.decision.allocation)[:, -1] == 1
    greatest = np.asarray(decided.decision.defer_score).max(axis=1)
    np.testing.assert_array_equal(kept, greatest <= found.threshold)
    assert kept.mean() == pytest.approx(found.coverage, abs=0.1)
    assert not decided.notes


def test_what_is_refused_could_be_had_at_the_error_it_says(cases):
    with pytest.raises(ValueError, match="error of the team cannot be had") as refused:
        fitting.fit(cases, OPTIONS._replace(max_team_error=0.02))
    least = float(
        re.search(r"least that can be shown is ([\d.]+)", str(refused.value))[1]
    )
    assert 0.02 < least < 0.3
    found = fitting.fit(cases, OPTIONS._replace(max_team_error=least))
    assert least - 1e-3 < found.certificate.bound <= least


def test_where_a_guarantee_may_not_hold_is_said(team, cases):
    available = np.ones(cases.answers.shape, bool)
    available[5, 1] = False
    (note,) = decide(team, cases, available=available).notes
    assert "some people cannot" in note
    tight = team.options._replace(max_deferral=0.01)
    (note,) = decide(team, cases, options=tight).notes
    free = np.asarray(decide(team, cases).decision.allocation)[:, -1] < 1
    assert f"not of the {free.sum() - 6} cases" in note
    with pytest.raises(ValueError, match="by the answers of people it has met"):
        welcome(team, ("ann",))


@pytest.fixture(scope="module")
def keeps(cases):
    """A team with a guarantee of the cases that the model keeps."""
    return fitting.fit(cases, OPTIONS._replace(max_team_error=None, max_error=0.25))


def widened(cases, team):
    answers = np.pad(cases.answers, ((0, 0), (0, 1)), constant_values=-1)
    return cases._replace(people=team.people, answers=answers)


def test_what_is_kept_does_not_depend_on_somebody_new(keeps, cases):
    """They would pick cases that the model knows, and the rest would err more."""
    more = welcome(keeps, ("ann",))
    # One who seems better than all who were met.
    mean = np.array(more.params["chances"]["mean"])
    mean[3, :, 0] += 2.0
    params = more.params | {"chances": more.params["chances"] | {"mean": mean}}
    more = more._replace(params=params)
    before, after = decide(keeps, cases), decide(more, widened(cases, more))
    score = np.asarray(after.decision.defer_score)
    kept = np.asarray(before.decision.allocation)[:, -1] == 1
    # Else they would have.
    assert (kept & (score[:, 3] > keeps.threshold)).any()
    asked = np.asarray(after.decision.allocation)
    np.testing.assert_array_equal(asked[:, -1] == 1, kept)
    assert asked[:, 3].any()
    assert not before.notes
    (note,) = after.notes
    assert note.startswith("The guarantee is of kept cases, and does not depend on ann")


def test_somebody_new_answers_for_those_who_are_away(keeps, cases):
    """All that cannot be kept, however likely they are to be right."""
    more = welcome(keeps, ("ann",))
    alone = np.zeros((600, 4), bool)
    alone[:, 3] = True
    decided = decide(more, widened(cases, more), available=alone)
    asked = np.asarray(decided.decision.allocation)
    kept = np.asarray(decide(keeps, cases).decision.allocation)[:, -1] == 1
    np.testing.assert_array_equal(asked[:, 3] == 0, kept)
    (note,) = decided.notes
    assert "does not depend on ann" in note
    alone[:100] = False
    lost = (~kept[:100]).sum()
    first, _ = decide(more, widened(cases, more), available=alone).notes
    assert f"not of the {lost} cases" in first and "somebody to ask" in first
    with pytest.raises(ValueError, match="ann are new to the team"):
        storage.save(more, "nowhere")


def test_the_guarantee_is_not_of_cases_nobody_can_be_asked_about(keeps, cases):
    available = np.ones(cases.answers.shape, bool)
    kept = np.asarray(decide(keeps, cases).decision.allocation)[:, -1] == 1
    available[np.flatnonzero(kept)[:5]] = False
    assert not decide(keeps, cases, available=available).notes
    available[np.flatnonzero(~kept)[:7]] = False
    (note,) = decide(keeps, cases, available=available).notes
    assert "not of the 7 cases" in note


@pytest.mark.parametrize("threshold", [-np.inf, np.inf, 0.25])
def test_what_is_read_has_the_guarantee(team, tmp_path, threshold):
    known = team.certificate._replace(threshold=threshold)
    one = team._replace(threshold=threshold, certificate=known)
    storage.save(one, tmp_path / "policy")
    found, _ = storage.load(tmp_path / "policy")
    assert (found.threshold, found.certificate) == (threshold, known)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_error": 0.1}, "of kept cases or of the team; ask for one"),
        ({"max_deferral": 0.2}, "within max_defer or a capacity some may be kept"),
        ({"capacity": (("r0", 3),)}, "within max_defer or a capacity some may be kept"),
        ({"fair": ("deferral_rate", 0.1)}, "thresholds by group leave no guarantee"),
        ({"max_team_error": 1.0}, "max_team_error must be in"),
    ],
)
def test_what_a_guarantee_cannot_go_with(changes, message):
    with pytest.raises(ValueError, match=message):
        check_options(OPTIONS._replace(**changes), ("r0", "r1"))


@pytest.mark.parametrize("whose", ["max_error", "max_team_error"])
def test_people_who_share_an_answer_have_no_guarantee(cases, whose):
    """A panel asks by no threshold, so that none could keep what it promises."""
    options = Options(("panel",), ("logistic",), ask=2, num_folds=2, **{whose: 0.3})
    with pytest.raises(ValueError, match="no threshold to guarantee an error by"):
        fitting.fit(cases, options)


def test_without_people_there_is_no_threshold_to_guarantee_by():
    with pytest.raises(ValueError, match="error of the team cannot be had"):
        fitting.fit(make(num_people=0), OPTIONS._replace(methods=("never",)))


def test_rows_of_one_unit_are_one_case(cases):
    """Six hundred rows of thirty patients show no more than thirty cases could."""
    options = OPTIONS._replace(max_team_error=None, max_error=0.3)
    found = fitting.fit(cases, options).certificate
    assert found.num_kept > 30
    units = np.arange(600) // 20
    with pytest.raises(ValueError, match="error among kept cases cannot be had"):
        fitting.fit(cases._replace(units=units), options)


@pytest.mark.slow
def test_the_team_errs_as_seldom_as_is_guaranteed():
    """Of 200 tables of 500 cases, of whose answers a fifth are blank."""
    failed, given = 0, 0
    for seed in range(200):
        world = make(3500, seed=seed, asked=1.0)
        known, rest = (take(world, rows) for rows in np.split(np.arange(3500), [500]))
        blank = np.random.default_rng(seed + 1000).random(known.answers.shape) > 0.8
        known = known._replace(answers=np.where(blank, -1, known.answers))
        try:
            found = fitting.fit(known, OPTIONS._replace(max_team_error=0.25))
        except ValueError as error:
            assert "error of the team cannot be had" in str(error)
            continue
        decision = decide(found, rest).decision
        right = outcome(decision, rest.labels, rest.answers, np.zeros(3))["right"]
        failed += 1 - right.mean() > 0.25
        given += 1
    assert failed <= 10
    assert given >= 50
