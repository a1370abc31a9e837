"""The experiment programs end to end: results, restarts, and bad input."""

import contextlib
import importlib.util
import io
import json
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
import pytest

from experiments import cifar, evaluation, images
from experiments.configs import cifar10 as cifar10_config
from experiments.configs import digits as digits_config
from experiments.figures import images as cifar_figures
from experiments.runtime import progress, signals
from experiments.runtime.errors import ConfigError
from l2d_jax import data
from l2d_jax.data import cifar10
from l2d_jax.engine import sweeps
from l2d_jax.types import Dataset

pytestmark = pytest.mark.usefixtures("cheap_compiles")

ROOT = pathlib.Path(__file__).parents[2]
DIGITS = "--config=experiments/configs/digits.py:smoke"
TABLES = ("results.csv", "summary.csv", "curves.csv")
FIGURES = ("system_accuracy.png", "coverage_accuracy.png")
METHODS = ("deferral", "classifier", "confidence", "expert")
KEYS = ["experiment", "dataset", "method", "seed", *cifar.HPARAMS, "split"]
INFO = ["chosen", "best_epoch", "epochs", "diverged"]


def run_main(config, workdir):
    """What the program printed, on standard output and on standard error."""
    handlers = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)}
    out, err = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            cifar.main(config, workdir)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return out.getvalue(), err.getvalue()


