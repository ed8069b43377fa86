"""Where a crop lies, and what image, mask and validity show there: to the voxel, against the plain way."""

from __future__ import annotations

from fractions import Fraction
from itertools import product
from math import floor
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_crops import (
    Volume,
    coordinate_volumes,
    frac,
    plain_image,
    plain_mask,
    plain_start,
    plain_valid,
    sampler,
)

from voxmint.errors import InputError, RecipeError, RejectedSample
from voxmint.instances.cut.cutout import Cutter
from voxmint.instances.recipe import ChoiceRecipe, InstanceRecipe
from voxmint.instances.table.table import Instance
from voxmint.volumes.box import Box

RATIOS: dict[str, tuple[Any, Any]] = {
    "1": ((8, 8, 33), (8, 8, 33)),
    "2": ((4, 4, 33), (8, 8, 33)),
    "1.5": ((4, 4, 30), (6, 6, 30)),
    "0.5": ((8, 8, 40), (4, 4, 40)),
    "anisotropic": ((4, 6, 10), (8, 9, 5)),
    "thirds": ((3.6, 2.4, 30), (2.4, 3.6, 20)),
}
SAME = (8, 8, 33)
SHAPE_NM = (480, 432, 600)
FAR = ChoiceRecipe(by="id", max_distance_nm=1e6)


def volumes(ratio: str, source_offset: Any = (0, 0, 0), target_offset: Any = (0, 0, 0)) -> tuple[list[Volume], Volume]:
    """Return coordinate images and a target of random blocks of five ids, for about the same place."""
    source_size, target_size = RATIOS[ratio]
    shape = [max(4, int(Fraction(n) / frac(s))) for n, s in zip(SHAPE_NM, source_size, strict=True)]
    target_shape = [max(4, int(Fraction(n) / frac(s))) for n, s in zip(SHAPE_NM, target_size, strict=True)]
    random = np.random.Generator(np.random.Philox(3))
    labels = random.choice([0, 0, 1, 2, 3, 4, 5], size=target_shape).astype(np.uint64)
    images = coordinate_volumes((shape[0], shape[1], shape[2]), source_size, source_offset)
    return images, Volume(labels, target_size, target_offset)


def check(
    images: list[Volume], target: Volume, centre: Any, crop: Any, axes: str = "xyz", how: Any = "majority"
) -> Any:
    """Compare a sample of every coordinate image with the plain way; return the last one."""
    row = Instance(7, 0, tuple(float(c) for c in centre), target_id=3)
    recipe = InstanceRecipe(crop_vx=crop, choice=FAR, target_downsampling=how)
    size = images[0].size
    start = plain_start(row.centre_nm, crop, target.size, size)
    ratio = [frac(t) / frac(s) for t, s in zip(target.size, size, strict=True)]
    shape: Any = tuple(max(1, int(n * r + Fraction(1, 2))) for n, r in zip(crop, ratio, strict=True))
    expected = plain_mask(target.array == 3, target, start, shape, size, how)
    sample = None
    for image in images:
        made = sampler(recipe, image, target, row, axes)
        if not expected.any() or not plain_valid([image], start, shape, size).any():
            with pytest.raises(RejectedSample):
                made[0]
            continue
        sample = made[0]
        assert sample.record["box_vx"][0] == start
        assert {name: array.shape for name, array in sample.arrays.items()} == dict.fromkeys(
            ("source", "seed", "target", "valid"), shape[::-1]
        )
        assert np.array_equal(sample.arrays["source"], plain_image(image, start, shape, 148))
        assert np.array_equal(sample.arrays["target"], expected)
        assert np.array_equal(sample.arrays["valid"], plain_valid([image, target], start, shape, size))
        kept = sample.record["kept_slices"]
        assert np.array_equal(sample.arrays["seed"][kept], sample.arrays["target"][kept])
        assert not np.delete(sample.arrays["seed"], kept, axis=0).any()
    return sample


