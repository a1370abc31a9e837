"""What a team is to be like: how it is fitted, and the limits it works within."""

import difflib
import numbers
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from l2d_jax.policies.fair_thresholds import CRITERIA
from l2d_jax.table import classifiers, networks
from l2d_jax.table.methods import METHODS


class Options(NamedTuple):
    """How a team is fitted, and the limits it works within.

    Attributes:
      methods: names from `l2d_jax.table.methods.METHODS`, of which one is chosen on
        cases held out within the table; ``auto`` and ``all`` stand for lists of them.
      classifiers: kinds from `l2d_jax.table.classifiers.CLASSIFIERS`, of which that of
        least log loss is chosen; of no account where a model is given.
      max_deferral: share of a batch that people may be asked about, in [0, 1].
      prices: of asking a person, by name, in errors, >= 0; others are free.
      capacity: cases of a batch that a person can answer, by name; others: any number.
      ask: people asked about a case at most, >= 1.
      max_error: what the error among cases that the model keeps must be below, in
        (0, 1); None for no guarantee.
      max_team_error: what the error of the team, kept and deferred cases together, must
        be below in its place, in (0, 1); None likewise.
      confidence: of the guarantee, in (0, 1).
      consult: how likely a set of people is to hold one who is right, of the cases in
        which one who answers is, in (0, 1); None makes no sets.
      fair: what groups are to share, a name from
        `l2d_jax.policies.fair_thresholds.CRITERIA`, and how far they may differ, in
        [0, 1]; None asks for nothing.
      positive: the class that equal opportunity is about, of two; None is the last.
      balanced: whether classes count alike in training, however common they are.
      num_folds: parts that are held out in turn inside the table, >= 2.
      seed: of folds, networks and ties.
      how: training of the networks.
    """

    methods: tuple[str, ...] = ("auto",)
    classifiers: tuple[str, ...] = tuple(classifiers.CLASSIFIERS)
    max_deferral: float = 1.0
    prices: tuple[tuple[str, float], ...] = ()
    capacity: tuple[tuple[str, int], ...] = ()
    ask: int = 1
    max_error: float | None = None
    max_team_error: float | None = None
    confidence: float = 0.95
    consult: float | None = None
    fair: tuple[str, float] | None = None
    positive: str | None = None
    balanced: bool = False
    num_folds: int = 5
    seed: int = 0
    how: networks.Training = networks.Training()


def prices_of(options: Options, people: Sequence[str]) -> np.ndarray:
    """Price of each person in errors, float32 ``[M]``."""
    given = dict(options.prices)
    return np.array([given.get(name, 0.0) for name in people], np.float32)


def guaranteed(options: Options) -> bool:
    """Whether an error is to be guaranteed, of whichever cases."""
    return options.max_error is not None or options.max_team_error is not None


def promises(options: Options) -> bool:
    """Whether cases are held out for a guarantee, or for sets of people."""
    return guaranteed(options) or options.consult is not None


def check_options(options: Options, people: Sequence[str]) -> None:
    """See that options are in range and know their people.

    Raises:
      ValueError: they are not; the message names the option.
    """
    names = (*METHODS, "auto", "all")
    for method in options.methods:
        _require_known("methods", method, names)
    for kind in options.classifiers:
        _require_known("classifiers", kind, tuple(classifiers.CLASSIFIERS))
    require_once("price", options.prices)
    require_once("capacity", options.capacity)
    for name, price in options.prices:
        _require_known("price", name, people)
        if not 0 <= price < np.inf:
            raise ValueError(f"price of {name} must be >= 0 and finite, got {price}")
    for name, places in options.capacity:
        _require_known("capacity", name, people)
        if places < 0:
            raise ValueError(f"capacity of {name} must be >= 0, got {places}")
    if not 0 <= options.max_deferral <= 1:
        raise ValueError(f"max_defer must be in [0, 1], got {options.max_deferral}")
    if options.ask < 1:
        raise ValueError(f"ask must be >= 1, got {options.ask}")
    for option in ("max_error", "max_team_error", "confidence", "consult"):
        value = getattr(options, option)
        if value is not None and not 0 < value < 1:
            raise ValueError(f"{option} must be in (0, 1), got {value}")
    if options.consult is not None and len(people) < 2:
        raise ValueError(
            f"consult: sets are of two people or more, and there are {len(people)};"
            " leave it out"
        )
    if options.fair is not None:
        criterion, tolerance = options.fair
        _require_known("fair", criterion, tuple(CRITERIA))
        if not 0 <= tolerance <= 1:
            raise ValueError(f"fair: {criterion} must be in [0, 1], got {tolerance}")
        if guaranteed(options):
            raise ValueError(
                "fair: thresholds by group leave no guarantee; ask for one of the two"
            )
    if options.max_team_error is not None:
        if options.max_error is not None:
            raise ValueError("guarantee: of kept cases or of the team; ask for one")
        if options.capacity or options.max_deferral < 1:
            raise ValueError(
                "guarantee: the team's error is of all cases that should be deferred,"
                " and within max_defer or a capacity some may be kept; leave one out"
            )
    if not isinstance(options.seed, numbers.Integral) or not 0 <= options.seed < 2**31:
        raise ValueError(
            f"seed (random_state) must be an int in [0, 2^31), got {options.seed!r}"
        )


def require_once(option: str, pairs: Sequence[tuple[str, float]]) -> None:
    """See that nobody has two values.

    Raises:
      ValueError: somebody has.
    """
    names = [name for name, _ in pairs]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{option} of {name} is given twice; keep one")


def _require_known(option: str, name: str, known: Sequence[str]) -> None:
    if name not in known:
        near = difflib.get_close_matches(name, known, 1)
        advice = (
            f"; did you mean {near[0]}?" if near else f"; there are {listed(known)}"
        )
        raise ValueError(f"{option}: {name!r} is not known{advice}")


def listed(names: Sequence[str], most: int = 12) -> str:
    """Names as a reader takes them in: the first of them, and how many more."""
    if not len(names):
        return "none"
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
