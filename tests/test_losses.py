import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from l2d_jax import losses

ROOT = Path(__file__).parents[1]
LOG2 = np.log(2.0)

# Float64 NumPy oracles, in the form in which the papers print them.


def softmax(logits):
    exps = np.exp(np.asarray(logits, np.float64))
    return exps / exps.sum()


def sigmoid(x):
    return 1 / (1 + np.exp(-np.float64(x)))


def bernoulli_nll(prob, target):
    return -target * np.log(prob) - (1 - target) * np.log(1 - prob)


def oracle_deferral(logits, label, expert_correct, alpha):
    p, c = softmax(logits), np.float64(expert_correct)
    return -c * np.log(p[-1]) - (alpha * c + 1 - c) * np.log(p[label])


def oracle_cost_sensitive(logits, costs):
    costs = np.asarray(costs, np.float64)
    return -np.sum((costs.max() - costs) * np.log(softmax(logits)))


def oracle_classification(logits, label):
    return -np.log(softmax(logits)[label])


def oracle_correctness(logit, expert_correct):
    return bernoulli_nll(sigmoid(logit), np.float64(expert_correct))


def oracle_mixture(classifier_nll, expert_nll, defer_prob, cost):
    pi = np.float64(defer_prob)
    return (1 - pi) * classifier_nll + pi * expert_nll + cost * pi


def oracle_rejection(classifier_nll, defer_prob, cost):
    pi = np.float64(defer_prob)
    return (1 - pi) * classifier_nll + pi * cost


def oracle_allocation(weights, expert_labels, label):
    q = np.dot(np.asarray(weights, np.float64), expert_labels)
    return bernoulli_nll(sigmoid(2 * q - 1), label)


def oracle_allocation_uncentered(weights, expert_labels, label):
    q = np.dot(np.asarray(weights, np.float64), expert_labels)
    return bernoulli_nll(sigmoid(q), label)


def oracle_vote(votes, label):
    return -np.log(softmax(votes)[label])


def allocation_uncentered(weights, expert_labels, label):
    return losses.allocation_log_loss(weights, expert_labels, label, centered=False)


def batch_of(name, num_rows=4):
    """Arguments of a loss with a leading batch axis, fixed by the name's length."""
    rng = np.random.default_rng(len(name))

    def floats(*shape):
        return rng.normal(size=(num_rows, *shape)).astype(np.float32)

    def units(*shape):
        return rng.uniform(size=(num_rows, *shape)).astype(np.float32)

    def classes(count):
        return rng.integers(count, size=num_rows)

    if name == "deferral":
        return 3 * floats(5), classes(4), units(), 2 * units()
    if name == "cost-sensitive":
        return 3 * floats(5), 4 * floats(5)
    if name == "classification":
        return 3 * floats(4), classes(4)
    if name == "correctness":
        return 3 * floats(), units()
    if name == "mixture":
        return 3 * units(), 3 * units(), units(), floats()
    if name == "rejection":
        return 3 * units(), units(), floats()
    if name == "vote":
        shares = units(4)
        return shares / shares.sum(1, keepdims=True), classes(4)
    return units(3), units(3), classes(2)


CASES = {
    "deferral": (losses.deferral_cross_entropy, oracle_deferral),
    "cost-sensitive": (losses.cost_sensitive_cross_entropy, oracle_cost_sensitive),
    "classification": (losses.classification_cross_entropy, oracle_classification),
    "correctness": (losses.expert_correctness_nll, oracle_correctness),
    "mixture": (losses.mixture_nll, oracle_mixture),
    "rejection": (losses.rejection_nll, oracle_rejection),
    "allocation": (losses.allocation_log_loss, oracle_allocation),
    "uncentered": (allocation_uncentered, oracle_allocation_uncentered),
    "vote": (losses.vote_log_loss, oracle_vote),
}


