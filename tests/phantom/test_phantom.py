"""The embedded connectome: as any reader sees it."""

from __future__ import annotations

import csv
import hashlib
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from voxmint.errors import RecipeError
from voxmint.phantom.layers import KINDS, SOURCE_VOXEL_NM, TARGET_OFFSET, TARGET_VOXEL_NM, make_phantom

SIZE, COUNT = (320, 320, 24), 16
DIGEST = "ee0651294f6c79b06d7b66986609bc41f183e7e9620a6bf6bcc444eae29c1616"
"""Of one small phantom: changes only when what it shows is changed on purpose."""


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One phantom for all tests."""
    return make_phantom(tmp_path_factory.mktemp("phantom"), size=SIZE, instances=COUNT, seed=1)


def stitched(layer: Path) -> NDArray[np.generic]:
    """Read a layer by nothing but its specification; return (z, y, x)."""
    info = json.loads((layer / "info").read_text())
    (scale,) = info["scales"]
    out = np.zeros(scale["size"][::-1], info["data_type"])
    for file in (layer / scale["key"]).iterdir():
        limits = [[int(n) for n in part.split("-")] for part in file.name.split("_")]
        (x0, x1), (y0, y1), (z0, z1) = (
            [n - o for n in pair] for pair, o in zip(limits, scale["voxel_offset"], strict=True)
        )
        out[z0:z1, y0:y1, x0:x1] = np.fromfile(file, info["data_type"]).reshape(z1 - z0, y1 - y0, x1 - x0)
    return out


def rows_of(table: Path) -> list[dict[str, str]]:
    with table.open() as lines:
        return list(csv.DictReader(lines))


def voxel(row: dict[str, str], prefix: str = "") -> tuple[int, int, int]:
    """Return where a point lies in the target's array, (z, y, x)."""
    x, y, z = (int(row[f"{prefix}{axis}"]) - o for axis, o in zip("xyz", TARGET_OFFSET, strict=True))
    return z, y, x


def contents(folder: Path) -> str:
    sha = hashlib.sha256()
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        sha.update(file.relative_to(folder).as_posix().encode() + file.read_bytes())
    return sha.hexdigest()


@pytest.mark.parametrize("reader", ["tensorstore", "cloudvolume"])
def test_any_reader_reads_both_layers(phantom: dict[str, Path], reader: str) -> None:
    """TensorStore and CloudVolume read what the chunk files hold; offset and voxel size put both at one place."""
    pytest.importorskip(reader, reason="needs voxmint[cloud]")
    from voxmint.volumes.opening import open_layer

    layers = {name: open_layer(phantom[name], reader=reader) for name in ("source", "target")}
    for name, layer in layers.items():
        assert np.array_equal(layer.read(layer.bounds).array.T, stitched(phantom[name]))
    assert layers["source"].voxel_size_nm == SOURCE_VOXEL_NM
    assert layers["target"].voxel_size_nm == TARGET_VOXEL_NM
    assert layers["source"].bounds.nm(SOURCE_VOXEL_NM) == layers["target"].bounds.nm(TARGET_VOXEL_NM)
    assert min(layers["source"].bounds.start) > 0


def test_the_same_arguments_give_the_same_bytes(tmp_path: Path) -> None:
    """Twice the same, the same as on every other machine, and another seed another."""
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        make_phantom(tmp_path / name, size=(96, 96, 9), instances=1, seed=seed)
    assert contents(tmp_path / "a") == contents(tmp_path / "b") == DIGEST
    assert contents(tmp_path / "a") != contents(tmp_path / "c")


def test_every_row_points_at_its_mask(phantom: dict[str, Path]) -> None:
    """Row n (from 1) names a voxel of id n, both its ends lie outside it; a row without mask lies far from any."""
    labels, rows = stitched(phantom["target"]), rows_of(phantom["table"])
    assert len(rows) == COUNT
    masks = np.argwhere(labels > 0) * np.array(TARGET_VOXEL_NM[::-1])
    for number, row in enumerate(rows, 1):
        if row["kind"] == "missing":
            assert not (labels == number).any()
            away = masks - np.array(voxel(row)) * np.array(TARGET_VOXEL_NM[::-1])
            assert np.sqrt((away * away).sum(axis=1)).min() > 250
        else:
            assert labels[voxel(row)] == number
        for end in ("pre_pt_", "post_pt_"):
            assert labels[voxel(row, end)] != number
        assert row["pre_neuron_id"] != row["post_neuron_id"]


def test_all_kinds_are_there_and_are_what_they_are_called(phantom: dict[str, Path]) -> None:
    """Tiny ones are tiny, border ones touch a face, touching ones touch the next or the one before."""
    labels, rows = stitched(phantom["target"]), rows_of(phantom["table"])
    assert {row["kind"] for row in rows} == set(KINDS)
    for number, row in enumerate(rows, 1):
        voxels = np.argwhere(labels == number)
        if row["kind"] == "tiny":
            assert 0 < len(voxels) <= 16
        if row["kind"] == "plain":
            assert len(voxels) > 40
        if row["kind"] == "border":
            assert (voxels.min(axis=0) == 0).any() or (voxels.max(axis=0) == np.array(labels.shape) - 1).any()
        if row["kind"] == "touching":
            near = {labels[tuple(np.clip(voxel + step, 0, np.array(labels.shape) - 1))]
                    for voxel in voxels for step in np.argwhere(np.ones((3, 3, 3))) - 1}  # fmt: skip
            assert near & {number - 1, number + 1}


def test_clefts_lie_on_dark_membranes(phantom: dict[str, Path]) -> None:
    """Under every larger mask the image is much darker than elsewhere, and than beside it."""
    image, labels = stitched(phantom["source"]), stitched(phantom["target"]).repeat(2, axis=1).repeat(2, axis=2)
    assert image.shape == labels.shape
    for number, row in enumerate(rows_of(phantom["table"]), 1):
        if row["kind"] not in ("tiny", "missing"):
            mask = labels == number
            beside = np.roll(mask, 14, axis=1) & ~mask
            assert image[mask].mean() < image.mean() - 25
            assert image[mask].mean() < image[beside].mean()


def test_slices_differ_in_brightness_and_noise(phantom: dict[str, Path]) -> None:
    """It looks like sections: their means vary, and no two are alike."""
    image = stitched(phantom["source"])
    means = image.mean(axis=(1, 2))
    assert means.std() > 2
    assert 20 < image.std() < 45
    assert all(not np.array_equal(a, b) for a, b in itertools.pairwise(image))


@pytest.mark.parametrize(
    ("options", "said"),
    [({"size": (90, 96, 9)}, "multiples of 4"), ({"size": (96, 96, 4)}, "at least 8"), ({"instances": 0}, "at least"),
     ({"size": (96, 96, 9), "instances": 500}, "no place for so many")],
)  # fmt: skip
def test_what_cannot_be_made_is_told(tmp_path: Path, options: dict[str, int], said: str) -> None:
    """Sizes and numbers without a place; nothing is left behind."""
    with pytest.raises(RecipeError, match=said):
        make_phantom(tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()
