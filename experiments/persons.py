"""Particular persons as problems: what they would answer is imputed, then learned from.

A performance model of each person is fitted to half of their answers and imputes
whether they would be right on examples nobody answered; methods learn to defer to them
from that, and both are tested on the other half.

References:
  Raman and Yee, "Improving Learning-to-Defer Algorithms Through Fine-Tuning", 2021,
  sections 3 and 5.
"""

import pathlib
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pandas as pd

from experiments import base_network, images, imputers, networks, people, schema, tables
from experiments.base_network import Base
from experiments.imputers import Bank, Imputed
from experiments.people import Images, People
from experiments.problem import (
    Problem,
    Teams,
    Traits,
    annotate_with_nobody,
    split_at_random,
)
from experiments.runtime.errors import ConfigError
from experiments.trainings import expert_score
from l2d_jax import optimizers
from l2d_jax.data import folder
from l2d_jax.engine import memory, training
from l2d_jax.learners import expert_model
from l2d_jax.types import Dataset, HParams

GAINS = ("human_model_accuracy", "human_model_nll", "system_accuracy")
# Measures are float32: what differs by less is equal.
_ROUNDING = 1e-6


class Prepared(NamedTuple):
    """What is loaded before anything is trained.

    Attributes:
      shown: the examples.
      groups: people of each source.
    """

    shown: Images
    groups: list[People]


def prepare(config: ml_collections.ConfigDict) -> Prepared:
    """The examples and people that a config names.

    Raises:
      ConfigError: the config does not suit the data.
    """
    schema.many(schema.one_of(imputers.IMPUTERS))("imputers", config.imputers)
    schema.many(schema.one_of(people.SOURCES))("people.sources", config.people.sources)
    for source in config.people.sources:
        if source not in people.OF_IMAGES[config.images]:
            known = ", ".join(people.OF_IMAGES[config.images])
            raise ConfigError(
                f"people.sources: {source} answered no {config.images}; choose of"
                f" {known}"
            )
    if config.people.crowd == "cifar10h" and config.images != "cifar10":
        raise ConfigError(
            "people.crowd cifar10h is of images of cifar10; choose simulated for"
            f" {config.images}"
        )
    if "cifar10h_raw" in config.people.sources:
        path = folder.expand(config.people.raw_file)
        if not config.people.raw_file or not path.is_file():
            raise ConfigError(
                f"people.raw_file: there is no file {config.people.raw_file!r}; name"
                " your cifar10h-raw.zip"
            )
    for source in config.people.sources:
        for name in people.FIELDS.get(source, ()):
            if name not in config.people:
                raise ConfigError(
                    f"people.{name} is missing, which {source} needs; add it to the"
                    " config file"
                )
    for imputer in config.imputers:
        for name in imputers.IMPUTERS[imputer].fields:
            if name not in config:
                raise ConfigError(
                    f"{name} is missing, which the imputer {imputer} needs; add it to"
                    " the config file"
                )
    schema.whole(1)(
        "finetune_ratio times human_model_epochs", imputers.finetune_epochs(config)
    )
    # One of each seed at least, who is first listed by two of Python's numbers.
    memory.require(people=sys.getsizeof((0, 0)) * config.num_seeds)
    shown = people.load_images(config)
    size = len(shown.unlabelled.labels)
    images.check_split(config, size)
    images.check_padding(config, np.shape(shown.unlabelled.inputs))
    base_network.check(config, size)
    groups = [people.SOURCES[name](config, shown) for name in config.people.sources]
    for group in groups:
        _check_group(config, shown, group)
    return Prepared(shown, groups)


def _check_group(
    config: ml_collections.ConfigDict, shown: Images, group: People
) -> None:
    for name in config.imputers:
        why = imputers.IMPUTERS[name].unmet(group)
        if why:
            raise ConfigError(f"imputers: {name} {why}; leave it out")
    size = len(unlabelled(config, shown).labels) + len(_learned(group))
    num_train = size - round(config.valid_fraction * size)
    if config.batch_size > num_train:
        raise ConfigError(
            f"batch_size {config.batch_size} is larger than the {num_train} examples to"
            " train systems on; lower it or raise people.unlabelled"
        )
    neighbors = config.propagation.num_neighbors
    reads_graph = any(imputers.IMPUTERS[n].reads_graph for n in config.imputers)
    if reads_graph and neighbors >= size:
        raise ConfigError(
            f"propagation.num_neighbors {neighbors} must be below the number of"
            f" examples, {size}"
        )


