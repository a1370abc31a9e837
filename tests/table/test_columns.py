"""Columns as numbers: which kind each is, its statistics, and what is refused."""

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.preprocessing import StandardScaler

from l2d_jax.table.cases import make_cases
from l2d_jax.table.columns import (
    encode,
    fit_encoder,
    from_arrays,
    plan_columns,
    read_numbers,
    to_arrays,
)
from l2d_jax.table.reading import read_table

WORDS = ["cough and fever", "fever at night", "pain in the chest", "chest pain, cough"]


def plan_of(values, **how):
    return plan_columns(pd.DataFrame({"x": values}), **how).columns[0]


def encoded(values, fitted=None, **how):
    frame = pd.DataFrame({"x": values})
    base = frame if fitted is None else pd.DataFrame({"x": fitted})
    return encode(fit_encoder(plan_columns(base, **how), base), frame)


def mixed(num_rows=60, seed=0):
    rng = np.random.default_rng(seed)
    age = rng.normal(50, 10, num_rows).round(2).astype(str).astype(object)
    age[::7] = None
    return pd.DataFrame(
        {
            "age": age,
            "site": rng.choice(["north", "south", "west"], num_rows).astype(object),
            "day": [f"2026-01-{1 + n % 28:02d}" for n in range(num_rows)],
            "note": [WORDS[n % 4] for n in rng.permutation(num_rows)],
            "constant": "same",
            "record": [f"id {n}" for n in range(num_rows)],
        }
    )


@pytest.mark.parametrize(
    ("values", "kind", "reason"),
    [
        (["1", "2.5", None], "number", "all numbers"),
        (["1e3", "-2", "+3"], "number", "all numbers"),
        ([True, False, None], "number", "all numbers"),
        (pd.array([1, None], dtype="Int64"), "number", "all numbers"),
        (pd.array([0.5, None], dtype="Float32"), "number", "all numbers"),
        (pd.array([True, None], dtype="boolean"), "number", "all numbers"),
        ([12345678901234567890123, 1], "number", "all numbers"),
        (["2026-01-02", "2026-02-03T04:05", None], "date", "all dates"),
        (["2026-01-02", "9999-12-31", "0001-01-01T00:00+02:00"], "date", "all dates"),
        (pd.to_datetime(["2026-01-02", None]), "date", "all dates"),
        (pd.to_datetime(["2026-01-02", "2026-01-03"], utc=True), "date", "all dates"),
        (["a"] * 6 + ["b"] * 6, "category", "2 different texts"),
        (pd.Categorical(["a"] * 6 + ["b"] * 6), "category", "2 different texts"),
        (pd.array(["a"] * 6 + [None], dtype="string"), "category", "1 different"),
        (["007"] * 6 + ["012"] * 6, "category", "2 different codes"),
        (["7", "07", "45"], "number", "all numbers"),
        (["01"] * 6 + ["3A"], "category", "2 different codes"),
        (["0.5", "00.5"], "left out", "every cell is the same"),
        (["1"] * 6 + ["3A"] * 6, "category", "2 different texts"),
        ([f"id {n}" for n in range(30)], "left out", "no value is in 5 rows"),
        ([f"id {n}" for n in range(300)], "left out", "value of its own"),
        (["a"] * 5, "left out", "every cell is the same"),
        (["1", "1.0"], "left out", "every cell is the same"),
        ([0.3, 3 * 0.1, 0.3], "left out", "the same to nine digits"),
        ([str(2**53 + n) for n in range(20)], "left out", "the same to nine digits"),
        (["1", "2.5", "n/a", "#N/A", "none", "NULL"], "number", "all numbers"),
        (["1"] * 6 + ["a", "b", "c", "d"] * 2, "category", "5 different texts"),
        (["2026-01-01", "2026-01-01T00:00"], "left out", "every cell is the same"),
        ([None, np.nan], "left out", "every cell is missing"),
        (["NA", "nan", ""], "left out", "every cell is missing"),
    ],
)
def test_kinds(values, kind, reason):
    column = plan_of(values)
    assert column.kind == kind
    assert reason in column.reason
    assert column.missing == any(pd.isna(v) or v in ("NA", "", "n/a") for v in values)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (["1"] * 19 + ["?"], r"numbers, but for 1 cells such as '\?' in row 20"),
        (["2026-01-01"] * 19 + ["?"], r"dates, but for 1 cells such as '\?' in row 20"),
        (
            ["1", "2", "-"] * 9,
            r"numbers, but for 9 cells such as '-' in row 3; .* a cat",
        ),
        (["<5", "6", ">9", "7", "8"], "numbers, but for 2 cells such as '<5' in row 1"),
        (["2026-01-01"] * 3 + ["unknown"], "dates, but for 1 cells such as 'unknown'"),
        (["1,5", "2", "3,25"], "decimal comma, such as '1,5'; write them as 1234.56"),
        (["1,234", "15"], "decimal one or stands between thousands, such as '1,234'"),
        (["1,234", "15", "1,234.5"], "commas between thousands, such as '1,234.5'"),
        (["1,234,567", "1,234"], "commas between thousands, such as '1,234,567'"),
        (["1,234", "15", "1.234,5"], "points .* a decimal comma, such as '1.234,5'"),
        (["1.234.567", "15"], "points between thousands .* such as '1.234.567'"),
        (["1,5", "2,5", None], "decimal comma, such as '1,5'"),
        (["31/12/2026", "01/02/2026"], "dates such as '31/12/2026'; write them as"),
        (["31.12.2026 10:00"] * 2, "dates such as '31.12.2026 10:00'"),
        (["1", "1e39"], "'x' holds '1e39' in row 2, too large"),
        ([1.0, np.inf], "'x' holds 'inf' in row 2, too large"),
        (["-inf", "1", None], "'x' holds '-inf' in row 1, too large"),
        ([1e39, 1.0], r"'x' holds '1e\+39' in row 1, too large"),
    ],
)
def test_what_is_refused(values, says):
    with pytest.raises(ValueError, match=says) as caught:
        plan_of(values)
    assert "'x'" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_rows_are_those_of_the_table():
    frame = mixed()
    encoder = fit_encoder(plan_columns(frame), frame)
    frame.loc[40, "age"] = "old"
    with pytest.raises(ValueError, match=r"is to hold a number.* 'old' in row 41"):
        encode(encoder, frame.iloc[30:50])


