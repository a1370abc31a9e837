"""The program of closed-loop allocation end to end: results, restarts, bad input."""

import os
import pathlib
import shutil
import signal
import warnings

import numpy as np
import pandas as pd
import programs
import pytest

from experiments import allocation
from experiments.configs import bias as bias_config
from experiments.configs import clusters as clusters_config
from experiments.configs import toxicity as toxicity_config
from experiments.figures import streams as stream_figures
from experiments.runtime import progress
from experiments.runtime.errors import ConfigError
from experiments.streams import bias, texts
from experiments.streams import tables as stream_tables
from experiments.streams.methods import METHODS
from l2d_jax.data import Annotated, DataError
from l2d_jax.engine import memory, sweeps
from l2d_jax.simulate import biased_groups

pytestmark = pytest.mark.usefixtures("cheap_compiles")

TASKS = ("bias", "clusters", "texts")
TRUTHS = ("objective", "subjective")
TABLES = ("results.csv", "summary.csv", "curves.csv", "workload.csv")
FIGURES = {
    "bias": {"gap_at_start.png", "gap_stream.png"},
    "clusters": {"accuracy_by_strength.png", "stream.png", "workload.png"},
    "texts": {"accuracy.png", "gap.png", "stream.png", "workload.png"},
}
# Every kind of method once; all of these are programs to compile.
CLUSTERS = {
    "well_conditioned": ("dawid_skene_offline",),
    "crowd_of_30": ("smooth", "no_prior", "prior", "strict"),
}
TEXTS_METHODS = ("dawid_skene", "competence")
NUM_TEXTS = 60


def make_annotated(labels=True):
    """Two pools of two annotators, each right about the pool's category alone."""
    generator = np.random.default_rng(0)
    categories = np.arange(NUM_TEXTS, dtype=np.int32) % 2
    truth = generator.integers(0, 2, NUM_TEXTS).astype(np.int32)
    pools = np.array([0, 0, 1, 1], np.int32)
    right = categories[:, None] == pools
    answers = np.where(right, truth[:, None], 1 - truth[:, None]).astype(np.int32)
    answers[::5, 3] = -1
    words = np.array(["good", "bad", "day", "night", "rain", "sun"])
    chosen = generator.integers(0, len(words), (NUM_TEXTS, 4))
    return Annotated(
        texts=tuple(" ".join(words[row]) for row in chosen),
        labels=truth if labels else np.full(NUM_TEXTS, -1, np.int32),
        answers=answers,
        categories=categories,
        similarity=(pools[:, None] == np.arange(2)).astype(np.float32),
        pools=pools,
        category_names=("day", "night"),
        pool_names=("early", "late"),
        annotator_names=("a", "b", "c", "d"),
        num_skipped=0,
        num_silent=0,
        num_repeats=0,
    )


@pytest.fixture(scope="module", autouse=True)
def made_up_texts():
    with pytest.MonkeyPatch.context() as patch:
        for name, labels in (("keswani_mturk", True), ("hs_brexit", False)):
            made = make_annotated(labels)
            patch.setitem(texts.LOADERS, name, lambda data_dir, made=made: made)
        yield


def change(config, **changes):
    """Set fields; ``a__b`` is ``b`` of section ``a``."""
    for name, value in changes.items():
        *sections, field = name.split("__")
        target = config
        for section in sections:
            target = target[section]
        target[field] = value
    return config


