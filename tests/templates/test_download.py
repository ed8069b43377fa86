"""The download, against a server that speaks Zenodo's format and misbehaves."""

from __future__ import annotations

import hashlib
import io
import json
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from voxmint.errors import DownloadError
from voxmint.templates.download import RECORDS, download
from voxmint.templates.unzip import unzip

NAME = "Totalsegmentator_dataset.zip"


def archive(**members: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return stream.getvalue()


class Zenodo(ThreadingHTTPServer):
    """One record with one archive; breaks off after ``break_after`` bytes while ``breaks`` last."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        noise = np.random.default_rng(0).bytes(900_000)
        self.data = archive(**{"tree/s0000/segmentations/liver.nii.gz": noise, "tree/meta.csv": b"a;b"})
        self.md5, self.ranges, self.breaks, self.break_after, self.busy = "", True, 0, 300_000, 0
        self.busy_status, self.claimed, self.metadata = 503, 0, b""
        self.requests: list[str] = []
        self.sent = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of connections that the client or the test broke."""


class Handler(BaseHTTPRequestHandler):
    server: Zenodo

    def log_message(self, *_: object) -> None:
        """Keep the test's output clean."""

    def do_GET(self) -> None:
        server = self.server
        server.requests.append(f"{self.path} {self.headers.get('Range', '')}".strip())
        if server.metadata and self.path.startswith("/api/records/"):
            self.answer(200, server.metadata, {})
        elif server.busy:
            server.busy -= 1
            self.send_response(server.busy_status)
            self.end_headers()
        elif self.path.startswith("/api/records/"):
            md5 = server.md5 or hashlib.md5(server.data).hexdigest()
            link = {"self": f"{server.url}/files/{NAME}"}
            files = [{"key": NAME, "size": server.claimed or len(server.data), "checksum": f"md5:{md5}", "links": link},
                     {"key": "images.tar", "size": 10**9, "checksum": "md5:x", "links": link}]  # fmt: skip
            self.answer(200, json.dumps({"files": files}).encode(), {})
        else:
            start = int((self.headers.get("Range") or "bytes=0-")[6:-1]) if server.ranges else 0
            about = {"Content-Range": f"bytes {start}-{len(server.data) - 1}/{len(server.data)}"}
            self.answer(206 if start else 200, server.data[start:], about if start else {})

    def answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.server.breaks and self.path.startswith("/files/"):
            self.server.breaks -= 1
            body = body[: self.server.break_after]
        self.wfile.write(body)
        self.server.sent += len(body)


@pytest.fixture
def zenodo() -> Iterator[Zenodo]:
    with Zenodo() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def fetch(zenodo: Zenodo, out: Path, version: str = "v1", **options: object) -> Path:
    return download(version, out, base_url=zenodo.url, pause=0.001, **options)


def test_a_line_that_breaks_is_continued(zenodo: Zenodo, tmp_path: Path) -> None:
    """After two breaks the archive is whole, little was fetched twice, and progress was told."""
    zenodo.breaks = 2
    told: list[tuple[int, int]] = []
    folder = fetch(zenodo, tmp_path, progress=lambda done, total: told.append((done, total)))
    assert (folder / "tree/meta.csv").read_bytes() == b"a;b"
    assert (folder / "tree/s0000/segmentations/liver.nii.gz").stat().st_size == 900_000
    assert zenodo.requests[0] == f"/api/records/{RECORDS['v1']}"
    starts = [int(asked.rpartition("=")[2][:-1]) for asked in zenodo.requests[2:]]
    assert 200_000 < starts[0] <= 300_000
    assert 400_000 < starts[1] <= 600_000
    assert zenodo.sent < 1.2 * len(zenodo.data)
    assert told[-1] == (len(zenodo.data), len(zenodo.data))
    assert told == sorted(told)
    assert [path.name for path in tmp_path.iterdir()] == ["totalsegmentator_v1"]


def test_a_line_may_break_for_ever_as_long_as_it_moves(zenodo: Zenodo, tmp_path: Path) -> None:
    """More breaks than retries, each after a little progress, do not stop it: only failures in a row count."""
    zenodo.breaks, zenodo.break_after = 6, 100_000
    fetch(zenodo, tmp_path, retries=1, keep_archive=True)
    assert zenodo.breaks == 0
    assert (tmp_path / NAME).read_bytes() == zenodo.data


@pytest.mark.parametrize("retries", [0, 1, 3])
def test_so_many_retries_as_were_asked_for(zenodo: Zenodo, tmp_path: Path, retries: int) -> None:
    """One attempt and the retries, for metadata and for the archive; with one failure fewer all is well."""
    zenodo.busy = 99
    with pytest.raises(DownloadError, match=f"after {retries + 1} attempts?"):
        fetch(zenodo, tmp_path, retries=retries)
    assert len(zenodo.requests) == retries + 1
    zenodo.busy, zenodo.breaks, zenodo.break_after = retries, 99, 0
    with pytest.raises(DownloadError, match=f"after {retries + 1} attempts?"):
        fetch(zenodo, tmp_path, retries=retries)
    assert sum("/files/" in asked for asked in zenodo.requests) == retries + 1
    zenodo.breaks = retries
    assert (fetch(zenodo, tmp_path, retries=retries) / "tree/meta.csv").exists()


def test_a_stopped_download_is_continued_by_the_next(zenodo: Zenodo, tmp_path: Path) -> None:
    """What an earlier process fetched is not fetched again; a finished one asks for nothing."""
    zenodo.breaks, zenodo.break_after = 99, 0
    (tmp_path / f"{NAME}.part").write_bytes(zenodo.data[:500_000])
    with pytest.raises(DownloadError, match="attempts") as caught:
        fetch(zenodo, tmp_path, retries=2)
    assert caught.value.remedy
    assert (tmp_path / f"{NAME}.part").stat().st_size == 500_000
    zenodo.breaks = 0
    fetch(zenodo, tmp_path, keep_archive=True)
    assert zenodo.requests[-1].endswith("bytes=500000-")
    assert (tmp_path / NAME).read_bytes() == zenodo.data
    asked = len(zenodo.requests)
    fetch(zenodo, tmp_path)
    assert len(zenodo.requests) == asked


def test_a_kept_archive_is_not_fetched_again(zenodo: Zenodo, tmp_path: Path) -> None:
    """With the whole archive there, only its metadata are asked for."""
    (tmp_path / NAME).write_bytes(zenodo.data)
    assert (fetch(zenodo, tmp_path) / "tree/meta.csv").exists()
    assert len(zenodo.requests) == 1


def test_a_server_without_ranges_starts_over(zenodo: Zenodo, tmp_path: Path) -> None:
    """If the answer is the whole file, the part is replaced, not appended to."""
    zenodo.ranges, zenodo.breaks = False, 1
    assert (fetch(zenodo, tmp_path) / "tree/meta.csv").read_bytes() == b"a;b"


def test_a_busy_server_is_asked_again(zenodo: Zenodo, tmp_path: Path) -> None:
    """503 is retried, for metadata and files."""
    zenodo.busy = 2
    assert fetch(zenodo, tmp_path, "v2").name == "totalsegmentator_v2"
    assert len(zenodo.requests) == 4


@pytest.mark.parametrize("status", [400, 403, 404, 410, 501])
@pytest.mark.parametrize("whole", [True, False])
def test_a_refusal_is_not_asked_again(zenodo: Zenodo, tmp_path: Path, status: int, whole: bool) -> None:
    """What stays so is told at once, with its number: for the metadata, and for an archive that vanished since."""
    zenodo.busy_status, zenodo.busy = status, 99
    if not whole:
        (tmp_path / f"{NAME}.part").write_bytes(zenodo.data[:9])
        answer = {"files": [{"key": NAME, "size": len(zenodo.data), "checksum": f"md5:{'0' * 32}",
                             "links": {"self": f"{zenodo.url}/files/{NAME}"}}]}  # fmt: skip
        zenodo.metadata = json.dumps(answer).encode()
    with pytest.raises(DownloadError, match=rf"refuses(.|\n)*HTTP {status}") as caught:
        fetch(zenodo, tmp_path)
    assert caught.value.remedy
    assert sum(("/files/" in asked) != whole for asked in zenodo.requests) == 1


def test_a_part_that_is_too_long_is_fetched_anew(zenodo: Zenodo, tmp_path: Path) -> None:
    """It cannot be the beginning of this archive."""
    (tmp_path / f"{NAME}.part").write_bytes(zenodo.data + b"x")
    fetch(zenodo, tmp_path, keep_archive=True)
    assert (tmp_path / NAME).read_bytes() == zenodo.data
    assert zenodo.requests[-1] == f"/files/{NAME}"


def test_more_bytes_than_claimed_are_refused(zenodo: Zenodo, tmp_path: Path) -> None:
    """A server that goes on sending does not fill the disk, though the checksum would be right at the end."""
    zenodo.claimed = 200_000
    with pytest.raises(DownloadError, match="more bytes than the record claims"):
        fetch(zenodo, tmp_path)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 200_000


def test_a_wrong_checksum_is_told_and_removed(zenodo: Zenodo, tmp_path: Path) -> None:
    """The error has both checksums; neither the archive nor a folder stays."""
    zenodo.md5 = "0" * 32
    with pytest.raises(DownloadError) as caught:
        fetch(zenodo, tmp_path)
    assert "0" * 32 in str(caught.value.expected)
    assert hashlib.md5(zenodo.data).hexdigest() in str(caught.value.got)
    assert list(tmp_path.iterdir()) == []


def test_refusals_are_told(zenodo: Zenodo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown version, a missing server and a full disk are errors before anything is fetched."""
    with pytest.raises(DownloadError, match="v1, v2"):
        fetch(zenodo, tmp_path, "v3")
    with pytest.raises(DownloadError, match="attempts"):
        download("v1", tmp_path, base_url="http://127.0.0.1:9", retries=1, pause=0.001)
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": len(zenodo.data)}))
    with pytest.raises(DownloadError, match="not enough free space"):
        fetch(zenodo, tmp_path)
    assert len(zenodo.requests) == 1


def link() -> zipfile.ZipInfo:
    info = zipfile.ZipInfo("tree/link")
    info.external_attr = 0o120777 << 16
    return info


@pytest.mark.parametrize("name", ["../outside", "a/../../outside", "/absolute", "C:\\outside", "..\\outside", link()])
def test_unsafe_members_write_nothing(tmp_path: Path, name: str | zipfile.ZipInfo) -> None:
    """Members with .., absolute paths or links are refused before any member is written."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr("good", b"x")
        file.writestr(name, b"/etc/passwd")
    with pytest.raises(DownloadError, match="unsafe archive"):
        unzip(tmp_path / "a.zip", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


def test_what_the_disk_cannot_hold_is_not_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte less than the members need is refused before one is written; as much is enough."""
    (tmp_path / "a.zip").write_bytes(archive(a=bytes(5_000), b=bytes(3_000)))
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 7_999}))
    with pytest.raises(DownloadError, match="not enough free space to unpack"):
        unzip(tmp_path / "a.zip", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 8_000}))
    unzip(tmp_path / "a.zip", tmp_path / "out")
    assert (tmp_path / "out/b").stat().st_size == 3_000


def test_sizes_are_held_to_their_claims(tmp_path: Path) -> None:
    """A member that claims less than it holds, claims more than it can hold, or is damaged, leaves nothing."""
    data = archive(a=bytes(500_000))
    at = data.rindex(b"PK\x01\x02") + 24
    random = archive(a=np.random.default_rng(0).bytes(9_000))
    damaged = random[:5000] + bytes([random[5000] ^ 1]) + random[5001:]
    for size, source in ((1000, data), (4_000_000_000, data), (None, damaged), (None, data[:300])):
        changed = source if size is None else source[:at] + size.to_bytes(4, "little") + source[at + 4 :]
        (tmp_path / "a.zip").write_bytes(changed)
        with pytest.raises(DownloadError):
            unzip(tmp_path / "a.zip", tmp_path / "out")
        assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


def special(mode: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo("special")
    info.external_attr = mode << 16
    return info


REFUSED = {
    "the same name twice": [("a", b"x"), ("a", b"y")],
    "the same file by two names": [("a/b", b"x"), ("a//./b", b"y")],
    "a folder in a file": [("a", b"x"), ("a/b", b"y")],
    "a file over a folder": [("a/b", b"x"), ("a", b"y")],
    "a name too long": [("n" * 300, b"x")],
    "a path too long": [("d/" * 3000 + "f", b"x")],
    "the folder itself": [(".", b"x")],
    "a pipe": [(special(0o010644), b"")],
    "a device": [(special(0o020644), b"")],
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_members_that_cannot_be_unpacked_leave_nothing(tmp_path: Path, name: str) -> None:
    """What would replace another member, cannot be written, or is no file, is told, and no folder stays."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        for member, data in [("good", b"x"), *REFUSED[name]]:
            file.writestr(member, data)
    with pytest.raises(DownloadError, match=r"a\.zip") as caught:
        unzip(tmp_path / "a.zip", tmp_path / "out")
    assert caught.value.remedy
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("more", [-1, 1])
def test_a_member_has_the_size_it_claims(tmp_path: Path, method: int, more: int) -> None:
    """One byte more or less than claimed is an error, packed or not."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as file:
        file.writestr("a", np.random.default_rng(0).bytes(9_000))
    data = stream.getvalue()
    at = data.rindex(b"PK\x01\x02") + 24
    (tmp_path / "a.zip").write_bytes(data[:at] + (9_000 + more).to_bytes(4, "little") + data[at + 4 :])
    with pytest.raises(DownloadError, match="damaged"):
        unzip(tmp_path / "a.zip", tmp_path / "out")


def test_odd_answers_and_folders_are_told(zenodo: Zenodo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Metadata without end, of sizes or names that are none, and folders that cannot be, are download errors."""
    for name in ("n" * 256, "\ud800", "a\0b"):
        with pytest.raises(DownloadError):
            fetch(zenodo, tmp_path / name)
    answer = Handler.answer
    entry = {"key": NAME, "size": 1, "checksum": "md5:" + "0" * 32, "links": {"self": f"{zenodo.url}/files/a"}}
    odd = [b"[" * 100_000, b'"' + b"x" * (5 << 20), b"\xff", b"[]"]
    names = ("n" * 251 + ".zip", "a\0.zip", "\ud800.zip", None)
    changes = [{"key": name} for name in names] + [{"size": size} for size in (float("inf"), None)]
    odd += [json.dumps({"files": [entry | change]}).encode() for change in changes]
    for body in odd:
        monkeypatch.setattr(
            Handler, "answer", lambda self, status, _, headers, body=body: answer(self, status, body, {})
        )
        with pytest.raises(DownloadError):
            fetch(zenodo, tmp_path)
        assert list(tmp_path.iterdir()) == []
