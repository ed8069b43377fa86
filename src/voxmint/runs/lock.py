"""One run a directory: a lock that is released when its holder ends, however it ends."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import count
from pathlib import Path

from voxmint.datasets.format import Output
from voxmint.errors import PlanError, StorageError
from voxmint.files import storage_errors
from voxmint.system import fcntl, open_file, pread, pwrite

_PAUSE = 0.05
NAME, HELD = "lock", "lock.held"
_NO_LOCKS = (errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.ENOSYS, errno.EINVAL)
"""What file systems answer that have no such lock: some of NFS, Lustre, FUSE."""

_ATTEMPTS = 100
"""How often the folder may be removed by others between making it and opening its lock."""


@contextmanager
def claim(output: Output, patience: float = 0.0) -> Iterator[None]:
    """Make the folder of a run's state and hold its lock, waiting for it as many seconds as ``patience`` says.

    Raises
    ------
    PlanError
        Another run holds it; names its process and host.
    StorageError
        The folder or the lock cannot be made.
    """
    state = output.state
    with storage_errors(state, "making the folder"):
        new = [path for path in (state, *state.parents) if not path.exists()]
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
                with suppress(OSError):
                    if new and {path.name for path in state.iterdir()} <= {NAME, HELD}:  # refused: nothing was written
                        (state / NAME).unlink()
    finally:
        for path in new:
            with suppress(OSError):  # in use by now
                path.rmdir()


@contextmanager
def hold_lock(state: Path) -> Iterator[None]:
    """Hold the lock of the folder ``state``, made if absent.

    The kernel's lock on the open file is tried first, then its lock of POSIX, which more network file systems have.
    Where there is neither, a file that can be made only once stands for the lock: that of a process of this host that
    has ended is taken over, any other one must be removed by hand: nobody here can tell whether its run lives.

    Raises
    ------
    PlanError
        Another run holds it; names its process and host.
    """
    path = state / NAME
    for attempt in count():
        try:
            with storage_errors(path, "locking"):
                state.mkdir(parents=True, exist_ok=True)
                descriptor = open_file(path, os.O_RDWR | os.O_CREAT)
        except StorageError as error:
            if isinstance(error.__cause__, FileNotFoundError) and attempt < _ATTEMPTS:
                continue  # a run that was refused has just removed the folder it had made
            raise
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
    about = {"pid": os.getpid(), "host": socket.gethostname(), "start": _start(os.getpid())}
    holder = json.dumps(about).encode()
    for lock in () if fcntl is None else (fcntl.flock, fcntl.lockf):
        if _has_lock(lock, descriptor, path):
            with storage_errors(path, "locking"):
                os.ftruncate(descriptor, 0)
                pwrite(descriptor, holder, 0)
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
                raise _active(path, pread(descriptor, 1000, 0)) from None
            if error.errno not in _NO_LOCKS:
                raise
            return False
    return True


def _make_once(held: Path, holder: bytes) -> None:
    with storage_errors(held, "locking"):
        if _made(held, holder):
            return
        if not hasattr(socket, "AF_UNIX"):
            raise _active(held, _content(held), f"wait for it or end it; if no such run lives, remove {held}")
        with socket.socket(socket.AF_UNIX) as only:
            # one process of this host at a time may take over, lest two remove each other's
            if _is_free(only, held) and _has_ended(_content(held)):
                held.unlink(missing_ok=True)
                if _made(held, holder):
                    return
        raise _active(held, _content(held), f"wait for it or end it; if no such run lives, remove {held}")


def _is_free(only: socket.socket, held: Path) -> bool:
    """Take the one name for a file that a process of this host can have; it goes when the process does."""
    try:
        only.bind(b"\0voxmint " + hashlib.sha256(bytes(held.resolve())).digest())
    except OSError:
        return False
    return True


def _content(held: Path) -> bytes:
    try:
        return held.read_bytes()
    except FileNotFoundError:
        return b""


def _made(held: Path, holder: bytes) -> bool:
    """Make the file; return False if there is one."""
    try:
        descriptor = open_file(held, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    except FileExistsError:
        return False
    try:
        try:
            os.write(descriptor, holder)
        finally:
            os.close(descriptor)
    except OSError:
        held.unlink(missing_ok=True)  # else nobody could tell whose it is
        raise
    return True


def _has_ended(holder: bytes) -> bool:
    """Return whether the holder was a process of this host that lives no more; its number may be another one's now."""
    try:
        about = json.loads(holder)
        return bool(about["host"] == socket.gethostname() and _start(int(about["pid"])) != about["start"])
    except (ValueError, KeyError, TypeError):
        return False


def _start(process: int) -> str:
    """Return when a process started, in ticks of this boot; "" if there is none."""
    try:
        state, *values = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if state in "ZX" else values[18]  # one that was killed may wait for its parent


def _active(path: Path, holder: bytes, remedy: str = "wait for it or end it; one run a directory") -> PlanError:
    try:
        about = json.loads(holder)
        got = f"process {about['pid']} on {about['host']}"
    except (ValueError, KeyError, TypeError):  # the other run has not written its name yet
        got = "a process that has just started"
    return PlanError("another run is active in this directory", where=path.parent.parent, got=got, remedy=remedy)
