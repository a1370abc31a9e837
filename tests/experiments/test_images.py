"""Images as problems, and their program end to end: results, restarts, bad input."""

import json
import os
import pathlib
import shutil
import signal

import jax
import numpy as np
import pandas as pd
import programs
import pytest

from experiments import cifar, images, measure
from experiments.claims import ledger
from experiments.configs import cifar10 as cifar10_config
from experiments.configs import claims as claims_config
from experiments.configs import digits as digits_config
from experiments.runtime import signals
from experiments.runtime.errors import ConfigError
from l2d_jax import data
from l2d_jax.data import cifar10
from l2d_jax.engine import sweeps
from l2d_jax.types import Dataset

pytestmark = pytest.mark.usefixtures("cheap_compiles")

TABLES = ("results.csv", "summary.csv", "comparison.csv", "curves.csv")
FIGURES = ("system_accuracy.png", "coverage_accuracy.png")
NAN = float("nan")
PANEL = {"problem": "digits_panel", "methods": ("majority",)}
METHODS = ("deferral", "classifier", "expert", "confidence")
HPARAMS = ("num_perfect", "alpha", "learning_rate", "weight_decay")
KEYS = ["experiment", "problem", "method", "seed", *HPARAMS, "split"]
INFO = ["chosen", "best_epoch", "epochs", "diverged"]
METRICS = [
    "best_coverage_accuracy_area",
    "classifier_accuracy",
    "classifier_accuracy_kept",
    "coverage",
    "coverage_accuracy_area",
    "deferral_rate",
    "expert_accuracy",
    "expert_accuracy_deferred",
    "expert_calibration_error",
    "system_accuracy",
    "system_error",
]


