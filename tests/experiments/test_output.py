"""What cannot be printed costs nothing."""

import os
import subprocess
import sys

import pytest

# Ends with status 3 if it comes to its end, whatever became of what it said.
PROGRAM = """
import sys
from experiments.runtime import output
output.never_fail()
output.never_fail()
for _ in range(2000):
    print("1.0 \u00b1 0.4 " * 10)
    print("progress", file=sys.stderr, flush=True)
assert not sys.stderr.isatty()
kept = open(sys.argv[1], "w")
print("not in the file", file=sys.stderr, flush=True)
print("not in the file", flush=True)
kept.write("result")
kept.close()
sys.exit(3)
"""


@pytest.mark.long
@pytest.mark.parametrize(
    "redirected",
    [">&-", "2>&-", ">&- 2>&- <&-", "> /dev/full", "2> /dev/full", "| true"],
)
def test_a_program_comes_to_its_end(tmp_path, redirected):
    path = tmp_path / "kept.txt"
    found = subprocess.run(
        [
            "bash",
            "-c",
            f'"$0" -c "$1" "$2" {redirected}; exit ${{PIPESTATUS[0]}}',
            sys.executable,
            PROGRAM,
            str(path),
        ],
        capture_output=True,
        text=True,
    )
    assert found.returncode == 3, found.stderr
    assert path.read_text() == "result"
    assert "Error" not in found.stderr


def test_a_pipe_that_is_full_and_does_not_wait(tmp_path):
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    path = tmp_path / "kept.txt"
    command = [sys.executable, "-c", PROGRAM, str(path)]
    found = subprocess.run(command, stdout=writer, stderr=writer, timeout=60)
    os.close(writer)
    assert found.returncode == 3
    assert path.read_text() == "result"
    with open(reader, "rb") as said:
        assert said.read().startswith(b"1.0 ")


def test_a_terminal_that_knows_ascii_only():
    found = subprocess.run(
        [sys.executable, "-X", "utf8=0", "-c", PROGRAM, "/dev/null"],
        capture_output=True,
        env={"PYTHONIOENCODING": "ascii", "PYTHONPATH": "."},
    )
    assert found.returncode == 3, found.stderr
    assert found.stdout.startswith(b"1.0 ? 0.4 ")
