import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from sklearn.semi_supervised import LabelSpreading

from l2d_jax.people import propagation
from l2d_jax.people.propagation import Graph, nearest_neighbors, propagate

# Node 0 listens to 1, 1 to 0 and 2 in halves, 2 to 1.
PATH = Graph(
    np.int32([[1, 2], [0, 2], [1, 0]]), np.float32([[1, 0], [0.5, 0.5], [1, 0]])
)
SETTING = {"retention": 0.5, "num_steps": 2, "prior_strength": 1.0}


def dense(graph):
    """The matrix S of a graph, float64 ``[N, N]``."""
    neighbors, weights = map(np.asarray, graph)
    matrix = np.zeros((len(neighbors), len(neighbors)))
    np.add.at(matrix, (np.arange(len(neighbors))[:, None], neighbors), weights)
    return matrix


def oracle(graph, right, wrong, prior, retention, num_steps, prior_strength):
    matrix = dense(graph)
    evidence = np.stack([right, wrong], axis=1).astype(np.float64)
    arrived = evidence
    for _ in range(num_steps):
        arrived = retention * matrix @ arrived + (1 - retention) * evidence
    right, wrong = arrived.T
    return (right + prior_strength * prior) / (right + wrong + prior_strength)


@functools.cache
def a_graph(num_nodes):
    features = np.random.default_rng(1).normal(size=(num_nodes, 3)).astype(np.float32)
    return Graph(*map(np.asarray, jax.jit(lambda x: nearest_neighbors(x, 5))(features)))


def a_problem(num_nodes=40, num_people=3):
    """A graph, and the evidence and priors ``[P, N]`` of some people."""
    rng = np.random.default_rng(0)
    seen = rng.uniform(size=(2, num_people, num_nodes)) < 0.2
    counts = (seen * rng.integers(1, 4, seen.shape)).astype(np.float32)
    priors = rng.uniform(size=(num_people, num_nodes)).astype(np.float32)
    return a_graph(num_nodes), counts[0], counts[1], priors


# The graph.


def test_neighbors_of_points_on_a_line():
    features = np.float32([[0.0], [1.0], [3.0], [7.0]])
    graph = nearest_neighbors(features, 2, bandwidth=2.0)
    assert graph.neighbors.dtype == jnp.int32 and graph.weights.dtype == jnp.float32
    np.testing.assert_array_equal(graph.neighbors, [[1, 2], [0, 2], [1, 0], [2, 1]])
    squares = np.array([[1, 9], [1, 4], [4, 9], [16, 36]])
    kernel = np.exp(-squares / 8)
    np.testing.assert_allclose(
        graph.weights, kernel / kernel.sum(1, keepdims=True), rtol=1e-6, atol=1e-7
    )
    # Neighbour distances 1, 3, 1, 2, 2, 3, 4, 6: their median is 2.5.
    default = nearest_neighbors(features, 2)
    given = nearest_neighbors(features, 2, bandwidth=2.5)
    np.testing.assert_allclose(default.weights, given.weights, rtol=1e-6, atol=1e-7)
    assert np.abs(default.weights - graph.weights).max() > 0.01


@pytest.mark.parametrize("block_entries", [1, 100, 2**24])
def test_neighbors_agree_with_the_whole_distance_matrix(monkeypatch, block_entries):
    """In blocks of one row, of rows that N is no multiple of, and in one block."""
    monkeypatch.setattr(propagation, "_BLOCK_ENTRIES", block_entries)
    # Far from the origin, where squares alone would leave no digit to compare.
    features = np.random.default_rng(0).normal(size=(31, 4)).astype(np.float32) + 500
    graph = jax.jit(nearest_neighbors, static_argnums=1)(features, 6, 0.8)
    steps = features[:, None].astype(np.float64) - features
    squares = np.sum(steps**2, axis=-1)
    np.fill_diagonal(squares, np.inf)
    expected = np.argsort(squares, axis=1)[:, :6]
    np.testing.assert_array_equal(graph.neighbors, expected)
    kernel = np.exp(-np.take_along_axis(squares, expected, axis=1) / (2 * 0.8**2))
    np.testing.assert_allclose(
        graph.weights, kernel / kernel.sum(1, keepdims=True), rtol=1e-4, atol=1e-6
    )


