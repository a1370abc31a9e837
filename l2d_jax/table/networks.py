"""The networks of a table's methods, those of all parts of it trained as one sweep."""

import functools
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from l2d_jax import models, optimizers
from l2d_jax.engine import orders, placement, sweeps, training
from l2d_jax.engine.chunks import Progress
from l2d_jax.learners.gradient import make_gradient_learner
from l2d_jax.table.methods import Method
from l2d_jax.types import Array, Batch, Dataset, HParams, PyTree, Sweep

_VALID_FRACTION = 0.15
# Cases that a network is trained on at most. Of a table of ten features three times as
# many as 50,000 made teams righter by a thousandth.
_ENOUGH_CASES = 200_000


class Part(NamedTuple):
    """Cases that a team is fitted to.

    Attributes:
      inputs: what the networks read, float32 ``[N, D]``.
      labels: int32 ``[N]``.
      class_probs: of the classifier, float32 ``[N, K]``, of each case by members that
        were fitted without it.
      correct: whether each person is right where they answered, and how likely they
        are where not, float32 ``[J, N, M]``: as far as is known without each fold.
      weights: of the cases, float32 ``[N]``.
      folds: int ``[N]``, in [0, J): the networks of fold j are trained without it.
    """

    inputs: np.ndarray
    labels: np.ndarray
    class_probs: np.ndarray
    correct: np.ndarray
    weights: np.ndarray
    folds: np.ndarray


class Training(NamedTuple):
    """How the networks are trained; silence of the literature on tables is filled here.

    Attributes:
      hidden: units of each hidden layer.
      learning_rate: of Adam.
      num_epochs: at most.
      patience: epochs without a lower loss on a seventh of the cases, held back for
        that, after which a network is done.
      batch_size: cases of a minibatch at most; a twentieth of the cases where that is
        less, and 16 at least.
    """

    hidden: tuple[int, ...] = (32,)
    learning_rate: float = 3e-3
    num_epochs: int = 60
    patience: int = 10
    batch_size: int = 128


def train(
    method: Method,
    parts: Sequence[Part],
    price: float,
    how: Training,
    seed: int,
    *,
    checkpoint_dir: pathlib.Path | None = None,
    report: Callable[[Progress], None] = lambda progress: None,
) -> list[PyTree]:
    """Parameters of the networks of each part, ``[J, ...]``, all of one shape.

    Args:
      method: with a loss.
      parts: as wide as one another and with as many folds.
      price: of asking anybody, in errors; read where a method takes one price.
      how: see `Training`.
      seed: of the sweep.
      checkpoint_dir: as in `l2d_jax.engine.sweeps.run_sweep`.
      report: likewise.

    Raises:
      FloatingPointError: a network diverged.
    """
    assert method.batch_loss is not None
    num_classes = parts[0].class_probs.shape[1]
    num_people = parts[0].correct.shape[2]
    model = network(method, num_classes, num_people, how)
    batch_loss = method.batch_loss
    learner = make_gradient_learner(
        model,
        optimizers.make_adam(),
        batch_loss,
        lambda outputs, hparams: outputs,
    )

    def score(outputs: PyTree, batch: Batch, hparams: HParams) -> Array:
        return -batch_loss(outputs, batch, hparams, jax.random.key(0))

    program = training.Program(
        learner,
        lambda key, hparams, pool: pool,
        score,
        how.num_epochs,
        how.patience,
    )
    folds = _split(parts, seed)
    num_runs = len(folds)
    sweep = Sweep(
        np.arange(num_runs, dtype=np.int32),
        {
            "learning_rate": np.full(num_runs, how.learning_rate, np.float32),
            "price": np.full(num_runs, price, np.float32),
            "expert_weight": np.ones(num_runs, np.float32),
        },
    )
    smallest = min(len(fold.train) for fold in folds)
    result = sweeps.run_sweep(
        program,
        sweep,
        _pool(parts),
        root_seed=seed,
        split=lambda run: folds[run],
        batch_size=min(how.batch_size, max(16, smallest // 20), smallest),
        where=placement.default_placement("dense"),
        epochs_per_dispatch=10,
        checkpoint_dir=checkpoint_dir,
        report=report,
    )
    if result.diverged.any():
        raise FloatingPointError(
            f"{int(result.diverged.sum())} of {num_runs} networks diverged"
        )
    per_part = num_runs // len(parts)
    return [
        jax.tree.map(
            lambda leaf, at=at: leaf[at * per_part : (at + 1) * per_part],
            result.variables.params,
        )
        for at in range(len(parts))
    ]


def network(method: Method, num_classes: int, num_people: int, how: Training):
    """The network of a method, see `l2d_jax.types.ModelFns`."""
    return models.mlp(how.hidden, method.num_outputs(num_classes, num_people))


def mean_outputs(model, params: PyTree, inputs: Array) -> jax.Array:
    """Mean outputs of some networks, float ``[B, O]``; pure.

    Args:
      model: of all of them, from `network`.
      params: theirs, ``[J, ...]``.
      inputs: float ``[B, D]``.
    """

    def of_member(member: PyTree) -> jax.Array:
        return model.apply(member, {}, inputs, False)[0]

    return jnp.mean(jax.lax.map(of_member, params), axis=0)


@functools.partial(jax.jit, static_argnums=0)
def outputs_of(model, member: PyTree, inputs: Array) -> jax.Array:
    """Outputs of one network."""
    return model.apply(member, {}, inputs, False)[0]


def _pool(parts: Sequence[Part]) -> Dataset:
    """What each network is trained on, below one another."""
    rows = [
        Dataset(
            inputs=part.inputs[kept],
            labels=part.labels[kept],
            weights=part.weights[kept],
            expert_correct=part.correct[fold][kept],
            class_probs=part.class_probs[kept],
        )
        for part, fold, kept in _trained_on(parts)
    ]
    return jax.tree.map(lambda *columns: np.concatenate(columns), *rows)


def _trained_on(
    parts: Sequence[Part],
) -> Iterator[tuple[Part, int, np.ndarray]]:
    """Part, fold that is left out, and rows that are left, of each network in turn.

    Of very many rows a draw that is the same each time.
    """
    for part in parts:
        for fold in range(len(part.correct)):
            kept = np.flatnonzero(part.folds != fold)
            if len(kept) > _ENOUGH_CASES:
                drawn = np.random.default_rng(fold).permutation(kept)
                kept = np.sort(drawn[:_ENOUGH_CASES])
            yield part, fold, kept


def _split(parts: Sequence[Part], seed: int) -> list[orders.Fold]:
    """What each network trains and validates on: rows of the pool, all as many.

    Parts differ by a few cases; shorter lists are filled up with cases drawn from them.
    """
    drawn = []
    first = 0
    for number, (_, _, kept) in enumerate(_trained_on(parts)):
        rng = np.random.default_rng([seed, number])
        rows = first + rng.permutation(len(kept))
        num_valid = max(1, round(len(rows) * _VALID_FRACTION))
        drawn.append((rng, rows[num_valid:], rows[:num_valid]))
        first += len(kept)
    num_train = max(len(train) for _, train, _ in drawn)
    num_valid = max(len(valid) for _, _, valid in drawn)

    def fill(rng: np.random.Generator, rows: np.ndarray, size: int) -> np.ndarray:
        more = rng.choice(rows, size - len(rows))
        return np.concatenate([rows, more]).astype(np.int32)

    return [
        orders.Fold(fill(rng, train, num_train), fill(rng, valid, num_valid))
        for rng, train, valid in drawn
    ]
