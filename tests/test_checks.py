"""What a check makes of traced values."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from l2d_jax._checks import poison_unless

VALID = np.array([False, True])


def identity(function):
    return function


@pytest.mark.parametrize("transform", [identity, jax.jit])
def test_all_of_a_row_is_nan_whatever_it_held(transform):
    # A bool that became a float: the compiler may leave its 0 as it is in a product.
    def one_hot(valid, classes):
        row = (classes[:, None] == jnp.arange(3)).astype(float)
        return poison_unless(valid[:, None], row)

    found = transform(one_hot)(VALID, np.array([1, 1]))
    np.testing.assert_array_equal(found, [[np.nan] * 3, [0, 1, 0]])


@pytest.mark.parametrize("transform", [identity, jax.jit])
@pytest.mark.parametrize("value", [0.0, 2.0, -np.inf])
def test_so_is_its_gradient(transform, value):
    def total(values):
        return jnp.sum(poison_unless(VALID, values))

    found = transform(jax.grad(total))(jnp.full(2, value))
    np.testing.assert_array_equal(found, [np.nan, 1.0])
