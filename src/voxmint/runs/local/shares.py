"""Which worker makes which samples: batches of neighbours, and for each worker a stretch of its own."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence


class Shares:
    """Indices that wait to be made.

    With batches of one, the next index goes to whoever is free. With larger ones, whose samples share what is read for
    them, each worker goes through a stretch of its own, and at the end helps from the far end of the longest stretch.

    Parameters
    ----------
    indices : sequence of int
        In the order in which they are best made.
    batch : int
        How many are made together; fewer when there would be less than one batch a worker.
    workers : int
        How many workers share them.
    """

    def __init__(self, indices: Sequence[int], batch: int, workers: int) -> None:
        batch = max(1, min(batch, -(-len(indices) // workers)))
        batches = [list(indices[start : start + batch]) for start in range(0, len(indices), batch)]
        stretches = workers if batch > 1 else 1
        length = max(1, -(-len(batches) // stretches))
        self._stretches = [deque(batches[n * length : (n + 1) * length]) for n in range(stretches)]
        self._first: deque[list[int]] = deque()

    def __bool__(self) -> bool:
        return bool(self._first) or any(self._stretches)

    def take(self, worker: int) -> list[int] | None:
        """Return what the worker of this number makes next, None if nothing is left."""
        own = self._stretches[worker % len(self._stretches)]
        for source in (self._first, own):
            if source:
                return source.popleft()
        longest = max(self._stretches, key=len)
        return longest.pop() if longest else None

    def put_back(self, batches: Iterable[list[int]]) -> None:
        """Have these made before all others."""
        self._first.extendleft(reversed(list(batches)))

    def again(self, index: int) -> None:
        """Have one sample made once more, after all that was put back."""
        self._first.append([index])
