"""Fronts of accuracy and unfairness."""

import numpy as np

from experiments.figures import fronts


def test_pareto_front_by_hand():
    accuracy = np.array([0.7, 0.8, 0.75, 0.8, 0.9, 0.95, 0.7])
    disparity = np.array([0.1, 0.2, 0.2, 0.2, 0.4, np.nan, 0.05])
    assert list(fronts.pareto_front(accuracy, disparity)) == [6, 1, 4]


def test_pareto_front_is_what_nothing_dominates():
    generator = np.random.default_rng(0)
    accuracy, disparity = generator.integers(0, 6, (2, 40)) / 10
    front = fronts.pareto_front(accuracy, disparity)
    for point in range(40):
        better = (accuracy >= accuracy[point]) & (disparity <= disparity[point])
        better &= (accuracy > accuracy[point]) | (disparity < disparity[point])
        kept = {(accuracy[i], disparity[i]) for i in front}
        on_front = (accuracy[point], disparity[point]) in kept
        assert on_front == (not better.any())
