"""What results are made of, so that none are taken for those of other data or code.

An origin is a mapping of names (config, data, runs, code, numbers) to digests. It is
kept with every checkpoint, and a checkpoint of another origin is refused by the name of
what differs.
"""

import functools
import hashlib
import os
import pathlib
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import jax
import numpy as np
from jax.extend import core

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
_REMEDY = "choose another folder, or give what they were made with"
_ADDRESS = re.compile("0x[0-9a-f]+")
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
    # Such as a constant of a program; its text would leave out the middle.
    if not hasattr(leaf, "__array__"):
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


def program(function: Callable[..., PyTree], *shapes: PyTree) -> dict[str, str]:
    """Digest of what a function computes, by what has traced it.

    Another version of JAX, or a network on another kind of device, may trace another
    program of the same function; so the digests of two are not compared.

    Args:
      function: of one run, pure.
      *shapes: of its arguments, pytrees of arrays or of `jax.ShapeDtypeStruct`.
    """
    closed = jax.make_jaxpr(function)(*jax.eval_shape(lambda *given: given, *shapes))
    traced_by = f"jax {jax.__version__}, {jax.default_backend()}"
    return {traced_by: _in_words(closed, {})}


def _in_words(value: Any, known: dict[int, str]) -> str:
    """Digest of a program, or the text of what stands in one.

    Not the program's own text: that has addresses, and names for parts that JAX
    happened to find among what it had traced before.

    Args:
      value: a program, one of its parameters, or a pytree of them.
      known: digests of programs by their address, which this adds to.
    """
    if isinstance(value, core.ClosedJaxpr):
        if id(value) not in known:
            constants = [digest(constant) for constant in value.consts]
            words = [*constants, _in_words(value.jaxpr, known)]
            known[id(value)] = hashlib.sha256("\n".join(words).encode()).hexdigest()
        return known[id(value)]
    if isinstance(value, core.Jaxpr):
        return _of_equations(value, known)
    if isinstance(value, tuple | list):
        return f"({', '.join(_in_words(each, known) for each in value)})"
    if hasattr(value, "__array__"):
        return digest(value)
    if isinstance(value, set | frozenset):
        return str(sorted(map(str, value)))
    return _ADDRESS.sub("", str(value))


def _of_equations(jaxpr: core.Jaxpr, known: dict[int, str]) -> str:
    numbers: dict[Any, int] = {}

    def name(atom: Any) -> str:
        if isinstance(atom, core.Literal):
            return f"{digest(np.asarray(atom.val))} {atom.aval}"
        return f"{numbers.setdefault(atom, len(numbers))} {atom.aval}"

    lines = [", ".join(map(name, (*jaxpr.constvars, *jaxpr.invars)))]
    for equation in jaxpr.eqns:
        params = sorted(equation.params.items())
        lines.append(
            f"{equation.primitive.name} {', '.join(map(name, equation.invars))}"
            f" {[(key, _in_words(value, known)) for key, value in params]}"
            f" {', '.join(map(name, equation.outvars))}"
        )
    lines.append(", ".join(map(name, jaxpr.outvars)))
    return "\n".join(lines)


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
    if not isinstance(found, Mapping):
        raise ForeignResultsError(
            f"{path}: of what it was made is not known; {_REMEDY}"
        )
    for name, what in WHAT.items():
        if name in found and name in wanted and found[name] != wanted[name]:
            raise ForeignResultsError(f"{path} was made with {what}; {_REMEDY}")


def refuse_other_program(
    path: str | os.PathLike[str], found: Mapping[str, str], wanted: Mapping[str, str]
) -> None:
    """See that results are of a program; what one alone has traced is not compared.

    Args:
      path: of the results, for the message.
      found: theirs, as `program` has it.
      wanted: what it must be.

    Raises:
      ForeignResultsError: it is another.
    """
    for traced_by, traced in wanted.items():
        if found.get(traced_by, traced) != traced:
            raise ForeignResultsError(
                f"{path} was made with another network, learner or function; {_REMEDY}"
            )
