"""Networks that look at one input beside what a person answered about others.

A person is a *context*: a set of inputs, their classes and the person's answers. Each
is embedded, the set is pooled into one vector, and a rejector reads the vector behind
the features of the input in question. So one network serves people it has never seen.

References:
  Tailor et al., "Learning to Defer to a Population: A Meta-Learning Approach", 2024;
  Garnelo et al., "Conditional Neural Processes", 2018, for the mean; Kim et al.,
  "Attentive Neural Processes", 2019, for attention.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from l2d_jax.types import Array, ModelFns, PyTree


class Context(NamedTuple):
    """What a person answered, padded to C answers.

    Attributes:
      features: of the examples, float ``[B, C, F]``.
      labels: their classes, int ``[B, C]``, in [0, K).
      answers: classes that the person gave, int ``[B, C]``, in [0, K).
      weights: float ``[B, C]``, 1, or 0 for padding, whose row counts for nothing.
    """

    features: Array
    labels: Array
    answers: Array
    weights: Array


class Query(NamedTuple):
    """Inputs, and who is asked about each.

    Attributes:
      features: float ``[B, F]``.
      context: of each; or of one person who is asked about all, with a first axis of 1.
    """

    features: Array
    context: Context


class _ContextRejector(nn.Module):
    num_classes: int
    embedding: int
    encoder: tuple[int, ...]
    rejector: tuple[int, ...]
    num_heads: int

    @nn.compact
    def __call__(self, query: Query, train: bool) -> jax.Array:
        del train
        features, context = jnp.asarray(query.features), query.context
        # One table for both, of the size of standardized features: where class and
        # answer are equal must be plain to see.
        table = self.param(
            "table", nn.initializers.normal(1.0), (self.num_classes, self.embedding)
        )
        # A dense layer of features and both embeddings side by side, but the rows of
        # the table go through it once and not with every answer.
        width = self.encoder[0]
        counts = jnp.asarray(context.weights) > 0
        # What padding holds reaches nothing, NaN included, and no gradient either.
        shown = jnp.where(counts[..., None], context.features, 0.0)
        first = nn.Dense(width, name="of_features")(shown)
        for name, classes in (("label", context.labels), ("answer", context.answers)):
            rows = nn.Dense(width, use_bias=False, name=f"of_{name}")(table)
            first += jax.nn.one_hot(classes, self.num_classes) @ rows
        values = first
        for width in self.encoder[1:]:
            values = nn.Dense(width)(nn.relu(values))
        values = jnp.where(counts[..., None], values, 0.0)
        if self.num_heads:
            pooled = self._attend(features, shown, values, counts)
        else:
            number = jnp.maximum(jnp.sum(counts, axis=1, keepdims=True), 1)
            pooled = jnp.sum(values, axis=1) / number
        pooled = jnp.broadcast_to(pooled, (features.shape[0], pooled.shape[-1]))
        hidden = jnp.concatenate([features, pooled], axis=-1)
        for width in self.rejector:
            hidden = nn.relu(nn.Dense(width)(hidden))
        return nn.Dense(1, name="logit")(hidden)

    def _attend(
        self,
        features: jax.Array,
        shown: jax.Array,
        values: jax.Array,
        counts: jax.Array,
    ) -> jax.Array:
        """Means of the values, weighted by how near each example is to the input."""
        width = self.encoder[-1] // self.num_heads

        def heads(name: str, inputs: Array) -> jax.Array:
            projected = nn.Dense(self.num_heads * width, use_bias=False, name=name)(
                jnp.asarray(inputs)
            )
            split = projected.reshape(*projected.shape[:-1], self.num_heads, width)
            return jnp.moveaxis(split, -2, 1)

        query = heads("query", features[:, None])
        keys, values = heads("keys", shown), heads("values", values)
        scores = query @ jnp.swapaxes(keys, -1, -2) / width**0.5
        counts = counts[:, None, None]
        # Finite, so that a context without answers has a gradient, which is 0.
        shares = jax.nn.softmax(jnp.where(counts, scores, -1e9), axis=-1) * counts
        pooled = (shares @ values)[:, :, 0]
        return pooled.reshape(pooled.shape[0], -1)


def context_rejector(
    num_classes: int,
    *,
    embedding: int,
    encoder: Sequence[int],
    rejector: Sequence[int],
    num_heads: int = 0,
) -> ModelFns:
    """A rejector that is told whom it may ask by what they answered.

    An answer is embedded from the features of its example and embeddings of the class
    and of the answer. A context without answers is the vector 0. No gradient flows to
    the features, which are inputs.

    Args:
      num_classes: K, >= 2.
      embedding: size of the embeddings of classes and of answers, >= 1.
      encoder: units of the layers that embed an answer, each >= 1; the last has no
        activation.
      rejector: units of the hidden layers of the rejector, each >= 1.
      num_heads: 0 pools by the mean; more by attention, in as many parts, of the input
        in question to the examples of the context.

    Returns:
      The network; it takes a `Query`, gives one logit an input, ``[B, 1]``, and has an
      empty ``model_state``.

    Raises:
      ValueError: a size is too small, or the last of ``encoder`` is no multiple of
        ``num_heads``.
    """
    sizes = (embedding, *encoder, *rejector)
    if num_classes < 2 or min(sizes) < 1 or not encoder or num_heads < 0:
        raise ValueError(
            f"num_classes is {num_classes}, embedding {embedding}, encoder"
            f" {tuple(encoder)}, rejector {tuple(rejector)} and num_heads {num_heads};"
            " give two classes, every layer a unit, and the encoder a layer"
        )
    if num_heads and encoder[-1] % num_heads:
        raise ValueError(
            f"encoder ends in {encoder[-1]} units, which {num_heads} heads cannot"
            " share; give it a multiple"
        )
    module = _ContextRejector(
        num_classes, embedding, tuple(encoder), tuple(rejector), num_heads
    )

    def init(key: jax.Array, query: Query) -> tuple[PyTree, PyTree]:
        variables: dict[str, Any] = dict(module.init(key, query, False))
        return variables.pop("params"), variables

    def apply(
        params: PyTree, model_state: PyTree, query: Query, train: bool
    ) -> tuple[jax.Array, PyTree]:
        outputs: Any = module.apply({"params": params}, query, train)
        return outputs, model_state

    return ModelFns(init, apply)
