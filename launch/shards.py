"""A sweep in parts: one work folder for each, and their tables merged.

A sweep is split over a field of its config that holds a tuple. Each shard is the same
experiment with a part of that tuple, in ``WORKDIR/shards/NN``; ``WORKDIR/launch.json``
says what the parts are.
"""

import ast
import json
import pathlib
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import pandas as pd

from experiments import tables
from experiments.runtime.errors import ConfigError
from experiments.runtime.workdir import ORIGIN, write_text
from l2d_jax.engine import origins
from launch import commands

CONFIG = "config.json"
RECORD = "launch.json"
RESULTS = "results.csv"
_NTH = "nth of equal rows"  # A column for the time of merging.


class Shard(NamedTuple):
    """A part of a sweep.

    Attributes:
      name: ``00``, ``01`` and so on.
      values: its part of the field's tuple.
      workdir: its own folder.
    """

    name: str
    values: tuple[Any, ...]
    workdir: pathlib.Path


class Record(NamedTuple):
    """What was submitted: the content of ``launch.json``.

    Attributes:
      command: the experiment as it was given, in words.
      over: the config field that is split, without ``config.``; None if none is.
      parts: its values, one part for each shard; empty without `over`.
      jobs: Slurm's id of each shard's job; one without `over`.
      options: how it was submitted.
    """

    command: tuple[str, ...]
    over: str | None
    parts: tuple[tuple[Any, ...], ...]
    jobs: tuple[str, ...]
    options: dict[str, Any]

    def shards(self, workdir: pathlib.Path) -> list[Shard]:
        """The shards below a work folder."""
        return [
            Shard(f"{index:02d}", part, workdir / "shards" / f"{index:02d}")
            for index, part in enumerate(self.parts)
        ]


def split_field(
    command: commands.Command, over: str, num_shards: int | None
) -> tuple[tuple[Any, ...], ...]:
    """The parts of a config field, near-equal and in order.

    Args:
      command: an experiment with ``--config``.
      over: the field, without ``config.``.
      num_shards: how many parts; None for one of each value.

    Raises:
      UserError: the field cannot be split, or not into so many.
    """
    name = f"config.{over}"
    if over.partition(".")[0] == "grid":
        raise commands.UserError(
            f"--over={name}: validation chooses among the values of config.grid, so"
            " they must stay together; split a field like config.num_perfect"
        )
    values = _field(read_config(command), over)
    if not isinstance(values, tuple) or not values:
        raise commands.UserError(
            f"--over={name}: holds {values!r}; choose a field that holds a tuple"
        )
    if not _is_plain(values):
        raise commands.UserError(
            f"--over={name}: {values!r} cannot be given on a command line; choose a"
            " tuple of numbers or texts"
        )
    num_shards = len(values) if num_shards is None else num_shards
    if not 1 <= num_shards <= len(values):
        raise commands.UserError(
            f"--shards={num_shards}: {name} has {len(values)} values; give"
            f" 1..{len(values)}"
        )
    return tuple(commands.split_evenly(values, num_shards))


def read_config(command: commands.Command) -> Any:
    """The config that a command's flags describe, as the experiment would read it."""
    from absl import flags
    from ml_collections import config_flags

    if command.value("config") is None:
        raise commands.UserError("--over needs --config=FILE.py after the --")
    values = flags.FlagValues()
    argv = [command.module, *command.arguments]
    before = sys.argv
    try:
        # ml_collections looks there for what --config.FIELD=VALUE changes.
        sys.argv = argv
        config_flags.DEFINE_config_file("config", None, "", flag_values=values)
        values(argv, known_only=True)
        config = values["config"].value
        if not hasattr(config, "to_dict"):
            raise commands.UserError("--config: its get_config gave no ConfigDict")
        return config
    except commands.UserError:
        raise
    except Exception as error:
        # Whatever a config file may raise; the experiment itself would say no more.
        last = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        raise commands.UserError(
            f"--config={command.value('config')}: cannot be read: {last}"
        ) from error
    finally:
        sys.argv = before


