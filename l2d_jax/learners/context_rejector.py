r"""Learning to defer to a population: a rejector that reads who it may ask.

Tailor et al., "Learning to Defer to a Population: A Meta-Learning Approach", 2024: the
surrogate losses of learning to defer, averaged over people drawn from a population,
with a rejector whose inputs include a few answers of the person, the context. Someone
new is a new context; nothing is trained for them.

The classifier here is given and stays as it is, as where features are frozen; in the
paper it starts trained and is trained on. Of a loss only what depends on the rejector's
logit g is then left. With c for "the person is right":

* ``one_vs_all``: :math:`c \phi(g) + (1 - c) \phi(-g)`, the person's term of
  `l2d_jax.losses.one_vs_all_loss`, and :math:`\sigma(g)` estimates the probability that
  the person is right;
* ``softmax``: `l2d_jax.losses.deferral_cross_entropy` with the logs of the classifier's
  probabilities for logits, which is :math:`(1 + c) \log(1 + e^g) - c g` and a constant.
  It is least where :math:`e^g` is the probability that the person is right. That may
  exceed 1, the flaw of the softmax which Verma and Nalisnick (2022) point out; it is
  cut there.
"""

import jax
import jax.numpy as jnp

from l2d_jax import losses
from l2d_jax.learners import expert_model
from l2d_jax.learners.batches import one_expert_correct, weighted_mean
from l2d_jax.learners.gradient import make_gradient_learner
from l2d_jax.types import Batch, HParams, Learner


def softmax_loss(
    outputs: jax.Array, batch: Batch, hparams: HParams, key: jax.Array
) -> jax.Array:
    """Mean of the softmax surrogate, less its constant, in nats.

    Args:
      outputs: the rejector's logits, float ``[B, 1]``.
      batch: whether the person of each example is right; see
        `l2d_jax.learners.batches.one_expert_correct`.
      hparams: none are read.
      key: not used; nothing is drawn.
    """
    del hparams, key
    correct, weights = one_expert_correct(batch, outputs.dtype)
    # The logs of probabilities that sum to 1 weigh as much as one logit of 0.
    both = jnp.concatenate([jnp.zeros_like(outputs), outputs], axis=1)
    only = jnp.zeros(correct.shape, jnp.int32)
    example_losses = jax.vmap(losses.deferral_cross_entropy)(both, only, correct)
    return weighted_mean(example_losses, weights)


def softmax_prob(outputs: jax.Array, hparams: HParams) -> jax.Array:
    """Probability that the person is right by the softmax surrogate, ``[B, 1]``."""
    del hparams
    return jnp.exp(jnp.minimum(outputs, 0.0))


def one_vs_all_prob(outputs: jax.Array, hparams: HParams) -> jax.Array:
    """The same by the one-vs-all surrogate."""
    del hparams
    return jax.nn.sigmoid(outputs)


SURROGATES = {
    "one_vs_all": (expert_model.batch_loss, one_vs_all_prob),
    "softmax": (softmax_loss, softmax_prob),
}
"""Loss of a batch, and what a logit means, by name of the surrogate."""


def make_learner(model, optimizer, *, surrogate: str = "one_vs_all") -> Learner:
    """The learner; ``predict`` gives P(the person is right), float ``[B, 1]``.

    Args:
      model: takes a `l2d_jax.models.Query` and gives one logit an input, ``[B, 1]``.
      optimizer: from `l2d_jax.optimizers`.
      surrogate: one of `SURROGATES`.

    Raises:
      ValueError: there is no such surrogate.
    """
    if surrogate not in SURROGATES:
        raise ValueError(
            f"surrogate is {surrogate!r}; choose one of {sorted(SURROGATES)}"
        )
    batch_loss, interpret = SURROGATES[surrogate]
    return make_gradient_learner(model, optimizer, batch_loss, interpret)
