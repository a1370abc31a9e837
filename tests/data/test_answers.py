import csv
import hashlib
import json
import logging
import os
import tracemalloc
import zipfile

import numpy as np
import pytest

from l2d_jax import data
from l2d_jax.data import DataError, answers, cifar10, cifar10h, cifar10n, cifar10s
from l2d_jax.data import folder as data_folder

RAW_HEADER = "annotator_id,trial_index,chosen_label,true_label,reaction_time,"
RAW_HEADER += "cifar10_test_test_idx"
# Annotators 7 and 10; their second and first trials are attention checks.
RAW = f"""{RAW_HEADER}
7,0,3,3,1500.5,0
7,1,5,2,900.0,-99999
7,2,8,8,1100.0,9999
10,0,,1,700.0,-99999
10,1,9,8,1200.0,9999
"""


def error_line(call, *args, **kwargs):
    with pytest.raises(DataError) as caught:
        call(*args, **kwargs)
    line = str(caught.value)
    assert "\n" not in line
    return line


def assert_answers(found, annotators, examples, labels, names, num_repeats=0):
    for array, expected in (
        (found.annotators, annotators),
        (found.examples, examples),
        (found.labels, labels),
    ):
        np.testing.assert_array_equal(array, expected)
        assert array.dtype == np.int32
    assert found.names == names
    assert found.num_repeats == num_repeats


# ---------------------------------------------------------------- make_answers


def make(ids=("b", "a"), examples=(0, 4), labels=(2, 0), **kwargs):
    return data.make_answers(ids, examples, labels, 5, 3, "people.csv", **kwargs)


def test_annotators_are_numbered_in_the_order_of_their_names():
    found = make(["b", "a", "c", "b"], [0, 4, 0, 3], [2, 0, 1, 1])
    assert_answers(found, [1, 0, 2, 1], [0, 4, 0, 3], [2, 0, 1, 1], ("a", "b", "c"))


def test_a_whole_number_is_one_annotator_whatever_its_type():
    """As pandas makes floats of numbers where one is missing."""
    found = make([1, 1.0, "1", np.float32(1), 2.5], [0, 1, 2, 3, 0], [0] * 5)
    assert_answers(found, [0, 0, 0, 0, 1], [0, 1, 2, 3, 0], [0] * 5, ("1", "2.5"))
    assert make([-1.0, float("inf")], [0, 1], [0, 0]).names == ("-1", "inf")


@pytest.mark.parametrize("text", ["1_0", "0_1", "1_0.0"])
def test_a_number_has_no_underscore(text):
    """Python's `float` takes one; no table of numbers has it."""
    line = error_line(data.make_answers, ["a"], [text], [0], 20, 3, "people.csv")
    assert f"image index {text!r} is not a whole number in [0, 20)" in line


def test_columns_may_be_text_numbers_or_arrays():
    expected = ([1, 0], [0, 4], [2, 0], ("10", "9"))  # Sorted as text.
    assert_answers(make(["9", " 10 "], ["0.0", "4"], ["2", "0"]), *expected)
    assert_answers(make([9, 10], [0.0, 4.0], [2, 0]), *expected)
    columns = (np.array(column) for column in ([9, 10], [0, 4], [2, 0]))
    assert_answers(make(*columns), *expected)


def test_first_answer_stays_and_the_others_are_counted(caplog):
    # Annotator b answers example 4 three times; a answers it too, which is no repeat.
    with caplog.at_level(logging.INFO, logger="l2d_jax"):
        found = make(["b", "b", "a", "b", "b"], [4, 1, 4, "4.0", 4], [2, 0, 1, 0, "1"])
    assert_answers(found, [1, 1, 0], [4, 1, 4], [2, 0, 1], ("a", "b"), num_repeats=2)
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 1
    assert messages[0].startswith("people.csv: 2 repeated answers left out")


def test_no_repeats_are_no_news(caplog):
    with caplog.at_level(logging.INFO, logger="l2d_jax"):
        assert make().num_repeats == 0
    assert not caplog.records


