"""Half-spaces as problems: two of them make the best team, and the best is known.

Every seed draws examples, half-spaces and answers of its own, so the pool and the test
part are those of all seeds in turn, of which a seed has its own rows.
"""

import functools
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from experiments import images
from experiments.problem import Problem, Teams, Traits
from l2d_jax import decisions
from l2d_jax.engine import memory, orders
from l2d_jax.simulate import halfspaces
from l2d_jax.types import Array, Dataset, Decision, HParams


class Law(NamedTuple):
    """How often who is wrong.

    Attributes:
      deferred_error: as in `l2d_jax.simulate.halfspaces.simulate`.
      kept_error: likewise.
      label_noise: likewise.
    """

    deferred_error: float
    kept_error: float
    label_noise: float


LAWS = {
    "halfspaces_realizable": Law(0.0, 0.3, 0.0),
    "halfspaces_noisy": Law(0.1, 0.4, 0.1),
}
"""Problems by name. The first is the authors' by default. Of the second, the errors of
the best team are as published; how often the expert is wrong where the classifier is to
answer is ours."""
INPUTS: dict[str, Callable[[jax.Array, int, int], jax.Array]] = {
    "uniform": halfspaces.uniform_inputs,
    "mixture": halfspaces.mixture_inputs,
}
"""Laws of the inputs by name."""


def load(config: ml_collections.ConfigDict) -> halfspaces.Simulated:
    """Examples of all seeds, NumPy arrays ``[S, num_examples + num_test, ...]``.

    Raises:
      ConfigError: a part would be empty or a batch is larger than the training part.
      TooLargeError: the machine cannot hold them.
    """
    images.check_sizes(config, config.num_examples)
    size = config.num_examples + config.num_test
    law = LAWS[config.problem]

    def draw(key: jax.Array) -> halfspaces.Simulated:
        of_inputs, of_rest = jax.random.split(key)
        inputs = INPUTS[config.input_law](of_inputs, size, config.num_features)
        return halfspaces.simulate(of_rest, inputs, *law)

    one = jax.eval_shape(draw, jax.random.key(0))
    memory.require(examples=config.num_seeds * memory.size_of(one))
    keys = jax.vmap(jax.random.key)(config.seed + jnp.arange(config.num_seeds))
    return jax.tree.map(np.asarray, jax.jit(lambda keys: jax.lax.map(draw, keys))(keys))


def make(
    config: ml_collections.ConfigDict,
    worlds: halfspaces.Simulated,
    workdir: pathlib.Path,
    stop: Callable[[], bool],
) -> list[Problem]:
    """The examples as a problem."""
    del workdir, stop
    size = config.num_examples

    def flat(part: slice) -> Dataset:
        def rows(leaf: Array) -> np.ndarray:
            return np.asarray(leaf[:, part]).reshape(-1, *leaf.shape[2:])

        return Dataset(
            rows(worlds.inputs), rows(worlds.labels), rows(worlds.expert_labels)
        )

    def split(seed: int) -> orders.Fold:
        fold = orders.split_pool(seed, size, config.valid_fraction)
        first = np.int32(seed * size)
        return orders.Fold(first + fold.train, first + fold.valid)

    def test_rows(seed: int) -> np.ndarray:
        return np.arange(config.num_test) + seed * config.num_test

    return [
        Problem(
            name=config.problem,
            traits=Traits(2, law=True, few=True),
            pool=flat(slice(size)),
            test=flat(slice(size, None)),
            teams=_teams,
            split=split,
            test_rows=test_rows,
            law=functools.partial(_law, worlds=worlds),
            columns={"num_examples": size},
            sampled="seeds",
        )
    ]


def _teams(num_seeds: int) -> Teams:
    """One for each seed, which knows the number of its world."""
    seeds = np.arange(num_seeds, dtype=np.int32)
    return Teams(seeds, {"world": seeds}, {})


def _law(inputs: Array, hparams: HParams, worlds: Any) -> Decision:
    """The pair of half-spaces that the labels and the answers were drawn by."""
    own = hparams["world"]
    classifier = jnp.asarray(worlds.classifier)[own]
    rejector = jnp.asarray(worlds.rejector)[own]
    labels = halfspaces.beyond(classifier, inputs).astype(int)
    defers = halfspaces.beyond(rejector, inputs)
    score = jnp.where(defers, 1.0, -1.0)
    return decisions.decide(jax.nn.one_hot(labels, 2), score[:, None])