@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize("crop", [(6, 6, 4), (7, 5, 3), (1, 2, 1)])
def test_every_voxel_shows_its_own_place(ratio: str, crop: Any) -> None:
    """Image, mask, seed and validity share one geometry for every ratio, odd and even crops."""
    images, target = volumes(ratio)
    check(images, target, (201.7, 177.2, 301.9), crop)
    check(images[:1], target, (201.7, 177.2, 301.9), crop, how="any")


@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize(("source_offset", "target_offset"), [((5, -3, 2), (3, -1, 1)), ((-7, 11, -2), (0, 4, 3))])
def test_offsets_of_the_layers_count(ratio: str, source_offset: Any, target_offset: Any) -> None:
    """The published code ignored ``voxel_offset``; here both layers' offsets move what is shown."""
    images, target = volumes(ratio, source_offset, target_offset)
    check(images, target, (201.7, 177.2, 301.9), (7, 6, 5))


@pytest.mark.parametrize("side", [side for side in product((-1, 0, 1), repeat=3) if any(side)])
@pytest.mark.parametrize("ratio", ["2", "1.5", "0.5"])
def test_all_26_borders_are_padded_alike(ratio: str, side: tuple[int, int, int]) -> None:
    """Over every face, edge and corner: padding in voxels of the sample, 148 and 0, and marked as not real."""
    images, target = volumes(ratio, (2, -1, 1), (1, 0, 1))
    ends = []
    for axis in range(3):
        low = float(target.offset[axis] * frac(target.size[axis]))
        high = low + float(target.array.shape[axis] * frac(target.size[axis]))
        ends.append((low, (low + high) / 2, high - 1)[side[axis] + 1])
    sample = check(images, target, ends, (9, 8, 5))
    assert sample is None or (sample.arrays["valid"] == 0).any()


def test_padding_is_recorded_in_voxels_of_the_sample_on_z_too() -> None:
    """A crop over the lower x face and the upper z face: 2 target voxels are 4 voxels of the sample."""
    source = Volume(np.ones((64, 64, 10), np.uint8), (4, 4, 33))
    target = Volume(np.ones((32, 32, 10), np.uint8), (8, 8, 33))
    sample = sampler(InstanceRecipe(crop_vx=(8, 8, 6)), source, target, Instance(1, 0, (16.0, 128.0, 297.0)))[0]
    assert sample.record["source"]["padding_vx"] == [[4, 0, 0], [0, 0, 2]]
    assert sample.record["target"]["padding_vx"] == [[4, 0, 0], [0, 0, 2]]
    assert sample.record["target"]["scale"] == [2.0, 2.0, 1.0]
    assert (sample.arrays["source"] == 148).sum() == 16 * 16 * 6 - 12 * 16 * 4


def test_the_last_plane_is_there() -> None:
    """The published code dropped the last plane of a volume; a crop that ends on it shows it."""
    image = coordinate_volumes((16, 16, 12), (8, 8, 33))[2]
    target = Volume(np.ones((16, 16, 12), np.uint8), (8, 8, 33))
    sample = sampler(InstanceRecipe(crop_vx=(4, 4, 4)), image, target, Instance(1, 0, (64.0, 64.0, 10 * 33.0)))[0]
    assert sample.arrays["source"][:, 0, 0].tolist() == [8, 9, 10, 11]
    assert sample.arrays["valid"].all()
    assert sample.arrays["target"].all()


@pytest.mark.parametrize("axes", ["xyz", "zyx", "yxz", "zxy"])
def test_any_order_of_the_stored_axes_gives_the_same_sample(axes: str) -> None:
    """Layers stored in another order of axes show the same voxels; sizes differ by axis, so a mix-up cannot pass."""
    images, target = volumes("anisotropic", (1, 2, 3), (0, 1, 2))
    check(images, target, (100.0, 50.0, 580.0), (7, 4, 9), axes)


