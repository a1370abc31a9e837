"""A classifier and a deferrer to many experts, trained together on true labels.

Keswani, Lease and Kenthapadi, "Towards Unbiased and Accurate Deferral to Multiple
Experts", 2021: the deferrer gives each of M experts and, last, the classifier a weight
in (0, 1) of its own; the label is their weighted vote, of all of them or of a small
committee drawn by weight. Two variants look after the groups: one averages the loss
over groups in place of examples, the other reweights the groups round by round towards
the one that fares worst.

The authors' experts answer everything. Here an answer of -1 says that an expert was not
asked: such an expert has no vote, no seat in a committee, and no part in any loss.
"""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import optax

from l2d_jax import losses
from l2d_jax.crowds import allocation
from l2d_jax.learners.batches import weighted_mean
from l2d_jax.optimizers import OptimizerFn
from l2d_jax.types import (
    Array,
    Batch,
    Dataset,
    HParams,
    Learner,
    ModelFns,
    PyTree,
    TrainState,
    Variables,
)

OBJECTIVES = ("classify", "joint", "balanced", "minimax")
"""What is minimized: the classifier's loss alone; the loss of classifier and vote, the
latter averaged over examples, over groups, or over groups under given weights."""

Fit: TypeAlias = Callable[[TrainState, HParams], TrainState]
"""``(initial state, hparams) -> trained state``; see `train_minimax`."""


class Prediction(NamedTuple):
    """What the two networks say, before anybody is asked.

    Attributes:
      weights: weight of each expert and, last, of the classifier, float ``[B, M + 1]``,
        in [0, 1], each by itself: rows do not sum to 1.
      classifier_prob: the classifier's probability of label 1, float ``[B]``.
    """

    weights: jax.Array
    classifier_prob: jax.Array


class Rounds(NamedTuple):
    """What minimax training leaves, round by round.

    Attributes:
      variables: of the pair trained in each round, a pytree of ``[T, ...]``.
      group_weights: of the groups in each round, float ``[T, G]``, rows sum to 1.
      group_losses: loss of each group's votes after each round, float ``[T, G]``, in
        nats; 0 for a group without examples.
    """

    variables: Variables
    group_weights: jax.Array
    group_losses: jax.Array


def seat_shares(weights: Array, expert_labels: Array) -> jax.Array:
    """Weights normalized over the experts who answered and the classifier.

    Args:
      weights: of the experts and, last, the classifier, float ``[B, M + 1]``, >= 0.
      expert_labels: answers 0 or 1, and -1 of who was not asked, int ``[B, M]``.

    Returns:
      Float ``[B, M + 1]``, in [0, 1], rows sum to 1; 0 for an expert who was not asked.
      Where no weight is left (below the smallest normal float) the classifier has all
      of it.

    Raises:
      TypeError: ``expert_labels`` is not of integers.
      ValueError: the shapes do not match.
    """
    asked = _asked(weights, expert_labels)
    masked = jnp.where(asked, jnp.asarray(weights), 0.0)
    scale = jax.lax.stop_gradient(jnp.max(masked, axis=1, keepdims=True))
    some = scale >= jnp.finfo(masked.dtype).tiny
    # The greatest is 1, so that the square of a tiny sum is not divided by.
    masked = masked / jnp.where(some, scale, 1.0)
    total = jnp.sum(masked, axis=1, keepdims=True)
    classifier = jnp.zeros_like(masked).at[:, -1].set(1.0)
    return jnp.where(some, masked / jnp.where(some, total, 1.0), classifier)


def vote(
    weights: Array,
    classifier_prob: Array,
    expert_labels: Array,
    *,
    normalized: bool = True,
) -> jax.Array:
    r"""Weighted vote of everybody who answered and of the classifier.

    .. math:: q = \sum_{i \text{ asked}} w_i e_i + w_{M+1} F(x)

    Args:
      weights: of the experts and, last, the classifier, float ``[B, M + 1]``, >= 0.
      classifier_prob: the classifier's probability of label 1, F(x), float ``[B]``.
      expert_labels: answers 0 or 1, and -1 of who was not asked, int ``[B, M]``.
      normalized: whether the weights are first divided by their sum over who answered
        and the classifier, as `seat_shares` does: the vote is then a mean, whoever was
        asked. The authors do not, with experts who all answer; the sum then grows with
        their number. Static.

    Returns:
      q, float ``[B]``, in [0, 1] if normalized, else in [0, M + 1]. It stands for label
      1 where it is > 1/2, see `decide`.

    Raises:
      TypeError: ``expert_labels`` is not of integers.
      ValueError: the shapes do not match.

    References:
      Keswani, Lease and Kenthapadi, 2021; not normalized.
    """
    chosen = _voting_weights(weights, expert_labels, normalized)
    return jnp.sum(chosen * _opinions(classifier_prob, expert_labels), axis=1)


