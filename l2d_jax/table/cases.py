"""The cases of a table: what is known of each, what it was, and who said what."""

from typing import NamedTuple

import numpy as np
import pandas as pd


class Cases(NamedTuple):
    """N cases, of K classes, with the answers of M people.

    Attributes:
      ids: of the cases, distinct strings, ``[N]``.
      features: a row for each case and its own columns, as they were read; no label,
        answer, group or identifier is among them.
      labels: class of each case, int32 ``[N]``, in [0, K); -1 where it is not known.
      classes: names of the classes, K.
      answers: of the people, int32 ``[N, M]``, in [0, K); -1 who was not asked.
      people: names of the people, M; none is allowed.
      groups: name of each case's group, strings ``[N]``; None where none is given.
      units: what is never split between training and test, such as a patient, int
        ``[N]``; without one every case is its own.
      class_probs: of a model that is given, float64 ``[N, K]``, rows sum to 1; None
        where none is given.
      notes: what was seen on the way and should be known, a sentence each.
    """

    ids: np.ndarray
    features: pd.DataFrame
    labels: np.ndarray
    classes: tuple[str, ...]
    answers: np.ndarray
    people: tuple[str, ...]
    groups: np.ndarray | None
    units: np.ndarray
    class_probs: np.ndarray | None
    notes: tuple[str, ...]
