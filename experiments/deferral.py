"""Any method on any problem: the one runner of everything that learns to defer.

  python -m experiments.deferral --config=experiments/configs/FILE.py --workdir=DIR

A config names a problem and methods. Every method whose needs the problem meets is
trained for every seed, team and hyperparameter as rows of one sweep, ends in the same
`l2d_jax.types.Decision`, and is measured by the same function; validation chooses among
its hyperparameters. A method that the problem has no use for is a row that says why.

`experiments.cifar` and `experiments.tabular` are this program with figures of their
own.
"""

import pathlib
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import ml_collections
import numpy as np
import pandas as pd

from experiments import (
    evaluation,
    measure,
    schema,
    summaries,
    tables,
    trainings,
)
from experiments.figures import methods as figures_of_methods
from experiments.method import Method, unmet
from experiments.methods import GROUPS, METHODS
from experiments.problem import Problem, Traits
from experiments.problems import PROBLEMS
from experiments.runtime import cli, progress, signals
from experiments.runtime.errors import ConfigError
from experiments.runtime.workdir import claim_workdir
from experiments.trainings import TRAININGS, Trained
from l2d_jax import intervals
from l2d_jax.engine import pools, processes
from l2d_jax.learners import halfspaces


def choose_methods(
    config: ml_collections.ConfigDict, problem_name: str
) -> tuple[list[str], dict[str, str]]:
    """Methods that a config asks for: those to be had, and why the others are not.

    A name of `experiments.methods.GROUPS` asks for those of the group that are to be
    had; a method asked for by its name must be.

    Raises:
      ConfigError: a name is unknown, or a method that was named has an unmet need.
    """
    schema.one_of(PROBLEMS)("problem", problem_name)
    traits, _, _, fields = PROBLEMS[problem_name]
    lacks = [name for name in fields if name not in config]
    if lacks:
        raise ConfigError(
            f"{lacks[0]} is missing, which {problem_name} needs; add it to the config"
            " file"
        )
    named = [name for name in config.methods if name not in GROUPS]
    for name in named:
        if name not in METHODS:
            guess = schema.nearest(name, (*GROUPS, *METHODS))
            hint = f"; {guess}" if guess else ""
            raise ConfigError(
                f"methods: there is no {name!r}{hint} (all of them: python -m"
                " experiments.methods)"
            )
        why = _why_not(config, METHODS[name], traits)
        if why:
            raise ConfigError(
                f"methods: {name} is not applicable to {problem_name}: it {why}; leave"
                " it out, or give all, which leaves it out with the reason"
            )
    wanted = {*named}
    for group in set(config.methods) - wanted:
        wanted |= {*GROUPS[group]}
    # In the order of the table, or as they were named.
    order = (
        named if wanted == {*named} else [name for name in METHODS if name in wanted]
    )
    whys = {name: _why_not(config, METHODS[name], traits) for name in order}
    return (
        [name for name, why in whys.items() if not why],
        {name: why for name, why in whys.items() if why},
    )


def _why_not(config: ml_collections.ConfigDict, method: Method, traits: Traits) -> str:
    """Why a method cannot be had; empty where it can."""
    fields = [*method.fields]
    for name in method.trainings:
        row = TRAININGS[name]
        fields += [row.model, row.epochs, *row.fields]
    lacks = [name for name in dict.fromkeys(fields) if name not in config]
    needs = f"needs {' and '.join(lacks)} in the config" if lacks else ""
    return unmet(method, traits) or needs


def choose_fitting(
    config: ml_collections.ConfigDict, problem: Problem, methods: list[str]
) -> tuple[list[str], dict[str, str]]:
    """The same of methods and a problem that is loaded, whose size is known.

    Raises:
      ConfigError: a method that was named cannot take it.
    """
    num_train = len(problem.split(0).train)
    few = num_train <= halfspaces.MAX_EXAMPLES
    traits = problem.traits._replace(few=few)
    reasons = {name: unmet(METHODS[name], traits) for name in methods}
    reasons = {name: why for name, why in reasons.items() if why}
    for name, why in reasons.items():
        if name in config.methods:
            raise ConfigError(
                f"methods: {name} is not applicable to {problem.name} as it is, of"
                f" {num_train} training examples: it {why}; leave it out, or give all,"
                " which leaves it out with the reason"
            )
    return [name for name in methods if name not in reasons], reasons


