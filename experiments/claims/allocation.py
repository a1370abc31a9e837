"""Claims of Keswani et al. (2023) about whom to ask in a loop; ours beside them."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from experiments.claims.claim import (
    CannotMeasure,
    Claim,
    Evidence,
    Finding,
    Measure,
    difference,
    mean_over,
    mean_over_splits,
    surely_positive,
    without_interval,
)
from experiments.streams.methods import METHODS

KESWANI = "Keswani, Celis, Kenthapadi and Lease 2023"
TEXTS = (
    ("annwithattitudes", "objective"),
    ("annwithattitudes", "subjective"),
    ("hs_brexit", "subjective"),
    ("keswani_mturk", "objective"),
)
"""Data sets and truths that claims about texts are measured on."""
_TEST_TO_TRAIN = 1 / 4  # Five folds.
_PUBLISHED = tuple(name for name in METHODS if name not in ("gold", "competence"))


def _bias_rows(
    results: pd.DataFrame, method: str, committee_size: int, alone: bool
) -> pd.DataFrame:
    """Rows of a method; ``alone`` is at gamma 1, where the prior says nothing.

    Raises:
      CannotMeasure: there are none.
    """
    rows = results[
        (results.method == method) & (results.committee_size == committee_size)
    ]
    if alone:
        rows = rows[rows.gamma == 1.0]
    if rows.empty:
        where = " at gamma 1" if alone else ""
        raise CannotMeasure(
            f"the results hold no {method} of committee size {committee_size}{where}"
        )
    return rows


def start_gap(alone: bool) -> Measure:
    """Largest deviation of the start's gap from the formula, in standard errors."""

    def measure(evidence: Evidence, tolerance: float) -> Finding:
        del tolerance
        rows = _bias_rows(evidence.results, "everyone", 1, alone)
        rows = rows[rows.window == 0]
        if rows.empty:
            raise CannotMeasure("the results hold no start of the stream")
        settings = [rows.alpha, rows.gamma]
        found = (rows.gap - rows.exact_gap).groupby(settings)
        if found.size().min() < 2:
            raise CannotMeasure("one seed has no standard error")
        # With no gap at all, as at gamma 0, there is no spread and no deviation.
        means, errors = found.mean(), found.sem()
        deviations = means.abs() / errors.where((errors > 0) | (means != 0), 1.0)
        worst = deviations.max()
        values = found.get_group(deviations.idxmax()).to_numpy(float)
        return Finding(without_interval(worst, values), bool(worst <= 3.0))

    return measure


def gap_grows(method: str, committee_size: int) -> Measure:
    """Gap at the end less that at the start without a prior, mean over alphas.

    It holds if the mean over seeds is no lower than -0.02.
    """

    def measure(evidence: Evidence, tolerance: float) -> Finding:
        del tolerance
        rows = _bias_rows(evidence.results, method, committee_size, alone=True)
        by_window = rows.groupby(["window", "seed"]).gap.mean().unstack("window")
        if len(by_window.columns) < 2:
            raise CannotMeasure("the results hold the start or the end alone")
        values = (by_window.iloc[:, -1] - by_window.iloc[:, 0]).to_numpy(float)
        gap = mean_over(values)
        return Finding(gap, bool(gap.value >= -0.02))

    return measure


def _pairs(results: pd.DataFrame) -> pd.DataFrame:
    """A row for each alpha and each gamma above 0, with gap and bounds by formula."""
    columns = ["alpha", "gamma", "exact_gap", "printed_lower", "printed_upper"]
    return results.loc[results.gamma > 0, columns].drop_duplicates()


def upper_bound(evidence: Evidence, tolerance: float) -> Finding:
    """Largest excess of the gap over the printed upper bound, both by formula."""
    del tolerance
    pairs = _pairs(evidence.results)
    values = (pairs.exact_gap - pairs.printed_upper).to_numpy(float)
    worst = without_interval(np.max(values, initial=-np.inf), values)
    return Finding(worst, bool(worst.value <= 1e-12))


