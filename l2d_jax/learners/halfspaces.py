r"""Learning to defer with two half-spaces, by mixed-integer linear programming.

A linear classifier and a linear rejector are sought that make the fewest errors on the
training examples; no surrogate loss stands between. That is NP-hard, so it is for few
examples, and out of time it is the best pair that was found.

References:
  Mozannar, Lang, Wei, Sattigeri, Das and Sontag, "Who Should Predict? Exact Algorithms
  For Learning to Defer to Humans", 2023, Section 5.
"""

import time
from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import optimize, sparse, special

from l2d_jax import decisions
from l2d_jax._rounding import varies
from l2d_jax.learners.batches import one_expert_correct
from l2d_jax.types import (
    Array,
    Batch,
    Decision,
    HParams,
    Learner,
    TrainState,
    Variables,
)

MAX_EXAMPLES = 2000
"""Examples that `solve_milp` takes at most: each has binary variables of its own."""

# How far an example must be from a half-space to count as on its side, where the
# furthest is 1. HiGHS keeps constraints to 1e-6, and float32 a sum of products about
# as well; the authors' code has 1e-5.
_MARGIN = 1e-4
_BIG = 1.0 + _MARGIN
# Examples of a neighbourhood at first, and at least; seconds that one may take.
_FIRST, _LEAST, _SECONDS = 100, 50, 6.0
_ROUNDS = 5  # Of the start, a classifier and a rejector each.
_RIDGE = 1e-6  # Of the start, so that separable examples have a finite minimum.
# An objective is better by so much, which is less than one error of MAX_EXAMPLES.
_BETTER = 1e-5
# Statuses of `scipy.optimize.milp`.
_OPTIMAL, _OUT_OF_TIME, _INFEASIBLE = 0, 1, 2


class Solution(NamedTuple):
    """A pair of half-spaces.

    Attributes:
      classifier: weights of the features and, last, of 1, float ``[D + 1]``; label 1
        where the sum is > 0.
      rejector: likewise; defers where the sum is > 0.
      error: system error of the pair on the training examples, in [0, 1].
      gap: how much less the objective, error and penalty, may be with another pair; 0
        where this one is proven to be the best.
    """

    classifier: np.ndarray
    rejector: np.ndarray
    error: float
    gap: float


