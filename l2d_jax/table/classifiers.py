"""Classifiers of a table: scikit-learn fits them, and a pure function reads them.

What is fitted is a dictionary of arrays, so that it goes to the disk without a pickle
and into a program of JAX. Classifiers of several folds are stacked and averaged.
"""

import warnings
from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier

from l2d_jax._rounding import round_down
from l2d_jax.types import Array

Params: TypeAlias = dict[str, np.ndarray]

# Below this a class's own logarithm would outweigh all that is learnt.
_LEAST_PROB = 1e-6
# Rows from which a part is held back to stop the training early.
_ENOUGH_TO_STOP = 200
_DEPTH, _LEAVES, _ROUNDS = 6, 31, 100


class Classifier(NamedTuple):
    """A kind of classifier.

    Attributes:
      fit: ``(inputs [N, D], labels [N], num_classes, weights [N], seed) -> params``;
        every class is among the labels. Weights of None are equal ones, for which
        trees take a tenth of the time.
      logits: ``(params, inputs [B, D]) -> [B, K]``, whose softmax are the
        probabilities; pure.
    """

    fit: Callable[[np.ndarray, np.ndarray, int, np.ndarray | None, int], Params]
    logits: Callable[[Mapping[str, Array], Array], jax.Array]


def _both_sides(logits: Array) -> jax.Array:
    """Log-odds of the second of two classes as logits of both, ``[B, 2]``."""
    logits = jnp.asarray(logits)
    if logits.shape[1] > 1:
        return logits
    return jnp.concatenate([jnp.zeros_like(logits), logits], axis=1)


def _stops_early(labels: np.ndarray) -> bool:
    """Whether there are enough of every class to hold some back."""
    return len(labels) >= _ENOUGH_TO_STOP and np.bincount(labels).min() > 9


def _fit_logistic(
    inputs: np.ndarray,
    labels: np.ndarray,
    num_classes: int,
    weights: np.ndarray | None,
    seed: int,
) -> Params:
    del num_classes, seed
    model = LogisticRegression(max_iter=1000).fit(inputs, labels, weights)
    return {
        "kernel": model.coef_.T.astype(np.float32),
        "bias": model.intercept_.astype(np.float32),
    }


def _logistic_logits(params: Mapping[str, Array], inputs: Array) -> jax.Array:
    return _both_sides(jnp.asarray(inputs) @ params["kernel"] + params["bias"])


def _fit_mlp(
    inputs: np.ndarray,
    labels: np.ndarray,
    num_classes: int,
    weights: np.ndarray | None,
    seed: int,
) -> Params:
    del num_classes
    model = MLPClassifier(
        (64,),
        alpha=1e-3,
        learning_rate_init=3e-3,
        max_iter=200,
        early_stopping=_stops_early(labels),
        random_state=seed,
    )
    with warnings.catch_warnings():
        # It stops after so many epochs, which is meant.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(inputs, labels, weights)
    return {
        f"{name}_{layer}": value.astype(np.float32)
        for name, values in (("kernel", model.coefs_), ("bias", model.intercepts_))
        for layer, value in enumerate(values)
    }


def _mlp_logits(params: Mapping[str, Array], inputs: Array) -> jax.Array:
    hidden = jax.nn.relu(jnp.asarray(inputs) @ params["kernel_0"] + params["bias_0"])
    return _both_sides(hidden @ params["kernel_1"] + params["bias_1"])


