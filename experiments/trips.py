"""A car that learns when its own driver should take over: trips in rain and darkness.

A repetition draws ten drivers. Nine are the others, one is the person; models of how
long the person takes are made in four ways, each imputes the minutes of trips that
nobody drove, and a rejector-classifier learns from these whether the human drives or
the car in one of its two ways. Every method is judged on the same test trips.

  python -m experiments.trips --config=experiments/configs/trips.py --workdir=DIR

References:
  Raman and Yee, "Improving Learning-to-Defer Algorithms Through Fine-Tuning", 2021.
"""

import functools
import pathlib
import sys
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pandas as pd

from experiments import networks, schema, tables
from experiments.figures import trips as trips_figures
from experiments.runtime import cli, progress, signals
from experiments.runtime.errors import ConfigError
from experiments.runtime.workdir import claim_workdir, read_origin
from l2d_jax import decisions, models, optimizers
from l2d_jax.engine import (
    chunks,
    memory,
    orders,
    processes,
    sweeps,
    training,
)
from l2d_jax.learners import cost_sensitive
from l2d_jax.learners.batches import weighted_mean
from l2d_jax.learners.gradient import make_gradient_learner
from l2d_jax.people import finetuning, hierarchical
from l2d_jax.simulate import trips
from l2d_jax.types import Array, Batch, Dataset, HParams, Learner, PyTree

IMITATING = ("self_training",)
"""Methods that learn from their own sure predictions, where there are any."""
REFERENCES = ("known_mean", "ideal", "always_defer", "never_defer")
"""What needs no training; always part of the results."""
Predict: TypeAlias = Callable[[Array], jax.Array]
"""Minutes of a human, ``[B]``, from conditions ``[B, 2]``."""
METRICS = (
    "minutes",
    "minutes_saved",
    "regret",
    "deferral_rate",
    "human_model_error",
)


def check(config: ml_collections.ConfigDict) -> None:
    """Check the config.

    Raises:
      ConfigError: a value cannot be used; the message names the field and the remedy.
    """
    schema.check(config, schema.TRIPS)
    schema.many(schema.one_of(METHODS))("methods", config.methods)
    if config.trips_per_driver % 2:
        raise ConfigError(
            "trips_per_driver must be even, half to tune and half to test, got"
            f" {config.trips_per_driver}"
        )
    num_tuning = config.trips_per_driver // 2
    schema.many(schema.whole(0, num_tuning))("finetune_trips", config.finetune_trips)
    if config.num_unlabelled == 0 and config.finetune_trips[0] == 0:
        raise ConfigError(
            "finetune_trips 0 with num_unlabelled 0 leaves nothing to learn from; raise"
            " one of them"
        )
    model, rejector = config.human_model, config.rejector
    schema.whole(0)(
        "human_model.finetune_factor times human_model.num_epochs",
        person_epochs(config),
    )
    num_others = (config.num_drivers - 1) * config.trips_per_driver
    _check_batch("human_model.batch_size", model.batch_size, num_others)
    _check_batch(
        "human_model.individual_batch_size", model.individual_batch_size, num_tuning
    )
    size = config.num_unlabelled + num_tuning
    _check_batch("rejector.batch_size", rejector.batch_size, size)


def _check_batch(field: str, value: int, size: int) -> None:
    if value > size:
        raise ConfigError(
            f"{field} {value} is larger than the {size} trips it is drawn from; choose"
            f" one of at most {size}"
        )


COMPARED = (
    *("experiment", "dataset", "method", "finetune_trips", "n"),
    *("mean_minutes", "median_minutes", "minutes_saved", "saved_low", "saved_high"),
    *("share", "share_low", "share_high", "p_value", "sign", "num_fell_back"),
)
"""Columns of `compare`."""


def make_world(config: ml_collections.ConfigDict) -> trips.World:
    """The numbers that describe drivers and car, NumPy arrays."""
    world = config.world
    constant = ([world.constant_mean, 0.0, 0.0], [world.constant_deviation, 0.0, 0.0])
    return trips.World(
        driver_table=trips.poisson_table(world.driver_rates),
        driver_deviations=np.array(world.driver_deviations, np.float32),
        car_coefficients=np.array([constant[0], world.dependent_means], np.float32),
        car_deviations=np.array([constant[1], world.dependent_deviations], np.float32),
    )


