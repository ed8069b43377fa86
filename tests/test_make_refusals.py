"""What the verbs refuse before anything is written, and what they choose when nothing is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import voxmint as vm
import voxmint.inspect.montage
from voxmint.datasets.hdf5 import Hdf5Format
from voxmint.errors import PlanError, RecipeError
from voxmint.make.pairs import pair_format
from voxmint.nifti.files import write_nifti

SMALL = vm.PairRecipe(side=16, min_templates=2, max_templates=4)


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bank")
    vm.procedural_templates(folder / "bank", 2, workers=1)
    return folder / "bank"


@pytest.mark.parametrize(
    ("count", "validation"), [(1, 0), (9, 0), (19, 1), (40, 4), (999, 99), (1000, 100), (120_000, 100)]
)
def test_a_tenth_at_most_a_hundred_is_for_validation(count, validation) -> None:
    """Unless a number is given, which may be none."""
    assert pair_format("hdf5", count) == Hdf5Format(val_count=validation)
    assert pair_format("hdf5", count, 0) == Hdf5Format(val_count=0)
    assert pair_format("hdf5", count, 1) == Hdf5Format(val_count=1)


def test_a_tree_has_no_validation_part(tmp_path) -> None:
    """A number of validation samples is refused where nothing would come of it; none is no number."""
    with pytest.raises(RecipeError, match="val_count: a NIfTI tree has no validation part"):
        vm.make_pairs(SMALL, tmp_path / "out", 3, format="nifti", val_count=1, dry_run=True)
    assert vm.make_pairs(SMALL, tmp_path / "out", 3, format="nifti", val_count=0, dry_run=True).plan
    with pytest.raises(RecipeError, match="unknown format"):
        vm.make_pairs(SMALL, tmp_path / "out", 3, format="zip", dry_run=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_an_impossible_seed_is_refused(bank, tmp_path, seed) -> None:
    """By every verb that draws; the largest possible one is taken."""
    labels = tmp_path / "labels"
    labels.mkdir()
    write_nifti(labels / "a.nii.gz", np.ones((16, 16, 16), np.uint8))
    labels_alone = vm.EnsembleRecipe()
    verbs = [
        lambda seed: vm.make_pairs(SMALL, tmp_path / "out", 3, templates=bank, seed=seed, dry_run=True),
        lambda seed: vm.make_ensembles(labels_alone, tmp_path / "out", 3, templates=bank, seed=seed, dry_run=True),
        lambda seed: vm.make_views(vm.ViewRecipe(), labels, tmp_path / "out", seed=seed, dry_run=True),
        lambda seed: vm.procedural_templates(tmp_path / "out", 3, seed, dry_run=True),
    ]  # fmt: skip
    for verb in verbs:
        with pytest.raises(RecipeError, match="impossible seed"):
            verb(seed)
        assert verb(2**63 - 1).plan
    assert [path.name for path in tmp_path.iterdir()] == ["labels"]


@pytest.mark.parametrize(("start", "stop"), [(-1, None), (-2, 1), (3, None), (1, 1), (2, 1), (0, 0)])
def test_a_range_without_label_volumes_is_refused(tmp_path, start, stop) -> None:
    """Numbers below 0 do not count from the end, and a range that holds no file is told with the possible ones."""
    for name in "abc":
        write_nifti(tmp_path / f"{name}.nii.gz", np.ones((16, 16, 16), np.uint8))
    with pytest.raises(PlanError, match="no label volumes in this range") as told:
        vm.make_views(vm.ViewRecipe(), tmp_path, tmp_path / "out", start=start, stop=stop, dry_run=True)
    assert "from 0 to 3" in str(told.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("count", "drawn"), [(1, [0]), (2, [0, 4]), (4, [0, 2, 4, 6]), (5, [0, 1, 2, 3, 4]), (20, list(range(9)))]
)
def test_a_montage_shows_so_many_samples_evenly_spaced(bank, tmp_path_factory, monkeypatch, count, drawn) -> None:
    """Never more than asked for, the first one always, and as far apart as fits."""
    out = tmp_path_factory.getbasetemp() / "nine"
    if not out.exists():
        assert vm.make_pairs(SMALL, out, 9, templates=bank, workers=1).complete
    shown: list[int] = []
    draw = voxmint.inspect.montage.pair_montage

    def noted(samples, **more):
        shown.extend(sample.index for sample in samples)
        return draw(samples, **more)

    monkeypatch.setattr(voxmint.inspect.montage, "pair_montage", noted)
    picture = vm.montage(out, out / "some.png", count=count)
    assert shown == drawn
    assert picture.read_bytes().startswith(b"\x89PNG")
