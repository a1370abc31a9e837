"""Fitting a team to a table: classifier, people, and whichever method is worth it."""

import functools
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import pandas as pd
import threadpoolctl

from l2d_jax import decisions
from l2d_jax.engine.chunks import Progress
from l2d_jax.policies import guarantees
from l2d_jax.table import (
    calibration,
    chances,
    classifiers,
    columns,
    consult,
    groups,
    networks,
    steps,
)
from l2d_jax.table.cases import Cases, require_positive, take
from l2d_jax.table.chunks import in_chunks
from l2d_jax.table.folds import make_folds
from l2d_jax.table.limits import outcome, within_limits
from l2d_jax.table.methods import AUTO, METHODS, Known, unmet
from l2d_jax.table.options import (
    Options,
    check_options,
    guaranteed,
    prices_of,
    promises,
)
from l2d_jax.table.team import (
    Team,
    decide_each,
    encode_features,
    kind_of,
    known_of,
    scores,
    with_log_probs,
)
from l2d_jax.types import Array, PyTree

HELD_OUT_FOR_PROMISES = 3
"""Parts of which one is held out for a guarantee, or for sets of people."""

_NUM_THRESHOLDS = 20
_ENOUGH_PAST = 1000
# More rows, about, seldom choose another classifier; that is then fitted to all.
_ENOUGH_TO_CHOOSE = 50_000
# Rows of a class in a fold that are never left out for being few.
_FEW = 100


def fit(
    cases: Cases,
    options: Options | None = None,
    *,
    text: Sequence[str] = (),
    category: Sequence[str] = (),
    report: Callable[[str, float], None] = lambda what, share: None,
    checkpoint_dir: pathlib.Path | None = None,
) -> Team:
    """Fit a team to the labelled cases of a table.

    Args:
      cases: with labels; those without have no part.
      options: see `Options`.
      text: columns that are texts.
      category: columns whose values are names, though they look like numbers or dates.
      report: called with what is being done and the share that is done, in [0, 1].
      checkpoint_dir: folder in which finished steps are kept, and checkpoints of the
        networks, to go on from; None keeps none.

    Raises:
      ForeignResultsError: what the folder holds is of another table or other options.
      ValueError: the table is too small, a name is not known, or no method can be used;
        or a guarantee, or sets of people, cannot be had of it.
    """
    options = options or Options()
    check_options(options, cases.people)
    require_positive(options.positive, cases.classes)
    cases = take(cases, np.flatnonzero(cases.labels >= 0))
    plan = columns.plan_columns(cases.features, text, category)
    columns.require_useful(plan, cases)
    if options.fair is not None:
        groups.require_cases(cases, options)
    cases = cases._replace(features=columns.read_numbers(plan, cases.features))
    rows = np.arange(len(cases.labels))
    (team,) = fit_parts(
        cases, [rows], plan, options, report=report, checkpoint_dir=checkpoint_dir
    )
    team = team._replace(notes=(*columns.note_left_out(plan), *team.notes))
    if team.by_group is not None:
        groups.require_met(team.by_group, options)
    if guaranteed(options):
        _require_certified(team, len(rows))
    if team.consult is not None and np.isinf(team.consult.level):
        wanted = team.options.consult or 0.0
        raise ValueError(
            f"--consult: sets that hold somebody right with probability {wanted:g}"
            f" take {np.ceil(wanted / (1 - wanted) - 1e-9):.0f} held-out cases that two"
            " people or more answered, one of them rightly, and there are"
            f" {team.consult.num_cases} (a third of {len(rows)} is held out); ask for"
            " less, or give more answers"
        )
    return team


