"""Stopping on a signal: between two dispatches, or else within a given time."""

import os
import signal
import sys
import threading
import time
from typing import Any, NoReturn

from absl import flags

from l2d_jax.engine import sweeps

REQUEUE_STATUS = os.EX_TEMPFAIL
"""Exit status, 75, of a program that was told to stop: start it again, it goes on."""

# What a scheduler or a user sends to say so; SIGUSR1 is Slurm's warning.
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
STOPPED = "Stopped; the same command goes on from here."


def stop(number: int, frame: Any) -> NoReturn:
    """Outside of `StopSignal`, where there is nothing to be kept."""
    raise sweeps.Interrupted


def end_in_time(seconds: float) -> None:
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
        while os.read(reader, 1)[0] not in STOP_SIGNALS:
            pass
        time.sleep(seconds)
        if not flags.FLAGS.process_id:
            print(STOPPED, file=sys.stderr, flush=True)
        os._exit(REQUEUE_STATUS)

    threading.Thread(target=wait, daemon=True).start()


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
        for number in STOP_SIGNALS:
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