def test_numbers_are_standardized_as_by_scikit_learn():
    x = np.random.default_rng(0).normal(1e4, 3, 100)
    found, notes = encoded([str(v) for v in x])
    right = StandardScaler().fit_transform(x[:, None])
    np.testing.assert_allclose(found, right, rtol=1e-5, atol=1e-6)
    assert found.dtype == np.float32
    assert notes == ()


def test_statistics_are_of_the_rows_that_are_fitted_to():
    frame = pd.DataFrame({"x": [1.0, 3.0, None, 100.0]})
    encoder = fit_encoder(plan_columns(frame), frame.iloc[:3])
    found, notes = encode(encoder, frame)
    np.testing.assert_allclose(found[:, 0], [-1, 1, 0, 10])
    np.testing.assert_allclose(found[:, 1], [0, 0, 1, 0])
    assert encoder.names == ("x", "x missing")
    assert len(notes) == 1
    assert "far from all" in notes[0] and "1 rows, such as '100'" in notes[0]


def test_missing_is_the_median():
    found, notes = encoded([0.0, 1.0, None, 8.0])
    # Mean 3, median 1.
    spread = np.std([0.0, 1.0, 8.0])
    np.testing.assert_allclose(found[2], [(1 - 3) / spread, 1], rtol=1e-6)
    found, notes = encoded([None], [0.0, 1.0, 8.0])
    np.testing.assert_allclose(found, [[(1 - 3) / spread]], rtol=1e-6)
    assert "blank in 1 rows and never was" in notes[0]


