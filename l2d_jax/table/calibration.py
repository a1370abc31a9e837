"""Probabilities that mean what they say: maps of log-odds, chosen by cross-validation.

A map is a line or a monotone step function of the log-odds, kept as its knots. Which of
the two is used is whichever had the lower log loss on folds it was not fitted to.
"""

from collections.abc import Mapping
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize
from sklearn.isotonic import IsotonicRegression

from l2d_jax.types import Array

Calibration: TypeAlias = dict[str, np.ndarray]
"""``x`` and ``y``, log-odds before and after, float32 ``[C, L]``, both increasing; and
``temperature``, float32 ``[]``, by which logits of more than two classes are divided
first. C is 1 for two classes, else K."""

# Log-odds beyond which nothing is told apart, and places of a map.
_FAR = 30.0
_NUM_KNOTS = 64
# Fewer outcomes fit a step function to noise.
_ENOUGH_FOR_STEPS = 1000


def fit_log_odds(
    log_odds: np.ndarray, outcomes: np.ndarray, folds: np.ndarray
) -> Calibration:
    """Map of the log-odds of an event.

    Args:
      log_odds: float ``[N]``, finite.
      outcomes: whether it happened, ``[N]``, 0 or 1; all alike gives no map at all.
      folds: int ``[N]``, by which the kind of map is chosen.
    """
    x, y = _fit_one(np.asarray(log_odds, float), np.asarray(outcomes, float), folds)
    return _pack([x], [y], 1.0)


def fit_classes(
    log_probs: np.ndarray, labels: np.ndarray, folds: np.ndarray, *, keep_order: bool
) -> Calibration:
    """Map of the probabilities of K classes.

    Args:
      log_probs: logarithms of probabilities, float ``[N, K]``.
      labels: int ``[N]``, in [0, K).
      folds: as in `fit_log_odds`.
      keep_order: only a temperature, which changes no prediction.
    """
    logits = np.asarray(log_probs, float)
    num_classes = logits.shape[1]
    temperature = 1.0
    if keep_order or num_classes > 2:
        temperature = _temperature(logits, labels)
    identity = np.array([-_FAR, _FAR])
    if keep_order:
        count = 1 if num_classes == 2 else num_classes
        return _pack([identity] * count, [identity] * count, temperature)
    if num_classes == 2:
        log_odds = logits[:, 1] - logits[:, 0]
        return fit_log_odds(log_odds, labels == 1, folds)
    against = np.asarray(_against_rest(jnp.asarray(logits / temperature)))
    maps = [
        _fit_one(against[:, k].astype(float), (labels == k).astype(float), folds)
        for k in range(num_classes)
    ]
    steps = _pack([x for x, _ in maps], [y for _, y in maps], temperature)
    plain = _pack([identity] * num_classes, [identity] * num_classes, temperature)
    chosen = min((plain, steps), key=lambda found: _loss(found, logits, labels))
    # The maps were fitted to what judges them here, so they must win by more than that.
    gain = _loss(plain, logits, labels) - _loss(steps, logits, labels)
    return chosen if gain > num_classes / len(labels) else plain


def of_log_odds(calibration: Mapping[str, Array], log_odds: Array) -> jax.Array:
    """Probability of the event, in (0, 1), of the shape of ``log_odds``."""
    x, y = calibration["x"][0], calibration["y"][0]
    return jax.nn.sigmoid(jnp.interp(jnp.asarray(log_odds), x, y))


def of_classes(calibration: Mapping[str, Array], log_probs: Array) -> jax.Array:
    """Probabilities of the classes, float ``[B, K]``, rows sum to 1."""
    logits = jnp.asarray(log_probs) / calibration["temperature"]
    if logits.shape[1] == 2:
        second = of_log_odds(calibration, logits[:, 1] - logits[:, 0])
        return jnp.stack([1.0 - second, second], axis=1)
    mapped = jax.vmap(jnp.interp, (1, 0, 0), 1)(
        _against_rest(logits), jnp.asarray(calibration["x"]), calibration["y"]
    )
    probs = jax.nn.sigmoid(mapped)
    return probs / jnp.sum(probs, axis=1, keepdims=True)


