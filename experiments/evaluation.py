"""From trained runs to decisions, and from decisions to what they achieve.

The runs of a method are those of its trainings, for every team. What they decide is
computed by a program for each method, and measured by one for all.
"""

import functools
import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from experiments import measure, networks, trainings
from experiments.method import Case, Method, Policy
from experiments.methods import METHODS
from experiments.problem import Problem, Teams
from experiments.runtime import progress
from experiments.runtime.errors import ConfigError
from experiments.trainings import TRAININGS, Trained
from l2d_jax import decisions, intervals, ratios
from l2d_jax.engine import chunks, memory, placement, processes, training
from l2d_jax.learners import batches
from l2d_jax.types import Batch, Decision, PyTree

_POLICY_STREAM = 100
# Runs that a device measures at a time: whole data sets take more memory than batches.
_MEASURED_AT_ONCE = 8
# Bytes that a device holds of what it measures at a time and of what it decides at a
# time, and that decisions take before they are measured, about: fewer runs where one
# takes more.
_MEASURED_BYTES, _DECIDED_BYTES, _HELD_BYTES = 2**25, 2**27, 2**28


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
    others = tuple(trainings.best_runs(part, seeds, of_team) for part in parts[1:])
    return Runs(seeds, of_team, (main, *others) if parts else (), hparams)


def require_memory(
    config: ml_collections.ConfigDict, problem: Problem, methods: list[str]
) -> None:
    """See that the runs of every method can be measured, before anything is made.

    What is counted is linear in the seeds: their folds, the rows of a split, and what
    is left of each run.

    Raises:
      TooLargeError: the machine cannot hold them.
    """
    one, two = (len(problem.teams(count).seeds) for count in (1, 2))
    num_teams = one + (config.num_seeds - 1) * (two - one)
    fold = problem.split(0)
    num_test = len(problem.test_rows(0) if problem.test_rows else problem.test.labels)
    most = 0
    for name in methods:
        method = METHODS[name]
        values = trainings.values_of(config, method.hparams)
        for training_name in method.trainings[:1]:
            values = values | trainings.grid_of(config, training_name)
        most = max(most, num_teams * math.prod(map(len, values.values())))
    memory.require(
        splits=config.num_seeds * memory.size_of(fold),
        # A row and its weight, of both splits.
        rows=config.num_seeds * 8 * (len(fold.valid) + num_test),
        # Two curves; what is resampled is more, where it is.
        measures=most * 4 * 2 * len(measure.COVERAGES),
    )


def take_runs(runs: Runs, index: np.ndarray) -> Runs:
    """Some of the runs."""
    return jax.tree.map(lambda leaf: leaf[index], runs)


def shared_examples(
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
        size = len(problem.test.labels)
        parts["resamples"] = intervals.draw_resamples(size, config.seed)
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
    problem: Problem,
    method: Method,
    programs: tuple[training.Program, ...],
    split: str,
) -> Callable[[PyTree, PyTree], Decision]:
    """What one run decides in a split before any policy, as a pure function.

    A run has its ``seed``, the ``hparams`` of its method, of its ``team`` and of each
    of its ``trainings``, their ``variables``, and ``rows`` with ``weights`` of each
    split.
    """

    def decide(run: PyTree, shared: PyTree) -> Decision:
        part, rows = shared[split], run["rows"][split]
        batch, _ = look_up(problem, shared, run, split)
        predictions = tuple(
            training.predict(shown, variables, hparams, part["inputs"], rows)
            for shown, variables, hparams in zip(
                programs, run["variables"], run["trainings"], strict=True
            )
        )
        inputs = functools.partial(jnp.take, part["inputs"], rows, axis=0)
        case = Case(predictions, batch, inputs, problem)
        return method.decide(case, {**run["hparams"], **run["team"]})

    return decide


def make_policy(
    problem: Problem, policy: Policy, splits: tuple[str, ...]
) -> Callable[[PyTree, PyTree], dict[str, Decision]]:
    """What is decided after training, by split, as a pure function of one run.

    A run has its ``seed``, ``team``, ``rows``, ``weights`` and ``hparams``, and what
    its method decides in the validation split and in ``splits``, ``decisions``.
    """

    def decide(run: PyTree, shared: PyTree) -> dict[str, Decision]:
        batch, key = look_up(problem, shared, run, "valid")
        key = jax.random.fold_in(key, _POLICY_STREAM)
        chosen = policy.fit(key, run["hparams"], run["decisions"]["valid"], batch)
        found = {}
        for number, split in enumerate(splits):
            batch, _ = look_up(problem, shared, run, split)
            of_split = jax.random.fold_in(key, number)
            decision = run["decisions"][split]
            found[split] = policy.apply(of_split, chosen, decision, batch)
        return found

    return decide


def make_look_up(
    problem: Problem, splits: tuple[str, ...]
) -> Callable[[PyTree, PyTree], dict[str, Batch]]:
    """The examples of one run in the validation split and in others, without inputs."""

    def examples(run: PyTree, shared: PyTree) -> dict[str, Batch]:
        return {
            split: look_up(problem, shared, run, split)[0]
            for split in dict.fromkeys(("valid", *splits))
        }

    return examples


