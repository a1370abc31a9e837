"""Tables on the disk: every cell a string as it stands, or nothing."""

import contextlib
import csv
import itertools
import os
import pathlib
import re
import secrets
import unicodedata
from collections.abc import Iterator

import numpy as np
import pandas as pd

from l2d_jax.table import cells

# A name has a comma in it more often than a semicolon, and hardly ever a tab.
_SEPARATORS = ("\t", ";", ",")
# What a spreadsheet writes before the header to say which it is.
_DECLARED = re.compile(r"\ufeff?\"?sep=([\t;,])\"? *(?:\r|\n|$)")
# Rows that show which separator a file has.
_SHOWN = 50
# Bytes of memory while a table is read, about: of a cell, and of a byte of the file.
_CELL_MEMORY, _BYTE_MEMORY = 100, 2
_SAMPLE = 2**20
_LONGEST_CELL = 2**31 - 1


def read_table(path: str | os.PathLike) -> pd.DataFrame:
    """A CSV of UTF-8, whose cells are separated by commas, semicolons or tabs.

    Cells stay as they are, with leading zeros; an empty one is missing, and words that
    say so are left to whoever knows what a column is. Letters are composed (Unicode's
    NFC), so that a text is one however its accents were typed. An apostrophe that keeps
    a spreadsheet from running a cell is taken off, as `write_table` puts it on. Blanks
    around the names of columns, and blank lines, are left out. A first line ``sep=;``,
    as some spreadsheets write it, says what separates the cells and is no row.

    Args:
      path: of the file.

    Returns:
      Strings, and NaN where a cell is missing; the index counts rows from 0.

    Raises:
      OSError: the file cannot be read.
      ValueError: it is not such a table, or too large for this machine's memory.
    """
    path = pathlib.Path(path)
    size = path.stat().st_size
    if not path.is_file():
        kind = "folder" if path.is_dir() else "pipe or a device"
        raise ValueError(f"{path} is a {kind}; name a CSV file")
    _require_memory(path, size)
    limit = csv.field_size_limit(_LONGEST_CELL)
    try:
        return _frame(path, _separator(path))
    except UnicodeDecodeError:
        line = _first_not_utf8(path)
        raise ValueError(
            f"{path}, line {line}, is not UTF-8; save the table as CSV UTF-8"
        ) from None
    finally:
        csv.field_size_limit(limit)


def _require_memory(path: pathlib.Path, size: int) -> None:
    with open(path, "rb") as file:
        sample = file.read(_SAMPLE)
    ends = max(sample.count(mark.encode()) for mark in _SEPARATORS)
    cells = (ends + sample.count(b"\n")) * size / max(len(sample), 1)
    needed, free = _CELL_MEMORY * cells + _BYTE_MEMORY * size, _free_memory()
    if needed > free:
        raise ValueError(
            f"{path} has {size / 2**20:,.0f} MiB and would take about"
            f" {needed / 2**20:,.0f} MiB of memory, of which {free / 2**20:,.0f} MiB"
            " are free; give fewer rows or columns"
        )


def _free_memory() -> float:
    """Bytes that are free, or can be freed; without an end where nobody can say."""
    try:
        # What the system keeps of files it gives up when asked to.
        with open("/proc/meminfo") as file:
            for line in file:
                if line.startswith("MemAvailable:"):
                    return 1024 * int(line.split()[1])
    except (OSError, ValueError):
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return float("inf")


