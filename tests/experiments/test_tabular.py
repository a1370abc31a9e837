"""The tabular program end to end: results, restarts, decision-makers, bad input."""

import contextlib
import io
import os

import jax
import numpy as np
import pandas as pd
import pytest

from experiments import decision_makers, tables, tabular
from experiments.configs import compas, health, synthetic
from experiments.figures import fronts
from experiments.runtime.errors import ConfigError
from l2d_jax import data
from l2d_jax.data import synthetic as law
from l2d_jax.engine import sweeps
from l2d_jax.learners import mixture
from l2d_jax.types import Dataset

TABLES = ("results.csv", "summary.csv", "fronts.csv")
SCENARIOS = ("accurate", "biased", "inconsistent")
NUM_SETTINGS = {
    **dict.fromkeys(("classifier", "bayesian", "informed"), 2),
    **dict.fromkeys(("rejection", "deferral", "deferral_oracle"), 4),
    **dict.fromkeys(tabular.POST_HOC, 4),
}


@pytest.fixture(scope="module", autouse=True)
def _cheap_compiles():
    """The program runs for a moment: compiling it is all of the time."""
    jax.config.update("jax_disable_most_optimizations", True)
    jax.clear_caches()
    yield
    jax.config.update("jax_disable_most_optimizations", False)
    jax.clear_caches()


def make_config(**changes):
    config = synthetic.get_config("smoke")
    config.update({"runs_per_device": 8, "placement": "vmap", "patience": 0})
    for name, value in changes.items():
        section, _, field = name.rpartition("__")
        target = config[section] if section else config
        target[field] = value
    return config


def run_main(config, workdir):
    """What the program printed."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        tabular.main(config, workdir)
    return out.getvalue(), err.getvalue()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A whole run: its folder and what it printed."""
    workdir = tmp_path_factory.mktemp("tabular")
    return workdir, *run_main(make_config(), workdir)


@pytest.fixture(scope="module")
def results(whole):
    return pd.read_csv(whole[0] / "results.csv")


def of(table, **values):
    for name, value in values.items():
        table = table[table[name] == value]
    return table


# What a run leaves.


def test_files(whole):
    workdir, out, err = whole
    names = {path.name for path in workdir.iterdir()}
    assert names == {*TABLES, "config.json", "figures", "checkpoints"}
    sweep_names = {path.name for path in (workdir / "checkpoints/given").iterdir()}
    assert sweep_names == {"informed", *tabular.OBJECTIVES, "bayesian"}
    assert "best rule" in out and str(workdir) in out
    assert "deferral: " in err


def test_columns_and_rows_of_the_results(results):
    assert list(results.columns) == [
        *("experiment", "dataset", "decision_maker", "scenario", "method", "seed"),
        *("cost", "alpha", "split", "chosen", *tabular.METRICS),
        *("best_epoch", "epochs", "diverged"),
    ]
    for method, count in NUM_SETTINGS.items():
        for scenario in SCENARIOS:
            rows = of(results, method=method, scenario=scenario)
            assert len(rows) == count * 2 * 2, method
            assert not rows.duplicated(["seed", "cost", "alpha", "split"]).any()
    for method in ("decision_maker", "best_rule"):
        assert len(of(results, method=method)) == 3 * 2
    assert len(results) == 3 * 4 * sum(NUM_SETTINGS.values()) + 12
    rates = results[[*tabular.METRICS]]
    assert ((rates >= 0) & (rates <= 1) | rates.isna()).all(axis=None)
    assert set(results.decision_maker) == {"given"}


def test_metrics_agree_with_each_other(results):
    close = {"atol": 1e-6, "rtol": 0}
    np.testing.assert_allclose(
        results.system_error, 1 - results.system_accuracy, **close
    )
    gaps = (results.fpr_0 - results.fpr_1).abs() + (results.fnr_0 - results.fnr_1).abs()
    np.testing.assert_allclose(results.di, gaps / 2, **close)
    rate = results.deferral_rate
    mixed = rate * results.expert_accuracy_deferred.fillna(0.0) + (
        1 - rate
    ) * results.classifier_accuracy_kept.fillna(0.0)
    np.testing.assert_allclose(results.system_accuracy, mixed, **close)
    assert (results.min_subgroup_accuracy <= results.system_accuracy + 1e-6).all()


