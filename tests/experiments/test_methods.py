"""Every method on a problem that meets its needs, and who can have which."""

import types

import jax
import numpy as np
import pytest
import tiny

from experiments import (
    deferral,
    evaluation,
    methods,
    summaries,
    trainings,
    trips,
)
from experiments.imputers import IMPUTERS
from experiments.method import unmet
from experiments.methods import GROUPS, METHODS, SEVERAL_EXPERTS
from experiments.problem import Traits
from experiments.problems import PROBLEMS
from experiments.runtime.errors import ConfigError
from experiments.trainings import TRAININGS

# A few are run at once, one of every kind as a whole program, and the others by the
# slow tests; all are traced.
FEW = ("classifier", "expert", "majority", "oracle")
RUN = (
    "deferral",
    "deferral_tuned",
    "deferral_budget",
    "two_stage",
    "confidence",
    "imputed",
    "mixture",
    "rejection_thresholds",
    "bayesian",
    "joint",
    "joint_committee",
    "informed",
    "weighted_vote",
    "dawid_skene",
    "random_committee",
    "best_rule",
    *FEW,
)
OTHERS = tuple(name for name in METHODS if name not in RUN)
pytestmark = pytest.mark.usefixtures("cheap_compiles")


def never():
    return False


def measure(methods, tmp_path_factory):
    """Results of methods on the tiny problems, by number of experts.

    Of a person what no other problem has.
    """
    config = tiny.make_config()
    found, left = {}, {*methods}
    for kind, problem in (
        (1, tiny.make_problem(1)),
        (3, tiny.make_problem(3)),
        ("people", tiny.make_people_problem()),
    ):
        names = [
            name
            for name in METHODS
            if name in left and not unmet(METHODS[name], problem.traits)
        ]
        left -= {*names}
        if not names:
            continue
        workdir = tmp_path_factory.mktemp("tiny")
        trained, _ = deferral.train_all(config, problem, names, workdir, never)
        results = deferral.measure_all(config, problem, names, trained, never)
        found[kind] = types.SimpleNamespace(
            config=config, problem=problem, trained=trained, results=results
        )
    return found


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    return measure(FEW, tmp_path_factory)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return measure(RUN, tmp_path_factory)


@pytest.fixture(scope="module")
def measured_others(tmp_path_factory):
    return measure(OTHERS, tmp_path_factory)


def rows_of(measured, name):
    """Its rows on the problem that it can be had on."""
    for case in measured.values():
        rows = case.results.table.query("method == @name")
        if len(rows):
            return case, rows
    raise AssertionError(f"{name} can be had on no problem")


@pytest.mark.parametrize("name", FEW)
def test_a_method_ends_in_rows(few, name):
    check_rows(few, name)


@pytest.mark.parametrize("name", RUN)
def test_every_kind_of_method_ends_in_rows(whole, name):
    check_rows(whole, name)


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS)
def test_every_other_method_ends_in_rows(measured_others, name):
    check_rows(measured_others, name)


def check_rows(measured, name):
    case, rows = rows_of(measured, name)
    values = {"cost": 1, "fairness": 2}
    reads = [*METHODS[name].hparams]
    for training in METHODS[name].trainings[:1]:
        reads += TRAININGS[training].hparams
    settings = int(np.prod([size for key, size in values.items() if key in reads]))
    # Two seeds on two parts.
    assert len(rows) == 4 * settings
    assert not rows.diverged.any()
    assert rows.system_accuracy.between(0, 1).all()
    shares = rows.coverage + rows.deferral_rate
    np.testing.assert_allclose(shares, 1.0, rtol=0, atol=1e-6)
    assert (rows.groupby(["seed", "split"]).chosen.sum() >= 1).all()
    assert len(case.results.curves.query("method == @name")) > 0
    if METHODS[name].trainings:
        epochs = 1 if TRAININGS[METHODS[name].trainings[0]].solved else 2
        assert (rows.epochs == epochs).all()
        assert rows.best_epoch.between(1, epochs).all()


