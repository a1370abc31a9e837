"""Networks as pairs of pure functions."""

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from l2d_jax.models.convolutions import IMPLEMENTATIONS, convolve
from l2d_jax.types import ModelFns, PyTree

_ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "relu": nn.relu,
    "sigmoid": nn.sigmoid,
    "tanh": nn.tanh,
}


class _Mlp(nn.Module):
    hidden: tuple[int, ...]
    num_outputs: int | None
    activation: Callable[[jax.Array], jax.Array]

    @nn.compact
    def __call__(self, inputs, train):
        del train
        features = jnp.asarray(inputs, jnp.float32)
        # Sizes in full, not -1, so that a batch may be empty.
        features = features.reshape(inputs.shape[0], math.prod(inputs.shape[1:]))
        for width in self.hidden:
            features = self.activation(nn.Dense(width)(features))
        if self.num_outputs is None:
            return features
        return nn.Dense(self.num_outputs)(features)


class _SeparateMlps(nn.Module):
    hidden: tuple[int, ...]
    num_outputs: int

    @nn.compact
    def __call__(self, inputs, train):
        del train
        features = jnp.asarray(inputs, jnp.float32)[None]
        for layer, width in enumerate((*self.hidden, 1)):
            shape = (self.num_outputs, features.shape[-1], width)
            # The variance of a dense layer, whose fan-in is that of one network.
            initializer = nn.initializers.lecun_normal(batch_axis=0)
            kernel = self.param(f"kernel_{layer}", initializer, shape)
            bias = self.param(
                f"bias_{layer}", nn.initializers.zeros, (self.num_outputs, 1, width)
            )
            features = features @ kernel + bias
            if layer < len(self.hidden):
                features = nn.relu(features)
        return features[..., 0].T


class _Conv(nn.Module):
    channels: int
    size: int
    stride: int
    dtype: Any
    convolution: str

    @nn.compact
    def __call__(self, inputs):
        kernel = self.param(
            "kernel",
            nn.initializers.zeros,  # Drawn by `_draw_kernels`.
            (self.size, self.size, inputs.shape[-1], self.channels),
            jnp.float32,
        )
        return convolve(
            inputs,
            kernel.astype(self.dtype),
            self.stride,
            implementation=self.convolution,
        )


def _norm(dtype: Any, train: bool, name: str) -> nn.BatchNorm:
    return nn.BatchNorm(
        use_running_average=not train,
        momentum=0.9,
        epsilon=1e-5,
        dtype=dtype,
        name=name,
    )


class _ConvNet(nn.Module):
    channels: tuple[int, ...]
    window: int
    hidden: tuple[int, ...]
    num_outputs: int | None
    dtype: Any
    convolution: str

    @nn.compact
    def __call__(self, inputs, train):
        del train
        features = jnp.asarray(inputs, self.dtype)
        for layer, channels in enumerate(self.channels):
            kernel = self.param(
                f"kernel_{layer}",
                nn.initializers.zeros,  # Drawn by `_draw_kernels`.
                (self.window, self.window, features.shape[-1], channels),
                jnp.float32,
            )
            bias = self.param(f"bias_{layer}", nn.initializers.zeros, (channels,))
            features = convolve(
                features,
                kernel.astype(self.dtype),
                padding="VALID",
                implementation=self.convolution,
            )
            features = _halve(nn.relu(features + bias.astype(self.dtype)))
        features = features.reshape(inputs.shape[0], math.prod(features.shape[1:]))
        for width in self.hidden:
            features = nn.relu(nn.Dense(width, dtype=self.dtype)(features))
        features = features.astype(jnp.float32)
        if self.num_outputs is None:
            return features
        return nn.Dense(self.num_outputs, name="head")(features)


def _halve(images):
    """The largest of every two by two pixels; a last odd row or column is left out."""
    batch, height, width, channels = images.shape
    height, width = height // 2, width // 2
    # Not a window's reduction, whose gradient is slow and, under vmap, slower.
    cells = images[:, : 2 * height, : 2 * width]
    return cells.reshape(batch, height, 2, width, 2, channels).max((2, 4))


class _Block(nn.Module):
    channels: int
    stride: int
    dtype: Any
    convolution: str

    @nn.compact
    def __call__(self, inputs, train, mask=None):
        conv = functools.partial(_Conv, dtype=self.dtype, convolution=self.convolution)
        norm = functools.partial(_norm, dtype=self.dtype, train=train)
        features = nn.relu(norm(name="norm_0")(inputs, mask=mask))
        shortcut = inputs
        if inputs.shape[-1] != self.channels or self.stride != 1:
            shortcut = conv(self.channels, 1, self.stride, name="shortcut")(features)
        features = conv(self.channels, 3, self.stride, name="conv_0")(features)
        features = nn.relu(norm(name="norm_1")(features, mask=mask))
        return shortcut + conv(self.channels, 3, 1, name="conv_1")(features)


