import jax
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import minimize
from scipy.special import expit

from l2d_jax.people import population
from l2d_jax.people.population import (
    correct_prob,
    describe,
    learn_proportions,
    scale_grid,
)

pytestmark = pytest.mark.usefixtures("cheap_compiles")

infer = jax.jit(population.infer)
infer_people = jax.jit(jax.vmap(population.infer, (0, 0, 0, 0, None)))
correct_prob_jit = jax.jit(correct_prob)
SCALES = np.array([[0.5, 0.5, 0.5, 0.5], [3.0, 1.0, 2.0, 1.5]])
NUM_ANSWERS, MANY = 30, 1000


def some_answers(seed=0, num_answers=NUM_ANSWERS, num_classes=3):
    """Base logits, description, correct, weights of one person, float64."""
    generator = np.random.default_rng(seed)
    base = generator.normal(1.0, 1.5, num_answers)
    class_probs = generator.dirichlet(np.full(num_classes, 0.3), num_answers)
    description = np.column_stack([np.ones(num_answers), class_probs])
    correct = (generator.uniform(size=num_answers) < 0.6).astype(float)
    return base, description, correct, generator.uniform(0.5, 2.0, num_answers)


class Oracle:
    """Log posterior density but for a constant, of an embedding, in float64."""

    def __init__(self, base, description, correct, weights, scale):
        self.base, self.psi, self.sign = base, description, 2 * correct - 1
        self.weights, self.scale = weights, scale

    def value(self, b):
        logits = self.sign * (self.base + self.psi @ np.atleast_1d(b))
        likelihood = -np.sum(self.weights * np.logaddexp(0.0, -logits))
        return likelihood - 0.5 * np.sum((b / self.scale) ** 2)

    def gradient(self, b):
        surprise = expit(-self.sign * (self.base + self.psi @ b))
        return self.psi.T @ (self.weights * self.sign * surprise) - b / self.scale**2

    def precision(self, b):
        prob = expit(self.base + self.psi @ b)
        weights = self.weights * prob * (1 - prob)
        return self.psi.T @ np.diag(weights) @ self.psi + np.diag(self.scale**-2.0)

    def mode(self):
        found = minimize(
            lambda b: -self.value(b),
            np.zeros(len(self.scale)),
            jac=lambda b: -self.gradient(b),
            hess=self.precision,
            method="trust-exact",
            options={"gtol": 1e-8, "maxiter": 1000},
        )
        assert np.abs(self.gradient(found.x)).max() < 1e-5
        return found.x


def assert_same_person(ours, theirs, rtol=1e-4, atol=1e-4):
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, rtol=rtol, atol=atol)


# What is asked of whom.


def test_describe_by_hand():
    class_probs = np.array([[0.25, 0.75], [1.0, 0.0]])
    expected = [[1.0, 0.25, 0.75], [1.0, 1.0, 0.0]]
    np.testing.assert_array_equal(describe(class_probs), expected)
    np.testing.assert_array_equal(jax.jit(describe)(class_probs), expected)


def test_scale_grid_by_hand():
    scales = scale_grid((0.5, 2.0), (1.0, 4.0, 8.0), num_classes=2)
    expected = [
        [0.5, 1, 1],
        [0.5, 4, 4],
        [0.5, 8, 8],
        [2.0, 1, 1],
        [2.0, 4, 4],
        [2.0, 8, 8],
    ]
    np.testing.assert_array_equal(scales, expected)
    assert scales.dtype == np.float32


@pytest.mark.parametrize("bad", [(), (1.0, 0.0), (-1.0,), (1.0, np.nan), (np.inf,)])
def test_scale_grid_wants_positive_scales(bad):
    with pytest.raises(ValueError, match="overall must hold scales, all > 0"):
        scale_grid(bad, (1.0,), 2)
    with pytest.raises(ValueError, match="by_class must hold scales, all > 0"):
        scale_grid((1.0,), bad, 2)


# One person.


