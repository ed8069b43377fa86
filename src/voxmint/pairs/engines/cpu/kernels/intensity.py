"""Gaussian mixture intensities, texture, and the element-wise steps, each a pass that also gathers its limits."""

import numpy as np

from voxmint.pairs.engines.cpu.kernels._jit import inline, kernel
from voxmint.pairs.engines.cpu.kernels.noise import BLOCK, fill_words, words_to_normals
from voxmint.pairs.engines.cpu.kernels.upsample import blend_plane

LANES = 8
"""Minima and maxima are gathered side by side: one running minimum cannot be vectorised."""
ROW = 512
"""Elements that `limits` compares side by side."""
_ZERO, _ONE = np.float32(0), np.float32(1)


@inline
def scale_of(low, high):
    """Return 1 / (high - low), or 0 for a constant volume."""
    return _ONE / (high - low) if high > low else _ZERO


@kernel
def mixture(labels, mean, std, key, second, table, image):
    """Fill ``image`` with max(0, mean[label] + std[label] * noise) and return its (minimum, maximum).

    Parameters
    ----------
    labels : uint8 (n,)
        Labels, flattened.
    mean, std : float32 (256,)
        Per label; both 0 for a label that stays empty.
    key, second : uint64
        Key of the voxel noise.
    table : uint64
        As made by `voxmint.pairs.engines.cpu.kernels.noise.quantile_table`.
    image : float32 (n,)
        Overwritten.
    """
    words, normals = np.empty(BLOCK // 2, np.uint64), np.empty(BLOCK, np.float32)
    halves = words.view(np.uint32)
    low, high = np.full(LANES, np.inf, np.float32), np.zeros(LANES, np.float32)
    for start in range(0, labels.size, BLOCK):
        fill_words(key, second, np.uint64(start // 2), words)
        words_to_normals(halves, table, normals)
        _mix(labels[start : start + BLOCK], mean, std, normals, image[start : start + BLOCK], low, high)
    return low.min(), high.max()


@kernel
def _mix(labels, mean, std, normals, image, low, high):
    whole = labels.size - labels.size % LANES
    for start in range(0, whole, LANES):
        for lane in range(LANES):
            n = start + lane
            value = mean[labels[n]] + std[labels[n]] * normals[n]
            value = value if value > _ZERO else _ZERO
            low[lane] = value if value < low[lane] else low[lane]
            high[lane] = value if value > high[lane] else high[lane]
            image[n] = value
    for n in range(whole, labels.size):
        value = max(mean[labels[n]] + std[labels[n]] * normals[n], _ZERO)
        low[0], high[0] = min(low[0], value), max(high[0], value)
        image[n] = value


@kernel
def multiply_texture(image, low, high, strength, field, low_i, weight_i, low_j, weight_j, plane):
    """Bring ``image`` (I, J, K) to [0, 1], multiply it by 1 + strength * texture, return its (minimum, maximum).

    Parameters
    ----------
    low, high : float32
        Minimum and maximum of the image.
    field : float32 (1, I', J', K)
        Texture, as `voxmint.pairs.engines.cpu.kernels.upsample.NoiseField.rows`.
    low_i, weight_i, low_j, weight_j
        Its `taps`.
    plane : float32 (1, J', K)
        Scratch.
    """
    ni, nj, nk = image.shape
    scale = scale_of(low, high)
    # Limits are kept per column and reduced at the end, as in `LANES`.
    lowest, highest = np.full(nk, np.inf, np.float32), np.full(nk, -np.inf, np.float32)
    for i in range(ni):
        blend_plane(field, low_i, weight_i, i, plane)
        for j in range(nj):
            near, far = plane[0, low_j[j]], plane[0, low_j[j] + 1]
            _multiply_row(image[i, j], near, far, weight_j[j], low, scale, strength, lowest, highest)
    return limits(lowest)[0], limits(highest)[1]


@kernel
def _multiply_row(line, near, far, weight, low, scale, strength, lowest, highest):
    other = _ONE - weight
    for k in range(line.size):
        texture = near[k] * other + far[k] * weight
        value = (line[k] - low) * scale * (_ONE + strength * texture)
        line[k] = value
        lowest[k] = value if value < lowest[k] else lowest[k]
        highest[k] = value if value > highest[k] else highest[k]


@kernel
def limits(image):
    """Return (minimum, maximum) of a flat float32 array."""
    count = min(image.size, ROW)
    low, high = image[:count].copy(), image[:count].copy()
    for start in range(count, image.size, ROW):
        _lower_and_raise(image[start : start + ROW], low, high)
    return low.min(), high.max()


@kernel
def _lower_and_raise(row, low, high):
    for n in range(row.size):
        low[n] = row[n] if row[n] < low[n] else low[n]
        high[n] = row[n] if row[n] > high[n] else high[n]


@kernel
def rescale(image, low, high):
    """Bring a flat image from [low, high] to [0, 1] in place; a constant one becomes 0."""
    scale = scale_of(low, high)
    for n in range(image.size):
        image[n] = (image[n] - low) * scale


@kernel
def quantise(image, grey):
    """Clip a flat image at 0, bring it to [0, 1] and write floor(255 * x) to ``grey`` (uint8)."""
    low, high = limits(image)
    low, high = max(low, _ZERO), max(high, _ZERO)
    scale = scale_of(low, high)
    for n in range(image.size):
        value = (max(image[n], _ZERO) - low) * scale
        grey[n] = np.uint8(min(value, _ONE) * np.float32(255))


@kernel
def labels_seen(labels):
    """Return which labels occur among flat uint8 ``labels``: uint8 (256,) of 0 and 1."""
    seen = np.zeros(256, np.uint8)
    for n in range(labels.size):
        seen[labels[n]] = 1
    return seen
