"""Claims of Keswani et al. (2021) about a classifier and a deferrer trained together.

A seed is a split of the texts; of each the systems that validation chose are measured
on its test part.
"""

import pandas as pd

from experiments.claims.claim import (
    CannotMeasure,
    Claim,
    Evidence,
    Finding,
    Measure,
    difference,
    mean_over_splits,
)

KESWANI_2021 = "Keswani, Lease and Kenthapadi 2021"
_TEST_TO_TRAIN = 1 / 4  # Five folds.
_GAIN = 0.066  # 0.846 - 0.78, the means of the figures saved with the code.


def _by_method(results: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Of the chosen systems on the test part: a row a split, a column a method.

    Raises:
      CannotMeasure: there are none.
    """
    rows = results[(results.split == "test") & results.chosen]
    if rows.empty:
        raise CannotMeasure("the results hold no chosen system on a test part")
    return rows.pivot(index="seed", columns="method", values=metric)


def gain(evidence: Evidence, tolerance: float) -> Finding:
    """Accuracy of the joint system less the classifier's; better if surely above."""
    del tolerance
    table = _by_method(evidence.results, "system_accuracy")
    values = difference(table, "joint", "classifier")
    found = mean_over_splits(values, _TEST_TO_TRAIN)
    return Finding(found, bool(found.low > 0), bool(found.low > _GAIN))


def smaller_gap(method: str) -> Measure:
    """Gap of a fair variant less that of the joint system; it holds if surely < 0."""

    def measure(evidence: Evidence, tolerance: float) -> Finding:
        del tolerance
        table = _by_method(evidence.results, "subgroup_gap")
        found = mean_over_splits(difference(table, method, "joint"), _TEST_TO_TRAIN)
        return Finding(found, bool(found.high < 0))

    return measure


def joint_claims(source: str) -> list[Claim]:
    """Claims about real answers to texts."""
    rows: list[tuple[str, str, str, Measure]] = [
        (
            "K6a",
            "A classifier and a deferrer that are trained together are more accurate"
            " than a classifier (in the authors' saved figures .846 to .78): mean"
            " difference",
            str(_GAIN),
            gain,
        )
    ]
    for id, name in (("K6b", "balanced"), ("K6c", "minimax")):
        rows.append(
            (
                id,
                f"Their {name} variant has a smaller gap between the groups: mean"
                " difference of the gaps",
                "< 0",
                smaller_gap(f"joint_{name}"),
            )
        )
    return [
        Claim(id, KESWANI_2021, statement, value, source, measure)
        for id, statement, value, measure in rows
    ]
