"""Texts as cells of a CSV, which no spreadsheet runs and every reader takes for one."""

import csv
import re
from collections.abc import Callable
from typing import Any

import pandas as pd

# What a spreadsheet takes for a formula, and the mark that says it is none.
_FORMULA, _MARK = ("=", "+", "-", "@", "\t", "\r"), "'"
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+|inf|nan)([eE][+-]?\d+)?\s*")
_BARE = re.compile(r"\r|^ ")


def guard(value: Any) -> Any:
    """A text with an apostrophe before it, if a spreadsheet might run it.

    A number is none, though it be written as a text; what is no text stays as it is.
    """
    runs = isinstance(value, str) and _would_run(value)
    return _MARK + value if runs else value


def unguard(value: Any) -> Any:
    """What `guard` was given."""
    # Of several marks one is ours.
    ours = isinstance(value, str) and value.startswith(_MARK) and _would_run(value)
    return value[1:] if ours else value


def guard_table(table: pd.DataFrame) -> pd.DataFrame:
    """A table whose texts and names of columns are each as of `guard`."""
    return _map(guard, table)


def unguard_table(table: pd.DataFrame) -> pd.DataFrame:
    """What `guard_table` was given."""
    return _map(unguard, table)


def quoting(table: pd.DataFrame) -> int:
    """Which cells to quote, of the module `csv`: all texts only where it must be.

    Python's writer leaves bare what its reader would take for the end of a line, or for
    a blank before a cell.
    """
    texts = [
        table.iloc[:, number].astype(str)
        for number, dtype in enumerate(table.dtypes)
        if not pd.api.types.is_numeric_dtype(dtype)
    ]
    bare = any(_BARE.search(str(name)) for name in table.columns) or any(
        column.str.contains(_BARE).any() for column in texts
    )
    return csv.QUOTE_NONNUMERIC if bare else csv.QUOTE_MINIMAL


def _map(function: Callable[[Any], Any], table: pd.DataFrame) -> pd.DataFrame:
    """A table changed where the function changes anything, and the same elsewhere."""
    # By position, as two columns may have one name.
    changed = {}
    for number, dtype in enumerate(table.dtypes):
        if pd.api.types.is_numeric_dtype(dtype):
            continue
        column = table.iloc[:, number].astype(object)
        mapped = column.map(function, na_action="ignore")
        if (mapped.notna() & (mapped != column)).any():
            changed[number] = mapped
    names = [function(name) for name in table.columns]
    if not changed and names == list(table.columns):
        return table
    columns = [
        changed.get(number, table.iloc[:, number]) for number in range(len(names))
    ]
    made = pd.concat(columns, axis=1) if columns else table.copy()
    made.columns = pd.Index(names, dtype=object)
    return made


def _would_run(text: str) -> bool:
    """Whether a spreadsheet may run a text, or would but for marks before it."""
    bare = text.lstrip(f"{_MARK} \n")
    return bare.startswith(_FORMULA) and _NUMBER.fullmatch(bare) is None
