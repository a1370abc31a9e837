"""People who answered some examples: whom a model is to be fitted to, and a crowd.

A source gives people (synthetic or real), what each answered, and the crowd: what
others answered, from which the aggregate model learns. Half of a person's answers tune
their model and half test it.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import ml_collections
import numpy as np

from experiments import text_features
from experiments.runtime.errors import ConfigError
from l2d_jax import data
from l2d_jax.engine import memory
from l2d_jax.simulate import experts
from l2d_jax.types import Dataset


class Crowd(NamedTuple):
    """What other people answered, one row an answer.

    Attributes:
      images: image answered, int ``[W]``, a row of `People.inputs`.
      correct: whether the answer was right, or the share of answers that were, float
        ``[W]``, in [0, 1].
      persons: who answered, int ``[W]``, in [0, people); -1 where that is not known.
      folds: fold of who answered, int ``[W]``; -1 for somebody in no fold.
      answers: class given, int ``[W]``; None where only whether it was right is known.
    """

    images: np.ndarray
    correct: np.ndarray
    persons: np.ndarray
    folds: np.ndarray
    answers: np.ndarray | None = None


class Answered(NamedTuple):
    """Answers of each person, padded to the longest.

    Attributes:
      images: int ``[P, V]``, rows of `People.inputs`.
      labels: class given, int ``[P, V]``.
      weights: float ``[P, V]``, 1, or 0 for padding.
    """

    images: np.ndarray
    labels: np.ndarray
    weights: np.ndarray


class People(NamedTuple):
    """The people of one source: P rows, a person at a seed each.

    Attributes:
      source: its name.
      inputs: images that anybody answered, ``[H, ...]``.
      labels: their classes, int ``[H]``.
      crowd: what others answered.
      seeds: int ``[P]``.
      persons: number of the person in the source, int ``[P]``.
      num_perfect: k of a synthetic specialist, float ``[P]``; NaN for others.
      folds: fold of each person, int ``[P]``: the crowd's answers of the same fold are
        not used for them.
      tune: answers to fit to.
      test: answers to test on.
      num_answers: of how many answers each row knows, int ``[P]``, where a person is a
        row for each of several numbers; None where they are one.
      skill: chance of being right on each class, float ``[P, K]``; None where it is not
        known.
      new: whether the people come to systems that are there already, which then learn
        nothing from what they answered.
    """

    source: str
    inputs: np.ndarray
    labels: np.ndarray
    crowd: Crowd
    seeds: np.ndarray
    persons: np.ndarray
    num_perfect: np.ndarray
    folds: np.ndarray
    tune: Answered
    test: Answered
    num_answers: np.ndarray | None = None
    skill: np.ndarray | None = None
    new: bool = False


class Images(NamedTuple):
    """The images of an experiment, by use.

    Attributes:
      unlabelled: with their classes; nobody answers them, a model imputes.
      reserved: training images that are kept back for people who answered those.
      reserved_index: their place in the whole training part, int ``[reserved]``.
      human: images that people answer.
      num_classes: K.
      name: of the data set.
    """

    unlabelled: Dataset
    reserved: Dataset
    reserved_index: np.ndarray
    human: Dataset
    num_classes: int
    name: str


def load_images(config: ml_collections.ConfigDict) -> Images:
    """The images, or texts, of the data set that ``config.images`` names."""
    splits = LOADERS[config.images](config)
    size = len(splits.train.labels)
    if config.people.reserved >= size:
        raise ConfigError(
            f"people.reserved {config.people.reserved} leaves none of the {size}"
            " training images to impute answers on; lower it"
        )
    order = np.random.default_rng(config.seed).permutation(size)
    reserved = np.sort(order[: config.people.reserved])
    unlabelled = np.sort(order[config.people.reserved :])
    return Images(
        unlabelled=_rows(splits.train, unlabelled),
        reserved=_rows(splits.train, reserved),
        reserved_index=reserved,
        human=splits.test,
        num_classes=splits.num_classes,
        name=splits.name,
    )


def _load_texts(config: ml_collections.ConfigDict) -> data.Splits:
    """Texts of known label; people's answers to a part of them are not used.

    The answers to the rest come along as ``expert_labels``, -1 of who was not asked.
    """
    annotated = data.load_keswani_mturk(config.data_dir or None)
    known = np.flatnonzero(annotated.labels >= 0)
    order = np.random.default_rng([config.seed, 7]).permutation(known)
    num_human = round(config.people.human_fraction * len(known))
    human, unlabelled = np.sort(order[:num_human]), np.sort(order[num_human:])
    fitted = text_features.fit(
        [annotated.texts[row] for row in unlabelled], config.num_features
    )
    features = fitted(annotated.texts).astype(np.float32)

    def part(rows: np.ndarray) -> Dataset:
        return Dataset(features[rows], annotated.labels[rows], annotated.answers[rows])

    return data.Splits(
        part(unlabelled)._replace(expert_labels=None), part(human), 2, "keswani_mturk"
    )


LOADERS: dict[str, Callable[[ml_collections.ConfigDict], data.Splits]] = {
    "digits": lambda config: data.load_digits(
        test_fraction=config.people.human_fraction
    ),
    "cifar10": lambda config: data.load_cifar10(config.data_dir or None),
    "keswani_mturk": _load_texts,
}
"""Examples by name: the training part is what answers are imputed on, and the test part
what people answer."""


def _rows(dataset: Dataset, rows: np.ndarray) -> Dataset:
    return jax.tree.map(lambda leaf: leaf[rows], dataset)


def specialists(config: ml_collections.ConfigDict, images: Images) -> People:
    """Synthetic experts: perfect on the first k classes, a guess on the others.

    Every k is a person at every seed; people of a seed answer the same images.
    """
    pairs = [(s, k) for s in range(config.num_seeds) for k in config.num_perfect]
    chances = {
        k: np.asarray(experts.specialist(k, images.num_classes).confusion)
        for k in config.num_perfect
    }
    return _simulate(
        "specialist",
        config,
        images,
        seeds=np.array([seed for seed, _ in pairs]),
        persons=np.array([k for _, k in pairs]),
        num_perfect=np.array([k for _, k in pairs], float),
        budget="budget",
        chances=lambda row, shown: chances[pairs[row][1]][images.human.labels[shown]],
    )


def typical_people(config: ml_collections.ConfigDict, images: Images) -> People:
    """Simulated people who answer as CIFAR-10H says people do, one a seed."""
    probs = data.load_cifar10h(config.data_dir or None)
    seeds = np.arange(config.num_seeds)
    return _simulate(
        "cifar10h",
        config,
        images,
        seeds=seeds,
        persons=np.zeros_like(seeds),
        num_perfect=np.full(len(seeds), np.nan),
        budget="real_budget",
        chances=lambda row, shown: probs[shown],
    )


def _simulate(
    source: str,
    config: ml_collections.ConfigDict,
    images: Images,
    *,
    seeds: np.ndarray,
    persons: np.ndarray,
    num_perfect: np.ndarray,
    budget: str,
    chances: Callable[[int, np.ndarray], np.ndarray],
) -> People:
    """People whose answers are drawn: ``chances(row, images)`` is ``[B, K]``.

    The crowd answers some of the images, people are shown others. ``budget`` is the
    field that says how many.
    """
    num_shown = config.people[budget]
    size = len(images.human.labels)
    order = np.random.default_rng([config.seed, 1]).permutation(size)
    crowd_images = order[: config.people.crowd_images]
    free = order[config.people.crowd_images :]
    if num_shown > len(free):
        raise ConfigError(
            f"people.{budget} {num_shown} is larger than the {len(free)} images that"
            " people.crowd_images leaves; lower one of them"
        )
    crowd = _make_crowd(config, images, crowd_images)
    memory.require(answers=2 * 8 * num_shown * len(seeds))
    shown = np.stack(
        [np.random.default_rng([s, 2]).permutation(free)[:num_shown] for s in seeds]
    )
    answers = np.empty_like(shown)
    for row, chosen in enumerate(shown):
        generator = np.random.default_rng([seeds[row], 3, persons[row]])
        cumulative = np.cumsum(chances(row, chosen), axis=1)
        draws = generator.random(len(chosen))[:, None] * cumulative[:, -1:]
        answers[row] = np.sum(cumulative <= draws, axis=1)
    half = num_shown // 2
    return _keep_used(
        People(
            source,
            np.asarray(images.human.inputs),
            np.asarray(images.human.labels),
            crowd,
            seeds,
            persons,
            num_perfect,
            np.zeros(len(seeds), int),
            _whole(shown[:, :half], answers[:, :half]),
            _whole(shown[:, half:], answers[:, half:]),
        )
    )


def _whole(images: np.ndarray, labels: np.ndarray) -> Answered:
    """Answers of people who all gave as many; one of no weight where they gave none."""
    if not images.shape[1]:
        nothing = np.zeros((len(images), 1), int)
        return Answered(nothing, nothing, np.zeros((len(images), 1), np.float32))
    return Answered(images, labels, np.ones(images.shape, np.float32))


def _make_crowd(
    config: ml_collections.ConfigDict, images: Images, shown: np.ndarray
) -> Crowd:
    labels = np.asarray(images.human.labels)[shown]
    if config.people.crowd == "cifar10h":
        probs = data.load_cifar10h(config.data_dir or None)
        nobody = np.full(len(shown), -1)
        return Crowd(shown, probs[shown, labels], nobody, nobody)
    # Everybody is good, and better at some classes than at others.
    size = config.people.crowd_people
    generator = np.random.default_rng([config.seed, 4])
    a, b = config.people.crowd_skill
    num_answers = min(config.people.crowd_answers, len(shown))
    memory.require(crowd=8 * size * (images.num_classes + num_answers))
    skill = generator.beta(a, b, (size, images.num_classes))
    picked = [generator.choice(len(shown), num_answers, False) for _ in range(size)]
    persons = np.repeat(np.arange(size), len(picked[0]))
    picks = np.concatenate(picked)
    correct = generator.random(len(picks)) < skill[persons, labels[picks]]
    return Crowd(
        shown[picks], correct.astype(np.float32), persons, np.full(len(picks), -1)
    )


def real_people(
    source: str,
    config: ml_collections.ConfigDict,
    answers: data.Answers,
    images: Dataset,
) -> People:
    """Real people; the crowd of each is everybody in another fold.

    Usable are those with two answers or more: one to tune and one to test.
    """
    rows_of = [
        np.flatnonzero(answers.annotators == number)
        for number in range(len(answers.names))
    ]
    usable = [number for number, rows in enumerate(rows_of) if len(rows) >= 2]
    if not usable:
        raise ConfigError(f"people.sources: nobody in {source} gave two answers")
    generator = np.random.default_rng([config.seed, 5])
    if config.people.max_people:
        chosen = generator.permutation(usable)[: config.people.max_people]
        usable = sorted(chosen.tolist())
    folds = _draw_folds(source, config, answers, generator)
    pairs = [(s, number) for s in range(config.num_seeds) for number in usable]
    tune, test = [], []
    for seed, number in pairs:
        order = np.random.default_rng([seed, 6, number]).permutation(rows_of[number])
        order = order[: config.people.real_budget]
        tune.append(order[: len(order) // 2])
        test.append(order[len(order) // 2 :])
    truth = np.asarray(images.labels)
    return _keep_used(
        People(
            source,
            np.asarray(images.inputs),
            truth,
            Crowd(
                answers.examples,
                (answers.labels == truth[answers.examples]).astype(np.float32),
                answers.annotators,
                folds[answers.annotators],
                answers.labels,
            ),
            np.array([seed for seed, _ in pairs]),
            np.array([number for _, number in pairs]),
            np.full(len(pairs), np.nan),
            folds[[number for _, number in pairs]],
            _padded(answers, tune),
            _padded(answers, test),
        )
    )


def _draw_folds(
    source: str,
    config: ml_collections.ConfigDict,
    answers: data.Answers,
    generator: np.random.Generator,
) -> np.ndarray:
    """Fold of everybody, int ``[people]``."""
    num_folds = min(config.people.folds, len(answers.names))
    if num_folds < 2:
        raise ConfigError(
            f"people.folds: {source} has {len(answers.names)} people in {num_folds}"
            " folds; there must be two, so that somebody is left to learn from"
        )
    return generator.permutation(len(answers.names)) % num_folds


def _crowd_examples(
    source: str, config: ml_collections.ConfigDict, size: int
) -> np.ndarray:
    """Which of the examples that people answer the crowd did, bool ``[size]``."""
    if config.people.crowd_images >= size:
        raise ConfigError(
            f"people.crowd_images {config.people.crowd_images} leaves none of the"
            f" {size} examples of {source} to test people on; lower it"
        )
    order = np.random.default_rng([config.seed, 1]).permutation(size)
    shown = np.zeros(size, bool)
    shown[order[: config.people.crowd_images]] = True
    return shown


def newcomers(
    source: str,
    config: ml_collections.ConfigDict,
    answers: data.Answers,
    images: Dataset,
    skill: np.ndarray | None = None,
) -> People:
    """Everybody in turn as somebody new, of whom the first few answers are known.

    The crowd of a person is who is in other folds, on ``people.crowd_images`` of the
    examples. The person's own answers to these examples tune the model of them, as many
    as ``people.num_answers`` says: a row for each number that they have given, of which
    every one has the answers of the lesser ones and more. Their answers to all other
    examples, about which nothing is known of anybody, test it.

    Args:
      source: its name.
      config: of the experiment.
      answers: of everybody, to any of the examples.
      images: the examples.
      skill: chance of everybody's being right on each class, float ``[people, K]``.

    Raises:
      ConfigError: too few answers, people or examples.
    """
    shown = _crowd_examples(source, config, len(images.labels))
    known, tested = [], []
    for number in range(len(answers.names)):
        rows = np.flatnonzero(answers.annotators == number)
        known.append(rows[shown[answers.examples[rows]]])
        tested.append(rows[~shown[answers.examples[rows]]])
    usable = [number for number, rows in enumerate(tested) if len(rows)]
    generator = np.random.default_rng([config.seed, 5])
    if config.people.max_people:
        chosen = generator.permutation(usable)[: config.people.max_people]
        usable = sorted(chosen.tolist())
    for size in config.people.num_answers:
        if all(len(known[number]) < size for number in usable):
            most = max((len(known[number]) for number in usable), default=0)
            raise ConfigError(
                f"people.num_answers: nobody in {source} has given {size} answers to"
                f" the crowd's examples, the most are {most}; lower it or raise"
                " people.crowd_images"
            )
    folds = _draw_folds(source, config, answers, generator)
    triples = [
        (seed, number, size)
        for seed in range(config.num_seeds)
        for number in usable
        for size in config.people.num_answers
        if size <= len(known[number])
    ]
    tune = [
        np.random.default_rng([seed, 6, number]).permutation(known[number])[:size]
        for seed, number, size in triples
    ]
    seeds, persons, sizes = np.array(triples).T
    in_crowd = np.flatnonzero(shown[answers.examples])
    crowd = jax.tree.map(lambda leaf: leaf[in_crowd], answers[:3])
    truth = np.asarray(images.labels)
    return _keep_used(
        People(
            source,
            np.asarray(images.inputs),
            truth,
            Crowd(
                crowd[1],
                (crowd[2] == truth[crowd[1]]).astype(np.float32),
                crowd[0],
                folds[crowd[0]],
                crowd[2],
            ),
            seeds,
            persons,
            np.full(len(triples), np.nan),
            folds[persons],
            _padded(answers, tune),
            _padded(answers, [tested[number] for number in persons]),
            num_answers=sizes,
            skill=None if skill is None else skill[persons],
            new=True,
        )
    )


def _padded(answers: data.Answers, rows: list[np.ndarray]) -> Answered:
    width = max(1, *map(len, rows))
    index = np.zeros((len(rows), width), int)
    weights = np.zeros((len(rows), width), np.float32)
    for number, row in enumerate(rows):
        index[number, : len(row)] = row
        weights[number, : len(row)] = 1.0
    return Answered(answers.examples[index], answers.labels[index], weights)


def _keep_used(people: People) -> People:
    """The same people with no images but those that somebody answered."""
    everywhere = (people.crowd.images, people.tune.images, people.test.images)
    used = np.unique(np.concatenate([images.ravel() for images in everywhere]))

    def moved(images: np.ndarray) -> np.ndarray:
        return np.searchsorted(used, images)

    return people._replace(
        inputs=people.inputs[used],
        labels=people.labels[used],
        crowd=people.crowd._replace(images=moved(people.crowd.images)),
        tune=people.tune._replace(images=moved(people.tune.images)),
        test=people.test._replace(images=moved(people.test.images)),
    )


def _cifar10s(config: ml_collections.ConfigDict, images: Images) -> People:
    answers = data.load_cifar10s(config.data_dir or None)
    return real_people("cifar10s", config, answers, images.human)


def _cifar10h_raw(config: ml_collections.ConfigDict, images: Images) -> People:
    answers = data.load_cifar10h_raw(config.people.raw_file)
    return real_people("cifar10h_raw", config, answers, images.human)


def _cifar10n(config: ml_collections.ConfigDict, images: Images) -> People:
    """The three sets of human labels of the reserved training images."""
    if config.people.reserved < 2:
        raise ConfigError(
            "people.reserved must be a whole number >= 2 for cifar10n, whose labels are"
            f" of reserved images, got {config.people.reserved}"
        )
    labels = data.load_cifar10n(config.data_dir or None)[images.reserved_index]
    size, columns = labels.shape
    answers = data.Answers(
        annotators=np.repeat(np.arange(columns), size),
        examples=np.tile(np.arange(size), columns),
        labels=labels.T.ravel(),
        names=tuple(f"random_label{number + 1}" for number in range(columns)),
        num_repeats=0,
    )
    return real_people("cifar10n", config, answers, images.reserved)


def _keswani_answers(images: Images) -> data.Answers:
    """What was answered about tweets; the texts come with their answers."""
    matrix = np.asarray(images.human.expert_labels)
    annotators, examples = np.nonzero(matrix.T >= 0)
    names, annotators = np.unique(annotators, return_inverse=True)
    return data.Answers(
        annotators=annotators,
        examples=examples,
        labels=matrix[examples, names[annotators]],
        names=tuple(map(str, names)),
        num_repeats=0,
    )


def _keswani_mturk(config: ml_collections.ConfigDict, images: Images) -> People:
    return real_people("keswani_mturk", config, _keswani_answers(images), images.human)


def _unseen_keswani(config: ml_collections.ConfigDict, images: Images) -> People:
    return newcomers(
        "unseen_keswani_mturk", config, _keswani_answers(images), images.human
    )


def unseen_specialists(config: ml_collections.ConfigDict, images: Images) -> People:
    """Synthetic people of one population, each new to what the others taught.

    Everybody knows some classes, drawn at random, and is always right on them; how many
    is drawn evenly from ``people.num_known``. On the others they are right with
    probability ``people.right_elsewhere``, and wrong answers are spread evenly. (In the
    experts of Tailor et al. (2024) the misses guess, which makes them right more often
    than the field says; here it is what it says.) They answer ``people.crowd_answers``
    of the crowd's examples each, and all others.
    """
    source, num_classes = "unseen_specialist", images.num_classes
    size, people = len(images.human.labels), config.people
    if max(people.num_known) > num_classes:
        raise ConfigError(
            f"people.num_known {max(people.num_known)} is more than the {num_classes}"
            " classes that there are; lower it"
        )
    shown = _crowd_examples(source, config, size)
    if people.crowd_answers > people.crowd_images:
        raise ConfigError(
            f"people.crowd_answers {people.crowd_answers} is more than people"
            f".crowd_images, {people.crowd_images}; lower it"
        )
    generator = np.random.default_rng([config.seed, 8])
    truth = np.asarray(images.human.labels)
    skill = np.full((people.crowd_people, num_classes), people.right_elsewhere)
    annotators, examples, labels = [], [], []
    for number in range(people.crowd_people):
        count = generator.choice(people.num_known)
        skill[number, generator.permutation(num_classes)[:count]] = 1.0
        in_crowd = generator.choice(
            np.flatnonzero(shown), people.crowd_answers, replace=False
        )
        own = np.concatenate([in_crowd, np.flatnonzero(~shown)])
        right = generator.random(len(own)) < skill[number, truth[own]]
        off = generator.integers(1, num_classes, len(own))
        annotators.append(np.full(len(own), number))
        examples.append(own)
        labels.append(np.where(right, truth[own], (truth[own] + off) % num_classes))
    answers = data.Answers(
        annotators=np.concatenate(annotators),
        examples=np.concatenate(examples),
        labels=np.concatenate(labels),
        names=tuple(map(str, range(people.crowd_people))),
        num_repeats=0,
    )
    return newcomers(source, config, answers, images.human, skill.astype(np.float32))


SOURCES: dict[str, Callable[[ml_collections.ConfigDict, Images], People]] = {
    "specialist": specialists,
    "cifar10h": typical_people,
    "cifar10s": _cifar10s,
    "cifar10h_raw": _cifar10h_raw,
    "cifar10n": _cifar10n,
    "keswani_mturk": _keswani_mturk,
    "unseen_specialist": unseen_specialists,
    "unseen_keswani_mturk": _unseen_keswani,
}
"""People by name of their source."""
FIELDS = {
    "unseen_specialist": ("num_answers", "num_known", "right_elsewhere"),
    "unseen_keswani_mturk": ("num_answers",),
}
"""Fields of ``people`` that only some sources read."""
SIMULATED = ("specialist", "cifar10h")
"""Sources whose people are drawn anew at every seed."""
OF_IMAGES = {
    "digits": ("specialist", "unseen_specialist"),
    "cifar10": (
        "specialist",
        "cifar10h",
        "cifar10s",
        "cifar10h_raw",
        "cifar10n",
        "unseen_specialist",
    ),
    "keswani_mturk": ("keswani_mturk", "unseen_keswani_mturk"),
}
"""Sources that answered the examples of each data set."""
