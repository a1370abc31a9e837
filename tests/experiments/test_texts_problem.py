"""Texts as problems, and the grid on a made-up crowd end to end."""

import jax
import numpy as np
import pandas as pd
import programs
import pytest

from experiments import deferral, texts
from experiments.configs import texts as texts_config
from experiments.runtime import signals
from experiments.runtime.errors import ConfigError
from l2d_jax.data import DataError
from l2d_jax.data.annotated import Annotated
from l2d_jax.engine import sweeps

pytestmark = pytest.mark.usefixtures("cheap_compiles")

NUM_ITEMS = 120
TABLES = ("results.csv", "summary.csv", "comparison.csv", "curves.csv")
# tests/learners/test_joint.py has the balanced and the minimax objective.
TRAINED = ("joint", "classifier")
METHODS = (*TRAINED, "joint_committee", "majority", "random_committee", "expert")


def make_annotated(**changes):
    """Two annotators who are right in one category each alone, and two who guess.

    Words tell the category and nothing of the label.
    """
    generator = np.random.default_rng(0)
    categories = np.arange(NUM_ITEMS, dtype=np.int32) % 2
    labels = generator.integers(0, 2, NUM_ITEMS).astype(np.int32)
    answers = generator.integers(0, 2, (NUM_ITEMS, 4)).astype(np.int32)
    for expert in range(2):
        answers[:, expert] = np.where(categories == expert, labels, 1 - labels)
    answers[::7, 2] = -1
    answers[::5, 3] = -1
    words = np.array([["sun", "noon"], ["moon", "dusk"]])
    others = np.array(["good", "bad", "rain"])
    chosen = generator.integers(0, 3, NUM_ITEMS)
    return Annotated(
        texts=tuple(
            f"{words[z, 0]} {words[z, 1]} {others[other]} word{row}"
            for row, (z, other) in enumerate(zip(categories, chosen, strict=True))
        ),
        labels=labels,
        answers=answers,
        categories=categories,
        similarity=np.ones((4, 2), np.float32),
        pools=np.zeros(4, np.int32),
        category_names=("other", "aae"),
        pool_names=("crowd",),
        annotator_names=("a", "b", "c", "d"),
        num_skipped=0,
        num_silent=0,
        num_repeats=0,
    )._replace(**changes)


@pytest.fixture(scope="module", autouse=True)
def made_up_texts():
    with pytest.MonkeyPatch.context() as patch:
        made = make_annotated()
        patch.setitem(texts.LOADERS, "keswani_mturk", lambda data_dir: made)
        yield


def make_config(scale="smoke", **changes):
    config = texts_config.get_config(scale)
    config.update({"placement": "vmap", "runs_per_device": 2, "num_seeds": 2})
    config.update({"num_folds": 4, "num_features": 4, "batch_size": 36})
    config.update({"num_epochs": 100, "epochs_per_dispatch": 100})
    config.minimax_epochs = 100 * config.joint.minimax_rounds
    config.methods = METHODS
    config.grid = {"learning_rate": (1.0,)}
    config.model = {"name": "mlp", "hidden": (8,)}
    config.joint = {"deferrer": {"name": "mlp", "hidden": (8,)}, "minimax_rounds": 3}
    config.committee_size = 3
    for name, value in changes.items():
        config[name] = value
    return config


def make_problem(config, tmp_path, **changes):
    (problem,) = texts.make(config, make_annotated(**changes), tmp_path, lambda: False)
    return problem


def run_main(config, workdir):
    return programs.run(deferral.main, config, workdir)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("texts")
    return workdir, *run_main(make_config(), workdir)


@pytest.fixture(scope="module")
def results(whole):
    return pd.read_csv(whole[0] / "results.csv")


# What a run gives.


