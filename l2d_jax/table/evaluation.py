"""What a team is worth: repeated cross-validation of all that fits it.

In every split everything is fitted anew without the cases that are held out, and each
held-out case is decided among the people who answered it. Measures are those of each
split, with the corrected interval of `l2d_jax.intervals.split_interval`; people, who
are not fitted, have the interval of their cases.
"""

import pathlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import special
from statsmodels.stats.proportion import proportion_confint

from l2d_jax import intervals
from l2d_jax.decisions import prediction
from l2d_jax.policies import fair_thresholds
from l2d_jax.table import columns, consult
from l2d_jax.table.cases import Cases, take
from l2d_jax.table.check import few_cases
from l2d_jax.table.fitting import fit_parts
from l2d_jax.table.folds import make_folds
from l2d_jax.table.limits import outcome
from l2d_jax.table.methods import METHODS
from l2d_jax.table.options import Options, prices_of
from l2d_jax.table.results import COLUMNS, Evaluation, headline
from l2d_jax.table.team import Decided, Team, decide

MODEL, POLICY = "the model alone", "best on validation"
MAJORITY = "the majority of the people"
FOREMOST = "the foremost who answered"

# A single party must be able to answer most cases to be an alternative to a team.
_ENOUGH_ANSWERED = 0.5
_ENOUGH_SPLITS, _ENOUGH_UNITS = 8, 10
_NUM_BINS = 10
_SHARES = np.linspace(0.0, 1.0, 11)
_NUM_FEATURES = 15
# Of all parts that are fitted at the same time, about: a row takes a kilobyte and more.
_ROWS_TOGETHER = 1_000_000


class Record(NamedTuple):
    """What was seen of held-out cases; every case once in each of R repetitions.

    Attributes:
      parties: names of what decides, with the classifier among them.
      right: whether the answer of each was right, float ``[P, R, N]``.
      said: that answer, int ``[P, R, N]``.
      deferral: whether a person had a part in it, float ``[P, R, N]``.
      asked: people who were asked, float ``[P, R, N]``.
      allocation: of the chosen policy, float ``[R, N, M + 1]``.
      chances: of the people's being right, float ``[R, N, M]``.
      members: of the set to consult, of all people, bool ``[R, N, M]``; of a policy
        without sets nobody.
      nobody_right: probability that none who answered is right, float ``[R, N]``; NaN
        likewise.
      scores: of each party's inclination to ask whom it would ask first, float
        ``[P, R, N]``; NaN where nobody can be asked.
      first_right: whether that person is right, float ``[P, R, N]``, NaN likewise.
      kept_right: whether its classifier is, float ``[P, R, N]``.
      foremost: whether the person of greatest mean chance, of those who answered, is
        right, float ``[R, N]``; NaN where nobody answered.
      splits: number of the split that each case was held out in, int ``[R, N]``.
      test_to_train: size of a held-out part over that of what was fitted on; 0 where
        nothing was fitted anew.
    """

    parties: tuple[str, ...]
    right: np.ndarray
    said: np.ndarray
    deferral: np.ndarray
    asked: np.ndarray
    allocation: np.ndarray
    chances: np.ndarray
    members: np.ndarray
    nobody_right: np.ndarray
    scores: np.ndarray
    first_right: np.ndarray
    kept_right: np.ndarray
    foremost: np.ndarray
    splits: np.ndarray
    test_to_train: float