def person_epochs(config: ml_collections.ConfigDict) -> int:
    """Epochs on the person's own trips, which may be none."""
    model = config.human_model
    return round(model.finetune_factor * model.num_epochs)


def make_orders(config: ml_collections.ConfigDict) -> dict[str, np.ndarray]:
    """Minibatches of each training.

    One order serves every repetition: their trips are independent draws.
    """
    model, rejector = config.human_model, config.rejector
    num_tuning = config.trips_per_driver // 2
    num_others = (config.num_drivers - 1) * config.trips_per_driver
    num_joined = num_tuning + config.num_unlabelled
    batch_size = model.batch_size
    made = {
        "others": (num_others, model.num_epochs, batch_size),
        "all": (num_others + num_tuning, model.num_epochs, batch_size),
        "person": (num_tuning, person_epochs(config), model.individual_batch_size),
        "joined": (num_joined, model.num_epochs, min(batch_size, num_joined)),
        "rejector": (num_joined, rejector.num_epochs, rejector.batch_size),
    }
    # As they are drawn, numbers of 64 bits.
    sizes = [
        8 * epochs * (size - size % batch) for size, epochs, batch in made.values()
    ]
    memory.require(orders=sum(sizes))
    return {
        name: orders.epoch_orders(config.seed, 0, epochs, np.arange(size), batch)
        if epochs
        else np.zeros((0, 1, batch), np.int32)
        for name, (size, epochs, batch) in made.items()
    }


def make_human_model(config: ml_collections.ConfigDict) -> Learner:
    """A network of conditions; its ``predict`` gives a human's minutes, ``[B]``."""
    center, scale = config.human_model.center, config.human_model.scale

    def batch_loss(
        outputs: jax.Array, batch: Batch, hparams: HParams, key: jax.Array
    ) -> jax.Array:
        del hparams, key
        assert batch.costs is not None
        targets = (batch.costs[:, 0] - center) / scale
        return weighted_mean(jnp.square(outputs[:, 0] - targets), batch.weights)

    return make_gradient_learner(
        models.mlp(tuple(config.human_model.hidden), 1),
        optimizers.make_adam(),
        batch_loss,
        lambda outputs, hparams: center + scale * outputs[:, 0],
        preprocess=_standardize,
    )


def _standardize(conditions: Array) -> jax.Array:
    # Conditions in [0, 1], whatever their distribution.
    return 4.0 * jnp.asarray(conditions) - 2.0


