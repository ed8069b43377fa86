"""Layers as CloudVolume writes them, gzipped: in a folder as ``NAME.gz``, on a server as ``NAME`` with its encoding."""

from __future__ import annotations

import gzip
import shutil
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import numpy as np
import pytest
from layer_making import CHUNK, OFFSET, SHAPE, SIZE, grey, labels, positions, precomputed
from numpy.typing import NDArray
from servers import FaultyServer, gcs_environment, s3_environment, s3_server

from unprivileged import READ_TWO_CHUNKS, run_unprivileged
from voxmint.errors import ChunkError
from voxmint.volumes.box import Box
from voxmint.volumes.opening import open_layer

pytest.importorskip("tensorstore", reason="needs voxmint[cloud]")
pytest.importorskip("cloudvolume", reason="needs voxmint[cloud]")

FIRST = Box.at(OFFSET, CHUNK)
NAME = "5-37_-7-25_11-27"
READERS = pytest.mark.parametrize("reader", ["tensorstore", "cloudvolume"])
pytestmark = pytest.mark.usefixtures("short_pauses")


def as_cloudvolume_does(url: str, array: NDArray[np.generic], encoding: str = "raw") -> None:
    """Write a layer with CloudVolume as it does unless told otherwise."""
    from cloudvolume import CloudVolume

    CloudVolume.from_numpy(array, vol_path=url, resolution=SIZE, voxel_offset=OFFSET, chunk_size=CHUNK,
                           layer_type="segmentation" if array.dtype == np.uint64 else "image", encoding=encoding,
                           progress=False)  # fmt: skip


def pack(chunk: Path, packed: bytes | None = None, suffix: str = ".gz") -> Path:
    """Replace a chunk's file by a packed one beside it."""
    target = chunk.with_name(chunk.name + suffix)
    target.write_bytes(gzip.compress(chunk.read_bytes(), 1) if packed is None else packed)
    chunk.unlink()
    return target


def chunks_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*_*_*") if path.is_file()]


@READERS
@pytest.mark.parametrize(
    ("array", "encoding"),
    [(positions(), "raw"), (positions(np.uint8), "raw"), (labels(), "raw"), (labels(), "compressed_segmentation")],
    ids=["raw-uint32", "raw-uint8", "raw-uint64", "compressed-segmentation"],
)
def test_a_folder_as_cloudvolume_writes_it(
    tmp_path: Path, array: NDArray[np.generic], encoding: str, reader: str
) -> None:
    """Byte for byte; not one chunk lies under its plain name."""
    as_cloudvolume_does(f"file://{tmp_path}/layer", array, encoding)
    assert {path.suffix for path in chunks_in(tmp_path)} == {".gz"}
    layer = open_layer(tmp_path / "layer", reader=reader)
    assert np.array_equal(layer.read(layer.bounds).array, array)


@READERS
@pytest.mark.parametrize("encoding", ["jpeg", "png", "raw"])
def test_packing_changes_no_voxel(tmp_path: Path, encoding: str, reader: str) -> None:
    """Of any encoding; every other chunk stays plain, as where two programs wrote."""
    if encoding == "png":
        pytest.importorskip("pyspng", reason="CloudVolume writes and reads png with it")
    precomputed(f"file://{tmp_path}/layer", grey(), encoding)
    plain = open_layer(tmp_path / "layer", reader=reader)
    expected = plain.read(plain.bounds).array
    for chunk in sorted(chunks_in(tmp_path))[::2]:
        pack(chunk)
    layer = open_layer(tmp_path / "layer", reader=reader)
    assert np.array_equal(layer.read(layer.bounds).array, expected)
    assert np.abs(expected.astype(int) - grey()).max() < 30


