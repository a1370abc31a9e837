"""Columns as what a classifier reads: numbers, categories, dates and texts.

What is done with each column is planned once for a whole table, so that every part of
it has the same width; the statistics are those of the rows that are fitted to. All of
it is plain numbers and names, which go to the disk without a pickle.
"""

import difflib
import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer

from l2d_jax.table.cases import Cases, text_of

KINDS = ("number", "category", "date", "text", "left out")
"""What can be done with a column."""

_OTHER, _MISSING = "(other)", "(missing)"
_MOST_CATEGORIES = 50
_RARE_ROWS, _RARE_SHARE = 5, 0.01
# Cells that are numbers or dates in this share of a column were all meant to be.
_MOST = 0.9
# So many different texts or fewer beside numbers stand for a cell that holds none.
_FEW_TEXTS = 3
# A standard deviation below this part of the values' size is one of rounding.
_SMALLEST_SPREAD = 1e-9
_FARTHEST = 10.0
_TEXT_DIMENSIONS = 50
_TEXT_TERMS = 5000
_EPOCH = datetime(1970, 1, 1)
_MONTH = re.compile(r"\d{4}-\d{2}")
_CODE = re.compile(r"[+-]?0\d+")
_ENGLISH = re.compile(r"[+-]?\d{1,3}(,\d{3})+(\.\d*)?")
_CONTINENTAL = re.compile(r"[+-]?(\d+|\d{1,3}(\.\d{3})+),\d+|[+-]?\d{1,3}(\.\d{3}){2,}")
_OTHER_DATE = re.compile(r"\d{1,4}([./-])\d{1,2}\1\d{1,4}([ T].*)?")
_STATISTICS = ("center", "scale", "idf", "components")


class Column(NamedTuple):
    """What is done with a column.

    Attributes:
      name: of the column.
      kind: one of `KINDS`.
      reason: why, in a few words.
      missing: whether cells were missing, which has a place of its own.
      categories: of a category, in their order; rarer ones are ``(other)``.
      width: places that it takes.
    """

    name: str
    kind: str
    reason: str
    missing: bool
    categories: tuple[str, ...]
    width: int


class ColumnPlan(NamedTuple):
    """What is done with the columns of a table, in their order."""

    columns: tuple[Column, ...]


class Encoder(NamedTuple):
    """A plan and the statistics of some rows.

    Attributes:
      plan: of the columns.
      center: of numbers, days and dimensions of texts, by column, float ``[W]``.
      scale: likewise, > 0; of a number or date its least and greatest besides.
      terms: of each text column, W terms.
      idf: of each text column, float ``[W]``.
      components: of each text column, float ``[T, W]``.
    """

    plan: ColumnPlan
    center: dict[str, np.ndarray]
    scale: dict[str, np.ndarray]
    terms: dict[str, tuple[str, ...]]
    idf: dict[str, np.ndarray]
    components: dict[str, np.ndarray]

    @property
    def names(self) -> tuple[str, ...]:
        """Of what is encoded, D."""
        found: list[str] = []
        for column in self.plan.columns:
            found += _names(column)
        return tuple(found)


def plan_columns(
    features: pd.DataFrame, text: Sequence[str] = (), category: Sequence[str] = ()
) -> ColumnPlan:
    """Say what is to be done with each column.

    A column whose cells are all numbers is a number, and one of dates, as ISO 8601
    writes them, the number of its days. Anything else is a category, and so are codes
    of one length with leading zeros: one place for each value that is in 1 % of the
    rows and in five of them, fifty at most. A column is left out where it has one
    value, or where nearly each row has a value of its own. A number of two values is
    still a number, unless it is asked for as a category.

    Args:
      features: cells of any type, or strings as they were read.
      text: columns that are texts.
      category: columns whose values are names, though they look like numbers or dates.

    Raises:
      ValueError: there is no such column, or it is named as both; a number is infinite
        or too large, or most cells of a column are numbers or dates, and others are
        not, a few of any text or all of a few texts; numbers have a point and not a
        comma.
    """
    asked: dict[str, str] = {}
    for kind, names in (("text", text), ("category", category)):
        for name in names:
            if name not in features:
                near = difflib.get_close_matches(name, map(str, features.columns), 1)
                advice = f"; did you mean {near[0]!r}?" if near else ""
                raise ValueError(
                    f"{kind}: there is no column {name!r} of features{advice}"
                )
            if asked.setdefault(name, kind) != kind:
                raise ValueError(f"column {name!r} is asked for as text and category")
    return ColumnPlan(
        tuple(_plan(features[name], str(name), asked.get(name)) for name in features)
    )


