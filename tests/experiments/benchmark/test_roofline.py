"""What a step could take at least: its counts by the machine's rates."""

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from experiments.benchmark import cases, rates, roofline
from experiments.configs import benchmark as benchmark_config
from experiments.runtime.errors import ConfigError
from l2d_jax.engine import placement

SIZE = 64


def make_config():
    config = benchmark_config.get_config("smoke")
    config.workloads = ("roofline",)
    return config


def make_case(function):
    """A function of one run, ``[SIZE, SIZE]``, that is said to take two seconds."""

    def lower(where):
        runs = jax.ShapeDtypeStruct((where.num_devices, SIZE, SIZE), jnp.float32)
        return placement.place(function, where, "r").lower(runs)

    return cases.Case("made up", "step", "dense", lower, lower, lambda where, n: 2.0)


def test_a_row_by_hand(monkeypatch):
    where = placement.Placement("shard", 1)
    asked = []
    monkeypatch.setattr(
        roofline, "measure_bandwidth", lambda *given: asked.append(given) or 8e3
    )
    monkeypatch.setattr(roofline, "measure_tanh", lambda where: 4096.0)
    case = make_case(lambda run: jnp.tanh(run @ run))
    row = roofline.measure(case, where, 2.0 * SIZE**3, 5)
    # A matrix is read and one is written; each number of the product has its tangent.
    assert row["functions"] == SIZE**2
    np.testing.assert_allclose(row["functions_seconds"], 1.0)
    assert row["flops"] >= 2 * SIZE**3
    np.testing.assert_allclose(
        row["operations_seconds"], row["flops"] / (2 * SIZE**3), rtol=1e-9
    )
    np.testing.assert_allclose(row["memory_seconds"], row["bytes"] / 8e3, rtol=1e-9)
    assert row["bytes"] >= 2 * 4 * SIZE**2
    assert row["bound"] == "memory"
    np.testing.assert_allclose(row["share"], row["memory_seconds"] / 2.0)
    np.testing.assert_allclose(
        row["share_of_sum"],
        sum(row[f"{name}_seconds"] for name in ("operations", "memory", "functions"))
        / 2.0,
    )
    ((num_bytes, _),) = asked
    assert num_bytes >= 4 * SIZE**2


def test_a_step_runs_and_is_counted():
    config = make_config()
    (case,) = cases.small_cases(config, config.roofline)
    where = placement.Placement("shard", 2)
    assert case.seconds(where, 3) > 0
    assert case.step(where).compile().cost_analysis()["flops"] > 0


def test_all_workloads(tmp_path):
    config = make_config()
    rates.main(config, tmp_path)
    table = pd.read_csv(tmp_path / "roofline.csv")
    assert list(table.workload) == [
        "small nets, 5 units",
        "closed-loop streams, 3 annotators",
    ]
    assert (table.seconds > 0).all() and (table.share > 0).all()
    assert (table.devices == len(jax.devices())).all()


def test_unknown_workload(tmp_path):
    config = make_config()
    config.roofline.workloads = ("nonsense",)
    with pytest.raises(ConfigError, match=r"roofline\.workloads must be among small"):
        rates.main(config, tmp_path)
