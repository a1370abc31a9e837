"""Learning to defer with a gate: the mixture of the model's and the expert's loss.

Madras, Pitassi and Zemel, "Predict Responsibly: Improving Fairness and Accuracy by
Learning to Defer", 2018: a binary classifier and a rejector, whose probability of
deferring weighs the expert's loss against the classifier's. The expectation over the
decision to defer is taken in closed form, or by one relaxed sample of it. Their two
baselines learn without the expert: the classifier alone, and rejection at a constant
price. All three can be regularized towards equal error rates of two groups.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from l2d_jax import (
    decisions,
    fairness,
    losses,
    relaxations,
)
from l2d_jax.learners.batches import weighted_mean
from l2d_jax.learners.gradient import BatchLoss, make_gradient_learner
from l2d_jax.optimizers import OptimizerFn
from l2d_jax.types import Batch, Decision, HParams, Learner, ModelFns

OBJECTIVES = ("classify", "reject", "defer")
"""What is minimized: the classifier's loss, that of a classifier that may reject at a
price, or that of the system of classifier and expert."""


def batch_loss(
    outputs: jax.Array, batch: Batch, hparams: HParams, key: jax.Array | None = None
) -> jax.Array:
    """Mean mixture loss of a batch, in nats: deferral, neither regularized nor sampled.

    Args:
      outputs: logits of label 1 and of deferring, float ``[B, 2]``.
      batch: labels 0 or 1, ``[B]``, and one expert's probabilities of both, float
        ``[B, 1, 2]``.
      hparams: ``cost``, the price of deferring, in nats.
      key: not used; nothing is drawn.

    Raises:
      ValueError: the batch has no expert, or not their probabilities.

    References:
      Madras, Pitassi and Zemel, 2018, Eq. 9 with the cost of Eq. 7.
    """
    del key
    defer_prob = jax.nn.sigmoid(outputs[:, 1])
    return _likelihood(
        "defer", _classifier_nll(outputs, batch), defer_prob, batch, hparams
    )


def make_batch_loss(
    objective: str = "defer",
    *,
    regularized: bool = False,
    sampled: bool = False,
    temperature: float = 0.5,
) -> BatchLoss:
    r"""Loss of a batch for one of the paper's three systems.

    With :math:`\ell` a negative log-likelihood in nats, :math:`\hat y_M` the
    classifier's probability, :math:`\hat y_D` the expert's and :math:`\pi` that of
    passing, the mean over the batch of

    * ``classify``: :math:`\ell(y, \hat y_M)`,
    * ``reject``: :math:`(1 - \pi)\,\ell(y, \hat y_M) + \pi\,\gamma`,
    * ``defer``: :math:`(1 - \pi)\,\ell(y, \hat y_M) + \pi\,(\ell(y, \hat y_D) +
      \gamma)`,

    and, if regularized, :math:`\alpha` times the soft disparity of the error rates of
    two groups, over the batch: for ``defer`` that of the system
    :math:`(1 - s)\,\hat y_M + s\,\hat y_D`, with one binary Concrete sample s of
    :math:`\pi` an example; else that of the classifier on all examples. A label that
    one of the groups lacks in the batch contributes nothing.

    Args:
      objective: one of `OBJECTIVES`.
      regularized: whether to add the disparity.
      sampled: whether s takes the place of :math:`\pi` in the loss as well, as the
        paper's text has it. The authors' code samples for the disparity alone.
      temperature: of the Concrete sample, > 0.

    Returns:
      The loss, of outputs ``[B, 2]``, the logits of label 1 and of deferring, of which
      ``classify`` reads the first alone. Its batch has labels 0 or 1, ``[B]``; for
      ``defer`` one expert's probabilities of both, float ``[B, 1, 2]``; if regularized
      ``groups`` 0 or 1, ``[B]``. It reads ``hparams["cost"]``, the price of passing in
      nats, for ``reject`` and ``defer``, and ``hparams["alpha"]`` if regularized; an
      ``alpha`` < 0 rewards disparity.

    Raises:
      ValueError: the objective is unknown or has nothing to sample, or ``temperature``
        is not > 0; from the loss, the batch lacks a field or has it in a wrong shape.

    References:
      Madras, Pitassi and Zemel, 2018, Eqs. 9 to 12. Their Eqs. 4 to 8 carry the cost
      with the opposite sign.
    """
    _check_objective(objective)
    if sampled and objective == "classify":
        raise ValueError("sampled must be False to classify: nothing is passed")
    if not temperature > 0:
        raise ValueError(f"temperature must be > 0, got {temperature}")

    def loss_fn(
        outputs: jax.Array, batch: Batch, hparams: HParams, key: jax.Array
    ) -> jax.Array:
        classifier_nll = _classifier_nll(outputs, batch)
        gate = sample = None
        if objective != "classify":
            gate = jax.nn.sigmoid(outputs[:, 1])
        if sampled or (regularized and objective == "defer"):
            sample = relaxations.sample_binary_concrete(key, outputs[:, 1], temperature)
        loss = _likelihood(
            objective, classifier_nll, sample if sampled else gate, batch, hparams
        )
        if regularized:
            probs = jax.nn.sigmoid(outputs[:, 0])
            if objective == "defer" and sample is not None:
                probs = _mix(probs, sample, batch)
            loss += _disparity(probs, batch, hparams)
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
      The score: a function of a `Decision` with K = 2, whose ``defer_score`` is the
      logit of passing unless the objective is ``classify``, the examples and the
      hyperparameters, as `l2d_jax.engine.training.Score`. It is finite at all logits:
      likelihoods below the smallest normal float count as that.

    Raises:
      ValueError: the objective is unknown; from the score, the examples lack a field or
        have it in a wrong shape.
    """
    _check_objective(objective)

    def score(decision: Decision, batch: Batch, hparams: HParams) -> jax.Array:
        class_probs = jnp.asarray(decision.class_probs)
        classifier_nll = _nll_of_probs(class_probs, jnp.asarray(batch.labels))
        gate = None
        if objective != "classify":
            gate = jax.nn.sigmoid(jnp.asarray(decision.defer_score))
        loss = _likelihood(objective, classifier_nll, gate, batch, hparams)
        if regularized:
            probs = class_probs[:, 1]
            if objective == "defer" and gate is not None:
                probs = _mix(probs, gate, batch)
            loss += _disparity(probs, batch, hparams)
        return -loss

    return score


