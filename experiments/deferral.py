"""Any method on any problem: the one runner of everything that learns to defer.

  python -m experiments.deferral --config=experiments/configs/FILE.py --workdir=DIR

A config names a problem and methods. Every method whose needs the problem meets is
trained for every seed, team and hyperparameter as rows of one sweep, ends in the same
`l2d_jax.types.Decision`, and is measured by the same function; validation chooses among
its hyperparameters. A method that the problem has no use for is a row that says why.

`experiments.cifar` and `experiments.tabular` are this program with figures of their
own.
"""

import difflib
import functools
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pandas as pd

from experiments import (
    intervals,
    measure,
    networks,
    schema,
    summaries,
    tables,
    trainings,
)
from experiments.figures import methods as figures_of_methods
from experiments.method import Case, Method, unmet
from experiments.methods import METHODS
from experiments.problem import Problem, Teams, Traits
from experiments.problems import PROBLEMS
from experiments.runtime import cli, progress, signals
from experiments.runtime.errors import ConfigError
from experiments.runtime.workdir import claim_workdir
from experiments.trainings import TRAININGS, Trained
from l2d_jax import decisions
from l2d_jax.engine import chunks, processes, training
from l2d_jax.learners import batches
from l2d_jax.types import Array, Batch, Decision, PyTree

_POLICY_STREAM = 100
# Runs that a device measures at a time: whole data sets take more memory than batches.
_MEASURED_AT_ONCE = 8


class Runs(NamedTuple):
    """Runs of a method, P of them.

    Attributes:
      seeds: int ``[P]``.
      teams: number of the team of each, int ``[P]``.
      parts: number of the run of each of its trainings, int ``[P]`` each.
      hparams: of the method, beside the team's, by name, ``[P]``.
    """

    seeds: np.ndarray
    teams: np.ndarray
    parts: tuple[np.ndarray, ...]
    hparams: dict[str, np.ndarray]


