import jax
import jax.numpy as jnp
import numpy as np
import pytest

from l2d_jax import decisions
from l2d_jax.types import Decision

pytestmark = pytest.mark.usefixtures("cheap_compiles")

decide = jax.jit(decisions.deferral_decision)
by_score = jax.jit(decisions.decide)
allocate = jax.jit(decisions.allocate)
among = jax.jit(decisions.among)
vote = jax.jit(decisions.vote)
answer = jax.jit(decisions.answer)
TOL = {"rtol": 1e-5, "atol": 1e-6}
EXTREMES = np.array(
    [
        [1e4, -1e4, -1e4, 1e4],
        [-1e4, -1e4, -1e4, 1e4],
        [1e4, 1e4, 1e4, -1e4],
        [1e4, 1e4, 1e4, 1e4],
        [-1e4, -1e4, -1e4, -1e4],
    ]
)


def random_logits(seed, size=16, outputs=4):
    return np.random.default_rng(seed).normal(scale=2, size=(size, outputs))


def softmax(logits):
    exp = np.exp(logits - logits.max(1, keepdims=True))
    return exp / exp.sum(1, keepdims=True)


def deferral_oracle(logits, alpha):
    """Probability that the expert is right, from the softmax, in float64."""
    p = softmax(logits)[:, -1]
    free = 1 - alpha * p
    q = np.ones_like(p)
    np.divide(p, free, out=q, where=free > 0)
    return np.minimum(q, 1)[:, None]


@jax.jit
def decide_with_gradient(logits, alpha):
    def total(logits):
        d = decisions.deferral_decision(logits, alpha)
        scores = d.defer_score + d.class_probs[:, :1] + d.expert_correct_prob
        return scores.sum(), d

    (_, decision), gradient = jax.value_and_grad(total, has_aux=True)(logits)
    return decision, gradient


def defers(decision):
    """Whether each input of a decision of one expert is deferred."""
    assert decision.allocation.shape == (len(decision.class_probs), 2)
    return np.asarray(decision.allocation)[:, 0] == 1


def assert_follows_its_score(decision):
    np.testing.assert_array_equal(decision.allocation, one_answers(decision))


def one_answers(decision):
    """Who answers by the rule, one-hot; written for scores without ties."""
    score = np.asarray(decision.defer_score)
    num_experts = score.shape[1]
    who = np.where(score.max(1) > 0, score.argmax(1), num_experts)
    return np.eye(num_experts + 1)[who]


# From scores.


def test_whoever_has_the_greatest_score_is_asked_if_it_is_above_0():
    score = np.array(
        [
            [0.1, 0.3, 0.2],  # The second.
            [-0.1, -0.3, -0.2],  # Nobody.
            [0.0, -1.0, 0.0],  # 0 keeps.
            [-1.0, 0.5, 0.5],  # The first of a tie.
            [np.inf, 1.0, np.inf],
            [-np.inf, -np.inf, -np.inf],
        ]
    )
    probs = np.full((6, 2), 0.5)
    expected = np.eye(4)[[1, 3, 3, 1, 0, 3]]
    for wrap in (lambda f: f, jax.jit):
        decision = wrap(decisions.decide)(probs, score)
        np.testing.assert_array_equal(decision.allocation, expected)
        np.testing.assert_array_equal(decision.defer_score, np.float32(score))
        assert np.isnan(decision.expert_correct_prob).all()
        assert decision.expert_correct_prob.shape == (6, 3)
    estimate = np.linspace(0, 1, 18).reshape(6, 3)
    decision = by_score(probs, score, estimate)
    np.testing.assert_allclose(decision.expert_correct_prob, estimate, rtol=1e-6)
    np.testing.assert_array_equal(decision.allocation, expected)


def test_a_score_that_is_not_a_number_is_deferred():
    score = np.array([[np.nan, -1.0], [-1.0, np.nan], [9.0, np.nan], [np.nan, np.nan]])
    # To whom the score belongs, to the first of two; whatever the threshold.
    for threshold in (0.0, 100.0, np.inf):
        allocation = allocate(score, threshold)
        np.testing.assert_array_equal(allocation, np.eye(3)[[0, 1, 1, 0]])
    logits = np.array([[np.nan, 0.0, 0.0], [0.0, 0.0, np.nan]])
    assert defers(decide(logits)).all()


