"""Write affinely moved templates into a label volume, last template first, each voxel once.

A template is read through bricks of 4x4x4 voxels, 64 bits each; it repeats periodically with its padded size.
Coordinates are fixed-point integers with 32 fractional bits, stepped by addition: exact, with no division
and no rounding mode.
"""

import numpy as np

from voxmint.pairs.kernels._jit import inline, kernel

UNSET = np.uint8(255)
BLOCK = 8
FRACTION_BITS = 32
_HALF = np.int64(1) << np.int64(31)
_SHIFT = np.int64(32)
_MASK3 = np.int64(3)
_TWO, _FOUR = np.int64(2), np.int64(4)


@kernel
def coarse_occupancy(words, shape, before, occupied):
    """Mark which cells of 8^3 voxels of the padded template hold a set voxel.

    Parameters
    ----------
    words : uint64 (bricks,)
        Bricks in C order over ``ceil(shape / 4)``.
    shape, before : int64 (3,)
        Size of the template, and zeros before it.
    occupied : uint8 (ceil(padded / 8) per axis)
        Overwritten.
    """
    occupied[:] = 0
    ni, nj, nk = (shape[0] + 3) >> 2, (shape[1] + 3) >> 2, (shape[2] + 3) >> 2
    for bi in range(ni):
        i0, i1 = (4 * bi + before[0]) >> 3, (min(4 * bi + 3, shape[0] - 1) + before[0]) >> 3
        for bj in range(nj):
            j0, j1 = (4 * bj + before[1]) >> 3, (min(4 * bj + 3, shape[1] - 1) + before[1]) >> 3
            for bk in range(nk):
                if words[(bi * nj + bj) * nk + bk] != 0:
                    k0, k1 = (4 * bk + before[2]) >> 3, (min(4 * bk + 3, shape[2] - 1) + before[2]) >> 3
                    for i in range(i0, i1 + 1):
                        for j in range(j0, j1 + 1):
                            for k in range(k0, k1 + 1):
                                occupied[i, j, k] = 1


@inline
def _cells(low, high, period):
    """Return first cell and number of cells that the fixed-point interval [low, high] meets on a ring of ``period``."""
    first = (low >> _SHIFT) % period
    last = first + (high >> _SHIFT) - (low >> _SHIFT)
    total = (period + 7) >> 3
    if last < period:
        return first >> 3, (last >> 3) - (first >> 3) + 1
    return first >> 3, min(total - (first >> 3) + ((last - period) >> 3) + 1, total)


@inline
def _next(cell, total):
    return cell + 1 if cell + 1 < total else 0


@inline
def _step(value, step, period):
    """Move along a ring by a step from 0 up to the ring's length."""
    value += step
    return value - period if value >= period else value


@kernel
def box_meets(occupied, padded, low, high):
    """Tell whether the box [low, high] (fixed point, (3,)) on the periodic template meets an occupied cell."""
    total_i, total_j, total_k = occupied.shape
    i, count_i = _cells(low[0], high[0], padded[0])
    first_j, count_j = _cells(low[1], high[1], padded[1])
    first_k, count_k = _cells(low[2], high[2], padded[2])
    for _ in range(count_i):
        j = first_j
        for _ in range(count_j):
            k = first_k
            for _ in range(count_k):
                if occupied[i, j, k]:
                    return True
                k = _next(k, total_k)
            j = _next(j, total_j)
        i = _next(i, total_i)
    return False


