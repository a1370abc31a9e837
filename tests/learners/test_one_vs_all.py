"""One-vs-all: published values, the population minimiser, and who was not asked."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from l2d_jax import decisions, losses, optimizers
from l2d_jax.learners import surrogates
from l2d_jax.types import Batch, ModelFns

ONE = np.array([1.0, -0.5, 0.25, 0.7])
TWO = np.array([1.0, -0.5, 0.25, 0.7, -0.2])
BOTH = jax.value_and_grad(losses.one_vs_all_loss)


@pytest.mark.parametrize(
    ("logits", "label", "correct", "value"),
    [
        (ONE, 0, [1.0], 2.016464),
        (ONE, 0, [0.0], 2.716464),
        (ONE, 2, [1.0], 2.766464),
        (ONE, 2, [0.0], 3.466464),
        (TWO, 0, [1.0, 0.0], 2.614603),
        (TWO, 0, [1.0, 1.0], 2.814603),
        (TWO, 2, [0.0, 1.0], 4.264603),
        (TWO, 2, [0.0, 0.0], 4.064603),
    ],
)
def test_values(logits, label, correct, value):
    correct = np.array(correct)
    for wrap in (lambda f: f, jax.jit):
        assert wrap(losses.one_vs_all_loss)(logits, label, correct) == pytest.approx(
            value, abs=2e-6
        )


def test_an_imputed_probability_gives_the_mean():
    wrong, right, mean = (
        float(losses.one_vs_all_loss(ONE, 1, np.array([correct])))
        for correct in (0.0, 1.0, 0.3)
    )
    assert mean == pytest.approx(0.7 * wrong + 0.3 * right, abs=1e-6)


@pytest.mark.parametrize("not_asked", [np.nan, -1.0])
def test_who_was_not_asked_has_no_term(not_asked):
    value, gradient = BOTH(TWO, 2, np.array([0.0, not_asked]))
    alone, of_one = BOTH(ONE, 2, np.array([0.0]))
    assert value == alone
    np.testing.assert_array_equal(gradient, [*of_one, 0.0])


@pytest.mark.parametrize("scale", [0.0, 1.0, 1e4])
def test_value_and_gradient_are_finite(scale):
    signs = np.array([1.0, -1.0, 1.0, -1.0, 1.0], np.float32)
    for label in range(3):
        value, gradient = BOTH(scale * signs, label, np.array([1.0, 0.0]))
        assert np.isfinite(value) and np.isfinite(gradient).all()


def test_gradients():
    def loss(logits):
        return losses.one_vs_all_loss(logits, 1, jnp.array([0.25, 1.0]))

    check_grads(loss, (jnp.asarray(TWO),), order=1, modes=("rev",), rtol=1e-2)


def test_a_traced_label_out_of_range_is_nan():
    value, gradient = jax.jit(BOTH)(ONE, 3, np.array([1.0]))
    assert np.isnan(value) and np.isnan(gradient).all()


@pytest.mark.parametrize(
    ("logits", "label", "correct", "message"),
    [
        (ONE, 3, [1.0], r"label must be in \[0, K\) = \[0, 3\), got 3"),
        (ONE, 0, [1.5], "expert_correct must be at most 1, got 1.5"),
        (ONE[:3], 0, [1.0, 0.0], "K >= 2"),
        (ONE * np.nan, 0, [1.0], "logits must be finite"),
    ],
)
def test_bad_values_are_named(logits, label, correct, message):
    with pytest.raises(ValueError, match=message):
        losses.one_vs_all_loss(logits, label, np.array(correct))


def minimise(class_probs, patterns):
    """Logits of least mean loss, where whole patterns of correctness have a chance.

    ``patterns`` gives, for each label, the experts' correctness and its probability.
    """
    cases = [
        (label, np.array(correct, float), class_probs[label] * chance)
        for label, of_label in enumerate(patterns)
        for correct, chance in of_label
    ]

    @jax.jit
    def descend(logits):
        def risk(logits):
            return sum(
                chance * losses.one_vs_all_loss(logits, label, correct)
                for label, correct, chance in cases
            )

        return jax.lax.fori_loop(
            0, 2000, lambda _, g: g - 1.0 * jax.grad(risk)(g), logits
        )

    num_experts = len(cases[0][1])
    return descend(jnp.zeros(len(class_probs) + num_experts))


def test_minimiser_with_a_stochastic_expert():
    """An expert right on .6 of the examples, whatever the label: asked."""
    logits = minimise([0.5, 0.3, 0.2], 3 * [[([1], 0.6), ([0], 0.4)]])
    np.testing.assert_allclose(jax.nn.sigmoid(logits), [0.5, 0.3, 0.2, 0.6], atol=1e-3)
    decision = decisions.one_vs_all_decision(logits[None], 1)
    np.testing.assert_allclose(decision.expert_correct_prob, [[0.6]], atol=1e-3)
    np.testing.assert_allclose(decision.class_probs, [[0.5, 0.3, 0.2]], atol=1e-3)
    np.testing.assert_array_equal(decision.allocation, [[1.0, 0.0]])


def test_minimiser_with_dependent_experts():
    """Two who are right together; the second is better, and less so than label 0."""
    right = [([1, 1], 0.3), ([0, 1], 0.2), ([0, 0], 0.5)]
    logits = minimise([0.55, 0.45], [right, right])
    np.testing.assert_allclose(
        jax.nn.sigmoid(logits), [0.55, 0.45, 0.3, 0.5], atol=1e-3
    )
    decision = decisions.one_vs_all_decision(logits[None], 2)
    np.testing.assert_array_equal(decision.allocation, [[0.0, 0.0, 1.0]])


def test_the_learner_finds_the_frequencies():
    """A free table of logits: the frequencies of each cell, over the answers given."""
    labels = np.array([0] * 10 + [1] * 30 + [1] * 40, np.int32)
    answers = np.stack([labels, 1 - labels], axis=1)
    answers[:20, 0] = 1 - answers[:20, 0]  # Right on half of cell 0 and on cell 1.
    answers[40:60, 1] = labels[40:60]  # Wrong on cell 0, right on half of cell 1.
    answers[60:, 1] = -1  # Who is not asked is neither.
    cells = np.repeat(np.eye(2, dtype=np.float32), 40, axis=0)
    table = ModelFns(
        lambda key, inputs: ({"w": jnp.zeros((2, 4))}, {}),
        lambda params, state, inputs, train: (inputs @ params["w"], state),
    )
    learner = surrogates.make_learner(
        table,
        optimizers.make_adam(),
        surrogates.SURROGATES["one_vs_all"],
        num_experts=2,
    )
    hparams = {"learning_rate": jnp.float32(0.1)}
    batch = Batch(cells, labels, answers)

    @jax.jit
    def fit(batch):
        state = learner.init(jax.random.key(0), hparams, batch)
        state, _ = jax.lax.scan(
            lambda state, _: (learner.update(state, hparams, batch)[0], None),
            state,
            length=600,
        )
        return learner.predict(state.variables, hparams, jnp.eye(2))

    decision = fit(batch)
    np.testing.assert_allclose(decision.class_probs, [[0.25, 0.75], [0, 1]], atol=0.02)
    np.testing.assert_allclose(
        decision.expert_correct_prob, [[0.5, 0.0], [1.0, 1.0]], atol=0.02
    )
