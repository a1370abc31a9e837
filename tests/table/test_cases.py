"""Cases of a table: what is kept together, what is refused, and how it is called."""

import itertools
import re

import numpy as np
import pandas as pd
import pytest

from l2d_jax.table.cases import make_cases, take, text_of


def wide(**changes):
    columns = {
        "case": ["a", "b", "c", "d"],
        "x": ["1", "2", "3", "4"],
        "y": ["no", "yes", "yes", "no"],
        "r1": ["no", None, "yes", "yes"],
        "r2": [None, "yes", "no", None],
    }
    return pd.DataFrame(columns | changes)


def long(rows):
    return pd.DataFrame(rows, columns=["case", "expert", "answer"])


def read(frame, **changes):
    how = {"label": "y", "id": "case", "experts": ("r1", "r2")}
    return make_cases(frame, **(how | changes))


ANSWERS = [[0, -1], [-1, 1], [1, 0], [1, -1]]


def test_a_wide_table():
    cases = read(wide())
    assert cases.ids.tolist() == ["a", "b", "c", "d"]
    assert cases.classes == ("no", "yes")
    assert cases.labels.tolist() == [0, 1, 1, 0]
    assert cases.labels.dtype == cases.answers.dtype == np.int32
    assert cases.answers.tolist() == ANSWERS
    assert cases.people == ("r1", "r2")
    assert list(cases.features.columns) == ["x"]
    assert cases.groups is None and cases.class_probs is None
    assert cases.units.tolist() == [0, 1, 2, 3]
    assert cases.notes == ()


def test_an_index_changes_nothing():
    frame = wide()
    usual = read(frame)
    for index in (
        [3, 0, 2, 1],
        ["a", "a", "a", "a"],
        pd.MultiIndex.from_product([[1, 2], [1, 2]], names=["case", "y"]),
        pd.date_range("2026-01-01", periods=4),
    ):
        cases = read(frame.set_axis(index))
        assert cases.features.index.tolist() == [0, 1, 2, 3]
        for one, other in zip(cases, usual, strict=True):
            if isinstance(one, pd.DataFrame):
                pd.testing.assert_frame_equal(one, other)
            else:
                np.testing.assert_array_equal(one, other)


def test_the_frame_given_is_left_alone():
    frame = wide().rename(columns={"x": 7})
    before = frame.copy()
    read(frame)
    pd.testing.assert_frame_equal(frame, before)


def test_long_answers_find_their_cases():
    rows = [
        ("d", "r1", "yes"),
        ("a", "r1", "no"),
        ("c", "r2", "no"),
        ("b", "r2", "yes"),
        ("c", "r1", "yes"),
    ]
    frame = wide().drop(columns=["r1", "r2"])
    for order in itertools.permutations(range(4)):
        mixed = frame.iloc[list(order)]
        for answers in (rows, rows[::-1]):
            cases = read(mixed, experts=(), answers=long(answers).set_axis([0] * 5))
            assert cases.answers.tolist() == [ANSWERS[row] for row in order]
            assert cases.labels.tolist() == [[0, 1, 1, 0][row] for row in order]
            assert cases.people == ("r1", "r2")
    renamed = long(rows).rename(columns={"case": "patient"})
    cases = read(
        frame.rename(columns={"case": "patient"}),
        id="patient",
        experts=(),
        answers=renamed,
    )
    assert cases.answers.tolist() == ANSWERS


def test_ids_of_any_type_are_one():
    frame = pd.DataFrame({"case": [7.0, 8.0], "x": [1, 2], "y": [0, 1]})
    rows = [("7", "r", 1), (8, "r", True)]
    cases = read(frame, experts=(), answers=long(rows))
    assert cases.ids.tolist() == ["7", "8"]
    assert cases.answers.tolist() == [[1], [1]]


def test_no_id_counts_rows():
    assert read(wide(), id=None).ids.tolist() == ["1", "2", "3", "4"]
    with pytest.raises(ValueError, match="id: name the column"):
        read(wide(), id=None, experts=(), answers=long([("1", "r", "no")]))