def check_examples(config: ml_collections.ConfigDict, problem: Problem) -> None:
    """See that a problem's examples are what its traits say, before any training.

    Raises:
      ConfigError: a column is too short, or a value is none that it may have.
    """
    traits = problem.traits
    folds = {seed: problem.split(seed) for seed in range(config.num_seeds)}
    try:
        for name in ("pool", "test"):
            pools.check(
                getattr(problem, name),
                traits.num_classes or None,
                f"{problem.name}.{name}",
                traits.num_groups or None,
            )
        pools.check_folds(folds, len(problem.pool.labels))
        pools.check_alike(folds, config.batch_size)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"problem {error}") from error


def train_all(
    config: ml_collections.ConfigDict,
    problem: Problem,
    methods: list[str],
    workdir: pathlib.Path,
    stop: Callable[[], bool],
) -> tuple[dict[str, Trained], pd.DataFrame]:
    """Every training that the methods need, by name; what one comes after is first.

    Also a row for each: its runs and the seconds that this start has spent on it.
    """
    done: dict[str, Trained] = {}
    spent = []
    wanted = [name for method in methods for name in METHODS[method].trainings]
    pairs = [(TRAININGS[name].after, name) for name in wanted]
    names = [name for pair in pairs for name in pair if name]
    for name in dict.fromkeys(names):
        trainings.check(config, problem, name)
    for name in dict.fromkeys(names):
        start = time.monotonic()
        done[name] = trainings.train(config, problem, name, workdir, stop, done)
        seconds = time.monotonic() - start
        runs = len(done[name].sweep.seeds)
        spent.append((problem.name, name, runs, round(seconds, 1)))
    columns = ["problem", "training", "runs", "seconds"]
    return done, pd.DataFrame(spent, columns=columns)


# From runs to tables.


def tabulate(
    config: ml_collections.ConfigDict,
    problem: Problem,
    name: str,
    runs: evaluation.Runs,
    trained: dict[str, Trained],
    split: str,
    measured: dict[str, np.ndarray],
) -> pd.DataFrame:
    """A row for each run of a method on a split, ``chosen`` apart."""
    teams = problem.teams(config.num_seeds)
    parts = [trained[key] for key in METHODS[name].trainings]
    size = len(runs.seeds)
    columns: dict[str, Any] = {
        "experiment": config.experiment,
        "problem": problem.name,
        **problem.columns,
        "method": name,
        "seed": runs.seeds,
    }
    for key, values in teams.columns.items():
        columns[key] = [values[team] for team in runs.teams]
    for key in config.grid:
        # Through text, so that the float32 that was computed with reads as typed.
        columns[key] = (
            [float(str(value)) for value in runs.hparams[key]]
            if key in runs.hparams
            else np.full(size, np.nan)
        )
    columns["split"] = split
    if parts:
        result = parts[0].result
        columns["best_epoch"] = result.best_epoch[runs.parts[0]]
        columns["epochs"] = result.epochs[runs.parts[0]]
    columns["diverged"] = np.any(
        [
            part.result.diverged[index]
            for part, index in zip(parts, runs.parts, strict=True)
        ]
        or [np.zeros(size, bool)],
        axis=0,
    )
    columns |= {key: values for key, values in measured.items() if np.ndim(values) == 1}
    return pd.DataFrame(columns)


