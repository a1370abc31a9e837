"""The ledger: where results come from, every claim judged on them, and its table."""

import importlib
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import ml_collections
import numpy as np
import pandas as pd

from experiments import allocation, cifar, deferral, schema, tables, tabular, trips, zoo
from experiments.claims.allocation import bias_claims, clusters_claims, texts_claims
from experiments.claims.claim import CannotMeasure, Claim, Evidence
from experiments.claims.deferral import image_claims
from experiments.claims.finetuning import (
    people_claims,
    specialist_claims,
    trips_claims,
)
from experiments.claims.joint import joint_claims
from experiments.claims.responsible import synthetic_claims, tabular_claims
from experiments.claims.zoo import zoo_claims
from experiments.runtime import progress
from experiments.runtime.errors import ConfigError
from experiments.runtime.workdir import claim_config, write_text
from l2d_jax.engine import processes


class Source(NamedTuple):
    """An experiment whose tables claims are measured on; its name is its config's.

    Attributes:
      program: name of the program, in `experiments`.
      main: it.
      key: column of its results that names what they are of.
      names: what may be there; one at least.
      columns: other columns that the results must have.
      beside: tables beside the results that are read too, of `BESIDE`; other programs
        write others under the same names.
      paper_scale: the scale of its config that is the paper's.
    """

    program: str
    main: Callable[[ml_collections.ConfigDict, pathlib.Path], None]
    key: str
    names: tuple[str, ...]
    columns: tuple[str, ...]
    beside: tuple[str, ...] = ()
    paper_scale: str = "paper"


_RUNS = ("seed", "method", "split", "chosen", "system_accuracy")
_IMAGES = (*_RUNS, "num_perfect")
_PEOPLE = (*_IMAGES, "people", "person", "imputer", "human_model_accuracy")
_TABULAR = (*_RUNS, "scenario", "cost", "fairness", "di")
_JOINT = (*_RUNS, "subgroup_gap")
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
_LOOP_TEXTS = ("seed", "method", "truth", "accuracy")
_INTERVAL = ("metric", "n", "mean", "ci_low", "ci_high")
BESIDE = {
    "comparison": ("method", "against", "reference", *_INTERVAL),
    "gains": ("people", "method", "imputer", *_INTERVAL),
}
"""Tables beside the results, fields of `Evidence`, and columns that they must have."""


# Looked up when they are called, so that they can be replaced.


