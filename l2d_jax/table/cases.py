"""The cases of a table: what is known of each, what it was, and who said what."""

import collections
import difflib
import fnmatch
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.optimize import linear_sum_assignment
from scipy.stats import binomtest

from l2d_jax.table.reading import composed

MISSING = frozenset(("", "na", "n/a", "#n/a", "nan", "null", "none"))
"""What a cell says that is missing, in small letters, without blanks around it."""

# Of all answers, those for cases that are not in the table: more is another table.
_MOST_UNKNOWN = 0.1
_WRONG_SUM = 1e-3
_MOST_CLASSES = 100
# So unlikely is it by chance that another order of a model's columns is right so often.
_BY_CHANCE = 1e-3
_WHOLE = 2.0**53
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_LEADING_ZERO = re.compile(r"[+-]?0\d")
_STRANGER = (
    "answers: {!r} is not one of the team's people; fit again with their answers, or"
    " leave them out"
)
_TRUTH = {"false": 0.0, "true": 1.0}


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
    also_features: Sequence[str] = (),
) -> Cases:
    """Cases of a table, whose rows are told apart by their own identifier.

    Rows are aligned by identifier, never by position or by the index of a DataFrame.
    Names of classes, and answers, are compared as texts without blanks around them.
    A cell is missing that is empty or a word of `MISSING`, in whatever capitals. Among
    labels and answers such words are noted, and "None" is refused: it may be a class.
    Where every class is a number they are compared by value: 1, ``1``, ``1.0`` and
    ``01`` are one class, and so are ``True`` and 1 where the classes are 0 and 1, or
    ``False`` and ``True``. Both ``1`` and ``01`` among the labels are refused.

    Args:
      frame: a row for each case.
      label: column of what the case was; None, or a blank cell, is not known.
      id: column that names the case; None counts rows from 1, where ``answers`` are
        not given.
      experts: columns of people's answers, blank where somebody was not asked; a name
        such as ``r*`` stands for all that have no other part to play.
      answers: in their place, a row for each answer: a column named as ``id`` or
        ``case``, ``expert``, and ``answer``.
      group: column of the group that a case is of; it is no feature.
      split_by: column of what is never split, such as a patient; it is no feature.
      scores: probabilities of a model of one's own: a column for two classes, that of
        the second of them (or of ``positive``), or one for each class in their order:
        sorted, numbers by value.
      exclude: columns that are no features.
      positive: the class that one column of ``scores`` is about, of two.
      classes: names of the classes, as of a team; None takes those of the labels.
      people: names of the people, as of a team whose new cases these are: they need
        no answers, and no columns ``exclude``, ``group`` and ``split_by``. None takes
        who has answered.
      also_features: those of the columns ``group`` and ``split_by`` that are features
        all the same.

    Returns:
      The cases. Classes are sorted, numbers by value.

    Raises:
      ValueError: a column or cell is not what it should be; the message names it.
    """
    for what, value in (
        ("experts", experts),
        ("scores", scores),
        ("exclude", exclude),
        ("classes", classes),
        ("people", people),
        ("also_features", also_features),
    ):
        if isinstance(value, str):
            raise ValueError(f"{what}: give a list of names, such as [{value!r}]")
    frame = _with_plain_names(frame, "the table")
    if not len(frame):
        raise ValueError("the table has no rows")
    new = people is not None
    if new:
        exclude = [name for name in exclude if name in frame]
        group = group if group in frame else None
        split_by = split_by if split_by in frame else None
    others = [name for name in (id, label, group, split_by, *scores, *exclude) if name]
    wide = _expand(experts, list(frame.columns), others, new)
    for name in [*others, *wide]:
        _require_column(frame, name)
    if wide and answers is not None:
        raise ValueError("answers: give them as columns or as a table of their own")
    for name in also_features:
        if name not in (group, split_by) and not new:
            raise ValueError(
                f"also_features: {name!r} is neither the group nor what is never split"
            )
    named = [name for name in (id, label, *wide, *scores) if name]
    # A hospital may be a group that is never split.
    named += sorted({name for name in (group, split_by) if name})
    for name in named:
        if named.count(name) > 1:
            raise ValueError(f"column {name!r} has two parts to play; name it once")
    notes: list[str] = []
    for name in named:
        _note_blanks(frame[name], notes)
    for name in [name for name in (label, *wide) if name]:
        _note_words(frame[name], notes)
    ids = _identify(frame, id, answers is not None)
    known = _texts(frame[label]) if label else np.full(len(frame), None, object)
    names = _class_names(known, classes, label)
    # A word for a blank is no class, and is refused as any other.
    positive = positive if positive is None else text_of(positive) or str(positive)
    if classes is None:
        require_positive(positive, names)
    labels = _index(known, names, f"label column {label!r}", ids)
    unknown = int((labels < 0).sum())
    if 0 < unknown < len(ids):
        notes.append(
            f"{unknown} of {len(ids)} cases have no label; they have no part in"
            " fitting and judging."
        )
    if answers is not None:
        matrix, persons = _long(answers, ids, id, names, people, notes)
    else:
        matrix, persons = _wide(frame, wide, ids, names, people)
    probs = _probabilities(frame, scores, names, positive, ids)
    if probs is not None and classes is None:
        _require_own_columns(probs, labels, scores, names, positive)
    features = frame.drop(columns=list({*others, *wide} - set(also_features)))
    if not len(features.columns) and not scores:
        raise ValueError("there is no column left to be a feature; exclude fewer")
    if classes is None:
        _note_answers(features, names, notes)
        _note_capitals(names, "Classes", notes)
        _note_capitals(persons, "People", notes)
    require_people(persons)
    return Cases(
        ids=ids,
        features=features,
        labels=labels,
        classes=names,
        answers=matrix,
        people=persons,
        groups=_groups(frame, group, notes),
        units=_units(frame, split_by, notes),
        class_probs=probs,
        notes=tuple(notes),
    )


