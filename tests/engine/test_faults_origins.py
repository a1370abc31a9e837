"""Checkpoints of other data, runs, precision, code or networks are refused by name."""

import json
import os
import pathlib
import subprocess
import sys
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from l2d_jax import metrics, models, optimizers
from l2d_jax.engine import checkpoints, chunks, orders, origins, sweeps, training
from l2d_jax.engine.placement import Placement
from l2d_jax.learners import classifier, surrogates
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


OTHER = "was made with another network, learner or function; choose another folder"
SWEEP = sweeps.grid([0, 1], {"learning_rate": (0.1, 0.01), "smoothing": (0.1,)})


def surrogate_settings(name, num_valid=20, eval_batch_size=1000, runs_per_device=1):
    """Of a sweep by a surrogate loss; one takes the other's parameters."""
    learner = surrogates.make_learner(
        models.linear(3), optimizers.make_adam(), surrogates.SURROGATES[name]
    )
    program = training.Program(
        learner,
        lambda key, hparams, dataset: dataset,
        lambda decision, batch, hparams: metrics.system_accuracy(
            decision, batch.labels, batch.expert_labels
        ),
        2,
        eval_batch_size=eval_batch_size,
    )
    return {
        "program": program,
        "sweep": SWEEP,
        "pool": POOL._replace(expert_labels=POOL.labels[:, None]),
        "root_seed": 0,
        "split": lambda seed: orders.split_pool(seed, N, num_valid / N),
        "batch_size": 8,
        "where": Placement("shard", runs_per_device),
        "epochs_per_dispatch": 1,
    }


def digest_of(name="one_vs_all", **changes):
    return sweeps._plan(**surrogate_settings(name, **changes))[0].digest()


@pytest.mark.long
def test_another_learner_of_the_same_shapes_is_refused(tmp_path):
    result, progress = tmp_path / "result", tmp_path / "progress"
    first, second = map(surrogate_settings, ("one_vs_all", "asymmetric_softmax"))
    expected = sweeps.run_sweep(**first, checkpoint_dir=result)
    with pytest.raises(chunks.Interrupted):
        sweeps.run_sweep(**first, checkpoint_dir=progress, should_stop=lambda: True)
    for folder in (result, progress):
        with pytest.raises(origins.ForeignResultsError, match=f"chunk_0000.* {OTHER}"):
            sweeps.run_sweep(**second, checkpoint_dir=folder)
        # A learner made anew, that predicts fewer at a time.
        again = surrogate_settings("one_vs_all", eval_batch_size=7)
        found = sweeps.run_sweep(**again, checkpoint_dir=folder)
        jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_another_function_of_the_same_shapes_is_refused(tmp_path):
    def compute(function):
        runs = np.arange(4, dtype=np.float32)
        where = Placement("vmap", 2)
        return chunks.map_runs(
            function, runs, np.float32(2), where=where, checkpoint_dir=tmp_path
        )

    expected = compute(lambda run, shared: run * shared)
    others = {
        "operation": lambda run, shared: run + shared,
        "order": lambda run, shared: shared * run,
        "number": lambda run, shared: run * (shared + 1e-6),
        "array": lambda run, shared: run * jnp.sum(shared * np.ones(2, np.float32)),
        "inside": lambda run, shared: jax.jit(lambda x: x - shared)(run),
    }
    for function in others.values():
        with pytest.raises(origins.ForeignResultsError, match=f"part_0000 {OTHER}"):
            compute(function)
    np.testing.assert_array_equal(compute(lambda r, s: r * s), expected)


def test_a_program_is_all_that_stands_in_it():
    """Constants, what a branch or a loop does, and how often."""
    weights = np.arange(3, dtype=np.float32)

    def function(constant=weights, steps=2, scale=1.0):
        def step(carry, _):
            grown = jax.lax.cond(carry[0] > 0, lambda x: scale * x, lambda x: x, carry)
            return jax.nn.relu(grown), jnp.sum(grown)

        return lambda x: jax.lax.scan(step, x + constant, None, steps)

    shape = jax.ShapeDtypeStruct((3,), np.float32)
    of = [
        origins.program(made, given)
        for made, given in (
            (function(), shape),
            (function(weights[::-1]), shape),
            (function(steps=3), shape),
            (function(scale=2.0), shape),
            (function(), jax.ShapeDtypeStruct((3,), np.float16)),
        )
    ]
    assert len({tuple(found.items()) for found in of}) == len(of)
    assert origins.program(function(weights.copy()), shape) == of[0]


def test_a_constant_of_a_program_is_all_of_it():
    """Of 2,000 numbers, of which a text shows the ends, the last bit of one."""
    many = np.ones(2000, np.float32)
    nearly = many.copy()
    nearly[1000] = np.nextafter(nearly[1000], np.float32(2))
    shape = jax.ShapeDtypeStruct((2000,), np.float32)
    same = origins.program(lambda x: x + many, shape)
    assert origins.program(lambda x: x + many.copy(), shape) == same
    assert origins.program(lambda x: x + nearly, shape) != same
    last = float(nearly[1000])
    one, other = (
        origins.program(lambda x, c=c: x * c, shape) for c in (1 + 3 * (last - 1), last)
    )
    assert one != other


def test_who_has_traced_a_program_says_who_it_is_compared_with():
    """Another version of JAX may trace the same function as another program."""
    mine, another, other = {"jax 1": "a"}, {"jax 1": "b"}, {"jax 2": "b"}
    origins.refuse_other_program("x", mine, mine)
    origins.refuse_other_program("x", other, mine)
    origins.refuse_other_program("x", {}, mine)
    with pytest.raises(origins.ForeignResultsError, match=f"x {OTHER}"):
        origins.refuse_other_program("x", another, mine)


@pytest.mark.long
def test_a_program_is_the_same_in_every_process_and_on_any_devices():
    expected = digest_of()
    jax.clear_caches()
    for changes in ({}, {"runs_per_device": 2}, {"eval_batch_size": 7}):
        assert digest_of(**changes) == expected
    assert digest_of(num_valid=10) != expected
    assert digest_of("asymmetric_softmax") != expected
    for num_devices in (1, 2):
        found = subprocess.run(
            [sys.executable, "-c", "import test_faults_origins as t; t.say()"],
            cwd=pathlib.Path(__file__).parent,
            env={
                **os.environ,
                "XLA_FLAGS": f"--xla_force_host_platform_device_count={num_devices}",
                "PYTHONHASHSEED": str(num_devices),
            },
            capture_output=True,
            text=True,
            check=True,
        )
        assert json.loads(found.stdout) == {"devices": num_devices, **expected}


def say():
    print(json.dumps({"devices": jax.device_count(), **digest_of()}))


@pytest.mark.long
def test_a_sweep_goes_on_in_blocks_of_another_width(tmp_path):
    """Its runs start again, as ever; they are not taken for another program's."""
    sweeps.run_sweep(**surrogate_settings("one_vs_all"), checkpoint_dir=tmp_path)
    said = []
    sweeps.run_sweep(
        **surrogate_settings("one_vs_all", runs_per_device=2),
        checkpoint_dir=tmp_path,
        report=lambda progress: said.append(progress.message),
    )
    assert any("checkpoint for other devices" in message for message in said)


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
