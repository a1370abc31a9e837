"""What a published claim is, what it is measured on, and what is found of it."""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pandas as pd

from experiments import tables

SEEDS_AND_CASES, SEEDS, PEOPLE, SPLITS = "seeds and cases", "seeds", "people", "splits"
"""What an interval may be over; see `experiments.problem.Problem.sampled`."""


class CannotMeasure(ValueError):
    """The tables lack what a claim is about; the message says what."""


class Evidence(NamedTuple):
    """The tables of a finished experiment.

    Attributes:
      results: a row for each run and split.
      comparison: chosen systems against the best single party and a reference, as
        `experiments.summaries.Summary.comparison`; None where there is no such table.
      gains: what imputers gain, as `experiments.persons.compare`; likewise.
    """

    results: pd.DataFrame
    comparison: pd.DataFrame | None = None
    gains: pd.DataFrame | None = None


class Estimate(NamedTuple):
    """A number and its 95 % interval.

    Attributes:
      value: the number.
      low: lower end of the interval; NaN where there is none.
      high: its upper end.
      n: repetitions that the number is made of.
      over: what the interval is over, such as `SEEDS`; empty for a number that has no
        interval whatever is repeated.
    """

    value: float
    low: float
    high: float
    n: int
    over: str


class Finding(NamedTuple):
    """What was measured of a claim.

    Attributes:
      estimate: the number, and how sure it is.
      holds: whether the claim holds of it.
      better: whether it goes beyond what is claimed.
    """

    estimate: Estimate
    holds: bool
    better: bool = False


Measure: TypeAlias = Callable[[Evidence, float], Finding]
"""``(evidence, tolerance) -> Finding``."""


class Claim(NamedTuple):
    """A published claim.

    Attributes:
      id: short name, unique.
      paper: who claims it.
      statement: the claim and, after a colon, the number that is reported for it.
      paper_value: the paper's number as text; empty where it gives none.
      source: experiment whose tables it is measured on.
      measure: measures it.
    """

    id: str
    paper: str
    statement: str
    paper_value: str
    source: str
    measure: Measure


def mean_over(values: np.ndarray, over: str = SEEDS) -> Estimate:
    """Mean of independent repetitions and Student's interval of it.

    Args:
      values: float ``[n]``.
      over: what they are.

    Raises:
      CannotMeasure: there are none.
    """
    _require_some(values)
    return Estimate(
        float(np.mean(values)), *tables.mean_interval(values), len(values), over
    )


def mean_over_splits(values: np.ndarray, test_to_train: float) -> Estimate:
    """Mean over overlapping splits of one data set, and its corrected interval.

    Args:
      values: one for each split, float ``[n]``.
      test_to_train: as in `experiments.tables.resampled_interval`.

    Raises:
      CannotMeasure: there are none.
    """
    _require_some(values)
    interval = tables.resampled_interval(values, test_to_train)
    return Estimate(float(np.mean(values)), *interval, len(values), SPLITS)


def without_interval(value: float, values: np.ndarray) -> Estimate:
    """A number that follows from values and has no interval.

    Raises:
      CannotMeasure: there are no values.
    """
    _require_some(values)
    return Estimate(float(value), float("nan"), float("nan"), len(values), "")


def _require_some(values: np.ndarray) -> None:
    if not len(values):
        raise CannotMeasure("the results hold nothing to measure it on")


def surely_positive(estimate: Estimate) -> Finding:
    """The claim that a number is above 0; it holds if its interval is."""
    return Finding(estimate, bool(estimate.low > 0))


def against_best_party(evidence: Evidence, method: str, **setting: Any) -> pd.DataFrame:
    """A method's chosen systems less the best single party, on the test part.

    The best single party is that of classifier and expert which is the more accurate on
    the validation part. Differences are of system accuracy, paired by seed and case.

    Args:
      evidence: with a comparison.
      method: whose systems.
      **setting: values of columns of the comparison.

    Returns:
      Rows of the comparison, one at least; see `read_estimate`.

    Raises:
      CannotMeasure: there are none.
    """
    rows = evidence.comparison
    if rows is None:
        raise CannotMeasure(
            "the results come without a comparison.csv; run the experiment again"
        )
    wanted = {
        "method": method,
        "against": "best single party",
        "metric": "system_accuracy",
        **setting,
    }
    for name, value in wanted.items():
        rows = rows[rows[name] == value] if name in rows else rows.iloc[:0]
    if rows.empty:
        where = "".join(f", {name} {value}" for name, value in setting.items())
        raise CannotMeasure(
            f"the comparison holds no {method} against the best single party{where}"
        )
    return rows


def read_estimate(row: pd.Series, over: str = SEEDS_AND_CASES) -> Estimate:
    """The estimate in a row of a table of comparisons, whose intervals are ``over``."""
    value, low, high = (float(row[name]) for name in ("mean", "ci_low", "ci_high"))
    return Estimate(value, low, high, int(row.n), over)


def difference(table: pd.DataFrame, first: str, second: str) -> np.ndarray:
    """Of two methods, for each repetition that has both, float ``[n]``.

    Args:
      table: a row for each repetition, a column for each method.
      first: a method.
      second: what is subtracted.

    Raises:
      CannotMeasure: one of them is not there.
    """
    for method in (first, second):
        if method not in table:
            raise CannotMeasure(f"the results hold no method {method}")
    return (table[first] - table[second]).dropna().to_numpy(float)
