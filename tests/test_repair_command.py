"""`voxmint repair` builds the sampler again from the data set itself and restores its bytes."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from voxmint.cli import main
from voxmint.datasets.hdf5 import Hdf5Format
from voxmint.datasets.manifest import manifest_entries
from voxmint.errors import LayerError
from voxmint.make.repair import repair_data_set
from voxmint.nifti.files import write_nifti
from voxmint.pairs.recipe import PairRecipe
from voxmint.pairs.sampler import PairSampler
from voxmint.phantom.layers import make_phantom
from voxmint.runs.execute import execute
from voxmint.sample import Sample
from voxmint.stores.place import Place
from voxmint.templates.bank import TemplateBank
from voxmint.volumes.opening import open_layer

sys.path.append(str(Path(__file__).parent / "volumes"))
from servers import s3_environment, s3_server

SMALL = ["--count", "3", "--side", "16", "--min-templates", "3", "--max-templates", "5", "--workers", "1"]


class NextVersion(PairSampler):
    """Makes other samples than the `PairSampler` that its recipe names."""

    def make(self, index: int) -> Sample:
        sample = super().make(index)
        return dataclasses.replace(sample, arrays={name: array ^ 1 for name, array in sample.arrays.items()})


@pytest.fixture(scope="module")
def masks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("masks")
    grid = np.indices((14, 12, 10))
    for number in range(4):
        write_nifti(folder / f"{number}.nii.gz", (grid[number % 3] + number < 7).astype(np.uint8))
    return folder


@pytest.fixture(scope="module")
def pairs(masks: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set with its templates in it: to be read, not changed."""
    out = tmp_path_factory.mktemp("pairs") / "set"
    assert main(["pairs", "make", "--out", str(out), "--templates", str(masks), "--val-count", "1", *SMALL]) == 0
    return out


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and ".voxmint" not in path.parts)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def damage(path: Path) -> None:
    """Flip bits in the last quarter of a file, where arrays lie in every format."""
    data = bytearray(path.read_bytes())
    data[3 * len(data) // 4] ^= 4
    path.write_bytes(data)


def entries_of(folder: Path) -> list[dict[str, object]]:
    """Return what the manifest says of each file and sample."""
    faults: list[str] = []
    entries = list(manifest_entries(Place(folder), faults))
    assert not faults
    return entries


def test_a_damaged_sample_is_made_again(pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`verify` names the command, which restores every byte and then finds nothing more to do."""
    cut = shutil.copytree(pairs, tmp_path / "cut")
    damage(cut / "train_data.hdf5")
    assert main(["verify", str(cut)]) == 1
    assert f"voxmint repair {cut}" in capsys.readouterr().out
    assert main(["repair", str(cut)]) == 0
    told = capsys.readouterr().out
    assert "train_data.hdf5, sample" in told
    assert "made      1 samples again" in told
    assert contents(cut) == contents(pairs)
    assert main(["verify", str(cut)]) == 0
    assert main(["repair", str(cut)]) == 0
    assert "nothing to repair" in capsys.readouterr().out


def test_templates_may_lie_elsewhere(pairs: Path, masks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Without their bank the flag is asked for; another bank is refused, and nothing is changed."""
    cut = shutil.copytree(pairs, tmp_path / "cut")
    (cut / "templates").rename(tmp_path / "bank")
    damage(cut / "val_data.hdf5")
    before = contents(cut)
    assert main(["repair", str(cut)]) == 1
    assert "--templates" in capsys.readouterr().err
    assert main(["templates", "prepare", str(masks / "0.nii.gz"), "--out", str(tmp_path / "other")]) == 0
    assert main(["repair", str(cut), "--templates", str(tmp_path / "other")]) == 1
    assert contents(cut) == before
    assert main(["repair", str(cut), "--templates", str(tmp_path / "bank")]) == 0
    names = {name for name in before if name != "manifest.jsonl"}
    whole, now = contents(pairs), contents(cut)
    assert now.keys() == before.keys() == {name for name in whole if "templates/" not in name}
    assert {name: now[name] for name in names} == {name: whole[name] for name in names}
    kept = [entry for entry in entries_of(pairs) if "templates/" not in entry["file"]]
    assert entries_of(cut) == kept
    assert main(["verify", str(cut)]) == 0


def test_every_stage_is_repaired(pairs: Path, masks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Ensembles, views and packed data sets, from where their folders were, or given where these are now."""
    ensembles, views, packed = (tmp_path / name for name in ("ensembles", "views", "packed"))
    assert main(["pairs", "ensembles", "--out", str(ensembles), "--templates", str(masks), *SMALL]) == 0
    assert main(["pairs", "views", "--ensembles", str(ensembles), "--out", str(views), "--workers", "1"]) == 0
    places = ["--ensembles", str(ensembles), "--views", str(views)]
    assert main(["pairs", "pack", *places, "--out", str(packed), "--val-count", "1", "--workers", "1"]) == 0
    inputs = {"ensembles": ensembles, "views": views}
    for out, names in ((packed, ("ensembles", "views")), (views, ("ensembles",)), (ensembles, ())):
        whole = contents(out)
        for away in (False, True):
            flags = []
            damage(next(path for path in sorted(out.rglob("*")) if path.name.endswith((".nii.gz", "train_data.hdf5"))))
            for name in names if away else ():
                moved = inputs[name].rename(tmp_path / f"{name} elsewhere")
                cut = contents(out)
                capsys.readouterr()
                assert main(["repair", str(out), *flags]) == 1
                assert f"name their folder: --{name}" in capsys.readouterr().err
                assert contents(out) == cut
                flags += [f"--{name}", str(moved)]
            capsys.readouterr()
            assert main(["repair", str(out), *flags]) == 0
            assert "made      1 samples again" in capsys.readouterr().out
            assert contents(out) == whole
            for name in names if away else ():
                (tmp_path / f"{name} elsewhere").rename(inputs[name])


def test_instances_are_repaired(tmp_path: Path) -> None:
    """Layers and rows are where the data set says they are."""
    make_phantom(tmp_path / "phantom", size=(256, 256, 32), instances=8)
    places = [part for name in ("source", "target") for part in (f"--{name}", str(tmp_path / "phantom" / name))]
    table = ["--table", str(tmp_path / "phantom/materialization.csv"), "--table-voxel-size", "16,16,30"]
    out = tmp_path / "out"
    flags = ["--crop", "24,24,8", "--count", "4", "--scenarios", "2", "--workers", "1"]
    assert main(["instances", "make", *places, *table, *flags, "--out", str(out)]) == 0
    whole = contents(out)
    damage(next(out.glob("target/*.npy")))
    assert main(["repair", str(out)]) == 0
    assert contents(out) == whole


@pytest.mark.usefixtures("short_pauses")
def test_layers_are_opened_with_the_secrets_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Layers in a bucket that needs keys: without them nothing is repaired, with --secrets all is."""
    for package in ("tensorstore", "s3fs", "moto"):
        pytest.importorskip(package, reason="needs voxmint[cloud,test]")
    keys = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
    make_phantom(tmp_path / "phantom", size=(256, 256, 32), instances=3)
    secrets, out = tmp_path / "secrets.json", tmp_path / "out"
    secrets.write_text(json.dumps({"AWS_ACCESS_KEY_ID": "AKIAofmine", "AWS_SECRET_ACCESS_KEY": "wJalrXUtn"}))
    with s3_server(tmp_path / "s3.log") as url:
        for name, value in s3_environment(url).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("CLOUD_VOLUME_DIR", str(tmp_path))
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        store = Place("s3://bucket/em")
        for path in sorted(path for path in (tmp_path / "phantom").rglob("*") if path.is_file()):
            store.write(path.relative_to(tmp_path / "phantom").as_posix(), path.read_bytes())
        places = ["--source", "s3://bucket/em/source", "--target", "s3://bucket/em/target"]
        table = ["--table", str(tmp_path / "phantom/materialization.csv"), "--table-voxel-size", "16,16,30"]
        command = ["instances", "make", *places, *table, "--out", str(out), "--crop", "16,16,8", "--workers", "1"]

        def run(*words: str) -> int:
            for name in keys:  # TensorStore takes them from the environment, where they stay
                monkeypatch.delenv(name, raising=False)
            return main([*words])

        assert run(*command) == 1
        assert run(*command, "--secrets", str(secrets)) == 0
        whole = contents(out)
        damage(next(out.glob("target/*.npy")))
        cut = contents(out)
        assert run("repair", str(out), "--workers", "1") == 1
        assert contents(out) == cut
        assert run("repair", str(out), "--workers", "1", "--secrets", str(secrets)) == 0
    assert contents(out) == whole
    assert not any(b"wJalrXUtn" in data or b"AKIAofmine" in data for data in whole.values())


def test_instances_of_data_sets_of_one_file_are_repaired(tmp_path: Path) -> None:
    """The file alone would not tell which of its volumes is the image; one that was replaced is refused in words."""
    make_phantom(tmp_path / "phantom", size=(256, 256, 32), instances=8)
    places, path = [], tmp_path / "both.h5"
    with h5py.File(path, "w") as file:
        for name in ("source", "target"):
            layer = open_layer(tmp_path / "phantom" / name)
            file[f"volumes/{name}"] = layer.read(layer.bounds).array.T
            size, start = layer.voxel_size_nm[::-1], layer.bounds.start[::-1]
            file[f"volumes/{name}"].attrs.update(resolution=size, offset=np.multiply(size, start))
            places += [f"--{name}", str(path), f"--{name}-dataset", f"volumes/{name}"]
    table = ["--table", str(tmp_path / "phantom/materialization.csv"), "--table-voxel-size", "16,16,30"]
    out = tmp_path / "out"
    flags = ["--crop", "24,24,8", "--count", "4", "--workers", "1"]
    assert main(["instances", "make", *places, *table, *flags, "--out", str(out)]) == 0
    whole = contents(out)
    damage(next(out.glob("target/*.npy")))
    assert main(["repair", str(out)]) == 0
    assert contents(out) == whole
    with h5py.File(path, "r+") as file:
        del file["volumes/target"]
        file["volumes/target"] = np.zeros((8, 8, 8), np.uint16)
    with pytest.raises(LayerError, match=r"both\.h5: .*differs in bounds, dtype, metadata"):
        repair_data_set(out)


def test_a_damaged_recipe_is_refused(pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Other samples would come of another recipe: it is named, and nothing is changed."""
    cut = shutil.copytree(pairs, tmp_path / "cut")
    recipe = cut / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("seed: 0", "seed: 1"))
    before = contents(cut)
    assert main(["repair", str(cut)]) == 1
    assert "recipe.yaml: the recipe of this data set is damaged" in capsys.readouterr().err
    recipe.unlink()
    assert main(["repair", str(cut)]) == 1
    assert main(["repair", str(tmp_path)]) == 1
    assert contents(cut).items() <= before.items()


def test_another_version_repairs_nothing(pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A data set of whose samples the same recipe makes others now is refused before anything is changed."""
    recipe = PairRecipe(side=16, min_templates=3, max_templates=5)
    bank = shutil.copytree(pairs / "templates", tmp_path / "out/templates")
    sampler = NextVersion(recipe, TemplateBank.open(bank), 0, 3)
    assert execute(sampler, Hdf5Format(), tmp_path / "out", workers=1).complete
    damage(tmp_path / "out/train_data.hdf5")
    before = contents(tmp_path / "out")
    assert main(["repair", str(tmp_path / "out")]) == 1
    told = capsys.readouterr().err
    assert "use the version that made the data set" in told
    assert "another version made this data set: nothing was changed" in told
    assert contents(tmp_path / "out") == before
