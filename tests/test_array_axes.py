"""Arrays stored x, y, z: the files are turned, and whatever reads them through the library sees the same samples."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
import yaml

from voxmint.cli import main
from voxmint.datasets.stored import StoredDataset
from voxmint.phantom.layers import make_phantom


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("phantom")
    make_phantom(folder, size=(256, 256, 32), instances=6)
    layers = [part for name in ("source", "target") for part in (f"--{name}", str(folder / name))]
    table = ["--table", str(folder / "materialization.csv"), "--table-voxel-size", "16,16,30"]
    return ["instances", "make", *layers, *table, "--crop", "24,20,8", "--workers", "1"]


@pytest.mark.parametrize("format", ["npy", "hdf5"])
def test_arrays_are_stored_as_asked_and_read_as_samples(command, tmp_path, format, capsys) -> None:
    """Files, recipe, verify, repair, pictures and resuming know the order; by default nothing is written of it."""
    plain, turned = tmp_path / "plain", tmp_path / "turned"
    command = [*command, "--format", format]
    assert main([*command, "--out", str(plain)]) == 0
    assert main([*command, "--out", str(turned), "--array-axes", "xyz"]) == 0
    assert "axes" not in yaml.safe_load((plain / "recipe.yaml").read_text())["format"]
    assert yaml.safe_load((turned / "recipe.yaml").read_text())["format"]["axes"] == "xyz"
    ours, theirs = StoredDataset(plain), StoredDataset(turned)
    for index in ours.records.indices.tolist():
        assert ours.sample(index).digest() == theirs.sample(index).digest() == theirs.records.digest(index)
        key = ours.sample(index).key
        if format == "npy":
            found = [np.load(folder / f"source/source_{key}.npy") for folder in (plain, turned)]
        else:
            found = []
            for folder in (plain, turned):
                with h5py.File(folder / "train_data.hdf5") as file:
                    found.append(file[f"{index:06d}"]["source"][()])
        assert found[1].shape == (48, 40, 8)
        assert found[1].flags.c_contiguous
        np.testing.assert_array_equal(found[0], found[1].T)
    path = next(turned.glob("gt/*.npy")) if format == "npy" else turned / "train_data.hdf5"
    data = path.read_bytes()
    at = len(data) - 1 if format == "npy" else data.index(StoredDataset(turned).arrays(index)["source"].T.tobytes())
    path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    assert main(["verify", str(turned)]) == 1
    assert main(["repair", str(turned), "--workers", "1"]) == 0
    assert path.read_bytes() == data
    for folder, name in ((plain, "plain.png"), (turned, "turned.png")):
        assert main(["montage", str(folder), "--out", str(tmp_path / name)]) == 0
    assert (tmp_path / "plain.png").read_bytes() == (tmp_path / "turned.png").read_bytes()
    capsys.readouterr()
    assert main([*command, "--out", str(turned)]) == 1
    assert "format.axes: 'xyz' there, None asked" in capsys.readouterr().err
    assert main([*command, "--out", str(tmp_path / "again"), "--recipe", str(turned / "recipe.yaml")]) == 0
    assert (tmp_path / "again/manifest.jsonl").read_bytes() == (turned / "manifest.jsonl").read_bytes()


def test_training_reads_samples_of_either_order(command, tmp_path) -> None:
    """The items are the same tensors."""
    torch = pytest.importorskip("torch")
    from voxmint.torch import InstanceDataset

    for axes in ("zyx", "xyz"):
        assert main([*command, "--out", str(tmp_path / axes), "--array-axes", axes]) == 0
    first, second = (InstanceDataset(tmp_path / axes)[0] for axes in ("zyx", "xyz"))
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))
