"""What a loader returns."""

from typing import NamedTuple

from l2d_jax.types import Dataset


class Splits(NamedTuple):
    """A data set as its loader returns it.

    Attributes:
      train: examples to learn from, NumPy arrays.
      test: examples to report on, NumPy arrays.
      num_classes: K, the number of classes.
      name: short name of the data set, as in tables.
    """

    train: Dataset
    test: Dataset
    num_classes: int
    name: str
