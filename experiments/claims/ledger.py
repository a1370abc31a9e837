"""The ledger: where results come from, every claim judged on them, and its table."""

import importlib
import pathlib
from collections.abc import Callable
from typing import NamedTuple

import ml_collections
import numpy as np
import pandas as pd

from experiments import allocation, cifar, tables, tabular, trips
from experiments.claims.allocation import bias_claims, clusters_claims, texts_claims
from experiments.claims.claim import CannotMeasure, Claim
from experiments.claims.deferral import image_claims
from experiments.claims.finetuning import (
    people_claims,
    specialist_claims,
    trips_claims,
)
from experiments.claims.responsible import synthetic_claims, tabular_claims
from experiments.runtime import progress
from experiments.runtime.errors import ConfigError
from experiments.runtime.workdir import claim_workdir


class Source(NamedTuple):
    """An experiment whose results claims are measured on; its name is its config's.

    Attributes:
      program: name of the program, in `experiments`.
      main: it.
      datasets: what its results may have in the column ``dataset``; one at least.
      columns: others that they must have.
    """

    program: str
    main: Callable[[ml_collections.ConfigDict, pathlib.Path], None]
    datasets: tuple[str, ...]
    columns: tuple[str, ...]


_IMAGES = ("seed", "num_perfect", "method", "split", "system_accuracy")
_PEOPLE = (*_IMAGES, "people", "person", "human_model_accuracy")
_TABULAR = (
    "seed",
    "method",
    "split",
    "scenario",
    "cost",
    "alpha",
    "chosen",
    "system_accuracy",
    "di",
)
_TRIPS = ("seed", "method", "split", "finetune_trips", "minutes", "minutes_saved")
_BIAS = (
    "seed",
    "method",
    "committee_size",
    "alpha",
    "gamma",
    "window",
    "gap",
    "exact_gap",
    "printed_lower",
    "printed_upper",
)
_CLUSTERS = ("seed", "method", "strength", "misplaced", "first_accuracy")
_TEXTS = ("seed", "method", "truth", "accuracy", "gap")


def _allocation(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> None:
    allocation.main(config, workdir)


def _cifar(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> None:
    cifar.main(config, workdir)


def _trips(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> None:
    trips.main(config, workdir)


def _tabular(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> None:
    tabular.main(config, workdir)


SOURCES = {
    "digits": Source("cifar", _cifar, ("digits",), _IMAGES),
    "cifar10": Source("cifar", _cifar, ("cifar10",), _IMAGES),
    "trips": Source("trips", _trips, ("simulated",), _TRIPS),
    "digits_finetune": Source("cifar", _cifar, ("digits",), _PEOPLE),
    "cifar10_finetune": Source("cifar", _cifar, ("cifar10",), _PEOPLE),
    "synthetic": Source("tabular", _tabular, ("synthetic",), _TABULAR),
    "compas": Source("tabular", _tabular, ("compas",), _TABULAR),
    "health": Source("tabular", _tabular, ("health",), _TABULAR),
    "bias": Source("allocation", _allocation, ("biased_groups",), _BIAS),
    "clusters": Source(
        "allocation",
        _allocation,
        ("well_conditioned", "released", "crowd_of_30"),
        _CLUSTERS,
    ),
    "toxicity": Source(
        "allocation",
        _allocation,
        ("annwithattitudes", "hs_brexit", "keswani_mturk"),
        _TEXTS,
    ),
}

SCALES = ("smoke", "default", "paper")
CLAIMS: list[Claim] = [
    *image_claims("digits"),
    *image_claims("cifar10"),
    *trips_claims("trips"),
    *specialist_claims("digits_finetune"),
    *specialist_claims("cifar10_finetune"),
    *people_claims("cifar10_finetune"),
    *synthetic_claims("synthetic"),
    *tabular_claims("compas", 0.29, 0.24),
    *tabular_claims("health", 0.21, 0.16),
    *bias_claims("bias"),
    *clusters_claims("clusters"),
    *texts_claims("toxicity"),
]


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
    value, low, high = finding.estimate or (
        float(np.mean(finding.values)),
        *tables.mean_interval(finding.values),
    )
    verdict = "reproduced" if finding.holds else "not reproduced"
    return row | {
        "our_value": value,
        "ci_low": low,
        "ci_high": high,
        "n": len(finding.values),
        "verdict": "better" if finding.better else verdict,
    }


def find_results(
    config: ml_collections.ConfigDict, source: str, workdir: pathlib.Path
) -> pd.DataFrame | str:
    """The results of an experiment, run here if need be; or why there are none.

    Raises:
      ConfigError: a folder that was named holds no results, or others.
    """
    given = config.results[source]
    folder = pathlib.Path(given) if given else workdir / source
    if given:
        if not (folder / "results.csv").exists():
            raise ConfigError(
                f"results.{source}: there is no {folder / 'results.csv'}; name the work"
                " folder of a finished experiment"
            )
    elif source in config.run:
        module = importlib.import_module(f"experiments.configs.{source}")
        source_config = module.get_config(config.scale)
        folder.mkdir(exist_ok=True)
        claim_workdir(source_config, folder)
        if not (folder / "results.csv").exists():
            SOURCES[source].main(source_config, folder)
    elif not (folder / "results.csv").exists():
        return (
            f"give --config.results.{source}=DIR, the work folder of"
            f" experiments.{SOURCES[source].program}"
            f" --config=experiments/configs/{source}.py"
        )
    return read_results(source, folder / "results.csv")


def read_results(source: str, path: pathlib.Path) -> pd.DataFrame:
    """The results table of a data set.

    Raises:
      ConfigError: the file holds no such table.
    """
    try:
        results = pd.read_csv(path)
        columns = ["dataset", *SOURCES[source].columns]
        found = list(results[columns].dataset.unique())
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            f"results.{source}: {path} is not a results table ({error}); name the work"
            " folder of a finished experiment, or delete the file to run it again"
        ) from error
    expected = SOURCES[source].datasets
    if not set(found) & set(expected):
        held = ", ".join(map(str, found)) or "nothing"
        raise ConfigError(
            f"results.{source}: {path} holds results of {held}, not of"
            f" {' or '.join(expected)}; name another folder"
        )
    return results


def main(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> None:
    """Judge every claim; the ledger goes to ``workdir``."""
    if config.scale not in SCALES:
        known = ", ".join(SCALES)
        raise ConfigError(f"scale must be one of {known}, got {config.scale!r}")
    if not 0.0 <= config.tolerance <= 1.0:
        raise ConfigError(
            f"tolerance must be a number in [0, 1], got {config.tolerance}"
        )
    for source in config.run:
        if source not in config.results:
            known = ", ".join(config.results)
            raise ConfigError(f"run must be among {known}, got {source!r}")
    # Folders that are named come first: one that is wrong is found before any work.
    named_first = sorted(config.results, key=lambda name: not config.results[name])
    found = {name: find_results(config, name, workdir) for name in named_first}
    ledger = pd.DataFrame(
        [judge(claim, found[claim.source], config.tolerance) for claim in CLAIMS]
    )
    tables.write_csv(ledger, workdir / "claims.csv")
    with pd.option_context("display.width", 200, "display.max_colwidth", 60):
        progress.say(ledger.drop(columns=["paper"]).to_string(index=False))
    progress.say(f"\nThe ledger: {workdir / 'claims.csv'}")
