"""Several processes that are one program: they meet, join and agree on the config.

They are started with the same command but for the number of the process
(``--coordinator``, ``--num_processes`` and ``--process_id``), or by a cluster that JAX
knows (``--distributed``).
"""

import contextlib
import hashlib
import json
import socket
import time
from typing import Any

import jax
import ml_collections
import numpy as np
from absl import flags

from experiments.runtime.errors import ConfigError
from l2d_jax.engine import processes

# How long a process that ends waits for the others, which may be waiting for it.
_SHUTDOWN_SECONDS = 10


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
