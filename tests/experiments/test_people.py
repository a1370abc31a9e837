"""The people of the experiment on particular persons, and what others answered."""

import types

import numpy as np
import pytest

from experiments import people
from experiments.configs import digits_finetune
from experiments.runtime.errors import ConfigError
from l2d_jax import data
from l2d_jax.types import Dataset


def make_config(**changes):
    config = digits_finetune.get_config("smoke")
    config.num_seeds = 3
    for name, value in changes.items():
        if name in config.people:
            config.people[name] = value
        else:
            config[name] = value
    return config


@pytest.fixture(scope="module")
def images():
    return people.load_images(make_config())


def make_images(size):
    """One pixel an image, which says which it is; classes follow in turn."""
    pixels = np.arange(size, dtype=np.float32)[:, None]
    return Dataset(pixels, np.arange(size) % 10)


def used(answered):
    """Images that anybody answered."""
    return set(answered.images[answered.weights > 0].tolist())


def as_arrays(group):
    return {
        "inputs": group.inputs,
        "labels": group.labels,
        **{f"crowd {name}": leaf for name, leaf in group.crowd._asdict().items()},
        **{f"tune {name}": leaf for name, leaf in group.tune._asdict().items()},
        **{f"test {name}": leaf for name, leaf in group.test._asdict().items()},
    }


def assert_same(group, other):
    for name, leaf in as_arrays(group).items():
        np.testing.assert_array_equal(leaf, as_arrays(other)[name], err_msg=name)


# Images.


def test_images_are_parted_by_use():
    shown = people.load_images(make_config(reserved=100, human_fraction=0.4))
    whole = data.load_digits(test_fraction=0.4)
    assert len(shown.reserved.labels) == 100
    total = len(shown.unlabelled.labels) + 100
    assert total == len(whole.train.labels)
    np.testing.assert_array_equal(
        shown.reserved.inputs, whole.train.inputs[shown.reserved_index]
    )
    np.testing.assert_array_equal(shown.human.inputs, whole.test.inputs)
    kept = np.setdiff1d(np.arange(total), shown.reserved_index)
    np.testing.assert_array_equal(shown.unlabelled.labels, whole.train.labels[kept])


@pytest.mark.parametrize("extra", [0, 5])
def test_nothing_left_to_impute_on(images, extra):
    size = len(images.unlabelled.labels) + extra
    with pytest.raises(
        ConfigError, match=rf"^people\.reserved {size} leaves none of the .*\n?"
    ):
        people.load_images(make_config(reserved=size))


# Specialists.


def test_specialists_know_their_classes(images):
    group = people.specialists(make_config(num_perfect=(0, 3, 10)), images)
    np.testing.assert_array_equal(group.seeds, [0, 0, 0, 1, 1, 1, 2, 2, 2])
    np.testing.assert_array_equal(group.num_perfect, 3 * [0.0, 3.0, 10.0])
    np.testing.assert_array_equal(group.folds, 0)
    for part in (group.tune, group.test):
        assert part.images.shape == part.labels.shape == (9, 250)
        assert (part.weights == 1).all()
        truth = group.labels[part.images]
        right = part.labels == truth
        known = truth < group.num_perfect[:, None]
        assert right[known].all()
        assert set(np.unique(part.labels)) == set(range(10))
        # 3 * 250 guesses a part; the standard deviation of the share is 0.011.
        guesses = right[group.num_perfect == 0]
        assert 0.055 < guesses.mean() < 0.145
        assert right[group.num_perfect == 10].all()


def test_the_test_images_are_nobodys_else(images):
    group = people.specialists(make_config(), images)
    crowd = set(group.crowd.images.tolist())
    assert len(crowd) <= 500
    for row in range(len(group.seeds)):
        tune, test = set(group.tune.images[row]), set(group.test.images[row])
        assert len(tune) == len(test) == 250
        assert not tune & test and not (tune | test) & crowd


def test_people_of_a_seed_see_the_same_images(images):
    group = people.specialists(make_config(), images)
    for part in (group.tune, group.test):
        by_seed = part.images.reshape(3, 3, -1)
        assert (by_seed == by_seed[:, :1]).all()
        assert (by_seed[0, 0] != by_seed[1, 0]).any()


