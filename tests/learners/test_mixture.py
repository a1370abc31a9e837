"""The gate of Madras et al. on data whose best rule is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from l2d_jax import (
    decisions,
    metrics,
    models,
    optimizers,
    relaxations,
)
from l2d_jax.data import synthetic
from l2d_jax.learners import mixture
from l2d_jax.types import Batch

pytestmark = pytest.mark.usefixtures("cheap_compiles")

KEY = jax.random.key(3)
BATCH_LOSS = jax.jit(mixture.make_batch_loss())
HPARAMS = {"cost": jnp.array(0.0), "learning_rate": jnp.array(0.05)}


def make_batch():
    """The first input tells the label where the second is > 0, the expert elsewhere."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 2, 400).astype(np.int32)
    inputs = generator.normal(size=(400, 2)).astype(np.float32)
    inputs[:, 0] = np.where(inputs[:, 1] > 0, 2.0 * labels - 1, 0.0)
    right = np.where(inputs[:, 1] > 0, 0.5, 0.95)
    prob = np.where(labels == 1, right, 1 - right).astype(np.float32)
    probs = np.stack([1 - prob, prob], axis=-1)[:, None]
    return Batch(inputs, labels, expert_probs=probs)


def defers(decision):
    return np.asarray(decision.allocation)[:, 0] == 1


def test_loss_by_hand():
    # Classifier logit log 3: p(1) = 3/4. Defer logit 0: half the weight on each.
    outputs = jnp.array([[jnp.log(3.0), 0.0], [jnp.log(3.0), 0.0]])
    expert = np.array([[[0.5, 0.5]], [[0.8, 0.2]]], np.float32)
    batch = Batch(np.zeros((2, 1), np.float32), np.array([1, 0]), expert_probs=expert)
    loss = mixture.make_batch_loss()(outputs, batch, {"cost": jnp.array(0.2)}, KEY)
    first = 0.5 * -np.log(0.75) + 0.5 * (-np.log(0.5) + 0.2)
    second = 0.5 * -np.log(0.25) + 0.5 * (-np.log(0.8) + 0.2)
    np.testing.assert_allclose(loss, (first + second) / 2, rtol=1e-6, atol=1e-7)


def test_weights_of_zero_are_left_out():
    batch = make_batch()
    outputs = jax.random.normal(jax.random.key(0), (400, 2))
    kept = np.arange(400) < 100
    weighted = batch._replace(weights=kept.astype(np.float32))
    alone = jax.tree.map(lambda leaf: leaf[kept], batch)
    np.testing.assert_allclose(
        BATCH_LOSS(outputs, weighted, HPARAMS, KEY),
        BATCH_LOSS(outputs[kept], alone, HPARAMS, KEY),
        rtol=1e-5,
        atol=1e-6,
    )


def test_it_learns_who_is_right():
    batch = make_batch()
    learner = mixture.make_learner(models.gated_pair(8), optimizers.make_adam())
    state = learner.init(jax.random.key(0), HPARAMS, batch)

    @jax.jit
    def train(state):
        return jax.lax.scan(
            lambda state, _: (learner.update(state, HPARAMS, batch)[0], None),
            state,
            length=600,
        )[0]

    decision = learner.predict(train(state).variables, HPARAMS, batch.inputs)
    own = np.asarray(batch.inputs[:, 1] > 0)
    np.testing.assert_array_less(0.95, np.mean(defers(decision) != own))
    right = np.asarray(decisions.prediction(decision)) == batch.labels
    assert right[own].mean() > 0.98
    assert np.isnan(decision.expert_correct_prob).all()


def random_case(seed=0, size=40):
    """Outputs and a batch with everything that the two losses read."""
    generator = np.random.default_rng(seed)
    labels, groups = generator.integers(0, 2, (2, size)).astype(np.int32)
    prob = generator.uniform(0.05, 0.95, size).astype(np.float32)
    batch = Batch(
        np.zeros((size, 1), np.float32),
        labels,
        groups=groups,
        expert_probs=np.stack([1 - prob, prob], axis=-1)[:, None],
    )
    return jnp.asarray(2 * generator.normal(size=(size, 2)), jnp.float32), batch


def hparams(cost=0.15, fairness=0.4, smoothing=0.1):
    values = {"cost": cost, "fairness": fairness, "smoothing": smoothing}
    return {name: jnp.float32(value) for name, value in values.items()}


