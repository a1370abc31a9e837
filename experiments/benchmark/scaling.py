"""Times one sweep of small nets on the devices and processes that there are.

A part of `experiments.benchmark`, which starts it once for each layout, because the
number of devices cannot change within a process. The time goes to ``timing.json``.
"""

import dataclasses
import functools
import json
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence

import ml_collections

from experiments.benchmark import pairs
from experiments.benchmark.timing import ONE_CORE, Timing, Variant, time_training
from experiments.problem import annotate_with_nobody, split_at_random
from experiments.runtime import cli, signals
from experiments.runtime.devices import num_cores
from experiments.runtime.workdir import write_text
from l2d_jax.engine import placement, sweeps, training
from l2d_jax.engine.processes import from_first

_POLL_SECONDS = 0.05


def scaling_variants(config: ml_collections.ConfigDict) -> Iterator[Variant]:
    """One sweep of small nets on more and more devices, and on more processes.

    In strong scaling the runs are as many, in weak scaling they grow with the devices.
    Devices beyond the cores are simulated: they show what more of them cost, and not
    what they gain.
    """
    sizes = config.scaling
    cores = num_cores()
    layouts = [(1, 1, 1), (1, cores, cores), (cores, 1, cores)]
    layouts.append((1, sizes.simulated_devices, cores))

    def time_layout(processes: int, devices: int, cores: int, runs: int) -> Timing:
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "launch.local", f"--processes={processes}"]
            command += ["--", "experiments.benchmark.scaling", f"--workdir={folder}"]
            command += [f"--config.num_runs={runs}"]
            for name in ("rows", "valid_rows", "epochs", "runs_per_device"):
                command.append(f"--config.{name}={sizes[name]}")
            every = os.sched_getaffinity(0)
            # Inherited by the processes that this thread starts.
            os.sched_setaffinity(0, sorted(every)[:cores])
            try:
                _run(command, {**os.environ, "JAX_NUM_CPU_DEVICES": str(devices)})
            finally:
                os.sched_setaffinity(0, every)
            return Timing(**json.loads(pathlib.Path(folder, "timing.json").read_text()))

    for kind in ("strong", "weak"):
        for processes, devices, used in layouts:
            runs = sizes.strong_runs
            if kind == "weak":
                runs = sizes.weak_runs * processes * devices
            name = ONE_CORE if used == 1 else f"{processes} x {devices}, {used} cores"
            yield Variant(
                f"{kind} scaling, processes x devices",
                name,
                runs,
                "epochs of a run",
                float("nan"),
                functools.partial(time_layout, processes, devices, used, runs),
            )


def _run(command: Sequence[str], environment: Mapping[str, str]) -> None:
    """Run a command to its end, to which a stop brings it before this program's own.

    Raises:
      CalledProcessError: it failed.
      Interrupted: it was stopped.
    """
    with (
        signals.StopSignal() as stop,
        subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as child,
    ):
        while child.poll() is None and not stop():
            time.sleep(_POLL_SECONDS)
        if stop():
            child.terminate()
            raise sweeps.Interrupted
    if child.returncode:
        raise subprocess.CalledProcessError(child.returncode, command)


def main(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> None:
    """Time the sweep."""
    pool = pairs.make_pool(config.rows + config.valid_rows, pairs.NUM_FEATURES)
    size = len(pool.labels)
    timed = training.Program(
        pairs.make_small_learner(config.hidden),
        annotate_with_nobody,
        pairs.score_small,
        num_epochs=config.epochs,
        eval_batch_size=config.valid_rows,
    )

    timing = time_training(
        timed,
        pairs.make_small_sweep(config.num_runs),
        pool,
        1.0,
        split=split_at_random(size, config.valid_rows / size),
        batch_size=min(100, config.rows),
        where=placement.Placement("shard", config.runs_per_device),
        epochs_per_dispatch=10,
    )
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    timing = dataclasses.replace(timing, memory_mib=most)
    text = json.dumps(dataclasses.asdict(timing))
    from_first(lambda: write_text(workdir / "timing.json", text + "\n"))


if __name__ == "__main__":
    cli.run(main, "experiments/configs/benchmark_scaling.py")
