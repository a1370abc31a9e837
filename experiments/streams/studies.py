"""What is computed of closed-loop streams: all is seen to before any of it is run."""

import pathlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.runtime import progress
from experiments.runtime.workdir import read_origin
from l2d_jax.engine import chunks, placement
from l2d_jax.types import PyTree


class Kind(NamedTuple):
    """Runs of methods of one kind, which are one program.

    Attributes:
      title: for people.
      name: of the folder of its checkpoints.
      function: a whole stream, ``(run, shared) -> measures``, for `chunks.map_runs`.
      runs: what each run has of its own, a pytree of ``[R, ...]``.
      tabulate: makes tables of the measures, NumPy arrays ``[R, ...]``.
    """

    title: str
    name: str
    function: Callable[[PyTree, PyTree], PyTree]
    runs: PyTree
    tabulate: Callable[[PyTree], Any]


class Study(NamedTuple):
    """Runs on the same tasks.

    Attributes:
      kinds: of methods.
      shared: makes what all runs have in common, a pytree of arrays; the shapes may be
        asked for before, as by `jax.eval_shape`.
    """

    kinds: Sequence[Kind]
    shared: Callable[[], PyTree]


def check(studies: Sequence[Study], where: placement.Placement) -> None:
    """See that all of it can be run, from shapes.

    Raises:
      TooLargeError: the machine cannot hold it.
    """
    for study in studies:
        shapes = jax.eval_shape(study.shared)
        for kind in study.kinds:
            chunks.check_runs(kind.function, kind.runs, shapes, where=where)


def run(
    studies: Sequence[Study],
    where: placement.Placement,
    workdir: pathlib.Path,
    stop: Callable[[], bool],
) -> list[Any]:
    """Run all of it.

    Returns:
      What `Kind.tabulate` makes of each kind, in order.
    """
    made = []
    for study in studies:
        shared = jax.tree.map(np.asarray, study.shared())
        for kind in study.kinds:
            measures = chunks.map_runs(
                kind.function,
                kind.runs,
                shared,
                where=where,
                checkpoint_dir=workdir / "checkpoints" / kind.name,
                origin=read_origin(workdir),
                report=progress.ProgressBar(kind.title, unit="run"),
                should_stop=stop,
            )
            made.append(kind.tabulate(measures))
    return made