@pytest.mark.parametrize("seed", range(3))
def test_posterior_against_the_oracle(seed):
    """The mode, the inverse of the curvature there, and Laplace's formula."""
    person = infer(*some_answers(seed), SCALES)
    assert person.mean.shape == (2, 4) and person.covariance.shape == (2, 4, 4)
    assert person.log_evidence.shape == (2,)
    for index, scale in enumerate(SCALES):
        oracle = Oracle(*some_answers(seed), scale)
        mode = oracle.mode()
        precision = oracle.precision(mode)
        log_evidence = (
            oracle.value(mode)
            - 0.5 * np.linalg.slogdet(precision)[1]
            - np.sum(np.log(scale))
        )
        expected = mode, np.linalg.inv(precision), log_evidence
        ours = (part[index] for part in person)
        assert_same_person(ours, expected, rtol=1e-3, atol=2e-3)


def test_vmap_is_one_at_a_time():
    people = [some_answers(seed) for seed in range(3)]
    batch = (np.stack(part) for part in zip(*people, strict=True))
    together = infer_people(*batch, SCALES)
    for index, one in enumerate(people):
        alone = infer(*one, SCALES)
        assert_same_person((part[index] for part in together), alone, atol=5e-4)


def test_log_evidence_is_the_integral():
    """Of the likelihood over the prior, within Laplace's error; and not under jit."""
    base, _, correct, _ = some_answers(4)
    answers = base, np.ones((NUM_ANSWERS, 1)), correct, np.ones(NUM_ANSWERS)
    scales = np.array([[0.3], [1.0], [3.0]])
    exact = []
    for scale in scales:
        oracle = Oracle(*answers, scale)
        peak = oracle.value(oracle.mode())
        area, _ = quad(
            lambda b, oracle=oracle, peak=peak: np.exp(oracle.value(b) - peak),
            *(-10 * scale[0], 10 * scale[0]),
        )
        exact.append(peak + np.log(area / (scale[0] * np.sqrt(2 * np.pi))))
    person = population.infer(*answers, scales)
    np.testing.assert_allclose(person.log_evidence, exact, rtol=0, atol=0.05)


def test_no_answers_give_the_prior():
    base, description, correct, weights = some_answers()
    person = infer(base, description, correct, 0 * weights, SCALES)
    prior = np.zeros((2, 4)), [np.diag(scale**2) for scale in SCALES], np.zeros(2)
    assert_same_person(person, prior, rtol=1e-5, atol=1e-5)


def test_evidence_is_that_of_a_coin():
    """Nobody differs and the base does not know: half right, answer by answer."""
    _, description, correct, _ = some_answers()
    person = infer(
        np.zeros(NUM_ANSWERS),
        description,
        correct,
        np.ones(NUM_ANSWERS),
        np.full((2, 4), 1e-3),
    )
    expected = np.full(2, -NUM_ANSWERS * np.log(2.0))
    np.testing.assert_allclose(person.log_evidence, expected, rtol=1e-4, atol=1e-3)


def test_padding_changes_nothing():
    base, description, correct, weights = some_answers()
    real, padding = slice(NUM_ANSWERS - 2), slice(NUM_ANSWERS - 2, None)
    base[padding], description[padding], weights[padding] = [50.0, -50.0], 7.0, 0.0
    padded = infer(base, description, correct, weights, SCALES)
    for index, scale in enumerate(SCALES):
        answers = base[real], description[real], correct[real], weights[real]
        oracle = Oracle(*answers, scale)
        mode = oracle.mode()
        covariance = np.linalg.inv(oracle.precision(mode))
        np.testing.assert_allclose(padded.mean[index], mode, rtol=1e-3, atol=2e-3)
        np.testing.assert_allclose(
            padded.covariance[index], covariance, rtol=1e-3, atol=2e-3
        )


