"""What runs inside a Slurm job: an experiment that is requeued when it is stopped.

submitit starts one `ExperimentJob` for each task of a job. The experiment is a process
of its own, so that the signals of Slurm reach the job first and what JAX holds is gone
when the job is requeued.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import submitit

from launch import commands

POLL_SECONDS = 0.2
SECONDS_FOR_SIGNAL = 5.0
"""A signal of Slurm reaches all processes of a job, but not at one moment."""
SECONDS_FOR_END = 600.0
"""The first task requeues the job, and the others wait for it to end them."""


class ExperimentJob(submitit.helpers.Checkpointable):
    """Runs an experiment; a warning of Slurm stops, requeues and resumes it.

    Slurm warns of the time limit by a signal that submitit chooses (SIGUSR2), and of
    preemption by SIGTERM. Either is passed on as SIGTERM; the experiment writes its
    checkpoint and ends with `commands.REQUEUE_STATUS`; then submitit requeues the job,
    whose next start goes on.

    Args:
      command: the experiment.
      folder: where it is started.
    """

    def __init__(self, command: commands.Command, folder: str):
        self.command = command
        self.folder = folder

    def __call__(self) -> None:
        """Run to the end.

        Raises:
          RuntimeError: the experiment failed.
        """
        warning = signal.Signals["SIG" + submitit.JobEnvironment.USR_SIG]
        requeue = signal.getsignal(warning)
        assert callable(requeue), "submitit has set up its own handler before"
        stops: list[int] = []
        for number in {warning, signal.SIGTERM, signal.SIGUSR1}:
            signal.signal(number, lambda number, _: stops.append(number))
        print(f"Starting: {self.command}", flush=True)
        child = subprocess.Popen(
            _without_signal(warning, self.command.words()),
            cwd=self.folder,
            env=_environment(os.environ),
            # Left behind it would join the next start of the job, at the same address,
            # as a second process of its number, which ends them all.
            preexec_fn=commands.end_with_parent(),
        )
        forwarded = False
        while child.poll() is None:
            if stops and not forwarded:
                child.send_signal(signal.SIGTERM)
                forwarded = True
            time.sleep(POLL_SECONDS)
        status = commands.shell_status(child.returncode)
        if status == 0:
            return
        if status in commands.STOPPED_STATUSES:
            deadline = time.monotonic() + SECONDS_FOR_SIGNAL
            while not stops and time.monotonic() < deadline:
                time.sleep(POLL_SECONDS)
        if status == commands.REQUEUE_STATUS or (
            stops and status in commands.STOPPED_STATUSES
        ):
            _requeue(warning, requeue)
        raise RuntimeError(
            f"{self.command.module} ended with status {status}; its own words are above"
        )


def _without_signal(number: signal.Signals, words: list[str]) -> list[str]:
    """A command that ignores submitit's signal, unless it is one that stops it.

    Slurm signals every process of a job, and a program ends at a signal it does not
    know.
    """
    if number in (signal.SIGTERM, signal.SIGUSR1):
        return words
    name = number.name.removeprefix("SIG")
    return ["/bin/sh", "-c", f"trap '' {name}; exec \"$@\"", "sh", *words]


def _environment(environ: Mapping[str, str]) -> dict[str, str]:
    """With as many host devices as the task has cores, even if Slurm binds it to none.

    What the user has set stands.
    """
    cores = environ.get("SLURM_CPUS_PER_TASK")
    flags = environ.get("XLA_FLAGS", "")
    if cores is None or "xla_force_host_platform_device_count" in flags:
        return dict(environ)
    return {"JAX_NUM_CPU_DEVICES": cores, **environ}


def _requeue(warning: int, submitit_handler: Callable[[int, Any], Any]) -> None:
    """End this task, and see that the job is started again."""
    if _is_ending():
        # Slurm has requeued the job by itself, or somebody has cancelled it. No result
        # is written: SystemExit is not an exception that submitit takes for one.
        print("Stopped by Slurm", flush=True)
        sys.exit(commands.REQUEUE_STATUS)
    # Of the first task this writes the job anew, requeues it and exits.
    submitit_handler(warning, None)
    time.sleep(SECONDS_FOR_END)
    sys.exit(commands.REQUEUE_STATUS)


def _is_ending() -> bool:
    """Whether Slurm is about to end this job, so that it must not be requeued."""
    state = subprocess.run(
        ["squeue", "--noheader", "--format=%T", "--jobs", os.environ["SLURM_JOB_ID"]],
        capture_output=True,
        text=True,
        check=False,
    ).stdout.split()
    return bool(state) and state[0] != "RUNNING"
