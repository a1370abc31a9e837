"""The engine on data whose best rule is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from l2d_jax import metrics, optimizers
from l2d_jax.engine import checkpoints, orders, placement, sweeps, training
from l2d_jax.engine.placement import KINDS, Placement
from l2d_jax.learners import deferral
from l2d_jax.simulate import experts
from l2d_jax.types import Dataset, ModelFns

pytestmark = pytest.mark.usefixtures("cheap_compiles")

NUM_CLASSES = 3


def linear_model(num_outputs):
    def init(key, inputs):
        params = {
            "w": 0.1 * jax.random.normal(key, (inputs.shape[-1], num_outputs)),
            "b": jnp.zeros(num_outputs),
        }
        return params, {}

    def apply(params, model_state, inputs, train):
        del train
        return inputs @ params["w"] + params["b"], model_state

    return ModelFns(init, apply)


def annotate(key, hparams, dataset):
    person = experts.specialist(hparams["num_perfect"], NUM_CLASSES)
    labels = experts.sample_expert_labels(key, person, dataset.labels)
    return dataset._replace(expert_labels=labels[:, None])


def score(decision, batch, hparams):
    del hparams
    return metrics.system_accuracy(decision, batch.labels, batch.expert_labels)


def make_program(num_epochs=6, patience=None):
    learner = deferral.make_learner(
        linear_model(NUM_CLASSES + 1), optimizers.make_adam()
    )
    return training.Program(
        learner, annotate, score, num_epochs, patience, eval_batch_size=13
    )


@pytest.fixture(scope="module")
def pool():
    """Class 0 is told from the others by the inputs; 1 and 2 are a coin's toss."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, NUM_CLASSES, 150).astype(np.int32)
    inputs = generator.normal(size=(150, 2)).astype(np.float32)
    inputs[:, 0] += 6.0 * (labels == 0)
    return Dataset(inputs, labels)


def make_sweep(num_seeds=2, learning_rates=(0.05,)):
    return sweeps.grid(
        range(num_seeds),
        {
            "num_perfect": (0, 3),
            "alpha": (0.5, 1.0),
            "learning_rate": learning_rates,
        },
    )


def split(seed):
    return orders.split_pool(seed, 150, 0.2)


def run(program, sweep, pool, kind="shard", runs_per_device=4, **kwargs):
    options = {"root_seed": 0, "split": split, "batch_size": 20}
    options |= {"epochs_per_dispatch": 2}
    return sweeps.run_sweep(
        program,
        sweep,
        pool,
        where=Placement(kind, runs_per_device),
        **(options | kwargs),
    )


def assert_same(result, other, exact):
    for a, b in zip(jax.tree.leaves(result), jax.tree.leaves(other), strict=True):
        if exact:
            np.testing.assert_array_equal(a, b)
        else:
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_grid_is_flat_and_seed_major():
    sweep = sweeps.grid((3, 5), {"a": (1.0, 2.0), "b": (0.1,)})
    np.testing.assert_array_equal(sweep.seeds, [3, 3, 5, 5])
    np.testing.assert_array_equal(sweep.hparams["a"], [1, 2, 1, 2])
    np.testing.assert_allclose(sweep.hparams["b"], [0.1] * 4, rtol=1e-6)


@pytest.mark.parametrize(
    ("seeds", "hparams", "message"),
    [
        ((), {}, "seeds is empty"),
        ((1, 1), {}, "distinct"),
        ((0,), {"alpha": ()}, "alpha has no value"),
    ],
)
def test_grid_refuses(seeds, hparams, message):
    with pytest.raises(ValueError, match=message):
        sweeps.grid(seeds, hparams)


