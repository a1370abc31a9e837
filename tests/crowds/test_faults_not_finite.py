"""What is not finite, or no answer, label or category, never ends as a result."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from l2d_jax import models, optimizers
from l2d_jax.crowds import (
    allocation,
    closed_loop,
    competence,
    dawid_skene,
    reward_penalty,
    streams,
)
from l2d_jax.crowds.allocation import Annotators, Arrivals, Committee

pytestmark = pytest.mark.usefixtures("cheap_compiles")

T, M, Z = 40, 3, 2
COMMITTEES = [Committee(3), Committee(2, replace=False), Committee(0)]


def tasks(**changes):
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 2, T)
    right = generator.random((T, M)) < 0.9
    return Arrivals(
        generator.normal(size=(T, 2)).astype(np.float32),
        np.arange(T) % Z,
        np.where(right, labels[:, None], 1 - labels[:, None]),
        labels,
    )._replace(**changes)


def with_entry(array, place, value):
    changed = np.array(array)
    changed[place] = value
    return changed


def run(train, test, committee=COMMITTEES[0], crowd=None, allocator=None, traced=True):
    people = Annotators(np.full((M, Z), 0.5, np.float32), np.zeros(M, int))
    hparams = {name: jnp.float32(0) for name in closed_loop.HPARAMS}
    hparams |= {"learning_rate": jnp.float32(0.3), "rate": jnp.float32(0.1)}
    if allocator is None:
        allocator = closed_loop.make_allocator(
            models.linear(M), optimizers.make_plain_sgd(), crowd=crowd
        )

    def stream(train, test):
        state = allocator.init(
            jax.random.key(0), hparams, people, jnp.asarray(train.features)
        )
        _, measures = streams.run(
            allocator,
            hparams,
            committee,
            people,
            state,
            train,
            test,
            jax.random.key(1),
            num_pools=1,
            num_categories=Z,
            num_windows=2,
            batch_size=5,
        )
        return measures

    if traced:
        return jax.jit(stream)(*jax.tree.map(jnp.asarray, (train, test)))
    return stream(train, test)


@pytest.mark.long
@pytest.mark.parametrize("committee", COMMITTEES)
def test_a_nan_feature_is_flagged_and_scores_nothing(committee):
    sound = run(tasks(), tasks(), committee)
    for split in sound.values():
        assert not split["diverged"].any() and np.isfinite(split["accuracy"]).all()
    # In the second window: what was found before it stands.
    late = tasks(features=with_entry(tasks().features, (25, 0), np.nan))
    found = run(late, tasks(), committee)
    for split in ("stream", "test"):
        np.testing.assert_array_equal(found[split]["diverged"], [False, True])
        for name in ("accuracy", "gap", "regret", "roc_auc"):
            assert np.isnan(found[split][name][1]), (split, name)
            if name != "roc_auc" or split == "stream":
                assert found[split][name][0] == sound[split][name][0]
    assert np.isnan(found["test"]["first_accuracy"][1])
    assert np.isnan(found["test"]["workload"][1]).all()
    held_out = run(tasks(), late, committee)
    assert (
        held_out["test"]["diverged"].all() and not held_out["stream"]["diverged"].any()
    )
    assert np.isnan(held_out["test"]["accuracy"]).all()


@pytest.mark.long
@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_an_infinite_feature_is_flagged(value):
    late = tasks(features=with_entry(tasks().features, (25, 0), value))
    found = run(late, tasks())
    np.testing.assert_array_equal(found["stream"]["diverged"], [False, True])


@pytest.mark.long
@pytest.mark.parametrize(
    "crowd", [dawid_skene.make_crowd(), competence.make_crowd()], ids=["ds", "ours"]
)
def test_a_crowd_does_not_answer_for_nan(crowd):
    bad = tasks(features=with_entry(tasks().features, (5, 0), np.nan))
    found = run(bad, tasks(), crowd=crowd)
    assert found["stream"]["diverged"].all()
    assert np.isnan(found["stream"]["accuracy"][0])


def test_a_nan_where_nobody_can_be_asked_is_not_measured():
    features = with_entry(tasks().features, (25, 0), np.nan)
    unasked = tasks(features=features, answers=with_entry(tasks().answers, 25, -1))
    found = run(unasked, tasks(), allocator=reward_penalty.make_allocator(True))
    assert not found["stream"]["diverged"].any()
    assert np.isfinite(found["stream"]["accuracy"]).all()


CHANGES = {
    "answers": ("answers", (25, 1), 2, "answers must be 0, 1 or -1, got 2 in row 25"),
    "labels": ("labels", 25, 2, "labels must be 0, 1 or -1, got 2 in row 25"),
    "categories": ("categories", 25, -1, r"categories must be in \[0, 2\), got -1"),
    "above": ("categories", 25, 2, r"categories must be in \[0, 2\), got 2"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_unknown_values_are_refused_or_nan(change):
    field, place, value, message = CHANGES[change]
    bad = tasks(**{field: with_entry(getattr(tasks(), field), place, value)})
    for pair in ((bad, tasks()), (tasks(), bad)):
        with pytest.raises(ValueError, match=message):
            run(*pair, traced=False)
    found = run(bad, tasks(), committee=Committee(0))
    assert np.isfinite(found["stream"]["accuracy"][0])
    assert np.isnan(found["stream"]["accuracy"][1])


def test_gold_labels_are_known():
    with pytest.raises(ValueError, match="gold must be 0, 1 or -1, got 3"):
        run(tasks(gold=np.full(T, 3)), tasks(), traced=False)


def test_a_vote_of_unknown_answers():
    votes = np.array([0.5, 0.5], np.float32)
    with pytest.raises(ValueError, match="answers must be 0, 1 or -1, got 2 in row 0"):
        allocation.vote(votes, np.array([2, 0]))
    assert np.isnan(jax.jit(allocation.vote)(votes, np.array([2, 0])))
    assert np.isnan(jax.jit(allocation.vote)(votes * np.nan, np.array([1, 0])))


def test_a_category_does_not_wrap():
    similarity, available = np.eye(2, dtype=np.float32), np.ones(2, bool)
    for category in (-1, 2):
        with pytest.raises(ValueError, match=r"categories must be in \[0, 2\)"):
            allocation.prior_weights(similarity, category, available)
        found = jax.jit(allocation.prior_weights)(similarity, category, available)
        assert np.isnan(found).all()
    with pytest.raises(ValueError, match="categories must be in"):
        closed_loop.pretrain(
            jax.random.key(0),
            models.linear(2),
            similarity,
            np.zeros((2, 1), np.float32),
            np.array([0, -1]),
            learning_rate=jnp.float32(0.1),
            num_steps=1,
            batch_size=1,
        )


@pytest.mark.parametrize("committee", COMMITTEES)
def test_nan_weights_have_no_seats(committee):
    noise = allocation.draw_noise(jax.random.key(0), 1, 3, committee)[0]
    weights = np.array([0.5, np.nan, 0.5], np.float32)
    seats = np.asarray(allocation.seat(weights, noise, committee))
    assert np.isnan(seats).any() or not seats.any()
    for form in allocation.FORMS:
        scores = np.array([0.0, np.nan, 1.0], np.float32)
        assert np.isnan(allocation.head_weights(scores, np.ones(3, bool), form)).any()
        # Of who cannot be asked nothing is looked at.
        found = allocation.head_weights(scores, np.isfinite(scores), form)
        np.testing.assert_allclose(found.sum(), 1.0, rtol=1e-6)
    assert np.isnan(allocation.normalize(weights, np.ones(3, bool))).all()