def test_packing_changes_no_voxel_of_a_png(tmp_path: Path) -> None:
    """TensorStore knows this encoding without help."""
    import tensorstore

    scale = {"size": list(SHAPE), "voxel_offset": list(OFFSET), "chunk_size": list(CHUNK), "resolution": list(SIZE),
             "encoding": "png", "key": "4_6_40"}  # fmt: skip
    store = tensorstore.open({
        "driver": "neuroglancer_precomputed", "kvstore": f"file://{tmp_path}/layer", "create": True,
        "scale_metadata": scale,
        "multiscale_metadata": {"type": "image", "data_type": "uint8", "num_channels": 1}}).result()  # fmt: skip
    store[..., 0].write(grey()).result()
    for chunk in sorted(chunks_in(tmp_path))[::2]:
        pack(chunk)
    layer = open_layer(tmp_path / "layer")
    assert np.array_equal(layer.read(layer.bounds).array, grey())


def test_the_plain_file_goes_first(tmp_path: Path) -> None:
    """Where both lie, the folder's order does not decide."""
    precomputed(f"file://{tmp_path}/layer", positions())
    for chunk in chunks_in(tmp_path):
        chunk.with_name(f"{chunk.name}.gz").write_bytes(gzip.compress(b"\0" * chunk.stat().st_size))
    layer = open_layer(tmp_path / "layer")
    assert np.array_equal(layer.read(layer.bounds).array, positions())


WHOLE = gzip.compress(positions()[:32, :32, :16].tobytes("F"), 1)
DAMAGED = {
    "cut": WHOLE[:-1000],
    "cut in its checksum": WHOLE[:-6],
    "flipped checksum": WHOLE[:-8] + bytes([WHOLE[-8] ^ 1]) + WHOLE[-7:],
    "flipped length": WHOLE[:-1] + bytes([WHOLE[-1] ^ 1]),
    "flipped data": WHOLE[:30000] + bytes([WHOLE[30000] ^ 4]) + WHOLE[30001:],
    "empty": b"",
    "no gzip": b"\0" * (32 * 32 * 16 * 4),
    "short": gzip.compress(b"\0" * 1000),
    "long": gzip.compress(b"\0" * (32 * 32 * 16 * 4 + 1)),
}


@READERS
@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_gzip_file_is_unreadable(tmp_path: Path, damage: str, reader: str) -> None:
    """Neither zeros, nor missing, nor background of a sparse layer."""
    precomputed(f"file://{tmp_path}/layer", positions())
    pack(next(tmp_path.rglob(NAME)), DAMAGED[damage])
    with pytest.raises(ChunkError) as caught:
        open_layer(tmp_path / "layer", reader=reader, sparse=True, attempts=1).read(FIRST)
    assert (caught.value.box, caught.value.cause) == (FIRST, "unreadable")


def test_a_bomb_is_unreadable(tmp_path: Path) -> None:
    """No more is unpacked than a chunk can have; the same holds for a plain file."""
    for suffix, content in ((".gz", gzip.compress(b"\0" * (100 << 20))), ("", b"\0" * (5 << 20))):
        folder = tmp_path / f"layer{suffix}"
        precomputed(f"file://{folder}", positions())
        pack(next(folder.rglob(NAME)), content, ".gz")
        if not suffix:
            next(folder.rglob(f"{NAME}.gz")).rename(next(folder.rglob("info")).parent / "4_6_40" / NAME)
        with pytest.raises(ChunkError, match="more than the") as caught:
            open_layer(folder, attempts=1).read(FIRST)
        assert caught.value.cause == "unreadable"


