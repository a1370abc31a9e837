"""Which examples a run trains on, which it validates on, and in what order.

Drawn with NumPy, once for each seed, and shared by all hyperparameters of that seed:
a permutation drawn inside the compiled run costs more than a small net's training, and
runs that see the same minibatches are the fairer comparison.
"""

from typing import NamedTuple

import numpy as np

from l2d_jax._checks import require_count


class Fold(NamedTuple):
    """Indices into the pool of training examples.

    Attributes:
      train: int32 ``[T]``.
      valid: int32 ``[V]``.
    """

    train: np.ndarray
    valid: np.ndarray


def split_pool(seed: int, num_examples: int, valid_fraction: float) -> Fold:
    """Split a pool at random into training and validation examples.

    Args:
      seed: of the run, >= 0.
      num_examples: size of the pool, > 1.
      valid_fraction: share of the pool to validate on, in (0, 1).

    Raises:
      ValueError: one of the parts would be empty.
    """
    num_valid = round(num_examples * valid_fraction)
    if not 0 < num_valid < num_examples:
        raise ValueError(
            f"valid_fraction {valid_fraction} of {num_examples} examples leaves"
            f" {num_valid} to validate on and {num_examples - num_valid} to train on;"
            " both must be positive"
        )
    permutation = np.random.default_rng([seed, 0]).permutation(num_examples)
    permutation = permutation.astype(np.int32)
    return Fold(train=permutation[num_valid:], valid=permutation[:num_valid])


def epoch_orders(
    seed: int, first_epoch: int, num_epochs: int, train: np.ndarray, batch_size: int
) -> np.ndarray:
    """Minibatches of some epochs, int32 ``[num_epochs, steps, batch_size]``.

    Each epoch is a fresh permutation, a function of the seed and the epoch's number
    alone; what does not fill the last batch sits that epoch out.

    Args:
      seed: of the run, >= 0.
      first_epoch: number of the first of them, from 0.
      num_epochs: how many.
      train: indices of the training examples, int ``[T]``.
      batch_size: in [1, T].

    Raises:
      ValueError: ``batch_size`` is no whole number in that range.
    """
    require_count("batch_size", batch_size)
    steps = len(train) // batch_size
    if steps == 0:
        raise ValueError(
            f"batch_size {batch_size} is larger than the {len(train)} training"
            f" examples; choose one of at most {len(train)}"
        )
    # The permutation of the examples themselves would be the same, and slower: NumPy
    # shuffles its own integers faster than those of 32 bits.
    orders = [
        train[np.random.default_rng([seed, 1, epoch]).permutation(len(train))][
            : steps * batch_size
        ]
        for epoch in range(first_epoch, first_epoch + num_epochs)
    ]
    return np.stack(orders).reshape(num_epochs, steps, batch_size)