def test_a_threshold_takes_the_place_of_0():
    score = np.array([[1.0, 2.0], [2.5, 1.0], [-3.0, -2.0]])
    for threshold, who in ((2.0, [2, 0, 2]), (2.5, [2, 2, 2]), (-2.5, [1, 0, 1])):
        allocation = allocate(score, threshold)
        np.testing.assert_array_equal(allocation, np.eye(3)[who])


def test_prediction_is_the_likeliest_class_or_minus_1():
    probs = np.array([[0.2, 0.8, 0.0], [0.4, 0.2, 0.4], [np.nan] * 3])
    decision = decisions.classifier_decision(probs)
    np.testing.assert_array_equal(decisions.prediction(decision), [1, 0, -1])


# The rules of the methods.


def test_deferral_by_hand():
    # Classes 1 : 3 and defer 2, so p_defer = 1/3 and q = (1/3)/(2/3); then defer 4.
    logits = np.log(np.array([[1.0, 3.0, 2.0], [1.0, 3.0, 4.0], [2.0, 1.0, 2.0]]))
    decision = decisions.deferral_decision(logits)
    np.testing.assert_array_equal(decisions.prediction(decision), [1, 1, 0])
    np.testing.assert_array_equal(decision.allocation, [[0, 1], [1, 0], [0, 1]])
    scores = [[np.log(2 / 3)], [np.log(4 / 3)], [0]]
    np.testing.assert_allclose(decision.defer_score, scores, **TOL)
    class_probs = [[1 / 4, 3 / 4], [1 / 4, 3 / 4], [2 / 3, 1 / 3]]
    np.testing.assert_allclose(decision.class_probs, class_probs, **TOL)
    expected = [[1 / 2], [1], [2 / 3]]
    np.testing.assert_allclose(decision.expert_correct_prob, expected, **TOL)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0, 2.5])
@pytest.mark.parametrize("wrapped", [decisions.deferral_decision, decide])
def test_expert_correct_prob_matches_the_definition(alpha, wrapped):
    logits = random_logits(0)
    decision = wrapped(logits, alpha)
    expected = deferral_oracle(logits, alpha)
    np.testing.assert_allclose(decision.expert_correct_prob, expected, **TOL)
    np.testing.assert_allclose(decision.class_probs, softmax(logits[:, :-1]), **TOL)
    assert_follows_its_score(decision)


@jax.jit
def minimise_expected_loss(alpha, class_prob, expert_by_class):
    def expected_loss(logits):
        log_probs = jax.nn.log_softmax(logits)
        label_weight = alpha * expert_by_class + 1 - expert_by_class
        q = class_prob @ expert_by_class
        return -q * log_probs[2] - (class_prob * label_weight) @ log_probs[:2]

    def step(_, logits):
        return logits - 2 * jax.grad(expected_loss)(logits)

    return jax.lax.fori_loop(0, 500, step, jnp.zeros(3))[None]


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0, 2.0])
def test_minimiser_of_the_expected_loss_gives_back_the_truth(alpha):
    # At one input: two classes, and the expert's chance of being right in each.
    class_prob = np.array([0.3, 0.7])
    expert_by_class = np.array([0.9, 0.5])
    q = class_prob @ expert_by_class

    decision = decide(minimise_expected_loss(alpha, class_prob, expert_by_class), alpha)
    np.testing.assert_allclose(decision.expert_correct_prob, [[q]], rtol=0, atol=1e-4)


def test_alpha_is_traced_and_vmapped():
    logits = random_logits(1)
    alphas = jnp.array([0.0, 0.5, 1.0])
    result = jax.vmap(decisions.deferral_decision, (None, 0))(logits, alphas)
    for run, alpha in enumerate([0.0, 0.5, 1.0]):
        np.testing.assert_allclose(
            result.expert_correct_prob[run], deferral_oracle(logits, alpha), **TOL
        )
    # A greater alpha raises the estimate; the choice to defer ignores it.
    assert np.all(np.diff(result.expert_correct_prob, axis=0) >= 0)
    np.testing.assert_array_equal(result.allocation[0], result.allocation[2])


