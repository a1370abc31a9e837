"""A classifier and a deferrer to many experts, trained together, on annotated texts.

Part of the program of allocation: `run` trains the paper's method and its two fair
variants on every split of the data, next to the classifier alone, committees drawn at
random and the majority of the answers, and returns one tidy table.

References:
  Keswani, Lease and Kenthapadi, "Towards Unbiased and Accurate Deferral to Multiple
  Experts", 2021.
"""

import pathlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pandas as pd

from experiments import fields
from experiments.runtime.errors import ConfigError
from l2d_jax import metrics, models, optimizers
from l2d_jax.data.annotated import Annotated
from l2d_jax.engine import (
    chunks,
    orders,
    placement,
    training,
)
from l2d_jax.engine.sweeps import Progress
from l2d_jax.learners import joint
from l2d_jax.people import finetuning
from l2d_jax.types import Array, Dataset, HParams, PyTree, TrainState, Variables

TRAINED = {
    "joint": "joint",
    "joint_balanced": "balanced",
    "joint_minimax": "minimax",
    "classifier": "classify",
}
"""Methods that learn, and the objective of each, of `l2d_jax.learners.joint`."""
REFERENCES = ("random_committee", "random_fair_committee", "majority")
"""What learns nothing: committees drawn at random from who answered, or from those of
them who did better on the item's category than on the others; and all who answered."""
METHODS = (*TRAINED, *REFERENCES)
METRICS = (
    "accuracy",
    "committee_accuracy",
    "roc_auc",
    "gap",
    "max_share",
    "classifier_share",
)
"""Columns of the table besides ``accuracy_<category>`` of each category."""


def default_config() -> ml_collections.ConfigDict:
    """Settings of the method: the section ``joint`` of a program's config.

    Networks, learning rate, batches, dropout, committees and rounds are the paper's,
    but ``num_steps``: its 100 are too few to learn whom to trust from some 70 answers
    of an annotator. Of 100, 300 and 1,000, the number was chosen on ``keswani_mturk``,
    with 50 TF-IDF components, where ``joint`` was most accurate on a fifth of the
    training rows that it was not trained on, on average over the training parts of 25
    splits (5 times 5 folds): 87.1, 89.0 and 89.1 %, and its committees of 5 82.7, 84.6
    and 86.7 %. As every row trains in most of the splits, the one number for all of
    them has seen all rows. The method's other defaults were not tried.
    """
    config = ml_collections.ConfigDict()
    config.datasets = ("keswani_mturk",)  # Empty for none.
    config.num_features = 50  # Of the texts, without the category.
    config.hidden_deferrer = (128, 32)
    config.hidden_classifier = (128, 32)
    config.learning_rate = 0.3  # Of plain gradient descent.
    config.num_steps = 1000
    config.batch_size = 200
    config.dropout = 0.2  # Of experts, in training.
    config.cost_weight = 0.0  # Lambda, of experts' share of the vote.
    config.step_exponent = 0.5  # c: the vote's loss counts 1 - t^-c at step t.
    config.committee_size = 5  # Odd.
    config.minimax_rounds = 5  # Odd.
    config.normalized = True  # False: the authors' sum of weights, for dense answers.
    return config


def check(config: ml_collections.ConfigDict) -> None:
    """Check the section ``joint``.

    Raises:
      ConfigError: a value cannot be used; the message names the field and the remedy.
    """
    for name in ("hidden_deferrer", "hidden_classifier"):
        for size in config[name]:
            fields.whole(f"joint.{name}", size, 1)
    for name in ("num_features", "num_steps", "batch_size"):
        fields.whole(f"joint.{name}", config[name], 1)
    for name in ("committee_size", "minimax_rounds"):
        fields.whole(f"joint.{name}", config[name], 1)
        if config[name] % 2 == 0:
            raise ConfigError(
                f"joint.{name} must be odd, so that there is no tie, got {config[name]}"
            )
    for name in ("learning_rate", "step_exponent"):
        fields.positive(f"joint.{name}", config[name])
    fields.number("joint.dropout", config.dropout, 0.0, 1.0)
    fields.number("joint.cost_weight", config.cost_weight, 0.0)
    fields.one_of("joint.normalized", config.normalized, (True, False))


