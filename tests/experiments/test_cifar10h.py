"""CIFAR-10H as a problem, on small images that are made up."""

import jax
import numpy as np
import pandas as pd
import programs
import pytest

from experiments import cifar10h, deferral
from experiments.configs import cifar10h as cifar10h_config
from experiments.runtime.errors import ConfigError
from l2d_jax import data
from l2d_jax.engine import training
from l2d_jax.types import Dataset

pytestmark = pytest.mark.usefixtures("cheap_compiles")

NUM_TRAIN, NUM_TEST = 80, 60


def make_splits(data_dir=None):
    """Images of one brightness for each class, and a little noise."""
    generator = np.random.default_rng(0)

    def part(size):
        labels = np.arange(size, dtype=np.int32) % 10
        noise = generator.integers(0, 5, (size, 6, 6, 3))
        inputs = (25 * labels[:, None, None, None] + noise).astype(np.uint8)
        return Dataset(inputs, labels)

    return data.Splits(part(NUM_TRAIN), part(NUM_TEST), 10, "cifar10")


def make_probs(data_dir=None):
    """Everybody is right on the first half of the classes; on the others half are."""
    labels = np.arange(NUM_TEST) % 10
    probs = np.eye(10, dtype=np.float32)[labels]
    hard = labels >= 5
    probs[hard] = 0.5 * (probs[hard] + np.eye(10, dtype=np.float32)[labels[hard] - 5])
    return probs


@pytest.fixture(scope="module", autouse=True)
def _made_up_images():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "load_cifar10", make_splits)
        patch.setattr(data, "load_cifar10h", make_probs)
        yield


def make_config(**changes):
    config = cifar10h_config.get_config("smoke")
    config.base.model = {"name": "mlp", "hidden": (7,)}
    config.base.batch_size = config.batch_size = 8
    config.update({"placement": "vmap", "runs_per_device": 2, "crop_padding": 0})
    config.methods, config.references = ("deferral", "expert"), ("expert",)
    for name, value in changes.items():
        config[name] = value
    return config


def make_problem(tmp_path, **changes):
    config = make_config(**changes)
    prepared = cifar10h.load(config)
    (problem,) = cifar10h.make(config, prepared, tmp_path, lambda: False)
    deferral.check_examples(config, problem)
    return prepared, problem


def test_features_are_scaled_as_those_that_are_not_tested(tmp_path):
    prepared, problem = make_problem(tmp_path)
    assert problem.pool.inputs.shape == (NUM_TEST, 2, 7)
    np.testing.assert_array_equal(problem.pool.labels, np.arange(NUM_TEST) % 10)
    for seed in range(2):
        fold, test = problem.split(seed), problem.test_rows(seed)
        rest = np.concatenate([fold.train, fold.valid])
        np.testing.assert_array_equal(np.sort(rest), prepared.parts.rest[seed])
        everything = np.sort(np.concatenate([rest, test]))
        np.testing.assert_array_equal(everything, np.arange(NUM_TEST))
        known = problem.pool.inputs[rest, seed]
        np.testing.assert_allclose(known.mean(axis=0), 0.0, atol=1e-5)
        spread = known.std(axis=0)
        np.testing.assert_allclose(spread[spread > 0], 1.0, atol=1e-4)


def test_the_expert_answers_as_often_as_people_did(tmp_path):
    _, problem = make_problem(tmp_path)
    answers = np.stack(
        [
            training.annotate_pool(
                problem.annotate,
                training.run_key(jax.random.key(0), n),
                {},
                problem.pool,
            ).expert_labels[:, 0]
            for n in range(200)
        ]
    )
    labels = np.asarray(problem.pool.labels)
    right = (answers == labels).mean(axis=0)
    np.testing.assert_array_equal(right[labels < 5], 1.0)
    # Of 200 draws with a chance of a half, 4.5 deviations.
    np.testing.assert_allclose(right[labels >= 5], 0.5, atol=0.16)
    assert (np.abs(labels - answers)[:, labels >= 5] % 5 == 0).all()


@pytest.mark.long
def test_it_runs_end_to_end(tmp_path):
    out, _ = programs.run(deferral.main, make_config(), tmp_path)
    assert "cifar10h: system accuracy, % on 12 test cases" in out
    results = pd.read_csv(tmp_path / "results.csv")
    assert set(results.method) == {"deferral", "expert"}
    assert (tmp_path / "checkpoints" / "base").is_dir()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"test_fraction": 0.001}, "test_fraction 0.001 leaves 0 examples to test on"),
        ({"batch_size": 43}, "batch_size 43 is larger than the 42 training examples"),
        ({"crop_padding": 6}, "crop_padding 6 is more than the inputs can be shifted"),
    ],
)
def test_bad_input_is_one_line(changes, message):
    with pytest.raises(ConfigError, match=f"^{message}"):
        cifar10h.load(make_config(**changes))


def test_a_batch_of_the_network_is_no_larger_than_its_training_part():
    config = make_config()
    config.base.batch_size = 71
    with pytest.raises(
        ConfigError, match=r"^base\.batch_size 71 is larger than the 70"
    ):
        cifar10h.load(config)