@pytest.mark.parametrize("alpha", [0.0, 1.0, 3.0])
def test_deferral_is_finite_at_extreme_logits(alpha):
    extremes = EXTREMES.astype(np.float32)
    decision, gradient = decide_with_gradient(extremes, alpha)
    for field in decision:
        assert np.all(np.isfinite(field))
    assert np.all(np.isfinite(gradient))
    np.testing.assert_allclose(
        decision.expert_correct_prob, deferral_oracle(EXTREMES, alpha), **TOL
    )


def test_ties_keep():
    assert not defers(decisions.deferral_decision(np.zeros((1, 4))))[0]
    tied = decisions.confidence_decision(np.full((1, 2), 0.5), np.array([[0.5]]))
    assert tied.defer_score[0, 0] == 0 and not defers(tied)[0]


def test_confidence_by_hand():
    class_probs = np.array([[1 / 4, 3 / 4], [1 / 4, 3 / 4], [2 / 3, 1 / 3]])
    expert_correct_prob = np.array([[0.7, 0.1], [0.8, 0.9], [1.0, 0.5]])
    decision = jax.jit(decisions.confidence_decision)(class_probs, expert_correct_prob)
    np.testing.assert_array_equal(decisions.prediction(decision), [1, 1, 0])
    np.testing.assert_array_equal(
        decision.allocation, [[0, 0, 1], [0, 1, 0], [1, 0, 0]]
    )
    scores = [[-0.05, -0.65], [0.05, 0.15], [1 / 3, -1 / 6]]
    np.testing.assert_allclose(decision.defer_score, scores, **TOL)
    np.testing.assert_allclose(decision.class_probs, class_probs, **TOL)
    np.testing.assert_allclose(decision.expert_correct_prob, expert_correct_prob, **TOL)


def test_confidence_defers_where_the_classifier_is_likelier_to_be_wrong():
    class_probs = softmax(random_logits(2))
    expert_correct_prob = np.random.default_rng(2).random((16, 1))
    decision = decisions.confidence_decision(class_probs, expert_correct_prob)
    classifier_wrong = 1 - class_probs.max(1)
    expected = classifier_wrong > 1 - expert_correct_prob[:, 0]
    np.testing.assert_array_equal(defers(decision), expected)
    assert 0 < expected.sum() < 16


def test_classifier_never_defers_and_ranks_by_confidence():
    class_probs = softmax(random_logits(3))
    decision = decisions.classifier_decision(class_probs)
    np.testing.assert_array_equal(decisions.prediction(decision), class_probs.argmax(1))
    assert not np.any(defers(decision))
    np.testing.assert_allclose(
        decision.defer_score, -class_probs.max(1, keepdims=True), **TOL
    )
    assert np.all(np.isnan(decision.expert_correct_prob))
    two = decisions.classifier_decision(class_probs, num_experts=2)
    np.testing.assert_array_equal(two.allocation, np.eye(3)[[2] * 16])
    np.testing.assert_array_equal(
        two.defer_score, np.repeat(decision.defer_score, 2, axis=1)
    )


def test_expert_always_decides():
    decision = decisions.expert_decision(3, 4)
    assert np.all(defers(decision))
    assert_follows_its_score(decision)
    assert np.isnan(decision.class_probs).all()
    assert np.isnan(decision.expert_correct_prob).all()
    np.testing.assert_array_equal(decisions.prediction(decision), [-1, -1, -1])
    answers = np.array([[2], [0], [-1]])
    np.testing.assert_array_equal(decisions.answer(decision, answers), [2, 0, -1])
    like = decisions.classifier_decision(np.full((3, 4), 0.25))
    assert jax.tree.map(jnp.shape, decision) == jax.tree.map(jnp.shape, like)
    assert jax.tree.map(jnp.result_type, decision) == (
        jax.tree.map(jnp.result_type, like)
    )


def test_one_expert_of_several_always_decides():
    alone = jax.jit(lambda expert: decisions.expert_decision(2, 3, 3, expert))
    for expert in range(3):
        decision = alone(expert)
        np.testing.assert_array_equal(decision.allocation, np.eye(4)[[expert] * 2])
        assert_follows_its_score(decision)
        answers = np.array([[0, 1, 2], [2, 2, 0]])
        np.testing.assert_array_equal(
            decisions.answer(decision, answers), answers[:, expert]
        )


