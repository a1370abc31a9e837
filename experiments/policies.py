"""What is decided after training, on validation examples: the policies, by name.

A policy of `POLICIES` stands behind every method that asks where a score is > 0:
``NAME_budget`` of `experiments.methods.METHODS` is the method NAME within a budget.
Others belong to one method alone.

What guarantees something with confidence is not among them: it takes cases that nothing
was chosen on, and here validation examples have chosen the epoch and the
hyperparameters. `l2d_jax.policies.guarantees` and `l2d_jax.table` have it.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments import measure
from experiments.method import (
    ANSWERS,
    MANY_GROUPS,
    TWO_CLASSES,
    Policy,
    PolicyRow,
)
from l2d_jax import decisions
from l2d_jax.crowds import one_coin
from l2d_jax.learners import mixture
from l2d_jax.learners.batches import experts_correct
from l2d_jax.policies import (
    capacity,
    committees,
    fair_thresholds,
    one_threshold,
    prices,
    thresholds,
)
from l2d_jax.types import Batch, Decision, HParams

# Thresholds on uncertainty that are tried: quantiles of that of the examples.
_NUM_UNCERTAINTIES = 101


def _label_one(batch: Batch) -> jax.Array:
    """The one expert's probability of label 1 of two."""
    if batch.expert_probs is not None:
        return jnp.asarray(batch.expert_probs)[:, 0, 1]
    assert batch.expert_labels is not None
    return (jnp.asarray(batch.expert_labels)[:, 0] == 1).astype(jnp.float32)


def two_thresholds(objective: str) -> Callable[[Any], Policy]:
    """Two thresholds on a classifier's probability for each group."""

    def make(config: Any) -> Policy:
        def fit(
            key: jax.Array, hparams: HParams, decision: Decision, batch: Batch
        ) -> thresholds.Thresholds:
            probs = decision.class_probs[:, 1]
            assert batch.groups is not None
            return thresholds.search(
                key,
                probs,
                batch.groups,
                probs,
                batch.labels,
                batch.groups,
                _label_one(batch) if objective == "defer" else None,
                hparams["cost"],
                hparams["fairness"],
                config.threshold_draws,
                weights_train=batch.weights,
                weights_a=batch.weights,
            )

        def apply(
            key: jax.Array, chosen: Any, decision: Decision, batch: Batch
        ) -> Decision:
            del key
            assert batch.groups is not None
            passed = thresholds.apply_thresholds(
                chosen, decision.class_probs[:, 1], batch.groups
            ).astype(jnp.float32)
            allocation = jnp.stack([passed, 1.0 - passed], axis=1)
            return decision._replace(allocation=allocation)

        return Policy(fit, apply, ("cost", "fairness"))

    return make


def uncertainty_threshold(objective: str) -> Callable[[Any], Policy]:
    """One threshold on a classifier's own score of passing, of least loss."""

    def make(config: Any) -> Policy:
        del config
        score = mixture.loss_score(objective, regularized=True)
        of_answers = ("smoothing",) if objective == "defer" else ()
        read = ("cost", "fairness", *of_answers)

        def fit(
            key: jax.Array, hparams: HParams, decision: Decision, batch: Batch
        ) -> jax.Array:
            del key
            seen = decision.defer_score[:, 0]
            if batch.weights is not None:
                seen = jnp.where(batch.weights > 0, seen, jnp.nan)
            shares = jnp.linspace(0.0, 1.0, _NUM_UNCERTAINTIES)
            candidates = jnp.nanquantile(seen, shares)

            def score_of(candidate: jax.Array) -> jax.Array:
                # So far from 0 that the gate is 0 or 1.
                gate = jnp.where(decision.defer_score > candidate, 1e4, -1e4)
                return score(decision._replace(defer_score=gate), batch, hparams)

            return candidates[jnp.argmax(jax.lax.map(score_of, candidates))]

        def apply(
            key: jax.Array, chosen: Any, decision: Decision, batch: Batch
        ) -> Decision:
            del key, batch
            return decisions.apply_threshold(decision, chosen)

        return Policy(fit, apply, read)

    return make


