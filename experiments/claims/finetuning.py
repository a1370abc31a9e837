"""Claims of Raman and Yee (2021) about fine-tuning to a person; ours beside them."""

import itertools
from collections.abc import Callable

import numpy as np
import pandas as pd
from scipy import stats

from experiments import persons, tables
from experiments.claims.claim import CannotMeasure, Claim, Finding

RAMAN_YEE = "Raman and Yee 2021"
_LOW_SKILL = 5  # The largest k that the paper's "low values of k" are taken to be.


def _minutes(results: pd.DataFrame, *methods: str) -> pd.DataFrame:
    """Minutes a trip at the largest number of tuning trips, a row for each person.

    Raises:
      CannotMeasure: the results lack one of the methods.
    """
    rows = results[results.finetune_trips == results.finetune_trips.max()]
    table = rows.pivot(index="seed", columns="method", values="minutes")
    for method in methods:
        if method not in table:
            raise CannotMeasure(f"the results hold no method {method}")
    return table


def trips_in_order(results: pd.DataFrame, tolerance: float) -> Finding:
    """Least mean difference between neighbours of ideal, known mean, tuned, not."""
    del tolerance
    order = ("ideal", "known_mean", "finetune", "none")
    table = _minutes(results, *order)
    steps = [table[b] - table[a] for a, b in itertools.pairwise(order)]
    values = min(steps, key=lambda step: step.mean()).to_numpy()
    return Finding(values, bool(values.mean() >= 0))


def finetuning_saves(results: pd.DataFrame, tolerance: float) -> Finding:
    """Minutes that fine-tuning saves; the claim is of the sign, with p < .001."""
    del tolerance
    table = _minutes(results, "finetune", "none")
    values = (table["none"] - table["finetune"]).to_numpy()
    sure = len(values) > 1 and stats.ttest_1samp(values, 0.0).pvalue < 0.001
    return Finding(values, bool(values.mean() > 0 and sure))


def achievable(results: pd.DataFrame, tolerance: float) -> Finding:
    """Minutes that knowing a person's means saves."""
    del tolerance
    table = _minutes(results, "known_mean", "none")
    values = (table["none"] - table["known_mean"]).to_numpy()
    low, high = tables.mean_interval(values)
    return Finding(values, bool(low <= 2.5 <= high))


def share_of(method: str) -> Callable[[pd.DataFrame, float], Finding]:
    """Share of the achievable saving that a method has; beyond the paper's if above."""

    def measure(results: pd.DataFrame, tolerance: float) -> Finding:
        del tolerance
        table = _minutes(results, method, "known_mean", "none")
        saved = (table["none"] - table[method]).to_numpy()
        known = (table["none"] - table["known_mean"]).to_numpy()

        def ratio(part: np.ndarray, whole: np.ndarray, axis: int) -> np.ndarray:
            return np.mean(part, axis=axis) / np.mean(whole, axis=axis)

        estimate = tables.bootstrap_interval(ratio, saved, known)
        _, low, high = estimate
        return Finding(saved, bool(low <= 0.2 <= high), bool(low > 0.2), estimate)

    return measure


def means_differ_more(results: pd.DataFrame, tolerance: float) -> Finding:
    """How much further apart the means are than the medians, in minutes."""
    del tolerance
    table = _minutes(results, "finetune", "none")

    def excess(tuned: np.ndarray, plain: np.ndarray, axis: int) -> np.ndarray:
        means = np.mean(plain, axis=axis) - np.mean(tuned, axis=axis)
        medians = np.median(plain, axis=axis) - np.median(tuned, axis=axis)
        return np.abs(means) - np.abs(medians)

    columns = (table["finetune"].to_numpy(), table["none"].to_numpy())
    estimate = tables.bootstrap_interval(excess, *columns)
    return Finding(columns[0] - columns[1], bool(estimate[1] > 0), False, estimate)


def _gains(results: pd.DataFrame, metric: str) -> pd.DataFrame:
    """What fine-tuning gains, a row for each seed and a column for each k.

    Raises:
      CannotMeasure: the results hold no such people or methods.
    """
    rows = results[(results.people == "specialist") & (results.split == "test")]
    tables_by_method = []
    for method in ("finetune", "none"):
        part = rows[rows.method == method]
        if part.empty:
            raise CannotMeasure(f"the results hold no specialists of method {method}")
        tables_by_method.append(
            part.pivot(index="seed", columns="num_perfect", values=metric)
        )
    tuned, plain = tables_by_method
    return tuned - plain


def helps_low_skill(results: pd.DataFrame, tolerance: float) -> Finding:
    """Gain of the model of the person, at the k of at most 5 where it is least."""
    del tolerance
    gains = _gains(results, "human_model_accuracy")
    gains = gains[[k for k in gains.columns if k <= _LOW_SKILL]]
    if gains.empty:
        raise CannotMeasure(f"the results hold no k <= {_LOW_SKILL}")
    values = gains[gains.mean().idxmin()].to_numpy()
    low, _ = tables.mean_interval(values)
    return Finding(values, bool(low > 0))


def helps_less_the_better(results: pd.DataFrame, tolerance: float) -> Finding:
    """Rank correlation of that gain with k, for each seed."""
    del tolerance
    gains = _gains(results, "human_model_accuracy")
    if len(gains.columns) < 2:
        raise CannotMeasure("the results hold one k only")
    values = np.array(
        [stats.spearmanr(gains.columns, row).statistic for row in gains.values]
    )
    return Finding(values, bool(values.mean() < -0.8))


