"""Features of texts, of which the texts themselves say how many there can be."""

from collections.abc import Callable, Sequence

import numpy as np

from experiments.runtime.errors import ConfigError
from l2d_jax import data


def fit(
    texts: Sequence[str], num_features: int, kind: str = "tfidf", where: str = ""
) -> Callable[[Sequence[str]], np.ndarray]:
    """As `l2d_jax.data.fit_text_features`.

    Args:
      texts: the training texts.
      num_features: as the config has it.
      kind: likewise.
      where: leads to these fields of the config; ends in a dot.

    Raises:
      ConfigError: there are too few texts, or words, for so many features.
      DataError: a library that the kind needs is not to be had.
    """
    try:
        return data.fit_text_features(texts, num_features, kind)
    except data.DataError:
        raise
    except ValueError as error:
        raise ConfigError(f"{where}{error}") from error
