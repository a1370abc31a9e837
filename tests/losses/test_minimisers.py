"""What each loss has learnt where it is least, at laws that are known, and decides."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

from l2d_jax import decisions, losses

# Each descends to the end.
pytestmark = pytest.mark.long


@pytest.fixture(autouse=True)
def _in_float64():
    with jax.enable_x64(True):
        yield


def law(class_probs, patterns):
    """Cases ``(label, correctness, probability)`` of all patterns of correctness.

    ``patterns`` gives, for each label, the chance of each pattern.
    """
    cases = [
        (label, correct, class_probs[label] * chance)
        for label, of_label in enumerate(patterns)
        for correct, chance in of_label.items()
    ]
    labels, correct, chances = zip(*cases, strict=True)
    assert sum(chances) == pytest.approx(1.0)
    return np.array(labels), np.array(correct, float), np.array(chances)


def minimise(loss, law, start):
    """Logits of least mean loss near ``start``, and that mean."""
    labels, correct, chances = law

    @jax.jit
    def risk(logits):
        each = jax.vmap(loss, (None, 0, 0))(logits, labels, correct)
        return chances @ each

    found = optimize.minimize(
        jax.jit(jax.value_and_grad(risk)),
        np.asarray(start, float),
        jac=True,
        method="BFGS",
        options={"gtol": 1e-9},
    )
    return found.x, found.fun


def softmax(logits):
    return np.asarray(jax.nn.softmax(logits))


def normalized(values):
    return np.asarray(values) / np.sum(values)


def defers(decision):
    return float(decision.allocation[0, 0]) == 1.0


CLASSES = np.array([0.5, 0.3, 0.2])
INDEPENDENT = law(CLASSES, 3 * [{1: 0.6, 0: 0.4}])
"""An expert who is right on .6 of the examples, whatever the label: to be asked."""
TWO_CLASSES = np.array([0.45, 0.55])
DEPENDENT = law(TWO_CLASSES, [{1: 0.8, 0: 0.2}, {1: 0.4, 0: 0.6}])
"""One who knows label 0 better: right on .45 .8 + .55 .4 = .58, so to be asked."""
EVEN = law([0.5, 0.5], 2 * [{1: 0.55, 0: 0.45}])
"""Nothing is known of the label, and the expert is right on .55: to be asked."""
START_3, START_2 = [0.3, 0.1, -0.1, 0.2], [0.1, -0.1, 0.2]


def rl2d(q):
    return lambda logits, label, correct: losses.rl2d_loss(
        logits, label, 1 - correct, q
    )


# One expert.


def test_asymmetric_softmax_has_calibrated_classes_and_a_calibrated_expert():
    for case, start, classes, right in (
        (INDEPENDENT, START_3, CLASSES, 0.6),
        (DEPENDENT, START_2, TWO_CLASSES, 0.58),
    ):
        logits, _ = minimise(losses.asymmetric_softmax_loss, case, start)
        decision = decisions.asymmetric_softmax_decision(logits[None])
        np.testing.assert_allclose(decision.class_probs, [classes], atol=1e-6)
        np.testing.assert_allclose(decision.expert_correct_prob, [[right]], atol=1e-6)
        assert defers(decision)
    logits, _ = minimise(losses.asymmetric_softmax_loss, INDEPENDENT, START_3)
    assert logits[3] - logits.max(initial=-9, where=np.arange(4) < 3) == pytest.approx(
        np.log(1.5), abs=1e-6
    )


@pytest.mark.parametrize(
    ("alpha", "deferring"), [(1.0, 0.375), (0.5, 0.4615), (0, 0.6)]
)
def test_deferral_cross_entropy_of_an_independent_expert(alpha, deferring):
    loss = functools.partial(losses.deferral_cross_entropy, alpha=alpha)
    logits, _ = minimise(loss, INDEPENDENT, START_3)
    expected = [*(1 - deferring) * CLASSES, deferring]
    np.testing.assert_allclose(softmax(logits), expected, atol=1e-4)
    decision = decisions.deferral_decision(logits[None], alpha)
    np.testing.assert_allclose(decision.expert_correct_prob, [[0.6]], atol=1e-6)
    assert defers(decision)


def test_an_alpha_below_1_is_not_consistent():
    """The expert knows label 0 alone; it is right on .54, and label 0 has .6: keep."""
    case = law([0.6, 0.4], [{1: 0.9, 0: 0.1}, {0: 1.0}])
    for alpha, kept, label in ((1.0, True, 0), (0.5, False, 1)):
        loss = functools.partial(losses.deferral_cross_entropy, alpha=alpha)
        logits, _ = minimise(loss, case, START_2)
        decision = decisions.deferral_decision(logits[None], alpha)
        assert defers(decision) != kept
        assert decisions.prediction(decision)[0] == label
        weights = [0.6 * (1 - 0.9 * (1 - alpha)), 0.4, 0.54]
        np.testing.assert_allclose(softmax(logits), normalized(weights), atol=1e-6)


@pytest.mark.parametrize(("price", "asks"), [(0.05, True), (0.2, False)])
def test_a_price_within_the_loss_moves_the_choice(price, asks):
    loss = functools.partial(losses.priced_deferral_cross_entropy, price=price)
    logits, _ = minimise(loss, INDEPENDENT, START_3)
    expected = normalized([0.5 + price, 0.3, 0.2, 0.6])
    np.testing.assert_allclose(softmax(logits), expected, atol=1e-6)
    decision = decisions.priced_deferral_decision(logits[None], price)
    assert defers(decision) == asks == (0.6 - price > 0.5)
    np.testing.assert_allclose(decision.expert_correct_prob, [[0.6]], atol=1e-6)
    np.testing.assert_allclose(decision.class_probs, [CLASSES], atol=1e-6)


@pytest.mark.parametrize(("price", "asks"), [(0.02, True), (0.04, False)])
def test_a_price_within_the_loss_of_a_dependent_expert(price, asks):
    loss = functools.partial(losses.priced_deferral_cross_entropy, price=price)
    logits, _ = minimise(loss, DEPENDENT, START_2)
    expected = normalized([0.45, 0.55 + price, 0.58])
    np.testing.assert_allclose(softmax(logits), expected, atol=1e-6)
    decision = decisions.priced_deferral_decision(logits[None], price)
    assert defers(decision) == asks
    np.testing.assert_allclose(decision.expert_correct_prob, [[0.58]], atol=1e-6)


def test_a_price_on_one_class_keeps_the_classes_apart():
    """The cost-sensitive cross entropy of the same price draws them together."""
    price, gaps = 0.2, {}
    logits, _ = minimise(
        functools.partial(losses.priced_deferral_cross_entropy, price=price),
        INDEPENDENT,
        START_3,
    )
    gaps["priced"] = softmax(logits)[0] - softmax(logits)[1]

    def of_costs(logits, label, correct):
        costs = jnp.append(jnp.arange(3) != label, 1 + price - correct)
        return losses.cost_sensitive_cross_entropy(logits, costs)

    logits, _ = minimise(of_costs, INDEPENDENT, START_3)
    gaps["cost-sensitive"] = softmax(logits)[0] - softmax(logits)[1]
    assert np.argmax(logits) == 0  # Both keep, rightly.
    np.testing.assert_allclose(gaps["priced"], 0.4 / 1.8, atol=1e-6)
    np.testing.assert_allclose(gaps["cost-sensitive"], 0.2 / 1.72, atol=1e-6)


def test_realizable_surrogate_of_an_independent_expert():
    logits, _ = minimise(losses.realizable_surrogate_loss, INDEPENDENT, START_3)
    expected = [0.3448, 0.1786, 0.1069, 0.3697]
    np.testing.assert_allclose(softmax(logits), expected, atol=1e-4)
    decision = decisions.realizable_decision(logits[None])
    assert defers(decision)  # Barely: the best margin is .1.
    np.testing.assert_allclose(decision.defer_score, [[0.0249]], atol=1e-4)
    assert np.isnan(decision.expert_correct_prob).all()


def two_class_minimiser(class_probs, right, q):
    """Of two classes, p_0 and p_1 stand apart: label or deferral is not the other."""
    wrong = class_probs * (1 - right)
    other_right = (class_probs * right)[::-1]
    odds = (wrong / other_right) ** (1 / (1 - q))
    p = odds / (1 + odds)
    return [*p, 1 - p.sum()]


@pytest.mark.parametrize(
    ("case", "class_probs", "right", "q", "asks"),
    [
        (EVEN, [0.5, 0.5], [0.55, 0.55], 0.0, False),  # It should.
        (EVEN, [0.5, 0.5], [0.55, 0.55], 0.7, False),  # It should.
        (EVEN, [0.5, 0.5], [0.55, 0.55], 0.9, True),
        (DEPENDENT, TWO_CLASSES, [0.8, 0.4], 0.0, False),  # It should.
        (DEPENDENT, TWO_CLASSES, [0.8, 0.4], 0.7, True),
    ],
)
def test_a_rule_of_the_greatest_score_keeps_too_much(case, class_probs, right, q, asks):
    expected = two_class_minimiser(np.array(class_probs), np.array(right), q)
    logits, _ = minimise(rl2d(q), case, START_2)
    np.testing.assert_allclose(softmax(logits), expected, atol=1e-5)
    assert defers(decisions.realizable_decision(logits[None])) == asks
    if q == 0.0:  # The realizable surrogate is twice this.
        logits, _ = minimise(losses.realizable_surrogate_loss, case, START_2)
        np.testing.assert_allclose(softmax(logits), expected, atol=1e-5)
    if case is EVEN and q == 0.0:
        np.testing.assert_allclose(expected, [0.45, 0.45, 0.1], atol=1e-12)


@pytest.mark.parametrize("case", [INDEPENDENT, DEPENDENT, EVEN])
def test_a_linear_loss_runs_to_the_best_choice(case):
    start = START_3 if case is INDEPENDENT else START_2
    logits, risk = minimise(rl2d(1.0), case, start)
    assert softmax(logits)[-1] > 0.999
    _, correct, chances = case
    assert risk == pytest.approx(1 - chances @ correct, abs=1e-3)
    assert defers(decisions.realizable_decision(logits[None]))


def test_a_linear_loss_keeps_where_the_expert_is_worse():
    case = law(CLASSES, 3 * [{1: 0.4, 0: 0.6}])
    logits, risk = minimise(rl2d(1.0), case, START_3)
    assert softmax(logits)[0] > 0.999 and risk == pytest.approx(0.5, abs=1e-3)
    assert not defers(decisions.realizable_decision(logits[None]))


@pytest.mark.parametrize(("price", "asks"), [(0.05, True), (0.15, False)])
def test_posthoc_rejector_compares_the_chances_of_an_error(price, asks):
    """The classifier says 0 and errs on .5; the expert errs on .4."""

    def loss(score, label, correct):
        return losses.posthoc_rejector_loss(score[0], label != 0, 1 - correct, price)

    score, _ = minimise(loss, INDEPENDENT, [0.0])
    np.testing.assert_allclose(score, [np.log(0.5 / (price + 0.4))], atol=1e-6)
    decision = decisions.decide(CLASSES[None], score[None])
    assert defers(decision) == asks


# Several experts.

PAIR = law(
    TWO_CLASSES,
    [
        {(1, 1): 0.6, (0, 1): 0.2, (0, 0): 0.2},
        {(1, 1): 0.1, (0, 1): 0.3, (1, 0): 0.2, (0, 0): 0.4},
    ],
)
"""Two who are often right together, and know label 0 better: .435 and .58."""
PAIR_RIGHT = np.array([0.435, 0.58])
START_PAIR = [0.1, -0.1, 0.2, -0.2]
STRANGERS = law(CLASSES, 3 * [{(1, 1): 0.18, (1, 0): 0.12, (0, 1): 0.42, (0, 0): 0.28}])
"""Two who are right on .3 and .6, apart from each other and from the label."""
STRANGERS_RIGHT = np.array([0.3, 0.6])
SEVERAL = [
    (PAIR, TWO_CLASSES, PAIR_RIGHT, START_PAIR),
    (STRANGERS, CLASSES, STRANGERS_RIGHT, [0.0, *START_PAIR]),
]
IDS = ["dependent", "independent"]


@pytest.mark.parametrize(("case", "class_probs", "right", "start"), SEVERAL, ids=IDS)
def test_softmax_of_several(case, class_probs, right, start):
    logits, _ = minimise(losses.multi_expert_cross_entropy, case, start)
    expected = normalized([*class_probs, *right])
    np.testing.assert_allclose(softmax(logits), expected, atol=1e-6)
    decision = decisions.multi_expert_decision(logits[None], 2)
    np.testing.assert_allclose(decision.expert_correct_prob, [right], atol=1e-6)
    np.testing.assert_allclose(decision.class_probs, [class_probs], atol=1e-6)
    np.testing.assert_array_equal(decision.allocation, [[0, 1, 0]])


@pytest.mark.parametrize(("case", "class_probs", "right", "start"), SEVERAL, ids=IDS)
@pytest.mark.parametrize("weight", [0.3, 1.0, 2.0])
def test_decoupled(case, class_probs, right, start, weight):
    loss = functools.partial(losses.decoupled_loss, weight=weight)
    logits, _ = minimise(loss, case, start)
    decision = decisions.decoupled_decision(logits[None], 2)
    np.testing.assert_allclose(decision.expert_correct_prob, [right], atol=1e-6)
    np.testing.assert_allclose(decision.class_probs, [class_probs], atol=1e-6)
    np.testing.assert_array_equal(decision.allocation, [[0, 1, 0]])


def asked_at_random(law):
    """The first expert is asked on .5 of the examples, the second on .8."""
    labels, correct, chances = law
    parts = []
    for asked in itertools.product((True, False), repeat=2):
        share = np.prod(np.where(asked, [0.5, 0.8], [0.5, 0.2]))
        parts.append((labels, np.where(asked, correct, -1.0), share * chances))
    return tuple(np.concatenate(column) for column in zip(*parts, strict=True))


@pytest.mark.parametrize(
    ("loss", "decide"),
    [
        (losses.multi_expert_cross_entropy, decisions.multi_expert_decision),
        (losses.decoupled_loss, decisions.decoupled_decision),
        (losses.one_vs_all_loss, decisions.one_vs_all_decision),
    ],
    ids=["softmax", "decoupled", "one-vs-all"],
)
def test_asking_at_random_moves_no_minimiser(loss, decide):
    logits, _ = minimise(loss, asked_at_random(PAIR), START_PAIR)
    decision = decide(logits[None], 2)
    np.testing.assert_allclose(decision.class_probs, [TWO_CLASSES], atol=1e-6)
    np.testing.assert_allclose(decision.expert_correct_prob, [PAIR_RIGHT], atol=1e-6)
    np.testing.assert_array_equal(decision.allocation, [[0, 1, 0]])


def test_asking_at_random_moves_what_picce_estimates():
    """The shares of a softmax hang together: .597 for .58. Logistic terms do not."""
    case, order = asked_at_random(PAIR), [0.1, -0.1, -1.0, 2.0]
    for loss, decide, estimate in (
        (losses.picce_cross_entropy, decisions.picce_decision, 0.5966),
        (losses.picce_one_vs_all, decisions.picce_one_vs_all_decision, 0.58),
    ):
        logits, _ = minimise(loss, case, order)
        decision = decide(logits[None], 2)
        np.testing.assert_allclose(
            decision.expert_correct_prob, [[np.nan, estimate]], atol=1e-4
        )
        np.testing.assert_array_equal(decision.allocation, [[0, 1, 0]])


@pytest.mark.parametrize(
    ("case", "class_probs", "right", "start", "second"),
    [(*SEVERAL[0], 0.11), (*SEVERAL[1], 0.12)],
    ids=IDS,
)
def test_picce_of_two(case, class_probs, right, start, second):
    """The better is first; the other's share is what they alone know."""
    orders = [[*start[:-2], *lead] for lead in ([2.0, 0.0], [0.0, 2.0])]
    found = [minimise(losses.picce_cross_entropy, case, order) for order in orders]
    logits, _ = min(found, key=lambda each: each[1])
    expected = normalized([*class_probs, second, right[1]])
    np.testing.assert_allclose(softmax(logits), expected, atol=1e-6)
    decision = decisions.picce_decision(logits[None], 2)
    np.testing.assert_allclose(
        decision.expert_correct_prob, [[np.nan, right[1]]], atol=1e-6
    )
    np.testing.assert_array_equal(decision.allocation, [[0, 1, 0]])

    logits, _ = minimise(losses.picce_one_vs_all, case, orders[1])
    expected = [*class_probs, second, right[1]]
    np.testing.assert_allclose(jax.nn.sigmoid(logits), expected, atol=1e-6)
    decision = decisions.picce_one_vs_all_decision(logits[None], 2)
    np.testing.assert_allclose(
        decision.expert_correct_prob, [[np.nan, right[1]]], atol=1e-6
    )
    np.testing.assert_array_equal(decision.allocation, [[0, 1, 0]])


