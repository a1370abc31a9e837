"""What every experiment program does around its experiment.

Flags, joining other processes, the work folder and its config, progress, stopping on a
signal, and errors: what the user can mend ends in one line on standard error and exit
status 2, a disk that is full or may not be written in one line and 1.

A program may be several processes, started with the same command but for the number of
the process (``--coordinator``, ``--num_processes`` and ``--process_id``), or by a
cluster that JAX knows (``--distributed``). The first of them alone writes and prints.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import pathlib
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

import jax
import ml_collections
import numpy as np
from absl import app, flags, logging
from ml_collections import config_flags
from tqdm import tqdm

from l2d_jax import data
from l2d_jax.engine import checkpoints, processes, sweeps

REQUEUE_STATUS = os.EX_TEMPFAIL
"""Exit status, 75, of a program that was told to stop: start it again, it goes on."""

# What a scheduler or a user sends to say so; SIGUSR1 is Slurm's warning.
_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
_STOPPED = "Stopped; the same command goes on from here."
# How long a process that ends waits for the others, which may be waiting for it.
_SHUTDOWN_SECONDS = 10

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
    flags.DEFINE_float(
        "stop_seconds",
        15.0,
        "Seconds from SIGTERM, SIGINT or SIGUSR1 to the end at the latest; what was"
        " done since the last checkpoint is lost if a compiled call takes longer.",
        lower_bound=0.0,
    )
    _define_process_flags()

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
            _check_process_flags()
            return rest
        except _FLAG_ERRORS as error:
            _fail(_flag_error(error))

    def start(argv: Sequence[str]) -> None:
        del argv
        # orbax tells the whole life of every file at the level of INFO.
        logging.set_verbosity(logging.WARNING)
        use_all_cores()
        config, folder = config_flag.value, str(workdir_flag.value)
        try:
            for number in _STOP_SIGNALS:
                signal.signal(number, _stop)
            _end_in_time(flags.FLAGS.stop_seconds)
            join_processes()
            agree_on_config(config)
            with use_workdir(folder) as workdir:
                main(config, workdir)
        except (ConfigError, data.DataError) as error:
            _fail(_one_line(error))
        except OSError as error:
            if error.errno not in checkpoints.DISK_ERRORS:
                raise
            _fail(
                f"{error.filename or folder}: {error.strerror}; what was finished is"
                " kept, and the same command goes on once this is mended",
                status=1,
            )
        except processes.FirstProcessError as error:
            sys.exit(2 if error.name in ("ConfigError", "DataError") else 1)
        except sweeps.Interrupted:
            if processes.is_first():
                print(_STOPPED, file=sys.stderr, flush=True)
            sys.exit(REQUEUE_STATUS)

    app.run(start, flags_parser=parse)


def _stop(number: int, frame: Any) -> NoReturn:
    """Outside of `StopSignal`, where there is nothing to be kept."""
    raise sweeps.Interrupted


def _end_in_time(seconds: float) -> None:
    """End so many seconds after a stop signal at the latest, whatever is being done.

    Python's handlers wait for the compiled call that runs, which may take minutes. The
    checkpoints that are there then are whole, as they are after a kill.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    # The first process is the others' coordinator, and the last to go.
    if not flags.FLAGS.process_id:
        seconds += 1.0

    def wait() -> None:
        while os.read(reader, 1)[0] not in _STOP_SIGNALS:
            pass
        time.sleep(seconds)
        if not flags.FLAGS.process_id:
            print(_STOPPED, file=sys.stderr, flush=True)
        os._exit(REQUEUE_STATUS)

    threading.Thread(target=wait, daemon=True).start()


def _define_process_flags() -> None:
    flags.DEFINE_string(
        "coordinator",
        None,
        "HOST:PORT of process 0, where several processes run one program.",
    )
    flags.DEFINE_integer("num_processes", None, "Processes of the program.")
    flags.DEFINE_integer(
        "process_id", None, "Number of this process, in 0..num_processes-1."
    )
    flags.DEFINE_bool(
        "distributed",
        False,
        "Join the processes that a cluster has started: Slurm, Open MPI, Kubernetes or"
        " Cloud TPU, which JAX detects.",
    )
    flags.DEFINE_integer(
        "initialization_timeout",
        60,
        "Seconds in which all processes of the program must have joined.",
    )


