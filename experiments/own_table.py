"""A table of one's own as a problem: its people are the experts.

The table is read as the command ``l2d`` reads it. A seed is a split of repeated
cross-validation that keeps together what belongs together. What is done with each
column is planned once for the whole table, and its statistics are those of a split's
training rows, so inputs differ from seed to seed. Who answered a case is who can be
asked about it; where a problem takes one expert, that is one of them, drawn for each
case and seed.
"""

import functools
import pathlib
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import ml_collections
import numpy as np
import pandas as pd

from experiments import images, schema
from experiments.problem import Problem, Traits, annotate_with_nobody, one_team
from experiments.runtime import progress
from experiments.runtime.errors import ConfigError
from experiments.texts import annotate_with_one
from l2d_jax.engine import memory, orders
from l2d_jax.types import Array, Dataset

if TYPE_CHECKING:
    from l2d_jax.table.cases import Cases

ONE = ("id", "label", "group", "split_by")
SEVERAL = ("experts", "text", "category", "exclude", "scores")
"""Fields of the config that name a column of the table, and those that name some."""
FIELDS = ("cases", "answers_file", *ONE, *SEVERAL, "positive", "num_folds")
"""Fields of the config that say what the table is."""
_EXAMPLE = {
    "id": "case",
    "label": "diagnosis",
    "group": "site",
    "experts": ("reader_1", "reader_2", "reader_3", "trainee"),
}


class Split(NamedTuple):
    """Rows of a seed: its folds of the pool, and its test part, int32 each."""

    fold: orders.Fold
    test: np.ndarray


class Table(NamedTuple):
    """A table as numbers: N cases with a label, S splits.

    Attributes:
      inputs: of each split's encoder, float32 ``[N, S, D]``; the last K of them are the
        probabilities of a model, where one is given.
      labels: int32 ``[N]``, in [0, K).
      classes: names of the classes, K.
      answers: int32 ``[N, M]``, in [0, K); -1 who was not asked.
      people: names of the people, M.
      groups: int32 ``[N]``, in [0, G); zeros where there are none.
      group_names: of the groups, G.
      splits: S of them.
      given: whether there is a model, whose probabilities stand behind the features.
    """

    inputs: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    answers: np.ndarray
    people: tuple[str, ...]
    groups: np.ndarray
    group_names: tuple[str, ...]
    splits: tuple[Split, ...]
    given: bool = False


def load(config: ml_collections.ConfigDict, one: bool = False) -> Table:
    """The table that ``config.cases`` names, or the example's where it is empty.

    Cases without a label have no part. Where one expert is taken, neither have those
    that nobody answered.

    Args:
      config: of the experiment.
      one: whether one expert is taken.

    Raises:
      ConfigError: a file, a column, a cell or a size is not what it should be.
    """
    # Imported here, as they ask for scikit-learn, which other problems start without.
    from l2d_jax.table import columns
    from l2d_jax.table.cases import take

    cases = _read(config)
    for note in cases.notes:
        progress.say(f"note: {note}")
    answered = (cases.answers >= 0).any(axis=1)
    known = cases.labels >= 0
    silent = int((known & ~answered).sum())
    if silent:
        progress.say(
            f"note: nobody has answered {silent} of {known.sum()} cases with a label;"
            + (
                " they are left out."
                if one
                else " what people alone say is measured on the others."
            )
        )
    cases = take(cases, np.flatnonzero(known & answered if one else known))
    people = np.flatnonzero((cases.answers >= 0).any(axis=0))
    idle = [name for n, name in enumerate(cases.people) if n not in people]
    if idle:
        progress.say(
            f"note: {len(idle)} people, such as {idle[0]!r}, have answered no case with"
            " a label; they are left out."
        )
    if not len(people):
        raise ConfigError("experts: nobody has answered a case that has a label")
    if len(people) == 1 and not one:
        raise ConfigError(
            f"experts: {cases.people[people[0]]!r} alone has answered, and problem"
            f" {config.problem} takes several; take the config's scale :one"
        )
    splits = make_splits(config, cases)
    try:
        plan = columns.plan_columns(cases.features, config.text, config.category)
        inputs = []
        for split in splits:
            encoder = columns.fit_encoder(plan, cases.features.iloc[split.fold.train])
            encoded = columns.encode(encoder, cases.features)[0]
            if cases.class_probs is not None:
                encoded = np.concatenate([encoded, cases.class_probs], axis=1)
            inputs.append(encoded)
            if len(inputs) == 1:
                memory.require(inputs=(len(splits) - 1) * inputs[0].nbytes)
    except ValueError as error:
        raise ConfigError(f"cases: {error}") from error
    if not inputs[0].shape[1]:
        raise ConfigError("cases: no column is of use as a feature; exclude fewer")
    names, groups = np.unique(
        np.zeros(len(cases.ids)) if cases.groups is None else cases.groups.astype(str),
        return_inverse=True,
    )
    return Table(
        np.stack(inputs, axis=1).astype(np.float32),
        cases.labels.astype(np.int32),
        cases.classes,
        cases.answers[:, people].astype(np.int32),
        tuple(cases.people[number] for number in people),
        groups.astype(np.int32),
        () if cases.groups is None else tuple(map(str, names)),
        splits,
        cases.class_probs is not None,
    )


