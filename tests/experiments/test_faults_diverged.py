"""What diverged, or has nothing to be compared with, is no number in a table."""

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from experiments import measure, tables, trips
from l2d_jax import decisions, models, optimizers
from l2d_jax.crowds import closed_loop, streams
from l2d_jax.crowds.allocation import Annotators, Arrivals, Committee
from l2d_jax.types import Dataset

# Trips.

RUNS = {"seed": np.arange(3), "finetune_trips": np.full(3, 8)}


def outcome(diverged=()):
    """Minutes of two methods and the references; some people's training diverged."""
    minutes = {"none": [10, 20, 30], "finetune": [9, 18, 27], "known_mean": [8, 16, 24]}
    minutes |= {"ideal": [7, 15, 23], "always_defer": [9, 9, 9]}
    return {
        "minutes": {name: np.array(v, np.float32) for name, v in minutes.items()},
        "deferral_rate": {name: np.ones(3, np.float32) for name in minutes},
        "human_model_error": {"none": np.ones(3, np.float32)},
        "num_selected": {name: np.zeros(3, int) for name in ("none", "finetune")},
        "diverged": {
            name: np.isin(np.arange(3), [who for what, who in diverged if what == name])
            for name in ("none", "finetune")
        },
        "coefficients": np.zeros((3, 3), np.float32),
    }


def test_a_person_whose_training_diverged_is_in_no_mean():
    sound = trips.compare(trips.tabulate(RUNS, outcome())).set_index("method")
    results = trips.tabulate(RUNS, outcome([("finetune", 1)]))
    rows = results[results.method == "finetune"]
    assert list(rows.diverged) == [False, True, False]
    metrics = ["minutes", "minutes_saved", "regret", "deferral_rate"]
    assert rows[metrics].isna().all(axis=1).tolist() == [False, True, False]
    found = trips.compare(results).set_index("method")
    assert (sound.n["finetune"], found.n["finetune"]) == (3, 2)
    assert found.mean_minutes["finetune"] == 18.0 and found.sign["finetune"] == 1
    # Of those two people 4 of 16 minutes that could be saved, and 2 of 8.
    assert found.share["finetune"] == pytest.approx(0.5)
    others = sound.index != "finetune"
    pd.testing.assert_frame_equal(found[others], sound[others])


def test_a_model_of_a_person_that_is_off_beyond_measure_has_diverged():
    found = outcome()
    found["human_model_error"]["none"][2] = np.inf
    results = trips.tabulate(RUNS, found)
    rows = results[results.method == "none"]
    assert list(rows.diverged) == [False, False, True]
    assert rows.human_model_error.isna().tolist() == [False, False, True]


def test_infinite_minutes_are_in_no_mean():
    found = outcome()
    found["minutes"]["none"][1] = np.inf
    results = trips.tabulate(RUNS, found)
    assert list(results[results.method == "none"].diverged) == [False, True, False]
    assert np.isfinite(trips.compare(results).mean_minutes).all()


def test_without_a_base_nothing_is_saved():
    everybody = [("none", who) for who in range(3)]
    found = trips.compare(trips.tabulate(RUNS, outcome(everybody)))
    assert (found.n == 0).all() and found.minutes_saved.isna().all()
    assert list(found.columns) == list(trips.COMPARED)
    trips.describe(found)


# Streams.


def test_means_are_over_runs_that_did_not_diverge():
    rows = pd.DataFrame(
        {
            "method": ["a", "a", "a", "b"],
            "x": [0.1, 0.3, 0.9, 0.9],
            "diverged": [False, False, True, True],
        }
    )
    found = tables.summarize(rows, ["method"], ["x"]).set_index("method")
    assert found["mean"]["a"] == pytest.approx(0.2) and np.isnan(found["mean"]["b"])
    assert found.n.tolist() == [2, 0] and found.diverged.tolist() == [1, 1]
    text = tables.describe_diverged(found.reset_index(), ["method"])
    assert text.splitlines() == [
        "",
        "a: 1 runs diverged and are in no mean",
        "b: 1 runs diverged and are in no mean",
    ]
    plain = tables.summarize(rows.drop(columns="diverged"), ["method"], ["x"])
    assert "diverged" not in plain and plain.n.tolist() == [3, 1]
    assert tables.describe_diverged(plain, ["method"]) == ""


def stream(rate):
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 2, 20)
    tasks = Arrivals(
        jnp.asarray(generator.normal(size=(20, 2)), jnp.float32),
        jnp.zeros(20, int),
        jnp.asarray(np.where(generator.random((20, 3)) < 0.8, labels[:, None], 0)),
        jnp.asarray(labels),
    )
    people = Annotators(np.ones((3, 1), np.float32), np.zeros(3, int))
    hparams = {name: jnp.float32(0) for name in closed_loop.HPARAMS}
    allocator = closed_loop.make_allocator(
        models.linear(3), optimizers.make_plain_sgd()
    )

    @jax.jit
    def run(rate):
        numbers = hparams | {"learning_rate": rate}
        state = allocator.init(jax.random.key(0), numbers, people, tasks.features)
        return streams.run(
            allocator,
            numbers,
            Committee(3),
            people,
            state,
            tasks,
            tasks,
            jax.random.key(1),
            num_pools=1,
            num_categories=1,
            num_windows=2,
            batch_size=5,
        )[1]

    return run(jnp.float32(rate))


@pytest.mark.long
def test_a_learning_rate_beyond_all_bounds_is_marked():
    """Nothing becomes infinite: the weights are as large as the learning rate."""
    assert not stream(0.3)["test"]["diverged"].any()
    for split in stream(1e30).values():
        assert split["diverged"].all()


def test_one_category_has_no_gap():
    found = stream(0.3)
    for split in found.values():
        assert np.isnan(split["gap"]).all() and np.isfinite(split["accuracy"]).all()


def test_one_subgroup_has_no_gap():
    decision = decisions.classifier_decision(np.eye(2)[[0, 1, 1, 1]])
    batch = Dataset(None, np.array([0, 1, 0, 1]), np.zeros((4, 1), int))

    def gap(subgroup):
        return measure.scalars(decision, batch, {}, np.array(subgroup), 2)

    assert gap([0, 1, 0, 1])["subgroup_gap"] == 0.5
    alone = gap([0, 0, 0, 0])
    assert np.isnan(alone["subgroup_gap"]) and alone["min_subgroup_accuracy"] == 0.75
