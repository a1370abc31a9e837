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
