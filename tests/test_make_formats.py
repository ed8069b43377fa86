"""Layers and tables as they are met, through the command: several workers, resumed, verified and repaired."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from voxmint.cli import main
from voxmint.phantom.layers import make_phantom
from voxmint.volumes.opening import open_layer

zarr = pytest.importorskip("zarr", reason="OME-Zarr is written with it")


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A phantom; its image as OME-Zarr of two scales and as PNG slices; its table as annotations and by semicolons."""
    folder = tmp_path_factory.mktemp("phantom")
    make_phantom(folder, size=(256, 256, 32), instances=8)
    source = open_layer(folder / "source")
    zyx = np.ascontiguousarray(source.read(source.bounds).array.transpose(2, 1, 0))
    group = zarr.open_group(folder / "image.zarr", mode="w", zarr_format=3)
    size, start = source.voxel_size_nm[::-1], source.bounds.start[::-1]
    datasets = []
    for number, step in enumerate((2, 1)):
        group.create_array(str(number), data=zyx[:, ::step, ::step], chunks=(16, 64, 64))
        scale = [size[0], size[1] * step, size[2] * step]
        moved = [a * n + (s - n) / 2 for a, n, s in zip(start, size, scale, strict=True)]
        datasets.append({"path": str(number), "coordinateTransformations": [
            {"type": "scale", "scale": scale}, {"type": "translation", "translation": moved}]})  # fmt: skip
    axes = [{"name": name, "type": "space", "unit": "nanometer"} for name in "zyx"]
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": datasets[::-1]}]}
    (folder / "slices").mkdir()
    for z, page in enumerate(zyx):
        Image.fromarray(page).save(folder / "slices" / f"z{z}.png")
    (folder / "place.json").write_text(json.dumps([list(source.voxel_size_nm), list(source.bounds.start)]))
    rows = list(csv.DictReader((folder / "materialization.csv").read_text().splitlines()))
    names = ("x", "y", "z", "pre_neuron_id", "post_neuron_id")
    lines = ["cx;cy;cz;p;q", *(";".join(row[name] for name in names) for row in rows)]
    (folder / "table.csv").write_text("\n".join(lines))
    points = np.array([[float(row[n]) for n in "xyz"] for row in rows], "<f4")
    notes = folder / "notes"
    (notes / "all").mkdir(parents=True)
    (notes / "info").write_text(json.dumps({
        "@type": "neuroglancer_annotations_v1", "annotation_type": "POINT", "properties": [], "relationships": [],
        "dimensions": {"x": [16e-9, "m"], "y": [16e-9, "m"], "z": [30e-9, "m"]}, "by_id": {"key": "ids"},
        "lower_bound": [0, 0, 0], "upper_bound": [9999, 9999, 9999],
        "spatial": [{"key": "all", "grid_shape": [1, 1, 1], "chunk_size": [9999] * 3, "limit": 99}]}))  # fmt: skip
    ids = np.arange(len(points), dtype="<u8")
    (notes / "all" / "0_0_0").write_bytes(len(points).to_bytes(8, "little") + points.tobytes() + ids.tobytes())
    return folder


def make(phantom: Path, out: Path, *more: str) -> int:
    """Run the command with small crops."""
    return main(["instances", "make", "--target", f"{phantom}/target", "--crop", "16,16,8", "--out", str(out), *more])


PLAIN = ["--table-voxel-size", "16,16,30"]


def inputs(phantom: Path, kind: str) -> list[str]:
    """Return flags that name the same image and rows in another way."""
    size, start = json.loads((phantom / "place.json").read_text())
    fine = ",".join(f"{n:g}" for n in size)
    return {
        "plain": ["--source", f"{phantom}/source", "--table", f"{phantom}/materialization.csv", *PLAIN],
        "ome": ["--source", f"{phantom}/image.zarr", "--table", f"{phantom}/table.csv", *PLAIN, "--source-scale-nm",
                fine, "--column", "centre=cx,cy,cz", "--column", "pre_neuron_id=p", "--column", "post_neuron_id=q"],
        "slices": ["--source", f"{phantom}/slices", "--table", f"{phantom}/notes", "--source-voxel-size", fine,
                   "--source-offset", ",".join(map(str, start))],
    }[kind]  # fmt: skip


@pytest.fixture(scope="module")
def plain(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data set of the phantom as it is."""
    out = tmp_path_factory.mktemp("plain") / "out"
    assert make(phantom, out, *inputs(phantom, "plain"), "--workers", "1") == 0
    return out


@pytest.mark.parametrize("kind", ["ome", "slices"])
def test_other_formats_give_the_same_samples_and_repair(
    phantom: Path, plain: Path, tmp_path: Path, kind: str, capsys
) -> None:
    """Two workers; a rerun adds nothing; what is damaged is made again; an image that changed is refused."""
    copy, out = shutil.copytree(phantom, tmp_path / "phantom"), tmp_path / "out"
    flags = inputs(copy, kind)
    assert make(copy, out, *flags, "--workers", "2") == 0
    for path in sorted(plain.rglob("*.npy")):
        if path.name != "rows.npy" and path.name != "records.npy":
            assert (out / path.relative_to(plain)).read_bytes() == path.read_bytes(), path.name
    capsys.readouterr()
    assert make(copy, out, *flags, "--workers", "2") == 0
    assert "complete already" in capsys.readouterr().out
    harmed = sorted(out.rglob("source_*.npy"))[0]
    before = harmed.read_bytes()
    harmed.write_bytes(before[:-5])
    assert main(["verify", str(out)]) == 1
    assert main(["repair", str(out), "--workers", "1"]) == 0
    assert harmed.read_bytes() == before
    harmed.write_bytes(before[:-5])
    for path in [*(copy / "slices").iterdir(), *(copy / "image.zarr" / "1").rglob("c/*/*/*")]:
        if path.suffix == ".png":
            Image.fromarray(255 - np.asarray(Image.open(path))).save(path)
        elif path.is_file():
            path.unlink()
    assert main(["repair", str(out), "--workers", "1"]) == 1
    assert (
        yaml.safe_load((out / "recipe.yaml").read_text())["source"]["format"] == {"ome": "zarr3", "slices": "png"}[kind]
    )
