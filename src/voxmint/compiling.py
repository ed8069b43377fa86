"""Compile kernels once for all processes: whoever comes first does it, the others wait and load the result.

Compiled kernels lie where numba keeps them, in a folder named after all that decides their machine code: the content of
every source that a kernel may call, the versions of the compiler and the processor. Numba alone looks at the file a
kernel stands in, and so would run what it compiled before a function in another file changed; and processes on unlike
processors would write over each other's files.

Filling a folder is for one process at a time, but loading from it is not: a mark in it tells that it is full, so that
processes that start together do not queue for what is there already.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import llvmlite  # type: ignore[import-untyped]
import numba
import numpy as np
from llvmlite import binding
from numba import config
from numba.core.caching import FunctionCache, IndexDataCacheFile
from numba.core.codegen import get_host_cpu_features

from voxmint.system import fcntl

_log = logging.getLogger(__name__)

_SHARED_SOURCES = (Path(__file__), Path(__file__).with_name("splitmix.py"))
"""What kernels of every folder import."""
_PREFIX, _FULL = "voxmint-", "full"
_DAY_S = 24 * 3600
_KEPT_DAYS = 30


def cached_njit(**options: Any) -> Callable[[Any], Any]:
    """Return a decorator: `numba.njit` with options, and compiled code kept on disk as long as it is the right one.

    Parameters
    ----------
    **options
        Of `numba.njit`; not ``cache``.
    """

    def decorate(function: Any) -> Any:
        compiled = numba.njit(**options)(function)
        if not config.DISABLE_JIT:
            with contextlib.suppress(RuntimeError):  # no folder on this machine can be written to: nothing is kept
                compiled._cache = _KernelCache(function)
        return compiled

    return decorate


class CompiledOnce:
    """Kernels that are compiled, or loaded from the cache on disk, when first called; later calls do nothing.

    Processes that start together with an empty cache take turns; the one that compiles logs a warning, which a run
    passes on to its user.

    Parameters
    ----------
    kernel : compiled function
        Any of the kernels; all of one folder are kept together.
    call_all : callable
        Calls each kernel with the types it meets in a run, on the smallest arrays.
    """

    def __init__(self, kernel: Any, call_all: Callable[[], None]) -> None:
        self._kernel, self._call_all = kernel, call_all
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
        path = self._kernel.stats.cache_path
        if path is None:
            self._compile()
        elif not _is_full(folder := Path(path)):
            with _one_process(folder / "lock"):
                if not _is_full(folder):  # nobody compiled while this process waited
                    self._compile()
                    with contextlib.suppress(OSError):
                        (folder / _FULL).touch()
                    _remove_unused(folder)
        self._call_all()

    def _compile(self) -> None:
        _log.warning("compiling kernels, once on this machine (under a minute)")
        self._call_all()


class _KernelCache(FunctionCache):  # type: ignore[misc]
    """Numba's cache of one function, in a folder named after what decides its machine code.

    Raises
    ------
    RuntimeError
        If there is no folder to write to.
    """

    def __init__(self, function: Any) -> None:
        super().__init__(function)
        file = Path(function.__code__.co_filename)
        self._sources = file if file.stem == "kernels" else file.parent
        self._identity = _identity(self._sources)
        self._folder = Path(self._impl.locator.get_cache_path(), f"{_PREFIX}{self._identity}")
        self._cache_path = str(self._folder)
        self._cache_file = IndexDataCacheFile(self._cache_path, self._impl.filename_base, self._identity)

    def _load_overload(self, signature: Any, context: Any) -> Any:
        with contextlib.suppress(OSError):  # what cannot be read, be it another user's, is compiled again
            return super()._load_overload(signature, context)
        return None

    def _save_overload(self, signature: Any, data: Any) -> None:
        if _identity.__wrapped__(self._sources) != self._identity:
            return  # sources changed since they were imported: what was compiled belongs to neither
        # a full disk is no reason not to go on with what was compiled
        with contextlib.suppress(OSError), _one_process(self._folder / "save.lock"):
            super()._save_overload(signature, data)


@lru_cache
def _identity(sources: Path) -> str:
    """Return a digest of what decides the machine code of the kernels in a file, or in a folder."""
    files = [*_SHARED_SOURCES, *(sorted(sources.glob("*.py")) if sources.is_dir() else [sources])]
    contents = [(file.name, hashlib.sha256(file.read_bytes()).hexdigest()) for file in files]
    versions = (sys.implementation.cache_tag, numba.__version__, llvmlite.__version__, np.__version__)
    return hashlib.sha256(repr((contents, versions, _processor())).encode()).hexdigest()[:16]


@lru_cache
def _processor() -> tuple[str, str]:
    """Return name and features of the processor that numba compiles for; both can be set in the environment."""
    return (
        binding.get_host_cpu_name() if config.CPU_NAME is None else config.CPU_NAME,
        get_host_cpu_features() if config.CPU_FEATURES is None else config.CPU_FEATURES,
    )


def _is_full(folder: Path) -> bool:
    """Return whether all kernels are in a folder; note once a day that somebody asked."""
    mark = folder / _FULL
    try:
        if time.time() - mark.stat().st_mtime > _DAY_S:
            with contextlib.suppress(OSError):  # a cache that can only be read is as good
                mark.touch()
    except OSError:
        return False
    return True


def _remove_unused(folder: Path) -> None:
    """Remove the folders beside one that no process has used for `_KEPT_DAYS` days."""
    for other in folder.parent.glob(f"{_PREFIX}*"):
        mark = other / _FULL
        with contextlib.suppress(OSError):
            used = (mark if mark.exists() else other).stat().st_mtime
            if other != folder and other.is_dir() and time.time() - used > _KEPT_DAYS * _DAY_S:
                shutil.rmtree(other, ignore_errors=True)


@contextlib.contextmanager
def _one_process(lock: Path) -> Iterator[None]:
    """Hold a lock on a file, made with its folder; go without where there is no lock to be had."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            lock.parent.mkdir(parents=True, exist_ok=True)
            if fcntl is not None:
                fcntl.flock(stack.enter_context(lock.open("a")), fcntl.LOCK_EX)
        yield