def _check_process_flags() -> None:
    given = flags.FLAGS
    plain = (given.coordinator, given.num_processes, given.process_id)
    if all(value is None for value in plain):
        return
    if given.distributed or any(value is None for value in plain):
        raise flags.Error(
            "--coordinator, --num_processes and --process_id go together, without"
            " --distributed"
        )
    host, _, port = given.coordinator.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise flags.Error(f"--coordinator must be HOST:PORT, got {given.coordinator!r}")
    if not 0 <= given.process_id < given.num_processes:
        raise flags.Error(
            f"--process_id must be in 0..{given.num_processes - 1} for"
            f" --num_processes={given.num_processes}, got {given.process_id}"
        )


def join_processes() -> None:
    """Join the other processes of the program, if the flags say that there are any.

    Raises:
      ConfigError: not all of them came in time.
    """
    given = flags.FLAGS
    if given.coordinator is None and not given.distributed:
        return
    # It would take SIGTERM for itself.
    jax.config.update("jax_enable_preemption_service", False)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    seconds = given.initialization_timeout
    where = given.coordinator or "the coordinator that the cluster names"
    options: dict[str, Any] = {}
    if not given.distributed:
        options = {
            "coordinator_address": given.coordinator,
            "num_processes": given.num_processes,
            "process_id": given.process_id,
        }
        # JAX ends the whole process where somebody is missing, with a page of text.
        meet(given.coordinator, given.num_processes, given.process_id, seconds)
        if given.process_id > 0:
            # It tries again a second later where it finds nobody at the first moment.
            await_listener(given.coordinator, seconds)
    try:
        jax.distributed.initialize(
            **options,
            initialization_timeout=seconds,
            shutdown_timeout_seconds=_SHUTDOWN_SECONDS,
        )
    except (RuntimeError, ValueError) as error:
        said = (str(error).splitlines() or [""])[0]
        raise ConfigError(
            f"cannot join the processes at {where}: {said}; give --coordinator,"
            " --num_processes and --process_id"
        ) from error


def meet(address: str, num_processes: int, process_id: int, seconds: float) -> None:
    """Wait until all processes are there.

    Args:
      address: ``HOST:PORT``, where the first listens.
      num_processes: of the program.
      process_id: of this process.
      seconds: to wait at most.

    Raises:
      ConfigError: somebody is missing, or the port is taken.
    """
    host, _, port = address.rpartition(":")
    end = time.monotonic() + seconds
    if process_id == 0:
        _await_all(address, int(port), num_processes, end, seconds)
        return
    while True:
        try:
            with socket.create_connection((host, int(port)), timeout=1.0) as line:
                line.sendall(f"{process_id}\n".encode())
                line.settimeout(max(end - time.monotonic(), 1.0))
                # The first hangs up once all are there.
                line.recv(1)
                return
        except TimeoutError as error:
            if time.monotonic() > end:
                raise ConfigError(
                    f"coordinator {address}: not all of {num_processes} processes"
                    f" joined within {seconds} s; start all of them, or raise"
                    " --initialization_timeout"
                ) from error
        except OSError as error:
            if time.monotonic() > end:
                raise _nobody_answers(address, seconds, error) from error
            time.sleep(0.1)


def await_listener(address: str, seconds: float) -> None:
    """Wait until somebody listens at an address.

    Args:
      address: ``HOST:PORT``.
      seconds: to wait at most.

    Raises:
      ConfigError: nobody does.
    """
    host, _, port = address.rpartition(":")
    end = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection((host, int(port)), timeout=1.0).close()
            return
        except OSError as error:
            if time.monotonic() > end:
                raise _nobody_answers(address, seconds, error) from error
            time.sleep(0.01)


def _nobody_answers(address: str, seconds: float, error: OSError) -> ConfigError:
    return ConfigError(
        f"coordinator {address}: nobody answers after {seconds} s"
        f" ({error.strerror or error}); start process 0 there, or raise"
        " --initialization_timeout"
    )


