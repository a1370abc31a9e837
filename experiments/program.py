"""What every experiment program does around its experiment.

Flags, the work folder and its config, progress, stopping on a signal, and errors: what
the user can mend ends in one line on standard error and exit status 2.
"""

import json
import os
import pathlib
import signal
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import jax
import ml_collections
from absl import app, flags, logging
from ml_collections import config_flags
from tqdm import tqdm

from l2d_jax import data, sweeps

# 128 + SIGTERM, what a shell reports of a program that the signal ended.
INTERRUPTED_STATUS = 143

# What absl and ml_collections raise for flags and config files they cannot use.
_FLAG_ERRORS = (
    flags.Error,
    AttributeError,
    KeyError,
    OSError,
    SyntaxError,
    TypeError,
    ValueError,
)

Main = Callable[[ml_collections.ConfigDict, pathlib.Path], None]


class ConfigError(ValueError):
    """A config field has a value that cannot be used; the message names the field."""


def run(main: Main, default_config: str | None = None) -> None:
    """Run a program from its flags; does not return.

    Args:
      main: ``(config, workdir)``; raises `ConfigError` for what the user can mend.
      default_config: config file if ``--config`` is not given; None requires it.
    """
    try:
        # A default config is read here, with what the command line changes of it.
        config_flag = config_flags.DEFINE_config_file(
            "config",
            default_config,
            "Config file, with its scale after a colon: FILE.py[:smoke|:paper]. Any"
            " field is set by --config.FIELD=VALUE.",
            lock_config=True,
        )
    except _FLAG_ERRORS as error:
        _fail(_flag_error(error))
    workdir_flag = flags.DEFINE_string(
        "workdir", None, "Folder for the results; made if it is not there."
    )

    def parse(argv: Sequence[str]) -> list[str]:
        try:
            rest = flags.FLAGS(argv)
            if len(rest) > 1:
                raise flags.Error(f"unknown argument {rest[1]!r}; flags begin with --")
            config = config_flag.value
            if config is None:
                raise flags.Error("--config is missing; give --config=FILE.py")
            # A file that could not be read raises here, at the first use.
            getattr(config, "lock", None)
            if not isinstance(config, ml_collections.ConfigDict):
                raise flags.Error("--config: its get_config must return a ConfigDict")
            if not workdir_flag.value:
                raise flags.Error("--workdir is missing; give --workdir=DIR")
            return rest
        except _FLAG_ERRORS as error:
            _fail(_flag_error(error))

    def start(argv: Sequence[str]) -> None:
        del argv
        # orbax tells the whole life of every file at the level of INFO.
        logging.set_verbosity(logging.WARNING)
        use_all_cores()
        try:
            main(config_flag.value, prepare_workdir(str(workdir_flag.value)))
        except (ConfigError, data.DataError) as error:
            _fail(_one_line(error))
        except PermissionError as error:
            _fail(f"{error.filename}: {error.strerror}; choose another --workdir")
        except sweeps.Interrupted:
            print(
                "Stopped; the same command goes on from here.",
                file=sys.stderr,
                flush=True,
            )
            sys.exit(INTERRUPTED_STATUS)

    app.run(start, flags_parser=parse)


def use_all_cores() -> None:
    """Ask for one host device a core, where the backend is a CPU.

    Must come before the first use of JAX; a number the user chose with ``XLA_FLAGS`` or
    ``JAX_NUM_CPU_DEVICES`` stands.
    """
    flag = "xla_force_host_platform_device_count"
    if flag in os.environ.get("XLA_FLAGS", "") or "JAX_NUM_CPU_DEVICES" in os.environ:
        return
    jax.config.update("jax_num_cpu_devices", num_cores())


def num_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0))


def prepare_workdir(path: str) -> pathlib.Path:
    """Make the folder, and see that it can be written.

    Raises:
      ConfigError: it cannot.
    """
    workdir = pathlib.Path(path).absolute()
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        probe = workdir / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ConfigError(
            f"workdir {workdir}: {error.strerror}; choose a folder you can write to"
        ) from error
    return workdir