def make_repetition(
    config: ml_collections.ConfigDict,
) -> Callable[[PyTree, PyTree], PyTree]:
    """The experiment once: a function of ``(run, shared)`` for `chunks.map_runs`.

    A run is ``seed`` and ``finetune_trips``, each ``[]``; `make_shared` makes the rest.
    The result has ``minutes``, ``deferral_rate`` and ``human_model_error`` by name of
    the method or reference, each ``[]``; ``num_selected`` trips that each
    method imitated, ``[]``; ``diverged``, whether a method's model of the person or its
    rejector is not finite, bool ``[]``; and the person's ``coefficients``, ``[P]``.
    """
    human_model = make_human_model(config)
    rejector = cost_sensitive.make_learner(
        models.mlp(tuple(config.rejector.hidden), trips.NUM_ACTIONS),
        optimizers.make_adam(),
        preprocess=_standardize,
    )
    sizes = (config.num_drivers, config.trips_per_driver, config.num_unlabelled)
    binary, num_tuning = config.conditions == "binary", config.trips_per_driver // 2
    methods, balance = tuple(config.methods), config.human_model.balance_classes

    def repeat(run: PyTree, shared: PyTree) -> PyTree:
        world, hparams = shared["world"], shared["hparams"]["rejector"]
        key = training.run_key(jax.random.key(shared["seed"]), run["seed"])
        trips_key, model_key, rejector_key = jax.random.split(key, 3)
        drawn = trips.simulate(trips_key, world, *sizes, binary)
        answered = jnp.arange(num_tuning) < run["finetune_trips"]
        answered = answered.astype(jnp.float32)
        fitting = Fitting(human_model, balance, shared, model_key, drawn, answered)
        fitted = {name: METHODS[name](fitting) for name in methods}
        predict = {name: minutes for name, (minutes, _) in fitted.items()}
        selected = [number for _, number in fitted.values()]

        def choose(imputed: jax.Array) -> tuple[jax.Array, jax.Array]:
            """The rejector's action on each test trip, given minutes ``[L]``.

            And whether it is none, because something is not finite.
            """
            dataset = _rejector_data(drawn, imputed, answered)
            state = rejector.init(rejector_key, hparams, dataset)
            order = shared["orders"]["rejector"]
            state = finetuning.fit(rejector, hparams, state, dataset, order)
            decision = rejector.predict(state.variables, hparams, drawn.test.conditions)
            scores = jnp.isfinite(decision.defer_score).all()
            return decisions.action(decision), ~(scores & jnp.isfinite(imputed).all())

        imputed = jnp.stack([predict[m](drawn.unlabelled.conditions) for m in methods])
        # All methods at once: one program to compile in place of one each.
        chosen, diverged = jax.vmap(choose)(imputed)
        actions = dict(zip(methods, chosen, strict=True))
        test = drawn.test
        minutes = jnp.concatenate([test.car, test.human[:, None]], axis=1)
        human = trips.expected_minutes(drawn.coefficients[-1], test.conditions)
        car = _car_minutes(world, test.conditions)
        expected = jnp.concatenate([car, human[:, None]], axis=1)
        actions["known_mean"] = jnp.argmin(expected, axis=1)
        actions["ideal"] = jnp.argmin(minutes, axis=1)
        actions["always_defer"] = jnp.full(len(human), trips.DEFER)
        actions["never_defer"] = jnp.argmin(car, axis=1)
        return {
            "minutes": {
                name: jnp.mean(jnp.take_along_axis(minutes, action[:, None], axis=1))
                for name, action in actions.items()
            },
            "deferral_rate": {
                name: jnp.mean(action == trips.DEFER)
                for name, action in actions.items()
            },
            "human_model_error": {
                name: jnp.sqrt(
                    jnp.mean(jnp.square(predict[name](test.conditions) - human))
                )
                for name in methods
            },
            "num_selected": dict(zip(methods, selected, strict=True)),
            "diverged": dict(zip(methods, diverged, strict=True)),
            "coefficients": drawn.coefficients[-1],
        }

    return repeat


class Fitting(NamedTuple):
    """What a way to model the person has to go by.

    Attributes:
      learner: the human model.
      balance: whether fine-tuning weights both classes of trips alike: those on which
        the human was faster than the better of the car's ways, and the rest.
      shared: from `make_shared`.
      key: for the parameters, the same for every way.
      drawn: the trips.
      answered: 1 for the tuning trips that are used, else 0, float ``[N / 2]``.
    """

    learner: Learner
    balance: bool
    shared: PyTree
    key: jax.Array
    drawn: trips.Repetition
    answered: jax.Array

    @property
    def common(self) -> tuple[Learner, HParams, jax.Array]:
        """First arguments of the functions of `l2d_jax.people.finetuning`."""
        return self.learner, self.shared["hparams"]["human_model"], self.key

    @property
    def others(self) -> Dataset:
        """What the others' trips took."""
        others = self.drawn.others
        return _performance(others.conditions.reshape(-1, 2), others.human.reshape(-1))

    @property
    def person(self) -> Dataset:
        """What the person's tuning trips took."""
        tuning = self.drawn.tuning
        person = _performance(tuning.conditions, tuning.human)
        return person._replace(weights=self.answered)

    def predict(self, fitted: finetuning.Fitted) -> Predict:
        """The minutes that a fitted model predicts."""
        hparams = self.shared["hparams"]["human_model"]
        return functools.partial(self.learner.predict, fitted.variables, hparams)


def _none(fitting: Fitting) -> tuple[Predict, jax.Array]:
    order = fitting.shared["orders"]["all"]
    fitted = finetuning.without_finetuning(
        *fitting.common, fitting.others, fitting.person, order
    )
    return fitting.predict(fitted), fitted.num_selected