def test_a_hyperparameter_that_nobody_gives_is_named(monkeypatch):
    """Before anything is trained; what reads it is inside a program."""
    config = tiny.make_config()
    row = TRAININGS["one_vs_all"]
    unknown = row._replace(hparams=(*row.hparams, "sharpness"))
    monkeypatch.setitem(TRAININGS, "one_vs_all", unknown)
    message = r"^grid\.sharpness is missing and has no default; [^\n]*$"
    with pytest.raises(ConfigError, match=message):
        trainings.check(config, tiny.make_problem(1), "one_vs_all")
    given = unknown._replace(grid=lambda config: {"sharpness": (2.0,)})
    monkeypatch.setitem(TRAININGS, "one_vs_all", given)
    assert trainings.grid_of(config, "one_vs_all")["sharpness"] == (2.0,)
    monkeypatch.setitem(TRAININGS, "one_vs_all", unknown)
    monkeypatch.setitem(trainings.DEFAULTS, "sharpness", 1.0)
    assert trainings.grid_of(config, "one_vs_all")["sharpness"] == (1.0,)


@pytest.mark.parametrize("name", GROUPS["all"])
def test_every_method_can_be_traced(name):
    """Learners, scores and decisions fit each other's shapes, of one run."""
    method, config = METHODS[name], tiny.make_config()
    num_experts = 3 if SEVERAL_EXPERTS in method.needs else 1
    problem = tiny.make_problem(num_experts)
    if methods.PEOPLE in method.needs:
        problem = tiny.make_people_problem()
    parts = []
    for training in method.trainings:
        row = TRAININGS[training]
        program = trainings.make_program(config, problem, training, 32)
        sweep, _ = trainings.make_sweep(config, problem, training)
        hparams = {key: values[0] for key, values in sweep.hparams.items()}
        pool = problem.pool
        if row.hidden:
            pool = pool._replace(inputs=problem.hidden[0])
        if row.after:
            given = np.full((tiny.NUM_POOL, config.num_seeds, 2), 0.5, np.float32)
            pool = pool._replace(class_probs=given)
        batch = jax.tree.map(lambda leaf: leaf[:16], pool)
        key = jax.random.key(0)
        state = jax.eval_shape(program.learner.init, key, hparams, batch)
        if not row.solved:  # On the host, of values.
            after, found = jax.eval_shape(program.learner.update, state, hparams, batch)
            assert jax.tree.structure(after) == jax.tree.structure(state)
            assert found["loss"].shape == ()
        outputs = jax.eval_shape(
            program.learner.predict, state.variables, hparams, batch.inputs
        )
        score = jax.eval_shape(program.score, outputs, batch, hparams)
        assert score.shape == ()
        parts.append((program, state.variables, hparams))
    programs, variables, of_trainings = zip(*parts, strict=True) if parts else 3 * [()]
    measures = evaluation.Measures(config, problem, never)
    one = evaluation.Runs(np.zeros(1, int), np.zeros(1, int), (), {})
    run = jax.tree.map(lambda leaf: leaf[0], measures.runs_of(one))
    read = {key: np.float32(0.1) for key in method.hparams}
    run |= {"hparams": read, "trainings": of_trainings, "variables": variables}
    hidden = any(TRAININGS[training].hidden for training in method.trainings)
    shared = evaluation.shared_examples(config, problem, hidden)
    decide = evaluation.make_decide(problem, method, programs, "valid")
    decision = jax.eval_shape(decide, run, shared)
    size = len(problem.split(0).valid)
    assert decision.class_probs.shape == (size, 2)
    assert decision.defer_score.shape == (size, num_experts)
    assert decision.allocation.shape == (size, num_experts + 1)


def test_references_are_what_they_say(whole):
    for name in ("classifier", "informed", "bayesian"):
        assert (rows_of(whole, name)[1].coverage == 1).all(), name
    for name in ("expert", "majority", "random_committee", "best_rule"):
        rows = rows_of(whole, name)[1]
        assert (rows.deferral_rate > 0).all(), name
    table = whole[1].results.table
    keys = ["seed", "split"]
    of = {
        name: table[(table.method == name) & (table.fairness.fillna(0) == 0)]
        .set_index(keys)
        .system_accuracy
        for name in ("oracle", "classifier", "expert", "best_rule")
    }
    assert (of["oracle"] >= of["classifier"] - 1e-6).all()
    assert (of["oracle"] >= of["expert"] - 1e-6).all()
    expert = table[table.method == "expert"]
    assert (expert.system_accuracy == expert.expert_accuracy).all()
    # Who is asked where the law says so is always right there.
    rule = table[table.method == "best_rule"]
    assert (rule.expert_accuracy_deferred == 1).all()


def test_methods_share_what_they_train(whole):
    case = whole[1]
    table = case.results.table
    same = [
        table[table.method == name].set_index(["seed", "split", "fairness"])
        for name in ("classifier", "rejection_thresholds")
    ]
    np.testing.assert_array_equal(
        *[part.classifier_accuracy.sort_index() for part in same]
    )
    needed = {t for name in set(table.method) for t in METHODS[name].trainings}
    assert set(case.trained) == needed


