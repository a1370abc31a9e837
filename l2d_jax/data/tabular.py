"""Tables of people with a binary label, and the decision-maker who knows more."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from l2d_jax.data.folder import DataError
from l2d_jax.types import Dataset

SCENARIOS = ("accurate", "biased", "inconsistent")
"""The decision-makers of Madras, Pitassi and Zemel: one that is accurate, one that is
also unfair, and one that is unreliable on a subgroup."""


class Tabular(NamedTuple):
    """A table with a sensitive group, split in three, B examples a part.

    The parts' inputs are float32 ``[B, D]``, their labels int32 ``[B]`` in {0, 1},
    their groups int32 ``[B]`` in {0, 1}; ``expert_probs`` are the decision-maker's
    probabilities of the two classes, float32 ``[B, 1, 2]``, and ``expert_labels`` the
    likelier of them, int32 ``[B, 1]``; None where no decision-maker comes with the
    data. The group is not among the inputs: a caller whose model is to see it, as in
    the paper, appends it.

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
      rows: the examples of train, valid and test, int, in [0, N), none twice; see
        `split_rows`.
      feature_names: name of each feature, ``[D]``.
      group_name: what a member of group 1 is.
      name: short name of the data set, for tables and messages.
      expert_probs: the decision-maker's probability of class 1, float ``[N]``, in
        [0, 1]. None: there is no decision-maker.

    Returns:
      The table.

    Raises:
      DataError: labels or groups are not binary, an input is not finite, or a
        probability is out of range.
      ValueError: the columns differ in length, or ``rows`` holds a row twice or one
        that does not exist.
    """
    # By position, whatever index a column of pandas carries.
    inputs, labels, groups, extra, unreliable = map(
        np.asarray, (inputs, labels, groups, extra, unreliable)
    )
    if expert_probs is not None:
        expert_probs = np.asarray(expert_probs)
    size, num_features = np.shape(inputs)
    columns = {"labels": labels, "groups": groups, "unreliable": unreliable}
    if expert_probs is not None:
        columns["expert_probs"] = expert_probs
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
    for field in ("labels", "groups"):
        _check_binary(name, field, columns[field])
    finite = np.isfinite(inputs).all(axis=0)
    if not finite.all():
        raise DataError(
            f"{name}: feature {feature_names[int(np.argmin(finite))]} holds a value "
            "that is not finite: fill it in or leave the example out"
        )
    if expert_probs is not None and not np.all(
        (expert_probs >= 0) & (expert_probs <= 1)
    ):
        raise DataError(
            f"{name}: expert_probs must be probabilities of class 1, in [0, 1]: "
            "correct them or leave the example out"
        )
    chosen = np.concatenate(rows)
    if len(np.unique(chosen)) < len(chosen):
        raise ValueError(f"{name}: rows puts an example in two places")
    if chosen.min() < 0 or chosen.max() >= size:
        raise ValueError(f"{name}: rows must be in [0, {size})")

    def part_of(part: np.ndarray) -> Dataset:
        dataset = Dataset(
            inputs=inputs[part].astype(np.float32),
            labels=labels[part].astype(np.int32),
            groups=groups[part].astype(np.int32),
        )
        if expert_probs is None:
            return dataset
        probs = np.stack([1 - expert_probs, expert_probs], axis=-1)[part]
        return with_decisions(dataset, probs[:, np.newaxis].astype(np.float32))

    train, valid, test = map(part_of, rows)
    in_train, in_valid, in_test = rows
    extra, unreliable = extra.astype(np.float32), unreliable.astype(bool)
    return Tabular(
        train=train,
        valid=valid,
        test=test,
        extra=(extra[in_train], extra[in_valid], extra[in_test]),
        unreliable=(unreliable[in_train], unreliable[in_valid], unreliable[in_test]),
        feature_names=tuple(feature_names),
        group_name=group_name,
        name=name,
    )


def with_decisions(dataset: Dataset, probs: np.ndarray) -> Dataset:
    """The examples with decision-makers' probabilities, and what they decide.

    Args:
      dataset: B examples.
      probs: of each decision-maker, float ``[B, S, K]``; a tie is the lowest label.
    """
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
    num_test = int(np.ceil(test_fraction * size))
    num_valid = int(valid_fraction * (size - num_test))
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
      ``rows`` is centered only.
    """
    reference = np.asarray(values if rows is None else values[rows], np.float64)
    scale = reference.std(axis=0)
    # A constant's computed spread may be a rounding error instead of 0.
    scale[np.ptp(reference, axis=0) == 0] = 1.0
    return (values - reference.mean(axis=0)) / scale


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


def _check_binary(name: str, field: str, column: np.ndarray) -> None:
    unexpected = column[~np.isin(column, (0, 1))]
    if len(unexpected):
        raise DataError(
            f"{name}: {field} must be 0 or 1, and {len(unexpected)} of {len(column)} "
            f"are not (the first is {unexpected[0]}): code the two as 0 and 1, and "
            "leave out examples of which it is unknown"
        )