@pytest.mark.long
@pytest.mark.parametrize("learning_rates", [(0.05,), (0.05, 0.1)])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_lowered_is_what_is_called(pool, kind, learning_rates, monkeypatch):
    """Of 4 or 8 runs a seed: each with an order of its own, or with one for all."""
    programs = []
    place = placement.place

    def spied(*args, **kwargs):
        placed = place(*args, **kwargs)

        def run(*arguments):
            programs.append(placed.run.lower(*arguments).as_text())
            return placed.run(*arguments)

        return placed._replace(run=run)

    program, sweep = make_program(2), make_sweep(2, learning_rates)
    with monkeypatch.context() as patch:
        patch.setattr(placement, "place", spied)
        run(program, sweep, pool, kind)
    lowered = sweeps.lower_dispatch(
        program,
        sweep,
        pool,
        split=split,
        batch_size=20,
        where=Placement(kind, 4),
        epochs_per_dispatch=2,
    )
    assert "stablehlo.while" in lowered.as_text()
    # The first starts the runs.
    assert set(programs[1:]) >= {lowered.as_text()}
    assert len(set(programs)) == 2


@pytest.mark.parametrize("num_devices", [1, 2, 3])
@pytest.mark.parametrize(("num_seeds", "per_seed"), [(1, 1), (2, 9), (5, 3), (1, 300)])
def test_chunks_hold_every_run_once(num_devices, num_seeds, per_seed):
    seeds = np.repeat(np.arange(num_seeds), per_seed)
    chunks, share = sweeps.plan_chunks(seeds, num_devices, 128)
    members = np.concatenate([chunk.ravel() for chunk in chunks])
    np.testing.assert_array_equal(np.sort(members[members >= 0]), np.arange(len(seeds)))
    for chunk in chunks:
        assert chunk.shape[0] == num_devices
        assert chunk.shape[1] <= 128
        if share:
            for block in chunk:
                assert len(set(seeds[block[block >= 0]])) <= 1


def test_best_rule_is_found(pool):
    """A perfect expert gets everything; a guesser only what the inputs cannot tell."""
    result = run(make_program(num_epochs=40), make_sweep(1), pool)
    useless, perfect = result.score[:2], result.score[2:]
    assert np.all(perfect > 0.98)
    # One class in three is known and the others are a coin's toss: 2/3 at best.
    assert np.all(useless > 0.5)
    assert not result.diverged.any()


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
def test_a_run_alone_is_the_run_in_the_sweep(pool, kind):
    program, sweep = make_program(), make_sweep()
    whole = run(program, sweep, pool, kind)
    alone = run(program, sweeps.select(sweep, np.array([5])), pool, "vmap", 1)
    row = jax.tree.map(lambda leaf: leaf[5:6], whole)
    assert_same(row, alone, exact=False)


@pytest.mark.long
def test_the_same_seed_twice_is_identical(pool):
    program, sweep = make_program(), make_sweep()
    assert_same(run(program, sweep, pool), run(program, sweep, pool), exact=True)


def test_sharing_the_order_changes_nothing(pool, monkeypatch):
    program, sweep = make_program(), make_sweep(2, (0.05, 0.02))
    assert sweeps.plan_chunks(sweep.seeds, 1, 4)[1]
    shared = run(program, sweep, pool)
    monkeypatch.setattr(sweeps, "_MIN_RUNS_SHARING_ORDER", 100)
    assert_same(shared, run(program, sweep, pool), exact=False)


@pytest.mark.long
def test_a_diverged_run_touches_no_neighbour(pool):
    sound = make_sweep(1, (0.05,))
    # Adam moves by the learning rate, so this one overflows at once.
    mixed = make_sweep(1, (0.05, 1e38))
    result = run(make_program(), mixed, pool)
    alone = run(make_program(), sound, pool)
    bad = mixed.hparams["learning_rate"] > 1
    np.testing.assert_array_equal(result.diverged, bad)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(result.variables))
    assert_same(jax.tree.map(lambda leaf: leaf[~bad], result), alone, exact=False)


