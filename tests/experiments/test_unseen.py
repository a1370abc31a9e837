"""People never seen in training: who they are, what is compared, and a whole run."""

import warnings

import numpy as np
import pandas as pd
import programs
import pytest

from experiments import people, persons, unseen
from experiments.configs import unseen as configs
from experiments.figures import unseen as figures
from experiments.runtime.errors import ConfigError
from l2d_jax import data
from l2d_jax.data import keswani_mturk
from l2d_jax.types import Dataset

pytestmark = pytest.mark.usefixtures("cheap_compiles")

TABLES = ("results.csv", "summary.csv", "comparison.csv", "curves.csv")
OWN = ("differences.csv", "overtaking.csv")


def make_config(**changes):
    config = configs.get_config("smoke")
    config.placement = "vmap"  # Compiles faster than on two devices.
    for name, value in changes.items():
        *sections, field = name.split("__")
        target = config
        for section in sections:
            target = target[section]
        target[field] = value
    return config


def make_people(**changes):
    config = make_config(**changes)
    return people.unseen_specialists(config, people.load_images(config))


def used(answered, row):
    """Images and classes given of one row."""
    counts = answered.weights[row] > 0
    return answered.images[row][counts], answered.labels[row][counts]


# Who is new.


@pytest.fixture(scope="module")
def group():
    return make_people(
        num_seeds=2, people__num_answers=(0, 3, 20), people__crowd_people=6
    )


def test_a_row_for_each_seed_person_and_number_of_answers(group):
    np.testing.assert_array_equal(group.seeds, np.repeat([0, 1], 18))
    np.testing.assert_array_equal(group.persons, np.tile(np.repeat(range(6), 3), 2))
    np.testing.assert_array_equal(group.num_answers, np.tile([0, 3, 20], 12))
    np.testing.assert_array_equal(group.tune.weights.sum(axis=1), group.num_answers)
    assert group.new and set(group.folds) == {0, 1}


def test_more_answers_are_the_fewer_and_others(group):
    for row in range(0, 36, 3):
        (few, _), (many, _) = used(group.tune, row + 1), used(group.tune, row + 2)
        np.testing.assert_array_equal(few, many[:3])
        assert len(set(many)) == 20
    # Of a seed they are the person's own draw, but the test is the same.
    assert (used(group.tune, 1)[0] != used(group.tune, 19)[0]).any()
    for row in range(18):
        for one, other in zip(
            used(group.test, row), used(group.test, row + 18), strict=True
        ):
            np.testing.assert_array_equal(one, other)


def test_nothing_is_known_of_what_tests(group):
    crowd = set(group.crowd.images.tolist())
    for row in range(36):
        tested, _ = used(group.test, row)
        assert len(tested) > 900 and not crowd & set(tested.tolist())
        assert set(used(group.tune, row)[0].tolist()) <= crowd


def test_specialists_are_right_as_often_as_their_skill():
    group = make_people(
        people__num_known=(0, 4), people__right_elsewhere=0.3, people__crowd_people=40
    )
    known = (group.skill == 1.0).sum(axis=1)
    assert set(known) == {0, 4}
    assert ((group.skill == 1.0) | np.isclose(group.skill, 0.3)).all()
    # Drawn at random: every class is known by somebody, and not all know the same.
    assert (group.skill == 1.0).any(axis=0).all()
    misses = []
    for row in np.flatnonzero(group.num_answers == 0):
        images, labels = used(group.test, row)
        truth = group.labels[images]
        right = labels == truth
        sure = group.skill[row][truth] == 1.0
        assert right[sure].all()
        # Some 600 answers: three standard deviations of the share are .06.
        assert abs(right[~sure].mean() - 0.3) < 0.07
        misses.append((labels - truth)[~right] % 10)
    shares = np.bincount(np.concatenate(misses), minlength=10)[1:]
    assert shares.min() > 0.8 * shares.mean()  # Spread evenly over the wrong classes.


def test_crowd_answers_are_of_people_told_apart(group):
    np.testing.assert_array_equal(np.bincount(group.crowd.persons), 6 * [20])
    truth = group.labels[group.crowd.images]
    np.testing.assert_array_equal(group.crowd.correct, group.crowd.answers == truth)
    folds = group.folds[group.seeds == 0][::3]
    np.testing.assert_array_equal(group.crowd.folds, folds[group.crowd.persons])


