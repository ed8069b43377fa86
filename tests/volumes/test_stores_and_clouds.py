"""Stores and layers in buckets: the same promises over a GCS emulator and over an S3 server as in a folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from layer_making import CHUNK, OFFSET, SIZE, chunked_array, labels, positions, precomputed
from servers import both_clouds, gcs_environment, http_server, s3_environment

from unprivileged import READ_TWO_CHUNKS, run_unprivileged
from voxmint.errors import ChunkError, LayerError, StorageError
from voxmint.stores.place import Place
from voxmint.volumes.box import Box
from voxmint.volumes.opening import open_identity, open_layer

for package in ("tensorstore", "cloudvolume", "gcsfs", "s3fs"):
    pytest.importorskip(package, reason="needs voxmint[cloud]")
for package in ("moto", "gcp_storage_emulator"):
    pytest.importorskip(package, reason="needs voxmint[test]")

FIRST = Box.at(OFFSET, CHUNK)
READERS = ("tensorstore", "cloudvolume")
NAME = "5-37_-7-25_11-27"


@pytest.fixture(scope="module")
def clouds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Run both emulators, and let all clients speak to them, without credentials of whoever runs the tests."""
    folder = tmp_path_factory.mktemp("clouds")
    with both_clouds(folder):
        yield


@pytest.fixture(params=["folder", "gs", "s3"])
def base(request: pytest.FixtureRequest, tmp_path: Path, clouds: None) -> str:
    """A fresh place in each kind of store."""
    return str(tmp_path) if request.param == "folder" else f"{request.param}://bucket/{tmp_path.name}"


def test_a_store_gives_back_what_was_written(base: str) -> None:
    """Write, read, replace, list, look, remove."""
    store = Place(base)
    assert not store.exists("source/source_1.npy")
    store.write("source/source_1.npy", b"one")
    store.write("source/source_2.npy", memoryview(b"two"))
    store.write("meta.json", b"")
    store.write("source/source_1.npy", b"replaced")
    assert store.exists("source/source_1.npy")
    assert store.read("source/source_1.npy") == b"replaced"
    assert store.read("meta.json") == b""
    assert store.list() == ["meta.json", "source/source_1.npy", "source/source_2.npy"]
    assert store.list("source") == ["source/source_1.npy", "source/source_2.npy"]
    store.delete("meta.json")
    store.delete("meta.json")
    assert not store.exists("meta.json")


def test_a_store_says_what_is_not_there(base: str) -> None:
    """Reading an object that is not there names it."""
    with pytest.raises(StorageError, match=r"nothing\.npy"):
        Place(base).read("nothing.npy")


@pytest.mark.parametrize("name", ["../x", "/x", "a//b", "", "a/../../x"])
def test_no_name_leaves_the_store(tmp_path: Path, name: str) -> None:
    """Nothing is written outside."""
    with pytest.raises(StorageError, match="inside the store"):
        Place(tmp_path / "inner").write(name, b"x")
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    """A file stands where the folder should be."""
    (tmp_path / "taken").write_bytes(b"")
    with pytest.raises(StorageError, match="taken"):
        Place(tmp_path / "taken").write("x/y", b"data")


def test_an_unknown_bucket_is_an_error(clouds: None) -> None:
    """Writing to a bucket that does not exist fails within the bounded retries."""
    with pytest.raises(StorageError, match="cannot write 4 bytes"):
        Place("s3://there-is-none/x").write("y", b"data")


def test_an_unknown_kind_of_store_is_refused() -> None:
    """The message lists what there is."""
    with pytest.raises(StorageError, match="unknown kind of address"):
        Place("ftp://host/x")


def test_layers_in_every_store_are_equal(base: str) -> None:
    """What is written through CloudVolume is read back by either reader, by address alone."""
    url = f"file://{base}" if base.startswith("/") else base
    image, ids = positions(shape=(70, 40, 20)), np.asfortranarray(labels()[:70, :40, :20])
    precomputed(f"{url}/image", image)
    precomputed(f"{url}/ids", ids, "compressed_segmentation")
    for name, array in (("image", image), ("ids", ids)):
        for reader in READERS:
            layer = open_layer(f"{base}/{name}", reader=reader)
            assert np.array_equal(layer.read(layer.bounds).array, array)


