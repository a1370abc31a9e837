"""Problems of a hundred rows, made by hand, and a config that every method can read."""

import numpy as np

from experiments.configs import synthetic
from experiments.problem import Problem, Traits, one_team, split_at_random
from l2d_jax import decisions
from l2d_jax.types import Dataset

NUM_POOL, NUM_TEST = 60, 40


def make_config(**changes):
    config = synthetic.get_config("smoke")
    config.update({"placement": "vmap", "runs_per_device": 2, "patience": 0})
    for name in ("num_epochs", "expert_model_epochs", "minimax_epochs"):
        config[name] = 2
    config.epochs_per_dispatch = 2
    config.update({"batch_size": 16, "num_seeds": 2, "threshold_draws": 8})
    config.grid = {"learning_rate": (0.1,), "cost": (0.1,), "fairness": (0.0, 0.5)}
    config.model = {"name": "mlp", "hidden": (4,)}
    config.expert_model = {"name": "mlp", "hidden": (4,)}
    config.bayesian.update({"num_samples": 2})
    config.joint = {
        "deferrer": {"name": "mlp", "hidden": (4,)},
        "minimax_rounds": 1,
    }
    config.committee_size = 3
    config.milp = {"time_limit": 20.0}
    config.best_epoch = "loss"
    config.references = ("classifier",)
    for name, value in changes.items():
        config[name] = value
    return config


def make_dataset(size, num_experts, seed):
    """The label follows the first feature; an expert is right where theirs is > 0."""
    generator = np.random.default_rng(seed)
    inputs = generator.normal(size=(size, 4)).astype(np.float32)
    labels = (inputs[:, 0] > 0).astype(np.int32)
    right = inputs[:, 1 : 1 + num_experts] > 0
    answers = np.where(right, labels[:, None], 1 - labels[:, None]).astype(np.int32)
    groups = (inputs[:, 3] > 0).astype(np.int32)
    if num_experts > 1:
        answers[::4, -1] = -1
    return Dataset(inputs, labels, answers, groups)


def _law(inputs, hparams):
    probs = np.full((len(inputs), 2), 0.5, np.float32)
    return decisions.decide(probs, inputs[:, 1:2])


def make_people_problem():
    """A person of whom it is foreseen where they are right, and how surely."""
    problem = make_problem(1)
    prob = np.float32([0.1, 0.9])
    parts = [
        part._replace(expert_correct=prob[(part.inputs[:, 1:2] > 0).astype(int)])
        for part in (problem.pool, problem.test)
    ]
    return problem._replace(
        traits=Traits(2, people=True),
        pool=parts[0]._replace(expert_labels=None),
        test=parts[1],
    )


def make_problem(num_experts, **changes):
    """One expert, who sees more and of whom the law is known, or several."""
    pool = make_dataset(NUM_POOL, num_experts, 0)
    test = make_dataset(NUM_TEST, num_experts, 1)
    one = num_experts == 1
    problem = Problem(
        name="tiny",
        traits=Traits(2, num_experts, num_groups=2, hidden=one, law=one, few=True),
        pool=pool,
        test=test,
        teams=one_team,
        split=split_at_random(NUM_POOL, 0.3),
        slices={"ones": (pool.labels == 1, test.labels == 1)},
        subgroups=(pool.groups, test.groups),
        num_subgroups=2,
    )
    if one:
        seen = [np.concatenate([part.inputs] * 2, axis=1) for part in (pool, test)]
        problem = problem._replace(hidden=tuple(seen), law=_law)
    return problem._replace(**changes)
