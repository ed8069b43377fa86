"""Data sets as version 0.1 wrote them: their recipes say less, they have no table of records, their manifest no end."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

from voxmint.cli import main
from voxmint.datasets.lines import seal, unseal
from voxmint.datasets.stored import StoredDataset
from voxmint.phantom.layers import make_phantom

SMALL = ["--count", "3", "--side", "16", "--min-templates", "3", "--max-templates", "5", "--workers", "1"]
LAYER = ("url", "voxel_size_nm", "bounds", "dtype")


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and ".voxmint" not in path.parts)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def as_0_1(folder: Path) -> None:
    """Take away what version 0.1 did not write."""
    about = yaml.safe_load((folder / "recipe.yaml").read_text()) | {"voxmint": "0.1.0"}
    about.pop("version", None)
    about.get("recipe", {}).pop("target_downsampling", None)
    for name, value in about.items():
        if isinstance(value, dict):
            value.pop("address", None)
            value.pop("made_from", None)
            if name in ("source", "target"):
                about[name] = {field: value[field] for field in LAYER}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(about, sort_keys=False, allow_unicode=True, width=110))
    (folder / "records.npy").unlink()
    records = [json.loads(line) for line in (folder / "records.jsonl").read_text().splitlines()]
    for record in records:
        record["record"].pop("reads", None)
    text = "".join(json.dumps(r, separators=(",", ":"), ensure_ascii=False) + "\n" for r in records)
    (folder / "records.jsonl").write_text(text)
    lines = [unseal(line) for line in (folder / "manifest.jsonl").read_bytes().splitlines(keepends=True)]
    kept = [lines[0] | {"voxmint manifest": 1}]
    for entry in lines[1:]:
        name = entry.get("file", "")
        if name in ("recipe.yaml", "records.jsonl"):
            from voxmint.files import file_entry

            kept.append(file_entry(folder, folder / name))
        elif name.endswith((".hdf5", "rejected.csv")) or name == "templates.bank" or "sample" in entry:
            kept.append(entry)
    (folder / "manifest.jsonl").write_bytes(b"".join(map(seal, kept)))


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bank") / "templates"
    assert main(["templates", "procedural", "--out", str(folder), "--count", "6", "--workers", "1"]) == 0
    return folder


@pytest.fixture(params=["hdf5", "nifti"])
def pairs(request: pytest.FixtureRequest, bank: Path, tmp_path: Path) -> tuple[Path, list[str]]:
    """A data set of pairs with its bank in it, and the command that made it."""
    shutil.copytree(bank, tmp_path / "set/templates")
    flags = ["--templates", str(tmp_path / "set/templates"), "--format", request.param, *SMALL]
    command = ["pairs", "make", "--out", str(tmp_path / "set"), *flags]
    assert main(command) == 0
    as_0_1(tmp_path / "set")
    return tmp_path / "set", command


def damage(folder: Path) -> Path:
    path = next(path for path in sorted(folder.rglob("*")) if path.name.endswith(("train_data.hdf5", ".nii.gz")))
    data = bytearray(path.read_bytes())
    data[3 * len(data) // 4] ^= 4
    path.write_bytes(data)
    return path


def test_a_later_field_makes_another_data_set(
    pairs: tuple[Path, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    """What its recipe could not say is not taken for what it left out."""
    _, command = pairs
    assert main([*command, "--view.artifacts.thick-slices-probability", "0.5"]) == 1
    assert "recipe.view.artifacts.thick_slices_probability: None there, 0.5 asked" in capsys.readouterr().err


def test_pairs_open_verify_and_are_complete(pairs: tuple[Path, list[str]], capsys: pytest.CaptureFixture[str]) -> None:
    """Verification is content, samples are read, and the command that made them has nothing to do."""
    folder, command = pairs
    before = contents(folder)
    assert main(["verify", str(folder)]) == 0
    dataset = StoredDataset(folder)
    assert [dataset.sample(index).digest() for index in range(3)] == [dataset.records.digest(i) for i in range(3)]
    assert main(command) == 0
    assert "complete already" in capsys.readouterr().out
    assert contents(folder) == before


def test_pairs_are_repaired(pairs: tuple[Path, list[str]]) -> None:
    """A damaged sample comes back from the bank in the folder, of which the recipe does not speak."""
    folder, _ = pairs
    before = contents(folder)
    path = damage(folder)
    assert main(["verify", str(folder)]) == 1
    assert main(["repair", str(folder), "--workers", "1"]) == 0
    name = path.relative_to(folder).as_posix()
    if name.endswith(".nii.gz"):  # the text of the recipe, which is within HDF5, was another when that was made
        assert path.read_bytes() == before[name]
    assert main(["verify", str(folder)]) == 0


def test_another_seed_is_still_another_data_set(
    pairs: tuple[Path, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    """That a recipe says less makes nothing equal that it does say."""
    folder, command = pairs
    before = contents(folder)
    assert main([*command, "--seed", "1"]) == 1
    assert "seed: 0 there, 1 asked" in capsys.readouterr().err
    assert contents(folder) == before


def test_instances_verify_are_complete_and_repaired(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Layers are opened by their address, and rows found in the folder."""
    make_phantom(tmp_path / "phantom", size=(256, 256, 32), instances=8)
    layers = [w for name in ("source", "target") for w in (f"--{name}", str(tmp_path / "phantom" / name))]
    table = ["--table", str(tmp_path / "phantom/materialization.csv"), "--table-voxel-size", "16,16,30"]
    folder = tmp_path / "out"
    command = ["instances", "make", *layers, *table, "--out", str(folder), "--crop", "24,24,8", "--workers", "1"]
    assert main(command) == 0
    as_0_1(folder)
    assert main(["verify", str(folder)]) == 0
    assert main(command) == 0
    assert "complete already" in capsys.readouterr().out
    path = next(folder.glob("target/*.npy"))
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert main(["repair", str(folder), "--workers", "1"]) == 0
    assert path.read_bytes() == data
    assert main(["verify", str(folder)]) == 0


