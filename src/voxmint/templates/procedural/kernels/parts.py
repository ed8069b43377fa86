"""Parts of a mask that hang together over faces, found by its runs along the last axis."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from voxmint.templates.procedural.kernels._jit import kernel

Mask = NDArray[np.uint8]
Numbers = NDArray[np.int64]


@kernel
def _root(parent: Numbers, run: int) -> int:
    while parent[run] != run:
        parent[run] = parent[parent[run]]
        run = parent[run]
    return run


@kernel
def _join(runs: Numbers, parent: Numbers, one: int, one_end: int, two: int, two_end: int) -> None:
    """Give the runs of two neighbouring rows that touch one root, the lower of both."""
    while one < one_end and two < two_end:
        if runs[one, 0] < runs[two, 1] and runs[two, 0] < runs[one, 1]:
            a, b = _root(parent, one), _root(parent, two)
            parent[max(a, b)] = min(a, b)
        if runs[one, 1] < runs[two, 1]:
            one += 1
        else:
            two += 1


@kernel
def parts_of(mask: Mask, value: int) -> tuple[Numbers, Numbers, Numbers]:
    """Find the parts of the voxels that have a value.

    Parameters
    ----------
    mask : (i, j, k) uint8 array
    value : int

    Returns
    -------
    runs : (n, 2) int64 array
        First voxel of each run along k, and the one after its last.
    row : (i * j + 1,) int64 array
        Where in ``runs`` those of each row (i, j) begin.
    part : (n,) int64 array
        The first run of the part that each run belongs to.
    """
    ni, nj, nk = mask.shape
    row = np.zeros(ni * nj + 1, np.int64)
    for i in range(ni):
        for j in range(nj):
            count, before = 0, False
            for k in range(nk):
                here = mask[i, j, k] == value
                if here and not before:
                    count += 1
                before = here
            row[i * nj + j + 1] = row[i * nj + j] + count
    runs = np.empty((row[ni * nj], 2), np.int64)
    part = np.arange(row[ni * nj])
    for i in range(ni):
        for j in range(nj):
            at = i * nj + j
            if row[at] == row[at + 1]:
                continue
            n, before = row[at], False
            for k in range(nk):
                here = mask[i, j, k] == value
                if here and not before:
                    runs[n, 0] = k
                elif before and not here:
                    runs[n, 1] = k
                    n += 1
                before = here
            if before:
                runs[n, 1] = nk
            if j > 0:
                _join(runs, part, row[at - 1], row[at], row[at], row[at + 1])
            if i > 0:
                _join(runs, part, row[at - nj], row[at - nj + 1], row[at], row[at + 1])
    for n in range(part.shape[0]):
        part[n] = _root(part, n)
    return runs, row, part


@kernel
def keep_parts(mask: Mask, least: int) -> int:
    """Clear all parts of less than ``least`` voxels, or, if it is 0, all but the largest (of equals the first).

    Parameters
    ----------
    mask : (i, j, k) uint8 array
        Changed in place.
    least : int

    Returns
    -------
    int
        How many voxels are left.
    """
    runs, row, part = parts_of(mask, 1)
    size = np.zeros(part.shape[0], np.int64)
    for n in range(part.shape[0]):
        size[part[n]] += runs[n, 1] - runs[n, 0]
    largest = 0
    for n in range(part.shape[0]):
        if size[n] > size[largest]:
            largest = n
    left = 0
    for at in range(row.shape[0] - 1):
        i, j = at // mask.shape[1], at % mask.shape[1]
        for n in range(row[at], row[at + 1]):
            if size[part[n]] >= least if least > 0 else part[n] == largest:
                left += runs[n, 1] - runs[n, 0]
            else:
                mask[i, j, runs[n, 0] : runs[n, 1]] = 0
    return left


@kernel
def fill_holes(mask: Mask) -> None:
    """Set all voxels, in place, from which no way over faces leads out of an (i, j, k) uint8 mask."""
    ni, nj, nk = mask.shape
    runs, row, part = parts_of(mask, 0)
    open_ = np.zeros(part.shape[0], np.bool_)
    for at in range(row.shape[0] - 1):
        i, j = at // nj, at % nj
        border = i == 0 or j == 0 or i == ni - 1 or j == nj - 1
        for n in range(row[at], row[at + 1]):
            if border or runs[n, 0] == 0 or runs[n, 1] == nk:
                open_[part[n]] = True
    for at in range(row.shape[0] - 1):
        for n in range(row[at], row[at + 1]):
            if not open_[part[n]]:
                mask[at // nj, at % nj, runs[n, 0] : runs[n, 1]] = 1
