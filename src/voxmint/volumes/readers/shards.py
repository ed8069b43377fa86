"""Chunks within the shards of a precomputed layer, found by the indices that the shards hold.

The format is Neuroglancer's ``neuroglancer_uint64_sharded_v1``: a chunk's number, its compressed Morton code, says in
which shard and minishard it is; the shard begins with a table of where the index of each minishard lies.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxmint.retry import FetchError
from voxmint.volumes.readers.codecs.unpack import unpacked
from voxmint.volumes.readers.web import Web

_INDEX_BYTES = 32 << 20
"""Indices that are kept, and the most that one may have."""
_MASK = (1 << 64) - 1


class Shards:
    """Finds and fetches chunks.

    Parameters
    ----------
    web : Web
        The folder of the scale.
    sharding : dict
        As in the layer's ``info``.
    grid : three int
        Chunks along x, y and z.
    """

    def __init__(self, web: Web, sharding: dict[str, Any], grid: Sequence[int]) -> None:
        self._web, self._grid = web, [int(n) for n in grid]
        self._preshift, self._minishard_bits, self._shard_bits = (
            int(sharding[f"{name}_bits"]) for name in ("preshift", "minishard", "shard")
        )
        self._hashed = sharding["hash"] != "identity"
        self._index_packing, self._data_packing = (
            {"gzip": "gzip"}.get(sharding.get(f"{name}_encoding", "raw"), "") for name in ("minishard_index", "data")
        )
        self._lock = threading.Lock()
        self._locks: dict[tuple[str, int], threading.Lock] = {}
        self._indices: OrderedDict[tuple[str, int], NDArray[np.uint64]] = OrderedDict()
        self._kept = 0

    def get(self, place: Sequence[int], most: int) -> bytes:
        """Return the bytes of a chunk, unpacked.

        Parameters
        ----------
        place : three int
            Which chunk of the grid.
        most : int
            Bytes that it may have.

        Raises
        ------
        FetchError
            There is none, it may not be read, or shard, index or chunk are damaged.
        """
        number = morton_code(place, self._grid)
        hashed = number >> self._preshift
        hashed = murmur_hash(hashed) if self._hashed else hashed
        minishard = hashed & ((1 << self._minishard_bits) - 1)
        shard = (hashed >> self._minishard_bits) & ((1 << self._shard_bits) - 1)
        name = f"{shard:0{-(-self._shard_bits // 4)}x}.shard" if self._shard_bits else "0.shard"
        numbers, starts, stops = self._index(name, minishard)
        at = np.flatnonzero(numbers == np.uint64(number))
        if not at.size:
            raise FetchError("missing", f"chunk {number} is not in {name}")
        span = int(starts[at[0]]), int(stops[at[0]])
        if not 0 < span[1] - span[0] <= most:
            raise FetchError("unreadable", f"{name}: chunk {number} has {span[1] - span[0]} bytes; it can have {most}")
        return unpacked(self._web.get(name, most, span), self._data_packing, most, f"chunk {number} of {name}")

    def _index(self, name: str, minishard: int) -> NDArray[np.uint64]:
        key = (name, minishard)
        with self._lock:
            lock = self._locks.setdefault(key, threading.Lock())
        with lock:  # others wait rather than ask for the same
            with self._lock:
                if key in self._indices:
                    self._indices.move_to_end(key)
                    return self._indices[key]
            index = self._fetch_index(name, minishard)
            with self._lock:
                self._indices[key] = index
                self._kept += index.nbytes
                while self._kept > _INDEX_BYTES and len(self._indices) > 1:
                    self._kept -= self._indices.popitem(last=False)[1].nbytes
            return index

    def _fetch_index(self, name: str, minishard: int) -> NDArray[np.uint64]:
        """Return numbers, starts and stops (bytes of the shard) of the chunks in a minishard."""
        table = 16 << self._minishard_bits
        entry = self._web.get(name, 16, (16 * minishard, 16 * minishard + 16))
        start, stop = (table + int(n) for n in np.frombuffer(entry, "<u8"))
        if start == stop:
            return np.empty((3, 0), np.uint64)
        if not 0 < stop - start <= _INDEX_BYTES:
            raise FetchError("unreadable", f"{name}: the index of minishard {minishard} has {stop - start} bytes")
        packed = self._web.get(name, stop - start, (start, stop))
        data = unpacked(packed, self._index_packing, _INDEX_BYTES, f"the index of minishard {minishard} of {name}")
        if len(data) % 24:
            raise FetchError("unreadable", f"{name}: the index of minishard {minishard} is damaged")
        numbers, gaps, sizes = np.frombuffer(data, "<u8").astype(np.uint64).reshape(3, -1)
        # each chunk begins a gap behind the end of the one before
        stops = np.cumsum(gaps + sizes) + np.uint64(table)
        return np.stack([np.cumsum(numbers), stops - sizes, stops])


def morton_code(place: Sequence[int], grid: Sequence[int]) -> int:
    """Return the compressed Morton code: bits of x, y and z in turn, of each as many as its axis needs."""
    bits = [(n - 1).bit_length() for n in grid]
    code = at = 0
    for bit in range(max(bits)):
        for axis in range(3):
            if bit < bits[axis]:
                code |= (int(place[axis]) >> bit & 1) << at
                at += 1
    return code


def murmur_hash(number: int) -> int:
    """Return the lower 64 bits of MurmurHash3_x86_128, seed 0, of a number's eight bytes (A. Appleby, 2011)."""
    one = (_rotated((number & 0xFFFFFFFF) * 0x239B961B, 15) * 0xAB0E9789) & 0xFFFFFFFF
    two = (_rotated((number >> 32) * 0xAB0E9789, 16) * 0x38B34AE5) & 0xFFFFFFFF
    parts = [one ^ 8, two ^ 8, 8, 8]
    for mix in (True, False):
        parts[0] = sum(parts) & 0xFFFFFFFF
        parts[1:] = [(part + parts[0]) & 0xFFFFFFFF for part in parts[1:]]
        if mix:
            parts = [_mixed(part) for part in parts]
    return parts[0] | parts[1] << 32


def _rotated(number: int, by: int) -> int:
    number &= 0xFFFFFFFF
    return (number << by | number >> (32 - by)) & 0xFFFFFFFF


def _mixed(part: int) -> int:
    part = ((part ^ part >> 16) * 0x85EBCA6B) & 0xFFFFFFFF
    part = ((part ^ part >> 13) * 0xC2B2AE35) & 0xFFFFFFFF
    return part ^ part >> 16
