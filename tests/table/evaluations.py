"""Evaluations of made-up figures, as a report is given them."""

import numpy as np
import pandas as pd

from l2d_jax.table.results import COLUMNS, MEASURES, Evaluation, headline

NAN = float("nan")


def party(name, kind, accuracy, *, cases=600, **values):
    """A row of parties; what is not said of it is not known."""
    row = dict.fromkeys(COLUMNS["parties"], NAN)
    row |= {"party": name, "kind": kind, "cases": cases, "best_single": False}
    row |= {"chosen": False, "deferral": float(kind != "model")}
    row["asked"] = row["deferral"]
    row["accuracy"] = accuracy
    return row | values


def with_bounds(row, rng, measures):
    """Intervals of about the width that the number of cases gives."""
    width = 1.96 * np.sqrt(0.14 / row["cases"])
    for measure in measures:
        if measure != "accuracy":
            row[measure] = np.clip(row["accuracy"] + rng.normal(0, 0.03), 0, 1)
        row[f"{measure}_low"] = max(row[measure] - width, 0)
        row[f"{measure}_high"] = min(row[measure] + width, 1)
    return row


def curve_of(method, top, at, rng):
    deferral = np.linspace(0, 1, 11)
    accuracy = top - 0.25 * (deferral - at) ** 2 + rng.normal(0, 0.002, 11)
    return pd.DataFrame(
        {
            "method": method,
            "deferral": deferral,
            "accuracy": accuracy,
            "low": accuracy - 0.028,
            "high": accuracy + 0.026,
        }
    )


def calibration_of(bins=8):
    predicted = np.linspace(0.55, 0.97, bins)
    observed = predicted - 0.06 * (predicted - 0.5) + 0.01 * (-1.0) ** np.arange(bins)
    count = np.arange(20, 20 + 15 * bins, 15)
    half = 1.96 * np.sqrt(observed * (1 - observed) / count)
    return pd.DataFrame(
        {
            "predicted": predicted,
            "observed": observed,
            "low": observed - half,
            "high": np.minimum(observed + half, 1),
            "count": count,
        }
    )


def workload_of(people, rng):
    accuracy = rng.uniform(0.6, 0.9, len(people))
    answers = rng.integers(5, 400, len(people))
    half = np.minimum(0.8 / np.sqrt(answers), 0.3)
    asked = rng.dirichlet(np.full(len(people), 0.3)) * 0.22
    asked[asked < 1e-4] = 0
    return pd.DataFrame(
        {
            "person": people,
            "answers": answers,
            "asked": asked,
            "accuracy": accuracy,
            "low": np.maximum(accuracy - half, 0),
            "high": np.minimum(accuracy + half, 1),
            "when_asked": np.where(asked > 0, np.minimum(accuracy + 0.05, 1), NAN),
        }
    )


def empty(table):
    return pd.DataFrame({column: [] for column in COLUMNS[table]})


def evaluation_of(people, seed=0, *, classes=2, **values):
    """A policy that gains 2.2 points over the model."""
    rng = np.random.default_rng(seed)
    measures = MEASURES if classes == 2 else MEASURES[:2]
    work = workload_of(people, rng)
    rows = [
        party(
            *("model", "model", 0.812),
            best_single=True,
            gain=0.0,
            gain_low=0.0,
            gain_high=0.0,
        ),
        *(
            party(
                *(name, "person", accuracy),
                cases=answers,
                gain=accuracy - 0.812,
                gain_low=accuracy - 0.87,
                gain_high=accuracy - 0.76,
                gain_p=0.2,
            )
            for name, accuracy, answers in zip(
                work["person"], work["accuracy"], work["answers"], strict=True
            )
        ),
        party(
            *("majority", "people", 0.805),
            asked=3.2,
            gain=-0.007,
            gain_low=-0.02,
            gain_high=0.006,
            gain_p=0.6,
        ),
        party(
            *("most likely right", "policy", 0.834),
            deferral=0.2,
            asked=0.2,
            chosen=True,
            gain=0.022,
            gain_low=0.015,
            gain_high=0.029,
            gain_p=0.0004,
        ),
        party(
            *("least sure first", "policy", 0.826),
            deferral=0.3,
            asked=0.3,
            gain=0.014,
            gain_low=0.002,
            gain_high=0.026,
            gain_p=0.07,
        ),
    ]
    parties = pd.DataFrame([with_bounds(row, rng, measures) for row in rows])
    groups = pd.DataFrame(
        [
            {
                "group": group,
                "cases": cases,
                "party": name,
                "accuracy": accuracy,
                "low": accuracy - 0.8 / np.sqrt(cases),
                "high": min(accuracy + 0.8 / np.sqrt(cases), 1),
                "deferral": deferral,
            }
            for group, cases in [("north", 310), ("south", 265), ("islands", 25)]
            for name, accuracy, deferral in [
                ("most likely right", 0.83, 0.2),
                ("model", 0.81, 0.0),
            ]
        ]
    )
    features = pd.DataFrame(
        [
            ("age", False, 54.2, 67.9, 0.81, 0.66, 0.96),
            ("lesions", False, 1.93, 2.71, 0.44, 0.29, 0.59),
            ("site = islands", False, 0.031, 0.082, 0.23, 0.07, 0.39),
            ("income", False, 41250.0, 39800.0, -0.06, -0.21, 0.09),
        ],
        columns=COLUMNS["features"],
    )
    evaluation = Evaluation(
        title="outcome of cases.csv",
        headline=headline(parties),
        parties=parties,
        curve=pd.concat(
            [
                curve_of("most likely right", 0.836, 0.25, rng),
                curve_of("least sure first", 0.828, 0.35, rng),
                curve_of("at random", 0.812, 0.1, rng),
            ],
            ignore_index=True,
        ),
        workload=work,
        consult=empty("consult"),
        calibration=calibration_of(),
        calibration_error=0.021,
        groups=groups,
        features=features,
        notes=(
            "12 cells of the column age were empty; they count as missing.",
            "3 people have fewer than ten answers.",
        ),
        how=(
            (
                "command",
                "l2d fit cases.csv --label outcome --experts 'r*' --group site",
            ),
            (
                "data (sha256)",
                "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15",
            ),
            ("seed", "0"),
            ("folds", "5"),
            ("intervals", "95 %, bootstrap over units, 2,000 draws"),
        ),
    )
    return evaluation._replace(**values)


