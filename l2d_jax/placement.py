"""Where the runs of a sweep are computed: one setting for every backend and model.

A function of one run becomes a function of many by one of four kinds of placement:
``vmap`` (one device, one batched program), ``shard`` (every device vmaps its share; the
runs never communicate), ``unroll`` (one device, the runs written out one after another
in one program) and ``loop`` (one device, one after another).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from l2d_jax.types import PyTree

KINDS = ("vmap", "shard", "unroll", "loop")


class Placement(NamedTuple):
    """How runs are laid out.

    Attributes:
      kind: one of `KINDS`.
      runs_per_device: runs that one device holds at a time, > 0.
    """

    kind: str
    runs_per_device: int

    @property
    def num_devices(self) -> int:
        """Devices in use; one but for ``shard``, which takes all."""
        return len(jax.devices()) if self.kind == "shard" else 1


def default_placement(convolutional: bool) -> Placement:
    """A sensible placement for this backend and model.

    Small dense nets are bound by overhead, and about 128 of them a device is where the
    gain levels off on a CPU. A convolutional net keeps a CPU core busy by itself: one a
    device. On an accelerator a handful share the device to fill it.

    Args:
      convolutional: whether the model is a convolutional network.
    """
    if jax.default_backend() == "cpu":
        return Placement("shard", 1 if convolutional else 128)
    return Placement("shard", 4 if convolutional else 1024)


class Placed(NamedTuple):
    """A function of many runs, and where its arguments go.

    Attributes:
      run: the compiled function.
      put_runs: puts arrays with a leading run (or block) axis on their devices.
      put_shared: puts what all runs share on every device.
    """

    run: Callable[..., PyTree]
    put_runs: Callable[[PyTree], PyTree]
    put_shared: Callable[[PyTree], PyTree]


def place(
    function: Callable[..., PyTree],
    placement: Placement,
    axes: str,
    donate: tuple[int, ...] = (),
) -> Placed:
    """Compile a function of one run for many runs.

    Args:
      function: of one run, pure; every argument a pytree of arrays.
      placement: where to compute.
      axes: one letter for each argument: ``r`` has a leading run axis ``[R, ...]``,
        ``s`` is shared by all runs, ``b`` is shared by the runs of a device and has a
        leading device axis ``[D, ...]``.
      donate: positions of arguments whose memory may be reused for the result.

    Raises:
      ValueError: ``placement.kind`` is unknown.
    """
    if placement.kind not in KINDS:
        raise ValueError(
            f"placement must be one of {', '.join(KINDS)}, got {placement.kind!r}"
        )
    in_axes = tuple(0 if axis == "r" else None for axis in axes)

    def block(*args: Any) -> PyTree:
        args = tuple(
            jax.tree.map(lambda leaf: leaf[0], arg) if axis == "b" else arg
            for arg, axis in zip(args, axes, strict=True)
        )
        if placement.kind in ("vmap", "shard"):
            return jax.vmap(function, in_axes)(*args)
        return _one_after_another(function, in_axes, args, placement.kind == "unroll")

    if placement.kind != "shard":
        compiled = jax.jit(block, donate_argnums=donate)
        return Placed(compiled, jax.device_put, jax.device_put)
    mesh = jax.sharding.Mesh(np.array(jax.devices()), ("runs",))
    specs = tuple(PartitionSpec() if a == "s" else PartitionSpec("runs") for a in axes)
    compiled = jax.jit(
        jax.shard_map(
            block,
            mesh=mesh,
            in_specs=specs,
            out_specs=PartitionSpec("runs"),
            check_vma=False,
        ),
        donate_argnums=donate,
    )
    return Placed(
        compiled,
        lambda tree: jax.device_put(tree, NamedSharding(mesh, PartitionSpec("runs"))),
        lambda tree: jax.device_put(tree, NamedSharding(mesh, PartitionSpec())),
    )


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
