"""Views, step by step: intensities, texture, and artifacts by MONAI's own transforms. Images are float32 (i, j, k)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from monai.transforms import (
    AdjustContrast,
    GaussianSharpen,
    GaussianSmooth,
    GibbsNoise,
    KSpaceSpikeNoise,
    RandBiasField,
    RandKSpaceSpikeNoise,
    RandSimulateLowResolution,
    ScaleIntensity,
)
from numpy.typing import NDArray

from reference.ensemble import Noise, upsample

Image = NDArray[np.float32]
_MONAI_SPIKE_LOW = 0.95
"""Lower end of MONAI's default spike intensity, as a factor of 2.5 times the mean log-magnitude of k-space."""


def _apply(transform: Callable[[torch.Tensor], Any], image: Image) -> Image:
    """Apply a MONAI transform to an image, which needs a channel axis."""
    out = transform(torch.as_tensor(np.ascontiguousarray(image, np.float32))[None])
    return np.asarray(torch.as_tensor(out)[0]).astype(np.float32)


def min_max(image: Image) -> Image:
    """Scale to [0, 1]; a constant image becomes 0."""
    return _apply(ScaleIntensity(0.0, 1.0), image)


def bias_field(image: Image, coefficients: Sequence[float], degree: int = 3) -> Image:
    transform = RandBiasField(degree=degree, prob=1.0)
    transform._do_transform, transform._coeff = True, list(coefficients)
    return _apply(lambda x: transform(x, randomize=False), image)


def kspace_spike(image: Image, location: Sequence[int], intensity: float) -> Image:
    """Set one voxel of k-space; ``intensity`` is relative to what MONAI's default range is relative to."""
    tensor = torch.as_tensor(np.ascontiguousarray(image, np.float32))[None]
    low, _ = RandKSpaceSpikeNoise()._set_default_range(tensor)[0]
    log_magnitude = float(low) / _MONAI_SPIKE_LOW * intensity
    return _apply(KSpaceSpikeNoise(tuple(int(n) for n in location), log_magnitude), image)


def gamma(image: Image, exponent: float) -> Image:
    return _apply(AdjustContrast(exponent), image)


def gaussian_smooth(image: Image, sigma: Sequence[float]) -> Image:
    return _apply(GaussianSmooth(list(sigma)), image)


def gibbs(image: Image, alpha: float) -> Image:
    return _apply(GibbsNoise(alpha), image)


def sharpen(image: Image, sigma1: Sequence[float], sigma2: Sequence[float], alpha: float) -> Image:
    return _apply(GaussianSharpen(list(sigma1), list(sigma2), alpha), image)


def low_resolution(image: Image, zoom: float) -> Image:
    transform = RandSimulateLowResolution(prob=1.0, downsample_mode="nearest-exact", upsample_mode="trilinear")
    transform._do_transform, transform.zoom_factor = True, zoom
    return _apply(lambda x: transform(x, randomize=False), image)


def low_resolution_per_axis(image: Image, zooms: Sequence[float]) -> Image:
    """Do the same with a zoom for each axis, which MONAI's transform has not."""
    tensor = torch.as_tensor(np.ascontiguousarray(image, np.float32))[None, None]
    coarse = [max(1, round(size * zoom)) for size, zoom in zip(image.shape, zooms, strict=True)]
    down = torch.nn.functional.interpolate(tensor, size=coarse, mode="nearest-exact")
    return torch.nn.functional.interpolate(down, size=image.shape, mode="trilinear")[0, 0].numpy()


def thick_slices(image: Image, axis: int, thickness: float) -> Image:
    """Average over equal slices, by differences of the integral at their edges, and interpolate linearly."""
    size = image.shape[axis]
    slices = max(1, round(size / thickness))
    edges = np.linspace(0, size, slices + 1)
    middles = (edges[1:] + edges[:-1]) / 2 - 0.5

    def along(line: np.ndarray) -> np.ndarray:
        integral = np.interp(edges, np.arange(size + 1), np.concatenate([[0], np.cumsum(line, dtype=np.float64)]))
        return np.interp(np.arange(size), middles, np.diff(integral) * slices / size)

    return np.apply_along_axis(along, axis, image).astype(np.float32)


