"""Claims of Mozannar and Sontag (2020) about learning to defer on images."""

import numpy as np
import pandas as pd
from scipy import stats

from experiments.claims.claim import (
    CannotMeasure,
    Claim,
    Evidence,
    Finding,
    against_best_party,
    mean_over,
    read_estimate,
    surely_positive,
)
from experiments.problems import PROBLEMS

MOZANNAR_SONTAG = "Mozannar and Sontag 2020"


def _accuracy(results: pd.DataFrame, method: str) -> pd.DataFrame:
    """System accuracy on the test set, a row for each seed and a column for each k.

    Raises:
      CannotMeasure: the results hold nothing of the method.
    """
    rows = results[
        (results.split == "test") & (results.method == method) & results.chosen
    ]
    if rows.empty:
        raise CannotMeasure(f"the results hold no method {method}")
    return rows.pivot(index="seed", columns="num_perfect", values="system_accuracy")


def perfect_expert(evidence: Evidence, tolerance: float) -> Finding:
    """System accuracy where the expert is perfect on every class."""
    accuracy = _accuracy(evidence.results, "deferral")
    num_classes = PROBLEMS[evidence.results.problem.iloc[0]].traits.num_classes
    if num_classes not in accuracy:
        raise CannotMeasure(f"the results hold no expert of k = {num_classes}")
    found = mean_over(accuracy[num_classes].to_numpy())
    return Finding(found, bool(found.value >= 1 - tolerance))


def no_worse_than_either(evidence: Evidence, tolerance: float) -> Finding:
    """System less the better of classifier and expert, at the k where it is least."""
    rows = against_best_party(evidence, "deferral")
    least = read_estimate(rows.loc[rows["mean"].idxmin()])
    return Finding(least, bool(least.value >= -tolerance))


def rises_with_skill(evidence: Evidence, tolerance: float) -> Finding:
    """Rank correlation of system accuracy with k, for each seed."""
    del tolerance
    accuracy = _accuracy(evidence.results, "deferral")
    if len(accuracy.columns) < 2:
        raise CannotMeasure("the results hold one k only")
    values = np.array(
        [stats.spearmanr(accuracy.columns, row).statistic for row in accuracy.values]
    )
    found = mean_over(values)
    return Finding(found, bool(found.value > 0.8))


def better_than_confidence(evidence: Evidence, tolerance: float) -> Finding:
    """System accuracy less that of deferring by confidence, mean over k."""
    del tolerance
    deferral, confidence = (
        _accuracy(evidence.results, method) for method in ("deferral", "confidence")
    )
    return surely_positive(mean_over((deferral - confidence).mean(axis=1).to_numpy()))


def image_claims(source: str) -> list[Claim]:
    """Claims about deferral on images, measured on the results of one data set."""
    return [
        Claim(
            f"R7a-{source}",
            MOZANNAR_SONTAG,
            "With an expert who is perfect on all classes the system is almost always"
            " right: system accuracy",
            "1",
            source,
            perfect_expert,
        ),
        Claim(
            f"R7b-{source}",
            MOZANNAR_SONTAG,
            "At every k the system is at least as accurate as the better of classifier"
            " and expert: least mean difference over k",
            ">= 0",
            source,
            no_worse_than_either,
        ),
        Claim(
            f"R7c-{source}",
            MOZANNAR_SONTAG,
            "System accuracy rises with the expert's skill (our bound: 0.8): Spearman"
            " correlation with k",
            "1",
            source,
            rises_with_skill,
        ),
        Claim(
            f"R7d-{source}",
            MOZANNAR_SONTAG,
            "Learning to defer is more accurate than deferring by confidence: mean"
            " difference over k",
            "> 0",
            source,
            better_than_confidence,
        ),
    ]
