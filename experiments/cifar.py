"""Learning to defer on images: Mozannar and Sontag's system and its baselines.

A network with K+1 outputs is trained for every synthetic expert, hyperparameter and
seed. Validation chooses the hyperparameters; the test set is then looked at once, for
what was chosen. Three baselines share seeds, data and experts: the classifier alone,
the expert alone, and deferring by confidence.

  python -m experiments.cifar --config=experiments/configs/digits.py --workdir=DIR

A config that has ``people`` runs `experiments.personalize` instead: systems fitted to
particular persons.

References:
  Mozannar and Sontag, "Consistent Estimators for Learning to Defer to an Expert", 2020.
"""

import functools
import pathlib
from typing import Any, NamedTuple

import jax
import ml_collections
import numpy as np
import pandas as pd

from experiments import checks, evaluation, images, personalize, tables
from experiments.figures import images as cifar_figures
from experiments.runtime import cli, progress, signals
from experiments.runtime.workdir import claim_workdir
from l2d_jax import data, decisions
from l2d_jax.engine import (
    orders,
    processes,
    sweeps,
    training,
)
from l2d_jax.types import Dataset, Decision, Sweep

HPARAMS = ("num_perfect", "alpha", "learning_rate", "weight_decay")


class Trained(NamedTuple):
    """One training of the experiment, done.

    Attributes:
      program: what its runs share.
      sweep: its runs.
      result: what is left of them.
      chosen: the run that validation chose for each seed and expert, int ``[P]``; for
        each seed where the training knows of no expert.
    """

    program: training.Program
    sweep: Sweep
    result: sweeps.SweepResult
    chosen: np.ndarray


def make_sweeps(config: ml_collections.ConfigDict) -> dict[str, Sweep]:
    """The runs of each training that the config's methods need."""
    seeds = range(config.num_seeds)
    expert = {"num_perfect": config.num_perfect}
    shared = {name: config.grid[name] for name in ("learning_rate", "weight_decay")}
    made = {}
    if "deferral" in config.methods:
        made["deferral"] = {**expert, "alpha": config.grid.alpha, **shared}
    if "classifier" in config.methods or "confidence" in config.methods:
        made["classifier"] = shared
    if "confidence" in config.methods:
        made["expert_model"] = {**expert, **shared}
    return {name: sweeps.grid(seeds, hparams) for name, hparams in made.items()}


def choose(sweep: Sweep, result: sweeps.SweepResult) -> np.ndarray:
    """The run with the best validation score for each seed and expert, int ``[P]``.

    Of equals the first in the grid; a diverged run only where all have diverged.
    """
    score = np.where(result.diverged, -np.inf, result.score)
    keys = {"seed": sweep.seeds}
    if "num_perfect" in sweep.hparams:
        keys["num_perfect"] = sweep.hparams["num_perfect"]
    groups = pd.DataFrame(keys).groupby(list(keys), sort=False).indices
    return np.array([runs[np.argmax(score[runs])] for runs in groups.values()])


def train(
    config: ml_collections.ConfigDict,
    splits: data.Splits,
    workdir: pathlib.Path,
) -> dict[str, Trained]:
    """Every training that the config's methods need, by name."""
    programs = images.make_programs(config, splits)
    trained = {}
    with signals.StopSignal() as stop:
        for name, sweep in make_sweeps(config).items():
            model = config.expert_model if name == "expert_model" else config.model
            result = sweeps.run_sweep(
                programs[name],
                sweep,
                splits.train,
                root_seed=config.seed,
                valid_fraction=config.valid_fraction,
                batch_size=config.batch_size,
                where=images.make_placement(config, model),
                epochs_per_dispatch=config.epochs_per_dispatch,
                checkpoint_dir=workdir / "checkpoints" / name,
                checkpoint_seconds=config.checkpoint_seconds,
                report=progress.ProgressBar(name),
                should_stop=stop,
            )
            trained[name] = Trained(
                programs[name], sweep, result, choose(sweep, result)
            )
    return trained


class Split(NamedTuple):
    """Examples to evaluate on.

    Attributes:
      name: ``valid`` or ``test``.
      dataset: all examples, ``[N, ...]``.
      rows: those of each seed, int ``[seeds, B]``.
      annotate: `training.annotate_pool` or ``annotate_test``.
    """

    name: str
    dataset: Dataset
    rows: np.ndarray
    annotate: Any


