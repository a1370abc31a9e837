import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import betabinom

from l2d_jax.people import population
from l2d_jax.people.beta_counts import BetaPrior, Counts, correct_prob, count, fit_prior

PRIOR = BetaPrior(np.array([1.0, 3.0]), np.array([1.0, 1.0]))
PROBS = np.array([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]])


def people_like(a, b, num_people=400, num_answers=20, seed=0):
    """Counts of people whose skill at the one class is Beta(a, b)."""
    generator = np.random.default_rng(seed)
    skill = generator.beta(a, b, num_people)
    right = generator.binomial(num_answers, skill)
    return Counts(right[:, None], np.full((num_people, 1), num_answers))


def test_count_by_hand():
    found = count(
        np.array([0, 1, 1, 1]), np.array([1.0, 1, 0, 1]), np.array([1.0, 1, 1, 0]), 3
    )
    np.testing.assert_array_equal(found.right, [1, 1, 0])
    np.testing.assert_array_equal(found.answered, [1, 2, 0])


def test_padding_counts_for_nothing_whatever_it_holds():
    found = count(np.array([0, 1, 0]), np.array([1, 0, np.nan]), np.array([1, 1, 0]), 2)
    np.testing.assert_array_equal(found.right, [1, 0])
    np.testing.assert_array_equal(found.answered, [1, 1])


def test_correct_prob_by_hand():
    # (1 + 2) / (2 + 2) = 3/4 and (3 + 0) / (4 + 2) = 1/2.
    counts = Counts(np.array([2.0, 0.0]), np.array([2.0, 2.0]))
    found = correct_prob(PRIOR, counts, PROBS)
    np.testing.assert_allclose(found, [0.75, 0.5, 0.625], rtol=1e-6)
    jitted = jax.jit(correct_prob)(PRIOR, counts, PROBS)
    np.testing.assert_allclose(jitted, found, rtol=1e-6)


def test_logits_are_no_probabilities():
    counts = Counts(np.zeros(2), np.zeros(2))
    for use in (population.describe, lambda p: correct_prob(PRIOR, counts, p)):
        with pytest.raises(
            ValueError, match=r"class_probs must be .* got 3.0 in row 0"
        ):
            use(np.array([[3.0, -1.0]]))


def test_no_answers_are_the_population_and_many_the_own_rate():
    nothing = Counts(np.zeros(2), np.zeros(2))
    mean = correct_prob(PRIOR, nothing, PROBS)
    np.testing.assert_allclose(mean, [0.5, 0.75, 0.625], rtol=1e-6)
    many = Counts(np.array([2e5, 9e5]), np.array([1e6, 1e6]))
    own = correct_prob(PRIOR, many, PROBS)
    np.testing.assert_allclose(own, [0.2, 0.9, 0.55], rtol=1e-4)


def test_every_right_answer_raises_the_estimate():
    def at(right):
        counts = Counts(np.array([right, 0.0]), np.array([5.0, 0.0]))
        return correct_prob(PRIOR, counts, PROBS)

    found = np.stack([at(float(right)) for right in range(6)])
    assert (np.diff(found[:, 0]) > 0).all() and (np.diff(found[:, 1]) == 0).all()


@pytest.mark.parametrize("a_b", [(0.4, 0.3), (2.0, 5.0), (8.0, 1.0)])
def test_prior_is_the_maximum_of_the_likelihood(a_b):
    """SciPy's beta-binomial, with the two further answers."""
    counts = people_like(*a_b)
    right, answered = (
        np.append(column[:, 0], own)
        for column, own in zip(counts, ([1, 0], [1, 1]), strict=True)
    )

    def loss(log_prior):
        return -betabinom.logpmf(right, answered, *np.exp(log_prior)).sum()

    best = minimize(loss, np.zeros(2), method="Nelder-Mead", options={"xatol": 1e-6})
    prior = fit_prior(counts, 20)
    found = [float(prior.right[0]), float(prior.wrong[0])]
    np.testing.assert_allclose(found, np.exp(best.x), rtol=0.01)
    # And near those that the people were drawn from.
    np.testing.assert_allclose(found, a_b, rtol=0.35)


def test_who_was_not_asked_has_no_part():
    counts = people_like(2.0, 5.0, num_people=30)
    nobody = Counts(*(np.pad(column, ((0, 50), (0, 0))) for column in counts))
    with_them, without = fit_prior(nobody, 20), fit_prior(counts, 20)
    np.testing.assert_allclose(with_them.right, without.right, rtol=1e-6)
    np.testing.assert_allclose(with_them.wrong, without.wrong, rtol=1e-6)


@pytest.mark.parametrize("num_people", [0, 3])
def test_of_a_class_that_nobody_answered_the_prior_is_uniform(num_people):
    prior = fit_prior(Counts(*2 * [np.zeros((num_people, 2))]), 5)
    np.testing.assert_allclose(prior, 1.0, rtol=1e-6)


@pytest.mark.parametrize("right", [0, 30])
def test_people_who_are_all_alike_leave_nothing_impossible(right):
    counts = Counts(np.full((50, 1), right), np.full((50, 1), 30))
    prior = fit_prior(counts, 30)
    mean = float(prior.right[0] / (prior.right[0] + prior.wrong[0]))
    assert np.isfinite(prior).all() and 0 < mean < 1
    assert abs(mean - right / 30) < 0.05


def test_people_of_one_skill_are_shrunk_to_it():
    """30 answers of a person count for little: people have shown not to differ."""
    generator = np.random.default_rng(0)
    right = generator.binomial(30, 0.6, (500, 1))
    prior = fit_prior(Counts(right, np.full((500, 1), 30)), 30)
    assert float(prior.right[0] + prior.wrong[0]) > 100


def test_more_answers_than_said_are_no_number():
    prior = fit_prior(people_like(2.0, 2.0, num_answers=20), 19)
    assert jnp.isnan(prior.right).all() and jnp.isnan(prior.wrong).all()


def test_mapped_over_people():
    counts = Counts(np.array([[2.0, 0.0], [0.0, 1.0]]), np.array([[2.0, 2.0], [1, 1]]))
    found = jax.vmap(correct_prob, (None, 0, None))(PRIOR, counts, PROBS)
    for row in range(2):
        own = Counts(counts.right[row], counts.answered[row])
        one = correct_prob(PRIOR, own, PROBS)
        np.testing.assert_allclose(found[row], one, rtol=1e-6)
