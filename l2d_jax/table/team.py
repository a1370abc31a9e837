"""A classifier and its people as a team that decides on cases."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from l2d_jax import decisions
from l2d_jax._rounding import just_above
from l2d_jax.policies import guarantees
from l2d_jax.table import (
    calibration,
    chances,
    classifiers,
    columns,
    consult,
    groups,
    networks,
)
from l2d_jax.table.cases import Cases, require_people
from l2d_jax.table.chunks import in_chunks
from l2d_jax.table.limits import in_order, within_limits
from l2d_jax.table.methods import METHODS, Known
from l2d_jax.table.options import Options, listed, prices_of
from l2d_jax.types import Array, Decision, PyTree

# Methods that go by how likely anybody is to be right, whoever they are.
_OPEN = tuple(name for name, row in METHODS.items() if row.batch_loss is None)


class Team(NamedTuple):
    """A fitted team.

    Attributes:
      encoder: of the features.
      classes: names, K.
      people: names, M.
      kind: of the classifier, a name from `CLASSIFIERS`, or ``given``.
      params: of classifier, calibration, chances and networks, and scores of past
        cases, arrays by name.
      method: by which it decides, a name from `METHODS`.
      threshold: on the score, above which a case is deferred.
      by_group: thresholds in its place; None where all groups have that one.
      certificate: what is guaranteed; None where nothing is.
      consult: how sets of people are made; None where none are.
      candidates: what was compared to choose the method, a row each.
      options: how it was fitted.
      notes: what was seen on the way, a sentence each.
      new: those of the people that it was not fitted to, see `welcome`.
    """

    encoder: columns.Encoder
    classes: tuple[str, ...]
    people: tuple[str, ...]
    kind: str
    params: dict[str, PyTree]
    method: str
    threshold: float
    by_group: groups.ByGroup | None
    certificate: guarantees.Certificate | guarantees.TeamCertificate | None
    consult: consult.Consult | None
    candidates: pd.DataFrame
    options: Options
    notes: tuple[str, ...]
    new: tuple[str, ...] = ()


class Decided(NamedTuple):
    """What a team does with cases.

    Attributes:
      decision: within all limits, over ``[B]`` and M people.
      chances: of the people's being right.
      wanted: who would have been asked without budget and capacity, bool ``[B, M]``.
      cuts: what each person's score had to be above at the turn of each case, float
        ``[B, M]``, inf where they had no place then; None of a batch.
      members: of the set of people to consult, bool ``[B, M]``; None of no sets.
      nobody_right: probability that none of those who can be asked is right, float
        ``[B]``; None of no sets.
      notes: what was seen on the way, a sentence each.
    """

    decision: Decision
    chances: chances.Chances
    wanted: np.ndarray
    cuts: np.ndarray | None
    members: np.ndarray | None
    nobody_right: np.ndarray | None
    notes: tuple[str, ...]


def decide(
    team: Team,
    cases: Cases,
    *,
    available: np.ndarray | None = None,
    method: str | None = None,
    certified: bool = True,
    options: Options | None = None,
    period: int | None = None,
) -> Decided:
    """What the team does with cases, as one batch or one after another.

    Args:
      team: from `fit`.
      cases: of the team's classes and people; labels and answers are not read.
      available: whether each person can be asked, bool ``[N, M]``; None: all can.
      method: another than the team's, of those it was fitted with.
      certified: whether the team's own method keeps to its thresholds.
      options: whose limits are kept; None: the team's.
      period: decide on cases in their order, none by what comes later, with limits that
        are of so many cases each, >= 1; None decides on a batch, which limits are of.

    Raises:
      ValueError: a column is missing or of another kind, people are others, there is no
        room for cases that cannot be kept, or cases cannot be decided on in their
        order.
    """
    if (cases.classes, cases.people) != (team.classes, team.people):
        raise ValueError(
            f"cases are of classes {listed(cases.classes)} and people"
            f" {listed(cases.people)}, and the team of {listed(team.classes)} and"
            f" {listed(team.people)}; make them with those of the team"
        )
    options = options or team.options
    name = method or team.method
    inputs, notes = encode(team, cases)
    shape = (len(inputs), len(team.people))
    if available is None:
        available = np.ones(shape, bool)
    if np.shape(available) != shape:
        raise ValueError(f"available must have shape {shape}, got {available.shape}")
    if not len(inputs):
        raise ValueError("there is no case to decide on")
    class_probs, found = known_of(team, inputs)
    wanted = scores(team, inputs, available, name, (class_probs, found))
    threshold: float | np.ndarray = 0.0
    if certified and name == team.method:
        threshold = team.threshold
        if team.by_group is not None:
            threshold = groups.thresholds_of(team.by_group, cases)
    asks, must = wanted, None
    promised = team.certificate if certified and name == team.method else None
    if isinstance(promised, guarantees.Certificate):
        everybody = wanted
        if not available.all():
            ones = np.ones_like(available)
            everybody = scores(team, inputs, ones, name, (class_probs, found))
        must = _must_defer(team, everybody)
        asks = _as_certified(team, wanted, available, must)
    free = options._replace(max_deferral=1.0, capacity=())
    cuts = None
    if period is None or not team.people:
        decision = within_limits(asks, name, options, team.people, threshold)
    else:
        past = _past(team, name, options, period)
        decision, cuts = in_order(asks, options, team.people, period, past, threshold)
    decision = decision._replace(defer_score=wanted.defer_score)
    unlimited = within_limits(asks, name, free, team.people, threshold)
    would = np.asarray(unlimited.allocation)[:, :-1] > 0
    if must is not None:
        notes += tuple(_about_kept(team, must, decision))
    elif promised is not None:
        notes += tuple(_about_team(available, would, decision))
    if team.by_group is not None and team.new:
        notes += (
            "Thresholds by group are of people the policy has met; with"
            f" {listed(team.new)}, new to it, groups may differ by more.",
        )
    members = nobody = None
    if team.consult is not None:
        # Of somebody new the level says nothing.
        met = available & np.isin(team.people, team.consult.people)
        members = consult.members(team.consult, found.prob, met)
        nobody = consult.nobody_right(team.params["nobody"], found.prob, available)
        notes += tuple(_about_sets(team, team.consult, met))
    return Decided(decision, found, would, cuts, members, nobody, notes)


def _past(
    team: Team, name: str, options: Options, period: int
) -> dict[str, np.ndarray]:
    """What prices of a stream start from.

    Raises:
      ValueError: cases cannot be decided on in their order.
    """
    if period < 1:
        raise ValueError(f"stream must be >= 1 case, got {period}")
    if METHODS[name].several:
        raise ValueError(
            "stream: people who share an answer have no prices; fit again with --ask 1"
        )
    if not options.capacity and options.max_deferral == 1:
        raise ValueError(
            "stream: without a capacity or max_defer each case is decided by itself"
            " anyway; give one, or leave stream out"
        )
    if name != team.method or "past" not in team.params:
        raise ValueError(
            "stream: the policy keeps no scores of past cases to start prices from; fit"
            " it again"
        )
    past = dict(team.params["past"])
    # Nothing is known of what somebody new would have been asked.
    strangers = len(team.people) - past["scores"].shape[1]
    past["scores"] = np.pad(
        past["scores"], ((0, 0), (0, strangers)), constant_values=-np.inf
    )
    return past


def _must_defer(team: Team, everybody: Decision) -> np.ndarray:
    """Which cases the guarantee of kept ones is not of, bool ``[B]``.

    Args:
      team: with a certificate.
      everybody: its decision as if all could be asked, as it was certified.
    """
    met = ~np.isin(team.people, team.new)
    scores_of_met = np.asarray(everybody.defer_score)[:, met]
    # NaN is above every threshold: such a case is never kept.
    return np.any(~(scores_of_met <= team.threshold), axis=1)


def _as_certified(
    team: Team, wanted: Decision, available: np.ndarray, must: np.ndarray
) -> Decision:
    """Scores by which somebody new is asked where a case cannot be kept, only there.

    Otherwise they would pick, from the cases that are kept, some that the model knows,
    and the error of the rest could be above what is guaranteed.

    Args:
      team: with a certificate.
      wanted: its decision among those who can be asked.
      available: whether each person can be asked, bool ``[B, M]``.
      must: from `_must_defer`.
    """
    if not team.new:
        return wanted
    score = np.array(wanted.defer_score)
    is_new = np.isin(team.people, team.new)
    deferred = just_above(np.asarray(team.threshold, score.dtype))
    lifted = np.where(available, np.maximum(score, deferred), -np.inf)
    of_new = np.where(must[:, None], lifted, -np.inf)
    return wanted._replace(defer_score=np.where(is_new, of_new, score))


def _about_kept(team: Team, must: np.ndarray, decision: Decision) -> list[str]:
    """What is guaranteed of these cases, where it is not all that is kept."""
    notes = []
    count = int((must & (np.asarray(decision.allocation)[:, -1] > 0)).sum())
    if count:
        notes.append(
            f"The guarantee is not of the {count} cases that should be deferred and are"
            " kept for want of room, or of somebody to ask."
        )
    if team.new:
        notes.append(
            "The guarantee is of kept cases, and does not depend on"
            f" {listed(team.new)}: somebody new is asked only about cases that it is"
            " not of. Of the answers to those nothing is guaranteed."
        )
    return notes


def _about_team(
    available: np.ndarray, would: np.ndarray, decision: Decision
) -> list[str]:
    """Why what is guaranteed of the team may not hold of these cases."""
    notes = []
    if not available.all():
        notes.append(
            "The guarantee is of cases about which everybody can be asked; here some"
            " people cannot, so that it may not hold."
        )
    kept = np.asarray(decision.allocation)[:, -1] > 0
    count = int((would.any(axis=1) & kept).sum())
    if count:
        notes.append(
            f"The guarantee is not of the {count} cases that should be deferred and are"
            " kept for want of room."
        )
    return notes


def _about_sets(team: Team, sets: consult.Consult, met: np.ndarray) -> list[str]:
    """What sets of people are of, where that is not everybody."""
    notes = []
    count = int((consult.is_among(sets, met) & met.any(axis=1)).sum())
    if count:
        notes.append(
            f"Sets to consult of {count} cases are among those who can be asked, and"
            " hold one who is right as often as was promised where who can be is as who"
            " answered was."
        )
    strangers = [name for name in team.people if name not in sets.people]
    if strangers:
        notes.append(f"Sets to consult are without {listed(strangers)}, who are new.")
    return notes


def welcome(team: Team, names: Sequence[str]) -> Team:
    """The team with people who are new to it, until their answers are fitted.

    Each is taken for one of the others: as likely to be right as people are on a case,
    and as unsure as they differ.

    Args:
      team: whose method goes by how likely people are to be right.
      names: of the new people, distinct, none of them the team's.

    Raises:
      ValueError: a name is known, or the team's method or guarantee leaves no room for
        somebody new.
    """
    twice = [name for name in names if name in team.people or names.count(name) > 1]
    if twice:
        raise ValueError(f"new: {twice[0]!r} is in the team already; leave them out")
    require_people(names)
    if METHODS[team.method].batch_loss is not None:
        raise ValueError(
            f"new: the policy decides by {team.method}, a network of its own people;"
            f" fit it again with methods that have none ({', '.join(_OPEN)}) to ask"
            " somebody new"
        )
    if isinstance(team.certificate, guarantees.TeamCertificate):
        raise ValueError(
            "new: the policy guarantees the team's error by the answers of people it"
            " has met; fit it again with theirs"
        )
    if not team.people:
        raise ValueError("new: the team has no people to take somebody for one of")
    params = dict(team.params)
    params["chances"] = chances.welcome(params["chances"], len(names))
    people, new = (*team.people, *names), (*team.new, *names)
    return team._replace(people=people, params=params, new=new)


def scores(
    team: Team,
    inputs: np.ndarray,
    available: np.ndarray,
    name: str,
    known: tuple[np.ndarray, chances.Chances] | None = None,
) -> Decision:
    """The method's decision among those who can be asked, before all limits."""
    if known is None:
        known = known_of(team, inputs)
    class_probs, found = known
    sizes = (len(team.classes), len(team.people))
    out = None
    if METHODS[name].batch_loss is not None:
        out = in_chunks(
            functools.partial(_outputs, name, sizes, team.options.how),
            team.params["networks"][name],
            inputs,
            class_probs,
        )
    prices = prices_of(team.options, team.people)
    asked = Known(class_probs, found.prob, prices, team.options.ask, available)
    return decide_each(name, asked, out)