@pytest.mark.parametrize("name", CASES)
def test_agrees_with_the_oracle(name):
    loss, oracle = CASES[name]
    batch = batch_of(name)
    expected = [oracle(*row) for row in zip(*batch, strict=True)]
    eager = [loss(*row) for row in zip(*batch, strict=True)]
    assert all(value.shape == () for value in eager)
    np.testing.assert_allclose(eager, expected, rtol=2e-6, atol=2e-6)
    for mapped in (jax.vmap(loss), jax.jit(jax.vmap(loss))):
        np.testing.assert_allclose(mapped(*batch), expected, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("name", CASES)
def test_gradients(name):
    loss, _ = CASES[name]
    row = [np.asarray(value[0]) for value in batch_of(name)]
    is_float = [np.issubdtype(value.dtype, np.floating) for value in row]
    floats = [jnp.asarray(v) for v, use in zip(row, is_float, strict=True) if use]

    @jax.jit  # Traced, so that a step may leave the range of a probability.
    def of_floats(*floats):
        left = iter(floats)
        return loss(
            *(next(left) if use else v for v, use in zip(row, is_float, strict=True))
        )

    check_grads(
        of_floats, tuple(floats), order=1, modes=["rev"], atol=1e-2, rtol=1e-2, eps=1e-2
    )


@pytest.mark.parametrize(
    ("expert_correct", "alpha", "expected"),
    [
        (0.0, 1.0, 1.0),  # -log2(1/2)
        (1.0, 1.0, 3.0),  # -log2(1/4) - log2(1/2)
        (1.0, 0.5, 2.5),
        (1.0, 0.0, 2.0),
        (0.5, 1.0, 2.0),
        (0.0, 0.0, 1.0),
        (True, 1.0, 3.0),
    ],
)
def test_deferral_cross_entropy_by_hand(expert_correct, alpha, expected):
    logits = jnp.log(jnp.array([0.5, 0.25, 0.25]))
    loss = losses.deferral_cross_entropy(logits, 0, expert_correct, alpha)
    np.testing.assert_allclose(loss / LOG2, expected, rtol=1e-6, atol=1e-6)


def test_the_deferral_score_is_the_last():
    logits = jnp.log(jnp.array([0.125, 0.125, 0.25, 0.5]))
    gain = losses.deferral_cross_entropy(logits, 2, 1.0, 0.0)
    np.testing.assert_allclose(gain / LOG2, 1.0, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("costs", "expected"),
    [
        ([0, 1, 1], 1.0),  # 1 * -log2(1/2)
        ([0, 1, 0], 3.0),  # 1 * -log2(1/2) + 1 * -log2(1/4)
        ([5.0, 2.0, 1.0], 14.0),  # (0, 3, 4) minutes saved, at (1, 2, 2) bits
        ([-1.0, -3.0, 0.5], 8.5),  # (1.5, 3.5, 0), at (1, 2, 2)
        ([7.0, 7.0, 7.0], 0.0),
        ([False, True, True], 1.0),
    ],
)
def test_cost_sensitive_cross_entropy_by_hand(costs, expected):
    logits = jnp.log(jnp.array([0.5, 0.25, 0.25]))
    loss = losses.cost_sensitive_cross_entropy(logits, np.array(costs))
    np.testing.assert_allclose(loss / LOG2, expected, rtol=1e-6, atol=1e-6)


def test_classification_cross_entropy_by_hand():
    logits = jnp.log(jnp.array([0.5, 0.25, 0.25]))
    for label, bits in ((0, 1.0), (1, 2.0), (np.int64(2), 2.0)):
        loss = losses.classification_cross_entropy(logits, label)
        np.testing.assert_allclose(loss / LOG2, bits, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("expert_correct", "expected"),
    [(1.0, np.log(4 / 3)), (0.0, np.log(4)), (0.5, 0.5 * np.log(16 / 3))],
)
def test_expert_correctness_nll_by_hand(expert_correct, expected):
    loss = losses.expert_correctness_nll(np.log(3.0), expert_correct)  # Odds of 3: 3/4.
    np.testing.assert_allclose(loss, expected, rtol=1e-6, atol=1e-6)


def test_mixture_and_rejection_by_hand():
    mixture = losses.mixture_nll(2.0, 1.0, 0.25, 0.5)  # 0.75 * 2 + 0.25 * 1.5
    np.testing.assert_allclose(mixture, 1.875, rtol=1e-6, atol=1e-6)
    free = losses.mixture_nll(2.0, 1.0, 0.25)
    np.testing.assert_allclose(free, 1.75, rtol=1e-6, atol=1e-6)
    rejection = losses.rejection_nll(2.0, 0.25, 0.5)  # 0.75 * 2 + 0.25 * 0.5
    np.testing.assert_allclose(rejection, 1.625, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("centered", "label", "expected"),
    [
        (True, 1, 0.513015),  # log(1 + exp(-0.4))
        (True, 0, 0.913015),  # log(1 + exp(0.4))
        (False, 1, 0.403186),  # log(1 + exp(-0.7))
        (False, 0, 1.103186),  # log(1 + exp(0.7))
    ],
)
def test_allocation_log_loss_by_hand(centered, label, expected):
    weights = jnp.array([0.5, 0.3, 0.2])  # With answers 1, 0, 1 the vote is 0.7.
    loss = losses.allocation_log_loss(weights, jnp.array([1, 0, 1]), label, centered)
    np.testing.assert_allclose(loss, expected, rtol=1e-5, atol=1e-6)


def test_vote_log_loss_by_hand():
    # United and right, or wrong, in three classes; and shares 1/2, 1/4, 1/4.
    united = np.array([1.0, 0.0, 0.0])
    for votes, label, expected in (
        (united, 0, np.log(1 + 2 / np.e)),
        (united, 2, np.log(np.e + 2)),
        (np.array([0.5, 0.25, 0.25]), 0, np.log(1 + 2 * np.exp(-0.25))),
    ):
        ours = losses.vote_log_loss(votes, label)
        np.testing.assert_allclose(ours, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("size", [1e4, -1e4])
def test_finite_at_extreme_logits(size):
    at = jnp.array([size, 0.0, -size])
    for loss in (
        lambda z: losses.deferral_cross_entropy(z, 1, 1.0, 0.5),
        lambda z: losses.deferral_cross_entropy(z, 0, 0.0, 0.5),
        lambda z: losses.cost_sensitive_cross_entropy(z, jnp.array([3.0, 0.0, 1.0])),
        lambda z: losses.classification_cross_entropy(z, 0),
        lambda z: losses.expert_correctness_nll(z[0], 0.3),
        lambda z: losses.allocation_log_loss(z, jnp.array([1.0, 0.0, 0.5]), 0),
    ):
        value, slope = jax.value_and_grad(loss)(at)
        assert np.isfinite(value)
        assert np.isfinite(slope).all()


def test_exact_values_at_extreme_logits():
    logits = jnp.array([1e4, 0.0, -1e4])
    # Label 1 lies 1e4 below the best score and the defer score 2e4 below it.
    np.testing.assert_allclose(
        losses.deferral_cross_entropy(logits, 1, 1.0, 0.5), 2.5e4, rtol=1e-6, atol=0
    )
    np.testing.assert_allclose(
        losses.expert_correctness_nll(1e4, 0.25), 7.5e3, rtol=1e-6, atol=0
    )
    assert losses.expert_correctness_nll(1e4, 1.0) == 0.0


# Properties.


def test_a_constant_expert_makes_deferring_rejecting():
    # Madras et al. 2018, Section 2.3: equal objectives, so equal gradients.
    def both(classifier_nll, defer_prob, constant, cost):
        def deferring(nll, prob):
            return losses.mixture_nll(nll, constant, prob, cost)

        def rejecting(nll, prob):
            return losses.rejection_nll(nll, prob, cost + constant)

        at = classifier_nll, defer_prob
        return (
            jax.value_and_grad(deferring, argnums=(0, 1))(*at),
            jax.value_and_grad(rejecting, argnums=(0, 1))(*at),
        )

    costs = np.float32([0.05, -0.3, 0.5])
    deferring, rejecting = jax.vmap(both)(*batch_of("rejection", 3), costs)
    for ours, theirs in zip(
        jax.tree.leaves(deferring), jax.tree.leaves(rejecting), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6)
    assert np.abs(jax.tree.leaves(deferring)[2]).min() > 1e-3  # Not a tie of zeros.


def test_mixture_ends_at_its_parts():
    assert losses.mixture_nll(0.5, 2.0, 0.0, 0.25) == 0.5
    assert losses.mixture_nll(0.5, 2.0, 1.0, 0.25) == 2.25


def test_a_wrong_expert_leaves_the_cross_entropy_of_all_scores():
    logits, labels, _, alphas = batch_of("deferral")
    ours = jax.vmap(losses.deferral_cross_entropy)(logits, labels, 0 * alphas, alphas)
    theirs = jax.vmap(losses.classification_cross_entropy)(logits, labels)
    np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6)


def test_alpha_one_is_the_cost_sensitive_cross_entropy():
    logits, labels, *_ = batch_of("deferral", 6)
    expert_wrong = np.arange(6) % 2 == 0
    wrong = np.column_stack([np.arange(4) != labels[:, None], expert_wrong])
    np.testing.assert_allclose(
        jax.vmap(losses.cost_sensitive_cross_entropy)(logits, wrong),
        jax.vmap(losses.deferral_cross_entropy)(logits, labels, 1.0 - expert_wrong),
        rtol=2e-6,
        atol=2e-6,
    )


def test_only_differences_of_costs_count_and_only_their_unit_scales():
    logits, costs = batch_of("cost-sensitive")
    costs = np.round(4 * costs) / 4  # Quarters, to which 100 is added exactly.
    of = jax.vmap(jax.value_and_grad(losses.cost_sensitive_cross_entropy))
    ours, shifted, scaled = (
        of(logits, costs),
        of(logits, costs + 100),
        of(logits, costs * 60),
    )
    for leaf, same, sixtyfold in zip(ours, shifted, scaled, strict=True):
        np.testing.assert_array_equal(leaf, same)
        np.testing.assert_allclose(60 * leaf, sixtyfold, rtol=2e-6, atol=2e-5)
    assert np.abs(ours[1]).max() > 0.1


def test_equal_costs_leave_nothing_to_learn():
    at = jnp.array([1e4, 0.0, -3.0])
    loss, slope = jax.value_and_grad(losses.cost_sensitive_cross_entropy)(
        at, jnp.full(3, 2.5)
    )
    assert loss == 0.0
    np.testing.assert_array_equal(slope, np.zeros(3))


def test_the_cost_sensitive_minimum_is_proportional_to_the_mean_saving():
    costs = jnp.array([[0.0, 6.0, 2.0, 4.0], [6.0, 0.0, 2.0, 6.0]])
    # Savings (6, 0, 4, 2) and (0, 6, 4, 0): with 1/4 of the second, (18, 6, 16, 6) / 4.
    shares = jnp.array([0.75, 0.25])

    @jax.jit
    def risk(logits):
        each = jax.vmap(losses.cost_sensitive_cross_entropy, (None, 0))
        return shares @ each(logits, costs)

    best = jnp.log(jnp.array([18.0, 6.0, 16.0, 6.0])) - 0.3
    np.testing.assert_allclose(jax.grad(risk)(best), np.zeros(4), rtol=0, atol=2e-6)
    assert risk(best) < risk(best.at[2].add(0.1))
    assert jnp.argmax(best) == jnp.argmin(shares @ costs)


def test_deferral_cross_entropy_is_linear_in_expert_correct():
    logits, labels, probs, alphas = batch_of("deferral")
    of = jax.vmap(losses.deferral_cross_entropy)
    ones = np.ones_like(probs)
    right, wrong = (
        of(logits, labels, ones, alphas),
        of(logits, labels, 0 * ones, alphas),
    )
    mean = probs * right + (1 - probs) * wrong
    np.testing.assert_allclose(
        of(logits, labels, probs, alphas), mean, rtol=2e-6, atol=2e-6
    )
    assert np.abs(right - wrong).min() > 0.01


def test_alpha_one_is_minimal_at_class_and_expert_probabilities():
    # At the minimum the scores are log P(y = k) and log P(expert right), up to a shift.
    class_probs = jnp.array([0.6, 0.3, 0.1])
    correct_given_class = jnp.array([0.9, 0.5, 0.2])
    expert_right = class_probs @ correct_given_class

    @jax.jit
    def risk(logits):
        each = jax.vmap(losses.deferral_cross_entropy, (None, 0, 0))
        return class_probs @ each(logits, jnp.arange(3), correct_given_class)

    best = jnp.log(jnp.append(class_probs, expert_right)) + 0.7
    np.testing.assert_allclose(jax.grad(risk)(best), np.zeros(4), rtol=0, atol=1e-6)
    assert risk(best) < risk(best.at[3].add(0.1))


def test_experts_may_be_permuted():
    weights, answers, labels = batch_of("allocation")
    order = np.array([2, 0, 1])
    for centered in (True, False):
        of = jax.vmap(
            lambda w, e, y, c=centered: losses.allocation_log_loss(w, e, y, c)
        )
        np.testing.assert_allclose(
            of(weights[:, order], answers[:, order], labels),
            of(weights, answers, labels),
            rtol=1e-6,
            atol=1e-6,
        )


def test_a_vote_on_two_classes_is_the_centered_allocation():
    weights, answers, labels = batch_of("allocation", 8)
    weights /= weights.sum(1, keepdims=True)
    answers = np.round(answers)
    one = np.sum(weights * answers, axis=1)
    votes = np.stack([1 - one, one], axis=1)
    ours = jax.vmap(losses.vote_log_loss)(votes, labels)
    theirs = jax.vmap(losses.allocation_log_loss)(weights, answers, labels)
    np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6)
    assert 0 < labels.sum() < 8


