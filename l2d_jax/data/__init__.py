"""Data sets as NumPy arrays, checked against known checksums."""

from l2d_jax.data.cifar10 import load_cifar10
from l2d_jax.data.digits import load_digits
from l2d_jax.data.folder import DataError, resolve_data_dir
from l2d_jax.data.splits import Splits

__all__ = ["DataError", "Splits", "load_cifar10", "load_digits", "resolve_data_dir"]
