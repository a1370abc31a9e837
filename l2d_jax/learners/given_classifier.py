"""A classifier that is given and not trained, where a learner is expected."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from l2d_jax.types import Array, Batch, HParams, Learner, TrainState, Variables


def make_learner(class_probs: Callable[[Array], Array]) -> Learner:
    """A learner without parameters, whose update counts steps and whose loss is 0.

    Args:
      class_probs: ``inputs [B, ...] -> [B, K]``, probabilities of the classes.

    Returns:
      The learner; ``predict`` is ``class_probs``.
    """

    def init(key: jax.Array, hparams: HParams, batch: Batch) -> TrainState:
        del hparams, batch
        return TrainState(Variables({}, {}), (), key, jnp.zeros((), jnp.int32))

    def update(
        state: TrainState, hparams: HParams, batch: Batch
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        del hparams, batch
        return state._replace(step=state.step + 1), {"loss": jnp.zeros(())}

    def predict(variables: Variables, hparams: HParams, inputs: Array) -> Array:
        del variables, hparams
        return class_probs(inputs)

    return Learner(init, update, predict)
