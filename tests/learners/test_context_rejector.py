import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from l2d_jax import losses, optimizers
from l2d_jax.learners import context_rejector
from l2d_jax.learners.context_rejector import SURROGATES, softmax_loss
from l2d_jax.types import Batch, ModelFns

KEY = jax.random.key(0)


def batch_of(correct):
    correct = np.asarray(correct, np.float32)[:, None]
    return Batch(np.zeros((len(correct), 1)), np.zeros(len(correct), int))._replace(
        expert_correct=correct
    )


def test_softmax_loss_by_hand():
    outputs = np.float32([[0.0], [1.0]])
    found = softmax_loss(outputs, batch_of([1.0, 0.0]), {}, KEY)
    # 2 log 2 - 0, and log(1 + e).
    assert float(found) == pytest.approx((1.386294 + 1.313262) / 2, abs=1e-6)


@pytest.mark.parametrize("correct", [0.0, 0.3, 1.0])
def test_softmax_loss_is_that_of_a_given_classifier(correct):
    """The whole surrogate with the logs of its probabilities, less the label's."""
    probs = np.array([0.2, 0.5, 0.3])
    for logit in (-2.0, 0.0, 1.5):
        logits = np.append(np.log(probs), logit)
        whole = losses.deferral_cross_entropy(logits, 1, correct)
        alone = softmax_loss(np.float32([[logit]]), batch_of([correct]), {}, KEY)
        assert float(whole + np.log(0.5)) == pytest.approx(float(alone), abs=1e-5)


@pytest.mark.parametrize("surrogate", sorted(SURROGATES))
@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_population_minimiser_is_the_probability_of_being_right(surrogate, rate):
    batch_loss, interpret = SURROGATES[surrogate]
    batch = batch_of([rate])  # Linear in it: the mean over right and wrong.

    @jax.jit
    def risk(logit):
        return batch_loss(jnp.full((1, 1), logit), batch, {}, KEY)

    best = minimize_scalar(lambda logit: float(risk(logit)), bounds=(-6, 6))
    prob = interpret(jnp.full((1, 1), best.x), {})
    assert float(prob[0, 0]) == pytest.approx(rate, abs=0.01)


@pytest.mark.parametrize("surrogate", sorted(SURROGATES))
@pytest.mark.parametrize("logit", [-1e4, 0.0, 1e4])
def test_values_gradients_and_probabilities_are_finite(surrogate, logit):
    batch_loss, interpret = SURROGATES[surrogate]
    outputs = jnp.full((2, 1), logit)
    value, gradient = jax.value_and_grad(batch_loss)(
        outputs, batch_of([0.0, 1.0]), {}, KEY
    )
    assert np.isfinite(value) and np.isfinite(gradient).all()
    prob = interpret(outputs, {})
    assert ((prob >= 0) & (prob <= 1)).all()


@pytest.mark.parametrize("surrogate", sorted(SURROGATES))
def test_who_was_not_asked_has_no_term(surrogate):
    batch_loss, _ = SURROGATES[surrogate]
    outputs = np.float32([[0.3], [5.0]])
    both = batch_loss(outputs, batch_of([1.0, np.nan]), {}, KEY)
    alone = batch_loss(outputs[:1], batch_of([1.0]), {}, KEY)
    assert float(both) == pytest.approx(float(alone), abs=1e-6)


def test_an_unknown_surrogate():
    model = ModelFns(lambda *args: ({}, {}), lambda *args: (jnp.zeros((1, 1)), {}))
    with pytest.raises(ValueError, match="'asm'; choose one of"):
        context_rejector.make_learner(model, optimizers.make_adam(), surrogate="asm")
