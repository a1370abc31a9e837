"""Imputers: models of whether a person is right, fitted to many people at once.

An imputer is a function of one person, mapped over all of them. It gives the
probability that the person is right on every example of a *bank*: first those that
nobody answered, on which a method then learns to defer to them, and then those that
people answered.
"""

import functools
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from experiments import networks
from experiments.people import Answered, People
from experiments.runtime import progress
from experiments.runtime.errors import ConfigError
from experiments.runtime.workdir import read_origin
from l2d_jax import models, optimizers
from l2d_jax.engine import chunks, memory, orders, training
from l2d_jax.learners import context_rejector
from l2d_jax.people import beta_counts, contexts, finetuning, population, propagation
from l2d_jax.types import Array, Dataset, Learner, PyTree

# Of a class, where its logarithm is read.
_LEAST_PROB = 1e-3


class Bank(NamedTuple):
    """What the models of people see.

    Attributes:
      inputs: of the models, ``[I, ...]``: features, or images where the whole network
        is tuned. Images nobody answered come first.
      features: standardized features of each image, float ``[I, F]``.
      class_probs: of the feature network's classifier, float ``[I, K]``.
      num_unlabelled: images nobody answered, U.
    """

    inputs: np.ndarray
    features: np.ndarray
    class_probs: np.ndarray
    num_unlabelled: int


def standardize(values: np.ndarray, num_known: int) -> np.ndarray:
    """Columns of mean 0 and deviation 1 over the first rows, float ``[I, F]``."""
    known = values[:num_known]
    spread = known.std(axis=0)
    # What varies by rounding alone, as a unit that never fires, is constant.
    rounding = 8 * np.finfo(known.dtype).eps * np.abs(known).max(axis=0, initial=0.0)
    spread = np.where(spread > rounding, spread, 1.0)
    return (values - known.mean(axis=0)) / spread


class Imputed(NamedTuple):
    """What a method makes of each person.

    Attributes:
      prob: probability of being right on each image of the bank, float ``[P, I]``.
      num_selected: pseudo-labels used, int ``[P]``; 0 where a method uses none.
    """

    prob: np.ndarray
    num_selected: np.ndarray


def finetune_epochs(config: ml_collections.ConfigDict) -> int:
    """Epochs on a person's own answers, >= 1."""
    return max(1, round(config.finetune_ratio * config.human_model_epochs))


def fit_all(
    config: ml_collections.ConfigDict,
    people: People,
    bank: Bank,
    learner_program: training.Program,
    workdir: pathlib.Path,
    stop: Callable[[], bool],
) -> dict[str, Imputed]:
    """The models of every person by every imputer of the config.

    Args:
      config: of the experiment.
      people: whom to fit to.
      bank: the images.
      learner_program: the performance model's learner; see
        `l2d_jax.learners.expert_model.make_learner`.
      workdir: gets the checkpoints.
      stop: whether to stop; asked after every chunk.

    Raises:
      ConfigError: a model of a person diverged.
      sweeps.Interrupted: it said so.
    """
    fitting = _Fitting(config, people, bank, learner_program)
    where = networks.make_placement(
        config, config.human_model if config.tune == "head" else config.base.model
    )

    def compute(name: str, function: Any, runs: PyTree, shared: PyTree) -> PyTree:
        return chunks.map_runs(
            function,
            runs,
            shared,
            where=where,
            checkpoint_dir=workdir / "checkpoints" / people.source / name,
            origin=read_origin(workdir),
            report=progress.ProgressBar(f"{people.source} {name}", unit="person"),
            should_stop=stop,
        )

    folds = {"fold": np.arange(people.folds.max() + 1, dtype=np.int32)}
    shared = fitting.shared()
    shared["aggregate"] = compute("aggregate", fitting.aggregate, folds, shared)
    if any(IMPUTERS[name].reads_prior for name in config.imputers):
        shared["prior"] = compute("prior", fitting.prior, folds, shared)
    runs = fitting.runs()
    found = {}
    for name in config.imputers:
        learn, fit = IMPUTERS[name].learn, IMPUTERS[name].fit
        known = shared
        if learn is not None:
            learned = compute(
                f"{name} of others", functools.partial(learn, fitting), folds, shared
            )
            known = shared | {"learned": learned}
        fitted = compute(name, functools.partial(fit, fitting), runs, known)
        # Read on as what is not known, it would leave a team that asks nobody.
        unknown = np.isnan(fitted["prob"]).any(axis=1)
        if unknown.any():
            rates = " or ".join(IMPUTERS[name].rates)
            raise ConfigError(
                f"imputers: what {name} trains diverged for {unknown.sum()} of"
                f" {len(unknown)} people; lower {rates}"
            )
        # A sum of products may be rounded to above 1.
        found[name] = Imputed(**{**fitted, "prob": np.minimum(fitted["prob"], 1)})
    return found


