"""The zoo of learning to defer: every method on several problems, in one table.

  python -m experiments.zoo --config=experiments/configs/zoo.py --workdir=DIR

Every part of the config is a config of `experiments.deferral`, and its folder what that
program leaves: all methods that the problem has a use for, each by its own rule and
with a threshold that validation chooses, paired by seed and case. Above them stand
their summaries, comparisons and seconds as one table each, and the figures.
"""

import functools
import pathlib

import ml_collections
import pandas as pd

from experiments import deferral, schema, tables
from experiments.figures import methods as figures_of_methods
from experiments.figures import zoo as figures
from experiments.runtime import cli, progress
from experiments.runtime.errors import ConfigError
from experiments.runtime.workdir import claim_workdir
from l2d_jax.engine import processes

TABLES = (
    "results.csv",
    "summary.csv",
    "comparison.csv",
    "curves.csv",
    "seconds.csv",
)
"""Those of the parts that are put together."""


def check(config: ml_collections.ConfigDict) -> None:
    """Check every part: a mistake in the last is said before the first is trained.

    Raises:
      ConfigError: a value cannot be used; the message names the part and the field.
    """
    schema.check(config, schema.ZOO)
    if not config.parts:
        raise ConfigError("parts is empty; give at least one config")
    for name, part in config.parts.items():
        schema.group()(f"parts.{name}", part)
        try:
            deferral.check(part)
        except ConfigError as error:
            raise ConfigError(f"parts.{name}.{error}") from error


def main(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> None:
    """Run every part, and put their tables together; results go to ``workdir``."""
    check(config)
    claim_workdir(config, workdir)
    for name, part in config.parts.items():
        progress.say(f"{name}:")
        folder = workdir / name
        processes.from_first(functools.partial(folder.mkdir, exist_ok=True))
        deferral.run(part, folder, figures_of_methods.draw)
    for table in TABLES:
        parts = [
            tables.read_csv(workdir / name / table).assign(part=name)
            for name in config.parts
        ]
        tables.write_csv(pd.concat(parts, ignore_index=True), workdir / table)
    processes.from_first(lambda: figures.draw(workdir))
    tables.seal(workdir)
    progress.say(f"\nTables, figures and checkpoints of all: {workdir}")


if __name__ == "__main__":
    cli.run(main)