@pytest.mark.parametrize("identifier", [None, "", "  ", float("nan")])
def test_missing_identifier_is_named_with_its_row(identifier):
    line = error_line(make, ["b", identifier])
    assert line == (
        "people.csv, row 2 (the header not counted): the annotator's identifier is "
        "missing; correct the row or leave it out"
    )


@pytest.mark.parametrize("example", [-1, 5, "5", 0.5, "x\ny", "", None, float("inf")])
def test_image_index_out_of_range_is_named_with_its_row(example):
    line = error_line(make, examples=[0, example])
    assert line == (
        f"people.csv, row 2 (the header not counted): image index {str(example)!r} is "
        "not a whole number in [0, 5); correct the row or leave it out"
    )


@pytest.mark.parametrize("label", [-1, 3, "3", 1.5, "cat", "", None, float("nan")])
def test_label_out_of_range_is_named_with_its_row(label):
    line = error_line(make, labels=[label, 0])
    assert line == (
        f"people.csv, row 1 (the header not counted): label {str(label)!r} is not a "
        "whole number in [0, 3); correct the row or leave it out"
    )


def test_repeats_are_checked_too():
    assert "row 2" in error_line(make, ["b", "b"], [0, 0], [0, 3])


def test_rows_are_those_of_the_source():
    assert "people.csv, row 17 (" in error_line(make, labels=[0, 3], rows=[5, 17])


def test_no_answer_at_all_is_an_error():
    assert error_line(make, [], [], []).startswith("people.csv holds no answer")


def test_columns_must_be_of_one_length():
    with pytest.raises(ValueError, match=r"must be of one length, not \[2, 2, 1, 2\]"):
        make(labels=[0])


# ---------------------------------------------------------------- tables


def test_columns_are_found_by_name():
    lines = ["b,a,c\n", '1,"x, y",\n', "\n", "2\n"]
    assert answers.read_columns(lines, ("a", "b"), "t.csv") == [
        ["x, y", ""],
        ["1", "2"],
    ]


def test_missing_columns_are_named():
    line = error_line(answers.read_columns, ["a,b\n"], ("c", "a", "d"), "t.csv")
    assert line.startswith("t.csv has no column c, d (it has 'a, b')")
    assert "no column c" in error_line(answers.read_columns, [], ("c",), "t.csv")


def test_what_is_no_table_is_an_error():
    lines = ["a\n", f"{'x' * 200_000}\n"]
    line = error_line(answers.read_columns, lines, ("a",), "t.csv")
    assert line.startswith("t.csv is no table of comma-separated values (near line ")


# ---------------------------------------------------------------- CIFAR-10S


def trial(subject, image, choice, task="spec_conf"):
    response = json.dumps({"classSelect": choice, "prob": "100", "prob2": ""})
    return {"subject": subject, "response": response, "task": task, "img_id": image}


def write_cifar10s(data_dir, rows, monkeypatch):
    path = data_dir / "cifar10s" / "raw_human_data.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, ["subject", "response", "task", "img_id"])
        writer.writeheader()
        writer.writerows(rows)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr(cifar10s, "_SHA256", digest)
    return path


def test_cifar10s_keeps_first_choices_of_trials(tmp_path, monkeypatch):
    instructions = {"subject": "zoe", "response": "", "task": "", "img_id": ""}
    rows = [
        instructions,
        trial("zoe", "22.0", "mostProbDeer"),
        trial("zoe", "9999.0", "mostProbTruck"),
        trial("zoe", "22.0", "mostProbHorse", task="rerun_spec_conf"),
        instructions,
        trial("amy", "22.0", "mostProbAirplane"),
    ]
    write_cifar10s(tmp_path, rows, monkeypatch)
    found = data.load_cifar10s(tmp_path)
    assert_answers(
        found, [1, 1, 0], [22, 9999, 22], [4, 9, 0], ("amy", "zoe"), num_repeats=1
    )


