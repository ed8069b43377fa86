"""What the bytes of a stored chunk must look like before a decoder that trusts them may have them."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxmint.retry import FetchError
from voxmint.volumes.box import Voxels

_BITS = (0, 1, 2, 4, 8, 16, 32)


def check_raw(data: bytes, shape: Voxels, dtype: np.dtype[Any]) -> None:
    """Raise `FetchError` unless a raw chunk of one channel has as many bytes as voxels need."""
    needed = prod(shape) * dtype.itemsize
    if len(data) != needed:
        raise FetchError("unreadable", f"the object has {len(data)} bytes, its chunk has {needed}")


def check_compressed_segmentation(data: bytes, shape: Voxels, dtype: np.dtype[Any], block: Sequence[int]) -> None:
    """Raise `FetchError` if decoding a chunk would read what is not its own.

    The format (Neuroglancer's) is one of 32-bit words: where the channel starts; for each block, x fastest, where its
    table of labels starts, how many bits a voxel has, and where the voxels start; voxels and tables in any order. That
    last word has a byte which means nothing, but which CloudVolume's decoder takes for a part of the number.

    Parameters
    ----------
    data : bytes
        The object, one channel.
    shape : three int
        Of the chunk.
    dtype : uint32 or uint64
        Of a label.
    block : three int
        Shape of a block; those at the chunk's far sides are stored whole.
    """
    if len(data) % 4 or len(data) < 4:
        raise _damaged(f"the object has {len(data)} bytes, which are no 32-bit words")
    words = np.frombuffer(data, "<u4")
    grid = [-(-length // side) for length, side in zip(shape, block, strict=True)]
    first, blocks = int(words[0]), prod(grid)
    if not 1 <= first <= len(words) - 2 * blocks:
        raise _damaged(f"the object has {len(words)} words, too few for {blocks} blocks from word {first}")
    words = words[first:]
    headers = words[: 2 * blocks].reshape(blocks, 2).astype(np.int64)
    bits, tables, voxels = headers[:, 0] >> 24, headers[:, 0] & 0xFFFFFF, headers[:, 1]
    if not np.isin(bits, _BITS).all():
        raise _damaged(f"a block has {int(bits[~np.isin(bits, _BITS)][0])} bits a voxel")
    if (voxels + -(-prod(block) * bits // 32) > len(words)).any():
        raise _damaged("the voxels of a block reach beyond the end")
    room = (len(words) - tables) // (dtype.itemsize // 4)
    if (room < 1).any():
        raise _damaged("the table of a block lies beyond the end")
    for number in np.flatnonzero(room < 1 << bits):  # most tables lie so far from the end that no index reaches it
        inside = _inside(int(number), grid, shape, block)
        top = _largest_index(words[voxels[number] :], int(bits[number]), inside, block)
        if top >= room[number]:
            raise _damaged(f"a voxel has label {top} of a table of at most {room[number]}")


def _inside(number: int, grid: Sequence[int], shape: Voxels, block: Sequence[int]) -> tuple[slice, ...]:
    """Return which voxels (z, y, x) of a block are the chunk's: the others may hold anything."""
    places = np.unravel_index(number, grid, order="F")
    sides = [min(b, n - int(p) * b) for p, n, b in zip(places, shape, block, strict=True)]
    return tuple(slice(side) for side in reversed(sides))


def _largest_index(words: NDArray[np.uint32], bits: int, inside: tuple[slice, ...], block: Sequence[int]) -> int:
    count = prod(block)
    stored = np.ascontiguousarray(words[: -(-count * bits // 32)])
    if bits == 0:
        return 0
    if bits < 8:
        shifts = np.arange(0, 8, bits, dtype=np.uint8)
        indices: NDArray[Any] = (stored.view(np.uint8)[:, None] >> shifts) & np.uint8((1 << bits) - 1)
    else:
        indices = stored.view(f"<u{bits // 8}")
    return int(indices.reshape(-1)[:count].reshape(tuple(block)[::-1])[inside].max())


def _damaged(detail: str) -> FetchError:
    return FetchError("unreadable", f"damaged compressed_segmentation: {detail}")