def test_a_centered_vote_treats_the_labels_alike():
    weights, answers = np.float32([0.5, 0.3, 0.2]), np.float32([1, 0, 1])
    ours = losses.allocation_log_loss(weights, answers, 1)
    theirs = losses.allocation_log_loss(weights, 1 - answers, 0)
    np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6)


def test_an_uncentered_vote_never_favours_the_label_zero():
    unanimous = allocation_uncentered(np.ones(2) / 2, np.zeros(2), 0)
    np.testing.assert_allclose(unanimous, LOG2, rtol=1e-6, atol=1e-6)
    split = allocation_uncentered(np.ones(2) / 2, np.array([0.0, 1.0]), 0)
    assert split > unanimous


@pytest.mark.parametrize("centered", [True, False])
def test_a_step_raises_the_weight_of_whoever_answered_the_label_one(centered):
    slope = jax.grad(losses.allocation_log_loss)(
        jnp.ones(3) / 3, jnp.array([1.0, 0.0, 1.0]), 1, centered
    )
    assert slope[0] < 0 and slope[2] < 0 and slope[1] == 0


# Wrong input.


LOGITS = np.zeros(4, np.float32)
ZEROS = np.zeros(3)


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["eager", "jit"])
@pytest.mark.parametrize(
    ("loss", "args", "message"),
    [
        (
            losses.deferral_cross_entropy,
            (np.zeros((4, 11)), 0, 0.0),
            r"logits must have shape \[K\+1\], got \(4, 11\); vmap over the batch",
        ),
        (
            losses.deferral_cross_entropy,
            (LOGITS, np.zeros(2, int), 0.0),
            r"label must have shape \[\], got \(2,\); vmap over the batch",
        ),
        (
            losses.deferral_cross_entropy,
            (LOGITS, 0, ZEROS),
            "^expert_correct must have",
        ),
        (losses.deferral_cross_entropy, (LOGITS, 0, 0.0, ZEROS), "^alpha must have"),
        (
            losses.cost_sensitive_cross_entropy,
            (np.zeros((4, 3)), np.zeros((4, 3))),
            r"logits must have shape \[A\], got \(4, 3\); vmap over the batch",
        ),
        (losses.cost_sensitive_cross_entropy, (ZEROS, 0.0), "^costs must have"),
        (
            losses.cost_sensitive_cross_entropy,
            (ZEROS, np.zeros((2, 3))),
            r"^costs .*vmap over the batch",
        ),
        (
            losses.cost_sensitive_cross_entropy,
            (ZEROS, LOGITS),
            r"costs must have the shape \(3,\) of logits, got \(4,\)",
        ),
        (
            losses.cost_sensitive_cross_entropy,
            (np.zeros(1), np.zeros(1)),
            "at least 2 entries",
        ),
        (losses.deferral_cross_entropy, (0.0, 0, 0.0), r"^logits .*got \(\)"),
        (losses.deferral_cross_entropy, (np.zeros(1), 0, 0.0), "at least 2 entries"),
        (
            losses.classification_cross_entropy,
            (np.zeros((2, 3)), 0),
            "^logits must have",
        ),
        (losses.classification_cross_entropy, (LOGITS, ZEROS), "^label must have"),
        (losses.vote_log_loss, (np.zeros((2, 3)), 0), "^votes must have"),
        (losses.vote_log_loss, (np.zeros(1), 0), "at least 2 entries"),
        (losses.vote_log_loss, (LOGITS, ZEROS), "^label must have"),
        (losses.expert_correctness_nll, (ZEROS, 0.0), "^logit must have"),
        (losses.expert_correctness_nll, (0.0, ZEROS), "^expert_correct must have"),
        (losses.mixture_nll, (ZEROS, 0.0, 0.0), "^classifier_nll must have"),
        (losses.mixture_nll, (0.0, ZEROS, 0.0), "^expert_nll must have"),
        (losses.mixture_nll, (0.0, 0.0, ZEROS), "^defer_prob must have"),
        (losses.mixture_nll, (0.0, 0.0, 0.0, ZEROS), "^cost must have"),
        (losses.rejection_nll, (ZEROS, 0.0, 0.0), "^classifier_nll must have"),
        (losses.rejection_nll, (0.0, ZEROS, 0.0), "^defer_prob must have"),
        (losses.rejection_nll, (0.0, 0.0, ZEROS), "^cost must have"),
        (
            losses.allocation_log_loss,
            (np.zeros((2, 3)), ZEROS, 0),
            "^weights must have",
        ),
        (losses.allocation_log_loss, (ZEROS, 0.0, 0), "^expert_labels must have"),
        (
            losses.allocation_log_loss,
            (ZEROS, np.zeros(4), 0),
            r"expert_labels must have the shape \(3,\) of weights, got \(4,\)",
        ),
        (losses.allocation_log_loss, (ZEROS, ZEROS, ZEROS), "^label must have"),
    ],
)
def test_a_wrong_shape_names_the_argument(wrap, loss, args, message):
    with pytest.raises(ValueError, match=message):
        wrap(loss)(*args)


