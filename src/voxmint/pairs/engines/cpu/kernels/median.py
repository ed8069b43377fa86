"""The 3x3x3 median of a label volume, exact, edge values repeated, without a branch on the data.

Each column of nine voxels (i, j) is sorted once by a network; three sorted columns beside each other along k form a
9x3 matrix whose rows are then sorted. In a matrix sorted both ways only 13 of the 27 elements can be the median, and
these lie in three sorted runs: two are merged, and the 7th smallest of the result and the third is read off.
"""

import numpy as np
from numpy.typing import NDArray

from voxmint.pairs.engines.cpu.kernels._jit import inline, kernel

_STRIDE = 1040
"""Row length of the scratch space, a constant so that the compiler can prove rows apart; bounds the side."""


def median3(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the 3x3x3 median of ``labels`` uint8 (I, J, K), K <= 1038, edge values repeated; same shape."""
    if labels.shape[2] > _STRIDE - 2:
        raise ValueError(f"median3 takes up to {_STRIDE - 2} voxels along the last axis, got {labels.shape[2]}")
    result = np.empty_like(labels)
    _median3(np.ascontiguousarray(labels), np.zeros(9 * _STRIDE, np.uint8), result)
    return result


@inline
def _sort2(a, b):
    return (a if a < b else b), (b if a < b else a)


@inline
def _sort3(a, b, c):
    a, b = _sort2(a, b)
    b, c = _sort2(b, c)
    a, b = _sort2(a, b)
    return a, b, c


@inline
def _max(a, b):
    return b if a < b else a


@inline
def _min(a, b):
    return a if a < b else b


@kernel
def _sort_columns(s, count):
    """Sort the nine scratch rows element by element (Floyd's network of 25 exchanges)."""
    for k in range(count):
        r0, r1, r2 = _sort3(s[k], s[k + _STRIDE], s[k + 2 * _STRIDE])
        r3, r4, r5 = _sort3(s[k + 3 * _STRIDE], s[k + 4 * _STRIDE], s[k + 5 * _STRIDE])
        r6, r7, r8 = _sort3(s[k + 6 * _STRIDE], s[k + 7 * _STRIDE], s[k + 8 * _STRIDE])
        r0, r3, r6 = _sort3(r0, r3, r6)
        r1, r4, r7 = _sort3(r1, r4, r7)
        r2, r5, r8 = _sort3(r2, r5, r8)
        r1, r3 = _sort2(r1, r3)
        r5, r7 = _sort2(r5, r7)
        r2, r6 = _sort2(r2, r6)
        r2, r4 = _sort2(r2, r4)
        r4, r6 = _sort2(r4, r6)
        r2, r3 = _sort2(r2, r3)
        r5, r6 = _sort2(r5, r6)
        s[k], s[k + _STRIDE], s[k + 2 * _STRIDE] = r0, r1, r2
        s[k + 3 * _STRIDE], s[k + 4 * _STRIDE], s[k + 5 * _STRIDE] = r3, r4, r5
        s[k + 6 * _STRIDE], s[k + 7 * _STRIDE], s[k + 8 * _STRIDE] = r6, r7, r8


@kernel
def _select(s, count, out):
    """Write the medians of the 27 values around each of ``count`` places of the sorted scratch rows."""
    for k in range(count):
        # Highest of the lows (ranks 5..8), middle ranks 2..6, lowest of the highs (ranks 0..3).
        b = k
        h0 = _max(_max(s[b], s[b + 1]), s[b + 2])
        b += _STRIDE
        h1 = _max(_max(s[b], s[b + 1]), s[b + 2])
        b += _STRIDE
        _, m2, h2 = _sort3(s[b], s[b + 1], s[b + 2])
        b += _STRIDE
        _, m3, h3 = _sort3(s[b], s[b + 1], s[b + 2])
        b += _STRIDE
        _, m4, _ = _sort3(s[b], s[b + 1], s[b + 2])
        b += _STRIDE
        l5, m5, _ = _sort3(s[b], s[b + 1], s[b + 2])
        b += _STRIDE
        l6, m6, _ = _sort3(s[b], s[b + 1], s[b + 2])
        b += _STRIDE
        l7 = _min(_min(s[b], s[b + 1]), s[b + 2])
        b += _STRIDE
        l8 = _min(_min(s[b], s[b + 1]), s[b + 2])
        # Odd-even merge of (l5..l8) and (h0..h3).
        _, a4 = _sort2(l5, h0)
        a2, a6 = _sort2(l7, h2)
        a2, a4 = _sort2(a2, a4)
        a1, a5 = _sort2(l6, h1)
        a3, _ = _sort2(l8, h3)
        a3, a5 = _sort2(a3, a5)
        a1, a2 = _sort2(a1, a2)
        a3, a4 = _sort2(a3, a4)
        a5, a6 = _sort2(a5, a6)
        # The 7th smallest of the eight a and the five m: the least over splits of the larger of the two ends.
        best = _min(_max(a1, m6), _max(a2, m5))
        best = _min(best, _max(a3, m4))
        best = _min(best, _max(a4, m3))
        best = _min(best, _max(a5, m2))
        out[k] = _min(best, a6)


@kernel
def _median3(labels, scratch, result):
    ni, nj, nk = labels.shape
    for i in range(ni):
        for j in range(nj):
            row = 0
            for di in range(-1, 2):
                for dj in range(-1, 2):
                    line = labels[min(max(i + di, 0), ni - 1), min(max(j + dj, 0), nj - 1)]
                    start = row * _STRIDE
                    scratch[start] = line[0]
                    # a loop: for an array assigned to an array, numba compiles its error messages too, for seconds
                    for k in range(nk):
                        scratch[start + 1 + k] = line[k]
                    scratch[start + 1 + nk] = line[nk - 1]
                    row += 1
            _sort_columns(scratch, nk + 2)
            _select(scratch, nk, result[i, j])
