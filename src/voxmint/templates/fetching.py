"""Requests with bounded retries, which tell at once of a silent server; a file is continued where it stopped."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from voxmint.errors import DownloadError

Progress = Callable[[int, int], None]
"""Called with the bytes fetched so far and the bytes in all."""
Tell = Callable[[str], None]
"""Called with a line of text."""
PATIENCE_S = 6.0
_TELL_EVERY_S = 2.0
_LONGEST_RECORD = 4 << 20  # bytes; Zenodo's are some KB
_RETRY_STATUS = {408, 425, 429, 500, 502, 503, 504}
_AGAIN = "run the same command again: what was fetched is kept and continued"
Result = TypeVar("Result")


class Line:
    """A line to a server.

    Parameters
    ----------
    by_hand : str
        What a person can do without it.
    progress, tell : callable, optional
        Told of bytes, and in words.
    retries : int
        Failures in a row before giving up.
    pause : float
        Seconds before the first retry; doubled each time, up to a minute.
    patience : float, optional
        Seconds that may pass before the first byte of an answer, attempts and pauses together. Later, when the line
        has proven to be one, they are those of one attempt. A server that answers to be busy is not silent.
    """

    def __init__(
        self,
        by_hand: str,
        progress: Progress | None,
        tell: Tell | None,
        retries: int,
        pause: float,
        patience: float | None,
    ) -> None:
        self._by_hand, self._progress, self._tell = by_hand, progress, tell or (lambda _: None)
        self._retries, self._pause = retries, pause
        self._patience = PATIENCE_S if patience is None else patience
        self._until: float | None = None
        """When to give up, unless a byte has come."""

    def json(self, url: str) -> Any:
        """Return the JSON document at ``url``."""
        self._begin(url)
        import requests

        failures = 0
        while True:
            try:
                return json.loads(self._in_time(lambda: self._document(url), url))
            except (requests.RequestException, _TryAgainError) as error:
                failures += 1
                self._wait(failures, error, url)
            except (ValueError, RecursionError) as error:  # also of its encoding, and of nesting
                raise DownloadError("the answer is no JSON", where=url, got=str(error)) from error

    def fetch(self, url: str, part: Path, size: int) -> None:
        """Append to ``part`` until it has ``size`` bytes."""
        import requests

        if part.exists() and part.stat().st_size > size:
            part.unlink()
        self._begin(url)
        failures = 0
        while (have := part.stat().st_size if part.exists() else 0) < size:
            try:
                self._append(url, part, have, size)
                error: Exception = _TryAgainError("the connection ended early")
            except (requests.RequestException, _TryAgainError) as failure:
                error = failure
            now = part.stat().st_size if part.exists() else 0
            if now < size:
                failures = 1 if now > have else failures + 1
                self._wait(failures, error, url)

    def _begin(self, url: str) -> None:
        self._until = time.monotonic() + self._patience
        self._tell(f"asking {urlsplit(url).netloc}")

    def _document(self, url: str) -> bytes:
        import requests

        with requests.get(url, stream=True, timeout=self._patience) as answer:
            _check_status(answer, url)
            text = b""
            for chunk in answer.iter_content(1 << 16):
                text += chunk
                if len(text) > _LONGEST_RECORD:
                    raise DownloadError("the record's metadata are too long", where=url,
                                        expected=f"at most {_LONGEST_RECORD:,} bytes")  # fmt: skip
            return text

    def _append(self, url: str, part: Path, have: int, size: int) -> None:
        import requests

        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
        with self._in_time(
            lambda: requests.get(url, headers=headers, stream=True, timeout=self._patience), url
        ) as answer:
            _check_status(answer, url)
            # a server that does not know ranges sends all of it again
            continued = answer.status_code == 206 and answer.headers.get("Content-Range", "").startswith(
                f"bytes {have}-"
            )
            written = have if continued else 0
            with part.open("ab" if continued else "wb") as file:
                for chunk in answer.iter_content(1 << 16):  # a break loses what of a chunk has come
                    self._until = None
                    written += len(chunk)
                    if written > size:
                        raise DownloadError("the server sends more bytes than the record claims", where=url,
                                            expected=size, got=f"at least {written}")  # fmt: skip
                    file.write(chunk)
                    if self._progress is not None:
                        self._progress(written, size)

    def _in_time(self, action: Callable[[], Result], url: str) -> Result:
        """Return what ``action`` returns, telling while it does not: to look a name up takes any time."""
        outcome: Future[Result] = Future()

        def work() -> None:
            try:
                outcome.set_result(action())
            except Exception as error:  # raised again where it is waited for
                outcome.set_exception(error)

        threading.Thread(target=work, name="voxmint-download", daemon=True).start()
        began = time.monotonic()
        until = began + self._patience if self._until is None else self._until
        while not outcome.done():
            now = time.monotonic()
            if now >= until:
                raise _TryAgainError(f"no answer within {now - began:.0f} s", silent=True)
            wait((outcome,), timeout=min(_TELL_EVERY_S, until - now))
            if not outcome.done():
                self._tell(f"no answer from {urlsplit(url).netloc} in {time.monotonic() - began:.0f} s")
        return outcome.result()

    def _wait(self, failures: int, error: Exception, url: str) -> None:
        pause = min(60.0, self._pause * 2 ** (failures - 1))
        late = self._until is not None and getattr(error, "silent", True) and time.monotonic() + pause >= self._until
        if failures > self._retries or late:
            times = "1 attempt" if failures == 1 else f"{failures} attempts"
            raise DownloadError(f"no connection after {times}", where=url, got=_reason(error),
                                remedy=f"{_AGAIN}; {self._by_hand}") from error  # fmt: skip
        self._tell(f"{_reason(error)}; asked again in {pause:.0f} s")
        time.sleep(pause)


class _TryAgainError(Exception):
    """An answer that may be another one a little later, or none at all."""

    def __init__(self, what: str, *, silent: bool = False) -> None:
        self.silent = silent
        super().__init__(what)


def _reason(error: BaseException) -> str:
    """Return the innermost reason, without the objects that clients put before it."""
    for inner in (getattr(error, "reason", None), *error.args):
        if isinstance(inner, BaseException):
            return _reason(inner)
    return re.sub(r"^\S*\(.*?\): ", "", str(error)) or type(error).__name__


def _check_status(answer: Any, url: str) -> None:
    if answer.status_code in _RETRY_STATUS:
        raise _TryAgainError(f"HTTP {answer.status_code}")
    if answer.status_code not in (200, 206):
        raise DownloadError("the server refuses", where=url, expected="HTTP 200", got=f"HTTP {answer.status_code}",
                            remedy="check the address, or download the archive by hand")  # fmt: skip