def test_leading_zeros_tell_ids_apart():
    assert read(wide(case=["1", "01", "001", "1.0"])).ids.tolist() == [
        "1",
        "01",
        "001",
        "1.0",
    ]


@pytest.mark.parametrize(
    ("labels", "answers", "classes"),
    [
        (["1", "2"], ["1.0", "2.0"], ("1", "2")),
        (["1.0", "2.0"], ["1", "2"], ("1.0", "2.0")),
        (["2", "10"], ["2", "10"], ("2", "10")),
        (["-1", "1"], ["-1.0", "+1"], ("-1", "1")),
        (["01", "02"], ["1", "2"], ("01", "02")),
        ([0, 1], ["0", "1.0"], ("0", "1")),
        ([0.0, 1.0], [False, True], ("0", "1")),
        ([False, True], [0, 1], ("False", "True")),
        (["FALSE", "TRUE"], [False, True], ("FALSE", "TRUE")),
        ([" a ", "b"], ["a", "b "], ("a", "b")),
        (["low", "1"], ["low", "1"], ("1", "low")),
    ],
)
def test_names_of_classes_are_matched(labels, answers, classes):
    frame = pd.DataFrame({"x": range(2), "y": labels, "r": answers})
    cases = make_cases(frame, label="y", experts=["r"])
    assert cases.classes == classes
    np.testing.assert_array_equal(cases.answers[:, 0], cases.labels)


@pytest.mark.parametrize(
    ("labels", "answers", "says"),
    [
        (["no", "yes"], ["no", "yess"], "case '2': 'yess' .* nearest is 'yes'"),
        (["no", "yes"], ["no", "Yes"], "'Yes' .* nearest is 'yes'"),
        (["1", "2"], ["1", "3"], "'3' is none of the classes '1', '2'"),
        (["1", "low"], ["1.0", "low"], "'1.0' is none of the classes"),
        (["0", "2"], ["0", True], "'True' is none"),
        (["1", "01"], ["1", "1"], "both '01' and '1'"),
        (["a", "a"], ["a", "a"], "one class alone, 'a'"),
        (["1", "1.0"], ["1", "1"], "one class alone, '1'"),
        ([None, None], ["a", "b"], "no label"),
        (["nan", None], ["a", "b"], "no label"),
    ],
)
def test_names_of_classes_are_refused(labels, answers, says):
    frame = pd.DataFrame({"x": range(2), "y": labels, "r": answers})
    with pytest.raises(ValueError, match=says):
        make_cases(frame, label="y", experts=["r"])


def test_a_number_of_its_own_a_case_is_no_class():
    frame = pd.DataFrame({"x": range(200), "y": np.arange(200) / 7})
    with pytest.raises(ValueError, match="holds 200 classes"):
        make_cases(frame, label="y")


def test_blanks_are_left_out_and_noted():
    cases = read(wide(y=["no ", "yes", " yes", "no"], case=["a ", "b", "c", "d"]))
    assert cases.classes == ("no", "yes")
    assert cases.ids.tolist() == ["a", "b", "c", "d"]
    assert "Blanks around 2 cells of column 'y' are left out." in cases.notes
    assert "Blanks around 1 cells of column 'case' are left out." in cases.notes
    cases = read(
        wide().drop(columns=["r1", "r2"]),
        experts=(),
        answers=long([("a", "r1 ", "no"), ("b", "r1", "yes")]),
    )
    assert cases.people == ("r1",)
    assert cases.notes == (
        "Blanks around 1 cells of column 'expert' of the answers are left out.",
    )


@pytest.mark.parametrize("blank", [None, np.nan, pd.NA, pd.NaT, "", " "])
def test_who_was_not_asked(blank):
    frame = wide(r1=np.array(["no", blank, "yes", "yes"], object))
    assert read(frame).answers[:, 0].tolist() == [0, -1, 1, 1]
    frame = wide(y=np.array(["no", blank, "yes", "yes"], object))
    cases = read(frame)
    assert cases.labels.tolist() == [0, -1, 1, 1]
    assert cases.notes == (
        "1 of 4 cases have no label; they have no part in fitting and judging.",
    )


