"""Learning to defer on images: Mozannar and Sontag's system and its baselines.

A network with K+1 outputs is trained for every synthetic expert, hyperparameter and
seed. Validation chooses the hyperparameters; the test set is then looked at once, for
what was chosen. Baselines share seeds, data and experts: the classifier alone, the
expert alone, and deferring by confidence. Any method of `experiments.methods` can stand
beside them.

  python -m experiments.cifar --config=experiments/configs/digits.py --workdir=DIR

A config that has ``people`` is about systems fitted to particular persons.

References:
  Mozannar and Sontag, "Consistent Estimators for Learning to Defer to an Expert", 2020.
"""

import pathlib

import ml_collections

from experiments import (
    deferral,
    persons,
    tables,
)
from experiments.figures import images as image_figures
from experiments.figures import people as people_figures
from experiments.runtime import cli


def draw_people(workdir: pathlib.Path) -> None:
    """Write what fine-tuning gains in a finished folder, and draw its figures."""
    results = tables.read_csv(workdir / "results.csv")
    tables.write_csv(persons.compare(results), workdir / "gains.csv")
    people_figures.draw(workdir)


def main(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> None:
    """Run the experiment; results go to ``workdir``."""
    draw = draw_people if "people" in config else image_figures.draw
    deferral.run(config, workdir, draw)


if __name__ == "__main__":
    cli.run(main)
