"""Compiled programs, kept for the next start on the same kind of machine.

They are kept by JAX's own cache, whose key is the program, its options, the backend and
the version of jaxlib. What that leaves to its user is here: a folder for each kind of
processor, since code for a CPU is code for that CPU; a bound of its size, with which
JAX also locks it against other processes; and entries that a killed process left half
written, which JAX would stumble over at every start.
"""

import contextlib
import hashlib
import os
import pathlib
import platform

import jax

_LEAST_SECONDS = 0.1
_SUFFIX, _TIME_SUFFIX = "-cache", "-atime"
_TIME_BYTES = 8


def keep(folder: pathlib.Path, max_bytes: int = 2**30) -> bool:
    """Keep the programs that are compiled from here on, and take those that are kept.

    Nothing is changed where the user has set ``JAX_COMPILATION_CACHE_DIR`` or
    ``JAX_ENABLE_COMPILATION_CACHE``, the package filelock is missing, or the folder
    cannot be written: a program then compiles as it would have.

    Args:
      folder: made if it is not there; it holds code that is run, so only its owner
        should be able to write to it.
      max_bytes: what the programs take at most, > 0; the least recently used go first.

    Returns:
      Whether they are kept there.
    """
    names = ("JAX_COMPILATION_CACHE_DIR", "JAX_ENABLE_COMPILATION_CACHE")
    if any(name in os.environ for name in names):
        return False
    try:
        import filelock
    except ModuleNotFoundError:
        return False
    own = folder / _processor()
    try:
        own.mkdir(mode=0o700, parents=True, exist_ok=True)
        with filelock.FileLock(own / ".lockfile", timeout=10):
            _remove_unfinished(own)
    # A folder that is read-only, a file system without locks, a lock nobody lets go.
    except OSError:
        return False
    jax.config.update("jax_compilation_cache_dir", str(own))
    jax.config.update("jax_compilation_cache_max_size", max_bytes)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", _LEAST_SECONDS)
    return True


def _processor() -> str:
    """Name of this kind of processor and what it can do."""
    features = platform.processor()
    with contextlib.suppress(OSError):
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        features = next((line for line in lines if line.startswith("flags")), features)
    digest = hashlib.sha256(features.encode()).hexdigest()[:12]
    return f"{platform.machine()}-{digest}"


def _remove_unfinished(folder: pathlib.Path) -> None:
    """Remove entries whose time of use, which is written last, is not there whole."""
    for path in folder.glob(f"*{_SUFFIX}"):
        time_path = path.with_name(path.name.removesuffix(_SUFFIX) + _TIME_SUFFIX)
        if not time_path.is_file() or time_path.stat().st_size != _TIME_BYTES:
            path.unlink(missing_ok=True)
            time_path.unlink(missing_ok=True)
