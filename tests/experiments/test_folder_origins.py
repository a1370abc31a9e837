"""A work folder holds results of one config, data, code and precision, or says so."""

import json
import subprocess
import sys

import numpy as np
import pytest
import tiny

from experiments import deferral, problems, tables
from experiments.runtime.errors import ConfigError
from experiments.runtime.workdir import claim_workdir
from l2d_jax.engine import origins

pytestmark = pytest.mark.usefixtures("cheap_compiles")

NAMES = ("results.csv", "summary.csv", "comparison.csv", "curves.csv")


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Runs the tiny problem in one folder, on its own examples or on others."""

    def of(workdir=tmp_path, seed=0, **columns):
        problem = tiny.make_problem(1)
        data = {
            name: part._replace(**columns.get(name, {}))
            for name, part in (("pool", problem.pool), ("test", problem.test))
        }
        row = problems.Row(
            problem.traits,
            lambda config: data,
            lambda config, prepared, workdir, stop: [problem._replace(**prepared)],
        )
        monkeypatch.setitem(problems.PROBLEMS, "tiny", row)
        config = tiny.make_config(
            problem="tiny", methods=("classifier", "expert"), seed=seed
        )
        config.choose = "per_seed"
        deferral.main(config, workdir)
        return {name: (workdir / name).read_bytes() for name in NAMES}

    return of


@pytest.mark.slow
def test_a_folder_is_of_one_data_config_and_code(run, tmp_path, monkeypatch):
    whole = run()
    assert run() == whole
    labels = tiny.make_problem(1).pool.labels
    flipped = {"labels": 1 - labels}
    for columns in ({"pool": flipped}, {"test": {"groups": np.zeros(40, int)}}):
        with pytest.raises(origins.ForeignResultsError, match="made with other data"):
            run(**columns)
    with pytest.raises(ConfigError, match=r"another config \(seed differs\)"):
        run(seed=1)
    with monkeypatch.context() as patch:
        patch.setattr(origins, "code", lambda *sources: "of yesterday")
        with pytest.raises(origins.ForeignResultsError, match="made with other code"):
            run()
    assert {name: (tmp_path / name).read_bytes() for name in NAMES} == whole
    # A file that was deleted, as a message may say, does not make them others'.
    (tmp_path / "config.json").unlink()
    with pytest.raises(origins.ForeignResultsError, match="made with another config"):
        run(seed=1)
    (tmp_path / "config.json").unlink()
    (tmp_path / "origin.json").unlink()
    with pytest.raises(
        origins.ForeignResultsError, match=r"classifier.chunk_0000 was made with anoth"
    ):
        run(seed=1)
    for name in ("config.json", "origin.json"):
        (tmp_path / name).unlink()
    with pytest.raises(origins.ForeignResultsError, match=r"chunk_0000 .* other data"):
        run(pool=flipped)
    for name in ("config.json", "origin.json"):
        (tmp_path / name).unlink()
    assert run() == whole


@pytest.mark.long
def test_a_damaged_origin_is_named(run, tmp_path):
    run()
    (tmp_path / "origin.json").write_text("{")
    with pytest.raises(ConfigError, match=r"origin.json: not JSON .*; delete it or"):
        run()


@pytest.mark.long
def test_tables_say_how_many_rows_they_have(run, tmp_path):
    run()
    sealed = json.loads((tmp_path / "tables.json").read_text())
    assert sealed["origin"] == json.loads((tmp_path / "origin.json").read_text())
    assert set(sealed["origin"]) == {"config", "data", "code", "numbers"}
    assert set(sealed["tables"]) == {*NAMES, "seconds.csv"}
    for name in NAMES:
        tables.check_seal(tmp_path / name)
    lines = (tmp_path / "results.csv").read_text().splitlines(keepends=True)
    assert sealed["tables"]["results.csv"]["rows"] == len(lines) - 1
    (tmp_path / "results.csv").write_text("".join(lines[:-2]))
    with pytest.raises(ConfigError, match=rf"results.csv: {len(lines) - 3} rows .*wri"):
        tables.check_seal(tmp_path / "results.csv")
    (tmp_path / "more.csv").write_text("a\n1\n")
    with pytest.raises(ConfigError, match=r"more.csv: tables.json .* does not know"):
        tables.check_seal(tmp_path / "more.csv")


def test_a_cell_may_hold_a_line_break(tmp_path):
    (tmp_path / "a.csv").write_text('x,y\n"one\ntwo",2\n3,4\n')
    tables.seal(tmp_path)
    assert tables.read_seal(tmp_path)["tables"]["a.csv"]["rows"] == 2


def test_two_processes_of_a_program_agree(tmp_path):
    """The same files and the same arrays have the same digests in another process."""
    config = tiny.make_config()
    claim_workdir(config, tmp_path, {"pool": tiny.make_problem(1).pool})
    program = (
        "import pathlib, sys, tiny\n"
        "from experiments.runtime.workdir import claim_workdir\n"
        "data = {'pool': tiny.make_problem(1).pool}\n"
        "claim_workdir(tiny.make_config(), pathlib.Path(sys.argv[1]), data)\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", program, tmp_path],
        env={"PYTHONPATH": ":".join(sys.path), "PATH": "", "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stderr


def test_foreign_results_are_status_2_and_one_line(tmp_path):
    program = (
        "from experiments.runtime import cli\n"
        "from l2d_jax.engine import origins\n"
        "def main(config, workdir):\n"
        "    origins.refuse_foreign(workdir, {'data': 'a'}, {'data': 'b'})\n"
        "cli.run(main, 'experiments/configs/digits.py')\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", program, f"--workdir={tmp_path}"],
        capture_output=True,
        text=True,
    )
    assert found.returncode == 2
    assert found.stderr == (
        f"error: {tmp_path} was made with other data; choose another folder, or give"
        " what they were made with\n"
    )


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"pool": {"labels": np.full(60, 2)}}, "tiny.pool.labels must be 0..1, got 2"),
        (
            {"test": {"expert_labels": np.full((40, 1), 2)}},
            "tiny.test.expert_labels must be 0..1, or -1 of who was not asked, got 2",
        ),
        ({"test": {"groups": np.zeros(39, int)}}, "tiny.test.groups has 39 rows"),
        ({"pool": {"groups": np.full(60, 2)}}, "tiny.pool.groups must be 0..1, got 2"),
    ],
)
def test_examples_are_checked_before_anything_trains(run, tmp_path, columns, message):
    with pytest.raises(ConfigError, match=f"^problem {message}"):
        run(**columns)
    assert not (tmp_path / "checkpoints").exists()