@pytest.mark.parametrize(
    ("loss", "args", "message"),
    [
        (
            losses.deferral_cross_entropy,
            (np.zeros(11), 11, 0.0),
            r"label must be in \[0, K\) = \[0, 10\), got 11",
        ),
        # The defer score is no class.
        (losses.deferral_cross_entropy, (LOGITS, 3, 0.0), r"\[0, 3\), got 3"),
        (losses.deferral_cross_entropy, (LOGITS, -1, 0.0), r"\[0, 3\), got -1"),
        (
            losses.deferral_cross_entropy,
            (np.array([0, np.nan, 0, 0]), 0, 0.0),
            "logits must be finite, got NaN",
        ),
        (
            losses.deferral_cross_entropy,
            (jnp.zeros(4), 0, 1.5),
            r"expert_correct must be in \[0, 1\], got 1.5",
        ),
        (
            losses.deferral_cross_entropy,
            (LOGITS, 0, 0.0, -1.0),
            "alpha must be >= 0, got -1",
        ),
        (
            losses.cost_sensitive_cross_entropy,
            (ZEROS, np.array([0.0, np.nan, 1.0])),
            "costs must be finite, got NaN",
        ),
        (
            losses.cost_sensitive_cross_entropy,
            (ZEROS, np.array([0.0, np.inf, 1.0])),
            "costs must be finite, got inf",
        ),
        (
            losses.cost_sensitive_cross_entropy,
            (ZEROS + np.nan, ZEROS),
            "logits must be finite, got NaN",
        ),
        (
            losses.classification_cross_entropy,
            (LOGITS, jnp.int32(4)),
            r"\[0, 4\), got 4",
        ),
        (losses.classification_cross_entropy, (np.full(3, np.nan), 0), "got NaN"),
        (losses.vote_log_loss, (ZEROS + 1.5, 0), r"votes must be in \[0, 1\], got 1.5"),
        (losses.vote_log_loss, (ZEROS, 3), r"label must be in .*\[0, 3\), got 3"),
        (losses.expert_correctness_nll, (np.nan, 0.0), "logit must be finite, got NaN"),
        (losses.expert_correctness_nll, (0.0, np.nan), "expert_correct .* got NaN"),
        (losses.mixture_nll, (np.nan, 0.0, 0.0), "classifier_nll must be finite"),
        (losses.mixture_nll, (0.0, np.nan, 0.0), "expert_nll must be finite"),
        (
            losses.mixture_nll,
            (0.0, 0.0, 1.1),
            r"defer_prob must be in \[0, 1\], got 1.1",
        ),
        (losses.mixture_nll, (0.0, 0.0, 1.0, np.nan), "cost must be finite"),
        (losses.rejection_nll, (0.0, -0.1, 0.0), r"defer_prob must be in \[0, 1\]"),
        (losses.rejection_nll, (0.0, 0.1, np.nan), "cost must be finite"),
        (
            losses.allocation_log_loss,
            (ZEROS, ZEROS, 2),
            r"label must be in \[0, 2\), got",
        ),
        (
            losses.allocation_log_loss,
            (ZEROS, ZEROS + 2, 0),
            r"expert_labels must be in",
        ),
        (
            losses.allocation_log_loss,
            (ZEROS + np.nan, ZEROS, 0),
            "weights must be finite",
        ),
    ],
)
def test_a_wrong_concrete_value_names_the_argument(loss, args, message):
    with pytest.raises(ValueError, match=message):
        loss(*args)


