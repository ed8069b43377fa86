"""Counter-based random streams: (seed, index, stage) -> independent numbers, the same on every machine.

Raw 64-bit words come from Philox 4x64-10 [1]_, whose key is a hash of the seed and the labels of the stream. Everything
drawn from them is defined here by integer arithmetic and single IEEE-754 operations, so that neither a new release of
NumPy nor another maths library changes a draw. Drawn real numbers are rounded to six decimals: a record written as JSON
replays them exactly and stays short.

References
----------
.. [1] Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

_DECIMALS = 6
_T = TypeVar("_T")


class Stream:
    """One independent stream of random draws.

    Parameters
    ----------
    seed : int
        The seed of the data set, any non-negative integer.
    *labels : int or str
        What the stream is for, for example ``(index, "ensemble")``. Different labels give independent streams.
    """

    def __init__(self, seed: int, *labels: int | str) -> None:
        text = json.dumps([int(seed), *labels], separators=(",", ":"))
        key = hashlib.blake2b(text.encode(), digest_size=16, person=b"voxmint.stream").digest()
        self._philox = np.random.Philox(key=np.frombuffer(key, "<u8").astype(np.uint64))

    def word(self) -> int:
        """Draw a uniform 64-bit word, for example the key of a noise field."""
        return int(self._philox.random_raw())

    def unit(self) -> float:
        """Draw from [0, 1) with 53 random bits."""
        return (self.word() >> 11) * 2.0**-53

    def uniform(self, low: float, high: float) -> float:
        """Draw a real number from U(low, high), rounded to six decimals."""
        return round(low + (high - low) * self.unit(), _DECIMALS)

    def integer(self, low: int, high: int) -> int:
        """Draw an integer uniformly from {low, ..., high - 1}, without modulo bias (Lemire's multiplication)."""
        if high <= low:
            raise ValueError(f"cannot draw from an empty range: low {low}, high {high}")
        span = high - low
        while True:
            product = self.word() * span
            if (product & 0xFFFF_FFFF_FFFF_FFFF) >= (1 << 64) % span:
                return low + (product >> 64)

    def chance(self, probability: float) -> bool:
        """Return True with the given probability."""
        return self.unit() < probability

    def choice(self, items: Sequence[_T]) -> _T:
        """Draw one of ``items`` uniformly."""
        return items[self.integer(0, len(items))]
