"""Learning to defer by one network and a surrogate loss of each example.

A surrogate is a loss of one example and a rule by which the same outputs decide. The
network has the scores of the classes first and those of the experts behind them;
everything else about its training is the same for all of them.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from l2d_jax import decisions, losses
from l2d_jax._checks import poison_unless
from l2d_jax.learners.batches import experts_correct, weighted_mean
from l2d_jax.learners.gradient import BatchLoss, make_gradient_learner
from l2d_jax.optimizers import OptimizerFn
from l2d_jax.types import Batch, Decision, HParams, Learner, ModelFns

ExampleLoss = Callable[[jax.Array, jax.Array, jax.Array, HParams], jax.Array]
"""``(outputs [O], label [], expert_correct [M], hparams) -> loss []``, in nats."""


class Surrogate(NamedTuple):
    """A surrogate loss and the decision that it is trained for.

    Attributes:
      loss: of one example; who was not asked is -1 if it is ``separable``, and else
        does not come.
      decide: ``(outputs [B, O], num_experts, hparams) -> Decision``.
      hparams: names of the hyperparameters that the two read.
      separable: whether who was not asked has no part in the loss. Of other losses an
        example has no part in the mean unless every expert has answered it.
      extra_outputs: O - K - M.
    """

    loss: ExampleLoss
    decide: Callable[[jax.Array, int, HParams], Decision]
    hparams: tuple[str, ...] = ()
    separable: bool = False
    extra_outputs: int = 0


def _mixture_of_experts(
    outputs: jax.Array, label: jax.Array, correct: jax.Array, hparams: HParams
) -> jax.Array:
    del hparams
    num_gates = correct.shape[0] + 1
    return losses.mixture_of_experts_nll(
        outputs[:-num_gates], outputs[-num_gates:], label, correct
    )


SURROGATES = {
    "one_vs_all": Surrogate(
        lambda outputs, label, correct, hparams: losses.one_vs_all_loss(
            outputs, label, correct
        ),
        lambda outputs, num_experts, hparams: decisions.one_vs_all_decision(
            outputs, num_experts
        ),
        separable=True,
    ),
    "asymmetric_softmax": Surrogate(
        lambda outputs, label, correct, hparams: losses.asymmetric_softmax_loss(
            outputs, label, correct[0]
        ),
        lambda outputs, num_experts, hparams: decisions.asymmetric_softmax_decision(
            outputs
        ),
    ),
    "realizable": Surrogate(
        lambda outputs, label, correct, hparams: losses.realizable_surrogate_loss(
            outputs, label, correct[0], hparams["mix"]
        ),
        lambda outputs, num_experts, hparams: decisions.realizable_decision(outputs),
        ("mix",),
    ),
    "rl2d": Surrogate(
        lambda outputs, label, correct, hparams: losses.rl2d_loss(
            outputs, label, 1.0 - correct[0], hparams["q"]
        ),
        lambda outputs, num_experts, hparams: decisions.realizable_decision(outputs),
        ("q",),
    ),
    "priced": Surrogate(
        lambda outputs, label, correct, hparams: losses.priced_deferral_cross_entropy(
            outputs, label, correct[0], hparams["price"]
        ),
        lambda outputs, num_experts, hparams: decisions.priced_deferral_decision(
            outputs, hparams["price"]
        ),
        ("price",),
    ),
    "multi_expert": Surrogate(
        lambda outputs, label, correct, hparams: losses.multi_expert_cross_entropy(
            outputs, label, correct
        ),
        lambda outputs, num_experts, hparams: decisions.multi_expert_decision(
            outputs, num_experts
        ),
        separable=True,
    ),
    "decoupled": Surrogate(
        lambda outputs, label, correct, hparams: losses.decoupled_loss(
            outputs, label, correct, hparams["expert_weight"]
        ),
        lambda outputs, num_experts, hparams: decisions.decoupled_decision(
            outputs, num_experts
        ),
        ("expert_weight",),
        separable=True,
    ),
    "picce": Surrogate(
        lambda outputs, label, correct, hparams: losses.picce_cross_entropy(
            outputs, label, correct
        ),
        lambda outputs, num_experts, hparams: decisions.picce_decision(
            outputs, num_experts
        ),
    ),
    "picce_one_vs_all": Surrogate(
        lambda outputs, label, correct, hparams: losses.picce_one_vs_all(
            outputs, label, correct
        ),
        lambda outputs, num_experts, hparams: decisions.picce_one_vs_all_decision(
            outputs, num_experts
        ),
    ),
    "mixture_of_experts": Surrogate(
        _mixture_of_experts,
        lambda outputs, num_experts, hparams: decisions.mixture_of_experts_decision(
            outputs[:, : -num_experts - 1], outputs[:, -num_experts - 1 :]
        ),
        separable=True,
        extra_outputs=1,
    ),
}
"""Surrogates by name. Formulas, sources and what is known of each stand with its loss
in `l2d_jax.losses`."""


def make_batch_loss(surrogate: Surrogate) -> BatchLoss:
    """Mean loss of a batch, in nats.

    Args:
      surrogate: one of `SURROGATES`, or another.

    Returns:
      The loss, of outputs ``[B, O]``. Its batch has labels ``[B]`` and
      ``expert_correct`` or the experts' answers, ``[B, M]``.
    """

    def batch_loss(
        outputs: jax.Array, batch: Batch, hparams: HParams, key: jax.Array
    ) -> jax.Array:
        del key
        given = batch.expert_labels
        given = given if batch.expert_correct is None else batch.expert_correct
        num_experts = 0 if given is None else jnp.shape(given)[-1]
        num_classes = outputs.shape[1] - num_experts - surrogate.extra_outputs
        correct, known = experts_correct(batch, outputs.dtype, num_classes)
        # To a loss a NaN is somebody who was not asked; here it is no answer.
        sound = ~jnp.any(known & jnp.isnan(correct), axis=1)
        weights = batch.weights
        if surrogate.separable:
            correct = jnp.where(known, correct, -1.0)
        else:
            whole = jnp.all(known, axis=1).astype(outputs.dtype)
            weights = whole if weights is None else whole * weights
        example_losses = jax.vmap(surrogate.loss, (0, 0, 0, None))(
            outputs, jnp.asarray(batch.labels), correct, hparams
        )
        return weighted_mean(poison_unless(sound, example_losses), weights)

    return batch_loss


def make_learner(
    model: ModelFns,
    optimizer: OptimizerFn,
    surrogate: Surrogate,
    *,
    num_experts: int = 1,
    **kwargs,
) -> Learner:
    """The learner of a network and a surrogate.

    Args:
      model: gives the outputs of the surrogate, ``[B, K + M + extra_outputs]``.
      optimizer: from `l2d_jax.optimizers`.
      surrogate: one of `SURROGATES`, or another.
      num_experts: M.
      **kwargs: as in `l2d_jax.learners.gradient.make_gradient_learner`.

    Returns:
      The learner; its ``predict`` gives a `l2d_jax.types.Decision` of M experts.
    """
    return make_gradient_learner(
        model,
        optimizer,
        make_batch_loss(surrogate),
        lambda outputs, hparams: surrogate.decide(outputs, num_experts, hparams),
        **kwargs,
    )
