"""Real people's answers about texts, asked in a closed loop: the runs of the study.

References:
  Keswani, Celis, Kenthapadi and Lease, "Designing Closed-Loop Models for Task
  Allocation", 2023, the toxicity experiment.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import ml_collections
import numpy as np

from experiments import schema, tables, text_features
from experiments.runtime import progress
from experiments.runtime.errors import ConfigError
from experiments.streams import methods
from experiments.streams import tables as stream_tables
from experiments.streams.methods import METHODS, Sizes
from experiments.streams.studies import Kind, Study
from l2d_jax import data
from l2d_jax.crowds import allocation
from l2d_jax.crowds.allocation import Annotators, Arrivals
from l2d_jax.data import Annotated
from l2d_jax.engine import memory, training
from l2d_jax.types import PyTree

LOADERS: dict[str, Callable[..., Annotated]] = {
    "annwithattitudes": data.load_annwithattitudes,
    "hs_brexit": data.load_hs_brexit,
    "keswani_mturk": data.load_keswani_mturk,
    "jigsaw": data.load_jigsaw,
}


class Split(NamedTuple):
    """Rows of a data set.

    Attributes:
      gold: tasks whose truth qualifies annotators, int ``[Q]``; in no other part.
      train: the stream, in its order, int ``[T]``.
      test: int ``[V]``.
    """

    gold: np.ndarray
    train: np.ndarray
    test: np.ndarray


def check(where: str, name: str, config: ml_collections.ConfigDict) -> None:
    """Check what the fields of a data set say together; ``where`` leads to it.

    Raises:
      ConfigError: a value cannot be used; the message names the field and the remedy.
    """
    schema.one_of(LOADERS)(where, name)
    if (config.prior == "qualification") != (config.num_gold > 0):
        raise ConfigError(
            f"{where}.num_gold must be > 0 if, and only if, the prior is"
            f" qualification, got {config.num_gold} with {config.prior}"
        )
    schema.one_of(("linear", "mlp"))(f"{where}.model.body", config.model.body)


def load(config: ml_collections.ConfigDict) -> dict[str, Annotated]:
    """The data sets that a config names.

    Raises:
      data.DataError: a file is missing or damaged.
      ConfigError: a config does not suit the data.
    """
    chosen = config.run or tuple(config.datasets)
    return {
        name: load_one(name, config.datasets[name], config.data_dir) for name in chosen
    }


def load_one(name: str, config: ml_collections.ConfigDict, data_dir: str) -> Annotated:
    """One data set; as `load`."""
    annotated = LOADERS[name](data_dir or None)
    field = f"datasets.{name}"
    num_annotators = annotated.answers.shape[1]
    if not config.replace and config.committee_size > num_annotators:
        raise ConfigError(
            f"{field}.committee_size {config.committee_size} is more than the"
            f" {num_annotators} annotators; draw with replacement or choose a smaller"
            " one"
        )
    if "objective" in config.truths and not np.any(annotated.labels >= 0):
        raise ConfigError(
            f"{field}.truths: {name} has no labels from outside; leave out objective"
        )
    if config.prior == "qualification" and not np.any(annotated.labels >= 0):
        raise ConfigError(
            f"{field}.prior: {name} has no labels from outside to qualify annotators"
            " with; choose similarity"
        )
    return annotated


def truth_of(annotated: Annotated, truth: str) -> np.ndarray:
    """Labels, int ``[N]``, -1 where there is none."""
    if truth == "objective":
        return annotated.labels
    return data.subjective_labels(annotated)


def interval(config: ml_collections.ConfigDict) -> tables.Interval:
    """Of a mean over splits, which share most of their tasks."""
    return functools.partial(
        tables.resampled_interval, test_to_train=1 / (config.num_folds - 1)
    )


def make_splits(
    seed: int, config: ml_collections.ConfigDict, num_tasks: int
) -> list[Split]:
    """Folds of repeated cross-validation, the tasks of a stream in random order."""
    memory.require(splits=8 * config.num_seeds * num_tasks)
    splits = []
    for number in range(config.num_seeds):
        repeat, fold = divmod(number, config.num_folds)
        order = np.random.default_rng((seed, repeat)).permutation(num_tasks)
        parts = np.array_split(order, config.num_folds)
        test = parts.pop(fold)
        rest = np.random.default_rng((seed, repeat, fold)).permutation(
            np.concatenate(parts)
        )
        splits.append(Split(rest[: config.num_gold], rest[config.num_gold :], test))
    return splits


def qualify(annotated: Annotated, gold: np.ndarray) -> np.ndarray:
    """Similarity of annotators by their answers to gold tasks.

    The share of right answers in each category, with one right and one wrong answer
    more: 1/2 for who answered none.

    Args:
      annotated: the data.
      gold: rows of known truth, int ``[Q]``.

    Returns:
      Float32 ``[M, Z]``, in (0, 1).
    """
    answers, labels = annotated.answers[gold], annotated.labels[gold, None]
    asked = (answers >= 0) & (labels >= 0)
    of_category = np.eye(len(annotated.category_names))[annotated.categories[gold]]
    right = (asked & (answers == labels)).T @ of_category
    return ((right + 1.0) / (asked.T @ of_category + 2.0)).astype(np.float32)


def make_features(
    annotated: Annotated,
    splits: list[Split],
    config: ml_collections.ConfigDict,
    where: str,
) -> np.ndarray:
    """Features of all texts for each split, fitted on its stream, ``[S, N, D]``.

    The category is among them, as in the authors' code: one column each.

    Raises:
      ConfigError: the texts are too few for so many features.
    """
    categories = np.eye(len(annotated.category_names))[annotated.categories]
    made = []
    for split in splits:
        fitted = text_features.fit(
            [annotated.texts[row] for row in split.train],
            config.num_features,
            config.features,
            where,
        )
        made.append(np.concatenate([fitted(annotated.texts), categories], axis=1))
        if len(made) == 1:
            memory.require(features=(len(splits) - 1) * made[0].nbytes)
    return np.stack(made).astype(np.float32)


def make_run(
    config: ml_collections.ConfigDict, kind: str, sizes: Sizes
) -> Callable[[PyTree, PyTree], PyTree]:
    """A whole stream as a function of ``(run, shared)`` for `chunks.map_runs`."""
    stream = methods.make_stream(kind, config, sizes)

    def run(run: PyTree, shared: PyTree) -> PyTree:
        key = training.run_key(jax.random.key(shared["seed"]), run["seed"])
        split = jax.tree.map(lambda leaf: leaf[run["seed"]], shared["splits"])
        features = shared["features"][run["seed"]]
        labels = shared["labels"][run["truth"]]

        def take(rows: jax.Array) -> Arrivals:
            return Arrivals(
                features[rows],
                shared["categories"][rows],
                shared["answers"][rows],
                labels[rows],
            )

        annotators = Annotators(shared["similarity"][run["seed"]], shared["pools"])
        train, test = take(split["train"]), take(split["test"])
        return stream(key, run["hparams"], annotators, train, test)

    return run


def make_shared(
    annotated: Annotated,
    config: ml_collections.ConfigDict,
    splits: list[Split],
    features: np.ndarray,
    seed: int,
) -> dict[str, PyTree]:
    """What all runs of a data set share, NumPy arrays.

    Folds may differ by one task: the longer ones end in a row of nobody's.
    """

    def rows(parts: list[np.ndarray]) -> np.ndarray:
        longest = max(map(len, parts))
        padding = annotated.answers.shape[0]
        return np.stack(
            [np.pad(p, (0, longest - len(p)), constant_values=padding) for p in parts]
        ).astype(np.int32)

    # One row more, that nobody can be asked about.
    similarity = np.stack(
        [
            annotated.similarity
            if config.prior == "similarity"
            else qualify(annotated, split.gold)
            for split in splits
        ]
    )
    labels = [truth_of(annotated, truth) for truth in config.truths]
    return {
        "seed": np.int32(seed),
        "splits": {
            "train": rows([split.train for split in splits]),
            "test": rows([split.test for split in splits]),
        },
        "features": np.pad(features, ((0, 0), (0, 1), (0, 0))),
        "categories": np.pad(annotated.categories, (0, 1)),
        "answers": np.pad(annotated.answers, ((0, 1), (0, 0)), constant_values=-1),
        "labels": np.pad(np.stack(labels), ((0, 0), (0, 1)), constant_values=-1),
        "similarity": similarity.astype(np.float32),
        "pools": annotated.pools,
    }


def plan(
    name: str, config: ml_collections.ConfigDict, annotated: Annotated, seed: int
) -> Study:
    """All methods on a data set; a kind's tables are `stream_tables.tabulate`'s.

    Raises:
      ConfigError: the data have too few tasks, or too few words, for a field.
    """
    splits = make_splits(seed, config, len(annotated.texts))
    for split in splits:
        if not len(split.train) or not len(split.test):
            raise ConfigError(
                f"datasets.{name}: {len(annotated.texts)} tasks are too few for"
                f" num_folds={config.num_folds} and num_gold={config.num_gold}; lower"
                " them"
            )
    features = make_features(annotated, splits, config, f"datasets.{name}.")
    unsuited = allocation.check_similarity(annotated.similarity)
    if unsuited and config.prior == "similarity":
        names = ", ".join(annotated.category_names[place] for place in unsuited)
        progress.say(f"{name}: the prior suits nobody to {names}; there it is uniform")
    kinds = sorted({METHODS[method].kind for method in config.methods})
    return Study(
        [_plan_kind(name, config, annotated, kind) for kind in kinds],
        functools.partial(make_shared, annotated, config, splits, features, seed),
    )


def _plan_kind(
    name: str, config: ml_collections.ConfigDict, annotated: Annotated, kind: str
) -> Kind:
    sizes = Sizes(
        annotated.answers.shape[1],
        len(annotated.category_names),
        len(annotated.pool_names),
    )
    listed = [
        {"method": method, "seed": number, "truth": truth}
        for method in config.methods
        if METHODS[method].kind == kind
        for truth in config.truths
        for number in range(config.num_seeds)
    ]
    numbers = [methods.hparams_of(r["method"], config) for r in listed]
    runs = {
        "seed": np.array([r["seed"] for r in listed], np.int32),
        "truth": np.array([config.truths.index(r["truth"]) for r in listed], np.int32),
        "hparams": {
            field: np.array([n[field] for n in numbers], np.float32)
            for field in numbers[0]
        },
    }

    def tabulate(measures: PyTree) -> stream_tables.Tables:
        return stream_tables.tabulate(
            name,
            listed,
            measures,
            annotated.category_names,
            annotated.pool_names,
            interval(config),
        )

    return Kind(
        f"{name}, {kind}",
        f"{name}_{kind}",
        make_run(config, kind, sizes),
        runs,
        tabulate,
    )
