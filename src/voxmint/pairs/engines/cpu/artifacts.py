"""Acquisition artifacts on three axes, each but thick slices defined exactly as MONAI's transform of the same name.

Every function takes a C-ordered float32 volume (I, J, K), may overwrite it, and returns the result.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxmint.pairs.draws import legendre_terms
from voxmint.pairs.engines.cpu.kernels import artifacts as kernels
from voxmint.pairs.engines.cpu.kernels.intensity import limits
from voxmint.pairs.engines.cpu.kernels.smooth import convolve, resample
from voxmint.pairs.engines.cpu.kernels.upsample import linear_taps
from voxmint.sample import JSON

Image = NDArray[np.float32]


def apply_artifacts(image: Image, parameters: JSON) -> Image:
    """Apply the drawn artifacts in their order.

    Parameters
    ----------
    image : float32 (I, J, K)
        In [0, 1].
    parameters : dict
        As drawn by `voxmint.pairs.draws.draw_artifacts`.
    """
    for name, step in _STEPS:
        if parameters.get(name) is not None:
            image = step(image, parameters[name])
    return image


def bias_field(image: Image, coefficients: Sequence[float]) -> Image:
    """Multiply by exp of a 3D Legendre series over [-1, 1]^3 (``RandBiasField``).

    Parameters
    ----------
    coefficients : sequence of float
        One for each of `legendre_terms`, whose degree follows from their number.
    """
    degree = next(d for d in range(1, 32) if len(legendre_terms(d)) >= len(coefficients))
    cube = np.zeros((degree + 1,) * 3)
    for term, coefficient in zip(legendre_terms(degree), coefficients, strict=True):
        cube[term] = coefficient
    powers = _legendre_powers(degree)
    basis_i, basis_j = (_evaluate(powers, _positions(size)) for size in image.shape[:2])
    kernels.multiply_bias(image, basis_i, basis_j, powers, cube)
    return image


def kspace_spike(image: Image, location: Sequence[int], intensity: float) -> Image:
    """Set one element of k-space to a log-magnitude of ``intensity * 2.5 * mean`` (``RandKSpaceSpikeNoise``).

    Changing one element of the spectrum adds one plane wave, so there is no inverse transform.

    Parameters
    ----------
    location : sequence of int
        Index into the shifted k-space (zero frequency in the middle).
    intensity : float
        Log-magnitude of the spike over 2.5 times the mean log-magnitude.
    """
    from scipy import fft  # takes longer to import than all else: left until it is needed

    spectrum = fft.rfftn(image)
    mean = kernels.mean_log_magnitude(spectrum, image.shape[2])
    frequency = [(at - size // 2) % size for at, size in zip(location, image.shape, strict=True)]
    value = _spectrum_value(spectrum, frequency, image.shape)
    magnitude = abs(value) + 1e-10
    spike = math.exp(round(intensity * 2.5 * mean, 6))
    direction = value / abs(value) if value != 0 else 1.0
    change = (spike - magnitude) * direction / image.size
    waves = [_wave(f, size) for f, size in zip(frequency, image.shape, strict=True)]
    flat = [part for wave in waves for part in wave]
    kernels.add_wave(image, *flat, float(change.real), float(change.imag))
    return image


def gamma(image: Image, exponent: float) -> Image:
    """Raise the image, scaled to [0, 1], to ``exponent`` and scale it back (``RandAdjustContrast``)."""
    flat = image.reshape(-1)
    low, high = limits(flat)
    kernels.adjust_gamma(flat, np.float32(low), np.float32(high), np.float32(exponent))
    return image


def gaussian_smooth(image: Image, sigma: Sequence[float]) -> Image:
    """Blur with a Gaussian of ``sigma`` voxels per axis, zeros beyond the border (``RandGaussianSmooth``, erf)."""
    convolve(image, *(gaussian_taps(width) for width in sigma))
    return image


def gibbs(image: Image, alpha: float) -> Image:
    """Cut k-space beyond ``(1 - alpha) * max(shape) * sqrt(2) / 2`` (``RandGibbsNoise``)."""
    shape = image.shape
    radius = (1 - alpha) * max(shape) * math.sqrt(2) / 2
    squares, mirrors = [], []
    for size in shape:
        frequency = np.arange(size)
        shifted = (frequency + size // 2) % size
        opposite = (size - frequency) % size
        squares.append((shifted - (size - 1) / 2) ** 2)
        mirrors.append(squares[-1][opposite])
    from scipy import fft

    half = shape[2] // 2 + 1
    spectrum = fft.rfftn(image)
    kernels.mask_spectrum(
        spectrum,
        squares[0],
        squares[1],
        squares[2][:half],
        mirrors[0],
        mirrors[1],
        mirrors[2][:half],
        radius**2,
    )
    result: Image = fft.irfftn(spectrum, s=shape, overwrite_x=True)
    return result


def sharpen(image: Image, sigma1: Sequence[float], sigma2: Sequence[float], alpha: float) -> Image:
    """Blur, and add ``alpha`` times what a second blur takes away (``RandGaussianSharpen``, erf)."""
    blurred = gaussian_smooth(image, sigma1)
    twice = gaussian_smooth(blurred.copy(), sigma2)
    kernels.add_difference(blurred.reshape(-1), twice.reshape(-1), np.float32(alpha))
    return blurred


def low_resolution(image: Image, zoom: float | Sequence[float]) -> Image:
    """Sample down by nearest neighbour and up again trilinearly (``RandSimulateLowResolution``).

    The coarse size is round-half-even of ``size * zoom``; down is ``nearest-exact``, up has unaligned corners.

    Parameters
    ----------
    zoom : float or three floats
        From 0 to 1, of all axes or of each.
    """
    zooms = [zoom] * 3 if isinstance(zoom, float | int) else zoom
    axes: list[tuple[NDArray[np.int32], NDArray[Any], NDArray[Any]]] = []
    for size, along in zip(image.shape, zooms, strict=True):
        coarse = max(1, round(size * along))
        # rounded to single precision, as PyTorch does it: that decides where the middle of a coarse voxel is an edge
        middle = ((np.arange(coarse) + 0.5) * np.float64(np.float32(size / coarse))).astype(np.float32)
        pick = np.minimum(np.floor(middle), size - 1).astype(np.int32)
        axes.append((pick, *linear_taps(size, coarse / size, coarse)))
    result = np.empty_like(image)
    picks = [axis[0] for axis in axes]
    taps = [array for axis in axes for array in axis[1:]]
    resample(image, *picks, *taps, result)
    return result


def thick_slices(image: Image, axis: int, thickness: float) -> Image:
    """Average along one axis over slices that touch each other, and interpolate linearly between their middles.

    There are round-half-even of ``size / thickness`` slices, which share the axis equally.

    Parameters
    ----------
    axis : int
        The one through the slices.
    thickness : float
        Thickness of a slice, voxels, at least 1.
    """
    size = image.shape[axis]
    slices = max(1, round(size / thickness))
    edges = [n * size / slices for n in range(slices + 1)]
    first = np.array([int(edge) for edge in edges[:-1]], np.int32)
    shares = np.zeros((slices, int(size / slices) + 2), np.float32)
    for n, (low, high) in enumerate(pairwise(edges)):
        for at in range(shares.shape[1]):
            voxel = int(first[n]) + at
            shares[n, at] = max(0.0, min(high, voxel + 1) - max(low, voxel)) * slices / size
    flat = image.reshape(math.prod(image.shape[:axis]), size, -1)
    kernels.average_and_interpolate(flat, first, shares, *linear_taps(size, slices / size, slices))
    return image


_STEPS: tuple[tuple[str, Callable[[Image, Any], Image]], ...] = (
    ("bias_field", bias_field),
    ("kspace_spike", lambda image, drawn: kspace_spike(image, drawn["location"], drawn["intensity"])),
    ("gamma", gamma),
    ("smoothing", gaussian_smooth),
    ("gibbs", gibbs),
    ("sharpening", lambda image, drawn: sharpen(image, drawn["sigma1"], drawn["sigma2"], drawn["alpha"])),
    ("low_resolution", low_resolution),
    ("thick_slices", lambda image, drawn: thick_slices(image, drawn["axis"], drawn["thickness"])),
)
"""The order in which artifacts are applied."""


def gaussian_taps(sigma: float) -> NDArray[np.float32]:
    """Return the integral of a Gaussian over each voxel, float32 (2r + 1,), r = int(max(4 sigma, 0.5) + 0.5)."""
    radius = int(max(sigma * 4.0, 0.5) + 0.5)
    if sigma == 0:
        return np.array([0.0] * radius + [1.0] + [0.0] * radius, np.float32)
    t = math.sqrt(0.5) / sigma
    values = [0.5 * (math.erf(t * (x + 0.5)) - math.erf(t * (x - 0.5))) for x in range(-radius, radius + 1)]
    return np.array([round(value, 9) for value in values], np.float32)


def _positions(size: int) -> NDArray[np.float64]:
    return np.array([2.0 * n / (size - 1) - 1.0 if size > 1 else -1.0 for n in range(size)])


def _legendre_powers(degree: int) -> NDArray[np.float64]:
    """Return the monomial coefficients of the Legendre polynomials, one a row, by Bonnet's recursion."""
    rows = np.zeros((degree + 1, degree + 1))
    rows[0, 0] = 1
    rows[1, 1] = 1
    for n in range(1, degree):
        rows[n + 1, 1:] = (2 * n + 1) / (n + 1) * rows[n, :-1]
        rows[n + 1] -= n / (n + 1) * rows[n - 1]
    return rows


def _evaluate(powers: NDArray[np.float64], positions: NDArray[np.float64]) -> NDArray[np.float64]:
    values = np.zeros((len(powers), len(positions)))
    for power in range(len(powers) - 1, -1, -1):
        values = values * positions + powers[:, power : power + 1]
    return values


def _spectrum_value(spectrum: NDArray[Any], frequency: Sequence[int], shape: tuple[int, ...]) -> complex:
    """Return one element of the full spectrum from the half that a real transform gives."""
    if frequency[2] < spectrum.shape[2]:
        return complex(spectrum[tuple(frequency)])
    mirrored = tuple((size - f) % size for f, size in zip(frequency, shape, strict=True))
    return complex(spectrum[mirrored]).conjugate()


def _wave(frequency: int, size: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return cosine and sine of ``2 pi frequency n / size`` for all n, rounded to hide the maths library."""
    angles = [2 * math.pi * (frequency * n % size) / size for n in range(size)]
    cosine = np.array([round(math.cos(angle), 9) for angle in angles], np.float32)
    return cosine, np.array([round(math.sin(angle), 9) for angle in angles], np.float32)
