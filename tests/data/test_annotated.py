import csv
import hashlib
import json
import logging
import os

import numpy as np
import pytest

from l2d_jax import data
from l2d_jax.data import DataError, annwithattitudes, hs_brexit, jigsaw, keswani_mturk


def error_line(call, *args, **kwargs):
    with pytest.raises(DataError) as caught:
        call(*args, **kwargs)
    line = str(caught.value)
    assert "\n" not in line
    return line


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_csv(path, header, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
    return path


def assert_arrays(found, **expected):
    for field, values in expected.items():
        array = getattr(found, field)
        np.testing.assert_array_equal(array, values, err_msg=field)
        assert array.dtype == (np.float32 if field == "similarity" else np.int32)


# ---------------------------------------------------------------- make_annotated

ROWS = [  # Item, annotator and answer. Item 1 and annotator "dan" have none.
    (2, "cem", 1),
    (0, "ann", "0"),
    (0, "bob", 1.0),
    (2, "ann", "1.0"),
    (0, "cem", True),
]


def make(given=ROWS, **changes):
    items, annotators, answers = zip(*given, strict=True) if given else ((), (), ())
    fields = {
        "texts": ["x", "y", "z"],
        "categories": [1, 0, 1],
        "category_names": ["none", "some"],
        "annotator_names": ["dan", "ann", "bob", "cem"],
        "pools": [0, 1, 0, 0],
        "pool_names": ["near", "far"],
        "similarity": [[1, 1], [0, 0.5], [0, 0], [1, 0]],
        "labels": [0, 1, -1],
        "source": "study",
    }
    columns = {"items": items, "annotators": annotators, "answers": answers}
    return data.make_annotated(**{**fields, **columns, **changes})


def test_answers_become_a_matrix_of_who_and_what_is_left():
    found = make()
    assert_arrays(
        found,
        answers=[[0, 1, 1], [1, -1, 1]],
        labels=[0, -1],
        categories=[1, 1],
        similarity=[[0, 0.5], [0, 0], [1, 0]],
        pools=[1, 0, 0],
    )
    assert found.texts == ("x", "z")
    assert found.annotator_names == ("ann", "bob", "cem")
    # Nothing is left of category "none"; it stays.
    assert found.category_names == ("none", "some")
    assert found.pool_names == ("near", "far")
    assert (found.num_skipped, found.num_silent, found.num_repeats) == (1, 1, 0)


def test_first_answer_stays_and_what_is_left_out_is_counted_once(caplog):
    rows = [*ROWS, (0, "ann", 1), (2, "cem", 0), ("0.0", " ann ", 1)]
    with caplog.at_level(logging.INFO, logger="l2d_jax"):
        found = make(rows)
    np.testing.assert_array_equal(found.answers, make().answers)
    assert found.num_repeats == 3
    assert caplog.messages == [
        "study: 1 items left out about which nobody answered",
        "study: 1 annotators left out who answered nothing",
        "study: 3 repeated answers left out; of each annotator's answers to the same "
        "item the first stays",
    ]


def test_dense_matrix_goes_in_and_comes_out():
    matrix = np.array([[0, -1, 1], [1, 0, -1]])
    items, annotators = (matrix >= 0).nonzero()
    found = data.make_annotated(
        ["x", "y"],
        items,
        annotators,
        matrix[items, annotators],
        categories=np.array([0, 0]),
        category_names=["all"],
        annotator_names=np.arange(3),
        pools=np.zeros(3),
        pool_names=["crowd"],
        similarity=np.ones((3, 1)),
        source="mine",
    )
    assert_arrays(found, answers=matrix, labels=[-1, -1])
    assert found.annotator_names == ("0", "1", "2")


def test_order_of_the_rows_does_not_matter():
    for array, expected in zip(make(ROWS[::-1]), make(), strict=True):
        np.testing.assert_array_equal(array, expected)


@pytest.mark.parametrize("item", [-1, 3, 0.5, "x\ny", None, float("nan")])
def test_item_out_of_range_is_named_with_its_row(item):
    line = error_line(make, [ROWS[0], (item, "ann", 0)])
    assert line == (
        f"study, row 2 (the header not counted): item {str(item)!r} is not a whole "
        "number in [0, 3); correct the row or leave it out"
    )


@pytest.mark.parametrize("answer", [-1, 2, 0.5, "yes", "", None, float("nan")])
def test_answer_out_of_range_is_named_with_its_row(answer):
    line = error_line(make, [(0, "ann", answer)], rows=[17])
    assert line == (
        f"study, row 17 (the header not counted): answer {str(answer)!r} is neither 0 "
        "nor 1; correct the row or leave it out"
    )


@pytest.mark.parametrize("name", ["eve", "", None, float("nan")])
def test_unknown_annotator_is_named_with_the_row(name):
    line = error_line(make, [(0, "ann", 1), (2, name, 1)])
    assert line.startswith("study, row 2 (the header not counted): annotator ")
    assert f"{str(name)!r} is not among annotator_names" in line


def test_repeats_are_checked_too():
    assert "answer '2'" in error_line(make, [(0, "ann", 1), (0, "ann", 2)])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"categories": [1, 2, 1]}, "categories[1] is '2', not a whole number in [0, "),
        ({"categories": [-1, 0, 1]}, "categories[0] is '-1'"),
        ({"labels": [0, 2, 1]}, "labels[1] is '2', not a whole number in [-1, 2)"),
        ({"labels": [0, 0.5, 1]}, "labels[1] is '0.5'"),
        ({"pools": [0, 0, 1, 2]}, "pools[3] is '2', not a whole number in [0, 2)"),
        ({"texts": ["x", float("nan"), "z"]}, "texts[1] is nan, which is no text"),
        ({"pool_names": ["near", "near"]}, "in pool_names, 'near', appears 2 times"),
        ({"category_names": ["", "b"]}, "in category_names, '', is empty"),
        (
            {"annotator_names": ["ann", "bob", "ann ", "dan"]},
            "in annotator_names, 'ann', appears 2 times",
        ),
    ],
)
def test_bad_facts_are_named(changes, message):
    line = error_line(make, **changes)
    assert line.startswith("study: ")
    assert message in line


