"""What recipes of pairs allow, what is drawn for volumes that are no cubes, and what decides a stage's fingerprint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from voxmint.errors import InputError, RecipeError
from voxmint.generators import open_remote, remote
from voxmint.nifti.files import write_nifti
from voxmint.pairs.draws import draw_artifacts, draw_foreground
from voxmint.pairs.engines.cpu.ensemble import make_ensemble
from voxmint.pairs.naming import VIEW_NAMES
from voxmint.pairs.recipe import ArtifactRecipe, EnsembleRecipe, ForegroundRecipe, PairRecipe, ViewRecipe
from voxmint.pairs.sampler import PairSampler
from voxmint.pairs.stages import PackSampler, ViewSampler, label_files, matching_views
from voxmint.randomness import Stream
from voxmint.templates.bank import TemplateBank


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
    seen = set(np.unique(make_ensemble(bank, mask, (16, 16, 16))).tolist())
    assert max(seen) == 255
    assert {0, 255} <= seen


def volume(path: Path, size: int, value: int = 1) -> Path:
    write_nifti(path, np.full((size, 4, 4), value, np.uint8))
    return path


def described(files: list[Path]) -> dict[str, Any]:
    """Return what a definition says of files, but for where they lie."""
    return {name: said for name, said in ViewSampler(files).definition()["labels"].items() if name != "address"}


def test_the_fingerprint_of_files_follows_names_sizes_and_order(tmp_path: Path) -> None:
    """Equal in another folder; another for a file of another size or name, one more or less, or another order."""
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
    files = [volume(tmp_path / "one" / f"{name}.nii", 4) for name in "ab"]
    before = described(files)
    assert described([volume(tmp_path / "two" / f"{name}.nii", 4) for name in "ab"]) == before
    others = [
        [files[0]],
        files[::-1],
        [*files, volume(tmp_path / "one/c.nii", 4)],
        [files[0], volume(tmp_path / "one/d.nii", 4)],
        [volume(tmp_path / "two/a.nii", 5), files[1]],
        [files[0], volume(tmp_path / "two/b.nii", 5)],
    ]
    found = [described(other)["fingerprint"] for other in others]
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


def artifacts(**fields: Any) -> dict[str, Any]:
    return {"view": {"artifacts": fields}}


@pytest.mark.parametrize(
    ("allowed", "refused"),
    [
        ({"min_templates": 3, "max_templates": 4}, {"min_templates": 4, "max_templates": 4}),
        ({"scale": (0.5, 8)}, {"scale": (0.5, 8.1)}),
        ({"shear": (-4, 4)}, {"shear": (-4.1, 4)}),
        ({"shear": (-4, 4)}, {"shear": (-4, 4.1)}),
        ({"rotation": (5, 5)}, {"rotation": (5, 4)}),
        ({"foreground": {"radius": (1, 2)}}, {"foreground": {"radius": (0, 2)}}),
        ({"foreground": {"radius": (5, 6)}}, {"foreground": {"radius": (5, 5)}}),
        ({"foreground": {"shift": (0, 1)}}, {"foreground": {"shift": (0, 0)}}),
        ({"foreground": {"envelope_radius": (16,)}}, {"foreground": {"envelope_radius": (17,)}}),
        (artifacts(low_resolution_zoom=(1, 1)), artifacts(low_resolution_zoom=(1, 1.1))),
        (artifacts(gibbs_alpha=(0, 1)), artifacts(gibbs_alpha=(0, 1.1))),
        (artifacts(thick_slices_thickness=(1, 64)), artifacts(thick_slices_thickness=(0.9, 64))),
        (artifacts(thick_slices_thickness=(5, 5)), artifacts(thick_slices_thickness=(5, 4))),
        (artifacts(thick_slices_axes=(0, 2)), artifacts(thick_slices_axes=(0, 3))),
        (artifacts(thick_slices_axes=(1,)), artifacts(thick_slices_axes=())),
        ({"shape": (16, 17, 1024)}, {"shape": (15, 17, 1024)}),
        ({"shape": (16, 17, 1024)}, {"shape": (16, 17, 1025)}),
        ({"side": 20, "shape": (20, 20, 20)}, {"side": 20, "shape": (20, 20, 21)}),
        ({"side": None, "shape": (16, 20, 24)}, {"side": None}),
        ({"voxel_size": (1, 1, 16)}, {"voxel_size": (1, 1, 16.1)}),
    ],
)
def test_limits_are_where_they_are_said_to_be(allowed: dict[str, Any], refused: dict[str, Any]) -> None:
    """The last value that makes sense is taken, the next one refused before anything is made."""
    PairRecipe.from_dict(allowed)
    with pytest.raises(RecipeError):
        PairRecipe.from_dict(refused)


def test_the_foreground_is_scaled_with_the_side() -> None:
    """At half the published side, all lengths are half: radius, shift, displacement and its spacing."""
    drawn = [draw_foreground(Stream(6, index), ForegroundRecipe(), (64, 64, 64)) for index in range(300)]
    assert {mask["radius"] for mask in drawn} == set(range(24, 36))
    assert {n for mask in drawn for n in mask["centre"]} == set(range(16, 48))
    assert {tuple(scale["spacing"] for scale in mask["displacement"]) for mask in drawn} == {(4, 8, 16)}
    stds = [scale["std"] for mask in drawn for scale in mask["displacement"]]
    assert 0.5 <= min(stds) < 0.55
    assert 2.45 < max(stds) <= 2.5


def test_positions_go_with_their_axis_and_lengths_with_the_mean_side() -> None:
    """In a volume that is no cube the centre lies anywhere it would in a cube stretched to it; the ball stays one."""
    drawn = [draw_foreground(Stream(6, index), ForegroundRecipe(), (32, 64, 96)) for index in range(400)]
    assert [min(mask["centre"][axis] for mask in drawn) for axis in range(3)] == [8, 16, 24]
    assert [max(mask["centre"][axis] for mask in drawn) for axis in range(3)] == [23, 47, 71]
    assert {mask["radius"] for mask in drawn} == set(range(24, 36))
    assert {tuple(scale["spacing"] for scale in mask["displacement"]) for mask in drawn} == {(4, 8, 16)}


def test_a_cube_is_a_cube_however_it_is_said(bank: TemplateBank) -> None:
    """Side N and shape N,N,N are one recipe, with one hash and the same samples, which do not depend on voxel size."""
    small = {"min_templates": 3, "max_templates": 4}
    by_side, by_shape = PairRecipe(side=20, **small), PairRecipe(shape=(20, 20, 20), **small)
    assert by_side == by_shape
    assert by_side.to_dict() == by_shape.to_dict()
    assert by_shape.content_hash() == by_side.content_hash()
    larger = PairRecipe(side=20, voxel_size=(2, 2, 2), **small)
    samples = [PairSampler(recipe, bank, seed=1)[2] for recipe in (by_side, by_shape, larger)]
    assert len({sample.digest() for sample in samples}) == 1
    assert [sample.record.get("voxel_size") for sample in samples] == [None, None, [2, 2, 2]]


def test_what_came_later_leaves_recipes_of_before_alone() -> None:
    """Hash, record and draws of a recipe that uses no later field are those from before there were any."""
    assert PairRecipe().content_hash() == "ae2afad4b5e126c70aaef42d1728415f7ab63cdb812f8f897402c429aa118b7e"
    assert PairRecipe.from_dict(PairRecipe(shape=(16, 20, 24)).to_dict()).volume == (16, 20, 24)
    plain, sliced = ArtifactRecipe(), ArtifactRecipe(thick_slices_probability=1, thick_slices_axes=(1,))
    before, after = (draw_artifacts(Stream(3, "later"), recipe, (9, 9, 9)) for recipe in (plain, sliced))
    assert "thick_slices" not in before
    assert after.pop("thick_slices")["axis"] == 1
    assert after == before


def test_limits_that_meet_when_scaled_leave_one_value() -> None:
    """A narrow range of a small volume is its lower limit, not an error."""
    narrow = ForegroundRecipe(radius=(48, 49), shift=(-8, -7))
    mask = draw_foreground(Stream(6), narrow, (16, 16, 16))
    assert (mask["radius"], mask["centre"]) == (6, [7, 7, 7])


def test_samples_end_where_they_are_said_to(bank: TemplateBank, tmp_path: Path) -> None:
    """Neither the index after the last nor one before the first is a sample, of any sampler."""
    files = [volume(tmp_path / f"{name}.nii", 4) for name in ("view1_a", "view2_a", "a")]
    for sampler in (PairSampler(PairRecipe(), bank, count=3), ViewSampler(files), PackSampler([files] * 3)):
        for index in (3, -4):
            with pytest.raises(IndexError, match=f"sample {index} of 3"):
                sampler[index]


def test_a_view_sampler_comes_back_from_its_definition(tmp_path: Path) -> None:
    """In another process recipe and seed are the same, and so are the images."""
    path = tmp_path / "a.nii"
    write_nifti(path, np.random.default_rng(0).integers(0, 4, (16, 12, 9), dtype=np.uint8))
    sampler = ViewSampler([path], ViewRecipe(mean=(90, 100), std=(1, 2), texture_spacing=()), seed=5)
    again = open_remote(json.loads(json.dumps(remote(sampler))))
    assert again.definition() == sampler.definition()
    assert again[0].digest() == sampler[0].digest()
    assert ViewSampler([path], sampler.recipe, seed=6)[0].digest() != sampler[0].digest()


def test_what_cannot_be_packed_is_named(tmp_path: Path) -> None:
    """Another shape, labels above a byte, two files of one name, no views, and nothing at all."""
    one, two, other = (volume(tmp_path / f"{name}.nii", size) for name, size in (("one", 4), ("two", 4), ("other", 5)))
    with pytest.raises(InputError, match="another shape") as caught:
        PackSampler([(one, two, one), (one, other, one)])[1]
    assert caught.value.where == other
    write_nifti(tmp_path / "large.nii", np.full((4, 4, 4), 256, np.uint16))
    with pytest.raises(InputError, match="do not fit uint8"):
        ViewSampler([tmp_path / "large.nii"])[0]
    (tmp_path / "more").mkdir()
    with pytest.raises(InputError, match="same name"):
        ViewSampler([one, volume(tmp_path / "more" / "one.nii", 4)])
    views = [volume(tmp_path / "more" / f"{name}_one.nii", 4) for name in VIEW_NAMES]
    folders = [tmp_path / "more"] * 2
    assert matching_views([two, one], folders) == [[*views, one]]
    views[1].unlink()
    with pytest.raises(InputError, match="no label ensemble has its two views") as caught:
        matching_views([one], folders)
    assert views[1].name in str(caught.value)
    with pytest.raises(InputError, match="nothing to pack"):
        PackSampler([])


def test_label_files_are_the_visible_ones(tmp_path: Path) -> None:
    """What other programs leave beside them, and files of other kinds, are no labels."""
    with pytest.raises(InputError, match="no such folder"):
        label_files(tmp_path / "labels")
    for name in (".a.nii.gz", "._b.nii", "notes.txt", "c.nii.part"):
        (tmp_path / name).touch()
    with pytest.raises(InputError, match="no NIfTI files"):
        label_files(tmp_path)
    for name in ("b.nii", "a.nii.gz"):
        (tmp_path / name).touch()
    assert [path.name for path in label_files(tmp_path)] == ["a.nii.gz", "b.nii"]


def test_samples_are_sliced_and_counted_from_the_end(bank: TemplateBank) -> None:
    """As of a list: a slice is a list of its samples, and -1 is the last."""
    sampler = PairSampler(PairRecipe(side=16), bank, count=4)
    assert [sample.index for sample in sampler[1:4:2]] == [1, 3]
    assert sampler[-1].digest() == sampler[3].digest()
    assert sampler[4:] == []
