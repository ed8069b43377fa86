"""Giving up on what takes too long, without a thread for each that waits."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError, wait
from contextlib import suppress
from typing import Any, TypeVar
from weakref import ref

from voxmint.errors import Cause
from voxmint.retry import FetchError, seconds_left

Result = TypeVar("Result")
ATTEMPT_S = 60.0
"""Longest time of one attempt."""


class TimeLimit:
    """Ends futures that are not done in time. One thread for all, awake only when the oldest of them is due.

    Parameters
    ----------
    seconds : float
        For each, from when it is watched.
    failure : (Cause, str)
        Of the `FetchError` that it then raises.
    """

    def __init__(self, seconds: float, failure: tuple[Cause, str]) -> None:
        self._seconds, self._failure = seconds, failure
        self._lock, self._closed = threading.Lock(), threading.Event()
        # weak, so that what is done is not held, with its voxels, until it would have been due
        self._watched: deque[tuple[float, ref[Future[Any]]]] = deque()
        self._thread: threading.Thread | None = None

    def watch(self, future: Future[Any]) -> None:
        """End a future when its time is over."""
        with self._lock:
            self._watched.append((time.monotonic() + self._seconds, ref(future)))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="voxmint-time-limit", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """End the thread; nothing is watched any longer."""
        self._closed.set()

    def _run(self) -> None:
        while not self._closed.is_set():
            with self._lock:
                while self._watched and _is_done(self._watched[0][1]()):
                    self._watched.popleft()
                if not self._watched:
                    self._thread = None
                    return
                due, oldest = self._watched[0]
            if (pause := due - time.monotonic()) > 0:
                self._closed.wait(pause)
            elif (future := oldest()) is not None:
                failure = FetchError(*self._failure)
                failure.seconds = self._seconds
                with suppress(InvalidStateError):  # done just now
                    future.set_exception(failure)
                del future


def in_time(action: Callable[[], Result]) -> Result:
    """Return what a client without a time limit returns, or leave it to itself, in a thread of its own, and fail.

    Raises
    ------
    FetchError
        Of the action; or it did not end in time.
    """
    outcome: Future[Result] = Future()

    def work() -> None:
        try:
            outcome.set_result(action())
        except BaseException as error:  # whoever waits gets it
            outcome.set_exception(error)

    seconds = seconds_left(ATTEMPT_S)
    threading.Thread(target=work, name="voxmint-client", daemon=True).start()
    wait((outcome,), timeout=seconds)
    if not outcome.done():
        raise FetchError("unreadable", f"no answer within {seconds:.3g} s")
    return outcome.result()


def _is_done(future: Future[Any] | None) -> bool:
    return future is None or future.done()
