"""Rejecting is deferring to an expert of constant loss, Madras et al. 2018, Sec. 2.3.

With an expert whose loss is c on every example, the loss of deferring at price gamma
and its gradient are those of rejecting at price gamma + c.
"""

import jax
import numpy as np
import pytest

from l2d_jax.learners import mixture
from l2d_jax.types import Batch


def make_batch(generator, expert_nll, num_classes):
    """64 examples; the expert gives every label the same probability."""
    labels = generator.integers(0, num_classes, 64)
    of_label = np.exp(-expert_nll)
    probs = np.full((64, 1, num_classes), (1 - of_label) / (num_classes - 1))
    probs[np.arange(64), 0, labels] = of_label
    return Batch(
        np.zeros((64, 1), np.float32), labels, expert_probs=probs.astype(np.float32)
    )


@pytest.mark.parametrize(("num_classes", "num_outputs"), [(2, 2), (2, 3), (5, 6)])
def test_reject_equals_defer_to_a_constant_expert(num_classes, num_outputs):
    losses = [
        jax.jit(jax.value_and_grad(mixture.make_batch_loss(objective)))
        for objective in ("reject", "defer")
    ]
    key = jax.random.key(0)
    for seed in range(20):
        generator = np.random.default_rng(seed)
        expert_nll = generator.uniform(0.01, 2.0)
        batch = make_batch(generator, expert_nll, num_classes)
        outputs = generator.normal(0.0, 2.0, (64, num_outputs)).astype(np.float32)
        cost = generator.uniform(0.0, 1.0)
        rejecting, deferring = (
            loss(outputs, batch, {"cost": np.float32(price)}, key)
            for loss, price in zip(losses, (cost + expert_nll, cost), strict=True)
        )
        for one, other in zip(rejecting, deferring, strict=True):
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-6)
        assert np.abs(rejecting[1]).max() > 1e-3


def test_at_the_same_price_they_differ():
    generator = np.random.default_rng(0)
    batch = make_batch(generator, 0.5, 2)
    outputs = generator.normal(0.0, 2.0, (64, 2)).astype(np.float32)
    values = [
        mixture.make_batch_loss(objective)(
            outputs, batch, {"cost": np.float32(0.3)}, jax.random.key(0)
        )
        for objective in ("reject", "defer")
    ]
    # By the expert's loss times the mean probability of passing.
    passing = 1 / (1 + np.exp(-outputs[:, 1].astype(float)))
    np.testing.assert_allclose(
        values[1] - values[0], 0.5 * passing.mean(), rtol=1e-5, atol=1e-6
    )
