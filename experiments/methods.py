"""The methods that are compared, by name.

  python -m experiments.methods

prints which of them can be had on which problem, and why not.
"""

import jax.numpy as jnp

from experiments import policies
from experiments.method import (
    ACTIONS,
    ANSWERS,
    CLASSES,
    COMPLETE,
    FEW,
    HIDDEN,
    LAW,
    MANY_GROUPS,
    ONE_EXPERT,
    PEOPLE,
    SEVERAL_EXPERTS,
    TWO_CLASSES,
    TWO_GROUPS,
    Case,
    Method,
    PolicyRow,
)
from experiments.policies import POLICIES
from l2d_jax import decisions
from l2d_jax.types import Decision, HParams


def _first(case: Case, hparams: HParams) -> Decision:
    """The training is a whole system."""
    del hparams
    return case.predictions[0]


def _alone(case: Case, hparams: HParams) -> Decision:
    """A classifier that keeps everything."""
    del hparams
    return decisions.classifier_decision(case.predictions[0], case.sizes[2])


def _bayesian_alone(case: Case, hparams: HParams) -> Decision:
    del hparams
    decision = case.predictions[0]
    keeps = jnp.zeros_like(decision.allocation).at[:, -1].set(1.0)
    return decision._replace(allocation=keeps)


def _confidence(case: Case, hparams: HParams) -> Decision:
    del hparams
    return decisions.confidence_decision(*case.predictions)


def _two_stage(case: Case, hparams: HParams) -> Decision:
    del hparams
    scores, class_probs = case.predictions
    return decisions.two_stage_decision(class_probs, scores)


def _rejector(case: Case, hparams: HParams) -> Decision:
    del hparams
    scores, class_probs = case.predictions
    return decisions.decide(class_probs, scores)


def _imputed(case: Case, hparams: HParams) -> Decision:
    """The model of the person against the classifier: nothing is trained for them."""
    del hparams
    prob = case.batch.expert_correct
    assert prob is not None
    prob = jnp.asarray(prob)
    return decisions.confidence_decision(
        case.predictions[0], jnp.where(jnp.isnan(prob), 0.0, prob)
    )


def _experts(case: Case, hparams: HParams) -> Decision:
    del hparams
    return decisions.expert_decision(*case.sizes)


def _majority(case: Case, hparams: HParams) -> Decision:
    del hparams
    return decisions.majority_decision(*case.sizes)


def _oracle(case: Case, hparams: HParams) -> Decision:
    del hparams
    answers = case.batch.expert_labels
    assert answers is not None
    return decisions.oracle_decision(case.predictions[0], case.batch.labels, answers)


def _law(case: Case, hparams: HParams) -> Decision:
    assert case.problem.law is not None
    return case.problem.law(case.inputs(), hparams)


