"""The cases of a table: what is known of each, what it was, and who said what."""

import difflib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

# Of all answers, those for cases that are not in the table: more is another table.
_MOST_UNKNOWN = 0.1
_WRONG_SUM = 1e-3


class Cases(NamedTuple):
    """N cases, of K classes, with the answers of M people.

    Attributes:
      ids: of the cases, distinct strings, ``[N]``.
      features: a row for each case and its own columns, as they were read; no label,
        answer, group or identifier is among them.
      labels: class of each case, int32 ``[N]``, in [0, K); -1 where it is not known.
      classes: names of the classes, K.
      answers: of the people, int32 ``[N, M]``, in [0, K); -1 who was not asked.
      people: names of the people, M; none is allowed.
      groups: name of each case's group, strings ``[N]``; None where none is given.
      units: what is never split between training and test, such as a patient, int
        ``[N]``; without one every case is its own.
      class_probs: of a model that is given, float64 ``[N, K]``, rows sum to 1; None
        where none is given.
      notes: what was seen on the way and should be known, a sentence each.
    """

    ids: np.ndarray
    features: pd.DataFrame
    labels: np.ndarray
    classes: tuple[str, ...]
    answers: np.ndarray
    people: tuple[str, ...]
    groups: np.ndarray | None
    units: np.ndarray
    class_probs: np.ndarray | None
    notes: tuple[str, ...]


def make_cases(
    frame: pd.DataFrame,
    *,
    label: str | None = None,
    id: str | None = None,
    experts: Sequence[str] = (),
    answers: pd.DataFrame | None = None,
    group: str | None = None,
    split_by: str | None = None,
    scores: Sequence[str] = (),
    exclude: Sequence[str] = (),
    positive: str | None = None,
    classes: Sequence[str] | None = None,
    people: Sequence[str] | None = None,
) -> Cases:
    """Cases of a table, whose rows are told apart by their own identifier.

    Rows are aligned by identifier, never by position or by the index of a DataFrame.
    Names of classes, and answers, are compared as texts without blanks around them;
    where all labels are numbers, by value: 1, ``1`` and ``1.0`` are one class.

    Args:
      frame: a row for each case.
      label: column of what the case was; None, or a blank cell, is not known.
      id: column that names the case; None counts rows from 1, where ``answers`` are
        not given.
      experts: columns of people's answers, blank where somebody was not asked.
      answers: in their place, a row for each answer: a column named as ``id`` or
        ``case``, ``expert``, and ``answer``.
      group: column of the group that a case is of; it is no feature.
      split_by: column of what is never split, such as a patient; it is no feature.
      scores: probabilities of a model of one's own: a column for two classes, that of
        the second of them (or of ``positive``), or one for each class in their order.
      exclude: columns that are no features.
      positive: the class that one column of ``scores`` is about, of two.
      classes: names of the classes, as of a team; None takes those of the labels.
      people: names of the people, as of a team; None takes who has answered.

    Returns:
      The cases. Classes are sorted, numbers by value.

    Raises:
      ValueError: a column or cell is not what it should be; the message names it.
    """
    frame = frame.reset_index(drop=True)
    frame.columns = [str(name) for name in frame.columns]
    if not len(frame):
        raise ValueError("the table has no rows")
    wide = tuple(experts)
    if people is not None and wide:
        # New cases need no answers.
        wide = tuple(name for name in wide if name in frame)
    roles = [id, label, group, split_by, *wide, *scores, *exclude]
    for name in roles:
        if name is not None:
            _require_column(frame, name)
    if wide and answers is not None:
        raise ValueError("answers: give them as columns or as a table of their own")
    named = [name for name in (id, label, group, split_by, *wide, *scores) if name]
    for name in named:
        if named.count(name) > 1:
            raise ValueError(f"column {name!r} has two parts to play; name it once")
    notes: list[str] = []
    ids = _identify(frame, id, answers is not None)
    known = _texts(frame[label]) if label else np.full(len(frame), None, object)
    names = _class_names(known, classes, label)
    labels = _index(known, names, f"label column {label!r}", ids)
    unknown = int((labels < 0).sum())
    if label and unknown and classes is None:
        notes.append(
            f"{unknown} of {len(ids)} cases have no label; they have no part in"
            " fitting and judging."
        )
    if answers is not None:
        matrix, persons = _long(answers, ids, id, names, people, notes)
    else:
        matrix, persons = _wide(frame, wide, ids, names, people)
    features = frame.drop(columns=list({name for name in roles if name}))
    if not len(features.columns) and not scores:
        raise ValueError("there is no column left to be a feature; exclude fewer")
    if "model" in persons:
        raise ValueError("nobody can be named 'model': decisions call the model so")
    return Cases(
        ids=ids,
        features=features,
        labels=labels,
        classes=names,
        answers=matrix,
        people=persons,
        groups=_groups(frame, group),
        units=_units(frame, split_by),
        class_probs=_probabilities(frame, scores, names, positive, ids),
        notes=tuple(notes),
    )


