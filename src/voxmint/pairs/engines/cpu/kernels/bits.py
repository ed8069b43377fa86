"""Binary masks as bits: 64 voxels along the last axis a word, the first in the lowest bit, zeros beyond the last voxel.

Counts of neighbours are kept in bit slices: word n of a number holds bit n of 64 counts, and additions are the full
adders of hardware, 64 voxels at a time.
"""

import numpy as np
from numpy.typing import NDArray

from voxmint.pairs.engines.cpu.kernels._jit import inline, kernel

Bits = NDArray[np.uint64]
_ONE, _LAST = np.uint64(1), np.uint64(63)
_GATHER, _TOP = np.uint64(0x0102040810204080), np.uint64(56)
_BYTE, _EIGHT = np.uint64(0xFF), np.uint64(8)
_SPREAD = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little").view(np.uint64).ravel()


def pack(mask: NDArray[np.uint8]) -> Bits:
    """Return a mask, uint8 (I, J, K) of 0 and 1, as bits (I, J, ceil(K / 64))."""
    bits = np.empty((*mask.shape[:2], -(-mask.shape[2] // 64)), np.uint64)
    _pack(np.ascontiguousarray(mask), bits)
    return bits


def unpack(bits: Bits, size: int) -> NDArray[np.uint8]:
    """Return bits (I, J, W) as a mask, uint8 (I, J, ``size``) of 0 and 1."""
    mask = np.zeros((*bits.shape[:2], size), np.uint8)
    write_where(bits, np.uint8(1), mask)
    return mask


@kernel
def pack_row(row, bits):
    """Pack ``row`` (uint8 (64 W,), zeros beyond the last voxel) into ``bits`` (W,)."""
    eights = row.view(np.uint64)
    for w in range(bits.size):
        word = np.uint64(0)
        for n in range(8):
            # the product brings the lowest bit of byte b to bit 56 + b
            word |= ((eights[8 * w + n] * _GATHER) >> _TOP) << np.uint64(8 * n)
        bits[w] = word


@kernel
def unpack_row(bits, row):
    """Unpack ``bits`` (W,) into ``row``, uint8 (64 W,)."""
    eights = row.view(np.uint64)
    for w in range(bits.size):
        word = bits[w]
        for n in range(8):
            eights[8 * w + n] = _SPREAD[(word >> np.uint64(8 * n)) & _BYTE]


@kernel
def _pack(mask, bits):
    row = np.zeros(64 * bits.shape[2], np.uint8)
    for i in range(mask.shape[0]):
        for j in range(mask.shape[1]):
            row[: mask.shape[2]] = mask[i, j]
            pack_row(row, bits[i, j])


@kernel
def write_where(bits, label, labels):
    """Write ``label`` into ``labels`` (uint8 (I, J, K)) where ``bits`` are set."""
    row = np.empty(64 * bits.shape[2], np.uint8)
    for i in range(labels.shape[0]):
        for j in range(labels.shape[1]):
            unpack_row(bits[i, j], row)
            line = labels[i, j]
            for k in range(line.size):
                line[k] = label if row[k] else line[k]


@kernel
def raise_where(bits, labels, result):
    """Fill ``result`` with ``labels + 1`` where ``bits`` are set and 0 elsewhere; return its maximum (all uint8)."""
    row = np.empty(64 * bits.shape[2], np.uint8)
    highest = np.zeros(labels.shape[2], np.uint8)
    for i in range(labels.shape[0]):
        for j in range(labels.shape[1]):
            unpack_row(bits[i, j], row)
            before, after = labels[i, j], result[i, j]
            for k in range(before.size):
                value = np.uint8((before[k] + np.uint8(1)) * row[k])
                after[k] = value
                highest[k] = value if value > highest[k] else highest[k]
    return highest.max()


@inline
def _add(a, b, c):
    """Return sum and carry of three bits in each place."""
    x = a ^ b
    return x ^ c, (a & b) | (x & c)


@kernel
def majority3(bits, size):
    """Return the 3x3x3 median of ``bits`` (I, J, W), ``size`` voxels a row, edge values repeated.

    A voxel is set where at least 14 of its 27 neighbours are.
    """
    ni, nj, words = bits.shape
    last_word, edge = (size - 1) // 64, _ONE << np.uint64((size - 1) % 64)
    valid = edge | (edge - _ONE)
    rows, counts = np.empty((2, nj, words), np.uint64), np.empty((4, ni, nj, words), np.uint64)
    result = np.empty_like(bits)
    for i in range(ni):
        for j in range(nj):
            row = bits[i, j]
            for w in range(words):
                here = row[w]
                before = (here << _ONE) | (row[w - 1] >> _LAST if w > 0 else here & _ONE)
                after = (here >> _ONE) | (row[w + 1] << _LAST if w + 1 < words else np.uint64(0))
                if w == last_word:
                    after |= here & edge
                rows[0, j, w], rows[1, j, w] = _add(before, here, after)
        for j in range(nj):
            _add_rows(rows[:, max(j - 1, 0)], rows[:, j], rows[:, min(j + 1, nj - 1)], counts[:, i, j])
    for i in range(ni):
        before, here, after = counts[:, max(i - 1, 0)], counts[:, i], counts[:, min(i + 1, ni - 1)]
        for j in range(nj):
            _most_of(before[:, j], here[:, j], after[:, j], result[i, j])
            result[i, j, last_word] &= valid
    return result


@kernel
def _add_rows(before, here, after, count):
    """Add three numbers of two bits, 0 to 3 each, into one of four bits."""
    for w in range(count.shape[1]):
        count[0, w], carry = _add(before[0, w], here[0, w], after[0, w])
        twos, fours = _add(before[1, w], here[1, w], after[1, w])
        count[1, w] = twos ^ carry
        carry = twos & carry
        count[2, w] = fours ^ carry
        count[3, w] = fours & carry


@kernel
def _most_of(before, here, after, result):
    """Set where three numbers of four bits, 0 to 9 each, add up to 14 or more."""
    for w in range(result.size):
        _, carry1 = _add(before[0, w], here[0, w], after[0, w])
        twos, carry2 = _add(before[1, w], here[1, w], after[1, w])
        fours, carry4 = _add(before[2, w], here[2, w], after[2, w])
        eights, carry8 = _add(before[3, w], here[3, w], after[3, w])
        fours, carry4_too = _add(fours, carry2, twos & carry1)
        eights, carry8_too = _add(eights, carry4, carry4_too)
        result[w] = carry8 | carry8_too | (eights & fours & (twos ^ carry1))
