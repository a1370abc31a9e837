"""Which classifier it is: chosen by some rows of a large table, fitted to all."""

import jax
import numpy as np
import pytest

from l2d_jax.table import classifiers, fitting
from l2d_jax.table.options import Options
from tests.table.conftest import make


@pytest.mark.long
def test_a_large_table_chooses_by_some_of_its_rows(monkeypatch):
    sizes = {name: [] for name in ("logistic", "trees")}
    for name in sizes:
        kind = classifiers.CLASSIFIERS[name]

        def fit(inputs, *given, name=name, kind=kind):
            sizes[name].append(len(inputs))
            return kind.fit(inputs, *given)

        monkeypatch.setitem(classifiers.CLASSIFIERS, name, kind._replace(fit=fit))
    monkeypatch.setattr(fitting, "_ENOUGH_TO_CHOOSE", 200)
    monkeypatch.setattr(fitting, "_FEW", 20)
    options = Options(("never",), tuple(sizes), num_folds=2)
    cases = make(600)
    found = fitting.fit(cases, options)
    assert found.kind == "logistic"
    assert sizes == {"logistic": [100, 100, 300, 300], "trees": [100, 100]}
    alone = fitting.fit(cases, options._replace(classifiers=("logistic",)))
    for one, other in zip(
        jax.tree.leaves(found.params), jax.tree.leaves(alone.params), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_of_what_is_rare_enough_is_drawn(monkeypatch):
    rng = np.random.default_rng(0)
    folds = rng.integers(0, 4, 3000)
    labels = (rng.random(3000) < 0.4).astype(int)
    labels[:8], folds[:8] = 2, [0, 0, 0, 1, 1, 3, 3, 3]
    assert fitting._drawn(labels, folds, 0).tolist() == list(range(3000))
    monkeypatch.setattr(fitting, "_ENOUGH_TO_CHOOSE", 1500)
    rows = fitting._drawn(labels, folds, 0)
    assert (np.diff(rows) > 0).all() and set(range(8)) <= set(rows)
    for label in (0, 1):
        for fold in range(4):
            here = (labels == label) & (folds == fold)
            assert here[rows].sum() == max(round(here.sum() / 2), 100)
    assert (fitting._drawn(labels, folds, 1) != rows).any()
