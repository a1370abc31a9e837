"""A convolution whose gradients stay fast inside a loop on a CPU."""

import functools
import itertools

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_batching import sequential_vmap

IMPLEMENTATIONS = ("auto", "xla", "explicit")
"""Names that `convolve` takes for its ``implementation``."""

PADDINGS = ("SAME", "VALID")
"""Names that `convolve` takes for its ``padding``."""

_DIMENSIONS = ("NHWC", "HWIO", "NHWC")


def convolve(
    inputs: jax.Array,
    kernel: jax.Array,
    stride: int = 1,
    *,
    padding: str = "SAME",
    implementation: str = "auto",
) -> jax.Array:
    r"""Convolution of images with the padding that `jax.lax` calls SAME, or VALID.

    .. math:: y_{i} = \sum_{t} x_{s i + t - p}\, w_{t}

    in both directions, s the stride. With SAME the image is zero outside and p half the
    zeros needed, rounded down: an even size at stride 2 is padded at its end only. With
    VALID p is 0, and a window lies in the image whole.

    ``"xla"`` is `jax.lax.conv_general_dilated` with the gradients of its own. These
    are convolutions with reversed windows and permuted dimensions, for which XLA has
    no fast code on a CPU inside `jax.lax.scan` or `jax.lax.map`, 10-100 times slower.
    ``"explicit"`` states both gradients as plain convolutions, fast in a loop too, and
    under `jax.vmap` runs one convolution after another where XLA would run a slower
    grouped one. It has first derivatives in reverse mode only, and `jax.shard_map`
    takes it with ``check_vma=False``. ``"auto"`` is ``"explicit"`` if the default
    backend is a CPU, else ``"xla"``.

    Args:
      inputs: images, float ``[B, H, W, C]``.
      kernel: weights, float ``[k, l, C, O]``, of the same dtype.
      stride: step in both directions, >= 1.
      padding: ``"SAME"`` or ``"VALID"``.
      implementation: ``"auto"``, ``"xla"`` or ``"explicit"``.

    Returns:
      Features, float ``[B, ceil(H / stride), ceil(W / stride), O]``, of that dtype.
      With VALID H - k + 1 stands for H, and W - l + 1 for W.

    Raises:
      ValueError: for an unknown implementation or padding, a stride below 1, or shapes
        or dtypes that do not fit together.
    """
    if implementation not in IMPLEMENTATIONS:
        raise ValueError(
            f"implementation is {implementation!r}; choose one of {IMPLEMENTATIONS}"
        )
    if padding not in PADDINGS:
        raise ValueError(f"padding is {padding!r}; choose one of {PADDINGS}")
    if stride < 1:
        raise ValueError(f"stride is {stride}; give a whole number of at least 1")
    if inputs.ndim != 4:
        raise ValueError(f"inputs have shape {inputs.shape}; give [B, H, W, C]")
    if kernel.ndim != 4 or kernel.shape[2] != inputs.shape[3]:
        raise ValueError(
            f"kernel has shape {kernel.shape}; give [k, l, {inputs.shape[3]}, O]"
        )
    if kernel.dtype != inputs.dtype:
        raise ValueError(
            f"kernel is {kernel.dtype} and inputs are {inputs.dtype}; cast one of them"
        )
    if padding == "VALID" and any(
        pixels < window
        for pixels, window in zip(inputs.shape[1:3], kernel.shape[:2], strict=True)
    ):
        raise ValueError(
            f"kernel has shape {kernel.shape}; with padding VALID its window must lie"
            f" in the inputs, of shape {inputs.shape}"
        )
    if implementation == "auto":
        implementation = "explicit" if jax.default_backend() == "cpu" else "xla"
    if implementation == "xla":
        return _forward(inputs, kernel, stride, padding)
    if kernel.shape[:2] == (1, 1):
        # A product of matrices, whose gradients are products too.
        return inputs[:, ::stride, ::stride] @ kernel[0, 0]
    return _explicit(inputs, kernel, stride, padding)