def _plan(column: pd.Series, name: str, asked: str | None) -> Column:
    if asked is None and column.dtype == np.float64:
        values = column.to_numpy()
        # Else what is too large is told below, as it is written.
        if not _beyond(values).any():
            return _plan_numbers(name, values[~np.isnan(values)], len(values))
    cells = _cells(column)
    known = cells[cells != None]  # noqa: E711
    missing = len(known) < len(cells)

    def left_out(reason: str) -> Column:
        return Column(name, "left out", reason, missing, (), 0)

    if not len(known):
        return left_out("every cell is missing")
    if asked == "text":
        return Column(name, "text", "asked for", missing, (), _TEXT_DIMENSIONS)
    if asked == "category":
        return _plan_category(name, known, len(cells), "values, asked for")
    where = _rows(column)[cells != None]  # noqa: E711
    numbers = _numbers(known)
    # One zero too many in a column of numbers does not make codes of them.
    coded = len(set(map(len, known))) == 1 and any(map(_CODE.fullmatch, known))
    if not coded and not np.isnan(numbers).any():
        _require_finite(numbers, known, where, name)
        return _plan_numbers(name, numbers, len(cells))
    days = _days(known)
    if not coded and not np.isnan(days).any():
        if np.ptp(days) == 0 and not missing:
            return left_out("every cell is the same")
        return Column(name, "date", "all dates", missing, (), 1 + missing)
    if not coded:
        _require_plain(numbers, known, name)
    for what, parsed in (("numbers", numbers), ("dates", days)):
        odd = np.isnan(parsed)
        one_word = odd.mean() < 0.5 and len(set(known[odd])) <= _FEW_TEXTS
        if not coded and (odd.mean() <= 1 - _MOST or one_word):
            raise ValueError(
                f"column {name!r} holds {what}, but for {int(odd.sum())} cells such as"
                f" {known[odd][0]!r} in row {where[odd][0]}; correct or blank them,"
                " name the column a category, or exclude it"
            )
    odd = np.isnan(days)
    like_dates = [_OTHER_DATE.fullmatch(cell) is not None for cell in known]
    if odd.any() and np.mean(like_dates) >= _MOST:
        raise ValueError(
            f"column {name!r} holds dates such as {known[odd][0]!r}; write them as"
            " 2026-12-31, or exclude the column"
        )
    what = "codes" if coded else "texts"
    return _plan_category(name, known, len(cells), what)


def _require_plain(numbers: np.ndarray, known: np.ndarray, name: str) -> None:
    """See that numbers are not written with commas, or with points between thousands.

    Raises:
      ValueError: they are.
    """
    english = np.array([_ENGLISH.fullmatch(cell) is not None for cell in known])
    continental = np.array([_CONTINENTAL.fullmatch(cell) is not None for cell in known])
    odd = np.isnan(numbers)
    marked = odd & (english | continental)
    if (odd & ~marked).mean() > 1 - _MOST:
        return
    for how, shown in (
        ("commas between thousands", marked & ~continental),
        ("points between thousands or a decimal comma", marked & ~english),
        ("a comma that is a decimal one or stands between thousands", marked),
    ):
        if shown.any():
            raise ValueError(
                f"column {name!r} holds numbers with {how}, such as"
                f" {known[shown][0]!r}; write them as 1234.56, or name the column a"
                " category"
            )


