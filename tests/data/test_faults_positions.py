"""Columns are paired by position, and what is missing is nobody."""

import numpy as np
import pandas as pd
import pytest

from l2d_jax.data import DataError, make_annotated, make_answers
from l2d_jax.data.tabular import make_tabular, split_rows, standardize

INDICES = {
    "shuffled": np.random.default_rng(0).permutation(20),
    "filtered": np.arange(20) * 3 + 7,
    "duplicated": np.zeros(20, int),
}
MISSING = [None, np.nan, pd.NA, pd.NaT, "", "  "]


@pytest.mark.parametrize("index", INDICES.values(), ids=list(INDICES))
def test_tabular_pairs_by_position(index):
    x = np.arange(20.0)
    frame = pd.DataFrame({"x": x, "y": x % 2, "g": x // 2 % 2}, index=index)
    rows = split_rows(20, seed=0)
    table = make_tabular(
        standardize(frame[["x"]], rows[0]),
        frame.y,
        frame.g,
        frame[["x"]],
        frame.y == 1,
        rows,
        feature_names=pd.Series(["x"], index=[5]),
        group_name="g",
        name="mine",
        expert_probs=frame.y,
    )
    expected = standardize(x[:, None], rows[0]).astype(np.float32)
    for part, seen, flag, mine in zip(
        table[:3], table.extra, table.unreliable, rows, strict=True
    ):
        np.testing.assert_array_equal(part.inputs, expected[mine])
        np.testing.assert_array_equal(part.labels, mine % 2)
        np.testing.assert_array_equal(part.groups, mine // 2 % 2)
        np.testing.assert_array_equal(part.expert_labels[:, 0], mine % 2)
        np.testing.assert_array_equal(seen[:, 0], mine)
        np.testing.assert_array_equal(flag, mine % 2 == 1)


def annotated(**changes):
    columns = {
        "texts": [f"t{i}" for i in range(20)],
        "items": np.arange(20),
        "annotators": [f"w{i % 3}" for i in range(20)],
        "answers": np.arange(20) % 2,
        "categories": np.arange(20) % 2,
        "category_names": ["c0", "c1"],
        "annotator_names": ["w0", "w1", "w2"],
        "pools": [0, 0, 1],
        "pool_names": ["p0", "p1"],
        "similarity": np.arange(6).reshape(3, 2) / 10,
        "source": "mine",
        "labels": np.arange(20) % 3 - 1,
        "rows": np.arange(20),
    } | changes
    return make_annotated(columns.pop("texts"), **columns)


@pytest.mark.parametrize("index", INDICES.values(), ids=list(INDICES))
def test_annotated_pairs_by_position(index):
    plain = annotated()
    names = ("texts", "items", "annotators", "answers", "categories", "labels", "rows")
    lists = {
        "texts": [f"t{i}" for i in range(20)],
        "annotators": [f"w{i % 3}" for i in range(20)],
        "items": np.arange(20),
        "answers": np.arange(20) % 2,
        "categories": np.arange(20) % 2,
        "labels": np.arange(20) % 3 - 1,
        "rows": np.arange(20),
    }
    changes = {name: pd.Series(lists[name], index=index) for name in names}
    three = pd.Series(["w0", "w1", "w2"], index=[2, 0, 1])
    changes |= {"annotator_names": three, "pools": pd.Series([0, 0, 1], [1, 2, 0])}
    changes["category_names"] = pd.Series(["c0", "c1"], index=[1, 0])
    found = annotated(**changes)
    for ours, theirs in zip(found, plain, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("index", INDICES.values(), ids=list(INDICES))
def test_answers_pair_by_position(index):
    ids, labels = [f"w{i % 3}" for i in range(20)], np.arange(20) % 2
    plain = make_answers(ids, np.arange(20), labels, 20, 2, "mine")
    columns = (pd.Series(column, index) for column in (ids, np.arange(20), labels))
    for ours, theirs in zip(make_answers(*columns, 20, 2, "mine"), plain, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("missing", MISSING, ids=[repr(value) for value in MISSING])
def test_nobody_is_called_nan(missing):
    people = ["w0", missing, "w2"]
    short = {
        "items": [0, 1, 2],
        "answers": [1, 0, 1],
        "rows": None,
        "annotators": ["w0", "w1", "w2"],
    }
    for as_given in (people, pd.Series(people, dtype=object)):
        with pytest.raises(DataError, match=r"row 2 .* not among annotator_names"):
            annotated(**short | {"annotators": as_given})
        with pytest.raises(DataError, match=r"annotator_names.* missing in row 1"):
            annotated(**short | {"annotator_names": as_given})
        with pytest.raises(DataError, match=r"row 2 .*identifier is missing"):
            make_answers(as_given, [0, 1, 2], [0, 1, 1], 3, 2, "mine")
    with pytest.raises(DataError, match=r"row 2 .*item .* is not a whole number"):
        annotated(**short | {"items": [0, missing, 2]})
    categories = np.zeros(20, object)
    categories[4] = missing
    with pytest.raises(DataError, match=r"categories\[4\]"):
        annotated(categories=categories)
    with pytest.raises(DataError, match=r"category_names.* missing in row 1"):
        annotated(category_names=["c0", missing])
    with pytest.raises(DataError, match=r"pool_names.* missing in row 0"):
        annotated(pool_names=[missing, "p1"])


def test_a_column_has_one_axis():
    with pytest.raises(ValueError, match="annotators must be one value a row"):
        annotated(annotators=pd.DataFrame({"w": ["w0"] * 20}))
    with pytest.raises(ValueError, match="ids must be one value a row, not a str"):
        make_answers("abc", [0, 1, 2], [0, 0, 0], 3, 2, "mine")


@pytest.mark.parametrize("field", ["labels", "groups", "unreliable"])
@pytest.mark.parametrize(
    "missing", [None, np.nan, pd.NA, "", "1"], ids=["None", "NaN", "NA", "empty", "1"]
)
def test_a_missing_group_is_none(field, missing):
    columns = {name: np.arange(20) % 2 for name in ("labels", "groups", "unreliable")}
    column = columns[field].astype(object)
    column[3] = missing
    with pytest.raises(DataError, match=rf"{field} must be 0 or 1.* row 3 on"):
        make_tabular(
            np.arange(20.0)[:, None],
            **columns | {field: column},
            extra=np.zeros((20, 0)),
            rows=split_rows(20, seed=0),
            feature_names=["x"],
            group_name="g",
            name="mine",
        )
