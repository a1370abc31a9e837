"""What a table holds, what fitting would do with it, and what is odd about it."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict
from sklearn.tree import DecisionTreeClassifier
from statsmodels.stats.proportion import proportion_confint

from l2d_jax.table import columns
from l2d_jax.table.cases import Cases, take

_FEW_ANSWERS = 10
_FEW_CASES = 200
_GIVES_AWAY = 0.99
_CIRCULAR = 0.99
_MOST_PEOPLE = 20


class Check(NamedTuple):
    """What a table holds.

    Attributes:
      columns: ``column, kind, missing, reason``; a row for each.
      classes: ``class, cases, share``.
      people: ``person, answers, right, low, high``: how often each is right, with
        Wilson's 95 % interval; NaN without a label.
      facts: name and number of what was counted.
      notes: what should be known before fitting, a sentence each.
    """

    columns: pd.DataFrame
    classes: pd.DataFrame
    people: pd.DataFrame
    facts: tuple[tuple[str, int], ...]
    notes: tuple[str, ...]


def check(cases: Cases, *, text: tuple[str, ...] = (), num_folds: int = 5) -> Check:
    """Look at a table before anything is fitted to it.

    Args:
      cases: from `l2d_jax.table.cases.make_cases`.
      text: columns that are texts.
      num_folds: parts that are to be held out in turn.

    Raises:
      ValueError: a column cannot be read.
    """
    plan = columns.plan_columns(cases.features, text=text)
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
        *_about_columns(plan, labelled, text),
        *_about_people(people),
        *_about_circles(labelled, votes[cases.labels >= 0]),
        *_about_duplicates(cases),
    ]
    return Check(
        pd.DataFrame(
            {
                "column": [column.name for column in plan.columns],
                "kind": [column.kind for column in plan.columns],
                "missing": [
                    int(cases.features[column.name].isna().sum())
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
        lines.append(f"{row.cases:>9,} {row[1]} ({100 * row.share:.1f} %)")
    lines += ["", "Columns, and what fitting would do with them"]
    for row in found.columns.itertuples():
        missing = f", {row.missing:,} missing" if row.missing else ""
        lines.append(f"  {row.column}: {row.kind} ({row.reason}{missing})")
    if len(found.people):
        lines += ["", "People: answers, and how often right (95 %)"]
    shown = found.people.sort_values("answers", ascending=False, kind="stable")
    for row in shown.head(_MOST_PEOPLE).itertuples():
        lines.append(
            f"{row.answers:>9,} {row.person}: {100 * row.right:.1f} %"
            f" ({100 * row.low:.1f} to {100 * row.high:.1f})"
        )
    if len(shown) > _MOST_PEOPLE:
        lines.append(f"          and {len(shown) - _MOST_PEOPLE} more")
    lines += ["", "Notes" if found.notes else "Nothing odd was seen."]
    lines += [f"- {note}" for note in found.notes]
    return "\n".join(lines)


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
        rows.append((name, answers, share, low, high))
    return pd.DataFrame(rows, columns=["person", "answers", "right", "low", "high"])


def _about_size(cases: Cases, counts: np.ndarray, num_folds: int) -> list[str]:
    notes = []
    size = len(cases.ids)
    if 0 < size < _FEW_CASES:
        half = 100 * 1.96 * 0.5 / np.sqrt(size)
        notes.append(
            f"There are {size} labelled cases: an accuracy is known to within about"
            f" {half:.0f} points either way, so most differences cannot be seen."
        )
    units = [len(np.unique(cases.units[cases.labels == k])) for k in range(len(counts))]
    for name, count in zip(cases.classes, units, strict=True):
        if count < num_folds:
            notes.append(
                f"Class {name!r} has {count} units and there are {num_folds} parts to"
                " hold out: fitting will refuse it. Merge it, leave it out, or ask for"
                " fewer parts."
            )
    if counts.sum() and counts.max() / counts.sum() > 0.95:
        notes.append(
            "One class is more than 95 % of all cases: read balanced accuracy,"
            " sensitivity and specificity, not accuracy."
        )
    return notes


def _about_columns(
    plan: columns.ColumnPlan, cases: Cases, text: tuple[str, ...]
) -> list[str]:
    notes = [
        f"Column {column.name!r} will be left out: {column.reason}."
        for column in plan.columns
        if column.kind == "left out"
    ]
    used = [column for column in plan.columns if column.kind != "left out"]
    if not used and cases.class_probs is None:
        notes.append("No column is of use: a model would know nothing of the cases.")
    if len(cases.ids) < 20:
        return notes
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
    """Held-out area under the ROC curve of a small tree; the least of the classes'."""
    counts = np.bincount(labels)
    if counts[counts > 0].min() < 3 or (counts > 0).sum() < 2:
        return 0.0
    tree = DecisionTreeClassifier(max_depth=4, min_samples_leaf=2, random_state=0)
    probs = cross_val_predict(tree, inputs, labels, cv=3, method="predict_proba")
    known = np.unique(labels)
    return min(
        roc_auc_score(labels == label, probs[:, number])
        for number, label in enumerate(known)
    )


def _about_people(people: pd.DataFrame) -> list[str]:
    few = people[people.answers < _FEW_ANSWERS]
    if not len(few):
        return []
    names = ", ".join(few.person.head(5))
    more = f" and {len(few) - 5} more" if len(few) > 5 else ""
    return [
        f"{len(few)} of {len(people)} people have fewer than {_FEW_ANSWERS} answers"
        f" ({names}{more}): what is said of them is mostly what is known of the others."
    ]


def _about_circles(cases: Cases, votes: np.ndarray) -> list[str]:
    several = votes.sum(axis=1) >= 2
    if several.sum() < 20:
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


def _about_duplicates(cases: Cases) -> list[str]:
    if not len(cases.features.columns):
        return []
    rows = cases.features.astype(str).agg("\x1f".join, axis=1)
    number = pd.factorize(rows)[0]
    table = pd.DataFrame({"row": number, "unit": cases.units, "label": cases.labels})
    groups = table.groupby("row")
    split = groups.unit.nunique().gt(1)
    if not split.any():
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
