"""Binary shapes as bits: cropped to their bounding box and cut into 4 x 4 x 4 bricks of one 64-bit word each.

A brick keeps the 64 voxels around a point in one word, so that a rotated walk through a template stays in few cache
lines; a mask takes an eighth of its bytes. The bit of voxel (i, j, k) in its brick is
``(i & 3) << 4 | (j & 3) << 2 | (k & 3)``; bricks are in C order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Shape = tuple[int, int, int]
Box = tuple[slice, slice, slice]


@dataclass(frozen=True)
class Template:
    """One binary shape, packed and cropped, and where it comes from.

    Attributes
    ----------
    name : str
        Unique in its bank.
    words : (n,) uint64
        Bricks; see the module.
    shape : (ni, nj, nk)
        Voxels of the bounding box.
    voxel_count : int
        Voxels that are set.
    source, structure, licence : str
        Provenance: a file, the anatomical name, the terms of use.
    voxel_size_mm : tuple of float
        Voxel size of the source.
    """

    name: str
    words: NDArray[np.uint64]
    shape: Shape
    voxel_count: int
    source: str = ""
    structure: str = ""
    voxel_size_mm: tuple[float, float, float] = (1.0, 1.0, 1.0)
    licence: str = "not stated"


def bricks_of(shape: Shape) -> Shape:
    """Return how many bricks cover ``shape`` along each axis."""
    return -(-shape[0] // 4), -(-shape[1] // 4), -(-shape[2] // 4)


def word_count(shape: Shape) -> int:
    """Return how many words a template of ``shape`` takes."""
    bi, bj, bk = bricks_of(shape)
    return bi * bj * bk


def bounding_box(mask: NDArray[Any]) -> Box | None:
    """Return the slices (i, j, k) that hold all non-zero voxels, None if there are none."""
    # one byte a voxel is read as it lies (any non-zero byte is true); wider ones cost a comparison
    set_voxels: NDArray[np.bool_] = mask.view(np.bool_) if mask.dtype == np.uint8 else mask != 0
    if not set_voxels.size:
        return None
    # the slowest axis of memory is collapsed first, a pass that runs at the speed of memory; the rest is small
    slowest = int(np.argmax(np.abs(set_voxels.strides)))
    plane: NDArray[np.bool_] = np.any(set_voxels, axis=slowest)
    if not plane.any():
        return None
    others = [axis for axis in range(3) if axis != slowest]
    box = [slice(0, n) for n in set_voxels.shape]
    box[others[0]], box[others[1]] = _span(np.any(plane, axis=1)), _span(np.any(plane, axis=0))
    box[slowest] = _span(np.any(set_voxels[tuple(box)], axis=(others[0], others[1])))
    return box[0], box[1], box[2]


def pack(mask: NDArray[Any]) -> tuple[NDArray[np.uint64], Shape]:
    """Crop a mask to its bounding box and pack it.

    Parameters
    ----------
    mask : (i, j, k) ndarray
        Non-zero voxels are the shape.

    Returns
    -------
    words : (n,) uint64
    shape : (ni, nj, nk)
        Of the bounding box; (0, 0, 0) if no voxel is set.
    """
    box = bounding_box(mask)
    if box is None:
        return np.zeros(0, np.uint64), (0, 0, 0)
    cropped = mask[box] != 0
    ni, nj, nk = cropped.shape
    bi, bj, bk = bricks_of((ni, nj, nk))
    padded = np.zeros((4 * bi, 4 * bj, 4 * bk), np.bool_)
    padded[:ni, :nj, :nk] = cropped
    bricks = padded.reshape(bi, 4, bj, 4, bk, 4).transpose(0, 2, 4, 1, 3, 5)
    packed = np.packbits(bricks.reshape(-1), bitorder="little").view("<u8")
    return packed.astype(np.uint64, copy=False), (ni, nj, nk)


def unpack(words: NDArray[np.uint64], shape: Shape) -> NDArray[np.bool_]:
    """Return the (ni, nj, nk) mask that `pack` made ``words`` of."""
    bi, bj, bk = bricks_of(shape)
    octets = np.ascontiguousarray(words).astype("<u8", copy=False).view(np.uint8)
    bits = np.unpackbits(octets, bitorder="little").view(np.bool_).reshape(bi, bj, bk, 4, 4, 4)
    padded = bits.transpose(0, 3, 1, 4, 2, 5).reshape(4 * bi, 4 * bj, 4 * bk)
    return padded[: shape[0], : shape[1], : shape[2]]


def _span(line: NDArray[np.bool_]) -> slice:
    return slice(int(np.argmax(line)), line.size - int(np.argmax(line[::-1])))
