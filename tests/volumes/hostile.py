"""A server on the loopback that answers as nobody should: without end, with bombs, drop by drop, or never."""

from __future__ import annotations

import contextlib
import gzip
import threading
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path

from servers import FaultyServer

_PIECE = bytes(1 << 16)


def zeros(size: int) -> bytes:
    """Return ``size`` zero bytes, packed by gzip."""
    return gzip.compress(bytes(size), 6)


class HostileServer(FaultyServer):
    """Serves a folder, and answers requests for names in ``tricks`` in another way.

    Attributes
    ----------
    tricks : dict of str to str
        Last part of a path to "endless", "announced", "bomb", "drops", "silent", "whole" (no byte ranges), or "short"
        (a byte less than the range).
    bomb : bytes
        The body of a bomb.
    sent : int
        Bytes of endless bodies that clients took.
    """

    def __init__(self, folder: Path) -> None:
        self.tricks: dict[str, str] = {}
        self.bomb, self.sent = b"", 0
        self.ended = threading.Event()
        super().__init__(folder)

    def close(self) -> None:
        self.ended.set()
        super().close()

    def _send(self, handler: BaseHTTPRequestHandler, path: str, *, with_body: bool) -> None:
        trick = self.tricks.get(path.rsplit("/", 1)[-1], self.tricks.get("*"))
        if trick is None:
            super()._send(handler, path, with_body=with_body)
        else:
            handler.close_connection = True
            with contextlib.suppress(OSError):
                getattr(self, f"_{trick}")(handler, path)

    def _silent(self, handler: BaseHTTPRequestHandler, path: str) -> None:
        self.ended.wait(600)

    def _drops(self, handler: BaseHTTPRequestHandler, path: str) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
        while not self.ended.wait(0.05):
            handler.wfile.write(b"x")

    def _endless(self, handler: BaseHTTPRequestHandler, path: str, head: tuple[str, str] = ("X", "x")) -> None:
        handler.send_response(206 if handler.headers.get("Range") else 200)
        handler.send_header(*head)
        handler.end_headers()
        while not self.ended.is_set():
            handler.wfile.write(_PIECE)
            self.sent += len(_PIECE)

    def _announced(self, handler: BaseHTTPRequestHandler, path: str) -> None:
        self._endless(handler, path, ("Content-Length", str(1 << 40)))

    def _short(self, handler: BaseHTTPRequestHandler, path: str) -> None:
        first, last = handler.headers["Range"].removeprefix("bytes=").split("-")
        handler.headers.replace_header("Range", f"bytes={first}-{int(last) - 1}")
        super()._send(handler, path, with_body=True)

    def _whole(self, handler: BaseHTTPRequestHandler, path: str) -> None:
        del handler.headers["Range"]
        super()._send(handler, path, with_body=True)

    def _bomb(self, handler: BaseHTTPRequestHandler, path: str) -> None:
        handler.send_response(200)
        handler.send_header("Content-Encoding", "gzip")
        handler.send_header("Content-Length", str(len(self.bomb)))
        handler.end_headers()
        handler.wfile.write(self.bomb)


def seconds_of(action: object) -> float:
    """Return how long a call took."""
    start = time.monotonic()
    action()  # type: ignore[operator]
    return time.monotonic() - start
