"""A table of one's own as a problem, from the file to the tables of the runner."""

import jax
import numpy as np
import pandas as pd
import programs
import pytest

from experiments import deferral, measure, own_table, table
from experiments.configs import table as table_config
from experiments.methods import METHODS
from experiments.runtime.errors import ConfigError
from l2d_jax import decisions
from l2d_jax.types import Batch

pytestmark = pytest.mark.usefixtures("cheap_compiles")

NUM_CASES, NUM_PATIENTS = 60, 20


def make_frame():
    """Cases whose number is in their size, and two readers who answer some of them."""
    generator = np.random.default_rng(0)
    number = np.arange(NUM_CASES)
    label = np.array(["benign", "malignant"])[generator.integers(0, 2, NUM_CASES)]
    other = np.where(label == "benign", "malignant", "benign")
    return pd.DataFrame(
        {
            "case": [f"c{n}" for n in number],
            "size": number.astype(float),
            "shape": np.array(["round", "long", "odd"])[number % 3],
            "patient": [f"p{n}" for n in number % NUM_PATIENTS],
            "site": np.array(["north", "south"])[number % 2],
            "ann": np.where(number % 3 == 0, "", label),
            "bob": np.where(number % 4 == 0, "", other),
            "diagnosis": np.where(number % 10 == 9, "", label),
        }
    )


@pytest.fixture
def make_config(tmp_path):
    def make(frame=None, scale="smoke", **changes):
        path = tmp_path / "cases.csv"
        (make_frame() if frame is None else frame).to_csv(path, index=False)
        config = table_config.get_config(scale)
        config.update({"placement": "vmap", "runs_per_device": 2, "batch_size": 8})
        config.update({"cases": str(path), "id": "case", "label": "diagnosis"})
        config.update({"experts": ("ann", "bob"), "group": "site"})
        config.update({"num_seeds": 4, "num_folds": 3, "split_by": "patient"})
        for name, value in changes.items():
            config[name] = value
        return config

    return make


def load(config):
    return own_table.load(config), make_problem(config)


def make_problem(config, one=False):
    row = deferral.PROBLEMS["table_one" if one else "table"]
    (problem,) = row.make(config, row.prepare(config), None, lambda: False)
    return problem


def of_label(frame):
    return frame[frame.diagnosis != ""].reset_index(drop=True)


# What is loaded.


def test_rows_are_those_with_a_label(make_config):
    frame = of_label(make_frame())
    found, problem = load(make_config())
    assert found.classes == ("benign", "malignant") and found.people == ("ann", "bob")
    codes = {"": -1, "benign": 0, "malignant": 1}
    np.testing.assert_array_equal(problem.pool.labels, frame.diagnosis.map(codes))
    for number, person in enumerate(found.people):
        np.testing.assert_array_equal(
            problem.pool.expert_labels[:, number], frame[person].map(codes)
        )
    np.testing.assert_array_equal(problem.pool.groups, frame.site == "south")
    np.testing.assert_array_equal(problem.slices["south"][1], frame.site == "south")
    # Neither identifier, answers, group nor patient is a feature: 1 size, 3 shapes and
    # what is none of them.
    assert problem.pool.inputs.shape == (len(frame), 4, 5) and problem.inputs_by_seed
    assert problem.traits == (2, 2, 2, True, False, False, False, False, False)
    deferral.check_examples(make_config(), problem)


def test_answers_of_their_own_file_are_found_by_name(make_config, tmp_path):
    frame = make_frame()
    long = frame.melt("case", ["bob", "ann"], "expert", "answer")
    long = long[long.answer != ""].sample(frac=1, random_state=0)
    path = tmp_path / "answers.csv"
    long.to_csv(path, index=False)
    narrow = frame.drop(columns=["ann", "bob"])
    config = make_config(narrow, experts=(), answers_file=str(path))
    found = own_table.load(config)
    expected = own_table.load(make_config())
    assert found.people == expected.people
    np.testing.assert_array_equal(found.answers, expected.answers)
    np.testing.assert_array_equal(found.inputs, expected.inputs)


