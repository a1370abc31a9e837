"""Whether a person would be right, spread over a graph of examples.

A person answers a few examples. That they were right or wrong spreads along a
nearest-neighbour graph of the examples' features to the ones they never saw, where it
stands in for an answer: `l2d_jax.types.Dataset.expert_correct`. The graph is of the
examples alone, so one graph serves any number of people.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from l2d_jax._checks import float32_fault, require_all, require_integer, require_shape
from l2d_jax.types import Array

# Entries of the distance matrix held at once: 64 MiB of float32.
_BLOCK_ENTRIES = 2**24


class Graph(NamedTuple):
    """Where each node's information comes from: k edges into each of N nodes.

    Attributes:
      neighbors: the nodes that node i listens to, int32 ``[N, k]``, in [0, N).
      weights: how much it listens to each, float32 ``[N, k]``, >= 0. Those of
        `nearest_neighbors` sum to 1 over a row; a row of zeros is an isolated node.
    """

    neighbors: Array
    weights: Array


def nearest_neighbors(
    features: ArrayLike, num_neighbors: int, bandwidth: ArrayLike | None = None
) -> Graph:
    r"""Graph of each example's k nearest neighbours, by Euclidean distance.

    .. math:: S_{ij} = \frac{\exp(-d_{ij}^2 / 2 b^2)}
        {\sum_{l \in kNN(i)} \exp(-d_{il}^2 / 2 b^2)}, \quad j \in kNN(i)

    S is the random walk :math:`D^{-1} W` of a directed graph: i may listen to j where j
    does not listen to i. The symmetric normalization :math:`D^{-1/2} W D^{-1/2}` needs
    the edges of i that others chose, which a list of fixed length cannot hold; on a
    symmetric W the two spread evidence with the same fixed point, up to a factor per
    node and one per piece of evidence. With the walk no example is isolated, what
    arrives is an average and not a sum over a hub's many edges, and no evidence grows.

    The whole distance matrix is computed, a block of rows at a time: time grows with
    :math:`N^2`. The neighbours are exact up to rounding: of two at distances that
    differ by about 1e-6 of the features' spread, either may be taken.

    Args:
      features: features of each example, ``[N, F]``, finite. Every feature counts in
        its own unit: standardize what is not comparable.
      num_neighbors: k, in [1, N); static. An example is not its own neighbour, but a
        duplicate of it is.
      bandwidth: b, distance at which a neighbour's weight has fallen to
        :math:`e^{-1/2}`, float ``[]``, > 0; default the median of all neighbour
        distances. If that is 0, a node's nearest neighbours share all the weight.

    Returns:
      The graph, each node's neighbours nearest first.

    Raises:
      TypeError: ``num_neighbors`` is not an int.
      ValueError: an argument has the wrong shape, or a value out of its range.

    References:
      Subramanya and Talukdar, "Graph-Based Semi-Supervised Learning", 2014, for graphs
      of nearest neighbours and their weights.
    """
    no_batch = "build one graph at a time"
    require_shape("features", features, "[N, F]", min_size=2, remedy=no_batch)
    num_nodes = jnp.shape(features)[0]
    if not isinstance(num_neighbors, int | np.integer):
        kind = type(num_neighbors).__name__
        raise TypeError(f"num_neighbors must be an int, got {kind}")
    if not 1 <= num_neighbors < num_nodes:
        raise ValueError(
            f"num_neighbors must be in [1, N) = [1, {num_nodes}), got {num_neighbors}"
        )
    require_all("features", features, np.isfinite, "be finite")
    if isinstance(features, np.ndarray) and features.dtype.itemsize > 4:
        # Centered in all of their digits: time stamps of 32 bits are minutes apart.
        centered = np.asarray(features - np.mean(features, axis=0))
        features = centered
        if fault := float32_fault(centered):
            raise ValueError(f"features: column {fault[0]} {fault[1]}")
    if bandwidth is not None:
        require_shape("bandwidth", bandwidth, "[]")
        require_all("bandwidth", bandwidth, _is_positive, "be finite and > 0")

    features = jnp.asarray(features, float)
    # Small numbers, so that less is lost in the difference of their squares.
    features = features - jnp.mean(features, axis=0)
    half_norms = 0.5 * jnp.sum(features**2, axis=1)

    def neighbors_of(nodes: jax.Array) -> tuple[jax.Array, jax.Array]:
        # Half the squared distance, less what is constant in a row. An accelerator
        # would round the inputs of the product.
        dots = jnp.matmul(features[nodes], features.T, precision="highest")
        closeness = dots - half_norms
        is_self = nodes[:, None] == jnp.arange(num_nodes)
        closeness = jnp.where(is_self, -jnp.inf, closeness)
        neighbors = jax.lax.top_k(closeness, int(num_neighbors))[1]
        # Anew from the features, since duplicates must be at a distance of exactly 0.
        steps = features[nodes][:, None, :] - features[neighbors]
        return neighbors, jnp.sum(steps**2, axis=-1)

    num_blocks = -(-num_nodes // max(1, _BLOCK_ENTRIES // num_nodes))
    block_size = -(-num_nodes // num_blocks)
    # The last block is filled up with the last node, which is then cut off.
    nodes = jnp.minimum(jnp.arange(num_blocks * block_size), num_nodes - 1)
    neighbors, squares = jax.tree.map(
        lambda leaf: leaf.reshape(-1, num_neighbors)[:num_nodes],
        jax.lax.map(neighbors_of, nodes.reshape(num_blocks, block_size)),
    )
    if bandwidth is None:
        bandwidth = jnp.median(jnp.sqrt(squares))
    # Relative to the nearest, so that the weights of an outlier do not all vanish.
    excess = squares - jnp.min(squares, axis=1, keepdims=True)
    tiny = jnp.finfo(squares.dtype).tiny
    kernel = jnp.exp(-excess / jnp.maximum(2.0 * jnp.square(bandwidth), tiny))
    weights = kernel / jnp.sum(kernel, axis=1, keepdims=True)
    return Graph(neighbors.astype(jnp.int32), weights.astype(jnp.float32))


def propagate(
    graph: Graph,
    evidence_right: ArrayLike,
    evidence_wrong: ArrayLike,
    prior_right: ArrayLike,
    *,
    retention: ArrayLike,
    num_steps: int,
    prior_strength: ArrayLike,
) -> jax.Array:
    r"""Probability that one person is right on each example, from a few answers.

    .. math:: F \leftarrow \rho S F + (1 - \rho) Y, \qquad
        P(right) = \frac{F_{right} + s\,\pi}{F_{right} + F_{wrong} + s}

    from :math:`F = Y`, the counts of the person's right and wrong answers. With the
    weights of `nearest_neighbors`, :math:`F_i` tends to the mean number of answers at
    the node where a walk ends that starts at i and goes on with the probability
    :math:`\rho` at each node; what is missing of it after t steps falls as
    :math:`\rho^t`. An answer is thus shared out: about :math:`1 - \rho` of it counts at
    its own example, and the rest at the examples that listen to it, directly or not.
    The fewer answers, the smaller F, so choose ``prior_strength`` on held-out answers.

    The map is linear in the evidence but for the last quotient. For many people, vmap
    over the evidence and the prior with the graph unmapped: a step is then k gathers
    that each fetch one edge of every node for all people, P N k pairs in all, and no
    loop over people. Beside its
    arguments it holds about six times P N floats.

    Args:
      graph: N nodes, of which node i is example i.
      evidence_right: how often the person was right on each example, ``[N]``, >= 0; 0
        where they did not answer.
      evidence_wrong: how often they were wrong, ``[N]``, >= 0.
      prior_right: probability :math:`\pi` that they are right where nothing is known of
        them, such as an aggregate model of all people gives, float ``[N]`` or ``[]``,
        in [0, 1].
      retention: :math:`\rho`, share of the evidence that survives an edge, float
        ``[]``, in [0, 1). 0 spreads nothing.
      num_steps: t, steps and so edges that evidence travels at most, >= 0; static.
      prior_strength: s, answers that the prior is worth, float ``[]``, > 0.

    Returns:
      Probability that the person is right, float ``[N]``, in [0, 1]; exactly
      ``prior_right`` where no evidence arrives.

    Raises:
      TypeError: ``num_steps`` is not an int, or the neighbours are not integers.
      ValueError: an argument has the wrong shape, or a concrete value out of its range.

    References:
      Zhou et al., "Learning with Local and Global Consistency", 2004, the iteration, of
      which :math:`\rho` is the alpha. Raman and Yee, "Improving Learning-to-Defer
      Algorithms Through Fine-Tuning", 2021, who name graph-based semi-supervised
      learning as a way to impute a person's answers.
    """
    num_nodes = _require_graph(graph)
    for name, evidence in (
        ("evidence_right", evidence_right),
        ("evidence_wrong", evidence_wrong),
    ):
        _require_nodes(name, evidence, num_nodes)
        require_all(name, evidence, _is_nonnegative, "be finite and >= 0")
    if jnp.ndim(prior_right) != 0:
        _require_nodes("prior_right", prior_right, num_nodes)
    require_all(
        "prior_right", prior_right, lambda v: (v >= 0) & (v <= 1), "be in [0, 1]"
    )
    require_shape("retention", retention, "[]")
    require_all("retention", retention, lambda v: (v >= 0) & (v < 1), "be in [0, 1)")
    require_shape("prior_strength", prior_strength, "[]")
    require_all("prior_strength", prior_strength, _is_positive, "be finite and > 0")
    if not isinstance(num_steps, int | np.integer):
        raise TypeError(f"num_steps must be an int, got {type(num_steps).__name__}")
    if num_steps < 0:
        raise ValueError(f"num_steps must be >= 0, got {num_steps}")

    # One edge of every node at a time: each is a gather that the sum absorbs, where a
    # gather of all edges at once would be written to memory and cost 30 times as much.
    neighbors = jnp.asarray(graph.neighbors).T
    weights = jnp.asarray(graph.weights, float).T[:, :, None]
    # Right and wrong side by side: one gather fetches both.
    evidence = jnp.stack(
        [jnp.asarray(evidence_right, float), jnp.asarray(evidence_wrong, float)], axis=1
    )
    retention = jnp.asarray(retention, float)
    kept = (1.0 - retention) * evidence

    def step(_: Any, arrived: jax.Array) -> jax.Array:
        heard = jnp.zeros_like(arrived)
        for senders, shares in zip(neighbors, weights, strict=True):
            heard = heard + shares * arrived[senders]
        return retention * heard + kept

    arrived = jax.lax.fori_loop(0, int(num_steps), step, evidence)
    right, wrong = arrived[:, 0], arrived[:, 1]
    prior = jnp.asarray(prior_right, float)
    # The prior and what the evidence adds to it: 0, exactly, where there is none.
    change = right * (1.0 - prior) - wrong * prior
    probs = prior + change / (right + wrong + prior_strength)
    return jnp.clip(probs, 0.0, 1.0)  # Rounding may leave the interval.


def _require_graph(graph: Graph) -> int:
    """Number of nodes of a sound graph."""
    one_graph = "leave the graph out of the vmap"
    for name, leaf in zip(graph._fields, graph, strict=True):
        require_shape(f"graph.{name}", leaf, "[N, k]", remedy=one_graph)
    neighbors, weights = graph
    num_nodes = jnp.shape(neighbors)[0]
    if jnp.shape(weights) != jnp.shape(neighbors):
        raise ValueError(
            f"graph.weights must have the shape {jnp.shape(neighbors)} of "
            f"graph.neighbors, got {jnp.shape(weights)}"
        )
    require_integer("graph.neighbors", neighbors)
    require_all(
        "graph.neighbors",
        neighbors,
        lambda v: (v >= 0) & (v < num_nodes),
        f"be in [0, N) = [0, {num_nodes})",
    )
    require_all("graph.weights", weights, _is_nonnegative, "be finite and >= 0")
    return num_nodes


def _require_nodes(name: str, value: Any, num_nodes: int) -> None:
    require_shape(name, value, "[N]", remedy="vmap over people")
    if jnp.shape(value)[0] != num_nodes:
        raise ValueError(
            f"{name} must have shape [N] = ({num_nodes},), as the graph has, "
            f"got {jnp.shape(value)}"
        )


def _is_nonnegative(value: np.ndarray) -> np.ndarray:
    return np.isfinite(value) & np.asarray(value >= 0)


def _is_positive(value: np.ndarray) -> np.ndarray:
    return np.isfinite(value) & np.asarray(value > 0)
