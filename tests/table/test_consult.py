"""Sets of people to consult hold one who is right as often as was promised."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from l2d_jax.table import command, consult, evaluation, fitting, output, storage
from l2d_jax.table.options import Options, check_options
from l2d_jax.table.team import decide, welcome
from tests.table.conftest import make

OPTIONS = Options(("confidence",), ("logistic",), num_folds=2, consult=0.8)
NAMES = ("a, b", 'c "d" + e', "[f]")


@pytest.fixture(scope="module")
def cases():
    return make(600, people=NAMES)


@pytest.fixture(scope="module")
def team(cases):
    return fitting.fit(cases, OPTIONS)


def draw(rng, num_cases, num_people=4):
    """Chances, and who is right: all are worse where a case is harder than it looks."""
    logits = rng.normal(0.5, 1.5, (num_cases, num_people))
    hidden = rng.normal(0, 2, (num_cases, 1))
    right = rng.random(logits.shape) < expit(logits + hidden)
    return expit(logits).astype(np.float32), right.astype(float)


@pytest.mark.long
def test_the_promise_is_kept_on_average():
    """Of 99 cases the level is the 90th: nine tenths, not a case more or less."""
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(60):
        chances, right = draw(rng, 400)
        known = np.flatnonzero(right.any(axis=1))
        fitted = consult.fit(chances[known[:99]], right[known[:99]], tuple("abcd"), 0.9)
        assert (fitted.num_cases, fitted.nobody_right) == (99, 0.0)
        rest = known[99:]
        held = consult.members(fitted, chances[rest], np.ones((len(rest), 4), bool))
        covered.append((held & (right[rest] == 1)).any(axis=1).mean())
    # The standard error of the mean is .004.
    assert 0.89 <= np.mean(covered) <= 0.92


@pytest.mark.long
def test_a_blank_makes_no_set_too_small():
    chances, right = draw(np.random.default_rng(1), 4000)
    asked = np.random.default_rng(2).random((2000, 4)) < 0.6
    answered = np.where(asked, right[:2000], np.nan)
    fitted = consult.fit(chances[:2000], answered, tuple("abcd"), 0.9)
    held = consult.members(fitted, chances[2000:], np.ones((2000, 4), bool))
    some = right[2000:].any(axis=1)
    assert (held & (right[2000:] == 1)).any(axis=1)[some].mean() > 0.92
    assert held.mean() < 0.8


def test_levels_by_hand():
    """One answer alone is left out; the sum before the first right one is the level.

    That is of all people, or of those who answered, where not all can be asked.
    """
    chances = np.array([[0.9, 0.5, 0.25], [0.5, 0.25, 0.75], [0.5, 0.25, 0.125]])
    nan = np.nan
    right = np.array([[1.0, 0, 0], [1, 0, nan], [nan, 1, nan], [0, 0, nan]])
    chances = np.vstack([chances, chances[:1]]).astype(np.float32)
    names = ("x", "y", "z")
    found = consult.fit(chances, right, names, 0.6)
    assert found == consult.Consult(0.75, 1 / 3, 2, names, 0.0, 3)
    available = np.array([[True] * 3, [False, True, True], [False] * 3, [True] * 3])
    held = consult.members(found, chances, available)
    assert held.tolist() == [
        [True, False, False],
        [False, False, True],
        [False] * 3,
        [True, False, False],
    ]
    # Of more people than ever answered a case nothing was seen.
    few = consult.members(found._replace(most_answers=1), chances, available)
    assert few[1].tolist() == [False, True, True]


@pytest.mark.long
def test_the_promise_is_kept_among_those_who_can_be_asked():
    """As who answered could be: nine tenths, by sets far smaller than of everybody."""
    rng = np.random.default_rng(3)
    covered, sizes = [], []
    for _ in range(40):
        chances, right = draw(rng, 1300, 20)
        asked = rng.random(right.shape) < 0.25
        answered = np.where(asked, right, np.nan)[:300]
        fitted = consult.fit(
            chances[:300], answered, tuple("abcdefghijklmnopqrst"), 0.9
        )
        held = consult.members(fitted, chances[300:], asked[300:])
        can = (right[300:] == 1) & asked[300:]
        some = can.any(axis=1) & (asked[300:].sum(axis=1) > 1)
        covered.append((held & can).any(axis=1)[some].mean())
        sizes.append(
            [held[some].sum(axis=1).mean(), asked[300:][some].sum(axis=1).mean()]
        )
        everybody = consult.members(fitted, chances[300:], np.ones_like(asked[300:]))
        assert everybody.sum(axis=1).mean() > 2 * sizes[-1][0]
    # The standard error of the mean is .003.
    assert 0.885 <= np.mean(covered) <= 0.92
    assert np.mean(sizes, axis=0)[0] < np.mean(sizes, axis=0)[1] / 2


def test_that_nobody_is_right_is_more_likely_than_of_independent_people():
    rng = np.random.default_rng(2)
    chances, right = draw(rng, 4000)
    asked = np.where(rng.random(right.shape) < 0.7, right, np.nan)
    mapped = consult.fit_nobody(chances[:2000], asked[:2000], np.arange(2000) % 2)
    everybody = np.ones((2000, 4), bool)
    found = consult.nobody_right(mapped, chances[2000:], everybody)
    nobody = ~right[2000:].any(axis=1)
    assert np.prod(1 - chances[2000:], axis=1).mean() < nobody.mean() / 2
    assert found.mean() == pytest.approx(nobody.mean(), rel=0.2)
    least, _, most = (p.mean() for p in np.array_split(nobody[found.argsort()], 3))
    assert least < 0.1 and most > 0.2
    none = consult.nobody_right(mapped, chances[:2], ~everybody[:2])
    assert none.tolist() == [1, 1]


def test_decisions_name_the_sets(team, cases):
    decided = decide(team, cases)
    table = output.tabulate(team, cases, decided)
    assert table.columns[-2:].tolist() == ["consult", "p_nobody_right"]
    named = [json.loads(text) for text in table.consult]
    for row, names in enumerate(named):
        assert names == [NAMES[m] for m in np.flatnonzero(decided.members[row])]
    sizes = np.array([len(names) for names in named])
    assert sizes.min() == 1 and sizes.mean() < 3
    surest = np.asarray(decided.chances.prob).argmax(axis=1)
    assert decided.members[np.arange(600), surest].all()
    assert table.p_nobody_right.between(0, 1).all()


def test_a_set_is_of_who_can_be_asked_and_has_been_met(team, cases):
    available = np.ones(cases.answers.shape, bool)
    available[:, 0] = False
    available[:3] = False
    found = decide(team, cases, available=available)
    assert not (found.members & ~available).any()
    assert found.members[3:].any(axis=1).all()
    assert found.notes[-1].startswith(
        "Sets to consult of 597 cases are among those who"
    )
    assert not decide(team, cases).notes
    assert found.nobody_right[:3].tolist() == [1, 1, 1]
    more = welcome(team, ("ann",))
    answers = np.pad(cases.answers, ((0, 0), (0, 1)), constant_values=-1)
    wider = decide(more, cases._replace(people=more.people, answers=answers))
    assert not wider.members[:, 3].any()
    np.testing.assert_array_equal(wider.members[:, :3], decide(team, cases).members)
    assert wider.notes[-1] == "Sets to consult are without ann, who are new."


def test_what_is_read_has_the_sets(team, cases, tmp_path):
    record = evaluation.record_of(team, cases)
    judged = evaluation.tabulate(
        record, cases, title="x", chosen=team.method, options=OPTIONS
    )
    storage.save(team, tmp_path / "policy", evaluation=judged)
    found, _ = storage.load(tmp_path / "policy")
    assert found.consult == team.consult
    one, other = (decide(each, cases) for each in (team, found))
    np.testing.assert_array_equal(one.members, other.members)
    np.testing.assert_array_equal(one.nobody_right, other.nobody_right)
    read = storage.load_evaluation(tmp_path / "policy").consult
    pd.testing.assert_frame_equal(read, judged.consult, check_dtype=False)


@pytest.mark.long
def test_sets_are_judged_by_the_answers_there_are(team, cases):
    record = evaluation.record_of(team, cases)
    judged = evaluation.tabulate(
        record, cases, title="x", chosen=team.method, options=OPTIONS
    )
    row = judged.consult.iloc[0]
    right = cases.answers == cases.labels[:, None]
    several = (cases.answers >= 0).sum(axis=1) > 1
    someone = several & right.any(axis=1)
    held = decide(team, cases).members
    assert row.cases == someone.sum() and row.several == several.sum()
    assert row.covered == pytest.approx((held & right)[someone].any(axis=1).mean())
    assert row.nobody == pytest.approx(1 - someone.sum() / several.sum())
    assert row["size"] == held.sum() / 600
    assert row.covered_low < row.covered < row.covered_high
    assert row.everybody == held.all(axis=1).mean() and row.empty == 0


def test_one_case_of_a_unit_counts():
    """Those of one patient are one case, however many rows they are."""
    rows = make(600, people=NAMES)._replace(units=np.arange(600) // 20)
    found = fitting.fit(rows, OPTIONS)
    assert 4 <= found.consult.num_cases <= 10


def test_too_few_answers_are_refused(cases):
    few = cases.answers.copy()
    few[:, 1:] = -1
    with pytest.raises(ValueError, match=r"take 4 held-out cases .* there are 0 \(a"):
        fitting.fit(cases._replace(answers=few), OPTIONS)
    with pytest.raises(ValueError, match="sets are of two people or more, and there"):
        check_options(OPTIONS, ("r0",))


@pytest.mark.long
@pytest.mark.slow
def test_the_command_makes_sets(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    made = make(120, people=("r0", "r1", "r2"))
    frame = made.features.assign(case=made.ids, label=np.array(["a", "b"])[made.labels])
    for number, name in enumerate(made.people):
        said = made.answers[:, number]
        frame[name] = np.where(said >= 0, np.array(["a", "b"])[said], "")
    frame.to_csv("cases.csv", index=False)
    fit = "fit cases.csv --id case --label label --experts r0,r1,r2 --methods never"
    assert command.main([*fit.split(), "--consult=0.8", "--cv=2x1", "--out=p"]) == 0
    assert "people hold one who is right in" in capsys.readouterr().out
    assert command.main(["apply", "p", "cases.csv", "--out=new.csv"]) == 0
    found = pd.read_csv("new.csv")
    assert all(set(json.loads(names)) <= {*made.people} for names in found.consult)
    assert command.main(["report", "p", "--out=r.html"]) == 0
    assert "Whom to consult" in (tmp_path / "r.html").read_text()