def oracle(objective, outputs, gate, relaxed_gate, batch, cost, fairness):
    """Eqs. 9 to 12 of Madras et al. in float64; gates weigh the loss and the mix."""

    def cross_entropy(prob):
        return -np.where(batch.labels == 1, np.log(prob), np.log(1 - prob))

    prob = 1 / (1 + np.exp(-np.float64(outputs[:, 0])))
    expert = np.float64(batch.expert_probs[:, 0, 1])
    passed = cross_entropy(expert) if objective == "defer" else 0.0
    loss = (1 - gate) * cross_entropy(prob) + gate * (passed + cost)
    if objective == "defer":
        prob = (1 - relaxed_gate) * prob + relaxed_gate * expert
    gaps = []
    for label in (0, 1):
        cells = [(batch.labels == label) & (batch.groups == a) for a in (0, 1)]
        miss = [np.abs(prob - label)[cell].mean() for cell in cells]
        gaps.append(abs(miss[0] - miss[1]))
    return loss.mean() + fairness * 0.5 * sum(gaps)


@pytest.mark.long
@pytest.mark.parametrize("objective", mixture.OBJECTIVES)
@pytest.mark.parametrize("fairness", [0.4, -0.1])
def test_losses_agree_with_the_oracle(objective, fairness):
    outputs, batch = random_case()
    prob = 1 / (1 + np.exp(-np.float64(outputs[:, 1])))
    sample = relaxations.sample_binary_concrete(KEY, outputs[:, 1], 0.7)
    sample = np.float64(sample)
    for regularized, sampled in ((False, False), (True, False), (True, True)):
        loss_fn = mixture.make_batch_loss(
            objective, regularized=regularized, sampled=sampled, temperature=0.7
        )
        for wrap in (lambda f: f, jax.jit):
            np.testing.assert_allclose(
                wrap(loss_fn)(outputs, batch, hparams(fairness=fairness), KEY),
                oracle(
                    objective,
                    outputs,
                    sample if sampled else prob,
                    sample,
                    batch,
                    0.15,
                    fairness if regularized else 0.0,
                ),
                rtol=1e-5,
                atol=1e-6,
            )


@pytest.mark.parametrize("objective", mixture.OBJECTIVES)
@pytest.mark.parametrize("regularized", [False, True])
def test_score_of_a_decision_is_minus_the_loss_of_its_outputs(objective, regularized):
    outputs, batch = random_case(1)
    prob = 1 / (1 + np.exp(-np.float64(outputs[:, 1])))
    decision = mixture.decide(outputs, {})
    score = mixture.loss_score(objective, regularized=regularized)
    expected = oracle(
        objective, outputs, prob, prob, batch, 0.15, 0.4 if regularized else 0.0
    )
    np.testing.assert_allclose(
        score(decision, batch, hparams()), -expected, rtol=1e-5, atol=1e-6
    )


def test_score_at_large_logits():
    """Likelihoods keep their digits where a probability is near 0 or near 1."""
    labels = np.array([1, 1, 0, 0], np.int32)
    outputs = jnp.array([[-60.0, -1e4], [20.0, -1e4], [60.0, -1e4], [-20.0, -1e4]])
    half = np.full((4, 1, 2), 0.5, np.float32)
    batch = Batch(np.zeros((4, 1)), labels, expert_probs=half)
    score = mixture.loss_score("defer")
    for row, expected in enumerate((60.0, np.exp(-20.0), 60.0, np.exp(-20.0))):
        alone = jax.tree.map(lambda leaf, row=row: leaf[row : row + 1], batch)
        ours = score(mixture.decide(outputs[row : row + 1], {}), alone, hparams())
        np.testing.assert_allclose(ours, -expected, rtol=1e-4, atol=0)


@pytest.mark.long
@pytest.mark.parametrize("objective", mixture.OBJECTIVES)
@pytest.mark.parametrize("sampled", [False, True])
def test_finite_at_extreme_logits_and_certain_experts(objective, sampled):
    signs = np.array([[a, b] for a in (-1, 1) for b in (-1, 1)] * 8, np.float32)
    certain = np.repeat([0.0, 1.0], 16).astype(np.float32)
    labels = np.tile(np.repeat([0, 1], 4), 4).astype(np.int32)
    groups = np.tile(np.repeat([0, 1], 8), 2).astype(np.int32)
    expert = np.stack([1 - certain, certain], axis=-1)[:, None]
    inputs = np.zeros((32, 1), np.float32)
    batch = Batch(inputs, labels, groups=groups, expert_probs=expert)
    loss_fn = mixture.make_batch_loss(objective, regularized=True, sampled=sampled)
    loss, slope = jax.jit(jax.value_and_grad(loss_fn))(
        1e4 * signs, batch, hparams(), KEY
    )
    assert np.isfinite(loss)
    assert np.isfinite(slope).all()
    score = mixture.loss_score(objective, regularized=True)
    assert np.isfinite(score(mixture.decide(1e4 * signs, {}), batch, hparams()))


