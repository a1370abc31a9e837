"""Means and paired comparisons of results that are made by hand."""

import numpy as np
import pandas as pd
import pytest
import tiny

from experiments import summaries
from l2d_jax import intervals

NUM_CASES = tiny.NUM_TEST


def make_results(outcomes, diverged=()):
    """A table of methods from outcomes ``[S, N]`` each, and its resamples."""
    rows, draws = [], []
    counts = intervals.draw_resamples(NUM_CASES)
    for name, outcome in outcomes.items():
        for split in ("valid", "test"):
            for seed, cases in enumerate(outcome):
                rows.append(
                    {
                        "experiment": "e",
                        "problem": "tiny",
                        "method": name,
                        "seed": seed,
                        "learning_rate": 0.1,
                        "split": split,
                        "diverged": (name, seed) in diverged,
                        "system_accuracy": cases.mean(),
                        "chosen": True,
                    }
                )
                drawn = counts @ cases / NUM_CASES
                draws.append(drawn if split == "test" else np.full_like(drawn, np.nan))
    return pd.DataFrame(rows), {"system_accuracy": np.array(draws)}


def make(outcomes, diverged=(), **changes):
    config = tiny.make_config(
        grid={"learning_rate": (0.1,)}, choose="per_seed", **changes
    )
    return summaries.make(
        config, tiny.make_problem(1), *make_results(outcomes, diverged)
    )


def draw(share, seed, num_seeds=4):
    generator = np.random.default_rng(seed)
    return (generator.random((num_seeds, NUM_CASES)) < share).astype(float)


def test_an_interval_of_the_test_part_is_over_seeds_and_cases():
    outcomes = draw(0.8, 0)
    made = make({"deferral": outcomes}).summary.set_index(["split", "metric"])
    test = made.loc[("test", "system_accuracy")]
    counts = intervals.draw_resamples(NUM_CASES)
    expected = intervals.mean_interval(
        outcomes.mean(axis=1), outcomes @ counts.T / NUM_CASES
    )
    assert (test.n, test.cases, test.over) == (4, NUM_CASES, "seeds and cases")
    assert test["mean"] == pytest.approx(outcomes.mean())
    ends = (float(expected.low), float(expected.high))
    assert (test.ci_low, test.ci_high) == pytest.approx(ends, abs=1e-6)
    # Examples that validate are other ones at every seed: seeds alone.
    valid = made.loc[("valid", "system_accuracy")]
    students = intervals.mean_interval(outcomes.mean(axis=1))
    assert valid.ci_low == pytest.approx(float(students.low), abs=1e-6)
    assert valid.cases == 18  # Of 60, 30 %.


def test_one_seed_has_an_interval_on_the_test_part():
    rows = make({"deferral": draw(0.8, 0, num_seeds=1)}).summary.set_index("split")
    assert rows.ci_high["test"] > rows["mean"]["test"] > rows.ci_low["test"]
    assert np.isnan(rows.ci_low["valid"])


def test_diverged_runs_are_counted_and_in_no_mean():
    outcomes = {"deferral": draw(0.8, 0), "classifier": draw(0.7, 1)}
    outcomes["deferral"][2] = 0.0
    made = make(outcomes, diverged={("deferral", 2)})
    row = made.summary.query("method == 'deferral' and split == 'test'").iloc[0]
    assert (row.n, row.diverged) == (3, 1)
    assert row["mean"] == pytest.approx(outcomes["deferral"][[0, 1, 3]].mean())
    other = made.summary.query("method == 'classifier'")
    assert (other.n == 4).all() and (other.diverged == 0).all()
    gain = made.comparison.query("against == 'reference'").iloc[0]
    assert gain.n == 3
    pairs = (outcomes["deferral"] - outcomes["classifier"])[[0, 1, 3]]
    assert gain["mean"] == pytest.approx(pairs.mean(), abs=1e-6)
    text = summaries.describe(tiny.make_config(), tiny.make_problem(1), made)
    assert "deferral: 1 runs diverged and are in no mean" in text


def test_all_runs_diverged():
    outcomes = {"deferral": draw(0.8, 0, 2), "classifier": draw(0.7, 1, 2)}
    made = make(outcomes, diverged={("deferral", 0), ("deferral", 1)})
    row = made.summary.query("method == 'deferral' and split == 'test'").iloc[0]
    assert (row.n, row.diverged) == (0, 2) and np.isnan(row["mean"])
    assert "deferral" not in set(made.comparison.method)


def test_a_method_differs_in_nothing_from_itself():
    outcomes = draw(0.8, 0)
    made = make({"deferral": outcomes, "classifier": outcomes})
    rows = made.comparison
    assert set(rows.reference) == {"classifier"} and set(rows.method) == {"deferral"}
    assert (rows[["mean", "ci_low", "ci_high"]] == 0).all(axis=None)
    assert (rows[["p_value", "p_holm"]] == 1).all(axis=None)


def test_differences_are_paired_by_seed_and_case():
    """Cases that are hard for both widen neither's lead."""
    base = draw(0.5, 0)
    better = base.copy()
    better[:, np.flatnonzero(base.sum(axis=0) == 0)[:1]] = 1.0
    made = make({"deferral": better, "classifier": base})
    gain = made.comparison.query("against == 'reference'").iloc[0]
    assert gain["mean"] == pytest.approx(1 / NUM_CASES, abs=1e-6)
    alone = made.summary.query("method == 'deferral' and split == 'test'").iloc[0]
    assert gain.ci_high - gain.ci_low < 0.5 * (alone.ci_high - alone.ci_low)


@pytest.mark.long
def test_p_values_are_corrected_for_the_number_of_methods():
    outcomes = {"classifier": draw(0.5, 0), "deferral": draw(0.9, 1)}
    outcomes["cost_sensitive"] = draw(0.8, 2)
    rows = make(outcomes).comparison.query("against == 'reference'")
    np.testing.assert_allclose(rows.p_holm, intervals.holm(rows.p_value.to_numpy()))
    assert (rows.p_holm > rows.p_value).any()


def test_the_best_single_party_is_that_of_the_validation_part():
    outcomes = {"classifier": draw(0.5, 0), "expert": draw(0.9, 1)}
    outcomes["deferral"] = draw(0.95, 2)
    rows = make(outcomes).comparison.query("against == 'best single party'")
    assert set(rows.reference) == {"expert"}
    assert set(rows.method) == {"classifier", "deferral"}


def test_nothing_to_compare_has_columns(tmp_path):
    made = make({"deferral": draw(0.8, 0)})
    path = tmp_path / "comparison.csv"
    made.comparison.to_csv(path, index=False)
    again = pd.read_csv(path)
    assert again.empty and {"problem", "method", "mean", "p_holm"} <= set(again)
