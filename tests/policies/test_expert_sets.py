"""Sets of experts among whom a right one is, as often as was asked for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from l2d_jax import decisions
from l2d_jax.policies import expert_sets

NAN, INF = np.nan, np.inf
FIT = [expert_sets.fit_by_rank, expert_sets.fit_by_score]
MEMBERS = {
    expert_sets.fit_by_rank: expert_sets.members_by_rank,
    expert_sets.fit_by_score: expert_sets.members_by_score,
}


def crowd(rng, size, num_experts=10, noise=0.5):
    """Estimates, and who is right; nobody in about one case of seven."""
    ability = rng.beta(1.0, 4.0, (size, num_experts)) * 0.9
    right = rng.random(ability.shape) < ability
    logits = np.log(ability / (1 - ability)) + rng.normal(0, noise, ability.shape)
    return (1 / (1 + np.exp(-logits))).astype(np.float32), right


def sets(fit, probs, right, alpha, **how):
    return np.asarray(MEMBERS[fit](probs, fit(*right, alpha, **how).level))


def test_sets_by_hand():
    # Ranks are those of expert 2, 0, 1; sums before them 0, 0.5, 0.75.
    probs = np.array([[0.25, 0.125, 0.5]])
    for level, members in (
        (0.0, [0, 0, 1]),
        (0.49, [0, 0, 1]),
        (0.5, [1, 0, 1]),
        (0.74, [1, 0, 1]),
        (0.75, [1, 1, 1]),
        (INF, [1, 1, 1]),
    ):
        found = expert_sets.members_by_rank(probs, level)
        np.testing.assert_array_equal(found, np.array([members], bool))
    for level, members in (
        (-INF, [1, 1, 1]),
        (0.125, [1, 1, 1]),
        (0.2, [1, 0, 1]),
        (0.5, [0, 0, 1]),
        (INF, [0, 0, 1]),
    ):
        found = expert_sets.members_by_score(probs, level)
        np.testing.assert_array_equal(found, np.array([members], bool))


@pytest.mark.parametrize(
    ("fit", "every", "levels"),
    [
        # Sums before the first right expert: 0, 0.75, 0.5, 0.5 and 0.
        (expert_sets.fit_by_rank, False, {0.2: 0.75, 0.4: 0.5, 0.6: 0.5, 0.7: 0.0}),
        # Sums down to the last: 0.75, 0.875, 0.75, 0.875 and 0.5.
        (expert_sets.fit_by_rank, True, {0.2: 0.875, 0.4: 0.875, 0.6: 0.75, 0.9: 0.5}),
        # Of right ones the greatest where it is not the first: 0.125, 0.25 and 0.25.
        (expert_sets.fit_by_score, False, {0.2: 0.125, 0.4: 0.25, 0.6: 0.25, 0.7: INF}),
        # Losses of 1/2 at 0.25; 1 at 0.125; 1 at 0.25; 1/2 at 0.125 and at 0.25.
        (expert_sets.fit_by_score, True, {0.2: 0.125, 0.4: 0.125, 0.5: 0.25, 0.8: INF}),
    ],
)
def test_levels_by_hand(fit, every, levels):
    probs = np.tile([0.25, 0.125, 0.5], (7, 1))
    right = np.array(
        [
            [1, 0, 1],
            [0, 1, 0],
            [1, 0, 0],
            [1, 1, 0],
            [0, 0, 1],
            [0, 0, 0],
            [NAN, NAN, NAN],
        ]
    )
    for alpha, level in levels.items():
        found = fit(probs, right, alpha, every)
        assert (found.level, found.num_cases) == (level, 5), alpha
        # Of six that anybody answered.
        assert found.nobody_right == 1 / 6
    # Of 6 cases, 5 and one to come, less than one may be missed.
    assert abs(fit(probs, right, 0.16, every).level) == INF
    assert MEMBERS[fit](probs, fit(probs, right, 0.16, every).level).all()


@pytest.mark.parametrize("fit", FIT)
@pytest.mark.parametrize("every", [False, True])
def test_the_level_is_the_first_of_all_that_does(fit, every):
    # Of every level at which sets change, by the definition on the cases themselves.
    rng = np.random.default_rng(0)
    for _ in range(20):
        probs, right = crowd(rng, 40, 4)
        probs = probs.round(1)
        someone = right.any(axis=1)
        if fit is expert_sets.fit_by_rank:
            ranked = np.sort(probs, axis=1)[:, ::-1]
            order = np.argsort(-probs, axis=1, kind="stable")
            sums = np.cumsum(ranked, axis=1, dtype=jnp.result_type(float))
            good = np.take_along_axis(right, order, axis=1)
            at = [np.flatnonzero(row)[-1 if every else 0] for row in good[someone]]
            # Before the first right one, or down to the last.
            padded = np.pad(sums[someone], ((0, 0), (1, 0)))
            statistic = padded[np.arange(len(at)), np.array(at) + every]
            expected = np.sort(statistic)[int(np.ceil((len(at) + 1) * 0.8)) - 1]
        else:
            expected = -INF
            for level in [*np.unique(probs), INF]:
                members = np.asarray(expert_sets.members_by_score(probs, level))
                missed = (right & ~members).sum(axis=1)[someone]
                count = right.sum(axis=1)[someone]
                loss = missed / count if every else missed == count
                if loss.sum() + 1 <= 0.2 * (len(loss) + 1) + 1e-9:
                    expected = max(expected, level)
        found = fit(probs, right, 0.2, every)
        # Scores of nobody to be missed make the same sets at the next above.
        members = MEMBERS[fit]
        np.testing.assert_array_equal(
            members(probs, found.level), members(probs, expected)
        )
        if fit is expert_sets.fit_by_rank:
            assert found.level == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("noise", [0.1, 4.0])
@pytest.mark.parametrize("fit", FIT)
def test_a_right_one_is_in_the_set_as_often_as_asked(fit, noise):
    rng = np.random.default_rng(1)
    rates, sizes = [], []
    for _ in range(200):
        probs, right = crowd(rng, 400, noise=noise)
        level = fit(probs[:100], right[:100], 0.1).level
        members = np.asarray(MEMBERS[fit](probs[100:], level))
        there = right[100:].any(axis=1)
        rates.append((members & right[100:]).any(axis=1)[there].mean())
        sizes.append(members.sum(axis=1).mean())
    # The mean of 200 has a standard error of 0.002; the most is 1 / 87 more.
    assert 0.895 <= np.mean(rates) <= 0.92
    # Good estimates are what makes a set small.
    assert (np.mean(sizes) < 5.0) == (noise == 0.1)
    assert np.mean(sizes) < 8.5


def test_all_who_are_right_as_often_as_asked():
    rng = np.random.default_rng(2)
    of_all, of_shares, sizes = [], [], []
    for _ in range(200):
        probs, right = crowd(rng, 400)
        good, there = right[100:], right[100:].any(axis=1)
        past = probs[:100], right[:100]
        ranked = sets(expert_sets.fit_by_rank, probs[100:], past, 0.1, every=True)
        of_all.append((ranked | ~good).all(axis=1)[there].mean())
        scored = sets(expert_sets.fit_by_score, probs[100:], past, 0.1, every=True)
        found = (scored & good).sum(axis=1)[there] / good.sum(axis=1)[there]
        of_shares.append(found.mean())
        sizes.append([ranked.sum(axis=1).mean(), scored.sum(axis=1).mean()])
    assert np.mean(of_all) >= 0.895
    assert 0.895 <= np.mean(of_shares) <= 0.92
    # Sets of all by rank are of nearly everybody.
    assert np.mean(sizes, axis=0)[0] > 7.0 > np.mean(sizes, axis=0)[1]


def test_cases_in_which_nobody_is_right_change_no_set():
    rng = np.random.default_rng(3)
    probs, right = crowd(rng, 300)
    some = right.any(axis=1)
    # Counted as missed they would be more than alpha, and sets of everybody.
    assert 0.1 < (~some).mean() < 0.3
    for fit in FIT:
        for every in (False, True):
            all_of_them = fit(probs, right, 0.1, every)
            of_some = fit(probs[some], right[some], 0.1, every)
            assert all_of_them.level == of_some.level
            assert all_of_them.num_cases == of_some.num_cases == some.sum()
            assert all_of_them.nobody_right == pytest.approx((~some).mean())
            assert of_some.nobody_right == 0.0


@pytest.mark.parametrize(("beta", "kappa"), [(1e-3, 0.2), (1.0, 0.6), (3.5, 0.9)])
def test_a_regularized_score_makes_no_other_sets(beta, kappa):
    # {m: s + beta (s - kappa) > 1 - lambda}, lambda of a fine grid by the same rule.
    rng = np.random.default_rng(4)
    probs, right = crowd(rng, 800)
    past, good = probs[:400], right[:400]
    some = good.any(axis=1)

    def members(probs, one_less):
        first = np.eye(10, dtype=bool)[probs.argmax(axis=1)]
        return (probs + beta * (probs - kappa) > one_less) | first

    best = None
    for one_less in np.linspace(-beta * kappa - 0.01, 1 + beta * (1 - kappa), 1500):
        kept = (members(past, one_less) & good).sum(axis=1)[some]
        loss = 1 - kept / good.sum(axis=1)[some]
        if loss.sum() + 1 <= 0.1 * (len(loss) + 1):
            best = one_less
    theirs = members(probs[400:], best)
    ours = sets(expert_sets.fit_by_score, probs[400:], (past, good), 0.1, every=True)
    # Theirs are as much greater as the grid is coarse.
    assert (ours <= theirs).all()
    assert (theirs & ~ours).mean() < 0.005


def test_who_did_not_answer_is_never_the_right_one():
    probs = np.tile([0.5, 0.25, 0.125], (9, 1))
    right = np.tile([NAN, 1.0, 0.0], (9, 1))
    assert expert_sets.fit_by_rank(probs, right, 0.1).level == 0.5
    assert expert_sets.fit_by_score(probs, right, 0.1).level == 0.25
    found = expert_sets.fit_by_rank(probs, np.full((9, 3), NAN), 0.1)
    assert found.num_cases == 0 and found.level == INF and np.isnan(found.nobody_right)
    assert expert_sets.fit_by_score(probs, np.full((9, 3), NAN), 0.1).level == -INF


def test_where_an_estimate_is_unknown_everybody_is_asked():
    probs = np.array([[0.5, NAN, 0.25], [0.5, 0.25, 0.125]])
    for found in (
        expert_sets.members_by_rank(probs, 0.0),
        expert_sets.members_by_score(probs, INF),
    ):
        np.testing.assert_array_equal(found, [[True] * 3, [True, False, False]])
    # So it is never missed where a level is fit, either.
    unknown, right = np.tile(probs[:1], (19, 1)), np.tile([0, 1, 0], (19, 1))
    assert expert_sets.fit_by_rank(unknown, right, 0.05).level == 0.0
    assert expert_sets.fit_by_score(unknown, right, 0.05).level == INF


def test_equal_estimates_are_ranked_in_their_order_traced_or_not():
    # As of people whose estimate is one for all cases: all sums are equal to a level.
    rng = np.random.default_rng(5)
    probs = np.tile([0.3, 0.1, 0.3, 0.7, 0.1], (200, 1))
    right = rng.random(probs.shape) < probs
    found = expert_sets.fit_by_rank(probs, right, 0.15)
    plain = expert_sets.members_by_rank(probs, found.level)
    assert np.asarray(plain)[0].tolist() == [True, False, False, True, False]
    traced = jax.jit(expert_sets.members_by_rank)
    np.testing.assert_array_equal(traced(probs, jnp.asarray(found.level)), plain)
    np.testing.assert_array_equal(traced(probs, jnp.asarray(NAN)), True)
    scored = jax.jit(expert_sets.members_by_score)
    np.testing.assert_array_equal(scored(probs, jnp.asarray(NAN)), True)
    np.testing.assert_array_equal(
        scored(probs, jnp.asarray(0.3))[0], [True, False, True, True, False]
    )


def test_a_set_votes_on_what_is_deferred():
    scores = [[0.5, 0.4, 0.3], [-1.0, -1.0, -1.0], [-INF, 0.4, 0.3], [0.5, -INF, -INF]]
    decision = decisions.decide(np.tile([0.75, 0.25], (4, 1)), np.array(scores))
    members = np.array([[1, 1, 1], [1, 1, 1], [1, 1, 1], [0, 1, 0]], bool)
    found = expert_sets.consult(decision, members)
    third, half = 1 / 3, 1 / 2
    np.testing.assert_allclose(
        found.allocation,
        [[third, third, third, 0], [0, 0, 0, 1], [0, half, half, 0], [1, 0, 0, 0]],
        rtol=1e-6,
    )
    answers = np.array([[0, 1, 1], [1, 1, 1], [0, 1, 1], [1, 0, 0]])
    assert np.asarray(decisions.answer(found, answers)).tolist() == [1, 0, 1, 1]
    np.testing.assert_array_equal(found.defer_score, decision.defer_score)


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (lambda p, r: expert_sets.fit_by_rank(p, r[:1], 0.1), "expert_correct must"),
        (lambda p, r: expert_sets.fit_by_rank(p, r + 1, 0.1), "expert_correct must be"),
        (lambda p, r: expert_sets.fit_by_score(p, r, 0.0), "alpha must be in"),
        (lambda p, r: expert_sets.fit_by_score(p, r, NAN), "alpha must be in"),
        (lambda p, r: expert_sets.fit_by_score(p + 1, r, 0.1), "expert_correct_prob"),
        (lambda p, r: expert_sets.fit_by_rank(p[0], r, 0.1), "expert_correct_prob"),
        (lambda p, r: expert_sets.members_by_rank(p, -1.0), "level must be >= 0"),
        (lambda p, r: expert_sets.members_by_rank(p, NAN), "level must be >= 0"),
        (lambda p, r: expert_sets.members_by_score(p, NAN), "level must not be NaN"),
        (
            lambda p, r: expert_sets.consult(
                decisions.decide(np.full((2, 2), 0.5), p), r[:1]
            ),
            "members must have shape",
        ),
    ],
)
def test_what_cannot_be_used_is_named(run, message):
    with pytest.raises(ValueError, match=message):
        run(np.full((2, 3), 0.5), np.ones((2, 3)))
