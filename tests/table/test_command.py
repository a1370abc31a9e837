"""Bad input of the command: one line of advice, status 2, and nothing written."""

import hashlib
import io
import os
import pathlib
import shutil
import signal
import subprocess
import sys

import evaluations
import numpy as np
import pandas as pd
import pytest

from l2d_jax.table import command, fitting, storage
from l2d_jax.table.options import Options

ROOT = pathlib.Path(__file__).parents[2]
EXPERTS = "--experts=r0,r1"


def table(num_rows=40, **changes):
    rng = np.random.default_rng(0)
    label = np.array(["no", "yes"])[np.arange(num_rows) % 2]
    frame = pd.DataFrame(
        {
            "case": [f"c{row}" for row in range(num_rows)],
            "age": rng.normal(size=num_rows).round(3),
            "label": label,
            "r0": label,
            "r1": np.where(np.arange(num_rows) % 3, label, ""),
        }
    )
    return frame.assign(**changes)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where the command runs, with a table in it."""
    monkeypatch.chdir(tmp_path)
    table().to_csv("cases.csv", index=False)
    return tmp_path


@pytest.fixture
def no_fit(monkeypatch):
    """What is refused is refused before anything is fitted."""

    def fit(*_, **__):
        pytest.fail("it was fitted")

    monkeypatch.setattr(fitting, "fit", fit)


@pytest.fixture(scope="module")
def team(cases):
    """Of the fewest parts, as the command is what is looked at."""
    options = Options(methods=("confidence",), classifiers=("logistic",), num_folds=2)
    return fitting.fit(cases, options)


@pytest.fixture(scope="module")
def made_policy(tmp_path_factory, cases, team):
    """A policy as fit leaves it."""
    how = {"id": "case", "label": "label", "experts": list(team.people)}
    how |= {"group": None, "split_by": None, "scores": [], "exclude": []}
    made = {"table": {**how, "text": [], "positive": None}}
    path = tmp_path_factory.mktemp("made") / "policy"
    storage.save(team, path, made=made)
    return path


@pytest.fixture
def policy(folder, cases, made_policy):
    """Its copy, and new cases that it can decide on."""
    shutil.copytree(made_policy, folder / "policy")
    new = cases.features.head(5).copy()
    new.insert(0, "case", cases.ids[:5])
    new.to_csv(folder / "new.csv", index=False)
    return new


def there(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def refused(capsys, folder, argv):
    """The one line that a command is refused with."""
    before = there(folder)
    capsys.readouterr()
    assert command.main(argv) == 2
    out, err = capsys.readouterr()
    assert there(folder) == before
    assert not out
    assert err.startswith("l2d: ") and err.count("\n") == 1 and err.endswith("\n")
    assert "Traceback" not in err
    return err


def fit_argv(*options, table="cases.csv", id="case", label="label", out="out"):
    return ["fit", table, f"--id={id}", f"--label={label}", f"--out={out}", *options]


@pytest.mark.parametrize(
    ("changes", "options", "says"),
    [
        ({}, {"table": "none.csv"}, "none.csv: No such file"),
        ({}, {"table": "."}, "folder"),
        ({}, {"label": "lable"}, "did you mean 'label'"),
        ({}, {"id": "cas"}, "did you mean 'case'"),
        ({"case": "c1"}, {}, "more than once"),
        ({"case": ""}, {}, "blank"),
        ({"r0": "maybe"}, {}, "case 'c0': 'maybe'"),
        ({"label": "yes"}, {}, "one class alone"),
        ({"age": 3}, {}, "no column is of use"),
        (
            {"label": ["None"] * 20 + ["yes"] * 20},
            {},
            "'label' holds 'None' in 20 rows",
        ),
        ({"age": ["1", "-"] * 13 + ["2"] * 14}, {}, "13 cells such as '-' in row 2"),
        ({"label": ["yes"] * 37 + ["no"] * 3}, {}, "class 'no' is that of 3 units"),
        ({}, {"out": "cases.csv"}, "exists"),
        ({}, {"out": "cases.csv/out"}, "cannot be written"),
        ({}, {"out": "/proc/l2d/out"}, "/proc/l2d/out cannot be written"),
    ],
)
def test_fit_refuses_tables(folder, capsys, no_fit, changes, options, says):
    table(**changes).to_csv("cases.csv", index=False)
    assert says in refused(capsys, folder, fit_argv(EXPERTS, **options))


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ("--price=r9=0.1", "price: 'r9' is not known"),
        ("--positive= ", "positive: '' is none of the classes 'no', 'yes'"),
        ("--price=r0=-1", "price of r0"),
        ("--price=r0=nan", "price of r0"),
        ("--capacity=r9=3", "capacity: 'r9' is not known"),
        ("--capacity=r0=2.5", "r0=2.5 is not a whole number"),
        ("--capacity=r0=inf", "r0=inf is not a whole number"),
        ("--capacity=r0=nan", "r0=nan is not a whole number"),
        ("--capacity=r0=-2", "capacity of r0"),
        ("--max-defer=2", "max_defer must be in [0, 1]"),
        ("--max-defer=nan", "max_defer must be in [0, 1]"),
        ("--guarantee=error<=5", "in (0, 1)"),
        ("--guarantee=team error<=0", "max_team_error must be in (0, 1)"),
        ("--confidence=1", "confidence must be in (0, 1)"),
        ("--consult=1", "consult must be in (0, 1)"),
        ("--consult=nan", "consult must be in (0, 1)"),
        ("--ask=0", "ask must be >= 1"),
        ("--seed=-1", "seed"),
        ("--methods=sofmax", "did you mean softmax"),
        ("--positive=maybe", "'maybe'"),
        ("--cv=30x1", "class 'no' is that of 20 units"),
        ("--text=note", "no column 'note'"),
        ("--exclude=agee", "did you mean 'age'"),
        ("--workdir=cases.csv", "cannot be written"),
    ],
)
def test_fit_refuses_options(folder, capsys, no_fit, option, says):
    assert says in refused(capsys, folder, fit_argv(EXPERTS, option))


@pytest.mark.parametrize(
    "option",
    [
        "--cv=1x1",
        "--cv=five",
        "--price=r0",
        "--price=r0=cheap",
        "--capacity==3",
        "--guarantee=accuracy>0.9",
        "--guarantee=error<=e",
        "--guarantee=teams error<=0.1",
        "--max-defer=half",
        "--consult=many",
        "--config=my.csv",
    ],
)
def test_arguments_that_cannot_be_read(folder, capsys, no_fit, option):
    with pytest.raises(SystemExit) as stopped:
        command.main(fit_argv(EXPERTS, option))
    assert stopped.value.code == 2
    assert option.split("=")[0] in capsys.readouterr().err
    assert there(folder) == ["cases.csv"]


def apply_argv(*options, policy="policy", table="new.csv", out="out.csv"):
    return ["apply", policy, table, f"--out={out}", *options]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"policy": "nothing"}, "nothing"),
        ({"policy": "new.csv"}, "new.csv"),
        ({"table": "none.csv"}, "none.csv: No such file"),
        ({"out": "policy"}, "is a folder"),
        ({"out": "nowhere/out.csv"}, "there is no folder nowhere"),
        ({"out": "./new.csv"}, "is read"),
    ],
)
def test_apply_refuses_paths(policy, folder, capsys, changes, says):
    assert says in refused(capsys, folder, apply_argv(**changes))


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ("--max-defer=2", "max_defer"),
        ("--capacity=r9=1", "capacity: 'r9'"),
        ("--capacity=r0=inf", "whole number"),
    ],
)
def test_apply_refuses_options(policy, folder, capsys, option, says):
    assert says in refused(capsys, folder, apply_argv(option))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda new: new.drop(columns="b"), "no column 'b'"),
        (lambda new: new.assign(b="much"), "'much'"),
        (lambda new: new.assign(r0="z"), "none of the classes"),
        (lambda new: new.assign(case="c"), "more than once"),
    ],
)
def test_apply_refuses_tables(policy, folder, capsys, change, says):
    change(policy).to_csv("new.csv", index=False)
    assert says in refused(capsys, folder, apply_argv())


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("expert\nr9\n", "'r9' is not one of the team's people"),
        ("person\nr0\n", "no column expert"),
        ("expert,case\nr0,c99\n", "no case 'c99'"),
        ("expert,capacity\nr0,many\n", "roster.csv: capacity of r0 must be a whole"),
        (
            "expert,capacity\nr0,²\n",
            "roster.csv: capacity of r0 must be a whole number",
        ),
        ("expert,capacity\nr0,5\nr1,2\nr0,5\n", "roster.csv lists 'r0' twice; keep"),
        ("expert,case\nr0,c1\nr0,c1\n", "lists 'r0' twice for case 'c1'; keep one"),
        ("expert,case,capacity\nr0,c1,5\nr0,c2,1\n", "of r0 is both 5 and 1"),
    ],
)
def test_apply_refuses_rosters(policy, folder, capsys, text, says):
    (folder / "roster.csv").write_text(text)
    assert says in refused(capsys, folder, apply_argv("--available=roster.csv"))


def test_a_capacity_is_given_once(policy, folder, capsys):
    (folder / "roster.csv").write_text("expert,capacity\nr0,1\nr1,\n")
    roster = "--available=roster.csv"
    assert "roster.csv and --capacity both say how many cases r0" in refused(
        capsys, folder, apply_argv(roster, "--capacity=r0=9")
    )
    assert "capacity of r0 is given twice" in refused(
        capsys, folder, apply_argv("--capacity=r0=9", "--capacity=r0=8")
    )
    assert command.main(apply_argv(roster, "--capacity=r1=2")) == 0
    # An empty cell, or a word for one, is no capacity.
    (folder / "roster.csv").write_text("expert,case,capacity\nr0,c0,NA\nr0,c1,4\n")
    assert command.main(apply_argv(roster)) == 0


@pytest.mark.parametrize("file", [storage.POLICY, storage.WEIGHTS])
@pytest.mark.parametrize("content", [None, b"", b"{}", b"\xff\xfe"])
def test_a_damaged_policy_is_refused(policy, folder, capsys, file, content):
    path = folder / "policy" / file
    path.unlink() if content is None else path.write_bytes(content)
    refused(capsys, folder, apply_argv())


def test_a_policy_of_the_library_is_refused(folder, capsys, team):
    storage.save(team, folder / "policy")
    says = refused(capsys, folder, apply_argv(table="cases.csv"))
    assert "does not say how to read a table" in says


def test_apply_writes_decisions(policy, folder, capsys):
    assert command.main(apply_argv()) == 0
    assert pd.read_csv("out.csv").case.tolist() == policy.case.tolist()
    assert "wrote out.csv" in capsys.readouterr().out


def test_somebody_new_is_asked_once_they_are_named(policy, folder, capsys):
    (folder / "roster.csv").write_text("expert\nann\n")
    argv = [*apply_argv(), "--available=roster.csv"]
    assert command.main(argv) == 2
    assert "name them with --new" in capsys.readouterr().err
    assert command.main([*argv, "--new=ann"]) == 0
    found = pd.read_csv("out.csv")
    assert set(found.who) <= {"model", "ann"}
    assert found.p_right_ann.between(0, 1).all()


@pytest.fixture
def held_out(policy, folder, cases):
    """A table with labels and answers, for the policy to be judged by."""
    names = np.array(["a", "b", ""])
    frame = cases.features.assign(case=cases.ids, label=names[cases.labels])
    frame[list(cases.people)] = names[cases.answers]
    frame.to_csv("on.csv", index=False)
    return frame


REPORT = ["report", "policy", "--on=on.csv", "--out=on.html"]


def test_report_says_whose_answers_it_lacks(held_out, folder, capsys):
    held_out.rename(columns={"r1": "R1"}).to_csv("on.csv", index=False)
    assert command.main(REPORT) == 0
    says = "on.csv holds no answer of r1 to a labelled case: what the team gains"
    assert f"note: {says}" in capsys.readouterr().out
    assert says in (folder / "on.html").read_text()
    held_out.to_csv("on.csv", index=False)
    assert command.main(REPORT) == 0
    assert "holds no answer" not in capsys.readouterr().out
    # Answers to other cases do not tell of deferral either.
    held_out.loc[held_out.index[10:], "label"] = ""
    held_out.loc[held_out.index[:10], ["r0", "r1", "r2"]] = ""
    (folder / "on.html").unlink()
    for frame in (held_out, held_out.drop(columns=["r0", "r1", "r2"])):
        frame.to_csv("on.csv", index=False)
        line = refused(capsys, folder, REPORT)
        assert "on.csv holds no answer of r0, r1, r2 to a labelled case" in line
    assert command.main(apply_argv(table="on.csv")) == 0


def test_report_is_not_of_the_table_that_was_fitted_to(
    held_out, folder, capsys, team, cases
):
    shutil.rmtree("policy")
    how = {"id": "case", "label": "label", "experts": list(team.people)}
    digest = hashlib.sha256((folder / "on.csv").read_bytes()).hexdigest()
    storage.save(team, folder / "policy", made={"table": how, "sha256": digest})
    line = refused(capsys, folder, REPORT)
    assert "on.csv is the very table that the policy was fitted to" in line
    assert command.main(apply_argv(table="on.csv")) == 0
    held_out.head(100).to_csv("on.csv", index=False)
    assert command.main(REPORT) == 0


def test_a_positive_class_is_one_of_two(folder, capsys, no_fit):
    label = np.array(["no", "yes", "maybe"])[np.arange(60) % 3]
    table(60, label=label, r0=label).to_csv("cases.csv", index=False)
    line = refused(capsys, folder, fit_argv("--experts=r0", "--positive=yes"))
    assert "positive: 'yes' is one of 3 classes" in line


def test_help_says_which_class_scores_are_of(capsys):
    with pytest.raises(SystemExit):
        command.main(["fit", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert (
        "one for each class, sorted (numbers by value), or of two classes one" in text
    )


def test_columns_that_are_left_out_are_notes_of_fitting(cases, team):
    features = cases.features.assign(name=[f"n{row}" for row in range(240)], e=1)
    found = fitting.fit(cases._replace(features=features), team.options)
    assert [note for note in found.notes if "left out" in note] == [
        "Column 'name' is left out: nearly every row has a value of its own; is it a"
        " text?",
        "Column 'e' is left out: every cell is the same.",
    ]


def test_report_refuses_paths(policy, folder, capsys):
    report = ["report", "policy", "--on=new.csv"]
    assert "is read" in refused(capsys, folder, [*report, "--out=new.csv"])
    assert "is a folder" in refused(capsys, folder, [*report, "--out=policy"])


def test_example_refuses_a_folder_that_is_there(folder, capsys):
    assert "cases.csv" in refused(capsys, folder, ["example", "cases.csv"])


CHECK = ["check", "cases.csv", "--id=case", "--label=label", EXPERTS]


def test_a_terminal_of_ascii_shows_what_it_can(folder, monkeypatch):
    label = np.where(np.arange(40) % 2, "ja", "größer")
    table(label=label, r0=label, r1=label).to_csv("cases.csv", index=False)
    shown = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(shown, encoding="ascii"))
    assert command.main(CHECK) == 0
    assert rb"gr\xf6\xdfer" in shown.getvalue()


def test_without_standard_output(folder, monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    assert command.main(CHECK) == 0


def test_who_reads_may_stop(folder, monkeypatch, capsys):
    end, start = os.pipe()
    os.close(end)
    with os.fdopen(start, "w") as closed:
        monkeypatch.setattr(sys, "stdout", closed)
        assert command.main(CHECK) == 0
    assert not capsys.readouterr().err


def test_a_stop_writes_nothing(folder, monkeypatch, capsys):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(fitting, "fit", stop)
    assert command.main(fit_argv(EXPERTS)) == 130
    assert capsys.readouterr().err == "l2d: stopped; no file is half written\n"
    assert there(folder) == ["cases.csv"]


_ENDLESS = """
import sys
from l2d_jax.table import command, fitting

