"""One experiment on several processes of this machine.

  python -m launch.local --processes=2 -- experiments.cifar \
      --config=experiments/configs/digits.py --workdir=runs/digits

Starts N processes with one coordinator on a loopback port and an equal share each of
the GPUs or, without any, of the host devices, one for each core. Their output is one
log, a line behind the number of its process, on standard output and in
``WORKDIR/launch.log``. When a process dies the others are stopped. SIGINT, SIGTERM and
SIGUSR1 go on to all of them; a second SIGINT kills.

Exit status: the first that was not zero; 75 if they were told to stop and the same
command goes on from there; 2 for a mistake in the command.
"""

import errno
import importlib.metadata
import os
import pathlib
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import IO, Any, NamedTuple

from launch import commands

HOST = "127.0.0.1"
POLL_SECONDS = 0.05
FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
_ONE_THREAD_A_DEVICE = "--xla_cpu_multi_thread_eigen=false"


class Share(NamedTuple):
    """What one process may use.

    Attributes:
      cores: numbers of its cores.
      environment: variables that differ from the launcher's.
    """

    cores: tuple[int, ...]
    environment: dict[str, str]


def main(argv: Sequence[str]) -> int:
    """Run the launcher; returns its exit status."""
    options, command = commands.split_arguments(argv)
    parser = commands.Parser("python -m launch.local", __doc__)
    parser.add_argument("--processes", type=int, required=True, help="how many")
    parser.add_argument("--port", type=int, default=0, help="coordinator's; 0: a free")
    parser.add_argument(
        "--grace",
        type=float,
        default=30.0,
        help="seconds from a process's end to the killing of those that still run",
    )
    given = parser.parse_args(options)
    if command is None:
        raise commands.UserError("no experiment; give -- experiments.NAME ...")
    if given.processes < 1:
        raise commands.UserError(f"--processes={given.processes}: give 1 or more")
    workdir = commands.make_folder(command.workdir)
    shares = share_devices(
        given.processes,
        sorted(os.sched_getaffinity(0)),
        find_gpus(os.environ),
        os.environ,
    )
    with Log(workdir / "launch.log") as log:
        return run_processes(
            make_commands(command, given.processes, choose_port(given.port)),
            shares,
            log,
            given.grace,
        )


def make_commands(
    command: commands.Command, num_processes: int, port: int
) -> list[commands.Command]:
    """The command of each process; alone, one needs no coordinator."""
    if num_processes == 1:
        return [command]
    return [
        command.add(
            f"--coordinator={HOST}:{port}",
            f"--num_processes={num_processes}",
            f"--process_id={index}",
        )
        for index in range(num_processes)
    ]


def choose_port(port: int) -> int:
    """A port that nobody listens on; 0 chooses one.

    Raises:
      UserError: the port is taken, or is none.
    """
    with socket.socket() as probe:
        # Connections that ended a moment ago do not count as taking it.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise commands.UserError(
                f"--port={port}: {reason}; choose another, or leave it out"
            ) from error
        return int(probe.getsockname()[1])