def test_a_weight_of_two_is_the_answer_twice():
    base, description, correct, _ = some_answers()
    half = NUM_ANSWERS // 2
    twice = [
        np.tile(part[:half], (2,) + (1,) * (part.ndim - 1))
        for part in (base, description, correct)
    ]
    weights = np.append(np.full(half, 2.0), np.zeros(NUM_ANSWERS - half))
    weighted = infer(base, description, correct, weights, SCALES)
    repeated = infer(*twice, np.ones(NUM_ANSWERS), SCALES)
    assert_same_person(weighted, repeated, atol=5e-4)


def test_a_share_is_so_many_answers_of_either_kind():
    base, description, _, weights = some_answers()
    half = NUM_ANSWERS // 2
    base[half:], description[half:] = base[:half], description[:half]
    share = np.linspace(0.0, 1.0, half)
    shares, whole = np.append(share, share), np.append(weights[:half], np.zeros(half))
    shared = infer(base, description, shares, whole, SCALES)
    right = np.repeat([1.0, 0.0], half)
    parts = np.append(weights[:half] * share, weights[:half] * (1.0 - share))
    split = infer(base, description, right, parts, SCALES)
    assert_same_person(shared, split, atol=5e-4)


def test_always_wrong_where_others_are_right():
    _, description, _, _ = some_answers()
    base, weights = np.full(NUM_ANSWERS, 5.0), np.ones(NUM_ANSWERS)
    person = infer(base, description, np.zeros(NUM_ANSWERS), weights, SCALES)
    assert all(np.isfinite(part).all() for part in person)
    assert (person.mean[:, 0] < 0).all()
    # Scale 3 lets the person differ by so much; scale 0.5 explains the answers worse.
    assert person.log_evidence[1] > person.log_evidence[0] + 10
    prob = correct_prob_jit(person, np.full(2, 0.5), base, description)
    assert (prob < 0.2).all()


def test_half_wrong_where_others_are_sure():
    """Newton's own step is thousands of times too long here."""
    _, description, correct, _ = some_answers(0, MANY)
    answers = np.full(MANY, 13.8), description, correct, np.ones(MANY)
    scales = scale_grid((1.0, 3.0), (1.0, 3.0), 3)
    person = infer(*answers, scales)
    for mean, scale in zip(person.mean, scales, strict=True):
        oracle = Oracle(*answers, scale.astype(np.float64))
        best = oracle.value(oracle.mode())
        ours = oracle.value(np.asarray(mean, np.float64))
        np.testing.assert_allclose(ours, best, rtol=0, atol=0.01)


def test_extreme_base_logits():
    _, description, correct, weights = some_answers()
    base = np.where(np.arange(NUM_ANSWERS) % 2, 1e4, -1e4)
    person = infer(base, description, correct, weights, SCALES)
    prob = correct_prob_jit(person, np.full(2, 0.5), base, description)
    assert all(np.isfinite(part).all() for part in (*person, prob))
    # Some answers are against what others are certain of; no embedding mends that.
    assert (person.log_evidence < -1e4).all()
    np.testing.assert_allclose(prob, base > 0, rtol=0, atol=1e-5)


@pytest.mark.parametrize("position", range(5))
def test_infer_takes_one_person(position):
    batch = [np.asarray(part)[None] for part in (*some_answers(), SCALES)]
    arguments = [*some_answers(), SCALES]
    arguments[position] = batch[position]
    with pytest.raises(AssertionError, match="rank"):
        population.infer(*arguments)


def test_infer_wants_shapes_that_fit():
    base, description, correct, weights = some_answers()
    for bad in (
        (base[:1], description, correct, weights, SCALES),
        (base, description[:1], correct, weights, SCALES),
        (base, description, correct, weights[:1], SCALES),
        (base, description, correct, weights, SCALES[:, :1]),
    ):
        with pytest.raises(AssertionError, match="shape"):
            population.infer(*bad)


# What people are like.


def test_proportions_by_hand():
    # One step from (1/2, 1/2): shares (1/4, 3/4) of a person, and 1/2 more for each.
    log_evidence = np.log([[1.0, 3.0]])
    once = learn_proportions(log_evidence, np.ones(1), num_steps=1)
    np.testing.assert_allclose(once, [3 / 8, 5 / 8], rtol=1e-6, atol=0)
    twofold = learn_proportions(log_evidence, np.array([2.0]), num_steps=1)
    np.testing.assert_allclose(twofold, [1 / 3, 2 / 3], rtol=1e-6, atol=0)