def test_a_constant_expert_makes_deferring_rejecting():
    """The paper's theorem: an expert of constant loss c only adds c to the price."""
    outputs, batch = random_case(2, 200)
    of_defer, of_reject = (
        jax.jit(jax.value_and_grad(mixture.make_batch_loss(objective)))
        for objective in ("defer", "reject")
    )
    for right, cost in ((0.9, 0.1), (0.5, 0.3), (1.0, 0.0), (0.7, -0.2)):
        prob = np.where(np.eye(2)[batch.labels] == 1, right, 1 - right)
        constant = batch._replace(expert_probs=prob[:, None].astype(np.float32))
        defer, defer_slope = of_defer(outputs, constant, hparams(cost), KEY)
        reject, reject_slope = of_reject(
            outputs, batch, hparams(cost - np.log(right)), KEY
        )
        np.testing.assert_allclose(defer, reject, rtol=0, atol=1e-6)
        np.testing.assert_allclose(defer_slope, reject_slope, rtol=0, atol=1e-6)


@pytest.mark.parametrize("objective", mixture.OBJECTIVES)
def test_fairness_zero_is_not_regularized(objective):
    outputs, batch = random_case(3)
    (plain, slope), ours = (
        jax.jit(
            jax.value_and_grad(mixture.make_batch_loss(objective, regularized=fair))
        )(outputs, batch, hparams(fairness=0.0), KEY)
        for fair in (False, True)
    )
    np.testing.assert_allclose(ours[0], plain, rtol=1e-6, atol=0)
    np.testing.assert_allclose(ours[1], slope, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("objective", mixture.OBJECTIVES)
def test_a_group_that_never_occurs_adds_nothing(objective):
    outputs, batch = random_case(4)
    alone = batch._replace(groups=np.zeros_like(batch.groups))
    loss_fn = mixture.make_batch_loss(objective, regularized=True)
    ours, slope = jax.jit(jax.value_and_grad(loss_fn))(outputs, alone, hparams(), KEY)
    plain = mixture.make_batch_loss(objective)(outputs, batch, hparams(), KEY)
    np.testing.assert_allclose(ours, plain, rtol=1e-6, atol=0)
    assert np.isfinite(slope).all()


def test_the_sampled_loss_is_the_closed_form_of_cold_samples_in_the_mean():
    """As the temperature falls, a sample is a Bernoulli draw."""
    outputs, batch = random_case(5, 2000)
    cold = mixture.make_batch_loss(sampled=True, temperature=0.01)
    keys = jax.random.split(KEY, 50)
    mean = jax.jit(
        lambda keys: jax.vmap(cold, (None, None, None, 0))(
            outputs, batch, hparams(), keys
        )
    )(keys)
    exact = BATCH_LOSS(outputs, batch, hparams(), KEY)
    np.testing.assert_allclose(mean.mean(), exact, rtol=0, atol=0.01)
    assert mean.std() > 1e-3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"objective": "pass"}, "objective must be one of reject, defer, got 'pass'"),
        ({"temperature": 0.0}, "temperature must be > 0, got 0"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        mixture.make_learner(models.gated_pair(2), optimizers.make_adam(), **arguments)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"groups": None}, r"batch\.groups is None"),
        ({"expert_probs": None}, r"batch\.expert_labels is None"),
        (
            {"expert_probs": np.zeros((40, 2))},
            r"\[B, 1, K\] with K = 2, got shape \(40, 2\)",
        ),
    ],
)
def test_a_batch_that_lacks_a_field(change, message):
    outputs, batch = random_case()
    batch = batch._replace(**change)
    with pytest.raises(ValueError, match=message):
        mixture.make_batch_loss(regularized=True)(outputs, batch, hparams(), KEY)
    with pytest.raises(ValueError, match=message):
        mixture.loss_score(regularized=True)(
            mixture.decide(outputs, {}), batch, hparams()
        )


# Answers in place of probabilities, and more than two classes.


def class_case(num_classes=4, size=60):
    generator = np.random.default_rng(num_classes)
    batch = Batch(
        np.zeros((size, 1), np.float32),
        generator.integers(0, num_classes, size).astype(np.int32),
        generator.integers(-1, num_classes, (size, 1)).astype(np.int32),
        weights=generator.uniform(0.5, 2, size).astype(np.float32),
    )
    outputs = 2 * generator.normal(size=(size, num_classes + 1))
    return jnp.asarray(outputs, jnp.float32), batch