def known_of(team: Team, inputs: np.ndarray) -> tuple[np.ndarray, chances.Chances]:
    """As `know`, of any number of cases."""
    # Without what differs in shape from table to table, as programs are kept.
    names = ("classifier", "calibration", "chances")
    params = {name: team.params[name] for name in names if name in team.params}
    return in_chunks(functools.partial(_know, team.kind), params, inputs)


def encode(team: Team, cases: Cases) -> tuple[np.ndarray, tuple[str, ...]]:
    """What the classifier reads of cases, float32 ``[N, D]``, and notes.

    Raises:
      ValueError: a column, or the probabilities of a model, are missing or of another
        kind.
    """
    if (team.kind == "given") != (cases.class_probs is not None):
        raise ValueError(
            "scores: the team was fitted"
            + (" with" if team.kind == "given" else " without")
            + " the probabilities of a model of yours; give the same here"
        )
    return encode_features(team.encoder, cases)


def encode_features(
    encoder: columns.Encoder, cases: Cases
) -> tuple[np.ndarray, tuple[str, ...]]:
    """As `encode`, of an encoder that may be no team's yet."""
    inputs, notes = columns.encode(encoder, cases.features)
    if cases.class_probs is not None:
        given = classifiers.log_probs(cases.class_probs)
        inputs = np.concatenate([inputs, given], axis=1)
    return inputs, tuple(notes)