def test_a_model_of_the_person_is_the_estimate(whole):
    """It is right about everything at 90 %, which the classifier is not sure of."""
    case, rows = rows_of(whole, "imputed")
    rows = rows.query("split == 'test'")
    assert (rows.human_model_accuracy == 1).all()
    np.testing.assert_allclose(rows.human_model_nll, -np.log(0.9), rtol=1e-5)
    np.testing.assert_allclose(rows.expert_calibration_error, 0.1, rtol=1e-5)
    knows = (case.problem.test.inputs[:, 1] > 0).mean()
    # Never asked where they are wrong: the classifier's surest is at least a half.
    assert (rows.deferral_rate <= knows + 1e-6).all() and (rows.deferral_rate > 0).all()
    assert (rows.expert_accuracy_deferred == 1).all()


def test_who_was_not_asked_changes_nothing(few):
    """A quarter of the answers of the third expert is -1; shares are of the others."""
    rows = rows_of(few, "majority")[1].query("split == 'test'")
    # Of 40 rows 10 are shared by two: (30 / 3 + 10 / 2) / 40.
    np.testing.assert_allclose(rows.top_share, 0.375, rtol=0, atol=1e-6)
    answers = few[3].problem.test.expert_labels
    labels = few[3].problem.test.labels
    given = answers >= 0
    ones = np.where(given, answers, 0).sum(1) / given.sum(1)
    assert rows.system_accuracy.iloc[0] == pytest.approx(
        ((ones > 0.5) == labels).mean()
    )


def test_a_summary_has_every_setting(whole):
    case = whole[1]
    made = summaries.make(
        case.config, case.problem, case.results.table, case.results.resampled
    )
    rows = made.summary.query("metric == 'system_accuracy' and split == 'test'")
    assert set(rows.method) == set(case.results.table.method)
    assert (rows.n == 2).all() and (rows.cases == tiny.NUM_TEST).all()
    assert (rows.ci_low <= rows["mean"]).all() and (rows["mean"] <= rows.ci_high).all()
    assert "system accuracy, %" in summaries.describe(case.config, case.problem, made)


# The matrix.


def test_the_matrix_names_every_method_problem_and_reason():
    text = methods.matrix()
    header, *lines = text.splitlines()
    assert header.split() == list(PROBLEMS)
    names = GROUPS["all"]
    rows = {line.split()[0]: line.split()[1:] for line in lines[: len(names)]}
    assert tuple(rows) == names
    notes = dict(
        line.split(" ", 1) for line in lines[len(names) :] if line.startswith("(")
    )
    for name, cells in rows.items():
        for problem, cell in zip(PROBLEMS, cells, strict=True):
            whys = (
                [notes[f"({number})"] for number in cell.strip("()").split(",")]
                if cell != "yes"
                else []
            )
            assert "; ".join(whys) == unmet(METHODS[name], PROBLEMS[problem].traits)
    assert all(name in lines[-1] for name in (*IMPUTERS, *trips.METHODS))


def test_every_method_can_be_had_somewhere():
    for name, method in METHODS.items():
        assert any(not unmet(method, row.traits) for row in PROBLEMS.values()), name


def test_needs_that_are_not_met_are_all_said():
    why = unmet(METHODS["deferral_thresholds"], Traits(10, 3, people=True))
    assert why == (
        "needs two classes; needs two groups; takes one expert; needs answers to what"
        " it trains on, not a model"
    )


def test_a_training_is_given_the_best_classifier_of_its_seed(whole):
    case = whole[1]
    trained = case.trained["classifier"]
    given = trainings.given_probs(
        case.config, case.problem, "classifier", trained, never
    )
    assert given.shape == (tiny.NUM_POOL, case.config.num_seeds, 2)
    for seed in range(case.config.num_seeds):
        runs = np.flatnonzero(trained.sweep.seeds == seed)
        best = runs[np.argmax(trained.result.score[runs])]
        variables, hparams = (
            jax.tree.map(lambda leaf, best=best: leaf[best], tree)
            for tree in (trained.result.variables, trained.sweep.hparams)
        )
        probs = trained.program.learner.predict(
            variables, hparams, case.problem.pool.inputs
        )
        np.testing.assert_allclose(given[:, seed], probs, atol=1e-6)
