"""How much memory a volume may take, told before it is taken."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from voxmint.errors import NoRoomError

SHARE = 0.75
"""Of the memory that is available, how much one volume may take."""
_SMALL = 64 << 20  # bytes that are taken without asking: the answer takes as long as reading a small volume
_GROUPS = Path("/sys/fs/cgroup")
_REMEDY = "use a machine or a job with more memory, or crop the volume"


def available() -> int:
    """Return the bytes that this process may still take: of the machine, its control groups and its own limit."""
    if not hasattr(os, "sysconf"):  # Windows: it answers when the memory is asked for
        return sys.maxsize
    import resource

    pages = os.sysconf("SC_PAGE_SIZE")
    found = [pages * os.sysconf("SC_PHYS_PAGES")]
    found += [1024 * int(line.split()[1]) for line in _lines("/proc/meminfo") if line.startswith("MemAvailable")]
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit != resource.RLIM_INFINITY:
        found += [limit - pages * int(line.split()[0]) for line in _lines("/proc/self/statm")] or [limit]
    for line in _lines("/proc/self/cgroup"):
        _, names, place = line.split(":", 2)
        if names in ("", "memory"):
            folder = _GROUPS / names / place.lstrip("/")
            # a group is bound by those above it; within a container, its own one is all that shows
            found += [left for group in (folder, *folder.parents) if (left := _left(group)) is not None]
    return max(0, min(found))


def check_room(nbytes: int, what: str, where: Path) -> None:
    """Refuse what would take more than `SHARE` of the memory that is available.

    Raises
    ------
    NoRoomError
        With both figures.
    """
    if nbytes > _SMALL and nbytes > SHARE * (room := available()):
        raise NoRoomError("not enough memory for this volume", where=where, remedy=_REMEDY,
                         expected=f"at most {SHARE:.0%} of the {room / 1e6:,.0f} MB that are available",
                         got=f"{nbytes / 1e6:,.0f} MB ({what})")  # fmt: skip


@contextmanager
def memory_told(where: str | Path) -> Iterator[None]:
    """Turn a `MemoryError` inside into a `NoRoomError` that names what was read."""
    try:
        yield
    except MemoryError as error:
        raise NoRoomError(
            "not enough memory to read it", where=where, got=str(error) or None, remedy=_REMEDY
        ) from error


def _left(group: Path) -> int | None:
    """Return what a control group, of either version, leaves; None without a limit."""
    for most, used in (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")):
        limit, taken = _lines(group / most), _lines(group / used)
        if limit and taken and limit[0] != "max":
            # pages of files that nobody uses are given back when they are needed
            names = ("inactive_file ", "total_inactive_file ")
            spare = [int(line.split()[1]) for line in _lines(group / "memory.stat") if line.startswith(names)]
            return int(limit[0]) - int(taken[0]) + max(spare, default=0)
    return None


def _lines(path: str | Path) -> list[str]:
    try:
        return Path(path).read_text(encoding="ascii").splitlines()
    except OSError:  # another system, or one that does not show it
        return []
