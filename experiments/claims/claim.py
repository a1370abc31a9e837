"""What a published claim is, and what is found of it."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd


class CannotMeasure(ValueError):
    """The results lack what a claim is about; the message says what."""


class Finding(NamedTuple):
    """What was measured of a claim.

    Attributes:
      values: one number for each independent repetition.
      holds: whether the claim holds of them.
      better: whether they go beyond what is claimed.
      estimate: the number and its 95 % interval, where these are not the mean of the
        values and Student's t.
    """

    values: np.ndarray
    holds: bool
    better: bool = False
    estimate: tuple[float, float, float] | None = None


class Claim(NamedTuple):
    """A published claim.

    Attributes:
      id: short name, unique.
      paper: who claims it.
      statement: the claim and, after a colon, the number that is reported for it.
      paper_value: the paper's number as text; empty where it gives none.
      source: experiment whose results it is measured on.
      measure: ``(results table, tolerance) -> Finding``.
    """

    id: str
    paper: str
    statement: str
    paper_value: str
    source: str
    measure: Callable[[pd.DataFrame, float], Finding]
