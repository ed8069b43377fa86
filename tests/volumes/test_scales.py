"""OME-Zarr 0.4 and 0.5, and the scales of any layer, chosen by number or by voxel size."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from layer_making import positions, precomputed
from numpy.typing import NDArray
from servers import FaultyServer

from voxmint.errors import LayerError
from voxmint.volumes.opening import open_identity, open_layer

zarr = pytest.importorskip("zarr", reason="OME-Zarr is written with it")
SIZES = ((4.0, 6.0, 40.0), (8.0, 12.0, 40.0))
"""Of the two scales, x, y, z in nm."""


def ome(folder: Path, version: str, **changes: Any) -> dict[str, NDArray[Any]]:
    """Write an OME-Zarr group (t, c, z, y, x) of two scales with zarr; return each array, axes (x, y, z)."""
    fine = positions(np.uint16)
    arrays = {"0": fine, "coarse/1": np.ascontiguousarray(fine[::2, ::2])}
    group = zarr.open_group(folder, mode="w", zarr_format=2 if version == "0.4" else 3)
    datasets = []
    for (path, array), size in zip(arrays.items(), SIZES, strict=True):
        stored = array.transpose(2, 1, 0)[None, None]
        group.create_array(path, data=stored, chunks=(1, 1, 16, 32, 32))
        scale = [1.0, 1.0, *(n / 1000 for n in size[::-1])]
        # centres of voxels: the first of the coarse scale lies half a fine voxel further
        moved = [0.0, 0.0, *((n - m) / 2000 for n, m in zip(size[::-1], SIZES[0][::-1], strict=True))]
        datasets.append({"path": path, "coordinateTransformations": [
            {"type": "scale", "scale": scale}, {"type": "translation", "translation": moved}]})  # fmt: skip
    axes: list[dict[str, str]] = [{"name": "t", "type": "time"}, {"name": "c", "type": "channel"}]
    axes += [{"name": name, "type": "space", "unit": "micrometer"} for name in "zyx"]
    multiscales = [{"axes": axes, "datasets": datasets, "name": "image", **changes}]
    group.attrs.update({"multiscales": multiscales} if version == "0.4" else {"ome": {
        "version": "0.5", "multiscales": multiscales}})  # fmt: skip
    return arrays


@pytest.fixture
def server(tmp_path: Path) -> Any:
    """Serve the test's folder."""
    running = FaultyServer(tmp_path)
    yield running
    running.close()


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("place", ["folder", "http"])
def test_ome_zarr_is_as_zarr_reads_it(tmp_path: Path, server: FaultyServer, version: str, place: str) -> None:
    """Voxels, voxel size and offset of each scale, from a folder and over HTTP, and found again by identity."""
    ome(tmp_path / "a.ome.zarr", version)
    address = str(tmp_path / "a.ome.zarr") if place == "folder" else f"{server.url}/a.ome.zarr"
    plain = zarr.open_group(tmp_path / "a.ome.zarr", mode="r")
    for mip, path in enumerate(("0", "coarse/1")):
        layer = open_layer(address, mip=mip)
        expected = np.asarray(plain[path])[0, 0].transpose(2, 1, 0)
        assert np.array_equal(layer.read(layer.bounds).array, expected)
        assert (layer.voxel_size_nm, layer.bounds.start) == (SIZES[mip], (0, 0, 0))
        assert layer.chunk_shape == (32, 32, 16)
        by_size = open_layer(address, scale_nm=SIZES[mip])
        assert by_size.identity() == layer.identity() == open_identity(layer.identity()).identity()
        assert layer.identity()["mip"] == mip


def test_a_translation_by_whole_voxels_is_an_offset_and_any_other_is_asked_for(tmp_path: Path) -> None:
    """Shifted by 10, -3, 2 voxels the layer begins there; by half a voxel it is refused until an offset is given."""
    for name, voxels in (("whole", (10, -3, 2)), ("between", (10.5, 0, 0))):
        ome(tmp_path / name, "0.4")
        attributes = json.loads((tmp_path / name / ".zattrs").read_text())
        moved = [0, 0, *(v * n / 1000 for v, n in zip(voxels[::-1], SIZES[0][::-1], strict=True))]
        attributes["multiscales"][0]["datasets"][0]["coordinateTransformations"][1]["translation"] = moved
        (tmp_path / name / ".zattrs").write_text(json.dumps(attributes))
    assert open_layer(tmp_path / "whole").bounds.start == (10, -3, 2)
    with pytest.raises(LayerError, match="begins between voxels") as caught:
        open_layer(tmp_path / "between")
    assert caught.value.argument == "offset"
    assert open_layer(tmp_path / "between", offset=(10, 0, 0)).bounds.start == (10, 0, 0)


def test_without_a_unit_the_voxel_size_is_asked_for(tmp_path: Path) -> None:
    """Numbers without a unit are not guessed to be nm."""
    ome(tmp_path / "a", "0.4", axes=["t", "c", "z", "y", "x"])
    with pytest.raises(LayerError, match="carries no voxel size") as caught:
        open_layer(tmp_path / "a")
    assert caught.value.argument == "voxel_size_nm"
    assert open_layer(tmp_path / "a", voxel_size_nm=(4, 6, 40)).bounds.shape == (100, 70, 45)


@pytest.mark.parametrize(
    "changes",
    [
        {"datasets": [{"path": "../a", "coordinateTransformations": []}]},
        {"datasets": [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [1, 1, 0, 1, 1]}]}]},
        {"datasets": [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [1, 1, 1e400, 1, 1]}]}]},
        {"datasets": [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [1, 1]}]}]},
        {"datasets": []}, {"datasets": 7}, {"axes": None}, {"axes": ["t", "c", "z", "y", "q"]},
        {"datasets": [{"path": "elsewhere", "coordinateTransformations": []}]}, {"datasets": [{}]},
    ],
    ids=str,
)  # fmt: skip
def test_wrong_ome_metadata_are_an_error_of_ours(tmp_path: Path, changes: dict[str, Any]) -> None:
    """Whatever they say, the error names the layer."""
    ome(tmp_path / "a", "0.4", **changes)
    with pytest.raises(LayerError, match="/a"):
        open_layer(tmp_path / "a", voxel_size_nm=(1, 1, 1))


@pytest.mark.parametrize("reader", ["tensorstore", "cloudvolume"])
def test_a_scale_that_is_not_there_is_told_with_those_that_are(tmp_path: Path, reader: Any) -> None:
    """By number or by voxel size; both at once only where they agree."""
    pytest.importorskip("cloudvolume", reason="needs voxmint[cloud]")
    precomputed(f"file://{tmp_path}/a", positions())
    for argument, value in (("mip", 2), ("scale_nm", (8, 12, 40))):
        with pytest.raises(LayerError, match=r"no (such )?scale") as caught:
            open_layer(tmp_path / "a", reader=reader, **{argument: value})  # type: ignore[arg-type]
        assert caught.value.argument == argument
        assert "0: 4 x 6 x 40 nm" in str(caught.value)
    assert open_layer(tmp_path / "a", reader=reader, scale_nm=(4, 6, 40)).voxel_size_nm == (4, 6, 40)
    np.save(tmp_path / "b.npy", positions())
    with pytest.raises(LayerError, match="no mip levels"):
        open_layer(tmp_path / "b.npy", voxel_size_nm=(1, 1, 1), scale_nm=(1, 1, 1))
