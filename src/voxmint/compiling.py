"""Compile kernels once for all processes: whoever comes first does it, the others wait and load the result.

Filling numba's cache is for one process at a time, but loading from it is not: a mark beside the cache tells that it is
full, so that processes that start together do not queue for what is there already.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numba
import numpy as np
from llvmlite import binding  # type: ignore[import-untyped]
from numba import config

_log = logging.getLogger(__name__)


class CompiledOnce:
    """Kernels that are compiled, or loaded from the cache on disk, when first called; later calls do nothing.

    Processes that start together with an empty cache take turns; the one that compiles logs a warning, which a run
    passes on to its user.

    Parameters
    ----------
    kernel : compiled function
        Any of the kernels.
    source : path
        The file that holds all of them, or the folder.
    call_all : callable
        Calls each kernel with the types it meets in a run, on the smallest arrays.
    """

    def __init__(self, kernel: Any, source: Path, call_all: Callable[[], None]) -> None:
        self._kernel, self._source, self._call_all = kernel, source, call_all
        self._lock = threading.Lock()
        self._done = bool(config.DISABLE_JIT)

    def __call__(self) -> None:
        """Compile or load."""
        if self._done:
            return
        with self._lock:
            if not self._done:
                self._compile_or_load()
                self._done = True

    def _compile_or_load(self) -> None:
        folder = self._kernel.stats.cache_path
        mark = None if folder is None else Path(folder) / f"voxmint-kernels-{_circumstances(self._source)}"
        if mark is None or not mark.exists():
            with _one_process(mark):
                if mark is None or not mark.exists():  # nobody compiled while this process waited
                    _log.warning("compiling kernels, once on this machine (under a minute)")
                    self._call_all()
                    with contextlib.suppress(OSError):
                        if mark is not None:
                            mark.touch()
        self._call_all()


def _circumstances(source: Path) -> str:
    """Return a digest of what numba's cache depends on: versions, processor, and when each kernel's file changed."""
    files = source.glob("*.py") if source.is_dir() else [source]
    stamps = [(file.name, (about := file.stat()).st_mtime_ns, about.st_size) for file in sorted(files)]
    processor = (config.CPU_NAME or binding.get_host_cpu_name(), config.CPU_FEATURES or _features())
    return hashlib.sha256(repr((numba.__version__, np.__version__, processor, stamps)).encode()).hexdigest()[:16]


def _features() -> str:
    return str(binding.get_host_cpu_features().flatten())


@contextlib.contextmanager
def _one_process(mark: Path | None) -> Iterator[None]:
    """Hold a lock beside numba's cache; go without where there is no cache or no lock to be had."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            if mark is not None:
                mark.parent.mkdir(parents=True, exist_ok=True)
                file = stack.enter_context(mark.with_name("voxmint-kernels.lock").open("a"))
                fcntl.flock(file, fcntl.LOCK_EX)
        yield
