"""Several processes are one program: they agree, and its tables are the same.

Real processes are started, on loopback, with one host device each or more.
"""

import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.runtime import distributed, signals
from l2d_jax import metrics
from l2d_jax.engine import (
    chunks,
    orders,
    placement,
    processes,
    sweeps,
    training,
)
from l2d_jax.engine.placement import Placement, Tiles
from l2d_jax.learners import deferral
from l2d_jax.optimizers import make_adam
from l2d_jax.types import Dataset, ModelFns

ROOT = pathlib.Path(__file__).parents[2]
TABLES = ("results.csv", "summary.csv", "curves.csv")
LAYOUTS = ((1, 2), (2, 1), (4, 1))
"""Processes, and host devices of each."""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start_all(command, num_processes, num_devices, *args, own=None, cached=False):
    """A process for each number, as one program.

    Args:
      command: after ``python``.
      num_processes: one needs no coordinator.
      num_devices: host devices of each.
      args: flags of all.
      own: further flags of each, by its number.
      cached: whether JAX keeps what several processes have compiled.
    """
    environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"} | {
        "JAX_NUM_CPU_DEVICES": str(num_devices),
        "JAX_PLATFORMS": "cpu",
    }
    # Several processes compile once for all where none of them keeps programs.
    cache = {
        "JAX_COMPILATION_CACHE_DIR": str(jax.config.jax_compilation_cache_dir),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    environment = {k: v for k, v in environment.items() if k not in cache}
    if num_processes == 1 or cached:
        environment |= cache
    address = f"127.0.0.1:{free_port()}"
    started = []
    for number in range(num_processes):
        joined = [
            f"--coordinator={address}",
            f"--num_processes={num_processes}",
            f"--process_id={number}",
        ]
        arguments = [*command, *args, *(joined if num_processes > 1 else [])]
        started.append(
            subprocess.Popen(
                [sys.executable, *arguments, *(own[number] if own else [])],
                cwd=ROOT,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    return started


def end_all(started, timeout=400):
    """Exit status, standard output and standard error of each, without gloo's word."""
    ended = []
    try:
        for process in started:
            out, err = process.communicate(timeout=timeout)
            lines = [x for x in out.splitlines() if not x.startswith("[Gloo]")]
            ended.append((process.returncode, "\n".join(lines), err))
    finally:
        for process in started:
            process.kill()
    return ended


def start_digits(num_processes, num_devices, workdir, *args, **options):
    config = "--config=experiments/configs/digits.py:smoke"
    command = ["-m", "experiments.cifar", config, f"--workdir={workdir}"]
    return start_all(command, num_processes, num_devices, *args, **options)


# What they agree on.


def test_one_process_is_what_it_would_be():
    assert (processes.index(), processes.count(), processes.is_first()) == (0, 1, True)
    assert processes.any_of(False, True) == (False, True)
    assert processes.from_first(lambda: {"a": (1, 2)}) == {"a": (1, 2)}
    with pytest.raises(KeyError, match="gone"):
        processes.from_first(lambda: {}["gone"])
    np.testing.assert_array_equal(processes.gather(np.array([3, 4])), [[3, 4]])
    fetched = processes.fetch({"a": jnp.arange(2), "b": np.ones(3)})
    assert isinstance(fetched["a"], np.ndarray)
    np.testing.assert_array_equal(fetched["a"], [0, 1])


_AGREE = """
import sys
import jax, numpy as np
from absl import flags
from experiments.runtime import distributed
distributed.define_process_flags()
flags.FLAGS(sys.argv)
distributed.join_processes()
from l2d_jax.engine import processes, placement
number = processes.index()
assert (processes.count(), processes.is_first()) == (2, number == 0)
assert len(jax.devices()) == 2 * len(jax.local_devices())
assert processes.any_of(number == 1, False, True) == (True, False, True)
long = "x" * 5000
def first():
    assert number == 0
    return [1, None, {"a": long}]
assert processes.from_first(first) == [1, None, {"a": long}]
assert processes.from_first(lambda: number) == 0
# Within one another is called as it is: the other process waits for the outer alone.
nested = lambda: processes.from_first(lambda: [number, "inner"]) + ["outer"]
assert processes.from_first(nested) == [0, "inner", "outer"]
def fail():
    raise KeyError("gone")
for failing in (fail, lambda: processes.from_first(fail)):
    try:
        processes.from_first(failing)
        raise SystemExit("no error")
    except KeyError:
        assert number == 0
    except processes.FirstProcessError as error:
        assert number == 1 and error.name == "KeyError" and "gone" in str(error)
assert processes.gather(np.array([number])).tolist() == [[0], [1]]

# Any bits at all come back as they were.
placed = placement.place(lambda run, shared: run, placement.Placement("shard", 2), "rs")
assert placement.Placement("shard", 2).num_devices == 2
bits = np.array([0.0, -0.0, np.nan, np.inf], np.float32)
keys = jax.random.split(jax.random.key(7), 4)
runs = {"bits": bits, "flag": bits > 1, "keys": keys, "number": np.arange(4)}
result = placed.run(placed.put_runs(runs), placed.put_shared(np.ones(3)))
assert not result["bits"].is_fully_addressable
result["keys"] = jax.random.key_data(result["keys"])
runs["keys"] = jax.random.key_data(keys)
result = processes.fetch(result)
for name, value in runs.items():
    value = np.asarray(jax.device_put(value))
    assert result[name].dtype == value.dtype and result[name].shape == value.shape, name
    assert result[name].tobytes() == value.tobytes(), name
"""


@pytest.mark.long
def test_two_processes_agree():
    started = start_all(["-c", _AGREE], 2, 1)
    for status, _, err in end_all(started):
        assert status == 0, err


@pytest.mark.slow
def test_another_config_is_refused_before_any_work(tmp_path):
    own = [[], ["--config.num_epochs=4"]]
    for status, out, err in end_all(start_digits(2, 1, tmp_path / "work", own=own)):
        assert (status, out) == (2, ""), err
        assert err.count("error: ") == 1
        assert "process 1 has another config than process 0 (sha256 " in err
    assert not (tmp_path / "work").exists()


_JOIN = """
import sys
from absl import flags
from experiments.runtime import distributed
from experiments.runtime.errors import ConfigError
distributed.define_process_flags()
flags.FLAGS(sys.argv)
try:
    distributed.join_processes()
except ConfigError as error:
    sys.exit(f"error: {error}")
"""


def start_one(number, address, seconds, num_processes=2):
    return subprocess.Popen(
        [
            *(sys.executable, "-c", _JOIN, f"--coordinator={address}"),
            *(f"--num_processes={num_processes}", f"--process_id={number}"),
            f"--initialization_timeout={seconds}",
        ],
        cwd=ROOT,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.long
@pytest.mark.parametrize("numbers", [[0], [1], [0, 2]])
def test_a_process_that_does_not_come_is_one_line(numbers):
    address = f"127.0.0.1:{free_port()}"
    started = [start_one(number, address, 1, 3) for number in numbers]
    for process in started:
        _, err = process.communicate(timeout=60)
        assert process.returncode == 2, err
        assert err == (
            f"error: coordinator {address}: not all processes of the program joined"
            " within 1 s; start all of them with the same --coordinator, or raise"
            " --initialization_timeout\n"
        )


@pytest.mark.long
def test_a_coordinator_whose_port_is_taken():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        process = start_one(0, address, 30)
        _, err = process.communicate(timeout=60)
    said = f"error: coordinator {address}: Address already in use; choose another port"
    assert err == f"{said}\n"


@pytest.mark.long
@pytest.mark.skipif(not os.path.exists("/proc/net/tcp"), reason="there is no /proc")
def test_a_program_of_one_machine_is_not_offered_to_others():
    port = free_port()
    process = start_one(0, f"127.0.0.1:{port}", 60)

    def listening():
        """Addresses of the port in the state of listening, in hexadecimal digits."""
        lines = pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]
        six = pathlib.Path("/proc/net/tcp6")
        lines += six.read_text().splitlines()[1:] if six.exists() else []
        rows = [line.split() for line in lines]
        places = [row[1].split(":") for row in rows if row[3] == "0A"]
        return {place for place, number in places if int(number, 16) == port}

    try:
        while not listening():
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.01)
        # The last four bytes of ::ffff:127.0.0.1 are those of 127.0.0.1.
        assert all(place.endswith("0100007F") for place in listening())
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    ("host", "is_here"),
    [
        ("127.0.0.1", True),
        ("localhost", True),
        ("[::1]", True),
        ("10.0.0.1", False),
        ("node1", False),
    ],
)
def test_others_are_listened_to_where_they_are(host, is_here):
    address = f"{host}:{free_port()}"
    assert distributed._bind_address(address) == (address if is_here else None)
    if host != "[::1]" or socket.has_dualstack_ipv6():
        distributed._require_port(address)


# The same to the bit.


@pytest.mark.parametrize(("num_seeds", "per_seed"), [(1, 5), (1, 300), (3, 9), (5, 40)])
def test_blocks_do_not_depend_on_the_number_of_devices(num_seeds, per_seed):
    seeds = np.repeat(np.arange(num_seeds), per_seed)

    def blocks(num_devices):
        chunks, _ = sweeps.plan_chunks(seeds, num_devices, 128)
        every = np.concatenate(chunks)
        return every[(every >= 0).any(axis=1)].tolist()

    assert blocks(2) == blocks(3) == blocks(4) == blocks(64)
    # One device need not be cut for another.
    assert len(blocks(1)) <= len(blocks(2))


@pytest.mark.parametrize(
    ("num_runs", "expected"), [(1, 1), (5, 3), (200, 100), (1000, 128)]
)
def test_width_does_not_depend_on_the_number_of_devices(
    num_runs, expected, monkeypatch
):
    for num_devices in (2, 4, 64):
        monkeypatch.setattr(jax, "devices", lambda n=num_devices: [None] * n)
        where = Placement("shard", 128)
        assert placement.block_width(where, num_runs) == expected


def halve(scale, shared, state):
    """Counts, where it is active; draws of its own key."""
    active = state["left"] > 0
    value = state["value"] + scale * shared * jax.random.uniform(state["key"])
    after = {
        "left": state["left"] - 1,
        "value": value,
        "key": jax.random.split(state["key"])[0],
    }
    data = jax.random.key_data
    chosen = jnp.where(active, data(after["key"]), data(state["key"]))
    kept = {n: jnp.where(active, after[n], state[n]) for n in ("left", "value")}
    return kept | {"key": jax.random.wrap_key_data(chosen)}


@pytest.mark.parametrize("kind", ["vmap", "shard", "loop"])
def test_tiles_are_the_block(kind):
    """Of 7 runs a device, three at a time; some devices have none that are active."""
    where = Placement(kind, 7)
    size = 7 * where.num_devices
    tiles = Tiles(3, 2, lambda state: state["left"] > 0)
    plain = placement.place(halve, where, "rsr")
    tiled = placement.place(halve, where, "rsr", donate=(2,), tiles=tiles)
    scale = np.arange(size, dtype=np.float32)
    lefts = [np.zeros(size), np.ones(size), np.arange(size) == 4, np.arange(size) % 3]
    for left in lefts:
        outcome = []
        for placed in (plain, tiled):
            state = placed.put_runs(
                {
                    "left": left.astype(np.int32),
                    "value": scale + 1,
                    "key": jax.random.split(jax.random.key(0), size),
                }
            )
            for _ in range(2):
                state = placed.run(
                    placed.put_runs(scale), placed.put_shared(np.float32(2)), state
                )
            state["key"] = jax.random.key_data(state["key"])
            outcome.append(jax.tree.map(np.asarray, state))
        jax.tree.map(np.testing.assert_array_equal, *outcome)
        idle = np.asarray(left) == 0
        np.testing.assert_array_equal(outcome[1]["value"][idle], (scale + 1)[idle])


COLLECTIVES = re.compile(
    r"all-reduce|all-gather|all-to-all|collective-|reduce-scatter|\bsend\(|\brecv\("
)


_several_devices = pytest.mark.skipif(
    jax.device_count() < 2, reason="what several devices would send each other"
)


def count_collectives(compiled, *args):
    return len(COLLECTIVES.findall(compiled.lower(*args).compile().as_text()))


@pytest.mark.long
@_several_devices
def test_no_collective_inside_a_run(monkeypatch):
    counts = []
    place = placement.place

    def spied(*args, **kwargs):
        placed = place(*args, **kwargs)

        def run(*arguments):
            counts.append(count_collectives(placed.run, *arguments))
            return placed.run(*arguments)

        run.eval_shape = placed.run
        return placed._replace(run=run)

    monkeypatch.setattr(placement, "place", spied)
    # Whatever the width, there are tiles.
    monkeypatch.setattr(sweeps, "_TILE_WIDTH", 2)
    model = ModelFns(
        lambda key, x: ({"w": jax.random.normal(key, (x.shape[-1], 3))}, {}),
        lambda params, state, x, train: (x @ params["w"], state),
    )
    shared = training.Program(
        deferral.make_learner(model, make_adam()),
        lambda key, hparams, dataset: dataset,
        lambda decision, batch, hparams: metrics.system_accuracy(
            decision, batch.labels, batch.expert_labels
        ),
        num_epochs=2,
        patience=1,
    )
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 2, 20).astype(np.int32)
    inputs = generator.normal(size=(20, 2)).astype(np.float32)
    pool = Dataset(inputs, labels, expert_labels=labels[:, None])
    hparams = {"learning_rate": np.linspace(0.01, 0.1, 8), "alpha": (1.0,)}
    sweep = sweeps.grid((0,), hparams)
    where = Placement("shard", 8)
    sweeps.run_sweep(
        shared,
        sweep,
        pool,
        root_seed=0,
        split=lambda seed: orders.split_pool(seed, 20, 0.2),
        batch_size=4,
        where=where,
    )
    runs = np.arange(4.0, dtype=np.float32)
    chunks.map_runs(lambda run, shared: run * shared, runs, runs[:1], where=where)
    # To start, to go on for an epoch and one more, and to map.
    assert len(counts) >= 4 and set(counts) == {0}