def _finetune(fitting: Fitting) -> tuple[Predict, jax.Array]:
    tuning, person = fitting.drawn.tuning, fitting.person
    if fitting.balance:
        faster = tuning.human < jnp.min(tuning.car, axis=1)
        weights = finetuning.balanced_weights(faster.astype(int), fitting.answered, 2)
        person = person._replace(weights=weights)
    order = fitting.shared["orders"]
    fitted = finetuning.finetune(
        *fitting.common, fitting.others, person, order["others"], order["person"]
    )
    return fitting.predict(fitted), fitted.num_selected


def _self_training(fitting: Fitting) -> tuple[Predict, jax.Array]:
    def imitate(minutes: jax.Array, dataset: Dataset) -> tuple[Dataset, jax.Array]:
        car = jnp.min(_car_minutes(fitting.shared["world"], dataset.inputs), axis=1)
        return dataset._replace(costs=minutes[:, None]), jnp.abs(minutes - car)

    conditions = fitting.drawn.unlabelled.conditions
    unlabelled = _performance(conditions, jnp.zeros(len(conditions)))
    order = fitting.shared["orders"]
    fitted = finetuning.self_train(
        *fitting.common,
        fitting.person,
        unlabelled,
        order["person"],
        order["joined"],
        imitate,
    )
    return fitting.predict(fitted), fitted.num_selected


def _hierarchical(fitting: Fitting) -> tuple[Predict, jax.Array]:
    others, tuning = fitting.drawn.others, fitting.drawn.tuning
    population = hierarchical.fit_population(
        trips.features(others.conditions), others.human
    )
    coefficients, _ = hierarchical.posterior(
        population, trips.features(tuning.conditions), tuning.human, fitting.answered
    )
    predict = functools.partial(trips.expected_minutes, coefficients)
    return predict, jnp.zeros((), jnp.int32)


METHODS: dict[str, Callable[[Fitting], tuple[Predict, jax.Array]]] = {
    "none": _none,
    "finetune": _finetune,
    "self_training": _self_training,
    "hierarchical": _hierarchical,
}
"""Ways to model the person: without fine-tuning, the paper's two, and ours. Each gives
a function of conditions ``[B, 2]`` that gives minutes ``[B]``, and the number of trips
that self-training imitated, int ``[]``."""


def _rejector_data(
    drawn: trips.Repetition, imputed: jax.Array, answered: jax.Array
) -> Dataset:
    """Trips that nobody drove with imputed minutes, and the person's own."""
    unlabelled, tuning = drawn.unlabelled, drawn.tuning
    human = jnp.concatenate([imputed, tuning.human])
    car = jnp.concatenate([unlabelled.car, tuning.car])
    return Dataset(
        jnp.concatenate([unlabelled.conditions, tuning.conditions]),
        jnp.zeros(len(human), jnp.int32),
        weights=jnp.concatenate([jnp.ones(len(imputed)), answered]),
        costs=jnp.concatenate([car, human[:, None]], axis=1),
    )


def _performance(conditions: jax.Array, human: jax.Array) -> Dataset:
    """Data for the human model: conditions, and minutes as ``costs``, ``[N, 1]``."""
    size = len(human)
    return Dataset(
        conditions,
        jnp.zeros(size, jnp.int32),
        weights=jnp.ones(size),
        costs=human[:, None],
    )


def _car_minutes(world: trips.World, conditions: Array) -> jax.Array:
    """Mean minutes of each of the car's ways, float ``[N, 2]``."""
    return trips.features(conditions) @ jnp.asarray(world.car_coefficients).T


def make_shared(config: ml_collections.ConfigDict) -> dict[str, PyTree]:
    """What all runs have in common, NumPy arrays."""
    human_model = {
        name: np.float32(config.human_model[name])
        for name in ("learning_rate", "finetune_learning_rate", "threshold")
    }
    rejector = {"learning_rate": np.float32(config.rejector.learning_rate)}
    return {
        "seed": np.int32(config.seed),
        "world": make_world(config),
        "hparams": {"human_model": human_model, "rejector": rejector},
        "orders": make_orders(config),
    }