def test_who_never_passes_and_who_always_does(results):
    for method in ("classifier", "bayesian", "informed"):
        assert (of(results, method=method).deferral_rate == 0).all()
    alone = of(results, method="decision_maker")
    assert (alone.deferral_rate == 1).all()
    np.testing.assert_array_equal(alone.system_accuracy, alone.expert_accuracy)


def test_rejecting_knows_nothing_of_the_decision_maker(results):
    keys = ["seed", "cost", "alpha", "split"]
    for method in ("classifier", "rejection", "rejection_thresholds"):
        by_scenario = of(results, method=method).groupby(keys)
        assert (by_scenario.deferral_rate.nunique() == 1).all()
        assert (by_scenario.classifier_accuracy.nunique() == 1).all()
    by_scenario = of(results, method="deferral").groupby(keys)
    assert (by_scenario.best_epoch.count() == 3).all()


def test_the_decision_maker_is_as_the_law_says(results):
    table = data.make_synthetic("biased", seed=0, num_examples=400)
    right = (table.test.expert_labels[:, 0, 1] > 0.5) == table.test.labels
    row = of(results, method="decision_maker", scenario="biased", split="test")
    np.testing.assert_allclose(row.system_accuracy, right.mean(), atol=1e-6, rtol=0)
    defer = law.best_deferral(table.test.inputs, "biased")
    right = np.where(defer, right, (table.test.inputs[:, 1] > 0) == table.test.labels)
    row = of(results, method="best_rule", scenario="biased", split="test")
    np.testing.assert_allclose(row.system_accuracy, right.mean(), atol=1e-6, rtol=0)
    np.testing.assert_allclose(row.deferral_rate, defer.mean(), atol=1e-6, rtol=0)


def test_one_setting_of_each_method_and_scenario_is_chosen(results):
    chosen = results[results.chosen]
    settings = chosen.groupby(["scenario", "method"])[["cost", "alpha"]]
    assert (settings.nunique() <= 1).all(axis=None)
    counts = chosen.groupby(["scenario", "method"]).size()
    assert len(counts) == 3 * (len(NUM_SETTINGS) + 2)
    references = counts.index.get_level_values("method").isin(
        ["decision_maker", "best_rule"]
    )
    assert (counts[references] == 2).all() and (counts[~references] == 4).all()
    assert (chosen.alpha.fillna(0.0) == 0.0).all()


def test_summary_has_the_means_and_medians(whole, results):
    summary = pd.read_csv(whole[0] / "summary.csv")
    row = summary[
        (summary.method == "deferral")
        & (summary.scenario == "biased")
        & (summary.cost == 0.2)
        & (summary.alpha == 0.5)
        & (summary.split == "test")
        & (summary.metric == "di")
    ]
    assert len(row) == 1 and row.n.item() == 2
    values = of(
        results, method="deferral", scenario="biased", cost=0.2, alpha=0.5, split="test"
    ).di.to_numpy()
    low, high = tables.mean_interval(values)
    found = row[["mean", "ci_low", "ci_high", "median"]].to_numpy()[0]
    expected = [values.mean(), low, high, np.median(values)]
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)


def test_a_stopped_run_goes_on_to_the_same_tables(whole, tmp_path, monkeypatch):
    def stop_in_deferral(part):
        def run_sweep(*args, checkpoint_dir, **kwargs):
            if checkpoint_dir.name == part:
                kwargs["should_stop"] = lambda: True
            return whole_sweep(*args, checkpoint_dir=checkpoint_dir, **kwargs)

        return run_sweep

    whole_sweep = sweeps.run_sweep
    monkeypatch.setattr(sweeps, "run_sweep", stop_in_deferral("deferral"))
    with pytest.raises(sweeps.Interrupted):
        run_main(make_config(), tmp_path)
    assert not (tmp_path / "results.csv").exists()
    monkeypatch.setattr(sweeps, "run_sweep", whole_sweep)
    run_main(make_config(), tmp_path)
    for name in TABLES:
        assert (tmp_path / name).read_bytes() == (whole[0] / name).read_bytes()