def make_config(kind, **changes):
    if kind == "bias":
        config = bias_config.get_config("smoke")
        few = {"committee_sizes": (1,), "num_test_tasks": 100, "num_tasks": 20}
    elif kind == "clusters":
        config = clusters_config.get_config("smoke")
        few = {
            "run": tuple(CLUSTERS),
            "scenarios__crowd_of_30__strengths": (0.45, 0.7),
            "scenarios__crowd_of_30__num_annotators": 5,
            "scenarios__crowd_of_30__misplaced": (0.0, 0.4),
            "scenarios__crowd_of_30__pretraining__num_tasks": 20,
        }
        for scenario, methods in CLUSTERS.items():
            few[f"scenarios__{scenario}__methods"] = methods
            few[f"scenarios__{scenario}__model__rbf_per_axis"] = 3
            few[f"scenarios__{scenario}__tasks_per_cluster"] = 20
    else:
        config = toxicity_config.get_config("smoke")
        few = {
            "run": ("keswani_mturk",),
            "datasets__keswani_mturk__num_features": 2,
            "datasets__keswani_mturk__num_folds": 2,
            "datasets__keswani_mturk__num_gold": 10,
            "datasets__keswani_mturk__methods": TEXTS_METHODS,
            "datasets__keswani_mturk__truths": TRUTHS,
        }
    # Small chunks, so that there is something to go on from.
    chunks = {"runs_per_device": 1 if kind == "texts" else 2}
    return change(config, **(few | chunks | changes))