def best_threshold(config: Any) -> Policy:
    """One threshold on the defer score, of the best team."""
    del config

    def fit(
        key: jax.Array, hparams: HParams, decision: Decision, batch: Batch
    ) -> jax.Array:
        del key, hparams
        correct, _ = experts_correct(batch, jnp.float32)
        return one_threshold.best_threshold(
            decisions.among(decision, measure.available(batch)),
            batch.labels,
            correct,
            batch.weights,
        )

    def apply(
        key: jax.Array, chosen: Any, decision: Decision, batch: Batch
    ) -> Decision:
        del key, batch
        return decisions.apply_threshold(decision, chosen)

    return Policy(fit, apply)


def _rates(batch: Batch) -> jax.Array:
    """How often each expert is right, float ``[M]``.

    With one right and one wrong answer more, so that two do not beat a hundred.
    """
    correct, known = experts_correct(batch, jnp.float32)
    each = known.astype(jnp.float32)
    if batch.weights is not None:
        # Behind a weight of 0 may be anything.
        each *= jnp.asarray(batch.weights)[:, None]
        correct = jnp.where(each > 0, correct, 0.0)
    return (jnp.sum(correct * each, axis=0) + 1.0) / (jnp.sum(each, axis=0) + 2.0)


def _vote(
    rates_of: Callable[[Batch, int], jax.Array],
) -> Callable[[Any], Policy]:
    """Votes weigh by the log-odds of being right over those of a guess.

    The best weights of experts who err independently, with every wrong class alike.
    """

    def make(config: Any) -> Policy:
        del config

        def fit(
            key: jax.Array, hparams: HParams, decision: Decision, batch: Batch
        ) -> jax.Array:
            del key, hparams
            num_classes = decision.class_probs.shape[1]
            weights = one_coin.vote_weights(rates_of(batch, num_classes), num_classes)
            return jnp.maximum(weights, 0.0)

        def apply(
            key: jax.Array, chosen: Any, decision: Decision, batch: Batch
        ) -> Decision:
            del key, batch
            everybody = decision.allocation[:, :-1]
            # Where nobody beats a guess all vote alike.
            votes = jnp.where(jnp.any(chosen > 0), chosen, 1.0) * everybody
            shares = votes / jnp.sum(votes, axis=1, keepdims=True)
            return decision._replace(allocation=jnp.pad(shares, ((0, 0), (0, 1))))

        return Policy(fit, apply)

    return make


def _rates_of_answers(batch: Batch, num_classes: int) -> jax.Array:
    """How often each expert is right as far as the answers alone tell."""
    assert batch.expert_labels is not None
    return one_coin.fit(batch.expert_labels, num_classes, batch.weights)[0]


weighted_vote = _vote(lambda batch, _: _rates(batch))
"""Weights by the labels of validation examples."""
dawid_skene = _vote(_rates_of_answers)
"""Weights by the answers to validation examples: no label is read."""


def best_experts(config: Any) -> Policy:
    """Ask the most accurate; the others stand by in the order of their accuracy."""
    del config

    def fit(
        key: jax.Array, hparams: HParams, decision: Decision, batch: Batch
    ) -> jax.Array:
        del key, hparams, decision
        return _rates(batch)

    def apply(
        key: jax.Array, chosen: Any, decision: Decision, batch: Batch
    ) -> Decision:
        del key, batch
        score = jnp.broadcast_to(chosen, decision.defer_score.shape)
        return decisions.decide(decision.class_probs, score)

    return Policy(fit, apply)


def committee(config: Any) -> Policy:
    """A few seats drawn by the weights of the vote, of those who can be asked."""

    def fit(*args: Any) -> tuple[()]:
        return ()

    def apply(
        key: jax.Array, chosen: Any, decision: Decision, batch: Batch
    ) -> Decision:
        del chosen
        available = measure.available(batch)
        return committees.draw_committee(
            key, decisions.among(decision, available), config.committee_size
        )

    return Policy(fit, apply)


# Behind any method that asks by a score.


def _available(decision: Decision, batch: Batch) -> Decision:
    """The decision among those who can be asked, here and at the measuring."""
    return decisions.among(decision, measure.available(batch))


def _nothing(*args: Any) -> tuple[()]:
    return ()


def _budget(config: Any) -> Policy:
    """Of a batch no more than a share is deferred: those of the greatest score."""

    def apply(
        key: jax.Array, chosen: Any, decision: Decision, batch: Batch
    ) -> Decision:
        del chosen
        share = config.policy.max_deferral
        return capacity.keep_to_budget(key, _available(decision, batch), share)

    return Policy(_nothing, apply, on_host=True)


