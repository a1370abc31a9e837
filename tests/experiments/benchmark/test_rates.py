"""The benchmark runs and its table adds up; nothing here depends on how fast it was."""

import itertools

import numpy as np
import pandas as pd
import pytest

from experiments.configs import benchmark as benchmark_config

pytest.importorskip("torch", reason="PyTorch is the extra `bench`")

from experiments.benchmark import networks, rates, timing
from experiments.runtime.devices import num_cores
from experiments.runtime.errors import ConfigError


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch):
    # Several threads of PyTorch on shared cores wait for each other, for minutes.
    monkeypatch.setattr(timing, "num_cores", lambda: 1)


def run(tmp_path, workloads):
    config = benchmark_config.get_config("smoke")
    config.workloads = workloads
    rates.main(config, tmp_path)
    assert (tmp_path / "benchmark.png").exists()
    return pd.read_csv(tmp_path / "benchmark.csv")


def check(table):
    assert (table.rate > 0).all()
    assert (table.steady_rate >= 0.99 * table.rate).all()
    for workload, rows in table.groupby("workload"):
        sequential = rows[rows.variant.str.startswith(timing.SEQUENTIAL_TORCH)]
        if sequential.empty:
            assert rows.ratio_to_sequential_torch.isna().all(), workload
            continue
        np.testing.assert_allclose(
            rows.ratio_to_sequential_torch,
            rows.rate / sequential.steady_rate.max(),
            rtol=1e-9,
            atol=0,
        )


@pytest.mark.slow
def test_small_and_digits(tmp_path):
    table = run(tmp_path, ("small", "digits"))
    check(table)
    assert set(table.workload) == {"small nets, 5 units", "digits net"}


@pytest.mark.slow
def test_fair(tmp_path):
    table = run(tmp_path, ("fair",))
    check(table)
    assert set(table.workload) == {"fair deferral, 2 units"}
    assert list(table.width) == [1, 2, 1, 2]


@pytest.mark.slow
def test_wide_resnets(tmp_path):
    table = run(tmp_path, ("wide_resnet", "layouts"))
    check(table)
    assert (table.share_of_peak > 0).all()


@pytest.mark.slow
def test_scaling(tmp_path):
    table = run(tmp_path, ("scaling",))
    check(table)
    strong, weak = (rows for _, rows in table.groupby("workload"))
    assert list(strong.width) == [4] * 4
    cores = num_cores()
    assert list(weak.width) == [2, 2 * cores, 2 * cores, 6]
    for rows in (strong, weak):
        assert rows.variant.iloc[0] == timing.ONE_CORE
        assert rows.steady_ratio_to_one_core.iloc[0] == 1.0
    assert (table.peak_memory_mib > 0).all()


def test_unknown_workload(tmp_path):
    config = benchmark_config.get_config("smoke")
    config.workloads = ("nonsense",)
    with pytest.raises(ConfigError, match="workloads must be among small"):
        rates.main(config, tmp_path)


def test_operations_of_a_wide_resnet():
    """WRN-10-1 by hand: multiply-adds of each convolution of one 32 x 32 image."""
    stem = 32 * 32 * 9 * 3 * 16
    first = 32 * 32 * (9 * 16 * 16 + 9 * 16 * 16 + 16 * 16)
    second = 16 * 16 * (9 * 16 * 32 + 9 * 32 * 32 + 16 * 32)
    third = 8 * 8 * (9 * 32 * 64 + 9 * 64 * 64 + 32 * 64)
    expected = 6.0 * (stem + first + second + third)
    assert networks.wide_resnet_flops(10, 1) == expected


def test_operations_of_a_small_convolutional_network():
    first = 28 * 28 * 25 * 3 * 4
    second = 10 * 10 * 25 * 4 * 6
    dense = 5 * 5 * 6 * 7 + 7 * 11
    expected = 6.0 * (first + second + dense)
    assert networks.convnet_flops((4, 6), 5, (7,), 11) == expected


def test_steady_time_leaves_out_the_first_dispatch(monkeypatch):
    clock = itertools.chain([0.0, 9.0, 10.0, 11.0, 11.5], itertools.repeat(12.0))
    monkeypatch.setattr(timing.time, "perf_counter", lambda: next(clock))

    def sweep(report):
        for done in (10, 20, 30):
            report(type("Progress", (), {"done": done}))

    measured = timing.time_sweep(sweep, 2.0)
    # Dispatches end at 9, 10 and 11 s: 0.1 s an epoch once compiled, 30 epochs.
    assert measured.work == 60.0
    assert measured.seconds == 11.5
    assert measured.steady_seconds == pytest.approx(3.0)
