r"""A classifier that knows how sure its weights are: Bayes by backprop.

Madras, Pitassi and Zemel, "Predict Responsibly", 2018, Appendix F, after Blundell et
al., "Weight Uncertainty in Neural Networks", 2015. Each weight has a normal posterior;
its mean and deviation descend the negative of the variational lower bound, with one
sample of all weights a step. Several samples then give a prediction, their mean
:math:`\mu`, and how widely they vary, :math:`\sigma`, gives the probability
:math:`\rho` of passing.
"""

import math

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from l2d_jax import decisions
from l2d_jax.learners import classifier
from l2d_jax.learners.batches import blank_unweighted
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

_FIRST_DEVIATION = 0.05


def prior_divergence(params: PyTree, prior_deviation: float) -> jax.Array:
    r"""Kullback-Leibler divergence of the posterior from the prior, in nats.

    .. math:: \sum_w \Big[\log \frac{s}{\sigma_w} + \frac{\sigma_w^2 + \mu_w^2}{2 s^2}
        - \frac12\Big]

    Args:
      params: ``mean`` of each weight and ``raw_deviation``, whose softplus is the
        deviation; two pytrees of one shape.
      prior_deviation: s of the prior, normal around 0, > 0.

    Returns:
      The divergence, float ``[]``, >= 0.

    References:
      Blundell et al., 2015, Eq. 1, in closed form for a normal prior.
    """
    total = jnp.zeros(())
    for mean, raw in zip(
        jax.tree.leaves(params["mean"]),
        jax.tree.leaves(params["raw_deviation"]),
        strict=True,
    ):
        deviation = jax.nn.softplus(raw) / prior_deviation
        mean = mean / prior_deviation
        # The log of a softplus that has come to 0 would be infinite.
        log_deviation = jnp.log(jnp.maximum(deviation, jnp.finfo(deviation.dtype).tiny))
        total += jnp.sum(
            0.5 * (jnp.square(deviation) + jnp.square(mean) - 1) - log_deviation
        )
    return total


def decide(logits: jax.Array) -> Decision:
    r"""Decision by the mean and the spread of several predictions.

    With :math:`z_j` the probabilities of label 1, :math:`\mu` their mean and
    :math:`\sigma` their standard deviation (over J - 1), the ratio of signal to noise
    is :math:`S = |\mu - 1/2| / \sigma` and the probability of passing
    :math:`\rho = 1 / (1 + S)`: it is passed where the noise exceeds the signal.

    Args:
      logits: of label 1 under each of J >= 2 samples of the weights, float ``[J, B]``.

    Returns:
      The decision: ``class_probs`` are the means, ``defer_score`` the logit of
      :math:`\rho`, which is :math:`-\log S`, finite also without noise or signal.
      ``expert_correct_prob`` is NaN: no estimate.

    Raises:
      ValueError: there are fewer than two samples.

    References:
      Madras, Pitassi and Zemel, 2018, Appendix F.
    """
    if jnp.ndim(logits) != 2 or jnp.shape(logits)[0] < 2:
        raise ValueError(
            "logits must have shape [J, B] with at least 2 samples, "
            f"got {jnp.shape(logits)}"
        )
    # Each from its own logit, so that both keep their digits near 0.
    probs = jax.nn.sigmoid(jnp.stack([-logits, logits], axis=-1))
    class_probs = probs.mean(0)
    noise = probs[:, :, 1].std(0, ddof=1)
    signal = jnp.abs(class_probs[:, 1] - 0.5)
    tiny = jnp.finfo(noise.dtype).tiny
    defer_score = jnp.log(jnp.maximum(noise, tiny)) - jnp.log(jnp.maximum(signal, tiny))
    return decisions.decide(class_probs, defer_score[:, None])


