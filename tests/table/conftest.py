"""Small tables that the tests of this folder share, and a team fitted to one."""

import numpy as np
import pandas as pd
import pytest

from l2d_jax.table import fitting, networks
from l2d_jax.table.cases import Cases
from l2d_jax.table.options import Options

SHORT = networks.Training(hidden=(4,), num_epochs=4, batch_size=64)


def make(num_cases=240, num_people=3, seed=0, asked=0.7, num_classes=2, **changes):
    """A table in which the model is sure of some cases and people of others."""
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(num_cases, 4))
    scores = 2.0 * inputs[:, :1] * (np.arange(num_classes) - (num_classes - 1) / 2)
    labels = np.argmax(scores + rng.gumbel(size=scores.shape), axis=1)
    chance = np.clip(0.75 + 0.2 * np.tanh(inputs[:, 1:2]), 0, 1)
    right = rng.random((num_cases, num_people)) < chance
    answers = np.where(right, labels[:, None], (labels[:, None] + 1) % num_classes)
    answers[rng.random(answers.shape) > asked] = -1
    cases = Cases(
        ids=np.array([f"c{number}" for number in range(num_cases)]),
        features=pd.DataFrame(inputs, columns=["a", "b", "c", "d"]),
        labels=labels.astype(np.int32),
        classes=tuple("abc"[:num_classes]),
        answers=answers.astype(np.int32),
        people=tuple(f"r{number}" for number in range(num_people)),
        groups=None,
        units=np.arange(num_cases),
        class_probs=None,
        notes=(),
    )
    return cases._replace(**changes)


@pytest.fixture(scope="session")
def cases():
    return make()


@pytest.fixture(scope="session")
def team(cases):
    """With every method, of which one has the networks' own classifier."""
    options = Options(
        methods=("all",),
        classifiers=("logistic", "trees"),
        ask=2,
        num_folds=2,
        how=SHORT,
    )
    return fitting.fit(cases, options)
