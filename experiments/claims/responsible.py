"""Claims of Madras, Pitassi and Zemel (2018) about rejecting, deferring and fairness.

Settings are chosen on the validation part, by means over seeds; what they achieve is
measured on the test part, one number a seed.
"""

from collections.abc import Callable

import jax
import numpy as np
import pandas as pd
from scipy import stats

from experiments import tables
from experiments.claims.claim import CannotMeasure, Claim, Finding
from l2d_jax.learners import mixture
from l2d_jax.types import Dataset

MADRAS = "Madras, Pitassi and Zemel 2018"
# Of the test part: what the authors' own decisions give, rounded to four digits.
_GIVEN_ERRORS = {"accurate": 0.2418, "biased": 0.2439, "inconsistent": 0.3158}
_NUM_BOUNDS = 20
_RATE_EDGES = np.linspace(0.05, 0.8, 16)


def _rows(
    results: pd.DataFrame,
    method: str,
    scenario: str,
    alpha: float | None = None,
    split: str = "test",
) -> pd.DataFrame:
    """Rows of a method, at one alpha or at all.

    Raises:
      CannotMeasure: there are none.
    """
    rows = results[
        (results.method == method)
        & (results.scenario == scenario)
        & (results.split == split)
    ]
    if alpha is not None:
        rows = rows[rows.fairness == alpha]
    if rows.empty:
        raise CannotMeasure(f"the results hold no {method} of scenario {scenario}")
    return rows


def _any_scenario(results: pd.DataFrame) -> str:
    return str(results.scenario.iloc[0])


def _table(rows: pd.DataFrame, metric: str) -> pd.DataFrame:
    """A row for each seed and a column for each setting."""
    keys = rows.assign(cost=rows.cost.fillna(-1.0))
    return keys.pivot(index="seed", columns=["cost", "fairness"], values=metric)


def equivalence(results: pd.DataFrame, tolerance: float) -> Finding:
    """Largest difference of two losses and their gradients, on random batches.

    The decision-maker's loss is the same on every example; rejecting costs as much more
    than deferring.
    """
    del results, tolerance
    reject = mixture.make_batch_loss("reject")
    defer = mixture.make_batch_loss("defer")
    key = jax.random.key(0)
    values = []
    for seed in range(20):
        generator = np.random.default_rng(seed)
        labels = generator.integers(0, 2, 64)
        expert_nll = generator.uniform(0.01, 2.0)
        of_label = np.exp(-expert_nll)  # A number: the loss is constant.
        probs = np.full((64, 1, 2), 1 - of_label)
        probs[np.arange(64), 0, labels] = of_label
        batch = Dataset(np.zeros((64, 1), np.float32), labels, probs.astype(np.float32))
        outputs = generator.normal(0.0, 2.0, (64, 2)).astype(np.float32)
        cost = generator.uniform(0.0, 1.0)
        pairs = [
            jax.value_and_grad(loss)(outputs, batch, {"cost": np.float32(price)}, key)
            for loss, price in ((reject, cost + expert_nll), (defer, cost))
        ]
        differences = jax.tree.map(lambda a, b: np.abs(a - b).max(), *pairs)
        values.append(max(float(found) for found in jax.tree.leaves(differences)))
    found = np.array(values)
    return Finding(found, bool(found.max() < 1e-6))


def given_errors(results: pd.DataFrame, tolerance: float) -> Finding:
    """Largest deviation of the errors of the authors' decision-makers from theirs."""
    del tolerance
    if set(results.decision_maker) != {"given"}:
        raise CannotMeasure("the results are not with the authors' decision-makers")
    found = [
        abs(_rows(results, "expert", name).system_error.iloc[0] - error)
        for name, error in _GIVEN_ERRORS.items()
    ]
    return Finding(np.array([max(found)]), bool(max(found) < 1e-4))


def error_of(method: str, expected: float) -> Callable[[pd.DataFrame, float], Finding]:
    """Error of a method at alpha 0; of more than 1.5 points below is better."""

    def measure(results: pd.DataFrame, tolerance: float) -> Finding:
        del tolerance
        rows = _rows(results, method, _any_scenario(results), alpha=0.0)
        values = rows.system_error.to_numpy(float)
        error = values.mean()
        return Finding(
            values, bool(abs(error - expected) <= 0.015), bool(error < expected - 0.015)
        )

    return measure


