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
from voxmint.pairs.recipe import CUBIC, EnsembleRecipe, ForegroundRecipe
from voxmint.randomness import Stream
from voxmint.templates.bank import TemplateBank

Masks = list[NDArray[np.bool_]]
Shape = tuple[int, int, int]
cube = reference.cube
shape_names = {"ids": lambda value: "x".join(map(str, value)) if isinstance(value, tuple) else str(value)}
AFFINE_TIE = 1e-6
"""Voxels: entries are rounded to 2^-32, times a side of at most 128."""
DISPLACEMENT_TIE = 1e-4
"""Voxels: displacements are single precision."""


def drawn(seed: int, shape: Shape, bank: TemplateBank, **fields: Any) -> dict[str, Any]:
    recipe = EnsembleRecipe(shape=shape, **fields)
    return draw_ensemble(Stream(seed, "reference"), recipe, len(bank))


def ties(masks: Masks, parameters: dict[str, Any], shape: Shape) -> NDArray[np.bool_]:
    """Return the voxels where any template's coordinate is a tie."""
    found = np.zeros(shape, bool)
    for warp in parameters["templates"]:
        found |= reference.near_tie(reference.input_coordinates(warp, found.shape), AFFINE_TIE)
    return found


@pytest.mark.parametrize(
    ("shape", "voxel_size", "seed"),
    [
        *((cube(side), CUBIC, seed) for seed, side in enumerate((16, 16, 32, 33, 33, 41, 64))),
        *((shape, CUBIC, 7) for shape in ((16, 17, 64), (67, 16, 19), (31, 53, 16), (16, 16, 131))),
        (cube(33), (1, 1, 2.5), 8), ((16, 41, 23), (0.7, 2.1, 0.6), 9), ((37, 16, 20), (3, 1, 1), 10),
    ],
    **shape_names,
)  # fmt: skip
def test_composed_templates_equal_the_reference(
    bank: TemplateBank, masks: Masks, shape: Shape, voxel_size: tuple[float, ...], seed: int
) -> None:
    """Padding, affine map, periodic repetition and order of covering give the same label in every voxel."""
    parameters = drawn(seed, shape, bank, voxel_size=voxel_size)
    expected = reference.compose(masks, parameters, shape)
    got = compose_templates(bank, parameters, shape)
    assert got.dtype == np.uint8
    assert len(np.unique(expected)) > 8
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("seed", range(3))
def test_extreme_maps_equal_the_reference(bank: TemplateBank, masks: Masks, seed: int) -> None:
    """The largest scales and shears a recipe allows step over whole periods of a template and still agree."""
    parameters = drawn(
        seed, cube(16), bank, scale=(7, 8), shear=(-4, 4), translation=(-500, 500), min_templates=6, max_templates=7
    )
    np.testing.assert_array_equal(
        compose_templates(bank, parameters, cube(16)), reference.compose(masks, parameters, cube(16))
    )


@settings(max_examples=25, deadline=None)
@given(
    quarter_turns=st.tuples(*[st.integers(-2, 2)] * 3),
    scale=st.tuples(*[st.sampled_from([0.5, 1.0, 1.5])] * 3),
    mirror=st.tuples(*[st.booleans()] * 3),
    shear=st.tuples(*[st.sampled_from([-0.5, 0.0, 0.5])] * 3),
    translation=st.tuples(*[st.sampled_from([-5.0, -1.5, 0.0, 0.25, 3.0])] * 3),
    template=st.integers(0, 11),
    shape=st.tuples(*[st.integers(16, 24)] * 3),
)
def test_maps_on_ties_differ_at_ties_alone(bank: TemplateBank, masks: Masks, shape: Shape, **warp: Any) -> None:
    """Quarter turns and halves put many coordinates on a half: all other voxels still agree exactly."""
    turns = warp.pop("quarter_turns")
    warp |= {"label": 1, "rotation": [90.0 * n for n in turns]}
    parameters = {"templates": [warp], "foreground": None}
    differs = compose_templates(bank, parameters, shape) != reference.compose(masks, parameters, shape)
    assert not np.any(differs & ~ties(masks, parameters, shape))