@pytest.mark.parametrize("value", [1.5, -0.1, float("nan")])
def test_similarity_out_of_range_is_named(value):
    line = error_line(make, similarity=[[0, 0], [1, 1], [0, value], [1, 1]])
    assert line == (
        f"study: similarity of annotator 'bob' to category 'some' is {value}: scale it "
        "to [0, 1]"
    )


def test_nothing_left_out_is_no_news(caplog):
    with caplog.at_level(logging.INFO, logger="l2d_jax"):
        make([*ROWS, (1, "dan", 0)])
    assert not caplog.records


def test_no_answer_at_all_is_an_error():
    assert error_line(make, []) == "study holds no answer: get the whole file"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"answers": [1]}, r"items, annotators, answers and rows .* \[5, 5, 1, 5\]"),
        ({"rows": [1]}, r"items, annotators, answers and rows .* \[5, 5, 5, 1\]"),
        ({"labels": [1]}, r"texts, categories and labels .* \[3, 3, 1\]"),
        ({"pools": [1]}, r"annotator_names and pools .* \[4, 1\]"),
        ({"similarity": [[1, 1]]}, r"similarity must be \[P, Z\] = \[4, 2\], not \[1"),
    ],
)
def test_columns_must_be_of_one_length(changes, message):
    with pytest.raises(ValueError, match=message):
        make(**changes)


# ---------------------------------------------------------------- subjective_labels