@pytest.mark.parametrize("word", ["NA", "nan", "null", "N/A", "n/a", "#N/A", " Na "])
def test_words_for_a_blank_are_noted(word):
    told = f"olumn {{}} holds {word.strip()!r} in 2 rows, a word for a blank"
    cases = read(wide(r1=["no", word, word, "yes"]))
    assert cases.answers[:, 0].tolist() == [0, -1, -1, 1]
    assert [told.format("'r1'") in note for note in cases.notes] == [True]
    cases = read(wide(y=["no", "yes", word, word]))
    assert cases.classes == ("no", "yes")
    assert cases.labels.tolist() == [0, 1, -1, -1]
    assert told.format("'y'") in cases.notes[0] and len(cases.notes) == 2
    rows = [("a", "r", "no"), ("b", "r", word), ("c", "r", word)]
    cases = read(wide().drop(columns=["r1", "r2"]), experts=(), answers=long(rows))
    assert cases.answers[:, 0].tolist() == [0, -1, -1, -1]
    assert told.format("'answer' of the answers") in cases.notes[0]
    # A feature has a place for what is missing, and new cases are told of as well.
    assert read(wide(x=["1", word, "2", word])).notes == ()
    how = {"classes": ("no", "yes"), "people": ("r1", "r2"), "label": None}
    assert told.format("'r2'") in read(wide(r2=["no", word, word, ""]), **how).notes[0]


@pytest.mark.parametrize("word", ["None", "none", " NONE"])
def test_a_class_that_may_be_none_is_refused(word):
    says = (
        f"column 'y' holds {word.strip()!r} in 3 rows, .*: rename the class, or leave"
    )
    with pytest.raises(ValueError, match=says):
        read(wide(y=["no", word, word, word]))
    with pytest.raises(ValueError, match=r"column 'r1' holds .* rename the class"):
        read(wide(r1=["no", word, word, "yes"]))
    with pytest.raises(ValueError, match="column 'answer' of the answers holds"):
        rows = long([("a", "r", "no"), ("b", "r", word)])
        read(wide().drop(columns=["r1", "r2"]), experts=(), answers=rows)


def test_names_that_differ_in_capitals_are_noted():
    cases = read(wide(y=["no", "yes", "Yes", "no"]))
    assert cases.classes == ("Yes", "no", "yes")
    (note,) = cases.notes
    assert note.startswith("Classes 'Yes' and 'yes' differ in capital letters alone;")
    rows = long([("a", "Ann", "no"), ("b", "ann", "yes"), ("c", "bob", "no")])
    cases = read(wide().drop(columns=["r1", "r2"]), experts=(), answers=rows)
    assert cases.people == ("Ann", "ann", "bob")
    assert cases.notes[0].startswith("People 'Ann' and 'ann' differ in capital")


def test_accents_are_one_however_they_are_typed():
    cases = read(wide(y=["no", "s\u00ed", "si\u0301", "no"], r1="si\u0301", r2="no"))
    assert cases.classes == ("no", "s\u00ed")
    assert cases.labels.tolist() == [0, 1, 1, 0]
    assert cases.answers[:, 0].tolist() == [1] * 4
    assert cases.notes == ()


@pytest.mark.parametrize(
    "labels",
    [
        pd.array([0, 1, 1, None], dtype="Int64"),
        pd.array([False, True, True, None], dtype="boolean"),
        pd.array([0.0, 1.0, 1.0, None], dtype="Float32"),
        pd.array(["0", "1", "1", None], dtype="string"),
        pd.Categorical(["0", "1", "1", None], ["2", "1", "0"]),
        pd.Categorical([0, 1, 1, None]),
        np.array([0.0, 1.0, 1.0, np.nan], np.float32),
    ],
)
def test_typed_columns(labels):
    frame = pd.DataFrame({"x": range(4), "y": labels, "r": labels})
    cases = make_cases(frame, label="y", experts=["r"])
    assert len(cases.classes) == 2
    assert cases.labels.tolist() == cases.answers[:, 0].tolist() == [0, 1, 1, -1]


