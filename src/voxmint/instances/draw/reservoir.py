"""Keep the rows with the smallest random priority of a stream, equally many a stratum as far as there are."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from voxmint import splitmix
from voxmint.instances.table.table import Rows
from voxmint.instances.table.values import Integers

Words = NDArray[np.uint64]

_SLACK = 1 << 16


def mix(words: Words) -> Words:
    """Return the first word of SplitMix64 from each state: a bijection, so different ids never share a priority."""
    return splitmix.mix(words + splitmix.GOLDEN)


def mix_cells(cells: Integers, key: np.uint64) -> Words:
    """Return one word for each cell index (n, 3)."""
    words = np.full(len(cells), key)
    for axis in range(cells.shape[1]):
        words = mix(words ^ cells[:, axis].astype(np.uint64))
    return words


class Reservoir:
    """The rows drawn so far.

    A row's rank is its place by priority within its stratum; drawn are those with the smallest (rank, word of the
    stratum). With one stratum that is a uniform draw; with many, all give their first row before any gives a second.
    What was discarded once can never be drawn later, since more rows only raise ranks: so the rows held stay bounded
    and the result does not depend on how the stream is cut.

    Parameters
    ----------
    count : int or None
        Rows to draw; None keeps all.
    """

    def __init__(self, count: int | None) -> None:
        self.count = count
        self.offered = 0
        self._rows: list[Rows] = []
        self._strata: list[Words] = []
        self._priorities: list[Words] = []
        self._held = 0
        self._full: _Limits | None = None

    def add(self, rows: Rows, stratum: Words, priority: Words) -> None:
        """Offer rows with their strata and priorities."""
        self.offered += len(rows)
        if self._full is not None:
            near = self._full.admits(stratum, priority)
            rows, stratum, priority = rows.take(near), stratum[near], priority[near]
        if not len(rows):
            return
        self._rows.append(rows)
        self._strata.append(stratum)
        self._priorities.append(priority)
        self._held += len(rows)
        if self.count is not None and self._held > 4 * self.count + _SLACK:
            self._prune()

    def drawn(self) -> tuple[Rows, Words, Integers]:
        """Return the rows drawn, the stratum of each, and ids among them that another row has too."""
        if not self._rows:
            raise ValueError("no rows were offered")
        order, tied = self._prune()
        rows, stratum = self._rows[0], self._strata[0]
        chosen = order[: self.count]
        ids, number = np.unique(rows.id[chosen], return_counts=True)
        twice = np.union1d(ids[number > 1], np.intersect1d(rows.id[tied], ids))
        return rows.take(chosen), stratum[chosen], twice

    def _prune(self) -> tuple[Integers, Integers]:
        """Keep only what can still be drawn; return the rows in order of drawing, and those held only as ties."""
        rows, stratum = Rows.joined(self._rows), np.concatenate(self._strata)
        priority = np.concatenate(self._priorities)
        order = np.lexsort((rows.row, priority, stratum))
        rows, stratum, priority = rows.take(order), stratum[order], priority[order]
        fresh = np.r_[True, stratum[1:] != stratum[:-1]]
        # a row with the stratum and priority of the one before has its id too: held apart, the first such one only
        tie = ~fresh & np.r_[False, priority[1:] == priority[:-1]]
        again = tie & np.r_[False, tie[:-1]]
        place = np.cumsum(~tie) - 1
        rank = place - np.maximum.accumulate(np.where(fresh, place, 0))
        candidates = np.flatnonzero(~tie)
        by_draw = candidates[np.lexsort((stratum[candidates], rank[candidates]))]
        kept = np.zeros(len(rows), np.bool_)
        kept[by_draw[: self.count]] = True
        if self.count is not None and by_draw.size > self.count:
            worst = by_draw[self.count - 1]
            self._full = _Limits(stratum[kept], priority[kept], int(rank[worst]), stratum[worst])
        kept |= tie & ~again & np.r_[False, kept[:-1]]
        position = np.cumsum(kept) - 1
        self._rows, self._strata = [rows.take(kept)], [stratum[kept]]
        self._priorities = [priority[kept]]
        self._held = int(kept.sum())
        return position[by_draw[: self.count]], position[np.flatnonzero(kept & tie)]


class _Limits:
    """Above which priority a row of a stratum can no longer be drawn, once as many as asked for are held."""

    def __init__(self, stratum: Words, priority: Words, rank: int, last: np.uint64) -> None:
        self._rank, self._last = rank, last
        ends = np.flatnonzero(np.r_[stratum[1:] != stratum[:-1], True])  # sorted by stratum, then by priority
        self._strata, self._worst = stratum[ends], priority[ends]
        held = np.diff(np.r_[-1, ends])
        self._closed = held >= rank + (self._strata <= last)

    def admits(self, stratum: Words, priority: Words) -> NDArray[np.bool_]:
        """Return which rows may still be drawn, those that tie with one held included."""
        at = np.minimum(np.searchsorted(self._strata, stratum), len(self._strata) - 1)
        known = self._strata[at] == stratum
        open_known = ~self._closed[at] | (priority <= self._worst[at])
        open_new = (self._rank > 0) | (stratum <= self._last)
        result: NDArray[np.bool_] = np.where(known, open_known, open_new)
        return result
