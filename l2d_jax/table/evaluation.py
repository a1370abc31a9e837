"""What a team is worth: repeated cross-validation of all that fits it.

In every split everything is fitted anew without the cases that are held out, and each
held-out case is decided among the people who answered it. Measures are means over
cases. Of what is fitted the interval is the corrected one of
`l2d_jax.intervals.split_interval`, and never narrower than that of the cases, which
people have, who are not fitted.
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
from l2d_jax.table.columns import InUnits
from l2d_jax.table.fitting import fit_parts
from l2d_jax.table.folds import make_folds
from l2d_jax.table.limits import outcome
from l2d_jax.table.methods import METHODS
from l2d_jax.table.options import Options, prices_of
from l2d_jax.table.results import COLUMNS, Evaluation, headline, priced
from l2d_jax.table.team import Decided, Team, decide
from l2d_jax.table.wording import UNKNOWN, fixed, interval, percent, plural

MODEL, POLICY = "the model alone", "best on validation"
MAJORITY = "the majority of the people"
FOREMOST = "the foremost who answered"

# A single party must be able to answer most cases to be an alternative to a team.
_ENOUGH_ANSWERED = 0.5
_ENOUGH_SPLITS, _ENOUGH_UNITS = 8, 10
_NUM_BINS = 10
_SHARES = np.linspace(0.0, 1.0, 11)
_NUM_FEATURES, _FEW_DEFERRED = 15, 2
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
      utility: right less what asking them costs, in errors, float ``[P, R, N]``.
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
      foremost: the person of greatest mean chance, of those who answered, int
        ``[R, N]``; -1 where nobody answered.
      splits: number of the split that each case was held out in, int ``[R, N]``.
      test_to_train: size of a held-out part over that of what was fitted on; 0 where
        nothing was fitted anew.
      methods: which each split's team decides by, in their order.
    """

    parties: tuple[str, ...]
    right: np.ndarray
    said: np.ndarray
    deferral: np.ndarray
    asked: np.ndarray
    utility: np.ndarray
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
    methods: tuple[str, ...]


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
            make_folds(
                *(cases.labels, cases.units, num_folds, options.seed + 1000 + r),
                cases.classes,
            )
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
    return record._replace(
        test_to_train=1.0 / (num_folds - 1),
        methods=tuple(team.method for team in teams),
    )


def record_of(team: Team, cases: Cases) -> Record:
    """What a team decides on labelled cases that it has not seen, as one batch."""
    record = _empty(_parties([team]), 1, cases)
    _note(record, 0, np.arange(len(cases.labels)), team, cases, 0)
    return record._replace(methods=(team.method,))


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
        np.full(of_parties, np.nan),
        np.zeros((*shape, len(cases.people) + 1)),
        np.full((*shape, len(cases.people)), np.nan),
        np.zeros((*shape, len(cases.people)), bool),
        np.full(shape, np.nan),
        np.full(of_parties, np.nan),
        np.full(of_parties, np.nan),
        np.full(of_parties, np.nan),
        np.full(shape, -1),
        np.zeros(shape, int),
        0.0,
        (),
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
        for name in ("right", "said", "deferral", "asked", "utility"):
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
    """Whoever is best on the whole, of those who answered, int ``[N]``."""
    answered = cases.answers >= 0
    if not answered.any():
        return np.full(len(cases.labels), -1)
    skill = np.asarray(decided.chances.prob).mean(axis=0)
    who = np.argmax(np.where(answered, skill, -1.0), axis=1)
    return np.where(answered.any(axis=1), who, -1)


