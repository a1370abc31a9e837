"""Predicting responsibly: a model that rejects or defers, and a biased decision-maker.

A network classifies and decides when to pass, for every price of passing, weight of
fairness and seed, beside decision-makers who are accurate, biased or inconsistent.
Rejecting does not know the decision-maker; deferring learns from their decisions. Both
are trained end to end, and made of a trained classifier by thresholds.

  python -m experiments.tabular --config=experiments/configs/synthetic.py --workdir=DIR

References:
  Madras, Pitassi and Zemel, "Predict Responsibly: Improving Fairness and Accuracy by
  Learning to Defer", 2018.
"""

import functools
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pandas as pd
from scipy import special

from experiments import decision_makers, evaluation, fields, tables
from experiments.decision_makers import Cases
from experiments.figures import fronts
from experiments.figures import tables as tabular_figures
from experiments.runtime import cli, progress, signals
from experiments.runtime.errors import ConfigError
from experiments.runtime.workdir import claim_workdir
from l2d_jax import (
    fairness,
    metrics,
    models,
    optimizers,
)
from l2d_jax.data import synthetic
from l2d_jax.data import tabular as tabular_data
from l2d_jax.engine import (
    orders,
    placement,
    processes,
    sweeps,
    training,
)
from l2d_jax.learners import batches, bayesian, mixture
from l2d_jax.policies import thresholds as policy
from l2d_jax.types import (
    Batch,
    Dataset,
    Decision,
    HParams,
    Learner,
    PyTree,
    Sweep,
    Variables,
)

TRAINED = {
    "classifier": "classifier",
    "bayesian": "bayesian",
    "rejection": "rejection",
    "deferral": "deferral",
    "deferral_oracle": "deferral",
    "informed": "informed",
}
"""Methods that are trained, and the sweep that trains each."""
POST_HOC = {
    "rejection_thresholds": "classifier",
    "deferral_thresholds": "classifier",
    "rejection_bayesian": "bayesian",
    "deferral_bayesian": "bayesian",
}
"""Methods that are made of a trained classifier, and the sweep that trains it."""
METHODS = (*TRAINED, *POST_HOC, "decision_maker")
OBJECTIVES = {
    "classifier": "classify",
    "informed": "classify",
    "rejection": "reject",
    "deferral": "defer",
}
"""What each sweep of networks with fixed weights minimizes."""
SETTINGS = ["dataset", "scenario", "method", "cost", "alpha", "split"]
METRICS = (
    "system_accuracy",
    "system_error",
    "di",
    "fpr",
    "fnr",
    "fpr_0",
    "fpr_1",
    "fnr_0",
    "fnr_1",
    "min_subgroup_accuracy",
    "deferral_rate",
    "deferral_rate_group_0",
    "deferral_rate_group_1",
    "deferral_rate_reliable",
    "deferral_rate_unreliable",
    "classifier_accuracy",
    "classifier_accuracy_kept",
    "expert_accuracy",
    "expert_accuracy_deferred",
)
SPLITS = ("valid", "test")
# Randomness of thresholds, apart from what training draws of the same key.
_THRESHOLD_STREAM = 100
# Thresholds on uncertainty that are tried: quantiles of that of the training part.
_NUM_UNCERTAINTIES = 101
# Runs that are measured at a time: whole data sets take more memory than batches.
_MEASURED_AT_ONCE = 32


class Trained(NamedTuple):
    """One sweep, done.

    Attributes:
      program: what its runs share.
      sweep: its runs.
      result: what is left of them.
    """

    program: training.Program
    sweep: Sweep
    result: sweeps.SweepResult


