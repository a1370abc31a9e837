"""Tables of people as problems, and their program end to end: results, restarts."""

import os
import types

import jax
import numpy as np
import pandas as pd
import programs
import pytest

from experiments import decision_makers, schema, tabular, trainings
from experiments.configs import compas, health, synthetic
from experiments.runtime.errors import ConfigError
from l2d_jax import data
from l2d_jax.data import synthetic as law
from l2d_jax.engine import sweeps
from l2d_jax.learners import mixture
from l2d_jax.types import Dataset

pytestmark = pytest.mark.usefixtures("cheap_compiles")

TABLES = ("results.csv", "summary.csv", "comparison.csv", "curves.csv", "fronts.csv")
SCENARIOS = ("accurate", "biased", "inconsistent")
# One of every kind; tests/experiments/test_methods.py has each of them.
TRAINED = ("classifier", "rejection", "mixture", "informed")
NUM_SETTINGS = {
    **dict.fromkeys(("classifier", "informed"), 2),
    **dict.fromkeys(("rejection", "mixture", "rejection_thresholds"), 4),
    **dict.fromkeys(("expert", "best_rule"), 1),
}


def make_config(**changes):
    config = synthetic.get_config("smoke")
    config.update({"runs_per_device": 8, "placement": "vmap", "patience": 0})
    config.methods = tuple(NUM_SETTINGS)
    for name, value in changes.items():
        section, _, field = name.rpartition("__")
        target = config[section] if section else config
        target[field] = value
    return config


def run_main(config, workdir):
    return programs.run(tabular.main, config, workdir)


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


@pytest.mark.slow
def test_files(whole):
    workdir, out, err = whole
    names = {path.name for path in workdir.iterdir()}
    assert names == {
        *TABLES,
        "seconds.csv",
        "config.json",
        "origin.json",
        "tables.json",
        "figures",
        "checkpoints",
    }
    sweep_names = {path.name for path in (workdir / "checkpoints/given").iterdir()}
    assert sweep_names == set(TRAINED)
    assert "best_rule" in out and str(workdir) in out
    assert "mixture: " in err


@pytest.mark.slow
def test_columns_and_rows_of_the_results(results):
    assert list(results.columns)[:14] == [
        *("experiment", "problem", "decision_maker", "method", "seed", "scenario"),
        *("cost", "fairness", "learning_rate", "split", "chosen"),
        *("best_epoch", "epochs", "diverged"),
    ]
    for method, count in NUM_SETTINGS.items():
        for scenario in SCENARIOS:
            rows = of(results, method=method, scenario=scenario)
            assert len(rows) == count * 2 * 2, method
            assert not rows.duplicated(["seed", "cost", "fairness", "split"]).any()
    assert len(results) == 3 * 4 * sum(NUM_SETTINGS.values())
    rates = results.loc[:, "best_coverage_accuracy_area":]
    assert {"di", "fpr_1", "subgroup_gap", "deferral_rate_unreliable"} <= set(rates)
    assert ((rates >= 0) & (rates <= 1) | rates.isna()).all(axis=None)
    assert set(results.decision_maker) == {"given"}


@pytest.mark.slow
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


@pytest.mark.slow
def test_who_never_passes_and_who_always_does(results):
    for method in ("classifier", "informed"):
        assert (of(results, method=method).deferral_rate == 0).all()
    alone = of(results, method="expert")
    assert (alone.deferral_rate == 1).all()
    np.testing.assert_array_equal(alone.system_accuracy, alone.expert_accuracy)


@pytest.mark.slow
def test_rejecting_knows_nothing_of_the_decision_maker(results):
    keys = ["seed", "cost", "fairness", "split"]
    for method in ("classifier", "rejection", "rejection_thresholds"):
        by_scenario = of(results, method=method).groupby(keys, dropna=False)
        assert (by_scenario.deferral_rate.nunique() == 1).all()
        assert (by_scenario.classifier_accuracy.nunique() == 1).all()
    by_scenario = of(results, method="mixture").groupby(keys)
    assert (by_scenario.best_epoch.count() == 3).all()


@pytest.mark.slow
def test_the_decision_maker_is_as_the_law_says(results):
    table = data.make_synthetic("biased", seed=0, num_examples=400)
    right = (table.test.expert_probs[:, 0, 1] > 0.5) == table.test.labels
    row = of(results, method="expert", scenario="biased", split="test")
    np.testing.assert_allclose(row.system_accuracy, right.mean(), atol=1e-6, rtol=0)
    defer = law.best_deferral(table.test.inputs, "biased")
    right = np.where(defer, right, (table.test.inputs[:, 1] > 0) == table.test.labels)
    row = of(results, method="best_rule", scenario="biased", split="test")
    np.testing.assert_allclose(row.system_accuracy, right.mean(), atol=1e-6, rtol=0)
    np.testing.assert_allclose(row.deferral_rate, defer.mean(), atol=1e-6, rtol=0)