def test_whole_ratios_repeat_target_voxels_exactly() -> None:
    """At 2 x 2 x 1 the mask is the crop of target voxels, each repeated."""
    random = np.random.Generator(np.random.Philox(5))
    labels = (random.random((40, 40, 20)) < 0.4).astype(np.uint32) * 9
    source, target = Volume(np.zeros((80, 80, 20), np.uint8), (4, 4, 33)), Volume(labels, (8, 8, 33))
    row = Instance(1, 0, (163.9, 164.0, 330.0), target_id=9)
    sample = sampler(InstanceRecipe(crop_vx=(9, 8, 5)), source, target, row)[0]
    crop = labels[20 - 4 : 20 + 5, 20 - 4 : 20 + 4, 10 - 2 : 10 + 3].transpose(2, 1, 0) == 9
    assert np.array_equal(sample.arrays["target"], crop.repeat(2, axis=1).repeat(2, axis=2))


def coarse(labels: Any, *centre: float, how: Any = "majority") -> Any:
    """Return the sample of labels on voxels of 4 x 4 x 33 nm, four times coarser in the plane."""
    source, target = Volume(np.zeros(labels.shape, np.uint8), (4, 4, 33)), Volume(labels, (4, 4, 33))
    recipe = InstanceRecipe(crop_vx=(32, 32, 8), voxel_size_nm=(16, 16, 33), target_downsampling=how)
    return sampler(recipe, source, target, Instance(1, 0, (centre[0], centre[1], centre[2])))[0]


def test_a_thin_sheet_survives_downsampling() -> None:
    """A sheet one fine voxel thick stays whole when the sample is four times coarser; a nearest pick would lose it."""
    labels = np.zeros((64, 64, 16), np.uint64)
    labels[:, 30, :] = 5
    for how in ("majority", "any"):
        sample = coarse(labels, 128.0, 120.0, 264.0, how=how)
        assert sample.arrays["target"].shape == (8, 8, 8)
        assert sample.arrays["target"].sum() == 8 * 8
        assert sample.record["component"].get("downsampling") == ("fullest" if how == "majority" else None)


def test_downsampling_by_majority_keeps_the_volume() -> None:
    """Balls anywhere have their volume within 5 % by majority; by any voxel they are a quarter larger."""
    random, ratios = np.random.Generator(np.random.Philox(5)), dict[str, list[float]](majority=[], any=[])
    for _ in range(12):
        centre = random.uniform(28, 36, 3)
        x, y, z = np.ogrid[:64, :64, :64]
        ball = (x - centre[0]) ** 2 + (y - centre[1]) ** 2 + (z - centre[2]) ** 2 < 9**2
        labels = Volume(ball.astype(np.uint8), (4, 4, 4))
        for how, found in ratios.items():
            recipe = InstanceRecipe(crop_vx=(32, 32, 32), voxel_size_nm=(8, 8, 8), target_downsampling=how)  # type: ignore[arg-type]
            made = sampler(recipe, labels, labels, Instance(1, 0, (128.0, 128.0, 128.0)))[0]
            found.append(8 * made.arrays["target"].sum() / ball.sum())
    assert np.mean(ratios["majority"]) == pytest.approx(1, abs=0.02)
    assert np.ptp(ratios["majority"]) < 0.05
    assert np.mean(ratios["any"]) > 1.2


def test_a_high_id_does_not_fatten_the_mask() -> None:
    """Masks of ids 1 and 2^40 are the same; labels resized linearly would grow with the id."""
    masks = []
    for label in (1, 1 << 40):
        labels = np.zeros((24, 24, 8), np.uint64)
        labels[8:13, 9:12, 2:6] = label
        source, target = Volume(np.zeros((36, 36, 8), np.uint8), (4, 4, 33)), Volume(labels, (6, 6, 33))
        row = Instance(1, 0, (60.0, 60.0, 99.0))
        masks.append(sampler(InstanceRecipe(crop_vx=(16, 16, 6)), source, target, row)[0].arrays["target"])
    assert np.array_equal(*masks)
    assert masks[0].max() == 1


