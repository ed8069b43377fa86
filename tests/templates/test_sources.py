"""Sources: which files become which templates, from trees and folders as people have them."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from voxmint.errors import InputError, TemplateBankError
from voxmint.generators import open_remote, open_sampler, remote
from voxmint.sample import Sampler
from voxmint.templates.folders import FolderSource, open_source
from voxmint.templates.packing import Template, bounding_box, unpack
from voxmint.templates.source import TemplateSource, templates_of
from voxmint.templates.totalsegmentator import LICENCE, TotalSegmentatorSource, merge_structures
from voxmint.templates.writing import write_bank

AFFINE = np.diag([1.5, 1.5, 2.0, 1.0])
STRUCTURES = ("liver", "spleen", "brain", "rib_left_1", "rib_right_2", "vertebrae_L1", "vertebrae_S1")


def save(path: Path, array: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array.astype(np.uint8), AFFINE), path)
    return path


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    root = tmp_path / "tree"
    for subject in ("s0000", "s0011"):
        for structure in STRUCTURES:
            mask = rng.random((9, 10, 11)) > 0.8
            save(root / subject / "segmentations" / f"{structure}.nii.gz", mask & (structure != "brain"))
        (root / subject / "ct.nii.gz").write_bytes(b"never read")
    (root / "meta.csv").write_text("image_id\n")
    return root


def all_templates(source: TemplateSource) -> dict[str, Template]:
    return {
        template.name: template for sample in source.stream(range(len(source))) for template in templates_of(sample)
    }


def mask_of(template: Template) -> np.ndarray:
    return unpack(template.words, template.shape)


def load(path: Path) -> np.ndarray:
    return np.asanyarray(nib.load(path).dataobj) != 0


def digest(root: Path) -> str:
    sha = hashlib.sha256()
    for path in sorted(root.rglob("*")):
        sha.update(f"{path} {path.stat().st_mtime_ns}".encode())
        sha.update(path.read_bytes() if path.is_file() else b"")
    return sha.hexdigest()


def test_a_tree_gives_merged_non_empty_structures(tree: Path) -> None:
    """Ribs and vertebrae are merged, singles and empty masks are no templates, nothing is changed."""
    before = digest(tree)
    source = open_source(tree)
    assert isinstance(source, TotalSegmentatorSource)
    assert isinstance(source, Sampler)
    found = all_templates(source)
    expected = {"liver", "spleen", "all_ribs", "all_vertebrae"}
    assert list(found) == [f"{s}/{name}" for s in ("s0000", "s0011") for name in sorted(expected)]
    folder = tree / "s0000/segmentations"
    ribs = load(folder / "rib_left_1.nii.gz") | load(folder / "rib_right_2.nii.gz")
    assert np.array_equal(mask_of(found["s0000/all_ribs"]), ribs[bounding_box(ribs)])
    assert found["s0000/all_ribs"].voxel_size_mm == (1.5, 1.5, 2.0)
    liver = found["s0011/liver"]
    assert liver.voxel_size_mm == (1.5, 1.5, 2.0)
    assert (liver.structure, liver.licence) == ("liver", LICENCE)
    assert liver.source == "s0011/segmentations/liver.nii.gz"
    assert digest(tree) == before


def test_a_merged_file_is_used_instead_of_its_parts(tree: Path) -> None:
    """Where all_ribs lies already it is the template, and is not merged again."""
    folder = tree / "s0000/segmentations"
    mask = np.zeros((9, 10, 11), bool)
    mask[2:4, 5, 5:9] = True
    save(folder / "all_ribs.nii.gz", mask)
    (folder / "rib_left_1.nii.gz").write_bytes(b"not even read")
    assert mask_of(all_templates(open_source(tree))["s0000/all_ribs"]).shape == (2, 1, 4)


def test_a_source_is_opened_again_from_its_definition(tree: Path) -> None:
    """A source in another process gives samples of equal digest, also from the recorded definition alone."""
    source = open_source(tree, licence="mine")
    rebuilt = open_remote(json.loads(json.dumps(remote(source))))
    assert type(rebuilt) is type(open_sampler(source.definition(), {})) is TotalSegmentatorSource
    assert [rebuilt[n].digest() for n in range(2)] == [source[n].digest() for n in range(2)]
    assert rebuilt[1].record == source[1].record
    assert source[1].key == "s0011"
    assert source[1].record["templates"][0]["licence"] == "mine"
    assert rebuilt.definition() == source.definition()
    assert open_source(tree, licence="x").definition() != rebuilt.definition()
    with pytest.raises(IndexError):
        source[2]


@pytest.mark.parametrize("whole", [True, False])
def test_a_changed_tree_is_not_opened_as_what_it_was(tree: Path, tmp_path: Path, whole: bool) -> None:
    """A file more, one less, or one of another size is refused by name of the tree; elsewhere it may lie unchanged."""
    path = tree if whole else tree / "s0000/segmentations"
    definition = open_source(path).definition()
    moved = shutil.copytree(path, tmp_path / "moved")
    again = open_sampler(definition, {"templates": str(moved)})
    assert [again[n].digest() for n in range(len(again))] == [s.digest() for s in open_source(path)]
    liver = tree / "s0000/segmentations/liver.nii.gz"
    kept, colon = liver.read_bytes(), liver.with_name("colon.nii.gz")

    def refused() -> None:
        with pytest.raises(InputError, match="label files changed") as caught:
            open_sampler(definition, {})
        assert caught.value.where == path
        assert caught.value.remedy

    save(colon, np.ones((9, 10, 11)))
    refused()
    colon.unlink()
    open_sampler(definition, {})
    liver.write_bytes(kept[:-9])
    refused()
    liver.unlink()
    refused()
    liver.write_bytes(kept)
    assert open_sampler(definition, {}).definition() == definition
    next(moved.rglob("spleen.nii.gz")).unlink()
    with pytest.raises(InputError, match="label files changed") as caught:
        open_sampler(definition, {"templates": str(moved)})
    assert caught.value.where == moved


def test_a_bank_of_old_definitions_asks_where_its_files_lie(tree: Path) -> None:
    """Version 0.1 recorded no place, and numbers by other names: with the place given it is opened, and compared."""
    new = open_source(tree).definition()
    old = {"templates": "totalsegmentator", "subjects": 2, "fingerprint": new["tree"]["fingerprint"],
           "licence": new["licence"]}  # fmt: skip
    with pytest.raises(InputError, match="lie elsewhere") as caught:
        open_sampler(old, {})
    assert "--templates" in str(caught.value.remedy)
    assert open_sampler(old, {"templates": str(tree)}).definition() == new
    with pytest.raises(InputError, match="label files changed"):
        open_sampler(old | {"subjects": 3}, {"templates": str(tree)})


@pytest.mark.parametrize("whole", [True, False])
def test_a_mask_of_another_size_changes_the_definition(tree: Path, whole: bool) -> None:
    """Of a tree and of a folder: a run begun with other files is not gone on with; unchanged ones are the same."""
    path = tree if whole else tree / "s0000/segmentations"
    before = open_source(path).definition()
    assert open_source(path).definition() == before
    save(tree / "s0000/segmentations/liver.nii.gz", np.random.default_rng(1).random((19, 20, 21)) > 0.5)
    assert open_source(path).definition() != before


def test_parts_of_different_shape_are_named(tree: Path) -> None:
    """Masks of one subject that cannot be merged are an error with both files."""
    save(tree / "s0000/segmentations/rib_right_2.nii.gz", np.ones((3, 4, 5)))
    with pytest.raises(InputError, match="rib_right_2") as caught:
        open_source(tree)[0]
    assert "rib_left_1" in str(caught.value)


def test_the_licence_file_is_quoted(tree: Path) -> None:
    """The first line with text of a LICENSE in the root or its parent is the note."""
    (tree.parent / "LICENSE.txt").write_text("\n   Free for all  \nmore\n")
    assert open_source(tree)[0].record["templates"][0]["licence"] == "Free for all"
    (tree / "LICENSE").write_text("Nearer\n")
    assert open_source(tree)[0].record["templates"][0]["licence"] == "Nearer"
    (tree / "LICENSE").write_text("very " * 100)
    assert open_source(tree)[0].record["templates"][0]["licence"] == "very " * 40


def test_an_unzipped_archive_and_one_subject_are_recognized(tree: Path) -> None:
    """The folder above the tree works as the tree; a subject's folder gives its masks without the image."""
    assert open_source(tree.parent).definition() == open_source(tree).definition()
    assert open_source(tree.parent).definition()["tree"]["address"] == str(tree)
    assert "liver" in all_templates(open_source(tree / "s0000"))


