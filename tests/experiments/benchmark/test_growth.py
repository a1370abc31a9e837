"""The table of growth adds up; nothing here depends on how fast it was."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from experiments.benchmark import cell, growth, rates
from experiments.configs import benchmark as benchmark_config
from experiments.figures import growth as figure

SMOKE = {"runs": [2, 4], "examples": [100, 200], "experts": [1, 2]}


def make_table():
    """Seconds that double and memory that grows tenfold, with a size ten times."""
    return pd.DataFrame(
        {
            "axis": ["runs"] * 3 + ["experts"] * 2,
            "size": [10, 100, 1000, 1, 10],
            "run_seconds": [1.0, 2.0, 4.0, 1.0, 20.0],
            "memory_mib": [410.0, 500.0, 1400.0, 500.0, 600.0],
            "memory_before_mib": [400.0] * 5,
        }
    )


def test_exponents_by_hand():
    table = growth.with_exponents(make_table())
    double = np.log10(2.0)
    nan = float("nan")
    np.testing.assert_allclose(
        table.time_exponent, [nan, double, double, nan, 1 + double], rtol=1e-12
    )
    np.testing.assert_allclose(
        table.memory_exponent, [nan, 1.0, 1.0, nan, double], rtol=1e-12
    )
    assert list(table.steep) == [False, False, False, False, True]


def test_memory_that_grows_steeply_is_marked():
    table = make_table()
    table.loc[2, "memory_mib"] = 400.0 + 100.0 * 10**1.2
    assert list(growth.with_exponents(table).steep[:3]) == [False, False, True]


def test_time_within_time_counts_once():
    traced = [(2.0, 3.0), (1.0, 4.0), (6.0, 7.0)]
    assert cell.covered(traced, 0.0, 10.0) == 4.0
    assert cell.covered(traced, 3.5, 6.5) == 1.0
    assert cell.covered(traced, 8.0, 10.0) == 0.0
    assert cell.covered([], 0.0, 1.0) == 0.0


@pytest.mark.parametrize("scale", ["smoke", "default"])
def test_along_an_axis_it_alone_changes(scale):
    config = benchmark_config.get_config(scale)
    cells = growth.list_cells(config)
    for axis, fields in config.growth.items():
        own = [sizes for name, sizes in cells if name == axis]
        assert [sizes[axis] for sizes in own] == list(fields.sizes)
        others = [{**sizes, axis: None} for sizes in own]
        assert others == others[:1] * len(own)


def test_sizes_are_those_of_the_experiment():
    sizes = {"examples": 1000, "experts": 3, "features": 4, "runs": 12, "costs": 4}
    sizes |= {"method": "mixture", "model": {"name": "gated_pair", "hidden": 2}}
    sizes |= {"epochs": 1, "batch": 10}
    problem, config = cell.make_problem(sizes), cell.make_config(sizes)
    fold = problem.split(0)
    assert [len(fold.train), len(fold.valid)] == [600, 200]
    assert problem.test.expert_labels.shape == (200, 3)
    right = problem.pool.expert_labels == problem.pool.labels[:, None]
    assert 0.5 < right.mean() < 0.95
    assert config.num_seeds * len(config.grid.cost) == 12
    assert len(set(config.grid.cost)) == 4
    # Fewer runs than prices are one seed.
    config = cell.make_config({**sizes, "runs": 2})
    assert (config.num_seeds, len(config.grid.cost)) == (1, 2)


def test_workload(tmp_path, monkeypatch):
    """Each size is measured as often as asked, and the median is kept."""
    asked = []

    def time_cell(sizes):
        asked.append(sizes)
        found = dict.fromkeys(
            ("train_seconds", "measure_seconds", "table_seconds", "compile_seconds"),
            1.0,
        )
        found |= {"run_seconds": float(len(asked)), "memory_before_mib": 1.0}
        return found | {"memory_mib": 2.0}

    monkeypatch.setattr(growth, "time_cell", time_cell)
    config = benchmark_config.get_config("smoke")
    config.workloads, config.repeats = ("growth",), 3
    rates.main(config, tmp_path)
    table = pd.read_csv(tmp_path / "growth.csv")
    assert {a: list(rows["size"]) for a, rows in table.groupby("axis")} == SMOKE
    assert len(asked) == 18
    assert list(table.run_seconds) == [7.0, 8.0, 9.0, 10.0, 11.0, 12.0]
    assert (tmp_path / "growth.png").exists()


def test_figure_marks_what_is_steep():
    table = growth.with_exponents(make_table())
    for name in ("train_seconds", "measure_seconds", "table_seconds"):
        table[name] = table.run_seconds / 3
    table["compile_seconds"], table["method"] = 5.0, "one_vs_all"
    drawn = figure.draw_growth(table)
    above = {axes.get_xlabel(): axes for axes in drawn.axes[2:]}
    assert set(above) == {"runs", "experts"}
    circles = [
        [line.get_xdata().tolist() for line in axes.lines if line.get_ms() == 10]
        for axes in drawn.axes[:2]
    ]
    plt.close(drawn)
    assert circles == [[[]], [[10]]]


@pytest.mark.slow
def test_cells_in_processes_of_their_own(tmp_path):
    config = benchmark_config.get_config("smoke")
    config.workloads = ("growth",)
    rates.main(config, tmp_path)
    table = pd.read_csv(tmp_path / "growth.csv")
    parts = table.train_seconds + table.measure_seconds + table.table_seconds
    np.testing.assert_allclose(parts, table.run_seconds, rtol=1e-6)
    assert (table.compile_seconds > 0).all()
    assert (table.memory_mib >= table.memory_before_mib).all()