def _read(config: ml_collections.ConfigDict) -> "Cases":
    """The cases that the config names.

    Raises:
      ConfigError: a file or a column is not what it should be.
    """
    from l2d_jax.table import example
    from l2d_jax.table.cases import make_cases

    roles = {name: config[name] for name in (*ONE, *SEVERAL)}
    answers = None
    if config.cases:
        frame = _read_file(config, "cases")
        if config.answers_file:
            answers = _read_file(config, "answers_file")
    else:
        given = [name for name in ("answers_file", "positive", *roles) if config[name]]
        if given:
            raise ConfigError(
                f"{given[0]} is of a table of your own; name its file as cases"
            )
        frame, _ = example.make()
        roles |= _EXAMPLE
        progress.say("note: without cases it is the example, whose readers are drawn.")
    for name in ONE:
        if roles[name]:
            schema.one_of(frame.columns)(name, roles[name])
    for name in SEVERAL:
        for column in roles[name]:
            # A star stands for several, which are looked for with the others.
            if "*" not in column:
                schema.one_of(frame.columns)(name, column)
    if not roles["label"]:
        raise ConfigError("label is empty; name the column of what the cases were")
    if not roles["experts"] and answers is None:
        raise ConfigError(
            "experts is empty; name the columns of people's answers, or answers_file"
        )
    try:
        return make_cases(
            frame,
            answers=answers,
            experts=roles["experts"],
            exclude=roles["exclude"],
            id=roles["id"] or None,
            label=roles["label"],
            group=roles["group"] or None,
            split_by=roles["split_by"] or None,
            scores=roles["scores"],
            positive=config.positive or None,
        )
    except ValueError as error:
        raise ConfigError(f"cases: {error}") from error


def _read_file(config: ml_collections.ConfigDict, field: str) -> pd.DataFrame:
    from l2d_jax.table.reading import read_table

    try:
        return read_table(config[field])
    except OSError as error:
        raise ConfigError(
            f"{field}: {config[field]}: {error.strerror}; give the path of a CSV file"
        ) from error
    except ValueError as error:
        raise ConfigError(f"{field}: {error}") from error