def test_folders_give_a_template_per_label(tmp_path: Path) -> None:
    """Binary files are called by their path, labels by path and number, in subfolders as well; ribs are merged."""
    labels = np.zeros((8, 8, 8))
    labels[1:3, 2, 2], labels[5, 5:8, 1], labels[0, 0, 0] = 1, 7, 200
    save(tmp_path / "in/a/labels.nii.gz", labels)
    save(tmp_path / "in/mask.nii", labels == 7)
    save(tmp_path / "in/only_seven.nii", np.where(labels == 7, 7, 0))
    save(tmp_path / "in/b/rib_left_1.nii.gz", labels == 1)
    save(tmp_path / "in/b/rib_left_2.nii.gz", labels == 200)
    save(tmp_path / "in/empty.nii.gz", labels * 0)
    (tmp_path / "in/.hidden.nii.gz").write_bytes(b"")
    save(tmp_path / "in/.trash/old.nii.gz", labels == 1)
    source = open_source(tmp_path / "in")
    found = all_templates(source)
    assert sorted(found) == ["a/labels:1", "a/labels:200", "a/labels:7", "b/all_ribs", "mask", "only_seven"]
    assert found["a/labels:7"].shape == (1, 3, 1)
    assert found["a/labels:1"].voxel_count == 2
    assert found["b/all_ribs"].shape == (3, 3, 3)
    assert found["mask"].licence == "not stated"
    assert open_remote(remote(source))[0].digest() == source[0].digest()