def any_low_resolution(image: Image, zoom: float | Sequence[float]) -> Image:
    return low_resolution(image, zoom) if np.ndim(zoom) == 0 else low_resolution_per_axis(image, zoom)


def intensities(labels: NDArray[np.integer[Any]], drawn: dict[str, Any], noise: Noise) -> Image:
    """Draw each voxel from its label's normal distribution, empty the lowest label if drawn, clip below at 0."""
    normal = np.asarray(noise(int(drawn["key"], 16), labels.size), np.float32).reshape(labels.shape)
    image = np.zeros(labels.shape, np.float32)
    for label, mean, std in zip(drawn["labels"], drawn["mean"], drawn["std"], strict=True):
        where = labels == label
        image[where] = np.float32(mean) + np.float32(std) * normal[where]
    if drawn["empty_background"]:
        image[labels == min(drawn["labels"])] = 0
    return np.maximum(image, 0)


def texture(shape: Sequence[int], scales: Sequence[dict[str, Any]], noise: Noise) -> Image:
    """Sum the scales of the coarse noise P."""
    total = np.zeros(tuple(shape))
    for scale in scales:
        grid_shape = [int(np.ceil(size / scale["spacing"])) for size in shape]
        grid = noise(int(scale["key"], 16), int(np.prod(grid_shape))).reshape(1, *grid_shape)
        total += scale["std"] * upsample(grid, scale["spacing"], shape)[0]
    return total.astype(np.float32)


def artifact_steps(artifacts: dict[str, Any], degree: int = 3) -> list[tuple[str, Callable[[Image], Image]]]:
    """Return the drawn artifacts as functions of the image, in the order they are applied."""
    steps: list[tuple[str, Callable[[Image], Image]]] = [
        ("bias_field", lambda x: bias_field(x, artifacts["bias_field"], degree)),
        ("kspace_spike", lambda x: kspace_spike(x, **artifacts["kspace_spike"])),
        ("gamma", lambda x: gamma(x, artifacts["gamma"])),
        ("smoothing", lambda x: gaussian_smooth(x, artifacts["smoothing"])),
        ("gibbs", lambda x: gibbs(x, artifacts["gibbs"])),
        ("sharpening", lambda x: sharpen(x, **artifacts["sharpening"])),
        ("low_resolution", lambda x: any_low_resolution(x, artifacts["low_resolution"])),
        ("thick_slices", lambda x: thick_slices(x, **artifacts["thick_slices"])),
    ]
    return [(name, step) for name, step in steps if artifacts.get(name) is not None]


def view_reference(
    labels: NDArray[np.integer[Any]], parameters: dict[str, Any], noise: Noise, strength: float = 0.02
) -> dict[str, NDArray[Any]]:
    """Render one view from its drawn parameters and return every stage.

    Parameters
    ----------
    labels : integer array (I, J, K)
        The ensemble.
    parameters : dict
        ``intensity``, ``texture`` and ``artifacts``, as in the record of a sample.
    noise : callable
        Standard normal field of a key.
    strength : float
        Factor of the texture.

    Returns
    -------
    dict of (I, J, K) arrays
        ``intensity``, ``texture``, each artifact drawn, ``unit`` (float, [0, 1]) and ``view`` (uint8).
    """
    stages: dict[str, NDArray[Any]] = {}
    stages["intensity"] = image = min_max(intensities(labels, parameters["intensity"], noise))
    modulation = 1 + np.float32(strength) * texture(labels.shape, parameters["texture"], noise)
    stages["texture"] = image = min_max(image * modulation)
    for name, step in artifact_steps(parameters["artifacts"]):
        stages[name] = image = step(image)
    stages["unit"] = image = min_max(np.maximum(image, 0))
    stages["view"] = np.floor(255 * image).astype(np.uint8)
    return stages
