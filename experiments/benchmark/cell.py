"""One experiment of a given size in this process: its seconds, by part, and its memory.

  python -m experiments.benchmark.cell FILE SIZES

SIZES is JSON of an axis of ``config.growth`` at one of its sizes, see `make_config` and
`make_problem`; FILE gets JSON of `measure`. A part of `experiments.benchmark`, which
starts one for each size, as a process does not forget the most memory that it has had.
"""

import itertools
import json
import pathlib
import resource
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax.monitoring
import ml_collections
import numpy as np

from experiments import deferral, summaries
from experiments.problem import Problem, Traits, one_team, split_at_random
from experiments.runtime import devices, signals
from experiments.runtime.workdir import claim_workdir
from l2d_jax.types import Dataset

_COMPILING = (
    "/jax/core/compile/jaxpr_trace_duration",
    "/jax/core/compile/jaxpr_to_mlir_module_duration",
    "/jax/core/compile/backend_compile_duration",
)
"""Events of JAX's that are seconds of tracing and compiling."""


def make_problem(sizes: Mapping[str, Any]) -> Problem:
    """Made-up examples of two labels, and experts who are right in 6 to 9 of 10.

    Args:
      sizes: ``examples``, of which a fifth each is to validate and to test on,
        ``features`` and ``experts``.
    """
    generator = np.random.default_rng(0)
    size, num_experts = sizes["examples"], sizes["experts"]
    num_pool = size - size // 5
    inputs = generator.normal(size=(size, sizes["features"])).astype(np.float32)
    noise = generator.logistic(size=size)
    labels = (inputs[:, 0] + inputs[:, 1] > noise).astype(np.int32)
    skill = generator.uniform(0.6, 0.9, num_experts)
    right = generator.random((size, num_experts), np.float32) < skill
    answers = np.where(right, labels[:, None], 1 - labels[:, None]).astype(np.int32)
    return Problem(
        name="made up",
        traits=Traits(num_classes=2, num_experts=num_experts),
        pool=Dataset(inputs[:num_pool], labels[:num_pool], answers[:num_pool]),
        test=Dataset(inputs[num_pool:], labels[num_pool:], answers[num_pool:]),
        teams=one_team,
        split=split_at_random(num_pool, 0.25),
    )


def make_config(sizes: Mapping[str, Any]) -> ml_collections.ConfigDict:
    """What the runner reads of an experiment's config.

    Args:
      sizes: ``method``; ``runs``, at most ``costs`` prices of deferring for each of
        some seeds; ``epochs``, ``batch`` and ``model``.
    """
    config = ml_collections.ConfigDict()
    config.experiment = "growth"
    config.seed = 0
    num_costs = min(sizes["runs"], sizes["costs"])
    config.num_seeds = sizes["runs"] // num_costs
    costs = tuple(round(0.3 * i / num_costs, 6) for i in range(num_costs))
    config.grid = {"learning_rate": (0.01,), "cost": costs}
    config.methods = (sizes["method"],)
    config.references = ()
    config.choose = "over_seeds"
    config.model = sizes["model"]
    config.sampled, config.temperature = False, 0.5
    config.optimizer = "adam"
    config.batch_size = sizes["batch"]
    config.num_epochs = config.epochs_per_dispatch = sizes["epochs"]
    config.best_epoch = "loss"
    config.patience = 0
    config.placement = "auto"
    config.runs_per_device = 0
    config.eval_batch_size = 8000
    config.checkpoint_seconds = 30.0
    return config


def measure(sizes: Mapping[str, Any]) -> dict[str, float]:
    """Run the experiment from its examples to its tables, as a program does.

    Returns:
      ``seconds`` in all, and of these ``compile_seconds``, ``train_seconds``,
      ``measure_seconds`` and ``table_seconds``, the last three without compilation;
      ``memory_mib``, the most that the process has held, and ``memory_before_mib``,
      the most before it began: the interpreter, its modules, and the examples.
    """
    compiling: list[tuple[float, float]] = []

    def add(event: str, duration_secs: float, **_: Any) -> None:
        if event in _COMPILING:
            now = time.perf_counter()
            compiling.append((now - duration_secs, now))

    jax.monitoring.register_event_duration_secs_listener(add)
    config, problem = make_config(sizes), make_problem(sizes)
    jax.devices()
    found = {"memory_before_mib": _most_memory_mib()}
    marks = [time.perf_counter()]
    with tempfile.TemporaryDirectory() as folder, signals.StopSignal() as stop:
        workdir = pathlib.Path(folder)
        claim_workdir(config, workdir)
        deferral.check_examples(config, problem)
        methods = list(config.methods)
        trained, _ = deferral.train_all(config, problem, methods, workdir, stop)
        marks.append(time.perf_counter())
        results = deferral.measure_all(config, problem, methods, trained, stop)
        marks.append(time.perf_counter())
        summaries.make(config, problem, results.table, results.resampled)
        marks.append(time.perf_counter())
    parts = ("train_seconds", "measure_seconds", "table_seconds")
    for name, (begin, end) in zip(parts, itertools.pairwise(marks), strict=True):
        found[name] = end - begin - covered(compiling, begin, end)
    found["seconds"] = marks[-1] - marks[0]
    found["compile_seconds"] = covered(compiling, marks[0], marks[-1])
    return found | {"memory_mib": _most_memory_mib()}


def covered(
    intervals: Sequence[tuple[float, float]], begin: float, end: float
) -> float:
    """How much of begin to end lies in at least one of the intervals.

    What is traced within another tracing is told twice, and takes its time once.
    """
    total, reached = 0.0, begin
    for first, last in sorted(intervals):
        last = min(last, end)
        total += max(last - max(first, reached), 0.0)
        reached = max(reached, last)
    return total


def _most_memory_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def main() -> None:
    """Measure one size; FILE is written when it is done."""
    file, sizes = sys.argv[1:]
    devices.use_all_cores()
    found = measure(json.loads(sizes))
    pathlib.Path(file).write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main()
