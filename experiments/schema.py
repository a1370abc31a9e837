"""Every config field once: its type, its bounds and what it means.

`check` is the one check of all programs. A message is one line that names the field,
what it may be, and what it is.
"""

import difflib
import math
import numbers
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import ml_collections
import numpy as np

from experiments.runtime.errors import ConfigError
from l2d_jax.engine import placement
from l2d_jax.models.convolutions import IMPLEMENTATIONS
from l2d_jax.policies import fair_thresholds

_LARGEST = 2**31 - 1

Check = Callable[[str, Any], None]
"""``(field, value)``; raises `ConfigError`."""


class Field(NamedTuple):
    """A config field.

    Attributes:
      check: of its value.
      meaning: what it is, with its unit.
    """

    check: Check
    meaning: str


def nearest(name: Any, known: Iterable[Any]) -> str:
    """A guess at which of the known names was meant, as a question; or empty."""
    texts = list(map(str, known))
    near = difflib.get_close_matches(str(name), texts, n=3, cutoff=0.6)
    return f"did you mean {' or '.join(near)}?" if near else ""


# Checks of single values.


def one_of(known: Iterable[Any]) -> Check:
    """One of the known names."""
    known = tuple(known)

    def check(field: str, value: Any) -> None:
        if value not in known:
            names = ", ".join(map(str, known))
            guess = nearest(value, known)
            hint = f" ({guess})" if guess else ""
            raise ConfigError(f"{field} must be one of {names}, got {value!r}{hint}")

    return check


def whole(low: int, high: float = math.inf) -> Check:
    """A whole number from low to high."""

    def check(field: str, value: Any) -> None:
        is_whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
        if is_whole and high == math.inf and value > _LARGEST:
            raise ConfigError(
                f"{field} must be a whole number of 31 bits, at most {_LARGEST}, got"
                f" {value!r}"
            )
        if not is_whole or not low <= value <= high:
            limit = f">= {low}" if high == math.inf else f"in {low}..{high}"
            raise ConfigError(f"{field} must be a whole number {limit}, got {value!r}")

    return check


def number(low: float, high: float = math.inf, *, above: bool = False) -> Check:
    """A finite number from low to high, or above low."""

    def check(field: str, value: Any) -> None:
        is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
        inside = is_number and low <= value <= high and abs(value) != math.inf
        if not inside or (above and value == low):
            limit = f"in [{low:g}, {high:g}]"
            if high == math.inf:
                limit = f"> {low:g}" if above else f">= {low:g}"
            elif above:
                limit = f"in ({low:g}, {high:g}]"
            raise ConfigError(f"{field} must be a finite number {limit}, got {value!r}")
        single = _as_computed(value)
        # What is smaller than a normal number is 0 on most devices.
        if value and not np.finfo(np.float32).tiny <= abs(single) < np.inf:
            raise ConfigError(
                f"{field} must keep its value as float32, which it is computed with:"
                f" 0, or from 1.2e-38 to 3.4e38, got {value!r}"
            )
        # JAX takes a whole number for one of 31 bits, whatever it is computed with.
        if isinstance(value, numbers.Integral) and abs(int(value)) > _LARGEST:
            raise ConfigError(
                f"{field} must be written as {float(value)!r}: a whole number has 31"
                f" bits at most, got {value!r}"
            )

    return check


def _as_computed(value: Any) -> Any:
    """A number as float32, infinite where it is too large; the text of others."""
    if not isinstance(value, numbers.Real):
        return str(value)
    try:
        with np.errstate(over="ignore", under="ignore"):
            return float(np.float32(float(value)))
    except OverflowError:
        return math.inf


def flag(field: str, value: Any) -> None:
    """True or False."""
    if not isinstance(value, bool):
        raise ConfigError(f"{field} must be True or False, got {value!r}")


def text(field: str, value: Any) -> None:
    """Any text."""
    if not isinstance(value, str):
        raise ConfigError(f"{field} must be text, got {value!r}")


def many(
    check: Check, *, least: int = 1, rising: bool = False, distinct: bool = True
) -> Check:
    """A list or tuple of values that each pass a check."""

    def check_all(field: str, values: Any) -> None:
        if not isinstance(values, list | tuple) or len(values) < least:
            some = "at least one value" if least == 1 else f"at least {least} values"
            if least == 0:
                some = "a list of values"
            raise ConfigError(f"{field} must hold {some}, got {values!r}")
        for value in values:
            check(field, value)
        seen = [_as_computed(value) for value in values]
        if rising and seen != sorted(set(seen)):
            raise ConfigError(
                f"{field} must increase, without repeats, got {tuple(values)}"
            )
        if distinct and len(set(seen)) < len(values):
            raise ConfigError(f"{field} must not repeat a value, got {tuple(values)}")

    return check_all