def test_rounding_does_not_explode():
    nearly = np.array([0.3, 3 * 0.1, 0.3, 0.3, 0.3001])
    frame = pd.DataFrame({"x": nearly})
    encoder = fit_encoder(plan_columns(frame), frame.iloc[:4])
    np.testing.assert_allclose(encode(encoder, frame)[0][:4], 0, atol=1e-12)
    np.testing.assert_allclose(encode(encoder, frame)[0][4], 1e-4, rtol=1e-3)
    # A small spread about a large value is no rounding.
    found, _ = encoded([1e8 + n for n in range(4)])
    np.testing.assert_allclose(found.std(), 1, rtol=1e-5)
    found, _ = encoded([1e38, 2e38, 3e38])
    np.testing.assert_allclose(found[:, 0], [-1.2247449, 0, 1.2247449], rtol=1e-6)
    found, _ = encoded([1e-30, 2e-30, 3e-30])
    np.testing.assert_allclose(found[:, 0], [-1.2247449, 0, 1.2247449], rtol=1e-6)


def test_what_is_far_is_cut_and_noted():
    found, notes = encoded(["1e30", "-1e30", "1"], ["0", "1", "2"])
    assert found[:, 0].tolist() == [10, -10, 0]
    assert len(notes) == 1
    assert "in 2 rows, such as '1e30'" in notes[0]


def test_another_unit_is_noted():
    """Within ten standard deviations, but nowhere that was fitted to."""
    found, notes = encoded(["171", "1.80", "165", None], ["1.5", "1.7", "45", "90"])
    assert np.abs(found).max() < 10
    _, note = notes  # The first is of the blank.
    assert note.startswith("Column 'x' is outside the range in which the team was")
    assert "fitted in 67 % of the rows that hold it, such as '171'" in note
    assert encoded(["171", "1.80"], ["1.5", "1.7", "45", "90"])[1] == ()


def test_categories():
    values = ["b"] * 6 + ["a"] * 5 + ["c"] * 4 + [None]
    frame = pd.DataFrame({"x": values})
    plan = plan_columns(frame)
    assert plan.columns[0].categories == ("a", "b", "(other)", "(missing)")
    encoder = fit_encoder(plan, frame)
    assert encoder.names == ("x = a", "x = b", "x = (other)", "x = (missing)")
    found, notes = encode(encoder, pd.DataFrame({"x": ["a", " b", "c", None, "zz"]}))
    np.testing.assert_array_equal(
        found,
        [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [0, 0, 1, 0]],
    )
    assert len(notes) == 1
    assert "'x' holds values in 2 rows" in notes[0] and "'c', 'zz'" in notes[0]


@pytest.mark.parametrize("typed", [str, int, float, "Int64"])
def test_numbers_that_are_names(typed):
    codes = pd.Series(np.repeat([3, 1, 20], 8))
    frame = pd.DataFrame({"region": codes.astype(typed), "size": codes.astype(float)})
    plan = plan_columns(frame, category=("region",))
    region, size = plan.columns
    assert region.kind == "category" and size.kind == "number"
    encoder = fit_encoder(plan, frame)
    encoded, _ = encode(encoder, frame)
    columns = [encoder.names.index(f"region = {code}") for code in (1, 3, 20)]
    is_code = codes.to_numpy()[:, None] == [1, 3, 20]
    np.testing.assert_array_equal(encoded[:, columns] > 0, is_code)
    # What was never seen is none of them, however near its number is.
    new, _ = encode(encoder, frame.assign(region=pd.Series([2] * 24).astype(typed)))
    assert not (new[:, columns] > 0).any()


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"category": ("regoin",)}, "category: there is no column 'regoin'.*'region'"),
        (
            {"category": ("region",), "text": ("region",)},
            "column 'region' is asked for as text and category",
        ),
    ],
)
def test_a_category_that_cannot_be(asked, says):
    with pytest.raises(ValueError, match=says):
        plan_columns(pd.DataFrame({"region": ["1", "2"]}), **asked)


def test_a_category_that_never_was_missing():
    found, notes = encoded([None, "a"], ["a"] * 5 + ["b"] * 5)
    np.testing.assert_array_equal(found, [[0, 0, 1], [1, 0, 0]])
    assert "blank in 1 rows" in notes[0]


def test_categories_that_are_called_as_ours():
    values = ["(other)"] * 5 + ["(missing)"] * 5 + ["a"] * 5 + [None]
    found, _ = encoded(values)
    np.testing.assert_array_equal(found.sum(axis=1), 1)
    assert found.shape == (16, 3)


def test_no_more_than_fifty_categories():
    values = [f"v{n % 60:02d}" for n in range(600)] + ["v59"] * 5
    column = plan_of(values)
    assert column.width == 51
    assert "v59" in column.categories


