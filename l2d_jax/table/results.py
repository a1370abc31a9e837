"""What is known of a team after it was judged, and its first sentence in words."""

from typing import NamedTuple

import numpy as np
import pandas as pd

from l2d_jax.table.wording import fixed, interval, printable, rough_percent

MEASURES = ("accuracy", "balanced_accuracy", "sensitivity", "specificity")


class Evaluation(NamedTuple):
    """How well each party and policy answers, judged on cases it did not learn from.

    Every table has plain columns and one row for each thing it tells of. Shares are
    floats in [0, 1], and NaN where they cannot be known; intervals are of 95 %.

    Attributes:
      title: what was judged, such as ``outcome of cases.csv``.
      headline: the first sentence, of `headline`.
      parties: who or what answers. ``party`` (its name); ``kind``, ``model``,
        ``person``, ``people`` (such as their majority) or ``policy``; ``cases`` (number
        it was judged on); ``deferral`` (share of cases that a person answers);
        ``asked`` (mean number of people asked about a case); ``cost`` (mean price of
        asking them, in errors a case, >= 0; NaN: not known); for each of `MEASURES`
        the columns ``<measure>``, ``<measure>_low`` and ``<measure>_high``, where
        sensitivity and specificity are NaN with more than two classes; ``gain``,
        ``gain_low`` and ``gain_high`` (accuracy less cost, less that of the best single
        party, paired on the cases that both have); ``gain_p`` (two-sided, corrected by
        Holm); ``best_single`` (bool, true of one row); ``chosen`` (bool, true of the
        one to be used: a policy, or the model, where that asks nobody).
      curve: ``method``, ``deferral``, ``accuracy``, ``low``, ``high``; several points
        of each method.
      workload: ``person``; ``answers`` (number in the table); ``asked`` (share of cases
        that the chosen policy gives them); ``accuracy``, ``low``, ``high`` (of all
        their answers); ``when_asked`` (accuracy on the cases that the policy gives
        them, NaN without any).
      consult: one row where sets of people were asked for, else none. ``wanted``
        (probability that a set holds one who is right, where somebody who answers is);
        ``covered``, ``covered_low``, ``covered_high`` (how often it does, of ``cases``
        in which two people or more answered and one was right); ``nobody``,
        ``nobody_low``, ``nobody_high`` (share without one, of the ``several`` cases
        that two or more answered) and ``predicted`` (what it was said to be); ``size``,
        ``half``, ``most`` (people in a set: mean, median and 90 % quantile);
        ``everybody``, ``empty`` (shares of sets that are of all people, or of nobody).
      calibration: bins of the predicted probability of being right. ``predicted``
        (mean in the bin), ``observed``, ``low``, ``high``, ``count`` (of answers).
      calibration_error: mean distance of the two, weighted by count.
      groups: ``group``, ``cases``, ``party``, ``accuracy``, ``low``, ``high``,
        ``deferral``. It may be empty.
      features: what tells deferred cases from kept ones, most telling first.
        ``feature``; ``date`` (bool); ``kept`` and ``deferred`` (means, of any range and
        in the column's unit, dates in days since 1970); ``difference`` (deferred less
        kept, in standard deviations), ``low``, ``high``. It may be empty.
      notes: what was seen in the data and should be known, a sentence each.
      how: how it was made, as pairs of what and its value: command, checksum of the
        data, versions, seeds, folds, method of the intervals.
    """

    title: str
    headline: str
    parties: pd.DataFrame
    curve: pd.DataFrame
    workload: pd.DataFrame
    consult: pd.DataFrame
    calibration: pd.DataFrame
    calibration_error: float
    groups: pd.DataFrame
    features: pd.DataFrame
    notes: tuple[str, ...]
    how: tuple[tuple[str, str], ...]


COLUMNS: dict[str, tuple[str, ...]] = {
    "parties": (
        *("party", "kind", "cases", "deferral", "asked", "cost"),
        *(m + end for m in MEASURES for end in ("", "_low", "_high")),
        *("gain", "gain_low", "gain_high", "gain_p", "best_single", "chosen"),
    ),
    "curve": ("method", "deferral", "accuracy", "low", "high"),
    "workload": (
        *("person", "answers", "asked", "accuracy", "low", "high", "when_asked"),
    ),
    "consult": (
        *("wanted", "covered", "covered_low", "covered_high", "cases"),
        *("nobody", "nobody_low", "nobody_high", "predicted", "several"),
        *("size", "half", "most", "everybody", "empty"),
    ),
    "calibration": ("predicted", "observed", "low", "high", "count"),
    "groups": ("group", "cases", "party", "accuracy", "low", "high", "deferral"),
    "features": (
        *("feature", "date", "kept", "deferred", "difference", "low", "high"),
    ),
}
"""Tables of an evaluation and their columns."""