def choose_methods(
    config: ml_collections.ConfigDict, problem_name: str
) -> tuple[list[str], dict[str, str]]:
    """Methods that a config asks for: those to be had, and why the others are not.

    ``all`` asks for every method; a method asked for by its name must be to be had.

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
    named = [name for name in config.methods if name != "all"]
    for name in named:
        if name not in METHODS:
            near = difflib.get_close_matches(name, METHODS, n=3, cutoff=0.5)
            hint = f"; did you mean {' or '.join(near)}?" if near else ""
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
    if "all" not in config.methods:
        return named, {}
    wanted = {
        name: _why_not(config, method, traits) for name, method in METHODS.items()
    }
    return (
        [name for name, why in wanted.items() if not why],
        {name: why for name, why in wanted.items() if why},
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


def train_all(
    config: ml_collections.ConfigDict,
    problem: Problem,
    methods: list[str],
    workdir: pathlib.Path,
    stop: Callable[[], bool],
) -> dict[str, Trained]:
    """Every training that the methods need, by name."""
    needed = dict.fromkeys(
        name for method in methods for name in METHODS[method].trainings
    )
    return {
        name: trainings.train(config, problem, name, workdir, stop) for name in needed
    }


# The runs of a method.


def make_runs(
    config: ml_collections.ConfigDict,
    method: Method,
    teams: Teams,
    trained: dict[str, Trained],
) -> Runs:
    """The runs of a method: those of its first training, for every team.

    What a method reads beside its trainings multiplies them.
    """
    parts = [trained[name] for name in method.trainings]
    if parts and TRAININGS[method.trainings[0]].knows_expert:
        main = np.arange(len(parts[0].sweep.seeds))
        of_team = parts[0].teams
    elif parts:
        # A run that knows of no team serves all those of its seed.
        pairs = [
            (run, team)
            for run, seed in enumerate(parts[0].sweep.seeds)
            for team in np.flatnonzero(teams.seeds == seed)
        ]
        main, of_team = np.array(pairs).T
    else:
        of_team = np.arange(len(teams.seeds))
        main = np.zeros(len(of_team), int)
    hparams: dict[str, np.ndarray] = {}
    for name, values in trainings.values_of(config, method.hparams).items():
        size = len(of_team)
        times = np.repeat(np.arange(size), len(values))
        main, of_team = main[times], of_team[times]
        hparams = {key: column[times] for key, column in hparams.items()}
        hparams[name] = np.tile(np.asarray(values, np.float32), size)
    if parts:
        learned = parts[0].sweep.hparams
        hparams |= {
            name: values[main]
            for name, values in learned.items()
            if name not in teams.hparams
        }
    seeds = teams.seeds[of_team]
    others = tuple(best_runs(part, seeds, of_team) for part in parts[1:])
    return Runs(seeds, of_team, (main, *others) if parts else (), hparams)


def best_runs(part: Trained, seeds: np.ndarray, teams: np.ndarray) -> np.ndarray:
    """The run of a training with the best validation score for each seed and team.

    Of equals the first in the grid; a diverged run only where all have diverged.
    """
    score = np.where(part.result.diverged, -np.inf, part.result.score)
    chosen = np.empty(len(seeds), int)
    for number, (seed, team) in enumerate(zip(seeds, teams, strict=True)):
        own = (part.sweep.seeds == seed) & np.isin(part.teams, (-1, team))
        candidates = np.flatnonzero(own)
        chosen[number] = candidates[np.argmax(score[candidates])]
    return chosen


def take_runs(runs: Runs, index: np.ndarray) -> Runs:
    """Some of the runs."""
    return jax.tree.map(lambda leaf: leaf[index], runs)


# Measuring them.


def _shared(
    config: ml_collections.ConfigDict,
    problem: Problem,
    hidden: bool,
    with_inputs: bool = True,
) -> dict[str, PyTree]:
    """The examples that all runs decide and are measured on."""
    inputs = (problem.pool.inputs, problem.test.inputs)
    if hidden:
        assert problem.hidden is not None
        inputs = problem.hidden
    parts: dict[str, PyTree] = {}
    for number, (name, dataset) in enumerate(
        (("valid", problem.pool), ("test", problem.test))
    ):
        parts[name] = {
            "inputs": inputs[number] if with_inputs else (),
            # Inputs are looked up where a network wants them.
            "dataset": dataset._replace(inputs=dataset.labels),
            "slices": {key: pair[number] for key, pair in problem.slices.items()},
        }
        if problem.subgroups is not None:
            parts[name]["subgroup"] = problem.subgroups[number]
    if problem.sampled == "seeds and cases":
        parts["resamples"] = intervals.draw_resamples(
            len(problem.test.labels), config.seed
        )
    return parts | {"seed": np.int32(config.seed)}


def look_up(
    problem: Problem, shared: PyTree, run: PyTree, split: str
) -> tuple[Batch, jax.Array]:
    """The examples of a run in a split, as its experts have them, and the run's key."""
    key = training.run_key(jax.random.key(shared["seed"]), run["seed"])
    rows = run["rows"][split]
    annotate = training.annotate_pool if split == "valid" else training.annotate_test
    known = annotate(problem.annotate, key, run["team"], shared[split]["dataset"])
    known = known._replace(inputs=known.labels)
    batch = problem.view(batches.take(known, rows), run["team"])
    weights = run["weights"][split]
    if batch.weights is not None:
        weights = weights * batch.weights
    return batch._replace(weights=weights), key


def make_decide(
    config: ml_collections.ConfigDict,
    problem: Problem,
    method: Method,
    programs: tuple[training.Program, ...],
    splits: tuple[str, ...],
) -> Callable[[PyTree, PyTree], dict[str, Decision]]:
    """What one run decides in some of ``valid`` and ``test``, as a pure function.

    A run has its ``seed``, the ``hparams`` of its method, of its ``team`` and of each
    of its ``trainings``, their ``variables``, and ``rows`` with ``weights`` of each
    split.
    """
    policy = method.policy(config) if method.policy else None

    def decide(run: PyTree, shared: PyTree) -> dict[str, Decision]:
        looked: dict[str, tuple[Batch, Decision]] = {}
        for split in dict.fromkeys((*(("valid",) if policy else ()), *splits)):
            part, rows = shared[split], run["rows"][split]
            batch, key = look_up(problem, shared, run, split)
            predictions = tuple(
                training.predict(shown, variables, hparams, part["inputs"], rows)
                for shown, variables, hparams in zip(
                    programs, run["variables"], run["trainings"], strict=True
                )
            )
            inputs = functools.partial(jnp.take, part["inputs"], rows, axis=0)
            case = Case(predictions, batch, inputs, problem)
            decision = method.decide(case, {**run["hparams"], **run["team"]})
            looked[split] = batch, decision
        if policy:
            key = jax.random.fold_in(key, _POLICY_STREAM)
            batch, decision = looked["valid"]
            chosen = policy.fit(key, run["hparams"], decision, batch)
            for number, split in enumerate(splits):
                batch, decision = looked[split]
                of_split = jax.random.fold_in(key, number)
                decision = policy.apply(of_split, chosen, decision, batch)
                looked[split] = batch, decision
        return {
            split: decisions.among(
                looked[split][1], measure.available(looked[split][0])
            )
            for split in splits
        }

    return decide