def test_a_crop_in_nm_has_the_nearest_whole_size_and_the_centre_in_the_middle() -> None:
    """1,003 x 60 x 100 nm at 4 x 4 x 33 nm are 251 x 15 x 3 voxels around the voxel that holds the centre."""
    image = coordinate_volumes((255, 60, 20), (4, 4, 33))[0]
    target = Volume(np.ones((128, 30, 20), np.uint8), (8, 8, 33))
    recipe = InstanceRecipe(crop_nm=(1003, 60, 100))
    sample = sampler(recipe, image, target, Instance(1, 0, (502.0, 120.0, 330.0)))[0]
    assert sample.arrays["source"].shape == (3, 15, 251)
    assert sample.arrays["source"][1, 7, 125] == 125


def test_a_source_of_another_voxel_size_is_resampled_in_place() -> None:
    """A linear ramp stays the same ramp, in nm, at twice and at half the resolution."""
    ramp = Volume(np.broadcast_to((4 * np.arange(48) + 8).astype(np.uint8)[:, None, None], (48, 32, 8)), (8, 8, 33))
    target = Volume(np.ones((48, 32, 8), np.uint8), (8, 8, 33))
    row = Instance(1, 0, (192.0, 128.0, 132.0))
    for size in (4, 16):
        recipe = InstanceRecipe(crop_vx=(16, 16, 4), voxel_size_nm=(size, size, 33))
        sample = sampler(recipe, ramp, target, row)[0]
        start = sample.record["box_vx"][0][0]
        centres_nm = (start + np.arange(sample.arrays["source"].shape[2]) + 0.5) * size
        expected = 4 * (centres_nm / 8 - 0.5) + 8
        assert np.array_equal(sample.arrays["source"][2, 2], np.floor(expected + 0.5))


def test_resampling_beyond_the_source_pads_and_does_not_smear() -> None:
    """At a border the padding is 148 exactly, and the image next to it keeps its own value."""
    source = Volume(np.full((16, 16, 8), 10, np.uint8), (8, 8, 33))
    target = Volume(np.ones((16, 16, 8), np.uint8), (8, 8, 33))
    recipe = InstanceRecipe(crop_vx=(8, 8, 4), voxel_size_nm=(4, 4, 33))
    sample = sampler(recipe, source, target, Instance(1, 0, (8.0, 64.0, 132.0)))[0]
    assert set(np.unique(sample.arrays["source"])) == {10, 148}
    assert np.array_equal(sample.arrays["source"] == 148, sample.arrays["valid"] == 0)


def test_a_16_bit_source_needs_a_window() -> None:
    """Without one it is refused with the remedy; with one, its ends become 0 and 255."""
    values = np.linspace(1000, 3000, 512).astype(np.uint16).reshape(8, 8, 8)
    source, target = Volume(values, (8, 8, 33)), Volume(np.ones((8, 8, 8), np.uint8), (8, 8, 33))
    row = Instance(1, 0, (32.0, 32.0, 132.0))
    with pytest.raises(InputError, match="source_window"):
        sampler(InstanceRecipe(crop_vx=(8, 8, 8)), source, target, row)
    image = sampler(InstanceRecipe(crop_vx=(8, 8, 8), source_window=(1000, 3000)), source, target, row)[0]
    assert (image.arrays["source"].min(), image.arrays["source"].max()) == (0, 255)


def test_grey_values_are_rounded_not_cut() -> None:
    """A ramp whose greys are no whole numbers: each is the nearest one, halves up, and the mean has no bias."""
    values = np.arange(1000, 3000, 4, dtype=np.uint16)[:500].reshape(10, 10, 5)
    source, target = Volume(values, (8, 8, 33)), Volume(np.ones(values.shape, np.uint8), (8, 8, 33))
    recipe = InstanceRecipe(crop_vx=values.shape, source_window=(1000, 3000))
    grey = sampler(recipe, source, target, Instance(1, 0, (40.0, 40.0, 80.0)))[0].arrays["source"].transpose(2, 1, 0)
    exact = [Fraction(int(value) - 1000) * 255 / 2000 for value in values.flat]
    assert grey.reshape(-1).tolist() == [floor(value + Fraction(1, 2)) for value in exact]
    assert abs(float(np.mean(grey)) - float(sum(exact) / len(exact))) < 0.02


