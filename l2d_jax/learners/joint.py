r"""A classifier and a deferrer to many experts, trained together on true labels.

Keswani, Lease and Kenthapadi, "Towards Unbiased and Accurate Deferral to Multiple
Experts", 2021: the deferrer gives each of M experts and, last, the classifier a weight
in (0, 1) of its own; the label is their weighted vote. Two variants look after the
groups: one averages the loss over groups in place of examples, the other reweights the
groups round by round towards the one that fares worst.

What differs from the paper, each time for the reason given: there may be more than two
classes; weights are shared among who answered and the classifier, so that a vote is a
mean whoever was asked (the authors' experts answer everything, and their sum of weights
grows with the number of experts); a dropped answer counts as not given, where the
authors put label 0 in its place; and the pairs of networks of the minimax variant vote
with their weights, where the authors count the pairs' decisions.
"""

import jax
import jax.numpy as jnp
import optax

from l2d_jax import decisions, losses
from l2d_jax._checks import poison_unless, require_all
from l2d_jax.learners.batches import (
    blank,
    blank_unweighted,
    counted_rows,
    weighted_mean,
)
from l2d_jax.learners.classifier import class_probs, label_nll
from l2d_jax.optimizers import OptimizerFn
from l2d_jax.types import (
    Array,
    Batch,
    Decision,
    HParams,
    Learner,
    ModelFns,
    PyTree,
    TrainState,
    Variables,
)

OBJECTIVES = ("joint", "balanced", "minimax")
"""Over what the vote's loss is averaged: examples, groups, or groups under weights that
grow where the vote fares badly."""


def decide(weights: Array, probs: Array) -> Decision:
    """Decision in which everybody votes with their share of the weights.

    Args:
      weights: of the experts and, last, the classifier, float ``[B, M + 1]``, >= 0.
      probs: of the classes under the classifier, float ``[B, K]``.

    Returns:
      The decision: ``allocation`` is the weights by their sum, all of it the
      classifier's where no weight is left (below the smallest normal float);
      ``defer_score`` is an expert's weight less the classifier's, so that the rule of
      `l2d_jax.decisions` asks whom the deferrer trusts most.

    Raises:
      ValueError: the shapes do not match.
    """
    weights = jnp.asarray(weights)
    decision = decisions.decide(probs, weights[:, :-1] - weights[:, -1:])
    return decision._replace(allocation=shares(weights))


def shares(weights: jax.Array) -> jax.Array:
    """Weights by their sum, float ``[B, A]``; the last has all where there is none."""
    scale = jax.lax.stop_gradient(jnp.max(weights, axis=1, keepdims=True))
    # Written so that weights which are NaN give NaN, and not the classifier all.
    some = ~(scale < jnp.finfo(weights.dtype).tiny)
    # The greatest is 1, so that the square of a tiny sum is not divided by.
    scaled = weights / jnp.where(some, scale, 1.0)
    total = jnp.sum(scaled, axis=1, keepdims=True)
    last = jnp.zeros_like(weights).at[:, -1].set(1.0)
    return jnp.where(some, scaled / jnp.where(some, total, 1.0), last)


def drop_experts(key: jax.Array, expert_labels: Array, rate: Array) -> jax.Array:
    """Answers of which some, drawn at random, count as not given.

    Args:
      key: PRNG key.
      expert_labels: answers, and -1 of who was not asked, int ``[B, M]``.
      rate: probability of each answer to be dropped, float ``[]``, in [0, 1].

    Returns:
      Int ``[B, M]``: -1 for what was dropped, the rest as it was.
    """
    kept = jax.random.uniform(key, jnp.shape(expert_labels)) >= rate
    return jnp.where(kept, decisions.signed(expert_labels), -1)


def vote_losses(
    weights: jax.Array, probs: jax.Array, labels: Array, expert_labels: Array
) -> jax.Array:
    """Log loss of each example's weighted vote, in nats, float ``[B]``.

    See `l2d_jax.losses.vote_log_loss`; at least log(1 + 1/e) = .313 for two classes.

    Args:
      weights: of the experts and, last, the classifier, float ``[B, M + 1]``, >= 0.
      probs: of the classes under the classifier, float ``[B, K]``.
      labels: int ``[B]``, in [0, K).
      expert_labels: answers, and -1 of who was not asked, int ``[B, M]``.
    """
    votes = decisions.vote(decide(_asked(weights, expert_labels), probs), expert_labels)
    return jax.vmap(losses.vote_log_loss)(votes, jnp.asarray(labels))


