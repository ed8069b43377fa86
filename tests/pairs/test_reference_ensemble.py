"""Ensembles agree with the plain reference voxel for voxel.

Both round a coordinate to the nearest voxel. Coordinates that lie within a tolerance of a half are ties that another
order of arithmetic may round the other way; differences are allowed there alone, and how many is bounded.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from scipy import ndimage
from sizes import sized

from reference import ensemble as reference
from reference.cost import published_like_ensemble
from reference.random_pairs import Published, noise_of, random_ensemble
from voxmint.errors import RecipeError
from voxmint.pairs.draws import draw_ensemble, draw_foreground
from voxmint.pairs.engines.cpu.ensemble import compose_templates, make_ensemble
from voxmint.pairs.engines.cpu.foreground import foreground_mask
from voxmint.pairs.engines.cpu.kernels.bits import majority3, pack, unpack
from voxmint.pairs.engines.cpu.kernels.foreground import envelope
from voxmint.pairs.engines.cpu.kernels.median import median3
from voxmint.pairs.engines.cpu.kernels.noise import normal_field
from voxmint.pairs.engines.cpu.kernels.upsample import NoiseField, blend_plane, blend_row
from voxmint.pairs.recipe import EnsembleRecipe, ForegroundRecipe
from voxmint.randomness import Stream
from voxmint.templates.bank import TemplateBank

Masks = list[NDArray[np.bool_]]
AFFINE_TIE = 1e-6
"""Voxels: entries are rounded to 2^-32, times a side of at most 128."""
DISPLACEMENT_TIE = 1e-4
"""Voxels: displacements are single precision."""


def drawn(seed: int, side: int, bank: TemplateBank, **fields: Any) -> dict[str, Any]:
    recipe = EnsembleRecipe(side=side, **fields)
    return draw_ensemble(Stream(seed, "reference"), recipe, len(bank))


def ties(masks: Masks, parameters: dict[str, Any], side: int) -> NDArray[np.bool_]:
    """Return the voxels where any template's coordinate is a tie."""
    found = np.zeros((side, side, side), bool)
    for warp in parameters["templates"]:
        found |= reference.near_tie(reference.input_coordinates(warp, found.shape), AFFINE_TIE)
    return found


@pytest.mark.parametrize(("side", "seed"), [(16, 0), (16, 1), (32, 2), (33, 3), (33, 4), (41, 5), (64, 6)])
def test_composed_templates_equal_the_reference(bank: TemplateBank, masks: Masks, side: int, seed: int) -> None:
    """Padding, affine map, periodic repetition and order of covering give the same label in every voxel."""
    parameters = drawn(seed, side, bank)
    expected = reference.compose(masks, parameters, side)
    got = compose_templates(bank, parameters, side)
    assert got.dtype == np.uint8
    assert len(np.unique(expected)) > 8
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("seed", range(3))
def test_extreme_maps_equal_the_reference(bank: TemplateBank, masks: Masks, seed: int) -> None:
    """The largest scales and shears a recipe allows step over whole periods of a template and still agree."""
    parameters = drawn(
        seed, 16, bank, scale=(7, 8), shear=(-4, 4), translation=(-500, 500), min_templates=6, max_templates=7
    )
    np.testing.assert_array_equal(compose_templates(bank, parameters, 16), reference.compose(masks, parameters, 16))


@settings(max_examples=25, deadline=None)
@given(
    quarter_turns=st.tuples(*[st.integers(-2, 2)] * 3),
    scale=st.tuples(*[st.sampled_from([0.5, 1.0, 1.5])] * 3),
    mirror=st.tuples(*[st.booleans()] * 3),
    shear=st.tuples(*[st.sampled_from([-0.5, 0.0, 0.5])] * 3),
    translation=st.tuples(*[st.sampled_from([-5.0, -1.5, 0.0, 0.25, 3.0])] * 3),
    template=st.integers(0, 11),
)
def test_maps_on_ties_differ_at_ties_alone(bank: TemplateBank, masks: Masks, **warp: Any) -> None:
    """Quarter turns and halves put many coordinates on a half: all other voxels still agree exactly."""
    turns = warp.pop("quarter_turns")
    warp |= {"label": 1, "rotation": [90.0 * n for n in turns]}
    parameters = {"templates": [warp], "foreground": None}
    differs = compose_templates(bank, parameters, 17) != reference.compose(masks, parameters, 17)
    assert not np.any(differs & ~ties(masks, parameters, 17))