def test_reference_warp_is_scipys(masks: Masks) -> None:
    """The reference's own warp is what scipy's periodic nearest-neighbour transform computes."""
    rng = np.random.default_rng(0)
    for mask, shape in zip(masks, [(33, 33, 33), (16, 40, 29)] * len(masks), strict=False):
        warp = {
            "scale": rng.uniform(0.5, 1.5, 3),
            "mirror": rng.random(3) < 0.5,
            "rotation": rng.uniform(-180, 180, 3),
            "shear": rng.uniform(-0.5, 0.5, 3),
            "translation": rng.uniform(-5, 5, 3),
        }
        padded = reference.pad_to_shape(mask, shape).astype(np.uint8)
        expected = ndimage.affine_transform(
            padded,
            reference.affine_matrix(warp),
            warp["translation"],
            output_shape=shape,
            order=0,
            mode="grid-wrap",
        )
        np.testing.assert_array_equal(reference.warp_template(mask, warp, shape), expected.astype(bool))


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


def displacement_ties(parameters: dict[str, Any], shape: Shape) -> NDArray[np.bool_]:
    """Return the voxels whose median can be touched by a tie of the displaced coordinates."""
    coordinates = reference.foreground_coordinates(parameters, shape, normal_field)
    return ndimage.binary_dilation(reference.near_tie(coordinates, DISPLACEMENT_TIE), np.ones((3, 3, 3)))


@pytest.mark.parametrize(
    ("shape", "seed"),
    [
        *((cube(side), seed) for seed, side in enumerate([16, 16, 20, 32, 33, *sized([47, 48, 64, 90], [])])),
        ((16, 17, 40), 11), ((43, 16, 29), 12),
        *sized([((37, 71, 130), 13), ((160, 24, 96), 14), ((16, 128, 65), 15)], []),
    ],
    **shape_names,
)  # fmt: skip
def test_foreground_mask_equals_the_reference(shape: Shape, seed: int) -> None:
    """The displaced ball is the reference's but for ties, which change at most one voxel in 20,000."""
    parameters = draw_foreground(Stream(seed, "foreground"), ForegroundRecipe(), shape)
    expected = reference.foreground_mask(parameters, shape, normal_field)
    differs = np.asarray(foreground_mask(parameters, shape)).astype(bool) != expected
    assert 0 < expected.mean() < 1
    assert not np.any(differs & ~displacement_ties(parameters, shape))
    assert differs.mean() <= 5e-5


def test_strong_displacement_reflects_at_the_borders() -> None:
    """Displacements of several sides are reflected again and again, edge voxels repeated."""
    recipe = ForegroundRecipe(noise_std=(200, 300), noise_spacing=(16, 48))
    shape = (32, 24, 40)
    parameters = draw_foreground(Stream(1, "foreground"), recipe, shape)
    expected = reference.foreground_mask(parameters, shape, normal_field)
    differs = np.asarray(foreground_mask(parameters, shape)).astype(bool) != expected
    assert np.abs(reference.displacement(parameters, shape, normal_field)).max() > 80
    assert differs.mean() <= 2e-3
    assert not np.any(differs & ~displacement_ties(parameters, shape))


@settings(max_examples=sized(20, 5), deadline=None)
@given(
    shape=st.tuples(*[st.integers(16, 24)] * 3),
    radius=st.integers(1, 20),
    centre=st.tuples(*[st.integers(-4, 26)] * 3),
    order=st.permutations(range(3)),
)
def test_mask_without_displacement_is_the_ball(
    shape: Shape, radius: int, centre: tuple[int, ...], order: list[int]
) -> None:
    """Without noise the mask is the median of the ball, and permuting shape and centre permutes it."""
    still = [{"spacing": spacing, "std": 0.0, "key": "0" * 16} for spacing in (2.0, 4.0, 8.0)]
    parameters = {"radius": radius, "centre": list(centre), "displacement": still}
    got = np.asarray(foreground_mask(parameters, shape))
    expected = reference.median_3x3x3(reference.ball_volume(parameters, shape).astype(np.uint8))
    np.testing.assert_array_equal(got, expected)
    moved = parameters | {"centre": [centre[axis] for axis in order]}
    turned = [shape[axis] for axis in order]
    np.testing.assert_array_equal(foreground_mask(moved, turned), got.transpose(order))


