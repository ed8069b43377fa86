"""Objects over HTTP, each fetched in bounded time and to a bounded size, whatever the server sends.

One thread of the process, with one loop of asyncio, holds all connections: a thread a request would cost more, and
could not be woken when a server sends one byte a minute. TensorStore's and CloudVolume's own clients keep whatever
comes.
"""

from __future__ import annotations

import asyncio
import atexit
import base64
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from copy import copy
from functools import lru_cache, partial
from typing import Any
from urllib.parse import quote, unquote
from urllib.request import getproxies, proxy_bypass

from voxmint.errors import Cause
from voxmint.retry import FetchError, seconds_left
from voxmint.stores.secrets import Secrets, public_url, scrub
from voxmint.volumes.readers.codecs.unpack import unpacked
from voxmint.volumes.readers.time_limit import ATTEMPT_S

METADATA_BYTES = 64 << 20
"""More than any metadata have."""
_CAUSES: dict[int, Cause] = {404: "missing", 410: "missing", 401: "forbidden", 403: "forbidden"}
_SAFE = "/%:@!$&'()*+,;=~-._"
_PACKINGS = "gzip"
_HEADER_BYTES = 1 << 15

Span = tuple[int, int]


class Traffic:
    """What was asked for and came, packed as it came."""

    def __init__(self) -> None:
        self.requests = self.bytes = 0


class Web:
    """The objects below an address.

    Parameters
    ----------
    url : str
        ``http(s)://host/path``; user and password in it are sent as HTTP has it, and not shown.
    query : str
        Added to each address; not shown.
    secrets : Secrets, optional
        May hold ``user`` and ``password``.
    concurrency : int
        Requests at a time.
    headers : dict, optional
        Sent with each request.
    patience : float
        Most seconds of an attempt.
    """

    def __init__(
        self, url: str, query: str = "", secrets: Secrets | None = None, concurrency: int = 64,
        headers: dict[str, str] | None = None, patience: float = ATTEMPT_S,
    ) -> None:  # fmt: skip
        scheme, _, rest = url.partition("://")
        host, slash, path = rest.partition("/")
        user, _, host = host.rpartition("@")
        name, _, password = user.partition(":")
        self._login: tuple[str, str] | None = (unquote(name), unquote(password)) if user else None
        if secrets and {"user", "password"} <= set(secrets.values):
            self._login = (str(secrets.values["user"]), str(secrets.values["password"]))
        self._base, self._query = f"{scheme}://{host}{slash}{quote(path.rstrip('/'), safe=_SAFE)}", query
        self._secrets, self._headers = secrets, headers or {}
        self._patience = min(patience, ATTEMPT_S)
        # looked up once: the client would look through the environment and read ~/.netrc for each request
        proxy = None if proxy_bypass(host) else getproxies().get(scheme)
        self._proxy = proxy if proxy is None or "://" in proxy else f"http://{proxy}"
        self._free = asyncio.Semaphore(concurrency)
        self.traffic = Traffic()

    def below(self, name: str) -> Web:
        """Return a folder below, with the same bound of requests."""
        folder = copy(self)
        folder._base = self._url(name)
        return folder

    def start(self, name: str, most: int, span: Span | None = None, data: bytes | None = None) -> Future[bytes]:
        """Start fetching an object, or a span of its bytes; the future ends in time and raises `FetchError`.

        Parameters
        ----------
        name : str
            Below the address; '' for the address itself.
        most : int
            Bytes that it may have, unpacked or not.
        span : (int, int), optional
            First byte, and the one after the last; exactly these are returned.
        data : bytes, optional
            Posted; else it is a GET.
        """
        client = _client(os.getpid())
        fetching = self._fetch(client, name, most, span, data, seconds_left(self._patience))
        return asyncio.run_coroutine_threadsafe(fetching, client.loop)

    def get(self, name: str, most: int, span: Span | None = None, data: bytes | None = None) -> bytes:
        """Return what `start` starts to fetch."""
        return self.start(name, most, span, data).result()

    async def _fetch(
        self, client: _Client, name: str, most: int, span: Span | None, data: bytes | None, seconds: float
    ) -> bytes:
        import aiohttp
        from yarl import URL

        url, method = self._url(name), "GET" if data is None else "POST"
        url = f"{url}?{self._query}" if self._query else url
        shown = partial(self._shown, name)  # only where something fails: it takes time
        headers = {"Accept-Encoding": _PACKINGS, **self._headers}
        if span is not None:
            most = span[1] - span[0]
            headers |= {"Accept-Encoding": "identity", "Range": f"bytes={span[0]}-{span[1] - 1}"}
        if self._login:
            headers["Authorization"] = "Basic " + base64.b64encode(":".join(self._login).encode()).decode()
        began = time.monotonic()
        async with self._free:
            began = time.monotonic()
            try:
                async with client.session.request(
                    method, URL(url, encoded=True), headers=headers, data=data, proxy=self._proxy,
                    timeout=aiohttp.ClientTimeout(total=seconds),
                ) as answer:  # fmt: skip
                    return await _body(answer, most, span, shown, self.traffic)
            except FetchError as error:
                failure = FetchError(error.cause, error.detail)  # without the frames it came through
            except TimeoutError:
                failure = FetchError("unreadable", f"{shown()}: no answer within {seconds:.3g} s")
            except Exception as error:  # of the client, of TLS, of an address that is none
                text = f"{type(error).__name__}: {error}"
                failure = FetchError("unreadable", f"{shown()}: {self._scrub(text)}")
        failure.seconds = time.monotonic() - began
        raise failure

    def _url(self, name: str) -> str:
        return f"{self._base}/{quote(name, safe=_SAFE)}" if name else self._base

    def _shown(self, name: str) -> str:
        return self._scrub(public_url(self._url(name)))

    def _scrub(self, text: str) -> str:
        for secret in (self._query, *(self._login or ())):
            text = text.replace(secret, "***") if secret else text
        return self._secrets.scrub(text) if self._secrets else scrub(text)