def test_reference_warp_is_scipys(masks: Masks) -> None:
    """The reference's own warp is what scipy's periodic nearest-neighbour transform computes."""
    side = 33
    rng = np.random.default_rng(0)
    for mask in masks:
        warp = {
            "scale": rng.uniform(0.5, 1.5, 3),
            "mirror": rng.random(3) < 0.5,
            "rotation": rng.uniform(-180, 180, 3),
            "shear": rng.uniform(-0.5, 0.5, 3),
            "translation": rng.uniform(-5, 5, 3),
        }
        padded = reference.pad_to_side(mask, side).astype(np.uint8)
        expected = ndimage.affine_transform(
            padded,
            reference.affine_matrix(warp),
            warp["translation"],
            output_shape=(side,) * 3,
            order=0,
            mode="grid-wrap",
        )
        np.testing.assert_array_equal(reference.warp_template(mask, warp, side), expected.astype(bool))


@settings(max_examples=60, deadline=None)
@given(
    labels=hnp.arrays(np.uint8, hnp.array_shapes(min_dims=3, max_dims=3, max_side=9)), order=st.permutations(range(3))
)
def test_median_is_scipys_and_knows_no_axis(labels: NDArray[np.uint8], order: list[int]) -> None:
    """The median equals scipy's with repeated edges on any shape, commutes with permuted axes, adds no label."""
    got = median3(labels)
    np.testing.assert_array_equal(got, reference.median_3x3x3(labels))
    np.testing.assert_array_equal(median3(np.ascontiguousarray(labels.transpose(order))), got.transpose(order))
    assert set(np.unique(got)) <= set(np.unique(labels))


@pytest.mark.parametrize("shape", sized([(32, 32, 32), (33, 17, 40), (16, 16, 129)], [(9, 17, 10), (5, 6, 129)]))
def test_median_of_speckled_labels_is_scipys(shape: tuple[int, int, int]) -> None:
    """Few labels with many ties, as ensembles have, and all 256 values, on larger volumes."""
    rng = np.random.default_rng(1)
    for highest in (2, 5, 256):
        labels = rng.integers(0, highest, shape, dtype=np.uint8)
        np.testing.assert_array_equal(median3(labels), reference.median_3x3x3(labels))


def displacement_ties(parameters: dict[str, Any], side: int) -> NDArray[np.bool_]:
    """Return the voxels whose median can be touched by a tie of the displaced coordinates."""
    coordinates = reference.foreground_coordinates(parameters, side, normal_field)
    return ndimage.binary_dilation(reference.near_tie(coordinates, DISPLACEMENT_TIE), np.ones((3, 3, 3)))


@pytest.mark.parametrize(
    ("side", "seed"),
    [(16, 0), (16, 1), (20, 2), (32, 3), (33, 4), *sized([(47, 5), (48, 6), (64, 7), (90, 8)], [])],
)
def test_foreground_mask_equals_the_reference(side: int, seed: int) -> None:
    """The displaced ball is the reference's but for ties, which change at most one voxel in 20,000."""
    parameters = draw_foreground(Stream(seed, "foreground"), ForegroundRecipe(), side)
    expected = reference.foreground_mask(parameters, side, normal_field)
    differs = np.asarray(foreground_mask(parameters, side)).astype(bool) != expected
    assert 0 < expected.mean() < 1
    assert not np.any(differs & ~displacement_ties(parameters, side))
    assert differs.mean() <= 5e-5