def decide(vote: Array) -> jax.Array:
    """Label that a vote stands for, int32: 1 where it is > 1/2; a tie is 0."""
    return (jnp.asarray(vote) > 0.5).astype(jnp.int32)


def draw_committee(
    key: jax.Array, weights: Array, expert_labels: Array, size: int
) -> jax.Array:
    """Committees whose seats are drawn by weight and with replacement.

    Args:
      key: PRNG key.
      weights: of the experts and, last, the classifier, float ``[B, M + 1]``, >= 0.
      expert_labels: answers 0 or 1, and -1 of who was not asked, int ``[B, M]``.
      size: seats k, > 0; static. Odd, it leaves no tie.

    Returns:
      Share of the seats that each has, float ``[B, M + 1]``, rows sum to 1; 0 for an
      expert who was not asked.

    Raises:
      TypeError: ``expert_labels`` is not of integers.
      ValueError: the shapes do not match, or ``size`` is not > 0.

    References:
      Keswani, Lease and Kenthapadi, 2021, the sparse committee.
    """
    if size < 1:
        raise ValueError(f"size must be > 0, got {size}")
    shares = seat_shares(weights, expert_labels)
    committee = allocation.Committee(size)
    num_tasks, num_members = shares.shape
    noise = allocation.draw_noise(key, num_tasks, num_members, committee)

    def seat(shares: jax.Array, noise: jax.Array) -> jax.Array:
        return allocation.seat(shares, noise, committee)

    return jax.vmap(seat)(shares, noise)


def committee_vote(
    seats: Array, classifier_prob: Array, expert_labels: Array
) -> jax.Array:
    """Share of the seats that are for label 1; the classifier votes as it decides.

    Args:
      seats: share of the seats that each has, float ``[B, M + 1]``, from
        `draw_committee`.
      classifier_prob: the classifier's probability of label 1, float ``[B]``.
      expert_labels: answers 0 or 1, and -1 of who was not asked, int ``[B, M]``.

    Returns:
      Float ``[B]``, in [0, 1].

    Raises:
      TypeError: ``expert_labels`` is not of integers.
      ValueError: the shapes do not match.
    """
    _asked(seats, expert_labels, name="seats")
    _require_prob(classifier_prob, expert_labels)
    ballots = jnp.concatenate(
        [jnp.asarray(expert_labels), decide(classifier_prob)[:, None]], axis=1
    )
    return jax.vmap(allocation.vote)(jnp.asarray(seats), ballots)


def majority(decisions: Array) -> jax.Array:
    """What most of several systems decide, int32 ``[B]``; a tie is 0.

    Args:
      decisions: of the systems, 0 or 1, int ``[T, B]``.
    """
    return decide(jnp.mean(jnp.asarray(decisions, jnp.float32), axis=0))


def drop_experts(key: jax.Array, expert_labels: Array, rate: Array) -> jax.Array:
    """Answers of which some, drawn at random, count as not given.

    The authors put label 0 in the place of a dropped answer, which tells the classifier
    nothing true; here it is as if the expert had not been asked.

    Args:
      key: PRNG key.
      expert_labels: answers 0 or 1, and -1 of who was not asked, int ``[B, M]``.
      rate: probability of each answer to be dropped, float ``[]``, in [0, 1].

    Returns:
      Int ``[B, M]``: -1 for what was dropped, the rest as it was.

    Raises:
      TypeError: ``expert_labels`` is not of integers.
      ValueError: ``expert_labels`` is not ``[B, M]``.
    """
    _require_answers(expert_labels)
    kept = jax.random.uniform(key, jnp.shape(expert_labels)) >= rate
    return jnp.where(kept, jnp.asarray(expert_labels), -1)


def vote_losses(
    prediction: Prediction, batch: Batch, *, normalized: bool = True
) -> jax.Array:
    r"""Log loss of each example's weighted vote, in nats, float ``[B]``.

    With q as in `vote`, :math:`-\log \sigma(\pm(2q - 1))`, by the label's sign. With
    normalized weights it is at least :math:`\log(1 + 1/e) = 0.313`.

    Args:
      prediction: of the examples.
      batch: labels 0 or 1, int ``[B]``, and the experts' answers, int ``[B, M]``.
      normalized: as in `vote`.

    Raises:
      TypeError: labels or answers are not integers.
      ValueError: the batch lacks a field or has it in a wrong shape.

    References:
      Keswani, Lease and Kenthapadi, 2021, the loss L_D.
    """
    answers = _answers(batch)
    chosen = _voting_weights(prediction.weights, answers, normalized)
    opinions = _opinions(prediction.classifier_prob, answers)
    return jax.vmap(losses.allocation_log_loss)(
        chosen, opinions, jnp.asarray(batch.labels)
    )


