"""Write affinely moved templates into a label volume, last template first, each voxel once.

A template is read through bricks of 4x4x4 voxels, 64 bits each; it repeats periodically with its padded size.
Coordinates are fixed-point integers with 32 fractional bits, stepped by addition: exact, with no division
and no rounding mode.
"""

import numpy as np

from voxmint.pairs.engines.cpu.kernels._jit import inline, kernel

UNSET = np.uint8(255)
BLOCK, PART = 8, 4
"""Voxels along an edge of the blocks, and of their parts, that are left out when they meet nothing."""
FRACTION_BITS = 32
_HALF = np.int64(1) << np.int64(31)
_SHIFT, _BRICK_SHIFT = np.int64(32), np.int64(34)
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
    labels : uint8 (I, J, K)
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
    unset : int32 (ceil(size / 8) per axis)
        Voxels still unset in each block of 8^3; changed in place.
    """
    ni, nj, nk = labels.shape
    blocks_i, blocks_j, blocks_k = unset.shape
    start, low, high = np.empty(3, np.int64), np.empty(3, np.int64), np.empty(3, np.int64)
    steps, reach, near = np.empty((3, 3), np.int64), np.zeros((2, 3), np.int64), np.zeros((2, 3), np.int64)
    for axis in range(3):
        for a in range(3):
            along = matrix[axis, a]
            steps[axis, a] = along % (padded[axis] << _SHIFT)
            reach[0, axis] += min(along * (BLOCK - 1), 0)
            reach[1, axis] += max(along * (BLOCK - 1), 0)
            near[0, axis] += min(along * (PART - 1), 0)
            near[1, axis] += max(along * (PART - 1), 0)
    for bi in range(blocks_i):
        for bj in range(blocks_j):
            for bk in range(blocks_k):
                if unset[bi, bj, bk] == 0:
                    continue
                i, j, k = bi * BLOCK, bj * BLOCK, bk * BLOCK
                for axis in range(3):
                    start[axis] = offset[axis] + _HALF + matrix[axis, 0] * i + matrix[axis, 1] * j + matrix[axis, 2] * k
                    low[axis], high[axis] = start[axis] + reach[0, axis], start[axis] + reach[1, axis]
                if not box_meets(occupied, padded, low, high):
                    continue
                block = labels[i : min(i + BLOCK, ni), j : min(j + BLOCK, nj), k : min(k + BLOCK, nk)]
                if _to_template(low, high, before, padded, start):
                    unset[bi, bj, bk] -= _write_parts(block, label, words, shape, matrix, near, start)
                else:
                    unset[bi, bj, bk] -= _write_wrapped(block, label, words, shape, before, padded, steps, start)


@kernel
def _to_template(low, high, before, padded, start):
    """Bring ``start`` from the ring to coordinates of the template; leave it if the box [low, high] goes round."""
    for axis in range(3):
        first = (low[axis] >> _SHIFT) // padded[axis] * padded[axis]
        if (high[axis] >> _SHIFT) - first >= padded[axis]:
            return False
    for axis in range(3):
        start[axis] -= ((low[axis] >> _SHIFT) // padded[axis] * padded[axis] + before[axis]) << _SHIFT
    return True


@kernel
def _write_parts(block, label, words, shape, matrix, near, start):
    """Write a block that reads one period alone, without the parts that meet only empty bricks; return voxels written.

    ``start`` is what its first voxel reads, in fixed-point coordinates of the template; ``near`` (2, 3) how far below
    and above that of its first voxel a part reads.
    """
    bricks_x, bricks_y, bricks_z = (shape[0] + 3) >> 2, (shape[1] + 3) >> 2, (shape[2] + 3) >> 2
    written = np.int32(0)
    for i in range(0, block.shape[0], PART):
        for j in range(0, block.shape[1], PART):
            for k in range(0, block.shape[2], PART):
                x = start[0] + matrix[0, 0] * i + matrix[0, 1] * j + matrix[0, 2] * k
                y = start[1] + matrix[1, 0] * i + matrix[1, 1] * j + matrix[1, 2] * k
                z = start[2] + matrix[2, 0] * i + matrix[2, 1] * j + matrix[2, 2] * k
                if _bricks_meet(
                    words,
                    bricks_y,
                    bricks_z,
                    (max((x + near[0, 0]) >> _BRICK_SHIFT, 0), min((x + near[1, 0]) >> _BRICK_SHIFT, bricks_x - 1)),
                    (max((y + near[0, 1]) >> _BRICK_SHIFT, 0), min((y + near[1, 1]) >> _BRICK_SHIFT, bricks_y - 1)),
                    (max((z + near[0, 2]) >> _BRICK_SHIFT, 0), min((z + near[1, 2]) >> _BRICK_SHIFT, bricks_z - 1)),
                ):
                    part = block[i : i + PART, j : j + PART, k : k + PART]
                    written += _write_part(part, label, words, shape, matrix, x, y, z)
    return written


@inline
def _bricks_meet(words, bricks_y, bricks_z, range_x, range_y, range_z):
    for x in range(range_x[0], range_x[1] + 1):
        for y in range(range_y[0], range_y[1] + 1):
            row = (x * bricks_y + y) * bricks_z
            for z in range(range_z[0], range_z[1] + 1):
                if words[row + z] != 0:
                    return True
    return False


@kernel
def _write_part(part, label, words, shape, matrix, x0, y0, z0):
    """Write a few voxels; coordinates below 0 become large ones when read without their sign, and are outside."""
    shape_x, shape_y, shape_z = np.uint64(shape[0]), np.uint64(shape[1]), np.uint64(shape[2])
    bricks_y, bricks_z = (shape[1] + 3) >> 2, (shape[2] + 3) >> 2
    written = np.int32(0)
    for i in range(part.shape[0]):
        for j in range(part.shape[1]):
            x = x0 + matrix[0, 0] * i + matrix[0, 1] * j
            y = y0 + matrix[1, 0] * i + matrix[1, 1] * j
            z = z0 + matrix[2, 0] * i + matrix[2, 1] * j
            for k in range(part.shape[2]):
                if part[i, j, k] == UNSET:
                    a, b, c = x >> _SHIFT, y >> _SHIFT, z >> _SHIFT
                    if np.uint64(a) < shape_x and np.uint64(b) < shape_y and np.uint64(c) < shape_z:
                        word = words[((a >> _TWO) * bricks_y + (b >> _TWO)) * bricks_z + (c >> _TWO)]
                        bit = ((a & _MASK3) << _FOUR) | ((b & _MASK3) << _TWO) | (c & _MASK3)
                        if (word >> np.uint64(bit)) & np.uint64(1):
                            part[i, j, k] = label
                            written += np.int32(1)
                x += matrix[0, 2]
                y += matrix[1, 2]
                z += matrix[2, 2]
    return written


@kernel
def _write_wrapped(block, label, words, shape, before, padded, steps, start):
    """Write a block that reads round the ring, its first voxel at ``start``; return the voxels written.

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