def _require_column(frame: pd.DataFrame, name: str) -> None:
    if name not in frame:
        near = difflib.get_close_matches(name, list(frame.columns), 1)
        advice = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(
            f"there is no column {name!r}{advice} (there are"
            f" {', '.join(map(repr, frame.columns[:20]))})"
        )


def text_of(value: Any) -> str | None:
    """A cell as a text, whole numbers without a point; None where it is missing."""
    if value is None or (np.isscalar(value) and pd.isna(value)) or value is pd.NaT:
        return None
    if isinstance(value, bool | np.bool_):
        return str(bool(value))
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    text = str(value).strip()
    return text or None


def _texts(column: pd.Series) -> np.ndarray:
    found = np.empty(len(column), object)
    found[:] = [text_of(value) for value in column.tolist()]
    return found


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _identify(frame: pd.DataFrame, name: str | None, needed: bool) -> np.ndarray:
    if name is None:
        if needed:
            raise ValueError("id: name the column that answers know the cases by")
        return np.arange(1, len(frame) + 1).astype(str).astype(object)
    ids = _texts(frame[name])
    missing = np.flatnonzero(ids == None)  # noqa: E711
    if len(missing):
        raise ValueError(
            f"id column {name!r} is blank in {len(missing)} rows, the first of them row"
            f" {missing[0] + 1}; give every case a name"
        )
    values, counts = np.unique(ids.astype(str), return_counts=True)
    if counts.max() > 1:
        twice = ", ".join(repr(str(value)) for value in values[counts > 1][:3])
        raise ValueError(
            f"id column {name!r} has {(counts > 1).sum()} names more than once, such as"
            f" {twice}; give every case a name of its own"
        )
    return ids


def _class_names(
    labels: np.ndarray, given: Sequence[str] | None, column: str | None
) -> tuple[str, ...]:
    if given is not None:
        return tuple(given)
    found = sorted({label for label in labels if label is not None})
    if column is None:
        raise ValueError("label: name the column of what the cases were")
    values = [_number(name) for name in found]
    if found and all(value is not None and np.isfinite(value) for value in values):
        # The shortest spelling of each number names it.
        by_value: dict[float, str] = {}
        for name, value in zip(found, values, strict=True):
            assert value is not None
            by_value[value] = min(by_value.get(value, name), name, key=len)
        found = [by_value[value] for value in sorted(by_value)]
    if len(found) < 2:
        one = f"one class alone, {found[0]!r}" if found else "no label"
        raise ValueError(
            f"label column {column!r} holds {one}; there must be two classes or more"
        )
    if len(found) > 100:
        raise ValueError(
            f"label column {column!r} holds {len(found)} classes, such as"
            f" {found[0]!r}; it is to hold a few, not a number of its own a case"
        )
    return tuple(found)


def _index(
    texts: np.ndarray, classes: tuple[str, ...], what: str, ids: np.ndarray
) -> np.ndarray:
    """Number of each text among the classes, int32; -1 where there is none.

    Raises:
      ValueError: a text is no class; the nearest is named.
    """
    index = {name: number for number, name in enumerate(classes)}
    values = [_number(name) for name in classes]
    by_value = (
        {value: number for number, value in enumerate(values)}
        if all(value is not None for value in values)
        else {}
    )
    found = np.full(len(texts), -1, np.int32)
    for row, text in enumerate(texts):
        if text is None:
            continue
        number = index.get(text)
        if number is None and by_value:
            number = by_value.get(_number(text))
        if number is None:
            near = difflib.get_close_matches(text, classes, 1, 0.0)
            listed = ", ".join(map(repr, classes[:10]))
            raise ValueError(
                f"{what}: {text!r} of case {ids[row]!r} is none of the classes"
                f" {listed}; the nearest is {near[0]!r}"
            )
        found[row] = number
    return found


def _wide(
    frame: pd.DataFrame,
    experts: Sequence[str],
    ids: np.ndarray,
    classes: tuple[str, ...],
    people: Sequence[str] | None,
) -> tuple[np.ndarray, tuple[str, ...]]:
    names = tuple(experts) if people is None else tuple(people)
    matrix = np.full((len(ids), len(names)), -1, np.int32)
    for number, name in enumerate(names):
        if name in experts:
            texts = _texts(frame[name])
            matrix[:, number] = _index(texts, classes, f"answers of {name!r}", ids)
    if people is None:
        _require_answers(matrix, names)
    return matrix, names


def _require_answers(matrix: np.ndarray, names: Sequence[str]) -> None:
    idle = [name for name, own in zip(names, matrix.T, strict=True) if own.max() < 0]
    if idle:
        raise ValueError(
            f"{idle[0]!r} has answered no case of the table; leave the column out"
        )