class _WideResNet(nn.Module):
    blocks: int
    width: int
    num_outputs: int | None
    stem_stride: int
    dtype: Any
    convolution: str

    @nn.compact
    def __call__(self, inputs, train, mask=None):
        features = jnp.asarray(inputs, self.dtype)
        features = _Conv(
            16, 3, self.stem_stride, self.dtype, self.convolution, name="stem"
        )(features)
        for group, base in enumerate((16, 32, 64)):
            for block in range(self.blocks):
                stride = 2 if group > 0 and block == 0 else 1
                features = _Block(
                    base * self.width,
                    stride,
                    self.dtype,
                    self.convolution,
                    name=f"group_{group}_block_{block}",
                )(features, train, mask)
        features = _norm(self.dtype, train, "norm")(features, mask=mask)
        features = jnp.mean(nn.relu(features), axis=(1, 2), dtype=jnp.float32)
        if self.num_outputs is None:
            return features
        return nn.Dense(self.num_outputs, name="head")(features)


def _draw_kernels(key: jax.Array, params: PyTree) -> PyTree:
    """Parameters with all convolution kernels drawn at once.

    One draw each would compile for half a second each on a CPU.
    """
    leaves, structure = jax.tree.flatten(params)
    kernels = [index for index, leaf in enumerate(leaves) if leaf.ndim == 4]
    ends = list(itertools.accumulate(leaves[index].size for index in kernels))
    pieces = jnp.split(jax.random.normal(key, (ends[-1],)), ends[:-1])
    for index, piece in zip(kernels, pieces, strict=True):
        rows, columns, _, channels = leaves[index].shape
        deviation = math.sqrt(2 / (rows * columns * channels))
        leaves[index] = deviation * piece.reshape(leaves[index].shape)
    return jax.tree.unflatten(structure, leaves)


def _model_fns(module: nn.Module) -> ModelFns:
    def init(key, inputs):
        # Of the shape alone, so that nothing is computed outside of jit either.
        shape = jax.ShapeDtypeStruct(inputs.shape, inputs.dtype)
        variables = dict(module.lazy_init(key, shape, False))
        return variables.pop("params"), variables

    def apply(params, model_state, inputs, train, weights=None):
        variables = {"params": params, **model_state}
        if train and model_state:
            kept = list(model_state)
            if weights is None:
                return module.apply(variables, inputs, True, mutable=kept)
            counts = jnp.asarray(weights) > 0
            # Of a batch in which nothing counts there is no statistic: take all.
            counts = (counts | ~counts.any()).reshape(-1, *(1,) * (inputs.ndim - 1))
            return module.apply(variables, inputs, True, counts, mutable=kept)
        return module.apply(variables, inputs, train), model_state

    return ModelFns(init, apply)


def mlp(
    hidden: Sequence[int], num_outputs: int | None, activation: str = "relu"
) -> ModelFns:
    """Fully connected network on flattened inputs, in float32.

    Args:
      hidden: units of each hidden layer, each >= 1; empty for a linear model.
      num_outputs: number of outputs O, >= 1; None gives the last hidden layer instead,
        and applies to the parameters of a network with outputs as well.
      activation: after each hidden layer, ``"relu"``, ``"sigmoid"`` or ``"tanh"``.

    Returns:
      The network; it takes inputs ``[B, ...]`` and has an empty ``model_state``.

    Raises:
      ValueError: for an unknown activation or a layer without units.
    """
    if activation not in _ACTIVATIONS:
        raise ValueError(
            f"activation is {activation!r}; choose one of {sorted(_ACTIVATIONS)}"
        )
    if min(*hidden, 1 if num_outputs is None else num_outputs, 1) < 1:
        raise ValueError(
            f"hidden is {tuple(hidden)} and num_outputs {num_outputs}; give every "
            "layer at least one unit"
        )
    return _model_fns(_Mlp(tuple(hidden), num_outputs, _ACTIVATIONS[activation]))


def linear(num_outputs: int) -> ModelFns:
    """Linear model that starts from 0, so that all its outputs are 0 at first.

    Args:
      num_outputs: number of outputs O, >= 1.

    Returns:
      The model; it takes inputs ``[B, D]``, gives float32 ``[B, O]`` and has an empty
      ``model_state``.

    Raises:
      ValueError: there is no output.
    """
    if num_outputs < 1:
        raise ValueError(f"num_outputs is {num_outputs}; give at least one output")

    def init(key, inputs):
        del key
        shape = (inputs.shape[-1], num_outputs)
        return {"kernel": jnp.zeros(shape), "bias": jnp.zeros(num_outputs)}, {}

    def apply(params, model_state, inputs, train):
        del train
        return inputs @ params["kernel"] + params["bias"], model_state

    return ModelFns(init, apply)


