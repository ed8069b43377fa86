"""The tree of .npy files in buckets: what is sent, by whom, and when."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from test_npy_format import LAYOUT, NAMES, instance
from toy import ToySampler, contents

from voxmint.datasets.format import Target
from voxmint.datasets.npy import NpyFormat
from voxmint.runs.execute import execute
from voxmint.runs.verify import verify
from voxmint.stores.place import Store


@pytest.fixture(scope="module")
def buckets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Both emulators, and the environment in which clients find them."""
    for package in ("gcsfs", "s3fs", "moto", "gcp_storage_emulator"):
        pytest.importorskip(package, reason="needs voxmint[cloud,test]")
    from servers import both_clouds

    folder = tmp_path_factory.mktemp("clouds")
    with both_clouds(folder):
        yield


@pytest.mark.parametrize("scheme", ["gs", "s3"])
def test_a_run_into_a_bucket(tmp_path: Path, buckets: None, scheme: str) -> None:
    """Arrays equal those of a folder; recipe, records and manifest follow; a rerun adds nothing; verify reads all."""
    store = NpyFormat(f"{scheme}://bucket/{tmp_path.name}")
    execute(ToySampler(length=3), NpyFormat(), tmp_path / "local", workers=1)
    assert execute(ToySampler(length=3), store, tmp_path / "run", workers=1).complete
    bucket, local = Store(store.root), contents(tmp_path / "local")
    arrays = {name: data for name, data in local.items() if name.endswith(".npy")}
    assert {name: bucket.read(name) for name in bucket.list() if name.endswith(".npy")} == arrays
    for name in ("recipe.yaml", "records.jsonl", "manifest.jsonl"):
        assert bucket.read(name) == (tmp_path / "run" / name).read_bytes()
    assert bucket.read("records.jsonl") == local["records.jsonl"]
    assert execute(ToySampler(length=3), store, tmp_path / "run", workers=1).made == 0
    assert verify(tmp_path / "run").ok
    bucket.delete(next(iter(arrays)))
    assert len(verify(tmp_path / "run").problems) == 1


def test_arrays_of_a_sample_are_sent_at_the_same_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bucket answers none of them before it has all four."""
    from servers import s3_environment

    together, sent = threading.Barrier(len(NAMES), timeout=20), {}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_PUT(self) -> None:
            sent[self.path] = self.rfile.read(int(self.headers["Content-Length"]))
            together.wait()
            self.send_response(200)
            self.send_header("ETag", '"0"')
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    for name, value in s3_environment(f"http://127.0.0.1:{server.server_address[1]}").items():
        monkeypatch.setenv(name, value)
    try:
        files = NpyFormat(f"s3://bucket/{tmp_path.name}").write(Target(tmp_path, 1, LAYOUT), instance(0, 1))
    finally:
        server.shutdown()
        server.server_close()
    assert files == []
    assert len(sent) == len(NAMES)


def test_workers_use_the_credentials_of_the_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The parent and its workers send what the secrets file says, not what the environment does; nothing records it."""
    for package in ("s3fs", "moto"):
        pytest.importorskip(package, reason="needs voxmint[cloud,test]")
    from servers import s3_environment

    objects: dict[str, bytes] = {}
    senders: dict[str, set[str]] = {}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_PUT(self) -> None:
            objects[self.path.partition("?")[0]] = self.rfile.read(int(self.headers["Content-Length"]))
            senders.setdefault(self.path.partition("?")[0], set()).add(self.headers["Authorization"])
            self._answer(200, b"")

        def do_GET(self) -> None:
            path, _, query = self.path.partition("?")
            if "list-type" in query:
                self._answer(200, b"<ListBucketResult><KeyCount>0</KeyCount></ListBucketResult>")
            else:
                self._answer(200 if path in objects else 404, objects.get(path, b""))

        do_HEAD = do_GET  # noqa: N815

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("ETag", '"0"')
            self.send_header("Last-Modified", "Thu, 01 Jan 1970 00:00:00 GMT")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    for name, value in s3_environment(f"http://127.0.0.1:{server.server_address[1]}").items():
        monkeypatch.setenv(name, value)
    secrets = tmp_path / "secrets.json"
    secrets.write_text(json.dumps({"AWS_ACCESS_KEY_ID": "AKIDOFTHEFILE", "AWS_SECRET_ACCESS_KEY": "hidden-word"}))
    try:
        store = NpyFormat("s3://bucket/place", secrets=str(secrets))
        assert execute(ToySampler(length=2, side=4), store, tmp_path / "run", workers=1).complete
    finally:
        server.shutdown()
        server.server_close()
    assert len(senders) == 2 * 2 + 3
    assert all("AKIDOFTHEFILE" in sender for sent in senders.values() for sender in sent)
    recorded = [*objects.values(), *(path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file())]
    assert not any(word in data for data in recorded for word in (b"AKIDOFTHEFILE", b"hidden-word", b"secrets.json"))


def test_training_from_a_bucket_with_forked_workers(tmp_path: Path, buckets: None) -> None:
    """The address alone is enough; workers make clients of their own."""
    torch = pytest.importorskip("torch", reason="needs voxmint[torch]")
    from voxmint.torch import PairDataset

    url = f"s3://bucket/{tmp_path.name}"
    execute(ToySampler(length=4), NpyFormat(url), tmp_path, workers=1)
    dataset = PairDataset(url)
    alone = [dataset[n] for n in range(4)]
    loader = torch.utils.data.DataLoader(dataset, batch_size=1, num_workers=1, multiprocessing_context="fork")
    for one, many in zip(alone, loader, strict=True):
        assert all(torch.equal(a, b[0]) for a, b in zip(one, many, strict=True))