def test_wrong_types_name_the_argument():
    for label in (1.0, np.float32(0.0)):
        with pytest.raises(TypeError, match="label must be of an integer dtype, got"):
            losses.deferral_cross_entropy(LOGITS, label, 0.0)
    with pytest.raises(
        TypeError, match="label must be of an integer dtype, got float32"
    ):
        jax.jit(losses.classification_cross_entropy)(LOGITS, 1.0)
    with pytest.raises(
        TypeError, match=r"expert_labels must be an array of shape \[M\]"
    ):
        losses.allocation_log_loss(ZEROS, None, 0)


@pytest.mark.parametrize(
    ("loss", "good", "bad"),
    [
        (lambda x, y: losses.deferral_cross_entropy(x, y, 1.0, 0.0), 2, (-1, 3, 9)),
        (losses.classification_cross_entropy, 3, (-1, 4, 9)),
        (lambda x, y: losses.allocation_log_loss(x, LOGITS, y), 1, (-1, 2, 9)),
        (losses.vote_log_loss, 3, (-1, 4, 9)),
    ],
    ids=["deferral", "classification", "allocation", "vote"],
)
def test_a_traced_label_out_of_range_poisons_its_row_alone(loss, good, bad):
    values_and_slopes = jax.vmap(jax.value_and_grad(loss), (None, 0))
    labels = jnp.array([good, *bad])
    for mapped in (values_and_slopes, jax.jit(values_and_slopes)):
        values, slopes = mapped(jnp.ones(4), labels)
        np.testing.assert_array_equal(np.isnan(values), [False, True, True, True])
        np.testing.assert_array_equal(
            np.isnan(slopes).any(axis=1), [False, True, True, True]
        )
    assert np.isnan(jax.jit(loss)(jnp.ones(4), bad[0]))