def test_early_stopping_keeps_the_best_and_drops_the_stopped(pool):
    sweep = make_sweep(2, (0.05, 1e-6))
    result = run(make_program(40, patience=3), sweep, pool)
    np.testing.assert_array_equal(result.epochs, np.minimum(result.best_epoch + 3, 40))
    full = run(make_program(40), sweep, pool)
    assert np.all(result.epochs <= full.epochs)
    assert len(set(result.epochs)) > 1
    assert np.all(result.score <= full.score + 1e-6)


class Stopper:
    def __init__(self, after):
        self.after = after

    def __call__(self):
        self.after -= 1
        return self.after < 0


@pytest.mark.long
@pytest.mark.parametrize("patience", [None, 3])
def test_stopped_at_any_dispatch_and_started_again_ends_the_same(
    pool, tmp_path, patience
):
    program, sweep = make_program(8, patience), make_sweep(2, (0.05, 1e-6))
    whole = run(program, sweep, pool)
    # More dispatches than there are, on one device too.
    for stop_after in (0, 1, 2, 99):
        folder = tmp_path / str(stop_after)
        stopped = False
        try:
            run(
                program,
                sweep,
                pool,
                checkpoint_dir=folder,
                should_stop=Stopper(stop_after),
            )
        except sweeps.Interrupted:
            stopped = True
        again = run(program, sweep, pool, checkpoint_dir=folder)
        assert_same(again, whole, exact=True)
    assert not stopped  # The last was never asked to stop.


@pytest.mark.long
def test_damaged_checkpoints_are_said_and_done_again(pool, tmp_path):
    program, sweep = make_program(8), make_sweep()
    whole = run(program, sweep, pool, checkpoint_dir=tmp_path)
    data_files = [p for p in tmp_path.rglob("d/*") if p.is_file()]
    for path in data_files:
        path.write_bytes(path.read_bytes()[:-7])
    messages = []
    again = run(
        program,
        sweep,
        pool,
        checkpoint_dir=tmp_path,
        report=lambda progress: messages.append(progress.message),
    )
    assert_same(again, whole, exact=True)
    said = [message for message in messages if message]
    assert said and all("start again" in m and "chunk_000" in m for m in said)


def test_a_finished_sweep_is_not_trained_again(pool, tmp_path):
    program, sweep = make_program(4), make_sweep(1)
    run(program, sweep, pool, checkpoint_dir=tmp_path)
    assert checkpoints.exists(tmp_path / "chunk_0000")
    calls = []
    run(program, sweep, pool, checkpoint_dir=tmp_path, report=calls.append)
    assert [call.done for call in calls] == [calls[0].total]


def test_a_folder_may_be_text(pool, tmp_path):
    run(make_program(1), make_sweep(1), pool, checkpoint_dir=str(tmp_path))
    assert checkpoints.exists(tmp_path / "chunk_0000")
    with pytest.raises(
        TypeError, match=r"^checkpoint_dir must be a path, or None, got"
    ):
        run(make_program(1), make_sweep(1), pool, checkpoint_dir=3)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("runs_per_device", 0),
        ("runs_per_device", -1),
        ("epochs_per_dispatch", 0),
        ("batch_size", 0),
        ("batch_size", -3),
    ],
)
def test_a_number_of_things_is_at_least_1(pool, name, value):
    with pytest.raises(ValueError, match=f"^{name} must be a whole .* got {value}$"):
        run(make_program(), make_sweep(), pool, **{name: value})


@pytest.mark.parametrize("name", ["num_epochs", "patience", "eval_batch_size"])
def test_a_program_of_no_epochs_or_examples(pool, name):
    program = make_program()._replace(**{name: 0})
    with pytest.raises(
        ValueError, match=rf"^program\.{name} must be a whole .* got 0$"
    ):
        run(program, make_sweep(), pool)


@pytest.mark.parametrize("call", [run, sweeps.check_start])
def test_a_placement_without_devices(pool, call):
    where = Placement("shard", 2, ())
    with pytest.raises(ValueError, match=r"^devices is empty; give at least one"):
        if call is run:
            sweeps.run_sweep(
                make_program(),
                make_sweep(),
                pool,
                root_seed=0,
                split=split,
                batch_size=20,
                where=where,
            )
        else:
            call(make_program(), make_sweep(), pool, where)


