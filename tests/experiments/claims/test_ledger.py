"""The ledger of claims, on tables whose verdicts are known."""

import ml_collections
import numpy as np
import pandas as pd
import pytest

from experiments import cifar, personalize
from experiments.claims import ledger as claims
from experiments.configs import claims as claims_config
from experiments.runtime.errors import ConfigError

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


# Minutes of four people at the larger of two numbers of tuning trips.
MINUTES = {
    "ideal": (30.0, 36.0, 38.0, 40.0),
    "known_mean": (32.0, 37.0, 39.0, 42.0),
    "hierarchical": (32.0, 37.1, 39.1, 42.0),
    "finetune": (33.0, 38.0, 40.0, 42.4),
    "none": (33.0, 38.4, 40.4, 50.0),
}


def make_trips(**changes):
    parts = []
    for method, minutes in (MINUTES | changes).items():
        for trips, worse in ((8, 5.0), (128, 0.0)):
            part = {
                "dataset": "simulated",
                "method": method,
                "seed": range(4),
                "split": "test",
                "finetune_trips": trips,
                "minutes": np.array(minutes) + worse,
                "minutes_saved": np.array(MINUTES["none"]) - np.array(minutes),
            }
            parts.append(pd.DataFrame(part))
    return pd.concat(parts, ignore_index=True)


def make_people(dataset="digits", system_gain=0.1):
    """Specialists of three skills at three seeds, and five real people."""
    rows = []
    common = {"dataset": dataset, "split": "test", "human_model_nll": 0.3}
    for k, gain in ((0, 0.5), (5, 0.2), (10, 0.0)):
        for seed in range(3):
            for method, tuned in (("none", 0), ("finetune", 1), ("population", 1)):
                accuracy = 0.5 + tuned * (gain + 0.01 * seed)
                system = 0.8 + tuned * (system_gain + 0.001 * seed)
                rows.append(
                    common
                    | {
                        "people": "specialist",
                        "method": method,
                        "seed": seed,
                        "person": k,
                        "num_perfect": k,
                        "human_model_accuracy": accuracy,
                        "system_accuracy": system,
                    }
                )
    gains = {
        "none": (0.0, 0.0, 0.0, 0.0, 0.0),
        "finetune": (0.1, 0.1, 0.1, -0.2, -0.1),
        "crowd": (0.1, 0.11, 0.1, 0.12, 0.1),
        "population": (0.1, 0.11, 0.1, 0.12, 0.13),
    }
    systems = (0.1, 0.2, -0.1, -0.1, 0.0)
    for method, values in gains.items():
        for person, (gain, system) in enumerate(zip(values, systems, strict=True)):
            rows.append(
                common
                | {
                    "people": "cifar10s",
                    "method": method,
                    "seed": 0,
                    "person": person,
                    "num_perfect": np.nan,
                    "human_model_accuracy": 0.7 + gain,
                    "system_accuracy": 0.8 + (system if method != "none" else 0.0),
                }
            )
    table = pd.DataFrame(rows)
    for name in personalize.METRICS:
        if name not in table:
            table[name] = 0.5
    return table


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


@pytest.mark.parametrize(
    ("id", "value", "verdict"),
    [
        ("R1", 3.4 / 4, "reproduced"),  # From known means to fine-tuning.
        ("R2a", 2.1, "not reproduced"),  # Four people do not make p < .001.
        ("R2b", (1.0 + 1.4 + 1.4 + 8.0) / 4, "reproduced"),
        ("R2c", 8.4 / 11.8, "reproduced"),  # With four people, from 0.1 to 0.9.
        ("R2d", 11.6 / 11.8, "better"),
        ("R3", 2.1 - 0.4, "not reproduced"),  # One of them has it all.
    ],
)
def test_trips_by_hand(id, value, verdict):
    row = judge(id, make_trips())
    assert row["our_value"] == pytest.approx(value)
    assert row["n"] == 4
    assert row["ci_low"] <= row["our_value"] <= row["ci_high"]
    assert row["verdict"] == verdict


def test_trips_out_of_order_are_not_reproduced():
    row = judge("R1", make_trips(finetune=(33.0, 38.4, 40.4, 51.0)))
    assert row["our_value"] == pytest.approx(-0.25)
    assert row["verdict"] == "not reproduced"


def test_a_share_about_a_fifth_is_what_the_paper_has():
    known, none = np.array(MINUTES["known_mean"]), np.array(MINUTES["none"])
    tuned = none - 0.2 * (none - known) + np.array([0.1, -0.1, 0.1, -0.1])
    row = judge("R2c", make_trips(finetune=tuple(tuned)))
    assert row["our_value"] == pytest.approx(0.2)
    assert row["verdict"] == "reproduced"


