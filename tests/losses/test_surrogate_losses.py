"""Surrogates of learning to defer: values, slopes, extremes and who was not asked."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from l2d_jax import losses

ONE = np.array([1.0, -0.5, 0.25, 0.7])
TWO = np.array([1.0, -0.5, 0.25, 0.7, -0.2])


def rl2d(logits, label, expert_correct, q):
    return losses.rl2d_loss(logits, label, 1.0 - expert_correct, q)


def mixture_of_experts(logits, label, expert_correct):
    """Logits of the classes, of the experts and, last, of the classifier."""
    num_gates = expert_correct.shape[0] + 1
    return losses.mixture_of_experts_nll(
        logits[:-num_gates], logits[-num_gates:], label, expert_correct
    )


OF_ONE = {
    "asymmetric": losses.asymmetric_softmax_loss,
    "realizable": losses.realizable_surrogate_loss,
    "realizable .3": functools.partial(losses.realizable_surrogate_loss, alpha=0.3),
    "rl2d 0": functools.partial(rl2d, q=0.0),
    "rl2d .7": functools.partial(rl2d, q=0.7),
    "rl2d 1": functools.partial(rl2d, q=1.0),
    "priced .2": functools.partial(losses.priced_deferral_cross_entropy, price=0.2),
}
"""Losses of logits ``[K+1]``, a label and whether the one expert is right."""
OF_SEVERAL = {
    "softmax": losses.multi_expert_cross_entropy,
    "decoupled": losses.decoupled_loss,
    "decoupled 3": functools.partial(losses.decoupled_loss, weight=3.0),
    "picce": losses.picce_cross_entropy,
    "picce one-vs-all": losses.picce_one_vs_all,
}
"""Losses of logits ``[K+M]``, a label and whether each expert is right."""
HARD = ("picce", "picce one-vs-all")
"""Losses of answers that are right or wrong, and no probabilities."""


# Values.


@pytest.mark.parametrize(
    ("label", "expert_correct", "values"),
    [
        (0, 1.0, [1.190057, 0.672263, 0.672263, 0.299514, 0.285471, 2.259071]),
        (0, 0.0, [1.253185, 1.780973, 1.780973, 0.662642, 0.589544, 1.068584]),
        (2, 1.0, [1.940057, 1.394475, 1.394475, 0.551697, 0.502041, 3.009071]),
        (2, 0.0, [2.003185, 3.280973, 3.280973, 0.975482, 0.806114, 1.818584]),
    ],
)
def test_values_of_one_expert(label, expert_correct, values):
    names = ["asymmetric", "realizable", "rl2d 0", "rl2d .7", "rl2d 1", "priced .2"]
    for name, value in zip(names, values, strict=True):
        value /= 2 if name == "rl2d 0" else 1  # Half of the realizable surrogate.
        for wrap in (lambda f: f, jax.jit):
            found = wrap(OF_ONE[name])(ONE, label, expert_correct)
            assert found.shape == ()
            np.testing.assert_allclose(found, value, rtol=1e-5, atol=0, err_msg=name)


@pytest.mark.parametrize(
    ("label", "expert_correct", "values"),
    [
        (0, [1.0, 0.0], [2.314097, 1.028638, 2.314097, 2.614603]),
        (0, [1.0, 1.0], [4.521145, 1.128638, 2.314097, 2.614603]),
        (2, [0.0, 1.0], [3.964097, 2.228638, 3.964097, 4.264603]),
        (2, [0.0, 0.0], [1.757048, 2.128638, 1.757048, 4.064603]),
    ],
)
def test_values_of_two_experts(label, expert_correct, values):
    names = ["softmax", "decoupled", "picce", "picce one-vs-all"]
    for name, value in zip(names, values, strict=True):
        for wrap in (lambda f: f, jax.jit):
            found = wrap(OF_SEVERAL[name])(TWO, label, np.array(expert_correct))
            assert found.shape == ()
            np.testing.assert_allclose(found, value, rtol=1e-5, atol=0, err_msg=name)


def test_mixture_of_experts_by_hand():
    # Classes 1 : 3; gates 2 : 1 : 5, the classifier's last.
    classes, gate = np.log([1.0, 3.0]), np.log([2.0, 1.0, 5.0])
    for label, correct, likelihood in (
        (1, [0, 0], 5 / 8 * 3 / 4),
        (0, [1, 0], 2 / 8 + 5 / 8 * 1 / 4),
        (0, [1, 1], 3 / 8 + 5 / 8 * 1 / 4),
        (1, [0.5, 0.1], 1 / 8 + 0.1 / 8 + 5 / 8 * 3 / 4),
    ):
        found = losses.mixture_of_experts_nll(classes, gate, label, np.array(correct))
        np.testing.assert_allclose(found, -np.log(likelihood), rtol=1e-5, atol=0)


def test_two_stage_by_hand():
    scores = np.log([0.5, 0.25, 0.25])  # -log2: 1, 2, 2.
    for costs, bits in (
        ([0, 1, 1], 1.0),
        ([0, 0, 0], 5.0),
        ([1, 1, 1], 0.0),
        ([0.5, 0.25, 1.0], 2.0),
    ):
        found = losses.two_stage_loss(scores, np.array(costs, float))
        np.testing.assert_allclose(found / np.log(2), bits, rtol=1e-5, atol=1e-6)


def test_posthoc_rejector_by_hand():
    # softplus(-log 3) = log(4/3), softplus(log 3) = log 4.
    score = np.log(3.0)
    for classifier_wrong, expert_wrong, price, expected in (
        (1.0, 0.0, 0.0, np.log(4 / 3)),
        (0.0, 1.0, 0.0, np.log(4)),
        (0.0, 0.0, 0.0, 0.0),
        (1.0, 0.5, 0.25, np.log(4 / 3) + 0.75 * np.log(4)),
        (0.0, 0.0, 0.1, 0.1 * np.log(4)),
    ):
        found = losses.posthoc_rejector_loss(
            score, classifier_wrong, expert_wrong, price
        )
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=0)


# Oracles in float64, in the form in which the formulas are printed.


def softmax(logits):
    exps = np.exp(logits)
    return exps / exps.sum()


def bernoulli_nll(prob, target):
    return -target * np.log(prob) - (1 - target) * np.log(1 - prob)


def mean_over_outcomes(oracle):
    def mean(logits, label, expert_correct):
        right, wrong = oracle(logits, label, 1.0), oracle(logits, label, 0.0)
        return expert_correct * right + (1 - expert_correct) * wrong

    return mean


def oracle_asymmetric(logits, label, expert_correct):
    exps = np.exp(logits)
    prob = exps[-1] / (exps.sum() - exps[:-1].max())
    return -np.log(softmax(logits[:-1])[label]) + bernoulli_nll(prob, expert_correct)


def oracle_realizable(alpha):
    @mean_over_outcomes
    def oracle(logits, label, expert_correct):
        p = softmax(logits)
        surrogate = -2 * np.log(p[label] + expert_correct * p[-1])
        return alpha * surrogate - (1 - alpha) * np.log(softmax(logits[:-1])[label])

    return oracle


def oracle_rl2d(q):
    def psi(t):
        return (1 - t**q) / q if q else -np.log(t)

    def oracle(logits, label, expert_correct):
        p, cost = softmax(logits), 1 - expert_correct
        return cost * psi(p[label]) + (1 - cost) * psi(p[label] + p[-1])

    return oracle


def oracle_priced(logits, label, expert_correct):
    log_p = np.log(softmax(logits))
    likeliest = np.argmax(logits[:-1])
    return -log_p[label] - expert_correct * log_p[-1] - 0.2 * log_p[likeliest]


def oracle_softmax(logits, label, expert_correct):
    log_p = np.log(softmax(logits))
    return -log_p[label] - np.sum(expert_correct * log_p[-len(expert_correct) :])


def oracle_decoupled(weight):
    def oracle(logits, label, expert_correct):
        of_classes, of_experts = np.split(logits, [-len(expert_correct)])
        probs = 1 / (1 + np.exp(-of_experts))
        expert_nll = np.mean(bernoulli_nll(probs, expert_correct))
        return -np.log(softmax(of_classes)[label]) + weight * expert_nll

    return oracle


def pick(logits, expert_correct):
    of_experts = logits[-len(expert_correct) :]
    right = [j for j, correct in enumerate(expert_correct) if correct == 1]
    return max(right, key=lambda j: of_experts[j]) if right else None


def oracle_picce(logits, label, expert_correct):
    log_p, picked = np.log(softmax(logits)), pick(logits, expert_correct)
    nll = -log_p[label]
    return nll if picked is None else nll - log_p[-len(expert_correct) :][picked]


def oracle_picce_one_vs_all(logits, label, expert_correct):
    picked = pick(logits, expert_correct)
    targets = np.zeros(len(logits))
    targets[label] = 1
    if picked is not None:
        targets[len(logits) - len(expert_correct) + picked] = 1
    return np.sum(bernoulli_nll(1 / (1 + np.exp(-logits)), targets))


def oracle_mixture(logits, label, expert_correct):
    of_classes, of_gate = np.split(logits, [-len(expert_correct) - 1])
    gate = softmax(of_gate)
    by_classifier = gate[-1] * softmax(of_classes)[label]
    return -np.log(by_classifier + np.sum(gate[:-1] * expert_correct))


ORACLES = {
    "asymmetric": oracle_asymmetric,
    "realizable": oracle_realizable(1.0),
    "realizable .3": oracle_realizable(0.3),
    "rl2d 0": oracle_rl2d(0.0),
    "rl2d .7": oracle_rl2d(0.7),
    "rl2d 1": oracle_rl2d(1.0),
    "priced .2": oracle_priced,
    "softmax": oracle_softmax,
    "decoupled": oracle_decoupled(1.0),
    "decoupled 3": oracle_decoupled(3.0),
    "picce": oracle_picce,
    "picce one-vs-all": oracle_picce_one_vs_all,
    "mixture of experts": oracle_mixture,
}
ALL = {**OF_ONE, **OF_SEVERAL, "mixture of experts": mixture_of_experts}


def batch_of(name, num_rows=6):
    """Logits of three classes and one or three experts, labels, and correctness."""
    generator = np.random.default_rng(len(name))
    num_experts = 1 if name in OF_ONE else 3
    num_outputs = 3 + num_experts + (name == "mixture of experts")
    logits = generator.normal(0, 2, (num_rows, num_outputs))
    correct = generator.random((num_rows, num_experts))
    if name in HARD:
        correct = np.round(correct)
        correct[0] = 0
    correct = correct[:, 0] if name in OF_ONE else correct
    return logits, np.arange(num_rows) % 3, correct


@pytest.mark.parametrize("name", ALL)
def test_agrees_with_the_oracle(name):
    batch = batch_of(name)
    expected = [ORACLES[name](*row) for row in zip(*batch, strict=True)]
    eager = ALL[name](*(column[1] for column in batch))
    np.testing.assert_allclose(eager, expected[1], rtol=1e-5, atol=1e-6)
    mapped = jax.jit(jax.vmap(ALL[name]))(*batch)
    np.testing.assert_allclose(mapped, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ALL)
def test_gradients(name):
    batch = batch_of(name)
    with jax.enable_x64(True):
        of_batch = jax.jit(lambda logits: jax.vmap(ALL[name])(logits, *batch[1:]))
        check_grads(
            of_batch, (jnp.asarray(batch[0]),), order=1, modes=["rev"], rtol=1e-5
        )


def test_gradients_of_other_arguments():
    scores, costs = np.array([0.3, -1.0, 2.0]), np.array([0.2, 0.9, 0.0])
    exponents = np.array([1e-4, 1e-3, 0.3, 0.9])  # A series ends between them.

    @jax.jit
    def of_all(scores, score, exponents):
        return (
            losses.two_stage_loss(scores, costs),
            losses.posthoc_rejector_loss(score, 0.7, 0.2, 0.1),
            jax.vmap(lambda q: losses.rl2d_loss(ONE, 2, 0.3, q))(exponents),
        )

    with jax.enable_x64(True):
        check_grads(of_all, (scores, 0.4, exponents), 1, ["rev"], eps=1e-5, rtol=1e-5)


# Extremes.


def corners(num_outputs):
    """Logits of 1e4 in all signs, all 0, and ties at the greatest."""
    signs = np.array(np.meshgrid(*num_outputs * [[-1e4, 1e4]])).reshape(num_outputs, -1)
    tied = np.eye(num_outputs)[:1] + np.eye(num_outputs)
    return np.concatenate([signs.T, 0 * tied[:1], tied, 1e4 * tied]).astype(np.float32)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("num_classes", [2, 3])
def test_value_and_gradient_are_finite(name, num_classes):
    num_experts = 1 if name in OF_ONE else 2
    num_outputs = num_classes + num_experts + (name == "mixture of experts")
    logits = corners(num_outputs)
    answers = np.array([0.0, 1.0]) if name in OF_ONE else np.array([[0, 0], [0, 1.0]])

    @jax.jit
    def everywhere(logits, labels, answers):
        both = jax.value_and_grad(ALL[name])
        for axes in ((None, None, 0), (None, 0, None), (0, None, None)):
            both = jax.vmap(both, axes)
        return both(logits, labels, answers)

    values, slopes = everywhere(logits, np.arange(num_classes), answers)
    assert values.shape == (len(logits), num_classes, 2)
    assert np.isfinite(values).all() and (values > -1e-6).all()
    assert np.isfinite(slopes).all()


def test_exact_values_at_extreme_logits():
    far = np.array([1e4, 0.0, -1e4])
    # Label 1 is 1e4 below label 0, and deferring 1e4 below label 1.
    for found, expected in (
        (losses.asymmetric_softmax_loss(far, 1, 1.0), 2e4),
        (losses.asymmetric_softmax_loss(far, 1, 0.0), 1e4),
        (losses.realizable_surrogate_loss(far, 1, 1.0), 2e4),
        (losses.realizable_surrogate_loss(far, 0, 0.0), 0.0),
        (losses.rl2d_loss(far, 1, 1.0, 0.5), 2.0),
        (losses.rl2d_loss(far, 1, 1.0, 0.0), 1e4),
        (losses.priced_deferral_cross_entropy(far, 1, 1.0, 0.5), 3e4),
        (losses.decoupled_loss(far, 1, np.ones(1)), 2e4),
        (losses.multi_expert_cross_entropy(far, 1, np.ones(1)), 3e4),
        (losses.two_stage_loss(far, np.array([1.0, 0.5, 0.5])), 1.5e4),
        (losses.posthoc_rejector_loss(1e4, 0.0, 0.5, 0.5), 1e4),
        (losses.mixture_of_experts_nll(far, far, 1, np.zeros(2)), 3e4),
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


def test_a_tie_leaves_one_class_out():
    """Of two classes at 0 the asymmetric softmax sets deferring against one."""
    found = losses.asymmetric_softmax_loss(np.zeros(3), 0, 1.0)
    np.testing.assert_allclose(found, np.log(2) + np.log(2), rtol=1e-6)
    found = losses.asymmetric_softmax_loss(np.zeros(4), 0, 0.0)
    np.testing.assert_allclose(found, np.log(3) + np.log(3 / 2), rtol=1e-6)


def test_a_tie_puts_the_price_on_the_first():
    slope = jax.grad(losses.priced_deferral_cross_entropy)(np.zeros(4), 1, 0.0, 0.4)
    np.testing.assert_allclose(slope, [-0.05, -0.65, 0.35, 0.35], rtol=1e-5)


# Properties.


@pytest.mark.parametrize("name", OF_ONE)
def test_an_imputed_probability_gives_the_mean(name):
    wrong, right, mean = (float(ALL[name](ONE, 1, c)) for c in (0.0, 1.0, 0.3))
    assert mean == pytest.approx(0.7 * wrong + 0.3 * right, abs=1e-6)
    assert abs(wrong - right) > 0.01


@pytest.mark.parametrize("name", ["softmax", "decoupled", "decoupled 3"])
def test_imputed_probabilities_give_the_mean(name):
    found = ALL[name](TWO, 1, np.array([0.3, 0.6]))
    mean = sum(
        (0.3 if first else 0.7)
        * (0.6 if second else 0.4)
        * ALL[name](TWO, 1, np.array([first, second], float))
        for first in (0, 1)
        for second in (0, 1)
    )
    np.testing.assert_allclose(found, mean, rtol=1e-6)


@pytest.mark.parametrize("name", [name for name in ALL if name not in OF_ONE])
@pytest.mark.parametrize("not_asked", [np.nan, -1.0])
def test_who_was_not_asked_has_no_column(name, not_asked):
    both = jax.jit(jax.value_and_grad(ALL[name]))
    with_gate = name == "mixture of experts"
    # The second of three, with the greatest score of the experts.
    logits = np.array([0.3, -0.5, 0.2, 0.7, 3.0, -0.4, *with_gate * [0.1]])
    for correct in ([1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [0.0, 0.0]):
        asked = np.insert(correct, 1, not_asked)
        value, slope = both(logits, 2, asked)
        expected, expected_slope = both(np.delete(logits, 4), 2, np.array(correct))
        np.testing.assert_allclose(value, expected, rtol=1e-6)
        expected_slope = np.insert(expected_slope, 4, 0.0)
        np.testing.assert_allclose(slope, expected_slope, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", ["softmax", "decoupled", "picce", "asymmetric"])
def test_where_nobody_was_asked_the_classes_are_left(name):
    correct = np.nan if name in OF_ONE else np.full(1, np.nan)
    value, slope = jax.jit(jax.value_and_grad(ALL[name]))(ONE, 2, correct)
    expected = losses.classification_cross_entropy(ONE[:3], 2)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    assert slope[3] == 0.0 and np.isfinite(slope).all()


def test_one_expert_of_the_softmax_is_the_deferral_cross_entropy():
    logits, labels, correct = batch_of("asymmetric")
    ours = jax.vmap(losses.multi_expert_cross_entropy)(logits, labels, correct[:, None])
    theirs = jax.vmap(losses.deferral_cross_entropy)(logits, labels, correct)
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def test_no_price_is_the_deferral_cross_entropy():
    logits, labels, correct = batch_of("asymmetric")
    free = functools.partial(losses.priced_deferral_cross_entropy, price=0.0)
    ours = jax.vmap(free)(logits, labels, correct)
    theirs = jax.vmap(losses.deferral_cross_entropy)(logits, labels, correct)
    np.testing.assert_array_equal(ours, theirs)


def test_the_exponent_is_continuous_at_0():
    with jax.enable_x64(True):
        at = jax.value_and_grad(losses.rl2d_loss, argnums=3)
        value, slope = at(ONE, 2, 1.0, 0.0)
        # Psi(t) = nll - q nll^2 / 2 + ...
        nll = losses.classification_cross_entropy(ONE, 2)
        np.testing.assert_allclose(value, nll, rtol=1e-12)
        np.testing.assert_allclose(slope, -(nll**2) / 2, rtol=1e-12)
        near, _ = at(ONE, 2, 1.0, 1e-9)
        np.testing.assert_allclose(near, value, rtol=1e-8)


def test_the_greatest_cost_of_1_makes_two_stages_cost_sensitive():
    scores, costs = np.array([0.3, -1.0, 2.0]), np.array([0.2, 1.0, 0.6])
    ours = losses.two_stage_loss(scores, costs)
    theirs = losses.cost_sensitive_cross_entropy(scores, costs)
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    # Below 1 they differ: all who may answer save something.
    ours = losses.two_stage_loss(scores, costs / 2)
    theirs = losses.cost_sensitive_cross_entropy(scores, costs / 2)
    assert ours > theirs + 0.1


@pytest.mark.parametrize("name", [name for name in ALL if name not in OF_ONE])
def test_experts_may_be_permuted(name):
    logits, labels, correct = batch_of(name)
    order = np.array([2, 0, 1])
    permuted = np.concatenate(
        [logits[:, :3], logits[:, 3:6][:, order], logits[:, 6:]], axis=1
    )
    of = jax.vmap(ALL[name])
    np.testing.assert_allclose(
        of(permuted, labels, correct[:, order]), of(logits, labels, correct), rtol=2e-6
    )


# Wrong input.


@pytest.mark.parametrize("name", ALL)
def test_a_traced_label_out_of_range_is_nan(name):
    logits, _, correct = batch_of(name, 1)
    for label in (-1, 3):
        value, slope = jax.jit(jax.value_and_grad(ALL[name]))(
            logits[0], label, correct[0]
        )
        assert np.isnan(value) and np.isnan(slope).any()


@pytest.mark.parametrize("name", HARD)
def test_a_traced_probability_is_nan_where_answers_are_hard(name):
    value, slope = jax.jit(jax.value_and_grad(ALL[name]))(TWO, 0, np.array([1.0, 0.5]))
    assert np.isnan(value) and np.isnan(slope).all()
    hard = jax.jit(ALL[name])(TWO, 0, np.array([True, False]))
    assert hard == ALL[name](TWO, 0, np.array([1.0, 0.0]))


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["eager", "jit"])
@pytest.mark.parametrize("name", ALL)
def test_a_wrong_shape_names_the_argument(wrap, name):
    logits, _, correct = (row[0] for row in batch_of(name))
    loss = wrap(ALL[name])
    outputs = "class_logits" if name == "mixture of experts" else "logits"
    with pytest.raises(ValueError, match=f"^{outputs} must have shape"):
        loss(logits[:, None], 0, correct)
    with pytest.raises(ValueError, match=r"^label must have shape \[\], got \(2,\)"):
        loss(logits, np.zeros(2, int), correct)
    with pytest.raises(TypeError, match=r"^label must be of an integer dtype"):
        loss(logits, 0.0, correct)
    of_expert = "cost" if name.startswith("rl2d") else "expert_correct"
    with pytest.raises(ValueError, match=f"^{of_expert} must have shape"):
        loss(logits, 0, correct[..., None])


@pytest.mark.parametrize("name", ALL)
def test_a_wrong_concrete_value_names_the_argument(name):
    logits, _, correct = (row[0] for row in batch_of(name))
    with pytest.raises(ValueError, match=r"^label must be in .* = \[0, 3\), got 3"):
        ALL[name](logits, 3, correct)
    with pytest.raises(ValueError, match="logits must be finite, got NaN"):
        ALL[name](logits * np.nan, 0, correct)
    of_expert = "cost" if name.startswith("rl2d") else "expert_correct"
    with pytest.raises(ValueError, match=f"^{of_expert} must be .*, got -?[12].5"):
        ALL[name](logits, 0, np.full_like(correct, 2.5))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: losses.asymmetric_softmax_loss(ONE[:2], 0, 1.0), "at least 3"),
        (lambda: losses.realizable_surrogate_loss(ONE[:2], 0, 1.0), "at least 3"),
        (
            lambda: losses.realizable_surrogate_loss(ONE, 0, 1.0, 1.5),
            r"^alpha must be in \[0, 1\], got 1.5",
        ),
        (
            lambda: losses.realizable_surrogate_loss(ONE, 0, -1.0),
            r"^expert_correct must be in \[0, 1\], got -1",
        ),
        (lambda: losses.rl2d_loss(ONE, 0, 1.0, 1.5), r"^q must be in \[0, 1\]"),
        (lambda: losses.rl2d_loss(ONE, 0, 1.0, -0.1), r"^q must be in \[0, 1\]"),
        (lambda: losses.rl2d_loss(ONE, 0, 1.0, ONE), r"^q must have shape \[\]"),
        (
            lambda: losses.priced_deferral_cross_entropy(ONE, 0, 1.0, -0.1),
            "^price must be >= 0, got -0.1",
        ),
        (
            lambda: losses.priced_deferral_cross_entropy(ONE, 0, 1.0, np.inf),
            "^price must be >= 0, got inf",
        ),
        (
            lambda: losses.priced_deferral_cross_entropy(ONE, 0, 1.0, ONE),
            r"^price must have shape \[\]",
        ),
        (
            lambda: losses.multi_expert_cross_entropy(ONE[:3], 0, np.ones(2)),
            "K >= 2",
        ),
        (lambda: losses.decoupled_loss(ONE, 0, np.ones(1), -1.0), "^weight must be"),
        (lambda: losses.decoupled_loss(ONE, 0, np.ones(1), ONE), "^weight must have"),
        (
            lambda: losses.picce_cross_entropy(TWO, 0, np.array([1.0, 0.5])),
            "^expert_correct must be 0 or 1, .*, got 0.5 in row 1",
        ),
        (
            lambda: losses.picce_one_vs_all(TWO, 0, np.array([1.0, 0.5])),
            "^expert_correct must be 0 or 1, .*, got 0.5 in row 1",
        ),
        (
            lambda: losses.mixture_of_experts_nll(ONE, TWO, 0, np.ones(3)),
            r"^expert_correct must have shape \[M\] = \(4,\), got \(3,\)",
        ),
        (
            lambda: losses.mixture_of_experts_nll(ONE, TWO[None], 0, np.ones(4)),
            r"^gate_logits must have shape \[M\+1\]",
        ),
        (
            lambda: losses.mixture_of_experts_nll(ONE, TWO * np.inf, 0, np.ones(4)),
            "^gate_logits must be finite",
        ),
        (
            lambda: losses.two_stage_loss(ONE, np.full(4, 1.5)),
            r"^costs must be in \[0, 1\], got 1.5",
        ),
        (
            lambda: losses.two_stage_loss(ONE, np.ones(3)),
            r"^costs must have the shape \(4,\) of scores",
        ),
        (
            lambda: losses.two_stage_loss(ONE * np.nan, np.ones(4)),
            "^scores must be finite",
        ),
        (
            lambda: losses.posthoc_rejector_loss(ONE, 0.0, 0.0, 0.0),
            r"^score must have shape \[\]",
        ),
        (
            lambda: losses.posthoc_rejector_loss(np.nan, 0.0, 0.0, 0.0),
            "^score must be finite",
        ),
        (
            lambda: losses.posthoc_rejector_loss(0.0, 2.0, 0.0, 0.0),
            r"^classifier_wrong must be in \[0, 1\]",
        ),
        (
            lambda: losses.posthoc_rejector_loss(0.0, 0.0, -1.0, 0.0),
            r"^expert_wrong must be in \[0, 1\]",
        ),
        (
            lambda: losses.posthoc_rejector_loss(0.0, 0.0, 0.0, -0.1),
            "^price must be >= 0",
        ),
    ],
)
def test_other_wrong_values_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