def test_no_patient_is_on_two_sides(make_config):
    config = make_config()
    patients = of_label(make_frame()).patient.to_numpy()
    _, problem = load(config)
    tested = []
    for seed in range(4):
        fold, test = problem.split(seed), problem.test_rows(seed)
        parts = [set(patients[rows]) for rows in (fold.train, fold.valid, test)]
        assert all(parts)
        assert sum(map(len, parts)) == len(set.union(*parts))
        tested.append(set(test.tolist()))
    # The folds of a repetition test every case once, and another draws them anew.
    assert sorted(set.union(*tested[:3])) == list(range(len(patients)))
    assert sum(map(len, tested[:3])) == len(patients)
    assert tested[3] != tested[0]


def test_who_sits_out_of_a_split_is_counted_and_said(make_config, capsys):
    frame = make_frame()
    # One patient has a third of all cases, the others two each.
    frame.patient = [f"p{max(n // 2, 10)}" for n in range(len(frame))]
    found = own_table.load(make_config(frame, num_folds=2, num_seeds=2))
    size = len(of_label(frame))
    out = [
        size - len(split.test) - len(split.fold.train) - len(split.fold.valid)
        for split in found.splits
    ]
    said = capsys.readouterr().out
    assert max(out) > 0
    assert f"up to {max(out)} of {size} cases sit out of a split" in said
    own_table.load(make_config(split_by="", exclude=("patient",)))
    assert "sit out" not in capsys.readouterr().out


def test_without_patients_all_but_a_batch_is_used(make_config):
    _, problem = load(make_config(split_by="", exclude=("patient",)))
    for seed in range(4):
        fold, test = problem.split(seed), problem.test_rows(seed)
        assert len(test) == 18 and len(fold.valid) == round(0.2 * 36)
        assert len(fold.train) == 36 - len(fold.valid)


def test_statistics_are_of_the_training_rows(make_config):
    _, problem = load(make_config())
    sizes = of_label(make_frame())["size"].to_numpy()
    for seed in range(4):
        train = problem.split(seed).train
        expected = (sizes - sizes[train].mean()) / sizes[train].std()
        np.testing.assert_allclose(
            problem.pool.inputs[:, seed, 0], expected, rtol=1e-5, atol=1e-6
        )
    # Another size in a case that is tested changes that case's input and no others.
    row = problem.test_rows(0)[0]
    frame = make_frame()
    frame.loc[frame.case == of_label(frame).case[row], "size"] = 1e3
    _, other = load(make_config(frame))
    first, second = problem.pool.inputs[:, 0], other.pool.inputs[:, 0]
    assert (first[row] != second[row]).any()
    np.testing.assert_array_equal(np.delete(first, row, 0), np.delete(second, row, 0))


@pytest.mark.long
def test_answers_that_were_not_given_have_no_part(make_config):
    _, problem = load(make_config())
    dataset = problem.pool
    given = dataset.expert_labels >= 0
    assert not given.any(axis=1).all() and given.any(axis=1).any()
    decision = decisions.majority_decision(len(dataset.labels), 2, 2)
    batch = Batch(*dataset)
    decision = decisions.among(decision, measure.available(batch))
    found = measure.scalars(decision, batch, {}, None, 0)
    right = dataset.expert_labels == dataset.labels[:, None]
    np.testing.assert_allclose(found["expert_accuracy"], right[given].mean(), rtol=1e-6)
    # Ann is always right and Bob never; where both have answered the lower class wins.
    both, alone = given.all(axis=1), given.sum(axis=1) == 1
    expected = np.concatenate(
        [dataset.labels[both] == 0, right[alone & given[:, 0], 0]]
    )
    expected = np.concatenate([expected, right[alone & given[:, 1], 1]])
    np.testing.assert_allclose(found["system_accuracy"], expected.mean(), rtol=1e-6)


def test_one_of_those_who_answered_is_the_expert(make_config):
    frame = make_frame()
    config = make_config(problem="table_one")
    problem = make_problem(config, one=True)
    # Cases that nobody answered have no expert, and no part.
    answered = of_label(frame).query("ann != '' or bob != ''")
    assert len(problem.pool.labels) == len(answered) < len(of_label(frame))
    assert problem.traits.num_experts == 1 and not problem.traits.sparse
    drawn = problem.annotate(jax.random.key(0), {}, problem.pool).expert_labels
    answers = problem.pool.expert_labels
    assert drawn.shape == (len(answered), 1) and (drawn >= 0).all()
    assert (answers == np.asarray(drawn)).any(axis=1).all()


