"""Whole jobs through the command line, on small volumes, with real files and processes."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

import voxmint as vm
from voxmint.cli import main
from voxmint.nifti.files import write_nifti

SIDE = ["--side", "24", "--min-templates", "4", "--max-templates", "8"]


@pytest.fixture(scope="module")
def masks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of masks: boxes, a ball, a plate, and single ribs that must merge."""
    folder = tmp_path_factory.mktemp("masks")
    grid = np.indices((30, 26, 22))
    shapes = {
        "ball": ((grid - np.array([14, 12, 11])[:, None, None, None]) ** 2).sum(0) < 81,
        "plate": abs(grid[0] - grid[1]) < 3,
        "box": (grid > 6).all(0),
        "rib_left_1": (grid[0] < 4) & (grid[1] < 4),
        "rib_left_2": (grid[0] > 24) & (grid[1] > 20),
        "empty": np.zeros((30, 26, 22), bool),
    }
    for name, mask in shapes.items():
        write_nifti(folder / f"{name}.nii.gz", mask.astype(np.uint8))
    return folder


@pytest.fixture(scope="module")
def bank(masks: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("bank") / "bank"
    assert main(["templates", "prepare", str(masks), "--out", str(out)]) == 0
    return out


def make(bank: Path, out: Path, count: int, *more: str) -> int:
    return main(["pairs", "make", "--out", str(out), "--count", str(count), "--templates", str(bank), *SIDE, *more])


def digests(folder: Path) -> list[str]:
    return [json.loads(line)["digest"] for line in (folder / "records.jsonl").read_text().splitlines()]


def files(folder: Path, *but: str) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in but and ".voxmint" not in path.parts
    }


def test_bank_holds_merged_shapes_and_no_empty_ones(bank):
    """Single ribs become one template, empty masks none."""
    assert sorted(vm.TemplateBank.open(bank).names) == ["all_ribs", "ball", "box", "plate"]


def test_digests_do_not_depend_on_how_samples_are_made(bank, tmp_path):
    """One worker, two workers, more samples, and a sampler in a fresh process all give the same samples."""
    for name, count, workers in (("one", 5, 1), ("two", 5, 2), ("more", 9, 2)):
        assert make(bank, tmp_path / name, count, "--workers", str(workers)) == 0
    assert files(tmp_path / "one", "montage.png") == files(tmp_path / "two", "montage.png")
    assert digests(tmp_path / "one") == digests(tmp_path / "more")[:5]
    code = (
        "import voxmint as vm; "
        f"s = vm.PairSampler(vm.PairRecipe(side=24, min_templates=4, max_templates=8), {str(bank)!r}, seed=0)[3]; "
        "print(s.digest())"
    )
    fresh = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert fresh.stdout.strip() == digests(tmp_path / "one")[3]
    assert len(set(digests(tmp_path / "more"))) == 9


def test_seeds_give_different_samples(bank, tmp_path):
    """Another seed shares no sample."""
    for seed in ("0", "1"):
        assert make(bank, tmp_path / seed, 3, "--seed", seed) == 0
    assert not set(digests(tmp_path / "0")) & set(digests(tmp_path / "1"))


def test_hdf5_layout_is_the_published_one(bank, tmp_path):
    """Plain h5py finds zero-padded groups with img and seg; the last ones are for validation."""
    assert make(bank, tmp_path, 5, "--val-count", "2") == 0
    with h5py.File(tmp_path / "train_data.hdf5", "r") as train, h5py.File(tmp_path / "val_data.hdf5", "r") as val:
        assert list(train.keys()) == ["000000", "000001", "000002"]
        assert list(val.keys()) == ["000003", "000004"]
        for file in (train, val):
            for key in file:
                assert file[key]["img"].shape == (2, 24, 24, 24)
                assert file[key]["img"].dtype == file[key]["seg"].dtype == np.uint8
                assert file[key]["img"][1].max() > 0
                assert file[key]["seg"].shape == (24, 24, 24)


