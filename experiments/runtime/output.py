"""Standard output and standard error that never cost a result.

A pipe whose reader has gone, a full disk behind ``>``, a stream that was closed, or a
terminal that knows ASCII only, loses what is said there and nothing else.
"""

import io
import os
import sys


class _Output(io.FileIO):
    """A descriptor that takes whatever is written, also where it goes nowhere."""

    def write(self, data) -> int:
        try:
            written = super().write(data)
        except OSError:
            written = None
        # None is also a pipe that takes no more now: nobody waits for its reader.
        return len(data) if written is None else written


def never_fail() -> None:
    """Let nothing that is printed from now on raise; done again it changes nothing."""
    # A descriptor that is closed would be the next file's, which is then printed into.
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    # Streams that somebody else has put in their place are theirs to look after.
    if sys.stdout is sys.__stdout__:
        sys.stdout = _open(1, sys.stdout)
    if sys.stderr is sys.__stderr__:
        sys.stderr = _open(2, sys.stderr)


def _open(descriptor: int, stream: io.TextIOBase | None) -> io.TextIOWrapper:
    if stream is not None:
        try:
            stream.flush()
        except OSError:
            pass
    raw = _Output(descriptor, "w", closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=getattr(stream, "encoding", None) or "utf-8",
        errors="replace",
        line_buffering=True,
    )
