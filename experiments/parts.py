"""One data set that every seed divides anew: to train, to validate and to test on."""

from typing import NamedTuple

import ml_collections
import numpy as np

from experiments import images
from experiments.runtime.errors import ConfigError
from l2d_jax.engine import memory, orders


class Parts(NamedTuple):
    """How seeds divide the examples.

    Attributes:
      rest: rows to train and validate on, int32 ``[S, R]``.
      test: rows to report on, int32 ``[S, T]``.
      valid_fraction: of the rest.
    """

    rest: np.ndarray
    test: np.ndarray
    valid_fraction: float

    def fold(self, seed: int) -> orders.Fold:
        """Rows of a seed to train and to validate on."""
        rows = self.rest[seed]
        part = orders.split_pool(seed, len(rows), self.valid_fraction)
        return orders.Fold(rows[part.train], rows[part.valid])

    @property
    def test_to_train(self) -> float:
        """Size of the test part over that of the rest."""
        return self.test.shape[1] / self.rest.shape[1]


def draw(config: ml_collections.ConfigDict, size: int) -> Parts:
    """Parts of so many examples, for each seed of the config.

    Raises:
      ConfigError: a part would be empty, or a batch is larger than the training part.
    """
    num_test = round(config.test_fraction * size)
    if not 0 < num_test < size:
        raise ConfigError(
            f"test_fraction {config.test_fraction} leaves {num_test} examples to test"
            f" on and {size - num_test} for the rest; both must be positive"
        )
    images.check_sizes(config, size - num_test)
    memory.require(splits=8 * config.num_seeds * size)
    # The rows are in an order of their own, apart from those of `orders`.
    shuffled = np.stack(
        [
            np.random.default_rng([seed, 2, config.seed]).permutation(size)
            for seed in range(config.num_seeds)
        ]
    ).astype(np.int32)
    test, rest = np.sort(shuffled[:, :num_test]), np.sort(shuffled[:, num_test:])
    return Parts(rest, test, config.valid_fraction)
