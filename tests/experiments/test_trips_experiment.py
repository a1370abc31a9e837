"""The program of the trips end to end: results, restarts, and bad input."""

import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
import warnings

import jax
import numpy as np
import pandas as pd
import programs
import pytest
from scipy import stats

from experiments import trips
from experiments.configs import trips as trips_config
from experiments.figures import trips as trips_figures
from experiments.runtime import progress
from experiments.runtime.errors import ConfigError
from l2d_jax.engine import sweeps
from l2d_jax.people.hierarchical import Population

pytestmark = pytest.mark.usefixtures("cheap_compiles")

ROOT = pathlib.Path(__file__).parents[2]
TABLES = ("results.csv", "summary.csv", "comparison.csv")
FIGURES = ("trip_minutes.png", "share.png")
METHODS = (*trips.METHODS, *trips.REFERENCES)
NUM_PEOPLE = 40
CHANGES = {"num_repetitions": NUM_PEOPLE, "runs_per_device": 4}


def make_config(**changes):
    config = trips_config.get_config("smoke")
    for name, value in (CHANGES | changes).items():
        section, _, field = name.rpartition("__")
        target = config[section] if section else config
        target[field] = value
    return config


def run_main(config, workdir):
    return programs.run(trips.main, config, workdir)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A whole run: its folder and what it printed."""
    workdir = tmp_path_factory.mktemp("trips")
    return workdir, *run_main(make_config(), workdir)


@pytest.fixture(scope="module")
def results(whole):
    return pd.read_csv(whole[0] / "results.csv")


@pytest.fixture(scope="module")
def comparison(whole):
    return pd.read_csv(whole[0] / "comparison.csv")


def minutes_of(results, budget):
    """Minutes by person and method."""
    rows = results[results.finetune_trips == budget]
    return rows.pivot(index="seed", columns="method", values="minutes")


# What a run leaves.


def test_files(whole):
    workdir, out, err = whole
    names = {path.name for path in workdir.iterdir()}
    assert names == {
        *TABLES,
        "config.json",
        "origin.json",
        "tables.json",
        "figures",
        "checkpoints",
    }
    for name in FIGURES:
        content = (workdir / "figures" / name).read_bytes()
        assert content.startswith(b"\x89PNG") and len(content) > 5_000
    assert "hierarchical" in out and str(workdir) in out
    assert err.splitlines()[-1] == "trips: 80/80 runs"


def test_columns_and_rows_of_the_results(results):
    assert list(results.columns) == [
        *("experiment", "dataset", "method", "seed", "finetune_trips", "split"),
        *(
            "mu",
            "mu_rain",
            "mu_darkness",
            "diverged",
            "minutes",
            "minutes_saved",
            "regret",
        ),
        *("deferral_rate", "human_model_error", "num_selected", "fell_back"),
    ]
    counts = results.groupby(["method", "finetune_trips"]).seed.nunique()
    assert len(results) == len(METHODS) * 2 * NUM_PEOPLE
    assert (counts == NUM_PEOPLE).all() and len(counts) == len(METHODS) * 2
    assert set(results.split) == {"test"} and set(results.experiment) == {"trips"}
    assert results.deferral_rate.between(0, 1).all()
    trained = results.method.isin(trips.METHODS)
    assert (results.human_model_error.notna() == trained).all()
    selected = results.num_selected
    assert (selected.notna() == (results.method == "self_training")).all()
    assert selected.dropna().between(0, 160).all()


def test_a_person_is_the_same_for_all_methods_and_numbers_of_trips(results):
    groups = results.groupby("seed")
    assert (groups[["mu", "mu_rain", "mu_darkness"]].nunique() == 1).all(axis=None)
    references = results[results.method.isin(trips.REFERENCES)]
    assert (references.groupby(["seed", "method"]).minutes.nunique() == 1).all()
    assert results.groupby("seed").mu.first().nunique() > 5


@pytest.mark.parametrize("budget", [8, 32])
def test_references_bound_the_methods(results, budget):
    minutes = minutes_of(results, budget)
    for method in METHODS:
        assert (minutes.ideal <= minutes[method] + 1e-4).all()
    # 32 test trips of 40 people: known means are best in the mean, up to luck.
    for method in trips.METHODS:
        assert minutes.known_mean.mean() < minutes[method].mean() + 0.1
    rates = results.groupby("method").deferral_rate
    assert (rates.min()["always_defer"], rates.max()["never_defer"]) == (1.0, 0.0)


def test_savings_and_regret_are_differences(results):
    for budget in (8, 32):
        minutes = minutes_of(results, budget)
        rows = results[results.finetune_trips == budget]
        for column, sign, base in (
            ("minutes_saved", -1, "none"),
            ("regret", 1, "known_mean"),
        ):
            table = rows.pivot(index="seed", columns="method", values=column)
            expected = sign * minutes.sub(minutes[base], axis=0)
            np.testing.assert_allclose(
                table[expected.columns], expected, rtol=0, atol=1e-4
            )


@pytest.mark.parametrize("budget", [8, 32])
def test_the_hierarchical_model_knows_the_person_best(results, budget):
    rows = results[results.finetune_trips == budget]
    errors = rows.pivot(index="seed", columns="method", values="human_model_error")
    for method in ("none", "finetune", "self_training"):
        gain = errors[method] - errors.hierarchical
        assert stats.ttest_1samp(gain, 0.0).statistic > 3.0
    # 1 trip in 10 of a few minutes each is saved by knowing the person.
    assert rows[rows.method == "hierarchical"].minutes_saved.mean() > 0.2


def test_the_comparison_is_of_the_results(results, comparison):
    assert len(comparison) == len(METHODS) * 2
    assert (comparison.n == NUM_PEOPLE).all()
    for row in comparison.itertuples():
        minutes = minutes_of(results, row.finetune_trips)
        ours, none, known = (
            minutes[name] for name in (row.method, "none", "known_mean")
        )
        assert row.mean_minutes == pytest.approx(ours.mean(), abs=1e-4)
        assert row.median_minutes == pytest.approx(ours.median(), abs=1e-4)
        saved = (none - ours).mean()
        assert row.minutes_saved == pytest.approx(saved, abs=1e-4)
        assert row.share == pytest.approx(saved / (none - known).mean(), abs=1e-3)
        if row.method == "none":
            assert row.sign == 0 and row.p_value == 1
            continue
        assert row.sign == np.sign(saved)
        test = stats.ttest_rel(none, ours)
        assert row.p_value == pytest.approx(test.pvalue, rel=1e-2)
        interval = test.confidence_interval(0.95)
        assert row.saved_low == pytest.approx(interval.low, abs=1e-3)
        assert row.saved_high == pytest.approx(interval.high, abs=1e-3)


def test_the_summary_is_of_the_results(whole, results):
    summary = pd.read_csv(whole[0] / "summary.csv")
    assert len(summary) == len(METHODS) * 2 * len(trips.METRICS)
    row = summary.query(
        "method == 'finetune' and finetune_trips == 32 and metric == 'regret'"
    ).iloc[0]
    values = results.query("method == 'finetune' and finetune_trips == 32").regret
    assert (row.n, row["mean"]) == (NUM_PEOPLE, pytest.approx(values.mean(), abs=1e-6))


# The comparison, on tables made by hand.


def make_results(minutes):
    """A results table from minutes by method, each a list over people."""
    parts = []
    for method, values in minutes.items():
        saved = np.subtract(minutes["none"], values)
        part = {"dataset": "simulated", "method": method, "seed": range(len(values))}
        part |= {"finetune_trips": 8, "minutes": values, "minutes_saved": saved}
        parts.append(pd.DataFrame(part | {"fell_back": method == "self_training"}))
    return pd.concat(parts, ignore_index=True)


def test_shares_by_hand():
    table = make_results(
        {
            "none": [10.0, 20.0, 30.0],
            "finetune": [10.0, 18.0, 29.0],
            "self_training": [11.0, 21.0, 31.0],
            "known_mean": [8.0, 16.0, 24.0],
        }
    )
    rows = trips.compare(table).set_index("method")
    # 1 of 4 minutes, on the whole.
    assert rows.share["finetune"] == pytest.approx(0.25)
    assert rows.share_low["finetune"] < 0.25 < rows.share_high["finetune"]
    assert (rows.sign["finetune"], rows.sign["self_training"]) == (1, -1)
    # t = 1 / (1 / sqrt 3) with two degrees of freedom.
    assert rows.p_value["finetune"] == pytest.approx(0.2254, abs=1e-4)
    # Every person loses the same: there is no spread to test with.
    assert np.isnan(rows.p_value["self_training"])
    assert rows.num_fell_back["self_training"] == 3
    assert rows.share_low["known_mean"] == rows.share_high["known_mean"] == 1.0


def test_the_interval_of_a_share_is_that_of_scipy():
    generator = np.random.default_rng(0)
    known = generator.gamma(2.0, 1.0, 200)
    saved = 0.6 * known + generator.normal(0, 0.5, 200)
    _, low, high = trips._share(saved, known)
    expected = stats.bootstrap(
        (saved, known),
        lambda x, y, axis: np.mean(x, axis) / np.mean(y, axis),
        paired=True,
        vectorized=True,
        method="percentile",
        n_resamples=2000,
    ).confidence_interval
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=0.012)


def test_nothing_to_save():
    table = make_results({"none": [9.0, 9.0], "known_mean": [9.0, 9.5]})
    comparison = trips.compare(table)
    assert comparison[["share", "share_low", "share_high"]].isna().all(axis=None)
    assert "nan" not in trips.describe(comparison).lower()


# Other configs.


def strictly(config, workdir):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return run_main(config, workdir)


def test_a_run_does_not_depend_on_those_beside_it(results, tmp_path):
    run_main(make_config(finetune_trips=(32,), num_repetitions=9), tmp_path)
    table = pd.read_csv(tmp_path / "results.csv")
    rows = results[(results.finetune_trips == 32) & (results.seed < 9)]
    rows = rows.reset_index(drop=True)
    pd.testing.assert_frame_equal(table, rows, check_exact=True)


def test_no_trips_to_tune_with_and_no_sure_prediction(results, tmp_path):
    """Fine-tuning keeps the model of the others; self-training falls back, and says."""
    config = make_config(finetune_trips=(0,), human_model__threshold=1e6)
    out, _ = strictly(config, tmp_path)
    table = pd.read_csv(tmp_path / "results.csv")
    assert np.isfinite(table.minutes).all()
    fell_back = table.groupby("method").fell_back.sum()
    assert fell_back["self_training"] == NUM_PEOPLE
    assert fell_back.drop("self_training").sum() == 0
    comparison = pd.read_csv(tmp_path / "comparison.csv").set_index("method")
    assert comparison.num_fell_back["self_training"] == NUM_PEOPLE
    line = next(line for line in out.splitlines() if "self_training" in line)
    assert line.endswith(f" {NUM_PEOPLE}")
    # Without the person's answers the methods know no more than the others.
    errors = table.groupby("method").human_model_error.mean()
    answered = results[results.finetune_trips == 32].groupby("method")
    answered = answered.human_model_error.mean()
    for method in ("finetune", "hierarchical"):
        assert errors[method] > answered[method] + 1.0
        assert errors[method] == pytest.approx(errors["none"], abs=1.5)


@pytest.mark.slow
def test_one_person_without_unlabelled_trips(tmp_path):
    config = make_config(
        methods=("self_training", "hierarchical"),
        num_repetitions=1,
        finetune_trips=(8,),
        num_unlabelled=0,
        conditions="binary",
    )
    out, _ = strictly(config, tmp_path)
    table = pd.read_csv(tmp_path / "results.csv")
    assert np.isfinite(table.minutes).all() and len(table) == 2 + len(trips.REFERENCES)
    assert table.minutes_saved.isna().all()
    assert table[table.method == "self_training"].fell_back.all()
    comparison = pd.read_csv(tmp_path / "comparison.csv")
    columns = ["minutes_saved", "saved_low", "share", "share_low", "p_value", "sign"]
    assert comparison[columns].isna().all(axis=None)
    assert "nan" not in out.lower()


def test_classes_are_balanced_only_if_asked(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(
        trips.finetuning,
        "balanced_weights",
        lambda classes, weights, num_classes: seen.append(num_classes) or weights,
    )
    for balance in (True, False):
        config = make_config(human_model__balance_classes=balance)
        jax.eval_shape(
            trips.make_repetition(config),
            {"seed": np.int32(0), "finetune_trips": np.int32(8)},
            trips.make_shared(config),
        )
        assert seen == [2]


def test_the_prior_is_fitted_to_other_people_alone(monkeypatch):
    seen = []

    def fit_population(features, targets):
        seen.append((features.shape, targets.shape))
        return Population(np.ones(3), np.eye(3), np.ones(()))

    monkeypatch.setattr(trips.hierarchical, "fit_population", fit_population)
    config = make_config(methods=("hierarchical",))
    jax.eval_shape(
        trips.make_repetition(config),
        {"seed": np.int32(0), "finetune_trips": np.int32(8)},
        trips.make_shared(config),
    )
    assert seen == [((9, 64, 3), (9, 64))]


@pytest.mark.parametrize("scale", ["smoke", "default", "paper"])
def test_configs_of_all_scales_are_sound(scale):
    trips.check(trips_config.get_config(scale))


@pytest.mark.slow
def test_what_the_default_reaches(tmp_path):
    """On 200 people: fine-tuning helps, and the hierarchical model by most of it."""
    config = trips_config.get_config()
    config.num_repetitions, config.finetune_trips = 200, (8, 128)
    run_main(config, tmp_path)
    rows = pd.read_csv(tmp_path / "comparison.csv")
    rows = rows.set_index(["finetune_trips", "method"])
    for method in ("finetune", "self_training", "hierarchical"):
        assert rows.sign[128, method] == 1 and rows.p_value[128, method] < 1e-3
    assert rows.share_low[128, "hierarchical"] > 0.8
    assert rows.share_low[8, "hierarchical"] > rows.share_high[8, "finetune"]
    order = [rows.mean_minutes[128, m] for m in ("ideal", "known_mean", "finetune")]
    assert order == sorted(order)


# Stopped and started again.


def copy_tables(whole):
    return {name: (whole[0] / name).read_bytes() for name in TABLES}


@pytest.mark.slow
def test_stopped_it_goes_on_and_ends_with_the_same_tables(whole, tmp_path, monkeypatch):
    class Stopping(progress.ProgressBar):
        def __call__(self, progress):
            super().__call__(progress)
            os.kill(os.getpid(), signal.SIGTERM)

    handlers = [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)]
    monkeypatch.setattr(progress, "ProgressBar", Stopping)
    stops = 0
    while True:
        try:
            run_main(make_config(), tmp_path)
            break
        except sweeps.Interrupted:
            stops += 1
            assert not (tmp_path / "results.csv").exists()
            parts = list((tmp_path / "checkpoints" / "trips").glob("*.json"))
            # 40 runs in chunks of 2 x 4.
            assert 1 <= len(parts) < 5
            monkeypatch.undo()
    assert stops == 1
    assert handlers == [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)]
    assert copy_tables(whole) == copy_tables((tmp_path,))


def test_a_finished_run_is_not_computed_again(whole, tmp_path):
    workdir = tmp_path / "copy"
    shutil.copytree(whole[0], workdir)
    for name in TABLES:
        (workdir / name).unlink()
    parts = {
        path: path.stat().st_mtime_ns
        for path in (workdir / "checkpoints").rglob("*.json")
    }
    run_main(make_config(), workdir)
    assert parts == {path: path.stat().st_mtime_ns for path in parts}
    assert copy_tables(whole) == copy_tables((workdir,))


@pytest.mark.slow
def test_killed_it_goes_on_and_ends_with_the_same_tables(whole, tmp_path):
    settings = [f"--config.{name}={value}" for name, value in CHANGES.items()]
    with subprocess.Popen(
        [
            *(sys.executable, "-m", "experiments.trips"),
            "--config=experiments/configs/trips.py:smoke",
            f"--workdir={tmp_path}",
            *settings,
        ],
        cwd=ROOT,
        env=os.environ | {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"},
    ) as process:
        while not list(tmp_path.glob("checkpoints/trips/*.json")):
            assert process.poll() is None
            time.sleep(0.002)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / "results.csv").exists()
    run_main(make_config(), tmp_path)
    assert copy_tables(whole) == copy_tables((tmp_path,))


# Bad input.


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"methods": ()}, "methods must hold at least one value"),
        ({"methods": ("magic",)}, "methods must be one of none, finetune, .* 'magic'"),
        ({"methods": ("ideal",)}, "methods must be one of none, .*, got 'ideal'"),
        ({"methods": ("none", "none")}, "methods must not repeat"),
        ({"conditions": "snow"}, "conditions must be one of uniform, binary"),
        ({"placement": "moon"}, "placement must be one of auto, vmap, "),
        ({"seed": -1}, "seed must be a whole number in 0..2147483647, got -1"),
        ({"num_repetitions": 0}, "num_repetitions must be a whole number >= 1"),
        ({"num_drivers": 2}, "num_drivers must be a whole number >= 3, got 2"),
        ({"trips_per_driver": 0}, "trips_per_driver must be a whole number >= 2"),
        ({"trips_per_driver": 63}, "trips_per_driver must be even, .* got 63"),
        ({"num_unlabelled": -1}, "num_unlabelled must be a whole number >= 0"),
        ({"finetune_trips": ()}, "finetune_trips must hold at least one value"),
        (
            {"finetune_trips": (-1,)},
            "finetune_trips must be a whole number >= 0, got -1",
        ),
        ({"finetune_trips": (33,)}, r"finetune_trips must be .* in 0\.\.32, got 33"),
        ({"finetune_trips": (32, 8)}, "finetune_trips must increase, without repeats"),
        ({"finetune_trips": (8, 8)}, "finetune_trips must increase, without repeats"),
        (
            {"finetune_trips": (0, 8), "num_unlabelled": 0},
            "finetune_trips 0 with num_unlabelled 0 leaves nothing to learn from",
        ),
        ({"runs_per_device": -1}, "runs_per_device must be a whole number in 0"),
        (
            {"world__driver_rates": (35.0, -5.0, 5.0)},
            "world.driver_rates must be a finite number",
        ),
        (
            {"world__driver_deviations": (5.0, 2.0)},
            "world.driver_deviations must hold 3 values",
        ),
        (
            {"world__dependent_deviations": (5.0, -2.0, 2.0)},
            "world.dependent_deviations must be .*, got -2.0",
        ),
        (
            {"world__constant_deviation": -0.001},
            "world.constant_deviation must be .*, got -0.001",
        ),
        (
            {"world__constant_mean": float("nan")},
            "world.constant_mean must be a finite number .*, got nan",
        ),
        ({"human_model__hidden": (0,)}, "human_model.hidden must be a whole number"),
        ({"human_model__num_epochs": 0}, "human_model.num_epochs must be a whole"),
        (
            {"human_model__learning_rate": 0.0},
            "human_model.learning_rate must be a finite number > 0",
        ),
        (
            {"human_model__scale": 0.0},
            "human_model.scale must be a finite number > 0, got 0.0",
        ),
        (
            {"human_model__finetune_factor": 1e30},
            "human_model.finetune_factor times human_model.num_epochs must be a whole",
        ),
        ({"human_model__threshold": -1.0}, "human_model.threshold must be a finite"),
        (
            {"human_model__batch_size": 5000},
            "human_model.batch_size 5000 is larger than the 576 trips .* at most 576",
        ),
        (
            {"human_model__individual_batch_size": 33},
            "human_model.individual_batch_size 33 is larger than the 32 trips",
        ),
        (
            {"rejector__batch_size": 193},
            "rejector.batch_size 193 is larger than the 192 trips .* at most 192",
        ),
        ({"rejector__learning_rate": -1.0}, "rejector.learning_rate must be a finite"),
    ],
)
def test_bad_config(changes, message):
    with pytest.raises(ConfigError, match=f"^{message}") as raised:
        trips.main(make_config(**changes), pathlib.Path("never-made"))
    assert "\n" not in str(raised.value)
    assert not pathlib.Path("never-made").exists()


def test_a_work_folder_of_another_config(whole):
    with pytest.raises(ConfigError, match="num_unlabelled differs"):
        trips.main(make_config(num_unlabelled=100), whole[0])


# Figures.


def test_figures_of_undefined_values_without_a_warning(tmp_path):
    table = make_results({"none": [9.0], "finetune": [9.0], "known_mean": [9.0]})
    table.to_csv(tmp_path / "results.csv", index=False)
    trips.compare(table).to_csv(tmp_path / "comparison.csv", index=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trips_figures.draw(tmp_path)
    assert {path.name for path in (tmp_path / "figures").iterdir()} == set(FIGURES)
