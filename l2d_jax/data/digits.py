"""The handwritten digits that come with scikit-learn: real images, no download."""

import numpy as np

from l2d_jax.data.folder import DataError
from l2d_jax.data.splits import Splits
from l2d_jax.types import Dataset


def load_digits(*, test_fraction: float = 0.2, seed: int = 0) -> Splits:
    """The 1,797 images of handwritten digits bundled with scikit-learn.

    The test part is drawn at random within each class. Both parts keep the order of the
    original.

    Args:
      test_fraction: share of each class in the test part, in (0, 1). The count is
        rounded, and every class keeps at least one example in each part.
      seed: chooses the split, >= 0; the same seed gives the same split.

    Returns:
      Inputs float32 ``[B, 8, 8, 1]`` in [0, 1], labels int32 ``[B]`` in [0, 10).

    Raises:
      ValueError: ``test_fraction`` is not in (0, 1).
      DataError: scikit-learn is not installed.

    References:
      Alpaydin and Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine
      Learning Repository, 1998 (its test set).
    """
    if not 0.0 < test_fraction < 1.0:
        raise ValueError(f"test_fraction must be in (0, 1), not {test_fraction}")
    try:
        from sklearn import datasets
    except ImportError as error:
        raise DataError(
            "the digits come with scikit-learn, which cannot be imported "
            f"({error}): pip install 'l2d-jax[experiments]'"
        ) from error
    digits = datasets.load_digits()
    # A pixel counts the ink in a 4x4 block of a bitmap: 0 to 16.
    inputs = (digits.images[..., np.newaxis] / 16.0).astype(np.float32)
    labels = digits.target.astype(np.int32)

    generator = np.random.default_rng(seed)
    is_test = np.zeros(len(labels), dtype=bool)
    for label in range(10):
        members = np.flatnonzero(labels == label)
        size = np.clip(round(test_fraction * len(members)), 1, len(members) - 1)
        is_test[generator.permutation(members)[:size]] = True
    return Splits(
        train=Dataset(inputs[~is_test], labels[~is_test]),
        test=Dataset(inputs[is_test], labels[is_test]),
        num_classes=10,
        name="digits",
    )