def tabulate(
    record: Record,
    cases: Cases,
    *,
    title: str,
    chosen: str,
    options: Options | None = None,
    features: InUnits | None = None,
    notes: Sequence[str] = (),
    how: Sequence[tuple[str, str]] = (),
) -> Evaluation:
    """The tables of a report.

    Args:
      record: from `cross_validate` or `record_of`.
      cases: the same.
      title: of the report.
      chosen: method of the policy that was fitted to all cases. Where it is never to
        ask, that policy is the model, whatever was chosen in some splits.
      options: of the policy. Where people may not be asked about every case, or have no
        time for a batch, they are no alternative to a team; what they would be better
        at is noted.
      features: of the cases; None tells nothing.
      notes: a sentence each.
      how: pairs of what and its value.
    """
    options = options or Options()
    everybody = _everybody(record, cases, prices_of(options, cases.people))
    written = MODEL if chosen == "never" else POLICY
    alternatives = [
        name
        for name, party in everybody.items()
        if party.kind == "model" or _is_alternative(party, cases.people, options)
    ]
    best = max(alternatives, key=lambda name: np.nanmean(everybody[name].utility))
    positive = len(cases.classes) - 1
    if options.positive is not None:
        positive = cases.classes.index(options.positive)
    parties = _parties_table(record, everybody, best, cases, positive)
    parties["chosen"] = parties.party == written
    calibration, error = _calibration(record, cases)
    asks = written == POLICY
    return Evaluation(
        title=title,
        headline=headline(parties),
        parties=parties,
        curve=_curve(record, cases.units),
        workload=_workload(record, cases, asks),
        consult=_consult(record, cases, options),
        calibration=calibration,
        calibration_error=error,
        groups=_groups(everybody, (MODEL, written, best), cases),
        features=_features(record, cases.units, features if asks else None),
        notes=(
            *notes,
            *_about_never(record, chosen),
            *_about_others(record, everybody, parties, cases),
            *_about_limits(everybody, parties, alternatives, options),
            *_about_batches(record, options),
            *_about_fairness(record, cases, options, written),
            *_about_size(record, cases),
        ),
        how=tuple(how),
    )


class _Party(NamedTuple):
    """A party as the tables read it.

    Attributes:
      kind: as in `Evaluation`.
      right: float ``[R, N]``, NaN where it has no answer.
      utility: right less what asking costs, likewise.
      deferral: float ``[R, N]``.
      asked: likewise.
      fullest: cases of a batch that each person answers at most, float ``[M]``, where
        the party is of people alone.
      fitted: whether it was fitted anew in every split.
    """

    kind: str
    right: np.ndarray
    utility: np.ndarray
    deferral: np.ndarray
    asked: np.ndarray
    fullest: np.ndarray
    fitted: bool


def _everybody(record: Record, cases: Cases, prices: np.ndarray) -> dict[str, _Party]:
    found = {}
    fitted = record.test_to_train > 0
    for number, name in enumerate(record.parties):
        kind = "model" if name == MODEL else "policy"
        label = name if name in (MODEL, POLICY) else METHODS[name].label
        found[label] = _Party(
            kind,
            record.right[number],
            record.utility[number],
            record.deferral[number],
            record.asked[number],
            np.zeros(len(cases.people)),
            fitted,
        )
    ones = np.ones(record.splits.shape)
    answered = cases.answers >= 0
    correct = cases.answers == cases.labels[:, None]
    if len(cases.people) > 1:
        votes = np.stack(
            [(cases.answers == k).sum(axis=1) for k in range(len(cases.classes))],
            axis=1,
        )
        most = votes == votes.max(axis=1, keepdims=True)
        # In expectation, of a tie that is drawn.
        share = most[np.arange(len(votes)), cases.labels] / most.sum(axis=1)
        everyone = np.broadcast_to(answered, (*ones.shape, len(cases.people)))
        first = record.foremost[..., None] == np.arange(len(cases.people))
        for name, asks, right, again in (
            (MAJORITY, everyone, ones * share, False),
            (FOREMOST, first, (first & correct).any(axis=2), fitted),
        ):
            right = np.where(asks.any(axis=2), right, np.nan)
            found[name] = _Party(
                "people",
                right,
                right - asks @ prices.astype(float),
                ones,
                asks.sum(axis=2, dtype=float),
                _fullest(record.splits, asks),
                again,
            )
    # Alone a person would answer every case, also those they were not asked about here.
    largest = np.bincount(record.splits.ravel()).max()
    for person, name in enumerate(cases.people):
        right = np.where(answered[:, person], correct[:, person], np.nan) * ones
        fullest = np.where(np.arange(len(cases.people)) == person, largest, 0)
        label = name if name not in found else f"{name} (person)"
        price = float(prices[person])
        found[label] = _Party(
            "person", right, right - price, ones, ones, fullest, False
        )
    return found