def test_who_has_answered_no_case_with_a_label_is_left_out(make_config, capsys):
    frame = make_frame()
    frame["cyd"] = np.where(frame.diagnosis == "", "benign", "")
    found = own_table.load(make_config(frame, experts=("cyd", "ann", "bob")))
    assert found.people == ("ann", "bob")
    np.testing.assert_array_equal(found.answers, own_table.load(make_config()).answers)
    said = capsys.readouterr().out
    assert "note: 1 people, such as 'cyd', have answered no case with a label;" in said
    assert "note: nobody has answered 5 of 54 cases with a label; what people" in said


def test_what_a_table_lacks_leaves_methods_out(make_config):
    frame = make_frame().assign(site="north")
    # Nobody is left unasked, and all are of one group.
    frame["ann"] = frame["bob"] = frame.diagnosis.replace("", "benign")
    config = make_config(frame)
    _, problem = load(config)
    names = ["two_stage", "joint_balanced", "majority"]
    fitting, reasons = deferral.choose_fitting(config, problem, names)
    assert fitting == ["two_stage", "majority"]
    assert reasons == {"joint_balanced": "needs groups"}
    _, sparse = load(make_config())
    fitting, reasons = deferral.choose_fitting(config, sparse, names)
    assert fitting == ["joint_balanced", "majority"]
    assert set(reasons) == {"two_stage"}


def test_without_a_file_it_is_the_example():
    found = own_table.load(table_config.get_config("smoke"))
    assert found.inputs.shape == (500, 2, 10)
    assert found.people == ("reader_1", "reader_2", "reader_3", "trainee")
    assert found.group_names == ("north", "south", "west")


# What is refused.


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cases": "none.csv"}, "cases: none.csv: No such file or directory; give the"),
        ({"cases": ""}, "id is of a table of your own; name its file as cases"),
        ({"label": "diagnose"}, r"label must be one of .*\(did you mean diagnosis\?\)"),
        ({"label": ""}, "label is empty; name the column of what the cases were"),
        ({"experts": ("ann", "bo")}, "experts must be one of case, size, .* 'bo'"),
        ({"experts": ()}, "experts is empty; name the columns of people's answers"),
        ({"experts": ("ann",)}, "experts: 'ann' alone has answered, and problem table"),
        ({"experts": ("ann", "shape")}, "cases: answers of 'shape'.*'round'"),
        ({"group": "diagnosis"}, "cases: column 'diagnosis' has two parts to play"),
        ({"answers_file": "a.csv"}, "answers_file: a.csv: No such file or directory;"),
        ({"text": ("shade",)}, "text must be one of case, size, .*got 'shade'"),
        ({"scores": ("model",)}, "scores must be one of case, size, .*got 'model'"),
        ({"scores": ("size",)}, "cases: scores: 'size' of case 'c2' is '2.0', and no"),
        ({"positive": "bad"}, "cases: positive: .*'bad'"),
        (
            {"num_folds": 21},
            "num_folds 21: class 'benign' is that .* 21 parts to hold out",
        ),
        ({"split_by": "site", "group": "", "num_folds": 2}, "split_by leaves one unit"),
        ({"valid_fraction": 0.0}, "valid_fraction 0.0 leaves 36 examples to train on"),
        ({"batch_size": 60}, "batch_size 60 is larger than the .* training cases of a"),
        (
            {"methods": ("two_stage",)},
            "methods: two_stage is not applicable to table as",
        ),
    ],
)
def test_bad_input_is_one_line(make_config, tmp_path, changes, message):
    config = make_config(**changes)
    workdir = tmp_path / "runs"
    workdir.mkdir()
    with pytest.raises(ConfigError, match=f"^{message}") as error:
        programs.run(table.main, config, workdir)
    assert "\n" not in str(error.value)
    assert not (workdir / "results.csv").exists()


def test_a_damaged_file_is_one_line(make_config, tmp_path):
    config = make_config()
    path = tmp_path / "cases.csv"
    path.write_text(path.read_text() + "c99,1.0\n")
    with pytest.raises(ConfigError, match=r"^cases: .*line 62: 2 cells") as error:
        own_table.load(config)
    assert "\n" not in str(error.value)


# From the file to the tables.


