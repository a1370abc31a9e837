"""The methods that are compared, by name.

  python -m experiments.methods

prints which of them can be had on which problem, and why not.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from experiments import measure
from experiments.method import Case, Method, Need, Policy
from l2d_jax import decisions
from l2d_jax.learners import halfspaces, mixture
from l2d_jax.learners.batches import experts_correct
from l2d_jax.policies import committees, one_threshold, thresholds
from l2d_jax.types import Batch, Decision, HParams

ONE_EXPERT = Need(lambda traits: traits.num_experts == 1, "takes one expert")
SEVERAL_EXPERTS = Need(lambda traits: traits.num_experts > 1, "takes several experts")
CLASSES = Need(lambda traits: traits.num_classes > 1, "needs classes")
ACTIONS = Need(
    lambda traits: traits.num_classes > 1 or traits.costs, "needs classes or costs"
)
TWO_CLASSES = Need(lambda traits: traits.num_classes == 2, "needs two classes")
TWO_GROUPS = Need(lambda traits: traits.num_groups == 2, "needs two groups")
MANY_GROUPS = Need(lambda traits: traits.num_groups > 1, "needs groups")
ANSWERS = Need(
    lambda traits: not traits.people, "needs answers to what it trains on, not a model"
)
COMPLETE = Need(
    lambda traits: traits.num_experts == 1 or not traits.sparse,
    "needs every expert's answer to every example",
)
FEW = Need(
    lambda traits: traits.few,
    f"takes at most {halfspaces.MAX_EXAMPLES:,} training examples",
)
HIDDEN = Need(lambda traits: traits.hidden, "needs inputs that only experts see")
PEOPLE = Need(lambda traits: traits.people, "needs a model of a person")
LAW = Need(lambda traits: traits.law, "needs a law that is known")

# Thresholds on uncertainty that are tried: quantiles of that of the examples.
_NUM_UNCERTAINTIES = 101


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


# What is decided after training.


def _label_one(batch: Batch) -> jax.Array:
    """The one expert's probability of label 1 of two."""
    if batch.expert_probs is not None:
        return jnp.asarray(batch.expert_probs)[:, 0, 1]
    assert batch.expert_labels is not None
    return (jnp.asarray(batch.expert_labels)[:, 0] == 1).astype(jnp.float32)


def _two_thresholds(objective: str) -> Callable[[Any], Policy]:
    """Two thresholds on a classifier's probability for each group."""

    def make(config: Any) -> Policy:
        def fit(
            key: jax.Array, hparams: HParams, decision: Decision, batch: Batch
        ) -> thresholds.Thresholds:
            probs = decision.class_probs[:, 1]
            assert batch.groups is not None
            return thresholds.search(
                key,
                probs,
                batch.groups,
                probs,
                batch.labels,
                batch.groups,
                _label_one(batch) if objective == "defer" else None,
                hparams["cost"],
                hparams["fairness"],
                config.threshold_draws,
            )

        def apply(
            key: jax.Array, chosen: Any, decision: Decision, batch: Batch
        ) -> Decision:
            del key
            assert batch.groups is not None
            passed = thresholds.apply_thresholds(
                chosen, decision.class_probs[:, 1], batch.groups
            ).astype(jnp.float32)
            allocation = jnp.stack([passed, 1.0 - passed], axis=1)
            return decision._replace(allocation=allocation)

        return Policy(fit, apply, ("cost", "fairness"))

    return make


def _uncertainty_threshold(objective: str) -> Callable[[Any], Policy]:
    """One threshold on a classifier's own score of passing, of least loss."""

    def make(config: Any) -> Policy:
        del config
        score = mixture.loss_score(objective, regularized=True)
        of_answers = ("smoothing",) if objective == "defer" else ()
        read = ("cost", "fairness", *of_answers)

        def fit(
            key: jax.Array, hparams: HParams, decision: Decision, batch: Batch
        ) -> jax.Array:
            del key
            seen = decision.defer_score[:, 0]
            candidates = jnp.quantile(seen, jnp.linspace(0.0, 1.0, _NUM_UNCERTAINTIES))

            def score_of(candidate: jax.Array) -> jax.Array:
                # So far from 0 that the gate is 0 or 1.
                gate = jnp.where(decision.defer_score > candidate, 1e4, -1e4)
                return score(decision._replace(defer_score=gate), batch, hparams)

            return candidates[jnp.argmax(jax.lax.map(score_of, candidates))]

        def apply(
            key: jax.Array, chosen: Any, decision: Decision, batch: Batch
        ) -> Decision:
            del key, batch
            return decisions.apply_threshold(decision, chosen)

        return Policy(fit, apply, read)

    return make


def _best_threshold(config: Any) -> Policy:
    """One threshold on the defer score, of the best team."""
    del config

    def fit(
        key: jax.Array, hparams: HParams, decision: Decision, batch: Batch
    ) -> jax.Array:
        del key, hparams
        correct, _ = experts_correct(batch, jnp.float32)
        return one_threshold.best_threshold(
            decisions.among(decision, measure.available(batch)),
            batch.labels,
            correct,
            batch.weights,
        )

    def apply(
        key: jax.Array, chosen: Any, decision: Decision, batch: Batch
    ) -> Decision:
        del key, batch
        return decisions.apply_threshold(decision, chosen)

    return Policy(fit, apply)