def decide(outputs: jax.Array, hparams: HParams) -> Decision:
    """Decision by the two logits ``[B, 2]``: defer where deferring is likelier.

    Both probabilities of a class keep their digits near 0, so that a likelihood can be
    computed from the decision. The method makes no estimate of the expert's being
    right; that field is NaN.
    """
    del hparams
    return Decision(
        prediction=(outputs[:, 0] > 0).astype(jnp.int32),
        defer=outputs[:, 1] > 0,
        defer_score=outputs[:, 1],
        class_probs=_class_probs(outputs[:, 0]),
        expert_correct_prob=jnp.full(outputs.shape[0], jnp.nan),
    )


def classify(outputs: jax.Array, hparams: HParams) -> Decision:
    """Decision of the classifier alone, by the first logit: nothing is deferred.

    As `l2d_jax.decisions.classifier_decision`: the ``defer_score`` is minus the greater
    class probability.
    """
    del hparams
    logits = outputs[:, 0]
    decision = decisions.classifier_decision(
        jnp.stack([jnp.zeros_like(logits), logits], axis=-1)
    )
    return decision._replace(class_probs=_class_probs(logits))


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
    """The learner of one of the paper's three systems.

    Args:
      model: gives the logits of label 1 and of deferring, ``[B, 2]``, as
        `l2d_jax.models.gated_pair` does. To ``classify``, the first is enough; a pair's
        rejector then stays as it starts.
      optimizer: from `l2d_jax.optimizers`.
      objective: ``classify``, ``reject`` or ``defer``; see `make_batch_loss`, also for
        the hyperparameters that are read.
      regularized: whether disparity between groups adds to the loss.
      sampled: whether the loss is taken under a sample, not in closed form.
      temperature: of the sample, > 0.
      **kwargs: as in `l2d_jax.learners.gradient.make_gradient_learner`.

    Returns:
      The learner; its ``predict`` gives a `l2d_jax.types.Decision` with K = 2, whose
      ``defer_score`` is the logit of passing. The learner that classifies never defers;
      see `classify`.

    Raises:
      ValueError: as `make_batch_loss`.
    """
    loss_fn = make_batch_loss(
        objective, regularized=regularized, sampled=sampled, temperature=temperature
    )
    interpret = classify if objective == "classify" else decide
    return make_gradient_learner(model, optimizer, loss_fn, interpret, **kwargs)


