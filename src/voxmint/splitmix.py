"""SplitMix64: turn a counter into 64 random bits, by integers alone and so equally everywhere.

References
----------
.. [1] Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014 (variant 13 of Stafford).
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Words = TypeVar("Words", np.uint64, NDArray[np.uint64])

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
"""What the state grows by from one word to the next."""
_ROUND1, _ROUND2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_S27, _S30, _S31 = np.uint64(27), np.uint64(30), np.uint64(31)
_ZERO = np.uint64(0)


def mix(state: Words, second: np.uint64 = _ZERO) -> Words:
    """Return the word that belongs to a state, a bijection.

    Fit for numba. As plain Python, arrays wrap round in silence and scalars with NumPy's warning of overflow.

    Parameters
    ----------
    state : uint64, or array of uint64
        ``key + n * GOLDEN`` for word n = 1, 2, ... of the published generator with seed ``key``.
    second : uint64
        A second key, added between the two rounds; 0 in the published generator.
    """
    z = (state ^ (state >> _S30)) * _ROUND1 + second
    z = (z ^ (z >> _S27)) * _ROUND2
    return z ^ (z >> _S31)