def shard_command(
    command: commands.Command, over: str, shard: Shard
) -> commands.Command:
    """The experiment of one shard."""
    changed = command.replace(f"config.{over}", repr(shard.values))
    return changed.replace("workdir", str(shard.workdir))


def write_record(record: Record, workdir: pathlib.Path) -> None:
    """Write ``launch.json``."""
    try:
        write_text(workdir / RECORD, json.dumps(record._asdict(), indent=2) + "\n")
    except OSError as error:
        raise commands.UserError(f"{workdir / RECORD}: {error.strerror}") from error


def read_record(workdir: pathlib.Path) -> Record:
    """What was submitted for a work folder.

    Raises:
      UserError: nothing was.
    """
    found = _read_json(
        workdir / RECORD, f"submit with --workdir={workdir} first, or name its DIR"
    )
    try:
        return Record(
            tuple(found["command"]),
            found["over"],
            tuple(_as_tuple(part) for part in found["parts"]),
            tuple(found["jobs"]),
            found["options"],
        )
    except (KeyError, TypeError) as error:
        raise commands.UserError(
            f"{workdir / RECORD}: not written by launch.slurm ({error!r}); delete it"
            " and submit again"
        ) from error


def count_rows(workdir: pathlib.Path) -> int:
    """Rows of the results of a work folder; 0 before there are any."""
    path = workdir / RESULTS
    return len(_read_table(path)) if path.exists() else 0


def missing_shards(workdir: pathlib.Path, record: Record) -> str:
    """The shards without results, as in ``shards 00, 02``; empty if there are none."""
    names = [s.name for s in record.shards(workdir) if not _has_results(s)]
    return _plural("shard", names) if names else ""


def collect(
    workdir: pathlib.Path, record: Record, partial: bool = False
) -> dict[str, int]:
    """Merge the shards' tables into tables of the same names in the work folder.

    Rows come in the order of the shards. A row that another shard has too, in every
    column, stands once: a baseline that does not depend on the field.

    Args:
      workdir: the folder that was submitted.
      record: its record.
      partial: merge what is there, though shards are missing.

    Returns:
      Number of rows of each table written.

    Raises:
      UserError: shards are missing or unfinished, a table was cut short or changed, or
        their configs differ in more than the field, or the code that made them.
    """
    done = [shard for shard in record.shards(workdir) if _has_results(shard)]
    missing = missing_shards(workdir, record)
    if missing and not (partial and done):
        raise commands.UserError(
            f"{workdir}: no {RESULTS} from {missing}; see"
            f" python -m launch.slurm status {workdir}"
            + (", or give --partial for the others" if done else "")
        )
    assert record.over is not None
    config = _merge_configs(done, record)
    path = workdir / CONFIG
    if path.exists() and (found := _difference(_read_json(path), config)) is not None:
        raise commands.UserError(
            f"{path}: {found} differs from the shards; move the results of that other"
            " config away"
        )
    origin = _common_origin(done)
    names = sorted({p.name for shard in done for p in shard.workdir.glob("*.csv")})
    for name in names:
        lacking = [s.name for s in done if not (s.workdir / name).exists()]
        if lacking:
            raise commands.UserError(
                f"{workdir}: no {name} from {_plural('shard', lacking)}; submit again"
                " to complete it"
            )
    for shard in done:
        for name in names:
            _check_table(shard, name)
    merged = {
        name: _merge([_read_table(shard.workdir / name) for shard in done])
        for name in names
    }
    try:
        write_text(path, json.dumps(config, indent=2, sort_keys=True) + "\n")
        for name, table in merged.items():
            tables.write_csv(table, workdir / name)
        write_text(workdir / ORIGIN, json.dumps(origin, indent=2) + "\n")
        tables.seal(workdir)
    except OSError as error:
        raise commands.UserError(f"{error.filename}: {error.strerror}") from error
    return {name: len(table) for name, table in merged.items()}


def _has_results(shard: Shard) -> bool:
    return (shard.workdir / RESULTS).exists()


def _check_table(shard: Shard, name: str) -> None:
    try:
        tables.check_seal(shard.workdir / name)
    except ConfigError as error:
        raise commands.UserError(str(error)) from error


