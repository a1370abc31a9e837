"""Decision-makers of the tabular experiments: they come with the data, or are trained.

A trained one is a network of the same kind as the model, which also sees what the model
does not. The ``accurate`` one is trained for accuracy, the ``biased`` one to be unfair
as well, and the ``inconsistent`` one is the accurate one with some of its answers about
the unreliable subgroup turned around.

References:
  Madras, Pitassi and Zemel, "Predict Responsibly", 2018, Section 5.
"""

import functools
from typing import NamedTuple

import jax
import ml_collections
import numpy as np

from experiments.runtime.errors import ConfigError
from l2d_jax import data
from l2d_jax.engine import sweeps
from l2d_jax.types import Dataset, Learner

DATASETS = ("synthetic", "compas", "health")
SOURCES = ("auto", "given", "trained")
"""Where decision-makers come from; auto takes those that come with the data."""


class Cases(NamedTuple):
    """Examples and what the decision-maker of every scenario says of them.

    Attributes:
      pool: examples to train and validate on. Inputs are features and the group, float
        ``[N, D+1]``; ``expert_labels`` are probabilities, float ``[N, S, 2]``, of the
        decision-maker of each scenario, or None before `decide`.
      test: examples to report on, of the same form.
      informed: inputs of the decision-maker's network, for pool and test, float ``[N,
        D+1+E]`` each.
      unreliable: members of the unreliable subgroup, for pool and test, bool ``[N]``
        each.
      source: ``given`` or ``trained``.
    """

    pool: Dataset
    test: Dataset
    informed: tuple[np.ndarray, np.ndarray]
    unreliable: tuple[np.ndarray, np.ndarray]
    source: str


def load(config: ml_collections.ConfigDict) -> Cases:
    """The config's data set, with decision-makers where they come with it.

    Raises:
      ConfigError: none comes with the data, and ``decision_maker`` wants one that does.
      DataError: a file is missing or damaged.
    """
    source = config.decision_maker
    if source == "auto":
        source = "given" if _comes_with_decision_makers(config) else "trained"
    if source == "given" and config.dataset == "health":
        raise ConfigError(
            "decision_maker given: none comes with health; choose trained"
        )
    by_scenario = [_load_table(config, source, name) for name in config.scenarios]
    table = by_scenario[0]
    pool = _join(table.train, table.valid)
    extra = np.concatenate(table.extra[:2]), table.extra[2]
    pool, test = _with_group(pool), _with_group(table.test)
    if source == "given":
        pool = pool._replace(
            expert_labels=np.concatenate(
                [_join(one.train, one.valid).expert_labels for one in by_scenario],
                axis=1,
            )
        )
        test = test._replace(
            expert_labels=np.concatenate(
                [one.test.expert_labels for one in by_scenario], axis=1
            )
        )
    else:
        pool = pool._replace(expert_labels=None)
        test = test._replace(expert_labels=None)
    return Cases(
        pool=pool,
        test=test,
        informed=(
            np.concatenate([pool.inputs, extra[0]], axis=1),
            np.concatenate([test.inputs, extra[1]], axis=1),
        ),
        unreliable=(np.concatenate(table.unreliable[:2]), table.unreliable[2]),
        source=source,
    )


def _comes_with_decision_makers(config: ml_collections.ConfigDict) -> bool:
    if config.dataset == "compas":
        directory = data.resolve_data_dir(config.data_dir or None)
        return (directory / "compas" / "predict_responsibly").is_dir()
    return bool(config.dataset == "synthetic")


@functools.cache
def _load_once(dataset: str, data_dir: str, seed: int) -> data.Tabular:
    """A table that is the same in every scenario."""
    load = {"compas": data.load_compas, "health": data.load_health}[dataset]
    return load(data_dir or None, seed=seed)


def _load_table(
    config: ml_collections.ConfigDict, source: str, scenario: str
) -> data.Tabular:
    if config.dataset == "synthetic":
        return data.make_synthetic(
            scenario, seed=config.seed, num_examples=config.num_examples
        )
    if source == "given":
        return data.load_compas_predict_responsibly(scenario, config.data_dir or None)
    return _load_once(config.dataset, config.data_dir, config.seed)


def _join(first: Dataset, second: Dataset) -> Dataset:
    return jax.tree.map(lambda a, b: np.concatenate([a, b]), first, second)


def _with_group(dataset: Dataset) -> Dataset:
    groups = np.asarray(dataset.groups)[:, None]
    inputs = np.concatenate([dataset.inputs, groups], axis=1)
    return dataset._replace(inputs=inputs.astype(np.float32))


def decide(
    config: ml_collections.ConfigDict,
    cases: Cases,
    learner: Learner,
    sweep: sweeps.Sweep,
    result: sweeps.SweepResult,
) -> Cases:
    """The cases with the decisions of trained decision-makers.

    Args:
      config: of the experiment.
      cases: from `load`.
      learner: the decision-makers' network.
      sweep: its runs: those of the first seed are the decision-makers.
      result: what is left of them.

    Raises:
      ConfigError: a decision-maker's training diverged.
    """
    predict = jax.jit(learner.predict)
    first = sweep.seeds == sweep.seeds[0]
    probs = {}
    for name, is_biased in (("accurate", False), ("biased", True)):
        (run,) = np.flatnonzero(first & ((sweep.hparams["alpha"] < 0) == is_biased))
        if result.diverged[run]:
            raise ConfigError(
                f"learning_rate: the {name} decision-maker diverged; lower it"
            )
        variables = jax.tree.map(lambda leaf, run=run: leaf[run], result.variables)
        hparams = {key: value[run] for key, value in sweep.hparams.items()}
        probs[name] = [
            np.asarray(predict(variables, hparams, inputs).class_probs)
            for inputs in cases.informed
        ]
    generator = np.random.default_rng([config.seed, 1])
    flips = [
        unreliable & (generator.random(len(unreliable)) < config.flip_rate)
        for unreliable in cases.unreliable
    ]
    probs["inconsistent"] = [
        np.where(flip[:, None], prob[:, ::-1], prob)
        for flip, prob in zip(flips, probs["accurate"], strict=True)
    ]
    pool, test = (
        np.stack([probs[name][part] for name in config.scenarios], axis=1)
        for part in range(2)
    )
    return cases._replace(
        pool=cases.pool._replace(expert_labels=pool),
        test=cases.test._replace(expert_labels=test),
        source="trained",
    )
