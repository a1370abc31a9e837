"""Means with intervals, and tables on the disk."""

import csv
import math
import pathlib
import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from experiments import tables


def test_mean_interval_of_five():
    # Mean 3, standard error sqrt(2.5 / 5) = 0.707107, t(0.975, 4) = 2.776445.
    low, high = tables.mean_interval(np.array([1.0, 2.0, 3.0, 4.0, 5.0]))
    assert low == pytest.approx(3 - 1.963243, abs=1e-5)
    assert high == pytest.approx(3 + 1.963243, abs=1e-5)


def test_mean_interval_of_two_at_another_level():
    # Standard error 0.5, t(0.95, 1) = 6.313752.
    low, high = tables.mean_interval(np.array([0.0, 1.0]), level=0.9)
    assert low == pytest.approx(0.5 - 3.156876, abs=1e-5)
    assert high == pytest.approx(0.5 + 3.156876, abs=1e-5)


def test_mean_interval_is_scipys():
    values = np.random.default_rng(0).normal(size=7)
    low, high = stats.t.interval(0.95, 6, values.mean(), stats.sem(values))
    assert tables.mean_interval(values) == pytest.approx((low, high), abs=1e-12)


@pytest.mark.parametrize("values", [[], [0.7]])
def test_no_interval_of_fewer_than_two(values):
    assert all(math.isnan(end) for end in tables.mean_interval(np.array(values)))


def test_interval_of_equal_values_has_no_width():
    assert tables.mean_interval(np.array([0.5, 0.5, 0.5])) == (0.5, 0.5)


def test_resampled_interval_of_five_by_hand():
    # Mean 3, variance 2.5; sqrt(2.5 (1 / 5 + 1 / 4)) = 1.060660, t(0.975, 4) as above.
    values = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    low, high = tables.resampled_interval(values, 1 / 4)
    assert low == pytest.approx(3 - 2.944864, abs=1e-5)
    assert high == pytest.approx(3 + 2.944864, abs=1e-5)
    # At level 0.9: t(0.95, 4) = 2.131847.
    low, high = tables.resampled_interval(values, 1 / 4, level=0.9)
    assert (low, high) == pytest.approx((3 - 2.261165, 3 + 2.261165), abs=1e-5)


def test_resampled_interval_of_splits_apart_is_students():
    values = np.random.default_rng(0).normal(size=7)
    expected = tables.mean_interval(values)
    assert tables.resampled_interval(values, 0.0) == pytest.approx(expected, abs=1e-12)


def test_more_overlapping_splits_narrow_an_interval_only_so_far():
    """Of values 0 and 1 the variance stays, and so does that of the mean."""
    few, many = (np.arange(n) % 2.0 for n in (100, 10_000))
    narrow = [np.diff(tables.resampled_interval(v, 1 / 4)) for v in (few, many)]
    assert narrow[1] == pytest.approx(narrow[0], rel=0.05)
    # 1.96 standard deviations of 1/2 times sqrt(1 / 4), to both sides.
    assert narrow[1] == pytest.approx(2 * 1.96 * 0.5 * 0.5, rel=0.01)


@pytest.mark.parametrize("values", [[], [0.7]])
def test_no_resampled_interval_of_fewer_than_two(values):
    ends = tables.resampled_interval(np.array(values), 1 / 4)
    assert all(math.isnan(end) for end in ends)


def make_results():
    return pd.DataFrame(
        {
            "method": ["a", "a", "a", "b", "b", "b"],
            "k": [1.0, 1.0, 1.0, np.nan, np.nan, np.nan],
            "split": "test",
            "accuracy": [0.1, 0.2, 0.3, 0.4, np.nan, 0.6],
            "kept": [np.nan, np.nan, np.nan, np.nan, 1.0, np.nan],
        }
    )


def test_summary_leaves_nan_out_and_counts_the_rest():
    summary = tables.summarize(
        make_results(), ["method", "k", "split"], ["accuracy", "kept"]
    )
    columns = ["method", "k", "split", "metric", "n", "mean", "ci_low", "ci_high"]
    assert list(summary.columns) == columns
    assert list(summary.method) == ["a", "a", "b", "b"]
    assert list(summary.metric) == ["accuracy", "kept"] * 2
    assert list(summary.n) == [3, 0, 2, 1]
    np.testing.assert_allclose(summary["mean"], [0.2, np.nan, 0.5, 1.0], atol=1e-12)
    # 0.1 / sqrt(3) * t(0.975, 2) = 0.248414; 0.1 * t(0.975, 1) = 1.270620.
    half = summary.ci_high - summary["mean"]
    np.testing.assert_allclose(half, [0.248414, np.nan, 1.27062, np.nan], atol=1e-5)
    np.testing.assert_allclose(summary["mean"] - summary.ci_low, half, atol=1e-12)
    # A NaN setting is a value like any other.
    assert np.isnan(summary.k[2]) and summary.k[0] == 1.0