def test_resampled_greys_are_rounded_not_cut() -> None:
    """The mean of two voxels that differ by one is the upper one, of three the nearest, and between voxels alike."""
    ramp = np.broadcast_to(np.arange(60, dtype=np.uint8).reshape(-1, 1, 1), (60, 8, 8)).copy()
    row = Instance(1, 0, (120.0, 32.0, 132.0))
    for size in (8, 16, 6):
        source, target = Volume(ramp, (4, 8, 33)), Volume(np.ones((60, 8, 8), np.uint8), (4, 8, 33))
        recipe = InstanceRecipe(crop_vx=(24, 4, 4), voxel_size_nm=(size, 8, 33))
        sample = sampler(recipe, source, target, row)[0]
        start, count = sample.record["box_vx"][0][0], sample.arrays["source"].shape[2]
        # a linear ramp: mean and interpolation are its value at the centre
        exact = [Fraction(2 * (start + n) + 1, 2) * size / 4 - Fraction(1, 2) for n in range(count)]
        assert any(value.denominator > 1 for value in exact)
        assert sample.arrays["source"][1, 1].tolist() == [floor(value + Fraction(1, 2)) for value in exact]


def test_context_has_its_own_size_along_each_axis() -> None:
    """What is read of the target is the crop and its context on both sides, as far as the layer goes."""
    source, target = Volume(np.zeros((60, 60, 60), np.uint8), SAME), Volume(np.ones((60, 60, 60), np.uint8), SAME)
    for context in ((3, 5, 2), (0, 4, 0), (50, 0, 1)):
        recipe = InstanceRecipe(crop_vx=(8, 6, 4), choice=ChoiceRecipe(context_vx=context))
        frame = Cutter(recipe, source.layer(), target.layer()).frame((240.0, 240.0, 990.0))
        crop = Box.at((26, 27, 28), (8, 6, 4))
        assert (frame.box, frame.source, frame.target_crop) == (crop, crop, crop)
        assert frame.target.start == tuple(max(0, a - n) for a, n in zip(crop.start, context, strict=True))
        assert frame.target.stop == tuple(min(60, a + n) for a, n in zip(crop.stop, context, strict=True))


def test_values_beyond_the_window_are_black_or_white() -> None:
    """They are cut to 0 and 255 and never wrap around, of signed and of float images as well."""
    values = np.array([-900, -1, 0, 20, 100, 101, 400], np.int16).reshape(7, 1, 1)
    for dtype in (np.int16, np.float32):
        source, target = Volume(values.astype(dtype), SAME), Volume(np.ones((7, 1, 1), np.uint8), SAME)
        recipe = InstanceRecipe(crop_vx=(7, 1, 1), source_window=(0, 100))
        image = sampler(recipe, source, target, Instance(1, 0, (28.0, 0.0, 0.0)))[0].arrays["source"]
        assert image[0, 0].tolist() == [0, 0, 0, 51, 255, 255, 255]


def test_an_image_as_target_is_refused() -> None:
    """Layers given the wrong way round are told, not cast."""
    image = Volume(np.zeros((8, 8, 8), np.float32), (8, 8, 33))
    with pytest.raises(InputError, match="swapped"):
        sampler(InstanceRecipe(), Volume(np.zeros((8, 8, 8), np.uint8), (8, 8, 33)), image, Instance(1, 0, (0, 0, 0)))