def several(check: Check, size: int) -> Check:
    """So many values that each pass a check."""
    all_pass = many(check, distinct=False)

    def check_size(field: str, values: Any) -> None:
        all_pass(field, values)
        if len(values) != size:
            raise ConfigError(f"{field} must hold {size} values, got {values!r}")

    return check_size


def group(*required: str) -> Check:
    """A group of fields, each of which has its own entry below."""

    def check(field: str, value: Any) -> None:
        if not isinstance(value, ml_collections.ConfigDict):
            raise ConfigError(
                f"{field} must be a group of fields, got {value!r}; set one of them,"
                f" as --config.{field}.NAME=VALUE"
            )
        for name in required:
            if name not in value:
                raise ConfigError(f"{field}.{name} is missing; add it to the config")

    return check


_FRACTION = number(0.0, 1.0)
_SIZE, _COUNT = whole(1), whole(0)
_SEED = whole(0, 2**31 - 1)
_POSITIVE = number(0.0, above=True)
_NOT_NEGATIVE = number(0.0)

FIELDS: dict[str, Field] = {
    "experiment": Field(text, "Name of the experiment, as in tables."),
    "problem": Field(text, "What is learned; one of experiments.problems."),
    "methods": Field(
        many(text), "Names or groups of experiments.methods; all: those to be had."
    ),
    "data_dir": Field(text, "Where data lives; empty: L2D_DATA_DIR, or a cache."),
    "seed": Field(_SEED, "Of the whole experiment; those of runs are 0, 1, ..."),
    "num_seeds": Field(_SIZE, "Runs of each setting."),
    "choose": Field(
        one_of(("per_seed", "over_seeds")),
        "Whether each seed chooses its hyperparameters on its validation part, or all"
        " choose together; then every setting is reported on the test part too.",
    ),
    "references": Field(
        many(text, least=0), "Methods that the others are compared with."
    ),
    # Hyperparameters.
    "grid": Field(group("learning_rate"), "Values of each hyperparameter."),
    "grid.learning_rate": Field(many(_POSITIVE), "Of the optimizer."),
    "grid.weight_decay": Field(many(_NOT_NEGATIVE), "Added to the gradient."),
    "grid.alpha": Field(
        many(_NOT_NEGATIVE), "Weight of the label where the expert is right."
    ),
    "grid.cost": Field(many(number(0.0, 1e4), rising=True), "Price of passing, nats."),
    "grid.price": Field(many(_NOT_NEGATIVE), "Price of asking, errors."),
    "grid.fairness": Field(
        many(number(0.0, 1e4), rising=True), "Weight of equalized odds."
    ),
    "grid.smoothing": Field(
        many(number(0.0, 0.5, above=True)),
        "Probability that a hard answer leaves to the other classes.",
    ),
    "grid.mix": Field(
        many(_FRACTION), "Weight of the realizable surrogate against the classifier's."
    ),
    "grid.q": Field(many(number(0.0, 1.0, above=True)), "Of the loss RL2D; 1: linear."),
    "grid.warm": Field(many(_FRACTION), "Share of the steps of RL2D before its q is."),
    "grid.expert_weight": Field(
        many(_POSITIVE), "Of the experts' terms in the decoupled loss."
    ),
    "grid.budget": Field(many(_FRACTION), "Share that triage leaves to the human."),
    "grid.dropout": Field(many(_FRACTION), "Share of answers dropped in training."),
    "grid.cost_weight": Field(many(_NOT_NEGATIVE), "Of experts' share of the vote."),
    "grid.l1_penalty": Field(many(_NOT_NEGATIVE), "Of half-spaces, in errors."),
    "grid.step_exponent": Field(
        many(_POSITIVE), "c: the vote's loss counts 1 - t^-c at step t."
    ),
    # Training.
    "optimizer": Field(
        one_of(("sgd", "plain_sgd", "adam")),
        "sgd has Nesterov momentum and cosine decay.",
    ),
    "momentum": Field(_FRACTION, "Of sgd."),
    "batch_size": Field(_SIZE, "Examples of a minibatch."),
    "num_epochs": Field(_SIZE, "At most."),
    "expert_model_epochs": Field(_SIZE, "The same of models of experts."),
    "minimax_epochs": Field(_SIZE, "The same of all rounds of minimax training."),
    "patience": Field(
        _SEED, "Epochs without a better validation score; 0 never stops."
    ),
    "best_epoch": Field(
        one_of(("accuracy", "loss")),
        "By which validation score a classifier's best epoch is chosen.",
    ),
    "valid_fraction": Field(_FRACTION, "Share of the pool to validate on."),
    "crop_padding": Field(
        _COUNT, "Pixels of random shift, with flips; 0 does neither."
    ),
    "sampled": Field(flag, "Sample the gate of the mixture in the loss too."),
    "temperature": Field(number(1e-6), "Of the Concrete relaxation."),
    "threshold_draws": Field(_SIZE, "Thresholds that are tried."),
    "committee_size": Field(_SIZE, "Seats of a committee; odd leaves no tie of two."),
    "bayesian": Field(group("model"), "The Bayesian network."),
    "bayesian.num_samples": Field(whole(2), "J, samples of the weights."),
    "bayesian.prior_deviation": Field(number(1e-6), "Of each weight."),
    "joint": Field(group("deferrer", "minimax_rounds"), "Joint deferral to many."),
    "joint.minimax_rounds": Field(_SIZE, "Pairs that are trained in turn."),
    "policy": Field(
        group("max_deferral", "expert_share", "criterion", "tolerance"),
        "What is decided after training, of the methods NAME_POLICY.",
    ),
    "policy.max_deferral": Field(_FRACTION, "Share of the examples deferred at most."),
    "policy.expert_share": Field(_FRACTION, "Of all examples, that an expert answers."),
    "policy.criterion": Field(
        one_of(fair_thresholds.CRITERIA), "What groups are to share."
    ),
    "policy.tolerance": Field(_FRACTION, "How far groups may differ in it."),
    "milp": Field(group("time_limit"), "The integer program of two half-spaces."),
    "milp.time_limit": Field(_POSITIVE, "Seconds of a run; then the best found."),
    # Running.
    "placement": Field(
        one_of(("auto", *placement.KINDS)), "How runs lie on the devices."
    ),
    "runs_per_device": Field(_SEED, "0 chooses by backend and model."),
    "epochs_per_dispatch": Field(_SIZE, "Epochs of a compiled call."),
    "eval_batch_size": Field(_SIZE, "Examples that a prediction holds at once."),
    "checkpoint_seconds": Field(_NOT_NEGATIVE, "Least time between checkpoints."),
    # Problems.
    "images": Field(
        one_of(("digits", "cifar10", "keswani_mturk")), "Examples that people answer."
    ),
    "num_perfect": Field(
        many(whole(0, 10), rising=True), "k: classes a specialist is perfect on."
    ),
    "panel": Field(
        many(many(whole(0)), least=2, distinct=False), "Classes each expert knows."
    ),
    "num_examples": Field(whole(10), "That are drawn, of a synthetic problem."),
    "num_test": Field(whole(10), "Test examples of each seed of half-spaces."),
    "input_law": Field(one_of(("uniform", "mixture")), "Of inputs of half-spaces."),
    "scenarios": Field(
        many(one_of(("accurate", "biased", "inconsistent"))), "Decision-makers."
    ),
    "decision_maker": Field(
        one_of(("auto", "given", "trained")), "Where decision-makers come from."
    ),
    "biased_fairness": Field(number(-1e4, -1e-9), "Of a trained one that is unfair."),
    "flip_rate": Field(_FRACTION, "Of a trained one that is inconsistent."),
    "texts": Field(
        one_of(("keswani_mturk", "annwithattitudes", "hs_brexit")), "Texts."
    ),
    "answers": Field(
        one_of(("all", "one")), "Everybody who answered, or one of them, drawn."
    ),
    "features": Field(one_of(("tfidf", "hashing", "embedding")), "Of texts."),
    "num_features": Field(_SIZE, "Of texts, or of inputs that are drawn."),
    "num_folds": Field(whole(2), "Of repeated cross-validation."),
    "test_fraction": Field(_FRACTION, "Of all tweets, to report on."),
    "panel_size": Field(whole(2, 10), "Experts, the first of hatespeech.PANEL."),
    # A table of one's own.
    "cases": Field(text, "CSV file, a row for each case; empty: the example."),
    "answers_file": Field(text, "CSV file of case, expert, answer; empty: experts."),
    "id": Field(text, "Column that names the case; empty: none, rows are counted."),
    "label": Field(text, "Column of what the case was."),
    "experts": Field(many(text, least=0), "Columns of people's answers."),
    "group": Field(text, "Column of the group that a case is of; empty: none."),
    "split_by": Field(text, "Column of what is never split; empty: each is its own."),
    "text": Field(many(text, least=0), "Columns that are texts."),
    "category": Field(many(text, least=0), "Columns of names, though of numbers."),
    "scores": Field(many(text, least=0), "Columns of your model's probabilities."),
    "positive": Field(text, "Of two classes the one whose probability scores are."),
    "exclude": Field(many(text, least=0), "Columns that are no features."),
    # Particular persons.
    "imputers": Field(many(text), "Names of experiments.imputers."),
    "tune": Field(
        one_of(("head", "network")), "Whether heads on features are fitted, or all."
    ),
    "people": Field(group("sources"), "Whose answers there are."),
    "people.sources": Field(many(text), "Names of experiments.people."),
    "people.budget": Field(whole(1), "Answers of a synthetic person, half to tune."),
    "people.real_budget": Field(whole(2), "The same of a real one, at most."),
    "people.human_fraction": Field(
        number(0.01, 0.99), "Share of the examples that people answer."
    ),
    "people.reserved": Field(_COUNT, "Training images for people who answered those."),
    "people.unlabelled": Field(_COUNT, "Examples to impute answers on; 0 takes all."),
    "people.crowd": Field(one_of(("simulated", "cifar10h")), "Who else answers."),
    "people.crowd_images": Field(_SIZE, "Which the crowd answers, and nobody else."),
    "people.crowd_people": Field(_SIZE, "Of a simulated crowd."),
    "people.crowd_answers": Field(_SIZE, "Of each."),
    "people.crowd_skill": Field(
        several(_POSITIVE, 2), "Beta: chance of being right, by person and class."
    ),
    "people.folds": Field(whole(2), "A person's crowd is who is in other folds."),
    "people.max_people": Field(_COUNT, "Of a source, drawn at random; 0 takes all."),
    "people.raw_file": Field(text, "Your cifar10h-raw.zip."),
    "people.num_answers": Field(
        many(_COUNT, rising=True), "Of a new person, to know them by."
    ),
    "people.num_known": Field(
        many(_COUNT, rising=True), "Classes that a new specialist knows."
    ),
    "people.right_elsewhere": Field(_FRACTION, "Their accuracy on the others."),
    "base": Field(group("model", "learning_rate"), "The network that gives features."),
    "base.num_epochs": Field(_SIZE, "At most."),
    "base.batch_size": Field(_SIZE, "Examples of a minibatch."),
    "base.learning_rate": Field(_POSITIVE, "Of the optimizer."),
    "base.weight_decay": Field(_NOT_NEGATIVE, "Added to the gradient."),
    "human_model_epochs": Field(_SIZE, "n, of the model of a person."),
    "human_model_batch_size": Field(_SIZE, "Examples of a minibatch."),
    "human_model_learning_rate": Field(_POSITIVE, "Of Adam, on others."),
    "finetune_learning_rate": Field(_POSITIVE, "Of Adam, on the person."),
    "finetune_ratio": Field(_POSITIVE, "lambda: epochs on the person, over n."),
    "class_weights": Field(flag, "Whether right and wrong answers weigh the same."),
    "self_training_threshold": Field(_FRACTION, "Least probability of a pseudo-label."),
    "propagation": Field(group("num_neighbors"), "Along a graph of similar examples."),
    "propagation.num_neighbors": Field(_SIZE, "Of each example."),
    "propagation.num_steps": Field(_COUNT, "Of the iteration."),
    "propagation.retention": Field(number(0.0, 0.9999), "Share passed on a step."),
    "propagation.prior_answers": Field(_POSITIVE, "Worth of the aggregate model."),
    "context": Field(
        group("reads", "encoder"), "A rejector that reads a person's answers."
    ),
    "context.reads": Field(
        one_of(("class_probs", "features")), "Of the examples, by the base network."
    ),
    "context.embedding": Field(_SIZE, "Size of embedded classes and answers."),
    "context.encoder": Field(many(_SIZE, distinct=False), "Units of an answer's net."),
    "context.rejector": Field(
        many(_SIZE, least=0, distinct=False), "Units of hidden layers."
    ),
    "context.num_heads": Field(_SIZE, "Of attention."),
    "context.max_size": Field(_COUNT, "Answers of a context in training, at most."),
    "context.batch_size": Field(_SIZE, "People and answers of a minibatch."),
    "context.num_steps": Field(_SIZE, "Updates."),
    "context.learning_rate": Field(_POSITIVE, "Of Adam."),
    "population": Field(group("overall", "by_class"), "The prior of people."),
    "population.overall": Field(many(_POSITIVE), "Scales of skill, log-odds."),
    "population.by_class": Field(many(_POSITIVE), "The same of single classes."),
    "population.image_scales": Field(many(_POSITIVE), "Scales of difficulty."),
}
"""Fields by path. A field that is not here is an error of the config file."""

