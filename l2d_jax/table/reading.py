"""Tables on the disk: every cell a string as it stands, or nothing."""

import csv
import io
import os
import pathlib
import secrets

import numpy as np
import pandas as pd

_MISSING = ("", "NA", "N/A", "NaN", "nan", "NULL", "null", "None")
_SEPARATORS = (",", ";", "\t")
# What a spreadsheet takes for a formula, and the mark that says it is none.
_FORMULA, _MARK = ("=", "+", "-", "@", "\t", "\r"), "'"
# Bytes of memory that a byte of a file takes while it is read, about.
_MEMORY_FACTOR = 8


def read_table(path: str | os.PathLike) -> pd.DataFrame:
    """A CSV of UTF-8, whose cells are separated by commas, semicolons or tabs.

    Cells are stripped of blanks around them; an empty one, or ``NA``, ``NaN``,
    ``NULL`` or ``None``, is missing. An apostrophe that keeps a spreadsheet from
    running a cell is taken off, as `write_table` puts it on.

    Args:
      path: of the file.

    Returns:
      Strings, and NaN where a cell is missing; the index counts rows from 0.

    Raises:
      OSError: the file cannot be read.
      ValueError: it is not such a table, or too large for this machine's memory.
    """
    path = pathlib.Path(path)
    if path.is_dir():
        raise ValueError(f"{path} is a folder; name a CSV file")
    size = path.stat().st_size
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if size * _MEMORY_FACTOR > free:
        raise ValueError(
            f"{path} has {size / 2**20:,.0f} MiB and would take about"
            f" {_MEMORY_FACTOR} times as much memory, of which {free / 2**20:,.0f} MiB"
            " are free; give fewer rows or columns"
        )
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not UTF-8 (byte {error.start}); save it as CSV UTF-8"
        ) from None
    if "\0" in text:
        raise ValueError(f"{path} holds a NUL character; it is no CSV file")
    if not text.strip():
        raise ValueError(f"{path} is empty")
    separator = _separator(text)
    _require_whole_rows(path, text, separator)
    frame = pd.read_csv(
        io.StringIO(text),
        sep=separator,
        dtype=str,
        keep_default_na=False,
        skip_blank_lines=True,
        skipinitialspace=True,
    )
    return frame.map(_clean).astype(object).where(lambda cells: cells.notna(), np.nan)


def _clean(cell: str) -> str | None:
    cell = cell.strip()
    if cell in _MISSING:
        return None
    # Of several marks one is ours.
    return (
        cell[1:]
        if cell.lstrip(_MARK).startswith(_FORMULA[:4]) and cell.startswith(_MARK)
        else cell
    )


def _separator(text: str) -> str:
    """That which splits the header into most cells, quotes considered."""

    def cells(separator: str) -> int:
        return len(next(csv.reader(io.StringIO(text), delimiter=separator), []))

    return max(_SEPARATORS, key=cells)


def _require_whole_rows(path: pathlib.Path, text: str, separator: str) -> None:
    """See that every row has as many cells as the header, which has names.

    Raises:
      ValueError: one has not; pandas would shift or fill it.
    """
    # A quoted text may be long.
    csv.field_size_limit(2**31 - 1)
    reader = csv.reader(io.StringIO(text), delimiter=separator, skipinitialspace=True)
    try:
        header = [name.strip() for name in next(reader)]
        rows = 0
        for row in reader:
            if row and len(row) != len(header):
                raise ValueError(
                    f"{path}, line {reader.line_num}: {len(row)} cells, and the header"
                    f" has {len(header)}; mend the line"
                )
            rows += bool(row)
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.line_num}: {error}") from None
    if not rows:
        raise ValueError(f"{path} has a header and no rows")
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise ValueError(f"{path} has several columns named {twice[0]!r}; rename them")
    if "" in header:
        raise ValueError(
            f"{path}: column {header.index('') + 1} has no name; give it one"
        )


def write_table(frame: pd.DataFrame, path: str | os.PathLike) -> None:
    """Write a CSV of UTF-8, whole or not at all, that a spreadsheet does not run.

    A text that starts as a formula does is written with an apostrophe before it.

    Args:
      frame: its index is not written.
      path: of the file; one that is there is replaced.
    """
    texts = frame.select_dtypes(exclude=["number", "bool"])
    guarded = frame.assign(
        **{name: texts[name].map(_guard, na_action="ignore") for name in texts}
    )
    guarded.columns = [_guard(str(name)) for name in frame.columns]
    write_text(guarded.to_csv(index=False), path)


def _guard(text: str) -> str:
    text = str(text)
    return _MARK + text if text.lstrip(_MARK).startswith(_FORMULA) else text


def write_text(text: str, path: str | os.PathLike) -> None:
    """Write a file of UTF-8, whole or not at all.

    Raises:
      OSError: it cannot be written.
    """
    path = pathlib.Path(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with open(temporary, "x", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
