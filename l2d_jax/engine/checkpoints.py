"""Checkpoints by orbax that are whole or not there.

A checkpoint is a folder that orbax wrote, beside it ``<folder>.json`` with the sha256
of every file in it and what the caller wants to remember. The JSON is written last and
in one move, so a checkpoint that was cut short has none, and one that was cut or
changed later does not match its own.

Where there are several processes, all save and restore together. The first alone
writes and deletes, and says what is there; each reads what it restores.
"""

import contextlib
import errno
import functools
import hashlib
import json
import os
import pathlib
import shutil
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from l2d_jax.engine import origins, processes
from l2d_jax.types import PyTree

DISK_ERRORS = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.EIO,
    errno.ESTALE,
    errno.ETIMEDOUT,
    errno.ENOTCONN,
    errno.ENODEV,
    errno.ENXIO,
    errno.EMFILE,
    errno.ENFILE,
)
"""The system's numbers for a disk that is full, fails, went away or may not be used,
which the same command does not meet again once that is mended."""


# What orbax says of a folder that is no longer to be seen, whatever the system said.
_GONE = ("not exist", "not found", "not a directory", "incomplete checkpoint")


class DamagedCheckpointError(ValueError):
    """A checkpoint's files are not those that were written."""


def folder(path: str | os.PathLike[str] | None) -> pathlib.Path | None:
    """Where checkpoints are kept, absolute; None where none are.

    Raises:
      TypeError: it is no path.
    """
    if path is None:
        return None
    if not isinstance(path, str | os.PathLike):
        raise TypeError(
            f"checkpoint_dir must be a path, or None, got {type(path).__name__}"
        )
    return pathlib.Path(path).absolute()


def save(path: pathlib.Path, tree: PyTree, info: dict[str, Any]) -> None:
    """Write ``tree`` to the folder ``path``, replacing what is there.

    Args:
      path: folder to write, absolute.
      tree: pytree of NumPy arrays, the same in all processes.
      info: JSON values to keep with it.

    Raises:
      OSError: the disk is full or may not be written; it names ``path``.
    """
    processes.from_first(functools.partial(_save, path, tree, info))


def _save(path: pathlib.Path, tree: PyTree, info: dict[str, Any]) -> None:
    temporary = path.with_name(path.name + ".json.tmp")
    try:
        remove(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        # Before orbax, which says the same in hundreds of lines.
        temporary.unlink(missing_ok=True)
        temporary.touch(exist_ok=False)
        needed = sum(np.asarray(leaf).nbytes for leaf in jax.tree.leaves(tree))
        if shutil.disk_usage(path.parent).free < needed:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        with _checkpointer() as checkpointer:
            checkpointer.save(path, args=ocp.args.PyTreeSave(tree))
        manifest = {
            "info": info,
            "network": origins.shapes(tree),
            "sha256": _digests(path),
        }
        # Made anew, by who writes it: a link in its place would be written through.
        temporary.unlink()
        with open(temporary, "x") as file:
            json.dump(manifest, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, _manifest_path(path))
    except Exception as error:
        try:
            _raise_disk_error(error, path)
        except OSError:
            # Room for whoever goes on; what else is in the folder stays as it was.
            with contextlib.suppress(OSError):
                remove(path)
                temporary.unlink(missing_ok=True)
            raise
        raise


def _raise_disk_error(error: BaseException, path: pathlib.Path) -> None:
    """Raise the system's error that is behind an error, of ``path``, if there is one.

    Raises:
      OSError: there is.
    """
    number = _disk_error(error)
    if number is None and any(said in str(error) for said in _GONE):
        try:
            os.listdir(path)
            # It is back.
            number = errno.EIO
        except OSError as found:
            number = found.errno
    if number is not None:
        raise OSError(number, os.strerror(number), str(path)) from error


def _disk_error(error: BaseException | None) -> int | None:
    """Number of the system's error that is behind an error, if there is one."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in DISK_ERRORS:
            return error.errno
        for number in DISK_ERRORS:
            # The words that orbax passes on.
            if os.strerror(number) in str(error):
                return number
        error = error.__cause__ or error.__context__
    return None


def _checkpointer() -> ocp.Checkpointer:
    """Writes and reads at once, and this process by itself."""
    options = ocp.options.MultiprocessingOptions()
    if processes.count() > 1:
        number = processes.index()
        options = ocp.options.MultiprocessingOptions(
            primary_host=number,
            active_processes={number},
            barrier_sync_key_prefix=f"process_{number}",
        )
    handler = ocp.PyTreeCheckpointHandler(multiprocessing_options=options)
    return ocp.Checkpointer(handler, multiprocessing_options=options)


def exists(path: pathlib.Path) -> bool:
    """Whether a checkpoint was finished at ``path``."""
    return _manifest_path(path).exists()


def read_info(path: pathlib.Path) -> dict[str, Any]:
    """What `save` was told to keep, once every file is found to be as it was written.

    Raises:
      DamagedCheckpointError: a file is missing, cut short or changed.
      OSError: the disk fails; it names ``path``.
    """
    try:
        manifest = json.loads(_manifest_path(path).read_text())
        expected, info = manifest["sha256"], manifest["info"]
        found = _digests(path)
    except (OSError, ValueError, KeyError, TypeError) as error:
        # What cannot be read today may be whole: nothing is made anew in its place.
        if _disk_error(error) is not None:
            _raise_disk_error(error, path)
        raise DamagedCheckpointError(f"{_manifest_path(path)}: {error}") from error
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

    Raises:
      ForeignResultsError: what was saved has another structure or other shapes.
      OSError: the disk fails; it names ``path``.
    """
    try:
        return _restore(path, like)
    except Exception as error:
        _raise_disk_error(error, path)
        raise


def _restore(path: pathlib.Path, like: PyTree) -> PyTree:
    manifest = json.loads(_manifest_path(path).read_text())
    origins.refuse_foreign(path, manifest, {"network": origins.shapes(like)})
    restore_args = jax.tree.map(
        lambda _: ocp.RestoreArgs(restore_type=np.ndarray), like
    )
    with _checkpointer() as checkpointer:
        return checkpointer.restore(
            path, args=ocp.args.PyTreeRestore(item=like, restore_args=restore_args)
        )


def remove(path: pathlib.Path) -> None:
    """Delete what is at ``path``, a checkpoint or what is left of one.

    In a process that is not the first it does nothing.
    """
    if not processes.is_first():
        return
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
