"""Damaged objects read through CloudVolume: refused wherever their structure shows it, as TensorStore refuses them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from layer_making import CHUNK, OFFSET, SHAPE, positions, precomputed

from voxmint.errors import ChunkError
from voxmint.volumes.box import Box
from voxmint.volumes.chunks import ChunkedLayer
from voxmint.volumes.opening import open_layer

pytest.importorskip("tensorstore", reason="needs voxmint[cloud]")
pytest.importorskip("cloudvolume", reason="needs voxmint[cloud]")

FIRST = Box.at(OFFSET, CHUNK)


def many_widths(dtype: Any) -> np.ndarray:
    """Return labels in which blocks need from 0 to 16 bits a voxel."""
    rng = np.random.default_rng(0)
    kinds = np.array([1, 2, 4, 16, 256, 500])[np.arange(SHAPE[0]) // 8 % 6]
    numbers = rng.integers(0, kinds[:, None, None], SHAPE)
    return np.asfortranarray((numbers * 7919 + 2**31).astype(dtype))


def opened(folder: Path, reader: str, **options: Any) -> ChunkedLayer:
    layer = open_layer(folder, reader=reader, cache_bytes=0, attempts=1, **options)
    assert isinstance(layer, ChunkedLayer)
    return layer


def read(layer: ChunkedLayer, chunk: Box) -> np.ndarray | None:
    """Return the voxels of a chunk, None if it is refused."""
    try:
        return layer.read(chunk).array
    except ChunkError as error:
        if error.cause != "unreadable":
            raise
        return None


def damages(good: bytes, blocks: int, rng: np.random.Generator) -> list[tuple[str, bytes]]:
    """Return cut, extended and bit-flipped copies."""

    def flipped(first: int, last: int) -> bytes:
        bad = bytearray(good)
        bad[rng.integers(first, last)] ^= 1 << int(rng.integers(8))
        return bytes(bad)

    headers, words = 4 + 8 * blocks, len(good) // 4
    found = [("empty", b""), ("cut", good[:4]), ("cut", good[: headers - 4]), ("cut", good[:-4]), ("cut", good[:-1])]
    found += [("cut", good[: 4 * int(rng.integers(words))]) for _ in range(6)]
    found += [("header", flipped(0, headers)) for _ in range(24)]
    found += [("flipped", flipped(headers, len(good))) for _ in range(6)]
    return [*found, ("longer", good + bytes(3)), ("longer", good + b"more words..")]


@pytest.mark.parametrize("dtype", [np.uint32, np.uint64])
def test_damaged_segmentation_is_refused_as_tensorstore_refuses_it(tmp_path: Path, dtype: Any) -> None:
    """Of some hundred damaged objects none gives other voxels than those TensorStore reads; cut ones give none."""
    precomputed(f"file://{tmp_path}", many_widths(dtype), "compressed_segmentation")
    readers = opened(tmp_path, "cloudvolume"), opened(tmp_path, "tensorstore")
    rng, refused, given = np.random.default_rng(1), Counter[str](), Counter[str]()
    for chunk in readers[0].chunks_of(readers[0].bounds)[::3]:
        path = next(tmp_path.rglob("_".join(f"{a}-{b}" for a, b in zip(chunk.start, chunk.stop, strict=True))))
        good = path.read_bytes()
        blocks = int(np.prod([-(-n // 8) for n in chunk.shape]))
        for kind, bad in damages(good, blocks, rng):
            path.write_bytes(bad)
            ours, theirs = (read(layer, chunk) for layer in readers)
            given[kind] += 1
            refused[kind] += ours is None
            assert theirs is not None or ours is None, (kind, chunk)
            assert ours is None or np.array_equal(ours, theirs), (kind, chunk)
        path.write_bytes(good)
        assert np.array_equal(read(readers[0], chunk), read(readers[1], chunk))
    assert refused["cut"] == given["cut"] > 50
    assert refused["empty"] == given["empty"] == 12
    assert refused["header"] > given["header"] / 10
    assert refused["longer"] == given["longer"] / 2  # whole words after the last change nothing


@pytest.mark.parametrize("reader", ["cloudvolume", "tensorstore"])
def test_raw_chunks_of_another_length_are_refused(tmp_path: Path, reader: str) -> None:
    """One byte or voxel less or more, or nothing at all, which is not an absent chunk of a sparse layer."""
    precomputed(f"file://{tmp_path}", positions())
    layer, path = opened(tmp_path, reader, sparse=True), next(tmp_path.rglob("5-37_-7-25_11-27"))
    good = path.read_bytes()
    for bad in (good[:-1], good[:-4], good + b"\0", good + bytes(4), good * 2, good[:1], b""):
        path.write_bytes(bad)
        assert read(layer, FIRST) is None
    path.write_bytes(good)
    assert np.array_equal(read(layer, FIRST), positions()[:32, :32, :16])


def test_labels_that_lie_at_the_very_end_are_read(tmp_path: Path) -> None:
    """A table that ends with the object is whole, whatever indices the unused voxels of a block could hold."""
    for dtype in (np.uint32, np.uint64):
        folder = tmp_path / np.dtype(dtype).name
        labels = many_widths(dtype)
        precomputed(f"file://{folder}", labels, "compressed_segmentation")
        layer = opened(folder, "cloudvolume")
        assert np.array_equal(layer.read(layer.bounds).array, labels)
