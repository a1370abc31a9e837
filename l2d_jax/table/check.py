"""What a table holds, what fitting would do with it, and what is odd about it."""

import textwrap
from typing import NamedTuple

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.tree import DecisionTreeClassifier
from statsmodels.stats.proportion import proportion_confint

from l2d_jax.table import columns
from l2d_jax.table.cases import Cases, take, text_of
from l2d_jax.table.folds import shortage
from l2d_jax.table.options import Options

_FEW_ANSWERS = 10
_FEW_CASES = 200
_GIVES_AWAY = 0.99
_CIRCULAR = 0.99
_ENOUGH_CASES = 20
_MOST_PEOPLE = 20
_MOST_CASES = 20_000  # In which a column that gives the label away is looked for.
_PARTS = 3
_WIDTH = 59


class Check(NamedTuple):
    """What a table holds.

    Attributes:
      columns: ``column, kind, missing, reason``; a row for each.
      classes: ``class, cases, share``.
      people: ``person, answers, asked, right, low, high``: of the cases with a label,
        how many each has answered, which share that is, and how often they are right,
        with Wilson's 95 % interval; NaN where they have answered none.
      facts: name and number of what was counted.
      notes: what should be known before fitting, a sentence each.
    """

    columns: pd.DataFrame
    classes: pd.DataFrame
    people: pd.DataFrame
    facts: tuple[tuple[str, int], ...]
    notes: tuple[str, ...]


def check(
    cases: Cases,
    *,
    text: tuple[str, ...] = (),
    category: tuple[str, ...] = (),
    num_folds: int = 5,
) -> Check:
    """Look at a table before anything is fitted to it.

    Args:
      cases: from `l2d_jax.table.cases.make_cases`.
      text: columns that are texts.
      category: columns whose values are names, though they look like numbers or dates.
      num_folds: parts that are to be held out in turn.

    Raises:
      ValueError: a column cannot be read.
    """
    plan = columns.plan_columns(cases.features, text, category)
    labelled = take(cases, np.flatnonzero(cases.labels >= 0))
    counts = np.bincount(labelled.labels, minlength=len(cases.classes))
    answered = cases.answers >= 0
    votes = np.stack(
        [(cases.answers == k).sum(axis=1) for k in range(len(cases.classes))], axis=1
    )
    ties = (votes == votes.max(axis=1, keepdims=True)).sum(axis=1) > 1
    facts = (
        ("cases", len(cases.ids)),
        ("of them with a label", len(labelled.ids)),
        ("units that are never split", len(np.unique(cases.units))),
        ("people", len(cases.people)),
        ("answers", int(answered.sum())),
        ("cases that nobody answered", int((~answered.any(axis=1)).sum())),
        ("ties of the majority", int((ties & answered.any(axis=1)).sum())),
    )
    people = _people(labelled)
    notes = [
        *cases.notes,
        *_about_size(labelled, counts, num_folds),
        *_about_columns(plan, labelled),
        *_about_scores(labelled),
        *_about_people(people),
        *_about_circles(labelled, votes[cases.labels >= 0]),
        *_about_duplicates(plan, cases),
    ]
    return Check(
        pd.DataFrame(
            {
                "column": [column.name for column in plan.columns],
                "kind": [column.kind for column in plan.columns],
                "missing": [
                    sum(text_of(v) is None for v in cases.features[column.name])
                    for column in plan.columns
                ],
                "reason": [column.reason for column in plan.columns],
            }
        ),
        pd.DataFrame(
            {
                "class": cases.classes,
                "cases": counts,
                "share": counts / max(counts.sum(), 1),
            }
        ),
        people,
        facts,
        tuple(notes),
    )


