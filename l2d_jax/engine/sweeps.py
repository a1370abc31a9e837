"""Many runs on one flat axis: the grid, the chunks, and going on after a stop.

A sweep is cut into blocks, one a device at a time, and D of them are a chunk. The runs
of a chunk train together, some epochs a dispatch; those that have stopped are passed
over. A chunk's progress, and its results, are checkpoints: a sweep started again with
the same arguments goes on from the last of them and ends with the same results. What a
run computes is a function of its seed and hyperparameters; the block it is in changes
nothing but rounding, and the device, the process and their number nothing at all (from
two devices up; see `l2d_jax.engine.placement`).
"""

import functools
import itertools
import os
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from l2d_jax._checks import require_count
from l2d_jax.engine import (
    checkpoints,
    memory,
    orders,
    origins,
    placement,
    pools,
    processes,
    training,
)
from l2d_jax.engine.chunks import Interrupted, Progress
from l2d_jax.types import (
    Array,
    Dataset,
    Decision,
    HParams,
    PyTree,
    Sweep,
    Variables,
)

# A block of runs of one seed shares its minibatches, so that the first layer is one
# matrix product for all of them; below this many runs it is not worth the padding.
_MIN_RUNS_SHARING_ORDER = 8
# Runs that a CPU computes at a time of a block whose runs stop early, about: fewer cost
# more a run, and more are seldom all active.
_TILE_WIDTH = 32


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


def grid(
    seeds: Sequence[int], hparams: Mapping[str, Sequence[float] | np.ndarray]
) -> Sweep:
    """Every combination of the values, for every seed; runs of a seed are neighbours.

    Args:
      seeds: distinct whole numbers in [0, 2^31), at least one.
      hparams: values of each hyperparameter by name, at least one each, distinct as
        float32.

    Raises:
      ValueError: nothing to run, what is no list of numbers, a seed twice or not in 31
        bits, or a value that is not finite, becomes 0 or is another's as the float32
        that is computed with.
    """
    seeds = _as_list("seeds", seeds)
    if not seeds:
        raise ValueError("seeds is empty; give at least one")
    check_seeds(seeds)
    if len(set(seeds)) != len(seeds):
        raise ValueError(f"seeds must be distinct, got {tuple(seeds)}")
    hparams = {
        name: _as_list(f"hyperparameter {name}", values)
        for name, values in hparams.items()
    }
    for name, values in hparams.items():
        if not values:
            raise ValueError(f"hyperparameter {name} has no value; give at least one")
        single = as_single(f"hyperparameter {name}", values)
        if len(np.unique(single)) < len(single):
            raise ValueError(
                f"hyperparameter {name} must hold distinct values once they are"
                f" float32, got {tuple(values)}"
            )
    combinations = list(itertools.product(*hparams.values()))
    columns = zip(*combinations, strict=True) if hparams else ()
    return Sweep(
        seeds=np.repeat(np.asarray(seeds, np.int32), len(combinations)),
        hparams={
            name: np.tile(np.asarray(column, np.float32), len(seeds))
            for name, column in zip(hparams, columns, strict=True)
        },
    )


def _as_list(name: str, values: Any) -> list[Any]:
    """The values as Python or NumPy have them: arrays of JAX have no hash."""
    if np.ndim(values) != 1:
        raise ValueError(
            f"{name} must be a list of numbers, got {values!r}; put a single one in [ ]"
        )
    if isinstance(values, jax.Array):
        return list(np.asarray(values))
    return [v.item() if isinstance(v, jax.Array) else v for v in values]


def check_seeds(seeds: Sequence[int] | np.ndarray) -> None:
    """See that seeds are whole numbers that keep their value in 31 bits.

    Raises:
      ValueError: one is not.
    """
    for seed in seeds:
        whole = isinstance(seed, int | np.integer) and not isinstance(seed, bool)
        if not whole or not 0 <= seed < 2**31:
            raise ValueError(f"seeds must be whole numbers in [0, 2^31), got {seed}")


