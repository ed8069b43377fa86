"""Files that appear whole or not at all, and errors of the disk told with path and bytes."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from voxmint.errors import StorageError

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


def sync_directory(directory: Path) -> None:
    """Make renames and new names in a directory survive a power loss."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """Flush a file's data to the disk, whoever wrote them."""
    with storage_errors(path, "flushing to the disk"):
        descriptor = os.open(path, os.O_RDONLY)
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
