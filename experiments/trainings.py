"""What is trained, by name: a learner, how its epochs are chosen, and its runs.

Two methods that need the same training share it.
"""

import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from experiments import measure, networks
from experiments.problem import Problem, annotate_with_nobody
from experiments.runtime import progress
from experiments.runtime.errors import ConfigError
from experiments.runtime.workdir import read_origin
from l2d_jax import decisions, metrics, optimizers
from l2d_jax.engine import chunks, placement, solved, sweeps, training
from l2d_jax.learners import (
    bayesian,
    classifier,
    cost_sensitive,
    deferral,
    expert_model,
    given_classifier,
    halfspaces,
    joint,
    mixture,
    rejector,
    surrogates,
    triage,
    two_stage,
)
from l2d_jax.learners.batches import experts_correct, weighted_mean
from l2d_jax.learners.disparity import disparity, team_prob
from l2d_jax.types import (
    Array,
    Batch,
    Dataset,
    Decision,
    HParams,
    Learner,
    PyTree,
    Sweep,
    TrainState,
    Variables,
)

TUNED = ("learning_rate", "weight_decay")
"""Hyperparameters of every training: those of the optimizer."""
DEFAULTS = {
    "alpha": 1.0,
    "cost": 0.0,
    "fairness": 0.0,
    "price": 0.0,
    "smoothing": 0.1,
    "dropout": 0.2,
    "cost_weight": 0.0,
    "step_exponent": 0.5,
    "mix": 1.0,
    "q": 0.7,
    "warm": 0.5,
    "expert_weight": 1.0,
    "budget": 0.5,
    "l1_penalty": 0.0,
    "weight_decay": 0.0,
}
"""Value of a hyperparameter that a config's grid does not list."""


# Orders of examples that are drawn for a dispatch, about; the next are drawn meanwhile.
_ORDER_BYTES = 2**29


class Setting(NamedTuple):
    """What a training is made for.

    Attributes:
      config: of the experiment.
      problem: what it learns.
      num_train: training examples of a seed.
      values: of each hyperparameter of its grid.
    """

    config: ml_collections.ConfigDict
    problem: Problem
    num_train: int
    values: dict[str, tuple]

    @property
    def num_classes(self) -> int:
        """K."""
        return self.problem.traits.num_classes

    @property
    def num_experts(self) -> int:
        """M."""
        return self.problem.traits.num_experts

    @property
    def regularized(self) -> bool:
        """Whether any run weighs fairness."""
        return any(self.values.get("fairness", ()))

    def model(self, name: str, *outputs: int) -> Any:
        """The network of a config field, with outputs of classes and others."""
        return networks.make_model(self.config[name], (outputs[0], outputs[1]))

    def optimizer(self, num_epochs: int) -> optimizers.OptimizerFn:
        """The config's optimizer."""
        return networks.make_optimizer(self.config, num_epochs, self.num_train)

    def inputs(self) -> dict[str, Any]:
        """How the problem's inputs are augmented and standardized."""
        problem = self.problem
        given = {"augment": problem.augment, "preprocess": problem.preprocess}
        return {name: value for name, value in given.items() if value is not None}


class Training(NamedTuple):
    """A training.

    Attributes:
      make: its learner and the score by which its best epoch is chosen, higher is
        better.
      hparams: what it reads of the grid beside `TUNED`.
      knows_expert: whether it learns from the experts: its runs are then one for each
        team, and else one for each seed.
      hidden: whether it sees the inputs that the experts see.
      after: name of the training whose classifier is given to it, of each seed the best
        by its own validation score; empty: none is.
      epochs: the field of the config that has its number of epochs.
      model: the field that has its network, by whose kind its runs are placed.
      grid: values of its own in place of the grid's, from the config.
      fields: of the config, what it reads beside what all do.
      solved: whether one update of all training examples on the host is the training,
        which then has no optimizer, epochs or network of a config.
    """

    make: Callable[[Setting], tuple[Learner, training.Score]]
    hparams: tuple[str, ...] = ()
    knows_expert: bool = True
    hidden: bool = False
    after: str = ""
    epochs: str = "num_epochs"
    model: str = "model"
    grid: Callable[[ml_collections.ConfigDict], dict[str, tuple[float, ...]]] = (
        lambda config: {}
    )
    fields: tuple[str, ...] = ()
    solved: bool = False


# Scores.