def test_labels_may_be_of_any_integer_dtype():
    expected = losses.deferral_cross_entropy(LOGITS, 2, 1.0)
    for label in (np.uint8(2), np.int64(2), jnp.int32(2), np.array(2)):
        assert losses.deferral_cross_entropy(LOGITS, label, 1.0) == expected


def test_importing_the_losses_brings_only_jax_and_chex():
    program = (
        "import sys, jax, chex; before = set(sys.modules); import l2d_jax.losses; "
        "print(*{m.split('.')[0] for m in set(sys.modules) - before})"
    )
    run = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert set(run.stdout.split()) - sys.stdlib_module_names <= {"l2d_jax", "jax"}


# Agreement.


def oracle_agreement(logits, expert_labels, label, consulted):
    agree = np.where(np.asarray(expert_labels) == 1, label, 1.0 - label)
    return sum(
        bernoulli_nll(sigmoid(logit), agreement)
        for logit, agreement, asked in zip(logits, agree, consulted, strict=True)
        if asked
    )


def draw_agreement():
    generator = np.random.default_rng(5)
    consulted = generator.random((16, 4)) < 0.6
    consulted[0] = False
    answers = np.where(consulted, generator.integers(0, 2, (16, 4)), -1)
    labels = np.where(np.arange(16) < 8, np.arange(16) % 2, generator.random(16))
    return generator.normal(0, 3, (16, 4)), answers, labels, consulted


