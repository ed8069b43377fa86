"""Files that appear whole or not at all, and errors of the disk told with path and bytes."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from voxmint.errors import StorageError, VoxmintError

PARTIAL = ".partial"
"""Suffix of a file that is still being written. It is renamed when whole, so a final name never shows less."""

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def storage_errors(path: Path, doing: str, nbytes: int | None = None) -> Iterator[None]:
    """Turn an `OSError` inside into a `StorageError` that names the path and how many bytes were at stake."""
    try:
        yield
    except StorageError:
        raise
    except OSError as error:
        full = error.errno in _FULL
        remedy = "free space on this file system" if full else "check the path, its permissions and the disk"
        raise StorageError(
            f"{doing} failed: {error.strerror or error}",
            where=path,
            expected=None if nbytes is None else f"to store {nbytes:,} bytes",
            remedy=f"{remedy}, then run the same command again: it goes on where it stopped",
        ) from error


@contextmanager
def errors_of_hdf5(path: Path) -> Iterator[None]:
    """Turn what HDF5 tells of the system's errors, in its own words and by various types, into those errors."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        number = re.search(r"errno = (\d+)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from error


def sync_directory(directory: Path) -> None:
    """Make renames and new names in a directory survive a power loss."""
    if os.name == "nt":  # which has no such call, and does it itself
        return
    _sync(directory, "flushing names to the disk")


def sync_file(path: Path) -> None:
    """Flush a file's data to the disk, whoever wrote them."""
    _sync(path, "flushing to the disk")


def _sync(path: Path, doing: str) -> None:
    with storage_errors(path, doing):
        descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def publish(partial: Path, final: Path) -> None:
    """Flush ``partial``, then let it appear as ``final`` in one step."""
    sync_file(partial)
    with storage_errors(final, "renaming"):
        partial.replace(final)
        sync_directory(final.parent)


def move(old: Path, new: Path) -> None:
    """Move a file to another folder of this file system; whenever the power is lost, it is in one of them."""
    with storage_errors(new, "moving a file"):
        new.parent.mkdir(parents=True, exist_ok=True)
        old.replace(new)
        sync_directory(new.parent)  # first: the old name must not be lost before the new one lasts
        sync_directory(old.parent)


def write_atomically(path: Path, chunks: Iterable[bytes]) -> None:
    """Write a file so that a reader sees the old one or the new one, never a part."""
    partial = path.with_name(path.name + PARTIAL)
    with storage_errors(path, "writing"), partial.open("wb") as stream:
        for chunk in chunks:
            stream.write(chunk)
    publish(partial, path)


def file_entry(directory: Path, path: Path) -> dict[str, object]:
    """Return the manifest's entry of a whole file: relative name, size and SHA-256."""
    with storage_errors(path, "reading"), path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
        size = os.fstat(stream.fileno()).st_size
    return {"file": path.relative_to(directory).as_posix(), "bytes": size, "covers": "file", "sha256": digest}


def user_cache(variable: str, name: str) -> Path:
    """Return the folder that an environment variable names, else ``voxmint/<name>`` in this user's cache.

    Raises
    ------
    StorageError
        The user has no home folder.
    """
    import platformdirs

    path = os.environ.get(variable) or os.path.join(platformdirs.user_cache_dir("voxmint", appauthor=False), name)  # noqa: PTH118
    if (full := os.path.expanduser(path)).startswith("~"):  # noqa: PTH111 - that of Path raises
        raise StorageError("this user has no home folder", where=path, remedy=f"name a folder: {variable}")
    return Path(full).absolute()


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Give a temporary path beside ``path``, and move what was written there to ``path`` when the block ends well.

    It is flushed to disk before it is moved, and removed when anything fails.

    Raises
    ------
    StorageError
        Any failing system call, with the path and the bytes written until then.
    """
    path = Path(path)
    part = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.part")
    try:
        yield part
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        if isinstance(error, VoxmintError):
            raise
        raise StorageError(
            f"cannot write: {error.strerror or error}",
            where=path,
            got=f"failed after {part.stat().st_size if part.exists() else 0} bytes",
            remedy="free space or choose a folder that can be written, then run the same command again",
        ) from error
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def atomic_file(path: str | Path) -> Iterator[IO[bytes]]:
    """Open a file for writing that appears under ``path`` when the block ends well; see `atomic_path`."""
    with atomic_path(path) as part, part.open("xb") as file:
        yield file


@contextmanager
def reading_errors(path: Path, kind: type[VoxmintError], remedy: str = "correct the path") -> Iterator[None]:
    """Turn an `OSError` inside into a ``kind`` that names the path; ``remedy`` is for files that are missing."""
    try:
        yield
    except VoxmintError:  # many are errors of the system, too
        raise
    except FileNotFoundError as error:
        raise kind("no such file", where=path, remedy=remedy) from error
    except OSError as error:
        raise kind(f"cannot be read: {error.strerror or error}", where=path,
                   remedy="check its name, its permissions and the disk") from error  # fmt: skip


def regular(path: Path, kind: type[VoxmintError], expected: str) -> Path:
    """Return ``path``, or raise a ``kind`` if it is something else than a file or no name; see `reading`."""
    try:
        mode = path.stat().st_mode
    except ValueError as error:  # a NUL, or a character that the file system's encoding has not
        raise kind(f"this name cannot be one of a file: {error}", where=repr(str(path)),
                   remedy="correct the path") from error  # fmt: skip
    if not stat.S_ISREG(mode):
        raise kind("not a regular file", where=path, expected=expected, remedy="give the path of such a file")
    return path


@contextmanager
def reading(
    path: Path, kind: type[VoxmintError], expected: str, remedy: str = "correct the path"
) -> Iterator[IO[bytes]]:
    """Open a file that is not trusted: a regular one, so that nothing waits for a pipe or reads a device without end.

    Raises
    ------
    VoxmintError
        A ``kind``, with ``remedy`` if there is no such file; also for what fails inside as the system's error.
    """
    with reading_errors(path, kind, remedy), regular(path, kind, expected).open("rb") as file:
        yield file
