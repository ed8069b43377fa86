"""Crops the plain way: every voxel of a sample is placed in nm with exact fractions and looked up, axis by axis."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import floor, prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxmint.instances.recipe import InstanceRecipe
from voxmint.instances.sampler import InstanceSampler
from voxmint.instances.table.table import Instance
from voxmint.volumes.layer import Layer
from voxmint.volumes.opening import open_layer

Triple = tuple[int, int, int]


@dataclass(frozen=True)
class Volume:
    """An array (x, y, z) with its place: what a layer should be equal to."""

    array: NDArray[Any]
    size: tuple[Any, Any, Any]
    offset: Triple = (0, 0, 0)

    def layer(self, axes: str = "xyz") -> Layer:
        stored = np.ascontiguousarray(self.array.transpose(["xyz".index(axis) for axis in axes]))
        return open_layer(stored, voxel_size_nm=self.size, offset=self.offset, axes=axes)


def coordinate_volumes(shape: Triple, size: Any, offset: Triple = (0, 0, 0)) -> list[Volume]:
    """Return three volumes whose voxels hold their own index along x, y and z, counted from the first voxel."""
    return [
        Volume(np.broadcast_to(np.arange(n, dtype=np.uint8).reshape(s), shape).copy(), size, offset)
        for n, s in zip(shape, ((-1, 1, 1), (1, -1, 1), (1, 1, -1)), strict=True)
    ]


def sampler(
    recipe: InstanceRecipe, source: Volume, target: Volume, row: Instance, axes: str = "xyz"
) -> InstanceSampler:
    return InstanceSampler(recipe, source.layer(axes), target.layer(axes), [row])


def plain_start(centre_nm: Any, crop: Triple, target_size: Any, size: Any) -> list[int]:
    """Return the first voxel (x, y, z) of the sample: the one nearest to where the crop of target voxels begins."""
    start = []
    for c, n, t, s in zip(centre_nm, crop, target_size, size, strict=True):
        first = floor(frac(c) / frac(t)) - n // 2
        start.append(floor(first * frac(t) / frac(s) + Fraction(1, 2)))
    return start


def plain_lookup(volume: Volume, start: list[int], shape: Triple, size: Any) -> tuple[list[list[list[int]]], list[Any]]:
    """Return for each axis and voxel of the sample the voxels of ``volume`` it shows, and whether it is real.

    The one that holds its centre; of a finer volume, all whose centres it holds.
    """
    shown, real = [], []
    for axis in range(3):
        s, v = frac(size[axis]), frac(volume.size[axis])
        low, count = volume.offset[axis], volume.array.shape[axis]
        one_axis, inside = [], []
        for w in range(start[axis], start[axis] + shape[axis]):
            centre = (w + Fraction(1, 2)) * s
            inside.append(low * v <= centre < (low + count) * v)
            if v >= s:
                held = [floor(centre / v) - low]
            else:
                near = floor(centre / v) - low
                reach = range(near - int(s / v) - 2, near + int(s / v) + 3)
                held = [n for n in reach if w * s <= (n + low + Fraction(1, 2)) * v < (w + 1) * s]
            one_axis.append([n for n in held if 0 <= n < count])
        shown.append(one_axis)
        real.append(np.array(inside))
    return shown, real


def plain_mask(
    mask: NDArray[np.bool_], volume: Volume, start: list[int], shape: Triple, size: Any, downsampling: str = "majority"
) -> NDArray[np.bool_]:
    """Return a mask (x, y, z) over the whole volume on the voxels of a sample, (z, y, x)."""
    shown, real = plain_lookup(volume, start, shape, size)
    most, share, held_by_all = np.zeros(shape, bool), np.zeros(shape), 0
    for x, y, z in np.ndindex(*shape):
        held = (shown[0][x], shown[1][y], shown[2][z])
        if real[0][x] and real[1][y] and real[2][z] and all(held):
            there = mask[np.ix_(*held)]
            share[x, y, z] = there.mean()
            held_by_all += there.sum()
            most[x, y, z] = 2 * there.sum() > there.size
            if 2 * there.sum() == there.size:
                centre = [(s + w + Fraction(1, 2)) * frac(n) for s, w, n in zip(start, (x, y, z), size, strict=True)]
                at = [floor(c / frac(n)) - o for c, n, o in zip(centre, volume.size, volume.offset, strict=True)]
                most[x, y, z] = mask[at[0], at[1], at[2]]
    out = most
    if downsampling == "any" or not share.any():
        out = share > 0
    elif not most.any():
        shrinks = [frac(s) / frac(v) for s, v in zip(size, volume.size, strict=True) if frac(s) > frac(v)]
        number = max(1, floor(Fraction(int(held_by_all)) / prod(shrinks) + Fraction(1, 2)))
        out = (share >= sorted(share.ravel())[-min(number, share.size)]) & (share > 0)
    return out.transpose(2, 1, 0)


def plain_image(volume: Volume, start: list[int], shape: Triple, padding: int) -> NDArray[np.uint8]:
    """Return the image on the volume's own grid, padded, (z, y, x)."""
    out = np.full(shape, padding, np.uint8)
    for index in np.ndindex(*shape):
        at = tuple(s + i - o for s, i, o in zip(start, index, volume.offset, strict=True))
        if all(0 <= a < n for a, n in zip(at, volume.array.shape, strict=True)):
            out[index] = volume.array[at]
    return out.transpose(2, 1, 0)


def plain_valid(volumes: list[Volume], start: list[int], shape: Triple, size: Any) -> NDArray[np.bool_]:
    out = np.ones(shape, bool)
    for volume in volumes:
        x, y, z = plain_lookup(volume, start, shape, size)[1]
        out &= x[:, None, None] & y[None, :, None] & z[None, None, :]
    return out.transpose(2, 1, 0)


def frac(value: Any) -> Fraction:
    return Fraction(str(value))
