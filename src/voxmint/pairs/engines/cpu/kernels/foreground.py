"""The foreground: a ball read through a displacement field, and its envelope."""

import numpy as np
from numpy.typing import NDArray

from voxmint.pairs.engines.cpu.kernels._jit import inline, kernel
from voxmint.pairs.engines.cpu.kernels.bits import Bits, pack_row
from voxmint.pairs.engines.cpu.kernels.upsample import blend_plane, blend_row


@inline
def reflect(index, size):
    """Return ``index`` brought into [0, size) by half-sample symmetric reflection (-1 -> 0, size -> size - 1)."""
    if 0 <= index < size:
        return index
    index = index % (np.int32(2) * size)
    return index if index < size else np.int32(2) * size - np.int32(1) - index


@inline
def _fold(index, size):
    """Reflect once, which is enough for -size <= index < 2 * size; no branch, so that rows are vectorised."""
    index = -np.int32(1) - index if index < 0 else index
    return np.int32(2) * size - np.int32(1) - index if index >= size else index


@inline
def _is_far(index, size):
    return np.int32(index < -size) | np.int32(index >= np.int32(2) * size)


@kernel
def displaced_row(i, j, sizes, centre, squared_radius, rows, mask):
    """Fill ``mask`` (uint8 (K,)), the row at voxel (i, j): 1 where the displaced position lies in the ball.

    Parameters
    ----------
    sizes, centre : int32 (3,)
        Shape of the volume, and centre of the ball.
    rows : float32 (3, K)
        Displacement of the row's voxels, in voxels, per axis.
    """
    x, y, half = np.float32(i), np.float32(j), np.float32(0.5)
    along_i, along_j, along_k = rows[0], rows[1], rows[2]
    size_i, size_j, size_k = sizes[0], sizes[1], sizes[2]
    centre_i, centre_j, centre_k = centre[0], centre[1], centre[2]
    far = np.int32(0)
    for k in range(mask.size):
        a = np.int32(np.floor(x + along_i[k] + half))
        b = np.int32(np.floor(y + along_j[k] + half))
        c = np.int32(np.floor(np.float32(k) + along_k[k] + half))
        far |= _is_far(a, size_i) | _is_far(b, size_j) | _is_far(c, size_k)
        a, b, c = _fold(a, size_i) - centre_i, _fold(b, size_j) - centre_j, _fold(c, size_k) - centre_k
        mask[k] = np.uint8(a * a + b * b + c * c <= squared_radius)
    if far:
        _displaced_far(x + half, y + half, sizes, centre, squared_radius, rows, mask)


@kernel
def _displaced_far(x, y, sizes, centre, squared_radius, rows, mask):
    """Do the same for displacements of any length."""
    for k in range(mask.size):
        a = reflect(np.int32(np.floor(x + rows[0, k])), sizes[0]) - centre[0]
        b = reflect(np.int32(np.floor(y + rows[1, k])), sizes[1]) - centre[1]
        c = reflect(np.int32(np.floor(np.float32(k) + rows[2, k] + np.float32(0.5))), sizes[2]) - centre[2]
        mask[k] = np.uint8(a * a + b * b + c * c <= squared_radius)


@kernel
def displaced_ball(field, low_i, weight_i, low_j, weight_j, plane, centre, radius, size, bits):
    """Fill ``bits`` with the ball of ``radius`` around ``centre`` (int32 (3,)), moved by a noise field.

    Parameters
    ----------
    field : float32 (3, I', J', K)
        Displacement, voxels, as `voxmint.pairs.engines.cpu.kernels.upsample.NoiseField.rows`.
    low_i, weight_i, low_j, weight_j
        Its `taps`.
    plane : float32 (3, J', K)
        Scratch.
    size : int
        K, voxels.
    bits : uint64 (I, J, ceil(K / 64))
        Overwritten.
    """
    ni, nj, words = bits.shape
    rows = np.empty((3, size), np.float32)
    mask = np.zeros(64 * words, np.uint8)
    sizes = np.array([ni, nj, size], np.int32)
    squared_radius = np.int32(radius * radius)
    for i in range(ni):
        blend_plane(field, low_i, weight_i, i, plane)
        for j in range(nj):
            for axis in range(3):
                blend_row(plane[axis], low_j, weight_j, j, rows[axis])
            displaced_row(i, j, sizes, centre, squared_radius, rows, mask[:size])
            pack_row(mask, bits[i, j])


def ball_rows(radius: int) -> NDArray[np.int64]:
    """Return the half length along k of a ball's rows at each (i, j) of its bounding square, -1 outside."""
    offset = np.arange(-radius, radius + 1)
    rest = radius * radius - offset[:, None] ** 2 - offset**2
    return np.where(rest >= 0, np.floor(np.sqrt(np.maximum(rest, 0))), -1).astype(np.int64)


@kernel
def _widen_rows(widened):
    """Fill ``widened[:, n]`` with the rows of ``widened[:, 0]`` dilated by n voxels along k."""
    words = widened.shape[4]
    one, last = np.uint64(1), np.uint64(63)
    for c in range(2):
        for n in range(1, widened.shape[1]):
            for i in range(widened.shape[2]):
                for j in range(widened.shape[3]):
                    before, after = widened[c, n - 1, i, j], widened[c, n, i, j]
                    for w in range(words):
                        bits = before[w] | (before[w] << one) | (before[w] >> one)
                        if w > 0:
                            bits |= before[w - 1] >> last
                        if w + 1 < words:
                            bits |= before[w + 1] << last
                        after[w] = bits


@kernel
def _envelope(rows, widened, reach, result):
    """Mark voxels of one class that the other class reaches when dilated by the ball."""
    ni, nj, words = result.shape
    radius = reach.shape[0] // 2
    near = np.empty((2, words), np.uint64)
    for i in range(ni):
        for j in range(nj):
            near[:] = 0
            for a in range(max(i - radius, 0), min(i + radius + 1, ni)):
                for b in range(max(j - radius, 0), min(j + radius + 1, nj)):
                    length = reach[a - i + radius, b - j + radius]
                    if length >= 0:
                        for c in range(2):
                            for w in range(words):
                                near[c, w] |= widened[c, length, a, b, w]
            for w in range(words):
                result[i, j, w] = (near[0, w] & rows[1, i, j, w]) | (near[1, w] & rows[0, i, j, w])


def envelope(bits: Bits, size: int, radius: int) -> Bits:
    """Return the voxels within ``radius`` of the mask's surface: dilated by a ball and not eroded by it.

    A voxel belongs if a voxel of the other class lies within ``radius`` (Euclidean, inclusive); the outside of the
    volume belongs to neither class. This is scikit-image's ``binary_dilation & ~binary_erosion`` with ``ball(radius)``.

    Parameters
    ----------
    bits : uint64 (I, J, ceil(size / 64))
        As `voxmint.pairs.engines.cpu.kernels.bits.pack` returns them.
    size : int
        Voxels along the last axis.
    radius : int
        1 to 16, voxels.
    """
    rows = np.empty((2, *bits.shape), np.uint64)
    rows[1] = bits
    np.invert(bits, out=rows[0])
    if size % 64:
        rows[0, ..., -1] &= np.uint64((1 << size % 64) - 1)
    widened = np.empty((2, radius + 1, *bits.shape), np.uint64)
    result = np.empty_like(bits)
    widened[:, 0] = rows
    _widen_rows(widened)
    _envelope(rows, widened, ball_rows(radius), result)
    return result
