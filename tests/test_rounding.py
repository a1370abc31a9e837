"""Steps between floats are those of the device, and sums are off by less than said."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from l2d_jax import _rounding

TINY = np.finfo(np.float32).tiny
VALUES = np.float32([0.0, 1e-40, -1e-40, TINY, -TINY, 1.0, -0.3, 1e30])


def test_the_device_sees_each_step():
    below, above = _rounding.just_below(VALUES), _rounding.just_above(VALUES)
    less = jax.jit(jnp.less)
    assert less(below, VALUES).all()
    assert less(VALUES, above).all()
    np.testing.assert_array_equal(below[:3], [-TINY] * 3)
    np.testing.assert_array_equal(above[3:5], [np.nextafter(TINY, 1, dtype="f4"), 0])


@pytest.mark.parametrize("kind", [float, np.float32])
@pytest.mark.parametrize("size", [7, 10, 100, 1000])
def test_a_share_of_k_in_n_is_k_of_n(size, kind):
    for number in range(size + 1):
        assert _rounding.whole_part(kind(number / size), size) == number
    # .29 * 100 as it is written, and one digit less than 29 in 100.
    assert _rounding.whole_part(0.29, 100) == 29
    assert _rounding.whole_part(0.2899999, 100) == 28
    assert _rounding.whole_part(1, size) == size
    assert _rounding.whole_part(0.5, 0) == 0


@pytest.mark.parametrize("sign", [1, -1])
def test_rounding_stays_on_its_side(sign):
    exact = sign * np.array([1e-60, 1e-40, 1 / 3, 1.0, 1e39])
    up = _rounding.round_up(exact, np.float32)
    down = _rounding.round_down(exact, np.float32)
    assert (down.astype(float) <= exact).all()
    assert (exact <= up.astype(float)).all()
    assert up[3] == down[3] == sign
    with np.errstate(over="ignore"):
        single = exact.astype(np.float32)
    # What the device compares with them, it compares alike.
    assert jax.jit(jnp.less_equal)(single, up).all()
    assert jax.jit(jnp.less_equal)(down, single).all()


@pytest.mark.parametrize("size", [3, 60, 500, 5000, 40000])
def test_a_sum_is_off_by_less(size):
    terms = np.random.default_rng(size).random((20, size)).astype(np.float32)
    found = jnp.sum(terms, axis=1)
    exact = terms.astype(float).sum(axis=1)
    assert (abs(found - exact) <= _rounding.of_sum(size, found.dtype) * exact).all()
