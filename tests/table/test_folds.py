import numpy as np
import pytest

from l2d_jax.table.folds import make_folds


def test_classes_are_as_common_in_each_part():
    labels = np.repeat([0, 1], [80, 20])
    folds = make_folds(labels, np.arange(100), 5, 0)
    assert np.bincount(folds).tolist() == [20] * 5
    assert np.bincount(folds[labels == 1]).tolist() == [4] * 5


def test_no_unit_is_split():
    rng = np.random.default_rng(0)
    units = rng.integers(0, 30, 300)
    folds = make_folds(rng.integers(0, 2, 300), units, 4, 0)
    assert all(len(np.unique(folds[units == unit])) == 1 for unit in range(30))


def test_seeds_draw_other_parts_and_the_same_again():
    labels = np.tile([0, 1], 50)
    first, again, other = (make_folds(labels, np.arange(100), 5, s) for s in (0, 0, 1))
    assert (first == again).all()
    assert (first != other).any()


def test_a_class_of_fewer_units_than_parts_is_refused():
    labels = np.array([0] * 20 + [1] * 10)
    units = np.array([*range(20), *[20] * 5, *[21] * 5])
    with pytest.raises(ValueError, match="class number 1 is that of 2 units"):
        make_folds(labels, units, 5, 0)
