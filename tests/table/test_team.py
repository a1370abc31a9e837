import jax
import numpy as np
import pandas as pd
import pytest

from l2d_jax import decisions
from l2d_jax.table import fitting, output
from l2d_jax.table.cases import take
from l2d_jax.table.limits import outcome, within_limits
from l2d_jax.table.methods import METHODS
from l2d_jax.table.options import Options
from l2d_jax.table.team import decide, welcome
from l2d_jax.types import Decision
from tests.table.conftest import SHORT, make


def asked(decided):
    return np.asarray(decided.decision.allocation)[:, :-1] > 0


@pytest.mark.parametrize("name", METHODS)
def test_every_method_decides(team, cases, name):
    decided = decide(team, cases, method=name)
    decision = decided.decision
    np.testing.assert_allclose(np.asarray(decision.class_probs).sum(axis=1), 1, 1e-5)
    np.testing.assert_allclose(np.asarray(decision.allocation).sum(axis=1), 1, 1e-5)
    assert decision.defer_score.shape == cases.answers.shape
    assert asked(decided).any() == (name != "never")


@pytest.mark.parametrize("name", METHODS)
def test_a_case_is_decided_alike_in_any_company(team, cases, name):
    """To the bit: alone, among others, in another order."""
    whole = decide(team, cases, method=name).decision
    for rows in (np.array([7]), np.arange(100, 50, -1)):
        some = decide(team, take(cases, rows), method=name).decision
        for one, all_of_it in zip(some, whole, strict=True):
            np.testing.assert_array_equal(one, np.asarray(all_of_it)[rows])


def test_who_is_not_to_be_had_is_not_asked(team, cases):
    available = np.ones(cases.answers.shape, bool)
    available[:, 0] = False
    for name in METHODS:
        decided = decide(team, cases, method=name, available=available)
        assert not asked(decided)[:, 0].any()
    nobody = decide(team, cases, available=~np.ones_like(available))
    assert not asked(nobody).any()


def test_somebody_new_is_taken_for_one_of_the_others(team, cases):
    simple = team._replace(method="confidence")
    more = welcome(simple, ("ann", "bob"))
    assert more.people == ("r0", "r1", "r2", "ann", "bob")
    answers = np.pad(cases.answers, ((0, 0), (0, 2)), constant_values=-1)
    wider = cases._replace(people=more.people, answers=answers)
    before, after = decide(simple, cases), decide(more, wider)
    # Those who were there are as they were, to the bit.
    for old, new in zip(before.chances, after.chances, strict=True):
        np.testing.assert_array_equal(old, np.asarray(new)[:, :3])
    prob = np.asarray(after.chances.prob)
    np.testing.assert_array_equal(prob[:, 3], prob[:, 4])
    assert abs(prob[:, 3].mean() - prob[:, :3].mean()) < 0.1
    width = np.asarray(after.chances.high) - np.asarray(after.chances.low)
    assert (width[:, 3] > width[:, :3].max(axis=1)).mean() > 0.9
    available = np.zeros(answers.shape, bool)
    available[:, 4] = True
    alone = decide(more, wider, available=available)
    assert asked(alone)[:, 4].any()
    assert not asked(alone)[:, :4].any()


@pytest.mark.parametrize(
    ("method", "names", "message"),
    [
        ("confidence", ("r1",), "'r1' is in the team already"),
        ("confidence", ("ann", "ann"), "'ann' is in the team already"),
        ("confidence", ("model",), "nobody can be named 'model'"),
        ("softmax", ("ann",), r"softmax, .* have none \(never, confidence, panel\)"),
    ],
)
def test_who_cannot_be_new_is_named(team, method, names, message):
    with pytest.raises(ValueError, match=message):
        welcome(team._replace(method=method), names)


@pytest.mark.parametrize("share", [0.0, 0.2, 0.21])
@pytest.mark.parametrize("name", ["confidence", "panel"])
def test_a_budget_is_kept_to_the_case(team, cases, name, share):
    plenty = team.options._replace(prices=())
    free = asked(decide(team, cases, method=name, options=plenty)).any(axis=1).sum()
    limited = decide(
        team, cases, method=name, options=plenty._replace(max_deferral=share)
    )
    num = asked(limited).any(axis=1).sum()
    assert free > share * len(cases.ids)
    assert num == np.floor(share * len(cases.ids) + 1e-9)
    assert (limited.wanted.any(axis=1)).sum() == free