ZOO = {
    "experiment": FIELDS["experiment"],
    "parts": Field(group(), "Configs of experiments.deferral, by name."),
}
"""Fields of experiments.zoo."""

_MINUTES = number(-1e4, 1e4)
_SHARED = {
    name: FIELDS[name]
    for name in ("seed", "num_seeds", "data_dir", "placement", "runs_per_device")
}
TRIPS = _SHARED | {
    "num_repetitions": Field(_SIZE, "People, each in a world of their own."),
    "methods": Field(many(text), "Ways to model the person: experiments.trips."),
    "finetune_trips": Field(many(_COUNT, rising=True), "Of the person, to tune with."),
    "num_drivers": Field(whole(3), "n, the person included."),
    "trips_per_driver": Field(whole(2), "k; half of the person's are for the test."),
    "num_unlabelled": Field(_COUNT, "l, trips that nobody drove."),
    "conditions": Field(one_of(("uniform", "binary")), "Rain and darkness."),
    "world": Field(group("driver_rates"), "Drivers and car, in minutes."),
    "world.driver_rates": Field(
        several(_NOT_NEGATIVE, 3), "Poisson: base, rain, dark."
    ),
    "world.driver_deviations": Field(several(_NOT_NEGATIVE, 3), "Of the same."),
    "world.constant_mean": Field(_MINUTES, "Of the car at its own pace."),
    "world.constant_deviation": Field(_NOT_NEGATIVE, "Of the same."),
    "world.dependent_means": Field(several(_MINUTES, 3), "Base, rain, dark."),
    "world.dependent_deviations": Field(several(_NOT_NEGATIVE, 3), "Of the same."),
    "human_model": Field(group("hidden"), "The model of the person."),
    "human_model.hidden": Field(many(_SIZE, least=0, distinct=False), "Units."),
    "human_model.center": Field(_MINUTES, "What output 0 stands for."),
    "human_model.scale": Field(_POSITIVE, "Minutes of an output of 1 more."),
    "human_model.num_epochs": Field(_SIZE, "n, on other people."),
    "human_model.finetune_factor": Field(_NOT_NEGATIVE, "lambda: of n, on the person."),
    "human_model.learning_rate": Field(_POSITIVE, "Of Adam, on others."),
    "human_model.finetune_learning_rate": Field(_POSITIVE, "On the person."),
    "human_model.batch_size": Field(_SIZE, "Trips of a minibatch."),
    "human_model.individual_batch_size": Field(_SIZE, "Of the person's alone."),
    "human_model.balance_classes": Field(flag, "Class weights in fine-tuning."),
    "human_model.threshold": Field(_NOT_NEGATIVE, "Of self-training, minutes."),
    "rejector": Field(group("hidden"), "The rejector-classifier."),
    "rejector.hidden": Field(many(_SIZE, least=0, distinct=False), "Units."),
    "rejector.num_epochs": Field(_SIZE, "Of training."),
    "rejector.learning_rate": Field(_POSITIVE, "Of Adam."),
    "rejector.batch_size": Field(_SIZE, "Trips of a minibatch."),
}
"""Fields of `experiments.trips`."""
ALLOCATION = _SHARED | {
    "task": Field(one_of(("clusters", "bias", "texts")), "Which study."),
    "run": Field(many(text, least=0), "Names of those below to run; empty for all."),
    "scenarios": Field(group(), "Of clusters, by name."),
    "datasets": Field(group(), "Of texts, by name."),
    # Of bias.
    "num_annotators": Field(whole(2), "M."),
    "alphas": Field(
        many(number(0.01, 0.99)), "Share of annotators biased against group 0."
    ),
    "gammas": Field(
        many(_FRACTION), "How little the prior knows: 0 is all, 1 nothing."
    ),
    "committee_sizes": Field(many(_SIZE), "k."),
    "num_tasks": Field(_SIZE, "Of a stream."),
    "num_windows": Field(_SIZE, "Parts of the stream that are measured."),
    "num_test_tasks": Field(whole(2), "Held out."),
    "rate": Field(_FRACTION, "Of rewards and penalties."),
}
"""Fields of `experiments.allocation`; those of a scenario or data set are `STREAM`."""
STREAM = {
    "methods": Field(many(text), "Names of experiments.streams.methods."),
    "num_seeds": FIELDS["num_seeds"],
    "num_windows": ALLOCATION["num_windows"],
    "batch_size": Field(_SIZE, "Tasks between two updates."),
    "committee_size": Field(_COUNT, "Seats; 0: everybody votes."),
    "replace": Field(flag, "Whether seats are drawn with replacement."),
    "learning_rate": Field(_NOT_NEGATIVE, "Of gradient descent."),
    "fade": Field(_NOT_NEGATIVE, "T_d of Smooth-Matching, tasks."),
    "model": Field(group("body", "form", "feedback"), "Of the allocation."),
    "model.body": Field(one_of(("linear", "rbf", "mlp")), "Its features."),
    "model.hidden": Field(many(_SIZE, least=0, distinct=False), "Units of mlp."),
    "model.rbf_per_axis": Field(_SIZE, "Centres of rbf."),
    "model.rbf_width": Field(_POSITIVE, "Of each."),
    "model.form": Field(one_of(("sigmoid", "softmax")), "Of the weights."),
    "model.feedback": Field(
        one_of(("agreement", "committee", "reward")), "What it learns from."
    ),
    "pretraining": Field(group("num_steps"), "Of Strict-Matching."),
    "pretraining.num_tasks": Field(_SIZE, "Tasks of known category."),
    "pretraining.num_steps": Field(_SIZE, "Updates."),
    "pretraining.batch_size": Field(_SIZE, "Tasks of a minibatch."),
    "pretraining.learning_rate": Field(_POSITIVE, "Of gradient descent."),
    "pretraining.num_restarts": Field(_SIZE, "The best of them stays."),
    "competence": Field(group("base"), "Ours; see l2d_jax.crowds.competence."),
    "competence.base": Field(
        number(0.01, 0.99), "Of whom the prior says no more than of others."
    ),
    "competence.trust": Field(_NOT_NEGATIVE, "In the prior."),
    "competence.least": Field(_FRACTION, "Least that the prior can say."),
    "competence.pool_answers": Field(_POSITIVE, "That the prior counts as."),
    "competence.own_answers": Field(_POSITIVE, "That the pool counts as."),
    "competence.explore": Field(_NOT_NEGATIVE, "Deviations added to the mean."),
    "competence.allocates": Field(flag, "Whether it chooses, or only labels."),
    # Of clusters.
    "num_annotators": Field(whole(3), "Each knows one of three clusters."),
    "tasks_per_cluster": Field(whole(10), "Tasks."),
    "test_fraction": Field(number(0.01, 0.99), "Held out."),
    "accuracy": Field(_FRACTION, "Of an annotator on what they know,"),
    "other_accuracy": Field(_FRACTION, "and on the rest."),
    "strengths": Field(many(_FRACTION), "sU, of the prior."),
    "misplaced": Field(many(_FRACTION), "Share whom the prior has wrong."),
    "costs": Field(many(_NOT_NEGATIVE, least=0, distinct=False), "Of each annotator."),
    "cost_rate": Field(_NOT_NEGATIVE, "How much a unit counts against asking."),
    # Of texts.
    "truths": Field(
        many(one_of(("objective", "subjective"))),
        "Labels from outside, or the majority of who suits the category.",
    ),
    "prior": Field(
        one_of(("similarity", "qualification")),
        "What the data say of annotators, or their answers to tasks of known truth.",
    ),
    "num_gold": Field(_COUNT, "Tasks of known truth that qualify annotators."),
    "features": FIELDS["features"],
    "num_features": FIELDS["num_features"],
    "num_folds": FIELDS["num_folds"],
}
"""Fields of one scenario or data set of `ALLOCATION`."""


