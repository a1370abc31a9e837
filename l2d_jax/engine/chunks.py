"""A pure function of one run, computed for many runs chunk by chunk.

`l2d_jax.engine.sweeps` trains runs epoch by epoch and can stop inside one. Where a
whole run takes seconds (a simulated experiment, a small model of one person) it is one
call, and the chunk is what a stop can lose: finished chunks are checkpoints.
"""

import functools
import os
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from l2d_jax.engine import checkpoints, memory, origins, placement, processes
from l2d_jax.types import PyTree


class Interrupted(BaseException):
    """The caller asked to stop; what was done is in the checkpoints.

    No error, so nothing that handles whatever fails takes it for one.
    """


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


def map_runs(
    function: Callable[[PyTree, PyTree], PyTree],
    runs: PyTree,
    shared: PyTree,
    *,
    where: placement.Placement,
    checkpoint_dir: str | os.PathLike[str] | None = None,
    origin: origins.Origin | None = None,
    report: Callable[[Progress], None] = lambda progress: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> PyTree:
    """``function(run, shared)`` of every run, as NumPy arrays ``[R, ...]``.

    Args:
      function: pure; its result is a pytree of arrays.
      runs: what each run has of its own, pytree of ``[R, ...]``, R > 0.
      shared: what all runs have in common, a pytree of arrays.
      where: placement of the runs; it holds a chunk at a time.
      checkpoint_dir: folder for the finished chunks; None keeps none.
      origin: what the results are made of that this function does not see, such as a
        digest of the config; kept with every chunk beside those of the runs, the
        function, the code and, unless it gives data, of ``shared``.
      report: called after every chunk, with runs in place of epochs.
      should_stop: asked after every chunk, in every process; one that says so is
        enough.

    Raises:
      ForeignResultsError: a chunk there is of another origin; nothing is changed.
      Interrupted: ``should_stop`` said so; the chunks that are done, which may be all,
        are kept.
      TooLargeError: the machine cannot hold it.
      TypeError: ``checkpoint_dir`` is no path.
      ValueError: ``runs`` is empty, or its leaves differ in length; or ``where`` is no
        placement.
    """
    folder = checkpoints.folder(checkpoint_dir)
    total = _length(runs)
    width = where.num_devices * placement.block_width(where, total)
    placed = _place(function, where)
    known = origins.of(runs, shared, origin) if folder is not None else {}
    _require_memory(placed, where, runs, shared, total, width)
    program: dict[str, str] = {}
    if folder is not None:
        one = jax.tree.map(lambda leaf: np.asarray(leaf)[0], runs)
        program = origins.program(function, one, shared)
    shared = placed.put_shared(shared)
    parts = []
    for number, first in enumerate(range(0, total, width)):
        count = min(width, total - first)
        # The last chunk is filled up with its last run, which is then cut off.
        rows = np.minimum(np.arange(first, first + width), total - 1)
        chunk = jax.tree.map(lambda leaf, rows=rows: np.asarray(leaf)[rows], runs)
        path = folder and folder / f"part_{number:04d}"
        info = {"first": first, "count": count, "width": width, "origin": known}
        find = functools.partial(_find, path, info, program)
        found, message = processes.from_first(find)
        if message:
            report(Progress(first, total, message))
        if path and found:
            result = placed.shapes(chunk, shared)
            part = checkpoints.restore(path, result)
        else:
            part = processes.fetch(placed.run(placed.put_runs(chunk), shared))
            if path:
                checkpoints.save(path, part, {**info, "program": program})
        parts.append(jax.tree.map(lambda leaf, count=count: leaf[:count], part))
        report(Progress(first + count, total))
        (stop,) = processes.any_of(should_stop())
        if stop:
            raise Interrupted
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)


def check_runs(
    function: Callable[[PyTree, PyTree], PyTree],
    runs: PyTree,
    shared: PyTree,
    *,
    where: placement.Placement,
) -> None:
    """See that `map_runs` can be called: from shapes, before anything compiles.

    What is traced here it need not trace again, so a program that maps several
    functions can see to all of them before it computes the first.

    Args:
      function: as there.
      runs: as there.
      shared: as there; shapes are enough.
      where: placement of the runs.

    Raises:
      TooLargeError: the machine cannot hold it.
      ValueError: ``runs`` is empty, or its leaves differ in length; or what tracing the
        function raises.
    """
    total = _length(runs)
    width = where.num_devices * placement.block_width(where, total)
    _require_memory(_place(function, where), where, runs, shared, total, width)


def _length(runs: PyTree) -> int:
    # A single number has no row at all.
    lengths = {(*np.shape(leaf), 0)[0] for leaf in jax.tree.leaves(runs)}
    if len(lengths) != 1 or 0 in lengths:
        raise ValueError(
            f"runs must have one length > 0, got {sorted(lengths)}; give each leaf a"
            " row for every run"
        )
    (total,) = lengths
    return total


def _require_memory(
    placed: placement.Placed,
    where: placement.Placement,
    runs: PyTree,
    shared: PyTree,
    total: int,
    width: int,
) -> None:
    """See that a chunk, and what is left of all runs, can be held.

    Raises:
      TooLargeError: it cannot.
    """
    rows = jax.eval_shape(lambda tree: tree, runs)
    chunk = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct((width, *leaf.shape[1:]), leaf.dtype), rows
    )
    traced = placed.trace(chunk, jax.eval_shape(lambda tree: tree, shared))
    result = memory.size_of(traced.out_info) * total // width
    memory.require_compiled(traced, where, results=result)


def lower_runs(
    function: Callable[[PyTree, PyTree], PyTree],
    runs: PyTree,
    shared: PyTree,
    *,
    where: placement.Placement,
) -> jax.stages.Lowered:
    """The program that `map_runs` calls for a chunk, before it is compiled.

    Args:
      function: as there.
      runs: as there; shapes are enough.
      shared: as there; shapes are enough.
      where: placement of the runs, perhaps on devices that are not there.
    """
    total = jax.tree.leaves(runs)[0].shape[0]
    width = where.num_devices * placement.block_width(where, total)
    chunk = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct((width, *leaf.shape[1:]), leaf.dtype), runs
    )
    return _place(function, where).lower(chunk, shared)


@functools.lru_cache(maxsize=32)
def _place(
    function: Callable[[PyTree, PyTree], PyTree], where: placement.Placement
) -> placement.Placed:
    """Kept for a while: a function that is mapped again is not compiled again."""
    return placement.place(function, where, "rs")


def _find(
    path: pathlib.Path | None, info: dict[str, Any], program: dict[str, str]
) -> tuple[bool, str]:
    """Whether the chunk is done, or why what is there is of no use."""
    if path is None or not checkpoints.exists(path):
        return False, ""
    try:
        found = checkpoints.read_info(path)
    except checkpoints.DamagedCheckpointError as error:
        return False, f"damaged checkpoint, made again: {error}"
    origins.refuse_foreign(path, found.get("origin"), info["origin"])
    origins.refuse_other_program(path, found.pop("program", {}), program)
    if found == info:
        return True, ""
    return False, f"checkpoint for other devices, made again: {path}"