def test_the_same_seed_gives_the_same_people(images):
    group = people.specialists(make_config(), images)
    assert_same(group, people.specialists(make_config(), images))
    other = people.specialists(make_config(seed=1), images)
    assert (other.crowd.images[:50] != group.crowd.images[:50]).any()
    # A person does not depend on who else there is.
    alone = people.specialists(make_config(num_perfect=(5,), num_seeds=1), images)
    row = 1  # Of seed 0 and k = 5.
    for ours, theirs in ((alone.tune, group.tune), (alone.test, group.test)):
        np.testing.assert_array_equal(ours.labels[0], theirs.labels[row])
        np.testing.assert_array_equal(
            alone.inputs[ours.images[0]], group.inputs[theirs.images[row]]
        )


def test_the_simulated_crowd_is_good(images):
    crowd = people.specialists(make_config(), images).crowd
    # 50 people of 50 answers, Beta(19, 1): right in 95 % of the cases.
    assert len(crowd.images) == 2500
    np.testing.assert_array_equal(np.bincount(crowd.persons), np.full(50, 50))
    assert set(np.unique(crowd.correct)) == {0.0, 1.0}
    assert 0.92 < crowd.correct.mean() < 0.98
    assert (crowd.folds == -1).all()
    for person in range(50):
        assert len(set(crowd.images[crowd.persons == person])) == 50


def test_a_crowd_with_few_images_answers_all_of_them(images):
    crowd = people.specialists(make_config(crowd_images=7), images).crowd
    assert len(crowd.images) == 7 * 50 and len(set(crowd.images)) == 7


@pytest.mark.parametrize(("budget", "sizes"), [(7, (3, 4)), (2, (1, 1))])
def test_an_odd_budget_tests_on_one_more(images, budget, sizes):
    group = people.specialists(make_config(budget=budget), images)
    assert (group.tune.images.shape[1], group.test.images.shape[1]) == sizes


def test_a_budget_of_one_is_a_test(images):
    group = people.specialists(make_config(budget=1), images)
    assert group.tune.images.shape == (9, 1) and (group.tune.weights == 0).all()
    assert group.test.images.shape == (9, 1) and (group.test.weights == 1).all()


@pytest.mark.parametrize(
    "changes", [{"budget": 600}, {"crowd_images": 600}, {"crowd_images": 10_000}]
)
def test_too_large_a_budget_is_refused(images, changes):
    with pytest.raises(ConfigError, match=r"^people\.budget \d+ is larger"):
        people.specialists(make_config(**changes), images)


# Simulated people of CIFAR-10H.


@pytest.fixture
def soft_labels(monkeypatch):
    """Everybody takes an image of class y for y or, one time in four, the next."""
    truth = np.arange(400) % 10
    probs = np.zeros((400, 10), np.float32)
    probs[np.arange(400), truth] = 0.75
    probs[np.arange(400), (truth + 1) % 10] = 0.25
    fake = types.SimpleNamespace(load_cifar10h=lambda data_dir: probs)
    monkeypatch.setattr(people, "data", fake)


def make_cifar(size=400):
    part = make_images(size)
    nothing = np.zeros(0, int)
    return people.Images(part, part, nothing, part, 10, "cifar10")


def test_typical_people_answer_as_the_crowd_does(soft_labels):
    config = make_config(
        num_seeds=8, real_budget=200, crowd="cifar10h", crowd_images=100
    )
    group = people.typical_people(config, make_cifar())
    assert np.isnan(group.num_perfect).all()
    np.testing.assert_array_equal(group.seeds, np.arange(8))
    steps = (group.tune.labels - group.labels[group.tune.images]) % 10
    assert set(np.unique(steps)) == {0, 1}
    # 800 answers; the standard deviation of the share is 0.015.
    assert abs(steps.mean() - 0.25) < 0.06
    # The crowd is the share that was right, of nobody in particular.
    assert len(group.crowd.images) == 100
    np.testing.assert_array_equal(group.crowd.correct, np.float32(0.75))
    assert (group.crowd.persons == -1).all() and (group.crowd.folds == -1).all()
    assert not set(group.crowd.images) & (used(group.tune) | used(group.test))