def make_splits(config: ml_collections.ConfigDict, cases: "Cases") -> tuple[Split, ...]:
    """Parts of repeated cross-validation, in each of which no unit is split.

    Seeds train together and so have as many minibatches and validation cases each. As
    units are of several sizes, of the parts that have more some cases sit out.

    Args:
      config: has ``num_seeds``, ``num_folds``, ``valid_fraction``, ``batch_size``.
      cases: all with a label.

    Raises:
      ConfigError: the table is too small for so many folds, a part would be empty, or a
        batch is larger than a training part.
    """
    from l2d_jax.table.folds import make_folds

    memory.require(splits=4 * config.num_seeds * len(cases.labels))
    found = []
    for number in range(config.num_seeds):
        repeat, fold = divmod(number, config.num_folds)
        if not fold:
            drawn = np.random.SeedSequence((config.seed, repeat)).generate_state(1)[0]
            try:
                folds = make_folds(
                    *(cases.labels, cases.units, config.num_folds, int(drawn)),
                    cases.classes,
                )
            except ValueError as error:
                raise ConfigError(f"num_folds {config.num_folds}: {error}") from error
        rest, test = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        images.check_split(config, len(rest))
        generator = np.random.default_rng((config.seed, number))
        part = _split_units(generator, cases.units[rest], config.valid_fraction)
        train, valid = rest[part.train], rest[part.valid]
        found.append(Split(orders.Fold(train, valid), test.astype(np.int32)))
    num_train = min(len(split.fold.train) for split in found)
    if config.batch_size > num_train:
        raise ConfigError(
            f"batch_size {config.batch_size} is larger than the {num_train} training"
            f" cases of a split; choose one of at most {num_train}"
        )
    num_valid = min(len(split.fold.valid) for split in found)
    most = (num_train // config.batch_size + 1) * config.batch_size - 1
    out = [
        max(len(split.fold.train) - most, 0) + len(split.fold.valid) - num_valid
        for split in found
    ]
    if any(out):
        progress.say(
            f"note: splits train together and are of one size; up to {max(out)} of"
            f" {len(cases.ids)} cases sit out of a split, where units are larger."
        )
    return tuple(
        split._replace(
            fold=orders.Fold(
                split.fold.train[:most].astype(np.int32),
                split.fold.valid[:num_valid].astype(np.int32),
            )
        )
        for split in found
    )


def _split_units(
    generator: np.random.Generator, units: np.ndarray, valid_fraction: float
) -> orders.Fold:
    """Whole units, drawn at random until they are the part to validate on.

    Raises:
      ConfigError: there is one unit alone.
    """
    names, members = np.unique(units, return_inverse=True)
    if len(names) < 2:
        raise ConfigError(
            "split_by leaves one unit to train and validate on; split by something"
            " smaller"
        )
    place = generator.permutation(len(names))
    sizes = np.bincount(place[members])
    most = round(valid_fraction * len(units))
    num_units = int(np.searchsorted(np.cumsum(sizes), most, side="right"))
    num_units = min(max(num_units, 1), len(names) - 1)
    # In the order of their units, so that what sits out is of few of them.
    order = np.argsort(place[members], kind="stable")
    num_valid = int(sizes[:num_units].sum())
    return orders.Fold(train=order[num_valid:], valid=order[:num_valid])


def make(
    config: ml_collections.ConfigDict,
    table: Table,
    workdir: pathlib.Path,
    stop: Callable[[], bool],
    one: bool = False,
) -> list[Problem]:
    """The table as a problem; with ``one``, of one expert."""
    del workdir, stop
    num_groups, num_classes = len(table.group_names), len(table.classes)
    dataset = Dataset(
        table.inputs,
        table.labels,
        table.answers,
        table.groups if num_groups else None,
    )
    members = {name: table.groups == g for g, name in enumerate(table.group_names)}

    def given(inputs: Array) -> Array:
        return inputs[:, -num_classes:]

    return [
        Problem(
            name=config.problem,
            traits=Traits(
                num_classes,
                num_experts=1 if one else len(table.people),
                num_groups=num_groups,
                sparse=not one and bool((table.answers < 0).any()),
            ),
            pool=dataset,
            test=dataset,
            teams=one_team,
            split=lambda seed: table.splits[seed].fold,
            annotate=annotate_with_one if one else annotate_with_nobody,
            test_rows=lambda seed: table.splits[seed].test,
            slices={name: (rows, rows) for name, rows in members.items()},
            subgroups=(table.groups, table.groups) if num_groups else None,
            num_subgroups=num_groups,
            inputs_by_seed=True,
            classifier=given if table.given else None,
            sampled="splits",
            test_to_train=1 / (config.num_folds - 1),
        )
    ]


load_one = functools.partial(load, one=True)
"""The table, for one expert."""
make_one = functools.partial(make, one=True)
"""The problem of one expert."""