def test_one_file_is_a_source(tmp_path: Path) -> None:
    """A single label file gives its labels; numbers with large gaps cost nothing."""
    array = np.zeros((4, 4, 4), np.uint32)
    array[0, 0, 0], array[2:, 3, 3] = 4_000_000_000, 70_000
    nib.save(nib.Nifti1Image(array, AFFINE), tmp_path / "one.nii.gz")
    found = all_templates(open_source(tmp_path / "one.nii.gz"))
    assert {name: t.voxel_count for name, t in found.items()} == {"one:70000": 2, "one:4000000000": 1}


@pytest.mark.parametrize("numbers", [(1, 2, 3), (2, 9, 200), (5, 70_000, 4_000_000_000)])
def test_interleaved_labels_take_nothing_of_each_other(tmp_path: Path, numbers: tuple[int, int, int]) -> None:
    """Where each label's box is full of the others, every template is its own label alone, voxel for voxel."""
    array = np.array([0, *numbers], np.uint32)[np.indices((7, 8, 9)).sum(axis=0) % 4]
    nib.save(nib.Nifti1Image(array, AFFINE), tmp_path / "mixed.nii.gz")
    found = all_templates(open_source(tmp_path / "mixed.nii.gz"))
    assert sorted(found) == sorted(f"mixed:{number}" for number in numbers)
    for number in numbers:
        mask = array == number
        assert np.array_equal(mask_of(found[f"mixed:{number}"]), mask[bounding_box(mask)])
        assert found[f"mixed:{number}"].voxel_count == mask.sum()


