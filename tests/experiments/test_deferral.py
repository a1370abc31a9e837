"""From a config to runs and choices: which methods, which runs, which settings."""

import types

import jax
import numpy as np
import pandas as pd
import pytest
import tiny

from experiments import deferral, evaluation, summaries, trainings
from experiments.configs import digits, synthetic, texts
from experiments.method import Method
from experiments.methods import GROUPS, METHODS
from experiments.problem import Teams, every_value, one_team
from experiments.runtime.errors import ConfigError
from l2d_jax.engine import chunks, placement
from l2d_jax.types import Sweep

NAN = float("nan")

# Which methods.


def config_of(*methods, get_config=digits.get_config):
    config = get_config("smoke")
    config.methods = methods
    return config


def test_methods_by_name():
    found = deferral.choose_methods(config_of("expert", "deferral"), "digits")
    assert found == (["expert", "deferral"], {})


@pytest.mark.parametrize(
    ("methods", "problem", "message"),
    [
        (
            ("cost_sensitve",),
            "digits",
            "no 'cost_sensitve'; did you mean cost",
        ),
        (("joint_fair", "joint"), "digits", "no 'joint_fair'; did you mean joint"),
        (("tunedd",), "digits", "no 'tunedd'; did you mean tuned"),
        (("qqqq",), "digits", r"there is no 'qqqq' \(all of them: python -m"),
        (
            ("deferral", "joint"),
            "digits",
            "joint is not applicable to digits: it takes",
        ),
        (("all", "joint"), "digits", "joint is not applicable to digits: it takes sev"),
        (("best_rule",), "digits", "best_rule is not .* it needs a law that is known"),
        (("bayesian",), "cifar10", "bayesian is not .* it needs two classes"),
    ],
)
def test_methods_that_cannot_be_had_are_one_line(methods, problem, message):
    with pytest.raises(ConfigError, match=f"^methods: .*{message}") as error:
        deferral.choose_methods(config_of(*methods), problem)
    assert "\n" not in str(error.value)


def test_a_method_whose_field_the_config_lacks():
    config = config_of("mixture")
    del config.temperature
    with pytest.raises(ConfigError, match=r"mixture is not .* temperature in the"):
        deferral.choose_methods(config, "digits")
    config.methods = ("all",)
    names, reasons = deferral.choose_methods(config, "digits")
    assert "mixture" not in names and "classifier" in names
    assert reasons["mixture"] == "needs temperature in the config"


@pytest.mark.parametrize(
    ("get_config", "problem"),
    [(digits.get_config, "digits"), (texts.get_config, "keswani_mturk")],
)
def test_all_leaves_out_what_cannot_be_had_and_says_why(get_config, problem):
    config = config_of("all", get_config=get_config)
    names, reasons = deferral.choose_methods(config, problem)
    assert {*names, *reasons} == set(GROUPS["all"]) and not {*names} & {*reasons}
    assert all(reasons.values())
    table = pd.DataFrame(
        {
            "experiment": "e",
            "problem": problem,
            "method": names,
            "seed": 0,
            "split": "test",
            "diverged": False,
            "system_accuracy": 0.5,
            "chosen": True,
        }
    )
    rows = deferral.with_reasons(config, table, reasons)
    left_out = rows[rows.note.notna()].set_index("method")
    assert list(left_out.index) == list(reasons)
    for name, why in reasons.items():
        assert left_out.note[name] == f"not applicable: {why}"
    assert left_out.system_accuracy.isna().all() and left_out.seed.isna().all()
    assert (left_out.problem == problem).all()
    assert list(rows.seed[: len(names)]) == [0] * len(names)


# Which runs.


def make_trained(seeds, score, teams=None, diverged=None, **hparams):
    seeds = np.array(seeds)
    result = types.SimpleNamespace(
        score=np.array(score, float),
        diverged=np.zeros(len(seeds), bool) if diverged is None else np.array(diverged),
    )
    hparams = {name: np.array(value, np.float32) for name, value in hparams.items()}
    teams = np.full(len(seeds), -1) if teams is None else np.array(teams)
    return types.SimpleNamespace(
        sweep=Sweep(seeds, hparams), teams=teams, result=result
    )


def method_of(*trainings, hparams=()):
    return Method("label", (), trainings, lambda case, hparams: None, hparams)


