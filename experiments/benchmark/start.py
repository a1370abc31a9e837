"""Seconds from a command to its first epoch and to its end, cold and warm.

Each program runs as a user runs it, in a process and a work folder of its own: cold
with an empty folder of compiled programs, warm with what the cold run left there.
``tracing`` is JAX's making of programs, ``compiling`` XLA's, or the reading of what is
kept, and ``others`` what is left: data, running, tables and figures.
"""

import json
import pathlib
import subprocess
import sys
import tempfile
import time

import ml_collections
import pandas as pd

from experiments import tables


def run(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> None:
    """Measure; the table of medians goes to ``start.csv`` in ``workdir``."""
    rows = []
    for repeat in range(config.repeats):
        for name, (program, file) in config.start.programs.items():
            for scale in config.start.scales:
                path = f"{file}:{scale}" if scale else file
                with tempfile.TemporaryDirectory() as folder:
                    for state in ("cold", "warm"):
                        parts = time_command(program, path, pathlib.Path(folder))
                        parts = {"program": name, "scale": scale or "default"} | (
                            {"compiled_programs": state} | parts
                        )
                        rows.append(parts)
                        print(f"{repeat + 1}/{config.repeats} {parts}", flush=True)
    keys = ["program", "scale", "compiled_programs"]
    table = pd.DataFrame(rows).groupby(keys, sort=False).median().reset_index()
    table["repeats"] = config.repeats
    tables.write_csv(table, workdir / "start.csv")
    print(table.to_string(index=False, float_format=lambda value: f"{value:.1f}"))


def time_command(program: str, config: str, folder: pathlib.Path) -> dict[str, float]:
    """Seconds of one program, by part.

    Args:
      program: a module.
      config: its config file, with a scale perhaps.
      folder: for what is compiled.
    """
    with tempfile.TemporaryDirectory() as scratch:
        file = pathlib.Path(scratch, "parts.json")
        started = time.time()
        subprocess.run(
            [
                *(sys.executable, "-m", "experiments.benchmark.probe"),
                *(str(file), str(started), program, f"--config={config}"),
                f"--workdir={pathlib.Path(scratch, 'run')}",
                f"--compilation_cache={folder}",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=True,
        )
        total = time.time() - started
        parts = json.loads(file.read_text(encoding="utf-8"))
    named = sum(parts[name] for name in ("imports", "tracing", "compiling"))
    return (
        {"first_epoch": float("nan")}
        | parts
        | {
            "others": total - named,
            "total": total,
        }
    )
