"""Many runs on one flat axis: the grid, the chunks, and going on after a stop.

A sweep is cut into chunks. The runs of a chunk train together, some epochs a dispatch;
between dispatches the runs that have stopped are taken out and, when few are left, the
rest go on in a narrower program. A chunk's progress, and its results, are checkpoints:
a sweep started again with the same arguments goes on from the last of them and ends
with the same results. What a run computes is a function of its seed and
hyperparameters; the chunk and the device it lands on change nothing but rounding.
"""

import itertools
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from l2d_jax import checkpoints, orders, placement, training
from l2d_jax.types import Array, Dataset, HParams, PyTree, Sweep, Variables

# A block of runs of one seed shares its minibatches, so that the first layer is one
# matrix product for all of them; below this many runs it is not worth the padding.
_MIN_RUNS_SHARING_ORDER = 8


class Interrupted(Exception):
    """The caller asked to stop; what was done is in the checkpoints."""


class SweepResult(NamedTuple):
    """What is left of each run, NumPy arrays with a leading run axis.

    Attributes:
      variables: those with the best validation score, pytree of ``[R, ...]``.
      score: that score, float ``[R]``; -inf for a run that diverged in its first epoch.
      best_epoch: epochs done when it was reached, int ``[R]``.
      epochs: epochs done in all, int ``[R]``.
      diverged: whether a loss or parameter was not finite, bool ``[R]``.
    """

    variables: Variables
    score: np.ndarray
    best_epoch: np.ndarray
    epochs: np.ndarray
    diverged: np.ndarray


class Progress(NamedTuple):
    """How far a sweep is.

    Attributes:
      done: epochs done, over all runs; an early stop counts as its epochs done.
      total: epochs at most, over all runs.
      message: anything out of the ordinary, or empty.
    """

    done: int
    total: int
    message: str = ""


def grid(
    seeds: Sequence[int], hparams: Mapping[str, Sequence[float] | np.ndarray]
) -> Sweep:
    """Every combination of the values, for every seed; runs of a seed are neighbours.

    Args:
      seeds: distinct, >= 0, at least one.
      hparams: values of each hyperparameter by name, at least one each.

    Raises:
      ValueError: nothing to run, or a seed twice.
    """
    if not len(seeds):
        raise ValueError("seeds is empty; give at least one")
    if len(set(seeds)) != len(seeds) or min(seeds) < 0:
        raise ValueError(f"seeds must be distinct and >= 0, got {tuple(seeds)}")
    for name, values in hparams.items():
        if not len(values):
            raise ValueError(f"hyperparameter {name} has no value; give at least one")
    combinations = list(itertools.product(*hparams.values()))
    columns = zip(*combinations, strict=True) if hparams else ()
    return Sweep(
        seeds=np.repeat(np.asarray(seeds, np.int32), len(combinations)),
        hparams={
            name: np.tile(np.asarray(column, np.float32), len(seeds))
            for name, column in zip(hparams, columns, strict=True)
        },
    )


