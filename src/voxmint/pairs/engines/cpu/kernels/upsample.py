"""Trilinear upsampling of coarse noise grids, read row by row as the volume is made: the full field is never stored.

A grid of spacing s has ``ceil(size / s)`` nodes; voxel o reads it at ``(o + 0.5) / s - 0.5``, clamped to the grid: the
half-pixel convention, so that a spacing that divides the size gives equal cells.

A sum of such grids is linear between the nodes of all of them. Where these nodes lie on one lattice, as they do when
every spacing is a whole multiple of the smallest, the sum is worked out there alone, and upsampled once.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxmint.pairs.engines.cpu.kernels._jit import kernel
from voxmint.pairs.engines.cpu.kernels.noise import normal_field

Taps = tuple[NDArray[np.int32], NDArray[np.float32]]
Scale = tuple[int, float, float]
"""One scale of noise: key of its field, distance of its nodes in voxels, standard deviation of their values."""


def grid_size(size: int, spacing: float) -> int:
    """Return the number of grid nodes that cover ``size`` voxels."""
    return max(1, int(np.ceil(size / spacing - 1e-9)))


@lru_cache(maxsize=128)
def linear_taps(size: int, scale: float, nodes: int) -> Taps:
    """Return for each of ``size`` voxels the lower node and the upper node's weight, at ``(o + 0.5) * scale - 0.5``.

    Kept for the next volume of the same size: not to be changed.
    """
    return _taps((np.arange(size) + 0.5) * scale - 0.5, nodes)


def lattice_size(size: int, pitch: float) -> int:
    """Return the number of a lattice's points over ``size`` voxels: the voxels themselves if the pitch is 1."""
    return size if pitch == 1 else grid_size(size, pitch) + 1


@lru_cache(maxsize=128)
def _lattice_taps(size: int, spacing: float, nodes: int, pitch: float) -> Taps:
    """Return the same for each point of a lattice over ``size`` voxels: every ``pitch`` voxels from the border on."""
    if pitch == 1:
        return linear_taps(size, 1 / spacing, nodes)
    return _taps(np.arange(lattice_size(size, pitch)) * (pitch / spacing) - 0.5, nodes)


def _taps(position: NDArray[np.floating[Any]], nodes: int) -> Taps:
    position = np.clip(position, 0, nodes - 1)
    low = np.minimum(np.floor(position), max(nodes - 2, 0)).astype(np.int32)
    return low, (position - low).astype(np.float32)


@lru_cache(maxsize=128)
def _voxel_taps(size: int, pitch: float) -> Taps:
    """Return for each voxel the lower point of the lattice and the upper one's weight."""
    position = np.arange(size) if pitch == 1 else (np.arange(size) + 0.5) / pitch
    return _taps(np.asarray(position, np.float64), lattice_size(size, pitch) + 1)


def lattice_pitch(spacings: Sequence[float]) -> float:
    """Return the distance of the points between which a sum of grids is linear: 1, every voxel, if they fit on none."""
    least = min(spacings)
    ratios = [spacing / least for spacing in spacings]
    return least / 2 if least > 2 and all(abs(r - round(r)) < 1e-9 for r in ratios) else 1


class NoiseField:
    """The sum of several scales of noise over a volume, for ``components`` at a time.

    Parameters
    ----------
    shape : tuple of int
        Shape (I, J, K) of the volume.
    scales : sequence of (int, float, float)
        At least one: key, spacing in voxels, and standard deviation of the node values.
    components : int
        Number of independent fields.

    Attributes
    ----------
    rows : float32 (components, I' + 1, J' + 1, K)
        The sum at the lattice's points along i and j, at every voxel along k; the last of each is never weighted, so
        that a kernel reads pairs without a test.
    taps : tuple
        Lower point (int32) and the upper one's weight (float32) along i, then along j.
    """

    def __init__(self, shape: tuple[int, ...], scales: Sequence[Scale], components: int = 1) -> None:
        pitch = lattice_pitch([spacing for _, spacing, _ in scales])
        points = [lattice_size(size, pitch) for size in shape]
        total = np.zeros((components, *(n + 1 for n in points)), np.float32)
        for key, spacing, std in scales:
            nodes = [grid_size(size, spacing) for size in shape]
            values = np.zeros((components, *(n + 1 for n in nodes)), np.float32)
            noise = normal_field(key, components * math.prod(nodes)).reshape(components, *nodes)
            np.multiply(noise, np.float32(std), out=values[:, :-1, :-1, :-1])
            taps = [_lattice_taps(size, spacing, n, pitch) for size, n in zip(shape, nodes, strict=True)]
            add_scale(expand_rows(values, *taps[2]), *taps[0], *taps[1], total)
        taps = [_voxel_taps(size, pitch) for size in shape]
        # contiguous either way: kernels are compiled for that alone
        self.rows = np.ascontiguousarray(total[..., :-1]) if pitch == 1 else expand_rows(total, *taps[2])
        self.taps = (*taps[0], *taps[1])

    def plane(self) -> NDArray[np.float32]:
        """Return scratch space for `blend_plane`."""
        components, _, nodes, size = self.rows.shape
        return np.empty((components, nodes, size), np.float32)


@kernel
def expand_rows(values, low, weight):
    """Return ``values`` (components, I, J, K'), float32, read at the taps along the last axis: (..., K)."""
    out = np.empty((values.shape[0], values.shape[1], values.shape[2], low.size), np.float32)
    for c in range(values.shape[0]):
        for i in range(values.shape[1]):
            for j in range(values.shape[2]):
                line, row = values[c, i, j], out[c, i, j]
                for k in range(low.size):
                    row[k] = line[low[k]] + (line[low[k] + 1] - line[low[k]]) * weight[k]
    return out


@kernel
def add_scale(rows, low_i, weight_i, low_j, weight_j, total):
    """Add a grid, as `expand_rows` returns it, to ``total`` at the taps along i and j; ``total`` is larger by one."""
    plane = np.empty((rows.shape[0], rows.shape[2], rows.shape[3]), np.float32)
    for i in range(low_i.size):
        blend_plane(rows, low_i, weight_i, i, plane)
        for c in range(rows.shape[0]):
            for j in range(low_j.size):
                near, far, v = plane[c, low_j[j]], plane[c, low_j[j] + 1], weight_j[j]
                out, w = total[c, i, j], np.float32(1) - weight_j[j]
                for k in range(near.size):
                    out[k] += near[k] * w + far[k] * v


@kernel
def blend_plane(rows, low, weight, i, plane):
    """Fill ``plane`` (components, J', K) with the grid at place ``i`` of the first axis."""
    a, u = low[i], weight[i]
    one = np.float32(1)
    for c in range(rows.shape[0]):
        near, far, out = rows[c, a], rows[c, a + 1], plane[c]
        for n in range(out.shape[0]):
            for k in range(out.shape[1]):
                out[n, k] = near[n, k] * (one - u) + far[n, k] * u


@kernel
def blend_row(plane, low, weight, j, row):
    """Fill ``row`` (K,) with the grid at voxel ``j`` of the second axis; ``plane`` is one component's (J', K)."""
    near, far, v = plane[low[j]], plane[low[j] + 1], weight[j]
    w = np.float32(1) - v
    for k in range(row.size):
        row[k] = near[k] * w + far[k] * v