def test_nothing_to_read_is_told_at_once(tmp_path: Path) -> None:
    """Missing paths, empty trees and trees without subjects are errors with a remedy; so are only empty masks."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.txt").write_text("")
    for path in ("missing", "empty", "text.txt"):
        with pytest.raises(InputError, match=path) as caught:
            open_source(tmp_path / path)
        assert caught.value.remedy
    with pytest.raises(InputError, match="no subjects"):
        TotalSegmentatorSource(tmp_path / "empty")
    save(tmp_path / "blank/s0/segmentations/liver.nii.gz", np.zeros((3, 3, 3)))
    source = open_source(tmp_path / "blank")
    assert templates_of(source[0]) == []
    with pytest.raises(TemplateBankError, match="blank"):
        write_bank(tmp_path / "bank", templates_of(source[0]), origin=tmp_path / "blank")


def test_a_damaged_mask_is_named(tree: Path) -> None:
    """A cut file stops its subject with its name, the others can still be read."""
    path = tree / "s0000/segmentations/liver.nii.gz"
    path.write_bytes(path.read_bytes()[:-9])
    source = open_source(tree)
    with pytest.raises(InputError, match=r"s0000/segmentations/liver\.nii\.gz"):
        source[0]
    assert len(templates_of(source[1])) == 4


def test_merging_writes_the_union_once(tree: Path) -> None:
    """Merged files equal the union and keep the affine; a second time nothing is written; singles stay."""
    subject = tree / "s0000"
    singles = digest(subject / "segmentations")
    merged = merge_structures(subject)
    folder = subject / "segmentations"
    assert {path.name: len(parts) for path, parts in merged.items()} == {
        "all_ribs.nii.gz": 2,
        "all_vertebrae.nii.gz": 2,
    }
    union = load(folder / "vertebrae_L1.nii.gz") | load(folder / "vertebrae_S1.nii.gz")
    assert np.array_equal(load(folder / "all_vertebrae.nii.gz"), union)
    assert np.array_equal(nib.load(folder / "all_ribs.nii.gz").affine, AFFINE)
    after = digest(folder)
    assert merge_structures(subject) == merged
    assert digest(folder) == after
    for path in merged:
        path.unlink()
    assert digest(folder) == singles
    save(folder / "all_ribs.nii.gz", np.ones((9, 10, 11)))
    with pytest.raises(InputError, match="all_ribs"):
        merge_structures(subject)


def test_the_real_sample() -> None:
    """The real subject gives the 26 structures that nibabel finds, voxel for voxel."""
    data = Path(os.environ.get("VOXMINT_REAL_DATA", Path(__file__).parents[3] / "shared/data"))
    root = data / "totalsegmentator-sample"
    if not root.is_dir():
        pytest.skip(f"no real data at {root}")
    found = all_templates(FolderSource(root / "s0000/segmentations", "x"))
    expected = {}
    for path in sorted((root / "s0000/segmentations").glob("*.nii.gz")):
        name = path.name[:-7]
        name = "all_ribs" if name.startswith("rib_") else "all_vertebrae" if name.startswith("vertebrae_") else name
        expected[name] = expected.get(name, False) | load(path)
    expected = {name: mask[bounding_box(mask)] for name, mask in expected.items() if mask.any()}
    assert sorted(found) == sorted(expected)
    assert all(np.array_equal(mask_of(found[name]), mask) for name, mask in expected.items())


def test_an_item_names_each_file_that_it_was_read_from(tree: Path) -> None:
    """Also those that were merged or are empty, by path and by the start of the SHA-256 of the file; nothing else."""
    masks = [path for path in sorted(tree.rglob("*.nii.gz")) if path.parent.name == "segmentations"]
    expected = {path.relative_to(tree).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()[:16] for path in masks}
    assert len(expected) == 2 * len(STRUCTURES)
    for source in (TotalSegmentatorSource(tree), FolderSource(tree / "s0000" / "segmentations")):
        found: dict[str, str] = {}
        for sample in source.stream(range(len(source))):
            assert not found.keys() & sample.reads.keys()
            found |= sample.reads
        base = "" if isinstance(source, TotalSegmentatorSource) else "s0000/segmentations/"
        assert found == {name.removeprefix(base): digest for name, digest in expected.items() if base in name}
