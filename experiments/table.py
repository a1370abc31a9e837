"""Learning to defer on a table of one's own: any method, on the cases of a CSV file.

  python -m experiments.table --config=experiments/configs/table.py --workdir=DIR \
      --config.cases=cases.csv --config.id=case --config.label=diagnosis \
      "--config.experts=('reader_1','reader_2')"

reads what the command ``l2d`` reads, and trains any method of `experiments.methods` in
repeated cross-validation: all splits and hyperparameters are rows of one sweep, which
is stopped and started again, split over machines, and ends in the tables of every
experiment. Without ``cases`` it is the example of `l2d_jax.table.example`.
"""

import pathlib

import ml_collections

from experiments import deferral
from experiments.figures import methods as figures
from experiments.runtime import cli


def main(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> None:
    """Run the experiment; results go to ``workdir``."""
    deferral.run(config, workdir, figures.draw)


if __name__ == "__main__":
    cli.run(main)
