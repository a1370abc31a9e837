"""Ways to decide who answers, of a table's classifier and what is known of its people.

Each is a row: what is trained, if anything, and how its outputs decide. All of them
start from the same classifier, so that deferral is never flattered by a weak one: what
is trained reads the classifier's probabilities beside the features.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from l2d_jax import decisions
from l2d_jax.learners import surrogates, two_stage
from l2d_jax.learners.gradient import BatchLoss
from l2d_jax.types import Array, Decision


class Known(NamedTuple):
    """What is known of a case before a method decides.

    Attributes:
      class_probs: of the classifier, float ``[B, K]``.
      chances: of each person's being right, float ``[B, M]``.
      prices: of asking each person, in errors, float ``[M]``, >= 0.
      ask: people asked about a case at most.
      available: whether each person can be asked, bool ``[B, M]``.
    """

    class_probs: Array
    chances: Array
    prices: np.ndarray
    ask: int
    available: Array


class Method(NamedTuple):
    """A way to decide.

    Attributes:
      label: for readers.
      decide: ``(known, outputs [B, O] or None) -> Decision``; scores are net of prices.
      batch_loss: trains a network with the outputs; None where nothing is trained.
      num_outputs: ``(K, M) -> O``.
      own_classifier: whether its answers are those of a classifier of its own.
      several: whether several people are asked about one case.
      takes_prices: whether prices of people can differ.
    """

    label: str
    decide: Callable[[Known, jax.Array | None], Decision]
    batch_loss: BatchLoss | None = None
    num_outputs: Callable[[int, int], int] = lambda num_classes, num_people: 0
    own_classifier: bool = False
    several: bool = False
    takes_prices: bool = True


def _never(known: Known, outputs: jax.Array | None) -> Decision:
    del outputs
    nobody = jnp.full(known.chances.shape, -jnp.inf)
    return decisions.decide(known.class_probs, nobody, known.chances)


def _confidence(known: Known, outputs: jax.Array | None) -> Decision:
    del outputs
    found = decisions.confidence_decision(known.class_probs, known.chances)
    return decisions.decide(
        known.class_probs, found.defer_score - known.prices, known.chances
    )


def _two_stage(known: Known, outputs: jax.Array | None) -> Decision:
    assert outputs is not None
    found = decisions.two_stage_decision(known.class_probs, outputs)
    return found._replace(expert_correct_prob=known.chances)


def _surrogate(name: str, label: str) -> Method:
    row = surrogates.SURROGATES[name]

    def decide(known: Known, outputs: jax.Array | None) -> Decision:
        assert outputs is not None
        found = row.decide(outputs, known.chances.shape[1], {})
        if not known.prices.any():
            return found
        own = known._replace(
            class_probs=found.class_probs, chances=found.expert_correct_prob
        )
        priced = _confidence(own, None).defer_score
        # Estimates that are cut at 1 are equal; the scores still tell them.
        behind = jnp.argsort(jnp.argsort(-found.defer_score, axis=1), axis=1)
        hair = jnp.finfo(priced.dtype).eps
        return decisions.decide(
            found.class_probs, priced - hair * behind, found.expert_correct_prob
        )

    return Method(
        label,
        decide,
        surrogates.make_batch_loss(row),
        lambda num_classes, num_people: num_classes + num_people,
        own_classifier=True,
    )


def _panel(known: Known, outputs: jax.Array | None) -> Decision:
    r"""Several people and the classifier vote, each with the weight of their evidence.

    The people likeliest to be right are asked, as many as ``ask`` allows. A vote of
    chance q among K classes has the weight :math:`\log(q (K - 1) / (1 - q))` where that
    is > 0, and the classifier, with p and p' the greatest of its probabilities,
    :math:`(\log p - \log p') / (p - p')`: for two classes the sum is then the posterior
    of all answers, independent given the label. Where all who would be asked cannot
    together overrule the classifier nobody is asked. Prices have no part in this; they
    count where methods are compared.

    Returns:
      The decision, whose allocation is shared. The scores of those who are asked are
      what all can say beyond what the classifier says, in nats, and those of the others
      -inf.
    """
    del outputs
    probs = jnp.clip(jnp.asarray(known.class_probs), 1e-6, 1.0)
    num_people = known.chances.shape[1]
    chances = jnp.clip(jnp.asarray(known.chances), 1e-4, 1 - 1e-4)
    evidence = jnp.log(chances) - jnp.log1p(-chances) + jnp.log(probs.shape[1] - 1)
    evidence = jnp.where(jnp.asarray(known.available), jnp.maximum(evidence, 0.0), 0.0)
    _, chosen = jax.lax.top_k(evidence, min(known.ask, num_people))
    asked = jnp.any(chosen[:, :, None] == jnp.arange(num_people), axis=1)
    weights = jnp.where(asked, evidence, 0.0)
    greatest, _ = jax.lax.top_k(probs, 2)
    first, second = greatest[:, 0], greatest[:, 1]
    lead, gap = jnp.log(first) - jnp.log(second), first - second
    own = jnp.where(gap > 1e-4, lead / jnp.maximum(gap, 1e-4), 1.0 / first)
    beyond = jnp.sum(weights, axis=1) - lead
    score = jnp.where(weights > 0, beyond[:, None], -jnp.inf)
    keeps = jnp.max(score, axis=1) <= 0
    shares = jnp.concatenate([weights, own[:, None]], axis=1)
    shares = shares / jnp.sum(shares, axis=1, keepdims=True)
    alone = (jnp.arange(num_people + 1) == num_people).astype(shares.dtype)
    allocation = jnp.where(keeps[:, None], alone, shares)
    return Decision(known.class_probs, known.chances, score, allocation)


METHODS = {
    "never": Method("the model alone", _never),
    "confidence": Method("the surest answers", _confidence),
    "two_stage": Method(
        "a second network says who answers (two-stage)",
        _two_stage,
        two_stage.batch_loss,
        lambda num_classes, num_people: num_people + 1,
        takes_prices=False,
    ),
    "softmax": _surrogate("multi_expert", "one softmax of classes and people"),
    "one_vs_all": _surrogate("one_vs_all", "one logit for each class and person"),
    "decoupled": _surrogate("decoupled", "classes and people apart, one network"),
    "panel": Method(
        "the surest people vote with the model",
        _panel,
        several=True,
    ),
}
"""Methods by name, in the order in which the simpler is preferred."""

AUTO = ("never", "confidence", "two_stage", "softmax", "one_vs_all", "panel")
"""What is tried if nothing is asked for."""


def unmet(
    method: Method,
    *,
    ask: int,
    prices: np.ndarray,
    capacity: bool,
    given: bool,
    fair: bool,
    guaranteed: bool,
) -> str:
    """Why a method cannot be used; empty where it can.

    Args:
      method: of `METHODS`.
      ask: people asked about a case at most.
      prices: of the people, float ``[M]``.
      capacity: whether people have a capacity.
      given: whether the classifier is given.
      fair: whether thresholds are by group.
      guaranteed: whether a threshold is to guarantee an error.
    """
    if method.several and ask < 2:
        return "it asks several people about a case; allow that by --ask"
    if method.several and capacity:
        return "people who share an answer have no capacity"
    if method.several and fair:
        return "people who share an answer have no thresholds by group"
    if method.several and guaranteed:
        return "people who share an answer have no threshold to guarantee an error by"
    if method.own_classifier and given:
        return "it trains a classifier of its own, and yours is given"
    if not method.takes_prices and len(np.unique(prices)) > 1:
        return "it has one price for all, and prices differ"
    return ""