def test_two_answers_of_one_person():
    frame = wide().drop(columns=["r1", "r2"])
    rows = [("a", "r1", "no"), ("a", "r1", "no "), ("b", "r1", "yes")]
    cases = read(frame, experts=(), answers=long(rows))
    assert cases.answers.tolist() == [[0], [1], [-1], [-1]]
    assert "1 answers are given twice; they count once." in cases.notes
    rows[1] = ("a", "r1", "yes")
    with pytest.raises(ValueError, match="'r1' says both 'no' and 'yes' of case 'a'"):
        read(frame, experts=(), answers=long(rows))


def test_answers_for_unknown_cases():
    frame = wide().drop(columns=["r1", "r2"])
    rows = [(case, f"r{n}", "no") for case in "ab" for n in range(5)]
    cases = read(frame, experts=(), answers=long([*rows, ("z", "r0", "?")]))
    assert (cases.answers >= 0).sum() == 10
    assert cases.notes == (
        "1 of 11 answers are for cases that are not in the table, such as 'z'; they"
        " are left out.",
    )
    with pytest.raises(ValueError, match=r"2 of 12 answers .* such as 'z'; are they"):
        read(frame, experts=(), answers=long([*rows, *[("z", "r0", "no")] * 2]))


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([], "no answer for any case"),
        ([("a", None, "no")], "'expert' is blank in row 1"),
        ([("a", "r", "no"), (None, "r", "no")], "'case' is blank in row 2"),
        ([("a", "r", "no"), ("b", "s", None)], "'s' has no answer"),
        ([("a", "r", "non")], "case 'a': 'non' .* nearest is 'no'"),
    ],
)
def test_long_answers_are_refused(rows, says):
    frame = wide().drop(columns=["r1", "r2"])
    with pytest.raises(ValueError, match=says):
        read(frame, experts=(), answers=long(rows))


def test_columns_of_long_answers():
    answers = pd.DataFrame({"case": ["a"], "who": ["r"], "answer": ["no"]})
    with pytest.raises(ValueError, match="answers: there is no column 'expert'"):
        read(wide().drop(columns=["r1", "r2"]), experts=(), answers=answers)
    twice = pd.DataFrame([["a", "r", "no", "r"]], columns=["case", "expert"] * 2)
    with pytest.raises(ValueError, match="answers has several columns named 'case'"):
        read(wide().drop(columns=["r1", "r2"]), experts=(), answers=twice)


@pytest.mark.parametrize(
    ("changes", "how", "says"),
    [
        ({}, {"label": "Y"}, "no column 'Y'"),
        ({}, {"label": "yy"}, "no column 'yy'; did you mean 'y'"),
        ({}, {"experts": ["r1", "r3"]}, "no column 'r3'"),
        ({}, {"id": "caes"}, "no column 'caes'; did you mean 'case'"),
        ({}, {"experts": ["q*"]}, re.escape("experts: there is no column 'q*'")),
        ({}, {"experts": "r1"}, r"experts: give a list of names, such as \['r1'\]"),
        ({}, {"exclude": ["z"]}, "no column 'z'"),
        ({}, {"group": "z"}, "no column 'z'"),
        ({}, {"split_by": "z"}, "no column 'z'"),
        ({}, {"scores": ["z"]}, "no column 'z'"),
        ({}, {"label": None}, "label: name the column"),
        ({}, {"experts": ["r1", "y"]}, "'y' has two parts to play"),
        ({}, {"experts": ["r1", "r1"]}, "'r1' has two parts to play"),
        ({}, {"group": "case"}, "'case' has two parts to play"),
        ({}, {"exclude": ["x"]}, "no column left to be a feature"),
        ({}, {"positive": "maybe"}, "positive: 'maybe' is none of the classes"),
        ({}, {"also_features": ["x"]}, "also_features: 'x' is neither"),
        ({}, {"answers": long([("a", "r", "no")])}, "as columns or as a table"),
        ({"case": ["a", None, "c", " "]}, {}, "'case' is blank in 2 rows, .* row 2"),
        ({"case": ["a", "a", "b", "b "]}, {}, "2 names more than once.*'a', 'b'"),
        ({"r2": [None] * 4}, {}, "'r2' has answered no case"),
        ({}, {"classes": ["no"]}, "classes must be two names or more"),
        ({}, {"classes": ["no", "yes", "no"]}, "classes must be two names or more"),
        ({}, {"classes": ["no", "maybe"]}, "label column 'y', case 'b': 'yes' is none"),
        ({}, {"people": ["r1"]}, "'r2' is not one of the team's people"),
    ],
)
def test_what_is_refused(changes, how, says):
    with pytest.raises(ValueError, match=says) as caught:
        read(wide(**changes), **how)
    assert "\n" not in str(caught.value)


