"""Times one sweep of small nets on the devices and processes that there are.

A part of `experiments.benchmark`, which starts it once for each layout, because the
number of devices cannot change within a process. The time goes to ``timing.json``.
"""

import dataclasses
import json
import pathlib
import resource
from collections.abc import Callable

import ml_collections

from experiments import benchmark, images
from experiments.runtime import cli
from experiments.runtime.workdir import write_text
from l2d_jax.engine import (
    placement,
    processes,
    sweeps,
    training,
)


def main(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> None:
    """Time the sweep."""
    pool = benchmark.make_pool(config.rows + config.valid_rows, benchmark.NUM_FEATURES)
    timed = training.Program(
        benchmark.make_small_learner(config.hidden),
        images.annotate_with_nobody,
        benchmark.score_small,
        num_epochs=config.epochs,
        eval_batch_size=config.valid_rows,
    )

    def run(report: Callable) -> object:
        return sweeps.run_sweep(
            timed,
            benchmark.make_small_sweep(config.num_runs),
            pool,
            root_seed=0,
            valid_fraction=config.valid_rows / len(pool.labels),
            batch_size=min(100, config.rows),
            where=placement.Placement("shard", config.runs_per_device),
            epochs_per_dispatch=10,
            report=report,
        )

    timing = benchmark.time_sweep(run, 1.0)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    timing = dataclasses.replace(timing, memory_mib=most)
    text = json.dumps(dataclasses.asdict(timing))
    processes.from_first(lambda: write_text(workdir / "timing.json", text + "\n"))


if __name__ == "__main__":
    cli.run(main, "experiments/configs/benchmark_scaling.py")
