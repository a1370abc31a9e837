"""`launch.slurm` on a real Slurm: preemption, time limits, cancelling, many tasks.

sudo tests/slurm/one_node.sh start /tmp/slurm
SLURM_CONF=/tmp/slurm/slurm.conf python -m pytest -m slow tests/slurm
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import time

import pandas as pd
import pytest

from launch import slurm

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).parents[2]
PATIENCE = 300.0

STOPS_ONCE = """
import pathlib, signal, sys, time
(workdir,) = [pathlib.Path(a[10:]) for a in sys.argv if a.startswith("--workdir=")]
def stop(number, frame):
    (workdir / "checkpoint").touch()
    sys.exit(75)
signal.signal(signal.SIGTERM, stop)
if (workdir / "checkpoint").exists():
    print("went on")
    sys.exit()
(workdir / "started").touch()
time.sleep(600)
"""


@pytest.fixture(autouse=True)
def _slurm():
    if shutil.which("sbatch") is None:
        pytest.skip("sbatch is absent: tests/slurm/one_node.sh installs and starts it")
    try:
        pytest.importorskip("submitit", reason="pip install -e '.[slurm]'")
        subprocess.run(["sinfo"], check=True, capture_output=True, timeout=30)
    except (subprocess.SubprocessError, OSError):
        pytest.skip("no Slurm answers: start it by tests/slurm/one_node.sh start DIR")


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """Makes an experiment from a source."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def make(source):
        (tmp_path / "fake_experiment.py").write_text(source)
        return "fake_experiment"

    return make