def test_subjective_label_is_the_majority_of_who_is_similar():
    answers = [  # The first three are similar to category 0, the last to category 1.
        [1, 1, 0, 0],  # Category 0: two of three.
        [1, 0, 0, 1],  # Category 0: one of three.
        [1, 0, -1, 1],  # Category 0: a tie.
        [-1, -1, -1, 1],  # Category 0: nobody similar answered.
        [0, 0, 0, 1],  # Category 1: against the majority of all.
        [1, 1, 1, 1],  # Category 2: nobody is similar.
    ]
    matrix = np.array(answers)
    items, annotators = (matrix >= 0).nonzero()
    similarity = [[1, 0, 0], [0.1, 0, 0], [1, 0, 0], [0, 1, 0]]
    annotated = data.make_annotated(
        list("abcdef"),
        items,
        annotators,
        matrix[items, annotators],
        categories=[0, 0, 0, 0, 1, 2],
        category_names=["c0", "c1", "c2"],
        annotator_names=range(4),
        pools=[0] * 4,
        pool_names=["crowd"],
        similarity=similarity,
        source="mine",
    )
    found = data.subjective_labels(annotated)
    np.testing.assert_array_equal(found, [1, 0, -1, -1, 1, -1])
    assert found.dtype == np.int32
    # Annotators have no order.
    order = np.array([2, 0, 3, 1])
    permuted = annotated._replace(
        answers=annotated.answers[:, order], similarity=annotated.similarity[order]
    )
    np.testing.assert_array_equal(data.subjective_labels(permuted), found)


# ---------------------------------------------------------------- Keswani's crowd


@pytest.fixture
def small_mturk(tmp_path, monkeypatch):
    """Writes a file of two workers, and has the loader expect it."""
    path = tmp_path / keswani_mturk._PLACE
    monkeypatch.setattr(keswani_mturk, "_WORKERS", ("Expert 1", "Expert 2"))

    def write(rows, header=("", "Tweet", "True Label", "Dialect", "Expert 1")):
        write_csv(path, [*header, "Expert 2"], rows)
        monkeypatch.setattr(keswani_mturk, "_SHA256", sha256(path))
        return path

    return write


def test_keswani_mturk_leaves_out_who_was_not_asked(small_mturk, tmp_path):
    rows = [
        [0, "first, and so on", 1, 1, 0, "-"],
        [1, "nobody was asked", 0, 0, "-", "-"],
        [2, "last", 0, 0, 1, "-"],
    ]
    small_mturk(rows)
    found = data.load_keswani_mturk(tmp_path)
    assert found.texts == ("first, and so on", "last")
    assert_arrays(
        found,
        answers=[[0], [1]],
        labels=[1, 0],
        categories=[1, 0],
        similarity=[[1, 1]],
        pools=[0],
    )
    assert found.annotator_names == ("Expert 1",)
    assert found.category_names == ("other", "aae")
    assert (found.num_skipped, found.num_silent) == (1, 1)


def test_keswani_mturk_names_what_is_wrong(small_mturk, tmp_path):
    path = small_mturk([[0, "a", 1, 1, 0, "-"], [1, "b", 1, 1, 0, 3]])
    line = error_line(data.load_keswani_mturk, tmp_path)
    assert line.startswith(f"{path}, row 2 (the header not counted): answer '3'")
    small_mturk([], header=("", "Tweet", "Label", "Dialect", "Expert 1"))
    line = error_line(data.load_keswani_mturk, tmp_path)
    assert line.startswith(f"{path} has no column True Label (it has ")


# ---------------------------------------------------------------- attitudes

ATTITUDES = [*annwithattitudes._POST, "toany", *annwithattitudes._PROFILE]
NEITHER, BOTH = ("True", "False", "False"), ("False", "True", "True")
BLACK = [*"1234512", "30.0", "woman", "none", "-0.5", "black"]
WHITE = [*"1234512", "30.0", "woman", "none", "-0.5", "white"]
OTHER = [*"1234512", "", "na", "", "-0.5", "hisp"]


@pytest.fixture
def small_attitudes(tmp_path, monkeypatch):
    """Writes a file, and has the loader expect it."""

    def write(rows, header=ATTITUDES):
        path = write_csv(tmp_path / annwithattitudes._PLACE, header, rows)
        monkeypatch.setattr(annwithattitudes, "_SHA256", sha256(path))
        return path

    return write


