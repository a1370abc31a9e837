"""Allocation models trained in a closed loop, on the labels that they bring about.

The methods of Keswani et al. (2023) are one program and differ in numbers:

=================  ======  =========  ====  ============
method             fade    explore    gold  deploy_prior
=================  ======  =========  ====  ============
Smooth-Matching    T_d     0          0     0
Strict-Matching    0       0          0     0
without a prior    0       0          0     0
bandit             0       1/2        0     0
gold labels        0       0          1     0
prior alone        inf     0          0     1
uniform committee  0       1          0     0
=================  ======  =========  ====  ============

The last two also have a learning rate of 0. Strict-Matching starts from `pretrain`.
With a `allocation.Crowd` the answers of a committee are aggregated by a model of the
annotators in place of a vote, and, if asked, the allocation is that model's too.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from l2d_jax import losses
from l2d_jax.crowds import allocation
from l2d_jax.crowds.allocation import Allocator, Annotators, Arrivals, Crowd
from l2d_jax.optimizers import OptimizerFn
from l2d_jax.types import Array, HParams, ModelFns, PyTree

HPARAMS = ("learning_rate", "fade", "explore", "gold", "deploy_prior", "cost_rate")
"""What is traced: in order, the step size; T_d of `allocation.model_share`; the uniform
share of the allocation while learning (with a crowd's allocation: its optimism in
standard deviations); whether labels are the truth; whether the prior alone is deployed;
and how much a unit of cost counts, in the choice and in the loss."""
FEEDBACKS = ("agreement", "committee", "reward")


class State(NamedTuple):
    """State of a closed loop.

    Attributes:
      params: of the model, a pytree.
      opt_state: of the optimizer, a pytree.
      annotators: the prior and the pools, as given.
      crowd: of the crowd model; None without one.
      num_seen: tasks that somebody was asked about so far, float32 ``[]``.
    """

    params: PyTree
    opt_state: PyTree
    annotators: Annotators
    crowd: PyTree
    num_seen: jax.Array


def make_allocator(
    model: ModelFns,
    optimizer: OptimizerFn,
    *,
    form: str = "sigmoid",
    feedback: str = "agreement",
    crowd: Crowd | None = None,
    crowd_allocates: bool = False,
) -> Allocator:
    """A closed-loop method; `HPARAMS` are its hyperparameters.

    Args:
      model: ``[B, D] -> [B, M]``, a score for each annotator.
      optimizer: from `l2d_jax.optimizers`.
      form: how scores become an allocation; see `allocation.head_weights`.
      feedback: what a label teaches. ``"agreement"``: each consulted annotator's score
        predicts agreement with it (the authors' code); with a crowd the label is its
        probability. ``"committee"``: log loss of the committee's vote (the paper's
        text). ``"reward"``: cross entropy to the allocation that Eq. 1 and 2 make of
        this one, at rate 1; its gradient in softmax scores is penalties less
        rewards, those of `allocation.rewards_and_penalties`.
      crowd: aggregates the answers; None: a vote.
      crowd_allocates: whether the crowd model also says whom to ask.

    Raises:
      ValueError: an unknown form or feedback, or no crowd where it is to allocate.
    """
    if crowd_allocates and crowd is None:
        raise ValueError("crowd_allocates needs a crowd; give one, or leave it False")
    if feedback not in FEEDBACKS:
        known = ", ".join(FEEDBACKS)
        raise ValueError(f"feedback must be one of {known}, got {feedback!r}")
    allocation.head_weights(jnp.zeros(1), jnp.ones(1, bool), form)  # Checks the form.

    def init(
        key: jax.Array, hparams: HParams, annotators: Annotators, features: Array
    ) -> State:
        params, _ = model.init(key, features)
        return State(
            params,
            optimizer(hparams).init(params),
            Annotators(*(jnp.asarray(leaf) for leaf in annotators)),
            None if crowd is None else crowd.init(annotators),
            jnp.zeros(()),
        )

    def model_weights(params: PyTree, arrivals: Arrivals) -> jax.Array:
        logits, _ = model.apply(params, {}, arrivals.features, train=True)
        available = allocation.can_answer(arrivals.answers)
        return jax.vmap(allocation.head_weights, (0, 0, None))(logits, available, form)

    def crowd_weights(state: State, arrivals: Arrivals, explore: Array) -> jax.Array:
        assert crowd is not None
        scores = crowd.scores(state.crowd, explore).T
        if scores.shape[0] > 1:  # Else the same in every category.
            categories = jnp.asarray(arrivals.categories)
            # Indexing alone would wrap a negative category and clip a large one.
            exists = (categories >= 0) & (categories < scores.shape[0])
            scores = jnp.where(exists[:, None], scores[categories], jnp.nan)
        scores = jnp.broadcast_to(scores, arrivals.answers.shape)
        available = allocation.can_answer(arrivals.answers)
        weigh = jax.vmap(allocation.head_weights, (0, 0, None))
        return weigh(scores, available, "softmax")

    def priors(state: State, arrivals: Arrivals) -> jax.Array:
        return jax.vmap(allocation.prior_weights, (None, 0, 0))(
            state.annotators.similarity,
            arrivals.categories,
            allocation.can_answer(arrivals.answers),
        )

    def discounted(
        weights: jax.Array, hparams: HParams, arrivals: Arrivals
    ) -> jax.Array:
        if arrivals.costs is None:
            return weights
        discount = jax.vmap(allocation.discount, (0, 0, None))
        return discount(weights, arrivals.costs, hparams["cost_rate"])

    def weigh(state: State, hparams: HParams, arrivals: Arrivals) -> jax.Array:
        if crowd_allocates:
            weights = crowd_weights(state, arrivals, hparams["explore"])
            return discounted(weights, hparams, arrivals)
        share = allocation.model_share(state.num_seen, hparams["fade"])
        weights = share * model_weights(state.params, arrivals)
        weights += (1.0 - share) * priors(state, arrivals)
        available = allocation.can_answer(arrivals.answers)
        count = jnp.maximum(jnp.sum(available, axis=1, keepdims=True), 1)
        uniform = available / count
        explore = hparams["explore"]
        weights = (1.0 - explore) * weights + explore * uniform
        return discounted(weights, hparams, arrivals)

    def aggregate(
        state: State, hparams: HParams, arrivals: Arrivals, votes: jax.Array
    ) -> jax.Array:
        del hparams
        if crowd is None:
            return jax.vmap(allocation.vote)(votes, arrivals.answers)
        return crowd.posterior(
            state.crowd, arrivals.categories, arrivals.answers, votes > 0
        )

    def learn(
        state: State,
        hparams: HParams,
        arrivals: Arrivals,
        votes: jax.Array,
        probs: jax.Array,
    ) -> State:
        consulted = votes > 0
        # A vote decides; the probability of a model of the crowd is worth keeping.
        found = probs if crowd is not None else (probs > 0.5).astype(jnp.float32)
        given = arrivals.labels if arrivals.gold is None else arrivals.gold
        is_gold = hparams["gold"] > 0
        labels = jnp.where(is_gold, jnp.maximum(given, 0), found)
        valid = jnp.any(consulted, axis=1) & (~is_gold | (given >= 0))
        count = jnp.sum(valid)

        def loss_fn(params: PyTree) -> jax.Array:
            logits, _ = model.apply(params, {}, arrivals.features, train=True)
            if feedback == "agreement":
                per_task = jax.vmap(losses.agreement_nll)(
                    logits, arrivals.answers, labels, consulted
                )
            else:
                weigh = jax.vmap(allocation.head_weights, (0, 0, None))
                heard = weigh(logits, consulted, form)
                task_loss = _committee_nll if feedback == "committee" else _reward_nll
                per_task = jax.vmap(task_loss)(
                    heard, arrivals.answers, labels, consulted
                )
            if arrivals.costs is not None:
                asked = model_weights(params, arrivals)
                available = allocation.can_answer(arrivals.answers)
                costs = jnp.where(available, arrivals.costs, 0.0)
                per_task += hparams["cost_rate"] * jnp.sum(asked * costs, axis=1)
            return jnp.sum(per_task * valid) / jnp.maximum(count, 1)

        grads = jax.grad(loss_fn)(state.params)
        updates, opt_state = optimizer(hparams).update(
            grads, state.opt_state, state.params
        )
        # A batch that teaches nothing moves nothing, momentum and decay included.
        params, opt_state = jax.tree.map(
            lambda new, old: jnp.where(count > 0, new, old),
            (optax.apply_updates(state.params, updates), opt_state),
            (state.params, state.opt_state),
        )
        crowd_state = state.crowd
        if crowd is not None:
            crowd_state = crowd.learn(
                crowd_state, arrivals.categories, arrivals.answers, consulted, probs
            )
        return State(
            params,
            opt_state,
            state.annotators,
            crowd_state,
            state.num_seen + jnp.sum(jnp.any(consulted, axis=1)),
        )

    def deploy(state: State, hparams: HParams, arrivals: Arrivals) -> jax.Array:
        if crowd_allocates:
            weights = crowd_weights(state, arrivals, jnp.zeros(()))
        else:
            weights = jnp.where(
                hparams["deploy_prior"] > 0,
                priors(state, arrivals),
                model_weights(state.params, arrivals),
            )
        return discounted(weights, hparams, arrivals)

    return Allocator(init, weigh, aggregate, learn, deploy)


def _committee_nll(
    weights: jax.Array, answers: Array, label: jax.Array, consulted: jax.Array
) -> jax.Array:
    """Log loss of the vote of who was consulted; a sure label, or its probability."""
    answers = jnp.where(consulted, answers, 0)
    ones, zeros = (
        losses.allocation_log_loss(weights, answers, jnp.asarray(sure))
        for sure in (1, 0)
    )
    return label * ones + (1.0 - label) * zeros


def _reward_nll(
    weights: jax.Array, answers: Array, label: jax.Array, consulted: jax.Array
) -> jax.Array:
    """Cross entropy to the weights that Eq. 1 and 2 make, in nats."""
    agrees = jnp.where(answers == 1, label, 1.0 - label) > 0.5
    fixed = jax.lax.stop_gradient(weights)
    rewards, penalties = allocation.rewards_and_penalties(fixed, agrees, consulted, 1.0)
    target = fixed + rewards - penalties
    # Who was not consulted has weight and target 0.
    return -jnp.sum(target * jnp.log(jnp.where(weights > 0, weights, 1.0)))


def pretrain(
    key: jax.Array,
    model: ModelFns,
    similarity: Array,
    features: Array,
    categories: Array,
    *,
    learning_rate: Array,
    num_steps: int,
    batch_size: int,
    num_restarts: int = 1,
    form: str = "sigmoid",
) -> PyTree:
    """Parameters with which a model's scores are the prior: Strict-Matching's start.

    Regresses ``sigmoid(scores)`` (of a softmax model: the allocation) on dSim with the
    mean squared error; of several starts the one that fits best is kept, where the
    authors' code starts again until the fit is good.

    Args:
      key: of the starts and minibatches.
      model: ``[B, D] -> [B, M]``.
      similarity: dSim, float ``[M, Z]``, in [0, 1].
      features: of unlabelled tasks, float ``[N, D]``.
      categories: of the same, int ``[N]``.
      learning_rate: float ``[]``, > 0.
      num_steps: steps of gradient descent, > 0.
      batch_size: tasks in a step, drawn with replacement, > 0.
      num_restarts: starts, > 0.
      form: as of `make_allocator`.

    Returns:
      The parameters, a pytree.

    Raises:
      ValueError: an unknown form, or a concrete category that does not exist; a traced
        one makes the parameters NaN.
    """
    allocation.head_weights(jnp.zeros(1), jnp.ones(1, bool), form)  # Checks the form.
    allocation.check_categories(categories, jnp.shape(similarity)[1])
    similarity, features = jnp.asarray(similarity), jnp.asarray(features)
    categories = jnp.asarray(categories)
    order_key, *keys = jax.random.split(key, 1 + num_restarts)
    shape = (num_steps, batch_size)
    order = jax.random.randint(order_key, shape, 0, features.shape[0])
    optimizer = optax.sgd(learning_rate)

    def error(params: PyTree, rows: jax.Array) -> jax.Array:
        logits, _ = model.apply(params, {}, features[rows], train=True)
        shown = categories[rows]
        exists = (shown >= 0) & (shown < similarity.shape[1])
        targets = jnp.where(exists[:, None], similarity.T[shown], jnp.nan)
        if form == "softmax":
            everyone = jnp.ones(targets.shape, bool)
            targets = jax.vmap(allocation.normalize)(targets, everyone)
            fitted = jax.nn.softmax(logits)
        else:
            fitted = jax.nn.sigmoid(logits)
        return jnp.sum(jnp.mean(jnp.square(fitted - targets), axis=0))

    def fit(start: jax.Array) -> tuple[PyTree, jax.Array]:
        params, _ = model.init(start, features[:1])

        def step(carry: PyTree, rows: jax.Array) -> tuple[PyTree, None]:
            params, opt_state = carry
            grads = jax.grad(error)(params, rows)
            updates, opt_state = optimizer.update(grads, opt_state)
            return (optax.apply_updates(params, updates), opt_state), None

        carry = (params, optimizer.init(params))
        (params, _), _ = jax.lax.scan(step, carry, order)
        return params, error(params, order[-16:].reshape(-1))

    if num_restarts == 1:
        return fit(keys[0])[0]
    fitted, errors = jax.vmap(fit)(jnp.stack(keys))
    # A start that diverged is not the best, though argmin would have it so.
    best = jnp.argmin(jnp.nan_to_num(errors, nan=jnp.inf))
    return jax.tree.map(lambda leaf: leaf[best], fitted)
