"""Where data lives, and whether it is what it should be.

A data folder holds source files as their authors publish them. What a loader decodes
from them is kept in a cache of uncompressed ``.npz`` files, trusted only when the
sha256 of the arrays is the one the loader knows.
"""

import hashlib
import http.client
import logging
import os
import pathlib
import shutil
import urllib.request
import uuid
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np

ENVIRONMENT_VARIABLE = "L2D_DATA_DIR"
# Nothing can be there, whoever makes it.
_NO_HOME = pathlib.Path(os.devnull)
_TIMEOUT = 60.0  # Seconds without a byte after which a download has failed.
_LOGGER = logging.getLogger(__name__)


class DataError(ValueError):
    """Data that is missing, damaged or cannot be read; one line with the remedy."""


def user_cache_dir() -> pathlib.Path:
    """Folder for data when the user names none; it need not exist.

    Returns:
      ``$XDG_CACHE_HOME/l2d_jax``, or ``~/.cache/l2d_jax`` where that is not set. For a
      user without a home, who may be unknown to the system, a folder that cannot be
      made, and then nothing is kept.
    """
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    try:
        return expand(base) / "l2d_jax"
    except DataError:
        return _NO_HOME / "l2d_jax"


def expand(path: str | os.PathLike[str]) -> pathlib.Path:
    """A path with its ``~`` replaced by the home folder.

    Raises:
      DataError: there is none.
    """
    try:
        return pathlib.Path(path).expanduser()
    except RuntimeError as error:
        raise DataError(
            f"{path}: no home folder is known for its ~; give the whole path"
        ) from error


def resolve_data_dir(data_dir: str | os.PathLike[str] | None = None) -> pathlib.Path:
    """Folder that holds the data.

    Args:
      data_dir: folder, must exist. None or empty: the folder in the environment
        variable ``L2D_DATA_DIR``, or else `user_cache_dir`.

    Returns:
      The folder. Only the default, `user_cache_dir`, may not exist yet.

    Raises:
      DataError: the folder that was named does not exist, or has a ``~`` for which no
        home is known.
    """
    named = {
        "data_dir": data_dir,
        ENVIRONMENT_VARIABLE: os.environ.get(ENVIRONMENT_VARIABLE),
    }
    for origin, value in named.items():
        if not value:
            continue
        folder = expand(value)
        if not os.path.isdir(folder):
            raise DataError(
                f"{origin} names {folder}, which is not a folder: create it, or name "
                f"the folder that holds the data with {ENVIRONMENT_VARIABLE} or "
                "--config.data_dir"
            )
        return folder
    return user_cache_dir()