def test_annwithattitudes_makes_annotators_of_profiles(small_attitudes, tmp_path):
    rows = [
        ["9", "mild", *NEITHER, "3", *WHITE],
        ["4", "harsh", *BOTH, "5", *BLACK],
        ["9", "mild", *NEITHER, "2", *BLACK],
        ["4", "harsh", *BOTH, "1", *WHITE],
        ["4", "harsh", *BOTH, "4", *WHITE],  # Again: the first stays.
        ["4", "harsh", *BOTH, "4", *OTHER],
    ]
    small_attitudes(rows)
    found = data.load_annwithattitudes(tmp_path)
    assert found.texts == ("mild", "harsh")
    assert_arrays(
        found,
        answers=[[1, 0, -1], [0, 1, 1]],
        labels=[1, 0],
        categories=[0, 3],
        pools=[1, 0, 2],
        similarity=[[1, 0, 0, 0], [1, 1, 1, 1], [1, 0, 0, 0]],
    )
    assert found.annotator_names == ("profile_000", "profile_001", "profile_002")
    assert found.category_names == ("neither", "aae", "targets_black", "both")
    assert found.pool_names == ("black", "white", "other")
    assert found.num_repeats == 1
    strict = data.load_annwithattitudes(tmp_path, threshold=5)
    np.testing.assert_array_equal(strict.answers, [[0, 0, -1], [0, 1, 0]])


@pytest.mark.parametrize(
    ("flags", "category"), [(("True", "False"), 1), (("False", "True"), 2)]
)
def test_annwithattitudes_tells_dialect_and_target_apart(
    small_attitudes, tmp_path, flags, category
):
    small_attitudes([["9", "text", "True", *flags, "3", *BLACK]])
    found = data.load_annwithattitudes(tmp_path)
    np.testing.assert_array_equal(found.categories, [category])


def test_annwithattitudes_names_what_is_wrong(small_attitudes, tmp_path):
    for threshold in (1, 6):
        with pytest.raises(ValueError, match=r"threshold must be in \[2, 5\], not "):
            data.load_annwithattitudes(tmp_path, threshold=threshold)
    path = small_attitudes([], header=ATTITUDES[:-1])
    line = error_line(data.load_annwithattitudes, tmp_path)
    assert line.startswith(f"{path} has no column annotatorRace (it has ")


# ---------------------------------------------------------------- HS-Brexit


def tweet(text, answers, annotators="Ann1,Ann2,Ann3", group="control group"):
    info = {
        "annotators group": "group1,group2,group1",
        "group1": "target group",
        "group2": group,
    }
    fields = {"annotations": answers, "annotators": annotators, "other_info": info}
    return {"text": text, **fields}


@pytest.fixture
def small_brexit(tmp_path, monkeypatch):
    """Writes the three files, and has the loader expect them."""

    def write(*parts):
        files = {}
        for place, tweets in zip(hs_brexit._FILES, parts, strict=True):
            path = tmp_path / place
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps({str(i): t for i, t in enumerate(tweets, 1)}))
            files[place] = sha256(path)
        monkeypatch.setattr(hs_brexit, "_FILES", files)

    return write


def test_hs_brexit_joins_train_dev_and_test(small_brexit, tmp_path):
    # In the last tweet the annotators come in another order.
    small_brexit(
        [tweet("a", "0,1,0"), tweet("b", "1,0,0")],
        [tweet("c", "0,0,0")],
        [tweet("d", "1,0,0", annotators="Ann3,Ann2,Ann1")],
    )
    found = data.load_hs_brexit(tmp_path)
    assert found.texts == ("a", "b", "c", "d")
    assert_arrays(
        found,
        answers=[[0, 1, 0], [1, 0, 0], [0, 0, 0], [0, 0, 1]],
        labels=[-1] * 4,
        categories=[0] * 4,
        pools=[0, 1, 0],
        similarity=[[1], [0], [1]],
    )
    assert found.pool_names == ("target", "control")
    assert found.annotator_names == ("Ann1", "Ann2", "Ann3")
    np.testing.assert_array_equal(data.subjective_labels(found), [0, -1, 0, -1])


