"""Layers on disk and in memory: every format gives the same voxels at the same absolute place."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from layer_making import CHUNK, OFFSET, SHAPE, SIZE, chunked_array, grey, labels, positions, precomputed

from voxmint.errors import ChunkError, LayerError
from voxmint.nifti.files import write_nifti
from voxmint.volumes.box import Box
from voxmint.volumes.chunks import ChunkedLayer
from voxmint.volumes.geometry import carried_by
from voxmint.volumes.layer import Layer
from voxmint.volumes.opening import layer_from_spec, open_layer

cloud = pytest.mark.usefixtures("_cloud")
FIRST = Box.at(OFFSET, CHUNK)


@pytest.fixture
def _cloud() -> None:
    pytest.importorskip("tensorstore", reason="needs voxmint[cloud]")
    pytest.importorskip("cloudvolume", reason="needs voxmint[cloud]")


def assert_equal(layer: Layer, array: np.ndarray, offset: tuple[int, int, int] = OFFSET) -> None:
    """Check voxels, place and validity, with a margin around the bounds."""
    assert isinstance(layer, Layer)
    assert layer.bounds == Box.at(offset, array.shape)
    assert layer.voxel_size_nm == SIZE
    assert layer.dtype == array.dtype
    cutout = layer.read(Box.at([n - 2 for n in offset], [n + 5 for n in array.shape]))
    assert np.array_equal(cutout.array, np.pad(array, (2, 3)))
    assert np.array_equal(cutout.valid, np.pad(np.ones(array.shape, bool), (2, 3)))


@cloud
@pytest.mark.parametrize("sharded", [False, True], ids=["unsharded", "sharded"])
@pytest.mark.parametrize(
    ("array", "encoding"),
    [(positions(), "raw"), (positions(np.uint8), "raw"), (labels(), "raw"), (labels(), "compressed_segmentation")],
    ids=["raw-uint32", "raw-uint8", "raw-uint64", "compressed-segmentation"],
)
def test_both_readers_give_what_was_written(tmp_path: Path, array: np.ndarray, encoding: str, sharded: bool) -> None:
    """Byte for byte, with an offset, voxels that are no cubes and ids that floats cannot hold."""
    precomputed(f"file://{tmp_path}/layer", array, encoding, sharded=sharded)
    for reader in ("tensorstore", "cloudvolume"):
        assert_equal(open_layer(f"precomputed://file://{tmp_path}/layer", reader=reader), array)


@cloud
@pytest.mark.parametrize("sharded", [False, True], ids=["unsharded", "sharded"])
def test_both_readers_agree_on_jpeg(tmp_path: Path, sharded: bool) -> None:
    """Within two grey levels of each other."""
    precomputed(f"file://{tmp_path}/layer", grey(), "jpeg", sharded=sharded)
    layers = [open_layer(tmp_path / "layer", reader=reader) for reader in ("tensorstore", "cloudvolume")]
    one, other = (layer.read(layer.bounds).array.astype(int) for layer in layers)
    assert np.abs(one - other).max() <= 2
    assert np.abs(one - grey()).mean() < 5


@cloud
@pytest.mark.parametrize("driver", ["zarr", "zarr3", "n5"])
def test_chunked_arrays_are_read(tmp_path: Path, driver: str) -> None:
    """Big-endian zarr v2, sharded zarr v3 that names its axes, N5 that carries its voxel size."""
    folder = chunked_array(driver, tmp_path / "array", positions(np.uint16))
    size = None if driver == "n5" else SIZE
    assert_equal(open_layer(folder, voxel_size_nm=size, offset=OFFSET), positions(np.uint16))
    named = open_layer(f"{driver}://file://{tmp_path}", dataset="array", voxel_size_nm=size)
    assert_equal(named, positions(np.uint16), (0, 0, 0))


@cloud
@pytest.mark.parametrize("driver", ["zarr", "zarr3", "n5", "precomputed", "sharded"])
def test_an_absent_chunk_is_an_error_in_every_format(tmp_path: Path, driver: str) -> None:
    """Unless the layer is declared sparse; a chunk of zeros that is there is no error."""
    import tensorstore

    array = positions()
    if driver in ("precomputed", "sharded"):
        precomputed(f"file://{tmp_path}/layer", array, sharded=driver == "sharded")
    else:
        chunked_array(driver, tmp_path / "layer", array)
    options: dict[str, Any] = {} if driver in ("precomputed", "sharded") else {"voxel_size_nm": SIZE}
    start = open_layer(tmp_path / "layer", **options).bounds.start
    first = Box.at(start, CHUNK)
    if driver == "zarr3":  # a chunk lacking in a shard that is there: TensorStore leaves out what is all zero
        store = tensorstore.open({"driver": driver, "kvstore": f"file://{tmp_path}/layer"}).result()
        store[:16, :32, :32].write(0).result()
    for name in ("5-37_-7-25_11-27", "0.0.0", "0/0/0", "*.shard"):
        for chunk in () if driver == "zarr3" else list((tmp_path / "layer").rglob(name)):
            chunk.unlink()
    with pytest.raises(ChunkError) as caught:
        open_layer(tmp_path / "layer", **options).read(first)
    assert caught.value.cause == "missing"
    cutout = open_layer(tmp_path / "layer", sparse=True, **options).read(first)
    assert not cutout.array.any()
    assert cutout.valid.all()


coordinates = positions()
corner = st.tuples(*[st.integers(a - 45, a + n + 5) for a, n in zip(OFFSET, SHAPE, strict=True)])


@settings(max_examples=150, deadline=None)
@given(corner, st.tuples(*[st.integers(0, 45)] * 3), st.sampled_from([0, 10_000, 1 << 30]))
def test_any_box_over_any_border(start: tuple[int, int, int], shape: tuple[int, int, int], cache: int) -> None:
    """A voxel within the bounds has its own value, one beyond is 0 and not valid, on all axes alike."""
    layer = open_layer(coordinates, voxel_size_nm=SIZE, offset=OFFSET, cache_bytes=cache, concurrency=2)
    box = Box.at(start, shape)
    cutout = layer.read(box)
    layer.close()
    index = np.indices(shape).reshape(3, -1).T + np.array(start) - np.array(OFFSET)
    inside = ((index >= 0) & (index < np.array(SHAPE))).all(axis=1)
    expected = np.zeros(len(index), np.uint32)
    expected[inside] = coordinates[tuple(index[inside].T)]
    assert cutout.array.shape == shape
    assert np.array_equal(cutout.array.reshape(-1), expected)
    assert np.array_equal(cutout.valid.reshape(-1), inside)


@pytest.mark.parametrize("box", [Box.at(OFFSET, (9, 9, 9)), Box.at(OFFSET, (80, 9, 9)), Box.at((0, 0, 0), (9, 9, 20))])
def test_what_was_read_cannot_be_written(box: Box) -> None:
    """It may be what the next one reads, too: within one chunk, over several, over the border."""
    cutout = open_layer(coordinates, voxel_size_nm=SIZE, offset=OFFSET).read(box)
    for array in (cutout.array, cutout.valid):
        with pytest.raises(ValueError, match="read-only"):
            array[0, 0, 0] = 1


@cloud
@pytest.mark.parametrize("reader", ["tensorstore", "cloudvolume"])
def test_crops_over_every_face_edge_and_corner(tmp_path: Path, reader: str) -> None:
    """All 26 of them, and one inside, read together."""
    array = positions()
    precomputed(f"file://{tmp_path}/layer", array)
    layer = open_layer(tmp_path / "layer", reader=reader)
    padded = np.pad(array, 20)
    sides = [(-9, 30, n - 11) for n in SHAPE]
    starts = [(x, y, z) for x in sides[0] for y in sides[1] for z in sides[2]]
    results = dict(
        layer.read_many([Box.at([a + o for a, o in zip(s, OFFSET, strict=True)], (21, 20, 19)) for s in starts])
    )
    assert len(results) == 27
    for number, (x, y, z) in enumerate(starts):
        assert np.array_equal(results[number].array, padded[x + 20 : x + 41, y + 20 : y + 40, z + 20 : z + 39])


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("part", [0.25, 0.5, -0.5, 1.75])
def test_an_offset_between_voxels_is_never_rounded(tmp_path: Path, axis: int, part: float) -> None:
    """Offsets in nm that are no multiple of the voxel size carry no index: they cannot contradict the one given."""
    whole = [n * s for n, s in zip(OFFSET, SIZE, strict=True)]
    assert carried_by({"resolution": SIZE, "offset": whole}, (0, 1, 2)) == (list(SIZE), OFFSET)
    between = [n + (part * SIZE[axis] if a == axis else 0) for a, n in enumerate(whole)]
    assert carried_by({"resolution": SIZE, "offset": between}, (0, 1, 2)) == (list(SIZE), None)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["raw"] = positions(np.uint16, (9, 8, 7)).transpose(2, 1, 0)
        file["raw"].attrs["resolution"], file["raw"].attrs["offset"] = SIZE[::-1], between[::-1]
    layer = open_layer(tmp_path / "a.h5", dataset="raw", offset=(50, 60, 70))
    assert layer.bounds == Box.at((50, 60, 70), (9, 8, 7))
    layer.close()


def test_arrays_in_files(tmp_path: Path) -> None:
    """HDF5 as z, y, x or any stated order; npy; NIfTI with its size in mm."""
    array = positions(np.uint16)
    zyx = np.ascontiguousarray(array.transpose(2, 1, 0))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("raw", data=zyx, chunks=CHUNK[::-1], compression="gzip")
        file["raw"].attrs["resolution"] = SIZE[::-1]
        file["raw"].attrs["offset"] = [n * s for n, s in zip(OFFSET[::-1], SIZE[::-1], strict=True)]
        file.create_dataset("other/yxz", data=array.transpose(1, 0, 2)[None])
        file.create_dataset("table", data=np.zeros((3, 3)))
    assert_equal(open_layer(tmp_path / "a.h5", dataset="raw"), array)
    given_axes = open_layer(tmp_path / "a.h5", dataset="other/yxz", axes="cyxz", voxel_size_nm=SIZE, offset=OFFSET)
    assert_equal(given_axes, array)
    np.save(tmp_path / "a.npy", zyx)
    assert_equal(open_layer(tmp_path / "a.npy", voxel_size_nm=SIZE, offset=OFFSET), array)
    write_nifti(tmp_path / "a.nii.gz", array, np.diag([*(n * 1e-6 for n in SIZE), 1.0]))
    assert_equal(open_layer(tmp_path / "a.nii.gz", offset=OFFSET), array)
    assert_equal(open_layer(array, voxel_size_nm=SIZE, offset=OFFSET), array)


def test_tiff_stacks(tmp_path: Path) -> None:
    """Pages of one file, or files of a folder with slice 10 after slice 9; a cut page is an error, never zeros."""
    tifffile = pytest.importorskip("tifffile")
    array = positions(np.uint16)
    zyx = np.ascontiguousarray(array.transpose(2, 1, 0))
    tifffile.imwrite(tmp_path / "stack.tif", zyx, photometric="minisblack")
    (tmp_path / "slices").mkdir()
    for number, page in enumerate(zyx):
        tifffile.imwrite(tmp_path / "slices" / f"slice_{number}.tif", page)
    for source in (tmp_path / "stack.tif", tmp_path / "slices"):
        assert_equal(open_layer(source, voxel_size_nm=SIZE, offset=OFFSET), array)
    page = tmp_path / "slices" / "slice_10.tif"
    layer = open_layer(tmp_path / "slices", voxel_size_nm=SIZE)
    page.write_bytes(page.read_bytes()[:-500])
    with pytest.raises(ChunkError, match="slice_10"):
        layer.read(layer.bounds)
    page.unlink()
    with pytest.raises(ChunkError) as caught:
        layer.read(layer.bounds)
    assert caught.value.cause == "missing"


def test_an_hdf5_chunk_that_was_never_written_is_missing(tmp_path: Path) -> None:
    """HDF5 would hand out its fill value."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        dataset = file.create_dataset("raw", (40, 40, 40), np.uint8, chunks=(16, 16, 16))
        dataset[16:32, 16:32, 16:32] = 7
    layer = open_layer(tmp_path / "a.h5", voxel_size_nm=SIZE)
    assert (layer.read(Box.at((16, 16, 16), (16, 16, 16))).array == 7).all()
    with pytest.raises(ChunkError) as caught:
        layer.read(layer.bounds)
    assert caught.value.cause == "missing"
    assert open_layer(tmp_path / "a.h5", voxel_size_nm=SIZE, sparse=True).read(layer.bounds).array.sum() == 7 * 16**3