def claim_workdir(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> None:
    """Write ``config.json``, or find that it is the same.

    Raises:
      ConfigError: the folder holds the results of another config.
    """
    path = workdir / "config.json"
    ours = json.loads(config.to_json_best_effort())
    if path.exists():
        try:
            theirs = json.loads(path.read_text())
        except ValueError as error:
            raise ConfigError(
                f"{path}: not JSON ({error}); delete it or choose another --workdir"
            ) from error
        name = _first_difference(theirs, ours)
        if name is not None:
            raise ConfigError(
                f"workdir {workdir} was written with another config"
                f" ({name or 'all of it'} differs);"
                " choose another --workdir or give the same config"
            )
        return
    write_text(path, json.dumps(ours, indent=2, sort_keys=True) + "\n")


def write_text(path: pathlib.Path, text: str) -> None:
    """Replace a file in one move, so that it is never half written."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text)
    os.replace(temporary, path)


class StopSignal:
    """Notes SIGTERM and SIGINT, so that a sweep can stop between two dispatches.

    A context: outside it the signals end the program at once.
    """

    def __init__(self) -> None:
        self._received = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "StopSignal":
        """Take the signals over."""
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *error: object) -> None:
        """Give the signals back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: Any) -> None:
        del frame
        if self._received and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._received = True

    def __call__(self) -> bool:
        """Whether to stop."""
        return self._received


class ProgressBar:
    """A bar with an ETA on a terminal, a line now and then elsewhere.

    Args:
      title: what is being done.
      seconds_between_lines: least time between two lines.
      unit: what is counted, in the singular.
    """

    def __init__(
        self, title: str, seconds_between_lines: float = 20.0, unit: str = "epoch"
    ):
        self._title, self._seconds, self._unit = title, seconds_between_lines, unit
        self._bar: tqdm | None = None
        self._start = self._last = time.monotonic()
        self._first_done: int | None = None
        self._said: int | None = None

    def __call__(self, progress: sweeps.Progress) -> None:
        """Show how far the sweep is."""
        if progress.message:
            print(f"{self._title}: {progress.message}", file=sys.stderr, flush=True)
        if sys.stderr.isatty():
            if self._bar is None:
                self._bar = tqdm(
                    total=progress.total, desc=self._title, unit=self._unit
                )
            self._bar.update(progress.done - self._bar.n)
            if progress.done == progress.total:
                self._bar.close()
            return
        now = time.monotonic()
        if self._first_done is None:
            self._first_done = progress.done
        finished = progress.done == progress.total
        if now - self._last < self._seconds and not finished:
            return
        if progress.done == self._said:
            return
        self._last, self._said = now, progress.done
        line = f"{self._title}: {progress.done}/{progress.total} {self._unit}s"
        made = progress.done - self._first_done
        if made and not finished:
            left = (now - self._start) * (progress.total - progress.done) / made
            line += f", {left:.0f} s left"
        print(line, file=sys.stderr, flush=True)


def _first_difference(theirs: Any, ours: Any, name: str = "") -> str | None:
    if isinstance(theirs, dict) and isinstance(ours, dict):
        for key in sorted(theirs.keys() | ours.keys()):
            child = f"{name}.{key}" if name else key
            if key not in theirs or key not in ours:
                return child
            found = _first_difference(theirs[key], ours[key], child)
            if found is not None:
                return found
        return None
    return None if theirs == ours else name


def _flag_error(error: Exception) -> str:
    """The part of an error in the flags or the config file that says what is wrong."""
    if isinstance(error, AttributeError) and isinstance(error.args[0], KeyError):
        error = error.args[0]
    if isinstance(error, KeyError):
        # The name of the field and, at times, a guess at the one that was meant.
        return f"config has no field {_one_line(error)}; its file lists the fields"
    lines = str(error).strip().splitlines() or [""]
    if isinstance(error, OSError):
        return f"config: {lines[-1].strip()}; give the path of a config file"
    if isinstance(error, flags.Error) and len(lines) > 1:
        # Between the flag and what is wrong with it there is a whole traceback.
        return f"{lines[0].rpartition(':')[0]}: {lines[-1]}"
    return f"config: {_one_line(error)}"


def _one_line(error: BaseException) -> str:
    text = str(error.args[0]) if isinstance(error, KeyError) else str(error)
    return " ".join(text.split())


def _fail(message: str) -> NoReturn:
    print(f"error: {message}", file=sys.stderr, flush=True)
    sys.exit(2)
