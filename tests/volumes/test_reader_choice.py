"""``auto`` reads whatever either reader reads, as the layer's metadata demand."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from layer_making import labels, positions, precomputed
from servers import FaultyServer

from voxmint.errors import ChunkError, LayerError, MissingExtraError
from voxmint.volumes.opening import layer_from_spec, open_identity, open_layer

pytest.importorskip("cloudvolume", reason="needs voxmint[cloud]")
CODECS = {"compresso": "compresso", "crackle": "crackle"}


@pytest.mark.parametrize("encoding", CODECS)
@pytest.mark.parametrize("place", ["folder", "http"])
def test_auto_takes_cloudvolume_for_what_only_it_reads(tmp_path: Path, encoding: str, place: str) -> None:
    """The voxels are those written; what was taken is recorded, and is what workers and repair take."""
    pytest.importorskip(CODECS[encoding], reason="needs voxmint[cloud]")
    precomputed(f"file://{tmp_path}/a", labels(), encoding)
    server = FaultyServer(tmp_path)
    try:
        layer = open_layer(f"{server.url}/a" if place == "http" else tmp_path / "a")
        assert np.array_equal(layer.read(layer.bounds).array, labels())
        assert (layer.identity()["reader"], layer.spec()["reader"]) == ("cloudvolume", "cloudvolume")
        for again in (open_identity(layer.identity()), layer_from_spec(layer.spec(), layer.identity())):
            assert again.identity() == layer.identity()
    finally:
        server.close()
    with pytest.raises(LayerError, match="TensorStore does not know this encoding") as caught:
        open_layer(tmp_path / "a", reader="tensorstore")
    assert caught.value.argument == "reader"


def test_auto_takes_tensorstore_for_what_it_reads(tmp_path: Path) -> None:
    """Recorded, too."""
    precomputed(f"file://{tmp_path}/a", positions())
    layer = open_layer(tmp_path / "a")
    assert (layer.identity()["reader"], layer.spec()["reader"]) == ("tensorstore", "tensorstore")


@pytest.mark.parametrize("encoding", CODECS)
def test_a_damaged_chunk_harms_itself_alone(tmp_path: Path, encoding: str) -> None:
    """Bytes that make a decoder write where nothing of its own is end one process, which is not this one."""
    pytest.importorskip(CODECS[encoding], reason="needs voxmint[cloud]")
    precomputed(f"file://{tmp_path}/a", labels(), encoding)
    layer = open_layer(tmp_path / "a", patience=5, attempts=1)
    chunks = layer.chunks_of(layer.bounds)
    stored = sorted((tmp_path / "a" / "4_6_40").iterdir())
    whole = {path: path.read_bytes() for path in stored}
    told = []
    for seed, path in enumerate(stored[:4]):
        data = bytearray(whole[path])
        for number in range(20):
            data[36 + (number * 7919 + seed * 104729) % (len(data) - 36)] ^= 0xA5
        path.write_bytes(data[: len(data) // 2] if seed == 3 else data)
    for chunk in chunks:
        try:
            layer.read(chunk)
        except ChunkError as error:
            told.append(error)
    assert told
    assert all(error.cause == "unreadable" and f"damaged {encoding} data" in str(error) for error in told)
    for path, data in whole.items():
        path.write_bytes(data)
    again = open_layer(tmp_path / "a")
    assert np.array_equal(again.read(again.bounds).array, labels())


def test_a_chunk_of_another_shape_is_not_decoded(tmp_path: Path) -> None:
    """What a chunk says of itself is compared with what the layer says of it first."""
    compresso = pytest.importorskip("compresso", reason="needs voxmint[cloud]")
    precomputed(f"file://{tmp_path}/a", labels(), "compresso")
    layer = open_layer(tmp_path / "a", patience=5, attempts=1)
    first = layer.chunks_of(layer.bounds)[0]
    (tmp_path / "a" / "4_6_40" / first.name).write_bytes(compresso.compress(labels()[:8, :8, :8].copy(order="F")))
    with pytest.raises(ChunkError) as caught:
        layer.read(first)
    assert "it holds (8, 8, 8) voxels" in str(caught.value)


def test_a_codec_that_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the package, and the extra that brings it where there is one."""
    precomputed(f"file://{tmp_path}/a", positions(np.uint8))
    info = json.loads((tmp_path / "a" / "info").read_text())
    find = importlib.util.find_spec
    hidden = ("compresso", "crackle", "imagecodecs", "zfpc")
    monkeypatch.setattr("voxmint.volumes.readers.codecs.apart.find_spec",
                        lambda name: None if name in hidden else find(name))  # fmt: skip
    expected: dict[str, Any] = {"compresso": "voxmint[cloud]", "crackle": "crackle-codec", "jxl": "imagecodecs"}
    for encoding, word in expected.items():
        info["scales"][0]["encoding"] = encoding
        (tmp_path / "a" / "info").write_text(json.dumps(info))
        with pytest.raises(MissingExtraError) as caught:
            open_layer(tmp_path / "a")
        assert f"pip install {word}" in str(caught.value) or word in str(caught.value)