def test_columns_of_one_name_are_refused():
    frame = wide()
    frame.columns = ["case", "x", "y", "r1", "x"]
    with pytest.raises(ValueError, match="the table has several columns named 'x'"):
        read(frame, experts=["r1"])
    with pytest.raises(ValueError, match="no rows"):
        read(wide().iloc[:0])


def test_a_pattern_names_people():
    frame = wide(race=list("abcd"), r_site=list("abba"))
    cases = read(frame, experts=["r*"], exclude=["race"], group="r_site")
    assert cases.people == ("r1", "r2")
    assert cases.answers.tolist() == ANSWERS
    with pytest.raises(ValueError, match="answers of 'race', case 'a': 'a' is none"):
        read(frame, experts=["r1", "r*"])


def test_classes_that_are_given_are_theirs():
    cases = read(wide(r2=[None, "maybe", "no", None]), classes=("yes", "maybe", "no"))
    assert cases.classes == ("yes", "maybe", "no")
    assert cases.labels.tolist() == [2, 0, 0, 2]
    assert cases.answers.tolist() == [[2, -1], [-1, 1], [0, 2], [0, -1]]


def test_classes_that_differ_as_texts_alone():
    frame = pd.DataFrame({"x": range(2), "y": ["01", "1"], "r": ["1", "01"]})
    cases = make_cases(frame, label="y", experts=["r"], classes=["1", "01"])
    assert cases.labels.tolist() == [1, 0]
    assert cases.answers.tolist() == [[0], [1]]
    with pytest.raises(ValueError, match=r"'1\.0' is none of the classes"):
        make_cases(frame.assign(r="1.0"), label="y", experts=["r"], classes=["1", "01"])


def test_new_cases_need_neither_labels_nor_answers():
    how = {"classes": ("no", "yes"), "people": ("r2", "r1"), "label": None}
    how |= {"exclude": ["late"], "group": "site", "split_by": "patient"}
    cases = read(wide().drop(columns=["y", "r1"]), **how)
    assert cases.people == ("r2", "r1")
    assert cases.answers.tolist() == [[-1, -1], [1, -1], [0, -1], [-1, -1]]
    assert cases.labels.tolist() == [-1] * 4
    assert cases.groups is None
    assert cases.notes == ()
    rest = wide().drop(columns=["y", "r1", "r2"])
    assert (read(rest, **how).answers == -1).all()
    answers = long([("c", "r1", "yes")])
    cases = read(rest, answers=answers, **how)
    assert cases.answers.tolist() == [[-1, -1], [-1, -1], [-1, 1], [-1, -1]]
    with pytest.raises(ValueError, match="'r9' is not one of the team's people"):
        read(rest, answers=long([("c", "r9", "yes")]), **how)
    blank = read(wide(y=[None] * 4), **(how | {"label": "y"}))
    assert blank.labels.tolist() == [-1] * 4
    assert blank.notes == ()


