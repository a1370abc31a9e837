"""What TPU slices would run, compiled without one: collectives, memory, operations.

A TPU's compiler needs the description of a slice and not the slice (extra ``tpu``), so
a machine without an accelerator compiles the very programs that a sweep would run on 4
or 256 chips. The table says what is in them: how many collectives, how much memory of a
chip they take, and what a step asks of its arithmetic and its memory. Nothing is run:
times are rooflines, the least that the chip's peaks allow, not measurements.

  JAX_PLATFORMS=cpu python -m experiments.benchmark --workdir=DIR \
      --config.workloads="('topology',)"
"""

import importlib.util
import os
import pathlib
import re
import time

import jax
import ml_collections
import numpy as np
import pandas as pd
from jax.experimental import topologies

from experiments import tables
from experiments.benchmark.cases import Case, cases_of
from experiments.runtime.errors import ConfigError
from l2d_jax.engine import placement

COLLECTIVES = re.compile(
    r"\b(?:all-gather|all-reduce|all-to-all|collective-broadcast|collective-permute"
    r"|ragged-all-to-all|recv|reduce-scatter|send)(?:-start)?\("
)
"""Operations of a compiled program that send something to another chip."""


_OF_NO_SLICE = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}
"""What the compiler need not ask a machine without a TPU; no chip is there that only
one program may have."""


def describe_slice(name: str) -> tuple[jax.Device, ...]:
    """The chips of a slice that is not there, such as ``v5e:2x2``.

    Raises:
      ConfigError: the compiler is not installed or does not start, or knows of no such
        slice.
    """
    if importlib.util.find_spec("libtpu") is None:
        raise ConfigError(
            "workload topology needs the TPU compiler; pip install 'l2d-jax[tpu]'"
        )
    if jax.default_backend() != "tpu":
        # Else it asks a server for the slice that this machine is of, and complains.
        for variable, value in _OF_NO_SLICE.items():
            os.environ.setdefault(variable, value)
    try:
        described = topologies.get_topology_desc(platform="tpu", topology_name=name)
    except jax.errors.JaxRuntimeError as error:
        said = (str(error).splitlines() or [""])[0]
        if not said.startswith("INVALID_ARGUMENT"):
            raise ConfigError(f"the TPU compiler does not start: {said}") from error
        raise ConfigError(
            f"topology.slices: no slice {name!r} can be described ({said}); give sizes"
            " such as '2x2' of a topology.generation such as 'v5e'"
        ) from error
    return tuple(np.ravel(described.devices))


def measure(
    case: Case,
    name: str,
    chip: ml_collections.ConfigDict,
    runs_per_chip: int | None = None,
) -> dict[str, str | int | float]:
    """Compile a case for a slice: its row of the table.

    Memory, operations and bytes are those of a chip; ``compile_seconds`` has tracing in
    it, and is of the whole program alone. Without a number of runs it is the default
    placement's.
    """
    where = placement.default_placement(case.network, describe_slice(name))
    if runs_per_chip is not None:
        where = where._replace(runs_per_device=runs_per_chip)
    began = time.perf_counter()
    compiled = case.dispatch(where).compile()
    seconds = time.perf_counter() - began
    memory = compiled.memory_analysis()
    cost = case.step(where).compile().cost_analysis()
    text = compiled.as_text()
    # The compiler of a TPU tells them all.
    assert memory is not None and cost is not None and text is not None
    in_use = (
        memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        - memory.alias_size_in_bytes
        + memory.temp_size_in_bytes
    )
    compute = cost["flops"] / (chip.peak_tflops * 1e12)
    transfer = cost["bytes accessed"] / (chip.memory_gb_per_second * 1e9)
    return {
        "workload": case.workload,
        "slice": name,
        "chips": where.num_devices,
        "runs_per_chip": where.runs_per_device,
        "runs": where.num_devices * where.runs_per_device,
        "collectives": len(COLLECTIVES.findall(text)),
        "argument_mib": memory.argument_size_in_bytes / 2**20,
        "temporary_mib": memory.temp_size_in_bytes / 2**20,
        "share_of_memory": in_use / (chip.memory_gib * 2**30),
        "unit": case.unit,
        "flops": cost["flops"],
        "bytes": cost["bytes accessed"],
        "roofline_seconds": max(compute, transfer),
        "bound": "arithmetic" if compute > transfer else "memory",
        "compile_seconds": seconds,
    }


def run(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> None:
    """Compile every workload for its slices; the table goes to ``topology.csv``.

    Raises:
      ConfigError: a workload or slice is not known, or there is no compiler.
    """
    given = config.topology
    rows = []
    for case in cases_of(config, "topology"):
        sizes, runs = given.slices, None
        if case.network == "convolutional":
            sizes, runs = given.wide_resnet_slices, given.wide_resnet_runs
        for size in sizes:
            name = f"{given.generation}:{size}"
            rows.append(measure(case, name, given.chip, runs))
            print(
                f"{case.workload}, {name}: {rows[-1]['collectives']} collectives,"
                f" compiled in {rows[-1]['compile_seconds']:.0f} s",
                flush=True,
            )
            # What is there stays, if a later one does not compile.
            tables.write_csv(pd.DataFrame(rows), workdir / "topology.csv")
    with pd.option_context("display.width", 250, "display.max_columns", None):
        print(pd.DataFrame(rows).to_string(index=False, float_format="{:.3g}".format))
    print(f"\nTable: {workdir / 'topology.csv'}")
