"""Bayes by backprop: the bound, the prediction, and what a posterior should know."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from l2d_jax import decisions, models, optimizers
from l2d_jax.learners import bayesian, classifier
from l2d_jax.types import Batch, ModelFns, Variables

pytestmark = pytest.mark.usefixtures("cheap_compiles")

KEY = jax.random.key(0)
DECIDE = jax.jit(bayesian.decide)


def linear_model():
    def init(key, inputs):
        return {"w": 0.1 * jax.random.normal(key, (inputs.shape[-1],))}, {}

    def apply(params, model_state, inputs, train):
        del train
        return (inputs @ params["w"])[:, None], model_state

    return ModelFns(init, apply)


def test_prior_divergence_by_hand():
    # Deviations 1 and 2 against a prior of 2: log 2 + (1 + 9)/8 - 1/2, and 4/8.
    deviations = np.log(np.expm1(np.float32([1.0, 2.0])))
    params = {
        "mean": {"a": jnp.array([3.0]), "b": jnp.array([2.0])},
        "raw_deviation": {"a": deviations[:1], "b": deviations[1:]},
    }
    ours = bayesian.prior_divergence(params, 2.0)
    np.testing.assert_allclose(ours, np.log(2) + 10 / 8 - 0.5 + 0.5, rtol=1e-6, atol=0)


def test_prior_divergence_is_0_at_the_prior_alone():
    mean, raw = jnp.zeros(3), jnp.full(3, np.log(np.expm1(0.7)), jnp.float32)
    value, slope = jax.value_and_grad(bayesian.prior_divergence)(
        {"mean": mean, "raw_deviation": raw}, 0.7
    )
    np.testing.assert_allclose(value, 0.0, rtol=0, atol=1e-6)
    for leaf in jax.tree.leaves(slope):
        np.testing.assert_allclose(leaf, 0.0, rtol=0, atol=1e-6)
    moved = {"mean": mean + 0.1, "raw_deviation": raw + 0.1}
    assert bayesian.prior_divergence(moved, 0.7) > 1e-3


def test_prior_divergence_at_extreme_parameters():
    params = {"mean": jnp.array([1e4]), "raw_deviation": jnp.array([-1e4])}
    value, slope = jax.value_and_grad(bayesian.prior_divergence)(params, 1.0)
    assert np.isfinite(value)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slope))


def test_decide_by_hand():
    # Probabilities .6 and .8: mean .7, deviation .1414, ratio 1.4142.
    probs = np.array([[0.6, 0.2], [0.8, 0.9]])
    logits = jnp.asarray(np.log(probs / (1 - probs)), jnp.float32)
    for decide in (bayesian.decide, DECIDE):
        decision = decide(logits)
        np.testing.assert_allclose(
            decision.class_probs[:, 1], [0.7, 0.55], rtol=1e-5, atol=0
        )
        # Of the other, mean .55 and deviation .495: the noise exceeds the signal.
        passing = jax.nn.sigmoid(decision.defer_score[:, 0])
        expected = 1 / (1 + np.array([0.2 / np.sqrt(0.02), 0.05 / np.sqrt(0.245)]))
        np.testing.assert_allclose(passing, expected, rtol=1e-4, atol=0)
        np.testing.assert_array_equal(decision.allocation, [[0, 1], [1, 0]])
        np.testing.assert_array_equal(decisions.prediction(decision), [1, 1])
        assert np.isnan(decision.expert_correct_prob).all()


def test_decide_agrees_with_the_oracle_and_swaps_labels():
    logits = np.random.default_rng(0).normal(size=(7, 30)).astype(np.float32)
    probs = 1 / (1 + np.exp(-np.float64(logits)))
    mean, noise = probs.mean(0), probs.std(0, ddof=1)
    decision, swapped = DECIDE(logits), DECIDE(-logits)
    np.testing.assert_allclose(decision.class_probs[:, 1], mean, rtol=1e-5, atol=1e-6)
    expected = 1 / (1 + np.exp(-np.log(noise / np.abs(mean - 0.5))))
    passing = jax.nn.sigmoid(decision.defer_score[:, 0])
    np.testing.assert_allclose(passing, expected, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(
        decision.defer_score, swapped.defer_score, rtol=1e-3, atol=1e-3
    )
    np.testing.assert_allclose(
        decision.class_probs, swapped.class_probs[:, ::-1], rtol=1e-5, atol=1e-6
    )


def test_decide_without_noise_or_signal():
    # Sure; at 1/2 without noise; as unsure as can be.
    logits = jnp.array([[1e4, 0.0, 1e4], [1e4, 0.0, -1e4]])
    decision = DECIDE(logits)
    assert np.isfinite(decision.defer_score).all()
    np.testing.assert_array_equal(decision.allocation, [[0, 1], [0, 1], [1, 0]])
    np.testing.assert_allclose(decision.class_probs.sum(1), 1.0, rtol=1e-6, atol=0)


def test_an_update_descends_the_bound():
    generator = np.random.default_rng(0)
    inputs = generator.normal(size=(6, 2)).astype(np.float32)
    labels = np.array([0, 1, 1, 0, 1, 0], np.int32)
    groups = np.array([0, 0, 0, 1, 1, 1], np.int32)
    batch = Batch(inputs, labels, groups=groups)
    hparams = {"learning_rate": jnp.float32(1.0), "fairness": jnp.float32(0.3)}
    learner = bayesian.make_learner(
        linear_model(),
        optimizers.make_sgd(1000, momentum=0.0),
        num_examples=50,
        prior_deviation=0.5,
        regularized=True,
    )
    hparams["weight_decay"] = jnp.float32(0.0)
    state = learner.init(KEY, hparams, batch)
    after, metrics = jax.jit(learner.update)(state, hparams, batch)
    assert after.step == 1

    # The bound by its definition in float64, under the noise of this step.
    noise = jax.random.normal(jax.random.fold_in(state.key, 0), (2,))

    def bound(mean, raw):
        deviation = np.log1p(np.exp(raw))
        probs = 1 / (1 + np.exp(-inputs @ (mean + deviation * np.float64(noise))))
        nll = -np.log(np.where(labels == 1, probs, 1 - probs)).mean()
        divergence = np.sum(
            np.log(0.5 / deviation) + (deviation**2 + mean**2) / 0.5 - 0.5
        )
        miss = np.abs(probs - labels)
        gaps = [
            miss[(labels == y) & (groups == 0)].mean()
            - miss[(labels == y) & (groups == 1)].mean()
            for y in (0, 1)
        ]
        return nll + divergence / 50 + 0.3 * 0.5 * np.abs(gaps).sum()

    before = jax.tree.map(
        lambda leaf: np.float64(leaf["w"]),
        state.variables.params,
        is_leaf=lambda node: "w" in node,
    )
    point = [before["mean"], before["raw_deviation"]]
    np.testing.assert_allclose(metrics["loss"], bound(*point), rtol=1e-5, atol=1e-6)
    for part, name in enumerate(("mean", "raw_deviation")):
        step = before[name] - np.float64(after.variables.params[name]["w"])
        for entry in range(2):
            shifted = [[leaf.copy() for leaf in point] for _ in range(2)]
            shifted[0][part][entry] -= 1e-5
            shifted[1][part][entry] += 1e-5
            slope = (bound(*shifted[1]) - bound(*shifted[0])) / 2e-5
            np.testing.assert_allclose(step[entry], slope, rtol=1e-3, atol=1e-5)


def test_each_step_has_its_own_noise():
    batch = Batch(np.ones((2, 2), np.float32), np.array([0, 1], np.int32))
    learner = bayesian.make_learner(
        linear_model(), optimizers.make_adam(), num_examples=2
    )
    hparams = {"learning_rate": jnp.float32(0.0)}
    update = jax.jit(learner.update)
    state = learner.init(KEY, hparams, batch)
    state, first = update(state, hparams, batch)
    again, second = update(state, hparams, batch)
    assert first["loss"] != second["loss"]
    _, repeated = update(again._replace(step=state.step), hparams, batch)
    assert repeated["loss"] == second["loss"]


def fit(batch, hparams, num_steps=600, **options):
    learner = bayesian.make_learner(
        models.mlp((8,), 1, "tanh"),
        optimizers.make_adam(),
        num_examples=len(batch.labels),
        **options,
    )

    @jax.jit
    def run(batch, hparams):
        return jax.lax.scan(
            lambda state, _: (learner.update(state, hparams, batch)[0], None),
            learner.init(KEY, hparams, batch),
            length=num_steps,
        )[0]

    return learner, run(batch, hparams).variables


@pytest.mark.long
def test_it_classifies_and_is_less_sure_where_classes_meet():
    generator = np.random.default_rng(0)
    inputs = generator.normal(size=(300, 2)).astype(np.float32)
    labels = (inputs[:, 0] > 0).astype(np.int32)
    batch = Batch(inputs, labels)
    hparams = {"learning_rate": jnp.float32(0.03)}
    learner, variables = fit(batch, hparams)
    predict = jax.jit(learner.predict)
    decision = predict(variables, hparams, inputs)
    assert np.mean(decisions.prediction(decision) == labels) > 0.95
    score = classifier.loss_score()(decision.class_probs, batch, hparams)
    assert score > -0.2
    passing = np.asarray(decision.defer_score)[:, 0]
    distance = np.abs(inputs[:, 0])
    assert passing[distance < 0.2].mean() > passing[distance > 1].mean() + 1
    # A prediction does not depend on the others of its batch.
    part = predict(variables, hparams, inputs[10:13])
    np.testing.assert_allclose(
        part.defer_score, decision.defer_score[10:13], rtol=1e-4, atol=1e-4
    )
    # Weights without noise: all samples agree.
    params = {
        "mean": variables.params["mean"],
        "raw_deviation": jax.tree.map(
            lambda leaf: jnp.full_like(leaf, -1e4), variables.params["raw_deviation"]
        ),
    }
    certain = predict(Variables(params, {}), hparams, inputs)
    assert (certain.defer_score < -10).mean() > 0.99


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_examples": 0}, "num_examples must be at least 1, got 0"),
        ({"num_samples": 1}, "num_samples must be at least 2, got 1"),
        ({"prior_deviation": 0.0}, "prior_deviation must be > 0, got 0"),
    ],
)
def test_wrong_arguments(options, message):
    arguments = {"num_examples": 5} | options
    with pytest.raises(ValueError, match=message):
        bayesian.make_learner(linear_model(), optimizers.make_adam(), **arguments)


def test_wrong_models_and_samples():
    with pytest.raises(ValueError, match=r"\[J, B\] with at least 2 samples.*\(3,\)"):
        bayesian.decide(jnp.zeros(3))
    model = linear_model()._replace(
        init=lambda key, inputs: ({"w": jnp.zeros(2)}, {"statistics": jnp.zeros(1)})
    )
    learner = bayesian.make_learner(model, optimizers.make_adam(), num_examples=1)
    batch = Batch(np.ones((2, 2), np.float32), np.array([0, 1], np.int32))
    with pytest.raises(ValueError, match="model keeps a model_state"):
        learner.init(KEY, {"learning_rate": jnp.float32(0.1)}, batch)