def solve_milp(
    inputs: np.ndarray,
    labels: np.ndarray,
    expert_correct: np.ndarray,
    *,
    time_limit: float,
    l1_penalty: float = 0.0,
    seed: int = 0,
) -> Solution:
    r"""The linear classifier and rejector of least system error on some examples.

    With :math:`y_i \in \{-1, 1\}` and inputs :math:`x_i` that are standardized, divided
    by their greatest L1 norm and given a 1, it is

    .. math::
        \min \frac1n \sum_i e_i + \lambda (\|h\|_1 + \|r\|_1)

    over :math:`h, r` in :math:`[-1, 1]^{D+1}` and binary :math:`e_i` (an error) and
    :math:`d_i` (deferred) with, for a margin :math:`\gamma` and
    :math:`M = 1 + \gamma`,

    .. math::
        y_i h^T x_i + M (e_i + d_i) \ge \gamma, \quad
        r^T x_i + M (1 - d_i) \ge \gamma

    where the expert is right, and where the expert is wrong, so that the team is right
    only if it keeps the example and classifies it right,

    .. math::
        y_i h^T x_i + M e_i \ge \gamma, \quad - r^T x_i + M e_i \ge \gamma.

    It has the optima of the paper's program, which has two binary variables and a real
    one for every example. The penalty leaves out the weights of 1.

    HiGHS, as SciPy has it, takes no start, and by itself finds little where there are
    hundreds of examples, so what is around it is ours. It starts from the best of the
    pairs that logistic regressions give in turn, and looks for better ones in
    neighbourhoods: the program with the variables of the examples that are far from
    both half-spaces fixed. A neighbourhood that has nothing better grows, and one that
    takes too long shrinks; one of all examples that has nothing better proves that the
    pair is the best.

    Args:
      inputs: float ``[N, D]``.
      labels: int ``[N]``, 0 or 1.
      expert_correct: whether the expert is right, ``[N]``, 0 or 1.
      time_limit: seconds, > 0, after which it is the best pair so far. What is found in
        them depends on the machine, unless it is proven to be the best.
      l1_penalty: weight of the L1 norms of both, in errors, >= 0.
      seed: of the neighbourhoods, >= 0.

    Returns:
      The pair, in the units of the inputs.

    Raises:
      ValueError: shapes do not match, there are more than `MAX_EXAMPLES` examples or
        none, labels or answers are not 0 or 1, or a number is out of range.
      RuntimeError: HiGHS fails on the whole program. It is never infeasible: deferring
        everything is allowed.
    """
    inputs, labels = np.asarray(inputs, np.float64), np.asarray(labels)
    expert_correct = np.asarray(expert_correct)
    _check(inputs, labels, expert_correct, time_limit, l1_penalty)
    deadline = time.monotonic() + time_limit
    generator = np.random.default_rng(seed)
    program = _Program(inputs, labels, expert_correct > 0, l1_penalty)
    best = min(program.starts(), key=program.objective)
    size = program.size
    count, bound = min(_FIRST, size), 0.0
    while (least := program.objective(best)) > bound:
        left = deadline - time.monotonic()
        if left <= 0:
            break
        whole = count == size
        limit = left if whole else min(left, _SECONDS)
        status, found, lower = program.improve(best, generator, count, limit)
        if whole and status in (_OPTIMAL, _INFEASIBLE):
            best, bound = found if found is not None else best, np.inf
        elif whole and status == _OUT_OF_TIME:
            best, bound = found if found is not None else best, max(bound, lower)
        elif whole:
            raise RuntimeError(f"HiGHS fails on the program, status {status}")
        elif found is not None:
            best = found
        elif status in (_OPTIMAL, _INFEASIBLE):
            count = min(size, count + count // 3)
        else:
            count = max(min(_LEAST, size), count * 4 // 5)
    classifier, rejector = program.of_inputs(best)
    error = program.errors(best) / size
    return Solution(classifier, rejector, error, max(0.0, least - bound))


def _check(
    inputs: np.ndarray,
    labels: np.ndarray,
    expert_correct: np.ndarray,
    time_limit: float,
    l1_penalty: float,
) -> None:
    if inputs.ndim != 2 or 0 in inputs.shape:
        raise ValueError(f"inputs must have shape [N, D], got {inputs.shape}")
    if len(inputs) > MAX_EXAMPLES:
        raise ValueError(
            f"inputs has {len(inputs)} examples and the integer program takes at most"
            f" {MAX_EXAMPLES}, each with binary variables of its own; give fewer, or"
            " train with a surrogate loss"
        )
    if not np.isfinite(inputs).all():
        raise ValueError("inputs must be finite")
    for name, values in (("labels", labels), ("expert_correct", expert_correct)):
        if values.shape != (len(inputs),):
            raise ValueError(
                f"{name} must have shape [N] = ({len(inputs)},), got {values.shape}"
            )
        outside = values[~np.isin(values, (0, 1))]
        if outside.size:
            raise ValueError(f"{name} must be 0 or 1, got {outside[0]}")
    if not 0 < time_limit < np.inf:
        raise ValueError(f"time_limit must be finite and > 0, got {time_limit}")
    if not 0 <= l1_penalty < np.inf:
        raise ValueError(f"l1_penalty must be finite and >= 0, got {l1_penalty}")


class _Program:
    """The integer program of some examples.

    A pair is ``[2, D + 1]``, the classifier and the rejector, over standardized inputs.
    The variables are a pair, its absolute values, and e and d of every example.
    """

    def __init__(
        self,
        inputs: np.ndarray,
        labels: np.ndarray,
        right: np.ndarray,
        l1_penalty: float,
    ):
        self.size, num_features = inputs.shape
        # What does not vary tells nothing, and has no weight.
        self._tells = varies(inputs)
        self._center = inputs.mean(axis=0)
        self._unit = np.where(self._tells, inputs.std(axis=0), 1.0)
        standard = np.where(self._tells, (inputs - self._center) / self._unit, 0.0)
        self._greatest = np.abs(standard).sum(axis=1).max() or 1.0
        ones = np.ones((self.size, 1))
        self._rows = np.hstack([standard / self._greatest, ones])
        self._signs = 2 * labels.astype(int) - 1
        self._right = right
        self._penalty = np.append(np.full(num_features, l1_penalty), 0.0)
        self._cost = np.concatenate(
            [
                np.zeros(2 * num_features + 2),
                *[self._penalty] * 2,
                np.full(self.size, 1.0 / self.size),
                np.zeros(self.size),
            ]
        )
        self._constraints = self._make_constraints()

    def _make_constraints(self) -> optimize.LinearConstraint:
        side = np.where(self._right, 1, -1)
        of_pair = sparse.block_diag(
            [self._signs[:, None] * self._rows, side[:, None] * self._rows]
        )
        eye = sparse.eye_array(self.size)
        error = sparse.vstack(
            [_BIG * eye, _BIG * sparse.diags_array(1.0 - self._right)]
        )
        deferred = sparse.vstack(
            [_BIG * eye, -_BIG * sparse.diags_array(1.0 * self._right)]
        )
        weights = sparse.eye_array(2 * self._rows.shape[1])
        matrix = sparse.block_array(
            [
                [of_pair, None, error, deferred],
                [weights, weights, None, None],
                [-weights, weights, None, None],
            ]
        )
        least = np.concatenate(
            [
                np.full(self.size, _MARGIN),
                np.where(self._right, _MARGIN - _BIG, _MARGIN),
                np.zeros(2 * weights.shape[0]),
            ]
        )
        return optimize.LinearConstraint(matrix.tocsr(), least, np.inf)

    def errors(self, pair: np.ndarray) -> int:
        """Errors of the team."""
        classified, rejected = (self._rows @ pair.T > 0).T
        wrong = classified != (self._signs > 0)
        return int(np.sum(np.where(rejected, ~self._right, wrong)))

    def objective(self, pair: np.ndarray) -> float:
        """Share of errors, and the penalty."""
        penalty = float(np.sum(np.abs(pair) @ self._penalty))
        return self.errors(pair) / self.size + penalty

    def of_inputs(self, pair: np.ndarray) -> np.ndarray:
        """The pair over the inputs as they came, of length 1 without the last."""
        weights = pair[:, :-1] / (self._unit * self._greatest) * self._tells
        last = pair[:, -1] - weights @ self._center
        both = np.column_stack([weights, last])
        length = np.linalg.norm(weights, axis=1, keepdims=True)
        return both / np.where(length > 0, length, 1.0)

    def starts(self) -> Iterator[np.ndarray]:
        """Pairs that logistic regressions give in turn.

        The rejector tells where the expert alone is right from where the classifier
        alone is, and the classifier learns what is kept.
        """
        everything = np.zeros(self._rows.shape[1])
        everything[-1] = 1.0
        classifier = self._regress(self._signs)
        yield self._scaled(np.stack([classifier, everything]))
        yield self._scaled(np.stack([classifier, -everything]))
        for _ in range(_ROUNDS):
            correct = self._signs * (self._rows @ classifier) > 0
            differ = correct != self._right
            if not differ.any():
                return
            rejector = self._regress(np.where(self._right, 1, -1), differ)
            yield self._scaled(np.stack([classifier, rejector]))
            kept = self._rows @ rejector <= 0
            if not kept.any():
                return
            classifier = self._regress(self._signs, kept)
            yield self._scaled(np.stack([classifier, rejector]))

    def _regress(
        self, signs: np.ndarray, counts: np.ndarray | slice = slice(None)
    ) -> np.ndarray:
        """Weights of a logistic regression of signs on the rows that count."""
        # Of unit variance again, which the search needs.
        units = np.append(np.full(self._rows.shape[1] - 1, self._greatest), 1.0)
        rows, signs = self._rows[counts] * units, signs[counts]

        def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
            margins = signs * (rows @ weights)
            value = (
                np.mean(np.logaddexp(0.0, -margins)) + _RIDGE / 2 * weights @ weights
            )
            slope = -signs * special.expit(-margins) / len(rows)
            return value, rows.T @ slope + _RIDGE * weights

        start = np.zeros(rows.shape[1])
        found = optimize.minimize(loss, start, jac=True, method="L-BFGS-B")
        return found.x * units

    def _scaled(self, pair: np.ndarray) -> np.ndarray:
        """The same half-spaces, the furthest example at 1 and weights within bounds."""
        furthest = np.abs(self._rows @ pair.T).max(axis=0)
        greatest = np.maximum(furthest, np.abs(pair).max(axis=1))
        return pair / np.where(greatest > 0, greatest, 1.0)[:, None]

    def improve(
        self,
        pair: np.ndarray,
        generator: np.random.Generator,
        count: int,
        seconds: float,
    ) -> tuple[int, np.ndarray | None, float]:
        """A better pair, of the same errors but on ``count`` examples and near ones.

        Returns:
          The status of the solver, the pair if one was found, and the least that the
          objective may be in the neighbourhood.
        """
        sums = self._rows @ pair.T
        is_classified = self._signs * sums[:, 0] >= _MARGIN
        deferred = self._right & (sums[:, 1] >= _MARGIN)
        kept = self._right | (sums[:, 1] <= -_MARGIN)
        error = ~deferred & ~(kept & is_classified)
        # Ranks, since the two have no common scale; at random, so that a neighbourhood
        # that was of no use is not the next one too.
        noise = generator.uniform(0.3, 1.7, (self.size, 1))
        ranks = np.argsort(np.argsort(np.abs(sums) * noise, axis=0), axis=0)
        free = np.zeros(self.size, bool)
        free[np.argsort(ranks.min(axis=1), kind="stable")[:count]] = True
        num_weights = pair.size
        now = np.concatenate([error, deferred]).astype(float)
        both = np.concatenate([free, free])
        lower = np.concatenate([-np.ones(num_weights), np.zeros(num_weights), now])
        upper = np.concatenate([np.ones(2 * num_weights), now])
        lower[2 * num_weights :][both] = 0.0
        upper[2 * num_weights :][both] = 1.0
        # Deferring to an expert who is wrong is an error and nothing else.
        upper[2 * num_weights + self.size :][~self._right] = 0.0
        objective = self.objective(pair)
        cut = optimize.LinearConstraint(self._cost, -np.inf, objective - _BETTER)
        whole = np.ones(2 * self.size)
        result = optimize.milp(
            self._cost,
            integrality=np.concatenate([np.zeros(2 * num_weights), whole]),
            bounds=optimize.Bounds(lower, upper),
            constraints=[self._constraints, cut],
            options={"time_limit": seconds},
        )
        bound = result.mip_dual_bound
        bound = 0.0 if bound is None or not np.isfinite(bound) else float(bound)
        if result.x is None:
            return result.status, None, bound
        found = result.x[:num_weights].reshape(pair.shape)
        # The scale is nothing to a half-space, but the penalty is of it.
        found = min(self._scaled(found), found, key=self.objective)
        better = self.objective(found) < objective - _BETTER / 2
        return result.status, found if better else None, bound


# The learner.


class Pair(NamedTuple):
    """Parameters of the learner.

    Attributes:
      classifier: weights of the features and, last, of 1, float ``[D + 1]``.
      rejector: likewise.
    """

    classifier: Array
    rejector: Array


def make_learner(*, time_limit: float) -> Learner:
    """The learner of two half-spaces: one update solves the examples it is given.

    The update runs on the host and cannot be traced. It reads
    ``hparams["l1_penalty"]`` and the answers of one expert; an example of weight 0, or
    that the expert has not answered, has no part in it. Its metrics are the system
    error as ``loss``, and the ``gap`` of `Solution`, which are kept in the model state
    too.

    Args:
      time_limit: seconds, > 0, as for `solve_milp`.

    Returns:
      The learner; its ``predict`` gives a `l2d_jax.types.Decision` of one expert and
      two classes. A half-space has no probabilities, so those of the classes are 0
      and 1, and there is no estimate of the expert's being right. The ``defer_score``
      is the distance from the rejector.
    """

    def init(key: jax.Array, hparams: HParams, batch: Batch) -> TrainState:
        del hparams
        weights = jnp.zeros(jnp.shape(batch.inputs)[-1] + 1)
        unknown = jnp.ones(())
        state = {"error": unknown, "gap": unknown}
        variables = Variables(Pair(weights, weights), state)
        return TrainState(variables, (), key, jnp.zeros((), jnp.int32))

    def update(
        state: TrainState, hparams: HParams, batch: Batch
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        correct, weights = one_expert_correct(batch, jnp.float32)
        counts = np.asarray(weights)
        if not np.isin(counts, (0, 1)).all():
            raise ValueError("the integer program takes no weights but 0 and 1")
        rows = np.flatnonzero(counts)
        found = solve_milp(
            np.asarray(batch.inputs)[rows],
            np.asarray(batch.labels)[rows],
            np.asarray(correct)[rows],
            time_limit=time_limit,
            l1_penalty=float(hparams["l1_penalty"]),
            seed=int(jax.random.randint(state.key, (), 0, 2**31 - 1)),
        )
        pair = Pair(jnp.asarray(found.classifier), jnp.asarray(found.rejector))
        kept = {"error": jnp.asarray(found.error), "gap": jnp.asarray(found.gap)}
        state = state._replace(variables=Variables(pair, kept), step=state.step + 1)
        return state, {"loss": kept["error"], "gap": kept["gap"]}

    def predict(variables: Variables, hparams: HParams, inputs: Array) -> Decision:
        del hparams
        return decide(variables.params, inputs)

    return Learner(init, update, predict)


def decide(pair: Pair, inputs: Array) -> Decision:
    """What the pair decides, of inputs ``[B, D]``."""
    inputs = jnp.asarray(inputs)

    def sums(halfspace: Array) -> jax.Array:
        halfspace = jnp.asarray(halfspace)
        return inputs @ halfspace[:-1] + halfspace[-1]

    labels = (sums(pair.classifier) > 0).astype(int)
    return decisions.decide(jax.nn.one_hot(labels, 2), sums(pair.rejector)[:, None])
