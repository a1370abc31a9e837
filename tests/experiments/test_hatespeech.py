"""Davidson's tweets as problems, on tweets that are made up."""

import sys

import jax
import numpy as np
import pandas as pd
import programs
import pytest

from experiments import deferral, hatespeech, schema
from experiments.configs import hatespeech as hatespeech_config
from experiments.runtime.errors import ConfigError
from l2d_jax import data
from l2d_jax.data import DataError, davidson, embeddings
from l2d_jax.data.davidson import Davidson
from l2d_jax.engine import training

pytestmark = pytest.mark.usefixtures("cheap_compiles")

NUM_TWEETS = 300
METHODS = ("one_vs_all", "expert")


def make_tweets():
    """The word tells the class on even rows alone; people are of one mind on odd ones.

    On even rows a third of those who judged a tweet said hate, and all where it is.
    """
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 3, NUM_TWEETS).astype(np.int32)
    even = np.arange(NUM_TWEETS) % 2 == 0
    counts = 3 * np.eye(3, dtype=np.int32)[labels]
    counts[even] = 2 * np.eye(3, dtype=np.int32)[labels[even]] + [1, 0, 0]
    words = np.array(["spam", "eggs", "ham"])[labels]
    others = generator.integers(0, 3, NUM_TWEETS)
    texts = [
        f"even {word} {word}" if told else f"odd other{other}"
        for told, word, other in zip(even, words, others, strict=True)
    ]
    return Davidson(tuple(texts), labels, counts, 0)


@pytest.fixture(scope="module", autouse=True)
def made_up_tweets():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "load_davidson", lambda data_dir: make_tweets())
        yield


def make_config(scale="smoke", **changes):
    config = hatespeech_config.get_config(scale)
    config.update({"placement": "vmap", "runs_per_device": 2, "batch_size": 30})
    config.update({"num_epochs": 60, "expert_model_epochs": 60, "num_features": 5})
    config.update({"features": "tfidf", "epochs_per_dispatch": 60})
    config.methods, config.references = METHODS, ("expert",)
    config.grid = {"learning_rate": (0.1,)}
    for name, value in changes.items():
        config[name] = value
    return config


def make_problem(make=hatespeech.make, scale="smoke", **changes):
    config = make_config(scale, **changes)
    (problem,) = make(config, hatespeech.load(config), None, lambda: False)
    return problem


# What a run gives.


@pytest.mark.slow
def test_who_is_right_where_is_found(tmp_path):
    out, _ = programs.run(deferral.main, make_config(), tmp_path)
    assert "hatespeech: system accuracy, % on 60 test cases" in out
    results = pd.read_csv(tmp_path / "results.csv")
    test = results[results.split == "test"].groupby("method").mean(numeric_only=True)
    # People err on some of what is even, the classifier on most of what is odd.
    assert test.system_accuracy["expert"] < 0.95
    assert test.classifier_accuracy["one_vs_all"] < 0.80
    assert test.system_accuracy["one_vs_all"] > 0.97
    assert 0.3 < test.coverage["one_vs_all"] < 0.7
    # The expert of a seed is the one whom the problem draws by the run's key.
    problem, right = make_problem(), []
    for seed in range(2):
        key = training.run_key(jax.random.key(0), seed)
        drawn = training.annotate_test(problem.annotate, key, {}, problem.test)
        tested = problem.test_rows(seed)
        right.append(
            np.mean(drawn.expert_labels[tested, 0] == problem.test.labels[tested])
        )
    np.testing.assert_allclose(
        test.system_accuracy["expert"], np.mean(right), rtol=1e-6, atol=0
    )
    assert {"system_accuracy_hate", "deferral_rate_neither"} <= set(results)
    summary = pd.read_csv(tmp_path / "summary.csv")
    assert set(summary.over) == {"splits"}
    # Nadeau and Bengio: 1 / 2 + 60 / 240 of the variance of two values.
    of = results.query("split == 'test' and method == 'expert'").system_accuracy
    half = 12.7062 * np.sqrt(0.75) * of.std()
    row = summary.query(
        "split == 'test' and method == 'expert' and metric == 'system_accuracy'"
    ).iloc[0]
    np.testing.assert_allclose(row.ci_high - row["mean"], half, rtol=1e-4, atol=0)


