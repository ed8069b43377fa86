"""Trees with files that cannot be used: all are listed, or left out and recorded; the good ones are read once."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from voxmint.cli import main
from voxmint.datasets.stored import StoredDataset
from voxmint.errors import NoRoomError
from voxmint.make import BANK_IN_TREE, merge_tree
from voxmint.nifti.files import write_nifti
from voxmint.templates.bank import TemplateBank
from voxmint.templates.folders import open_source
from voxmint.templates.source import templates_of

SUBJECTS = 12
"""More than the failures after which a run would think that all must fail."""
BAD = ["s0000/segmentations/liver.nii.gz", "s0000/segmentations/rib_left_1.nii.gz", "s0003/segmentations/spleen.nii.gz"]
BAD += [f"s{number:04}/segmentations/liver.nii.gz" for number in range(4, SUBJECTS)]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Hold subjects of which nearly all have a file that is cut, no NIfTI file, or a link to nowhere."""
    grid = np.indices((9, 8, 7))
    root = tmp_path / "tree"
    for number in range(SUBJECTS):
        folder = root / f"s{number:04}" / "segmentations"
        folder.mkdir(parents=True)
        for name in ("liver", "rib_left_1", "rib_left_2"):
            write_nifti(folder / f"{name}.nii.gz", (grid[0] > 3).astype(np.uint8))
    for number, name in enumerate(BAD):
        path = root / name
        if number == 2:
            path.symlink_to("nowhere")
        else:
            path.write_bytes(path.read_bytes()[:-9] if number % 2 else b"no label file at all")
    return root


def prepare(tree: Path, *flags: str) -> int:
    return main(["templates", "prepare", str(tree), "--out", str(tree.parent / "bank"), "--workers", "1", *flags])


def test_all_of_them_are_listed_and_then_left_out(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The error has every file and reason; `--skip-unusable` then goes on, and the bank's records have the list."""
    assert prepare(tree) == 1
    told = capsys.readouterr().err
    assert f"{len(BAD)} files cannot be used" in told
    assert all(told.count(f"\n    {tree / name}: ") == 1 for name in BAD)
    assert "--skip-unusable" in told
    assert "Traceback" not in told
    assert not (tree.parent / "bank/manifest.jsonl").exists()
    shutil.rmtree(tree / "s0001")
    assert prepare(tree, "--skip-unusable") == 0
    told = capsys.readouterr().err
    assert all(f"    {name}: " in told for name in BAD)
    bank = tree.parent / "bank"
    records = StoredDataset(bank).records
    listed = [records[int(index)]["record"].get("unusable", {}) for index in records.indices]
    assert [name for files in listed for name in files] == BAD
    assert all(why for files in listed for why in files.values())
    names = TemplateBank.open(bank).names
    assert "s0000/all_ribs" in names  # of the rib that can be used
    assert not {"s0000/liver", "s0003/spleen"} & set(names)
    assert main(["verify", str(bank)]) == 0


def test_a_bank_without_them_is_repaired(tree: Path) -> None:
    """What was left out is left out again."""
    assert prepare(tree, "--skip-unusable") == 0
    path = tree.parent / "bank/templates.bank"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert main(["repair", str(path.parent), "--workers", "1"]) == 0
    assert path.read_bytes() == whole


@pytest.mark.parametrize("same_size", [True, False])
def test_a_mended_file_is_read_again(tree: Path, same_size: bool) -> None:
    """After an error the same command goes on, whether the mended files have other sizes or not."""
    good = tree / "s0001/segmentations/liver.nii.gz"
    if same_size:
        for name in BAD:
            (tree / name).unlink()
            (tree / name).write_bytes(bytes(good.stat().st_size))
    assert prepare(tree) == 1
    for name in BAD:
        (tree / name).unlink()
        shutil.copy(good, tree / name)
    assert prepare(tree) == 0
    assert len(TemplateBank.open(tree.parent / "bank")) == 2 * SUBJECTS + 1


def test_pairs_and_the_merging_first_step_know_the_flag(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A data set of pairs lists them or goes on; of a structure with a bad part no merged file hides it."""
    flags = ["--count", "1", "--side", "16", "--min-templates", "3", "--max-templates", "4", "--workers", "1"]
    command = ["pairs", "make", "--templates", str(tree), "--out", str(tree.parent / "set"), *flags]
    assert main(command) == 1
    assert all(name in capsys.readouterr().err for name in BAD[-1:])
    assert main([*command, "--skip-unusable"]) == 0
    merged = merge_tree(tree, skip_unusable=True)
    assert tree / "s0001/segmentations/all_ribs.nii.gz" in merged
    assert not (tree / "s0000/segmentations/all_ribs.nii.gz").exists()
    assert not (tree / BANK_IN_TREE).exists()


def test_too_little_memory_is_no_fault_of_a_file(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It stops the run even where unusable files are left out: another machine would have read it."""

    def full(*_: object) -> None:
        raise NoRoomError("not enough memory")

    monkeypatch.setattr("voxmint.templates.reading.check_room", full)
    source = open_source(tree, skip_unusable=True)
    with pytest.raises(NoRoomError):
        templates_of(source[1])