def _threshold_of_budget(config: Any) -> Policy:
    """The threshold that defers such a share of validation examples, or its own."""

    def fit(
        key: jax.Array, hparams: HParams, decision: Decision, batch: Batch
    ) -> jax.Array:
        del key, hparams
        scores = jnp.max(_available(decision, batch).defer_score, axis=1)
        coverage = 1.0 - config.policy.max_deferral
        return jnp.maximum(decisions.threshold_for_coverage(scores, coverage), 0.0)

    def apply(
        key: jax.Array, chosen: Any, decision: Decision, batch: Batch
    ) -> Decision:
        del key, batch
        return decisions.apply_threshold(decision, chosen)

    return Policy(fit, apply, on_host=True)


def _capacity(config: Any) -> Policy:
    """Of a batch each expert answers a share at most: the best assignment."""

    def apply(
        key: jax.Array, chosen: Any, decision: Decision, batch: Batch
    ) -> Decision:
        del chosen
        size, num_experts = np.shape(decision.defer_score)
        room = capacity.places(config.policy.expert_share, size)
        return capacity.assign(
            key,
            _available(decision, batch),
            np.full(num_experts, room),
            config.policy.max_deferral,
        )

    return Policy(_nothing, apply, on_host=True)


def _prices(config: Any) -> Policy:
    """Prices by which each expert answers such a share of validation examples."""

    def fit(
        key: jax.Array, hparams: HParams, decision: Decision, batch: Batch
    ) -> jax.Array:
        del key, hparams
        rates = np.full(np.shape(decision.defer_score)[1], config.policy.expert_share)
        return prices.fit_prices(
            _available(decision, batch), rates, config.policy.max_deferral
        )

    def apply(
        key: jax.Array, chosen: Any, decision: Decision, batch: Batch
    ) -> Decision:
        del key
        return prices.with_prices(_available(decision, batch), chosen)

    return Policy(fit, apply, on_host=True)


def _fair(within_budget: bool) -> Callable[[Any], Policy]:
    """Thresholds per group, of the best team that treats groups alike.

    Where the tolerance is out of reach, the least that is not.
    """

    def make(config: Any) -> Policy:
        def fit(
            key: jax.Array, hparams: HParams, decision: Decision, batch: Batch
        ) -> fair_thresholds.FairThresholds:
            del key, hparams
            assert batch.expert_labels is not None and batch.groups is not None
            given = (
                _available(decision, batch),
                batch.labels,
                batch.expert_labels,
                batch.groups,
                config.policy.criterion,
            )
            share = config.policy.max_deferral if within_budget else 1.0
            least = fair_thresholds.least_tolerance(*given, max_deferral=share)
            tolerance = max(config.policy.tolerance, least)
            return fair_thresholds.fit(*given, tolerance, share)

        def apply(
            key: jax.Array, chosen: Any, decision: Decision, batch: Batch
        ) -> Decision:
            assert batch.groups is not None
            return fair_thresholds.apply(
                key, _available(decision, batch), chosen, batch.groups
            )

        return Policy(fit, apply, on_host=True)

    return make


_FIELDS = ("policy",)
_OF_GROUPS = (TWO_CLASSES, MANY_GROUPS, ANSWERS)
POLICIES = {
    "tuned": PolicyRow(
        "tuned", "a threshold of its score that makes the best team", best_threshold
    ),
    "budget": PolicyRow(
        "a budget",
        "no more than policy.max_deferral of a batch is deferred",
        _budget,
        fields=_FIELDS,
    ),
    "stream": PolicyRow(
        "a budget of a stream",
        "a threshold that defers so much of validation examples",
        _threshold_of_budget,
        fields=_FIELDS,
    ),
    "capacity": PolicyRow(
        "capacities",
        "each expert answers policy.expert_share of a batch at most",
        _capacity,
        fields=_FIELDS,
    ),
    "prices": PolicyRow(
        "prices",
        "prices by which each expert answers so much of validation examples",
        _prices,
        fields=_FIELDS,
    ),
    "fair": PolicyRow(
        "fair thresholds",
        "thresholds per group, groups alike in policy.criterion",
        _fair(within_budget=False),
        _OF_GROUPS,
        _FIELDS,
    ),
    "fair_budget": PolicyRow(
        "fair thresholds, a budget",
        "the same, and no more than policy.max_deferral is deferred",
        _fair(within_budget=True),
        _OF_GROUPS,
        _FIELDS,
    ),
}
"""Policies that any method can have which asks where a score is > 0, by name."""