def check(config: ml_collections.ConfigDict) -> None:
    """Check the config.

    Raises:
      ConfigError: a value cannot be used; the message names the field and the remedy.
    """
    fields.one_of("dataset", config.dataset, decision_makers.DATASETS)
    fields.one_of("decision_maker", config.decision_maker, decision_makers.SOURCES)
    fields.one_of("placement", config.placement, ("auto", *placement.KINDS))
    for name, known in (("methods", METHODS), ("scenarios", tabular_data.SCENARIOS)):
        fields.values(name, config[name])
        for value in config[name]:
            fields.one_of(name, value, known)
        if len(set(config[name])) < len(config[name]):
            raise ConfigError(f"{name} must not repeat, got {config[name]}")
    for name in ("cost", "alpha"):
        field = f"grid.{name}"
        fields.values(field, config.grid[name])
        for value in config.grid[name]:
            fields.number(field, value, 0.0, 1e4)
        if list(config.grid[name]) != sorted(set(config.grid[name])):
            raise ConfigError(
                f"{field} must increase, without repeats, got {config.grid[name]}"
            )
    if config.grid.alpha[0] != 0.0:
        raise ConfigError(
            f"grid.alpha must begin with 0, the baseline, got {config.grid.alpha}"
        )
    fields.number("biased_alpha", config.biased_alpha, -1e4, 0.0)
    if config.biased_alpha == 0.0:
        raise ConfigError("biased_alpha must be < 0 to be unfair, got 0.0")
    fields.number("flip_rate", config.flip_rate, 0.0, 1.0)
    for name in ("seed", "patience", "runs_per_device"):
        fields.whole(name, config[name], 0, 2**31 - 1)
    for name in (
        "num_seeds",
        "hidden",
        "threshold_draws",
        "batch_size",
        "num_epochs",
        "epochs_per_dispatch",
        "eval_batch_size",
    ):
        fields.whole(name, config[name], 1)
    fields.whole("num_examples", config.num_examples, 10)
    fields.whole("bayesian.num_samples", config.bayesian.num_samples, 2)
    fields.number("bayesian.prior_deviation", config.bayesian.prior_deviation, 1e-6)
    fields.number("temperature", config.temperature, 1e-6)
    fields.number("learning_rate", config.learning_rate, 1e-9)
    fields.number("valid_fraction", config.valid_fraction, 0.0, 1.0)
    fields.number("checkpoint_seconds", config.checkpoint_seconds, 0.0)
    fields.one_of("sampled", config.sampled, (True, False))


def check_size(config: ml_collections.ConfigDict, size: int) -> None:
    """Check sizes against the number of examples to train and validate on.

    Raises:
      ConfigError: the validation part is empty or a batch is larger than the rest.
    """
    num_valid = round(config.valid_fraction * size)
    if not 0 < num_valid < size:
        raise ConfigError(
            f"valid_fraction {config.valid_fraction} leaves {size - num_valid} examples"
            f" to train on and {num_valid} to validate on; both must be positive"
        )
    if config.batch_size > size - num_valid:
        raise ConfigError(
            f"batch_size {config.batch_size} is larger than the {size - num_valid}"
            f" training examples; choose one of at most {size - num_valid}"
        )


def make_sweeps(config: ml_collections.ConfigDict, source: str) -> dict[str, Sweep]:
    """The runs that the config's methods need, by name.

    Args:
      config: of the experiment.
      source: of the decision-makers; trained ones are runs themselves.

    Returns:
      Sweeps whose ``scenario`` is an index into the config's scenarios; one more is the
      oracle. Every run that defers to anybody is in one sweep.
    """
    costs, alphas = config.grid.cost, config.grid.alpha
    needed = {(TRAINED | POST_HOC).get(method) for method in config.methods}
    scenarios = (
        list(range(len(config.scenarios))) if "deferral" in config.methods else []
    )
    if "deferral_oracle" in config.methods:
        scenarios.append(len(config.scenarios))
    made: dict[str, dict[str, Any]] = {}
    if "informed" in needed or source == "trained":
        made["informed"] = {"alpha": (config.biased_alpha, 0.0)}
    if "classifier" in needed:
        made["classifier"] = {"alpha": alphas}
    if "bayesian" in needed:
        made["bayesian"] = {"alpha": alphas}
    if "rejection" in needed:
        made["rejection"] = {"cost": costs, "alpha": alphas}
    if "deferral" in needed:
        made["deferral"] = {"scenario": scenarios, "cost": costs, "alpha": alphas}
    made = {
        name: {"learning_rate": (config.learning_rate,), **hparams}
        for name, hparams in made.items()
    }
    grids = {
        name: sweeps.grid(range(config.num_seeds), hparams)
        for name, hparams in made.items()
    }
    if "deferral" in grids:
        hparams = grids["deferral"].hparams
        hparams["scenario"] = hparams["scenario"].astype(np.int32)
    return grids


