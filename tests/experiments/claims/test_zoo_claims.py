"""Claims about surrogates against each other, on tables made by hand."""

import pandas as pd
import pytest

from experiments.claims import ledger
from experiments.claims.claim import CannotMeasure, Evidence


def claim_of(id):
    (claim,) = [claim for claim in ledger.CLAIMS if claim.id == id]
    return claim


def results(problem, metric, **values):
    """Three seeds of each method, at two settings of which the mean counts."""
    rows = []
    for method, middle in values.items():
        for seed, shift in enumerate((-0.001, 0.0, 0.001)):
            for setting in (-0.2, 0.2):
                rows.append(
                    {
                        "problem": problem,
                        "method": method,
                        "seed": seed,
                        "split": "test",
                        "chosen": True,
                        metric: middle + shift + setting,
                    }
                )
    # What was not chosen, and the validation part, count for nothing.
    others = [row | {"chosen": False, metric: 0.0} for row in rows]
    valid = [row | {"split": "valid", metric: 0.0} for row in rows]
    return pd.DataFrame(rows + others + valid)


@pytest.mark.parametrize(
    ("id", "problem", "metric", "first", "second"),
    [
        ("Z1", "digits", "expert_calibration_error", "deferral", "one_vs_all"),
        (
            "Z2",
            "digits_panel",
            "expert_calibration_error",
            "multi_expert",
            "one_vs_all",
        ),
        ("Z3", "digits_panel", "system_accuracy", "one_vs_all", "multi_expert"),
        ("Z6", "digits_panel", "coverage", "picce", "multi_expert"),
    ],
)
def test_differences_by_seed(id, problem, metric, first, second):
    claim = claim_of(id)
    table = results(problem, metric, **{first: 0.5, second: 0.42})
    found = claim.measure(Evidence(table), 0.0)
    assert found.holds and found.estimate.value == pytest.approx(0.08)
    assert found.estimate.n == 3
    swapped = results(problem, metric, **{first: 0.42, second: 0.5})
    assert not claim.measure(Evidence(swapped), 0.0).holds
    with pytest.raises(CannotMeasure, match=f"no method {second}"):
        claim.measure(Evidence(results(problem, metric, **{first: 0.5})), 0.0)


def comparison(problem, *means):
    return pd.DataFrame(
        {
            "problem": problem,
            "method": "realizable",
            "against": "reference",
            "reference": "deferral",
            "metric": "system_accuracy",
            "n": 3,
            "mean": means,
            "ci_low": [mean - 0.01 for mean in means],
            "ci_high": [mean + 0.01 for mean in means],
        }
    )


@pytest.mark.parametrize(("id", "problem"), [("Z4", "digits"), ("Z5", "synthetic")])
def test_the_realizable_surrogate_where_it_is_worst(id, problem):
    claim, table = claim_of(id), pd.DataFrame()
    found = claim.measure(Evidence(table, comparison(problem, 0.03, -0.004)), 0.005)
    assert found.holds and not found.better
    assert found.estimate.value == -0.004 and found.estimate.low == -0.014
    found = claim.measure(Evidence(table, comparison(problem, 0.03, 0.02)), 0.005)
    assert found.holds and found.better
    found = claim.measure(Evidence(table, comparison(problem, -0.006)), 0.005)
    assert not found.holds
    with pytest.raises(CannotMeasure, match="no realizable against deferral on"):
        claim.measure(Evidence(table, comparison("other", 0.1)), 0.005)
    with pytest.raises(CannotMeasure, match="without a comparison"):
        claim.measure(Evidence(table), 0.005)


def test_all_of_the_source_are_here():
    mine = {claim.id for claim in ledger.CLAIMS if claim.source == "zoo"}
    assert mine == {"Z1", "Z2", "Z3", "Z4", "Z5", "Z6"}
