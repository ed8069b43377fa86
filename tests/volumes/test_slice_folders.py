"""Folders of PNG and TIFF slices, against Pillow and tifffile."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from layer_making import positions
from PIL import Image

from voxmint.errors import ChunkError, LayerError
from voxmint.volumes.opening import open_identity, open_layer

SIZE = (4, 6, 40)


def slices(folder: Path, dtype: type = np.uint8, ending: str = "png") -> Path:
    """Write slices slice_0, slice_1, ... slice_10, ...; return their folder."""
    folder.mkdir()
    for z, page in enumerate(positions(dtype).transpose(2, 1, 0)[:12]):
        if ending == "png":
            Image.fromarray(np.ascontiguousarray(page)).save(folder / f"slice_{z}.png")
        else:
            tifffile = pytest.importorskip("tifffile", reason="needs voxmint[formats]")
            tifffile.imwrite(folder / f"slice_{z}.{ending}", page, photometric="minisblack", compression="zlib")
    return folder


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("ending", ["png", "tif"])
def test_slices_are_as_others_read_them(tmp_path: Path, dtype: type, ending: str) -> None:
    """slice_10 follows slice_9; rows are y, columns x; the layer is found again by its identity."""
    folder = slices(tmp_path / "a", dtype, ending)
    layer = open_layer(folder, voxel_size_nm=SIZE, offset=(5, -7, 11))
    voxels = layer.read(layer.bounds).array
    for z in range(12):
        if ending == "png":
            page = np.asarray(Image.open(folder / f"slice_{z}.png"))
        else:
            page = pytest.importorskip("tifffile").imread(folder / f"slice_{z}.tif")
        assert np.array_equal(voxels[:, :, z], page.T)
    assert (layer.dtype, layer.bounds.start, layer.chunk_shape) == (dtype, (5, -7, 11), (100, 70, 1))
    assert open_identity(layer.identity()).identity() == layer.identity()


def test_one_slice_is_read_when_it_is_needed(tmp_path: Path) -> None:
    """A box of one slice decodes one slice, and its digest changes with the file."""
    folder = slices(tmp_path / "a")
    layer = open_layer(folder, voxel_size_nm=SIZE)
    box = layer.chunks_of(layer.bounds)[7]
    before = layer.read(box).reads
    assert (len(before), layer.fetched) == (1, 1)  # type: ignore[attr-defined]
    Image.fromarray(np.zeros((70, 100), np.uint8)).save(folder / "slice_7.png")
    after = open_layer(folder, voxel_size_nm=SIZE).read(box).reads
    assert after.keys() == before.keys()
    assert after != before


def test_what_makes_no_volume_is_refused(tmp_path: Path) -> None:
    """Another size, another type, colours, a palette, two formats, a file that is none, more pixels than bytes."""
    bad = {
        "size": Image.new("L", (99, 70)),
        "type": Image.fromarray(np.zeros((70, 100), np.uint16)),
        "colours": Image.new("RGB", (100, 70)),
        "palette": Image.new("P", (100, 70)),
    }
    for name, image in bad.items():
        image.save(slices(tmp_path / name) / "slice_5.png")
        with pytest.raises(LayerError, match="slice_5") as caught:
            open_layer(tmp_path / name, voxel_size_nm=SIZE)
        assert "different sizes or types" in str(caught.value) or "not a grey-scale image" in str(caught.value)
    (slices(tmp_path / "none") / "slice_5.png").write_bytes(b"no picture")
    huge = bytearray((slices(tmp_path / "huge") / "slice_5.png").read_bytes())
    huge[16:24] = b"\0\1\0\0\0\1\0\0"
    crc = __import__("zlib").crc32(bytes(huge[12:29]))
    huge[29:33] = crc.to_bytes(4, "big")
    (tmp_path / "huge" / "slice_5.png").write_bytes(huge)
    for name in ("none", "huge"):
        with pytest.raises(LayerError, match="slice_5"):
            open_layer(tmp_path / name, voxel_size_nm=SIZE)
    (slices(tmp_path / "both") / "slice_0.tif").write_bytes(b"")
    with pytest.raises(LayerError, match="two formats"):
        open_layer(tmp_path / "both", voxel_size_nm=SIZE)
    with pytest.raises(LayerError, match="no voxel size"):
        open_layer(slices(tmp_path / "good"))


@pytest.mark.parametrize("harm", ["cut", "gone", "other"])
def test_a_slice_that_cannot_be_read_is_named(tmp_path: Path, harm: str) -> None:
    """Cut or gone or of another size after the layer was opened, it is a chunk's error; the others are read."""
    folder = slices(tmp_path / "a")
    layer = open_layer(folder, voxel_size_nm=SIZE, patience=1)
    path = folder / "slice_5.png"
    if harm == "cut":
        path.write_bytes(path.read_bytes()[:118])
    elif harm == "gone":
        path.unlink()
    else:
        Image.new("L", (10, 10)).save(path)
    chunks = layer.chunks_of(layer.bounds)
    with pytest.raises(ChunkError) as caught:
        layer.read(chunks[5])
    assert caught.value.cause == ("missing" if harm == "gone" else "unreadable")
    assert "slice_5" in str(caught.value)
    assert layer.read(chunks[6]).array.shape == (100, 70, 1)