def kind_of(name: str) -> classifiers.Classifier:
    """The classifier of a name, or that of a model which is given."""
    if name == "given":
        return classifiers.GIVEN
    return classifiers.CLASSIFIERS[name]


def know(
    kind: str, params: dict[str, PyTree], inputs: Array
) -> tuple[jax.Array, chances.Chances]:
    """Probabilities of the classes, and the people's chances, of new cases; pure.

    Args:
      kind: of the classifier.
      params: of a team, with people.
      inputs: float ``[B, D]``.
    """
    raw = classifiers.mean_log_probs(kind_of(kind), params["classifier"], inputs)
    class_probs = calibration.of_classes(params["calibration"], raw)
    log_probs = jnp.log(jnp.maximum(class_probs, 1e-6))
    if "chances" not in params:
        nobody = jnp.zeros((class_probs.shape[0], 0))
        return class_probs, chances.Chances(nobody, nobody, nobody)
    return class_probs, chances.predict(params["chances"], inputs, log_probs)


_know = functools.partial(jax.jit, static_argnums=0)(know)


def outputs(
    name: str,
    sizes: tuple[int, int],
    how: networks.Training,
    params: PyTree,
    inputs: Array,
    class_probs: Array,
) -> jax.Array | None:
    """Mean outputs of a method's networks on new cases, ``[B, O]``; None: it has none.

    Args:
      name: of the method.
      sizes: K and M.
      how: as in training.
      params: of its networks, ``[J, ...]``.
      inputs: float ``[B, D]``.
      class_probs: float ``[B, K]``.
    """
    if METHODS[name].batch_loss is None:
        return None
    model = networks.network(METHODS[name], *sizes, how)
    return networks.mean_outputs(model, params, with_log_probs(inputs, class_probs))


