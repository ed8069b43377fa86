"""Chunks shared by processes: asked for once, and never an error or a wrong voxel, whatever befalls the folder."""

from __future__ import annotations

import errno
import hashlib
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from layer_making import CHUNK, OFFSET, positions, precomputed
from servers import FaultyServer, http_server

from voxmint.errors import ChunkError
from voxmint.volumes import shared_chunks
from voxmint.volumes.box import Box
from voxmint.volumes.chunks import ChunkedLayer
from voxmint.volumes.opening import layer_from_spec, open_layer
from voxmint.volumes.shared_chunks import folder_for_chunks

pytest.importorskip("tensorstore", reason="needs voxmint[cloud]")
pytest.importorskip("cloudvolume", reason="needs voxmint[cloud]")

FIRST = Box.at(OFFSET, CHUNK)
NAME = "5-37_-7-25_11-27"
CHUNKS = 36
DIGEST = hashlib.sha256(positions().tobytes(order="F")).hexdigest()
READ = """
import hashlib, sys
from voxmint.volumes.opening import open_layer
layer = open_layer(sys.argv[1], reader=sys.argv[2], shared=sys.argv[3])
print("opened", flush=True)
sys.stdin.readline()
print(hashlib.sha256(layer.read(layer.bounds).array.tobytes(order="F")).hexdigest())
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served")
    precomputed(f"file://{folder}/raw", positions())
    return folder


@pytest.fixture
def server(folder: Path) -> Iterator[FaultyServer]:
    with http_server(folder) as server:
        yield server


def reading(server: FaultyServer, shared: Path, reader: str = "tensorstore", **how: object) -> subprocess.Popen[str]:
    """Open the layer in a process of its own, which reads all of it once it gets a line."""
    command = [sys.executable, "-c", READ, f"{server.url}/raw", reader, str(shared)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **how)


def opened(server: FaultyServer, shared: Path, **options: object) -> ChunkedLayer:
    layer = open_layer(f"{server.url}/raw", shared=shared, **options)
    assert isinstance(layer, ChunkedLayer)
    return layer


def asked(server: FaultyServer) -> dict[str, int]:
    return {path: n for path, n in server.requests.items() if not path.endswith(("info", "provenance"))}


@contextmanager
def stuck(server: FaultyServer, shared: Path) -> Iterator[None]:
    """Have a process that waits for all chunks, which it never gets; kill it at the end of the block."""
    process = reading(server, shared)
    assert process.stdout.readline() == "opened\n"
    server.delay_s = 30.0
    process.stdin.write("\n")
    process.stdin.flush()
    try:
        for _ in range(3000):
            if len(asked(server)) == CHUNKS:
                break
            time.sleep(0.01)
        assert len(asked(server)) == CHUNKS
        server.delay_s = 0.0
        yield
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("readers", [("tensorstore", "tensorstore"), ("cloudvolume", "tensorstore")])
def test_two_processes_ask_for_each_chunk_once(server: FaultyServer, tmp_path: Path, readers: tuple[str, str]) -> None:
    """Both read all of a slow layer at the same time, and each gets every voxel."""
    server.delay_s = 0.2
    processes = [reading(server, tmp_path / "shared", reader) for reader in readers]
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    for process in processes:
        assert process.communicate(timeout=120)[0].split()[-1] == DIGEST
    assert len(asked(server)) == CHUNKS
    assert set(asked(server).values()) == {1}


def test_a_layer_opened_from_its_spec_shares(server: FaultyServer, tmp_path: Path) -> None:
    """So workers need to be told nothing else."""
    layer = opened(server, tmp_path / "shared")
    layer.read(layer.bounds)
    server.forget()
    other = layer_from_spec(layer.spec())
    assert np.array_equal(other.read(other.bounds).array, positions())
    assert asked(server) == {}
    assert not list((tmp_path / "shared").glob(".*"))  # nothing half-written is left


def test_a_killed_process_holds_nobody_up(
    server: FaultyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One waits while another fetches; that one dies in the middle, and the first fetches for itself."""
    monkeypatch.setattr(shared_chunks, "_ONE_ATTEMPT_S", 1e6)
    with stuck(server, tmp_path / "shared"):
        whole = opened(server, tmp_path / "shared").submit(FIRST)
        time.sleep(10 * shared_chunks._PAUSE_S)
        assert not whole.done()
        assert asked(server)[f"raw/4_6_40/{NAME}"] == 1
    assert np.array_equal(whole.result(timeout=60).array, positions()[:32, :32, :16])
    assert asked(server)[f"raw/4_6_40/{NAME}"] == 2


