"""The integer program of two half-spaces: against all pairs there are, its limits."""

import itertools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

from l2d_jax.learners import halfspaces
from l2d_jax.learners.halfspaces import solve_milp
from l2d_jax.types import Batch

pytestmark = pytest.mark.long

LIMIT = 30.0  # Seconds; none of what is small comes near it.


def draw(seed, size=8, num_features=2):
    generator = np.random.default_rng(seed)
    inputs = generator.normal(size=(size, num_features)) * [3.0, 0.1][:num_features]
    return inputs + 5.0, *generator.integers(2, size=(2, size))


def error_of(found, inputs, labels, right):
    sums = inputs @ found.classifier[:-1] + found.classifier[-1]
    defers = inputs @ found.rejector[:-1] + found.rejector[-1] > 0
    return np.where(defers, right == 0, (sums > 0) != labels).mean()


def dichotomies(inputs):
    """Every way in which a half-space parts the points, bool ``[W, N]``."""
    rows = np.column_stack([inputs - inputs.mean(axis=0), np.ones(len(inputs))])
    found = []
    for signs in itertools.product((-1, 1), repeat=len(inputs)):
        sides = -np.array(signs)[:, None] * rows
        result = optimize.linprog(
            np.zeros(rows.shape[1]), sides, -np.ones(len(rows)), bounds=(None, None)
        )
        if result.status == 0:
            found.append(np.array(signs) > 0)
    return np.array(found)


def least_error(inputs, labels, right):
    """By brute force, over all pairs."""
    parts = dichotomies(inputs)
    wrong = parts != labels  # [W, N]
    errors = np.where(parts[:, None], right == 0, wrong[None])
    return errors.mean(axis=2).min()


@pytest.mark.parametrize("seed", range(8))
def test_it_is_the_best_of_all_pairs(seed):
    inputs, labels, right = draw(seed)
    found = solve_milp(inputs, labels, right, time_limit=LIMIT)
    assert found.gap == 0
    assert found.error == pytest.approx(least_error(inputs, labels, right), abs=1e-12)
    assert found.error == pytest.approx(error_of(found, inputs, labels, right))


def test_brute_force_finds_the_dichotomies_of_four_points():
    """Those of a square: all sixteen but the two of the diagonals."""
    square = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    assert len(dichotomies(square)) == 14


@pytest.mark.parametrize("seed", range(4))
def test_neighbourhoods_end_where_the_whole_program_does(seed, monkeypatch):
    inputs, labels, right = draw(seed + 20, size=24)
    whole = solve_milp(inputs, labels, right, time_limit=LIMIT)
    counts = []
    improve = halfspaces._Program.improve

    def counted(self, pair, generator, count, seconds):
        counts.append(count)
        return improve(self, pair, generator, count, seconds)

    monkeypatch.setattr(halfspaces, "_FIRST", 6)
    monkeypatch.setattr(halfspaces._Program, "improve", counted)
    parts = solve_milp(inputs, labels, right, time_limit=LIMIT)
    assert parts.error == whole.error and parts.gap == whole.gap == 0
    assert whole.error > 0 and counts[0] == 6 and counts[-1] == 24


@pytest.fixture
def solved(monkeypatch):
    """What the solver was given and what it gave, call by call."""
    calls = []
    milp = optimize.milp

    def noted(cost, **given):
        result = milp(cost, **given)
        calls.append((cost, given, result))
        return result

    monkeypatch.setattr(optimize, "milp", noted)
    return calls