def team_score(decision: Decision, batch: Batch, hparams: HParams) -> Array:
    """System accuracy, in [0, 1].

    Where the probability of the experts' being right is imputed, that which is to be
    expected if it is right.
    """
    del hparams
    if batch.expert_correct is None:
        assert batch.expert_labels is not None
        asked = jnp.asarray(batch.expert_labels) >= 0
        return metrics.system_accuracy(
            decisions.among(decision, asked),
            batch.labels,
            batch.expert_labels,
            batch.weights,
        )
    _, known = experts_correct(batch, jnp.float32)
    right = measure.expected_right(decisions.among(decision, known), batch)
    return weighted_mean(right, batch.weights)


def fair_team_score(decision: Decision, batch: Batch, hparams: HParams) -> Array:
    """The same, less the disparity of the system's decisions at its price."""
    deferred = 1.0 - jnp.asarray(decision.allocation)[:, -1]
    decided = (decisions.prediction(decision) == 1).astype(jnp.float32)
    probs = team_prob(decided, deferred, batch)
    return team_score(decision, batch, hparams) - disparity(probs, batch, hparams)


def accuracy_score(probs: jax.Array, batch: Batch, hparams: HParams) -> Array:
    """Accuracy of class probabilities, in [0, 1]."""
    del hparams
    right = jnp.argmax(probs, axis=-1) == batch.labels
    return weighted_mean(right.astype(jnp.float32), batch.weights)


def classifier_score(
    config: ml_collections.ConfigDict, regularized: bool = False
) -> training.Score:
    """The score that the config's ``best_epoch`` names."""
    if config.best_epoch == "accuracy":
        return accuracy_score
    return classifier.loss_score(regularized=regularized)


def expert_score(prob: jax.Array, batch: Batch, hparams: HParams) -> Array:
    """Mean log-likelihood of the experts' being right or wrong, in nats, <= 0.

    Probabilities are kept 1e-7 away from 0, so that one sure mistake in float32 does
    not make the score -inf.
    """
    del hparams
    correct, known = experts_correct(batch, jnp.float32)
    weights = known.astype(jnp.float32)
    if batch.weights is not None:
        weights = weights * jnp.asarray(batch.weights)[:, None]
    right = jnp.log(jnp.maximum(prob, 1e-7))
    wrong = jnp.log(jnp.maximum(1.0 - prob, 1e-7))
    values = correct * right + (1.0 - correct) * wrong
    return weighted_mean(values.ravel(), weights.ravel())


def _team_score(setting: Setting) -> training.Score:
    return fair_team_score if setting.regularized else team_score


# Trainings.


def _deferral(setting: Setting) -> tuple[Learner, training.Score]:
    learner = deferral.make_learner(
        setting.model("model", setting.num_classes, 1),
        setting.optimizer(setting.config.num_epochs),
        regularized=setting.regularized,
        **setting.inputs(),
    )
    return learner, _team_score(setting)


def _surrogate(
    row: surrogates.Surrogate,
) -> Callable[[Setting], tuple[Learner, training.Score]]:
    def make(setting: Setting) -> tuple[Learner, training.Score]:
        num_others = setting.num_experts + row.extra_outputs
        learner = surrogates.make_learner(
            setting.model("model", setting.num_classes, num_others),
            setting.optimizer(setting.config.num_epochs),
            row,
            num_experts=setting.num_experts,
            **setting.inputs(),
        )
        return learner, team_score

    return make


