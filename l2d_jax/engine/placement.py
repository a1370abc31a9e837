"""Where the runs of a sweep are computed: one setting for every backend and model.

A function of one run becomes a function of many by one of four kinds of placement:
``vmap`` (one device, one batched program), ``shard`` (every device vmaps its share; the
runs never communicate), ``unroll`` (one device, the runs written out one after another
in one program) and ``loop`` (one device, one after another).

Where there are several processes, ``shard`` takes the devices of all of them, and with
the other kinds each process computes everything by itself.

A block, what one device computes at a time, is a program of its own, and its width may
change the rounding of what it computes. So the width is a function of the runs and of
``runs_per_device`` alone, and not of the number of devices from two up: on any number
of them, in any number of processes, results are the same to the bit.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from l2d_jax._checks import require_count
from l2d_jax.engine import processes
from l2d_jax.types import PyTree

KINDS = ("vmap", "shard", "unroll", "loop")


class Placement(NamedTuple):
    """How runs are laid out.

    Attributes:
      kind: one of `KINDS`.
      runs_per_device: runs that one device holds at a time, > 0.
      devices: what ``shard`` takes; None takes those of all processes. Devices that are
        described and not there can be compiled for, by `Placed.lower`.
    """

    kind: str
    runs_per_device: int
    devices: tuple[jax.Device, ...] | None = None

    @property
    def num_devices(self) -> int:
        """Devices in use; one but for ``shard``."""
        if self.kind != "shard":
            return 1
        return len(jax.devices() if self.devices is None else self.devices)

    @property
    def platform(self) -> str:
        """That of the devices, such as ``cpu`` or ``tpu``."""
        if self.devices is None:
            return jax.default_backend()
        return self.devices[0].platform


def least_blocks(num_devices: int, num_runs: int, num_groups: int = 1) -> int:
    """Blocks to cut a group of runs into at least, so that devices are not idle.

    Enough for two devices, if there are two or more: the number of devices beyond that
    must not count, as a block's width may change rounding. More of them are kept busy
    by more groups, or by fewer runs in a block.

    Args:
      num_devices: to compute on, > 0.
      num_runs: runs of the group, > 0.
      num_groups: groups of about that size, > 0.
    """
    return min(-(-min(num_devices, 2) // num_groups), num_runs)


def check(where: Placement) -> None:
    """See that a placement is one.

    Raises:
      ValueError: its kind is unknown, a device is to hold no run, or there are no
        devices, or they are given and the kind is not ``shard``.
    """
    if where.kind not in KINDS:
        raise ValueError(
            f"placement must be one of {', '.join(KINDS)}, got {where.kind!r}"
        )
    require_count("runs_per_device", where.runs_per_device)
    if where.devices is None:
        return
    if where.kind != "shard":
        raise ValueError(
            f"devices are of shard, and the placement is {where.kind!r}; leave them out"
        )
    if not where.devices:
        raise ValueError("devices is empty; give at least one, or None for all")


def block_width(where: Placement, num_runs: int) -> int:
    """Runs that a device computes at a time, where any run may follow any other.

    Raises:
      ValueError: as of `check`.
    """
    check(where)
    least = least_blocks(where.num_devices, num_runs)
    return min(where.runs_per_device, -(-num_runs // least))


_RUNS_PER_DEVICE = {
    "dense": (128, 1024),
    "small_convolutional": (1, 32),
    "convolutional": (1, 1),
}
"""Runs that one device holds, of a CPU and of an accelerator, by kind of network."""


def default_placement(
    network: str, devices: tuple[jax.Device, ...] | None = None
) -> Placement:
    """A sensible placement for these devices and this kind of network.

    Small dense nets are bound by overhead: about 128 of them a device is where the gain
    levels off on a CPU core, and 1,024 keep most of a GPU busy. A convolutional net
    keeps a CPU core busy by itself: one a device. On a GPU a small one leaves room for
    others, and several are some twice as fast; WideResNet-28-4 fills an H200 by itself,
    and four in one batched program, whose convolutions are grouped, are slower than
    four in turn (`experiments.benchmark`, ``layouts``).

    Args:
      network: ``"dense"``, ``"small_convolutional"`` (a few layers) or
        ``"convolutional"`` (a residual network).
      devices: as in `Placement`.

    Raises:
      ValueError: it is another.
    """
    if network not in _RUNS_PER_DEVICE:
        raise ValueError(
            f"network must be one of {', '.join(_RUNS_PER_DEVICE)}, got {network!r}"
        )
    where = Placement("shard", 1, devices)
    on_cpu, on_accelerator = _RUNS_PER_DEVICE[network]
    on_these = on_cpu if where.platform == "cpu" else on_accelerator
    return where._replace(runs_per_device=on_these)


class Tiles(NamedTuple):
    """A block that is computed some runs at a time, and only as far as runs are active.

    The active runs of a block are brought together and computed ``width`` at a time, so
    that those which have stopped cost next to nothing, while each is computed by the
    same program whatever becomes of the others.

    Attributes:
      width: runs at a time, > 0.
      argument: position of the function's argument that holds its state; the function
        returns the next state, and that of an inactive run as it is.
      active: whether runs are active, bool ``[W]``, of states with a leading run axis.
    """

    width: int
    argument: int
    active: Callable[[PyTree], jax.Array]


class Placed(NamedTuple):
    """A function of many runs, and where its arguments go.

    Attributes:
      run: the compiled function.
      shapes: of its result, for arguments or their `jax.ShapeDtypeStruct`.
      trace: the program of the same as JAX traces it, which the first call need not do
        again.
      lower: the same before it is compiled: where the devices are not there, what they
        would run.
      put_runs: puts arrays with a leading run (or block) axis on their devices.
      put_shared: puts what all runs share on every device.
    """

    run: Callable[..., PyTree]
    shapes: Callable[..., PyTree]
    trace: Callable[..., jax.stages.Traced]
    lower: Callable[..., jax.stages.Lowered]
    put_runs: Callable[[PyTree], PyTree]
    put_shared: Callable[[PyTree], PyTree]


def place(
    function: Callable[..., PyTree],
    placement: Placement,
    axes: str,
    donate: tuple[int, ...] = (),
    tiles: Tiles | None = None,
    brief: bool = False,
) -> Placed:
    """Compile a function of one run for many runs.

    Args:
      function: of one run, pure; every argument a pytree of arrays.
      placement: where to compute.
      axes: one letter for each argument: ``r`` has a leading run axis ``[R, ...]``,
        ``s`` is shared by all runs, ``b`` is shared by the runs of a device and has a
        leading device axis ``[D, ...]``.
      donate: positions of arguments whose memory may be reused for the result.
      tiles: how to pass over runs that have stopped; None computes all.
      brief: whether it runs for a moment, so that compiling it is all of its time: a
        CPU's code is then optimized less.

    Raises:
      ValueError: as of `check`.
    """
    check(placement)
    in_axes = tuple(0 if axis == "r" else None for axis in axes)

    def compute(*args: Any) -> PyTree:
        if placement.kind in ("vmap", "shard"):
            return jax.vmap(function, in_axes)(*args)
        return _one_after_another(function, in_axes, args, placement.kind == "unroll")

    def block(*args: Any) -> PyTree:
        args = tuple(
            jax.tree.map(lambda leaf: leaf[0], arg) if axis == "b" else arg
            for arg, axis in zip(args, axes, strict=True)
        )
        if tiles is None:
            return compute(*args)
        return _in_tiles(compute, in_axes, args, tiles)

    # Drawing a network's parameters compiles for seconds otherwise. At level 0 the
    # compiler rounds some of them differently.
    less = {"xla_backend_optimization_level": 1}
    options = less if brief and placement.platform == "cpu" else None
    if placement.kind != "shard":
        compiled = jax.jit(block, donate_argnums=donate, compiler_options=options)
        shapes = functools.partial(jax.eval_shape, compiled)
        return Placed(
            compiled,
            shapes,
            compiled.trace,
            compiled.lower,
            jax.device_put,
            jax.device_put,
        )
    devices = jax.devices() if placement.devices is None else placement.devices
    mesh = jax.sharding.Mesh(np.array(devices), ("runs",))
    specs = tuple(PartitionSpec() if a == "s" else PartitionSpec("runs") for a in axes)
    sharded = jax.jit(
        jax.shard_map(
            block,
            mesh=mesh,
            in_specs=specs,
            out_specs=PartitionSpec("runs"),
            check_vma=False,
        ),
        donate_argnums=donate,
        compiler_options=options,
    )

    def trace(*args: Any) -> jax.stages.Traced:
        laid_out = (
            jax.tree.map(
                lambda leaf, spec=spec: jax.ShapeDtypeStruct(
                    leaf.shape, leaf.dtype, sharding=NamedSharding(mesh, spec)
                ),
                arg,
            )
            # Shapes, and types as JAX has them: what is put on a device is so too.
            for arg, spec in zip(
                jax.eval_shape(lambda *args: args, *args), specs, strict=True
            )
        )
        return sharded.trace(*laid_out)

    return Placed(
        sharded,
        functools.partial(jax.eval_shape, sharded),
        trace,
        lambda *args: trace(*args).lower(),
        lambda tree: processes.put(tree, NamedSharding(mesh, PartitionSpec("runs"))),
        lambda tree: processes.put(tree, NamedSharding(mesh, PartitionSpec())),
    )


def _in_tiles(
    compute: Callable[..., PyTree],
    in_axes: tuple[int | None, ...],
    args: tuple[Any, ...],
    tiles: Tiles,
) -> PyTree:
    states = args[tiles.argument]
    active = tiles.active(states)
    size = active.shape[0]
    # Stable, so active runs come first and keep their order.
    order = jnp.argsort(~active, stable=True)
    order = jnp.pad(order, (0, -size % tiles.width), constant_values=size)

    def tile(number: jax.Array, states: PyTree) -> PyTree:
        rows = jax.lax.dynamic_slice_in_dim(order, number * tiles.width, tiles.width)
        # Beyond the last run, it is computed once more and not kept.
        known = jnp.minimum(rows, size - 1)
        current = (*args[: tiles.argument], states, *args[tiles.argument + 1 :])
        results = compute(
            *(
                jax.tree.map(lambda leaf: leaf[known], arg) if axis == 0 else arg
                for arg, axis in zip(current, in_axes, strict=True)
            )
        )
        return jax.tree.map(
            lambda leaf, new: leaf.at[rows].set(new, mode="drop"), states, results
        )

    num_tiles = (jnp.sum(active) + tiles.width - 1) // tiles.width
    return jax.lax.fori_loop(0, num_tiles, tile, states)


def _one_after_another(
    function: Callable[..., PyTree],
    in_axes: tuple[int | None, ...],
    args: tuple[Any, ...],
    unroll: bool,
) -> PyTree:
    def call(mapped: list[Any]) -> PyTree:
        rest = iter(mapped)
        return function(
            *(
                next(rest) if axis == 0 else arg
                for arg, axis in zip(args, in_axes, strict=True)
            )
        )

    mapped = [arg for arg, axis in zip(args, in_axes, strict=True) if axis == 0]
    if not unroll:
        return jax.lax.map(call, mapped)
    count = jax.tree.leaves(mapped)[0].shape[0]
    results = [call(jax.tree.map(lambda x, i=i: x[i], mapped)) for i in range(count)]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *results)
