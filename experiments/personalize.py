"""Learning to defer to a particular person, on images.

A performance model of each person is fitted to half of their answers, imputes whether
they would be right on images nobody answered, and a classifier that may defer to them
is trained on that. `experiments.cifar` runs this for a config that has ``people``:

  python -m experiments.cifar --config=experiments/configs/digits_finetune.py \
      --workdir=DIR

References:
  Raman and Yee, "Improving Learning-to-Defer Algorithms Through Fine-Tuning", 2021,
  sections 3 and 5.
"""

import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pandas as pd

from experiments import checks, human_models, images, people, tables
from experiments.figures import people as personalize_figures
from experiments.human_models import Bank, Imputed
from experiments.people import Images, People
from experiments.runtime import progress, signals
from experiments.runtime.errors import ConfigError
from experiments.runtime.workdir import claim_workdir
from l2d_jax import data, metrics, optimizers
from l2d_jax.engine import processes, sweeps, training
from l2d_jax.learners import confidence, deferral
from l2d_jax.types import Array, Batch, Dataset, Decision, HParams, Sweep

METRICS = (
    "human_model_accuracy",
    "human_model_nll",
    "system_accuracy",
    "coverage",
    "deferral_rate",
    "classifier_accuracy",
    "classifier_accuracy_kept",
    "expert_accuracy",
    "expert_accuracy_deferred",
)
GAINS = ("human_model_accuracy", "human_model_nll", "system_accuracy")
KEYS = ["dataset", "people", "method", "num_perfect"]
# Measures are float32: what differs by less is equal.
_ROUNDING = 1e-6


def feature_program(
    config: ml_collections.ConfigDict, shown: Images
) -> training.Program:
    """Training of the classifier whose features the models of people use."""
    splits = data.Splits(shown.unlabelled, shown.human, shown.num_classes, shown.name)
    return images.make_classifier(config, splits)


def train_features(
    config: ml_collections.ConfigDict,
    shown: Images,
    workdir: pathlib.Path,
    stop: Callable[[], bool],
) -> tuple[training.Program, Any]:
    """The feature network and its variables; one run, on images nobody answers."""
    trained = feature_program(config, shown)
    hparams = {
        "learning_rate": (config.learning_rate,),
        "weight_decay": (config.weight_decay,),
    }
    result = sweeps.run_sweep(
        trained,
        sweeps.grid((0,), hparams),
        shown.unlabelled,
        root_seed=config.seed,
        valid_fraction=config.valid_fraction,
        batch_size=config.batch_size,
        where=images.make_placement(config, config.model)._replace(runs_per_device=1),
        epochs_per_dispatch=config.epochs_per_dispatch,
        checkpoint_dir=workdir / "checkpoints" / "features",
        checkpoint_seconds=config.checkpoint_seconds,
        report=progress.ProgressBar("features"),
        should_stop=stop,
    )
    if result.diverged[0]:
        raise ConfigError("learning_rate: the feature network diverged; lower it")
    return trained, jax.tree.map(lambda leaf: leaf[0], result.variables)