@pytest.fixture
def old_bank(tmp_path: Path) -> Path:
    """A procedural bank, which says of itself what version 0.1 did."""
    assert main(["templates", "procedural", "--out", str(tmp_path / "bank"), "--count", "3"]) == 0
    as_0_1(tmp_path / "bank")
    return tmp_path / "bank"


def test_a_procedural_bank_verifies_is_used_and_is_not_grown_again(
    old_bank: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its shapes are of another version: finished it is a bank as any other; damaged it is refused, with the reason."""
    before = contents(old_bank)
    assert main(["verify", str(old_bank)]) == 0
    assert main(["templates", "procedural", "--out", str(old_bank), "--count", "3"]) == 0
    assert "complete already" in capsys.readouterr().out
    assert main(["pairs", "make", "--out", str(old_bank.parent / "set"), "--templates", str(old_bank), *SMALL]) == 0
    assert contents(old_bank) == before
    path = old_bank / "templates.bank"
    path.write_bytes(before["templates.bank"][:-1] + b"\xff")
    assert main(["repair", str(old_bank)]) == 1
    told = capsys.readouterr().err
    assert "another version" in told
    assert "remedy" in told


def test_a_bank_that_was_begun_is_not_gone_on_with(old_bank: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Half of it would be of other shapes."""
    (old_bank / "manifest.jsonl").unlink()
    assert main(["templates", "procedural", "--out", str(old_bank), "--count", "3"]) == 1
    assert "begun with procedural shapes of another version" in capsys.readouterr().err


def test_a_recipe_whose_shapes_are_grown_no_more_says_so(
    tmp_path: Path, old_bank: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It asks for the bank itself, and takes it."""
    made = tmp_path / "set"
    assert main(["pairs", "make", "--out", str(made), "--templates", str(old_bank), *SMALL]) == 0
    moved = old_bank.rename(tmp_path / "moved")
    recipe = made / "recipe.yaml"
    assert "version" not in yaml.safe_load(recipe.read_text())["templates"]["made_from"]
    command = ["pairs", "make", "--recipe", str(recipe), "--out", str(tmp_path / "again")]
    assert main(command) == 1
    assert "--templates BANK" in capsys.readouterr().err
    assert main([*command, "--templates", str(moved)]) == 0
    assert (tmp_path / "again/train_data.hdf5").read_bytes()


def test_masks_that_shrink_go_on_as_they_were_begun(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By any voxel, as version 0.1 did without a field for it: in repair, in the same command, and from its recipe."""
    make_phantom(tmp_path / "phantom", size=(256, 256, 32), instances=6)
    (tmp_path / "coarse.yaml").write_text("voxel_size_nm: [32, 32, 30]\ncrop_vx: [24, 24, 8]\n")
    layers = [w for name in ("source", "target") for w in (f"--{name}", str(tmp_path / "phantom" / name))]
    table = ["--table", str(tmp_path / "phantom/materialization.csv"), "--table-voxel-size", "16,16,30"]
    command = ["instances", "make", *layers, *table, "--workers", "1", "--recipe", str(tmp_path / "coarse.yaml")]
    old, new, gone = tmp_path / "old", tmp_path / "new", tmp_path / "gone"
    assert main([*command, "--out", str(old), "--target-downsampling", "any"]) == 0
    assert main([*command, "--out", str(new)]) == 0
    masks = {path.name: path.read_bytes() for path in old.glob("gt/*.npy")}
    assert all((new / "gt" / name).read_bytes() != data for name, data in masks.items())
    as_0_1(old)
    path = next(old.glob("gt/*.npy"))
    path.write_bytes(path.read_bytes()[:-1] + b"\7")
    assert main(["repair", str(old), "--workers", "1"]) == 0
    assert path.read_bytes() == masks[path.name]
    capsys.readouterr()
    assert main([*command, "--out", str(old)]) == 0
    assert "complete already" in capsys.readouterr().out
    assert main([*command, "--out", str(old), "--target-downsampling", "majority"]) == 1
    assert "target_downsampling: 'any' there, 'majority' asked" in capsys.readouterr().err
    again = [word for word in command if word not in ("--recipe", str(tmp_path / "coarse.yaml"))]
    assert main([*again, "--recipe", str(old / "recipe.yaml"), "--out", str(tmp_path / "again")]) == 0
    gone.mkdir()  # a run of version 0.1 that was killed at once
    (gone / "recipe.yaml").write_bytes((old / "recipe.yaml").read_bytes())
    assert main([*command, "--out", str(gone)]) == 0
    for folder in (tmp_path / "again", gone):
        assert {path.name: path.read_bytes() for path in folder.glob("gt/*.npy")} == masks
