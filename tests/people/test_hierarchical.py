"""The random-coefficient model against its equations, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from l2d_jax.people import hierarchical
from l2d_jax.people.hierarchical import Population

pytestmark = pytest.mark.usefixtures("cheap_compiles")

fit_population = jax.jit(hierarchical.fit_population)
posterior = jax.jit(hierarchical.posterior)
NUM_PEOPLE, NUM_ANSWERS, SIZE = 6, 20, 3


def make_people(seed=0, num_people=NUM_PEOPLE, num_answers=NUM_ANSWERS, noise=2.0):
    """Features ``[J, N, D]`` with a constant, targets, weights."""
    generator = np.random.default_rng(seed)
    features = generator.uniform(size=(num_people, num_answers, SIZE))
    features[..., 0] = 1.0
    coefficients = generator.normal([40.0, 5.0, 5.0], [6.0, 2.0, 2.0], (num_people, 3))
    targets = np.einsum("jnd,jd->jn", features, coefficients)
    targets += noise * generator.normal(size=targets.shape)
    weights = generator.uniform(0.5, 2.0, targets.shape)
    return features, targets, weights


def population_oracle(features, targets, weights):
    """The estimator, by least squares of each person, in float64."""
    estimates, inverses, squares = [], [], 0.0
    for x, y, w in zip(features, targets, weights, strict=True):
        root = np.sqrt(w)
        estimates.append(np.linalg.lstsq(x * root[:, None], y * root, rcond=None)[0])
        inverses.append(np.linalg.inv(x.T @ np.diag(w) @ x))
        squares += np.sum(w * (y - x @ estimates[-1]) ** 2)
    noise = squares / (targets.size - len(targets) * features.shape[-1])
    spread = np.cov(np.array(estimates).T)
    covariance = spread - noise * np.mean(inverses, axis=0)
    values, vectors = np.linalg.eigh(covariance)
    covariance = vectors @ np.diag(np.maximum(values, 0.0)) @ vectors.T
    return np.mean(estimates, axis=0), covariance, noise


def posterior_oracle(population, features, targets, weights):
    """By precisions, which the function avoids."""
    prior = np.linalg.inv(population.covariance)
    precision = features.T @ np.diag(weights) @ features / population.noise_variance
    covariance = np.linalg.inv(prior + precision)
    answers = features.T @ (weights * targets) / population.noise_variance
    return covariance @ (prior @ population.mean + answers), covariance


PRIOR = Population(
    np.array([40.0, 5.0, 5.0]),
    np.array([[35.0, 3.0, 0.0], [3.0, 5.0, 1.0], [0.0, 1.0, 5.0]]),
    np.array(28.0),
)


@pytest.mark.long
@pytest.mark.parametrize("jit", [False, True])
def test_population_against_the_oracle(jit):
    function = fit_population if jit else hierarchical.fit_population
    people = make_people()
    expected = population_oracle(*people)
    for ours, theirs in zip(function(*people), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("num_answers", [1, 2, 5, 20])
def test_posterior_against_the_oracle(jit, num_answers):
    function = posterior if jit else hierarchical.posterior
    features, targets, weights = (part[0, :num_answers] for part in make_people())
    expected = posterior_oracle(PRIOR, features, targets, weights)
    for ours, theirs in zip(
        function(PRIOR, features, targets, weights), expected, strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-3)


def test_people_at_once_are_people_one_by_one():
    features, targets, weights = make_people()
    together = jax.vmap(posterior, (None, 0, 0, 0))(PRIOR, features, targets, weights)
    for person in range(NUM_PEOPLE):
        alone = posterior(PRIOR, features[person], targets[person], weights[person])
        for ours, theirs in zip(together, alone, strict=True):
            np.testing.assert_allclose(ours[person], theirs, rtol=1e-5, atol=1e-4)


def test_population_by_hand():
    # Two people of means 2 and 6; four residuals of 1 and two left-over answers.
    ours = fit_population(np.ones((2, 2, 1)), np.array([[1.0, 3.0], [5.0, 7.0]]))
    assert ours.mean[0] == pytest.approx(4.0, abs=1e-6)
    assert ours.noise_variance == pytest.approx(2.0, abs=1e-6)
    # The means vary by 8, of which 2 / 2 is their error.
    assert ours.covariance[0, 0] == pytest.approx(7.0, abs=1e-5)


def test_posterior_by_hand():
    prior = Population(np.zeros(1), np.array([[4.0]]), np.array(1.0))
    mean, covariance = posterior(prior, np.ones((1, 1)), np.array([5.0]))
    assert mean[0] == pytest.approx(4.0, abs=1e-6)
    assert covariance[0, 0] == pytest.approx(0.8, abs=1e-6)


def test_without_answers_a_person_is_the_mean_of_the_others():
    features, targets, _ = (part[0] for part in make_people())
    for number, weights in ((NUM_ANSWERS, np.zeros(NUM_ANSWERS)), (0, np.zeros(0))):
        mean, covariance = posterior(
            PRIOR, features[:number], targets[:number], weights
        )
        np.testing.assert_array_equal(mean, jnp.asarray(PRIOR.mean))
        np.testing.assert_allclose(covariance, PRIOR.covariance, rtol=0, atol=1e-4)


def test_with_many_answers_a_person_is_what_they_did():
    features, targets, _ = make_people(num_people=1, num_answers=20_000, noise=5.0)
    mean, covariance = posterior(PRIOR, features[0], targets[0])
    expected = np.linalg.lstsq(features[0], targets[0], rcond=None)[0]
    np.testing.assert_allclose(mean, expected, rtol=0, atol=0.02)
    assert np.all(np.diag(covariance) < 0.05)


def test_answers_only_ever_make_surer():
    features, targets, weights = (part[0] for part in make_people())
    before = PRIOR.covariance
    for number in (1, 2, 5, 20):
        _, after = posterior(
            PRIOR, features[:number], targets[:number], weights[:number]
        )
        assert np.linalg.eigvalsh(before - np.asarray(after)).min() > -1e-3
        before = np.asarray(after)


def test_an_answer_of_weight_two_is_two_answers():
    features, targets, _ = (part[0] for part in make_people())
    twice = posterior(PRIOR, np.tile(features, (2, 1)), np.tile(targets, 2))
    weighted = posterior(PRIOR, features, targets, np.full(20, 2.0))
    for ours, theirs in zip(weighted, twice, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-4)


def test_padding_changes_nothing():
    features, targets, weights = make_people()
    expected = fit_population(features, targets, weights)
    padded = fit_population(
        np.concatenate([features, 9.0 * features], axis=1),
        np.concatenate([targets, -targets], axis=1),
        np.concatenate([weights, np.zeros_like(weights)], axis=1),
    )
    for ours, theirs in zip(padded, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-3)


def test_the_order_of_people_does_not_matter():
    people = make_people()
    order = np.random.default_rng(1).permutation(NUM_PEOPLE)
    expected = fit_population(*people)
    permuted = fit_population(*(part[order] for part in people))
    for ours, theirs in zip(permuted, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-3)


def test_the_scale_of_features_does_not_matter():
    """Coefficients of features y = A x are those of x, times A's inverse transposed."""
    features, targets, weights = (part[0] for part in make_people())
    change = np.array([[1.0, 0.0, 0.0], [-0.5, 1.0, 0.0], [0.3, 0.2, 2.0]])
    back = np.linalg.inv(change).T
    prior = Population(
        back @ PRIOR.mean, back @ PRIOR.covariance @ back.T, PRIOR.noise_variance
    )
    mean, _ = posterior(PRIOR, features, targets, weights)
    changed, _ = posterior(prior, features @ change.T, targets, weights)
    np.testing.assert_allclose(
        features @ change.T @ changed, features @ mean, rtol=1e-5, atol=1e-3
    )