def no_sure_system_gain(results: pd.DataFrame, tolerance: float) -> Finding:
    """What the system gains, mean over k; beyond the paper if it surely gains."""
    del tolerance
    values = _gains(results, "system_accuracy").mean(axis=1).to_numpy()
    low, high = tables.mean_interval(values)
    return Finding(values, bool(low <= 0 <= high), bool(low > 0))


def _compare(
    results: pd.DataFrame, people: str, method: str, metric: str
) -> tuple[np.ndarray, tuple[float, float, float]]:
    """A row of the comparison of methods: its value for each person, and interval.

    Raises:
      CannotMeasure: there is no such row, or it rests on nobody.
    """
    rows = results[(results.people == people) & (results.split == "test")]
    if rows.empty:
        raise CannotMeasure(f"the results hold no people of {people}")
    table = persons.compare(rows)
    row = table[(table.method == method) & (table.metric == metric)]
    if row.empty or not row.n.iloc[0]:
        raise CannotMeasure(f"the results compare no {method} with none on {people}")
    found = row.iloc[0]
    value, low, high = (float(found[name]) for name in ("mean", "ci_low", "ci_high"))
    return np.full(int(found.n), value), (value, low, high)


def real_gain(people: str, method: str) -> Callable[[pd.DataFrame, float], Finding]:
    """What a method gains in the model of real people; beyond the paper if surely."""

    def measure(results: pd.DataFrame, tolerance: float) -> Finding:
        del tolerance
        values, estimate = _compare(
            results, people, method, "gain_human_model_accuracy"
        )
        better = bool(estimate[1] > 0)
        return Finding(values, not better, better, estimate)

    return measure


def system_follows(people: str) -> Callable[[pd.DataFrame, float], Finding]:
    """Share of people whose system gains, of those whose model gains."""

    def measure(results: pd.DataFrame, tolerance: float) -> Finding:
        del tolerance
        values, estimate = _compare(
            results, people, "finetune", "system_follows_human_model"
        )
        return Finding(values, bool(estimate[0] >= 0.6), False, estimate)

    return measure


def signs_agree(people: str) -> Callable[[pd.DataFrame, float], Finding]:
    """Share of equal signs of both gains, where both change."""

    def measure(results: pd.DataFrame, tolerance: float) -> Finding:
        del tolerance
        values, estimate = _compare(results, people, "finetune", "sign_agreement")
        return Finding(values, bool(estimate[0] >= 0.6), False, estimate)

    return measure


def trips_claims(source: str) -> list[Claim]:
    """Claims about trips, all at the largest number of tuning trips."""
    rows = [
        (
            "R1",
            "Trips take least where the best choice is known, then with known means,"
            " with fine-tuning, without: least mean difference between neighbours,"
            " minutes",
            ">= 0",
            trips_in_order,
        ),
        (
            "R2a",
            "Fine-tuning saves time, p < .001: minutes a trip",
            "0.5",
            finetuning_saves,
        ),
        (
            "R2b",
            "Knowing a person's means saves 2 min 30 s: minutes a trip",
            "2.5",
            achievable,
        ),
        (
            "R2c",
            "Fine-tuning has a fifth of the saving that is achievable: share",
            "0.2",
            share_of("finetune"),
        ),
        (
            "R2d",
            "The same of a hierarchical model, which is ours: share",
            "0.2",
            share_of("hierarchical"),
        ),
        (
            "R3",
            "Medians with and without fine-tuning are closer than means: by how many"
            " minutes",
            "> 0",
            means_differ_more,
        ),
    ]
    return [
        Claim(id, RAMAN_YEE, statement, value, source, measure)
        for id, statement, value, measure in rows
    ]


def specialist_claims(source: str) -> list[Claim]:
    """Claims about synthetic people, perfect on k classes."""
    rows = [
        (
            "R4a",
            f"Fine-tuning improves the model of a person of low k: least mean gain in"
            f" accuracy over k <= {_LOW_SKILL}",
            "> 0",
            helps_low_skill,
        ),
        (
            "R4b",
            "The gain falls with k: Spearman correlation",
            "-1",
            helps_less_the_better,
        ),
        (
            "R5",
            "Fine-tuning does not consistently improve the system: mean gain in"
            " accuracy over k",
            "about 0",
            no_sure_system_gain,
        ),
    ]
    return [
        Claim(f"{id}-{source}", RAMAN_YEE, statement, value, source, measure)
        for id, statement, value, measure in rows
    ]


def people_claims(source: str, people: str = "cifar10s") -> list[Claim]:
    """Claims about real people."""
    rows = [
        (
            "R5r",
            "Fine-tuning does not consistently improve the model of a real person:"
            " mean gain in accuracy",
            "about 0",
            real_gain(people, "finetune"),
        ),
        (
            "R5c",
            "The same of what a crowd says of the images, without the person (ours)",
            "about 0",
            real_gain(people, "crowd"),
        ),
        (
            "R5p",
            "The same of crowd and person, the population method (ours)",
            "about 0",
            real_gain(people, "population"),
        ),
        (
            "R6a",
            "Where fine-tuning improves the model of a real person, the system improves"
            " too: share of people",
            "0.75",
            system_follows(people),
        ),
        (
            "R6b",
            "The two gains have the same sign, where both are there: share of people",
            "",
            signs_agree(people),
        ),
    ]
    return [
        Claim(f"{id}-{people}", RAMAN_YEE, statement, value, source, measure)
        for id, statement, value, measure in rows
    ]
