"""Memory that a computation takes, from shapes alone, and what the machine has.

What is counted certainly lies in memory at once: arguments, the states of runs that are
computed at a time, what loops, matrix products and gathers inside a compiled program
read and write, and what is left of all runs. What a compiler may do without is not
counted, so a computation that is refused here could not have run.
"""

import math
import os
import pathlib
import resource
from collections.abc import Iterator
from typing import Any

import jax
from jax.extend import core

from l2d_jax.engine import placement
from l2d_jax.types import PyTree

_CGROUPS = pathlib.Path("/sys/fs/cgroup")
# What a compiler cannot compute piece by piece into whoever reads it.
_WRITTEN = ("conv_general_dilated", "dot_general", "gather", "random_bits", "sort")
_LOOPS = ("scan", "while")


class TooLargeError(MemoryError):
    """A computation that this machine cannot hold."""


def machine() -> int:
    """Bytes that this process may use at most: memory and swap, as far as limits go."""
    size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([size, *_limits()]) + _swap()


def _limits() -> Iterator[int]:
    """Those of the control groups that this process is in, in bytes."""
    try:
        lines = pathlib.Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, name = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        root = _CGROUPS / controllers
        file = "memory.limit_in_bytes" if controllers else "memory.max"
        own = root / name.lstrip("/")
        # In a container the groups above are not to be seen, or it is its own root.
        for folder in (own, *own.parents):
            try:
                yield int((folder / file).read_text())
            # There is none, or it says "max".
            except (OSError, ValueError):
                pass
            if folder == root:
                break


def _swap() -> int:
    try:
        lines = pathlib.Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return 0
    sizes = [line.split()[1] for line in lines if line.startswith("SwapTotal:")]
    return sum(map(int, sizes)) << 10


def used() -> int:
    """Bytes that this process has in memory."""
    try:
        pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    return pages * os.sysconf("SC_PAGE_SIZE")


def size_of(tree: PyTree) -> int:
    """Bytes of arrays, or of their shapes."""
    return sum(map(_bytes, jax.tree.leaves(tree)))


def _bytes(leaf: Any) -> int:
    # Those of a random key's data are two numbers of 32 bits, and nowhere many.
    width = getattr(leaf.dtype, "itemsize", 8)
    return math.prod(map(int, leaf.shape)) * width


def require(**parts: int) -> None:
    """See that the machine holds what is to be made, beside what is there.

    Args:
      **parts: bytes, by what they are of.

    Raises:
      TooLargeError: it cannot.
    """
    _require(parts, used() + sum(parts.values()), machine(), "this machine")


def require_compiled(
    traced: jax.stages.Traced,
    where: placement.Placement,
    states: PyTree = (),
    **parts: int,
) -> None:
    """See that the devices hold what a placed program reads and writes.

    Args:
      traced: the program.
      where: its placement.
      states: arguments whose memory becomes that of its results, which are as large.
      **parts: bytes of what the host holds beside, by what they are of.

    Raises:
      TooLargeError: they cannot.
    """
    arguments, results, inside = of_program(traced.jaxpr)
    kept = size_of(states) // where.num_devices
    held = {
        "arguments": arguments - kept,
        "states": kept,
        "temporaries": inside,
        "results": max(results - kept, 0),
    }
    if where.platform == "cpu":
        # The devices of a CPU share its memory.
        held = {name: size * where.num_devices for name, size in held.items()}
        require(**_sum(held, parts))
        return
    device = (where.devices or jax.local_devices())[0]
    limit = (device.memory_stats() or {}).get("bytes_limit")
    if limit is not None:
        _require(held, sum(held.values()), limit, f"a device ({device.device_kind})")
    require(**parts)


def _sum(first: dict[str, int], second: dict[str, int]) -> dict[str, int]:
    names = dict.fromkeys((*first, *second))
    return {name: first.get(name, 0) + second.get(name, 0) for name in names}


def of_program(jaxpr: Any) -> tuple[int, int, int]:
    """Bytes on one device of a program's arguments, of its results and of neither.

    Args:
      jaxpr: closed; where runs are sharded the shares of one device are looked at.
    """
    while len(jaxpr.jaxpr.eqns) == 1 and _bodies(jaxpr.jaxpr.eqns[0]):
        (inner,) = _bodies(jaxpr.jaxpr.eqns[0])
        if jaxpr.jaxpr.eqns[0].primitive.name in _LOOPS:
            break
        jaxpr = inner
    plain = jaxpr.jaxpr
    arguments = sum(_bytes(var.aval) for var in (*plain.invars, *plain.constvars))
    return arguments, sum(_bytes(var.aval) for var in plain.outvars), _inside(plain)


def _inside(jaxpr: Any) -> int:
    """The most bytes that one of its equations has beside the arguments."""
    given = {id(var) for var in (*jaxpr.invars, *jaxpr.constvars)}
    read = {id(var) for var in jaxpr.outvars}
    most = 0
    for equation in reversed(jaxpr.eqns):
        if not any(id(var) in read for var in equation.outvars):
            continue
        variables = {
            id(var): var for var in equation.invars if not isinstance(var, core.Literal)
        }
        read.update(variables)
        name = equation.primitive.name
        size = max((_inside(body.jaxpr) for body in _bodies(equation)), default=0)
        if name in _LOOPS:
            own = [v for key, v in variables.items() if key not in given]
            size += sum(_bytes(var.aval) for var in own)
            if name == "scan":
                carried = equation.params["num_carry"]
                size += sum(_bytes(var.aval) for var in equation.outvars[carried:])
        elif name in _WRITTEN:
            size = sum(_bytes(var.aval) for var in equation.outvars)
        most = max(most, size)
    return most


def _bodies(equation: Any) -> list[Any]:
    """The programs that an equation runs, closed."""
    found = []
    for value in equation.params.values():
        for body in value if isinstance(value, tuple | list) else (value,):
            if hasattr(body, "jaxpr"):
                found.append(body)
            elif hasattr(body, "eqns"):
                found.append(core.ClosedJaxpr(body, ()))
    return found


def _require(parts: dict[str, int], total: int, limit: int, holder: str) -> None:
    # Some of what a process has in memory is free for it to use again.
    if total <= 1.1 * limit:
        return
    said = ", ".join(f"{name} {in_words(size)}" for name, size in parts.items() if size)
    raise TooLargeError(
        f"this takes about {in_words(total)} of memory ({said}) and {holder} has"
        f" {in_words(limit)}"
    )


def in_words(size: int) -> str:
    """Bytes, in the largest unit of which there is one."""
    units = ("bytes", "kB", "MB", "GB", "TB", "PB", "EB")
    power = min(int(math.log(max(size, 1), 1000) + 1e-9), len(units) - 1)
    return f"{size / 1000**power:.3g} {units[power]}"
