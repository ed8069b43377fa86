"""What was read of a layer: each chunk by name, with a digest of its voxels."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from layer_making import CHUNK, OFFSET, SHAPE, SIZE, labels, positions, precomputed

from voxmint.volumes.box import Box
from voxmint.volumes.opening import open_layer

pytest.importorskip("tensorstore", reason="needs voxmint[cloud]")
pytest.importorskip("cloudvolume", reason="needs voxmint[cloud]")

WHOLE = Box.at(OFFSET, SHAPE)
CROP = Box((20, 0, 20), (60, 40, 30))
READERS = pytest.mark.parametrize("reader", ["tensorstore", "cloudvolume"])


def digest_of(voxels: Any) -> str:
    """Return what the digest of voxels (x, y, z) is: of their bytes, x fastest, as precomputed chunks lie."""
    return hashlib.sha256(voxels.tobytes("F")).hexdigest()[:16]


@READERS
def test_a_cutout_names_exactly_the_chunks_that_its_voxels_are_of(tmp_path: Path, reader: Any) -> None:
    """With the names that the chunks' files have, and the digests of what was written, however it is read."""
    layer = open_layer(precomputed(f"file://{tmp_path}/raw", positions()), reader=reader)
    array, files = positions(), {path.name for path in (tmp_path / "raw/4_6_40").iterdir()}
    assert layer.read(WHOLE).reads.keys() == files
    expected = {chunk.name: digest_of(array[chunk.slices(WHOLE)]) for chunk in layer.chunks_of(CROP)}
    assert len(expected) == 8
    assert expected.keys() < files
    one, submitted, (_, many) = layer.read(CROP), layer.submit(CROP).result(), next(layer.read_many([CROP]))
    assert one.reads == submitted.reads == many.reads == expected
    assert layer.read(WHOLE.shift((200, 0, 0))).reads == {}


@READERS
@pytest.mark.parametrize("cache_bytes", [0, 1 << 28])
def test_a_changed_chunk_changes_its_digest_and_no_other(tmp_path: Path, reader: Any, cache_bytes: int) -> None:
    """One voxel of it; what was read before stays as it was read."""
    url = precomputed(f"file://{tmp_path}/raw", positions())
    before = open_layer(url, reader=reader).read(WHOLE).reads
    path = tmp_path / "raw/4_6_40/37-69_-7-25_11-27"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    after = open_layer(url, reader=reader, cache_bytes=cache_bytes).read(WHOLE).reads
    assert before.keys() == after.keys()
    assert {name for name in before if before[name] != after[name]} == {path.name}


@READERS
def test_an_absent_chunk_of_a_sparse_layer_is_called_so(tmp_path: Path, reader: Any) -> None:
    """And is told from a chunk that is there and holds background."""
    array = positions()
    array[:32, :32, :16] = 0
    url = precomputed(f"file://{tmp_path}/raw", array)
    path = tmp_path / "raw/4_6_40/5-37_-7-25_11-27"
    there = open_layer(url, reader=reader, sparse=True).read(WHOLE).reads
    assert there[path.name] == digest_of(array[:32, :32, :16])
    path.unlink()
    reads = open_layer(url, reader=reader, sparse=True).read(WHOLE).reads
    assert reads == there | {path.name: "absent"}


def test_a_chunk_that_another_process_left_has_the_digest_of_a_fetched_one(tmp_path: Path) -> None:
    """It is taken of what is used: a chunk that was damaged on its way between processes is seen."""
    from servers import http_server

    precomputed(f"file://{tmp_path}/raw", labels())
    with http_server(tmp_path) as server:
        fetched = open_layer(f"{server.url}/raw", shared=tmp_path / "shared").read(WHOLE).reads
        taken = open_layer(f"{server.url}/raw", shared=tmp_path / "shared")
        assert taken.read(WHOLE).reads == fetched
        path = tmp_path / "shared/5-37_-7-25_11-27"
        path.write_bytes(path.read_bytes()[::-1])
        damaged = open_layer(f"{server.url}/raw", shared=tmp_path / "shared").read(WHOLE).reads
    assert {name for name in fetched if fetched[name] != damaged[name]} == {path.name}


@pytest.mark.parametrize("axes", ["xyz", "zyx", "yxz"])
def test_the_order_in_memory_does_not_matter(axes: str) -> None:
    """The same voxels have the same digests, however they are stored."""
    array = positions()
    stored = array.transpose(["xyz".index(axis) for axis in axes])
    for copy in (np.ascontiguousarray(stored), np.asfortranarray(stored), stored.astype(">u4")):
        layer = open_layer(copy, axes=axes, voxel_size_nm=SIZE, offset=OFFSET)
        chunk = layer.chunks_of(WHOLE)[0]
        assert layer.read(chunk).reads == {chunk.name: digest_of(array[:64, :64, :45])}


def test_voxels_that_are_kept_are_not_hashed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once a fetch."""
    from voxmint.volumes import kept

    hashed = []
    content_digest = kept.content_digest
    monkeypatch.setattr(kept, "content_digest", lambda array: hashed.append(1) or content_digest(array))
    layer = open_layer(precomputed(f"file://{tmp_path}/raw", positions()))
    for _ in range(3):
        layer.read(Box.at(OFFSET, CHUNK))
    assert len(hashed) == 1
