"""Small varied binary shapes for tests: ellipsoids, bent tubes, shells, plates, blobs; some larger than a side."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from reference.ensemble import Mask


def crop(mask: Mask) -> Mask:
    """Cut to the bounding box of what is set."""
    return mask[ndimage.find_objects(mask.astype(np.uint8))[0]]


def _grid(shape: tuple[int, ...]) -> list[np.ndarray]:
    return np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")


def ellipsoid(shape: tuple[int, ...]) -> Mask:
    return sum(axis**2 for axis in _grid(shape)) <= 1


def shell(shape: tuple[int, ...]) -> Mask:
    radius = sum(axis**2 for axis in _grid(shape))
    return (radius <= 1) & (radius >= 0.5)


def bent_tube(shape: tuple[int, ...], bend: float) -> Mask:
    i, j, k = _grid(shape)
    return (i - bend * np.sin(2.5 * k)) ** 2 + (j - bend * np.cos(2.5 * k)) ** 2 <= 0.1


def blob(rng: np.random.Generator, shape: tuple[int, ...]) -> Mask:
    smooth = ndimage.gaussian_filter(rng.standard_normal(shape), 0.15 * min(shape))
    return smooth > np.quantile(smooth, 0.7)


def varied_masks(seed: int, side: int) -> list[Mask]:
    """Return 12 cropped shapes, a fifth of ``side`` to over it in size, odd and even, none alike along two axes."""
    rng = np.random.default_rng(seed)

    def size(low: float, high: float) -> tuple[int, ...]:
        return tuple(int(n) for n in rng.integers(max(3, int(low * side)), int(high * side) + 1, 3))

    shapes = [
        ellipsoid(size(0.2, 0.5)),
        ellipsoid(size(0.5, 1.3)),
        shell(size(0.5, 0.9)),
        shell((side + 5, side - 3, side // 2)),
        bent_tube(size(0.5, 1.0), 0.4),
        bent_tube((side // 2 + 1, side // 2, side + 11), 0.6),
        ellipsoid((side, side // 2, 3)),
        np.ones((3, side + 7, side // 3), bool),
        blob(rng, size(0.3, 0.6)),
        blob(rng, size(0.6, 1.2)),
        blob(rng, size(0.2, 0.4)),
        blob(rng, (side + 9, side, side - 1)),
    ]
    return [crop(shape) for shape in shapes]
