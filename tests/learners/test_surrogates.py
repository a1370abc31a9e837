"""Every surrogate by one learner: it trains, decides, and heeds who was not asked."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from l2d_jax import metrics, models, optimizers
from l2d_jax.learners import surrogates
from l2d_jax.learners.surrogates import SURROGATES
from l2d_jax.types import Batch

pytestmark = pytest.mark.usefixtures("cheap_compiles")

HPARAMS = {
    "learning_rate": 0.03,
    "mix": 1.0,
    "q": 0.7,
    "price": 0.0,
    "expert_weight": 1.0,
}
MANY = (
    "one_vs_all",
    "multi_expert",
    "decoupled",
    "picce",
    "picce_one_vs_all",
    "mixture_of_experts",
)


def make_batch(num_experts):
    """Three classes; the first expert knows all where the second feature is > 0.

    The classifier can tell the label from the first feature elsewhere. Another expert
    guesses.
    """
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 3, 600).astype(np.int32)
    knows = generator.integers(0, 2, 600)
    noise = generator.normal(size=600)
    signal = np.where(knows == 1, noise, labels - 1 + 0.1 * noise)
    inputs = np.stack([signal, 2 * knows - 1, signal**2], axis=1).astype(np.float32)
    first = np.where(knows == 1, labels, (labels + 1) % 3)
    others = generator.integers(0, 3, (600, num_experts - 1))
    answers = np.column_stack([first, others]).astype(np.int32)
    return Batch(inputs, labels, answers), knows == 1


def fit(name, batch):
    row = SURROGATES[name]
    num_experts = batch.expert_labels.shape[1]
    model = models.mlp((32,), 3 + num_experts + row.extra_outputs)
    learner = surrogates.make_learner(
        model, optimizers.make_adam(), row, num_experts=num_experts
    )
    hparams = {key: jnp.float32(value) for key, value in HPARAMS.items()}

    @jax.jit
    def run(batch):
        state = learner.init(jax.random.key(0), hparams, batch)
        state, _ = jax.lax.scan(
            lambda state, _: (learner.update(state, hparams, batch)[0], None),
            state,
            length=300,
        )
        return learner.predict(state.variables, hparams, batch.inputs)

    return run(batch)


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "num_experts"),
    [(name, 1) for name in SURROGATES] + [(name, 2) for name in MANY],
)
def test_each_learns_whom_to_ask(name, num_experts):
    batch, knows = make_batch(num_experts)
    decision = fit(name, batch)
    asked = np.asarray(decision.allocation[:, 0]) == 1
    assert (asked == knows).mean() > 0.9
    accuracy = metrics.system_accuracy(decision, batch.labels, batch.expert_labels)
    # Half of the examples alone cannot be told by the classifier.
    assert accuracy > 0.95


@pytest.mark.long
@pytest.mark.parametrize("name", MANY)
def test_who_was_not_asked(name):
    """Where terms stand apart a missing answer has none; elsewhere the row has none."""
    row = SURROGATES[name]
    generator = np.random.default_rng(1)
    labels = generator.integers(0, 3, 12)
    answers = generator.integers(0, 3, (12, 2))
    missing = answers.copy()
    missing[:6, 1] = -1
    outputs = jnp.asarray(generator.normal(size=(12, 5 + row.extra_outputs)))
    hparams = {key: jnp.float32(value) for key, value in HPARAMS.items()}
    loss = surrogates.make_batch_loss(row)

    def of(answers, **changes):
        batch = Batch(np.zeros((12, 1)), labels, answers, **changes)
        return float(loss(outputs, batch, hparams, None))

    complete = of(answers, weights=np.arange(12) >= 6)
    if row.separable:
        assert of(missing) != pytest.approx(complete)
        first = of(missing, weights=np.arange(12) < 6)
        assert of(missing) == pytest.approx((first + complete) / 2, rel=1e-5)
    else:
        assert of(missing) == pytest.approx(complete, rel=1e-6)


def test_rows_are_complete():
    for name, row in SURROGATES.items():
        assert set(row.hparams) <= set(HPARAMS), name
