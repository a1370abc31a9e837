"""What methods are compared on: examples, experts, and how seeds divide them."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from l2d_jax.engine import orders, training
from l2d_jax.types import Array, Batch, Dataset, Decision, HParams


class Traits(NamedTuple):
    """What a method may need of a problem, known before anything is loaded.

    Attributes:
      num_classes: K; 0 where there are actions with costs and no classes.
      num_experts: M, of one run.
      num_groups: G, of sensitive groups or categories; 0 for none.
      sparse: whether experts have answered some of the examples and not all.
      people: whether a run's expert is a person of few answers, whom an imputer models
        before any method learns to defer to them.
      costs: whether every action has a cost.
      hidden: whether the experts see inputs that the model does not.
      law: whether the best rule is known.
      few: whether a seed trains on so few examples that an integer program takes them,
        at the default scale of its config; what is loaded is counted.
    """

    num_classes: int
    num_experts: int = 1
    num_groups: int = 0
    sparse: bool = False
    people: bool = False
    costs: bool = False
    hidden: bool = False
    law: bool = False
    few: bool = False


class Teams(NamedTuple):
    """Whom the runs may defer to: T teams, each of one seed.

    Attributes:
      seeds: int ``[T]``; teams of a seed are neighbours.
      hparams: what tells a run's experts, by name, ``[T]``; traced.
      columns: what tables say of a team, by name, ``[T]``.
    """

    seeds: np.ndarray
    hparams: dict[str, np.ndarray]
    columns: dict[str, list[Any]]


def _as_it_is(dataset: Dataset, hparams: HParams) -> Dataset:
    del hparams
    return dataset


def annotate_with_nobody(key: Array, hparams: HParams, dataset: Dataset) -> Dataset:
    """The examples as they are, where nothing of them is a run's own."""
    del key, hparams
    return dataset


class Problem(NamedTuple):
    """A problem as it is loaded.

    Attributes:
      name: as in tables.
      traits: what it has.
      pool: examples to train and validate on, NumPy arrays ``[N, ...]``.
      test: examples to report on, of the same form; may be those of the pool, of which
        a seed's ``test_rows`` are in neither of its other parts.
      teams: ``num_seeds -> Teams``.
      annotate: gives a run's expert answers; see `l2d_jax.engine.training.Annotate`.
      view: ``(batch, hparams) -> batch``: chooses what is the run's own of a batch that
        all runs of a seed share.
      split: ``seed -> Fold`` of the pool.
      test_rows: ``seed -> rows`` of the test part; None takes all.
      slices: parts that are reported on their own, by name: bool, of pool and test.
      subgroups: subgroup of each example, int, of pool and test, of which the least
        accurate is reported; None reports none.
      num_subgroups: how many.
      inputs_by_seed: whether ``inputs`` have an axis of seeds after the examples.
      hidden: inputs of pool and test as the experts see them, where they see more.
      law: the best rule, ``(inputs, hparams) -> Decision``.
      augment: as in `l2d_jax.learners.gradient.make_gradient_learner`.
      preprocess: likewise.
      classifier: ``inputs [B, ...] -> class_probs [B, K]``: one that is given, in whose
        place none is trained; None trains one.
      columns: what tables say of the whole problem, by name.
      folder: of its checkpoints, below those of the experiment.
      num_cases: test cases of a run, where they are not the rows of the test part.
      unit_columns: columns of a team that tell repetitions apart and not settings,
        such as who the person is.
      sampled: what the intervals of means are over: ``seeds and cases``; ``seeds``,
        where each has cases of its own; ``people``, of whom each is one value, the mean
        over seeds; or ``splits`` of one data set. See `experiments.summaries`.
      test_to_train: of splits, size of the test part over that of the rest.
    """

    name: str
    traits: Traits
    pool: Dataset
    test: Dataset
    teams: Callable[[int], Teams]
    split: Callable[[int], orders.Fold]
    annotate: training.Annotate = annotate_with_nobody
    view: Callable[[Batch, HParams], Batch] = _as_it_is
    test_rows: Callable[[int], np.ndarray] | None = None
    slices: Mapping[str, tuple[np.ndarray, np.ndarray]] = {}
    subgroups: tuple[np.ndarray, np.ndarray] | None = None
    num_subgroups: int = 0
    inputs_by_seed: bool = False
    hidden: tuple[np.ndarray, np.ndarray] | None = None
    law: Callable[[Array, HParams], Decision] | None = None
    augment: Callable[..., Any] | None = None
    preprocess: Callable[..., Any] | None = None
    classifier: Callable[[Array], Array] | None = None
    columns: Mapping[str, Any] = {}
    folder: str = ""
    num_cases: int | None = None
    unit_columns: tuple[str, ...] = ()
    sampled: str = "seeds and cases"
    test_to_train: float = 0.0


def split_at_random(size: int, valid_fraction: float) -> Callable[[int], orders.Fold]:
    """Every seed validates on a fraction of the pool, drawn at random."""
    return functools.partial(
        orders.split_pool, num_examples=size, valid_fraction=valid_fraction
    )


def every_value(name: str, values: tuple[Any, ...]) -> Callable[[int], Teams]:
    """A team for each seed and value of a hyperparameter, which tables show."""

    def teams(num_seeds: int) -> Teams:
        seeds = np.repeat(np.arange(num_seeds, dtype=np.int32), len(values))
        column = np.tile(np.asarray(values, np.float32), num_seeds)
        return Teams(seeds, {name: column}, {name: [*values] * num_seeds})

    return teams


def every_name(name: str, names: tuple[str, ...]) -> Callable[[int], Teams]:
    """A team for each seed and name; the hyperparameter is the name's number."""

    def teams(num_seeds: int) -> Teams:
        seeds = np.repeat(np.arange(num_seeds, dtype=np.int32), len(names))
        column = np.tile(np.arange(len(names), dtype=np.int32), num_seeds)
        return Teams(seeds, {name: column}, {name: [*names] * num_seeds})

    return teams


def one_team(num_seeds: int) -> Teams:
    """The same experts at every seed."""
    return Teams(np.arange(num_seeds, dtype=np.int32), {}, {})