def test_groups_and_units():
    frame = wide(site=["n", None, "s", "n"], patient=["p", "q", "p", None])
    cases = read(frame, group="site", split_by="patient")
    assert cases.groups.tolist() == ["n", "(missing)", "s", "n"]
    assert cases.units[0] == cases.units[2]
    assert len(set(cases.units)) == 3
    assert list(cases.features.columns) == ["x"]
    assert sum("is blank in 1 cases" in note for note in cases.notes) == 2
    cases = read(frame, group="site", split_by="patient", also_features=["site"])
    assert list(cases.features.columns) == ["x", "site"]
    both = read(wide(site=list("nnss")), group="site", split_by="site")
    assert both.units.tolist() == [0, 0, 1, 1]
    assert both.groups.tolist() == ["n", "n", "s", "s"]
    # A unit that is called as a row is is none of its own.
    cases = read(wide(patient=["row 1", None, "row 1", None]), split_by="patient")
    assert len(set(cases.units)) == 3


@pytest.mark.parametrize("positive", [None, "yes", "no"])
def test_scores_of_one_column(positive):
    p = [0.1, 0.9, 0.75, 0.0]
    cases = read(wide(p=[str(v) for v in p]), scores=["p"], positive=positive)
    second = 1 - np.array(p) if positive == "no" else np.array(p)
    np.testing.assert_allclose(cases.class_probs[:, 1], second)
    np.testing.assert_allclose(cases.class_probs.sum(axis=1), 1)
    assert list(cases.features.columns) == ["x"]


def test_scores_of_each_class():
    p = np.array([[0.2, 0.3, 0.5], [1, 0, 0], [0.3333, 0.3333, 0.3333]])
    frame = pd.DataFrame(p, columns=["pa", "pb", "pc"]).assign(x=1, y=list("abc"))
    cases = make_cases(frame, label="y", scores=["pa", "pb", "pc"])
    np.testing.assert_allclose(cases.class_probs, p / p.sum(axis=1, keepdims=True))
    swapped = make_cases(frame, label="y", scores=["pc", "pb", "pa"])
    np.testing.assert_allclose(cases.class_probs, swapped.class_probs[:, ::-1])
    frame.loc[1, "pb"] = 0.002
    with pytest.raises(ValueError, match=r"scores of case '2' sum to 1\.002"):
        make_cases(frame, label="y", scores=["pa", "pb", "pc"])
    for names in (["pa"], ["pa", "pb"]):
        with pytest.raises(ValueError, match=f"{len(names)} columns and 3 classes"):
            make_cases(frame, label="y", scores=names)


@pytest.mark.parametrize("bad", [None, np.nan, pd.NA, "0,5", 1.01, -1e-9, "inf", "x"])
def test_scores_are_probabilities(bad):
    frame = wide(p=np.array([0.1, 0.2, bad, 0.3], object))
    with pytest.raises(ValueError, match=r"'p' of case 'c' is .* no probability"):
        read(frame, scores=["p"])


