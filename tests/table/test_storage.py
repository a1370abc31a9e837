import json
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest
import safetensors.numpy

from l2d_jax.table import columns, evaluation, storage
from l2d_jax.table.methods import METHODS
from l2d_jax.table.report import render
from l2d_jax.table.team import decide, encode
from tests.table import conftest

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def folder(team, tmp_path_factory):
    path = tmp_path_factory.mktemp("policies") / "policy"
    storage.save(team, path, made={"command": "l2d fit", "sha256": "0" * 64})
    return path


@pytest.fixture
def copy(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "copy")


def test_what_is_read_decides_to_the_bit(team, cases, folder):
    found, made = storage.load(folder)
    assert made == {"command": "l2d fit", "sha256": "0" * 64}
    assert found.options == team.options
    assert found.candidates.equals(team.candidates)
    for name in METHODS:
        one, other = (decide(t, cases, method=name) for t in (team, found))
        jax.tree.map(np.testing.assert_array_equal, one, other)


def test_nothing_is_pickled(folder):
    names = {path.name for path in folder.iterdir()}
    assert names == {"policy.json", "policy.stablehlo", "weights.safetensors"}
    json.loads((folder / "policy.json").read_text())
    safetensors.numpy.load_file(folder / "weights.safetensors")


@pytest.mark.parametrize("name", METHODS)
def test_the_exported_program_decides_the_same(team, cases, name):
    one = team._replace(method=name)
    program = jax.export.deserialize(bytearray(storage.export(one)))
    assert set(program.platforms) == {"cpu", "cuda", "tpu"}
    inputs, _ = encode(team, cases)
    available = np.ones(cases.answers.shape, bool)
    available[::2, 1] = False
    expected = decide(one, cases, available=available)
    for rows in (slice(None), slice(0, 1)):
        cuts = np.zeros(len(inputs), np.float32)[rows]
        found = program.call(inputs[rows], available[rows], cuts)
        for mine, theirs in zip(expected.decision, found, strict=True):
            np.testing.assert_allclose(
                np.asarray(mine)[rows], theirs, rtol=1e-6, atol=1e-6
            )


def test_another_program_needs_jax_alone(team, cases, folder, tmp_path):
    inputs, _ = encode(team, cases)
    np.savez(tmp_path / "cases.npz", inputs=inputs)
    script = f"""
import sys
sys.modules["l2d_jax"] = None
import jax, numpy as np
path = {str(folder / "policy.stablehlo")!r}
program = jax.export.deserialize(bytearray(open(path, "rb").read()))
inputs = np.load({str(tmp_path / "cases.npz")!r})["inputs"]
cuts = np.zeros(len(inputs), np.float32)
*_, allocation = program.call(inputs, np.ones((len(inputs), 3), bool), cuts)
np.save({str(tmp_path / "found.npy")!r}, allocation)
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)
    expected = decide(team, cases).decision.allocation
    np.testing.assert_allclose(np.load(tmp_path / "found.npy"), expected, atol=1e-6)


@pytest.mark.parametrize("name", ["weights.safetensors", "policy.stablehlo"])
def test_a_changed_file_is_refused(copy, name):
    content = bytearray((copy / name).read_bytes())
    content[-1] ^= 1
    (copy / name).write_bytes(content)
    with pytest.raises(ValueError, match="its checksum is another"):
        storage.load(copy)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda p: (p / "policy.json").write_text("{"), "is damaged"),
        (lambda p: (p / "policy.json").write_text("[]"), "is damaged"),
        (lambda p: (p / "policy.json").unlink(), "holds no policy.json"),
        (lambda p: (p / "weights.safetensors").unlink(), "is missing"),
        (lambda p: (p / "policy.stablehlo").unlink(), "is missing"),
        (lambda p: _change(p, format=2), "is of format 2"),
        (lambda p: _change(p, encoder={}), "is not as it was written"),
        (lambda p: _change(p, options={}), "is not as it was written"),
    ],
)
def test_a_damaged_folder_is_one_line(copy, damage, message):
    damage(copy)
    with pytest.raises(ValueError, match=message) as error:
        storage.load(copy)
    assert "\n" not in str(error.value)


def _change(folder, **fields):
    path = folder / "policy.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def test_what_is_there_is_not_written_over(team, folder, tmp_path):
    with pytest.raises(FileExistsError, match="name a new folder"):
        storage.save(team, folder)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(FileExistsError):
        storage.save(team, tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_write_that_fails_leaves_nothing(team, tmp_path, monkeypatch):
    def fail(team):
        raise OSError("no room")

    monkeypatch.setattr(storage, "export", fail)
    with pytest.raises(OSError, match="no room"):
        storage.save(team, tmp_path / "policy")
    assert not list(tmp_path.iterdir())


def test_an_evaluation_comes_back_as_it_was(team, cases, tmp_path):
    record = evaluation.record_of(team, conftest.make(80, seed=3))
    judged = evaluation.tabulate(
        record, conftest.make(80, seed=3), title="x", chosen=team.method
    )
    storage.save(team, tmp_path / "policy", evaluation=judged)
    found = storage.load_evaluation(tmp_path / "policy")
    for one, other in zip(judged, found, strict=True):
        if hasattr(one, "equals"):
            assert one.columns.tolist() == other.columns.tolist()
            assert one.reset_index(drop=True).astype(object).equals(
                other.astype(object)
            ) or np.allclose(
                one.select_dtypes("number"),
                other.select_dtypes("number"),
                equal_nan=True,
            )
        elif isinstance(one, float):
            assert one == pytest.approx(other, nan_ok=True)
        else:
            assert one == other


def test_an_evaluation_of_before_prices_and_dates_is_shown(team, tmp_path):
    cases = conftest.make(80, seed=3)
    record = evaluation.record_of(team, cases)
    shown = columns.in_units(team.encoder, cases.features)
    judged = evaluation.tabulate(
        record, cases, title="x", chosen="confidence", features=shown
    )
    before = judged._replace(
        parties=judged.parties.drop(columns="cost"),
        features=judged.features.drop(columns="date"),
    )
    storage.save(team, tmp_path / "policy", evaluation=before)
    page = render(storage.load_evaluation(tmp_path / "policy"))
    assert page == render(judged)


def test_a_team_that_was_not_judged_says_so(folder):
    with pytest.raises(ValueError, match="holds no evaluation"):
        storage.load_evaluation(folder)
