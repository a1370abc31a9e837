"""What a method is: what it needs and trains, how it decides, and what comes after."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from experiments.problem import Problem, Traits
from l2d_jax.learners import halfspaces
from l2d_jax.types import Array, Batch, Decision, HParams


class Case(NamedTuple):
    """What a method decides upon: examples of one run.

    Attributes:
      predictions: of each of its trainings, on the examples.
      batch: the examples, without inputs, as the run's experts have them. What is not
        known before somebody is asked (labels, answers) is there for the references
        that are told it.
      inputs: gives the inputs, ``[B, ...]``.
      problem: whose examples they are.
    """

    predictions: tuple[Any, ...]
    batch: Batch
    inputs: Callable[[], Array]
    problem: Problem

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Numbers of examples, classes and experts."""
        traits = self.problem.traits
        return len(self.batch.labels), traits.num_classes, traits.num_experts


class Need(NamedTuple):
    """What a method needs of a problem.

    Attributes:
      holds: whether a problem has it.
      why: what to say where it does not.
    """

    holds: Callable[[Traits], bool]
    why: str


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


class Policy(NamedTuple):
    """What is decided after training, on validation examples.

    Attributes:
      fit: ``(key, hparams, decision, batch) -> what is chosen``, on the validation
        examples of a run.
      apply: ``(key, chosen, decision, batch) -> Decision``, on any.
      hparams: names of those that ``fit`` reads.
      on_host: whether both are functions of one run on the host, of the examples that
        count alone, as a linear program is; else they are traced with all that a run
        holds, padding of weight 0 too.
    """

    fit: Callable[[jax.Array, HParams, Decision, Batch], Any]
    apply: Callable[[jax.Array, Any, Decision, Batch], Decision]
    hparams: tuple[str, ...] = ()
    on_host: bool = False


class PolicyRow(NamedTuple):
    """A policy that any method can have which asks where a score is > 0.

    Attributes:
      label: behind that of the method, as in figures.
      meaning: what it sees to.
      make: the policy, from the config.
      needs: what a problem must have, beside what the method needs.
      fields: of the config, what it reads.
    """

    label: str
    meaning: str
    make: Callable[[Any], Policy]
    needs: tuple[Need, ...] = ()
    fields: tuple[str, ...] = ()


class Method(NamedTuple):
    """A method.

    Attributes:
      label: as in figures.
      needs: what a problem must have.
      trainings: names of what it trains. The runs of the first are the method's; of the
        others each takes the best, by its own validation score, of the same seed and
        team.
      decide: ``(case, hparams) -> Decision``.
      hparams: of the grid, what it reads beside its trainings.
      policy: makes what is decided after training, from the config; None is nothing.
      fields: of the config, what it reads beside its trainings.
    """

    label: str
    needs: tuple[Need, ...]
    trainings: tuple[str, ...]
    decide: Callable[[Case, HParams], Decision]
    hparams: tuple[str, ...] = ()
    policy: Callable[[Any], Policy] | None = None
    fields: tuple[str, ...] = ()


def unmet(method: Method, traits: Traits) -> str:
    """Why a method cannot be had on a problem; empty where it can."""
    return "; ".join(need.why for need in method.needs if not need.holds(traits))