def evaluate(
    config: ml_collections.ConfigDict,
    trained: dict[str, Trained],
    split: Split,
    num_classes: int,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows of one split, and its curves.

    Validation has a row for every run of the deferral sweep; everything else is only
    looked at for the runs that validation chose.
    """
    pairs = sweeps.grid(range(config.num_seeds), {"num_perfect": config.num_perfect})
    num_experts = len(config.num_perfect)
    annotate = functools.partial(
        images.annotate, expert=config.expert, num_classes=num_classes
    )
    labels = np.asarray(split.dataset.labels)[split.rows]
    where = images.make_placement(config, None)
    expert_labels = sweeps.annotate_runs(
        functools.partial(split.annotate, annotate),
        pairs,
        split.dataset,
        split.rows[pairs.seeds],
        config.seed,
        where=where,
    )[..., 0]

    def predict(name: str, runs: np.ndarray) -> Any:
        part = trained[name]
        sweep = sweeps.select(part.sweep, runs)
        model = config.expert_model if name == "expert_model" else config.model
        return sweeps.predict_runs(
            part.program,
            sweep,
            evaluation.take_runs(part.result.variables, runs),
            split.dataset.inputs,
            split.rows[sweep.seeds],
            where=images.make_placement(config, model),
        )

    parts = []

    def add(method: str, sweep: Sweep, decision: Decision, **info: np.ndarray) -> None:
        experts = np.searchsorted(config.num_perfect, sweep.hparams["num_perfect"])
        keys = {"experiment": "cifar", "dataset": config.dataset, "method": method}
        parts.append(
            evaluation.measure(
                {**keys, "split": split.name},
                sweep,
                HPARAMS,
                info,
                decision,
                labels[sweep.seeds],
                expert_labels[sweep.seeds * num_experts + experts],
                where=where,
            )
        )

    def training_info(name: str, runs: np.ndarray) -> dict[str, np.ndarray]:
        result = trained[name].result
        fields = ("best_epoch", "epochs", "diverged")
        return {field: getattr(result, field)[runs] for field in fields}

    if "deferral" in trained:
        part = trained["deferral"]
        runs = part.chosen
        if split.name == "valid":
            runs = np.arange(len(part.sweep.seeds))
        add(
            "deferral",
            sweeps.select(part.sweep, runs),
            predict("deferral", runs),
            chosen=np.isin(runs, part.chosen),
            **training_info("deferral", runs),
        )
    if "classifier" in trained:
        runs = trained["classifier"].chosen
        logits = predict("classifier", runs)[pairs.seeds]
        info = training_info("classifier", runs[pairs.seeds])
    if "classifier" in config.methods:
        decision = jax.vmap(decisions.classifier_decision)(logits)
        hparams = sweeps.select(trained["classifier"].sweep, runs[pairs.seeds]).hparams
        sweep = pairs._replace(hparams={**hparams, **pairs.hparams})
        add(
            "classifier",
            sweep,
            decision,
            chosen=np.full(len(pairs.seeds), True),
            **info,
        )
    if "confidence" in config.methods:
        probs = predict("expert_model", trained["expert_model"].chosen)
        decision = jax.vmap(decisions.confidence_decision)(logits, probs)
        diverged = (
            info["diverged"]
            | trained["expert_model"].result.diverged[trained["expert_model"].chosen]
        )
        chosen = np.full(len(pairs.seeds), True)
        add("confidence", pairs, decision, chosen=chosen, diverged=diverged)
    if "expert" in config.methods:
        decision = decisions.expert_decision(labels.shape[1], num_classes)
        decision = jax.tree.map(lambda leaf: np.asarray(leaf)[None], decision)
        decision = evaluation.take_runs(decision, np.zeros(len(pairs.seeds), int))
        add("expert", pairs, decision, chosen=np.full(len(pairs.seeds), True))
    rows, curves = zip(*parts, strict=True)
    return pd.concat(rows, ignore_index=True), pd.concat(curves, ignore_index=True)


def main(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> None:
    """Run the experiment; results go to ``workdir``."""
    if "people" in config:
        personalize.main(config, workdir)
        return
    checks.check_images(config)
    splits = images.load_data(config)
    size = len(splits.train.labels)
    num_valid = round(config.valid_fraction * size)
    checks.check_batch(config, size - num_valid, num_valid)
    claim_workdir(config, workdir)
    trained = train(config, splits, workdir)

    seeds = range(config.num_seeds)
    valid = [orders.split_pool(s, size, config.valid_fraction).valid for s in seeds]
    test = np.tile(np.arange(len(splits.test.labels)), (config.num_seeds, 1))
    valid_rows, _ = evaluate(
        config,
        trained,
        Split("valid", splits.train, np.stack(valid), training.annotate_pool),
        splits.num_classes,
    )
    test_rows, curves = evaluate(
        config,
        trained,
        Split("test", splits.test, test, training.annotate_test),
        splits.num_classes,
    )
    results = pd.concat([valid_rows, test_rows], ignore_index=True)
    # On the test set there is one row for each seed and expert, whatever was chosen.
    settings = ["dataset", "method", "num_perfect", "split"]
    chosen = results[results.chosen]
    summary = tables.summarize(chosen, settings, evaluation.METRICS)
    tables.write_csv(results, workdir / "results.csv")
    tables.write_csv(summary, workdir / "summary.csv")
    tables.write_csv(curves, workdir / "curves.csv")
    processes.from_first(lambda: cifar_figures.draw(workdir))
    progress.say(tables.pivot(summary, "num_perfect", "system_accuracy"))
    progress.say(f"\nTables, figures and checkpoints: {workdir}")


if __name__ == "__main__":
    cli.run(main)