@cloud
def test_a_layer_is_opened_again_in_another_process(tmp_path: Path) -> None:
    """From JSON, with the same bytes."""
    precomputed(f"file://{tmp_path}/layer", positions())
    spec = json.dumps(open_layer(tmp_path / "layer", cache_bytes=1 << 20).spec())
    assert_equal(layer_from_spec(json.loads(spec)), positions())
    code = (
        "import sys, json, hashlib; from voxmint.volumes.opening import layer_from_spec;"
        "layer = layer_from_spec(json.loads(sys.argv[1]));"
        "print(hashlib.sha256(layer.read(layer.bounds).array.tobytes()).hexdigest())"
    )
    import hashlib

    found = subprocess.run([sys.executable, "-c", code, spec], capture_output=True, text=True, check=True, timeout=60)
    assert found.stdout.split()[-1] == hashlib.sha256(positions().tobytes()).hexdigest()


def test_an_array_in_memory_stays_in_its_process() -> None:
    """It says so rather than travel as bytes."""
    with pytest.raises(LayerError, match="in memory"):
        open_layer(np.zeros((2, 2, 2)), voxel_size_nm=SIZE).spec()


def test_a_chunk_in_flight_is_fetched_once() -> None:
    """However many wait for it."""
    layer = open_layer(positions(), voxel_size_nm=SIZE)
    assert isinstance(layer, ChunkedLayer)
    futures = [layer.submit(layer.bounds) for _ in range(20)]
    assert all(np.array_equal(future.result().array, positions()) for future in futures)
    assert layer.fetched == len(layer.chunks_of(layer.bounds)) == 4