@pytest.mark.parametrize(
    "values",
    [
        {"crop_vx": (0, 8, 8)},
        {"crop_vx": (8, 8, 8), "crop_nm": (8, 8, 8)},
        {"crop_vx": None},
        {"crop_vx": (4096, 4096, 4096)},
        {"source_window": (5, 5)},
        {"voxel_size_nm": (4, 4, -33)},
        {"scenarios": 0},
        {"seeds": {"model": "many"}},
        {"seeds": {"few": {"limits": (3, 1)}}},
    ],
)
def test_recipes_that_contradict_themselves_are_refused(values: dict[str, Any]) -> None:
    """Each is an error that names the field or the values."""
    with pytest.raises(RecipeError):
        InstanceRecipe(**values)


def test_a_recipe_survives_yaml_with_either_crop() -> None:
    """What is written reads back equal, with a crop in nm too."""
    for recipe in (InstanceRecipe(), InstanceRecipe(crop_nm=(1000, 1000, 528))):
        assert InstanceRecipe.from_dict(recipe.to_dict()) == recipe


def test_a_crop_in_nm_that_is_absurd_is_refused() -> None:
    """Millimetres given as nm times a thousand: refused before anything is read."""
    source, target = (Volume(np.zeros((8, 8, 8), np.uint8), (4, 4, 33)) for _ in range(2))
    with pytest.raises(RecipeError, match="too large"):
        Cutter(InstanceRecipe(crop_nm=(1e6, 1e6, 1e6)), source.layer(), target.layer())


def test_the_crop_in_nm_covers_both_layers() -> None:
    """What splits keep apart holds the sample and all target voxels that decide it, also where grids do not meet."""
    source = Volume(np.zeros((90, 90, 20), np.uint8), (4, 4, 33))
    target = Volume(np.ones((60, 60, 20), np.uint8), (6, 6, 33))
    made = sampler(InstanceRecipe(crop_vx=(7, 7, 3)), source, target, Instance(1, 0, (183.0, 183.0, 330.0)))
    (low, high), record = made.crops_nm()[0], made[0].record
    assert (low <= record["box_nm"][0]).all()
    assert (high >= record["box_nm"][1]).all()
    for layer, volume in (("source", source), ("target", target)):
        box = np.array(record[layer]["box_vx"]) * np.array(volume.size)
        assert (low <= box[0]).all()
        assert (high >= box[1]).all()


sizes = st.sampled_from([1, 1.5, 2, 3, 3.6, 4, 5, 7.5, 8])
triples = st.tuples(sizes, sizes, sizes)


@pytest.mark.hypothesis
def test_any_volumes_offsets_ratios_and_crops() -> None:
    """Whatever the grids, the sample equals the plain way; it is rejected where image or instance are not in it."""
    made = []

    @settings(max_examples=120, deadline=None)
    @given(
        source_size=triples,
        target_size=triples,
        target_offset=st.tuples(*[st.integers(-9, 9)] * 3),
        apart=st.tuples(*[st.integers(-3, 3)] * 3),
        crop=st.tuples(*[st.integers(1, 7)] * 3),
        within=st.tuples(*[st.integers(-100, 1100)] * 3),
        word=st.integers(0, 2**32),
    )
    def compare(
        source_size: Any, target_size: Any, target_offset: Any, apart: Any, crop: Any, within: Any, word: int
    ) -> None:
        # the image begins some voxels from where the target does; the crop lies in the target or a little beyond
        places = zip(target_offset, target_size, source_size, apart, strict=True)
        source_offset: Any = tuple(round(first * t / s) + n for first, t, s, n in places)
        ends = zip(target_offset, (8, 10, 9), target_size, within, strict=True)
        centre = [round((first + n * part / 1000) * t, 3) for first, n, t, part in ends]
        random = np.random.Generator(np.random.Philox(word))
        image = Volume(random.integers(0, 256, (11, 9, 10), dtype=np.uint8), source_size, source_offset)
        labels = Volume(random.choice([0, 3, 4], size=(8, 10, 9)).astype(np.int32), target_size, target_offset)
        made.append(check([image], labels, centre, crop) is not None)

    compare()
    assert sum(made) >= 20
    assert sum(made) < len(made)
