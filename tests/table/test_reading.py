"""Tables on the disk, in each dialect, and what is refused of them."""

import os

import numpy as np
import pandas as pd
import pytest

from l2d_jax.table import reading
from l2d_jax.table.reading import read_table, write_table


def write(tmp_path, content):
    path = tmp_path / "cases.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_dialects_are_one_table(tmp_path, separator, end, mark):
    lines = ["case|note|x", '1|"a, b; c\t""d"""|007', "", "2|é|", ""]
    text = end.join(lines).replace("|", separator)
    frame = read_table(write(tmp_path, mark + text.encode()))
    assert list(frame.columns) == ["case", "note", "x"]
    assert frame.iloc[0].tolist() == ["1", 'a, b; c\t"d"', "007"]
    assert frame.iloc[1, :2].tolist() == ["2", "é"]
    assert pd.isna(frame.x[1])
    assert frame.index.tolist() == [0, 1]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("quote", ["", '"'])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_line_that_names_the_separator_is_no_row(
    tmp_path, separator, mark, quote, end
):
    text = end.join([f"{quote}sep={separator}{quote}", "a|b", "1|2", "3", ""])
    path = write(tmp_path, mark + text.replace("|", separator).encode())
    with pytest.raises(ValueError, match="line 4: 1 cells, and the header has 2"):
        read_table(path)
    path.write_bytes(path.read_bytes()[: -1 - len(end)])
    frame = read_table(path)
    assert frame.columns.tolist() == ["a", "b"]
    assert frame.to_numpy().tolist() == [["1", "2"]]


def test_a_column_may_be_named_like_such_a_line(tmp_path):
    frame = read_table(write(tmp_path, "sep=a;b\n1;2\n"))
    assert frame.columns.tolist() == ["sep=a", "b"]


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ('"a, b, c";"d"\n1;2\n', ["a, b, c", "d"]),
        ("a, or b, or c;d\n1,5;2,5\n1,5;2,5\n", ["a, or b, or c", "d"]),
        ("dose, mg;age\n1,5;40\n", ["dose, mg", "age"]),
        ("size, cm;weight, kg;site\n1;2;3\n", ["size, cm", "weight, kg", "site"]),
        ("a;b\n1,5;2,5\n", ["a", "b"]),
        ("a,b\n1;2,3\n4,5\n", ["a", "b"]),
        ("a\n1\n", ["a"]),
        (" a , b\n1,2\n", ["a", "b"]),
        ("\n\na,b\n1,2\n", ["a", "b"]),
        ('"a\nb",c\n1,2\n', ["a\nb", "c"]),
    ],
)
def test_separator_is_seen_in_the_first_rows(tmp_path, text, columns):
    assert list(read_table(write(tmp_path, text)).columns) == columns


def test_cells_are_strings_as_they_stand(tmp_path):
    text = 'a,b\n" x ",1.50\nTrue,"two\r\nlines"\n1e5,-0\n'
    frame = read_table(write(tmp_path, text))
    assert frame.a.tolist() == [" x ", "True", "1e5"]
    assert frame.b.tolist() == ["1.50", "two\r\nlines", "-0"]


def test_an_empty_first_cell_moves_no_other(tmp_path):
    # The reader of pandas has 3 in the first column where lines end in "\r".
    for end in ("\r", "\r\n", "\n"):
        text = end.join(["a,b,c", "1,2,3", "", ",3,", "", ",,4", ""])
        frame = read_table(write(tmp_path, text)).astype(object)
        found = frame.where(frame.notna(), None).to_numpy().tolist()
        assert found == [["1", "2", "3"], [None, "3", None], [None, None, "4"]]


def test_missing_cells(tmp_path):
    text = "a,b\n" + "".join(f"1,{cell}\n" for cell in ["", " ", '""', "\t"])
    assert read_table(write(tmp_path, text)).b.isna().all()
    # Whether these are missing is known where it is known what they are cells of.
    kept = ["NA", "N/A", "nan", "NULL", "None", "none", "n/a?", "0", "-", " NA"]
    text = "a;b\n" + "".join(f'1;"{cell}"\n' for cell in kept)
    assert read_table(write(tmp_path, text)).b.tolist() == kept