def test_the_router_that_knows_who_is_right():
    class_probs = np.array([[0.9, 0.1], [0.9, 0.1], [0.9, 0.1], [0.9, 0.1]])
    labels = np.array([0, 1, 1, 1])
    # Right anyway; the second alone is; both are; nobody who was asked is.
    answers = np.array([[0, 0], [0, 1], [1, 1], [-1, 0]])
    decision = decisions.oracle_decision(class_probs, labels, answers)
    np.testing.assert_array_equal(decision.allocation, np.eye(3)[[2, 1, 0, 2]])
    np.testing.assert_array_equal(
        decision.defer_score, [[0, 0], [0, 1], [1, 1], [0, 0]]
    )
    np.testing.assert_array_equal(decisions.answer(decision, answers), [0, 1, 1, 0])
    np.testing.assert_array_equal(
        decision.expert_correct_prob, [[1, 1], [0, 1], [1, 1], [0, 0]]
    )


# Who can be asked.


def test_the_next_best_is_asked_in_place_of_who_is_not_there():
    score = np.array([[0.3, 0.2, 0.1]] * 4 + [[0.3, -0.2, -0.1]] * 2)
    decision = by_score(np.full((6, 2), 0.5), score)
    available = np.array(
        [
            [True, True, True],
            [False, True, True],
            [False, False, True],
            [False, False, False],
            [False, True, True],  # The others are not worth asking.
            [True, False, False],
        ]
    )
    for wrap in (lambda f: f, jax.jit):
        left = wrap(decisions.among)(decision, available)
        np.testing.assert_array_equal(left.allocation, np.eye(4)[[0, 1, 2, 3, 3, 0]])
        np.testing.assert_array_equal(
            left.defer_score, np.where(available, decision.defer_score, -np.inf)
        )


def test_a_kept_input_stays_kept_whoever_is_there():
    decision = by_score(np.full((2, 2), 0.5), np.full((2, 2), -0.5))
    left = among(decision, np.array([[True, False], [False, False]]))
    np.testing.assert_array_equal(left.allocation, np.eye(3)[[2, 2]])


def test_votes_are_shared_among_who_is_left():
    allocation = np.array([[0.5, 0.1, 0.2, 0.2]] * 3 + [[0.5, 0.1, 0.4, 0.0]] * 2)
    decision = by_score(np.full((5, 2), 0.5), np.full((5, 3), 0.5))
    decision = decision._replace(allocation=allocation)
    available = np.array(
        [
            [True, True, True],
            [False, True, True],
            [False, False, False],
            [False, True, True],
            [False, False, False],  # All of the votes were the experts'.
        ]
    )
    left = among(decision, available).allocation
    expected = [
        [0.5, 0.1, 0.2, 0.2],
        [0, 0.2, 0.4, 0.4],
        [0, 0, 0, 1],
        [0, 0.2, 0.8, 0],
        [0, 0, 0, 1],
    ]
    np.testing.assert_allclose(left, expected, **TOL)


def test_nobody_answers_where_the_one_expert_is_not_there():
    alone = decisions.expert_decision(2, 3, 2)
    left = among(alone, np.array([[False, True], [True, True]]))
    answers = answer(left, np.array([[-1, 1], [2, 1]]))
    # There is no classifier to fall back on.
    np.testing.assert_array_equal(answers, [-1, 2])


# What is answered.


def make_decision(weights, class_probs):
    """Everybody votes with their share of the weights."""
    weights = np.asarray(weights)
    shares = weights / weights.sum(1, keepdims=True)
    score = np.float32(weights[:, :-1])
    nothing = np.full(score.shape, np.nan, np.float32)
    return Decision(np.float32(class_probs), nothing, score, np.float32(shares))


def random_votes(num_classes, count=30, num_experts=4):
    generator = np.random.default_rng(num_classes)
    weights = generator.uniform(0.05, 1, (count, num_experts + 1))
    class_probs = softmax(generator.normal(size=(count, num_classes)))
    answers = generator.integers(-1, num_classes, (count, num_experts))
    return make_decision(weights, class_probs), answers


