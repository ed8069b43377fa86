"""What a run reads is told before it begins: chunks, requests, stored bytes, time and money."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from voxmint.errors import RecipeError
from voxmint.instances.recipe import InstanceRecipe
from voxmint.instances.sampler import InstanceSampler
from voxmint.instances.table.table import Instance
from voxmint.make.instances import cost
from voxmint.make.instances.cost import Prices, cost_of
from voxmint.volumes.opening import open_layer

sys.path.append(str(Path(__file__).parent / "volumes"))
from servers import FaultyServer

tensorstore = pytest.importorskip("tensorstore")
SHAPE, CHUNK, SIZE = (512, 512, 64), (32, 32, 16), (8, 8, 30)


def write(folder: Path, driver: str) -> Path:
    """Write a layer whose chunks are packed; return its folder."""
    array = (np.indices(SHAPE, dtype=np.uint32).sum(axis=0) // 7 % 200).astype(np.uint8)
    if driver == "zarr":
        metadata: dict[str, Any] = {"shape": SHAPE[::-1], "chunks": CHUNK[::-1], "dtype": "|u1",
                                    "compressor": {"id": "zlib", "level": 1}}  # fmt: skip
        store = tensorstore.open({"driver": "zarr", "kvstore": f"file://{folder}", "metadata": metadata},
                                 create=True).result()  # fmt: skip
        store.write(array.transpose(2, 1, 0)).result()
        return folder
    cloudvolume = pytest.importorskip("cloudvolume", reason="needs voxmint[cloud]")
    cloudvolume.CloudVolume.from_numpy(array, vol_path=f"file://{folder}", resolution=SIZE, chunk_size=CHUNK,
                                       progress=False, compress="gzip", layer_type="image")  # fmt: skip
    return folder


def sampler(layer: Any, count: int) -> InstanceSampler:
    """Return samples around points anywhere in a layer, which is image and segmentation."""
    stream = np.random.Generator(np.random.Philox(key=5))
    centres = stream.random((count, 3)) * np.array(SHAPE) * np.array(SIZE)
    rows = [Instance(number, number, tuple(centre)) for number, centre in enumerate(centres.tolist())]
    return InstanceSampler(InstanceRecipe(crop_vx=(24, 24, 8)), layer, layer, rows)


@pytest.mark.parametrize("kind", ["files", "zarr", "http"])
def test_stored_bytes_are_those_of_the_files(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever reads them; the requests are one a chunk, and prices are for both."""
    folder = write(tmp_path / "a", "zarr" if kind in ("zarr", "http") else "precomputed")
    server = FaultyServer(tmp_path)
    try:
        place = f"zarr://{server.url}/a" if kind == "http" else str(folder)
        given = {} if kind == "files" else {"voxel_size_nm": SIZE}
        found = cost_of([sampler(open_layer(place, **given), 40)], Prices(per_gb=1e6, per_million_requests=1e6))
    finally:
        server.close()
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file() and path.name[0].isdigit()]
    mean = float(np.mean(sizes))
    assert found["counted"] == "exactly"
    assert found["stored_bytes"] / found["chunks"] == pytest.approx(mean, rel=0.15)
    assert found["stored_bytes"] < found["bytes"] / 2
    assert found["requests"] == found["chunks"]
    assert found["price"] == pytest.approx(found["stored_bytes"] / 1e3 + found["requests"], abs=0.01)
    assert found["seconds"] >= 0
    assert found["unread_chunks"] == 0


@pytest.mark.parametrize("count", [60, 4000])
def test_many_rows_are_estimated_by_some(tmp_path: Path, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether rows share chunks or not, the estimate is near what counting gives."""
    samples = sampler(open_layer(write(tmp_path / "a", "zarr"), voxel_size_nm=SIZE), count)
    exact = cost_of([samples])
    monkeypatch.setattr(cost, "COUNTED", 10)
    monkeypatch.setattr(cost, "_LOOKED_AT", 50 if count == 60 else 600)
    estimate = cost_of([samples])
    assert (exact["counted"], estimate["counted"]) == ("exactly", "by sampling")
    for name in ("chunks", "bytes"):
        assert estimate[name] == pytest.approx(exact[name], rel=0.1)


def test_a_price_must_be_one() -> None:
    """Below 0, or none, it is refused with the flag."""
    for wrong in (-1.0, float("nan"), float("inf")):
        with pytest.raises(RecipeError, match="impossible price") as caught:
            Prices(per_gb=wrong)
        assert "--price-per-gb" in str(caught.value)
