"""A learner from a network, a loss of the batch and an optimizer."""

from collections.abc import Callable
from typing import TypeAlias

import jax
import jax.numpy as jnp
import optax

from l2d_jax.learners.batches import blank_unweighted, counted_rows
from l2d_jax.optimizers import OptimizerFn
from l2d_jax.types import (
    Array,
    Batch,
    HParams,
    Learner,
    ModelFns,
    PyTree,
    TrainState,
    Variables,
)

BatchLoss: TypeAlias = Callable[[jax.Array, Batch, HParams, jax.Array], jax.Array]
"""``(outputs [B, O], batch, hparams, key) -> loss []``, in nats. The key is new at each
step; most losses draw nothing and leave it."""

Augment: TypeAlias = Callable[[jax.Array, Array], Array]
"""``(key, inputs [B, ...]) -> inputs [B, ...]``, applied to training batches only."""

# Apart from the steps, whose keys are the augmentation's; no run is so long.
_LOSS_STREAM = 2**32 - 1


def make_gradient_learner(
    model: ModelFns,
    optimizer: OptimizerFn,
    batch_loss: BatchLoss,
    interpret: Callable[[jax.Array, HParams], PyTree],
    *,
    augment: Augment | None = None,
    preprocess: Callable[[Array], jax.Array] | None = None,
) -> Learner:
    """A learner that descends the gradient of ``batch_loss``.

    Args:
      model: the network.
      optimizer: from `l2d_jax.optimizers`; its hyperparameters may be traced.
      batch_loss: loss of a batch given the network's outputs and a key of this step.
      interpret: ``(outputs [B, O], hparams) -> prediction``, the learner's ``predict``.
      augment: random change of the training inputs, drawn anew at every step.
      preprocess: fixed change of all inputs after augmentation, such as
        standardization; keeps the stored data small (uint8 images).
    """

    def prepare(inputs: Array) -> Array:
        return inputs if preprocess is None else preprocess(inputs)

    def init(key: jax.Array, hparams: HParams, batch: Batch) -> TrainState:
        init_key, train_key = jax.random.split(key)
        params, model_state = model.init(init_key, prepare(batch.inputs))
        return TrainState(
            variables=Variables(params, model_state),
            opt_state=optimizer(hparams).init(params),
            key=train_key,
            step=jnp.zeros((), jnp.int32),
        )

    def update(
        state: TrainState, hparams: HParams, batch: Batch
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        batch = blank_unweighted(batch)
        inputs = batch.inputs
        if augment is not None:
            inputs = augment(jax.random.fold_in(state.key, state.step), inputs)
        inputs = prepare(inputs)
        counted = counted_rows(state.variables.model_state, batch)
        loss_key = jax.random.fold_in(state.key, _LOSS_STREAM)
        loss_key = jax.random.fold_in(loss_key, state.step)

        def loss_fn(params: PyTree) -> tuple[jax.Array, PyTree]:
            outputs, model_state = model.apply(
                params, state.variables.model_state, inputs, True, **counted
            )
            return batch_loss(outputs, batch, hparams, loss_key), model_state

        (loss, model_state), grads = jax.value_and_grad(loss_fn, has_aux=True)(
            state.variables.params
        )
        updates, opt_state = optimizer(hparams).update(
            grads, state.opt_state, state.variables.params
        )
        params = optax.apply_updates(state.variables.params, updates)
        state = TrainState(
            Variables(params, model_state), opt_state, state.key, state.step + 1
        )
        return state, {"loss": loss}

    def predict(variables: Variables, hparams: HParams, inputs: Array) -> PyTree:
        outputs, _ = model.apply(
            variables.params, variables.model_state, prepare(inputs), train=False
        )
        return interpret(outputs, hparams)

    return Learner(init, update, predict)
