"""Told to stop, killed, or left without a disk: nothing that was finished is lost."""

import concurrent.futures
import contextlib
import errno
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
from children import child_environment

from experiments import tables
from experiments.figures import save as figures
from experiments.runtime import signals
from experiments.runtime.errors import InUseError
from experiments.runtime.workdir import use_workdir
from l2d_jax.engine import checkpoints, chunks, origins
from l2d_jax.engine.placement import Placement

ROOT = pathlib.Path(__file__).parents[2]
TABLES = ("results.csv", "summary.csv", "comparison.csv", "curves.csv")
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


def start(workdir, *args):
    config = "--config=experiments/configs/digits.py:smoke"
    command = [sys.executable, "-m", "experiments.cifar", config]
    return subprocess.Popen(
        [*command, f"--workdir={workdir}", *args],
        cwd=ROOT,
        env=child_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(workdir, *args):
    """Exit status and standard error."""
    process = start(workdir, *args)
    try:
        _, err = process.communicate(timeout=300)
    finally:
        process.kill()
    return process.returncode, err


def wait_for(process, path, pattern):
    while not any(path.glob(pattern)):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)


def check_same(workdir, other):
    for name in TABLES:
        assert (workdir / name).read_bytes() == (other / name).read_bytes(), name


# Signals.


@pytest.mark.parametrize("number", SIGNALS)
def test_a_stop_signal_is_noted_and_given_back(number):
    before = signal.getsignal(number)
    with signals.StopSignal() as stop:
        assert not stop()
        os.kill(os.getpid(), number)
        assert stop()
    assert signal.getsignal(number) == before


def test_the_status_asks_for_another_start():
    assert signals.REQUEUE_STATUS == 75


def test_a_signal_is_noted_by_whoever_asks_next():
    with signals.StopSignal() as outer:
        os.kill(os.getpid(), signal.SIGTERM)
        with signals.StopSignal() as inner:
            assert inner()
        assert outer()
    with signals.StopSignal() as stop:
        assert not stop()


def test_a_stop_is_no_error():
    """A loader that takes every error for damaged data must not take this one."""
    assert not issubclass(chunks.Interrupted, Exception)


STOPPED = "Stopped; the same command goes on from here.\n"