def test_cells():
    summary = pd.DataFrame({"mean": [0.5, -1e-9, 0.25]})
    summary = summary.assign(ci_low=[0.4, 0.0, np.nan], ci_high=[0.6, 0.0, np.nan])
    assert list(tables.cells(summary)) == ["50.0 ± 10.0", "0.0 ± 0.0", "25.0"]


def test_pivot_of_the_test_set():
    results = make_results().assign(k=[0.0, 0.0, 1.0, 0.0, 1.0, 1.0])
    other = results.assign(split="valid", accuracy=0.99)
    summary = tables.summarize(
        pd.concat([results, other]), ["method", "k", "split"], ["accuracy"]
    )
    title, header, _, first, second = tables.pivot(summary, "k", "accuracy").split("\n")
    assert title.startswith("accuracy, % on the test set")
    assert header.split() == ["method", "a", "b"]
    # 0.05 * t(0.975, 1) = 0.6353.
    assert first.split() == ["0.0", "15.0", "±", "63.5", "40.0"]
    assert second.split() == ["1.0", "30.0", "60.0"]


def test_csv_keeps_every_digit(tmp_path):
    table = pd.DataFrame({"x": [0.1 + 0.2, 1e-300, np.pi, np.nan]})
    tables.write_csv(table, tmp_path / "x.csv")
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "x.csv"), table)
    assert [path.name for path in tmp_path.iterdir()] == ["x.csv"]


def test_csv_cut_short_leaves_the_old_one(tmp_path, monkeypatch):
    table = pd.DataFrame({"x": [1]})
    path = tmp_path / "x.csv"
    tables.write_csv(table, path)

    def write_half(self, target, **kwargs):
        target.write_text("x")
        raise OSError("the disk is full")

    monkeypatch.setattr(pd.DataFrame, "to_csv", write_half)
    with pytest.raises(OSError, match="disk is full"):
        tables.write_csv(table, path)
    assert path.read_text() == "x\n1\n"


def test_bootstrap_interval_of_a_mean_is_about_students():
    values = np.random.default_rng(0).normal(3.0, 2.0, 200)
    value, low, high = tables.bootstrap_interval(np.mean, values)
    assert value == pytest.approx(values.mean())
    assert (low, high) == pytest.approx(tables.mean_interval(values), abs=0.05)
    assert tables.bootstrap_interval(np.mean, values) == (value, low, high)


def test_bootstrap_interval_where_there_is_none():
    value, low, high = tables.bootstrap_interval(np.mean, np.array([2.0]))
    assert value == 2.0 and np.isnan([low, high]).all()


def test_bootstrap_interval_of_what_does_not_vary_is_a_point():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = tables.bootstrap_interval(np.mean, np.full(5, 2.0))
    assert found == (2.0, 2.0, 2.0)


FORMULAS = ["=1+1", "+1+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1", " =1+1", "'=1+1"]


def test_a_text_that_a_spreadsheet_would_run_is_marked_and_comes_back(tmp_path):
    path = tmp_path / "results.csv"
    table = pd.DataFrame({"=expert": FORMULAS, "gain": -0.5, "n": range(len(FORMULAS))})
    tables.write_csv(table, path)
    with open(path, newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["'=expert", "gain", "n"]
    assert all(row[0].startswith("'") for row in rows)
    assert [row[1] for row in rows] == ["-0.5"] * len(FORMULAS)
    pd.testing.assert_frame_equal(tables.read_csv(path), table, check_column_type=False)


def test_numbers_are_never_marked(tmp_path):
    path = tmp_path / "results.csv"
    values = ["-0.5", "+1e-07", "-inf", "nan", "-.5", "-1"]
    # As numbers, as numbers among texts, and as texts of numbers.
    numbers = pd.Series(values, dtype=float)
    mixed = pd.Series([-0.5, "a", None, -1, "b", -np.inf], dtype=object)
    tables.write_csv(pd.DataFrame({"a": numbers, "b": mixed, "c": values}), path)
    assert "'" not in path.read_text()
    read = tables.read_csv(path)
    assert read.a.dtype == read.c.dtype == float
    np.testing.assert_array_equal(read.a, numbers)


def test_every_table_is_read_as_it_was_written():
    root = pathlib.Path(tables.__file__).parents[1]
    paths = [*root.glob("experiments/**/*.py"), *root.glob("launch/*.py")]
    reading = {path.name for path in paths if "pd.read_csv(" in path.read_text()}
    assert reading == {"tables.py"}