def test_proportions_are_a_fixed_point():
    generator = np.random.default_rng(0)
    log_evidence = generator.normal(-50.0, 2.0, (40, 5))
    weights = generator.uniform(0.0, 2.0, 40)
    ours = learn_proportions(log_evidence, weights, num_steps=500)
    assert (ours > 0).all()
    np.testing.assert_allclose(np.sum(ours), 1.0, rtol=1e-5, atol=0)
    share = np.exp(log_evidence) * np.asarray(ours, np.float64)
    share /= share.sum(axis=1, keepdims=True)
    again = (weights @ share + 1 / 5) / (weights.sum() + 1)
    np.testing.assert_allclose(ours, again, rtol=1e-3, atol=1e-4)


def test_proportions_stay_positive():
    """However sure the evidence: -1e4 nats against a scale."""
    log_evidence = np.tile([[0.0, -1e4]], (1000, 1))
    ours = learn_proportions(log_evidence, np.ones(1000))
    np.testing.assert_allclose(ours[1], 0.5 / 1001, rtol=1e-3, atol=0)


def test_proportions_of_nobody_are_equal():
    log_evidence = np.random.default_rng(0).normal(-50.0, 9.0, (6, 4))
    ours = learn_proportions(log_evidence, np.zeros(6))
    np.testing.assert_allclose(ours, np.full(4, 0.25), rtol=1e-6, atol=0)


@pytest.mark.parametrize("truth", [1, 2])
def test_the_scales_of_people_are_found(truth):
    """From 200 people of 60 answers each."""
    generator = np.random.default_rng(truth)
    num_people, num_answers, num_classes = 200, 60, 3
    scales = scale_grid((0.2, 2.0), (0.2, 2.0), num_classes)
    classes = generator.integers(num_classes, size=(num_people, num_answers))
    description = np.concatenate(
        [np.ones((*classes.shape, 1)), np.eye(num_classes)[classes]], axis=-1
    )
    base = generator.normal(1.0, 1.0, classes.shape)
    people = scales[truth] * generator.normal(size=(num_people, num_classes + 1))
    prob = expit(base + np.einsum("pvd,pd->pv", description, people))
    correct = (generator.uniform(size=prob.shape) < prob).astype(float)
    found = infer_people(base, description, correct, np.ones(prob.shape), scales)
    proportions = learn_proportions(found.log_evidence, np.ones(num_people))
    assert np.argmax(proportions) == truth and proportions[truth] > 0.7


# Whether the person is right.