def test_a_capacity_is_kept_to_the_case(team, cases):
    limits = team.options._replace(ask=1, capacity=(("r0", 3), ("r2", 0)))
    decided = decide(team, cases, method="confidence", options=limits)
    counts = asked(decided).sum(axis=0)
    assert counts[0] <= 3
    assert counts[2] == 0
    assert counts[1] > 3


def test_the_first_wait_least(team, cases):
    """Within a budget the cases are those where asking is worth most."""
    limits = team.options._replace(max_deferral=0.1)
    decided = decide(team, cases, method="confidence", options=limits)
    score = np.asarray(decided.decision.defer_score).max(axis=1)
    chosen = asked(decided).any(axis=1)
    assert score[chosen].min() >= score[~chosen].max()


def test_a_team_without_people_never_defers():
    cases = make(num_people=0)
    found = fitting.fit(cases, Options(classifiers=("logistic",), num_folds=2))
    assert found.method == "never"
    reasons = found.candidates.set_index("method").reason
    assert reasons["confidence"] == "there are no people to ask"
    decided = decide(found, cases)
    assert decided.decision.allocation.shape == (240, 1)
    said = np.asarray(decisions.prediction(decided.decision))
    assert (said == cases.labels).mean() > 0.75


@pytest.mark.long
def test_cases_without_a_label_have_no_part():
    cases = make()
    unknown = cases.labels.copy()
    unknown[::3] = -1
    options = Options(("confidence",), ("logistic",), num_folds=2)
    some = fitting.fit(cases._replace(labels=unknown), options)
    kept = fitting.fit(take(cases, np.flatnonzero(unknown >= 0)), options)
    for one, other in zip(
        jax.tree.leaves(some.params), jax.tree.leaves(kept.params), strict=True
    ):
        np.testing.assert_array_equal(one, other)


@pytest.mark.long
def test_a_model_that_is_given_keeps_its_answers():
    cases = make()
    rng = np.random.default_rng(0)
    told = 0.4 * np.tanh(cases.features.a.to_numpy()) + rng.normal(0, 0.1, 240)
    second = np.clip(0.5 + told, 0, 1)
    given = cases._replace(class_probs=np.stack([1 - second, second], axis=1))
    options = Options(("auto",), num_folds=2, how=SHORT)
    found = fitting.fit(given, options)
    assert found.kind == "given"
    reasons = found.candidates.set_index("method").reason
    assert "yours is given" in reasons["softmax"]
    said = decisions.prediction(decide(found, given, method="never").decision)
    sure = np.abs(second - 0.5) > 1e-3
    np.testing.assert_array_equal(said[sure], (second > 0.5)[sure])
    with pytest.raises(ValueError, match="scores: the team was fitted with"):
        decide(found, cases)


def test_nothing_to_go_by_is_refused():
    cases = make()
    empty = cases._replace(features=cases.features.assign(**dict.fromkeys("abcd", 1.0)))
    with pytest.raises(ValueError, match="no column is of use to a model"):
        fitting.fit(empty, Options(("never",), ("logistic",), num_folds=2))


@pytest.mark.long
def test_a_guarantee_is_kept_or_refused():
    cases = make(600)
    options = Options(("confidence",), ("logistic",), num_folds=2, max_error=0.25)
    found = fitting.fit(cases, options)
    assert found.certificate is not None
    assert found.certificate.bound <= 0.25
    decided = decide(found, cases)
    kept = ~asked(decided).any(axis=1)
    greatest = np.asarray(decided.decision.defer_score).max(axis=1)
    np.testing.assert_array_equal(kept, greatest <= found.threshold)
    with pytest.raises(ValueError, match="error among kept cases cannot be had"):
        fitting.fit(cases, options._replace(max_error=1e-4))


