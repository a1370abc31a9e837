"""Every program, by itself and as two processes, killed and stopped until it ends."""

import contextlib
import pathlib
import random
import signal
import subprocess
import sys
import time

import pytest

from launch import commands

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).parents[2]
NUM_KILLS = 4
PROGRAMS = {
    "digits": ("cifar", "digits", "--config.checkpoint_seconds=0"),
    "synthetic": ("tabular", "synthetic", "--config.checkpoint_seconds=0"),
    "compas": ("tabular", "compas", "--config.checkpoint_seconds=0"),
    "trips": ("trips", "trips"),
    "clusters": ("allocation", "clusters"),
    "bias": ("allocation", "bias"),
    "deferral": ("deferral", "digits_grid", "--config.checkpoint_seconds=0"),
    "unseen": ("unseen", "unseen", "--config.checkpoint_seconds=0"),
    "zoo": ("zoo", "zoo"),
}
LAUNCHERS = {"alone": (), "two": ("launch.local", "--processes=2", "--")}


def start(program, launcher, workdir):
    module, config, *flags = PROGRAMS[program]
    words = [*LAUNCHERS[launcher], f"experiments.{module}"]
    # A field comes after the config that it is of.
    words += [f"--config=experiments/configs/{config}.py:smoke", *flags]
    return subprocess.Popen(
        [sys.executable, "-m", *words, f"--workdir={workdir}"],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def end(process):
    try:
        _, err = process.communicate(timeout=1800)
    finally:
        process.kill()
    return process.returncode, err


def read_tables(workdir):
    found = {
        str(path.relative_to(workdir)): path.read_bytes()
        for path in workdir.rglob("*.csv")
        # The one table that another start does not repeat.
        if path.name != "seconds.csv"
    }
    assert "results.csv" in found
    return found


@pytest.mark.parametrize("launcher", LAUNCHERS)
@pytest.mark.parametrize(
    "program",
    [
        pytest.param(name, marks=pytest.mark.real_data("compas"))
        if name == "compas"
        else name
        for name in PROGRAMS
    ],
)
def test_it_ends_with_the_same_tables(program, launcher, tmp_path):
    """Of the launcher that is killed the processes are, too, told to stop."""
    # The second has its programs from the cache, as those that are killed have.
    for name in ("first", "whole"):
        begin = time.monotonic()
        status, err = end(start(program, launcher, tmp_path / name))
        seconds = time.monotonic() - begin
        assert status == 0, err
    expected = read_tables(tmp_path / "whole")
    assert read_tables(tmp_path / "first") == expected
    generator, work, statuses = random.Random(program), tmp_path / "work", []
    while not statuses or statuses[-1]:
        process = start(program, launcher, work)
        if len(statuses) < NUM_KILLS:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=generator.uniform(0.1, 0.9) * seconds)
            number = (signal.SIGKILL, signal.SIGTERM)[len(statuses) % 2]
            process.send_signal(number)
        status, err = end(process)
        assert "Traceback" not in err
        # A start may find the folder in use by a process that is about to end.
        assert status in (0, -signal.SIGKILL, commands.REQUEUE_STATUS), err
        statuses.append(status)
        assert len(statuses) < NUM_KILLS + 10
    assert read_tables(work) == expected
    log = work / "launch.log"
    assert not log.exists() or "Traceback" not in log.read_text()
    assert not (work / ".lock").exists()
    assert not [path for path in work.rglob("*") if path.name.endswith(".tmp")]