@kernel
def write_template(labels, label, words, shape, before, padded, matrix, offset, occupied, unset):
    """Write ``label`` where ``labels`` is unset and the moved template is set.

    Parameters
    ----------
    labels : uint8 (S, S, S)
        Label volume, `UNSET` where no later template lies; changed in place.
    label : uint8
        Label of this template.
    words, shape, before
        As for `coarse_occupancy`.
    padded : int64 (3,)
        Size of the template with its padding.
    matrix, offset : int64 (3, 3) and (3,)
        Fixed-point affine map from output voxel to padded template, 32 fractional bits.
    occupied : uint8
        As filled by `coarse_occupancy`.
    unset : int32 (blocks, blocks, blocks)
        Voxels still unset in each block of 8^3; changed in place.
    """
    side, blocks = labels.shape[0], unset.shape[0]
    start, low, high = np.empty(3, np.int64), np.empty(3, np.int64), np.empty(3, np.int64)
    steps = np.empty((3, 3), np.int64)
    for axis in range(3):
        for a in range(3):
            steps[axis, a] = matrix[axis, a] % (padded[axis] << _SHIFT)
    for bi in range(blocks):
        size_i = min(BLOCK, side - bi * BLOCK)
        for bj in range(blocks):
            size_j = min(BLOCK, side - bj * BLOCK)
            for bk in range(blocks):
                if unset[bi, bj, bk] == 0:
                    continue
                size_k = min(BLOCK, side - bk * BLOCK)
                for axis in range(3):
                    along_i, along_j, along_k = matrix[axis, 0], matrix[axis, 1], matrix[axis, 2]
                    value = offset[axis] + _HALF + (along_i * bi + along_j * bj + along_k * bk) * BLOCK
                    reach_i, reach_j, reach_k = along_i * (size_i - 1), along_j * (size_j - 1), along_k * (size_k - 1)
                    start[axis] = value
                    low[axis] = value + min(reach_i, 0) + min(reach_j, 0) + min(reach_k, 0)
                    high[axis] = value + max(reach_i, 0) + max(reach_j, 0) + max(reach_k, 0)
                if box_meets(occupied, padded, low, high):
                    i, j, k = bi * BLOCK, bj * BLOCK, bk * BLOCK
                    block = labels[i : i + size_i, j : j + size_j, k : k + size_k]
                    unset[bi, bj, bk] -= _write_block(block, label, words, shape, before, padded, steps, start)


@kernel
def _write_block(block, label, words, shape, before, padded, steps, start):
    """Write one block, whose first voxel reads the template at ``start``; return the voxels written.

    ``steps`` (3, 3) is the matrix brought into [0, period), which on a ring is the same.
    """
    period_x, period_y, period_z = padded[0] << _SHIFT, padded[1] << _SHIFT, padded[2] << _SHIFT
    before_x, before_y, before_z = before[0], before[1], before[2]
    shape_x, shape_y, shape_z = shape[0], shape[1], shape[2]
    bricks_y, bricks_z = (shape_y + 3) >> 2, (shape_z + 3) >> 2
    step_x, step_y, step_z = steps[0, 2], steps[1, 2], steps[2, 2]
    plane_x, plane_y, plane_z = start[0] % period_x, start[1] % period_y, start[2] % period_z
    written = np.int32(0)
    for i in range(block.shape[0]):
        row_x, row_y, row_z = plane_x, plane_y, plane_z
        for j in range(block.shape[1]):
            x, y, z = row_x, row_y, row_z
            for k in range(block.shape[2]):
                if block[i, j, k] == UNSET:
                    a, b, c = (x >> _SHIFT) - before_x, (y >> _SHIFT) - before_y, (z >> _SHIFT) - before_z
                    if 0 <= a < shape_x and 0 <= b < shape_y and 0 <= c < shape_z:
                        word = words[((a >> _TWO) * bricks_y + (b >> _TWO)) * bricks_z + (c >> _TWO)]
                        bit = ((a & _MASK3) << _FOUR) | ((b & _MASK3) << _TWO) | (c & _MASK3)
                        if (word >> np.uint64(bit)) & np.uint64(1):
                            block[i, j, k] = label
                            written += np.int32(1)
                x, y, z = _step(x, step_x, period_x), _step(y, step_y, period_y), _step(z, step_z, period_z)
            row_x = _step(row_x, steps[0, 1], period_x)
            row_y = _step(row_y, steps[1, 1], period_y)
            row_z = _step(row_z, steps[2, 1], period_z)
        plane_x = _step(plane_x, steps[0, 0], period_x)
        plane_y = _step(plane_y, steps[1, 0], period_y)
        plane_z = _step(plane_z, steps[2, 0], period_z)
    return written