def _against_rest(logits: jax.Array) -> jax.Array:
    """Log-odds of each class against all others, float ``[B, K]``."""
    log_probs = jax.nn.log_softmax(logits, axis=1)
    others = jnp.log1p(-jnp.minimum(jnp.exp(log_probs), 1.0 - 1e-7))
    return jnp.clip(log_probs - others, -_FAR, _FAR)


def _loss(calibration: Calibration, logits: np.ndarray, labels: np.ndarray) -> float:
    probs = np.asarray(of_classes(calibration, logits))
    of_label = probs[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(of_label, 1e-7)).mean())


def _pack(
    xs: list[np.ndarray], ys: list[np.ndarray], temperature: float
) -> Calibration:
    """Maps of one length: the last knot is repeated."""

    def pad(values: np.ndarray) -> np.ndarray:
        return np.pad(values, (0, _NUM_KNOTS - len(values)), mode="edge")

    return {
        "x": np.stack([pad(x) for x in xs]).astype(np.float32),
        "y": np.stack([pad(y) for y in ys]).astype(np.float32),
        "temperature": np.array(temperature, np.float32),
    }


def _temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    rows = np.arange(len(labels))

    def loss(log_temperature: float) -> float:
        scaled = logits / np.exp(log_temperature)
        total = scipy.special.logsumexp(scaled, axis=1)
        return float((total - scaled[rows, labels]).mean())

    return float(np.exp(scipy.optimize.minimize_scalar(loss, bounds=(-3, 3)).x))


def _fit_one(
    log_odds: np.ndarray, outcomes: np.ndarray, folds: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Knots of the map with the least log loss on folds that it was not fitted to."""
    log_odds = np.clip(log_odds, -_FAR, _FAR)
    if outcomes.min(initial=1.0) == outcomes.max(initial=0.0) or not len(outcomes):
        return np.array([-_FAR, _FAR]), np.array([-_FAR, _FAR])
    kinds = [_line]
    if len(outcomes) >= _ENOUGH_FOR_STEPS:
        kinds.append(_steps)
    losses = np.zeros(len(kinds))
    for fold in np.unique(folds) if len(kinds) > 1 else ():
        here = folds == fold
        if outcomes[~here].min() == outcomes[~here].max():
            continue
        for number, kind in enumerate(kinds):
            x, y = kind(log_odds[~here], outcomes[~here])
            mapped = np.interp(log_odds[here], x, y)
            signs = 2 * outcomes[here] - 1
            losses[number] += np.logaddexp(0.0, -signs * mapped).sum()
    return kinds[int(np.argmin(losses))](log_odds, outcomes)


def _line(log_odds: np.ndarray, outcomes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Platt's line, towards his targets, with a slope that is not negative."""
    right = outcomes.sum()
    targets = np.where(
        outcomes > 0.5,
        (right + 1) / (right + 2),
        1 / (len(outcomes) - right + 2),
    )

    def loss(line: np.ndarray) -> tuple[float, np.ndarray]:
        mapped = line[0] * log_odds + line[1]
        slope = scipy.special.expit(mapped) - targets
        value = np.logaddexp(0.0, mapped) - targets * mapped
        return value.mean(), np.array([(slope * log_odds).mean(), slope.mean()])

    found = scipy.optimize.minimize(
        loss, np.array([1.0, 0.0]), jac=True, bounds=[(1e-3, 10), (-_FAR, _FAR)]
    )
    x = np.array([-_FAR, _FAR])
    return x, found.x[0] * x + found.x[1]


def _steps(log_odds: np.ndarray, outcomes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Isotonic regression, at most so many of its places."""
    least = 1.0 / (len(outcomes) + 2)
    model = IsotonicRegression(y_min=least, y_max=1 - least).fit(log_odds, outcomes)
    x, y = model.X_thresholds_, model.y_thresholds_
    if len(x) > _NUM_KNOTS:
        kept = np.unique(np.linspace(0, len(x) - 1, _NUM_KNOTS).round().astype(int))
        x, y = x[kept], y[kept]
    return x, scipy.special.logit(y)
