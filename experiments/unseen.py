"""Deferring to somebody never seen in training: the runner, with a page of its own.

Models of a new person, each told the first few of their answers, are compared with the
closed form of `l2d_jax.people.beta_counts` by how good they are and how right the team
is that defers by them; a table says from how many answers on each is ahead.

  python -m experiments.unseen --config=experiments/configs/unseen.py --workdir=DIR

References:
  Tailor et al., "Learning to Defer to a Population: A Meta-Learning Approach", 2024.
"""

import pathlib

import ml_collections
import pandas as pd

from experiments import deferral, people, summaries, tables
from experiments.figures import unseen as figures
from experiments.runtime import cli, progress
from experiments.runtime.errors import ConfigError
from l2d_jax import intervals

REFERENCE = "beta_counts"
"""The imputer that the others are compared with."""
METRICS = {
    "system_accuracy": 1,
    "human_model_nll": -1,
    "expert_calibration_error": -1,
}
"""What is compared: 1 where more is better, -1 where less is."""
_SETTING = ["problem", "people", "method"]


def compare(results: pd.DataFrame) -> pd.DataFrame:
    """Differences to the reference, paired by person, with intervals over people.

    The seeds of a person, which draw other answers to know them by, are averaged first.

    Returns:
      Columns ``problem, people, method, metric, num_answers, imputer, n, mean, ci_low,
      ci_high, p_value``. Who answers alone is left out.
    """
    rows = results[(results.split == "test") & results.chosen]
    rows = rows[~rows.method.isin(summaries.PARTIES)]
    keys = [*_SETTING, "num_answers", "imputer", "person"]
    means = rows.groupby(keys, sort=False)[[*METRICS]].mean()
    wide = means.stack(future_stack=True).unstack("imputer")
    wide.index = wide.index.set_names("metric", level=-1)
    found = []
    if REFERENCE in wide:
        others = wide.drop(columns=REFERENCE).sub(wide[REFERENCE], axis=0)
        groups = others.groupby([*_SETTING, "metric", "num_answers"], sort=False)
        for setting, group in groups:
            interval = intervals.mean_interval(group.to_numpy())
            found += [
                (*setting, imputer, *values)
                for imputer, *values in zip(others.columns, *interval, strict=True)
                if values[0]
            ]
    names = [*_SETTING, "metric", "num_answers", "imputer", "n", "mean"]
    names += ["ci_low", "ci_high", "p_value"]
    return pd.DataFrame(found, columns=names)


def overtake(differences: pd.DataFrame) -> pd.DataFrame:
    """From how many answers on each imputer is ahead of the reference.

    Returns:
      Columns ``problem, people, method, metric, imputer, ahead_from, ahead, behind``:
      the numbers of answers at which the interval of the difference lies on the better
      or on the worse side of 0, and the least number from which on it is always ahead;
      empty where there are none.
    """
    found = []
    keys = [*_SETTING, "metric", "imputer"]
    for setting, group in differences.groupby(keys, sort=False):
        group = group.sort_values("num_answers")
        better = METRICS[setting[3]]
        low, high = better * group.ci_low, better * group.ci_high
        ahead, behind = low.combine(high, min) > 0, low.combine(high, max) < 0
        lasting = ahead[::-1].cummin()[::-1]
        found.append(
            (
                *setting,
                *(
                    _listed(group.num_answers[where])
                    for where in (lasting & ~lasting.shift(fill_value=False), ahead)
                ),
                _listed(group.num_answers[behind]),
            )
        )
    return pd.DataFrame(found, columns=[*keys, "ahead_from", "ahead", "behind"])


def _listed(numbers: pd.Series) -> str:
    return " ".join(map(str, numbers))


def draw(workdir: pathlib.Path) -> None:
    """Write what is ahead of what in a finished folder, and draw its figures."""
    results = tables.read_csv(workdir / "results.csv")
    differences = compare(results)
    tables.write_csv(differences, workdir / "differences.csv")
    tables.write_csv(overtake(differences), workdir / "overtaking.csv")
    figures.draw(workdir)


def main(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> None:
    """Run the experiment; results go to ``workdir``.

    Raises:
      ConfigError: the people of the config are not new, or as in the runner.
    """
    new = [name for name, fields in people.FIELDS.items() if "num_answers" in fields]
    if "people" not in config:
        raise ConfigError(
            "people is missing, which this program is about; take the config unseen.py"
        )
    for source in config.people.sources:
        if source not in new:
            raise ConfigError(
                f"people.sources: {source} is not new, of whom more and more answers"
                f" become known; choose of {', '.join(new)}, or another program"
            )
    deferral.run(config, workdir, draw)
    table = tables.read_csv(workdir / "overtaking.csv", keep_default_na=False)
    progress.say(
        f"\nNumbers of answers at which a model of the person beats {REFERENCE} (95 %"
        f" interval over people)\n{table.to_string(index=False)}"
    )


if __name__ == "__main__":
    cli.run(main)
