import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.base import clone
from sklearn.model_selection import cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from l2d_jax.table import estimator
from l2d_jax.table.estimator import Deferral
from tests.table.conftest import make

QUICK = {"methods": "confidence", "num_folds": 2}


@pytest.fixture(scope="module")
def table():
    cases = make(200)
    labels = np.array(["no", "yes"])[cases.labels]
    experts = pd.DataFrame(
        np.where(cases.answers >= 0, np.array(["no", "yes"])[cases.answers], None),
        columns=["ann", "bob", "cy"],
    )
    return cases.features, labels, experts


@pytest.fixture(scope="module")
def fitted(table):
    X, y, experts = table
    return Deferral(**QUICK).fit(X, y, experts=experts)


@pytest.mark.slow
def test_scikit_learns_own_checks_pass():
    """Among them: without experts it never defers, and still classifies."""
    check_estimator(Deferral(num_folds=2))


def test_it_says_who_answers(fitted, table):
    X, y, _ = table
    assert fitted.classes_.tolist() == ["no", "yes"]
    assert fitted.team_.people == ("ann", "bob", "cy")
    assert (fitted.predict(X) == y).mean() > 0.7
    who = fitted.predict_defer(X)
    assert set(np.unique(who)) <= {-1, 0, 1, 2}
    chances = fitted.predict_expert_proba(X)
    surest = fitted.predict_proba(X).max(axis=1)
    asked = who >= 0
    assert asked.any()
    assert (chances[asked, who[asked]] > surest[asked]).all()
    assert (chances[~asked].max(axis=1) <= surest[~asked] + 1e-6).all()
    np.testing.assert_allclose(fitted.predict_proba(X).sum(axis=1), 1)


def test_without_experts_it_never_defers(table):
    X, y, _ = table
    found = Deferral(num_folds=2).fit(X, y)
    assert (found.predict_defer(X) == -1).all()
    assert found.predict_expert_proba(X).shape == (len(y), 0)


def test_arrays_and_frames_are_the_same(table):
    X, y, experts = table
    one = Deferral(**QUICK).fit(X, y, experts=experts)
    other = Deferral(**QUICK).fit(X.to_numpy(), y, experts=experts.to_numpy())
    np.testing.assert_array_equal(
        one.predict_proba(X), other.predict_proba(X.to_numpy())
    )
    assert other.team_.people == ("expert_0", "expert_1", "expert_2")


def test_an_index_means_nothing(table, fitted):
    """Rows are in the order they are given in, whatever they are called."""
    X, y, experts = table
    names = np.arange(len(X))[::-1]
    found = Deferral(**QUICK).fit(
        X.set_index(names + 900), pd.Series(y, index=names + 7), experts=experts
    )
    np.testing.assert_array_equal(found.predict_proba(X), fitted.predict_proba(X))


@pytest.mark.long
def test_frames_hold_categories_and_gaps(table):
    X, y, experts = table
    X = X.assign(site=np.where(np.arange(len(X)) % 3, "north", None))
    X.loc[::7, "a"] = np.nan
    found = Deferral(**QUICK).fit(X, y, experts=experts)
    assert "site = north" in found.team_.encoder.names
    assert "a missing" in found.team_.encoder.names
    assert np.isfinite(found.predict_proba(X)).all()


@pytest.mark.long
def test_it_works_in_a_pipeline_and_is_judged_by_cross_validation(table):
    X, y, experts = table
    with sklearn.config_context(enable_metadata_routing=True):
        model = Deferral(**QUICK).set_fit_request(experts=True, groups=False)
        pipeline = make_pipeline(StandardScaler(), model)
        found = cross_validate(
            pipeline, X, y, cv=2, params={"experts": experts}, return_estimator=True
        )
    assert found["test_score"].min() > 0.6
    for one in found["estimator"]:
        assert one[-1].team_.people == ("ann", "bob", "cy")


def test_parameters_are_those_of_the_options(table):
    X, y, experts = table
    model = clone(
        Deferral(**QUICK, max_deferral=0.1, prices=[0, 0.02, 0], capacity=[5, 3, 4])
    )
    model.fit(X, y, experts=experts)
    options = model.team_.options
    assert dict(options.capacity) == {"ann": 5, "bob": 3, "cy": 4}
    assert dict(options.prices)["bob"] == 0.02
    who = model.predict_defer(X)
    assert (np.bincount(who[who >= 0], minlength=3) <= [5, 3, 4]).all()


def test_guarantee_and_sets_are_those_of_the_options(table):
    X, y, experts = table
    promises = {"max_team_error": 0.5, "confidence": 0.9, "consult": 0.8}
    model = clone(Deferral(**QUICK, **promises)).fit(X, y, experts=experts)
    assert model.team_.certificate.bound <= 0.5
    assert model.team_.options.confidence == 0.9
    sets = model.predict_consult(X)
    assert sets.shape == experts.shape
    surest = model.predict_expert_proba(X).argmax(axis=1)
    assert sets[np.arange(len(sets)), surest].all() and not sets.all()
    with pytest.raises(ValueError, match="error of the team cannot be had"):
        model.set_params(max_team_error=0.01).fit(X, y, experts=experts)


def test_there_are_no_sets_unless_asked_for(fitted, table):
    assert not hasattr(fitted, "predict_consult")
    late = clone(fitted).set_params(consult=0.8)
    late.__dict__ |= {k: v for k, v in fitted.__dict__.items() if k.endswith("_")}
    with pytest.raises(ValueError, match="fitted without sets"):
        late.predict_consult(table[0])