@pytest.mark.parametrize(
    ("id", "value", "n", "verdict"),
    [
        ("R4a-digits_finetune", 0.21, 3, "reproduced"),  # At k = 5.
        ("R4b-digits_finetune", -1.0, 3, "reproduced"),
        ("R5-digits_finetune", 0.101, 3, "better"),
        ("R5r-cifar10s", 0.0, 5, "reproduced"),
        ("R5c-cifar10s", 0.106, 5, "better"),
        ("R5p-cifar10s", 0.112, 5, "better"),
        ("R6a-cifar10s", 2 / 3, 3, "reproduced"),
        ("R6b-cifar10s", 3 / 4, 4, "reproduced"),
    ],
)
def test_people_by_hand(id, value, n, verdict):
    row = judge(id, make_people("cifar10" if "cifar10" in id else "digits"))
    assert row["our_value"] == pytest.approx(value)
    assert row["n"] == n
    assert row["verdict"] == verdict


def test_a_system_that_gains_nothing_is_what_the_paper_has():
    row = judge("R5-digits_finetune", make_people(system_gain=-0.001))
    assert row["our_value"] == pytest.approx(0.0, abs=1e-12)
    assert row["verdict"] == "reproduced"


@pytest.mark.parametrize(
    ("id", "query", "why"),
    [
        ("R1", "method != 'ideal'", "hold no method ideal"),
        ("R4a-digits_finetune", "num_perfect > 5", "hold no k <= 5"),
        ("R4b-digits_finetune", "num_perfect == 5", "hold one k only"),
        ("R5-digits_finetune", "method != 'finetune'", "no specialists of method"),
        ("R6a-cifar10s", "people == 'specialist'", "hold no people of cifar10s"),
        ("R5r-cifar10s", "method != 'finetune'", "compare no finetune with none"),
    ],
)
def test_what_is_lacking_of_people_is_not_judged(id, query, why):
    results = make_trips() if id == "R1" else make_people()
    row = judge(id, results.query(query))
    assert row["verdict"].startswith("not run: ") and why in row["verdict"]


def test_claims_have_names_of_their_own():
    ids = [claim.id for claim in claims.CLAIMS]
    assert len(set(ids)) == len(ids)
    assert {claim.source for claim in claims.CLAIMS} <= set(
        claims_config.get_config().results
    )


def make_config(results=None, **changes):
    config = claims_config.get_config("smoke")
    config.run = ("digits",)
    for name, value in changes.items():
        config[name] = value
    config.results.update(results or {})
    return config


@pytest.fixture
def ready(tmp_path):
    """Work folders of finished experiments."""
    made = {
        "digits": make_results("digits"),
        "cifar10": make_results("cifar10"),
        "trips": make_trips(),
        "digits_finetune": make_people("digits"),
        "cifar10_finetune": make_people("cifar10"),
    }
    for name, table in made.items():
        (tmp_path / "ready" / name).mkdir(parents=True)
        table.to_csv(tmp_path / "ready" / name / "results.csv")
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
    folders = {path.name: str(path) for path in ready.iterdir()}
    config = make_config(results=folders)
    claims.main(config, workdir)
    ledger = pd.read_csv(workdir / "claims.csv")
    assert tuple(ledger.columns) == COLUMNS
    assert len(ledger) == len(claims.CLAIMS)
    of_images = ledger[ledger.id.str.startswith("R7")]
    assert set(of_images.verdict) == {"reproduced"}
    judged = [claim.id for claim in claims.CLAIMS if claim.source in folders]
    verdicts = ledger.set_index("id").verdict
    assert not verdicts[judged].str.startswith("not run").any()
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
    default = claims_config.get_config("default")
    default.run = ("digits",)
    with pytest.raises(ConfigError, match="another config") as caught:
        claims.main(default, workdir)
    assert str(workdir / "digits") in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"run": ("mnist",)},
            "run must be among bias, cifar10, cifar10_finetune, clusters, compas,"
            " digits, digits_finetune, health, synthetic, toxicity, trips, got"
            " 'mnist'",
        ),
        ({"scale": "huge"}, "scale must be one of smoke, default, paper, got 'huge'"),
        ({"tolerance": float("nan")}, r"tolerance must be a number in \[0, 1\]"),
        (
            {"results": {"digits": "/nowhere", "cifar10": ""}},
            r"results\.digits: there is no /nowhere/results\.csv; name the work folder",
        ),
    ],
)
def test_config_errors(workdir, no_training, changes, message):
    with pytest.raises(ConfigError, match=message) as caught:
        claims.main(make_config(**changes), workdir)
    assert "\n" not in str(caught.value)
    assert not (workdir / "claims.csv").exists()


@pytest.mark.parametrize("text", ["", "hello\n1\n", "dataset,seed\ndigits,0\n"])
def test_damaged_results_are_named(ready, workdir, no_training, text):
    path = ready / "digits" / "results.csv"
    path.write_text(text)
    config = make_config(results={"digits": str(path.parent), "cifar10": ""})
    with pytest.raises(ConfigError, match="is not a results table") as caught:
        claims.main(config, workdir)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_results_of_other_data_are_refused(ready, workdir, no_training):
    config = make_config(results={"digits": str(ready / "cifar10"), "cifar10": ""})
    with pytest.raises(ConfigError, match="holds results of cifar10, not of"):
        claims.main(config, workdir)