def _plan_numbers(name: str, known: np.ndarray, num_rows: int) -> Column:
    """A column of numbers.

    Args:
      name: of the column.
      known: those that are not missing, finite.
      num_rows: of all cells.
    """
    missing = len(known) < num_rows
    if not len(known):
        return Column(name, "left out", "every cell is missing", missing, (), 0)
    if np.ptp(known) <= _SMALLEST_SPREAD * np.abs(known).max() and not missing:
        same = "every cell is the same"
        if np.ptp(known) > 0:
            same = "all numbers are the same to nine digits; are they names?"
        return Column(name, "left out", same, missing, (), 0)
    return Column(name, "number", "all numbers", missing, (), 1 + missing)


def _plan_category(name: str, known: np.ndarray, num_rows: int, what: str) -> Column:
    """A column of names.

    Args:
      name: of the column.
      known: its cells that are not missing, at least one.
      num_rows: of all cells.
      what: its values are, in the plural.
    """
    missing = len(known) < num_rows

    def left_out(reason: str) -> Column:
        return Column(name, "left out", reason, missing, (), 0)

    values, counts = np.unique(known.astype(str), return_counts=True)
    if len(values) == 1 and not missing:
        return left_out("every cell is the same")
    if len(values) > max(_MOST_CATEGORIES, len(known) / 2):
        return left_out("nearly every row has a value of its own; is it a text?")
    least = max(_RARE_ROWS, _RARE_SHARE * num_rows)
    if counts.max() < least:
        return left_out(f"no value is in {int(np.ceil(least))} rows")
    common = [str(v) for v, n in zip(values, counts, strict=True) if n >= least]
    if len(common) > _MOST_CATEGORIES:
        order = np.argsort(-counts, kind="stable")[:_MOST_CATEGORIES]
        common = sorted(str(value) for value in values[order])
    # These two have places of their own.
    common = [value for value in common if value not in (_OTHER, _MISSING)]
    categories = (*common, _OTHER, *([_MISSING] if missing else []))
    return Column(
        name,
        "category",
        f"{len(values)} different {what}",
        missing,
        categories,
        len(categories),
    )


def read_numbers(plan: ColumnPlan, features: pd.DataFrame) -> pd.DataFrame:
    """The features with the numbers among them as float64, NaN where they are missing.

    Encoded, they are the same; but each cell is read once, and not with every part of a
    table that it is in.

    Args:
      plan: from `plan_columns`.
      features: of the table that it is of.
    """
    numbers = {
        column.name: _values(column, features[column.name])
        for column in plan.columns
        if column.kind == "number"
    }
    read = {name: numbers.get(name, features[name]) for name in features}
    return pd.DataFrame(read, index=features.index)


def note_left_out(plan: ColumnPlan) -> tuple[str, ...]:
    """A note of each column that is left out."""
    return tuple(
        f"Column {column.name!r} is left out: {column.reason}.".replace("?.", "?")
        for column in plan.columns
        if column.kind == "left out"
    )


def require_useful(plan: ColumnPlan, cases: Cases) -> None:
    """See that a model has something to go by: a column, or a model that is given.

    Raises:
      ValueError: it has not.
    """
    if cases.class_probs is None and not any(c.width for c in plan.columns):
        raise ValueError(
            "no column is of use to a model: each is empty, the same in every row, or"
            " different in each; give other columns, or scores of a model"
        )


def fit_encoder(plan: ColumnPlan, features: pd.DataFrame) -> Encoder:
    """Statistics of some rows, for a plan of a table that they are of.

    Args:
      plan: from `plan_columns`.
      features: the rows.

    Raises:
      ValueError: a column is missing or of another kind.
    """
    found = Encoder(plan, {}, {}, {}, {}, {})
    for column in plan.columns:
        if column.kind in ("number", "date"):
            values = _values(column, _column(features, column.name))
            values = values[~np.isnan(values)]
            # Without a value all are filled in with 0.
            center = float(np.mean(values)) if len(values) else 0.0
            spread = float(np.std(values)) if len(values) else 0.0
            size = float(np.abs(values).max(initial=0.0))
            spread = spread if spread > _SMALLEST_SPREAD * size else max(size, 1.0)
            median = float(np.median(values)) if len(values) else 0.0
            found.center[column.name] = np.array([center, median])
            ends = [values.min(), values.max()] if len(values) else [0.0, 0.0]
            found.scale[column.name] = np.array([spread, *ends])
        elif column.kind == "text":
            _fit_text(found, column, _column(features, column.name))
    return found


