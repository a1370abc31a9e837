"""Splits and minibatch orders: functions of the seed and the epoch alone."""

import numpy as np
import pytest

from l2d_jax.engine import orders


@pytest.mark.parametrize(
    ("size", "fraction", "num_valid"), [(10, 0.3, 3), (7, 0.5, 4), (1437, 0.2, 287)]
)
def test_split_holds_every_example_once(size, fraction, num_valid):
    fold = orders.split_pool(0, size, fraction)
    assert len(fold.valid) == num_valid
    assert fold.train.dtype == fold.valid.dtype == np.int32
    both = np.sort(np.concatenate([fold.train, fold.valid]))
    np.testing.assert_array_equal(both, np.arange(size))


def test_split_depends_on_the_seed_alone():
    first, again = (orders.split_pool(3, 50, 0.2) for _ in range(2))
    np.testing.assert_array_equal(first.train, again.train)
    np.testing.assert_array_equal(first.valid, again.valid)
    other = orders.split_pool(4, 50, 0.2)
    assert set(first.valid) != set(other.valid)


def test_split_is_random():
    """Each example is as likely as any other to be in the validation part."""
    counts = sum(
        np.bincount(orders.split_pool(seed, 20, 0.25).valid, minlength=20)
        for seed in range(400)
    )
    # Binomial(400, 1/4): mean 100, standard deviation 8.7.
    assert np.all(np.abs(counts - 100) < 45)


@pytest.mark.parametrize("fraction", [0.0, 0.001, 0.999, 1.0, -0.2])
def test_split_refuses_an_empty_part(fraction):
    with pytest.raises(ValueError, match=f"valid_fraction {fraction} of 10 examples"):
        orders.split_pool(0, 10, fraction)


def test_an_epoch_shows_each_example_at_most_once():
    train = np.array([2, 3, 5, 7, 11, 13, 17], np.int32)
    order = orders.epoch_orders(0, 0, 5, train, 3)
    assert order.shape == (5, 2, 3)
    assert order.dtype == np.int32
    for epoch in order:
        assert len(set(epoch.ravel())) == 6
        assert set(epoch.ravel()) < set(train)
    assert len({tuple(epoch.ravel()) for epoch in order}) == 5


def test_who_sits_out_changes():
    train = np.arange(7, dtype=np.int32)
    order = orders.epoch_orders(0, 0, 60, train, 3)
    left_out = {(set(range(7)) - set(epoch.ravel())).pop() for epoch in order}
    assert left_out == set(range(7))


def test_an_epoch_depends_on_seed_and_number_alone():
    """However epochs are grouped into dispatches, they are the same."""
    train = np.arange(12, dtype=np.int32)
    together = orders.epoch_orders(1, 0, 5, train, 4)
    apart = [
        orders.epoch_orders(1, 0, 2, train, 4),
        orders.epoch_orders(1, 2, 3, train, 4),
    ]
    np.testing.assert_array_equal(together, np.concatenate(apart))
    assert (orders.epoch_orders(2, 0, 5, train, 4) != together).any()


def test_a_batch_may_be_all_of_the_data():
    train = np.arange(4, dtype=np.int32)
    order = orders.epoch_orders(0, 0, 1, train, 4)
    np.testing.assert_array_equal(np.sort(order.ravel()), train)


def test_a_batch_larger_than_the_data():
    with pytest.raises(ValueError, match="batch_size 5 is larger than the 4 training"):
        orders.epoch_orders(0, 0, 1, np.arange(4), 5)


@pytest.mark.parametrize("batch_size", [0, -3, 2.0, True])
def test_a_batch_of_no_whole_number_of_examples(batch_size):
    with pytest.raises(
        ValueError, match=r"^batch_size must be a whole number of at le"
    ):
        orders.epoch_orders(0, 0, 1, np.arange(4), batch_size)
