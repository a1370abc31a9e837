"""The ledger of the papers: every published claim beside what was measured here.

  python -m experiments.claims --workdir=DIR

Writes ``claims.csv``: ``id, paper, statement, paper_value, our_value, ci_low, ci_high,
n, verdict``. A verdict is ``reproduced``, ``better``, ``not reproduced`` or ``not run:
why``.
"""

import importlib
import pathlib
from collections.abc import Callable
from typing import NamedTuple

import ml_collections
import numpy as np
import pandas as pd
from scipy import stats

from experiments import checks, cifar, program, tables

MOZANNAR_SONTAG = "Mozannar and Sontag 2020"


class CannotMeasure(ValueError):
    """The results lack what a claim is about; the message says what."""


class Finding(NamedTuple):
    """What was measured of a claim.

    Attributes:
      values: one number for each independent repetition.
      holds: whether the claim holds of them.
    """

    values: np.ndarray
    holds: bool


class Claim(NamedTuple):
    """A published claim.

    Attributes:
      id: short name, unique.
      paper: who claims it.
      statement: the claim and, after a colon, the number that is reported for it.
      paper_value: the paper's number as text; empty where it gives none.
      source: experiment whose results it is measured on.
      measure: ``(results table, tolerance) -> Finding``.
    """

    id: str
    paper: str
    statement: str
    paper_value: str
    source: str
    measure: Callable[[pd.DataFrame, float], Finding]


def _accuracy(results: pd.DataFrame, method: str) -> pd.DataFrame:
    """System accuracy on the test set, a row for each seed and a column for each k.

    Raises:
      CannotMeasure: the results hold nothing of the method.
    """
    rows = results[(results.split == "test") & (results.method == method)]
    if rows.empty:
        raise CannotMeasure(f"the results hold no method {method}")
    return rows.pivot(index="seed", columns="num_perfect", values="system_accuracy")


def perfect_expert(results: pd.DataFrame, tolerance: float) -> Finding:
    """System accuracy where the expert is perfect on every class."""
    accuracy = _accuracy(results, "deferral")
    num_classes = checks.DATASETS[results.dataset.iloc[0]]
    if num_classes not in accuracy:
        raise CannotMeasure(f"the results hold no expert of k = {num_classes}")
    values = accuracy[num_classes].to_numpy()
    return Finding(values, bool(values.mean() >= 1 - tolerance))


def no_worse_than_either(results: pd.DataFrame, tolerance: float) -> Finding:
    """System less the better of classifier and expert, at the k where it is least."""
    best = np.maximum(_accuracy(results, "classifier"), _accuracy(results, "expert"))
    gain = _accuracy(results, "deferral") - best
    values = gain[gain.mean().idxmin()].to_numpy()
    return Finding(values, bool(values.mean() >= -tolerance))


def rises_with_skill(results: pd.DataFrame, tolerance: float) -> Finding:
    """Rank correlation of system accuracy with k, for each seed."""
    del tolerance
    accuracy = _accuracy(results, "deferral")
    if len(accuracy.columns) < 2:
        raise CannotMeasure("the results hold one k only")
    values = np.array(
        [stats.spearmanr(accuracy.columns, row).statistic for row in accuracy.values]
    )
    return Finding(values, bool(values.mean() > 0.8))


def better_than_confidence(results: pd.DataFrame, tolerance: float) -> Finding:
    """System accuracy less that of deferring by confidence, mean over k."""
    del tolerance
    gain = _accuracy(results, "deferral") - _accuracy(results, "confidence")
    values = gain.mean(axis=1).to_numpy()
    low, _ = tables.mean_interval(values)
    return Finding(values, bool(low > 0))


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
            "System accuracy rises with the expert's skill: Spearman correlation with"
            " k",
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


SCALES = ("smoke", "default", "paper")
CLAIMS = [*image_claims("digits"), *image_claims("cifar10")]


