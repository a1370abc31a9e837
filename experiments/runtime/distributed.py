"""Several processes that are one program: they meet, join and agree on the config.

They are started with the same command but for the number of the process
(``--coordinator``, ``--num_processes`` and ``--process_id``), or by a cluster that JAX
knows (``--distributed``).
"""

import contextlib
import errno
import hashlib
import ipaddress
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import jax
import ml_collections
import numpy as np
from absl import flags

from experiments.runtime.errors import ConfigError
from l2d_jax.engine import processes

# How long a process that ends waits for the others, which may be waiting for it.
_SHUTDOWN_SECONDS = 10
# How long a process waits for one that has its number and may be about to end.
_OTHER_SECONDS = 5.0
# How much later than we JAX would end a process that waits for others.
_LATER_SECONDS = 60


def define_process_flags() -> None:
    """Define the flags that say which process of which program this is."""
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


def check_process_flags() -> None:
    """Check them, once they are parsed.

    Raises:
      flags.Error: they do not go together.
    """
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

    One that waits in vain ends with a line and status 2.

    Raises:
      ConfigError: it cannot.
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
            "coordinator_bind_address": _bind_address(given.coordinator),
        }
        _take_number(given.coordinator, given.process_id)
        if given.process_id == 0:
            _require_port(given.coordinator)
    late = (
        f"coordinator {where}: not all processes of the program joined within {seconds}"
        " s; start all of them with the same --coordinator, or raise"
        " --initialization_timeout"
    )
    try:
        with _end_after(seconds, late):
            jax.distributed.initialize(
                **options,
                initialization_timeout=seconds + _LATER_SECONDS,
                shutdown_timeout_seconds=_SHUTDOWN_SECONDS,
            )
    except (RuntimeError, ValueError) as error:
        said = (str(error).splitlines() or [""])[0]
        raise ConfigError(
            f"cannot join the processes at {where}: {said}; give --coordinator,"
            " --num_processes and --process_id"
        ) from error


def _bind_address(coordinator: str) -> str | None:
    """Where the first process listens; None is every address that it has.

    Who joins is not asked who they are, so a program of one machine is not offered to
    others.
    """
    host = coordinator.rpartition(":")[0].strip("[]")
    try:
        is_here = ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_here = host == "localhost"
    return coordinator if is_here else None


def _take_number(
    coordinator: str, number: int, seconds: float = _OTHER_SECONDS
) -> None:
    """Have a process's number for as long as it runs, among those of this machine.

    A second one of the same number would end all of the program: JAX takes it for the
    first, started anew, and aborts. On other machines nobody can be asked before JAX
    is, so there it still does.

    Args:
      coordinator: of the program.
      number: of the process.
      seconds: to wait for another that has it and may be about to end.

    Raises:
      ConfigError: another process has it.
    """
    if sys.platform != "linux":
        return
    # A name that is no file, which the system gives up when the process ends.
    name = f"\0l2d_jax {coordinator} {number}"
    deadline = time.monotonic() + seconds
    holder = socket.socket(socket.AF_UNIX)
    while True:
        try:
            holder.bind(name)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                return
            if time.monotonic() < deadline:
                time.sleep(0.1)
                continue
            raise ConfigError(
                f"process_id {number} of the program at {coordinator} is another"
                " process of this machine; give every process a number of its own"
            ) from error
        # Open until the end, whoever lets go of the object.
        holder.detach()
        return


def _require_port(coordinator: str) -> None:
    """See that nobody listens where this process is to: JAX would end without a word.

    Raises:
      ConfigError: somebody does.
    """
    name, _, port = coordinator.rpartition(":")
    host = name.strip("[]") if _bind_address(coordinator) else ""
    try:
        family = socket.getaddrinfo(host or None, int(port))[0][0]
        with socket.socket(family) as probe:
            # Connections that ended a moment ago do not count as taking it.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, int(port)))
    except OSError as error:
        raise ConfigError(
            f"coordinator {coordinator}: {error.strerror}; choose another port"
        ) from error


@contextlib.contextmanager
def _end_after(seconds: float, message: str) -> Iterator[None]:
    """End the process with status 2 if what is done within takes longer.

    JAX, where its own time is over, ends it by an abort and with a page of text.
    """

    def end() -> None:
        os.write(2, f"error: {message}\n".encode())
        os._exit(2)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


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