def _allocation(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> None:
    allocation.main(config, workdir)


def _cifar(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> None:
    cifar.main(config, workdir)


def _deferral(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> None:
    deferral.main(config, workdir)


def _tabular(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> None:
    tabular.main(config, workdir)


def _trips(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> None:
    trips.main(config, workdir)


def _zoo(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> None:
    zoo.main(config, workdir)


def _grid(
    program: str,
    main: Callable[[ml_collections.ConfigDict, pathlib.Path], None],
    name: str,
    columns: tuple[str, ...],
    paper_scale: str = "paper",
) -> Source:
    """A source of methods by problems."""
    return Source(
        program, main, "problem", (name,), columns, tuple(BESIDE), paper_scale
    )


SOURCES = {
    "digits": _grid("cifar", _cifar, "digits", _IMAGES),
    "cifar10": _grid("cifar", _cifar, "cifar10", _IMAGES),
    "trips": Source("trips", _trips, "dataset", ("simulated",), _TRIPS),
    "digits_finetune": _grid("cifar", _cifar, "digits_people", _PEOPLE),
    "cifar10_finetune": _grid("cifar", _cifar, "cifar10_people", _PEOPLE),
    "synthetic": _grid("tabular", _tabular, "synthetic", _TABULAR),
    "compas": _grid("tabular", _tabular, "compas", _TABULAR),
    "health": _grid("tabular", _tabular, "health", _TABULAR),
    "bias": Source("allocation", _allocation, "dataset", ("biased_groups",), _BIAS),
    "clusters": Source(
        "allocation",
        _allocation,
        "dataset",
        ("well_conditioned", "released", "crowd_of_30"),
        _CLUSTERS,
    ),
    "toxicity": Source(
        "allocation",
        _allocation,
        "dataset",
        ("annwithattitudes", "hs_brexit", "keswani_mturk"),
        _LOOP_TEXTS,
    ),
    "texts": _grid(
        "deferral", _deferral, "keswani_mturk", _JOINT, paper_scale="default"
    ),
    "zoo": Source(
        "zoo",
        _zoo,
        "problem",
        ("digits", "digits_panel", "synthetic"),
        (*_RUNS, "part", "coverage", "expert_calibration_error"),
        ("comparison",),
        "default",
    ),
}

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
    *joint_claims("texts"),
    *zoo_claims("zoo"),
]


def judge(claim: Claim, evidence: Evidence | str, tolerance: float) -> dict[str, Any]:
    """A row of the ledger; ``evidence`` is the tables, or why there are none."""
    row = {
        "id": claim.id,
        "paper": claim.paper,
        "statement": claim.statement,
        "paper_value": claim.paper_value,
    }
    try:
        if isinstance(evidence, str):
            raise CannotMeasure(evidence)
        estimate, holds, better = claim.measure(evidence, tolerance)
    except CannotMeasure as error:
        nothing = dict.fromkeys(("our_value", "ci_low", "ci_high"), float("nan"))
        return row | nothing | {"n": 0, "over": "", "verdict": f"not run: {error}"}
    verdict = "reproduced" if holds else "not reproduced"
    return row | {
        "our_value": estimate.value,
        "ci_low": estimate.low,
        "ci_high": estimate.high,
        "n": estimate.n,
        "over": estimate.over,
        "verdict": "better" if better else verdict,
    }


_MARKDOWN = (
    "id",
    "paper",
    "claim",
    "paper's number",
    "ours (95 % interval)",
    "n",
    "over",
    "verdict",
)


def to_markdown(ledger: pd.DataFrame) -> str:
    """The ledger as a table that documents include.

    Args:
      ledger: rows of `judge`.
    """
    lines = [
        "<!-- Written by python -m experiments.claims, not by hand. -->",
        f"| {' | '.join(_MARKDOWN)} |",
        f"|{'---|' * len(_MARKDOWN)}",
    ]
    for row in ledger.itertuples():
        ours = "" if np.isnan(row.our_value) else f"{row.our_value:z.3f}"
        if not np.isnan(row.ci_low):
            ours += f" ({row.ci_low:z.3f} to {row.ci_high:z.3f})"
        cells = (
            row.id,
            row.paper,
            row.statement,
            row.paper_value,
            ours,
            str(row.n),
            row.over,
            row.verdict,
        )
        # A bar would end its cell, and a line break the row.
        texts = [" ".join(cell.replace("|", r"\|").split()) for cell in cells]
        lines.append(f"| {' | '.join(texts)} |")
    return "\n".join(lines) + "\n"


def find_evidence(
    config: ml_collections.ConfigDict, name: str, workdir: pathlib.Path
) -> Evidence | str:
    """The tables of an experiment, run here if need be; or why there are none.

    Raises:
      ConfigError: a folder that was named holds no results, or others.
    """
    source, given = SOURCES[name], config.results[name]
    folder = pathlib.Path(given) if given else workdir / name
    if given:
        if not (folder / "results.csv").exists():
            raise ConfigError(
                f"results.{name}: there is no {folder / 'results.csv'}; name the work"
                " folder of a finished experiment"
            )
    elif name in config.run:
        module = importlib.import_module(f"experiments.configs.{name}")
        scale = source.paper_scale if config.scale == "paper" else config.scale
        source_config = module.get_config(scale)
        folder.mkdir(exist_ok=True)
        processes.from_first(lambda: claim_config(source_config, folder))
        if not tables.is_sealed(folder):
            source.main(source_config, folder)
    elif not (folder / "results.csv").exists():
        return (
            f"give --config.results.{name}=DIR, the work folder of"
            f" experiments.{source.program} --config=experiments/configs/{name}.py"
        )
    return read_evidence(name, folder)


def read_evidence(name: str, folder: pathlib.Path) -> Evidence:
    """The tables in the work folder of a source.

    Raises:
      ConfigError: a file holds no such table.
    """
    source, path = SOURCES[name], folder / "results.csv"
    results = _read_table(name, path, (source.key, *source.columns))
    if "note" in results:
        # Rows of methods that are not applicable measure nothing.
        results = results[results.note.isna()].infer_objects()
    found = list(results[source.key].unique())
    if not set(found) & set(source.names):
        held = ", ".join(map(str, found)) or "nothing"
        raise ConfigError(
            f"results.{name}: {path} holds results of {held}, not of"
            f" {' or '.join(source.names)}; name another folder"
        )
    others = {
        table: _read_beside(name, folder / f"{table}.csv", BESIDE[table])
        for table in source.beside
    }
    return Evidence(results, **others)


def _read_beside(
    name: str, path: pathlib.Path, columns: tuple[str, ...]
) -> pd.DataFrame | None:
    """A table that a folder may lack; that of a run with nothing to compare is empty.

    Raises:
      ConfigError: the file holds no such table.
    """
    known = tables.read_seal(path.parent)["tables"]
    if not path.exists() and path.name not in known:
        return None
    _check_seal(name, path)
    if not path.read_text().strip():
        return None
    return _read_table(name, path, columns)


def _read_table(
    name: str, path: pathlib.Path, columns: tuple[str, ...]
) -> pd.DataFrame:
    """A table that has the columns.

    Raises:
      ConfigError: the file holds no such table.
    """
    _check_seal(name, path)
    try:
        table = tables.read_csv(path)
        table[list(columns)]
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            f"results.{name}: {path} is not a results table ({error}); name the work"
            " folder of a finished experiment, or delete its results.csv to run it"
            " again"
        ) from error
    return table


def _check_seal(name: str, path: pathlib.Path) -> None:
    try:
        tables.check_seal(path)
    except ConfigError as error:
        raise ConfigError(f"results.{name}: {error}") from error


def check(config: ml_collections.ConfigDict) -> None:
    """Check the config.

    Raises:
      ConfigError: a value cannot be used; the message names the field and the remedy.
    """
    schema.check(config, schema.CLAIMS)
    schema.group(*SOURCES)("results", config.results)
    for name, folder in config.results.items():
        schema.one_of(SOURCES)("results", name)
        schema.text(f"results.{name}", folder)
    schema.many(schema.one_of(config.results), least=0)("run", config.run)


def main(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> None:
    """Judge every claim; the ledger goes to ``workdir``."""
    check(config)
    # Folders that are named come first: one that is wrong is found before any work.
    named_first = sorted(config.results, key=lambda name: not config.results[name])
    found = {name: find_evidence(config, name, workdir) for name in named_first}
    ledger = pd.DataFrame(
        [judge(claim, found[claim.source], config.tolerance) for claim in CLAIMS]
    )
    tables.write_csv(ledger, workdir / "claims.csv")
    processes.from_first(lambda: write_text(workdir / "claims.md", to_markdown(ledger)))
    with pd.option_context("display.width", 200, "display.max_colwidth", 60):
        progress.say(ledger.drop(columns=["paper"]).to_string(index=False))
    progress.say(
        f"\nThe ledger: {workdir / 'claims.csv'}, for documents: claims.md there"
    )