class _Fitting:
    """The methods, each a pure function ``(run, shared) -> arrays``."""

    def __init__(
        self,
        config: ml_collections.ConfigDict,
        people: People,
        bank: Bank,
        learner_program: training.Program,
    ):
        self._config, self._people, self._bank = config, people, bank
        self._program, self._learner = learner_program, learner_program.learner
        self._size = len(bank.inputs)
        self._hparams = {
            "learning_rate": jnp.asarray(config.human_model_learning_rate),
            "finetune_learning_rate": jnp.asarray(config.finetune_learning_rate),
            "threshold": jnp.asarray(config.self_training_threshold),
        }

    def runs(self) -> PyTree:
        """What each person has of their own."""
        people = self._people
        own: dict[str, Any] = {} if people.skill is None else {"skill": people.skill}
        return own | {
            "seed": people.seeds.astype(np.int32),
            "person": people.persons.astype(np.int32),
            "fold": people.folds.astype(np.int32),
            "images": self._in_bank(people.tune.images),
            "correct": _correct(people, people.tune).astype(np.float32),
            "labels": people.labels[people.tune.images].astype(np.int32),
            "answers": people.tune.labels.astype(np.int32),
            "weights": people.tune.weights,
        }

    def shared(self) -> PyTree:
        """What all people have in common."""
        config, people, bank = self._config, self._people, self._bank
        crowd, unlabelled = people.crowd, bank.num_unlabelled
        num_answers, num_tune = len(crowd.images), people.tune.images.shape[1]

        def order(number: int, size: int, epochs: int) -> np.ndarray:
            batch = min(config.human_model_batch_size, size)
            rows = np.arange(size, dtype=np.int32)
            seed = config.seed + 1000 * (number + 1)
            return orders.epoch_orders(seed, 0, epochs, rows, batch)

        epochs = config.human_model_epochs
        drawn = {
            "aggregate": (num_answers, epochs),
            "both": (num_answers + num_tune, epochs),
            "tune": (num_tune, finetune_epochs(config)),
            "joined": (num_tune + unlabelled, epochs),
        }
        # As they are drawn, numbers of 64 bits.
        memory.require(orders=8 * sum(size * epochs for size, epochs in drawn.values()))
        shared: dict[str, Any] = {
            "bank": bank.inputs,
            "crowd": {
                "images": self._in_bank(crowd.images),
                "correct": crowd.correct.astype(np.float32),
                "labels": people.labels[crowd.images].astype(np.int32),
                "folds": crowd.folds.astype(np.int32),
            },
            "class_probs": bank.class_probs,
            "orders": {
                name: order(number, *drawn[name]) for number, name in enumerate(drawn)
            },
        }
        if any(IMPUTERS[name].reads_graph for name in config.imputers):
            shared["graph"] = propagation.nearest_neighbors(
                bank.features, config.propagation.num_neighbors
            )
        if any(IMPUTERS[name].reads_prior for name in config.imputers):
            shared["description"] = population.describe(bank.class_probs)
            shared["of_image"] = _groups(crowd.images, len(people.labels))
        if crowd.answers is not None:
            shared["crowd"]["answers"] = crowd.answers.astype(np.int32)
        if any(IMPUTERS[name].reads_contexts for name in config.imputers):
            log_probs = np.log(np.maximum(bank.class_probs, _LEAST_PROB))
            shared["described"] = {
                "features": bank.features,
                "class_probs": standardize(log_probs, bank.num_unlabelled),
            }[config.context.reads]
        known = max(crowd.persons.max() + 1, 0)
        shared["of_person"] = _groups(crowd.persons, known)
        return shared

    def _in_bank(self, people_images: np.ndarray) -> np.ndarray:
        return (people_images + self._bank.num_unlabelled).astype(np.int32)

    def _key(self, run: PyTree) -> jax.Array:
        """Of the person's initial parameters: the same in all methods."""
        key = training.run_key(jax.random.key(self._config.seed), run["seed"])
        return jax.random.fold_in(key, run["person"])

    def _crowd(self, fold: Array, shared: PyTree) -> Dataset:
        """What the crowd answered, without those of a fold."""
        crowd = shared["crowd"]
        weights = (crowd["folds"] != fold).astype(jnp.float32)
        return _dataset(crowd["images"], crowd["correct"], weights)

    def _individual(self, run: PyTree, balanced: bool) -> Dataset:
        weights = run["weights"]
        if balanced and self._config.class_weights:
            right = (run["correct"] > 0.5).astype(jnp.int32)
            weights = finetuning.balanced_weights(right, weights, 2)
        return _dataset(run["images"], run["correct"], weights)

    def _probs(self, variables: PyTree, shared: PyTree) -> jax.Array:
        index = jnp.arange(self._size)
        probs = training.predict(
            self._program, variables, self._hparams, shared["bank"], index
        )
        return probs[:, 0]

    def _of(self, fitted: finetuning.Fitted, shared: PyTree) -> PyTree:
        prob = self._probs(fitted.variables, shared)
        return {"prob": prob, "num_selected": fitted.num_selected}

    def aggregate(self, run: PyTree, shared: PyTree) -> PyTree:
        """A fold's model of other people, and its probabilities."""
        key = training.run_key(jax.random.key(self._config.seed), run["fold"])
        crowd = self._crowd(run["fold"], shared)
        start = jax.tree.map(lambda leaf: leaf[:2], crowd)
        state = self._learner.init(
            key, self._hparams, finetuning.look_up(start, shared["bank"])
        )
        order = shared["orders"]["aggregate"]
        state = finetuning.fit(
            self._learner, self._hparams, state, crowd, order, shared["bank"]
        )
        prob = self._probs(state.variables, shared)
        return {"variables": state.variables, "prob": prob}

    def prior(self, run: PyTree, shared: PyTree) -> PyTree:
        """What a fold's crowd says of the images, and of how people differ."""
        crowd = shared["crowd"]
        others = (crowd["folds"] != run["fold"]).astype(jnp.float32)
        base = _logit(shared["aggregate"]["prob"][run["fold"]])
        description = shared["description"]

        def infer(group: PyTree, psi: Array, scales: Array) -> population.Person:
            rows = group["rows"]
            shown, correct = crowd["images"][rows], crowd["correct"][rows]
            weights = others[rows] * group["weights"]
            return population.infer(base[shown], psi[shown], correct, weights, scales)

        # How hard an image is compared with what its features say is to the image what
        # skill is to a person: inferred in the same way.
        constant = jnp.ones((self._size, 1))
        image_scales = jnp.asarray(self._config.population.image_scales)[:, None]
        of_image = jax.vmap(infer, (0, None, None))(
            shared["of_image"], constant, image_scales
        )
        rows, weights = shared["of_image"]["rows"], shared["of_image"]["weights"]
        answered = (others[rows] * weights).max(axis=1)
        proportions = population.learn_proportions(of_image.log_evidence, answered)
        first = self._bank.num_unlabelled
        human = jax.vmap(population.correct_prob, (0, None, 0, 0))(
            of_image, proportions, base[first:, None], constant[first:, None]
        )
        logits = jnp.concatenate([base[:first], _logit(human[:, 0])])

        scales = self._scales()
        if shared["of_person"]["rows"].shape[0]:
            of_person = jax.vmap(infer, (0, None, None))(
                shared["of_person"], description, scales
            )
            weights = shared["of_person"]["weights"]
            rows = shared["of_person"]["rows"]
            present = (others[rows] * weights).max(axis=1)
            proportions = population.learn_proportions(of_person.log_evidence, present)
        else:
            # Nobody in the crowd is known as a person: every scale is as likely.
            proportions = jnp.full(len(scales), 1.0 / len(scales))
        return {"logits": logits, "proportions": proportions}

    def _scales(self) -> np.ndarray:
        grid = self._config.population
        num_classes = self._bank.class_probs.shape[1]
        return population.scale_grid(grid.overall, grid.by_class, num_classes)

    def none(self, run: PyTree, shared: PyTree) -> PyTree:
        """No fine-tuning: the crowd and the person in one."""
        fitted = finetuning.without_finetuning(
            self._learner,
            self._hparams,
            self._key(run),
            self._crowd(run["fold"], shared),
            self._individual(run, balanced=False),
            shared["orders"]["both"],
            shared["bank"],
        )
        return self._of(fitted, shared)

    def finetune(self, run: PyTree, shared: PyTree) -> PyTree:
        """The model of others, trained further on the person."""
        variables = jax.tree.map(
            lambda leaf: leaf[run["fold"]], shared["aggregate"]["variables"]
        )
        variables = finetuning.continue_with(
            self._learner,
            self._hparams,
            self._key(run),
            variables,
            self._individual(run, balanced=True),
            shared["orders"]["tune"],
            shared["bank"],
        )
        return self._of(finetuning.Fitted(variables, jnp.zeros((), jnp.int32)), shared)

    def self_training(self, run: PyTree, shared: PyTree) -> PyTree:
        """Trained on the person, then again with its own sure predictions."""
        rows = jnp.arange(self._bank.num_unlabelled)
        ones = jnp.ones(len(rows))

        def imitate(prob: jax.Array, unlabelled: Dataset) -> tuple[Dataset, Array]:
            prob = prob[:, 0]
            right = (prob >= 0.5).astype(jnp.float32)
            pseudo = unlabelled._replace(expert_correct=right[:, None])
            return pseudo, jnp.maximum(prob, 1.0 - prob)

        fitted = finetuning.self_train(
            self._learner,
            self._hparams,
            self._key(run),
            self._individual(run, balanced=True),
            _dataset(rows, ones, ones),
            shared["orders"]["tune"],
            shared["orders"]["joined"],
            imitate,
            shared["bank"],
        )
        return self._of(fitted, shared)

    def propagation(self, run: PyTree, shared: PyTree) -> PyTree:
        """The person's answers, spread along a graph of similar images."""
        options = self._config.propagation
        nothing = jnp.zeros(self._size)
        right = run["weights"] * run["correct"]
        prob = propagation.propagate(
            shared["graph"],
            nothing.at[run["images"]].add(right),
            nothing.at[run["images"]].add(run["weights"] - right),
            shared["aggregate"]["prob"][run["fold"]],
            retention=options.retention,
            num_steps=options.num_steps,
            prior_strength=options.prior_answers / self._size,
        )
        return {"prob": prob, "num_selected": jnp.zeros((), jnp.int32)}

    def crowd(self, run: PyTree, shared: PyTree) -> PyTree:
        """`population` without the person: others, and how hard each image was."""
        prob = jax.nn.sigmoid(shared["prior"]["logits"][run["fold"]])
        return {"prob": prob, "num_selected": jnp.zeros((), jnp.int32)}

    def population(self, run: PyTree, shared: PyTree) -> PyTree:
        """Ours: what the crowd says of people and images, and the person's answers."""
        base = shared["prior"]["logits"][run["fold"]]
        description = shared["description"]
        person = population.infer(
            base[run["images"]],
            description[run["images"]],
            run["correct"],
            run["weights"],
            self._scales(),
        )
        proportions = shared["prior"]["proportions"][run["fold"]]
        prob = population.correct_prob(person, proportions, base, description)
        return {"prob": prob, "num_selected": jnp.zeros((), jnp.int32)}

    def beta_prior(self, run: PyTree, shared: PyTree) -> beta_counts.BetaPrior:
        """How people differ, by class, from the counts of a fold's crowd."""
        crowd, rows = shared["crowd"], shared["of_person"]["rows"]
        num_classes = self._bank.class_probs.shape[1]
        counts = jax.vmap(beta_counts.count, (0, 0, 0, None))(
            crowd["labels"][rows],
            crowd["correct"][rows],
            self._of_others(run, shared),
            num_classes,
        )
        return beta_counts.fit_prior(counts, rows.shape[1])

    def beta_counts(self, run: PyTree, shared: PyTree) -> PyTree:
        """Right and wrong answers by class, and the crowd's as the prior."""
        prior = jax.tree.map(lambda leaf: leaf[run["fold"]], shared["learned"])
        counts = beta_counts.count(
            run["labels"],
            run["correct"],
            run["weights"],
            self._bank.class_probs.shape[1],
        )
        prob = beta_counts.correct_prob(prior, counts, shared["class_probs"])
        return {"prob": prob, "num_selected": jnp.zeros((), jnp.int32)}

    def skill(self, run: PyTree, shared: PyTree) -> PyTree:
        """What is true of a simulated person, where the class is not known."""
        prob = shared["class_probs"] @ run["skill"]
        return {"prob": prob, "num_selected": jnp.zeros((), jnp.int32)}

    def _of_others(self, run: PyTree, shared: PyTree) -> jax.Array:
        """Weights of the crowd's answers, without a fold's, by person."""
        group = shared["of_person"]
        others = (shared["crowd"]["folds"] != run["fold"]).astype(jnp.float32)
        return others[group["rows"]] * group["weights"]

    def _context_learner(self, attentive: bool, surrogate: str) -> Learner:
        options = self._config.context
        model = models.context_rejector(
            self._bank.class_probs.shape[1],
            embedding=options.embedding,
            encoder=options.encoder,
            rejector=options.rejector,
            num_heads=options.num_heads if attentive else 0,
        )
        return context_rejector.make_learner(
            model, optimizers.make_adam(), surrogate=surrogate
        )

    def learn_contexts(
        self, attentive: bool, surrogate: str, run: PyTree, shared: PyTree
    ) -> PyTree:
        """A rejector of the people of a fold's crowd, whoever they are."""
        options, crowd = self._config.context, shared["crowd"]
        rows = shared["of_person"]["rows"]
        return contexts.fit(
            self._context_learner(attentive, surrogate),
            {"learning_rate": jnp.asarray(options.learning_rate)},
            training.run_key(jax.random.key(self._config.seed), run["fold"]),
            contexts.Answers(
                crowd["images"][rows],
                crowd["labels"][rows],
                crowd["answers"][rows],
                self._of_others(run, shared),
            ),
            shared["described"],
            num_steps=options.num_steps,
            batch_size=options.batch_size,
            max_size=options.max_size,
        )

    def context(
        self, attentive: bool, surrogate: str, run: PyTree, shared: PyTree
    ) -> PyTree:
        """What such a rejector makes of the person's answers."""
        learner = self._context_learner(attentive, surrogate)
        variables = jax.tree.map(lambda leaf: leaf[run["fold"]], shared["learned"])
        known = models.Context(
            shared["described"][run["images"]],
            run["labels"],
            run["answers"],
            run["weights"],
        )
        known = jax.tree.map(lambda leaf: leaf[None], known)
        query: PyTree = models.Query(shared["described"], known)
        prob = learner.predict(variables, {}, query)[:, 0]
        return {"prob": prob, "num_selected": jnp.zeros((), jnp.int32)}