def _fit_text(found: Encoder, column: Column, cells: pd.Series) -> None:
    texts = ["" if cell is None else cell for cell in _cells(cells)]
    least = 2 if len(texts) > 20 else 1
    vectorizer = _vectorizer(None, least)
    try:
        weights = vectorizer.fit_transform(texts)
    except ValueError as error:
        raise ValueError(
            f"text column {column.name!r} has no word in two rows; exclude it"
        ) from error
    size = min(_TEXT_DIMENSIONS, min(weights.shape) - 1)
    components = np.zeros((_TEXT_DIMENSIONS, weights.shape[1]))
    if size > 0:
        # Where all texts are one it divides by their variance, for what is not used.
        with np.errstate(divide="ignore", invalid="ignore"):
            svd = TruncatedSVD(size, random_state=0).fit(weights)
        components[:size] = svd.components_
    reduced = weights @ components.T
    spread = reduced.std()
    found.terms[column.name] = tuple(vectorizer.get_feature_names_out())
    found.idf[column.name] = vectorizer.idf_
    found.components[column.name] = components
    found.center[column.name] = reduced.mean(axis=0)
    # One scale for all dimensions: the first tell more than the last.
    found.scale[column.name] = np.array([spread if spread > 0 else 1.0])


def _vectorizer(terms: Sequence[str] | None, least: int = 1) -> TfidfVectorizer:
    return TfidfVectorizer(
        ngram_range=(1, 2),
        min_df=least,
        max_features=_TEXT_TERMS,
        sublinear_tf=True,
        vocabulary=terms,
    )


def encode(
    encoder: Encoder, features: pd.DataFrame
) -> tuple[np.ndarray, tuple[str, ...]]:
    """What a classifier reads of some rows.

    A number that is missing is the median, and says so in a place of its own; one far
    from all that was fitted to is cut at ten standard deviations. A category that was
    rare, or not there, is ``(other)``. All of it is noted.

    Args:
      encoder: from `fit_encoder`.
      features: the rows; columns that were not fitted to are not read.

    Returns:
      Float32 ``[N, D]``, finite, and notes, a sentence each.

    Raises:
      ValueError: a column is missing or of another kind.
    """
    blocks = [np.zeros((len(features), 0))]
    notes: list[str] = []
    for column in encoder.plan.columns:
        if column.kind == "left out":
            continue
        cells = _column(features, column.name)
        if column.kind == "category":
            blocks.append(_encode_category(column, cells, notes))
        elif column.kind == "text":
            blocks.append(_encode_text(encoder, column, cells))
        else:
            blocks.append(_encode_number(encoder, column, cells, notes))
    return np.concatenate(blocks, axis=1).astype(np.float32), tuple(notes)


def _encode_number(
    encoder: Encoder, column: Column, cells: pd.Series, notes: list[str]
) -> np.ndarray:
    values = _values(column, cells)
    missing = np.isnan(values)
    if missing.any() and not column.missing:
        notes.append(
            f"Column {column.name!r} is blank in {int(missing.sum())} rows and never"
            " was where the team was fitted; the median stands for it."
        )
    center, median = encoder.center[column.name]
    spread, least, greatest = encoder.scale[column.name]
    with np.errstate(over="ignore"):
        scaled = (np.where(missing, median, values) - center) / spread
    # What was there where it was fitted is cut likewise, and nothing new.
    far = (np.abs(scaled) > _FARTHEST) & ((values < least) | (values > greatest))
    if far.any():
        notes.append(
            f"Column {column.name!r} is far from all that the team was fitted to in"
            f" {int(far.sum())} rows, such as {text_of(cells.iloc[np.argmax(far)])!r};"
            f" it is cut at {_FARTHEST:g} standard deviations."
        )
    known = values[~missing]
    outside = (known < least) | (known > greatest)
    if outside.sum() > max(len(known) / 2, far.sum()):
        notes.append(
            f"Column {column.name!r} is outside the range in which the team was fitted"
            f" in {100 * outside.mean():.0f} % of the rows that hold it, such as"
            f" {text_of(cells[~missing].iloc[np.argmax(outside)])!r}: is it measured in"
            " the same way?"
        )
    block = [np.clip(scaled, -_FARTHEST, _FARTHEST)]
    if column.missing:
        block.append(missing.astype(float))
    return np.stack(block, axis=1)


