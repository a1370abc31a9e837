"""How seconds and memory grow with runs, with examples and with experts.

Along each axis one experiment is made larger and nothing else of it changed. Every size
is a process of its own, so that its peak of memory is its own, and compiles what it
runs anew. Between neighbouring sizes the table has the local exponent, the ratio of
log-ratios: 1 is linear, and what is above `STEEP` is marked.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from typing import Any

import ml_collections
import numpy as np
import pandas as pd

from experiments import tables
from experiments.figures import growth as figure

STEEP = 1.1
"""Exponent above which growth is called steeper than linear."""


def run(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> None:
    """Measure; the table of medians goes to ``growth.csv`` in ``workdir``."""
    rows = []
    for repeat in range(config.repeats):
        for axis, sizes in list_cells(config):
            found = {"axis": axis, "size": sizes[axis], "method": sizes["method"]}
            found |= time_cell(sizes)
            rows.append(found)
            print(f"{repeat + 1}/{config.repeats} {found}", flush=True)
    keys = ["axis", "size", "method"]
    table = pd.DataFrame(rows).groupby(keys, sort=False).median().reset_index()
    table = with_exponents(table)
    table["repeats"] = config.repeats
    tables.write_csv(table, workdir / "growth.csv")
    figure.draw(workdir)
    with pd.option_context("display.width", 250):
        print(table.to_string(index=False, float_format=lambda value: f"{value:.3g}"))
    print(f"\nTable and figure: {workdir}")


def list_cells(config: ml_collections.ConfigDict) -> list[tuple[str, dict[str, Any]]]:
    """Every axis with every one of its sizes, as `cell.measure` takes them."""
    cells = []
    for axis, fields in config.growth.items():
        fixed = dict(fields.to_dict())
        for size in fixed.pop("sizes"):
            cells.append((axis, {**fixed, axis: size}))
    return cells


def time_cell(sizes: Mapping[str, Any]) -> dict[str, float]:
    """What `cell.measure` finds in a process of its own, and the load before it.

    ``run_seconds`` are those without compilation; ``load`` is the average number of
    processes that ran or waited in the minute before, on all cores.
    """
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder, "cell.json")
        command = [sys.executable, "-m", "experiments.benchmark.cell"]
        subprocess.run(
            [*command, str(file), json.dumps(sizes)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=True,
        )
        found = json.loads(file.read_text(encoding="utf-8"))
    seconds = found["seconds"] - found["compile_seconds"]
    return {**found, "run_seconds": seconds, "load": load}


def with_exponents(table: pd.DataFrame) -> pd.DataFrame:
    """The table with local exponents, NaN at the first size of an axis.

    ``time_exponent`` is of the seconds without compilation, ``memory_exponent`` of the
    memory above what the process had before it began; ``steep`` is whether either is
    above `STEEP`.

    Args:
      table: ``axis``, ``size``, ``run_seconds``, ``memory_mib`` and
        ``memory_before_mib``, by rising size.
    """
    held = table.memory_mib - table.memory_before_mib
    steps = np.log(table["size"]).groupby(table.axis, sort=False).diff()
    table = table.copy()
    for name, values in (("time", table.run_seconds), ("memory", held)):
        rises = np.log(values).groupby(table.axis, sort=False).diff()
        table[f"{name}_exponent"] = rises / steps
    exponents = table[["time_exponent", "memory_exponent"]]
    table["steep"] = (exponents > STEEP).any(axis=1)
    return table
