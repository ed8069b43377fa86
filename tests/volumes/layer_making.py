"""Layers for tests, written with the clients that people write them with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SHAPE, OFFSET, CHUNK, SIZE = (100, 70, 45), (5, -7, 11), (32, 32, 16), (4, 6, 40)
"""Of the layers here; axes (x, y, z), no two alike, chunks that do not fit the shape, an offset below 0."""


def positions(dtype: Any = np.uint32, shape: tuple[int, int, int] = SHAPE) -> NDArray[Any]:
    """Return an array (x, y, z) in which every voxel holds its own number, wrapped to the type."""
    numbers = np.arange(1, 1 + np.prod(shape), dtype=np.uint64).reshape(shape, order="F")
    return np.asfortranarray((numbers * 2654435761 % 2**32).astype(dtype))


def labels() -> NDArray[np.uint64]:
    """Return blocks of ids above 2**53, which floats cannot hold."""
    x, y, z = np.indices(SHAPE, dtype=np.uint64)
    return np.asfortranarray((x // 9 + 100 * (y // 7) + 10000 * (z // 5)) % 97 * np.uint64(3) + np.uint64(2**60 + 1))


def grey() -> NDArray[np.uint8]:
    """Return a smooth image, as jpeg expects."""
    x, y, z = np.indices(SHAPE)
    return np.asfortranarray((120 + 60 * np.sin(x / 9) + 50 * np.cos(y / 7 + z / 5)).astype(np.uint8))


def precomputed(url: str, array: NDArray[Any], encoding: str = "raw", *, sharded: bool = False) -> str:
    """Write a precomputed layer with CloudVolume (TensorStore, if sharded), uncompressed; return its URL."""
    labelled = array.dtype == np.uint64
    if sharded:
        import tensorstore

        scale: dict[str, Any] = {
            "size": list(array.shape), "voxel_offset": list(OFFSET), "chunk_size": list(CHUNK),
            "resolution": list(SIZE), "encoding": encoding, "key": "finest",
            "sharding": {"@type": "neuroglancer_uint64_sharded_v1", "preshift_bits": 1, "minishard_bits": 2,
                         "shard_bits": 1, "hash": "identity", "minishard_index_encoding": "gzip",
                         "data_encoding": "gzip"},
        }  # fmt: skip
        if encoding == "compressed_segmentation":
            scale["compressed_segmentation_block_size"] = [8, 8, 8]
        store = tensorstore.open({
            "driver": "neuroglancer_precomputed", "kvstore": url, "create": True, "scale_metadata": scale,
            "multiscale_metadata": {"type": "segmentation" if labelled else "image", "data_type": array.dtype.name,
                                    "num_channels": 1}}).result()  # fmt: skip
        store[..., 0].write(array).result()
        return url
    from cloudvolume import CloudVolume

    CloudVolume.from_numpy(array, vol_path=url, resolution=SIZE, voxel_offset=OFFSET, chunk_size=CHUNK,
                           layer_type="segmentation" if labelled else "image", encoding=encoding, progress=False,
                           compress=False)  # fmt: skip
    return url


def chunked_array(driver: str, folder: Path, array: NDArray[Any]) -> Path:
    """Write zarr, zarr3 or N5 with TensorStore; zarr as (z, y, x), N5 as (x, y, z)."""
    import tensorstore

    stored = array if driver == "n5" else array.transpose(2, 1, 0)
    chunk = list(CHUNK) if driver == "n5" else list(CHUNK[::-1])
    metadata: dict[str, Any] = {
        "zarr": {"chunks": chunk, "dtype": array.dtype.newbyteorder(">").str, "shape": list(stored.shape)},
        "zarr3": {"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [2 * n for n in chunk]}},
                  "shape": list(stored.shape), "data_type": array.dtype.name, "dimension_names": ["z", "y", "x"],
                  "codecs": [{"name": "sharding_indexed", "configuration": {"chunk_shape": chunk, "codecs": [
                      {"name": "bytes", "configuration": {"endian": "little"}}]}}]},
        "n5": {"dimensions": list(stored.shape), "blockSize": chunk, "dataType": array.dtype.name,
               "compression": {"type": "gzip"}, "units": ["nm"] * 3, "resolution": list(SIZE)},
    }[driver]  # fmt: skip
    spec = {"driver": driver, "kvstore": f"file://{folder}", "metadata": metadata, "create": True}
    tensorstore.open(spec).result().write(stored).result()
    return folder
