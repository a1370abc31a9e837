"""Steps of a fit, each done once: what was stopped goes on behind those it finished.

The result of a step is a file of arrays, whole or not there, that knows of what it was
made (`l2d_jax.engine.origins`) and is never taken for that of something else.
"""

import importlib.metadata
import json
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from l2d_jax.engine import origins
from l2d_jax.table import nested
from l2d_jax.table.reading import write_bytes
from l2d_jax.types import PyTree

# Whose versions decide on the last bits of what is fitted on the host.
_LIBRARIES = ("jax", "numpy", "scikit-learn", "scipy")


def once(
    path: pathlib.Path | None,
    compute: Callable[[], dict[str, PyTree]],
    *,
    data: PyTree,
    config: PyTree,
) -> dict[str, PyTree]:
    """The result of a step, read where it is finished, else computed and kept.

    Args:
      path: of its file; None keeps nothing.
      compute: gives nested dictionaries of arrays, whose names hold no slash; a pure
        function of ``data`` and ``config``.
      data: arrays by name; None is one that there is not.
      config: what is done with them.

    Raises:
      ForeignResultsError: the file is of other data, another config or other code.
      OSError: it cannot be written, or what is there cannot be read.
    """
    if path is None:
        return compute()
    versions = [importlib.metadata.version(name) for name in _LIBRARIES]
    origin = {
        "config": origins.digest(config),
        "data": origins.digest(data),
        "code": origins.digest([origins.code(), *versions]),
        "numbers": origins.numbers(),
    }
    found = _read(path, origin)
    if found is None:
        found = nested.flatten(compute())
        _write(path, found, origin)
    return nested.unflatten(found)


def _read(path: pathlib.Path, origin: origins.Origin) -> dict[str, np.ndarray] | None:
    """Arrays of a finished step; None where there is none, or its file is damaged."""
    try:
        with safetensors.safe_open(path, "numpy") as file:
            made_of = json.loads((file.metadata() or {}).get("origin", "null"))
            origins.refuse_foreign(path, made_of, origin)
            return {name: file.get_tensor(name) for name in file.keys()}
    except (FileNotFoundError, safetensors.SafetensorError):
        return None
    except OSError as error:
        # It does not say of what.
        raise OSError(
            f"{path} cannot be read ({error}); delete it, and the step is done again"
        ) from error


def _write(
    path: pathlib.Path, arrays: Mapping[str, np.ndarray], origin: origins.Origin
) -> None:
    known: dict[str, Any] = {"origin": json.dumps(dict(origin))}
    content = safetensors.numpy.save(dict(arrays), known)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(content, path)
