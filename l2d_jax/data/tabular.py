"""Tables of people with a binary label, and the decision-maker who knows more."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from l2d_jax._checks import float32_fault
from l2d_jax._rounding import whole_part
from l2d_jax.data.answers import as_identifier
from l2d_jax.data.folder import DataError
from l2d_jax.types import Dataset

SCENARIOS = ("accurate", "biased", "inconsistent")
"""The decision-makers of Madras, Pitassi and Zemel: one that is accurate, one that is
also unfair, and one that is unreliable on a subgroup."""

_NUMBER = (bool, int, float, np.bool_, np.integer, np.floating)


class Tabular(NamedTuple):
    """A table with a sensitive group, split in three, B examples a part.

    The parts' inputs are float32 ``[B, D]``, their labels int32 ``[B]`` in {0, 1},
    their groups int32 ``[B]`` in {0, 1}; ``expert_probs`` are the decision-maker's
    probabilities of the two classes, float32 ``[B, 1, 2]``, and ``expert_labels`` the
    likelier of them before rounding, int32 ``[B, 1]``; None where no decision-maker
    comes with the data. The group is not among the inputs: a caller whose model is to
    see it, as in the paper, appends it.

    Attributes:
      train: examples to learn from, NumPy arrays.
      valid: examples to choose by, NumPy arrays.
      test: examples to report on, NumPy arrays.
      extra: what the decision-maker sees and the model does not, for train, valid and
        test, float32 ``[B, E]`` each.
      unreliable: members of the subgroup on which an inconsistent decision-maker is
        unreliable, for train, valid and test, bool ``[B]`` each.
      feature_names: name of each input, ``[D]``.
      group_name: what a member of group 1 is.
      name: short name of the data set, as in tables.
    """

    train: Dataset
    valid: Dataset
    test: Dataset
    extra: tuple[np.ndarray, np.ndarray, np.ndarray]
    unreliable: tuple[np.ndarray, np.ndarray, np.ndarray]
    feature_names: tuple[str, ...]
    group_name: str
    name: str


def make_tabular(
    inputs: np.ndarray,
    labels: np.ndarray,
    groups: np.ndarray,
    extra: np.ndarray,
    unreliable: np.ndarray,
    rows: tuple[np.ndarray, np.ndarray, np.ndarray],
    *,
    feature_names: Sequence[str],
    group_name: str,
    name: str,
    expert_probs: np.ndarray | None = None,
) -> Tabular:
    """A table from the columns of N examples, checked and split.

    Args:
      inputs: features, real ``[N, D]``, finite, as the model is to see them.
      labels: class of each example, ``[N]``, 0 or 1.
      groups: sensitive group of each example, ``[N]``, 0 or 1.
      extra: what only the decision-maker sees, real ``[N, E]``.
      unreliable: members of the subgroup with unreliable decisions, bool ``[N]``.
      rows: the examples of train, valid and test, int, in [0, N), none twice and at
        least one each; see `split_rows`.
      feature_names: name of each feature, ``[D]``.
      group_name: what a member of group 1 is.
      name: short name of the data set, for tables and messages.
      expert_probs: the decision-maker's probability of class 1, float ``[N]``, in
        [0, 1]. None: there is no decision-maker.

    Returns:
      The table.

    Raises:
      DataError: labels, groups or ``unreliable`` are missing or not binary, an input or
        ``extra`` is no number, not finite or without its differences once it is
        float32, or a probability is out of range.
      TypeError: ``rows`` are not of an integer dtype, such as masks.
      ValueError: the columns differ in length, or ``rows`` holds a row twice or one
        that does not exist, or has a part without any.
    """
    # By position, whatever index a column of pandas carries.
    inputs, labels, groups, extra, unreliable = map(
        np.asarray, (inputs, labels, groups, extra, unreliable)
    )
    feature_names = tuple(feature_names)
    if inputs.ndim != 2:
        raise ValueError(f"{name}: inputs must have shape (N, D), not {inputs.shape}")
    size, num_features = np.shape(inputs)
    columns = {"labels": labels, "groups": groups, "unreliable": unreliable}
    if expert_probs is not None:
        expert_probs = columns["expert_probs"] = np.asarray(expert_probs)
    for field, column in columns.items():
        if np.shape(column) != (size,):
            raise ValueError(
                f"{name}: {field} must have shape ({size},), one value an example, not "
                f"{np.shape(column)}"
            )
    if np.ndim(extra) != 2 or len(extra) != size:
        raise ValueError(
            f"{name}: extra must have shape ({size}, E), not {np.shape(extra)}"
        )
    if len(feature_names) != num_features:
        raise ValueError(
            f"{name}: feature_names has {len(feature_names)} names for {num_features} "
            "features"
        )
    labels, groups, unreliable = (
        _binary(name, field, columns[field])
        for field in ("labels", "groups", "unreliable")
    )
    inputs = as_float32(name, inputs, feature_names)
    extra = as_float32(name, extra, [f"extra[{i}]" for i in range(extra.shape[1])])
    if expert_probs is not None:
        expert_probs = _numbers(name, "expert_probs", expert_probs)
        if not np.all((expert_probs >= 0) & (expert_probs <= 1)):
            raise DataError(
                f"{name}: expert_probs must be probabilities of class 1, in [0, 1]: "
                "correct them or leave the example out"
            )
    for part, members in zip(("train", "valid", "test"), rows, strict=True):
        if not len(members):
            raise ValueError(f"{name}: rows has no example for {part}; give it one")
    chosen = np.concatenate(rows)
    if chosen.dtype.kind not in "iu":
        raise TypeError(
            f"{name}: rows must be of an integer dtype, not {chosen.dtype}; give"
            " np.flatnonzero of a mask"
        )
    if len(np.unique(chosen)) < len(chosen):
        raise ValueError(f"{name}: rows puts an example in two places")
    if chosen.min() < 0 or chosen.max() >= size:
        raise ValueError(f"{name}: rows must be in [0, {size})")

    def part_of(part: np.ndarray) -> Dataset:
        dataset = Dataset(inputs=inputs[part], labels=labels[part], groups=groups[part])
        if expert_probs is None:
            return dataset
        probs = np.stack([1 - expert_probs, expert_probs], axis=-1)[part]
        # Decided before they are rounded, to a tie perhaps.
        decided = with_decisions(dataset, probs[:, np.newaxis])
        return decided._replace(expert_probs=probs[:, np.newaxis].astype(np.float32))

    train, valid, test = map(part_of, rows)
    in_train, in_valid, in_test = rows
    unreliable = unreliable.astype(bool)
    return Tabular(
        train=train,
        valid=valid,
        test=test,
        extra=(extra[in_train], extra[in_valid], extra[in_test]),
        unreliable=(unreliable[in_train], unreliable[in_valid], unreliable[in_test]),
        feature_names=feature_names,
        group_name=group_name,
        name=name,
    )


def with_decisions(dataset: Dataset, probs: np.ndarray) -> Dataset:
    """The examples with decision-makers' probabilities, and what they decide.

    Args:
      dataset: B examples.
      probs: of each decision-maker, float ``[B, S, K]``; a tie is the lowest label.

    Raises:
      DataError: a probability is not finite, from which nothing follows.
    """
    if not np.isfinite(probs).all():
        raise DataError(
            "the decision-makers' probabilities are not all finite: leave out those of "
            "a network whose training diverged"
        )
    return dataset._replace(
        expert_probs=probs, expert_labels=np.argmax(probs, axis=-1).astype(np.int32)
    )


def split_rows(
    size: int, *, seed: int, valid_fraction: float = 0.2, test_fraction: float = 0.3
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of a training, a validation and a test part, drawn at random.

    With the default fractions the sizes are those of Madras, Pitassi and Zemel: of
    COMPAS' 11,027 rows 6,175, 1,543 and 3,309.

    Args:
      size: number of rows, N.
      seed: chooses the split, >= 0; the same seed gives the same split.
      valid_fraction: share of the rows outside the test part that validate, in (0, 1);
        the count is rounded down.
      test_fraction: share of all rows in the test part, in (0, 1); the count is
        rounded up.

    Returns:
      Rows of train, valid and test, int64, ascending; each row is in one of them.

    Raises:
      ValueError: a fraction is not in (0, 1), or it leaves a part empty.
    """
    for field, fraction in (
        ("valid_fraction", valid_fraction),
        ("test_fraction", test_fraction),
    ):
        if not 0.0 < fraction < 1.0:
            raise ValueError(f"{field} must be in (0, 1), not {fraction}")
    num_test = whole_part(test_fraction, size)
    num_test += bool(num_test / size < test_fraction)
    num_valid = whole_part(valid_fraction, size - num_test)
    num_train = size - num_test - num_valid
    if min(num_train, num_valid, num_test) < 1:
        raise ValueError(
            f"valid_fraction {valid_fraction} and test_fraction {test_fraction} split "
            f"{size} rows into {num_train} train, {num_valid} valid and {num_test} "
            "test: none may be empty"
        )
    shuffled = np.random.default_rng(seed).permutation(size)
    train, valid, test = np.split(shuffled, [num_train, num_train + num_valid])
    return np.sort(train), np.sort(valid), np.sort(test)


