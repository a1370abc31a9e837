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

import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pandas as pd
from scipy import special

from experiments import (
    decision_makers,
    evaluation,
    fields,
    program,
    tables,
    tabular_figures,
)
from experiments.decision_makers import Cases
from l2d_jax import (
    chunks,
    data,
    fairness,
    metrics,
    models,
    optimizers,
    orders,
    placement,
    posthoc,
    sweeps,
    training,
)
from l2d_jax.data import tabular as tabular_data
from l2d_jax.learners import bayesian, mixture
from l2d_jax.types import Batch, Dataset, Decision, HParams, Learner, PyTree, Sweep

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
# Runs that a device measures at a time: whole data sets take more memory than batches.
_MEASURED_PER_DEVICE = 16


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
            raise program.ConfigError(f"{name} must not repeat, got {config[name]}")
    for name in ("cost", "alpha"):
        field = f"grid.{name}"
        fields.values(field, config.grid[name])
        for value in config.grid[name]:
            fields.number(field, value, 0.0, 1e4)
        if list(config.grid[name]) != sorted(set(config.grid[name])):
            raise program.ConfigError(
                f"{field} must increase, without repeats, got {config.grid[name]}"
            )
    if config.grid.alpha[0] != 0.0:
        raise program.ConfigError(
            f"grid.alpha must begin with 0, the baseline, got {config.grid.alpha}"
        )
    fields.number("biased_alpha", config.biased_alpha, -1e4, 0.0)
    if config.biased_alpha == 0.0:
        raise program.ConfigError("biased_alpha must be < 0 to be unfair, got 0.0")
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
        raise program.ConfigError(
            f"valid_fraction {config.valid_fraction} leaves {size - num_valid} examples"
            f" to train on and {num_valid} to validate on; both must be positive"
        )
    if config.batch_size > size - num_valid:
        raise program.ConfigError(
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
    scenarios = list(range(len(config.scenarios))) if "deferral" in config.methods else []
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
            config.hidden,
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
    score = mixture.loss_score(objective, regularized=regularized)
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
    workdir: pathlib.Path,
    stop: Callable[[], bool],
) -> Trained:
    """One sweep."""
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
        checkpoint_dir=workdir / "checkpoints" / name,
        checkpoint_seconds=config.checkpoint_seconds,
        report=program.ProgressBar(name),
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
    workdir = workdir / "checkpoints" / cases.source
    done: dict[str, Trained] = {}
    if "informed" in grids:
        sweep = grids.pop("informed")
        pool = cases.pool._replace(inputs=cases.informed[0], expert_labels=None)
        done["informed"] = train(config, "informed", sweep, pool, workdir, stop)
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
        done[name] = train(config, name, sweep, pool, workdir, stop)
    return cases, done


def make_placement(config: ml_collections.ConfigDict) -> placement.Placement:
    """The placement that the config names, or the default of this backend."""
    default = placement.default_placement(convolutional=False)
    kind = default.kind if config.placement == "auto" else config.placement
    return placement.Placement(kind, config.runs_per_device or default.runs_per_device)


# From trained runs to rows of the results.


def measure_system(
    decision: Decision, dataset: Dataset, unreliable: jax.Array
) -> dict[str, jax.Array]:
    """What a system achieves with each decision-maker, by name of the metric, ``[S]``.

    Args:
      decision: what the model does, arrays over ``[B]``.
      dataset: labels and groups ``[B]``, and the decision-makers' probabilities, float
        ``[B, S, 2]``.
      unreliable: bool ``[B]``.
    """
    labels, groups = jnp.asarray(dataset.labels), jnp.asarray(dataset.groups)
    assert dataset.expert_labels is not None

    def with_one(expert_prob: jax.Array) -> dict[str, jax.Array]:
        expert_labels = (expert_prob > 0.5).astype(labels.dtype)
        answers = jnp.where(decision.defer, expert_labels, decision.prediction)
        team = metrics.team_metrics(decision, labels, expert_labels)
        rates = fairness.group_rates(answers, labels, groups)
        by_subgroup = metrics.subgroup_accuracy(
            answers == labels, 2 * groups + unreliable, 4
        )
        found = {
            **team,
            **rates,
            "system_error": 1.0 - team["system_accuracy"],
            "min_subgroup_accuracy": jnp.nanmin(by_subgroup),
        }
        for name, member in (
            ("group_0", groups == 0),
            ("group_1", groups == 1),
            ("reliable", ~unreliable),
            ("unreliable", unreliable),
        ):
            weights = member.astype(jnp.float32)
            found[f"deferral_rate_{name}"] = metrics.coverage(~decision.defer, weights)
        return {name: found[name] for name in METRICS}

    return jax.vmap(with_one, in_axes=1)(jnp.asarray(dataset.expert_labels)[..., 1])


def make_shared(config: ml_collections.ConfigDict, cases: Cases) -> dict[str, PyTree]:
    """What all runs are measured on, NumPy arrays."""
    folds = [
        orders.split_pool(seed, len(cases.pool.labels), config.valid_fraction)
        for seed in range(config.num_seeds)
    ]
    size = len(cases.test.labels)
    halves = [
        np.random.default_rng([seed, _THRESHOLD_STREAM]).permutation(size)
        for seed in range(config.num_seeds)
    ]
    return {
        "root": np.int32(config.seed),
        "pool": cases.pool,
        "test": cases.test,
        "unreliable": {"pool": cases.unreliable[0], "test": cases.unreliable[1]},
        "train": np.stack([fold.train for fold in folds]),
        "valid": np.stack([fold.valid for fold in folds]),
        # Thresholds are chosen on one half of the test part, reported on the other.
        "chosen_on": np.stack([half[: size // 2] for half in halves]),
        "reported_on": np.stack([half[size // 2 :] for half in halves]),
    }


def make_measure(learner: Learner) -> Callable[[PyTree, PyTree], PyTree]:
    """A trained run's metrics: a function of ``(run, shared)`` for `chunks.map_runs`.

    A run is ``variables``, ``hparams`` and ``seed``; `make_shared` makes the rest. The
    result has metrics ``[S]`` by split and name.
    """

    def measure(run: PyTree, shared: PyTree) -> PyTree:
        def on(dataset: Dataset, unreliable: jax.Array) -> dict[str, jax.Array]:
            decision = learner.predict(run["variables"], run["hparams"], dataset.inputs)
            return measure_system(decision, dataset, unreliable)

        rows = shared["valid"][run["seed"]]
        return {
            "valid": on(
                training.take(shared["pool"], rows), shared["unreliable"]["pool"][rows]
            ),
            "test": on(shared["test"], shared["unreliable"]["test"]),
        }

    return measure


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
