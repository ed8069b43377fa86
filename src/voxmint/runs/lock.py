"""One run a directory: a lock that the kernel releases when its holder ends, however it ends."""

from __future__ import annotations

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from voxmint.errors import PlanError
from voxmint.files import storage_errors

NAME = "lock"


@contextmanager
def hold_lock(state: Path) -> Iterator[None]:
    """Hold the lock of the folder ``state``, which must exist.

    Raises
    ------
    PlanError
        Another run holds it; names its process and host.
    """
    path = state / NAME
    with storage_errors(path, "locking"):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        _take(descriptor, path)
        holder = json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode()
        with storage_errors(path, "locking"):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, holder, 0)
        yield
    finally:
        os.close(descriptor)


def _take(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        try:
            holder = json.loads(os.pread(descriptor, 1000, 0))
            got = f"process {holder['pid']} on {holder['host']}"
        except (ValueError, KeyError, TypeError):  # the other run has not written its name yet
            got = "a process that has just started"
        raise PlanError(
            "another run is active in this directory",
            where=path.parent.parent,
            got=got,
            remedy="wait for it or end it; one run a directory",
        ) from None
