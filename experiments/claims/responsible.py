"""Claims of Madras, Pitassi and Zemel (2018) about rejecting, deferring and fairness.

Settings are chosen on the validation part, by means over seeds; what they achieve is
measured on the test part, one number a seed.
"""

import numpy as np
import pandas as pd
from scipy import stats

from experiments.claims.claim import (
    CannotMeasure,
    Claim,
    Evidence,
    Finding,
    Measure,
    against_best_party,
    mean_over,
    read_estimate,
    surely_positive,
    without_interval,
)

MADRAS = "Madras, Pitassi and Zemel 2018"
# Of the test part: what the authors' own decisions give, rounded to four digits.
_GIVEN_ERRORS = {"accurate": 0.2418, "biased": 0.2439, "inconsistent": 0.3158}
_NUM_BOUNDS = 20
_RATE_EDGES = np.linspace(0.05, 0.8, 16)


def _rows(
    results: pd.DataFrame,
    method: str,
    scenario: str,
    fairness: float | None = None,
    split: str = "test",
) -> pd.DataFrame:
    """Rows of a method, at one weight of fairness (the paper's alpha) or at all.

    Raises:
      CannotMeasure: there are none.
    """
    rows = results[
        (results.method == method)
        & (results.scenario == scenario)
        & (results.split == split)
    ]
    if fairness is not None:
        rows = rows[rows.fairness == fairness]
    if rows.empty:
        raise CannotMeasure(f"the results hold no {method} of scenario {scenario}")
    return rows


def _any_scenario(results: pd.DataFrame) -> str:
    return str(results.scenario.iloc[0])


def _table(rows: pd.DataFrame, metric: str) -> pd.DataFrame:
    """A row for each seed and a column for each setting."""
    keys = rows.assign(cost=rows.cost.fillna(-1.0))
    return keys.pivot(index="seed", columns=["cost", "fairness"], values=metric)


def given_errors(evidence: Evidence, tolerance: float) -> Finding:
    """Largest deviation of the errors of the authors' decision-makers from theirs."""
    del tolerance
    if set(evidence.results.decision_maker) != {"given"}:
        raise CannotMeasure("the results are not with the authors' decision-makers")
    found = np.array(
        [
            abs(_rows(evidence.results, "expert", name).system_error.iloc[0] - error)
            for name, error in _GIVEN_ERRORS.items()
        ]
    )
    return Finding(without_interval(max(found), found[:1]), bool(max(found) < 1e-4))


def error_of(method: str, expected: float) -> Measure:
    """Error of a method at alpha 0; of more than 1.5 points below is better."""

    def measure(evidence: Evidence, tolerance: float) -> Finding:
        del tolerance
        rows = _rows(
            evidence.results, method, _any_scenario(evidence.results), fairness=0.0
        )
        error = mean_over(rows.system_error.to_numpy(float))
        return Finding(
            error,
            bool(abs(error.value - expected) <= 0.015),
            bool(error.value < expected - 0.015),
        )

    return measure