CLAIMS = {
    "scale": Field(one_of(("smoke", "default", "paper")), "Of what is run here."),
    "run": Field(many(text, least=0), "Sources that are run if they have no folder."),
    "results": Field(group(), "Work folder of each source; empty: none."),
    "tolerance": Field(_FRACTION, "By how much a system may be worse, in accuracy."),
}
"""Fields of `experiments.claims`."""


def _depth(field: str, value: Any) -> None:
    whole(10)(field, value)
    if value % 6 != 4:
        raise ConfigError(f"{field} must be 6n + 4, got {value}")


_LAYERS = many(whole(1), least=0, distinct=False)
_DTYPE = one_of(("float32", "bfloat16"))
NETWORKS: dict[str, dict[str, Callable[[str, Any], None]]] = {
    "mlp": {"hidden": _LAYERS},
    "convnet": {
        "channels": many(whole(1), distinct=False),
        "window": whole(1),
        "hidden": _LAYERS,
        "dtype": _DTYPE,
    },
    "wide_resnet": {
        "depth": _depth,
        "width": whole(1),
        "stem_stride": whole(1),
        "dtype": _DTYPE,
    },
    "gated_pair": {"hidden": whole(1)},
}
"""Sizes that each network needs, and what each must be."""
_NETWORK_OPTIONS = {
    "mlp": {"activation": one_of(("relu", "sigmoid", "tanh"))},
    "wide_resnet": {"convolution": one_of(IMPLEMENTATIONS)},
}
_NETWORK_FIELDS = (
    "model",
    "base.model",
    "expert_model",
    "human_model",
    "bayesian.model",
    "joint.deferrer",
)


