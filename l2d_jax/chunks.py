"""A pure function of one run, computed for many runs chunk by chunk.

`l2d_jax.sweeps` trains runs epoch by epoch and can stop inside one. Where a whole run
takes seconds (a simulated experiment, a small model of one person) it is one call, and
the chunk is what a stop can lose: finished chunks are checkpoints.
"""

import pathlib
from collections.abc import Callable

import jax
import numpy as np

from l2d_jax import checkpoints, placement
from l2d_jax.sweeps import Interrupted, Progress
from l2d_jax.types import PyTree


def map_runs(
    function: Callable[[PyTree, PyTree], PyTree],
    runs: PyTree,
    shared: PyTree,
    *,
    where: placement.Placement,
    checkpoint_dir: pathlib.Path | None = None,
    report: Callable[[Progress], None] = lambda progress: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> PyTree:
    """``function(run, shared)`` of every run, as NumPy arrays ``[R, ...]``.

    Args:
      function: pure; its result is a pytree of arrays.
      runs: what each run has of its own, pytree of ``[R, ...]``, R > 0.
      shared: what all runs have in common, a pytree of arrays.
      where: placement of the runs; it holds a chunk at a time.
      checkpoint_dir: folder for the finished chunks; None keeps none. Its owner sees
        to it that ``runs`` and ``shared`` are the same when the folder is used again.
      report: called after every chunk, with runs in place of epochs.
      should_stop: asked after every chunk.

    Raises:
      Interrupted: ``should_stop`` said so; the chunks that are done are kept.
      ValueError: ``runs`` is empty, or its leaves differ in length.
    """
    lengths = {leaf.shape[0] for leaf in jax.tree.leaves(runs)}
    if len(lengths) != 1 or 0 in lengths:
        raise ValueError(
            f"runs must have one length > 0, got {sorted(lengths)}; give each leaf a"
            " row for every run"
        )
    (total,) = lengths
    placed = placement.place(function, where, "rs")
    width = min(
        where.num_devices * where.runs_per_device,
        -(-total // where.num_devices) * where.num_devices,
    )
    shared = placed.put_shared(shared)
    parts = []
    for number, first in enumerate(range(0, total, width)):
        count = min(width, total - first)
        # The last chunk is filled up with its last run, which is then cut off.
        rows = np.minimum(np.arange(first, first + width), total - 1)
        chunk = jax.tree.map(lambda leaf, rows=rows: np.asarray(leaf)[rows], runs)
        path = checkpoint_dir and checkpoint_dir.absolute() / f"part_{number:04d}"
        info = {"first": first, "count": count, "width": width}
        part = None
        if path and checkpoints.exists(path):
            try:
                if checkpoints.read_info(path) == info:
                    result = jax.eval_shape(placed.run, chunk, shared)
                    part = checkpoints.restore(path, result)
                else:
                    message = f"checkpoint for other devices, made again: {path}"
                    report(Progress(first, total, message))
            except checkpoints.DamagedCheckpointError as error:
                message = f"damaged checkpoint, made again: {error}"
                report(Progress(first, total, message))
        if part is None:
            part = jax.tree.map(np.asarray, placed.run(placed.put_runs(chunk), shared))
            if path:
                checkpoints.save(path, part, info)
        parts.append(jax.tree.map(lambda leaf, count=count: leaf[:count], part))
        report(Progress(first + count, total))
        if should_stop() and first + count < total:
            raise Interrupted
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)
