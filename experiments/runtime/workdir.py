"""The work folder of a program: its lock, its origin, and whole files or none."""

import contextlib
import fcntl
import glob
import json
import os
import pathlib
import secrets
import socket
import time
from collections.abc import Iterator
from typing import Any

import ml_collections

from experiments.runtime.errors import ConfigError, InUseError
from l2d_jax.engine import origins, processes
from l2d_jax.types import PyTree

CONFIG, ORIGIN = "config.json", "origin.json"
_POLL_SECONDS = 0.05
_FILES = ("*.csv", "*.json")
_FOLDERS = ("checkpoints", "figures")
_EXPERIMENTS = pathlib.Path(__file__).parents[1]
# What only draws, judges or measures time, or says what config.json repeats.
_NO_RESULTS = ("benchmark", "claims", "configs", "figures", "runtime")


@contextlib.contextmanager
def use_workdir(path: str, seconds: float = 0.0) -> Iterator[pathlib.Path]:
    """Make the folder, and keep it from other programs for as long as this one runs.

    Args:
      path: of the folder; a ``~`` at its beginning is the home folder, as a shell has
        it that does not see one behind ``--workdir=``.
      seconds: to wait for another program that uses it, such as one that was told to
        stop and has not ended.

    Raises:
      ConfigError: it cannot be written, or holds a folder in the place of a file or a
        file in that of a folder.
      InUseError: another program still uses it.
    """
    try:
        workdir = pathlib.Path(path).expanduser().absolute()
    except RuntimeError as error:
        raise ConfigError(f"workdir {path}: {error}") from error
    held: list[int] = []
    processes.from_first(lambda: held.append(_lock(workdir, seconds)))
    claims = _claims(workdir)
    try:
        processes.from_first(lambda: _check_kinds(workdir))
        yield workdir
    except BaseException:
        # Where nothing was trained the folder is left to any other config.
        with contextlib.suppress(OSError):
            for claim in _claims(workdir) - claims if held else ():
                if not (claim.parent / "checkpoints").exists():
                    claim.unlink(missing_ok=True)
        raise
    finally:
        for descriptor in held:
            # A disk that fails has said so already, of what was written.
            with contextlib.suppress(OSError):
                (workdir / ".lock").unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                os.close(descriptor)


def _claims(workdir: pathlib.Path) -> set[pathlib.Path]:
    """Files that say whose the folder is, and whose those of its parts are."""
    folders = [workdir, *workdir.glob("*/")]
    return {path for folder in folders for path in _claims_of(folder)}


def _claims_of(folder: pathlib.Path) -> list[pathlib.Path]:
    return [folder / name for name in (CONFIG, ORIGIN) if (folder / name).is_file()]


def _lock(workdir: pathlib.Path, seconds: float) -> int:
    """Descriptor of the folder's lock, which the system gives up when we end."""
    path = workdir / ".lock"
    deadline = time.monotonic() + seconds
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        while True:
            # A link to a file elsewhere would have that one cut to nothing.
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
            descriptor = os.open(path, flags, 0o644)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                holder = os.read(descriptor, 100).decode(errors="replace").strip()
                os.close(descriptor)
                if time.monotonic() < deadline:
                    time.sleep(_POLL_SECONDS)
                    continue
                raise InUseError(
                    f"workdir {workdir} is in use by process {holder or '(unknown)'};"
                    " wait for it to end, or choose another --workdir"
                ) from error
            # Whoever held it may have deleted the file that was opened.
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                    break
            os.close(descriptor)
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()} on {socket.gethostname()}\n".encode())
        return descriptor
    except OSError as error:
        raise ConfigError(
            f"workdir {workdir}: {error.strerror}; choose a folder you can write to"
        ) from error


def _check_kinds(workdir: pathlib.Path) -> None:
    """See that what is to be written is not found to be in the way after the work.

    Raises:
      ConfigError: a file is no file, or a folder no folder.
    """
    for path in sorted(path for name in _FILES for path in workdir.glob(name)):
        if path.exists() and not path.is_file():
            raise ConfigError(f"{path}: must be a file, and is none; move it away")
    for name in _FOLDERS:
        path = workdir / name
        if os.path.lexists(path) and not path.is_dir():
            raise ConfigError(f"{path}: must be a folder, and is none; move it away")