def test_runs_of_a_training_that_knows_the_expert_are_its_own():
    teams = every_value("num_perfect", (0, 5))(2)
    trained = make_trained(
        [0, 0, 0, 0, 1, 1, 1, 1],
        np.zeros(8),
        teams=[0, 0, 1, 1, 2, 2, 3, 3],
        num_perfect=[0, 0, 5, 5] * 2,
        alpha=[0, 1] * 4,
    )
    runs = evaluation.make_runs(
        tiny.make_config(), method_of("deferral"), teams, {"deferral": trained}
    )
    np.testing.assert_array_equal(runs.parts[0], np.arange(8))
    np.testing.assert_array_equal(runs.teams, trained.teams)
    np.testing.assert_array_equal(runs.seeds, trained.sweep.seeds)
    # What is the team's is not the method's.
    assert set(runs.hparams) == {"alpha"}


def test_a_run_that_knows_no_expert_serves_all_teams_of_its_seed():
    teams = every_value("num_perfect", (0, 5, 9))(2)
    trained = make_trained([0, 0, 1, 1], np.zeros(4), fairness=[0, 1, 0, 1])
    method = method_of("classifier", hparams=("cost",))
    config = tiny.make_config(
        grid={"learning_rate": (0.1,), "cost": (0.1, 0.2), "fairness": (0.0, 1.0)}
    )
    runs = evaluation.make_runs(config, method, teams, {"classifier": trained})
    # 4 runs, 3 teams of each, and 2 prices that the training does not read.
    assert len(runs.seeds) == 24
    np.testing.assert_array_equal(runs.seeds, trained.sweep.seeds[runs.parts[0]])
    np.testing.assert_array_equal(runs.seeds, teams.seeds[runs.teams])
    np.testing.assert_array_equal(
        runs.hparams["fairness"], trained.sweep.hparams["fairness"][runs.parts[0]]
    )
    rows = set(zip(runs.parts[0], runs.teams, runs.hparams["cost"], strict=True))
    assert len(rows) == 24


def test_a_method_without_training_has_a_run_for_each_team():
    teams = every_value("num_perfect", (0, 5))(2)
    runs = evaluation.make_runs(tiny.make_config(), METHODS["expert"], teams, {})
    np.testing.assert_array_equal(runs.teams, np.arange(4))
    assert runs.parts == () and runs.hparams == {}


def test_the_best_run_of_another_training_of_the_seed_and_team():
    part = make_trained(
        [0, 0, 0, 0, 1, 1],
        [0.1, 0.3, 0.9, 0.3, 0.5, 0.5],
        teams=[0, 0, 1, 1, 2, 2],
        diverged=[False, False, True, False, False, False],
    )
    seeds, teams = np.array([0, 0, 1]), np.array([0, 1, 2])
    # Not the diverged one, though its score is the best; of equals the first.
    found = trainings.best_runs(part, seeds, teams)
    np.testing.assert_array_equal(found, [1, 3, 4])
    # A training that knows nobody serves every team of its seed.
    alone = make_trained([0, 0, 1], [0.2, 0.1, 0.0])
    np.testing.assert_array_equal(trainings.best_runs(alone, seeds, teams), [0, 0, 2])
    # Where all have diverged there is still a run, which says so.
    lost = make_trained([0, 0, 1], [0.2, 0.1, 0.0], diverged=[True] * 3)
    np.testing.assert_array_equal(trainings.best_runs(lost, seeds, teams), [0, 0, 2])


def test_taken_runs():
    runs = evaluation.Runs(
        np.arange(3), np.arange(3), (np.arange(3),), {"cost": np.arange(3.0)}
    )
    taken = evaluation.take_runs(runs, np.array([2, 0]))
    for leaf in (taken.seeds, taken.teams, taken.parts[0], taken.hparams["cost"]):
        np.testing.assert_array_equal(leaf, [2, 0])


# Which settings.


def make_valid(rows, names):
    table = pd.DataFrame(rows, columns=[*names, "seed", "system_accuracy"])
    return table.assign(diverged=False)


def test_each_seed_chooses_for_itself():
    table = make_valid(
        [
            (0, 0.1, 0, 0.5),
            (0, 0.2, 0, 0.7),
            (0, 0.3, 0, 0.7),
            (0, 0.1, 1, 0.9),
            (0, 0.2, 1, 0.1),
            (0, 0.3, 1, 0.1),
            (5, 0.1, 0, 0.2),
            (5, 0.2, 0, 0.1),
        ],
        ["num_perfect", "alpha"],
    )
    chosen = deferral.choose(table, ["num_perfect"], ["alpha"], per_seed=True)
    # Of equals the first.
    np.testing.assert_array_equal(np.flatnonzero(chosen), [1, 3, 6])


def test_all_seeds_choose_together():
    # .1 is better on average, though seed 0 would choose .2; .3 is as good as .1.
    costs = {0.1: (0.5, 0.75), 0.2: (0.625, 0.5), 0.3: (0.75, 0.5)}
    table = make_valid(
        [
            ("a", cost, seed, accuracy)
            for cost, values in costs.items()
            for seed, accuracy in enumerate(values)
        ],
        ["scenario", "cost"],
    )
    chosen = deferral.choose(table, ["scenario"], ["cost"], per_seed=False)
    assert list(table[chosen].cost) == [0.1, 0.1] and list(table[chosen].seed) == [0, 1]
    # Without settings.
    alone = deferral.choose(table.drop(columns="scenario"), [], ["cost"], False)
    np.testing.assert_array_equal(alone, chosen)