@pytest.mark.long
def test_it_runs_end_to_end(make_config, tmp_path):
    methods = ("classifier", "majority")
    config = make_config(methods=methods, num_seeds=2)
    workdir = tmp_path / "runs"
    workdir.mkdir()
    out, _ = programs.run(table.main, config, workdir)
    assert "note: 6 of 60 cases have no label" in out
    results = pd.read_csv(workdir / "results.csv")
    assert list(results.method.unique()) == list(methods) and set(methods) < set(
        METHODS
    )
    assert {"system_accuracy_north", "deferral_rate_south"} <= set(results)
    summary = pd.read_csv(workdir / "summary.csv")
    assert set(summary.over) == {"splits"}
    assert (workdir / "figures" / "system_accuracy.png").exists()
    # The majority by NumPy, among those who answered.
    problem = make_problem(config)
    rows = results[(results.method == "majority") & (results.split == "test")]
    for seed, accuracy in zip(rows.seed, rows.system_accuracy, strict=True):
        test = problem.test_rows(seed)
        answers, labels = problem.pool.expert_labels[test], problem.pool.labels[test]
        given = answers >= 0
        kept = given.any(axis=1)
        share = np.where(given, answers, 0).sum(1)[kept] / given.sum(1)[kept]
        np.testing.assert_allclose(
            accuracy, ((share > 0.5) == labels[kept]).mean(), rtol=1e-5
        )


def with_scores(frame):
    """A model that is right about four cases in five, sure of itself in some."""
    generator = np.random.default_rng(1)
    is_second = frame.diagnosis == "malignant"
    right = generator.random(len(frame)) < 0.8
    prob = np.where(right == is_second, 0.9, 0.1)
    prob[:2] = (0.0, 1.0)
    return frame.assign(model=prob)


def test_a_model_that_is_given_is_behind_the_features(make_config):
    frame = with_scores(make_frame())
    found, problem = load(make_config(frame, scores=("model",)))
    plain, trained = load(make_config())
    second = of_label(frame).model.to_numpy()
    expected = np.stack([1.0 - second, second], axis=1).astype(np.float32)
    np.testing.assert_array_equal(found.inputs[:, :, :-2], plain.inputs)
    for split in range(4):
        np.testing.assert_array_equal(found.inputs[:, split, -2:], expected)
        np.testing.assert_array_equal(
            problem.classifier(found.inputs[:, split]), expected
        )
    assert trained.classifier is None
    # The one column is that of the class that is named, and there may be one of each.
    both = frame.assign(other=1.0 - frame.model)
    of_first = make_config(
        both, scores=("other",), positive="benign", exclude=("model",)
    )
    np.testing.assert_allclose(
        own_table.load(of_first).inputs[:, 0, -2:], expected, atol=1e-7
    )
    with pytest.raises(ConfigError, match="column 'model' as the probability of"):
        own_table.load(make_config(frame, scores=("model",), positive="benign"))
    of_both = own_table.load(make_config(both, scores=("other", "model")))
    np.testing.assert_allclose(of_both.inputs[:, 0, -2:], expected, atol=1e-7)


def test_a_model_may_be_all_there_is(make_config):
    frame = with_scores(make_frame())
    config = make_config(frame, scores=("model",), exclude=("size", "shape"))
    assert own_table.load(config).inputs.shape == (54, 4, 2)


@pytest.mark.long
def test_what_is_compared_is_the_model_that_is_given(make_config, tmp_path):
    frame = with_scores(make_frame())
    methods = ("deferral", "two_stage", "confidence", "classifier")
    config = make_config(
        frame, scale="one", scores=("model",), methods=methods, num_seeds=3
    )
    for name in ("num_epochs", "expert_model_epochs"):
        config[name] = 2
    workdir = tmp_path / "runs"
    workdir.mkdir()
    programs.run(table.main, config, workdir)
    results = pd.read_csv(workdir / "results.csv").query("split == 'test'")
    problem = make_problem(config, one=True)
    inputs, labels = problem.pool.inputs[:, 0, -2:], problem.pool.labels
    right = inputs.argmax(axis=1) == labels
    for method in ("two_stage", "confidence", "classifier"):
        rows = results[results.method == method]
        assert sorted(rows.seed) == [0, 1, 2]
        for seed, accuracy in zip(rows.seed, rows.classifier_accuracy, strict=True):
            expected = right[problem.test_rows(seed)].mean()
            np.testing.assert_allclose(accuracy, expected, rtol=1e-6)
    # A method that learns its classifier and its rule together has one of its own.
    assert (results.method == "deferral").any()