def group_means(
    values: Array, groups: Array, weights: Array | None, num_groups: int
) -> tuple[jax.Array, jax.Array]:
    """Mean of each group, and its weight.

    Args:
      values: float ``[B]``.
      groups: int ``[B]``, in [0, num_groups).
      weights: of the examples, float ``[B]``, >= 0; None for all alike.
      num_groups: G, > 0.

    Returns:
      Means, float ``[G]``, 0 for a group without weight; and weights, float ``[G]``.
      Means are NaN where a traced group of a row that counts is none.

    Raises:
      ValueError: a concrete group of a row that counts is none.
    """
    member = jax.nn.one_hot(groups, num_groups)
    counts = jnp.ones(len(member), bool)
    if weights is not None:
        member = member * jnp.asarray(weights)[:, None]
        counts = jnp.asarray(weights) > 0
    if not isinstance(counts, jax.core.Tracer) and not isinstance(
        groups, jax.core.Tracer
    ):
        require_all(
            "groups",
            jnp.where(counts, groups, 0),
            lambda v: (v >= 0) & (v < num_groups),
            f"be in [0, {num_groups})",
        )
    exist = (jnp.asarray(groups) >= 0) & (jnp.asarray(groups) < num_groups)
    totals = jnp.sum(member, axis=0)
    # Of a row that is no member of any weight nothing is looked at.
    values = blank(values, jnp.sum(member, axis=1))
    sums = jnp.sum(member * values[:, None], axis=0)
    means = sums / jnp.where(totals > 0, totals, 1.0)
    return poison_unless(jnp.all(exist | ~counts), means), totals


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