@pytest.mark.slow
def test_one_setting_of_each_method_and_preference_is_chosen(results):
    chosen = results[results.chosen]
    keys = ["scenario", "method", "fairness"]
    groups = chosen.groupby(keys, dropna=False)
    assert (groups[["cost", "learning_rate"]].nunique() <= 1).all(axis=None)
    # Two seeds on two parts, at each of two weights of fairness where there are any.
    assert (groups.size() == 4).all()
    trained = set(NUM_SETTINGS) - {"expert", "best_rule"}
    assert len(groups.size()) == 3 * (2 * len(trained) + 2)
    # By the mean on the validation part, whatever the test part says.
    valid = of(results, method="mixture", scenario="biased", split="valid")
    means = valid[valid.fairness == 0].groupby("cost").system_accuracy.mean()
    (cost,) = chosen[
        (chosen.method == "mixture")
        & (chosen.scenario == "biased")
        & (chosen.fairness == 0)
    ].cost.unique()
    assert means[cost] == means.max()


@pytest.mark.slow
def test_summary_has_the_means(whole, results):
    summary = pd.read_csv(whole[0] / "summary.csv")
    row = summary[
        (summary.method == "mixture")
        & (summary.scenario == "biased")
        & (summary.cost == 0.2)
        & (summary.fairness == 0.5)
        & (summary.split == "test")
        & (summary.metric == "di")
    ]
    assert len(row) == 1 and row.n.item() == 2
    values = of(
        results,
        method="mixture",
        scenario="biased",
        cost=0.2,
        fairness=0.5,
        split="test",
    ).di.to_numpy()
    assert row["mean"].item() == pytest.approx(values.mean(), abs=1e-6)
    assert row.ci_low.item() <= values.mean() <= row.ci_high.item()
    assert (row.cases.item(), row.diverged.item()) == (120, 0)


@pytest.mark.slow
def test_a_stopped_run_goes_on_to_the_same_tables(whole, tmp_path, monkeypatch):
    def stop_in(part):
        def run_sweep(*args, checkpoint_dir, **kwargs):
            if checkpoint_dir.name == part:
                kwargs["should_stop"] = lambda: True
            return whole_sweep(*args, checkpoint_dir=checkpoint_dir, **kwargs)

        return run_sweep

    whole_sweep = sweeps.run_sweep
    monkeypatch.setattr(sweeps, "run_sweep", stop_in("mixture"))
    with pytest.raises(sweeps.Interrupted):
        run_main(make_config(), tmp_path)
    assert not (tmp_path / "results.csv").exists()
    monkeypatch.setattr(sweeps, "run_sweep", whole_sweep)
    run_main(make_config(), tmp_path)
    for name in TABLES:
        assert (tmp_path / name).read_bytes() == (whole[0] / name).read_bytes()


@pytest.mark.slow
def test_another_config_is_refused(whole):
    with pytest.raises(ConfigError, match=r"grid\.cost differs"):
        run_main(make_config(grid__cost=(0.0, 0.3)), whole[0])


# Decision-makers.


@pytest.mark.slow
def test_trained_decision_makers(tmp_path):
    config = make_config(
        decision_maker="trained",
        methods=("classifier", "expert"),
        num_epochs=60,
        epochs_per_dispatch=60,
        num_examples=1500,
        flip_rate=1.0,
    )
    run_main(config, tmp_path)
    results = pd.read_csv(tmp_path / "results.csv")
    assert set(results.decision_maker) == {"trained"}
    assert set(results.method) == {"classifier", "expert"}
    test = of(results, method="expert", split="test", seed=0).set_index("scenario")
    classifier = of(results, method="classifier", split="test").system_accuracy.mean()
    # What the model does not see makes the label almost certain.
    assert test.system_accuracy["accurate"] > classifier + 0.03
    # All answers about the unreliable half are turned around.
    expected = 1 - test.system_accuracy["accurate"]
    assert test.system_accuracy["inconsistent"] == pytest.approx(0.5, abs=0.1)
    assert test.min_subgroup_accuracy["inconsistent"] < expected + 0.1


def make_problem(config, tmp_path):
    cases = decision_makers.load(config)
    (problem,) = decision_makers.make(config, cases, tmp_path, lambda: False)
    return cases, problem