@pytest.mark.parametrize(
    ("dev", "person"),
    [
        (tweet("c", "0,0,0", group="other group"), "Ann2"),  # No group of the study.
        (tweet("c", "0,0,0", annotators="Ann2,Ann1,Ann3"), "Ann2"),  # Another one.
    ],
)
def test_hs_brexit_names_a_wrong_group(small_brexit, tmp_path, dev, person):
    small_brexit([tweet("a", "0,1,0")], [dev], [])
    line = error_line(data.load_hs_brexit, tmp_path)
    place = "toxicity/hs_brexit/HS-Brexit_dev.json"
    assert line.startswith(f"{tmp_path / place}, tweet 1: annotator {person!r} is of ")


def test_damaged_hs_brexit_gives_one_line(small_brexit, tmp_path):
    small_brexit([tweet("a", "0,1,0")], [tweet("b", "0,1,0")], [tweet("c", "0,1,0")])
    path = tmp_path / "toxicity/hs_brexit/HS-Brexit_test.json"
    os.truncate(path, 20)
    line = error_line(data.load_hs_brexit, tmp_path)
    assert line.startswith(f"{path} is damaged or another version")
    assert "data_post-competition.zip of github.com/Le-Wi-Di/" in line


@pytest.mark.parametrize(
    ("load", "module", "place"),
    [
        (data.load_keswani_mturk, keswani_mturk, keswani_mturk._PLACE),
        (data.load_annwithattitudes, annwithattitudes, annwithattitudes._PLACE),
        (data.load_hs_brexit, hs_brexit, next(iter(hs_brexit._FILES))),
    ],
)
def test_other_content_is_refused(tmp_path, load, module, place):
    path = tmp_path / place
    path.parent.mkdir(parents=True)
    path.write_text("{}")
    line = error_line(load, tmp_path)
    assert line.startswith(f"{path} is damaged or another version")
    assert module._REMEDY in line


# ---------------------------------------------------------------- Jigsaw

COMMENTS = ["id", "comment_text", "male", *jigsaw._FRACTIONS]
POOLS = ["id", "unique_contributor_id", "identity_attack", "toxic_score", "rater_group"]


def comment(number, text, attack="0.0", black="0.0", lgbtq=("0.0",) * 5):
    return [number, text, "", attack, black, *lgbtq]


TRAIN = [
    comment(59, "not rated"),
    comment(70, "both, and\nan attack", "0.5", "0.2", ("", "", "0.1", "0", "0")),
    comment(71, "about Black people", "0.49", "1.0"),
    comment(72, "about nobody"),
    comment(73, "nobody was asked", "0.9", "", ("",) * 5),
]
RATINGS = [
    [71, 8, "-1.0", -2, "African American"],
    [71, 9, "0.0", -1, "Control"],
    [70, 8, "1.0", 1, "AA"],
    [70, 5, "-1.0", 1, "LGBTQ"],
    [70, 6, "", "", "LGBTQ"],  # Gave no answer here.
    [72, 6, "0.0", 0, "LGBTQ"],
    [73, 4, "-1.0", -1, "Control"],  # Of nothing but this.
    [99, 9, "-1.0", -1, "Control"],  # Not in the comments.
]


@pytest.fixture
def small_jigsaw(tmp_path):
    """Writes the two files."""

    def write(train=TRAIN, ratings=RATINGS, columns=COMMENTS, pool_columns=POOLS):
        return (
            write_csv(tmp_path / jigsaw._COMMENTS, columns, train),
            write_csv(tmp_path / jigsaw._POOLS, pool_columns, ratings),
        )

    return write