def _await_all(
    address: str, port: int, num_processes: int, end: float, seconds: float
) -> None:
    lines: dict[int, socket.socket] = {}
    try:
        # Closed before the lines are, so that the port is free when they go on.
        with socket.create_server(("", port), backlog=num_processes) as server:
            while len(lines) < num_processes - 1:
                server.settimeout(max(end - time.monotonic(), 0.01))
                line, _ = server.accept()
                line.settimeout(1.0)
                with contextlib.suppress(OSError, ValueError):
                    lines[int(line.recv(20))] = line
    except TimeoutError as error:
        missing = sorted(set(range(1, num_processes)) - lines.keys())
        raise ConfigError(
            f"coordinator {address}: no process"
            f" {', '.join(map(str, missing))} of {num_processes} within {seconds} s;"
            " start all of them, or raise --initialization_timeout"
        ) from error
    except OSError as error:
        raise ConfigError(
            f"coordinator {address}: {error.strerror}; choose another port"
        ) from error
    finally:
        for line in lines.values():
            line.close()


def agree_on_config(config: ml_collections.ConfigDict) -> None:
    """See that all processes have the same config.

    Raises:
      ConfigError: they do not.
    """
    text = json.dumps(json.loads(config.to_json_best_effort()), sort_keys=True)
    digest = np.frombuffer(hashlib.sha256(text.encode()).digest(), np.uint8)
    digests = processes.gather(digest)
    for number, other in enumerate(digests):
        if (other != digests[0]).any():
            raise ConfigError(
                f"process {number} has another config than process 0 (sha256"
                f" {other.tobytes().hex()[:16]}, not"
                f" {digests[0].tobytes().hex()[:16]}); start all with the same"
                " --config flags"
            )


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


@contextlib.contextmanager
def use_workdir(path: str) -> Iterator[pathlib.Path]:
    """Make the folder, and keep it from other programs for as long as this one runs.

    Raises:
      ConfigError: it cannot be written, or another program uses it.
    """
    workdir = pathlib.Path(path).absolute()
    held: list[int] = []
    processes.from_first(lambda: held.append(_lock(workdir)))
    try:
        yield workdir
    finally:
        for descriptor in held:
            (workdir / ".lock").unlink(missing_ok=True)
            os.close(descriptor)


def _lock(workdir: pathlib.Path) -> int:
    """Descriptor of the folder's lock, which the system gives up when we end."""
    path = workdir / ".lock"
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                holder = os.read(descriptor, 100).decode(errors="replace").strip()
                os.close(descriptor)
                raise ConfigError(
                    f"workdir {workdir} is in use by process {holder or '(unknown)'};"
                    " wait for it to end, or choose another --workdir"
                ) from error
            # Whoever held it may have deleted the file that was opened.
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                    break
            os.close(descriptor)
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()} on {socket.gethostname()}\n".encode())
        return descriptor
    except OSError as error:
        raise ConfigError(
            f"workdir {workdir}: {error.strerror}; choose a folder you can write to"
        ) from error


def claim_workdir(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> None:
    """Write ``config.json``, or find that it is the same.

    Raises:
      ConfigError: the folder holds the results of another config.
    """
    processes.from_first(lambda: _claim_workdir(config, workdir))


def _claim_workdir(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> None:
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
    with replacing(path) as temporary:
        temporary.write_text(text)


@contextlib.contextmanager
def replacing(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """A file to write, which takes the place of ``path`` once it is whole.

    Raises:
      OSError: it cannot be written; it names ``path``, which stays as it was.
    """
    temporary = path.with_name(path.name + ".tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def say(text: str) -> None:
    """Print on standard output, once for all processes."""
    if processes.is_first():
        print(text, flush=True)


class StopSignal:
    """Notes SIGTERM, SIGINT and SIGUSR1: a sweep can then stop between two dispatches.

    A context: outside it the signals end the program at once. In a program of several
    processes one that has had a signal is enough: sweeps ask all.
    """

    def __init__(self) -> None:
        self._received = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "StopSignal":
        """Take the signals over."""
        for number in _STOP_SIGNALS:
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
        """Show how far the sweep is, once for all processes."""
        if not processes.is_first():
            return
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


def _fail(message: str, status: int = 2) -> NoReturn:
    print(f"error: {message}", file=sys.stderr, flush=True)
    sys.exit(status)