def describe(found: Check) -> str:
    """A check as text to read in a terminal."""
    lines = [f"{count:>9,} {what}" for what, count in found.facts]
    lines += ["", "Classes"]
    for row in found.classes.itertuples():
        lines += _wrap(f"{row.cases:>9,} {_plain(row[1])} ({100 * row.share:.1f} %)")
    lines += ["", "Columns, and what fitting would do with them"]
    for row in found.columns.itertuples():
        missing = f", {row.missing:,} missing" if row.missing else ""
        lines += _wrap(f"  {_plain(row.column)}: {row.kind} ({row.reason}{missing})")
    if len(found.people):
        lines += ["", "People: answers, and how often right (95 %)"]
    shown = found.people.sort_values("answers", ascending=False, kind="stable")
    for row in shown.head(_MOST_PEOPLE).itertuples():
        right = (
            f"{100 * row.right:.1f} % ({100 * row.low:.1f} to {100 * row.high:.1f})"
            if row.answers
            else "not known"
        )
        lines += _wrap(
            f"{row.answers:>9,} {_plain(row.person)}: {right}, asked of"
            f" {100 * row.asked:.0f} %"
        )
    if len(shown) > _MOST_PEOPLE:
        lines.append(f"          and {len(shown) - _MOST_PEOPLE} more")
    lines += ["", "Notes" if found.notes else "Nothing odd was seen."]
    for note in found.notes:
        lines += _wrap(f"- {_plain(note)}", "  ")
    return "\n".join(lines)