def group_means(
    values: Array, groups: Array, weights: Array | None, num_groups: int
) -> tuple[jax.Array, jax.Array]:
    """Mean of each group, and whether it has any weight.

    Args:
      values: float ``[B]``.
      groups: int ``[B]``, in [0, num_groups).
      weights: of the examples, float ``[B]``, >= 0; None for all alike.
      num_groups: G, > 0.

    Returns:
      Means, float ``[G]``, 0 for a group without weight; and bool ``[G]``.
    """
    member = jax.nn.one_hot(groups, num_groups)
    if weights is not None:
        member = member * jnp.asarray(weights)[:, None]
    totals = jnp.sum(member, axis=0)
    present = totals > 0
    sums = jnp.sum(member * jnp.asarray(values)[:, None], axis=0)
    return sums / jnp.where(present, totals, 1.0), present


def make_learner(
    deferrer: ModelFns,
    classifier: ModelFns,
    optimizer: OptimizerFn,
    num_groups: int = 1,
    *,
    objective: str = "joint",
    normalized: bool = True,
) -> Learner:
    r"""The learner of classifier and deferrer.

    At step t = 1, 2, ..., in nats,

    .. math:: (1 - t^{-c})\,L_D + L_{clf} + \lambda \sum_i c_i w_i

    with :math:`L_D` from `vote_losses`, taken with the answers that `drop_experts`
    leaves, :math:`L_{clf}` the log loss of the classifier, and :math:`w_i` the weights
    with which the experts vote: if normalized, the share of each among who answered.
    :math:`L_D` is a mean over the examples of the batch for ``joint``; for ``balanced``
    the mean of the means of the groups that the batch has; for ``minimax`` their
    weighted mean, under ``hparams["group_weights"]``, float ``[G]``, which
    `train_minimax` sets. The other two terms are means over examples. ``classify`` is
    :math:`L_{clf}` alone; the deferrer stays as it starts.

    The authors sum over groups where ``balanced`` averages: a factor that a batch with
    a group missing does not change.

    Args:
      deferrer: gives logits of the weights, ``[B, M + 1]``, the classifier's last.
      classifier: gives the logit of label 1, ``[B, 1]``.
      optimizer: from `l2d_jax.optimizers`, or of that form.
      num_groups: G, > 0; read by ``balanced`` and ``minimax``.
      objective: one of `OBJECTIVES`.
      normalized: as in `vote`; the authors' are not.

    Returns:
      The learner. Its batch has ``inputs``, ``labels`` 0 or 1, ``expert_labels`` 0, 1
      or -1, int ``[B, M]``; ``groups``, int ``[B]``, if the objective has groups; and
      may have ``weights``, float ``[B]``, and ``costs`` of the experts, float
      ``[B, M]``, 1 each if None. The classifier costs nothing. It reads the optimizer's
      hyperparameters and, unless it classifies, ``step_exponent``, c > 0; ``dropout``,
      in [0, 1]; and ``cost_weight``, :math:`\lambda`. Its ``predict`` gives a
      `Prediction`.

    Raises:
      ValueError: the objective is unknown or ``num_groups`` is not > 0; from
        ``update``, the batch lacks a field or has it in a wrong shape.

    References:
      Keswani, Lease and Kenthapadi, 2021, joint learning, and its balanced and minimax
      variants.
    """
    if objective not in OBJECTIVES:
        raise ValueError(
            f"objective must be one of {', '.join(OBJECTIVES)}, got {objective!r}"
        )
    if num_groups < 1:
        raise ValueError(f"num_groups must be > 0, got {num_groups}")

    def init(key: jax.Array, hparams: HParams, batch: Batch) -> TrainState:
        init_key, train_key = jax.random.split(key)
        deferrer_key, classifier_key = jax.random.split(init_key)
        first = deferrer.init(deferrer_key, batch.inputs)
        second = classifier.init(classifier_key, batch.inputs)
        params, model_state = (
            {"deferrer": a, "classifier": b} for a, b in zip(first, second, strict=True)
        )
        return TrainState(
            variables=Variables(params, model_state),
            opt_state=optimizer(hparams).init(params),
            key=train_key,
            step=jnp.zeros((), jnp.int32),
        )

    def forward(
        variables: Variables, inputs: Array, train: bool
    ) -> tuple[jax.Array, jax.Array, PyTree]:
        """Logits of the weights and of label 1, and the new model state."""
        outputs, model_state = {}, {}
        for name, model in (("deferrer", deferrer), ("classifier", classifier)):
            outputs[name], model_state[name] = model.apply(
                variables.params[name], variables.model_state[name], inputs, train=train
            )
        return outputs["deferrer"], outputs["classifier"][:, 0], model_state

    def update(
        state: TrainState, hparams: HParams, batch: Batch
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        step = state.step + 1
        key = jax.random.fold_in(state.key, state.step)

        def loss_fn(params: PyTree) -> tuple[jax.Array, PyTree]:
            variables = Variables(params, state.variables.model_state)
            weight_logits, logit, model_state = forward(variables, batch.inputs, True)
            signs = jnp.where(batch.labels == 1, -1, 1)
            # -log sigmoid of the logit towards the label, stable at any logit.
            loss = weighted_mean(jax.nn.softplus(signs * logit), batch.weights)
            if objective != "classify":
                prediction = Prediction(
                    jax.nn.sigmoid(weight_logits), jax.nn.sigmoid(logit)
                )
                rest = batch._replace(
                    expert_labels=drop_experts(key, _answers(batch), hparams["dropout"])
                )
                ramp = 1.0 - jnp.float32(step) ** -hparams["step_exponent"]
                loss += ramp * _mean_vote_loss(prediction, rest, hparams)
                loss += hparams["cost_weight"] * _mean_cost(prediction, rest)
            return loss, model_state

        (loss, model_state), grads = jax.value_and_grad(loss_fn, has_aux=True)(
            state.variables.params
        )
        updates, opt_state = optimizer(hparams).update(
            grads, state.opt_state, state.variables.params
        )
        params = optax.apply_updates(state.variables.params, updates)
        state = TrainState(Variables(params, model_state), opt_state, state.key, step)
        return state, {"loss": loss}

    def _mean_vote_loss(
        prediction: Prediction, batch: Batch, hparams: HParams
    ) -> jax.Array:
        values = vote_losses(prediction, batch, normalized=normalized)
        if objective == "joint":
            return weighted_mean(values, batch.weights)
        means, present = group_means(values, _groups(batch), batch.weights, num_groups)
        of_groups = jnp.ones(num_groups)
        if objective == "minimax":
            of_groups = jnp.asarray(hparams["group_weights"])
        return weighted_mean(means, of_groups * present)

    def _mean_cost(prediction: Prediction, batch: Batch) -> jax.Array:
        answers = _answers(batch)
        chosen = _voting_weights(prediction.weights, answers, normalized)
        costs = jnp.ones(answers.shape) if batch.costs is None else batch.costs
        if jnp.shape(costs) != answers.shape:
            raise ValueError(
                "batch.costs must be one of each expert, [B, M] ="
                f" {list(answers.shape)}, got shape {jnp.shape(costs)}; the classifier"
                " is free"
            )
        return weighted_mean(jnp.sum(costs * chosen[:, :-1], axis=1), batch.weights)

    def predict(variables: Variables, hparams: HParams, inputs: Array) -> Prediction:
        del hparams
        weight_logits, logit, _ = forward(variables, inputs, False)
        return Prediction(jax.nn.sigmoid(weight_logits), jax.nn.sigmoid(logit))

    return Learner(init, update, predict)


def next_group_weights(
    group_weights: Array, group_losses: Array, number: Array
) -> jax.Array:
    r"""Weights of the groups for the next round of minimax training, float ``[G]``.

    .. math:: \omega_g \propto \omega_g \exp(\ell_g / \sqrt{r})

    Args:
      group_weights: of this round, float ``[G]``, > 0.
      group_losses: of this round, float ``[G]``, in nats.
      number: of this round, r = 1, 2, ..., ``[]``.

    Returns:
      The weights, which sum to 1; the authors leave them as they grow.

    References:
      Keswani, Lease and Kenthapadi, 2021, the minimax variant.
    """
    exponent = jnp.asarray(group_losses) / jnp.sqrt(jnp.asarray(number, jnp.float32))
    return jax.nn.softmax(jnp.log(jnp.asarray(group_weights)) + exponent)


def train_minimax(
    learner: Learner,
    hparams: HParams,
    key: jax.Array,
    dataset: Dataset,
    fit: Fit,
    *,
    num_rounds: int,
    num_groups: int,
    normalized: bool = True,
) -> Rounds:
    """Train pair after pair from scratch, with more weight on groups that fare badly.

    The first round weights all groups alike. After each, a group's weight grows with
    the mean loss of its votes over the whole of ``dataset``, without dropout, see
    `next_group_weights`. The rounds differ in their initial parameters and in their
    dropout. To decide with the result, take the `majority` of the rounds' decisions.

    Args:
      learner: from `make_learner`, of objective ``minimax`` and the same ``num_groups``
        and ``normalized``.
      hparams: its hyperparameters but ``group_weights``, which this function sets.
      key: of the run.
      dataset: training examples, ``[N, ...]``, with ``groups``; those that are not to
        count have weight 0.
      fit: trains a round from its initial state, on the same examples.
      num_rounds: T, > 0; static.
      num_groups: G, > 0; static.
      normalized: as in `vote`; static.

    Raises:
      ValueError: ``num_rounds`` is not > 0, or the data lack a field.

    References:
      Keswani, Lease and Kenthapadi, 2021, the minimax variant. What its loss of a group
      is taken over is ours.
    """
    if num_rounds < 1:
        raise ValueError(f"num_rounds must be > 0, got {num_rounds}")
    first = jax.tree.map(lambda leaf: leaf[:2], dataset)

    def train(group_weights: jax.Array, number: jax.Array) -> tuple[jax.Array, Rounds]:
        of_round = {**hparams, "group_weights": group_weights}
        state = learner.init(jax.random.fold_in(key, number), of_round, first)
        variables = fit(state, of_round).variables
        prediction = learner.predict(variables, of_round, dataset.inputs)
        values = vote_losses(prediction, dataset, normalized=normalized)
        means, _ = group_means(values, _groups(dataset), dataset.weights, num_groups)
        after = next_group_weights(group_weights, means, number)
        return after, Rounds(variables, group_weights, means)

    start = jnp.full(num_groups, 1.0 / num_groups)
    _, rounds = jax.lax.scan(train, start, jnp.arange(1, num_rounds + 1))
    return rounds


def _voting_weights(
    weights: Array, expert_labels: Array, normalized: bool
) -> jax.Array:
    """Weights with which everybody votes, ``[B, M + 1]``; 0 of who was not asked."""
    if normalized:
        return seat_shares(weights, expert_labels)
    return jnp.where(_asked(weights, expert_labels), jnp.asarray(weights), 0.0)


def _asked(weights: Array, expert_labels: Array, name: str = "weights") -> jax.Array:
    """Whether the expert has answered, ``[B, M + 1]``; the classifier always has."""
    _require_answers(expert_labels)
    num_examples, num_experts = jnp.shape(expert_labels)
    if jnp.shape(weights) != (num_examples, num_experts + 1):
        raise ValueError(
            f"{name} must be [B, M + 1], of the experts and the classifier, ="
            f" {[num_examples, num_experts + 1]}, got shape {jnp.shape(weights)}"
        )
    return jnp.pad(
        jnp.asarray(expert_labels) >= 0, ((0, 0), (0, 1)), constant_values=True
    )


def _opinions(classifier_prob: Array, expert_labels: Array) -> jax.Array:
    """Answers and the classifier's probability, float ``[B, M + 1]``; 0 if unasked."""
    _require_prob(classifier_prob, expert_labels)
    prob = jnp.asarray(classifier_prob)
    answers = jnp.maximum(jnp.asarray(expert_labels), 0).astype(prob.dtype)
    return jnp.concatenate([answers, prob[:, None]], axis=1)


def _answers(batch: Batch) -> jax.Array:
    if batch.expert_labels is None:
        raise ValueError("batch.expert_labels is None; give the experts' answers")
    _require_answers(batch.expert_labels)
    return jnp.asarray(batch.expert_labels)


def _groups(batch: Batch) -> Array:
    if batch.groups is None:
        raise ValueError("batch.groups is None; give everyone's group")
    return batch.groups


def _require_answers(expert_labels: Array) -> None:
    if jnp.ndim(expert_labels) != 2:
        raise ValueError(
            f"expert_labels must be [B, M], got shape {jnp.shape(expert_labels)}"
        )
    if not jnp.issubdtype(jnp.asarray(expert_labels).dtype, jnp.integer):
        raise TypeError(
            "expert_labels must be integers, 0, 1 or -1 for who was not asked, got"
            f" {jnp.asarray(expert_labels).dtype}"
        )


def _require_prob(classifier_prob: Array, expert_labels: Array) -> None:
    num_examples = jnp.shape(expert_labels)[0]
    if jnp.shape(classifier_prob) != (num_examples,):
        raise ValueError(
            f"classifier_prob must be [B] = [{num_examples}], got shape"
            f" {jnp.shape(classifier_prob)}"
        )