def test_a_slow_process_is_waited_for_only_so_long(
    server: FaultyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that does not answer one process may answer another."""
    monkeypatch.setattr(shared_chunks, "_ONE_ATTEMPT_S", 0.1)
    with stuck(server, tmp_path / "shared"):
        cutout = opened(server, tmp_path / "shared").read(FIRST)
    assert np.array_equal(cutout.array, positions()[:32, :32, :16])


@pytest.mark.parametrize("size", [0, 1000, 65535, 65537])
def test_a_file_of_another_size_is_fetched_again(server: FaultyServer, tmp_path: Path, size: int) -> None:
    """Whatever cut or extended it; the next process finds it whole."""
    opened(server, tmp_path / "shared").read(FIRST)
    left = tmp_path / "shared" / NAME
    data = left.read_bytes()
    left.write_bytes((data + b"\0")[:size])
    for requests in (1, 0):
        layer = opened(server, tmp_path / "shared")
        server.forget()
        assert np.array_equal(layer.read(FIRST).array, positions()[:32, :32, :16])
        assert sum(asked(server).values()) == requests
    assert left.read_bytes() == data


def test_a_file_that_cannot_be_written_is_not_shared(server: FaultyServer, tmp_path: Path) -> None:
    """Each write fails halfway: the process reads on, and nobody meets the halves."""

    def small_files_only() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

    process = reading(server, tmp_path / "shared", preexec_fn=small_files_only)
    assert process.communicate("\n", timeout=120)[0].split()[-1] == DIGEST
    assert [path.name for path in (tmp_path / "shared").iterdir()] == ["claims"]


def test_a_folder_that_cannot_be_made_is_not_shared(server: FaultyServer, tmp_path: Path) -> None:
    """A file stands where it should be."""
    (tmp_path / "taken").write_bytes(b"")
    layer = opened(server, tmp_path / "taken" / "shared")
    assert np.array_equal(layer.read(layer.bounds).array, positions())


def test_a_folder_that_goes_is_no_longer_shared(server: FaultyServer, tmp_path: Path) -> None:
    """A command that ends first may remove it."""
    with folder_for_chunks(tmp_path / "state") as shared:
        layer = opened(server, shared)
        layer.read(FIRST)
        assert (shared / NAME).is_file()
    assert np.array_equal(layer.read(layer.bounds).array, positions())
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_gets_its_space_back(
    server: FaultyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that any process left is removed once little is free."""
    opened(server, tmp_path / "shared").read(FIRST)
    monkeypatch.setattr(shared_chunks, "_RESERVE_BYTES", 1 << 62)
    layer = opened(server, tmp_path / "shared")
    assert np.array_equal(layer.read(layer.bounds).array, positions())
    assert [path.name for path in (tmp_path / "shared").iterdir()] == ["claims"]


def test_a_process_leaves_only_so_much(server: FaultyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest chunks go first."""
    monkeypatch.setattr(shared_chunks, "_MOST_BYTES", 3 * 65536)
    layer = opened(server, tmp_path / "shared")
    layer.read(FIRST)
    assert np.array_equal(layer.read(layer.bounds).array, positions())
    left = [path for path in (tmp_path / "shared").iterdir() if path.name != "claims"]
    assert 0 < sum(path.stat().st_size for path in left) <= 3 * 65536
    assert NAME not in {path.name for path in left}


@pytest.mark.usefixtures("short_pauses")
@pytest.mark.parametrize(("status", "requests"), [(404, 0), (403, 0), (503, 1)])
def test_a_refusal_is_shared_but_not_a_failure(
    server: FaultyServer, tmp_path: Path, status: int, requests: int
) -> None:
    """What is missing or forbidden stays so, what was unreadable may pass."""
    server.faults[NAME] = [status, ...]
    said = []
    for _ in range(2):
        layer = opened(server, tmp_path / "shared", attempts=1)
        server.forget()
        with pytest.raises(ChunkError) as caught:
            layer.read(FIRST)
        said.append((caught.value.cause, caught.value.got))
    assert said[0] == said[1]
    assert bool(asked(server)) == bool(requests)
    sparse = opened(server, tmp_path / "shared", attempts=1, sparse=True)
    if status == 404:
        assert not sparse.read(FIRST).array.any()


def test_local_layers_share_nothing(folder: Path, tmp_path: Path) -> None:
    """Reading them again costs no more."""
    open_layer(folder / "raw", shared=tmp_path / "shared").read(FIRST)
    assert list(tmp_path.iterdir()) == []


def test_the_folder_of_a_command_goes_with_it(tmp_path: Path) -> None:
    """After an error too, with what killed commands left; folders that others use stay."""
    stale = tmp_path / "out/.voxmint/chunks-0123"
    stale.mkdir(parents=True)
    (stale / NAME).write_bytes(b"old")

    def fails(state: Path) -> None:
        with folder_for_chunks(state) as shared:
            assert not stale.exists()
            shared.mkdir(parents=True)
            (shared / "claims").write_bytes(b"")
            raise KeyboardInterrupt

    for state in (tmp_path / "out/.voxmint", tmp_path / "new/deep/.voxmint"):
        with pytest.raises(KeyboardInterrupt):
            fails(state)
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")) == ["out", "out/.voxmint"]


@pytest.mark.parametrize("number", [errno.ENOTSUP, errno.ENOLCK, errno.ENOSYS])
def test_where_there_are_no_locks_chunks_are_shared_all_the_same(
    server: FaultyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Two processes may then fetch a chunk at once, but what one has left the other takes."""

    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.lockf", refuse)
    monkeypatch.setattr("fcntl.flock", refuse)
    for requests in (1, 0):
        layer = opened(server, tmp_path / "shared")
        server.forget()
        assert np.array_equal(layer.read(FIRST).array, positions()[:32, :32, :16])
        assert sum(asked(server).values()) == requests