def make_measure(
    problem: Problem, split: str
) -> Callable[[PyTree, PyTree], dict[str, PyTree]]:
    """What a decision of one run achieves in a split, as a pure function.

    A run has its ``seed``, ``team``, ``rows``, ``weights`` and ``decision``.
    """

    def scalars(batch: Batch, run: PyTree, shared: PyTree) -> dict[str, jax.Array]:
        part, rows = shared[split], run["rows"][split]
        return measure.scalars(
            run["decision"],
            batch,
            {name: column[rows] for name, column in part["slices"].items()},
            part["subgroup"][rows] if "subgroup" in part else None,
            problem.num_subgroups,
        )

    def achieve(run: PyTree, shared: PyTree) -> dict[str, PyTree]:
        batch, _ = look_up(problem, shared, run, split)
        found: dict[str, PyTree] = scalars(batch, run, shared)
        found |= measure.curves(run["decision"], batch)
        if split == "test" and "resamples" in shared:

            def resampled(counts: Array) -> PyTree:
                weights = jnp.asarray(batch.weights) * counts[run["rows"][split]]
                return scalars(batch._replace(weights=weights), run, shared)

            found["resampled"] = jax.lax.map(resampled, shared["resamples"])
        return found

    return achieve


class Rows(NamedTuple):
    """Rows of each seed in a split, padded to the longest.

    Attributes:
      rows: int32 ``[S, B]``.
      weights: float32 ``[S, B]``, 0 for padding.
    """

    rows: np.ndarray
    weights: np.ndarray


def make_rows(problem: Problem, num_seeds: int) -> dict[str, Rows]:
    """Rows of the pool that validate, and of the test part that report."""
    size = len(problem.test.labels)
    made: dict[str, list[np.ndarray]] = {"valid": [], "test": []}
    for seed in range(num_seeds):
        made["valid"].append(problem.split(seed).valid)
        made["test"].append(
            problem.test_rows(seed) if problem.test_rows else np.arange(size)
        )
    found = {}
    for name, parts in made.items():
        longest = max(map(len, parts))
        found[name] = Rows(
            np.stack([np.resize(part, longest) for part in parts]).astype(np.int32),
            np.stack([np.arange(longest) < len(part) for part in parts]).astype(
                np.float32
            ),
        )
    return found