@pytest.mark.slow
def test_the_tables(whole, results):
    workdir, out, _ = whole
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
    assert {path.name for path in (workdir / "checkpoints").iterdir()} == set(TRAINED)
    assert list(results.method.unique()) == list(METHODS)
    # Two splits on two parts.
    assert len(results) == 4 * len(METHODS)
    assert not results.duplicated(["method", "seed", "split"]).any()
    assert set(results.problem) == {"keswani_mturk"} and results.chosen.all()
    rates = results.loc[:, "best_coverage_accuracy_area":].drop(
        columns="note", errors="ignore"
    )
    assert {"system_accuracy_aae", "deferral_rate_other", "top_share"} <= set(rates)
    assert ((rates >= 0) & (rates <= 1) | rates.isna()).all(axis=None)
    summary = pd.read_csv(workdir / "summary.csv")
    assert set(summary.over) == {"splits"} and "2 splits" in out
    assert set(summary.query("split == 'test'").cases) == {30}


@pytest.mark.slow
def test_whom_to_trust_is_found(results):
    accuracy = results[results.split == "test"].groupby("method").system_accuracy.mean()
    assert accuracy["joint"] > 0.95
    # Words tell nothing of the label, and two of the crowd contradict each other.
    for method in ("classifier", "majority", "random_committee", "expert"):
        assert accuracy[method] < 0.75


@pytest.mark.slow
def test_workload(results):
    test = results[results.split == "test"].set_index("method")
    assert (test.coverage["classifier"] == 1).all()
    assert (test.top_share["classifier"] == 0).all()
    for method in ("random_committee", "majority", "expert"):
        np.testing.assert_allclose(test.coverage[method], 0.0, rtol=0, atol=1e-6)
    # Half of the items are an expert's own; the weights are the most on them.
    assert test.top_share["joint"].between(0.3, 0.7).all()


@pytest.mark.slow
def test_the_majority_by_numpy(results, tmp_path):
    annotated, problem = make_annotated(), make_problem(make_config(), tmp_path)
    rows = results[(results.method == "majority") & (results.split == "test")]
    for number in range(2):
        test = problem.test_rows(number)
        answers, labels = annotated.answers[test], annotated.labels[test]
        given = answers >= 0
        ones = np.where(given, answers, 0).sum(1) / given.sum(1)
        right = (ones > 0.5) == labels
        by_category = [right[annotated.categories[test] == z].mean() for z in (0, 1)]
        shares = (given / given.sum(1, keepdims=True)).mean(0)
        expected = {
            "system_accuracy": right.mean(),
            "system_accuracy_other": by_category[0],
            "system_accuracy_aae": by_category[1],
            "subgroup_gap": abs(by_category[0] - by_category[1]),
            "top_share": shares.max(),
            "coverage": 0.0,
            "expert_accuracy": (answers == labels[:, None])[given].mean(),
        }
        row = rows[rows.seed == number].iloc[0]
        for name, value in expected.items():
            np.testing.assert_allclose(row[name], value, rtol=1e-5, atol=1e-6), name


