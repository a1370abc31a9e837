"""The launchers, with small programs in place of the experiments."""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import pytest

from experiments import tables
from experiments.runtime import signals
from launch import commands, local, shards, slurm

ROOT = pathlib.Path(__file__).parents[2]
DIGITS = "--config=experiments/configs/digits.py:smoke"

SAYS = """
import os, sys
print("arguments", *sys.argv[1:])
print("cores", *sorted(os.sched_getaffinity(0)), file=sys.stderr)
"""
# Ends with 75 at a signal, as an experiment does.
STOPS = """
import pathlib, signal, sys, time
def stop(number, frame):
    print("got", signal.Signals(number).name)
    sys.exit(75)
for name in ("SIGTERM", "SIGUSR1", "SIGINT"):
    signal.signal(getattr(signal, name), stop)
print("ready")
time.sleep(60)
"""
DIES = """
import signal, sys, time
index = int(sys.argv[-1].partition("=")[2])
if index == 1:
    time.sleep(0.5)
    sys.exit(3)
signal.signal(signal.SIGTERM, lambda *_: print("asked to stop"))
for _ in range(600):
    time.sleep(0.1)
"""


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """Makes an experiment from a source; its command after ``--``."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "1")

    def make(source):
        (tmp_path / "fake_experiment.py").write_text(source)
        return ["--", "fake_experiment", f"--workdir={tmp_path / 'work'}"]

    return make


def start(words, **options):
    return subprocess.Popen(
        [sys.executable, "-m", *words],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def launch(*words):
    process = start(["launch.local", *words])
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def read_until(process, text, count):
    lines = []
    while sum(text in line for line in lines) < count:
        lines.append(process.stdout.readline())
        assert lines[-1], f"ended after {lines}"
    return lines


# The command.


def test_status_is_that_of_the_experiments():
    assert commands.REQUEUE_STATUS == signals.REQUEUE_STATUS == 75


@pytest.mark.parametrize(
    ("size", "parts"),
    [
        ((11, 3), [(0, 1, 2, 3), (4, 5, 6, 7), (8, 9, 10)]),
        ((3, 2), [(0, 1), (2,)]),
        ((2, 2), [(0,), (1,)]),
        ((1, 1), [(0,)]),
    ],
)
def test_split_evenly(size, parts):
    assert commands.split_evenly(range(size[0]), size[1]) == parts


def test_split_loses_nothing_and_is_even():
    for size in range(1, 30):
        for num_parts in range(1, size + 1):
            parts = commands.split_evenly(range(size), num_parts)
            assert [item for part in parts for item in part] == list(range(size))
            assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_flags_are_found_and_replaced():
    command = commands.Command("m", ("--a=1", "--b", "2", "-a=3", "--a.b=4", "--flag"))
    assert command.value("a") == "3"
    assert command.value("b") == "2"
    assert command.value("c") is None
    assert command.replace("a", "5").arguments == (
        *("--b", "2", "--a.b=4", "--flag"),
        "--a=5",
    )
    assert command.replace("b", "x").arguments[-1] == "--b=x"
    assert "2" not in command.replace("b", "x").arguments


# Several processes here.


def test_one_log_of_all_processes(fake, tmp_path):
    status, out, err = launch("--processes=2", *fake(SAYS))
    assert (status, err) == (0, "")
    assert (tmp_path / "work" / "launch.log").read_text() == out
    lines = out.splitlines()
    assert len(lines) == 4
    workdir = f"--workdir={tmp_path / 'work'}"
    ports = set()
    for index in range(2):
        mine = [line for line in lines if line.startswith(f"[{index}] ")]
        (said,) = [line for line in mine if "arguments" in line]
        found = re.fullmatch(
            rf"\[{index}\] arguments {re.escape(workdir)}"
            rf" --coordinator=127\.0\.0\.1:(\d+) --num_processes=2"
            rf" --process_id={index}",
            said,
        )
        ports.add(found[1])
        assert len(mine) == 2
    assert len(ports) == 1


def test_one_process_needs_no_coordinator(fake):
    status, out, _ = launch("--processes=1", *fake(SAYS))
    assert status == 0
    assert "--coordinator" not in out


def test_a_closed_pipe_ends_nothing(fake, tmp_path):
    process = start(["launch.local", "--processes=2", *fake(SAYS)])
    process.stdout.close()
    assert process.wait(timeout=60) == 0
    assert len((tmp_path / "work" / "launch.log").read_text().splitlines()) == 4


def test_all_die_with_one(fake):
    before = time.monotonic()
    status, out, _ = launch("--processes=2", "--grace=0.5", *fake(DIES))
    assert status == 3
    assert time.monotonic() - before < 20
    lines = out.splitlines()
    assert lines[-4:] == [
        "[launch] process 1 ended with status 3: stopping all",
        "[0] asked to stop",
        "[launch] process 0 did not stop within 0.5 s: killed",
        "[launch] failed with status 3",
    ]


def test_a_signal_that_ends_a_process_is_its_status(fake):
    source = "import os; os.kill(os.getpid(), 9)"
    assert launch("--processes=2", *fake(source))[0] == 128 + 9


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1", "SIGINT"])
def test_signals_go_on_to_all(fake, name):
    process = start(["launch.local", "--processes=2", *fake(STOPS)])
    read_until(process, "ready", 2)
    process.send_signal(getattr(signal, name))
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 75
    assert sorted(out.splitlines()) == [
        f"[0] got {name}",
        f"[1] got {name}",
        "[launch] stopped; the same command goes on from here",
    ]


def test_a_stop_before_the_signals_are_taken_over_asks_for_requeue(fake):
    source = "import time; print('ready'); time.sleep(60)"
    process = start(["launch.local", "--processes=2", *fake(source)])
    read_until(process, "ready", 2)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 75


def test_no_process_outlives_a_killed_launcher(fake):
    source = "import os, time; print('number', os.getpid()); time.sleep(60)"
    process = start(["launch.local", "--processes=2", *fake(source)])
    lines = read_until(process, "number", 2)
    numbers = [int(line.split()[-1]) for line in lines]
    process.kill()
    process.wait()
    deadline = time.monotonic() + 20
    while any(_runs(number) for number in numbers):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _runs(number):
    try:
        stat = pathlib.Path(f"/proc/{number}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def test_shares_are_equal():
    shares = local.share_devices(2, (0, 1, 2, 3, 4), (), {"XLA_FLAGS": "--a=b"})
    changed = {
        "JAX_NUM_CPU_DEVICES": "2",
        "XLA_FLAGS": "--a=b --xla_cpu_multi_thread_eigen=false",
    }
    assert shares == [((0, 1, 2, 3, 4), changed)] * 2
    assert local.share_devices(1, (0, 1), (), {}) == [
        ((0, 1), {"JAX_NUM_CPU_DEVICES": "2"})
    ]
    shares = local.share_devices(2, (0,), ("4", "5", "6", "7"), {})
    assert shares == [
        ((0,), {"CUDA_VISIBLE_DEVICES": "4,5"}),
        ((0,), {"CUDA_VISIBLE_DEVICES": "6,7"}),
    ]
    shares = local.share_devices(3, (0, 1), (), {"JAX_NUM_CPU_DEVICES": "1"})
    assert [share.cores for share in shares] == [(0, 1)] * 3
    assert all("JAX_NUM_CPU_DEVICES" not in share.environment for share in shares)


def test_fewer_devices_than_processes():
    with pytest.raises(commands.UserError, match=r"=3: only 2 cores .* at most 2"):
        local.share_devices(3, (0, 1), (), {})
    with pytest.raises(commands.UserError, match=r"=3: only 2 GPUs .* at most 2"):
        local.share_devices(3, (0, 1, 2), ("0", "1"), {"JAX_NUM_CPU_DEVICES": "1"})


def test_gpus_are_those_that_jax_would_use(monkeypatch):
    class Plugin:
        name = "xla_cuda13"

    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: [Plugin])
    visible = {"CUDA_VISIBLE_DEVICES": "2,GPU-ab"}
    assert local.find_gpus(visible) == ("2", "GPU-ab")
    assert local.find_gpus({**visible, "JAX_PLATFORMS": "cpu"}) == ()
    assert local.find_gpus({"CUDA_VISIBLE_DEVICES": ""}) == ()
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: [])
    assert local.find_gpus(visible) == ()


def test_a_taken_port():
    import socket

    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(commands.UserError, match=rf"--port={port}: .*in use"):
            local.choose_port(port)
    assert local.choose_port(0) > 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--processes=2"], "no experiment; give -- experiments.NAME"),
        (["--processes=2", "--"], "no experiment after --"),
        (["--processes=2", "--", "--workdir=x"], "no experiment after --"),
        (["--processes=2", "--", "experiments.cifr"], "no module 'experiments.cifr'"),
        (["--processes=2", "--", "no.such"], "no module 'no.such'"),
        (["--processes=2", "--", "experiments.cifar"], "--workdir is missing"),
        (["--processes=0", "--", "experiments.cifar"], "--processes=0: give 1 or more"),
        (["--processes=x", "--", "experiments.cifar"], "--processes: invalid int"),
        (["--", "experiments.cifar"], "--processes"),
        (["--procs=2", "--", "experiments.cifar"], "--processes"),
    ],
)
def test_a_wrong_command_of_local(words, message):
    with pytest.raises(commands.UserError, match=message):
        local.main(words)


def test_a_mistake_is_one_line():
    assert launch("--processes=2", "--", "experiments.cifar") == (
        2,
        "",
        "error: --workdir is missing; give --workdir=DIR after the --\n",
    )


# Shards.


def make_shards(workdir, made, over="num_perfect", parts=((0, 5), (10,)), **fields):
    """Work folders as two shards leave them."""
    record = shards.Record(("experiments.cifar",), over, parts, ("7_0", "7_1"), {})
    workdir.mkdir(exist_ok=True)
    shards.write_record(record, workdir)
    for shard, named in zip(record.shards(workdir), made, strict=True):
        shard.workdir.mkdir(parents=True)
        config = {"num_epochs": 3, "grid": {"alpha": [1.0]}, **fields}
        config[over] = list(shard.values)
        (shard.workdir / "config.json").write_text(json.dumps(config))
        for name, text in named.items():
            (shard.workdir / name).write_text(text)
        if named:
            tables.seal(shard.workdir)
    return record


RESULTS_0 = {
    "results.csv": "seed,num_perfect,value\n0,0,0.1\n0,5,0.30000000000000004\n",
    "curves.csv": "k,y\n0,\n5,1e-07\n",
}
RESULTS_1 = {
    "results.csv": "seed,num_perfect,value\n0,10,1.0\n",
    "curves.csv": "k,y\n10,0.5\n",
}


def test_tables_are_merged_as_they_were_written(tmp_path):
    record = make_shards(tmp_path, [RESULTS_0, RESULTS_1])
    assert shards.read_record(tmp_path) == record
    counts = shards.collect(tmp_path, record)
    assert counts == {"curves.csv": 3, "results.csv": 3}
    assert (tmp_path / "results.csv").read_text() == (
        "seed,num_perfect,value\n0,0,0.1\n0,5,0.30000000000000004\n0,10,1.0\n"
    )
    assert (tmp_path / "curves.csv").read_text() == "k,y\n0,\n5,1e-07\n10,0.5\n"
    config = json.loads((tmp_path / "config.json").read_text())
    assert config == {
        "num_epochs": 3,
        "grid": {"alpha": [1.0]},
        "num_perfect": [0, 5, 10],
    }
    # Again, over what is there now.
    assert shards.collect(tmp_path, record) == counts


def test_rows_of_all_shards_stand_once(tmp_path):
    made = [
        {"results.csv": "method,y\nexpert,\nexpert,\nours,1\n"},
        {"results.csv": "method,y,z\nexpert,,\nexpert,,\nours,1,2\n"},
    ]
    record = make_shards(tmp_path, made)
    shards.collect(tmp_path, record)
    # Two equal rows of one shard are two; what the other has too is not counted again.
    assert (tmp_path / "results.csv").read_text() == (
        "method,y,z\nexpert,,\nexpert,,\nours,1,\nours,1,2\n"
    )


def test_missing_shards_are_named(tmp_path):
    record = make_shards(tmp_path, [RESULTS_0, {}])
    with pytest.raises(commands.UserError, match=r"no results.csv from shard 01;"):
        shards.collect(tmp_path, record)
    assert not (tmp_path / "results.csv").exists()
    assert not (tmp_path / "config.json").exists()
    assert shards.collect(tmp_path, record, partial=True)["results.csv"] == 2
    for shard in record.shards(tmp_path):
        (shard.workdir / "results.csv").unlink(missing_ok=True)
    with pytest.raises(commands.UserError, match=r"from shards 00, 01;"):
        shards.collect(tmp_path, record, partial=True)


def test_a_shard_that_lacks_a_table_is_named(tmp_path):
    lacking = {"results.csv": RESULTS_1["results.csv"]}
    record = make_shards(tmp_path, [RESULTS_0, lacking])
    with pytest.raises(commands.UserError, match=r"no curves.csv from shard 01"):
        shards.collect(tmp_path, record)


def test_a_table_that_was_cut_short_is_not_merged(tmp_path):
    record = make_shards(tmp_path, [RESULTS_0, RESULTS_1])
    path = tmp_path / "shards" / "00" / "results.csv"
    path.write_text(path.read_text().removesuffix("0,5,0.30000000000000004\n"))
    with pytest.raises(commands.UserError, match=r"results.csv: 1 rows .*were 2 ") as e:
        shards.collect(tmp_path, record)
    assert str(path) in str(e.value) and "\n" not in str(e.value)
    assert not (tmp_path / "results.csv").exists()
    path.write_text(RESULTS_0["results.csv"].replace("0.1", "0.2"))
    with pytest.raises(commands.UserError, match=r"results.csv: 2 rows with sha256"):
        shards.collect(tmp_path, record)
    path.write_text(RESULTS_0["results.csv"])
    (path.parent / "tables.json").unlink()
    with pytest.raises(commands.UserError, match=r"00: no tables.json, .* unfinished"):
        shards.collect(tmp_path, record)
    tables.seal(path.parent)
    assert shards.collect(tmp_path, record)["results.csv"] == 3
    sealed = json.loads((tmp_path / "tables.json").read_text())["tables"]
    assert {name: told["rows"] for name, told in sealed.items()} == {
        "curves.csv": 3,
        "results.csv": 3,
    }


def test_tables_of_two_versions_are_not_merged(tmp_path):
    record = make_shards(tmp_path, [RESULTS_0, RESULTS_1])
    for number, code in enumerate("ab"):
        folder = tmp_path / "shards" / f"0{number}"
        (folder / "origin.json").write_text(json.dumps({"code": code, "data": code}))
        tables.seal(folder)
    with pytest.raises(commands.UserError, match=r"01 was made with other code; "):
        shards.collect(tmp_path, record)


def change_config(path, **fields):
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def test_mixed_configs_are_refused(tmp_path):
    record = make_shards(tmp_path, [RESULTS_0, RESULTS_1])
    path = tmp_path / "shards" / "01" / "config.json"
    change_config(path, grid={"alpha": [0.5]})
    with pytest.raises(
        commands.UserError, match=r"shards 00 and 01 .* config.grid.alpha differs"
    ):
        shards.collect(tmp_path, record)
    change_config(path, grid={"alpha": [1.0]}, num_perfect=[9])
    with pytest.raises(
        commands.UserError, match=r"config.num_perfect is \[9\], .* with \(10,\)"
    ):
        shards.collect(tmp_path, record)
    change_config(path, num_perfect=[10], new=1)
    with pytest.raises(commands.UserError, match=r"config.new differs"):
        shards.collect(tmp_path, record)
    assert not (tmp_path / "results.csv").exists()


def test_results_of_another_config_are_not_overwritten(tmp_path):
    record = make_shards(tmp_path, [RESULTS_0, RESULTS_1])
    (tmp_path / "config.json").write_text('{"num_epochs": 4}')
    with pytest.raises(commands.UserError, match=r"config.json: config.grid differs"):
        shards.collect(tmp_path, record)


def digits_command(*arguments):
    return commands.Command("experiments.cifar", (DIGITS, *arguments))


def test_a_field_is_split(monkeypatch):
    monkeypatch.chdir(ROOT)
    command = digits_command()
    assert shards.split_field(command, "num_perfect", 2) == ((0, 5), (10,))
    assert shards.split_field(command, "num_perfect", None) == ((0,), (5,), (10,))
    command = digits_command("--config.num_perfect=(1,2,3,4)", "--workdir=x")
    parts = shards.split_field(command, "num_perfect", 2)
    assert parts == ((1, 2), (3, 4))
    # Read as the experiment itself reads it, a shard has its part and no more.
    shard = shards.Shard("00", parts[0], pathlib.Path("/x/shards/00"))
    changed = shards.shard_command(command, "num_perfect", shard)
    assert shards.read_config(changed).num_perfect == (1, 2)
    assert changed.workdir == shard.workdir
    methods = shards.split_field(command, "methods", 4)
    assert methods[0] == ("deferral",)


@pytest.mark.parametrize(
    ("over", "num_shards", "message"),
    [
        ("num_perfect", 4, r"--shards=4: config.num_perfect has 3 values; give 1..3"),
        ("num_perfect", 0, r"--shards=0: "),
        ("grid.alpha", 2, r"--over=config.grid.alpha: validation chooses"),
        ("num_epochs", 2, r"--over=config.num_epochs: holds 3; choose"),
        ("model", 2, r"--over=config.model: holds"),
        ("num_prefect", 2, r"--over=config.num_prefect: the config has no such"),
        ("model.name.x", 2, r"--over=config.model.name.x: the config has no such"),
    ],
)
def test_a_field_that_cannot_be_split(monkeypatch, over, num_shards, message):
    monkeypatch.chdir(ROOT)
    with pytest.raises(commands.UserError, match=message):
        shards.split_field(digits_command(), over, num_shards)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "--over needs --config"),
        (("--config=no/such.py",), r"--config=no/such.py: cannot be read: "),
        (
            ("--config=experiments/configs/digits.py:x",),
            r"cannot be read: .*scale must",
        ),
        ((DIGITS, "--config.nothing=1"), r"cannot be read: "),
    ],
)
def test_a_config_that_cannot_be_read(monkeypatch, arguments, message):
    monkeypatch.chdir(ROOT)
    command = commands.Command("experiments.cifar", arguments)
    before = sys.argv
    with pytest.raises(commands.UserError, match=message) as caught:
        shards.read_config(command)
    assert "\n" not in str(caught.value)
    assert sys.argv is before


# Slurm's part of it, with programs in place of Slurm's; tests/slurm has the real one.


def executable(path, text):
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


@pytest.fixture
def fake_slurm(tmp_path, monkeypatch):
    """A cluster that takes every job and has the states in ``states``."""
    pytest.importorskip("submitit", reason="pip install -e '.[slurm]'")
    folder = tmp_path / "bin"
    folder.mkdir()
    executable(folder / "srun", "exit 1")
    executable(folder / "sbatch", "echo Submitted batch job 7")
    executable(folder / "sacct", "exit 1")
    executable(folder / "squeue", f"cat {folder}/states")
    (folder / "states").write_text("")
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.chdir(ROOT)
    return folder


def submit(workdir, *options, command=(DIGITS,)):
    experiment = ["experiments.cifar", *command, f"--workdir={workdir}"]
    return slurm.main(["submit", "--time=5", *options, "--", *experiment])


def script(workdir):
    # submitit keeps one for each task, all the same.
    (text,) = {path.read_text() for path in (workdir / "launch").glob("*.sh")}
    return text


OVER = ("--over=config.num_perfect", "--shards=2")


def test_shards_are_an_array_job(fake_slurm, tmp_path, capsys):
    workdir = tmp_path / "work"
    assert submit(workdir, *OVER, "--cpus=3", "--slurm-qos=low") == 0
    assert "Submitted 2 jobs: 7_0, 7_1" in capsys.readouterr().out
    text = script(workdir)
    for line in (
        "--array=0-1%2",
        "--cpus-per-task=3",
        "--job-name=cifar",
        "--nodes=1",
        "--qos=low",
        "--requeue",
        "--signal=USR2@90",
        "--time=5",
    ):
        assert f"#SBATCH {line}\n" in text
    assert re.search(r"srun .* --cpus-per-task=3 .*submitit", text)
    record = shards.read_record(workdir)
    assert record.over == "num_perfect"
    assert record.parts == ((0, 5), (10,))
    assert record.jobs == ("7_0", "7_1")


def test_many_processes_find_each_other_by_slurm(fake_slurm, tmp_path):
    from submitit.core import utils

    def command(workdir, *options):
        submit(workdir, *options)
        (path,) = (workdir / "launch").glob("*submitted.pkl")
        return utils.DelayedSubmission.load(path).function.command

    assert "--distributed" not in command(tmp_path / "a").arguments
    for index, option in enumerate(("--nodes=2", "--processes-per-node=2")):
        assert "--distributed" in command(tmp_path / str(index), option).arguments


def test_a_sweep_that_runs_is_not_submitted_again(fake_slurm, tmp_path):
    workdir = tmp_path / "work"
    submit(workdir, *OVER)
    (fake_slurm / "states").write_text("7_0|COMPLETED\n7_1|RUNNING\n")
    with pytest.raises(commands.UserError, match=r"7_1 of this sweep still run"):
        submit(workdir, *OVER)
    with pytest.raises(commands.UserError, match=r"launch.json: another command"):
        submit(workdir, "--over=config.num_perfect", "--shards=3")
    (fake_slurm / "states").write_text("7_0|COMPLETED\n7_1|FAILED\n")
    assert submit(workdir, *OVER) == 0


def test_status_has_a_line_for_each_shard(fake_slurm, tmp_path, capsys):
    make_shards(tmp_path / "work", [RESULTS_0, {}])
    (tmp_path / "work" / "launch").mkdir()
    log = tmp_path / "work" / "launch" / "7_1_0_log.err"
    log.write_text("deferral: 1/4 epochs\ndeferral: 2/4 epochs\n\n")
    (fake_slurm / "states").write_text("7_0|COMPLETED\n7_1|RUNNING\n8|FAILED\n")
    assert slurm.main(["status", str(tmp_path / "work")]) == 0
    assert [line.split() for line in capsys.readouterr().out.splitlines()[1:]] == [
        ["00", "7_0", "COMPLETED", "2", "0,5", "-"],
        ["01", "7_1", "RUNNING", "0", "10", "deferral:", "2/4", "epochs"],
    ]


def test_collect_prints_what_it_wrote(tmp_path, capsys):
    make_shards(tmp_path, [RESULTS_0, RESULTS_1])
    assert slurm.main(["collect", str(tmp_path)]) == 0
    assert f"{tmp_path / 'results.csv'}: 3 rows\n" in capsys.readouterr().out


def test_a_partial_table_is_said_to_be_one(tmp_path, capsys):
    make_shards(tmp_path, [{}, RESULTS_1])
    assert slurm.main(["collect", str(tmp_path), "--partial"]) == 0
    assert capsys.readouterr().out.endswith("Partial, without shard 00\n")


def test_states_are_unknown_without_slurm(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert slurm.job_states(["7_0"]) == {"7_0": "UNKNOWN"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--slurm-qoos=low"], r"^--slurm-qoos: submitit has no Slurm option 'qoos'"),
        (["--slurm-qos"], r"^--slurm-qos: give --slurm-qos=VALUE"),
        (["--slurm-qos=a\ntouch stolen"], r"^--slurm-qos: .* without line breaks"),
        (["--slurm-setup=" + r'["ls", "a\u2028b"]'], r"^--slurm-setup: .* line breaks"),
        (
            ["--slurm-additional-parameters=" + r'{"wckey\ntouch stolen": 1}'],
            r"^--slurm-additional-parameters: .* without line breaks",
        ),
        (["--partition=a\rb"], r"^--partition: .* without line breaks"),
        (["--slurm-time=3"], r"^--slurm-time: has an option of its own"),
        (["--nodes=0"], r"--nodes: 0 is less than 1"),
        (["--node=1"], r"unrecognized arguments: --node=1"),
        (["--shards=2"], r"^--shards: say over which field"),
    ],
)
def test_a_wrong_option_is_named(fake_slurm, tmp_path, options, message):
    with pytest.raises(commands.UserError, match=message):
        submit(tmp_path / "work", *options)
    assert not (tmp_path / "work" / "launch.json").exists()


def test_slurm_refuses(fake_slurm, tmp_path):
    executable(fake_slurm / "sbatch", "echo 'sbatch: error: no such place' >&2; exit 1")
    with pytest.raises(commands.UserError, match=r"Slurm refused: .*no such place"):
        submit(tmp_path / "work")
    assert not (tmp_path / "work" / "launch.json").exists()


def test_no_slurm_here(fake_slurm, tmp_path, monkeypatch):
    (fake_slurm / "srun").unlink()
    monkeypatch.setenv("PATH", str(fake_slurm))
    with pytest.raises(commands.UserError, match=r"no srun here"):
        submit(tmp_path / "work")


def test_nothing_was_submitted(tmp_path):
    for what in ("status", "collect"):
        with pytest.raises(commands.UserError, match=r"launch.json: No such file"):
            slurm.main([what, str(tmp_path)])
    with pytest.raises(commands.UserError, match=r"the --over|required: what"):
        slurm.main([])


# Inside a job.

IN_A_JOB = """
import signal, sys
from launch import commands, jobs

