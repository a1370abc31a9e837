"""The few types that every part of the library shares. No logic lives here.

Axes used throughout: B examples, K classes, A actions, M experts, R runs, G groups.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

import jax
import numpy as np

Array: TypeAlias = jax.Array | np.ndarray
PyTree: TypeAlias = Any
HParams: TypeAlias = Mapping[str, jax.Array]
"""Traced hyperparameters by name: what changes no shape, each ``[]``."""


class Dataset(NamedTuple):
    """Examples, their labels and what the experts said; a batch has the same form.

    An example of weight 0 counts for nothing, whatever its row holds.

    Attributes:
      inputs: features or images, ``[B, ...]``.
      labels: class of each example, int ``[B]``, in [0, K).
      expert_labels: answers of the experts, int ``[B, M]``, in [0, K); -1 where an
        expert was not asked, which has no part in any loss, vote, mean or metric.
      groups: sensitive group of each example, int ``[B]``.
      weights: weight of each example, float ``[B]``; 0 for padding.
      expert_correct: imputed probability that each expert is right, float ``[B, M]``,
        in [0, 1]; NaN where it is not known. Where it is given, methods that need no
        more than that read it in place of answers.
      costs: cost of each action to the team, float ``[B, A]``, the classes first and
        then the experts, in the caller's unit; lower is better.
      expert_probs: the experts' own probabilities of each class, float ``[B, M, K]``,
        rows sum to 1.
      class_probs: probability of each class under a classifier that is given, trained
        before or yours, float ``[B, K]``, rows sum to 1.
    """

    inputs: Array
    labels: Array
    expert_labels: Array | None = None
    groups: Array | None = None
    weights: Array | None = None
    expert_correct: Array | None = None
    costs: Array | None = None
    expert_probs: Array | None = None
    class_probs: Array | None = None


Batch: TypeAlias = Dataset


class Decision(NamedTuple):
    """What a system does with each input; every offline method ends in one.

    Experts stand in their order; in an allocation the classifier is last.

    Attributes:
      class_probs: probability of each class under the classifier, float ``[B, K]``,
        rows sum to 1.
      expert_correct_prob: estimated probability that each expert is right, float
        ``[B, M]``, in [0, 1]; NaN where a method makes no estimate.
      defer_score: inclination to ask each expert, float ``[B, M]``; the method's own
        rule asks the expert of the greatest score where that is > 0.
      allocation: weight of each expert and of the classifier in the answer, float
        ``[B, M + 1]``, in [0, 1], rows sum to 1: one-hot where one answers, soft where
        several vote.
    """

    class_probs: Array
    expert_correct_prob: Array
    defer_score: Array
    allocation: Array


class Variables(NamedTuple):
    """What a trained model is made of.

    Attributes:
      params: parameters, a pytree of float arrays.
      model_state: what the model keeps besides (batch-norm statistics), a pytree.
    """

    params: PyTree
    model_state: PyTree


class TrainState(NamedTuple):
    """State of one run of stochastic training.

    Attributes:
      variables: parameters and model state.
      opt_state: optimizer state, a pytree.
      key: the run's own randomness, a PRNG key ``[]``.
      step: updates done, int32 ``[]``.
    """

    variables: Variables
    opt_state: PyTree
    key: jax.Array
    step: jax.Array


class ModelFns(NamedTuple):
    """A network as two pure functions.

    Attributes:
      init: ``(key, inputs [B, ...]) -> (params, model_state)``.
      apply: ``(params, model_state, inputs [B, ...], train) -> (outputs [B, O],
          model_state)``; ``train`` is a Python bool. A network with a state also takes
          ``weights``, ``[B]``: a row of weight 0 is in no statistic of a batch.
    """

    init: Callable[..., tuple[PyTree, PyTree]]
    apply: Callable[..., tuple[jax.Array, PyTree]]


class Learner(NamedTuple):
    """A method: three pure functions, offline and closed-loop learners alike.

    Attributes:
      init: ``(key, hparams, batch) -> TrainState``; the batch gives shapes only.
      update: ``(state, hparams, batch) -> (TrainState, metrics)``; metrics are scalars
          by name and include ``loss``.
      predict: ``(variables, hparams, inputs [B, ...]) -> pytree of [B, ...]``; a
          `Decision` where the method is a whole system.
    """

    init: Callable[[jax.Array, HParams, Batch], TrainState]
    update: Callable[
        [TrainState, HParams, Batch], tuple[TrainState, dict[str, jax.Array]]
    ]
    predict: Callable[[Variables, HParams, Array], PyTree]


class Sweep(NamedTuple):
    """Many runs on one flat axis.

    Attributes:
      seeds: seed of each run, int ``[R]``.
      hparams: value of each hyperparameter in each run, by name, ``[R]``.
    """

    seeds: np.ndarray
    hparams: dict[str, np.ndarray]
