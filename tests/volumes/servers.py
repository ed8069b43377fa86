"""Servers on the loopback for tests of layers and stores: an HTTP server that misbehaves, a GCS and an S3 emulator."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

BREAK = -1
"""Instead of a status: half of the body, then the connection is closed."""
_GCS = re.compile(r"(?:download/)?storage/v1/b/([^/]+)/o/(.+)")
RESET = -2
"""Instead of a status: the connection is closed before any answer."""


class Loopback:
    """A server on the loopback that answers by a handler, until it is closed.

    Attributes
    ----------
    url : str
        Its address.
    """

    def __init__(self, handler: type[BaseHTTPRequestHandler]) -> None:
        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 256

            def handle_error(self, request: object, client_address: object) -> None:
                pass  # a client that went away, or a connection broken on purpose

        self._server = Server(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class FaultyServer(Loopback):
    """Serves a folder over HTTP/1.1 with byte ranges, and misbehaves on demand.

    Attributes
    ----------
    delay_s : float
        Added to every answer.
    faults : dict of str to list of int
        Path (or its last part) to what its next requests get: a status, `BREAK` or `RESET`. Used up one by one, the
        last one stays when it is followed by an Ellipsis.
    requests : Counter
        How often each path was asked for.
    queries : list of str
        The query of each request.
    authorizations : set of str
        The Authorization headers seen; '' for none.
    most_in_flight : int
        The largest number of requests being answered at one time.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.delay_s = folder, 0.0
        self.faults: dict[str, list[object]] = {}
        self.requests: Counter[str] = Counter()
        self.queries: list[str] = []
        self.authorizations: set[str] = set()
        self.most_in_flight = self._in_flight = 0
        self._lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                outer._answer(self, with_body=True)

            def do_HEAD(self) -> None:
                outer._answer(self, with_body=False)

            def log_message(self, *args: object) -> None:
                pass

        super().__init__(Handler)

    def forget(self) -> None:
        """Count from nothing again."""
        self.requests.clear()
        self.most_in_flight = 0

    def _fault(self, path: str) -> object:
        with self._lock:
            for name in (path, path.rsplit("/", 1)[-1], "*"):
                left = self.faults.get(name)
                if left:
                    return left[0] if len(left) > 1 and left[1] is ... else left.pop(0)
        return None

    def _answer(self, handler: BaseHTTPRequestHandler, *, with_body: bool) -> None:
        path, _, query = handler.path.partition("?")
        path = path.lstrip("/")
        if gcs := _GCS.match(path):  # so that clients of GCS, too, can be refused; those of S3 ask for /bucket/key
            path = f"{gcs[1]}/{urllib.parse.unquote(gcs[2])}"
        with self._lock:
            self.requests[path] += 1
            self.queries.append(query)
            self.authorizations.add(handler.headers.get("Authorization", ""))
            self._in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self._in_flight)
        try:
            if self.delay_s:
                time.sleep(self.delay_s)
            self._send(handler, path, with_body=with_body)
        finally:
            with self._lock:
                self._in_flight -= 1

    def _send(self, handler: BaseHTTPRequestHandler, path: str, *, with_body: bool) -> None:
        fault = self._fault(path)
        if fault == RESET:
            handler.close_connection = True
            with contextlib.suppress(OSError):
                handler.connection.shutdown(socket.SHUT_RDWR)
            return
        file = self.folder / path
        status, body = (200, file.read_bytes()) if file.is_file() else (404, b"none here")
        if isinstance(fault, int) and fault > 0:
            status, body = fault, b"refused"
        whole, total, wanted = body, len(body), handler.headers.get("Range")
        if status == 200 and wanted:
            first, last = wanted.removeprefix("bytes=").split("-")
            start = int(first) if first else max(0, total - int(last))
            stop = int(last) + 1 if first and last else total
            status, body = 206, body[start:stop]
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(body)))
        handler.send_header("ETag", f'"{hashlib.md5(whole).hexdigest()}"')  # clients of S3 check it
        if status == 206:
            handler.send_header("Content-Range", f"bytes {start}-{start + len(body) - 1}/{total}")
        handler.end_headers()
        if not with_body:
            return
        if fault == BREAK:
            handler.wfile.write(body[: len(body) // 2])
            handler.wfile.flush()
            handler.close_connection = True
            handler.connection.shutdown(socket.SHUT_RDWR)
            return
        handler.wfile.write(body)


def http_server(folder: Path) -> AbstractContextManager[FaultyServer]:
    """Serve ``folder`` while the block runs."""
    return contextlib.closing(FaultyServer(folder))


def free_port() -> int:
    """Return a port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def _service(command: list[str], url: str, log: Path) -> Iterator[str]:
    """Run a server program while the block runs; wait until it answers."""
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environment)
        try:
            deadline = time.monotonic() + 60
            while True:
                try:
                    urllib.request.urlopen(url, timeout=5).close()
                    break
                except urllib.error.HTTPError:
                    break  # it answers
                except OSError:
                    if process.poll() is not None or time.monotonic() > deadline:
                        raise RuntimeError(f"{command[:3]} does not answer:\n{log.read_text()}") from None
                    time.sleep(0.1)
            yield url
        finally:
            process.kill()
            process.wait()


@contextlib.contextmanager
def gcs_server(log: Path, bucket: str = "bucket") -> Iterator[str]:
    """Run the GCS emulator, in memory, with one bucket; yield its URL."""
    port = free_port()
    program = (
        "import sys; from gcp_storage_emulator.server import create_server;"
        "create_server('127.0.0.1', int(sys.argv[1]), in_memory=True, default_bucket=sys.argv[2]).run()"
    )
    with _service([sys.executable, "-c", program, str(port), bucket], f"http://127.0.0.1:{port}", log) as url:
        yield url


@contextlib.contextmanager
def s3_server(log: Path, bucket: str = "bucket") -> Iterator[str]:
    """Run moto's S3 server with one bucket; yield its URL."""
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with _service(command, f"http://127.0.0.1:{port}", log) as url:
        urllib.request.urlopen(urllib.request.Request(f"{url}/{bucket}", method="PUT"), timeout=30).close()
        yield url


def gcs_environment(url: str) -> dict[str, str]:
    """Return the environment in which all clients speak to the emulator at ``url``."""
    return {
        "STORAGE_EMULATOR_HOST": url,
        "TENSORSTORE_GCS_HTTP_URL": url,
        "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
    }


def s3_environment(url: str) -> dict[str, str]:
    """Return the environment in which all clients speak to the server at ``url``."""
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_SESSION_TOKEN": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
    }


@contextlib.contextmanager
def both_clouds(folder: Path) -> Iterator[None]:
    """Run both emulators, and let all clients speak to them, without credentials of whoever runs the tests."""
    with (
        gcs_server(folder / "gcs.log") as gcs,
        s3_server(folder / "s3.log") as s3,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, value in (gcs_environment(gcs) | s3_environment(s3)).items():
            patch.setenv(name, value)
        patch.setenv("CLOUD_VOLUME_DIR", str(folder))
        patch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
        yield
