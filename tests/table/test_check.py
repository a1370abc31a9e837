"""What is seen in a table before anything is fitted to it."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

from l2d_jax.table.cases import make_cases
from l2d_jax.table.check import check, describe


def table(num_rows=300, seed=0, **changes):
    """Two classes, three readers, a useful number and a useless category."""
    rng = np.random.default_rng(seed)
    y = rng.integers(2, size=num_rows)
    frame = {
        "x": y + rng.normal(size=num_rows),
        "site": rng.choice(["n", "s"], num_rows),
        "y": y,
    }
    for reader in ("r1", "r2", "r3"):
        right = rng.random(num_rows) < 0.8
        asked = rng.random(num_rows) < 0.5
        frame[reader] = np.where(asked, np.where(right, y, 1 - y), np.nan)
    return pd.DataFrame(frame | changes)


def look(frame, text=(), num_folds=5, **how):
    how = {"label": "y", "experts": ["r1", "r2", "r3"]} | how
    return check(make_cases(frame, **how), text=text, num_folds=num_folds)


def noted(found, *words):
    return [note for note in found.notes if all(word in note for word in words)]


def test_a_usual_table_is_not_noted():
    found = look(table())
    assert found.notes == ()
    assert describe(found).endswith("Nothing odd was seen.")


def test_counts():
    frame = table()
    frame.loc[:9, "y"] = np.nan
    frame.loc[5:24, "x"] = None
    found = look(frame)
    facts = dict(found.facts)
    answers = frame[["r1", "r2", "r3"]]
    ones, all_answers = (answers == 1).sum(axis=1), answers.notna().sum(axis=1)
    assert facts == {
        "cases": 300,
        "of them with a label": 290,
        "units that are never split": 300,
        "people": 3,
        "answers": int(all_answers.sum()),
        "cases that nobody answered": int((all_answers == 0).sum()),
        "ties of the majority": int(((2 * ones == all_answers) & (ones > 0)).sum()),
    }
    assert found.columns.column.tolist() == ["x", "site"]
    assert found.columns.kind.tolist() == ["number", "category"]
    assert found.columns.missing.tolist() == [20, 0]
    assert found.classes["class"].tolist() == ["0", "1"]
    assert found.classes.cases.tolist() == [
        int((frame.y == label).sum()) for label in (0, 1)
    ]
    np.testing.assert_allclose(found.classes.share.sum(), 1)
    labelled = frame[frame.y.notna()]
    for row in found.people.itertuples():
        own = labelled[labelled[row.person].notna()]
        right = int((own[row.person] == own.y).sum())
        assert row.answers == len(own)
        assert row.asked == len(own) / 290
        assert row.right == right / len(own)
        interval = binomtest(right, len(own)).proportion_ci(method="wilson")
        np.testing.assert_allclose([row.low, row.high], interval)


def test_few_cases_are_told_how_wide_everything_is():
    found = look(table(30))
    assert noted(found, "30 labelled cases", "within about 18 points")
    assert describe(found)
    assert not noted(look(table(200)), "labelled cases")


def test_a_class_of_fewer_units_than_parts():
    frame = table(y=["0"] * 150 + ["1"] * 147 + ["2"] * 3)
    frame[["r1", "r2", "r3"]] = "0"
    found = look(frame)
    assert noted(found, "Class '2' has 3 units", "refuse it, as 5 parts are")
    # Parts within those that are left take more of them.
    frame.loc[frame.index[frame.y == "0"][:3], "y"] = "2"
    assert noted(look(frame), "Class '2' has 6 units", "4 are left", "hold out 6 parts")
    assert not noted(look(frame, num_folds=6), "units")
    # Cases are many, patients are few.
    frame = table(patient=[n % 8 // 2 for n in range(300)])
    assert len(noted(look(frame, split_by="patient"), "has 4 units")) == 2


def test_words_for_a_blank_among_labels_are_noted():
    frame = table().astype(object)
    frame.loc[:2, "y"] = "n/a"
    found = look(frame)
    assert noted(found, "Column 'y' holds 'n/a' in 3 rows, a word for a blank")
    assert found.classes["class"].tolist() == ["0", "1"]


def test_a_rare_class():
    frame = table(y=["0"] * 290 + ["1"] * 10)
    frame[["r1", "r2", "r3"]] = "0"
    assert noted(look(frame), "more than 95 %")


@pytest.mark.parametrize("kind", ["number", "category", "many", "missing", "text"])
def test_a_column_that_gives_the_label_away(kind):
    frame = table()
    y = frame.y.to_numpy()
    rng = np.random.default_rng(1)
    leak = {
        "number": y * 10 + rng.normal(size=300),
        "category": np.where(y == 1, "treated", "well"),
        # Half of twenty wards have all the cases of a class.
        "many": [f"ward {2 * (n % 10) + label}" for n, label in enumerate(y)],
        "missing": np.where(y == 1, rng.normal(size=300), np.nan),
        "text": np.where(y == 1, "given at discharge", "no treatment at all"),
    }[kind]
    found = look(frame.assign(leak=leak), text=["leak"] if kind == "text" else ())
    assert noted(found, "'leak' tells the label by itself")
    assert not noted(found, "'x' tells")
    assert not noted(found, "'site' tells")


def test_a_number_of_its_own_a_row_gives_nothing_away():
    frame = table(600, record=np.random.default_rng(3).permutation(600))
    assert not noted(look(frame), "tells the label")


def test_a_label_in_steps_of_three_classes():
    frame = table(y=[n % 3 for n in range(300)], r1=1, r2=1, r3=1)
    found = look(frame.assign(leak=frame.y + 0.1))
    assert noted(found, "'leak' tells the label by itself")
    # One class of three is told, the others are not.
    assert not noted(look(frame.assign(leak=frame.y == 2)), "'leak' tells")


def test_labels_that_are_the_majority():
    frame = table()
    answers = frame[["r1", "r2", "r3"]]
    share = answers.mean(axis=1)
    frame["y"] = np.where(share.isna(), 0, (share > 0.5).astype(float))
    assert noted(look(frame), "The label is the majority of the very answers in 100.0")
    # Ties say nothing, nor do single answers, nor cases without a label.
    tie, one = share == 0.5, answers.notna().sum(axis=1) == 1
    frame["y"] = np.where(tie | one, 1 - frame.y, frame.y)
    assert tie.any() and noted(look(frame), "majority of the very answers in 100.0 %")
    frame.loc[:50, "y"] = np.nan
    assert noted(look(frame), "majority of the very answers in 100.0 %")
    several = frame.index[~tie & (answers.notna().sum(axis=1) > 1)]
    frame.loc[several[-5:], "y"] = 1 - frame.y[several[-5:]]
    assert not noted(look(frame), "majority of the very answers")


def test_a_person_who_is_the_label():
    frame = table()
    frame["r2"] = frame.y
    found = look(frame)
    assert noted(found, "1 of 3 people are right in every case", "(r2)")
    frame.loc[19:, "r2"] = np.nan
    assert not noted(look(frame), "right in every case")


def test_people_of_few_answers():
    frame = table()
    frame.loc[9:, "r2"] = np.nan
    frame.loc[:8, "r2"] = 1 - frame.y[:9]
    assert noted(look(frame), "1 of 3 people have fewer than 10", "(r2)")


def test_a_model_that_has_seen_the_cases():
    frame = table()
    frame["p"] = np.where(frame.y == 1, 0.9, 0.1)
    assert noted(look(frame, scores=["p"]), "right in 100.0 %", "trained on them")
    frame["p"] = np.where(np.arange(300) % 20, frame.p, 1 - frame.p)
    assert not noted(look(frame, scores=["p"]), "trained on them")


def test_cases_that_are_twice_in_the_table():
    frame = table(record=[f"id {n}" for n in range(300)])
    copies = frame.iloc[:6].assign(record=[f"id {n}" for n in range(300, 306)])
    twice = pd.concat([frame, copies]).reset_index(drop=True)
    found = look(twice)
    (note,) = noted(found, "share all their features")
    assert note.startswith("12 cases") and "(6 different ones)" in note
    twice.loc[300:302, "y"] = 1 - twice.loc[300:302, "y"]
    (note,) = noted(look(twice), "share all their features")
    assert "(6 different ones; 3 of them have several labels)" in note
    # A copy without a label says nothing of it.
    twice["y"] = twice.y.astype(float)
    twice.loc[302:303, "y"] = np.nan
    (note,) = noted(look(twice), "share all their features")
    assert "(6 different ones; 2 of them have several labels)" in note
    # Of one patient they are never split.
    twice["patient"] = [*range(300), *range(6)]
    assert not noted(look(twice, split_by="patient"), "share all")
    # Few values are shared by chance.
    few = table(x=[n % 5 for n in range(300)])
    assert not noted(look(few), "share all")


def test_columns_of_no_use():
    frame = table(x=1, site=[f"id {n}" for n in range(300)], gone=None)
    found = look(frame)
    assert noted(found, "'x' is left out: every cell is the same")
    assert noted(found, "'site' is left out", "value of its own")
    assert noted(found, "'gone' is left out: every cell is missing")
    assert noted(found, "No column is of use")
    assert found.columns.missing.tolist() == [0, 0, 300]


def test_nobody_is_asked():
    frame = table().drop(columns=["r1", "r2", "r3"])
    found = look(frame, experts=())
    assert found.people.empty
    assert "People" not in describe(found)


def test_description_is_narrow_and_plain():
    frame = table(30, gone=None).rename(columns={"site": "\x1b[31mred\nnews " * 9})
    frame["y"] = np.where(frame.y == 1, "a long name of a class, " * 4, "\x1b[0m")
    frame = frame.assign(r1=["\x1b[0m"] + [None] * 29, r2=None, r3=None)
    cases = make_cases(frame, label="y", experts=["r1"], exclude=["r2", "r3"])
    found = check(cases)
    text = describe(found)
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) < 60
    assert "- Column 'gone' is left out" in text
    labels = cases.labels.copy()
    labels[0] = -1
    assert "r1: not known" in describe(check(cases._replace(labels=labels)))


def test_many_people_do_not_fill_the_screen():
    frame = table()[["x", "y"]]
    for n in range(50):
        frame[f"r{n}"] = frame.y.where(np.arange(300) % 50 == n)
    text = describe(look(frame, experts=["r*"]))
    assert "and 30 more" in text
    assert "50 of 50 people have fewer than 10 answers" in text.replace("\n  ", " ")