def make_program(
    config: ml_collections.ConfigDict, name: str, num_train: int
) -> training.Program:
    """The training that all runs of a sweep share.

    Args:
      config: of the experiment.
      name: of the sweep.
      num_train: number of training examples.
    """
    regularized = name == "informed" or any(config.grid.alpha)
    if name == "bayesian":
        learner = bayesian.make_learner(
            models.mlp((config.hidden,), 1, "sigmoid"),
            optimizers.make_adam(),
            num_examples=num_train,
            num_samples=config.bayesian.num_samples,
            prior_deviation=config.bayesian.prior_deviation,
            regularized=regularized,
        )
        objective = "classify"
    else:
        objective = OBJECTIVES[name]
        learner = mixture.make_learner(
            models.gated_pair(config.hidden),
            optimizers.make_adam(),
            objective=objective,
            regularized=regularized,
            sampled=config.sampled and objective != "classify",
            temperature=config.temperature,
        )
    score: training.Score = mixture.loss_score(objective, regularized=regularized)
    if name == "deferral":
        learner, score = _of_scenario(learner, score)
    return training.Program(
        learner=learner,
        annotate=lambda key, hparams, dataset: dataset,
        score=score,
        num_epochs=config.num_epochs,
        patience=config.patience or None,
        eval_batch_size=config.eval_batch_size,
    )


def _of_scenario(
    learner: Learner, score: training.Score
) -> tuple[Learner, training.Score]:
    """The same for a run whose decision-maker is ``hparams["scenario"]``.

    Chosen from the batch, which runs of a seed share; a pool of its own for every run
    would be gathered anew by each.
    """

    def choose(batch: Batch, hparams: HParams) -> Batch:
        assert batch.expert_labels is not None
        probs = jnp.take(batch.expert_labels, hparams["scenario"], axis=1)
        return batch._replace(expert_labels=probs[:, None])

    return (
        learner._replace(
            update=lambda state, hparams, batch: learner.update(
                state, hparams, choose(batch, hparams)
            )
        ),
        lambda decision, batch, hparams: score(
            decision, choose(batch, hparams), hparams
        ),
    )


def train(
    config: ml_collections.ConfigDict,
    name: str,
    sweep: Sweep,
    pool: Dataset,
    folder: pathlib.Path,
    stop: Callable[[], bool],
) -> Trained:
    """One sweep; its checkpoints go to the ``folder``."""
    fold = orders.split_pool(0, len(pool.labels), config.valid_fraction)
    shared = make_program(config, name, len(fold.train))
    result = sweeps.run_sweep(
        shared,
        sweep,
        pool,
        root_seed=config.seed,
        valid_fraction=config.valid_fraction,
        batch_size=config.batch_size,
        where=make_placement(config),
        epochs_per_dispatch=config.epochs_per_dispatch,
        checkpoint_dir=folder / name,
        checkpoint_seconds=config.checkpoint_seconds,
        report=progress.ProgressBar(name),
        should_stop=stop,
    )
    return Trained(shared, sweep, result)


def train_all(
    config: ml_collections.ConfigDict,
    cases: Cases,
    workdir: pathlib.Path,
    stop: Callable[[], bool],
) -> tuple[Cases, dict[str, Trained]]:
    """Every sweep that the config's methods need, after the decision-makers' own."""
    grids = make_sweeps(config, cases.source)
    # Results with other decision-makers are not to be taken for these.
    folder = workdir / "checkpoints" / cases.source
    done: dict[str, Trained] = {}
    if "informed" in grids:
        sweep = grids.pop("informed")
        pool = cases.pool._replace(inputs=cases.informed[0], expert_labels=None)
        done["informed"] = train(config, "informed", sweep, pool, folder, stop)
        if cases.source == "trained":
            part = done["informed"]
            cases = decision_makers.decide(
                config, cases, part.program.learner, sweep, part.result
            )
    assert cases.pool.expert_labels is not None
    oracle = np.eye(2, dtype=np.float32)[cases.pool.labels]
    with_oracle = np.concatenate(
        [cases.pool.expert_labels, oracle[:, np.newaxis]], axis=1
    )
    for name, sweep in grids.items():
        pool = cases.pool._replace(
            expert_labels=with_oracle if name == "deferral" else None
        )
        done[name] = train(config, name, sweep, pool, folder, stop)
    return cases, done


