import csv
import logging

import numpy as np
import pytest

from l2d_jax import data
from l2d_jax.data import DataError, davidson
from l2d_jax.data.folder import file_sha256

HEADER = ["", "count", *davidson._COUNTS, "class", "tweet"]
ROWS = [
    [0, 3, 0, 2, 1, 1, "first, with\na break"],
    [7, 4, 3, 1, 0, 0, "second"],
    [9, 3, 0, 0, 3, 2, 'third "quoted"'],
]


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes a file, and has the loader expect it."""

    def write(rows, header=HEADER):
        path = tmp_path / davidson._PLACE
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([header, *rows])
        monkeypatch.setattr(davidson, "_SHA256", file_sha256(path))
        return path

    return write


def error_line(data_dir):
    with pytest.raises(DataError) as caught:
        data.load_davidson(data_dir)
    line = str(caught.value)
    assert "\n" not in line
    return line


def test_tweets_with_their_counts(write, tmp_path):
    write(ROWS)
    found = data.load_davidson(tmp_path)
    assert found.texts == ("first, with\na break", "second", 'third "quoted"')
    np.testing.assert_array_equal(found.labels, [1, 0, 2])
    np.testing.assert_array_equal(found.counts, [[0, 2, 1], [3, 1, 0], [0, 0, 3]])
    assert found.labels.dtype == found.counts.dtype == np.int32
    assert found.num_repeats == 0


def test_blank_lines_and_repeats_are_left_out(write, tmp_path, caplog):
    again = [12, 3, 0, 3, 0, 1, "second"]
    write([ROWS[0], [], ROWS[1], [" "], again, ROWS[2], []])
    with caplog.at_level(logging.INFO, logger="l2d_jax"):
        found = data.load_davidson(tmp_path)
    np.testing.assert_array_equal(found.counts, [[0, 2, 1], [3, 1, 0], [0, 0, 3]])
    assert found.num_repeats == 1
    assert "1 repeated tweets left out" in caplog.text


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ([1, 3, 0, 3, 0, 1, " "], "the tweet is blank"),
        ([1, 3, 0, "x", 0, 1, "t"], "the counts '0, x, 0' are not whole numbers >= 0"),
        ([1, 3, -1, 4, 0, 1, "t"], "the counts '-1, 4, 0' are not whole numbers >= 0"),
        ([1, 4, 0, 3, 0, 1, "t"], "the counts sum to 3, and count is '4'"),
        ([1, 0, 0, 0, 0, 1, "t"], "the counts sum to 0, and count is '0'"),
        ([1, 3, 0, 3, 0, 3, "t"], "class '3' is not a whole number in [0, 3)"),
        ([1, 3, 0, 3, 0, "", "t"], "class '' is not a whole number in [0, 3)"),
        ([1, 3, 2, 1, 0, 1, "t"], "class 1 is not what most people gave, [2, 1, 0]"),
    ],
)
def test_bad_rows_are_named(row, problem, write, tmp_path):
    path = write([ROWS[0], row])
    assert error_line(tmp_path) == (
        f"{path}, row 2 (the header not counted): {problem}; correct the row or leave"
        " it out"
    )


def test_bad_files_are_named(write, tmp_path, monkeypatch):
    path = write([])
    assert error_line(tmp_path).startswith(f"{path} holds no tweet: get it from ")
    path = write(ROWS, header=HEADER[:-1])
    assert error_line(tmp_path).startswith(f"{path} has no column tweet (it has ")
    monkeypatch.setattr(davidson, "_SHA256", "0" * 64)
    assert error_line(tmp_path).startswith(f"{path} is damaged or another version (sha")


@pytest.mark.real_data(davidson._PLACE)
def test_real_davidson():
    found = data.load_davidson()
    assert len(found.texts) == 24_783 and found.num_repeats == 0
    np.testing.assert_array_equal(np.bincount(found.labels), [1430, 19_190, 4163])
    totals = found.counts.sum(axis=1)
    assert (totals.min(), totals.max()) == (3, 9)
    # No ties: the label is the one most frequent answer.
    agree = found.counts[np.arange(len(totals)), found.labels]
    np.testing.assert_array_equal(agree, found.counts.max(axis=1))
    assert np.sum(found.counts == agree[:, None]) == 24_783
    np.testing.assert_allclose((agree / totals).mean(), 0.9050, rtol=0, atol=5e-5)
