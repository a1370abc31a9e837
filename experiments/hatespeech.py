"""Hate speech as a problem: Davidson's tweets, and a person who judged each of them.

A seed divides the tweets at random into training, validation and test part, and draws
for each tweet, once, one of those who judged it: "an annotator". The truth is what most
of them said. The panel is made of this annotator: experts who repeat the answer, turn
it, or guess, some of the time.
"""

import pathlib
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from experiments import parts, text_features, texts
from experiments.parts import Parts
from experiments.problem import Problem, Traits, one_team
from l2d_jax import data
from l2d_jax.data.davidson import CLASS_NAMES, Davidson
from l2d_jax.simulate import experts
from l2d_jax.types import Dataset, HParams

TRAITS = Traits(num_classes=len(CLASS_NAMES))

_REPEAT = np.eye(3)
_GUESS = np.full((3, 3), 1 / 3)
# To the other of the two kinds of abuse; what is neither becomes hate.
_TURN = np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [1.0, 0.0, 0.0]])


def _else_guess(share: float) -> np.ndarray:
    return share * _REPEAT + (1 - share) * _GUESS


def _turn(share: float) -> np.ndarray:
    return share * _TURN + (1 - share) * _REPEAT


PANEL = np.stack(
    [
        _GUESS,
        _else_guess(0.1),
        _turn(0.5),
        _else_guess(0.75),
        _turn(0.3),
        _turn(0.2),
        _else_guess(0.85),
        _REPEAT,
        _else_guess(0.5),
        _REPEAT,
    ]
).astype(np.float32)
"""Experts in the order of Verma et al. 2023: probability of each answer given that of
the annotator, ``[10, 3, 3]``."""


class Prepared(NamedTuple):
    """Tweets, and how seeds divide and see them.

    Attributes:
      davidson: the tweets, N of them.
      parts: how seeds divide them.
      inputs: features, float32 ``[N, D]``, or ``[N, S, D]`` where each seed has those
        that are fitted on its training texts.
    """

    davidson: Davidson
    parts: Parts
    inputs: np.ndarray


def load(config: ml_collections.ConfigDict) -> Prepared:
    """The tweets and their features.

    An embedding is the same for all seeds, the encoder's own numbers; what is fitted is
    fitted on the texts of a seed that it does not test.

    Raises:
      DataError: a file is missing or damaged, or the extra for embeddings is.
      ConfigError: a part would be empty, or a batch is larger than the training part.
    """
    davidson = data.load_davidson(config.data_dir or None)
    drawn = parts.draw(config, len(davidson.labels))
    if config.features == "embedding":
        inputs = data.embed_texts(davidson.texts)
    else:
        inputs = np.stack(
            [
                text_features.fit(
                    [davidson.texts[row] for row in rows],
                    config.num_features,
                    config.features,
                )(davidson.texts)
                for rows in drawn.rest
            ],
            axis=1,
        )
    return Prepared(davidson, drawn, inputs)


def answers_of(counts: np.ndarray) -> np.ndarray:
    """Answers from how often each was given, the classes in order.

    Args:
      counts: int ``[N, K]``, >= 0.

    Returns:
      The answers, int32 ``[N, A]``, A the most of a row; -1 where there are fewer.
    """
    until = np.cumsum(counts, axis=1)
    place = np.arange(until[:, -1].max())[:, None]
    answers = np.sum(place >= until[:, None, :], axis=2)
    return np.where(answers < counts.shape[1], answers, -1).astype(np.int32)


def make(
    config: ml_collections.ConfigDict,
    prepared: Prepared,
    workdir: pathlib.Path,
    stop: Callable[[], bool],
) -> list[Problem]:
    """One expert: of each tweet one of those who judged it."""
    del workdir, stop
    davidson = prepared.davidson
    dataset = Dataset(prepared.inputs, davidson.labels, answers_of(davidson.counts))

    classes = {name: davidson.labels == label for label, name in enumerate(CLASS_NAMES)}
    return [
        Problem(
            name=config.problem,
            traits=TRAITS,
            pool=dataset,
            test=dataset,
            teams=one_team,
            split=prepared.parts.fold,
            annotate=texts.annotate_with_one,
            test_rows=lambda seed: prepared.parts.test[seed],
            slices={name: (rows, rows) for name, rows in classes.items()},
            inputs_by_seed=prepared.inputs.ndim == 3,
            sampled="splits",
            test_to_train=prepared.parts.test_to_train,
        )
    ]


def make_panel(
    config: ml_collections.ConfigDict,
    prepared: Prepared,
    workdir: pathlib.Path,
    stop: Callable[[], bool],
) -> list[Problem]:
    """The first ``panel_size`` experts of `PANEL`, who share one annotator."""

    def annotate(key: jax.Array, hparams: HParams, dataset: Dataset) -> Dataset:
        own, *keys = jax.random.split(key, config.panel_size + 1)
        drawn = texts.annotate_with_one(own, hparams, dataset).expert_labels
        assert drawn is not None
        answers = [
            experts.sample_expert_labels(key, experts.Expert(rows), drawn[:, 0])
            for key, rows in zip(keys, PANEL[: config.panel_size], strict=True)
        ]
        return dataset._replace(expert_labels=jnp.stack(answers, axis=1))

    traits = TRAITS._replace(num_experts=config.panel_size)
    return [
        problem._replace(traits=traits, annotate=annotate)
        for problem in make(config, prepared, workdir, stop)
    ]