def _plain(text: str) -> str:
    """Without what moves a terminal's cursor."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text)


def _wrap(line: str, indent: str = " " * 10) -> list[str]:
    return textwrap.wrap(
        line,
        _WIDTH,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _people(cases: Cases) -> pd.DataFrame:
    rows = []
    for number, name in enumerate(cases.people):
        own = cases.answers[:, number]
        answers = int((own >= 0).sum())
        right = int((own == cases.labels).sum())
        low, high = np.nan, np.nan
        if answers:
            low, high = proportion_confint(right, answers, method="wilson")
        share = right / answers if answers else np.nan
        asked = answers / max(len(own), 1)
        rows.append((name, answers, asked, share, low, high))
    return pd.DataFrame(
        rows, columns=["person", "answers", "asked", "right", "low", "high"]
    )


def few_cases(count: int) -> tuple[str, ...]:
    """A sentence of how little so few labelled cases can tell; none where they do."""
    if not 0 < count < _FEW_CASES:
        return ()
    half = 100 * 1.96 * 0.5 / np.sqrt(count)
    return (
        f"There are {count} labelled cases: an accuracy is known to within about"
        f" {half:.0f} points either way, so most differences cannot be seen.",
    )


def _about_size(cases: Cases, counts: np.ndarray, num_folds: int) -> list[str]:
    notes = [*few_cases(len(cases.ids))]
    units = [len(np.unique(cases.units[cases.labels == k])) for k in range(len(counts))]
    for name, count in zip(cases.classes, units, strict=True):
        why = shortage(count, num_folds, Options().num_folds)
        if why:
            notes.append(
                f"Class {name!r} has {count} units: fitting will refuse it, as {why}."
            )
    if counts.sum() and counts.max() / counts.sum() > 0.95:
        notes.append(
            "One class is more than 95 % of all cases: read balanced accuracy,"
            " sensitivity and specificity, not accuracy."
        )
    return notes


def _about_columns(plan: columns.ColumnPlan, cases: Cases) -> list[str]:
    notes = [*columns.note_left_out(plan)]
    used = [column for column in plan.columns if column.kind != "left out"]
    if not used and cases.class_probs is None:
        notes.append("No column is of use: a model would know nothing of the cases.")
    if len(cases.ids) < _ENOUGH_CASES:
        return notes
    if len(cases.ids) > _MOST_CASES:
        rng = np.random.default_rng(0)
        cases = take(cases, rng.choice(len(cases.ids), _MOST_CASES, replace=False))
    for column in used:
        alone = columns.ColumnPlan((column,))
        encoder = columns.fit_encoder(alone, cases.features)
        inputs, _ = columns.encode(encoder, cases.features)
        area = _area(inputs, cases.labels)
        if area >= _GIVES_AWAY:
            notes.append(
                f"Column {column.name!r} tells the label by itself (area under the ROC"
                f" curve {area:.3f}). If it is known only after the label is, exclude"
                " it: it will not be there for new cases."
            )
    return notes


def _area(inputs: np.ndarray, labels: np.ndarray) -> float:
    """Held-out area under the ROC curve of a small tree; the least of the classes'.

    Of classes that are in every part; 0 where that is one at most.
    """
    kept = np.bincount(labels)[labels] >= _PARTS
    inputs, labels = inputs[kept], labels[kept]
    known = np.unique(labels)
    if len(known) < 2:
        return 0.0
    # As many leaves as there may be categories; what is held out shows overfitting.
    tree = DecisionTreeClassifier(max_leaf_nodes=64, min_samples_leaf=2, random_state=0)
    parts = StratifiedKFold(_PARTS, shuffle=True, random_state=0)
    probs = cross_val_predict(tree, inputs, labels, cv=parts, method="predict_proba")
    return min(
        roc_auc_score(labels == label, probs[:, number])
        for number, label in enumerate(known)
    )


def _about_scores(cases: Cases) -> list[str]:
    if cases.class_probs is None or len(cases.ids) < _ENOUGH_CASES:
        return []
    right = np.mean(cases.class_probs.argmax(axis=1) == cases.labels)
    if right < _GIVES_AWAY:
        return []
    return [
        f"The model that is given is right in {100 * right:.1f} % of the cases. If it"
        " was trained on them, it looks better than it is: give the probabilities of"
        " cases that it has not seen."
    ]


def _about_people(people: pd.DataFrame) -> list[str]:
    notes = []
    few = people[people.answers < _FEW_ANSWERS]
    if len(few):
        notes.append(
            f"{len(few)} of {len(people)} people have fewer than {_FEW_ANSWERS} answers"
            f" ({_listed(few.person)}): what is said of them is mostly what is known of"
            " the others."
        )
    sure = people[(people.answers >= _ENOUGH_CASES) & (people.right == 1)]
    if len(sure):
        notes.append(
            f"{len(sure)} of {len(people)} people are right in every case that they"
            f" have answered ({_listed(sure.person)}). If the label is theirs, nobody"
            " can be better, and everything is deferred to them."
        )
    return notes


def _listed(names: pd.Series) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names.head(5)) + more


def _about_circles(cases: Cases, votes: np.ndarray) -> list[str]:
    several = votes.sum(axis=1) >= 2
    if several.sum() < _ENOUGH_CASES:
        return []
    # Ties say nothing of how the label was made.
    most = votes == votes.max(axis=1, keepdims=True)
    clear = several & (most.sum(axis=1) == 1)
    agrees = votes.argmax(axis=1)[clear] == cases.labels[clear]
    if not clear.any() or agrees.mean() < _CIRCULAR:
        return []
    return [
        f"The label is the majority of the very answers in {100 * agrees.mean():.1f} %"
        " of the cases with two answers or more. If it was made from them, people are"
        " judged by themselves, and deferral looks better than it is."
    ]


def _about_duplicates(plan: columns.ColumnPlan, cases: Cases) -> list[str]:
    # An identifier would make every case one of its own.
    used = [column.name for column in plan.columns if column.kind != "left out"]
    if not used:
        return []
    codes = [
        pd.factorize(np.array([text_of(v) or "" for v in cases.features[name]], object))
        for name in used
    ]
    rows = pd.DataFrame({n: code for n, (code, _) in enumerate(codes)})
    table = pd.DataFrame(
        {
            "row": rows.groupby(list(rows.columns)).ngroup(),
            "unit": cases.units,
            "label": np.where(cases.labels >= 0, cases.labels, np.nan),
        }
    )
    groups = table.groupby("row")
    split = groups.unit.nunique().gt(1)
    # Where columns have few values many cases are alike, and none is another's copy.
    if not split.any() or len(split) < len(table) / 2:
        return []
    doubt = groups.label.nunique().gt(1) & split
    count = int(groups.size()[split].sum())
    contrary = (
        f"; {int(doubt.sum())} of them have several labels" if doubt.any() else ""
    )
    return [
        f"{count} cases share all their features with a case of another unit"
        f" ({int(split.sum())} different ones{contrary}): where one is held out the"
        " other is not. Are they the same case? Then split by what they have in common."
    ]
