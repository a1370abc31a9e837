"""Cases decided one after another: within the limits, whatever is to come."""

import re

import numpy as np
import pandas as pd
import pytest

from l2d_jax.table import command, fitting, output, storage
from l2d_jax.table.cases import take
from l2d_jax.table.options import Options
from l2d_jax.table.team import decide, welcome
from tests.table.conftest import make

OPTIONS = Options(("confidence",), ("logistic",), num_folds=2)
LIMITS = OPTIONS._replace(capacity=(("r0", 2), ("r1", 3)), max_deferral=0.3)


@pytest.fixture(scope="module")
def team():
    return fitting.fit(make(), OPTIONS)


@pytest.fixture(scope="module")
def coming():
    return make(230, seed=1)


def asked(decided):
    return np.asarray(decided.decision.allocation)[:, :-1]


def test_limits_are_of_every_period(team, coming):
    counts = np.stack(
        [
            part.sum(axis=0)
            for part in np.split(
                asked(decide(team, coming, options=LIMITS, period=20)),
                range(20, 230, 20),
            )
        ]
    )
    assert (counts[:, :2] <= [2, 3]).all()
    assert (counts.sum(axis=1) <= 6).all()
    assert counts.sum() > 0.7 * 6 * 11
    # Of a batch there is no saying when they are asked.
    whole = asked(decide(team, coming, options=LIMITS))
    assert whole.sum(axis=0)[0] <= 2


def test_a_decision_knows_nothing_of_later_rows(team, coming):
    whole = decide(team, coming, options=LIMITS, period=20)
    for size in (1, 101):
        first = take(coming, np.arange(size))
        found = decide(team, first, options=LIMITS, period=20)
        np.testing.assert_array_equal(asked(found), asked(whole)[:size])
        np.testing.assert_array_equal(found.wanted, whole.wanted[:size])


def test_a_place_waits_for_what_is_worth_it(team, coming):
    """Not the first cases that gain are asked, but better ones on average."""
    limits = OPTIONS._replace(capacity=tuple((f"r{m}", 2) for m in range(3)))
    decided = decide(team, coming, options=limits, period=50)
    score = np.asarray(decided.decision.defer_score)
    gained = (asked(decided) * score).sum()
    greedy, batch = 0.0, 0.0
    for rows in np.split(np.arange(230), range(50, 230, 50)):
        room = np.full(3, 2)
        for row in score[rows]:
            net = np.where(room > 0, row, -1.0)
            if net.max() > 0:
                room[net.argmax()] -= 1
                greedy += net.max()
        part = decide(team, take(coming, rows), options=limits)
        batch += (asked(part) * score[rows]).sum()
    assert greedy < gained < batch


def test_thresholds_are_kept_to_in_a_stream(team, coming):
    """By group or guaranteed, also where all are to be deferred."""
    plenty = OPTIONS._replace(capacity=(("r0", 230),))
    for threshold in (0.1, -np.inf, np.inf):
        other = team._replace(threshold=threshold)
        found = asked(decide(other, coming, options=plenty, period=230)).any(axis=1)
        score = np.asarray(decide(team, coming).decision.defer_score).max(axis=1)
        np.testing.assert_array_equal(found, score > threshold)


def test_somebody_new_starts_for_free(team, coming):
    more = welcome(team, ("ann",))
    answers = np.pad(coming.answers, ((0, 0), (0, 1)), constant_values=-1)
    wider = coming._replace(people=more.people, answers=answers)
    limits = OPTIONS._replace(capacity=(("ann", 1),))
    alone = np.zeros(answers.shape, bool)
    alone[:, 3] = True
    decided = decide(more, wider, options=limits, period=10, available=alone)
    found = asked(decided)[:, 3].reshape(-1, 10).sum(axis=1)
    assert found.max() == 1 and found.sum() > 15


def test_reasons_are_those_of_the_turn(team, coming):
    """What was asked for then, and what the case had, in numbers to check."""
    decided = decide(team, coming, options=LIMITS, period=20)
    table = output.tabulate(team, coming, decided)
    scores, cuts = np.asarray(decided.decision.defer_score, float), decided.cuts
    seen = set()
    for row, reason in enumerate(table.reason):
        who = asked(decided)[row]
        numbers = re.search(r": (\S+), and more than (\S+) was (\w+)", reason)
        said = needed = None
        if numbers:
            said, needed = float(numbers[1]), float(numbers[2])
        if who.any():
            assert numbers[3] == "enough" and said > needed
            assert said == pytest.approx(scores[row, who.argmax()], rel=1e-3)
            assert needed == pytest.approx(cuts[row, who.argmax()], rel=1e-3)
            same = (who == decided.wanted[row]).all()
            assert reason.startswith("more likely" if same else "whom it would")
            seen.add(reason.split(":")[0])
        elif not decided.wanted[row].any():
            assert reason == "the model is as likely to be right"
        elif numbers:
            assert reason.startswith("a place waits for a better case: ")
            assert numbers[3] == "needed" and said <= needed
            seen.add("waits")
        else:
            assert reason == "no place was left at its turn"
            assert np.isinf(cuts[row]).all()
            seen.add("none")
    assert {"waits", "none", "more likely to be right than the model"} <= seen
    assert "whom it would ask first had no place" in seen
    batch = output.tabulate(team, coming, decide(team, coming, options=LIMITS))
    assert "no room for it within the limits" in set(batch.reason)


@pytest.mark.parametrize(
    ("options", "period", "change", "message"),
    [
        (LIMITS, 0, {}, "stream must be >= 1"),
        (OPTIONS, 20, {}, "without a capacity or max_defer"),
        (LIMITS, 20, {"method": "panel"}, "people who share an answer have no prices"),
        (LIMITS, 20, {"params": {}}, "keeps no scores of past cases"),
    ],
)
def test_what_cannot_be_a_stream_is_refused(
    team, coming, options, period, change, message
):
    if "params" in change:
        params = {name: team.params[name] for name in team.params if name != "past"}
        change = {"params": params}
    other = team._replace(**change)
    with pytest.raises(ValueError, match=message):
        decide(other, coming, options=options, period=period)


@pytest.mark.long
def test_the_command_decides_in_order(team, coming, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    how = {"id": "case", "label": "label", "experts": list(team.people)}
    how |= {"group": None, "split_by": None, "scores": [], "exclude": []}
    storage.save(team, "policy", made={"table": {**how, "positive": None}})
    frame = coming.features.assign(case=coming.ids)
    found = []
    for rows in (frame, frame.head(50)):
        rows.to_csv("new.csv", index=False)
        argv = "apply policy new.csv --out=out.csv --stream=25 --capacity=r0=2"
        assert command.main([*argv.split(), "--max-defer=0.2"]) == 0
        found.append(pd.read_csv("out.csv"))
    pd.testing.assert_frame_equal(found[0].head(50), found[1])
    (tmp_path / "out.csv").unlink()
    capsys.readouterr()
    assert command.main("apply policy new.csv --out=out.csv --stream=25".split()) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("l2d: stream: without a capacity or max_defer")
    assert not (tmp_path / "out.csv").exists()