def binary():
    return evaluation_of(["r1", "r2", "r3", "r4"])


def sets_of(**values):
    """Of nine tenths, among four people."""
    row = (0.9, 0.914, 0.885, 0.936, 480, 0.042, 0.028, 0.062, 0.039, 501)
    row += (1.62, 1.0, 3.0, 0.021, 0.0)
    return pd.DataFrame([row], columns=COLUMNS["consult"]).assign(**values)


def many_people():
    people = [f"annotator {i:03d}" for i in range(170)]
    return evaluation_of(people, 1, classes=5, consult=sets_of())


def never_defers():
    evaluation = binary()
    parties = evaluation.parties.copy()
    row = parties["chosen"]
    parties.loc[row, ["deferral", "asked"]] = 0.0
    parties.loc[row, "accuracy"] = 0.812
    parties.loc[row, ["gain", "gain_low", "gain_high"]] = 0.0
    parties.loc[row, "gain_p"] = 1.0
    return evaluation._replace(
        parties=parties,
        headline=headline(parties),
        workload=evaluation.workload.assign(asked=0.0, when_asked=NAN),
        features=empty("features"),
    )


def one_person():
    evaluation = evaluation_of(["Dr. Okafor"], 2)
    parties = evaluation.parties.copy()
    parties["best_single"] = parties["kind"] == "person"
    accuracy = ["accuracy", "accuracy_low", "accuracy_high"]
    parties.loc[parties["best_single"], accuracy] = [*(0.83, 0.74, 0.91)]
    parties.loc[parties["chosen"], ["gain", "gain_low", "gain_high"]] = [
        *(0.004, -0.008, 0.016)
    ]
    return evaluation._replace(
        parties=parties[parties["kind"] != "people"], headline=headline(parties)
    )


def bare():
    """Without what may be absent."""
    return evaluation_of(
        ["r1", "r2"],
        3,
        curve=empty("curve"),
        workload=empty("workload"),
        calibration=empty("calibration"),
        calibration_error=NAN,
        groups=empty("groups"),
        features=empty("features"),
        notes=(),
        how=(),
    )


HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "&amp; ' $x^2$ %s {0}",
    "_hidden",
    "\u202eDr. Levi\x00\x1b[31m\nline",
    "טליה כהן",
    "👩🏽‍⚕️ nurse 🩺",
    "張偉 " * 12,
    "W" * 300,
)


def hostile():
    """Every text of it is of those who wish a page ill, or of any script."""
    evaluation = evaluation_of(list(HOSTILE), 4)
    worst = HOSTILE[0]
    groups = pd.concat(
        [evaluation.groups.assign(group=name, party=name) for name in HOSTILE],
        ignore_index=True,
    )
    parties = evaluation.parties.replace("model", worst)
    parties["kind"] = evaluation.parties["kind"]
    return evaluation._replace(
        title=worst + HOSTILE[4] + "\ud800",
        headline=headline(parties) + worst,
        parties=parties,
        curve=evaluation.curve.replace(
            {
                "method": dict(
                    zip(evaluation.curve["method"].unique(), HOSTILE[:3], strict=True)
                )
            }
        ),
        groups=groups,
        features=evaluation.features.assign(feature=HOSTILE[:4]),
        notes=HOSTILE,
        how=tuple((name, name) for name in HOSTILE),
    )


EXAMPLES = {
    "binary": binary,
    "many_people": many_people,
    "never_defers": never_defers,
    "one_person": one_person,
    "bare": bare,
    "hostile": hostile,
}