def find_gpus(environ: Mapping[str, str]) -> tuple[str, ...]:
    """The GPUs that JAX would use here, as ``CUDA_VISIBLE_DEVICES`` names them."""
    platforms = environ.get("JAX_PLATFORMS", "")
    if platforms and not {"cuda", "gpu"} & set(platforms.split(",")):
        return ()
    plugins = importlib.metadata.entry_points(group="jax_plugins")
    if not any("cuda" in plugin.name for plugin in plugins):
        return ()
    visible = environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return tuple(name for name in visible.split(",") if name)
    try:
        listed = subprocess.run(
            ["nvidia-smi", "--list-gpus"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return ()
    lines = [line for line in listed.stdout.splitlines() if line.startswith("GPU ")]
    return tuple(str(index) for index in range(len(lines)))


def share_devices(
    num_processes: int,
    cores: Sequence[int],
    gpus: Sequence[str],
    environ: Mapping[str, str],
) -> list[Share]:
    """Equal shares of the GPUs, or of the cores where there are none.

    A core's share is a host device. What does not divide is left idle, because the
    processes of one mesh should have equally many devices. Who sets the number of host
    devices (``JAX_NUM_CPU_DEVICES``, ``XLA_FLAGS``) has said how many devices a process
    has, so then there may be fewer cores.

    Raises:
      UserError: fewer devices than processes.
    """
    chosen = "JAX_NUM_CPU_DEVICES" in environ or (
        "xla_force_host_platform_device_count" in environ.get("XLA_FLAGS", "")
    )
    if gpus and len(gpus) < num_processes:
        raise commands.UserError(
            f"--processes={num_processes}: only {len(gpus)} GPUs are visible here; ask"
            f" for at most {len(gpus)}, or set JAX_PLATFORMS=cpu"
        )
    if not gpus and len(cores) < num_processes and not chosen:
        raise commands.UserError(
            f"--processes={num_processes}: only {len(cores)} cores may be used here;"
            f" ask for at most {len(cores)}, or set JAX_NUM_CPU_DEVICES=1 to share them"
        )
    core_parts = _equal_parts(cores, num_processes)
    if not gpus:
        # Devices are shared out, and not the cores: a process that still compiles may
        # use those of one that waits for it.
        changed = {} if chosen else {"JAX_NUM_CPU_DEVICES": str(len(core_parts[0]))}
        if num_processes > 1:
            # Threads that help a device with its products would be on another's core.
            given = environ.get("XLA_FLAGS", "")
            changed["XLA_FLAGS"] = f"{given} {_ONE_THREAD_A_DEVICE}".strip()
        return [Share(tuple(cores), changed)] * num_processes
    return [
        Share(part, {"CUDA_VISIBLE_DEVICES": ",".join(mine)})
        for part, mine in zip(
            core_parts, _equal_parts(gpus, num_processes), strict=True
        )
    ]


class Log:
    """One log of many processes, on standard output and in a file. A context.

    Args:
      path: file to append to.
    """

    def __init__(self, path: pathlib.Path):
        self._file = _open_log(path)
        self._sinks: list[IO[bytes]] = [sys.stdout.buffer, self._file]
        self._lock = threading.Lock()

    def __enter__(self) -> "Log":
        """The log."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close the file."""
        with self._lock:
            self._sinks = []
            try:
                self._file.close()
            except OSError:
                pass  # A full disk; what could be written is.

    def write(self, source: int | str, line: bytes) -> None:
        """Write a line behind the number or name of its source."""
        text = b"[%s] %s\n" % (str(source).encode(), line.rstrip(b"\r\n"))
        with self._lock:
            for sink in tuple(self._sinks):
                try:
                    sink.write(text)
                    sink.flush()
                except (OSError, ValueError):
                    # A closed pipe or a full disk must not end the processes.
                    self._sinks.remove(sink)

    def say(self, text: str) -> None:
        """Write a line of the launcher's own."""
        self.write("launch", text.encode())


def _open_log(path: pathlib.Path) -> IO[bytes]:
    """A file to append to: a link in its place would have another file written.

    Raises:
      UserError: it cannot be written, or is no file.
    """
    # One who reads a pipe may never come, and opening it would wait for them.
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        # By the folder's own handle: its path may lead elsewhere a moment later.
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            descriptor = os.open(path.name, flags, 0o644, dir_fd=folder)
        finally:
            os.close(folder)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO, errno.EISDIR):
            raise _no_file(path) from error
        raise commands.UserError(
            f"{path}: {error.strerror}; choose a --workdir you can write to"
        ) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _no_file(path)
    return os.fdopen(descriptor, "ab")


def _no_file(path: pathlib.Path) -> commands.UserError:
    return commands.UserError(
        f"{path}: is a link, a folder or a pipe, and must be a file; move it away"
    )


def run_processes(
    processes: Sequence[commands.Command],
    shares: Sequence[Share],
    log: Log,
    grace: float,
) -> int:
    """Run commands side by side until all have ended.

    Args:
      processes: one command for each process.
      shares: what each may use.
      log: where their output goes.
      grace: seconds from the first end that was not a success to SIGKILL.

    Returns:
      The exit status for all of them.
    """
    received: list[int] = []
    before: dict[int, Any] = {
        number: signal.signal(number, lambda number, _: received.append(number))
        for number in FORWARDED
    }
    children: list[subprocess.Popen[bytes]] = []
    readers: list[threading.Thread] = []
    try:
        for command, share in zip(processes, shares, strict=True):
            children.append(_start(command, share))
        for index, child in enumerate(children):
            reader = threading.Thread(target=_read, args=(index, child, log))
            reader.daemon = True
            reader.start()
            readers.append(reader)
        return _watch(children, received, log, grace)
    finally:
        for child in children:
            if child.poll() is None:
                child.kill()
                child.wait()
        for reader in readers:
            # A grandchild may hold the pipe open for longer than anyone waits.
            reader.join(timeout=5.0)
        for number, handler in before.items():
            signal.signal(number, handler)


def _equal_parts(items: Sequence[Any], num_parts: int) -> list[tuple[Any, ...]]:
    """Parts of equal size without what does not divide; all for each if too few."""
    size = len(items) // num_parts
    if not size:
        return [tuple(items)] * num_parts
    return [tuple(items[i * size : (i + 1) * size]) for i in range(num_parts)]


def _start(command: commands.Command, share: Share) -> "subprocess.Popen[bytes]":
    mine = os.sched_getaffinity(0)
    # A child inherits the cores; set from outside, it could have begun threads.
    os.sched_setaffinity(0, share.cores)
    try:
        return subprocess.Popen(
            command.words(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **share.environment},
            # A terminal's Ctrl-C comes through the launcher alone, once.
            start_new_session=True,
            preexec_fn=commands.end_with_parent(),
        )
    finally:
        os.sched_setaffinity(0, mine)


def _read(index: int, child: "subprocess.Popen[bytes]", log: Log) -> None:
    assert child.stdout is not None
    for line in child.stdout:
        log.write(index, line)


def _watch(
    children: Sequence["subprocess.Popen[bytes]"],
    received: list[int],
    log: Log,
    grace: float,
) -> int:
    first = 0  # The first status that was not zero.
    seen: set[int] = set()
    told: set[int] = set()  # Signals that were passed on.
    deadline: float | None = None
    while len(seen) < len(children):
        while received:
            number = received.pop(0)
            if number == signal.SIGINT and number in told:
                log.say("interrupted twice: killing all processes")
                number = signal.SIGKILL
            told.add(number)
            _send(children, number)
        for index, child in enumerate(children):
            code = child.poll()
            if code is None or index in seen:
                continue
            seen.add(index)
            status = commands.shell_status(code)
            if status and not first:
                first = status
                deadline = time.monotonic() + grace
                if len(seen) < len(children) and not told:
                    log.say(f"process {index} ended with status {status}: stopping all")
                    _send(children, signal.SIGTERM)
        if deadline is not None and time.monotonic() > deadline:
            late = [i for i, child in enumerate(children) if child.poll() is None]
            for index in late:
                log.say(f"process {index} did not stop within {grace:g} s: killed")
                children[index].kill()
            deadline = None
        time.sleep(POLL_SECONDS)
    asked = bool(told & {signal.SIGTERM, signal.SIGUSR1})
    if asked and first in commands.STOPPED_STATUSES:
        first = commands.REQUEUE_STATUS
    if first == commands.REQUEUE_STATUS:
        log.say("stopped; the same command goes on from here")
    elif first:
        log.say(f"failed with status {first}")
    return first


def _send(children: Sequence["subprocess.Popen[bytes]"], number: int) -> None:
    for child in children:
        child.send_signal(number)


if __name__ == "__main__":
    commands.run(main)
