import jax
import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier

from l2d_jax.table import classifiers


def examples(num_classes, size=300, seed=0):
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(size, 5)).astype(np.float32)
    inputs[:, 4] = np.round(inputs[:, 4])
    labels = (inputs[:, 0] + inputs[:, 1] ** 2 > 0.5).astype(int)
    if num_classes == 3:
        labels[inputs[:, 4] > 0] = 2
    return inputs, labels


@pytest.mark.long
@pytest.mark.parametrize("num_classes", [2, 3])
@pytest.mark.parametrize("name", classifiers.CLASSIFIERS)
def test_probabilities_are_of_the_classes(name, num_classes):
    inputs, labels = examples(num_classes)
    kind = classifiers.CLASSIFIERS[name]
    params = kind.fit(inputs, labels, num_classes, None, 0)
    logits = np.asarray(kind.logits(params, inputs))
    assert logits.shape == (len(inputs), num_classes)
    # Better than the most common class by far.
    assert (logits.argmax(axis=1) == labels).mean() > np.bincount(labels).max() / 300


@pytest.mark.long
@pytest.mark.parametrize("num_classes", [2, 3])
def test_trees_are_those_of_scikit_learn(num_classes, monkeypatch):
    """To rounding, on rows that were not seen and on thresholds themselves."""
    kept = []
    fit = HistGradientBoostingClassifier.fit
    monkeypatch.setattr(
        HistGradientBoostingClassifier,
        "fit",
        lambda self, *args: kept.append(self) or fit(self, *args),
    )
    inputs, labels = examples(num_classes)
    kind = classifiers.CLASSIFIERS["trees"]
    params = kind.fit(inputs, labels, num_classes, None, 0)
    new, _ = examples(num_classes, 2000, seed=1)
    thresholds = params["threshold"][params["left"] != params["right"]]
    new[: len(thresholds), 0] = thresholds[: len(new)]
    found = jax.nn.softmax(kind.logits(params, new), axis=1)
    np.testing.assert_allclose(found, kept[0].predict_proba(new), atol=2e-6)


@pytest.mark.long
def test_weights_move_the_classifier():
    inputs, labels = examples(2)
    weights = np.where(labels == 1, 9.0, 1.0)
    for kind in classifiers.CLASSIFIERS.values():
        plain = kind.logits(kind.fit(inputs, labels, 2, None, 0), inputs)
        heavy = kind.logits(kind.fit(inputs, labels, 2, weights, 0), inputs)
        shares = [(np.asarray(x).argmax(axis=1) == 1).mean() for x in (plain, heavy)]
        assert shares[1] > shares[0]


def test_a_model_that_is_given_is_read_as_it_is():
    probs = np.array([[0.2, 0.8], [1.0, 0.0]])
    inputs = np.concatenate(
        [np.zeros((2, 3), np.float32), classifiers.log_probs(probs)], axis=1
    )
    params = classifiers.GIVEN.fit(inputs, np.array([0, 1]), 2, None, 0)
    found = jax.nn.softmax(classifiers.GIVEN.logits(params, inputs), axis=1)
    np.testing.assert_allclose(found, probs, atol=2e-6)


@pytest.mark.long
def test_members_are_averaged():
    inputs, labels = examples(2)
    kind = classifiers.CLASSIFIERS["trees"]
    members = [kind.fit(inputs[s:], labels[s:], 2, None, s) for s in (0, 60)]
    params = classifiers.stack(members)
    found = classifiers.mean_log_probs(kind, params, inputs)
    each = [jax.nn.softmax(kind.logits(member, inputs), axis=1) for member in members]
    np.testing.assert_allclose(np.exp(found), np.mean(each, axis=0), atol=1e-6)
