import re

import numpy as np
import pytest

from l2d_jax.table import folds as folds_module
from l2d_jax.table.folds import make_folds, shortage


def test_classes_are_as_common_in_each_part():
    labels = np.repeat([0, 1], [80, 20])
    folds = make_folds(labels, np.arange(100), 5, 0, "abc")
    assert np.bincount(folds).tolist() == [20] * 5
    assert np.bincount(folds[labels == 1]).tolist() == [4] * 5


def test_no_unit_is_split():
    rng = np.random.default_rng(0)
    units = rng.integers(0, 30, 300)
    folds = make_folds(rng.integers(0, 2, 300), units, 4, 0, "ab")
    assert all(len(np.unique(folds[units == unit])) == 1 for unit in range(30))


def test_seeds_draw_other_parts_and_the_same_again():
    labels = np.tile([0, 1], 50)
    first, again, other = (
        make_folds(labels, np.arange(100), 5, s, "abc") for s in (0, 0, 1)
    )
    assert (first == again).all()
    assert (first != other).any()


def test_a_class_of_fewer_units_than_parts_is_refused():
    labels = np.array([0] * 20 + [1] * 10)
    units = np.array([*range(20), *[20] * 5, *[21] * 5])
    with pytest.raises(ValueError, match="class 'rare' is that of 2 units"):
        make_folds(labels, units, 5, 0, ("usual", "rare"))


@pytest.mark.parametrize("singles", [True, False])
def test_many_units_are_drawn_alike(singles, monkeypatch):
    """As for few of them: none is split, and classes are as common in each part."""
    monkeypatch.setattr(folds_module, "_MANY_UNITS", 100)
    rng = np.random.default_rng(0)
    labels = rng.choice(3, 3000, p=[0.6, 0.3, 0.1])
    units = rng.permutation(3000) if singles else rng.integers(0, 1000, 3000)
    found, again = (make_folds(labels, units, 5, 7, "abc") for _ in range(2))
    np.testing.assert_array_equal(found, again)
    assert (found != make_folds(labels, units, 5, 8, "abc")).any()
    for unit in range(1000 if not singles else 0):
        assert len(np.unique(found[units == unit])) <= 1
    table = np.stack([np.bincount(found[labels == k], minlength=5) for k in range(3)])
    expected = table.sum(axis=1, keepdims=True) / 5
    # Whole units leave a spread of some cases, and single ones of one.
    most = 1 if singles else 5 * np.sqrt(expected)
    assert (np.abs(table - expected) < most).all()


def test_a_rare_class_of_many_units_is_in_every_part(monkeypatch):
    """Its units are drawn among themselves, whatever else is in them."""
    monkeypatch.setattr(folds_module, "_MANY_UNITS", 100)
    units = np.tile(np.arange(500), 2)
    labels = np.zeros(1000, int)
    labels[:10] = 1
    found = make_folds(labels, units, 5, 0, "ab")
    assert np.bincount(found[:10]).tolist() == [2] * 5


@pytest.mark.parametrize("promise_folds", [None, 3])
def test_a_shortage_is_that_of_the_parts_themselves(promise_folds):
    """What it lets through can be split, and what it advises; one unit fewer cannot."""

    def can_be_split(count, num_folds):
        labels = np.r_[np.zeros(200, int), np.ones(count, int)]
        rows = np.arange(len(labels))
        try:
            for fold in range(num_folds):
                outer = make_folds(labels, rows, num_folds, 0, "ab")
                kept = np.flatnonzero(outer != fold)
                if promise_folds:
                    thirds = make_folds(labels[kept], kept, promise_folds, 1, "ab")
                    kept = kept[thirds != 0]
                make_folds(labels[kept], kept, 5, 2, "ab")
        except ValueError:
            return False
        return True

    for count in range(2, 14):
        why = shortage(count, 5, 5, promise_folds)
        assert can_be_split(count, 5) == (not why)
        advice = re.search(r"or hold out (\d+) parts", why)
        if advice:
            assert can_be_split(count, int(advice[1]))
    enough = 10 if promise_folds else 7
    assert shortage(enough - 1, 5, 5, promise_folds)
    assert not shortage(enough, 5, 5, promise_folds)


def test_a_shortage_says_what_is_left():
    assert shortage(6, 5, 5) == (
        "where one of 5 parts is held out, 4 are left to fit to, which takes 5; merge"
        " the class, leave it out, or hold out 6 parts"
    )
    assert shortage(20, 30, 5).startswith("30 parts are to be held out in turn; ")
    assert shortage(20, 30, 5).endswith("or hold out 20 parts")
    assert shortage(3, 5, 5).endswith("leave it out, or give more of it")