def _rl2d(setting: Setting) -> tuple[Learner, training.Score]:
    """RL2D after a start with its q = 0, a logarithm.

    From random weights the loss of a greater q, all but linear, passes every example on
    before there is anything to keep, and stays there.
    """
    learner, score = _surrogate(surrogates.SURROGATES["rl2d"])(setting)
    config = setting.config
    num_steps = config.num_epochs * (setting.num_train // config.batch_size)

    def update(state: TrainState, hparams: HParams, batch: Batch) -> Any:
        starts = state.step < hparams["warm"] * num_steps
        q = jnp.where(starts, 0.0, hparams["q"])
        return learner.update(state, {**hparams, "q": q}, batch)

    return learner._replace(update=update), score


def _triage(setting: Setting) -> tuple[Learner, training.Score]:
    learner = triage.make_learner(
        setting.model("model", setting.num_classes, 1),
        setting.optimizer(setting.config.num_epochs),
        num_classes=setting.num_classes,
        **setting.inputs(),
    )
    return learner, team_score


def _after_classifier(
    make_learner: Callable[..., Learner],
    num_outputs: Callable[[int], int],
    decide: Callable[[Array, jax.Array], Decision],
) -> Callable[[Setting], tuple[Learner, training.Score]]:
    """Whom to ask, learned for a classifier that is given.

    Args:
      make_learner: of a network that gives scores.
      num_outputs: of it, from M.
      decide: ``(class_probs, scores) -> Decision``.
    """

    def make(setting: Setting) -> tuple[Learner, training.Score]:
        learner = make_learner(
            setting.model("expert_model", 0, num_outputs(setting.num_experts)),
            setting.optimizer(setting.config.expert_model_epochs),
            **setting.inputs(),
        )

        def score(scores: jax.Array, batch: Batch, hparams: HParams) -> Array:
            assert batch.class_probs is not None
            return team_score(decide(batch.class_probs, scores), batch, hparams)

        return learner, score

    return make


def _cost_sensitive(setting: Setting) -> tuple[Learner, training.Score]:
    learner = cost_sensitive.make_learner(
        setting.model("model", setting.num_classes, 1),
        setting.optimizer(setting.config.num_epochs),
        **setting.inputs(),
    )
    return learner, team_score


def _classifier(setting: Setting) -> tuple[Learner, training.Score]:
    if setting.problem.classifier is not None:
        learner = given_classifier.make_learner(setting.problem.classifier)
        return learner, classifier_score(setting.config, setting.regularized)
    learner = classifier.make_learner(
        setting.model("model", networks.class_outputs(setting.num_classes), 0),
        setting.optimizer(setting.config.num_epochs),
        regularized=setting.regularized,
        **setting.inputs(),
    )
    return learner, classifier_score(setting.config, setting.regularized)


def _expert_model(setting: Setting) -> tuple[Learner, training.Score]:
    learner = expert_model.make_learner(
        setting.model("expert_model", 0, setting.num_experts),
        setting.optimizer(setting.config.expert_model_epochs),
        **setting.inputs(),
    )
    return learner, expert_score


def _mixture(
    objective: str, *, truth: bool = False
) -> Callable[[Setting], tuple[Learner, training.Score]]:
    def make(setting: Setting) -> tuple[Learner, training.Score]:
        config = setting.config
        learner = mixture.make_learner(
            setting.model("model", networks.class_outputs(setting.num_classes), 1),
            setting.optimizer(config.num_epochs),
            objective=objective,
            regularized=setting.regularized,
            sampled=config.sampled,
            temperature=config.temperature,
            **setting.inputs(),
        )
        score = mixture.loss_score(objective, regularized=setting.regularized)
        if not truth:
            return learner, score

        def told(batch: Batch) -> Batch:
            probs = jax.nn.one_hot(batch.labels, setting.num_classes)
            return batch._replace(expert_probs=probs[:, None], expert_labels=None)

        def update(state: TrainState, hparams: HParams, batch: Batch) -> Any:
            return learner.update(state, hparams, told(batch))

        def told_score(decision: Decision, batch: Batch, hparams: HParams) -> Array:
            return score(decision, told(batch), hparams)

        return learner._replace(update=update), told_score

    return make


def _bayesian(setting: Setting) -> tuple[Learner, training.Score]:
    config = setting.config
    learner = bayesian.make_learner(
        networks.make_model(config.bayesian.model, (1, 0)),
        setting.optimizer(config.num_epochs),
        num_examples=setting.num_train,
        num_samples=config.bayesian.num_samples,
        prior_deviation=config.bayesian.prior_deviation,
        regularized=setting.regularized,
    )
    score = classifier.loss_score(regularized=setting.regularized)
    return learner, lambda decision, batch, hparams: score(
        jnp.asarray(decision.class_probs), batch, hparams
    )


def _joint_parts(setting: Setting, num_epochs: int) -> tuple[Any, ...]:
    deferrer = setting.config.joint.deferrer
    return (
        networks.make_model(deferrer, (0, setting.num_experts + 1)),
        setting.model("model", networks.class_outputs(setting.num_classes), 0),
        setting.optimizer(num_epochs),
        max(setting.problem.traits.num_groups, 1),
    )


def _joint(objective: str) -> Callable[[Setting], tuple[Learner, training.Score]]:
    def make(setting: Setting) -> tuple[Learner, training.Score]:
        parts = _joint_parts(setting, setting.config.num_epochs)
        return joint.make_learner(*parts, objective=objective), team_score

    return make


def _minimax(setting: Setting) -> tuple[Learner, training.Score]:
    config = setting.config
    rounds = config.joint.minimax_rounds
    steps = config.minimax_epochs * (setting.num_train // config.batch_size)
    learner = joint.make_minimax_learner(
        *_joint_parts(setting, config.minimax_epochs),
        num_rounds=rounds,
        steps_per_round=max(2, steps // rounds),
    )
    return learner, team_score


def _milp(setting: Setting) -> tuple[Learner, training.Score]:
    learner = halfspaces.make_learner(time_limit=setting.config.milp.time_limit)
    return learner, team_score


_MIXTURE = ("sampled", "temperature")
_JOINT = ("dropout", "cost_weight", "step_exponent")
TRAININGS = {
    "deferral": Training(_deferral, ("alpha", "fairness")),
    **{
        name: Training(_surrogate(row), row.hparams)
        for name, row in surrogates.SURROGATES.items()
    },
    "rl2d": Training(_rl2d, ("q", "warm")),
    "triage": Training(_triage, ("budget", "smoothing")),
    "cost_sensitive": Training(_cost_sensitive, ("price",)),
    "classifier": Training(_classifier, ("fairness",), knows_expert=False),
    "expert_model": Training(
        _expert_model, epochs="expert_model_epochs", model="expert_model"
    ),
    "two_stage": Training(
        _after_classifier(
            two_stage.make_learner,
            lambda num_experts: num_experts + 1,
            decisions.two_stage_decision,
        ),
        ("price",),
        after="classifier",
        epochs="expert_model_epochs",
        model="expert_model",
    ),
    "rejector": Training(
        _after_classifier(
            rejector.make_learner, lambda num_experts: 1, decisions.decide
        ),
        ("price",),
        after="classifier",
        epochs="expert_model_epochs",
        model="expert_model",
    ),
    "mixture": Training(
        _mixture("defer"), ("smoothing", "cost", "fairness"), fields=_MIXTURE
    ),
    "mixture_oracle": Training(
        _mixture("defer", truth=True),
        ("cost", "fairness"),
        knows_expert=False,
        fields=_MIXTURE,
    ),
    "rejection": Training(
        _mixture("reject"), ("cost", "fairness"), knows_expert=False, fields=_MIXTURE
    ),
    "bayesian": Training(
        _bayesian, ("fairness",), knows_expert=False, fields=("bayesian",)
    ),
    "informed": Training(
        _classifier,
        ("fairness",),
        knows_expert=False,
        hidden=True,
        grid=lambda config: {"fairness": (config.biased_fairness, 0.0)},
        fields=("biased_fairness",),
    ),
    "joint": Training(_joint("joint"), _JOINT, fields=("joint",)),
    "joint_balanced": Training(_joint("balanced"), _JOINT, fields=("joint",)),
    "joint_minimax": Training(
        _minimax, _JOINT, epochs="minimax_epochs", fields=("joint",)
    ),
    "milp": Training(_milp, ("l1_penalty",), fields=("milp",), solved=True),
}
"""Trainings by name."""


class Trained(NamedTuple):
    """A training, done.

    Attributes:
      program: what its runs share.
      sweep: its runs.
      teams: number of the team of each run, int ``[R]``; -1 where it knows of none.
      result: what is left of them.
    """

    program: training.Program
    sweep: Sweep
    teams: np.ndarray
    result: sweeps.SweepResult


def values_of(
    config: ml_collections.ConfigDict,
    names: tuple[str, ...],
    own: Mapping[str, tuple[float, ...]] | None = None,
) -> dict[str, tuple]:
    """Values of hyperparameters, in the order of the config, and then by default.

    The order decides among equals.

    Args:
      config: of the experiment.
      names: of the hyperparameters.
      own: values in place of the config's.

    Raises:
      ConfigError: nobody gives a value of one of them.
    """
    listed = {key: tuple(config.grid[key]) for key in config.grid if key in names}
    values = listed | {
        key: (DEFAULTS[key],) for key in names if key not in listed and key in DEFAULTS
    }
    values |= own or {}
    for name in names:
        if name not in values:
            raise ConfigError(
                f"grid.{name} is missing and has no default; add it to the grid of the"
                " config file, or to DEFAULTS of experiments/trainings.py"
            )
    return values


def grid_of(config: ml_collections.ConfigDict, name: str) -> dict[str, tuple]:
    """Values of each hyperparameter of a training.

    Raises:
      ConfigError: nobody gives a value of one of them.
    """
    row = TRAININGS[name]
    names = row.hparams if row.solved else (*row.hparams, *TUNED)
    return values_of(config, names, row.grid(config))


def make_sweep(
    config: ml_collections.ConfigDict, problem: Problem, name: str
) -> tuple[Sweep, np.ndarray]:
    """The runs of a training, and the team of each."""
    values = grid_of(config, name)
    if not TRAININGS[name].knows_expert:
        seeds = range(config.num_seeds)
        sweep = sweeps.grid(seeds, values)
        teams = np.full(len(sweep.seeds), -1)
    else:
        all_teams = problem.teams(config.num_seeds)
        size = len(all_teams.seeds)
        numbers = sweeps.grid(range(size), values)
        # Where a grid has a seed there is a team here, in whose place comes its own.
        teams = numbers.seeds
        sweep = Sweep(
            all_teams.seeds[teams],
            {
                **{key: value[teams] for key, value in all_teams.hparams.items()},
                **numbers.hparams,
            },
        )
    if problem.inputs_by_seed or TRAININGS[name].after:
        sweep.hparams["seed"] = sweep.seeds.astype(np.int32)
    return sweep, teams


def make_program(
    config: ml_collections.ConfigDict, problem: Problem, name: str, num_train: int
) -> training.Program:
    """What the runs of a training share.

    Args:
      config: of the experiment.
      problem: what is learned.
      name: of the training.
      num_train: training examples of a seed.
    """
    row = TRAININGS[name]
    setting = Setting(config, problem, num_train, grid_of(config, name))
    learner, score = row.make(setting)

    def own_inputs(inputs: Array, hparams: HParams) -> Array:
        return inputs[:, hparams["seed"]] if problem.inputs_by_seed else inputs

    def own(batch: Batch, hparams: HParams) -> Batch:
        if row.knows_expert:
            batch = problem.view(batch, hparams)
        if row.after:
            probs = jnp.asarray(batch.class_probs)[:, hparams["seed"]]
            batch = batch._replace(class_probs=probs)
        return batch._replace(inputs=own_inputs(batch.inputs, hparams))

    def predict(variables: Variables, hparams: HParams, inputs: Array) -> Any:
        return learner.predict(variables, hparams, own_inputs(inputs, hparams))

    return training.Program(
        learner=Learner(
            init=lambda key, hparams, batch: learner.init(
                key, hparams, own(batch, hparams)
            ),
            update=lambda state, hparams, batch: learner.update(
                state, hparams, own(batch, hparams)
            ),
            predict=predict,
        ),
        annotate=problem.annotate if row.knows_expert else annotate_with_nobody,
        score=lambda outputs, batch, hparams: score(
            outputs, own(batch, hparams), hparams
        ),
        num_epochs=config[row.epochs],
        patience=config.patience or None,
        eval_batch_size=config.eval_batch_size,
    )


def best_runs(part: Trained, seeds: np.ndarray, teams: np.ndarray) -> np.ndarray:
    """The run of a training with the best validation score for each seed and team.

    Of equals the first in the grid; a diverged run only where all have diverged.
    """
    score = np.where(part.result.diverged, -np.inf, part.result.score)
    chosen = np.empty(len(seeds), int)
    for number, (seed, team) in enumerate(zip(seeds, teams, strict=True)):
        own = (part.sweep.seeds == seed) & np.isin(part.teams, (-1, team))
        candidates = np.flatnonzero(own)
        chosen[number] = candidates[np.argmax(score[candidates])]
    return chosen


def given_probs(
    config: ml_collections.ConfigDict,
    problem: Problem,
    name: str,
    trained: Trained,
    stop: Callable[[], bool],
) -> np.ndarray:
    """What each seed's best classifier says of the pool, float ``[N, S, K]``.

    Args:
      config: of the experiment.
      problem: what is learned.
      name: of the training of classifiers, which knows of no expert.
      trained: that, done.
      stop: asked after every chunk.

    Raises:
      Interrupted: ``stop`` said so.
    """
    seeds = np.arange(config.num_seeds)
    index = best_runs(trained, seeds, np.full(len(seeds), -1))
    rows = np.arange(len(problem.pool.labels))

    def predict(run: PyTree, shared: PyTree) -> jax.Array:
        return training.predict(
            trained.program, run["variables"], run["hparams"], shared, rows
        )

    def taken(tree: PyTree) -> PyTree:
        return jax.tree.map(lambda leaf: np.asarray(leaf)[index], tree)

    probs = chunks.map_runs(
        predict,
        {
            "variables": taken(trained.result.variables),
            "hparams": taken(trained.sweep.hparams),
        },
        problem.pool.inputs,
        where=networks.make_placement(config, config[TRAININGS[name].model]),
        should_stop=stop,
    )
    return np.moveaxis(probs, 0, 1)


def _pool_of(problem: Problem, row: Training) -> Dataset:
    """What a training sees of the pool, but for what another training gives it."""
    pool = problem.pool
    if row.hidden:
        assert problem.hidden is not None
        pool = pool._replace(inputs=problem.hidden[0])
    if not row.knows_expert:
        # What is not read need not be gathered at every step.
        pool = pool._replace(expert_labels=None, expert_correct=None, expert_probs=None)
    return pool


def check(config: ml_collections.ConfigDict, problem: Problem, name: str) -> None:
    """See that a training's runs can be started, before anything is trained.

    Raises:
      ConfigError: its network does not take the problem's inputs, such as a window that
        is larger than the images.
      TooLargeError: the machine cannot hold them.
    """
    row = TRAININGS[name]
    if row.solved:
        return
    pool, size = _pool_of(problem, row), len(problem.pool.labels)
    if row.after:
        shape = (size, config.num_seeds, problem.traits.num_classes)
        given = jax.ShapeDtypeStruct(shape, np.float32)
        pool = pool._replace(class_probs=given)  # type: ignore[arg-type]
    sweep, _ = make_sweep(config, problem, name)
    program = make_program(config, problem, name, len(problem.split(0).train))
    where = networks.make_placement(config, config[row.model])
    try:
        sweeps.check_start(program, sweep, pool, where)
    except ValueError as error:
        raise ConfigError(f"{row.model} does not fit the inputs: {error}") from error


def train(
    config: ml_collections.ConfigDict,
    problem: Problem,
    name: str,
    workdir: pathlib.Path | None,
    stop: Callable[[], bool],
    done: dict[str, Trained],
    report: Callable[[chunks.Progress], None] | None = None,
) -> Trained:
    """Run a training, or take it from the checkpoints that it has left.

    Args:
      config: of the experiment.
      problem: what is learned.
      name: of the training.
      workdir: folder of the experiment; None leaves no checkpoints.
      stop: asked after every dispatch.
      done: trainings by name, that which this one comes after among them.
      report: called after every dispatch; None shows a progress bar.

    Raises:
      Interrupted: ``stop`` said so.
    """
    row = TRAININGS[name]
    sweep, teams = make_sweep(config, problem, name)
    pool = _pool_of(problem, row)
    if row.after:
        given = given_probs(config, problem, row.after, done[row.after], stop)
        pool = pool._replace(class_probs=given)
    fold = problem.split(int(sweep.seeds[0]))
    shared = make_program(config, problem, name, len(fold.train))
    folder = workdir and workdir / "checkpoints" / problem.folder / name
    origin = read_origin(workdir) if workdir else None
    if row.solved:
        result = solved.solve_sweep(
            shared,
            sweep,
            pool,
            root_seed=config.seed,
            split=problem.split,
            checkpoint_dir=folder,
            origin=origin,
            report=report or progress.ProgressBar(name, unit="run"),
            should_stop=stop,
        )
        return Trained(shared, sweep, teams, result)
    where = networks.make_placement(config, config[row.model])
    result = sweeps.run_sweep(
        shared,
        sweep,
        pool,
        root_seed=config.seed,
        split=problem.split,
        batch_size=config.batch_size,
        where=where,
        epochs_per_dispatch=epochs_per_dispatch(config, where, sweep, len(fold.train)),
        checkpoint_dir=folder,
        checkpoint_seconds=config.checkpoint_seconds,
        origin=origin,
        report=report or progress.ProgressBar(name),
        should_stop=stop,
    )
    return Trained(shared, sweep, teams, result)


def epochs_per_dispatch(
    config: ml_collections.ConfigDict,
    where: placement.Placement,
    sweep: Sweep,
    num_train: int,
) -> int:
    """The config's, or as many epochs as the orders of their examples leave room for.

    Args:
      config: of the experiment.
      where: the runs are placed.
      sweep: they.
      num_train: training examples of a seed.
    """
    at_once = where.num_devices * where.runs_per_device
    num_orders = min(len(np.unique(sweep.seeds)), at_once)
    most = _ORDER_BYTES // (4 * num_train * num_orders)
    return min(config.epochs_per_dispatch, max(1, most))