def choose(
    valid: pd.DataFrame, settings: list[str], hparams: list[str], per_seed: bool
) -> np.ndarray:
    """Whether validation chose each row's hyperparameters, bool ``[P]``.

    Of each setting, and each value of what is a preference, it is the row, or the
    values with the mean over seeds, of the best system accuracy; the first of equals. A
    diverged run counts as the worst.

    Args:
      valid: rows of one method on the validation part.
      settings: columns that tell what is compared: the team.
      hparams: columns of hyperparameters.
      per_seed: whether each seed chooses its own.
    """
    preferred = [name for name in hparams if name in summaries.PREFERENCES]
    keys = [*settings, *preferred]
    others = [name for name in hparams if name not in summaries.PREFERENCES]
    score = valid.system_accuracy.astype(float).where(~valid.diverged)
    table = valid[[*keys, *others, "seed"]].assign(score=score.fillna(-1.0))
    if per_seed:
        groups = table.groupby([*keys, "seed"], dropna=False, sort=False).score
        chosen = np.zeros(len(table), bool)
        chosen[table.index.get_indexer(groups.idxmax())] = True
        return chosen
    means = table.groupby([*keys, *others], dropna=False, sort=False).score.mean()
    means = means.reset_index()
    if keys:
        best = means.loc[means.groupby(keys, dropna=False, sort=False).score.idxmax()]
    else:
        best = means.loc[[means.score.idxmax()]]
    both = (
        table.merge(
            best.drop(columns="score").assign(best=True),
            how="left",
            on=[*keys, *others],
        )
        if (keys or others)
        else table.assign(best=True)
    )
    return both.best.notna().to_numpy()


class Results(NamedTuple):
    """What an experiment leaves.

    Attributes:
      table: a row for each run and split, and for each method that is not applicable.
      curves: a row for each chosen run on the test part and coverage.
      resampled: metrics of each row of the test part under each resample of the cases,
        float ``[rows, NUM_RESAMPLES]`` by name; NaN rows for the others. None where
        cases are not resampled.
    """

    table: pd.DataFrame
    curves: pd.DataFrame
    resampled: dict[str, np.ndarray] | None


def measure_all(
    config: ml_collections.ConfigDict,
    problem: Problem,
    methods: list[str],
    trained: dict[str, Trained],
    stop: Callable[[], bool],
) -> Results:
    """All methods on validation and test examples.

    Where each seed chooses for itself, the test part is looked at for what was chosen
    alone; where the choice is one for all seeds, all settings are reported on it.
    """
    teams = problem.teams(config.num_seeds)
    settings, hparams = list(teams.columns), list(config.grid)
    per_seed = config.choose == "per_seed"
    parts, curves, resampled = [], [], []
    measures = evaluation.Measures(config, problem, stop)
    for name in methods:
        runs = evaluation.make_runs(config, METHODS[name], teams, trained)
        common = (config, problem, name)
        splits = ("valid",) if per_seed else ("valid", "test")
        measured = measures.achieve(name, runs, trained, splits)
        valid = tabulate(*common, runs, trained, "valid", measured["valid"])
        valid["chosen"] = choose(valid, settings, hparams, per_seed)
        tested = runs
        if per_seed:
            tested = evaluation.take_runs(runs, np.flatnonzero(valid.chosen))
            measured = measures.achieve(name, tested, trained, ("test",))
        test = tabulate(*common, tested, trained, "test", measured["test"])
        test["chosen"] = True if per_seed else valid.chosen
        parts += [valid, test]
        curves.append(_curves(test, measured["test"]))
        draws = measured["test"].get("resampled")
        if draws is not None:
            nothing = np.full((len(valid), intervals.NUM_RESAMPLES), np.nan, np.float32)
            resampled += [dict.fromkeys(draws, nothing), draws]
    table = pd.concat(parts, ignore_index=True)
    names = dict.fromkeys(name for part in resampled for name in part)
    empty = np.full((0, intervals.NUM_RESAMPLES), np.nan, np.float32)
    return Results(
        table,
        pd.concat(curves, ignore_index=True),
        {
            name: np.concatenate([part.get(name, empty) for part in resampled])
            for name in names
        }
        or None,
    )