def run_main(config, workdir):
    """What the program printed, on standard output and on standard error."""
    handlers = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)}
    try:
        return programs.run(cifar.main, config, workdir)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def make_digits_config(**changes):
    config = digits_config.get_config("smoke")
    config.placement = "vmap"  # Compiles faster than on two devices.
    for name, value in changes.items():
        del config[name]
        config[name] = value
    return config


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A whole run on the digits at ``smoke`` scale: its folder and what it printed."""
    workdir = tmp_path_factory.mktemp("digits")
    return workdir, *run_main(make_digits_config(), workdir)


@pytest.fixture(scope="module")
def results(whole):
    return pd.read_csv(whole[0] / "results.csv")


def check_metrics(table):
    values = table[METRICS].to_numpy()
    assert np.all(np.isnan(values) | ((values >= 0.0) & (values <= 1.0)))


# What a run leaves.


def test_files(whole):
    workdir, out, err = whole
    config = json.loads((workdir / "config.json").read_text())
    assert config["problem"] == "digits"
    assert config["num_perfect"] == [0, 5, 10]
    assert config["grid"]["alpha"] == [1.0, 0.5]
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
    for name in FIGURES:
        content = (workdir / "figures" / name).read_bytes()
        assert content.startswith(b"\x89PNG") and len(content) > 5_000
    assert "system accuracy, %" in out and str(workdir) in out
    # A line for each training and for each method on a part, and no line twice.
    assert err.splitlines() == [
        "deferral: 36/36 epochs",
        "classifier: 6/6 epochs",
        "expert_model: 18/18 epochs",
        # Two alphas of the deferral validate, of which one is tested.
        "deferral, valid: 12/12 runs",
        "deferral, test: 6/6 runs",
        *(
            f"{name}, {split}: 6/6 runs"
            for name in METHODS[1:]
            for split in ("valid", "test")
        ),
    ]


def test_columns_and_rows_of_the_results(results):
    assert list(results.columns) == [*KEYS, *INFO, *METRICS]
    counts = results.groupby(["method", "split"]).size()
    # 2 seeds and 3 experts; on the validation part every value of alpha, too.
    assert counts["deferral", "valid"] == 12
    assert counts["deferral", "test"] == 6
    for method in METHODS[1:]:
        assert counts[method, "valid"] == counts[method, "test"] == 6
    assert len(results) == 18 + 3 * 12
    assert set(results.experiment) == {"cifar"} and set(results.problem) == {"digits"}
    check_metrics(results)
    assert not results.diverged.fillna(False).astype(bool).any()
    trained = results[results.method.isin(["deferral", "classifier"])]
    assert (trained.epochs == 3).all()
    assert trained.best_epoch.between(1, 3).all()


def test_only_what_was_chosen_is_tested(results):
    test = results[results.split == "test"]
    assert test.chosen.all()
    for method in METHODS:
        pairs = test[test.method == method][["seed", "num_perfect"]]
        assert sorted(map(tuple, pairs.to_numpy())) == [
            (seed, k) for seed in (0, 1) for k in (0, 5, 10)
        ]


def test_validation_chooses_the_best(results):
    rows = results[(results.method == "deferral") & (results.split == "valid")]
    for pair, group in rows.groupby(["seed", "num_perfect"]):
        (chosen,) = group[group.chosen].to_dict("records")
        best = group.system_accuracy.max()
        assert chosen["system_accuracy"] == pytest.approx(best, abs=1e-6)
        tested = results[(results.method == "deferral") & (results.split == "test")]
        (row,) = tested[
            (tested.seed == pair[0]) & (tested.num_perfect == pair[1])
        ].to_dict("records")
        for name in ("alpha", "learning_rate", "weight_decay", "best_epoch"):
            assert row[name] == chosen[name]


def test_experts_and_classifiers_alone(results):
    expert = results[results.method == "expert"]
    assert (expert.coverage == 0).all() and (expert.deferral_rate == 1).all()
    assert expert.classifier_accuracy_kept.isna().all()
    assert (expert.system_accuracy == expert.expert_accuracy).all()
    classifier = results[results.method == "classifier"]
    assert (classifier.coverage == 1).all() and (classifier.deferral_rate == 0).all()
    assert classifier.expert_accuracy_deferred.isna().all()
    assert (classifier.system_accuracy == classifier.classifier_accuracy).all()
    # One classifier a seed, whatever the expert.
    assert (classifier.groupby(["seed", "split"]).system_accuracy.nunique() == 1).all()


def test_methods_share_experts(results):
    accuracy = results.groupby(["split", "seed", "num_perfect"]).expert_accuracy
    assert (accuracy.nunique() == 1).all()
    assert (results[results.num_perfect == 10].expert_accuracy == 1).all()
    # A guess among ten classes: binomial, standard deviation 0.016 and more.
    guesses = results[results.num_perfect == 0].expert_accuracy
    assert guesses.between(0.02, 0.2).all()


def test_a_perfect_expert_is_used(results):
    rows = results[(results.method == "deferral") & (results.num_perfect == 10)]
    assert (rows[rows.split == "test"].system_accuracy > 0.97).all()


def test_summary_is_of_the_results(whole, results):
    summary = pd.read_csv(whole[0] / "summary.csv")
    assert len(summary) == 4 * 3 * 2 * len(METRICS)
    row = summary.query(
        "method == 'deferral' and num_perfect == 5 and split == 'test'"
        " and metric == 'system_accuracy'"
    ).iloc[0]
    values = results.query(
        "method == 'deferral' and num_perfect == 5 and split == 'test'"
    ).system_accuracy
    assert row.n == 2
    assert row["mean"] == pytest.approx(values.mean(), abs=1e-6)
    assert (row.cases, row.diverged, row.over) == (359, 0, "seeds and cases")
    # At least that between cases alone: sqrt(0.8 * 0.2 / 359) is 0.021.
    half = row.ci_high - row["mean"]
    assert half == pytest.approx(row["mean"] - row.ci_low) and half > 0.02
    # Everybody is right where k is 10: there is nothing to be unsure of.
    perfect = summary.query(
        "method == 'expert' and num_perfect == 10 and split == 'test'"
        " and metric == 'system_accuracy'"
    ).iloc[0]
    assert (perfect["mean"], perfect.ci_low, perfect.ci_high) == (1.0, 1.0, 1.0)
    kept = summary.query("method == 'expert' and metric == 'classifier_accuracy_kept'")
    assert (kept.n == 0).all() and kept["mean"].isna().all()


def test_comparisons_are_paired_differences(whole, results):
    comparison = pd.read_csv(whole[0] / "comparison.csv")
    assert set(comparison.problem) == {"digits"}
    rows = comparison.query("against == 'reference' and metric == 'system_accuracy'")
    assert set(rows.reference) == {"classifier"} and len(rows) == 3 * 3
    means = (
        results[results.split == "test"]
        .groupby(["num_perfect", "method"])
        .system_accuracy.mean()
    )
    for row in rows.itertuples():
        gain = means[row.num_perfect, row.method] - means[row.num_perfect, "classifier"]
        assert row.mean == pytest.approx(gain, abs=1e-6)
        assert row.ci_low <= row.mean <= row.ci_high
    # Whoever keeps everything differs in nothing from who never asks.
    assert (comparison.p_holm.dropna() >= comparison.p_value.dropna()).all()
    best = comparison[comparison.against == "best single party"]
    parties = best.groupby("num_perfect").reference.unique()
    assert list(parties[10]) == ["expert"] and list(parties[0]) == ["classifier"]


def test_curves_are_of_the_test_set(whole, results):
    curves = pd.read_csv(whole[0] / "curves.csv")
    columns = [*KEYS, "coverage", "system_accuracy", "best_system_accuracy"]
    assert list(curves.columns) == columns
    assert set(curves.split) == {"test"}
    assert len(curves) == 4 * 6 * len(measure.COVERAGES)
    ends = curves[(curves.coverage == 1) & (curves.method == "deferral")]
    rows = results[(results.split == "test") & (results.method == "deferral")]
    np.testing.assert_allclose(
        ends.system_accuracy, rows.classifier_accuracy, rtol=0, atol=1e-6
    )


def test_claims_of_a_finished_run(whole, tmp_path):
    """The ledger at ``smoke`` scale, from the tables of the run above."""
    config = claims_config.get_config("smoke")
    config.results.digits = str(whole[0])
    config.run = ("digits",)
    ledger.main(config, tmp_path)
    found = pd.read_csv(tmp_path / "claims.csv").set_index("id")
    assert found.verdict["R7a-digits"] == "reproduced"
    assert found.n["R7a-digits"] == 2
    assert found.verdict["R7a-cifar10"].startswith("not run: ")


# Other configs.


def test_one_diverging_value_spoils_nothing(results, tmp_path):
    grid = {"alpha": (1.0, 0.5), "learning_rate": (0.1, 1e30), "weight_decay": (5e-4,)}
    run_main(make_digits_config(methods=("deferral",), grid=grid), tmp_path)
    table = pd.read_csv(tmp_path / "results.csv")
    check_metrics(table)
    valid = table[table.split == "valid"]
    assert len(valid) == 24
    assert (valid.diverged == (valid.learning_rate == 1e30)).all()
    assert not table[table.split == "test"].diverged.any()
    sound = table[~table.diverged].reset_index(drop=True)
    expected = results[results.method == "deferral"].reset_index(drop=True)
    exact = [*KEYS, "chosen", "best_epoch", "epochs"]
    pd.testing.assert_frame_equal(
        sound[exact], expected[exact], check_dtype=False, check_exact=True
    )
    np.testing.assert_allclose(
        sound[METRICS].to_numpy(),
        expected[METRICS].to_numpy(),
        # Rounding may turn one answer of 288.
        rtol=0,
        atol=0.005,
    )


def check_one_deferral_run(workdir, problem):
    table = pd.read_csv(workdir / "results.csv")
    assert set(table.problem) == {problem}
    assert sorted(table.method.unique()) == ["deferral", "expert"]
    assert (table.groupby(["method", "split"]).size() == 1).all() and len(table) == 4
    check_metrics(table)
    for name in FIGURES:
        assert (workdir / "figures" / name).exists()


HAS_CIFAR10 = os.path.isdir(f"{os.environ.get('L2D_DATA_DIR')}/{cifar10._PLACE}")


class FewImages:
    """Stands for `l2d_jax.data`: 200 images to learn from and 50 to report on."""

    Splits = data.Splits

    @staticmethod
    def first(splits):
        parts = zip((splits.train, splits.test), (200, 50), strict=True)
        train, test = (
            Dataset(part.inputs[:size], part.labels[:size]) for part, size in parts
        )
        return splits._replace(train=train, test=test)

    @classmethod
    def load_digits(cls):
        return cls.first(data.load_digits())

    @classmethod
    def load_cifar10(cls, data_dir):
        """The real images where they are at hand, else noise in their form."""
        assert data_dir is None
        if HAS_CIFAR10:
            return cls.first(data.load_cifar10())
        generator = np.random.default_rng(0)
        images = generator.integers(0, 256, (200, 32, 32, 3), dtype=np.uint8)
        part = Dataset(images, generator.integers(0, 10, 200).astype(np.int32))
        return cls.first(data.Splits(part, part, num_classes=10, name="cifar10"))


@pytest.mark.slow
def test_cifar10(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "data", FewImages)
    config = cifar10_config.get_config("smoke")
    config.methods = ("deferral", "expert")
    run_main(config, tmp_path)
    check_one_deferral_run(tmp_path, "cifar10")


@pytest.mark.slow
def test_digits_with_a_wide_resnet(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "data", FewImages)
    config = cifar10_config.get_config("smoke")
    config.problem = config.images = "digits"
    config.methods = ("deferral", "expert")
    config.crop_padding = 0
    config.model.stem_stride = 1
    run_main(config, tmp_path)
    check_one_deferral_run(tmp_path, "digits")


@pytest.mark.slow
@pytest.mark.real_data(cifar10._PLACE)
def test_cifar10_whole(tmp_path):
    run_main(cifar10_config.get_config("smoke"), tmp_path)
    table = pd.read_csv(tmp_path / "results.csv")
    check_metrics(table)
    assert sorted(table[table.split == "test"].method) == sorted(METHODS)


@pytest.mark.slow
def test_stopped_and_spoiled_it_ends_with_the_same_tables(whole, tmp_path, monkeypatch):
    workdir = tmp_path / "copy"
    shutil.copytree(whole[0], workdir)
    for name in TABLES:
        (workdir / name).unlink()
    folder = workdir / "checkpoints"
    shutil.rmtree(folder / "expert_model")
    # A signal that comes before a training ends it there.
    with monkeypatch.context() as patch:
        patch.setattr(signals.StopSignal, "__call__", lambda self: True)
        with pytest.raises(sweeps.Interrupted):
            run_main(make_digits_config(), workdir)
    assert not (workdir / "results.csv").exists()
    # The file of a training that was done is cut short; another is laid out for other
    # devices, where its layout has no meaning.
    file = max((folder / "deferral").rglob("d/*"), key=lambda path: path.stat().st_size)
    os.truncate(file, file.stat().st_size - 1)
    path = folder / "classifier" / "chunk_0000"
    manifest = json.loads(path.with_suffix(".json").read_text())
    manifest["info"]["chunk"].append([-1] * len(manifest["info"]["chunk"][0]))
    path.with_suffix(".json").write_text(json.dumps(manifest))
    _, err = run_main(make_digits_config(), workdir)
    said = [line for line in err.splitlines() if "again" in line]
    assert said[0].startswith("deferral: damaged checkpoint, its runs start again: ")
    assert str(file) in said[0]
    assert said[1:] == [
        f"classifier: checkpoint for other devices, its runs start again: {path}"
    ]
    # Now all is there, and nothing is trained again.
    times = {path: path.stat().st_mtime_ns for path in folder.rglob("*.json")}
    for name in TABLES:
        assert (workdir / name).read_bytes() == (whole[0] / name).read_bytes()
        (workdir / name).unlink()
    run_main(make_digits_config(), workdir)
    assert times == {path: path.stat().st_mtime_ns for path in times}
    for name in TABLES:
        assert (workdir / name).read_bytes() == (whole[0] / name).read_bytes()


@pytest.mark.parametrize("value", [float("nan"), True, "0.1"])
def test_values_that_no_flag_can_give(value):
    config = make_digits_config()
    config.grid = {"learning_rate": (value,), "alpha": (1.0,), "weight_decay": (0.0,)}
    with pytest.raises(ConfigError, match=r"^grid\.learning_rate must be a"):
        cifar.main(config, pathlib.Path("never-made"))


CIFAR10 = "--config=experiments/configs/cifar10.py:smoke"


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"problem": "mnist"}, "problem must be one of digits, .*, got 'mnist'"),
        ({"images": "mnist"}, "images must be one of digits, cifar10, .*, got 'mnist'"),
        ({"problem": "synthetic"}, "decision_maker is missing, which synthetic needs"),
        (
            {"references": ("magic",)},
            "references must be one of deferral, .*, got 'magic'",
        ),
        ({"choose": "wisely"}, "choose must be one of per_seed, over_seeds, got 'wis"),
        ({"methods": ()}, "methods must hold at least one value"),
        ({"methods": ("deferral",) * 2}, "methods must not repeat a value"),
        (
            {"model": {"name": "vit"}},
            "model.name must be one of mlp, convnet, wide_.*v",
        ),
        ({"model": {"name": "wide_resnet"}}, "model.depth is missing, which wide_res"),
        ({"expert_model": {"name": "vit"}}, "expert_model.name must be one of mlp, "),
        (
            {"model": {"name": "mlp", "hidden": (0,)}},
            "model.hidden must be a whole number >= 1, got 0",
        ),
        ({"optimizer": "lion"}, "optimizer must be one of sgd, .*adam, got 'lion'"),
        ({"placement": "moon"}, "placement must be one of auto, vmap, .*got 'moon'"),
        (
            {"num_perfect": (0, 11)},
            "num_perfect must be a whole number in .*10, got 11",
        ),
        (
            {"num_perfect": (-1,)},
            "num_perfect must be a whole number in .*10, got -1",
        ),
        ({"num_perfect": (2.5,)}, "num_perfect must be a whole number .*got 2.5"),
        ({"num_perfect": (3, 1)}, "num_perfect must increase, without repeats"),
        ({"num_perfect": (1, 1)}, "num_perfect must increase, without repeats"),
        ({"seed": -1}, r"seed must be a whole number in 0\.\.2147483647, got -1"),
        ({"num_seeds": 0}, "num_seeds must be a whole number >= 1, got 0"),
        ({"num_epochs": 0}, "num_epochs must be a whole number >= 1, got 0"),
        ({"patience": -1}, "patience must be a whole number in 0.*, got -1"),
        ({"momentum": NAN}, r"momentum must be a finite number in \[0, 1\], got nan"),
        (
            {"checkpoint_seconds": -1.0},
            "checkpoint_seconds must be a finite .* >= 0",
        ),
        ({"batch_size": 0}, "batch_size must be a whole number >= 1, got 0"),
        ({"batch_size": 5000}, "batch_size 5000 is larger than the 11.* at most 11"),
        ({"valid_fraction": 0.0}, "valid_fraction 0.0 leaves 14.* 0 to validate on"),
        ({"valid_fraction": 1.0}, "valid_fraction 1.0 leaves 0 examples to train on"),
        (
            {"valid_fraction": 1.5},
            r"valid_fraction must be .* in \[0, 1\]",
        ),
        (
            {**PANEL, "panel": ((0, 1), (2, 10))},
            r"panel must hold classes in 0\.\.9, got \(2, 10\)",
        ),
        (
            {**PANEL, "panel": ((0, 1),)},
            "panel must hold at least 2 values",
        ),
    ],
    ids=lambda part: str(part)[:40],
)
def test_bad_config(tmp_path, changes, message):
    with pytest.raises(ConfigError, match=f"^{message}") as error:
        run_main(make_digits_config(**changes), tmp_path)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"learning_rate": (-0.1,)}, "grid.learning_rate must be .*, got -0.1"),
        ({"learning_rate": (0.1, 0.0)}, "grid.learning_rate must be .* > 0, got 0.0"),
        ({"alpha": ()}, "grid.alpha must hold at least one value"),
        ({"alpha": (-1.0,)}, "grid.alpha must be a finite number >= 0, got -1.0"),
        ({"alfa": (1.0,)}, "grid.alfa: no program knows this field"),
    ],
)
def test_bad_grid(tmp_path, values, message):
    grid = {"learning_rate": (0.1,), "alpha": (1.0,)} | values
    with pytest.raises(ConfigError, match=f"^{message}"):
        run_main(make_digits_config(grid=grid), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changes", "name"),
    [({"num_seeds": 3}, "num_seeds"), ({"momentum": 0.5}, "momentum")],
)
def test_a_work_folder_of_another_config(whole, changes, name):
    before = contents(whole[0])
    with pytest.raises(ConfigError, match=f"{name} differs.* choose another --workdir"):
        run_main(make_digits_config(**changes), whole[0])
    assert contents(whole[0]) == before


# The experts.


def test_a_specialist_and_a_panel_know_their_classes(tmp_path):
    config = make_digits_config(panel=((0, 1, 2), (3,), (0, 9)))
    splits = images.load(config)
    (panel,) = images.panel(config, splits, tmp_path, lambda: False)
    assert panel.traits.num_experts == 3
    key = jax.random.key(0)
    answers = np.asarray(panel.annotate(key, {}, splits.train).expert_labels)
    for number, classes in enumerate(config.panel):
        known = np.isin(splits.train.labels, classes)
        right = answers[:, number] == splits.train.labels
        assert right[known].all()
        # A guess among ten: standard deviation 0.01.
        assert 0.06 < right[~known].mean() < 0.14
    assert not (answers[:, 0] == answers[:, 2]).all()
    (problem,) = images.specialist(config, splits, tmp_path, lambda: False)
    answers = problem.annotate(key, {"num_perfect": 5}, splits.train).expert_labels
    right = np.asarray(answers[:, 0]) == splits.train.labels
    assert right[splits.train.labels < 5].all() and right.mean() < 0.7