def test_batch_larger_than_the_data(pool):
    with pytest.raises(ValueError, match="batch_size 200 is larger than the 120"):
        run(make_program(), make_sweep(), pool, batch_size=200)


@pytest.mark.parametrize(
    ("name", "rows"),
    [("inputs", 149), ("groups", 40), ("costs", 151), ("expert_correct", 1)],
)
def test_a_column_of_another_length_than_the_labels(pool, name, rows):
    """A gather would fill in its last row, or a NaN, and nobody would know."""
    column = np.zeros((rows, 2), np.float32)
    message = rf"^pool\.{name} has {rows} rows and pool\.labels 150; give every [^\n]*$"
    with pytest.raises(ValueError, match=message):
        run(make_program(), make_sweep(), pool._replace(**{name: column}))


@pytest.mark.parametrize("part", orders.Fold._fields)
@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([3, 150], "has row 150, and the pool has 150 rows"),
        ([-1, 3], "has row -1, and the pool has 150 rows"),
        ([], "has no example in"),
    ],
)
def test_a_fold_of_rows_that_are_not_there(pool, part, rows, message):
    def wrong(seed):
        if seed == 0:
            return split(seed)
        return split(seed)._replace(**{part: np.array(rows, np.int32)})

    with pytest.raises(ValueError, match=r"^split: [^\n]*$") as error:
        run(make_program(), make_sweep(), pool, split=wrong, batch_size=1)
    said = str(error.value)
    assert message in said and part in said and "seed 1 " in said


def test_each_seed_trains_and_validates_on_its_own_fold(pool):
    """What the others hold is not looked at: there it is not a number."""
    rows = np.arange(150, dtype=np.int32)

    def halves(seed):
        mine = rows[rows % 2 == seed]
        return orders.Fold(train=mine[15:], valid=mine[:15])

    program, sweep = make_program(4), make_sweep(2)
    whole = run(program, sweep, pool, split=halves)
    odd = (rows % 2 == 1)[:, None]
    half = pool._replace(inputs=np.where(odd, np.float32(np.nan), pool.inputs))
    result = run(program, sweep, half, split=halves)
    first = sweep.seeds == 0
    np.testing.assert_array_equal(result.diverged, ~first)
    assert_same(*(jax.tree.map(lambda x: x[first], r) for r in (result, whole)), True)


def test_experts_are_paired_across_hyperparameters(pool):
    sweep = make_sweep()

    @jax.jit
    def labels(seeds, hparams):
        def of_run(seed, hparams):
            key = training.run_key(jax.random.key(0), seed)
            return [
                of_part(annotate, key, hparams, pool).expert_labels[:, 0]
                for of_part in (training.annotate_pool, training.annotate_test)
            ]

        return jax.vmap(of_run)(seeds, hparams)

    train, test = map(np.asarray, labels(sweep.seeds, sweep.hparams))
    np.testing.assert_array_equal(train[0], train[1])
    np.testing.assert_array_equal(train[2], pool.labels)
    assert (train[0] != train[4]).any()
    assert (train[0] != test[0]).any()


@pytest.mark.long
def test_predictions_are_the_same_in_parts(pool):
    """Of 40 examples 13 at a time, whose last part is filled up."""
    program = make_program()
    hparams = {"alpha": 0.5, "num_perfect": 0.0, "learning_rate": 0.05}
    state = program.learner.init(
        jax.random.key(0), hparams, annotate(jax.random.key(1), hparams, pool)
    )
    index = np.arange(150)[-40:]
    in_parts = jax.jit(training.predict, static_argnums=0)(
        program, state.variables, hparams, pool.inputs, index
    )
    whole = program.learner.predict(state.variables, hparams, pool.inputs[index])
    assert_same(in_parts, whole, exact=False)