def make_digits_config(**changes):
    config = digits_config.get_config("smoke")
    for name, value in changes.items():
        config[name] = value
    return config


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A whole run on the digits at ``smoke`` scale: its folder and what it printed."""
    workdir = tmp_path_factory.mktemp("digits")
    return workdir, *run_main(digits_config.get_config("smoke"), workdir)


@pytest.fixture(scope="module")
def results(digits):
    return pd.read_csv(digits[0] / "results.csv")


def check_metrics(table):
    values = table[list(evaluation.METRICS)].to_numpy()
    assert np.all(np.isnan(values) | ((values >= 0.0) & (values <= 1.0)))


# What a run leaves.


def test_files(digits):
    workdir, out, err = digits
    config = json.loads((workdir / "config.json").read_text())
    assert config["dataset"] == "digits"
    assert config["num_perfect"] == [0, 5, 10]
    assert config["grid"]["alpha"] == [1.0, 0.5]
    names = {path.name for path in workdir.iterdir()}
    assert names == {*TABLES, "config.json", "figures", "checkpoints"}
    for name in FIGURES:
        content = (workdir / "figures" / name).read_bytes()
        assert content.startswith(b"\x89PNG") and len(content) > 5_000
    assert "system_accuracy" in out and str(workdir) in out
    # A line for each training, and no line twice.
    assert err.splitlines() == [
        "deferral: 36/36 epochs",
        "classifier: 6/6 epochs",
        "expert_model: 18/18 epochs",
    ]


def test_columns_and_rows_of_the_results(results):
    assert list(results.columns) == [*KEYS, *INFO, *evaluation.METRICS]
    counts = results.groupby(["method", "split"]).size()
    # 2 seeds and 3 experts; on the validation part every value of alpha, too.
    assert counts["deferral", "valid"] == 12
    assert counts["deferral", "test"] == 6
    for method in METHODS[1:]:
        assert counts[method, "valid"] == counts[method, "test"] == 6
    assert len(results) == 18 + 3 * 12
    assert set(results.experiment) == {"cifar"} and set(results.dataset) == {"digits"}
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


def test_summary_is_of_the_results(digits, results):
    summary = pd.read_csv(digits[0] / "summary.csv")
    assert len(summary) == 4 * 3 * 2 * len(evaluation.METRICS)
    row = summary.query(
        "method == 'deferral' and num_perfect == 5 and split == 'test'"
        " and metric == 'system_accuracy'"
    ).iloc[0]
    values = results.query(
        "method == 'deferral' and num_perfect == 5 and split == 'test'"
    ).system_accuracy
    assert row.n == 2
    assert row["mean"] == pytest.approx(values.mean(), abs=1e-6)
    # t(0.975, 1) = 12.7062.
    half = 12.7062 * np.abs(np.diff(values))[0] / 2
    assert row.ci_high - row["mean"] == pytest.approx(half, abs=1e-5)
    kept = summary.query("method == 'expert' and metric == 'classifier_accuracy_kept'")
    assert (kept.n == 0).all() and kept["mean"].isna().all()


def test_curves_are_of_the_test_set(digits, results):
    curves = pd.read_csv(digits[0] / "curves.csv")
    columns = [*KEYS, "coverage", "system_accuracy", "best_system_accuracy"]
    assert list(curves.columns) == columns
    assert set(curves.split) == {"test"}
    assert len(curves) == 4 * 6 * len(evaluation.COVERAGES)
    ends = curves[(curves.coverage == 1) & (curves.method == "deferral")]
    rows = results[(results.split == "test") & (results.method == "deferral")]
    np.testing.assert_allclose(
        ends.system_accuracy, rows.classifier_accuracy, rtol=0, atol=1e-6
    )


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
        sound[list(evaluation.METRICS)].to_numpy(),
        expected[list(evaluation.METRICS)].to_numpy(),
        # Rounding may turn one answer of 288.
        rtol=0,
        atol=0.005,
    )


def check_one_deferral_run(workdir, dataset):
    table = pd.read_csv(workdir / "results.csv")
    assert set(table.dataset) == {dataset}
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


def test_cifar10(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "data", FewImages)
    config = cifar10_config.get_config("smoke")
    config.methods = ("deferral", "expert")
    run_main(config, tmp_path)
    check_one_deferral_run(tmp_path, "cifar10")


def test_digits_with_a_wide_resnet(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "data", FewImages)
    config = cifar10_config.get_config("smoke")
    config.dataset = "digits"
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


# Figures.


def make_curves(**columns):
    coverage = [0.0, 0.5, 1.0]
    base = {"dataset": "digits", "method": "deferral", "seed": 0, "num_perfect": 5.0}
    accuracies = {"system_accuracy": [0.5, 0.8, 0.7]}
    accuracies["best_system_accuracy"] = [0.5, 0.9, 0.7]
    return pd.DataFrame({**base, "coverage": coverage, **accuracies, **columns})


def make_summary(**columns):
    base = {"dataset": "digits", "method": "deferral", "num_perfect": [0.0, 5.0]}
    base |= {"split": "test", "metric": "system_accuracy", "n": 2}
    numbers = {"mean": [0.8, 0.9], "ci_low": [0.7, 0.8], "ci_high": [0.9, 1.0]}
    return pd.DataFrame({**base, **numbers, **columns})


NAN = float("nan")


@pytest.mark.parametrize(
    ("summary", "curves"),
    [
        (make_summary(), make_curves()),
        (make_summary(mean=NAN, ci_low=NAN, ci_high=NAN, n=0), make_curves()),
        (make_summary(ci_low=NAN, ci_high=NAN, n=1), make_curves()),
        # No seed has a value at some coverage, at either end, or at any.
        (make_summary(), make_curves(system_accuracy=[NAN, 0.8, NAN])),
        (make_summary(), make_curves(system_accuracy=NAN, best_system_accuracy=NAN)),
        (
            make_summary(),
            pd.concat([make_curves(), make_curves(seed=1, system_accuracy=NAN)]),
        ),
        (make_summary(method="expert"), make_curves(method="expert")),
        (make_summary(method="classifier"), make_curves(method="classifier")),
    ],
)
def test_figures_of_undefined_values_without_a_warning(tmp_path, summary, curves):
    summary.to_csv(tmp_path / "summary.csv", index=False)
    curves.to_csv(tmp_path / "curves.csv", index=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cifar_figures.draw(tmp_path)
    assert {path.name for path in (tmp_path / "figures").iterdir()} == set(FIGURES)


# Stopped and started again.


def child_environment():
    return os.environ | {
        "JAX_COMPILATION_CACHE_DIR": str(jax.config.jax_compilation_cache_dir),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
    }


_SERVER = """
import json, os, runpy, sys, traceback
import sklearn.datasets
from experiments import checks, evaluation, tables
from experiments.figures import images
from experiments.runtime import cli
print(flush=True)
for line in sys.stdin:
    module, argv, err = json.loads(line)
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_RDWR), 0)
        os.dup2(os.open(os.devnull, os.O_RDWR), 1)
        os.dup2(os.open(err, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
        sys.argv, status = [module, *argv], 0
        try:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        except SystemExit as end:
            status = end.code or 0
        except BaseException:
            traceback.print_exc()
            status = 1
        sys.stderr.flush()
        os._exit(status)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Server:
    """A process that has imported everything and forks for every command line."""

    def __init__(self, process):
        self._process = process
        self._read()

    def _read(self):
        return self._process.stdout.readline().strip()

    def start(self, module, args, err):
        """The process that runs the program; its standard error goes to a file."""
        self._process.stdin.write(json.dumps([module, args, str(err)]) + "\n")
        self._process.stdin.flush()
        return int(self._read())

    def wait(self):
        """Its exit status."""
        return int(self._read())


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    # A user's own cache could stand in for data that are not there.
    cache = str(tmp_path_factory.mktemp("cache"))
    with subprocess.Popen(
        [sys.executable, "-c", _SERVER],
        cwd=ROOT,
        env=child_environment() | {"XDG_CACHE_HOME": cache},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield Server(process)
        process.stdin.close()


class Command:
    """The same command, in the same work folder, as often as need be."""

    def __init__(self, workdir, *args):
        self.workdir = workdir
        self.args = [DIGITS, f"--workdir={workdir}", "--config.checkpoint_seconds=0"]
        self.args += args

    def run(self, number=None, when=None):
        """Exit status and standard error; ``number`` is sent once ``when()``."""
        with subprocess.Popen(
            [sys.executable, "-m", "experiments.cifar", *self.args],
            cwd=ROOT,
            env=child_environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            if number is not None:
                while not when() and process.poll() is None:
                    time.sleep(0.002)
                process.send_signal(number)
            _, err = process.communicate(timeout=300)
        return process.returncode, err

    def run_forked(self, server, err, number=None, when=None):
        """The same, of a process that need not import everything first."""
        pid = server.start("experiments.cifar", self.args, err)
        with contextlib.suppress(ProcessLookupError):
            while number is not None:
                os.kill(pid, 0)
                if when():
                    os.kill(pid, number)
                    break
                time.sleep(0.002)
        return server.wait(), err.read_text()

    def checkpoints(self):
        """Finished checkpoints of all trainings."""
        folder = self.workdir / "checkpoints"
        return {str(p.relative_to(folder)) for p in folder.glob("*/*.json")}

    def has_begun(self, training):
        return any((self.workdir / "checkpoints" / training).glob("*.json"))


def test_stopped_killed_and_damaged_it_ends_with_the_same_tables(
    digits, server, tmp_path
):
    command = Command(tmp_path / "work")

    status, err = command.run(signal.SIGTERM, lambda: command.has_begun("deferral"))
    assert status == signals.REQUEUE_STATUS
    *progress, last = err.splitlines()
    assert last == "Stopped; the same command goes on from here."
    assert all(line.endswith("epochs") for line in progress)
    assert not (command.workdir / "results.csv").exists()

    status, _ = command.run_forked(
        server,
        tmp_path / "killed.txt",
        signal.SIGKILL,
        lambda: command.has_begun("classifier"),
    )
    assert status == -signal.SIGKILL
    assert not (command.workdir / "results.csv").exists()

    # A training that was done.
    damaged = command.workdir / "checkpoints" / "deferral" / "chunk_0000"
    file = max(damaged.rglob("d/*"), key=lambda path: path.stat().st_size)
    os.truncate(file, file.stat().st_size - 1)

    status, err = command.run_forked(server, tmp_path / "ended.txt")
    assert status == 0, err
    (said,) = [line for line in err.splitlines() if "damaged" in line]
    assert said.startswith("deferral: damaged checkpoint, its runs start again: ")
    assert str(file) in said
    for name in TABLES:
        expected = (digits[0] / name).read_bytes()
        assert (command.workdir / name).read_bytes() == expected


@pytest.mark.slow
def test_killed_at_many_moments_it_ends_with_the_same_tables(tmp_path):
    """After each of the checkpoints of a run, and at times between them."""
    whole = Command(tmp_path / "whole", "--config.num_epochs=9")
    assert whole.run()[0] == 0
    for delay in (0.0, 0.05, 0.2):
        again = Command(tmp_path / str(delay), "--config.num_epochs=9")
        seen, kills = set(), 0
        while True:

            def is_time(again=again, seen=seen, delay=delay):
                if again.checkpoints() <= seen:
                    return False
                time.sleep(delay)
                return True

            status, err = again.run(signal.SIGKILL, is_time)
            if status == 0:
                break
            assert status == -signal.SIGKILL, err
            seen |= again.checkpoints()
            kills += 1
        assert kills >= 3
        for name in TABLES:
            expected = (whole.workdir / name).read_bytes()
            assert (again.workdir / name).read_bytes() == expected


def test_a_finished_run_is_not_trained_again(digits, tmp_path):
    workdir = tmp_path / "copy"
    shutil.copytree(digits[0], workdir)
    for name in TABLES:
        (workdir / name).unlink()
    _, err = run_main(digits_config.get_config("smoke"), workdir)
    assert [line.split()[1] for line in err.splitlines()] == ["36/36", "6/6", "18/18"]
    for name in TABLES:
        assert (workdir / name).read_bytes() == (digits[0] / name).read_bytes()


def test_checkpoints_for_other_devices_are_said_and_done_again(digits, tmp_path):
    """A chunk is laid out on the devices; on others its layout has no meaning."""
    workdir = tmp_path / "copy"
    shutil.copytree(digits[0], workdir)
    path = workdir / "checkpoints" / "classifier" / "chunk_0000"
    manifest = json.loads(path.with_suffix(".json").read_text())
    manifest["info"]["chunk"].append([-1] * len(manifest["info"]["chunk"][0]))
    path.with_suffix(".json").write_text(json.dumps(manifest))
    _, err = run_main(digits_config.get_config("smoke"), workdir)
    (said,) = [line for line in err.splitlines() if "again" in line]
    assert said == (
        f"classifier: checkpoint for other devices, its runs start again: {path}"
    )
    for name in TABLES:
        assert (workdir / name).read_bytes() == (digits[0] / name).read_bytes()


# Bad input.


@pytest.fixture
def run_program(server, tmp_path):
    def run(*args, module="experiments.cifar"):
        err = tmp_path / "stderr.txt"
        server.start(module, args, err)
        return server.wait(), err.read_text()

    return run


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def workdir(tmp_path):
    """A work folder with earlier results."""
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "results.csv").write_text("earlier\n")
    (folder / "claims.csv").write_text("earlier\n")
    return folder


def check_refusal(outcome, *fragments):
    """One line on standard error that holds all of the fragments, and status 2."""
    status, err = outcome
    assert err.count("\n") == 1 and err.startswith("error: "), err
    for fragment in fragments:
        assert fragment in err, err
    assert "Traceback" not in err
    assert status == 2


@pytest.mark.parametrize(
    ("args", "fragments"),
    [
        ([DIGITS], ["--workdir is missing; give --workdir=DIR"]),
        ([DIGITS, "--workdir="], ["--workdir is missing; give --workdir=DIR"]),
        (["--workdir=W"], ["--config is missing; give --config=FILE.py"]),
        (
            ["--config=experiments/configs/digits.py:huge", "--workdir=W"],
            ["digits.py:huge", "scale must be smoke or paper or left out, got 'huge'"],
        ),
        (
            ["--config=nowhere.py", "--workdir=W"],
            ["No such file", "'nowhere.py'", "give the path of a config file"],
        ),
        (
            ["--config=experiments/configs", "--workdir=W"],
            ["Is a directory", "experiments/configs", "give the path of a config file"],
        ),
        (["--config=pyproject.toml", "--workdir=W"], ["pyproject.toml"]),
        (["--config=experiments/tables.py", "--workdir=W"], ["get_config"]),
        ([DIGITS, "--workdir=W", "--wrkdir=W"], ["'wrkdir'", "Did you mean: workdir"]),
        ([DIGITS, "--workdir=W", "stray"], ["unknown argument 'stray'"]),
    ],
)
def test_bad_flags(run_program, args, fragments):
    check_refusal(run_program(*args), *fragments)
    assert not (ROOT / "W").exists()


@pytest.mark.parametrize(
    ("setting", "fragments"),
    [
        ("nonsense=1", ["config has no field 'nonsense'", "file lists the fields"]),
        ("num_sedes=1", ["no field 'num_sedes'", 'Did you mean "num_seeds"']),
        ("model.depth=10", ["config has no field 'depth'"]),
        ("seed.x=1", ["config has no field", "seed.x"]),
        ("num_seeds=abc", ["--config.num_seeds=abc", "invalid literal"]),
        ("num_seeds=1.5", ["--config.num_seeds=1.5", "invalid literal"]),
        ("num_seeds", ["Missing value for flag --config.num_seeds"]),
        ("grid=3", ["--config.grid=3"]),
        ("dataset=mnist", ["dataset must be one of digits, cifar10, got 'mnist'"]),
        ("expert=guru", ["expert must be one of specialist, got 'guru'"]),
        ("methods=magic", ["methods must be one of deferral, ", "got 'magic'"]),
        ("methods=()", ["methods must hold at least one value"]),
        ("model.name=vit", ["model.name must be one of mlp, wide_resnet, got 'vit'"]),
        ("model.name=wide_resnet", ["model.depth is missing, which wide_resnet needs"]),
        ("expert_model.name=vit", ["expert_model.name must be one of mlp, "]),
        ("model.hidden=(0,)", ["model.hidden must be a whole number >= 1, got 0"]),
        ("optimizer=lion", ["optimizer must be one of sgd, adam, got 'lion'"]),
        ("placement=moon", ["placement must be one of auto, vmap, ", "got 'moon'"]),
        ("num_perfect=(0,11)", ["num_perfect must be a whole number in 0..10, got 11"]),
        ("num_perfect=(-1,)", ["num_perfect must be a whole number in 0..10, got -1"]),
        ("num_perfect=(2.5,)", ["num_perfect must be a whole number", "got 2.5"]),
        ("num_perfect=(3,1)", ["num_perfect must increase, without repeats"]),
        ("num_perfect=(1,1)", ["num_perfect must increase, without repeats"]),
        ("grid.learning_rate=(-0.1,)", ["grid.learning_rate must be", "got -0.1"]),
        ("grid.learning_rate=(0.1,0.0)", ["grid.learning_rate must be > 0"]),
        ("grid.learning_rate=(nan,)", ["grid.learning_rate must be a finite number"]),
        ("grid.learning_rate=(1e999,)", ["grid.learning_rate must be", "got inf"]),
        ("grid.alpha=()", ["grid.alpha must hold at least one value"]),
        ("grid.alpha=(-1.0,)", ["grid.alpha must be a finite number >= 0, got -1.0"]),
        ("grid.alpha=(1,2", ["--config.grid.alpha=(1,2"]),
        ("seed=-1", ["seed must be a whole number in 0..2147483647, got -1"]),
        ("num_seeds=0", ["num_seeds must be a whole number >= 1, got 0"]),
        ("num_epochs=0", ["num_epochs must be a whole number >= 1, got 0"]),
        ("patience=-1", ["patience must be a whole number >= 0, got -1"]),
        ("momentum=nan", ["momentum must be a finite number in [0, 1], got nan"]),
        ("checkpoint_seconds=-1", ["checkpoint_seconds must be a finite number >= 0"]),
        ("batch_size=0", ["batch_size must be a whole number >= 1, got 0"]),
        ("batch_size=5000", ["batch_size 5000 is larger than the 11", "at most 11"]),
        ("valid_fraction=0", ["valid_fraction 0.0 leaves 14", " 0 to validate on"]),
        ("valid_fraction=1", ["valid_fraction 1.0 leaves 0 examples to train on"]),
        ("valid_fraction=1.5", ["valid_fraction must be a finite number in [0, 1]"]),
    ],
)
def test_bad_config(run_program, workdir, setting, fragments):
    before = contents(workdir)
    outcome = run_program(DIGITS, f"--workdir={workdir}", f"--config.{setting}")
    check_refusal(outcome, *fragments)
    assert contents(workdir) == before


@pytest.mark.parametrize("value", [float("nan"), True, "0.1"])
def test_values_that_no_flag_can_give(value):
    config = make_digits_config()
    config.grid = {"learning_rate": (value,), "alpha": (1.0,), "weight_decay": (0.0,)}
    with pytest.raises(ConfigError, match=r"^grid\.learning_rate must be a"):
        cifar.main(config, pathlib.Path("never-made"))


CIFAR10 = "--config=experiments/configs/cifar10.py:smoke"


def test_a_data_folder_that_is_not_there(run_program, workdir, tmp_path):
    before = contents(workdir)
    outcome = run_program(
        CIFAR10, f"--workdir={workdir}", f"--config.data_dir={tmp_path / 'no'}"
    )
    check_refusal(outcome, f"data_dir names {tmp_path / 'no'}", "--config.data_dir")
    assert contents(workdir) == before


@pytest.mark.skipif(
    importlib.util.find_spec("tensorflow") is not None,
    reason="TensorFlow would download and prepare the data",
)
def test_a_data_folder_without_the_data(run_program, workdir, tmp_path):
    before = contents(workdir)
    outcome = run_program(
        CIFAR10, f"--workdir={workdir}", f"--config.data_dir={tmp_path}"
    )
    place = tmp_path / "tensorflow_datasets"
    check_refusal(outcome, f"CIFAR-10 is not prepared in {place}", "--config.data_dir")
    assert contents(workdir) == before


def test_a_damaged_data_folder(run_program, workdir, tmp_path):
    before = contents(workdir)
    place = tmp_path / cifar10._PLACE
    place.mkdir(parents=True)
    (place / "dataset_info.json").write_text("{")
    outcome = run_program(
        CIFAR10, f"--workdir={workdir}", f"--config.data_dir={tmp_path}"
    )
    check_refusal(outcome, str(place), "is missing or damaged", "prepare CIFAR-10")
    assert contents(workdir) == before


@pytest.mark.parametrize(
    ("setting", "name"),
    [("num_seeds=3", "num_seeds"), ("grid.alpha=(0.5,)", "grid.alpha")],
)
def test_a_work_folder_of_another_config(run_program, digits, tmp_path, setting, name):
    workdir = tmp_path / "copy"
    shutil.copytree(digits[0], workdir)
    before = contents(workdir)
    outcome = run_program(DIGITS, f"--workdir={workdir}", f"--config.{setting}")
    check_refusal(outcome, str(workdir), f"{name} differs", "choose another --workdir")
    assert contents(workdir) == before


@pytest.mark.parametrize(
    ("text", "fragment"),
    [("{", "config.json: not JSON"), ("", "not JSON"), ("[]", "all of it differs")],
)
def test_a_damaged_config_json(run_program, workdir, text, fragment):
    (workdir / "config.json").write_text(text)
    before = contents(workdir)
    outcome = run_program(DIGITS, f"--workdir={workdir}")
    check_refusal(outcome, str(workdir), fragment, "choose another --workdir")
    assert contents(workdir) == before


def test_a_work_folder_that_cannot_be_made(run_program, workdir):
    under_a_file = workdir / "results.csv" / "below"
    outcome = run_program(DIGITS, f"--workdir={under_a_file}")
    check_refusal(outcome, f"workdir {under_a_file}", "choose a folder you can write")
    assert contents(workdir)["results.csv"] == b"earlier\n"


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="there is no /proc")
def test_a_work_folder_where_nobody_may_write(run_program):
    outcome = run_program(DIGITS, "--workdir=/proc/nope")
    check_refusal(outcome, "workdir /proc/nope", "choose a folder you can write to")


@pytest.mark.parametrize(
    ("setting", "fragments"),
    [
        ("run=mnist", ["run must be among bias, ", ", got 'mnist'"]),
        ("results.digits=/nowhere", ["results.digits: there is no /nowhere/results"]),
        ("results.mnist=/nowhere", ["config has no field 'mnist'"]),
        ("tolerance=-1", ["tolerance must be a number in [0, 1], got -1"]),
    ],
)
@pytest.mark.parametrize("config", [[], ["--config=experiments/configs/claims.py"]])
def test_bad_config_of_the_claims(run_program, workdir, config, setting, fragments):
    before = contents(workdir)
    outcome = run_program(
        *config,
        f"--workdir={workdir}",
        f"--config.{setting}",
        module="experiments.claims",
    )
    check_refusal(outcome, *fragments)
    assert contents(workdir) == before


def test_claims_of_a_finished_run(run_program, digits, workdir):
    """The ledger at ``smoke`` scale, from the tables of the run above."""
    status, err = run_program(
        "--config=experiments/configs/claims.py:smoke",
        f"--workdir={workdir}",
        f"--config.results.digits={digits[0]}",
        "--config.run=('digits',)",
        module="experiments.claims",
    )
    assert (status, err) == (0, "")
    ledger = pd.read_csv(workdir / "claims.csv").set_index("id")
    assert ledger.verdict["R7a-digits"] == "reproduced"
    assert ledger.n["R7a-digits"] == 2
    assert ledger.verdict["R7a-cifar10"].startswith("not run: ")


# What the programs share.


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_progress_on_a_terminal_is_a_bar():
    with contextlib.redirect_stderr(Terminal()) as err:
        bar = progress.ProgressBar("deferral")
        for done in (5, 10, 10):
            bar(sweeps.Progress(done, 10))
    assert "deferral: 100%" in err.getvalue() and "10/10" in err.getvalue()


def test_progress_elsewhere_is_lines_with_an_eta():
    with contextlib.redirect_stderr(io.StringIO()) as err:
        bar = progress.ProgressBar("deferral", seconds_between_lines=0.0)
        bar(sweeps.Progress(2, 10, "careful"))
        for done in (5, 10, 10):
            bar(sweeps.Progress(done, 10))
    first, second, third, fourth = err.getvalue().splitlines()
    assert (first, second) == ("deferral: careful", "deferral: 2/10 epochs")
    assert third.startswith("deferral: 5/10 epochs, ") and third.endswith(" s left")
    assert fourth == "deferral: 10/10 epochs"
