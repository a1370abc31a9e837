"""What real people answered: who, about which example, and which class."""

import csv
import logging
import os
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from l2d_jax.data.folder import DataError

_LOGGER = logging.getLogger(__name__)


class Answers(NamedTuple):
    """Answers of P annotators, A in all, in the order of their source.

    No annotator answers an example twice, and every annotator answers at least one.

    Attributes:
      annotators: who answered, int32 ``[A]``, in [0, P).
      examples: index of the example in its split, in canonical order, int32 ``[A]``.
      labels: class given, int32 ``[A]``, in [0, K).
      names: the annotators' identifiers, ``[P]``, sorted as text.
      num_repeats: how many further answers of an annotator to the same example were
        left out.
    """

    annotators: np.ndarray
    examples: np.ndarray
    labels: np.ndarray
    names: tuple[str, ...]
    num_repeats: int


def make_answers(
    ids: Sequence[object],
    examples: Sequence[object],
    labels: Sequence[object],
    num_examples: int,
    num_classes: int,
    source: str | os.PathLike[str],
    rows: Sequence[int] | None = None,
) -> Answers:
    """Answers from raw columns, checked.

    Of an annotator's answers to the same example the first stays, whether the example
    was shown again or the identifier appears in two sessions.

    Args:
      ids: the annotators' identifiers, ``[A]``, as text or numbers.
      examples: index of the example, ``[A]``, whole numbers or their text, in
        [0, num_examples).
      labels: class given, ``[A]``, whole numbers or their text, in [0, num_classes).
      num_examples: size of the split.
      num_classes: K, the number of classes.
      source: the file that the columns are from, for messages.
      rows: number of each answer's row in the source, ``[A]``, for messages. None: 1,
        2, ..., A.

    Returns:
      The answers, ``[A]`` or fewer.

    Raises:
      DataError: an identifier is missing, an index or a class is out of range, or there
        is no answer at all.
      ValueError: a column is none, or the columns differ in length.
    """
    ids, examples, labels = (
        as_column(field, column)
        for field, column in (("ids", ids), ("examples", examples), ("labels", labels))
    )
    rows = range(1, len(ids) + 1) if rows is None else as_column("rows", rows)
    sizes = [len(ids), len(examples), len(labels), len(rows)]
    if len(set(sizes)) > 1:
        raise ValueError(
            f"ids, examples, labels and rows must be of one length, not {sizes}"
        )
    if len(rows) == 0:
        raise DataError(f"{source} holds no answer: get the whole file")
    first: dict[tuple[str, int], int] = {}
    for name, example, label, row in zip(ids, examples, labels, rows, strict=True):
        identifier = as_identifier(name)
        index, given = whole_number(example), whole_number(label)
        if not identifier:
            problem = "the annotator's identifier is missing"
        elif index is None or not 0 <= index < num_examples:
            problem = _out_of_range("image index", example, num_examples)
        elif given is None or not 0 <= given < num_classes:
            problem = _out_of_range("label", label, num_classes)
        else:
            first.setdefault((identifier, index), given)
            continue
        raise DataError(
            f"{source}, row {row} (the header not counted): {problem}; correct the row "
            "or leave it out"
        )
    num_repeats = len(ids) - len(first)
    if num_repeats:
        _LOGGER.info(
            "%s: %d repeated answers left out; of each annotator's answers to the same "
            "example the first stays",
            source,
            num_repeats,
        )
    names = tuple(sorted({identifier for identifier, _ in first}))
    places = {identifier: place for place, identifier in enumerate(names)}
    return Answers(
        annotators=np.array([places[identifier] for identifier, _ in first], np.int32),
        examples=np.array([index for _, index in first], np.int32),
        labels=np.array(list(first.values()), np.int32),
        names=names,
        num_repeats=num_repeats,
    )


def read_columns(
    lines: Iterable[str], names: Sequence[str], source: str | os.PathLike[str]
) -> list[list[str]]:
    """Columns of a table of comma-separated values, found by name.

    Args:
      lines: the table, line ends kept; the first line is the header.
      names: the columns wanted.
      source: the file, for messages.

    Returns:
      The text of each column, without the header, in the order of ``names``. A row too
      short for a column has an empty text there; a line without a field, or of blanks
      alone, is no row.

    Raises:
      DataError: a column is missing, or the table cannot be read.
    """
    reader = csv.reader(lines)
    try:
        header = next(reader, [])
        missing = [name for name in names if name not in header]
        if missing:
            found = ", ".join(header)
            raise DataError(
                f"{source} has no column {', '.join(missing)} (it has {found!r:.200}): "
                "get the file as its authors publish it"
            )
        rows = [row for row in reader if not is_blank(row)]
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(
            f"{source} is no table of comma-separated values (near line "
            f"{reader.line_num + 1}, {error}): get the file as its authors publish it"
        ) from error
    places = [header.index(name) for name in names]
    return [[row[i] if i < len(row) else "" for row in rows] for i in places]


def is_blank(row: Sequence[str]) -> bool:
    """Whether a line of a table is empty, or holds blanks and no separator.

    Args:
      row: the line's fields, as `csv` splits them.
    """
    return not row or (len(row) == 1 and row[0].isspace())


def as_column(field: str, values: Iterable[object]) -> list[Any]:
    """The values of a column by their position, whatever index comes with them.

    A Series of pandas is subscripted by its labels, so that after a shuffle, a filter
    or a join ``column[0]`` is not its first value. A list is.

    Args:
      field: name of the column, for messages.
      values: one value a row.

    Raises:
      ValueError: it is one text, or has not one axis.
    """
    if isinstance(values, str) or getattr(values, "ndim", 1) != 1:
        kind = type(values).__name__
        raise ValueError(f"{field} must be one value a row, not a {kind}")
    return list(values)


def as_identifier(value: object) -> str:
    """The text that identifies somebody or something; empty where it is missing.

    None, NaN, the NA and NaT of pandas and blank text are missing: none of them is
    somebody called "nan". A whole number is one and the same as a float, which pandas
    makes of a column where one is missing.

    Args:
      value: a text or a number.
    """
    try:
        # NaN and NaT are the values unlike themselves; NA will not say.
        missing = value is None or bool(value != value)
    except (TypeError, ValueError):
        missing = True
    if missing:
        return ""
    if isinstance(value, float | np.floating) and value.is_integer():
        value = int(value)
    return str(value).strip()


def whole_number(value: object) -> int | None:
    """The whole number that a value or its text is.

    Args:
      value: a number, or text such as ``"7"`` or ``"7.0"``; not ``"1_0"``, which
        Python alone takes for 10.

    Returns:
      The number, or None where it is none.
    """
    if isinstance(value, str) and "_" in value:
        return None
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return int(number) if number.is_integer() else None


def _out_of_range(what: str, value: object, size: int) -> str:
    return f"{what} {str(value)!r:.50} is not a whole number in [0, {size})"