def make_measure(
    problem: Problem, split: str
) -> Callable[[PyTree, PyTree], dict[str, PyTree]]:
    """What a decision of one run achieves in a split, as a pure function.

    A run has its ``seed``, ``team``, ``rows``, ``weights`` and ``decision``.
    """

    def achieve(run: PyTree, shared: PyTree) -> dict[str, PyTree]:
        part, rows = shared[split], run["rows"][split]
        batch, _ = look_up(problem, shared, run, split)
        # Who is not to be had for a case does not answer it, whatever was decided.
        decision = decisions.among(run["decision"], measure.available(batch))
        made = measure.make_ratios(
            decision,
            batch,
            {name: column[rows] for name, column in part["slices"].items()},
            part["subgroup"][rows] if "subgroup" in part else None,
            problem.num_subgroups,
        )
        weights = jnp.asarray(batch.weights)
        found: dict[str, PyTree] = measure.of_ratios(ratios.weigh(made, weights))
        found |= measure.curves(decision, batch)
        if split == "test" and "resamples" in shared:
            counts = shared["resamples"][:, rows]
            found["resampled"] = measure.of_ratios(
                ratios.resample(made, weights, counts)
            )
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
        self._made: dict[Any, Any] = {}
        self._functions = {
            split: make_measure(problem, split) for split in ("valid", "test")
        }
        traits = problem.traits
        bytes_of_number = 4 * max(r.rows.shape[1] for r in self._rows.values())
        # Of a case: its row and weight, and a decision.
        numbers = 2 + traits.num_classes + 3 * traits.num_experts + 1
        self._run_bytes = numbers * bytes_of_number
        # And the numerators and denominators of its measures, about.
        numbers += 50 + 4 * len(problem.slices) + 2 * problem.num_subgroups
        self._measured_bytes = numbers * bytes_of_number

    def runs_of(self, runs: Runs) -> dict[str, PyTree]:
        """What each run has of its own whatever the method."""
        index = runs.seeds
        return {
            "seed": index,
            "team": _taken(self._teams.hparams, runs.teams),
            "rows": {key: value.rows[index] for key, value in self._rows.items()},
            "weights": {key: value.weights[index] for key, value in self._rows.items()},
        }

    def achieve(
        self,
        name: str,
        runs: Runs,
        trained: dict[str, Trained],
        splits: tuple[str, ...],
    ) -> dict[str, dict[str, PyTree]]:
        """What the runs of a method achieve, by split and metric, ``[P, ...]``.

        Some runs are decided and measured before the next, as decisions on every case
        are much larger than what is left of them.
        """
        size = len(runs.seeds)
        bar = progress.ProgressBar(f"{name}, {' and '.join(splits)}", unit="run")
        found: dict[str, list[dict[str, PyTree]]] = {split: [] for split in splits}
        for rows in self._some_at_a_time(METHODS[name], size):
            some = take_runs(runs, rows)
            decided = self._decide_all(name, some, trained, splits)
            for number, split in enumerate(splits):
                before = len(splits) * rows[0] + number * len(rows)

                def report(
                    made: chunks.Progress, before: int = before, of: int = len(rows)
                ) -> None:
                    done = before + min(made.done, of)
                    bar(made._replace(done=done, total=len(splits) * size))

                given = {"decision": decided[split]}
                function = self._functions[split]
                found[split].append(self._map_filled(function, some, given, report))
        return {
            split: jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)
            for split, parts in found.items()
        }

    def _some_at_a_time(self, method: Method, size: int) -> list[np.ndarray]:
        """Numbers of the runs that are decided and measured together.

        Whole chunks of runs, so that each is computed by the same program whatever
        their number; the last has what is left besides.
        """
        where = self._where(self._model_of(method))
        width = where.num_devices * where.runs_per_device
        several = max(1, _HELD_BYTES // (self._run_bytes * width))
        count = max(1, size // (several * width))
        ends = [several * width * number for number in range(count)] + [size]
        return [np.arange(*pair) for pair in itertools.pairwise(ends)]

    def _model_of(self, method: Method) -> ml_collections.ConfigDict | None:
        """The network by whose kind a method's runs are placed."""
        if not method.trainings:
            return None
        return self._config[TRAININGS[method.trainings[0]].model]

    def _where(self, model: ml_collections.ConfigDict | None) -> placement.Placement:
        """Where decisions are made."""
        where = networks.make_placement(self._config, model)
        most = max(1, _DECIDED_BYTES // self._run_bytes)
        return where._replace(runs_per_device=min(where.runs_per_device, most))

    def _decide_all(
        self,
        name: str,
        runs: Runs,
        trained: dict[str, Trained],
        splits: tuple[str, ...],
    ) -> dict[str, Decision]:
        """What the runs of a method decide, by split, ``[P, B, ...]``."""
        method = METHODS[name]
        wanted = splits if method.policy is None else ("valid", *splits)
        decided = {
            split: self._decide(method, runs, trained, split)
            for split in dict.fromkeys(wanted)
        }
        if method.policy is None:
            return decided
        policy = self._kept((method.policy,), method.policy, self._config)
        if policy.on_host:
            return self._decide_on_host(name, policy, runs, decided, splits)
        function = self._kept(
            (method.policy, splits), make_policy, self._problem, policy, splits
        )
        given = {key: runs.hparams[key] for key in policy.hparams}
        return self._map_filled(
            function, runs, {"hparams": given, "decisions": decided}
        )

    def _decide_on_host(
        self,
        name: str,
        policy: Policy,
        runs: Runs,
        decided: dict[str, Decision],
        splits: tuple[str, ...],
    ) -> dict[str, Decision]:
        """What a policy on the host decides, one run after another.

        A run that diverged, whose scores are NaN, is left as it was; its row says so.

        Raises:
          ConfigError: the examples are none that the policy can do with.
        """
        look = self._kept(("examples", splits), make_look_up, self._problem, splits)
        batches = self._map_filled(look, runs, {})
        found = {split: jax.tree.map(np.array, decided[split]) for split in splits}
        for run, seed in enumerate(runs.seeds):
            own = {name: _taken(runs.hparams[name], run) for name in policy.hparams}
            parts = {}
            for split, batch in batches.items():
                counts = batch.weights[run] > 0
                of_run = _taken((decided[split], batch), run)
                parts[split] = counts, *_taken(of_run, counts)
            if any(np.isnan(part[1].defer_score).any() for part in parts.values()):
                continue
            key = training.run_key(jax.random.key(self._config.seed), seed)
            key = jax.random.fold_in(key, _POLICY_STREAM)
            try:
                chosen = policy.fit(key, own, *parts["valid"][1:])
                for number, split in enumerate(splits):
                    counts, *given = parts[split]
                    of_split = jax.random.fold_in(key, number)
                    new = policy.apply(of_split, chosen, *given)
                    for into, leaf in zip(found[split], new, strict=True):
                        into[run, counts] = leaf
            except ValueError as error:
                raise ConfigError(f"methods: {name}, seed {seed}: {error}") from error
            (stop,) = processes.any_of(self._stop())
            if stop:
                raise chunks.Interrupted
        return found

    def _decide(
        self, method: Method, runs: Runs, trained: dict[str, Trained], split: str
    ) -> Decision:
        parts = [trained[key] for key in method.trainings]
        pairs = list(zip(parts, runs.parts, strict=True))
        function = self._kept(
            (method.decide, method.trainings, split),
            make_decide,
            self._problem,
            method,
            tuple(part.program for part in parts),
            split,
        )
        hidden = any(TRAININGS[key].hidden for key in method.trainings)
        return chunks.map_runs(
            function,
            self.runs_of(runs)
            | {
                "hparams": runs.hparams,
                "trainings": tuple(_taken(p.sweep.hparams, i) for p, i in pairs),
                "variables": tuple(_taken(p.result.variables, i) for p, i in pairs),
            },
            self._shared(hidden),
            where=self._where(self._model_of(method)),
            should_stop=self._stop,
        )

    def _shared(self, hidden: bool, with_inputs: bool = True) -> dict[str, PyTree]:
        key = ("shared", hidden, with_inputs)
        given = (self._config, self._problem, hidden, with_inputs)
        return self._kept(key, shared_examples, *given)

    def _kept(self, key: Any, make: Callable[..., Any], *args: Any) -> Any:
        """What was made before: methods that share a function share its program."""
        if key not in self._made:
            self._made[key] = make(*args)
        return self._made[key]

    def _map_filled(
        self,
        function: Callable[[PyTree, PyTree], PyTree],
        runs: Runs,
        others: dict[str, PyTree],
        report: Callable[[chunks.Progress], None] = lambda progress: None,
    ) -> PyTree:
        """A function of every run, its decisions given, ``[P, ...]``.

        Filled up to whole chunks, so that one program serves every method.
        """
        size = len(runs.seeds)
        where = networks.make_placement(self._config)
        fitting = max(1, _MEASURED_BYTES // self._measured_bytes)
        where = where._replace(runs_per_device=min(_MEASURED_AT_ONCE, fitting))
        chunk = where.runs_per_device * max(where.num_devices, 2)
        index = np.minimum(np.arange(-(-size // chunk) * chunk), size - 1)
        found = chunks.map_runs(
            function,
            _taken(self.runs_of(runs) | others, index),
            self._shared(False, with_inputs=False),
            where=where,
            report=report,
            should_stop=self._stop,
        )
        return jax.tree.map(lambda leaf: leaf[:size], found)


def _taken(tree: PyTree, index: np.ndarray | int) -> PyTree:
    return jax.tree.map(lambda leaf: np.asarray(leaf)[index], tree)