@pytest.mark.parametrize("count", [0, 5])
def test_a_pair_is_in_its_own_neighbourhood_at_its_own_cost(count, solved):
    inputs, labels, right = draw(30, size=40)
    program = halfspaces._Program(inputs, labels, right > 0, 0.01)
    for pair in program.starts():
        program.improve(pair, np.random.default_rng(0), count, LIMIT)
        cost, given, _ = solved[-1]
        free = given["bounds"].lb != given["bounds"].ub
        num_weights = pair.size
        # Weights and their sizes, and two variables of an example that is free, one
        # of them alone where the expert is wrong.
        assert free[: 2 * num_weights].all()
        e, d = free[2 * num_weights :].reshape(2, 40)
        assert e.sum() == count and (d == (e & (right > 0))).all()
        now = given["bounds"].ub[2 * num_weights :].reshape(2, 40)
        sides = program._rows @ pair.T > 0
        wrong = np.where(sides[:, 1], right == 0, sides[:, 0] != labels)
        assert (now[0] == wrong)[~e].all()
        e, d = (
            np.where(e, wrong, now[0]),
            np.where(e, sides[:, 1] & (right > 0), now[1]),
        )
        vector = np.concatenate([pair.ravel(), np.abs(pair).ravel(), e, d])
        constraints, _ = given["constraints"]
        assert (constraints.A @ vector >= constraints.lb - 1e-9).all()
        assert cost @ vector == pytest.approx(program.objective(pair), abs=1e-9)


def test_what_is_found_costs_no_more_than_the_solver_says(solved):
    inputs, labels, right = draw(31, size=30)
    program = halfspaces._Program(inputs, labels, right > 0, 0.05)
    pair = next(program.starts())
    _, found, bound = program.improve(pair, np.random.default_rng(0), 30, LIMIT)
    result = solved[-1][2]
    assert program.objective(found) <= result.fun + 1e-6
    assert bound == pytest.approx(result.fun, rel=1e-3)


def test_a_realizable_problem_is_solved_without_error():
    generator = np.random.default_rng(0)
    inputs = generator.uniform(size=(120, 4))
    defers = inputs @ [1.0, -1.0, 0.5, 0.0] > 0.3
    labels = (inputs @ [0.0, 1.0, -1.0, 1.0] > 0.4).astype(int)
    labels = np.where(defers, generator.integers(2, size=120), labels)
    right = defers | (generator.random(120) < 0.5)
    found = solve_milp(inputs, labels, right, time_limit=LIMIT)
    assert found.error == found.gap == 0
    assert error_of(found, inputs, labels, right) == 0
    # No classifier and no expert alone is.
    assert (~right).any() and least_alone(inputs, labels) > 0


def least_alone(inputs, labels):
    """Error of the linear classifier that the program finds if nobody else is right."""
    nobody = np.zeros(len(labels))
    return solve_milp(inputs, labels, nobody, time_limit=2.0).error


def test_units_of_the_inputs_are_nothing_to_it():
    inputs, labels, right = draw(3, size=16)
    found = solve_milp(inputs, labels, right, time_limit=LIMIT)
    moved = np.column_stack([inputs * [1e3, 1e-3] - [7.0, 1.0], np.full(16, 2.0)])
    again = solve_milp(moved, labels, right, time_limit=LIMIT)
    assert again.error == found.error == error_of(again, moved, labels, right)


def test_a_great_penalty_leaves_the_best_constant_team():
    inputs, labels, right = draw(5, size=20)
    found = solve_milp(inputs, labels, right, time_limit=LIMIT, l1_penalty=1e6)
    constant = min((right == 0).mean(), labels.mean(), 1 - labels.mean())
    assert found.error == constant and found.gap == 0


def test_out_of_time_it_is_the_best_that_was_found():
    inputs, labels, right = draw(0, size=300)
    found = solve_milp(inputs, labels, right, time_limit=1e-6)
    assert 0 < found.error == found.gap == error_of(found, inputs, labels, right)
    # At the least what one party does alone.
    assert found.error <= (right == 0).mean()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"inputs": np.zeros((2001, 2))},
            "2001 examples and the integer program takes",
        ),
        ({"inputs": np.zeros(8)}, r"inputs must have shape \[N, D\], got \(8,\)"),
        ({"inputs": np.zeros((0, 2))}, r"inputs must have shape \[N, D\]"),
        ({"inputs": np.full((8, 2), np.nan)}, "inputs must be finite"),
        ({"labels": np.full(8, 2)}, "labels must be 0 or 1, got 2"),
        ({"labels": np.zeros(7)}, r"labels must have shape \[N\] = \(8,\), got \(7,\)"),
        ({"expert_correct": np.full(8, 0.5)}, "expert_correct must be 0 or 1, got 0.5"),
        ({"time_limit": 0.0}, "time_limit must be finite and > 0, got 0"),
        ({"time_limit": np.inf}, "time_limit must be finite"),
        ({"l1_penalty": -1.0}, "l1_penalty must be finite and >= 0, got -1"),
    ],
)
def test_what_it_cannot_take_is_refused(changes, message):
    inputs, labels, right = draw(0)
    given = {"inputs": inputs, "labels": labels, "expert_correct": right}
    given |= {"time_limit": 1.0, **changes}
    with pytest.raises(ValueError, match=message):
        solve_milp(**given)


