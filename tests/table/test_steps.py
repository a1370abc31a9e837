"""A fit that was stopped goes on behind what it finished, and ends in the same team."""

import contextlib
import os
import pathlib
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest

from l2d_jax.engine.origins import ForeignResultsError
from l2d_jax.table import chances, classifiers, evaluation, fitting, steps
from l2d_jax.table.options import Options
from tests.table.conftest import SHORT, make

ROOT = pathlib.Path(__file__).parents[2]
OPTIONS = Options(("confidence",), ("logistic", "trees"), num_folds=2, how=SHORT)


def alike(one, other):
    for mine, theirs in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_a_step_is_done_once(tmp_path):
    path, done = tmp_path / "deep" / "step.safetensors", []

    def compute():
        done.append(1)
        return {"a": {"b": np.arange(6.0).reshape(2, 3).T, "c": np.float32(0.5)}}

    how = {"data": {"x": np.ones(3), "y": None}, "config": {"folds": 2}}
    first, again = (steps.once(path, compute, **how) for _ in range(2))
    assert len(done) == 1
    assert again["a"]["c"].shape == () and again["a"]["c"].dtype == np.float32
    alike(first, again)
    alike(again, compute())
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    path.write_bytes(path.read_bytes()[:50])
    alike(steps.once(path, compute, **how), first)
    assert len(done) == 3
    alike(steps.once(None, compute, **how), first)


def test_what_cannot_be_read_is_named(tmp_path):
    path = tmp_path / "step.safetensors"
    path.mkdir()
    with pytest.raises(OSError, match=r"step\.safetensors cannot be read .*delete it"):
        steps.once(path, dict, data={}, config={})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": {"x": np.zeros(3)}}, "other data"),
        ({"config": {"folds": 3}}, "another config"),
    ],
)
def test_a_step_of_something_else_is_refused(tmp_path, change, message):
    path = tmp_path / "step.safetensors"
    how = {"data": {"x": np.ones(3)}, "config": {"folds": 2}}
    steps.once(path, lambda: {"a": np.ones(2)}, **how)
    with pytest.raises(ForeignResultsError, match=f"made with {message}"):
        steps.once(path, lambda: {"a": np.ones(2)}, **how | change)


def test_other_versions_are_refused(tmp_path, monkeypatch):
    path = tmp_path / "step.safetensors"
    how = {"data": {"x": np.ones(3)}, "config": {}}
    steps.once(path, lambda: {"a": np.ones(2)}, **how)
    monkeypatch.setattr(steps.importlib.metadata, "version", lambda name: "0.1")
    with pytest.raises(ForeignResultsError, match="made with other code"):
        steps.once(path, lambda: {"a": np.ones(2)}, **how)


@pytest.mark.long
def test_what_is_finished_is_not_fitted_again(tmp_path, monkeypatch):
    """Stopped at each of its steps in turn, by an end in the midst of one."""
    cases, fitted = make(), []
    whole = fitting.fit(cases, OPTIONS)

    class Stop(Exception):
        pass

    def counting(name, fit, most):
        def counted(*args):
            if len(fitted) == most:
                raise Stop
            fitted.append(name)
            return fit(*args)

        return counted

    kinds, learn = dict(classifiers.CLASSIFIERS), chances.fit
    for most, done in ((1, False), (3, False), (2, False), (5, True)):
        fitted.clear()
        for name, kind in kinds.items():
            monkeypatch.setitem(
                classifiers.CLASSIFIERS,
                name,
                kind._replace(fit=counting(name, kind.fit, most)),
            )
        monkeypatch.setattr(chances, "fit", counting("people", learn, most))
        with contextlib.nullcontext() if done else pytest.raises(Stop):
            team = fitting.fit(cases, OPTIONS, checkpoint_dir=tmp_path)
    # Two members of each kind, and then the people: nothing that was finished before.
    assert fitted == ["people"]
    alike(team.params, whole.params)
    assert (team.method, team.kind) == (whole.method, whole.kind)
    with pytest.raises(ForeignResultsError, match="other data"):
        fitting.fit(make(seed=1), OPTIONS, checkpoint_dir=tmp_path)


@pytest.mark.long
def test_judging_goes_on(tmp_path, monkeypatch):
    cases = make(120)
    how = {"num_folds": 2, "num_repeats": 1, "checkpoint_dir": tmp_path}
    first = evaluation.cross_validate(cases, OPTIONS, **how)

    def fit(*_):
        pytest.fail("it was fitted again")

    for name, kind in list(classifiers.CLASSIFIERS.items()):
        monkeypatch.setitem(classifiers.CLASSIFIERS, name, kind._replace(fit=fit))
    monkeypatch.setattr(chances, "fit", fit)
    again = evaluation.cross_validate(cases, OPTIONS, **how)
    alike(first[1:], again[1:])


_KILLED = """
import os, signal, sys
from l2d_jax.table import command, steps

write, left = steps._write, [int(sys.argv[1])]

def writes(*args):
    write(*args)
    left[0] -= 1
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)

steps._write = writes
sys.exit(command.main(sys.argv[2:]))
"""


@pytest.mark.slow
def test_a_killed_command_ends_in_the_same_policy(tmp_path):
    """To the bit: weights and program; killed twice, in fitting and in judging."""
    cases = make()
    frame = cases.features.assign(case=cases.ids)
    frame["label"] = np.array(["a", "b"])[cases.labels]
    for number, name in enumerate(cases.people):
        said = cases.answers[:, number]
        frame[name] = np.where(said >= 0, np.array(["a", "b"])[said], "")
    frame.to_csv(tmp_path / "cases.csv", index=False)
    argv = "fit cases.csv --id=case --label=label --experts=r0,r1,r2 --cv=2x1"
    argv += " --methods=never,confidence,two_stage"

    def run(kill, *more):
        return subprocess.run(
            [sys.executable, "-c", _KILLED, str(kill), *argv.split(), *more],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )

    assert run(0, "--out=whole").returncode == 0
    here = "--workdir=work"
    for kill in (2, 5):
        assert run(kill, here, "--out=again").returncode == -signal.SIGKILL
        assert not (tmp_path / "again").exists()
    again = run(0, here, "--out=again")
    assert again.returncode == 0, again.stderr
    for name in ("weights.safetensors", "policy.stablehlo", "evaluation.json"):
        files = [tmp_path / folder / name for folder in ("whole", "again")]
        if name == "evaluation.json":
            # But for the command, which names the folders.
            texts = [file.read_text() for file in files]
            assert texts[0] == texts[1].replace(" --workdir=work", "").replace(
                "--out=again", "--out=whole"
            )
        else:
            assert files[0].read_bytes() == files[1].read_bytes()
