"""A disk that fails at any call: one line, and the same tables once it is mended."""

import collections
import ctypes
import errno
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parents[2]
SOURCE = pathlib.Path(__file__).with_name("failing_disk.c")
ERRORS = (errno.ESTALE, errno.EIO, errno.ENOSPC, errno.EDQUOT)
"""A file system that went away, one that is broken, a disk (or its table of inodes)
that is full, and one's share of it."""


def main():
    """Fails at some calls of a program that reads two chunks and writes the third.

    Prints, for each call, its number, the system's, whether all calls behind it failed
    too, the status, whether the table is the right one after another start, and what
    was said, lines in one.
    """
    # Imported by whoever has the shim before them, and not by pytest.
    from experiments import tables
    from experiments.runtime import cli
    from experiments.runtime.workdir import claim_workdir, read_origin
    from l2d_jax.engine import chunks
    from l2d_jax.engine.placement import Placement

    shim = ctypes.CDLL(os.environ["LD_PRELOAD"])
    root, num_calls = pathlib.Path(sys.argv[1]), int(sys.argv[2])
    said = root / "stderr"

    def life(stop_early):
        def run(config, workdir):
            claim_workdir(config, workdir)
            kept = workdir / "checkpoints"
            doubled = chunks.map_runs(
                lambda run, shared: run * shared,
                np.arange(3, dtype=np.float32),
                np.float32(2),
                where=Placement("vmap", 1),
                checkpoint_dir=kept,
                origin=read_origin(workdir),
                should_stop=lambda: stop_early and (kept / "part_0001.json").exists(),
            )
            tables.write_csv(tables.pd.DataFrame({"x": doubled}), workdir / "x.csv")
            tables.seal(workdir)

        return run

    def start(workdir, *failing, stop_early=False):
        """Status of a process of its own, which imports nothing more."""
        child = os.fork()
        if not child:
            os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            config = "--config=experiments/configs/digits.py:smoke"
            options = [f"--workdir={workdir}", "--compilation_cache=off"]
            sys.argv = ["program", config, *options]
            shim.fail_arm(f"{workdir}/".encode(), *failing or (0, 0, 0))
            status = 0
            try:
                cli.run(life(stop_early))
            except SystemExit as end:
                status = end.code or 0
            except BaseException:
                sys.excepthook(*sys.exc_info())
                status = 1
            (root / "count").write_text(str(shim.fail_count()))
            sys.stderr.flush()
            os._exit(status)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    assert start(root / "half", stop_early=True) == 75, said.read_text()
    shutil.copytree(root / "half", root / "whole")
    assert start(root / "whole") == 0, said.read_text()
    table = (root / "whole" / "x.csv").read_bytes()
    last = int((root / "count").read_text())
    for place, call in enumerate(np.linspace(1, last, num_calls).astype(int)):
        number, and_on = ERRORS[place % len(ERRORS)], place // len(ERRORS) % 2
        shutil.rmtree(root / "work", ignore_errors=True)
        shutil.copytree(root / "half", root / "work")
        status = start(root / "work", int(call), number, and_on)
        lines = said.read_text().splitlines()
        path = root / "work" / "x.csv"
        if status == 0:
            assert path.read_bytes() == table, call
        again = start(root / "work")
        right = again == 0 and path.read_bytes() == table
        print(call, number, and_on, status, right, len(lines), *lines, sep="\t")


@pytest.fixture
def shim(tmp_path):
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if sys.platform != "linux":
        pytest.skip("the disk fails by a library that Linux loads first")
    if compiler is None:
        pytest.skip("there is no C compiler, which makes the disk that fails")
    path = tmp_path / "failing_disk.so"
    command = [compiler, "-shared", "-fPIC", "-O1", "-o", str(path), str(SOURCE)]
    subprocess.run([*command, "-ldl"], check=True)
    return path


@pytest.mark.slow
def test_a_disk_that_fails_is_one_line_and_the_tables_are_right_afterwards(
    shim, tmp_path
):
    found = subprocess.run(
        [sys.executable, __file__, str(tmp_path), "80"],
        cwd=ROOT,
        env=os.environ | {"LD_PRELOAD": str(shim), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stderr
    outcomes, named = collections.Counter(), 0
    for line in found.stdout.splitlines():
        _, number, _, status, right, count, *said = line.split("\t")
        assert right == "True", line
        outcomes[status] += 1
        if status == "0":
            # What failed was of no use any more, such as a lock's own file.
            continue
        # 2: the folder could not be taken at all.
        assert status in "12" and count == "1", line
        assert said[0].startswith("error: ") and str(tmp_path / "work") in said[0], line
        named += os.strerror(int(number)) in said[0]
    assert sum(outcomes.values()) == 80 and outcomes["1"] > 60
    # orbax takes an error for a folder that is not there at a few of them.
    assert named > 0.8 * (80 - outcomes["0"])


if __name__ == "__main__":
    main()