def test_a_solver_that_fails_is_an_error(monkeypatch):
    failed = types.SimpleNamespace(status=4, x=None, mip_dual_bound=None)
    monkeypatch.setattr(optimize, "milp", lambda *args, **kwargs: failed)
    with pytest.raises(RuntimeError, match="HiGHS fails on the program, status 4"):
        solve_milp(*draw(20, size=24), time_limit=LIMIT)


# The learner.


def make_batch(seed=2, size=12):
    inputs, labels, right = draw(seed, size)
    answers = np.where(right, labels, 1 - labels)[:, None]
    return Batch(inputs.astype(np.float32), labels, answers), right


def solve(batch, l1_penalty=0.0):
    learner = halfspaces.make_learner(time_limit=LIMIT)
    hparams = {"l1_penalty": np.float32(l1_penalty)}
    state = learner.init(jax.random.key(0), hparams, batch)
    state, metrics = learner.update(state, hparams, batch)
    return state, metrics, learner.predict(state.variables, hparams, batch.inputs)


def test_the_learner_decides_as_the_pair_it_found():
    batch, right = make_batch()
    state, metrics, decision = solve(batch)
    found = solve_milp(batch.inputs, batch.labels, right, time_limit=LIMIT)
    assert metrics["loss"] == pytest.approx(found.error) and metrics["gap"] == 0
    assert state.variables.model_state["error"] == metrics["loss"] and state.step == 1
    defers = np.asarray(decision.allocation)[:, 0] == 1
    np.testing.assert_array_equal(defers, np.asarray(decision.defer_score)[:, 0] > 0)
    predicted = np.argmax(decision.class_probs, axis=1)
    wrong = np.where(defers, right == 0, predicted != batch.labels)
    assert wrong.mean() == pytest.approx(found.error)
    assert np.isnan(decision.expert_correct_prob).all()
    # The score is how far an input is from the rejector.
    rejector = np.asarray(state.variables.params.rejector)
    assert np.linalg.norm(rejector[:-1]) == pytest.approx(1.0, rel=1e-5)


def test_what_counts_for_nothing_has_no_part():
    batch, _ = make_batch()
    _, expected, _ = solve(batch)
    inputs = np.concatenate([batch.inputs, [[5.0, 5.0], [5.0, 5.0]]]).astype(np.float32)
    longer = Batch(
        inputs,
        np.append(batch.labels, [0, 1]),
        np.concatenate([batch.expert_labels, [[1], [-1]]]),
        weights=np.append(np.ones(12), [0.0, 1.0]),
    )
    _, metrics, _ = solve(longer)
    assert metrics == expected
    with pytest.raises(ValueError, match="no weights but 0 and 1"):
        solve(longer._replace(weights=np.full(14, 0.5)))


def test_a_tie_is_kept_and_the_lowest_label():
    nothing = jnp.zeros(3)
    decision = halfspaces.decide(halfspaces.Pair(nothing, nothing), np.ones((2, 2)))
    np.testing.assert_array_equal(decision.class_probs, [[1, 0]] * 2)
    np.testing.assert_array_equal(decision.allocation, [[0, 1]] * 2)


@pytest.mark.parametrize("column", [[0.5, 0.5], [0.3, 0.3], [0.3, 3 * 0.1]])
def test_what_does_not_vary_has_no_weight(column):
    inputs, labels, right = draw(4, size=20)
    constant = np.resize(column, 20)[:, None]
    found = solve_milp(np.hstack([inputs, constant]), labels, right, time_limit=LIMIT)
    expected = solve_milp(inputs, labels, right, time_limit=LIMIT)
    assert found.classifier[2] == found.rejector[2] == 0
    assert found.error == expected.error
    assert error_of(found, np.hstack([inputs, constant]), labels, right) == found.error