def _curves(test: pd.DataFrame, measured: dict[str, np.ndarray]) -> pd.DataFrame:
    rows = np.flatnonzero(test.chosen)
    keys = test.iloc[rows].loc[:, :"split"]
    points = keys.loc[keys.index.repeat(len(measure.COVERAGES))].reset_index(drop=True)
    points["coverage"] = np.tile(measure.COVERAGES, len(rows))
    points["system_accuracy"] = measured["curve"][rows].ravel()
    points["best_system_accuracy"] = measured["best_curve"][rows].ravel()
    return points


def with_reasons(
    config: ml_collections.ConfigDict, table: pd.DataFrame, reasons: dict[str, str]
) -> pd.DataFrame:
    """The results with a row for each method that is not applicable, in ``note``."""
    metrics = summaries.measured(table)
    first = [name for name in table if name not in (*metrics, "chosen")]
    first.insert(first.index("split") + 1, "chosen")
    table = table[[*first, *metrics]]
    if not reasons:
        return table
    rows = pd.DataFrame(
        {
            "experiment": config.experiment,
            "problem": table.problem.iloc[0],
            "method": list(reasons),
            "note": [f"not applicable: {why}" for why in reasons.values()],
        }
    )
    table = table.astype({"seed": "Int64"})
    return pd.concat([table, rows], ignore_index=True)


def check(
    config: ml_collections.ConfigDict,
) -> tuple[list[str], dict[str, str]]:
    """Check a config, before any data are read.

    Returns:
      As `choose_methods`.

    Raises:
      ConfigError: a value cannot be used; the message names the field and the remedy.
    """
    schema.check(config)
    schema.one_of(PROBLEMS)("problem", config.problem)
    for name in config.references:
        schema.one_of(METHODS)("references", name)
    return choose_methods(config, config.problem)


def run(
    config: ml_collections.ConfigDict,
    workdir: pathlib.Path,
    draw: Callable[[pathlib.Path], None],
) -> None:
    """Run an experiment; results go to ``workdir``.

    Args:
      config: of the experiment.
      workdir: its folder.
      draw: draws the figures of a finished folder.
    """
    methods, reasons = check(config)
    row = PROBLEMS[config.problem]
    prepared = row.prepare(config)
    claim_workdir(config, workdir, prepared)
    parts, shown, seconds = [], [], []
    with signals.StopSignal() as stop:
        for problem in row.make(config, prepared, workdir, stop):
            evaluation.require_memory(config, problem, methods)
            check_examples(config, problem)
            fitting, found = choose_fitting(config, problem, methods)
            reasons |= found
            trained, spent = train_all(config, problem, fitting, workdir, stop)
            results = measure_all(config, problem, fitting, trained, stop)
            made = summaries.make(config, problem, results.table, results.resampled)
            parts.append((results.table, made.summary, made.comparison, results.curves))
            shown.append(summaries.describe(config, problem, made))
            seconds.append(spent)
    table, summary, comparison, curves = (
        pd.concat(column, ignore_index=True) for column in zip(*parts, strict=True)
    )
    tables.write_csv(with_reasons(config, table, reasons), workdir / "results.csv")
    tables.write_csv(summary, workdir / "summary.csv")
    tables.write_csv(comparison, workdir / "comparison.csv")
    tables.write_csv(curves, workdir / "curves.csv")
    # Beside the results: the only numbers that another start would not repeat.
    tables.write_csv(pd.concat(seconds, ignore_index=True), workdir / "seconds.csv")
    processes.from_first(lambda: draw(workdir))
    tables.seal(workdir)
    progress.say("\n\n".join(shown))
    for name, why in reasons.items():
        progress.say(f"{name}: not applicable: {why}")
    progress.say(f"\nTables, figures and checkpoints: {workdir}")


def main(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> None:
    """Run the experiment; results go to ``workdir``."""
    run(config, workdir, figures_of_methods.draw)


if __name__ == "__main__":
    cli.run(main)