def _encode_category(column: Column, cells: pd.Series, notes: list[str]) -> np.ndarray:
    found = _cells(cells)
    index = {name: number for number, name in enumerate(column.categories)}
    other = index[_OTHER]
    blank = index.get(_MISSING, other)
    codes = np.array([blank if c is None else index.get(c, other) for c in found], int)
    strange = [c for c in found if c is not None and c not in index]
    if strange:
        named = ", ".join(map(repr, list(dict.fromkeys(strange))[:3]))
        notes.append(
            f"Column {column.name!r} holds values in {len(strange)} rows that were rare"
            f" or not there where the team was fitted, such as {named}; they count as"
            " (other)."
        )
    if not column.missing and (found == None).any():  # noqa: E711
        notes.append(
            f"Column {column.name!r} is blank in {int((found == None).sum())} rows and"  # noqa: E711
            " never was where the team was fitted; it counts as (other)."
        )
    return np.eye(len(column.categories))[codes]


def _encode_text(encoder: Encoder, column: Column, cells: pd.Series) -> np.ndarray:
    texts = ["" if cell is None else cell for cell in _cells(cells)]
    vectorizer = _vectorizer(encoder.terms[column.name])
    vectorizer.idf_ = encoder.idf[column.name]
    reduced = vectorizer.transform(texts) @ encoder.components[column.name].T
    scaled = (reduced - encoder.center[column.name]) / encoder.scale[column.name]
    return np.clip(scaled, -_FARTHEST, _FARTHEST)


class InUnits(NamedTuple):
    """What a classifier reads, as the table has it.

    Attributes:
      values: float64 ``[N, D]``, a number in its column's own unit, a date in days
        since 1970, NaN where they are blank; categories as 0 and 1. Only dimensions of
        a text, which have no unit, are as they are encoded.
      names: D, those of the encoder.
      dates: which are of dates, bool ``[D]``.
    """

    values: np.ndarray
    names: tuple[str, ...]
    dates: np.ndarray


def in_units(encoder: Encoder, features: pd.DataFrame) -> InUnits:
    """Rows for a reader, who knows the table and no standardized numbers.

    Args:
      encoder: from `fit_encoder`.
      features: the rows.

    Raises:
      ValueError: a column is missing or of another kind.
    """
    blocks, dates = [np.zeros((len(features), 0))], []
    for column in encoder.plan.columns:
        if column.kind == "left out":
            continue
        cells = _column(features, column.name)
        if column.kind == "category":
            block = _encode_category(column, cells, [])
        elif column.kind == "text":
            block = _encode_text(encoder, column, cells)
        else:
            values = _values(column, cells)
            block = np.stack([values, np.isnan(values)], axis=1)[:, : column.width]
        blocks.append(block)
        dates += [column.kind == "date", *[False] * (column.width - 1)]
    return InUnits(np.concatenate(blocks, axis=1), encoder.names, np.array(dates, bool))


def to_arrays(encoder: Encoder) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """An encoder as what JSON knows, and arrays by name.

    Args:
      encoder: from `fit_encoder`.
    """
    known = {
        "columns": [column._asdict() for column in encoder.plan.columns],
        "terms": encoder.terms,
    }
    arrays = {}
    for number, column in enumerate(encoder.plan.columns):
        for part in _STATISTICS:
            value = getattr(encoder, part).get(column.name)
            if value is not None:
                arrays[f"{number}.{part}"] = np.asarray(value, np.float64)
    return known, arrays


