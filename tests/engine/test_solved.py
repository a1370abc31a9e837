"""Runs solved on the host: each by its own examples, and none twice after a stop."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from l2d_jax.engine import checkpoints, orders, origins, solved, training
from l2d_jax.engine.sweeps import Interrupted
from l2d_jax.types import Dataset, Learner, Sweep, TrainState, Variables

NUM_RUNS, NUM_POOL = 3, 12
SEEDS = np.array([0, 0, 4], np.int32)
SHIFTS = np.array([0.0, 2.0, 2.0], np.float32)


@pytest.fixture
def pool():
    generator = np.random.default_rng(0)
    inputs = generator.normal(size=(NUM_POOL, 2)).astype(np.float32)
    return Dataset(inputs, np.arange(NUM_POOL) % 2)


def split(seed):
    return orders.split_pool(seed, NUM_POOL, 0.25)


def make_program(gaps=(0.0,) * NUM_RUNS, fails=False):
    """The mean of the inputs, shifted: what one update of all examples finds.

    NumPy refuses what is traced, so a program that traced the update would fail.
    """
    solved_runs = []

    def init(key, hparams, batch):
        params = {"mean": jnp.zeros(batch.inputs.shape[1])}
        return TrainState(Variables(params, {}), (), key, jnp.zeros((), jnp.int32))

    def update(state, hparams, batch):
        mean = np.asarray(batch.inputs).mean(axis=0) + hparams["shift"]
        if fails:
            mean = mean * np.nan
        gap = gaps[len(solved_runs)]
        solved_runs.append(np.asarray(batch.labels))
        state = state._replace(variables=Variables({"mean": jnp.asarray(mean)}, {}))
        return state, {"loss": jnp.float32(0.25), "gap": jnp.float32(gap)}

    def score(prediction, batch, hparams):
        return -jnp.mean(jnp.abs(prediction)) + 0 * hparams["shift"]

    learner = Learner(init, update, lambda v, hparams, x: x - v.params["mean"])
    program = training.Program(learner, lambda key, hparams, data: data, score, 1)
    return program, solved_runs


def solve(program, pool, **kwargs):
    options = {"sweep": Sweep(SEEDS, {"shift": SHIFTS}), "root_seed": 0, "split": split}
    return solved.solve_sweep(program, pool=pool, **(options | kwargs))


def test_every_run_is_solved_on_its_own_examples(pool):
    program, updates = make_program()
    progress = []
    result = solve(program, pool, report=progress.append)
    for run, (seed, shift) in enumerate(zip(SEEDS, SHIFTS, strict=True)):
        fold = split(int(seed))
        mean = pool.inputs[fold.train].mean(axis=0) + shift
        np.testing.assert_allclose(
            result.variables.params["mean"][run], mean, rtol=1e-6, atol=1e-6
        )
        score = -np.abs(pool.inputs[fold.valid] - mean).mean()
        np.testing.assert_allclose(result.score[run], score, rtol=1e-6, atol=1e-6)
        np.testing.assert_array_equal(updates[run], pool.labels[fold.train])
    assert (result.epochs == 1).all() and (result.best_epoch == 1).all()
    assert not result.diverged.any()
    assert [(step.done, step.total) for step in progress] == [(1, 3), (2, 3), (3, 3)]
    assert not any(step.message for step in progress)


def test_a_score_that_is_not_finite_has_diverged(pool):
    result = solve(make_program(fails=True)[0], pool)
    assert result.diverged.all()


def test_a_gap_is_said_again_after_a_restart(pool, tmp_path):
    for _ in range(2):
        progress = []
        solve(
            make_program(gaps=(0.0, 0.125, 0.0))[0],
            pool,
            checkpoint_dir=tmp_path,
            report=progress.append,
        )
        assert [bool(step.message) for step in progress] == [False, True, False]
        said = progress[1].message
        assert "seed 0: out of time" in said
        assert "loss of 0.2500" in said and "0.1250 lower" in said


def test_a_stop_keeps_the_runs_that_are_done(pool, tmp_path):
    expected = solve(make_program()[0], pool)
    program, updates = make_program()
    with pytest.raises(Interrupted):
        asked = iter((False, True))
        solve(program, pool, checkpoint_dir=tmp_path, should_stop=lambda: next(asked))
    assert len(updates) == 2
    program, updates = make_program()
    result = solve(program, pool, checkpoint_dir=tmp_path)
    assert len(updates) == 1
    for found, wanted in zip(
        jax.tree.leaves(result), jax.tree.leaves(expected), strict=True
    ):
        np.testing.assert_array_equal(found, wanted)


def test_a_damaged_checkpoint_is_solved_again(pool, tmp_path):
    solve(make_program()[0], pool, checkpoint_dir=tmp_path)
    file = next(path for path in (tmp_path / "run_0001").rglob("*") if path.is_file())
    file.write_bytes(b"nonsense")
    program, updates = make_program()
    progress = []
    solve(program, pool, checkpoint_dir=tmp_path, report=progress.append)
    assert len(updates) == 1
    assert "damaged checkpoint, solved again" in progress[1].message
    checkpoints.read_info(tmp_path / "run_0001")


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"sweep": Sweep(SEEDS, {"shift": SHIFTS + 1})}, "other runs"),
        ({"sweep": Sweep(np.array([7]), {"shift": SHIFTS[:1]})}, "other data"),
        ({"root_seed": 1}, "other runs"),
        ({"split": lambda s: orders.split_pool(s, NUM_POOL, 0.5)}, "other data"),
        ({"origin": {"config": "b"}}, "another config"),
    ],
)
def test_a_checkpoint_of_another_origin_is_refused(pool, tmp_path, changes, what):
    given = {"checkpoint_dir": tmp_path, "origin": {"config": "a"}}
    solve(make_program()[0], pool, **given)
    program, updates = make_program()
    with pytest.raises(origins.ForeignResultsError, match=f"was made with {what}"):
        solve(program, pool, **given | changes)
    assert not updates
    solve(program, pool, **given)
    assert not updates


def test_a_folder_and_columns_may_be_of_python(pool, tmp_path):
    """A folder as text, and examples and folds as lists."""
    expected = solve(make_program()[0], pool)
    lists = Dataset(pool.inputs.tolist(), pool.labels.tolist())
    found = solve(
        make_program()[0],
        lists,
        split=lambda seed: [part.tolist() for part in split(seed)],
        checkpoint_dir=str(tmp_path),
    )
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    assert checkpoints.exists(tmp_path / "run_0000")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"split": lambda s: orders.split_pool(s, 99, 0.3)}, "split: .* has 12 rows"),
        ({"sweep": Sweep(SEEDS[:0], {"shift": SHIFTS[:0]})}, "give at least one run"),
        ({"sweep": Sweep(SEEDS, {"shift": SHIFTS[:2]})}, "one value for each of the 3"),
        ({"expert_correct": np.ones((6, 1))}, "expert_correct has 6 rows and pool.lab"),
        ({"labels": np.arange(NUM_POOL) - 1}, "labels must be >= 0, in 32 bits, got "),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_solved(pool, changes, message):
    columns = {name: changes[name] for name in changes if name in Dataset._fields}
    options = {name: changes[name] for name in changes if name not in columns}
    program, updates = make_program()
    with pytest.raises(ValueError, match=message):
        solve(program, pool._replace(**columns), **options)
    assert not updates