def test_another_config_is_refused(whole):
    with pytest.raises(ConfigError, match=r"grid\.cost differs"):
        run_main(make_config(grid__cost=(0.0, 0.3)), whole[0])


# Its parts.


def test_measure_system_by_hand():
    # Four people of group 0, four of group 1; the last two of each are label 1.
    labels = np.array([0, 0, 1, 1, 0, 0, 1, 1])
    groups = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    prediction = np.array([0, 1, 1, 1, 0, 0, 0, 1])
    expert = np.array([0, 0, 0, 1, 1, 1, 1, 1])
    unreliable = np.array([0, 1, 0, 1, 0, 1, 0, 1], bool)
    probs = np.stack([1 - expert, expert], axis=1)[:, None].astype(np.float32)
    probs = np.concatenate([probs, probs[:, :, ::-1]], axis=1)  # And the opposite.
    defer = np.zeros((8, 2), bool)
    defer[[1, 6], :] = True
    dataset = Dataset(np.zeros((8, 1)), labels, probs, groups)
    found = jax.jit(tabular.measure_system)(prediction, defer, dataset, unreliable)
    expected = {
        "system_accuracy": (1.0, 0.75),
        "system_error": (0.0, 0.25),
        "di": (0.0, 0.5),
        "fpr": (0.0, 0.25),
        "fpr_0": (0.0, 0.5),
        "fpr_1": (0.0, 0.0),
        "fnr_1": (0.0, 0.5),
        "min_subgroup_accuracy": (1.0, 0.5),
        "deferral_rate": (0.25, 0.25),
        "deferral_rate_group_0": (0.25, 0.25),
        "deferral_rate_reliable": (0.25, 0.25),
        "deferral_rate_unreliable": (0.25, 0.25),
        "classifier_accuracy": (0.75, 0.75),
        "classifier_accuracy_kept": (1.0, 1.0),
        "expert_accuracy": (0.625, 0.375),
        "expert_accuracy_deferred": (1.0, 0.0),
    }
    assert set(found) == set(tabular.METRICS)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, atol=1e-6, rtol=0), name


def test_a_group_or_a_label_that_never_occurs_is_nan_and_no_crash():
    labels, probs = np.zeros(3, int), np.full((3, 1, 2), 0.5, np.float32)
    dataset = Dataset(np.zeros((3, 1)), labels, probs, np.ones(3, int))
    found = jax.jit(tabular.measure_system)(
        labels, np.zeros((3, 1), bool), dataset, np.zeros(3, bool)
    )
    for name in ("di", "fpr_0", "fnr", "fnr_1", "deferral_rate_group_0"):
        assert np.isnan(found[name][0]), name
    assert found["min_subgroup_accuracy"][0] == 1.0
    assert np.isnan(found["deferral_rate_unreliable"][0])


def test_choose_takes_the_best_mean_of_validation_at_alpha_0():
    rows = [
        ("a", "deferral", seed, cost, alpha, split, accuracy)
        for cost, alpha, values in (
            (0.0, 0.0, (0.5, 0.75)),
            (0.1, 0.0, (0.875, 0.375)),
            (0.2, 0.0, (0.625, 0.625)),
            (0.0, 0.5, (1.0, 1.0)),
        )
        for seed, accuracy in enumerate(values)
        for split in ("valid", "test")
    ]
    names = ["scenario", "method", "seed", "cost", "alpha", "split", "system_accuracy"]
    table = pd.DataFrame(rows, columns=names)
    # What would be best on the test part is not looked at.
    table.loc[(table.split == "test") & (table.cost == 0.1), "system_accuracy"] = 1.0
    # 0, .1 and .2 have the mean .625: the first of equals, at alpha 0 alone.
    chosen = table[tabular.choose(table)]
    assert list(chosen.cost) == [0.0] * 4 and list(chosen.alpha) == [0.0] * 4


def test_pareto_front_by_hand():
    accuracy = np.array([0.7, 0.8, 0.75, 0.8, 0.9, 0.95, 0.7])
    disparity = np.array([0.1, 0.2, 0.2, 0.2, 0.4, np.nan, 0.05])
    assert list(fronts.pareto_front(accuracy, disparity)) == [6, 1, 4]