def test_strong_displacement_reflects_at_the_borders() -> None:
    """Displacements of several sides are reflected again and again, edge voxels repeated."""
    recipe = ForegroundRecipe(noise_std=(200, 300), noise_spacing=(16, 48))
    parameters = draw_foreground(Stream(1, "foreground"), recipe, 32)
    expected = reference.foreground_mask(parameters, 32, normal_field)
    differs = np.asarray(foreground_mask(parameters, 32)).astype(bool) != expected
    assert np.abs(reference.displacement(parameters, 32, normal_field)).max() > 64
    assert differs.mean() <= 2e-3
    assert not np.any(differs & ~displacement_ties(parameters, 32))


@settings(max_examples=sized(20, 5), deadline=None)
@given(
    side=st.integers(16, 24),
    radius=st.integers(1, 20),
    centre=st.tuples(*[st.integers(-4, 26)] * 3),
    order=st.permutations(range(3)),
)
def test_mask_without_displacement_is_the_ball(
    side: int, radius: int, centre: tuple[int, ...], order: list[int]
) -> None:
    """Without noise the mask is the median of the ball, and permuting its centre permutes it."""
    still = [{"spacing": spacing, "std": 0.0, "key": "0" * 16} for spacing in (2.0, 4.0, 8.0)]
    parameters = {"radius": radius, "centre": list(centre), "displacement": still}
    got = np.asarray(foreground_mask(parameters, side))
    expected = reference.median_3x3x3(reference.ball_volume(parameters, side).astype(np.uint8))
    np.testing.assert_array_equal(got, expected)
    moved = parameters | {"centre": [centre[axis] for axis in order]}
    np.testing.assert_array_equal(foreground_mask(moved, side), got.transpose(order))


def test_a_recipe_without_displacement_is_refused_or_obeyed() -> None:
    """A foreground without any noise scale either is no valid recipe or gives the plain ball."""
    try:
        recipe = ForegroundRecipe(noise_spacing=())
    except RecipeError:
        return
    parameters = draw_foreground(Stream(0, "foreground"), recipe, 16)
    expected = reference.foreground_mask(parameters, 16, normal_field)
    np.testing.assert_array_equal(np.asarray(foreground_mask(parameters, 16)).astype(bool), expected)


@settings(max_examples=40, deadline=None)
@given(
    mask=hnp.arrays(np.bool_, hnp.array_shapes(min_dims=3, max_dims=3, max_side=11)),
    radius=st.integers(1, 6),
    order=st.permutations(range(3)),
)
def test_envelope_is_dilated_and_not_eroded(mask: NDArray[np.bool_], radius: int, order: list[int]) -> None:
    """The envelope is scikit-image's dilation without its erosion, whatever the axes, from inside as from outside."""
    got = shell(mask, radius)
    np.testing.assert_array_equal(got, reference.envelope_shell(mask, radius))
    np.testing.assert_array_equal(shell(~mask, radius), got)
    np.testing.assert_array_equal(shell(mask.transpose(order), radius), got.transpose(order))


def shell(mask: NDArray[np.bool_], radius: int) -> NDArray[np.bool_]:
    size = mask.shape[2]
    return unpack(envelope(pack(mask.astype(np.uint8)), size, radius), size).astype(bool)


@settings(max_examples=60, deadline=None)
@given(mask=hnp.arrays(np.bool_, st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 140))))
def test_median_of_a_packed_mask(mask: NDArray[np.bool_]) -> None:
    """The majority of 27 bits is SciPy's median, over borders of words and of the volume."""
    bits = pack(mask.astype(np.uint8))
    np.testing.assert_array_equal(unpack(bits, mask.shape[2]).astype(bool), mask)
    got = unpack(majority3(bits, mask.shape[2]), mask.shape[2])
    np.testing.assert_array_equal(got, reference.median_3x3x3(mask.astype(np.uint8)))


