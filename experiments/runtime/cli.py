"""The command line of a program: its flags, and its errors in one line.

What the user can mend ends in one line on standard error and exit status 2, a disk that
is full or may not be written in one line and 1, and what only takes time, as a stop
does, in one line and 75. Of several processes the first alone writes and prints.
"""

import errno
import itertools
import numbers
import os
import pathlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

import ml_collections
from absl import app, flags, logging
from ml_collections import config_flags

from experiments.runtime import devices, distributed, output, signals
from experiments.runtime.errors import ConfigError, InUseError
from experiments.runtime.workdir import use_workdir
from l2d_jax import data
from l2d_jax.engine import checkpoints, origins, processes, sweeps

# A file where a folder is to be, or a folder where a file is.
_IN_THE_WAY = (errno.EEXIST, errno.EISDIR, errno.ENOTDIR)
# Status of the others, by what the first process has raised.
_STATUS_OF_OTHERS = {
    **dict.fromkeys(("ConfigError", "DataError", "ForeignResultsError"), 2),
    **dict.fromkeys(("FileExistsError", "IsADirectoryError", "NotADirectoryError"), 2),
    "InUseError": signals.REQUEUE_STATUS,
}

# What NumPy and XLA say of an array that is larger than memory or an address.
_TOO_LARGE = (
    "Maximum allowed dimension exceeded",
    "array is too big",
    "RESOURCE_EXHAUSTED: Out of memory",
)

# What JAX says of another process of the program that is no longer there.
_LOST = ("Gloo", "coordination service", "Connection closed by peer")

Main = Callable[[ml_collections.ConfigDict, pathlib.Path], None]


def run(main: Main, default_config: str | None = None) -> None:
    """Run a program from its flags; does not return.

    Args:
      main: ``(config, workdir)``; raises `ConfigError` for what the user can mend.
      default_config: config file if ``--config`` is not given; None requires it.
    """
    output.never_fail()
    signals.take_over()
    try:
        # A default config is read here, with what the command line changes of it.
        config_flag = config_flags.DEFINE_config_file(
            "config",
            default_config,
            "Config file, with its scale after a colon: FILE.py[:smoke|:paper]. Any"
            " field is set by --config.FIELD=VALUE.",
            lock_config=True,
        )
    except Exception as error:
        _fail(_flag_error(error))
    workdir_flag = flags.DEFINE_string(
        "workdir", None, "Folder for the results; made if it is not there."
    )
    flags.DEFINE_float(
        "stop_seconds",
        15.0,
        "Seconds from SIGTERM, SIGINT or SIGUSR1 to the end at the latest, and to that"
        " of training to a checkpoint; what was done since the last one is lost if a"
        " compiled call takes longer.",
        lower_bound=0.0,
    )
    flags.DEFINE_float(
        "wait_seconds",
        5.0,
        "Seconds to wait for another program that uses the work folder to end.",
        lower_bound=0.0,
    )
    flags.DEFINE_string(
        "compilation_cache",
        "auto",
        "Folder in which compiled programs are kept, so that a second start need not"
        " compile them: auto is one in the user's cache, off keeps none.",
    )
    distributed.define_process_flags()

    def parse(argv: Sequence[str]) -> list[str]:
        try:
            _refuse_other_files(argv)
            rest = flags.FLAGS(argv)
            _refuse_repeats(argv)
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
            distributed.check_process_flags()
            return rest
        # A config file is the user's program, which may raise whatever it likes.
        except Exception as error:
            _fail(_flag_error(error))

    def start(argv: Sequence[str]) -> None:
        del argv
        # orbax tells the whole life of every file, and of an error, which it raises
        # too, the trace of each of its threads.
        logging.set_verbosity(logging.FATAL)
        devices.use_all_cores()
        config, folder = config_flag.value, str(workdir_flag.value)
        try:
            given = flags.FLAGS
            signals.wait_for_work(given.stop_seconds)
            signals.set_process(given.process_id or 0, given.num_processes or 1)
            devices.check_flags()
            distributed.join_processes()
            devices.find()
            devices.keep_programs(given.compilation_cache)
            signals.set_process(processes.index(), processes.count())
            distributed.agree_on_config(config)
            with use_workdir(folder, given.wait_seconds) as workdir:
                main(config, workdir)
            signals.ignore()
        except (ConfigError, data.DataError, origins.ForeignResultsError) as error:
            _fail(_one_line(error))
        except InUseError as error:
            _fail(_one_line(error), signals.REQUEUE_STATUS)
        except OSError as error:
            if error.errno in _IN_THE_WAY and error.filename is not None:
                _fail(
                    f"{error.filename}: {error.strerror}, where this program has"
                    " something else; move it away"
                )
            if not _is_of_disk(error, folder):
                raise
            _fail(
                f"{error.filename or folder}: {error.strerror}; what was finished is"
                " kept, and the same command goes on once this is mended",
                status=1,
            )
        except AttributeError as error:
            if not _is_missing_field(error):
                raise
            _fail(_flag_error(error))
        except (MemoryError, RuntimeError, ValueError) as error:
            if _has_lost_others(error):
                _end_without_others()
            if not _is_too_large(error):
                raise
            _fail(f"{_largest(config)}: {_one_line(error)}; lower what is named first")
        except processes.FirstProcessError as error:
            sys.exit(_STATUS_OF_OTHERS.get(error.name, 1))
        except sweeps.Interrupted:
            signals.end()
            sys.exit(signals.REQUEUE_STATUS)

    app.run(start, flags_parser=parse)