BOMB = """if True:
    import sys
    from pathlib import Path
    from voxmint.volumes.box import Box
    from voxmint.errors import ChunkError
    from voxmint.volumes.opening import open_layer

    def peak():  # not ru_maxrss: that counts the parent's memory from before exec
        return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) // 1024

    good, *bombs = ([int(n) for n in text.split(",")] for text in sys.argv[2:])
    layer = open_layer(sys.argv[1], attempts=1)
    layer.read(Box.at(good[:3], good[3:]))
    before = peak()
    for corner in bombs:
        try:
            layer.read(Box.at(corner[:3], corner[3:]))
        except ChunkError as error:
            assert error.cause == "unreadable" and "more than the" in str(error), error
        else:
            raise SystemExit("was read")
    print(peak() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
@pytest.mark.parametrize("encoding", ["raw", "compressed_segmentation"])
def test_a_bomb_costs_no_memory(tmp_path: Path, encoding: str) -> None:
    """240 MB in one gzip member, in many, and after a whole chunk: 32 MB are enough to refuse all three."""
    as_cloudvolume_does(f"file://{tmp_path}/layer", labels(), encoding)
    member = gzip.compress(bytes(4 << 20), 1)
    chunks = ["37-69_-7-25_11-27", "69-101_-7-25_11-27", "5-37_25-57_11-27"]
    whole = next(tmp_path.rglob(f"{chunks[2]}.gz")).read_bytes()
    bombs = (gzip.compress(bytes(240 << 20), 1), 60 * member, whole + 60 * member)
    assert max(map(len, bombs)) < 3 << 19, "packed, they are no larger than a chunk may be"
    for name, bomb in zip(chunks, bombs, strict=True):
        next(tmp_path.rglob(f"{name}.gz")).write_bytes(bomb)
    corners = ["5,-7,11,9,9,9", "37,-7,11,9,9,9", "69,-7,11,9,9,9", "5,25,11,9,9,9"]
    command = [sys.executable, "-c", BOMB, str(tmp_path / "layer"), *corners]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 32


@pytest.mark.parametrize("suffix", [".br", ".zstd", ".xz", ".bz2"])
def test_other_packings_are_named(tmp_path: Path, suffix: str) -> None:
    """They are not called missing, and never background; the message says who can read them."""
    precomputed(f"file://{tmp_path}/layer", positions())
    pack(next(tmp_path.rglob(NAME)), b"anything", suffix)
    with pytest.raises(ChunkError, match="choose the reader cloudvolume") as caught:
        open_layer(tmp_path / "layer", sparse=True, attempts=1).read(FIRST)
    assert caught.value.cause == "unreadable"
    assert f"{NAME}{suffix}" in str(caught.value)


@READERS
def test_an_absent_chunk_of_a_packed_folder_is_missing(tmp_path: Path, reader: str) -> None:
    """And background where the layer is declared sparse."""
    as_cloudvolume_does(f"file://{tmp_path}/layer", positions())
    next(tmp_path.rglob(f"{NAME}.gz")).unlink()
    with pytest.raises(ChunkError) as caught:
        open_layer(tmp_path / "layer", reader=reader).read(FIRST)
    assert caught.value.cause == "missing"
    assert not open_layer(tmp_path / "layer", reader=reader, sparse=True).read(FIRST).array.any()


@READERS
def test_a_gzip_file_that_may_not_be_read_is_forbidden(tmp_path: Path, reader: str) -> None:
    """It is not a missing one, nor background; its neighbour can be read."""
    as_cloudvolume_does(f"file://{tmp_path}/layer", positions())
    next(tmp_path.rglob(f"{NAME}.gz")).chmod(0)
    assert run_unprivileged(READ_TWO_CHUNKS, tmp_path / "layer", reader) == "forbidden"


class EncodingServer(FaultyServer):
    """Serves ``NAME.gz`` as ``NAME`` with its content encoding, as GCS and nginx's ``gzip_static`` do."""

    def _send(self, handler: BaseHTTPRequestHandler, path: str, *, with_body: bool) -> None:
        packed = self.folder / f"{path}.gz"
        if not packed.is_file() or self.faults.get(path.rsplit("/", 1)[-1]):
            super()._send(handler, path, with_body=with_body)
            return
        accepted, body = handler.headers.get("Accept-Encoding", ""), packed.read_bytes()
        handler.send_response(200)
        if "gzip" in accepted:
            handler.send_header("Content-Encoding", "gzip")
        else:
            body = gzip.decompress(body)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        if with_body:
            handler.wfile.write(body)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packed")
    as_cloudvolume_does(f"file://{folder}/raw", positions())
    as_cloudvolume_does(f"file://{folder}/ids", labels(), "compressed_segmentation")
    return folder