def lower_bound(evidence: Evidence, tolerance: float) -> Finding:
    """Share of pairs whose gap is below the printed lower bound, both by formula."""
    del tolerance
    pairs = _pairs(evidence.results)
    values = (pairs.exact_gap < pairs.printed_lower - 1e-12).to_numpy(float)
    share = without_interval(values.mean() if len(values) else 0.0, values)
    return Finding(share, bool(share.value == 0.0))


def _at(values: pd.Series | pd.Index, wanted: float) -> np.ndarray:
    """Where a column of a setting is a number, NaN being a value like any other."""
    return np.isclose(values.to_numpy(float), wanted, rtol=0, atol=1e-6, equal_nan=True)


def _by_strength(
    results: pd.DataFrame,
    scenario: str,
    method: str,
    low: float = 0.0,
    high: float = 1.0,
    misplaced: float = 0.0,
) -> pd.DataFrame:
    """First annotator's accuracy, a row for each seed, a column for each strength.

    Strengths are from ``low`` to ``high``. A method that reads no prior has one column,
    NaN.

    Raises:
      CannotMeasure: there are none.
    """
    rows = results[(results.dataset == scenario) & (results.method == method)]
    if rows.empty:
        raise CannotMeasure(f"the results hold no {method} of {scenario}")
    if METHODS[method].prior:
        rows = rows[_at(rows.misplaced, misplaced)]
        rows = rows[rows.strength.between(low - 1e-6, high + 1e-6)]
    if rows.empty:
        raise CannotMeasure(
            f"the results hold no {method} of {scenario} at a strength from {low:g} to"
            f" {high:g} with a share of {misplaced:.2g} misplaced"
        )
    return rows.pivot(index="seed", columns="strength", values="first_accuracy")


def no_prior_level(evidence: Evidence, tolerance: float) -> Finding:
    """Accuracy without a prior; it holds if it is 0.2, up to 0.05."""
    del tolerance
    values = _by_strength(evidence.results, "well_conditioned", "no_prior").iloc[:, 0]
    accuracy = mean_over(values.to_numpy(float))
    return Finding(accuracy, bool(abs(accuracy.value - 0.2) <= 0.05))


def at_least(method: str, level: float, low: float, high: float = 1.0) -> Measure:
    """Accuracy of a method at the strength from low to high where it is least."""

    def measure(evidence: Evidence, tolerance: float) -> Finding:
        del tolerance
        found = _by_strength(evidence.results, "well_conditioned", method, low, high)
        least = mean_over(found[found.mean().idxmin()].to_numpy(float))
        return Finding(least, bool(least.value >= level))

    return measure


def at_most(method: str, level: float, high: float) -> Measure:
    """Accuracy of a method at the strength up to ``high`` where it is most."""

    def measure(evidence: Evidence, tolerance: float) -> Finding:
        del tolerance
        found = _by_strength(evidence.results, "well_conditioned", method, 0.0, high)
        most = mean_over(found[found.mean().idxmax()].to_numpy(float))
        return Finding(most, bool(most.value <= level))

    return measure


def prior_helps_as_released(evidence: Evidence, tolerance: float) -> Finding:
    """Gain of a strong prior, of the method and at the strength where it is least."""
    del tolerance
    without = _by_strength(evidence.results, "released", "no_prior").iloc[:, 0]
    gains = [
        found[strength] - without
        for found in (
            _by_strength(evidence.results, "released", method, 0.7)
            for method in ("strict", "smooth")
        )
        for strength in found
    ]
    return surely_positive(mean_over(_least(gains)))


def _least(gains: Sequence[pd.Series]) -> np.ndarray:
    return min(gains, key=lambda gain: gain.mean()).to_numpy(float)