def judge(claim: Claim, results: pd.DataFrame | str, tolerance: float) -> dict:
    """A row of the ledger; ``results`` is a table, or why there is none."""
    row = {
        "id": claim.id,
        "paper": claim.paper,
        "statement": claim.statement,
        "paper_value": claim.paper_value,
    }
    try:
        if isinstance(results, str):
            raise CannotMeasure(results)
        finding = claim.measure(results, tolerance)
    except CannotMeasure as error:
        nothing = dict.fromkeys(("our_value", "ci_low", "ci_high"), float("nan"))
        return row | nothing | {"n": 0, "verdict": f"not run: {error}"}
    low, high = tables.mean_interval(finding.values)
    return row | {
        "our_value": float(np.mean(finding.values)),
        "ci_low": low,
        "ci_high": high,
        "n": len(finding.values),
        "verdict": "reproduced" if finding.holds else "not reproduced",
    }


def find_results(
    config: ml_collections.ConfigDict, source: str, workdir: pathlib.Path
) -> pd.DataFrame | str:
    """The results of an experiment, run here if need be; or why there are none.

    Raises:
      program.ConfigError: a folder that was named holds no results, or others.
    """
    given = config.results[source]
    folder = pathlib.Path(given) if given else workdir / source
    if given:
        if not (folder / "results.csv").exists():
            raise program.ConfigError(
                f"results.{source}: there is no {folder / 'results.csv'}; name the work"
                " folder of a finished experiment"
            )
    elif source in config.run:
        module = importlib.import_module(f"experiments.configs.{source}")
        source_config = module.get_config(config.scale)
        folder.mkdir(exist_ok=True)
        program.claim_workdir(source_config, folder)
        if not (folder / "results.csv").exists():
            cifar.main(source_config, folder)
    elif not (folder / "results.csv").exists():
        return (
            f"give --config.results.{source}=DIR, the work folder of"
            f" experiments.cifar --config=experiments/configs/{source}.py"
        )
    return read_results(source, folder / "results.csv")


def read_results(source: str, path: pathlib.Path) -> pd.DataFrame:
    """The results table of a data set.

    Raises:
      program.ConfigError: the file holds no such table.
    """
    try:
        results = pd.read_csv(path)
        columns = ["seed", "num_perfect", "method", "split", "system_accuracy"]
        found = ", ".join(results[["dataset", *columns]].dataset.unique())
    except (KeyError, TypeError, ValueError) as error:
        raise program.ConfigError(
            f"results.{source}: {path} is not a results table ({error}); name the work"
            " folder of a finished experiment, or delete the file to run it again"
        ) from error
    if found != source:
        raise program.ConfigError(
            f"results.{source}: {path} holds results of {found or 'nothing'}, not of"
            f" {source}; name another folder"
        )
    return results


def main(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> None:
    """Judge every claim; the ledger goes to ``workdir``."""
    if config.scale not in SCALES:
        known = ", ".join(SCALES)
        raise program.ConfigError(f"scale must be one of {known}, got {config.scale!r}")
    if not 0.0 <= config.tolerance <= 1.0:
        raise program.ConfigError(
            f"tolerance must be a number in [0, 1], got {config.tolerance}"
        )
    for source in config.run:
        if source not in config.results:
            known = ", ".join(config.results)
            raise program.ConfigError(f"run must be among {known}, got {source!r}")
    found = {name: find_results(config, name, workdir) for name in config.results}
    ledger = pd.DataFrame(
        [judge(claim, found[claim.source], config.tolerance) for claim in CLAIMS]
    )
    tables.write_csv(ledger, workdir / "claims.csv")
    with pd.option_context("display.width", 200, "display.max_colwidth", 60):
        print(ledger.drop(columns=["paper"]).to_string(index=False))
    print(f"\nThe ledger: {workdir / 'claims.csv'}")


if __name__ == "__main__":
    program.run(main, "experiments/configs/claims.py")
