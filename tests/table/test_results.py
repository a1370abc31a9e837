"""What an evaluation must hold, and its first sentence."""

import evaluations
import pandas as pd
import pytest

from l2d_jax.table.results import (
    COLUMNS,
    check_evaluation,
    chosen_and_best,
    headline,
)

NAN = float("nan")


def parties_of(best, policy, people=("r1", "r2"), others=()):
    best = ("model", "model") if best is None else best
    rows = [
        evaluations.party(*best, 0.8, best_single=True),
        *(evaluations.party(name, "person", 0.7) for name in people if name != best[0]),
        *(evaluations.party(*other, 0.7) for other in others),
        evaluations.party("policy", "policy", 0.82, chosen=True) | policy,
    ]
    return pd.DataFrame(rows)


def gains(gain, low, high, deferral=0.2):
    return {"gain": gain, "gain_low": low, "gain_high": high, "deferral": deferral}


CLEAR = gains(0.022, 0.015, 0.029)
NONE = gains(0.004, -0.008, 0.016)
LOSS = gains(-0.03, -0.05, -0.01)
PERSON = ("r2", "person")
PEOPLE = ("the majority of the people", "people")


@pytest.mark.parametrize(
    ("best", "policy", "expected"),
    [
        (
            *(None, CLEAR),
            "Deferring 20 % of cases to people gains 2.2 points (1.5 to 2.9) over the "
            "model alone.",
        ),
        (
            *(PERSON, CLEAR),
            "Deferring 20 % of cases to people gains 2.2 points (1.5 to 2.9) over r2 "
            "alone.",
        ),
        (
            *(PEOPLE, CLEAR),
            "Deferring 20 % of cases to people gains 2.2 points (1.5 to 2.9) over the "
            "majority of the people.",
        ),
        (
            *(None, CLEAR | {"deferral": 1.0}),
            "Deferring every case to people gains 2.2 points (1.5 to 2.9) over the "
            "model alone.",
        ),
        (
            *(None, gains(0.006, 0.0004, 0.012, 0.003)),
            "Deferring 0.3 % of cases to people gains 0.60 points (0.04 to 1.20) over "
            "the model alone.",
        ),
        (
            *(None, NONE),
            "With 20 % of cases deferred to people, the data do not show a gain over "
            "the model alone: +0.4 points (-0.8 to 1.6).",
        ),
        (
            *(None, gains(0.01, 0.0, 0.02)),
            "With 20 % of cases deferred to people, the data do not show a gain over "
            "the model alone: +1.0 points (0.0 to 2.0).",
        ),
        (
            *(None, gains(-0.01, -0.02, 0.0)),
            "With 20 % of cases deferred to people, the data do not show a gain over "
            "the model alone: -1.0 points (-2.0 to 0.0).",
        ),
        (
            *(None, gains(NAN, NAN, NAN)),
            "With 20 % of cases deferred to people, the data do not show a gain over "
            "the model alone: it cannot be known from these cases.",
        ),
        (None, LOSS, "Nothing here beats the model alone; do not defer."),
        (
            *(None, CLEAR | {"deferral": 0.0}),
            "Nothing here beats the model alone; do not defer.",
        ),
        (PERSON, LOSS, "Nothing here beats r2 alone; let r2 answer every case."),
        (
            *(PEOPLE, LOSS),
            "Nothing here beats the majority of the people; let them answer every "
            "case.",
        ),
        (
            *(("r2\x1b[2J\nx", "person"), LOSS),
            "Nothing here beats r2\ufffd[2J x alone; let r2\ufffd[2J x answer every "
            "case.",
        ),
    ],
)
def test_headline(best, policy, expected):
    assert headline(parties_of(best, policy)) == expected


@pytest.mark.parametrize(
    ("policy", "says"),
    [
        (CLEAR, "gains 2.2 points (1.5 to 2.9), prices paid, over the model alone."),
        (NONE, "do not show a gain, prices paid, over the model alone: +0.4 points"),
        (LOSS, "Nothing here beats the model alone; do not defer."),
    ],
)
def test_headline_says_that_prices_are_paid(policy, says):
    assert says in headline(parties_of(None, policy | {"cost": 0.01}))
    assert "prices" not in headline(parties_of(None, policy | {"cost": 0.0}))


def test_headline_names_the_only_person():
    assert headline(parties_of(None, CLEAR, people=("r1",))) == (
        "Deferring 20 % of cases to r1 gains 2.2 points (1.5 to 2.9) over the model "
        "alone."
    )


def test_headline_names_one_of_several_models():
    parties = parties_of(("a", "model"), LOSS, others=[("b", "model")])
    assert headline(parties) == "Nothing here beats the model a alone; do not defer."


@pytest.mark.parametrize("column", ["chosen", "best_single"])
@pytest.mark.parametrize("marked", [0, 2])
def test_one_row_is_marked(column, marked):
    parties = parties_of(None, CLEAR)
    parties[column] = [True] * marked + [False] * (len(parties) - marked)
    with pytest.raises(ValueError, match=f"marked {column}, got {marked} of 4"):
        headline(parties)


@pytest.mark.parametrize("table", COLUMNS)
def test_a_column_that_lacks_is_named(table):
    evaluation = evaluations.binary()
    column = COLUMNS[table][-1]
    frame = getattr(evaluation, table).drop(columns=column)
    with pytest.raises(ValueError, match=rf"table {table} of .* lacks {column};"):
        check_evaluation(evaluation._replace(**{table: frame}))


def test_an_unknown_kind_is_named():
    evaluation = evaluations.binary()
    parties = evaluation.parties.assign(kind="robot")
    with pytest.raises(ValueError, match=r"people or policy, got .*'robot'"):
        check_evaluation(evaluation._replace(parties=parties))


def test_the_policy_itself_may_be_the_best_single_party():
    parties = parties_of(None, CLEAR)
    parties["chosen"] = parties["best_single"]
    chosen, best = chosen_and_best(parties)
    assert chosen["party"] == best["party"] == "model"
    assert headline(parties) == "Nothing here beats the model alone; do not defer."