def ours_in_a_crowd(evidence: Evidence, tolerance: float) -> Finding:
    """Gain over the others with a third misplaced, where it is least."""
    del tolerance
    crowd = "crowd_of_30"
    ours = _by_strength(evidence.results, crowd, "competence", misplaced=1 / 3)
    gains = []
    for method in ("prior", "smooth", "dawid_skene", "dawid_skene_offline"):
        theirs = _by_strength(evidence.results, crowd, method, misplaced=1 / 3)
        for strength in ours:
            same = strength if METHODS[method].prior else np.nan
            column = theirs.loc[:, _at(theirs.columns, same)]
            if column.empty:
                raise CannotMeasure(
                    f"the results hold no {method} of {crowd} at strength {strength:g}"
                )
            gains.append(ours[strength] - column.iloc[:, 0])
    return surely_positive(mean_over(_least(gains)))


def smooth_over_strict(evidence: Evidence, tolerance: float) -> Finding:
    """Accuracy of Smooth- less Strict-Matching; the claim is of the sign, p < .01."""
    del tolerance
    smooth, strict = (
        _by_strength(evidence.results, "well_conditioned", method, 0.55, 0.55).iloc[
            :, 0
        ]
        for method in ("smooth", "strict")
    )
    values = (smooth - strict).to_numpy(float)
    # Equal differences have no spread, and are sure.
    sure = len(values) > 1 and (
        np.ptp(values) == 0 or stats.ttest_1samp(values, 0.0).pvalue < 0.01
    )
    gain = mean_over(values)
    return Finding(gain, bool(gain.value > 0 and sure))


def _by_method(results: pd.DataFrame, dataset: str, truth: str) -> pd.DataFrame:
    """Accuracy of committees, a row for each split, a column for each method.

    Raises:
      CannotMeasure: there are none.
    """
    rows = results[(results.dataset == dataset) & (results.truth == truth)]
    if rows.empty:
        raise CannotMeasure(f"the results hold no {truth} truth of {dataset}")
    return rows.pivot(index="seed", columns="method", values="accuracy")


def prior_helps(dataset: str, truth: str, method: str) -> Measure:
    """How much more accurate committees are with a prior; it holds if surely so."""

    def measure(evidence: Evidence, tolerance: float) -> Finding:
        del tolerance
        table = _by_method(evidence.results, dataset, truth)
        gain = difference(table, method, "no_prior")
        return surely_positive(mean_over_splits(gain, _TEST_TO_TRAIN))

    return measure


def ours_over_published(dataset: str, truth: str) -> Measure:
    """How much more accurate ours is than the best method that reads no gold labels.

    The best is that of the largest mean on the same test parts, which favours it.
    """

    def measure(evidence: Evidence, tolerance: float) -> Finding:
        del tolerance
        table = _by_method(evidence.results, dataset, truth)
        known = [method for method in _PUBLISHED if method in table]
        if not known:
            raise CannotMeasure("the results hold no published method")
        best = table[known].mean().idxmax()
        gain = difference(table, "competence", best)
        return surely_positive(mean_over_splits(gain, _TEST_TO_TRAIN))

    return measure


def bias_claims(source: str) -> list[Claim]:
    """Claims 2.1 and 2.2, about one annotator of each task if nothing else is said."""
    change = "mean change of the gap from start to end"
    rows: list[tuple[str, str, str, Measure]] = [
        (
            "K1a",
            "Without a prior the gap between the groups is alpha - 1/2 (our bound: 3):"
            " largest deviation in standard errors",
            "0",
            start_gap(alone=True),
        ),
        (
            "K1b",
            "In the closed loop of Eq. 2, which rewards everyone, this gap does not"
            f" decrease (our bound: -0.02): {change}",
            ">= 0",
            gap_grows("everyone", 1),
        ),
        (
            "K1c",
            f"The same where only who was asked learns: {change}",
            ">= 0",
            gap_grows("consulted", 1),
        ),
        (
            "K1d",
            f"The same where only who was asked learns, committees of 3: {change}",
            ">= 0",
            gap_grows("consulted", 3),
        ),
        (
            "K2a",
            "With a prior the gap is what follows from the allocation (our formula; our"
            " bound: 3): largest deviation in standard errors",
            "",
            start_gap(alone=False),
        ),
        (
            "K2b",
            "The gap is at most alpha gamma / (2 (1 - alpha)): largest excess over all"
            " pairs of them",
            "<= 0",
            upper_bound,
        ),
        (
            "K2c",
            "The gap is at least gamma / 2 (at alpha .6 and gamma .5 it is .089, not"
            " .25): share of pairs where it is less",
            "0",
            lower_bound,
        ),
    ]
    return _claims(source, rows)