def scored(num_cases, classes, seed=0):
    """Cases, and probabilities of each class by which most are right."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(len(classes), size=num_cases)
    logits = rng.normal(size=(num_cases, len(classes)))
    logits[np.arange(num_cases), labels] += 2
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    frame = pd.DataFrame(p, columns=[f"p_{name}" for name in classes])
    return frame.assign(x=1, y=np.array(classes)[labels]), labels, p


def test_scores_of_the_other_class_are_refused():
    frame, labels, p = scored(100, ("cancer", "healthy"))
    right = (p.argmax(axis=1) == labels).mean()
    read = f"right in {100 * (1 - right):.1f} % .* and in {100 * right:.1f} % with"
    for positive, column, meant, other in (
        (None, "p_cancer", "healthy", "cancer"),
        ("healthy", "p_cancer", "healthy", "cancer"),
        ("cancer", "p_healthy", "cancer", "healthy"),
    ):
        says = f"scores: with column '{column}' as the probability of '{meant}'"
        with pytest.raises(
            ValueError, match=f"{says}, .* {read} it as that of '{other}'"
        ):
            make_cases(frame, label="y", scores=[column], positive=positive)
    for positive, column in ((None, "p_healthy"), ("cancer", "p_cancer")):
        cases = make_cases(frame, label="y", scores=[column], positive=positive)
        np.testing.assert_allclose(cases.class_probs, p)
    # New cases are read as those before were.
    how = {"classes": ("cancer", "healthy"), "people": (), "scores": ["p_cancer"]}
    cases = make_cases(frame, label="y", **how)
    np.testing.assert_allclose(cases.class_probs, p[:, ::-1])


def test_scores_in_another_order_are_refused():
    frame, _, p = scored(60, ("a", "b", "c"))
    cases = make_cases(frame, label="y", scores=["p_a", "p_b", "p_c"])
    np.testing.assert_allclose(cases.class_probs, p)
    says = "'p_c', 'p_a', 'p_b' as the probabilities of 'a', 'b', 'c', the classes in"
    with pytest.raises(ValueError, match=f"{says}.* with columns 'p_a', 'p_b', 'p_c';"):
        make_cases(frame, label="y", scores=["p_c", "p_a", "p_b"])


def test_scores_that_are_poor_are_left_as_they_are():
    """Of few cases, by chance alone, or where one class is said too often."""
    few, _, _ = scored(9, ("a", "b"))
    make_cases(few, label="y", scores=["p_b", "p_a"])
    frame, _, _ = scored(400, ("a", "b"))
    rng = np.random.default_rng(1)
    frame["chance"] = rng.random(400)
    make_cases(frame, label="y", scores=["chance"])
    # Right in a tenth of the cases, and the other way round in the others; but what it
    # says of b is higher where b is.
    frame["y"] = np.where(np.arange(400) % 10, "a", "b")
    frame["high"] = 0.6 + 0.3 * (frame.y == "b")
    make_cases(frame, label="y", scores=["high"])


def test_scores_alone_are_enough():
    frame = wide(p=[0.1, 0.2, 0.3, 0.4]).drop(columns="x")
    assert read(frame, scores=["p"]).features.shape == (4, 0)


def test_take_keeps_rows_together():
    frame = wide(site=list("nsnw"), p=[0.1, 0.2, 0.3, 0.4])
    cases = read(frame, group="site", split_by="site", scores=["p"])
    some = take(cases, np.array([3, 0]))
    assert some.ids.tolist() == ["d", "a"]
    assert some.features.x.tolist() == ["4", "1"]
    assert some.labels.tolist() == [0, 0]
    assert some.answers.tolist() == [ANSWERS[3], ANSWERS[0]]
    assert some.groups.tolist() == ["w", "n"]
    assert some.units.tolist() == [cases.units[3], cases.units[0]]
    np.testing.assert_allclose(some.class_probs[:, 1], [0.4, 0.1])
    assert take(read(wide()), np.array([1])).class_probs is None


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1, "1"),
        (1.0, "1"),
        (np.float32(0.1), "0.1"),
        (np.int8(-3), "-3"),
        (True, "True"),
        (np.bool_(False), "False"),
        (" a ", "a"),
        ("1.0", "1.0"),
        (float("inf"), "inf"),
        (pd.Timestamp("2026-01-02"), "2026-01-02 00:00:00"),
        *[
            (v, None)
            for v in (None, np.nan, pd.NA, pd.NaT, "", "NA", np.float32("nan"))
        ],
        (np.datetime64("NaT"), None),
    ],
)
def test_a_cell_as_text(value, text):
    assert text_of(value) == text


def test_features_that_may_be_answers_are_noted():
    frame = pd.DataFrame(
        {
            "age": ["1", "2", "3", "4"],
            "label": ["yes", "no", "yes", "no"],
            "bob": ["yes", None, "no", "no"],
        }
    )
    notes = make_cases(frame, label="label").notes
    assert len(notes) == 1
    assert "Column 'bob' holds names of classes" in notes[0]
    assert not make_cases(frame, label="label", experts=("bob",)).notes
    assert not make_cases(frame, label="label", exclude=("bob",)).notes
    numbers = frame.replace({"yes": "1", "no": "0"})
    assert not make_cases(numbers, label="label").notes
