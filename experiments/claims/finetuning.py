"""Claims of Raman and Yee (2021) about fine-tuning to a person; ours beside them."""

import itertools

import numpy as np
import pandas as pd
from scipy import stats

from experiments import tables
from experiments.claims.claim import (
    PEOPLE,
    CannotMeasure,
    Claim,
    Estimate,
    Evidence,
    Finding,
    Measure,
    mean_over,
    read_estimate,
    surely_positive,
)

RAMAN_YEE = "Raman and Yee 2021"
_METHOD = "deferral"  # Of the systems that are compared; the paper's.
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


def trips_in_order(evidence: Evidence, tolerance: float) -> Finding:
    """Least mean difference between neighbours of ideal, known mean, tuned, not."""
    del tolerance
    order = ("ideal", "known_mean", "finetune", "none")
    table = _minutes(evidence.results, *order)
    steps = [table[b] - table[a] for a, b in itertools.pairwise(order)]
    least = mean_over(min(steps, key=lambda step: step.mean()).to_numpy(), PEOPLE)
    return Finding(least, bool(least.value >= 0))


def finetuning_saves(evidence: Evidence, tolerance: float) -> Finding:
    """Minutes that fine-tuning saves; the claim is of the sign, with p < .001."""
    del tolerance
    table = _minutes(evidence.results, "finetune", "none")
    values = (table["none"] - table["finetune"]).to_numpy()
    sure = len(values) > 1 and stats.ttest_1samp(values, 0.0).pvalue < 0.001
    saved = mean_over(values, PEOPLE)
    return Finding(saved, bool(saved.value > 0 and sure))


def achievable(evidence: Evidence, tolerance: float) -> Finding:
    """Minutes that knowing a person's means saves."""
    del tolerance
    table = _minutes(evidence.results, "known_mean", "none")
    saved = mean_over((table["none"] - table["known_mean"]).to_numpy(), PEOPLE)
    return Finding(saved, bool(saved.low <= 2.5 <= saved.high))


def share_of(method: str) -> Measure:
    """Share of the achievable saving that a method has; beyond the paper's if above."""

    def measure(evidence: Evidence, tolerance: float) -> Finding:
        del tolerance
        table = _minutes(evidence.results, method, "known_mean", "none")
        saved = (table["none"] - table[method]).to_numpy()
        known = (table["none"] - table["known_mean"]).to_numpy()

        def ratio(part: np.ndarray, whole: np.ndarray, axis: int) -> np.ndarray:
            return np.mean(part, axis=axis) / np.mean(whole, axis=axis)

        interval = tables.bootstrap_interval(ratio, saved, known)
        share = Estimate(*interval, len(saved), PEOPLE)
        return Finding(share, bool(share.low <= 0.2 <= share.high), share.low > 0.2)

    return measure


def means_differ_more(evidence: Evidence, tolerance: float) -> Finding:
    """How much further apart the means are than the medians, in minutes."""
    del tolerance
    table = _minutes(evidence.results, "finetune", "none")

    def excess(tuned: np.ndarray, plain: np.ndarray, axis: int) -> np.ndarray:
        means = np.mean(plain, axis=axis) - np.mean(tuned, axis=axis)
        medians = np.median(plain, axis=axis) - np.median(tuned, axis=axis)
        return np.abs(means) - np.abs(medians)

    columns = (table["finetune"].to_numpy(), table["none"].to_numpy())
    interval = tables.bootstrap_interval(excess, *columns)
    return surely_positive(Estimate(*interval, len(table), PEOPLE))


def _gains(results: pd.DataFrame, metric: str) -> pd.DataFrame:
    """What fine-tuning gains, a row for each seed and a column for each k.

    Of the systems that learn to defer, as validation chose them, on the test part.

    Raises:
      CannotMeasure: the results hold no such people or imputers.
    """
    rows = results[(results.people == "specialist") & (results.split == "test")]
    rows = rows[(rows.method == _METHOD) & rows.chosen]
    found = []
    for imputer in ("finetune", "none"):
        part = rows[rows.imputer == imputer]
        if part.empty:
            raise CannotMeasure(f"the results hold no specialists of imputer {imputer}")
        found.append(part.pivot(index="seed", columns="num_perfect", values=metric))
    tuned, plain = found
    return tuned - plain