@_several_devices
def test_a_collective_is_counted():
    mesh = jax.sharding.Mesh(np.array(jax.devices()), ("runs",))
    spec = jax.sharding.PartitionSpec("runs")
    summed = jax.jit(
        jax.shard_map(
            lambda x: jax.lax.psum(x, "runs"), mesh=mesh, in_specs=spec, out_specs=spec
        )
    )
    assert count_collectives(summed, np.ones(4, np.float32)) > 0


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """The work folder of one process with two devices."""
    workdir = tmp_path_factory.mktemp("digits") / "1x2"
    ((status, _, err),) = end_all(start_digits(1, 2, workdir))
    assert status == 0, err
    return workdir


def check_same(workdir, other):
    for name in TABLES:
        assert (workdir / name).read_bytes() == (other / name).read_bytes(), name


@pytest.mark.slow
@pytest.mark.parametrize(("num_processes", "num_devices"), LAYOUTS[1:])
def test_tables_are_the_same_to_the_bit(digits, tmp_path, num_processes, num_devices):
    workdir = tmp_path / "work"
    ended = end_all(start_digits(num_processes, num_devices, workdir))
    assert [status for status, _, _ in ended] == [0] * num_processes, ended
    check_same(workdir, digits)
    (_, out, err), *others = ended
    assert "system accuracy" in out and "deferral: 36/36 epochs" in err
    for _, out, err in others:
        assert out == "" and "epochs" not in err