_BY_SCORE = {
    "deferral": Method(
        "deferral cross-entropy", (CLASSES, ONE_EXPERT), ("deferral",), _first
    ),
    "one_vs_all": Method("one-vs-all", (CLASSES,), ("one_vs_all",), _first),
    "asymmetric_softmax": Method(
        "asymmetric softmax", (CLASSES, ONE_EXPERT), ("asymmetric_softmax",), _first
    ),
    "rl2d": Method("RL2D", (CLASSES, ONE_EXPERT), ("rl2d",), _first),
    "decoupled": Method("decoupled", (CLASSES,), ("decoupled",), _first),
    "multi_expert": Method(
        "softmax of many experts",
        (CLASSES, SEVERAL_EXPERTS),
        ("multi_expert",),
        _first,
    ),
    "picce": Method(
        "PiCCE", (CLASSES, SEVERAL_EXPERTS, COMPLETE, ANSWERS), ("picce",), _first
    ),
    "picce_one_vs_all": Method(
        "PiCCE, one-vs-all",
        (CLASSES, SEVERAL_EXPERTS, COMPLETE, ANSWERS),
        ("picce_one_vs_all",),
        _first,
    ),
    "mixture_of_experts": Method(
        "mixture of experts", (CLASSES,), ("mixture_of_experts",), _first
    ),
    "cost_sensitive": Method(
        "cost-sensitive", (ACTIONS, ONE_EXPERT), ("cost_sensitive",), _first
    ),
    "priced": Method("priced deferral", (CLASSES, ONE_EXPERT), ("priced",), _first),
    "triage": Method("triage", (CLASSES, ONE_EXPERT), ("triage",), _first),
    "two_stage": Method(
        "two-stage", (CLASSES, COMPLETE), ("two_stage", "classifier"), _two_stage
    ),
    "rejector": Method(
        "rejector after the classifier",
        (CLASSES, ONE_EXPERT),
        ("rejector", "classifier"),
        _rejector,
    ),
    "confidence": Method(
        "defer by confidence", (CLASSES,), ("classifier", "expert_model"), _confidence
    ),
    "imputed": Method(
        "defer by the model of the person",
        (CLASSES, ONE_EXPERT, PEOPLE),
        ("classifier",),
        _imputed,
    ),
    "mixture": Method("mixture", (CLASSES, ONE_EXPERT), ("mixture",), _first),
    "mixture_oracle": Method(
        "mixture, trained with an oracle",
        (CLASSES, ONE_EXPERT),
        ("mixture_oracle",),
        _first,
    ),
    "rejection": Method("rejection", (CLASSES, ONE_EXPERT), ("rejection",), _first),
}
"""Methods that ask where a score is > 0."""


def _with(method: Method, policy: PolicyRow) -> Method:
    """The same method with a policy behind it."""
    return method._replace(
        label=f"{method.label}, {policy.label}",
        needs=(*method.needs, *policy.needs),
        policy=policy.make,
        fields=(*method.fields, *policy.fields),
    )