@pytest.mark.parametrize("per_seed", [True, False])
def test_a_diverged_run_is_the_worst(per_seed):
    table = make_valid([(0.1, 0, 0.9), (0.2, 0, 0.1), (0.3, 0, NAN)], ["alpha"])
    table["diverged"] = [True, False, True]
    chosen = deferral.choose(table, [], ["alpha"], per_seed)
    np.testing.assert_array_equal(chosen, [False, True, False])
    # A run that measured nothing is no better than one that is always wrong.
    table["diverged"], table["system_accuracy"] = False, [NAN, 0.0, NAN]
    chosen = deferral.choose(table, [], ["alpha"], per_seed)
    np.testing.assert_array_equal(chosen, [False, True, False])
    table["diverged"] = True
    chosen = deferral.choose(table, [], ["alpha"], per_seed)
    np.testing.assert_array_equal(chosen, [True, False, False])


@pytest.mark.parametrize("per_seed", [True, False])
def test_fairness_is_a_preference(per_seed):
    """Nobody's accuracy chooses it: there is a choice at each."""
    table = make_valid(
        [
            (0.0, 0.1, 0, 0.8),
            (0.0, 0.2, 0, 0.9),
            (1.0, 0.1, 0, 0.5),
            (1.0, 0.2, 0, 0.4),
        ],
        ["fairness", "cost"],
    )
    chosen = deferral.choose(table, [], ["cost", "fairness"], per_seed)
    np.testing.assert_array_equal(chosen, [False, True, True, False])
    assert "fairness" in summaries.PREFERENCES
    # A method without it has one choice.
    table = table[:2].assign(fairness=NAN)
    chosen = deferral.choose(table, [], ["cost", "fairness"], per_seed)
    np.testing.assert_array_equal(chosen, [False, True])


# Parts.


@pytest.mark.parametrize(
    ("num_train", "seeds", "expected"),
    # 2 ** 29 bytes are as many orders of 2 ** 20 examples, or twice of half as many.
    [(100, 3, 400), (2**20, 1, 128), (2**19, 2, 128), (2**20, 4, 64), (2**30, 1, 1)],
)
def test_orders_of_many_examples_are_drawn_for_fewer_epochs(num_train, seeds, expected):
    config = tiny.make_config(epochs_per_dispatch=400)
    where = placement.Placement("vmap", 2)
    sweep = Sweep(np.repeat(np.arange(seeds), 5), {})
    found = trainings.epochs_per_dispatch(config, where, sweep, num_train)
    assert found == expected


def test_rows_of_each_seed_are_padded():
    problem = tiny.make_problem(
        1, test_rows=lambda seed: np.arange(5 + seed), teams=one_team
    )
    rows = evaluation.make_rows(problem, 3)
    np.testing.assert_array_equal(rows["test"].weights.sum(axis=1), [5, 6, 7])
    for seed in range(3):
        kept = rows["test"].rows[seed][rows["test"].weights[seed] > 0]
        np.testing.assert_array_equal(kept, np.arange(5 + seed))
        valid = rows["valid"].rows[seed][rows["valid"].weights[seed] > 0]
        np.testing.assert_array_equal(
            np.sort(valid), np.sort(problem.split(seed).valid)
        )


def make_measures(monkeypatch, num_seeds, held, decided=1):
    """Measures of the experts alone, over seeds, that hold so many bytes."""
    monkeypatch.setattr(evaluation, "_HELD_BYTES", held)
    monkeypatch.setattr(evaluation, "_DECIDED_BYTES", decided)
    config = tiny.make_config(num_seeds=num_seeds, placement="vmap", runs_per_device=2)
    problem = tiny.make_problem(1, teams=one_team)
    return config, problem, evaluation.Measures(config, problem, lambda: False)


@pytest.mark.parametrize(
    ("runs", "decided", "held", "sizes"),
    [
        # 40 cases of 32 bytes. One run is decided at a time, then all is held.
        (5, 1, 2**20, [5]),
        (5, 1, 1, [1, 1, 1, 1, 1]),
        (5, 1, 2 * 40 * 32, [2, 3]),
        # Chunks of two, whatever is held.
        (5, 2**20, 1, [2, 3]),
        (1, 2**20, 1, [1]),
    ],
)
def test_runs_that_are_measured_together(runs, decided, held, sizes, monkeypatch):
    _, _, measures = make_measures(monkeypatch, runs, held, decided)
    parts = measures._some_at_a_time(METHODS["expert"], runs)
    np.testing.assert_array_equal(np.concatenate(parts), np.arange(runs))
    assert list(map(len, parts)) == sizes


