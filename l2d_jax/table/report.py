"""The report: one HTML file that says whether deferring pays, and to whom."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from l2d_jax.table import figures, page
from l2d_jax.table.page import name, text
from l2d_jax.table.results import (
    COLUMNS,
    MEASURES,
    Evaluation,
    called,
    check_evaluation,
    chosen_and_best,
    priced,
)
from l2d_jax.table.wording import (
    UNKNOWN,
    count,
    day,
    fixed,
    interval,
    p_value,
    percent,
    plural,
    rough_percent,
    significant,
)

_SHOWN = 15
"""People, features or groups shown before one asks for all."""
_FEW = 30
_KINDS = {
    "policy": "model and people",
    "model": "the model",
    "people": "people",
    "person": "a person",
}
"""What kinds of party are called, in the order that they are shown in."""


def render(evaluation: Evaluation) -> str:
    """The report as one HTML file, to be read on any screen or printed on A4.

    It has no script and asks for nothing else. All text of the evaluation is escaped.
    Equal evaluations give equal bytes.

    Args:
      evaluation: as its class says.

    Returns:
      The file's text, to be written as UTF-8.

    Raises:
      ValueError: the evaluation is not as its class says; see `check_evaluation`.
    """
    check_evaluation(evaluation)
    # Rows are told apart by their place, whatever index they come with.
    tables = {key: getattr(evaluation, key).reset_index(drop=True) for key in COLUMNS}
    evaluation = evaluation._replace(**tables)
    chosen, best = chosen_and_best(evaluation.parties)
    busy = _by_work(evaluation.workload)
    sections = [
        _parties(evaluation.parties, busy["person"].iloc[:_SHOWN]),
        _curve(evaluation.curve, evaluation.parties),
        _workload(busy),
        _consult(evaluation.consult),
        _calibration(evaluation.calibration, evaluation.calibration_error),
        _groups(evaluation.groups, chosen, best),
        _features(evaluation.features, chosen),
        _notes(evaluation.notes),
        _how(evaluation.how),
    ]
    return page.document(
        evaluation.title,
        f"<h1>{text(evaluation.title)}</h1>\n"
        + page.paragraph(text(evaluation.headline), "headline"),
        "\n".join(section for section in sections if section),
        page.paragraph(
            "Made with l2d_jax. Figures are of cases that nothing was learned from; "
            "they hold for cases of the same kind, answered by the same people."
        ),
    )


def _parties(parties: pd.DataFrame, busy: pd.Series) -> str:
    """Who is right how often, the chosen policy and the best single party first."""
    chosen, best = chosen_and_best(parties)
    rank = parties["kind"].map(list(_KINDS).index) + 2
    rank = rank.mask(parties["best_single"].astype(bool), 1)
    rank = rank.mask(parties["chosen"].astype(bool), 0)
    parties = parties.iloc[np.argsort(rank.to_numpy(), kind="stable")]
    measures = [m for m in MEASURES if parties[m].notna().any()]
    costs = priced(parties)
    head = [
        *("Party", "Accuracy", "Gain, points", "p of the gain"),
        *("Cases deferred", "People asked a case"),
        *(["Price a case, points"] if costs else []),
        *(m.replace("_", " ").capitalize() for m in measures if m != "accuracy"),
        "Cases judged",
    ]

    def cells(row: pd.Series) -> list[str]:
        marks = [
            f'<span class="mark">{mark}</span>'
            for mark, there in [
                ("chosen", row["chosen"]),
                ("best single party", row["best_single"]),
            ]
            if there
        ]
        return [
            " ".join([name(row["party"]), *marks])
            + f"<small>{_KINDS[row['kind']]}</small>",
            _with_interval(row, "accuracy"),
            "reference" if row["best_single"] else _gain(row),
            text(UNKNOWN if row["best_single"] else p_value(row["gain_p"])),
            text(percent(row["deferral"])),
            fixed(row["asked"], 2),
            *([fixed(100 * row["cost"], 1)] if costs else []),
            *(_with_interval(row, m) for m in measures if m != "accuracy"),
            count(row["cases"]),
        ]

    marked = parties["chosen"].astype(bool) | parties["best_single"].astype(bool)
    lesser = (parties["kind"] == "person") & ~marked
    shown = ~lesser | parties["party"].isin(set(busy)) | (lesser.sum() <= _SHOWN)
    said = (
        f"Chosen is <strong>{name(called(chosen, parties))}</strong>: it is right in "
        f"{_share(chosen, 'accuracy')} of {count(chosen['cases'])} cases, defers "
        f"{text(rough_percent(chosen['deferral']))} of them and asks "
        f"{fixed(chosen['asked'], 2)} people a case. "
    )
    said += (
        "It is the best single party, too."
        if chosen["best_single"]
        else f"The best single party is <strong>{name(called(best, parties))}</strong>,"
        f" right in {_share(best, 'accuracy')} of {count(best['cases'])} cases."
    )
    if best["kind"] in ("person", "people") and 0 < chosen["deferral"] < 1:
        said += (
            " That party would have to answer every case, where the policy leaves "
            f"{text(rough_percent(1 - chosen['deferral']))} to the model."
        )
    warnings = []
    if chosen["gain_low"] > 0 and chosen["gain_p"] >= 0.05:
        warnings.append(
            "Several parties were compared, and corrected for that, chance alone could "
            f"well show such a gain (p = {p_value(chosen['gain_p'])})."
        )
    if chosen["cases"] < _FEW:
        warnings.append(
            f"The policy was judged on fewer than {_FEW} cases, which is too few to "
            "rely on."
        )
    told = parties[(parties["gain_low"] > 0) & ~marked]
    if not told.empty and (chosen["deferral"] == 0 or chosen["gain_high"] < 0):
        warnings.append(
            f"On these cases {name(called(told.iloc[0], parties))} does better than "
            "the best single party, yet was not chosen beforehand. Judge it on new "
            "cases before it is used: whatever is picked for these looks better than "
            "it is."
        )
    return page.section(
        "parties",
        "Who is right how often",
        page.paragraph(said),
        *(page.paragraph(warning, "warning") for warning in warnings),
        page.paragraph(
            "Compare the first rows. The gain is the accuracy "
            f"{'less the price of asking, ' if costs else ''}less that of the best "
            "single party, on the cases that both answered, so that people who saw "
            "other cases are compared fairly. Below each figure stands its 95&nbsp;% "
            "interval: a gain whose interval holds 0 may be none. p says how often "
            "chance alone would show such a difference, corrected for the number of "
            "comparisons."
        ),
        page.paragraph(_measures_said(measures)),
        _limited(
            ("parties-table", "parties-all"),
            "Parties and policies",
            f"All {len(parties)} parties",
            head,
            [cells(row) for _, row in parties.iterrows()],
            list(shown),
            marked=list(marked),
        ),
    )


def _measures_said(measures: Sequence[str]) -> str:
    said = {
        "balanced_accuracy": "Balanced accuracy counts every class alike, however rare",
        "sensitivity": "sensitivity is the share of positive cases that are found",
        "specificity": "specificity the share of negative cases that are left alone",
    }
    told = "; ".join(said[m] for m in measures if m in said)
    told = told[:1].upper() + told[1:] + "." if told else ""
    if "sensitivity" not in measures:
        told += " Sensitivity and specificity are of two classes, so they are left out."
    return told.strip()


def _curve(curve: pd.DataFrame, parties: pd.DataFrame) -> str:
    """How accuracy changes with the share of cases that people answer."""
    chosen, best = chosen_and_best(parties)
    key, heading = "curve", "What more or less deferring would do"
    if curve.dropna(subset=["deferral", "accuracy"]).empty:
        return page.section(
            key,
            heading,
            page.paragraph(
                "No figure: accuracy is known at no share of cases deferred."
            ),
        )
    drawing = figures.curve_figure(
        curve,
        (float(chosen["deferral"]), float(chosen["accuracy"])),
        (called(best, parties), float(best["accuracy"])),
        key,
    )
    num_methods = curve["method"].nunique()
    left_out = (
        f" The first {figures.MAX_METHODS} of {num_methods} methods are drawn; the "
        "numbers below are of all."
        if num_methods > figures.MAX_METHODS
        else ""
    )
    rows = [
        [
            name(r.method),
            *_texts(percent(r.deferral), percent(r.accuracy)),
            interval(r.low, r.high),
        ]
        for r in curve.itertuples()
    ]
    return page.section(
        key,
        heading,
        page.paragraph(
            "To the right people answer more of the cases. Deferring pays where a line "
            "lies above the dashed one of the best single party, and clearly where "
            "its whole band does; the gains above, case by case, are the finer "
            "comparison. Bands are 95&nbsp;% intervals."
            f"{' Prices are not in the figure.' if priced(parties) else ''}{left_out}"
        ),
        page.figure(drawing, "Accuracy against the share of cases deferred"),
        page.more(
            "The figure in numbers",
            page.table(
                "curve-table",
                "Accuracy at each share deferred",
                ["Method", "Deferred", "Accuracy", "95&nbsp;% interval"],
                rows,
            ),
            printed=False,
        ),
    )


def _by_work(workload: pd.DataFrame) -> pd.DataFrame:
    """Whom the policy asks most first, then who has answered most."""
    return workload.sort_values(
        ["asked", "answers"], ascending=False, kind="stable", na_position="last"
    )


def _workload(busy: pd.DataFrame) -> str:
    """Who is asked how often, and how good they are."""
    key, heading = "workload", "Who gets what"
    if busy.empty:
        return page.section(
            key, heading, page.paragraph("Nobody can be asked: no people are known.")
        )
    idle = int((busy["asked"].fillna(0) == 0).sum())
    if idle == len(busy):
        said = "The chosen policy asks nobody; their own answers are shown."
    elif idle:
        said = f"The chosen policy asks {len(busy) - idle} of {len(busy)} people."
    else:
        said = (
            "The chosen policy asks the one person there is."
            if len(busy) == 1
            else f"The chosen policy asks all {len(busy)} people."
        )
    if len(busy) > _SHOWN:
        said += f" The {_SHOWN} with most work are shown, and all of them below."
    rows = [
        [
            name(r.person),
            text(percent(r.asked)),
            _two_lines(percent(r.accuracy), interval(r.low, r.high)),
            text(percent(r.when_asked)),
            count(r.answers),
        ]
        for r in busy.itertuples()
    ]
    drawn = [
        page.paragraph(
            "Bars show the share of all cases that each person would be given: whether "
            "they have the time for it is for you to judge. A person who is right more "
            "often when asked than in all their answers is asked what suits them; "
            "cases that are deferred are hard, so that less often is no fault."
        ),
        page.figure(
            figures.workload_figure(busy.iloc[:_SHOWN], key),
            "What people are given, and how often they are right",
        ),
    ]
    return page.section(
        key,
        heading,
        page.paragraph(said),
        *([] if idle == len(busy) else drawn),
        _limited(
            ("workload-table", "workload-all"),
            "Work and accuracy of the people",
            f"All {len(busy)} people",
            [
                *("Person", "Cases given to them", "Right, of all their answers"),
                *("Right, when asked", "Answers known"),
            ],
            rows,
            [i < _SHOWN for i in range(len(rows))],
        ),
    )


def _consult(consult: pd.DataFrame) -> str:
    """How large sets of people are, and how often one of them is right."""
    if consult.empty:
        return ""
    row = consult.iloc[0]
    covered = _share(row, "covered")
    nobody = _share(row, "nobody")
    warning = ""
    if row["covered_high"] < row["wanted"]:
        warning = page.paragraph(
            "That is less than what was asked for. Sets keep what they promise on "
            "average over tables like this one: where they were calibrated on few "
            "cases some points less are no surprise, and many less say that these "
            "cases are of another kind.",
            "warning",
        )
    return page.section(
        "consult",
        "Whom to consult",
        page.paragraph(
            "Where somebody is right, the set of people named for a case was to hold "
            f"one who is in {text(rough_percent(row['wanted']))} of cases. On held-out "
            f"cases it did in <strong>{covered}</strong>, with "
            f"{fixed(row['size'], 2)} people on average."
        ),
        warning,
        page.paragraph(
            "Where nobody is right no set helps, and such cases are told apart: of "
            "those that two people or more answered, nobody was right in "
            f"{nobody}, where {text(percent(row['predicted']))} was predicted. Judged "
            "by the answers there are: who was not asked counts as not right, so that "
            "sets are larger than full answers would make them."
        ),
        page.table(
            "consult-table",
            "Sets of people",
            ["What", "Value"],
            [
                ["Hold one who is right", covered],
                [
                    "Cases judged: two or more answered, one rightly",
                    count(row["cases"]),
                ],
                ["Nobody right", nobody],
                ["Cases judged: two or more answered", count(row["several"])],
                ["People in a set, mean", fixed(row["size"], 2)],
                ["People in a set, median", fixed(row["half"], 0)],
                ["People in a set, 90&nbsp;% quantile", fixed(row["most"], 0)],
                ["Sets of everybody", text(percent(row["everybody"]))],
                ["Sets of nobody", text(percent(row["empty"]))],
            ],
        ),
    )


def _calibration(calibration: pd.DataFrame, error: float) -> str:
    """Whether the predicted chance of being right can be believed."""
    key, heading = "calibration", "Can the predicted chances be believed?"
    bins = calibration.dropna(subset=["predicted", "observed"])
    if bins.empty:
        return page.section(
            key,
            heading,
            page.paragraph(
                "No figure: there are no predicted chances, or no cases to compare "
                "them with."
            ),
        )
    known = bins.dropna(subset=["low", "high"])
    off = (known["predicted"] < known["low"]) | (known["predicted"] > known["high"])
    distance = (bins["predicted"] - bins["observed"]).abs()
    widest = bins.loc[distance.idxmax()]
    said = (
        "How far predicted and observed lie apart on average is not known."
        if np.isnan(error)
        else f"On average predicted and observed lie {fixed(100 * error, 1)} points "
        "apart."
    )
    said += (
        f" Widest apart: predicted {text(percent(widest['predicted'], 0))}, observed "
        f"{text(percent(widest['observed'], 0))} of {count(widest['count'])} answers."
    )
    said += (
        f" In {int(off.sum())} of {plural(len(known), 'bin')} the prediction lies "
        "outside the interval of what was observed."
        if off.any()
        else " No prediction lies outside the interval of what was observed."
    )
    return page.section(
        key,
        heading,
        page.paragraph(said),
        page.paragraph(
            "Where the policy says 80&nbsp;%, 80&nbsp;% should be right: points on the "
            "dashed line can be believed, points below it are too sure. Small bars "
            "below say how many answers a point stands for."
        ),
        page.figure(
            figures.calibration_figure(bins, key),
            "Share that is right against the predicted chance",
        ),
    )


def _groups(groups: pd.DataFrame, chosen: pd.Series, best: pd.Series) -> str:
    """How each group of cases is served."""
    key, heading = "groups", "Is it as good for every group?"
    if groups.empty:
        return page.section(
            key,
            heading,
            page.paragraph(
                "Not known: no column of groups was given. Name one, such as sex, age "
                "band or site, to see whether all are served alike."
            ),
        )
    compared = groups["party"].isin({chosen["party"], best["party"]})
    few = groups["cases"] < _FEW
    names = list(dict.fromkeys(groups.loc[few, "group"]))
    warning = ""
    if names:
        told = ", ".join(name(g) for g in names[:5])
        told += f" and {len(names) - 5} more" if len(names) > 5 else ""
        warning = page.paragraph(
            f"Too few cases to judge (under {_FEW}): {told}.", "warning"
        )
    rows = [
        [
            name(r.group),
            name(r.party),
            _two_lines(percent(r.accuracy), interval(r.low, r.high)),
            text(percent(r.deferral)),
            _two_lines(count(r.cases), f"fewer than {_FEW}")
            if r.cases < _FEW
            else count(r.cases),
        ]
        for r in groups.itertuples()
    ]
    shown = pd.Series(True, index=groups.index)
    if len(groups) > 2 * _SHOWN and compared.any():
        shown = compared
    shown &= shown.cumsum() <= 2 * _SHOWN
    return page.section(
        key,
        heading,
        page.paragraph(
            "Compare a party between the groups: intervals that overlap widely show no "
            "difference. A group whose cases are deferred more often waits for people "
            "more often."
        ),
        warning,
        _limited(
            ("groups-table", "groups-all"),
            "Accuracy in each group",
            f"All {plural(groups['group'].nunique(), 'group')} and parties",
            ["Group", "Party", "Accuracy", "Cases deferred", "Cases judged"],
            rows,
            list(shown),
            words=(1,),
        ),
    )


def _features(features: pd.DataFrame, chosen: pd.Series) -> str:
    """What deferred cases have that kept ones have not."""
    key, heading = "features", "Which cases are deferred"
    if features.empty:
        why = (
            "The chosen policy defers no case, so there is nothing to tell."
            if chosen["deferral"] == 0
            else "The chosen policy defers every case, so there is nothing to tell."
            if chosen["deferral"] == 1
            else "Not known: no feature could be compared between deferred and kept "
            "cases."
        )
        return page.section(key, heading, page.paragraph(why))
    telling = features[(features["low"] > 0) | (features["high"] < 0)]
    if telling.empty:
        said = "No single feature tells deferred cases from kept ones with certainty."
    else:
        told = ", ".join(
            f"{name(r.feature)} ({'higher' if r.difference > 0 else 'lower'} by "
            f"{fixed(abs(r.difference), 2)})"
            for r in telling.iloc[:3].itertuples()
        )
        said = f"What tells deferred cases most from kept ones: {told}."
    rows = [
        [
            name(r.feature),
            # Evaluations of before know of no dates: NaN.
            *map(day if r.date == 1 else significant, (r.kept, r.deferred)),
            _two_lines(
                fixed(r.difference, 2, sign=True),
                UNKNOWN
                if np.isnan([r.low, r.high]).any()
                else f"{fixed(r.low, 2)} to {fixed(r.high, 2)}",
            ),
        ]
        for r in features.itertuples()
    ]
    return page.section(
        key,
        heading,
        page.paragraph(said),
        page.paragraph(
            "Differences are in standard deviations, so that features can be compared: "
            "0.2 is small, 0.8 large. They say what deferred cases are like, not why "
            "they are deferred. Means are in the unit of the column, of the cells that "
            "are not blank; of a category they are its share of the cases."
        ),
        _limited(
            ("features-table", "features-all"),
            "Means of the features, most telling first",
            f"All {plural(len(features), 'feature')}",
            ["Feature", "Mean, kept", "Mean, deferred", "Difference"],
            rows,
            [i < _SHOWN for i in range(len(rows))],
        ),
    )


def _notes(notes: Sequence[str]) -> str:
    return page.section(
        "notes",
        "Notes on the data",
        page.bullets([text(note) for note in notes])
        if notes
        else page.paragraph("Nothing stood out in the data."),
    )


def _how(how: Sequence[tuple[str, str]]) -> str:
    return page.section(
        "how",
        "How this was made",
        page.paragraph("With these the report can be made again.")
        if how
        else page.paragraph("Nothing was handed down on how it was made."),
        page.table(
            "how-table",
            "Command, data and settings",
            ["What", "Value"],
            [[text(what), text(value)] for what, value in how],
            words=(1,),
        )
        if how
        else "",
    )


def _limited(
    keys: tuple[str, str],
    caption: str,
    summary: str,
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    shown: Sequence[bool],
    *,
    marked: Sequence[bool] | None = None,
    words: Sequence[int] = (),
) -> str:
    """A table of the rows that are shown, and one of all if those are more."""
    marks = [False] * len(rows) if marked is None else marked
    kept = [i for i, there in enumerate(shown) if there]
    short = page.table(
        keys[0],
        caption,
        head,
        [rows[i] for i in kept],
        marked=[marks[i] for i in kept],
        words=words,
    )
    if len(kept) == len(rows):
        return short
    return f"{short}\n" + page.more(
        summary,
        page.table(
            *(keys[1], f"{caption}: all of them", head, rows), marked=marks, words=words
        ),
    )


def _with_interval(row: pd.Series, measure: str) -> str:
    return _two_lines(
        percent(row[measure]), interval(row[f"{measure}_low"], row[f"{measure}_high"])
    )


def _gain(row: pd.Series) -> str:
    return _two_lines(
        fixed(100 * row["gain"], 1, sign=True),
        interval(row["gain_low"], row["gain_high"]),
    )


def _two_lines(value: str, below: str) -> str:
    """A figure with its interval below, if there is one."""
    return text(value) + (f"<small>{text(below)}</small>" if below != UNKNOWN else "")


def _share(row: pd.Series, measure: str) -> str:
    """``81.2 % (78.0 to 84.1)``."""
    bounds = interval(row[f"{measure}_low"], row[f"{measure}_high"])
    return text(percent(row[measure]) + ("" if bounds == UNKNOWN else f" ({bounds})"))


def _texts(*values: str) -> list[str]:
    return [text(value) for value in values]
