"""From scores to decisions: who answers each input, the classifier or an expert.

Every rule asks the expert of the greatest ``defer_score`` where that is > 0; a tie of
experts asks the first, and a score of 0 keeps the input. A score that is NaN cannot be
decided upon, so the input is deferred.
"""

from l2d_jax.decisions.asymmetric import asymmetric_softmax_decision
from l2d_jax.decisions.decoupled import confidence_decision, decoupled_decision
from l2d_jax.decisions.mixture import mixture_of_experts_decision
from l2d_jax.decisions.one_vs_all import one_vs_all_decision
from l2d_jax.decisions.picce import picce_decision, picce_one_vs_all_decision
from l2d_jax.decisions.realizable import realizable_decision
from l2d_jax.decisions.references import (
    classifier_decision,
    expert_decision,
    majority_decision,
    oracle_decision,
)
from l2d_jax.decisions.rule import (
    action,
    allocate,
    among,
    answer,
    decide,
    known_answers,
    prediction,
    signed,
    vote,
)
from l2d_jax.decisions.softmax import (
    deferral_decision,
    multi_expert_decision,
    priced_deferral_decision,
)
from l2d_jax.decisions.thresholds import apply_threshold, threshold_for_coverage
from l2d_jax.decisions.two_stage import two_stage_decision

__all__ = [
    "action",
    "allocate",
    "among",
    "answer",
    "apply_threshold",
    "asymmetric_softmax_decision",
    "classifier_decision",
    "confidence_decision",
    "decide",
    "decoupled_decision",
    "deferral_decision",
    "expert_decision",
    "known_answers",
    "majority_decision",
    "mixture_of_experts_decision",
    "multi_expert_decision",
    "one_vs_all_decision",
    "oracle_decision",
    "picce_decision",
    "picce_one_vs_all_decision",
    "prediction",
    "priced_deferral_decision",
    "realizable_decision",
    "signed",
    "threshold_for_coverage",
    "two_stage_decision",
    "vote",
]
