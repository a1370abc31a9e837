"""The experiment with deferrer and classifier trained jointly, on a made-up crowd."""

import numpy as np
import pandas as pd
import pytest

from experiments import joint
from experiments.runtime.errors import ConfigError
from l2d_jax.data.annotated import Annotated
from l2d_jax.engine import placement, sweeps

pytestmark = pytest.mark.usefixtures("cheap_compiles")

# One run a chunk: whatever the number of splits, the programs are the same.
WHERE = placement.Placement("vmap", 1)
NUM_ITEMS = 120


def make_annotated(**changes):
    """Two annotators who are right in one category each alone, and two who guess."""
    generator = np.random.default_rng(0)
    categories = np.arange(NUM_ITEMS, dtype=np.int32) % 2
    labels = generator.integers(0, 2, NUM_ITEMS).astype(np.int32)
    answers = generator.integers(0, 2, (NUM_ITEMS, 4)).astype(np.int32)
    for expert in range(2):
        answers[:, expert] = np.where(categories == expert, labels, 1 - labels)
    answers[::7, 2] = -1
    answers[::5, 3] = -1
    return Annotated(
        texts=("text",) * NUM_ITEMS,
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


def make_splits(count=2):
    """Tests of 31 and 30 rows, so that one is padded; features tell the category."""
    splits, features = [], []
    for number in range(count):
        rows = np.random.default_rng(number).permutation(NUM_ITEMS)
        size = 31 - number
        splits.append((rows[size:], rows[:size]))
        matrix = np.random.default_rng(10 + number).normal(size=(NUM_ITEMS, 2))
        matrix[:, 0] += np.where(np.arange(NUM_ITEMS) % 2 == 0, -3, 3)
        features.append(matrix.astype(np.float32))
    return splits, features


def make_config(**changes):
    config = joint.default_config()
    config.hidden_deferrer = config.hidden_classifier = (4,)
    config.batch_size, config.num_steps, config.minimax_rounds = 40, 200, 3
    for name, value in changes.items():
        config[name] = value
    return config


def run(annotated, splits, features, workdir=None, config=None, **kwargs):
    kwargs = {
        "report": lambda progress: None,
        "should_stop": lambda: False,
        "where": WHERE,
    } | kwargs
    return joint.run(
        annotated, splits, features, config or make_config(), workdir, **kwargs
    )


@pytest.fixture(scope="module")
def whole():
    """The table of a whole run, and how far it said it was."""
    told = []
    table = run(make_annotated(), *make_splits(), report=told.append)
    return table, told


def of_method(table, method):
    return table[table.method == method].sort_values("seed").reset_index(drop=True)


# What a run gives.


def test_the_table(whole):
    table, told = whole
    assert list(table.method.unique()) == list(joint.METHODS)
    assert not table.duplicated(["method", "seed"]).any()
    assert set(table.seed) == {0, 1}
    for name, value in (
        ("experiment", "allocation"),
        ("dataset", "keswani_mturk"),
        ("split", "test"),
    ):
        assert (table[name] == value).all()
    measured = [*joint.METRICS, "accuracy_other", "accuracy_aae"]
    values = table[measured].to_numpy(float)
    assert np.nanmin(values) >= 0
    assert np.nanmax(values) <= 1
    missing = table[measured].isna()
    assert missing.columns[missing.any()].tolist() == ["committee_accuracy"]
    assert set(table.method[missing.committee_accuracy]) == {"majority"}
    assert [progress.done for progress in told] == list(range(1, 9))
    assert {progress.total for progress in told} == {8}


def test_whom_to_trust_is_found(whole):
    accuracy = whole[0].groupby("method").accuracy.mean()
    for method in ("joint", "joint_balanced", "joint_minimax"):
        assert accuracy[method] > 0.95
    # Features tell nothing of the label, and two of the crowd contradict each other.
    for method in ("classifier", "majority", "random_committee"):
        assert accuracy[method] < 0.75
    # Who is better on a category is always right there; the others guess.
    assert accuracy["random_fair_committee"] > accuracy["random_committee"] + 0.1


def test_the_majority_by_numpy(whole):
    annotated, (splits, _) = make_annotated(), make_splits()
    rows = of_method(whole[0], "majority")
    for number, (_, test) in enumerate(splits):
        answers, labels = annotated.answers[test], annotated.labels[test]
        given = answers >= 0
        score = np.where(given, answers, 0).sum(1) / given.sum(1)
        right = (score > 0.5) == labels
        by_category = [right[annotated.categories[test] == c].mean() for c in (0, 1)]
        above = score[labels == 1][:, None] - score[labels == 0][None]
        shares = (given / given.sum(1, keepdims=True)).mean(0)
        expected = {
            "accuracy": right.mean(),
            "roc_auc": np.mean((above > 0) + 0.5 * (above == 0)),
            "accuracy_other": by_category[0],
            "accuracy_aae": by_category[1],
            "gap": abs(by_category[0] - by_category[1]),
            "max_share": shares.max(),
            "classifier_share": 0.0,
        }
        for name, value in expected.items():
            np.testing.assert_allclose(rows[name][number], value, rtol=1e-5, atol=1e-6)


def test_workload(whole):
    classifier = of_method(whole[0], "classifier")
    assert (classifier.classifier_share == 1).all()
    assert (classifier.max_share == 0).all()
    np.testing.assert_array_equal(classifier.accuracy, classifier.committee_accuracy)
    for method in ("random_committee", "random_fair_committee"):
        rows = of_method(whole[0], method)
        assert (rows.classifier_share == 0).all()
        np.testing.assert_array_equal(rows.accuracy, rows.committee_accuracy)
    # Half of the items are an expert's own; the weights are the most on them.
    share = of_method(whole[0], "joint").max_share
    assert ((share > 0.3) & (share < 0.7)).all()


def test_better_on_category_by_hand():
    # Of the first, 1 of 1 right against 1 of 2; of the second, always right; the third
    # has not answered about the other category; the fourth has answered nothing.
    answers = np.array([[1, 1, 1, -1], [1, 1, -1, -1], [0, 1, -1, -1], [0, 0, 0, -1]])
    labels = np.array([1, 1, 1, 1])
    annotated = make_annotated(
        answers=answers, labels=labels, categories=np.array([0, 1, 1, 0])
    )
    fair = joint.better_on_category(annotated, np.array([0, 1, 2]))
    expected = [[True, False], [False, False], [False, False], [False, False]]
    np.testing.assert_array_equal(fair, expected)
    # The last row takes the first two annotators' lead in category 0.
    fair = joint.better_on_category(annotated, np.array([1, 2, 3]))
    expected = [[False, True], [False, True], [False, False], [False, False]]
    np.testing.assert_array_equal(fair, expected)


# Runs that are alike.


def test_a_split_alone_is_the_same(whole):
    splits, features = make_splits()
    alone = run(make_annotated(), splits[:1], features[:1])
    expected = whole[0][whole[0].seed == 0].reset_index(drop=True)
    pd.testing.assert_frame_equal(alone, expected)


def test_stopped_and_started_again(whole, tmp_path):
    splits, features = make_splits()
    with pytest.raises(sweeps.Interrupted):
        run(make_annotated(), splits, features, tmp_path, should_stop=lambda: True)
    table = run(make_annotated(), splits, features, tmp_path)
    pd.testing.assert_frame_equal(table, whole[0])


def test_rows_of_unknown_label_are_left_out():
    """Their label is nowhere read, and their category may have no accuracy."""
    _, features = make_splits(1)
    rows = np.arange(NUM_ITEMS)
    # 31 test rows, as in the other runs, all of one category.
    test, unknown = rows[::2][:31], rows[1::2][:20]
    train = np.setdiff1d(rows, np.union1d(test, unknown))
    labels = make_annotated().labels.copy()
    labels[unknown] = -1
    splits = [(np.append(unknown[:10], train), np.append(test, unknown[10:]))]
    table = run(make_annotated(labels=labels), splits, features)
    expected = run(make_annotated(), [(train, test)], features)
    pd.testing.assert_frame_equal(table, expected)
    assert table.accuracy_aae.isna().all()
    assert (table.gap == 0).all()
    np.testing.assert_array_equal(table.accuracy, table.accuracy_other)


# What is refused.


def test_the_default_config_passes():
    joint.check(joint.default_config())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("hidden_deferrer", (128, 0)),
        ("hidden_classifier", (0,)),
        ("num_steps", 0),
        ("batch_size", 0),
        ("learning_rate", 0.0),
        ("step_exponent", 0.0),
        ("dropout", 1.5),
        ("cost_weight", -0.1),
        ("committee_size", 4),
        ("minimax_rounds", 2),
    ],
)
def test_wrong_values(name, value):
    with pytest.raises(ConfigError, match=rf"^joint\.{name} must be") as error:
        joint.check(make_config(**{name: value}))
    assert "\n" not in str(error.value)


def test_wrong_splits():
    splits, features = make_splits()
    with pytest.raises(ConfigError, match=r"joint\.batch_size 90 .* at most 89"):
        run(make_annotated(), splits, features, config=make_config(batch_size=90))
    with pytest.raises(ValueError, match="features must be one matrix for each split"):
        run(make_annotated(), splits, features[:1])
    empty = [(splits[0][0], np.array([], int))]
    with pytest.raises(ValueError, match="split 0 has no test row with a label"):
        run(make_annotated(), empty, features[:1])