def tabulate(runs: dict[str, np.ndarray], outcome: PyTree) -> pd.DataFrame:
    """One row for each run and method or reference.

    Args:
      runs: ``seed`` and ``finetune_trips``, each ``[R]``.
      outcome: of `make_repetition`, leaves ``[R, ...]``.
    """
    missing = np.full(len(runs["seed"]), np.nan, np.float32)
    errors = outcome["human_model_error"]
    # Minutes of 1e30 are finite, and their squares are not; their sums need not be.
    sure = np.zeros(len(missing), bool)
    diverged = {
        name: outcome["diverged"].get(name, sure)
        | np.isinf(errors.get(name, sure))
        | np.isinf(took)
        for name, took in outcome["minutes"].items()
    }

    def sound(name: str, values: np.ndarray) -> np.ndarray:
        # What decides by NaN always asks the person, which looks like a decision.
        return np.where(diverged[name], np.float32(np.nan), values)

    minutes = {name: sound(name, took) for name, took in outcome["minutes"].items()}
    base = minutes.get("none", missing)
    coefficients = outcome["coefficients"]
    parts = []
    for method in [m for m in (*METHODS, *REFERENCES) if m in minutes]:
        selected = outcome["num_selected"].get(method)
        imitates = method in IMITATING
        part = {
            "experiment": "trips",
            "dataset": "simulated",
            "method": method,
            "seed": runs["seed"],
            "finetune_trips": runs["finetune_trips"],
            "split": "test",
            "mu": coefficients[:, 0],
            "mu_rain": coefficients[:, 1],
            "mu_darkness": coefficients[:, 2],
            "diverged": diverged[method],
            "minutes": minutes[method],
            "minutes_saved": base - minutes[method],
            "regret": minutes[method] - minutes["known_mean"],
            "deferral_rate": sound(method, outcome["deferral_rate"][method]),
            "human_model_error": sound(method, errors.get(method, missing)),
            "num_selected": selected if imitates else pd.NA,
            "fell_back": imitates & (selected == 0),
        }
        parts.append(pd.DataFrame(part).astype({"num_selected": "Int64"}))
    return pd.concat(parts, ignore_index=True)


def compare(results: pd.DataFrame) -> pd.DataFrame:
    """Each method against no fine-tuning, on the same people and trips.

    One row for each method and number of tuning trips. ``minutes_saved`` has Student's
    95 % interval; ``share`` is the saving as a share of what knowing the person's means
    would save, a ratio of means over people, with a bootstrap interval (percentiles
    over people, fixed seed); ``p_value`` is that of a paired t-test, two-sided, and
    ``sign`` the sign of the mean saving. What cannot be said is NaN. A person of whom
    the method, or no fine-tuning, diverged is in no mean.
    """
    rows = []
    for budget, of_budget in results.groupby("finetune_trips", sort=True):
        known_of_all = _by_seed(of_budget, "known_mean").minutes_saved.to_numpy(float)
        for method in of_budget.method.unique():
            part = _by_seed(of_budget, method)
            sound = ~np.isnan(part.minutes.to_numpy(float))
            if "none" in of_budget.method.to_numpy():
                sound &= ~np.isnan(part.minutes_saved.to_numpy(float))
            if not sound.any():
                rows.append(
                    {
                        "experiment": "trips",
                        "dataset": part.dataset.iloc[0],
                        "method": method,
                        "finetune_trips": budget,
                        "n": 0,
                        "num_fell_back": 0,
                    }
                )
                continue
            known, part = known_of_all[sound], part[sound]
            saved = part.minutes_saved.to_numpy(float)
            low, high = tables.mean_interval(saved)
            share, share_low, share_high = _share(saved, known)
            rows.append(
                {
                    "experiment": "trips",
                    "dataset": part.dataset.iloc[0],
                    "method": method,
                    "finetune_trips": budget,
                    "n": len(part),
                    "mean_minutes": part.minutes.mean(),
                    "median_minutes": part.minutes.median(),
                    "minutes_saved": np.mean(saved),
                    "saved_low": low,
                    "saved_high": high,
                    "share": share,
                    "share_low": share_low,
                    "share_high": share_high,
                    "p_value": _paired_p_value(saved),
                    "sign": np.sign(np.mean(saved)),
                    "num_fell_back": int(part.fell_back.sum()),
                }
            )
    return pd.DataFrame(rows, columns=COMPARED)


