"""Asking again: bounded retries with growing pauses, one policy for every client."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextvars import ContextVar
from math import inf
from typing import TypeVar

from voxmint.errors import Cause, LayerError

_FIRST_WAIT_S = 0.25
_LONGEST_WAIT_S = 8.0
PATIENCE_S = 90.0
"""How long one thing is asked for in all, attempts and pauses together, unless told otherwise."""
_deadline: ContextVar[float] = ContextVar("deadline", default=inf)
_REMEDIES: dict[Cause, str] = {
    "missing": "correct the address; if it is no precomputed layer, put zarr://, zarr3:// or n5:// before it",
    "forbidden": "give credentials that may read it (a secrets file), or ask the owner",
    "unreadable": "check the address, the network and the layer's metadata",
}
Result = TypeVar("Result")


class FetchError(Exception):
    """One attempt failed. What is missing or forbidden stays so and is not asked for again; all else is.

    Attributes
    ----------
    cause : Cause
        What is the matter.
    detail : str
        What the client said, without secrets.
    seconds : float
        How long the attempt took, where it was made elsewhere.
    """

    seconds = 0.0

    def __init__(self, cause: Cause, detail: str) -> None:
        self.cause, self.detail = cause, detail
        super().__init__(detail)


def checked_patience(seconds: float) -> float:
    """Return the seconds; raise `LayerError` unless they are a positive, finite number."""
    if not 0 < seconds < inf:
        raise LayerError("patience must be a positive number of seconds", where="--patience", got=seconds)
    return float(seconds)


def seconds_left(most: float) -> float:
    """Return how long an attempt that is being made `patiently` may take, at most ``most``."""
    return max(0.0, min(most, _deadline.get() - time.monotonic()))


def patiently(action: Callable[[], Result], attempts: int, patience: float = PATIENCE_S, spent: float = 0.0) -> Result:
    """Return what ``action`` returns, asking up to ``attempts`` times, with pauses of 0.25, 0.5, 1, ... up to 8 s.

    Parameters
    ----------
    action : callable
        One attempt; `seconds_left` tells it how long it may take.
    attempts : int
        Most attempts.
    patience : float
        Seconds after which no attempt goes on and none is begun.
    spent : float
        Seconds of them that are over already.

    Raises
    ------
    FetchError
        The last failure; its detail says how often it was tried, and for how long.
    """
    began, pause = time.monotonic() - spent, _FIRST_WAIT_S
    until = min(began + patience, _deadline.get())
    token = _deadline.set(until)
    try:
        for attempt in range(1, attempts + 1):
            try:
                return action()
            except FetchError as error:
                failure = error
            if failure.cause != "unreadable":
                break
            if (now := time.monotonic()) + pause >= until:
                failure = _given_up(failure, attempt, now - began)
                break
            if attempt < attempts:
                time.sleep(pause)
                pause = min(2 * pause, _LONGEST_WAIT_S)
            elif attempts > 1:
                failure = FetchError(failure.cause, f"{failure.detail} (tried {attempts} times in {now - began:.1f} s)")
    finally:
        _deadline.reset(token)
    # raised outside the handler: what a client raised may quote a token, and must not be chained to it
    raise failure


def _given_up(failure: FetchError, attempts: int, seconds: float) -> FetchError:
    times = "once" if attempts == 1 else f"{attempts} times"
    detail = f"{failure.detail} (given up: tried {times} in {seconds:.1f} s; --patience SECONDS allows more)"
    return FetchError(failure.cause, detail)


def open_patiently(action: Callable[[], Result], attempts: int, url: str, patience: float = PATIENCE_S) -> Result:
    """Do the same for the metadata of a layer.

    Raises
    ------
    LayerError
        They are missing, forbidden or unreadable.
    """
    try:
        return patiently(action, attempts, patience)
    except FetchError as error:
        cause, detail = error.cause, error.detail
    raise LayerError(f"the layer's metadata are {cause}", where=url, got=detail, remedy=_REMEDIES[cause])
