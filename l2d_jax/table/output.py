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
    cannot = np.isnan(scores).any(axis=1)
    nobody = (scores == -np.inf).all(axis=1)
    wanted = decided.wanted.any(axis=1)
    deferred = asked.any(axis=1)
    another = deferred & wanted & ~(asked == decided.wanted).all(axis=1)
    kept = np.where(
        wanted,
        "no room for it within the limits",
        "nobody can be asked" if team.method != "never" else "nobody is worth asking",
    )
    kept = np.where(wanted | nobody, kept, "the model is as likely to be right")
    several = asked.sum(axis=1) > 1
    why = np.where(
        several,
        "their votes can change the model's answer",
        "more likely to be right than the model",
    )
    found = np.where(deferred, why, kept)
    found = np.where(another, "whom it would ask first has no room", found)
    return np.where(cannot & deferred, "it cannot be scored", found)