def check_network(field: str, config: Any) -> None:
    """Check the description of a network.

    Raises:
      ConfigError: a value cannot be used.
    """
    group("name")(field, config)
    one_of(NETWORKS)(f"{field}.name", config.name)
    for part, check_part in NETWORKS[config.name].items():
        if part not in config:
            raise ConfigError(
                f"{field}.{part} is missing, which {config.name} needs; add it to the"
                " config file"
            )
        check_part(f"{field}.{part}", config[part])
    for part, check_part in _NETWORK_OPTIONS.get(config.name, {}).items():
        if part in config:
            check_part(f"{field}.{part}", config[part])


_PAIRS = many(several(_SIZE, 2))
_TEXTS = several(text, 2)
_SIZES_OF_RUNS = {
    "rows": Field(whole(2), "Examples."),
    "valid_rows": Field(_SIZE, "Of them, to validate on."),
    "epochs": Field(_SIZE, "Of every run."),
}


def _below(group_name: str, fields: Mapping[str, Field]) -> dict[str, Field]:
    return {f"{group_name}.{name}": field for name, field in fields.items()}


def _trial(field: str, value: Any) -> None:
    many(lambda field, value: None, distinct=False)(field, value)
    if len(value) != 4:
        raise ConfigError(
            f"{field} must hold network, precision, kind and runs, got {value!r}"
        )
    name, precision, kind, runs = value
    text(field, name)
    one_of(("default", "float32", "tf32", "bfloat16"))(field, precision)
    one_of(placement.KINDS)(field, kind)
    _SIZE(field, runs)


