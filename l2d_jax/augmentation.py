"""Random changes to training images that keep their class, and standardization."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from l2d_jax.types import Array

CIFAR10_MEAN = (125.3 / 255, 123.0 / 255, 113.9 / 255)
"""Mean of each channel of CIFAR-10 in units of [0, 1] (Mozannar and Sontag, 2020)."""

CIFAR10_STD = (63.0 / 255, 62.1 / 255, 66.7 / 255)
"""Standard deviation of each channel of CIFAR-10, likewise."""


def random_crop_and_flip(key: jax.Array, images: Array, padding: int = 4) -> jax.Array:
    """Shifts each image at random, reflecting at the border, and mirrors half of them.

    The same as padding by reflection (without repeating the border), cropping at a
    random place to the old size, and mirroring left and right with probability 1/2.

    Args:
      key: PRNG key ``[]``. Every image has its own draws.
      images: any type, ``[B, H, W, C]``.
      padding: largest shift in pixels, static, in [0, min(H, W) - 1]. 0: mirror only.

    Returns:
      Images of the same shape and type.

    Raises:
      ValueError: ``images`` is not of rank 4, or ``padding`` is out of range.

    References:
      The augmentation in Mozannar and Sontag, "Consistent Estimators for Learning to
      Defer to an Expert", 2020.
    """
    _check_rank(images)
    batch_size, height, width, _ = images.shape
    if not 0 <= padding < min(height, width):
        raise ValueError(
            f"padding must be in [0, {min(height, width) - 1}] for images of "
            f"{height} x {width}, not {padding}"
        )
    shift_key, flip_key = jax.random.split(key)
    shifts = jax.random.randint(shift_key, (batch_size, 2), -padding, padding + 1)
    flips = jax.random.bernoulli(flip_key, shape=(batch_size,))

    columns = jnp.arange(width)
    columns = jnp.where(flips[:, None], width - 1 - columns, columns)
    rows = _reflect(jnp.arange(height) + shifts[:, :1], height)
    columns = _reflect(columns + shifts[:, 1:], width)
    # One gather, without a padded copy: a cropped slice of one costs 20 times as much
    # in a scan on CPU. Reflected indices are in bounds, so nothing need be clamped.
    examples = jnp.arange(batch_size)[:, None, None]
    return (
        jnp.asarray(images)
        .at[examples, rows[:, :, None], columns[:, None, :]]
        .get(mode="promise_in_bounds")
    )


def standardize(
    images: Array, mean: Array | Sequence[float], std: Array | Sequence[float]
) -> jax.Array:
    """Subtracts each channel's mean and divides by its standard deviation.

    Args:
      images: uint8 in [0, 255] or floating in [0, 1], ``[B, H, W, C]``.
      mean: mean of each channel in units of [0, 1], ``[C]``.
      std: standard deviation of each channel in units of [0, 1], ``[C]``, > 0.

    Returns:
      Standardized images, float32 ``[B, H, W, C]``.

    Raises:
      ValueError: ``images`` is not of rank 4 or of another type, or ``mean`` or ``std``
        is not ``[C]``.
    """
    _check_rank(images)
    values = jnp.asarray(images)
    if values.dtype == jnp.uint8:
        values = values.astype(jnp.float32) / 255.0
    elif jnp.issubdtype(values.dtype, jnp.floating):
        values = values.astype(jnp.float32)
    else:
        raise ValueError(f"images must be uint8 or floating, not {values.dtype}")
    mean = jnp.asarray(mean, jnp.float32)
    std = jnp.asarray(std, jnp.float32)
    for name, value in (("mean", mean), ("std", std)):
        if value.shape != values.shape[-1:]:
            raise ValueError(
                f"{name} must have shape {values.shape[-1:]}, one value a channel, "
                f"not {value.shape}"
            )
    return (values - mean) / std


def _reflect(indices: jax.Array, size: int) -> jax.Array:
    """Indices in (-size, 2 size - 1), mirrored about 0 and ``size - 1``."""
    return size - 1 - jnp.abs(size - 1 - jnp.abs(indices))


def _check_rank(images: Array) -> None:
    if len(images.shape) != 4:
        raise ValueError(f"images must be [B, H, W, C], not of shape {images.shape}")
