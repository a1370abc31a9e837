"""The ledger of claims, on tables whose verdicts are known."""

import importlib
import os

import ml_collections
import numpy as np
import pandas as pd
import pytest

from experiments import cifar, persons, tables
from experiments.claims import ledger as claims
from experiments.claims.claim import Evidence
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
    "over",
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


def make_results(problem="digits", **changes):
    rows = [
        {
            "problem": problem,
            "method": method,
            "seed": seed,
            "num_perfect": k,
            "split": "test",
            "chosen": True,
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


def make_comparison(problem="digits", **changes):
    """What the runner would find of these systems; intervals are 0.004 either way."""
    levels = SOUND | changes
    rows = []
    for place, k in enumerate((0, 5, 10)):
        best = max(("classifier", "expert"), key=lambda name: levels[name][place])
        for method, against, metric, mean in (
            ("deferral", "best single party", "system_accuracy", None),
            ("deferral", "best single party", "di", -0.9),
            ("deferral", "reference", "system_accuracy", -0.8),
            ("confidence", "best single party", "system_accuracy", -0.7),
        ):
            if mean is None:
                mean = levels[method][place] - levels[best][place]
            rows.append(
                {
                    "problem": problem,
                    "num_perfect": k,
                    "method": method,
                    "against": against,
                    "reference": best,
                    "metric": metric,
                    "n": len(OFFSETS),
                    "mean": mean,
                    "ci_low": mean - 0.004,
                    "ci_high": mean + 0.004,
                    "p_value": 0.5,
                    "p_holm": 1.0,
                }
            )
    return pd.DataFrame(rows)


def make_evidence(**changes):
    return Evidence(make_results(**changes), make_comparison(**changes))


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


def make_people(images="digits", system_gain=0.1):
    """Specialists of three skills at three seeds, and five real people."""
    rows = []
    common = {"problem": f"{images}_people", "method": "deferral", "split": "test"}
    common |= {"chosen": True, "human_model_nll": 0.3}
    for k, gain in ((0, 0.5), (5, 0.2), (10, 0.0)):
        for seed in range(3):
            for imputer, tuned in (("none", 0), ("finetune", 1), ("population", 1)):
                accuracy = 0.5 + tuned * (gain + 0.01 * seed)
                system = 0.8 + tuned * (system_gain + 0.001 * seed)
                rows.append(
                    common
                    | {
                        "people": "specialist",
                        "imputer": imputer,
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
    for imputer, values in gains.items():
        for person, (gain, system) in enumerate(zip(values, systems, strict=True)):
            rows.append(
                common
                | {
                    "people": "cifar10s",
                    "imputer": imputer,
                    "seed": 0,
                    "person": person,
                    "num_perfect": np.nan,
                    "human_model_accuracy": 0.7 + gain,
                    "system_accuracy": 0.8 + (system if imputer != "none" else 0.0),
                }
            )
    table = pd.DataFrame(rows)
    # Of the validation part, which no claim is about, and where not all is chosen.
    valid = table.assign(split="valid", human_model_accuracy=0.0, system_accuracy=0.0)
    passed_over = valid.assign(chosen=False)
    return pd.concat([table, valid, passed_over], ignore_index=True)


def people_evidence(results):
    return Evidence(results, gains=persons.compare(results))


def judge(id, evidence, tolerance=0.02):
    (claim,) = [claim for claim in claims.CLAIMS if claim.id == id]
    return claims.judge(claim, evidence, tolerance)


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
    row = judge(id, make_evidence())
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
    row = judge(id, make_evidence(deferral=deferral))
    assert row["verdict"] == "not reproduced"
    assert row["n"] == len(OFFSETS)


def test_the_tolerance_decides():
    evidence = make_evidence(deferral=(0.87, 0.95, 0.97))
    for id in ("R7a-digits", "R7b-digits"):
        assert judge(id, evidence, 0.05)["verdict"] == "reproduced"
        assert judge(id, evidence, 0.01)["verdict"] == "not reproduced"


def test_one_seed_has_no_interval_and_shows_no_difference():
    results = make_results()
    results = results[results.seed == 0]
    row = judge("R7d-digits", Evidence(results))
    assert row["n"] == 1 and np.isnan(row["ci_low"])
    assert row["verdict"] == "not reproduced"


@pytest.mark.parametrize(
    ("id", "query", "why"),
    [
        ("R7a-digits", "num_perfect < 10", "hold no expert of k = 10"),
        ("R7b-digits", "method != 'deferral'", "comparison holds no deferral against"),
        ("R7c-digits", "num_perfect == 5", "hold one k only"),
        ("R7d-digits", "method != 'confidence'", "hold no method confidence"),
        ("R7a-digits", "split == 'valid'", "hold no method deferral"),
    ],
)
def test_what_the_results_lack_is_not_judged(id, query, why):
    column = query.split()[0]
    evidence = Evidence(
        *(
            table.query(query) if column in table else table
            for table in (make_results(), make_comparison())
        )
    )
    row = judge(id, evidence)
    assert tuple(row) == COLUMNS
    assert row["verdict"].startswith("not run: ") and why in row["verdict"]
    assert row["n"] == 0 and np.isnan(row["our_value"])


def test_the_better_party_is_told_by_the_comparison():
    """Its number and interval, at the k where the system is least of it."""
    comparison = make_comparison()
    least = (comparison.num_perfect == 5) & (comparison.against != "reference")
    least &= (comparison.method == "deferral") & (comparison.metric != "di")
    comparison.loc[least, ["mean", "ci_low", "ci_high", "n"]] = -0.01, -0.05, 0.03, 7
    row = judge("R7b-digits", Evidence(make_results(), comparison))
    found = {name: row[name] for name in ("our_value", "ci_low", "ci_high", "n")}
    assert found == {"our_value": -0.01, "ci_low": -0.05, "ci_high": 0.03, "n": 7}
    assert row["verdict"] == "reproduced" and row["over"] == "seeds and cases"


@pytest.mark.parametrize(
    ("id", "results", "why"),
    [
        ("R7b-digits", make_results, "without a comparison.csv; run the experiment"),
        ("R5r-cifar10s", make_people, "without a gains.csv; run the experiment again"),
    ],
)
def test_tables_that_are_not_there_are_asked_for(id, results, why):
    verdict = judge(id, Evidence(results()))["verdict"]
    assert verdict.startswith("not run: ") and why in verdict


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
    row = judge(id, Evidence(make_trips()))
    assert row["our_value"] == pytest.approx(value)
    assert row["n"] == 4
    assert row["ci_low"] <= row["our_value"] <= row["ci_high"]
    assert row["verdict"] == verdict


def test_trips_out_of_order_are_not_reproduced():
    row = judge("R1", Evidence(make_trips(finetune=(33.0, 38.4, 40.4, 51.0))))
    assert row["our_value"] == pytest.approx(-0.25)
    assert row["verdict"] == "not reproduced"


def test_a_share_about_a_fifth_is_what_the_paper_has():
    known, none = np.array(MINUTES["known_mean"]), np.array(MINUTES["none"])
    tuned = none - 0.2 * (none - known) + np.array([0.1, -0.1, 0.1, -0.1])
    row = judge("R2c", Evidence(make_trips(finetune=tuple(tuned))))
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
    results = make_people("cifar10" if "cifar10" in id else "digits")
    row = judge(id, people_evidence(results))
    assert row["our_value"] == pytest.approx(value)
    assert row["n"] == n
    assert row["verdict"] == verdict


def test_a_system_that_gains_nothing_is_what_the_paper_has():
    row = judge("R5-digits_finetune", Evidence(make_people(system_gain=-0.001)))
    assert row["our_value"] == pytest.approx(0.0, abs=1e-12)
    assert row["verdict"] == "reproduced"


@pytest.mark.parametrize(
    ("id", "query", "why"),
    [
        ("R1", "method != 'ideal'", "hold no method ideal"),
        ("R4a-digits_finetune", "num_perfect > 5", "hold no k <= 5"),
        ("R4b-digits_finetune", "num_perfect == 5", "hold one k only"),
        ("R5-digits_finetune", "imputer != 'finetune'", "specialists of imputer"),
        ("R6a-cifar10s", "people == 'specialist'", "hold no people of cifar10s"),
        ("R5r-cifar10s", "imputer != 'finetune'", "compare no finetune with none"),
    ],
)
def test_what_is_lacking_of_people_is_not_judged(id, query, why):
    if id == "R1":
        evidence = Evidence(make_trips().query(query))
    else:
        evidence = people_evidence(make_people().query(query))
    row = judge(id, evidence)
    assert row["verdict"].startswith("not run: ") and why in row["verdict"]


def test_specialists_are_judged_by_what_was_chosen():
    """Systems of other methods, and settings passed over, are in no mean."""
    results = make_people()
    others = results.assign(method="mixture", system_accuracy=0.0, chosen=True)
    passed_over = results.assign(chosen=False, system_accuracy=0.0)
    table = pd.concat([results, others, passed_over], ignore_index=True)
    row = judge("R5-digits_finetune", Evidence(table))
    assert row["our_value"] == pytest.approx(0.101)


@pytest.mark.parametrize(
    ("id", "over"),
    [
        ("R7a-digits", "seeds"),
        ("R7b-digits", "seeds and cases"),
        ("R7c-digits", "seeds"),
        ("R7d-digits", "seeds"),
        ("R4a-digits_finetune", "seeds"),
        ("R5-digits_finetune", "seeds"),
        ("R5r-cifar10s", "people"),
        ("R6a-cifar10s", "people"),
        ("R1", "people"),
        ("R2a", "people"),
        ("R2c", "people"),
        ("R3", "people"),
    ],
)
def test_intervals_say_what_they_are_over(id, over):
    if id.startswith("R7"):
        evidence = make_evidence()
    elif "-" in id:
        evidence = people_evidence(make_people())
    else:
        evidence = Evidence(make_trips())
    assert judge(id, evidence)["over"] == over


def test_claims_have_names_of_their_own():
    ids = [claim.id for claim in claims.CLAIMS]
    assert len(set(ids)) == len(ids)
    assert {claim.source for claim in claims.CLAIMS} <= set(
        claims_config.get_config().results
    )


@pytest.mark.parametrize("name", claims.SOURCES)
def test_sources_have_a_config_at_every_scale(name):
    source = claims.SOURCES[name]
    module = importlib.import_module(f"experiments.configs.{name}")
    for scale in ("smoke", "default", source.paper_scale):
        config = module.get_config(scale)
        # Closed loops and trips name no problem; the zoo has several.
        parts = config.parts.values() if "parts" in config else [config]
        named = {part.problem for part in parts if "problem" in part}
        assert named == ({*source.names} if source.key == "problem" else set())


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
        folder = tmp_path / "ready" / name
        table.to_csv(folder / "results.csv")
        if "imputer" in table:
            persons.compare(table).to_csv(folder / "gains.csv", index=False)
            # One method alone is compared with nothing.
            pd.DataFrame().to_csv(folder / "comparison.csv", index=False)
        elif "problem" in table:
            comparison = make_comparison(name)
            comparison.to_csv(folder / "comparison.csv", index=False)
        tables.seal(folder)
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
    lines = (workdir / "claims.md").read_text().splitlines()
    assert len(lines) == 3 + len(claims.CLAIMS)
    assert [line.split(" | ")[0] for line in lines[3:]] == [
        f"| {claim.id}" for claim in claims.CLAIMS
    ]


def test_markdown_by_hand():
    row = {
        "id": "X1",
        "paper": "Somebody 2020",
        "statement": "The share |a - b|\nis small: share",
        "paper_value": "0.2",
        "our_value": 0.21449,
        "ci_low": -0.0001,
        "ci_high": 0.5,
        "n": 12,
        "over": "seeds and cases",
        "verdict": "reproduced",
    }
    bare = {"our_value": 3.0, "ci_low": np.nan, "ci_high": np.nan, "n": 2, "over": ""}
    nothing = {"our_value": np.nan, "n": 0, "paper_value": "", "verdict": "not run: x"}
    table = claims.to_markdown(pd.DataFrame([row, row | bare, row | bare | nothing]))
    assert table.splitlines() == [
        "<!-- Written by python -m experiments.claims, not by hand. -->",
        "| id | paper | claim | paper's number | ours (95 % interval) | n | over"
        " | verdict |",
        "|---|---|---|---|---|---|---|---|",
        r"| X1 | Somebody 2020 | The share \|a - b\| is small: share | 0.2"
        " | 0.214 (0.000 to 0.500) | 12 | seeds and cases | reproduced |",
        r"| X1 | Somebody 2020 | The share \|a - b\| is small: share | 0.2"
        " | 3.000 | 2 |  | reproduced |",
        r"| X1 | Somebody 2020 | The share \|a - b\| is small: share | "
        " |  | 0 |  | not run: x |",
    ]
    assert table.endswith("|\n")


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
        make_comparison().to_csv(folder / "comparison.csv")
        tables.seal(folder)

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
            "run must be one of bias, cifar10, cifar10_finetune, clusters, compas,"
            " digits, digits_finetune, health, synthetic, texts, toxicity, trips, zoo,"
            " got 'mnist'",
        ),
        ({"scale": "huge"}, "scale must be one of smoke, default, paper, got 'huge'"),
        ({"tolerance": float("nan")}, r"tolerance must be a finite number in \[0, 1\]"),
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


@pytest.mark.parametrize("text", ["", "hello\n1\n", "problem,seed\ndigits,0\n"])
def test_damaged_results_are_named(ready, workdir, no_training, text):
    path = ready / "digits" / "results.csv"
    path.write_text(text)
    tables.seal(path.parent)
    config = make_config(results={"digits": str(path.parent), "cifar10": ""})
    with pytest.raises(ConfigError, match="is not a results table") as caught:
        claims.main(config, workdir)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def cut(path):
    """Without its last row."""
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))


@pytest.mark.parametrize("name", ["results", "comparison"])
@pytest.mark.parametrize("damage", [cut, lambda path: path.write_text(""), os.remove])
def test_tables_that_were_cut_short_are_not_judged(
    ready, workdir, no_training, name, damage
):
    path = ready / "digits" / f"{name}.csv"
    damage(path)
    config = make_config(results={"digits": str(path.parent), "cifar10": ""})
    with pytest.raises(ConfigError, match=r"^results\.digits: ") as caught:
        claims.main(config, workdir)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert not (workdir / "claims.csv").exists()


def test_tables_of_an_unfinished_run_are_not_judged(ready, workdir, no_training):
    (ready / "digits" / "tables.json").unlink()
    config = make_config(results={"digits": str(ready / "digits"), "cifar10": ""})
    with pytest.raises(ConfigError, match=r"no tables.json, .* run the same command"):
        claims.main(config, workdir)


@pytest.mark.parametrize("name", ["comparison", "gains"])
def test_damaged_tables_beside_the_results_are_named(ready, workdir, no_training, name):
    path = ready / "digits" / f"{name}.csv"
    path.write_text("method,seed\ndeferral,0\n")
    tables.seal(path.parent)
    config = make_config(results={"digits": str(path.parent), "cifar10": ""})
    with pytest.raises(ConfigError, match="is not a results table") as caught:
        claims.main(config, workdir)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_tables_of_other_programs_are_left_alone(ready):
    """Trips have a comparison too, of other columns, which no claim is about."""
    theirs = {"dataset": ["simulated"], "method": ["finetune"], "p_value": [0.1]}
    folder = ready / "trips"
    pd.DataFrame(theirs).to_csv(folder / "comparison.csv", index=False)
    evidence = claims.read_evidence("trips", folder)
    assert evidence.comparison is None and evidence.gains is None
    assert judge("R1", evidence)["verdict"] == "reproduced"


def test_methods_that_are_not_applicable_are_no_rows(ready):
    path = ready / "digits" / "results.csv"
    whole = pd.read_csv(path, index_col=0)
    reason = {"problem": "digits", "method": "joint", "note": "not applicable: why"}
    pd.concat([whole, pd.DataFrame([reason])]).to_csv(path)
    tables.seal(path.parent)
    results = claims.read_evidence("digits", path.parent).results
    assert len(results) == len(whole) and results.chosen.dtype == bool
    assert judge("R7a-digits", Evidence(results))["verdict"] == "reproduced"


def test_results_of_other_data_are_refused(ready, workdir, no_training):
    config = make_config(results={"digits": str(ready / "cifar10"), "cifar10": ""})
    with pytest.raises(ConfigError, match="holds results of cifar10, not of"):
        claims.main(config, workdir)