def make_bank(
    config: ml_collections.ConfigDict, shown: Images, group: People, base: Base
) -> Bank:
    """The examples of a group of people with features, those nobody answered first."""
    inputs = np.concatenate([unlabelled(config, shown).inputs, group.inputs])
    features, class_probs = base_network.look(config, base, inputs)
    num_unlabelled = len(inputs) - len(group.inputs)
    features = imputers.standardize(features, num_unlabelled)
    return Bank(
        inputs if config.tune == "network" else features,
        features,
        class_probs,
        num_unlabelled,
    )


def unlabelled(config: ml_collections.ConfigDict, shown: Images) -> Dataset:
    """The examples that answers are imputed on: the first ``people.unlabelled``."""
    return jax.tree.map(
        lambda leaf: leaf[: config.people.unlabelled or None], shown.unlabelled
    )


def human_program(config: ml_collections.ConfigDict, shown: Images) -> training.Program:
    """The performance model, as a head on features or as a whole network."""
    head = config.tune == "head"
    options = {} if head else images.options(config, shown.name)
    options.pop("augment", None)
    model = config.human_model if head else config.base.model
    learner = expert_model.make_learner(
        networks.make_model(model, (0, 1)), optimizers.make_adam(), **options
    )
    return training.Program(
        learner=learner,
        annotate=annotate_with_nobody,
        score=expert_score,
        num_epochs=config.human_model_epochs,
        eval_batch_size=config.eval_batch_size,
    )


def annotate(key: jax.Array, hparams: HParams, dataset: Dataset) -> Dataset:
    """What is imputed of the run's own person, and what they answered to test it."""
    del key
    assert dataset.expert_correct is not None
    correct = jnp.take(dataset.expert_correct, hparams["row"], axis=1)[:, None]
    if dataset.expert_labels is None:
        known = ~jnp.isnan(correct[:, 0])
        return dataset._replace(
            expert_correct=correct, weights=known.astype(jnp.float32)
        )
    answers = jnp.take(dataset.expert_labels, hparams["person_row"], axis=1)[:, None]
    return dataset._replace(
        expert_correct=correct,
        expert_labels=answers.astype(jnp.int32),
        weights=(answers[:, 0] >= 0).astype(jnp.float32),
    )


def make(
    config: ml_collections.ConfigDict,
    prepared: Prepared,
    workdir: pathlib.Path,
    stop: Callable[[], bool],
) -> list[Problem]:
    """A problem for the people of each source, with everybody's answers imputed."""
    shown = prepared.shown
    base = base_network.train(
        config, shown.unlabelled, shown.num_classes, shown.name, workdir, stop
    )
    problems = []
    for group in prepared.groups:
        bank = make_bank(config, shown, group, base)
        imputed = imputers.fit_all(
            config, group, bank, human_program(config, shown), workdir, stop
        )
        problems.append(_make_problem(config, shown, group, bank, imputed))
    return problems


def _make_problem(
    config: ml_collections.ConfigDict,
    shown: Images,
    group: People,
    bank: Bank,
    imputed: dict[str, Imputed],
) -> Problem:
    """Rows are imputers, and people within an imputer: ``[imputers * P]``."""
    # Examples somebody was tuned on join those nobody answered, where each person has
    # their own answers and nothing else.
    answered = group.tune.weights > 0
    tuned = _learned(group)
    people_rows, places = np.nonzero(answered)
    shown_to = group.tune.images[people_rows, places]
    own = np.full((len(group.seeds), len(group.labels)), np.nan, np.float32)
    own[people_rows, shown_to] = (
        group.tune.labels[people_rows, places] == group.labels[shown_to]
    )
    correct = np.concatenate(
        [
            np.concatenate([part.prob[:, : bank.num_unlabelled], own[:, tuned]], axis=1)
            for part in imputed.values()
        ]
    )
    index = np.concatenate(
        [np.arange(bank.num_unlabelled), bank.num_unlabelled + tuned]
    )
    labels = np.concatenate([unlabelled(config, shown).labels, group.labels[tuned]])

    tested = group.test.weights > 0
    people_rows, places = np.nonzero(tested)
    answers = np.full((len(group.labels), len(group.seeds)), -1, np.int8)
    answers[group.test.images[people_rows, places], people_rows] = group.test.labels[
        people_rows, places
    ]
    head = config.tune == "head"
    size = len(group.seeds)
    real = group.source not in people.SIMULATED
    return Problem(
        name=config.problem,
        traits=Traits(shown.num_classes, people=True),
        pool=Dataset(bank.inputs[index], labels, expert_correct=correct.T),
        test=Dataset(
            bank.inputs[bank.num_unlabelled :],
            group.labels,
            answers,
            expert_correct=np.concatenate(
                [part.prob[:, bank.num_unlabelled :] for part in imputed.values()]
            ).T,
        ),
        teams=lambda num_seeds: Teams(
            np.tile(group.seeds, len(imputed)).astype(np.int32),
            {
                "row": np.arange(len(correct), dtype=np.int32),
                "person_row": np.tile(np.arange(size), len(imputed)).astype(np.int32),
            },
            _columns(group, imputed),
        ),
        split=split_at_random(len(labels), config.valid_fraction),
        annotate=annotate,
        columns={"people": group.source},
        folder=group.source,
        num_cases=round(float(tested.sum(axis=1).mean())),
        unit_columns=("person", "num_tune", "num_test", "num_selected", "fell_back"),
        sampled="people" if real else "seeds",
        **({} if head else images.options(config, shown.name)),
    )


