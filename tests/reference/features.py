"""Numbers that describe a label volume, a view of it, and two views beside each other."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, stats

Volume = NDArray[Any]
Image = NDArray[np.float64]

_BANDS = (0.0, 0.08, 0.16, 0.28, 0.4, 0.5, 0.6, 0.72, 0.87)
"""Limits of the radial frequency bands, cycles per voxel; the last lies in the corners of k-space."""
_SPIKE = 0.6
"""Decades of power by which a frequency must stand out to count as a spike."""
_FIRST_FINE_BAND = 3
"""First band that a spike is looked for in: below, the shapes themselves stand out."""


def label_features(labels: Volume) -> dict[str, float]:
    """Describe a label volume: how many labels, how large, in which order they cover, how they lie, how masked."""
    present, counts = np.unique(labels, return_counts=True)
    sizes = np.log10(counts)
    edges = np.array([np.mean(differs) for differs in _differences(labels)])
    mask = labels > 0
    surface = _surface(mask)
    return {
        "labels.count": len(present),
        "labels.largest": int(labels.max()),
        "labels.mean_log_size": sizes.mean(),
        "labels.std_log_size": sizes.std(),
        "labels.biggest_share": counts.max() / labels.size,
        "labels.size_against_order": _correlation(stats.rankdata(present[1:]), stats.rankdata(counts[1:])),
        "labels.foreground_share": mask.mean(),
        "labels.mask_roughness": surface / (_surface(ndimage.uniform_filter(mask.astype(np.float32), 7) > 0.5) + 100),
        "labels.last_per_surface": counts[-1] / (surface + 100),
        "labels.has_envelope": float(_touching(labels == present[-1], ~mask) > 0.95),
        "labels.single_voxels": _alone(labels),
        "labels.edges": edges.mean(),
        **{f"labels.edges_{axis}": edges[axis] / (edges.mean() + 1e-3) for axis in range(3)},
    }


def view_features(labels: Volume, view: Volume) -> dict[str, float]:
    """Describe an image of a label volume: moments, contrast, noise, spectrum, shading, texture."""
    image = view.astype(np.float64)
    means = _label_means(labels, image)
    present = np.unique(labels)
    residual = image - means[labels]
    texture = _texture(labels, image)
    near, far = _noise(labels, image, 1).mean(), _noise(labels, image, 2).mean()
    level = image.mean() + 1
    low, middle, high = np.quantile(means[present], (0.05, 0.5, 0.95))
    return {
        "view.mean": image.mean(),
        "view.std": image.std(),
        "view.skew": np.mean((image - image.mean()) ** 3) / (image.std() ** 3 + 1),
        "view.low": np.quantile(image, 0.05),
        "view.zero_share": np.mean(view == 0),
        "view.lowest_over_mean": means[present[0]] / level,
        "view.between_labels": means[present].std() / level,
        "view.middle_label": (middle - low) / (high - low + 1),
        "view.within_labels": residual.std() / level,
        "view.noise_slope": _noise_slope(labels, image, means),
        "view.noise": np.log(near + 1e-2),
        "view.noise_over_residual": np.log((near + 1e-2) / (residual.var() + 1e-2)),
        "view.noise_near_over_far": np.log((near + 1e-2) / (far + 1e-2)),
        "view.shading": _shading(residual) / level,
        "view.texture": np.log(np.sqrt(np.mean(texture[texture != 0] ** 2)) + 1e-3) if texture.any() else -7.0,
        **_spectrum(image),
    }


def pair_features(labels: Volume, view1: Volume, view2: Volume) -> dict[str, float]:
    """Describe how two views of one label volume resemble each other."""
    image1, image2 = view1.astype(np.float64), view2.astype(np.float64)
    means1, means2 = _label_means(labels, image1), _label_means(labels, image2)
    present = np.unique(labels)
    same = ~_differences(labels)[2]
    return {
        "pair.views": _correlation(image1, image2),
        "pair.label_means": _correlation(means1[present], means2[present]),
        "pair.noise": _correlation(np.diff(image1, axis=2)[same], np.diff(image2, axis=2)[same]),
        "pair.texture": _correlation(_texture(labels, image1), _texture(labels, image2)),
    }


def noise_asymmetry(labels: Volume, view: Volume) -> dict[str, float]:
    """Return the log ratios of the noise's roughness along pairs of axes; symmetric about 0 if no axis is special."""
    noise = np.log(_noise(labels, view.astype(np.float64), 1) + 1e-2)
    return {f"noise.axis_{a}_over_{b}": noise[a] - noise[b] for a, b in ((0, 1), (0, 2), (1, 2))}


