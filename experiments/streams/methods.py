"""The closed-loop methods that are compared, by name."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from l2d_jax import models, optimizers
from l2d_jax.crowds import allocation, closed_loop, competence, dawid_skene, streams
from l2d_jax.crowds.allocation import Annotators, Arrivals, Committee
from l2d_jax.types import HParams, ModelFns, PyTree

NUM_ITERATIONS = 50
SMOOTHING = 0.01
"""Of EM, offline."""


class Method(NamedTuple):
    """A method.

    Attributes:
      kind: methods of one kind are one program.
      prior: whether it reads the prior.
      numbers: hyperparameters that differ from the defaults.
    """

    kind: str
    prior: bool
    numbers: Mapping[str, float]


METHODS = {
    "smooth": Method("vote", True, {"fade": np.nan}),
    "no_prior": Method("vote", False, {}),
    "bandit": Method("vote", False, {"explore": 0.5}),
    "gold": Method("vote", False, {"gold": 1.0}),
    "prior": Method(
        "vote", True, {"fade": np.inf, "deploy_prior": 1.0, "learning_rate": 0.0}
    ),
    "uniform": Method("vote", False, {"explore": 1.0, "learning_rate": 0.0}),
    "strict": Method("pretrained", True, {}),
    "dawid_skene": Method("dawid_skene", False, {}),
    "dawid_skene_offline": Method("offline", False, {"gold": 1.0}),
    "competence": Method("competence", True, {}),
}
"""Smooth-Matching, whose ``fade`` is the config's; training without a prior; half of
the committee at random; gold labels; the prior alone; random committees;
Strict-Matching; Dawid and Skene's labels, online and offline; and ours."""


class Sizes(NamedTuple):
    """Static sizes of a task.

    Attributes:
      num_annotators: M.
      num_categories: Z.
      num_pools: G.
    """

    num_annotators: int
    num_categories: int
    num_pools: int


def hparams_of(name: str, config: ml_collections.ConfigDict) -> dict[str, float]:
    """Hyperparameters of a method under the config of a task."""
    defaults = dict.fromkeys(closed_loop.HPARAMS, 0.0)
    defaults["learning_rate"] = config.learning_rate
    defaults["cost_rate"] = config.get("cost_rate", 0.0)
    numbers = dict(METHODS[name].numbers)
    if name == "smooth":
        numbers["fade"] = config.fade
    if name == "competence":
        numbers["explore"] = config.competence.explore
    return defaults | numbers


def make_model(config: ml_collections.ConfigDict, sizes: Sizes) -> ModelFns:
    """The model of the allocation; RBF features are made before it."""
    if config.model.body == "mlp":
        return models.separate_mlps(tuple(config.model.hidden), sizes.num_annotators)
    return models.linear(sizes.num_annotators)


def make_stream(
    kind: str, config: ml_collections.ConfigDict, sizes: Sizes
) -> Callable[[jax.Array, HParams, Annotators, Arrivals, Arrivals], PyTree]:
    """A whole stream by methods of one kind.

    Args:
      kind: of `METHODS`.
      config: of the task.
      sizes: of the task.

    Returns:
      ``(key, hparams, annotators, train, test) -> measures`` of `streams.run`.
    """
    crowd = None
    if kind == "dawid_skene":
        crowd = dawid_skene.make_crowd()
    if kind == "competence":
        ours = config.competence
        crowd = competence.make_crowd(
            ours.base, ours.trust, ours.least, ours.pool_answers, ours.own_answers
        )
    model = make_model(config, sizes)
    form = config.model.form
    allocator = closed_loop.make_allocator(
        model,
        optimizers.make_plain_sgd(),
        form=form,
        feedback=config.model.feedback,
        crowd=crowd,
        crowd_allocates=kind == "competence" and config.competence.allocates,
    )
    committee = Committee(config.committee_size, config.replace)
    pretraining = config.pretraining

    def stream(
        key: jax.Array,
        hparams: HParams,
        annotators: Annotators,
        train: Arrivals,
        test: Arrivals,
    ) -> PyTree:
        init_key, pretrain_key, offline_key, run_key = jax.random.split(key, 4)
        state = allocator.init(init_key, hparams, annotators, train.features[:1])
        if kind == "pretrained":
            count = min(pretraining.num_tasks, len(train.categories))
            params = closed_loop.pretrain(
                pretrain_key,
                model,
                annotators.similarity,
                train.features[:count],
                train.categories[:count],
                learning_rate=pretraining.learning_rate,
                num_steps=pretraining.num_steps,
                batch_size=pretraining.batch_size,
                num_restarts=pretraining.num_restarts,
                form=form,
            )
            state = state._replace(params=params)
        if kind == "offline":
            train = train._replace(gold=_offline_labels(offline_key, train, committee))
        _, measures = streams.run(
            allocator,
            hparams,
            committee,
            annotators,
            state,
            train,
            test,
            run_key,
            num_pools=sizes.num_pools,
            num_categories=sizes.num_categories,
            num_windows=config.num_windows,
            batch_size=config.batch_size,
        )
        return measures

    return stream


def _offline_labels(key: jax.Array, train: Arrivals, committee: Committee) -> jax.Array:
    """Dawid and Skene's labels from the answers of uniform committees."""
    available = allocation.can_answer(train.answers)
    num_tasks, num_annotators = train.answers.shape
    noise = allocation.draw_noise(key, num_tasks, num_annotators, committee)
    uniform = jax.vmap(allocation.normalize)(available.astype(jnp.float32), available)
    votes = jax.vmap(lambda row, drawn: allocation.seat(row, drawn, committee))(
        uniform, noise
    )
    _, probs = dawid_skene.fit(train.answers, votes > 0, NUM_ITERATIONS, SMOOTHING)
    return (probs > 0.5).astype(jnp.int32)
