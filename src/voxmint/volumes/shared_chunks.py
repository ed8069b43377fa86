"""Chunks that the processes of one command leave for each other on the local disk, so that each is asked for once.

Whatever goes wrong here (no space, a folder that is gone or cannot be written) means that nothing is shared: a layer
then fetches for itself, as it does without.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import threading
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxmint.retry import FetchError, seconds_left
from voxmint.system import fcntl
from voxmint.volumes.box import Box

_MOST_BYTES = 512 << 20
"""What one layer of one process leaves; its oldest chunks are removed first."""
_RESERVE_BYTES = 1 << 30
"""With less free than this, all chunks are removed: the space is the samples'."""
_ONE_ATTEMPT_S = 60.0
_PAUSE_S = 0.02
_PREFIX = "chunks-"


class SharedChunks:
    """What one layer takes out of, and leaves in, a folder that other processes of the same command know, too.

    Who fetches a chunk holds a lock meanwhile, a byte of one file. The kernel releases it when its holder dies, so no
    claim can outlive who made it; files that name their owner were rejected for that. Chunks appear by renaming.

    Parameters
    ----------
    folder : Path
        Of this layer and command; made if absent.
    dtype : dtype
        Of the layer.
    """

    def __init__(self, folder: Path, dtype: np.dtype[Any]) -> None:
        self._folder, self._dtype = folder, dtype
        self._lock = threading.Lock()
        self._left: deque[tuple[Path, int]] = deque()
        self._left_bytes = 0
        self._claims: int | None = None
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            self._claims = os.open(folder / "claims", os.O_RDWR | os.O_CREAT, 0o600)

    def get(self, chunk: Box, fetch: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        """Return a chunk that another process left, or fetch and leave it; wait while another one is fetching it.

        Parameters
        ----------
        chunk : Box
            Which; asked for by one thread of this process at a time.
        fetch : callable
            Fetches it.

        Raises
        ------
        FetchError
            Of ``fetch``; or it found, in another process, that the chunk is missing or forbidden.
        """
        if self._claims is None:
            return fetch()
        path = self._folder / chunk.name
        place = zlib.crc32(path.name.encode())  # two chunks of one number wait for each other, no more
        until = time.monotonic() + seconds_left(2 * _ONE_ATTEMPT_S) / 2  # what is left is for an attempt of its own
        while (found := self._take(path, chunk)) is None and not self._claim(place) and time.monotonic() < until:
            time.sleep(_PAUSE_S)
        if found is not None:
            return found
        try:
            found = self._take(path, chunk)  # left after the last look and before the claim
            if found is None:
                found = self._fetch(path, fetch)
            return found
        finally:
            if fcntl is not None:
                with suppress(OSError):
                    fcntl.lockf(self._claims, fcntl.LOCK_UN, 1, place)

    def close(self) -> None:
        """Let go of the folder; chunks stay for the others."""
        if self._claims is not None:
            os.close(self._claims)
            self._claims = None

    def _fetch(self, path: Path, fetch: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        try:
            array = fetch()
        except FetchError as error:
            if error.cause != "unreadable":  # that may pass
                self._leave(_refusal(path), json.dumps([error.cause, error.detail]).encode())
            raise
        self._leave(path, np.asfortranarray(array).T.data)
        return array

    def _claim(self, place: int) -> bool:
        """Return False if another process is fetching."""
        assert self._claims is not None
        if fcntl is None:
            return True
        try:
            fcntl.lockf(self._claims, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
        except (BlockingIOError, PermissionError):
            return False
        except OSError:  # a file system without locks
            pass
        return True

    def _take(self, path: Path, chunk: Box) -> NDArray[Any] | None:
        try:
            data = path.read_bytes()
        except OSError:
            self._take_refusal(_refusal(path))
            return None
        if len(data) != chunk.voxels * self._dtype.itemsize:
            return None
        return np.frombuffer(data, self._dtype).reshape(chunk.shape, order="F")

    def _take_refusal(self, path: Path) -> None:
        try:
            cause, detail = json.loads(path.read_bytes())
        except (OSError, ValueError):
            return
        raise FetchError(cause, detail)

    def _leave(self, path: Path, data: bytes | memoryview) -> None:
        size = memoryview(data).nbytes
        part = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        try:
            if shutil.disk_usage(self._folder).free < _RESERVE_BYTES:
                self._remove_all()
                return
            part.write_bytes(data)
            part.replace(path)
        except OSError:
            with suppress(OSError):
                part.unlink(missing_ok=True)
            return
        with self._lock:
            self._left.append((path, size))
            self._left_bytes += size
            while self._left_bytes > _MOST_BYTES:
                oldest, freed = self._left.popleft()
                self._left_bytes -= freed
                with suppress(OSError):
                    oldest.unlink(missing_ok=True)

    def _remove_all(self) -> None:
        """Remove what any process left."""
        for path in self._folder.iterdir():
            if path.name != "claims":
                path.unlink(missing_ok=True)
        with self._lock:
            self._left.clear()
            self._left_bytes = 0


@contextmanager
def folder_for_chunks(state: Path) -> Iterator[Path]:
    """Name a folder in ``state`` in which the processes of this command share chunks; remove it at the end.

    It is made by the first layer that has anything to share. Those that killed commands left are removed, too; one
    that is still in use would only no longer be shared.

    Parameters
    ----------
    state : Path
        On the disk that the command writes to; need not exist, and then does not afterwards unless it is used.
    """
    absent = [path for path in (state, *state.parents) if not path.exists()]
    for stale in state.glob(f"{_PREFIX}*"):
        shutil.rmtree(stale, ignore_errors=True)
    folder = state / f"{_PREFIX}{secrets.token_hex(8)}"
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        for path in absent:
            with suppress(OSError):  # in use by now, or never made
                path.rmdir()


def _refusal(path: Path) -> Path:
    return path.with_name(f"{path.name}.refused")