def _rows(path: pathlib.Path, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Rows that are not blank, and the line on which each starts, from 1.

    Raises:
      ValueError: a row is no text, or so quoted that nobody can tell its cells.
    """
    declared = _declared(path) is not None

    def lines() -> Iterator[str]:
        for number, line in enumerate(file, 1):
            if declared and number == 1:
                continue
            if "\0" in line:
                raise ValueError(
                    f"{path}, line {number}, holds a NUL character; it is no CSV file"
                )
            yield line

    with open(path, encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(
            lines(), delimiter=separator, skipinitialspace=True, strict=True
        )
        # What the reader is not given it does not count.
        before = 1 if declared else 0
        start = 1 + before
        try:
            for row in reader:
                if len(row) > 1 or any(cell.strip() for cell in row):
                    yield start, row
                start = reader.line_num + 1 + before
        except csv.Error as error:
            raise ValueError(
                f"{path}, line {start}: quotes are not closed as they should be"
                f" ({error})"
            ) from None


def _declared(path: pathlib.Path) -> str | None:
    """The separator that a first line such as ``sep=;`` names."""
    with open(path, "rb") as file:
        first = file.readline(80).decode(errors="replace")
    found = _DECLARED.match(first)
    return found[1] if found else None


def _separator(path: pathlib.Path) -> str:
    """That which the file names, or the rarest in texts of those that fit.

    One fits that splits all of the first rows alike; where none does, that is taken
    which splits the header into most cells.
    """
    named = _declared(path)
    if named is not None:
        return named
    headers = {}
    for separator in _SEPARATORS:
        widths: list[int] = []
        alike = False
        # What is wrong with the file is said when it is read as a whole.
        with contextlib.suppress(ValueError):
            for _, row in itertools.islice(_rows(path, separator), _SHOWN):
                widths.append(len(row))
            alike = len(set(widths)) == 1 and widths[0] > 1
        if alike:
            return separator
        headers[separator] = widths[0] if widths else 0
    return max(headers, key=lambda separator: headers[separator])


def _frame(path: pathlib.Path, separator: str) -> pd.DataFrame:
    """All rows, each of as many cells as the header has names.

    By Python's reader: that of pandas fills what is missing of a row, and where lines
    end in a bare carriage return moves the cells after a blank line to the left if the
    first of them is empty. It says of neither.

    Raises:
      ValueError: a row has more cells or fewer; a column has no name, or another's.
    """
    rows = _rows(path, separator)
    header = [_read_name(name) for name in next(rows, (0, []))[1]]
    if not header:
        raise ValueError(f"{path} is empty")
    if "" in header:
        place = header.index("") + 1
        raise ValueError(f"{path}: column {place} has no name; give it one")
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise ValueError(f"{path} has several columns named {twice[0]!r}; rename them")
    cells: list[list[str | float]] = []
    for line, row in rows:
        if len(row) != len(header):
            raise ValueError(
                f"{path}, line {line}: {len(row)} cells, and the header has"
                f" {len(header)}; mend the line"
            )
        cells.append([_read_cell(cell) for cell in row])
    if not cells:
        raise ValueError(f"{path} has a header and no rows")
    return pd.DataFrame(cells, columns=pd.Index(header, dtype=object), dtype=object)


def _first_not_utf8(path: pathlib.Path) -> int:
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode()
            except UnicodeDecodeError:
                return number
    return 1


def composed(text: str) -> str:
    """The text in Unicode's NFC, in which letters that look alike are equal."""
    return unicodedata.normalize("NFC", text)


def _read_name(text: str) -> str:
    return cells.unguard(composed(text.strip()))


def _read_cell(text: str) -> str | float:
    return cells.unguard(composed(text)) if text.strip() else np.nan


def _as_text(column: pd.Series) -> pd.Series:
    return column.astype(object).map(str, na_action="ignore")


def write_table(frame: pd.DataFrame, path: str | os.PathLike) -> None:
    """Write a CSV of UTF-8, whole or not at all, that a spreadsheet does not run.

    A text that starts as a formula does, and is no number, is written with an
    apostrophe before it; `read_table` takes it off again.

    Args:
      frame: its index is not written.
      path: of the file; one that is there is replaced.

    Raises:
      OSError: it cannot be written.
    """
    # By position, as two columns may have one name.
    columns = [
        column if pd.api.types.is_numeric_dtype(column.dtype) else _as_text(column)
        for column in (frame.iloc[:, number] for number in range(frame.shape[1]))
    ]
    texts = pd.concat(columns, axis=1) if columns else frame.copy()
    texts.columns = pd.Index([str(name) for name in frame.columns], dtype=object)
    written = cells.guard_table(texts)
    quoting = cells.quoting(written)
    write_text(written.to_csv(index=False, quoting=quoting, lineterminator="\n"), path)


def write_text(text: str, path: str | os.PathLike) -> None:
    """Write a file of UTF-8, whole or not at all.

    Raises:
      OSError: it cannot be written.
    """
    write_bytes(text.encode(), path)


def write_bytes(content: bytes, path: str | os.PathLike) -> None:
    """Write a file, whole or not at all.

    Raises:
      OSError: it cannot be written.
    """
    path = pathlib.Path(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with open(temporary, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