def _require_certified(team: Team, num_cases: int) -> None:
    """See that the guarantee that was asked for can be given.

    Raises:
      ValueError: it cannot.
    """
    options, found = team.options, team.certificate
    if isinstance(found, guarantees.TeamCertificate):
        assert options.max_team_error is not None
        if found.bound > options.max_team_error:
            least = np.ceil(found.bound * 1e3) / 1e3
            raise ValueError(
                f"--guarantee: {options.max_team_error:.3g} error of the team cannot be"
                f" had with confidence {options.confidence:g}: by {found.num_cases} of"
                " the cases held out for it, which whom the policy asks has answered,"
                f" the least that can be shown is {least:.3g}; allow that, less"
                " confidence, or give more cases"
            )
        return
    if found is None:
        whose = "of the team" if options.max_error is None else "among kept cases"
        wanted = options.max_error or options.max_team_error
        raise ValueError(
            f"--guarantee: {wanted:.3g} error {whose} cannot be had with"
            f" confidence {options.confidence:g} from the cases held out for it (a"
            f" third of {num_cases}); allow more error, less confidence, or give more"
            " cases"
        )


class _Base(NamedTuple):
    """What all methods of a part start from."""

    encoder: columns.Encoder
    kind: str
    params: dict[str, PyTree]
    part: networks.Part
    chances: np.ndarray
    cases: Cases
    inputs: np.ndarray
    held_out: np.ndarray
    notes: tuple[str, ...]


def fit_parts(
    cases: Cases,
    parts: Sequence[np.ndarray],
    plan: columns.ColumnPlan,
    options: Options,
    *,
    report: Callable[[str, float], None] = lambda what, share: None,
    checkpoint_dir: pathlib.Path | None = None,
) -> list[Team]:
    """Fit a team to each of some parts of a table, the networks of all as one sweep.

    Args:
      cases: all with labels.
      parts: rows of each, int ``[N_p]``; they may overlap.
      plan: of the columns.
      options: see `Options`, checked.
      report: as in `fit`.
      checkpoint_dir: as in `fit`.

    Returns:
      The teams; the certificate of one that was to have one may be None.

    Raises:
      ForeignResultsError: as in `fit`.
      ValueError: a part is too small, or no method can be used.
    """
    bases = []
    for number, rows in enumerate(parts):
        report("classifiers and people", number / len(parts) / 2)
        folder = checkpoint_dir and checkpoint_dir / f"base_{number:03d}"
        # Several threads wait for one another where the machine is busy: two took 21 s
        # there for trees of 200,000 rows, and one 1.4 s.
        with threadpoolctl.threadpool_limits(1):
            bases.append(_fit_base(take(cases, rows), plan, options, folder))
    prices = prices_of(options, cases.people)
    reasons = _reasons(cases, options, prices)
    usable = [name for name, reason in reasons.items() if not reason]
    if not usable:
        raise ValueError(
            "methods: none can be used: "
            + "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
        )
    trained = [name for name in usable if METHODS[name].batch_loss is not None]
    nets: dict[str, list[PyTree]] = {}
    for number, name in enumerate(trained):

        def say(progress: Progress, number: int = number, name: str = name) -> None:
            share = (number + progress.done / progress.total) / len(trained)
            report(METHODS[name].label, 0.5 + share / 2)

        try:
            nets[name] = networks.train(
                METHODS[name],
                [base.part for base in bases],
                float(prices.max(initial=0.0)),
                options.how,
                options.seed,
                checkpoint_dir=checkpoint_dir and checkpoint_dir / name,
                report=say,
            )
        except FloatingPointError as error:
            reasons[name] = str(error)
            usable.remove(name)
    report("done", 1.0)
    return [
        _choose(
            base,
            {name: found[number] for name, found in nets.items()},
            options,
            reasons,
        )
        for number, base in enumerate(bases)
    ]


def _reasons(cases: Cases, options: Options, prices: np.ndarray) -> dict[str, str]:
    """Methods that are asked for, and why each cannot be used, empty where it can."""
    names: list[str] = []
    for name in options.methods:
        names += {"auto": AUTO, "all": tuple(METHODS)}.get(name, (name,))
    reasons = {}
    for name in METHODS:
        if name not in names:
            continue
        reasons[name] = unmet(
            METHODS[name],
            ask=options.ask,
            prices=prices,
            capacity=bool(options.capacity),
            given=cases.class_probs is not None,
            fair=options.fair is not None,
            guaranteed=guaranteed(options),
        )
        if not cases.people and name != "never":
            reasons[name] = "there are no people to ask"
    return reasons