_outputs = functools.partial(jax.jit, static_argnums=(0, 1, 2))(outputs)


def with_log_probs(inputs: Array, class_probs: Array) -> jax.Array:
    """What networks read: features, and logarithms that no single one outweighs."""
    log_probs = jnp.log(jnp.maximum(jnp.asarray(class_probs), 1e-3))
    return jnp.concatenate([jnp.asarray(inputs), log_probs], axis=1)


def restrict(name: str, known: Known, found: jax.Array | None) -> Decision:
    """The method's decision among those who can be asked."""
    if not known.chances.shape[1]:
        everything = jnp.ones((known.class_probs.shape[0], 1))
        return Decision(known.class_probs, known.chances, known.chances, everything)
    return decisions.among(METHODS[name].decide(known, found), known.available)


def decide_each(name: str, known: Known, found: np.ndarray | None) -> Decision:
    """As `restrict`, of any number of cases; arrays are NumPy's, and so is the result.

    Args:
      name: of the method.
      known: of the cases.
      found: outputs of the method's networks, float ``[B, O]``; None: it has none.
    """
    fixed = (name, tuple(known.prices.tolist()), known.ask)
    arrays = [np.asarray(known.class_probs), np.asarray(known.chances)]
    arrays.append(np.asarray(known.available))
    if found is not None:
        arrays.append(found)
    return in_chunks(functools.partial(_restrict, fixed), None, *arrays)


@functools.partial(jax.jit, static_argnums=0)
def _restrict(
    fixed: tuple[str, tuple[float, ...], int], params: None, *arrays: jax.Array
) -> Decision:
    del params
    name, prices, ask = fixed
    class_probs, chance, available, *found = arrays
    known = Known(class_probs, chance, np.asarray(prices, np.float32), ask, available)
    return restrict(name, known, found[0] if found else None)
