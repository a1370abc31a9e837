"""Programs that are kept: found again, whole, and never in the way."""

import pathlib
import subprocess
import sys

import pytest

pytest.importorskip("filelock", reason="filelock is of the extra `experiments`")

from experiments.runtime import devices
from l2d_jax.engine import compiled

PROGRAM = """
import pathlib, sys
import jax, jax.numpy as jnp

from l2d_jax.engine import compiled
kept = compiled.keep(pathlib.Path(sys.argv[1]))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
hits = []
jax.monitoring.register_event_listener(
    lambda event, **_: hits.append(event) if event.endswith("cache_hits") else None
)
value = jax.jit(lambda x: jnp.sum(jnp.sin(x) @ x))(jnp.ones((50, 50)))
print(kept, float(value).hex(), len(hits))
"""


def start(folder, **environment):
    """Whether programs are kept, the value that is computed, and how many were."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM, str(folder)],
        env={"PATH": "/usr/bin:/bin", "JAX_PLATFORMS": "cpu", **environment},
        cwd=pathlib.Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    kept, value, hits = done.stdout.split()
    return kept == "True", value, int(hits)


def entries(folder):
    return [path for path in folder.rglob("*-cache") if path.is_file()]


@pytest.mark.long
def test_a_second_start_takes_what_the_first_compiled(tmp_path):
    kept, value, hits = start(tmp_path)
    assert kept and hits == 0
    assert entries(tmp_path)
    assert start(tmp_path) == (True, value, len(entries(tmp_path)))


@pytest.mark.long
def test_what_a_killed_process_left_half_written_is_compiled_again(tmp_path):
    _, value, _ = start(tmp_path)
    for path in entries(tmp_path):
        # JAX writes the time last: a process that is killed before has written half.
        path.write_bytes(path.read_bytes()[:-9])
        path.with_name(path.name.removesuffix("-cache") + "-atime").unlink()
    assert start(tmp_path) == (True, value, 0)
    assert start(tmp_path)[2] == len(entries(tmp_path)) > 0


def test_a_folder_that_cannot_be_made_keeps_nothing(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    kept, _, hits = start(blocked / "below")
    assert not kept and hits == 0


@pytest.mark.parametrize(
    "name", ["JAX_COMPILATION_CACHE_DIR", "JAX_ENABLE_COMPILATION_CACHE"]
)
def test_what_the_user_has_set_stands(tmp_path, name):
    values = {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "own")}
    kept, _, _ = start(tmp_path / "ours", **{name: values.get(name, "0")})
    assert not kept
    assert not (tmp_path / "ours").exists()


def test_another_kind_of_processor_has_a_folder_of_its_own(monkeypatch):
    here = compiled._processor()
    monkeypatch.setattr(pathlib.Path, "read_text", lambda self: "flags : fewer\n")
    assert compiled._processor() != here


@pytest.mark.parametrize(
    ("flag", "expected"),
    [("off", []), ("auto", ["cache/l2d_jax/compiled"]), ("own", ["own"])],
)
def test_the_flag_of_the_programs(tmp_path, monkeypatch, flag, expected):
    kept = []
    monkeypatch.setattr(compiled, "keep", kept.append)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    devices.keep_programs(flag)
    assert kept == [tmp_path / path for path in expected]
