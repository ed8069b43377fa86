"""What Linux, macOS and Windows do not have in common, in one place.

Everything is meant for Linux and macOS. On Windows samples are drawn, and data sets read, checked and trained on; runs
are refused in words, since their worker processes talk through pipes, for which Windows cannot wait: WSL2 runs them.
"""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

try:
    import fcntl as _fcntl
except ImportError:  # Windows
    fcntl: Any = None
else:
    fcntl = _fcntl

STOP_SIGNALS: tuple[signal.Signals, ...] = tuple(
    number for name in ("SIGINT", "SIGTERM", "SIGHUP") if (number := getattr(signal, name, None)) is not None
)
"""What asks a process to end."""
KILLED = -int(getattr(signal, "SIGKILL", 9))
"""Exit code of a process that the system ended."""
HAS_RUNS = fcntl is not None
"""Whether runs with worker processes are possible here."""
_BINARY = getattr(os, "O_BINARY", 0)
_ONE_AT_A_TIME = threading.Lock()


def cores() -> int:
    """Return how many processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def pread(descriptor: int, size: int, offset: int) -> bytes:
    """Read from a place of a file."""
    if hasattr(os, "pread"):
        return os.pread(descriptor, size, offset)
    with _ONE_AT_A_TIME:
        os.lseek(descriptor, offset, os.SEEK_SET)
        return os.read(descriptor, size)


def pwrite(descriptor: int, data: bytes | memoryview, offset: int) -> int:
    """Write to a place of a file; return how many bytes were."""
    if hasattr(os, "pwrite"):
        return os.pwrite(descriptor, data, offset)
    with _ONE_AT_A_TIME:
        os.lseek(descriptor, offset, os.SEEK_SET)
        return os.write(descriptor, data)


def open_file(path: Any, flags: int, mode: int = 0o666) -> int:
    """Open a file as bytes, everywhere."""
    return os.open(path, flags | _BINARY, mode)
