"""Layers over HTTP whose server sends too much, nothing, or names that lead elsewhere."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hostile import HostileServer, seconds_of, zeros
from layer_making import CHUNK, OFFSET, SIZE, chunked_array, labels, positions, precomputed

from voxmint import retry
from voxmint.errors import ChunkError, LayerError
from voxmint.volumes.box import Box
from voxmint.volumes.opening import open_layer
from voxmint.volumes.readers.codecs.packings import check_unpacks
from voxmint.volumes.readers.codecs.unpack import unpacked
from voxmint.volumes.readers.shards import morton_code, murmur_hash

pytest.importorskip("cloudvolume", reason="needs voxmint[cloud]")

FIRST = Box.at(OFFSET, CHUNK)
NAME = "5-37_-7-25_11-27"
SHARDS = ("0.shard", "1.shard")
READERS = pytest.mark.parametrize("reader", ["tensorstore", "cloudvolume"])
pytestmark = pytest.mark.usefixtures("short_pauses")
MOST = 64 << 20
"""Bytes that a server may have sent into buffers before a client that stops at 1.3 MB has closed the connection."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile")
    precomputed(f"file://{folder}/raw", positions())
    precomputed(f"file://{folder}/ids", labels(), "compressed_segmentation", sharded=True)
    for driver in ("zarr", "zarr3", "n5"):
        chunked_array(driver, folder / driver, positions(np.uint16))
    return folder


@pytest.fixture
def server(folder: Path) -> Iterator[HostileServer]:
    with closing(HostileServer(folder)) as server:
        yield server


@READERS
@pytest.mark.parametrize("trick", ["endless", "announced"])
@pytest.mark.parametrize("name", ["raw", "ids"])
def test_a_body_without_end_is_not_taken(server: HostileServer, reader: str, name: str, trick: str) -> None:
    """Of a chunk or a shard no more than it can have is read, and the chunk is unreadable."""
    layer = open_layer(f"{server.url}/{name}", reader=reader, attempts=1)
    server.tricks = dict.fromkeys((NAME, *SHARDS), trick)
    with pytest.raises(ChunkError, match=r"more than the|has 1099511627776 bytes") as caught:
        layer.read(FIRST)
    assert caught.value.cause == "unreadable"
    assert server.sent < MOST


@READERS
def test_metadata_without_end_are_not_taken(server: HostileServer, reader: str) -> None:
    """64 MiB are more than any have."""
    server.tricks["info"] = "announced"
    with pytest.raises(LayerError, match="more than the 67108864 that it can have"):
        open_layer(f"{server.url}/raw", reader=reader, attempts=1)
    assert server.sent < MOST


@READERS
@pytest.mark.parametrize("name", [NAME, "info"])
def test_a_bomb_is_not_unpacked(server: HostileServer, reader: str, name: str) -> None:
    """Packed content is unpacked to what can be there, and no further."""
    server.bomb = zeros(65 << 20)
    server.tricks[name] = "bomb"
    with pytest.raises(LayerError, match="unpacks to more than"):
        open_layer(f"{server.url}/raw", reader=reader, attempts=1).read(FIRST)


@READERS
def test_a_server_without_byte_ranges_is_told(server: HostileServer, reader: str) -> None:
    """A whole shard is not taken for a part of it."""
    layer = open_layer(f"{server.url}/ids", reader=reader, attempts=1)
    server.tricks = dict.fromkeys(SHARDS, "whole")
    with pytest.raises(ChunkError, match="sends whole objects where parts are asked for"):
        layer.read(FIRST)


def test_a_part_that_is_shorter_than_asked_for_is_told(server: HostileServer) -> None:
    """A byte that is missing from a range is missing, whatever the rest decodes to."""
    layer = open_layer(f"{server.url}/ids", attempts=1)
    server.tricks = dict.fromkeys(SHARDS, "short")
    with pytest.raises(ChunkError, match="15 bytes where 16 were asked for"):
        layer.read(FIRST)