@pytest.fixture
def server(folder: Path) -> Iterator[EncodingServer]:
    server = EncodingServer(folder)
    yield server
    server.close()


@READERS
@pytest.mark.parametrize(("name", "array"), [("raw", positions()), ("ids", labels())])
def test_a_server_that_encodes_content(
    server: EncodingServer, name: str, array: NDArray[np.generic], reader: str
) -> None:
    """Both readers give what was written, in one request a chunk."""
    layer = open_layer(f"{server.url}/{name}", reader=reader)
    server.forget()
    assert np.array_equal(layer.read(layer.bounds).array, array)
    assert set(server.requests.values()) == {1}


@READERS
@pytest.mark.parametrize(("status", "cause"), [(404, "missing"), (403, "forbidden")])
def test_such_a_server_refuses_or_lacks(server: EncodingServer, status: int, cause: str, reader: str) -> None:
    """404 and 403 stay two things."""
    server.faults[NAME] = [status, ...]
    with pytest.raises(ChunkError) as caught:
        open_layer(f"{server.url}/raw", reader=reader).read(FIRST)
    assert caught.value.cause == cause


# a cut checksum is left out: curl, below TensorStore, then has all voxels and nothing to check them by
SENT = [name for name in DAMAGED if name not in ("empty", "no gzip", "cut in its checksum")]


@READERS
@pytest.mark.parametrize("damage", SENT)
def test_damaged_content_of_a_server_is_unreadable(
    server: EncodingServer, folder: Path, tmp_path: Path, damage: str, reader: str
) -> None:
    """Though the server sends all it has."""
    server.folder = tmp_path
    shutil.copytree(folder / "raw", tmp_path / "raw")
    next(tmp_path.rglob(f"{NAME}.gz")).write_bytes(DAMAGED[damage])
    with pytest.raises(ChunkError) as caught:
        open_layer(f"{server.url}/raw", reader=reader, sparse=True, attempts=1).read(FIRST)
    assert caught.value.cause == "unreadable"


@READERS
def test_a_bucket_of_gcs_that_encodes_content(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: EncodingServer, reader: str
) -> None:
    """The client of GCS unpacks, too, and tells 404 from 403."""
    for name, value in gcs_environment(server.url).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("CLOUD_VOLUME_DIR", str(tmp_path))
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    server.folder, bucket = tmp_path, tmp_path.name.replace("_", "-")  # clients remember a bucket's server by its name
    shutil.copytree(folder / "raw", tmp_path / bucket / "raw")
    layer = open_layer(f"gs://{bucket}/raw", reader=reader)
    assert np.array_equal(layer.read(layer.bounds).array, positions())
    for status, cause in ((404, "missing"), (403, "forbidden")):
        server.faults[NAME] = [status, ...]
        with pytest.raises(ChunkError) as caught:
            open_layer(f"gs://{bucket}/raw", reader=reader).read(FIRST)
        assert caught.value.cause == cause


def test_a_bucket_as_cloudvolume_fills_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Objects of S3 with their content encoding: both readers give what was written."""
    pytest.importorskip("moto", reason="needs voxmint[test]")
    boto3 = pytest.importorskip("boto3", reason="needs voxmint[test]")
    bucket = tmp_path.name.replace("_", "-")  # clients remember a bucket's server by its name
    with s3_server(tmp_path / "s3.log", bucket) as url:
        for name, value in s3_environment(url).items():
            monkeypatch.setenv(name, value)
        for name, array, encoding in (("raw", positions(), "raw"), ("ids", labels(), "compressed_segmentation")):
            as_cloudvolume_does(f"s3://{bucket}/{name}", array, encoding)
            head = boto3.client("s3").head_object(Bucket=bucket, Key=f"{name}/4_6_40/{NAME}")
            assert head["ContentEncoding"] == "gzip"
            for reader in ("tensorstore", "cloudvolume"):
                layer = open_layer(f"s3://{bucket}/{name}", reader=reader)
                assert np.array_equal(layer.read(layer.bounds).array, array)