def test_stages_give_what_one_go_gives(bank, tmp_path):
    """Ensembles, views and packing end in the bytes of the fused command; so do the NIfTI files."""
    flags = ["--templates", str(bank), *SIDE]
    labels, views = str(tmp_path / "labels"), str(tmp_path / "views")
    assert main(["pairs", "ensembles", "--out", labels, "--count", "4", *flags]) == 0
    assert main(["pairs", "views", "--ensembles", labels, "--out", views, "--start", "0", "--stop", "1"]) == 0
    assert main(["pairs", "views", "--ensembles", labels, "--out", views, "--start", "1"]) == 0
    assert main(["pairs", "pack", "--ensembles", labels, "--views", views, "--out", str(tmp_path / "packed")]) == 0
    assert make(bank, tmp_path / "fused", 4) == 0
    assert make(bank, tmp_path / "tree", 4, "--format", "nifti") == 0
    with h5py.File(tmp_path / "fused/train_data.hdf5") as one, h5py.File(tmp_path / "packed/train_data.hdf5") as two:
        assert list(one) == list(two)
        for key in one:
            np.testing.assert_array_equal(one[key]["img"][()], two[key]["img"][()])
            np.testing.assert_array_equal(one[key]["seg"][()], two[key]["seg"][()])
    tree = files(tmp_path / "tree")
    for name, digest in files(tmp_path / "labels").items():
        if name.endswith(".nii.gz"):
            assert tree[f"label_ensembles/{name}"] == digest
    for name, digest in files(tmp_path / "views").items():
        if name.endswith(".nii.gz"):
            assert tree[f"synthesized_views/{name}"] == digest


def test_stored_samples_are_the_samplers(bank, tmp_path):
    """What is read back equals what the sampler makes."""
    assert make(bank, tmp_path, 3) == 0
    sampler = vm.PairSampler(vm.PairRecipe(side=24, min_templates=4, max_templates=8), bank)
    for stored in vm.stored_samples(tmp_path):
        made = sampler[stored.index]
        assert (stored.key, stored.digest(), stored.record) == (
            made.key,
            made.digest(),
            json.loads(json.dumps(made.record)),
        )


def test_recipe_of_a_data_set_makes_it_again(bank, tmp_path):
    """A written recipe.yaml serves as --recipe; flags go over it."""
    assert make(bank, tmp_path / "a", 2, "--view.texture-strength", "0.5") == 0
    again = ["--count", "2", "--templates", str(bank), "--recipe", str(tmp_path / "a/recipe.yaml")]
    assert main(["pairs", "make", "--out", str(tmp_path / "b"), *again]) == 0
    assert main(["pairs", "make", "--out", str(tmp_path / "c"), *again, "--view.texture-strength", "0.1"]) == 0
    assert digests(tmp_path / "a") == digests(tmp_path / "b")
    assert digests(tmp_path / "a") != digests(tmp_path / "c")


def test_dry_run_writes_nothing(tmp_path, masks, capsys):
    """A plan is printed, for procedural shapes and for label files alike, and no file appears."""
    for templates in ("procedural", str(masks)):
        flags = ["--templates", templates, "--dry-run"]
        assert main(["pairs", "make", "--out", str(tmp_path / "x"), "--count", "1000", *flags]) == 0
        assert "6.3 GB" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_verify_names_a_changed_sample(bank, tmp_path, capsys):
    """One flipped byte in the middle of a view is found and named."""
    assert make(bank, tmp_path, 3, "--val-count", "0") == 0
    with h5py.File(tmp_path / "train_data.hdf5") as file:
        offset = file["000001"]["img"].id.get_offset() + 5000
    with (tmp_path / "train_data.hdf5").open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 1]))
    assert main(["verify", str(tmp_path)]) == 1
    told = capsys.readouterr().out
    assert "train_data.hdf5" in told
    assert "sample 1" in told


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--max-templates", "300"], ["255", "300"]),
        (["--side", "8"], ["side", "16", "8"]),
        (["--view.mean", "9", "3"], ["mean", "low"]),
        (["--seed", "-1"], ["seed"]),
        (["--val-count", "9"], ["val_count", "9"]),
        (["--templates", "nowhere"], ["nowhere"]),
        (["--count", "0"], ["at least 1"]),
    ],
)
def test_wrong_flags_are_told(bank, tmp_path, capsys, flags, words):
    """A wrong value ends at once, names the field and leaves nothing behind."""
    out = tmp_path / "out"
    given = {"--out": [str(out)], "--count": ["3"], "--templates": [str(bank)], flags[0]: flags[1:]}
    assert main(["pairs", "make", *(part for name, values in given.items() for part in (name, *values))]) != 0
    told = capsys.readouterr().err
    for word in words:
        assert word in told
    assert "Traceback" not in told
    assert not out.exists()


