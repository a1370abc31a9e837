"""What is decided after training: the same policies behind any method."""

import jax
import numpy as np
import pytest
import tiny

from experiments import deferral, evaluation
from experiments.configs import digits
from experiments.method import ANSWERS, unmet
from experiments.methods import GROUPS, METHODS
from experiments.policies import POLICIES
from experiments.runtime.errors import ConfigError
from l2d_jax import decisions
from l2d_jax.engine import chunks
from l2d_jax.policies import capacity, fair_thresholds
from l2d_jax.types import Dataset

pytestmark = pytest.mark.usefixtures("cheap_compiles")
SEEDS = np.arange(2)
# The second seed is tested on fewer examples, and is padded.
SHARE, NUM_TESTED = 0.1, (40, 30)


def make_case(num_experts, stop=lambda: False, **policy):
    """Two runs of a tiny problem, whose decisions are drawn and not learned."""
    config = tiny.make_config()
    config.policy.update({"max_deferral": 0.2, "expert_share": SHARE, **policy})
    problem = tiny.make_problem(
        num_experts, test_rows=lambda s: np.arange(NUM_TESTED[s])
    )
    measures = evaluation.Measures(config, problem, stop)
    runs = evaluation.Runs(SEEDS, np.zeros(2, int), (), {})
    generator = np.random.default_rng(0)

    def decide(method, runs, trained, split):
        size = measures.runs_of(runs)["rows"][split].shape[1]
        shape = (len(SEEDS), size, num_experts)
        scores = generator.normal(size=shape).astype(np.float32)
        probs = np.full((*shape[:2], 2), 0.5, np.float32)
        decided = jax.vmap(decisions.decide)(probs, scores)
        return jax.tree.map(np.asarray, decided)

    measures._decide = decide
    return measures, runs


def deferred(decision, run):
    return decision.allocation[run, : NUM_TESTED[run], :-1]


@pytest.mark.long
def test_a_budget_of_a_batch_counts_the_examples_that_count():
    measures, runs = make_case(1)
    (test,) = measures._decide_all("deferral_budget", runs, {}, ("test",)).values()
    for run, size in enumerate(NUM_TESTED):
        assert deferred(test, run).sum() == 0.2 * size
        mine = deferred(test, run)[:, 0] > 0
        scores = test.defer_score[run, :size, 0]
        assert scores[mine].min() > scores[~mine].max()


def test_a_budget_of_a_stream_is_a_threshold_of_validation():
    measures, runs = make_case(1)
    found = measures._decide_all("confidence_stream", runs, {}, ("valid", "test"))
    # Of 18 validation examples as many whole ones as a fifth holds.
    assert (found["valid"].allocation[..., 0].sum(axis=1) == 3).all()
    # One threshold for all of a run: the order of the scores is that of who is asked.
    for decision in found.values():
        np.testing.assert_array_equal(
            decision.allocation[..., 0], decision.defer_score[..., 0] > 0
        )


@pytest.mark.long
@pytest.mark.parametrize("policy", ["capacity", "prices"])
def test_nobody_has_more_than_their_share(policy):
    measures, runs = make_case(3)
    part = {"capacity": "test", "prices": "valid"}[policy]
    found = measures._decide_all(f"one_vs_all_{policy}", runs, {}, ("valid", "test"))[
        part
    ]
    for run in SEEDS:
        taken = found.allocation[run, :, :-1]
        if part == "test":
            taken = deferred(found, run)
        asked = taken.sum(axis=0)
        # Prices are fit to a case more or less.
        slack = 0 if part == "test" else 1
        assert (asked <= SHARE * len(taken) + slack).all() and asked.sum() > 0
        assert taken.sum() <= 0.2 * len(taken) + slack
    # Who did not answer is not there to be asked.
    absent = measures._problem.test.expert_labels[:40] < 0
    if part == "test":
        assert not (found.allocation[0, :, :-1] > 0)[absent].any()


def test_groups_differ_by_the_tolerance_where_thresholds_can_do_it(monkeypatch):
    measures, runs = make_case(1, criterion="deferral_rate", tolerance=0.01)
    used, apply = [], fair_thresholds.apply

    def watched(key, decision, fitted, groups):
        used.append((fitted, groups))
        return apply(key, decision, fitted, groups)

    monkeypatch.setattr(fair_thresholds, "apply", watched)
    measures._decide_all("mixture_fair_budget", runs, {}, ("test",))
    test = measures._problem.test
    for (fitted, groups), size in zip(used, NUM_TESTED, strict=True):
        assert fitted.gap <= 0.01 + 1e-6 and fitted.asked.sum() <= 0.2 + 1e-6
        np.testing.assert_array_equal(groups, test.groups[:size])


def test_a_tolerance_out_of_reach_is_the_least_that_is_not(monkeypatch):
    measures, runs = make_case(1, criterion="equalized_odds", tolerance=0.0)
    tried, fit = [], fair_thresholds.fit

    def watched(*args):
        tried.append((args[:5], args[5], fit(*args)))
        return tried[-1][-1]

    monkeypatch.setattr(fair_thresholds, "fit", watched)
    measures._decide_all("mixture_fair", runs, {}, ("test",))
    assert len(tried) == 2
    for given, tolerance, fitted in tried:
        assert fitted.gap <= tolerance + 1e-6
        if tolerance > 1e-3:
            with pytest.raises(ValueError, match="the least that"):
                fit(*given, tolerance - 1e-3)