def run_main(config, workdir):
    return programs.run(allocation.main, config, workdir)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Whole runs, made when they are asked for: folder and what it printed."""
    made = {}

    def get(task):
        if task not in made:
            workdir = tmp_path_factory.mktemp(task)
            made[task] = (workdir, *run_main(make_config(task), workdir))
        return made[task]

    return get


def read(whole, task, name="results"):
    return pd.read_csv(whole(task)[0] / f"{name}.csv")


# What a run leaves.


@pytest.mark.parametrize("task", TASKS)
def test_files(whole, task):
    workdir, out, err = whole(task)
    names = {path.name for path in workdir.iterdir()}
    tables = set(TABLES) - ({"workload.csv"} if task == "bias" else set())
    assert names == tables | {
        "config.json",
        "origin.json",
        "tables.json",
        "figures",
        "checkpoints",
    }
    drawn = {path.name: path.read_bytes() for path in (workdir / "figures").iterdir()}
    assert set(drawn) == FIGURES[task]
    for content in drawn.values():
        assert content.startswith(b"\x89PNG") and len(content) > 5_000
    assert str(workdir) in out and "mean ± 95 % interval over" in out
    assert "nan" not in out.lower()
    assert "runs" in err.splitlines()[-1]


def test_rows_of_bias(whole):
    results = read(whole, "bias")
    # Two methods, two alphas, two gammas, three seeds, start and end.
    assert len(results) == 2 * 2 * 2 * 3 * 2
    assert set(results.method) == set(bias.METHODS)
    assert set(results.window) == {0, 2}
    np.testing.assert_allclose(
        results.gap, results.accuracy_1 - results.accuracy_0, rtol=0, atol=1e-6
    )
    exact = biased_groups.gap(results.alpha.to_numpy(), results.gamma.to_numpy())
    np.testing.assert_allclose(results.exact_gap, exact, rtol=0, atol=1e-9)
    start = results[results.window == 0]
    table = start.pivot(index=["alpha", "gamma", "seed"], columns="method")["gap"]
    # Nobody has learned yet.
    np.testing.assert_array_equal(table.everyone, table.consulted)
    # Four standard errors of three means of 100 tasks, each of variance below 1/2.
    deviation = (start.gap - start.exact_gap).groupby([start.alpha, start.gamma]).mean()
    assert deviation.abs().max() < 4 * np.sqrt(2 * 0.25 / 50 / 3)
    curves = read(whole, "bias", "curves")
    assert set(curves.window) == {0, 1, 2} and set(curves.n) == {3}


def test_rows_of_clusters(whole):
    results = read(whole, "clusters")
    assert set(results.split) == {"test"} and set(results.seed) == {0, 1}
    for dataset, methods in CLUSTERS.items():
        rows = results[results.dataset == dataset]
        assert set(rows.method) == set(methods)
        for method, part in rows.groupby("method"):
            reads = METHODS[method].prior
            # Two strengths, two shares, two seeds; without a prior two seeds.
            assert len(part) == (8 if reads else 2), method
            assert (part.strength.notna() == reads).all()
            if reads:
                assert sorted(part.misplaced.unique()) == [0.0, 0.4]
                assert sorted(part.strength.unique()) == [0.45, 0.7]
    shares = ["accuracy", "first_accuracy", "roc_auc", "regret", "top_workload"]
    assert results[shares].stack().between(0, 1).all()
    # A prior that misplaces nobody is always right about whom to ask.
    prior = results[(results.method == "prior") & (results.misplaced == 0)]
    assert (prior.first_accuracy == 1).all() and len(prior) == 4
    of_pools = results[[f"pool_share_cluster_{k}" for k in range(3)]].sum(axis=1)
    np.testing.assert_allclose(of_pools, 1.0, rtol=0, atol=1e-5)


def test_workload_is_shared(whole):
    for task, keys in (("clusters", ["strength", "misplaced"]), ("texts", ["truth"])):
        workload = read(whole, task, "workload")
        groups = workload.groupby(["dataset", "method", *keys], dropna=False)
        np.testing.assert_allclose(groups.share.sum(), 1.0, rtol=0, atol=1e-5)


def test_rows_of_texts(whole):
    results = read(whole, "texts")
    counts = results.groupby(["dataset", "truth", "method"]).size()
    expected = {
        ("keswani_mturk", truth, method) for truth in TRUTHS for method in TEXTS_METHODS
    }
    assert set(counts.index) == expected and set(counts) == {2}
    assert (
        results[["accuracy", "first_accuracy", "roc_auc", "gap"]]
        .stack()
        .between(0, 1)
        .all()
    )
    assert not results.duplicated(["dataset", "truth", "method", "seed"]).any()


@pytest.mark.parametrize("task", TASKS)
def test_the_summary_is_of_the_results(whole, task):
    results, summary = read(whole, task), read(whole, task, "summary")
    metrics = bias.METRICS if task == "bias" else stream_tables.METRICS
    keys = list(allocation.SETTINGS[task])
    assert set(summary.metric) == set(metrics)
    metric = "gap" if task == "bias" else "accuracy"
    part = summary[summary.metric == metric].set_index(keys)["mean"]
    expected = results.groupby(keys, dropna=False)[metric].mean()
    assert len(part) == len(expected) > 0
    np.testing.assert_allclose(
        part.sort_index(), expected.sort_index(), rtol=1e-6, atol=1e-6
    )


@pytest.mark.parametrize(
    ("task", "module"),
    [("bias", bias_config), ("clusters", clusters_config), ("texts", toxicity_config)],
)
def test_configs_of_all_scales_are_sound(task, module):
    for scale in ("smoke", "default", "paper"):
        config = module.get_config(scale)
        assert config.task == task
        allocation.check(config)
    with pytest.raises(ValueError, match="scale must be smoke or paper or left out"):
        module.get_config("huge")


# The text.


def test_text_of_bias_by_hand():
    keys = {"dataset": "biased_groups", "split": "test", "n": 4, "metric": "gap"}
    rows = []
    for method, mean, end in (("everyone", 0.1, 0.04), ("consulted", 0.1, 0.08)):
        for window, value in ((0, mean), (5, end)):
            row = {"method": method, "committee_size": 1, "alpha": 0.6, "gamma": 0.5}
            row |= {"window": window, "mean": value}
            rows.append(keys | row | {"ci_low": value - 0.01, "ci_high": value + 0.01})
    title, header, _, line = allocation.describe("bias", pd.DataFrame(rows)).split("\n")
    assert title.endswith("points, mean ± 95 % interval over 4 seeds")
    order = [header.index(name) for name in ("exact", "start", "everyone", "consulted")]
    assert order == sorted(order)
    # The exact gap at alpha .6 and gamma .5 is .0893.
    cells = line.split()
    assert cells[:3] == ["0.6", "0.5", "8.9"]
    assert cells[3:] == ["10.0", "±", "1.0", "4.0", "±", "1.0", "8.0", "±", "1.0"]


def make_summary(rows, **common):
    columns = [*common, "metric", "mean"]
    table = pd.DataFrame([(*common.values(), *row) for row in rows], columns=columns)
    return table


def test_text_of_clusters_by_hand():
    rows = [
        ("ours", 0.7, 0.0, "first_accuracy", 0.9),
        ("ours", 0.7, 0.5, "first_accuracy", 0.8),
        ("none", np.nan, np.nan, "first_accuracy", 0.2),
        ("none", np.nan, np.nan, "accuracy", 0.3),
    ]
    columns = ["method", "strength", "misplaced", "metric", "mean"]
    table = pd.DataFrame(rows, columns=columns).assign(dataset="here", split="test")
    table = table.assign(n=5, ci_low=table["mean"] - 0.02, ci_high=table["mean"] + 0.02)
    first, second, third = allocation.describe("clusters", table).split("\n\n")
    assert first.startswith("here, 0 % misplaced: first_accuracy, %")
    assert first.splitlines()[-1].split() == ["0.7", "90.0", "±", "2.0"]
    assert second.startswith("here, 50 % misplaced: ")
    assert second.splitlines()[-1].split() == ["0.7", "80.0", "±", "2.0"]
    assert third.startswith("here, methods that read no prior: ")
    assert third.splitlines()[-1].split() == ["here", "20.0", "±", "2.0"]


def test_text_of_texts_by_hand():
    rows = [
        ("ours", "accuracy", 25, 0.9),
        ("ours", "first_accuracy", 25, 0.8),
        ("ours", "roc_auc", 25, 0.95),
        ("theirs", "accuracy", 25, 0.85),
        ("theirs", "first_accuracy", 0, np.nan),
        ("theirs", "roc_auc", 25, 0.86),
    ]
    table = pd.DataFrame(rows, columns=["method", "metric", "n", "mean"])
    table = table.assign(dataset="here", truth="objective", split="test")
    table = table.assign(ci_low=table["mean"] - 0.02, ci_high=table["mean"] + 0.02)
    title, header, ours, theirs = allocation.describe("texts", table).split("\n")
    assert title == "here, objective truth: %, mean ± 95 % interval over 25 splits"
    assert header.split() == ["accuracy", "first_accuracy", "roc_auc"]
    half = ["±", "2.0"]
    assert ours.split() == ["ours", "90.0", *half, "80.0", *half, "95.0", *half]
    assert theirs.split() == ["theirs", "85.0", *half, "86.0", *half]


# Stopped and started again.


def copy_tables(workdir):
    return {p.name: p.read_bytes() for p in workdir.iterdir() if p.suffix == ".csv"}


@pytest.mark.parametrize(
    "task", ("bias", pytest.param("clusters", marks=pytest.mark.slow), "texts")
)
def test_stopped_it_goes_on_and_ends_with_the_same_tables(
    whole, task, tmp_path, monkeypatch
):
    class Stopping(progress.ProgressBar):
        def __call__(self, progress):
            super().__call__(progress)
            os.kill(os.getpid(), signal.SIGTERM)

    whole(task)
    monkeypatch.setattr(stream_figures, "draw", lambda workdir, task: None)
    handlers = [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)]
    with monkeypatch.context() as patch:
        patch.setattr(progress, "ProgressBar", Stopping)
        with pytest.raises(sweeps.Interrupted):
            run_main(make_config(task), tmp_path)
    assert not (tmp_path / "results.csv").exists()
    done = list((tmp_path / "checkpoints").rglob("*.json"))
    total = list((whole(task)[0] / "checkpoints").rglob("*.json"))
    assert 1 <= len(done) < len(total)
    assert handlers == [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)]
    run_main(make_config(task), tmp_path)
    assert copy_tables(tmp_path) == copy_tables(whole(task)[0])


def test_a_finished_run_is_not_computed_again(whole, tmp_path):
    workdir = tmp_path / "copy"
    shutil.copytree(whole("bias")[0], workdir)
    (workdir / "results.csv").unlink()
    parts = {
        path: path.stat().st_mtime_ns
        for path in (workdir / "checkpoints").rglob("*.json")
    }
    run_main(make_config("bias"), workdir)
    assert parts == {path: path.stat().st_mtime_ns for path in parts}
    assert copy_tables(workdir) == copy_tables(whole("bias")[0])


# Bad input.

HERE = "scenarios__well_conditioned__"
TEXTS = "datasets__hs_brexit__"
MTURK = "datasets__keswani_mturk__"


@pytest.mark.parametrize(
    ("task", "changes", "message"),
    [
        (
            "bias",
            {"task": "magic"},
            "task must be one of clusters, bias, texts, got 'magic'",
        ),
        ("bias", {"placement": "moon"}, "placement must be one of auto, vmap, "),
        ("bias", {"seed": -1}, "seed must be a whole number in 0..2147483647, got -1"),
        ("bias", {"num_seeds": 0}, "num_seeds must be a whole number >= 1, got 0"),
        ("bias", {"alphas": ()}, "alphas must hold at least one value"),
        ("bias", {"alphas": (0.57,)}, "alphas: 0.57 of 20 annotators is 11.4, not a"),
        ("bias", {"alphas": (1.0,)}, r"alphas must be a finite number in \[0.01, 0.99"),
        ("bias", {"gammas": (1.5,)}, r"gammas must be a finite number in \[0, 1\]"),
        ("bias", {"committee_sizes": (2,)}, "committee_sizes: .* 2 is even"),
        ("bias", {"num_tasks": 1}, "num_tasks must be a whole number >= 2, got 1"),
        ("bias", {"rate": -0.1}, r"rate must be a finite number in \[0, 1\], got -0.1"),
        ("clusters", {"run": ("nowhere",)}, "run must be one of .*, got 'nowhere'"),
        (
            "clusters",
            {f"{HERE}methods": ("magic",)},
            "scenarios.well_conditioned.methods must be one of smooth, .*'magic'",
        ),
        (
            "clusters",
            {f"{HERE}methods": ("smooth", "smooth")},
            "scenarios.well_conditioned.methods must not repeat",
        ),
        (
            "clusters",
            {f"{HERE}committee_size": 2},
            "scenarios.well_conditioned.committee_size: .* 2 is even",
        ),
        (
            "clusters",
            {f"{HERE}committee_size": 5, f"{HERE}replace": False},
            "scenarios.well_conditioned.committee_size: .*5.*3",
        ),
        (
            "clusters",
            {f"{HERE}strengths": (1.2,)},
            r"scenarios.well_conditioned.strengths must be .* in \[0, 1\], got 1.2",
        ),
        (
            "clusters",
            {f"{HERE}misplaced": (-0.1,)},
            "scenarios.well_conditioned.misplaced must be a finite number",
        ),
        (
            "clusters",
            {f"{HERE}model__body": "tree"},
            "scenarios.well_conditioned.model.body must be one of linear, rbf, mlp",
        ),
        (
            "clusters",
            {f"{HERE}competence__least": 0.9},
            "scenarios.well_conditioned.competence.least must be .*, got 0.9",
        ),
        (
            "texts",
            {f"{TEXTS}committee_size": 4},
            "datasets.hs_brexit.committee_size: .* 4 is even",
        ),
        (
            "texts",
            {f"{TEXTS}committee_size": 5, f"{TEXTS}replace": False},
            "datasets.hs_brexit.committee_size 5 is more than the 4 annotators",
        ),
        (
            "texts",
            {f"{TEXTS}methods": ("magic",)},
            "datasets.hs_brexit.methods must be one of smooth, ",
        ),
        (
            "texts",
            {f"{TEXTS}truths": ("objective",)},
            "datasets.hs_brexit.truths: hs_brexit has no labels from outside; leave",
        ),
        (
            "texts",
            {f"{TEXTS}truths": ("divine",)},
            "datasets.hs_brexit.truths must be one of objective, subjective, got",
        ),
        (
            "texts",
            {f"{MTURK}num_gold": 0},
            "datasets.keswani_mturk.num_gold must be > 0 if, and only if, the prior is"
            " qualification, got 0 with qualification",
        ),
        (
            "texts",
            {f"{TEXTS}num_gold": 5},
            "datasets.hs_brexit.num_gold must be > 0 if, .*, got 5 with similarity",
        ),
        (
            "texts",
            {f"{TEXTS}prior": "qualification", f"{TEXTS}num_gold": 5},
            "datasets.hs_brexit.prior: hs_brexit has no labels from outside to qualify",
        ),
        (
            "texts",
            {f"{TEXTS}features": "glove"},
            "datasets.hs_brexit.features must be one of tfidf, hashing, embedding",
        ),
    ],
)
def test_bad_config(task, changes, message):
    if task == "texts":
        changes = {"run": ("keswani_mturk", "hs_brexit")} | changes
    with pytest.raises(ConfigError, match=f"^{message}") as raised:
        allocation.main(make_config(task, **changes), pathlib.Path("never-made"))
    assert "\n" not in str(raised.value)
    assert not pathlib.Path("never-made").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {f"{TEXTS}num_features": 500},
            "datasets.hs_brexit.num_features is 500, more than 48 texts with",
        ),
        (
            {f"{MTURK}num_gold": 30},
            "datasets.keswani_mturk: 60 tasks are too few for num_folds=2 and num_gold",
        ),
    ],
)
def test_what_the_data_do_not_allow(changes, message, tmp_path):
    """Said before any data set is trained on, though another comes first."""
    config = make_config("texts", run=("keswani_mturk", "hs_brexit"), **changes)
    with pytest.raises(ConfigError, match=f"^{message}") as raised:
        allocation.main(config, tmp_path)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "checkpoints").exists()


def test_what_no_machine_holds_is_refused_before_anything_is_run(tmp_path):
    """The second scenario's second kind of method, of a batch too large."""
    few = {f"scenarios__{name}__methods": ("uniform",) for name in CLUSTERS}
    few["scenarios__crowd_of_30__methods"] = ("dawid_skene", "strict")
    few["scenarios__crowd_of_30__pretraining__batch_size"] = 10**9
    with pytest.raises(memory.TooLargeError, match="temporaries"):
        allocation.main(make_config("clusters", **few), tmp_path)
    assert not (tmp_path / "checkpoints").exists()


