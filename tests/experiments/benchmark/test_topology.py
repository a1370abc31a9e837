"""Programs compiled for slices that are not there, and what is said of them."""

import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from experiments.benchmark import cases, rates, topology
from experiments.configs import benchmark as benchmark_config
from experiments.runtime.errors import ConfigError
from l2d_jax.engine import placement
from l2d_jax.models import networks as model_networks

SIZE = 64


def make_config():
    config = benchmark_config.get_config("smoke")
    config.workloads = ("topology",)
    return config


def make_case(function, unit="product"):
    """A function of one run, ``[SIZE, SIZE]``, on as many runs as devices."""

    def lower(where):
        runs = jax.ShapeDtypeStruct((where.num_devices, SIZE, SIZE), jnp.float32)
        return placement.place(function, where, "r").lower(runs)

    return cases.Case(
        "made up", unit, "convolutional", lower, lower, lambda where, steps: 1.0
    )


@pytest.fixture
def _slice_of_this_machine(monkeypatch):
    monkeypatch.setattr(topology, "describe_slice", lambda name: tuple(jax.devices()))


@pytest.mark.usefixtures("_slice_of_this_machine")
def test_a_row_by_hand():
    chip = make_config().topology.chip
    row = topology.measure(make_case(lambda run: run @ run), "any", chip)
    assert row["chips"] == len(jax.devices())
    assert row["runs"] == row["chips"] * row["runs_per_chip"]
    assert row["collectives"] == 0
    # A chip has one matrix, which is read; the product is written.
    np.testing.assert_allclose(row["argument_mib"], SIZE**2 * 4 / 2**20, rtol=1e-9)
    assert row["flops"] == 2 * SIZE**3
    np.testing.assert_allclose(row["bytes"], 2 * SIZE**2 * 4, rtol=1e-9)
    assert row["bound"] == "memory"
    np.testing.assert_allclose(row["roofline_seconds"], row["bytes"] / 819e9, rtol=1e-9)
    chip.memory_gb_per_second = 1e9
    row = topology.measure(make_case(lambda run: run @ run), "any", chip)
    assert row["bound"] == "arithmetic"
    np.testing.assert_allclose(
        row["roofline_seconds"], row["flops"] / 197e12, rtol=1e-9
    )


@pytest.mark.usefixtures("_slice_of_this_machine")
def test_a_collective_is_counted():
    """Else a zero would say nothing."""
    chip = make_config().topology.chip
    case = make_case(lambda run: jax.lax.psum(run, "runs"))
    assert topology.measure(case, "any", chip)["collectives"] == 1


def test_missing_compiler_is_named_with_its_extra(tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name: None if name == "libtpu" else find(name),
    )
    with pytest.raises(ConfigError, match=r"pip install 'l2d-jax\[tpu\]'"):
        rates.main(make_config(), tmp_path)
    assert not list(tmp_path.iterdir())


def test_unknown_workload(tmp_path):
    config = make_config()
    config.topology.workloads = ("digits", "nonsense")
    with pytest.raises(ConfigError, match=r"topology\.workloads must be among small"):
        rates.main(config, tmp_path)


def test_unknown_slice():
    pytest.importorskip("libtpu", reason="the compiler is the extra `tpu`")
    with pytest.raises(ConfigError, match="no slice 'v5e:3x7' can be described"):
        topology.describe_slice("v5e:3x7")


def test_runs_fill_the_devices():
    where = placement.Placement("shard", 5, tuple(jax.devices()))
    runs = cases.make_runs({"alpha": (0.0, 1.0), "beta": (3.0,)}, where)
    seeds = np.repeat(np.arange(where.num_devices), 5)
    np.testing.assert_array_equal(runs.seeds, seeds)
    np.testing.assert_allclose(runs.hparams["alpha"][:5], [0, 0.25, 0.5, 0.75, 1])
    assert set(runs.hparams["beta"]) == {3.0}


def test_a_wide_resnet_has_the_convolutions_of_a_tpu(monkeypatch):
    """Those of this machine would have gradients of their own."""
    asked = []
    convolve = model_networks.convolve

    def spied(*args, implementation):
        asked.append(implementation)
        return convolve(*args, implementation=implementation)

    monkeypatch.setattr(model_networks, "convolve", spied)
    config = make_config()
    config.topology.wide_resnets = ((10, 1),)
    (case,) = cases.wide_resnet_cases(config, config.topology)
    text = case.step(placement.Placement("vmap", 2)).as_text()
    assert set(asked) == {"xla"}
    # One grouped convolution for both runs, where a CPU's would loop over them.
    assert "feature_group_count = 2" in text


@pytest.mark.slow
def test_runs_send_nothing(tmp_path):
    """The small nets and the streams on four chips, by the TPU's own compiler."""
    pytest.importorskip("libtpu", reason="the compiler is the extra `tpu`")
    config = make_config()
    config.topology.workloads = ("digits", "compas", "streams")
    rates.main(config, tmp_path)
    table = pd.read_csv(tmp_path / "topology.csv")
    assert len(table) == 3
    assert (table.collectives == 0).all()
    assert (table.chips == 4).all()
    assert (table.runs == 4 * 1024).all()
    assert (table.share_of_memory < 1).all()
    chip = config.topology.chip
    most = np.maximum(
        table.flops / (chip.peak_tflops * 1e12),
        table.bytes / (chip.memory_gb_per_second * 1e9),
    )
    np.testing.assert_allclose(table.roofline_seconds, most, rtol=1e-9)


@pytest.mark.slow
def test_a_tpu_s_collective_is_counted():
    """By the name that its compiler gives it."""
    pytest.importorskip("libtpu", reason="the compiler is the extra `tpu`")
    case = make_case(lambda run: jax.lax.psum(run, "runs"))
    row = topology.measure(case, "v5e:2x2", make_config().topology.chip)
    assert row["collectives"] > 0
