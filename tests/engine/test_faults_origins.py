"""Checkpoints of other data, runs, precision, code or networks are refused by name."""

import pathlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from l2d_jax import models, optimizers
from l2d_jax.engine import checkpoints, chunks, orders, origins, sweeps, training
from l2d_jax.engine.placement import Placement
from l2d_jax.learners import classifier
from l2d_jax.types import Dataset

pytestmark = pytest.mark.usefixtures("cheap_compiles")

N = 40
X = np.random.default_rng(0).normal(size=(N, 3)).astype(np.float32)
POOL = Dataset(X, (X[:, 0] > 0).astype(np.int32))


def train(folder, pool=POOL, hidden=(), num_epochs=2, seed=0, stop=False, **options):
    program = training.Program(
        classifier.make_learner(models.mlp(hidden, 2), optimizers.make_adam()),
        lambda key, hparams, dataset: dataset,
        classifier.loss_score(),
        num_epochs,
    )
    settings = {
        "sweep": sweeps.grid([0], {"learning_rate": (0.1,)}),
        "split": lambda seed: orders.split_pool(seed, N, 0.5),
        "batch_size": 8,
        "root_seed": seed,
        "where": Placement("vmap", 1),
    }
    return sweeps.run_sweep(
        program,
        pool=pool,
        checkpoint_dir=folder,
        should_stop=lambda: stop,
        **settings | options,
    )


CHANGES = {
    "labels": ({"pool": POOL._replace(labels=1 - POOL.labels)}, "other data"),
    "inputs": ({"pool": POOL._replace(inputs=X + 1)}, "other data"),
    "groups": ({"pool": POOL._replace(groups=POOL.labels)}, "other data"),
    "split": ({"split": lambda s: orders.split_pool(s + 1, N, 0.5)}, "other data"),
    "learning rate": (
        {"sweep": sweeps.grid([0], {"learning_rate": (0.01,)})},
        "other runs",
    ),
    "run's seed": ({"sweep": sweeps.grid([1], {"learning_rate": (0.1,)})}, "other"),
    "seed": ({"seed": 1}, "other runs"),
    "epochs": ({"num_epochs": 3}, "other runs"),
    "batch": ({"batch_size": 4}, "other runs"),
    "network": ({"hidden": (5,)}, "another network"),
    "config": ({"origin": {"config": "b"}}, "another config"),
    "code": ({"origin": {"config": "a", "code": "b"}}, "other code"),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """With a result, and with the progress of a run that was stopped."""
    made = [tmp_path_factory.mktemp("result"), tmp_path_factory.mktemp("progress")]
    train(made[0], origin={"config": "a"})
    with pytest.raises(chunks.Interrupted):
        train(made[1], origin={"config": "a"}, stop=True)
    return made


@pytest.mark.parametrize("change", CHANGES)
def test_a_foreign_checkpoint_is_one_line(folders, change):
    changes, what = CHANGES[change]
    for folder in folders:
        before = sorted(folder.rglob("*"))
        with pytest.raises(
            origins.ForeignResultsError, match=rf"chunk_0000.* was made with {what}"
        ) as error:
            train(folder, **{"origin": {"config": "a"}} | changes)
        assert "\n" not in str(error.value)
        assert sorted(folder.rglob("*")) == before


def test_what_is_the_same_goes_on(folders):
    for folder in folders:
        found = train(folder, origin={"config": "a"})
        np.testing.assert_array_equal(found.epochs, [2])


@pytest.mark.parametrize(
    ("name", "value"),
    [("jax_default_prng_impl", "rbg"), ("jax_default_matmul_precision", "float32")],
)
def test_other_numbers_are_refused(folders, name, value):
    before = jax.config.values[name]
    jax.config.update(name, value)
    try:
        with pytest.raises(
            origins.ForeignResultsError, match="other precision or random numbers"
        ):
            train(folders[0], origin={"config": "a"})
    finally:
        jax.config.update(name, before)


def test_data_that_the_caller_names_is_not_looked_at(tmp_path):
    """Features that a network made differ by rounding on another machine."""
    expected = train(tmp_path, origin={"data": "these"})
    nearly = POOL._replace(inputs=np.nextafter(X, np.float32(9)))
    found = train(tmp_path, nearly, origin={"data": "these"})
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    with pytest.raises(origins.ForeignResultsError, match="other data"):
        train(tmp_path, origin={"data": "those"})


def test_a_checkpoint_that_does_not_say_is_refused(tmp_path):
    train(tmp_path)
    path = tmp_path / "chunk_0000"
    tree = checkpoints.restore(path, _like(path))
    checkpoints.save(path, tree, {"chunk": [[0]]})
    with pytest.raises(origins.ForeignResultsError, match="of what it was made is not"):
        train(tmp_path)


def _like(path):
    found = train(path.parent)
    fields = ("variables", "score", "best_epoch", "epochs", "diverged")
    return {name: getattr(found, name) for name in fields}


def test_parts_of_other_runs_or_data_are_refused(tmp_path):
    def compute(shared, factor=1.0, **options):
        return chunks.map_runs(
            lambda run, shared: run * shared,
            factor * np.arange(3, dtype=np.float32),
            np.float32(shared),
            where=Placement("vmap", 2),
            checkpoint_dir=tmp_path,
            **options,
        )

    np.testing.assert_array_equal(compute(2), [0, 2, 4])
    for changes, what in (
        ({"shared": 3}, "other data"),
        ({"shared": 2, "factor": 2}, "other runs"),
    ):
        with pytest.raises(
            origins.ForeignResultsError, match=rf"part_0000 was made with {what}"
        ):
            compute(**changes)
    np.testing.assert_array_equal(compute(2), [0, 2, 4])


class Pair(NamedTuple):
    a: object
    b: object


def test_a_digest_is_of_content_and_names():
    whole = Pair(np.arange(4), {"x": ("one", None, 2), "y": jax.random.key(0)})
    same = Pair(jnp.arange(4).astype(int), {"x": ("one", None, 2)})
    assert origins.digest(whole) == origins.digest(whole._replace(a=np.arange(8)[:4]))
    others = [
        same,
        whole._replace(a=np.arange(4).astype(np.int16)),
        whole._replace(a=np.arange(4)[::-1]),
        whole._replace(a=np.arange(4)[None]),
        whole._replace(b={**whole.b, "x": ("one", None, 3)}),
        whole._replace(b={**whole.b, "x": ("one", "None", 2)}),
        whole._replace(b={**whole.b, "y": jax.random.key(1)}),
        whole._replace(b={"z": whole.b["x"], "y": whole.b["y"]}),
        Pair(whole.b, whole.a),
        tuple(whole),
    ]
    digests = [origins.digest(tree) for tree in (whole, *others)]
    assert len(set(digests)) == len(digests)
    text = np.array(["a", "b"], object)
    assert origins.digest(text) != origins.digest(text[::-1])


def test_code_is_every_line_of_it(tmp_path):
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "a.py").write_text("x = 1\n")
    before = origins.code.__wrapped__(folder)
    assert before == origins.code.__wrapped__(folder)
    assert before != origins.code.__wrapped__()
    (folder / "a.py").write_text("x = 2\n")
    assert origins.code.__wrapped__(folder) != before
    (folder / "a.py").rename(folder / "b.py")
    assert origins.code.__wrapped__(folder) != before
    assert pathlib.Path(origins.__file__).is_relative_to(origins._LIBRARY)