def _matched(
    results: pd.DataFrame,
    methods: tuple[str, str],
    scenario: str,
    bound_by: str,
    fairness: float | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Accuracy of two methods' fronts at the same bounds, ``[seeds, bounds]`` each.

    A bound is on a metric of which less is better; at each a method is represented by
    its most accurate setting that keeps it, on the validation part.
    """
    valid = [
        _rows(results, method, scenario, fairness, "valid").assign(
            least=lambda rows: _to_minimize(rows, bound_by)
        )
        for method in methods
    ]
    means = [
        (_table(rows, "system_accuracy").mean(), _table(rows, "least").mean())
        for rows in valid
    ]
    # From where both have a setting, to where neither gains by more room.
    low = max(least.min() for _, least in means)
    high = max(least[accuracy.idxmax()] for accuracy, least in means)
    bounds = np.linspace(low, max(low, high), _NUM_BOUNDS)
    fronts = []
    for method, (accuracy, least) in zip(methods, means, strict=True):
        test = _table(_rows(results, method, scenario, fairness), "system_accuracy")
        best = [accuracy[least <= bound + 1e-9].idxmax() for bound in bounds]
        fronts.append(test[best].to_numpy(float))
    first, second = fronts
    return first, second


def _to_minimize(rows: pd.DataFrame, metric: str) -> pd.Series:
    return -rows[metric] if metric == "min_subgroup_accuracy" else rows[metric]


def front_gain(
    methods: tuple[str, str],
    scenario: str,
    bound_by: str = "di",
    fairness: float | None = None,
) -> Measure:
    """How much more accurate the first method is at the same bound, mean over bounds.

    It holds if the interval is above 0.
    """

    def measure(evidence: Evidence, tolerance: float) -> Finding:
        del tolerance
        first, second = _matched(
            evidence.results, methods, scenario, bound_by, fairness
        )
        return surely_positive(mean_over((first - second).mean(axis=1)))

    return measure


def uneven_deferral(evidence: Evidence, tolerance: float) -> Finding:
    """Gap of deferral rates between groups: how much more deferring has of it."""
    del tolerance
    gaps = {}
    for method in ("mixture", "rejection"):
        rows = _rows(evidence.results, method, "biased")
        gap = (rows.deferral_rate_group_1 - rows.deferral_rate_group_0).abs()
        gaps[method] = gap.groupby(rows.seed).mean()
    more = (gaps["mixture"] - gaps["rejection"]).to_numpy()
    return surely_positive(mean_over(more))


def defers_less_to_biased(evidence: Evidence, tolerance: float) -> Finding:
    """Deferral rate to the accurate decision-maker less that to the biased one."""
    del tolerance
    rates = [
        _rows(evidence.results, "mixture", name).groupby("seed").deferral_rate.mean()
        for name in ("accurate", "biased")
    ]
    return surely_positive(mean_over((rates[0] - rates[1]).to_numpy()))


def better_at_every_rate(evidence: Evidence, tolerance: float) -> Finding:
    """Accuracy of deferring less that of rejecting, mean over bins of deferral rate.

    Bins are of 5 points, from 5 to 80 %, and count where both have runs; it holds if it
    is surely positive and nowhere below -0.3 points.
    """
    del tolerance
    means = []
    for method in ("mixture", "rejection"):
        rows = _rows(evidence.results, method, "inconsistent", fairness=0.0)
        bins = pd.cut(rows.deferral_rate, _RATE_EDGES, labels=False)
        by_bin = rows.groupby(["seed", bins.rename("bin")]).system_accuracy.mean()
        means.append(by_bin.unstack())
    common = means[0].columns.intersection(means[1].columns)
    gain = (means[0][common] - means[1][common]).dropna(axis=1, how="all")
    if gain.empty:
        raise CannotMeasure("deferring and rejecting have no deferral rate in common")
    found = surely_positive(mean_over(gain.mean(axis=1).dropna().to_numpy()))
    return found._replace(holds=found.holds and bool(gain.mean().min() >= -0.003))


def _chosen(results: pd.DataFrame, method: str, scenario: str) -> pd.Series:
    """System accuracy of what validation chose without regard to fairness, by seed."""
    rows = _rows(results, method, scenario)
    rows = rows[rows.chosen & (rows.fairness.fillna(0.0) == 0.0)]
    return rows.set_index("seed").system_accuracy


def chosen_accuracy(expected: float) -> Measure:
    """Accuracy of the deferring system that validation chose."""

    def measure(evidence: Evidence, tolerance: float) -> Finding:
        chosen = _chosen(evidence.results, "mixture", "inconsistent")
        accuracy = mean_over(chosen.to_numpy(float))
        return Finding(accuracy, bool(accuracy.value >= expected - tolerance))

    return measure


def better_than_both(evidence: Evidence, tolerance: float) -> Finding:
    """The chosen system less the better of decision-maker and classifier."""
    del tolerance
    rows = against_best_party(
        evidence, "mixture", scenario="inconsistent", fairness=0.0
    )
    return surely_positive(read_estimate(rows.iloc[0]))


def _reliable_gap(results: pd.DataFrame, method: str) -> pd.Series:
    """Deferral rate of reliable less that of unreliable, where some is deferred."""
    rows = _rows(results, method, "inconsistent", fairness=0.0)
    rows = rows[rows.deferral_rate.between(0.05, 0.95)]
    if rows.empty:
        raise CannotMeasure(f"{method} passes none or all in every run at alpha 0")
    gap = rows.deferral_rate_reliable - rows.deferral_rate_unreliable
    return gap.groupby(rows.seed).mean()


def defers_the_reliable(evidence: Evidence, tolerance: float) -> Finding:
    """The gap of deferring."""
    del tolerance
    gap = _reliable_gap(evidence.results, "mixture")
    return surely_positive(mean_over(gap.to_numpy()))


def defers_them_more_than_reject(evidence: Evidence, tolerance: float) -> Finding:
    """The gap of deferring less that of rejecting."""
    del tolerance
    gaps = [_reliable_gap(evidence.results, name) for name in ("mixture", "rejection")]
    return surely_positive(mean_over((gaps[0] - gaps[1]).dropna().to_numpy()))


def accurate_is_even(evidence: Evidence, tolerance: float) -> Finding:
    """Rank correlation of accuracy and least subgroup accuracy, for each seed."""
    del tolerance
    rows = _rows(evidence.results, "mixture", "inconsistent", fairness=0.0)
    values = np.array(
        [
            stats.spearmanr(part.system_accuracy, part.min_subgroup_accuracy).statistic
            for _, part in rows.groupby("seed")
            if part.system_accuracy.nunique() > 1
            and part.min_subgroup_accuracy.nunique() > 1
        ]
    )
    if not len(values):
        raise CannotMeasure("all costs lead to the same system")
    return surely_positive(mean_over(values))


def _by_alpha(results: pd.DataFrame, method: str, metric: str) -> pd.DataFrame:
    """A row for each seed and a column for each alpha."""
    rows = _rows(results, method, _any_scenario(results))
    table = rows.pivot(index="seed", columns="fairness", values=metric)
    if len(table.columns) < 3:
        raise CannotMeasure("the results hold fewer than three values of alpha")
    return table


def fairer_by_alpha(method: str) -> Measure:
    """Rank correlation of DI with alpha, for each seed."""

    def measure(evidence: Evidence, tolerance: float) -> Finding:
        del tolerance
        table = _by_alpha(evidence.results, method, "di")
        values = np.array(
            [stats.spearmanr(table.columns, row).statistic for row in table.values]
        )
        found = mean_over(values)
        return Finding(found, bool(found.value < -0.7))

    return measure


def price_of_half(method: str) -> Measure:
    """How much the error rises until DI is half, at the first alpha where it is."""

    def measure(evidence: Evidence, tolerance: float) -> Finding:
        del tolerance
        di = _by_alpha(evidence.results, method, "di").mean()
        halved = di.index[di <= di.iloc[0] / 2]
        if not len(halved):
            raise CannotMeasure("no alpha in the results halves DI")
        error = _by_alpha(evidence.results, method, "system_error")
        rise = mean_over((error[halved[0]] - error.iloc[:, 0]).to_numpy(float))
        return Finding(rise, bool(rise.value < 0.03))

    return measure


def oracle_is_rejection(evidence: Evidence, tolerance: float) -> Finding:
    """Ratio of the areas under both fronts, above an accuracy of 1/2."""
    del tolerance
    methods = ("mixture_oracle", "rejection")
    oracle, rejection = _matched(evidence.results, methods, "accurate", "di")
    values = (oracle - 0.5).mean(axis=1) / (rejection - 0.5).mean(axis=1)
    ratio = mean_over(values)
    return Finding(ratio, bool(abs(ratio.value - 1.0) <= 0.02))


def best_possible(evidence: Evidence, tolerance: float) -> Finding:
    """Accuracy of the deferring system chosen, less that of the best rule there is.

    On the same examples, at the scenario where it is least.
    """
    gains = [
        _chosen(evidence.results, "mixture", name)
        - _rows(evidence.results, "best_rule", name).system_accuracy.iloc[0]
        for name in evidence.results.scenario.unique()
    ]
    least = mean_over(min(gains, key=lambda gain: gain.mean()).to_numpy(float))
    return Finding(least, bool(least.value >= -tolerance))


def synthetic_claims(source: str) -> list[Claim]:
    """The synthetic set's best rule."""
    return [
        Claim(
            f"M0-{source}",
            MADRAS,
            "Where the best deferral rule is known (ours), deferring finds it: its"
            " accuracy less that of the rule, at the scenario where it is least",
            "0",
            source,
            best_possible,
        ),
    ]


def tabular_claims(
    source: str, classifier_error: float, informed_error: float
) -> list[Claim]:
    """Claims about one data set, and the paper's two errors on it."""
    thresholds = ("deferral_thresholds", "rejection_thresholds")
    rows: list[tuple[str, str, str, Measure]] = []
    if source == "compas":
        rows.append(
            (
                "M2",
                "The authors' decision-makers err on 24.2, 24.4 and 31.6 % of the test"
                " part: largest deviation",
                "0",
                given_errors,
            )
        )
    rows += [
        (
            "M3a",
            "A classifier that only wants to be right (our bound: 0.015 either way):"
            " error",
            f"{classifier_error:.2f}",
            error_of("classifier", classifier_error),
        ),
        (
            "M3b",
            "The same network with what the decision-maker knows (our bound: 0.015"
            " either way): error",
            f"{informed_error:.2f}",
            error_of("informed", informed_error),
        ),
    ]
    for id, scenario in (("M4", "accurate"), ("M5", "biased")):
        start = f"With {scenario} decisions, at equal DI, "
        rows += [
            (
                f"{id}a",
                f"{start}deferring is more accurate than rejecting: mean difference",
                "> 0",
                front_gain(("mixture", "rejection"), scenario),
            ),
            (
                f"{id}b",
                f"{start}deferring by thresholds is more accurate than rejecting by"
                " thresholds: mean difference",
                "> 0",
                front_gain(thresholds, scenario),
            ),
        ]
    rows += [
        (
            "M4c",
            "With accurate decisions, at equal DI, rejecting is more accurate than a"
            " fair classifier: mean difference",
            "> 0",
            front_gain(("rejection", "classifier"), "accurate"),
        ),
        (
            "M5c",
            "With biased decisions, deferral rates differ between groups, more than"
            " those of rejecting: mean difference of the gaps",
            "> 0",
            uneven_deferral,
        ),
        (
            "M5d",
            "Less is deferred to the biased decision-maker than to the accurate one:"
            " mean difference of deferral rates",
            "> 0",
            defers_less_to_biased,
        ),
        (
            "M6a",
            "With inconsistent decisions, deferring is more accurate than rejecting at"
            " every deferral rate (our bound: nowhere below -0.003): mean difference",
            "> 0",
            better_at_every_rate,
        ),
    ]
    if source == "compas":
        rows.append(
            (
                "M6b",
                "The deferring system that validation chooses is no worse than .730"
                " (our target): accuracy",
                "",
                chosen_accuracy(0.73),
            )
        )
    rows += [
        (
            "M6c",
            "The deferring system that validation chooses is more accurate than the"
            " decision-maker and than the classifier: gain over the better of both",
            "> 0",
            better_than_both,
        ),
        (
            "M7a",
            "More is deferred where the decision-maker is reliable: difference of"
            " deferral rates",
            "> 0",
            defers_the_reliable,
        ),
        (
            "M7b",
            "This difference is larger than that of rejecting: by how much",
            "> 0",
            defers_them_more_than_reject,
        ),
        (
            "M8a",
            "The most accurate deferring systems have the greatest least subgroup"
            " accuracy: Spearman correlation",
            "1",
            accurate_is_even,
        ),
        (
            "M8b",
            "At equal least subgroup accuracy, deferring is more accurate than"
            " rejecting: mean difference",
            "> 0",
            front_gain(
                ("mixture", "rejection"),
                "inconsistent",
                bound_by="min_subgroup_accuracy",
                fairness=0.0,
            ),
        ),
    ]
    for suffix, method, name in (
        ("", "classifier", "network"),
        ("-bayes", "bayesian", "Bayesian network"),
    ):
        rows += [
            (
                f"M9a{suffix}",
                f"DI of a {name} falls with alpha (our bound: -0.7): Spearman"
                " correlation",
                "-1",
                fairer_by_alpha(method),
            ),
            (
                f"M9b{suffix}",
                f"The error of a {name} rises little until DI is half: rise",
                "< 0.03",
                price_of_half(method),
            ),
        ]
    rows.append(
        (
            "M10",
            "Deferring that was learned with an oracle equals rejecting, accuracy at"
            " equal DI (our bound: 0.02 either way): ratio above 1/2",
            "1",
            oracle_is_rejection,
        )
    )
    return [
        Claim(f"{id}-{source}", MADRAS, statement, value, source, measure)
        for id, statement, value, measure in rows
    ]