def _fit_base(
    cases: Cases,
    plan: columns.ColumnPlan,
    options: Options,
    folder: pathlib.Path | None,
) -> _Base:
    held_out = np.zeros(len(cases.labels), bool)
    if promises(options):
        thirds = make_folds(
            cases.labels,
            cases.units,
            HELD_OUT_FOR_PROMISES,
            options.seed + 1,
            cases.classes,
        )
        held_out = thirds == 0
    encoder = columns.fit_encoder(plan, take(cases, np.flatnonzero(~held_out)).features)
    all_inputs, notes = encode_features(encoder, cases)
    kept = np.flatnonzero(~held_out)
    fitted, inputs = take(cases, kept), all_inputs[kept]
    labels, num_classes = fitted.labels, len(cases.classes)
    folds = make_folds(
        labels, fitted.units, options.num_folds, options.seed, cases.classes
    )
    weights = None
    if options.balanced:
        counts = np.bincount(labels, minlength=num_classes)
        weights = (len(labels) / (num_classes * counts))[labels]

    given = cases.class_probs is not None
    kinds = ("given",) if given else options.classifiers
    everything = np.arange(len(labels))
    drawn = _drawn(labels, folds, options.seed) if len(kinds) > 1 else everything

    def cross_fit(name: str, rows: np.ndarray, of: str) -> dict[str, PyTree]:
        data: dict[str, Any] = {
            "inputs": inputs[rows],
            "labels": labels[rows],
            "weights": None if weights is None else weights[rows],
            "folds": folds[rows],
        }
        return steps.once(
            folder and folder / f"{name}{of}.safetensors",
            lambda: _cross_fit(kind_of(name), num_classes=num_classes, **data),
            data=data,
            config={"classifier": name, "classes": num_classes},
        )

    whole = len(drawn) == len(labels)
    found = {name: cross_fit(name, drawn, "" if whole else "_drawn") for name in kinds}
    chosen_by = (np.arange(len(drawn)), labels[drawn])
    losses = {name: -one["held_out"][chosen_by].mean() for name, one in found.items()}
    kind = min(kinds, key=lambda name: losses[name])
    best = found[kind] if whole else cross_fit(kind, everything, "")
    members, raw = best["members"], best["held_out"]
    mapped = calibration.fit_classes(raw, labels, folds, keep_order=given)
    class_probs = np.asarray(calibration.of_classes(mapped, raw), np.float32)
    log_probs = classifiers.log_probs(class_probs)
    asked = fitted.answers >= 0
    right = _right(fitted)
    params: dict[str, PyTree] = {"classifier": members, "calibration": mapped}
    chance = np.zeros(right.shape, np.float32)
    imputed = np.zeros((options.num_folds, *right.shape), np.float32)
    if cases.people:
        people = steps.once(
            folder and folder / "people.safetensors",
            lambda: dict(
                zip(
                    ("params", "chance", "imputed"),
                    chances.fit(inputs, log_probs, right, folds),
                    strict=True,
                )
            ),
            data={"inputs": inputs, "log_probs": log_probs, "right": right},
            config={"folds": folds},
        )
        params["chances"] = people["params"]
        chance, imputed = people["chance"], people["imputed"]
    part = networks.Part(
        np.asarray(with_log_probs(inputs, class_probs), np.float32),
        labels.astype(np.int32),
        class_probs,
        np.where(asked, right, imputed).astype(np.float32),
        np.ones(len(labels), np.float32)
        if weights is None
        else weights.astype(np.float32),
        folds,
    )
    return _Base(
        encoder,
        kind,
        params,
        part,
        chance,
        cases,
        all_inputs,
        held_out,
        notes,
    )


def _drawn(labels: np.ndarray, folds: np.ndarray, seed: int) -> np.ndarray:
    """Rows that are enough to choose among classifiers by, int, in their order.

    A share of each class in each fold, and no fewer of any than a few.
    """
    share = _ENOUGH_TO_CHOOSE / len(labels)
    if share >= 1:
        return np.arange(len(labels))
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    cell = (labels * (folds.max() + 1) + folds)[shuffled]
    kept = []
    for number in np.unique(cell):
        rows = shuffled[cell == number]
        kept.append(rows[: max(round(share * len(rows)), _FEW)])
    return np.sort(np.concatenate(kept))