def python(*words):
    done = subprocess.run(
        [sys.executable, "-m", *map(str, words)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def submit(workdir, *words):
    out = python("launch.slurm", "submit", *words, f"--workdir={workdir}")
    return re.search(r"Submitted .*: (.*)", out)[1].split(", ")


def wait_for(condition, what):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"waited for {what}"
        time.sleep(0.3)


def state(job):
    return slurm.job_states([job])[job]


def preempt():
    """Submit a job that a job of the low partition must make room for."""
    high = "sbatch --partition=high --ntasks=1 --time=1 --output=/dev/null"
    subprocess.run([*high.split(), "--wrap=sleep 3"], check=True)


def restarts(job):
    shown = subprocess.run(
        ["scontrol", "show", "job", "--oneliner", job],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return int(re.search(r"Restarts=(\d+)", shown)[1])


def log(workdir, job, suffix="out", task=0):
    path = workdir / "launch" / f"{job}_{task}_log.{suffix}"
    return path.read_text() if path.exists() else ""


def read_sorted(path):
    # As text: equal to the last digit.
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    return table.sort_values(list(table.columns)).reset_index(drop=True)


def test_a_preempted_sweep_has_the_table_of_a_local_one(tmp_path):
    config = (
        "--config=experiments/configs/digits.py:smoke",
        "--config.num_epochs=400",
        "--config.epochs_per_dispatch=1",
        "--config.checkpoint_seconds=0.5",
        # The same width in every shard: bits depend on it, for the compiler.
        "--config.runs_per_device=1",
    )
    workdir, local = tmp_path / "slurm", tmp_path / "local"
    jobs = submit(
        workdir,
        *("--time=60", "--partition=low", "--cpus=1"),
        *("--over=config.num_perfect", "--shards=2"),
        *("--", "experiments.cifar", *config),
    )
    assert len(jobs) == 2

    # In the middle: every shard runs and has something to go on from.
    shards = [workdir / "shards" / name for name in ("00", "01")]
    wait_for(
        lambda: all(
            any(shard.glob("checkpoints/deferral/*/_CHECKPOINT_METADATA"))
            for shard in shards
        ),
        "checkpoints of both shards",
    )
    assert [state(job) for job in jobs] == ["RUNNING", "RUNNING"]
    assert not any((shard / "results.csv").exists() for shard in shards)
    preempt()
    wait_for(lambda: sum(map(restarts, jobs)), "the preemption of a shard")
    (victim,) = [job for job in jobs if restarts(job)]
    print(f"\npreempted in the middle: {victim} of {jobs}")
    print(python("launch.slurm", "status", workdir))

    def ended():
        return all(state(job) not in slurm.ACTIVE for job in jobs)

    wait_for(ended, "the end of both shards")
    print(python("launch.slurm", "status", workdir))
    assert [state(job) for job in jobs] == ["COMPLETED", "COMPLETED"]
    told = log(workdir, victim)
    assert told.count("Starting: ") == 2
    assert f"Requeued job {victim}" in told
    assert "the same command goes on" in log(workdir, victim, "err")

    print(python("launch.slurm", "collect", workdir))
    python("experiments.cifar", *config, f"--workdir={local}")
    for name in ("results.csv", "summary.csv", "curves.csv"):
        merged, expected = read_sorted(workdir / name), read_sorted(local / name)
        assert len(merged)
        pd.testing.assert_frame_equal(merged, expected)
        print(f"{name}: {len(merged)} rows, the same as local")
    assert (workdir / "config.json").read_text() == (local / "config.json").read_text()


def test_a_job_goes_on_after_its_time(tmp_path, fake):
    workdir = tmp_path / "work"
    (job,) = submit(
        workdir, "--time=1", "--slurm-signal-delay-s=20", "--", fake(STOPS_ONCE)
    )
    wait_for(lambda: state(job) == "COMPLETED", "the second start")
    assert restarts(job) == 1
    assert "went on" in log(workdir, job)
    assert "(99 remaining timeouts)" in log(workdir, job)


def test_a_cancelled_job_stays_cancelled(tmp_path, fake):
    workdir = tmp_path / "work"
    (job,) = submit(workdir, "--time=5", "--", fake(STOPS_ONCE))
    wait_for((workdir / "started").exists, "the start")
    subprocess.run(["scancel", job], check=True)
    wait_for(lambda: state(job) == "CANCELLED", "the end")
    assert (workdir / "checkpoint").exists()
    assert restarts(job) == 0


def test_a_failed_experiment_is_a_failed_job(tmp_path, fake):
    workdir = tmp_path / "work"
    source = "import sys; print('error: no', file=sys.stderr); sys.exit(2)"
    (job,) = submit(workdir, "--time=5", "--", fake(source))
    wait_for(lambda: state(job) == "FAILED", "the end")
    assert "error: no" in log(workdir, job, "err")
    assert "ended with status 2" in log(workdir, job, "err")


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
def test_two_tasks_of_a_job_are_one_program(tmp_path, monkeypatch):
    config = "--config=experiments/configs/digits.py:smoke"
    workdir, local = tmp_path / "slurm", tmp_path / "local"
    (job,) = submit(
        workdir,
        *("--time=5", "--processes-per-node=2", "--cpus=1"),
        *("--", "experiments.cifar", config),
    )
    wait_for(lambda: state(job) not in slurm.ACTIVE, "the end")
    assert state(job) == "COMPLETED", log(workdir, job, "err")
    assert "system accuracy" in log(workdir, job)
    assert "system accuracy" not in log(workdir, job, task=1)
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "2")
    python("experiments.cifar", config, f"--workdir={local}")
    for name in ("results.csv", "summary.csv", "curves.csv"):
        assert (workdir / name).read_bytes() == (local / name).read_bytes(), name


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
def test_a_preempted_job_of_two_tasks_goes_on(tmp_path, fake):
    workdir = tmp_path / "work"
    cores = len(os.sched_getaffinity(0))
    (job,) = submit(
        workdir,
        *("--time=5", "--partition=low", "--processes-per-node=2"),
        *(f"--cpus={cores // 2}", "--", fake(STOPS_ONCE)),
    )
    wait_for((workdir / "started").exists, "the start")
    time.sleep(2)  # Of the other task as well.
    preempt()
    wait_for(lambda: state(job) == "COMPLETED", "the second start")
    assert restarts(job) == 1
    for task in range(2):
        assert "went on" in log(workdir, job, task=task)