def run(
    annotated: Annotated,
    split_pairs: Sequence[tuple[np.ndarray, np.ndarray]],
    features: Sequence[np.ndarray],
    config: ml_collections.ConfigDict,
    workdir: pathlib.Path | None,
    report: Callable[[Progress], None],
    should_stop: Callable[[], bool],
    where: placement.Placement,
    *,
    seed: int = 0,
    dataset: str = "keswani_mturk",
) -> pd.DataFrame:
    """Every method on every split.

    Args:
      annotated: the texts and what people answered; texts of unknown label are left
        out of every split.
      split_pairs: rows to train on and rows to test on, of each split.
      features: of all texts, float ``[N, D]``, for each split, made without its test
        rows.
      config: the section ``joint``, as `default_config`; see `check`.
      workdir: where checkpoints go; None keeps none.
      report: told of the runs that are done, of all trained methods.
      should_stop: asked between chunks of runs.
      where: placement of the runs.
      seed: of parameters, minibatches, dropout and committees, with the split's number.
      dataset: its name in the table.

    Returns:
      A row for each method and split: ``experiment, dataset, method, seed`` (the number
      of the split), ``split``; ``accuracy`` of the weighted vote of everybody who
      answered and the classifier; ``committee_accuracy``, of a committee of
      ``committee_size`` (NaN for the majority, which has none; for random committees
      there is no other vote, and ``accuracy`` is the same); ``roc_auc`` of the vote;
      ``accuracy_<category>``, NaN where no test row has it; ``gap``, the greatest less
      the least of these; ``max_share``, the greatest expected share of committee seats
      of one annotator over the test rows, and ``classifier_share`` the classifier's.

    Raises:
      ConfigError: there are fewer training rows than ``batch_size``.
      Interrupted: ``should_stop`` said so; what is done is kept in ``workdir``.
      ValueError: there is not one matrix of features for each split, or a split has no
        rows of known label to test on.
    """
    if len(features) != len(split_pairs) or not len(split_pairs):
        raise ValueError(
            f"features must be one matrix for each split, got {len(features)} for"
            f" {len(split_pairs)} splits"
        )
    known = np.flatnonzero(annotated.labels >= 0)
    splits = [
        tuple(np.asarray(rows)[np.isin(rows, known)].astype(np.int32) for rows in pair)
        for pair in split_pairs
    ]
    _check_splits(splits, config)
    runs = _make_runs(splits, features, len(annotated.labels), config, seed)
    shared = {
        "seed": np.int32(seed),
        "labels": np.maximum(annotated.labels, 0).astype(np.int32),
        "answers": np.asarray(annotated.answers, np.int32),
        "categories": np.asarray(annotated.categories, np.int32),
        "hparams": {
            name: np.float32(config[name])
            for name in ("learning_rate", "dropout", "cost_weight", "step_exponent")
        },
    }
    num_categories = len(annotated.category_names)
    parts = []
    for index, method in enumerate(TRAINED):

        def tell(progress: Progress, index: int = index) -> None:
            done = index * len(splits) + progress.done
            report(Progress(done, len(TRAINED) * len(splits), progress.message))

        outcome = chunks.map_runs(
            make_run(method, config, num_categories),
            runs,
            shared,
            where=where,
            checkpoint_dir=workdir and workdir / "checkpoints" / f"joint_{method}",
            report=tell,
            should_stop=should_stop,
        )
        parts.append(_tabulate(annotated, method, dataset, outcome))
    rest = {name: runs[name] for name in ("number", "test", "test_weights")}
    for method in REFERENCES:
        allowed = [
            _allowed(method, annotated, train, test)
            for (train, _), test in zip(splits, runs["test"], strict=True)
        ]
        outcome = chunks.map_runs(
            make_reference(method, config, num_categories),
            {**rest, "weights": np.stack(allowed)},
            shared,
            where=where,
        )
        parts.append(_tabulate(annotated, method, dataset, outcome))
    return pd.concat(parts, ignore_index=True)