BENCHMARK = {
    "repeats": Field(_SIZE, "Times that each variant is timed."),
    "workloads": Field(many(text), "What is timed; see experiments.benchmark."),
    "hidden": Field(many(_SIZE), "Units of the pairs of small nets."),
    **_SIZES_OF_RUNS,
    "widths": Field(many(_SIZE), "Runs of a sweep, of the first of hidden."),
    "other_widths": Field(many(_SIZE), "The same of the others."),
    "stacked_widths": Field(many(_SIZE), "The same of PyTorch's, stacked by hand."),
    "peer_epochs": Field(_SIZE, "Of what is slower, timed by the epoch."),
    "digits_seeds": Field(_SIZE, "Runs."),
    "digits_epochs": Field(_SIZE, "Of every run."),
    "digits_peer_epochs": Field(_SIZE, "Of PyTorch's."),
    "fair": Field(group("rows", "valid_rows", "batch"), "The same with fairness."),
    **_below("fair", _SIZES_OF_RUNS),
    "fair.features": Field(_SIZE, "Of an example."),
    "fair.hidden": Field(_SIZE, "Units."),
    "fair.batch": Field(_SIZE, "Examples of a minibatch."),
    "fair.grids": Field(_PAIRS, "Numbers of costs and of alphas."),
    "zoo": Field(group(), "Tables on which seven methods are trained, by name."),
    "zoo.*": Field(group("rows", "valid_rows", "batch"), "Their sizes."),
    **_below("zoo.*", _SIZES_OF_RUNS),
    "zoo.*.features": Field(_SIZE, "Of an example."),
    "zoo.*.classes": Field(whole(2), "K."),
    "zoo.*.hidden": Field(many(_SIZE, least=0, distinct=False), "Units."),
    "zoo.*.batch": Field(_SIZE, "Examples of a minibatch."),
    "zoo.*.seeds": Field(_SIZE, "Runs of each method."),
    "zoo.*.runs_per_device": Field(_SIZE, "That a device computes at a time."),
    "zoo.*.peer_seeds": Field(_SIZE, "Runs of PyTorch's."),
    "zoo.*.peer_epochs": Field(_SIZE, "Of each of those."),
    "streams": Field(group("arrivals"), "Closed-loop streams."),
    "streams.arrivals": Field(_SIZE, "Tasks of a stream."),
    "streams.annotators": Field(many(_SIZE), "M."),
    "streams.streams": Field(_SIZE, "Runs."),
    "streams.peer_streams": Field(_SIZE, "Runs of the NumPy loop."),
    "scaling": Field(group("rows", "valid_rows"), "One sweep on more devices."),
    **_below("scaling", _SIZES_OF_RUNS),
    "scaling.strong_runs": Field(_SIZE, "In all."),
    "scaling.weak_runs": Field(_SIZE, "Of a device."),
    "scaling.simulated_devices": Field(_SIZE, "Of one machine."),
    "scaling.runs_per_device": Field(_SIZE, "That a device computes at a time."),
    "growth": Field(group(), "Experiments that are made larger, by what grows."),
    "growth.*": Field(group("sizes"), "Their sizes."),
    "growth.*.sizes": Field(many(_SIZE), "Of what grows."),
    "growth.*.method": Field(text, "That is trained."),
    "growth.*.model": Field(lambda *given: check_network(*given), "The network."),
    **{
        f"growth.*.{name}": Field(_SIZE, meaning)
        for name, meaning in (
            ("runs", "Seeds, or seeds times prices."),
            ("examples", "To train on."),
            ("experts", "M."),
            ("costs", "Prices of a seed."),
            ("epochs", "Of every run."),
            ("features", "Of an example."),
            ("batch", "Examples of a minibatch."),
        )
    },
    "start": Field(group("scales", "programs"), "Programs, from command to table."),
    "start.scales": Field(many(text), "Of their configs; empty: the default."),
    "start.programs": Field(group(), "Module and config file, by name."),
    "start.programs.*": Field(_TEXTS, "Module and config file."),
    "wide_resnet": Field(group("depth", "width"), "A training step."),
    "wide_resnet.depth": Field(lambda *given: _depth(*given), "6n + 4."),
    "wide_resnet.width": Field(_SIZE, "k."),
    "wide_resnet.batch": Field(_SIZE, "Images of a minibatch."),
    "wide_resnet.seeds": Field(_SIZE, "Runs."),
    "wide_resnet.steps": Field(_SIZE, "That are timed."),
    "layouts": Field(group("networks", "trials"), "Networks in several layouts."),
    "layouts.batch": Field(_SIZE, "Images of a minibatch."),
    "layouts.steps": Field(_SIZE, "That are timed."),
    "layouts.peer_steps": Field(_SIZE, "Of PyTorch's."),
    "layouts.networks": Field(group(), "By name."),
    "layouts.networks.*": Field(group("name"), "The network, without its precision."),
    "layouts.networks.*.name": Field(one_of(("wide_resnet", "convnet")), "Its kind."),
    "layouts.networks.*.depth": Field(lambda *given: _depth(*given), "6n + 4."),
    "layouts.networks.*.width": Field(_SIZE, "k."),
    "layouts.networks.*.stem_stride": Field(_SIZE, "Of the first layer."),
    "layouts.networks.*.channels": Field(many(_SIZE, distinct=False), "Of layers."),
    "layouts.networks.*.window": Field(_SIZE, "Of each layer."),
    "layouts.networks.*.hidden": Field(
        many(_SIZE, least=0, distinct=False), "Units of the layers behind them."
    ),
    "layouts.peers": Field(many(_TEXTS, least=0), "Network and precision."),
    "layouts.trials": Field(many(_trial), "Network, precision, kind and runs."),
    "roofline": Field(group("workloads", "steps"), "What bounds a step."),
    "roofline.workloads": Field(many(text), "Whose steps."),
    "roofline.annotators": Field(many(_SIZE), "Of streams."),
    "roofline.wide_resnets": Field(_PAIRS, "Depth and width."),
    "roofline.convolution": Field(one_of(IMPLEMENTATIONS), "Of WideResNets."),
    "roofline.steps": Field(_SIZE, "That are timed."),
    "topology": Field(group("workloads", "chip"), "Slices of TPUs, described."),
    "topology.workloads": Field(many(text), "What is compiled."),
    "topology.generation": Field(text, "Of the chips."),
    "topology.slices": Field(many(text), "Such as 4x4."),
    "topology.wide_resnet_slices": Field(many(text), "The same of WideResNets."),
    "topology.wide_resnets": Field(_PAIRS, "Depth and width."),
    "topology.convolution": Field(one_of(IMPLEMENTATIONS), "Of WideResNets."),
    "topology.wide_resnet_runs": Field(_SIZE, "Of a chip."),
    "topology.annotators": Field(many(_SIZE), "Of streams."),
    "topology.chip": Field(group("peak_tflops"), "What one can do."),
    "topology.chip.peak_tflops": Field(_POSITIVE, "In bfloat16."),
    "topology.chip.memory_gb_per_second": Field(_POSITIVE, "Of its memory."),
    "topology.chip.memory_gib": Field(_POSITIVE, "Of memory."),
}
"""Fields of `experiments.benchmark`; a star stands for a name that the config gives."""