def make_bank(
    config: ml_collections.ConfigDict,
    shown: Images,
    group: People,
    trained: training.Program,
    variables: Any,
) -> Bank:
    """The images of a group of people with their features, unlabelled ones first."""
    inputs = np.concatenate([unlabelled(config, shown).inputs, group.inputs])
    splits = data.Splits(shown.unlabelled, shown.human, shown.num_classes, shown.name)
    prepare = images.input_options(config, splits).get("preprocess", lambda x: x)
    below = images.make_model(config.model, None)

    @jax.jit
    def look(batch: jax.Array) -> tuple[jax.Array, jax.Array]:
        features, _ = below.apply(
            variables.params, variables.model_state, prepare(batch), train=False
        )
        return features, jax.nn.softmax(trained.learner.predict(variables, {}, batch))

    size = config.eval_batch_size
    parts = [
        look(inputs[first : first + size]) for first in range(0, len(inputs), size)
    ]
    features, class_probs = (
        np.concatenate([np.asarray(part) for part in column])
        for column in zip(*parts, strict=True)
    )
    known = features[: len(inputs) - len(group.inputs)]
    spread = known.std(axis=0)
    features = (features - known.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    return Bank(
        inputs if config.tune == "network" else features,
        features,
        class_probs,
        len(known),
    )


def unlabelled(config: ml_collections.ConfigDict, shown: Images) -> Dataset:
    """The images that answers are imputed on: the first ``people.unlabelled``."""
    return jax.tree.map(
        lambda leaf: leaf[: config.people.unlabelled or None], shown.unlabelled
    )


def human_program(config: ml_collections.ConfigDict, shown: Images) -> training.Program:
    """The performance model, as a head on features or as a whole network."""
    splits = data.Splits(shown.unlabelled, shown.human, shown.num_classes, shown.name)
    head = config.tune == "head"
    options = {} if head else images.input_options(config, splits)
    options.pop("augment", None)
    learner = confidence.make_expert_model(
        images.make_model(config.human_model if head else config.model, 1),
        optimizers.make_adam(),
        **options,
    )
    return training.Program(
        learner=learner,
        annotate=images.annotate_with_nobody,
        score=images.expert_model_score,
        num_epochs=config.human_model_epochs,
        eval_batch_size=config.eval_batch_size,
    )


def annotate(key: jax.Array, hparams: HParams, dataset: Dataset) -> Dataset:
    """The column of the run's own person and method; below 0 is no answer."""
    del key
    assert dataset.expert_correct is not None
    correct = jnp.take(dataset.expert_correct, hparams["row"], axis=1)
    return dataset._replace(
        expert_correct=jnp.maximum(correct, 0.0)[:, None],
        weights=(correct >= 0.0).astype(jnp.float32),
    )


def imputed_score(decision: Decision, batch: Batch, hparams: HParams) -> Array:
    """System accuracy to be expected if the imputed probabilities are right."""
    del hparams
    assert batch.expert_correct is not None and batch.weights is not None
    right = (decision.prediction == batch.labels).astype(jnp.float32)
    system = jnp.where(decision.defer, batch.expert_correct[:, 0], right)
    total = jnp.sum(batch.weights)
    return jnp.sum(system * batch.weights) / jnp.where(total > 0, total, 1.0)


def system_program(
    config: ml_collections.ConfigDict, shown: Images, num_examples: int
) -> training.Program:
    """The joint classifier and rejector of one person."""
    splits = data.Splits(shown.unlabelled, shown.human, shown.num_classes, shown.name)
    head = config.tune == "head"
    num_train = num_examples - round(config.valid_fraction * num_examples)
    batch_size = config.system_batch_size
    learner = deferral.make_learner(
        images.make_model(
            config.system_model if head else config.model, shown.num_classes + 1
        ),
        optimizers.make_sgd(
            config.system_epochs * (num_train // batch_size), config.momentum
        ),
        **({} if head else images.input_options(config, splits)),
    )
    return training.Program(
        learner=learner,
        annotate=annotate,
        score=imputed_score,
        num_epochs=config.system_epochs,
        eval_batch_size=config.eval_batch_size,
    )


def train_systems(
    config: ml_collections.ConfigDict,
    shown: Images,
    group: People,
    bank: Bank,
    imputed: dict[str, Imputed],
    workdir: pathlib.Path,
    stop: Callable[[], bool],
) -> tuple[Decision, sweeps.SweepResult]:
    """The system of every person and method, and its decisions on their test images.

    Rows are methods, and people within a method: ``[methods * P]``.
    """
    # Images somebody was tuned on join those nobody answered, where each person has
    # their own answers and nothing else.
    tuned = np.unique(group.tune.images[group.tune.weights > 0])
    rows = np.arange(len(group.seeds))[:, None]
    own = np.full((len(group.seeds), len(group.labels)), -1.0, np.float32)
    answered = np.where(group.tune.weights > 0, group.tune.images, len(group.labels))
    own = np.concatenate([own, own[:, :1]], axis=1)  # The last is for padding.
    own[rows, answered] = group.tune.labels == group.labels[group.tune.images]
    correct = np.concatenate(
        [
            np.concatenate([part.prob[:, : bank.num_unlabelled], own[:, tuned]], axis=1)
            for part in imputed.values()
        ]
    )
    human = bank.num_unlabelled + tuned
    index = np.concatenate([np.arange(bank.num_unlabelled), human])
    labels = np.concatenate([unlabelled(config, shown).labels, group.labels[tuned]])
    pool = Dataset(bank.inputs[index], labels, expert_correct=correct.T)

    size = len(correct)
    fixed = {
        "alpha": config.alpha,
        "learning_rate": config.system_learning_rate,
        "weight_decay": config.weight_decay,
    }
    hparams = {name: np.full(size, value, np.float32) for name, value in fixed.items()}
    hparams["row"] = np.arange(size, dtype=np.int32)
    sweep = Sweep(np.tile(group.seeds, len(imputed)).astype(np.int32), hparams)
    joint = system_program(config, shown, len(labels))
    where = images.make_placement(
        config, config.system_model if config.tune == "head" else config.model
    )
    result = sweeps.run_sweep(
        joint,
        sweep,
        pool,
        root_seed=config.seed,
        valid_fraction=config.valid_fraction,
        batch_size=config.system_batch_size,
        where=where,
        epochs_per_dispatch=config.epochs_per_dispatch,
        checkpoint_dir=workdir / "checkpoints" / group.source / "systems",
        checkpoint_seconds=config.checkpoint_seconds,
        report=progress.ProgressBar(f"{group.source} systems"),
        should_stop=stop,
    )
    test = bank.num_unlabelled + np.tile(group.test.images, (len(imputed), 1))
    decision = sweeps.predict_runs(
        joint, sweep, result.variables, bank.inputs, test, where=where
    )
    return decision, result


@jax.jit
@jax.vmap
def _measure(
    decision: Decision,
    prob: Array,
    labels: Array,
    answers: Array,
    weights: Array,
) -> dict[str, Array]:
    right = answers == labels
    total = jnp.sum(weights)
    likelihood = jnp.where(right, prob, 1.0 - prob)
    # Kept from 0, so that one sure mistake in float32 is not the loss of everybody.
    nll = -jnp.log(jnp.maximum(likelihood, 1e-7))
    return metrics.team_metrics(decision, labels, answers, weights) | {
        "human_model_accuracy": metrics.accuracy(prob >= 0.5, right, weights),
        "human_model_nll": jnp.sum(weights * nll) / jnp.where(total > 0, total, 1.0),
    }


def measure(
    group: People,
    num_unlabelled: int,
    imputed: dict[str, Imputed],
    decision: Decision,
    result: sweeps.SweepResult,
    dataset: str,
) -> pd.DataFrame:
    """A row for each person, seed and method, on the person's test answers."""
    count = len(group.seeds)
    rows = np.arange(count)[:, None]
    parts = []
    for number, (method, part) in enumerate(imputed.items()):
        runs = slice(number * count, (number + 1) * count)
        measured = _measure(
            jax.tree.map(lambda leaf, runs=runs: leaf[runs], decision),
            part.prob[rows, num_unlabelled + group.test.images],
            group.labels[group.test.images],
            group.test.labels,
            group.test.weights,
        )
        columns = {
            "experiment": "personalize",
            "dataset": dataset,
            "people": group.source,
            "method": method,
            "seed": group.seeds,
            "person": group.persons,
            "num_perfect": group.num_perfect,
            "split": "test",
            "num_tune": group.tune.weights.sum(axis=1).astype(int),
            "num_test": group.test.weights.sum(axis=1).astype(int),
            "num_selected": part.num_selected,
            "fell_back": (method == "self_training") & (part.num_selected == 0),
            "diverged": result.diverged[runs],
        }
        columns |= {name: np.asarray(measured[name]) for name in METRICS}
        parts.append(pd.DataFrame(columns))
    return pd.concat(parts, ignore_index=True)


def by_person(results: pd.DataFrame) -> pd.DataFrame:
    """Means over the seeds of each real person, whose seeds are not independent.

    A synthetic person is drawn anew at every seed and stays a row a seed.
    """
    real = ~results.people.isin(people.SIMULATED)
    keys = [*KEYS, "split", "person"]
    means = results[real].groupby(keys, dropna=False, sort=False)[[*METRICS]].mean()
    return pd.concat([results[~real], means.reset_index()], ignore_index=True)


def compare(results: pd.DataFrame) -> pd.DataFrame:
    """Gains over no fine-tuning, paired by person, with 95 % intervals over people.

    Two further rows a method say how the system follows the model of the person (the
    paper's second finding): ``system_follows_human_model`` is the share of people whose
    system becomes more accurate among those whose model does, and ``sign_agreement``
    that of equal signs among those where both change. Their intervals are Wilson's.

    Returns:
      Columns ``dataset, people, method, num_perfect, metric, n, mean, ci_low, ci_high,
      p_value``; the p-value is that of a paired t-test, NaN for the shares.
    """
    from scipy import stats

    rows = []
    keys = ["dataset", "people", "num_perfect"]
    for setting, group in by_person(results).groupby(keys, dropna=False, sort=False):
        group = group.assign(unit=group.seed.fillna(-1) * 10**6 + group.person)
        tables_by_metric = {
            name: group.pivot(index="unit", columns="method", values=name)
            for name in GAINS
        }
        if "none" not in group.method.unique():
            continue
        for method in group.method.unique():
            if method == "none":
                continue
            gains = {
                name: (table[method] - table["none"]).to_numpy(float)
                for name, table in tables_by_metric.items()
            }
            gains = {
                name: np.where(np.abs(gain) < _ROUNDING, 0.0, gain)
                for name, gain in gains.items()
            }
            dataset, source, num_perfect = setting
            start = (dataset, source, method, num_perfect)
            for name, gain in gains.items():
                gain = gain[~np.isnan(gain)]
                low, high = tables.mean_interval(gain)
                p_value = float("nan")
                if len(gain) > 1 and np.ptp(gain) > _ROUNDING:
                    p_value = float(stats.ttest_1samp(gain, 0.0).pvalue)
                mean = float(gain.mean()) if len(gain) else float("nan")
                rows.append(
                    (*start, f"gain_{name}", len(gain), mean, low, high, p_value)
                )
            human, system = gains["human_model_accuracy"], gains["system_accuracy"]
            better = human > 0
            both = (human != 0) & (system != 0)
            for name, hits, among in (
                ("system_follows_human_model", system[better] > 0, better),
                ("sign_agreement", np.sign(human[both]) == np.sign(system[both]), both),
            ):
                size, share, low, high = int(among.sum()), *3 * [float("nan")]
                if size:
                    share = float(hits.mean())
                    found = stats.binomtest(int(hits.sum()), size)
                    low, high = found.proportion_ci(method="wilson")
                rows.append((*start, name, size, share, low, high, float("nan")))
    names = [*KEYS, "metric", "n", "mean", "ci_low", "ci_high", "p_value"]
    return pd.DataFrame(rows, columns=names)


def show(summary: pd.DataFrame, comparison: pd.DataFrame) -> str:
    """The tables as text."""
    parts = []
    for source in summary.people.unique():
        for metric in ("human_model_accuracy", "system_accuracy"):
            rows = summary[(summary.people == source) & (summary.metric == metric)]
            unit = "seeds" if source in people.SIMULATED else "people"
            if rows.num_perfect.isna().all():
                rows = rows.assign(num_perfect=source)
            text = tables.pivot(rows, "num_perfect", metric, unit)
            parts.append(f"{source}: {text}")
        rows = comparison[(comparison.people == source) & comparison.num_perfect.isna()]
        if len(rows):
            shown = rows.drop(columns=["dataset", "people", "num_perfect"])
            parts.append(shown.to_string(index=False, float_format="%.4f"))
    return "\n\n".join(parts)


def main(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> None:
    """Run the experiment; results go to ``workdir``."""
    checks.check_people(config)
    shown = people.load_images(config)
    size = len(shown.unlabelled.labels)
    num_valid = round(config.valid_fraction * size)
    checks.check_batch(config, size - num_valid, num_valid)
    groups = [people.SOURCES[name](config, shown) for name in config.people.sources]
    for group in groups:
        num_tuned = len(np.unique(group.tune.images[group.tune.weights > 0]))
        checks.check_systems(config, len(unlabelled(config, shown).labels), num_tuned)
    claim_workdir(config, workdir)
    results = []
    with signals.StopSignal() as stop:
        trained, variables = train_features(config, shown, workdir, stop)
        for group in groups:
            bank = make_bank(config, shown, group, trained, variables)
            imputed = human_models.fit_all(
                config, group, bank, human_program(config, shown), workdir, stop
            )
            decision, result = train_systems(
                config, shown, group, bank, imputed, workdir, stop
            )
            results.append(
                measure(
                    group,
                    bank.num_unlabelled,
                    imputed,
                    decision,
                    result,
                    config.dataset,
                )
            )
    table = pd.concat(results, ignore_index=True)
    summary = tables.summarize(by_person(table), [*KEYS, "split"], METRICS)
    comparison = compare(table)
    tables.write_csv(table, workdir / "results.csv")
    tables.write_csv(summary, workdir / "summary.csv")
    tables.write_csv(comparison, workdir / "comparison.csv")
    processes.from_first(lambda: personalize_figures.draw(workdir))
    progress.say(show(summary, comparison))
    fell_back = table.groupby("people").fell_back.sum()
    for source, count in fell_back[fell_back > 0].items():
        progress.say(
            f"{source}: nothing was sure enough to self-train for {count} people"
        )
    progress.say(f"\nTables, figures and checkpoints: {workdir}")