def test_a_missing_file_is_named(tmp_path, monkeypatch):
    monkeypatch.delenv("L2D_DATA_DIR", raising=False)
    config = make_config("texts", run=("annwithattitudes",), data_dir=str(tmp_path))
    with pytest.raises(DataError, match=str(tmp_path)) as raised:
        allocation.main(config, tmp_path / "never-made")
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "never-made").exists()


def test_a_work_folder_of_another_config(whole):
    workdir = whole("bias")[0]
    before = copy_tables(workdir)
    with pytest.raises(ConfigError, match="rate differs"):
        run_main(make_config("bias", rate=0.5), workdir)
    assert copy_tables(workdir) == before


# Figures.


@pytest.mark.parametrize("task", TASKS)
def test_figures_of_one_seed_without_a_warning(whole, task, tmp_path):
    """Intervals are then not defined."""
    for name in TABLES:
        if task == "bias" and name == "workload.csv":
            continue
        table = pd.read_csv(whole(task)[0] / name)
        if "ci_low" in table:
            table = table.assign(ci_low=np.nan, ci_high=np.nan, n=1)
        table.to_csv(tmp_path / name, index=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        stream_figures.draw(tmp_path, task)
    assert {path.name for path in (tmp_path / "figures").iterdir()} == FIGURES[task]


def test_what_the_tables_lack_is_not_drawn(whole, tmp_path):
    for name, query in (
        ("summary.csv", "strength.isna()"),
        ("curves.csv", "strength.isna()"),
        ("workload.csv", "dataset == 'well_conditioned'"),
    ):
        table = pd.read_csv(whole("clusters")[0] / name).query(query)
        table.to_csv(tmp_path / name, index=False)
    stream_figures.draw(tmp_path, "clusters")
    drawn = {path.name for path in (tmp_path / "figures").iterdir()}
    # There are levels of methods without a prior, but no stream at a strength.
    assert drawn == {"accuracy_by_strength.png"}
