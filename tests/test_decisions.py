import jax
import jax.numpy as jnp
import numpy as np
import pytest

from l2d_jax import decisions
from l2d_jax.types import Decision

decide = jax.jit(decisions.deferral_decision)
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
    return np.minimum(q, 1)


@jax.jit
def decide_with_gradient(logits, alpha):
    def total(logits):
        d = decisions.deferral_decision(logits, alpha)
        scores = d.defer_score + d.class_probs[:, 0] + d.expert_correct_prob
        return scores.sum(), d

    (_, decision), gradient = jax.value_and_grad(total, has_aux=True)(logits)
    return decision, gradient


def assert_follows_its_score(decision):
    np.testing.assert_array_equal(decision.defer, decision.defer_score > 0)


def test_deferral_by_hand():
    # Classes 1 : 3 and defer 2, so p_defer = 1/3 and q = (1/3)/(2/3); then defer 4.
    logits = np.log(np.array([[1.0, 3.0, 2.0], [1.0, 3.0, 4.0], [2.0, 1.0, 2.0]]))
    decision = decisions.deferral_decision(logits)
    np.testing.assert_array_equal(decision.prediction, [1, 1, 0])
    np.testing.assert_array_equal(decision.defer, [False, True, False])
    scores = [np.log(2 / 3), np.log(4 / 3), 0]
    np.testing.assert_allclose(decision.defer_score, scores, **TOL)
    class_probs = [[1 / 4, 3 / 4], [1 / 4, 3 / 4], [2 / 3, 1 / 3]]
    np.testing.assert_allclose(decision.class_probs, class_probs, **TOL)
    np.testing.assert_allclose(decision.expert_correct_prob, [1 / 2, 1, 2 / 3], **TOL)


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
    np.testing.assert_allclose(decision.expert_correct_prob, [q], rtol=0, atol=1e-4)


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
    np.testing.assert_array_equal(result.defer[0], result.defer[2])


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
    assert not decisions.deferral_decision(np.zeros((1, 4))).defer[0]
    tied = decisions.confidence_decision(np.zeros((1, 2)), np.array([0.5]))
    assert tied.defer_score[0] == 0 and not tied.defer[0]


def test_confidence_by_hand():
    # Greatest class probabilities 3/4, 3/4, 2/3.
    class_logits = np.log(np.array([[1.0, 3.0], [1.0, 3.0], [2.0, 1.0]]))
    expert_correct_prob = np.array([0.7, 0.8, 1.0])
    decision = jax.jit(decisions.confidence_decision)(class_logits, expert_correct_prob)
    np.testing.assert_array_equal(decision.prediction, [1, 1, 0])
    np.testing.assert_array_equal(decision.defer, [False, True, True])
    np.testing.assert_allclose(decision.defer_score, [-0.05, 0.05, 1 / 3], **TOL)
    np.testing.assert_allclose(decision.expert_correct_prob, [0.7, 0.8, 1.0], **TOL)
    assert_follows_its_score(decision)


def test_confidence_defers_where_the_classifier_is_likelier_to_be_wrong():
    class_logits = random_logits(2)
    expert_correct_prob = np.random.default_rng(2).random(16)
    decision = decisions.confidence_decision(class_logits, expert_correct_prob)
    classifier_wrong = 1 - softmax(class_logits).max(1)
    expected = classifier_wrong > 1 - expert_correct_prob
    np.testing.assert_array_equal(decision.defer, expected)
    assert 0 < expected.sum() < 16


def test_classifier_never_defers_and_ranks_by_confidence():
    class_logits = random_logits(3)
    decision = decisions.classifier_decision(class_logits)
    np.testing.assert_array_equal(decision.prediction, class_logits.argmax(1))
    assert not np.any(decision.defer)
    assert_follows_its_score(decision)
    confidence = softmax(class_logits).max(1)
    np.testing.assert_allclose(decision.defer_score, -confidence, **TOL)
    assert np.all(np.isnan(decision.expert_correct_prob))
    extreme = decisions.classifier_decision(EXTREMES)
    assert np.all(np.isfinite(extreme.defer_score)) and not np.any(extreme.defer)


def test_expert_always_decides():
    decision = decisions.expert_decision(3, 4)
    assert np.all(decision.defer)
    assert_follows_its_score(decision)
    np.testing.assert_array_equal(decision.class_probs, np.full((3, 4), 0.25))
    np.testing.assert_array_equal(decision.prediction, [0, 0, 0])
    like = decisions.classifier_decision(np.zeros((3, 4)))
    assert jax.tree.map(jnp.shape, decision) == jax.tree.map(jnp.shape, like)
    assert jax.tree.map(jnp.result_type, decision) == (
        jax.tree.map(jnp.result_type, like)
    )


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
    threshold = decisions.threshold_for_coverage(decision.defer_score, coverage)
    return decision, decisions.apply_threshold(decision, threshold)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e4])
@pytest.mark.parametrize("coverage", [0.0, 0.4, 1.0])
def test_applied_threshold_gives_the_coverage(coverage, scale):
    logits = random_logits(6, size=10) * scale
    decision, shifted = decide_at_coverage(logits, coverage)
    assert_follows_its_score(shifted)
    assert np.sum(~shifted.defer) == round(coverage * 10)
    # Only the rule changes: not the ranking, nor the classifier.
    np.testing.assert_array_equal(
        np.argsort(shifted.defer_score), np.argsort(decision.defer_score)
    )
    np.testing.assert_array_equal(shifted.prediction, decision.prediction)


def test_threshold_zero_changes_nothing():
    decision = decisions.deferral_decision(random_logits(7))
    same = decisions.apply_threshold(decision, 0.0)
    for before, after in zip(decision, same, strict=True):
        np.testing.assert_array_equal(after, before)


def test_each_rule_under_vmap_equals_each_run_alone():
    logits = np.stack([random_logits(seed) for seed in range(2)])
    probs = np.random.default_rng(8).random((2, 16))
    cases = [
        (decisions.deferral_decision, (logits,)),
        (decisions.confidence_decision, (logits, probs)),
        (decisions.classifier_decision, (logits,)),
    ]
    for rule, arguments in cases:
        together = jax.jit(jax.vmap(rule))(*arguments)
        for run in range(2):
            alone = rule(*(x[run] for x in arguments))
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
    message = r"^expert_correct_prob must have shape \[B\] = \(5,\), got \(5, 2\)$"
    with pytest.raises(ValueError, match=message):
        decisions.confidence_decision(np.zeros((5, 3)), np.zeros((5, 2)))
    with pytest.raises(ValueError, match=r"^class_logits must have shape \[B, K\]"):
        decisions.classifier_decision(np.zeros(5))
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