def separate_mlps(hidden: Sequence[int], num_outputs: int) -> ModelFns:
    """A small network of its own for every output, ReLU between layers, in float32.

    Args:
      hidden: units of each hidden layer of each network, each >= 1.
      num_outputs: number of networks O, >= 1.

    Returns:
      The networks; they take inputs ``[B, D]``, give ``[B, O]`` and have an empty
      ``model_state``.

    Raises:
      ValueError: a layer without units.
    """
    if min(*hidden, num_outputs, 1) < 1:
        raise ValueError(
            f"hidden is {tuple(hidden)} and num_outputs {num_outputs}; give every "
            "layer at least one unit"
        )
    return _model_fns(_SeparateMlps(tuple(hidden), num_outputs))


def wide_resnet(
    depth: int,
    width: int,
    num_outputs: int | None,
    *,
    stem_stride: int = 1,
    dtype: Any = jnp.float32,
    convolution: str = "auto",
) -> ModelFns:
    """Wide residual network WRN-depth-width with pre-activation, without dropout.

    A 3 x 3 convolution to 16 channels; three groups of (depth - 4) / 6 blocks with 16,
    32 and 64 times ``width`` channels, the second and third at half the resolution; a
    block is norm, ReLU, convolution, twice, and its shortcut is a 1 x 1 convolution
    where the shape changes; then norm, ReLU, the mean over all positions and a dense
    layer. Convolutions start from normal weights of variance 2 / (k k O), as in the
    authors' code (He et al., 2015).

    Parameters and the statistics of batch norm are float32 whatever the ``dtype``. In
    training the statistics move by a tenth of the way to those of the batch.

    Args:
      depth: number of convolutions on the longest path, 6 n + 4 with n >= 1.
      width: widening factor, >= 1.
      num_outputs: number of logits O, >= 1; None gives the features below them, float
        ``[B, 64 width]``, and applies to the parameters of a network with outputs.
      stem_stride: step of the first convolution. 1 is the paper's network; 2 halves the
        resolution of all that follows, at a quarter of the cost, for a CPU.
      dtype: dtype of the computation, float32 or bfloat16.
      convolution: implementation, one of those of `convolutions.convolve`.

    Returns:
      The network; it takes standardized images ``[B, H, W, C]`` and gives logits
      ``[B, O]``, float32. ``model_state`` holds the statistics of batch norm.

    Raises:
      ValueError: for a depth that is not 6 n + 4, a width, number of outputs or stride
        below 1, or an unknown convolution.

    References:
      Zagoruyko and Komodakis, "Wide Residual Networks", 2016, Table 1.
    """
    if depth < 10 or (depth - 4) % 6:
        raise ValueError(f"depth is {depth}; give 6 n + 4: 10, 16, 22, 28, ...")
    for name, value in (
        ("width", width),
        ("num_outputs", num_outputs),
        ("stem_stride", stem_stride),
    ):
        if value is not None and value < 1:
            raise ValueError(f"{name} is {value}; give a whole number of at least 1")
    if convolution not in IMPLEMENTATIONS:
        raise ValueError(
            f"convolution is {convolution!r}; choose one of {IMPLEMENTATIONS}"
        )
    network = _model_fns(
        _WideResNet(
            (depth - 4) // 6, width, num_outputs, stem_stride, dtype, convolution
        )
    )

    def init(key, inputs):
        key, kernel_key = jax.random.split(key)
        params, model_state = network.init(key, inputs)
        return _draw_kernels(kernel_key, params), model_state

    return ModelFns(init, network.apply)


