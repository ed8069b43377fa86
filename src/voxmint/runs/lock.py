"""One run a directory: a lock that is released when its holder ends, however it ends."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from voxmint.datasets.format import Target
from voxmint.errors import PlanError
from voxmint.files import storage_errors

_PAUSE = 0.05
NAME, HELD = "lock", "lock.held"
_NO_LOCKS = (errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.ENOSYS, errno.EINVAL)
"""What file systems answer that have no such lock: some of NFS, Lustre, FUSE."""


@contextmanager
def claim(target: Target, patience: float = 0.0) -> Iterator[None]:
    """Make the folder of a run's state and hold its lock, waiting for it as many seconds as ``patience`` says.

    Raises
    ------
    PlanError
        Another run holds it; names its process and host.
    StorageError
        The folder or the lock cannot be made.
    """
    state = target.state
    with storage_errors(state, "making the folder"):
        new = [path for path in (state, *state.parents) if not path.exists()]
        state.mkdir(parents=True, exist_ok=True)
    until = time.monotonic() + patience
    try:
        with ExitStack() as stack:
            while True:
                try:
                    stack.enter_context(hold_lock(state))
                    break
                except PlanError:
                    if time.monotonic() >= until:
                        raise
                    time.sleep(_PAUSE)
            try:
                yield
            finally:
                if new and {path.name for path in state.iterdir()} <= {NAME}:  # refused before anything was written
                    (state / NAME).unlink(missing_ok=True)
    finally:
        for path in new:
            with suppress(OSError):  # in use by now
                path.rmdir()


@contextmanager
def hold_lock(state: Path) -> Iterator[None]:
    """Hold the lock of the folder ``state``, which must exist.

    The kernel's lock on the open file is tried first, then its lock of POSIX, which more network file systems have.
    Where there is neither, a file that can be made only once stands for the lock: that of a process of this host that
    has ended is taken over, any other one must be removed by hand: nobody here can tell whether its run lives.

    Raises
    ------
    PlanError
        Another run holds it; names its process and host.
    """
    path = state / NAME
    while True:
        with storage_errors(path, "locking"):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            with _taken(descriptor, path):
                if not _is_at(descriptor, path):
                    continue  # who held it before removed the file: the lock of another one counts now
                yield
                return
        finally:
            os.close(descriptor)


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


@contextmanager
def _taken(descriptor: int, path: Path) -> Iterator[None]:
    holder = json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode()
    for lock in (fcntl.flock, fcntl.lockf):
        if _has_lock(lock, descriptor, path):
            with storage_errors(path, "locking"):
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, holder, 0)
            yield
            return
    held = path.with_name(HELD)
    _make_once(held, holder)
    try:
        yield
    finally:
        with suppress(OSError):
            held.unlink(missing_ok=True)


def _has_lock(lock: Callable[[int, int], object], descriptor: int, path: Path) -> bool:
    """Take a lock; return False where the file system has none of this kind."""
    with storage_errors(path, "locking"):
        try:
            lock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if isinstance(error, BlockingIOError | PermissionError):  # POSIX allows either
                raise _active(path, os.pread(descriptor, 1000, 0)) from None
            if error.errno not in _NO_LOCKS:
                raise
            return False
    return True


def _make_once(held: Path, holder: bytes) -> None:
    for last in (False, True):
        with storage_errors(held, "locking"):
            try:
                descriptor = os.open(held, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
            except FileExistsError:
                there = held.read_bytes()
                if last or not _has_ended(there):
                    raise _active(held, there, f"wait for it or end it; if no such run lives, remove {held}") from None
                held.unlink(missing_ok=True)
                continue
            try:
                os.write(descriptor, holder)
            finally:
                os.close(descriptor)
        return


def _has_ended(holder: bytes) -> bool:
    try:
        about = json.loads(holder)
        if about["host"] != socket.gethostname():
            return False
        os.kill(int(about["pid"]), 0)
    except ProcessLookupError:
        return True
    except (ValueError, KeyError, TypeError, OSError):
        return False
    return False


def _active(path: Path, holder: bytes, remedy: str = "wait for it or end it; one run a directory") -> PlanError:
    try:
        about = json.loads(holder)
        got = f"process {about['pid']} on {about['host']}"
    except (ValueError, KeyError, TypeError):  # the other run has not written its name yet
        got = "a process that has just started"
    return PlanError("another run is active in this directory", where=path.parent.parent, got=got, remedy=remedy)
