"""What a program says while it runs, once for all of its processes."""

import sys
import time

from tqdm import tqdm

from l2d_jax.engine import processes, sweeps


def say(text: str) -> None:
    """Print on standard output, once for all processes."""
    if processes.is_first():
        print(text, flush=True)


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
