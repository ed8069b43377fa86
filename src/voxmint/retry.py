"""Asking again: bounded retries with growing pauses, one policy for every client."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from voxmint.errors import Cause, LayerError

_FIRST_WAIT_S = 0.25
_LONGEST_WAIT_S = 8.0
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
    """

    def __init__(self, cause: Cause, detail: str) -> None:
        self.cause, self.detail = cause, detail
        super().__init__(detail)


def patiently(action: Callable[[], Result], attempts: int) -> Result:
    """Return what ``action`` returns, asking up to ``attempts`` times, with pauses of 0.25, 0.5, 1, ... up to 8 s.

    Raises
    ------
    FetchError
        The last failure; its detail says how often it was tried.
    """
    pause = _FIRST_WAIT_S
    for attempt in range(1, attempts + 1):
        try:
            return action()
        except FetchError as error:
            failure = error
        if failure.cause != "unreadable":
            break
        if attempt < attempts:
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_WAIT_S)
        elif attempts > 1:
            failure = FetchError(failure.cause, f"{failure.detail} (tried {attempts} times)")
    # raised outside the handler: what a client raised may quote a token, and must not be chained to it
    raise failure


def open_patiently(action: Callable[[], Result], attempts: int, url: str) -> Result:
    """Do the same for the metadata of a layer.

    Raises
    ------
    LayerError
        They are missing, forbidden or unreadable.
    """
    try:
        return patiently(action, attempts)
    except FetchError as error:
        cause, detail = error.cause, error.detail
    raise LayerError(f"the layer's metadata are {cause}", where=url, got=detail, remedy=_REMEDIES[cause])
