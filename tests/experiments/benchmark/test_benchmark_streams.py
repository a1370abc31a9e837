"""The NumPy loop and the library's scan serve the same streams; nothing is timed."""

import jax
import numpy as np
import pandas as pd
import pytest

from experiments.benchmark import streams as peers
from experiments.benchmark import timing
from experiments.configs import benchmark as benchmark_config

pytestmark = pytest.mark.usefixtures("cheap_compiles")
NUM_TASKS = 150


@pytest.mark.long
@pytest.mark.parametrize("num_annotators", [3, 40])
def test_both_ways_serve_alike(num_annotators):
    tasks = peers.make_tasks(NUM_TASKS, num_annotators)
    orders = peers.make_streams(4, NUM_TASKS).order
    generator = np.random.default_rng(1)
    noise = generator.integers(0, 2**23, (4, NUM_TASKS, 5)).astype(np.float32) / 2**23
    serve = jax.jit(jax.vmap(peers.make_server(num_annotators), (None, 0, 0)))
    params, labels = serve(tasks, orders, noise)
    learned = 0.0
    for stream in range(4):
        # A boundary between annotators may move by a rounding; no draw here is at one.
        expected, rows = peers.serve_with_numpy(tasks, orders[stream], noise[stream])
        np.testing.assert_array_equal(labels[stream], expected)
        np.testing.assert_allclose(
            params["kernel"][stream], rows[:, :-1].T, rtol=1e-4, atol=1e-5
        )
        np.testing.assert_allclose(
            params["bias"][stream], rows[:, -1], rtol=1e-4, atol=1e-5
        )
        learned += np.abs(rows).max()
    assert learned > 0.1
    assert (labels[0] != labels[1]).any()


def test_loop_by_hand():
    """One annotator has every seat: the label is the answer, and the score rises."""
    tasks = peers.make_tasks(2, 1)
    order = np.array([1, 0])
    labels, params = peers.serve_with_numpy(tasks, order, np.full((2, 5), 0.5, "f4"))
    answers, features = tasks.arrivals.answers[order, 0], tasks.arrivals.features[order]
    np.testing.assert_array_equal(labels, answers)
    # The first error is sigmoid(0) - 1.
    rows = np.append(features, np.ones((2, 1)), axis=1)
    first = 0.1 * 0.5 * rows[0]
    second = 0.1 * (1 - 1 / (1 + np.exp(-first @ rows[1]))) * rows[1]
    np.testing.assert_allclose(params[0], first + second, rtol=1e-5, atol=1e-6)


def test_answers_are_as_right_as_the_prior_says():
    tasks = peers.make_tasks(4000, 2)
    similarity = tasks.annotators.similarity
    for category in range(peers.NUM_CATEGORIES):
        rows = tasks.arrivals.categories == category
        right = tasks.arrivals.answers[rows] == tasks.arrivals.labels[rows, None]
        errors = np.sqrt(similarity[:, category] * (1 - similarity[:, category]))
        margin = 4 * errors / np.sqrt(rows.sum())
        assert (np.abs(right.mean(axis=0) - similarity[:, category]) <= margin).all()


def test_streams_have_orders_of_their_own():
    streams = peers.make_streams(3, 10)
    np.testing.assert_array_equal(
        np.sort(streams.order), np.tile(np.arange(10), (3, 1))
    )
    assert (streams.order[0] != streams.order[1]).any()


def test_a_run_is_its_row():
    """Alone and beside others a stream is the same."""
    tasks = peers.make_tasks(20, 3)
    run = peers.make_runner(3)
    streams = peers.make_streams(2, 20)
    params, accuracies = jax.jit(jax.vmap(run, (0, None)))(streams, tasks)
    alone, accuracy = jax.jit(run)(jax.tree.map(lambda leaf: leaf[1], streams), tasks)
    assert 0 < accuracy <= 1
    np.testing.assert_allclose(accuracies[1], accuracy, rtol=1e-6, atol=0)
    np.testing.assert_allclose(
        params["kernel"][1], alone["kernel"], rtol=1e-5, atol=1e-6
    )


@pytest.mark.long
def test_workload(tmp_path):
    """The workload's table adds up."""
    pytest.importorskip("torch", reason="PyTorch is the extra `bench`")
    from experiments.benchmark import rates

    config = benchmark_config.get_config("smoke")
    config.workloads = ("streams",)
    rates.main(config, tmp_path)
    table = pd.read_csv(tmp_path / "benchmark.csv").set_index("variant")
    names = (timing.SEQUENTIAL_NUMPY, timing.SEQUENTIAL_JAX, timing.SWEEP)
    assert tuple(table.index) == names
    assert list(table.width) == [1, 1, 4]
    assert (table.unit == "arrivals").all()
    np.testing.assert_allclose(
        table.ratio_to_sequential_numpy,
        table.rate / table.steady_rate[timing.SEQUENTIAL_NUMPY],
        rtol=1e-9,
        atol=0,
    )
    assert table.ratio_to_sequential_torch.isna().all()
