"""A box of a layer whose chunks are all there, put together when its voxels are asked for."""

from __future__ import annotations

from functools import cached_property
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxmint.volumes.box import Box
from voxmint.volumes.kept import Chunk
from voxmint.volumes.layer import Cutout

_Pair = tuple[slice, slice]


class Pieces(Cutout):
    """A cutout that holds chunks until its voxels are asked for.

    Chunks are shared by all crops that touch them, so many crops can be ready and take no memory of their own; and the
    thread that needs the voxels is the one that copies them.

    Parameters
    ----------
    box, bounds : Box
        What was read, and all voxels of the layer.
    chunks : list of Box
        Those that hold voxels of ``box``, x fastest.
    parts : list of Chunk
        What they hold.
    dtype : dtype
        Of the layer.
    """

    _box: Box
    _bounds: Box
    _chunks: list[Box]
    _parts: list[Chunk]
    _dtype: np.dtype[Any]

    def __init__(self, box: Box, bounds: Box, chunks: list[Box], parts: list[Chunk], dtype: np.dtype[Any]) -> None:
        self.__dict__.update(_box=box, _bounds=bounds, _chunks=chunks, _parts=parts, _dtype=dtype)

    @cached_property
    def array(self) -> NDArray[Any]:
        """Voxels, axes (x, y, z). Nothing is filled or copied that need not be: most crops lie wholly inside."""
        box, chunks, parts = self._box, self._chunks, self._parts
        inside = self._bounds.contains(box)
        if len(parts) == 1 and inside:
            array = parts[0].array[box.slices(chunks[0])]
        else:
            array = (
                np.empty(box.shape, self._dtype, order="F") if inside else np.zeros(box.shape, self._dtype, order="F")
            )
            xs, ys, zs = (_along(box, chunks, axis) for axis in range(3))
            for part, (z, y, x) in zip(parts, product(zs, ys, xs), strict=True):
                array[x[0], y[0], z[0]] = part.array[x[1], y[1], z[1]]
            array.flags.writeable = False
        return array

    @cached_property
    def valid(self) -> NDArray[np.bool_]:
        """Which voxels lie within the layer's bounds."""
        inside = self._box.intersect(self._bounds)
        if inside == self._box:
            return np.broadcast_to(np.True_, self._box.shape)
        valid = np.zeros(self._box.shape, np.bool_, order="F")
        valid[inside.slices(self._box)] = True
        valid.flags.writeable = False
        return valid

    @cached_property
    def reads(self) -> dict[str, str]:
        """Name and digest of each chunk."""
        return {part.name: part.digest for part in self._parts}


def _along(box: Box, chunks: list[Box], axis: int) -> list[_Pair]:
    """Return, for each row of chunks along an axis, the slices that pick the common voxels out of box and chunk."""
    low, high = box.start[axis], box.stop[axis]
    spans = sorted({(chunk.start[axis], chunk.stop[axis]) for chunk in chunks})
    common = [(max(low, a), min(high, b), a) for a, b in spans]
    return [(slice(a - low, b - low), slice(a - first, b - first)) for a, b, first in common]