def test_cifar10s_names_the_row_of_an_unknown_choice(tmp_path, monkeypatch):
    instructions = {"subject": "zoe", "response": "", "task": "", "img_id": ""}
    rows = [instructions, trial("zoe", "22.0", "mostProbZebra")]
    path = write_cifar10s(tmp_path, rows, monkeypatch)
    line = error_line(data.load_cifar10s, tmp_path)
    assert line.startswith(f"{path}, row 2 (")
    assert "label 'mostProbZebra'" in line


def test_damaged_cifar10s_gives_one_line(tmp_path):
    path = tmp_path / "cifar10s" / "raw_human_data.csv"
    path.parent.mkdir()
    path.write_text("subject,response,img_id\n")
    line = error_line(data.load_cifar10s, tmp_path)
    assert line.startswith(f"{path} is damaged or another version")
    assert "delete it, get it from github.com/cambridge-mlg/cifar-10s" in line


# ---------------------------------------------------------------- CIFAR-10H


def test_cifar10h_is_float32(tmp_path, monkeypatch):
    path = tmp_path / "cifar10h" / "cifar10h-probs.npy"
    path.parent.mkdir()
    np.save(path, np.array([[0.25, 0.75], [1.0, 0.0]]))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr(cifar10h, "_SHA256", digest)
    found = data.load_cifar10h(tmp_path)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, [[0.25, 0.75], [1.0, 0.0]])


def test_cifar10h_of_other_content_is_refused(tmp_path):
    path = tmp_path / "cifar10h" / "cifar10h-probs.npy"
    path.parent.mkdir()
    np.save(path, np.full((10_000, 10), 0.1))
    line = error_line(data.load_cifar10h, tmp_path)
    assert line.startswith(f"{path} is damaged or another version")
    assert cifar10h._URL in line


def write_raw_zip(path, text=RAW, names=("cifar10h-raw.csv",)):
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, text)
    return path


def assert_raw(found):
    assert_answers(found, [1, 1, 0], [0, 9999, 9999], [3, 8, 9], ("10", "7"))


def test_cifar10h_raw_is_read_from_the_zip_and_from_the_csv(tmp_path):
    assert_raw(data.load_cifar10h_raw(write_raw_zip(tmp_path / "cifar10h-raw.zip")))
    # What a Mac packs, under a name of the user's.
    names = ("data/cifar10h-raw.csv", "__MACOSX/data/._cifar10h-raw.csv", "readme.txt")
    assert_raw(data.load_cifar10h_raw(write_raw_zip(tmp_path / "mine", names=names)))
    path = tmp_path / "cifar10h-raw.csv"
    for encoding in ("utf-8", "utf-8-sig"):
        path.write_text(RAW, encoding)
        assert_raw(data.load_cifar10h_raw(str(path)))


def test_cifar10h_raw_finds_columns_by_name(tmp_path):
    rows = [line.split(",")[::-1] for line in RAW.splitlines()]
    path = tmp_path / "reversed.csv"
    path.write_text("\n".join(",".join(row) for row in rows))
    assert_raw(data.load_cifar10h_raw(path))


def test_cifar10h_raw_names_a_missing_column(tmp_path):
    path = tmp_path / "raw.csv"
    path.write_text(RAW.replace("cifar10_test_test_idx", "cifar10_test_idx"))
    line = error_line(data.load_cifar10h_raw, path)
    assert line.startswith(f"{path} has no column cifar10_test_test_idx (it has ")


def test_cifar10h_raw_counts_attention_checks_as_rows(tmp_path):
    path = tmp_path / "raw.csv"
    path.write_text(RAW.replace("10,1,9,", "10,1,11,"))
    line = error_line(data.load_cifar10h_raw, path)
    assert line.startswith(f"{path}, row 5 (the header not counted): label '11'")


def test_cifar10h_raw_of_attention_checks_alone_holds_no_answer(tmp_path):
    path = tmp_path / "raw.csv"
    path.write_text(f"{RAW_HEADER}\n7,1,5,2,900.0,-99999\n")
    assert "holds no answer" in error_line(data.load_cifar10h_raw, path)