def test_duplicates_are_neighbors_and_nobody_is_their_own():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(2, 64)).astype(np.float32)[[0, 0, 0, 1]]
    graph = nearest_neighbors(features, 2)  # The median distance is 0.
    assert not (graph.neighbors == np.arange(4)[:, None]).any()
    assert set(np.asarray(graph.neighbors[0]).tolist()) == {1, 2}
    np.testing.assert_array_equal(graph.weights, np.full((4, 2), 0.5))


def test_an_outlier_still_has_neighbors():
    features = np.float32([[0.0], [0.1], [0.2], [1e4]])
    graph = nearest_neighbors(features, 2, bandwidth=0.1)
    np.testing.assert_array_equal(graph.neighbors[3], [2, 1])
    np.testing.assert_allclose(graph.weights[3], [1.0, 0.0], rtol=0, atol=1e-6)
    np.testing.assert_allclose(np.sum(graph.weights, 1), np.ones(4), rtol=1e-6, atol=0)


# The spread.


def test_three_nodes_by_hand():
    right, wrong = np.float32([1, 0, 0]), np.float32([0, 0, 2])
    # F right: (1, 0, 0), (1/2, 1/4, 0), (1/2 + 1/8, 1/8, 1/8).
    # F wrong: (0, 0, 2), (0, 1/2, 1), (1/4, 1/4, 1 + 1/4).
    probs = propagate(PATH, right, wrong, 0.5, **SETTING)
    expected = [
        (5 / 8 + 1 / 2) / (5 / 8 + 1 / 4 + 1),
        (1 / 8 + 1 / 2) / (1 / 8 + 1 / 4 + 1),
        (1 / 8 + 1 / 2) / (1 / 8 + 5 / 4 + 1),
    ]
    np.testing.assert_allclose(probs, expected, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(expected, [3 / 5, 5 / 11, 5 / 19], rtol=1e-12, atol=0)


@pytest.mark.parametrize("num_steps", [0, 1, 7])
def test_agrees_with_the_dense_oracle(num_steps):
    graph, right, wrong, priors = a_problem()
    setting = {"retention": 0.8, "num_steps": num_steps, "prior_strength": 0.7}
    of_one = functools.partial(propagate, graph, **setting)
    expected = [
        oracle(graph, *row, **setting) for row in zip(right, wrong, priors, strict=True)
    ]
    of_all = jax.vmap(of_one)
    for probs in (
        np.stack([of_one(*row) for row in zip(right, wrong, priors, strict=True)]),
        of_all(right, wrong, priors),
        jax.jit(of_all)(right, wrong, priors),
    ):
        np.testing.assert_allclose(probs, expected, rtol=2e-6, atol=1e-6)


def test_many_steps_reach_the_fixed_point():
    graph, right, wrong, priors = a_problem(num_people=1)
    right, wrong, prior = right[0], wrong[0], priors[0]
    walk = 0.3 * np.linalg.inv(np.eye(40) - 0.7 * dense(graph))
    np.testing.assert_allclose(walk.sum(1), np.ones(40), rtol=1e-6, atol=0)
    ends_right, ends_wrong = walk @ right, walk @ wrong
    expected = (ends_right + 2 * prior) / (ends_right + ends_wrong + 2)
    probs = propagate(
        graph, right, wrong, prior, retention=0.7, num_steps=50, prior_strength=2.0
    )
    np.testing.assert_allclose(probs, expected, rtol=1e-5, atol=1e-6)


def test_label_spreading_on_two_moons():
    """On a complete graph, where both normalizations have the same fixed point.

    With the degrees D of W, the symmetric one ends at D^{1/2} F if D^{1/2} Y gives F.
    """
    angles = np.linspace(0, np.pi, 12)
    upper = np.column_stack([np.cos(angles), np.sin(angles)])
    lower = np.column_stack([1 - np.cos(angles), 0.4 - np.sin(angles)])
    features = np.concatenate([upper, lower]).astype(np.float32)
    answers = np.full(24, -1)
    answers[[2, 9]], answers[[13, 20]] = 1, 0
    bandwidth = 0.2
    theirs = LabelSpreading(
        gamma=1 / (2 * bandwidth**2), alpha=0.9, max_iter=1000, tol=1e-9
    ).fit(features, answers)

    steps = features[:, None].astype(np.float64) - features
    kernel = np.exp(-np.sum(steps**2, -1) / (2 * bandwidth**2))
    root = np.sqrt(kernel.sum(1) - 1)  # Less a node's weight of itself.
    probs = propagate(
        nearest_neighbors(features, 23, bandwidth),
        (answers == 1) / root,
        (answers == 0) / root,
        0.5,
        retention=0.9,
        num_steps=200,
        prior_strength=1e-9,
    )
    np.testing.assert_allclose(
        probs, theirs.label_distributions_[:, 1], rtol=1e-4, atol=1e-4
    )
    np.testing.assert_array_equal(probs > 0.5, np.arange(24) < 12)


# Properties.


def test_no_evidence_leaves_the_prior_exactly():
    graph, right, _, priors = a_problem(num_people=1)
    nothing = 0 * right[0]
    setting = {"retention": 0.9, "num_steps": 3, "prior_strength": 0.3}
    probs = propagate(graph, nothing, nothing, priors[0], **setting)
    np.testing.assert_array_equal(probs, priors[0])


def test_evidence_travels_an_edge_a_step():
    # A chain in which every node listens to the one before it, and 0 to nobody.
    neighbors = np.maximum(np.arange(6) - 1, 0)[:, None]
    chain = Graph(neighbors, (np.arange(6) > 0).astype(np.float32)[:, None])
    right = np.float32([1, 0, 0, 0, 0, 0])
    for num_steps in (0, 1, 3):
        probs = propagate(
            chain,
            right,
            0 * right,
            0.25,
            retention=0.5,
            num_steps=num_steps,
            prior_strength=1.0,
        )
        np.testing.assert_array_equal(probs != 0.25, np.arange(6) <= num_steps)


def test_an_isolated_node_keeps_to_itself():
    graph = Graph(np.int32([[1], [0], [0]]), np.float32([[1], [1], [0]]))
    setting = {"retention": 0.5, "num_steps": 30, "prior_strength": 1.0}
    elsewhere = propagate(graph, np.float32([1, 0, 0]), np.zeros(3), 0.5, **setting)
    assert elsewhere[2] == 0.5 and elsewhere[1] > 0.6
    own = propagate(graph, np.float32([0, 0, 1]), np.zeros(3), 0.5, **setting)
    # Half of an answer counts, of a prior worth one: (1/2 + 1/2) / (1/2 + 1).
    np.testing.assert_allclose(own, [0.5, 0.5, 2 / 3], rtol=1e-6, atol=0)


def test_evidence_of_one_kind_moves_everybody_it_reaches_its_way():
    graph, _, _, priors = a_problem(num_people=1)
    ones, zeros = np.ones(40, np.float32), np.zeros(40, np.float32)
    setting = {"retention": 0.9, "num_steps": 4, "prior_strength": 1.0}
    # An average of ones is 1: one answer, beside a prior that is worth one.
    up = propagate(graph, ones, zeros, priors[0], **setting)
    np.testing.assert_allclose(up, (1 + priors[0]) / 2, rtol=1e-5, atol=1e-6)
    down = propagate(graph, zeros, ones, priors[0], **setting)
    np.testing.assert_allclose(down, priors[0] / 2, rtol=1e-5, atol=1e-6)


def test_right_and_wrong_are_two_sides():
    graph, right, wrong, priors = a_problem(num_people=1)
    probs = propagate(graph, right[0], wrong[0], priors[0], **SETTING)
    swapped = propagate(graph, wrong[0], right[0], 1 - priors[0], **SETTING)
    np.testing.assert_allclose(probs, 1 - swapped, rtol=0, atol=2e-6)


@pytest.mark.parametrize("scale", [1e-6, 1e8])
def test_the_result_is_a_probability(scale):
    graph, right, wrong, _ = a_problem(num_people=20)
    right, wrong = (
        scale * np.concatenate([right, 0 * right]),
        scale * np.tile(wrong, (2, 1)),
    )
    priors = np.resize(np.float32([0.0, 1.0, 0.3, 0.7]), len(right))
    setting = {"retention": 0.99, "num_steps": 3, "prior_strength": 1e-3}
    of_one = functools.partial(propagate, graph, **setting)
    probs = np.asarray(jax.jit(jax.vmap(of_one))(right, wrong, priors))
    assert np.isfinite(probs).all()
    assert probs.min() >= 0.0 and probs.max() <= 1.0


def test_permuting_nodes_permutes_the_result():
    rng = np.random.default_rng(3)
    features = rng.normal(size=(30, 4)).astype(np.float32)
    right, wrong = rng.integers(3, size=(2, 30)) * (rng.uniform(size=30) < 0.3)
    prior = rng.uniform(size=30).astype(np.float32)
    order = rng.permutation(30)

    @jax.jit
    def of(features, *evidence):
        return propagate(nearest_neighbors(features, 4), *evidence, **SETTING)

    probs = of(features, right, wrong, prior)
    permuted = of(features[order], right[order], wrong[order], prior[order])
    np.testing.assert_allclose(permuted, probs[order], rtol=1e-5, atol=1e-6)
    assert np.std(probs - prior) > 0.01


def test_without_retention_nothing_spreads():
    graph, right, wrong, priors = a_problem(num_people=1)
    right, wrong, prior = right[0], wrong[0], priors[0]
    probs = propagate(
        graph, right, wrong, prior, retention=0.0, num_steps=5, prior_strength=2.0
    )
    expected = (right + 2 * prior) / (right + wrong + 2)
    np.testing.assert_allclose(probs, expected, rtol=1e-6, atol=1e-7)


def test_a_stronger_prior_counts_for_more():
    graph, right, wrong, _ = a_problem(num_people=1)
    moved = [
        np.abs(
            propagate(
                graph,
                right[0],
                wrong[0],
                0.4,
                retention=0.5,
                num_steps=5,
                prior_strength=strength,
            )
            - 0.4
        )
        for strength in (0.1, 1.0, 10.0)
    ]
    reached = moved[0] > 0
    assert reached.sum() > 20
    assert (moved[0] >= moved[1])[reached].all() and (moved[1] >= moved[2])[
        reached
    ].all()


def test_gradients():
    graph, right, wrong, priors = a_problem(num_nodes=12, num_people=1)

    @jax.jit  # Traced, so that a step may leave the range of a value.
    def of(right, wrong, prior, retention, prior_strength):
        return propagate(
            graph,
            right,
            wrong,
            prior,
            retention=retention,
            num_steps=3,
            prior_strength=prior_strength,
        )

    at = (right[0] + 0.5, wrong[0] + 0.5, 0.1 + 0.8 * priors[0])
    at = tuple(map(jnp.asarray, (*at, np.float32(0.6), np.float32(0.8))))
    check_grads(of, at, order=1, modes=["rev"], atol=1e-2, rtol=1e-2, eps=1e-2)


def test_people_share_the_gathers_of_a_step():
    """Mapped over people, a step is k gathers and the only loop is that of steps."""
    graph, right, wrong, priors = a_problem(num_people=3)
    setting = {**SETTING, "num_steps": 20}
    of_all = jax.vmap(functools.partial(propagate, graph, **setting))
    program = jax.jit(of_all).lower(right, wrong, priors).compile().as_text()
    assert program.count(" gather(") == 5
    assert program.count(" while(") == 1
    assert " scatter(" not in program and " dot(" not in program


# Wrong input.

FEATURES = np.eye(4, dtype=np.float32)


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["eager", "jit"])
@pytest.mark.parametrize(
    ("features", "num_neighbors", "message"),
    [
        (FEATURES, 4, r"num_neighbors must be in \[1, N\) = \[1, 4\), got 4"),
        (FEATURES, 0, r"num_neighbors must be in .* got 0"),
        (FEATURES[0], 1, r"features must have shape \[N, F\], got \(4,\)"),
        (FEATURES[None], 1, r"features .*; build one graph at a time"),
    ],
)
def test_a_wrong_graph_names_the_argument(wrap, features, num_neighbors, message):
    with pytest.raises(ValueError, match=message):
        wrap(lambda x: nearest_neighbors(x, num_neighbors))(features)