METHODS = {
    **{
        key: row
        for name, method in _BY_SCORE.items()
        for key, row in (
            (name, method),
            *(
                (f"{name}_{key}", _with(method, policy))
                for key, policy in POLICIES.items()
                # What is imputed of a person is no answer.
                if not (PEOPLE in method.needs and ANSWERS in policy.needs)
            ),
        )
    },
    "realizable": Method(
        "realizable surrogate",
        (CLASSES, ONE_EXPERT),
        ("realizable",),
        _first,
        (),
        policies.best_threshold,
    ),
    "selective": Method(
        "selective prediction",
        (CLASSES,),
        ("classifier",),
        _alone,
        (),
        policies.best_threshold,
    ),
    "rejection_thresholds": Method(
        "reject by thresholds",
        (TWO_CLASSES, TWO_GROUPS, ONE_EXPERT),
        ("classifier",),
        _alone,
        ("cost",),
        policies.two_thresholds("reject"),
        ("threshold_draws",),
    ),
    "deferral_thresholds": Method(
        "defer by thresholds",
        (TWO_CLASSES, TWO_GROUPS, ONE_EXPERT, ANSWERS),
        ("classifier",),
        _alone,
        ("cost",),
        policies.two_thresholds("defer"),
        ("threshold_draws",),
    ),
    "bayesian": Method(
        "Bayesian classifier",
        (TWO_CLASSES, ONE_EXPERT),
        ("bayesian",),
        _bayesian_alone,
    ),
    "rejection_bayesian": Method(
        "reject, Bayesian",
        (TWO_CLASSES, TWO_GROUPS, ONE_EXPERT),
        ("bayesian",),
        _first,
        ("cost",),
        policies.uncertainty_threshold("reject"),
    ),
    "deferral_bayesian": Method(
        "defer, Bayesian",
        (TWO_CLASSES, TWO_GROUPS, ONE_EXPERT, ANSWERS),
        ("bayesian",),
        _first,
        ("cost", "smoothing"),
        policies.uncertainty_threshold("defer"),
    ),
    "joint": Method("joint", (CLASSES, SEVERAL_EXPERTS), ("joint",), _first),
    "joint_balanced": Method(
        "joint, balanced",
        (CLASSES, SEVERAL_EXPERTS, MANY_GROUPS),
        ("joint_balanced",),
        _first,
    ),
    "joint_minimax": Method(
        "joint, minimax",
        (CLASSES, SEVERAL_EXPERTS, MANY_GROUPS),
        ("joint_minimax",),
        _first,
    ),
    "joint_committee": Method(
        "joint, a committee",
        (CLASSES, SEVERAL_EXPERTS),
        ("joint",),
        _first,
        (),
        policies.committee,
        ("committee_size",),
    ),
    "milp": Method(
        "half-spaces, by integer program",
        (TWO_CLASSES, ONE_EXPERT, ANSWERS, FEW),
        ("milp",),
        _first,
    ),
    "classifier": Method("classifier alone", (CLASSES,), ("classifier",), _alone),
    "informed": Method(
        "classifier with the experts' inputs",
        (CLASSES, HIDDEN),
        ("informed",),
        _alone,
    ),
    "expert": Method(
        "best expert alone", (CLASSES,), (), _experts, (), policies.best_experts
    ),
    "majority": Method("majority", (CLASSES, SEVERAL_EXPERTS), (), _majority),
    "weighted_vote": Method(
        "weighted vote",
        (CLASSES, SEVERAL_EXPERTS),
        (),
        _majority,
        (),
        policies.weighted_vote,
    ),
    "dawid_skene": Method(
        "Dawid and Skene's vote",
        (CLASSES, SEVERAL_EXPERTS, ANSWERS),
        (),
        _majority,
        (),
        policies.dawid_skene,
    ),
    "random_committee": Method(
        "random committee",
        (CLASSES, SEVERAL_EXPERTS),
        (),
        _majority,
        (),
        policies.committee,
        ("committee_size",),
    ),
    "oracle": Method("oracle router", (CLASSES, ANSWERS), ("classifier",), _oracle),
    "best_rule": Method("best rule", (LAW,), (), _law),
}
"""Methods by name, those that learn to defer first and references last."""
_OF_POLICIES = {
    key: tuple(f"{name}_{key}" for name in _BY_SCORE if f"{name}_{key}" in METHODS)
    for key in POLICIES
}
GROUPS = {
    "all": tuple(
        name
        for name in METHODS
        if not any(name in key for key in _OF_POLICIES.values())
    ),
    **_OF_POLICIES,
}
"""Names that stand for several methods: each by its own rule, and each with a policy,
chosen in the same way for all."""


def matrix() -> str:
    """Which method can be had on which problem, as text, with the reasons."""
    from experiments import trips
    from experiments.imputers import IMPUTERS
    from experiments.problems import PROBLEMS

    width = max(map(len, GROUPS["all"]))
    lines = [" " * width + "  " + "  ".join(PROBLEMS)]
    reasons: dict[str, int] = {}
    for name in GROUPS["all"]:
        method, cells = METHODS[name], []
        for problem, row in PROBLEMS.items():
            whys = [need.why for need in method.needs if not need.holds(row.traits)]
            numbers = [reasons.setdefault(why, len(reasons) + 1) for why in whys]
            mark = f"({','.join(map(str, numbers))})" if whys else "yes"
            cells.append(mark.ljust(len(problem)))
        lines.append(f"{name.ljust(width)}  " + "  ".join(cells).rstrip())
    notes = [f"({number}) {why}" for why, number in reasons.items()]
    notes.append(f"\nOf {', '.join(_BY_SCORE)} there is also")
    for key, policy in POLICIES.items():
        needs = "; ".join(need.why for need in policy.needs)
        more = f" ({needs})" if needs else ""
        notes.append(f"NAME_{key}: {policy.meaning}{more}.")
    known = ", ".join(IMPUTERS)
    imputed = [name for name, row in PROBLEMS.items() if row.traits.people]
    notes.append(
        f"Imputers come first in {', '.join(imputed)}: {known}; in trips"
        f" {', '.join(trips.METHODS)}."
    )
    return "\n".join([*lines, "", *notes])


if __name__ == "__main__":
    print(matrix())