def test_cifar10h_raw_says_what_to_name(tmp_path):
    remedy = "name the cifar10h-raw.zip of github.com/jcpeterson/cifar-10h"
    path = tmp_path / "missing.zip"
    line = error_line(data.load_cifar10h_raw, path)
    assert line.startswith(f"{path} cannot be read (FileNotFoundError: ")
    assert remedy in line

    damaged = write_raw_zip(tmp_path / "damaged.zip")
    os.truncate(damaged, 60)
    line = error_line(data.load_cifar10h_raw, damaged)
    assert line.startswith(f"{damaged} cannot be read (BadZipFile: ")
    assert remedy in line

    two = write_raw_zip(tmp_path / "two.zip", names=("a.csv", "b.csv"))
    line = error_line(data.load_cifar10h_raw, two)
    assert line.startswith(f"{two} holds 2 csv files, and should hold one")
    assert remedy in line

    binary = tmp_path / "binary.csv"
    binary.write_bytes(b"\xff\xfe\xfa")
    line = error_line(data.load_cifar10h_raw, binary)
    assert line.startswith(f"{binary} cannot be read (UnicodeDecodeError: ")


# ---------------------------------------------------------------- CIFAR-10N


SMALL_CIFAR10N = {
    "clean": np.array([6, 9], np.uint8),
    "random": np.array([[6, 4, 6], [9, 9, 0]], np.uint8),
}


@pytest.fixture
def small_cifar10n(tmp_path, monkeypatch):
    """Where to write the labels, and a loader that expects the small ones."""
    path = tmp_path / "cifar10n" / "cifar10n_labels.npz"
    path.parent.mkdir()
    digest = data_folder.arrays_sha256(SMALL_CIFAR10N)
    monkeypatch.setattr(cifar10n, "_SHA256", digest)
    return path


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
def test_cifar10n_is_what_its_arrays_are(small_cifar10n, tmp_path, save, dtype):
    """Whoever converts the labels, in whatever type, gets the same ones."""
    arrays = {name: array.astype(dtype) for name, array in SMALL_CIFAR10N.items()}
    save(small_cifar10n, **arrays, aggre=np.zeros(2))
    found = data.load_cifar10n(tmp_path)
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, [[6, 4, 6], [9, 9, 0]])


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"random": np.array([[6, 4, 6], [9, 9, 1]])}, ""),
        ({"clean": np.array([9, 6])}, ""),
        ({"clean": None}, "none, KeyError: "),
        ({"random": np.array([{}], object)}, "none, ValueError: "),
    ],
    ids=["altered", "other order", "missing", "pickled"],
)
def test_damaged_cifar10n_gives_one_line(small_cifar10n, tmp_path, change, found):
    arrays = {**SMALL_CIFAR10N, **change}
    kept = {name: array for name, array in arrays.items() if array is not None}
    np.savez(small_cifar10n, **kept)
    line = error_line(data.load_cifar10n, tmp_path)
    expected = data_folder.arrays_sha256(SMALL_CIFAR10N)
    assert line.startswith(
        f"{small_cifar10n} is damaged (sha256 of its arrays clean and random expected "
        f"{expected}, found {found}"
    )
    assert "get CIFAR-10_human.pt from github.com/UCSC-REAL/cifar-10-100n" in line
    assert "L2D_DATA_DIR or --config.data_dir" in line


def test_missing_cifar10n_says_where_to_get_it(tmp_path):
    line = error_line(data.load_cifar10n, tmp_path)
    path = tmp_path / "cifar10n" / "cifar10n_labels.npz"
    assert line.startswith(f"{path} is missing: get CIFAR-10_human.pt from github.com/")


# ---------------------------------------------------------------- the real ones