def standardize(values: np.ndarray, rows: np.ndarray | None = None) -> np.ndarray:
    """Features with mean 0 and standard deviation 1.

    Args:
      values: features, real ``[N, D]``.
      rows: the examples whose mean and standard deviation are used, int. None: all.

    Returns:
      The standardized features, float64 ``[N, D]``. A feature that is constant in
      ``rows`` is centered only, and so is one that varies by no more than the rounding
      of its own type: 3 * 0.1 next to 0.3 is no variation to divide by.
    """
    # By position, and an array of pandas' own is none yet.
    values = np.asarray(values)
    if not np.issubdtype(values.dtype, np.floating):
        values = values.astype(np.float64)
    reference = values if rows is None else values[np.asarray(rows)]
    # What some operations before have left of rounding, relative to the magnitude.
    rounding = 8 * np.finfo(values.dtype).eps
    reference, values = reference.astype(np.float64), values.astype(np.float64)
    largest = np.abs(reference).max(axis=0, initial=0.0)
    # Squares of such values would overflow or vanish: in another unit, a power of two,
    # by which division is exact. All others are left as they are.
    extreme = (largest > 2.0**300) | ((largest < 2.0**-300) & (largest > 0))
    unit = np.where(extreme & np.isfinite(largest), np.frexp(largest)[1], 0)
    reference, values = np.ldexp(reference, -unit), np.ldexp(values, -unit)
    scale = reference.std(axis=0)
    spread = np.ptp(reference, axis=0)
    constant = spread <= rounding * np.ldexp(largest, -unit)
    scale[constant] = 1.0
    standard = (values - reference.mean(axis=0)) / scale
    # Centered only: back in the unit of the feature.
    return np.where(constant, np.ldexp(standard, unit), standard)