def clusters_claims(source: str) -> list[Claim]:
    """Claims about tasks in clusters: accuracy of the annotator of largest weight.

    The published text has no numbers of it; those in the statements are our targets.
    """
    rows: list[tuple[str, str, str, Measure]] = [
        (
            "K3a",
            "Without a prior the loop learns whom the wrong majority agrees with (our"
            " target: 0.20 +- 0.05): accuracy",
            "",
            no_prior_level,
        ),
        (
            "K3b",
            "Smooth-Matching has >= 0.95 with a prior of sU >= 0.55 (our target): least"
            " accuracy over sU",
            "",
            at_least("smooth", 0.95, 0.55),
        ),
        (
            "K3c",
            "It has <= 0.35 with sU <= 0.45, as the wrong majority outvotes the right"
            " annotator below 1/2 (our target): largest accuracy over sU",
            "",
            at_most("smooth", 0.35, 0.45),
        ),
        (
            "K3d",
            "Strict-Matching has >= 0.90 with sU >= 0.7 (our target): least accuracy"
            " over sU",
            "",
            at_least("strict", 0.90, 0.7),
        ),
        (
            "K3e",
            "It has <= 0.35 with sU <= 0.45 (our target): largest accuracy over sU",
            "",
            at_most("strict", 0.35, 0.45),
        ),
        (
            "K3f",
            "With the released settings a prior of sU >= 0.7 is better than none: least"
            " mean difference over both methods and sU",
            "> 0",
            prior_helps_as_released,
        ),
        (
            "K3g",
            "Estimating competence (ours) has >= 0.90 with sU = 0.45 (our target):"
            " accuracy",
            "",
            at_least("competence", 0.90, 0.45, 0.45),
        ),
        (
            "K3h",
            "In a crowd of 30 with a third misplaced, ours is better than the prior,"
            " Smooth-Matching and Dawid and Skene, online and offline, at every sU:"
            " least mean difference",
            "",
            ours_in_a_crowd,
        ),
        (
            "K4",
            "Smooth-Matching is better than Strict-Matching with a weak prior, sU ="
            " 0.55, p < .01 (our target): mean difference",
            "",
            smooth_over_strict,
        ),
    ]
    return _claims(source, rows)


def texts_claims(source: str) -> list[Claim]:
    """Claims about real answers: accuracy of committees on test parts."""
    rows: list[tuple[str, str, str, Measure]] = []
    for dataset, truth in TEXTS:
        where = f"{dataset}, {truth} truth"
        for method, name in (
            ("strict", "Strict-Matching"),
            ("smooth", "Smooth-Matching"),
        ):
            rows.append(
                (
                    f"K5-{method}-{dataset}-{truth}",
                    f"{where}: {name} is more accurate with a prior than without: mean"
                    " difference",
                    "> 0",
                    prior_helps(dataset, truth, method),
                )
            )
        rows.append(
            (
                f"K5o-{dataset}-{truth}",
                f"{where}: estimating competence (ours) is more accurate than the best"
                " method that reads no gold labels: mean difference",
                "",
                ours_over_published(dataset, truth),
            )
        )
    return _claims(source, rows)


def _claims(source: str, rows: Sequence[tuple[str, str, str, Measure]]) -> list[Claim]:
    return [
        Claim(id, KESWANI, statement, value, source, measure)
        for id, statement, value, measure in rows
    ]
