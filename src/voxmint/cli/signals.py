"""What becomes of Ctrl-C, of `kill` and of a terminal that closes: the command ends in order, and says so.

Of the standard library alone, so that it is there before anything else is imported.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from voxmint.system import STOP_SIGNALS

STOPPED = "stopped; the same command goes on from what is stored"
_TOGETHER_S = 1.0
"""Signals this close mean one wish: a closing terminal sends two, and a parent may pass on what came to all."""
_SHOW_CURSOR = b"\x1b[?25h"


def stoppable() -> None:
    """From here to the end of the process, let a signal end it at once, with one line; for a command's first words."""
    for number in STOP_SIGNALS:
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, _end_at_once)


class Asked:
    """Whether a signal has asked a job to end.

    Attributes
    ----------
    by : int
        Its number, 0 before one came.
    """

    def __init__(self) -> None:
        self.by, self._at = 0, 0.0

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Stop the job as Ctrl-C does; a second wish, while it is ending, ends the process."""
        if self.by:
            if time.monotonic() - self._at > _TOGETHER_S:
                _end_at_once(number, frame)
            return
        self.by, self._at = number, time.monotonic()
        raise KeyboardInterrupt


@contextmanager
def signals_stop() -> Iterator[Asked]:
    """Let signals stop what is done in the block, if this is the main thread, and then be handled as before.

    Those that are ignored (by `nohup`, or in the background of a shell) stay so.
    """
    asked, before = Asked(), dict[signal.Signals, Any]()
    try:
        for number in STOP_SIGNALS:
            handler = signal.getsignal(number)
            if handler not in (signal.SIG_IGN, None):
                with suppress(ValueError):  # not the main thread: signals go there
                    before[number] = signal.signal(number, asked)
        yield asked
    finally:
        for changed, handler in before.items():
            last = handler is _end_at_once  # nothing is left to be stopped
            signal.signal(changed, signal.SIG_IGN if last else handler)


def _end_at_once(number: int, frame: FrameType | None) -> None:
    del frame
    with suppress(OSError, ValueError, AttributeError):
        descriptor = sys.stderr.fileno()
        os.write(descriptor, (_SHOW_CURSOR if os.isatty(descriptor) else b"") + f"voxmint: {STOPPED}\n".encode())
    os._exit(128 + number)  # workers end when their input closes