def _rates(batch: Batch) -> jax.Array:
    """How often each expert is right, float ``[M]``.

    With one right and one wrong answer more, so that two do not beat a hundred.
    """
    correct, known = experts_correct(batch, jnp.float32)
    return (jnp.sum(correct * known, axis=0) + 1.0) / (jnp.sum(known, axis=0) + 2.0)


def _weighted_vote(config: Any) -> Policy:
    """Votes weigh by the log-odds of being right over those of a guess.

    The best weights of experts who err independently, with every wrong class alike.
    """
    del config

    def fit(
        key: jax.Array, hparams: HParams, decision: Decision, batch: Batch
    ) -> jax.Array:
        del key, hparams
        rates = _rates(batch)
        num_others = decision.class_probs.shape[1] - 1
        return jnp.maximum(jnp.log(rates * num_others / (1.0 - rates)), 0.0)

    def apply(
        key: jax.Array, chosen: Any, decision: Decision, batch: Batch
    ) -> Decision:
        del key, batch
        everybody = decision.allocation[:, :-1]
        # Where nobody beats a guess all vote alike.
        votes = jnp.where(jnp.any(chosen > 0), chosen, 1.0) * everybody
        shares = votes / jnp.sum(votes, axis=1, keepdims=True)
        return decision._replace(allocation=jnp.pad(shares, ((0, 0), (0, 1))))

    return Policy(fit, apply)


def _best_experts(config: Any) -> Policy:
    """Ask the most accurate; the others stand by in the order of their accuracy."""
    del config

    def fit(
        key: jax.Array, hparams: HParams, decision: Decision, batch: Batch
    ) -> jax.Array:
        del key, hparams, decision
        return _rates(batch)

    def apply(
        key: jax.Array, chosen: Any, decision: Decision, batch: Batch
    ) -> Decision:
        del key, batch
        score = jnp.broadcast_to(chosen, decision.defer_score.shape)
        return decisions.decide(decision.class_probs, score)

    return Policy(fit, apply)


def _committee(config: Any) -> Policy:
    """A few seats drawn by the weights of the vote, of those who can be asked."""

    def fit(*args: Any) -> tuple[()]:
        return ()

    def apply(
        key: jax.Array, chosen: Any, decision: Decision, batch: Batch
    ) -> Decision:
        del chosen
        available = measure.available(batch)
        return committees.draw_committee(
            key, decisions.among(decision, available), config.committee_size
        )

    return Policy(fit, apply)


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


def _tuned(method: Method) -> Method:
    """The same, with a threshold of its score that validation chooses."""
    return method._replace(label=f"{method.label}, tuned", policy=_best_threshold)


METHODS = {
    **{
        key: row
        for name, method in _BY_SCORE.items()
        for key, row in ((name, method), (f"{name}_tuned", _tuned(method)))
    },
    "realizable": Method(
        "realizable surrogate",
        (CLASSES, ONE_EXPERT),
        ("realizable",),
        _first,
        (),
        _best_threshold,
    ),
    "selective": Method(
        "selective prediction", (CLASSES,), ("classifier",), _alone, (), _best_threshold
    ),
    "rejection_thresholds": Method(
        "reject by thresholds",
        (TWO_CLASSES, TWO_GROUPS, ONE_EXPERT),
        ("classifier",),
        _alone,
        ("cost",),
        _two_thresholds("reject"),
        ("threshold_draws",),
    ),
    "deferral_thresholds": Method(
        "defer by thresholds",
        (TWO_CLASSES, TWO_GROUPS, ONE_EXPERT, ANSWERS),
        ("classifier",),
        _alone,
        ("cost",),
        _two_thresholds("defer"),
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
        _uncertainty_threshold("reject"),
    ),
    "deferral_bayesian": Method(
        "defer, Bayesian",
        (TWO_CLASSES, TWO_GROUPS, ONE_EXPERT, ANSWERS),
        ("bayesian",),
        _first,
        ("cost", "smoothing"),
        _uncertainty_threshold("defer"),
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
        _committee,
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
    "expert": Method("best expert alone", (CLASSES,), (), _experts, (), _best_experts),
    "majority": Method("majority", (CLASSES, SEVERAL_EXPERTS), (), _majority),
    "weighted_vote": Method(
        "weighted vote",
        (CLASSES, SEVERAL_EXPERTS),
        (),
        _majority,
        (),
        _weighted_vote,
    ),
    "random_committee": Method(
        "random committee",
        (CLASSES, SEVERAL_EXPERTS),
        (),
        _majority,
        (),
        _committee,
        ("committee_size",),
    ),
    "oracle": Method("oracle router", (CLASSES, ANSWERS), ("classifier",), _oracle),
    "best_rule": Method("best rule", (LAW,), (), _law),
}
"""Methods by name, those that learn to defer first and references last."""
GROUPS = {
    "all": tuple(name for name in METHODS if not name.endswith("_tuned")),
    "tuned": tuple(f"{name}_tuned" for name in _BY_SCORE),
}
"""Names that stand for several methods: each by its own rule, and with a threshold that
validation chooses, in the same way for all."""


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
    notes.append(
        f"\nNAME_tuned, of {', '.join(_BY_SCORE)}: the same with a threshold of its"
        " score that validation chooses."
    )
    known = ", ".join(IMPUTERS)
    imputed = [name for name, row in PROBLEMS.items() if row.traits.people]
    notes.append(
        f"Imputers come first in {', '.join(imputed)}: {known}; in trips"
        f" {', '.join(trips.METHODS)}."
    )
    return "\n".join([*lines, "", *notes])


if __name__ == "__main__":
    print(matrix())