COMPLEMENTS = {
    (1, 1, 0): 0.3,
    (1, 0, 1): 0.2,
    (0, 1, 0): 0.15,
    (0, 0, 1): 0.15,
    (0, 0, 0): 0.2,
}
"""Right on .5, .45 and .35; the last two share among them all that the first knows."""


@pytest.mark.parametrize(
    ("loss", "decide", "share"),
    [
        (
            losses.picce_cross_entropy,
            decisions.picce_decision,
            lambda g: softmax(g)[2:] / softmax(g)[:2].sum(),
        ),
        (
            losses.picce_one_vs_all,
            decisions.picce_one_vs_all_decision,
            lambda g: jax.nn.sigmoid(g[2:]),
        ),
    ],
    ids=["softmax", "one-vs-all"],
)
def test_picce_of_three_is_not_consistent(loss, decide, share):
    """It asks the second best, and gives the best the probability 0."""
    case = law([0.55, 0.45], 2 * [COMPLEMENTS])
    found = []
    for order in ([1.0, 0.0, -1.0], [-1.0, 1.0, 0.0], [0.0, 1.0, -1.0]):
        logits, risk = minimise(loss, case, [0.0, 0.0, *order])
        found.append((risk, np.asarray(share(logits)), decide(logits[None], 3)))
    right_order, least, _ = found
    assert least[0] == min(risk for risk, *_ in found) < right_order[0] - 0.15
    np.testing.assert_allclose(right_order[1], [0.5, 0.15, 0.15], atol=1e-5)
    np.testing.assert_allclose(least[1], [0.0, 0.45, 0.35], atol=1e-5)
    np.testing.assert_allclose(
        least[2].expert_correct_prob, [[np.nan, 0.45, np.nan]], atol=1e-5
    )
    assert np.argmax(least[2].defer_score) == 1

    # The softmax of several experts ranks them as they are.
    logits, _ = minimise(losses.multi_expert_cross_entropy, case, np.zeros(5))
    decision = decisions.multi_expert_decision(logits[None], 3)
    np.testing.assert_allclose(
        decision.expert_correct_prob, [[0.5, 0.45, 0.35]], atol=1e-6
    )


