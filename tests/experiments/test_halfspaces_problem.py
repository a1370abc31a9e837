"""Half-spaces as problems: data for every seed, the best team, and who is too many."""

import numpy as np
import pytest

from experiments import deferral, halfspaces, trainings
from experiments.configs import halfspaces as config_file
from experiments.problems import PROBLEMS
from experiments.runtime.errors import ConfigError
from l2d_jax.learners.halfspaces import MAX_EXAMPLES

pytestmark = pytest.mark.usefixtures("cheap_compiles")


def make_config(**changes):
    config = config_file.get_config("smoke")
    config.update(changes)
    return config


def make_problem(tmp_path, config):
    prepared = PROBLEMS[config.problem].prepare(config)
    (problem,) = PROBLEMS[config.problem].make(config, prepared, tmp_path, never)
    return problem


def never():
    return False


def test_every_seed_has_data_of_its_own(tmp_path):
    config = make_config(num_seeds=3)
    problem = make_problem(tmp_path, config)
    folds = [problem.split(seed) for seed in range(3)]
    rows = np.concatenate([np.concatenate(fold) for fold in folds])
    np.testing.assert_array_equal(np.sort(rows), np.arange(3 * config.num_examples))
    tests = np.concatenate([problem.test_rows(seed) for seed in range(3)])
    np.testing.assert_array_equal(tests, np.arange(3 * config.num_test))
    assert len(problem.pool.labels) == len(rows)
    assert len(problem.test.labels) == len(tests)
    assert len(folds[0].valid) == 6
    worlds = halfspaces.load(config)
    own = slice(config.num_examples, 2 * config.num_examples)
    np.testing.assert_array_equal(
        problem.pool.inputs[own], worlds.inputs[1, : config.num_examples]
    )
    # Seeds do not depend on how many there are.
    fewer = halfspaces.load(make_config(num_seeds=1))
    np.testing.assert_array_equal(fewer.labels[0], worlds.labels[0])


@pytest.mark.long
@pytest.mark.parametrize("law", halfspaces.INPUTS)
def test_the_best_rule_is_never_wrong_where_it_is_realizable(tmp_path, law):
    config = make_config(problem="halfspaces_realizable", input_law=law)
    config.methods = ("best_rule", "expert")
    problem = make_problem(tmp_path, config)
    results = deferral.measure_all(config, problem, list(config.methods), {}, never)
    rows = results.table.query("method == 'best_rule'")
    assert len(rows) == 4 and (rows.system_accuracy == 1).all()
    assert rows.coverage.between(0.1, 0.9).all()
    assert (results.table.query("method == 'expert'").system_accuracy < 1).any()


@pytest.mark.long
def test_the_program_beats_what_it_is_compared_with_on_what_it_learns(tmp_path):
    """On its own training examples it makes no more errors than the pair of the law."""
    config = make_config(num_seeds=2, num_examples=40, num_features=2, batch_size=36)
    config.milp.time_limit = 60.0  # More than it takes.
    problem = make_problem(tmp_path, config)
    trained = trainings.train(config, problem, "milp", tmp_path, never, {})
    assert (trained.result.epochs == 1).all() and not trained.result.diverged.any()
    worlds = halfspaces.load(config)
    for seed in range(2):
        rows = problem.split(seed).train
        own = problem.pool.inputs[rows]
        labels = problem.pool.labels[rows]
        wrong = problem.pool.expert_labels[rows, 0] != labels
        sides = [
            own @ half[:-1] + half[-1] > 0
            for half in (worlds.classifier[seed], worlds.rejector[seed])
        ]
        of_law = np.where(sides[1], wrong, sides[0] != labels).mean()
        kept = trained.result.variables.model_state
        assert kept["error"][seed] <= of_law + 1e-6
        assert 0 <= kept["gap"][seed] <= kept["error"][seed] + 1e-6


def test_a_grid_of_learning_rates_is_nothing_to_a_program():
    config = make_config()
    config.grid = {"learning_rate": (0.1, 0.2), "l1_penalty": (0.0, 0.1)}
    assert trainings.grid_of(config, "milp") == {"l1_penalty": (0.0, 0.1)}
    assert set(trainings.grid_of(config, "deferral")) > {"learning_rate", "alpha"}


def test_too_many_examples_are_a_reason_or_an_error(tmp_path):
    size = MAX_EXAMPLES + 300
    config = make_config(num_examples=size, num_seeds=1)
    problem = make_problem(tmp_path, config)
    config.methods = ("all",)
    fitting, reasons = deferral.choose_fitting(config, problem, ["expert", "milp"])
    assert fitting == ["expert"]
    assert reasons == {"milp": "takes at most 2,000 training examples"}
    config.methods = ("expert", "milp")
    with pytest.raises(ConfigError, match=r"methods: milp .* 2070 training") as error:
        deferral.choose_fitting(config, problem, ["expert", "milp"])
    assert "\n" not in str(error.value)
    config.num_examples = 100
    problem = make_problem(tmp_path, config)
    fitting, reasons = deferral.choose_fitting(config, problem, ["expert", "milp"])
    assert fitting == ["expert", "milp"] and not reasons


def test_a_batch_that_is_too_large_is_one_line():
    with pytest.raises(ConfigError, match="batch_size 55 is larger than the 54"):
        halfspaces.load(make_config(batch_size=55))
