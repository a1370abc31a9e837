"""What a computation takes is counted from shapes, and refused where it cannot be."""

import functools
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from l2d_jax.engine import chunks, memory, orders, sweeps, training
from l2d_jax.engine.placement import Placement
from l2d_jax.types import Dataset, Learner, TrainState, Variables


def floats(*shape):
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def test_the_machine_has_what_its_limits_leave(tmp_path, monkeypatch):
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    monkeypatch.setattr(memory, "_swap", lambda: 0)
    assert 0 < memory.machine() <= whole
    own = pathlib.Path("/proc/self/cgroup").read_text().splitlines()
    name = next(
        line.split(":", 2) for line in own if line.split(":")[1] in ("", "memory")
    )
    monkeypatch.setattr(memory, "_CGROUPS", tmp_path)
    assert memory.machine() == whole
    file = "memory.limit_in_bytes" if name[1] else "memory.max"
    # That of the group above counts too, where a container shows it.
    (tmp_path / name[1]).mkdir(exist_ok=True)
    (tmp_path / name[1] / file).write_text("123000\n")
    assert memory.machine() == 123000
    (tmp_path / name[1] / file).write_text("max\n")
    assert memory.machine() == whole


def test_bytes_are_those_of_arrays():
    tree = {"a": np.zeros((3, 4), np.float64), "b": floats(10, 2), "c": None}
    assert memory.size_of(tree) == 3 * 4 * 8 + 10 * 2 * 4
    before = memory.used()
    held = np.ones(10**7)
    assert memory.used() - before >= 0.9 * held.nbytes


@pytest.mark.parametrize(
    ("size", "words"),
    [(0, "0 bytes"), (999, "999 bytes"), (1000, "1 kB"), (2.5e12, "2.5 TB")],
)
def test_sizes_in_words(size, words):
    assert memory.in_words(int(size)) == words


def product(a, b):
    return jnp.sum(jnp.tanh(a @ b))


def loop(a, b):
    # The doubled rows are read by the loop, and the running sums are what it writes.
    return jax.lax.scan(lambda c, row: (c + row, c), b, 2 * a)[1][-1]


def never_read(a, b):
    _ = a @ b
    return jnp.sum(a)


@pytest.mark.parametrize(
    ("function", "shapes", "inside"),
    [
        (product, (floats(100, 3), floats(3, 50)), 100 * 50 * 4),
        (loop, (floats(100, 30), floats(30)), 2 * 100 * 30 * 4),
        (never_read, (floats(100, 3), floats(3, 50)), 0),
    ],
)
def test_a_program_is_counted_by_what_it_must_write(function, shapes, inside):
    for wrapped in (function, jax.jit(function)):
        counted = memory.of_program(jax.make_jaxpr(wrapped)(*shapes))
        result = memory.size_of(jax.eval_shape(function, *shapes))
        assert counted == (memory.size_of(shapes), result, inside)


def test_a_program_on_two_devices_is_counted_as_that_of_one():
    def double(run, shared):
        return run * jnp.sum(shared)

    where = Placement("shard", 3)
    placed = chunks._place(double, where)
    traced = placed.trace(floats(6, 5), floats(7))
    assert where.num_devices == 2
    assert memory.of_program(traced.jaxpr) == (3 * 5 * 4 + 7 * 4, 3 * 5 * 4, 0)


def test_what_does_not_fit_is_said_with_both_sizes(monkeypatch):
    monkeypatch.setattr(memory, "machine", lambda: 10**9)
    monkeypatch.setattr(memory, "used", lambda: 4 * 10**8)
    memory.require(rows=6 * 10**8)
    with pytest.raises(
        memory.TooLargeError,
        match=r"about 1\.5 GB of memory \(rows 600 MB, runs 500 MB\) and this machine",
    ):
        memory.require(rows=6 * 10**8, none=0, runs=5 * 10**8)


def wide_program(width):
    """One layer of so many units, which nothing is ever allocated for."""

    def init(key, hparams, batch):
        params = {"w": jnp.zeros((batch.inputs.shape[1], width))}
        return TrainState(Variables(params, ()), (), key, jnp.zeros((), jnp.int32))

    def update(state, hparams, batch):
        loss = jnp.mean(batch.inputs @ state.variables.params["w"])
        return state._replace(step=state.step + 1), {"loss": loss}

    def predict(variables, hparams, inputs):
        return jnp.mean(inputs @ variables.params["w"], axis=1)

    return training.Program(
        Learner(init, update, predict),
        lambda key, hparams, dataset: dataset,
        lambda outputs, batch, hparams: jnp.mean(outputs),
        num_epochs=1,
    )


