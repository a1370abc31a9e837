"""Parts of a table for cross-validation, in which no unit is split."""

import math
import warnings
from collections.abc import Sequence

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

# So many units are balanced by their number, and weighing each of them takes minutes.
_MANY_UNITS = 20_000


def shortage(
    count: int, num_folds: int, inner_folds: int, promise_folds: int | None = None
) -> str:
    """Why a class has too few units to be judged by, and what helps; empty: it has not.

    Args:
      count: its units, >= 0.
      num_folds: parts that are held out in turn to judge what is fitted to the others,
        J >= 2.
      inner_folds: parts that are then held out in turn while fitting to those.
      promise_folds: parts of which one is held out of those before, for a guarantee or
        sets of people; None without.
    """

    def left(parts: int) -> int:
        """Units that are fitted to where the fullest part is held out."""
        kept = count - math.ceil(count / parts)
        return kept - math.ceil(kept / promise_folds) if promise_folds else kept

    if count >= num_folds and left(num_folds) >= inner_folds:
        return ""
    if count < num_folds:
        why = f"{num_folds} parts are to be held out in turn"
    else:
        why = (
            f"where one of {num_folds} parts"
            + (" and the cases for what is promised are" if promise_folds else " is")
            + f" held out, {left(num_folds)} are left to fit to, which takes"
            f" {inner_folds}"
        )
    enough = [parts for parts in range(2, count + 1) if left(parts) >= inner_folds]
    other = min(enough, key=lambda parts: abs(parts - num_folds), default=None)
    advice = f", or hold out {other} parts" if other else ", or give more of it"
    return f"{why}; merge the class, leave it out{advice}"


def make_folds(
    labels: np.ndarray,
    units: np.ndarray,
    num_folds: int,
    seed: int,
    classes: Sequence[str],
) -> np.ndarray:
    """Part that each case is held out in, int ``[N]``, in [0, J).

    Classes are as common in each part as units allow.

    Args:
      labels: int ``[N]``, >= 0.
      units: what stays together, int ``[N]``.
      num_folds: J, >= 2.
      seed: of the shuffle, >= 0.
      classes: names, K.

    Raises:
      ValueError: a class has fewer units than there are parts, or is in no other part
        than one.
    """
    if num_folds < 2:
        raise ValueError(f"there must be two parts or more, got {num_folds}")
    pairs = np.unique(np.stack([labels, units]), axis=1)
    present, counts = np.unique(pairs[0], return_counts=True)
    if len(units) and counts.min() < num_folds:
        rare = classes[present[np.argmin(counts)]]
        raise ValueError(
            f"class {rare!r} is that of {counts.min()} units (rows, or what they"
            f" are split by) and there are {num_folds} parts to hold out; merge rare"
            " classes, leave them out, or ask for fewer parts"
        )
    names, members = np.unique(units, return_inverse=True)
    if len(names) > _MANY_UNITS:
        folds = _draw_units(labels, members, num_folds, seed)
    else:
        folds = np.empty(len(labels), np.int32)
        splitter = StratifiedGroupKFold(num_folds, shuffle=True, random_state=seed)
        for number, (_, held_out) in enumerate(splitter.split(labels, labels, units)):
            folds[held_out] = number
    for label in present:
        if len(np.unique(folds[labels == label])) < 2:
            raise ValueError(
                f"class {classes[label]!r} is in one part alone, as the units that it"
                " is of are large; split by something smaller"
            )
    return folds


def _draw_units(
    labels: np.ndarray, members: np.ndarray, num_folds: int, seed: int
) -> np.ndarray:
    """Part of each case, by a draw of whole units with those of each class apart.

    A unit of several classes is one of the rarest of them.

    Args:
      labels: int ``[N]``, >= 0.
      members: unit of each case, int ``[N]``, in [0, U).
      num_folds: J.
      seed: of the draw.
    """
    rank = np.argsort(np.argsort(np.bincount(labels), kind="stable"))
    rarest = np.full(members.max() + 1, len(rank))
    np.minimum.at(rarest, members, rank[labels])
    parts = np.empty(len(rarest), np.int32)
    splitter = StratifiedKFold(num_folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # Fewer of a class than parts, as their units are of a rarer one besides.
        warnings.filterwarnings("ignore", "The least populated class")
        for number, (_, held_out) in enumerate(splitter.split(rarest, rarest)):
            parts[held_out] = number
    return parts[members]
