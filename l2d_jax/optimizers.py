"""Optimizers whose hyperparameters are traced, so that a sweep can vmap over them.

A factory here takes what is static and returns ``hparams -> GradientTransformation``;
learners call it inside the traced step. The state's shape never depends on ``hparams``.
"""

from collections.abc import Callable
from typing import TypeAlias

import optax

from l2d_jax.types import HParams

OptimizerFn: TypeAlias = Callable[[HParams], optax.GradientTransformation]


def make_adam() -> OptimizerFn:
    """Adam at ``hparams["learning_rate"]``.

    References:
      Kingma and Ba, "Adam: A Method for Stochastic Optimization", 2015.
    """
    return lambda hparams: optax.adam(hparams["learning_rate"])


def make_plain_sgd() -> OptimizerFn:
    """Gradient descent at the constant ``hparams["learning_rate"]``."""
    return lambda hparams: optax.sgd(hparams["learning_rate"])


def make_sgd(num_steps: int, momentum: float = 0.9) -> OptimizerFn:
    """Nesterov SGD with weight decay; the learning rate falls to 0 along a cosine.

    Weight decay is added to the gradient, as PyTorch's SGD does, for every parameter.
    Reads ``hparams["learning_rate"]`` (the initial one) and
    ``hparams["weight_decay"]``.

    Args:
      num_steps: updates until the learning rate is 0, > 0.
      momentum: in [0, 1).

    References:
      Mozannar and Sontag, "Consistent Estimators for Learning to Defer to an Expert",
      2020, training of the CIFAR-10 networks.
    """

    def optimizer(hparams: HParams) -> optax.GradientTransformation:
        schedule = optax.cosine_decay_schedule(1.0, num_steps)
        return optax.chain(
            optax.add_decayed_weights(hparams["weight_decay"]),
            optax.trace(decay=momentum, nesterov=True),
            optax.scale_by_schedule(
                lambda step: -hparams["learning_rate"] * schedule(step)
            ),
        )

    return optimizer