def _with_plain_names(frame: pd.DataFrame, what: str) -> pd.DataFrame:
    """The frame without its index, its columns named by distinct strings."""
    frame = frame.reset_index(drop=True)
    frame.columns = pd.Index([str(name) for name in frame.columns], dtype=object)
    twice = frame.columns[frame.columns.duplicated()]
    if len(twice):
        raise ValueError(f"{what} has several columns named {twice[0]!r}; rename them")
    return frame


def _require_column(frame: pd.DataFrame, name: str) -> None:
    if name not in frame:
        near = difflib.get_close_matches(name, list(frame.columns), 1)
        advice = f"; did you mean {near[0]!r}?" if near else ""
        listed = ", ".join(map(repr, frame.columns[:20]))
        more = ", ..." if len(frame.columns) > 20 else ""
        raise ValueError(
            f"there is no column {name!r}{advice} (there are {listed}{more})"
        )


def _expand(
    experts: Sequence[str], columns: list[str], others: Sequence[str], new: bool
) -> tuple[str, ...]:
    """Names of columns in place of patterns; new cases may lack some."""
    found: list[str] = []
    for name in experts:
        if name in columns or "*" not in name:
            found += [name] if name in columns or not new else []
            continue
        own = [
            column
            for column in fnmatch.filter(columns, name)
            if column not in others and column not in found
        ]
        if not own and not new:
            raise ValueError(f"experts: there is no column {name!r}")
        found += own
    return tuple(found)


def _note_answers(
    features: pd.DataFrame, classes: tuple[str, ...], notes: list[str]
) -> None:
    """Note features that say nothing but classes: people who were not named?"""
    if all(_number(name) is not None for name in classes):
        # Any column of zeros and ones would.
        return
    for name in features:
        said = {text_of(value) for value in features[name].unique().tolist()} - {None}
        if len(said) > 1 and said <= {*classes}:
            notes.append(
                f"Column {name!r} holds names of classes and is taken for a feature; if"
                " it is what somebody said of the cases, name it among the experts or"
                " exclude it."
            )


def _note_blanks(column: pd.Series, notes: list[str], where: str = "") -> None:
    values = column.tolist()
    # That a cell is missing is said elsewhere.
    count = sum(
        isinstance(value, str) and value != value.strip() and text_of(value) is not None
        for value in values
    )
    if count:
        notes.append(
            f"Blanks around {count} cells of column {column.name!r}{where} are left"
            " out."
        )