def _by_seed(results: pd.DataFrame, method: str) -> pd.DataFrame:
    return results[results.method == method].sort_values("seed")


def _share(saved: np.ndarray, known: np.ndarray) -> tuple[float, float, float]:
    """Ratio of mean savings, and its interval; NaN where nothing is to be saved."""

    def ratio(part: np.ndarray, whole: np.ndarray, axis: int) -> np.ndarray:
        total = np.mean(whole, axis=axis)
        safe = np.where(total > 0, total, 1.0)
        return np.where(total > 0, np.mean(part, axis=axis) / safe, np.nan)

    return tables.bootstrap_interval(ratio, saved, known)


def _paired_p_value(saved: np.ndarray) -> float:
    """Of the mean of paired differences, two-sided Student's t.

    1 if all of them are 0, and NaN if they are one other number.
    """
    from scipy import stats

    if len(saved) > 1 and not saved.any():
        return 1.0
    if len(saved) < 2 or not np.std(saved) > 0:
        return float("nan")
    return float(stats.ttest_1samp(saved, 0.0).pvalue)


def describe(comparison: pd.DataFrame) -> str:
    """The comparison as text, in minutes."""

    def cell(text: str, *values: float) -> str:
        return "" if np.isnan(values).any() else text.format(*values)

    table = pd.DataFrame(
        {
            "tuning trips": comparison.finetune_trips,
            "method": comparison.method,
            "mean": comparison.mean_minutes.map("{:.2f}".format),
            "median": comparison.median_minutes.map("{:.2f}".format),
            "saved": [
                cell("{:.3f}", row.minutes_saved)
                + cell(" ± {:.3f}", row.saved_high - row.minutes_saved)
                for row in comparison.itertuples()
            ],
            "share of achievable": [
                cell("{:.0f} %", 100 * row.share)
                + cell(" ({:.0f} to {:.0f})", 100 * row.share_low, 100 * row.share_high)
                for row in comparison.itertuples()
            ],
            "p": [cell("{:.1e}", row.p_value) for row in comparison.itertuples()],
            "fell back": [
                row.num_fell_back if row.method in IMITATING else ""
                for row in comparison.itertuples()
            ],
        }
    )
    people = comparison.n.max()
    title = (
        f"Minutes a trip, over {people} people; saved: against no fine-tuning, with"
        " 95 % interval"
    )
    return f"{title}\n{table.to_string(index=False)}"


def main(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> None:
    """Run the experiment; results go to ``workdir``."""
    check(config)
    claim_workdir(config, workdir)
    num_runs = config.num_repetitions * len(config.finetune_trips)
    # Of a run its two numbers, as they are listed and as arrays.
    memory.require(runs=(sys.getsizeof((0, 0)) + 4 + 4) * num_runs)
    grid = sweeps.grid(
        range(config.num_repetitions), {"finetune_trips": config.finetune_trips}
    )
    budgets = grid.hparams["finetune_trips"].astype(np.int32)
    runs = {"seed": grid.seeds, "finetune_trips": budgets}
    with signals.StopSignal() as stop:
        outcome = chunks.map_runs(
            make_repetition(config),
            runs,
            make_shared(config),
            where=networks.make_placement(config),
            checkpoint_dir=workdir / "checkpoints" / "trips",
            origin=read_origin(workdir),
            report=progress.ProgressBar("trips", unit="run"),
            should_stop=stop,
        )
    results = tabulate(runs, outcome)
    settings = ["dataset", "method", "finetune_trips", "split"]
    comparison = compare(results)
    tables.write_csv(results, workdir / "results.csv")
    summary = tables.summarize(results, settings, METRICS)
    tables.write_csv(summary, workdir / "summary.csv")
    tables.write_csv(comparison, workdir / "comparison.csv")
    processes.from_first(lambda: trips_figures.draw(workdir))
    tables.seal(workdir)
    diverged = tables.describe_diverged(summary, ("method", "finetune_trips"))
    progress.say(describe(comparison) + diverged)
    progress.say(f"\nTables, figures and checkpoints: {workdir}")


if __name__ == "__main__":
    cli.run(main)