def cross_validate(
    cases: Cases,
    options: Options,
    *,
    num_folds: int = 5,
    num_repeats: int = 2,
    text: Sequence[str] = (),
    category: Sequence[str] = (),
    report: Callable[[str, float], None] = lambda what, share: None,
    checkpoint_dir: pathlib.Path | None = None,
) -> Record:
    """Decide on every case with teams that were fitted without it.

    Args:
      cases: with labels.
      options: of every fit, checked.
      num_folds: parts that are held out in turn, >= 2.
      num_repeats: times that parts are drawn, R >= 1.
      text: columns that are texts.
      category: columns whose values are names, though they look like numbers or dates.
      report: as in `l2d_jax.table.fitting.fit`.
      checkpoint_dir: likewise.

    Raises:
      ForeignResultsError: as there.
      ValueError: the table is too small for so many parts.
    """
    plan = columns.plan_columns(cases.features, text, category)
    cases = cases._replace(features=columns.read_numbers(plan, cases.features))
    folds = np.stack(
        [
            make_folds(cases.labels, cases.units, num_folds, options.seed + 1000 + r)
            for r in range(num_repeats)
        ]
    )
    held_out = [
        np.flatnonzero(folds[r] == f)
        for r in range(num_repeats)
        for f in range(num_folds)
    ]
    everything = np.arange(len(cases.labels))
    most = max(1, _ROWS_TOGETHER // len(cases.labels))
    teams: list[Team] = []
    for first in range(0, len(held_out), most):
        some = held_out[first : first + most]

        def say(what: str, share: float, done: int = first, of: int = len(some)):
            report(what, (done + share * of) / len(held_out))

        folder = checkpoint_dir
        if folder is not None and most < len(held_out):
            folder = folder / f"part_{first:03d}"
        teams += fit_parts(
            cases,
            [np.setdiff1d(everything, rows) for rows in some],
            plan,
            options,
            report=say,
            checkpoint_dir=folder,
        )
    record = _empty(_parties(teams), num_repeats, cases)
    for number, (team, rows) in enumerate(zip(teams, held_out, strict=True)):
        report("held-out cases", number / len(teams))
        _note(record, number // num_folds, rows, team, take(cases, rows), number)
    return record._replace(test_to_train=1.0 / (num_folds - 1))


def record_of(team: Team, cases: Cases) -> Record:
    """What a team decides on labelled cases that it has not seen, as one batch."""
    record = _empty(_parties([team]), 1, cases)
    _note(record, 0, np.arange(len(cases.labels)), team, cases, 0)
    return record


def _parties(teams: Sequence[Team]) -> tuple[str, ...]:
    """What decides, by the methods that every team can use."""
    tables = [team.candidates for team in teams]
    usable = [set(table.method[table.reason == ""]) for table in tables]
    others = set.intersection(*usable) - {"never"}
    return (MODEL, POLICY, *(name for name in tables[0].method if name in others))


def _empty(parties: tuple[str, ...], num_repeats: int, cases: Cases) -> Record:
    shape = (num_repeats, len(cases.labels))
    of_parties = (len(parties), *shape)
    return Record(
        parties,
        np.full(of_parties, np.nan),
        np.full(of_parties, -1),
        np.zeros(of_parties),
        np.zeros(of_parties),
        np.zeros((*shape, len(cases.people) + 1)),
        np.full((*shape, len(cases.people)), np.nan),
        np.zeros((*shape, len(cases.people)), bool),
        np.full(shape, np.nan),
        np.full(of_parties, np.nan),
        np.full(of_parties, np.nan),
        np.full(of_parties, np.nan),
        np.full(shape, np.nan),
        np.zeros(shape, int),
        0.0,
    )


def _note(
    record: Record, repeat: int, rows: np.ndarray, team: Team, cases: Cases, split: int
) -> None:
    """Write down what a team does with cases that it was not fitted to."""
    available = cases.answers >= 0
    prices = prices_of(team.options, team.people)
    for number, party in enumerate(record.parties):
        method = {MODEL: "never", POLICY: team.method}.get(party, party)
        decided = decide(
            team, cases, available=available, method=method, certified=party == POLICY
        )
        found = outcome(decided.decision, cases.labels, cases.answers, prices)
        for name in ("right", "said", "deferral", "asked"):
            getattr(record, name)[number, repeat, rows] = found[name]
        score, right = _first_person(decided, cases)
        record.scores[number, repeat, rows] = score
        record.first_right[number, repeat, rows] = right
        own = np.asarray(prediction(decided.decision))
        record.kept_right[number, repeat, rows] = own == cases.labels
        if party == POLICY:
            record.allocation[repeat, rows] = np.asarray(decided.decision.allocation)
            record.chances[repeat, rows] = decided.chances.prob
            record.foremost[repeat, rows] = _foremost(decided, cases)
            if team.consult is not None:
                # Of all people, as sets are made; judged by those who answered.
                record.members[repeat, rows] = consult.members(
                    team.consult, decided.chances.prob, np.ones_like(available)
                )
                record.nobody_right[repeat, rows] = decided.nobody_right
    record.splits[repeat, rows] = split


def _first_person(decided: Decided, cases: Cases) -> tuple[np.ndarray, np.ndarray]:
    """Greatest score of those who answered, and whether that person is right."""
    found = np.full((2, len(cases.labels)), np.nan)
    if not cases.people:
        return found[0], found[1]
    scores = np.asarray(decided.decision.defer_score, float)
    best = np.argmax(np.nan_to_num(scores, nan=-np.inf), axis=1)
    rows = np.arange(len(best))
    known = np.isfinite(scores[rows, best]) & (cases.answers[rows, best] >= 0)
    found[0, known] = scores[rows, best][known]
    found[1, known] = (cases.answers[rows, best] == cases.labels)[known]
    return found[0], found[1]


def _foremost(decided: Decided, cases: Cases) -> np.ndarray:
    """Whether whoever is best on the whole, of those who answered, is right."""
    found = np.full(len(cases.labels), np.nan)
    answered = cases.answers >= 0
    some = answered.any(axis=1)
    if some.any():
        skill = np.asarray(decided.chances.prob).mean(axis=0)
        who = np.argmax(np.where(answered, skill, -1.0), axis=1)
        right = cases.answers[np.arange(len(who)), who] == cases.labels
        found[some] = right[some]
    return found


def tabulate(
    record: Record,
    cases: Cases,
    *,
    title: str,
    chosen: str,
    options: Options | None = None,
    features: tuple[np.ndarray, tuple[str, ...]] | None = None,
    notes: Sequence[str] = (),
    how: Sequence[tuple[str, str]] = (),
) -> Evaluation:
    """The tables of a report.

    Args:
      record: from `cross_validate` or `record_of`.
      cases: the same.
      title: of the report.
      chosen: method of the policy that was fitted to all cases.
      options: of the policy. Where people may not be asked about every case they are no
        alternative to a team; what they would be better at is noted.
      features: of the cases, float ``[N, D]``, and their names; None tells nothing.
      notes: a sentence each.
      how: pairs of what and its value.
    """
    everybody = _everybody(record, cases)
    options = options or Options()
    best = _best_single(everybody, options.max_deferral)
    positive = len(cases.classes) - 1
    if options.positive is not None:
        positive = cases.classes.index(options.positive)
    parties = _parties_table(record, everybody, best, cases, positive)
    parties.loc[parties.party == POLICY, "chosen"] = True
    calibration, error = _calibration(record, cases)
    return Evaluation(
        title=title,
        headline=headline(parties if chosen != "never" else _undeferred(parties)),
        parties=parties,
        curve=_curve(record),
        workload=_workload(record, cases),
        consult=_consult(record, cases, options),
        calibration=calibration,
        calibration_error=error,
        groups=_groups(record, everybody, parties, cases),
        features=_features(record, features),
        notes=(
            *notes,
            *_about_others(record, everybody, parties, cases),
            *_about_limits(parties, options.max_deferral),
            *_about_fairness(record, cases, options),
            *_about_size(record, cases),
        ),
        how=tuple(how),
    )


def _undeferred(parties: pd.DataFrame) -> pd.DataFrame:
    """The parties where the policy asks nobody, whatever those of some splits did."""
    return parties.assign(deferral=parties.deferral.mask(parties.chosen, 0.0))


class _Party(NamedTuple):
    """A party as the tables read it; arrays are ``[R, N]``, NaN where it has none."""

    kind: str
    right: np.ndarray
    deferral: np.ndarray
    asked: np.ndarray
    fitted: bool


def _everybody(record: Record, cases: Cases) -> dict[str, _Party]:
    found = {}
    fitted = record.test_to_train > 0
    for number, name in enumerate(record.parties):
        kind = "model" if name == MODEL else "policy"
        label = name if name in (MODEL, POLICY) else METHODS[name].label
        found[label] = _Party(
            kind,
            record.right[number],
            record.deferral[number],
            record.asked[number],
            fitted,
        )
    repeats = (len(record.splits), 1)
    ones = np.ones(record.splits.shape)
    answered = cases.answers >= 0
    if len(cases.people) > 1:
        votes = np.stack(
            [(cases.answers == k).sum(axis=1) for k in range(len(cases.classes))],
            axis=1,
        )
        most = votes == votes.max(axis=1, keepdims=True)
        # In expectation, of a tie that is drawn.
        share = most[np.arange(len(votes)), cases.labels] / most.sum(axis=1)
        right = np.where(answered.any(axis=1), share, np.nan)
        asked = answered.sum(axis=1).astype(float)
        found[MAJORITY] = _Party(
            "people", np.tile(right, repeats), ones, np.tile(asked, repeats), False
        )
        found[FOREMOST] = _Party("people", record.foremost, ones, ones, fitted)
    for person, name in enumerate(cases.people):
        right = (cases.answers[:, person] == cases.labels).astype(float)
        right[~answered[:, person]] = np.nan
        label = name if name not in found else f"{name} (person)"
        found[label] = _Party("person", np.tile(right, repeats), ones, ones, False)
    return found


def _parties_table(
    record: Record,
    everybody: dict[str, _Party],
    best: str,
    cases: Cases,
    positive: int,
) -> pd.DataFrame:
    rows = []
    for name, party in everybody.items():
        known = ~np.isnan(party.right)
        if not known.any():
            continue
        row = {
            "party": name,
            "kind": party.kind,
            "cases": int(known[0].sum()),
            "deferral": party.deferral[known].mean(),
            "asked": party.asked[known].mean(),
            "best_single": name == best,
            "chosen": False,
        }
        binary = len(cases.classes) == 2
        of_class = [
            np.where(cases.labels == k, party.right, np.nan)
            for k in range(len(cases.classes))
        ]
        measures = {
            "accuracy": [party.right],
            "balanced_accuracy": of_class,
            "sensitivity": [of_class[positive]] if binary else [],
            "specificity": [of_class[1 - positive]] if binary else [],
        }
        for measure, parts in measures.items():
            found = _interval(record, cases.units, parts, party.fitted)
            row |= dict(
                zip((measure, f"{measure}_low", f"{measure}_high"), found, strict=True)
            )
        gain = party.right - everybody[best].right
        row |= _gain(record, cases.units, gain, name == best)
        rows.append(row)
    table = pd.DataFrame(rows)
    tested = table.gain_p.notna() & (table.kind == "policy")
    corrected = np.full(len(table), np.nan)
    if tested.any():
        corrected[tested] = intervals.holm(table.gain_p[tested].to_numpy())
    table["gain_p"] = corrected
    return table


def _best_single(everybody: dict[str, _Party], max_deferral: float) -> str:
    """Of the parties who could answer alone, that which is right most often."""
    if max_deferral < 1:
        return MODEL
    able = {
        name: np.nanmean(party.right)
        for name, party in everybody.items()
        if party.kind != "policy"
        and (~np.isnan(party.right)).mean() >= _ENOUGH_ANSWERED
    }
    return max(able, key=lambda name: able[name])


def _about_others(
    record: Record,
    everybody: dict[str, _Party],
    parties: pd.DataFrame,
    cases: Cases,
) -> list[str]:
    """What the policy gains over the model and the majority, where another is best."""
    notes = []
    policy = everybody[POLICY].right
    for name in (MODEL, MAJORITY):
        row = parties[parties.party == name]
        if not len(row) or row.best_single.iloc[0]:
            continue
        found = _gain(record, cases.units, policy - everybody[name].right, False)
        if np.isfinite(found["gain"]):
            notes.append(
                f"Over {name} the policy gains {100 * found['gain']:.1f} points"
                f" ({100 * found['gain_low']:.1f} to {100 * found['gain_high']:.1f}),"
                " paired."
            )
    return notes


def _about_fairness(record: Record, cases: Cases, options: Options) -> list[str]:
    """How far groups differ in what they were to share, on held-out cases."""
    if options.fair is None or cases.groups is None:
        return []
    criterion, tolerance = options.fair
    num_classes, repeats = len(cases.classes), len(record.splits)
    labels, said = np.tile(cases.labels, repeats), record.said
    if options.positive == cases.classes[0] and num_classes == 2:
        # The criteria are about the last class.
        labels, said = 1 - labels, 1 - said
    gaps = [
        100
        * fair_thresholds.gap(
            said[number].ravel(),
            record.deferral[number].ravel() > 0,
            labels,
            np.tile(cases.groups, repeats),
            criterion,
            num_classes,
        )
        for number in map(record.parties.index, (POLICY, MODEL))
    ]
    return [
        f"Groups were to differ by {100 * tolerance:g} points at most in"
        f" {criterion.replace('_', ' ')}. On held-out cases they differ by"
        f" {gaps[0]:.1f} points with the policy, and by {gaps[1]:.1f} with the model"
        " alone; chance alone makes groups differ."
    ]


def _about_size(record: Record, cases: Cases) -> list[str]:
    """That cases, or parts that were held out, are few."""
    notes = [*few_cases(len(cases.ids))]
    number = int(record.splits.max()) + 1
    if record.test_to_train > 0 and number < _ENOUGH_SPLITS:
        notes.append(
            f"Only {number} parts were held out; intervals over so few are rough. Ask"
            " for more, such as --cv 5x2."
        )
    return notes


def _about_limits(parties: pd.DataFrame, max_deferral: float) -> list[str]:
    """That people would do better than the policy, if they were asked everything."""
    people = parties[
        parties.kind.isin(["person", "people"])
        & (parties.cases >= _ENOUGH_ANSWERED * parties.cases.max())
    ]
    policy = parties.accuracy[parties.chosen].iloc[0]
    if max_deferral >= 1 or not len(people) or people.accuracy.max() <= policy:
        return []
    best = people.loc[people.accuracy.idxmax()]
    return [
        f"Asked about every case, {best.party} would be right in"
        f" {100 * best.accuracy:.1f} % of them, more than the policy's"
        f" {100 * policy:.1f} %; but people can be asked about"
        f" {100 * max_deferral:g} % of the cases at most."
    ]


def _gain(
    record: Record, units: np.ndarray, difference: np.ndarray, is_best: bool
) -> dict[str, float]:
    """Difference to the best single party, paired, on the cases that both have.

    Of too few of them it has no interval: they may all be alike.
    """
    names = ("gain", "gain_low", "gain_high", "gain_p")
    known = ~np.isnan(difference)
    if is_best:
        return dict(zip(names, (0.0, 0.0, 0.0, np.nan), strict=True))
    if len(np.unique(units[known.any(axis=0)])) < _ENOUGH_UNITS:
        mean = float(difference[known].mean()) if known.any() else np.nan
        return dict(zip(names, (mean, np.nan, np.nan, np.nan), strict=True))
    if record.test_to_train > 0:
        found = intervals.split_interval(
            _by_split(record, difference), record.test_to_train
        )
        values = [found.mean, found.low, found.high, found.p_value]
    else:
        mean, error, count = _clustered(difference[0], units)
        half = special.stdtrit(max(count - 1, 1), 0.975) * error
        ratio = abs(mean) / error if error > 0 else np.inf if mean else 0.0
        p_value = 2 * special.stdtr(max(count - 1, 1), -ratio)
        values = [np.asarray(v) for v in (mean, mean - half, mean + half, p_value)]
    return {name: float(value) for name, value in zip(names, values, strict=True)}


def _by_split(record: Record, values: np.ndarray) -> np.ndarray:
    """Means over the cases of each split, float ``[R F]``; NaN where there is none."""
    known = ~np.isnan(values)
    splits = record.splits[known]
    size = int(record.splits.max()) + 1
    count = np.bincount(splits, minlength=size)
    total = np.bincount(splits, values[known], minlength=size)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _interval(
    record: Record, units: np.ndarray, parts: Sequence[np.ndarray], fitted: bool
) -> tuple[float, float, float]:
    """Mean of some means of what was right, and its 95 % interval; NaN of no part."""
    if not parts or any(np.isnan(part).all() for part in parts):
        return np.nan, np.nan, np.nan
    if fitted:
        values = np.mean([_by_split(record, part) for part in parts], axis=0)
        found = intervals.split_interval(values, record.test_to_train)
        mean = float(np.mean([np.nanmean(part) for part in parts]))
        half = float(found.high - found.mean)
        return mean, max(mean - half, 0.0), min(mean + half, 1.0)
    of_parts = [_clustered(part[0], units) for part in parts]
    mean = float(np.mean([mean for mean, _, _ in of_parts]))
    error = float(np.sqrt(sum(error**2 for _, error, _ in of_parts))) / len(parts)
    smallest = min(count for _, _, count in of_parts) * len(parts)
    return mean, *_wilson(mean, error, smallest)


def _clustered(values: np.ndarray, units: np.ndarray) -> tuple[float, float, int]:
    """Mean of what is known, its standard error over units, and their number."""
    known = ~np.isnan(values)
    kept = values[known]
    _, number = np.unique(units[known], return_inverse=True)
    sums = np.bincount(number, kept - kept.mean())
    count = len(sums)
    correction = count / max(count - 1, 1)
    error = np.sqrt(np.square(sums).sum() * correction) / len(kept)
    return float(kept.mean()), float(error), count


def _wilson(mean: float, error: float, count: float) -> tuple[float, float]:
    """Wilson's interval at as many independent cases as have that standard error."""
    if error > 0:
        count = max(mean * (1 - mean) / error**2, 1.0)
    low, high = proportion_confint(mean * count, count, method="wilson")
    return float(low), float(high)


def _curve(record: Record) -> pd.DataFrame:
    """Accuracy where the given share of each split's cases are deferred."""
    rows = []
    for number, name in enumerate(record.parties):
        single = name not in (MODEL, POLICY) and not METHODS[name].several
        if not single:
            continue
        for share in _SHARES:
            right = _at_share(record, number, share)
            if np.isnan(right).any():
                continue
            mean, low, high = _interval(
                record,
                np.arange(right.shape[1]),
                [right],
                record.test_to_train > 0,
            )
            rows.append(
                {
                    "method": METHODS[name].label,
                    "deferral": share,
                    "accuracy": mean,
                    "low": low,
                    "high": high,
                }
            )
    names = ["method", "deferral", "accuracy", "low", "high"]
    return pd.DataFrame(rows, columns=names)


def _at_share(record: Record, number: int, share: float) -> np.ndarray:
    """Whether the team is right, [R, N], NaN where a split has too few to defer."""
    scores, of_person = record.scores[number], record.first_right[number]
    right = record.kept_right[number].copy()
    for split in np.unique(record.splits):
        here = np.flatnonzero(record.splits.ravel() == split)
        count = round(share * len(here))
        order = here[np.argsort(-np.nan_to_num(scores.ravel()[here], nan=-np.inf))]
        first = order[:count]
        right.ravel()[first] = of_person.ravel()[first]
    return right


def _workload(record: Record, cases: Cases) -> pd.DataFrame:
    rows = []
    for person, name in enumerate(cases.people):
        answered = cases.answers[:, person] >= 0
        right = (cases.answers[:, person] == cases.labels).astype(float)
        asked = record.allocation[:, :, person] > 0
        row = {
            "person": name,
            "answers": int(answered.sum()),
            "asked": asked.mean(),
            "accuracy": np.nan,
            "low": np.nan,
            "high": np.nan,
            "when_asked": np.nan,
        }
        if answered.any():
            mean, error, count = _clustered(right[answered], cases.units[answered])
            row["accuracy"] = mean
            row["low"], row["high"] = _wilson(mean, error, count)
        if asked.any():
            row["when_asked"] = np.tile(right, (len(asked), 1))[asked].mean()
        rows.append(row)
    names = ["person", "answers", "asked", "accuracy", "low", "high", "when_asked"]
    return pd.DataFrame(rows, columns=names)


def _consult(record: Record, cases: Cases, options: Options) -> pd.DataFrame:
    """How often sets of people hold one who is right, and how large they are."""
    names = list(COLUMNS["consult"])
    if options.consult is None:
        return pd.DataFrame(columns=names)
    right = np.where(cases.answers >= 0, cases.answers == cases.labels[:, None], np.nan)
    known, held = consult.several(right), right == 1
    someone = known & held.any(axis=1)
    size = record.members.sum(axis=2)
    row = {
        "wanted": options.consult,
        "cases": int(someone.sum()),
        "several": int(known.sum()),
        "predicted": record.nobody_right[:, known].mean() if known.any() else np.nan,
        "size": size.mean(),
        "half": np.quantile(size, 0.5),
        "most": np.quantile(size, 0.9),
        "everybody": (size == len(cases.people)).mean(),
        "empty": (size == 0).mean(),
    }
    each = (record.members & held).any(axis=2)
    holds = each.mean(axis=0)
    for name, values, here in (
        ("covered", holds, someone),
        ("nobody", 1.0 - held.any(axis=1), known),
    ):
        found = [np.nan] * 3
        if here.any():
            mean, error, count = _clustered(values[here], cases.units[here])
            found = [mean, *_wilson(mean, error, count)]
        ends = (name, f"{name}_low", f"{name}_high")
        row |= dict(zip(ends, found, strict=True))
    if record.test_to_train > 0 and someone.any():
        # Levels differ from split to split, and each is of few cases.
        over = np.where(someone, each.astype(float), np.nan)
        _, low, high = _interval(record, cases.units, [over], True)
        row["covered_low"] = np.fmin(row["covered_low"], low)
        row["covered_high"] = np.fmax(row["covered_high"], high)
    return pd.DataFrame([row], columns=names)


def _calibration(record: Record, cases: Cases) -> tuple[pd.DataFrame, float]:
    """How often people are right where they are said to be, in bins of equal size."""
    names = ["predicted", "observed", "low", "high", "count"]
    answered = np.tile(cases.answers >= 0, (len(record.chances), 1, 1))
    right = np.tile(cases.answers == cases.labels[:, None], (len(answered), 1, 1))
    predicted, observed = record.chances[answered], right[answered].astype(float)
    if not len(predicted):
        return pd.DataFrame(columns=names), np.nan
    rows = []
    for part in np.array_split(np.argsort(predicted, kind="stable"), _NUM_BINS):
        if not len(part):
            continue
        mean = float(observed[part].mean())
        # A case that is held out in every repetition counts once.
        count = max(round(len(part) / len(record.chances)), 1)
        low, high = _wilson(mean, 0.0, count)
        rows.append((predicted[part].mean(), mean, low, high, count))
    table = pd.DataFrame(rows, columns=names)
    share = table["count"] / table["count"].sum()
    return table, float((share * (table.predicted - table.observed).abs()).sum())


def _groups(
    record: Record, everybody: dict[str, _Party], parties: pd.DataFrame, cases: Cases
) -> pd.DataFrame:
    names = ["group", "cases", "party", "accuracy", "low", "high", "deferral"]
    if cases.groups is None:
        return pd.DataFrame(columns=names)
    best = parties.party[parties.best_single].iloc[0]
    rows = []
    for group in np.unique(cases.groups):
        here = cases.groups == group
        for name in dict.fromkeys((MODEL, POLICY, best)):
            party = everybody[name]
            right = party.right[:, here]
            known = ~np.isnan(right)
            count = known.sum(axis=0)
            if not count.any():
                continue
            total = np.where(known, right, 0.0).sum(axis=0)
            values = np.where(count > 0, total / np.maximum(count, 1), np.nan)
            mean, error, num_units = _clustered(values, cases.units[here])
            low, high = _wilson(mean, error, num_units)
            share = party.deferral[:, here].mean()
            judged = int((count > 0).sum())
            rows.append((group, judged, name, mean, low, high, share))
    return pd.DataFrame(rows, columns=names)


def _features(
    record: Record, features: tuple[np.ndarray, tuple[str, ...]] | None
) -> pd.DataFrame:
    """What tells deferred cases from kept ones, in standard deviations."""
    columns_of_table = ["feature", "kept", "deferred", "difference", "low", "high"]
    share = record.deferral[record.parties.index(POLICY)].mean(axis=0)
    if features is None or share.sum() < 2 or (1 - share).sum() < 2:
        return pd.DataFrame(columns=columns_of_table)
    values, names = features
    spread = values.std(axis=0)
    deferred = share @ values / share.sum()
    kept = (1 - share) @ values / (1 - share).sum()
    difference = (deferred - kept) / np.where(spread > 0, spread, 1.0)
    half = 1.96 * np.sqrt(1 / share.sum() + 1 / (1 - share).sum())
    order = np.argsort(-np.abs(difference), kind="stable")[:_NUM_FEATURES]
    return pd.DataFrame(
        {
            "feature": [names[i] for i in order],
            "kept": kept[order],
            "deferred": deferred[order],
            "difference": difference[order],
            "low": difference[order] - half,
            "high": difference[order] + half,
        }
    )
