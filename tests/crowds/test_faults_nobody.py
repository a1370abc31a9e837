"""A task that nobody can be asked about teaches nothing and is measured nowhere."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from l2d_jax import models, optimizers
from l2d_jax.crowds import (
    allocation,
    closed_loop,
    competence,
    dawid_skene,
    reward_penalty,
    streams,
)
from l2d_jax.crowds.allocation import Annotators, Arrivals, Committee

pytestmark = pytest.mark.usefixtures("cheap_compiles")

T, M, Z = 30, 3, 2
SGD = optimizers.make_plain_sgd()


def loop(**options):
    return closed_loop.make_allocator(models.linear(M), SGD, **options)


ALLOCATORS = {
    **{
        f"{form}, {feedback}": loop(form=form, feedback=feedback)
        for form in allocation.FORMS
        for feedback in ("agreement", "committee", "reward")
    },
    "dawid_skene": loop(crowd=dawid_skene.make_crowd()),
    "competence": loop(crowd=competence.make_crowd()),
    "everyone": reward_penalty.make_allocator(True),
    "consulted": reward_penalty.make_allocator(False),
}


def run(allocator, places):
    """The stream with tasks of nobody's at some places, each a batch of its own."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 2, T)
    right = generator.random((T, M)) < 0.9
    sound = Arrivals(
        generator.normal(size=(T, 2)).astype(np.float32),
        np.arange(T) % Z,
        np.where(right, labels[:, None], 1 - labels[:, None]),
        labels,
    )
    stream = Arrivals(
        *(
            np.insert(leaf, places, value, axis=0)
            for leaf, value in zip(sound[:4], (7, 0, -1, 1), strict=True)
        )
    )
    people = Annotators(
        np.linspace(0.3, 0.8, M * Z, dtype=np.float32).reshape(M, Z), np.zeros(M, int)
    )
    hparams = {name: jnp.float32(0) for name in closed_loop.HPARAMS}
    hparams |= {"learning_rate": jnp.float32(0.3), "rate": jnp.float32(0.1)}
    hparams["fade"] = jnp.float32(20)

    @jax.jit
    def compute(train, test):
        state = allocator.init(jax.random.key(0), hparams, people, train.features)
        return streams.run(
            allocator,
            hparams,
            Committee(0),
            people,
            state,
            train,
            test,
            jax.random.key(1),
            num_pools=1,
            num_categories=Z,
            num_windows=1,
            batch_size=1,
        )

    return compute(*jax.tree.map(jnp.asarray, (stream, sound)))


@pytest.mark.long
@pytest.mark.parametrize("name", ALLOCATORS)
def test_it_leaves_no_trace(name):
    expected, found = run(ALLOCATORS[name], []), run(ALLOCATORS[name], [5, 5, 20])
    jax.tree.map(
        lambda ours, theirs: np.testing.assert_allclose(ours, theirs, atol=1e-6),
        found,
        expected,
    )