def test_pareto_front_is_what_nothing_dominates():
    generator = np.random.default_rng(0)
    accuracy, disparity = generator.integers(0, 6, (2, 40)) / 10
    front = fronts.pareto_front(accuracy, disparity)
    for point in range(40):
        better = (accuracy >= accuracy[point]) & (disparity <= disparity[point])
        better &= (accuracy > accuracy[point]) | (disparity < disparity[point])
        kept = {(accuracy[i], disparity[i]) for i in front}
        on_front = (accuracy[point], disparity[point]) in kept
        assert on_front == (not better.any())


# Decision-makers.


def test_trained_decision_makers(tmp_path):
    config = make_config(
        decision_maker="trained",
        methods=("classifier", "decision_maker"),
        num_epochs=60,
        epochs_per_dispatch=60,
        num_examples=1500,
        flip_rate=1.0,
    )
    run_main(config, tmp_path)
    results = pd.read_csv(tmp_path / "results.csv")
    assert set(results.decision_maker) == {"trained"}
    assert set(results.method) == {"classifier", "decision_maker"}
    test = of(results, method="decision_maker", split="test").set_index("scenario")
    classifier = of(results, method="classifier", split="test").system_accuracy.mean()
    # What the model does not see makes the label almost certain.
    assert test.system_accuracy["accurate"] > classifier + 0.03
    # All answers about the unreliable half are turned around.
    expected = 1 - test.system_accuracy["accurate"]
    assert test.system_accuracy["inconsistent"] == pytest.approx(0.5, abs=0.1)
    assert test.min_subgroup_accuracy["inconsistent"] < expected + 0.1


def test_flips_are_of_the_unreliable_only():
    config = make_config(decision_maker="trained", flip_rate=0.5)
    cases = decision_makers.load(config)
    assert cases.source == "trained" and cases.pool.expert_labels is None
    size = cases.informed[0].shape[1]
    assert size == 4 + 1 + 2  # Features, the group, and the hidden bit.
    learner = tabular.make_program(config, "informed", 100).learner
    sweep = sweeps.grid((3,), {"alpha": (-0.1, 0.0), "learning_rate": (0.01,)})
    batch = Dataset(cases.informed[0][:2], cases.pool.labels[:2])
    hparams = {name: value[0] for name, value in sweep.hparams.items()}
    init = jax.jit(learner.init)
    states = [init(jax.random.key(i), hparams, batch) for i in range(2)]
    variables = jax.tree.map(
        lambda *leaves: np.stack(leaves), *(state.variables for state in states)
    )
    zeros = np.zeros(2)
    result = sweeps.SweepResult(variables, zeros, zeros, zeros, zeros.astype(bool))
    decided = decision_makers.decide(config, cases, learner, sweep, result)
    accurate, biased, flipped = decided.pool.expert_labels.swapaxes(0, 1)
    # The second run, of alpha 0, is the accurate one.
    probs = learner.predict(states[1].variables, hparams, cases.informed[0]).class_probs
    np.testing.assert_allclose(accurate, probs, atol=1e-6, rtol=0)
    assert not np.allclose(accurate, biased)
    is_flipped = (flipped != accurate).any(axis=1)
    unreliable = cases.unreliable[0]
    assert not is_flipped[~unreliable].any()
    assert 0.35 < is_flipped[unreliable].mean() < 0.65
    np.testing.assert_array_equal(flipped[is_flipped], accurate[is_flipped][:, ::-1])
    with pytest.raises(ConfigError, match="learning_rate: the accurate"):
        broken = result._replace(diverged=np.array([False, True]))
        decision_makers.decide(config, cases, learner, sweep, broken)


@pytest.mark.real_data("compas/predict_responsibly")
def test_compas_comes_with_the_authors_decision_makers(tmp_path):
    config = compas.get_config("smoke")
    data_dir = os.environ["L2D_DATA_DIR"]
    config.update({"data_dir": data_dir, "methods": ("decision_maker",)})
    run_main(config, tmp_path)
    test = of(pd.read_csv(tmp_path / "results.csv"), split="test")
    test = test.set_index("scenario")
    errors = test.system_error[list(SCENARIOS)]
    np.testing.assert_allclose(errors, [0.2418, 0.2439, 0.3158], atol=1e-4, rtol=0)
    disparity = test.di[list(SCENARIOS)]
    np.testing.assert_allclose(disparity, [0.125, 0.254, 0.084], atol=6e-4, rtol=0)