def make_learner(
    model: ModelFns,
    optimizer: OptimizerFn,
    *,
    num_examples: int,
    num_samples: int = 20,
    prior_deviation: float = 1.0,
    regularized: bool = False,
) -> Learner:
    r"""The learner of a posterior over the weights of a network.

    An update descends, with one sample of the weights, the mean negative log-likelihood
    of the batch plus :math:`KL(q \| prior) / N`, in nats, plus, if regularized,
    ``hparams["fairness"]`` times the soft disparity of the sampled classifier's error
    rates; see `l2d_jax.learners.classifier.make_batch_loss`.

    The paper says neither what the prior is nor how many samples predict. Here the
    prior is normal, and the samples are the same at every prediction, for all inputs
    and runs: a prediction does not depend on the batch it is made in, and early
    stopping compares epochs under one noise.

    Args:
      model: gives the logit of label 1 as its first output, ``[B, O]``; it keeps no
        ``model_state``. Its ``init`` gives the first means.
      optimizer: from `l2d_jax.optimizers`.
      num_examples: N, examples of the training set, >= 1.
      num_samples: J, samples of the weights a prediction takes, >= 2.
      prior_deviation: standard deviation of the prior of each weight, > 0.
      regularized: whether disparity between groups adds to the loss.

    Returns:
      The learner; its ``predict`` gives the `l2d_jax.types.Decision` of `decide`. Its
      validation loss is that of the mean prediction, without the prior.

    Raises:
      ValueError: an argument is out of its range.

    References:
      Madras, Pitassi and Zemel, 2018, Appendix F. Blundell et al., 2015.
    """
    for name, value, least in (
        ("num_examples", num_examples, 1),
        ("num_samples", num_samples, 2),
    ):
        if value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")
    if not prior_deviation > 0:
        raise ValueError(f"prior_deviation must be > 0, got {prior_deviation}")
    data_loss = classifier.make_batch_loss(regularized=regularized)

    def outputs_of(
        params: PyTree, noise: jax.Array, inputs: Array, train: bool
    ) -> jax.Array:
        mean, unravel = ravel_pytree(params["mean"])
        raw_deviation, _ = ravel_pytree(params["raw_deviation"])
        weights = unravel(mean + jax.nn.softplus(raw_deviation) * noise)
        return model.apply(weights, {}, inputs, train)[0][:, :1]

    def init(key: jax.Array, hparams: HParams, batch: Batch) -> TrainState:
        init_key, train_key = jax.random.split(key)
        mean, model_state = model.init(init_key, batch.inputs)
        if jax.tree.leaves(model_state):
            raise ValueError("model keeps a model_state; give one without, as an mlp")
        raw_deviation = math.log(math.expm1(_FIRST_DEVIATION))
        params = {
            "mean": mean,
            "raw_deviation": jax.tree.map(
                lambda leaf: jnp.full_like(leaf, raw_deviation), mean
            ),
        }
        return TrainState(
            variables=Variables(params, {}),
            opt_state=optimizer(hparams).init(params),
            key=train_key,
            step=jnp.zeros((), jnp.int32),
        )

    def update(
        state: TrainState, hparams: HParams, batch: Batch
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        batch = blank_unweighted(batch)
        key = jax.random.fold_in(state.key, state.step)
        noise = jax.random.normal(key, (_num_weights(state.variables.params),))

        def loss_fn(params: PyTree) -> jax.Array:
            outputs = outputs_of(params, noise, batch.inputs, True)
            divergence = prior_divergence(params, prior_deviation)
            # The classifier's loss draws nothing more.
            loss = data_loss(outputs, batch, hparams, key)
            return loss + divergence / num_examples

        params = state.variables.params
        loss, grads = jax.value_and_grad(loss_fn)(params)
        updates, opt_state = optimizer(hparams).update(grads, state.opt_state, params)
        variables = Variables(optax.apply_updates(params, updates), {})
        state = TrainState(variables, opt_state, state.key, state.step + 1)
        return state, {"loss": loss}

    def predict(variables: Variables, hparams: HParams, inputs: Array) -> Decision:
        del hparams
        params = variables.params
        shape = (num_samples, _num_weights(params))
        noises = jax.random.normal(jax.random.key(0), shape)
        # One sample after another: all at once would hold J times the activations.
        return decide(
            jax.lax.map(
                lambda noise: outputs_of(params, noise, inputs, False)[:, 0], noises
            )
        )

    return Learner(init, update, predict)


def _num_weights(params: PyTree) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(params["mean"]))
