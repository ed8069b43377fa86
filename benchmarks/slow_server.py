"""A file server that answers late, in a process of its own, so that it takes no time of the process that is measured.

    python benchmarks/slow_server.py FOLDER DELAY

It prints its port, and counts on ``/_counts``, which also makes it count from nothing again.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path


class Files:
    """The files of a folder, read once, and what was asked for."""

    def __init__(self, folder: Path, delay: float) -> None:
        self.delay = delay
        self.data = {f"/{path.relative_to(folder)}": path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        self.requests = self.in_flight = self.most_in_flight = 0

    def counts(self) -> bytes:
        """Return the counts, of chunks alone, as JSON and forget them."""
        counts = {"requests": self.requests, "most_in_flight": self.most_in_flight}
        self.requests = self.most_in_flight = 0
        return json.dumps(counts).encode()


class Connection(asyncio.Protocol):
    """One connection, which asks for one thing after the other."""

    def __init__(self, files: Files) -> None:
        self.files, self.pending = files, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where to answer."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer after the delay, once a request is whole."""
        self.pending += data
        while (end := self.pending.find(b"\r\n\r\n")) >= 0:
            head, self.pending = self.pending[:end], self.pending[end + 4 :]
            path = head.split(b" ", 2)[1].decode()
            if path == "/_counts":
                self.send(b"200 OK", self.files.counts())
                continue
            files = self.files
            files.requests += not path.endswith("/info")
            files.in_flight += 1
            files.most_in_flight = max(files.most_in_flight, files.in_flight)
            asyncio.get_running_loop().call_later(files.delay, self.answer, path)

    def answer(self, path: str) -> None:
        """Send a file, or say that there is none."""
        self.files.in_flight -= 1
        body = self.files.data.get(path)
        self.send(b"404 Not Found" if body is None else b"200 OK", body or b"")

    def send(self, status: bytes, body: bytes) -> None:
        """Send one answer."""
        if not self.transport.is_closing():
            head = b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n" % (status, len(body))
            self.transport.writelines([head, body])


class SlowServer:
    """The server as the measured process knows it."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"

    def counts(self) -> dict[str, int]:
        """Return requests of chunks, and the most in flight at a time, since the last call."""
        with urllib.request.urlopen(f"{self.url}/_counts") as answer:
            counts: dict[str, int] = json.load(answer)
        return counts


@contextlib.contextmanager
def slow_server(folder: Path, delay: float) -> Iterator[SlowServer]:
    """Serve a folder while the block runs."""
    command = [sys.executable, __file__, str(folder), str(delay)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield SlowServer(int(process.stdout.readline()))
        finally:
            process.terminate()


async def serve(folder: Path, delay: float) -> None:
    """Serve for ever."""
    files = Files(folder, delay)
    server = await asyncio.get_running_loop().create_server(lambda: Connection(files), "127.0.0.1", 0, backlog=512)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), float(sys.argv[2])))