def check_evaluation(evaluation: Evaluation) -> None:
    """Refuses an evaluation whose tables are not as `Evaluation` says.

    Raises:
      ValueError: a table lacks a column, a party is of another kind, or not exactly one
        party is the chosen policy or the best single one.
    """
    for table, columns in COLUMNS.items():
        frame = getattr(evaluation, table)
        absent = [column for column in columns if column not in frame.columns]
        if absent:
            raise ValueError(
                f"the table {table} of the evaluation lacks {', '.join(absent)}; "
                f"it takes the columns {', '.join(columns)}"
            )
    kinds = set(evaluation.parties["kind"]) - {"model", "person", "people", "policy"}
    if kinds:
        raise ValueError(
            f"kind of a party must be model, person, people or policy, got "
            f"{', '.join(sorted(map(repr, kinds)))}"
        )
    chosen_and_best(evaluation.parties)


def chosen_and_best(parties: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Rows of the chosen policy and of the best single party.

    Raises:
      ValueError: one of them is not marked, or several rows are.
    """
    rows = []
    for column in ("chosen", "best_single"):
        marked = parties[parties[column].astype(bool)]
        if len(marked) != 1:
            raise ValueError(
                f"exactly one party must be marked {column}, got {len(marked)} of "
                f"{len(parties)}"
            )
        rows.append(marked.iloc[0])
    return rows[0], rows[1]


def called(party: pd.Series, parties: pd.DataFrame) -> str:
    """What a party is called in a sentence: the model needs no name."""
    if party["kind"] == "model" and (parties["kind"] == "model").sum() == 1:
        return "the model"
    before = {
        "model": "the model ",
        "policy": "the policy ",
        "person": "",
        "people": "",
    }
    return before[party["kind"]] + printable(party["party"])


def priced(parties: pd.DataFrame) -> bool:
    """Whether asking somebody costs something, so that gains are less its price."""
    return bool((parties["cost"] > 0).any())


def headline(parties: pd.DataFrame) -> str:
    """What deferring gains over the best single party, as one sentence.

    Args:
      parties: as in `Evaluation`.

    Returns:
      The gain with its interval; that the data show none, where the interval holds 0;
      or that nothing beats it, where the chosen policy never defers or the interval
      lies below 0.

    Raises:
      ValueError: not exactly one row is chosen or the best single one.
    """
    chosen, best = chosen_and_best(parties)
    alone, advice = called(best, parties), "let them answer every case"
    if best["kind"] != "people":
        advice = f"let {alone} answer every case"
        alone += " alone"
    if best["kind"] == "model":
        advice = "do not defer"
    gain, low, high = chosen["gain"], chosen["gain_low"], chosen["gain_high"]
    if chosen["best_single"] or chosen["deferral"] == 0 or high < 0:
        return f"Nothing here beats {alone}; {advice}."

    persons = parties.loc[parties["kind"] == "person", "party"]
    whom = printable(persons.iloc[0]) if len(persons) == 1 else "people"
    share, net = chosen["deferral"], ", prices paid," if priced(parties) else ""
    part = "some" if np.isnan(share) else rough_percent(share)
    cases = "every case" if part == "100 %" else f"{part} of cases"
    if low > 0:
        places = _places(low)
        return (
            f"Deferring {cases} to {whom} gains {fixed(100 * gain, places)} points "
            f"({interval(low, high, places)}){net} over {alone}."
        )
    # Also where the gain or an end of its interval is not known.
    shown = np.isfinite([gain, low, high]).all()
    figures = f"{fixed(100 * gain, 1, sign=True)} points ({interval(low, high)})"
    return (
        f"With {cases} deferred to {whom}, the data do not show a gain{net} over "
        f"{alone}: "
        f"{figures if shown else 'it cannot be known from these cases'}."
    )


def _places(low: float) -> int:
    """Decimals by which a lower end above 0 is not written as 0; three at most."""
    return next((p for p in (1, 2) if float(fixed(100 * low, p)) > 0), 3)