def test_a_chunk_of_another_shape_is_unreadable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a reader gives: one voxel more would be left out without a word."""
    layer = open_layer(positions(), voxel_size_nm=SIZE, attempts=1)
    fetch = type(layer).fetch  # type: ignore[attr-defined]
    monkeypatch.setattr(type(layer), "fetch", lambda self, chunk: np.pad(fetch(self, chunk), 1))
    with pytest.raises(ChunkError, match="the chunk holds") as caught:
        layer.read(layer.bounds)
    assert caught.value.cause == "unreadable"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "carries no voxel size"),
        ({"voxel_size_nm": (4, 4)}, "three positive lengths"),
        ({"voxel_size_nm": (4, 0, 4)}, "three positive lengths"),
        ({"voxel_size_nm": (4, float("nan"), 4)}, "three positive lengths"),
        ({"voxel_size_nm": SIZE, "axes": "xyzz"}, "axes"),
        ({"voxel_size_nm": SIZE, "mip": 1}, "no mip levels"),
        ({"voxel_size_nm": SIZE, "reader": "tensorstore"}, "this reader cannot"),
    ],
)
def test_a_layer_that_cannot_be_placed_is_refused(tmp_path: Path, options: dict[str, Any], words: str) -> None:
    """There is no silent default."""
    np.save(tmp_path / "a.npy", np.zeros((3, 4, 5), np.uint8))
    with pytest.raises(LayerError, match=words):
        open_layer(tmp_path / "a.npy", **options)


@cloud
@pytest.mark.parametrize(
    "options", [{"voxel_size_nm": (8, 8, 33)}, {"offset": (0, 0, 0)}, {"offset": (*OFFSET[:2], OFFSET[2] + 1)}]
)
def test_what_the_layer_says_of_itself_cannot_be_overruled(tmp_path: Path, options: dict[str, Any]) -> None:
    """A contradiction is an error that shows both."""
    precomputed(f"file://{tmp_path}/layer", positions(shape=(40, 20, 10)))
    for reader in ("tensorstore", "cloudvolume"):
        with pytest.raises(LayerError, match="not the layer's own"):
            open_layer(tmp_path / "layer", reader=reader, **options)
        open_layer(tmp_path / "layer", reader=reader, voxel_size_nm=SIZE, offset=OFFSET)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("none.h5", None, "nothing here"),
        ("bad.h5", b"no hdf5 at all", "cannot be read"),
        ("bad.npy", b"\x93NUMPY", "cannot be read"),
        ("bad.tif", b"II*\x00", "cannot be read"),
        ("a.txt", b"", "unknown kind of file"),
    ],
)
def test_files_that_are_no_layers(tmp_path: Path, name: str, content: bytes | None, words: str) -> None:
    """Each is refused by name."""
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(LayerError, match=words) as caught:
        open_layer(tmp_path / name, voxel_size_nm=SIZE)
    assert name in str(caught.value)


def test_objects_in_a_npy_file_are_never_unpickled(tmp_path: Path) -> None:
    """It is refused like any damaged file."""
    np.save(tmp_path / "a.npy", np.array([[[{"a": 1}]]], dtype=object), allow_pickle=True)
    with pytest.raises(LayerError, match="cannot be read"):
        open_layer(tmp_path / "a.npy", voxel_size_nm=SIZE)


def test_unknown_schemes_and_moving_segmentations_are_refused() -> None:
    """A proofread segmentation needs a moment, so that all workers see the same."""
    with pytest.raises(LayerError, match="unknown kind of address"):
        open_layer("ftp://host/layer")
    pytest.importorskip("cloudvolume", reason="needs voxmint[cloud]")
    with pytest.raises(LayerError, match="changes as it is proofread"):
        open_layer("graphene://https://host/segmentation/table/name")


def test_a_layer_does_not_hang_after_a_fork() -> None:
    """The child, to which no threads came along, is told to open its own."""
    code = """
import os, sys
import numpy as np
from voxmint.errors import LayerError
from voxmint.volumes.opening import open_layer
layer = open_layer(np.ones((9, 9, 9)), voxel_size_nm=(1, 1, 1))
layer.read(layer.bounds)
if os.fork() == 0:
    try:
        layer.read(layer.bounds)
    except LayerError as error:
        print("told:", error.what, flush=True)
    os._exit(0)
os.wait()
"""
    command = [sys.executable, "-W", "ignore", "-c", code]
    found = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert found.stdout == "told: the layer was opened before this process was forked\n"