@pytest.mark.parametrize("spacings", [(4, 8, 16, 32), (3, 6), (5, 7.3), (1.5,), (2,), (40, 13.1, 9)])
@pytest.mark.parametrize("shape", [(33, 32, 40), (16, 17, 65)])
def test_summed_noise_is_the_sum_of_upsampled_grids(spacings: tuple[float, ...], shape: tuple[int, int, int]) -> None:
    """Worked out on a common lattice or at every voxel, the sum is that of PyTorch's upsampled scales."""
    scales = [(key, spacing, 1.0 + key) for key, spacing in enumerate(spacings)]
    field = NoiseField(shape, scales, components=2)
    expected = np.zeros((2, *shape))
    for key, spacing, std in scales:
        nodes = [int(np.ceil(size / spacing)) for size in shape]
        grid = normal_field(key, 2 * math.prod(nodes)).reshape(2, *nodes)
        expected += std * reference.upsample(grid, spacing, shape)
    low_i, weight_i, low_j, weight_j = field.taps
    plane, row = field.plane(), np.empty(shape[2], np.float32)
    for i in range(shape[0]):
        blend_plane(field.rows, low_i, weight_i, i, plane)
        for component, j in np.ndindex(2, shape[1]):
            blend_row(plane[component], low_j, weight_j, j, row)
            np.testing.assert_allclose(row, expected[component, i, j], atol=2e-5 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("side", "seed"),
    sized([(33, 0), (33, 1), (33, 2), (33, 3), (48, 4), (48, 5)], [(17, 0), (17, 1), (20, 2), (20, 3)]),
)
def test_whole_ensembles_equal_the_reference(bank: TemplateBank, masks: Masks, side: int, seed: int) -> None:
    """From drawn parameters to the finished labels, with mask and with envelope: the same voxels."""
    parameters = drawn(seed, side, bank, foreground={"probability": 1, "envelope_probability": seed % 2})
    stages = reference.ensemble_reference(masks, parameters, side, normal_field)
    got = make_ensemble(bank, parameters, side)
    assert got.dtype == np.uint8
    assert ("envelope" in stages) == (seed % 2 == 1)
    # one voxel of the mask on a tie moves the envelope by a ball of its radius
    reach = 1 + (parameters["foreground"]["envelope"] or 0)
    allowed = ndimage.binary_dilation(displacement_ties(parameters["foreground"], side), iterations=3 * reach)
    differs = got != stages["labels"]
    assert not np.any(differs & ~allowed)
    assert differs.mean() <= 5e-5


@pytest.mark.stress
@pytest.mark.parametrize("seed", range(6))
def test_published_size_equals_the_reference(bank: TemplateBank, masks: Masks, seed: int) -> None:
    """At the published side of 128, of each kind."""
    foreground = {"probability": min(seed % 3, 1), "envelope_probability": int(seed % 3 == 2)}
    parameters = drawn(seed, 128, bank, foreground=foreground)
    expected = reference.ensemble_reference(masks, parameters, 128, normal_field)["labels"]
    assert np.mean(make_ensemble(bank, parameters, 128) != expected) <= 5e-5


def test_the_costly_way_makes_the_same_ensemble(masks: Masks, tmp_path: Path) -> None:
    """What benchmarks time, whole files decoded for every draw, is the reference's ensemble."""
    paths = []
    for number, mask in enumerate(masks):
        paths.append(tmp_path / f"{number}.nii.gz")
        nib.save(nib.Nifti1Image(np.pad(mask, 5).astype(np.uint8), np.eye(4)), paths[-1])
    parameters = random_ensemble(np.random.default_rng(0), Published(side=20, templates=(4, 5)), len(masks))
    expected = reference.ensemble_reference(masks, parameters, 20, noise_of)["labels"]
    np.testing.assert_array_equal(published_like_ensemble(paths, parameters, 20), expected)