def test_a_recipe_without_displacement_is_refused_or_obeyed() -> None:
    """A foreground without any noise scale either is no valid recipe or gives the plain ball."""
    try:
        recipe = ForegroundRecipe(noise_spacing=())
    except RecipeError:
        return
    parameters = draw_foreground(Stream(0, "foreground"), recipe, cube(16))
    expected = reference.foreground_mask(parameters, cube(16), normal_field)
    np.testing.assert_array_equal(np.asarray(foreground_mask(parameters, cube(16))).astype(bool), expected)


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
    ("shape", "seed"),
    sized(
        [(cube(33), 0), (cube(33), 1), (cube(48), 2), (cube(48), 3), ((16, 41, 66), 4), ((53, 16, 31), 5)],
        [(cube(17), 0), (cube(17), 1), ((16, 19, 23), 2), ((20, 16, 17), 3)],
    ),
    **shape_names,
)
def test_whole_ensembles_equal_the_reference(bank: TemplateBank, masks: Masks, shape: Shape, seed: int) -> None:
    """From drawn parameters to the finished labels, with mask and with envelope: the same voxels."""
    parameters = drawn(seed, shape, bank, foreground={"probability": 1, "envelope_probability": seed % 2})
    stages = reference.ensemble_reference(masks, parameters, shape, normal_field)
    got = make_ensemble(bank, parameters, shape)
    assert got.dtype == np.uint8
    assert ("envelope" in stages) == (seed % 2 == 1)
    # one voxel of the mask on a tie moves the envelope by a ball of its radius
    reach = 1 + (parameters["foreground"]["envelope"] or 0)
    allowed = ndimage.binary_dilation(displacement_ties(parameters["foreground"], shape), iterations=3 * reach)
    differs = got != stages["labels"]
    assert not np.any(differs & ~allowed)
    assert differs.mean() <= 5e-5


@pytest.mark.stress
@pytest.mark.parametrize("shape", [cube(128), (160, 192, 96), (257, 64, 131)], **shape_names)
@pytest.mark.parametrize("seed", range(6))
def test_large_volumes_equal_the_reference(bank: TemplateBank, masks: Masks, shape: Shape, seed: int) -> None:
    """At the published side of 128 and others, of each kind."""
    foreground = {"probability": min(seed % 3, 1), "envelope_probability": int(seed % 3 == 2)}
    parameters = drawn(seed, shape, bank, foreground=foreground)
    expected = reference.ensemble_reference(masks, parameters, shape, normal_field)["labels"]
    assert np.mean(make_ensemble(bank, parameters, shape) != expected) <= 5e-5


def test_the_costly_way_makes_the_same_ensemble(masks: Masks, tmp_path: Path) -> None:
    """What benchmarks time, whole files decoded for every draw, is the reference's ensemble."""
    paths = []
    for number, mask in enumerate(masks):
        paths.append(tmp_path / f"{number}.nii.gz")
        nib.save(nib.Nifti1Image(np.pad(mask, 5).astype(np.uint8), np.eye(4)), paths[-1])
    parameters = random_ensemble(np.random.default_rng(0), Published((20, 17, 24), templates=(4, 5)), len(masks))
    expected = reference.ensemble_reference(masks, parameters, (20, 17, 24), noise_of)["labels"]
    np.testing.assert_array_equal(published_like_ensemble(paths, parameters, (20, 17, 24)), expected)