def fit(*args, **kwargs):
    import jax
    # An exception is lost in what JAX does when Python collects garbage.
    jax.jit(lambda: jax.pure_callback(wait, jax.ShapeDtypeStruct((), "f4")))()

def wait():
    import gc, time
    print("begun", flush=True)
    while True:
        gc.collect()
        time.sleep(0.001)

fitting.fit = fit
sys.argv[0] = "l2d"
command.run()
"""


@pytest.mark.long
def test_a_stop_is_one_line_wherever_it_comes(folder):
    with subprocess.Popen(
        [sys.executable, "-c", _ENDLESS, *fit_argv(EXPERTS)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    ) as process:
        assert process.stdout.readline() == "begun\n", process.stderr.read()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (130, "l2d: stopped; no file is half written\n")
    assert there(folder) == ["cases.csv"]


def test_a_stop_while_it_imports(folder, monkeypatch, capsys):
    class Stop:
        def find_spec(self, name, *_):
            if name == "l2d_jax.table.cases":
                raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, "l2d_jax.table.cases")
    monkeypatch.setattr(sys, "meta_path", [Stop(), *sys.meta_path])
    assert command.main(fit_argv(EXPERTS)) == 130
    assert capsys.readouterr().err.startswith("l2d: stopped; ")


@pytest.mark.parametrize("long", [False, True])
def test_nobody_is_named_as_the_model_is(folder, capsys, no_fit, long):
    frame = table().rename(columns={"r0": "model"})
    frame.to_csv("cases.csv", index=False)
    how = ["--experts=model,r1"]
    if long:
        said = frame[["case"]].assign(expert="model", answer=frame.label)
        said.to_csv("answers.csv", index=False)
        how = ["--answers=answers.csv", "--exclude=model"]
    line = refused(capsys, folder, fit_argv(*how))
    assert "nobody can be named 'model'" in line


def test_gains_are_shown_as_far_as_they_are_known():
    names = ["party", "accuracy", "accuracy_low", "accuracy_high", "best_single"]
    names += ["gain", "gain_low", "gain_high", "cost"]
    rows = [
        ("the model", 0.8, 0.7, 0.9, True, 0.0, 0.0, 0.0, 0.0),
        ("a team", 0.9, 0.8, 0.95, False, 0.1, 0.02, 0.18, 0.0),
        ("ann", 1.0, 0.2, 1.0, False, 0.0, np.nan, np.nan, 0.0),
        ("bob", 0.5, 0.2, 0.8, False, np.nan, np.nan, np.nan, 0.0),
        ("eve", 0.5, np.nan, np.nan, False, -1e-9, -0.1, 0.1, 0.0),
    ]
    parties = pd.DataFrame(rows, columns=names)
    head, *lines = command._table(parties).splitlines()[:6]
    assert head.endswith("gain on the best alone")
    assert lines[0].endswith("(70.0 to 90.0)")
    assert lines[1].endswith("+10.0 (+2.0 to +18.0)")
    assert lines[2].endswith("  0.0 (too few cases)")
    assert lines[3].endswith("(20.0 to 80.0)")
    # Neither a NaN nor the sign of a zero.
    assert "nan" not in lines[4]
    assert lines[4].endswith("  0.0 (-10.0 to +10.0)")
    parties["cost"] = 0.1
    assert command._table(parties).splitlines()[0].endswith("prices paid")


def test_sets_are_told_as_far_as_they_are_known():
    """Of held-out cases in none of which somebody was right."""
    row = evaluations.sets_of(
        covered=np.nan, covered_low=np.nan, covered_high=np.nan
    ).iloc[0]
    assert command._sets(row) == (
        "sets of 1.62 people hold one who is right in \N{EN DASH} (\N{EN DASH}) of the"
        " cases in which somebody is"
    )
