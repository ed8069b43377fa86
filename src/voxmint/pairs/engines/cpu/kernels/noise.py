"""Standard normal noise addressed by (key, element): any element can be made alone, in any order, by any thread.

A 64-bit word is `voxmint.splitmix.mix` of ``key + element * golden ratio``, with a second key added between its rounds
so that two streams never run along each other. Each half of a word becomes one normal by the
inverse distribution function, read from a table whose cells halve in width towards the tails: 128 linear cells an
octave of the tail probability, from 1/2 down to 2^-32, which keeps the error below 2e-5 everywhere. Words and normals
are made in blocks that stay in the nearest cache, in two loops that the compiler turns into vector instructions.
"""

from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from voxmint.pairs.engines.cpu.kernels._jit import inline, kernel
from voxmint.splitmix import GOLDEN, mix

BLOCK = 1024
"""Elements made at a time."""
_CELLS = 128
_TAIL, _SIGN = np.uint32(0x7FFFFFFF), np.uint32(0x80000000)
_HALF = np.float32(0.5)
_CELL_SHIFT, _LOW_BITS = np.int32(16), np.int32(0xFFFF)
_FIRST_CELL = np.int32(126 * _CELLS)
_CELL_WIDTH = np.float32(2.0**-16)

_UPPER = np.uint64(32)
_mix = inline(mix)


@lru_cache(maxsize=1)
def quantile_table() -> NDArray[np.uint64]:
    """Return for each cell of tail probability |normal| at its lower end, and its change over the cell.

    Two float32 in a word, the change in the upper half: read from memory together.
    """
    inverse = NormalDist().inv_cdf
    tails = (2.0 ** (octave - 32) * (1 + cell / _CELLS) for octave in range(-1, 32) for cell in range(_CELLS))
    # Rounded to 2^-20, so that the last bit of a maths library's logarithm cannot show.
    values = [round(-inverse(min(tail, 0.5)) * 2**20) / 2**20 for tail in tails]
    low = np.array(values, np.float32)
    change = np.diff(low, append=np.float32(0))
    table: NDArray[np.uint64] = low.view(np.uint32) | (change.view(np.uint32).astype(np.uint64) << _UPPER)
    table.setflags(write=False)
    return table


def split_key(key: int) -> tuple[np.uint64, np.uint64]:
    """Return the two 64-bit words that a kernel needs of a 64-bit key."""
    mask = (1 << 64) - 1
    second = ((key ^ (key >> 33)) * 0xFF51AFD7ED558CCD) & mask
    return np.uint64(key & mask), np.uint64(second ^ (second >> 33))


def normal_field(key: int, count: int) -> NDArray[np.float32]:
    """Return elements 0 .. count-1 of the standard normal field of a key, float32 (count,)."""
    values = np.empty(count, np.float32)
    fill_normal(*split_key(key), quantile_table(), values)
    return values


@kernel
def fill_words(key, second, first, words):
    """Fill ``words`` (uint64) with the random bits at the counters ``first``, ``first + 1``, ..."""
    for n in range(words.size):
        words[n] = _mix(key + (first + np.uint64(n)) * GOLDEN, second)


@kernel
def words_to_normals(halves, table, values):
    """Turn 32-bit words, 31 bits of tail probability and a sign each, into normals (float32)."""
    for n in range(values.size):
        half = halves[n]
        bits = np.float32(np.float32(np.int32(half & _TAIL)) + _HALF).view(np.int32)
        cell = (bits >> _CELL_SHIFT) - _FIRST_CELL
        entry = table[cell]
        low, change = np.uint32(entry).view(np.float32), np.uint32(entry >> _UPPER).view(np.float32)
        value = low + change * (np.float32(bits & _LOW_BITS) * _CELL_WIDTH)
        values[n] = np.int32(np.float32(value).view(np.int32) ^ np.int32(half & _SIGN)).view(np.float32)


@kernel
def fill_normal(key, second, table, values):
    """Fill ``values`` (n,) with the elements 0 .. n-1 of a normal field."""
    words = np.empty(BLOCK // 2, np.uint64)
    halves = words.view(np.uint32)
    for start in range(0, values.size, BLOCK):
        fill_words(key, second, np.uint64(start // 2), words)
        words_to_normals(halves, table, values[start : start + BLOCK])