def class_oracle(outputs, batch, cost, smoothing):
    """In float64; where nothing is known of the expert there is no loss."""
    logits = np.float64(outputs)
    num_classes = logits.shape[1] - 1
    rows = np.arange(len(logits))
    log_probs = logits[:, :-1] - np.log(np.exp(logits[:, :-1]).sum(1, keepdims=True))
    own = -log_probs[rows, batch.labels]
    gate = 1 / (1 + np.exp(-logits[:, -1]))
    if batch.expert_probs is not None:
        prob, known = np.float64(batch.expert_probs[rows, 0, batch.labels]), 1
    else:
        wrong = smoothing / (num_classes - 1)
        if batch.expert_correct is not None:
            right, known = np.float64(batch.expert_correct[:, 0]), 1
        else:
            right = batch.expert_labels[:, 0] == batch.labels
            known = batch.expert_labels[:, 0] >= 0
        prob = right * (1 - smoothing) + (1 - right) * wrong
    loss = (1 - gate) * own + gate * (cost - np.log(prob))
    return np.average(loss, weights=batch.weights * known)


@pytest.mark.parametrize("num_classes", [2, 4])
@pytest.mark.parametrize("of_expert", ["answers", "imputed", "probabilities"])
def test_losses_of_classes_agree_with_the_oracle(num_classes, of_expert):
    """Two classes have two logits here, not one."""
    outputs, batch = class_case(num_classes)
    generator = np.random.default_rng(7)
    if of_expert == "imputed":
        correct = generator.uniform(size=(60, 1)).astype(np.float32)
        batch = batch._replace(expert_correct=correct)
    if of_expert == "probabilities":
        probs = generator.dirichlet(np.ones(num_classes), (60, 1)).astype(np.float32)
        batch = batch._replace(expert_probs=probs)
    score = jax.jit(mixture.loss_score())
    for smoothing in (0.1, 0.4):
        expected = class_oracle(outputs, batch, 0.15, smoothing)
        values = hparams(smoothing=smoothing)
        loss = BATCH_LOSS(outputs, batch, values, KEY)
        np.testing.assert_allclose(loss, expected, rtol=1e-5, atol=1e-6)
        of_decision = score(mixture.decide(outputs, {}), batch, values)
        np.testing.assert_allclose(of_decision, -expected, rtol=1e-5, atol=1e-6)


def test_one_logit_is_two_of_which_one_is_0():
    outputs, batch = class_case(2)
    one = jnp.stack([outputs[:, 1] - outputs[:, 0], outputs[:, 2]], axis=1)
    ours, theirs = (BATCH_LOSS(x, batch, hparams(), KEY) for x in (outputs, one))
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    for a, b in zip(mixture.decide(outputs, {}), mixture.decide(one, {}), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_an_answer_that_was_not_asked_for_is_no_answer():
    outputs, batch = class_case()
    asked = batch.expert_labels[:, 0] >= 0
    assert 0 < asked.sum() < 60
    alone = jax.tree.map(lambda leaf: leaf[asked], batch)
    np.testing.assert_allclose(
        BATCH_LOSS(outputs, batch, hparams(), KEY),
        BATCH_LOSS(outputs[asked], alone, hparams(), KEY),
        rtol=1e-5,
        atol=1e-6,
    )


def train(learner, batch, hparams, num_steps):
    @jax.jit
    def run(batch, hparams):
        return jax.lax.scan(
            lambda state, _: (learner.update(state, hparams, batch)[0], None),
            learner.init(jax.random.key(0), hparams, batch),
            length=num_steps,
        )[0]

    return run(batch, hparams).variables


@pytest.mark.long
@pytest.mark.parametrize(
    ("scenario", "options"),
    [
        ("accurate", {}),
        ("inconsistent", {}),
        ("inconsistent", {"sampled": True}),
        ("inconsistent", {"regularized": True}),
    ],
)
def test_the_best_rule_of_the_synthetic_people_is_found(scenario, options):
    """At a price: without one, half of the inconsistent expert's cases stay stuck.

    A classifier that leaves the hidden side to the expert never learns how unsure it
    should be there. It is then worse than an expert who is worse than it could be.
    """
    table = synthetic.make_synthetic(scenario, seed=1)
    learner = mixture.make_learner(
        models.gated_pair(5), optimizers.make_adam(), **options
    )
    values = {"cost": 0.1, "fairness": 0.02, "learning_rate": 0.05}
    values = {name: jnp.float32(value) for name, value in values.items()}
    variables = train(learner, table.train, values, 500)
    decision = learner.predict(variables, values, table.test.inputs)
    best = synthetic.best_deferral(table.test.inputs, scenario)
    assert np.mean(defers(decision) == best) > 0.9
    reached = metrics.system_accuracy(
        decision, table.test.labels, table.test.expert_labels
    )
    # Within three standard errors of 1200 test examples.
    assert reached > synthetic.best_accuracy(scenario) - 0.027