def as_single(
    name: str, values: Sequence[float] | np.ndarray, dtype: Any = np.float32
) -> np.ndarray:
    """Hyperparameters as what is computed with, float ``[V]``.

    Raises:
      ValueError: one is not finite, or is 0 there and not here.
    """
    try:
        exact = np.asarray(values, np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be numbers, got {tuple(values)}") from error
    with np.errstate(over="ignore", under="ignore"):
        single = exact.astype(dtype)
    # What is smaller than a normal number is 0 on most devices.
    lost = (np.abs(single) < np.finfo(dtype).tiny) & (exact != 0)
    for value in exact[~np.isfinite(single) | lost]:
        raise ValueError(
            f"{name} must be finite and not round to 0 as {np.dtype(dtype).name}, got"
            f" {value:g}"
        )
    return single


def check_sweep(sweep: Sweep) -> None:
    """See that the runs of a sweep, made by hand perhaps, are what they seem.

    Raises:
      ValueError: there is no run, columns differ in length, or a seed or a
        hyperparameter does not survive as what is computed with.
    """
    if np.ndim(sweep.seeds) != 1:
        raise ValueError(f"sweep.seeds must be a list of runs, got {sweep.seeds!r}")
    if not len(sweep.seeds):
        raise ValueError("sweep.seeds is empty; give at least one run")
    check_seeds(np.unique(sweep.seeds))
    for name, values in sweep.hparams.items():
        if np.shape(values) != np.shape(sweep.seeds):
            raise ValueError(
                f"sweep.hparams[{name!r}] must have one value for each of the"
                f" {len(sweep.seeds)} runs, got shape {np.shape(values)}"
            )
        _check_values(f"sweep.hparams[{name!r}]", np.asarray(values))


def _check_values(name: str, values: np.ndarray) -> None:
    """Raises where hyperparameters do not survive the cast to what the device has."""
    if values.dtype.kind == "f":
        as_single(name, np.unique(values), jnp.result_type(float))
    elif values.dtype.kind in "iu":
        known = np.iinfo(jax.dtypes.canonicalize_dtype(values.dtype))
        for value in values[(values < known.min) | (values > known.max)]:
            raise ValueError(
                f"{name} must fit {known.dtype}, got {value}; give it as a float"
            )
    elif values.dtype.kind in "OSUMm":
        raise ValueError(f"{name} must be numbers, got dtype {values.dtype}")


def plan_chunks(
    seeds: np.ndarray, num_devices: int, runs_per_device: int
) -> tuple[list[np.ndarray], bool]:
    """Cut a sweep into chunks of one block of runs a device.

    Args:
      seeds: seed of each run, int ``[R]``.
      num_devices: D, blocks in a chunk. The blocks themselves are the same for any
        number from two up.
      runs_per_device: runs in a block at most.

    Returns:
      The chunks, each the runs' numbers as int ``[D, W]`` with -1 for padding, and
      whether every block holds runs of one seed only.
    """
    by_seed = [np.flatnonzero(seeds == seed) for seed in np.unique(seeds)]
    share = min(map(len, by_seed)) >= _MIN_RUNS_SHARING_ORDER and runs_per_device > 1
    groups = by_seed if share else [np.arange(len(seeds))]
    blocks: list[np.ndarray] = []
    for group in groups:
        least = placement.least_blocks(num_devices, len(group), len(groups))
        parts = max(-(-len(group) // runs_per_device), least)
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
    split: Callable[[int], orders.Fold],
    batch_size: int,
    where: placement.Placement,
    epochs_per_dispatch: int = 1,
    checkpoint_dir: str | os.PathLike[str] | None = None,
    checkpoint_seconds: float = 30.0,
    origin: origins.Origin | None = None,
    report: Callable[[Progress], None] = lambda progress: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> SweepResult:
    """Train every run of a sweep.

    Args:
      program: what all runs share.
      sweep: seeds and hyperparameters of the runs.
      pool: training and validation examples, arrays or what NumPy makes arrays of,
        ``[N, ...]``.
      root_seed: seed of the sweep's key; a run's own seed is folded into it.
      split: the examples that a seed trains and validates on, such as
        `l2d_jax.engine.orders.split_pool` of the pool's size and a fraction.
      batch_size: examples of a minibatch.
      where: placement of the runs.
      epochs_per_dispatch: epochs a compiled call runs, at most.
      checkpoint_dir: folder for checkpoints; None keeps none.
      checkpoint_seconds: least time between two checkpoints of a chunk.
      origin: what the results are made of that this function does not see, such as a
        digest of the config; kept with every checkpoint beside those of the runs, the
        program, the code and, unless it is given here, the data.
      report: called after every dispatch.
      should_stop: asked after every dispatch, in every process; one that says so is
        enough.

    Raises:
      ForeignResultsError: a checkpoint there is of another origin; nothing is changed.
      Interrupted: ``should_stop`` said so; a checkpoint was written first.
      TooLargeError: the machine cannot hold it.
      TypeError: a column holds no numbers, or classes, groups or the rows of a fold
        no whole ones.
      ValueError: an argument is out of its range or does not fit the data.
    """
    folder = checkpoints.folder(checkpoint_dir)
    engine, planned = _plan(
        program,
        sweep,
        pool,
        root_seed,
        split,
        batch_size,
        where,
        epochs_per_dispatch,
    )
    engine.require_memory(planned[0])
    sweep = engine.sweep
    known: dict[str, str] = {}
    traced: dict[str, str] = {}
    if folder is not None:
        traced = engine.digest()
        how = (root_seed, batch_size, program.num_epochs, program.patience)
        known = origins.of((sweep, how), (engine.pool, engine.folds), origin)
    total = len(sweep.seeds) * program.num_epochs
    finished: dict[str, PyTree] = {}
    done = 0
    for number, members in enumerate(planned):
        store = _ChunkStore(folder, number, members, checkpoint_seconds, known, traced)
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


def check_start(
    program: training.Program, sweep: Sweep, pool: Dataset, where: placement.Placement
) -> None:
    """See that runs can be started: from shapes, before anything compiles.

    Args:
      program: as in `run_sweep`, and so are the others; of the pool shapes are enough.
      sweep: seeds and hyperparameters of the runs.
      pool: training and validation examples.
      where: placement of the runs.

    Raises:
      TooLargeError: the machine cannot hold their states, or what is left of them.
      ValueError: the network does not take the inputs.
    """
    placement.check(where)
    one = jax.tree.map(lambda leaf: leaf[0], (sweep.seeds, sweep.hparams))
    start = functools.partial(training.start, program)
    state = jax.eval_shape(start, jax.random.key(0), *one, pool)
    planned, _ = plan_chunks(sweep.seeds, where.num_devices, where.runs_per_device)
    memory.require(
        states=planned[0].size * memory.size_of(state),
        results=len(sweep.seeds) * memory.size_of(_keep(state)),
    )


def lower_dispatch(
    program: training.Program,
    sweep: Sweep,
    pool: Dataset,
    *,
    split: Callable[[int], orders.Fold],
    batch_size: int,
    where: placement.Placement,
    epochs_per_dispatch: int = 1,
) -> jax.stages.Lowered:
    """The program that `run_sweep` calls again and again, before it is compiled.

    It trains the runs of a chunk for some epochs. Nothing is computed or put anywhere,
    so the devices of ``where`` need not be there.

    Args:
      program: as in `run_sweep`, and so are the others.
      sweep: seeds and hyperparameters of the runs.
      pool: training and validation examples.
      split: the examples that a seed trains and validates on.
      batch_size: examples of a minibatch.
      where: placement of the runs.
      epochs_per_dispatch: epochs a compiled call runs, at most.

    Raises:
      ValueError: an argument does not fit the data.
    """
    engine, planned = _plan(
        program, sweep, pool, 0, split, batch_size, where, epochs_per_dispatch
    )
    return engine.lower(planned[0])


def _plan(
    program: training.Program,
    sweep: Sweep,
    pool: Dataset,
    root_seed: int,
    split: Callable[[int], orders.Fold],
    batch_size: int,
    where: placement.Placement,
    epochs_per_dispatch: int,
) -> tuple["_Engine", list[np.ndarray]]:
    """What computes a sweep, and its chunks as `plan_chunks` has them.

    Raises:
      TypeError: as of `check_fit`.
      ValueError: an argument is out of its range or does not fit the data.
    """
    require_count("epochs_per_dispatch", epochs_per_dispatch)
    placement.check(where)
    sweep, pool, folds = check_fit(program, sweep, pool, split)
    for fold in folds.values():
        # For its error: a batch that does not fit is found before anything compiles.
        orders.epoch_orders(0, 0, 1, fold.train, batch_size)
    planned, share = plan_chunks(sweep.seeds, where.num_devices, where.runs_per_device)
    for members in planned:
        seeds = np.unique(sweep.seeds[members[members >= 0]])
        pools.check_alike({int(seed): folds[int(seed)] for seed in seeds}, batch_size)
    # Dispatches of equal length, rounded up: one program serves them all.
    num_dispatches = -(-program.num_epochs // epochs_per_dispatch)
    per_dispatch = -(-program.num_epochs // num_dispatches)
    tiles = _plan_tiles(program, planned[0].shape[1], where)
    engine = _Engine(
        program,
        sweep,
        pool,
        root_seed,
        batch_size,
        folds,
        where,
        share,
        per_dispatch,
        tiles,
    )
    return engine, planned


def check_fit(
    program: training.Program,
    sweep: Sweep,
    pool: Dataset,
    split: Callable[[int], orders.Fold],
) -> tuple[Sweep, Dataset, dict[int, orders.Fold]]:
    """See that runs, their examples and what divides these fit one another.

    Args:
      program: as in `run_sweep`, and so are the others.
      sweep: seeds and hyperparameters of the runs.
      pool: training and validation examples.
      split: the examples that a seed trains and validates on.

    Returns:
      The sweep and the examples as arrays, and the fold of each seed.

    Raises:
      TypeError: a column holds no numbers, or classes, groups or the rows of a fold
        no whole ones.
      ValueError: a number is out of its range, or does not fit the others.
    """
    for name in ("num_epochs", "patience", "eval_batch_size"):
        if (name, getattr(program, name)) != ("patience", None):
            require_count(f"program.{name}", getattr(program, name))
    check_sweep(sweep)
    hparams = {name: np.asarray(values) for name, values in sweep.hparams.items()}
    sweep = Sweep(np.asarray(sweep.seeds), hparams)
    pool = pools.as_arrays(pool)
    pools.check_lengths(pool)
    unique = [int(seed) for seed in np.unique(sweep.seeds)]
    first = pools.as_fold(unique[0], split(unique[0]))
    memory.require(splits=len(unique) * memory.size_of(first))
    folds = {seed: pools.as_fold(seed, split(seed)) for seed in unique}
    pools.check_folds(folds, len(pool.labels))
    pools.check(pool, _num_classes(program, sweep, pool))
    return sweep, pool, folds


def _num_classes(program: training.Program, sweep: Sweep, pool: Dataset) -> int | None:
    """K, as far as the method or probabilities among the examples say it."""

    def first(seed: jax.Array, hparams: PyTree, pool: Dataset) -> PyTree:
        root = jax.random.key(0)
        state = training.start(program, root, seed, hparams, pool)
        inputs = jax.tree.map(lambda leaf: leaf[:2], pool.inputs)
        return program.learner.predict(state.best, hparams, inputs)

    one = jax.tree.map(lambda leaf: leaf[0], (sweep.seeds, sweep.hparams))
    found = jax.eval_shape(first, *one, pool)
    if isinstance(found, Decision):
        return found.class_probs.shape[1]
    for probs in (pool.class_probs, pool.expert_probs):
        if probs is not None:
            return probs.shape[-1]
    return None


def _plan_tiles(
    program: training.Program, width: int, where: placement.Placement
) -> placement.Tiles | None:
    """How the blocks pass over runs that have stopped; None where all go to the end.

    On an accelerator a few runs take as long as all of a block.
    """
    num_tiles = round(width / _TILE_WIDTH)
    if program.patience is None or num_tiles < 2 or where.platform != "cpu":
        return None
    return placement.Tiles(-(-width // num_tiles), 3, lambda state: state.active)


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
        tiles: placement.Tiles | None,
    ):
        self.program, self.sweep, self.folds = program, sweep, folds
        self.pool = pool
        self.batch_size, self.share, self._where = batch_size, share, where
        self.epochs_per_dispatch = epochs_per_dispatch
        order_axis = "b" if share else "r"

        def start(*args: Any) -> training.RunState:
            return training.start(program, *args)

        def advance(*args: Any) -> training.RunState:
            return training.advance(program, *args)

        self._start = placement.place(start, where, "srrs", brief=True)
        self._advance = placement.place(
            advance, where, "srrrs" + 2 * order_axis, donate=(3,), tiles=tiles
        )
        self._given = jax.random.key(root_seed), pool

    @functools.cached_property
    def _shared(self) -> tuple[jax.Array, Dataset]:
        """The sweep's key and its pool, on every device."""
        return self._start.put_shared(self._given)

    def _run_rows(self, members: np.ndarray) -> tuple[PyTree, PyTree]:
        runs = np.maximum(members.ravel(), 0)
        hparams = {name: value[runs] for name, value in self.sweep.hparams.items()}
        return self.sweep.seeds[runs], hparams

    def run_arguments(self, members: np.ndarray) -> tuple[PyTree, PyTree]:
        """Seeds and hyperparameters of a chunk; padding repeats a run of the sweep."""
        return self._start.put_runs(self._run_rows(members))

    def start(self, members: np.ndarray) -> training.RunState:
        """State of a chunk before its first epoch; padding is inactive."""
        seeds, hparams = self.run_arguments(members)
        root, pool = self._shared
        state = self._start.run(root, seeds, hparams, pool)
        active = self._start.put_runs(members.ravel() >= 0)
        return state._replace(active=active)

    def draw(
        self, members: np.ndarray, first_epoch: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Minibatches of a chunk's next epochs, and what it validates on."""
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
        return order, valid

    def advance(
        self,
        members: np.ndarray,
        state: training.RunState,
        drawn: tuple[np.ndarray, np.ndarray],
    ) -> training.RunState:
        """State of a chunk some epochs later, which may still be computed."""
        seeds, hparams = self.run_arguments(members)
        root, pool = self._shared
        order, valid = drawn
        return self._advance.run(
            root,
            seeds,
            hparams,
            state,
            pool,
            self._advance.put_runs(order),
            self._advance.put_runs(valid),
        )

    def lower(self, members: np.ndarray) -> jax.stages.Lowered:
        """The program of `advance` for a chunk, of which nothing is put anywhere."""
        return self._advance.lower(*self._shapes(members))

    def digest(self) -> dict[str, str]:
        """That of a run's program, wherever and with how many others it is computed."""
        root, pool = self._given
        fold = self.folds[int(self.sweep.seeds[0])]
        # How many are predicted at a time is no part of what is computed.
        program = self.program._replace(eval_batch_size=len(fold.valid))

        def run(
            root: jax.Array,
            seed: Array,
            hparams: HParams,
            pool: Dataset,
            order: Array,
            valid: Array,
        ) -> training.RunState:
            state = training.start(program, root, seed, hparams, pool)
            return training.advance(
                program, root, seed, hparams, state, pool, order, valid
            )

        one = jax.tree.map(lambda leaf: leaf[0], (self.sweep.seeds, self.sweep.hparams))
        shapes = ((1, 1, self.batch_size), (len(fold.valid),))
        drawn = (jax.ShapeDtypeStruct(shape, np.int32) for shape in shapes)
        return origins.program(run, root, *one, pool, *drawn)

    def require_memory(self, members: np.ndarray) -> None:
        """See that a chunk, and what is left of all runs, can be held.

        Raises:
          TooLargeError: it cannot.
        """
        shapes = self._shapes(members)
        state = shapes[3]
        result = memory.size_of(_keep(state)) // members.size * len(self.sweep.seeds)
        # Before it is traced: that takes as long as a network has layers.
        memory.require(states=memory.size_of(state), results=result)
        traced = self._advance.trace(*shapes)
        memory.require_compiled(traced, self._where, state, results=result)

    def _shapes(self, members: np.ndarray) -> tuple[Any, ...]:
        """Shapes of the arguments of `advance` for a chunk."""
        root, pool = jax.eval_shape(lambda *given: given, *self._given)
        rows = jax.eval_shape(lambda *rows: rows, *self._run_rows(members))
        state = self._start.shapes(root, *rows, pool)
        fold = self.folds[int(self.sweep.seeds[0])]
        steps = len(fold.train) // self.batch_size
        leaders = (len(members),) if self.share else (members.size,)
        drawn = (
            (*leaders, self.epochs_per_dispatch, steps, self.batch_size),
            (*leaders, len(fold.valid)),
        )
        order, valid = (jax.ShapeDtypeStruct(shape, np.int32) for shape in drawn)
        return (root, *rows, state, pool, order, valid)

    def put(self, state: training.RunState) -> training.RunState:
        """A state that was taken off the devices, back on them."""
        train = state.train
        train = train._replace(key=jax.random.wrap_key_data(jnp.asarray(train.key)))
        return self._start.put_runs(state._replace(train=train))

    def like(self, members: np.ndarray) -> training.RunState:
        """Shapes of a chunk's state off the devices."""
        seeds, hparams = self.run_arguments(members)
        root, pool = self._shared
        shapes = self._start.shapes(root, seeds, hparams, pool)
        key = jax.eval_shape(jax.random.key_data, shapes.train.key)
        return shapes._replace(train=shapes.train._replace(key=key))


def _fetch(state: training.RunState) -> training.RunState:
    """The state as NumPy arrays, its keys as their data."""
    key = jax.random.key_data(state.train.key)
    state = state._replace(train=state.train._replace(key=key))
    # A copy: the devices' own memory is given away at the next dispatch.
    return jax.tree.map(np.array, processes.fetch(state))


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
    loaded, damage = store.load_progress(engine)
    for message in damage:
        report(Progress(done_before, total, message))
    if loaded is None:
        state, epoch = engine.start(members), 0
    else:
        host, epoch = loaded
        state = engine.put(host)
    real = members.ravel() >= 0
    active = processes.fetch(state.active)
    drawn = engine.draw(members, epoch)
    while active.any():
        state = engine.advance(members, state, drawn)
        epoch += engine.epochs_per_dispatch
        if epoch < engine.program.num_epochs:
            # While the devices compute.
            drawn = engine.draw(members, epoch)
        active, epochs = processes.fetch((state.active, state.epoch))
        report(Progress(done_before + int(epochs[real].sum()), total))
        # One process may have had the signal, and no two clocks are the same.
        stop, due = processes.any_of(should_stop(), store.is_due())
        if stop or due:
            store.save_progress(_fetch(state), epoch)
        if stop:
            raise Interrupted
    kept = jax.tree.map(lambda leaf: leaf[real], processes.fetch(_keep(state)))
    store.save_result(kept)
    return kept


class _ChunkStore:
    """A chunk's files: its progress, and at the end its result."""

    def __init__(
        self,
        folder: pathlib.Path | None,
        number: int,
        members: np.ndarray,
        checkpoint_seconds: float,
        origin: dict[str, str],
        program: dict[str, str],
    ):
        self._members, self._origin, self._program = members, origin, program
        self._info = {"chunk": members.tolist(), "origin": origin}
        self._result = folder and folder / f"chunk_{number:04d}"
        self._progress: pathlib.Path | None = None
        self._seconds = checkpoint_seconds
        self._last = time.monotonic()

    def is_due(self) -> bool:
        return (
            self._result is not None and time.monotonic() - self._last >= self._seconds
        )

    def save_progress(self, state: training.RunState, epoch: int) -> None:
        if self._result is None:
            return
        path = self._result.with_name(f"{self._result.name}_epoch_{epoch:06d}")
        info = {**self._info, "program": self._program, "epoch": epoch}
        checkpoints.save(path, state, info)
        if self._progress is not None:
            checkpoints.remove(self._progress)
        self._progress, self._last = path, time.monotonic()

    def save_result(self, kept: dict[str, PyTree]) -> None:
        if self._result is None:
            return
        info = {**self._info, "program": self._program}
        checkpoints.save(self._result, kept, info)
        # With what was cut short by a kill and never became a checkpoint.
        for path in self._result.parent.glob(f"{self._result.name}_epoch_*"):
            checkpoints.remove(path)

    def load_result(
        self, engine: _Engine
    ) -> tuple[dict[str, PyTree] | None, list[str]]:
        found, damage = processes.from_first(self._find_result)
        if self._result is None or not found:
            return None, damage
        num_runs = int((self._members >= 0).sum())
        like = _resized(_keep(engine.like(self._members)), num_runs)
        return checkpoints.restore(self._result, like), damage

    def load_progress(
        self, engine: _Engine
    ) -> tuple[tuple[training.RunState, int] | None, list[str]]:
        epoch, damage = processes.from_first(self._find_progress)
        if self._result is None or epoch is None:
            return None, damage
        path = self._result.with_name(f"{self._result.name}_epoch_{epoch:06d}")
        state = checkpoints.restore(path, engine.like(self._members))
        self._progress = path
        return (state, epoch), damage

    def _find_result(self) -> tuple[bool, list[str]]:
        if self._result is None or not checkpoints.exists(self._result):
            return False, []
        info, damage = self._read_info(self._result)
        return info is not None, damage

    def _find_progress(self) -> tuple[int | None, list[str]]:
        """Epoch of the latest sound checkpoint; those that are not are removed."""
        damage: list[str] = []
        for path in sorted(self._progress_paths(), reverse=True):
            info, messages = self._read_info(path)
            damage += messages
            if info is not None:
                return info["epoch"], damage
            checkpoints.remove(path)
        return None, damage

    def _read_info(self, path: pathlib.Path) -> tuple[dict[str, Any] | None, list[str]]:
        """What was kept with a checkpoint, or why it is of no use."""
        try:
            info = checkpoints.read_info(path)
        except checkpoints.DamagedCheckpointError as error:
            return None, [f"damaged checkpoint, its runs start again: {error}"]
        origins.refuse_foreign(path, info.get("origin"), self._origin)
        origins.refuse_other_program(path, info.pop("program", {}), self._program)
        if {k: v for k, v in info.items() if k != "epoch"} != self._info:
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


def select(sweep: Sweep, runs: Any) -> Sweep:
    """The sweep's runs at ``runs``, an int or bool index."""
    hparams = {name: value[runs] for name, value in sweep.hparams.items()}
    return Sweep(sweep.seeds[runs], hparams)