def test_prob_without_answers():
    """By hand, and close to the mean over the prior that MacKay's formula is for."""
    answers = some_answers()
    base, description = answers[:2]
    person = infer(base, description, answers[2], 0 * answers[3], SCALES)
    proportions = np.array([0.3, 0.7])
    ours = correct_prob_jit(person, proportions, base, description)

    by_hand, exact = 0.0, 0.0
    points, point_weights = np.polynomial.hermite_e.hermegauss(60)
    for scale, share in zip(SCALES, proportions, strict=True):
        variance = np.sum((description * scale) ** 2, axis=1)
        by_hand += share * expit(base / np.sqrt(1 + np.pi / 8 * variance))
        logits = base[:, None] + np.sqrt(variance)[:, None] * points
        exact += share * expit(logits) @ point_weights / np.sqrt(2 * np.pi)
    np.testing.assert_allclose(ours, by_hand, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(ours, exact, rtol=0, atol=0.02)
    # Not knowing who answers draws the probability towards a half, never past it.
    ours = np.asarray(ours)
    assert (np.abs(ours - 0.5) < np.abs(expit(base) - 0.5)).all()
    assert ((ours > 0.5) == (base > 0)).all()


def test_prob_by_hand():
    """Two scales, proportions 1:3, even evidence, and one with variance 8 / pi."""
    person = population.Person(
        np.array([[1.0], [-1.0]]),
        np.array([[[8 / np.pi]], [[0.0]]]),
        np.array([-7.0, -7.0]),
    )
    ours = correct_prob(person, np.array([0.25, 0.75]), np.zeros(1), np.ones((1, 1)))
    expected = 0.25 * expit(1 / np.sqrt(2)) + 0.75 * expit(-1.0)
    np.testing.assert_allclose(ours, [expected], rtol=1e-5, atol=0)
    # Evidence 3:1 the other way makes the scales' shares even.
    person = person._replace(log_evidence=np.log([0.75, 0.25]))
    ours = correct_prob(person, np.array([0.25, 0.75]), np.zeros(1), np.ones((1, 1)))
    expected = 0.5 * expit(1 / np.sqrt(2)) + 0.5 * expit(-1.0)
    np.testing.assert_allclose(ours, [expected], rtol=1e-5, atol=0)


def test_people_who_do_not_differ_are_the_others():
    base, description, correct, weights = some_answers()
    person = infer(base, description, correct, weights, np.full((2, 4), 1e-3))
    ours = correct_prob_jit(person, np.full(2, 0.5), base, description)
    np.testing.assert_allclose(ours, expit(base), rtol=0, atol=1e-3)


def test_many_answers_are_followed():
    """Others have it backwards: they are good at class 0, the person at class 1."""
    generator = np.random.default_rng(0)
    classes = generator.integers(3, size=MANY)
    description = np.column_stack([np.ones(MANY), np.eye(3)[classes]])
    base = np.array([2.0, -2.0, 0.0])[classes]
    truth = np.array([0.2, 0.9, 0.5])[classes]
    correct = (generator.uniform(size=MANY) < truth).astype(float)
    scales = scale_grid((0.1, 3.0), (0.1, 3.0), 3)
    person = infer(base, description, correct, np.ones(MANY), scales)
    prob = correct_prob_jit(person, np.full(4, 0.25), base, description)
    for number in range(3):
        rate = np.mean(correct[classes == number])
        mean = np.mean(np.asarray(prob)[classes == number])
        np.testing.assert_allclose(mean, rate, rtol=0, atol=0.02)


def test_a_specialist_is_found():
    """Perfect on classes 0 to 4, a guess on the rest; others are right throughout."""
    generator = np.random.default_rng(0)
    num_classes, num_answers, num_inputs = 10, 200, 2000
    classes = generator.integers(num_classes, size=num_answers + num_inputs)
    # The classifier is sure, and wrong of one input in ten.
    seen = np.where(
        generator.uniform(size=classes.shape) < 0.1,
        generator.integers(num_classes, size=classes.shape),
        classes,
    )
    description = np.asarray(describe(0.9 * np.eye(num_classes)[seen] + 0.01))
    prob = np.where(classes < 5, 1.0, 1 / num_classes)
    correct = (generator.uniform(size=classes.shape) < prob).astype(float)
    base = np.full(classes.shape, 5.0)

    scales = scale_grid((0.1, 1.0, 3.0), (0.1, 1.0, 3.0), num_classes)
    tune, test = slice(num_answers), slice(num_answers, None)
    person = infer(
        base[tune], description[tune], correct[tune], np.ones(num_answers), scales
    )
    ours = correct_prob_jit(person, np.full(9, 1 / 9), base[test], description[test])
    assert np.mean((np.asarray(ours) > 0.5) == correct[test]) > 0.85
    assert np.mean(correct[test]) < 0.6


def test_prob_takes_one_person():
    base, description, correct, weights = some_answers()
    person = infer(base, description, correct, weights, SCALES)
    even = np.full(2, 0.5)
    for bad in (
        (person, even, base[:, None], description),
        (person, even, base, description[None]),
        (person, even[None], base, description),
        (person, even, base[:1], description),
    ):
        with pytest.raises(AssertionError, match=r"rank|shape"):
            correct_prob(*bad)