def _refuse_repeats(argv: Sequence[str]) -> None:
    """See that no list is given twice: absl would join both, where the last is meant.

    Raises:
      flags.Error: one is.
    """
    names = [word.lstrip("-").partition("=")[0] for word in argv if word[:1] == "-"]
    for name in {name for name in names if names.count(name) > 1}:
        if name in flags.FLAGS and isinstance(flags.FLAGS[name], flags.MultiFlag):
            raise flags.Error(
                f"--{name} is given twice; give all its values once, as"
                f' --{name}="(A,B)"'
            )


def _refuse_other_files(argv: Sequence[str]) -> None:
    """See that a config file that is there is one of Python, as which it is run.

    Raises:
      flags.Error: it is not.
    """
    for word, following in itertools.zip_longest(argv, argv[1:], fillvalue=""):
        name, given, value = word.partition("=")
        if word[:1] != "-" or name.lstrip("-") != "config":
            continue
        path = pathlib.Path((value if given else following).partition(":")[0])
        if path.is_file() and path.suffix != ".py":
            raise flags.Error(
                f"--config: {path} is no config file, whose name ends with .py; see"
                " experiments/configs"
            )


def _is_missing_field(error: Exception) -> bool:
    """Whether a config was asked for a field that it lacks."""
    return isinstance(error, AttributeError) and isinstance(
        next(iter(error.args), None), KeyError
    )


def _is_of_disk(error: OSError, folder: str) -> bool:
    """Whether a disk fails, or what lay in the work folder has gone from there."""
    if error.errno == errno.ENOENT and error.filename is not None:
        own = pathlib.Path(folder).expanduser().absolute()
        return pathlib.Path(str(error.filename)).is_relative_to(own)
    return error.errno in checkpoints.DISK_ERRORS


def _has_lost_others(error: BaseException) -> bool:
    """Whether another process of the program has ended while this one needs it."""
    # JAX raises it as a RuntimeError, or as a ValueError where it calls the program.
    return processes.count() > 1 and any(said in str(error) for said in _LOST)


def _end_without_others() -> NoReturn:
    """End as one that was told to stop, where this one or another process was.

    In a compiled call that takes longer than there is time the others end in it, and
    this one is left with what it asked of them.
    """
    status = 1
    if signals.StopSignal.told:
        signals.end()
        status = signals.REQUEUE_STATUS
    else:
        _say_error(
            "another process of the program has ended, and has said why unless it was"
            " killed; what was finished is kept, and the same command goes on from it"
        )
    # The first is the coordinator of those that are left. There is nobody to agree on
    # the end with, which JAX would wait for and then tell of at length.
    time.sleep(processes.is_first())
    os._exit(status)


def _is_too_large(error: BaseException) -> bool:
    """Whether something asked for more memory than there is."""
    return isinstance(error, MemoryError) or any(
        said in str(error) for said in _TOO_LARGE
    )


def _largest(config: ml_collections.ConfigDict) -> str:
    """The largest numbers of a config that are numbers of something, by field."""
    found = sorted(_counts(config), key=lambda pair: -pair[1])
    # What is far smaller is not what it fails by.
    named = [pair for pair in found[:3] if 100 * pair[1] >= found[0][1]]
    return ", ".join(f"{name}={count}" for name, count in named)


def _counts(group: Any, above: str = "") -> Iterator[tuple[str, int]]:
    for name, value in group.items():
        if isinstance(value, ml_collections.ConfigDict):
            yield from _counts(value, f"{above}{name}.")
            continue
        listed = value if isinstance(value, tuple | list) else (value,)
        counts = [int(n) for n in listed if isinstance(n, numbers.Integral)]
        # Any seed is as large as another.
        if counts and name != "seed":
            yield f"{above}{name}", max(counts)


def _flag_error(error: Exception) -> str:
    """The part of an error in the flags or the config file that says what is wrong."""
    if _is_missing_field(error):
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
    said = _one_line(error)
    if not isinstance(error, flags.Error | TypeError | ValueError | SyntaxError):
        said = f"{type(error).__name__}: {said}"
    return f"config: {said}"


def _one_line(error: BaseException) -> str:
    text = str(error.args[0]) if isinstance(error, KeyError) else str(error)
    return " ".join(text.split())


def _fail(message: str, status: int = 2) -> NoReturn:
    _say_error(message)
    sys.exit(status)


def _say_error(message: str) -> None:
    print(f"error: {message}", file=sys.stderr, flush=True)