def _meets(people: People) -> str:
    del people
    return ""


def _tells_people_apart(people: People) -> str:
    if people.crowd.persons.max(initial=-1) < 0:
        return f"needs to know who of the crowd of {people.source} answered what"
    return ""


def _tells_answers(people: People) -> str:
    if people.crowd.answers is None:
        return f"needs the answers of the crowd of {people.source}, not their rightness"
    return _tells_people_apart(people)


def _knows_skill(people: People) -> str:
    if people.skill is None:
        return f"needs simulated people, and what {people.source} can is not known"
    return ""


class Imputer(NamedTuple):
    """An imputer.

    Attributes:
      label: as in figures.
      fit: ``(fitting, run, shared) -> {"prob", "num_selected"}`` of one person.
      reads_prior: whether it needs what the crowd says of people and images.
      reads_graph: whether it needs the graph of similar examples.
      learn: ``(fitting, run, shared) -> arrays`` of a fold's crowd; ``fit`` finds those
        of all folds in ``shared["learned"]``. None learns nothing of its own.
      reads_contexts: whether it needs a description of the examples of a context.
      unmet: why people of a source cannot be modelled so; empty where they can.
      fields: of the config, what it reads beside what all do.
      rates: fields of the learning rates that it may diverge with.
    """

    label: str
    fit: Callable[[_Fitting, PyTree, PyTree], PyTree]
    reads_prior: bool = False
    reads_graph: bool = False
    learn: Callable[[_Fitting, PyTree, PyTree], PyTree] | None = None
    reads_contexts: bool = False
    unmet: Callable[[People], str] = _meets
    fields: tuple[str, ...] = ()
    rates: tuple[str, ...] = ("human_model_learning_rate", "finetune_learning_rate")


