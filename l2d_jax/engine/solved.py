"""Runs that are solved whole on the host, one after another.

For learners whose one update of all training examples is the training: an integer
program, a closed form. What is left of them is as of `l2d_jax.engine.sweeps`, so that
nothing behind it asks how a run was trained.
"""

import functools
import os
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from l2d_jax.engine import checkpoints, orders, origins, processes, training
from l2d_jax.engine.chunks import Interrupted, Progress
from l2d_jax.engine.sweeps import SweepResult, check_fit
from l2d_jax.learners.batches import take
from l2d_jax.types import Dataset, HParams, PyTree, Sweep


def solve_sweep(
    program: training.Program,
    sweep: Sweep,
    pool: Dataset,
    *,
    root_seed: int,
    split: Callable[[int], orders.Fold],
    checkpoint_dir: str | os.PathLike[str] | None = None,
    origin: origins.Origin | None = None,
    report: Callable[[Progress], None] = lambda progress: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> SweepResult:
    """Solve every run of a sweep, each an epoch of one update.

    An update may say in its metrics by how much its ``loss`` may be above the least, as
    ``gap``; where that is > 0 it is reported. The first process solves for all.

    Args:
      program: what all runs share; the learner's ``update`` is called with concrete
        arrays and need not be traceable.
      sweep: seeds and hyperparameters of the runs.
      pool: as for `l2d_jax.engine.sweeps.run_sweep`.
      root_seed: likewise.
      split: likewise.
      checkpoint_dir: folder for the runs that are done; None keeps none.
      origin: as for `l2d_jax.engine.sweeps.run_sweep`; and here of the learner too,
        whose update need not be a program that can be told from another.
      report: called after every run.
      should_stop: asked after every run, in every process; one that says so is enough.

    Raises:
      ForeignResultsError: a run there is of another origin; nothing is changed.
      Interrupted: ``should_stop`` said so; the runs that are done are kept.
      TypeError: as of `l2d_jax.engine.sweeps.check_fit`.
      ValueError: likewise.
    """
    folder = checkpoints.folder(checkpoint_dir)
    sweep, pool, folds = check_fit(program, sweep, pool, split)
    root = jax.random.key(root_seed)
    total = len(sweep.seeds)
    kept = []
    known: dict[str, str] = {}
    if folder is not None:
        known = origins.of((sweep, root_seed), (pool, folds), origin)
    for number in range(total):
        seed = int(sweep.seeds[number])
        hparams = {name: value[number] for name, value in sweep.hparams.items()}
        state = training.start(program, root, jnp.asarray(seed), hparams, pool)
        like = jax.tree.map(
            np.asarray, {"variables": state.best, "score": state.best_score}
        )
        solve = functools.partial(
            _solve, program, root, seed, hparams, state, pool, folds[seed]
        )
        path = folder and folder / f"run_{number:04d}"
        info = {"run": number, "seed": seed, "origin": known}
        found, message = _find_or_solve(path, info, like, solve)
        kept.append(found)
        report(Progress(number + 1, total, message))
        (stop,) = processes.any_of(should_stop())
        if stop:
            raise Interrupted
    result = jax.tree.map(lambda *leaves: np.stack(leaves), *kept)
    once = np.ones(total, np.int32)
    diverged = ~np.isfinite(result["score"])
    return SweepResult(
        result["variables"], result["score"], once, once.copy(), diverged
    )


def _find_or_solve(
    path: pathlib.Path | None,
    info: dict[str, Any],
    like: PyTree,
    solve: Callable[[], tuple[PyTree, str]],
) -> tuple[PyTree, str]:
    """A run from its checkpoint, or solved and kept, and what is to be said of it."""
    state, message = processes.from_first(functools.partial(_find, path, info))
    if state == "there" and path is not None:
        return checkpoints.restore(path, like), message

    def in_first() -> tuple[list, str]:
        found, said = solve()
        # Lists of numbers, for the other processes.
        return [np.asarray(leaf).tolist() for leaf in jax.tree.leaves(found)], said

    values, said = processes.from_first(in_first)
    leaves, structure = jax.tree.flatten(like)
    found = jax.tree.unflatten(
        structure,
        [
            np.asarray(value, leaf.dtype)
            for value, leaf in zip(values, leaves, strict=True)
        ],
    )
    if path is not None:
        checkpoints.save(path, found, {**info, "said": said})
    return found, "; ".join(filter(None, (message, said)))


def _find(path: pathlib.Path | None, info: dict[str, Any]) -> tuple[str, str]:
    """Whether the run is there, and what was said of it or why it is of no use."""
    if path is None or not checkpoints.exists(path):
        return "", ""
    try:
        known = checkpoints.read_info(path)
    except checkpoints.DamagedCheckpointError as error:
        return "", f"damaged checkpoint, solved again: {error}"
    origins.refuse_foreign(path, known.get("origin"), info["origin"])
    if {name: known.get(name) for name in info} != info:
        return "", f"checkpoint of another run, solved again: {path}"
    return "there", known["said"]


def _solve(
    program: training.Program,
    root: jax.Array,
    seed: int,
    hparams: HParams,
    state: training.RunState,
    pool: Dataset,
    fold: orders.Fold,
) -> tuple[PyTree, str]:
    """What is left of a run that is solved, and what is to be said of it."""
    key = training.run_key(root, jnp.asarray(seed))
    known = training.annotate_pool(program.annotate, key, hparams, pool)
    train, valid = take(known, fold.train), take(known, fold.valid)
    solved, metrics = program.learner.update(state.train, hparams, train)
    outputs = training.predict(
        program, solved.variables, hparams, pool.inputs, jnp.asarray(fold.valid)
    )
    score = program.score(outputs, valid, hparams)
    loss, gap = float(metrics["loss"]), float(metrics.get("gap", 0.0))
    said = ""
    if gap > 0:
        said = (
            f"seed {seed}: out of time, the best that was found has a loss of"
            f" {loss:.4f} on the training examples; the least may be {gap:.4f} lower"
        )
    return {"variables": solved.variables, "score": jnp.float32(score)}, said
