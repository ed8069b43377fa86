"""Every artifact equals MONAI's own transform to 1e-4 of its range, on cubic and other, odd and even shapes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sizes import sized

from reference import view as reference
from voxmint.pairs.engines.cpu import artifacts

Image = NDArray[np.float32]
SHAPES = sized(
    [(16, 16, 16), (32, 32, 32), (33, 33, 33), (24, 33, 40), (17, 16, 31), (5, 32, 9)],
    [(16, 16, 16), (17, 9, 20), (5, 32, 9)],
)
TOLERANCE = 1e-4
"""Of the range of the reference's result."""

shapes = pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: "x".join(map(str, shape)))


def picture(shape: tuple[int, ...], seed: int = 0) -> Image:
    """Return an image in [0, 1] as the artifacts meet it: flat regions, many exact zeros, edges, noise."""
    rng = np.random.default_rng(seed)
    i, j, k = np.meshgrid(*(np.linspace(0, 1, n) for n in shape), indexing="ij")
    regions = (np.sin(9 * i) + np.cos(7 * j + 2 * i) > 0.2) + 1.6 * (np.sin(11 * k + 3 * j) > 0.3)
    image = np.maximum(regions + 0.1 * rng.standard_normal(shape) * (regions > 0), 0)
    return reference.min_max(image.astype(np.float32))


def assert_close(got: Image, expected: Image, tolerance: float = TOLERANCE) -> None:
    assert got.dtype == np.float32
    assert got.shape == expected.shape
    assert np.isfinite(expected).all()
    worst = np.abs(got.astype(np.float64) - expected).max()
    assert worst <= tolerance * np.ptp(expected), f"{worst / np.ptp(expected):.2e} of the range"


def test_a_slip_is_not_close() -> None:
    """The comparison rejects an image that is off by a thousandth of its range in one voxel."""
    expected = picture((16, 16, 16))
    got = expected.copy()
    got[3, 4, 5] += 1e-3
    with pytest.raises(AssertionError, match="of the range"):
        assert_close(got, expected)


@shapes
@pytest.mark.parametrize("degree", [3, 1, 5])
def test_bias_field_is_monais(shape: tuple[int, ...], degree: int) -> None:
    """Legendre coefficients in MONAI's order, on coordinates from -1 to 1."""
    terms = (degree + 1) * (degree + 2) * (degree + 3) // 6
    coefficients = np.random.default_rng(degree).uniform(-0.05, 0.075, terms).tolist()
    image = picture(shape)
    expected = reference.bias_field(image, coefficients, degree)
    assert_close(artifacts.bias_field(image.copy(), coefficients), expected)