def test_other_people_or_classes_are_refused(team, cases):
    with pytest.raises(ValueError, match="make them with those of the team"):
        decide(team, cases._replace(people=("x", "y", "z")))
    with pytest.raises(ValueError, match="there is no case"):
        decide(team, take(cases, np.arange(0)))
    with pytest.raises(ValueError, match="available must have shape"):
        decide(team, cases, available=np.ones((2, 3), bool))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"methods": ("confidenze",)}, "did you mean confidence"),
        ({"classifiers": ("forest",)}, "classifiers: 'forest' is not known"),
        ({"prices": (("r9", 0.1),)}, "price: 'r9' is not known"),
        ({"prices": (("r1", -0.1),)}, "price of r1 must be >= 0"),
        ({"prices": (("r1", np.nan),)}, "price of r1 must be >= 0"),
        ({"capacity": (("r1", -1),)}, "capacity of r1 must be >= 0"),
        ({"max_deferral": 2.0}, "max_defer must be in"),
        ({"max_deferral": np.nan}, "max_defer must be in"),
        ({"ask": 0}, "ask must be >= 1"),
        ({"max_error": 0.0}, "max_error must be in"),
        ({"seed": -1}, r"seed \(random_state\) must be an int in"),
        ({"methods": ("panel",)}, "none can be used: panel: it asks several"),
    ],
)
def test_options_out_of_range_are_refused(cases, change, message):
    options = Options(classifiers=("logistic",), num_folds=2, how=SHORT)
    with pytest.raises(ValueError, match=message):
        fitting.fit(cases, options._replace(**change))


def test_what_comes_of_a_decision():
    """Three cases: the model, a person, two who vote against it."""
    decision = Decision(
        class_probs=np.array([[0.9, 0.1], [0.6, 0.4], [0.7, 0.3]], np.float32),
        expert_correct_prob=np.full((3, 2), np.nan, np.float32),
        defer_score=np.zeros((3, 2), np.float32),
        allocation=np.array([[0, 0, 1], [0, 1, 0], [0.4, 0.4, 0.2]], np.float32),
    )
    answers = np.array([[1, 1], [-1, 1], [1, 1]])
    found = outcome(decision, np.array([0, 0, 1]), answers, np.array([0.1, 0.2]))
    assert found["right"].tolist() == [1, 0, 1]
    assert found["deferral"].tolist() == [0, 1, 1]
    assert found["asked"].tolist() == [0, 1, 2]
    np.testing.assert_allclose(found["utility"], [1.0, -0.2, 0.7])


def test_a_case_that_cannot_be_scored_is_deferred_and_says_so(team, cases):
    decided = decide(team, cases, method="confidence")
    scores = np.array(decided.decision.defer_score)
    scores[3] = np.nan
    broken = decided.decision._replace(defer_score=scores)
    options = team.options._replace(max_deferral=0.05)
    found = within_limits(broken, "confidence", options, team.people)
    assert np.asarray(found.allocation)[3, -1] == 0
    table = output.tabulate(team, cases, decided._replace(decision=found))
    assert table.reason[3] == "it cannot be scored"
    assert table.who[3] != output.MODEL


def test_decisions_are_a_table(team, cases):
    decided = decide(team, cases, method="confidence")
    table = output.tabulate(team, cases, decided)
    assert table.columns.tolist() == [
        *("case", "who", "answer", "answer_if_model", "p_a", "p_b"),
        *("p_right_r0", "p_right_r1", "p_right_r2", "defer_score", "reason"),
    ]
    assert table.case.tolist() == cases.ids.tolist()
    kept = table.who == "model"
    assert (table.answer[kept] == table.answer_if_model[kept]).all()
    assert (table.defer_score[kept] <= 0).all()
    assert (table.defer_score[~kept] > 0).all()
    # Who has answered already is quoted, and who has not is waited for.
    for row in np.flatnonzero(~kept)[:40]:
        person = int(table.who[row][1:])
        said = cases.answers[row, person]
        assert table.answer[row] == ("" if said < 0 else cases.classes[said])


def test_rows_are_theirs_whatever_the_index(team, cases):
    shuffled = cases.features.set_index(pd.Index(np.arange(240)[::-1]))
    one = decide(team, cases).decision
    other = decide(team, cases._replace(features=shuffled)).decision
    np.testing.assert_array_equal(one.allocation, other.allocation)
