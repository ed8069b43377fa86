"""Reading ahead: rows in an order that visits neighbouring chunks together, many of them on their way at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import ceil, prod
from queue import SimpleQueue

import numpy as np
from numpy.typing import NDArray

from voxmint.instances.cut.extract import Cut, Extractor, Reading
from voxmint.instances.table.table import PIECE, Instance
from voxmint.volumes.box import Box
from voxmint.volumes.layer import CACHE_BYTES, Layer

AHEAD = 96
"""Most crops whose chunks are on their way or wait to be used."""
AHEAD_BYTES = 2 * CACHE_BYTES
"""Most bytes of chunks that these hold: what the caches of both layers hold anyway, where neighbours follow."""
_BITS = 21


def read_ahead(rows: Iterable[tuple[int, Instance]], extractor: Extractor) -> Iterator[tuple[int, Cut | Exception]]:
    """Cut out rows as their chunks come, in any order.

    Parameters
    ----------
    rows : iterable of (int, Instance)
        Rows with a number of one's own; taken as there is room for them.
    extractor : Extractor
        What cuts.

    Yields
    ------
    (int, Cut or Exception)
        The number, and the cut, the rejection, or why it failed: one that fails does not end the others.
    """
    most = rows_ahead(extractor)
    arrived: SimpleQueue[int] = SimpleQueue()
    waiting, flying = iter(rows), dict[int, Reading]()
    while True:
        while len(flying) < most and (item := next(waiting, None)) is not None:
            number, row = item
            flying[number] = extractor.submit(row)
            _put_when_read(arrived, number, flying[number])
        if not flying:
            return
        number = arrived.get()
        try:
            outcome: Cut | Exception = extractor.finish(flying.pop(number))
        except Exception as error:  # yielded: whoever asked learns it, under this number
            outcome = error
        yield number, outcome


def rows_ahead(extractor: Extractor) -> int:
    """Return how many crops may be read ahead, at least two: as if none shared a chunk with another."""
    cutter, context = extractor.cutter, extractor.recipe.choice.context_vx
    size = [n * s for n, s in zip(cutter.size, cutter.voxel_size_nm, strict=True)]
    each = _most_bytes(extractor.source, size, (0, 0, 0)) + _most_bytes(extractor.target, size, context)
    return max(2, min(AHEAD, AHEAD_BYTES // each))


def _most_bytes(layer: Layer, size_nm: list[float], context: tuple[int, int, int]) -> int:
    """Return the bytes of the chunks that a crop of a layer touches at the most."""
    chunks = 1
    for length, voxel, around, chunk, whole in zip(
        size_nm, layer.voxel_size_nm, context, layer.chunk_shape, layer.bounds.shape, strict=True
    ):
        voxels = ceil(length / voxel) + 1 + 2 * around
        chunks *= min((voxels - 2) // chunk + 2, -(-whole // chunk))
    return max(1, chunks * prod(layer.chunk_shape) * layer.dtype.itemsize)


def _put_when_read(arrived: SimpleQueue[int], number: int, reading: Reading) -> None:
    # the first to be done looks at the second, so that the row is put once, when both are; the number is put, since
    # a future that held the reading would hold itself, and all voxels until garbage is collected
    target = reading.target

    def one_done(_: object) -> None:
        target.add_done_callback(both_done)

    def both_done(_: object) -> None:
        arrived.put(number)

    reading.source.add_done_callback(one_done)


def by_place(centres_nm: NDArray[np.float64], layer: Layer) -> NDArray[np.intp]:
    """Return an order of points (n, 3) in which those in the same and in neighbouring chunks follow each other.

    Along Morton's curve, which leaves a block of chunks only when all points in it were met: what a cache of bounded
    size wants.
    """
    chunk_nm = np.array(layer.chunk_shape) * np.array(layer.voxel_size_nm)
    pieces = [slice(start, start + PIECE) for start in range(0, len(centres_nm), PIECE)]
    least = np.floor(centres_nm.min(axis=0, initial=0) / chunk_nm).astype(np.int64)
    code = np.zeros(len(centres_nm), np.int64)
    for piece in pieces:
        chunks = np.floor(centres_nm[piece] / chunk_nm).astype(np.int64) - least
        for bit in range(_BITS):
            for axis in range(3):
                code[piece] |= ((chunks[:, axis] >> bit) & 1) << (3 * bit + axis)
    return np.argsort(code, kind="stable")


class Needed:
    """The distinct chunks of a layer that many boxes touch, 8 bytes each however many there are."""

    def __init__(self, layer: Layer) -> None:
        self._layer = layer
        self._starts = np.zeros(0, np.int64)
        self._voxels = 0

    def add(self, boxes: Iterable[Box]) -> None:
        """Count the chunks of some boxes, unless they were counted."""
        chunks = {chunk for box in boxes for chunk in self._layer.chunks_of(box)}
        if not chunks:
            return
        first, shape = self._layer.bounds.start, self._layer.bounds.shape
        starts = np.array([chunk.start for chunk in chunks], np.int64) - first
        code = (starts[:, 0] * shape[1] + starts[:, 1]) * shape[2] + starts[:, 2]
        new = ~np.isin(code, self._starts)
        self._voxels += int(np.array([chunk.voxels for chunk in chunks], np.int64)[new].sum())
        self._starts = np.union1d(self._starts, code[new])

    def total(self) -> dict[str, int]:
        """Return how many there are, and their bytes when unpacked."""
        return {"chunks": len(self._starts), "bytes": self._voxels * self._layer.dtype.itemsize}