def _fit_trees(
    inputs: np.ndarray,
    labels: np.ndarray,
    num_classes: int,
    weights: np.ndarray | None,
    seed: int,
) -> Params:
    del num_classes
    model = HistGradientBoostingClassifier(
        learning_rate=0.1,
        max_iter=_ROUNDS,
        max_depth=_DEPTH,
        max_leaf_nodes=_LEAVES,
        min_samples_leaf=max(2, min(20, len(labels) // 20)),
        early_stopping=_stops_early(labels),
        random_state=seed,
    )
    # Rounded already, so that a row falls on the same side of every threshold here.
    model.fit(np.asarray(inputs, np.float32), labels, weights)
    rounds = [[tree.nodes for tree in trees] for trees in model._predictors]
    # As many leaves and rounds as there can be: programs of other parts are the same.
    width = 2 * _LEAVES - 1

    def table(field: str, dtype: type) -> np.ndarray:
        found: np.ndarray = np.zeros((_ROUNDS, len(rounds[0]), width), dtype)
        for number, trees in enumerate(rounds):
            for output, nodes in enumerate(trees):
                values = nodes[field]
                if field == "num_threshold":
                    values = round_down(values, np.float32)
                found[number, output, : len(nodes)] = values
        return found

    leaf = table("is_leaf", bool)
    # A tree that was not grown is a leaf of value 0.
    leaf[len(rounds) :] = True
    number = np.arange(width, dtype=np.int32)
    return {
        "feature": table("feature_idx", np.int32),
        "threshold": table("num_threshold", np.float32),
        # A leaf leads to itself, so that every row takes as many steps.
        "left": np.where(leaf, number, table("left", np.int32)),
        "right": np.where(leaf, number, table("right", np.int32)),
        "value": table("value", np.float32),
        "baseline": np.asarray(model._baseline_prediction, np.float32).reshape(-1),
    }


def _trees_logits(params: Mapping[str, Array], inputs: Array) -> jax.Array:
    inputs = jnp.asarray(inputs, jnp.float32)
    nodes = {name: params[name] for name in ("feature", "threshold", "left", "right")}

    def of_row(row: jax.Array) -> jax.Array:
        at = jnp.zeros((*params["value"].shape[:2], 1), jnp.int32)

        def read(name: str) -> jax.Array:
            return jnp.take_along_axis(jnp.asarray(nodes[name]), at, axis=2)

        for _ in range(_DEPTH):
            goes_left = row[read("feature")] <= read("threshold")
            at = jnp.where(goes_left, read("left"), read("right"))
        values = jnp.take_along_axis(jnp.asarray(params["value"]), at, axis=2)
        return jnp.asarray(params["baseline"]) + values[..., 0].sum(axis=0)

    return _both_sides(jax.vmap(of_row)(inputs))


def _fit_given(
    inputs: np.ndarray,
    labels: np.ndarray,
    num_classes: int,
    weights: np.ndarray | None,
    seed: int,
) -> Params:
    del labels, weights, seed
    # Which columns they are; a shape, which the function that reads them may ask.
    return {"columns": np.arange(inputs.shape[1] - num_classes, inputs.shape[1])}


def _given_logits(params: Mapping[str, Array], inputs: Array) -> jax.Array:
    return jnp.asarray(inputs)[:, jnp.asarray(params["columns"])]


CLASSIFIERS = {
    "logistic": Classifier(_fit_logistic, _logistic_logits),
    "mlp": Classifier(_fit_mlp, _mlp_logits),
    "trees": Classifier(_fit_trees, _trees_logits),
}
"""Kinds of classifiers by name, the simplest first."""

GIVEN = Classifier(_fit_given, _given_logits)
"""A model of one's own, whose log-probabilities are the last K of the inputs."""


def log_probs(class_probs: np.ndarray) -> np.ndarray:
    """Log-probabilities that stay finite, float32 ``[N, K]``."""
    return np.log(np.maximum(class_probs, _LEAST_PROB)).astype(np.float32)


def stack(members: list[Params]) -> Params:
    """Classifiers of one kind on a leading axis, ``[J, ...]``."""
    return {name: np.stack([m[name] for m in members]) for name in members[0]}


def mean_log_probs(
    kind: Classifier, params: Mapping[str, Array], inputs: Array
) -> Array:
    """Logarithm of the members' mean probabilities, float ``[B, K]``.

    Args:
      kind: of the classifiers.
      params: of all members, each ``[J, ...]``, from `stack`.
      inputs: float ``[B, D]``.
    """

    def of_member(member: Mapping[str, Array]) -> jax.Array:
        return jax.nn.softmax(kind.logits(member, inputs), axis=1)

    probs = jnp.mean(jax.lax.map(of_member, params), axis=0)
    return jnp.log(jnp.maximum(probs, _LEAST_PROB))