def named(
    config: ml_collections.ConfigDict, fields: Mapping[str, Field]
) -> dict[str, Field]:
    """The fields, with the names of a config in the place of each star."""
    found = {}
    for path, field in fields.items():
        above, star, below = path.partition(".*")
        value: Any = config
        for name in above.split("."):
            value = value.get(name) if hasattr(value, "get") else None
        names = list(value) if star and hasattr(value, "get") else []
        for concrete in [f"{above}.{n}{below}" for n in names] if star else [path]:
            found[concrete] = field
    return found


def check(
    config: ml_collections.ConfigDict,
    fields: Mapping[str, Field] = FIELDS,
    where: str = "",
) -> None:
    """Check every field of a config.

    Args:
      config: a config, or a part of one.
      fields: those it may have, by path.
      where: leads to the part; ends in a dot.

    Raises:
      ConfigError: a value cannot be used; the message names the field and the remedy.
    """
    if not isinstance(config, ml_collections.ConfigDict):
        raise ConfigError(
            f"{where.rstrip('.')} must be a group of fields, got {config!r}"
        )
    _check(config, "", fields, where)


def _check(
    config: ml_collections.ConfigDict,
    above: str,
    fields: Mapping[str, Field],
    where: str,
) -> None:
    for name in config:
        path, value = f"{above}{name}", config[name]
        if fields is FIELDS and path in _NETWORK_FIELDS:
            check_network(f"{where}{path}", value)
            continue
        if path not in fields:
            raise ConfigError(
                f"{where}{path}: no program knows this field; experiments/schema.py"
                " lists them"
            )
        fields[path].check(f"{where}{path}", value)
        opens = any(other.startswith(f"{path}.") for other in fields)
        if isinstance(value, ml_collections.ConfigDict) and opens:
            _check(value, f"{path}.", fields, where)
