"""Claims about a classifier and a deferrer trained together, on tables made by hand."""

import numpy as np
import pandas as pd
import pytest

from experiments import tables
from experiments.claims import ledger
from experiments.claims.claim import Evidence

OFFSETS = (-0.003, 0.001, 0.002)  # Of three splits; their mean is 0.
# Accuracy and gap between the categories.
LEVELS = {
    "joint": (0.85, 0.20),
    "joint_balanced": (0.84, 0.10),
    "joint_minimax": (0.83, 0.15),
    "classifier": (0.80, 0.30),
}


def make_results(**changes):
    rows = []
    for number, (method, (accuracy, gap)) in enumerate((LEVELS | changes).items()):
        for seed, offset in enumerate(OFFSETS):
            # Of no method the same as of its neighbours.
            spread = (1 + number % 3) * offset
            row = {"problem": "keswani_mturk", "method": method, "seed": seed}
            found = {"system_accuracy": accuracy + spread, "subgroup_gap": gap + spread}
            rows.append(row | {"split": "test", "chosen": True} | found)
            # What validation saw, of which no claim is.
            seen = {"system_accuracy": 0.1 * number, "subgroup_gap": 0.9}
            for chosen in (True, False):
                rows.append(row | {"split": "valid", "chosen": chosen} | seen)
    return pd.DataFrame(rows)


def judge(id, results):
    (claim,) = [claim for claim in ledger.CLAIMS if claim.id == id]
    return ledger.judge(claim, Evidence(results), 0.02)


@pytest.mark.parametrize(
    ("id", "value", "verdict"),
    [
        ("K6a", 0.05, "reproduced"),
        ("K6b", -0.10, "reproduced"),
        ("K6c", -0.05, "reproduced"),
    ],
)
def test_by_hand(id, value, verdict):
    row = judge(id, make_results())
    assert row["our_value"] == pytest.approx(value, abs=1e-9)
    assert (row["n"], row["over"], row["verdict"]) == (3, "splits", verdict)


@pytest.mark.parametrize(
    ("id", "changes"),
    [
        ("K6a", {"joint": (0.79, 0.2)}),
        ("K6b", {"joint_balanced": (0.85, 0.21)}),
        ("K6c", {"joint_minimax": (0.85, 0.199)}),
    ],
)
def test_an_unfavourable_verdict_stays(id, changes):
    row = judge(id, make_results(**changes))
    assert row["verdict"] == "not reproduced"
    assert np.isfinite([row["ci_low"], row["ci_high"]]).all()


def test_a_gain_beyond_the_papers_is_better():
    assert judge("K6a", make_results(joint=(0.95, 0.2)))["verdict"] == "better"


def test_splits_overlap():
    row = judge("K6b", make_results())
    # Differences are the offsets themselves; t(0.975, 2) = 4.302653, and the variance
    # of the mean 1 / 3 + 1 / 4 of theirs, 7e-6.
    half = 4.302653 * np.sqrt(7e-6 * (1 / 3 + 1 / 4))
    assert row["ci_low"] == pytest.approx(-0.1 - half, abs=1e-7)
    assert row["ci_high"] == pytest.approx(-0.1 + half, abs=1e-7)


@pytest.mark.parametrize(
    ("id", "query", "why"),
    [
        ("K6a", "method != 'classifier'", "hold no method classifier"),
        ("K6b", "method != 'joint_balanced'", "hold no method joint_balanced"),
        ("K6c", "method != 'joint'", "hold no method joint"),
        ("K6a", "split == 'valid'", "hold no chosen system on a test part"),
    ],
)
def test_what_is_lacking_is_not_judged(id, query, why):
    row = judge(id, make_results().query(query))
    assert row["verdict"].startswith("not run: ") and why in row["verdict"]


def test_tables_are_read_and_all_is_judged(tmp_path):
    make_results().to_csv(tmp_path / "results.csv", index=False)
    tables.seal(tmp_path)
    evidence = ledger.read_evidence("texts", tmp_path)
    mine = [claim for claim in ledger.CLAIMS if claim.source == "texts"]
    assert len(mine) == 3
    for claim in mine:
        assert claim.paper == "Keswani, Lease and Kenthapadi 2021"
        row = ledger.judge(claim, evidence, 0.02)
        assert not row["verdict"].startswith("not run"), row["verdict"]
