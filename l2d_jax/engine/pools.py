"""Examples to train on, checked on the host before anything compiles.

What a compiled program would fill in, wrap around or round away is an error here that
names the column and the row. Of a row of weight 0 nothing is looked at but its length.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from l2d_jax._checks import float32_fault, require_distributions
from l2d_jax.engine.orders import Fold
from l2d_jax.types import Array, Dataset

_LARGEST = 2**31 - 1


def check(
    dataset: Dataset,
    num_classes: int | None = None,
    name: str = "pool",
    num_groups: int | None = None,
) -> None:
    """See that every value of some examples is one that the column may have.

    A NaN among the inputs is left to training, which marks the run as diverged.

    Args:
      dataset: examples, NumPy arrays ``[N, ...]``.
      num_classes: K; None where it is not known, and labels are only >= 0.
      name: of the examples, for messages.
      num_groups: G; None where it is not known.

    Raises:
      TypeError: classes or groups are not of an integer dtype.
      ValueError: columns differ in length, or a value is out of its range or would not
        survive the cast to what the device computes with.
    """
    check_lengths(dataset, name)
    weights = dataset.weights
    if weights is not None:
        single = jnp.finfo(jnp.result_type(float))
        range_of = f"finite and >= 0 as {single.dtype}"
        _require(name, "weights", weights, None, 0.0, float(single.max), range_of)
    rows = None if weights is None else np.flatnonzero(np.asarray(weights) > 0)
    last = _LARGEST if num_classes is None else num_classes - 1
    classes = f"0..{last}" if num_classes is not None else ">= 0, in 32 bits"
    _require_whole(name, "labels", dataset.labels, rows, 0, last, classes)
    if dataset.expert_labels is not None:
        _require_whole(
            name,
            "expert_labels",
            dataset.expert_labels,
            rows,
            -1,
            last,
            f"{classes}, or -1 of who was not asked",
        )
    if dataset.groups is not None:
        most = _LARGEST if num_groups is None else num_groups - 1
        known_groups = ">= 0, in 32 bits" if num_groups is None else f"0..{most}"
        _require_whole(name, "groups", dataset.groups, rows, 0, most, known_groups)
    if dataset.expert_correct is not None:
        known = np.asarray(dataset.expert_correct)
        known = np.where(np.isnan(known), 0.0, known)
        _require(
            name, "expert_correct", known, rows, 0.0, 1.0, "in [0, 1], or NaN: unknown"
        )
    for field in ("expert_probs", "class_probs"):
        probs = getattr(dataset, field)
        if probs is not None:
            require_distributions(f"{name}.{field}", probs, rows)
    if jnp.result_type(float) == jnp.float32:
        for field in ("inputs", "costs"):
            column = getattr(dataset, field)
            if column is not None:
                _require_single(f"{name}.{field}", column, rows)


def check_lengths(dataset: Dataset, name: str = "pool") -> None:
    """See that every column has a row for each example.

    Raises:
      ValueError: one has not, or labels or weights are more than one number a row.
    """
    for field in ("labels", "weights"):
        shape = np.shape(getattr(dataset, field))
        if getattr(dataset, field) is not None and len(shape) != 1:
            raise ValueError(
                f"{name}.{field} must have shape [N], one number an example, got"
                f" {shape}"
            )
    size = np.shape(dataset.labels)[0]
    for field, column in dataset._asdict().items():
        if column is None:
            continue
        if not np.ndim(column):
            raise ValueError(f"{name}.{field} must have a row for each example")
        if np.shape(column)[0] != size:
            raise ValueError(
                f"{name}.{field} has {np.shape(column)[0]} rows and {name}.labels"
                f" {size}; give every column a row for each example"
            )


def as_arrays(pool: Dataset, name: str = "pool") -> Dataset:
    """The examples with columns that are lists, or of pandas, as arrays.

    Raises:
      TypeError: a column holds no numbers.
    """
    return pool._replace(
        **{
            field: _as_array(f"{name}.{field}", column)
            for field, column in pool._asdict().items()
            if column is not None
        }
    )


def as_fold(seed: int, fold: Sequence[Any]) -> Fold:
    """What a seed trains and validates on, as arrays.

    Args:
      seed: of the fold, for messages.
      fold: what ``split`` gave for it.

    Raises:
      TypeError: a part holds no numbers.
    """
    train, valid = fold
    return Fold(
        _as_array(f"split: train of seed {seed}", train),
        _as_array(f"split: valid of seed {seed}", valid),
    )


def _as_array(name: str, column: Any) -> Any:
    if not isinstance(column, np.ndarray | jax.Array):
        try:
            column = np.asarray(column)
        # Rows of several lengths.
        except ValueError:
            column = np.empty(0, object)
    if column.dtype.kind in "OSUMm":
        raise TypeError(
            f"{name} must be an array of numbers, one row an example, got dtype"
            f" {column.dtype}; convert it"
        )
    return column


def check_folds(folds: Mapping[int, Fold], size: int) -> None:
    """See that the rows of each seed exist, and that none is of both parts.

    A part may hold a row more than once.

    Args:
      folds: of each seed.
      size: examples of the pool, N.

    Raises:
      TypeError: rows are not of an integer dtype, such as a mask.
      ValueError: a fold is empty, has other rows, or validates on what it trains on.
    """
    for seed, fold in folds.items():
        for part, column in fold._asdict().items():
            rows = np.asarray(column)
            if rows.ndim != 1:
                raise ValueError(
                    f"split: {part} of seed {seed} must be a list of rows, got shape"
                    f" {rows.shape}"
                )
            if not len(rows):
                raise ValueError(f"split: seed {seed} has no example in {part}")
            if rows.dtype.kind not in "iu":
                # Taken as numbers, those of a mask would be rows 0 and 1.
                raise TypeError(
                    f"split: {part} of seed {seed} must be rows of an integer dtype,"
                    f" got {rows.dtype}; give np.flatnonzero of a mask"
                )
            outside = rows[(rows < 0) | (rows >= size)]
            if len(outside):
                raise ValueError(
                    f"split: {part} of seed {seed} has row {outside[0]}, and the pool"
                    f" has {size} rows"
                )
        both = np.intersect1d(fold.train, fold.valid)
        if len(both):
            raise ValueError(
                f"split: seed {seed} trains and validates on row {both[0]}; give parts"
                " that have no row in common"
            )


def check_alike(folds: Mapping[int, Fold], batch_size: int) -> None:
    """See that the folds of seeds that train together are of one shape.

    Args:
      folds: of each seed.
      batch_size: examples of a minibatch; of training rows their number counts.

    Raises:
      ValueError: there are two shapes.
    """
    of_first: dict[str, tuple[int, int]] = {}
    for seed, fold in folds.items():
        sizes = {
            "minibatches to train on": len(fold.train) // batch_size,
            "examples to validate on": len(fold.valid),
        }
        for what, size in sizes.items():
            first, expected = of_first.setdefault(what, (seed, size))
            if size != expected:
                raise ValueError(
                    f"split: seed {seed} has {size} {what} and seed {first} {expected};"
                    " seeds that train together must have as many"
                )


def _require_whole(
    name: str,
    field: str,
    column: Array,
    rows: np.ndarray | None,
    low: int,
    high: int,
    known: str,
) -> None:
    kind = np.asarray(column).dtype
    if kind.kind not in "iub":
        raise TypeError(
            f"{name}.{field} must be of an integer dtype, {known}, got {kind}"
        )
    _require(name, field, column, rows, low, high, known)


def _require(
    name: str,
    field: str,
    column: Array,
    rows: np.ndarray | None,
    low: float,
    high: float,
    known: str,
) -> None:
    values = np.asarray(column)
    values = values if rows is None else values[rows]
    # Written so that a NaN is none of them.
    wrong = ~((values >= low) & (values <= high) & (values != np.inf))
    if wrong.any():
        place = np.argwhere(wrong)[0]
        row = place[0] if rows is None else rows[place[0]]
        raise ValueError(
            f"{name}.{field} must be {known}, got {values[tuple(place)]} in row {row}"
        )


def _require_single(name: str, column: Array, rows: np.ndarray | None) -> None:
    """Raises where values of 64 bits do not survive the device's 32."""
    values = np.asarray(column)
    if values.dtype.itemsize < 8 or values.dtype.kind not in "fiu" or not values.size:
        return
    values = values.reshape(len(values), -1)
    values = values if rows is None else values[rows]
    if values.dtype.kind in "iu":
        wrong = (values > _LARGEST) | (values < -_LARGEST - 1)
        if wrong.any():
            row, place = np.argwhere(wrong)[0]
            raise ValueError(
                f"{name} must fit 32 bits, got {values[row, place]} in row"
                f" {row if rows is None else rows[row]}; give it as floats, centered"
            )
        return
    fault = float32_fault(values, rows)
    if fault is not None:
        place, problem = fault
        raise ValueError(f"{name}: feature {place} {problem}")