def test_too_large_a_budget_of_typical_people_is_refused(soft_labels):
    config = make_config(real_budget=200, crowd_images=201)
    with pytest.raises(
        ConfigError, match=r"^people\.real_budget 200 is larger than the 199"
    ):
        people.typical_people(config, make_cifar())


# Real people.

SIZE = 40  # Images.


def make_answers(counts, seed=0):
    """Each person answers the given number of images and is right 4 times in 5."""
    generator = np.random.default_rng(seed)
    annotators = np.repeat(np.arange(len(counts)), counts)
    examples = np.concatenate([generator.permutation(SIZE)[:n] for n in counts])
    labels = (examples + (generator.random(len(examples)) < 0.2)) % 10
    names = tuple(f"p{number}" for number in range(len(counts)))
    return data.Answers(annotators, examples, labels, names, 0)


COUNTS = (8, 1, 5, 2, 12, 3)


@pytest.fixture(scope="module")
def answers():
    return make_answers(COUNTS)


def real_people(answers, **changes):
    config = make_config(num_seeds=2, **changes)
    return people.real_people("invented", config, answers, make_images(SIZE))


def given(group, part, row):
    """What a person of a row answered: pairs of image and class."""
    kept = part.weights[row] > 0
    pixels = group.inputs[part.images[row][kept], 0]
    return set(zip(pixels.tolist(), part.labels[row][kept].tolist(), strict=True))