def spikes(shape: tuple[int, ...]) -> list[list[int]]:
    """Return the middle of k-space, its first and last corner, the edges of the half spectrum, and random places."""
    rng = np.random.default_rng(1)
    middle = [n // 2 for n in shape]
    places = [middle, [0, 0, 0], [n - 1 for n in shape], [0, shape[1] // 2, 0], [*middle[:2], 0], [*middle[:2], 1]]
    return places + [rng.integers(0, shape).tolist() for _ in range(8)]


@shapes
def test_kspace_spike_is_monais(shape: tuple[int, ...]) -> None:
    """Anywhere in k-space, with MONAI's default limits of intensity."""
    image = picture(shape)
    for number, location in enumerate(spikes(shape)):
        intensity = 0.95 + 0.15 * (number % 4) / 3
        expected = reference.kspace_spike(image, location, intensity)
        assert_close(artifacts.kspace_spike(image.copy(), location, intensity), expected)


@shapes
@pytest.mark.parametrize("exponent", [0.5, 0.75, 1.0, 1.37, 2.0])
def test_gamma_is_monais(shape: tuple[int, ...], exponent: float) -> None:
    """On images of many zeros, and on images that are not in [0, 1]."""
    image = picture(shape)
    assert_close(artifacts.gamma(image.copy(), exponent), reference.gamma(image, exponent))
    shifted = 3 * image - 1
    assert_close(artifacts.gamma(shifted.copy(), exponent), reference.gamma(shifted, exponent))


def test_gamma_is_monais_close_to_zero() -> None:
    """A square root is steepest at 0: values from 1e-30 to 1 agree to 1e-6 of the range."""
    image = np.concatenate([[0, 1], np.logspace(-30, 0, 4094)]).astype(np.float32).reshape(16, 16, 16)
    for exponent in (0.5, 0.51, 0.9):
        assert_close(artifacts.gamma(image.copy(), exponent), reference.gamma(image, exponent), tolerance=1e-6)


@shapes
@pytest.mark.parametrize("sigma", [(0.0, 0.0, 0.0), (0.333, 0.0, 0.2), (0.05, 0.333, 0.333), (0.1, 1.3, 2.6)])
def test_smoothing_is_monais(shape: tuple[int, ...], sigma: tuple[float, ...]) -> None:
    """Each axis its own width, 0 among them, kernels wider than an axis too; zeros beyond the border."""
    image = picture(shape)
    assert_close(artifacts.gaussian_smooth(image.copy(), sigma), reference.gaussian_smooth(image, sigma))


@shapes
@pytest.mark.parametrize("alpha", [0.0, 0.1, 0.2, 0.333, 0.6, 0.9])
def test_gibbs_is_monais(shape: tuple[int, ...], alpha: float) -> None:
    """The cut is centred half a voxel off zero frequency on even axes, as published."""
    image = picture(shape)
    assert_close(artifacts.gibbs(image.copy(), alpha), reference.gibbs(image, alpha))


@shapes
@pytest.mark.parametrize(
    ("sigma1", "sigma2", "alpha"),
    [
        ((0.5, 0.7, 1.0), (0.5, 0.6, 0.5), 10.0),
        ((1.0, 1.0, 1.0), (0.9, 0.5, 1.0), 30.0),
        ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5), 20.0),
    ],
)
def test_sharpening_is_monais(
    shape: tuple[int, ...], sigma1: tuple[float, ...], sigma2: tuple[float, ...], alpha: float
) -> None:
    """A weight of up to 30 multiplies every slip of the two blurs."""
    image = picture(shape)
    expected = reference.sharpen(image, sigma1, sigma2, alpha)
    assert_close(artifacts.sharpen(image.copy(), sigma1, sigma2, alpha), expected)


@shapes
@pytest.mark.parametrize("zoom", [0.5, 0.543, 0.6, 0.77, 0.9, 0.999, 1.0])
def test_low_resolution_is_monais(shape: tuple[int, ...], zoom: float) -> None:
    """Halves of the coarse size are rounded to even, its voxels picked as ``nearest-exact`` does."""
    image = picture(shape)
    assert_close(artifacts.low_resolution(image.copy(), zoom), reference.low_resolution(image, zoom))


@shapes
@pytest.mark.parametrize("zooms", [(1.0, 1.0, 0.5), (0.3, 0.77, 0.543), (0.05, 0.6, 0.999)])
def test_low_resolution_of_each_axis_is_pytorchs(shape: tuple[int, ...], zooms: tuple[float, ...]) -> None:
    """With a zoom for each axis, sampled down and up as PyTorch does; three equal ones are the same as one."""
    image = picture(shape)
    assert_close(artifacts.low_resolution(image.copy(), zooms), reference.low_resolution_per_axis(image, zooms))
    same = artifacts.low_resolution(image.copy(), zooms[1])
    np.testing.assert_array_equal(artifacts.low_resolution(image.copy(), zooms[1:2] * 3), same)


@shapes
@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("thickness", [1.0, 2.0, 3.7, 64.0])
def test_thick_slices_are_averages(shape: tuple[int, ...], axis: int, thickness: float) -> None:
    """Along any axis, of whole and other thickness, thicker than the volume too: averages, interpolated linearly."""
    image = picture(shape)
    got = artifacts.thick_slices(image.copy(), axis, thickness)
    assert_close(got, reference.thick_slices(image, axis, thickness))
    if thickness == 1:
        assert_close(got, image, tolerance=1e-6)


@pytest.mark.parametrize("size", [16, 18, 22, 25, 32, 33, 64, 96, 128, 160])
def test_low_resolution_picks_monais_voxels_at_every_zoom(size: int) -> None:
    """For every coarse size a zoom can give, also where a picked position falls between two voxels."""
    image = np.random.default_rng(size).random((size, 2, 3)).astype(np.float32)
    wrong = []
    for coarse in range((size + 1) // 2, size + 1):
        zoom = coarse / size
        got, expected = artifacts.low_resolution(image.copy(), zoom), reference.low_resolution(image, zoom)
        if np.abs(got - expected).max() > TOLERANCE:
            wrong.append(coarse)
    assert wrong == []


@shapes
def test_all_artifacts_in_their_order_are_monais(shape: tuple[int, ...]) -> None:
    """The whole chain, applied in the published order."""
    drawn: dict[str, Any] = {
        "bias_field": np.random.default_rng(2).uniform(0, 0.075, 20).tolist(),
        "kspace_spike": {"location": [n // 3 for n in shape], "intensity": 1.02},
        "gamma": 1.3,
        "smoothing": [0.3, 0.1, 0.33],
        "gibbs": 0.2,
        "sharpening": {"sigma1": [0.9, 0.6, 0.8], "sigma2": [0.6, 0.5, 0.7], "alpha": 12.0},
        "low_resolution": 0.8,
        "thick_slices": {"axis": 1, "thickness": 2.4},
    }
    expected = image = picture(shape)
    for _, step in reference.artifact_steps(drawn):
        expected = step(expected)
    assert_close(artifacts.apply_artifacts(image.copy(), drawn), expected, tolerance=2e-4)


STEPS: list[Callable[[Image], Image]] = [
    lambda x: artifacts.bias_field(x, [0.07] * 20),
    lambda x: artifacts.kspace_spike(x, [1, 2, 3], 1.1),
    lambda x: artifacts.gamma(x, 0.5),
    lambda x: artifacts.gaussian_smooth(x, (0.3, 0.2, 0.0)),
    lambda x: artifacts.gibbs(x, 0.333),
    lambda x: artifacts.sharpen(x, (0.5,) * 3, (0.5,) * 3, 30.0),
    lambda x: artifacts.low_resolution(x, 0.5),
    lambda x: artifacts.thick_slices(x, 2, 3.3),
]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_constant_images_stay_finite(step: Callable[[Image], Image], value: float) -> None:
    """A constant image is divided by no range: every artifact leaves it finite."""
    assert np.isfinite(step(np.full((16, 17, 18), value, np.float32))).all()