def make_learner(
    deferrer: ModelFns,
    classifier: ModelFns,
    optimizer: OptimizerFn,
    num_groups: int = 1,
    *,
    objective: str = "joint",
) -> Learner:
    r"""The learner of classifier and deferrer.

    At step t = 1, 2, ..., in nats,

    .. math:: (1 - t^{-c})\,L_D + L_{clf} + \lambda \sum_i c_i w_i

    with :math:`L_D` from `vote_losses`, taken with the answers that `drop_experts`
    leaves, :math:`L_{clf}` the log loss of the classifier, and :math:`w_i` the shares
    with which the experts vote. :math:`L_D` is a mean over the examples of the batch
    for ``joint`` and the mean of the means of the groups that the batch has for
    ``balanced``; the authors sum over groups, a factor that a batch with a group
    missing does not change. ``minimax`` is of one round, see `make_minimax_learner`:
    the mean of the groups' means under ``hparams["group_weights"]``, float ``[G]``.

    Args:
      deferrer: gives logits of the weights, ``[B, M + 1]``, the classifier's last.
      classifier: gives logits of the classes, ``[B, K]``, or ``[B, 1]`` for two.
      optimizer: from `l2d_jax.optimizers`, or of that form.
      num_groups: G, > 0; read by ``balanced`` and ``minimax``.
      objective: one of `OBJECTIVES`.

    Returns:
      The learner. Its batch has ``inputs``, ``labels``, ``expert_labels`` with -1 for
      who was not asked, int ``[B, M]``; ``groups``, int ``[B]``, if the objective has
      groups; and may have ``weights``, float ``[B]``, and ``costs`` of the experts,
      float ``[B, M]``, 1 each if None. The classifier costs nothing. It reads the
      optimizer's hyperparameters, ``step_exponent``, c > 0, ``dropout``, in [0, 1], and
      ``cost_weight``, :math:`\lambda`. Its ``predict`` gives the Decision of `decide`.

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
        variables: Variables, batch: Batch, train: bool
    ) -> tuple[jax.Array, jax.Array, PyTree]:
        """Weights, logits of the classes, and the new model state."""
        outputs, model_state = {}, {}
        for name, model in (("deferrer", deferrer), ("classifier", classifier)):
            state = variables.model_state[name]
            counted = counted_rows(state, batch) if train else {}
            outputs[name], model_state[name] = model.apply(
                variables.params[name], state, batch.inputs, train, **counted
            )
        return jax.nn.sigmoid(outputs["deferrer"]), outputs["classifier"], model_state

    def update(
        state: TrainState, hparams: HParams, batch: Batch
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        batch = blank_unweighted(batch)
        step = state.step + 1
        key = jax.random.fold_in(state.key, state.step)
        answers = drop_experts(key, _answers(batch), hparams["dropout"])

        def loss_fn(params: PyTree) -> tuple[jax.Array, tuple[PyTree, jax.Array]]:
            variables = Variables(params, state.variables.model_state)
            weights, logits, model_state = forward(variables, batch, True)
            nll = label_nll(logits, jnp.asarray(batch.labels))
            of_votes = vote_losses(weights, class_probs(logits), batch.labels, answers)
            ramp = 1.0 - jnp.float32(step) ** -hparams["step_exponent"]
            loss = weighted_mean(nll, batch.weights)
            loss += ramp * _mean_vote_loss(of_votes, batch, hparams)
            loss += hparams["cost_weight"] * _mean_cost(weights, answers, batch)
            return loss, (model_state, of_votes)

        (loss, (model_state, of_votes)), grads = jax.value_and_grad(
            loss_fn, has_aux=True
        )(state.variables.params)
        updates, opt_state = optimizer(hparams).update(
            grads, state.opt_state, state.variables.params
        )
        params = optax.apply_updates(state.variables.params, updates)
        state = TrainState(Variables(params, model_state), opt_state, state.key, step)
        return state, {"loss": loss, "vote_losses": of_votes}

    def _mean_vote_loss(
        of_votes: jax.Array, batch: Batch, hparams: HParams
    ) -> jax.Array:
        if objective == "joint":
            return weighted_mean(of_votes, batch.weights)
        means, totals = group_means(of_votes, _groups(batch), batch.weights, num_groups)
        of_groups = jnp.ones(num_groups)
        if objective == "minimax":
            of_groups = jnp.asarray(hparams["group_weights"])
        return weighted_mean(means, of_groups * (totals > 0))

    def predict(variables: Variables, hparams: HParams, inputs: Array) -> Decision:
        del hparams
        batch = Batch(inputs, jnp.zeros(len(inputs), int))
        weights, logits, _ = forward(variables, batch, False)
        return decide(weights, class_probs(logits))

    return Learner(init, update, predict)


def make_minimax_learner(
    deferrer: ModelFns,
    classifier: ModelFns,
    optimizer: OptimizerFn,
    num_groups: int,
    *,
    num_rounds: int,
    steps_per_round: int,
) -> Learner:
    """The minimax variant: pair after pair, with more weight on groups that fare badly.

    The first round weights all groups alike. After each, a group's weight grows with
    the mean loss of its votes over the second half of the round's steps, with dropout,
    see `next_group_weights`; over what the paper takes it is not said. A round is
    trained from scratch, and the pairs of all rounds that have begun decide together,
    with the mean of their allocations and of their classifiers' probabilities.

    Args:
      deferrer: as for `make_learner`.
      classifier: as for `make_learner`.
      optimizer: as for `make_learner`.
      num_groups: G, > 0.
      num_rounds: T, > 0.
      steps_per_round: > 1. Further steps go on with the last round.

    Returns:
      The learner, as `make_learner` has it.

    References:
      Keswani, Lease and Kenthapadi, 2021, the minimax variant.
    """
    if num_rounds < 1 or steps_per_round < 2:
        raise ValueError(
            "num_rounds must be > 0 and steps_per_round > 1, got"
            f" {num_rounds} and {steps_per_round}"
        )
    pair = make_learner(
        deferrer, classifier, optimizer, num_groups, objective="minimax"
    )

    def init(key: jax.Array, hparams: HParams, batch: Batch) -> TrainState:
        states = jax.vmap(lambda key: pair.init(key, hparams, batch))(
            jax.random.split(key, num_rounds)
        )
        variables = Variables(
            {
                "pairs": states.variables.params,
                # No parameter descends these: they are what the rounds have measured.
                "group_weights": jnp.full(num_groups, 1.0 / num_groups),
                "loss_sums": jnp.zeros(num_groups),
                "weight_sums": jnp.zeros(num_groups),
                "begun": jnp.ones(()),
            },
            states.variables.model_state,
        )
        return TrainState(variables, states.opt_state, states.key, jnp.zeros((), int))

    def update(
        state: TrainState, hparams: HParams, batch: Batch
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        batch = blank_unweighted(batch)
        params = state.variables.params
        number = jnp.minimum(state.step // steps_per_round, num_rounds - 1)
        step = state.step - number * steps_per_round
        # What the round before has measured, at the first step of the next.
        turns = (step == 0) & (number > 0)
        means = params["loss_sums"] / jnp.maximum(params["weight_sums"], 1e-9)
        turned = next_group_weights(params["group_weights"], means, number)
        group_weights = jnp.where(turns, turned, params["group_weights"])
        sums = {
            name: jnp.where(turns, 0.0, params[name])
            for name in ("loss_sums", "weight_sums")
        }

        def of_round(tree: PyTree) -> PyTree:
            return jax.tree.map(lambda leaf: leaf[number], tree)

        before = TrainState(
            Variables(of_round(params["pairs"]), of_round(state.variables.model_state)),
            of_round(state.opt_state),
            state.key[number],
            step.astype(jnp.int32),
        )
        after, measured = pair.update(
            before, {**hparams, "group_weights": group_weights}, batch
        )
        of_votes, totals = group_means(
            measured["vote_losses"], _groups(batch), batch.weights, num_groups
        )
        counts = totals * (2 * step >= steps_per_round)

        def put(tree: PyTree, new: PyTree) -> PyTree:
            return jax.tree.map(lambda all, one: all.at[number].set(one), tree, new)

        variables = Variables(
            {
                "pairs": put(params["pairs"], after.variables.params),
                "group_weights": group_weights,
                "loss_sums": sums["loss_sums"] + counts * of_votes,
                "weight_sums": sums["weight_sums"] + counts,
                "begun": number + 1.0,
            },
            put(state.variables.model_state, after.variables.model_state),
        )
        opt_state = put(state.opt_state, after.opt_state)
        state = TrainState(variables, opt_state, state.key, state.step + 1)
        return state, {"loss": measured["loss"]}

    def predict(variables: Variables, hparams: HParams, inputs: Array) -> Decision:
        params = variables.params
        rounds = jax.vmap(lambda one: pair.predict(one, hparams, inputs))(
            Variables(params["pairs"], variables.model_state)
        )
        begun = (jnp.arange(num_rounds) < params["begun"]) / params["begun"]
        mean = jax.tree.map(
            lambda leaf: jnp.tensordot(begun, leaf, axes=1, precision="highest"), rounds
        )
        return mean._replace(expert_correct_prob=rounds.expert_correct_prob[0])

    return Learner(init, update, predict)


def _asked(weights: Array, expert_labels: Array) -> jax.Array:
    """The weights, 0 of experts who were not asked."""
    num_examples, num_experts = jnp.shape(expert_labels)
    if jnp.shape(weights) != (num_examples, num_experts + 1):
        raise ValueError(
            "weights must be [B, M + 1], of the experts and the classifier, ="
            f" {[num_examples, num_experts + 1]}, got shape {jnp.shape(weights)}"
        )
    asked = jnp.pad(
        jnp.asarray(expert_labels) >= 0, ((0, 0), (0, 1)), constant_values=True
    )
    return jnp.where(asked, weights, 0.0)


def _mean_cost(weights: jax.Array, answers: jax.Array, batch: Batch) -> jax.Array:
    costs = jnp.ones(answers.shape) if batch.costs is None else batch.costs
    if jnp.shape(costs) != answers.shape:
        raise ValueError(
            "batch.costs must be one of each expert, [B, M] ="
            f" {list(answers.shape)}, got shape {jnp.shape(costs)}; the classifier"
            " is free"
        )
    voting = shares(_asked(weights, answers))
    return weighted_mean(jnp.sum(costs * voting[:, :-1], axis=1), batch.weights)


def _answers(batch: Batch) -> jax.Array:
    if batch.expert_labels is None:
        raise ValueError("batch.expert_labels is None; give the experts' answers")
    answers = jnp.asarray(batch.expert_labels)
    if answers.ndim != 2:
        raise ValueError(f"expert_labels must be [B, M], got shape {answers.shape}")
    if not jnp.issubdtype(answers.dtype, jnp.integer):
        raise TypeError(
            "expert_labels must be integers, -1 for who was not asked, got"
            f" {answers.dtype}"
        )
    return answers


def _groups(batch: Batch) -> Array:
    if batch.groups is None:
        raise ValueError("batch.groups is None; give everyone's group")
    return batch.groups