def oracle_vote(decision, answers):
    """Row by row, in float64."""
    votes = []
    for shares, probs, given in zip(
        np.float64(decision.allocation),
        np.float64(decision.class_probs),
        answers,
        strict=True,
    ):
        total, of_classes = shares[-1], shares[-1] * probs
        for share, answer in zip(shares, given, strict=False):
            if answer >= 0:
                total += share
                of_classes[answer] += share
        votes.append(of_classes / total)
    return np.array(votes)


def test_vote_by_hand():
    weights = [[0.5, 0.25, 0.9, 0.25], [0.5, 0.5, 0.5, 0.1]]
    decision = make_decision(weights, np.array([[0.2, 0.8], [0.7, 0.3]]))
    # The second was not asked, and of the other input nobody was.
    answers = np.array([[1, -1, 0], [-1, -1, -1]])
    # (0.5 * 1 + 0.9 * 0 + 0.25 * 0.8) / (0.5 + 0.9 + 0.25) = 0.7 / 1.65.
    expected = [[0.95 / 1.65, 0.7 / 1.65], [0.7, 0.3]]
    for wrap in (lambda f: f, jax.jit):
        votes = wrap(decisions.vote)(decision, answers)
        np.testing.assert_allclose(votes, expected, **TOL)
        chosen = wrap(decisions.answer)(decision, answers)
        np.testing.assert_array_equal(chosen, [0, 0])


@pytest.mark.parametrize("num_classes", [2, 5])
def test_votes_agree_with_the_oracle(num_classes):
    decision, answers = random_votes(num_classes)
    expected = oracle_vote(decision, answers)
    np.testing.assert_allclose(expected.sum(1), 1.0, rtol=1e-6)
    for function in (decisions.vote, jax.jit(decisions.vote)):
        np.testing.assert_allclose(function(decision, answers), expected, **TOL)
    two = jax.tree.map(lambda leaf: np.stack([leaf, leaf[::-1]]), (decision, answers))
    votes = jax.vmap(decisions.vote)(*two)
    np.testing.assert_allclose(votes, [expected, expected[::-1]], **TOL)
    chosen = answer(decision, answers)
    np.testing.assert_array_equal(chosen, expected.argmax(1))
    assert len(np.unique(chosen)) == num_classes


def test_permuting_experts_changes_no_vote():
    decision, answers = random_votes(3)
    order = np.array([2, 0, 3, 1])
    moved = decision._replace(allocation=decision.allocation[:, [*order, 4]])
    np.testing.assert_allclose(
        vote(moved, answers[:, order]), vote(decision, answers), **TOL
    )


def test_who_was_not_asked_has_no_part_in_the_vote():
    decision, answers = random_votes(3)
    unasked = np.pad(answers < 0, ((0, 0), (0, 1)))
    assert unasked.any()

    def total(allocation):
        votes = decisions.vote(decision._replace(allocation=allocation), answers)
        return jnp.sum(votes**2), votes

    change = jax.jit(jax.value_and_grad(total, has_aux=True))
    (_, before), gradient = change(decision.allocation)
    (_, after), _ = change(jnp.where(unasked, 0.99, decision.allocation))
    np.testing.assert_array_equal(before, after)
    assert (np.asarray(gradient)[unasked] == 0).all()
    assert (np.abs(gradient)[~unasked] > 0).any()


@pytest.mark.parametrize("num_voters", [20, 22, 28, 40, 170])
def test_equal_votes_are_the_lowest_label(num_voters):
    """Also where shares that are no binary fractions would not add up to the same."""
    half = num_voters // 2
    generator = np.random.default_rng(num_voters)
    orders = [np.repeat([1, 0], half), np.repeat([0, 1], half), np.tile([1, 0], half)]
    orders += [generator.permutation(orders[0]) for _ in range(20)]
    answers = np.stack(orders)
    # One who changes sides decides it; then three classes, the last two of them equal.
    most = np.where(np.arange(num_voters) == answers.argmin(1)[:, None], 1, answers)

    @jax.jit
    def answers_of_everybody(given):
        return [
            decisions.answer(
                decisions.majority_decision(len(answers), num_classes, num_voters), rows
            )
            for num_classes, rows in zip((2, 2, 3), given, strict=True)
        ]

    chosen = answers_of_everybody((answers, most, answers + 1))
    for ours, expected in zip(chosen, (0, 1, 1), strict=True):
        np.testing.assert_array_equal(ours, expected)