def test_groups_are_treated_alike(table):
    """By a threshold for each, which classifier and chances do not depend on."""
    X, y, experts = table
    group = np.where(X.b > 0, "high", "low")
    fair = clone(Deferral(**QUICK, fair=("deferral_rate", 0.1)))
    fair.fit(X, y, experts=experts, sensitive_features=group)
    assert fair.team_.by_group.groups == ("high", "low")
    assert fair.team_.by_group.gap <= 0.1
    one, other = (fair.predict_defer(X, np.full(200, name)) for name in ("high", "low"))
    assert ((one < 0) != (other < 0)).any()
    mixed = fair.predict_defer(X, sensitive_features=group)
    np.testing.assert_array_equal(mixed, np.where(group == "high", one, other))
    assert fair.predict_proba(X).shape == (200, 2)
    with pytest.raises(ValueError, match="give sensitive_features"):
        fair.predict_defer(X)
    with pytest.raises(ValueError, match="'middle' of case '0' is none of those"):
        fair.predict_defer(X, np.full(200, "middle"))
    with pytest.raises(ValueError, match="give sensitive_features"):
        fair.fit(X, y, experts=experts)
    with pytest.raises(ValueError, match="positive: 'maybe' is none of the classes"):
        Deferral(**QUICK, positive="maybe").fit(X, y, experts=experts)


def test_rows_are_decided_in_their_order(table):
    """Within the limits of every twenty, none by what comes later."""
    X, y, experts = table
    model = Deferral(**QUICK, max_deferral=0.2, capacity=[20, 20, 1])
    model.fit(X, y, experts=experts)
    asked = np.asarray(model.decide(X, period=20).decision.allocation)[:, :-1]
    counts = asked.reshape(10, 20, 3).sum(axis=1)
    assert (counts.sum(axis=1) <= 4).all() and (counts[:, 2] <= 1).all()
    assert counts.sum() > 20
    first = model.decide(X[:50], period=20).decision.allocation
    np.testing.assert_array_equal(np.asarray(first)[:, :-1], asked[:50])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y": ["no"] * 200}, "one class: 'no'"),
        ({"experts": np.full((200, 1), "maybe")}, "the answer 'maybe' in row 0"),
        ({"experts": np.full((199, 1), "no")}, "experts must have 200 rows"),
        ({"groups": np.arange(10)}, "groups must have 200 entries"),
        ({"sensitive_features": [1]}, "sensitive_features must have 200 entries"),
        ({"y": ["no"] * 199 + ["yes"]}, "two cases or more of every class"),
    ],
)
def test_bad_input_is_named(table, change, message):
    X, y, experts = table
    with pytest.raises(ValueError, match=message):
        Deferral(**QUICK).fit(**{"X": X, "y": y, "experts": experts} | change)


@pytest.mark.parametrize("name", ["y", "experts", "groups", "sensitive_features"])
def test_rows_in_another_order_are_refused(table, name):
    """By their index: by position they would be those of other cases."""
    X, y, experts = table
    rows = {"y": pd.Series(y), "experts": experts}
    others = rows.get(name, pd.Series(np.arange(len(y))))
    given = rows | {name: others.iloc[::-1]}
    with pytest.raises(ValueError, match=rf"{name}: its index .* give {name}\.loc"):
        Deferral(**QUICK).fit(X, **given)


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["model", "bob", "cy"], "nobody can be named 'model'"),
        (["ann", "bob", "ann"], "two people are named 'ann'"),
    ],
)
def test_experts_have_names_of_their_own(table, names, says):
    X, y, experts = table
    model = Deferral(**QUICK, prices=[0.0, 0.1, 0.2])
    with pytest.raises(ValueError, match=says):
        model.fit(X, y, experts=experts.set_axis(names, axis=1))


@pytest.mark.parametrize("seed", [None, 0.5, np.random.RandomState(0), -1])
def test_a_seed_is_a_whole_number(table, seed):
    X, y, experts = table
    with pytest.raises(ValueError, match=r"seed \(random_state\) must be an int in"):
        Deferral(**QUICK, random_state=seed).fit(X, y, experts=experts)


@pytest.mark.parametrize("kind", [float, bool])
def test_the_positive_label_is_that_of_the_labels(table, kind, monkeypatch):
    """0 is the class 0.0, and False, whatever their names are as texts."""
    seen = []

    def fit(cases, options):
        seen.append((cases.classes, options.positive))

    monkeypatch.setattr(estimator, "fit", fit)
    X, y, _ = table
    for positive, number in ((0, 0), (0.0, 0), (False, 0), (1, 1), (np.int64(1), 1)):
        model = Deferral(**QUICK, positive=positive)
        model.fit(X, (y == "yes").astype(kind), experts=None)
        classes, given = seen.pop()
        assert given == classes[number]
    with pytest.raises(ValueError, match="positive: 2 is none of the classes"):
        Deferral(**QUICK, positive=2).fit(X, (y == "yes").astype(kind))


def test_parts_are_of_what_a_guarantee_leaves(table, monkeypatch):
    """Of six cases of a class two are held out for it, and four are split."""
    seen = []
    monkeypatch.setattr(
        estimator, "fit", lambda cases, options: seen.append(options.num_folds)
    )
    X, _, _ = table
    y = np.array(["no"] * 194 + ["yes"] * 6)
    for more in ({}, {"max_error": 0.4}, {"consult": 0.5}):
        Deferral("never", num_folds=5, **more).fit(X, y)
    assert seen == [5, 4, 4]


def test_prices_of_other_lengths_are_refused(table):
    X, y, experts = table
    with pytest.raises(ValueError, match="prices must have one entry for each of 3"):
        Deferral(**QUICK, prices=[0.1]).fit(X, y, experts=experts)