def _cross_fit(
    kind: classifiers.Classifier,
    inputs: np.ndarray,
    labels: np.ndarray,
    num_classes: int,
    weights: np.ndarray | None,
    folds: np.ndarray,
) -> dict[str, PyTree]:
    """``members``, fitted without each fold, and what they say of it, ``held_out``.

    That is log-probabilities of each case, float32 ``[N, K]``.
    """
    members = []
    held_out = np.zeros((len(labels), num_classes), np.float32)
    for fold in range(int(folds.max()) + 1):
        train = folds != fold
        member = kind.fit(
            inputs[train],
            labels[train],
            num_classes,
            None if weights is None else weights[train],
            fold,
        )
        logits = in_chunks(
            functools.partial(_member_logits, kind), member, inputs[~train]
        )
        held_out[~train] = np.asarray(jax.nn.log_softmax(logits, axis=1))
        members.append(member)
    return {"members": classifiers.stack(members), "held_out": held_out}


@functools.partial(jax.jit, static_argnums=0)
def _member_logits(
    kind: classifiers.Classifier, params: Mapping[str, Array], inputs: Array
) -> jax.Array:
    return kind.logits(params, inputs)


def _choose(
    base: _Base,
    nets: dict[str, PyTree],
    options: Options,
    reasons: dict[str, str],
) -> Team:
    """The team of a part: the method that was best on held-out cases, or a simpler."""
    cases = take(base.cases, np.flatnonzero(~base.held_out))
    sizes = (len(cases.classes), len(cases.people))
    prices = prices_of(options, cases.people)
    answers = cases.answers
    utilities, wishes, free, rows = {}, {}, {}, []
    for name, reason in reasons.items():
        row: dict[str, object] = {
            "method": name,
            "label": METHODS[name].label,
            "reason": reason,
        }
        if not reason:
            known = Known(
                base.part.class_probs,
                base.chances,
                prices,
                options.ask,
                answers >= 0,
            )
            found = _held_out_outputs(name, sizes, options.how, nets.get(name), base)
            wishes[name] = decide_each(name, known, found)
            everybody = known._replace(available=np.ones_like(known.available))
            free[name] = functools.partial(decide_each, name, everybody, found)
            decision = within_limits(wishes[name], name, options, cases.people)
            gained = outcome(decision, base.part.labels, answers, prices)
            utilities[name] = gained["utility"]
            means = ("right", "deferral", "asked", "utility")
            row |= {key: float(gained[key].mean()) for key in means}
        rows.append(row)
    chosen = _simplest_of_the_best(utilities, cases.units)
    team = Team(
        base.encoder,
        cases.classes,
        cases.people,
        base.kind,
        {**base.params, "networks": nets},
        chosen,
        0.0,
        None,
        None,
        None,
        pd.DataFrame(rows),
        options,
        base.notes,
    )
    if not cases.people:
        return team
    if options.consult is not None:
        team = _with_sets(team, base, cases)
    past_scores = free[chosen]().defer_score
    if options.fair is not None:
        team = team._replace(by_group=groups.fit(wishes[chosen], cases, options))
    elif guaranteed(options):
        team = _certify(team, base, past_scores)
    return _with_past(team, past_scores, cases)


def _with_past(team: Team, scores: Array, cases: Cases) -> Team:
    """The team with scores of some cases, that prices of a stream start from."""
    drawn = np.random.default_rng(team.options.seed).permutation(len(scores))
    rows = np.sort(drawn[:_ENOUGH_PAST])
    cuts = np.full(len(rows), team.threshold)
    if team.by_group is not None:
        cuts = groups.thresholds_of(team.by_group, take(cases, rows))
    past = {
        "scores": np.asarray(scores, np.float32)[rows],
        "thresholds": cuts.astype(np.float32),
    }
    return team._replace(params={**team.params, "past": past})


def _with_sets(team: Team, base: _Base, fitted: Cases) -> Team:
    """The team with sets of people, and how likely it is that nobody is right."""
    assert team.options.consult is not None
    mapped = consult.fit_nobody(base.chances, _right(fitted), base.part.folds)
    rows = _one_a_unit(base, team.options.seed)
    _, found = known_of(team, base.inputs[rows])
    right = _right(take(base.cases, rows))
    sets = consult.fit(found.prob, right, team.people, team.options.consult)
    return team._replace(params={**team.params, "nobody": mapped}, consult=sets)