# Its parts.


def test_seeds_divide_the_tweets():
    problem = make_problem(num_seeds=3)
    tests = []
    for seed in range(3):
        fold, test = problem.split(seed), problem.test_rows(seed)
        assert (len(fold.train), len(fold.valid), len(test)) == (210, 30, 60)
        together = np.concatenate([fold.train, fold.valid, test])
        np.testing.assert_array_equal(np.sort(together), np.arange(NUM_TWEETS))
        tests.append(frozenset(test.tolist()))
    assert len(set(tests)) == 3
    again = make_problem(num_seeds=3).test_rows(1)
    np.testing.assert_array_equal(again, problem.test_rows(1))
    assert not np.array_equal(make_problem(seed=1).test_rows(1), again)


def test_answers_are_counts_spread_out():
    found = hatespeech.answers_of(np.array([[0, 2, 1], [4, 0, 0], [1, 1, 1]]))
    expected = [[1, 1, 2, -1], [0, 0, 0, 0], [0, 1, 2, -1]]
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == np.int32


def test_an_annotator_is_drawn_once_from_the_counts():
    problem = make_problem()
    counts = np.array([[6, 2, 1]] * 4000 + [[0, 3, 0]] * 10)
    dataset = problem.pool._replace(expert_labels=hatespeech.answers_of(counts))
    key = jax.random.key(0)
    drawn = np.asarray(problem.annotate(key, {}, dataset).expert_labels)
    again = np.asarray(problem.annotate(key, {}, dataset).expert_labels)
    np.testing.assert_array_equal(again, drawn)
    assert drawn.shape == (4010, 1) and set(drawn[4000:, 0]) == {1}
    shares = np.bincount(drawn[:4000, 0]) / 4000
    # Four standard errors.
    np.testing.assert_allclose(shares, [6 / 9, 2 / 9, 1 / 9], rtol=0, atol=0.03)


def test_features_are_of_the_texts_that_a_seed_does_not_test(monkeypatch):
    problem = make_problem(num_seeds=2)
    assert problem.inputs_by_seed and problem.pool.inputs.shape == (NUM_TWEETS, 2, 5)
    made, row = make_tweets(), problem.test_rows(0)[0]
    changed = list(made.texts)
    changed[row] = "odd even unheard spam other1"
    monkeypatch.setattr(
        data, "load_davidson", lambda data_dir: made._replace(texts=tuple(changed))
    )
    other = make_problem(num_seeds=2)
    inputs, others = (x.pool.inputs[:, 0] for x in (problem, other))
    assert not np.allclose(inputs[row], others[row])
    np.testing.assert_array_equal(np.delete(inputs, row, 0), np.delete(others, row, 0))


def test_embeddings_are_the_same_for_all_seeds(monkeypatch):
    vectors = np.arange(2.0 * NUM_TWEETS, dtype=np.float32).reshape(-1, 2)
    monkeypatch.setattr(data, "embed_texts", lambda texts: vectors[: len(texts)])
    problem = make_problem(features="embedding")
    assert not problem.inputs_by_seed
    np.testing.assert_array_equal(problem.pool.inputs, vectors)


