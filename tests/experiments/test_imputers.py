"""Models of people on a small bank, where it is known what each is good at."""

import numpy as np
import pytest

from experiments import imputers, people, persons
from experiments.configs import digits_finetune
from experiments.imputers import Bank
from experiments.people import Answered, Crowd, People
from experiments.runtime.errors import ConfigError
from l2d_jax.engine import checkpoints, origins, sweeps
from l2d_jax.people import beta_counts
from l2d_jax.people.beta_counts import Counts
from l2d_jax.types import Dataset

pytestmark = [pytest.mark.usefixtures("cheap_compiles"), pytest.mark.long]

NUM_UNLABELLED, NUM_HUMAN, NUM_CLASSES = 60, 40, 3
SIZE = NUM_UNLABELLED + NUM_HUMAN
NUM_TUNE = 12
CONTEXTS = tuple(name for name in imputers.IMPUTERS if name.startswith("context"))
# `skill` is of people of whom it is known, and one context stands for all.
IMPUTERS = tuple(
    name for name in imputers.IMPUTERS if name not in ("skill", *CONTEXTS[1:])
)

# The people, by row. Everybody but `LIKE` is in fold 0; so is person 0 of the crowd.
LIKE, OPPOSITE, RIGHT, WRONG, ONE, NOBODY = range(6)


def make_config(**changes):
    config = digits_finetune.get_config("smoke")
    config.human_model = {"name": "mlp", "hidden": (8,)}
    config.human_model_epochs = 20
    config.human_model_batch_size = 16
    config.human_model_learning_rate = 0.02
    config.finetune_learning_rate = 0.02
    config.imputers = IMPUTERS
    config.context = {
        "reads": "class_probs",
        "embedding": 8,
        "encoder": (8,),
        "rejector": (8,),
        "num_heads": 2,
        "max_size": 10,
        "batch_size": 16,
        "num_steps": 150,
        "learning_rate": 0.02,
    }
    config.placement = "vmap"  # Compiles faster than on two devices.
    config.finetune_ratio = 8.0
    config.self_training_threshold = 0.8
    config.propagation.update({"num_neighbors": 5, "prior_answers": 2.0})
    config.population.update(
        {"overall": (0.3, 3.0), "by_class": (0.3, 3.0), "image_scales": (0.1, 1.0)}
    )
    for name, value in changes.items():
        section, _, field = name.rpartition("__")
        target = config[section] if section else config
        target[field] = value
    return config