def test_unknown_recipe_field_is_told(bank, tmp_path, capsys):
    """A misspelt field in a file is named, with the known ones."""
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("sidee: 64\n")
    assert make(bank, tmp_path / "out", 3, "--recipe", str(recipe)) == 1
    told = capsys.readouterr().err
    assert "sidee" in told
    assert "min_templates" in told


@pytest.mark.parametrize("case", ["nothing", "only empty", "cut", "huge", "rgb", "fractional", "nan"])
def test_bad_label_files_are_told(tmp_path, capsys, case):
    """Bad input ends with an error that names the file; no bank appears under its final name."""
    import nibabel as nib

    tree = tmp_path / "tree"
    tree.mkdir()
    path = tree / "a.nii.gz"
    mask = np.zeros((8, 8, 8), np.uint8)
    if case != "nothing":
        mask[2:5] = case != "only empty"
        write_nifti(path, mask)
    if case == "cut":
        path.write_bytes(path.read_bytes()[:-9])
    elif case == "huge":
        path = tree / "a.nii"
        (tree / "a.nii.gz").unlink()
        write_nifti(path, mask)
        data = bytearray(path.read_bytes())
        data[40:48] = np.array([3, 10_000, 10_000, 10_000], "<i2").tobytes()
        path.write_bytes(data)
    elif case == "rgb":
        rgb = np.zeros((4, 4, 4), [("R", "u1"), ("G", "u1"), ("B", "u1")])
        nib.save(nib.Nifti1Image(rgb, np.eye(4)), path)
    elif case in ("fractional", "nan"):
        values = mask.astype(np.float32)
        values[3, 3, 3] = 0.5 if case == "fractional" else np.nan
        nib.save(nib.Nifti1Image(values, np.eye(4)), path)
    before = files(tree)
    assert main(["templates", "prepare", str(tree), "--out", str(tmp_path / "bank")]) == 1
    told = capsys.readouterr().err
    assert str(tree if case in ("nothing", "only empty") else path) in told
    assert "remedy" in told
    assert not (tmp_path / "bank/templates.bank").exists()
    assert files(tree) == before


@pytest.mark.parametrize("out", ["", ".", "../masks", "link"])
def test_a_bank_does_not_lie_in_the_folder_it_is_made_from(masks, tmp_path, capsys, out):
    """However that folder is called; a folder below it is fine, and the masks stay as they were."""
    tree = shutil.copytree(masks, tmp_path / "masks")
    (tree / "link").symlink_to(tree)
    before = files(tree)
    assert main(["templates", "prepare", str(tree), "--out", str(tree / out)]) == 1
    told = capsys.readouterr().err
    assert "the very folder it is made from" in told
    assert "remedy" in told
    assert files(tree) == before
    (tree / "link").unlink()
    assert main(["templates", "prepare", str(tree), "--out", str(tree / "bank")]) == 0
    assert files(tree).items() >= {name: digest for name, digest in before.items() if "link" not in name}.items()
    assert sorted(vm.TemplateBank.open(tree / "bank").names) == ["all_ribs", "ball", "box", "plate"]