POOL = Dataset(np.ones((40, 5), np.float32), np.zeros(40, np.int32))
RUN = {
    "root_seed": 0,
    "split": functools.partial(orders.split_pool, num_examples=40, valid_fraction=0.5),
    "batch_size": 10,
}


@pytest.mark.parametrize("kind", ["shard", "vmap"])
def test_a_sweep_that_no_machine_holds_is_refused(kind):
    sweep, where = sweeps.grid((0, 1), {"a": (1.0,)}), Placement(kind, 2)
    result = sweeps.run_sweep(wide_program(3), sweep, POOL, where=where, **RUN)
    assert result.variables.params["w"].shape == (2, 5, 3)
    wide = wide_program(10**12)
    with pytest.raises(memory.TooLargeError, match=r"states 80 TB, results 40 TB"):
        sweeps.run_sweep(wide, sweep, POOL, where=where, **RUN)
    with pytest.raises(memory.TooLargeError, match=r"states 80 TB, results 40 TB"):
        sweeps.check_start(wide, sweep, POOL, where)


def test_runs_that_no_machine_holds_are_refused():
    def spread(run, shared):
        return jnp.broadcast_to(run, (10**12,))

    def grow(run, shared):
        return jnp.sum(jnp.ones((10**12, 10)) @ shared) * run

    where = Placement("shard", 1)
    with pytest.raises(memory.TooLargeError, match=r"results 28 TB"):
        chunks.map_runs(spread, np.ones(5, np.float32), np.ones(3), where=where)
    with pytest.raises(memory.TooLargeError, match=r"temporaries 80 TB"):
        chunks.map_runs(grow, np.ones(5, np.float32), np.ones((10, 10)), where=where)
    # Before anything of it is there.
    with pytest.raises(memory.TooLargeError, match=r"temporaries 80 TB"):
        chunks.check_runs(grow, np.ones(5, np.float32), floats(10, 10), where=where)


def test_counting_traces_nothing_that_the_run_would_not():
    traced = []

    def double(run, shared):
        traced.append(1)
        return 2 * run

    for kind in ("shard", "vmap", "loop"):
        traced.clear()
        where, runs = Placement(kind, 2), np.ones(5, np.float32)
        chunks.check_runs(double, runs, floats(3), where=where)
        assert len(traced) == 1, kind
        chunks.map_runs(double, runs, np.ones(3), where=where)
        assert len(traced) == 1, kind


_MEASURED = """
import resource, sys
from experiments.runtime import cli
from experiments import {module} as program
from l2d_jax.engine import memory
said, require = [], memory._require
def note(parts, total, *rest):
    said.append(total)
    require(parts, total, *rest)
memory._require = note
def main(config, workdir):
    program.main(config, workdir)
    print(max(said), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10)
cli.run(main)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "config", "settings"),
    [
        ("cifar", "digits", ["num_seeds=600"]),
        ("cifar", "digits", ["model.hidden=(100000,)", "num_epochs=1"]),
        (
            "allocation",
            "clusters",
            [
                "run=('well_conditioned',)",
                "scenarios.well_conditioned.tasks_per_cluster=100000",
                "scenarios.well_conditioned.methods=('no_prior','competence')",
            ],
        ),
        (
            "allocation",
            "clusters",
            [
                "run=('well_conditioned',)",
                "scenarios.well_conditioned.num_annotators=9000",
            ],
        ),
        pytest.param(
            "tabular",
            "compas",
            ["num_seeds=100", "methods=('deferral','classifier')"],
            marks=pytest.mark.real_data("compas"),
        ),
    ],
)
def test_a_prediction_is_within_a_factor_of_two(module, config, settings, tmp_path):
    """Of a program's greatest memory, and never above what it then took."""
    root = pathlib.Path(__file__).parents[2]
    command = [sys.executable, "-c", _MEASURED.format(module=module)]
    command += [f"--config=experiments/configs/{config}.py:smoke"]
    command += [f"--config.{setting}" for setting in settings]
    found = subprocess.run(
        [*command, f"--workdir={tmp_path}"], cwd=root, capture_output=True, text=True
    )
    assert found.returncode == 0, found.stderr
    predicted, taken = map(int, found.stdout.splitlines()[-1].split())
    assert taken / 2 <= predicted <= 1.02 * taken
