"""What becomes of errors and signals: one message on standard error, and an exit status.

Nothing heavy is imported before something went wrong, so that what goes wrong with imports is told, too.
"""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from voxmint.cli.signals import STOPPED, signals_stop
from voxmint.errors import RecipeError, VoxmintError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_REMEDIES = {
    **dict.fromkeys(_FULL, "free space on this file system"),
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), "allow more open files (ulimit -n)"),
    **dict.fromkeys((errno.EAGAIN, errno.ENOMEM), "use fewer --workers, or allow more memory and processes (ulimit)"),
    errno.ENAMETOOLONG: "choose a shorter path",
    errno.EROFS: "choose a directory that can be written",
}
_SHORT_OF_MEMORY = ("failed to map segment", "cannot allocate memory", "unable to allocate")


def told(job: Callable[[], object]) -> int:
    """Do a job and return its exit status.

    That is 0, or the number that the job returns; 1 after telling what failed, 2 for wrong flags, and 128 and the
    number of the signal that stopped it: 130 after Ctrl-C, 143 after SIGTERM, 129 after SIGHUP.
    """
    with signals_stop() as asked:
        try:
            status = job()
            return status if isinstance(status, int) else 0
        except BaseException as error:
            # an interrupted import may raise anything, and so may whatever wrote to a terminal that closed
            if asked.by or isinstance(error, KeyboardInterrupt):
                _say(str(error) if isinstance(error, KeyboardInterrupt) and str(error) else STOPPED)
                return 128 + (asked.by or 2)
            if not isinstance(error, Exception):
                raise
            return _status(error)


def _status(error: Exception) -> int:
    """Tell an error and return the exit status that belongs to it."""
    if isinstance(error, BrokenPipeError):
        return 1  # whoever read is gone
    try:
        flags = _wrong_flags(error)
        _say(flags or str(error if isinstance(error, VoxmintError) else _named(error)))
    except MemoryError:
        flags = ""
        _say(f"{_NO_MEMORY.what}\n  remedy: {_NO_MEMORY.remedy}")
    return 2 if flags else 1


_NO_MEMORY = VoxmintError("memory ran out", remedy="use fewer --workers, or allow more memory (ulimit -v)")


def _named(error: Exception) -> VoxmintError:
    """Return an error of ours for one that is none."""
    text = str(error).lower()
    if isinstance(error, MemoryError) or any(words in text for words in _SHORT_OF_MEMORY):
        return _NO_MEMORY
    if isinstance(error, UnicodeEncodeError) and error.reason == "surrogates not allowed":
        return VoxmintError("a path is not of UTF-8", got=repr(error.object), remedy="rename it")
    if isinstance(error, FileNotFoundError) and error.filename is None and not _has_directory():
        return VoxmintError("the current directory was removed", remedy="change to another one (cd)")
    if isinstance(error, OSError) and error.errno is not None:
        remedy = _REMEDIES.get(error.errno, "check the path, its permissions and the disk")
        return VoxmintError(f"the system refused: {error.strerror}", where=error.filename,
                            remedy=f"{remedy}, then run the same command again")  # fmt: skip
    return VoxmintError("this is a bug of voxmint, and no fault of yours", got=f"{type(error).__name__}: {error}",
                        remedy=f"report it with {_traceback(error)}")  # fmt: skip


def _has_directory() -> bool:
    try:
        return bool(os.getcwd())  # noqa: PTH109 - Path.cwd does the same
    except OSError:
        return False


def _traceback(error: Exception) -> str:
    """Return where the traceback of an error stands: in a file, or on standard error if that is asked for."""
    import tempfile
    import traceback

    from voxmint.stores.secrets import scrub

    text = scrub("".join(traceback.format_exception(error)))
    if not os.environ.get("VOXMINT_TRACEBACK"):
        with suppress(OSError):
            descriptor, path = tempfile.mkstemp(".txt", "voxmint-traceback-")
            with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
                file.write(text)
            return f"the traceback in {path}"
    with suppress(OSError):
        sys.stderr.write(text)
    return "the traceback above"


def _wrong_flags(error: Exception) -> str:
    """Return the message for flags that cannot be read, "" if the error is none of these."""
    cyclopts: Any = sys.modules.get("cyclopts")
    if cyclopts is None or not isinstance(error, cyclopts.CycloptsError):
        return ""
    return f"{_reason(error)}\n  remedy: see `voxmint --help` or the help of the command"


def _reason(error: Exception) -> str:
    """Return the one sentence of a wrong recipe without what the validation library wraps around it."""
    cause = getattr(error, "exception", None) or error.__cause__
    if cause is not None and hasattr(cause, "errors"):
        for detail in cause.errors():
            inner = detail.get("ctx", {}).get("error")
            if isinstance(inner, RecipeError) and inner.where is not None:
                field = re.sub(r"\.?(\d+|[A-Z]\w+)$", "", str(inner.where))  # neither which number nor which class
                flag = f"--{field}".replace("_", "-") if field else None
                return str(RecipeError(inner.what, where=flag, expected=inner.expected, got=inner.got))
            if inner is not None:
                return str(inner)
    return str(error)


def _say(message: str) -> None:
    from voxmint.stores.secrets import scrub

    with suppress(OSError, ValueError):  # a terminal that closed: nobody reads
        print("voxmint:", scrub(message), file=sys.stderr, flush=True)