def test_dates_are_days():
    days = ["2026-01-01", "2026-01-03T12:00", "2026-01-06"]
    found, _ = encoded(days)
    right = StandardScaler().fit_transform(np.array([[0.0], [2.5], [5.0]]))
    np.testing.assert_allclose(found, right, rtol=1e-5)
    typed, _ = encoded(pd.to_datetime(days, format="ISO8601"), days)
    np.testing.assert_array_equal(typed, found)
    months, _ = encoded(["2026-01", "2026-02"], days)
    whole, _ = encoded(["2026-01-01", "2026-02-01"], days)
    np.testing.assert_array_equal(months, whole)
    abroad, _ = encoded(["2026-01-01T02:00+02:00"], days)
    np.testing.assert_array_equal(abroad[0], found[0])


def test_texts():
    texts = [WORDS[n % 4] for n in range(40)]
    column = plan_of(texts, text=["x"])
    assert (column.kind, column.width) == ("text", 50)
    frame = pd.DataFrame({"x": texts})
    encoder = fit_encoder(plan_columns(frame, text=["x"]), frame)
    assert encoder.names[2] == "x (text 3)" and len(encoder.names) == 50
    found, _ = encode(encoder, pd.DataFrame({"x": [*WORDS, None, "unheard of words"]}))
    assert found.shape == (6, 50) and np.isfinite(found).all()
    # Texts with words in common are nearer than texts without.
    distance = np.linalg.norm(found[:, None] - found, axis=-1)
    assert distance[2, 3] < distance[2, 1] and distance[0, 1] < distance[0, 2]
    np.testing.assert_array_equal(found[4], found[5])


@pytest.mark.filterwarnings("error")
def test_texts_that_are_all_one():
    found, _ = encoded(["the same text"] * 30, text=["x"])
    np.testing.assert_allclose(found, 0, atol=1e-6)


def test_texts_are_refused():
    frame = mixed()
    with pytest.raises(ValueError, match=r"no column 'notes' of features; .* 'note'"):
        plan_columns(frame, text=["notes"])
    blank = pd.DataFrame({"x": ["?", "!", None] * 10})
    with pytest.raises(ValueError, match="'x' has no word"):
        fit_encoder(plan_columns(blank, text=["x"]), blank)


def test_every_part_has_the_same_width():
    frame = mixed()
    plan = plan_columns(frame, text=["note"])
    names = set()
    for rows in (slice(0, 30), slice(30, 60), slice(0, 5), [1], [7]):
        part = frame.iloc[rows]
        encoder = fit_encoder(plan, part)
        found, _ = encode(encoder, frame)
        assert found.shape == (60, len(encoder.names))
        assert found.shape[1] == sum(column.width for column in plan.columns)
        assert np.isfinite(found).all()
        names.add(encoder.names)
    assert len(names) == 1
    assert not any(name.startswith(("constant", "record")) for name in names.pop())


@pytest.mark.parametrize("typed", [True, False])
def test_encoder_goes_to_the_disk_and_back(typed, tmp_path):
    frame = mixed()
    if typed:
        frame["age"] = frame.age.astype("Float64")
        frame["site"] = frame.site.astype("category")
        frame["day"] = pd.to_datetime(frame.day)
    encoder = fit_encoder(plan_columns(frame, text=["note"]), frame.iloc[:40])
    known, arrays = to_arrays(encoder)
    np.savez(tmp_path / "arrays.npz", **arrays)
    with np.load(tmp_path / "arrays.npz") as file:
        back = from_arrays(json.loads(json.dumps(known)), dict(file))
    assert back.plan == encoder.plan
    assert back.names == encoder.names
    found, notes = encode(encoder, frame)
    again, notes_again = encode(back, frame)
    assert found.tobytes() == again.tobytes()
    assert notes == notes_again
    for name in ("9.center", "0.plan", "center", "-1.scale"):
        with pytest.raises(ValueError, match="none of an encoder's"):
            from_arrays(known, {name: np.zeros(1)})