def _note_words(column: pd.Series, notes: list[str], where: str = "") -> None:
    """Note words for a blank among labels or answers, of which one may be a class.

    Raises:
      ValueError: one is "None", as a grade of a disease is called too.
    """
    texts = [value.strip() for value in column.tolist() if isinstance(value, str)]
    words = collections.Counter(t for t in texts if t and text_of(t) is None)
    for word, count in words.items():
        told = f"column {column.name!r}{where} holds {word!r} in {count} rows"
        if word.lower() == "none":
            raise ValueError(
                f"{told}, a word for a blank: rename the class, or leave the cells"
                " empty"
            )
        notes.append(
            f"{told[0].upper()}{told[1:]}, a word for a blank, and they are taken for"
            " blank; if it is a class, rename it."
        )


def _note_capitals(names: Sequence[str], what: str, notes: list[str]) -> None:
    """Note names that differ in capital letters alone."""
    folded = collections.defaultdict(list)
    for name in names:
        folded[name.casefold()].append(repr(name))
    for alike in folded.values():
        if len(alike) > 1:
            notes.append(
                f"{what} {' and '.join(alike)} differ in capital letters alone; if they"
                " are one, write them in one way."
            )


def text_of(value: Any) -> str | None:
    """A cell as a text, whole numbers without a point; None where it is missing."""
    if isinstance(value, str):
        text = composed(value.strip())
        return None if text.lower() in MISSING else text
    # What is not a number differs from itself; pandas' NA says neither.
    if value is None or value is pd.NA or value is pd.NaT or value != value:
        return None
    if isinstance(value, bool | np.bool_):
        return str(bool(value))
    if isinstance(value, float | np.floating):
        number = float(value)
        # Larger ones are not written out, and may not be whole at all.
        if number.is_integer() and abs(number) < _WHOLE:
            return str(int(number))
    return text_of(str(value))


def _texts(column: pd.Series) -> np.ndarray:
    found = np.empty(len(column), object)
    found[:] = [text_of(value) for value in column.tolist()]
    return found


def _number(text: str) -> float | None:
    """Value of a name that is a number or a truth, None of another."""
    if _NUMBER.fullmatch(text):
        return float(text)
    return _TRUTH.get(text.lower())


def require_people(names: Sequence[str]) -> None:
    """See that people can be told apart, from one another and from the model.

    Raises:
      ValueError: they cannot.
    """
    if "model" in names:
        raise ValueError("nobody can be named 'model': decisions call the model so")
    twice = [name for name, count in collections.Counter(names).items() if count > 1]
    if twice:
        raise ValueError(f"two people are named {twice[0]!r}; rename one of them")


def require_positive(name: str | None, classes: Sequence[str]) -> None:
    """See that a class is one of two, if it is named.

    Raises:
      ValueError: it is not.
    """
    if name is None:
        return
    if name not in classes:
        raise ValueError(f"positive: {_no_class(name, classes)}")
    if len(classes) != 2:
        raise ValueError(
            f"positive: {name!r} is one of {len(classes)} classes, and what it is about"
            " is told of two alone; leave it out"
        )


def _no_class(text: str, classes: Sequence[str]) -> str:
    near = difflib.get_close_matches(text, classes, 1, 0.0)
    listed = ", ".join(map(repr, classes[:10])) + (", ..." if len(classes) > 10 else "")
    return f"{text!r} is none of the classes {listed}; the nearest is {near[0]!r}"


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
        named = tuple(text_of(name) or "" for name in given)
        if len(named) < 2 or len(set(named)) < len(named) or "" in named:
            raise ValueError(f"classes must be two names or more, got {list(given)}")
        return named
    found = sorted({label for label in labels if label is not None})
    if column is None:
        raise ValueError("label: name the column of what the cases were")
    values = [_number(name) for name in found]
    if all(value is not None for value in values):
        by_value: dict[float, str] = {}
        for name, value in zip(found, values, strict=True):
            assert value is not None
            other = by_value.setdefault(value, name)
            if other != name and any(map(_LEADING_ZERO.match, (other, name))):
                raise ValueError(
                    f"label column {column!r} holds both {other!r} and {name!r}; write"
                    " one class in one way"
                )
            # The shortest spelling of each number names it.
            by_value[value] = min(other, name, key=len)
        found = [by_value[value] for value in sorted(by_value)]
    if len(found) < 2:
        one = f"one class alone, {found[0]!r}" if found else "no label"
        raise ValueError(
            f"label column {column!r} holds {one}; there must be two classes or more"
        )
    if len(found) > _MOST_CLASSES:
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
    # Names such as "1" and "01" tell classes apart as texts alone.
    plain = None not in values and len(set(values)) == len(values)
    by_value = {value: number for number, value in enumerate(values)} if plain else {}
    found = np.full(len(texts), -1, np.int32)
    for row, text in enumerate(texts):
        if text is None:
            continue
        number = index.get(text)
        if number is None and by_value:
            number = by_value.get(_number(text))
        if number is None:
            raise ValueError(f"{what}, case {ids[row]!r}: {_no_class(text, classes)}")
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
    for name in experts:
        if name not in names:
            raise ValueError(_STRANGER.format(name))
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
    table = _with_plain_names(answers, "answers")
    key = id if id in table else "case"
    for name in (key, "expert", "answer"):
        if name not in table:
            raise ValueError(
                f"answers: there is no column {name!r}; there must be {key!r},"
                " 'expert' and 'answer'"
            )
    for name in (key, "expert", "answer"):
        _note_blanks(table[name], notes, " of the answers")
    _note_words(table["answer"], notes, " of the answers")
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
    idle = set(experts[~kept]) - set(experts[kept]) - {None}
    if people is None and idle:
        raise ValueError(
            f"answers: {min(idle)!r} has no answer; leave the rows out, or fill them"
        )
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
            raise ValueError(_STRANGER.format(expert))
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


