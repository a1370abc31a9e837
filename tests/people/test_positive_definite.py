import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from l2d_jax.people.positive_definite import solve

solve_jit = jax.jit(solve)
SIZES = range(1, 13)


def a_system(size, seed=0, num_right=3):
    """A positive definite matrix and right-hand sides, float64."""
    generator = np.random.default_rng(seed)
    factor = generator.normal(size=(size, 2 * size))
    return factor @ factor.T, generator.normal(size=(size, num_right))


def with_eigenvalues(values):
    """A matrix that has them, float64."""
    size = len(values)
    vectors, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(size, size)))
    return (vectors * np.asarray(values)) @ vectors.T


@pytest.mark.parametrize("jit", [False, True])
def test_by_hand(jit):
    # det = 4 * 3 - 2 * 2 = 8, and the inverse is [[3, -2], [-2, 4]] / 8.
    matrix, right = np.array([[4.0, 2.0], [2.0, 3.0]]), np.array([[8.0, 0], [0, 16.0]])
    solution, log_det = (solve_jit if jit else solve)(matrix, right)
    np.testing.assert_allclose(solution, [[3, -4], [-2, 8]], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(log_det, np.log(8.0), rtol=1e-6, atol=0)
    assert solution.shape == (2, 2) and log_det.shape == ()


def test_one_unknown():
    solution, log_det = solve(np.array([[0.5]]), np.array([[3.0, -1.0]]))
    np.testing.assert_allclose(solution, [[6.0, -2.0]], rtol=1e-6, atol=0)
    np.testing.assert_allclose(log_det, -np.log(2.0), rtol=1e-6, atol=0)


def test_diagonal_and_no_right_hand_side():
    diagonal = np.array([1e-4, 1.0, 1e4])
    solution, log_det = solve(np.diag(diagonal), np.eye(3))
    np.testing.assert_allclose(solution, np.diag(1 / diagonal), rtol=1e-6, atol=0)
    np.testing.assert_allclose(log_det, 0.0, rtol=0, atol=1e-5)
    assert solve(np.eye(3), np.zeros((3, 0)))[0].shape == (3, 0)


@pytest.mark.parametrize("size", SIZES)
def test_against_lapack_in_float64(size):
    matrix, right = a_system(size, seed=size)
    solution, log_det = solve_jit(matrix, right)
    expected = np.linalg.solve(matrix, right)
    np.testing.assert_allclose(solution, expected, rtol=1e-3, atol=1e-4)
    sign, expected = np.linalg.slogdet(matrix)
    assert sign == 1
    np.testing.assert_allclose(log_det, expected, rtol=1e-5, atol=1e-4)


def test_vmap_is_one_at_a_time():
    systems = [a_system(5, seed) for seed in range(4)]
    matrices, rights = (np.stack(part) for part in zip(*systems, strict=True))
    solutions, log_dets = jax.jit(jax.vmap(solve))(matrices, rights)
    for system, solution, log_det in zip(systems, solutions, log_dets, strict=True):
        one, one_log_det = solve(*system)
        np.testing.assert_allclose(solution, one, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(log_det, one_log_det, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("level", [1e-6, 1.0, 1e6])
def test_ill_conditioned(level):
    """float32 has seven digits, of which a condition of 1e4 may cost four."""
    matrix = level * with_eigenvalues(np.geomspace(1.0, 1e4, 8))
    _, right = a_system(8)
    solution, log_det = solve_jit(matrix, right)
    expected = np.linalg.solve(matrix, right)
    error = np.linalg.norm(solution - expected) / np.linalg.norm(expected)
    assert error < 1e-2
    expected = np.linalg.slogdet(matrix)[1]
    np.testing.assert_allclose(log_det, expected, rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize(
    "matrix",
    [
        [[-1.0]],
        [[0.0, 1.0], [1.0, 0.0]],
        [[1.0, 2.0], [2.0, 1.0]],
        [[-2.0, 0.0], [0.0, -3.0]],  # A determinant above 0 does not hide it.
        [[1.0, 1.0], [1.0, 1.0]],  # Singular: log det is -inf.
        with_eigenvalues([5.0, 4.0, -1.0, 2.0]),
    ],
)
def test_not_positive_definite(matrix):
    matrix = np.array(matrix)
    assert not np.isfinite(solve(matrix, np.eye(len(matrix)))[1])


@pytest.mark.parametrize(
    ("matrix", "right"),
    [
        ((), (2, 2)),
        ((2,), (2, 1)),
        ((2, 3), (2, 1)),
        ((2, 2), (3, 1)),
        ((2, 2), (2,)),
        ((2, 2), ()),
        ((2, 2), (2, 2, 1)),
        ((2, 2, 2), (2, 2, 1)),
    ],
)
def test_shapes_must_fit(matrix, right):
    with pytest.raises(ValueError, match=r"matrix must be \[D, D\] and right \[D, N\]"):
        solve(np.ones(matrix), np.ones(right))


def test_gradients():
    """Of log det the inverse; of a' X b, with X the inverse, -X a b' X."""
    matrix, right = a_system(4, num_right=1)
    left = np.array([1.0, -2.0, 0.5, 3.0])
    inverse = np.linalg.inv(matrix)

    def gradient_of(function):
        return jax.jit(jax.grad(function))(jnp.asarray(matrix))

    of_log_det = gradient_of(lambda m: solve(m, right)[1])
    # Elimination reads each entry of a symmetric matrix once or twice; only the sum of
    # an entry's gradient and that of its mirror image is the mathematics'.
    np.testing.assert_allclose(
        of_log_det + of_log_det.T, 2 * inverse, rtol=1e-3, atol=1e-4
    )
    of_matrix = gradient_of(lambda m: left @ solve(m, right)[0][:, 0])
    expected = -np.outer(inverse @ left, inverse @ right[:, 0])
    np.testing.assert_allclose(
        of_matrix + of_matrix.T, expected + expected.T, rtol=1e-3, atol=1e-4
    )


def test_gradients_are_finite_where_ill_conditioned():
    matrix = jnp.asarray(with_eigenvalues(np.geomspace(1e-2, 1e2, 6)))

    def total(m):
        solution, log_det = solve(m, jnp.eye(6))
        return jnp.sum(solution) + log_det

    assert np.isfinite(jax.jit(jax.grad(total))(matrix)).all()


_ON_EVERY_DEVICE = """
import jax, numpy as np
from l2d_jax.engine.placement import Placement, place
from l2d_jax.people.positive_definite import solve

def means(matrices):
    def again(carry, _):
        around = matrices + 0.0 * carry[0]
        solutions, log_dets = jax.vmap(solve, (0, None))(around, np.eye(5))
        return (solutions.mean(), log_dets.mean()), None
    return jax.lax.scan(again, (0.0, 0.0), None, 20)[0]

matrices = np.tile(2.0 * np.eye(5, dtype=np.float32), (2, 4000, 1, 1))
placed = place(means, Placement("shard", 1), "r")
matrices = placed.put_runs(matrices)
for _ in range(20):
    inverse, log_det = jax.block_until_ready(placed.run(matrices))
print(len(jax.devices()), np.round(inverse, 3), np.round(log_det / np.log(2), 3))
"""


def test_two_devices_at_a_time():
    """LAPACK does not return from this (decomposition and triangular systems).

    In a process of its own, which can be ended if ours does not either.
    """
    done = subprocess.run(
        [sys.executable, "-c", _ON_EVERY_DEVICE],
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stdout) == (0, "2 [0.1 0.1] [5. 5.]\n"), done.stderr