def _common_origin(shards: Sequence[Shard]) -> dict[str, str]:
    """What the tables of all shards are made of, but for their configs and data.

    Raises:
      UserError: a shard was not finished, or they differ.
    """
    found: dict[str, str] = {}
    for shard in shards:
        try:
            sealed = tables.read_seal(shard.workdir)["origin"]
            origins.refuse_foreign(shard.workdir, sealed, found)
        except (ConfigError, origins.ForeignResultsError) as error:
            raise commands.UserError(str(error)) from error
        found |= {key: sealed[key] for key in ("code", "numbers") if key in sealed}
    return found


def _merge(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Rows of all parts; of equal rows as many as the part that has most of them."""
    numbered = []
    for part in parts:
        nth = part.groupby(list(part.columns), sort=False).cumcount()
        numbered.append(part.assign(**{_NTH: nth}))
    # A shard may lack a column that is empty for all of its rows.
    rows = pd.concat(numbered, ignore_index=True).fillna("")
    return rows.drop_duplicates().drop(columns=_NTH)


def _merge_configs(shards: Sequence[Shard], record: Record) -> dict[str, Any]:
    """The config of the whole sweep.

    Raises:
      UserError: the shards' configs differ in more than the field, named.
    """
    over = record.over
    assert over is not None
    whole: dict[str, Any] | None = None
    for shard in shards:
        path = shard.workdir / CONFIG
        config = _read_json(path)
        if _get(config, over) != _as_json(shard.values):
            raise commands.UserError(
                f"{path}: config.{over} is {_get(config, over)!r}, and the shard was"
                f" submitted with {shard.values!r}; collect no mixed configs"
            )
        _set(config, over, _as_json([v for part in record.parts for v in part]))
        if whole is None:
            whole = config
        found = _difference(whole, config)
        if found is not None:
            raise commands.UserError(
                f"shards {shards[0].name} and {shard.name} of {shard.workdir.parent}"
                f" were run with different configs: {found} differs; run one of them"
                " again in an empty folder"
            )
    assert whole is not None
    return whole


def _difference(one: Any, other: Any, name: str = "config") -> str | None:
    """The first field in which two configs differ."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in sorted(one.keys() | other.keys()):
            if key not in one or key not in other:
                return f"{name}.{key}"
            found = _difference(one[key], other[key], f"{name}.{key}")
            if found is not None:
                return found
        return None
    return None if one == other else name


def _field(config: Any, path: str) -> Any:
    for name in path.split("."):
        if not hasattr(config, "to_dict") or name not in config:
            raise commands.UserError(
                f"--over=config.{path}: the config has no such field; its file lists"
                " the fields"
            )
        config = config[name]
    return config


def _get(config: dict[str, Any], path: str) -> Any:
    found: Any = config
    for name in path.split("."):
        found = found.get(name) if isinstance(found, dict) else None
    return found


def _set(config: dict[str, Any], path: str, value: Any) -> None:
    *parents, last = path.split(".")
    for name in parents:
        config = config[name]
    config[last] = value


def _read_json(path: pathlib.Path, remedy: str = "submit the shard again") -> Any:
    try:
        return json.loads(path.read_text())
    except OSError as error:
        raise commands.UserError(f"{path}: {error.strerror}; {remedy}") from error
    except ValueError as error:
        raise commands.UserError(f"{path}: not JSON ({error}); {remedy}") from error


def _read_table(path: pathlib.Path) -> pd.DataFrame:
    """A table as text, so that every number is written again as it was."""
    try:
        return tables.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise commands.UserError(f"{path}: cannot be read: {error}") from error


def _is_plain(values: Any) -> bool:
    """Whether values come back from a command line as they are."""
    try:
        return bool(ast.literal_eval(repr(values)) == values)
    except (SyntaxError, ValueError):
        return False


def _as_json(value: Any) -> Any:
    return json.loads(json.dumps(value))


def _as_tuple(value: Any) -> Any:
    return tuple(map(_as_tuple, value)) if isinstance(value, list) else value


def _plural(noun: str, names: Sequence[str]) -> str:
    return f"{noun}{'s' if len(names) > 1 else ''} {', '.join(names)}"