def _fullest(splits: np.ndarray, asks: np.ndarray) -> np.ndarray:
    """Cases of a batch, which is a split, that each person answers at most, ``[M]``."""
    counts = [asks[splits == split].sum(axis=0) for split in np.unique(splits)]
    return np.max(counts, axis=0)


def _is_alternative(party: _Party, people: Sequence[str], options: Options) -> bool:
    """Whether people could answer most cases, and every batch, without the model."""
    places = dict(options.capacity)
    room = np.array([places.get(person, np.inf) for person in people])
    return (
        _answers_most(party)
        and options.max_deferral >= 1
        and bool((party.fullest <= room).all())
    )


def _answers_most(party: _Party) -> bool:
    """Whether it is of people who answered enough cases to be compared."""
    answered = (~np.isnan(party.right)).mean()
    return party.kind in ("person", "people") and answered >= _ENOUGH_ANSWERED


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
            "cost": (party.right - party.utility)[known].mean(),
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
        if _is_same(party, everybody[best]):
            row |= {"gain": 0.0, "gain_low": 0.0, "gain_high": 0.0, "gain_p": np.nan}
        else:
            difference = party.utility - everybody[best].utility
            row |= _gain(record, cases.units, difference)
        rows.append(row)
    table = pd.DataFrame(rows)
    table["gain_p"] = _corrected(table, everybody)
    return table


def _is_same(party: _Party, other: _Party) -> bool:
    """Whether it is the other, or the model where both ask nobody and answer alike."""
    asks = party.deferral.any() or other.deferral.any()
    return party is other or (not asks and np.array_equal(party.right, other.right))


def _corrected(parties: pd.DataFrame, everybody: dict[str, _Party]) -> np.ndarray:
    """p-values of the policies, corrected for their number; NaN of who is none.

    What is best on validation is one of the others where that was chosen throughout:
    policies that do the same in every case are one.
    """
    corrected = np.full(len(parties), np.nan)
    tested = np.flatnonzero(parties.gain_p.notna() & (parties.kind == "policy"))
    if not len(tested):
        return corrected
    done = [
        everybody[name].right.tobytes() + everybody[name].asked.tobytes()
        for name in parties.party.iloc[tested]
    ]
    number, _ = pd.factorize(pd.Series(done, dtype=object))
    _, first = np.unique(number, return_index=True)
    p_values = parties.gain_p.to_numpy()[tested]
    corrected[tested] = intervals.holm(p_values[first])[number]
    return corrected


def _about_never(record: Record, chosen: str) -> list[str]:
    """What was chosen in the splits, where the policy that is written asks nobody."""
    others = [name for name in record.methods if name != "never"]
    if chosen != "never" or not others:
        return []
    return [
        "The policy that is written asks nobody and is judged as the model alone. Of"
        f" the {plural(len(record.methods), 'part')} held out {len(others)} chose"
        f" otherwise ({methods_of_parts(record)}); the row {POLICY} tells of those."
    ]


def methods_of_parts(record: Record) -> str:
    """Which method was chosen in how many splits, in words."""
    counts = pd.Series(record.methods).value_counts(sort=False)
    return ", ".join(f"{name} in {number}" for name, number in counts.items())


