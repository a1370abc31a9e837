"""Learning to defer with a gate: the mixture of the model's and the expert's loss.

Madras, Pitassi and Zemel, "Predict Responsibly: Improving Fairness and Accuracy by
Learning to Defer", 2018: a classifier and a rejector, whose probability of deferring
weighs the expert's loss against the classifier's. The expectation over the decision to
defer is taken in closed form, or by one relaxed sample of it. Rejection learns without
the expert, at a constant price. Both can be regularized towards equal error rates of
two groups. The paper has two classes; here there may be more.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from l2d_jax import decisions, losses, relaxations
from l2d_jax.learners.batches import (
    one_expert_label_prob,
    weighted_mean,
)
from l2d_jax.learners.classifier import class_probs, label_nll, nll_of_probs
from l2d_jax.learners.disparity import disparity, team_prob
from l2d_jax.learners.gradient import BatchLoss, make_gradient_learner
from l2d_jax.optimizers import OptimizerFn
from l2d_jax.types import Batch, Decision, HParams, Learner, ModelFns

OBJECTIVES = ("reject", "defer")
"""What is minimized: the loss of a classifier that may reject at a price, or that of
the system of classifier and expert."""


def make_batch_loss(
    objective: str = "defer",
    *,
    regularized: bool = False,
    sampled: bool = False,
    temperature: float = 0.5,
) -> BatchLoss:
    r"""Loss of a batch for one of the paper's two systems.

    With :math:`\ell` a negative log-likelihood in nats, :math:`\hat y_M` the
    classifier's probability, :math:`\hat y_D` the expert's and :math:`\pi` that of
    passing, the mean over the batch of

    * ``reject``: :math:`(1 - \pi)\,\ell(y, \hat y_M) + \pi\,\gamma`,
    * ``defer``: :math:`(1 - \pi)\,\ell(y, \hat y_M) + \pi\,(\ell(y, \hat y_D) +
      \gamma)`,

    and, if regularized, the soft disparity of the error rates of two groups, over the
    batch and for two classes: for ``defer`` that of the system :math:`(1 - s)\,\hat
    y_M + s\,\hat y_D`, with one binary Concrete sample s of :math:`\pi` an example;
    for ``reject`` that of the classifier on all examples. A label that one of the
    groups lacks in the batch contributes nothing.

    Args:
      objective: one of `OBJECTIVES`.
      regularized: whether to add the disparity.
      sampled: whether s takes the place of :math:`\pi` in the loss as well, as the
        paper's text has it. The authors' code samples for the disparity alone.
      temperature: of the Concrete sample, > 0.

    Returns:
      The loss, of outputs ``[B, K+1]``, the logits of the classes and, last, of
      passing; for two classes also ``[B, 2]``, the logits of label 1 and of passing.
      Its batch has labels ``[B]``; for ``defer`` one expert's probabilities, answers or
      imputed probability of being right, see
      `l2d_jax.learners.batches.one_expert_label_prob`; where nothing is known of the
      expert the example has no part in the mean. If regularized it has ``groups`` 0 or
      1, ``[B]``. It reads ``hparams["cost"]``, the price of passing in nats; for
      ``defer`` ``hparams["smoothing"]`` of answers, unless the expert gives
      probabilities; and ``hparams["fairness"]`` if regularized.

    Raises:
      ValueError: the objective is unknown, or ``temperature`` is not > 0; from the
        loss, the batch lacks a field or has it in a wrong shape.

    References:
      Madras, Pitassi and Zemel, 2018, Eqs. 9 to 12. Their Eqs. 4 to 8 carry the cost
      with the opposite sign.
    """
    _check_objective(objective)
    if not temperature > 0:
        raise ValueError(f"temperature must be > 0, got {temperature}")

    def loss_fn(
        outputs: jax.Array, batch: Batch, hparams: HParams, key: jax.Array
    ) -> jax.Array:
        logits, gate_logit = outputs[:, :-1], outputs[:, -1]
        classifier_nll = label_nll(logits, jnp.asarray(batch.labels))
        gate = jax.nn.sigmoid(gate_logit)
        sample = None
        if sampled or (regularized and objective == "defer"):
            sample = relaxations.sample_binary_concrete(key, gate_logit, temperature)
        loss = _likelihood(
            objective,
            classifier_nll,
            sample if sampled and sample is not None else gate,
            batch,
            max(2, logits.shape[1]),
            hparams,
        )
        if regularized:
            probs = class_probs(logits)[:, 1]
            if objective == "defer" and sample is not None:
                probs = team_prob(probs, sample, batch)
            loss += disparity(probs, batch, hparams)
        return loss

    return loss_fn


def loss_score(
    objective: str = "defer", *, regularized: bool = False
) -> Callable[[Decision, Batch, HParams], jax.Array]:
    r"""Minus the total loss, to select a model by on validation data.

    It is the loss of `make_batch_loss`, of a whole set of examples and without a draw:
    the probability of passing itself takes the place of the Concrete sample, so that
    two models are compared on their merits.

    Args:
      objective: one of `OBJECTIVES`.
      regularized: whether the disparity is part of the loss.

    Returns:
      The score: a function of a `Decision` whose ``defer_score`` is the logit of
      passing, of the examples and of the hyperparameters, as
      `l2d_jax.engine.training.Score`. It is finite at all logits: likelihoods below the
      smallest normal float count as that.

    Raises:
      ValueError: the objective is unknown; from the score, the examples lack a field or
        have it in a wrong shape.
    """
    _check_objective(objective)

    def score(decision: Decision, batch: Batch, hparams: HParams) -> jax.Array:
        probs = jnp.asarray(decision.class_probs)
        classifier_nll = nll_of_probs(probs, jnp.asarray(batch.labels))
        gate = jax.nn.sigmoid(jnp.asarray(decision.defer_score)[:, 0])
        loss = _likelihood(
            objective, classifier_nll, gate, batch, probs.shape[1], hparams
        )
        if regularized:
            positive = probs[:, 1]
            if objective == "defer":
                positive = team_prob(positive, gate, batch)
            loss += disparity(positive, batch, hparams)
        return -loss

    return score


def decide(outputs: jax.Array, hparams: HParams) -> Decision:
    """Decision by logits ``[B, K+1]`` or ``[B, 2]``: defer where that is likelier.

    The method makes no estimate of the expert's being right; that field is NaN.
    """
    del hparams
    return decisions.decide(class_probs(outputs[:, :-1]), outputs[:, -1:])


def make_learner(
    model: ModelFns,
    optimizer: OptimizerFn,
    *,
    objective: str = "defer",
    regularized: bool = False,
    sampled: bool = False,
    temperature: float = 0.5,
    **kwargs,
) -> Learner:
    """The learner of one of the paper's two systems.

    Args:
      model: gives the logits of the classes (for two classes that of label 1 will do,
        as from `l2d_jax.models.gated_pair`) and, last, of passing.
      optimizer: from `l2d_jax.optimizers`.
      objective: ``reject`` or ``defer``; see `make_batch_loss`, also for the
        hyperparameters that are read.
      regularized: whether disparity between groups adds to the loss.
      sampled: whether the loss is taken under a sample, not in closed form.
      temperature: of the sample, > 0.
      **kwargs: as in `l2d_jax.learners.gradient.make_gradient_learner`.

    Returns:
      The learner; its ``predict`` gives a `l2d_jax.types.Decision` of one expert, whose
      ``defer_score`` is the logit of passing.

    Raises:
      ValueError: as `make_batch_loss`.
    """
    loss_fn = make_batch_loss(
        objective, regularized=regularized, sampled=sampled, temperature=temperature
    )
    return make_gradient_learner(model, optimizer, loss_fn, decide, **kwargs)


def _likelihood(
    objective: str,
    classifier_nll: jax.Array,
    gate: jax.Array,
    batch: Batch,
    num_classes: int,
    hparams: HParams,
) -> jax.Array:
    """Mean loss without the disparity; ``gate`` is the weight of passing, ``[B]``."""
    if objective == "reject":
        example_losses = jax.vmap(losses.rejection_nll, (0, 0, None))(
            classifier_nll, gate, hparams["cost"]
        )
        return weighted_mean(example_losses, batch.weights)
    smoothing = 0.0 if batch.expert_probs is not None else hparams["smoothing"]
    label_prob, weights = one_expert_label_prob(batch, num_classes, smoothing)
    expert_nll = -jnp.log(jnp.maximum(label_prob, 1e-12))
    example_losses = jax.vmap(losses.mixture_nll, (0, 0, 0, None))(
        classifier_nll, expert_nll, gate, hparams["cost"]
    )
    return weighted_mean(example_losses, weights)


def _check_objective(objective: str) -> None:
    if objective not in OBJECTIVES:
        raise ValueError(
            f"objective must be one of {', '.join(OBJECTIVES)}, got {objective!r}"
        )
