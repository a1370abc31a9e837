"""What the pages say of people who are alike in training and test part."""

import numpy as np
import pytest

from experiments import decision_makers
from experiments.configs import compas
from experiments.problem import split_at_random


@pytest.mark.real_data("compas/predict_responsibly")
def test_two_in_five_of_compas_have_a_twin_in_training():
    config = compas.get_config("default")
    cases = decision_makers.load(config)
    pool, test = cases.pool, cases.test
    split = split_at_random(len(pool.labels), config.valid_fraction)

    def rows(part, index=slice(None), *columns):
        parts = [part.inputs, *(np.asarray(c)[:, None] for c in columns)]
        return [row.tobytes() for row in np.concatenate(parts, axis=1)[index]]

    def share(seen, asked):
        return np.mean(np.isin(asked, seen))

    twins = [
        share(rows(pool, split(seed).train), rows(test))
        for seed in range(config.num_seeds)
    ]
    assert np.round(100 * np.array([min(twins), max(twins)]), 1).tolist() == [
        39.7,
        40.8,
    ]
    same = share(rows(pool, split(0).train, pool.labels), rows(test, ..., test.labels))
    assert same == pytest.approx(0.31, abs=0.005)
    _, counts = np.unique(rows(test), return_counts=True)
    alike = counts[counts > 1].sum() / len(test.labels)
    assert alike == pytest.approx(0.30, abs=0.005)
