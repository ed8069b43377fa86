"""Separable convolution with zeros beyond the borders, and nearest/trilinear resampling."""

import numpy as np

from voxmint.pairs.engines.cpu.kernels._jit import kernel


@kernel
def convolve(image, taps_i, taps_j, taps_k):
    """Convolve ``image`` (I, J, K), float32, with symmetric taps (2r + 1,) along each axis, in place.

    One pass: planes convolved along k and j wait in a ring until the last that their neighbours need is there.
    """
    ni, nj, nk = image.shape
    count, radius_i, radius_j, radius_k = taps_i.size, taps_i.size // 2, taps_j.size // 2, taps_k.size // 2
    ring = np.empty((count, nj * nk), np.float32)
    # zeros around what is copied in stand for those beyond the border
    wide = np.zeros((nj, nk + 2 * radius_k), np.float32)
    tall = np.zeros((nj + 2 * radius_j) * nk, np.float32)
    inner = tall[radius_j * nk : (radius_j + nj) * nk]
    for i in range(ni + radius_i):
        if i < ni:
            _convolve_rows(image[i], taps_k, wide, inner)
            plane = ring[i % count]
            _scale(inner, taps_j[radius_j], plane)
            for t in range(radius_j):
                _add_both(tall[t * nk :], tall[(2 * radius_j - t) * nk :], taps_j[t], plane)
        at = i - radius_i
        if at >= 0:
            target = image[at].reshape(-1)
            _scale(ring[at % count], taps_i[radius_i], target)
            for t in range(1, radius_i + 1):
                weight, before, after = taps_i[radius_i - t], ring[(at - t) % count], ring[(at + t) % count]
                if at - t >= 0 and at + t < ni:
                    _add_both(before, after, weight, target)
                elif at - t >= 0:
                    _add_one(before, weight, target)
                elif at + t < ni:
                    _add_one(after, weight, target)


@kernel
def _convolve_rows(plane, taps, wide, out):
    nj, nk = plane.shape
    radius = taps.size // 2
    centre = taps[radius]
    for j in range(nj):
        for k in range(nk):
            wide[j, radius + k] = plane[j, k]
        for k in range(nk):
            out[j * nk + k] = plane[j, k] * centre
        for t in range(radius):
            weight, far = taps[t], 2 * radius - t
            for k in range(nk):
                out[j * nk + k] += (wide[j, t + k] + wide[j, far + k]) * weight


@kernel
def _scale(row, weight, out):
    for k in range(out.size):
        out[k] = row[k] * weight


@kernel
def _add_one(row, weight, out):
    for k in range(out.size):
        out[k] += row[k] * weight


@kernel
def _add_both(before, after, weight, out):
    for k in range(out.size):
        out[k] += (before[k] + after[k]) * weight


@kernel
def resample(image, pick_i, pick_j, pick_k, low_i, weight_i, low_j, weight_j, low_k, weight_k, result):
    """Read ``image`` at the picked voxels and interpolate that coarser volume trilinearly back to ``result``.

    Parameters
    ----------
    pick_i, pick_j, pick_k : int32
        Voxels of ``image`` that the coarse volume consists of.
    low_i, weight_i, ... : int32 and float32
        Lower coarse voxel and the upper one's weight, for each voxel of the result.
    """
    ni, nj, nk = result.shape
    line = np.empty(pick_k.size, np.float32)
    one = np.float32(1)
    last_i, last_j, last_k = pick_i.size - 1, pick_j.size - 1, pick_k.size - 1
    for i in range(ni):
        near_i, far_i = pick_i[low_i[i]], pick_i[min(low_i[i] + 1, last_i)]
        u = weight_i[i]
        for j in range(nj):
            near_j, far_j = pick_j[low_j[j]], pick_j[min(low_j[j] + 1, last_j)]
            v = weight_j[j]
            for n in range(pick_k.size):
                k = pick_k[n]
                near = image[near_i, near_j, k] * (one - v) + image[near_i, far_j, k] * v
                far = image[far_i, near_j, k] * (one - v) + image[far_i, far_j, k] * v
                line[n] = near * (one - u) + far * u
            for k in range(nk):
                n = low_k[k]
                result[i, j, k] = line[n] + (line[min(n + 1, last_k)] - line[n]) * weight_k[k]