@pytest.mark.real_data(cifar10s._PLACE, cifar10._PLACE)
def test_real_cifar10s():
    found = data.load_cifar10s()
    assert len(found.names) == 248
    assert found.num_repeats == 523  # 498 shown again, 25 of a second session.
    np.testing.assert_array_equal(np.bincount(found.annotators), [25] * 248)
    asked = np.bincount(found.examples, minlength=10_000)
    np.testing.assert_array_equal(np.bincount(asked), [9000, 0, 0, 0, 0, 0, 800, 200])

    labels = data.load_cifar10().test.labels
    assert np.sum(found.labels == labels[found.examples]) == 5230  # 84.35 % of 6,200.
    # The file names the class of each image: its order is the canonical one.
    path = os.path.join(os.environ["L2D_DATA_DIR"], cifar10s._PLACE)
    with open(path, newline="", encoding="utf-8") as file:
        trials = [row for row in csv.DictReader(file) if row["img_id"]]
    named = [cifar10s._CHOICES.index(f"mostProb{row['label']}") for row in trials]
    images = [int(float(row["img_id"])) for row in trials]
    np.testing.assert_array_equal(labels[images], named)


@pytest.mark.real_data(cifar10h._PLACE, cifar10._PLACE)
def test_real_cifar10h():
    probs = data.load_cifar10h()
    assert probs.shape == (10_000, 10)
    np.testing.assert_allclose(probs.sum(axis=1), 1.0, rtol=0, atol=1e-6)
    labels = data.load_cifar10().test.labels
    # In another order they would agree on about a tenth.
    assert np.sum(probs.argmax(axis=1) == labels) == 9921


@pytest.mark.real_data(cifar10n._PLACE, cifar10._PLACE)
def test_real_cifar10n():
    found = data.load_cifar10n()
    labels = data.load_cifar10().train.labels
    assert found.shape == (50_000, 3)
    errors = np.mean(found != labels[:, np.newaxis], axis=0)
    np.testing.assert_allclose(errors, [0.17234, 0.18122, 0.1764], rtol=0, atol=1e-9)
    # `clean` is the labels in CIFAR-10's own order.
    path = os.path.join(os.environ["L2D_DATA_DIR"], cifar10n._PLACE)
    with np.load(path) as file:
        np.testing.assert_array_equal(file["clean"], labels)


def write_bomb(path, name):
    """An archive that unpacks to a thousand times its own size."""
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open(name, "w") as file,
    ):
        for _ in range(2**5):
            file.write(bytes(2**20))
    assert path.stat().st_size < 2**16
    return path


def with_peak(function, *args):
    """What it returns, and the most bytes that it took meanwhile."""
    tracemalloc.start()
    try:
        return function(*args), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_an_archive_that_unpacks_to_too_much_is_not_unpacked(
    small_cifar10n, tmp_path, monkeypatch
):
    monkeypatch.setattr(cifar10h, "_MOST_BYTES", 2**20)
    raw = write_bomb(tmp_path / "raw.zip", "cifar10h-raw.csv")
    line, peak = with_peak(error_line, data.load_cifar10h_raw, raw)
    assert "unpacks to 33,554,432 bytes, and to 1,048,576 at most" in line
    assert line.startswith(f"{raw} cannot be read (") and peak < 2**20
    write_bomb(small_cifar10n, "random.npy")
    line, peak = with_peak(error_line, data.load_cifar10n, tmp_path)
    assert line.startswith(f"{small_cifar10n} is damaged ") and peak < 2**20
    assert "unpacks to 33,554,432 bytes, and to 16,777,216 at most" in line


def test_a_cache_that_is_not_ours_is_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = tmp_path / "l2d_jax" / "cache" / "a.npz"
    path.parent.mkdir(parents=True)
    write_bomb(path, "a.npy")
    found, peak = with_peak(
        data_folder.kept_arrays, "a.npz", lambda: {"a": np.arange(3)}
    )
    np.testing.assert_array_equal(found["a"], [0, 1, 2])
    assert peak < 2**20
    # What is written in its place is taken.
    data_folder.kept_arrays("a.npz", lambda: pytest.fail("built again"))