def test_wrong_values_of_a_graph_name_the_argument():
    with pytest.raises(ValueError, match="features must be finite, got nan"):
        nearest_neighbors(np.where(FEATURES == 1, np.nan, 0), 2)
    for bandwidth in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(ValueError, match="bandwidth must be finite and > 0, got"):
            nearest_neighbors(FEATURES, 2, bandwidth)
    with pytest.raises(TypeError, match="num_neighbors must be an int, got float"):
        nearest_neighbors(FEATURES, 2.0)


ZEROS = np.zeros(3, np.float32)
GOOD = {
    "graph": PATH,
    "evidence_right": ZEROS,
    "evidence_wrong": ZEROS,
    "prior_right": 0.5,
    **SETTING,
}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"evidence_right": np.zeros(4)}, r"^evidence_right .* \[N\] = \(3,\), as"),
        ({"evidence_wrong": np.zeros((2, 3))}, r"^evidence_wrong .*; vmap over people"),
        ({"evidence_wrong": 0.0}, r"evidence_wrong must have shape \[N\], got \(\)"),
        ({"prior_right": np.zeros(1)}, r"prior_right must have shape \[N\] = \(3,\)"),
        ({"retention": ZEROS}, r"retention must have shape \[\]"),
        ({"prior_strength": ZEROS}, r"prior_strength must have shape \[\]"),
        ({"num_steps": -1}, "num_steps must be >= 0, got -1"),
        (
            {"graph": PATH._replace(weights=np.ones((3, 1)))},
            r"graph\.weights must have the shape \(3, 2\) of graph\.neighbors",
        ),
        (
            {"graph": Graph(*(leaf[None] for leaf in PATH))},
            r"graph\.neighbors must have .*; leave the graph out of the vmap",
        ),
    ],
)
def test_a_wrong_shape_names_the_argument(changed, message):
    arguments = {**GOOD, **changed}
    num_steps = arguments.pop("num_steps")
    for wrap in (lambda f: f, jax.jit):
        with pytest.raises(ValueError, match=message):
            wrap(functools.partial(propagate, num_steps=num_steps))(**arguments)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"retention": 1.0}, r"retention must be in \[0, 1\), got 1.0"),
        ({"retention": -0.1}, r"retention must be in \[0, 1\)"),
        ({"retention": np.nan}, r"retention must be in \[0, 1\), got nan"),
        ({"prior_strength": 0.0}, "prior_strength must be finite and > 0, got 0.0"),
        ({"prior_strength": np.inf}, "prior_strength must be finite and > 0, got inf"),
        ({"prior_right": 1.5}, r"prior_right must be in \[0, 1\], got 1.5"),
        ({"prior_right": ZEROS + np.nan}, r"prior_right must be in \[0, 1\], got nan"),
        ({"evidence_right": ZEROS - 1}, "evidence_right must be finite and >= 0, got"),
        ({"evidence_wrong": ZEROS + np.nan}, "evidence_wrong must be .* got nan"),
        (
            {"graph": PATH._replace(neighbors=PATH.neighbors + 1)},
            r"graph\.neighbors must be in \[0, N\) = \[0, 3\), got 3",
        ),
        (
            {"graph": PATH._replace(weights=-PATH.weights)},
            r"graph\.weights must be finite and >= 0, got -1",
        ),
    ],
)
def test_a_wrong_concrete_value_names_the_argument(changed, message):
    with pytest.raises(ValueError, match=message):
        propagate(**{**GOOD, **changed})


def test_wrong_types_name_the_argument():
    with pytest.raises(TypeError, match="num_steps must be an int, got float"):
        propagate(**{**GOOD, "num_steps": 2.0})
    floats = PATH._replace(neighbors=PATH.neighbors.astype(float))
    with pytest.raises(TypeError, match=r"graph\.neighbors must be of an integer"):
        propagate(**{**GOOD, "graph": floats})


def test_neighbors_of_large_numbers_are_those_of_their_differences():
    stamps = 1.7e9 + 5.0 * np.arange(20.0)[:, None] ** 1.1
    found = nearest_neighbors(stamps, 2)
    expected = nearest_neighbors(stamps - 1.7e9, 2)
    np.testing.assert_array_equal(found.neighbors, expected.neighbors)
    with pytest.raises(ValueError, match=r"features: column 0 .* beyond the range of"):
        nearest_neighbors(np.array([[1e39], [2e39], [0.0]]), 1)