@READERS
@pytest.mark.parametrize("trick", ["silent", "drops"])
@pytest.mark.parametrize("name", [NAME, "info"])
def test_patience_has_an_end(server: HostileServer, reader: str, name: str, trick: str) -> None:
    """The error says how long and how often it was tried, and which flag changes that."""
    server.tricks[name] = trick
    said: list[str] = []

    def read() -> None:
        with pytest.raises(LayerError, match="unreadable") as caught:
            open_layer(f"{server.url}/raw", reader=reader, patience=0.6).read(FIRST)
        said.append(str(caught.value))

    assert seconds_of(read) < 20
    assert "no answer within" in said[0]
    assert "tried once in 0.6 s; --patience SECONDS allows more" in said[0]


def test_patience_covers_attempts_and_pauses(server: HostileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that fails at once, again and again, is not asked for longer either."""
    monkeypatch.setattr(retry, "_FIRST_WAIT_S", 0.25)
    server.faults[NAME] = [503, ...]
    layer = open_layer(f"{server.url}/raw", patience=1.0, attempts=1000)
    with pytest.raises(ChunkError, match=r"tried 3 times in .* s; --patience"):
        layer.read(FIRST)
    with pytest.raises(LayerError, match="--patience"):
        open_layer(f"{server.url}/raw", patience=0)


def test_patience_is_no_part_of_what_a_layer_is(server: HostileServer) -> None:
    """But travels to other processes."""
    layers = [open_layer(f"{server.url}/raw", patience=seconds) for seconds in (5, 50)]
    assert [layer.spec()["patience"] for layer in layers] == [5, 50]
    assert len({layer.url for layer in layers}) == 1


@pytest.mark.parametrize("driver", ["zarr", "zarr3", "n5"])
def test_arrays_over_http(server: HostileServer, driver: str) -> None:
    """Every voxel, one request a chunk; absent, forbidden and too large are three things."""
    options: dict[str, Any] = {} if driver == "n5" else {"voxel_size_nm": SIZE}
    options |= {"dataset": driver, "reader": "tensorstore", "attempts": 1}
    layer = open_layer(f"{driver}://{server.url}", **options)
    server.forget()
    assert np.array_equal(layer.read(layer.bounds).array, positions(np.uint16))
    if driver == "zarr3":  # sharded: TensorStore asks for parts
        return
    assert set(server.requests.values()) == {1}
    assert len(server.requests) == len(layer.chunks_of(layer.bounds))
    name = {"zarr": "0.0.0", "n5": "0"}[driver]
    for fault, cause in ((404, "missing"), (403, "forbidden"), ("announced", "unreadable")):
        server.tricks, server.faults = ({name: fault}, {}) if isinstance(fault, str) else ({}, {name: [fault, ...]})
        with pytest.raises(ChunkError) as caught:
            open_layer(f"{driver}://{server.url}", **options).read(Box((0, 0, 0), (1, 1, 1)))
        assert caught.value.cause == cause


@pytest.mark.parametrize("key", ["/etc", "../..", "../elsewhere", "a/../../b", "file:///etc", "", "4_6_40\\..\\.."])
@pytest.mark.parametrize("remote", [False, True])
@READERS
def test_a_key_that_leads_out_of_the_layer_is_refused(
    server: HostileServer, tmp_path: Path, reader: str, key: str, remote: bool
) -> None:
    """Before anything is looked up there."""
    precomputed(f"file://{tmp_path}/layer", positions())
    info = json.loads((tmp_path / "layer/info").read_text())
    info["scales"][0]["key"] = key
    (tmp_path / "layer/info").write_text(json.dumps(info))
    server.folder = tmp_path
    with pytest.raises(LayerError, match="lead out of the layer"):
        open_layer(f"{server.url}/layer" if remote else tmp_path / "layer", reader=reader)
    assert set(server.requests) <= {"layer/info"}


@READERS
def test_other_folders_that_metadata_name_are_not_looked_up(server: HostileServer, tmp_path: Path, reader: str) -> None:
    """Meshes, skeletons and redirections are no concern of a layer."""
    precomputed(f"file://{tmp_path}/layer", labels())
    info = json.loads((tmp_path / "layer/info").read_text())
    info |= {"mesh": "../../mesh", "skeletons": "/etc", "segment_properties": "../.."}
    (tmp_path / "layer/info").write_text(json.dumps(info))
    server.folder = tmp_path
    layer = open_layer(f"{server.url}/layer", reader=reader)
    assert np.array_equal(layer.read(layer.bounds).array, labels())
    assert {path.rpartition("/")[0] for path in server.requests} == {"layer", "layer/4_6_40"}


@pytest.mark.parametrize("dataset", ["..", "../raw", "a/../../raw", "http://elsewhere/raw"])
def test_a_dataset_outside_the_layer_is_refused(server: HostileServer, folder: Path, dataset: str) -> None:
    """In a folder and over HTTP."""
    for source in (folder / "zarr", f"zarr://{server.url}/zarr", f"n5://{server.url}/n5"):
        with pytest.raises(LayerError, match="outside the layer"):
            open_layer(source, dataset=dataset, voxel_size_nm=SIZE)


def test_numbers_of_chunks_are_those_of_cloudvolume() -> None:
    """The code of a place in a grid, and the hash that spreads codes over shards."""
    from cloudvolume.datasource.precomputed.common import compressed_morton_code
    from cloudvolume.datasource.precomputed.sharding import ShardingSpecification

    random = np.random.default_rng(0)
    sharding = ShardingSpecification("neuroglancer_uint64_sharded_v1", 0, "murmurhash3_x86_128", 0, 64)
    for grid in ((1, 1, 1), (4, 3, 3), (5, 1, 900), (1 << 20, 3, 17)):
        for place in random.integers(0, grid, (20, 3)):
            expected = int(np.ravel(compressed_morton_code([place], np.array(grid, np.uint32)))[0])
            assert morton_code(place, grid) == expected
    for number in (0, 1, 2**32, *random.integers(0, 2**63, 50).tolist()):
        assert murmur_hash(number) == int(sharding.hashfn(number))


@READERS
@pytest.mark.parametrize("bits", [(0, 0, 0), (1, 3, 2), (9, 1, 5)])
def test_shards_of_every_kind(server: HostileServer, tmp_path: Path, reader: str, bits: tuple[int, int, int]) -> None:
    """Hashed numbers, packed or plain indices and chunks; a chunk that is in no shard is missing."""
    import tensorstore

    packing = "gzip" if bits[0] else "raw"
    sharding = {"@type": "neuroglancer_uint64_sharded_v1", "preshift_bits": bits[0], "minishard_bits": bits[1],
                "shard_bits": bits[2], "hash": "murmurhash3_x86_128" if bits[1] else "identity",
                "minishard_index_encoding": packing, "data_encoding": packing}  # fmt: skip
    scale = {"size": [100, 70, 45], "voxel_offset": list(OFFSET), "chunk_size": list(CHUNK), "resolution": list(SIZE),
             "encoding": "raw", "key": "finest", "sharding": sharding}  # fmt: skip
    written = tensorstore.open({
        "driver": "neuroglancer_precomputed", "kvstore": f"file://{tmp_path}/layer", "create": True,
        "multiscale_metadata": {"type": "image", "data_type": "uint32", "num_channels": 1}, "scale_metadata": scale,
    }).result()  # fmt: skip
    written[32 + OFFSET[0] :, :, :, 0].write(positions()[32:]).result()
    server.folder = tmp_path
    layer = open_layer(f"{server.url}/layer", reader=reader)
    rest = Box((OFFSET[0] + 32, *OFFSET[1:]), layer.bounds.stop)
    assert np.array_equal(layer.read(rest).array, positions()[32:])
    with pytest.raises(ChunkError) as caught:
        layer.read(FIRST)
    assert caught.value.cause == "missing"


def test_indices_of_shards_are_kept_while_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """The longest unused leaves, and is asked for again when it is needed again."""
    from voxmint.volumes.readers import shards
    from voxmint.volumes.readers.web import Web

    asked: list[str] = []

    def fetch(self: shards.Shards, name: str, minishard: int) -> Any:
        asked.append(name)
        return np.zeros((3, 1), np.uint64)

    monkeypatch.setattr(shards, "_INDEX_BYTES", 4 * 24)
    monkeypatch.setattr(shards.Shards, "_fetch_index", fetch)
    sharding = {"preshift_bits": 0, "minishard_bits": 0, "shard_bits": 8, "hash": "identity"}
    kept = shards.Shards(Web("http://localhost/none"), sharding, (1, 1, 1))
    for name in "abcdebac":
        kept._index(name, 0)
    assert "".join(asked) == "abcdeac"


@pytest.mark.parametrize("packing", ["gzip", "deflate", "br", "zstd"])
def test_every_packing_is_bounded(packing: str) -> None:
    """The right bytes, or an error when there are more, fewer, or others; what there is more takes no memory."""
    import gzip
    import tracemalloc
    import zlib
    from functools import partial

    import brotli
    import zstandard

    from voxmint.retry import FetchError

    pack: Any = {
        "gzip": gzip.compress, "deflate": zlib.compress, "br": partial(brotli.compress, quality=5),
        "zstd": zstandard.compress,
    }[packing]  # fmt: skip
    data = np.random.default_rng(0).integers(0, 9, 100_000, dtype=np.uint8).tobytes()
    assert unpacked(pack(data), packing, len(data), "it") == data
    for packed, most in ((pack(data), len(data) - 1), (pack(bytes(2 << 20)), 1000), (pack(data)[:-20000], 1 << 20)):
        with pytest.raises(FetchError):
            unpacked(packed, packing, most, "it")
    bomb = pack(bytes(24 << 20))
    tracemalloc.start()
    try:
        with pytest.raises(FetchError, match="unpacks to more"):
            unpacked(bomb, packing, 1000, "it")
        assert tracemalloc.get_traced_memory()[1] < 12 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("codec", ["zlib", "gzip", "bz2", "xz", "zstd", "blosc"])
def test_codecs_of_arrays_are_bounded(codec: str) -> None:
    """What would unpack to a hundred times its chunk never reaches TensorStore; what is damaged is told."""
    import bz2
    import gzip
    import lzma
    import zlib

    import zstandard

    from voxmint.retry import FetchError

    pack: Any = {
        "zlib": zlib.compress, "gzip": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress,
        "zstd": zstandard.compress, "blosc": lambda data: bytes(4) + len(data).to_bytes(4, "little"),
    }[codec]  # fmt: skip
    specs: list[dict[str, Any]] = [{"compressor": {"id": codec}}, {"codecs": [{"name": "bytes"}, {"name": codec}]}]
    good, bomb = pack(bytes(1000)), pack(bytes(80 << 20))
    for spec in specs:
        check_unpacks(good, spec, 1 << 20, "it")
        with pytest.raises(FetchError, match="unpacks to more"):
            check_unpacks(bomb, spec, 1 << 20, "it")
    with pytest.raises(FetchError, match="unpacks to more"):
        check_unpacks(bomb + b"csum", {"codecs": [*specs[1]["codecs"], {"name": "crc32c"}]}, 1 << 20, "it")
    header = bytes([0, 0, 0, 3]) + bytes(12)
    n5 = {"compression": {"type": codec.replace("zlib", "gzip"), "useZlib": codec == "zlib"}}
    with pytest.raises(FetchError, match="unpacks to more"):
        check_unpacks(header + bomb, n5, 1 << 20, "it")


@pytest.mark.stress
@READERS
@pytest.mark.parametrize("trick", ["endless", "bomb"])
def test_memory_stays_small(server: HostileServer, reader: str, trick: str) -> None:
    """Against a body without end and a GiB of zeros, the process that reads takes less than 600 MB."""
    server.bomb = zeros(1 << 30)
    server.tricks[NAME] = trick
    code = (
        "import sys; from voxmint.volumes.opening import open_layer; from voxmint.volumes.box import Box;"
        "layer = open_layer(sys.argv[1], reader=sys.argv[2]); layer.read(Box.at(layer.bounds.start, (1, 1, 1)))"
    )
    command = [sys.executable, "-c", code, f"{server.url}/raw", reader]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        said = process.communicate(timeout=120)[1]
    assert "is unreadable" in said
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < 600 << 10