def test_a_known_population_is_found():
    generator = np.random.default_rng(0)
    covariance = np.array([[30.0, 2.0, 0.0], [2.0, 5.0, -1.0], [0.0, -1.0, 4.0]])
    coefficients = generator.multivariate_normal([40.0, 5.0, 3.0], covariance, 2000)
    features = generator.uniform(size=(2000, 30, 3))
    features[..., 0] = 1.0
    targets = np.einsum("jnd,jd->jn", features, coefficients)
    targets += 3.0 * generator.normal(size=targets.shape)
    found = fit_population(features, targets)
    # About four standard errors each.
    np.testing.assert_allclose(found.mean, [40.0, 5.0, 3.0], rtol=0, atol=0.6)
    np.testing.assert_allclose(found.covariance, covariance, rtol=0, atol=4.5)
    assert found.noise_variance == pytest.approx(9.0, abs=0.25)


def test_people_who_do_not_differ():
    """Less spread than their errors explain: nobody is known to differ."""
    features, _, _ = make_people()
    residuals = np.tile([1.0, -1.0], NUM_ANSWERS // 2)
    targets = np.tile(40.0 + residuals, (NUM_PEOPLE, 1))
    population = fit_population(features[[0] * NUM_PEOPLE], targets)
    np.testing.assert_allclose(population.covariance, 0.0, rtol=0, atol=1e-6)
    mean, covariance = posterior(population, features[0], targets[0] + 9.0)
    np.testing.assert_allclose(mean, population.mean, rtol=0, atol=1e-4)
    np.testing.assert_allclose(covariance, 0.0, rtol=0, atol=1e-6)


def test_a_person_who_cannot_be_fitted_does_not_count():
    features, targets, weights = make_people()
    expected = fit_population(features[:-1], targets[:-1], weights[:-1])
    # Two answers for three coefficients, and no answer left over to tell the noise.
    weights[-1, 2:] = 0.0
    ours = fit_population(features, targets, weights)
    for one, other in zip(ours, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("answers", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("people", [1, 2])
def test_few_people_and_few_answers(people, answers):
    features, targets, _ = (part[:people] for part in make_people())
    weights = np.zeros_like(targets)
    weights[:, :answers] = 1.0
    population = fit_population(features, targets, weights)
    mean, covariance = posterior(population, features[0], targets[0], weights[0])
    for value in (*population, mean, covariance):
        assert np.isfinite(value).all()
    if people == 1 or answers < SIZE:
        np.testing.assert_array_equal(population.covariance, 0.0)
    if answers == 0:
        np.testing.assert_array_equal(population.mean, 0.0)
    if 0 < answers < SIZE and people == 1:
        # The shortest coefficients that explain the answers.
        expected = np.linalg.pinv(features[0, :answers]) @ targets[0, :answers]
        np.testing.assert_allclose(population.mean, expected, rtol=1e-3, atol=1e-2)


def test_answers_without_noise():
    features, targets, _ = make_people(noise=0.0)
    population = fit_population(features, targets)
    mean, covariance = posterior(population, features[0], targets[0])
    np.testing.assert_allclose(features[0] @ mean, targets[0], rtol=0, atol=0.02)
    assert np.isfinite(covariance).all()


@pytest.mark.parametrize(
    ("function", "shapes"),
    [
        (hierarchical.fit_population, [(5, 3), (5,)]),
        (hierarchical.fit_population, [(2, 5, 3), (2, 4)]),
        (lambda *args: hierarchical.posterior(PRIOR, *args), [(2, 5, 3), (2, 5)]),
        (lambda *args: hierarchical.posterior(PRIOR, *args), [(5, 3), (4,)]),
        (lambda *args: hierarchical.posterior(PRIOR, *args), [(5, 3), (5,), (4,)]),
    ],
)
def test_wrong_shapes_raise(function, shapes):
    with pytest.raises(AssertionError):
        function(*(np.ones(shape) for shape in shapes))