def from_arrays(known: dict[str, Any], arrays: dict[str, np.ndarray]) -> Encoder:
    """The encoder that `to_arrays` took apart.

    Raises:
      ValueError: an array is none of an encoder's.
    """
    columns = tuple(
        Column(**{**column, "categories": tuple(column["categories"])})
        for column in known["columns"]
    )
    terms = {name: tuple(value) for name, value in known["terms"].items()}
    found = Encoder(ColumnPlan(columns), {}, {}, terms, {}, {})
    for name, value in arrays.items():
        number, _, part = name.partition(".")
        if part not in _STATISTICS or number not in map(str, range(len(columns))):
            raise ValueError(f"array {name!r} is none of an encoder's")
        getattr(found, part)[columns[int(number)].name] = value
    return found


def _names(column: Column) -> list[str]:
    if column.kind == "category":
        return [f"{column.name} = {category}" for category in column.categories]
    if column.kind == "text":
        return [f"{column.name} (text {n + 1})" for n in range(column.width)]
    if column.kind == "left out":
        return []
    return [column.name, *([f"{column.name} missing"] if column.missing else [])]


def _column(features: pd.DataFrame, name: str) -> pd.Series:
    if name not in features:
        raise ValueError(f"there is no column {name!r}, which the team was fitted to")
    return features[name]


def _cells(column: pd.Series) -> np.ndarray:
    """Cells as texts, None where they are missing."""
    found = np.empty(len(column), object)
    found[:] = [text_of(value) for value in column.tolist()]
    return found


def _numbers(cells: np.ndarray) -> np.ndarray:
    """Cells as numbers, NaN where they are none."""
    known = {"True": "1", "False": "0"}
    texts = pd.Series([known.get(c, c) if c is not None else None for c in cells])
    return pd.to_numeric(texts, errors="coerce").to_numpy(float)


def _days(cells: np.ndarray) -> np.ndarray:
    """Cells as days since 1970, NaN where they are no dates of ISO 8601."""
    return np.array([np.nan if cell is None else _day(cell) for cell in cells], float)


def _day(cell: str) -> float:
    # Not all versions of pandas reach the year 9999, that some write for "never".
    if _MONTH.fullmatch(cell):
        cell += "-01"
    elif "-" not in cell:
        return np.nan
    try:
        date = datetime.fromisoformat(cell)
        since = (date.replace(tzinfo=None) - _EPOCH) / timedelta(days=1)
        return since - (date.utcoffset() or timedelta()) / timedelta(days=1)
    except ValueError:
        return np.nan


def _values(column: Column, cells: pd.Series) -> np.ndarray:
    """Numbers, or days, NaN where they are missing.

    Raises:
      ValueError: a cell is something else.
    """
    if column.kind == "number" and cells.dtype == np.float64:
        values = cells.to_numpy()
        if not _beyond(values).any():
            return values
    texts = _cells(cells)
    values = _numbers(texts) if column.kind == "number" else _days(texts)
    odd = np.isnan(values) & (texts != None)  # noqa: E711
    rows = _rows(cells)
    if odd.any():
        first = int(np.argmax(odd))
        raise ValueError(
            f"column {column.name!r} is to hold a {column.kind}, as where the team was"
            f" fitted, and holds {texts[first]!r} in row {rows[first]}"
        )
    if column.kind == "number":
        known = ~np.isnan(values)
        _require_finite(values[known], texts[known], rows[known], column.name)
    return values


def _rows(column: pd.Series) -> np.ndarray:
    """Numbers of the rows in the table that they are of, from 1."""
    # Rows that were taken from a table keep its index.
    if pd.api.types.is_integer_dtype(column.index.dtype):
        return column.index.to_numpy() + 1
    return np.arange(1, len(column) + 1)


def _beyond(values: np.ndarray) -> np.ndarray:
    """What float32 cannot hold is infinite to the classifier; NaN is missing."""
    return np.abs(values) >= np.finfo(np.float32).max


def _require_finite(
    values: np.ndarray, cells: np.ndarray, rows: np.ndarray, name: str
) -> None:
    large = _beyond(values)
    if large.any():
        first = int(np.argmax(large))
        raise ValueError(
            f"column {name!r} holds {cells[first]!r} in row {rows[first]}, too large a"
            " number to compute with; correct or blank it"
        )