def make_bank():
    """Five features, of which the first three are the class."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, NUM_CLASSES, SIZE)
    one_hot = np.eye(NUM_CLASSES)[labels]
    noise = 0.1 * generator.normal(size=(SIZE, 5))
    features = (noise + np.pad(one_hot, ((0, 0), (0, 2)))).astype(np.float32)
    probs = (0.85 * one_hot + 0.05).astype(np.float32)
    return Bank(features, features, probs, NUM_UNLABELLED), labels


BANK, LABELS = make_bank()
HUMAN_LABELS = LABELS[NUM_UNLABELLED:]


def answers_of(right):
    """Classes given to the images, by who is right or one off."""
    return np.where(right, HUMAN_LABELS, (HUMAN_LABELS + 1) % NUM_CLASSES)


def make_people(crowd_correct=None):
    """Six people; the crowd knows the first class and no other.

    The crowd answered the first 20 images that people answer, others none of them.
    """
    images = np.tile(np.arange(20), 8)
    persons = np.repeat(np.arange(8), 20)
    if crowd_correct is None:
        crowd_correct = (HUMAN_LABELS[images] == 0).astype(np.float32)
    crowd_labels = np.where(
        crowd_correct > 0.5, HUMAN_LABELS[images], (HUMAN_LABELS[images] + 1) % 3
    )
    crowd = Crowd(images, crowd_correct, persons, persons % 2, crowd_labels)
    shown = np.tile(np.arange(20, 40), (6, 1))
    like = HUMAN_LABELS == 0
    right = np.stack([like, ~like, like | True, like & False, like, like])
    labels = np.stack([answers_of(row) for row in right])
    labels = np.take_along_axis(labels, shown, axis=1)
    weights = np.ones((6, NUM_TUNE), np.float32)
    weights[ONE, 1:] = 0.0
    weights[NOBODY] = 0.0
    tune = Answered(shown[:, :NUM_TUNE], labels[:, :NUM_TUNE], weights)
    test = Answered(
        shown[:, NUM_TUNE:],
        labels[:, NUM_TUNE:],
        np.ones((6, 20 - NUM_TUNE), np.float32),
    )
    return People(
        "invented",
        BANK.features[NUM_UNLABELLED:],
        HUMAN_LABELS,
        crowd,
        seeds=np.zeros(6, int),
        persons=np.arange(6),
        num_perfect=np.full(6, np.nan),
        folds=np.array([1, 0, 0, 0, 0, 0]),
        tune=tune,
        test=test,
    )


def fit(config, group, workdir, bank=BANK, stop=lambda: False):
    part = Dataset(bank.inputs[:NUM_UNLABELLED], LABELS[:NUM_UNLABELLED])
    shown = people.Images(part, part, np.zeros(0, int), part, NUM_CLASSES, "digits")
    learner = persons.human_program(config, shown)
    return imputers.fit_all(config, group, bank, learner, workdir, stop)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """All methods, of all people."""
    return fit(make_config(), make_people(), tmp_path_factory.mktemp("fitted"))


def accuracy(fitted, method, row):
    """Share of all images on which it is foreseen whether the person is right."""
    known = LABELS == 0
    right = {LIKE: known, OPPOSITE: ~known, RIGHT: known | True, WRONG: known & False}
    return np.mean((fitted[method].prob[row] >= 0.5) == right[row])


def test_probabilities(fitted):
    assert tuple(fitted) == IMPUTERS
    for method, part in fitted.items():
        assert part.prob.shape == (6, SIZE), method
        assert np.isfinite(part.prob).all(), method
        assert ((part.prob >= 0) & (part.prob <= 1)).all(), method
        assert part.num_selected.shape == (6,)
        if method != "self_training":
            assert (part.num_selected == 0).all()


def test_somebody_like_the_crowd(fitted):
    for method in IMPUTERS:
        assert accuracy(fitted, method, LIKE) > 0.9, method


def test_somebody_opposite_to_the_crowd(fitted):
    """8 people of 20 answers against one of 12: tuning follows the one."""
    for method in ("none", "crowd"):
        assert accuracy(fitted, method, OPPOSITE) < 0.5, method
    for method in ("finetune", "self_training", "propagation", "population"):
        assert accuracy(fitted, method, OPPOSITE) > 0.9, method


def test_somebody_always_right_or_always_wrong(fitted):
    """Of one class alone the weights stay; a model of them is sound, and sure."""
    for row in (RIGHT, WRONG):
        for method in ("finetune", "self_training", "propagation", "population"):
            assert accuracy(fitted, method, row) > 0.9, (method, row)


def test_one_answer_moves_little_and_none_nothing(fitted):
    none_given = fitted["finetune"].prob[NOBODY]
    aggregate = (LABELS == 0).astype(bool)
    assert np.mean((none_given >= 0.5) == aggregate) > 0.9
    np.testing.assert_array_equal(
        fitted["crowd"].prob[NOBODY], fitted["crowd"].prob[OPPOSITE]
    )
    for method in ("propagation", "population", "beta_counts"):
        few, many = fitted[method].prob[ONE], fitted[method].prob[OPPOSITE]
        nothing = fitted[method].prob[NOBODY]
        assert np.abs(few - nothing).mean() < np.abs(many - nothing).mean(), method


def test_self_training_needs_answers(fitted):
    """Without any it cannot be sure of anything."""
    assert fitted["self_training"].num_selected[OPPOSITE] > 0.5 * NUM_UNLABELLED
    assert (fitted["self_training"].num_selected <= NUM_UNLABELLED).all()


def test_the_population_without_answers_is_the_crowd(fitted):
    """Less sure of a person unknown, but of the same opinion."""
    crowd, ours = fitted["crowd"].prob[NOBODY], fitted["population"].prob[NOBODY]
    assert ((crowd >= 0.5) == (ours >= 0.5)).all()
    assert (np.abs(ours - 0.5) <= np.abs(crowd - 0.5) + 1e-6).all()


def test_a_person_learns_nothing_from_their_own_fold(fitted, tmp_path):
    """Answers of fold 0 turned round: people of fold 0 must not notice."""
    before = make_people()
    turned = before.crowd.correct.copy()
    own = before.crowd.folds == 0
    turned[own] = 1.0 - turned[own]
    methods = ("none", "finetune", "propagation", "crowd", "population")
    methods += ("beta_counts", CONTEXTS[0])
    after = fit(make_config(imputers=methods), make_people(turned), tmp_path)
    fold_0 = make_people().folds == 0
    for method in methods:
        here, there = fitted[method].prob, after[method].prob
        np.testing.assert_allclose(here[fold_0], there[fold_0], rtol=0, atol=1e-6)
        # A dozen own answers hide what counts the others gave.
        least = 1e-3 if method == "beta_counts" else 0.1
        assert np.abs(here[~fold_0] - there[~fold_0]).max() > least, method


def test_beta_counts_are_those_of_the_other_folds_and_the_person(fitted):
    group = make_people()
    truth, crowd = np.eye(NUM_CLASSES)[HUMAN_LABELS], group.crowd
    counts = np.zeros((2, 8, NUM_CLASSES))
    np.add.at(counts[0], crowd.persons, truth[crowd.images] * crowd.correct[:, None])
    np.add.at(counts[1], crowd.persons, truth[crowd.images])
    for row in range(6):
        others = np.arange(8) % 2 != group.folds[row]
        prior = beta_counts.fit_prior(Counts(*counts[:, others]), 20)
        images = group.tune.images[row]
        own = beta_counts.count(
            HUMAN_LABELS[images],
            (group.tune.labels[row] == HUMAN_LABELS[images]).astype(np.float32),
            group.tune.weights[row],
            NUM_CLASSES,
        )
        expected = beta_counts.correct_prob(prior, own, BANK.class_probs)
        np.testing.assert_allclose(
            fitted["beta_counts"].prob[row], expected, rtol=0, atol=1e-4
        )


@pytest.mark.slow
def test_contexts_tell_people_apart(tmp_path):
    """A crowd of whom half know the first class and half the others."""
    group = make_people()
    knows_first = group.crowd.persons // 2 % 2 == 0
    correct = (HUMAN_LABELS[group.crowd.images] == 0) == knows_first
    config = make_config(imputers=CONTEXTS, context__num_steps=400)
    fitted = fit(config, make_people(correct.astype(np.float32)), tmp_path)
    for method in CONTEXTS:
        assert accuracy(fitted, method, LIKE) > 0.9, method
        assert accuracy(fitted, method, OPPOSITE) > 0.9, method


def test_skill_that_is_known(tmp_path):
    skill = np.random.default_rng(0).uniform(size=(6, NUM_CLASSES)).astype(np.float32)
    group = make_people()._replace(skill=skill)
    found = fit(make_config(imputers=("skill",)), group, tmp_path)["skill"].prob
    np.testing.assert_allclose(found, skill @ BANK.class_probs.T, rtol=1e-5)
    # As sums are that were rounded up.
    group = make_people()._replace(skill=np.full_like(skill, 1.00001))
    found = fit(make_config(imputers=("skill",)), group, tmp_path / "sure")["skill"]
    assert (found.prob == 1).all()


def test_self_training_is_of_the_person_alone(fitted, tmp_path):
    """Neither the crowd nor, where nothing is sure, the unlabelled images matter."""
    config = make_config(imputers=("self_training",), self_training_threshold=1.1)
    wrong = np.zeros(len(make_people().crowd.images), np.float32)
    alone = fit(config, make_people(), tmp_path / "alone")["self_training"]
    np.testing.assert_array_equal(alone.num_selected, 0)
    noise = np.random.default_rng(1).normal(size=(NUM_UNLABELLED, 5))
    inputs = np.concatenate([noise.astype(np.float32), BANK.inputs[NUM_UNLABELLED:]])
    other = fit(
        config, make_people(wrong), tmp_path / "other", BANK._replace(inputs=inputs)
    )["self_training"]
    human = slice(NUM_UNLABELLED, None)
    np.testing.assert_allclose(
        alone.prob[:, human], other.prob[:, human], rtol=0, atol=1e-6
    )
    # With what it is sure of it is another model.
    selected = fitted["self_training"]
    differs = np.abs(selected.prob - alone.prob).max(axis=1) > 1e-3
    np.testing.assert_array_equal(differs, selected.num_selected > 0)
    assert differs.any()


def test_a_crowd_of_shares_and_nobody_in_particular(tmp_path):
    """The share of right answers is what is foreseen where people do not differ."""
    group = make_people()
    share = np.where(HUMAN_LABELS[:20] == 0, 0.9, 0.1).astype(np.float32)
    nobody = np.full(20, -1)
    config = make_config(
        imputers=("crowd", "population"),
        human_model_epochs=150,  # Of one batch each.
        population__overall=(1e-3,),
        population__by_class=(1e-3,),
    )
    fitted = fit(
        config,
        group._replace(crowd=Crowd(np.arange(20), share, nobody, nobody)),
        tmp_path,
    )
    expected = np.where(LABELS == 0, 0.9, 0.1)
    np.testing.assert_allclose(fitted["crowd"].prob[LIKE], expected, rtol=0, atol=0.1)
    np.testing.assert_allclose(
        fitted["population"].prob, fitted["crowd"].prob, rtol=0, atol=1e-4
    )


def test_stopped_it_goes_on_and_finished_models_stay(fitted, tmp_path, monkeypatch):
    config = make_config(imputers=("propagation",))
    with pytest.raises(sweeps.Interrupted):
        fit(config, make_people(), tmp_path, stop=lambda: True)
    done = {path.name for path in (tmp_path / "checkpoints" / "invented").iterdir()}
    assert done == {"aggregate"}
    first = fit(config, make_people(), tmp_path)["propagation"]
    with monkeypatch.context() as patch:
        # A sign that the second comes from the disk: it leaves nothing there.
        patch.delattr(checkpoints, "save")
        second = fit(config, make_people(), tmp_path)["propagation"]
    wrong = np.zeros(len(make_people().crowd.images), np.float32)
    with pytest.raises(origins.ForeignResultsError, match="made with other data"):
        fit(config, make_people(wrong), tmp_path)
    np.testing.assert_array_equal(first.prob, second.prob)
    np.testing.assert_array_equal(first.prob, fitted["propagation"].prob)


@pytest.mark.parametrize(
    ("method", "field"),
    [
        ("none", "human_model_learning_rate"),
        ("finetune", "finetune_learning_rate"),
        ("self_training", "human_model_learning_rate"),
        ("propagation", "human_model_learning_rate"),
        ("crowd", "human_model_learning_rate"),
        ("population", "human_model_learning_rate"),
        ("context_mean", "context__learning_rate"),
        ("context_attentive_softmax", "context__learning_rate"),
    ],
)
def test_models_that_diverge_are_no_models(method, field, tmp_path):
    config = make_config(imputers=(method,), **{field: 1e30})
    message = rf"^imputers: what {method} trains diverged for [1-6] of 6 people; lower"
    with pytest.raises(ConfigError, match=f"{message}.*{field.replace('__', '.')}"):
        fit(config, make_people(), tmp_path)