def _matched(
    results: pd.DataFrame,
    methods: tuple[str, str],
    scenario: str,
    bound_by: str,
    alpha: float | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Accuracy of two methods' fronts at the same bounds, ``[seeds, bounds]`` each.

    A bound is on a metric of which less is better; at each a method is represented by
    its most accurate setting that keeps it, on the validation part.
    """
    valid = [
        _rows(results, method, scenario, alpha, "valid").assign(
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
        test = _table(_rows(results, method, scenario, alpha), "system_accuracy")
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
    alpha: float | None = None,
) -> Callable[[pd.DataFrame, float], Finding]:
    """How much more accurate the first method is at the same bound, mean over bounds.

    It holds if the interval is above 0.
    """

    def measure(results: pd.DataFrame, tolerance: float) -> Finding:
        del tolerance
        first, second = _matched(results, methods, scenario, bound_by, alpha)
        return _surely_positive((first - second).mean(axis=1))

    return measure


def _surely_positive(values: np.ndarray) -> Finding:
    low, _ = tables.mean_interval(values)
    return Finding(values, bool(low > 0))


def uneven_deferral(results: pd.DataFrame, tolerance: float) -> Finding:
    """Gap of deferral rates between groups: how much more deferring has of it."""
    del tolerance
    gaps = {}
    for method in ("mixture", "rejection"):
        rows = _rows(results, method, "biased")
        gap = (rows.deferral_rate_group_1 - rows.deferral_rate_group_0).abs()
        gaps[method] = gap.groupby(rows.seed).mean()
    return _surely_positive((gaps["mixture"] - gaps["rejection"]).to_numpy())


def defers_less_to_biased(results: pd.DataFrame, tolerance: float) -> Finding:
    """Deferral rate to the accurate decision-maker less that to the biased one."""
    del tolerance
    rates = [
        _rows(results, "mixture", name).groupby("seed").deferral_rate.mean()
        for name in ("accurate", "biased")
    ]
    return _surely_positive((rates[0] - rates[1]).to_numpy())


def better_at_every_rate(results: pd.DataFrame, tolerance: float) -> Finding:
    """Accuracy of deferring less that of rejecting, mean over bins of deferral rate.

    Bins are of 5 points, from 5 to 80 %, and count where both have runs; it holds if it
    is surely positive and nowhere below -0.3 points.
    """
    del tolerance
    means = []
    for method in ("mixture", "rejection"):
        rows = _rows(results, method, "inconsistent", alpha=0.0)
        bins = pd.cut(rows.deferral_rate, _RATE_EDGES, labels=False)
        by_bin = rows.groupby(["seed", bins.rename("bin")]).system_accuracy.mean()
        means.append(by_bin.unstack())
    common = means[0].columns.intersection(means[1].columns)
    gain = (means[0][common] - means[1][common]).dropna(axis=1, how="all")
    if gain.empty:
        raise CannotMeasure("deferring and rejecting have no deferral rate in common")
    found = _surely_positive(gain.mean(axis=1).dropna().to_numpy())
    return found._replace(holds=found.holds and bool(gain.mean().min() >= -0.003))


def _chosen(results: pd.DataFrame, method: str, scenario: str) -> pd.Series:
    """System accuracy of what validation chose without regard to fairness, by seed."""
    rows = _rows(results, method, scenario)
    rows = rows[rows.chosen & (rows.fairness.fillna(0.0) == 0.0)]
    return rows.set_index("seed").system_accuracy


def chosen_accuracy(
    expected: float | None,
) -> Callable[[pd.DataFrame, float], Finding]:
    """Accuracy of the deferring system that validation chose."""

    def measure(results: pd.DataFrame, tolerance: float) -> Finding:
        del tolerance
        values = _chosen(results, "mixture", "inconsistent").to_numpy(float)
        return Finding(values, expected is None or bool(values.mean() >= expected))

    return measure


def better_than_both(results: pd.DataFrame, tolerance: float) -> Finding:
    """The chosen system less the better of decision-maker and classifier."""
    del tolerance
    alone = _chosen(results, "expert", "inconsistent").iloc[0]
    classifier = _chosen(results, "classifier", "inconsistent")
    gain = _chosen(results, "mixture", "inconsistent") - np.maximum(classifier, alone)
    return _surely_positive(gain.to_numpy(float))


def _reliable_gap(results: pd.DataFrame, method: str) -> pd.Series:
    """Deferral rate of reliable less that of unreliable, where some is deferred."""
    rows = _rows(results, method, "inconsistent", alpha=0.0)
    rows = rows[rows.deferral_rate.between(0.05, 0.95)]
    if rows.empty:
        raise CannotMeasure(f"{method} passes none or all in every run at alpha 0")
    gap = rows.deferral_rate_reliable - rows.deferral_rate_unreliable
    return gap.groupby(rows.seed).mean()


def defers_the_reliable(results: pd.DataFrame, tolerance: float) -> Finding:
    """The gap of deferring."""
    del tolerance
    return _surely_positive(_reliable_gap(results, "mixture").to_numpy())


def defers_them_more_than_reject(results: pd.DataFrame, tolerance: float) -> Finding:
    """The gap of deferring less that of rejecting."""
    del tolerance
    gap = _reliable_gap(results, "mixture") - _reliable_gap(results, "rejection")
    return _surely_positive(gap.dropna().to_numpy())


def accurate_is_even(results: pd.DataFrame, tolerance: float) -> Finding:
    """Rank correlation of accuracy and least subgroup accuracy, for each seed."""
    del tolerance
    rows = _rows(results, "mixture", "inconsistent", alpha=0.0)
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
    return _surely_positive(values)


def _by_alpha(results: pd.DataFrame, method: str, metric: str) -> pd.DataFrame:
    """A row for each seed and a column for each alpha."""
    rows = _rows(results, method, _any_scenario(results))
    table = rows.pivot(index="seed", columns="fairness", values=metric)
    if len(table.columns) < 3:
        raise CannotMeasure("the results hold fewer than three values of alpha")
    return table


def fairer_by_alpha(method: str) -> Callable[[pd.DataFrame, float], Finding]:
    """Rank correlation of DI with alpha, for each seed."""

    def measure(results: pd.DataFrame, tolerance: float) -> Finding:
        del tolerance
        table = _by_alpha(results, method, "di")
        values = np.array(
            [stats.spearmanr(table.columns, row).statistic for row in table.values]
        )
        return Finding(values, bool(values.mean() < -0.7))

    return measure


def price_of_half(method: str) -> Callable[[pd.DataFrame, float], Finding]:
    """How much the error rises until DI is half, at the first alpha where it is."""

    def measure(results: pd.DataFrame, tolerance: float) -> Finding:
        del tolerance
        di = _by_alpha(results, method, "di").mean()
        halved = di.index[di <= di.iloc[0] / 2]
        if not len(halved):
            raise CannotMeasure("no alpha in the results halves DI")
        error = _by_alpha(results, method, "system_error")
        values = (error[halved[0]] - error.iloc[:, 0]).to_numpy(float)
        return Finding(values, bool(values.mean() < 0.03))

    return measure


def oracle_is_rejection(results: pd.DataFrame, tolerance: float) -> Finding:
    """Ratio of the areas under both fronts, above an accuracy of 1/2."""
    del tolerance
    methods = ("mixture_oracle", "rejection")
    oracle, rejection = _matched(results, methods, "accurate", "di")
    values = (oracle - 0.5).mean(axis=1) / (rejection - 0.5).mean(axis=1)
    return Finding(values, bool(abs(values.mean() - 1.0) <= 0.02))


def best_possible(results: pd.DataFrame, tolerance: float) -> Finding:
    """Accuracy of the deferring system chosen, less that of the best rule there is.

    On the same examples, at the scenario where it is least.
    """
    gains = [
        _chosen(results, "mixture", name)
        - _rows(results, "best_rule", name).system_accuracy.iloc[0]
        for name in results.scenario.unique()
    ]
    values = min(gains, key=lambda gain: gain.mean()).to_numpy(float)
    return Finding(values, bool(values.mean() >= -tolerance))


def synthetic_claims(source: str) -> list[Claim]:
    """The theorem, computed on random batches, and the synthetic set's best rule."""
    return [
        Claim(
            "M1",
            MADRAS,
            "With a decision-maker of constant loss, deferring and rejecting have the"
            " same loss and gradient at prices that differ by it: largest difference",
            "0",
            source,
            equivalence,
        ),
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
    rows: list[tuple[str, str, str, Callable[[pd.DataFrame, float], Finding]]] = []
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
            "A classifier that only wants to be right: error",
            f"{classifier_error:.2f}",
            error_of("classifier", classifier_error),
        ),
        (
            "M3b",
            "The same network with what the decision-maker knows: error",
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
            " every deferral rate: mean difference",
            "> 0",
            better_at_every_rate,
        ),
        (
            "M6b",
            "The deferring system that validation chooses (on COMPAS our target is"
            " .730): accuracy",
            "",
            chosen_accuracy(0.73 if source == "compas" else None),
        ),
        (
            "M6c",
            "It is more accurate than the decision-maker and than the classifier: gain"
            " over the better of both",
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
                alpha=0.0,
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
                f"DI of a {name} falls with alpha: Spearman correlation",
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
            " equal DI: ratio above 1/2",
            "1",
            oracle_is_rejection,
        )
    )
    return [
        Claim(f"{id}-{source}", MADRAS, statement, value, source, measure)
        for id, statement, value, measure in rows
    ]