def test_agreement_by_hand():
    # The first, whose score is log 3, says the label: 3/4. The second does not: 1/2.
    logits = np.array([np.log(3.0), 0.0, 5.0])
    answers, consulted = np.array([1, 0, 1]), np.array([1, 1, 0])
    ours = losses.agreement_nll(logits, answers, 1, consulted)
    np.testing.assert_allclose(ours, np.log(4 / 3) + LOG2, rtol=1e-5, atol=1e-6)
    ours = losses.agreement_nll(logits, answers, 0, consulted)
    np.testing.assert_allclose(ours, np.log(4) + LOG2, rtol=1e-5, atol=1e-6)
    # A label that is a probability is the mean of both.
    ours = losses.agreement_nll(logits, answers, 0.25, consulted)
    expected = 0.25 * np.log(4 / 3) + 0.75 * np.log(4) + LOG2
    np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-6)
    assert losses.agreement_nll(logits, answers, 1, np.zeros(3)) == 0


def test_agreement_oracle():
    args = draw_agreement()
    expected = [oracle_agreement(*row) for row in zip(*args, strict=True)]
    row = tuple(arg[3] for arg in args)
    ours = losses.agreement_nll(*row)
    np.testing.assert_allclose(ours, expected[3], rtol=1e-5, atol=1e-6)
    ours = jax.jit(losses.agreement_nll)(*row)
    np.testing.assert_allclose(ours, expected[3], rtol=1e-5, atol=1e-6)
    ours = jax.jit(jax.vmap(losses.agreement_nll))(*args)
    np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-6)


