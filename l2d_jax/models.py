"""Networks as pairs of pure functions."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from l2d_jax.convolutions import IMPLEMENTATIONS, convolve
from l2d_jax.types import ModelFns

_ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "relu": nn.relu,
    "sigmoid": nn.sigmoid,
    "tanh": nn.tanh,
}


class _Mlp(nn.Module):
    hidden: tuple[int, ...]
    num_outputs: int
    activation: Callable[[jax.Array], jax.Array]

    @nn.compact
    def __call__(self, inputs, train):
        del train
        features = jnp.asarray(inputs, jnp.float32).reshape(inputs.shape[0], -1)
        for width in self.hidden:
            features = self.activation(nn.Dense(width)(features))
        return nn.Dense(self.num_outputs)(features)


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
            nn.initializers.variance_scaling(2.0, "fan_out", "normal"),
            (self.size, self.size, inputs.shape[-1], self.channels),
            jnp.float32,
        )
        return convolve(
            inputs,
            kernel.astype(self.dtype),
            self.stride,
            implementation=self.convolution,
        )


class _Block(nn.Module):
    channels: int
    stride: int
    dtype: Any
    convolution: str

    @nn.compact
    def __call__(self, inputs, train):
        conv = functools.partial(
            _Conv, dtype=self.dtype, convolution=self.convolution
        )
        norm = functools.partial(
            nn.BatchNorm, not train, momentum=0.9, epsilon=1e-5, dtype=self.dtype
        )
        features = nn.relu(norm(name="norm_0")(inputs))
        shortcut = inputs
        if inputs.shape[-1] != self.channels or self.stride != 1:
            shortcut = conv(self.channels, 1, self.stride, name="shortcut")(features)
        features = conv(self.channels, 3, self.stride, name="conv_0")(features)
        features = nn.relu(norm(name="norm_1")(features))
        return shortcut + conv(self.channels, 3, 1, name="conv_1")(features)


class _WideResNet(nn.Module):
    blocks: int
    width: int
    num_outputs: int
    stem_stride: int
    dtype: Any
    convolution: str

    @nn.compact
    def __call__(self, inputs, train):
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
                )(features, train)
        features = nn.BatchNorm(
            not train, momentum=0.9, epsilon=1e-5, dtype=self.dtype, name="norm"
        )(features)
        features = jnp.mean(nn.relu(features), axis=(1, 2), dtype=jnp.float32)
        return nn.Dense(self.num_outputs, name="head")(features)


def _model_fns(module: nn.Module) -> ModelFns:
    def init(key, inputs):
        variables = dict(module.init(key, inputs, False))
        return variables.pop("params"), variables

    def apply(params, model_state, inputs, train):
        if not train:
            variables = {"params": params, **model_state}
            return module.apply(variables, inputs, False), model_state
        return module.apply(
            {"params": params, **model_state}, inputs, True, mutable=list(model_state)
        )

    return ModelFns(init, apply)


def mlp(
    hidden: Sequence[int], num_outputs: int, activation: str = "relu"
) -> ModelFns:
    if activation not in _ACTIVATIONS:
        raise ValueError(
            f"activation is {activation!r}; choose one of {sorted(_ACTIVATIONS)}"
        )
    return _model_fns(_Mlp(tuple(hidden), num_outputs, _ACTIVATIONS[activation]))


def wide_resnet(
    depth: int,
    width: int,
    num_outputs: int,
    *,
    stem_stride: int = 1,
    dtype: Any = jnp.float32,
    convolution: str = "auto",
) -> ModelFns:
    if depth < 10 or (depth - 4) % 6:
        raise ValueError(f"depth is {depth}; give 6 n + 4 for a whole n >= 1: 10, 16, 22, 28")
    if convolution not in IMPLEMENTATIONS:
        raise ValueError(f"convolution is {convolution!r}; choose one of {IMPLEMENTATIONS}")
    return _model_fns(
        _WideResNet((depth - 4) // 6, width, num_outputs, stem_stride, dtype, convolution)
    )