@pytest.mark.slow
def test_programs_that_were_kept_change_nothing(digits, tmp_path):
    """The second time they come from JAX's cache, in the first process."""
    for name in ("first", "second"):
        ended = end_all(start_digits(2, 1, tmp_path / name, cached=True))
        assert [status for status, _, _ in ended] == [0, 0], ended
        check_same(tmp_path / name, digits)


@pytest.mark.slow
@pytest.mark.parametrize("told", [0, 1])
def test_a_signal_to_one_process_stops_all_and_others_go_on(digits, tmp_path, told):
    """Two processes are stopped; one, or four, end with the same tables."""
    workdir = tmp_path / "work"
    started = start_digits(2, 1, workdir, "--config.checkpoint_seconds=0")
    while not any(workdir.glob("checkpoints/deferral/*.json")):
        assert started[0].poll() is None, end_all(started)
        time.sleep(0.01)
    begin = time.monotonic()
    started[told].send_signal(signal.SIGTERM)
    ended = end_all(started)
    assert time.monotonic() - begin < 60
    assert [status for status, _, _ in ended] == [signals.REQUEUE_STATUS] * 2, ended
    assert "Stopped; the same command goes on from here." in ended[0][2]
    assert "Stopped" not in ended[1][2]
    assert not (workdir / "results.csv").exists()
    num_processes, num_devices = ((1, 2), (4, 1))[told]
    again = start_digits(
        num_processes, num_devices, workdir, "--config.checkpoint_seconds=0"
    )
    ended = end_all(again)
    assert [status for status, _, _ in ended] == [0] * num_processes, ended
    check_same(workdir, digits)