# Bad input.


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"dataset": "adult"}, "dataset must be one of synthetic, compas, health, got"),
        (
            {"decision_maker": "me"},
            "decision_maker must be one of auto, given, trained",
        ),
        (
            {"methods": ("deferral", "magic")},
            "methods must be one of classifier, .*'ma",
        ),
        ({"methods": ()}, "methods must hold at least one value"),
        ({"methods": ("deferral",) * 2}, "methods must not repeat"),
        ({"scenarios": ("kind",)}, "scenarios must be one of accurate, biased, incons"),
        (
            {"grid__alpha": (0.0, -0.1)},
            r"grid\.alpha must be a finite number >?.*-0\.1",
        ),
        ({"grid__alpha": (0.1, 0.2)}, r"grid\.alpha must begin with 0, the baseline"),
        ({"grid__cost": (-0.1, 0.0)}, r"grid\.cost must be a finite number .*-0\.1"),
        ({"grid__cost": (0.2, 0.1)}, r"grid\.cost must increase, without repeats"),
        ({"grid__cost": (float("nan"),)}, r"grid\.cost must be a finite number .*nan"),
        ({"biased_alpha": 0.1}, "biased_alpha must be a finite number"),
        ({"biased_alpha": 0.0}, "biased_alpha must be < 0"),
        ({"flip_rate": 1.5}, "flip_rate must be a finite number"),
        ({"num_seeds": 0}, "num_seeds must be a whole number"),
        ({"batch_size": 5000}, "batch_size 5000 is larger than the 224 training"),
        ({"valid_fraction": 0.0}, "valid_fraction 0.0 leaves 280 examples to train on"),
        ({"bayesian__num_samples": 1}, r"bayesian\.num_samples must be a whole number"),
    ],
)
def test_a_value_that_cannot_be_used_is_named(changes, message, tmp_path):
    with pytest.raises(ConfigError, match=message) as error:
        tabular.main(make_config(**changes), tmp_path)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_health_has_no_decision_makers_of_its_own(tmp_path):
    config = health.get_config("smoke")
    config.decision_maker = "given"
    with pytest.raises(ConfigError, match="decision_maker given: none comes"):
        tabular.main(config, tmp_path)


@pytest.mark.parametrize("module", [compas, health])
def test_missing_data_is_one_line(module, tmp_path):
    config = module.get_config("smoke")
    config.data_dir = str(tmp_path / "nowhere")
    with pytest.raises(data.DataError, match="nowhere") as error:
        tabular.main(config, tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("module", [synthetic, compas, health])
def test_the_paper_scale_has_a_thousand_settings(module):
    for scale in ("smoke", "default", "paper"):
        config = module.get_config(scale)
        tabular.check(config)
        grids = tabular.make_sweeps(config, "trained")
        settings = len(config.grid.cost) * len(config.grid.alpha)
        assert len(grids["rejection"].seeds) == config.num_seeds * settings
    assert settings >= 1000 and config.num_seeds == 5
    with pytest.raises(ValueError, match="scale must be smoke or paper"):
        module.get_config("huge")


def test_the_score_is_that_of_the_runs_own_decision_maker():
    config = make_config()
    joint = tabular.make_program(config, "deferral", 100)
    cases = decision_makers.load(config)
    batch = jax.tree.map(lambda leaf: leaf[:50], cases.pool)
    hparams = {"cost": 0.1, "alpha": 0.5, "learning_rate": 0.01, "scenario": 2}
    state = jax.jit(joint.learner.init)(jax.random.key(0), hparams, batch)
    decision = joint.learner.predict(state.variables, hparams, batch.inputs)
    own = batch._replace(expert_labels=batch.expert_labels[:, 2:])
    score = jax.jit(mixture.loss_score("defer", regularized=True))
    expected = score(decision, own, hparams)
    found = jax.jit(joint.score)(decision, batch, hparams)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)
    other = jax.jit(joint.score)(decision, batch, hparams | {"scenario": 0})
    assert abs(float(other) - float(found)) > 1e-4
