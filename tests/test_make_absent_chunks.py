"""Chunks that a layer lacks are errors, unless the recipe says of that layer that they are background."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from voxmint.cli import main
from voxmint.errors import LayerError
from voxmint.instances.recipe import InstanceRecipe
from voxmint.instances.table.columns import ColumnMap
from voxmint.make.instances import Inputs
from voxmint.phantom.layers import make_phantom

for package in ("tensorstore", "cloudvolume"):
    pytest.importorskip(package, reason="needs voxmint[cloud]")

LAYERS = ("source", "target")
FLAGS = ["--table-voxel-size", "16,16,30", "--crop", "16,16,8", "--workers", "1"]


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantom")
    make_phantom(folder, size=(256, 256, 32), instances=8)
    return folder


@pytest.fixture
def holed(phantom: Path, tmp_path: Path) -> Path:
    """The phantom without the first chunk of either layer."""
    folder = shutil.copytree(phantom, tmp_path / "holed")
    for name in LAYERS:
        min(path for path in (folder / name).rglob("*-*_*-*_*-*")).unlink()
    return folder


@pytest.mark.parametrize("reader", ["tensorstore", "cloudvolume"])
@pytest.mark.parametrize("declared", [(), ("source",), ("target",), LAYERS])
def test_a_layer_that_is_declared_sparse_may_lack_chunks(phantom, holed, reader, declared) -> None:
    """The declared layer reads 0 there and its own values elsewhere; the other one says what is missing."""
    recipe = InstanceRecipe(**{f"{name}_sparse": True for name in declared})
    columns = ColumnMap(voxel_size_nm=(16, 16, 30))
    whole, cut = (
        Inputs(f"{folder}/source", f"{folder}/target", folder / "materialization.csv", columns, reader).layers(recipe)
        for folder in (phantom, holed)
    )
    for name, before, after in zip(LAYERS, whole, cut, strict=True):
        if name not in declared:
            with pytest.raises(LayerError):
                after.read(after.bounds)
            continue
        values, kept = (layer.read(layer.bounds).array for layer in (before, after))
        changed = values != kept
        assert changed.any()
        assert not kept[changed].any()
        assert not changed.all()


@pytest.mark.parametrize("name", LAYERS)
def test_the_flag_of_a_sparse_layer_makes_its_samples(phantom, tmp_path, name) -> None:
    """With chunks of a layer gone a run fails; with its flag samples are made, and repaired to the same bytes."""
    layers = {layer: phantom / layer for layer in LAYERS} | {name: shutil.copytree(phantom / name, tmp_path / name)}
    for path in sorted(layers[name].rglob("*-*_*-*_*-*"))[3 :: 2 if name == "source" else 8]:
        path.unlink()
    places = [part for layer, folder in layers.items() for part in (f"--{layer}", str(folder))]
    command = ["instances", "make", *places, "--table", str(phantom / "materialization.csv"), *FLAGS]
    out = tmp_path / "out"
    assert main([*command, "--out", str(tmp_path / "fails")]) == 1
    assert not (tmp_path / "fails/records.jsonl").exists()
    assert main([*command, "--out", str(out), f"--{name}-sparse"]) == 0
    path = min(out.glob("source/*.npy"))
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert main(["repair", str(out), "--workers", "1"]) == 0
    assert path.read_bytes() == data