def convnet(
    num_outputs: int | None,
    *,
    channels: Sequence[int] = (100, 100),
    window: int = 5,
    hidden: Sequence[int] = (1000, 500),
    dtype: Any = jnp.float32,
    convolution: str = "auto",
) -> ModelFns:
    """Small convolutional network: convolutions that are halved, then dense layers.

    Every convolution is without padding and followed by a bias, ReLU and the largest of
    every two by two pixels; every hidden layer by ReLU. The default sizes are those of
    the small network on which deferral to a specialist on CIFAR-10 is usually compared.
    Convolutions start as those of `wide_resnet`.

    Args:
      num_outputs: number of logits O, >= 1; None gives the last hidden layer instead,
        float32, and applies to the parameters of a network with outputs.
      channels: of each convolution, each >= 1.
      window: pixels of a convolution's side, >= 1.
      hidden: units of each hidden layer, each >= 1.
      dtype: dtype of the computation but for the last layer, float32 or bfloat16.
      convolution: implementation, one of those of `convolutions.convolve`.

    Returns:
      The network; it takes images ``[B, H, W, C]``, gives float32 ``[B, O]`` and has an
      empty ``model_state``. Of images that are too small for a window
      `convolutions.convolve` raises.

    Raises:
      ValueError: for a layer without units, no convolution, a window below 1, or an
        unknown convolution.

    References:
      LeCun, Bottou, Bengio and Haffner, "Gradient-based learning applied to document
      recognition", 1998, Figure 2; Mozannar et al., "Who Should Predict? Exact
      Algorithms For Learning to Defer to Humans", 2023, Section 6.
    """
    if not channels or min(*channels, *hidden, num_outputs or 1, window, 1) < 1:
        raise ValueError(
            f"channels are {tuple(channels)}, hidden {tuple(hidden)}, num_outputs"
            f" {num_outputs} and window {window}; give at least one convolution, and"
            " every layer at least one unit"
        )
    if num_outputs == 0:
        raise ValueError("num_outputs is 0; give a whole number of at least 1")
    if convolution not in IMPLEMENTATIONS:
        raise ValueError(
            f"convolution is {convolution!r}; choose one of {IMPLEMENTATIONS}"
        )
    network = _model_fns(
        _ConvNet(
            tuple(channels), window, tuple(hidden), num_outputs, dtype, convolution
        )
    )

    def init(key, inputs):
        key, kernel_key = jax.random.split(key)
        params, model_state = network.init(key, inputs)
        return _draw_kernels(kernel_key, params), model_state

    return ModelFns(init, network.apply)


def gated_pair(hidden: int) -> ModelFns:
    """A classifier and a rejector, one hidden layer of sigmoid units each.

    The rejector sees the inputs and the classifier's probability, through which no
    gradient flows. Arranged for sweeps: where many runs share a batch, the first layers
    of both networks of all runs are one matrix product with it, some four times as fast
    as two dense networks.

    Args:
      hidden: units of each of the two networks, >= 1.

    Returns:
      The network; it takes inputs ``[B, F]`` and gives the logits of label 1 and of
      deferring, float ``[B, 2]``. Kernels start Xavier-uniform, biases at 0.

    Raises:
      ValueError: for a layer without units.

    References:
      Madras, Pitassi and Zemel, "Predict Responsibly", 2018, Section 5.
    """
    if hidden < 1:
        raise ValueError(f"hidden is {hidden}; give every layer at least one unit")

    def init(key, inputs):
        features = inputs.shape[-1]
        # One draw for all: every other draw costs a third of a second to compile.
        sizes = (2 * hidden * features, hidden, 2 * hidden)
        draws = jax.random.uniform(key, (sum(sizes),), minval=-1.0)
        kernel, prob_kernel, out_kernel = jnp.split(draws, (sizes[0], sum(sizes[:2])))
        # Xavier's limit of each network: the rejector has one input more.
        limits = (
            (6.0 / (features + hidden)) ** 0.5,
            (6.0 / (features + 1 + hidden)) ** 0.5,
        )
        kernel = kernel.reshape(2, hidden, features) * jnp.array(limits)[:, None, None]
        kernel = kernel.reshape(2 * hidden, features)
        params = {
            # The last column is the bias: its gradient comes with that of the others.
            "kernel": jnp.pad(kernel, ((0, 0), (0, 1))),
            "prob_kernel": prob_kernel * limits[1],
            "out_kernel": out_kernel.reshape(2, hidden) * (6.0 / (hidden + 1)) ** 0.5,
            "out_bias": jnp.zeros(2),
        }
        return params, {}

    def apply(params, model_state, inputs, train):
        del train
        first = (
            params["kernel"] @ jnp.pad(inputs, ((0, 0), (0, 1)), constant_values=1).T
        )
        out_kernel, out_bias = params["out_kernel"], params["out_bias"]
        logit = _weigh(_sigmoid(first[:hidden]), out_kernel[0]) + out_bias[0]
        prob = jax.lax.stop_gradient(_sigmoid(logit))
        second = first[hidden:] + params["prob_kernel"][:, None] * prob
        defer_logit = _weigh(_sigmoid(second), out_kernel[1]) + out_bias[1]
        return jnp.stack([logit, defer_logit], axis=-1), model_state

    return ModelFns(init, apply)


def _sigmoid(logits):
    # The same function; XLA has a faster tanh than exponential on a CPU.
    return 0.5 * jnp.tanh(0.5 * logits) + 0.5


@jax.custom_vjp
def _weigh(units, weights):
    """Weighted sum of units ``[H, B]``, float ``[B]``."""
    return jnp.sum(units * weights[:, None], axis=0)


def _weigh_fwd(units, weights):
    return _weigh(units, weights), (units, weights)


def _weigh_bwd(residuals, cotangents):
    units, weights = residuals
    # A product with ones is a vectorized sum over examples; a reduction is not.
    of_weights = (units * cotangents) @ jnp.ones_like(cotangents)
    return weights[:, None] * cotangents, of_weights


_weigh.defvjp(_weigh_fwd, _weigh_bwd)
