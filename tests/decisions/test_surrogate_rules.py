"""What outputs of each surrogate decide, and what they estimate of the experts."""

import importlib
import pkgutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from l2d_jax import decisions, losses

pytestmark = pytest.mark.usefixtures("cheap_compiles")

ONE_EXPERT = {
    "asymmetric": decisions.asymmetric_softmax_decision,
    "realizable": decisions.realizable_decision,
    "priced": lambda logits: decisions.priced_deferral_decision(logits, 0.3),
}
"""Rules of logits ``[B, K+1]``."""
SEVERAL = {
    "softmax": decisions.multi_expert_decision,
    "decoupled": decisions.decoupled_decision,
    "picce": decisions.picce_decision,
    "picce one-vs-all": decisions.picce_one_vs_all_decision,
}
"""Rules of logits ``[B, K+M]`` and M."""
WITHOUT_ESTIMATE = ("realizable", "two-stage", "mixture of experts")


def two_stage(logits):
    return decisions.two_stage_decision(
        jax.nn.softmax(logits[:, :3], axis=1), logits[:, 3:]
    )


def mixture_of_experts(logits):
    return decisions.mixture_of_experts_decision(logits[:, :3], logits[:, 3:])


ALL = {
    **ONE_EXPERT,
    **{
        name: lambda g, rule=rule: rule(g, g.shape[1] - 3)
        for name, rule in SEVERAL.items()
    },
    "two-stage": two_stage,
    "mixture of experts": mixture_of_experts,
}
"""Rules of logits whose first three are the classes'."""


def num_outputs(name):
    """Of three classes, and of one expert or two and perhaps the classifier."""
    return 4 if name in ONE_EXPERT else 5 + (name in WITHOUT_ESTIMATE)


def random_logits(num_columns, size=200):
    return np.random.default_rng(num_columns).normal(scale=2, size=(size, num_columns))


# By hand.


def test_asymmetric_by_hand():
    # Against all but the greatest: 3 : (1 + 1), 3 : (1 + 2), and one of two at 4.
    logits = np.log([[1.0, 5, 1, 3], [1, 2, 2.5, 3], [4, 4, 1, 5]])
    decision = decisions.asymmetric_softmax_decision(logits)
    expected = [[3 / 5], [3 / 6], [5 / 10]]
    np.testing.assert_allclose(decision.expert_correct_prob, expected, rtol=1e-5)
    np.testing.assert_allclose(
        decision.defer_score, np.log([[3 / 5], [3 / 2.5], [5 / 4]]), rtol=1e-5
    )
    np.testing.assert_array_equal(decision.allocation, [[0, 1], [1, 0], [1, 0]])


def test_realizable_by_hand():
    logits = np.log([[5.0, 2, 3], [3, 2, 5]])
    decision = decisions.realizable_decision(logits)
    np.testing.assert_allclose(decision.defer_score, [[-0.2], [0.2]], rtol=1e-5)
    np.testing.assert_allclose(
        decision.class_probs, [[5 / 7, 2 / 7], [3 / 5, 2 / 5]], rtol=1e-5
    )
    np.testing.assert_array_equal(decision.allocation, [[0, 1], [1, 0]])


def test_several_by_hand():
    # Classes 1 : 3, so shares of 4; experts 2 and 3.5, then 5 and 1, then a tie at 2.
    logits = np.log([[1.0, 3, 2, 3.5], [1, 3, 5, 1], [1, 3, 2, 2]])
    decision = decisions.multi_expert_decision(logits, 2)
    shares = [[0.5, 0.875], [1.0, 0.25], [0.5, 0.5]]
    np.testing.assert_allclose(decision.expert_correct_prob, shares, rtol=1e-5)
    np.testing.assert_array_equal(decision.allocation, np.eye(3)[[1, 0, 2]])
    np.testing.assert_allclose(decision.class_probs, 3 * [[0.25, 0.75]], rtol=1e-5)
    np.testing.assert_allclose(
        decision.defer_score,
        np.log([[2 / 3, 3.5 / 3], [5 / 3, 1 / 3], 2 * [2 / 3]]),
        rtol=1e-5,
    )

    first = decisions.picce_decision(logits, 2)
    expected = [[np.nan, 0.875], [1.0, np.nan], [0.5, np.nan]]
    np.testing.assert_allclose(first.expert_correct_prob, expected, rtol=1e-5)
    np.testing.assert_array_equal(first.allocation, decision.allocation)

    first = decisions.picce_one_vs_all_decision(logits, 2)
    expected = [[np.nan, 3.5 / 4.5], [5 / 6, np.nan], [2 / 3, np.nan]]
    np.testing.assert_allclose(first.expert_correct_prob, expected, rtol=1e-5)
    np.testing.assert_array_equal(first.allocation, decision.allocation)

    # Chances, not scores, are compared: .75 of the class with 7/9 and 5/6.
    apart = decisions.decoupled_decision(logits, 2)
    expected = [[2 / 3, 3.5 / 4.5], [5 / 6, 1 / 2], [2 / 3, 2 / 3]]
    np.testing.assert_allclose(apart.expert_correct_prob, expected, rtol=1e-5)
    np.testing.assert_allclose(
        apart.defer_score, np.subtract(expected, 0.75), atol=1e-6
    )
    np.testing.assert_array_equal(apart.allocation, np.eye(3)[[1, 0, 2]])