def test_halves_of_real_people(answers):
    group = real_people(answers)
    # The person of one answer is left out.
    np.testing.assert_array_equal(group.persons, 2 * [0, 2, 3, 4, 5])
    np.testing.assert_array_equal(group.seeds, 5 * [0] + 5 * [1])
    assert np.isnan(group.num_perfect).all()
    counts = np.array(COUNTS)[group.persons]
    np.testing.assert_array_equal(group.tune.weights.sum(1), counts // 2)
    np.testing.assert_array_equal(group.test.weights.sum(1), counts - counts // 2)
    for row, person in enumerate(group.persons):
        theirs = answers.annotators == person
        examples, labels = answers.examples[theirs], answers.labels[theirs]
        whole = set(zip(examples.tolist(), labels.tolist(), strict=True))
        tune, test = given(group, group.tune, row), given(group, group.test, row)
        assert tune | test == whole and not tune & test
    # Another seed, other halves.
    assert given(group, group.tune, 3) != given(group, group.tune, 8)


def test_padding_weighs_nothing(answers):
    group = real_people(answers)
    assert group.tune.images.shape == (10, 6) and group.test.images.shape == (10, 6)
    for part in (group.tune, group.test):
        assert set(np.unique(part.weights)) == {0.0, 1.0}
        assert part.weights.dtype == np.float32
        # Answers come first.
        assert (np.diff(part.weights, axis=1) <= 0).all()
        assert ((part.images >= 0) & (part.images < len(group.labels))).all()


def test_only_images_that_somebody_answered_are_kept(answers):
    group = real_people(answers)
    pixels = group.inputs[:, 0].astype(int)
    np.testing.assert_array_equal(pixels, np.unique(answers.examples))
    np.testing.assert_array_equal(group.labels, pixels % 10)
    np.testing.assert_array_equal(pixels[group.crowd.images], answers.examples)
    right = answers.labels == answers.examples % 10
    np.testing.assert_array_equal(group.crowd.correct, right)
    assert group.crowd.correct.dtype == np.float32


@pytest.mark.parametrize("folds", [2, 3, 100])
def test_nobody_is_in_their_own_crowd(answers, folds):
    group = real_people(answers, folds=folds)
    assert set(group.crowd.folds) == set(range(min(folds, len(COUNTS))))
    for person, fold in zip(group.persons, group.folds, strict=True):
        theirs = group.crowd.persons == person
        assert theirs.any() and (group.crowd.folds[theirs] == fold).all()
        # Somebody is left to learn from.
        assert (group.crowd.folds != fold).any()
    # A person has one fold, whatever the seed.
    np.testing.assert_array_equal(group.folds[:5], group.folds[5:])


@pytest.mark.parametrize(("budget", "tuned", "tested"), [(2, 1, 1), (5, 2, 3)])
def test_the_budget_of_real_people(answers, budget, tuned, tested):
    group = real_people(answers, real_budget=budget)
    longest = group.persons == 4
    assert (group.tune.weights[longest].sum(1) == tuned).all()
    assert (group.test.weights[longest].sum(1) == tested).all()
    # Others learn of all the answers there are.
    assert len(group.crowd.images) == sum(COUNTS)


@pytest.mark.parametrize("size", [1, 3, 100])
def test_some_of_the_people(answers, size):
    group = real_people(answers, max_people=size)
    chosen = np.unique(group.persons)
    assert len(chosen) == min(size, 5) and set(chosen) <= {0, 2, 3, 4, 5}
    assert len(group.seeds) == 2 * len(chosen)
    assert len(group.crowd.images) == sum(COUNTS)


def test_real_people_are_the_same_again(answers):
    assert_same(real_people(answers), real_people(answers))


def test_nobody_who_gave_two_answers():
    with pytest.raises(
        ConfigError, match=r"^people\.sources: nobody in invented gave two"
    ):
        real_people(make_answers((1, 1, 1)))


def test_a_crowd_of_one():
    with pytest.raises(
        ConfigError, match=r"^people\.folds: invented has 1 people in 1 folds"
    ):
        real_people(make_answers((8,)))


def test_labellers_of_reserved_images(monkeypatch):
    """CIFAR-10N: three columns of labels, of which the reserved rows are taken."""
    labels = np.stack([np.arange(50) % 10, np.arange(50) % 7, np.zeros(50, int)], 1)
    fake = types.SimpleNamespace(
        load_cifar10n=lambda data_dir: labels, Answers=data.Answers
    )
    monkeypatch.setattr(people, "data", fake)
    index = np.array([3, 12, 20, 31])
    reserved = make_images(50)._replace(
        inputs=index[:, None].astype(np.float32), labels=index % 10
    )
    shown = make_cifar()._replace(reserved=reserved, reserved_index=index)
    config = make_config(num_seeds=1, reserved=4)
    group = people.SOURCES["cifar10n"](config, shown)
    np.testing.assert_array_equal(group.persons, [0, 1, 2])
    np.testing.assert_array_equal(group.inputs[:, 0], index)
    for row, person in enumerate(group.persons):
        tune, test = given(group, group.tune, row), given(group, group.test, row)
        assert len(tune) == len(test) == 2
        assert tune | test == {(float(i), int(labels[i, person])) for i in index}
    rates = [group.crowd.correct[group.crowd.persons == p].mean() for p in range(3)]
    # 3, 12, 20, 31 by 7: 3, 5, 6, 3; as zeros only 20 is right.
    np.testing.assert_allclose(rates, [1.0, 0.25, 0.25], rtol=0, atol=1e-7)


def test_labellers_need_reserved_images():
    with pytest.raises(
        ConfigError, match=r"^people\.reserved must be a whole number >= 2 .*, got 1"
    ):
        people.SOURCES["cifar10n"](make_config(reserved=1), make_cifar())


def test_people_who_answered_about_texts():
    """The answers come with the texts; who gave none is nobody."""
    answers = np.full((6, 4), -1, np.int32)
    answers[:4, 1] = [0, 1, 0, 1]
    answers[2:, 3] = [1, 1, 0, 0]
    human = make_images(6)._replace(
        labels=np.array([0, 1, 0, 1, 0, 1]), expert_labels=answers
    )
    shown = make_cifar()._replace(human=human, num_classes=2)
    config = make_config(num_seeds=1, folds=2)
    group = people.SOURCES["keswani_mturk"](config, shown)
    np.testing.assert_array_equal(group.persons, [0, 1])
    np.testing.assert_array_equal(group.test.weights.sum(1), [2, 2])
    whole = [
        given(group, group.tune, row) | given(group, group.test, row) for row in (0, 1)
    ]
    assert whole[0] == {(0.0, 0), (1.0, 1), (2.0, 0), (3.0, 1)}
    assert whole[1] == {(2.0, 1), (3.0, 1), (4.0, 0), (5.0, 0)}
    rates = [group.crowd.correct[group.crowd.persons == p].mean() for p in (0, 1)]
    assert rates == [1.0, 0.5]