def claim_workdir(
    config: ml_collections.ConfigDict, workdir: pathlib.Path, data: PyTree = ()
) -> None:
    """Write what the folder's results are made of, or find that it is the same.

    Args:
      config: of the program; it goes to ``config.json``.
      workdir: the folder.
      data: everything that was read, a pytree; digests of it, of the config, of the
        code and of how JAX computes go to ``origin.json``.

    Raises:
      ConfigError: the folder holds results of another config, or something in the
        place of a file or a folder.
      ForeignResultsError: it holds results of other data, code or precision.
    """
    origin = {
        "config": origins.digest(_as_json(config)),
        "data": origins.digest(data),
        "code": origins.code(*_code()),
        "numbers": origins.numbers(),
    }

    def claim() -> None:
        _check_kinds(workdir)
        claim_config(config, workdir)
        path = workdir / ORIGIN
        if path.exists():
            origins.refuse_foreign(workdir, _read_json(path), origin)
        write_text(path, json.dumps(origin, indent=2) + "\n")

    processes.from_first(claim)


def read_origin(workdir: pathlib.Path) -> dict[str, str]:
    """What the results in a folder are made of; nothing of one that nobody claimed."""
    path = workdir / ORIGIN
    return _read_json(path) if path.exists() else {}


def _code() -> list[pathlib.Path]:
    """Where the code is that results of experiments depend on."""
    found = sorted(_EXPERIMENTS.glob("*.py"))
    folders = sorted(path.parent for path in _EXPERIMENTS.glob("*/__init__.py"))
    return found + [path for path in folders if path.name not in _NO_RESULTS]


def _as_json(config: ml_collections.ConfigDict) -> Any:
    return json.loads(config.to_json_best_effort())


def _read_json(path: pathlib.Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{path}: not JSON ({error}); delete it or choose another --workdir"
        ) from error


def claim_config(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> None:
    """Write ``config.json``, or find that it is the same; in the first process.

    Raises:
      ConfigError: the folder holds the results of another config.
    """
    path = workdir / CONFIG
    ours = _as_json(config)
    if path.exists():
        theirs = _read_json(path)
        name = _first_difference(theirs, ours)
        if name is not None:
            raise ConfigError(
                f"workdir {workdir} was written with another config"
                f" ({name or 'all of it'} differs);"
                " choose another --workdir or give the same config"
            )
        return
    write_text(path, json.dumps(ours, indent=2, sort_keys=True) + "\n")


def _first_difference(theirs: Any, ours: Any, name: str = "") -> str | None:
    if isinstance(theirs, dict) and isinstance(ours, dict):
        for key in sorted(theirs.keys() | ours.keys()):
            child = f"{name}.{key}" if name else key
            if key not in theirs or key not in ours:
                return child
            found = _first_difference(theirs[key], ours[key], child)
            if found is not None:
                return found
        return None
    return None if theirs == ours else name


def write_text(path: pathlib.Path, text: str) -> None:
    """Replace a file in one move, so that it is never half written."""
    with replacing(path) as temporary:
        temporary.write_text(text)


def _sync(path: pathlib.Path) -> None:
    """Have a file, or what a folder lists, on the disk before going on."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def replacing(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """A file to write, which takes the place of ``path`` once it is whole.

    Raises:
      OSError: it cannot be written; it names ``path``, which stays as it was.
    """
    # A name that nobody can guess: a link to a file elsewhere would be written through.
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        for left in path.parent.glob(f"{glob.escape(path.name)}.*.tmp"):
            left.unlink(missing_ok=True)
        temporary.touch(exist_ok=False)
        yield temporary
        _sync(temporary)
        os.replace(temporary, path)
        # Not every file system can do this with a folder; the file itself is whole.
        with contextlib.suppress(OSError):
            _sync(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