def test_what_is_asked_on_the_host_is_what_the_library_gives():
    measures, runs = make_case(3)
    drawn = {
        split: measures._decide(None, runs, {}, split) for split in ("valid", "test")
    }
    before = drawn["test"]
    measures._decide = lambda *args: jax.tree.map(np.copy, drawn[args[-1]])
    (found,) = measures._decide_all("decoupled_capacity", runs, {}, ("test",)).values()
    size = NUM_TESTED[1]
    answers = measures._problem.test.expert_labels[:size]
    mine = jax.tree.map(lambda leaf: leaf[1, :size], before)
    want = capacity.assign(
        jax.random.key(0),
        decisions.among(mine, answers >= 0),
        np.full(3, int(SHARE * size)),
        0.2,
    )
    np.testing.assert_array_equal(found.allocation[1, :size], want.allocation)
    # What pads a run is left as it was, and so is what the caller holds.
    np.testing.assert_array_equal(
        found.allocation[1, size:], before.allocation[1, size:]
    )


def test_a_run_that_diverged_is_left_as_it_was():
    measures, runs = make_case(1)
    draw = measures._decide

    def decide(*args):
        decision = draw(*args)
        scores = np.array(decision.defer_score)
        scores[0] = np.nan
        return decision._replace(defer_score=scores)

    measures._decide = decide
    (test,) = measures._decide_all("deferral_budget", runs, {}, ("test",)).values()
    assert np.isnan(test.defer_score[0]).all()
    assert deferred(test, 1).sum() == 0.2 * NUM_TESTED[1]


def test_what_the_examples_do_not_allow_is_one_line():
    measures, runs = make_case(1, criterion="equal_opportunity")
    pool = measures._problem.pool
    alone = pool._replace(labels=np.where(pool.groups == 1, 0, pool.labels))
    measures._problem = measures._problem._replace(pool=alone)
    with pytest.raises(
        ConfigError, match=r"methods: mixture_fair, seed 0: groups must"
    ):
        measures._decide_all("mixture_fair", runs, {}, ("test",))


def test_a_stop_is_heard_between_runs(monkeypatch):
    # Asked after each of two chunks of runs that are looked up, and after each run.
    stops = iter([False, False, True])
    measures, runs = make_case(1, stop=lambda: next(stops))
    kept, keep = [], capacity.keep_to_budget
    monkeypatch.setattr(
        capacity, "keep_to_budget", lambda *args: kept.append(args) or keep(*args)
    )
    with pytest.raises(chunks.Interrupted):
        measures._decide_all("deferral_budget", runs, {}, ("test",))
    assert len(kept) == 1


def test_every_policy_is_behind_every_method_that_asks_by_a_score():
    for key in POLICIES:
        behind = {name.removesuffix(f"_{key}") for name in GROUPS[key]}
        everybody = {name.removesuffix("_tuned") for name in GROUPS["tuned"]}
        # Nobody's answers are there to be fair by where they are imputed.
        left_out = {"imputed"} if ANSWERS in POLICIES[key].needs else set()
        assert behind == everybody - left_out
        assert not {*GROUPS[key]} & {*GROUPS["all"]}
    assert {*METHODS} == {name for names in GROUPS.values() for name in names}
    labels = [method.label for method in METHODS.values()]
    assert len(set(labels)) == len(labels)


def test_a_policy_that_cannot_be_had_says_why():
    config = digits.get_config("smoke")
    config.methods = ("deferral_fair",)
    with pytest.raises(
        ConfigError, match=r"deferral_fair .* needs two classes; needs g"
    ):
        deferral.choose_methods(config, "digits")
    config = tiny.make_config(methods=("all", "fair"))
    names, reasons = deferral.choose_methods(config, "synthetic")
    assert "mixture_fair" in names and "picce_fair" in reasons
    del config.policy
    config.methods = ("deferral_budget",)
    with pytest.raises(ConfigError, match="needs policy in the config"):
        deferral.choose_methods(config, "synthetic")


TRACED = [
    name
    for name, method in METHODS.items()
    if method.policy is not None
    and not any(name.endswith(f"_{key}") for key in POLICIES)
] + ["deferral_tuned"]


@pytest.mark.long
@pytest.mark.parametrize("name", TRACED)
def test_what_is_chosen_is_chosen_on_the_examples_that_count(name):
    """Seeds whose validation parts differ in size are padded with other rows."""
    generator = np.random.default_rng(0)
    size, counted = 40, 25
    method = METHODS[name]
    num_experts = 1 if unmet(method, tiny.make_problem(3).traits) else 3
    policy = method.policy(tiny.make_config())
    hparams = {"cost": 0.1, "fairness": 0.5, "smoothing": 0.1}
    labels = generator.integers(0, 2, size)
    right = generator.random((size, num_experts)) < 0.8
    logits = generator.normal(size=(size, 2)) + 2 * np.eye(2)[labels]
    columns = {
        "labels": labels,
        "answers": np.where(right, labels[:, None], 1 - labels[:, None]),
        "groups": generator.integers(0, 2, size),
        "probs": np.asarray(jax.nn.softmax(logits.astype(np.float32))),
        "scores": generator.normal(size=(size, num_experts)).astype(np.float32),
        "weights": np.float32(np.arange(size) < counted),
    }

    @jax.jit
    def fit(columns):
        decision = decisions.decide(columns["probs"], columns["scores"])
        batch = Dataset(
            columns["labels"],
            columns["labels"],
            columns["answers"],
            columns["groups"],
            columns["weights"],
        )
        return policy.fit(jax.random.key(0), hparams, decision, batch)

    expected = fit({key: column[:counted] for key, column in columns.items()})
    found = fit(columns)
    for ours, theirs in zip(
        jax.tree.leaves(found), jax.tree.leaves(expected), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