def _about_others(
    record: Record,
    everybody: dict[str, _Party],
    parties: pd.DataFrame,
    cases: Cases,
) -> list[str]:
    """What the policy gains over the model and the majority, where another is best."""
    notes = []
    policy = everybody[parties.party[parties.chosen].iloc[0]]
    for name in (MODEL, MAJORITY):
        row = parties[parties.party == name]
        if not len(row) or row.best_single.iloc[0] or everybody[name] is policy:
            continue
        difference = policy.utility - everybody[name].utility
        found = _gain(record, cases.units, difference)
        if np.isfinite(found["gain"]):
            ends = interval(found["gain_low"], found["gain_high"])
            notes.append(
                f"Over {name} the policy gains {fixed(100 * found['gain'], 1)} points"
                f" ({'too few cases for an interval' if ends == UNKNOWN else ends}),"
                f" paired{' and prices paid' if priced(parties) else ''}."
            )
    return notes


def _about_fairness(
    record: Record, cases: Cases, options: Options, written: str
) -> list[str]:
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
        for number in map(record.parties.index, (written, MODEL))
    ]
    return [
        f"Groups were to differ by {100 * tolerance:g} points at most in"
        f" {criterion.replace('_', ' ')}. On held-out cases they differ by"
        f" {fixed(gaps[0], 1)} points with the policy, and by {fixed(gaps[1], 1)} with"
        " the model"
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


def _about_limits(
    everybody: dict[str, _Party],
    parties: pd.DataFrame,
    alternatives: Sequence[str],
    options: Options,
) -> list[str]:
    """That people would do better than the policy, if they were asked everything."""
    chosen = parties[parties.chosen].iloc[0]
    limited = [
        name
        for name, party in everybody.items()
        if name not in alternatives and _answers_most(party)
    ]
    better = parties[
        parties.party.isin(limited)
        & (parties.accuracy > chosen.accuracy)
        & (parties.accuracy - parties.cost > chosen.accuracy - chosen.cost)
    ]
    if not len(better):
        return []
    best = better.loc[better.accuracy.idxmax()]
    why = (
        f"people can be asked about {100 * options.max_deferral:g} % of the cases at"
        " most"
        if options.max_deferral < 1
        else "that is more cases of a batch than their capacity allows"
    )
    return [
        f"Asked about every case, {best.party} would be right in"
        f" {percent(best.accuracy)} of them, more than the policy's"
        f" {percent(chosen.accuracy)}; but {why}."
    ]


def _about_batches(record: Record, options: Options) -> list[str]:
    """What the batch is that limits were of."""
    if options.max_deferral >= 1 and not options.capacity:
        return []
    sizes = np.bincount(record.splits.ravel())
    what = f"the {plural(int(sizes[0]), 'case')} here, together"
    if len(sizes) > 1:
        least, most = sizes.min(), sizes.max()
        size = f"{least:,}" if least == most else f"{least:,} to {most:,}"
        what = f"one held-out part, of {size} cases"
    return [f"Limits on what people are asked are of a batch; it was {what}."]


def _gain(
    record: Record, units: np.ndarray, difference: np.ndarray
) -> dict[str, float]:
    """Mean of a paired difference over the cases that both have, with its interval.

    Of too few of them it has no interval: they may all be alike.
    """
    names = ("gain", "gain_low", "gain_high", "gain_p")
    known = ~np.isnan(difference)
    if len(np.unique(units[known.any(axis=0)])) < _ENOUGH_UNITS:
        mean = float(difference[known].mean()) if known.any() else np.nan
        return dict(zip(names, (mean, np.nan, np.nan, np.nan), strict=True))
    mean, error, count = _clustered(_by_case(difference), units)
    student = special.stdtrit(count - 1, 0.975)
    # Where none of so many units differs, as many as Wilson's interval of none may.
    half = max(student * error, _wilson(0.0, 0.0, count)[1])
    p_value = 2 * special.stdtr(count - 1, -abs(mean) / half * student)
    if record.test_to_train > 0:
        # Splits that happen to be alike do not make many cases of few.
        found = intervals.split_interval(
            _by_split(record, difference), record.test_to_train, center=mean
        )
        half = np.fmax(half, found.high - mean)
        p_value = np.fmax(p_value, found.p_value)
    ends = (mean, mean - half, mean + half, p_value)
    return {name: float(value) for name, value in zip(names, ends, strict=True)}


def _by_split(record: Record, values: np.ndarray) -> np.ndarray:
    """Means over the cases of each split, float ``[R F]``; NaN where there is none."""
    known = ~np.isnan(values)
    splits = record.splits[known]
    size = int(record.splits.max()) + 1
    count = np.bincount(splits, minlength=size)
    total = np.bincount(splits, values[known], minlength=size)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _by_case(values: np.ndarray) -> np.ndarray:
    """Means over the repetitions, float ``[N]``; NaN where there is none."""
    return pd.DataFrame(values).mean().to_numpy()


def _interval(
    record: Record, units: np.ndarray, parts: Sequence[np.ndarray], fitted: bool
) -> tuple[float, float, float]:
    """Mean of some means of what was right, and its 95 % interval; NaN of no part."""
    if not parts or any(np.isnan(part).all() for part in parts):
        return np.nan, np.nan, np.nan
    of_parts = [_clustered(_by_case(part), units) for part in parts]
    mean = float(np.mean([mean for mean, _, _ in of_parts]))
    error = float(np.sqrt(sum(error**2 for _, error, _ in of_parts))) / len(parts)
    smallest = min(count for _, _, count in of_parts) * len(parts)
    low, high = _wilson(mean, error, smallest)
    if fitted:
        # As of a gain.
        values = np.mean([_by_split(record, part) for part in parts], axis=0)
        found = intervals.split_interval(values, record.test_to_train, center=mean)
        low = float(np.fmin(low, np.clip(found.low, 0.0, 1.0)))
        high = float(np.fmax(high, np.clip(found.high, 0.0, 1.0)))
    return mean, low, high


def _of_units(values: np.ndarray, units: np.ndarray) -> tuple[float, float, float]:
    """Share of what is known of some cases, and its 95 % interval over units."""
    mean, error, count = _clustered(values, units)
    return mean, *_wilson(mean, error, count)


def _clustered(values: np.ndarray, units: np.ndarray) -> tuple[float, float, int]:
    """Mean of what is known, its standard error over units, and their number."""
    known = ~np.isnan(values)
    kept = values[known]
    error, count = _error_of_sum(kept - kept.mean(), units[known])
    return float(kept.mean()), error / len(kept), count


def _error_of_sum(terms: np.ndarray, units: np.ndarray) -> tuple[float, int]:
    """Standard error of a sum whose terms vary by unit, and the number of units."""
    _, number = np.unique(units, return_inverse=True)
    sums = np.bincount(number, terms)
    errors = [
        np.sqrt(np.square(parts).sum() * len(parts) / max(len(parts) - 1, 1))
        for parts in (sums, terms)
    ]
    # Units that happen to be alike tell no more than independent cases do.
    error = max(errors) if len(sums) > 1 else errors[0]
    return float(error), len(sums)


def _wilson(mean: float, error: float, count: float) -> tuple[float, float]:
    """Wilson's interval at as many independent cases as have that standard error."""
    if error > 0:
        count = max(mean * (1 - mean) / error**2, 1.0)
    low, high = proportion_confint(mean * count, count, method="wilson")
    return float(low), float(high)


def _curve(record: Record, units: np.ndarray) -> pd.DataFrame:
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
            fitted = record.test_to_train > 0
            mean, low, high = _interval(record, units, [right], fitted)
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


def _workload(record: Record, cases: Cases, asks: bool) -> pd.DataFrame:
    rows = []
    for person, name in enumerate(cases.people):
        answered = cases.answers[:, person] >= 0
        right = (cases.answers[:, person] == cases.labels).astype(float)
        asked = asks & (record.allocation[:, :, person] > 0)
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
            found = _of_units(right[answered], cases.units[answered])
            row |= dict(zip(("accuracy", "low", "high"), found, strict=True))
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
    found = {
        # Levels differ from split to split, and each is of few cases.
        "covered": _interval(
            record,
            cases.units,
            [np.where(someone, each.astype(float), np.nan)],
            record.test_to_train > 0,
        ),
        "nobody": _interval(
            record,
            cases.units,
            [np.where(known, ~held.any(axis=1), np.nan)[None]],
            False,
        ),
    }
    for name, values in found.items():
        ends = (name, f"{name}_low", f"{name}_high")
        row |= dict(zip(ends, values, strict=True))
    return pd.DataFrame([row], columns=names)


def _calibration(record: Record, cases: Cases) -> tuple[pd.DataFrame, float]:
    """How often people are right where they are said to be, in bins of equal size."""
    names = ["predicted", "observed", "low", "high", "count"]
    answered = np.tile(cases.answers >= 0, (len(record.chances), 1, 1))
    right = np.tile(cases.answers == cases.labels[:, None], (len(answered), 1, 1))
    predicted, observed = record.chances[answered], right[answered].astype(float)
    units = np.broadcast_to(cases.units[:, None], answered.shape)[answered]
    if not len(predicted):
        return pd.DataFrame(columns=names), np.nan
    rows = []
    for part in np.array_split(np.argsort(predicted, kind="stable"), _NUM_BINS):
        if not len(part):
            continue
        # An answer that is held out in every repetition counts once.
        count = max(round(len(part) / len(record.chances)), 1)
        found = _of_units(observed[part], units[part])
        rows.append((predicted[part].mean(), *found, count))
    table = pd.DataFrame(rows, columns=names)
    share = table["count"] / table["count"].sum()
    return table, float((share * (table.predicted - table.observed).abs()).sum())


def _groups(
    everybody: dict[str, _Party], compared: Sequence[str], cases: Cases
) -> pd.DataFrame:
    names = ["group", "cases", "party", "accuracy", "low", "high", "deferral"]
    if cases.groups is None:
        return pd.DataFrame(columns=names)
    rows = []
    for group in np.unique(cases.groups):
        here = cases.groups == group
        for name in dict.fromkeys(compared):
            party = everybody[name]
            values = _by_case(party.right[:, here])
            judged = int((~np.isnan(values)).sum())
            if not judged:
                continue
            found = _of_units(values, cases.units[here])
            share = party.deferral[:, here].mean()
            rows.append((group, judged, name, *found, share))
    return pd.DataFrame(rows, columns=names)


def _features(
    record: Record, units: np.ndarray, features: InUnits | None
) -> pd.DataFrame:
    """What tells deferred cases from kept ones, in standard deviations."""
    rows = []
    share = _by_case(record.deferral[record.parties.index(POLICY)])
    for number, name in enumerate(features.names if features is not None else ()):
        assert features is not None
        row = {"feature": name, "date": bool(features.dates[number])}
        found = _difference(features.values[:, number], share, units)
        if found:
            rows.append(row | found)
    table = pd.DataFrame(rows, columns=list(COLUMNS["features"]))
    order = np.argsort(-table.difference.abs().to_numpy(float), kind="stable")
    return table.iloc[order[:_NUM_FEATURES]].reset_index(drop=True)


def _difference(
    values: np.ndarray, share: np.ndarray, units: np.ndarray
) -> dict[str, float]:
    """How far a feature differs where cases are deferred; nothing of too few cases.

    Args:
      values: of it, float ``[N]``, NaN where it is blank.
      share: of the repetitions in which the case is deferred, float ``[N]``.
      units: int ``[N]``.
    """
    known = ~np.isnan(values)
    values, share = values[known], share[known]
    deferred, kept = share.sum(), (1 - share).sum()
    if min(deferred, kept) < _FEW_DEFERRED or np.ptp(values) == 0:
        return {}
    spread = values.std()
    weights = share / deferred - (1 - share) / kept
    # Around the mean of both, as if they were alike: where a feature alone decides,
    # neither of them varies around its own.
    terms = weights * (values - values.mean()) / spread
    error, count = _error_of_sum(terms, units[known])
    half = special.stdtrit(max(count - 1, 1), 0.975) * error
    difference = float(weights @ values / spread)
    return {
        "kept": float((1 - share) @ values / kept),
        "deferred": float(share @ values / deferred),
        "difference": difference,
        "low": difference - half,
        "high": difference + half,
    }
