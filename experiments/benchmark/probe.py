"""Runs a program as its command would, and writes down where its seconds went.

  python -m experiments.benchmark.probe FILE STARTED PROGRAM FLAG...

STARTED is `time.time` at the command; FILE gets JSON of `Parts`. A part of
`experiments.benchmark`.
"""

import atexit
import importlib
import json
import pathlib
import runpy
import sys
import time
from typing import Any

# Seconds of JAX's own events, by the part that they belong to.
_EVENTS = {
    "/jax/core/compile/jaxpr_trace_duration": "tracing",
    "/jax/core/compile/jaxpr_to_mlir_module_duration": "tracing",
    "/jax/core/compile/backend_compile_duration": "compiling",
}


def main() -> None:
    """Run the program; FILE is written when it ends."""
    file, started, program, *rest = sys.argv[1:]
    begin = float(started)
    importlib.import_module(program)
    parts = {"imports": time.time() - begin, "tracing": 0.0, "compiling": 0.0}

    # Only now, so that what they cost themselves is among the program's imports.
    import jax.monitoring

    from experiments.runtime.progress import ProgressBar

    def add(event: str, duration_secs: float, **_: Any) -> None:
        if event in _EVENTS:
            parts[_EVENTS[event]] += duration_secs

    jax.monitoring.register_event_duration_secs_listener(add)
    show = ProgressBar.__call__

    def show_and_note(bar: ProgressBar, progress: Any) -> None:
        parts.setdefault("first_epoch", time.time() - begin)
        show(bar, progress)

    setattr(ProgressBar, "__call__", show_and_note)  # noqa: B010
    atexit.register(
        lambda: pathlib.Path(file).write_text(json.dumps(parts), encoding="utf-8")
    )
    sys.argv = [program, *rest]
    runpy.run_module(program, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
