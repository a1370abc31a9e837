"""The ledger of claims, on tables whose verdicts are known."""

import ml_collections
import numpy as np
import pandas as pd
import pytest

from experiments import cifar, claims, program
from experiments.configs import claims as claims_config

COLUMNS = (
    "id",
    "paper",
    "statement",
    "paper_value",
    "our_value",
    "ci_low",
    "ci_high",
    "n",
    "verdict",
)
# System accuracy at k = 0, 5, 10; the seeds differ by a little.
SOUND = {
    "deferral": (0.90, 0.95, 1.00),
    "classifier": (0.90, 0.90, 0.90),
    "expert": (0.10, 0.55, 1.00),
    "confidence": (0.85, 0.92, 0.99),
}
OFFSETS = (-0.004, 0.0, 0.001)


def make_results(dataset="digits", **changes):
    rows = [
        {
            "dataset": dataset,
            "method": method,
            "seed": seed,
            "num_perfect": k,
            "split": "test",
            # The expert who knows everything is right whatever the seed.
            "system_accuracy": value + (offset if value < 1 else 0.0),
        }
        for method, values in (SOUND | changes).items()
        for seed, offset in enumerate(OFFSETS)
        for k, value in zip((0, 5, 10), values, strict=True)
    ]
    table = pd.DataFrame(rows)
    # Of the validation part, which no claim is about.
    valid = table.assign(split="valid", system_accuracy=0.0)
    return pd.concat([table, valid], ignore_index=True)


def judge(id, results, tolerance=0.02):
    (claim,) = [claim for claim in claims.CLAIMS if claim.id == id]
    return claims.judge(claim, results, tolerance)


@pytest.mark.parametrize(
    ("id", "value"),
    [
        ("R7a-digits", 1.0),
        ("R7b-digits", 0.0),  # At k = 0 and 10 the system is the better of the two.
        ("R7c-digits", 1.0),
        ("R7d-digits", (0.05 + 0.03 + 0.01 - 0.001) / 3),
    ],
)
def test_sound_results_reproduce(id, value):
    row = judge(id, make_results())
    assert tuple(row) == COLUMNS
    assert row["verdict"] == "reproduced"
    assert row["n"] == len(OFFSETS)
    assert row["our_value"] == pytest.approx(value, abs=1e-3)
    assert row["ci_low"] <= row["our_value"] <= row["ci_high"]


@pytest.mark.parametrize(
    ("id", "deferral"),
    [
        ("R7a-digits", (0.90, 0.95, 0.97)),
        ("R7b-digits", (0.87, 0.95, 1.00)),
        ("R7c-digits", (0.90, 0.90, 0.80)),
        ("R7d-digits", (0.84, 0.92, 0.99)),
    ],
)
def test_an_unfavourable_verdict_stays(id, deferral):
    row = judge(id, make_results(deferral=deferral))
    assert row["verdict"] == "not reproduced"
    assert row["n"] == len(OFFSETS)


def test_the_tolerance_decides():
    results = make_results(deferral=(0.87, 0.95, 0.97))
    for id in ("R7a-digits", "R7b-digits"):
        assert judge(id, results, 0.05)["verdict"] == "reproduced"
        assert judge(id, results, 0.01)["verdict"] == "not reproduced"


def test_one_seed_has_no_interval_and_shows_no_difference():
    results = make_results()
    results = results[results.seed == 0]
    row = judge("R7d-digits", results)
    assert row["n"] == 1 and np.isnan(row["ci_low"])
    assert row["verdict"] == "not reproduced"


@pytest.mark.parametrize(
    ("id", "query", "why"),
    [
        ("R7a-digits", "num_perfect < 10", "hold no expert of k = 10"),
        ("R7b-digits", "method != 'classifier'", "hold no method classifier"),
        ("R7c-digits", "num_perfect == 5", "hold one k only"),
        ("R7d-digits", "method != 'confidence'", "hold no method confidence"),
        ("R7a-digits", "split == 'valid'", "hold no method deferral"),
    ],
)
def test_what_the_results_lack_is_not_judged(id, query, why):
    row = judge(id, make_results().query(query))
    assert tuple(row) == COLUMNS
    assert row["verdict"].startswith("not run: ") and why in row["verdict"]
    assert row["n"] == 0 and np.isnan(row["our_value"])