def _long(
    answers: pd.DataFrame,
    ids: np.ndarray,
    id: str | None,
    classes: tuple[str, ...],
    people: Sequence[str] | None,
    notes: list[str],
) -> tuple[np.ndarray, tuple[str, ...]]:
    table = answers.reset_index(drop=True)
    table.columns = [str(name) for name in table.columns]
    key = id if id in table else "case"
    for name in (key, "expert", "answer"):
        if name not in table:
            raise ValueError(
                f"answers: there is no column {name!r}; there must be {key!r},"
                " 'expert' and 'answer'"
            )
    cases, experts, said = (_texts(table[name]) for name in (key, "expert", "answer"))
    kept = said != None  # noqa: E711
    for column, texts in ((key, cases), ("expert", experts)):
        blank = np.flatnonzero(kept & (texts == None))  # noqa: E711
        if len(blank):
            raise ValueError(f"answers: {column!r} is blank in row {blank[0] + 1}")
    rows = {name: number for number, name in enumerate(ids)}
    here = kept & np.array([case in rows for case in cases], bool)
    num_foreign = int(kept.sum() - here.sum())
    if num_foreign:
        first = cases[np.flatnonzero(kept & ~here)[0]]
        told = (
            f"{num_foreign} of {int(kept.sum())} answers are for cases that are not in"
            f" the table, such as {first!r}"
        )
        if num_foreign > _MOST_UNKNOWN * kept.sum():
            raise ValueError(f"answers: {told}; are they those of this table?")
        notes.append(f"{told[0].upper()}{told[1:]}; they are left out.")
    found = sorted(set(experts[here]))
    names = tuple(found) if people is None else tuple(people)
    places = {name: number for number, name in enumerate(names)}
    codes = _index(said[here], classes, "answers", cases[here])
    matrix = np.full((len(ids), len(names)), -1, np.int32)
    twice = 0
    said_by = zip(
        cases[here].tolist(), experts[here].tolist(), codes.tolist(), strict=True
    )
    for case, expert, code in said_by:
        if expert not in places:
            raise ValueError(
                f"answers: {expert!r} is not one of the team's people; fit again with"
                " their answers, or leave them out"
            )
        place = rows[case], places[expert]
        if matrix[place] >= 0:
            if matrix[place] != code:
                raise ValueError(
                    f"answers: {expert!r} says both {classes[matrix[place]]!r} and"
                    f" {classes[code]!r} of case {case!r}; keep one"
                )
            twice += 1
        matrix[place] = code
    if twice:
        notes.append(f"{twice} answers are given twice; they count once.")
    if not len(names):
        raise ValueError("answers: there is no answer for any case of the table")
    return matrix, names


def _groups(frame: pd.DataFrame, column: str | None) -> np.ndarray | None:
    if column is None:
        return None
    texts = _texts(frame[column])
    return np.array(["(missing)" if t is None else t for t in texts], object)


def _units(frame: pd.DataFrame, column: str | None) -> np.ndarray:
    if column is None:
        return np.arange(len(frame))
    texts = _texts(frame[column])
    # Who has no unit is one of their own.
    names = [f"row {row}" if t is None else f"unit {t}" for row, t in enumerate(texts)]
    return np.unique(names, return_inverse=True)[1]


def _probabilities(
    frame: pd.DataFrame,
    columns: Sequence[str],
    classes: tuple[str, ...],
    positive: str | None,
    ids: np.ndarray,
) -> np.ndarray | None:
    if not columns:
        return None
    if len(columns) not in (1, len(classes)) or (len(columns) == 1 < len(classes) - 1):
        raise ValueError(
            f"scores: there are {len(columns)} columns and {len(classes)} classes; give"
            " one of each class, or one alone for two classes"
        )
    values = pd.DataFrame(
        {name: pd.to_numeric(frame[name], errors="coerce") for name in columns}
    ).to_numpy(float)
    for row, column in np.argwhere(~((values >= 0) & (values <= 1))):
        raise ValueError(
            f"scores: {columns[column]!r} of case {ids[row]!r} is"
            f" {frame[columns[column]].iloc[row]!r}, and no probability in [0, 1]"
        )
    if len(columns) == 1:
        second = values[:, 0]
        if positive is not None and positive == classes[0]:
            second = 1.0 - second
        return np.stack([1.0 - second, second], axis=1)
    sums = values.sum(axis=1)
    for row in np.flatnonzero(np.abs(sums - 1) > _WRONG_SUM)[:1]:
        raise ValueError(
            f"scores of case {ids[row]!r} sum to {sums[row]:.4g}; they must sum to 1"
        )
    return values / sums[:, None]


def take(cases: Cases, rows: np.ndarray) -> Cases:
    """Some of the cases, by their numbers, int ``[B]``."""

    def some(column: np.ndarray | None) -> np.ndarray | None:
        return None if column is None else column[rows]

    return cases._replace(
        ids=cases.ids[rows],
        features=cases.features.iloc[rows],
        labels=cases.labels[rows],
        answers=cases.answers[rows],
        groups=some(cases.groups),
        units=cases.units[rows],
        class_probs=some(cases.class_probs),
    )
