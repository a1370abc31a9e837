"""Texts as problems: the people who answered about them are the experts.

A seed is a split of repeated cross-validation; features are made of its training texts,
so inputs differ from seed to seed. Who answered about a text is who can be asked about
it. ``answers`` says whether all of them are experts, or one of them, drawn for each
text and seed, stands for "an annotator".
"""

import pathlib
from collections.abc import Callable

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from experiments import images, text_features
from experiments.problem import Problem, Traits, annotate_with_nobody, one_team
from experiments.runtime.errors import ConfigError
from l2d_jax import data
from l2d_jax.data import Annotated
from l2d_jax.engine import memory, orders
from l2d_jax.types import Dataset, HParams

LOADERS: dict[str, Callable[..., Annotated]] = {
    "annwithattitudes": data.load_annwithattitudes,
    "hs_brexit": data.load_hs_brexit,
    "keswani_mturk": data.load_keswani_mturk,
}
"""Texts by name."""


def load(config: ml_collections.ConfigDict) -> Annotated:
    """The texts that ``config.texts`` names.

    Raises:
      DataError: a file is missing or damaged.
      ConfigError: there are fewer than two labelled texts a fold, a part would be
        empty, a batch is larger than the training part, or ``texts`` or ``answers`` are
        not those of the problem.
    """
    expected = config.texts + ("_one" if config.answers == "one" else "")
    if config.problem != expected:
        raise ConfigError(
            f"problem {config.problem} is not of texts {config.texts} and answers"
            f" {config.answers}, which are {expected}; change one of them"
        )
    annotated = LOADERS[config.texts](config.data_dir or None)
    size = len(labels_of(annotated)[1])
    if size < 2 * config.num_folds:
        raise ConfigError(
            f"num_folds {config.num_folds} is too many for the {size} labelled texts of"
            f" {config.texts}"
        )
    # The smallest training part of a split.
    images.check_sizes(config, size - -(-size // config.num_folds))
    return annotated


def labels_of(annotated: Annotated) -> tuple[np.ndarray, np.ndarray]:
    """Labels of all texts, and the rows of which one is known.

    Labels come from outside where there are any, else from the people who suit the
    category of the text; the latter are made of the very answers that are compared
    with them, which flatters these people.
    """
    labels = annotated.labels
    if not np.any(labels >= 0):
        labels = data.subjective_labels(annotated)
    return labels, np.flatnonzero(labels >= 0)


def folds(
    seed: int, num_splits: int, num_folds: int, rows: np.ndarray
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Rows to learn from and rows to test on, of each split."""
    memory.require(splits=num_splits * rows.nbytes)
    found = []
    for number in range(num_splits):
        repeat, fold = divmod(number, num_folds)
        order = np.random.default_rng((seed, repeat)).permutation(rows)
        parts = np.array_split(order, num_folds)
        test = parts.pop(fold)
        found.append((np.sort(np.concatenate(parts)), np.sort(test)))
    return found


def annotate_with_one(key: jax.Array, hparams: HParams, dataset: Dataset) -> Dataset:
    """One of those who answered, drawn for each text with the same chance."""
    del hparams
    answers = jnp.asarray(dataset.expert_labels)
    draws = jax.random.uniform(key, answers.shape)
    chosen = jnp.argmax(jnp.where(answers >= 0, draws, -1.0), axis=1)
    one = jnp.take_along_axis(answers, chosen[:, None], axis=1)
    return dataset._replace(expert_labels=one)


def make(
    config: ml_collections.ConfigDict,
    annotated: Annotated,
    workdir: pathlib.Path,
    stop: Callable[[], bool],
) -> list[Problem]:
    """The texts as a problem."""
    del workdir, stop
    labels, known = labels_of(annotated)
    splits = folds(config.seed, config.num_seeds, config.num_folds, known)
    inputs = []
    for train, _ in splits:
        fitted = text_features.fit(
            [annotated.texts[row] for row in train],
            config.num_features,
            config.features,
        )
        inputs.append(fitted(annotated.texts))
        if len(inputs) == 1:
            memory.require(inputs=(len(splits) - 1) * inputs[0].nbytes)
    one = config.answers == "one"
    dataset = Dataset(
        np.stack(inputs, axis=1).astype(np.float32),
        np.maximum(labels, 0).astype(np.int32),
        annotated.answers.astype(np.int32),
        annotated.categories.astype(np.int32),
    )

    def split(seed: int) -> orders.Fold:
        train, _ = splits[seed]
        part = orders.split_pool(seed, len(train), config.valid_fraction)
        return orders.Fold(
            train[part.train].astype(np.int32), train[part.valid].astype(np.int32)
        )

    names = annotated.category_names
    members = {name: annotated.categories == z for z, name in enumerate(names)}
    return [
        Problem(
            name=config.problem,
            traits=Traits(
                2,
                num_experts=1 if one else annotated.answers.shape[1],
                num_groups=len(names),
            ),
            pool=dataset,
            test=dataset,
            teams=one_team,
            split=split,
            annotate=annotate_with_one if one else annotate_with_nobody,
            test_rows=lambda seed: splits[seed][1],
            slices={name: (rows, rows) for name, rows in members.items()},
            subgroups=(annotated.categories, annotated.categories),
            num_subgroups=len(names),
            inputs_by_seed=True,
            sampled="splits",
            test_to_train=1 / (config.num_folds - 1),
        )
    ]