def _learned(group: People) -> np.ndarray:
    """Examples that people answered and systems learn from, rows of its inputs."""
    if group.new:
        return np.zeros(0, int)
    return np.unique(group.tune.images[group.tune.weights > 0])


def _columns(group: People, imputed: dict[str, Imputed]) -> dict[str, list[Any]]:
    """What tables say of each row."""
    times = len(imputed)
    selected = np.concatenate([part.num_selected for part in imputed.values()])
    names = np.repeat(list(imputed), len(group.seeds))
    # Nothing was sure enough to imitate.
    fell_back = (names == "self_training") & (selected == 0)
    columns = {
        "imputer": names,
        "person": np.tile(group.persons, times),
        "num_perfect": np.tile(group.num_perfect, times),
        **(
            {}
            if group.num_answers is None
            else {"num_answers": np.tile(group.num_answers, times)}
        ),
        "num_tune": np.tile(group.tune.weights.sum(axis=1).astype(int), times),
        "num_test": np.tile(group.test.weights.sum(axis=1).astype(int), times),
        "num_selected": selected,
        "fell_back": fell_back,
    }
    return {name: values.tolist() for name, values in columns.items()}


# Imputers compared, by person.


def by_person(results: pd.DataFrame) -> pd.DataFrame:
    """Means over the seeds of each real person, whose seeds are not independent.

    A synthetic person is drawn anew at every seed and stays a row a seed.
    """
    real = ~results.people.isin(people.SIMULATED)
    keys = ["problem", "people", "method", "imputer", "num_perfect", "split", "person"]
    groups = results[real].groupby(keys, dropna=False, sort=False)
    means = groups[[*GAINS]].mean().reset_index()
    return pd.concat([results[~real], means], ignore_index=True)


def compare(results: pd.DataFrame) -> pd.DataFrame:
    """Gains over no fine-tuning, paired by person, with 95 % intervals over people.

    Two further rows an imputer say how the system follows the model of the person (the
    paper's second finding): ``system_follows_human_model`` is the share of people whose
    system becomes more accurate among those whose model does, and ``sign_agreement``
    that of equal signs among those where both change. Their intervals are Wilson's.

    Returns:
      Columns ``problem, people, method, imputer, num_perfect, metric, n, mean, ci_low,
      ci_high, p_value``; the p-value is that of a paired t-test, 1 where nobody gains
      or loses, NaN for the shares.
    """
    from scipy import stats

    results = results[(results.split == "test") & results.chosen]
    rows = []
    keys = ["problem", "people", "method", "num_perfect"]
    for setting, group in by_person(results).groupby(keys, dropna=False, sort=False):
        group = group.assign(unit=group.seed.fillna(-1) * 10**6 + group.person)
        tables_by_metric = {
            name: group.pivot(index="unit", columns="imputer", values=name)
            for name in GAINS
        }
        if "none" not in group.imputer.unique():
            continue
        for imputer in group.imputer.unique():
            if imputer == "none":
                continue
            gains = {
                name: (table[imputer] - table["none"]).to_numpy(float)
                for name, table in tables_by_metric.items()
            }
            gains = {
                name: np.where(np.abs(gain) < _ROUNDING, 0.0, gain)
                for name, gain in gains.items()
            }
            problem, source, method, num_perfect = setting
            start = (problem, source, method, imputer, num_perfect)
            for name, gain in gains.items():
                gain = gain[~np.isnan(gain)]
                low, high = tables.mean_interval(gain)
                p_value = 1.0 if len(gain) > 1 and not gain.any() else float("nan")
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
    names = ["problem", "people", "method", "imputer", "num_perfect", "metric"]
    names += ["n", "mean", "ci_low", "ci_high", "p_value"]
    return pd.DataFrame(rows, columns=names)