def _likelihood(
    objective: str,
    classifier_nll: jax.Array,
    gate: jax.Array | None,
    batch: Batch,
    hparams: HParams,
) -> jax.Array:
    """Mean loss without the disparity.

    ``gate`` is the weight of passing, ``[B]``; None to classify.
    """
    if gate is None:
        example_losses = classifier_nll
    elif objective == "reject":
        example_losses = jax.vmap(losses.rejection_nll, (0, 0, None))(
            classifier_nll, gate, hparams["cost"]
        )
    else:
        expert_probs = _expert_probs(batch)
        label_prob = jnp.where(
            batch.labels == 1, expert_probs[:, 1], expert_probs[:, 0]
        )
        expert_nll = -jnp.log(jnp.maximum(label_prob, 1e-12))
        example_losses = jax.vmap(losses.mixture_nll, (0, 0, 0, None))(
            classifier_nll, expert_nll, gate, hparams["cost"]
        )
    return weighted_mean(example_losses, batch.weights)


def _mix(probs: jax.Array, gate: jax.Array, batch: Batch) -> jax.Array:
    """The system's probability of label 1, of the classifier's and what is passed."""
    return (1 - gate) * probs + gate * _expert_probs(batch)[:, 1]


def _disparity(probs: jax.Array, batch: Batch, hparams: HParams) -> jax.Array:
    """What the regularizer adds, of probabilities of label 1 ``[B]``."""
    if batch.groups is None:
        raise ValueError("batch.groups is None; disparity needs everyone's group")
    return hparams["alpha"] * fairness.equalized_odds_regularizer(
        probs, batch.labels, batch.groups, batch.weights
    )


def _expert_probs(batch: Batch) -> jax.Array:
    if batch.expert_labels is None:
        raise ValueError("batch.expert_labels is None; deferral needs an expert")
    shape = jnp.shape(batch.expert_labels)
    if len(shape) != 3 or shape[1:] != (1, 2):
        raise ValueError(
            "batch.expert_labels must be one expert's probabilities of both labels, "
            f"[B, 1, 2], got shape {shape}"
        )
    return jnp.asarray(batch.expert_labels)[:, 0]


def _classifier_nll(outputs: jax.Array, batch: Batch) -> jax.Array:
    # -log sigmoid of the logit towards the label, stable at any logit.
    return jax.nn.softplus(jnp.where(batch.labels == 1, -1, 1) * outputs[:, 0])


def _class_probs(logit: jax.Array) -> jax.Array:
    # Not 1 less the other, which is 0 from a logit of 17 on.
    return jax.nn.sigmoid(jnp.stack([-logit, logit], axis=-1))


def _nll_of_probs(class_probs: jax.Array, labels: jax.Array) -> jax.Array:
    label_prob = jnp.where(labels == 1, class_probs[:, 1], class_probs[:, 0])
    other_prob = jnp.where(labels == 1, class_probs[:, 0], class_probs[:, 1])
    # Of the two probabilities the smaller is the exact one.
    return jnp.where(
        label_prob < other_prob,
        -jnp.log(jnp.maximum(label_prob, jnp.finfo(label_prob.dtype).tiny)),
        -jnp.log1p(-jnp.minimum(other_prob, 0.5)),
    )


def _check_objective(objective: str) -> None:
    if objective not in OBJECTIVES:
        raise ValueError(
            f"objective must be one of {', '.join(OBJECTIVES)}, got {objective!r}"
        )