@pytest.mark.parametrize(("price", "who"), [(0.02, 1), (0.05, 2)])
def test_two_stages_ask_whom_costs_least(price, who):
    """The classifier says 1 and is right on .55; the experts on .435 and .58."""

    def loss(scores, label, correct):
        errors = jnp.append(1 - correct + price, label != 1)
        return losses.two_stage_loss(scores, errors / (1 + price))

    scores, _ = minimise(loss, PAIR, [0.1, 0.0, -0.1])
    saved = np.array([0.435, 0.58, 0.55 + price]) / (1 + price)
    np.testing.assert_allclose(softmax(scores), normalized(saved), atol=1e-6)
    decision = decisions.two_stage_decision(TWO_CLASSES[None], scores[None])
    assert np.argmax(decision.allocation) == who
    assert np.isnan(decision.expert_correct_prob).all()


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        (INDEPENDENT, [0.3448, 0.1786, 0.1069, 0.3697]),
        (DEPENDENT, two_class_minimiser(TWO_CLASSES, np.array([0.8, 0.4]), 0.0)),
    ],
)
def test_a_mixture_of_experts_hedges(case, expected):
    """It gives the classifier more weight than the expert, who is the better choice.

    The classifier's weight times each class, and the expert's, are the softmax of the
    realizable surrogate.
    """
    num_classes = len(expected) - 1

    def loss(logits, label, correct):
        of_classes, gate = logits[:num_classes], logits[num_classes:]
        return losses.mixture_of_experts_nll(of_classes, gate, label, correct[None])

    logits, _ = minimise(loss, case, np.linspace(0.3, -0.2, num_classes + 2))
    of_classes, gate = softmax(logits[:num_classes]), softmax(logits[num_classes:])
    joint = [*gate[1] * of_classes, gate[0]]
    np.testing.assert_allclose(joint, expected, atol=1e-4)
    decision = decisions.mixture_of_experts_decision(
        logits[None, :num_classes], logits[None, num_classes:]
    )
    assert not defers(decision)
    assert np.isnan(decision.expert_correct_prob).all()