def test_people_with_too_few_answers_are_left_out_where_they_are_too_few():
    config = make_config(people__num_answers=(0, 2), people__crowd_images=4)
    # Person 0 answers all ten examples, 1 only the first, 2 only one that tests.
    shown = people._crowd_examples("x", config, 10)
    inside, outside = np.flatnonzero(shown), np.flatnonzero(~shown)
    examples = np.concatenate([np.arange(10), [inside[0], outside[0]], [outside[1]]])
    persons_of = np.array([0] * 10 + [1] * 2 + [2])
    answers = data.Answers(persons_of, examples, 0 * examples, ("a", "b", "c"), 0)
    images = Dataset(np.zeros((10, 2)), np.zeros(10, int))
    group = people.newcomers("x", config, answers, images)
    rows = list(zip(group.persons.tolist(), group.num_answers.tolist(), strict=True))
    assert rows == [(0, 0), (0, 2), (1, 0), (2, 0)]
    config.people.num_answers = (0, 5)
    with pytest.raises(ConfigError, match=r"^people\.num_answers: nobody in x has giv"):
        people.newcomers("x", config, answers, images)


# What is compared.


def make_results(values, seeds=1):
    """System accuracies ``{imputer: {number: one of each person}}``."""
    rows = [
        {
            "problem": "p",
            "people": "s",
            "method": "imputed",
            "split": "test",
            "chosen": True,
            "seed": seed,
            "imputer": imputer,
            "num_answers": number,
            "person": person,
            "system_accuracy": value,
            "human_model_nll": 1.0 - value,
            "expert_calibration_error": 0.1,
        }
        for imputer, by_number in values.items()
        for number, people_values in by_number.items()
        for person, value in enumerate(people_values)
        for seed in range(seeds)
    ]
    return pd.DataFrame(rows)


BASE = {0: [0.5, 0.6, 0.7], 5: [0.6, 0.7, 0.8], 20: [0.7, 0.8, 0.9]}


def moved(by):
    """As the base, and a little off for every person."""
    return {
        number: [value + by[number] + 0.001 * i for i, value in enumerate(values)]
        for number, values in BASE.items()
    }


def test_differences_are_paired_by_person():
    results = make_results(
        {"beta_counts": BASE, "x": moved({0: 0.1, 5: 0.0, 20: -0.1})}, seeds=2
    )
    alone = results.assign(method="classifier")
    found = unseen.compare(pd.concat([results, alone]))
    assert set(found.imputer) == {"x"} and set(found.method) == {"imputed"}
    rows = found[found.metric == "system_accuracy"].set_index("num_answers")
    np.testing.assert_allclose(rows["mean"], [0.101, 0.001, -0.099], atol=1e-9)
    assert (rows.n == 3).all()  # Not of seeds: these are of the same person.
    # Student's interval of .1, .101 and .102.
    half = 4.302653 * 0.001 / np.sqrt(3)
    np.testing.assert_allclose(rows.ci_high[0], 0.101 + half, atol=1e-8)
    nll = found[found.metric == "human_model_nll"].set_index("num_answers")
    np.testing.assert_allclose(nll["mean"], [-0.101, -0.001, 0.099], atol=1e-9)


def test_nothing_to_compare_with():
    assert unseen.compare(make_results({"x": BASE})).empty


@pytest.mark.parametrize(
    ("by", "ahead_from", "ahead", "behind"),
    [
        ((-0.1, 0.1, 0.1), "5", "5 20", "0"),
        ((0.1, -0.1, 0.1), "20", "0 20", "5"),
        ((0.1, 0.1, -0.1), "", "0 5", "20"),
        ((-0.001, -0.001, -0.001), "", "", ""),
        ((0.1, 0.1, 0.1), "0", "0 5 20", ""),
    ],
)
def test_from_how_many_answers_on(by, ahead_from, ahead, behind):
    by = dict(zip((0, 5, 20), by, strict=True))
    results = make_results({"beta_counts": BASE, "x": moved(by)})
    found = unseen.overtake(unseen.compare(results)).set_index("metric")
    # More is better of the one and less of the other.
    for metric in ("system_accuracy", "human_model_nll"):
        row = found.loc[metric]
        assert (row.ahead_from, row.ahead, row.behind) == (ahead_from, ahead, behind)


# A whole run.


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("unseen")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        out, _ = programs.run(unseen.main, make_config(), workdir)
    return workdir, out