def test_flips_are_of_the_unreliable_only(tmp_path):
    config = make_config(decision_maker="trained", flip_rate=0.5)
    cases = decision_makers.load(config)
    assert cases.source == "trained" and cases.pool.expert_labels is None
    size = cases.hidden[0].shape[1]
    assert size == 4 + 1 + 2  # Features, the group, and the hidden bit.
    _, problem = make_problem(make_config(), tmp_path)
    program = trainings.make_program(config, problem, "informed", 100)
    sweep = sweeps.grid((3,), {"fairness": (-0.1, 0.0), "learning_rate": (0.01,)})
    batch = Dataset(cases.hidden[0][:2], cases.pool.labels[:2])
    hparams = {name: value[0] for name, value in sweep.hparams.items()}
    init = jax.jit(program.learner.init)
    states = [init(jax.random.key(i), hparams, batch) for i in range(2)]
    variables = jax.tree.map(
        lambda *leaves: np.stack(leaves), *(state.variables for state in states)
    )
    zeros = np.zeros(2)
    result = sweeps.SweepResult(variables, zeros, zeros, zeros, zeros.astype(bool))
    trained = trainings.Trained(program, sweep, np.full(2, -1), result)
    pool, test = decision_makers.decide(config, cases, trained)
    assert pool.shape == (280, 3, 2) and test.shape == (120, 3, 2)
    accurate, biased, flipped = pool.swapaxes(0, 1)
    # The second run, of no weight of fairness, is the accurate one.
    probs = program.learner.predict(states[1].variables, hparams, cases.hidden[0])
    np.testing.assert_allclose(accurate, probs, atol=1e-6, rtol=0)
    assert not np.allclose(accurate, biased)
    is_flipped = (flipped != accurate).any(axis=1)
    unreliable = cases.unreliable[0]
    assert not is_flipped[~unreliable].any()
    assert 0.35 < is_flipped[unreliable].mean() < 0.65
    np.testing.assert_array_equal(flipped[is_flipped], accurate[is_flipped][:, ::-1])
    with pytest.raises(ConfigError, match="learning_rate: the accurate"):
        broken = result._replace(diverged=np.array([False, True]))
        decision_makers.decide(config, cases, trained._replace(result=broken))


@pytest.mark.long
@pytest.mark.real_data("compas/predict_responsibly")
def test_compas_comes_with_the_authors_decision_makers(tmp_path):
    config = compas.get_config("smoke")
    data_dir = os.environ["L2D_DATA_DIR"]
    config.update({"data_dir": data_dir, "methods": ("expert",)})
    run_main(config, tmp_path)
    test = of(pd.read_csv(tmp_path / "results.csv"), split="test", seed=0)
    test = test.set_index("scenario")
    errors = test.system_error[list(SCENARIOS)]
    np.testing.assert_allclose(errors, [0.2418, 0.2439, 0.3158], atol=1e-4, rtol=0)
    disparity = test.di[list(SCENARIOS)]
    np.testing.assert_allclose(disparity, [0.125, 0.254, 0.084], atol=6e-4, rtol=0)


# Bad input.


@pytest.mark.parametrize(
    "changes, message",
    [
        (
            {"problem": "adult"},
            "problem must be one of .*synthetic, compas, .*got",
        ),
        (
            {"decision_maker": "me"},
            "decision_maker must be one of auto, given, trained",
        ),
        (
            {"methods": ("mixture", "mixtur")},
            "methods: there is no 'mixtur'; did you mean mixture or",
        ),
        ({"methods": ()}, "methods must hold at least one value"),
        ({"methods": ("mixture",) * 2}, "methods must not repeat"),
        ({"scenarios": ("kind",)}, "scenarios must be one of accurate, biased, incons"),
        (
            {"grid__fairness": (0.0, -0.1)},
            r"grid\.fairness must be a finite number >?.*-0\.1",
        ),
        ({"grid__fairness": (0.2, 0.1)}, r"grid\.fairness must increase, without"),
        ({"grid__cost": (-0.1, 0.0)}, r"grid\.cost must be a finite number .*-0\.1"),
        ({"grid__cost": (0.2, 0.1)}, r"grid\.cost must increase, without repeats"),
        ({"grid__cost": (float("nan"),)}, r"grid\.cost must be a finite number .*nan"),
        ({"biased_fairness": 0.1}, "biased_fairness must be a finite number"),
        ({"biased_fairness": 0.0}, "biased_fairness must be a finite number"),
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
        schema.check(config)
        stub = types.SimpleNamespace(inputs_by_seed=False)
        sweep, _ = trainings.make_sweep(config, stub, "rejection")
        settings = len(config.grid.cost) * len(config.grid.fairness)
        assert len(sweep.seeds) == config.num_seeds * settings
    assert settings >= 1000 and config.num_seeds == 5
    with pytest.raises(ValueError, match="scale must be smoke or paper"):
        module.get_config("huge")


def test_the_score_is_that_of_the_runs_own_decision_maker(tmp_path):
    config = make_config()
    cases, problem = make_problem(config, tmp_path)
    joint = trainings.make_program(config, problem, "mixture", 100)
    batch = jax.tree.map(lambda leaf: leaf[:50], cases.pool)
    hparams = {"cost": 0.1, "fairness": 0.5, "learning_rate": 0.01, "scenario": 2}
    hparams["smoothing"] = 0.01
    state = jax.jit(joint.learner.init)(jax.random.key(0), hparams, batch)
    decision = joint.learner.predict(state.variables, hparams, batch.inputs)
    own = batch._replace(
        expert_probs=batch.expert_probs[:, 2:], expert_labels=batch.expert_labels[:, 2:]
    )
    score = jax.jit(mixture.loss_score("defer", regularized=True))
    expected = score(decision, own, hparams)
    found = jax.jit(joint.score)(decision, batch, hparams)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)
    other = jax.jit(joint.score)(decision, batch, hparams | {"scenario": 0})
    assert abs(float(other) - float(found)) > 1e-4