def as_float32(name: str, values: np.ndarray, columns: Sequence[str]) -> np.ndarray:
    """Features as float32, refused where that loses them.

    Args:
      name: short name of the data set, for messages.
      values: features, real ``[N, D]``.
      columns: name of each, ``[D]``, for messages.

    Raises:
      DataError: a value is no number, is not finite, is beyond the range of float32, or
        a feature's values differ by little more than float32 rounds them.
    """
    exact = _numbers(name, "inputs", values)
    if not np.isfinite(exact).all():
        row, column = np.argwhere(~np.isfinite(exact))[0]
        raise DataError(
            f"{name}: feature {columns[column]} holds a value in row {row} that is not"
            " finite: fill it in or leave the example out"
        )
    fault = float32_fault(exact)
    if fault is not None:
        column, problem = fault
        raise DataError(f"{name}: feature {columns[column]} {problem}")
    return exact.astype(np.float32)


def check_scenario(scenario: str) -> None:
    """Refuses an unknown decision-maker.

    Args:
      scenario: one of `SCENARIOS`.

    Raises:
      ValueError: it is none of them.
    """
    if scenario not in SCENARIOS:
        raise ValueError(
            f"scenario must be one of {', '.join(SCENARIOS)}, not {scenario!r}"
        )


def _numbers(name: str, field: str, values: np.ndarray) -> np.ndarray:
    """The values as float64; what is missing, such as the NA of pandas, is NaN."""
    if values.dtype == object:
        flat = [value if as_identifier(value) else np.nan for value in values.ravel()]
        values = np.array(flat, object).reshape(values.shape)
    if values.dtype.kind not in "fiubO":
        raise DataError(f"{name}: {field} must be numbers, not {values.dtype}")
    try:
        return values.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"{name}: {field} must be numbers: {error}") from error


def _binary(name: str, field: str, column: np.ndarray) -> np.ndarray:
    """The column as int32, in {0, 1}."""
    numbers = column
    if column.dtype == object:
        # Not `_numbers`: a text, even "1", is not what the caller takes it for.
        numbers = np.array(
            [value if isinstance(value, _NUMBER) else np.nan for value in column], float
        )
    wrong = np.flatnonzero(~np.isin(numbers, (0, 1)))
    if len(wrong):
        raise DataError(
            f"{name}: {field} must be 0 or 1, and {len(wrong)} of {len(column)} "
            f"are not (the first is {column[wrong[0]]}), from row {wrong[0]} on: code "
            "the two as 0 and 1, and leave out examples of which it is unknown"
        )
    return numbers.astype(np.int32)
