"""Thresholds by group, so that a team treats groups alike within a tolerance."""

from typing import NamedTuple

import numpy as np

from l2d_jax.policies import fair_thresholds
from l2d_jax.policies.fair_thresholds import CRITERIA
from l2d_jax.table.cases import Cases
from l2d_jax.table.options import Options, listed, prices_of
from l2d_jax.types import Decision

_OF_A_CLASS = ("equalized_odds", "equal_opportunity")
# Tolerances that are tried where what is asked for cannot be had.
_WIDER = np.linspace(0.0, 1.0, 101)


class ByGroup(NamedTuple):
    """One threshold for each group.

    Attributes:
      groups: names, G.
      thresholds: on the score, above which a case is deferred, G; -inf defers whoever
        can be asked about, and inf nothing.
      gap: the greatest difference of two groups in what they are to share, on the
        cases held out while fitting, in [0, 1].
    """

    groups: tuple[str, ...]
    thresholds: tuple[float, ...]
    gap: float


def require_cases(cases: Cases, options: Options, least: int = 1) -> None:
    """See that every group has cases that tell what groups are to share.

    Args:
      cases: with labels.
      options: with ``fair``.
      least: units that are needed of each, >= 1.

    Raises:
      ValueError: a group, or its cases of a class, are of fewer units; or the criterion
        is of two classes, and K is not.
    """
    assert options.fair is not None
    criterion, _ = options.fair
    if cases.groups is None:
        raise ValueError("fair: name the column of groups, by --group")
    if criterion in _OF_A_CLASS and len(cases.classes) != 2:
        others = ", ".join(name for name in CRITERIA if name not in _OF_A_CLASS)
        raise ValueError(
            f"fair: {criterion} is of two classes, and there are {len(cases.classes)};"
            f" ask for one of {others}"
        )
    needed: tuple[str | None, ...] = (None,)
    if criterion == "equalized_odds":
        needed = cases.classes
    elif criterion == "equal_opportunity":
        needed = (options.positive or cases.classes[-1],)
    for group in np.unique(cases.groups):
        for name in needed:
            among = cases.groups == group
            if name is not None:
                among &= cases.labels == cases.classes.index(name)
            count = len(np.unique(cases.units[among]))
            if count < least:
                of_class = "" if name is None else f" of class {name!r}"
                raise ValueError(
                    f"fair: group {str(group)!r} of --group has {count} units{of_class}"
                    f" (rows, or what --split-by keeps together), and {criterion} takes"
                    f" {least} of every group; merge the group with another, leave its"
                    " cases out, or ask for another criterion"
                )


def fit(decision: Decision, cases: Cases, options: Options) -> ByGroup:
    """The best thresholds whose groups differ by no more than the tolerance.

    Where none do, those of the least tolerance that can be met, in steps of .01; see
    `require_met`. One threshold a group and no draws, so that a case is decided alike
    however often it is asked about.

    Args:
      decision: by scores, over ``[N]``, of cases that were held out in turn.
      cases: the same, with groups.
      options: with ``fair``.

    Raises:
      ValueError: cases have no groups, or the criterion cannot be told of them.
    """
    assert options.fair is not None
    criterion, tolerance = options.fair
    require_cases(cases, options)
    assert cases.groups is not None
    names, numbers = np.unique(cases.groups, return_inverse=True)
    labels, answers = cases.labels, cases.answers
    if options.positive == cases.classes[0] and len(cases.classes) == 2:
        # The criteria are about the last class.
        labels, answers = 1 - labels, np.where(answers >= 0, 1 - answers, -1)
        decision = decision._replace(class_probs=decision.class_probs[:, ::-1])
    found = fair_thresholds.trade_off(
        decision,
        labels,
        answers,
        numbers.astype(np.int32),
        criterion,
        [tolerance, *_WIDER[_WIDER > tolerance]],
        options.max_deferral,
        prices_of(options, cases.people),
        randomized=False,
    )
    best = next(one for one in found if one is not None)
    chosen = np.argmax(np.asarray(best.weights), axis=1)
    thresholds = np.asarray(best.thresholds)[np.arange(len(names)), chosen]
    return ByGroup(
        tuple(str(name) for name in names),
        tuple(float(value) for value in thresholds),
        best.gap,
    )


def require_met(found: ByGroup, options: Options) -> None:
    """See that thresholds keep to the tolerance that was asked for.

    Raises:
      ValueError: they do not.
    """
    assert options.fair is not None
    criterion, tolerance = options.fair
    if found.gap > tolerance + 1e-6:
        raise ValueError(
            f"fair: {criterion}<={tolerance:g} cannot be met by one threshold a group;"
            f" the least that can is {np.ceil(found.gap * 1e3) / 1e3:g}"
        )


def thresholds_of(found: ByGroup, cases: Cases) -> np.ndarray:
    """Threshold of each case, float ``[B]``.

    Raises:
      ValueError: cases have no groups, or one that was not fitted to.
    """
    if cases.groups is None:
        raise ValueError(
            "group: the policy has thresholds by group; give the column of groups"
        )
    known = dict(zip(found.groups, found.thresholds, strict=True))
    for row, name in enumerate(cases.groups):
        if name not in known:
            raise ValueError(
                f"group: {name!r} of case {str(cases.ids[row])!r} is none of those that"
                f" the policy has a threshold for: {listed(found.groups)}"
            )
    return np.array([known[name] for name in cases.groups])
