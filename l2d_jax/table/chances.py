r"""How likely each person is to be right on each case, from the answers there are.

The log-odds that anybody is right on a case come from its features and from what the
classifier makes of it, fitted to all answers of all people; what is a person's own is
added by `l2d_jax.people.population`: overall skill and skill at each class, shrunk
towards the others as far as the answers do not say otherwise. The result is calibrated
on answers that it was not fitted to.

No such model is quite right: people are better at some kinds of cases than it can say.
How far their log-odds stray is seen in answers of a person to neighbouring cases, which
then miss what was predicted on the same side, and intervals are wider by it.
"""

import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestNeighbors

from l2d_jax.people import population
from l2d_jax.table import calibration
from l2d_jax.table.chunks import in_chunks
from l2d_jax.types import Array

Params: TypeAlias = dict[str, Any]

# Standard deviations of people's skill that are thought possible, in log-odds.
_OVERALL = (0.25, 0.75, 1.5)
_BY_CLASS = (0.1, 0.5, 1.5)
# More answers do not change what all people have in common.
_ENOUGH_ANSWERS = 200_000
_PEOPLE_AT_ONCE = 16
_SURE = 1e-4
# Standard errors that an interval of 90 % holds on either side.
_SIDE = 1.645
_NUM_NEIGHBOURS = 3
_ENOUGH_NEIGHBOURS = 20_000


class Chances(NamedTuple):
    """How likely each person is to be right, each float ``[B, M]``, in [0, 1].

    Attributes:
      prob: the mean.
      low: lower end of the 90 % interval of what the person's own chance may be.
      high: its upper end.
    """

    prob: Array
    low: Array
    high: Array


def fit(
    inputs: np.ndarray,
    log_probs: np.ndarray,
    right: np.ndarray,
    folds: np.ndarray,
) -> tuple[Params, np.ndarray, np.ndarray]:
    """The people of a table.

    Args:
      inputs: features, float ``[N, D]``.
      log_probs: of the classifier on cases it was not trained on, float ``[N, K]``.
      right: whether each person was right, float ``[N, M]``: 0, 1, or NaN who was not
        asked.
      folds: int ``[N]``, in [0, J).

    Returns:
      Parameters for `predict`; the calibrated chances on the cases themselves, of
      people and a common part that were fitted without the case's fold, ``[N, M]``; and
      those on all cases without each fold, ``[J, N, M]``, by which what is learnt
      without a fold knows nothing of the people from there.
    """
    answered = ~np.isnan(right)
    raw = Chances(*(np.zeros(right.shape, np.float32) for _ in Chances._fields))
    without_each = []
    for fold in range(int(folds.max()) + 1):
        here = folds == fold
        without = _fit(inputs, log_probs, np.where(here[:, None], np.nan, right))
        found = in_chunks(_compiled, without, inputs, log_probs)
        for mine, theirs in zip(raw, found, strict=True):
            mine[here] = theirs[here]
        without_each.append(found.prob)
    logits, low, high = (
        scipy.special.logit(np.clip(values.astype(float), _SURE, 1 - _SURE))
        for values in raw
    )
    of_answer = np.broadcast_to(folds[:, None], right.shape)[answered]
    mapped = calibration.fit_log_odds(logits[answered], right[answered], of_answer)
    params = _fit(inputs, log_probs, right)
    params.update({f"calibration.{name}": value for name, value in mapped.items()})
    held_out, low, high = (
        np.asarray(calibration.of_log_odds(mapped, values.astype(np.float32)))
        for values in (logits, low, high)
    )
    params["excess"] = _excess(inputs, right, Chances(held_out, low, high))
    return params, held_out, np.stack(without_each)


