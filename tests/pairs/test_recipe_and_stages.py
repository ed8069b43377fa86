"""What recipes of pairs allow, what is drawn for volumes that are no cubes, and what decides a stage's fingerprint."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from voxmint.errors import RecipeError
from voxmint.pairs.draws import draw_artifacts
from voxmint.pairs.ensemble import make_ensemble
from voxmint.pairs.recipe import ArtifactRecipe, EnsembleRecipe, PairRecipe
from voxmint.pairs.stages import PackSampler, ViewSampler, fingerprint
from voxmint.randomness import Stream
from voxmint.templates.bank import TemplateBank
from voxmint.volumes.nifti import write_nifti


@pytest.mark.parametrize("shape", [(3, 40, 7), (40, 7, 3), (7, 3, 40), (1, 1, 50)])
def test_a_spike_lies_anywhere_in_a_view_of_any_shape(shape: tuple[int, int, int]) -> None:
    """Each axis has its own limits: all indices along it occur, and none beyond."""
    recipe = ArtifactRecipe(kspace_spike_probability=1)
    drawn = [draw_artifacts(Stream(4, index, "spike"), recipe, shape) for index in range(600)]
    places = np.array([artifacts["kspace_spike"]["location"] for artifacts in drawn])
    assert [set(along) for along in places.T.tolist()] == [set(range(size)) for size in shape]


@pytest.mark.parametrize("recipe", [EnsembleRecipe, PairRecipe])
def test_as_many_templates_as_a_byte_has_labels(recipe: type[EnsembleRecipe]) -> None:
    """An upper limit of 255 is allowed, 256 is refused with the most that is."""
    assert recipe(min_templates=254, max_templates=255).max_templates == 255
    with pytest.raises(RecipeError, match="max_templates must be at most 255, got 256"):
        recipe(min_templates=254, max_templates=256)


def test_the_most_templates_still_leave_labels_for_foreground_and_envelope(bank: TemplateBank) -> None:
    """With 254 templates, no label wraps around: what the foreground and its envelope add is above all templates."""
    drawn = {"label": 253, "template": 0, "scale": [1, 1, 1], "mirror": [False] * 3, "rotation": [0, 0, 0],
             "shear": [0, 0, 0], "translation": [0, 0, 0]}  # fmt: skip
    still = {"spacing": 8.0, "std": 0.0, "key": "0" * 16}
    foreground = {"radius": 6, "centre": [8, 8, 8], "displacement": [still], "envelope": 2}
    mask = {"templates": [drawn], "foreground": foreground}
    seen = set(np.unique(make_ensemble(bank, mask, 16)).tolist())
    assert max(seen) == 255
    assert {0, 255} <= seen


def volume(path: Path, size: int, value: int = 1) -> Path:
    write_nifti(path, np.full((size, 4, 4), value, np.uint8))
    return path


def test_the_fingerprint_of_files_follows_names_sizes_and_order(tmp_path: Path) -> None:
    """Equal in another folder; another for a file of another size or name, one more or less, or another order."""
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
    files = [volume(tmp_path / "one" / f"{name}.nii", 4) for name in "ab"]
    before = fingerprint(files)
    assert fingerprint([volume(tmp_path / "two" / f"{name}.nii", 4) for name in "ab"]) == before
    others = [
        [files[0]],
        files[::-1],
        [*files, volume(tmp_path / "one/c.nii", 4)],
        [files[0], volume(tmp_path / "one/d.nii", 4)],
        [volume(tmp_path / "two/a.nii", 5), files[1]],
        [files[0], volume(tmp_path / "two/b.nii", 5)],
    ]
    found = [fingerprint(other)["fingerprint"] for other in others]
    assert len({before["fingerprint"], *found}) == 7


def test_a_file_replaced_by_another_size_changes_the_definition(tmp_path: Path) -> None:
    """Of views and of packed pairs, whichever of the files it is: a run would not go on with other inputs."""
    files = [volume(tmp_path / f"{name}.nii", 4) for name in ("view1_a", "view2_a", "a")]
    samplers = (ViewSampler(files), PackSampler([files]))
    for path in files:
        before = [sampler.definition() for sampler in samplers]
        volume(path, 6)
        for sampler, earlier in zip(samplers, before, strict=True):
            assert sampler.definition() != earlier
