"""Stopping on a signal: at once, or where there is work to keep once it is kept.

A handler here only notes: one that raises would lose its exception inside a callback of
compiled code, or in a loader that takes every exception for damaged data. The end, with
status 75, comes from whoever asks `StopSignal`, or from a thread beside the program.

Imports nothing that takes time: the signals are taken over before everything else is.
"""

import os
import select
import signal
import threading
import time
from typing import Any, ClassVar, NoReturn

REQUEUE_STATUS = os.EX_TEMPFAIL
"""Exit status, 75, of a program that was told to stop: start it again, it goes on."""

# What a scheduler or a user sends to say so; SIGUSR1 is Slurm's warning.
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
STOPPED = "Stopped; the same command goes on from here."


class StopSignal:
    """Notes SIGTERM, SIGINT and SIGUSR1: a sweep can then stop between two dispatches.

    A context, in which a program has the time of `wait_for_work` to end by itself;
    outside of one there is nothing to be kept, and a signal ends the program at once. A
    second SIGINT does so anywhere. In a program of several processes one that has had a
    signal is enough: sweeps ask all.
    """

    # Of the process, as its signals are: one that came before is not forgotten.
    told: ClassVar[bool] = False
    entered: ClassVar[int] = 0

    def __init__(self) -> None:
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "StopSignal":
        """Take the signals over, unless somebody around it has."""
        if not _Watch.started and not StopSignal.entered:
            for number in STOP_SIGNALS:
                self._before[number] = signal.signal(number, _note)
        StopSignal.entered += 1
        return self

    def __exit__(self, *error: object) -> None:
        """Give back what was taken over."""
        StopSignal.entered -= 1
        if self._before:
            StopSignal.told = False
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def __call__(self) -> bool:
        """Whether to stop."""
        return StopSignal.told


class _Watch:
    """What the thread that ends the program knows of it."""

    started = False
    seconds = 0.0
    is_first = True
    is_alone = True
    said = False


def take_over() -> None:
    """Have the signals end this process with `REQUEUE_STATUS`; again changes nothing.

    Python's handlers wait for the compiled call that runs, which may take minutes, so a
    thread reads of each signal from the system. The checkpoints that are there then are
    whole, as they are after a kill.
    """
    if _Watch.started:
        return
    _Watch.started = True
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(reader,), daemon=True).start()
    for number in STOP_SIGNALS:
        signal.signal(number, _note)


def wait_for_work(seconds: float) -> None:
    """Give a `StopSignal` so many seconds from the signal to the end at the latest."""
    _Watch.seconds = seconds


def set_process(index: int, count: int) -> None:
    """Say which of the program's processes this is: the first speaks, and goes last."""
    _Watch.is_first, _Watch.is_alone = index == 0, count == 1


def ignore() -> None:
    """Heed no signal more: all is done, and there is nothing left to stop.

    While it ends Python gives back its handlers, and a signal would be the end of a
    program that has done well.
    """
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def end() -> None:
    """Say that the program ends because it was told to, and heed no signal more."""
    ignore()
    _say_stopped()


def _note(number: int, frame: Any) -> None:
    del frame
    if StopSignal.told and number == signal.SIGINT and not _Watch.started:
        raise KeyboardInterrupt
    StopSignal.told = True


def _watch(reader: int) -> NoReturn:
    deadline: float | None = None
    while True:
        left = None if deadline is None else max(deadline - time.monotonic(), 0.0)
        if not select.select([reader], [], [], left)[0]:
            break
        number = os.read(reader, 1)[0]
        if number not in STOP_SIGNALS:
            continue
        if deadline is None:
            deadline = time.monotonic() + (_Watch.seconds if StopSignal.entered else 0)
            # The first process is the others' coordinator.
            deadline += _Watch.is_first and not _Watch.is_alone
        elif number == signal.SIGINT:
            break
    _say_stopped()
    os._exit(REQUEUE_STATUS)


def _say_stopped() -> None:
    if _Watch.is_first and not _Watch.said:
        _Watch.said = True
        try:
            # Past Python's streams, one of which the main thread may hold.
            os.write(2, f"{STOPPED}\n".encode())
        except OSError:
            pass
