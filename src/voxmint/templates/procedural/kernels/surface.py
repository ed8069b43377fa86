"""Noise on a field, and the voxels inside its surface."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from voxmint.templates.procedural.kernels._jit import Array, kernel


@kernel
def _noise(lattice: Array, x: float, y: float, z: float) -> float:
    """Value noise: a lattice of values at integer points, joined by smooth steps; positions beyond it are clamped."""
    i = min(max(int(np.floor(x)), 0), lattice.shape[0] - 2)
    j = min(max(int(np.floor(y)), 0), lattice.shape[1] - 2)
    k = min(max(int(np.floor(z)), 0), lattice.shape[2] - 2)
    u, v, w = min(max(x - i, 0.0), 1.0), min(max(y - j, 0.0), 1.0), min(max(z - k, 0.0), 1.0)
    u, v, w = u * u * (3.0 - 2.0 * u), v * v * (3.0 - 2.0 * v), w * w * (3.0 - 2.0 * w)
    value: float = _trilinear(lattice, i, j, k, u, v, w)
    return value


@kernel
def _trilinear(f: Array, i: int, j: int, k: int, u: float, v: float, w: float) -> float:
    a = f[i, j, k] + w * (f[i, j, k + 1] - f[i, j, k])
    b = f[i, j + 1, k] + w * (f[i, j + 1, k + 1] - f[i, j + 1, k])
    c = f[i + 1, j, k] + w * (f[i + 1, j, k + 1] - f[i + 1, j, k])
    d = f[i + 1, j + 1, k] + w * (f[i + 1, j + 1, k + 1] - f[i + 1, j + 1, k])
    a, c = a + v * (b - a), c + v * (d - c)
    value: float = a + u * (c - a)
    return value


@kernel
def _sample(field: Array, a: float, b: float, c: float) -> float:
    """Trilinear value at node coordinates, clamped to the field."""
    i = min(max(int(np.floor(a)), 0), field.shape[0] - 2)
    j = min(max(int(np.floor(b)), 0), field.shape[1] - 2)
    k = min(max(int(np.floor(c)), 0), field.shape[2] - 2)
    u, v, w = min(max(a - i, 0.0), 1.0), min(max(b - j, 0.0), 1.0), min(max(c - k, 0.0), 1.0)
    value: float = _trilinear(field, i, j, k, u, v, w)
    return value


@kernel
def warp(field: Array, step: float, lattices: Array, spacing: float, amplitude: float) -> Array:
    """Return the field read at displaced positions: what was straight and round becomes irregular.

    Parameters
    ----------
    field : (a, b, c) array
    step : float
    lattices : (3, n, n, n) array
        Displacement per axis, values in [-1, 1], at points ``spacing`` voxels apart.
    spacing, amplitude : float
        Voxels.
    """
    out = field.copy()
    far = 1.8 * amplitude  # sqrt(3) times the amplitude is the longest displacement
    for i in range(field.shape[0]):
        x = i * step / spacing
        for j in range(field.shape[1]):
            y = j * step / spacing
            for k in range(field.shape[2]):
                if abs(field[i, j, k]) > far:
                    continue
                z = k * step / spacing
                a = i + amplitude * _noise(lattices[0], x, y, z) / step
                b = j + amplitude * _noise(lattices[1], x, y, z) / step
                c = k + amplitude * _noise(lattices[2], x, y, z) / step
                out[i, j, k] = _sample(field, a, b, c)
    return out


@kernel
def render(
    field: Array, step: float, mask: NDArray[np.uint8], lattice: Array, spacing: float, amplitude: float,
    wall: float, plane: Array,
) -> None:  # fmt: skip
    """Set the voxels inside a field's surface, which bumps make uneven.

    Parameters
    ----------
    field : (a, b, c) array
    step : float
    mask : (i, j, k) uint8 array
        Of zeros; 1 is written inside.
    lattice : (n, n, n) array
        Bumps in [-1, 1] at points ``spacing`` voxels apart, times ``amplitude`` voxels.
    wall : float
        Thickness of a hollow body's wall; 0 for a solid one.
    plane : (4,) array
        Normal and offset: what lies beyond is cut off. All zero cuts nothing.
    """
    near, stride = 2.0 * step + amplitude, int(step)
    for i in range(mask.shape[0]):
        for j in range(mask.shape[1]):
            beyond = plane[0] * i + plane[1] * j - plane[3]
            a, b = i // stride, j // stride
            for c in range((mask.shape[2] + stride - 1) // stride):
                node = field[a, b, c]
                if node > near:
                    continue  # a distance changes by no more than the way to the node
                for k in range(c * stride, min((c + 1) * stride, mask.shape[2])):
                    if wall > 0.0 or node > -near:
                        value = node if stride == 1 else _sample(field, i / step, j / step, k / step)
                        if abs(value) <= amplitude or (wall > 0.0 and abs(value + wall) <= amplitude):
                            value += amplitude * _noise(lattice, i / spacing, j / spacing, k / spacing)
                        if value >= 0.0 or (wall > 0.0 and value <= -wall):
                            continue
                    if beyond + plane[2] * k <= 0.0:
                        mask[i, j, k] = 1