def make_placement(config: ml_collections.ConfigDict) -> placement.Placement:
    """The placement that the config names, or the default of this backend."""
    default = placement.default_placement(convolutional=False)
    kind = default.kind if config.placement == "auto" else config.placement
    return placement.Placement(kind, config.runs_per_device or default.runs_per_device)


# From trained runs to rows of the results.


class Examples(NamedTuple):
    """All examples, and which of them each seed uses for what.

    Attributes:
      dataset: N examples, the pool and then the test part, with ``expert_labels``.
      informed: their inputs as the decision-makers' network sees them, ``[N, F]``.
      unreliable: bool ``[N]``.
      rows: examples by use, int ``[seeds, B]``: ``train``, ``valid``, ``test``, and the
        halves of the test part that thresholds are ``chosen_on`` and ``reported_on``.
    """

    dataset: Dataset
    informed: np.ndarray
    unreliable: np.ndarray
    rows: dict[str, np.ndarray]


def make_examples(config: ml_collections.ConfigDict, cases: Cases) -> Examples:
    """The examples of pool and test part as one."""
    num_pool, num_test = len(cases.pool.labels), len(cases.test.labels)
    rows: dict[str, list[np.ndarray]] = {
        use: [] for use in ("train", "valid", "test", "chosen_on", "reported_on")
    }
    test = np.arange(num_pool, num_pool + num_test)
    for seed in range(config.num_seeds):
        fold = orders.split_pool(seed, num_pool, config.valid_fraction)
        shuffled = np.random.default_rng([seed, _THRESHOLD_STREAM]).permutation(test)
        rows["train"].append(fold.train)
        rows["valid"].append(fold.valid)
        rows["test"].append(test)
        rows["chosen_on"].append(shuffled[: num_test // 2])
        rows["reported_on"].append(shuffled[num_test // 2 :])
    return Examples(
        dataset=jax.tree.map(
            lambda *parts: np.concatenate(parts), cases.pool, cases.test
        ),
        informed=np.concatenate(cases.informed),
        unreliable=np.concatenate(cases.unreliable),
        rows={use: np.stack(of_seeds) for use, of_seeds in rows.items()},
    )


def measure_system(
    prediction: jax.Array, defer: jax.Array, dataset: Dataset, unreliable: jax.Array
) -> dict[str, jax.Array]:
    """What a system achieves with each decision-maker, by name of the metric, ``[S]``.

    Args:
      prediction: label the classifier chooses, int ``[B]``.
      defer: what is passed to each decision-maker, bool ``[B, S]``.
      dataset: labels and groups ``[B]``, and the decision-makers' probabilities, float
        ``[B, S, 2]``.
      unreliable: bool ``[B]``.
    """
    labels, groups = jnp.asarray(dataset.labels), jnp.asarray(dataset.groups)
    assert dataset.expert_labels is not None

    def with_one(defer: jax.Array, expert_probs: jax.Array) -> dict[str, jax.Array]:
        expert_labels = (expert_probs[:, 1] > 0.5).astype(labels.dtype)
        answers = jnp.where(defer, expert_labels, prediction)
        accuracy = metrics.accuracy(answers, labels)
        by_subgroup = metrics.subgroup_accuracy(
            answers == labels, 2 * groups + unreliable, 4
        )
        found = {
            **fairness.group_rates(answers, labels, groups),
            "system_accuracy": accuracy,
            "system_error": 1.0 - accuracy,
            "min_subgroup_accuracy": jnp.nanmin(by_subgroup),
            "classifier_accuracy": metrics.accuracy(prediction, labels),
            "classifier_accuracy_kept": metrics.accuracy(prediction, labels, ~defer),
            "expert_accuracy": metrics.accuracy(expert_labels, labels),
            "expert_accuracy_deferred": metrics.accuracy(expert_labels, labels, defer),
        }
        for name, members in (
            ("", jnp.ones_like(unreliable)),
            ("_group_0", groups == 0),
            ("_group_1", groups == 1),
            ("_reliable", ~unreliable),
            ("_unreliable", unreliable),
        ):
            found[f"deferral_rate{name}"] = metrics.coverage(~defer, members)
        return {name: jnp.asarray(found[name]) for name in METRICS}

    return jax.vmap(with_one, (1, 1))(defer, jnp.asarray(dataset.expert_labels))


@jax.jit
def _measure_runs(
    prediction: jax.Array,
    defer: jax.Array,
    dataset: Dataset,
    unreliable: jax.Array,
    rows: jax.Array,
) -> dict[str, jax.Array]:
    """`measure_system` of W runs on rows of their own, ``[W, S]``.

    ``prediction`` is ``[W, N]``, ``defer`` is ``[W, N, S]`` and ``rows`` ``[W, B]``.
    """

    def measure(prediction: jax.Array, defer: jax.Array, rows: jax.Array) -> PyTree:
        return measure_system(
            prediction[rows],
            defer[rows],
            batches.take(dataset, rows),
            unreliable[rows],
        )

    return jax.vmap(measure)(prediction, defer, rows)


def make_passing(
    objective: str, *, by_uncertainty: bool, num_draws: int
) -> Callable[..., jax.Array]:
    """Where a trained classifier passes by thresholds, chosen after the training.

    Thresholds are those of least loss on the examples to choose by: on the classifier's
    probability, two for each group, or one on its own score of deferring.

    Args:
      objective: ``reject`` or ``defer``, whose loss it is.
      by_uncertainty: whether to pass by the score of deferring.
      num_draws: of thresholds on the probability.

    Returns:
      A function of a key, hyperparameters ``cost`` and ``alpha``, the decision on all
      examples, the dataset and rows to train and to choose by, all of one run. It gives
      what is passed to each decision-maker, bool ``[N, S]``.
    """
    score = mixture.loss_score(objective, regularized=True)

    def passing(
        key: jax.Array,
        hparams: HParams,
        decision: Decision,
        dataset: Dataset,
        train_rows: jax.Array,
        rows: jax.Array,
    ) -> jax.Array:
        batch = batches.take(dataset, rows)
        decided = jax.tree.map(lambda leaf: leaf[rows], decision)
        groups = jnp.asarray(dataset.groups)

        def by_score(expert_probs: jax.Array) -> jax.Array:
            seen = decision.defer_score[train_rows]
            candidates = jnp.quantile(seen, jnp.linspace(0.0, 1.0, _NUM_UNCERTAINTIES))
            one = batch._replace(expert_labels=expert_probs[:, None])

            def score_of(candidate: jax.Array) -> jax.Array:
                # So far from 0 that the gate is 0 or 1.
                gate = jnp.where(decided.defer_score > candidate, 1e4, -1e4)
                return score(decided._replace(defer_score=gate), one, hparams)

            best = candidates[jnp.argmax(jax.lax.map(score_of, candidates))]
            return jnp.asarray(decision.defer_score) > best

        def by_probability(expert_probs: jax.Array) -> jax.Array:
            probs = decision.class_probs[:, 1]
            thresholds = policy.search(
                key,
                probs[train_rows],
                groups[train_rows],
                probs[rows],
                batch.labels,
                groups[rows],
                expert_probs[:, 1] if objective == "defer" else None,
                hparams["cost"],
                hparams["alpha"],
                num_draws,
            )
            return policy.apply_thresholds(thresholds, probs, groups)

        assert batch.expert_labels is not None
        find = by_score if by_uncertainty else by_probability
        return jax.vmap(find, 1, 1)(jnp.asarray(batch.expert_labels))

    return jax.jit(jax.vmap(passing, (0, 0, 0, None, 0, 0)))


def measure_runs(
    part: Trained,
    examples: Examples,
    seed: int,
    pass_where: Callable[..., jax.Array] | None,
    report: Callable[[sweeps.Progress], None],
    stop: Callable[[], bool],
) -> dict[str, dict[str, np.ndarray]]:
    """Metrics of every run, ``[R, S]`` by split and name.

    Args:
      part: the runs.
      examples: what they are measured on.
      seed: of the whole experiment.
      pass_where: from `make_passing`; None for what the decisions themselves pass.
      report: called after every chunk of runs.
      stop: asked after every chunk.

    Raises:
      Interrupted: ``stop`` said so.
    """
    dataset = jax.tree.map(jnp.asarray, examples.dataset)
    inputs, dataset = dataset.inputs, dataset._replace(inputs=dataset.labels)
    unreliable = jnp.asarray(examples.unreliable)
    root = jax.random.key(seed)

    @jax.jit
    @functools.partial(jax.vmap, in_axes=(0, 0, None))
    def predict(variables: Variables, hparams: HParams, inputs: jax.Array) -> Decision:
        index = np.arange(inputs.shape[0])
        return training.predict(part.program, variables, hparams, inputs, index)

    total = len(part.sweep.seeds)
    parts = []
    for first in range(0, total, _MEASURED_AT_ONCE):
        # The last chunk is filled up with its last run, which is then cut off.
        runs = np.minimum(np.arange(first, first + _MEASURED_AT_ONCE), total - 1)
        seeds = part.sweep.seeds[runs]
        variables, hparams = evaluation.take_runs(
            (part.result.variables, part.sweep.hparams), runs
        )
        rows = {use: of_seeds[seeds] for use, of_seeds in examples.rows.items()}
        decision = predict(variables, hparams, inputs)
        test = rows["test"]
        if pass_where is None:
            shape = (*decision.defer.shape, dataset.expert_labels.shape[1])
            defer = jnp.broadcast_to(decision.defer[..., None], shape)
        else:
            keys = jax.vmap(functools.partial(training.run_key, root))(seeds)
            keys = jax.vmap(jax.random.fold_in, (0, None))(keys, _THRESHOLD_STREAM)
            defer = pass_where(
                keys, hparams, decision, dataset, rows["train"], rows["chosen_on"]
            )
            test = rows["reported_on"]
        measured = {
            split: _measure_runs(
                decision.prediction, defer, dataset, unreliable, of_split
            )
            for split, of_split in (("valid", rows["valid"]), ("test", test))
        }
        count = min(_MEASURED_AT_ONCE, total - first)
        parts.append(jax.tree.map(lambda leaf, n=count: np.asarray(leaf)[:n], measured))
        report(sweeps.Progress(first + count, total))
        (told,) = processes.any_of(stop())
        if told:
            raise sweeps.Interrupted
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)


def tabulate(
    config: ml_collections.ConfigDict,
    source: str,
    method: str,
    sweep: Sweep,
    measured: PyTree,
    info: dict[str, np.ndarray],
) -> pd.DataFrame:
    """A row for each run, scenario and split.

    Args:
      config: of the experiment.
      source: of the decision-makers.
      method: one of `METHODS`.
      sweep: R runs; those with a ``scenario`` belong to that one alone, the oracle's to
        all.
      measured: of `make_measure`, leaves ``[R, S]``.
      info: further columns, each ``[R]``.
    """
    parts = []
    own = sweep.hparams.get("scenario")
    for number, scenario in enumerate(config.scenarios):
        rows = np.arange(len(sweep.seeds))
        if own is not None and method == "deferral":
            rows = np.flatnonzero(own == number)
        for split in SPLITS:
            columns = {
                "experiment": "tabular",
                "dataset": config.dataset,
                "decision_maker": source,
                "scenario": scenario,
                "method": method,
                "seed": sweep.seeds[rows],
            }
            for name in ("cost", "alpha"):
                # Through text, so that a float32 reads as it was typed.
                columns[name] = (
                    [float(str(value)) for value in sweep.hparams[name][rows]]
                    if name in sweep.hparams
                    else np.nan
                )
            columns["split"] = split
            columns |= {name: value[rows] for name, value in info.items()}
            columns |= {name: measured[split][name][rows, number] for name in METRICS}
            parts.append(pd.DataFrame(columns))
    return pd.concat(parts, ignore_index=True)


def measure_all(
    config: ml_collections.ConfigDict,
    cases: Cases,
    trained: dict[str, Trained],
    stop: Callable[[], bool],
) -> pd.DataFrame:
    """The results table, ``chosen`` apart."""
    examples = make_examples(config, cases)
    costs = np.array(config.grid.cost, np.float32)
    parts = _tabulate_references(config, cases, examples)
    for method in config.methods:
        if method == "decision_maker":
            continue
        name = (TRAINED | POST_HOC)[method]
        part, shown, pass_where = trained[name], examples, None
        if name == "deferral":
            by_oracle = part.sweep.hparams["scenario"] == len(config.scenarios)
            part = _select(part, by_oracle == (method == "deferral_oracle"))
        elif name == "informed":
            inputs = examples.informed
            shown = examples._replace(dataset=examples.dataset._replace(inputs=inputs))
        elif method in POST_HOC:
            part = _at_every_cost(part, costs)
            pass_where = make_passing(
                "reject" if method.startswith("rejection") else "defer",
                by_uncertainty=name == "bayesian",
                num_draws=config.threshold_draws,
            )
        elif name == "bayesian":
            part = part._replace(program=_keep_all(part.program))
        bar = progress.ProgressBar(f"{method} measured", unit="run")
        measured = measure_runs(part, shown, config.seed, pass_where, bar, stop)
        fields_of_result = ("best_epoch", "epochs", "diverged")
        info = {field: getattr(part.result, field) for field in fields_of_result}
        parts.append(tabulate(config, cases.source, method, part.sweep, measured, info))
    return pd.concat(parts, ignore_index=True)


def _select(part: Trained, runs: np.ndarray) -> Trained:
    result = sweeps.SweepResult(*evaluation.take_runs(tuple(part.result), runs))
    return Trained(part.program, sweeps.select(part.sweep, runs), result)


def _at_every_cost(part: Trained, costs: np.ndarray) -> Trained:
    """Each run once for every cost."""
    num_runs = len(part.sweep.seeds)
    part = _select(part, np.repeat(np.arange(num_runs), len(costs)))
    part.sweep.hparams["cost"] = np.tile(costs, num_runs)
    return part


def _keep_all(shared_program: training.Program) -> training.Program:
    """The same, of a system that passes nothing."""

    def predict(*args: Any) -> Decision:
        decision = shared_program.learner.predict(*args)
        return decision._replace(defer=jnp.zeros_like(decision.defer))

    learner = shared_program.learner._replace(predict=predict)
    return shared_program._replace(learner=learner)


def _tabulate_reference(
    config: ml_collections.ConfigDict,
    cases: Cases,
    examples: Examples,
    method: str,
    prediction: np.ndarray,
    defer: np.ndarray,
) -> pd.DataFrame:
    """Rows of what needs no training and is the same at every seed.

    Args:
      config: of the experiment.
      cases: where the decision-makers come from.
      examples: what it is measured on.
      method: its name.
      prediction: int ``[N]``.
      defer: bool ``[N, S]``.
    """
    # As many as other methods are measured at a time: one program serves all.
    times = _MEASURED_AT_ONCE
    dataset = examples.dataset._replace(inputs=examples.dataset.labels)
    measured = {}
    for split in SPLITS:
        measured[split] = jax.tree.map(
            np.asarray,
            _measure_runs(
                np.tile(prediction.astype(np.int32), (times, 1)),
                np.tile(defer, (times, 1, 1)),
                dataset,
                examples.unreliable,
                np.tile(examples.rows[split][:1], (times, 1)),
            ),
        )
    sweep = Sweep(np.zeros(1, np.int32), {})
    return tabulate(config, cases.source, method, sweep, measured, {})


def _tabulate_references(
    config: ml_collections.ConfigDict, cases: Cases, examples: Examples
) -> list[pd.DataFrame]:
    """Rows of the decision-makers alone and, where it is known, of the best rule."""
    common = (config, cases, examples)
    inputs = np.asarray(examples.dataset.inputs)
    size, num_scenarios = len(inputs), len(config.scenarios)
    parts = []
    if "decision_maker" in config.methods:
        everything = np.ones((size, num_scenarios), bool)
        parts.append(
            _tabulate_reference(
                *common, "decision_maker", np.zeros(size, int), everything
            )
        )
    if config.dataset == "synthetic" and cases.source == "given":
        defer = [synthetic.best_deferral(inputs, name) for name in config.scenarios]
        prediction = inputs[:, 1] > 0  # Which is the law's.
        parts.append(
            _tabulate_reference(
                *common, "best_rule", prediction, np.stack(defer, axis=1)
            )
        )
    return parts


def choose(results: pd.DataFrame) -> np.ndarray:
    """Whether a row is of the setting that validation chose, bool, one for each row.

    Of every method and scenario it is the cost with the best system accuracy on the
    validation part, mean over seeds, without regard for fairness (alpha 0); the first
    of equals.
    """
    plain = results.alpha.isna() | (results.alpha == 0)
    keys = ["scenario", "method"]
    valid = results[plain & (results.split == "valid")]
    means = valid.groupby([*keys, "cost"], dropna=False, sort=False).system_accuracy
    best = (
        means.mean()
        .reset_index()
        .sort_values("system_accuracy", ascending=False, kind="stable")
    )
    best = best.groupby(keys, sort=False).head(1)[[*keys, "cost"]]
    found = results[[*keys, "cost"]].merge(
        best.assign(chosen=True), how="left", on=[*keys, "cost"]
    )
    return plain.to_numpy() & found.chosen.notna().to_numpy()


def summarize(results: pd.DataFrame) -> pd.DataFrame:
    """Mean, 95 % interval (Student's t) and median over seeds, by setting and metric.

    NaN is left out, and ``n`` counts the others.

    Returns:
      Columns ``dataset, scenario, method, cost, alpha, split, metric, n, mean, ci_low,
      ci_high, median``.
    """
    long = results.melt(SETTINGS, [*METRICS], "metric", "value")
    groups = long.groupby([*SETTINGS, "metric"], dropna=False, sort=False).value
    table = groups.agg(n="count", mean="mean", deviation="std", median="median")
    quantile = special.stdtrit(np.maximum(table.n - 1, 1), 0.975)
    half = (quantile * table.deviation / np.sqrt(table.n)).where(table.n > 1)
    table["ci_low"], table["ci_high"] = table["mean"] - half, table["mean"] + half
    order = ["n", "mean", "ci_low", "ci_high", "median"]
    return table[order].reset_index()


def describe(config: ml_collections.ConfigDict, results: pd.DataFrame) -> str:
    """The chosen systems as text, a column for each scenario."""
    test = results[results.chosen & (results.split == "test")]
    shown = []
    for metric, title in (
        ("system_accuracy", "system accuracy"),
        ("di", "DI"),
        ("deferral_rate", "deferral rate"),
    ):
        groups = test.groupby(["method", "scenario"], sort=False)[metric]

        def cell(values: pd.Series) -> str:
            low, high = tables.mean_interval(values.to_numpy(float))
            half = "" if np.isnan(low) else f" ± {50 * (high - low):.1f}"
            return f"{100 * values.mean():.1f}{half}"

        table = groups.agg(cell).unstack(sort=False)
        if metric == "system_accuracy" and config.dataset == "synthetic":
            table.loc["(best rule, expected)"] = [
                f"{100 * synthetic.best_accuracy(name):.1f}" for name in table
            ]
        shown.append(f"{title}, %\n{table.to_string()}")
    note = (
        "On the test part, mean ± 95 % interval over"
        f" {test.seed.nunique()} seeds; of every method the cost that validation chose,"
        " at alpha 0"
    )
    return "\n\n".join([note, *shown])


def main(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> None:
    """Run the experiment; results go to ``workdir``."""
    check(config)
    cases = decision_makers.load(config)
    check_size(config, len(cases.pool.labels))
    claim_workdir(config, workdir)
    with signals.StopSignal() as stop:
        cases, trained = train_all(config, cases, workdir, stop)
        results = measure_all(config, cases, trained, stop)
    results.insert(results.columns.get_loc("split") + 1, "chosen", choose(results))
    tables.write_csv(results, workdir / "results.csv")
    tables.write_csv(summarize(results), workdir / "summary.csv")
    tables.write_csv(fronts.make_fronts(results), workdir / "fronts.csv")
    processes.from_first(lambda: tabular_figures.draw(workdir))
    progress.say(describe(config, results))
    progress.say(f"\nTables, figures and checkpoints: {workdir}")


if __name__ == "__main__":
    cli.run(main)
