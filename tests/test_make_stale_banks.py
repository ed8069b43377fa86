"""Banks and the label files they were made of, which people add to: nothing old is used in silence, nothing lost."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from voxmint.cli import main
from voxmint.errors import TemplateBankError
from voxmint.make import BANK_IN_TREE, delete_merged_parts, merge_tree, prepare_templates
from voxmint.nifti.files import write_nifti
from voxmint.templates.bank import TemplateBank

FLAGS = ["--side", "16", "--min-templates", "3", "--max-templates", "4", "--count", "2", "--workers", "1"]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Hold two small subjects."""
    grid = np.indices((14, 12, 10))
    for number in range(2):
        folder = tmp_path / "tree" / f"s000{number}" / "segmentations"
        folder.mkdir(parents=True)
        for name, mask in (("liver", grid[0] > 5), ("aorta", grid[1] < 4), ("rib_left_1", grid[2] < 2),
                           ("rib_left_2", grid[2] > 7)):  # fmt: skip
            write_nifti(folder / f"{name}.nii.gz", mask.astype(np.uint8))
    return tmp_path / "tree"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def subjects_of(bank: Path) -> set[str]:
    return {name.partition("/")[0] for name in TemplateBank.open(bank).names}


@pytest.mark.parametrize("beside", [True, False])
def test_pairs_are_made_of_the_subjects_there_are(tree: Path, tmp_path: Path, beside: bool, capsys) -> None:
    """A subject added after the bank beside the tree, or the data set's own, was made is in the next data set."""
    if beside:
        prepare_templates(tree, tree / BANK_IN_TREE, workers=1)
    before = contents(tree)
    assert main(["pairs", "make", "--templates", str(tree), "--out", str(tmp_path / "one"), *FLAGS]) == 0
    assert (tmp_path / "one/templates").exists() != beside
    shutil.copytree(tree / "s0000", tree / "s0002")
    assert main(["pairs", "make", "--templates", str(tree), "--out", str(tmp_path / "two"), *FLAGS]) == 0
    assert ("changed since the bank beside them was made" in capsys.readouterr().err) == beside
    assert subjects_of(tmp_path / "two/templates") == {"s0000", "s0001", "s0002"}
    after = contents(tree)
    assert {name: after[name] for name in before} == before


def test_a_data_set_keeps_the_bank_that_it_was_made_of(tree: Path, tmp_path: Path, capsys) -> None:
    """The same command over a tree with one subject more is refused, and changes nothing of what was finished."""
    command = ["pairs", "make", "--templates", str(tree), "--out", str(tmp_path / "set"), *FLAGS]
    assert main(command) == 0
    before = contents(tmp_path / "set")
    shutil.copytree(tree / "s0000", tree / "s0002")
    assert main(command) == 1
    assert "holds another data set" in capsys.readouterr().err
    assert contents(tmp_path / "set") == before
    shutil.rmtree(tree / "s0002")
    assert main(command) == 0
    assert contents(tmp_path / "set") == before


def test_a_bank_begun_of_other_files_is_no_hindrance(tree: Path) -> None:
    """A bank that was being made anew when a mask turned out cut is begun again once the tree is another one."""
    bank = tree / BANK_IN_TREE
    prepare_templates(tree, bank, workers=1)
    old = contents(bank)
    shutil.copytree(tree / "s0000", tree / "s0002")
    cut = tree / "s0002/segmentations/liver.nii.gz"
    cut.write_bytes(cut.read_bytes()[:-5])
    assert main(["templates", "prepare", str(tree), "--out", str(bank), "--workers", "1"]) == 1
    assert contents(bank) == old
    (tree / "s0002").rename(tree / "s0003")
    shutil.copy(tree / "s0000/segmentations/liver.nii.gz", tree / "s0003/segmentations/liver.nii.gz")
    assert main(["templates", "prepare", str(tree), "--out", str(bank), "--workers", "1"]) == 0
    assert subjects_of(bank) == {"s0000", "s0001", "s0003"}
    assert [path.name for path in tree.glob("voxmint*")] == [BANK_IN_TREE]


def test_a_bank_made_anew_that_is_out_of_date_is_made_once_more(tree: Path) -> None:
    """Killed before it took the place of the old one, it was finished; a mask that is younger than it counts."""
    bank = tree / BANK_IN_TREE
    made = prepare_templates(tree, bank, workers=1).made
    shutil.copytree(bank, tree / f"{BANK_IN_TREE}.new")
    later = (tree / f"{BANK_IN_TREE}.new/templates.bank").stat().st_mtime_ns + 1
    os.utime(tree / "s0001/segmentations/liver.nii.gz", ns=(later, later))
    assert prepare_templates(tree, bank, workers=1).made == made > 0


@pytest.mark.parametrize("fault", ["absent", "unfinished", "damaged", "older", "of fewer subjects"])
def test_parts_are_deleted_only_when_the_bank_holds_them(tree: Path, fault: str) -> None:
    """Whatever is wrong with the bank, every part is still there; when all is well, they alone are removed."""
    merged, bank = merge_tree(tree, workers=1), tree / BANK_IN_TREE
    if fault != "absent":
        prepare_templates(tree, bank, workers=1)
    if fault == "unfinished":
        (bank / "manifest.jsonl").unlink()
    if fault == "damaged":
        data = bytearray((bank / "templates.bank").read_bytes())
        data[data.index(TemplateBank.open(bank).words(0).tobytes())] ^= 1
        (bank / "templates.bank").write_bytes(data)
    if fault == "older":
        later = (bank / "templates.bank").stat().st_mtime_ns + 1
        os.utime(tree / "s0001/segmentations/liver.nii.gz", ns=(later, later))
    if fault == "of fewer subjects":
        shutil.copytree(tree / "s0000", tree / "s0002")
    before = contents(tree)
    with pytest.raises(TemplateBankError) as caught:
        delete_merged_parts(tree, merged)
    assert caught.value.remedy
    assert contents(tree) == before
    shutil.rmtree(bank, ignore_errors=True)
    prepare_templates(tree, bank, workers=1)
    before = contents(tree)
    delete_merged_parts(tree, merged)
    gone = {part.relative_to(tree).as_posix() for parts in merged.values() for part in parts}
    assert len(gone) == 4
    assert contents(tree) == {name: data for name, data in before.items() if name not in gone}