def helps_low_skill(evidence: Evidence, tolerance: float) -> Finding:
    """Gain of the model of the person, at the k of at most 5 where it is least."""
    del tolerance
    gains = _gains(evidence.results, "human_model_accuracy")
    gains = gains[[k for k in gains.columns if k <= _LOW_SKILL]]
    if gains.empty:
        raise CannotMeasure(f"the results hold no k <= {_LOW_SKILL}")
    return surely_positive(mean_over(gains[gains.mean().idxmin()].to_numpy()))


def helps_less_the_better(evidence: Evidence, tolerance: float) -> Finding:
    """Rank correlation of that gain with k, for each seed."""
    del tolerance
    gains = _gains(evidence.results, "human_model_accuracy")
    if len(gains.columns) < 2:
        raise CannotMeasure("the results hold one k only")
    values = np.array(
        [stats.spearmanr(gains.columns, row).statistic for row in gains.values]
    )
    found = mean_over(values)
    return Finding(found, bool(found.value < -0.8))


def no_sure_system_gain(evidence: Evidence, tolerance: float) -> Finding:
    """What the system gains, mean over k; beyond the paper if it surely gains."""
    del tolerance
    gains = _gains(evidence.results, "system_accuracy")
    gain = mean_over(gains.mean(axis=1).to_numpy())
    return Finding(gain, bool(gain.low <= 0 <= gain.high), bool(gain.low > 0))


def _gain_of(evidence: Evidence, people: str, imputer: str, metric: str) -> Estimate:
    """What an imputer gains, mean over people.

    Raises:
      CannotMeasure: there is no such gain, or it rests on nobody.
    """
    rows = evidence.gains
    if rows is None:
        raise CannotMeasure(
            "the results come without a gains.csv; run the experiment again"
        )
    rows = rows[(rows.people == people) & (rows.method == _METHOD)]
    if rows.empty:
        raise CannotMeasure(f"the results hold no people of {people}")
    rows = rows[(rows.imputer == imputer) & (rows.metric == metric)]
    if rows.empty or not rows.n.iloc[0]:
        raise CannotMeasure(f"the results compare no {imputer} with none on {people}")
    return read_estimate(rows.iloc[0], PEOPLE)


def real_gain(people: str, imputer: str) -> Measure:
    """What an imputer gains in the model of real people; beyond the paper if surely."""

    def measure(evidence: Evidence, tolerance: float) -> Finding:
        del tolerance
        gain = _gain_of(evidence, people, imputer, "gain_human_model_accuracy")
        better = bool(gain.low > 0)
        return Finding(gain, not better, better)

    return measure


def system_follows(people: str) -> Measure:
    """Share of people whose system gains, of those whose model gains."""

    def measure(evidence: Evidence, tolerance: float) -> Finding:
        del tolerance
        share = _gain_of(evidence, people, "finetune", "system_follows_human_model")
        return Finding(share, bool(share.value >= 0.6))

    return measure


def signs_agree(people: str) -> Measure:
    """Share of equal signs of both gains, where both change."""

    def measure(evidence: Evidence, tolerance: float) -> Finding:
        del tolerance
        share = _gain_of(evidence, people, "finetune", "sign_agreement")
        return Finding(share, bool(share.value >= 0.6))

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
            "The gain falls with k (our bound: -0.8): Spearman correlation",
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
            " too (our bound: 0.6): share of people",
            "0.75",
            system_follows(people),
        ),
        (
            "R6b",
            "The two gains have the same sign, where both are there (our bound: 0.6):"
            " share of people",
            "",
            signs_agree(people),
        ),
    ]
    return [
        Claim(f"{id}-{people}", RAMAN_YEE, statement, value, source, measure)
        for id, statement, value, measure in rows
    ]
