"""Tables of people as problems: decision-makers who come with the data, or are trained.

A trained one is a network of the same kind as the model, which also sees what the model
does not. The ``accurate`` one is trained for accuracy, the ``biased`` one to be unfair
as well, and the ``inconsistent`` one is the accurate one with some of its answers about
the unreliable subgroup turned around.

References:
  Madras, Pitassi and Zemel, "Predict Responsibly", 2018, Section 5.
"""

import functools
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from experiments import images, trainings
from experiments.problem import Problem, Traits, every_name, split_at_random
from experiments.runtime.errors import ConfigError
from l2d_jax import data, decisions
from l2d_jax.data import synthetic
from l2d_jax.data.tabular import with_decisions
from l2d_jax.engine import memory
from l2d_jax.types import Array, Batch, Dataset, Decision, HParams

SOURCES = ("auto", "given", "trained")
"""Where decision-makers come from; auto takes those that come with the data."""
_TRAINED = ("health",)
_SUBGROUPS = 4  # Group, and whether the decision-maker is reliable.


class Cases(NamedTuple):
    """Examples and what the decision-maker of every scenario says of them.

    Attributes:
      pool: examples to train and validate on. Inputs are features and the group, float
        ``[N, D+1]``; ``expert_probs``, float ``[N, S, 2]``, and answers are of the
        decision-maker of each scenario, or None before they are trained.
      test: examples to report on, of the same form.
      hidden: inputs of the decision-maker's network, for pool and test, float ``[N,
        D+1+E]`` each.
      unreliable: members of the unreliable subgroup, for pool and test, bool ``[N]``
        each.
      source: ``given`` or ``trained``.
    """

    pool: Dataset
    test: Dataset
    hidden: tuple[np.ndarray, np.ndarray]
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
    if source == "given" and config.problem in _TRAINED:
        raise ConfigError(
            f"decision_maker given: none comes with {config.problem}; choose trained"
        )
    by_scenario = [_load_table(config, source, name) for name in config.scenarios]
    table = by_scenario[0]
    pools, tests = (
        [_join(one.train, one.valid) for one in by_scenario],
        [one.test for one in by_scenario],
    )
    images.check_sizes(config, len(pools[0].labels))
    extra = np.concatenate(table.extra[:2]), table.extra[2]
    pool, test = (_together(parts, source) for parts in (pools, tests))
    return Cases(
        pool=pool,
        test=test,
        hidden=(
            np.concatenate([pool.inputs, extra[0]], axis=1),
            np.concatenate([test.inputs, extra[1]], axis=1),
        ),
        unreliable=(np.concatenate(table.unreliable[:2]), table.unreliable[2]),
        source=source,
    )


def _comes_with_decision_makers(config: ml_collections.ConfigDict) -> bool:
    if config.problem == "compas":
        directory = data.resolve_data_dir(config.data_dir or None)
        return (directory / "compas" / "predict_responsibly").is_dir()
    return config.problem not in _TRAINED


@functools.cache
def _load_once(problem: str, data_dir: str, seed: int) -> data.Tabular:
    """A table that is the same in every scenario."""
    return _LOADERS[problem](data_dir or None, seed=seed)


_LOADERS: dict[str, Callable[..., data.Tabular]] = {
    "compas": data.load_compas,
    "health": data.load_health,
}


def _load_table(
    config: ml_collections.ConfigDict, source: str, scenario: str
) -> data.Tabular:
    if config.problem == "synthetic":
        # Its inputs alone, and twice: as they are drawn, and with the group.
        memory.require(examples=(4 + 5) * 4 * config.num_examples)
        return data.make_synthetic(
            scenario, seed=config.seed, num_examples=config.num_examples
        )
    if source == "given":
        return data.load_compas_predict_responsibly(scenario, config.data_dir or None)
    return _load_once(config.problem, config.data_dir, config.seed)


def _join(first: Dataset, second: Dataset) -> Dataset:
    return jax.tree.map(lambda a, b: np.concatenate([a, b]), first, second)


def _together(parts: list[Dataset], source: str) -> Dataset:
    """One data set of all scenarios, whose inputs have the group among them."""
    dataset = parts[0]
    groups = np.asarray(dataset.groups)[:, None]
    inputs = np.concatenate([dataset.inputs, groups], axis=1).astype(np.float32)
    dataset = dataset._replace(inputs=inputs, expert_labels=None, expert_probs=None)
    if source == "trained":
        return dataset
    probs = np.concatenate([np.asarray(part.expert_probs) for part in parts], axis=1)
    return with_decisions(dataset, probs)