class Measures:
    """Measures decisions of a problem: one compiled program a split for all methods."""

    def __init__(
        self,
        config: ml_collections.ConfigDict,
        problem: Problem,
        stop: Callable[[], bool],
    ):
        self._config, self._problem, self._stop = config, problem, stop
        self._teams = problem.teams(config.num_seeds)
        self._rows = make_rows(problem, config.num_seeds)
        self._functions = {
            split: make_measure(problem, split) for split in ("valid", "test")
        }

    def runs_of(self, runs: Runs) -> dict[str, PyTree]:
        """What each run has of its own whatever the method."""
        index = runs.seeds
        return {
            "seed": index,
            "team": _taken(self._teams.hparams, runs.teams),
            "rows": {key: value.rows[index] for key, value in self._rows.items()},
            "weights": {key: value.weights[index] for key, value in self._rows.items()},
        }

    def decide(
        self,
        name: str,
        runs: Runs,
        trained: dict[str, Trained],
        splits: tuple[str, ...],
    ) -> dict[str, Decision]:
        """What the runs of a method decide, by split, ``[P, B, ...]``."""
        method = METHODS[name]
        parts = [trained[key] for key in method.trainings]
        rows = [TRAININGS[key] for key in method.trainings]
        pairs = list(zip(parts, runs.parts, strict=True))
        return chunks.map_runs(
            make_decide(
                self._config,
                self._problem,
                method,
                tuple(part.program for part in parts),
                splits,
            ),
            self.runs_of(runs)
            | {
                "hparams": runs.hparams,
                "trainings": tuple(_taken(p.sweep.hparams, i) for p, i in pairs),
                "variables": tuple(_taken(p.result.variables, i) for p, i in pairs),
            },
            _shared(self._config, self._problem, any(row.hidden for row in rows)),
            where=networks.make_placement(
                self._config, self._config[rows[0].model] if rows else None
            ),
            should_stop=self._stop,
        )

    def measure(
        self, name: str, runs: Runs, decision: Decision, split: str
    ) -> dict[str, PyTree]:
        """What these decisions achieve, by metric, ``[P, ...]``."""
        size = len(runs.seeds)
        where = networks.make_placement(self._config)
        where = where._replace(runs_per_device=_MEASURED_AT_ONCE)
        # Filled up to whole chunks, so that one program serves every method.
        chunk = _MEASURED_AT_ONCE * max(where.num_devices, 2)
        index = np.minimum(np.arange(-(-size // chunk) * chunk), size - 1)
        found = chunks.map_runs(
            self._functions[split],
            _taken({**self.runs_of(runs), "decision": decision}, index),
            _shared(self._config, self._problem, False, with_inputs=False),
            where=where,
            report=progress.ProgressBar(f"{name}, {split}", unit="run"),
            should_stop=self._stop,
        )
        return jax.tree.map(lambda leaf: leaf[:size], found)


def _taken(tree: PyTree, index: np.ndarray) -> PyTree:
    return jax.tree.map(lambda leaf: np.asarray(leaf)[index], tree)


# From runs to tables.


def tabulate(
    config: ml_collections.ConfigDict,
    problem: Problem,
    name: str,
    runs: Runs,
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
    measures = Measures(config, problem, stop)
    for name in methods:
        runs = make_runs(config, METHODS[name], teams, trained)
        common = (config, problem, name)
        splits = ("valid",) if per_seed else ("valid", "test")
        decided = measures.decide(name, runs, trained, splits)
        measured = measures.measure(name, runs, decided["valid"], "valid")
        valid = tabulate(*common, runs, trained, "valid", measured)
        valid["chosen"] = choose(valid, settings, hparams, per_seed)
        tested = runs
        if per_seed:
            tested = take_runs(runs, np.flatnonzero(valid.chosen))
            decided = measures.decide(name, tested, trained, ("test",))
        measured = measures.measure(name, tested, decided["test"], "test")
        test = tabulate(*common, tested, trained, "test", measured)
        test["chosen"] = True if per_seed else valid.chosen
        parts += [valid, test]
        curves.append(_curves(test, measured))
        if "resampled" in measured:
            nothing = np.full((len(valid), intervals.NUM_RESAMPLES), np.nan, np.float32)
            resampled += [
                dict.fromkeys(measured["resampled"], nothing),
                measured["resampled"],
            ]
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
    schema.check(config)
    schema.one_of(METHODS)("reference", config.reference)
    methods, reasons = choose_methods(config, config.problem)
    row = PROBLEMS[config.problem]
    prepared = row.prepare(config)
    claim_workdir(config, workdir)
    parts, shown = [], []
    with signals.StopSignal() as stop:
        for problem in row.make(config, prepared, workdir, stop):
            trained = train_all(config, problem, methods, workdir, stop)
            results = measure_all(config, problem, methods, trained, stop)
            made = summaries.make(config, problem, results.table, results.resampled)
            parts.append((results.table, made.summary, made.comparison, results.curves))
            shown.append(summaries.describe(config, problem, made))
    table, summary, comparison, curves = (
        pd.concat(column, ignore_index=True) for column in zip(*parts, strict=True)
    )
    tables.write_csv(with_reasons(config, table, reasons), workdir / "results.csv")
    tables.write_csv(summary, workdir / "summary.csv")
    tables.write_csv(comparison, workdir / "comparison.csv")
    tables.write_csv(curves, workdir / "curves.csv")
    processes.from_first(lambda: draw(workdir))
    progress.say("\n\n".join(shown))
    for name, why in reasons.items():
        progress.say(f"{name}: not applicable: {why}")
    progress.say(f"\nTables, figures and checkpoints: {workdir}")


def main(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> None:
    """Run the experiment; results go to ``workdir``."""
    run(config, workdir, figures_of_methods.draw)


if __name__ == "__main__":
    cli.run(main)
