"""Checkpoints by orbax that are whole or not there.

A checkpoint is a folder that orbax wrote, beside it ``<folder>.json`` with the sha256
of every file in it and what the caller wants to remember. The JSON is written last and
in one move, so a checkpoint that was cut short has none, and one that was cut or
changed later does not match its own.
"""

import hashlib
import json
import os
import pathlib
import shutil
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from l2d_jax.types import PyTree


class DamagedCheckpointError(ValueError):
    """A checkpoint's files are not those that were written."""


def save(path: pathlib.Path, tree: PyTree, info: dict[str, Any]) -> None:
    """Write ``tree`` to the folder ``path``, replacing what is there.

    Args:
      path: folder to write, absolute.
      tree: pytree of NumPy arrays.
      info: JSON values to keep with it.
    """
    remove(path)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(path, tree)
        checkpointer.wait_until_finished()
    manifest = {"info": info, "sha256": _digests(path)}
    temporary = path.with_name(path.name + ".json.tmp")
    with open(temporary, "w") as file:
        json.dump(manifest, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, _manifest_path(path))


def exists(path: pathlib.Path) -> bool:
    """Whether a checkpoint was finished at ``path``."""
    return _manifest_path(path).exists()


def read_info(path: pathlib.Path) -> dict[str, Any]:
    """What `save` was told to keep, once every file is found to be as it was written.

    Raises:
      DamagedCheckpointError: a file is missing, cut short or changed.
    """
    try:
        manifest = json.loads(_manifest_path(path).read_text())
        expected, info = manifest["sha256"], manifest["info"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DamagedCheckpointError(f"{_manifest_path(path)}: {error}") from error
    found = _digests(path)
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            raise DamagedCheckpointError(
                f"{path / name}: sha256 {found.get(name, 'of no file')},"
                f" written was {expected.get(name, 'no such file')}"
            )
    return info


def restore(path: pathlib.Path, like: PyTree) -> PyTree:
    """The tree that was saved, as NumPy arrays.

    Args:
      path: folder of the checkpoint; check it with `read_info` first.
      like: a tree of the same structure, of arrays or `jax.ShapeDtypeStruct`.
    """
    restore_args = jax.tree.map(
        lambda _: ocp.RestoreArgs(restore_type=np.ndarray), like
    )
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
        return checkpointer.restore(
            path, args=ocp.args.PyTreeRestore(item=like, restore_args=restore_args)
        )


def remove(path: pathlib.Path) -> None:
    """Delete what is at ``path``, a checkpoint or what is left of one."""
    _manifest_path(path).unlink(missing_ok=True)
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _manifest_path(path: pathlib.Path) -> pathlib.Path:
    return path.with_name(path.name + ".json")


def _digests(path: pathlib.Path) -> dict[str, str]:
    return {
        str(file.relative_to(path)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(path.rglob("*"))
        if file.is_file()
    }
