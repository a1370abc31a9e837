"""The command that is launched: an experiment's module and its flags.

A launcher's own options come first, then ``--``, then the experiment:

  python -m launch.local --processes=2 -- experiments.cifar --config=... --workdir=DIR
"""

import argparse
import ctypes
import importlib.util
import itertools
import pathlib
import re
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple, NoReturn, TypeVar

REQUEUE_STATUS = 75
"""Exit status of an experiment that was told to stop and can go on: the value of
``experiments.runtime.signals.REQUEUE_STATUS``, without its imports."""
STOPPED_STATUSES = frozenset(
    {REQUEUE_STATUS, 128 + signal.SIGTERM, 128 + signal.SIGUSR1}
)
"""Also of one that SIGTERM or SIGUSR1 ended before it had taken the signals over."""

_PR_SET_PDEATHSIG = 1  # Of Linux's prctl.

T = TypeVar("T")


class UserError(ValueError):
    """What the user can mend; the message is one line that names it."""


class Parser(argparse.ArgumentParser):
    """A parser whose complaints are `UserError`, and which takes no short forms."""

    def __init__(self, prog: str, description: str | None):
        super().__init__(
            prog=prog,
            description=description,
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    def error(self, message: str) -> NoReturn:
        """Raise the complaint."""
        raise UserError(message)


class Command(NamedTuple):
    """An experiment to run.

    Attributes:
      module: what ``python -m`` runs.
      arguments: its flags, as they were given.
    """

    module: str
    arguments: tuple[str, ...]

    @property
    def workdir(self) -> pathlib.Path:
        """The work folder, absolute.

        Raises:
          UserError: the command names none.
        """
        given = self.value("workdir")
        if not given:
            raise UserError("--workdir is missing; give --workdir=DIR after the --")
        return pathlib.Path(given).absolute()

    def value(self, flag: str) -> str | None:
        """The last value given to a flag, ``--flag=value`` or ``--flag value``."""
        found = None
        for at, argument in enumerate(self.arguments):
            match = _FLAG.fullmatch(argument)
            if match is None or match["name"] != flag:
                continue
            found = match["value"]
            if found is None and at + 1 < len(self.arguments):
                found = self.arguments[at + 1]
        return found

    def replace(self, flag: str, value: str) -> "Command":
        """The command with one value for a flag, whatever was given before."""
        kept: list[str] = []
        skip = False
        for argument in self.arguments:
            match = _FLAG.fullmatch(argument)
            if skip:
                skip = False
            elif match is not None and match["name"] == flag:
                skip = match["value"] is None
            else:
                kept.append(argument)
        return self._replace(arguments=(*kept, f"--{flag}={value}"))

    def add(self, *arguments: str) -> "Command":
        """The command with more arguments at its end."""
        return self._replace(arguments=(*self.arguments, *arguments))

    def words(self) -> list[str]:
        """What to execute: this Python and the module."""
        return [sys.executable, "-m", self.module, *self.arguments]

    def __str__(self) -> str:
        """As one would type it."""
        return shlex.join(["python", "-m", self.module, *self.arguments])


# absl takes one dash or two.
_FLAG = re.compile(r"--?(?P<name>[A-Za-z_][\w.]*)(?:=(?P<value>.*))?", re.DOTALL)


def split_arguments(argv: Sequence[str]) -> tuple[list[str], Command | None]:
    """A launcher's own options and the command after ``--``; None without ``--``.

    Raises:
      UserError: nothing to run follows ``--``, or no such module is there.
    """
    if "--" not in argv:
        return list(argv), None
    at = list(argv).index("--")
    options, words = list(argv[:at]), list(argv[at + 1 :])
    if not words or words[0].startswith("-"):
        raise UserError("no experiment after --; give -- experiments.NAME --config=...")
    try:
        found = importlib.util.find_spec(words[0])
    except (ImportError, ValueError):
        found = None
    if found is None:
        raise UserError(
            f"no module {words[0]!r} to run; give -- experiments.NAME, from the folder"
            " that holds experiments/"
        )
    return options, Command(words[0], tuple(words[1:]))


def split_evenly(items: Sequence[T], num_parts: int) -> list[tuple[T, ...]]:
    """Contiguous parts, in order, whose sizes differ by at most one; none is lost.

    Args:
      items: what to split.
      num_parts: 1..len(items).
    """
    size, longer = divmod(len(items), num_parts)
    ends = [0]
    for part in range(num_parts):
        ends.append(ends[-1] + size + (part < longer))
    return [tuple(items[a:b]) for a, b in itertools.pairwise(ends)]


def shell_status(returncode: int) -> int:
    """The exit status of a process as a shell gives it: 128 + N after signal N."""
    return returncode if returncode >= 0 else 128 - returncode


def end_with_parent() -> Callable[[], None] | None:
    """What makes a child get SIGTERM if its parent is killed; None if not to be had.

    For `subprocess.Popen`, as ``preexec_fn``. Run between fork and exec, so all that it
    needs is looked up here.
    """
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is None:
        return None
    number = int(signal.SIGTERM)
    return lambda: prctl(_PR_SET_PDEATHSIG, number)


def make_folder(path: pathlib.Path, flag: str = "--workdir") -> pathlib.Path:
    """Make a folder, if it is not there.

    Raises:
      UserError: it cannot be made, or a script that names it would not be what it
        seems.
    """
    if not str(path).isprintable():
        raise UserError(
            f"{flag} {str(path)!r}: a job's script cannot hold such a name; choose one"
            " without line breaks and control characters"
        )
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{flag} {path}: {error.strerror}; choose a folder you can write to"
        ) from error
    return path


def run(main: Callable[[Sequence[str]], int]) -> NoReturn:
    """Run a launcher on the command line, and end with its status."""
    try:
        status = main(sys.argv[1:])
    except UserError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr, flush=True)
        status = 2
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr, flush=True)
        status = 128 + signal.SIGINT
    sys.exit(status)
