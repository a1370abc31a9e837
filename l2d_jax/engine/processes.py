"""Several processes that run one program: who is who, and what they agree on.

Every process runs the same code on its own devices and takes the same decisions, which
must therefore follow from values that all of them have: `fetch` gives these of arrays
that lie on the devices of all, `any_of` of what one process alone may see (a signal, a
clock), and `from_first` of what one process does for all (a file). In a program of one
process each is what it would be without this module.

Every function here but `index`, `count` and `is_first` must be called by all processes,
in the same order. What one sends another reads as numbers or as JSON and never runs:
each compiles its own programs.
"""

import contextvars
import functools
import json
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from l2d_jax.types import PyTree

T = TypeVar("T")

_FOR_ALL = contextvars.ContextVar("_FOR_ALL", default=False)
"""Whether this process, the first, does something for all by itself."""


class FirstProcessError(RuntimeError):
    """What the first process did for all failed there, and is reported there.

    Attributes:
      name: of the class of its error.
    """

    def __init__(self, name: str, message: str):
        super().__init__(f"the first process failed: {name}: {message}")
        self.name = name


def index() -> int:
    """Number of this process, in ``0..count() - 1``."""
    return jax.process_index()


def count() -> int:
    """Number of processes, >= 1."""
    return jax.process_count()


def is_first() -> bool:
    """Whether this is the process that writes and prints for all."""
    return index() == 0


def any_of(*flags: bool) -> tuple[bool, ...]:
    """For each flag, whether it is set in any process."""
    if count() == 1:
        return flags
    gathered = multihost_utils.process_allgather(np.array(flags, np.int32))
    return tuple(np.any(gathered.reshape(count(), len(flags)), axis=0).tolist())


def from_first(function: Callable[[], T]) -> T:
    """What a function gives in the first process, where alone it is called.

    Within such a function another is called as it is: nobody else waits for it.

    Args:
      function: its result is None or made of JSON's values.

    Raises:
      FirstProcessError: in the others, if the function raised an error; the first
        process raises that error itself.
    """
    if count() == 1 or _FOR_ALL.get():
        return function()
    error: Exception | None = None
    text = ""
    if is_first():
        token = _FOR_ALL.set(True)
        try:
            text = json.dumps({"value": function()})
        except Exception as raised:
            error = raised
            text = json.dumps({"error": [type(raised).__name__, str(raised)]})
        finally:
            _FOR_ALL.reset(token)
    found = json.loads(_bytes_of_first(text.encode()))
    if error is not None:
        raise error
    if "error" in found:
        raise FirstProcessError(*found["error"])
    return found["value"]


def _bytes_of_first(data: bytes) -> bytes:
    size = int(multihost_utils.broadcast_one_to_all(np.int32(len(data))))
    # A program is compiled for each length, so there are few.
    padded = np.zeros(max(1024, 1 << (size - 1).bit_length()), np.uint8)
    known = np.frombuffer(data, np.uint8)[: len(padded)]
    padded[: len(known)] = known
    sent = np.asarray(multihost_utils.broadcast_one_to_all(padded), np.uint8)
    return sent[:size].tobytes()


def gather(values: np.ndarray) -> np.ndarray:
    """Values of every process, ``[count(), ...]``.

    Args:
      values: of this process, of the same shape in all.
    """
    if count() == 1:
        return values[np.newaxis]
    return np.asarray(multihost_utils.process_allgather(values))


def fetch(tree: PyTree) -> PyTree:
    """Arrays on the devices of all processes as NumPy arrays, whole in every process.

    This is where processes communicate: nothing that `l2d_jax.engine.placement`
    computes does.
    """
    leaves, structure = jax.tree.flatten(tree)
    apart = [
        number
        for number, leaf in enumerate(leaves)
        if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable
    ]
    if apart:
        sharding = leaves[apart[0]].sharding
        whole = _replicate(sharding.mesh)([leaves[number] for number in apart])
        for number, leaf in zip(apart, whole, strict=True):
            leaves[number] = leaf
    return jax.tree.unflatten(structure, [np.asarray(leaf) for leaf in leaves])


@functools.lru_cache(maxsize=4)
def _replicate(mesh: Mesh) -> Callable[[list[Any]], list[jax.Array]]:
    return jax.jit(
        lambda leaves: leaves, out_shardings=NamedSharding(mesh, PartitionSpec())
    )


def put(tree: PyTree, sharding: NamedSharding) -> PyTree:
    """Arrays that every process has whole, on the devices of all.

    Args:
      tree: pytree of arrays, random keys among them, that are the same in all
        processes.
      sharding: where each goes.
    """
    if count() == 1:
        return jax.device_put(tree, sharding)

    def put_leaf(leaf: Any) -> jax.Array:
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            data = put_leaf(jax.random.key_data(leaf))
            return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
        if isinstance(leaf, jax.Array) and leaf.sharding == sharding:
            return leaf
        whole = np.asarray(leaf)
        return jax.make_array_from_callback(
            whole.shape, sharding, lambda index: whole[index]
        )

    return jax.tree.map(put_leaf, tree)