@pytest.mark.slow
def test_stopped_it_goes_on_to_the_same_tables(whole, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(signals.StopSignal, "__call__", lambda self: True)
        with pytest.raises(sweeps.Interrupted):
            run_main(make_config(), tmp_path)
    assert not (tmp_path / "results.csv").exists()
    run_main(make_config(), tmp_path)
    for name in TABLES:
        assert (tmp_path / name).read_bytes() == (whole[0] / name).read_bytes()


# Its parts.


def test_test_rows_are_in_no_other_part(tmp_path):
    config = make_config(num_seeds=8)
    unknown = np.arange(0, NUM_ITEMS, 10)
    labels = make_annotated().labels.copy()
    labels[unknown] = -1
    problem = make_problem(config, tmp_path, labels=labels)
    known = set(range(NUM_ITEMS)) - set(unknown.tolist())
    for repeat in range(2):
        tested = []
        for seed in range(4 * repeat, 4 * repeat + 4):
            fold, test = problem.split(seed), problem.test_rows(seed)
            parts = [set(rows.tolist()) for rows in (fold.train, fold.valid, test)]
            # Apart from each other, and together all whose label is known.
            assert sum(map(len, parts)) == len(set.union(*parts)) == len(known)
            assert set.union(*parts) == known and all(parts)
            tested += test.tolist()
        # The folds of a repeat test every text once.
        assert sorted(tested) == sorted(known)
    assert set(problem.test_rows(0)) != set(problem.test_rows(4))


def test_features_are_of_the_training_texts_of_a_split(tmp_path):
    config = make_config()
    problem = make_problem(config, tmp_path)
    assert problem.inputs_by_seed and problem.pool.inputs.shape == (NUM_ITEMS, 2, 4)
    first, second = np.moveaxis(problem.pool.inputs, 1, 0)
    assert not np.allclose(first, second)
    # Other words in a text that tests change that text's features and no others.
    row = problem.test_rows(0)[0]
    changed = list(make_annotated().texts)
    changed[row] = "moon rain unheard"
    other = make_problem(config, tmp_path, texts=tuple(changed)).pool.inputs[:, 0]
    np.testing.assert_array_equal(np.delete(other, row, 0), np.delete(first, row, 0))


def test_one_of_those_who_answered_is_drawn(tmp_path):
    config = make_config("one", answers="one")
    problem = make_problem(config, tmp_path)
    assert problem.traits.num_experts == 1
    drawn = np.asarray(
        problem.annotate(jax.random.key(0), {}, problem.pool).expert_labels
    )
    other = np.asarray(
        problem.annotate(jax.random.key(1), {}, problem.pool).expert_labels
    )
    assert drawn.shape == (NUM_ITEMS, 1) and (drawn >= 0).all()
    assert (drawn != other).any()
    answers = make_annotated().answers
    assert ((answers == drawn) & (answers >= 0)).any(axis=1).all()
    # Where one alone has answered it is that one.
    alone = np.full((3, 4), -1, np.int32)
    alone[[0, 1, 2], [3, 0, 2]] = [1, 0, 1]
    dataset = problem.pool._replace(expert_labels=alone)
    found = problem.annotate(jax.random.key(0), {}, dataset).expert_labels
    np.testing.assert_array_equal(found[:, 0], [1, 0, 1])


def test_labels_of_people_where_none_come_from_outside():
    nowhere = make_annotated(labels=np.full(NUM_ITEMS, -1, np.int32))
    labels, known = texts.labels_of(nowhere)
    assert len(known) > 0 and set(labels[known]) <= {0, 1}
    labels, known = texts.labels_of(make_annotated())
    np.testing.assert_array_equal(labels, make_annotated().labels)
    assert len(known) == NUM_ITEMS


# What is refused.


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 73}, "batch_size 73 is larger than the 72 training examples"),
        ({"num_folds": 61}, "num_folds 61 is too many for the 120 labelled texts of"),
        ({"num_folds": 1}, "num_folds must be a whole number >= 2, got 1"),
        ({"valid_fraction": 0.0}, "valid_fraction 0.0 leaves 90 examples to train on"),
        ({"texts": "moon"}, "texts must be one of keswani_mturk, annwithattitudes, "),
        ({"texts": "hs_brexit"}, "problem keswani_mturk is not of texts hs_brexit and"),
        (
            {"answers": "one"},
            "problem keswani_mturk is not .* are keswani_mturk_one",
        ),
        ({"methods": ("deferral",)}, "methods: deferral is not applicable .* one exp"),
        ({"committee_size": 0}, "committee_size must be a whole number >= 1, got 0"),
        ({"features": "glove"}, "features must be one of tfidf, hashing, embedding"),
        ({"joint": {"minimax_rounds": 3}}, "joint.deferrer is missing; add it to the"),
    ],
)
def test_bad_config(changes, message, tmp_path):
    config = make_config()
    for name, value in changes.items():
        del config[name]
        config[name] = value
    with pytest.raises(ConfigError, match=f"^{message}") as error:
        run_main(config, tmp_path)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_more_features_than_there_are_words_for(tmp_path):
    with pytest.raises(ConfigError, match=r"^num_features is 500, more than 90 texts"):
        make_problem(make_config(num_features=500), tmp_path)


def test_a_missing_file_is_named(tmp_path, monkeypatch):
    monkeypatch.delenv("L2D_DATA_DIR", raising=False)
    config = make_config(texts="hs_brexit", problem="hs_brexit", methods=("majority",))
    config.data_dir = str(tmp_path)
    with pytest.raises(DataError, match=str(tmp_path)) as error:
        run_main(config, tmp_path / "never-made")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "never-made").exists()