async def _body(answer: Any, most: int, span: Span | None, shown: Callable[[], str], traffic: Traffic) -> bytes:
    traffic.requests += 1
    expected = 200 if span is None else 206
    if answer.status != expected:
        detail = f"{shown()}: status {answer.status}"
        if span is not None and answer.status == 200:
            detail += ": the server sends whole objects where parts are asked for"
        raise FetchError(_CAUSES.get(answer.status, "unreadable"), detail)
    packing = answer.headers.get("Content-Encoding", "")
    if span is not None and packing not in ("", "identity"):
        raise FetchError("unreadable", f"{shown()}: a part of an object that is packed as a whole")
    size = answer.content_length
    if size is not None and size > most:
        answer.close()
        raise FetchError("unreadable", f"{shown()} has {size} bytes, more than the {most} that it can have")
    parts: list[bytes] = []
    total = 0
    while part := await answer.content.readany():
        total += len(part)
        traffic.bytes += len(part)
        if total > most:
            answer.close()  # else what is still to come would be waited for
            parts.clear()  # the error would hold them
            raise FetchError("unreadable", f"{shown()} has more than the {most} bytes that it can have")
        parts.append(part)
    if span is not None and total != most:
        raise FetchError("unreadable", f"{shown()}: {total} bytes where {most} were asked for")
    data = parts[0] if len(parts) == 1 else b"".join(parts)
    if not packing:
        return data
    return await asyncio.get_running_loop().run_in_executor(None, unpacked, data, packing, most, shown())


class _Client:
    """The loop and the connections of a process."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.session: Any = None
        threading.Thread(target=self.loop.run_forever, name="voxmint-web", daemon=True).start()
        asyncio.run_coroutine_threadsafe(self._open(), self.loop).result()
        atexit.register(self._close, os.getpid())

    async def _open(self) -> None:
        import ssl

        import aiohttp
        import certifi

        trusted = ssl.create_default_context()
        trusted.load_verify_locations(certifi.where())
        self.session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=trusted, keepalive_timeout=60),
            cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False, read_bufsize=1 << 18,
            max_field_size=_HEADER_BYTES, max_line_size=_HEADER_BYTES,
        )  # fmt: skip

    def _close(self, process: int) -> None:
        if process == os.getpid():  # a fork has no thread that could answer
            asyncio.run_coroutine_threadsafe(self.session.close(), self.loop).result(timeout=5)
            self.loop.call_soon_threadsafe(self.loop.stop)


_lock = threading.Lock()


def _client(process: int) -> _Client:
    with _lock:  # of threads that ask first at the same time, one makes it
        return _client_of(process)


@lru_cache(maxsize=1)
def _client_of(process: int) -> _Client:  # noqa: ARG001 - threads and connections do not survive a fork
    return _Client()