def test_priced_by_hand():
    # Of classes .5, .3, .2 and an expert of .6, at .2: the minimiser, off by a shift.
    logits = np.log([[0.7, 0.3, 0.2, 0.6]]) + 3.0
    decision = decisions.priced_deferral_decision(logits, 0.2)
    np.testing.assert_allclose(decision.class_probs, [[0.5, 0.3, 0.2]], rtol=1e-5)
    np.testing.assert_allclose(decision.expert_correct_prob, [[0.6]], rtol=1e-5)
    np.testing.assert_array_equal(decision.allocation, [[0, 1]])
    free = decisions.priced_deferral_decision(logits, 0.0)
    known = decisions.deferral_decision(logits)
    for ours, theirs in zip(free, known, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def test_a_class_is_not_taken_below_the_second():
    """A price of 1 takes half off; of shares .4, .35, .25 that leaves the second's."""
    logits = np.log([[0.4, 0.35, 0.25, 0.1]])
    decision = decisions.priced_deferral_decision(logits, 1.0)
    expected = np.array([[0.35, 0.35, 0.25]]) / 0.95
    np.testing.assert_allclose(decision.class_probs, expected, rtol=1e-5)


def test_two_stage_and_mixture_read_the_classifier_last():
    scores = np.array([[0.5, 1.5, 1.0], [0.5, 0.2, 1.0], [1.0, 0.0, 1.0]])
    classes = np.log([[1.0, 3], [1, 3], [3, 1]])
    for decision in (
        decisions.two_stage_decision(
            np.array([[0.25, 0.75]] * 2 + [[0.75, 0.25]]), scores
        ),
        decisions.mixture_of_experts_decision(classes, scores),
    ):
        expected = [[-0.5, 0.5], [-0.5, -0.8], [0.0, -1.0]]
        np.testing.assert_allclose(decision.defer_score, expected, atol=1e-6)
        np.testing.assert_array_equal(decision.allocation, np.eye(3)[[1, 2, 2]])
        np.testing.assert_array_equal(decisions.prediction(decision), [1, 1, 0])
        np.testing.assert_allclose(decision.class_probs[0], [0.25, 0.75], rtol=1e-5)


# Properties.


@pytest.mark.long
@pytest.mark.parametrize("name", ALL)
def test_rows_are_decisions(name):
    logits = random_logits(num_outputs(name))
    decision = jax.jit(ALL[name])(logits)
    num_experts = decision.defer_score.shape[1]
    assert num_experts == (1 if name in ONE_EXPERT else 2)
    np.testing.assert_allclose(decision.class_probs.sum(axis=1), 1.0, rtol=1e-5)
    np.testing.assert_array_equal(decision.allocation.sum(axis=1), 1.0)
    estimate = np.asarray(decision.expert_correct_prob)
    assert estimate.shape == decision.defer_score.shape
    if name in WITHOUT_ESTIMATE:
        assert np.isnan(estimate).all()
    else:
        per_row = 1 if name.startswith("picce") else num_experts
        assert (np.isfinite(estimate).sum(axis=1) == per_row).all()
        assert np.nanmin(estimate) >= 0 and np.nanmax(estimate) <= 1
    eager = ALL[name](logits)
    for ours, theirs in zip(decision, eager, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    # Both happen, so that the rule says something.
    kept = np.asarray(decision.allocation)[:, -1]
    assert 0 < kept.sum() < len(kept)


@pytest.mark.parametrize("name", [name for name in ALL if name != "decoupled"])
def test_the_greatest_output_answers(name):
    logits = random_logits(num_outputs(name))
    decision = ALL[name](logits)
    if name in ("two-stage", "mixture of experts"):
        who = np.argmax(logits[:, 3:], axis=1)
    else:
        who = np.argmax(logits, axis=1)
        who = np.where(who < 3, decision.defer_score.shape[1], who - 3)
    np.testing.assert_array_equal(np.argmax(decision.allocation, axis=1), who)
    if name != "two-stage":
        labels = np.argmax(logits[:, :3], axis=1)
        same = decisions.prediction(decision) == labels
        assert same.all() if name != "priced" else same.mean() > 0.8


@pytest.mark.parametrize("name", ["asymmetric", "decoupled"])
def test_deferring_is_to_be_likelier_right_than_the_best_class(name):
    decision = ALL[name](random_logits(num_outputs(name)))
    likelier = np.max(decision.expert_correct_prob, axis=1) > np.max(
        decision.class_probs, axis=1
    )
    np.testing.assert_array_equal(np.asarray(decision.allocation)[:, -1] == 0, likelier)


def test_one_expert_of_several_is_that_of_one():
    logits = random_logits(4)
    for ours, theirs in zip(
        decisions.multi_expert_decision(logits, 1),
        decisions.deferral_decision(logits),
        strict=True,
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ALL)
def test_finite_at_extreme_logits(name):
    columns = num_outputs(name)
    signs = np.array(np.meshgrid(*columns * [[-1e4, 1e4]])).reshape(columns, -1).T
    logits = np.concatenate([signs, np.zeros((1, columns))]).astype(np.float32)

    @jax.jit
    def with_slope(logits):
        def total(logits):
            decision = ALL[name](logits)
            # NaN is no estimate.
            fields = (decision.defer_score, decision.class_probs[:, :1])
            estimate = jnp.nan_to_num(decision.expert_correct_prob)
            return sum(map(jnp.sum, fields)) + jnp.sum(estimate), decision

        return jax.grad(total, has_aux=True)(logits)

    slope, decision = with_slope(logits)
    assert np.isfinite(slope).all()
    for field in (decision.defer_score, decision.class_probs, decision.allocation):
        assert np.isfinite(field).all()
    # A tie keeps; of three classes at 1/3 and a chance of 1/2 there is none.
    assert decision.allocation[-1, -1] == (name != "decoupled")


def test_estimates_at_extreme_logits():
    logits = np.array([[1e4, 1e4, 1e4], [1e4, -1e4, -1e4], [-1e4, -1e4, 1e4]])
    for rule, expected in (
        (decisions.asymmetric_softmax_decision, [0.5, 0.5, 1.0]),
        (lambda g: decisions.multi_expert_decision(g, 1), [0.5, 0.0, 1.0]),
        (lambda g: decisions.priced_deferral_decision(g, 0.5), [0.75, 0.0, 1.0]),
    ):
        found = rule(logits).expert_correct_prob[:, 0]
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_a_price_is_traced_and_vmapped():
    logits, prices = random_logits(4, 8), jnp.array([0.0, 0.3])
    mapped = jax.vmap(decisions.priced_deferral_decision, (None, 0))(logits, prices)
    for run, price in enumerate((0.0, 0.3)):
        alone = decisions.priced_deferral_decision(logits, price)
        for ours, theirs in zip(mapped, alone, strict=True):
            np.testing.assert_allclose(ours[run], theirs, rtol=1e-5, atol=1e-6)


# Wrong input.


@pytest.mark.parametrize(
    ("call", "message"),
    [
        *(
            (lambda rule=rule: rule(np.zeros((2, 2))), r"^logits .*\[B, K\+1\]")
            for rule in ONE_EXPERT.values()
        ),
        *(
            (lambda rule=rule: rule(np.zeros((2, 3)), 2), r"^logits .*\[B, K\+M\]")
            for rule in SEVERAL.values()
        ),
        *(
            (
                lambda rule=rule: rule(np.zeros((2, 3)), 0),
                "^num_experts must be at least",
            )
            for rule in SEVERAL.values()
        ),
        *(
            (lambda rule=rule: rule(np.zeros(4), 1), r"^logits .*\[B, K\+M\]")
            for rule in SEVERAL.values()
        ),
        (
            lambda: decisions.priced_deferral_decision(np.zeros((2, 4)), -1.0),
            "^price must be finite and >= 0, got -1",
        ),
        (
            lambda: decisions.priced_deferral_decision(np.zeros((2, 4)), np.ones(2)),
            "^price must have shape",
        ),
        (
            lambda: decisions.two_stage_decision(np.zeros((2, 3)), np.zeros((3, 2))),
            "^scores must have the 2 examples",
        ),
        (
            lambda: decisions.two_stage_decision(np.zeros((2, 3)), np.zeros((2, 1))),
            r"^scores must have shape \[B, M\+1\]",
        ),
        (
            lambda: decisions.mixture_of_experts_decision(
                np.zeros((2, 3)), np.zeros((3, 2))
            ),
            "^gate_logits must have the 2 examples",
        ),
        (
            lambda: decisions.mixture_of_experts_decision(
                np.zeros(3), np.zeros((3, 2))
            ),
            r"^class_logits must have shape \[B, K\]",
        ),
    ],
)
def test_wrong_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# The packages.


@pytest.mark.parametrize("package", [losses, decisions])
def test_the_package_names_all_that_is_public(package):
    public = {
        name
        for info in pkgutil.iter_modules(package.__path__)
        if not info.name.startswith("_")
        for module in [importlib.import_module(f"{package.__name__}.{info.name}")]
        for name, value in vars(module).items()
        if not name.startswith("_")
        and getattr(value, "__module__", "") == module.__name__
    }
    assert public == set(package.__all__)