@pytest.mark.long
def test_the_panel_repeats_turns_or_guesses():
    """Accuracies on a class where the annotator is always right, by hand."""
    problem = make_problem(hatespeech.make_panel, "panel_smoke")
    assert problem.traits.num_experts == 10
    size = 6000
    for answer, turned in enumerate((1, 0, 0)):
        counts = np.zeros((size, 3), int)
        counts[:, answer] = 3
        dataset = problem.pool._replace(expert_labels=hatespeech.answers_of(counts))
        found = problem.annotate(jax.random.key(answer), {}, dataset).expert_labels
        shares = np.stack([np.bincount(column, minlength=3) for column in found.T])
        same, other = shares[:, answer] / size, shares[:, turned] / size
        third = 1 / 3
        expected = [
            third, 0.1 + 0.9 * third, 0.5, 0.75 + 0.25 * third, 0.7, 0.8,
            0.85 + 0.15 * third, 1.0, 0.5 + 0.5 * third, 1.0,
        ]  # fmt: skip
        np.testing.assert_allclose(same, expected, rtol=0, atol=0.026)
        turns = np.array([2, 4, 5])
        np.testing.assert_allclose(other[turns], [0.5, 0.3, 0.2], rtol=0, atol=0.026)
    # Those who repeat are the same annotator.
    np.testing.assert_array_equal(found[:, 7], found[:, 9])
    first = make_problem(hatespeech.make_panel, "panel_smoke", panel_size=4)
    assert first.traits.num_experts == 4
    assert first.annotate(jax.random.key(0), {}, first.pool).expert_labels.shape == (
        NUM_TWEETS,
        4,
    )


# What is refused.


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"test_fraction": 0.0},
            "test_fraction 0.0 leaves 0 examples to test on and 300",
        ),
        (
            {"test_fraction": 1.0},
            "test_fraction 1.0 leaves 300 examples to test on and 0",
        ),
        ({"test_fraction": 1.5}, "test_fraction must be a finite number in"),
        ({"valid_fraction": 0.0}, "valid_fraction 0.0 leaves 240 examples to train on"),
        (
            {"batch_size": 211},
            "batch_size 211 is larger than the 210 training examples",
        ),
        ({"features": "glove"}, "features must be one of tfidf, hashing, embedding"),
        (
            {"methods": ("majority",)},
            "methods: majority is not applicable to hatespeec",
        ),
    ],
)
def test_bad_config(changes, message, tmp_path):
    with pytest.raises(ConfigError, match=f"^{message}") as error:
        programs.run(deferral.main, make_config(**changes), tmp_path)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("size", [1, 11, 2.5])
def test_bad_panel(size, tmp_path):
    config = make_config("panel_smoke", methods=("majority",))
    del config.panel_size
    config.panel_size = size
    with pytest.raises(
        ConfigError, match=r"^panel_size must be a whole number in 2\.\."
    ):
        programs.run(deferral.main, config, tmp_path)


def test_without_the_extra_it_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(DataError, match="need the extra embeddings") as error:
        programs.run(
            deferral.main, make_config(features="embedding"), tmp_path / "never"
        )
    assert "\n" not in str(error.value) and "choose features tfidf" in str(error.value)


@pytest.mark.real_data(davidson._PLACE)
def test_how_often_a_real_annotator_is_right(monkeypatch):
    monkeypatch.setattr(data, "load_davidson", davidson.load_davidson)
    size = 24_783
    blank = np.zeros((size, embeddings.NUM_DIMENSIONS), np.float32)
    monkeypatch.setattr(data, "embed_texts", lambda texts: blank)
    problem = make_problem(features="embedding", data_dir="")
    drawn = problem.annotate(jax.random.key(0), {}, problem.pool).expert_labels
    right = np.asarray(drawn)[:, 0] == problem.pool.labels
    np.testing.assert_allclose(right.mean(), 0.905, rtol=0, atol=0.006)
    (size_of_test,) = problem.test_rows(0).shape
    assert size_of_test == 4957 and len(problem.split(0).valid) == 2478


@pytest.mark.parametrize("scale", ["smoke", "default", "panel", "panel_smoke"])
def test_configs_of_all_scales_are_sound(scale):
    config = hatespeech_config.get_config(scale)
    schema.check(config)
    methods, reasons = deferral.choose_methods(config, config.problem)
    assert {"one_vs_all", "confidence", *config.references} <= set(methods)
    # What the others lack is the problem's and not the config's.
    assert not any("in the config" in why for why in reasons.values())