@pytest.mark.slow
def test_files_and_rows_of_a_whole_run(whole):
    workdir, out = whole
    names = {path.name for path in workdir.iterdir()}
    assert names == {*TABLES, *OWN, "config.json", "figures", "checkpoints"}
    (figure,) = (workdir / "figures").iterdir()
    assert figure.name == "unseen_specialist.png"
    assert figure.read_bytes().startswith(b"\x89PNG")
    assert "Numbers of answers at which a model of the person beats beta_counts" in out
    config = make_config()
    results = pd.read_csv(workdir / "results.csv")
    test = results[results.split == "test"]
    rows = len(config.methods) * len(config.imputers) * 2 * config.people.crowd_people
    assert len(test) == rows
    assert test.groupby(["method", "imputer", "num_answers"]).size().nunique() == 1
    assert not test.diverged.any()
    # Who answers alone does so whatever the model of the person.
    for name in ("classifier", "expert"):
        part = test[test.method == name]
        assert (part.groupby("person").system_accuracy.nunique() == 1).all()
    ours = test[test.method == "imputed"]
    assert ours.human_model_nll.gt(0).all()
    assert ours.expert_calibration_error.between(0, 1).all()
    # What is true of a person does not depend on how much is known of them.
    known = ours[ours.imputer == "skill"].groupby("person").human_model_nll
    assert (known.nunique() == 1).all()
    differences = pd.read_csv(workdir / "differences.csv")
    others = set(config.imputers) - {unseen.REFERENCE}
    assert set(differences.imputer) == others
    assert set(differences.metric) == set(unseen.METRICS)


@pytest.mark.slow
def test_drawn_again_the_figure_is_the_same(whole):
    workdir, _ = whole
    path = workdir / "figures" / "unseen_specialist.png"
    before = path.read_bytes()
    figures.draw(workdir)
    assert path.read_bytes() == before


# Bad input.

BAD = [
    ({"people__num_answers": (5, 0)}, "people.num_answers must increase"),
    ({"people__num_answers": (-1,)}, "people.num_answers must be a whole number >= 0"),
    ({"people__num_answers": (0, 21)}, "people.num_answers: nobody in unseen_specia"),
    ({"people__num_known": (11,)}, "people.num_known 11 is more than the 10 classes"),
    ({"people__right_elsewhere": 1.5}, "people.right_elsewhere must be .* 1.5"),
    ({"people__crowd_images": 5000}, "people.crowd_images 5000 leaves none of the"),
    ({"people__crowd_answers": 700}, "people.crowd_answers 700 is more than people.c"),
    ({"people__crowd_people": 1}, "people.folds: unseen_specialist has 1 people in 1"),
    ({"context__reads": "pixels"}, "context.reads must be one of class_probs, feat"),
    ({"context__encoder": ()}, "context.encoder must hold at least one value"),
    ({"people__sources": ("specialist",)}, "people.sources: specialist is not new"),
]


@pytest.mark.parametrize(("changes", "message"), BAD, ids=lambda part: str(part)[:40])
def test_bad_config(tmp_path, changes, message):
    with pytest.raises(ConfigError, match=f"^{message}") as error:
        programs.run(unseen.main, make_config(**changes), tmp_path)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("imputer", "message"),
    [
        ("skill", "skill needs simulated people, and what specialist can is not known"),
        ("context_mean", "context_mean needs the answers of the crowd of specialist"),
    ],
)
def test_people_who_cannot_be_modelled_so(imputer, message):
    config = make_config(people__sources=("specialist",), imputers=(imputer,))
    with pytest.raises(ConfigError, match=f"^imputers: {message}"):
        persons.prepare(config)


@pytest.mark.parametrize(
    ("section", "field", "message"),
    [
        ("people", "num_known", "people.num_known is missing, which unseen_specialist"),
        ("", "context", "context is missing, which the imputer context_mean needs"),
        ("", "people", "people is missing, which this program is about"),
    ],
)
def test_a_field_that_is_missing(tmp_path, section, field, message):
    config = make_config()
    with config.unlocked():
        del (config[section] if section else config)[field]
    with pytest.raises(ConfigError, match=f"^{message}"):
        programs.run(unseen.main, config, tmp_path)


@pytest.mark.real_data(keswani_mturk._PLACE)
def test_people_who_annotate_tweets():
    prepared = persons.prepare(configs.get_config("texts"))
    (group,) = prepared.groups
    assert group.new and group.skill is None
    for size, at_least in ((0, 160), (20, 160), (50, 50)):
        rows = group.num_answers == size
        assert len(set(group.persons[rows])) >= at_least
    crowd = set(group.crowd.images.tolist())
    assert not crowd & set(group.test.images[group.test.weights > 0].tolist())