def test_votes_that_differ_by_rounding_alone_are_equal():
    """1 + 2 = 3, of 7: in float32 the two together have more than the one."""
    parts = np.array([[1, 2, 3, 1], [1, 4, 5, 2], [1, 5, 6, 7], [2, 3, 5, 2]])
    decision = make_decision(parts, np.full((4, 2), 0.5))
    answers = np.tile([1, 1, 0], (4, 1))
    votes = np.asarray(vote(decision, answers))
    assert (votes[:, 1] > votes[:, 0]).any()
    np.testing.assert_array_equal(answer(decision, answers), 0)
    np.testing.assert_array_equal(answer(decision, 1 - answers), 0)
    # With a little more than rounding it is none.
    more = make_decision(parts + np.array([0, 0.01, 0, 0]), np.full((4, 2), 0.5))
    np.testing.assert_array_equal(answer(more, answers), 1)


def test_the_majority_is_of_who_was_asked():
    everybody = decisions.majority_decision(4, 3, 5)
    np.testing.assert_allclose(everybody.allocation, [[0.2] * 5 + [0]] * 4, **TOL)
    assert np.isnan(everybody.class_probs).all()
    answers = np.array(
        [
            [2, 2, 0, 1, 2],
            [2, -1, -1, 1, 1],
            [-1, -1, 2, -1, -1],
            [-1, -1, -1, -1, -1],
        ]
    )
    votes = vote(everybody, answers)
    expected = [[0.2, 0.2, 0.6], [0, 2 / 3, 1 / 3], [0, 0, 1], [np.nan] * 3]
    np.testing.assert_allclose(votes, expected, **TOL)
    # A classifier that is not there has no part in it; nor has anybody in the last.
    np.testing.assert_array_equal(answer(everybody, answers), [2, 1, 2, -1])


def test_the_classifier_answers_with_all_of_its_digits():
    """Nothing is added up where it alone answers, so that nothing is rounded off."""
    near = np.float32([[0.5 - 2**-24, 0.5 + 2**-24]])
    assert near[0, 0] < near[0, 1]
    kept = decisions.classifier_decision(near, num_experts=100)
    np.testing.assert_array_equal(answer(kept, np.full((1, 100), -1)), [1])


# Thresholds.


@pytest.mark.parametrize(
    ("coverage", "num_kept"),
    [(0.0, 0), (0.05, 1), (0.1, 1), (0.3, 3), (0.31, 4), (0.7, 7), (0.99, 10), (1, 10)],
)
def test_threshold_keeps_the_closest_fraction_not_below(coverage, num_kept):
    scores = np.random.default_rng(4).normal(size=10).astype(np.float32)
    threshold = decisions.threshold_for_coverage(scores, coverage)
    kept = scores <= threshold
    assert kept.sum() == num_kept
    # The lowest scores are the ones kept.
    np.testing.assert_array_equal(np.sort(scores)[:num_kept], np.sort(scores[kept]))


def test_threshold_keeps_every_whole_count_exactly():
    size = 1000
    scores = np.random.default_rng(5).permutation(size).astype(np.float32)
    coverages = np.arange(size + 1) / size
    thresholds = jax.jit(jax.vmap(decisions.threshold_for_coverage, (None, 0)))(
        scores, coverages
    )
    kept = (scores[None] <= np.asarray(thresholds)[:, None]).sum(1)
    np.testing.assert_array_equal(kept, np.arange(size + 1))


def test_threshold_keeps_ties_together():
    scores = np.array([2.0, 1.0, 1.0, 1.0])
    threshold = decisions.threshold_for_coverage(scores, 0.25)
    assert (scores <= threshold).sum() == 3


@jax.jit
def decide_at_coverage(logits, coverage):
    decision = decisions.deferral_decision(logits)
    threshold = decisions.threshold_for_coverage(decision.defer_score[:, 0], coverage)
    return decision, decisions.apply_threshold(decision, threshold)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e4])
