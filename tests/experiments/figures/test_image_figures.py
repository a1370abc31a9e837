"""Figures of the image experiment, from tables that are made by hand."""

import warnings

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from experiments.figures import images as image_figures

FIGURES = ("system_accuracy.png", "coverage_accuracy.png")


def make_curves(**columns):
    coverage = [0.0, 0.5, 1.0]
    base = {"problem": "digits", "method": "deferral", "seed": 0, "num_perfect": 5.0}
    accuracies = {"system_accuracy": [0.5, 0.8, 0.7]}
    accuracies["best_system_accuracy"] = [0.5, 0.9, 0.7]
    return pd.DataFrame({**base, "coverage": coverage, **accuracies, **columns})


def make_summary(**columns):
    base = {"problem": "digits", "method": "deferral", "num_perfect": [0.0, 5.0]}
    base |= {"split": "test", "metric": "system_accuracy", "n": 2}
    base |= {"over": "seeds and cases"}
    numbers = {"mean": [0.8, 0.9], "ci_low": [0.7, 0.8], "ci_high": [0.9, 1.0]}
    return pd.DataFrame({**base, **numbers, **columns})


NAN = float("nan")


@pytest.mark.parametrize(
    ("summary", "curves"),
    [
        (make_summary(), make_curves()),
        (make_summary(mean=NAN, ci_low=NAN, ci_high=NAN, n=0), make_curves()),
        (make_summary(ci_low=NAN, ci_high=NAN, n=1), make_curves()),
        # No seed has a value at some coverage, at either end, or at any.
        (make_summary(), make_curves(system_accuracy=[NAN, 0.8, NAN])),
        (make_summary(), make_curves(system_accuracy=NAN, best_system_accuracy=NAN)),
        (
            make_summary(),
            pd.concat([make_curves(), make_curves(seed=1, system_accuracy=NAN)]),
        ),
        (make_summary(method="expert"), make_curves(method="expert")),
        (make_summary(method="classifier"), make_curves(method="classifier")),
    ],
)
def test_figures_of_undefined_values_without_a_warning(tmp_path, summary, curves):
    summary.to_csv(tmp_path / "summary.csv", index=False)
    curves.to_csv(tmp_path / "curves.csv", index=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        image_figures.draw(tmp_path)
    assert {path.name for path in (tmp_path / "figures").iterdir()} == set(FIGURES)


def test_a_title_says_what_the_interval_is_over():
    figure = image_figures.draw_accuracy(make_summary())
    title = "digits: mean and 95 % interval over 2 seeds and cases"
    assert figure.get_suptitle() == title
    plt.close(figure)
