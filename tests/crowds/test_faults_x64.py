"""A stream runs with 64 bits too, and rewards and penalties are those of 32."""

import subprocess
import sys

import pytest

_STREAM = """
import jax, jax.numpy as jnp, numpy as np
from l2d_jax.crowds import reward_penalty, streams
from l2d_jax.crowds.allocation import Annotators, Arrivals, Committee
ones = np.ones((20, 3), int)
tasks = Arrivals(jnp.zeros((20, 1)), jnp.zeros(20, int), jnp.asarray(ones),
                 jnp.ones(20, int))
people = Annotators(np.ones((3, 1), np.float32), np.zeros(3, int))
allocator = reward_penalty.make_allocator(True)
hparams = {"rate": jnp.float32(0.1), "gold": jnp.float32(0)}
state = allocator.init(jax.random.key(0), hparams, people, tasks.features)
_, found = streams.run(allocator, hparams, Committee(3), people, state, tasks, tasks,
                       jax.random.key(1), num_pools=1, num_categories=1, num_windows=1,
                       batch_size=5)
print(float(found["test"]["accuracy"][0]), jnp.zeros(()).dtype)
"""


@pytest.mark.long
def test_rewards_and_penalties_with_64_bits():
    found = subprocess.run(
        [sys.executable, "-c", _STREAM],
        env={"PYTHONPATH": ":".join(sys.path), "JAX_ENABLE_X64": "1", "PATH": ""},
        capture_output=True,
        text=True,
    )
    assert found.stdout == "1.0 float64\n", found.stderr