def stop_at(stage, number, workdir, *flags):
    """Status and standard error of a program that has the signal in the stage."""
    process = subprocess.Popen(
        [sys.executable, "-c", _STAGES, stage, f"--workdir={workdir}", *flags],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout.readline() == "begun\n", process.stderr.read()
        time.sleep(0.5)
        process.send_signal(number)
        _, err = process.communicate(timeout=30)
    finally:
        process.kill()
    return process.returncode, err


# All that a program does while it can be stopped, each for ever.
_STAGES = """
import atexit, sys, time
import jax
import jax.numpy as jnp
import numpy as np
from experiments.runtime import cli, progress, signals
from experiments.runtime.errors import InUseError
from l2d_jax.engine import chunks
from l2d_jax.engine.placement import Placement

stage = sys.argv.pop(1)

def decode():
    while True:
        try:
            time.sleep(0.1)
        except Exception:
            raise ConfigError("damaged, delete its folder")

def evaluate():
    def nap(x):
        time.sleep(0.1)
        return x
    call = jax.jit(lambda x: jax.pure_callback(nap, x, x))
    while True:
        call(np.float32(1)).block_until_ready()

def call():
    forever = jax.jit(lambda x: jax.lax.while_loop(lambda x: x > 0, jnp.cos, x))
    forever(1.0).block_until_ready()

def train(workdir, stop):
    def report(done):
        time.sleep(0.1)
    chunks.map_runs(
        lambda run, shared: run, np.zeros(10**6), np.float32(1),
        where=Placement("vmap", 1), checkpoint_dir=workdir / "checkpoints",
        report=report, should_stop=stop,
    )

def end_slowly():
    progress.say("begun")
    time.sleep(1.5)

def main(config, workdir):
    if stage == "done":
        atexit.register(end_slowly)
        return
    progress.say("begun")
    if stage == "decoding":
        decode()
    if stage == "evaluating":
        evaluate()
    with signals.StopSignal() as stop:
        if stage == "call":
            call()
        if stage == "training":
            train(workdir, stop)
        if stage == "between":
            decode()

cli.run(main, "experiments/configs/digits.py")
"""


@pytest.mark.long
@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("stage", ["decoding", "evaluating"])
def test_where_there_is_nothing_to_keep_a_stop_is_at_once(stage, number, tmp_path):
    found = stop_at(stage, number, tmp_path, "--stop_seconds=1000")
    assert found == (signals.REQUEUE_STATUS, STOPPED)


@pytest.mark.long
@pytest.mark.parametrize("number", SIGNALS)
def test_a_stop_does_not_wait_for_a_compiled_call(number, tmp_path):
    found = stop_at("call", number, tmp_path, "--stop_seconds=0.5")
    assert found == (signals.REQUEUE_STATUS, STOPPED)


@pytest.mark.long
@pytest.mark.parametrize("number", SIGNALS)
def test_what_has_ended_well_cannot_be_stopped(number, tmp_path):
    """While Python and JAX are taken down, which takes some tenths of a second."""
    assert stop_at("done", number, tmp_path) == (0, "")


@pytest.mark.long
def test_a_stop_does_not_wait_for_a_stage_that_does_not_ask(tmp_path):
    found = stop_at("between", signal.SIGTERM, tmp_path, "--stop_seconds=0.5")
    assert found == (signals.REQUEUE_STATUS, STOPPED)


@pytest.mark.long
def test_a_stop_keeps_the_checkpoints_and_gives_the_folder_back(tmp_path):
    found = stop_at("training", signal.SIGTERM, tmp_path, "--stop_seconds=1000")
    assert found == (signals.REQUEUE_STATUS, STOPPED)
    kept = sorted(tmp_path.glob("checkpoints/*.json"))
    assert kept and all(checkpoints.read_info(p.with_suffix("")) for p in kept)
    assert not (tmp_path / ".lock").exists()


# The second of two processes ends while the first waits for it.
_LOST = """
import os, signal, sys
from experiments.runtime import cli, signals
from l2d_jax.engine import processes

told = sys.argv.pop(1) == "told"

def main(config, workdir):
    with signals.StopSignal():
        processes.any_of(False)
        if processes.index() == 1:
            os._exit(9)
        if told:
            os.kill(os.getpid(), signal.SIGTERM)
        processes.any_of(False)

cli.run(main, "experiments/configs/digits.py")
"""


@pytest.mark.long
@pytest.mark.parametrize("why", ["told", "killed"])
def test_a_process_that_loses_another_ends_in_one_line(why, tmp_path):
    """With the stop's status if it was told to stop, as that one may have been."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    flags = [f"--workdir={tmp_path}", "--stop_seconds=1000", "--num_processes=2"]
    flags += [f"--coordinator=127.0.0.1:{port}"]
    first, second = (
        subprocess.Popen(
            [sys.executable, "-c", _LOST, why, *flags, f"--process_id={number}"],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    )
    try:
        _, err = first.communicate(timeout=120)
    finally:
        first.kill()
        second.kill()
        second.communicate()
    said = [line for line in err.splitlines() if not line.startswith("[Gloo]")]
    assert len(said) == 1, err
    if why == "told":
        assert (first.returncode, said[0] + "\n") == (signals.REQUEUE_STATUS, STOPPED)
    else:
        assert first.returncode == 1
        assert said[0].startswith("error: another process of the program has ended")
    assert not (tmp_path / ".lock").exists()


@pytest.mark.long
@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="there is no /proc")
@pytest.mark.parametrize(("number", "times"), [(n, 1) for n in SIGNALS] + [(2, 2)])
def test_a_stop_while_it_imports(number, times, tmp_path):
    """At the first moment at which the process heeds signals; SIGINT also twice."""
    process = start(tmp_path / "work")
    status = pathlib.Path(f"/proc/{process.pid}/status")

    def caught():
        (mask,) = re.findall(r"SigCgt:\s*(\w+)", status.read_text())
        return int(mask, 16) & (1 << (signal.SIGUSR1 - 1))

    while not caught():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.001)
    for _ in range(times):
        process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (signals.REQUEUE_STATUS, STOPPED)
    assert not (tmp_path / "work").exists()


@pytest.mark.slow
@pytest.mark.parametrize("number", SIGNALS)
def test_told_to_stop_it_keeps_what_is_done(number, tmp_path):
    process = start(
        tmp_path, "--config.num_epochs=400", "--config.checkpoint_seconds=0"
    )
    wait_for(process, tmp_path, "checkpoints/deferral/*.json")
    begin = time.monotonic()
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert time.monotonic() - begin < 20
    assert process.returncode == signals.REQUEUE_STATUS
    assert err.splitlines()[-1] == "Stopped; the same command goes on from here."
    assert list(tmp_path.glob("checkpoints/deferral/*.json"))
    assert not (tmp_path / ".lock").exists()


@pytest.mark.slow
def test_killed_at_twenty_moments_it_ends_with_the_same_tables(tmp_path):
    """SIGKILL, at moments drawn once and for all; no row is lost."""
    args = ("--config.num_seeds=8", "--config.num_epochs=20")
    args += ("--config.epochs_per_dispatch=1", "--config.checkpoint_seconds=0")
    status, err = run(tmp_path / "whole", *args)
    assert status == 0, err
    # Timed as those that are killed: with programs that an earlier start has compiled.
    begin = time.monotonic()
    status, err = run(tmp_path / "again", *args)
    assert status == 0, err
    check_same(tmp_path / "again", tmp_path / "whole")
    # Before the first dispatch there is nothing to lose; the later it gets, the better.
    seconds = time.monotonic() - begin
    generator, kills, work = random.Random(0), 0, tmp_path / "work"
    while kills < 20:
        process = start(work, *args)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=generator.uniform(0.2, 1.0) * seconds)
        if process.poll() is not None:
            # It ended before its time; its checkpoints go, and it begins anew.
            assert process.returncode == 0, process.stderr.read()
            check_same(work, tmp_path / "whole")
            shutil.rmtree(work)
            continue
        process.kill()
        process.communicate()
        kills += 1
    status, err = run(work, *args)
    assert status == 0, err
    check_same(work, tmp_path / "whole")
    assert len(pd.read_csv(work / "results.csv")) == 8 * 3 * (2 + 1 + 3 * 2)


class Command:
    """The same command, in the same work folder, as often as need be."""

    def __init__(self, workdir, *args):
        self.workdir, self.args = workdir, args

    def run(self, number=None, when=None):
        """Exit status and standard error; ``number`` is sent once ``when()``."""
        process = start(self.workdir, "--config.checkpoint_seconds=0", *self.args)
        try:
            if number is not None:
                while not when() and process.poll() is None:
                    time.sleep(0.002)
                process.send_signal(number)
            _, err = process.communicate(timeout=300)
        finally:
            process.kill()
        return process.returncode, err

    def checkpoints(self):
        """Finished checkpoints of all trainings."""
        folder = self.workdir / "checkpoints"
        return {str(p.relative_to(folder)) for p in folder.glob("*/*.json")}

    def has_begun(self, training):
        return any((self.workdir / "checkpoints" / training).glob("*.json"))


@pytest.mark.slow
def test_stopped_killed_and_damaged_it_ends_with_the_same_tables(tmp_path):
    whole = Command(tmp_path / "whole")
    assert whole.run()[0] == 0
    command = Command(tmp_path / "work")

    status, err = command.run(signal.SIGTERM, lambda: command.has_begun("deferral"))
    assert status == signals.REQUEUE_STATUS
    *progress, last = err.splitlines()
    assert last == "Stopped; the same command goes on from here."
    assert all(line.endswith("epochs") for line in progress)
    assert not (command.workdir / "results.csv").exists()

    status, _ = command.run(signal.SIGKILL, lambda: command.has_begun("classifier"))
    assert status == -signal.SIGKILL
    assert not (command.workdir / "results.csv").exists()

    # A training that was done.
    damaged = command.workdir / "checkpoints" / "deferral" / "chunk_0000"
    file = max(damaged.rglob("d/*"), key=lambda path: path.stat().st_size)
    os.truncate(file, file.stat().st_size - 1)

    status, err = command.run()
    assert status == 0, err
    (said,) = [line for line in err.splitlines() if "damaged" in line]
    assert said.startswith("deferral: damaged checkpoint, its runs start again: ")
    assert str(file) in said
    check_same(command.workdir, whole.workdir)


@pytest.mark.slow
def test_killed_at_many_moments_it_ends_with_the_same_tables(tmp_path):
    """After each of the checkpoints of a run, and at times between them."""
    whole = Command(tmp_path / "whole", "--config.num_epochs=9")
    assert whole.run()[0] == 0
    for delay in (0.0, 0.05, 0.2):
        again = Command(tmp_path / str(delay), "--config.num_epochs=9")
        seen, kills = set(), 0
        while True:

            def is_time(again=again, seen=seen, delay=delay):
                if again.checkpoints() <= seen:
                    return False
                time.sleep(delay)
                return True

            status, err = again.run(signal.SIGKILL, is_time)
            if status == 0:
                break
            assert status == -signal.SIGKILL, err
            seen |= again.checkpoints()
            kills += 1
        assert kills >= 3
        check_same(again.workdir, whole.workdir)


# One program a folder.


def test_a_second_program_is_refused(tmp_path):
    with use_workdir(str(tmp_path / "work")) as workdir:
        with (
            pytest.raises(InUseError) as said,
            use_workdir(str(workdir), 0.1),
        ):
            pass
        assert f"workdir {workdir} is in use by process {os.getpid()} on " in str(
            said.value
        )
        assert (workdir / ".lock").exists()
    assert list(workdir.iterdir()) == []
    # A kill leaves the file and not the lock.
    (workdir / ".lock").write_text("1 on nowhere\n")
    with use_workdir(str(workdir)):
        assert str(os.getpid()) in (workdir / ".lock").read_text()


def test_a_program_that_is_about_to_end_is_waited_for(tmp_path):
    """As one whose launcher was killed, and which writes its last checkpoint."""
    held = contextlib.ExitStack()
    held.enter_context(use_workdir(str(tmp_path)))
    with concurrent.futures.ThreadPoolExecutor() as pool:
        waiting = pool.submit(held.enter_context, use_workdir(str(tmp_path), 1000.0))
        time.sleep(0.2)
        assert not waiting.done()
        held.pop_all().close()
        assert waiting.result(timeout=30) == tmp_path
    held.close()


@pytest.mark.long
def test_a_folder_in_use_is_one_line_and_another_start(tmp_path):
    with use_workdir(str(tmp_path)):
        status, err = run(tmp_path, "--wait_seconds=0.1")
    assert status == signals.REQUEUE_STATUS
    assert err.count("\n") == 1 and err.startswith(f"error: workdir {tmp_path} is in")


@pytest.mark.slow
def test_a_second_program_ends_with_one_line(tmp_path):
    process = start(tmp_path, "--config.num_epochs=2000")
    wait_for(process, tmp_path, ".lock")
    status, err = run(tmp_path)
    assert status == signals.REQUEUE_STATUS
    assert err.count("\n") == 1 and err.startswith(f"error: workdir {tmp_path} is in")
    assert f"process {process.pid} on " in err
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == signals.REQUEUE_STATUS


# Disks.


def fail_with(number):
    def fail(*args, **kwargs):
        raise OSError(number, os.strerror(number))

    return fail


def as_orbax_says(number):
    def fail(*args, **kwargs):
        text = f"RESOURCE_EXHAUSTED: Error writing: {os.strerror(number)}; retry"
        raise ValueError(text)

    return fail


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EROFS])
@pytest.mark.parametrize("failing", [fail_with, as_orbax_says])
def test_a_full_disk_leaves_the_last_checkpoint(tmp_path, monkeypatch, number, failing):
    tree = {"a": np.arange(3)}
    checkpoints.save(tmp_path / "first", tree, {"epoch": 1})
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints.ocp.Checkpointer, "save", failing(number))
        with pytest.raises(OSError) as said:
            checkpoints.save(tmp_path / "second", tree, {"epoch": 2})
    assert said.value.errno == number
    assert said.value.filename == str(tmp_path / "second")
    assert checkpoints.read_info(tmp_path / "first") == {"epoch": 1}
    restored = checkpoints.restore(tmp_path / "first", tree)
    np.testing.assert_array_equal(restored["a"], [0, 1, 2])
    assert not checkpoints.exists(tmp_path / "second")


def test_other_errors_stay_what_they_are(tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise ValueError("a tree that orbax does not know")

    monkeypatch.setattr(checkpoints.ocp.Checkpointer, "save", fail)
    with pytest.raises(ValueError, match="does not know"):
        checkpoints.save(tmp_path / "first", {"a": np.arange(3)}, {})


def test_chunks_that_were_kept_are_used_once_the_disk_is_mended(tmp_path, monkeypatch):
    runs, where = np.arange(5.0, dtype=np.float32), Placement("vmap", 2)

    def double(run, shared):
        return 2 * run + shared

    save, kept = checkpoints.save, []

    def save_one(path, tree, info):
        if kept:
            fail_with(errno.ENOSPC)()
        kept.append(path)
        save(path, tree, info)

    options = {"where": where, "checkpoint_dir": tmp_path}
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "save", save_one)
        with pytest.raises(OSError, match="No space left"):
            chunks.map_runs(double, runs, np.float32(1), **options)
    saved = []
    with monkeypatch.context() as patch:
        patch.setattr(
            checkpoints,
            "save",
            lambda path, *rest: saved.append(path) or save(path, *rest),
        )
        result = chunks.map_runs(double, runs, np.float32(1), **options)
    np.testing.assert_array_equal(result, [1, 3, 5, 7, 9])
    # The first chunk is as it was left, and is that of these runs alone.
    assert len(saved) == 2 and kept[0] not in saved
    with pytest.raises(origins.ForeignResultsError, match="made with other runs"):
        chunks.map_runs(double, runs + 10, np.float32(1), **options)


@pytest.mark.parametrize("name", ["table.csv", "figure.png"])
def test_a_table_that_cannot_be_written_stays_as_it_was(tmp_path, monkeypatch, name):
    path = tmp_path / name
    path.write_text("earlier\n")
    monkeypatch.setattr(os, "replace", fail_with(errno.ENOSPC))
    with pytest.raises(OSError) as said:
        if name == "table.csv":
            tables.write_csv(pd.DataFrame({"a": [1]}), path)
        else:
            figures.save(figures.plt.figure(), path)
    assert (said.value.errno, said.value.filename) == (errno.ENOSPC, str(path))
    assert {p.name for p in tmp_path.iterdir()} == {name}
    assert path.read_text() == "earlier\n"
    figures.plt.close("all")


@pytest.fixture
def make_disk(tmp_path):
    """Makes a disk of its own, of so many kilobytes."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def make(size):
        mount = ["mount", "-t", "tmpfs", "-o", f"size={size}k", "none", str(folder)]
        mounted = shutil.which("mount") and subprocess.run(mount, capture_output=True)
        if not mounted or mounted.returncode:
            pytest.skip("a tmpfs cannot be mounted here")
        return folder

    yield make
    while os.path.ismount(folder):
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("state", ["full", "read-only"])
def test_a_disk_that_fails_ends_the_run_in_one_line(make_disk, state):
    """A checkpoint of this run takes a megabyte: the second finds no room."""
    disk = make_disk(1500 if state == "full" else 50_000)
    workdir = disk / "work"
    args = ("--config.num_epochs=2000", "--config.checkpoint_seconds=0")
    process = start(workdir, *args, "--config.epochs_per_dispatch=1")
    if state == "read-only":
        wait_for(process, workdir, "checkpoints/deferral/*.json")
        # Not the disk itself: the lock is open for writing. What lies over it can be.
        for command in (["--bind", str(disk)], ["-o", "remount,bind,ro"]):
            subprocess.run(["mount", *command, str(disk)], check=True)
    _, err = process.communicate(timeout=120)
    lines = [line for line in err.splitlines() if "epochs" not in line]
    assert process.returncode == 1, err
    assert len(lines) == 1 and lines[0].startswith(f"error: {workdir}/"), err
    expected = errno.ENOSPC if state == "full" else errno.EROFS
    assert os.strerror(expected) in lines[0]
    found = list(workdir.glob("checkpoints/*/*.json"))
    for manifest in found:
        checkpoints.read_info(manifest.with_suffix(""))
    assert found
