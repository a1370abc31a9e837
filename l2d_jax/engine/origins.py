"""What results are made of, so that none are taken for those of other data or code.

An origin is a mapping of names (config, data, runs, code, numbers) to digests. It is
kept with every checkpoint, and a checkpoint of another origin is refused by the name of
what differs.
"""

import functools
import hashlib
import os
import pathlib
from collections.abc import Mapping
from typing import Any, TypeAlias

import jax
import numpy as np

from l2d_jax.types import PyTree

Origin: TypeAlias = Mapping[str, str]
"""Digests, or a few words, by what they are of."""
WHAT = {
    "config": "another config",
    "data": "other data",
    "runs": "other runs",
    "numbers": "other precision or random numbers",
    "code": "other code",
    "network": "another network",
}
"""What is said of results whose origin differs; of several the first."""
_LIBRARY = pathlib.Path(__file__).parents[1]
# Of those in use by JAX, what changes results by more than rounding.
_NUMBERS = (
    "jax_enable_x64",
    "jax_default_prng_impl",
    "jax_threefry_partitionable",
    "jax_default_matmul_precision",
)


class ForeignResultsError(ValueError):
    """Results in a folder are of something else than what is asked for."""


def digest(tree: PyTree) -> str:
    """Of the content of arrays, numbers and texts, and of the names they stand under.

    Args:
      tree: a pytree; a leaf that is no array counts as its text.
    """
    found = hashlib.sha256()
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree, is_leaf=lambda x: x is None)
    for path, leaf in leaves:
        kind, content = _content(leaf)
        found.update(f"{jax.tree_util.keystr(path)}{kind}{len(content)}\n".encode())
        found.update(content)
    return found.hexdigest()


def _content(leaf: Any) -> tuple[str, Any]:
    if isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(
        leaf.dtype, jax.dtypes.prng_key
    ):
        leaf = jax.random.key_data(leaf)
    if not isinstance(leaf, np.ndarray | np.generic | jax.Array):
        return type(leaf).__name__, str(leaf).encode()
    array = np.ascontiguousarray(leaf)
    kind = f"{array.dtype}{array.shape}"
    if array.dtype == object:
        return kind, "\0".join(map(str, array.ravel())).encode()
    return kind, array.reshape(-1).view(np.uint8).data


def shapes(tree: PyTree) -> str:
    """Digest of the shapes and types of a tree's arrays, and of their names."""
    return digest(
        jax.tree.map(lambda leaf: f"{leaf.shape} {np.dtype(leaf.dtype)}", tree)
    )


def numbers() -> str:
    """The precision and the random numbers that JAX computes with, in words."""
    values = jax.config.values
    return ", ".join(f"{name}={values.get(name)}" for name in _NUMBERS)


@functools.cache
def code(*sources: pathlib.Path) -> str:
    """Digest of this library's source files, and of further files and folders."""
    found = hashlib.sha256()
    for source in (_LIBRARY, *sources):
        for path in [source] if source.is_file() else sorted(source.rglob("*.py")):
            content = path.read_bytes()
            name = path.relative_to(source.parent)
            found.update(f"{name} {len(content)}\n".encode() + content)
    return found.hexdigest()


def of(runs: PyTree, data: PyTree, given: Origin | None) -> dict[str, str]:
    """The origin of some runs.

    Args:
      runs: what tells them apart, and how they are run.
      data: what they are run on; not looked at where its digest is given.
      given: what the caller says of them: a digest of the config, and perhaps of the
        code and of data that ``data`` is computed from.
    """
    found = {"code": code(), "numbers": numbers(), **(given or {})}
    found["runs"] = digest(runs)
    return found if "data" in found else {**found, "data": digest(data)}


def refuse_foreign(
    path: str | os.PathLike[str], found: Origin | None, wanted: Origin
) -> None:
    """See that results are of an origin; what only one of both knows is not compared.

    Args:
      path: of the results, for the message.
      found: their origin; None where none was kept with them.
      wanted: what it must be.

    Raises:
      ForeignResultsError: it is another.
    """
    remedy = "choose another folder, or give what they were made with"
    if not isinstance(found, Mapping):
        raise ForeignResultsError(f"{path}: of what it was made is not known; {remedy}")
    for name, what in WHAT.items():
        if name in found and name in wanted and found[name] != wanted[name]:
            raise ForeignResultsError(f"{path} was made with {what}; {remedy}")