def _reads_context(label: str, *, attentive: bool, surrogate: str) -> Imputer:
    """A row of learning to defer to a population."""

    def learn(fitting: _Fitting, run: PyTree, shared: PyTree) -> PyTree:
        return fitting.learn_contexts(attentive, surrogate, run, shared)

    def fit(fitting: _Fitting, run: PyTree, shared: PyTree) -> PyTree:
        return fitting.context(attentive, surrogate, run, shared)

    return Imputer(
        label,
        fit,
        learn=learn,
        reads_contexts=True,
        unmet=_tells_answers,
        fields=("context",),
        rates=("context.learning_rate",),
    )


IMPUTERS = {
    "none": Imputer("no fine-tuning", _Fitting.none),
    "finetune": Imputer("fine-tuning", _Fitting.finetune),
    "self_training": Imputer("self-training", _Fitting.self_training),
    "propagation": Imputer("label propagation", _Fitting.propagation, reads_graph=True),
    "crowd": Imputer("crowd, without the person", _Fitting.crowd, reads_prior=True),
    "population": Imputer("population (ours)", _Fitting.population, reads_prior=True),
    "beta_counts": Imputer(
        "Beta counts",
        _Fitting.beta_counts,
        learn=_Fitting.beta_prior,
        unmet=_tells_people_apart,
    ),
    "context_mean": _reads_context(
        "L2D-Pop, mean", attentive=False, surrogate="one_vs_all"
    ),
    "context_attentive": _reads_context(
        "L2D-Pop, attentive", attentive=True, surrogate="one_vs_all"
    ),
    "context_mean_softmax": _reads_context(
        "L2D-Pop, mean, softmax", attentive=False, surrogate="softmax"
    ),
    "context_attentive_softmax": _reads_context(
        "L2D-Pop, attentive, softmax", attentive=True, surrogate="softmax"
    ),
    "skill": Imputer("skill known", _Fitting.skill, unmet=_knows_skill),
}
"""Imputers by name."""


def _dataset(rows: Array, correct: Array, weights: Array) -> Dataset:
    """Answers as examples whose inputs are rows of the bank."""
    labels = jnp.zeros(rows.shape, jnp.int32)  # Of no use to a model of the person.
    return Dataset(rows, labels, weights=weights, expert_correct=correct[:, None])


def _correct(people: People, answered: Answered) -> np.ndarray:
    """Whether each answer was right, bool ``[P, V]``."""
    return answered.labels == people.labels[answered.images]


def _groups(members: np.ndarray, size: int) -> PyTree:
    """Rows of each group, padded to the largest: int and float ``[size, width]``."""
    rows_of = [np.flatnonzero(members == number) for number in range(size)]
    width = max([1, *map(len, rows_of)])
    rows = np.zeros((size, width), np.int32)
    weights = np.zeros((size, width), np.float32)
    for number, found in enumerate(rows_of):
        rows[number, : len(found)] = found
        weights[number, : len(found)] = 1.0
    return {"rows": rows, "weights": weights}


def _logit(prob: Array) -> jax.Array:
    """Log-odds, within what float32 can tell from certainty."""
    prob = jnp.clip(prob, 1e-6, 1.0 - 1e-6)
    return jnp.log(prob) - jnp.log1p(-prob)