def file_sha256(path: str | os.PathLike[str]) -> str:
    """Checksum of a file.

    Args:
      path: a file that can be read.

    Returns:
      The sha256 of its bytes, 64 hexadecimal digits.
    """
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def arrays_sha256(arrays: Mapping[str, np.ndarray]) -> str:
    """Checksum of named arrays: of their names, types, shapes and values.

    Args:
      arrays: arrays by name, of any shape; their order does not matter.

    Returns:
      The sha256, 64 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.data)
    return digest.hexdigest()


def require_unpacked(path: str | os.PathLike[str], most: int) -> None:
    """See that what an archive unpacks to has a size that it can have.

    A zip of 3 MB may hold 4 GB, and is asked before any of it is unpacked. What it says
    of itself is all that is ever read of a member.

    Args:
      path: a zip, or an ``.npz``, which is one.
      most: bytes of all its members together.

    Raises:
      DataError: it holds more.
      OSError: it cannot be read.
      zipfile.BadZipFile: it is no zip.
    """
    with zipfile.ZipFile(path) as archive:
        size = sum(member.file_size for member in archive.infolist())
    if size > most:
        raise DataError(
            f"{path} unpacks to {size:,} bytes, and to {most:,} at most as it should be"
        )


def find(
    data_dir: str | os.PathLike[str] | None,
    relative_path: str,
    sha256: str | None,
    url: str | None,
    remedy: str,
) -> pathlib.Path:
    """A source file in the data folder, downloaded if need be and if possible.

    A download is moved into place only once its checksum is right.

    Args:
      data_dir: see `resolve_data_dir`.
      relative_path: the file's place in the data folder, with forward slashes.
      sha256: checksum of the file. None: the caller checks the content.
      url: where to download the file, which needs ``sha256``. None: the file is not to
        be had as it is.
      remedy: how to get the file by hand, as in "get it from example.org".

    Returns:
      The path of the file.

    Raises:
      DataError: the file is missing and not to be had, or is not the right one.
      ValueError: there is a ``url``, and no ``sha256`` to check the download with.
    """
    if url is not None and sha256 is None:
        raise ValueError(f"sha256 is missing: {url} is not to be trusted unchecked")
    path = resolve_data_dir(data_dir) / relative_path
    address = "" if url is None else f" (it is {url})"
    remedy = (
        f"{remedy}{address} and place it there, or name a folder that holds "
        f"{relative_path} with {ENVIRONMENT_VARIABLE} or --config.data_dir"
    )
    if os.path.isfile(path):
        if sha256 is not None:
            _check_sha256(path, str(path), sha256, f"delete it, {remedy}")
    elif url is None or sha256 is None:
        raise DataError(f"{path} is missing: {remedy}")
    else:
        _download(url, path, sha256, remedy)
    return path


def _download(url: str, path: pathlib.Path, sha256: str, remedy: str) -> None:
    _LOGGER.info("downloading %s to %s", url, path)
    try:
        with _replacing(path) as temporary:
            with (
                urllib.request.urlopen(url, timeout=_TIMEOUT) as response,
                open(temporary, "xb") as file,
            ):
                shutil.copyfileobj(response, file)
            _check_sha256(temporary, f"the download of {path}", sha256, remedy)
    except (OSError, http.client.HTTPException) as error:
        raise DataError(
            f"{path} is missing and could not be downloaded ({one_line(error)}): "
            f"check the network, or {remedy}"
        ) from error


def _check_sha256(path: pathlib.Path, name: str, sha256: str, remedy: str) -> None:
    try:
        found = file_sha256(path)
    except OSError as error:
        found = f"none, {one_line(error)}"
    if found != sha256:
        raise DataError(
            f"{name} is damaged or another version (sha256 expected {sha256}, found "
            f"{found}): {remedy}"
        )


def cached_arrays(
    data_dir: pathlib.Path,
    filename: str,
    sha256: str,
    source: pathlib.Path,
    build: Callable[[], dict[str, np.ndarray]],
) -> dict[str, np.ndarray]:
    """Arrays from the cache, or built and then cached.

    The cache is ``data_dir/cache`` and, for a folder that is read-only, ``cache`` in
    `user_cache_dir`. A damaged file is reported in the log and built again.

    Args:
      data_dir: the data folder.
      filename: name of the cache file, ends in ``.npz``.
      sha256: `arrays_sha256` of the right arrays.
      source: file in the data folder that the arrays are built from. Where it is
        missing, the cache in `user_cache_dir`, which may stem from another folder, is
        not read.
      build: makes the right arrays from the source, or raises.

    Returns:
      The arrays by name.
    """
    # Read-only folders may hold a cache that somebody else filled: look in both.
    # `os.path` because pathlib raises where a home folder may not even be searched.
    paths = [folder / "cache" / filename for folder in (data_dir, user_cache_dir())]
    for path in paths if os.path.exists(source) else paths[:1]:
        if not os.path.exists(path):
            continue
        arrays, found = _read_npz(path)
        if found == sha256:
            return arrays
        _LOGGER.warning(
            "%s is damaged (sha256 expected %s, found %s): building it again",
            path,
            sha256,
            found,
        )
    arrays = build()
    for path in paths:
        if not _may_write(path.parent):
            continue
        try:
            _write_npz(path, arrays)
            return arrays
        except OSError as error:
            _LOGGER.info("%s could not be written: %s", path, error)
    _LOGGER.warning(
        "%s could be cached neither in %s nor in %s: it is built again each time",
        filename,
        *(path.parent for path in paths),
    )
    return arrays


def kept_arrays(
    filename: str, build: Callable[[], dict[str, np.ndarray]]
) -> dict[str, np.ndarray]:
    """Arrays that are dear to make, kept in ``cache`` in `user_cache_dir`.

    The file carries the checksum of its arrays; a damaged one is reported in the log
    and built again.

    Args:
      filename: name of the cache file, ends in ``.npz``; says all that the arrays
        depend on, by a checksum of it.
      build: makes the arrays, none of which is called ``sha256``, or raises.

    Returns:
      The arrays by name.
    """
    path = user_cache_dir() / "cache" / filename
    if os.path.exists(path):
        arrays, _ = _read_npz(path)
        expected, found = str(arrays.pop("sha256", "none")), arrays_sha256(arrays)
        if found == expected:
            return arrays
        _LOGGER.warning(
            "%s is damaged (sha256 expected %s, found %s): building it again",
            path,
            expected,
            found,
        )
    arrays = build()
    try:
        _write_npz(path, {**arrays, "sha256": np.array(arrays_sha256(arrays))})
    except OSError as error:
        _LOGGER.warning(
            "%s could not be written (%s): it is built again each time", path, error
        )
    return arrays


def _read_npz(path: pathlib.Path) -> tuple[dict[str, np.ndarray], str]:
    try:
        # It was written without compression.
        require_unpacked(path, path.stat().st_size)
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        return arrays, arrays_sha256(arrays)
    # Damage can surface anywhere in zipfile or NumPy; whatever it is, we rebuild.
    except Exception as error:
        return {}, f"none, {one_line(error)}"


def _write_npz(path: pathlib.Path, arrays: dict[str, np.ndarray]) -> None:
    with _replacing(path) as temporary, open(temporary, "xb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


@contextmanager
def _replacing(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """A path to write to; what is there at the end becomes ``path``, if all went well.

    Many processes may make the same file: each writes its own, the last one stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _may_write(folder: pathlib.Path) -> bool:
    nearest = next(path for path in (folder, *folder.parents) if os.path.exists(path))
    # The system lets root write where the mode forbids it; the mode is the owner's
    # wish, so we keep to it.
    return os.access(nearest, os.W_OK) and bool(nearest.stat().st_mode & 0o222)


def one_line(error: BaseException) -> str:
    """An exception as part of a one-line message.

    Args:
      error: any exception.

    Returns:
      Its type and the beginning of its text, without line breaks.
    """
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return text if len(text) <= 200 else f"{text[:197]}..."