def _forward(inputs, kernel, stride, padding):
    return lax.conv_general_dilated(
        inputs, kernel, (stride, stride), padding, dimension_numbers=_DIMENSIONS
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _explicit(inputs, kernel, stride, padding):
    forward = functools.partial(_forward, stride=stride, padding=padding)
    return sequential_vmap(forward)(inputs, kernel)


def _explicit_fwd(inputs, kernel, stride, padding):
    return _explicit(inputs, kernel, stride, padding), (inputs, kernel)


def _explicit_bwd(stride, padding, residuals, cotangents):
    inputs, kernel = residuals
    size, window = inputs.shape[1:3], kernel.shape[:2]
    before = [
        _zeros_before(*sizes, stride, padding)
        for sizes in zip(size, window, strict=True)
    ]
    of_inputs = functools.partial(
        _input_gradient, size=size, before=before, stride=stride
    )
    of_kernel = functools.partial(
        _kernel_gradient, window=window, before=before, stride=stride
    )
    return (
        sequential_vmap(of_inputs)(kernel, cotangents),
        sequential_vmap(of_kernel)(inputs, cotangents),
    )


_explicit.defvjp(_explicit_fwd, _explicit_bwd)


def _zeros_before(size, window, stride, padding):
    """Zeros that a padding puts before the first pixel."""
    if padding == "VALID":
        return 0
    outputs = -(-size // stride)
    return max((outputs - 1) * stride + window - size, 0) // 2


def _input_gradient(kernel, cotangents, size, before, stride):
    r"""Gradient of the inputs, phase by phase of their position modulo the stride.

    Pixel :math:`s m + a` has the gradient :math:`\sum_u w_{s u + r}\, g_{m + d - u}`
    with :math:`a + p = s d + r`: one convolution of the cotangents with every s-th
    weight, where a transposed convolution would multiply the zeros between them.
    """
    batch, *outputs, _ = cotangents.shape
    cells = [-(-pixels // stride) for pixels in size]
    phases = []
    for phase in itertools.product(range(stride), repeat=2):
        weights, padding = kernel, []
        for axis in range(2):
            shift, first = divmod(phase[axis] + before[axis], stride)
            first = min(first, kernel.shape[axis])
            weights = lax.slice_in_dim(weights, first, None, stride, axis)
            reach = weights.shape[axis] - 1
            padding.append((reach - shift, shift + cells[axis] - outputs[axis]))
        if 0 in weights.shape:
            shape = (batch, *cells, kernel.shape[2])
            phases.append(jnp.zeros(shape, cotangents.dtype))
            continue
        # Flipped by hand, not by a reversed window: only a plain one is fast in a loop.
        weights = weights[::-1, ::-1].swapaxes(2, 3)
        phases.append(
            lax.conv_general_dilated(
                cotangents, weights, (1, 1), padding, dimension_numbers=_DIMENSIONS
            )
        )
    if stride == 1:
        return phases[0]
    grid = jnp.stack(phases, axis=3)
    grid = grid.reshape(batch, *cells, stride, stride, kernel.shape[2])
    pixels = grid.transpose(0, 1, 3, 2, 4, 5).reshape(
        batch, cells[0] * stride, cells[1] * stride, kernel.shape[2]
    )
    return pixels[:, : size[0], : size[1]]


def _kernel_gradient(inputs, cotangents, window, before, stride):
    """Gradient of the weights: a convolution in which examples stand for channels."""
    padding = []
    for size, outputs, weights, zeros in zip(
        inputs.shape[1:3], cotangents.shape[1:3], window, before, strict=True
    ):
        padding.append((zeros, (outputs - 1) * stride + weights - size - zeros))
    # Transposed by hand, not by dimension numbers: only NHWC is fast in a loop. Behind
    # the barrier the copies are not fused with what precedes them (5 % of a step).
    images, weights = lax.optimization_barrier(
        (inputs.transpose(3, 1, 2, 0), cotangents.transpose(1, 2, 0, 3))
    )
    gradient = lax.conv_general_dilated(
        images,
        weights,
        (1, 1),
        padding,
        rhs_dilation=(stride, stride),
        dimension_numbers=_DIMENSIONS,
    )
    return gradient.transpose(1, 2, 0, 3)