def view(batch: Batch, hparams: HParams) -> Batch:
    """The batch with the decision-maker of the run's scenario.

    Chosen from the batch, which runs of a seed share; a pool of its own for every run
    would be gathered anew by each.
    """

    def column(leaf: Array | None) -> Array | None:
        if leaf is None:
            return None
        return jnp.expand_dims(jnp.take(leaf, hparams["scenario"], axis=1), 1)

    return batch._replace(
        expert_probs=column(batch.expert_probs),
        expert_labels=column(batch.expert_labels),
    )


def make(
    config: ml_collections.ConfigDict,
    cases: Cases,
    workdir: pathlib.Path,
    stop: Callable[[], bool],
) -> list[Problem]:
    """The table as a problem, after the decision-makers' training if need be."""
    slices: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    groups = [np.asarray(part.groups) for part in (cases.pool, cases.test)]
    for group in (0, 1):
        slices[f"group_{group}"] = (groups[0] == group, groups[1] == group)
    pool, test = cases.unreliable
    slices["reliable"], slices["unreliable"] = (~pool, ~test), (pool, test)
    size = len(cases.pool.labels)
    problem = Problem(
        name=config.problem,
        traits=Traits(2, num_groups=2, hidden=True, law=config.problem == "synthetic"),
        pool=cases.pool,
        test=cases.test,
        teams=every_name("scenario", tuple(config.scenarios)),
        split=split_at_random(size, config.valid_fraction),
        view=view,
        slices=slices,
        subgroups=(2 * groups[0] + pool, 2 * groups[1] + test),
        num_subgroups=_SUBGROUPS,
        hidden=cases.hidden,
        columns={"decision_maker": cases.source},
        # Results with other decision-makers are not to be taken for these.
        folder=cases.source,
    )
    if problem.traits.law:
        rules = [functools.partial(_best_rule, name=name) for name in config.scenarios]
        problem = problem._replace(law=functools.partial(_law, rules=rules))
    if cases.source == "given":
        return [problem]
    trainings.check(config, problem, "informed")
    trained = trainings.train(config, problem, "informed", workdir, stop, {})
    probs = decide(config, cases, trained)
    return [
        problem._replace(
            pool=with_decisions(problem.pool, probs[0]),
            test=with_decisions(problem.test, probs[1]),
        )
    ]


def decide(
    config: ml_collections.ConfigDict, cases: Cases, trained: trainings.Trained
) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of trained decision-makers on pool and test, ``[N, S, 2]``.

    Args:
      config: of the experiment.
      cases: from `load`.
      trained: their networks; those of the first seed are the decision-makers.

    Raises:
      ConfigError: a decision-maker's training diverged.
    """
    sweep, result = trained.sweep, trained.result
    predict = jax.jit(trained.program.learner.predict)
    first = sweep.seeds == sweep.seeds[0]
    probs: dict[str, list[np.ndarray]] = {}
    for name, is_biased in (("accurate", False), ("biased", True)):
        (run,) = np.flatnonzero(first & ((sweep.hparams["fairness"] < 0) == is_biased))
        if result.diverged[run]:
            raise ConfigError(
                f"learning_rate: the {name} decision-maker diverged; lower it"
            )
        variables = jax.tree.map(lambda leaf, run=run: leaf[run], result.variables)
        hparams = {key: value[run] for key, value in sweep.hparams.items()}
        probs[name] = [
            np.asarray(predict(variables, hparams, inputs)) for inputs in cases.hidden
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
    return pool, test


def _best_rule(inputs: Array, name: str) -> Any:
    return synthetic.best_deferral(inputs, name)  # type: ignore[arg-type]


def _law(inputs: Array, hparams: HParams, rules: list[Any]) -> Decision:
    """The best rule of a synthetic set, whose label follows the sign of an input."""
    defers = jnp.stack([rule(inputs) for rule in rules])[hparams["scenario"]]
    probs = jax.nn.one_hot((jnp.asarray(inputs)[:, 1] > 0).astype(int), 2)
    return decisions.decide(probs, jnp.where(defers, 1.0, -1.0)[:, None])