def test_types_and_strings_are_one(tmp_path):
    typed = pd.DataFrame(
        {
            "number": [1.5, np.nan, 3.0, -1e5] * 5,
            "flag": [True, False, False, True] * 5,
            "count": pd.array([1, None, 3, 4] * 5, dtype="Int64"),
            "site": pd.Categorical(["n", "s", None, "n"] * 5),
            "day": pd.to_datetime(["2026-01-02", "2026-03-04", None, "2025-01-01"] * 5),
        }
    )
    typed.to_csv(tmp_path / "a.csv", index=False)
    strings = read_table(tmp_path / "a.csv")
    assert plan_columns(typed) == plan_columns(strings)
    encoder = fit_encoder(plan_columns(typed), typed)
    np.testing.assert_array_equal(
        encode(encoder, typed)[0], encode(encoder, strings)[0]
    )


@pytest.mark.parametrize(
    ("column", "value", "says"),
    [
        ("age", "old", "'age' is to hold a number, .* holds 'old' in row 3"),
        ("age", "1,5", "'age' is to hold a number, .* holds '1,5' in row 3"),
        ("age", "1e39", "'age' holds '1e39' in row 3, too large"),
        ("day", "2.1.2026", "'day' is to hold a date, .* holds '2.1.2026' in row 3"),
    ],
)
def test_a_column_of_another_kind_is_refused(column, value, says):
    frame = mixed()
    encoder = fit_encoder(plan_columns(frame), frame)
    frame.loc[2, column] = value
    with pytest.raises(ValueError, match=says):
        encode(encoder, frame)


def test_columns_of_a_new_table():
    frame = mixed()
    encoder = fit_encoder(plan_columns(frame), frame)
    usual, _ = encode(encoder, frame)
    more = frame.assign(new="x")[[*frame.columns[::-1], "new"]]
    np.testing.assert_array_equal(encode(encoder, more)[0], usual)
    fewer = frame.drop(columns=["constant", "record"])
    np.testing.assert_array_equal(encode(encoder, fewer)[0], usual)
    with pytest.raises(ValueError, match="no column 'site', which the team was fitted"):
        encode(encoder, frame.drop(columns="site"))


def test_from_a_file_to_numbers(tmp_path):
    rows = "".join(f"{n};{n % 7}.5;{'ns'[n % 2]};{n % 2}\n" for n in range(40))
    (tmp_path / "a.csv").write_text("case;dose;site;y\n" + rows)
    frame = read_table(tmp_path / "a.csv")
    cases = make_cases(frame, label="y", id="case")
    encoder = fit_encoder(plan_columns(cases.features), cases.features)
    assert encoder.names == ("dose", "site = n", "site = s", "site = (other)")
    found, _ = encode(encoder, cases.features)
    np.testing.assert_array_equal(found[:, 2], cases.labels)
    np.testing.assert_allclose(found[:, 0].mean(), 0, atol=1e-6)


def test_numbers_that_are_read_beforehand_are_encoded_alike():
    frame = mixed()
    frame.loc[3, "age"] = "1e-300"
    plan = plan_columns(frame)
    read = read_numbers(plan, frame)
    assert plan_columns(read) == plan
    assert list(read) == list(frame)
    assert read.age.dtype == np.float64
    assert read.drop(columns="age").equals(frame.drop(columns="age"))
    some = np.array([5, 2, 40, 3, 7])
    for rows in (np.arange(len(frame)), some):
        kept, expected = read.iloc[rows], frame.iloc[rows]
        encoders = [fit_encoder(plan, features) for features in (kept, expected)]
        assert encoders[0].center["age"].tolist() == encoders[1].center["age"].tolist()
        both = encode(encoders[0], kept)[0], encode(encoders[1], expected)[0]
        np.testing.assert_array_equal(*both)
    # As of a DataFrame of numbers that is too large for a team.
    read.loc[9, "age"] = np.inf
    with pytest.raises(ValueError, match="column 'age' holds 'inf' in row 10, too"):
        encode(encoders[0], read)


@pytest.mark.parametrize("values", [[1.0, 1.0], [np.nan, np.nan], [2.5, np.nan]])
def test_numbers_are_planned_as_their_texts(values):
    texts = [None if np.isnan(value) else str(value) for value in values]
    assert plan_of(np.array(values)) == plan_of(texts)
