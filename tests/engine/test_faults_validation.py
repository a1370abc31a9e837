"""A run whose predictions on validation rows are NaN is marked as diverged."""

import jax.numpy as jnp
import numpy as np
import pytest

from l2d_jax import models, optimizers
from l2d_jax.engine import orders, placement, sweeps, training
from l2d_jax.learners import classifier, deferral
from l2d_jax.types import Dataset

pytestmark = pytest.mark.usefixtures("cheap_compiles")


def run(inputs, weights=None, make=deferral.make_learner, num_outputs=3):
    labels = (np.arange(len(inputs)) % 2).astype(np.int32)
    program = training.Program(
        make(models.mlp((4,), num_outputs), optimizers.make_adam()),
        lambda key, hparams, dataset: dataset,
        # A score that does not notice: what is NaN is deferred, or simply wrong.
        lambda outputs, batch, hparams: jnp.mean(batch.labels == 1),
        2,
    )
    fold = orders.Fold(np.arange(16), np.arange(16, 24))
    return sweeps.run_sweep(
        program,
        sweeps.grid([0], {"alpha": (1.0,), "learning_rate": (0.01,)}),
        Dataset(inputs, labels, labels[:, None], weights=weights),
        root_seed=0,
        split=lambda seed: fold,
        batch_size=8,
        where=placement.Placement("vmap", 1),
    )


INPUTS = np.random.default_rng(0).normal(size=(24, 3)).astype(np.float32)
METHODS = [(deferral.make_learner, 3), (classifier.make_learner, 2)]


@pytest.mark.long
@pytest.mark.parametrize(("make", "num_outputs"), METHODS)
def test_a_nan_in_a_validation_row_is_a_divergence(make, num_outputs):
    assert not run(INPUTS, None, make, num_outputs).diverged.any()
    bad = INPUTS.copy()
    bad[20, 1] = np.nan
    found = run(bad, None, make, num_outputs)
    assert found.diverged.all() and found.score == -np.inf
    weights = np.ones(24, np.float32)
    weights[20] = 0.0
    assert not run(bad, weights, make, num_outputs).diverged.any()


def test_what_is_never_estimated_is_no_divergence():
    some = {"score": jnp.ones((3, 2)), "prob": jnp.full((3, 1), jnp.nan)}
    assert training._is_decided(some, None)
    some["score"] = some["score"].at[1, 1].set(jnp.nan)
    assert not training._is_decided(some, None)
    assert training._is_decided(some, jnp.array([1.0, 0.0, 1.0]))
