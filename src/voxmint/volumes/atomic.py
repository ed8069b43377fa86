"""Files that appear under their name when they are complete, and not before."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from voxmint.errors import StorageError, VoxmintError


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