def make_run(
    method: str, config: ml_collections.ConfigDict, num_categories: int
) -> Callable[[PyTree, PyTree], PyTree]:
    """One method on one split: a function of ``(run, shared)`` for `chunks.map_runs`.

    A run has ``number`` of the split, ``[]``, its ``inputs``, ``[N, D]``, ``weights``,
    1 for training rows, ``[N]``, ``order`` of minibatches, ``[steps, B]``, and rows
    ``test`` with ``test_weights``, 0 for padding, ``[L]``. The result has `METRICS`,
    each ``[]``, and ``by_category``, the accuracies, ``[Z]``.
    """
    objective = TRAINED[method]
    hidden_deferrer = tuple(config.hidden_deferrer)
    hidden_classifier = tuple(config.hidden_classifier)
    normalized, num_rounds = config.normalized, config.minimax_rounds
    size = config.committee_size

    def compute(run: PyTree, shared: PyTree) -> PyTree:
        hparams = shared["hparams"]
        learner = joint.make_learner(
            models.mlp(hidden_deferrer, shared["answers"].shape[1] + 1),
            models.mlp(hidden_classifier, 1),
            optimizers.make_plain_sgd(),
            num_categories,
            objective=objective,
            normalized=normalized,
        )
        key = training.run_key(jax.random.key(shared["seed"]), run["number"])
        train_key, test_key = jax.random.split(key)
        data = Dataset(
            run["inputs"],
            shared["labels"],
            shared["answers"],
            shared["categories"],
            run["weights"],
        )

        def fit(state: TrainState, hparams: HParams) -> TrainState:
            return finetuning.fit(learner, hparams, state, data, run["order"])

        if objective == "minimax":
            variables = joint.train_minimax(
                learner,
                hparams,
                train_key,
                data,
                fit,
                num_rounds=num_rounds,
                num_groups=num_categories,
                normalized=normalized,
            ).variables
        else:
            first = jax.tree.map(lambda leaf: leaf[:2], data)
            state = fit(learner.init(train_key, hparams, first), hparams)
            # As one round of several.
            variables = jax.tree.map(lambda leaf: leaf[None], state.variables)

        def judge(key: jax.Array, variables: Variables) -> PyTree:
            inputs = jnp.take(run["inputs"], run["test"], axis=0)
            prediction = learner.predict(variables, hparams, inputs)
            if objective == "classify":
                alone = jnp.zeros_like(prediction.weights).at[:, -1].set(1.0)
                prediction = prediction._replace(weights=alone)
            return _judge(key, prediction, run, shared, size, normalized)

        num_pairs = jax.tree.leaves(variables)[0].shape[0]
        pairs = jax.vmap(judge)(jax.random.split(test_key, num_pairs), variables)
        judged = _Judged(
            score=jnp.mean(pairs.score, axis=0),
            decision=joint.majority(pairs.decision),
            committee_score=jnp.mean(pairs.committee_score, axis=0),
            committee=joint.majority(pairs.committee),
            shares=jnp.mean(pairs.shares, axis=0),
        )
        return _measure(judged, run, shared, num_categories)

    return compute


def make_reference(
    method: str, config: ml_collections.ConfigDict, num_categories: int
) -> Callable[[PyTree, PyTree], PyTree]:
    """A reference on one split, as `make_run`.

    A run has ``number``, ``test`` and ``test_weights``, and ``weights`` of who may
    decide each test row, ``[L, M + 1]``.
    """
    size = config.committee_size

    def compute(run: PyTree, shared: PyTree) -> PyTree:
        key = training.run_key(jax.random.key(shared["seed"]), run["number"])
        # A row that nobody answered is a tie.
        tie = jnp.full(run["test"].shape, 0.5)
        prediction = joint.Prediction(run["weights"], tie)
        judged = _judge(key, prediction, run, shared, size, True)
        if method == "majority":
            # Of counts, so that ties are exact, here and in the ROC curve.
            answers = jnp.take(shared["answers"], run["test"], axis=0)
            ones, given = jnp.sum(answers == 1, axis=1), jnp.sum(answers >= 0, axis=1)
            score = jnp.where(given > 0, ones / jnp.maximum(given, 1), tie)
            judged = judged._replace(score=score, decision=joint.decide(score))
            measured = _measure(judged, run, shared, num_categories)
            return {**measured, "committee_accuracy": jnp.float32(jnp.nan)}
        votes = jnp.round(size * judged.committee_score)
        judged = judged._replace(score=votes, decision=judged.committee)
        return _measure(judged, run, shared, num_categories)

    return compute


class _Judged(NamedTuple):
    """What a system says of the test rows.

    Attributes:
      score: vote for label 1, float ``[L]``.
      decision: by that vote, int ``[L]``.
      committee_score: vote of a committee, float ``[L]``.
      committee: what it decides, int ``[L]``.
      shares: expected share of the seats of each annotator and the classifier, over all
        rows, float ``[M + 1]``.
    """

    score: jax.Array
    decision: jax.Array
    committee_score: jax.Array
    committee: jax.Array
    shares: jax.Array


def _judge(
    key: jax.Array,
    prediction: joint.Prediction,
    run: PyTree,
    shared: PyTree,
    size: int,
    normalized: bool,
) -> _Judged:
    """The votes of one pair of networks."""
    weights, prob = prediction
    answers = jnp.take(shared["answers"], run["test"], axis=0)
    score = joint.vote(weights, prob, answers, normalized=normalized)
    seats = joint.draw_committee(key, weights, answers, size)
    committee_score = joint.committee_vote(seats, prob, answers)
    rows = run["test_weights"][:, None]
    shares = jnp.sum(joint.seat_shares(weights, answers) * rows, axis=0)
    return _Judged(
        score,
        joint.decide(score),
        committee_score,
        joint.decide(committee_score),
        shares / jnp.sum(rows),
    )