def plan_chunks(
    seeds: np.ndarray, num_devices: int, runs_per_device: int
) -> tuple[list[np.ndarray], bool]:
    """Cut a sweep into chunks of one block of runs a device.

    Args:
      seeds: seed of each run, int ``[R]``.
      num_devices: D, blocks in a chunk.
      runs_per_device: runs in a block at most.

    Returns:
      The chunks, each the runs' numbers as int ``[D, W]`` with -1 for padding, and
      whether every block holds runs of one seed only.
    """
    by_seed = [np.flatnonzero(seeds == seed) for seed in np.unique(seeds)]
    share = min(map(len, by_seed)) >= _MIN_RUNS_SHARING_ORDER and runs_per_device > 1
    groups = by_seed if share else [np.arange(len(seeds))]
    # Where there are fewer groups than devices, each is cut so that all are busy.
    least = -(-num_devices // len(groups))
    blocks: list[np.ndarray] = []
    for group in groups:
        parts = max(-(-len(group) // runs_per_device), min(least, len(group)))
        blocks += np.array_split(group, parts)
    width = max(map(len, blocks))
    blocks += [np.empty(0, int)] * (-len(blocks) % num_devices)
    padded = np.full((len(blocks), width), -1)
    for row, block in zip(padded, blocks, strict=True):
        row[: len(block)] = block
    return list(padded.reshape(-1, num_devices, width)), share


def run_sweep(
    program: training.Program,
    sweep: Sweep,
    pool: Dataset,
    *,
    root_seed: int,
    valid_fraction: float,
    batch_size: int,
    where: placement.Placement,
    epochs_per_dispatch: int = 1,
    checkpoint_dir: pathlib.Path | None = None,
    checkpoint_seconds: float = 30.0,
    report: Callable[[Progress], None] = lambda progress: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> SweepResult:
    """Train every run of a sweep.

    Args:
      program: what all runs share.
      sweep: seeds and hyperparameters of the runs.
      pool: training and validation examples, NumPy arrays ``[N, ...]``.
      root_seed: seed of the sweep's key; a run's own seed is folded into it.
      valid_fraction: share of the pool to validate on, in (0, 1).
      batch_size: examples of a minibatch.
      where: placement of the runs.
      epochs_per_dispatch: epochs a compiled call runs, at most.
      checkpoint_dir: folder for checkpoints; None keeps none.
      checkpoint_seconds: least time between two checkpoints of a chunk.
      report: called after every dispatch.
      should_stop: asked after every dispatch.

    Raises:
      Interrupted: ``should_stop`` said so; a checkpoint was written first.
      ValueError: an argument does not fit the data.
    """
    folds = {
        int(seed): orders.split_pool(int(seed), len(pool.labels), valid_fraction)
        for seed in np.unique(sweep.seeds)
    }
    for fold in folds.values():
        # For its error: a batch that does not fit is found before anything compiles.
        orders.epoch_orders(0, 0, 1, fold.train, batch_size)
    chunks, share = plan_chunks(sweep.seeds, where.num_devices, where.runs_per_device)
    # Dispatches of equal length, rounded up: one program serves them all.
    num_dispatches = -(-program.num_epochs // epochs_per_dispatch)
    per_dispatch = -(-program.num_epochs // num_dispatches)
    engine = _Engine(
        program, sweep, pool, root_seed, batch_size, folds, where, share, per_dispatch
    )
    total = len(sweep.seeds) * program.num_epochs
    finished: dict[str, PyTree] = {}
    done = 0
    for number, members in enumerate(chunks):
        store = _ChunkStore(checkpoint_dir, number, members, checkpoint_seconds)
        result, damage = store.load_result(engine)
        for message in damage:
            report(Progress(done, total, message))
        if result is None:
            result = _run_chunk(
                engine, members, store, done, total, report, should_stop
            )
        runs = members[members >= 0]
        if not finished:
            finished = jax.tree.map(
                lambda leaf: np.zeros((len(sweep.seeds), *leaf.shape[1:]), leaf.dtype),
                result,
            )

        def scatter(
            into: np.ndarray, leaf: np.ndarray, runs: np.ndarray = runs
        ) -> None:
            into[runs] = leaf

        jax.tree.map(scatter, finished, result)
        done += len(runs) * program.num_epochs
        report(Progress(done, total))
    return SweepResult(**finished)


class _Engine:
    """The compiled programs of a sweep and the arguments that all chunks share."""

    def __init__(
        self,
        program: training.Program,
        sweep: Sweep,
        pool: Dataset,
        root_seed: int,
        batch_size: int,
        folds: dict[int, orders.Fold],
        where: placement.Placement,
        share: bool,
        epochs_per_dispatch: int,
    ):
        self.program, self.sweep, self.folds = program, sweep, folds
        self.batch_size, self.share = batch_size, share
        self.epochs_per_dispatch = epochs_per_dispatch
        order_axis = "b" if share else "r"

        def start(*args: Any) -> training.RunState:
            return training.start(program, *args)

        def advance(*args: Any) -> training.RunState:
            return training.advance(program, *args)

        self._start = placement.place(start, where, "srrs")
        self._advance = placement.place(
            advance, where, "srrrs" + 2 * order_axis, donate=(3,)
        )
        self._root = self._start.put_shared(jax.random.key(root_seed))
        self._pool = self._start.put_shared(pool)

    def run_arguments(self, members: np.ndarray) -> tuple[PyTree, PyTree]:
        """Seeds and hyperparameters of a chunk; padding repeats a run of the sweep."""
        runs = np.maximum(members.ravel(), 0)
        hparams = {name: value[runs] for name, value in self.sweep.hparams.items()}
        return self._start.put_runs((self.sweep.seeds[runs], hparams))

    def start(self, members: np.ndarray) -> training.RunState:
        """State of a chunk before its first epoch; padding is inactive."""
        seeds, hparams = self.run_arguments(members)
        state = self._start.run(self._root, seeds, hparams, self._pool)
        active = self._start.put_runs(members.ravel() >= 0)
        return state._replace(active=active)

    def advance(
        self, members: np.ndarray, state: training.RunState, first_epoch: int
    ) -> training.RunState:
        """State of a chunk some epochs later."""
        seeds, hparams = self.run_arguments(members)
        leaders = np.maximum(members[:, :1] if self.share else members, 0).ravel()
        of_seed: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        for seed in np.unique(self.sweep.seeds[leaders]):
            fold = self.folds[int(seed)]
            order = orders.epoch_orders(
                int(seed),
                first_epoch,
                self.epochs_per_dispatch,
                fold.train,
                self.batch_size,
            )
            of_seed[int(seed)] = (order, fold.valid)
        rows = [of_seed[int(seed)] for seed in self.sweep.seeds[leaders]]
        order, valid = (np.stack(column) for column in zip(*rows, strict=True))
        return self._advance.run(
            self._root,
            seeds,
            hparams,
            state,
            self._pool,
            self._advance.put_runs(order),
            self._advance.put_runs(valid),
        )

    def put(self, state: training.RunState) -> training.RunState:
        """A state that was taken off the devices, back on them."""
        train = state.train
        train = train._replace(key=jax.random.wrap_key_data(jnp.asarray(train.key)))
        return self._start.put_runs(state._replace(train=train))

    def like(self, members: np.ndarray) -> training.RunState:
        """Shapes of a chunk's state off the devices."""
        seeds, hparams = self.run_arguments(members)
        shapes = jax.eval_shape(self._start.run, self._root, seeds, hparams, self._pool)
        key = jax.eval_shape(jax.random.key_data, shapes.train.key)
        return shapes._replace(train=shapes.train._replace(key=key))


def _fetch(state: training.RunState) -> training.RunState:
    """The state as NumPy arrays, its keys as their data."""
    key = jax.random.key_data(state.train.key)
    state = state._replace(train=state.train._replace(key=key))
    return jax.tree.map(np.array, state)


def _keep(state: training.RunState) -> dict[str, PyTree]:
    """What a `SweepResult` keeps of a state."""
    return {
        "variables": state.best,
        "score": state.best_score,
        "best_epoch": state.best_epoch,
        "epochs": state.epoch,
        "diverged": state.diverged,
    }


def _run_chunk(
    engine: _Engine,
    members: np.ndarray,
    store: "_ChunkStore",
    done_before: int,
    total: int,
    report: Callable[[Progress], None],
    should_stop: Callable[[], bool],
) -> dict[str, PyTree]:
    """Train a chunk to its end; its kept results, in the order of its real runs."""
    program = engine.program
    slots = {int(run): slot for slot, run in enumerate(members[members >= 0])}
    loaded, damage = store.load_progress(engine, len(slots))
    for message in damage:
        report(Progress(done_before, total, message))
    if loaded is None:
        state = engine.start(members)
        shapes = _keep(engine.like(members))
        kept = jax.tree.map(
            lambda leaf: np.zeros((len(slots), *leaf.shape[1:]), leaf.dtype), shapes
        )
        epoch = 0
    else:
        members, host_state, kept, epoch = loaded
        state = engine.put(host_state)

    def settle(host: training.RunState, members: np.ndarray) -> None:
        runs = members.ravel()
        into = np.array([slots[int(run)] for run in runs[runs >= 0]], int)

        def write(kept_leaf: np.ndarray, leaf: np.ndarray) -> None:
            kept_leaf[into] = leaf[runs >= 0]

        jax.tree.map(write, kept, _keep(host))

    while True:
        active = np.asarray(state.active).reshape(members.shape)
        if not active.any():
            break
        needed = int(active.sum(axis=1).max())
        if epoch and 2 * needed <= members.shape[1]:
            host = _fetch(state)
            settle(host, members)
            members, host = _narrow(members, host, active, needed)
            state = engine.put(host)
        state = engine.advance(members, state, epoch)
        epoch += engine.epochs_per_dispatch
        epochs = np.asarray(state.epoch)[members.ravel() >= 0]
        left = len(slots) - len(epochs)
        done = done_before + int(epochs.sum()) + left * program.num_epochs
        report(Progress(done, total))
        stop = should_stop()
        if stop or store.is_due():
            host = _fetch(state)
            settle(host, members)
            store.save_progress(members, host, kept, epoch)
        if stop:
            raise Interrupted
    settle(_fetch(state), members)
    store.save_result(kept)
    return kept


def _narrow(
    members: np.ndarray,
    state: training.RunState,
    active: np.ndarray,
    needed: int,
) -> tuple[np.ndarray, training.RunState]:
    """Active runs only, in blocks of the smallest halved width that holds them."""
    num_blocks, old_width = members.shape
    width = old_width
    while 2 * needed <= width:
        width = -(-width // 2)
    # Stable, so active runs come first and keep their order; the rest is padding.
    columns = np.argsort(~active, axis=1, kind="stable")[:, :width]
    flat = (np.arange(num_blocks)[:, None] * old_width + columns).ravel()
    narrowed = np.where(
        np.take_along_axis(active, columns, axis=1),
        np.take_along_axis(members, columns, axis=1),
        -1,
    )
    return narrowed, jax.tree.map(lambda leaf: leaf[flat], state)


class _ChunkStore:
    """A chunk's files: its progress, and at the end its result."""

    def __init__(
        self,
        folder: pathlib.Path | None,
        number: int,
        members: np.ndarray,
        checkpoint_seconds: float,
    ):
        self._members = members
        self._result = folder and folder.absolute() / f"chunk_{number:04d}"
        self._progress: pathlib.Path | None = None
        self._seconds = checkpoint_seconds
        self._last = time.monotonic()

    def is_due(self) -> bool:
        return (
            self._result is not None and time.monotonic() - self._last >= self._seconds
        )

    def save_progress(
        self,
        members: np.ndarray,
        state: training.RunState,
        kept: dict[str, PyTree],
        epoch: int,
    ) -> None:
        if self._result is None:
            return
        path = self._result.with_name(f"{self._result.name}_epoch_{epoch:06d}")
        tree = {"state": state, "kept": kept}
        info = {
            "chunk": self._members.tolist(),
            "members": members.tolist(),
            "epoch": epoch,
        }
        checkpoints.save(path, tree, info)
        if self._progress is not None:
            checkpoints.remove(self._progress)
        self._progress, self._last = path, time.monotonic()

    def save_result(self, kept: dict[str, PyTree]) -> None:
        if self._result is None:
            return
        checkpoints.save(self._result, kept, {"chunk": self._members.tolist()})
        # With what was cut short by a kill and never became a checkpoint.
        for path in self._result.parent.glob(f"{self._result.name}_epoch_*"):
            checkpoints.remove(path)

    def load_result(
        self, engine: _Engine
    ) -> tuple[dict[str, PyTree] | None, list[str]]:
        if self._result is None or not checkpoints.exists(self._result):
            return None, []
        info, damage = self._read_info(self._result)
        if info is None:
            return None, damage
        num_runs = int((self._members >= 0).sum())
        like = _resized(_keep(engine.like(self._members)), num_runs)
        return checkpoints.restore(self._result, like), []

    def load_progress(
        self, engine: _Engine, num_runs: int
    ) -> tuple[
        tuple[np.ndarray, training.RunState, dict[str, PyTree], int] | None, list[str]
    ]:
        damage: list[str] = []
        for path in sorted(self._progress_paths(), reverse=True):
            info, messages = self._read_info(path)
            damage += messages
            if info is None:
                checkpoints.remove(path)
                continue
            members = np.array(info["members"])
            state = engine.like(members)
            like = {"state": state, "kept": _resized(_keep(state), num_runs)}
            tree = checkpoints.restore(path, like)
            self._progress = path
            return (members, tree["state"], tree["kept"], info["epoch"]), damage
        return None, damage

    def _read_info(self, path: pathlib.Path) -> tuple[dict[str, Any] | None, list[str]]:
        """What was kept with a checkpoint, or why it is of no use."""
        try:
            info = checkpoints.read_info(path)
        except checkpoints.DamagedCheckpointError as error:
            return None, [f"damaged checkpoint, its runs start again: {error}"]
        if info["chunk"] != self._members.tolist():
            return None, [f"checkpoint for other devices, its runs start again: {path}"]
        return info, []

    def _progress_paths(self) -> list[pathlib.Path]:
        if self._result is None:
            return []
        found = self._result.parent.glob(f"{self._result.name}_epoch_*.json")
        return [path.with_suffix("") for path in found]


def _resized(tree: PyTree, length: int) -> PyTree:
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct((length, *leaf.shape[1:]), leaf.dtype), tree
    )


def predict_runs(
    program: training.Program,
    sweep: Sweep,
    variables: Variables,
    inputs: Array,
    index: np.ndarray,
    *,
    where: placement.Placement,
) -> PyTree:
    """Predictions of every run, pytree of NumPy arrays ``[R, B, ...]``.

    Args:
      program: what all runs share.
      sweep: the runs.
      variables: of each run, pytree of ``[R, ...]``.
      inputs: all inputs, ``[N, ...]``.
      index: which of them each run predicts, int ``[R, B]``.
      where: placement of the runs.
    """

    def predict(
        variables: Variables, hparams: HParams, inputs: Array, index: Array
    ) -> PyTree:
        return training.predict(program, variables, hparams, inputs, index)

    placed = placement.place(predict, where, "rrsr")
    inputs = placed.put_shared(inputs)
    width = min(
        where.num_devices * where.runs_per_device,
        -(-len(index) // where.num_devices) * where.num_devices,
    )
    parts = []
    for first in range(0, len(index), width):
        # The last part is filled up with its last run, which is then cut off.
        runs = np.minimum(np.arange(first, first + width), len(index) - 1)
        mapped = (variables, sweep.hparams, index)
        mapped = jax.tree.map(lambda leaf, runs=runs: leaf[runs], mapped)
        run_variables, hparams, run_index = placed.put_runs(mapped)
        outputs = placed.run(run_variables, hparams, inputs, run_index)
        count = min(width, len(index) - first)
        parts.append(jax.tree.map(lambda leaf, n=count: np.asarray(leaf)[:n], outputs))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)


def annotate_runs(
    annotate: Callable[[jax.Array, HParams, Dataset], Dataset],
    sweep: Sweep,
    dataset: Dataset,
    index: np.ndarray,
    root_seed: int,
) -> np.ndarray:
    """Expert labels that each run's own expert gives, NumPy int ``[R, B, M]``.

    Args:
      annotate: as in `l2d_jax.training.Program`, but of the run's own key: apply
          `l2d_jax.training.annotate_pool` or ``annotate_test`` to it first.
      sweep: the runs.
      dataset: all examples, ``[N, ...]``.
      index: which of them, for each run, int ``[R, B]``.
      root_seed: as in `run_sweep`.
    """

    def labels_of(
        root: jax.Array, seed: Array, hparams: HParams, dataset: Dataset, index: Array
    ) -> Array:
        answers = annotate(training.run_key(root, seed), hparams, dataset).expert_labels
        if answers is None:
            raise ValueError("annotate gave no expert_labels")
        return jnp.take(answers, index, axis=0)

    mapped = jax.jit(jax.vmap(labels_of, (None, 0, 0, None, 0)))
    # The inputs have no part in it and need not travel.
    dataset = dataset._replace(inputs=dataset.labels)
    root = jax.random.key(root_seed)
    return np.asarray(mapped(root, sweep.seeds, sweep.hparams, dataset, index))


def select(sweep: Sweep, runs: Any) -> Sweep:
    """The sweep's runs at ``runs``, an int or bool index."""
    hparams = {name: value[runs] for name, value in sweep.hparams.items()}
    return Sweep(sweep.seeds[runs], hparams)
