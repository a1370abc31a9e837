"""What a compiled program would fill in, wrap or round away is refused at the door."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from l2d_jax import models, optimizers
from l2d_jax.engine import orders, pools, sweeps, training
from l2d_jax.engine.placement import Placement
from l2d_jax.learners import (
    classifier,
    cost_sensitive,
    deferral,
    joint,
    mixture,
    surrogates,
)
from l2d_jax.types import Dataset, Sweep

pytestmark = pytest.mark.usefixtures("cheap_compiles")

N = 40
ADAM = optimizers.make_adam()
LEARNERS = {
    "deferral": lambda: deferral.make_learner(models.linear(3), ADAM),
    **{
        name: lambda row=row: surrogates.make_learner(
            models.linear(3 + row.extra_outputs), ADAM, row
        )
        for name, row in surrogates.SURROGATES.items()
    },
    "cost_sensitive": lambda: cost_sensitive.make_learner(models.linear(3), ADAM),
    "mixture": lambda: mixture.make_learner(models.linear(3), ADAM),
    "mixture, one logit": lambda: mixture.make_learner(models.linear(2), ADAM),
    "joint": lambda: joint.make_learner(models.linear(2), models.linear(2), ADAM),
    "classifier": lambda: classifier.make_learner(models.linear(2), ADAM),
}
HPARAMS = {
    **dict.fromkeys(("alpha", "price", "smoothing", "learning_rate"), (0.1,)),
    **dict.fromkeys(("cost", "dropout", "cost_weight"), (0.0,)),
    **dict.fromkeys(("step_exponent", "mix", "q", "expert_weight"), (0.5,)),
}
X = np.random.default_rng(0).normal(size=(N, 3)).astype(np.float32)
Y = (X[:, 0] > 0).astype(np.int32)
POOL = Dataset(X, Y, Y[:, None])


def split(seed):
    return orders.split_pool(seed, N, 0.5)


def run(pool, name="deferral", sweep=None, split=split):
    program = training.Program(
        LEARNERS[name](),
        lambda key, hparams, dataset: dataset,
        lambda outputs, batch, hparams: jnp.mean(batch.labels == 1),
        1,
    )
    return sweeps.run_sweep(
        program,
        sweep or sweeps.grid([0], HPARAMS),
        pool,
        root_seed=0,
        split=split,
        batch_size=8,
        where=Placement("vmap", 2),
    )


def with_entry(array, place, value):
    changed = np.array(array)
    changed[place] = value
    return changed


@pytest.mark.long
@pytest.mark.parametrize("name", LEARNERS)
def test_labels_are_those_of_the_method(name):
    assert not run(POOL, name).diverged.any()
    knows = name != "classifier"  # Its probabilities could be anybody's.
    known = r"0\.\.1" if knows else ">= 0, in 32 bits"
    with pytest.raises(ValueError, match=rf"labels must be {known}, got -1 in row 5"):
        run(POOL._replace(labels=with_entry(Y, 5, -1)), name)
    if knows:
        with pytest.raises(ValueError, match=r"pool.labels must be 0..1, got 2 in row"):
            run(POOL._replace(labels=Y + 1), name)
        answers = with_entry(Y[:, None], (7, 0), 2)
        with pytest.raises(ValueError, match=r"expert_labels must be .*got 2 in row 7"):
            run(POOL._replace(expert_labels=answers), name)
    else:
        assert run(POOL._replace(labels=Y + 1), name).diverged.all()


WRONG = {
    "labels": (Y + np.int64(2**32), "labels must be 0..1, got 429496729"),
    "expert_labels": (Y[:, None] - 2, "expert_labels must be .* -1 of who was not"),
    "groups": (Y - 1, "groups must be >= 0, in 32 bits, got -1"),
    "weights": (np.where(Y, 1, np.nan), "weights must be finite .* float32, got nan"),
    "expert_correct": (Y[:, None] + 0.5, r"expert_correct must be in \[0, 1\], or NaN"),
    "expert_probs": (np.full((N, 1, 2), np.nan), r"expert_probs must be in \[0, 1\]"),
    "class_probs": (
        np.tile(np.float32([0.4, 0.5]), (N, 1)),
        r"class_probs must .* sum to 1 .* a sum of 0.9 in row 0: pass logits through",
    ),
    "inputs": (with_entry(X.astype(float), (3, 1), 1e39), "feature 1 .* row 3 beyond"),
    "costs": (with_entry(np.zeros((N, 3)), (4, 2), -1e300), "feature 2 .* row 4 bey"),
}


@pytest.mark.parametrize("field", WRONG)
def test_each_column_has_its_range(field):
    column, message = WRONG[field]
    with pytest.raises(ValueError, match=rf"^pool\.[^\n]*{message}[^\n]*$"):
        run(POOL._replace(**{field: column}))


@pytest.mark.parametrize("field", ["labels", "expert_labels", "groups"])
def test_classes_are_integers(field):
    column = np.zeros((N, 1) if field == "expert_labels" else N, np.float32)
    with pytest.raises(TypeError, match=rf"pool.{field} must be of an integer dtype"):
        run(POOL._replace(**{field: column}))


SHAPES = {
    "labels": (Y[:, None], r"labels must have shape \[N\], .* got \(40, 1\)"),
    "weights": (np.ones((N, 1)), r"weights must have shape \[N\], .* got \(40, 1\)"),
    "groups": (np.int32(1), "groups must have a row for each example"),
}


@pytest.mark.parametrize("field", SHAPES)
def test_a_column_of_another_rank(field):
    column, message = SHAPES[field]
    with pytest.raises(ValueError, match=rf"^pool\.{message}$"):
        run(POOL._replace(**{field: column}))


def test_a_weight_is_finite_as_it_is_computed_with():
    """Of 64 bits it is, and a loss of infinity would be that of every parameter."""
    weights = with_entry(np.ones(N), 4, 1e39)
    message = r"^pool\.weights must be finite and >= 0 as float32, got 1e\+39 in row 4$"
    with pytest.raises(ValueError, match=message):
        run(POOL._replace(weights=weights))
    assert not run(POOL._replace(weights=np.ones(N))).diverged.any()


@pytest.mark.parametrize(
    "known",
    [
        {"class_probs": np.full((N, 2), 0.5)},
        {"expert_probs": np.full((N, 1, 2), 0.5)},
    ],
)
def test_labels_are_those_that_probabilities_are_of(known):
    """Of a method whose prediction is no whole system."""
    pool = POOL._replace(expert_labels=None, **known)
    assert not run(pool, "classifier").diverged.any()
    with pytest.raises(
        ValueError, match=r"pool\.labels must be 0\.\.1, got 7 in row 5"
    ):
        run(pool._replace(labels=with_entry(Y, 5, 7)), "classifier")


def test_columns_of_lists_and_of_pandas_are_arrays():
    pandas = pytest.importorskip("pandas")
    expected = run(POOL)
    lists = Dataset(*(column.tolist() for column in POOL[:3]))
    # An index that is no row's number.
    index = np.arange(N)[::-1]
    frames = Dataset(
        pandas.DataFrame(X, index), pandas.Series(Y, index), pandas.DataFrame(Y, index)
    )
    for pool in (lists, frames):
        jax.tree.map(np.testing.assert_array_equal, run(pool), expected)
    for inputs in (X.astype(str).tolist(), [[1.0], [1.0, 2.0]]):
        with pytest.raises(TypeError, match=r"^pool\.inputs must be an array of numbe"):
            run(POOL._replace(inputs=inputs))


def test_of_a_row_of_weight_0_nothing_is_looked_at():
    bad = Dataset(
        with_entry(X.astype(float), 3, 1e39),
        with_entry(Y, 3, -7),
        with_entry(Y[:, None], 3, 99),
        with_entry(Y, 3, -1),
        with_entry(np.ones(N), 3, 0.0),
    )
    pools.check(bad, 2)
    pools.check_lengths(bad)
    with pytest.raises(ValueError, match=r"labels must be 0..1, got -7 in row 3"):
        pools.check(bad._replace(weights=None), 2)


DOUBLES = {
    "time stamps": (1.7e9 + X[:, :1].astype(float), "varies by .* around 1.7e+09"),
    "nearly constant": (1 + 1e-9 * X[:, :1].astype(float), "varies by .* around 1, wh"),
    "too small": (1e-45 * X[:, :1].astype(float), "which float32 cannot hold"),
    "whole": (np.arange(N)[:, None] + 2**40, "must fit 32 bits, got 1099511627776 in"),
}


@pytest.mark.parametrize("kind", DOUBLES)
def test_features_of_64_bits_keep_their_differences(kind):
    inputs, message = DOUBLES[kind]
    with pytest.raises(ValueError, match=message.replace("+", r"\+")):
        run(POOL._replace(inputs=inputs))


def test_sound_features_of_64_bits_are_those_of_32():
    found, expected = run(POOL._replace(inputs=X.astype(float))), run(POOL)
    np.testing.assert_array_equal(found.score, expected.score)
    jax.tree.map(np.testing.assert_array_equal, found.variables, expected.variables)


def test_folds_that_train_together_are_of_one_shape():
    rows, two = np.arange(N, dtype=np.int32), sweeps.grid([0, 1], HPARAMS)

    def uneven(seed):
        return orders.Fold(rows[: 20 + seed], rows[20 + seed :])

    message = "^split: seed 1 has 19 examples to validate on and seed 0 20; seeds tha"
    with pytest.raises(ValueError, match=message):
        run(POOL, sweep=two, split=uneven)

    def more(seed):
        return orders.Fold(rows[: 20 + 8 * seed], rows[30:])

    message = "^split: seed 1 has 3 minibatches to train on and seed 0 2; seeds that"
    with pytest.raises(ValueError, match=message):
        run(POOL, sweep=two, split=more)
    # What fills no minibatch does not tell them apart.
    found = run(POOL, sweep=two, split=lambda s: orders.Fold(rows[: 20 + s], rows[30:]))
    assert not found.diverged.any()


def test_a_fold_of_lists_is_one_of_arrays():
    found = run(POOL, split=lambda s: orders.Fold(*(p.tolist() for p in split(s))))
    jax.tree.map(np.testing.assert_array_equal, found, run(POOL))


def test_a_mask_is_no_fold():
    """As numbers its entries would be rows 0 and 1, again and again."""
    mask = np.arange(N) < 20
    message = r"^split: train of seed 0 must be rows of an integer .*; give np\.flatnon"
    with pytest.raises(TypeError, match=message):
        run(POOL, split=lambda seed: orders.Fold(mask, ~mask))
    with pytest.raises(TypeError, match=r"^split: valid of seed 0 .* got float64"):
        run(POOL, split=lambda seed: orders.Fold(np.arange(20), np.arange(20.0, 40.0)))
    with pytest.raises(
        ValueError, match=r"^split: train of seed 0 must be a list of r"
    ):
        run(POOL, split=lambda seed: orders.Fold(mask[:, None], ~mask))


def test_no_row_is_both_trained_and_validated_on():
    rows = np.arange(N)
    message = "^split: seed 0 trains and validates on row 12; give parts that have no r"
    with pytest.raises(ValueError, match=message):
        run(POOL, split=lambda seed: orders.Fold(rows[:20], rows[12:]))
    # Twice in one part is a weight.
    twice = orders.Fold(np.repeat(rows[:10], 2), rows[20:])
    assert not run(POOL, split=lambda seed: twice).diverged.any()


# Seeds and hyperparameters.


@pytest.mark.parametrize("seed", [2**31, 2**32, -1, 0.5, 1.0, True, np.float32(3)])
def test_a_seed_keeps_its_value(seed):
    with pytest.raises(ValueError, match=r"seeds must be whole numbers in \[0, 2\^31"):
        sweeps.grid([seed], {})
    assert sweeps.grid([2**31 - 1, np.int64(3)], {}).seeds.tolist() == [2**31 - 1, 3]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((0.1, 0.1), "distinct"),
        ((0.1, 0.1 + 1e-10), "distinct values once they are float32"),
        ((1, 1.0), "distinct"),
        ((16777216, 16777217), "distinct"),
        ((1e-60,), "not round to 0 as float32, got 1e-60"),
        ((-1e-42,), "not round to 0"),
        ((1e39,), "be finite"),
        ((np.nan,), "be finite"),
        (("x",), "be numbers"),
        (0.1, "be a list of numbers, got 0.1; put a single one in"),
        ([[0.1, 0.2]], "be a list of numbers"),
    ],
)
def test_a_hyperparameter_keeps_its_value(values, message):
    with pytest.raises(ValueError, match=rf"hyperparameter a must .*{message}"):
        sweeps.grid([0], {"a": values})


def test_a_grid_of_arrays_of_jax():
    expected = sweeps.grid([0, 1], {"a": (0.5, 1.0)})
    for seeds in (jnp.arange(2), [jnp.int32(0), 1], range(2), np.arange(2)):
        found = sweeps.grid(seeds, {"a": jnp.array([0.5, 1.0])})
        jax.tree.map(np.testing.assert_array_equal, found, expected)
    with pytest.raises(ValueError, match=r"^seeds must be whole numbers .* got 0\.0"):
        sweeps.grid(jnp.arange(2.0), {})
    with pytest.raises(ValueError, match=r"^seeds must be a list of numbers, got 3; "):
        sweeps.grid(3, {})


def test_a_sweep_of_lists_is_one_of_arrays():
    sweep = Sweep([0], {name: list(values) for name, values in HPARAMS.items()})
    jax.tree.map(np.testing.assert_array_equal, run(POOL, sweep=sweep), run(POOL))


@pytest.mark.parametrize(
    ("sweep", "message"),
    [
        (Sweep(np.int32(0), {}), "seeds must be a list of runs"),
        (
            Sweep([0], {"alpha": [2**40]}),
            r"\['alpha'\] must fit int32, got 10995116277",
        ),
        (Sweep([0], {"alpha": np.array([-(2**31) - 1])}), "must fit int32, got -21474"),
        (
            Sweep([0], {"alpha": np.array([2**32], np.uint64)}),
            "must fit uint32, got 42",
        ),
        (
            Sweep([0], {"alpha": [2**70]}),
            r"\['alpha'\] must be numbers, got dtype obje",
        ),
        (Sweep([0], {"alpha": ["a"]}), r"\['alpha'\] must be numbers, got dtype <U1"),
        (Sweep(np.array([0.5]), {}), "whole numbers"),
        (Sweep(np.array([2**40]), {}), "whole numbers"),
        (Sweep(np.array([], int), {}), "give at least one run"),
        (Sweep(np.array([0]), {"alpha": np.array([1e-50])}), r"\['alpha'\] must be fi"),
        (Sweep(np.array([0]), {"alpha": np.array([1.0, 2.0])}), "one value for each"),
    ],
)
def test_a_sweep_made_by_hand(sweep, message):
    with pytest.raises(ValueError, match=message):
        run(POOL, sweep=sweep)
