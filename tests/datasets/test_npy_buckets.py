"""The tree of .npy files in buckets: what is sent, by whom, and when."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from test_npy_format import LAYOUT, NAMES, instance, kill_and_finish
from toy import ToySampler, contents

from voxmint.datasets.format import Output
from voxmint.datasets.npy import NpyFormat
from voxmint.errors import PlanError, StorageError, VerificationError
from voxmint.make.repair import bring_home
from voxmint.runs.execute import execute
from voxmint.runs.repair import repair
from voxmint.runs.verify import verify
from voxmint.stores.place import Place


@pytest.fixture(scope="module")
def buckets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Both emulators, and the environment in which clients find them."""
    for package in ("gcsfs", "s3fs", "moto", "gcp_storage_emulator"):
        pytest.importorskip(package, reason="needs voxmint[cloud,test]")
    from servers import both_clouds

    folder = tmp_path_factory.mktemp("clouds")
    with both_clouds(folder):
        yield


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the state of runs to buckets lies."""
    monkeypatch.setenv("VOXMINT_STATE", str(tmp_path / "state"))
    return tmp_path / "state"


@pytest.fixture(params=["gs", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path, buckets: None) -> str:
    """An address in each cloud where nothing is yet."""
    return f"{request.param}://bucket/{tmp_path.name}"


def objects(place: str) -> dict[str, bytes]:
    format = Place(place)
    return {name: format.read(name) for name in format.list()}


def another_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing be known here of earlier runs."""
    monkeypatch.setenv("VOXMINT_STATE", str(tmp_path / "another machine"))


