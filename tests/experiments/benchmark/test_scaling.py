"""The programs that the benchmark starts end with it."""

import os
import subprocess

import pytest

from experiments.benchmark import scaling
from l2d_jax.engine import sweeps


def test_a_stop_ends_the_programs_that_it_has_started(tmp_path):
    path = tmp_path / "number"
    # It tells its number, and stops the process that has started it.
    text = 'echo $$ > "$1"; kill -TERM "$2"; exec sleep 1000'
    command = ["sh", "-c", text, "sh", str(path), str(os.getpid())]
    with pytest.raises(sweeps.Interrupted):
        scaling._run(command, os.environ)
    with pytest.raises(ProcessLookupError):
        os.kill(int(path.read_text()), 0)
    with pytest.raises(subprocess.CalledProcessError):
        scaling._run(["false"], os.environ)
    scaling._run(["true"], os.environ)
