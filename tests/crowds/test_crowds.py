"""Models of a crowd: Dawid and Skene's, and competence by category."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from l2d_jax import models, optimizers
from l2d_jax.crowds import closed_loop, competence, dawid_skene, streams
from l2d_jax.crowds.allocation import Annotators, Arrivals, Committee, draw_noise
from l2d_jax.simulate import clusters

pytestmark = pytest.mark.usefixtures("cheap_compiles")

TOL = {"rtol": 1e-5, "atol": 1e-6}
LOG2, LOG3, LOG4 = np.log([2.0, 3.0, 4.0])

# Rates of the right answer to a truth of 0 and of 1, of annotators with two coins each.
COINS = np.array([[0.9, 0.85], [0.6, 0.9], [0.8, 0.7], [0.95, 0.6], [0.3, 0.2]])


def ask(seed, num_tasks, share):
    """Truth, answers (-1 where not asked) and who is asked."""
    generator = np.random.default_rng(seed)
    labels = (generator.random(num_tasks) < 0.4).astype(int)
    right = generator.random((num_tasks, 5)) < COINS[:, labels].T
    answers = np.where(right, labels[:, None], 1 - labels[:, None])
    consulted = generator.random(answers.shape) < share
    return labels, np.where(consulted, answers, -1), consulted


def compiled(functions):
    return type(functions)(*map(jax.jit, functions))


# Dawid and Skene.


def oracle_em(answers, consulted, num_iterations, smoothing):
    """EM in float64, in the paper's form: products of rates, and Bayes' rule."""
    ones, zeros = answers == 1, consulted & (answers == 0)
    count = np.maximum(consulted.sum(axis=1), 1)
    prob = np.where(consulted.any(axis=1), ones.sum(axis=1) / count, 0.0)

    def maximize(prob):
        truth = np.stack([1 - prob, prob], axis=1)
        counts = np.stack([zeros.T @ truth, ones.T @ truth], axis=-1) + smoothing
        return counts, truth[consulted.any(axis=1)].sum(axis=0) + smoothing

    for _ in range(num_iterations):
        counts, totals = maximize(prob)
        rates = counts / counts.sum(axis=-1, keepdims=True)
        joint = np.empty((len(prob), 2))
        for truth in (0, 1):
            said = np.where(ones, rates[:, truth, 1], rates[:, truth, 0])
            joint[:, truth] = totals[truth] * np.prod(np.where(consulted, said, 1), 1)
        prob = joint[:, 1] / joint.sum(axis=1)
    return (*maximize(prob), prob)


fit = jax.jit(dawid_skene.fit, static_argnums=2)


@pytest.mark.parametrize("num_iterations", [0, 1, 12])
def test_fit_is_em(num_iterations):
    _, answers, consulted = ask(0, 60, 0.7)
    consulted[0], answers[0] = False, -1  # Nobody.
    counts, totals, prob = oracle_em(answers, consulted, num_iterations, 0.5)
    confusion, ours = fit(answers, consulted, num_iterations, 0.5)
    np.testing.assert_allclose(ours, prob, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(confusion.counts, counts, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(confusion.totals, totals, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(counts.sum(), consulted.sum() + 20 * 0.5, rtol=1e-9)


@pytest.mark.filterwarnings("ignore")  # Of its own use of pandas.
def test_fit_is_that_of_crowd_kit():
    """It too starts from the votes; it clips rates at 1e-10 and smooths nothing.

    So ours nearly does not smooth, and its tolerance is one at which it never stops
    early. Both then do the same steps, in float32 here and in float64 there.
    """
    aggregation = pytest.importorskip("crowdkit.aggregation")
    pandas = pytest.importorskip("pandas")
    labels, answers, consulted = ask(1, 300, 0.6)
    consulted[~consulted.any(axis=1), 0] = True  # It knows no tasks without answers.
    answers = np.where(consulted, np.maximum(answers, 0), -1)
    task, worker = np.nonzero(consulted)
    table = {"task": task, "worker": worker, "label": answers[task, worker]}
    theirs = aggregation.DawidSkene(n_iter=25, tol=-np.inf)
    theirs.fit(pandas.DataFrame(table))
    expected = theirs.probas_.sort_index()
    confusion, ours = fit(answers, consulted, 25, 1e-6)
    np.testing.assert_allclose(ours, expected[1], rtol=0, atol=5e-3)
    found = np.asarray(ours) > 0.5
    np.testing.assert_array_equal(found, theirs.labels_.sort_index() == 1)
    rates = confusion.counts / confusion.counts.sum(axis=-1, keepdims=True)
    for annotator in range(5):
        for answer in (0, 1):
            np.testing.assert_allclose(
                rates[annotator, :, answer],
                theirs.errors_.loc[(annotator, answer)].sort_index(),
                rtol=0,
                atol=5e-3,
            )
    # And right, more often than a vote.
    vote = (answers == 1).sum(axis=1) > (answers == 0).sum(axis=1)
    assert (found == labels).mean() > (vote == labels).mean()


def test_what_was_not_asked_is_not_looked_at():
    _, answers, consulted = ask(2, 60, 0.5)
    expected = fit(answers, consulted, 12, 0.5)
    for behind in (0, 1, -7):
        ours = fit(np.where(consulted, answers, behind), consulted, 12, 0.5)
        jax.tree.map(np.testing.assert_array_equal, ours, expected)
    # A task that nobody was asked about counts for nothing.
    more = fit(
        np.vstack([answers, -np.ones((3, 5), int)]),
        np.vstack([consulted, np.zeros((3, 5), bool)]),
        12,
        0.5,
    )
    np.testing.assert_allclose(more[0].totals, expected[0].totals, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(more[1][:60], expected[1], rtol=1e-3, atol=1e-4)


def test_dawid_skene_by_hand():
    crowd = compiled(dawid_skene.make_crowd())
    state = crowd.init(Annotators(np.ones((3, 2)), np.zeros(3, int)))
    categories = np.array([0, 1, 1])
    answers = np.array([[1, 1, 0], [1, 0, -1], [-1, -1, -1]])
    consulted = jnp.array([[1, 1, 0], [1, 1, 0], [0, 0, 0]], bool)
    # At first everyone is right two times of three: two against none are 4 to 1.
    prob = crowd.posterior(state, categories, answers, consulted)
    np.testing.assert_allclose(prob, [0.8, 0.5, 0.5], **TOL)
    np.testing.assert_allclose(crowd.scores(state, 0.0), [[LOG2]] * 3, **TOL)
    state = crowd.learn(state, categories, answers, consulted, prob)
    np.testing.assert_allclose(
        state.counts,
        [
            [[2, 1 + 0.2 + 0.5], [1, 2 + 0.8 + 0.5]],
            [[2 + 0.5, 1 + 0.2], [1 + 0.5, 2 + 0.8]],
            [[2, 1], [1, 2]],
        ],
        **TOL,
    )
    np.testing.assert_allclose(state.totals, [1 + 0.2 + 0.5, 1 + 0.8 + 0.5], **TOL)
    # Optimism: of three answers to each truth, a spread of sqrt(2/9 / 6).
    hopeful = 2 / 3 + 0.5 * np.sqrt(2 / 9 / 6)
    ours = crowd.scores(state, 0.5)[2, 0]
    np.testing.assert_allclose(ours, np.log(hopeful / (1 - hopeful)), **TOL)


def test_dawid_skene_online_finds_the_confusion_matrices():
    labels, answers, consulted = ask(3, 3000, 0.8)
    crowd = dawid_skene.make_crowd()

    @jax.jit
    def stream(answers, consulted):
        def step(state, batch):
            answers, consulted = batch
            prob = crowd.posterior(state, None, answers, consulted)
            return crowd.learn(state, None, answers, consulted, prob), prob

        state = crowd.init(Annotators(np.ones((5, 1)), np.zeros(5, int)))
        batches = jax.tree.map(
            lambda leaf: leaf.reshape(100, 30, 5), (answers, consulted)
        )
        return jax.lax.scan(step, state, batches)

    state, prob = stream(answers, consulted)
    rates = state.counts / state.counts.sum(axis=-1, keepdims=True)
    ours = np.diagonal(rates, axis1=1, axis2=2)
    np.testing.assert_allclose(ours, COINS, rtol=0, atol=0.06)
    np.testing.assert_allclose(
        state.totals[1] / state.totals.sum(), labels.mean(), rtol=0, atol=0.05
    )
    late = np.asarray(prob).reshape(-1)[1500:] > 0.5
    assert (late == labels[1500:]).mean() > 0.9
    # Who is right least is the last to be asked.
    assert np.argmin(crowd.scores(state, 0.0)[:, 0]) == 4


# Competence.


fit_prior = jax.jit(competence.prior_competence)


def prior_competence(similarity, base=0.5, trust=1.0, least=0.0):
    return fit_prior(np.array(similarity), base, trust, least)


def test_prior_competence_by_hand():
    # Of two, a share of .8 is odds of 4 to the 1 of a half.
    ours = prior_competence([[0.8, 0.3], [0.2, 0.3]])
    np.testing.assert_allclose(ours, [[0.8, 0.5], [0.2, 0.5]], **TOL)
    # Only shares count, and odds of the base are multiplied: 3 * 4 = 12.
    ours = prior_competence([[0.4], [0.1]], base=0.75)
    np.testing.assert_allclose(ours, [[12 / 13], [3 / 7]], **TOL)
    # Half the trust: the square root of the odds. No trust: the base.
    ours = prior_competence([[0.4], [0.1]], trust=0.5)
    np.testing.assert_allclose(ours, [[2 / 3], [1 / 3]], **TOL)
    ours = prior_competence([[0.4], [0.1]], base=0.6, trust=0.0)
    np.testing.assert_allclose(ours, [[0.6], [0.6]], **TOL)
    # At least one half; and what is certain counts as 3 nats.
    ours = prior_competence([[1.0], [0.0]], least=0.5)
    np.testing.assert_allclose(ours, [[1 / (1 + np.exp(-3))], [0.5]], **TOL)
    # Of three, a share of .6 is odds of 3 to the 1/2 of a third.
    ours = prior_competence([[0.6], [0.2], [0.2]])
    np.testing.assert_allclose(ours, [[3 / 4], [1 / 3], [1 / 3]], **TOL)


def test_a_prior_that_says_nothing_is_no_contrast():
    for similarity in (np.full((4, 2), 0.3), np.zeros((4, 2)), np.ones((1, 3))):
        ours = prior_competence(similarity, base=0.7, trust=5.0)
        np.testing.assert_allclose(ours, np.full(similarity.shape, 0.7), **TOL)


def make_state(crowd, similarity, pools):
    return crowd.init(Annotators(jnp.asarray(similarity), jnp.asarray(pools)))


def test_competence_posterior_by_hand():
    crowd = compiled(competence.make_crowd())
    state = make_state(crowd, [[0.8], [0.2]], [0, 1])
    answers = np.array([[1, 0], [1, 0], [1, 1], [1, 0]])
    consulted = jnp.array([[1, 1], [1, 0], [1, 1], [0, 0]], bool)
    prob = crowd.posterior(state, np.zeros(4, int), answers, consulted)
    # Who is mostly wrong is evidence too: against what they say.
    np.testing.assert_allclose(prob, [16 / 17, 0.8, 0.5, 0.5], **TOL)
    np.testing.assert_allclose(crowd.scores(state, 0.0), [[LOG4], [-LOG4]], **TOL)
    state = crowd.learn(
        state, np.zeros(1, int), answers[:1], consulted[:1], jnp.array([0.75])
    )
    np.testing.assert_allclose(state.right[:, 0], [[0, 0.75], [0.25, 0]], **TOL)
    np.testing.assert_allclose(state.wrong[:, 0], [[0.25, 0], [0, 0.75]], **TOL)
    np.testing.assert_allclose(state.totals, [[1.25, 1.75]], **TOL)


def test_own_answers_and_the_pool_move_competence():
    """By hand: ten right answers of one, with a prior that says nothing."""
    crowd = compiled(competence.make_crowd(pool_answers=10.0, own_answers=4.0))
    state = make_state(crowd, np.ones((3, 2)), [0, 0, 1])
    state = state._replace(right=state.right.at[0, 1].set(10.0))
    ours = jax.nn.sigmoid(crowd.scores(state, 0.0))
    # The pool has 10 of 10 right and counts as half right of 10: 15 of 20.
    expected = [[0.5, (4 * 0.75 + 10) / 14], [0.5, 0.75], [0.5, 0.5]]
    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5)
    # Optimism is greater where less is known.
    more = jax.nn.sigmoid(crowd.scores(state, 1.0)) - ours
    assert (np.asarray(more) > 0).all()
    assert more[0, 1] < more[1, 1] - 0.1


def draw_batch(seed, num_annotators, num_categories, num_tasks=12):
    generator = np.random.default_rng(seed)
    shape = (num_tasks, num_annotators)
    return (
        generator.integers(0, num_categories, num_tasks),
        generator.integers(0, 2, shape),
        jnp.asarray(generator.random(shape) < 0.7),
    )


def pass_over(crowd, similarity, pools, batch):
    """Learn a batch, and judge it again."""
    state = make_state(crowd, similarity, pools)
    state = crowd.learn(state, *batch, crowd.posterior(state, *batch))
    return crowd.posterior(state, *batch), crowd.scores(state, 0.5)


pass_over = jax.jit(pass_over, static_argnums=0)


def test_competence_does_not_know_the_order_of_annotators():
    crowd = competence.make_crowd(base=0.6)
    similarity = np.random.default_rng(0).random((4, 3))
    pools = np.array([0, 1, 0, 1])
    categories, answers, consulted = draw_batch(0, 4, 3)
    order = np.array([2, 0, 3, 1])
    prob, scores = pass_over(crowd, similarity, pools, (categories, answers, consulted))
    again, again_scores = pass_over(
        crowd,
        similarity[order],
        pools[order],
        (categories, answers[:, order], consulted[:, order]),
    )
    np.testing.assert_allclose(again, prob, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(again_scores, scores[order], rtol=1e-4, atol=1e-5)


def test_exchanged_labels_mirror_the_posterior():
    """Whatever the prior: competence is of both truths."""
    crowd = competence.make_crowd()
    for similarity in (np.ones((4, 3)), np.random.default_rng(1).random((4, 3))):
        pools = np.array([0, 1, 0, 1])
        categories, answers, consulted = draw_batch(1, 4, 3)
        prob, scores = pass_over(
            crowd, similarity, pools, (categories, answers, consulted)
        )
        mirrored, same = pass_over(
            crowd, similarity, pools, (categories, 1 - answers, consulted)
        )
        np.testing.assert_allclose(mirrored, 1 - prob, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(same, scores, rtol=1e-4, atol=1e-5)
        assert similarity.std() == 0 or np.abs(prob - 0.5).max() > 0.1


def test_without_a_prior_the_labels_cannot_be_told_apart():
    crowd = competence.make_crowd()
    prob, _ = pass_over(
        crowd, np.ones((4, 3)), np.array([0, 1, 0, 1]), draw_batch(2, 4, 3)
    )
    np.testing.assert_allclose(prob, np.full(12, 0.5), **TOL)


def test_competence_is_never_certain():
    """At any trust, and after any number of answers that were all right."""
    crowd = compiled(competence.make_crowd(trust=100.0))
    state = make_state(crowd, [[1.0], [0.0]], [0, 0])
    batch = (np.zeros(4, int), np.array([[0, 0], [0, 1], [1, 0], [1, 1]]))
    everyone = jnp.ones((4, 2), bool)
    for count in (0.0, 1e5, 1e7):
        for right, wrong in ((count, 0.0), (0.0, count)):
            full = state._replace(right=state.right + right, wrong=state.wrong + wrong)
            prob = crowd.posterior(full, *batch, everyone)
            scores = crowd.scores(full, 1.0)
            assert np.isfinite(prob).all() and np.isfinite(scores).all()
    one = make_state(crowd, [[1.0]], [0])
    prob = crowd.posterior(one, np.zeros(1, int), np.ones((1, 1)), jnp.ones((1, 1)))
    np.testing.assert_allclose(prob, [0.5], **TOL)


# In a closed loop.


@pytest.fixture(scope="module")
def clustered():
    """Three annotators who each know one cluster, and a prior that says so, weakly."""
    drawn = jax.device_get(clusters.simulate(jax.random.key(0), 3, 250, 3))
    tasks = drawn.tasks
    tasks = tasks._replace(features=np.eye(3, dtype=np.float32)[tasks.categories])
    annotators = clusters.make_annotators(drawn.knows, 3, 0.45)
    return annotators, tasks


def serve_clusters(clustered, crowd, crowd_allocates=False, size=0):
    annotators, tasks = clustered
    allocator = closed_loop.make_allocator(
        models.linear(3),
        optimizers.make_plain_sgd(),
        crowd=crowd,
        crowd_allocates=crowd_allocates,
    )
    hparams = dict.fromkeys(closed_loop.HPARAMS, jnp.float32(0.0))
    hparams |= {"learning_rate": jnp.float32(0.5), "fade": jnp.float32(200.0)}

    @jax.jit
    def run(tasks):
        key = jax.random.key(0)
        train = jax.tree.map(lambda leaf: leaf[:600], tasks)
        test = jax.tree.map(lambda leaf: leaf[600:], tasks)
        committee = Committee(size)
        noise = draw_noise(key, 600, 3, committee)
        state = allocator.init(key, hparams, annotators, train.features)
        state, _ = streams.serve(
            allocator, hparams, committee, state, train, noise, 10, lambda *_: None
        )
        weights = allocator.deploy(state, hparams, test)
        return streams.measure_first(weights, test, 3)["first_accuracy"]

    return float(run(tasks))


@pytest.mark.long
def test_competence_finds_who_knows_what_where_a_vote_does_not(clustered):
    """dSim of .45 is outvoted by the two others, who are wrong four times of five."""
    assert serve_clusters(clustered, None) < 0.4
    assert serve_clusters(clustered, competence.make_crowd()) > 0.95
    assert serve_clusters(clustered, competence.make_crowd(), True, size=3) > 0.95


def test_the_allocation_of_a_crowd_by_hand():
    tasks = Arrivals(
        np.zeros((3, 1)),
        np.array([0, 1, 0]),
        np.array([[1, 0], [1, 0], [-1, 0]]),
        np.array([1, 1, 1]),
        np.array([[0.0, LOG3]] * 3),
    )
    annotators = Annotators(np.array([[0.8, 0.5], [0.2, 0.5]]), np.array([0, 1]))
    hparams = dict.fromkeys(closed_loop.HPARAMS, jnp.float32(0.0))
    for crowd, expected in (
        # Odds of 4 and of 1/4 that they are right, and of 1 each.
        (competence.make_crowd(), [[16 / 17, 1 / 17], [0.5, 0.5], [0, 1]]),
        (dawid_skene.make_crowd(), [[0.5, 0.5], [0.5, 0.5], [0, 1]]),
    ):
        allocator = compiled(
            closed_loop.make_allocator(
                models.linear(2),
                optimizers.make_plain_sgd(),
                crowd=crowd,
                crowd_allocates=True,
            )
        )
        state = allocator.init(jax.random.key(0), hparams, annotators, tasks.features)
        ours = allocator.weigh(state, hparams, tasks)
        np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5)
        # The dearer one costs log 3: their weight counts a third.
        dear = allocator.deploy(state, hparams | {"cost_rate": 1.0}, tasks)
        changed = np.array(expected) * [1, 1 / 3]
        changed /= changed.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(dear, changed, rtol=1e-4, atol=1e-5)
