"""HDF5 files whose links or storage lead to other files."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from voxmint.errors import LayerError
from voxmint.volumes.opening import open_layer

ARRAY = np.arange(4 * 5 * 6, dtype=np.uint8).reshape(4, 5, 6)
SIZE = (4, 6, 40)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file beside a secret one, with every kind of link."""
    (tmp_path / "secret.raw").write_bytes(b"s" * ARRAY.size)
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["volume"] = ARRAY
    with h5py.File(tmp_path / "a.h5", "w") as made:
        made["inner/volume"] = ARRAY
        made["soft"] = h5py.SoftLink("/inner/volume")
        made["inner/beside"] = h5py.SoftLink("volume")
        made["folder"] = h5py.SoftLink("inner")
        made["circle"] = h5py.SoftLink("/circle")
        made["out"] = h5py.ExternalLink("other.h5", "/volume")
        made["outer"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "/")
        made["round"] = h5py.SoftLink("/outer/volume")
        external = [(str(tmp_path / "secret.raw"), 0, ARRAY.size)]
        made.create_dataset("stored", ARRAY.shape, np.uint8, external=external)
        layout = h5py.VirtualLayout(ARRAY.shape, np.uint8)
        layout[...] = h5py.VirtualSource(str(tmp_path / "other.h5"), "volume", ARRAY.shape)
        made.create_virtual_dataset("virtual", layout)
        made["linked"] = h5py.SoftLink("/stored")
    return tmp_path / "a.h5"


@pytest.mark.parametrize("dataset", ["inner/volume", "/inner/volume", "soft", "inner/beside", "folder/beside"])
def test_links_within_the_file_are_followed(file: Path, dataset: str) -> None:
    """They give the same voxels."""
    layer = open_layer(file, dataset=dataset, voxel_size_nm=SIZE)
    assert np.array_equal(layer.read(layer.bounds).array, ARRAY.T)


@pytest.mark.parametrize(
    ("dataset", "words"),
    [
        ("out", "leads to another file"),
        ("outer/volume", "leads to another file"),
        ("round", "leads to another file"),
        ("circle", "in a circle"),
        ("stored", "lie in other files"),
        ("linked", "lie in other files"),
        ("virtual", "lie in other files"),
        ("none/volume", "no such dataset"),
    ],
)
def test_what_leads_to_another_file_is_refused(file: Path, dataset: str, words: str) -> None:
    """Whether a link or the storage does."""
    with pytest.raises(LayerError, match=words):
        open_layer(file, dataset=dataset, voxel_size_nm=SIZE)


def test_the_only_dataset_is_looked_at_too(tmp_path: Path) -> None:
    """Nobody has to name it."""
    (tmp_path / "secret.raw").write_bytes(bytes(ARRAY.size))
    with h5py.File(tmp_path / "a.h5", "w") as made:
        made.create_dataset("v", ARRAY.shape, np.uint8, external=[(str(tmp_path / "secret.raw"), 0, ARRAY.size)])
    with pytest.raises(LayerError, match="lie in other files"):
        open_layer(tmp_path / "a.h5", voxel_size_nm=SIZE)