def predict(params: Mapping[str, Array], inputs: Array, log_probs: Array) -> Chances:
    """How likely each person is to be right on new cases; pure.

    Args:
      params: from `fit`.
      inputs: features, float ``[B, D]``.
      log_probs: of the classifier, float ``[B, K]``.
    """
    mapped = {
        name.removeprefix("calibration."): value
        for name, value in params.items()
        if name.startswith("calibration.")
    }

    def calibrate(probs: Array) -> jax.Array:
        return calibration.of_log_odds(mapped, _logit(probs))

    prob, low, high = map(calibrate, _predict(params, inputs, log_probs))
    mean, excess = _logit(prob), _SIDE**2 * params.get("excess", 0.0)
    below, above = (
        jnp.maximum(v, 0.0) for v in (mean - _logit(low), _logit(high) - mean)
    )
    return Chances(
        prob,
        jax.nn.sigmoid(mean - jnp.sqrt(below**2 + excess)),
        jax.nn.sigmoid(mean + jnp.sqrt(above**2 + excess)),
    )


def _logit(probs: Array) -> jax.Array:
    probs = jnp.clip(probs, _SURE, 1 - _SURE)
    return jnp.log(probs) - jnp.log1p(-probs)


def _excess(inputs: np.ndarray, right: np.ndarray, held_out: Chances) -> np.ndarray:
    r"""Variance of people's log-odds beyond that of their intervals, float32 ``[]``.

    Of two answers of one person whose log-odds are off by the same :math:`\delta` the
    residuals have a product of :math:`p (1 - p) p' (1 - p') \delta^2` on average, and
    of nothing where the model is right: the ratio of the sums, over neighbours in the
    features, less the mean variance there is, and 0 at least.

    Args:
      inputs: features, float ``[N, D]``.
      right: whether each person was right, float ``[N, M]``; NaN who was not asked.
      held_out: of people and a common part that were fitted without the case.
    """
    probs = np.clip(np.asarray(held_out.prob, float), _SURE, 1 - _SURE)
    residuals, slopes = right - probs, probs * (1.0 - probs)
    most = max(_ENOUGH_NEIGHBOURS // right.shape[1], 2 * _NUM_NEIGHBOURS)
    products, scale = 0.0, 0.0
    for person in range(right.shape[1]):
        rows = np.flatnonzero(~np.isnan(right[:, person]))
        rows = np.random.default_rng(0).permutation(rows)[:most]
        if len(rows) <= _NUM_NEIGHBOURS:
            continue
        search = NearestNeighbors(n_neighbors=_NUM_NEIGHBOURS).fit(inputs[rows])
        near = rows[search.kneighbors(return_distance=False)]
        products += (residuals[rows, person, None] * residuals[near, person]).sum()
        scale += (slopes[rows, person, None] * slopes[near, person]).sum()
    if scale == 0:
        return np.array(0.0, np.float32)
    widths = np.asarray(_logit(held_out.high) - _logit(held_out.low))
    known = np.square(widths[~np.isnan(right)] / (2 * _SIDE)).mean()
    return np.array(max(products / scale - known, 0.0), np.float32)


def welcome(params: Params, number: int) -> Params:
    """Parameters with some people more, of whom nothing is known but what people are.

    Args:
      params: from `fit`, of M people.
      number: of them, >= 0; they stand behind the others.
    """
    num_scales, width = np.shape(params["mean"])[1:]
    num_classes = width - 1
    scales = population.scale_grid(_OVERALL, _BY_CLASS, num_classes)
    # The posterior of no answers is the prior, and has no evidence for or against.
    prior = {
        "mean": np.zeros((num_scales, width)),
        "covariance": np.stack([np.diag(scale**2) for scale in scales]),
        "log_evidence": np.zeros(num_scales),
    }
    more = {
        name: np.concatenate(
            [params[name], np.repeat(value[None].astype(np.float32), number, axis=0)]
        )
        for name, value in prior.items()
    }
    return {**params, **more}


def _predict(params: Mapping[str, Array], inputs: Array, log_probs: Array) -> Chances:
    log_probs = jnp.asarray(log_probs)
    psi = population.describe(jnp.exp(log_probs))
    base = _common(inputs, log_probs) @ params["kernel"] + params["bias"]
    share = jax.nn.softmax(
        jnp.asarray(params["log_evidence"]) + jnp.log(params["proportions"]), axis=1
    )

    def of_person(part: tuple[population.Person, jax.Array]) -> Chances:
        person, weight = part
        prob = population.correct_prob(person, params["proportions"], base, psi)
        means = psi @ person.mean.T
        spread = jnp.einsum("bi,sij,bj->bs", psi, person.covariance, psi)
        mean = means @ weight
        variance = (spread + means**2) @ weight - mean**2
        half = _SIDE * jnp.sqrt(jnp.maximum(variance, 0.0))
        return Chances(
            prob,
            jax.nn.sigmoid(base + mean - half),
            jax.nn.sigmoid(base + mean + half),
        )

    person = population.Person(
        *(jnp.asarray(params[name]) for name in population.Person._fields)
    )
    found = jax.lax.map(of_person, (person, share))  # [M, B]: few at a time.
    return Chances(*(values.T for values in found))


_compiled = jax.jit(_predict)


def _common(inputs: Array, log_probs: Array) -> jax.Array:
    """What the log-odds that people share are linear in, float ``[B, D + K + 1]``."""
    log_probs = jnp.asarray(log_probs)
    surest = jnp.max(log_probs, axis=1, keepdims=True)
    return jnp.concatenate([jnp.asarray(inputs), log_probs, jnp.exp(surest)], axis=1)


def _fit(inputs: np.ndarray, log_probs: np.ndarray, right: np.ndarray) -> Params:
    cases, people = np.nonzero(~np.isnan(right))
    outcomes = right[cases, people]
    common = np.asarray(_common(inputs, log_probs), np.float32)
    kernel, bias = _fit_common(common, cases, outcomes)
    base = common @ kernel + bias
    psi = np.asarray(population.describe(np.exp(log_probs)), np.float32)

    # A row for each person, of a length that few tables differ in: programs are kept.
    counts = np.bincount(people, minlength=right.shape[1])
    width = 1 << int(np.ceil(np.log2(max(counts.max(initial=1), 16))))
    rows = np.zeros((right.shape[1], width), np.int32)
    correct = np.zeros(rows.shape, np.float32)
    weights = np.zeros(rows.shape, np.float32)
    for person in range(right.shape[1]):
        own = people == person
        rows[person, : counts[person]] = cases[own]
        correct[person, : counts[person]] = outcomes[own]
        weights[person, : counts[person]] = 1.0
    scales = population.scale_grid(_OVERALL, _BY_CLASS, log_probs.shape[1])
    found, proportions = _infer(base[rows], psi[rows], correct, weights, scales)
    return {
        "kernel": kernel,
        "bias": bias,
        "proportions": np.asarray(proportions),
        **{name: np.asarray(value) for name, value in found._asdict().items()},
    }


def _fit_common(
    common: np.ndarray, cases: np.ndarray, outcomes: np.ndarray
) -> tuple[np.ndarray, np.float32]:
    """Kernel and bias of the log-odds that anybody is right."""
    if len(cases) > _ENOUGH_ANSWERS:
        drawn = np.random.default_rng(0).permutation(len(cases))[:_ENOUGH_ANSWERS]
        cases, outcomes = cases[drawn], outcomes[drawn]
    if len(np.unique(outcomes)) < 2:
        # Everybody was right, or wrong, or nobody was asked: a guess of one each.
        share = (outcomes.sum() + 1) / (len(outcomes) + 2)
        bias = np.float32(scipy.special.logit(share))
        return np.zeros(common.shape[1], np.float32), bias
    model = LogisticRegression(C=0.1, max_iter=300)
    with warnings.catch_warnings():
        # Near enough: what is left is the people's own, and the calibration's.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(common[cases], outcomes > 0.5)
    return model.coef_[0].astype(np.float32), np.float32(model.intercept_[0])


@jax.jit
def _infer(
    base: Array, psi: Array, correct: Array, weights: Array, scales: Array
) -> tuple[population.Person, jax.Array]:
    found = jax.lax.map(
        lambda row: population.infer(row[0], row[1], row[2], row[3], scales),
        (base, psi, correct, weights),
        batch_size=_PEOPLE_AT_ONCE,
    )
    present = (jnp.max(weights, axis=1) > 0).astype(jnp.float32)
    return found, population.learn_proportions(found.log_evidence, present)