def _measure(
    judged: _Judged, run: PyTree, shared: PyTree, num_categories: int
) -> dict[str, Array]:
    """Metrics over the test rows; see `run`."""
    weights = run["test_weights"]
    labels = jnp.take(shared["labels"], run["test"])
    categories = jnp.take(shared["categories"], run["test"])
    by_category = metrics.subgroup_accuracy(
        (judged.decision == labels).astype(jnp.float32),
        categories,
        num_categories,
        weights,
    )
    return {
        "accuracy": metrics.accuracy(judged.decision, labels, weights),
        "committee_accuracy": metrics.accuracy(judged.committee, labels, weights),
        "roc_auc": metrics.roc_auc(judged.score, labels, weights),
        "gap": jnp.nanmax(by_category) - jnp.nanmin(by_category),
        "max_share": jnp.max(judged.shares[:-1], initial=0.0),
        "classifier_share": judged.shares[-1],
        "by_category": by_category,
    }


def _check_splits(
    splits: list[tuple[np.ndarray, ...]], config: ml_collections.ConfigDict
) -> None:
    for number, (train, test) in enumerate(splits):
        if len(train) < config.batch_size:
            raise ConfigError(
                f"joint.batch_size {config.batch_size} is larger than the {len(train)}"
                f" labelled training rows of split {number}; choose one of at most"
                f" {len(train)}"
            )
        if not len(test):
            raise ValueError(
                f"split_pairs: split {number} has no test row with a label; give it one"
            )


def _make_runs(
    splits: list[tuple[np.ndarray, ...]],
    features: Sequence[np.ndarray],
    num_items: int,
    config: ml_collections.ConfigDict,
    seed: int,
) -> dict[str, np.ndarray]:
    """What each split has of its own, ``[R, ...]``; see `make_run`."""
    longest = max(len(test) for _, test in splits)
    parts: dict[str, list[np.ndarray]] = {
        name: [] for name in ("weights", "order", "test", "test_weights")
    }
    for number, (train, test) in enumerate(splits):
        weights = np.zeros(num_items, np.float32)
        weights[train] = 1.0
        num_epochs = -(-config.num_steps // (len(train) // config.batch_size))
        order = orders.epoch_orders(
            seed + number, 0, num_epochs, train, config.batch_size
        )
        parts["weights"].append(weights)
        parts["order"].append(order.reshape(-1, config.batch_size)[: config.num_steps])
        parts["test"].append(np.resize(test, longest))
        parts["test_weights"].append(
            (np.arange(longest) < len(test)).astype(np.float32)
        )
    return {
        "number": np.arange(len(splits), dtype=np.int32),
        "inputs": np.stack([np.asarray(matrix, np.float32) for matrix in features]),
        **{name: np.stack(values) for name, values in parts.items()},
    }


def _allowed(
    method: str, annotated: Annotated, train: np.ndarray, test: np.ndarray
) -> np.ndarray:
    """Who may decide each test row, float ``[L, M + 1]``, 0 or 1; not a classifier."""
    available = annotated.answers[test] >= 0
    allowed = available
    if method == "random_fair_committee":
        fair = better_on_category(annotated, train)
        chosen = available & fair[:, annotated.categories[test]].T
        allowed = np.where(chosen.any(axis=1, keepdims=True), chosen, available)
    return np.pad(allowed.astype(np.float32), ((0, 0), (0, 1)))


def better_on_category(annotated: Annotated, train: np.ndarray) -> np.ndarray:
    """Whether an annotator is more accurate on a category than on the others.

    Args:
      annotated: the texts and answers.
      train: rows to count, of known label.

    Returns:
      Bool ``[M, Z]``; False where either accuracy is of no answers.
    """
    answers, labels = annotated.answers[train], annotated.labels[train]
    right = (answers == labels[:, None]).astype(float)
    given = (answers >= 0).astype(float)
    member = np.eye(len(annotated.category_names))[annotated.categories[train]]
    hits, total = right.T @ member, given.T @ member
    other_hits = hits.sum(axis=1, keepdims=True) - hits
    other_total = total.sum(axis=1, keepdims=True) - total
    # Products in place of ratios: exact, and never better than no answers.
    return (hits * other_total > other_hits * total) & (other_total > 0)


def _tabulate(
    annotated: Annotated, method: str, dataset: str, outcome: dict[str, np.ndarray]
) -> pd.DataFrame:
    """A row for each split."""
    columns = {name: outcome[name] for name in METRICS}
    for category, name in enumerate(annotated.category_names):
        columns[f"accuracy_{name}"] = outcome["by_category"][:, category]
    names = {"experiment": "allocation", "dataset": dataset, "method": method}
    seeds = np.arange(len(outcome["accuracy"]))
    return pd.DataFrame({**names, "seed": seeds, "split": "test", **columns})