@pytest.mark.parametrize("coverage", [0.0, 0.4, 1.0])
def test_applied_threshold_gives_the_coverage(coverage, scale):
    logits = random_logits(6, size=10) * scale
    decision, shifted = decide_at_coverage(logits, coverage)
    assert_follows_its_score(shifted)
    assert np.sum(~defers(shifted)) == round(coverage * 10)
    # Only the rule changes: not the ranking, nor the classifier.
    np.testing.assert_array_equal(
        np.argsort(shifted.defer_score[:, 0]), np.argsort(decision.defer_score[:, 0])
    )
    np.testing.assert_array_equal(shifted.class_probs, decision.class_probs)


def test_applied_threshold_keeps_its_promise_for_large_and_for_tiny_scores():
    """Where a difference of two float32 may round, or is below all of them."""
    apply = jax.jit(decisions.apply_threshold)
    threshold_for_coverage = jax.jit(decisions.threshold_for_coverage)
    order = np.random.default_rng(9).permutation(10)
    for scores in (1e7 + order, 1e-7 * (1 + order), -1e7 + order, 1.3e-38 + 0 * order):
        scores = scores.astype(np.float32)
        scores[order == 3] = np.nextafter(scores[order == 4], np.float32(np.inf))
        decision = by_score(np.full((10, 2), 0.5), scores[:, None])
        for num_kept in range(11):
            threshold = threshold_for_coverage(scores, num_kept / 10)
            kept = ~defers(apply(decision, threshold))
            np.testing.assert_array_equal(kept, scores <= np.float32(threshold))
            # More are kept where scores tie.
            assert kept.sum() >= num_kept
            if len(np.unique(scores)) == 10:
                assert kept.sum() == num_kept


def test_a_threshold_on_the_greatest_of_several_scores():
    score = np.array([[0.1, 0.9], [0.8, 0.2], [-0.5, 0.3], [0.4, 0.1]])
    decision = by_score(np.full((4, 2), 0.5), score)
    threshold = decisions.threshold_for_coverage(score.max(1), 0.5)
    shifted = decisions.apply_threshold(decision, threshold)
    np.testing.assert_array_equal(shifted.allocation, np.eye(3)[[1, 0, 2, 2]])
    np.testing.assert_allclose(shifted.defer_score, score - 0.4, **TOL)


def test_threshold_zero_changes_nothing():
    decision = decisions.deferral_decision(random_logits(7))
    same = decisions.apply_threshold(decision, 0.0)
    for before, after in zip(decision, same, strict=True):
        np.testing.assert_array_equal(after, before)


def test_each_rule_under_vmap_equals_each_run_alone():
    logits = np.stack([random_logits(seed) for seed in range(2)])
    class_probs = np.stack([softmax(run) for run in logits])
    probs = np.random.default_rng(8).random((2, 16, 3))
    labels, answers = np.arange(32).reshape(2, 16) % 4, np.zeros((2, 16, 3), int)
    cases = [
        (decisions.deferral_decision, (logits,)),
        (decisions.confidence_decision, (class_probs, probs)),
        (decisions.classifier_decision, (class_probs,)),
        (decisions.oracle_decision, (class_probs, labels, answers)),
    ]
    for rule, arguments in cases:
        one, together = jax.jit(rule), jax.jit(jax.vmap(rule))(*arguments)
        for run in range(2):
            alone = one(*(x[run] for x in arguments))
            assert isinstance(alone, Decision)
            for a, b in zip(together, alone, strict=True):
                np.testing.assert_allclose(a[run], b, **TOL)