def test_letters_are_composed(tmp_path):
    """However accents were typed, as one letter or two, a text is one."""
    frame = read_table(write(tmp_path, "u\u0308ber,b\nsi\u0301,s\u00ed\n"))
    assert frame.columns.tolist() == ["\u00fcber", "b"]
    assert frame.iloc[0].tolist() == ["s\u00ed", "s\u00ed"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "is empty"),
        ("\n\n", "is empty"),
        ("a,b\n", "header and no rows"),
        ("a,b,a\n1,2,3\n", "several columns named 'a'"),
        ("a,b, a\n1,2,3\n", "several columns named 'a'"),
        ("a,,b\n1,2,3\n", "column 2 has no name"),
        ("a,b\n1,2\n\n1\n", "line 4: 1 cells, and the header has 2"),
        ("a,b\n1,2\n1,2,3\n", "line 3: 3 cells, and the header has 2"),
        ('a,b\n1,"x\ny"\n1,2,3\n', "line 4: 3 cells"),
        ('a,b\n1,2\n1,"x\ny",3\n', "line 3: 3 cells"),
        ('a,b\n1,2\n1,"2\n3,4\n', "line 3: quotes are not closed"),
        ('"a,b\n1,2\n', "line 1: quotes are not closed"),
        ('a,b\n"1" x,2\n', "line 2: quotes are not closed"),
        (b"a,b\n1,\x002\n", "line 2, holds a NUL"),
        ("a,b\n1,é\n".encode("latin-1"), "line 2, is not UTF-8"),
        ("a,b\n1,2\n".encode("utf-16"), "line 1, is not UTF-8"),
        (b"a,b\n" + b"1,2\n" * 50_000 + b"\xff,2\n", "line 50002, is not UTF-8"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path, content, says):
    path = write(tmp_path, content)
    with pytest.raises(ValueError, match=says) as caught:
        read_table(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_no_file_is_refused(tmp_path):
    with pytest.raises(ValueError, match="is a folder"):
        read_table(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="is a pipe"):
        read_table(tmp_path / "pipe")
    with pytest.raises(FileNotFoundError, match="No such file"):
        read_table(tmp_path / "cases.csv")


def test_a_file_too_large_for_memory_is_refused(tmp_path, monkeypatch):
    path = write(tmp_path, "a,b\n" + "1,2\n" * 1000)
    needed = 100 * 2002 + 2 * 4004
    monkeypatch.setattr(reading, "_free_memory", lambda: needed - 1.0)
    with pytest.raises(ValueError, match="MiB of memory"):
        read_table(path)
    monkeypatch.setattr(reading, "_free_memory", lambda: needed + 1.0)
    assert len(read_table(path)) == 1000


def test_free_memory_is_a_number_of_bytes():
    assert 2**20 < reading._free_memory() < 2**50


def test_a_cell_longer_than_the_readers_limit(tmp_path):
    long = "x" * 200_000
    frame = read_table(write(tmp_path, f'a,b\n1,"{long}"\n'))
    assert frame.b[0] == long


HARD = [
    "=1+1",
    "'=1+1",
    "''=1+1",
    "+cmd",
    "-cmd",
    "@SUM(A1)",
    "\t=1",
    "\rx",
    "'",
    "'quoted'",
    "-1.5",
    "+2",
    "'-1.5",
    "-",
    "-inf",
    "-1_0",
    " leading",
    " =1+1",
    "\n=1+1",
    " '=1+1",
    " -1.5",
    "trailing ",
    'a"b',
    "a,b;c\td",
    "two\nlines",
    "two\r\nlines",
    "one\rline",
    "007",
    "é\u2028",
]


def test_round_trip_is_exact(tmp_path):
    path = tmp_path / "out.csv"
    frame = pd.DataFrame({"case": HARD, "=name": HARD[::-1], "x": np.arange(len(HARD))})
    write_table(frame.set_axis(range(5, 5 + len(HARD))), path)
    back = read_table(path)
    assert list(back.columns) == ["case", "=name", "x"]
    assert back["case"].tolist() == HARD
    assert back["=name"].tolist() == HARD[::-1]
    assert back.x.tolist() == [str(x) for x in range(len(HARD))]


@pytest.mark.parametrize("text", HARD)
def test_round_trip_of_one_text(tmp_path, text):
    write_table(pd.DataFrame({"a": [text], "b": [None]}), tmp_path / "out.csv")
    back = read_table(tmp_path / "out.csv")
    assert back.a.tolist() == [text]
    assert back.b.isna().all()


def test_random_texts_round_trip(tmp_path):
    rng = np.random.default_rng(0)
    letters = list("'=+-@\t\r\n ,;\"1.ea")
    for _ in range(30):
        texts = ["".join(rng.choice(letters, rng.integers(1, 6))) for _ in range(30)]
        texts = [text if text.strip() else "x" for text in texts]
        write_table(pd.DataFrame({"a": texts, "b": texts}), tmp_path / "out.csv")
        assert read_table(tmp_path / "out.csv").a.tolist() == texts


def test_a_spreadsheet_runs_no_cell(tmp_path):
    path = tmp_path / "out.csv"
    frame = pd.DataFrame(
        {"a": ["=1+1", "\n@x", "-1.5"], "b": [-1.5, -2, np.nan], "@c": list("xyz")}
    )
    write_table(frame, path)
    assert path.read_text() == "a,b,'@c\n'=1+1,-1.5,x\n\"'\n@x\",-2.0,y\n-1.5,,z\n"


def test_typed_columns_are_written(tmp_path):
    frame = pd.DataFrame(
        {
            "day": pd.to_datetime(["2026-01-02", None]),
            "kind": pd.Categorical(["=x", None]),
            "count": pd.array([-1, None], dtype="Int64"),
            "flag": [True, False],
        }
    )
    write_table(frame, tmp_path / "out.csv")
    back = read_table(tmp_path / "out.csv")
    assert back.iloc[0].tolist() == ["2026-01-02 00:00:00", "=x", "-1", "True"]
    assert back.iloc[1, :3].isna().all()


def test_writing_is_all_or_nothing(tmp_path):
    path = tmp_path / "out.csv"
    write_table(pd.DataFrame({"a": ["x"]}), path)
    with pytest.raises(UnicodeEncodeError):
        write_table(pd.DataFrame({"a": ["\ud800"]}), path)
    assert read_table(path).a.tolist() == ["x"]
    assert os.listdir(tmp_path) == ["out.csv"]
    with pytest.raises(OSError, match="nowhere"):
        write_table(pd.DataFrame({"a": ["x"]}), tmp_path / "nowhere" / "out.csv")