def test_what_runs_achieve_is_put_together(monkeypatch, capsys):
    _, _, measures = make_measures(monkeypatch, 5, 1)
    runs = evaluation.Runs(np.arange(5), np.arange(5), (), {})

    def map_filled(function, some, others, report):
        report(chunks.Progress(16, 16))
        found = others["decision"] + 10.0 * some.seeds
        return {"one": found, "resampled": {"two": np.stack([found, found], 1)}}

    monkeypatch.setattr(
        measures, "_decide_all", lambda *args: {"valid": 1.0, "test": 2.0}
    )
    monkeypatch.setattr(measures, "_map_filled", map_filled)
    found = measures.achieve("expert", runs, {}, ("valid", "test"))
    for split, decision in (("valid", 1.0), ("test", 2.0)):
        expected = decision + 10.0 * np.arange(5)
        np.testing.assert_array_equal(found[split]["one"], expected)
        np.testing.assert_array_equal(found[split]["resampled"]["two"][:, 1], expected)
    # Runs that only fill the last chunk are not counted.
    assert (
        capsys.readouterr().err.splitlines()[-1] == "expert, valid and test: 10/10 runs"
    )


@pytest.mark.slow
@pytest.mark.parametrize("method", ["expert", "deferral_thresholds"])
def test_some_runs_at_a_time_achieve_the_same(method, monkeypatch):
    """To the last bit, with what is decided after training."""
    found = []
    for held in (2**28, 1):
        config, problem, measures = make_measures(monkeypatch, 5, held, 2**27)
        config.methods = (method,)
        trained, _ = deferral.train_all(config, problem, [method], None, lambda: False)
        teams = problem.teams(5)
        runs = evaluation.make_runs(config, METHODS[method], teams, trained)
        parts = measures._some_at_a_time(METHODS[method], len(runs.seeds))
        assert (len(parts) > 1) == (held == 1)
        found.append(measures.achieve(method, runs, trained, ("valid", "test")))
    jax.tree.map(np.testing.assert_array_equal, *found)


def test_teams():
    assert isinstance(one_team(2), Teams)
    teams = every_value("num_perfect", (0, 5))(2)
    np.testing.assert_array_equal(teams.seeds, [0, 0, 1, 1])
    assert teams.columns == {"num_perfect": [0, 5, 0, 5]}


def test_rl2d_starts_with_the_logarithm():
    """Its first steps are those of q = 0, whatever q is, and the others are not."""
    config = tiny.make_config(num_epochs=4)
    problem = tiny.make_problem(1)
    found = {}
    for q, warm in ((1.0, 0.5), (0.3, 0.5), (1e-9, 0.5), (1.0, 0.0)):
        config.grid = {"learning_rate": (0.1,), "q": (q,), "warm": (warm,)}
        program = trainings.make_program(config, problem, "rl2d", 32)
        sweep, _ = trainings.make_sweep(config, problem, "rl2d")
        hparams = {name: value[0] for name, value in sweep.hparams.items()}
        batch = jax.tree.map(lambda leaf: leaf[:16], problem.pool)
        state = program.learner.init(jax.random.key(0), hparams, batch)
        update = jax.jit(program.learner.update)
        losses = []
        for _ in range(8):
            state, metrics = update(state, hparams, batch)
            losses.append(float(metrics["loss"]))
        found[q, warm] = losses
    # Two steps an epoch, four epochs: four steps are the start.
    for other in ((0.3, 0.5), (1e-9, 0.5)):
        assert found[other][:4] == found[1.0, 0.5][:4]
        assert found[other][4] != pytest.approx(found[1.0, 0.5][4], rel=1e-3)
    assert found[1.0, 0.0][0] != pytest.approx(found[1.0, 0.5][0], rel=1e-3)


@pytest.mark.parametrize("field", ["model", "expert_model"])
def test_a_network_that_does_not_take_the_inputs_is_one_line(tmp_path, field):
    config = synthetic.get_config("smoke")
    with config.unlocked():
        config[field] = {
            **{"name": "wide_resnet", "depth": 10, "width": 1},
            **{"stem_stride": 1, "dtype": "float32"},
        }
    config.methods = ("classifier",) if field == "model" else ("confidence",)
    config.num_epochs = config.expert_model_epochs = 1
    said = rf"^{field} does not fit the inputs: inputs have shape \(2, \d+\); give \[B"
    with pytest.raises(ConfigError, match=said):
        deferral.main(config, tmp_path)