def test_jigsaw_joins_comments_and_raters(small_jigsaw, tmp_path, caplog):
    _, pools = small_jigsaw()
    with caplog.at_level(logging.INFO, logger="l2d_jax"):
        found = data.load_jigsaw(tmp_path)
    assert found.texts == ("about Black people", "both, and\nan attack", "about nobody")
    assert found.annotator_names == ("AA 8", "Control 9", "LGBTQ 5", "LGBTQ 6")
    assert_arrays(
        found,
        answers=[[1, 0, -1, -1], [0, -1, 1, -1], [-1, -1, -1, 0]],
        labels=[0, 1, 0],
        categories=[1, 0, 2],
        pools=[1, 2, 0, 0],
        similarity=[[0, 1, 0], [0, 0, 1], [1, 0, 0], [1, 0, 0]],
    )
    assert found.category_names == found.pool_names == ("LGBTQ", "AA", "Control")
    assert (found.num_skipped, found.num_silent, found.num_repeats) == (2, 1, 0)
    np.testing.assert_array_equal(data.subjective_labels(found), [1, 1, -1])
    assert caplog.messages == [
        f"{pools}: 1 comments left out: they are not in {tmp_path / jigsaw._COMMENTS}",
        f"{pools}: 1 comments left out: nobody was asked which identities they mention",
        f"{pools}: 1 annotators left out who answered nothing",
    ]


def test_jigsaw_counts_comments_without_an_answer_as_skipped(small_jigsaw, tmp_path):
    small_jigsaw(ratings=[*RATINGS[:4], [72, 6, "", "", "LGBTQ"]])
    found = data.load_jigsaw(tmp_path)
    assert len(found.texts) == 2
    assert (found.num_skipped, found.num_silent) == (1, 1)


def test_jigsaw_files_may_be_elsewhere(small_jigsaw, tmp_path):
    comments, pools = small_jigsaw()
    inside = data.load_jigsaw(tmp_path)
    comments = comments.rename(tmp_path / "all_data.csv")
    pools = str(pools.rename(tmp_path / "pools.csv"))
    found = data.load_jigsaw(comments_file=comments, pools_file=pools)
    for array, expected in zip(found, inside, strict=True):
        np.testing.assert_array_equal(array, expected)


def test_jigsaw_finds_columns_by_name(small_jigsaw, tmp_path):
    small_jigsaw()
    expected = data.load_jigsaw(tmp_path)
    small_jigsaw(
        [row[::-1] for row in TRAIN],
        [row[::-1] for row in RATINGS],
        COMMENTS[::-1],
        POOLS[::-1],
    )
    np.testing.assert_array_equal(data.load_jigsaw(tmp_path).answers, expected.answers)


@pytest.mark.parametrize(
    ("changes", "which", "message"),
    [
        ({"columns": [*COMMENTS[:-1], "x"]}, 0, " has no column other_sexual_orient"),
        ({"pool_columns": [*POOLS[:-1], "x"]}, 1, " has no column rater_group (it "),
        (
            {"ratings": [*RATINGS[:2], [70, 5, "1.0", 1, "lgbtq"]]},
            1,
            ", row 3 (the header not counted): rater_group 'lgbtq' is none of LGBTQ, ",
        ),
        (
            {"ratings": [[70, 5, "2.0", 1, "AA"]]},
            1,
            ", row 1 (the header not counted): identity_attack '2.0' is none of -1, ",
        ),
        (
            {"train": [*TRAIN, TRAIN[2]]},
            0,
            ", row 6 (the header not counted): id '71' appears twice",
        ),
        (
            {"train": [comment(71, "x", black="many")]},
            0,
            ", row 1 (the header not counted): black 'many' is not a number in [0, 1]",
        ),
        (
            {"train": [comment(71, "x", attack="1.5")]},
            0,
            ", row 1 (the header not counted): identity_attack '1.5' is not a number",
        ),
        (
            {"train": [TRAIN[0], [71, "cut"]]},
            0,
            ", row 2 (the header not counted) has 2 fields and the header 10: get ",
        ),
        ({"train": TRAIN[:1]}, 0, " holds none of the 5 comments of "),
    ],
)
def test_jigsaw_names_what_is_wrong(small_jigsaw, tmp_path, changes, which, message):
    path = small_jigsaw(**changes)[which]
    line = error_line(data.load_jigsaw, tmp_path)
    assert line.startswith(f"{path}{message}")
    assert "kaggle.com/" in line