def test_wrong_arguments_are_named():
    decision = decisions.expert_decision(3, 2)
    with pytest.raises(ValueError, match=r"^logits must have shape \[B, K\+1\]"):
        decisions.deferral_decision(np.zeros((2, 5, 4)))
    with pytest.raises(
        ValueError, match=r"^logits .* at least 2 columns, got \(5, 1\)"
    ):
        decisions.deferral_decision(np.zeros((5, 1)))
    with pytest.raises(ValueError, match=r"^alpha must be finite and >= 0, got -0.5"):
        decisions.deferral_decision(np.zeros((5, 3)), -0.5)
    with pytest.raises(ValueError, match=r"^alpha must have shape \[\]"):
        decisions.deferral_decision(np.zeros((5, 3)), np.zeros(5))
    message = r"^expert_correct_prob must have the 5 examples of class_probs, got 4$"
    with pytest.raises(ValueError, match=message):
        decisions.confidence_decision(np.zeros((5, 3)), np.zeros((4, 2)))
    with pytest.raises(ValueError, match=r"^expert_correct_prob must have shape"):
        decisions.confidence_decision(np.zeros((5, 3)), np.zeros(5))
    message = r"^defer_score must have the 5 examples of class_probs, got 4$"
    with pytest.raises(ValueError, match=message):
        decisions.decide(np.zeros((5, 3)), np.zeros((4, 2)))
    message = r"^expert_correct_prob must have shape \[B, M\] = \(5, 2\), got \(5, 1\)"
    with pytest.raises(ValueError, match=message):
        decisions.decide(np.zeros((5, 3)), np.zeros((5, 2)), np.zeros((5, 1)))
    with pytest.raises(ValueError, match=r"^defer_score .* at least 1 columns"):
        decisions.allocate(np.zeros((5, 0)))
    with pytest.raises(ValueError, match=r"^class_probs must have shape \[B, K\]"):
        decisions.classifier_decision(np.zeros(5))
    message = r"^available must have shape \[B, M\] = \(3, 1\), got \(3,\)"
    with pytest.raises(ValueError, match=message):
        decisions.among(decision, np.ones(3))
    message = r"^expert_labels must have shape \[B, M\] = \(3, 1\), got \(3, 2\)"
    for function in (decisions.vote, decisions.answer):
        with pytest.raises(ValueError, match=message):
            function(decision, np.zeros((3, 2), int))
    message = r"^expert_labels must have the 5 examples of class_probs, got 4$"
    with pytest.raises(ValueError, match=message):
        decisions.oracle_decision(np.zeros((5, 3)), np.zeros(5), np.zeros((4, 2)))
    for function in (decisions.expert_decision, decisions.majority_decision):
        with pytest.raises(ValueError, match=r"^num_experts must be at least 1, got 0"):
            function(3, 2, 0)
    with pytest.raises(ValueError, match=r"^num_classes must be at least 1"):
        decisions.expert_decision(3, 0)
    with pytest.raises(ValueError, match=r"^num_examples must be at least 0"):
        decisions.expert_decision(-1, 3)
    with pytest.raises(ValueError, match=r"^coverage must be in \[0, 1\], got 80"):
        decisions.threshold_for_coverage(np.zeros(5), 80)
    with pytest.raises(ValueError, match=r"^defer_score must have shape \[B\]"):
        decisions.threshold_for_coverage(np.zeros((5, 2)), 0.5)
    with pytest.raises(ValueError, match=r"^threshold must have shape \[\]"):
        decisions.apply_threshold(decision, np.zeros(3))


@pytest.mark.parametrize(
    ("class_probs", "got"),
    [
        ([[0.5, 0.5], [2.0, -1.0]], "2.0 in row 1"),
        ([[0.5, 0.5], [0.9, 0.5]], "a sum of 1.4 in row 1"),
        ([[0.0, 0.0]], "a sum of 0 in row 0"),
        ([[-0.1, 1.1]], "-0.1 in row 0"),
    ],
)
def test_what_is_no_probability_decides_nothing(class_probs, got):
    message = rf"class_probs must be in \[0, 1\] and sum to 1 .* got {got}: .* softmax"
    estimates = np.full((len(class_probs), 1), 0.7)
    for rule in (
        decisions.classifier_decision,
        lambda probs: decisions.confidence_decision(probs, estimates),
        lambda probs: decisions.two_stage_decision(probs, np.zeros((len(probs), 2))),
        lambda probs: decisions.decide(probs, estimates),
    ):
        with pytest.raises(ValueError, match=message):
            rule(np.array(class_probs))
    half = np.float16([[1 / 3] * 3, [np.nan] * 3])
    assert decisions.decide(half, np.ones((2, 1))).allocation[0, 0] == 1
    message = r"expert_correct_prob must be in \[0, 1\], got 3.0 in row 0"
    with pytest.raises(ValueError, match=message):
        decisions.confidence_decision(np.full((1, 2), 0.5), np.array([[3.0]]))