def _right(cases: Cases) -> np.ndarray:
    """Whether each person was right, float ``[N, M]``; NaN who was not asked."""
    right = cases.answers == cases.labels[:, None]
    return np.where(cases.answers >= 0, right, np.nan)


def _one_a_unit(base: _Base, seed: int) -> np.ndarray:
    """Rows that are held out, one of each unit, as those of one are not independent."""
    rows = np.flatnonzero(base.held_out)
    drawn = np.random.default_rng(seed).permutation(rows)
    _, first = np.unique(base.cases.units[drawn], return_index=True)
    return np.sort(drawn[first])


def _held_out_outputs(
    name: str,
    sizes: tuple[int, int],
    how: networks.Training,
    params: PyTree,
    base: _Base,
) -> np.ndarray | None:
    """Outputs for each case of the networks that were trained without it."""
    method = METHODS[name]
    if method.batch_loss is None:
        return None
    model = networks.network(method, *sizes, how)
    found = np.zeros((len(base.part.labels), method.num_outputs(*sizes)), np.float32)
    for fold in range(int(base.part.folds.max()) + 1):
        here = base.part.folds == fold
        member = jax.tree.map(lambda leaf, fold=fold: leaf[fold], params)
        found[here] = in_chunks(
            functools.partial(networks.outputs_of, model),
            member,
            base.part.inputs[here],
        )
    return found


def _certify(team: Team, base: _Base, past_scores: Array) -> Team:
    """The team with a threshold that keeps an error low, of kept cases or of all.

    Args:
      team: without one.
      base: of its part.
      past_scores: of cases that it was fitted to, without each, among all people, float
        ``[N, M]``: thresholds that are tried are fixed by them.
    """
    options = team.options
    rows = _one_a_unit(base, options.seed)
    held_out = take(base.cases, rows)
    # Among all people, as new cases are decided, whoever has answered.
    everybody = np.ones(held_out.answers.shape, bool)
    decided = scores(team, base.inputs[rows], everybody, team.method)
    found: guarantees.Certificate | guarantees.TeamCertificate | None
    if options.max_error is not None:
        greatest = np.max(np.asarray(decided.defer_score), axis=1)
        wrong = np.asarray(decisions.prediction(decided)) != held_out.labels
        found = guarantees.certify(
            greatest, wrong, options.max_error, options.confidence
        )
    else:
        assert options.max_team_error is not None
        known = (decided, held_out.labels, held_out.answers, _cuts(past_scores))
        least = guarantees.team_bounds(
            *known, confidence=options.confidence, unanswered_wrong=False
        ).min()
        # Where it cannot be had, what can be: `fit` refuses that.
        level = max(options.max_team_error, min(least * (1 + 1e-9), 1 - 1e-9))
        found = guarantees.certify_team(
            *known, level, options.confidence, unanswered_wrong=False
        )
    # Without a certificate nothing is kept that can be asked about.
    threshold = -np.inf if found is None else found.threshold
    return team._replace(threshold=threshold, certificate=found)


def _cuts(scores: Array) -> np.ndarray:
    """Thresholds to try, from all deferred to all kept, by quantiles of scores."""
    greatest = np.max(np.asarray(scores), axis=1)
    between = np.linspace(0.0, 1.0, _NUM_THRESHOLDS)[1:-1]
    cuts = np.quantile(greatest, between, method="lower")
    return np.unique(np.concatenate([[-np.inf], cuts, [np.inf]]))


def _simplest_of_the_best(utilities: dict[str, np.ndarray], units: np.ndarray) -> str:
    """The first that is within a standard error of the best; of units, paired."""
    best = max(utilities, key=lambda name: utilities[name].mean())
    _, number = np.unique(units, return_inverse=True)
    for name, utility in utilities.items():
        behind = utilities[best] - utility
        centred = np.bincount(number, behind - behind.mean())
        error = np.sqrt(np.square(centred).sum()) / len(behind)
        if behind.mean() <= error:
            return name
    return best
