"""Trilinear upsampling of coarse noise grids, read row by row as the volume is made: the full field is never stored.

A grid of spacing s has ``ceil(size / s)`` nodes; voxel o reads it at ``(o + 0.5) / s - 0.5``, clamped to the grid: the
half-pixel convention, so that a spacing that divides the size gives equal cells.
"""

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from voxmint.pairs.kernels._jit import kernel
from voxmint.pairs.kernels.noise import normal_field

Taps = tuple[NDArray[np.int32], NDArray[np.float32]]


def grid_size(size: int, spacing: float) -> int:
    """Return the number of grid nodes that cover ``size`` voxels."""
    return max(1, int(np.ceil(size / spacing - 1e-9)))


@lru_cache(maxsize=128)
def linear_taps(size: int, scale: float, nodes: int) -> Taps:
    """Return for each of ``size`` voxels the lower node and the upper node's weight, at ``(o + 0.5) * scale - 0.5``.

    Kept for the next volume of the same size: not to be changed.
    """
    position = np.clip((np.arange(size) + 0.5) * scale - 0.5, 0, nodes - 1)
    low = np.minimum(np.floor(position), max(nodes - 2, 0)).astype(np.int32)
    return low, (position - low).astype(np.float32)


class NoiseGrid:
    """One scale of noise over a volume: ``components`` coarse grids, upsampled along the last axis already.

    Parameters
    ----------
    key : int
        Key of the noise field.
    shape : tuple of int
        Shape (I, J, K) of the volume.
    spacing : float
        Distance of the nodes, voxels.
    std : float
        Standard deviation of the node values.
    components : int
        Number of independent grids.

    Attributes
    ----------
    rows : float32 (components, I' + 1, J' + 1, K)
        Node values along i and j; the last of each is never weighted, so that a kernel reads pairs without a test.
    taps : tuple
        Lower node (int32) and the upper one's weight (float32) along i, then along j.
    """

    def __init__(self, key: int, shape: tuple[int, ...], spacing: float, std: float, components: int = 1) -> None:
        nodes = [grid_size(size, spacing) for size in shape]
        values = np.zeros((components, *(n + 1 for n in nodes)), np.float32)
        noise = normal_field(key, components * math.prod(nodes)).reshape(components, *nodes)
        np.multiply(noise, np.float32(std), out=values[:, :-1, :-1, :-1])
        taps = [linear_taps(size, 1.0 / spacing, n) for size, n in zip(shape, nodes, strict=True)]
        low, weight = taps[2]
        self.rows = values[..., low] + (values[..., low + 1] - values[..., low]) * weight
        self.taps = (*taps[0], *taps[1])

    def plane(self) -> NDArray[np.float32]:
        """Return scratch space for `blend_plane`."""
        components, _, nodes, size = self.rows.shape
        return np.empty((components, nodes, size), np.float32)


@kernel
def blend_plane(rows, low, weight, i, plane):
    """Fill ``plane`` (components, J' + 1, K) with the grid at voxel ``i`` of the first axis."""
    a, u = low[i], weight[i]
    one = np.float32(1)
    for c in range(rows.shape[0]):
        near, far, out = rows[c, a], rows[c, a + 1], plane[c]
        for n in range(out.shape[0]):
            for k in range(out.shape[1]):
                out[n, k] = near[n, k] * (one - u) + far[n, k] * u


@kernel
def add_row(plane, low, weight, j, row):
    """Add the grid at voxel ``j`` of the second axis to ``row`` (K,); ``plane`` is one component's (J' + 1, K)."""
    near, far, v = plane[low[j]], plane[low[j] + 1], weight[j]
    w = np.float32(1) - v
    for k in range(row.size):
        row[k] += near[k] * w + far[k] * v