def _correlation(a: Volume, b: Volume) -> float:
    a, b = np.ravel(a).astype(np.float64), np.ravel(b).astype(np.float64)
    a, b = a - a.mean(), b - b.mean()
    # sums rather than dot products: BLAS would start threads, which only wait for each other on arrays this small
    scale = np.sqrt(np.sum(a * a) * np.sum(b * b))
    return float(np.sum(a * b) / scale) if scale > 0 else 0.0


def _along(values: Volume, axis: int, start: int, stop: int) -> Volume:
    """Return planes ``start`` to ``stop`` along an axis, without a copy."""
    return values[(slice(None),) * axis + (slice(start, stop),)]


def _differences(labels: Volume) -> list[NDArray[np.bool_]]:
    """Return, for each axis, where neighbours differ."""
    sizes = enumerate(labels.shape)
    return [_along(labels, axis, 1, size) != _along(labels, axis, 0, size - 1) for axis, size in sizes]


def _inside(labels: Volume) -> NDArray[np.bool_]:
    """Return the voxels whose six neighbours have their label: what leaks over edges and borders stays out of them."""
    inside = np.ones(labels.shape, bool)
    for axis, differs in enumerate(_differences(labels)):
        size = labels.shape[axis]
        _along(inside, axis, 1, size)[differs] = False
        _along(inside, axis, 0, size - 1)[differs] = False
        _along(inside, axis, 0, 1)[:] = False
        _along(inside, axis, size - 1, size)[:] = False
    return inside


def _surface(mask: NDArray[np.bool_]) -> int:
    return sum(np.count_nonzero(differs) for differs in _differences(mask))


