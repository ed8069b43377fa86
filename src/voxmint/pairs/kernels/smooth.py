"""Separable convolution with zeros beyond the borders, and nearest/trilinear resampling."""

import numpy as np

from voxmint.pairs.kernels._jit import kernel


@kernel
def convolve_k(image, taps, scratch):
    """Convolve every row along the last axis with symmetric ``taps`` (2r + 1,), in place; ``scratch`` (K + 2r,)."""
    ni, nj, nk = image.shape
    radius = taps.size // 2
    centre = taps[radius]
    scratch[:] = 0
    for i in range(ni):
        for j in range(nj):
            row = image[i, j]
            scratch[radius : radius + nk] = row
            for k in range(nk):
                row[k] *= centre
            for t in range(radius):
                _add_both(scratch[t:], scratch[2 * radius - t :], taps[t], row)


@kernel
def _add_both(before, after, weight, row):
    for k in range(row.size):
        row[k] += (before[k] + after[k]) * weight


@kernel
def convolve_planes(image, taps, ring):
    """Convolve along the first axis of (A, N) in place; ``ring`` (r + 1, N) keeps planes that were overwritten."""
    size, count = image.shape
    radius = taps.size // 2
    kept, centre = radius + 1, taps[radius]
    for a in range(size):
        ring[a % kept] = image[a]
        target = image[a]
        for n in range(count):
            target[n] *= centre
        for t in range(1, radius + 1):
            weight = taps[radius - t]
            if a - t >= 0 and a + t < size:
                before, after = ring[(a - t) % kept], image[a + t]
                for n in range(count):
                    target[n] += (before[n] + after[n]) * weight
            elif a - t >= 0:
                before = ring[(a - t) % kept]
                for n in range(count):
                    target[n] += before[n] * weight
            elif a + t < size:
                after = image[a + t]
                for n in range(count):
                    target[n] += after[n] * weight


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
