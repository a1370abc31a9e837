"""Predicting responsibly: a model that rejects or defers, and a biased decision-maker.

A network classifies and decides when to pass, for every price of passing, weight of
fairness and seed, beside decision-makers who are accurate, biased or inconsistent.
Rejecting does not know the decision-maker; deferring learns from their decisions. Both
are trained end to end, and made of a trained classifier by thresholds, which are chosen
on the validation part (the paper chooses them on one half of the test part and reports
on the other). Any method of `experiments.methods` can stand beside them.

  python -m experiments.tabular --config=experiments/configs/synthetic.py --workdir=DIR

References:
  Madras, Pitassi and Zemel, "Predict Responsibly: Improving Fairness and Accuracy by
  Learning to Defer", 2018.
"""

import pathlib

import ml_collections

from experiments import deferral, tables
from experiments.figures import fronts
from experiments.figures import tables as table_figures
from experiments.runtime import cli


def draw(workdir: pathlib.Path) -> None:
    """Write the fronts of a finished folder, and draw its figures."""
    results = tables.read_csv(workdir / "results.csv")
    tables.write_csv(fronts.make_fronts(results), workdir / "fronts.csv")
    table_figures.draw(workdir)


def main(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> None:
    """Run the experiment; results go to ``workdir``."""
    deferral.run(config, workdir, draw)


if __name__ == "__main__":
    cli.run(main)