def test_a_run_into_a_bucket(tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All files equal those of a folder; from any working directory a rerun adds nothing, and verify reads all."""
    execute(ToySampler(length=3), NpyFormat(), tmp_path / "local", workers=1)
    assert execute(ToySampler(length=3), NpyFormat(), place, workers=1).complete
    local = contents(tmp_path / "local")
    assert objects(place) == local
    assert {"recipe.yaml", "records.jsonl", "records.npy", "manifest.jsonl"} <= local.keys()
    monkeypatch.chdir(tmp_path / "local")
    assert execute(ToySampler(length=3), NpyFormat(), place, workers=1).made == 0
    assert contents(tmp_path / "local") == local
    Place(place).write("records.jsonl", local["records.jsonl"][::-1])
    assert execute(ToySampler(length=3), NpyFormat(), place, workers=1).made == 0
    assert objects(place) == local, "a summary of another content was put there again, though it had the right size"
    assert verify(place).ok
    Place(place).delete(next(name for name in local if "/" in name))
    assert len(verify(place).problems) == 2  # the file, and the sample that needs it
    with pytest.raises(VerificationError, match="missing or cut"):
        execute(ToySampler(length=3), NpyFormat(), place, workers=1)


@pytest.mark.parametrize("place", [pytest.param("gs", marks=pytest.mark.stress), "s3"], indirect=True)
def test_killed_at_random_moments_and_finished(place: str) -> None:
    """SIGKILL of everything, twice: the same command goes on, to the objects of an uninterrupted run."""
    kill_and_finish(f"{place}/whole", f"{place}/cut")
    whole = objects(f"{place}/whole")
    assert objects(f"{place}/cut") == whole
    assert len(whole) == 2 * 20 + 4


def test_a_place_of_another_data_set_is_refused(tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two data sets in one place, from one machine and from two: the second is refused and nothing is mixed."""
    execute(ToySampler(length=2), NpyFormat(), place, workers=1)
    before = objects(place)
    with pytest.raises(PlanError, match="another data set"):
        execute(ToySampler(length=2, seed=1), NpyFormat(), place, workers=1)
    another_machine(tmp_path, monkeypatch)
    with pytest.raises(PlanError, match="another data set"):
        execute(ToySampler(length=2, seed=1), NpyFormat(), place, workers=1)
    with pytest.raises(PlanError, match="another data set"):
        NpyFormat().begin(Output(tmp_path / "three", 2, ToySampler().layout(), note="another", url=place))
    assert objects(place) == before


def test_a_bucket_is_taken_before_anything_is_put_there(tmp_path: Path, place: str) -> None:
    """Of two machines that begin at the same time, the second learns of the first from its recipe."""
    output = Output(tmp_path / "one", 2, ToySampler().layout(), note="the first", url=place)
    NpyFormat().begin(output)
    assert objects(place) == {"recipe.yaml": b"the first"}
    NpyFormat().begin(output)
    with pytest.raises(PlanError, match="another data set"):
        NpyFormat().begin(Output(tmp_path / "two", 2, ToySampler().layout(), note="the second", url=place))


def test_lost_and_cut_files_are_found_and_made_again(
    tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From another machine, `verify` names what is missing, cut or changed, and `repair` makes that again alone."""
    execute(ToySampler(length=4), NpyFormat(), place, workers=1)
    another_machine(tmp_path, monkeypatch)
    assert verify(place).ok
    before, format = objects(place), Place(place)
    first, second, third = sorted(name for name in before if name.startswith("img/"))[:3]
    format.delete(first)
    format.write(second, before[second][:-1])
    format.write(third, before[third][:-1] + bytes([before[third][-1] ^ 1]))
    problems = verify(place).problems
    damaged = {problem.sample for problem in problems}
    assert len(damaged) == 3
    assert {first, second, third} <= {problem.file for problem in problems}
    bring_home(Output.at(place))
    assert repair(ToySampler(length=4), NpyFormat(), place, workers=1).made == 3
    assert objects(place) == before


@pytest.mark.parametrize(
    "summary",
    [
        "records.jsonl",
        *(pytest.param(n, marks=pytest.mark.stress) for n in ("recipe.yaml", "records.npy", "rejected.csv")),
    ],
)
def test_manifest_comes_last(place: str, summary: str, state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where another summary cannot be put there is no manifest yet; when it can, the same command ends what is left."""
    sampler = ToySampler(length=3, side=4, rejected={"1": "no mask"})
    write = Place.write

    def failing(self: Place, name: str, data: bytes) -> None:
        if not self.is_local and name == summary:
            raise StorageError("cannot write", where=f"{self.url}/{name}")
        write(self, name, data)

    with monkeypatch.context() as patch:
        patch.setattr(Place, "write", failing)
        with pytest.raises(StorageError, match=summary):
            execute(sampler, NpyFormat(), place, workers=1)
    assert not Place(place).exists("manifest.jsonl")
    assert execute(sampler, NpyFormat(), place, workers=1).complete
    for name in ("recipe.yaml", "records.jsonl", "records.npy", "rejected.csv", "manifest.jsonl"):
        assert Place(place).read(name) == (Output.at(place).directory / name).read_bytes()
    assert Output.at(place).directory.is_relative_to(state)


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
        files = NpyFormat().write(Output(tmp_path, 1, LAYOUT, url=f"s3://bucket/{tmp_path.name}"), instance(0, 1))
    finally:
        server.shutdown()
        server.server_close()
    assert len(sent) == len(files) == len(NAMES)
    assert {hashlib.sha256(data).hexdigest() for data in sent.values()} == {file["sha256"] for file in files}


def test_workers_use_the_credentials_of_the_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
        place = Output.at("s3://bucket/place", secrets)
        assert execute(ToySampler(length=2, side=4), NpyFormat(), place, workers=1).complete
    finally:
        server.shutdown()
        server.server_close()
    assert len(senders) == 2 * 2 + 4
    assert all("AKIDOFTHEFILE" in sender for sent in senders.values() for sender in sent)
    recorded = [*objects.values(), *(path.read_bytes() for path in (tmp_path / "state").rglob("*") if path.is_file())]
    assert not any(word in data for data in recorded for word in (b"AKIDOFTHEFILE", b"hidden-word", b"secrets.json"))


def test_training_from_a_bucket_with_forked_workers(
    tmp_path: Path, buckets: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The address alone is enough; workers make clients of their own."""
    torch = pytest.importorskip("torch", reason="needs voxmint[torch]")
    from voxmint.torch import PairDataset

    url = f"s3://bucket/{tmp_path.name}"
    execute(ToySampler(length=4), NpyFormat(), url, workers=1)
    another_machine(tmp_path, monkeypatch)
    dataset = PairDataset(url)
    alone = [dataset[n] for n in range(4)]
    loader = torch.utils.data.DataLoader(dataset, batch_size=1, num_workers=1, multiprocessing_context="fork")
    for one, many in zip(alone, loader, strict=True):
        assert all(torch.equal(a, b[0]) for a, b in zip(one, many, strict=True))