def test_claims_have_names_of_their_own():
    ids = [claim.id for claim in claims.CLAIMS]
    assert len(set(ids)) == len(ids)
    assert {claim.source for claim in claims.CLAIMS} <= set(
        claims_config.get_config().results
    )


def make_config(**changes):
    config = claims_config.get_config("smoke")
    for name, value in changes.items():
        config[name] = value
    return config


@pytest.fixture
def ready(tmp_path):
    """Work folders of finished experiments."""
    for name in ("digits", "cifar10"):
        (tmp_path / "ready" / name).mkdir(parents=True)
        make_results(name).to_csv(tmp_path / "ready" / name / "results.csv")
    return tmp_path / "ready"


@pytest.fixture
def workdir(tmp_path):
    (tmp_path / "work").mkdir()
    return tmp_path / "work"


@pytest.fixture
def no_training(monkeypatch):
    def refuse(config, workdir):
        raise AssertionError("results that are there are read, not made")

    monkeypatch.setattr(cifar, "main", refuse)


def test_ledger_from_ready_tables(ready, workdir, no_training, capsys):
    config = make_config(
        results={name: str(ready / name) for name in ("digits", "cifar10")}
    )
    claims.main(config, workdir)
    ledger = pd.read_csv(workdir / "claims.csv")
    assert tuple(ledger.columns) == COLUMNS
    assert len(ledger) == len(claims.CLAIMS)
    assert set(ledger.verdict) == {"reproduced"}
    printed = capsys.readouterr().out
    assert "R7a-cifar10" in printed and str(workdir / "claims.csv") in printed


def test_what_is_not_there_says_how_to_get_it(ready, workdir, no_training):
    config = make_config(results={"digits": str(ready / "digits"), "cifar10": ""})
    claims.main(config, workdir)
    ledger = pd.read_csv(workdir / "claims.csv").set_index("id")
    assert ledger.verdict["R7a-digits"] == "reproduced"
    verdict = ledger.verdict["R7a-cifar10"]
    assert verdict.startswith("not run: give --config.results.cifar10=DIR")


def test_what_is_named_in_run_is_run_once(ready, workdir, monkeypatch):
    calls = []

    def run(config, folder):
        calls.append((config, folder))
        make_results().to_csv(folder / "results.csv")

    monkeypatch.setattr(cifar, "main", run)
    for _ in range(2):
        claims.main(make_config(), workdir)
    ((config, folder),) = calls
    assert folder == workdir / "digits"
    assert isinstance(config, ml_collections.ConfigDict) and config.num_seeds == 2
    # Results of another scale are not taken for those that are asked for.
    with pytest.raises(program.ConfigError, match="another config") as caught:
        claims.main(claims_config.get_config("default"), workdir)
    assert str(workdir / "digits") in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"run": ("mnist",)}, "run must be among cifar10, digits, got 'mnist'"),
        ({"scale": "huge"}, "scale must be one of smoke, default, paper, got 'huge'"),
        ({"tolerance": float("nan")}, r"tolerance must be a number in \[0, 1\]"),
        (
            {"results": {"digits": "/nowhere", "cifar10": ""}},
            r"results\.digits: there is no /nowhere/results\.csv; name the work folder",
        ),
    ],
)
def test_config_errors(workdir, no_training, changes, message):
    with pytest.raises(program.ConfigError, match=message) as caught:
        claims.main(make_config(**changes), workdir)
    assert "\n" not in str(caught.value)
    assert not (workdir / "claims.csv").exists()


@pytest.mark.parametrize("text", ["", "hello\n1\n", "dataset,seed\ndigits,0\n"])
def test_damaged_results_are_named(ready, workdir, no_training, text):
    path = ready / "digits" / "results.csv"
    path.write_text(text)
    config = make_config(results={"digits": str(path.parent), "cifar10": ""})
    with pytest.raises(program.ConfigError, match="is not a results table") as caught:
        claims.main(config, workdir)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_results_of_other_data_are_refused(ready, workdir, no_training):
    config = make_config(results={"digits": str(ready / "cifar10"), "cifar10": ""})
    with pytest.raises(program.ConfigError, match="holds results of cifar10, not of"):
        claims.main(config, workdir)