def _groups(
    frame: pd.DataFrame, column: str | None, notes: list[str]
) -> np.ndarray | None:
    if column is None:
        return None
    texts = _texts(frame[column])
    blank = sum(text is None for text in texts)
    if blank:
        notes.append(f"Column {column!r} is blank in {blank} cases: a group of theirs.")
    return np.array(["(missing)" if t is None else t for t in texts], object)


def _units(frame: pd.DataFrame, column: str | None, notes: list[str]) -> np.ndarray:
    if column is None:
        return np.arange(len(frame))
    texts = _texts(frame[column])
    blank = sum(text is None for text in texts)
    if blank:
        notes.append(
            f"Column {column!r} is blank in {blank} cases: each is taken for one of its"
            " own, and may be split from others that it belongs to."
        )
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
        {
            name: pd.to_numeric(pd.Series(_texts(frame[name])), errors="coerce")
            for name in columns
        }
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


def _require_own_columns(
    class_probs: np.ndarray,
    labels: np.ndarray,
    columns: Sequence[str],
    classes: tuple[str, ...],
    positive: str | None,
) -> None:
    """See that labels do not say that columns are of other classes than they stand for.

    Raises:
      ValueError: with the columns in another order the model is right more often, by
        an exact test of the cases in which one of the two is.
    """
    known = labels >= 0
    probs, labels = class_probs[known], labels[known]
    members = np.eye(len(classes))[labels]
    means = (members.T @ probs) / members.sum(axis=0)[:, None]
    # By means, so that a model that is right about the order of cases, and says one
    # class too often, is left as it is.
    _, order = linear_sum_assignment(means, maximize=True)
    read = probs.argmax(axis=1) == labels
    other = probs[:, order].argmax(axis=1) == labels
    gained, lost = int((other & ~read).sum()), int((read & ~other).sum())
    if gained <= lost:
        return
    test = binomtest(gained, gained + lost, alternative="greater")
    if test.pvalue >= _BY_CHANCE:
        return
    listed = ", ".join(map(repr, classes))
    shares = f"{100 * read.mean():.1f} %", f"{100 * other.mean():.1f} %"
    if len(columns) == 1:
        meant = classes.index(positive or classes[1])
        raise ValueError(
            f"scores: with column {columns[0]!r} as the probability of"
            f" {classes[meant]!r}, of the classes {listed}, the model is right in"
            f" {shares[0]} of the labelled cases, and in {shares[1]} with it as that of"
            f" {classes[1 - meant]!r}; name the class that it is of as positive, or"
            " give a column of each class in that order"
        )
    raise ValueError(
        f"scores: with columns {', '.join(map(repr, columns))} as the probabilities of"
        f" {listed}, the classes in their order, the model is right in {shares[0]} of"
        f" the labelled cases, and in {shares[1]} with columns"
        f" {', '.join(repr(columns[n]) for n in order)}; give them in the order of the"
        " classes"
    )


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