def test_agreement_hears_only_who_was_consulted():
    logits, answers, labels, consulted = draw_agreement()
    slope = jax.jit(jax.vmap(jax.value_and_grad(losses.agreement_nll)))
    value, gradient = slope(logits, answers, labels, consulted)
    for behind in (0, 1):
        filled = np.where(consulted, answers, behind)
        scores = np.where(consulted, logits, 1e4 * (2 * behind - 1))
        ours = slope(scores, filled, labels, consulted)
        np.testing.assert_array_equal(ours[0], value)
        np.testing.assert_array_equal(ours[1], gradient)
    np.testing.assert_array_equal(np.asarray(gradient)[~consulted], 0.0)
    # The slope is that of a logistic regression.
    agree = np.where(answers == 1, labels[:, None], 1 - labels[:, None])
    expected = consulted * (sigmoid(logits) - agree)
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-6)


def test_agreement_gradient_and_extremes():
    answers, consulted = np.array([1, 0, 1]), np.array([True, True, False])
    check_grads(
        jax.jit(lambda z: losses.agreement_nll(z, answers, 0.3, consulted)),
        (jnp.array([0.0, -2.0, 1.0]),),
        order=2,
        modes=["rev"],
        rtol=1e-2,
        atol=1e-3,
    )
    slope = jax.jit(jax.value_and_grad(losses.agreement_nll))
    logits = np.array([1e4, 1e4, -1e4], np.float32)
    value, gradient = slope(logits, answers, 1, consulted)
    np.testing.assert_allclose(value, 1e4, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(gradient, [0, 1, 0], rtol=1e-6, atol=1e-6)
    value, gradient = slope(-logits, answers, 1, consulted)
    np.testing.assert_allclose(value, 1e4, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(gradient, [-1, 0, 0], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((np.zeros((2, 3)), ZEROS, 1, ZEROS), r"logits must have shape \[M\]"),
        ((np.zeros(3), np.zeros(2), 1, np.zeros(3)), "expert_labels must have the sha"),
        ((np.zeros(3), np.zeros(3), 1, np.zeros(2)), "consulted must have the shape"),
        ((np.zeros(3), np.zeros(3), np.zeros(3), np.ones(3)), "label must have shape"),
        ((np.zeros(3), np.zeros(3), 1.5, np.ones(3)), r"label must be in \[0, 1\]"),
        ((np.zeros(3), np.zeros(3), -1, np.ones(3)), r"label must be in \[0, 1\]"),
        ((np.full(3, np.nan), np.zeros(3), 1, np.ones(3)), "logits must be finite"),
        ((np.zeros(3), np.zeros(3), 1, 2 * np.ones(3)), "consulted must be in"),
    ],
)
def test_agreement_names_the_argument_at_fault(args, message):
    with pytest.raises(ValueError, match=message):
        losses.agreement_nll(*args)
