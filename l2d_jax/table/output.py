"""Decisions as a table: who answers each case, and why."""

import json

import numpy as np
import pandas as pd

from l2d_jax import decisions
from l2d_jax.table.cases import Cases
from l2d_jax.table.team import Decided, Team

MODEL = "model"


def tabulate(team: Team, cases: Cases, decided: Decided) -> pd.DataFrame:
    """One row for each case.

    ``who`` is ``model``, a person, or several joined by `` + `` who vote with the
    model; ``answer`` is the team's answer where it is known: that of the model, or of
    people who have answered already. ``defer_score`` is the greatest of those who can
    be asked; a case is deferred for a reason in words. ``consult`` is the set of people
    to consult, of a team that has sets, as a list of JSON, whatever is in their names;
    ``p_nobody_right`` is of all who can be asked.

    Args:
      team: that decided.
      cases: on which.
      decided: from `l2d_jax.table.team.decide`.

    Returns:
      Columns ``case, who, answer, answer_if_model, p_<class>..., p_right_<person>...,
      defer_score, reason``, and behind them ``consult, p_nobody_right`` of sets.
    """
    decision = decided.decision
    allocation = np.asarray(decision.allocation)
    asked = allocation[:, :-1] > 0
    classes, people = np.array(team.classes, object), np.array(team.people, object)
    alone = np.asarray(decisions.prediction(decision))
    said = alone
    if len(people):
        known = (~asked | (cases.answers >= 0)).all(axis=1)
        said = np.where(
            known, np.asarray(decisions.answer(decision, cases.answers)), -1
        )
    table = {
        "case": cases.ids,
        "who": [" + ".join(people[row]) if row.any() else MODEL for row in asked],
        "answer": np.where(said >= 0, classes[said], ""),
        "answer_if_model": np.where(alone >= 0, classes[alone], ""),
    }
    probs = np.asarray(decision.class_probs)
    for number, name in enumerate(team.classes):
        table[f"p_{name}"] = probs[:, number]
    for number, name in enumerate(team.people):
        table[f"p_right_{name}"] = np.asarray(decision.expert_correct_prob)[:, number]
    scores = np.asarray(decision.defer_score, float)
    greatest = scores.max(axis=1) if scores.shape[1] else np.full(len(probs), -np.inf)
    table["defer_score"] = greatest
    table["reason"] = _reasons(team, decided, asked, scores)
    if decided.members is not None:
        table["consult"] = [
            json.dumps(people[row].tolist(), ensure_ascii=False)
            for row in decided.members
        ]
        table["p_nobody_right"] = decided.nobody_right
    return pd.DataFrame(table)


def _reasons(
    team: Team, decided: Decided, asked: np.ndarray, scores: np.ndarray
) -> np.ndarray:
    """Why each case is answered by whom it is, text ``[B]``.

    Args:
      team: that decided.
      decided: by it.
      asked: who is asked, bool ``[B, M]``.
      scores: inclination to ask each person, float ``[B, M]``.
    """
    deferred, wanted = asked.any(axis=1), decided.wanted.any(axis=1)
    alone = (
        "nobody is worth asking" if team.method == "never" else "nobody can be asked"
    )
    why_kept = np.select(
        [(scores == -np.inf).all(axis=1), (scores > 0).any(axis=1)],
        [alone, "the model is sure enough for its threshold"],
        "the model is as likely to be right",
    )
    why_asked = np.select(
        [asked.sum(axis=1) > 1, (asked & (scores > 0)).any(axis=1)],
        [
            "their votes can change the model's answer",
            "more likely to be right than the model",
        ],
        "the model is not sure enough for its threshold",
    )
    no_room = np.full(len(asked), "no room for it within the limits", object)
    instead = np.full(len(asked), "whom it would ask first has no room", object)
    if decided.cuts is not None:
        no_room, instead, at_its_turn = _in_turn(decided, decided.cuts, asked, scores)
        why_asked = why_asked.astype(object) + at_its_turn
    another = wanted & (asked != decided.wanted).any(axis=1)
    cannot = np.isnan(scores).any(axis=1)
    return np.select(
        [deferred & cannot, deferred & another, deferred, wanted],
        [np.full(len(asked), "it cannot be scored"), instead, why_asked, no_room],
        why_kept,
    )


def _in_turn(
    decided: Decided, cuts: np.ndarray, asked: np.ndarray, scores: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What was so at the turn of each case of a stream, each text ``[B]``.

    Args:
      decided: one case after another.
      cuts: of it.
      asked: who is asked, bool ``[B, M]``.
      scores: inclination to ask each person, float ``[B, M]``.

    Returns:
      Why somebody who would be asked is not; why somebody else is; and by how much
      whoever is asked was above what a place took.
    """
    rows = np.arange(len(asked))
    known = np.where(np.isnan(scores), np.inf, scores)
    open_to = cuts < np.inf
    above = np.where(open_to, known - np.where(open_to, cuts, 0.0), -np.inf)
    nearest, first = above.argmax(axis=1), decided.wanted.argmax(axis=1)
    whom = np.where(asked.any(axis=1), asked.argmax(axis=1), nearest)
    said, needed = scores[rows, whom], cuts[rows, whom]
    no_room, instead, at_its_turn = (np.empty(len(asked), object) for _ in range(3))
    for row in rows:
        has, takes = _apart(said[row], needed[row])
        numbers = f": {has}, and more than {takes} was"
        enough = said[row] > needed[row]
        at_its_turn[row] = f"{numbers} enough at its turn" if enough else ""
        waits = f"a place waits for a better case{numbers} needed at its turn"
        none = "no place was left at its turn"
        no_room[row] = waits if needed[row] < np.inf else none
        dearer = cuts[row, first[row]] < np.inf
        instead[row] = (
            f"whom it would ask first {'cost more' if dearer else 'had no place'}"
            f"{at_its_turn[row] or ' at its turn'}"
        )
    return no_room, instead, at_its_turn


def _apart(one: float, other: float) -> tuple[str, str]:
    """Two numbers with as many digits, four or more, as tell them apart."""
    for digits in range(4, 9):
        texts = f"{one:.{digits}g}", f"{other:.{digits}g}"
        if texts[0] != texts[1]:
            break
    return texts
