"""Tasks in clusters that nobody knows the truth of: the runs of the synthetic study.

References:
  Keswani, Celis, Kenthapadi and Lease, "Designing Closed-Loop Models for Task
  Allocation", 2023.
"""

import functools
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from experiments.runtime.errors import ConfigError
from experiments.streams import methods
from experiments.streams import tables as stream_tables
from experiments.streams.methods import METHODS, Sizes
from experiments.streams.studies import Kind, Study
from l2d_jax.crowds import allocation
from l2d_jax.engine import memory, training
from l2d_jax.simulate import clusters
from l2d_jax.types import PyTree

NUM_CLUSTERS = 3
_SIMULATION = 2**31 - 1


def check(where: str, config: ml_collections.ConfigDict) -> None:
    """Check what the fields of a scenario say together; ``where`` leads to it.

    Raises:
      ConfigError: a value cannot be used; the message names the field and the remedy.
    """
    if config.costs and len(config.costs) != config.num_annotators:
        raise ConfigError(
            f"{where}.costs must hold one number for each of the"
            f" {config.num_annotators} annotators, or none, got {len(config.costs)}"
        )


def list_runs(config: ml_collections.ConfigDict, kind: str) -> list[dict]:
    """Runs of a scenario by methods of one kind: its settings and hyperparameters.

    A method that reads no prior runs once a seed, with strength and share NaN.
    """
    runs = []
    for method in config.methods:
        if METHODS[method].kind != kind:
            continue
        numbers = methods.hparams_of(method, config)
        for strength, misplaced in _priors(config, METHODS[method].prior):
            for seed in range(config.num_seeds):
                setting = {"method": method, "seed": seed, "strength": strength}
                runs.append({**setting, "misplaced": misplaced, "hparams": numbers})
    return runs


def _priors(
    config: ml_collections.ConfigDict, reads: bool
) -> Iterator[tuple[float, float]]:
    if not reads:
        yield float("nan"), float("nan")
        return
    for misplaced in config.misplaced:
        for strength in config.strengths:
            yield strength, misplaced


def make_run(
    config: ml_collections.ConfigDict, kind: str
) -> Callable[[PyTree, PyTree], PyTree]:
    """A whole stream as a function of ``(run, shared)`` for `chunks.map_runs`."""
    num_annotators = config.num_annotators
    sizes = Sizes(num_annotators, NUM_CLUSTERS, NUM_CLUSTERS)
    stream = methods.make_stream(kind, config, sizes)
    rbf = config.model.body == "rbf"
    memory.require(centers=2 * 4 * config.model.rbf_per_axis**2)
    axis = np.linspace(-2.0, 2.0, config.model.rbf_per_axis, dtype=np.float32)
    centers = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    num_test = round(config.test_fraction * NUM_CLUSTERS * config.tasks_per_cluster)

    def run(run: PyTree, shared: PyTree) -> PyTree:
        key = training.run_key(jax.random.key(shared["seed"]), run["seed"])
        drawn = jax.tree.map(lambda leaf: leaf[run["seed"]], shared["drawn"])
        thought = clusters.misplace(
            drawn.chance, drawn.knows, NUM_CLUSTERS, run["misplaced"]
        )
        annotators = clusters.make_annotators(thought, NUM_CLUSTERS, run["strength"])
        tasks = drawn.tasks
        if config.costs:
            costs = jnp.asarray(config.costs, jnp.float32)
            everyones = jnp.broadcast_to(costs, tasks.answers.shape)
            tasks = tasks._replace(costs=everyones)
        if rbf:
            widths = (0, None, None)
            features = jax.vmap(allocation.rbf_features, widths)(
                tasks.features, centers, config.model.rbf_width
            )
            tasks = tasks._replace(features=features)
        # The tasks are in random order.
        train = jax.tree.map(lambda leaf: leaf[num_test:], tasks)
        test = jax.tree.map(lambda leaf: leaf[:num_test], tasks)
        return stream(key, run["hparams"], annotators, train, test)

    return run


def simulate(config: ml_collections.ConfigDict, seed: int) -> clusters.Simulated:
    """Tasks and answers of every seed, ``[S, ...]``, the same for all methods.

    Drawn once, and not in the program of each kind of method, which would compile it
    anew.
    """

    def draw(number: jax.Array) -> clusters.Simulated:
        key = training.run_key(jax.random.key(seed), number)
        # Apart from the keys of streams.
        return clusters.simulate(
            jax.random.fold_in(key, _SIMULATION),
            NUM_CLUSTERS,
            config.tasks_per_cluster,
            config.num_annotators,
            config.accuracy,
            config.other_accuracy,
        )

    one = jax.eval_shape(draw, jnp.zeros((), int))
    memory.require(tasks=config.num_seeds * memory.size_of(one))
    return jax.jit(jax.vmap(draw))(jnp.arange(config.num_seeds))


def make_shared(config: ml_collections.ConfigDict, seed: int) -> dict[str, PyTree]:
    """What all runs of a scenario share."""
    return {"seed": np.int32(seed), "drawn": simulate(config, seed)}


def plan(name: str, config: ml_collections.ConfigDict, seed: int) -> Study:
    """All methods of a scenario; a kind's tables are `stream_tables.tabulate`'s."""
    kinds = sorted({METHODS[method].kind for method in config.methods})
    return Study(
        [_plan_kind(name, config, kind) for kind in kinds],
        functools.partial(make_shared, config, seed),
    )


def _plan_kind(name: str, config: ml_collections.ConfigDict, kind: str) -> Kind:
    listed = list_runs(config, kind)
    settings = {
        "strength": np.array([r["strength"] for r in listed], np.float32),
        "misplaced": np.array([r["misplaced"] for r in listed], np.float32),
    }
    # A prior that says nothing, where none is read.
    runs = {
        "seed": np.array([r["seed"] for r in listed], np.int32),
        "strength": np.nan_to_num(settings["strength"], nan=1.0 / NUM_CLUSTERS),
        "misplaced": np.nan_to_num(settings["misplaced"]),
        "hparams": {
            field: np.array([r["hparams"][field] for r in listed], np.float32)
            for field in listed[0]["hparams"]
        },
    }
    keys = ("method", "seed", "strength", "misplaced")
    shown = [{key: r[key] for key in keys} for r in listed]
    names = tuple(f"cluster_{number}" for number in range(NUM_CLUSTERS))

    def tabulate(measures: PyTree) -> stream_tables.Tables:
        return stream_tables.tabulate(name, shown, measures, names, names)

    return Kind(
        f"{name}, {kind}", f"{name}_{kind}", make_run(config, kind), runs, tabulate
    )