def requeue(number, frame):
    print("requeued", signal.Signals(number).name, flush=True)
    sys.exit(1)

signal.signal(signal.SIGUSR2, requeue)
command = commands.Command("fake_experiment", ())
jobs.ExperimentJob(command, ".")()
print("done")
"""


def start_job(source, fake, fake_slurm, state="RUNNING"):
    fake(source)
    return run_job(fake_slurm, state)


def run_job(fake_slurm, state="RUNNING"):
    (fake_slurm / "states").write_text(f"{state}\n")
    return subprocess.Popen(
        [sys.executable, "-c", IN_A_JOB],
        cwd=ROOT,
        env={**os.environ, "SLURM_JOB_ID": "7", "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.mark.parametrize("name", ["SIGUSR2", "SIGTERM"])
def test_a_warned_job_is_requeued(fake, fake_slurm, name):
    job = start_job(STOPS, fake, fake_slurm)
    read_until(job, "ready", 1)
    # As Slurm does it: to every process of the job.
    os.killpg(job.pid, getattr(signal, name))
    out, _ = job.communicate(timeout=60)
    assert out.splitlines() == ["got SIGTERM", "requeued SIGUSR2"]


@pytest.mark.skipif(sys.platform != "linux", reason="the system is to tell the child")
def test_a_program_ends_with_its_job(fake, fake_slurm):
    """A SIGKILL reaches the task alone where Slurm does not track its processes."""
    job = start_job(STOPS, fake, fake_slurm)
    read_until(job, "ready", 1)
    job.kill()
    out, _ = job.communicate(timeout=60)
    assert out.splitlines() == ["got SIGTERM"]


def test_a_job_that_slurm_ends_is_not_requeued(fake, fake_slurm):
    job = start_job(STOPS, fake, fake_slurm, state="COMPLETING")
    read_until(job, "ready", 1)
    os.killpg(job.pid, signal.SIGTERM)
    out, _ = job.communicate(timeout=60)
    assert out.splitlines() == ["got SIGTERM", "Stopped by Slurm"]
    assert job.returncode == 75


@pytest.mark.parametrize("chosen", [None, "1"])
def test_a_task_uses_the_cores_it_was_given(fake, fake_slurm, monkeypatch, chosen):
    fake("import os; print(os.environ['JAX_NUM_CPU_DEVICES'], 'devices')")
    monkeypatch.delenv("JAX_NUM_CPU_DEVICES")
    monkeypatch.delenv("XLA_FLAGS")
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "3")
    if chosen is not None:
        monkeypatch.setenv("JAX_NUM_CPU_DEVICES", chosen)
    out, _ = run_job(fake_slurm).communicate(timeout=60)
    assert f"{chosen or 3} devices" in out.splitlines()


def test_a_job_that_is_done_or_failed_is_not_requeued(fake, fake_slurm):
    done = start_job("pass", fake, fake_slurm)
    out, _ = done.communicate(timeout=60)
    assert (done.returncode, out.splitlines()[-1]) == (0, "done")
    failed = start_job("raise SystemExit(3)", fake, fake_slurm)
    out, err = failed.communicate(timeout=60)
    assert "requeued" not in out
    assert "RuntimeError: fake_experiment ended with status 3" in err


def test_a_line_break_in_a_folder_is_refused(tmp_path):
    folder = tmp_path / "work\ntouch stolen"
    with pytest.raises(commands.UserError, match="without line breaks"):
        commands.make_folder(folder)
    assert not folder.exists()
    assert commands.make_folder(tmp_path / "ein ö $(x) 'y'; z").is_dir()


def make_link(path):
    (path.parent / "stolen").write_text("theirs")
    path.symlink_to("stolen")


@pytest.mark.parametrize("make", [make_link, os.mkfifo, os.mkdir])
def test_a_log_that_is_no_file_is_refused(tmp_path, make):
    path = tmp_path / "launch.log"
    make(path)
    with pytest.raises(commands.UserError, match=r"launch.log: is a link, a folder or"):
        local.Log(path)
    if path.is_symlink():
        assert (tmp_path / "stolen").read_text() == "theirs"


def test_a_log_in_a_folder_that_is_a_link_is_written(tmp_path):
    (tmp_path / "scratch").mkdir()
    (tmp_path / "runs").symlink_to("scratch")
    for _ in range(2):
        with local.Log(tmp_path / "runs" / "launch.log") as log:
            log.say("begun")
    text = (tmp_path / "scratch" / "launch.log").read_text()
    assert text == "[launch] begun\n" * 2
