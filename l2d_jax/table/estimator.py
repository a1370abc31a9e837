"""A team as an estimator of scikit-learn."""

import math
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from l2d_jax.table.cases import Cases, require_people
from l2d_jax.table.fitting import HELD_OUT_FOR_PROMISES, fit
from l2d_jax.table.options import Options, promises
from l2d_jax.table.team import Decided, decide


class Deferral(ClassifierMixin, BaseEstimator):
    """A classifier that may ask people, and says whom.

    `predict` and `predict_proba` are the classifier's own; `predict_defer` says who is
    to answer, and `decide` all there is. Without experts it never defers. Budget and
    capacity are of the rows that are decided on together.

    Args:
      methods: as in `l2d_jax.table.options.Options`.
      max_deferral: share of the cases that people may be asked about, in [0, 1].
      prices: of asking each expert, in errors, ``[M]``; None is free.
      capacity: cases that each expert can answer of those that are decided on at a
        time, ``[M]``; None is any number.
      ask: experts asked about a case at most.
      max_error: what the error among cases that the model keeps must be below, in (0,
        1); None for no guarantee. A third of the cases is held out for one, and `fit`
        raises ValueError where they cannot give it.
      max_team_error: what the error of all cases, kept and deferred, must be below in
        its place; None likewise.
      confidence: of the guarantee, in (0, 1).
      consult: how likely a set of experts is to hold one who is right, of the cases in
        which one who answers is, in (0, 1); None makes no sets. A third of the cases is
        held out for them, the same as for a guarantee.
      fair: what groups of ``sensitive_features`` are to share, a name from
        `l2d_jax.policies.fair_thresholds.CRITERIA`, and how far they may differ, in [0,
        1]; None asks for nothing.
      positive: the label that equal opportunity is about, of two; None is the last.
      num_folds: parts held out in turn while fitting; fewer where a class is rarer.
      random_state: seed, an int.

    Attributes:
      classes_: labels, sorted, ``[K]``.
      n_features_in_: columns of X.
      team_: the fitted `l2d_jax.table.team.Team`; its ``certificate`` is what is
        guaranteed, and by how many cases.
    """

    def __init__(
        self,
        methods: str | tuple[str, ...] = "auto",
        *,
        max_deferral: float = 1.0,
        prices: Any = None,
        capacity: Any = None,
        ask: int = 1,
        max_error: float | None = None,
        max_team_error: float | None = None,
        confidence: float = 0.95,
        consult: float | None = None,
        fair: tuple[str, float] | None = None,
        positive: Any = None,
        num_folds: int = 5,
        random_state: int = 0,
    ):
        self.methods = methods
        self.max_deferral = max_deferral
        self.prices = prices
        self.capacity = capacity
        self.ask = ask
        self.max_error = max_error
        self.max_team_error = max_team_error
        self.confidence = confidence
        self.consult = consult
        self.fair = fair
        self.positive = positive
        self.num_folds = num_folds
        self.random_state = random_state

    def fit(
        self,
        X: Any,
        y: Any,
        experts: Any = None,
        groups: Any = None,
        sensitive_features: Any = None,
    ) -> "Deferral":
        """Fit classifier, people and the way they work together.

        Args:
          X: features, ``[N, D]``; a DataFrame may hold categories, dates and gaps.
          y: labels, ``[N]``, of two classes or more.
          experts: answers of M people, ``[N, M]``, labels of ``y``; NaN, None, or a
            blank where somebody was not asked. A DataFrame names them.
          groups: what is never split while fitting, such as a patient, ``[N]``.
          sensitive_features: group of each case that ``fair`` is about, ``[N]``.

        Raises:
          ValueError: lengths differ, rows of a DataFrame or Series are in another order
            than those of X by their index, an answer is none of the classes, two
            experts have one name, or what was promised, by a guarantee, sets of experts
            or fairness, cannot be had.
        """
        given = y
        frame, y = self._read(X, y)
        check_classification_targets(y)
        self.classes_, labels = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(
                "y must have two classes or more, got one class:"
                f" {self.classes_.tolist()[0]!r}"
            )
        for name, rows in (
            ("y", given),
            ("experts", experts),
            ("groups", groups),
            ("sensitive_features", sensitive_features),
        ):
            _require_order(X, name, rows)
        answers, people = self._answers(experts, len(labels))
        units = np.arange(len(labels))
        if groups is not None:
            _, units = np.unique(np.asarray(groups), return_inverse=True)
            if len(units) != len(labels):
                raise ValueError(
                    f"groups must have {len(labels)} entries, got {len(units)}"
                )
        if self.fair is not None and sensitive_features is None:
            raise ValueError("fair: give sensitive_features, the group of each case")
        sensitive = self._sensitive(sensitive_features, len(labels))
        if self.positive is not None and self.positive not in self.classes_.tolist():
            raise ValueError(
                f"positive: {self.positive!r} is none of the classes"
                f" {self.classes_.tolist()}"
            )
        counts = [len(np.unique(units[labels == k])) for k in np.unique(labels)]
        if min(counts) < 2:
            raise ValueError(
                "y must have two cases or more of every class, of units of their own;"
                " leave the class out or merge it"
            )
        options = Options(
            methods=(self.methods,) if isinstance(self.methods, str) else self.methods,
            max_deferral=self.max_deferral,
            prices=self._by_name(people, self.prices, "prices"),
            capacity=self._by_name(people, self.capacity, "capacity"),
            ask=self.ask,
            max_error=self.max_error,
            max_team_error=self.max_team_error,
            confidence=self.confidence,
            consult=self.consult,
            fair=self.fair,
            # As the labels are: 0 is the class 0.0, and False.
            positive=None
            if self.positive is None
            else self._names()[self.classes_.tolist().index(self.positive)],
            seed=self.random_state,
        )
        if promises(options):
            # One part of as many is held out before.
            counts = [
                count - math.ceil(count / HELD_OUT_FOR_PROMISES) for count in counts
            ]
        options = options._replace(num_folds=min(self.num_folds, *counts))
        cases = self._cases(frame, people, answers, labels, units, sensitive)
        self.team_ = fit(cases, options)
        return self

    def _names(self) -> tuple[str, ...]:
        """Of the classes, as the team has them."""
        return tuple(str(label) for label in self.classes_)

    def predict(self, X: Any) -> np.ndarray:
        """The classifier's own answer to each case, ``[B]``."""
        probs = self.predict_proba(X)
        return self.classes_[np.argmax(probs, axis=1)]

    def predict_proba(self, X: Any) -> np.ndarray:
        """The classifier's probability of each class, float ``[B, K]``."""
        probs = np.asarray(self._without_limits(X).decision.class_probs, float)
        return probs / probs.sum(axis=1, keepdims=True)

    def predict_defer(self, X: Any, sensitive_features: Any = None) -> np.ndarray:
        """Who is to answer each case, int ``[B]``: a column of experts, -1 the model.

        Of several who vote it is the one with the greatest weight. For ``fair`` it goes
        by the groups that are given, as in `decide`.
        """
        decided = self.decide(X, sensitive_features=sensitive_features)
        allocation = np.asarray(decided.decision.allocation)
        return np.where(
            allocation[:, :-1].sum(axis=1) > 0,
            np.argmax(allocation[:, :-1], axis=1) if allocation.shape[1] > 1 else -1,
            -1,
        )

    def predict_expert_proba(self, X: Any) -> np.ndarray:
        """How likely each expert is to be right on each case, float ``[B, M]``."""
        return np.asarray(self._without_limits(X).chances.prob)

    @available_if(lambda self: self.consult is not None)
    def predict_consult(self, X: Any) -> np.ndarray:
        """Whom to consult about each case, bool ``[B, M]``: the smallest set there is.

        Only with ``consult``.

        Raises:
          ValueError: ``consult`` was set after fitting.
        """
        members = self._without_limits(X).members
        if members is None:
            raise ValueError(
                "consult: it was fitted without sets of experts; fit again"
            )
        return members

    def decide(
        self,
        X: Any,
        available: Any = None,
        *,
        period: int | None = None,
        sensitive_features: Any = None,
    ) -> Decided:
        """All that the team makes of some cases, as one batch or one after another.

        Args:
          X: features, ``[B, D]``.
          available: whether each expert can be asked, bool ``[B, M]``; None: all can.
          period: decide on cases in the order of rows, none by what comes later:
            ``max_deferral`` and ``capacity`` are then of each so many, >= 1; None
            decides on all of them as a batch.
          sensitive_features: group of each case, ``[B]``, read for ``fair`` alone.

        Raises:
          ValueError: a column is missing or of another kind, groups are missing or were
            not fitted to, or cases cannot be decided on in their order.
        """
        cases = self._new_cases(X, sensitive_features)
        if self.team_.by_group is not None and cases.groups is None:
            raise ValueError("fair: give sensitive_features, the group of each case")
        return decide(self.team_, cases, available=available, period=period)

    def _without_limits(self, X: Any) -> Decided:
        """What classifier and people make of cases, whoever is then asked."""
        cases = self._new_cases(X, None)
        free = self.team_.options._replace(max_deferral=1.0, capacity=())
        return decide(self.team_, cases, certified=False, options=free)

    def _new_cases(self, X: Any, sensitive_features: Any) -> Cases:
        check_is_fitted(self)
        frame, _ = self._read(X)
        people = self.team_.people
        size = len(frame)
        nobody = np.full((size, len(people)), -1, np.int32)
        unknown, units = np.full(size, -1, np.int32), np.arange(size)
        sensitive = self._sensitive(sensitive_features, size)
        return self._cases(frame, people, nobody, unknown, units, sensitive)

    def _read(self, X: Any, y: Any = None) -> tuple[pd.DataFrame, Any]:
        """The columns, checked as scikit-learn checks them, and the labels."""
        reset = y is not None
        if isinstance(X, pd.DataFrame):
            checked = validate_data(
                self,
                X,
                "no_validation" if y is None else y,
                reset=reset,
                skip_check_array=True,
            )
            frame = X.reset_index(drop=True)
            frame.columns = [str(name) for name in frame.columns]
            if y is not None:
                y = np.asarray(checked[1])
            return frame, y
        if y is None:
            values = validate_data(self, X, reset=False)
        else:
            values, y = validate_data(self, X, y)
        names = [f"x{number}" for number in range(values.shape[1])]
        return pd.DataFrame(values, columns=names), y

    def _answers(self, experts: Any, size: int) -> tuple[np.ndarray, tuple[str, ...]]:
        if experts is None:
            return np.empty((size, 0), np.int32), ()
        frame = pd.DataFrame(experts)
        if len(frame) != size:
            raise ValueError(f"experts must have {size} rows, got {len(frame)}")
        values = frame.to_numpy(object)
        blank = frame.isna().to_numpy() | (values == "")
        index = {label: number for number, label in enumerate(self.classes_.tolist())}
        answers = np.full(values.shape, -1, np.int32)
        for row, column in np.argwhere(~blank):
            answer = values[row, column]
            if answer not in index:
                raise ValueError(
                    f"experts: the answer {answer!r} in row {row} is none of the"
                    f" classes {self.classes_.tolist()}"
                )
            answers[row, column] = index[answer]
        named = isinstance(experts, pd.DataFrame)
        people = [str(name) if named else f"expert_{name}" for name in frame.columns]
        require_people(people)
        return answers, tuple(people)

    @staticmethod
    def _sensitive(values: Any, size: int) -> np.ndarray | None:
        """Names of groups, object ``[N]``."""
        if values is None:
            return None
        names = np.array([str(value) for value in np.asarray(values)], object)
        if len(names) != size:
            raise ValueError(
                f"sensitive_features must have {size} entries, got {len(names)}"
            )
        return names

    @staticmethod
    def _by_name(
        people: tuple[str, ...], values: Any, name: str
    ) -> tuple[tuple[str, Any], ...]:
        if values is None:
            return ()
        if len(values) != len(people):
            raise ValueError(
                f"{name} must have one entry for each of {len(people)} experts, got"
                f" {len(values)}"
            )
        return tuple(zip(people, np.asarray(values).tolist(), strict=True))

    def _cases(
        self,
        frame: pd.DataFrame,
        people: tuple[str, ...],
        answers: np.ndarray,
        labels: np.ndarray,
        units: np.ndarray,
        sensitive: np.ndarray | None,
    ) -> Cases:
        return Cases(
            ids=np.arange(len(frame)).astype(str),
            features=frame,
            labels=labels.astype(np.int32),
            classes=self._names(),
            answers=answers,
            people=people,
            groups=sensitive,
            units=units,
            class_probs=None,
            notes=(),
        )


def _require_order(X: Any, name: str, rows: Any) -> None:
    """See that rows are not in another order than those of X, as far as they tell.

    Raises:
      ValueError: both have an index, of the same names in different orders.
    """
    # Rows go by position, so that an index of other names means nothing.
    if not all(isinstance(one, pd.DataFrame | pd.Series) for one in (X, rows)):
        return
    if X.index.equals(rows.index) or len(X) != len(rows):
        return
    if set(X.index) == set(rows.index):
        raise ValueError(
            f"{name}: its index has the rows of X in another order, and rows go by"
            f" position; give {name}.loc[X.index], or arrays if the index means nothing"
        )
