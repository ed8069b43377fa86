"""Chunks as they were read: voxels with a digest, kept as long as there is room."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, NamedTuple

from numpy.typing import NDArray

from voxmint.sample import content_digest
from voxmint.volumes.box import Box, Voxels

ABSENT = "absent"
"""Instead of a digest: a sparse layer lacks the chunk."""


class Chunk(NamedTuple):
    """One chunk as it was read.

    Attributes
    ----------
    name : str
        `Box.name` of its voxels.
    array : (x, y, z) ndarray
        Its voxels; cannot be written, since all who read the chunk share it.
    digest : str
        The `content_digest` of its voxels, x fastest; or `ABSENT`.
    """

    name: str
    array: NDArray[Any]
    digest: str


def chunk_of(box: Box, array: NDArray[Any], digest: str | None = None) -> Chunk:
    """Take the digest of voxels, unless there is one, and forbid to write them."""
    array.flags.writeable = False
    return Chunk(box.name, array, content_digest(array.T) if digest is None else digest)


class KeptChunks:
    """Chunks by their first voxel, the longest unused leaving first. Not safe to be used by two threads at a time.

    Parameters
    ----------
    most_bytes : int
        Of voxels.
    """

    def __init__(self, most_bytes: int) -> None:
        # by first voxel: a tuple is looked up several times as fast as a box
        self._most_bytes, self._bytes = most_bytes, 0
        self._chunks: OrderedDict[Voxels, Chunk] = OrderedDict()

    def get(self, start: Voxels) -> Chunk | None:
        """Return the chunk that starts at a voxel, if it is kept."""
        chunk = self._chunks.get(start)
        if chunk is not None:
            self._chunks.move_to_end(start)
        return chunk

    def keep(self, start: Voxels, chunk: Chunk) -> None:
        """Keep a chunk that is not kept, at the cost of others where there is no room."""
        self._chunks[start] = chunk
        self._bytes += chunk.array.nbytes
        while self._bytes > self._most_bytes:
            _, oldest = self._chunks.popitem(last=False)
            self._bytes -= oldest.array.nbytes

    def clear(self) -> None:
        """Drop all."""
        self._chunks.clear()
        self._bytes = 0