def _touching(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    """Return the share of the surface of ``b`` that lies against ``a``."""
    rim = ndimage.binary_dilation(b) & ~b
    return float(np.count_nonzero(rim & a) / max(1, np.count_nonzero(rim)))


def _alone(labels: Volume) -> float:
    """Return the share of inner voxels that differ from at least five of their six neighbours."""
    inner = labels[1:-1, 1:-1, 1:-1]
    moved = [np.roll(labels, step, axis)[1:-1, 1:-1, 1:-1] for axis in range(3) for step in (-1, 1)]
    return float(np.mean(sum((neighbour != inner).astype(np.int8) for neighbour in moved) >= 5))


def _label_means(labels: Volume, image: Image) -> Image:
    """Return the mean of each label, 0 where absent."""
    flat = labels.ravel()
    return np.bincount(flat, image.ravel()) / np.maximum(np.bincount(flat), 1)


def _noise_slope(labels: Volume, image: Image, means: Image) -> float:
    """Return the slope of log noise over log mean from label to label: a gamma correction bends it."""
    inside = _inside(labels)
    pairs = inside[:, :, 1:] & inside[:, :, :-1]
    at = labels[:, :, 1:][pairs]
    count = np.bincount(at, minlength=len(means))
    noise = np.bincount(at, np.diff(image, axis=2)[pairs] ** 2, minlength=len(means)) / np.maximum(count, 1)
    used = (count > 30) & (means > 0.2 * image.mean())
    if np.count_nonzero(used) < 4:
        return 0.0
    x, y = np.log(means[used] + 1), 0.5 * np.log(noise[used] + 0.1)
    x = x - x.mean()
    return float(np.sum(x * y) / (np.sum(x * x) + 1e-3))


def _noise(labels: Volume, image: Image, step: int) -> Image:
    """Return the mean squared difference of voxels ``step`` (1 or 2) apart inside one label, along each axis."""
    inside, noise = _inside(labels), []
    for axis, size in enumerate(labels.shape):
        pairs = _along(inside, axis, step, size) & _along(inside, axis, 0, size - step)
        squares = (_along(image, axis, step, size) - _along(image, axis, 0, size - step)) ** 2
        noise.append(squares[pairs].sum() / max(1, np.count_nonzero(pairs)))
    return np.array(noise)


def _texture(labels: Volume, image: Image) -> Image:
    """Return what label means and a cubic polynomial leave of the brightness of blocks of 4^3 voxels."""
    inside = _inside(labels)
    flat = labels[inside]
    means = np.bincount(flat, image[inside], minlength=256) / np.maximum(np.bincount(flat, minlength=256), 1)
    expected = np.where(inside, means[labels], 0)
    expected[expected < 0.3 * image.mean()] = 0
    above, below = (_block_sums(values) for values in (np.where(expected > 0, image, 0), expected))
    used = below > 0.2 * below.max()
    basis = _cubic(above.shape)[used.ravel()]
    ratio = above[used] / (below[used] + 1e-9) - 1
    # normal equations by einsum, as BLAS and its threads cost more than they save here
    normal = np.einsum("na,nb->ab", basis, basis) + 1e-6 * np.eye(basis.shape[1])
    weights = np.linalg.solve(normal, np.einsum("na,n->a", basis, ratio))
    rest = np.zeros(used.shape)
    rest[used] = ratio - np.einsum("na,a->n", basis, weights)
    return rest


def _block_sums(image: Image) -> Image:
    n = image.shape[0] // 4
    return image[: 4 * n, : 4 * n, : 4 * n].reshape(n, 4, n, 4, n, 4).sum(axis=(1, 3, 5))


@lru_cache
def _cubic(shape: tuple[int, ...]) -> Image:
    """Return all monomials up to degree 3 on a grid, (voxels, 20)."""
    x, y, z = (axis.ravel() for axis in np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij"))
    powers = [(a, b, c) for a in range(4) for b in range(4 - a) for c in range(4 - a - b)]
    return np.stack([x**a * y**b * z**c for a, b, c in powers], axis=1)


def _shading(residual: Image) -> float:
    """Return the mean of the half towards the far corner less that of the half towards the origin."""
    far = sum(np.ogrid[tuple(slice(n) for n in residual.shape)]) >= sum(residual.shape) / 2
    return float(residual[far].mean() - residual[~far].mean())


@lru_cache
def _frequency_band(shape: tuple[int, ...]) -> NDArray[np.intp]:
    """Return the radial band of each frequency, -1 for the mean."""
    axes = np.meshgrid(*(np.fft.fftfreq(n) for n in shape), indexing="ij")
    band = np.digitize(np.sqrt(sum(axis**2 for axis in axes)), _BANDS) - 1
    band[0, 0, 0] = -1
    return band


def _spectrum(image: Image) -> dict[str, float]:
    """Return log power in radial bands relative to all, and how far one frequency stands out of its band."""
    power, band = np.abs(np.fft.fftn(image)) ** 2, _frequency_band(image.shape)
    total = power[band >= 0].sum() + 1e-9
    features, outstanding = {}, []
    for number in range(len(_BANDS) - 1):
        values = power[band == number]
        features[f"view.band_{number}"] = float(np.log10(values.sum() / total + 1e-9))
        if number >= _FIRST_FINE_BAND:
            # the spectrum of a real image is symmetric: a spike and its mirror are the two largest values
            third, _, first = np.partition(values, -3)[-3:]
            outstanding.append(np.log10((first + 1e-9) / (third + 1e-9)))
    return {**features, "view.spike": float(max(outstanding)), "view.has_spike": float(max(outstanding) > _SPIKE)}