def test_an_absent_chunk_is_missing_in_every_store(base: str) -> None:
    """It is an error, or background if the layer is declared sparse."""
    url, array = f"file://{base}" if base.startswith("/") else base, positions(shape=(40, 20, 10))
    precomputed(f"{url}/image", array)
    first, second = Box.at(OFFSET, (32, 20, 10)), Box.at((37, -7, 11), (8, 20, 10))
    Place(base).delete("image/4_6_40/5-37_-7-13_11-21")
    for reader in READERS:
        with pytest.raises(ChunkError) as caught:
            open_layer(f"{base}/image", reader=reader).read(first)
        assert caught.value.cause == "missing"
        sparse = open_layer(f"{base}/image", reader=reader, sparse=True)
        assert not sparse.read(first).array.any()
        assert np.array_equal(sparse.read(second).array, array[32:])


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("scheme", ["gs", "s3"])
def test_a_refused_chunk_of_a_bucket_is_forbidden(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str, reader: str
) -> None:
    """The 403 of a bucket is neither a missing chunk nor background, and is not asked for again and again."""
    bucket = tmp_path.name.replace("_", "-")
    precomputed(f"file://{tmp_path}/{bucket}/image", positions(shape=(40, 20, 10)))
    with http_server(tmp_path) as server:
        for name, value in (gcs_environment(server.url) | s3_environment(server.url)).items():
            monkeypatch.setenv(name, value)
        layer = open_layer(f"{scheme}://{bucket}/image", reader=reader, sparse=True)
        server.faults["5-37_-7-13_11-21"] = [403, ...]
        server.forget()
        with pytest.raises(ChunkError) as caught:
            layer.read(layer.bounds)
        assert caught.value.cause == "forbidden"
        assert server.requests[f"{bucket}/image/4_6_40/5-37_-7-13_11-21"] <= 2


@pytest.mark.parametrize("reader", ["tensorstore", "cloudvolume"])
def test_a_chunk_that_may_not_be_read_is_forbidden(tmp_path: Path, reader: str) -> None:
    """A local file without read permission is not a missing one, nor background; its neighbour can be read."""
    precomputed(f"file://{tmp_path}/image", positions())
    next(tmp_path.rglob(NAME)).chmod(0)
    assert run_unprivileged(READ_TWO_CHUNKS, tmp_path / "image", reader) == "forbidden"


def test_memory_and_cloudvolume() -> None:
    """``mem://`` goes to CloudVolume, and TensorStore says that it cannot."""
    precomputed("mem://bucket/image", positions())
    layer = open_layer("mem://bucket/image")
    assert np.array_equal(layer.read(layer.bounds).array, positions())
    with pytest.raises(LayerError, match="this reader cannot read this layer"):
        open_layer("mem://bucket/image", reader="tensorstore")


@pytest.mark.parametrize("fmt", ["zarr", "zarr3", "n5", "precomputed"])
@pytest.mark.parametrize("scheme", ["gs", "s3"])
def test_a_layer_in_a_bucket_is_opened_again_by_what_it_says_it_is(
    tmp_path: Path, clouds: None, scheme: str, fmt: str
) -> None:
    """In its format, which the address alone does not tell; and it is known to be another when it was replaced."""
    place = f"{scheme}://bucket/again/{fmt}"
    bucket = Place(place)

    def put(array: np.ndarray) -> None:
        if fmt == "precomputed":
            precomputed(f"{place}/s0", array)
            return
        folder = chunked_array(fmt, tmp_path / array.dtype.name / "s0", array)
        for path in folder.rglob("*"):
            if path.is_file():
                bucket.write(f"s0/{path.relative_to(folder).as_posix()}", path.read_bytes())

    put(positions())
    placed = {"voxel_size_nm": SIZE, "offset": OFFSET} if fmt.startswith("zarr") else {}
    layer = open_layer(f"{fmt}://{place}", dataset="s0", **placed)
    again = open_identity(layer.identity())
    assert again.identity() == layer.identity()
    if (scheme, fmt) != ("gs", "zarr3"):  # the emulator knows no range from the end, which indices of shards need
        assert np.array_equal(again.read(again.bounds).array, positions())
    put(positions(np.uint16))
    with pytest.raises(LayerError, match=f"{place}/s0: .*differs in dtype, metadata"):
        open_identity(layer.identity())
