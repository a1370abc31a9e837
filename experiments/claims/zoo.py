"""Claims about surrogates against each other, on the problems of the zoo."""

import pandas as pd

from experiments.claims.claim import (
    CannotMeasure,
    Claim,
    Evidence,
    Finding,
    Measure,
    difference,
    mean_over,
    read_estimate,
    surely_positive,
)

VERMA_NALISNICK = "Verma and Nalisnick 2022"
VERMA = "Verma, Barrejon and Nalisnick 2023"
MOZANNAR = "Mozannar et al. 2023"
PICCE = "PiCCE 2026"


def _by_seed(results: pd.DataFrame, problem: str, metric: str) -> pd.DataFrame:
    """A metric on the test part, a row a seed and a column a method.

    Where a problem has several settings it is the mean over them.
    """
    rows = results[
        (results.problem == problem)
        & (results.split == "test")
        & (results.chosen.astype(str) == "True")
    ]
    return rows.pivot_table(index="seed", columns="method", values=metric)


def _gap(problem: str, metric: str, first: str, second: str) -> Measure:
    """Whether a metric of the first method is surely above that of the second."""

    def measure(evidence: Evidence, tolerance: float) -> Finding:
        del tolerance
        table = _by_seed(evidence.results, problem, metric)
        return surely_positive(mean_over(difference(table, first, second)))

    return measure


def _no_less_accurate(problem: str, method: str, reference: str) -> Measure:
    """Difference of system accuracy, at the setting where it is least."""

    def measure(evidence: Evidence, tolerance: float) -> Finding:
        rows = evidence.comparison
        if rows is None:
            raise CannotMeasure("the results come without a comparison.csv")
        rows = rows[
            (rows.problem == problem)
            & (rows.method == method)
            & (rows.against == "reference")
            & (rows.reference == reference)
            & (rows.metric == "system_accuracy")
        ]
        if rows.empty:
            raise CannotMeasure(
                f"the comparison holds no {method} against {reference} on {problem}"
            )
        least = read_estimate(rows.loc[rows["mean"].idxmin()])
        return Finding(least, bool(least.value >= -tolerance), bool(least.low > 0))

    return measure


def zoo_claims(source: str) -> list[Claim]:
    """Claims measured on the zoo's embedded problems."""
    return [
        Claim(
            "Z1",
            VERMA_NALISNICK,
            "One-vs-all estimates the expert's chance of being right better than the"
            " softmax: calibration error of the softmax less that of one-vs-all,"
            " digits, mean over k (2, 5 and 8 by default)",
            "> 0",
            source,
            _gap("digits", "expert_calibration_error", "deferral", "one_vs_all"),
        ),
        Claim(
            "Z2",
            VERMA,
            "So it does with several experts: the same difference, a panel of three",
            "about 0.03",
            source,
            _gap(
                "digits_panel", "expert_calibration_error", "multi_expert", "one_vs_all"
            ),
        ),
        Claim(
            "Z3",
            VERMA,
            "With several experts one-vs-all is the more accurate: system accuracy less"
            " that of the softmax, a panel of three",
            "0 to 0.012",
            source,
            _gap("digits_panel", "system_accuracy", "one_vs_all", "multi_expert"),
        ),
        Claim(
            "Z4",
            MOZANNAR,
            "The realizable surrogate with its threshold is no less accurate than the"
            " deferral cross-entropy: least mean difference over k, digits",
            ">= 0",
            source,
            _no_less_accurate("digits", "realizable", "deferral"),
        ),
        Claim(
            "Z5",
            MOZANNAR,
            "So it is on a table: the difference, synthetic",
            ">= 0",
            source,
            _no_less_accurate("synthetic", "realizable", "deferral"),
        ),
        Claim(
            "Z6",
            PICCE,
            "PiCCE keeps more than the softmax of many experts: coverage less that of"
            " the softmax, a panel of three",
            "0.084",
            source,
            _gap("digits_panel", "coverage", "picce", "multi_expert"),
        ),
    ]