def test_jigsaw_without_an_answer_is_an_error(small_jigsaw, tmp_path):
    _, path = small_jigsaw(ratings=[[70, 5, "", "", "AA"]])
    line = error_line(data.load_jigsaw, tmp_path)
    assert line == f"{path} holds no answer: get the whole file"


def test_missing_jigsaw_says_where_to_get_it(small_jigsaw, tmp_path):
    path = tmp_path / jigsaw._COMMENTS
    line = error_line(data.load_jigsaw, tmp_path)
    assert line.startswith(f"{path} is missing: get train.csv of kaggle.com/c/jigsaw-")
    small_jigsaw()
    missing = tmp_path / "missing.csv"
    line = error_line(data.load_jigsaw, tmp_path, pools_file=missing)
    assert line.startswith(f"{missing} cannot be read (FileNotFoundError: ")
    assert "get specialized_rater_pools_data.csv of kaggle.com/datasets/" in line
    missing.write_bytes(b"\xff\xfe\xfa")
    line = error_line(data.load_jigsaw, tmp_path, pools_file=missing)
    assert line.startswith(f"{missing} cannot be read (UnicodeDecodeError: ")


# ---------------------------------------------------------------- the real ones


def pool_answers(annotated, pool):
    members = annotated.pools == annotated.pool_names.index(pool)
    return annotated.answers[:, members]


@pytest.mark.real_data(keswani_mturk._PLACE)
def test_real_keswani_mturk():
    found = data.load_keswani_mturk()
    assert found.answers.shape == (1471, 170)
    assert (found.num_skipped, found.num_silent, found.num_repeats) == (0, 6, 0)
    asked = found.answers >= 0
    assert asked.sum() == 12_408
    assert (asked.sum(axis=1).min(), asked.sum(axis=1).max()) == (4, 24)
    np.testing.assert_array_equal(np.bincount(found.categories), [744, 727])
    np.testing.assert_array_equal(np.bincount(found.labels), [488, 983])
    right = (found.answers == found.labels[:, np.newaxis])[asked]
    assert right.sum() == 9591  # 77.3 %.
    # Which dialect is which: a word that one of them spells its own way.
    spelled = np.array(["nigga" in text.lower() for text in found.texts])
    np.testing.assert_array_equal(np.bincount(found.categories[spelled]), [18, 168])


@pytest.mark.real_data(annwithattitudes._PLACE)
def test_real_annwithattitudes():
    found = data.load_annwithattitudes()
    assert found.answers.shape == (627, 265)
    assert (found.num_skipped, found.num_silent, found.num_repeats) == (0, 0, 7)
    asked = found.answers >= 0
    assert asked.sum() == 3463 - 7
    assert (asked.sum(axis=1).min(), asked.sum(axis=1).max()) == (3, 6)
    np.testing.assert_array_equal(np.bincount(found.categories), [188, 270, 113, 56])
    np.testing.assert_array_equal(np.bincount(found.pools), [71, 185, 9])
    np.testing.assert_array_equal(np.bincount(found.labels), [239, 388])
    assert np.sum(pool_answers(found, "black") >= 0) == 1133
    assert np.all(found.labels[found.categories >= 2] == 1)


@pytest.mark.real_data(*hs_brexit._FILES)
def test_real_hs_brexit():
    found = data.load_hs_brexit()
    assert found.answers.shape == (1120, 6)
    assert (found.num_skipped, found.num_silent, found.num_repeats) == (0, 0, 0)
    assert np.all(found.answers >= 0)
    assert np.all(found.labels == -1)
    rates = 100 * found.answers.mean(axis=0)
    np.testing.assert_allclose(
        rates, [4.5, 5.4, 6.3, 20.4, 24.5, 16.5], rtol=0, atol=0.05
    )
    np.testing.assert_array_equal(found.pools, [0, 0, 0, 1, 1, 1])
    # Three people never tie.
    labels = data.subjective_labels(found)
    target = pool_answers(found, "target")
    np.testing.assert_array_equal(labels, target.sum(axis=1) >= 2)
    assert labels.sum() == 48
